//! Processes: clone3 straight into new namespaces and a cgroup, with an optional stepping stone.
//!
//! Joining a pid or user namespace, or entering a new time namespace with offsets, changes only the children of the
//! task that asks. A long-lived caller must not be changed, so [`spawn`] can put a short-lived `vfork`-like process in
//! between: it shares the caller's memory and descriptors, asks, clones the real child with `CLONE_PARENT` (so that the
//! child is the caller's), and is gone before [`spawn`] returns.
//!
//! The caller must be single threaded: the child continues on a copy of one thread, and a lock held by another thread
//! at that moment would never be released in it.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// New cgroup namespace.
pub const NEWCGROUP: u64 = libc::CLONE_NEWCGROUP as u64;
/// New IPC namespace.
pub const NEWIPC: u64 = libc::CLONE_NEWIPC as u64;
/// New network namespace.
pub const NEWNET: u64 = libc::CLONE_NEWNET as u64;
/// New mount namespace.
pub const NEWNS: u64 = libc::CLONE_NEWNS as u64;
/// New pid namespace.
pub const NEWPID: u64 = libc::CLONE_NEWPID as u64;
/// Root, working directory and umask of its own.
pub const FS: u64 = libc::CLONE_FS as u64;
/// New time namespace (for children of the caller of `unshare`).
pub const NEWTIME: u64 = 0x80;
/// New user namespace.
pub const NEWUSER: u64 = libc::CLONE_NEWUSER as u64;
/// New UTS namespace.
pub const NEWUTS: u64 = libc::CLONE_NEWUTS as u64;

const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
const STACK: usize = 512 * 1024;

/// A child process that has just been cloned.
#[derive(Debug)]
pub struct Child {
    /// Its pid in the caller's pid namespace.
    pub pid: i32,
    /// A pidfd, close-on-exec.
    pub pidfd: OwnedFd,
}

/// What [`spawn`] shall do besides running the child.
#[derive(Default)]
pub struct Options<'a> {
    /// `CLONE_NEW*` flags for the child.
    pub flags: u64,
    /// A cgroup v2 directory to be born in.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// Runs in the stepping stone before the child is cloned. It shares the caller's memory, so an error that it
    /// returns reaches the caller; it must be short and must not block.
    pub before: Option<&'a mut dyn FnMut() -> io::Result<()>>,
}

/// Clones a child that runs `child` and exits with the status it returns.
///
/// # Errors
/// What `clone3` says (`EINVAL`, `EPERM`, `ENOSPC`, `EAGAIN`), or the error of `options.before`.
pub fn spawn(options: Options<'_>, child: &mut dyn FnMut() -> i32) -> io::Result<Child> {
    match options.before {
        None => clone_child(options.flags, options.cgroup, libc::SIGCHLD as u64, child),
        Some(before) => spawn_via(options.flags, options.cgroup, before, child),
    }
}

#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

fn clone_child(
    flags: u64,
    cgroup: Option<BorrowedFd<'_>>,
    exit_signal: u64,
    child: &mut dyn FnMut() -> i32,
) -> io::Result<Child> {
    let mut pidfd: RawFd = -1;
    let mut args = CloneArgs {
        flags: flags | libc::CLONE_PIDFD as u64,
        pidfd: std::ptr::from_mut(&mut pidfd) as u64,
        exit_signal,
        ..CloneArgs::default()
    };
    if let Some(dir) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = u64::try_from(dir.as_raw_fd()).unwrap_or(0);
    }
    // SAFETY: without CLONE_VM the child gets its own copy of the address space and continues on a copy of this
    // stack; `args` is a valid clone_args of the size given and `pidfd` outlives the call.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<CloneArgs>()) };
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    if pid == 0 {
        let status = child();
        // SAFETY: ends this process at once, without running the parent's exit handlers a second time.
        unsafe { libc::_exit(status) }
    }
    let pid = i32::try_from(pid).map_err(|_| io::Error::other("clone3 returned no pid"))?;
    // SAFETY: the kernel has just put a new descriptor there that nothing else owns.
    Ok(Child { pid, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } })
}

struct Step<'a> {
    flags: u64,
    cgroup: Option<BorrowedFd<'a>>,
    before: &'a mut dyn FnMut() -> io::Result<()>,
    child: &'a mut dyn FnMut() -> i32,
    result: Option<io::Result<Child>>,
}

extern "C" fn stepping_stone(data: *mut libc::c_void) -> libc::c_int {
    // SAFETY: `spawn_via` passes a pointer to a live `Step` and is suspended (CLONE_VFORK) while this runs.
    let step = unsafe { &mut *data.cast::<Step<'_>>() };
    let outcome = (step.before)().and_then(|()| {
        // The exit signal of a CLONE_PARENT child is that of the stepping stone; it must be zero here.
        clone_child(step.flags | libc::CLONE_PARENT as u64, step.cgroup, 0, step.child)
    });
    step.result = Some(outcome);
    0
}

fn spawn_via(
    flags: u64,
    cgroup: Option<BorrowedFd<'_>>,
    before: &mut dyn FnMut() -> io::Result<()>,
    child: &mut dyn FnMut() -> i32,
) -> io::Result<Child> {
    let mut stack = vec![0u128; STACK / 16];
    let mut step = Step { flags, cgroup, before, child, result: None };
    let share = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_FILES | libc::SIGCHLD;
    // SAFETY: the stepping stone runs on its own stack, which lives until after it is gone because CLONE_VFORK suspends
    // this thread until then; it touches only `step` and what `step` borrows mutably.
    let pid = unsafe {
        let top = stack.as_mut_ptr().add(STACK / 16);
        libc::clone(stepping_stone, top.cast(), share, (&raw mut step).cast())
    };
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: reaps the stepping stone, a child of this process; __WALL because nobody else waits for it.
    while unsafe { libc::waitpid(pid, std::ptr::null_mut(), libc::__WALL) } < 0 {
        let e = io::Error::last_os_error();
        if e.kind() != io::ErrorKind::Interrupted {
            break;
        }
    }
    drop(stack);
    step.result.unwrap_or_else(|| Err(io::Error::other("the stepping stone died")))
}

struct Errand<'a> {
    work: &'a mut dyn FnMut(),
}

extern "C" fn run_errand(data: *mut libc::c_void) -> libc::c_int {
    // SAFETY: `aside` passes a pointer to a live `Errand` and is suspended (CLONE_VFORK) while this runs.
    let errand = unsafe { &mut *data.cast::<Errand<'_>>() };
    (errand.work)();
    0
}

/// Runs `work` in a process that shares the caller's memory and descriptors but neither its root and working directory
/// nor, after an [`unshare`], its namespaces: what `work` opens stays with the caller, what it changes of itself ends with
/// it. The caller must be single threaded and is suspended meanwhile.
///
/// # Errors
/// No process can be made (`EAGAIN`).
pub fn aside(work: &mut dyn FnMut()) -> io::Result<()> {
    let mut stack = vec![0u128; STACK / 16];
    let mut errand = Errand { work };
    let share = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_FILES | libc::SIGCHLD;
    // SAFETY: the process runs on its own stack, which lives until after it is gone because CLONE_VFORK suspends this
    // thread until then; it touches only `errand` and what `work` borrows mutably.
    let pid = unsafe {
        let top = stack.as_mut_ptr().add(STACK / 16);
        libc::clone(run_errand, top.cast(), share, (&raw mut errand).cast())
    };
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    reap(pid, true).map(drop)
}

/// Waits until the process behind `pidfd` has exited, without reaping it; `timeout` in milliseconds, -1 for ever.
///
/// # Errors
/// What `poll` says. `Ok(false)` means that the time is up.
pub fn wait_exit(pidfd: BorrowedFd<'_>, timeout: i32) -> io::Result<bool> {
    let mut p = libc::pollfd { fd: pidfd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    loop {
        // SAFETY: one valid pollfd.
        let n = unsafe { libc::poll(&raw mut p, 1, timeout) };
        if n >= 0 {
            return Ok(n > 0);
        }
        let e = io::Error::last_os_error();
        if e.kind() != io::ErrorKind::Interrupted {
            return Err(e);
        }
    }
}

/// Reaps child `pid`; its wait status as `waitpid` gives it, or `None` if `hang` is false and it still runs.
///
/// # Errors
/// `ECHILD` if it is no child of the caller.
pub fn reap(pid: i32, hang: bool) -> io::Result<Option<i32>> {
    let mut status = 0;
    loop {
        let flags = if hang { 0 } else { libc::WNOHANG } | libc::__WALL;
        // SAFETY: `status` is valid for the call.
        let n = unsafe { libc::waitpid(pid, &raw mut status, flags) };
        if n == 0 {
            return Ok(None);
        }
        if n > 0 {
            return Ok(Some(status));
        }
        let e = io::Error::last_os_error();
        if e.kind() != io::ErrorKind::Interrupted {
            return Err(e);
        }
    }
}

/// The exit code that a shell would show for a wait status: the code itself, or 128 + the signal.
#[must_use]
pub fn exit_code(status: i32) -> i32 {
    if libc::WIFSIGNALED(status) { 128 + libc::WTERMSIG(status) } else { libc::WEXITSTATUS(status) }
}

/// Waits until the process behind `pidfd` has exited or `other` has something to read; true for the latter.
///
/// # Errors
/// What `poll` says. `Ok(false)` also when the time is up.
pub fn wait_either(pidfd: BorrowedFd<'_>, other: BorrowedFd<'_>, timeout: i32) -> io::Result<bool> {
    let poll = |fd: BorrowedFd<'_>| libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let mut list = [poll(pidfd), poll(other)];
    // SAFETY: two valid pollfds.
    let n = unsafe { libc::poll(list.as_mut_ptr(), 2, timeout) };
    if n < 0 {
        let e = io::Error::last_os_error();
        return if e.kind() == io::ErrorKind::Interrupted { Ok(false) } else { Err(e) };
    }
    Ok(list[1].revents != 0)
}

/// Moves the calling task into new namespaces (`NEW*` flags other than [`NEWUSER`], which needs a process of its own).
///
/// # Errors
/// `EPERM`, `ENOSPC`, `EINVAL`.
pub fn unshare(flags: u64) -> io::Result<()> {
    // SAFETY: an integer only; descriptors and memory stay shared as they are.
    if unsafe { libc::syscall(libc::SYS_unshare, flags) } < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
