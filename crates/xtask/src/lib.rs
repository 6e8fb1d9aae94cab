//! What a developer runs on this repository: its rules, its one test command, its demonstration, its cgroup v2 machine.
//!
//! Nothing of this is shipped. It has few dependencies, so that it builds in seconds.
#![forbid(unsafe_code)]

pub mod demo;
pub mod packages;
pub mod suite;
pub mod tidy;
pub mod vm;

use std::fmt;
use std::path::{Path, PathBuf};

/// Why a command of this tool failed, as one message for a person.
#[derive(Debug)]
pub struct Failure(String);

/// The result of everything here.
pub type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    /// A failure that says `message`.
    pub fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failure {}

/// The repository that this tool was built from.
///
/// # Errors
/// It is not there any more.
pub fn repository() -> Result<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    path.canonicalize().map_err(|e| Failure::new(format!("{}: {e}", path.display())))
}
