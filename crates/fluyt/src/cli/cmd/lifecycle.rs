//! `stop`, `kill`, `restart`, `pause`, `unpause`, `rm`, `wait`, `rename`, `update`.

use fluyt_docker_api::api::{Docker, Next, RemoveContainer, StopContainer, Wait, WaitCondition};
use fluyt_docker_api::types::{RestartPolicy, UpdateConfig};
use fluyt_model::error::IoContext;
use fluyt_model::{Error, Kind, Result};

use super::Cli;
use crate::cli::create::{self, flags as shared};
use crate::cli::fail::{Failure, Outcome, for_each};
use crate::cli::flags::{Arity, Command, Flag, NONE, Parsed, int, list, switch, text};

const fn several(name: &'static str, about: &'static str, flags: &'static [&'static [Flag]]) -> Command {
    Command {
        name,
        arguments: "CONTAINER [CONTAINER...]",
        about,
        flags,
        arity: Arity::AtLeast(1),
        interspersed: true,
    }
}

const STOPPING: &[Flag] = &[
    text('s', "signal", "Signal to send to the container"),
    int('t', "timeout", "Seconds to wait before killing the container"),
    int(NONE, "time", "Seconds to wait before killing the container").alias_of("timeout"),
];

/// `fluyt stop`.
pub const STOP: Command = several("stop", "Stop one or more running containers", &[STOPPING]);

/// `fluyt restart`.
pub const RESTART: Command = several("restart", "Restart one or more containers", &[STOPPING]);

/// `fluyt kill`.
pub const KILL: Command = several(
    "kill",
    "Kill one or more running containers",
    &[&[text('s', "signal", "Signal to send to the container")]],
);

/// `fluyt pause`.
pub const PAUSE: Command = several("pause", "Pause all processes within one or more containers", &[]);

/// `fluyt unpause`.
pub const UNPAUSE: Command = several("unpause", "Unpause all processes within one or more containers", &[]);

/// `fluyt wait`.
pub const WAIT: Command =
    several("wait", "Block until one or more containers stop, then print their exit codes", &[]);

/// `fluyt rm`.
pub const RM: Command = Command {
    name: "rm",
    arguments: "CONTAINER [CONTAINER...]",
    about: "Remove one or more containers",
    flags: &[&[
        switch('f', "force", "Force the removal of a running container (uses SIGKILL)"),
        list(NONE, "cidfile", "Read the container ID from the file"),
        switch('i', "ignore", "Ignore containers that do not exist; with --force, stop before removing"),
        int('t', "time", "With --force, seconds to wait before killing the container"),
        switch('l', "link", "Remove the specified link"),
        switch('v', "volumes", "Remove anonymous volumes associated with the container"),
    ]],
    arity: Arity::AtLeast(0),
    interspersed: true,
};

/// `fluyt rename`.
pub const RENAME: Command = Command {
    name: "rename",
    arguments: "CONTAINER NEW_NAME",
    about: "Rename a container",
    flags: &[],
    arity: Arity::Exactly(2),
    interspersed: true,
};

/// `fluyt update`.
pub const UPDATE: Command = several(
    "update",
    "Update configuration of one or more containers",
    &[shared::LIMITS, &[text(NONE, "restart", "Restart policy to apply when a container exits")]],
);

/// `fluyt container reap`: what a monitor becomes at the end of a container that removes itself.
pub const REAP: Command = several(
    "reap",
    "Remove a container that removes itself, after its end",
    &[&[int(NONE, "exit-code", "End with this exit code, as the main process of a service").default("0")]],
);

/// `fluyt container revive`, what the watcher does for a container whose monitor was killed.
pub const REVIVE: Command =
    several("revive", "Start a container again whose monitor was killed, by its restart policy", &[]);

fn stopping(flags: &Parsed) -> StopContainer {
    StopContainer {
        signal: flags.text("signal").to_owned(),
        timeout: flags.changed("timeout").then(|| flags.int("timeout")),
    }
}

/// Runs `fluyt stop`.
pub fn stop(cli: &Cli, flags: &Parsed) -> Outcome {
    let (docker, how) = (cli.docker()?, stopping(flags));
    for_each(&flags.args, |name| docker.container_stop(name, &how).map(|_| Some(name.to_owned())))
}

/// Runs `fluyt restart`.
pub fn restart(cli: &Cli, flags: &Parsed) -> Outcome {
    let (docker, how) = (cli.docker()?, stopping(flags));
    for_each(&flags.args, |name| docker.container_restart(name, &how).map(|()| Some(name.to_owned())))
}

/// Runs `fluyt kill`.
pub fn kill(cli: &Cli, flags: &Parsed) -> Outcome {
    let docker = cli.docker()?;
    let signal = flags.given("signal").unwrap_or("KILL");
    for_each(&flags.args, |name| docker.container_kill(name, signal).map(|()| Some(name.to_owned())))
}

/// Runs `fluyt pause`.
pub fn pause(cli: &Cli, flags: &Parsed) -> Outcome {
    let docker = cli.docker()?;
    for_each(&flags.args, |name| docker.container_pause(name).map(|()| Some(name.to_owned())))
}

/// Runs `fluyt unpause`.
pub fn unpause(cli: &Cli, flags: &Parsed) -> Outcome {
    let docker = cli.docker()?;
    for_each(&flags.args, |name| docker.container_unpause(name).map(|()| Some(name.to_owned())))
}

/// Runs `fluyt wait`.
pub fn wait(cli: &Cli, flags: &Parsed) -> Outcome {
    let docker = cli.docker()?;
    for_each(&flags.args, |name| {
        ended(docker, name, WaitCondition::NotRunning).map(|code| Some(code.to_string()))
    })
}

/// Waits for a container; its exit code.
///
/// # Errors
/// `NotFound`; the wait fails.
pub fn ended(docker: &dyn Docker, name: &str, condition: WaitCondition) -> Result<i64> {
    match docker.container_wait(name, condition)?.next(Wait::FOREVER)? {
        Next::Item(waited) if !waited.error.is_empty() => Err(Error::internal(waited.error)),
        Next::Item(waited) => Ok(waited.code),
        Next::Idle | Next::End => Err(Error::internal(format!("waiting for {name} ended without an answer"))),
    }
}

/// The containers that are named, and those whose ids are in files.
fn named(flags: &Parsed) -> Result<Vec<String>, Failure> {
    let mut names = flags.args.clone();
    for path in flags.all("cidfile") {
        match std::fs::read_to_string(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && flags.on("ignore") => {}
            text => names.push(text.about(|| format!("container ID file {path}"))?.trim().to_owned()),
        }
    }
    if names.is_empty() && !flags.changed("cidfile") {
        return Err(Failure::Usage {
            sentence: "fluyt: 'fluyt rm' requires at least 1 argument".to_owned(),
            usage: "Usage:  fluyt rm [OPTIONS] CONTAINER [CONTAINER...]\n\nRun 'fluyt rm --help' for more information"
                .to_owned(),
            code: 1,
        });
    }
    Ok(names)
}

/// Runs `fluyt rm`. With `--force`, a container that does not exist is no failure. What only Podman's has, `--ignore` and
/// `--time`, make `--force` as gentle as Podman's: it stops before it removes.
pub fn rm(cli: &Cli, flags: &Parsed) -> Outcome {
    let docker = cli.docker()?;
    let how =
        RemoveContainer { force: flags.on("force"), volumes: flags.on("volumes"), link: flags.on("link") };
    let ignore = flags.on("ignore");
    let gently = how.force && (ignore || flags.changed("time"));
    let stop =
        StopContainer { signal: String::new(), timeout: flags.changed("time").then(|| flags.int("time")) };
    for_each(&named(flags)?, |name| match remove(docker, name, how, gently.then_some(&stop)) {
        Ok(()) => Ok(Some(name.to_owned())),
        Err(error) if ignore && error.kind() == Kind::NotFound => Ok(None),
        Err(error) if how.force && error.kind() == Kind::NotFound => {
            crate::cli::fail::print(&error);
            Ok(None)
        }
        Err(error) => Err(error),
    })
}

/// Removes a container, stopped before if `stop` says how. One that removes itself when it ends may go meanwhile.
fn remove(docker: &dyn Docker, name: &str, how: RemoveContainer, stop: Option<&StopContainer>) -> Result<()> {
    let Some(stop) = stop else { return docker.container_remove(name, how) };
    match docker.container_stop(name, stop) {
        Err(error) if error.kind() != Kind::NotFound => {
            // A container that cannot be stopped is removed all the same.
            crate::cli::fail::print(&error);
        }
        Err(error) => return Err(error),
        Ok(_) => {}
    }
    match docker.container_remove(name, how) {
        Err(error) if error.kind() == Kind::NotFound => Ok(()),
        other => other,
    }
}

/// Runs `fluyt container reap`.
pub fn reap(cli: &Cli, flags: &Parsed) -> Outcome {
    let engine = cli.own_engine()?;
    for_each(&flags.args, |id| engine.reap(id).map(|()| None))?;
    Ok(i32::try_from(flags.int("exit-code")).unwrap_or(1))
}

/// Runs `fluyt rename`.
pub fn rename(cli: &Cli, flags: &Parsed) -> Outcome {
    let (old, new) = (flags.args[0].trim(), flags.args[1].trim());
    if old.is_empty() || new.is_empty() {
        return Err(Error::invalid("neither old nor new names may be empty").into());
    }
    cli.docker()?.container_rename(old, new)?;
    Ok(0)
}

/// Runs `fluyt update`.
pub fn update(cli: &Cli, flags: &Parsed) -> Outcome {
    let docker = cli.docker()?;
    let restart_policy = match flags.given("restart") {
        None => RestartPolicy::default(),
        Some(text) => create::restart_policy(text).map_err(Error::invalid)?,
    };
    let nothing = shared::LIMITS.iter().filter(|f| f.alias_of.is_empty()).all(|f| !flags.changed(f.long));
    if nothing && restart_policy.name.is_empty() {
        return Err(Error::invalid("you must provide one or more flags when using this command").into());
    }
    let config = UpdateConfig { resources: create::shared_limits(flags), restart_policy };
    for_each(&flags.args, |name| {
        for warning in docker.container_update(name, &config)? {
            eprintln!("{warning}");
        }
        Ok(Some(name.to_owned()))
    })
}

/// Runs `fluyt container revive`.
pub fn revive(cli: &Cli, flags: &Parsed) -> Outcome {
    let engine = cli.own_engine()?;
    for_each(&flags.args, |id| engine.revive(id).map(|()| None))
}
