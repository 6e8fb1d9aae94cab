//! What goes into and comes out of the engine: requests, views and filters. Plain data.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::Arc;

use fluyt_model::sandbox::{Resources, RestartPolicy, SandboxSpec, SandboxStatus};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::container::recorded::Recorded;

/// A container as asked for by a façade.
#[derive(Clone, Debug, Default)]
pub struct CreateRequest {
    /// Name; `None`: one is made up.
    pub name: Option<String>,
    /// The contract.
    pub spec: SandboxSpec,
    /// The façade's own document, stored verbatim and never read here.
    pub document: Value,
}

/// A container as recorded, and as it is. What is recorded of it is found right here: `view.spec`.
#[derive(Clone, Debug, Default)]
pub struct ContainerView {
    /// What is recorded.
    pub recorded: Arc<Recorded>,
    /// What it is.
    pub status: Arc<SandboxStatus>,
    /// Plugged networks: present for running containers and for those that keep their addresses.
    pub endpoints: Arc<[EndpointView]>,
}

impl Deref for ContainerView {
    type Target = Recorded;

    fn deref(&self) -> &Recorded {
        &self.recorded
    }
}

/// Where a container's files are.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ContainerPaths {
    /// Directory of the container.
    pub dir: PathBuf,
    /// The log, if the driver has a file.
    pub log: PathBuf,
    /// `/etc/resolv.conf` of the container.
    pub resolv_conf: PathBuf,
    /// `/etc/hostname` of the container.
    pub hostname: PathBuf,
    /// `/etc/hosts` of the container.
    pub hosts: PathBuf,
    /// Read-only layers, top first.
    pub lower: Vec<PathBuf>,
    /// The writable layer.
    pub upper: PathBuf,
    /// Work directory of the overlay.
    pub work: PathBuf,
}

/// One effective mount.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MountView {
    /// `bind`, `volume`, `tmpfs` or `image`.
    pub kind: String,
    /// Name of the volume.
    pub name: String,
    /// Path on the host.
    pub source: PathBuf,
    /// Path in the container.
    pub target: String,
    /// Volume driver.
    pub driver: String,
    /// Writable.
    pub rw: bool,
    /// Propagation.
    pub propagation: String,
    /// An anonymous volume goes with its container.
    pub anonymous: bool,
    /// Id of the image that is mounted; empty for other kinds.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub image: String,
    /// The image's directories or file, top first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lower: Vec<PathBuf>,
    /// Short names of all layers of the image, which must stay.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<String>,
}

/// One plug of a container into a network.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EndpointView {
    /// Network name.
    pub network: String,
    /// Network id.
    pub network_id: String,
    /// Endpoint id.
    pub endpoint_id: String,
    /// MAC address.
    pub mac: String,
    /// IPv4 address and prefix length.
    pub ipv4: Option<(std::net::Ipv4Addr, u8)>,
    /// IPv6 address and prefix length.
    pub ipv6: Option<(std::net::Ipv6Addr, u8)>,
    /// IPv4 gateway.
    pub gateway4: Option<std::net::Ipv4Addr>,
    /// IPv6 gateway.
    pub gateway6: Option<std::net::Ipv6Addr>,
    /// Names under which others on the network find it.
    pub dns_names: Vec<String>,
    /// Aliases as asked for.
    pub aliases: Vec<String>,
}

/// How a start is made.
#[derive(Clone, Copy, Debug, Default)]
pub struct StartOptions {
    /// Attach before the first instruction: standard output and error, and input if asked for.
    pub attach: bool,
    /// Attach standard input too.
    pub stdin: bool,
    /// Terminal size, rows and columns, if the caller knows it.
    pub size: Option<(u16, u16)>,
    /// The caller stays until the container has ended and removes it then, if it is to be removed.
    pub caller_removes: bool,
}

/// How a container is stopped.
#[derive(Clone, Debug, Default)]
pub struct StopOptions {
    /// Signal name or number instead of the container's own.
    pub signal: Option<String>,
    /// Seconds until SIGKILL instead of the container's own; negative: wait forever.
    pub timeout: Option<i64>,
}

/// How a container is removed.
#[derive(Clone, Copy, Debug, Default)]
pub struct RemoveOptions {
    /// Kill it first if it runs.
    pub force: bool,
    /// Remove its anonymous volumes too.
    pub volumes: bool,
}

/// What `wait` waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WaitCondition {
    /// Not running (returns at once for a stopped container).
    #[default]
    NotRunning,
    /// The next end.
    NextExit,
    /// Removed.
    Removed,
}

/// A command to run in a running container.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ExecOptions {
    /// Executable and arguments.
    pub args: Vec<String>,
    /// Additional environment.
    pub env: Vec<String>,
    /// Working directory; empty: the container's.
    pub cwd: String,
    /// `user[:group]`; empty: the container's.
    pub user: String,
    /// All capabilities.
    pub privileged: bool,
    /// A pseudo-terminal with this size (rows, columns).
    pub tty: Option<(u16, u16)>,
    /// Standard input is wanted.
    pub stdin: bool,
}

/// Which log lines are wanted.
#[derive(Clone, Copy, Debug, Default)]
pub struct LogOptions {
    /// Go on as lines come.
    pub follow: bool,
    /// Only the last so many lines.
    pub tail: Option<u64>,
    /// Nanoseconds since the epoch: not before.
    pub since: Option<i64>,
    /// Nanoseconds since the epoch: not after.
    pub until: Option<i64>,
    /// Standard output.
    pub stdout: bool,
    /// Standard error.
    pub stderr: bool,
}

/// Which stream bytes belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output, or the terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

/// What the engine tells about something that happened.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// `container`, `image`, `volume`, `network`.
    pub kind: String,
    /// `start`, `die`, `pull`, …
    pub action: String,
    /// Id or name of the object.
    pub id: String,
    /// Name, image, exit code, labels.
    pub attributes: BTreeMap<String, String>,
    /// Nanoseconds since the epoch.
    pub time: i64,
}

/// Change of a container's limits and policy; `None` leaves a value as it is.
#[derive(Clone, Debug, Default)]
pub struct UpdateRequest {
    /// Limits: set fields replace the recorded ones.
    pub resources: Resources,
    /// Restart policy.
    pub restart: Option<RestartPolicy>,
}

/// A network as asked for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkSpec {
    /// Name.
    pub name: String,
    /// `bridge`, `macvlan`, `host` or `null`.
    pub driver: String,
    /// No way out.
    pub internal: bool,
    /// IPv4 is on.
    pub ipv4: bool,
    /// IPv6 is on.
    pub ipv6: bool,
    /// Subnets: CIDR, range, gateway, auxiliary addresses. Empty: chosen from the pool.
    pub subnets: Vec<SubnetSpec>,
    /// Driver options.
    pub options: BTreeMap<String, String>,
    /// IPAM options.
    pub ipam_options: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Whether single containers may be attached (swarm notion, kept verbatim).
    pub attachable: bool,
}

/// One subnet of a network.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SubnetSpec {
    /// `10.1.0.0/24`.
    pub subnet: String,
    /// Addresses are taken from this part only.
    pub range: String,
    /// Gateway; empty: the first address.
    pub gateway: String,
    /// Addresses that are taken by others, by name.
    pub aux: BTreeMap<String, IpAddr>,
}

/// A network as recorded.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NetworkView {
    /// Full id.
    pub id: String,
    /// Nanoseconds since the epoch.
    pub created: i64,
    /// What was asked for, with everything chosen filled in.
    pub spec: NetworkSpec,
    /// Link on the host, if the driver has one.
    pub ifname: String,
    /// Who is plugged in now: (container id, container name, endpoint).
    pub endpoints: Vec<(String, String, EndpointView)>,
}

/// A volume as asked for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct VolumeSpec {
    /// Name; empty: one is made up and the volume counts as anonymous.
    pub name: String,
    /// `local`.
    pub driver: String,
    /// Driver options: `type`, `o`, `device`.
    pub options: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

/// A volume as recorded.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct VolumeView {
    /// What was asked for.
    pub spec: VolumeSpec,
    /// Nanoseconds since the epoch.
    pub created: i64,
    /// Data directory on the host.
    pub mountpoint: PathBuf,
    /// Made without a name.
    pub anonymous: bool,
    /// Ids of containers that use it.
    pub used_by: Vec<String>,
}

/// Resource use of a running container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    /// Nanoseconds since the epoch.
    pub read: i64,
    /// Processor time used, ns.
    pub cpu_total: u64,
    /// Of it in user mode, ns.
    pub cpu_user: u64,
    /// Of it in the kernel, ns.
    pub cpu_system: u64,
    /// Per processor, ns (cgroup v1 only).
    pub cpu_per: Vec<u64>,
    /// Processor time of the whole machine, ns.
    pub machine_cpu: u64,
    /// Processors online.
    pub online_cpus: u32,
    /// Periods, throttled periods, throttled time in ns.
    pub throttling: (u64, u64, u64),
    /// Memory used, bytes, cache included.
    pub memory: u64,
    /// The part of it that is inactive file cache, bytes.
    pub inactive_file: u64,
    /// Limit, bytes.
    pub memory_limit: u64,
    /// All counters of memory.stat.
    pub memory_stat: BTreeMap<String, u64>,
    /// Processes and threads.
    pub pids: u64,
    /// Limit on them; 0: none.
    pub pids_limit: u64,
    /// Bytes read, bytes written.
    pub blkio: (u64, u64),
    /// Per interface: name, rx bytes, rx packets, rx errors, rx dropped, and the same for tx.
    pub networks: Vec<(String, [u64; 8])>,
}

/// A path that differs from the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// `A`, `C` or `D`.
    pub kind: char,
    /// Absolute path in the container.
    pub path: String,
}

/// What a prune removed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pruned {
    /// Ids or names.
    pub removed: Vec<String>,
    /// Bytes given back.
    pub bytes: u64,
}

/// What a container is made of, for `commit`.
#[derive(Clone, Debug, Default)]
pub struct CommitRequest {
    /// Name of the new image, `repository[:tag]`.
    pub reference: Option<String>,
    /// Comment in the history.
    pub comment: String,
    /// Author.
    pub author: String,
    /// Dockerfile instructions applied to the configuration.
    pub changes: Vec<String>,
    /// Freeze the container meanwhile.
    pub pause: bool,
    /// The container's own configuration as the `config` object of an image, to replace the image's.
    pub config: Option<Value>,
}

/// Disk use as `system df` shows it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DiskUse {
    /// Images: (id, references, size, shared size, containers using it, created).
    pub images: Vec<ImageUse>,
    /// Containers: (view, bytes in the writable layer).
    pub containers: Vec<(String, u64, bool)>,
    /// Volumes: (name, bytes, number of users).
    pub volumes: Vec<(String, u64, u32)>,
    /// Bytes of all layers and blobs together.
    pub layers: u64,
    /// Bytes of images nobody uses.
    pub images_reclaimable: u64,
    /// The build cache.
    pub build_cache: Vec<crate::build_cache::CacheEntry>,
}

/// Disk use of one image.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ImageUse {
    /// Image id.
    pub id: String,
    /// Names.
    pub references: Vec<String>,
    /// Nanoseconds since the epoch.
    pub created: i64,
    /// Bytes of all its layers.
    pub size: u64,
    /// Of these, bytes in layers that other images use too.
    pub shared: u64,
    /// Containers made from it.
    pub containers: u32,
}

/// What is at a path in a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PathStat {
    /// Last component.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// Mode bits as the kernel has them, type included.
    pub mode: u32,
    /// Nanoseconds since the epoch.
    pub mtime: i64,
    /// A directory.
    pub is_dir: bool,
    /// A device, pipe or socket.
    pub is_special: bool,
    /// Where a symbolic link leads; empty for others.
    pub link_target: String,
}

/// How an archive is unpacked into a container.
#[derive(Clone, Copy, Debug, Default)]
pub struct CopyOptions {
    /// Keep user and group ids of the archive; otherwise everything belongs to root.
    pub keep_owner: bool,
    /// Refuse to replace a directory by something else, and the other way round.
    pub no_overwrite_dir_non_dir: bool,
}

/// What this engine and its machine are.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Info {
    /// Containers running, paused, not running.
    pub containers: (u32, u32, u32),
    /// Images.
    pub images: u32,
    /// Host name.
    pub hostname: String,
    /// Kernel release.
    pub kernel: String,
    /// Name of the distribution.
    pub os: String,
    /// Its version.
    pub os_version: String,
    /// `x86_64`, …
    pub architecture: String,
    /// Processors online.
    pub cpus: u32,
    /// Bytes of memory.
    pub memory: u64,
    /// The data root.
    pub root: PathBuf,
    /// 1 or 2.
    pub cgroup_version: u8,
    /// What hinders: missing kernel features.
    pub warnings: Vec<String>,
}

/// Whether a data root is in order: sentences, each with whether what it says has been repaired.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// What contradicts the records: damage.
    pub problems: Vec<(String, bool)>,
    /// What killed work has left behind: harmless, it only takes room.
    pub leftovers: Vec<(String, bool)>,
}

impl Health {
    /// Whether nothing is damaged, or everything that was has been repaired.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.problems.iter().all(|(_, repaired)| *repaired)
    }
}
