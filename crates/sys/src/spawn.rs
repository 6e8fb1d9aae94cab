//! Starting another program with descriptors under agreed numbers.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

/// Starts `command` with each descriptor open under its number and with no signal blocked or ignored and with the limits
/// of descriptors that this process began with, whatever the caller has done; the caller's own descriptors are closed.
///
/// # Errors
/// The program cannot be started, or a descriptor cannot be moved.
pub fn with_fds(command: &mut Command, fds: Vec<(OwnedFd, RawFd)>) -> io::Result<Child> {
    let mut plan: Vec<(RawFd, RawFd)> = fds.iter().map(|(fd, number)| (fd.as_raw_fd(), *number)).collect();
    let place = move || {
        let check = |done: RawFd| if done < 0 { Err(io::Error::last_os_error()) } else { Ok(done) };
        // First out of each other's way: a number may be taken by a descriptor that is still to be moved.
        let above = plan.iter().map(|(_, number)| *number).max().unwrap_or(2) + 1;
        for (raw, _) in &mut plan {
            // SAFETY: duplicates a descriptor of this process, which is open until the exec.
            *raw = check(unsafe { libc::fcntl(*raw, libc::F_DUPFD_CLOEXEC, above) })?;
        }
        for (raw, number) in &plan {
            // SAFETY: `raw` is open; whatever had the number before is close-on-exec or unwanted.
            check(unsafe { libc::dup2(*raw, *number) })?;
        }
        crate::nofile::restore();
        crate::task::reset_signals(false)
    };
    // SAFETY: the closure makes system calls on plain numbers and allocates nothing: it is safe between fork and exec.
    let command = unsafe { command.pre_exec(place) };
    let child = command.spawn();
    drop(fds);
    child
}
