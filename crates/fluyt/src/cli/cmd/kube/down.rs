//! `kube down`: what was played is taken away again.

use fluyt_engine::pod::PodRemoveOptions;
use fluyt_engine::{Engine, StopOptions};
use fluyt_model::{Error, Kind, Result};
use fluyt_pod::lower::pod_volumes;

use super::failed;
use super::secrets::Secrets;
use super::source::Sources;
use crate::cli::cmd::Cli;
use crate::cli::fail::{self, Failure, Outcome};
use crate::cli::flags::{Arity, Command, NONE, Parsed, switch};
use crate::cli::print_line;

/// `fluyt kube down`.
pub const DOWN: Command = Command {
    name: "down",
    arguments: "KUBEFILE [KUBEFILE...]|URL|-",
    about: "Remove pods that were made of Kubernetes YAML",
    flags: &[&[switch(NONE, "force", "Remove volumes, too")]],
    arity: Arity::AtLeast(1),
    interspersed: true,
};

/// Runs `fluyt kube down`.
pub fn down(cli: &Cli, flags: &Parsed) -> Outcome {
    let sources = Sources::all(&flags.args).map_err(failed)?;
    teardown(cli, &sources, flags.on("force"))
}

/// Stops and removes the pods of a stream, its secrets and, with `force`, its volumes; prints what was removed.
pub fn teardown(cli: &Cli, sources: &Sources, force: bool) -> Outcome {
    let engine = cli.engine()?;
    let secrets = Secrets::of(cli.root());
    let stream = &sources.stream;
    let mut wrong = 0;
    let mut note = |done: Result<bool>, name: &str| -> Result<()> {
        match done {
            Ok(true) => print_line(name),
            Ok(false) => Ok(()),
            Err(e) => {
                wrong += 1;
                fail::print(&e);
                Ok(())
            }
        }
    };
    let mut pods = Vec::new();
    for pod in &stream.pods {
        match engine.pod(&pod.name) {
            Ok(view) if view.name == pod.name => pods.push(view.id),
            Err(e) if e.kind() != Kind::NotFound => return Err(failed(e)),
            _ => {}
        }
    }
    print_line("Pods stopped:")?;
    for id in &pods {
        note(there(engine.pod_stop(id, &StopOptions::default())), id)?;
    }
    print_line("Pods removed:")?;
    for id in &pods {
        let how = PodRemoveOptions { force: true, volumes: true, ..PodRemoveOptions::default() };
        note(there(engine.pod_remove(id, how)), id)?;
    }
    let mut kept: Vec<String> = stream.claims.iter().map(|c| c.metadata.name.clone()).collect();
    for pod in &stream.pods {
        let (own, others) = pod_volumes(&pod.name, &pod.spec);
        for name in own {
            // It went with the pod; that it was there is nothing to tell.
            note(there(engine.volume_remove(&name, true)).map(|_| false), &name)?;
        }
        kept.extend(others);
    }
    print_line("Secrets removed:")?;
    for secret in &stream.secrets {
        note(secrets.remove(&secret.metadata.name), &secret.metadata.name)?;
    }
    print_line("Volumes removed:")?;
    if force {
        kept.sort();
        kept.dedup();
        for name in &kept {
            let done = match engine.volume_remove(name, false) {
                Err(e) if e.kind() == Kind::NotFound => Ok(false),
                done => done.map(|()| true),
            };
            note(done, name)?;
        }
    }
    if wrong == 0 { Ok(0) } else { Err(Failure::Code(super::FAILED)) }
}

/// Removes a pod of that name, if there is one.
///
/// # Errors
/// It cannot be removed.
pub fn forget(engine: &Engine, name: &str) -> Result<()> {
    let how = PodRemoveOptions { force: true, volumes: true, ..PodRemoveOptions::default() };
    match engine.pod(name) {
        Ok(view) if view.name == name => there(engine.pod_remove(&view.id, how)).map(drop),
        Err(e) if e.kind() != Kind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// Whether something was there to be done something to.
fn there(done: Result<(), Error>) -> Result<bool> {
    match done {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == Kind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}
