//! `pre_start`: containers of their own that run to their end, one after the other, before a service starts. They share its
//! volumes and its networks. One that fails stays, so that it can be looked at, until the next attempt.

use fluyt_docker_api::api::{
    CreateContainer, Docker, Filters, ListContainers, LogsOf, Next, PullImage, Quiet, RemoveContainer,
    StartContainer, Wait, WaitCondition,
};
use fluyt_docker_api::types::CreateRequest;
use fluyt_model::{Error, Kind, Result};

use crate::document::Node;
use crate::labels;
use crate::lower::{self, Surroundings};
use crate::project::Project;
use crate::view::View;

/// What containers of hooks are labelled with.
const HOOK: &str = "pre_start";
/// So many lines of a hook that failed are shown.
const LINES: usize = 10;

/// Runs the hooks of a service before its container `id` is started; `says` gets what they say.
///
/// # Errors
/// A hook cannot be run, or ends with something else than 0.
pub fn pre_start(
    docker: &dyn Docker,
    project: &Project,
    service: &str,
    id: &str,
    around: &Surroundings,
    says: &dyn Fn(&str, &[u8]),
) -> Result<()> {
    let node = lower::service_of(project, service)?;
    let hooks = node.items("pre_start");
    if let Some(n) = hooks.iter().position(|h| h.flag("per_replica")) {
        return Err(Error::unsupported(format!(
            "service {service}: pre_start[{n}]: per_replica is not yet supported"
        ))
        .with_hint("remove per_replica, or set it to false"));
    }
    clear(docker, project, service)?;
    for (n, hook) in hooks.iter().enumerate() {
        let what = format!("service {service}: pre_start[{n}]");
        let made =
            create(docker, project, service, node, hook, id, around).map_err(|e| e.context(what.clone()))?;
        let who = format!("{service} pre_start[{n}] ->");
        let (code, tail) =
            run(docker, &made, &|bytes| says(&who, bytes)).map_err(|e| e.context(what.clone()))?;
        if code != 0 {
            let short: String = made.chars().take(12).collect();
            let tail = if tail.is_empty() { String::new() } else { format!(": {}", tail.join("\n")) };
            return Err(Error::internal(format!("{what} exited with code {code}{tail}"))
                .with_hint(format!("its container {short} is still there: fluyt logs {short}")));
        }
        docker.container_remove(&made, RemoveContainer { force: false, volumes: true, link: false })?;
    }
    Ok(())
}

/// Removes what an attempt before has left.
fn clear(docker: &dyn Docker, project: &Project, service: &str) -> Result<()> {
    let mut filters = Filters::default();
    for (key, value) in
        [(labels::PROJECT, project.name.as_str()), (labels::SERVICE, service), (labels::HOOK, HOOK)]
    {
        filters.add("label", &format!("{key}={value}"));
    }
    let wanted = ListContainers { all: true, filters, ..ListContainers::default() };
    for old in docker.container_list(&wanted)? {
        match docker.container_remove(&old.id, RemoveContainer { force: true, volumes: true, link: false }) {
            Err(e) if e.kind() != Kind::NotFound => return Err(e),
            _ => {}
        }
    }
    Ok(())
}

fn create(
    docker: &dyn Docker,
    project: &Project,
    service: &str,
    node: &Node,
    hook: &Node,
    id: &str,
    around: &Surroundings,
) -> Result<String> {
    // Its networks, and its place in them, are those of the service.
    let mut lowered = lower::container(project, service, 1, around)?;
    let own = std::mem::take(&mut lowered.create.request);
    let mut request = CreateRequest { networking_config: own.networking_config, ..CreateRequest::default() };
    let config = &mut request.config;
    config.image = Some(hook.text("image")).filter(|i| !i.is_empty()).unwrap_or(own.config.image);
    config.cmd = hook.texts("command").into();
    config.user = hook.text("user");
    config.working_dir = hook.text("working_dir");
    let set = hook.dict("environment");
    let mut variables = lower::environment(node);
    variables.retain(|v| !set.contains_key(v.split('=').next().unwrap_or_default()));
    variables.extend(lower::environment(hook));
    config.env = variables.into();
    for (key, value) in [
        (labels::PROJECT, project.name.as_str()),
        (labels::SERVICE, service),
        (labels::VERSION, labels::OUR_VERSION),
        (labels::HOOK, HOOK),
    ] {
        config.labels.insert(key.to_owned(), value.to_owned());
    }
    let image = config.image.clone();
    request.host_config.network_mode = own.host_config.network_mode;
    request.host_config.privileged = hook.flag("privileged");
    request.host_config.volumes_from = vec![id.to_owned()].into();
    lowered.create = CreateContainer {
        name: String::new(),
        platform: node.text("platform"),
        request,
        signature_policy: None,
    };
    lowered.contents.clear();
    match super::create(docker, lowered.clone()) {
        Err(e) if e.kind() == Kind::NotFound && docker.image_inspect(&image, "").is_err() => {
            let wanted = PullImage {
                reference: image.clone(),
                platform: node.text("platform"),
                ..PullImage::default()
            };
            docker.image_pull(&wanted, &Quiet).map_err(|e| e.context(format!("image {image}")))?;
            super::create(docker, lowered)
        }
        other => other,
    }
}

/// Starts a container and waits for its end; its exit code and its last lines.
fn run(docker: &dyn Docker, id: &str, says: &dyn Fn(&[u8])) -> Result<(i64, Vec<String>)> {
    let remove = || {
        // It has never run: there is nothing to look at.
        let _ = docker.container_remove(id, RemoveContainer { force: true, volumes: true, link: false });
    };
    let mut ended = docker.container_wait(id, WaitCondition::NextExit).inspect_err(|_| remove())?;
    docker.container_start(id, &StartContainer::default()).inspect_err(|_| remove())?;
    let wanted = LogsOf { follow: true, stdout: true, stderr: true, ..LogsOf::default() };
    let mut logs = docker.container_logs(id, wanted)?;
    let mut tail: Vec<String> = Vec::new();
    while let Next::Item(line) = logs.lines.next(Wait::FOREVER)? {
        says(&line.line);
        tail.push(String::from_utf8_lossy(&line.line).trim_end().to_owned());
        if tail.len() > LINES {
            tail.remove(0);
        }
    }
    match ended.next(Wait::FOREVER)? {
        Next::Item(end) => Ok((end.code, tail)),
        _ => Ok((docker.container_inspect(id, false)?.state.exit_code, tail)),
    }
}
