//! `linux.resources`: the limits that become cgroup files.

use std::collections::BTreeMap;

use super::wire;

wire! {
/// Limits.
pub struct Resources {
    /// Device access rules, the last match counts.
    devices: Vec<DeviceRule>,
    /// Memory.
    memory: Option<Memory>,
    /// CPU time and placement.
    cpu: Option<Cpu>,
    /// Number of tasks.
    pids: Option<Pids>,
    /// Block devices.
    #[serde(rename = "blockIO")]
    block_io: Option<BlockIo>,
    /// Huge pages.
    hugepage_limits: Vec<HugepageLimit>,
    /// Network classes and priorities.
    network: Option<Network>,
    /// RDMA limits by device.
    rdma: BTreeMap<String, Rdma>,
    /// cgroup v2 files written as they are.
    unified: BTreeMap<String, String>,
}

/// A device access rule.
pub struct DeviceRule {
    /// Allow or deny.
    allow: bool,
    /// `a`, `c` or `b`; empty means `a`.
    #[serde(rename = "type")]
    kind: String,
    /// Major number; absent or -1 means all.
    major: Option<i64>,
    /// Minor number; absent or -1 means all.
    minor: Option<i64>,
    /// Letters of `rwm`.
    access: String,
}

/// Memory limits in bytes; -1 means none.
pub struct Memory {
    /// Hard limit.
    limit: Option<i64>,
    /// Soft limit.
    reservation: Option<i64>,
    /// Memory and swap together.
    swap: Option<i64>,
    /// Kernel memory (obsolete, ignored).
    kernel: Option<i64>,
    /// Kernel memory for TCP (v1).
    #[serde(rename = "kernelTCP")]
    kernel_tcp: Option<i64>,
    /// 0 to 100 (v1).
    swappiness: Option<u64>,
    /// Stall instead of killing (v1).
    #[serde(rename = "disableOOMKiller")]
    disable_oom_killer: Option<bool>,
    /// Count children too (v1, always so today).
    use_hierarchy: Option<bool>,
    /// Refuse a new limit that is below what is in use.
    check_before_update: Option<bool>,
}

/// CPU limits.
pub struct Cpu {
    /// Relative weight, 2 to 262144.
    shares: Option<u64>,
    /// Microseconds of CPU time per period; -1 means no limit.
    quota: Option<i64>,
    /// Microseconds that a burst may borrow.
    burst: Option<u64>,
    /// Microseconds.
    period: Option<u64>,
    /// Microseconds of realtime CPU per period (v1).
    realtime_runtime: Option<i64>,
    /// Microseconds (v1).
    realtime_period: Option<u64>,
    /// CPU list.
    cpus: String,
    /// Memory node list.
    mems: String,
    /// 1 makes the group run only when idle.
    idle: Option<i64>,
}

/// Number of tasks.
pub struct Pids {
    /// The most tasks; negative means no limit, 0 as few as possible (one).
    limit: Option<i64>,
}

/// Block device limits.
pub struct BlockIo {
    /// 10 to 1000.
    weight: Option<u16>,
    /// 10 to 1000, against own children (v1).
    leaf_weight: Option<u16>,
    /// Weights by device.
    weight_device: Vec<WeightDevice>,
    /// Bytes a second.
    throttle_read_bps_device: Vec<ThrottleDevice>,
    /// Bytes a second.
    throttle_write_bps_device: Vec<ThrottleDevice>,
    /// Operations a second.
    #[serde(rename = "throttleReadIOPSDevice")]
    throttle_read_iops_device: Vec<ThrottleDevice>,
    /// Operations a second.
    #[serde(rename = "throttleWriteIOPSDevice")]
    throttle_write_iops_device: Vec<ThrottleDevice>,
}

/// A weight for one device.
pub struct WeightDevice {
    /// Major number.
    major: i64,
    /// Minor number.
    minor: i64,
    /// 10 to 1000.
    weight: Option<u16>,
    /// 10 to 1000 (v1).
    leaf_weight: Option<u16>,
}

/// A rate for one device.
pub struct ThrottleDevice {
    /// Major number.
    major: i64,
    /// Minor number.
    minor: i64,
    /// Per second.
    rate: u64,
}

/// Huge pages.
pub struct HugepageLimit {
    /// `2MB`, `1GB`.
    page_size: String,
    /// Bytes.
    limit: u64,
}

/// Network classes and priorities (v1).
pub struct Network {
    /// The class of the packets.
    #[serde(rename = "classID")]
    class_id: Option<u32>,
    /// Priorities by interface.
    priorities: Vec<InterfacePriority>,
}

/// A priority for one interface (v1).
pub struct InterfacePriority {
    /// Interface name.
    name: String,
    /// Priority.
    priority: u32,
}

/// RDMA limits.
pub struct Rdma {
    /// HCA handles.
    hca_handles: Option<u32>,
    /// HCA objects.
    hca_objects: Option<u32>,
}
}
