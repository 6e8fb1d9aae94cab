//! Builds images: a Dockerfile becomes a graph of operations, a solver carries out what its cache does not have.
//!
//! ```text
//! text --dockerfile::parse--> instructions --plan--> Graph --solve--> layers --export--> image
//! ```
//!
//! - [`dockerfile`], [`ignore`] and [`plan`] are pure. What they need of the world, a base image's configuration, comes
//!   in through a function.
//! - [`graph`] is the border: operations with digests, independent of the Dockerfile.
//! - [`solve`] runs independent operations at once and asks the cache by content first. Commands run through
//!   [`Executor`], base images come through [`Images`]: both are the caller's.
//!
//! What is absent: a terminal, a registry protocol, the container runtime.
#![forbid(unsafe_code)]

pub mod dockerfile;
pub mod ignore;
