//! Annotations by which a pod says what Kubernetes has no field for, as Podman knows them. Those that are about one container
//! have `/CONTAINER` behind them.

use std::collections::BTreeMap;

/// `true`: the container is removed when it has ended.
pub const AUTO_REMOVE: &str = "io.podman.annotations.autoremove";
/// `true`: a minimal init is process 1.
pub const INIT: &str = "io.podman.annotations.init";
/// `once` or `always`: what becomes of init containers.
pub const INIT_CONTAINER_TYPE: &str = "io.podman.annotations.init.container.type";
/// SELinux label.
pub const LABEL: &str = "io.podman.annotations.label";
/// Seccomp profile.
pub const SECCOMP: &str = "io.podman.annotations.seccomp";
/// AppArmor profile.
pub const APPARMOR: &str = "io.podman.annotations.apparmor";
/// Processes at most.
pub const PIDS_LIMIT: &str = "io.podman.annotations.pids-limit";
/// Processors.
pub const CPUSET: &str = "io.podman.annotations.cpuset";
/// Memory nodes.
pub const MEMORY_NODES: &str = "io.podman.annotations.memory-nodes";
/// Limits of processes, `name=soft:hard,…`, for the whole pod.
pub const ULIMIT: &str = "io.podman.annotations.ulimit";
/// User namespace.
pub const USERNS: &str = "io.podman.annotations.userns";
/// Name of the sandbox.
pub const INFRA_NAME: &str = "io.podman.annotations.infra.name";
/// Containers whose volumes are mounted too, `;` between them.
pub const VOLUMES_FROM: &str = "io.podman.annotations.volumes-from";
/// Images whose volumes are mounted, `;` between them.
pub const IMAGE_VOLUMES: &str = "io.podman.annotations.kube.image.volumes.mount";
/// Containers are kept up to date.
pub const AUTO_UPDATE: &str = "io.containers.autoupdate";
/// With these credentials.
pub const AUTO_UPDATE_AUTH: &str = "io.containers.autoupdate.authfile";
/// Kubernetes' old place of seccomp profiles, of the pod.
pub const OLD_SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
/// Kubernetes' old place of seccomp profiles, of a container.
pub const OLD_SECCOMP: &str = "container.seccomp.security.alpha.kubernetes.io";

/// Driver of the volume of a claim.
pub const VOLUME_DRIVER: &str = "volume.podman.io/driver";
/// Type of its file system.
pub const VOLUME_TYPE: &str = "volume.podman.io/type";
/// Where its file system is.
pub const VOLUME_DEVICE: &str = "volume.podman.io/device";
/// Owner of its root.
pub const VOLUME_UID: &str = "volume.podman.io/uid";
/// Group of its root.
pub const VOLUME_GID: &str = "volume.podman.io/gid";
/// Options of its mount.
pub const VOLUME_OPTIONS: &str = "volume.podman.io/mount-options";
/// A tar archive that it is filled from.
pub const VOLUME_IMPORT: &str = "volume.podman.io/import-source";
/// An image that it shows.
pub const VOLUME_IMAGE: &str = "volume.podman.io/image";

/// The annotation of a container, or of all.
#[must_use]
pub fn of<'a>(annotations: &'a BTreeMap<String, String>, name: &str, container: &str) -> Option<&'a str> {
    own(annotations, name, container).or_else(|| annotations.get(name).map(String::as_str))
}

/// The annotation of a container only.
#[must_use]
pub fn own<'a>(annotations: &'a BTreeMap<String, String>, name: &str, container: &str) -> Option<&'a str> {
    annotations.get(&format!("{name}/{container}")).map(String::as_str)
}

/// Whether an annotation is meant for this program, and not for whoever reads annotations.
#[must_use]
pub fn is_ours(name: &str) -> bool {
    name.starts_with("io.podman.annotations.")
        || name.starts_with(AUTO_UPDATE)
        || name == "bind-mount-options"
}
