//! `monitor.json`: everything a monitor must know besides the OCI configuration beside it.
//!
//! Written by the engine before a start and on `update`, read by the monitor at each start of the container.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use fluyt_model::error::IoContext;
use fluyt_model::sandbox::{HealthCheck, LogSpec, Notify, PortMapping, RestartPolicy, Stdin, StopSpec};
use fluyt_model::{Error, Result};
use fluyt_runtime::Rootfs;
use serde::{Deserialize, Serialize};

use crate::state::Subject;

/// What a monitor runs and how it keeps it running.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct MonitorSpec {
    /// Container id.
    pub id: String,
    /// Data root, for the last act of an auto-removed container.
    pub root: PathBuf,
    /// The container's directory: `config.json`, `state.json`.
    pub dir: PathBuf,
    /// The container's run directory: the lock and the socket.
    pub run_dir: PathBuf,
    /// Root file system.
    pub rootfs: RootfsSpec,
    /// A pseudo-terminal is allocated.
    pub tty: bool,
    /// What becomes of standard input.
    pub stdin: Stdin,
    /// First size of the terminal: rows, columns.
    pub console_size: (u16, u16),
    /// Where output goes.
    pub log: LogSpec,
    /// The log file, for drivers that have one.
    pub log_path: PathBuf,
    /// What happens after an exit.
    pub restart: RestartPolicy,
    /// Health check.
    pub health: Option<HealthCheck>,
    /// How to stop.
    pub stop: StopSpec,
    /// Network.
    pub network: NetworkPlan,
    /// Volumes that have to be mounted.
    pub volumes: Vec<crate::volumes::VolumeMount>,
    /// The event journal of the data root.
    pub events: PathBuf,
    /// Attributes of every event: image, name and labels.
    pub attributes: BTreeMap<String, String>,
    /// The networks and volumes that it takes up when it starts and lets go when it ends, for the events that say so.
    pub companions: Vec<Subject>,
    /// The service manager that is told when the container is up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub notify: Option<Notify>,
    /// When the container has ended for good and nobody attached takes care of it, remove it.
    pub auto_remove: bool,
    /// The pod to be taken down if this was its last member; empty: none.
    pub pod: String,
}

/// The overlay that becomes the root file system.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RootfsSpec {
    /// Read-only layers, top first.
    pub lower: Vec<PathBuf>,
    /// Writable layer.
    pub upper: PathBuf,
    /// Work directory beside it.
    pub work: PathBuf,
    /// Extra overlay options.
    pub options: Vec<String>,
    /// An existing empty directory to mount on.
    pub target: PathBuf,
    /// The layers are seen through the mappings of the container's user namespace; all lie below this directory.
    pub mapped: Option<PathBuf>,
}

impl RootfsSpec {
    /// The same in the runtime's words.
    pub(crate) fn overlay(&self) -> Rootfs {
        Rootfs::Overlay {
            lower: self.lower.clone(),
            upper: self.upper.clone(),
            work: self.work.clone(),
            options: self.options.clone(),
            target: self.target.clone(),
            mapped: self.mapped.clone(),
        }
    }
}

/// What is plugged in before the container's first instruction.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkPlan {
    /// Which data root's links and tables these are.
    pub scope: String,
    /// The container has its own network namespace to set up (not the host's, not joined).
    pub own: bool,
    /// The namespace is a pod's, which is set up. Only what a process has to do is done: holding ports, answering names.
    pub joined: bool,
    /// Bridges that must exist.
    pub bridges: Vec<fluyt_net::BridgeSpec>,
    /// Plugs, in order.
    pub endpoints: Vec<Plug>,
    /// Ports to publish.
    pub ports: Vec<PortMapping>,
    /// The resolver at 127.0.0.11, where one is needed.
    pub dns: Option<fluyt_net::dns::Config>,
}

/// One plug and the network it belongs to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plug {
    /// Network id.
    pub network: String,
    /// The link.
    pub endpoint: fluyt_net::EndpointSpec,
}

impl MonitorSpec {
    /// Reads `DIR/monitor.json`.
    ///
    /// # Errors
    /// The file is missing or is not what the engine writes.
    pub fn load(dir: &Path) -> Result<Self> {
        let path = dir.join("monitor.json");
        let text = std::fs::read(&path).about(|| path.display().to_string())?;
        serde_json::from_slice(&text).map_err(|e| {
            Error::corrupt(format!("{}: not a monitor specification", path.display())).with_source(e)
        })
    }
}
