//! Points at which a test kills the process, to prove that what is on disk stays consistent.
//!
//! Compiled to nothing without debug assertions. `FLUYT_FAIL_AT=name` aborts the process when it passes the
//! point of that name; `FLUYT_FAIL_AT=name:N` at the N-th passage.

/// Passes the fail point `name`.
#[cfg(debug_assertions)]
pub(crate) fn pass(name: &str) {
    use std::sync::atomic::{AtomicU64, Ordering};
    static PASSED: AtomicU64 = AtomicU64::new(0);
    let Some(wanted) = std::env::var_os("FLUYT_FAIL_AT") else { return };
    let wanted = wanted.to_string_lossy();
    let (point, count) = match wanted.split_once(':') {
        Some((point, count)) => (point, count.parse().unwrap_or(1)),
        None => (&*wanted, 1),
    };
    if point == name && PASSED.fetch_add(1, Ordering::Relaxed) + 1 == count {
        std::process::abort();
    }
}

/// Passes the fail point `name`: nothing in a build without debug assertions.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub(crate) fn pass(_name: &str) {}
