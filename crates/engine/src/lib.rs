//! Sandboxes, images, networks and volumes of one data root, as a plain blocking library.
//!
//! Several processes may use one root at once: records are in SQLite, what lives is known by file locks, and every
//! other state is looked at when it is needed. A façade lowers its own documents to
//! [`SandboxSpec`](fluyt_model::sandbox::SandboxSpec), hands them to [`Engine::create`] and renders its answers from
//! the views that come back.
//!
//! What is absent: a daemon, an async runtime, threads that outlive a call, any façade's vocabulary.
#![forbid(unsafe_code)]

pub mod api;
mod apparmor;
pub mod build_cache;
mod build_gc;
mod cdi;
mod client;
mod container;
mod events;
mod lookup;
mod lower;
mod names;
mod network;
mod notice;
mod paths;
pub mod pod;
mod records;
mod reset;
mod resolver;
mod seal;
mod step;
mod step_claim;
mod system;
mod volume;

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::Arc;

use fluyt_image::Store;
use fluyt_model::Result;

pub use api::*;
pub use apparmor::profile_shown as apparmor_profile;
pub use cdi::has_device;
pub use client::{Attach, Frame};
pub use container::attend::{Attended, ExecControl, ExecRecord, main as attend};
pub use container::exec::{Exec, ExecTarget};
pub use container::logs::{LogLine, LogReader};
pub use container::recorded::{Memory, Recorded};
pub use container::wait::Waiter;
pub use events::EventReader;
pub use notice::{Followed, Patience, wait_until_read};
pub use paths::{DEFAULT_ROOT, Paths};
pub use reset::reset;
pub use seal::seal;
pub use step::{Step, StepRequest};

use container::recorded::Sights;
use records::Records;

/// One data root.
pub struct Engine {
    paths: Paths,
    store: Store,
    /// Monitors that were started here and have not been collected.
    children: RefCell<Vec<Child>>,
    /// Records that this process has read.
    memory: Arc<Memory>,
    /// Those of them that hold by what this engine's connection saw last.
    sights: RefCell<Sights>,
}

impl Engine {
    /// Opens the data root at `root`, and makes it if it does not exist.
    ///
    /// # Errors
    /// The directory or the database cannot be made or opened.
    pub fn open(root: &Path) -> Result<Self> {
        Self::with_memory(root, Arc::default())
    }

    /// The same beside others of the process: what one has read of a container, none of them reads again.
    ///
    /// # Errors
    /// The directory or the database cannot be made or opened.
    pub fn with_memory(root: &Path, memory: Arc<Memory>) -> Result<Self> {
        let paths = Paths::new(root)?;
        let store = Store::open(paths.root())?;
        Records::migrate(store.db())?;
        Ok(Self { paths, store, children: RefCell::default(), memory, sights: RefCell::default() })
    }

    /// What it has read, for another engine of the same data root.
    #[must_use]
    pub fn memory(&self) -> Arc<Memory> {
        Arc::clone(&self.memory)
    }

    /// The data root that is used when none is named.
    #[must_use]
    pub fn default_root() -> PathBuf {
        PathBuf::from(DEFAULT_ROOT)
    }

    /// The image store.
    #[must_use]
    pub fn images(&self) -> &Store {
        &self.store
    }

    /// Where this data root keeps what.
    #[must_use]
    pub fn paths(&self) -> &Paths {
        &self.paths
    }

    /// The monitors that this engine started since it was last asked: children of this process. One that lives long
    /// collects them when they end.
    #[must_use]
    pub fn take_children(&self) -> Vec<Child> {
        self.children.take()
    }

    fn records(&self) -> Records<'_> {
        Records::new(self.store.db())
    }
}
