//! `kube`: pods of Kubernetes' YAML on this machine, with Podman's verbs, flags, output and exit codes (125 for what fails).

mod document;
mod down;
mod generate;
mod images;
mod make;
mod play;
mod secrets;
mod source;

pub use generate::{GENERATE, generate};

use fluyt_model::Error;

use crate::cli::fail::Failure;
use crate::cli::tree::{Node, plain};

/// All words after `fluyt kube`.
pub const KUBE: &[Node] = &[
    plain(&down::DOWN, down::down),
    plain(&generate::GENERATE, generate::generate),
    plain(&play::PLAY, play::play),
];

/// All words after `fluyt play`.
pub const PLAY: &[Node] = &[plain(&play::PLAY, play::play).called("kube")];

/// Podman's exit code of what fails.
const FAILED: i32 = 125;

/// A failure with Podman's exit code.
fn failed(error: Error) -> Failure {
    Failure::Coded(error, FAILED)
}
