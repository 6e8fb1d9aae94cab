//! `pod`: containers that share a sandbox, with Podman's verbs, flags and exit codes (125 for what fails).

mod create;
mod document;
mod inspect;
mod life;
mod list;
mod watch;

use fluyt_engine::Engine;
use fluyt_engine::pod::PodView;
use fluyt_model::error::IoContext;
use fluyt_model::{Error, Result};

use super::Cli;
use crate::cli::fail::{self, Failure, Outcome};
use crate::cli::flags::{Flag, Parsed, list, switch};
use crate::cli::print_line;
use crate::cli::tree::{Node, plain};

pub use create::enter;

/// All words after `fluyt pod`.
pub const POD: &[Node] = &[
    plain(&create::CLONE, create::clone),
    plain(&create::CREATE, create::create),
    plain(&life::EXISTS, life::exists),
    plain(&inspect::INSPECT, inspect::inspect),
    plain(&life::KILL, life::kill),
    plain(&watch::LOGS, watch::logs),
    plain(&life::PAUSE, life::pause),
    plain(&life::PRUNE, life::prune),
    plain(&list::PS, list::ps).or(&["ls", "list"]),
    plain(&life::RESTART, life::restart),
    plain(&life::RM, life::rm),
    plain(&life::SETTLE, life::settle).hidden(),
    plain(&life::START, life::start),
    plain(&watch::STATS, watch::stats),
    plain(&life::STOP, life::stop),
    plain(&watch::TOP, watch::top),
    plain(&life::UNPAUSE, life::unpause),
];

/// Podman's exit code of what fails.
const FAILED: i32 = 125;

const ALL: Flag = switch('a', "all", "Act on all pods");
const LATEST: Flag = switch('l', "latest", "Act on the pod that was made last");
const ID_FILE: Flag = list('\0', "pod-id-file", "Read the pod ID from the file");

/// A failure with Podman's exit code.
fn failed(error: Error) -> Failure {
    Failure::Coded(error, FAILED)
}

/// The pods that a command is about: those named, those in `--pod-id-file`, `--all`, or `--latest`.
fn chosen(engine: &Engine, flags: &Parsed) -> Result<Vec<String>> {
    let (all, latest) = (flags.has("all") && flags.on("all"), flags.on("latest"));
    let mut names = flags.args.clone();
    if flags.has("pod-id-file") {
        for path in flags.all("pod-id-file") {
            let text = std::fs::read_to_string(path).about(|| format!("pod ID file {path}"))?;
            names.extend(text.lines().next().map(|line| line.trim().to_owned()));
        }
    }
    match (all || latest, names.is_empty()) {
        (true, false) => Err(Error::invalid("--all and --latest cannot be combined with named pods")),
        (false, true) => Err(Error::invalid("you must provide at least one name or id")
            .with_hint("`fluyt pod ps` lists all pods")),
        (false, false) => Ok(names),
        (true, true) => {
            let pods = engine.pods()?;
            let count = if all { pods.len() } else { 1 };
            if pods.is_empty() && latest {
                return Err(Error::not_found("there are no pods"));
            }
            Ok(pods.into_iter().take(count).map(|pod| pod.id).collect())
        }
    }
}

/// The only pod that a command is about.
fn single(engine: &Engine, flags: &Parsed, first: Option<&String>) -> Result<PodView> {
    match (first, flags.on("latest")) {
        (Some(name), false) => engine.pod(name),
        (None, true) => {
            engine.pods()?.into_iter().next().ok_or_else(|| Error::not_found("there are no pods"))
        }
        (None, false) => Err(Error::invalid("you must provide one name or id")),
        (Some(_), true) => Err(Error::invalid("--latest cannot be combined with a named pod")),
    }
}

/// Does something to each pod and prints its id; goes on after failures.
fn each(cli: &Cli, flags: &Parsed, act: impl Fn(&Engine, &str) -> Result<()>) -> Outcome {
    let engine = cli.engine().map_err(failed)?;
    let mut ok = true;
    for name in chosen(engine, flags).map_err(failed)? {
        let done = engine.pod(&name).and_then(|pod| act(engine, &pod.id).map(|()| pod.id));
        match done {
            Ok(id) => print_line(&id)?,
            Err(error) => {
                fail::print(&error);
                ok = false;
            }
        }
    }
    if ok { Ok(0) } else { Err(Failure::Code(FAILED)) }
}
