//! Running from a file that nobody can write: the defence against overwriting the runtime from inside a container.
//!
//! A process that is about to become a container process is visible in the container as `/proc/PID/exe`. If that link
//! led to the installed binary, a container's root could open it for writing (CVE-2019-5736). So such roles run from a
//! *seal*: the binary seen through an anonymous, read-only overlay that has no upper layer, with a sealed memory file
//! as the fall-back. The overlay shares the page cache of the real file; the memory file costs a copy.

use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

use crate::task::Program;

const SELF: &CStr = c"/proc/self/exe";

/// Whether this process runs from a seal already: an executable on a read-only file system or a sealed memory file.
#[must_use]
pub fn is_sealed() -> bool {
    let Ok(fs) = rustix::fs::statfs(SELF) else { return false };
    const ST_RDONLY: i64 = 1;
    const OVERLAYFS: i64 = 0x794c_7630;
    const TMPFS: i64 = 0x0102_1994;
    let kind = fs.f_type;
    if kind == OVERLAYFS && fs.f_flags & ST_RDONLY != 0 {
        return true;
    }
    if kind != TMPFS {
        return false;
    }
    let Ok(fd) = rustix::fs::open(SELF, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) else {
        return false;
    };
    rustix::fs::fcntl_get_seals(&fd).is_ok_and(|s| s.contains(SealFlags::WRITE | SealFlags::SEAL))
}

/// A descriptor of this executable that can be executed but never be used to write to the installed file.
///
/// # Errors
/// Only if both ways fail; the error is that of the memory file.
pub fn sealed_fd() -> io::Result<OwnedFd> {
    overlay().or_else(|_| memory_file())
}

/// This executable through a read-only, anonymous overlay of its directory. Needs `CAP_SYS_ADMIN`.
///
/// # Errors
/// `EPERM` without the privilege, `ENODEV` without overlayfs, `EINVAL` if the directory is itself an odd place.
pub fn overlay() -> io::Result<OwnedFd> {
    let path = std::fs::read_link("/proc/self/exe")?;
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    };
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    // An overlay without upper layer needs two lower ones that do not contain each other; the second is never looked at.
    for second in ["/dev/shm", "/run", "/sys/kernel", "/tmp"] {
        if dir.starts_with(second) || Path::new(second).starts_with(dir) {
            continue;
        }
        match overlay_with(dir, name, second) {
            Ok(fd) => return Ok(fd),
            Err(e) => last = e,
        }
    }
    Err(last)
}

fn overlay_with(dir: &Path, name: &OsStr, second: &str) -> io::Result<OwnedFd> {
    let mut lower = dir.as_os_str().as_bytes().to_vec();
    if lower.iter().any(|b| matches!(b, b':' | b',' | b'\\')) || lower.len() + second.len() > 250 {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    lower.push(b':');
    lower.extend_from_slice(second.as_bytes());
    let fs = rustix::mount::fsopen(c"overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_set_string(fs.as_fd(), c"lowerdir", CString::new(lower)?.as_c_str())?;
    rustix::mount::fsconfig_set_flag(fs.as_fd(), c"ro")?;
    rustix::mount::fsconfig_create(fs.as_fd())?;
    let attr = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV;
    let mount = rustix::mount::fsmount(fs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attr)?;
    let file = rustix::fs::openat(&mount, name.as_bytes(), OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    // The same file: its identity through an overlay differs, so size and times must do.
    let (ours, seen) = (rustix::fs::stat(SELF)?, rustix::fs::fstat(&file)?);
    if ours.st_size != seen.st_size
        || ours.st_mtime != seen.st_mtime
        || ours.st_mtime_nsec != seen.st_mtime_nsec
    {
        return Err(io::Error::from(io::ErrorKind::NotFound));
    }
    Ok(file)
}

/// This executable copied to a sealed memory file.
///
/// # Errors
/// `ENOMEM`, or what reading the executable says.
pub fn memory_file() -> io::Result<OwnedFd> {
    let from = std::fs::File::open("/proc/self/exe")?;
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Newer kernels want to be told that it will be executed; older ones do not know the flag.
    let fd = rustix::fs::memfd_create(c"fluyt", flags | MemfdFlags::EXEC)
        .or_else(|_| rustix::fs::memfd_create(c"fluyt", flags))?;
    let mut left = usize::try_from(from.metadata()?.len()).map_err(io::Error::other)?;
    while left > 0 {
        let n = rustix::fs::sendfile(&fd, &from, None, left)?;
        if n == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
        }
        left -= n;
    }
    rustix::fs::fchmod(&fd, Mode::from_raw_mode(0o555))?;
    rustix::fs::fcntl_add_seals(
        &fd,
        SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL,
    )?;
    Ok(fd)
}

/// Replaces this process by its own sealed executable with `args` and `env`. Returns only with an error.
#[must_use]
pub fn exec_sealed<S: AsRef<[u8]>>(args: &[S], env: &[S]) -> io::Error {
    let program = match Program::new(args, env) {
        Ok(p) => p,
        Err(e) => return e,
    };
    match sealed_fd() {
        Ok(fd) => program.exec_fd(fd.as_fd()),
        Err(e) => e,
    }
}

/// Makes sure that this process runs from a seal: returns at once if it does, else executes itself again from one with
/// the same arguments and environment.
///
/// # Errors
/// What sealing or executing says.
pub fn seal() -> io::Result<()> {
    if is_sealed() {
        return Ok(());
    }
    let args: Vec<Vec<u8>> = std::env::args_os().map(|a| a.as_bytes().to_vec()).collect();
    let env: Vec<Vec<u8>> =
        std::env::vars_os().map(|(k, v)| [k.as_bytes(), b"=", v.as_bytes()].concat()).collect();
    Err(exec_sealed(&args, &env))
}
