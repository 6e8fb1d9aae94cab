//! The build cache of other machines: what a build leaves for them, what it takes from them.
//!
//! The keys of results depend on contents only (see [`crate::solve`]), so a record of one machine is as good on another.
//! [`document`] is what is written; [`import`] reads it and fetches layers when they are needed; [`export`] makes it of
//! what a build has done. Where it is kept, a directory, a registry or an image, is the caller's business.

pub mod document;
pub mod export;
pub mod import;

pub use document::Document;
pub use export::{Exported, Ledger, Made, Mode};
pub use import::{Import, Imports, Kept, Origin};
