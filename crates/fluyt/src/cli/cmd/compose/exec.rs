//! `exec`, `run`, `attach`, `cp`, `commit`, `export`: on one container of a service.

use fluyt_compose::execute::{self, Executor, observe};
use fluyt_compose::{Project, labels, lower};
use fluyt_docker_api::api::RemoveContainer;
use fluyt_docker_api::types::PortMap;
use fluyt_model::{Error, Result};

use super::Called;
use super::images::Getting;
use super::project::{Found, word};
use super::up::{Work, chosen};
use crate::cli::cmd::{attach, content, exec, run};
use crate::cli::fail::Outcome;
use crate::cli::flags::{Arity, Command, Flag, NONE, int, list, switch, text};
use crate::cli::{print_line, terminal};

const INDEX: Flag =
    int(NONE, "index", "Index of the container if service has multiple replicas").default("0");

/// `fluyt compose exec`.
pub const EXEC: Command = Command {
    name: "exec",
    arguments: "SERVICE COMMAND [ARGS...]",
    about: "Execute a command in a running container",
    flags: &[&[
        switch('d', "detach", "Detached mode: Run command in the background"),
        list('e', "env", "Set environment variables"),
        INDEX,
        switch('i', "interactive", "Keep STDIN open even if not attached").default("true").hidden(),
        switch('T', "no-tty", "Disable pseudo-TTY allocation"),
        switch(NONE, "no-TTY", "").alias_of("no-tty"),
        switch('t', "tty", "Allocate a pseudo-TTY").default("true").hidden(),
        switch(NONE, "privileged", "Give extended privileges to the process"),
        text('u', "user", "Run the command as this user"),
        text('w', "workdir", "Path to workdir directory for this command"),
    ]],
    arity: Arity::AtLeast(2),
    interspersed: false,
};

/// `fluyt compose run`.
pub const RUN: Command = Command {
    name: "run",
    arguments: "SERVICE [COMMAND] [ARGS...]",
    about: "Run a one-off command on a service",
    flags: &[&[
        switch(NONE, "build", "Build image before starting container"),
        list(NONE, "cap-add", "Add Linux capabilities"),
        list(NONE, "cap-drop", "Drop Linux capabilities"),
        switch('d', "detach", "Run container in background and print container ID"),
        text(NONE, "entrypoint", "Override the entrypoint of the image"),
        list('e', "env", "Set environment variables"),
        list(NONE, "env-from-file", "Set environment variables from file"),
        switch('i', "interactive", "Keep STDIN open even if not attached").default("true"),
        list('l', "label", "Add or override a label"),
        text(NONE, "name", "Assign a name to the container"),
        switch(NONE, "no-deps", "Don't start linked services"),
        switch('T', "no-tty", "Disable pseudo-TTY allocation (default: auto-detected)"),
        switch(NONE, "no-TTY", "").alias_of("no-tty"),
        list('p', "publish", "Publish a container's port(s) to the host"),
        text(NONE, "pull", "Pull image before running (\"always\"|\"missing\"|\"never\")").default("policy"),
        switch('q', "quiet", "Don't print anything to STDOUT"),
        switch(NONE, "quiet-build", "Suppress progress output from the build process"),
        switch(NONE, "quiet-pull", "Pull without printing progress information"),
        switch(NONE, "remove-orphans", "Remove containers for services not defined in the Compose file"),
        switch(NONE, "rm", "Automatically remove the container when it exits"),
        switch('P', "service-ports", "Run command with all service's ports enabled and mapped to the host"),
        switch('t', "tty", "Allocate a pseudo-TTY").default("true").hidden(),
        switch(
            NONE,
            "use-aliases",
            "Use the service's network useAliases in the network(s) the container connects to",
        ),
        text('u', "user", "Run as specified username or uid"),
        list('v', "volume", "Bind mount a volume"),
        text('w', "workdir", "Working directory inside the container"),
    ]],
    arity: Arity::AtLeast(1),
    interspersed: false,
};

/// `fluyt compose attach`.
pub const ATTACH: Command = Command {
    name: "attach",
    arguments: "SERVICE",
    about: "Attach local standard input, output, and error streams to a service's running container",
    flags: &[&[
        text(NONE, "detach-keys", "Override the key sequence for detaching from a container"),
        INDEX,
        switch(NONE, "no-stdin", "Do not attach STDIN"),
        switch(NONE, "sig-proxy", "Proxy all received signals to the process").default("true"),
    ]],
    arity: Arity::Exactly(1),
    interspersed: true,
};

/// `fluyt compose cp`.
pub const CP: Command = Command {
    name: "cp",
    arguments: "SERVICE:SRC_PATH DEST_PATH|-  or  SRC_PATH|- SERVICE:DEST_PATH",
    about: "Copy files/folders between a service container and the local filesystem",
    flags: &[&[
        switch(NONE, "all", "Include containers created by the run command").hidden(),
        switch('a', "archive", "Archive mode (copy all uid/gid information)"),
        switch('L', "follow-link", "Always follow symbol link in SRC_PATH"),
        INDEX,
    ]],
    arity: Arity::Exactly(2),
    interspersed: true,
};

/// `fluyt compose commit`.
pub const COMMIT: Command = Command {
    name: "commit",
    arguments: "SERVICE [REPOSITORY[:TAG]]",
    about: "Create a new image from a service container's changes",
    flags: &[&[
        text('a', "author", "Author (e.g., \"John Hannibal Smith <hannibal@a-team.com>\")"),
        list('c', "change", "Apply Dockerfile instruction to the created image"),
        INDEX,
        text('m', "message", "Commit message"),
        switch('p', "pause", "Pause container during commit").default("true"),
    ]],
    arity: Arity::Between(1, 2),
    interspersed: true,
};

/// `fluyt compose export`.
pub const EXPORT: Command = Command {
    name: "export",
    arguments: "SERVICE",
    about: "Export a service container's filesystem as a tar archive",
    flags: &[&[INDEX, text('o', "output", "Write to a file, instead of STDOUT")]],
    arity: Arity::Exactly(1),
    interspersed: true,
};

fn container(found: &Found, called: &Called<'_>, service: &str) -> Result<String> {
    Ok(found.one(service, called.parsed.int("index"))?.name.clone())
}

/// Adds a flag with each of its values.
fn pass(words: &mut Vec<String>, called: &Called<'_>, flags: &[&str]) {
    for flag in flags {
        for value in called.parsed.all(flag) {
            words.extend([format!("--{flag}"), word(value)]);
        }
    }
}

/// Runs `fluyt compose exec`.
///
/// # Errors
/// The service does not run; the command cannot be run.
pub fn exec(called: &Called<'_>) -> Outcome {
    let parsed = called.parsed;
    let found = called.found()?;
    let mut words: Vec<String> = Vec::new();
    if parsed.on("detach") {
        words.push(word("--detach"));
    } else {
        if parsed.on("interactive") {
            words.push(word("--interactive"));
        }
        let terminals = terminal::stdin_is_terminal() && terminal::stdout_is_terminal();
        if !parsed.on("no-tty") && parsed.on("tty") && terminals {
            words.push(word("--tty"));
        }
    }
    if parsed.on("privileged") {
        words.push(word("--privileged"));
    }
    pass(&mut words, called, &["env", "user", "workdir"]);
    words.push(container(&found, called, &parsed.args[0])?);
    words.extend_from_slice(&parsed.args[1..]);
    called.call(&exec::EXEC, exec::exec, &words)
}

/// Runs `fluyt compose attach`.
///
/// # Errors
/// The service does not run.
pub fn attach(called: &Called<'_>) -> Outcome {
    let found = called.found()?;
    let mut words: Vec<String> = Vec::new();
    pass(&mut words, called, &["detach-keys"]);
    words.push(format!("--sig-proxy={}", called.parsed.on("sig-proxy")));
    if called.parsed.on("no-stdin") {
        words.push(word("--no-stdin"));
    }
    words.push(container(&found, called, &called.parsed.args[0])?);
    called.call(&attach::ATTACH, attach::attach, &words)
}

/// Runs `fluyt compose cp`.
///
/// # Errors
/// The service has no container; a path does not exist.
pub fn cp(called: &Called<'_>) -> Outcome {
    let parsed = called.parsed;
    let found = called.found()?;
    let place = |text: &String| -> Result<String> {
        match text.split_once(':') {
            Some((service, path)) if !service.is_empty() && !service.contains(['/', '.']) => {
                Ok(format!("{}:{path}", container(&found, called, service)?))
            }
            _ => Ok(text.clone()),
        }
    };
    let mut words: Vec<String> = Vec::new();
    for flag in ["archive", "follow-link"] {
        if parsed.on(flag) {
            words.push(format!("--{flag}"));
        }
    }
    words.extend([place(&parsed.args[0])?, place(&parsed.args[1])?]);
    called.call(&content::CP, content::cp, &words)
}

/// Runs `fluyt compose commit`.
///
/// # Errors
/// The service has no container.
pub fn commit(called: &Called<'_>) -> Outcome {
    let parsed = called.parsed;
    let found = called.found()?;
    let mut words = vec![format!("--pause={}", parsed.on("pause"))];
    pass(&mut words, called, &["author", "change", "message"]);
    words.push(container(&found, called, &parsed.args[0])?);
    words.extend(parsed.args.get(1).cloned());
    called.call(&content::COMMIT, content::commit, &words)
}

/// Runs `fluyt compose export`.
///
/// # Errors
/// The service has no container.
pub fn export(called: &Called<'_>) -> Outcome {
    let found = called.found()?;
    let mut words: Vec<String> = Vec::new();
    pass(&mut words, called, &["output"]);
    words.push(container(&found, called, &called.parsed.args[0])?);
    called.call(&content::EXPORT, content::export, &words)
}

/// Runs `fluyt compose run`.
///
/// # Errors
/// What the service depends on does not start; the container cannot be made.
pub fn run(called: &Called<'_>) -> Outcome {
    let parsed = called.parsed;
    let service = parsed.args[0].clone();
    let (_, project) = chosen(called, std::slice::from_ref(&service), parsed.on("no-deps"))?;
    dependencies(called, &project, &service)?;
    let docker = called.docker()?;
    let mut own = project.clone();
    own.keep_only(std::slice::from_ref(&service));
    let getting = Getting {
        build: parsed.on("build"),
        pull: parsed.text("pull").to_owned(),
        quiet_build: parsed.on("quiet-build"),
        quiet_pull: parsed.on("quiet-pull"),
        ..Getting::default()
    };
    let display = called.display("run")?;
    let images = super::images::get(called, &own, &getting, &display)?;
    let mut observed = observe(docker, &project.name, Some(&project))?;
    observed.images = images;
    resources(called, &own, &observed)?;
    display.finish();
    let executor = Executor::new(docker, &project, &observed, called.how(false, false)?, &display);
    let mut lowered = lower::container(&project, &service, 1, &executor.surroundings(&service, None))?;
    let name = adapt(called, &project, &service, &mut lowered)?;
    let detach = parsed.on("detach");
    let id = execute::create(docker, lowered)?;
    if detach {
        docker.container_start(&id, &Default::default())?;
        print_line(&name)?;
        return Ok(0);
    }
    let mut words = vec![word("--attach")];
    if parsed.on("interactive") {
        words.push(word("--interactive"));
    }
    words.push(id.clone());
    let outcome = called.call(&run::START, run::start, &words);
    if parsed.on("rm") && docker.container_inspect(&id, false).is_ok() {
        docker.container_remove(&id, RemoveContainer { force: true, volumes: true, link: false })?;
    }
    outcome
}

/// Brings up what the service depends on.
fn dependencies(called: &Called<'_>, project: &Project, service: &str) -> Result<()> {
    let mut others = project.clone();
    let names: Vec<String> =
        project.services().into_iter().filter(|s| *s != service).map(str::to_owned).collect();
    if names.is_empty() {
        return Ok(());
    }
    others.keep_only(&names);
    let work = Work {
        up: fluyt_compose::plan::Up {
            remove_orphans: called.parsed.on("remove-orphans"),
            ..Default::default()
        },
        getting: Getting { quiet_pull: called.parsed.on("quiet-pull"), ..Getting::default() },
    };
    work.run(called, &others, called.how(false, false)?)?;
    wait_for_them(called, project, service)
}

/// Waits until they are as the service needs them.
fn wait_for_them(called: &Called<'_>, project: &Project, service: &str) -> Result<()> {
    let observed = observe(called.docker()?, &project.name, Some(project))?;
    let up = fluyt_compose::plan::Up::default();
    let all = fluyt_compose::plan::up(project, &observed, &up)?;
    let mut plan = fluyt_compose::plan::Plan::default();
    for step in all.steps {
        if matches!(step.action, fluyt_compose::plan::Action::Wait { .. })
            && step.cause.starts_with(&format!("{service} "))
        {
            plan.steps.push(fluyt_compose::plan::Step { after: Vec::new(), ..step });
        }
    }
    let display = called.display("run")?;
    Executor::new(called.docker()?, project, &observed, called.how(false, false)?, &display).run(&plan)
}

/// Networks and volumes that the service needs and that are not there yet.
fn resources(called: &Called<'_>, own: &Project, observed: &fluyt_compose::plan::Observed) -> Result<()> {
    use fluyt_compose::plan::{Action, Plan, Up, up};
    let all = up(own, observed, &Up { no_start: true, ..Up::default() })?;
    let mut plan = Plan::default();
    for step in all.steps {
        if matches!(step.action, Action::CreateNetwork(_) | Action::CreateVolume(_)) && step.after.is_empty()
        {
            plan.steps.push(step);
        }
    }
    let display = called.display("run")?;
    Executor::new(called.docker()?, own, observed, called.how(false, false)?, &display).run(&plan)
}

/// Makes the one-off container of a service's container; its name.
fn adapt(
    called: &Called<'_>,
    project: &Project,
    service: &str,
    lowered: &mut lower::Lowered,
) -> Result<String> {
    let parsed = called.parsed;
    let slug = slug();
    let request = &mut lowered.create.request;
    let config = &mut request.config;
    config.labels.insert(labels::ONE_OFF.to_owned(), "True".to_owned());
    config.labels.insert(labels::SLUG.to_owned(), slug.clone());
    config.labels.remove(labels::NUMBER);
    for label in parsed.all("label") {
        let (key, value) = label.split_once('=').unwrap_or((label, ""));
        config.labels.insert(key.to_owned(), value.to_owned());
    }
    if parsed.args.len() > 1 {
        config.cmd = parsed.args[1..].to_vec().into();
    } else if parsed.given("entrypoint").is_some() {
        config.cmd = Vec::new().into();
    }
    if let Some(entrypoint) = parsed.given("entrypoint") {
        config.entrypoint = entrypoint.split_whitespace().map(str::to_owned).collect::<Vec<_>>().into();
    }
    for file in parsed.all("env-from-file") {
        let text = std::fs::read_to_string(file).map_err(|e| Error::io(file.to_owned(), e))?;
        let lookup = |name: &str| std::env::var(name).ok();
        let read = fluyt_compose::load::parse_variables(&text, &lookup)
            .map_err(|(line, what)| Error::invalid(format!("{file}:{line}: {what}")))?;
        read.into_iter().for_each(|(name, value)| set_env(&mut config.env, &format!("{name}={value}")));
    }
    for variable in parsed.all("env") {
        match variable.contains('=') {
            true => set_env(&mut config.env, variable),
            false => {
                if let Ok(value) = std::env::var(variable) {
                    set_env(&mut config.env, &format!("{variable}={value}"));
                }
            }
        }
    }
    for (flag, field) in [("user", &mut config.user), ("workdir", &mut config.working_dir)] {
        if let Some(value) = parsed.given(flag) {
            value.clone_into(field);
        }
    }
    let detach = parsed.on("detach");
    config.tty = !detach
        && !parsed.on("no-tty")
        && parsed.on("tty")
        && terminal::stdin_is_terminal()
        && terminal::stdout_is_terminal();
    config.open_stdin = !detach && parsed.on("interactive");
    config.stdin_once = config.open_stdin;
    (config.attach_stdin, config.attach_stdout, config.attach_stderr) = (config.open_stdin, !detach, !detach);
    let host = &mut request.host_config;
    host.auto_remove = parsed.on("rm") && detach;
    host.restart_policy = Default::default();
    host.cap_add.extend(parsed.list("cap-add"));
    host.cap_drop.extend(parsed.list("cap-drop"));
    host.binds.extend(parsed.list("volume"));
    if !parsed.on("service-ports") {
        host.port_bindings = PortMap::new();
    }
    for text in parsed.all("publish") {
        publish(text, &mut host.port_bindings, &mut config.exposed_ports)?;
    }
    if !parsed.on("use-aliases") {
        for place in request.networking_config.endpoints_config.values_mut() {
            place.aliases = Default::default();
        }
        lowered.further.iter_mut().for_each(|(_, place)| place.aliases = Default::default());
    }
    let name = parsed
        .given("name")
        .map_or_else(|| format!("{}-{service}-run-{}", project.name, &slug[..12]), str::to_owned);
    lowered.create.name.clone_from(&name);
    Ok(name)
}

fn set_env(env: &mut Vec<String>, variable: &str) {
    let name = variable.split('=').next().unwrap_or_default();
    env.retain(|v| v.split('=').next() != Some(name));
    env.push(variable.to_owned());
}

/// `[[ADDRESS:]PUBLISHED:]TARGET[/PROTOCOL]`
fn publish(text: &str, map: &mut PortMap, exposed: &mut fluyt_docker_api::types::PortSet) -> Result<()> {
    let (rest, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let mut parts = rest.rsplitn(3, ':');
    let target = parts.next().unwrap_or_default();
    let host_port = parts.next().unwrap_or_default().to_owned();
    let host_ip = parts.next().unwrap_or_default().to_owned();
    let port: fluyt_docker_api::types::PortNumber = format!("{target}/{protocol}").parse()?;
    exposed.insert(port, fluyt_docker_api::types::Empty {});
    map.entry(port).or_default().push(fluyt_docker_api::types::PortBinding { host_ip, host_port });
    Ok(())
}

/// 64 hexadecimal digits that nobody else has.
fn slug() -> String {
    use std::hash::{BuildHasher, RandomState};
    (0..4).map(|n| format!("{:016x}", RandomState::new().hash_one((n, std::process::id())))).collect()
}
