//! `fluyt compose watch`, and `up --watch`: files are watched, and services brought up to date with them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

use fluyt_compose::Project;
use fluyt_compose::execute::{Executor, How, observe};
use fluyt_compose::plan::{self, Action, Container, Observed, Plan, Recreate, Step, Up};
use fluyt_compose::view::View;
use fluyt_compose::watch::{self as rules, Batch, Debounce, Mapping, Rule, sync, tree::Tree};
use fluyt_docker_api::api::{Docker, RemoveImage};
use fluyt_model::error::IoContext;
use fluyt_model::{Error, Result};

use super::Called;
use super::images::{self, Getting};
use super::up::{Work, chosen};
use crate::cli::fail::Outcome;
use crate::cli::flags::{Arity, Command, NONE, switch};
use crate::cli::print_line;

/// `fluyt compose watch`.
pub const WATCH: Command = Command {
    name: "watch",
    arguments: "[SERVICE...]",
    about: "Watch build context for service and rebuild/refresh containers when files are updated",
    flags: &[&[
        switch(NONE, BESIDE, "").hidden(),
        switch(NONE, "dry-run", "Print the plan, and what would be watched"),
        switch(NONE, "no-up", "Do not build & start services before watching"),
        switch(NONE, "prune", "Prune dangling images on rebuild").default("true"),
        switch(NONE, "quiet", "hide build output"),
    ]],
    arity: Arity::AtLeast(0),
    interspersed: true,
};

/// The flag of a watch that goes with another process: it ends when its standard input does.
const BESIDE: &str = "beside";

/// Between two looks whether there are containers yet.
const LOOK: Duration = Duration::from_millis(50);

/// So many changes at once are worth a word.
const MANY: usize = 1000;

/// A project whose files are watched.
pub struct Session<'a> {
    called: &'a Called<'a>,
    project: Project,
    rules: Rc<Vec<Rule>>,
    tree: Tree<'static>,
    debounce: Debounce,
    quiet: bool,
    prune: bool,
}

/// What the user is told.
fn say(text: &str) {
    // Whoever closed the output does not want to know; the watch goes on.
    let _ = print_line(&format!("⦿ {text}"));
}

fn list<'s>(services: impl IntoIterator<Item = &'s String>) -> String {
    let names: Vec<String> = services.into_iter().map(|s| format!("{s:?}")).collect();
    format!("[{}]", names.join(" "))
}

impl<'a> Session<'a> {
    /// Begins to watch services of a project (all that have rules, if none is named).
    ///
    /// # Errors
    /// There is nothing to watch; a rule cannot be followed; the first files cannot be put into the containers.
    pub fn begin(
        called: &'a Called<'a>,
        project: &Project,
        services: &[String],
        quiet: bool,
    ) -> Result<Self> {
        let (found, warnings) = rules::rules(project, services, called.source())?;
        for warning in warnings {
            eprintln!("WARN: {warning}");
        }
        let rules = Rc::new(found);
        let about = Rc::clone(&rules);
        let skip = Box::new(move |path: &std::path::Path| rules::skipped(&about, path));
        let tree = Tree::new(rules::roots(&rules), skip)?;
        let prune = !called.parsed.has("prune") || called.parsed.on("prune");
        let debounce = Debounce::default();
        let session = Self { called, project: project.clone(), rules, tree, debounce, quiet, prune };
        if called.parsed.has(BESIDE) && called.parsed.on(BESIDE) {
            session.wait_for_containers()?;
        }
        session.initial(None)?;
        say("Watch enabled");
        Ok(session)
    }

    fn docker(&self) -> Result<&dyn Docker> {
        self.called.docker()
    }

    fn observed(&self) -> Result<Observed> {
        observe(self.docker()?, &self.project.name, Some(&self.project))
    }

    /// Waits until every service that is watched has a container that runs. Its parent's end ends it.
    fn wait_for_containers(&self) -> Result<()> {
        loop {
            let observed = self.observed()?;
            let runs = |rule: &Rule| observed.of(&rule.service).into_iter().any(Container::is_up);
            if self.rules.iter().all(runs) {
                return Ok(());
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Puts everything into containers of rules that ask for that; only of these services, if some are named.
    fn initial(&self, services: Option<&BTreeSet<String>>) -> Result<()> {
        let mut all: BTreeMap<String, BTreeSet<Mapping>> = BTreeMap::new();
        let asked = |r: &&Rule| r.initial && services.is_none_or(|s| s.contains(&r.service));
        for rule in self.rules.iter().filter(asked) {
            let files = self.tree.below(&rule.path);
            let mappings = files.into_iter().filter_map(|host| {
                let container = rule.matches(&host)?;
                Some(Mapping { host, container })
            });
            all.entry(rule.service.clone()).or_default().extend(mappings);
        }
        if all.is_empty() { Ok(()) } else { self.sync(&all) }
    }

    /// Waits for changes at most so long, and acts on those that have come to an end. Whether containers were made anew.
    ///
    /// # Errors
    /// Files cannot be watched any more; what fails for single services is told, and the watch goes on.
    pub fn step(&mut self, timeout: Option<Duration>) -> Result<bool> {
        let left = self.debounce.left(Instant::now());
        let timeout = match (left, timeout) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        self.tree.wait(timeout)?;
        if self.tree.read()? {
            self.debounce.changed(Instant::now());
        }
        if self.debounce.left(Instant::now()) != Some(Duration::ZERO) {
            return Ok(false);
        }
        self.debounce.reset();
        let paths: BTreeSet<PathBuf> = self.tree.take();
        if paths.len() > MANY {
            say("Large batch of file changes detected. If you just switched branches, this is expected.");
        }
        let batch = rules::batch(&self.rules, &paths);
        if batch.is_empty() {
            return Ok(false);
        }
        if let Err(e) = self.act(&batch) {
            eprintln!("WARN: Error handling changed files: {}", e.chain());
        }
        Ok(!batch.rebuild.is_empty())
    }

    fn act(&self, batch: &Batch) -> Result<()> {
        if !batch.rebuild.is_empty() {
            self.rebuild(&batch.rebuild)?;
        }
        self.sync(&batch.sync)?;
        if !batch.restart.is_empty() {
            self.restart(&batch.restart)?;
        }
        batch.exec.iter().try_for_each(|n| self.exec(&self.rules[*n]))
    }

    fn sync(&self, all: &BTreeMap<String, BTreeSet<Mapping>>) -> Result<()> {
        if all.is_empty() {
            return Ok(());
        }
        let observed = self.observed()?;
        for (service, mappings) in all {
            say(&format!("Syncing service {service:?} after {} changes were detected", mappings.len()));
            sync::sync(self.docker()?, &observed.of(service), mappings)
                .map_err(|e| e.context(format!("service {service}")))?;
        }
        Ok(())
    }

    /// Containers of services, and of those that restart with them, are stopped and started again.
    fn restart(&self, services: &BTreeSet<String>) -> Result<()> {
        let observed = self.observed()?;
        let follows = |service: &&str| {
            let on = self.project.service(service).map(|n| n.entries("depends_on")).unwrap_or_default();
            on.iter().any(|(on, how)| services.contains(*on) && how.flag("restart"))
        };
        let order = plan::in_order(&self.project);
        let all = order.into_iter().filter(|s| services.contains(*s) || follows(s));
        let containers: Vec<&Container> = all.flat_map(|service| observed.of(service)).collect();
        let mut plan = Plan::default();
        let mut then = |action: Action| {
            let after = plan.steps.len().checked_sub(1).into_iter().collect();
            plan.steps.push(Step { action, cause: "its files have changed".to_owned(), after });
        };
        for container in containers.iter().rev().filter(|c| c.is_up()) {
            let (id, name, service) =
                (container.id.clone(), container.name.clone(), container.service.clone());
            then(Action::StopContainer { id, name, service });
        }
        for container in &containers {
            then(Action::StartContainer { service: container.service.clone(), number: container.number });
        }
        self.carry_out(&observed, &plan)?;
        say(&format!("service(s) {} restarted", list(services)));
        Ok(())
    }

    fn carry_out(&self, observed: &Observed, plan: &Plan) -> Result<()> {
        let report = self.called.display("watch")?;
        Executor::new(self.docker()?, &self.project, observed, How::default(), &report).run(plan)
    }

    fn exec(&self, rule: &Rule) -> Result<()> {
        let Some(hook) = &rule.exec else { return Ok(()) };
        let observed = self.observed()?;
        for container in observed.of(&rule.service).into_iter().filter(|c| c.is_up()) {
            let mut output = |bytes: &[u8]| {
                for line in String::from_utf8_lossy(bytes).lines() {
                    say(&format!("{} | {line}", container.name));
                }
            };
            sync::exec(self.docker()?, &container.id, hook, &mut output)
                .map_err(|e| e.context(format!("container {}", container.name)))?;
        }
        Ok(())
    }

    fn rebuild(&self, services: &BTreeSet<String>) -> Result<()> {
        say(&format!("Rebuilding service(s) {} after changes were detected...", list(services)));
        let names: Vec<String> = services.iter().cloned().collect();
        let project = self.project.only(&names);
        let old = self.observed()?.images;
        let getting = Getting { build: true, quiet_build: self.quiet, ..Getting::default() };
        let built = images::get(self.called, &project, &getting, &self.called.display("watch")?)
            .inspect_err(|e| say(&format!("Build failed. Error: {}", e.chain())))?;
        say(&format!("service(s) {} successfully built", list(services)));
        let mut observed = self.observed()?;
        observed.images.extend(built);
        let up = Up {
            services: names.clone(),
            recreate: Recreate::Always,
            scale: counts(&observed, &names),
            ..Up::default()
        };
        let report = self.called.display("watch")?;
        plan::up(&project, &observed, &up)
            .and_then(|plan| {
                Executor::new(self.docker()?, &project, &observed, How::default(), &report).run(&plan)
            })
            .inspect_err(|e| {
                say(&format!("Failed to recreate services after update. Error: {}", e.chain()))
            })?;
        if self.prune {
            self.prune(&old, &observed.images)?;
        }
        self.initial(Some(services))
    }

    /// Removes the images that services had before, if nothing names them any more.
    fn prune(&self, old: &BTreeMap<String, String>, new: &BTreeMap<String, String>) -> Result<()> {
        let docker = self.docker()?;
        let kept: BTreeSet<&String> = new.values().collect();
        for id in old.values().filter(|id| !kept.contains(id)).collect::<BTreeSet<_>>() {
            if docker.image_inspect(id, "").is_ok_and(|image| image.repo_tags.is_empty()) {
                // Another container may have it still.
                let _ = docker.image_remove(id, &RemoveImage::default());
            }
        }
        Ok(())
    }
}

/// As many containers of services as there are.
fn counts(observed: &Observed, services: &[String]) -> BTreeMap<String, u32> {
    let count = |s: &String| u32::try_from(observed.of(s).len()).unwrap_or(1);
    services.iter().map(|s| (s.clone(), count(s))).filter(|(_, n)| *n > 0).collect()
}

/// A watch in a process of its own, beside an `up` that shows output. It ends with this value.
pub struct Beside(Child);

impl Beside {
    /// Starts it.
    ///
    /// # Errors
    /// There is nothing to watch; the program cannot be started.
    pub fn start(called: &Called<'_>, project: &Project) -> Result<Self> {
        let parsed = called.parsed;
        rules::rules(project, &parsed.args, called.source())?;
        if called.global.all("file").any(|f| f == "-") {
            return Err(Error::invalid("--watch cannot be combined with a file from the standard input"));
        }
        let program = std::env::current_exe().about(|| "this program")?;
        let mut command = std::process::Command::new(program);
        // What was said of data roots and daemons stands before the word.
        command.args(std::env::args_os().skip(1).take_while(|word| word != "compose"));
        command.arg("compose").args(super::said(called.global));
        command.args(["watch", "--no-up", "--beside"]);
        if parsed.has("quiet-build") && parsed.on("quiet-build") {
            command.arg("--quiet");
        }
        command.args(&parsed.args).stdin(Stdio::piped());
        Ok(Self(command.spawn().about(|| "a watch beside this")?))
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Services that are watched and can be built are built before.
pub fn build_watched(project: &mut Project) {
    let names: Vec<String> = project.services().into_iter().map(str::to_owned).collect();
    for name in names {
        let watched =
            project.service(&name).is_some_and(|n| n.get("build").is_some() && n.get("develop").is_some());
        if watched {
            project.set_text(&name, "pull_policy", "build");
        }
    }
}

/// Runs `fluyt compose watch`.
///
/// # Errors
/// The files are wrong; there is nothing to watch; services cannot be started.
pub fn watch(called: &Called<'_>) -> Outcome {
    let parsed = called.parsed;
    let (_, mut project) = chosen(called, &parsed.args, false)?;
    // What cannot be watched is said before anything is started.
    let (found, _) = rules::rules(&project, &parsed.args, called.source())?;
    build_watched(&mut project);
    if !parsed.on("no-up") {
        let up =
            Up { services: parsed.args.clone(), recreate_dependencies: Recreate::Never, ..Up::default() };
        let getting = Getting {
            quiet_build: parsed.on("quiet"),
            quiet_pull: parsed.on("quiet"),
            dry_run: called.dry_run(),
            ..Getting::default()
        };
        Work { up, getting }.run(called, &project, How::default())?;
    }
    if parsed.on(BESIDE) {
        std::thread::spawn(|| {
            let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
            std::process::exit(0);
        });
    }
    if called.dry_run() {
        for rule in found {
            print_line(&format!("watch {}  # {:?} {}", rule.path.display(), rule.action, rule.service))?;
        }
        return Ok(0);
    }
    let mut session = Session::begin(called, &project, &parsed.args, parsed.on("quiet"))?;
    loop {
        session.step(None)?;
    }
}
