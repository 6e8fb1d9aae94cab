//! `up`, `create`, `scale`, `start`: a plan, shown or carried out.

use std::collections::BTreeMap;

use fluyt_compose::execute::{Event, Executor, How, Report, State, observe};
use fluyt_compose::plan::{self, Action, Observed, Plan, Recreate, Up};
use fluyt_compose::view::View;
use fluyt_compose::{Options, Project};
use fluyt_model::{Error, Result};

use super::display::Display;
use super::images::{self, Getting};
use super::{Called, provider, session, stack, watch};
use crate::cli::fail::Outcome;
use crate::cli::flags::{Arity, Command, Flag, NONE, Parsed, int, list, switch, text};
use crate::cli::print_text;

const MAKING: &[Flag] = &[
    switch(NONE, "build", "Build images before starting containers"),
    switch(NONE, "no-build", "Don't build an image, even if it's missing"),
    text(NONE, "pull", "Pull image before running (\"always\"|\"missing\"|\"never\"|\"build\")")
        .default("policy"),
    switch(
        NONE,
        "force-recreate",
        "Recreate containers even if their configuration and image haven't changed",
    ),
    switch(NONE, "no-recreate", "If containers already exist, don't recreate them"),
    switch(NONE, "quiet-pull", "Pull without printing progress information"),
    switch(NONE, "remove-orphans", "Remove containers for services not defined in the Compose file"),
    list(
        NONE,
        "scale",
        "Scale SERVICE to NUM instances. Overrides the `scale` setting in the Compose file if present",
    ),
    switch('y', "yes", "Assume \"yes\" as answer to all prompts and run non-interactively"),
    switch(NONE, "dry-run", "Print the plan, with the cause of each step"),
];

/// `fluyt compose up`.
pub const UP: Command = Command {
    name: "up",
    arguments: "[SERVICE...]",
    about: "Create and start containers",
    flags: &[
        MAKING,
        &[
            switch('d', "detach", "Detached mode: Run containers in the background"),
            switch(
                NONE,
                "abort-on-container-exit",
                "Stops all containers if any container was stopped. Incompatible with -d",
            ),
            switch(
                NONE,
                "abort-on-container-failure",
                "Stops all containers if any container exited with failure. Incompatible with -d",
            ),
            switch(
                NONE,
                "always-recreate-deps",
                "Recreate dependent containers. Incompatible with --no-recreate",
            ),
            list(
                NONE,
                "attach",
                "Restrict attaching to the specified services. Incompatible with --attach-dependencies",
            ),
            switch(NONE, "attach-dependencies", "Automatically attach to log output of dependent services"),
            text(
                NONE,
                "exit-code-from",
                "Return the exit code of the selected service container. Implies --abort-on-container-exit",
            ),
            switch(NONE, "menu", "Enable interactive shortcuts when running attached").hidden(),
            list(NONE, "no-attach", "Do not attach (stream logs) to the specified services"),
            switch(NONE, "no-color", "Produce monochrome output"),
            switch(NONE, "no-deps", "Don't start linked services"),
            switch(NONE, "no-log-prefix", "Don't print prefix in logs"),
            switch(NONE, "no-start", "Don't start the services after creating them"),
            switch(NONE, "quiet-build", "Suppress the build output"),
            switch(
                'V',
                "renew-anon-volumes",
                "Recreate anonymous volumes instead of retrieving data from the previous containers",
            ),
            int(
                't',
                "timeout",
                "Use this timeout in seconds for container shutdown when attached or when containers are already running",
            ),
            switch(NONE, "timestamps", "Show timestamps"),
            switch('w', "watch", "Watch source code and rebuild/refresh containers when files are updated."),
            switch(NONE, "wait", "Wait for services to be running|healthy. Implies detached mode"),
            int(
                NONE,
                "wait-timeout",
                "Maximum duration in seconds to wait for the project to be running|healthy",
            ),
        ],
    ],
    arity: Arity::AtLeast(0),
    interspersed: true,
};

/// `fluyt compose create`.
pub const CREATE: Command = Command {
    name: "create",
    arguments: "[SERVICE...]",
    about: "Creates containers for a service",
    flags: &[MAKING],
    arity: Arity::AtLeast(0),
    interspersed: true,
};

/// `fluyt compose scale`.
pub const SCALE: Command = Command {
    name: "scale",
    arguments: "SERVICE=REPLICAS...",
    about: "Scale services",
    flags: &[&[
        switch(NONE, "no-deps", "Don't start linked services"),
        switch(NONE, "dry-run", "Print the plan, with the cause of each step"),
    ]],
    arity: Arity::AtLeast(1),
    interspersed: true,
};

/// The project with these services and what they need; with `alone` only themselves.
pub fn chosen(called: &Called<'_>, services: &[String], alone: bool) -> Result<(Options, Project)> {
    let mut options = called.options()?;
    options.services = services.to_vec();
    let mut project = called.load(&options)?;
    if alone && !services.is_empty() {
        project.keep_only(services);
    }
    stack::agreed(called, &options, &project)?;
    let quiet = called.parsed.has("quiet-pull") && called.parsed.on("quiet-pull");
    provider::bring_up(called, &mut project, quiet)?;
    Ok((options, project))
}

fn scales<'a>(texts: impl Iterator<Item = &'a str>) -> Result<BTreeMap<String, u32>> {
    texts
        .map(|text| {
            let number = text.split_once('=').and_then(|(name, n)| Some((name.to_owned(), n.parse().ok()?)));
            number.ok_or_else(|| {
                Error::invalid(format!("invalid scale {text:?}")).with_hint("write SERVICE=NUMBER")
            })
        })
        .collect()
}

/// What plans are made and carried out with.
pub struct Work {
    /// What is wanted.
    pub up: Up,
    /// How images are got.
    pub getting: Getting,
}

impl Work {
    fn of(called: &Called<'_>) -> Result<Self> {
        let parsed = called.parsed;
        if parsed.on("force-recreate") && parsed.on("no-recreate") {
            return Err(Error::invalid("--force-recreate and --no-recreate are incompatible"));
        }
        if parsed.on("build") && parsed.on("no-build") {
            return Err(Error::invalid("--build and --no-build are incompatible"));
        }
        let recreate = match (parsed.on("force-recreate"), parsed.on("no-recreate")) {
            (true, _) => Recreate::Always,
            (_, true) => Recreate::Never,
            _ => Recreate::Diverged,
        };
        Ok(Self {
            up: Up {
                services: parsed.args.clone(),
                recreate,
                recreate_dependencies: if recreate == Recreate::Never {
                    Recreate::Never
                } else {
                    Recreate::Diverged
                },
                scale: scales(parsed.all("scale"))?,
                remove_orphans: parsed.on("remove-orphans") || called.says_yes("COMPOSE_REMOVE_ORPHANS"),
                ..Up::default()
            },
            getting: Getting {
                build: parsed.on("build"),
                no_build: parsed.on("no-build"),
                pull: parsed.text("pull").to_owned(),
                quiet_pull: parsed.on("quiet-pull"),
                dry_run: called.dry_run(),
                ..Getting::default()
            },
        })
    }

    /// Gets images and plans: what is there, and what is to be done.
    ///
    /// # Errors
    /// What fails first.
    pub fn planned(
        &self,
        called: &Called<'_>,
        project: &Project,
        display: &Display,
    ) -> Result<(Observed, Plan)> {
        let images = images::get(called, project, &self.getting, display)?;
        let mut observed = observe(called.docker()?, &project.name, Some(project))?;
        observed.images = images;
        self.warn_orphans(called, project, &observed);
        let plan = plan::up(project, &observed, &self.up)?;
        Ok((observed, plan))
    }

    /// Gets images, plans, and shows the plan or carries it out; the containers that were started.
    ///
    /// # Errors
    /// What fails first.
    pub fn run(
        &self,
        called: &Called<'_>,
        project: &Project,
        how: fluyt_compose::execute::How,
    ) -> Result<Vec<(String, u32)>> {
        let display = called.display(called.word)?;
        let (observed, plan) = self.planned(called, project, &display)?;
        if called.dry_run() {
            print_text(&plan::text(project, &plan))?;
            return Ok(Vec::new());
        }
        if !self.up.no_start {
            tell_running(project, &observed, &plan, &display);
        }
        let executor = Executor::new(called.docker()?, project, &observed, how, &display);
        executor.run(&plan)?;
        Ok(executor.started())
    }

    fn warn_orphans(&self, called: &Called<'_>, project: &Project, observed: &Observed) {
        if self.up.remove_orphans || called.says_yes("COMPOSE_IGNORE_ORPHANS") {
            return;
        }
        let known = |s: &str| project.service(s).is_some() || project.disabled.contains_key(s);
        let orphans: Vec<&str> = observed
            .containers
            .iter()
            .filter(|c| !c.one_off && !known(&c.service))
            .map(|c| c.name.as_str())
            .collect();
        if !orphans.is_empty() {
            eprintln!(
                "WARN: containers of services that the files do not have: {}; --remove-orphans removes them",
                orphans.join(", ")
            );
        }
    }
}

/// Tells of containers that run as they should.
pub fn tell_running(project: &Project, observed: &Observed, plan: &Plan, display: &Display) {
    let touched = |id: &str| {
        plan.steps.iter().any(|s| match &s.action {
            Action::StopContainer { id: other, .. } | Action::RemoveContainer { id: other, .. } => {
                id == other
            }
            _ => false,
        })
    };
    let mut running: Vec<&str> = observed
        .containers
        .iter()
        .filter(|c| !c.one_off && c.is_up() && project.service(&c.service).is_some() && !touched(&c.id))
        .map(|c| c.name.as_str())
        .collect();
    running.sort_unstable();
    for name in running {
        display.tell(&Event::new(&format!("Container {name}"), State::Done, "Running"));
    }
}

/// Runs `fluyt compose up`.
///
/// # Errors
/// The files are wrong, an image cannot be got, a step fails, a dependency never becomes ready.
pub fn up(called: &Called<'_>) -> Outcome {
    let parsed = called.parsed;
    let mut work = Work::of(called)?;
    let (_, project) = chosen(called, &parsed.args, parsed.on("no-deps"))?;
    if parsed.on("watch") && (parsed.on("detach") || parsed.on("wait")) {
        return Err(Error::invalid("--watch cannot be combined with --detach or --wait")
            .with_hint("fluyt compose watch --no-up watches what runs already")
            .into());
    }
    let unknown = work.up.scale.keys().find(|s| project.service(s).is_none());
    if let Some(service) = unknown {
        return Err(Error::not_found(format!("no such service: {service}")).into());
    }
    let detached = parsed.on("detach") || parsed.on("wait") || parsed.on("no-start") || called.dry_run();
    contradictions(parsed)?;
    if let Some(service) =
        parsed.given("exit-code-from").filter(|s| !s.is_empty() && project.service(s).is_none())
    {
        return Err(Error::not_found(format!("no such service: {service}")).into());
    }
    work.up.no_start = parsed.on("no-start");
    work.up.wait = parsed.on("wait");
    work.up.renew_anonymous_volumes = parsed.on("renew-anon-volumes");
    if parsed.on("always-recreate-deps") {
        work.up.recreate_dependencies = Recreate::Always;
    }
    work.getting.quiet_build = parsed.on("quiet-build");
    let renew_anonymous_volumes = work.up.renew_anonymous_volumes;
    let how = How { renew_anonymous_volumes, ..called.how(true, true)? };
    if detached {
        work.run(called, &project, how)?;
        return Ok(0);
    }
    // In the foreground only: it ends with this.
    let _beside = if parsed.on("watch") { Some(watch::Beside::start(called, &project)?) } else { None };
    session::up(called, &project, &work, how)
}

/// Options of `up` that do not go together.
fn contradictions(parsed: &Parsed) -> Result<()> {
    let together =
        |one: &str, other: &str| Err(Error::invalid(format!("{one} cannot be combined with {other}")));
    let (exit, failure) = (parsed.on("abort-on-container-exit"), parsed.on("abort-on-container-failure"));
    if exit && failure {
        return together("--abort-on-container-failure", "--abort-on-container-exit");
    }
    let attach = parsed.changed("attach");
    if attach && parsed.on("attach-dependencies") {
        return together("--attach", "--attach-dependencies");
    }
    let from = parsed.changed("exit-code-from");
    let about_output = attach || parsed.on("attach-dependencies") || exit || failure || from;
    for detaching in ["wait", "detach"] {
        if parsed.on(detaching) && about_output {
            return together(
                &format!("--{detaching}"),
                "--abort-on-container-exit, --abort-on-container-failure, --exit-code-from, --attach or --attach-dependencies",
            );
        }
    }
    if parsed.on("no-recreate") && parsed.on("renew-anon-volumes") {
        return together("--no-recreate", "--renew-anon-volumes");
    }
    if parsed.on("no-recreate") && parsed.on("always-recreate-deps") {
        return together("--no-recreate", "--always-recreate-deps");
    }
    Ok(())
}

/// Runs `fluyt compose create`.
///
/// # Errors
/// As [`up`].
pub fn create(called: &Called<'_>) -> Outcome {
    let mut work = Work::of(called)?;
    work.up.no_start = true;
    let (_, project) = chosen(called, &called.parsed.args, false)?;
    work.run(called, &project, called.how(false, false)?)?;
    Ok(0)
}

/// Runs `fluyt compose scale`.
///
/// # Errors
/// As [`up`].
pub fn scale(called: &Called<'_>) -> Outcome {
    let scale = scales(called.parsed.args.iter().map(String::as_str))?;
    let services: Vec<String> = scale.keys().cloned().collect();
    let (_, project) = chosen(called, &services, called.parsed.on("no-deps"))?;
    let up = Up {
        services,
        scale,
        recreate: Recreate::Never,
        recreate_dependencies: Recreate::Never,
        ..Up::default()
    };
    let getting = Getting { dry_run: called.dry_run(), ..Getting::default() };
    Work { up, getting }.run(called, &project, called.how(false, false)?)?;
    Ok(0)
}

impl Called<'_> {
    /// Whether a variable of Compose says yes.
    pub fn says_yes(&self, variable: &str) -> bool {
        std::env::var(variable).is_ok_and(|v| matches!(v.to_ascii_lowercase().as_str(), "1" | "true" | "yes"))
    }
}

/// The services of a project whose output `up` shows.
///
/// # Errors
/// `--attach` names a service that is not brought up.
pub fn shown(called: &Called<'_>, project: &Project) -> Result<Vec<String>> {
    let parsed = called.parsed;
    let (only, never) = (parsed.list("attach"), parsed.list("no-attach"));
    if let Some(unknown) = only.iter().find(|o| project.service(o).is_none()) {
        return Err(Error::invalid(format!("cannot attach to services not included in up: {unknown}")));
    }
    let dependencies = parsed.on("attach-dependencies");
    let named = |s: &str| parsed.args.is_empty() || dependencies || parsed.args.iter().any(|a| a == s);
    let services = project.services().into_iter().filter(|s| {
        let wants = project.service(s).and_then(|n| n.maybe("attach")).unwrap_or(true);
        let chosen = if only.is_empty() { named(s) && wants } else { only.iter().any(|o| o == s) };
        chosen && !never.iter().any(|n| n == s)
    });
    Ok(services.map(str::to_owned).collect())
}
