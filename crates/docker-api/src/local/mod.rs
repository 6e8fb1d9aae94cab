//! The operations over the engine library: what the plain command line and the engine's socket both call.
//!
//! No JSON, no HTTP, no terminal. A file per group; each turns parameters into what the engine understands and views
//! into documents.

mod attach;
mod builds;
mod containers;
mod create;
mod execs;
mod follow;
mod images;
mod manifests;
mod networks;
mod system;
pub(crate) mod tell;
mod volumes;

pub(crate) use networks::no_swarm;

use std::collections::HashMap;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::{Arc, Mutex, PoisonError};

use fluyt_engine::{Engine, ExecControl, Memory};
use fluyt_model::Result;
use fluyt_registry::Registry;

use crate::api::AuthConfig;
use crate::transfer;

/// So many engines are kept open for the next operations; each has a connection to the records.
const KEPT: usize = 4;

/// An engine of this process.
///
/// An [`Engine`] serves one thread at a time, so that there is a small stock of them: an operation takes one and puts
/// it back. A caller with one thread never opens a second.
#[derive(Clone)]
pub struct Local {
    shared: Arc<Shared>,
}

struct Shared {
    root: PathBuf,
    /// The credentials of this process's user are those of who asks.
    own_logins: bool,
    /// What any of them has read of containers.
    memory: Arc<Memory>,
    idle: Mutex<Vec<Engine>>,
    hub: attach::Hub,
    /// Monitors that were started here: children of this process.
    children: Mutex<Vec<Child>>,
    /// Lines to the keepers of commands with terminals that were started here, by the command's id.
    controls: Mutex<HashMap<String, ExecControl>>,
}

impl Local {
    /// Over the data root at `root`, which is made if it does not exist.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn open(root: &Path) -> Result<Self> {
        Ok(Self::over(Engine::open(root)?))
    }

    /// As [`Local::open`], for clients that are not the user of this process: registries are asked with what a client
    /// sends, never with what this user has logged in with.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn for_clients(root: &Path) -> Result<Self> {
        Ok(Self::with(Engine::open(root)?, false))
    }

    /// Over an engine that is open already.
    #[must_use]
    pub fn over(engine: Engine) -> Self {
        Self::with(engine, true)
    }

    fn with(engine: Engine, own_logins: bool) -> Self {
        let root = engine.paths().root().to_owned();
        Self {
            shared: Arc::new(Shared {
                root,
                own_logins,
                memory: engine.memory(),
                idle: Mutex::new(vec![engine]),
                hub: attach::Hub::default(),
                children: Mutex::default(),
                controls: Mutex::default(),
            }),
        }
    }

    /// The data root.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.shared.root
    }

    /// The client of all registries for who asks.
    fn registry(&self, domain: &str, given: Option<&AuthConfig>, policy: Option<&str>) -> Result<Registry> {
        transfer::client_for(domain, given, policy, self.shared.own_logins)
    }

    /// Collects children that have ended: for a process that lives long, every second or so.
    pub fn tidy(&self) {
        let mut children = self.shared.children.lock().unwrap_or_else(PoisonError::into_inner);
        children.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
        drop(children);
        let mut controls = self.shared.controls.lock().unwrap_or_else(PoisonError::into_inner);
        controls.retain(|_, control| control.is_open());
    }

    /// An engine for the calling thread.
    ///
    /// # Errors
    /// The data root cannot be opened once more.
    pub fn engine(&self) -> Result<Held> {
        let idle = self.shared.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let engine = match idle {
            Some(engine) => engine,
            None => Engine::with_memory(&self.shared.root, Arc::clone(&self.shared.memory))?,
        };
        Ok(Held { engine: Some(engine), shared: Arc::clone(&self.shared) })
    }
}

/// An engine that is in use; it goes back to the stock when this is dropped.
pub struct Held {
    engine: Option<Engine>,
    shared: Arc<Shared>,
}

impl Deref for Held {
    type Target = Engine;

    fn deref(&self) -> &Engine {
        self.engine.as_ref().expect("it is there until the drop")
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let Some(engine) = self.engine.take() else { return };
        let children = engine.take_children();
        if !children.is_empty() {
            self.shared.children.lock().unwrap_or_else(PoisonError::into_inner).extend(children);
        }
        let mut idle = self.shared.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < KEPT {
            idle.push(engine);
        }
    }
}
