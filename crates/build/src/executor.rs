//! What the solver needs of the world: something that runs commands, something that finds images, somebody who watches.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fluyt_model::Result;

use crate::graph::Id;

/// A command to run in a root file system.
#[derive(Clone, Debug, Default)]
pub struct ExecStep {
    /// Lower directories, topmost first.
    pub layers: Vec<PathBuf>,
    /// The upper directory: what the command changes.
    pub upper: PathBuf,
    /// The overlay's work directory.
    pub work: PathBuf,
    /// An empty directory to mount on.
    pub mountpoint: PathBuf,
    /// A directory for files of the step; it vanishes with the step.
    pub dir: PathBuf,
    /// Executable and arguments.
    pub args: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// Working directory.
    pub cwd: String,
    /// `user[:group]`; empty: root.
    pub user: String,
    /// The host's name.
    pub hostname: String,
    /// `default`, `none` or `host`.
    pub network: String,
    /// Without confinement.
    pub insecure: bool,
    /// Mounts, in order.
    pub mounts: Vec<StepMount>,
    /// Additional lines of /etc/hosts: name and address.
    pub hosts: Vec<(String, String)>,
    /// Bytes of /dev/shm; 0: the default.
    pub shm_size: u64,
    /// Name, soft and hard limit.
    pub ulimits: Vec<(String, u64, u64)>,
    /// CDI devices.
    pub devices: Vec<String>,
    /// CDI devices that the command does without where they are not there.
    pub optional_devices: Vec<String>,
    /// What the root file system is made for, if that is not what this machine runs by itself.
    pub platform: String,
}

/// A mount of a step.
#[derive(Clone, Debug)]
pub struct StepMount {
    /// Where it appears.
    pub target: String,
    /// It cannot be written.
    pub read_only: bool,
    /// What it is.
    pub source: StepSource,
}

/// What is mounted.
#[derive(Clone, Debug)]
pub enum StepSource {
    /// A file or directory of the host.
    Host(PathBuf),
    /// A path in an overlay of these directories, topmost first; written to an upper directory if there is one.
    Layers {
        /// Lower directories.
        layers: Vec<PathBuf>,
        /// Upper and work directory.
        upper: Option<(PathBuf, PathBuf)>,
        /// An empty directory to mount on.
        mountpoint: PathBuf,
        /// The path inside.
        path: String,
    },
    /// Memory, of so many bytes; 0: no limit.
    Tmpfs(u64),
    /// A file that must not reach the disk: content; mode, owner and group.
    Secret(Vec<u8>, (u32, u32, u32)),
}

/// Whose output it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Told when a build is to end early.
#[derive(Debug, Default)]
pub struct Cancel {
    told: Arc<AtomicBool>,
    above: Option<Arc<AtomicBool>>,
}

impl Cancel {
    /// Ends the build.
    pub fn cancel(&self) {
        self.told.store(true, Ordering::SeqCst);
    }

    /// Whether it is to end.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.told.load(Ordering::SeqCst) || self.above.as_ref().is_some_and(|a| a.load(Ordering::SeqCst))
    }

    /// One for a part of the build: it ends with the whole, or alone.
    #[must_use]
    pub fn part(&self) -> Self {
        Self { told: Arc::default(), above: Some(Arc::clone(&self.told)) }
    }
}

/// Runs commands.
///
/// A step owns its directories until the call returns; then nothing of it runs, nothing is mounted. When `cancel` is
/// set, the command and all its descendants are killed and the call returns soon.
pub trait Executor: Sync {
    /// Runs a command; its exit code.
    ///
    /// # Errors
    /// It could not be started.
    fn run(&self, step: &ExecStep, output: &(dyn Fn(Output, &[u8]) + Sync), cancel: &Cancel) -> Result<i32>;
}

/// A file of a web server that is here already, as the server called it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Validators {
    /// `ETag`; empty: none.
    pub etag: String,
    /// `Last-Modified`; empty: none.
    pub modified: String,
}

/// What came of asking for a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fetched {
    /// What is here is still what is there.
    Unchanged,
    /// It was fetched.
    File {
        /// The name that the server gives it: a single name.
        name: Option<String>,
        /// The time that the server states, in seconds since the epoch.
        time: Option<i64>,
        /// For the next time.
        validators: Validators,
    },
}

/// Fetches what is not an image.
pub trait Fetch: Sync {
    /// Writes what is at the address into the file, unless it is what is `known`.
    ///
    /// # Errors
    /// What the server says.
    fn http(&self, url: &str, known: &Validators, file: &std::path::Path) -> Result<Fetched>;
}

/// What happens in a build.
#[derive(Debug)]
pub enum Event<'a> {
    /// A vertex is being worked on.
    Started(Id),
    /// A vertex is done: from the cache or not.
    Done(Id, bool),
    /// A vertex failed.
    Failed(Id, &'a str),
    /// Output of a vertex's command.
    Output(Id, Output, &'a [u8]),
}

/// Watches a build.
pub trait Watch: Sync {
    /// Something happened.
    fn event(&self, event: Event<'_>);
}
