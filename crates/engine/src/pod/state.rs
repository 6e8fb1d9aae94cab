//! What a sandbox is: `ROOT/pods/ID/state.json`, written by whoever holds the pod's lock alone, and the files that hold
//! its namespaces.

use std::path::Path;

use fluyt_model::error::IoContext;
use fluyt_model::{Error, Result};
use fluyt_monitor::spec::NetworkPlan;
use serde::{Deserialize, Serialize};

use crate::Paths;

const FILE: &str = "state.json";
/// `f_type` of the file system that namespaces live in.
const NSFS_MAGIC: i64 = 0x6e73_6673;

/// What a sandbox is. Times are nanoseconds since the epoch, 0: never.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct SandboxState {
    /// It was set up and not taken down since.
    pub up: bool,
    /// When it was set up last.
    pub started_at: i64,
    /// When it was taken down last.
    pub finished_at: i64,
    /// Names of the files that hold its namespaces.
    pub pins: Vec<String>,
    /// Its plugs, with the ports that were chosen.
    pub network: NetworkPlan,
    /// The first process of a shared process namespace, 0: none.
    pub init_pid: i32,
    /// When that was started, in clock ticks since boot.
    pub init_start: u64,
}

impl SandboxState {
    /// Reads it; a pod that was never up has none.
    ///
    /// # Errors
    /// It is damaged.
    pub fn load(paths: &Paths, id: &str) -> Result<Self> {
        let path = paths.pod(id).join(FILE);
        match std::fs::read(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(e) => Err(Error::io(path.display().to_string(), e)),
            Ok(text) => serde_json::from_slice(&text).map_err(|e| {
                Error::corrupt(format!("{}: not the state of a pod", path.display())).with_source(e)
            }),
        }
    }

    /// Replaces it, at once or not at all.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn save(&self, paths: &Paths, id: &str) -> Result<()> {
        let path = paths.pod(id).join(FILE);
        let about = || path.display().to_string();
        let text = serde_json::to_vec(self).map_err(|e| Error::internal(about()).with_source(e))?;
        let temporary = path.with_extension("new");
        std::fs::write(&temporary, text).about(about)?;
        std::fs::rename(&temporary, &path).about(about)
    }

    /// Whether it is up in fact: after a boot nothing of it is left, and without its first process it cannot be joined.
    #[must_use]
    pub fn is_up(&self, run: &Path) -> bool {
        self.up && run.is_dir() && self.pins.iter().all(|pin| is_pin(&run.join(pin))) && self.init_lives()
    }

    /// Whether its first process lives, if it has one.
    pub fn init_lives(&self) -> bool {
        // One that has ended and waits to be reaped lives no more.
        let lives = |stat: fluyt_runtime::Stat| {
            stat.start_time == self.init_start && !matches!(stat.state, b'Z' | b'X')
        };
        self.init_pid == 0 || fluyt_runtime::process_stat(self.init_pid).is_ok_and(lives)
    }
}

/// Whether a file holds a namespace.
pub(super) fn is_pin(path: &Path) -> bool {
    rustix::fs::statfs(path).is_ok_and(|s| s.f_type == NSFS_MAGIC)
}
