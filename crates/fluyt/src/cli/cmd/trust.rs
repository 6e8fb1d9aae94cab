//! The flag of the signature policy; what the policy says of images is `docker-api`'s part.

pub use fluyt_docker_api::policy::{check, check_archive, now};

use crate::cli::flags::{Flag, NONE, text};

/// Podman's flag.
pub const SIGNATURE_POLICY: Flag =
    text(NONE, "signature-policy", "Path to a signature policy file (containers-policy.json)");
