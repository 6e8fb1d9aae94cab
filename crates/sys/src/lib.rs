//! The Linux boundary of fluyt: system calls as owned, safe operations, and the only `unsafe` in the workspace.
//!
//! No policy lives here. Every error names the path, id or address it is about. Each module is one kernel
//! interface; a module that needs `unsafe` argues it in a SAFETY comment at the block.

pub mod activation;
pub mod adopt;
pub mod bpf;
pub mod clone;
pub mod exe;
pub mod heap;
pub mod localtime;
pub mod mount;
pub mod netdev;
pub mod netlink;
pub mod nofile;
pub mod pass;
pub mod peer;
pub mod seccomp;
pub mod signal;
pub mod signals;
pub mod spawn;
pub mod task;
pub mod unread;
