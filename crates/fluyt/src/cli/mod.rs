//! The Docker-compatible command line.

pub mod create;
pub mod flags;
