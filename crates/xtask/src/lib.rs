//! What a developer runs on this repository: its rules, its one test command, its demonstration, its cgroup v2 machine.
//!
//! Nothing of this is shipped. It needs only the standard library, so that it builds in seconds.
#![forbid(unsafe_code)]

pub mod vm;

use std::fmt;

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
