//! The fluyt binary.
#![forbid(unsafe_code)]

fn main() {}
