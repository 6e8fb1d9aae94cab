//! `kube generate`: containers, pods and volumes as Kubernetes YAML.

use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use fluyt_docker_api::time;
use fluyt_docker_api::types::CreateRequest;
use fluyt_engine::pod::PodView;
use fluyt_engine::{ContainerView, Engine, VolumeView};
use fluyt_model::error::IoContext;
use fluyt_model::sandbox::{RestartCondition, SandboxSpec};
use fluyt_model::{Error, Kind, Result};
use fluyt_pod::generate::{self as kube, Generated, Part, Whole};
use fluyt_pod::lower::ImageFacts;

use super::{failed, images};
use crate::cli::cmd::Cli;
use crate::cli::fail::Outcome;
use crate::cli::flags::{Arity, Command, NONE, Parsed, int, switch, text};
use crate::cli::print_text;

/// `fluyt kube generate`.
pub const GENERATE: Command = Command {
    name: "generate",
    arguments: "{CONTAINER...|POD...|VOLUME...}",
    about: "Generate Kubernetes YAML of containers, pods or volumes",
    flags: &[&[
        text('f', "filename", "Write output to the specified path"),
        switch(NONE, "no-trunc", "Accepted: nothing is truncated").hidden(),
        switch(NONE, "podman-only", "Accepted: what Kubernetes has no field for is always annotated")
            .hidden(),
        int('r', "replicas", "Set the replicas number for Deployment kind").default("1"),
        switch('s', "service", "Generate YAML for a Kubernetes service object"),
        text('t', "type", "Generate YAML for the given kind (pod, deployment, daemonset, job)")
            .default("pod"),
    ]],
    arity: Arity::AtLeast(1),
    interspersed: true,
};

/// Nodes offer Services on ports from here on.
const FIRST_NODE_PORT: i64 = 30_000;
/// So many of them.
const NODE_PORTS: i64 = 2768;

/// Runs `fluyt kube generate`.
pub fn generate(cli: &Cli, flags: &Parsed) -> Outcome {
    let text = generated(cli, flags).map_err(failed)?;
    match flags.given("filename") {
        None => print_text(&format!("{text}\n"))?,
        Some(path) => write(path, &text).map_err(failed)?,
    }
    Ok(0)
}

fn write(path: &str, text: &str) -> Result<()> {
    let mut options = std::fs::OpenOptions::new();
    let opened = options.write(true).create_new(true).mode(0o644).open(path);
    let mut file = match opened {
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
            return Err(Error::conflict(format!("cannot write to {path:?}; file exists"))
                .with_hint("remove it, or name another"));
        }
        opened => opened.about(|| format!("cannot write to {path:?}"))?,
    };
    std::io::Write::write_all(&mut file, text.as_bytes()).about(|| path.to_owned())
}

/// What the arguments name.
#[derive(Default)]
struct Named {
    containers: Vec<ContainerView>,
    pods: Vec<PodView>,
    volumes: Vec<VolumeView>,
}

fn generated(cli: &Cli, flags: &Parsed) -> Result<String> {
    let engine = cli.engine()?;
    let kind = kind(flags)?;
    let named = named(engine, &flags.args)?;
    let now = time::rfc3339_seconds(time::now());
    let mut parts: Vec<String> = Vec::new();
    for volume in &named.volumes {
        let spec = &volume.spec;
        parts.push(kube::claim(&spec.name, &spec.driver, &spec.options, &spec.labels, &now));
    }
    let service = flags.on("service");
    let mut made: Vec<Generated> = Vec::new();
    for pod in &named.pods {
        made.push(of_pod(engine, pod, &now, service)?);
    }
    if !named.containers.is_empty() {
        made.push(of_containers(engine, &named.containers, &now, service)?);
    }
    let mut port = node_ports();
    for one in &made {
        for warning in &one.warnings {
            eprintln!("WARN: {warning}");
        }
        if service {
            parts.push(kube::service(&one.pod, &mut port));
        }
    }
    for one in &made {
        parts.push(kube::wrap(&one.pod, kind)?);
    }
    Ok(format!(
        "# Save the output of this file and use kubectl create -f to import\n# it into Kubernetes.\n#\n# Created with fluyt-{}\n{}",
        env!("CARGO_PKG_VERSION"),
        parts.join("---\n")
    ))
}

fn kind(flags: &Parsed) -> Result<kube::Kind> {
    let replicas = flags.int("replicas");
    let kind = match flags.text("type").to_lowercase().as_str() {
        "pod" => kube::Kind::Pod,
        "deployment" => kube::Kind::Deployment(replicas),
        "daemonset" => kube::Kind::DaemonSet,
        "job" => kube::Kind::Job,
        other => {
            return Err(Error::invalid(format!(
                "invalid generation type - only pods, deployments, jobs, and daemonsets are currently supported: {other}"
            )));
        }
    };
    if replicas < 1 {
        return Err(Error::invalid(
            "--replicas has to be greater than or equal to 1. By default, --replicas is set to 1",
        ));
    }
    if replicas > 1 && !matches!(kind, kube::Kind::Deployment(_)) {
        return Err(Error::invalid("--replicas can only be set when --type is set to deployment"));
    }
    Ok(kind)
}

fn named(engine: &Engine, names: &[String]) -> Result<Named> {
    let mut found = Named::default();
    let absent = |e: &Error| e.kind() == Kind::NotFound;
    for name in names {
        match engine.container(name) {
            Ok(view) if !view.spec.pod.is_empty() => {
                return Err(Error::invalid(format!(
                    "container {} is associated with pod {}: use generate on the pod itself",
                    view.id, view.spec.pod
                )));
            }
            Ok(view) => {
                found.containers.push(view);
                continue;
            }
            Err(e) if !absent(&e) => return Err(e),
            Err(_) => {}
        }
        match engine.pod(name) {
            Ok(view) => {
                found.pods.push(view);
                continue;
            }
            Err(e) if !absent(&e) => return Err(e),
            Err(_) => {}
        }
        match engine.volume(name) {
            Ok(view) => found.volumes.push(view),
            Err(e) if !absent(&e) => return Err(e),
            Err(_) => return Err(Error::not_found(format!("name or ID {name:?} not found"))),
        }
    }
    Ok(found)
}

/// A container with what its document and its image say.
struct Read<'a> {
    view: &'a ContainerView,
    entrypoint: Vec<String>,
    cmd: Vec<String>,
    image: ImageFacts,
}

fn read<'a>(engine: &Engine, view: &'a ContainerView) -> Result<Read<'a>> {
    let request: CreateRequest =
        view.document().ok_or_else(|| Error::corrupt(format!("the document of container {}", view.name)))?;
    let id = view.spec.containers.first().map(|c| c.image_id.clone()).unwrap_or_default();
    let image = match images::found(engine, &id)? {
        Some(image) => images::facts(engine, &image)?,
        None => ImageFacts::default(),
    };
    let (entrypoint, cmd) = (request.config.entrypoint.to_vec(), request.config.cmd.to_vec());
    Ok(Read { view, entrypoint, cmd, image })
}

fn of_pod(engine: &Engine, pod: &PodView, now: &str, service: bool) -> Result<Generated> {
    let read: Vec<Read<'_>> = pod.members.iter().map(|m| read(engine, m)).collect::<Result<_>>()?;
    let first = id_start(&pod.id);
    let infra_name = if pod.infra_name == format!("{first}-infra") { "" } else { pod.infra_name.as_str() };
    let share_pid = pod.spec.share.pid;
    let own = pod.members.iter().filter_map(|m| m.spec.containers.first()).map(|c| c.restart.condition);
    let policies = std::iter::once(pod.spec.restart.condition).chain(own);
    let restart = policies.into_iter().find(|c| *c != RestartCondition::No).unwrap_or_default();
    whole(&pod.name, &pod.spec.sandbox, share_pid, infra_name, restart, &read, now, service)
}

fn id_start(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

fn of_containers(engine: &Engine, views: &[ContainerView], now: &str, service: bool) -> Result<Generated> {
    let read: Vec<Read<'_>> = views.iter().map(|view| read(engine, view)).collect::<Result<_>>()?;
    let first = &views[0];
    let mut sandbox = first.spec.clone();
    sandbox.labels.clear();
    let short = id_start(&first.id);
    if sandbox.hostname == short {
        sandbox.hostname.clear();
    }
    for view in &views[1..] {
        sandbox.ports.extend(view.spec.ports.iter().cloned());
        for host in &view.spec.extra_hosts {
            if !sandbox.extra_hosts.contains(host) {
                sandbox.extra_hosts.push(host.clone());
            }
        }
    }
    let restart = first.spec.containers.first().map_or(RestartCondition::No, |c| c.restart.condition);
    let name = format!("{}-pod", kube::without_underscores(&first.name));
    whole(&name, &sandbox, false, "", restart, &read, now, service)
}

#[allow(clippy::too_many_arguments)] // each is one of the pod's own words
fn whole(
    name: &str,
    sandbox: &SandboxSpec,
    share_pid: bool,
    infra_name: &str,
    restart: RestartCondition,
    read: &[Read<'_>],
    now: &str,
    service: bool,
) -> Result<Generated> {
    let parts: Vec<Part<'_>> = read
        .iter()
        .map(|read| Part {
            name: &read.view.name,
            sandbox: &read.view.spec,
            entrypoint: &read.entrypoint,
            cmd: &read.cmd,
            image: &read.image,
        })
        .collect();
    let whole = Whole { name, sandbox, share_pid, infra_name, restart, parts: &parts, now, service };
    let look = |path: &Path| match std::fs::metadata(path) {
        Ok(found) if found.is_dir() => "Directory",
        Ok(_) => "File",
        Err(_) => "DirectoryOrCreate",
    };
    Ok(kube::pod(whole, &look)?)
}

/// Ports of nodes, from a random one on, none twice.
fn node_ports() -> impl FnMut() -> i64 {
    let mut random = [0_u8; 2];
    // Any other beginning is as good.
    let _ = rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty());
    let mut next = i64::from(u16::from_ne_bytes(random));
    move || {
        next += 1;
        FIRST_NODE_PORT + next % NODE_PORTS
    }
}
