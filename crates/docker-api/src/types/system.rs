//! `info`, `version` and `system df`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{ContainerSummary, ImageSummary, List, Volume, is_false};

/// `GET /info`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct SystemInfo {
    /// Of this data root.
    #[serde(rename = "ID")]
    pub id: String,
    /// All of them.
    pub containers: i64,
    /// Running.
    pub containers_running: i64,
    /// Paused.
    pub containers_paused: i64,
    /// Neither.
    pub containers_stopped: i64,
    /// Images.
    pub images: i64,
    /// Storage driver.
    pub driver: String,
    /// Its facts.
    pub driver_status: List<[String; 2]>,
    /// Drivers by kind.
    pub plugins: PluginsInfo,
    /// Whether memory can be limited.
    pub memory_limit: bool,
    /// Whether swap can be limited.
    pub swap_limit: bool,
    /// CPU period.
    pub cpu_cfs_period: bool,
    /// CPU quota.
    pub cpu_cfs_quota: bool,
    /// CPU shares.
    #[serde(rename = "CPUShares")]
    pub cpu_shares: bool,
    /// CPU sets.
    #[serde(rename = "CPUSet")]
    pub cpu_set: bool,
    /// Process limits.
    pub pids_limit: bool,
    /// Whether the host forwards.
    #[serde(rename = "IPv4Forwarding")]
    pub ipv4_forwarding: bool,
    /// Debug mode.
    pub debug: bool,
    /// Open files.
    #[serde(rename = "NFd")]
    pub nfd: i64,
    /// Whether the OOM killer can be turned off.
    pub oom_kill_disable: bool,
    /// Always 0: nothing runs in the background.
    #[serde(rename = "NGoroutines")]
    pub ngoroutines: i64,
    /// RFC 3339.
    pub system_time: String,
    /// The default.
    pub logging_driver: String,
    /// `cgroupfs` or `systemd`.
    pub cgroup_driver: String,
    /// `1` or `2`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cgroup_version: String,
    /// Always 0.
    #[serde(rename = "NEventsListener")]
    pub nevents_listener: i64,
    /// `uname -r`.
    pub kernel_version: String,
    /// From os-release.
    pub operating_system: String,
    /// From os-release.
    #[serde(rename = "OSVersion")]
    pub os_version: String,
    /// `linux`.
    #[serde(rename = "OSType")]
    pub os_type: String,
    /// `uname -m`.
    pub architecture: String,
    /// The default registry.
    pub index_server_address: String,
    /// CPUs.
    #[serde(rename = "NCPU")]
    pub ncpu: i64,
    /// Bytes.
    pub mem_total: i64,
    /// The data root.
    pub docker_root_dir: String,
    /// Proxy.
    pub http_proxy: String,
    /// Proxy.
    pub https_proxy: String,
    /// Proxy.
    pub no_proxy: String,
    /// Host name.
    pub name: String,
    /// Labels.
    pub labels: List<String>,
    /// Experimental features.
    pub experimental_build: bool,
    /// This program's version.
    pub server_version: String,
    /// OCI runtimes.
    pub runtimes: BTreeMap<String, RuntimeInfo>,
    /// The default one.
    pub default_runtime: String,
    /// Whether containers survive the engine: always.
    pub live_restore_enabled: bool,
    /// The cluster that this engine is part of: none.
    pub swarm: SwarmInfo,
    /// Windows only.
    pub isolation: String,
    /// The program behind `--init`.
    pub init_binary: String,
    /// `name=seccomp,profile=builtin`, …
    pub security_options: List<String>,
    /// CDI.
    #[serde(rename = "CDISpecDirs")]
    pub cdi_spec_dirs: List<String>,
    /// What this host lacks.
    pub warnings: List<String>,
}

/// Drivers by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PluginsInfo {
    /// Volume drivers.
    pub volume: List<String>,
    /// Network drivers.
    pub network: List<String>,
    /// None.
    pub authorization: List<String>,
    /// Log drivers.
    pub log: List<String>,
}

/// A cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct SwarmInfo {
    /// This node's.
    #[serde(rename = "NodeID")]
    pub node_id: String,
    /// This node's.
    pub node_addr: String,
    /// `inactive`: there is none.
    pub local_node_state: String,
    /// Whether this node manages it.
    pub control_available: bool,
    /// Why it does not work.
    pub error: String,
    /// Others that manage it.
    pub remote_managers: List<String>,
}

/// An OCI runtime.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RuntimeInfo {
    /// Its program.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub path: String,
}

/// `GET /version`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Version {
    /// Product.
    pub platform: PlatformName,
    /// Parts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub components: Vec<ComponentVersion>,
    /// Of this program.
    pub version: String,
    /// Of the Docker API that it speaks.
    pub api_version: String,
    /// The oldest of them.
    #[serde(rename = "MinAPIVersion", skip_serializing_if = "String::is_empty")]
    pub min_api_version: String,
    /// Commit.
    pub git_commit: String,
    /// Always empty: there is no Go here.
    pub go_version: String,
    /// `linux`.
    pub os: String,
    /// `amd64`, …
    pub arch: String,
    /// `uname -r`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kernel_version: String,
    /// Experimental features.
    #[serde(skip_serializing_if = "is_false")]
    pub experimental: bool,
    /// RFC 3339.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub build_time: String,
}

/// Product.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PlatformName {
    /// Its name.
    pub name: String,
}

/// A part of the product.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ComponentVersion {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// More.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub details: BTreeMap<String, String>,
}

/// `GET /system/df`. What was not asked for is `null`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DiskUsage {
    /// Bytes of all layers, each once.
    pub layers_size: i64,
    /// Images.
    pub images: List<ImageSummary>,
    /// Containers.
    pub containers: List<ContainerSummary>,
    /// Volumes.
    pub volumes: List<Volume>,
    /// Steps of builds.
    pub build_cache: List<BuildCacheEntry>,
}

/// Something in the build cache.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct BuildCacheEntry {
    /// Its id.
    #[serde(rename = "ID")]
    pub id: String,
    /// What it was made of.
    #[serde(skip_serializing_if = "List::is_vacant")]
    pub parents: List<String>,
    /// `regular`, `source.local`, `exec.cachemount`, …
    #[serde(rename = "Type")]
    pub kind: String,
    /// The step.
    pub description: String,
    /// Whether a living build holds it.
    pub in_use: bool,
    /// Whether an image has it too.
    pub shared: bool,
    /// Bytes.
    pub size: i64,
    /// RFC 3339.
    pub created_at: String,
    /// RFC 3339.
    pub last_used_at: Option<String>,
    /// How often.
    pub usage_count: i64,
}
