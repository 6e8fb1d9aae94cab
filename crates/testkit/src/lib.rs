//! What the tests of every crate share: scratch roots, leak checks, reference images, the program under test.
#![forbid(unsafe_code)]

pub mod debian;
pub mod fuzz;
pub mod host;
pub mod images;
pub mod leaks;
pub mod loggers;
pub mod mounts;
pub mod netns;
pub mod registry;
pub mod scratch;
pub mod tokens;
pub mod wait;

pub use host::{Host, Outcome};
pub use scratch::Scratch;

/// Whether this process is root in the machine's own user namespace: what most tests that touch the kernel need.
#[must_use]
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Says that the running test cannot run here, and why; the test then returns. The runner counts it as skipped.
pub fn skip(reason: &str) {
    println!("skipped: {reason}");
}
