//! The mount table of a container: what every container has, with the user's mounts over and inside it.

use std::path::{Path, PathBuf};

use fluyt_model::sandbox::{ContainerSpec, IdMaps, Namespace, SandboxSpec, UserNamespace};
use fluyt_runtime::spec::{IdMapping, Mount};

use super::Resolved;
use crate::container::ids;

/// A mount with its source looked up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResolvedMount {
    /// Path in the container.
    pub target: PathBuf,
    /// Directory or file of the host; empty for tmpfs.
    pub source: PathBuf,
    /// File system type for mounts that are not binds.
    pub kind: String,
    /// Options beside those that follow.
    pub options: Vec<String>,
    /// Not writable.
    pub read_only: bool,
    /// Read-only applies to submounts.
    pub recursive_read_only: bool,
    /// Submounts are left out.
    pub non_recursive: bool,
    /// Propagation; empty: `rprivate`.
    pub propagation: String,
    /// Ids shifted at the mount.
    pub idmap: Option<IdMaps>,
    /// Ids on disk stay what they are, whatever user namespace the container has.
    pub no_idmap: bool,
}

pub(super) fn all(sandbox: &SandboxSpec, container: &ContainerSpec, resolved: &Resolved) -> Vec<Mount> {
    let mut own: Vec<&ResolvedMount> = resolved.mounts.iter().collect();
    // Parents come before what lies inside them.
    own.sort_by_key(|m| m.target.components().count());
    let replaced = |target: &str| own.iter().any(|m| m.target == Path::new(target));
    let mut mounts: Vec<Mount> = defaults(sandbox, container, resolved)
        .into_iter()
        .filter(|m| !m.destination.to_str().is_some_and(replaced))
        .collect();
    mounts.extend(own.into_iter().map(|m| oci(m, sandbox, resolved)));
    mounts
}

fn defaults(sandbox: &SandboxSpec, container: &ContainerSpec, resolved: &Resolved) -> Vec<Mount> {
    let privileged = container.security.privileged;
    let access = if privileged { "rw" } else { "ro" };
    let shm_size = format!("size={}", resolved.shm_size);
    let mut list = vec![
        mount("/proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount(
            "/dev/pts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
    ];
    if sandbox.namespaces.network == Namespace::Host {
        // A sysfs of a network namespace that the container does not own cannot be mounted; the host's is shown.
        list.push(Mount {
            source: "/sys".into(),
            ..mount("/sys", "bind", &["rbind", "nosuid", "noexec", "nodev", access])
        });
    } else {
        list.push(mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", access]));
    }
    list.push(mount("/sys/fs/cgroup", "cgroup", &["nosuid", "noexec", "nodev", access]));
    match &sandbox.namespaces.ipc {
        Namespace::Host => {
            // The queues belong to the namespace, whether or not the host shows them.
            list.push(mount("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]));
            list.push(bind("/dev/shm", "/dev/shm"));
        }
        Namespace::None => list.push(mount("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"])),
        _ => {
            list.push(mount("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]));
            list.push(match &resolved.shm {
                Some(dir) => Mount { source: dir.clone(), ..bind("/dev/shm", "") },
                None => mount("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", &shm_size]),
            });
        }
    }
    list
}

fn mount(target: &str, kind: &str, options: &[&str]) -> Mount {
    Mount {
        destination: target.into(),
        kind: kind.to_owned(),
        source: if kind == "tmpfs" && target == "/dev/shm" { "shm".into() } else { kind.into() },
        options: options.iter().map(|o| (*o).to_owned()).collect(),
        ..Mount::default()
    }
}

fn bind(target: &str, source: &str) -> Mount {
    Mount { source: source.into(), ..mount(target, "bind", &["rbind", "nosuid", "noexec", "nodev"]) }
}

fn oci(m: &ResolvedMount, sandbox: &SandboxSpec, resolved: &Resolved) -> Mount {
    let mut options = m.options.clone();
    if m.kind.is_empty() {
        options.push(if m.non_recursive { "bind" } else { "rbind" }.to_owned());
        options.push(if m.propagation.is_empty() { "rprivate" } else { &m.propagation }.to_owned());
    }
    options.push(
        match (m.read_only, m.recursive_read_only) {
            (true, true) => "rro",
            (true, false) => "ro",
            (false, _) => "rw",
        }
        .to_owned(),
    );
    let maps = m.idmap.clone().unwrap_or_default();
    let own_users = sandbox.namespaces.user != UserNamespace::Host;
    if m.idmap.is_some() || (own_users && m.kind.is_empty() && !m.no_idmap) {
        options.push("idmap".to_owned());
    }
    let mapping = |triples: &[(u32, u32, u32)], own: Option<&Vec<(u32, u32, u32)>>| {
        // The runtime maps ids on disk to ids of the host's view; the container shares it or has its own.
        let host = |seen: u32| own.map_or(Some(seen), |own| ids::outside(own, seen)).unwrap_or(seen);
        triples
            .iter()
            .map(|(seen, disk, size)| IdMapping { container_id: *disk, host_id: host(*seen), size: *size })
            .collect()
    };
    let own = resolved.user_maps.as_ref();
    Mount {
        destination: m.target.clone(),
        kind: if m.kind.is_empty() { "bind".to_owned() } else { m.kind.clone() },
        source: if m.source.as_os_str().is_empty() { m.kind.clone().into() } else { m.source.clone() },
        options,
        uid_mappings: mapping(&maps.uids, own.map(|m| &m.uids)),
        gid_mappings: mapping(&maps.gids, own.map(|m| &m.gids)),
    }
}
