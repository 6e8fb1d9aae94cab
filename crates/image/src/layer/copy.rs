//! Copies single files with everything that belongs to them: data with holes, owner, mode, attributes, times.
//!
//! Sources and targets are descriptors, so no path is resolved here; names are single parts of a path.

use std::os::fd::{AsRawFd, OwnedFd};

use fluyt_model::error::IoContext;
use fluyt_model::{Error, Result};
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, SeekFrom, Stat, Timespec, Timestamps, Uid, XattrFlags,
};
use rustix::io::Errno;

use super::extract::{OPAQUE, proc_path, resolve, show};

/// The path of an open file for calls that do not take an `O_PATH` descriptor.
pub(crate) fn fd_path(fd: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// Opens the directory `path` below `root` for use as a base of other calls.
pub(crate) fn open_dir_in(root: &OwnedFd, path: &[u8]) -> rustix::io::Result<OwnedFd> {
    let path = if path.is_empty() { b"." } else { path };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat2(root, path, flags, Mode::empty(), resolve())
}

/// Whether a directory hides what is below it.
pub(crate) fn is_opaque(dir: &OwnedFd) -> bool {
    let mut value = [0_u8; 4];
    rustix::fs::getxattr(fd_path(dir), OPAQUE, &mut value).is_ok_and(|n| value[..n] == *b"y")
}

/// Gives the open file `to` the owner, mode, attributes and times of `from`, whose status is `stat`.
pub(crate) fn metadata(from: &OwnedFd, to: &OwnedFd, stat: &Stat) -> Result<()> {
    let target = fd_path(to);
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    rustix::fs::chownat(to, "", Some(uid), Some(gid), AtFlags::EMPTY_PATH).about(|| "setting its owner")?;
    rustix::fs::chmod(&*target, Mode::from_raw_mode(stat.st_mode & 0o7777)).about(|| "setting its mode")?;
    // The trailing `/.` would fail for files: a magic link is followed by the calls without `l`.
    for (key, value) in xattrs_of(from)? {
        rustix::fs::setxattr(&*target, &*key, &value, XattrFlags::empty())
            .about(|| format!("setting its attribute {}", show(&key)))?;
    }
    rustix::fs::utimensat(rustix::fs::CWD, &*target, &times_of(stat), AtFlags::empty())
        .about(|| "setting its time")
}

/// The attributes of an open file or directory (`O_PATH` too), not of a symbolic link.
pub(crate) fn xattrs_of(file: &OwnedFd) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let own = fd_path(file);
    // Resolved once through the magic link; the real path may be long gone from this name.
    let mut names = vec![0_u8; 1024];
    let length = loop {
        match rustix::fs::listxattr(&*own, &mut names) {
            Ok(n) => break n,
            Err(Errno::RANGE) if names.len() < 1 << 20 => names.resize(names.len() * 4, 0),
            Err(Errno::NOTSUP) => return Ok(Vec::new()),
            Err(e) => return Err(Error::io("listing its attributes", e.into())),
        }
    };
    let mut found = Vec::new();
    for name in names[..length].split(|b| *b == 0).filter(|n| !n.is_empty()) {
        if name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.") {
            continue;
        }
        let mut value = vec![0_u8; 64 * 1024];
        match rustix::fs::getxattr(&*own, name, &mut value) {
            Ok(n) => {
                value.truncate(n);
                found.push((name.to_vec(), value));
            }
            Err(Errno::NODATA | Errno::NOTSUP) => {}
            Err(e) => return Err(Error::io("reading its attributes", e.into())),
        }
    }
    found.sort();
    Ok(found)
}

/// Access and modification time of a status.
pub(crate) fn times_of(stat: &Stat) -> Timestamps {
    let time = |seconds: i64, nanos: u64| Timespec {
        tv_sec: seconds,
        tv_nsec: i64::try_from(nanos).expect("below a second"),
    };
    #[allow(clippy::useless_conversion)]
    Timestamps {
        last_access: time(stat.st_atime.into(), stat.st_atime_nsec.into()),
        last_modification: time(stat.st_mtime.into(), stat.st_mtime_nsec.into()),
    }
}

/// Copies what `from` (an `O_PATH` descriptor; anything but a directory) is to the new name `name` in `dir`.
pub(crate) fn file(from: &OwnedFd, dir: &OwnedFd, name: &[u8]) -> Result<()> {
    let stat = rustix::fs::fstat(from).about(|| "reading its status")?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    match kind {
        FileType::RegularFile => return regular(from, &stat, dir, name),
        FileType::Directory => return Err(Error::invalid("it is a directory")),
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(from, "", Vec::new()).about(|| "reading the link")?;
            rustix::fs::symlinkat(target, dir, name).about(|| "creating it")?;
        }
        other => {
            let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
            rustix::fs::mknodat(dir, name, other, mode, stat.st_rdev).about(|| "creating it")?;
            rustix::fs::chmodat(dir, name, mode, AtFlags::empty()).about(|| "setting its mode")?;
        }
    }
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    rustix::fs::chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
        .about(|| "setting its owner")?;
    if kind != FileType::Symlink {
        let own = proc_path(dir, name);
        for (key, value) in xattrs_of(from)? {
            rustix::fs::lsetxattr(&*own, &*key, &value, XattrFlags::empty())
                .about(|| format!("setting its attribute {}", show(&key)))?;
        }
        rustix::fs::chmodat(dir, name, Mode::from_raw_mode(stat.st_mode & 0o7777), AtFlags::empty())
            .about(|| "setting its mode")?;
    }
    rustix::fs::utimensat(dir, name, &times_of(&stat), AtFlags::SYMLINK_NOFOLLOW).about(|| "setting its time")
}

fn regular(from: &OwnedFd, stat: &Stat, dir: &OwnedFd, name: &[u8]) -> Result<()> {
    let source = rustix::fs::open(fd_path(from), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .about(|| "opening it")?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let target = rustix::fs::openat(dir, name, flags, Mode::RUSR | Mode::WUSR).about(|| "creating it")?;
    let size = u64::try_from(stat.st_size).unwrap_or(0);
    rustix::fs::ftruncate(&target, size).about(|| "writing it")?;
    for (offset, length) in data_pieces(&source, size)? {
        copy_piece(&source, &target, offset, length)?;
    }
    metadata(from, &target, stat)
}

/// Where a file has data, as offset and length; everything else is holes.
pub(crate) fn data_pieces(file: &OwnedFd, size: u64) -> Result<Vec<(u64, u64)>> {
    let mut pieces = Vec::new();
    let mut at = 0;
    while at < size {
        let start = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Ok(start) => start,
            Err(Errno::NXIO) => break,
            Err(Errno::INVAL | Errno::NOTSUP) => return Ok(vec![(0, size)]),
            Err(e) => return Err(Error::io("looking for holes", e.into())),
        };
        let end = rustix::fs::seek(file, SeekFrom::Hole(start)).about(|| "looking for holes")?.min(size);
        if end <= start {
            break;
        }
        pieces.push((start, end - start));
        at = end;
    }
    Ok(pieces)
}

fn copy_piece(source: &OwnedFd, target: &OwnedFd, offset: u64, length: u64) -> Result<()> {
    let (mut from, mut to) = (offset, offset);
    let end = offset + length;
    while from < end {
        let most = usize::try_from(end - from).unwrap_or(usize::MAX).min(1 << 30);
        match rustix::fs::copy_file_range(source, Some(&mut from), target, Some(&mut to), most) {
            Ok(0) => return Ok(()),
            Ok(_) | Err(Errno::INTR) => {}
            Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM) => {
                return copy_by_hand(source, target, from, end);
            }
            Err(e) => return Err(Error::io("copying it", e.into())),
        }
    }
    Ok(())
}

fn copy_by_hand(source: &OwnedFd, target: &OwnedFd, mut at: u64, end: u64) -> Result<()> {
    let mut buffer = vec![0_u8; 256 * 1024];
    while at < end {
        let most = usize::try_from(end - at).unwrap_or(usize::MAX).min(buffer.len());
        let n = rustix::io::retry_on_intr(|| rustix::io::pread(source, &mut buffer[..most], at))
            .about(|| "reading it")?;
        if n == 0 {
            return Ok(());
        }
        let mut done = 0;
        while done < n {
            done +=
                rustix::io::retry_on_intr(|| rustix::io::pwrite(target, &buffer[done..n], at + done as u64))
                    .about(|| "writing it")?;
        }
        at += n as u64;
    }
    Ok(())
}
