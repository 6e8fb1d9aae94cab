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

/// NUMA memory policy modes that it sets.
#[must_use]
pub fn memory_policy_modes() -> Vec<&'static str> {
    crate::numa::MODES.iter().map(|(name, _)| *name).collect()
}

/// NUMA memory policy flags that it sets.
#[must_use]
pub fn memory_policy_flags() -> Vec<&'static str> {
    crate::numa::FLAGS.iter().map(|(name, _)| *name).collect()
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

/// Seccomp comparisons that it compiles.
pub const SECCOMP_OPERATORS: [&str; 7] = [
    "SCMP_CMP_EQ",
    "SCMP_CMP_GE",
    "SCMP_CMP_GT",
    "SCMP_CMP_LE",
    "SCMP_CMP_LT",
    "SCMP_CMP_MASKED_EQ",
    "SCMP_CMP_NE",
];

/// Seccomp filter flags that it passes on.
pub const SECCOMP_FLAGS: [&str; 4] = [
    "SECCOMP_FILTER_FLAG_TSYNC",
    "SECCOMP_FILTER_FLAG_LOG",
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
];

/// The flags with which a filter is loaded, as the kernel's numbers. `None` for unknown ones.
#[must_use]
pub fn seccomp_flags(seccomp: &crate::spec::Seccomp) -> Option<u64> {
    crate::seccomp::configured_flags(seccomp).ok()
}

/// Architectures whose system calls it knows.
pub const SECCOMP_ARCHS: [&str; 12] = [
    "SCMP_ARCH_AARCH64",
    "SCMP_ARCH_ARM",
    "SCMP_ARCH_LOONGARCH64",
    "SCMP_ARCH_MIPS64",
    "SCMP_ARCH_MIPSEL64",
    "SCMP_ARCH_PPC64",
    "SCMP_ARCH_PPC64LE",
    "SCMP_ARCH_RISCV64",
    "SCMP_ARCH_S390X",
    "SCMP_ARCH_X32",
    "SCMP_ARCH_X86",
    "SCMP_ARCH_X86_64",
];
