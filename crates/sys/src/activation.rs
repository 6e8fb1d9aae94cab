//! Sockets that who started this process has opened for it, and telling it that we are ready (sd_listen_fds(3),
//! sd_notify(3)). The protocol of systemd, which others speak too; what the sockets are for is the caller's part.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::atomic::{AtomicBool, Ordering};

/// The first descriptor that is passed.
const FIRST: RawFd = 3;

/// The descriptors that were passed to this process, each with its name (empty where it has none). They are given out
/// once; a second call finds none. From here on they are not passed to programs that this process starts.
///
/// # Errors
/// A descriptor that should be there is not.
pub fn take() -> io::Result<Vec<(OwnedFd, String)>> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u32>().ok());
    let (Some(pid), Some(count)) = (number("LISTEN_PID"), number("LISTEN_FDS")) else {
        return Ok(Vec::new());
    };
    if pid != std::process::id() || TAKEN.swap(true, Ordering::Relaxed) {
        return Ok(Vec::new());
    }
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    let mut found = Vec::new();
    for at in 0..RawFd::try_from(count.min(1024)).unwrap_or(0) {
        let raw = FIRST + at;
        // SAFETY: asks for the flags of a number; one that is not open is an error.
        let open = unsafe { libc::fcntl(raw, libc::F_SETFD, libc::FD_CLOEXEC) };
        if open < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the number is open, and by the protocol it was opened for this process alone, which takes it once.
        let fd = unsafe { OwnedFd::from_raw_fd(raw) };
        found.push((fd, names.next().unwrap_or_default().to_owned()));
    }
    Ok(found)
}

/// Tells who started this process something (`READY=1`, `STOPPING=1`), if it wants to know.
///
/// # Errors
/// The socket that is named does not take it.
pub fn notify(state: &str) -> io::Result<()> {
    let Some(name) = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else { return Ok(()) };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address(&name)?).map(drop)
}

/// A path, or after an `@` an abstract name.
fn address(name: &OsStr) -> io::Result<SocketAddr> {
    match name.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(name),
    }
}
