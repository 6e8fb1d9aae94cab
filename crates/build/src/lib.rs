//! Builds images: a Dockerfile becomes a graph of operations, a solver carries out what its cache does not have.
//!
//! ```text
//! text --dockerfile::parse--> instructions --plan--> Graph --solve--> layers --export--> image
//! ```
//!
//! - [`dockerfile`], [`ignore`] and [`plan`] are pure. What they need of the world, a base image's configuration, comes
//!   in through a function.
//! - [`graph`] is the border: operations with digests, independent of the Dockerfile.
//! - [`cache`] is the cache of other machines.
//! - [`solve`] runs independent operations at once and asks the cache by content first. Commands run through
//!   [`Executor`], which is the caller's.
//!
//! What is absent: a terminal, a registry protocol, the container runtime.
#![forbid(unsafe_code)]

pub mod attest;
pub mod cache;
pub mod dockerfile;
pub mod executor;
pub mod git;
pub mod gitref;
pub mod graph;
pub mod ignore;
pub mod mode;
pub mod plan;
pub mod sbom;
pub mod solve;

pub use executor::{
    Cancel, Event, ExecStep, Executor, Fetch, Fetched, Output, StepMount, StepSource, Validators, Watch,
};
