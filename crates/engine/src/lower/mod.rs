//! The sandbox contract, lowered to an OCI configuration. Pure: everything that has to be looked up comes in
//! resolved ([`Resolved`]).

mod caps;
mod devices;
mod limits;
mod mounts;
pub mod profile;

use std::collections::BTreeMap;
use std::path::PathBuf;

use fluyt_model::Result;
use fluyt_model::sandbox::{
    ContainerSpec, IdMaps, MASKED_PATHS, Namespace, READ_ONLY_PATHS, SandboxSpec, UserNamespace,
};
use fluyt_runtime::spec::{
    Capabilities, ConsoleSize, IdMapping, Linux, Namespace as OciNamespace, Process, Rlimit, Root, Spec, User,
};

pub use devices::HostDevice;
pub use limits::{limited_devices, online_cpus, resources, validate};
pub use mounts::ResolvedMount;

/// What a spec refers to by name, looked up.
#[derive(Clone, Debug, Default)]
pub struct Resolved {
    /// Host name.
    pub hostname: String,
    /// User id, group id, additional group ids.
    pub user: (u32, u32, Vec<u32>),
    /// Home directory of the user, for `HOME`.
    pub home: String,
    /// Namespaces to join: type, file.
    pub joined: BTreeMap<&'static str, PathBuf>,
    /// Mounts in order.
    pub mounts: Vec<ResolvedMount>,
    /// Host devices to add.
    pub devices: Vec<HostDevice>,
    /// Path of the cgroup.
    pub cgroup: String,
    /// Size of /dev/shm, bytes.
    pub shm_size: u64,
    /// AppArmor profile; empty: none.
    pub apparmor: String,
    /// The directory behind /dev/shm, if it is shared with other containers.
    pub shm: Option<PathBuf>,
    /// Path of the init program inside the container, if one is wanted.
    pub init: Option<String>,
    /// The mappings of a new user namespace.
    pub user_maps: Option<IdMaps>,
    /// Major and minor numbers of block devices that limits name.
    pub block_devices: BTreeMap<PathBuf, (i64, i64)>,
}

/// The OCI configuration of the first container of `sandbox`.
///
/// # Errors
/// A seccomp profile that cannot be read.
pub fn oci(sandbox: &SandboxSpec, container: &ContainerSpec, resolved: &Resolved) -> Result<Spec> {
    let capabilities = caps::effective(&container.security);
    let seccomp = profile::select(&container.security, &capabilities)?;
    // A host name can be given to a UTS namespace of the container's own only.
    let own_uts = matches!(sandbox.namespaces.uts, Namespace::Private);
    let own_users = sandbox.namespaces.user != UserNamespace::Host;
    let mut mounts = mounts::all(sandbox, container, resolved);
    if own_users {
        mounts.extend(devices::binds(&resolved.devices));
    }
    Ok(Spec {
        oci_version: "1.2.0".to_owned(),
        root: Some(Root { path: PathBuf::from("rootfs"), readonly: container.security.read_only_root }),
        mounts,
        process: Some(process(container, resolved, &capabilities)),
        hostname: if own_uts { resolved.hostname.clone() } else { String::new() },
        domainname: if own_uts { sandbox.domainname.clone() } else { String::new() },
        hooks: None,
        annotations: sandbox.annotations.clone(),
        linux: Some(Linux {
            namespaces: namespaces(sandbox, resolved),
            uid_mappings: mappings(resolved.user_maps.as_ref().map(|m| &m.uids)),
            gid_mappings: mappings(resolved.user_maps.as_ref().map(|m| &m.gids)),
            devices: if own_users { Vec::new() } else { devices::nodes(&resolved.devices) },
            cgroups_path: resolved.cgroup.clone(),
            resources: Some(limits::oci(container, resolved)),
            sysctl: sandbox.sysctls.clone(),
            seccomp,
            rootfs_propagation: root_propagation(resolved),
            masked_paths: paths(
                container.security.privileged,
                container.security.masked_paths.as_deref(),
                &MASKED_PATHS,
            ),
            readonly_paths: paths(
                container.security.privileged,
                container.security.read_only_paths.as_deref(),
                &READ_ONLY_PATHS,
            ),
            ..Linux::default()
        }),
    })
}

fn process(container: &ContainerSpec, resolved: &Resolved, capabilities: &[&str]) -> Process {
    let wanted = &container.process;
    let mut env = wanted.env.clone();
    env.insert(env.len().min(1), format!("HOSTNAME={}", resolved.hostname));
    if !env.iter().any(|e| e.starts_with("HOME=")) {
        env.push(format!("HOME={}", resolved.home));
    }
    let (uid, gid, ref groups) = resolved.user;
    let names: Vec<String> = capabilities.iter().map(|c| format!("CAP_{c}")).collect();
    // A user other than root has what it may gain by set-user-id programs, but holds nothing.
    let held = if uid == 0 { names.clone() } else { Vec::new() };
    let args = resolved
        .init
        .iter()
        .flat_map(|init| [init.clone(), "--".to_owned()])
        .chain(wanted.args.iter().cloned());
    Process {
        terminal: wanted.tty,
        console_size: (wanted.console_size != (0, 0))
            .then_some(ConsoleSize { height: wanted.console_size.0, width: wanted.console_size.1 }),
        user: User { uid, gid, additional_gids: groups.clone(), ..User::default() },
        args: args.collect(),
        env,
        cwd: PathBuf::from(if wanted.cwd.is_empty() { "/" } else { &wanted.cwd }),
        capabilities: Some(Capabilities {
            bounding: names,
            effective: held.clone(),
            permitted: held,
            ..Capabilities::default()
        }),
        rlimits: wanted
            .rlimits
            .iter()
            .map(|(name, soft, hard)| Rlimit { kind: format!("RLIMIT_{name}"), soft: *soft, hard: *hard })
            .collect(),
        no_new_privileges: container.security.no_new_privileges,
        apparmor_profile: resolved.apparmor.clone(),
        oom_score_adj: wanted.oom_score_adj,
        ..Process::default()
    }
}

fn namespaces(sandbox: &SandboxSpec, resolved: &Resolved) -> Vec<OciNamespace> {
    let mut list = vec![namespace("mount", None)];
    let wanted = &sandbox.namespaces;
    for (kind, from) in [
        ("network", &wanted.network),
        ("pid", &wanted.pid),
        ("ipc", &wanted.ipc),
        ("uts", &wanted.uts),
        ("cgroup", &wanted.cgroup),
    ] {
        match from {
            Namespace::Host => {}
            Namespace::Private | Namespace::Shareable | Namespace::None => list.push(namespace(kind, None)),
            Namespace::Container(_) | Namespace::Path(_) | Namespace::Pod => {
                list.push(namespace(kind, resolved.joined.get(kind)))
            }
        }
    }
    match &wanted.user {
        UserNamespace::Host => {}
        UserNamespace::Mapped { .. } | UserNamespace::Auto { .. } => list.push(namespace("user", None)),
        UserNamespace::Container(_) | UserNamespace::Path(_) => {
            list.push(namespace("user", resolved.joined.get("user")));
        }
    }
    list
}

fn namespace(kind: &str, path: Option<&PathBuf>) -> OciNamespace {
    OciNamespace { kind: kind.to_owned(), path: path.cloned().unwrap_or_default() }
}

fn mappings(triples: Option<&Vec<(u32, u32, u32)>>) -> Vec<IdMapping> {
    triples
        .into_iter()
        .flatten()
        .map(|(container_id, host_id, size)| IdMapping {
            container_id: *container_id,
            host_id: *host_id,
            size: *size,
        })
        .collect()
}

fn paths(privileged: bool, asked: Option<&[String]>, default: &[&str]) -> Vec<PathBuf> {
    match asked {
        Some(list) => list.iter().map(PathBuf::from).collect(),
        None if privileged => Vec::new(),
        None => default.iter().map(PathBuf::from).collect(),
    }
}

/// A mount that is to see or show later mounts of the host needs a root that lets them through.
fn root_propagation(resolved: &Resolved) -> String {
    let any = |names: &[&str]| resolved.mounts.iter().any(|m| names.contains(&m.propagation.as_str()));
    if any(&["shared", "rshared"]) {
        "shared".to_owned()
    } else if any(&["slave", "rslave"]) {
        "rslave".to_owned()
    } else {
        String::new()
    }
}

#[cfg(test)]
mod tests;
