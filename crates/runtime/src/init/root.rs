//! The root file system seen as a prison: every path below it is resolved inside it by the kernel.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use fluyt_model::error::{Error, IoContext, Result};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::MoveMountFlags;

const MODE_DIR: u32 = 0o755;

/// The container's root directory, held by descriptor.
#[derive(Debug)]
pub struct Root {
    fd: OwnedFd,
}

/// `path` without `.` and `..`, relative to the root; `..` at the root stays there.
pub(crate) fn clean(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => out.push(name),
            Component::ParentDir => {
                out.pop();
            }
            _ => {}
        }
    }
    out
}

impl Root {
    /// The tree below the directory (or detached mount) `fd`.
    #[must_use]
    pub fn new(fd: OwnedFd) -> Self {
        Self { fd }
    }

    /// The directory itself.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Opens `path` inside the root with symbolic links resolved inside it.
    pub(crate) fn open(&self, path: &Path, flags: OFlags) -> std::io::Result<OwnedFd> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        loop {
            match rustix::fs::openat2(&self.fd, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
                // The kernel could not rule out a rename or a mount during the walk.
                Err(Errno::AGAIN | Errno::INTR) => {}
                other => return Ok(other?),
            }
        }
    }

    /// Opens a directory inside the root, making it and its parents if they are missing.
    ///
    /// # Errors
    /// It cannot be made, or a file is in the way.
    pub fn ensure_dir(&self, path: &Path) -> Result<OwnedFd> {
        self.ensure(&clean(path), true, 0)
    }

    /// As [`Root::ensure_dir`] for a file system's mount point; also tells whether it was missing. A new one is open to
    /// everybody, like the file system that covers it, so that a second start finds what the first one found.
    ///
    /// # Errors
    /// As [`Root::ensure_dir`].
    pub fn ensure_mount_point(&self, path: &Path) -> Result<(OwnedFd, bool)> {
        let path = clean(path);
        match self.open(&path, OFlags::PATH) {
            Ok(fd) => return Ok((fd, false)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(Error::io(format!("/{} in the container", path.display()), e)),
        }
        let fd = self.ensure(&path, true, 0)?;
        if let Ok(open) = self.open(&path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW) {
            // A file system that keeps no modes is no reason to give up.
            let _ = rustix::fs::fchmod(&open, Mode::from_raw_mode(0o1777));
        }
        Ok((fd, true))
    }

    /// Opens a file inside the root, making it empty if it is missing, with its parents.
    ///
    /// # Errors
    /// It cannot be made, or a directory is in the way.
    pub fn ensure_file(&self, path: &Path) -> Result<OwnedFd> {
        self.ensure(&clean(path), false, 0)
    }

    fn ensure(&self, path: &Path, dir: bool, depth: u32) -> Result<OwnedFd> {
        match self.open(path, OFlags::PATH) {
            Ok(fd) => return Ok(fd),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && depth < 40 => {}
            Err(e) => return Err(Error::io(format!("/{} in the container", path.display()), e)),
        }
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Error::not_found("the root of the container"));
        };
        let parent_fd = self.ensure(parent, true, depth + 1)?;
        let made = if dir { make_dir(parent_fd.as_fd(), name) } else { make_file(parent_fd.as_fd(), name) };
        match made {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                // Present but not to be opened: a dangling link. What it points to is made, inside the root.
                if let Ok(target) = rustix::fs::readlinkat(&parent_fd, name, Vec::new()) {
                    let target = Path::new(std::ffi::OsStr::new(to_str(&target)));
                    return self.ensure(&clean(&parent.join(strip(target, parent))), dir, depth + 1);
                }
            }
            Err(e) => {
                return Err(Error::io(format!("making /{} in the container", path.display()), e.into()));
            }
        }
        self.open(path, OFlags::PATH).about(|| format!("/{} in the container", path.display()))
    }
}

fn to_str(target: &std::ffi::CStr) -> &OsStr {
    use std::os::unix::ffi::OsStrExt;
    OsStr::from_bytes(target.to_bytes())
}

/// A link target as a path relative to the directory of the link; absolute ones start at the root again.
fn strip(target: &Path, parent: &Path) -> PathBuf {
    if !target.is_absolute() {
        return target.to_path_buf();
    }
    let mut up: PathBuf = parent.components().map(|_| "..").collect();
    up.push(target.strip_prefix("/").unwrap_or(target));
    up
}

fn make_dir(parent: BorrowedFd<'_>, name: &OsStr) -> rustix::io::Result<()> {
    rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(MODE_DIR))
}

fn make_file(parent: BorrowedFd<'_>, name: &OsStr) -> rustix::io::Result<()> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::WRONLY;
    rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(MODE_DIR)).map(drop)
}

/// Attaches a detached mount to an opened place.
pub(crate) fn attach(mount: BorrowedFd<'_>, place: BorrowedFd<'_>) -> std::io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(rustix::mount::move_mount(mount, c"", place, c"", flags)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().expect("temp dir");
        let fd = rustix::fs::open(dir.path(), OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).expect("open");
        (dir, Root::new(fd))
    }

    #[test]
    fn paths_are_cleaned_and_cannot_leave() {
        assert_eq!(clean(Path::new("/a/../../b/./c/")), Path::new("b/c"));
        assert_eq!(clean(Path::new("/")), Path::new(""));
    }

    #[test]
    fn missing_places_are_made_inside_even_behind_dangling_links() {
        let (dir, root) = root();
        std::os::unix::fs::symlink("/x/y", dir.path().join("link")).expect("symlink");
        std::os::unix::fs::symlink("../../../../z", dir.path().join("up")).expect("symlink");
        root.ensure_dir(Path::new("/link/deep")).expect("through the link");
        root.ensure_file(Path::new("/up")).expect("through the relative link");
        assert!(dir.path().join("x/y/deep").is_dir());
        assert!(dir.path().join("z").is_file());
        assert!(!Path::new("/x/y").exists() && !Path::new("/z").exists());
    }

    #[test]
    fn a_link_to_itself_ends() {
        let (dir, root) = root();
        std::os::unix::fs::symlink("loop", dir.path().join("loop")).expect("symlink");
        assert!(root.ensure_dir(Path::new("/loop/a")).is_err());
    }
}
