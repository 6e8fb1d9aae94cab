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
    const TMPFS: i64 = 0x0102_1994;
    let Ok(fs) = rustix::fs::statfs(SELF) else { return false };
    if is_read_only_overlay(&fs) {
        return true;
    }
    if fs.f_type != TMPFS {
        return false;
    }
    let Ok(fd) = rustix::fs::open(SELF, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) else {
        return false;
    };
    rustix::fs::fcntl_get_seals(&fd).is_ok_and(|s| s.contains(SealFlags::WRITE | SealFlags::SEAL))
}

/// Whether this process runs from a read-only overlay, the cheaper kind of seal.
#[must_use]
pub fn is_overlay() -> bool {
    rustix::fs::statfs(SELF).is_ok_and(|fs| is_read_only_overlay(&fs))
}

/// A sealed executable.
#[derive(Debug)]
pub struct Sealed {
    /// Can be executed, but never be used to write to the installed file.
    pub file: OwnedFd,
    /// The mount that was made for it. Closing its last descriptor takes the mount apart and waits for a grace period of
    /// the kernel (milliseconds on a busy machine): whoever is in a hurry leaves it to a process that is not.
    pub mount: Option<OwnedFd>,
}

/// What is held on to while a process runs from a seal that it has gone over to.
///
/// A child that is cloned meanwhile drops its copy at once. The process itself calls [`Held::unmount`] and then
/// [`Held::release`] when it has to wait for that child anyway.
#[derive(Debug, Default)]
pub struct Held {
    mount: Option<OwnedFd>,
    original: Option<OwnedFd>,
}

impl Held {
    /// Closes the mount that was made for the seal. The seal stays in use. See [`Sealed::mount`] for what it costs.
    pub fn unmount(&mut self) {
        self.mount = None;
    }

    /// Goes back to the installed executable, so that the seal is taken apart now and not when the process ends. For a
    /// process that will not become one of a container itself, when its child has executed its program.
    pub fn release(mut self) {
        self.unmount();
        if let Some(original) = self.original.take() {
            // Otherwise the seal stays in use, which does no harm.
            let _ = crate::adopt::adopt(original.as_fd());
        }
    }
}

/// This executable, sealed.
///
/// # Errors
/// Only if both ways fail; the error is that of the memory file.
pub fn sealed() -> io::Result<Sealed> {
    overlay().or_else(|_| Ok(Sealed { file: memory_file()?, mount: None }))
}

/// The seal from which process `pid` runs, if it is a seal of this very executable: making one again is spared.
///
/// It is judged by the file that is opened, not by what the process claims: a read-only overlay, the same size and times.
#[must_use]
pub fn sealed_of(pid: i32) -> Option<Sealed> {
    let path = format!("/proc/{pid}/exe");
    let file = rustix::fs::open(path.as_str(), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let same = is_read_only_overlay(&rustix::fs::fstatfs(&file).ok()?) && is_this_file(&file).ok()?;
    same.then_some(Sealed { file, mount: None })
}

fn is_read_only_overlay(fs: &rustix::fs::StatFs) -> bool {
    const ST_RDONLY: i64 = 1;
    const OVERLAYFS: i64 = 0x794c_7630;
    fs.f_type == OVERLAYFS && fs.f_flags & ST_RDONLY != 0
}

/// Whether `file` is this executable. Its number differs through an overlay, so size and times must do.
fn is_this_file(file: &OwnedFd) -> io::Result<bool> {
    let (ours, seen) = (rustix::fs::stat(SELF)?, rustix::fs::fstat(file)?);
    let identity =
        |s: &rustix::fs::Stat| (s.st_size, s.st_mtime, s.st_mtime_nsec, s.st_ctime, s.st_ctime_nsec);
    Ok(identity(&ours) == identity(&seen))
}

/// This executable through a read-only, anonymous overlay of its directory. Needs `CAP_SYS_ADMIN`.
///
/// # Errors
/// `EPERM` without the privilege, `ENODEV` without overlayfs, `EINVAL` if the directory is itself an odd place.
pub fn overlay() -> io::Result<Sealed> {
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

fn overlay_with(dir: &Path, name: &OsStr, second: &str) -> io::Result<Sealed> {
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
    let file = rustix::fs::openat(&mount, name.as_bytes(), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    // Something else may have been put in its place, or be mounted there.
    if !is_this_file(&file)? {
        return Err(io::Error::from(io::ErrorKind::NotFound));
    }
    Ok(Sealed { file, mount: Some(mount) })
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
    match (Program::new(args, env), sealed()) {
        (Ok(program), Ok(sealed)) => program.exec_fd(sealed.file.as_fd()),
        (Err(e), _) | (_, Err(e)) => e,
    }
}

/// Makes sure that this process runs from a seal: returns at once if it does, else goes over to one. Where the kernel does
/// not let it, it executes itself again from the seal with the same arguments and environment.
///
/// # Errors
/// What sealing or executing says.
pub fn seal() -> io::Result<Held> {
    seal_by(sealed)
}

/// [`seal`], with the seal that `find` gives.
///
/// # Errors
/// As there.
pub fn seal_by(find: impl FnOnce() -> io::Result<Sealed>) -> io::Result<Held> {
    if is_sealed() {
        return Ok(Held::default());
    }
    let sealed = find()?;
    let original = rustix::fs::open(SELF, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok();
    if crate::adopt::adopt(sealed.file.as_fd()).is_ok() && is_sealed() {
        return Ok(Held { mount: sealed.mount, original });
    }
    let args: Vec<Vec<u8>> = std::env::args_os().map(|a| a.as_bytes().to_vec()).collect();
    let env: Vec<Vec<u8>> =
        std::env::vars_os().map(|(k, v)| [k.as_bytes(), b"=", v.as_bytes()].concat()).collect();
    let program = Program::new(&args, &env)?;
    Err(program.exec_fd(sealed.file.as_fd()))
}
