//! Reading and writing control files, and directories of groups.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fluyt_model::error::{Error, IoContext, Kind, Result};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;

pub(crate) const MODE: u32 = 0o755;
const DEEPEST: u32 = 64;

/// A control file that takes several values, one after the other.
pub(crate) struct Control {
    fd: OwnedFd,
    path: PathBuf,
}

impl Control {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let fd = rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty());
        Ok(Self { fd: fd.about(|| format!("opening {}", path.display()))?, path: path.to_owned() })
    }

    /// Writes a value in one call.
    pub(crate) fn write(&self, value: &str) -> Result<()> {
        write_to(&self.fd, &self.path, value)
    }
}

/// Writes a value in one call.
pub(crate) fn write(path: &Path, value: &str) -> Result<()> {
    let about = || format!("writing {value:?} to {}", path.display());
    let fd = rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()).about(about)?;
    write_to(&fd, path, value)
}

fn write_to(fd: &OwnedFd, path: &Path, value: &str) -> Result<()> {
    loop {
        match rustix::io::write(fd, value.as_bytes()) {
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(e) => return Err(Error::io(format!("writing {value:?} to {}", path.display()), e.into())),
        }
    }
}

/// Writes a value if the file exists; `Ok(false)` if it does not.
pub(crate) fn write_if_present(path: &Path, value: &str) -> Result<bool> {
    match write(path, value) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == Kind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

/// Reads a whole control file.
pub(crate) fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).about(|| path.display().to_string())
}

/// Reads one number; `max` is `u64::MAX`.
pub(crate) fn number(path: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(path).ok()?;
    let text = text.trim();
    if text == "max" { Some(u64::MAX) } else { text.parse().ok() }
}

/// The value after `key` in a file of `key value` lines.
pub(crate) fn keyed<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|l| l.split_once(' ').filter(|(k, _)| *k == key).map(|(_, v)| v.trim()))
}

/// Makes a directory with its missing parents; returns whether the last one is new.
pub(crate) fn make(path: &Path) -> Result<bool> {
    let about = || format!("making cgroup {}", path.display());
    match rustix::fs::mkdirat(CWD, path, Mode::from_raw_mode(MODE)) {
        Ok(()) => Ok(true),
        Err(Errno::EXIST) => Ok(false),
        Err(Errno::NOENT) => {
            let parent = path.parent().ok_or_else(|| Error::not_found(about()))?;
            // Somebody who ends at the same time may remove an empty parent once more.
            for _ in 0..8 {
                make(parent)?;
                match rustix::fs::mkdirat(CWD, path, Mode::from_raw_mode(MODE)) {
                    Ok(()) => return Ok(true),
                    Err(Errno::EXIST) => return Ok(false),
                    Err(Errno::NOENT) => {}
                    Err(e) => return Err(Error::io(about(), e.into())),
                }
            }
            Err(Error::io(about(), Errno::NOENT.into()))
        }
        Err(e) => Err(Error::io(about(), e.into())),
    }
}

/// The processes of a group and of all below it.
pub(crate) fn pids_below(dir: &Path, into: &mut Vec<i32>, depth: u32) -> Result<()> {
    let text = match read(&dir.join("cgroup.procs")) {
        Ok(text) => text,
        // A threaded group: its processes are listed by its domain.
        Err(e) if depth > 0 || e.kind() != Kind::NotFound => {
            if e.kind() == Kind::NotFound || e.kind() == Kind::Unsupported {
                String::new()
            } else {
                return Err(e);
            }
        }
        Err(e) => return Err(e),
    };
    into.extend(text.lines().filter_map(|l| l.parse::<i32>().ok()));
    if depth < DEEPEST {
        for sub in subdirectories(dir) {
            pids_below(&sub, into, depth + 1)?;
        }
    }
    Ok(())
}

fn subdirectories(dir: &Path) -> Vec<std::path::PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()).collect()
}

/// Removes a group and all below it; a group that is gone is removed. While processes die the kernel says EBUSY: that is
/// retried until `patience` is over.
pub(crate) fn remove(dir: &Path, patience: Duration) -> Result<()> {
    let deadline = Instant::now() + patience;
    let mut pause = Duration::from_micros(200);
    loop {
        match rustix::fs::unlinkat(CWD, dir, rustix::fs::AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::BUSY | Errno::NOTEMPTY) => {}
            Err(e) => return Err(Error::io(format!("removing cgroup {}", dir.display()), e.into())),
        }
        for sub in subdirectories(dir) {
            remove(&sub, deadline.saturating_duration_since(Instant::now()))?;
        }
        if Instant::now() >= deadline {
            let text = format!("removing cgroup {}: it still has processes", dir.display());
            return Err(Error::conflict(text));
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}
