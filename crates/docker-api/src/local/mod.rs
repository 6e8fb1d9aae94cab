//! The operations over the engine library: what the plain command line and the engine's socket both call.
//!
//! No JSON, no HTTP, no terminal. A file per group; each turns parameters into what the engine understands and views
//! into documents.

mod builds;
mod containers;
mod execs;
mod images;
mod manifests;
mod networks;
mod system;
mod tell;
mod volumes;

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use fluyt_engine::Engine;
use fluyt_model::{Error, Result};

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
    idle: Mutex<Vec<Engine>>,
}

impl Local {
    /// Over the data root at `root`, which is made if it does not exist.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn open(root: &Path) -> Result<Self> {
        Ok(Self::over(Engine::open(root)?))
    }

    /// Over an engine that is open already.
    #[must_use]
    pub fn over(engine: Engine) -> Self {
        let root = engine.paths().root().to_owned();
        Self { shared: Arc::new(Shared { root, idle: Mutex::new(vec![engine]) }) }
    }

    /// The data root.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.shared.root
    }

    /// An engine for the calling thread.
    ///
    /// # Errors
    /// The data root cannot be opened once more.
    pub fn engine(&self) -> Result<Held> {
        let idle = self.shared.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let engine = match idle {
            Some(engine) => engine,
            None => Engine::open(&self.shared.root)?,
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
        let mut idle = self.shared.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(engine) = self.engine.take()
            && idle.len() < KEPT
        {
            idle.push(engine);
        }
    }
}

/// What is not there yet, by its name.
pub(crate) fn missing(what: &str) -> Error {
    Error::unsupported(format!("{what} is not implemented by this engine"))
}
