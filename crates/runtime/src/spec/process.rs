//! `process`: what runs, as whom, with which rights and limits.

use std::path::PathBuf;

use super::wire;

wire! {
/// What to run.
pub struct Process {
    /// Whether it gets a terminal.
    terminal: bool,
    /// The terminal's first size.
    console_size: Option<ConsoleSize>,
    /// As whom it runs.
    user: User,
    /// The program and its arguments.
    args: Vec<String>,
    /// Windows only; kept so that a document survives.
    command_line: String,
    /// The environment, `NAME=value`.
    env: Vec<String>,
    /// The working directory, absolute in the container.
    cwd: PathBuf,
    /// Capability sets; none means none at all.
    capabilities: Option<Capabilities>,
    /// Resource limits.
    rlimits: Vec<Rlimit>,
    /// Forbid gaining privileges by exec.
    no_new_privileges: bool,
    /// An AppArmor profile for exec.
    apparmor_profile: String,
    /// `oom_score_adj`; left alone if absent.
    oom_score_adj: Option<i32>,
    /// Scheduling policy.
    scheduler: Option<Scheduler>,
    /// An SELinux label for exec.
    selinux_label: String,
    /// I/O priority.
    io_priority: Option<IoPriority>,
    /// CPUs of an exec'd process before and after it joins the container.
    #[serde(rename = "execCPUAffinity")]
    exec_cpu_affinity: Option<CpuAffinity>,
}

/// A terminal's size in characters.
pub struct ConsoleSize {
    /// Rows.
    height: u16,
    /// Columns.
    width: u16,
}

/// Numeric identity.
pub struct User {
    /// User id in the container's user namespace.
    uid: u32,
    /// Group id in the container's user namespace.
    gid: u32,
    /// File mode creation mask.
    umask: Option<u32>,
    /// Supplementary groups.
    additional_gids: Vec<u32>,
    /// Windows only; kept so that a document survives.
    username: String,
}

/// Capability sets, names like `CAP_CHOWN`.
pub struct Capabilities {
    /// What exec can ever give.
    bounding: Vec<String>,
    /// What counts at once.
    effective: Vec<String>,
    /// What files with inheritable bits can give.
    inheritable: Vec<String>,
    /// What can be made effective.
    permitted: Vec<String>,
    /// What exec keeps for a user who is not root.
    ambient: Vec<String>,
}

/// One resource limit.
pub struct Rlimit {
    /// A name like `RLIMIT_NOFILE`.
    #[serde(rename = "type")]
    kind: String,
    /// The ceiling.
    hard: u64,
    /// The limit in force.
    soft: u64,
}

/// The arguments of `sched_setattr(2)`.
pub struct Scheduler {
    /// `SCHED_OTHER` and so on.
    policy: String,
    /// For `SCHED_OTHER` and `SCHED_BATCH`.
    nice: i32,
    /// For `SCHED_FIFO` and `SCHED_RR`.
    priority: i32,
    /// `SCHED_FLAG_*` names.
    flags: Vec<String>,
    /// Nanoseconds, for `SCHED_DEADLINE`.
    runtime: u64,
    /// Nanoseconds, for `SCHED_DEADLINE`.
    deadline: u64,
    /// Nanoseconds, for `SCHED_DEADLINE`.
    period: u64,
}

/// The arguments of `ioprio_set(2)`.
pub struct IoPriority {
    /// `IOPRIO_CLASS_RT`, `IOPRIO_CLASS_BE` or `IOPRIO_CLASS_IDLE`.
    class: String,
    /// 0 (first) to 7 (last).
    priority: i32,
}

/// CPU lists for an exec'd process.
pub struct CpuAffinity {
    /// Before it enters the container's cgroup.
    initial: String,
    /// Before it executes the program.
    #[serde(rename = "final")]
    last: String,
}
}
