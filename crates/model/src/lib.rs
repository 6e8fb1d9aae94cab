//! The vocabulary of fluyt: error kinds, ids, names, quantities and the sandbox contract.
//!
//! Everything else in the workspace speaks in these words. There is no I/O here, no clock, no async and no
//! wire format of any other system: a façade (Docker's, Kubernetes') *lowers* its own documents to
//! [`sandbox::SandboxSpec`] and renders its answers from [`sandbox::SandboxStatus`].
#![forbid(unsafe_code)]

pub mod amount;
pub mod error;
pub mod id;
pub mod quantity;
pub mod reference;
pub mod sandbox;
pub mod time;

pub use amount::Amount;
pub use error::{Error, Kind, Result};
