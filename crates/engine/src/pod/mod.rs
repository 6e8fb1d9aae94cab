//! Pods: containers that share a sandbox on one machine.
//!
//! A pod is a record, and while it is up a *sandbox*: namespaces that files hold (`RUN/pods/ID/net`, …), plugs into
//! networks, published ports, name files that all members have mounted, a control group above theirs, a `/dev/shm`. There
//! is no process in it: what has to be served (names at 127.0.0.11, reserved ports) is served by the monitors of the
//! members. Only a shared process or cgroup namespace needs a first process, and gets one.
//!
//! ```text
//!  (no sandbox) ──up: a member starts, `pod start`──► up ──down: `pod stop`, last member ended (exit policy)──► (no sandbox)
//! ```
//!
//! A member is a container like any other, whose record names the pod; it is made, started and removed by the same
//! operations. Whatever is killed: what is up is known by the files that hold the namespaces; a sandbox that is half made or
//! half removed is removed by the next who wants it up.
//!
//! Locks: who starts a member holds the pod's directory shared until the member runs; who makes or removes a sandbox holds it
//! alone. A container's own lock is taken before the pod's.
//!
//! What is absent: any façade's document. A pod's is kept verbatim.

mod init;
mod life;
mod member;
mod names;
mod records;
mod sandbox;
mod state;
mod view;

use fluyt_model::sandbox::{MountSpec, PortMapping, Resources, RestartPolicy, SandboxSpec};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::api::{ContainerView, EndpointView};

pub(crate) use member::name_file;
pub(crate) use records::PodRecord;
pub(crate) use sandbox::unmount_below;

/// A pod as asked for by a façade.
#[derive(Clone, Debug, Default)]
pub struct PodRequest {
    /// Name; `None`: one is made up.
    pub name: Option<String>,
    /// What it is.
    pub spec: PodSpec,
    /// The façade's own document, stored verbatim and never read here.
    pub document: Value,
}

/// What a pod is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PodSpec {
    /// The sandbox: host name (empty: the pod's name), networks, ports, names, sysctls, size of /dev/shm, parent of the
    /// control group, labels. Of its namespaces, `Private` means one of the pod's own, `Host` the host's, `Path` that one. It
    /// has no containers.
    pub sandbox: SandboxSpec,
    /// Which namespaces the members share.
    pub share: Share,
    /// Limits of all members together.
    pub resources: Resources,
    /// What every member has mounted, beside its own.
    pub mounts: Vec<MountSpec>,
    /// Whether there is a sandbox at all. Without one the members are a group that is started and stopped together.
    pub infra: bool,
    /// The name that clients see for the sandbox; empty: the short id with `-infra`.
    pub infra_name: String,
    /// What happens when the last member has ended.
    pub exit_policy: ExitPolicy,
    /// The policy of members that have none themselves.
    pub restart: RestartPolicy,
    /// Members are below the pod's control group, and so within its limits.
    pub share_parent: bool,
    /// Where the pid of a process is written that lives as long as the sandbox is up, for service managers that watch one.
    /// Asks for such a process.
    pub pid_file: Option<std::path::PathBuf>,
}

impl Default for PodSpec {
    fn default() -> Self {
        Self {
            sandbox: SandboxSpec::default(),
            share: Share::default(),
            resources: Resources::default(),
            mounts: Vec::new(),
            infra: true,
            infra_name: String::new(),
            exit_policy: ExitPolicy::default(),
            restart: RestartPolicy::default(),
            share_parent: true,
            pid_file: None,
        }
    }
}

/// Which namespaces the members of a pod share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// Network: members reach one another on localhost.
    pub network: bool,
    /// System V IPC, POSIX queues and /dev/shm.
    pub ipc: bool,
    /// Host name.
    pub uts: bool,
    /// Process ids: needs a first process, which the sandbox then has.
    pub pid: bool,
    /// The view of control groups: needs that process too.
    pub cgroup: bool,
}

impl Share {
    /// Nothing.
    pub const NONE: Self = Self { network: false, ipc: false, uts: false, pid: false, cgroup: false };
}

impl Default for Share {
    fn default() -> Self {
        Self { network: true, ipc: true, uts: true, ..Self::NONE }
    }
}

/// What happens to a pod when its last member has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ExitPolicy {
    /// The sandbox stays.
    #[default]
    Continue,
    /// The sandbox goes.
    Stop,
}

impl ExitPolicy {
    /// The name in documents.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Continue => "continue",
            Self::Stop => "stop",
        }
    }
}

/// In which state a pod is, by its members and its sandbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PodPhase {
    /// Nothing of it was ever started.
    #[default]
    Created,
    /// Everything runs.
    Running,
    /// Part of it runs.
    Degraded,
    /// Everything that lives is frozen, and nothing has ended.
    Paused,
    /// Part of it has ended, and nothing runs.
    Stopped,
    /// Everything has ended.
    Exited,
    /// A member could not be cleaned up.
    Dead,
}

impl PodPhase {
    /// The name in tables and documents.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "Created",
            Self::Running => "Running",
            Self::Degraded => "Degraded",
            Self::Paused => "Paused",
            Self::Stopped => "Stopped",
            Self::Exited => "Exited",
            Self::Dead => "Dead",
        }
    }
}

/// In which state a pod's sandbox is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum InfraPhase {
    /// Never up yet.
    #[default]
    Created,
    /// Up.
    Running,
    /// Up, with members that are all frozen.
    Paused,
    /// It was up.
    Exited,
}

impl InfraPhase {
    /// The name in documents.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Exited => "exited",
        }
    }
}

/// A pod as recorded, and as it is.
#[derive(Clone, Debug, Default)]
pub struct PodView {
    /// Full id.
    pub id: String,
    /// Name.
    pub name: String,
    /// Nanoseconds since the epoch.
    pub created: i64,
    /// What it should be.
    pub spec: PodSpec,
    /// The façade's document.
    pub document: Value,
    /// What it is.
    pub phase: PodPhase,
    /// The id that clients see for the sandbox; empty without one.
    pub infra_id: String,
    /// The name that clients see for it.
    pub infra_name: String,
    /// What the sandbox is.
    pub infra: InfraPhase,
    /// When it was set up last, nanoseconds since the epoch; 0: never.
    pub started_at: i64,
    /// When it was taken down last.
    pub finished_at: i64,
    /// The published ports with the host ports that were chosen; empty while it is down.
    pub ports: Vec<PortMapping>,
    /// Its plugs.
    pub endpoints: Vec<EndpointView>,
    /// Path of the control group above its members'; empty: they have none in common.
    pub cgroup: String,
    /// The first process of a shared process namespace; 0: there is none.
    pub init_pid: i32,
    /// Its members, oldest first.
    pub members: Vec<ContainerView>,
}

/// How a pod is removed.
#[derive(Clone, Copy, Debug, Default)]
pub struct PodRemoveOptions {
    /// Stop members that run first.
    pub force: bool,
    /// Seconds until they are killed instead of their own.
    pub timeout: Option<i64>,
    /// Remove their anonymous volumes too.
    pub volumes: bool,
}
