//! Quadlet: `.container`, `.volume`, `.network`, `.image`, `.build`, `.pod` and `.kube` units become systemd services
//! that call fluyt (podman-systemd.unit(5)).
//!
//! ```text
//! directories --find--> units with their drop-ins --generate--> services and the links of [Install]
//!   trait Files             pure                       pure
//! ```
//!
//! What a key becomes is one table ([`keys`]); what it takes a thought for is in `lower`. Pure but for [`find::Files`]
//! and [`lower::Machine`]: nothing here writes a file, asks systemd or knows which engine will run the lines.
#![forbid(unsafe_code)]

pub mod find;
mod install;
pub mod keys;
pub mod kind;
mod lower;
pub mod unit;
pub mod words;

pub use install::Link;
pub use kind::Kind;
pub use lower::{Machine, Made, Options, Service, generate};
pub use unit::Unit;
