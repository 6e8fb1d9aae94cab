//! The process that owns one sandbox.
#![forbid(unsafe_code)]
