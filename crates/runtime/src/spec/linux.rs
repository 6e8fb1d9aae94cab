//! `linux`: namespaces, mappings, devices, masks and the rest that only Linux has.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::{Resources, Seccomp, wire};

wire! {
/// Everything that only Linux has.
pub struct Linux {
    /// Namespaces to create or to join; a type that is not listed is shared with the caller.
    namespaces: Vec<Namespace>,
    /// User ids of a new user namespace.
    uid_mappings: Vec<IdMapping>,
    /// Group ids of a new user namespace.
    gid_mappings: Vec<IdMapping>,
    /// Offsets of a new time namespace by clock: `monotonic`, `boottime`.
    time_offsets: BTreeMap<String, TimeOffset>,
    /// Device nodes to make besides the default ones.
    devices: Vec<Device>,
    /// The cgroup: absolute from the hierarchy's root, or relative to where the runtime decides; `slice:prefix:name`
    /// for the systemd driver.
    cgroups_path: String,
    /// Limits.
    resources: Option<Resources>,
    /// Cache and memory bandwidth allocation.
    intel_rdt: Option<IntelRdt>,
    /// Kernel parameters of the container's namespaces, dotted names.
    sysctl: BTreeMap<String, String>,
    /// System call filter.
    seccomp: Option<Seccomp>,
    /// Propagation of the root mount: `private`, `slave`, `shared`, `unbindable`, with or without `r`.
    rootfs_propagation: String,
    /// Paths that cannot be read inside.
    masked_paths: Vec<PathBuf>,
    /// Paths that cannot be written inside.
    readonly_paths: Vec<PathBuf>,
    /// An SELinux label for the mounts.
    mount_label: String,
    /// Execution domain.
    personality: Option<Personality>,
    /// NUMA memory policy.
    memory_policy: Option<MemoryPolicy>,
    /// Network devices of the caller that move into the container, by their name there.
    net_devices: BTreeMap<String, NetDevice>,
}

/// NUMA memory policy, the arguments of `set_mempolicy(2)`.
pub struct MemoryPolicy {
    /// `MPOL_*`.
    mode: String,
    /// A list like `0-1,3`.
    nodes: String,
    /// `MPOL_F_*`.
    flags: Vec<String>,
}

/// A network device that moves into the container.
pub struct NetDevice {
    /// Its name inside; empty: as outside.
    name: String,
}

/// A namespace to create or to join.
pub struct Namespace {
    /// `pid`, `network`, `mount`, `ipc`, `uts`, `user`, `cgroup` or `time`.
    #[serde(rename = "type")]
    kind: String,
    /// Join this one; empty: create one.
    path: PathBuf,
}

/// A range of ids.
#[derive(Copy, Eq)]
pub struct IdMapping {
    /// First id inside.
    #[serde(rename = "containerID")]
    container_id: u32,
    /// First id outside.
    #[serde(rename = "hostID")]
    host_id: u32,
    /// How many.
    size: u32,
}

/// A clock's offset.
pub struct TimeOffset {
    /// Seconds.
    secs: i64,
    /// Nanoseconds.
    nanosecs: u32,
}

/// A device node.
pub struct Device {
    /// Where, in the container.
    path: PathBuf,
    /// `c`, `u`, `b` or `p`.
    #[serde(rename = "type")]
    kind: String,
    /// Major number.
    major: i64,
    /// Minor number.
    minor: i64,
    /// Permission bits; 0666 if absent.
    file_mode: Option<u32>,
    /// Owner inside.
    uid: Option<u32>,
    /// Group inside.
    gid: Option<u32>,
}

/// Resource director technology.
pub struct IntelRdt {
    /// The class of service.
    #[serde(rename = "closID")]
    clos_id: String,
    /// Lines for the schemata file as they are, in their order.
    schemata: Vec<String>,
    /// L3 schema.
    l3_cache_schema: String,
    /// Memory bandwidth schema.
    mem_bw_schema: String,
    /// Make a monitoring group for the container.
    enable_monitoring: bool,
    /// Count cache occupancy.
    #[serde(rename = "enableCMT")]
    enable_cmt: bool,
    /// Count bandwidth.
    #[serde(rename = "enableMBM")]
    enable_mbm: bool,
}

/// Execution domain.
pub struct Personality {
    /// `LINUX` or `LINUX32`.
    domain: String,
    /// Names of flags.
    flags: Vec<String>,
}
}
