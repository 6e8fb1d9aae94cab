//! Devices by name: the Container Device Interface (CDI), specification 0.8.
//!
//! A specification file in `/etc/cdi` or `/var/run/cdi` (the latter wins) describes devices of one kind
//! (`vendor.com/class`); a container that asks for `vendor.com/class=name` gets that device's edits and those of its
//! file. Reading is done here; what comes out is applied to the OCI configuration.

use std::path::{Path, PathBuf};

use fluyt_model::error::IoContext;
use fluyt_model::{Error, Kind, Result};
use fluyt_runtime::spec::{Device, DeviceRule, Hook, Hooks, Linux, Mount, Process, Resources, Spec};
use serde::Deserialize;

use crate::lookup;

/// Where specifications are, later ones winning.
pub const DIRECTORIES: [&str; 2] = ["/etc/cdi", "/var/run/cdi"];
/// A specification longer than this is refused, bytes.
const MAX_FILE: u64 = 4 << 20;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    kind: String,
    #[serde(default)]
    devices: Vec<Named>,
    #[serde(default)]
    container_edits: Edits,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Named {
    name: String,
    #[serde(default)]
    container_edits: Edits,
}

/// What a device changes in a container.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Edits {
    env: Vec<String>,
    device_nodes: Vec<Node>,
    mounts: Vec<EditMount>,
    hooks: Vec<EditHook>,
    additional_gids: Vec<u32>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Node {
    path: PathBuf,
    host_path: PathBuf,
    #[serde(rename = "type")]
    kind: String,
    major: Option<i64>,
    minor: Option<i64>,
    file_mode: Option<u32>,
    permissions: String,
    uid: Option<u32>,
    gid: Option<u32>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct EditMount {
    host_path: PathBuf,
    container_path: PathBuf,
    options: Vec<String>,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct EditHook {
    hook_name: String,
    path: PathBuf,
    args: Vec<String>,
    env: Vec<String>,
    timeout: Option<i64>,
}

/// The edits of all devices `names`, each `vendor.com/class=name`, from the specifications in `directories`.
///
/// # Errors
/// `Invalid` for a malformed name, `NotFound` for a device that no specification has, `Corrupt` for a specification
/// that cannot be read.
pub fn edits(names: &[String], directories: &[&Path]) -> Result<Vec<Edits>> {
    let mut found = Vec::new();
    if names.is_empty() {
        return Ok(found);
    }
    let files = read(directories)?;
    let mut kinds: Vec<&str> = Vec::new();
    for name in names {
        let Some((kind, device)) = name.split_once('=').filter(|(k, d)| k.contains('/') && !d.is_empty())
        else {
            return Err(Error::invalid(format!("invalid device name \"{name}\""))
                .with_hint("a device is named vendor.com/class=name"));
        };
        // Later directories win, and so do later files of one directory.
        let hit = files
            .iter()
            .rev()
            .filter(|f| f.kind == kind)
            .find_map(|f| f.devices.iter().find(|d| d.name == device).map(|d| (f, d)));
        let Some((file, device)) = hit else {
            let known: Vec<String> = files
                .iter()
                .flat_map(|f| f.devices.iter().map(move |d| format!("{}={}", f.kind, d.name)))
                .collect();
            return Err(Error::not_found(format!("unresolvable CDI device {name}")).with_hint(
                match known.len() {
                    0 => "there is no CDI specification in /etc/cdi or /var/run/cdi".to_owned(),
                    _ => format!("known devices: {}", known.join(", ")),
                },
            ));
        };
        if !kinds.contains(&kind) {
            kinds.push(kind);
            found.push(file.container_edits.clone());
        }
        found.push(device.container_edits.clone());
    }
    Ok(found)
}

/// Whether this machine has a CDI device.
///
/// # Errors
/// A name that is none; a specification that cannot be read.
pub fn has_device(name: &str) -> Result<bool> {
    match edits(&[name.to_owned()], &DIRECTORIES.map(Path::new)) {
        Ok(_) => Ok(true),
        Err(e) if e.kind() == Kind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

fn read(directories: &[&Path]) -> Result<Vec<File>> {
    let mut files = Vec::new();
    for directory in directories {
        let Ok(entries) = std::fs::read_dir(directory) else { continue };
        let mut paths: Vec<PathBuf> = entries.flatten().map(|e| e.path()).collect();
        paths.sort();
        for path in paths {
            let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
            if !matches!(extension, "json" | "yaml" | "yml") {
                continue;
            }
            let about = || path.display().to_string();
            if std::fs::metadata(&path).about(about)?.len() > MAX_FILE {
                return Err(Error::corrupt(format!("{}: longer than {MAX_FILE} bytes", path.display())));
            }
            let text = std::fs::read_to_string(&path).about(about)?;
            // JSON is YAML too.
            let file = serde_yaml_ng::from_str(&text).map_err(|e| {
                Error::corrupt(format!("{}: not a CDI specification", path.display())).with_source(e)
            })?;
            files.push(file);
        }
    }
    Ok(files)
}

/// Applies `edits` to an OCI configuration.
///
/// # Errors
/// A device node that the specification names does not exist on this host.
pub fn apply(edits: &[Edits], spec: &mut Spec) -> Result<()> {
    for edit in edits {
        let process = spec.process.get_or_insert_with(Process::default);
        for entry in &edit.env {
            let key = entry.split_once('=').map_or(entry.as_str(), |(k, _)| k);
            process.env.retain(|e| e.split_once('=').map_or(e.as_str(), |(k, _)| k) != key);
            process.env.push(entry.clone());
        }
        process.user.additional_gids.extend(edit.additional_gids.iter().filter(|g| **g != 0));
        for mount in &edit.mounts {
            spec.mounts.retain(|m| m.destination != mount.container_path);
            spec.mounts.push(Mount {
                destination: mount.container_path.clone(),
                source: mount.host_path.clone(),
                kind: if mount.kind.is_empty() { "bind".to_owned() } else { mount.kind.clone() },
                options: mount.options.clone(),
                ..Mount::default()
            });
        }
        for hook in &edit.hooks {
            add_hook(spec.hooks.get_or_insert_with(Hooks::default), hook)?;
        }
        let linux = spec.linux.get_or_insert_with(Linux::default);
        for node in &edit.device_nodes {
            add_device(linux, node)?;
        }
    }
    Ok(())
}

fn add_hook(hooks: &mut Hooks, hook: &EditHook) -> Result<()> {
    let list = match hook.hook_name.as_str() {
        "prestart" => &mut hooks.prestart,
        "createRuntime" => &mut hooks.create_runtime,
        "createContainer" => &mut hooks.create_container,
        "startContainer" => &mut hooks.start_container,
        "poststart" => &mut hooks.poststart,
        "poststop" => &mut hooks.poststop,
        other => return Err(Error::corrupt(format!("CDI specification: unknown hook {other}"))),
    };
    list.push(Hook {
        path: hook.path.clone(),
        args: hook.args.clone(),
        env: hook.env.clone(),
        timeout: hook.timeout,
    });
    Ok(())
}

fn add_device(linux: &mut Linux, node: &Node) -> Result<()> {
    let host = if node.host_path.as_os_str().is_empty() { &node.path } else { &node.host_path };
    let looked_up = fluyt_model::sandbox::DeviceSpec {
        host_path: host.clone(),
        container_path: node.path.clone(),
        permissions: if node.permissions.is_empty() { "rw".to_owned() } else { node.permissions.clone() },
    };
    let complete = node.major.is_some() && !node.kind.is_empty();
    let found = if complete { None } else { lookup::devices(&looked_up)?.into_iter().next() };
    let kind = if node.kind.is_empty() {
        found.as_ref().map_or("c".into(), |d| d.kind.to_string())
    } else {
        node.kind.clone()
    };
    let major = node.major.or(found.as_ref().map(|d| d.major)).unwrap_or_default();
    let minor = node.minor.or(found.as_ref().map(|d| d.minor)).unwrap_or_default();
    linux.devices.retain(|d| d.path != node.path);
    linux.devices.push(Device {
        path: node.path.clone(),
        kind: kind.clone(),
        major,
        minor,
        file_mode: node.file_mode.or(found.as_ref().map(|d| d.mode)),
        uid: node.uid.or(found.as_ref().map(|d| d.uid)),
        gid: node.gid.or(found.as_ref().map(|d| d.gid)),
    });
    linux.resources.get_or_insert_with(Resources::default).devices.push(DeviceRule {
        allow: true,
        kind,
        major: Some(major),
        minor: Some(minor),
        access: looked_up.permissions,
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const YAML: &str = "
cdiVersion: 0.6.0
kind: example.com/thing
containerEdits:
  env: [ALL=1]
devices:
- name: one
  containerEdits:
    deviceNodes: [{path: /dev/thing, hostPath: /dev/null}]
    mounts: [{hostPath: /lib/thing, containerPath: /lib/thing, options: [ro, bind]}]
    hooks: [{hookName: createContainer, path: /bin/true, args: [\"true\"]}]
";

    fn dir() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("thing.yaml"), YAML).unwrap();
        dir
    }

    #[test]
    fn a_named_device_changes_the_configuration() {
        let dir = dir();
        let edits = edits(&["example.com/thing=one".into()], &[dir.path()]).unwrap();
        let mut spec = Spec::default();
        apply(&edits, &mut spec).unwrap();
        assert_eq!(spec.process.as_ref().unwrap().env, ["ALL=1"]);
        let linux = spec.linux();
        assert_eq!((linux.devices[0].major, linux.devices[0].minor), (1, 3));
        assert_eq!(linux.resources.as_ref().unwrap().devices[0].access, "rw");
        assert_eq!(spec.mounts[0].options, ["ro", "bind"]);
        assert_eq!(spec.hooks.unwrap().create_container.len(), 1);
    }

    #[test]
    fn unknown_and_malformed_names_are_told_apart() {
        let dir = dir();
        let error = |name: &str| edits(&[name.to_owned()], &[dir.path()]).unwrap_err();
        assert!(error("example.com/thing=two").hint().unwrap().contains("example.com/thing=one"));
        assert_eq!(error("nonsense").kind(), fluyt_model::Kind::Invalid);
        std::fs::write(dir.path().join("bad.json"), "{").unwrap();
        assert_eq!(error("example.com/thing=one").kind(), fluyt_model::Kind::Corrupt);
    }
}
