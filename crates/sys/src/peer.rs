//! Who is at the other end of a unix socket (`SO_PEERCRED`, unix(7)).
//!
//! The process is left out: its id is 0 for a client that lives in a process namespace which this one does not see, as
//! clients in other containers do, and rustix has no form for that.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// The user and the group that the peer of a connected unix socket had when it connected.
///
/// # Errors
/// `socket` is none of that kind.
pub fn credentials(socket: BorrowedFd<'_>) -> Result<(u32, u32), rustix::io::Errno> {
    let mut found = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut length = u32::try_from(size_of::<libc::ucred>()).map_err(|_| rustix::io::Errno::INVAL)?;
    // SAFETY: the kernel writes at most `length` bytes to `found`, which has as many and is valid whatever they are.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut found).cast(),
            &raw mut length,
        )
    };
    if result != 0 {
        let error = io::Error::last_os_error();
        return Err(rustix::io::Errno::from_io_error(&error).unwrap_or(rustix::io::Errno::INVAL));
    }
    Ok((found.uid, found.gid))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn the_peer_of_a_pair_is_this_process() {
        let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let own = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        assert_eq!(credentials(one.as_fd()), Ok(own));
        let file = std::fs::File::open("/").unwrap();
        assert_eq!(credentials(file.as_fd()), Err(rustix::io::Errno::NOTSOCK));
    }
}
