//! The calling task's own attributes: signals, scheduling, I/O priority, personality, keyrings, descriptors, exec.
//!
//! What rustix offers safely is used from there directly; here is only what it does not have.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

fn check(r: libc::c_long) -> io::Result<libc::c_long> {
    if r < 0 { Err(io::Error::last_os_error()) } else { Ok(r) }
}

/// Sets every signal to its default action and unblocks all, what a new program expects to find, or blocks all
/// (`blocked`): then one that comes early waits until the program is ready for it.
///
/// # Errors
/// None that the kernel documents for these arguments.
pub fn reset_signals(blocked: bool) -> io::Result<()> {
    let mask: u64 = if blocked { u64::MAX } else { 0 };
    // SAFETY: an 8-byte kernel signal set; asking for the default action of a signal is always valid.
    unsafe {
        for signal in 1..65 {
            let mut old = [0u64; 4];
            let size = 8usize;
            let r = libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                std::ptr::null::<u64>(),
                old.as_mut_ptr(),
                size,
            );
            if r == 0 && old[0] != 0 {
                let new = [0u64; 4];
                libc::syscall(libc::SYS_rt_sigaction, signal, new.as_ptr(), std::ptr::null::<u64>(), size);
            }
        }
        check(libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const mask,
            std::ptr::null::<u64>(),
            8usize,
        ))?;
    }
    Ok(())
}

/// Marks every descriptor from `first` on close-on-exec.
///
/// # Errors
/// `ENOSYS` before Linux 5.9, `EINVAL` for `first` out of range.
pub fn close_on_exec_from(first: u32) -> io::Result<()> {
    const CLOSE_RANGE_CLOEXEC: u32 = 4;
    // SAFETY: only sets a flag on descriptors.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, CLOSE_RANGE_CLOEXEC) }).map(drop)
}

/// Closes every descriptor from `first` on. For a child that keeps nothing of its parent; owned descriptors of the
/// parent's copies must not be used or dropped afterwards.
///
/// # Errors
/// `ENOSYS` before Linux 5.9.
pub fn close_from(first: u32) -> io::Result<()> {
    // SAFETY: the doc comment makes the caller give up every descriptor in the range.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) }).map(drop)
}

/// Closes every descriptor from `first` on but those of `keep`, under the same condition.
///
/// # Errors
/// `ENOSYS` before Linux 5.9.
pub fn close_from_except(first: u32, keep: &[RawFd]) -> io::Result<()> {
    let mut kept: Vec<u32> =
        keep.iter().filter_map(|fd| u32::try_from(*fd).ok()).filter(|fd| *fd >= first).collect();
    kept.sort_unstable();
    let mut from = first;
    for fd in kept {
        if fd > from {
            // SAFETY: as in `close_from`, for the range up to the next descriptor that is kept.
            check(unsafe { libc::syscall(libc::SYS_close_range, from, fd - 1, 0) })?;
        }
        from = fd + 1;
    }
    close_from(from)
}

/// The CPUs on which the task `pid` may run, as bits; those above 63 are left out. 0 if there is no such task.
#[must_use]
pub fn affinity_mask(pid: u32) -> u64 {
    let mut words = [0u64; 128];
    // SAFETY: the kernel writes at most the length given.
    let done =
        unsafe { libc::syscall(libc::SYS_sched_getaffinity, pid, size_of_val(&words), words.as_mut_ptr()) };
    if done > 0 { words[0] } else { 0 }
}

/// Sets the NUMA memory policy of the calling task: `mode` with its flags, and the nodes as bits, lowest first.
///
/// # Errors
/// `EINVAL` for a mode, flags or nodes that do not go together or do not exist, `ENOSYS` without NUMA support.
pub fn set_memory_policy(mode: u32, nodes: &[u64]) -> io::Result<()> {
    // The kernel counts one bit less than it is told.
    let (mask, bits) =
        if nodes.is_empty() { (std::ptr::null(), 0) } else { (nodes.as_ptr(), nodes.len() * 64 + 1) };
    // SAFETY: the mask is null or as long as it says, rounded up to words; the kernel reads `bits - 1` bits.
    check(unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, mask, bits) }).map(drop)
}

/// Clears close-on-exec on one descriptor given by number (an fd that the starter of this process passed on).
///
/// # Errors
/// `EBADF`.
pub fn keep_on_exec(fd: RawFd) -> io::Result<()> {
    // SAFETY: only changes a flag of a descriptor.
    check(unsafe { libc::c_long::from(libc::fcntl(fd, libc::F_SETFD, 0)) }).map(drop)
}

/// Whether a descriptor number is open.
#[must_use]
pub fn is_open(fd: RawFd) -> bool {
    // SAFETY: only reads a flag of a descriptor.
    unsafe { libc::fcntl(fd, libc::F_GETFD) >= 0 }
}

/// Takes over a descriptor that whoever started this process left open for it (`LISTEN_FDS`, `--preserve-fds`,
/// a number in an argument). `None` if it is not open.
#[must_use]
pub fn take_inherited(fd: RawFd) -> Option<std::os::fd::OwnedFd> {
    use std::os::fd::FromRawFd;
    if fd < 3 || !is_open(fd) {
        return None;
    }
    // SAFETY: open, and by the contract of this function nothing else in this process owns it.
    Some(unsafe { std::os::fd::OwnedFd::from_raw_fd(fd) })
}

/// The argument of `sched_setattr(2)`, without its size field.
#[derive(Clone, Copy, Debug, Default)]
pub struct SchedAttr {
    /// `SCHED_*`.
    pub policy: u32,
    /// `SCHED_FLAG_*`.
    pub flags: u64,
    /// For `SCHED_OTHER` and `SCHED_BATCH`.
    pub nice: i32,
    /// For `SCHED_FIFO` and `SCHED_RR`.
    pub priority: u32,
    /// Nanoseconds, for `SCHED_DEADLINE`.
    pub runtime: u64,
    /// Nanoseconds, for `SCHED_DEADLINE`.
    pub deadline: u64,
    /// Nanoseconds, for `SCHED_DEADLINE`.
    pub period: u64,
}

/// Sets the scheduling policy of the calling task.
///
/// # Errors
/// `EINVAL`, `EPERM`, `EBUSY` as in `sched_setattr(2)`.
pub fn sched_setattr(attr: &SchedAttr) -> io::Result<()> {
    #[repr(C)]
    struct Raw {
        size: u32,
        policy: u32,
        flags: u64,
        nice: i32,
        priority: u32,
        runtime: u64,
        deadline: u64,
        period: u64,
    }
    let raw = Raw {
        size: size_of::<Raw>() as u32,
        policy: attr.policy,
        flags: attr.flags,
        nice: attr.nice,
        priority: attr.priority,
        runtime: attr.runtime,
        deadline: attr.deadline,
        period: attr.period,
    };
    // SAFETY: `raw` is a valid sched_attr whose size field says how long it is.
    check(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const raw, 0) }).map(drop)
}

/// Sets the I/O priority of the calling task: `class` 0..=3, `level` 0..=7.
///
/// # Errors
/// `EINVAL`, `EPERM` as in `ioprio_set(2)`.
pub fn ioprio_set(class: u32, level: u32) -> io::Result<()> {
    const IOPRIO_WHO_PROCESS: i32 = 1;
    // SAFETY: integers only.
    check(unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, (class << 13) | level) })
        .map(drop)
}

/// Sets the execution domain of the calling task.
///
/// # Errors
/// `EINVAL`.
pub fn personality(persona: u64) -> io::Result<()> {
    // SAFETY: an integer only.
    check(unsafe { libc::syscall(libc::SYS_personality, persona) }).map(drop)
}

/// Joins a new session keyring of this name, so that the container does not see the caller's keys.
///
/// # Errors
/// `ENOSYS` without key support, `EDQUOT`.
pub fn join_session_keyring(name: &CStr) -> io::Result<i32> {
    const KEYCTL_JOIN_SESSION_KEYRING: i32 = 1;
    // SAFETY: a valid C string.
    let id = check(unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, name.as_ptr()) })?;
    i32::try_from(id).map_err(|_| io::Error::other("keyctl returned no serial"))
}

/// Sets the permissions of a key.
///
/// # Errors
/// `EACCES`, `ENOKEY`.
pub fn set_key_permissions(key: i32, permissions: u32) -> io::Result<()> {
    const KEYCTL_SETPERM: i32 = 5;
    // SAFETY: integers only.
    check(unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_SETPERM, key, permissions) }).map(drop)
}

/// Reads the permissions of a key from its description.
///
/// # Errors
/// `EACCES`, `ENOKEY`.
pub fn key_permissions(key: i32) -> io::Result<u32> {
    const KEYCTL_DESCRIBE: i32 = 6;
    let mut buffer = [0u8; 256];
    // SAFETY: a buffer of the length given.
    let n = check(unsafe {
        libc::syscall(libc::SYS_keyctl, KEYCTL_DESCRIBE, key, buffer.as_mut_ptr(), buffer.len())
    })?;
    let text = &buffer[..usize::try_from(n).unwrap_or(0).min(buffer.len())];
    // "type;uid;gid;perm;description"
    let field = text.split(|b| *b == b';').nth(3).and_then(|f| std::str::from_utf8(f).ok());
    field
        .and_then(|f| u32::from_str_radix(f, 16).ok())
        .ok_or_else(|| io::Error::other("unexpected key description"))
}

/// A program with its arguments and environment as the kernel wants them.
#[derive(Debug)]
pub struct Program {
    argv: Vec<CString>,
    envp: Vec<CString>,
}

impl Program {
    /// Prepares arguments and environment.
    ///
    /// # Errors
    /// `InvalidInput` if a string contains a NUL.
    pub fn new<S: AsRef<[u8]>>(argv: &[S], envp: &[S]) -> io::Result<Self> {
        let strings =
            |list: &[S]| list.iter().map(|s| CString::new(s.as_ref())).collect::<Result<Vec<_>, _>>();
        Ok(Self { argv: strings(argv)?, envp: strings(envp)? })
    }

    /// Replaces this process by the program at `path`. Returns only with an error.
    #[must_use]
    pub fn exec(&self, path: &CStr) -> io::Error {
        let (argv, envp) = (pointers(&self.argv), pointers(&self.envp));
        // SAFETY: both arrays are NUL-terminated and point to live C strings.
        unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
        io::Error::last_os_error()
    }

    /// Replaces this process by the program open at `fd`. Returns only with an error.
    #[must_use]
    pub fn exec_fd(&self, fd: BorrowedFd<'_>) -> io::Error {
        let (argv, envp) = (pointers(&self.argv), pointers(&self.envp));
        // SAFETY: as in `exec`; an empty path with AT_EMPTY_PATH names the descriptor itself.
        unsafe {
            libc::syscall(
                libc::SYS_execveat,
                fd.as_raw_fd(),
                c"".as_ptr(),
                argv.as_ptr(),
                envp.as_ptr(),
                libc::AT_EMPTY_PATH,
            );
        }
        io::Error::last_os_error()
    }
}

fn pointers(list: &[CString]) -> Vec<*const libc::c_char> {
    list.iter().map(|s| s.as_ptr()).chain(std::iter::once(std::ptr::null())).collect()
}

/// Ends this process at once, without exit handlers.
pub fn exit_now(status: i32) -> ! {
    // SAFETY: always valid.
    unsafe { libc::_exit(status) }
}
