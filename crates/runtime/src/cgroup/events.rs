//! Out-of-memory kills: how many there were, and a descriptor that becomes readable with the next one.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use fluyt_model::error::{Error, IoContext, Result};
use rustix::event::EventfdFlags;
use rustix::fs::{Mode, OFlags, inotify};

use super::{CgroupPaths, files};

/// A watch on out-of-memory kills in a container's groups.
#[derive(Debug)]
pub struct OomWatch {
    fd: OwnedFd,
    paths: CgroupPaths,
    seen: u64,
}

impl OomWatch {
    pub(super) fn open(paths: &CgroupPaths) -> Result<Self> {
        let fd = match &paths.v2 {
            Some(dir) => {
                let file = dir.join("memory.events");
                let fd = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)
                    .about(|| "watch on memory events")?;
                inotify::add_watch(&fd, &file, inotify::WatchFlags::MODIFY)
                    .about(|| file.display().to_string())?;
                fd
            }
            None => eventfd(paths)?,
        };
        let seen = oom_kills(paths).unwrap_or(0);
        Ok(Self { fd, paths: paths.clone(), seen })
    }

    /// Poll this for reading; then call [`OomWatch::take`]. On version 1 it also becomes readable when the group goes.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// How many kills there were since the last call. Empties the descriptor.
    pub fn take(&mut self) -> u64 {
        let mut buffer = [0u8; 4096];
        while rustix::io::read(&self.fd, &mut buffer).is_ok_and(|n| n > 8) {}
        let now = oom_kills(&self.paths).unwrap_or(self.seen);
        let new = now.saturating_sub(self.seen);
        self.seen = now;
        new
    }
}

fn eventfd(paths: &CgroupPaths) -> Result<OwnedFd> {
    let dir = paths.controller("memory").ok_or_else(no_memory)?;
    let event =
        rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).about(|| "eventfd")?;
    let control = dir.join("memory.oom_control");
    let control_fd = rustix::fs::open(&control, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .about(|| control.display().to_string())?;
    let line = format!("{} {}", event.as_raw_fd(), control_fd.as_raw_fd());
    files::write(&dir.join("cgroup.event_control"), &line)?;
    Ok(event)
}

fn no_memory() -> Error {
    Error::unsupported("this host has no memory cgroup controller")
}

/// Processes killed so far for lack of memory.
pub(super) fn oom_kills(paths: &CgroupPaths) -> Result<u64> {
    let file = match &paths.v2 {
        Some(dir) => dir.join("memory.events"),
        None => paths.controller("memory").ok_or_else(no_memory)?.join("memory.oom_control"),
    };
    let text = files::read(&file)?;
    Ok(files::keyed(&text, "oom_kill").and_then(|v| v.parse().ok()).unwrap_or(0))
}
