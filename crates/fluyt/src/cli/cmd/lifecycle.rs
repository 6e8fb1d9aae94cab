//! `stop`, `kill`, `restart`, `pause`, `unpause`, `rm`, `wait`, `rename`, `update`.

use fluyt_docker_api::api::{Docker, Next, RemoveContainer, StopContainer, Wait, WaitCondition};
use fluyt_docker_api::types::{RestartPolicy, UpdateConfig};
use fluyt_model::{Error, Kind, Result};

use super::Cli;
use crate::cli::create::{self, flags as shared};
use crate::cli::fail::{Outcome, for_each};
use crate::cli::flags::{Arity, Command, Flag, NONE, Parsed, int, switch, text};

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
pub const RM: Command = several(
    "rm",
    "Remove one or more containers",
    &[&[
        switch('f', "force", "Force the removal of a running container (uses SIGKILL)"),
        switch('l', "link", "Remove the specified link"),
        switch('v', "volumes", "Remove anonymous volumes associated with the container"),
    ]],
);

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
pub const REAP: Command = several("reap", "Remove a container that removes itself, after its end", &[]);

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

/// Runs `fluyt rm`. With `--force`, a container that does not exist is no failure.
pub fn rm(cli: &Cli, flags: &Parsed) -> Outcome {
    let docker = cli.docker()?;
    let how =
        RemoveContainer { force: flags.on("force"), volumes: flags.on("volumes"), link: flags.on("link") };
    for_each(&flags.args, |name| match docker.container_remove(name, how) {
        Ok(()) => Ok(Some(name.to_owned())),
        Err(error) if how.force && error.kind() == Kind::NotFound => {
            crate::cli::fail::print(&error);
            Ok(None)
        }
        Err(error) => Err(error),
    })
}

/// Runs `fluyt container reap`.
pub fn reap(cli: &Cli, flags: &Parsed) -> Outcome {
    let engine = cli.own_engine()?;
    for_each(&flags.args, |id| engine.reap(id).map(|()| None))
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
