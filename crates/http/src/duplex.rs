//! A connection that was handed over: from here on it is the caller's protocol.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use super::connection::Wire;
use super::server::{Follower, Seat};

/// A connection in both directions. Dropping it closes it.
///
/// Reads and writes wait, unless [`Duplex::set_waits`] says otherwise. Who waits for several things at once polls the
/// descriptor, and asks [`Duplex::holds`] first: bytes that were read ahead are not seen by poll.
pub struct Duplex {
    wire: Wire,
    _follower: Follower,
    _seat: Seat,
}

impl Duplex {
    pub(crate) fn new(mut wire: Wire, follower: Follower, seat: Seat) -> Self {
        wire.stream.socket_mut().set_read_timeout(None);
        Self { wire, _follower: follower, _seat: seat }
    }

    /// Whether a read gives something at once whatever poll says.
    pub fn holds(&mut self) -> bool {
        self.wire.holds()
    }

    /// Whether reads and writes wait; else they fail with `WouldBlock`. Only this object's calls are meant, not the
    /// descriptor's flag.
    pub fn set_waits(&mut self, waits: bool) {
        self.wire.stream.socket_mut().set_waits(waits);
    }

    /// Bounds how long a write waits for a peer that reads nothing.
    pub fn set_write_timeout(&mut self, time: Option<Duration>) {
        self.wire.stream.socket_mut().set_write_timeout(time);
    }

    /// Whether the peer is gone, or sends no more.
    #[must_use]
    pub fn gone(&self) -> bool {
        self.wire.stream.socket().gone()
    }

    /// Tells the peer that nothing more comes; it may still send.
    pub fn close_write(&mut self) {
        self.wire.stream.close_write();
    }

    /// Whether the descriptor's bytes are the conversation's (no TLS).
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.wire.stream.is_plain()
    }

    /// What was read ahead of the end of the request, taken out.
    pub fn take_ahead(&mut self) -> Vec<u8> {
        self.wire.take_pending()
    }

    /// A second descriptor of the connection, for another thread or process; only for plain ones does it carry the
    /// conversation. This object has to live for as long as it is used, else the server does not know of it.
    ///
    /// # Errors
    /// No descriptor is free.
    pub fn try_clone_fd(&self) -> io::Result<OwnedFd> {
        self.wire.stream.as_fd().try_clone_to_owned()
    }
}

impl AsFd for Duplex {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wire.stream.as_fd()
    }
}

impl Read for Duplex {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.wire.read(buffer)
    }
}

impl Write for Duplex {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.wire.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.wire.stream.flush()
    }
}
