//! `tmpcopyup`: a new tmpfs starts with what the directory below it holds.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use fluyt_model::error::{Error, IoContext, Result};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawMode, Timespec, Timestamps};

const DEEPEST: u32 = 128;

/// Copies the contents of the directory `from` into the root of the detached mount `to`.
pub(crate) fn copy_up(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<()> {
    let from = open_dir(from, c".")?;
    let to = open_dir(to, c".")?;
    copy_dir(&from, &to, 0)
}

fn open_dir(dir: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::empty())
        .about(|| format!("tmpcopyup: {}", name.to_string_lossy()))
}

fn copy_dir(from: &OwnedFd, to: &OwnedFd, depth: u32) -> Result<()> {
    if depth > DEEPEST {
        return Err(Error::invalid("tmpcopyup: directories are nested too deeply"));
    }
    let entries = rustix::fs::Dir::read_from(from).about(|| "tmpcopyup")?;
    for entry in entries {
        let entry = entry.about(|| "tmpcopyup")?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        copy_entry(from, to, name, depth)
            .map_err(|e| e.context(format!("tmpcopyup: {}", name.to_string_lossy())))?;
    }
    Ok(())
}

fn copy_entry(from: &OwnedFd, to: &OwnedFd, name: &CStr, depth: u32) -> Result<()> {
    let stat = rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW).about(|| "stat")?;
    let mode = Mode::from_raw_mode(stat.st_mode as RawMode & 0o7777);
    let kind = FileType::from_raw_mode(stat.st_mode);
    match kind {
        FileType::Directory => {
            rustix::fs::mkdirat(to, name, mode).about(|| "mkdir")?;
            copy_dir(&open_dir(from.as_fd(), name)?, &open_dir(to.as_fd(), name)?, depth + 1)?;
        }
        FileType::RegularFile => copy_file(from, to, name, mode)?,
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(from, name, Vec::new()).about(|| "readlink")?;
            rustix::fs::symlinkat(target.as_c_str(), to, name).about(|| "symlink")?;
        }
        other => rustix::fs::mknodat(to, name, other, mode, stat.st_rdev).about(|| "mknod")?,
    }
    let (uid, gid) = (rustix::fs::Uid::from_raw(stat.st_uid), rustix::fs::Gid::from_raw(stat.st_gid));
    rustix::fs::chownat(to, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).about(|| "chown")?;
    if kind != FileType::Symlink {
        // After chown, which clears the set-id bits.
        rustix::fs::chmodat(to, name, mode, AtFlags::empty()).about(|| "chmod")?;
    }
    let times = Timestamps {
        last_access: Timespec { tv_sec: stat.st_atime, tv_nsec: stat.st_atime_nsec as _ },
        last_modification: Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec as _ },
    };
    rustix::fs::utimensat(to, name, &times, AtFlags::SYMLINK_NOFOLLOW).about(|| "utimensat")
}

fn copy_file(from: &OwnedFd, to: &OwnedFd, name: &CStr, mode: Mode) -> Result<()> {
    let read = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let write = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let source = rustix::fs::openat(from, name, read, Mode::empty()).about(|| "open")?;
    let target = rustix::fs::openat(to, name, write, mode).about(|| "create")?;
    loop {
        if rustix::fs::sendfile(&target, &source, None, 1 << 20).about(|| "copy")? == 0 {
            break;
        }
    }
    let mut names = vec![0u8; 4096];
    let length = rustix::fs::flistxattr(&source, &mut names[..]).unwrap_or(0);
    for attribute in names[..length].split(|b| *b == 0).filter(|n| !n.is_empty()) {
        let mut value = vec![0u8; 4096];
        if let Ok(n) = rustix::fs::fgetxattr(&source, attribute, &mut value[..]) {
            // A tmpfs does not keep every kind of attribute; that is its nature, not a failure.
            let _ = rustix::fs::fsetxattr(&target, attribute, &value[..n], rustix::fs::XattrFlags::empty());
        }
    }
    Ok(())
}
