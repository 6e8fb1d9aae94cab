//! Compose projects.
//!
//! [`load`] makes a project of files (pure but for the trait that reads them). Nothing here knows a terminal, a clock
//! or the engine.

#![forbid(unsafe_code)]

pub mod document;
mod fault;
pub mod load;
mod project;
mod schema;
pub mod units;

pub use load::{Options, Source, load};
pub use project::Project;
