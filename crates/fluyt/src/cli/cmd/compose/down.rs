//! `down`, `stop`, `start`, `restart`, `kill`, `rm`, `pause`, `unpause`, `wait`.

use fluyt_compose::Project;
use fluyt_compose::execute::{Event, Executor, How, Report, State};
use fluyt_compose::plan::{self, Action, Container, Down, Images, Observed, Plan, Step};
use fluyt_compose::provider;
use fluyt_compose::view::View;
use fluyt_docker_api::api::{Next, Wait, WaitCondition};
use fluyt_model::Error;

use super::Called;
use super::project::Found;
use super::side::side_by_side;
use crate::cli::fail::Outcome;
use crate::cli::flags::{Arity, Command, Flag, NONE, int, switch, text};
use crate::cli::{print_line, print_text, terminal};

const DRY_RUN: Flag = switch(NONE, "dry-run", "Print what would be done");
const TIMEOUT: Flag = int('t', "timeout", "Specify a shutdown timeout in seconds");

const fn services(name: &'static str, about: &'static str, flags: &'static [&'static [Flag]]) -> Command {
    Command { name, arguments: "[SERVICE...]", about, flags, arity: Arity::AtLeast(0), interspersed: true }
}

/// `fluyt compose down`.
pub const DOWN: Command = services(
    "down",
    "Stop and remove containers, networks",
    &[&[
        switch(NONE, "remove-orphans", "Remove containers for services not defined in the Compose file"),
        text(
            NONE,
            "rmi",
            "Remove images used by services. \"local\" remove only images that don't have a custom tag (\"local\"|\"all\")",
        ),
        TIMEOUT,
        switch(
            'v',
            "volumes",
            "Remove named volumes declared in the \"volumes\" section of the Compose file and anonymous volumes attached to containers",
        ),
        DRY_RUN,
    ]],
);

/// `fluyt compose stop`.
pub const STOP: Command = services("stop", "Stop services", &[&[TIMEOUT, DRY_RUN]]);

/// `fluyt compose start`.
pub const START: Command = services(
    "start",
    "Start services",
    &[&[
        switch(NONE, "wait", "Wait for services to be running|healthy"),
        int(
            NONE,
            "wait-timeout",
            "Maximum duration in seconds to wait for the project to be running|healthy",
        ),
        DRY_RUN,
    ]],
);

/// `fluyt compose restart`.
pub const RESTART: Command = services(
    "restart",
    "Restart service containers",
    &[&[switch(NONE, "no-deps", "Don't restart dependent services"), TIMEOUT, DRY_RUN]],
);

/// `fluyt compose kill`.
pub const KILL: Command = services(
    "kill",
    "Force stop service containers",
    &[&[
        switch(NONE, "remove-orphans", "Remove containers for services not defined in the Compose file"),
        text('s', "signal", "SIGNAL to send to the container").default("SIGKILL"),
        DRY_RUN,
    ]],
);

/// `fluyt compose rm`.
pub const RM: Command = services(
    "rm",
    "Removes stopped service containers",
    &[&[
        switch('f', "force", "Don't ask to confirm removal"),
        switch('s', "stop", "Stop the containers, if required, before removing"),
        switch('v', "volumes", "Remove any anonymous volumes attached to containers"),
        DRY_RUN,
    ]],
);

/// `fluyt compose pause`.
pub const PAUSE: Command = services("pause", "Pause services", &[&[DRY_RUN]]);

/// `fluyt compose unpause`.
pub const UNPAUSE: Command = services("unpause", "Unpause services", &[&[DRY_RUN]]);

/// `fluyt compose wait`.
pub const WAIT: Command = Command {
    name: "wait",
    arguments: "SERVICE [SERVICE...]",
    about: "Block until containers of all (or specified) services stop",
    flags: &[&[switch(NONE, "down-project", "Drops project when the first container stops")]],
    arity: Arity::AtLeast(1),
    interspersed: true,
};

/// Shows a plan or carries it out.
fn carry_out(called: &Called<'_>, found: &Found, plan: &Plan) -> Outcome {
    // Without files there is nothing but names, which is all that these plans need.
    let nameless = Project::named(&found.name);
    let project = found.project.as_ref().unwrap_or(&nameless);
    if called.dry_run() {
        print_text(&plan::text(project, plan))?;
        return Ok(0);
    }
    let has = |name| called.parsed.has(name);
    let how = How { leave_used: called.word == "down", ..called.how(has("timeout"), has("wait-timeout"))? };
    let display = called.display(called.word)?;
    Executor::new(called.docker()?, project, &found.observed, how, &display).run(plan)?;
    Ok(0)
}

/// Runs `fluyt compose down`.
///
/// # Errors
/// Something cannot be stopped or removed.
pub fn down(called: &Called<'_>) -> Outcome {
    let parsed = called.parsed;
    let found = called.found()?;
    found.containers(&parsed.args)?;
    let images = match parsed.text("rmi") {
        "" => Images::None,
        "local" => Images::Local,
        "all" => Images::All,
        other => {
            return Err(Error::invalid(format!("invalid value {other:?} for --rmi"))
                .with_hint("use local or all")
                .into());
        }
    };
    let wanted = Down {
        services: parsed.args.clone(),
        volumes: parsed.on("volumes"),
        remove_orphans: parsed.on("remove-orphans") || called.says_yes("COMPOSE_REMOVE_ORPHANS"),
        images,
    };
    let plan = plan::down(found.project.as_ref(), &found.observed, &wanted);
    let provided = found.project.as_ref().is_some_and(|p| !provider::services(p).is_empty());
    if plan.is_empty() && !provided {
        eprintln!("WARN: no resource found to remove for project {:?}", found.name);
    }
    let code = carry_out(called, &found, &plan)?;
    tell_providers(called, &found, provider::Command::Down)?;
    Ok(code)
}

/// Providers pause or release what they have for services, once the containers that use it are gone.
fn tell_providers(called: &Called<'_>, found: &Found, command: provider::Command) -> fluyt_model::Result<()> {
    let Some(project) = &found.project else { return Ok(()) };
    super::provider::let_go(called, project, &called.parsed.args, command)
}

/// Runs `fluyt compose stop`.
///
/// # Errors
/// A container cannot be stopped.
pub fn stop(called: &Called<'_>) -> Outcome {
    let found = of_services(called)?;
    found.containers(&called.parsed.args)?;
    let wanted = Down { services: called.parsed.args.clone(), ..Down::default() };
    let all = plan::down(found.project.as_ref(), &found.observed, &wanted);
    let code = carry_out(called, &found, &only_stops(all, "asked to stop"))?;
    tell_providers(called, &found, provider::Command::Stop)?;
    Ok(code)
}

/// What is there, without containers of `run`: those are ended by whoever made them, and by `down`.
fn of_services(called: &Called<'_>) -> fluyt_model::Result<Found> {
    let mut found = called.found()?;
    found.observed.containers.retain(|c| !c.one_off);
    Ok(found)
}

/// The stops of a plan, in its order: they wait for nothing but one another.
pub fn only_stops(plan: Plan, cause: &str) -> Plan {
    let mut out = Plan::default();
    let mut places: Vec<Option<usize>> = Vec::with_capacity(plan.steps.len());
    for step in plan.steps {
        if matches!(step.action, Action::StopContainer { .. }) {
            let after = step.after.iter().filter_map(|a| places[*a]).collect();
            places.push(Some(out.steps.len()));
            out.steps.push(Step { action: step.action, cause: cause.to_owned(), after });
        } else {
            places.push(None);
        }
    }
    out
}

/// Runs `fluyt compose start`.
///
/// # Errors
/// There are no containers to start; a dependency never becomes ready.
pub fn start(called: &Called<'_>) -> Outcome {
    let found = called.found()?;
    let there = found.containers(&called.parsed.args)?;
    if there.is_empty() {
        return Err(Error::not_found("there is no container to start".to_owned())
            .with_hint("make them: fluyt compose up -d")
            .into());
    }
    let Some(project) = &found.project else {
        for container in there.into_iter().filter(|c| !c.is_up()) {
            called.docker()?.container_start(&container.id, &Default::default())?;
        }
        return Ok(0);
    };
    let mut project = project.clone();
    let mut services: Vec<String> =
        there.iter().map(|c| c.service.clone()).filter(|s| project.service(s).is_some()).collect();
    services.dedup();
    project.keep_only(&services);
    let count =
        |service: &str| u32::try_from(there.iter().filter(|c| c.service == service).count()).unwrap_or(0);
    let up = plan::Up {
        recreate: plan::Recreate::Never,
        recreate_dependencies: plan::Recreate::Never,
        scale: services.iter().map(|s| (s.clone(), count(s))).collect(),
        wait: called.parsed.on("wait"),
        ..plan::Up::default()
    };
    let plan = plan::up(&project, &found.observed, &up)?;
    let found = Found { project: Some(project), ..found };
    carry_out(called, &found, &plan)
}

/// Runs `fluyt compose restart`.
///
/// # Errors
/// A container cannot be stopped or started.
pub fn restart(called: &Called<'_>) -> Outcome {
    let found = of_services(called)?;
    found.containers(&called.parsed.args)?;
    let services = restarted(called, &found);
    let wanted = Down { services: services.clone(), ..Down::default() };
    let mut plan =
        only_stops(plan::down(found.project.as_ref(), &found.observed, &wanted), "asked to restart");
    let stops: Vec<usize> = (0..plan.steps.len()).collect();
    let mut containers = found.containers(&services)?;
    if let Some(project) = &found.project {
        let order = plan::in_order(project);
        containers.sort_by_key(|c| order.iter().position(|s| *s == c.service));
    }
    // Services start after those that they depend on; side by side otherwise.
    let mut starts: Vec<(&str, usize)> = Vec::new();
    for container in containers {
        let node = found.project.as_ref().and_then(|p| p.service(&container.service));
        let on: Vec<&str> =
            node.map(|n| n.entries("depends_on")).unwrap_or_default().iter().map(|e| e.0).collect();
        let mut after = stops.clone();
        after.extend(starts.iter().filter(|(service, _)| on.contains(service)).map(|(_, step)| *step));
        starts.push((&container.service, plan.steps.len()));
        let action = Action::StartContainer { service: container.service.clone(), number: container.number };
        plan.steps.push(Step { action, cause: "asked to restart".to_owned(), after });
    }
    carry_out(called, &found, &plan)
}

/// The services that are restarted: those that were named, and those that restart with them.
fn restarted(called: &Called<'_>, found: &Found) -> Vec<String> {
    let mut services = called.parsed.args.clone();
    let Some(project) = found.project.as_ref().filter(|_| !called.parsed.on("no-deps")) else {
        return services;
    };
    if services.is_empty() {
        return services;
    }
    for service in plan::in_order(project) {
        let on = project.service(service).map(|n| n.entries("depends_on")).unwrap_or_default();
        let with = on.iter().any(|(on, how)| how.flag("restart") && services.iter().any(|s| s == on));
        if with && !services.iter().any(|s| s == service) {
            services.push(service.to_owned());
        }
    }
    services
}

/// Does something to each container, all side by side; `words` are what is told while and when it is done.
fn each(
    called: &Called<'_>,
    words: (&str, &str),
    which: impl Fn(&Container) -> bool,
    act: impl Fn(&Container) -> fluyt_model::Result<()> + Sync,
) -> Outcome {
    let found = called.found()?;
    let containers: Vec<&Container> =
        found.containers(&called.parsed.args)?.into_iter().filter(|c| which(c)).collect();
    if called.dry_run() {
        containers.iter().try_for_each(|c| print_line(&format!("{} container {}", called.word, c.name)))?;
        return Ok(0);
    }
    let display = called.display(called.word)?;
    let limit = called.parallel()?.unwrap_or(usize::MAX);
    side_by_side(limit.min(32), &vec![Vec::new(); containers.len()], &|n| {
        let thing = format!("Container {}", containers[n].name);
        display.tell(&Event::new(&thing, State::Working, words.0));
        let done = act(containers[n]);
        match &done {
            Ok(()) => display.tell(&Event::new(&thing, State::Done, words.1)),
            Err(e) => display.tell(&Event::new(&thing, State::Failed, "Error").details(&e.chain())),
        }
        done
    })?;
    Ok(0)
}

/// Runs `fluyt compose kill`.
///
/// # Errors
/// A container cannot be sent the signal.
pub fn kill(called: &Called<'_>) -> Outcome {
    let docker = called.docker()?;
    each(called, ("Killing", "Killed"), Container::is_up, |c| {
        docker.container_kill(&c.id, called.parsed.text("signal"))
    })
}

/// Runs `fluyt compose pause`.
///
/// # Errors
/// A container cannot be paused.
pub fn pause(called: &Called<'_>) -> Outcome {
    let docker = called.docker()?;
    each(called, ("Pausing", "Paused"), |c| c.state == "running", |c| docker.container_pause(&c.id))
}

/// Runs `fluyt compose unpause`.
///
/// # Errors
/// A container cannot go on.
pub fn unpause(called: &Called<'_>) -> Outcome {
    let docker = called.docker()?;
    each(called, ("Unpausing", "Unpaused"), |c| c.state == "paused", |c| docker.container_unpause(&c.id))
}

/// Runs `fluyt compose rm`.
///
/// # Errors
/// A container cannot be removed.
pub fn rm(called: &Called<'_>) -> Outcome {
    let parsed = called.parsed;
    let found = called.found()?;
    let goes = |c: &Container| parsed.on("stop") || !c.is_up();
    let going: Vec<&Container> = found.containers(&parsed.args)?.into_iter().filter(|c| goes(c)).collect();
    if going.is_empty() {
        eprintln!("No stopped containers");
        return Ok(0);
    }
    if !parsed.on("force") && !called.dry_run() {
        let names: Vec<&str> = going.iter().map(|c| c.name.as_str()).collect();
        eprintln!("Going to remove {}", names.join(", "));
        if !terminal::confirm("Are you sure? [yN] ") {
            return Ok(0);
        }
    }
    let observed = Observed { containers: going.into_iter().cloned().collect(), ..Observed::default() };
    let wanted = Down { volumes: parsed.on("volumes"), ..Down::default() };
    let plan = plan::down(None, &observed, &wanted);
    carry_out(called, &found, &plan)
}

/// Runs `fluyt compose wait`.
///
/// # Errors
/// There is no such service.
pub fn wait(called: &Called<'_>) -> Outcome {
    let docker = called.docker()?;
    let found = called.found()?;
    let containers = found.containers(&called.parsed.args)?;
    if containers.is_empty() {
        return Err(Error::not_found("there is no container to wait for".to_owned()).into());
    }
    let mut code = 0;
    for container in containers {
        let mut waiting = docker.container_wait(&container.id, WaitCondition::NotRunning)?;
        if let Next::Item(end) = waiting.next(Wait::FOREVER)? {
            print_line(&format!("container {:?} exited with status code {}", container.name, end.code))?;
            code = i32::try_from(end.code).unwrap_or(1);
        }
        if called.parsed.on("down-project") {
            let observed = called.found()?;
            let plan = plan::down(observed.project.as_ref(), &observed.observed, &Down::default());
            carry_out(called, &observed, &plan)?;
            break;
        }
    }
    Ok(code)
}
