//! Docker's documents: their types, and (in other modules) their lowering to the sandbox contract.
//!
//! Everything here is pure: no clock, no randomness, no I/O.
#![forbid(unsafe_code)]

pub mod lower;
pub mod types;
