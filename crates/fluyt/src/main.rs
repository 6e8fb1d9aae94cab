//! The fluyt binary.
#![forbid(unsafe_code)]

mod cli;

fn main() {}
