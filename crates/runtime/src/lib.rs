//! An OCI runtime (runtime-spec 1.3) as a library.
//!
//! # Contract
//! [`launch`] clones the init stage of a container straight into its namespaces; while that child mounts the container's
//! file systems, `launch` makes the control groups and sets their limits. Between [`launch`] and [`Starting::proceed`] the
//! caller may plug in the network ([`Starting::netns`]). `proceed` runs the runtime hooks, lets the child go and returns
//! when the program has been executed, or with the reason why not: [`Kind::CommandNotFound`] and
//! [`Kind::CommandNotExecutable`] carry Docker's words. Whatever fails, what was made so far is undone; if the caller dies
//! in between, the child dies with it.
//!
//! The caller is single threaded and is not changed: no namespace, directory, mask or signal of it. It reaps the container
//! (`fluyt_sys::clone::reap`), runs `poststart` and `poststop` hooks ([`hooks::run_all`]) and deletes the [`Cgroup`].
//! It must itself run from a sealed executable ([`fluyt_sys::exe::seal`]); `launch` does not seal.
//!
//! Users and groups are numbers as in the specification; names are the caller's business. A program without a slash is
//! searched in the container along the `PATH` of `process.env`.
//!
//! Absent: state on disk (the command line has it), logs, restarts, networks.
//!
//! [`Kind::CommandNotFound`]: fluyt_model::error::Kind::CommandNotFound
//! [`Kind::CommandNotExecutable`]: fluyt_model::error::Kind::CommandNotExecutable
#![forbid(unsafe_code)]

mod affinity;
mod cgroup;
mod dbus;
mod exec;
pub mod features;
pub mod hooks;
mod init;
mod launch;
mod list;
mod netdev;
mod numa;
mod prepare;
mod procfs;
mod rdt;
mod rlimit;
mod seccomp;
pub mod spec;
mod streams;
mod sync;
mod systemd;
mod validate;

pub use affinity::mask as affinity_mask;
pub use cgroup::{
    BlkioEntry, Cgroup, CgroupDriver, CgroupPaths, CgroupStats, CpuStats, HugetlbStats, MemoryStats,
    OomWatch, PidsStats, Pressure, PressureLine, V1Dir, is_unified,
};
pub use exec::{ExecRequest, exec};
pub use init::mounts::mount_on;
pub use init::root::Root;
pub use init::rootfs::overlay;
pub use launch::{Io, Launch, Rootfs, Running, Starting, await_start, launch, rootfs_of};
pub use procfs::{Stat, start_time, stat as process_stat};
pub use rdt::remove as remove_resctrl;
pub use validate::id as validate_id;
