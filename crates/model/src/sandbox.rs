//! The one execution contract: what a sandbox should be ([`SandboxSpec`]) and what it is ([`SandboxStatus`]).
//!
//! A sandbox is a set of namespaces, network attachments and a resource parent that one or more containers
//! share. The engine understands nothing else: `docker run`, a compose service, a pod are each lowered to this
//! by a pure function in their own façade. Names of users, networks and volumes are still symbolic here; the
//! engine resolves them against its data root when it creates and starts the sandbox.
//!
//! What is absent on purpose: any façade's own document. The engine stores that beside the spec, unread.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What a sandbox should be.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SandboxSpec {
    /// Host name inside the UTS namespace; empty: the short id.
    pub hostname: String,
    /// NIS domain name.
    pub domainname: String,
    /// Which namespaces are new and which are joined.
    pub namespaces: Namespaces,
    /// Networks to plug into, in order: the first one provides the default route.
    pub networks: Vec<NetworkAttachment>,
    /// Ports of the sandbox made reachable on the host.
    pub ports: Vec<PortMapping>,
    /// Resolver settings.
    pub dns: Dns,
    /// Extra lines of /etc/hosts, in order.
    pub extra_hosts: Vec<HostEntry>,
    /// Namespaced kernel parameters by dotted name.
    pub sysctls: BTreeMap<String, String>,
    /// Size of /dev/shm in bytes; 0: the default of 64 MiB.
    pub shm_size: u64,
    /// Parent of the sandbox's cgroup; empty: the data root's default.
    pub cgroup_parent: String,
    /// The containers. Sandboxes made from `docker run` have exactly one.
    pub containers: Vec<ContainerSpec>,
    /// Removed together with its anonymous volumes when its last container has ended for good.
    pub auto_remove: bool,
    /// User labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations handed through to the OCI configuration.
    pub annotations: BTreeMap<String, String>,
    /// The service manager that is told when the sandbox is up, and whose main process its monitor is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub notify: Option<Notify>,
    /// The pod that this is a member of, by name or id; empty: none. Its namespaces are those that say [`Namespace::Pod`].
    #[serde(skip_serializing_if = "String::is_empty")]
    pub pod: String,
    /// Its name, filled in when the container is made.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub pod_name: String,
    /// Containers, by name or id, that have to run before this one is started.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub requires: Vec<String>,
}

/// A service manager that waits for a sandbox (sd_notify(3)).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notify {
    /// The socket that it listens on, as in `NOTIFY_SOCKET`: a path, or `@` and an abstract name.
    pub socket: String,
    /// When the sandbox counts as up.
    pub ready: Ready,
}

/// When a sandbox counts as up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ready {
    /// When its command has been executed.
    Started,
    /// When its command says so itself, on the socket that it is given.
    Said,
    /// When its health check has passed for the first time.
    Healthy,
}

/// One container of a sandbox.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerSpec {
    /// The image as the user named it.
    pub image: String,
    /// The image's id (config digest) that the name stood for at creation.
    pub image_id: String,
    /// What runs.
    pub process: ProcessSpec,
    /// Binds, volumes and tmpfs, in the order in which they are mounted.
    pub mounts: Vec<MountSpec>,
    /// Device nodes passed in.
    pub devices: Vec<DeviceSpec>,
    /// Extra rules of the device cgroup, in the v1 syntax `c 1:3 rwm`.
    pub device_rules: Vec<String>,
    /// Devices by CDI name, `vendor/class=name`.
    pub cdi_devices: Vec<String>,
    /// Cgroup limits.
    pub resources: Resources,
    /// Privileges and confinement.
    pub security: Security,
    /// What happens after the process ends.
    pub restart: RestartPolicy,
    /// Periodic check of the container's health.
    pub health: Option<HealthCheck>,
    /// Where output goes.
    pub log: LogSpec,
    /// How the container is asked to stop.
    pub stop: StopSpec,
    /// Whether a minimal init reaps zombies and forwards signals as process 1.
    pub init: bool,
}

/// Where a namespace comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Namespace {
    /// A new one.
    #[default]
    Private,
    /// The host's.
    Host,
    /// That of another running container, by name or id.
    Container(String),
    /// One held by a file.
    Path(PathBuf),
    /// IPC only: private, and others may join it.
    Shareable,
    /// IPC only: private, without /dev/shm.
    None,
    /// That of the pod, where the pod shares it; a new one where it does not.
    Pod,
}

/// The namespaces of a sandbox; the mount namespace is always new.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Namespaces {
    /// Network. `Private` without attachments: loopback only.
    pub network: Namespace,
    /// Process ids.
    pub pid: Namespace,
    /// System V IPC, POSIX queues, /dev/shm.
    pub ipc: Namespace,
    /// Host name.
    pub uts: Namespace,
    /// User ids. `Host` unless a remapping is asked for.
    pub user: UserNamespace,
    /// Cgroup view.
    pub cgroup: Namespace,
}

impl Namespaces {
    /// Those of a member of a pod that asks for none in particular: whatever the pod shares.
    #[must_use]
    pub fn of_pod() -> Self {
        Self {
            network: Namespace::Pod,
            pid: Namespace::Pod,
            ipc: Namespace::Pod,
            uts: Namespace::Pod,
            user: UserNamespace::Host,
            cgroup: Namespace::Pod,
        }
    }
}

/// The user namespace of a sandbox.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UserNamespace {
    /// The engine's own.
    #[default]
    Host,
    /// A new one with these mappings: (container id, host id, count).
    Mapped {
        /// User ids.
        uids: Vec<(u32, u32, u32)>,
        /// Group ids.
        gids: Vec<(u32, u32, u32)>,
    },
    /// A new one with a range of host ids that no other sandbox of the data root has.
    Auto {
        /// How many ids; 0: the default.
        size: u32,
    },
    /// That of another running container, by name or id.
    Container(String),
    /// One held by a file.
    Path(PathBuf),
}

/// One plug into a network.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkAttachment {
    /// Network by name or id.
    pub network: String,
    /// Additional names on that network.
    pub aliases: Vec<String>,
    /// Wanted IPv4 address.
    pub ipv4: Option<Ipv4Addr>,
    /// Wanted IPv6 address.
    pub ipv6: Option<Ipv6Addr>,
    /// Wanted MAC address, `02:42:…`.
    pub mac: Option<String>,
    /// Links: other container -> name under which it is seen.
    pub links: Vec<(String, String)>,
    /// Among several networks, the highest priority provides the default route.
    pub gateway_priority: i32,
    /// Options for the network's driver.
    pub driver_opts: BTreeMap<String, String>,
}

/// Transport protocol of a port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// `tcp`, `udp` or `sctp`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

/// A port of the sandbox made reachable on the host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PortMapping {
    /// Address on the host; `None`: every IPv4 and IPv6 address.
    pub host_ip: Option<IpAddr>,
    /// Port on the host; 0: one is chosen at start. With `host_port_end` above it: any free one of the range.
    pub host_port: u16,
    /// Last port of a range to choose from; 0 or equal to `host_port`: no range.
    pub host_port_end: u16,
    /// Port inside the sandbox.
    pub container_port: u16,
    /// Transport protocol.
    pub protocol: Protocol,
}

/// Resolver settings; empty lists mean the host's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Dns {
    /// Name servers.
    pub servers: Vec<String>,
    /// Search domains.
    pub search: Vec<String>,
    /// Resolver options.
    pub options: Vec<String>,
}

/// One line of /etc/hosts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostEntry {
    /// The name.
    pub name: String,
    /// An address, or `host-gateway`.
    pub address: String,
}

/// What runs in a container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProcessSpec {
    /// Executable and arguments.
    pub args: Vec<String>,
    /// `KEY=value`, later ones win.
    pub env: Vec<String>,
    /// Working directory; created if absent.
    pub cwd: String,
    /// `user[:group]`, names or numbers, resolved in the container's root file system; empty: root.
    pub user: String,
    /// Additional groups, names or numbers.
    pub groups: Vec<String>,
    /// Whether a pseudo-terminal is allocated.
    pub tty: bool,
    /// What becomes of standard input.
    pub stdin: Stdin,
    /// Initial size of the terminal: rows, columns.
    pub console_size: (u16, u16),
    /// Resource limits of the process: name without `RLIMIT_`, soft, hard.
    pub rlimits: Vec<(String, u64, u64)>,
    /// Adjustment of the OOM killer's score.
    pub oom_score_adj: Option<i32>,
}

/// What becomes of a container's standard input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stdin {
    /// /dev/null.
    #[default]
    Null,
    /// Open for whoever attaches, again and again.
    Open,
    /// Open for the first who attaches; closed when that one goes.
    Once,
}

/// One mount of a container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MountSpec {
    /// Path inside the container.
    pub target: String,
    /// What is mounted.
    pub source: MountSource,
    /// Not writable.
    #[serde(default)]
    pub read_only: bool,
    /// Propagation: `rprivate`, `rslave`, `shared`, …; empty: the default of the kind.
    #[serde(default)]
    pub propagation: String,
    /// Binds only: submounts are not bound with it.
    #[serde(default)]
    pub non_recursive: bool,
    /// Read-only applies to submounts too; unmet is an error.
    #[serde(default)]
    pub recursive_read_only: bool,
    /// Ids are shifted at the mount: (container id, host id, count) for users and groups.
    #[serde(default)]
    pub idmap: Option<IdMaps>,
    /// In a sandbox with a user namespace of its own, the ids on disk stay what they are; without this, the sandbox sees
    /// them as if it had none.
    #[serde(default)]
    pub no_idmap: bool,
}

/// An id mapping of a mount: triples (id seen inside, id on disk, count).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMaps {
    /// User ids.
    pub uids: Vec<(u32, u32, u32)>,
    /// Group ids.
    pub gids: Vec<(u32, u32, u32)>,
}

/// What a mount shows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MountSource {
    /// A path of the host.
    Bind {
        /// The path.
        path: PathBuf,
        /// Create a directory there if nothing exists.
        create: bool,
    },
    /// A named volume; an empty name asks for a new anonymous one.
    Volume {
        /// Its name.
        name: String,
        /// Do not fill an empty volume from the image.
        no_copy: bool,
        /// A directory inside the volume.
        subpath: String,
        /// Driver of a volume that does not exist yet.
        driver: String,
        /// Driver options of a volume that does not exist yet.
        options: BTreeMap<String, String>,
        /// Labels of a volume that does not exist yet.
        labels: BTreeMap<String, String>,
    },
    /// Memory.
    Tmpfs {
        /// Mount options, `size=64m`, `mode=1777`, …
        options: Vec<String>,
    },
    /// All volumes of another container, with `read_only` of this mount added to theirs.
    VolumesFrom {
        /// The other container, by name or id.
        container: String,
    },
    /// The root of another image. What is written to it, unless it is read-only, goes with the container.
    Image {
        /// The image's name.
        image: String,
        /// A directory inside it.
        subpath: String,
    },
}

/// A device node passed in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceSpec {
    /// Node (or directory of nodes) on the host.
    pub host_path: PathBuf,
    /// Where it appears.
    pub container_path: PathBuf,
    /// Allowed operations out of `rwm`.
    pub permissions: String,
}

/// Cgroup limits; `None` and 0 mean "not limited".
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// Bytes.
    pub memory: Option<i64>,
    /// Bytes of memory and swap together; -1: unlimited.
    pub memory_swap: Option<i64>,
    /// Soft limit in bytes.
    pub memory_reservation: Option<i64>,
    /// 0 to 100.
    pub memory_swappiness: Option<u64>,
    /// cgroup v1: the OOM killer stays off.
    pub oom_kill_disable: bool,
    /// Billionths of a processor.
    pub nano_cpus: Option<i64>,
    /// Relative weight, 2 to 262144.
    pub cpu_shares: Option<u64>,
    /// Microseconds of processor time per period.
    pub cpu_quota: Option<i64>,
    /// Microseconds.
    pub cpu_period: Option<u64>,
    /// Microseconds.
    pub cpu_rt_runtime: Option<i64>,
    /// Microseconds.
    pub cpu_rt_period: Option<u64>,
    /// List of processors, `0-2,4`.
    pub cpuset_cpus: String,
    /// List of memory nodes.
    pub cpuset_mems: String,
    /// Processes and threads; -1: unlimited.
    pub pids_limit: Option<i64>,
    /// Weight 10 to 1000.
    pub blkio_weight: Option<u16>,
    /// Per device: path, weight.
    pub blkio_weight_device: Vec<(PathBuf, u16)>,
    /// Per device: path, bytes a second.
    pub read_bps: Vec<(PathBuf, u64)>,
    /// Per device: path, bytes a second.
    pub write_bps: Vec<(PathBuf, u64)>,
    /// Per device: path, operations a second.
    pub read_iops: Vec<(PathBuf, u64)>,
    /// Per device: path, operations a second.
    pub write_iops: Vec<(PathBuf, u64)>,
}

impl Resources {
    /// These limits with every limit that `change` sets in its place.
    #[must_use]
    pub fn changed_by(self, change: &Self) -> Self {
        let c = change.clone();
        let text = |new: String, old: String| if new.is_empty() { old } else { new };
        // A fraction of processors and a quota say the same thing; the newer one counts.
        let quota_set = c.cpu_quota.is_some() || c.cpu_period.is_some();
        Self {
            memory: c.memory.or(self.memory),
            memory_swap: c.memory_swap.or(self.memory_swap),
            memory_reservation: c.memory_reservation.or(self.memory_reservation),
            memory_swappiness: c.memory_swappiness.or(self.memory_swappiness),
            oom_kill_disable: c.oom_kill_disable || self.oom_kill_disable,
            nano_cpus: if quota_set { None } else { c.nano_cpus.or(self.nano_cpus) },
            cpu_shares: c.cpu_shares.or(self.cpu_shares),
            cpu_quota: if c.nano_cpus.is_some() { None } else { c.cpu_quota.or(self.cpu_quota) },
            cpu_period: if c.nano_cpus.is_some() { None } else { c.cpu_period.or(self.cpu_period) },
            cpu_rt_runtime: c.cpu_rt_runtime.or(self.cpu_rt_runtime),
            cpu_rt_period: c.cpu_rt_period.or(self.cpu_rt_period),
            cpuset_cpus: text(c.cpuset_cpus, self.cpuset_cpus),
            cpuset_mems: text(c.cpuset_mems, self.cpuset_mems),
            pids_limit: c.pids_limit.or(self.pids_limit),
            blkio_weight: c.blkio_weight.or(self.blkio_weight),
            ..self
        }
    }
}

/// Privileges and confinement.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Security {
    /// All capabilities, all devices, no masks, no seccomp.
    pub privileged: bool,
    /// Capabilities added to the default set, `NET_ADMIN` or `ALL`.
    pub cap_add: Vec<String>,
    /// Capabilities taken from it.
    pub cap_drop: Vec<String>,
    /// System call filter.
    pub seccomp: Seccomp,
    /// AppArmor profile; empty: the default where the kernel has it.
    pub apparmor: String,
    /// SELinux label parts `user:…`, `role:…`, `type:…`, `level:…`, `disable`.
    pub selinux: Vec<String>,
    /// Set-user-id programs gain nothing.
    pub no_new_privileges: bool,
    /// The root file system is not writable.
    pub read_only_root: bool,
    /// Paths hidden from the container; `None`: the default list.
    pub masked_paths: Option<Vec<String>>,
    /// Paths made read-only; `None`: the default list.
    pub read_only_paths: Option<Vec<String>>,
}

/// Which system call filter applies.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Seccomp {
    /// The built-in profile.
    #[default]
    Default,
    /// None.
    Unconfined,
    /// A profile in Docker's JSON format.
    Profile(String),
}

/// What happens after a container's process ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestartPolicy {
    /// When.
    pub condition: RestartCondition,
    /// With `OnFailure`: give up after so many; 0: never give up.
    pub max_retries: u32,
}

/// When a container is started again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartCondition {
    /// Never.
    #[default]
    No,
    /// After an exit code other than 0.
    OnFailure,
    /// Always, also after a reboot, even if it had been stopped by hand.
    Always,
    /// Always, but a stop by hand holds.
    UnlessStopped,
    /// After a failure, and when the health check says unhealthy.
    OnUnhealthy,
}

impl RestartCondition {
    /// The name on command lines and in documents.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::No => "no",
            Self::OnFailure => "on-failure",
            Self::Always => "always",
            Self::UnlessStopped => "unless-stopped",
            Self::OnUnhealthy => "on-unhealthy",
        }
    }
}

/// Periodic check of a container's health. Durations are in nanoseconds; none is zero.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthCheck {
    /// The command and its arguments; a shell command is already wrapped.
    pub args: Vec<String>,
    /// Between the end of one check and the start of the next.
    pub interval: u64,
    /// A check that takes longer has failed.
    pub timeout: u64,
    /// Consecutive failures until `unhealthy`.
    pub retries: u32,
    /// Failures in this time after the start do not count.
    pub start_period: u64,
    /// Interval within the start period.
    pub start_interval: u64,
    /// What happens when the container turns unhealthy.
    #[serde(default)]
    pub on_failure: OnFailure,
}

/// What happens to a container that turns unhealthy, beside what its restart policy says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// It goes on.
    #[default]
    Nothing,
    /// It is killed.
    Kill,
    /// It is stopped.
    Stop,
}

/// Where a container's output goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LogSpec {
    /// `json-file`, `local`, `journald`, `syslog` or `none`; empty: `json-file`.
    pub driver: String,
    /// The driver's options.
    pub options: BTreeMap<String, String>,
}

/// How a container is asked to stop.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StopSpec {
    /// Signal name or number; empty: SIGTERM.
    pub signal: String,
    /// Seconds until SIGKILL; -1: wait forever; `None`: 10.
    pub timeout: Option<i64>,
}

/// In which state a sandbox is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Made, never started.
    #[default]
    Created,
    /// Its process runs.
    Running,
    /// Its processes are frozen.
    Paused,
    /// Ended, and about to be started again.
    Restarting,
    /// Being removed.
    Removing,
    /// Ended.
    Exited,
    /// Ended, and part of it could not be cleaned up.
    Dead,
}

impl Phase {
    /// The name in documents: `running`, `exited`, …
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Restarting => "restarting",
            Self::Removing => "removing",
            Self::Exited => "exited",
            Self::Dead => "dead",
        }
    }
}

/// What a sandbox is. Written by its monitor, read by everyone. Times are nanoseconds since the epoch, 0: never.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SandboxStatus {
    /// The state.
    pub phase: Phase,
    /// Process id of the first process in the host's view; 0 when it does not run.
    pub pid: i32,
    /// Start time of that process in clock ticks since boot: tells a reused process id.
    pub pid_start: u64,
    /// Exit code of the last run, 128 + signal if it was killed.
    pub exit_code: i32,
    /// The kernel's OOM killer ended a process of the last run.
    pub oom_killed: bool,
    /// Why the last start failed.
    pub error: String,
    /// Last start.
    pub started_at: i64,
    /// Last end.
    pub finished_at: i64,
    /// Restarts by policy since the last start by hand.
    pub restart_count: u32,
    /// Ended because somebody asked for it: policies `unless-stopped` and start-up after a reboot respect it.
    pub stopped_by_user: bool,
    /// Health, if there is a check.
    pub health: Option<Health>,
    /// The published ports with the host ports that were chosen.
    pub ports: Vec<PortMapping>,
    /// Cgroup paths as the runtime reopens them, opaque here.
    pub cgroup: serde_json::Value,
}

/// The result of health checks so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Health {
    /// `starting`, `healthy` or `unhealthy`.
    pub status: HealthStatus,
    /// Consecutive failures.
    pub failing_streak: u32,
    /// The last five checks, oldest first.
    pub log: Vec<HealthResult>,
}

/// The verdict on a container's health.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthStatus {
    /// No check has succeeded yet, and failures do not count yet.
    #[default]
    Starting,
    /// The last check succeeded.
    Healthy,
    /// As many checks as `retries` failed in a row.
    Unhealthy,
}

impl HealthStatus {
    /// The name in documents.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// One finished check.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthResult {
    /// Nanoseconds since the epoch.
    pub start: i64,
    /// Nanoseconds since the epoch.
    pub end: i64,
    /// 0: healthy; -1: it timed out or could not run.
    pub exit_code: i32,
    /// The first 4096 bytes of its output.
    pub output: String,
}

/// Every capability, without `CAP_`, in the kernel's order: an index is a bit number.
pub const CAPABILITIES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// The capabilities of a container that asks for none in particular.
pub const DEFAULT_CAPABILITIES: [&str; 14] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

/// Paths that a container does not see unless it is privileged.
pub const MASKED_PATHS: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// Paths that a container cannot write unless it is privileged.
pub const READ_ONLY_PATHS: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];
