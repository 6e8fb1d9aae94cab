//! How many descriptors this process may have open, raised for itself alone: programs that it starts through
//! [`crate::spawn`] get the limit that it was started with, as their own use of `select` or a loop over all numbers may
//! depend on it.

use std::sync::OnceLock;

static BEFORE: OnceLock<libc::rlimit> = OnceLock::new();

/// Raises the soft limit to `wanted`, or as far as it goes; what it is now.
pub fn raise(wanted: u64) -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: fills the structure, which lives through the call.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } < 0 {
        return 1024;
    }
    let wanted = wanted.min(limit.rlim_max);
    if limit.rlim_cur >= wanted {
        return limit.rlim_cur;
    }
    let raised = libc::rlimit { rlim_cur: wanted, ..limit };
    // SAFETY: reads the structure only.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const raised) } < 0 {
        return limit.rlim_cur;
    }
    let _ = BEFORE.set(limit);
    wanted
}

/// Sets the limit back to what it was, in a child. Allocates nothing: safe between fork and exec.
pub(crate) fn restore() {
    if let Some(limit) = BEFORE.get() {
        // SAFETY: reads the structure only. Lowering a soft limit cannot fail.
        unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, limit) };
    }
}
