//! The part of a container's definition that belongs to the host it runs on.

use serde::{Deserialize, Serialize};

use super::{List, Map, Mount, PortMap, is_zero};

/// `HostConfig`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HostConfig {
    /// `src:dst[:options]`.
    pub binds: List<String>,
    /// Where the client wrote the id.
    #[serde(rename = "ContainerIDFile")]
    pub container_id_file: String,
    /// Log driver and its options.
    pub log_config: LogConfig,
    /// `default`, `bridge`, `host`, `none`, `container:ID` or a network's name.
    pub network_mode: String,
    /// Published ports.
    pub port_bindings: PortMap,
    /// When to start again.
    pub restart_policy: RestartPolicy,
    /// Remove it when it exits.
    pub auto_remove: bool,
    /// Driver of anonymous volumes.
    pub volume_driver: String,
    /// `container[:ro|rw]`.
    pub volumes_from: List<String>,
    /// Initial size of the terminal: rows, columns.
    pub console_size: [u16; 2],
    /// Passed to the OCI runtime.
    #[serde(skip_serializing_if = "Map::is_vacant")]
    pub annotations: Map<String>,
    /// Capabilities to add.
    pub cap_add: List<String>,
    /// Capabilities to drop.
    pub cap_drop: List<String>,
    /// `host`, `private` or empty.
    pub cgroupns_mode: String,
    /// Name servers.
    pub dns: List<String>,
    /// resolv.conf options.
    pub dns_options: List<String>,
    /// Search domains.
    pub dns_search: List<String>,
    /// `name:address` lines for /etc/hosts.
    pub extra_hosts: List<String>,
    /// Additional groups.
    pub group_add: List<String>,
    /// `none`, `private`, `shareable`, `container:ID`, `host`.
    pub ipc_mode: String,
    /// Unused in Docker.
    pub cgroup: String,
    /// `container:alias`.
    pub links: List<String>,
    /// -1000 to 1000.
    pub oom_score_adj: i64,
    /// Empty, `host`, `container:ID`.
    pub pid_mode: String,
    /// All capabilities and devices.
    pub privileged: bool,
    /// Publish every exposed port on a free one.
    pub publish_all_ports: bool,
    /// Root file system read-only.
    pub readonly_rootfs: bool,
    /// `seccomp=…`, `apparmor=…`, `label=…`, `no-new-privileges`.
    pub security_opt: List<String>,
    /// `size=…`.
    #[serde(skip_serializing_if = "Map::is_vacant")]
    pub storage_opt: Map<String>,
    /// Path to mount options.
    #[serde(skip_serializing_if = "Map::is_vacant")]
    pub tmpfs: Map<String>,
    /// Empty or `host`.
    #[serde(rename = "UTSMode")]
    pub uts_mode: String,
    /// Empty, `host`, `private`, `auto[:size=N]`, `container:ID` or `ns:PATH`.
    pub userns_mode: String,
    /// As Podman shows them: the mappings of a user namespace that are given one by one.
    #[serde(rename = "IDMappings", skip_serializing_if = "Option::is_none")]
    pub id_mappings: Option<IdMappings>,
    /// Who is told that the container is up, as Podman's `--sdnotify` has it.
    #[serde(rename = "SdNotify", skip_serializing_if = "Option::is_none")]
    pub sd_notify: Option<SdNotify>,
    /// What becomes of a container that turns unhealthy: `kill` or `stop`; empty: nothing.
    #[serde(rename = "HealthOnFailure", skip_serializing_if = "String::is_empty")]
    pub health_on_failure: String,
    /// Bytes of /dev/shm; 0: the default.
    pub shm_size: i64,
    /// Namespaced sysctls.
    #[serde(skip_serializing_if = "Map::is_vacant")]
    pub sysctls: Map<String>,
    /// Name of the OCI runtime.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub runtime: String,
    /// Windows only.
    pub isolation: String,
    /// Limits.
    #[serde(flatten)]
    pub resources: Resources,
    /// `--mount`.
    #[serde(skip_serializing_if = "List::is_vacant")]
    pub mounts: List<Mount>,
    /// Paths to hide; `null`: the default set.
    pub masked_paths: List<String>,
    /// Paths to make read-only; `null`: the default set.
    pub readonly_paths: List<String>,
    /// Run an init as process 1; `None`: the default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init: Option<bool>,
    /// The pod to be a member of, by name or id (an extension): every mode that is left open is then the pod's.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub pod: String,
    /// Containers that have to run before it is started (an extension).
    #[serde(skip_serializing_if = "List::is_vacant")]
    pub requires: List<String>,
}

/// Mappings of a user namespace, each `CONTAINERID:HOSTID:COUNT`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct IdMappings {
    /// Of users; empty: those of groups.
    pub uid_map: List<String>,
    /// Of groups; empty: those of users.
    pub gid_map: List<String>,
}

/// A service manager that waits for a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct SdNotify {
    /// `conmon`, `container` or `healthy`.
    pub mode: String,
    /// Its `NOTIFY_SOCKET`.
    pub socket: String,
}

/// Limits, shared with `update`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Resources {
    /// Relative weight.
    pub cpu_shares: i64,
    /// Bytes; 0: none.
    pub memory: i64,
    /// Billionths of a CPU.
    pub nano_cpus: i64,
    /// Parent cgroup.
    pub cgroup_parent: String,
    /// 10 to 1000; 0: unset.
    pub blkio_weight: u16,
    /// Weight per device.
    pub blkio_weight_device: List<WeightDevice>,
    /// Bytes per second.
    pub blkio_device_read_bps: List<ThrottleDevice>,
    /// Bytes per second.
    pub blkio_device_write_bps: List<ThrottleDevice>,
    /// Operations per second.
    #[serde(rename = "BlkioDeviceReadIOps")]
    pub blkio_device_read_iops: List<ThrottleDevice>,
    /// Operations per second.
    #[serde(rename = "BlkioDeviceWriteIOps")]
    pub blkio_device_write_iops: List<ThrottleDevice>,
    /// Microseconds.
    pub cpu_period: i64,
    /// Microseconds.
    pub cpu_quota: i64,
    /// Microseconds.
    pub cpu_realtime_period: i64,
    /// Microseconds.
    pub cpu_realtime_runtime: i64,
    /// `0-2,7`.
    pub cpuset_cpus: String,
    /// `0-1`.
    pub cpuset_mems: String,
    /// Host devices.
    pub devices: List<DeviceMapping>,
    /// `c 1:3 rwm`.
    pub device_cgroup_rules: List<String>,
    /// GPUs and CDI devices.
    pub device_requests: List<DeviceRequest>,
    /// Obsolete.
    #[serde(skip_serializing_if = "is_zero")]
    pub kernel_memory: i64,
    /// Obsolete.
    #[serde(rename = "KernelMemoryTCP", skip_serializing_if = "is_zero")]
    pub kernel_memory_tcp: i64,
    /// Bytes, soft.
    pub memory_reservation: i64,
    /// Bytes of memory and swap together; -1: no limit.
    pub memory_swap: i64,
    /// 0 to 100; -1 or `None`: unset.
    pub memory_swappiness: Option<i64>,
    /// Do not kill on OOM.
    pub oom_kill_disable: Option<bool>,
    /// 0, -1 and `None`: no limit.
    pub pids_limit: Option<i64>,
    /// Resource limits.
    pub ulimits: List<Ulimit>,
    /// Windows only.
    pub cpu_count: i64,
    /// Windows only.
    pub cpu_percent: i64,
    /// Windows only.
    #[serde(rename = "IOMaximumIOps")]
    pub io_maximum_iops: u64,
    /// Windows only.
    #[serde(rename = "IOMaximumBandwidth")]
    pub io_maximum_bandwidth: u64,
}

/// Log driver and options.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct LogConfig {
    /// Driver; empty: the default.
    #[serde(rename = "Type")]
    pub kind: String,
    /// Options.
    pub config: Map<String>,
}

/// When to start a container again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RestartPolicy {
    /// Empty or `no`, `always`, `unless-stopped`, `on-failure`.
    pub name: String,
    /// Only with `on-failure`; 0: for ever.
    pub maximum_retry_count: i64,
}

impl RestartPolicy {
    /// Whether it never restarts.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.name.is_empty() || self.name == "no"
    }
}

/// A weight for one block device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct WeightDevice {
    /// Path of the device.
    pub path: String,
    /// 10 to 1000.
    pub weight: u16,
}

/// A rate for one block device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ThrottleDevice {
    /// Path of the device.
    pub path: String,
    /// Bytes or operations per second.
    pub rate: u64,
}

/// A host device to make available.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DeviceMapping {
    /// Path on the host.
    pub path_on_host: String,
    /// Path in the container.
    pub path_in_container: String,
    /// Of `rwm`.
    pub cgroup_permissions: String,
}

/// A request to a device driver.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DeviceRequest {
    /// `nvidia`, `cdi`, or empty.
    pub driver: String,
    /// -1: all.
    pub count: i64,
    /// Devices by name.
    #[serde(rename = "DeviceIDs")]
    pub device_ids: List<String>,
    /// Any of these sets of capabilities.
    pub capabilities: List<Vec<String>>,
    /// Driver options.
    pub options: Map<String>,
}

/// A resource limit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Ulimit {
    /// `nofile`, …
    pub name: String,
    /// Hard limit; -1: none.
    pub hard: i64,
    /// Soft limit; -1: none.
    pub soft: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn irregular_names_are_dockers() {
        let value = serde_json::to_value(HostConfig::default()).unwrap();
        for name in [
            "ContainerIDFile",
            "UTSMode",
            "NanoCpus",
            "CpusetCpus",
            "BlkioDeviceReadBps",
            "BlkioDeviceReadIOps",
            "CpuRealtimePeriod",
            "IOMaximumIOps",
            "IOMaximumBandwidth",
            "DnsOptions",
            "OomKillDisable",
            "CgroupnsMode",
            "MaskedPaths",
            "IpcMode",
        ] {
            assert!(value.get(name).is_some(), "{name}");
        }
        assert!(value.get("Init").is_none());
        assert!(value["Binds"].is_null() && value["MemorySwappiness"].is_null());
    }
}
