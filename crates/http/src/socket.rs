//! A connected socket of whatever family: bytes in and out, and how long to wait for them.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::retry_on_intr;
use rustix::net::sockopt::{self, Timeout};
use rustix::net::{RecvFlags, SendFlags, Shutdown};

/// A connected stream socket.
#[derive(Debug)]
pub(crate) struct Socket {
    fd: Arc<OwnedFd>,
    /// Whether calls may wait; else they fail with `WouldBlock`.
    waits: bool,
    read_timeout: Option<Duration>,
    write_timeout: Option<Duration>,
}

impl Socket {
    pub fn new(fd: OwnedFd) -> Self {
        Self { fd: Arc::new(fd), waits: true, read_timeout: None, write_timeout: None }
    }

    /// The same descriptor for somebody who may end the connection.
    pub fn shared(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.fd)
    }

    /// Whether reads and writes may wait.
    pub fn set_waits(&mut self, waits: bool) {
        self.waits = waits;
    }

    /// Bounds how long a read may wait; not at all with `None`.
    pub fn set_read_timeout(&mut self, time: Option<Duration>) {
        if self.read_timeout != time && sockopt::set_socket_timeout(&self.fd, Timeout::Recv, time).is_ok() {
            self.read_timeout = time;
        }
    }

    /// Bounds how long a write may wait; not at all with `None`.
    pub fn set_write_timeout(&mut self, time: Option<Duration>) {
        if self.write_timeout != time && sockopt::set_socket_timeout(&self.fd, Timeout::Send, time).is_ok() {
            self.write_timeout = time;
        }
    }

    /// Waits until there is something to read (the end counts), at most so long; whether there is.
    pub fn wait_readable(&self, time: Duration) -> bool {
        let time = Timespec {
            tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: time.subsec_nanos().into(),
        };
        let mut fds = [PollFd::new(&*self.fd, PollFlags::IN)];
        matches!(retry_on_intr(|| poll(&mut fds, Some(&time))), Ok(1..))
    }

    /// The first byte that waits to be read, which stays where it is; `None` if nothing does.
    pub fn peek(&self) -> Option<u8> {
        let mut first = [0];
        let found =
            retry_on_intr(|| rustix::net::recv(&self.fd, &mut first, RecvFlags::PEEK | RecvFlags::DONTWAIT));
        matches!(found, Ok((_, 1))).then_some(first[0])
    }

    /// Whether the peer has gone, or has said that it sends no more.
    pub fn gone(&self) -> bool {
        let mut fds = [PollFd::new(&*self.fd, PollFlags::RDHUP)];
        matches!(retry_on_intr(|| poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))), Ok(1..))
    }

    /// Sends a piece after which more follows at once.
    pub fn send_more(&self, bytes: &[u8]) -> io::Result<usize> {
        Ok(retry_on_intr(|| rustix::net::send(&self.fd, bytes, SendFlags::MORE | SendFlags::NOSIGNAL))?)
    }

    /// Tells the peer that nothing more comes.
    pub fn close_write(&self) {
        let _ = rustix::net::shutdown(&self.fd, Shutdown::Write);
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let flags = if self.waits { RecvFlags::empty() } else { RecvFlags::DONTWAIT };
        Ok(retry_on_intr(|| rustix::net::recv(&self.fd, &mut *buffer, flags))?.0)
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let flags = if self.waits { SendFlags::empty() } else { SendFlags::DONTWAIT };
        Ok(retry_on_intr(|| rustix::net::send(&self.fd, bytes, flags | SendFlags::NOSIGNAL))?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
