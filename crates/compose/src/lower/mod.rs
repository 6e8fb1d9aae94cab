//! A service -> what Docker is asked to create. Pure: ids of images, networks and other containers come as arguments.

#[cfg(test)]
mod coverage;
mod host;
mod mounts;
mod network;

use std::collections::BTreeMap;

use fluyt_docker_api::api::CreateContainer;
use fluyt_docker_api::types::{
    ContainerConfig, CreateRequest, EndpointSettings, HealthConfig, List, NetworkCreate, VolumeCreate,
};
use fluyt_model::{Error, Result};

use crate::document::{Node, Value};
use crate::labels;
use crate::project::Project;
use crate::view::View;

pub use mounts::{Content, contents};
pub use network::network_of;

/// What a container depends on that is not in its project's files.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// The id of its image, if it is known.
    pub image_id: String,
    /// The container that it takes the place of.
    pub replaces: Option<String>,
    /// Its anonymous volumes so far: target -> name.
    pub inherited: BTreeMap<String, String>,
    /// Containers of services that it shares something with: service -> id or name of its first container.
    pub containers: BTreeMap<String, String>,
}

/// A container to be made, and the networks that it is plugged into after that.
#[derive(Clone, Debug, Default)]
pub struct Lowered {
    /// What is created.
    pub create: CreateContainer,
    /// Further networks: name -> the container's place in it.
    pub further: Vec<(String, EndpointSettings)>,
    /// Files that are put into it before it starts.
    pub contents: Vec<Content>,
}

/// The name of a container of a service.
pub fn container_name(project: &Project, service: &str, number: u32) -> String {
    let given = project.service(service).map(|node| node.text("container_name")).unwrap_or_default();
    if given.is_empty() { format!("{}-{service}-{number}", project.name) } else { given }
}

/// What container `number` of a service is made of.
///
/// # Errors
/// The service refers to a service without containers, or says what Docker has no words for.
pub fn container(project: &Project, service: &str, number: u32, around: &Surroundings) -> Result<Lowered> {
    let node = service_of(project, service)?;
    let (host_config, networking) = host::host_config(project, service, node, around)?;
    let mut further = networking;
    let mut request = CreateRequest {
        config: config(project, service, node, number, around)?,
        host_config,
        ..Default::default()
    };
    if !further.is_empty() {
        let (name, first) = further.remove(0);
        request.networking_config.endpoints_config.insert(name, first);
    }
    let create = CreateContainer {
        name: container_name(project, service, number),
        platform: node.text("platform"),
        request,
        signature_policy: None,
    };
    Ok(Lowered { create, further, contents: contents(project, service)? })
}

/// The tree of a service.
///
/// # Errors
/// There is none of that name.
pub fn service_of<'p>(project: &'p Project, service: &str) -> Result<&'p Node> {
    project.service(service).ok_or_else(|| Error::not_found(format!("no such service: {service}")))
}

fn config(
    project: &Project,
    service: &str,
    node: &Node,
    number: u32,
    around: &Surroundings,
) -> Result<ContainerConfig> {
    let words = |key: &str| -> List<String> {
        match node.get(key) {
            Some(_) => node.texts(key).into(),
            None => List::null(),
        }
    };
    let interactive = node.flag("stdin_open");
    Ok(ContainerConfig {
        hostname: node.text("hostname"),
        domainname: node.text("domainname"),
        user: node.text("user"),
        exposed_ports: network::exposed(node)?,
        tty: node.flag("tty"),
        open_stdin: interactive,
        stdin_once: false,
        env: environment(node).into(),
        cmd: words("command"),
        entrypoint: words("entrypoint"),
        healthcheck: health(node),
        image: project.image(service).unwrap_or_default(),
        working_dir: node.text("working_dir"),
        labels: container_labels(project, service, node, number, around).into(),
        stop_signal: node.text("stop_signal"),
        stop_timeout: node.span("stop_grace_period").map(|n| (n + 999_999_999) / 1_000_000_000),
        mac_address: String::new(),
        ..ContainerConfig::default()
    })
}

/// `NAME=value`, or `NAME` alone for one that is taken away.
pub fn environment(node: &Node) -> Vec<String> {
    let variables = node.entries("environment").into_iter();
    variables
        .map(|(name, value)| match value.scalar() {
            Some(value) => format!("{name}={value}"),
            None => name.to_owned(),
        })
        .collect()
}

fn container_labels(
    project: &Project,
    service: &str,
    node: &Node,
    number: u32,
    around: &Surroundings,
) -> BTreeMap<String, String> {
    let mut map = node.dict("labels");
    let depends: Vec<String> = node
        .entries("depends_on")
        .into_iter()
        .map(|(name, on)| format!("{name}:{}:{}", on.text("condition"), on.flag("restart")))
        .collect();
    let files: Vec<String> = project.files.iter().map(|f| f.display().to_string()).collect();
    let mut set = |key: &str, value: String| map.insert(key.to_owned(), value);
    set(labels::PROJECT, project.name.clone());
    set(labels::SERVICE, service.to_owned());
    set(labels::NUMBER, number.to_string());
    set(labels::ONE_OFF, "False".to_owned());
    set(labels::CONFIG_HASH, project.hash(service).unwrap_or_default());
    set(labels::DEPENDS_ON, depends.join(","));
    set(labels::WORKING_DIR, project.directory.display().to_string());
    set(labels::CONFIG_FILES, files.join(","));
    set(labels::VERSION, labels::OUR_VERSION.to_owned());
    if !around.image_id.is_empty() {
        set(labels::IMAGE, around.image_id.clone());
    }
    if let Some(old) = &around.replaces {
        set(labels::REPLACE, old.clone());
    }
    map
}

fn health(node: &Node) -> Option<HealthConfig> {
    let check = node.get("healthcheck")?;
    let test = if check.flag("disable") { vec!["NONE".to_owned()] } else { check.texts("test") };
    Some(HealthConfig {
        test: List::null_if_empty(test),
        interval: check.span("interval").unwrap_or(0),
        timeout: check.span("timeout").unwrap_or(0),
        start_period: check.span("start_period").unwrap_or(0),
        start_interval: check.span("start_interval").unwrap_or(0),
        retries: check.int("retries").unwrap_or(0),
    })
}

/// A network of a project.
pub fn network(project: &Project, key: &str) -> NetworkCreate {
    network::create(project, key)
}

/// A volume of a project.
pub fn volume(project: &Project, key: &str) -> VolumeCreate {
    let Some(node) = project.tree.get("volumes").and_then(|v| v.get(key)) else {
        return VolumeCreate::default();
    };
    let mut labels = node.dict("labels");
    labels.insert(labels::VOLUME.to_owned(), key.to_owned());
    labels.insert(labels::PROJECT.to_owned(), project.name.clone());
    labels.insert(labels::VERSION.to_owned(), labels::OUR_VERSION.to_owned());
    labels.insert(labels::CONFIG_HASH.to_owned(), project.hash_of_volume(key).unwrap_or_default());
    VolumeCreate {
        name: node.text("name"),
        driver: node.text("driver"),
        driver_opts: node.dict("driver_opts").into(),
        labels: labels.into(),
    }
}

/// Whether a network or volume is made by somebody else.
pub fn is_external(project: &Project, section: &str, key: &str) -> bool {
    let node = project.tree.get(section).and_then(|s| s.get(key));
    node.and_then(|n| n.get("external")).is_some_and(|e| e.value == Value::Bool(true))
}

/// The name of a network or volume.
pub fn resource_name(project: &Project, section: &str, key: &str) -> String {
    project.tree.get(section).and_then(|s| s.get(key)).map(|n| n.text("name")).unwrap_or_default()
}
