//! Compose projects.
//!
//! [`load`] makes a project of files (pure but for the trait that reads them), [`plan`] makes steps of a project and
//! what is there (pure), [`execute`] does them over Docker's operations, wherever those are answered. Nothing here knows
//! a terminal.

#![forbid(unsafe_code)]

pub mod artifact;
pub mod draw;
pub mod execute;
pub mod labels;
pub mod load;
pub mod lower;
pub mod plan;
mod project;
pub mod provider;
pub mod publish;
mod schema;
pub mod socket;
pub mod units;
pub mod view;
pub mod watch;

pub use fluyt_yaml as document;
use fluyt_yaml::fault;
pub use load::{Options, Source, load};
pub use project::Project;
