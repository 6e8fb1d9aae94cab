//! What this runtime can do, for `features` (runtime-spec, features.md).

/// Mount options that the runtime understands by itself.
#[must_use]
pub fn mount_options() -> &'static [&'static str] {
    crate::init::options::KNOWN
}

/// Namespaces that it can create and join.
pub const NAMESPACES: [&str; 8] = ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"];

/// Hook stages that it runs.
pub const HOOKS: [&str; 6] =
    ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// Capability names that it knows.
#[must_use]
pub fn capabilities() -> &'static [&'static str] {
    &crate::init::identity::NAMES
}

/// Seccomp actions that it compiles.
pub const SECCOMP_ACTIONS: [&str; 9] = [
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_LOG",
    "SCMP_ACT_NOTIFY",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_TRAP",
];
