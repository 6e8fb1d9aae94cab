//! The OCI runtime as its callers meet it: the real binary, real bundles, every feature asserted from inside.
//!
//! `FLUYT_TEST_RUNTIME=crun` runs the same suite with another runtime, to tell a wrong test from a wrong program.
#![forbid(unsafe_code)]

mod basics;
mod bundle;
mod callers;
mod hooks;
mod lifecycle;
mod limits;
mod mounts;
mod namespaces;
mod peers;
mod process;
mod seccomp;
mod systemd;
