//! Content store, layers, snapshots, archives.
#![forbid(unsafe_code)]
