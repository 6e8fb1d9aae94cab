//! Containers as `inspect` and `ps` show them.

use serde::{Deserialize, Serialize};

use super::{ContainerConfig, EndpointSettings, HostConfig, List, Map, PortMap, PortSummary, is_zero};

/// `docker inspect` of a container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerInspect {
    /// 64 digits.
    pub id: String,
    /// RFC 3339 with nanoseconds.
    pub created: String,
    /// The program.
    pub path: String,
    /// Its arguments.
    pub args: List<String>,
    /// What it does now.
    pub state: ContainerState,
    /// The image's id.
    pub image: String,
    /// On the host.
    pub resolv_conf_path: String,
    /// On the host.
    pub hostname_path: String,
    /// On the host.
    pub hosts_path: String,
    /// On the host.
    pub log_path: String,
    /// With a leading slash.
    pub name: String,
    /// Restarts so far.
    pub restart_count: i64,
    /// Storage driver.
    pub driver: String,
    /// `linux`.
    pub platform: String,
    /// SELinux.
    pub mount_label: String,
    /// SELinux.
    pub process_label: String,
    /// AppArmor.
    pub app_armor_profile: String,
    /// Commands that run beside the first.
    #[serde(rename = "ExecIDs")]
    pub exec_ids: List<String>,
    /// As asked for, with defaults filled in.
    pub host_config: HostConfig,
    /// Where its files are.
    pub graph_driver: GraphDriver,
    /// Bytes written (with `size`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_rw: Option<i64>,
    /// Bytes of everything (with `size`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_root_fs: Option<i64>,
    /// Mounts.
    pub mounts: Vec<MountPoint>,
    /// As asked for, merged with the image's.
    pub config: ContainerConfig,
    /// Networks.
    pub network_settings: NetworkSettings,
}

/// What a container does now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerState {
    /// `created`, `running`, `paused`, `restarting`, `removing`, `exited`, `dead`.
    pub status: String,
    /// Also while paused.
    pub running: bool,
    /// Frozen.
    pub paused: bool,
    /// Between two runs.
    pub restarting: bool,
    /// The kernel killed it for memory.
    #[serde(rename = "OOMKilled")]
    pub oom_killed: bool,
    /// Could not be removed.
    pub dead: bool,
    /// Process 1, in the host's numbering; 0: none.
    pub pid: i64,
    /// Of the last run.
    pub exit_code: i64,
    /// Why it could not start.
    pub error: String,
    /// RFC 3339; `0001-01-01T00:00:00Z`: never.
    pub started_at: String,
    /// RFC 3339; `0001-01-01T00:00:00Z`: never.
    pub finished_at: String,
    /// If it has a check.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
}

/// Health.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Health {
    /// `none`, `starting`, `healthy`, `unhealthy`.
    pub status: String,
    /// Failures in a row.
    pub failing_streak: i64,
    /// The last few, oldest first.
    pub log: List<HealthcheckResult>,
}

/// One check.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HealthcheckResult {
    /// RFC 3339.
    pub start: String,
    /// RFC 3339.
    pub end: String,
    /// 0: healthy.
    pub exit_code: i64,
    /// What it printed.
    pub output: String,
}

/// Where an image's or a container's files are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct GraphDriver {
    /// `LowerDir` and so on.
    pub data: Map<String>,
    /// `overlay2`.
    pub name: String,
}

/// A mount of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct MountPoint {
    /// `bind`, `volume`, …
    #[serde(rename = "Type", skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// The volume's name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// On the host.
    pub source: String,
    /// In the container.
    pub destination: String,
    /// The volume's driver.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub driver: String,
    /// The options, as given.
    pub mode: String,
    /// Writable.
    #[serde(rename = "RW")]
    pub rw: bool,
    /// `rprivate` and so on.
    pub propagation: String,
}

/// The network of a container. The fields of the default network stand here once more, as before Docker 29.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkSettings {
    /// Always empty.
    #[serde(rename = "Bridge")]
    pub bridge: String,
    /// The network namespace's name.
    #[serde(rename = "SandboxID")]
    pub sandbox_id: String,
    /// Its path.
    #[serde(rename = "SandboxKey")]
    pub sandbox_key: String,
    /// Published and exposed ports.
    #[serde(rename = "Ports")]
    pub ports: PortMap,
    /// Obsolete.
    #[serde(rename = "HairpinMode")]
    pub hairpin_mode: bool,
    /// Obsolete.
    #[serde(rename = "LinkLocalIPv6Address")]
    pub link_local_ipv6_address: String,
    /// Obsolete.
    #[serde(rename = "LinkLocalIPv6PrefixLen")]
    pub link_local_ipv6_prefix_len: u8,
    /// Obsolete.
    #[serde(rename = "SecondaryIPAddresses")]
    pub secondary_ip_addresses: List<String>,
    /// Obsolete.
    #[serde(rename = "SecondaryIPv6Addresses")]
    pub secondary_ipv6_addresses: List<String>,
    /// In the default network.
    #[serde(rename = "EndpointID")]
    pub endpoint_id: String,
    /// In the default network.
    #[serde(rename = "Gateway")]
    pub gateway: String,
    /// In the default network.
    #[serde(rename = "GlobalIPv6Address")]
    pub global_ipv6_address: String,
    /// In the default network.
    #[serde(rename = "GlobalIPv6PrefixLen")]
    pub global_ipv6_prefix_len: u8,
    /// In the default network.
    #[serde(rename = "IPAddress")]
    pub ip_address: String,
    /// In the default network.
    #[serde(rename = "IPPrefixLen")]
    pub ip_prefix_len: u8,
    /// In the default network.
    #[serde(rename = "IPv6Gateway")]
    pub ipv6_gateway: String,
    /// In the default network.
    #[serde(rename = "MacAddress")]
    pub mac_address: String,
    /// All networks, by name.
    #[serde(rename = "Networks")]
    pub networks: Map<EndpointSettings>,
}

/// A container in `GET /containers/json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerSummary {
    /// 64 digits.
    pub id: String,
    /// With leading slashes; the container's own and its links'.
    pub names: List<String>,
    /// As the user named it.
    pub image: String,
    /// Its id.
    #[serde(rename = "ImageID")]
    pub image_id: String,
    /// Program and arguments.
    pub command: String,
    /// Seconds since 1970.
    pub created: i64,
    /// Ports.
    pub ports: Vec<PortSummary>,
    /// Bytes written (with `size`).
    #[serde(skip_serializing_if = "is_zero")]
    pub size_rw: i64,
    /// Bytes of everything (with `size`).
    #[serde(skip_serializing_if = "is_zero")]
    pub size_root_fs: i64,
    /// Labels.
    pub labels: Map<String>,
    /// As in [`ContainerState::status`].
    pub state: String,
    /// For people: `Up 3 hours (healthy)`.
    pub status: String,
    /// A little of the host's part.
    pub host_config: HostConfigSummary,
    /// Networks.
    pub network_settings: NetworkSettingsSummary,
    /// Mounts.
    pub mounts: Vec<MountPoint>,
    /// Id of the pod that it is a member of (an extension).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub pod: String,
    /// Name of that pod.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub pod_name: String,
}

/// The host's part in a list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HostConfigSummary {
    /// As in [`HostConfig::network_mode`].
    #[serde(skip_serializing_if = "String::is_empty")]
    pub network_mode: String,
    /// As in [`HostConfig::annotations`].
    #[serde(skip_serializing_if = "Map::is_vacant")]
    pub annotations: Map<String>,
}

/// The networks in a list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworkSettingsSummary {
    /// By name.
    pub networks: Map<EndpointSettings>,
}
