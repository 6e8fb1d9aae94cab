//! `mount_setattr(2)`, which rustix lacks; the rest of the mount API is rustix's.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Read-only.
pub const RDONLY: u64 = 0x1;
/// Ignore set-user-ID and file capabilities.
pub const NOSUID: u64 = 0x2;
/// No device nodes.
pub const NODEV: u64 = 0x4;
/// No program execution.
pub const NOEXEC: u64 = 0x8;
/// The mask of the access time settings; clear it whenever one is set.
pub const ATIME_MASK: u64 = 0x70;
/// Update access times relative to modification (the default).
pub const RELATIME: u64 = 0x0;
/// Never update access times.
pub const NOATIME: u64 = 0x10;
/// Always update access times.
pub const STRICTATIME: u64 = 0x20;
/// Never update access times of directories.
pub const NODIRATIME: u64 = 0x80;
/// Map ids by a user namespace.
pub const IDMAP: u64 = 0x0010_0000;
/// Follow no symbolic links.
pub const NOSYMFOLLOW: u64 = 0x0020_0000;

/// Propagation: receive and send.
pub const SHARED: u64 = 1 << 20;
/// Propagation: neither.
pub const PRIVATE: u64 = 1 << 18;
/// Propagation: receive only.
pub const SLAVE: u64 = 1 << 19;
/// Propagation: private and not to be bound.
pub const UNBINDABLE: u64 = 1 << 17;

/// What to change on a mount.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attr<'a> {
    /// Attributes to set.
    pub set: u64,
    /// Attributes to clear.
    pub clear: u64,
    /// One of [`SHARED`], [`PRIVATE`], [`SLAVE`], [`UNBINDABLE`], or 0.
    pub propagation: u64,
    /// The user namespace for [`IDMAP`].
    pub userns: Option<Fd<'a>>,
}

/// A borrowed descriptor that compares by number.
#[derive(Clone, Copy, Debug)]
pub struct Fd<'a>(pub BorrowedFd<'a>);

impl PartialEq for Fd<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_raw_fd() == other.0.as_raw_fd()
    }
}
impl Eq for Fd<'_> {}

/// Changes the mount that `fd` refers to, with everything below it if `recursive`.
///
/// # Errors
/// `EINVAL`, `EPERM` as in `mount_setattr(2)`; `ENOSYS` before Linux 5.12.
pub fn setattr(fd: BorrowedFd<'_>, attr: &Attr<'_>, recursive: bool) -> io::Result<()> {
    const AT_RECURSIVE: i32 = 0x8000;
    #[repr(C)]
    struct Raw {
        set: u64,
        clear: u64,
        propagation: u64,
        userns: u64,
    }
    let raw = Raw {
        set: attr.set,
        clear: attr.clear,
        propagation: attr.propagation,
        userns: attr.userns.map_or(0, |f| u64::try_from(f.0.as_raw_fd()).unwrap_or(0)),
    };
    let flags = libc::AT_EMPTY_PATH | if recursive { AT_RECURSIVE } else { 0 };
    // SAFETY: `raw` is a valid mount_attr of the size given.
    let r = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const raw,
            size_of::<Raw>(),
        )
    };
    if r < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
