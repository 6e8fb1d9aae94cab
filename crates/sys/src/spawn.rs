//! Starting another program with a descriptor under an agreed number.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

/// Starts `command` with `fd` open as `number`; the caller's own descriptor is closed.
///
/// # Errors
/// The program cannot be started, or the descriptor cannot be moved.
pub fn with_fd(command: &mut Command, fd: OwnedFd, number: RawFd) -> io::Result<Child> {
    let raw = fd.as_raw_fd();
    let place = move || {
        if raw == number {
            // SAFETY: clearing the flags of a descriptor that this process owns.
            let done = unsafe { libc::fcntl(raw, libc::F_SETFD, 0) };
            return if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) };
        }
        // SAFETY: `raw` is open until the exec; whatever had the number before is close-on-exec or unwanted.
        let done = unsafe { libc::dup2(raw, number) };
        if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    };
    // SAFETY: the closure makes one system call on plain numbers: it is safe between fork and exec.
    let command = unsafe { command.pre_exec(place) };
    let child = command.spawn();
    drop(fd);
    child
}
