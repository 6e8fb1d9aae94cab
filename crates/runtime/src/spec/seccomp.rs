//! `linux.seccomp`: the system call filter as written, before it is compiled.

use super::wire;

wire! {
/// A system call filter.
pub struct Seccomp {
    /// What happens to calls that no rule matches.
    default_action: String,
    /// The errno of a default action `SCMP_ACT_ERRNO` or `SCMP_ACT_TRACE`; EPERM if absent.
    default_errno_ret: Option<u32>,
    /// `SCMP_ARCH_*`; empty means the native one.
    architectures: Vec<String>,
    /// `SECCOMP_FILTER_FLAG_*`; none at all and an empty list are not the same.
    flags: Option<Vec<String>>,
    /// A unix socket that gets the notification descriptor.
    listener_path: String,
    /// Sent along to the listener.
    listener_metadata: String,
    /// The rules.
    syscalls: Vec<SyscallRule>,
}

/// One rule.
pub struct SyscallRule {
    /// System call names; unknown ones are ignored.
    names: Vec<String>,
    /// `SCMP_ACT_*`.
    action: String,
    /// The errno of `SCMP_ACT_ERRNO` or `SCMP_ACT_TRACE`.
    errno_ret: Option<u32>,
    /// All must hold, except that several conditions on one argument are alternatives.
    args: Vec<SyscallArg>,
}

/// A condition on an argument.
pub struct SyscallArg {
    /// 0 to 5.
    index: u32,
    /// What it is compared with.
    value: u64,
    /// The second operand of `SCMP_CMP_MASKED_EQ`.
    value_two: u64,
    /// `SCMP_CMP_*`.
    op: String,
}
}
