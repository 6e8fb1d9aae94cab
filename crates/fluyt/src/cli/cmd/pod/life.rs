//! `pod start`, `stop`, `kill`, `restart`, `pause`, `unpause`, `rm`, `prune`, `exists`.

use std::io::Write;

use fluyt_engine::StopOptions;
use fluyt_engine::pod::PodRemoveOptions;
use fluyt_model::{Error, Kind};

use super::{ALL, FAILED, ID_FILE, LATEST, chosen, each, failed};
use crate::cli::cmd::Cli;
use crate::cli::fail::{self, Failure, Outcome};
use crate::cli::flags::{Arity, Command, Flag, NONE, Parsed, int, switch, text};
use crate::cli::print_line;

const fn several(name: &'static str, about: &'static str, flags: &'static [&'static [Flag]]) -> Command {
    Command { name, arguments: "POD [POD...]", about, flags, arity: Arity::AtLeast(0), interspersed: true }
}

const TIME: Flag = int('t', "time", "Seconds to wait before the containers are killed");
const TIMEOUT: Flag =
    int(NONE, "timeout", "Seconds to wait before the containers are killed").alias_of("time");
const IGNORE: Flag = switch('i', "ignore", "Ignore pods that do not exist");

/// `fluyt pod start`.
pub const START: Command = several("start", "Start one or more pods", &[&[ALL, LATEST, ID_FILE]]);

/// `fluyt pod stop`.
pub const STOP: Command =
    several("stop", "Stop one or more pods", &[&[ALL, IGNORE, LATEST, ID_FILE, TIME, TIMEOUT]]);

/// `fluyt pod kill`.
pub const KILL: Command = several(
    "kill",
    "Send a signal to the containers of one or more pods",
    &[&[ALL, LATEST, text('s', "signal", "Signal to send").default("KILL")]],
);

/// `fluyt pod restart`.
pub const RESTART: Command = several("restart", "Restart one or more pods", &[&[ALL, LATEST, TIME, TIMEOUT]]);

/// `fluyt pod pause`.
pub const PAUSE: Command = several("pause", "Pause one or more pods", &[&[ALL, LATEST]]);

/// `fluyt pod unpause`.
pub const UNPAUSE: Command = several("unpause", "Unpause one or more pods", &[&[ALL, LATEST]]);

/// `fluyt pod rm`.
pub const RM: Command = several(
    "rm",
    "Remove one or more pods and their containers",
    &[&[
        ALL,
        switch('f', "force", "Stop containers that run first"),
        IGNORE,
        LATEST,
        ID_FILE,
        TIME,
        TIMEOUT,
        switch('v', "volumes", "Remove the containers' anonymous volumes").default("true").hidden(),
    ]],
);

/// `fluyt pod prune`.
pub const PRUNE: Command = Command {
    name: "prune",
    arguments: "",
    about: "Remove all pods in which nothing runs any more, with their containers",
    flags: &[&[switch('f', "force", "Do not prompt for confirmation")]],
    arity: Arity::None,
    interspersed: true,
};

/// `fluyt pod exists`.
pub const EXISTS: Command = Command {
    name: "exists",
    arguments: "POD",
    about: "Check whether a pod exists: the exit code is 0 if it does, else 1",
    flags: &[],
    arity: Arity::Exactly(1),
    interspersed: true,
};

/// `fluyt pod settle`: what a monitor becomes at the end of a member whose pod goes with its last one.
pub const SETTLE: Command = several(
    "settle",
    "Take down a pod if its last container has ended",
    &[&[int(NONE, "exit-code", "End with this exit code, as the main process of a service").default("0")]],
);

fn stopping(flags: &Parsed) -> StopOptions {
    StopOptions { signal: None, timeout: flags.changed("time").then(|| flags.int("time")) }
}

/// Runs `fluyt pod start`.
pub fn start(cli: &Cli, flags: &Parsed) -> Outcome {
    each(cli, flags, |engine, pod| engine.pod_start(pod))
}

/// Runs `fluyt pod stop`.
pub fn stop(cli: &Cli, flags: &Parsed) -> Outcome {
    let how = stopping(flags);
    tolerant(cli, flags, FAILED, |engine, pod| engine.pod_stop(pod, &how))
}

/// Runs `fluyt pod kill`.
pub fn kill(cli: &Cli, flags: &Parsed) -> Outcome {
    each(cli, flags, |engine, pod| engine.pod_kill(pod, flags.text("signal")))
}

/// Runs `fluyt pod restart`.
pub fn restart(cli: &Cli, flags: &Parsed) -> Outcome {
    let how = stopping(flags);
    each(cli, flags, |engine, pod| engine.pod_restart(pod, &how))
}

/// Runs `fluyt pod pause`.
pub fn pause(cli: &Cli, flags: &Parsed) -> Outcome {
    each(cli, flags, |engine, pod| engine.pod_pause(pod))
}

/// Runs `fluyt pod unpause`.
pub fn unpause(cli: &Cli, flags: &Parsed) -> Outcome {
    each(cli, flags, |engine, pod| engine.pod_unpause(pod))
}

/// Runs `fluyt pod rm`.
pub fn rm(cli: &Cli, flags: &Parsed) -> Outcome {
    let how = PodRemoveOptions {
        force: flags.on("force"),
        timeout: stopping(flags).timeout,
        volumes: flags.on("volumes"),
    };
    // Of a pod that is not there, Podman tells with this code.
    tolerant(cli, flags, 1, |engine, pod| engine.pod_remove(pod, how))
}

/// As [`each`], for commands that may pass over pods that are not there; `missing` is the exit code if they may not.
fn tolerant(
    cli: &Cli,
    flags: &Parsed,
    missing: i32,
    act: impl Fn(&fluyt_engine::Engine, &str) -> fluyt_model::Result<()>,
) -> Outcome {
    let engine = cli.engine().map_err(failed)?;
    let mut code = 0;
    let ignore = flags.on("ignore");
    let names = match chosen(engine, flags) {
        Err(e) if ignore && e.kind() == Kind::NotFound => Vec::new(),
        other => other.map_err(failed)?,
    };
    for name in names {
        let found = match engine.pod(&name) {
            Err(e) if ignore && e.kind() == Kind::NotFound => continue,
            Err(e) if e.kind() == Kind::NotFound => {
                fail::print(&e);
                code = if code == 0 { missing } else { code };
                continue;
            }
            other => other,
        };
        match found.and_then(|pod| act(engine, &pod.id).map(|()| pod.id)) {
            Ok(id) => print_line(&id)?,
            Err(e) if ignore && e.kind() == Kind::NotFound => {}
            Err(e) => {
                fail::print(&e);
                code = FAILED;
            }
        }
    }
    if code == 0 { Ok(0) } else { Err(Failure::Code(code)) }
}

/// Runs `fluyt pod prune`.
pub fn prune(cli: &Cli, flags: &Parsed) -> Outcome {
    let engine = cli.engine().map_err(failed)?;
    if !flags.on("force") && !confirmed()? {
        return Ok(0);
    }
    for id in engine.prune_pods().map_err(failed)?.removed {
        print_line(&id)?;
    }
    Ok(0)
}

fn confirmed() -> Result<bool, Failure> {
    let mut out = std::io::stdout().lock();
    // Whoever cannot read the question has said nothing.
    let _ = write!(
        out,
        "WARNING! This will remove all stopped/exited pods..\nAre you sure you want to continue? [y/N] "
    )
    .and_then(|()| out.flush());
    let mut line = String::new();
    match std::io::stdin().read_line(&mut line) {
        Ok(0) => Err(failed(Error::invalid("no answer: standard input has ended").with_hint("give --force"))),
        Ok(_) => Ok(line.trim().to_lowercase().starts_with('y')),
        Err(e) => Err(failed(Error::io("standard input", e))),
    }
}

/// Runs `fluyt pod exists`.
pub fn exists(cli: &Cli, flags: &Parsed) -> Outcome {
    let found = cli.engine().and_then(|engine| engine.pod_exists(&flags.args[0])).map_err(failed)?;
    if found { Ok(0) } else { Err(Failure::Code(1)) }
}

/// Runs `fluyt pod settle`.
pub fn settle(cli: &Cli, flags: &Parsed) -> Outcome {
    let engine = cli.own_engine()?;
    for id in &flags.args {
        engine.pod_settle(id)?;
    }
    Ok(i32::try_from(flags.int("exit-code")).unwrap_or(0))
}
