//! A handle on the host's procfs that is verified to be procfs before anything is written through it.
//!
//! A path like `/proc/self/attr/exec` opened inside a container's mounts may lead anywhere. So the handle is opened before
//! any mount of the container exists, checked by file system magic and root inode, and used with
//! `RESOLVE_BENEATH | NO_XDEV | NO_MAGICLINKS` afterwards.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use fluyt_model::error::{Error, IoContext, Result};
use rustix::fs::{Mode, OFlags, ResolveFlags};

const PROC_SUPER_MAGIC: i64 = 0x9fa0;
const PROC_ROOT_INO: u64 = 1;

/// The verified handle.
#[derive(Debug)]
pub(crate) struct Proc(OwnedFd);

impl Proc {
    /// Opens and verifies `/proc` of the current mount namespace.
    pub(crate) fn open() -> Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open("/proc", flags, Mode::empty()).about(|| "/proc")?;
        verify(fd.as_fd())?;
        let root = rustix::fs::fstat(&fd).about(|| "/proc")?;
        if root.st_ino != PROC_ROOT_INO {
            return Err(Error::corrupt("/proc is not the root of a procfs"));
        }
        Ok(Self(fd))
    }

    /// Opens a file below `/proc`.
    pub(crate) fn file(&self, path: &str, flags: OFlags) -> Result<OwnedFd> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_MAGICLINKS;
        let fd = rustix::fs::openat2(
            &self.0,
            path,
            flags | OFlags::CLOEXEC | OFlags::NOFOLLOW,
            Mode::empty(),
            resolve,
        )
        .about(|| format!("/proc/{path}"))?;
        verify(fd.as_fd())?;
        Ok(fd)
    }

    /// Writes `data` to a file below `/proc` in one call.
    pub(crate) fn write(&self, path: &str, data: &[u8]) -> Result<()> {
        let fd = self.file(path, OFlags::WRONLY)?;
        let n = rustix::io::write(&fd, data).about(|| format!("writing to /proc/{path}"))?;
        if n < data.len() { Err(Error::internal(format!("short write to /proc/{path}"))) } else { Ok(()) }
    }
}

fn verify(fd: BorrowedFd<'_>) -> Result<()> {
    let kind = rustix::fs::fstatfs(fd).about(|| "/proc")?.f_type;
    if kind == PROC_SUPER_MAGIC { Ok(()) } else { Err(Error::corrupt("/proc is not a procfs")) }
}

/// Field 22 of `/proc/PID/stat`: when the process started, in clock ticks since boot. With the pid it names a process for
/// good.
///
/// # Errors
/// `NotFound` if there is no such process.
pub fn start_time(pid: i32) -> Result<u64> {
    stat(pid).map(|s| s.start_time)
}

/// What `/proc/PID/stat` says about a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// The state letter: `R`, `S`, `D`, `T`, `Z` (a zombie), `X`.
    pub state: u8,
    /// Field 22, in clock ticks since boot.
    pub start_time: u64,
}

/// Reads `/proc/PID/stat`.
///
/// # Errors
/// `NotFound` if there is no such process.
pub fn stat(pid: i32) -> Result<Stat> {
    let path = format!("/proc/{pid}/stat");
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let file = rustix::fs::open(path.as_str(), flags, Mode::empty()).about(|| path.as_str())?;
    // Fifty numbers and a name of 64 bytes at most.
    let mut buffer = [0; 2048];
    let n = rustix::io::read(&file, &mut buffer).about(|| path.as_str())?;
    let text = &buffer[..n];
    // The command name may contain anything; the last parenthesis ends it.
    let after = text.iter().rposition(|b| *b == b')').map_or(&[][..], |i| &text[i + 1..]);
    let mut fields = after.split(|b| *b == b' ').filter(|f| !f.is_empty());
    let state = fields.next().and_then(|f| f.first().copied()).unwrap_or(b'X');
    let start = fields.nth(18).and_then(|f| std::str::from_utf8(f).ok()).and_then(|f| f.parse().ok());
    let start_time = start.ok_or_else(|| Error::corrupt(format!("{path}: unexpected format")))?;
    Ok(Stat { state, start_time })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_start_time_is_known_and_stable() {
        let pid = rustix::process::getpid().as_raw_nonzero().get();
        assert!(start_time(pid).expect("own stat") > 0);
        assert_eq!(start_time(pid).expect("own stat"), start_time(pid).expect("own stat"));
    }

    #[test]
    fn links_out_of_proc_are_refused() {
        let proc = Proc::open().expect("proc");
        assert!(proc.file("self/exe", OFlags::RDONLY).is_err());
        assert!(proc.file("self/stat", OFlags::RDONLY).is_ok());
    }
}
