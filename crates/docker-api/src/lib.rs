//! Docker's vocabulary and operations over the engine.
//!
//! - [`types`], [`lower`]: documents, and their lowering to the sandbox contract. Pure: no clock, no randomness, no I/O.
//! - [`render`] makes documents of the engine's views, [`select`] says which objects an operation means.
//! - [`api`]: the operations as traits; [`local`]: the operations over the engine library; [`server`]: over HTTP; [`remote`]: over a
//!   connection to somebody's daemon.
#![forbid(unsafe_code)]

pub mod api;
pub mod build;
pub mod filter;
pub mod keys;
pub mod local;
pub mod lower;
pub mod machine;
pub mod policy;
pub mod remote;
pub mod render;
pub mod select;
pub mod server;
pub mod time;
pub mod transfer;
pub mod types;
