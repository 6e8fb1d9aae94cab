//! Docker's vocabulary over the engine.
//!
//! `types` and `lower` are pure: documents, and their lowering to the sandbox contract. `render` makes documents of the
//! engine's views, `select` says which objects an operation means.
#![forbid(unsafe_code)]

pub mod filter;
pub mod lower;
pub mod machine;
pub mod render;
pub mod select;
pub mod time;
pub mod types;
