//! Waiting for files to change, for somebody else to go, or for time to pass: inotify(7) and poll(2).
//!
//! What a notice says is only that it is time to look; what happened is always looked at.

use std::cell::Cell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use fluyt_model::Result;
use fluyt_model::error::IoContext;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::Errno;

/// How long a reader that follows something may wait.
#[derive(Clone, Copy, Debug, Default)]
pub struct Patience<'a> {
    /// At most so long; `None`: as long as it takes.
    pub timeout: Option<Duration>,
    /// The waiting also ends when the peer of this socket or pipe has gone.
    pub unless_gone: Option<BorrowedFd<'a>>,
}

impl Patience<'_> {
    /// As long as it takes.
    pub const ENDLESS: Patience<'static> = Patience { timeout: None, unless_gone: None };
    /// Not at all.
    pub const NONE: Patience<'static> = Patience { timeout: Some(Duration::ZERO), unless_gone: None };

    /// Lets time pass, as long as patience lasts; whether it lasted.
    ///
    /// # Errors
    /// The kernel refuses to wait.
    pub fn pause(self, so_long: Duration) -> Result<bool> {
        let enough = self.timeout.is_some_and(|t| t < so_long);
        let mut fds: Vec<PollFd<'_>> =
            self.unless_gone.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::RDHUP)).into_iter().collect();
        let n = poll_for(&mut fds, Some(self.timeout.map_or(so_long, |t| t.min(so_long))))?;
        Ok(n == 0 && !enough)
    }

    /// Whether the peer has gone.
    pub(crate) fn is_gone(&self) -> Result<bool> {
        let Some(fd) = self.unless_gone else { return Ok(false) };
        Ok(poll_for(&mut [PollFd::from_borrowed_fd(fd, PollFlags::RDHUP)], Some(Duration::ZERO))? > 0)
    }
}

/// Waits until the peer of a socket has read what was sent to it, so long at most. Only of unix sockets can that be known;
/// on others there is nothing to wait for once it has arrived.
pub fn wait_until_read(socket: BorrowedFd<'_>, at_most: Duration) {
    let deadline = std::time::Instant::now() + at_most;
    let mut pause = Duration::from_micros(50);
    while fluyt_sys::unread::unread(socket).is_ok_and(|bytes| bytes > 0)
        && std::time::Instant::now() < deadline
    {
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(2));
    }
}

/// What a reader that follows something has to give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Followed<T> {
    /// The next item.
    Item(T),
    /// Nothing yet, and patience has ended.
    Nothing,
    /// There will be no more.
    End,
}

/// Why a waiting ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Woken {
    /// Something changed, or the time to look again is there.
    Look,
    /// The caller's patience has ended.
    Enough,
}

/// Between two looks where the kernel tells nothing: a user may have 128 descriptors of this kind by default.
const UNTOLD: Duration = Duration::from_millis(25);

/// Tells of changes to files and in directories.
#[derive(Debug)]
pub(crate) struct Notices {
    /// None, if there is none left.
    fd: Option<OwnedFd>,
    /// Something is not watched that should be.
    blind: Cell<bool>,
}

impl Notices {
    /// With nothing to tell of yet.
    pub fn new() -> Result<Self> {
        match inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK) {
            Ok(fd) => Ok(Self { fd: Some(fd), blind: Cell::new(false) }),
            Err(Errno::MFILE | Errno::NFILE | Errno::NOMEM) => Ok(Self { fd: None, blind: Cell::new(true) }),
            Err(e) => Err(std::io::Error::from(e)).about(|| "inotify"),
        }
    }

    /// Tells of files that are written, made, moved and deleted in `path`, or of `path` itself if it is a file. What does
    /// not exist is passed over.
    pub fn add(&self, path: &Path) -> Result<()> {
        let flags = WatchFlags::MODIFY
            | WatchFlags::CREATE
            | WatchFlags::MOVED_TO
            | WatchFlags::MOVED_FROM
            | WatchFlags::DELETE
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF;
        let Some(fd) = &self.fd else { return Ok(()) };
        match inotify::add_watch(fd, path, flags) {
            Ok(_) | Err(Errno::NOENT) => Ok(()),
            Err(Errno::NOSPC | Errno::NOMEM) => {
                self.blind.set(true);
                Ok(())
            }
            Err(e) => Err(std::io::Error::from(e)).about(|| format!("watching {}", path.display())),
        }
    }

    /// Waits for a change, at most for `look_again`, and as long as `patience` lasts.
    pub fn wait(&self, look_again: Option<Duration>, patience: Patience<'_>) -> Result<Woken> {
        let untold = self.blind.get().then_some(UNTOLD);
        let look_again = match (look_again, untold) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        let shortest = match (look_again, patience.timeout) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        let enough = patience.timeout.is_some_and(|t| look_again.is_none_or(|l| t <= l));
        let mut fds: Vec<PollFd<'_>> = Vec::with_capacity(2);
        fds.extend(patience.unless_gone.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::RDHUP)));
        let peers = fds.len();
        fds.extend(self.fd.iter().map(|fd| PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN)));
        let ready = poll_for(&mut fds, shortest)?;
        if fds[..peers].iter().any(|fd| !fd.revents().is_empty()) {
            return Ok(Woken::Enough);
        }
        if ready == 0 {
            return Ok(if enough { Woken::Enough } else { Woken::Look });
        }
        self.drain();
        Ok(Woken::Look)
    }

    fn drain(&self) {
        let Some(fd) = &self.fd else { return };
        let mut buffer = [0_u8; 4096];
        while matches!(rustix::io::read(fd, &mut buffer), Ok(1..)) {}
    }
}

/// Polls for at most `timeout`; 0 also when a signal came.
pub(crate) fn poll_for(fds: &mut [PollFd<'_>], timeout: Option<Duration>) -> Result<usize> {
    let timeout = timeout.map(|t| Timespec {
        tv_sec: t.as_secs().try_into().unwrap_or(i64::MAX),
        tv_nsec: t.subsec_nanos().into(),
    });
    match poll(fds, timeout.as_ref()) {
        Ok(n) => Ok(n),
        Err(Errno::INTR) => Ok(0),
        Err(e) => Err(std::io::Error::from(e)).about(|| "poll"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_a_hangup_and_a_timeout_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let notices = Notices::new().unwrap();
        notices.add(dir.path()).unwrap();
        notices.add(&dir.path().join("nothing")).unwrap();
        assert_eq!(notices.wait(None, Patience::NONE).unwrap(), Woken::Enough);
        assert_eq!(notices.wait(Some(Duration::from_millis(1)), Patience::ENDLESS).unwrap(), Woken::Look);
        std::fs::write(dir.path().join("a"), "b").unwrap();
        assert_eq!(notices.wait(None, Patience::ENDLESS).unwrap(), Woken::Look);
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        drop(theirs);
        let patience = Patience { unless_gone: Some(ours.as_fd()), ..Patience::ENDLESS };
        assert_eq!(notices.wait(None, patience).unwrap(), Woken::Enough);
        // Where the kernel tells nothing, it is time to look soon.
        let blind = Notices { fd: None, blind: Cell::new(true) };
        blind.add(dir.path()).unwrap();
        assert_eq!(blind.wait(None, Patience::ENDLESS).unwrap(), Woken::Look);
        assert_eq!(blind.wait(None, patience).unwrap(), Woken::Enough);
    }
}
