//! Loading a seccomp filter, with or without a notification descriptor. What a filter says is the caller's business.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

/// One classic BPF instruction, laid out as the kernel reads it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Insn {
    /// Operation.
    pub code: u16,
    /// Instructions to skip if true.
    pub jt: u8,
    /// Instructions to skip if false.
    pub jf: u8,
    /// Operand.
    pub k: u32,
}

/// Load on every thread of the process.
pub const FLAG_TSYNC: u64 = 1;
/// Log all actions but allow.
pub const FLAG_LOG: u64 = 2;
/// Do not force speculative store bypass mitigation.
pub const FLAG_SPEC_ALLOW: u64 = 4;
/// Return a notification descriptor.
pub const FLAG_NEW_LISTENER: u64 = 8;
/// A notified call cannot be interrupted by a non-fatal signal.
pub const FLAG_WAIT_KILLABLE_RECV: u64 = 1 << 5;

/// Loads `filter` on the calling thread; a descriptor comes back if [`FLAG_NEW_LISTENER`] is set.
///
/// # Errors
/// `EACCES` without `CAP_SYS_ADMIN` or no-new-privileges, `EINVAL` for a filter that the kernel refuses, `EBUSY` for a
/// second listener.
pub fn load(filter: &[Insn], flags: u64) -> io::Result<Option<OwnedFd>> {
    const SECCOMP_SET_MODE_FILTER: u32 = 1;
    #[repr(C)]
    struct Prog {
        len: u16,
        filter: *const Insn,
    }
    let len = u16::try_from(filter.len())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "the seccomp filter is too long"))?;
    let prog = Prog { len, filter: filter.as_ptr() };
    // SAFETY: `prog` describes a live slice of `len` instructions.
    let r = unsafe { libc::syscall(libc::SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &raw const prog) };
    if r < 0 {
        return Err(io::Error::last_os_error());
    }
    if flags & FLAG_NEW_LISTENER == 0 {
        return Ok(None);
    }
    let fd = i32::try_from(r).map_err(|_| io::Error::other("seccomp returned no descriptor"))?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(fd) }))
}

/// Whether the kernel knows a filter return action (`SECCOMP_RET_*`).
#[must_use]
pub fn action_available(action: u32) -> bool {
    const SECCOMP_GET_ACTION_AVAIL: u32 = 2;
    // SAFETY: a pointer to a live u32.
    unsafe { libc::syscall(libc::SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &raw const action) == 0 }
}
