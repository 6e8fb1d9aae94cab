//! Volumes, bind mounts, tmpfs, images, secrets and configs of a container.

use fluyt_docker_api::types::mount::{BindOptions, ImageOptions, TmpfsOptions, VolumeOptions};
use fluyt_docker_api::types::{Map, Mount};
use fluyt_model::{Error, Result};

use super::{Surroundings, resource_name, service_of};
use crate::document::Node;
use crate::project::Project;
use crate::view::View;

/// A file that is put into a container before it starts: a secret or config that is not a file of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// Where in the container.
    pub target: String,
    /// What is in it.
    pub bytes: Vec<u8>,
    /// Permissions.
    pub mode: u32,
    /// Owner.
    pub uid: u64,
    /// Group.
    pub gid: u64,
}

/// Mounts in both of Docker's forms: binds make directories of the host that are missing.
pub fn mounts(
    project: &Project,
    service: &str,
    node: &Node,
    around: &Surroundings,
) -> Result<(Vec<String>, Vec<Mount>)> {
    let (mut binds, mut mounts) = (Vec::new(), Vec::new());
    let mut targets = Vec::new();
    for volume in node.items("volumes") {
        targets.push(volume.text("target"));
        match bind(project, volume) {
            Some(text) => binds.push(text),
            None => mounts.push(mount(project, service, volume, around)?),
        }
    }
    for (target, name) in &around.inherited {
        if !targets.contains(target) {
            binds.push(format!("{name}:{target}:rw"));
        }
    }
    for (section, below) in [("configs", "/"), ("secrets", "/run/secrets/")] {
        for reference in node.items(section) {
            if let Some(file) = file_of(project, section, reference) {
                let target = target_of(reference, below);
                mounts.push(Mount {
                    kind: "bind".to_owned(),
                    source: file,
                    target,
                    read_only: true,
                    ..Mount::default()
                });
            }
        }
    }
    Ok((binds, mounts))
}

/// The text form, if it says everything.
fn bind(project: &Project, volume: &Node) -> Option<String> {
    let source = volume.text("source");
    let mut options = vec![if volume.flag("read_only") { "ro" } else { "rw" }.to_owned()];
    let source = match volume.text("type").as_str() {
        "bind" => {
            let bind = volume.get("bind");
            if bind
                .is_some_and(|b| b.maybe("create_host_path") == Some(false) || b.get("recursive").is_some())
            {
                return None;
            }
            options.extend(bind.map(|b| b.text("selinux")).filter(|t| !t.is_empty()));
            options.extend(bind.map(|b| b.text("propagation")).filter(|t| !t.is_empty()));
            source
        }
        "volume" if !source.is_empty() => {
            let inner = volume.get("volume");
            if inner.is_some_and(|v| v.get("subpath").is_some() || v.get("labels").is_some()) {
                return None;
            }
            if inner.is_some_and(|v| v.flag("nocopy")) {
                options.push("nocopy".to_owned());
            }
            resource_name(project, "volumes", &source)
        }
        _ => return None,
    };
    Some(format!("{source}:{}:{}", volume.text("target"), options.join(",")))
}

fn mount(project: &Project, service: &str, volume: &Node, around: &Surroundings) -> Result<Mount> {
    let kind = volume.text("type");
    let target = volume.text("target");
    let source = volume.text("source");
    let mut mount = Mount {
        source: match (kind.as_str(), source.as_str()) {
            ("volume", "") => around.inherited.get(&target).cloned().unwrap_or_default(),
            ("volume", _) => resource_name(project, "volumes", &source),
            _ => source,
        },
        kind: kind.clone(),
        target,
        read_only: volume.flag("read_only"),
        consistency: volume.text("consistency"),
        ..Mount::default()
    };
    let inner = volume.get(&kind);
    match kind.as_str() {
        "bind" => {
            let recursive = inner.map(|b| b.text("recursive")).unwrap_or_default();
            mount.bind_options = inner.map(|b| BindOptions {
                propagation: b.text("propagation"),
                create_mountpoint: b.maybe("create_host_path").unwrap_or(true),
                non_recursive: recursive == "disabled",
                read_only_non_recursive: recursive == "writable",
                read_only_force_recursive: recursive == "readonly",
                ..BindOptions::default()
            });
        }
        "volume" => {
            mount.volume_options =
                inner.filter(|v| v.map().is_some_and(|m| !m.is_empty())).map(|v| VolumeOptions {
                    no_copy: v.flag("nocopy"),
                    labels: Map::null_if_empty(v.dict("labels")),
                    subpath: v.text("subpath"),
                    driver_config: None,
                });
        }
        "tmpfs" => {
            mount.tmpfs_options = inner.map(|t| TmpfsOptions {
                size_bytes: t.amount("size"),
                mode: u32::try_from(t.int("mode").unwrap_or(0)).unwrap_or(0),
                ..TmpfsOptions::default()
            });
        }
        "image" => {
            mount.image_options =
                inner.map(|i| ImageOptions { subpath: i.text("subpath"), ..ImageOptions::default() });
        }
        other => {
            return Err(Error::unsupported(format!(
                "service {service}: mounts of type {other} are not there on this system"
            ))
            .with_hint("use a volume or a bind mount"));
        }
    }
    Ok(mount)
}

/// The host's file behind a secret or config, if it is one.
fn file_of(project: &Project, section: &str, reference: &Node) -> Option<String> {
    let object = project.tree.get(section)?.get(&reference.text("source"))?;
    Some(object.text("file")).filter(|f| !f.is_empty())
}

fn target_of(reference: &Node, below: &str) -> String {
    match reference.text("target") {
        target if target.is_empty() => format!("{below}{}", reference.text("source")),
        target if target.starts_with('/') => target,
        target => format!("{below}{target}"),
    }
}

/// Secrets and configs of a service that are not files.
///
/// # Errors
/// A variable that one comes from is not set; one that nobody here can provide.
pub fn contents(project: &Project, service: &str) -> Result<Vec<Content>> {
    let node = service_of(project, service)?;
    let mut out = Vec::new();
    for (section, below, what) in [("configs", "/", "config"), ("secrets", "/run/secrets/", "secret")] {
        for reference in node.items(section) {
            let source = reference.text("source");
            let Some(object) = project.tree.get(section).and_then(|s| s.get(&source)) else { continue };
            if file_of(project, section, reference).is_some() {
                continue;
            }
            if object.flag("external") {
                return Err(Error::unsupported(format!("service {service}: {what} {source} is external"))
                    .with_hint("outside a cluster it must come from a file or the environment"));
            }
            let variable = object.text("environment");
            let text = match (variable.as_str(), project.environment.get(&variable)) {
                ("", _) => object.text("content"),
                (_, Some(value)) => value.clone(),
                (name, None) => {
                    return Err(Error::invalid(format!(
                        "{what} {source} comes from the variable {name}, which is not set"
                    ))
                    .with_hint(format!("set {name} in the environment or in .env")));
                }
            };
            let mode = u32::from_str_radix(&reference.text("mode"), 8).unwrap_or(0o444);
            out.push(Content {
                target: target_of(reference, below),
                bytes: text.into_bytes(),
                mode,
                uid: reference.text("uid").parse().unwrap_or(0),
                gid: reference.text("gid").parse().unwrap_or(0),
            });
        }
    }
    Ok(out)
}
