//! What an answer of unknown length is written to.

use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};

use super::stream::Stream;

/// What is collected before it is sent without being asked for.
const FULL: usize = 64 << 10;

/// The body of an answer of unknown length. The head is on its way when the first byte is written here; each flush
/// sends what was written since the last one as a chunk.
pub struct Sink<'a> {
    stream: &'a mut Stream,
    buffer: Vec<u8>,
    /// Whether the client knows chunks; else the end of the connection is the end of the body.
    chunked: bool,
    sent: u64,
}

/// Room for a chunk's line before its bytes: eight digits and a line end.
const ROOM: usize = 10;

impl<'a> Sink<'a> {
    pub(crate) fn new(stream: &'a mut Stream, chunked: bool) -> Self {
        Self { stream, buffer: Vec::new(), chunked, sent: 0 }
    }

    /// Whether the peer has gone, or the server is about to end. To wait for that, poll the descriptor for `RDHUP`.
    #[must_use]
    pub fn gone(&self) -> bool {
        self.stream.socket().gone()
    }

    /// Bytes of the body that were sent.
    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }

    /// Sends the rest and the end of the body.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        self.flush()?;
        if self.chunked {
            self.stream.write_all(b"0\r\n\r\n")?;
            self.stream.flush()?;
        }
        Ok(())
    }
}

impl AsFd for Sink<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.buffer.is_empty() {
            self.buffer.resize(ROOM, 0);
        }
        let most = bytes.len().min(FULL);
        self.buffer.extend_from_slice(&bytes[..most]);
        if self.buffer.len() >= FULL {
            self.flush()?;
        }
        Ok(most)
    }

    /// Sends what was written since the last time.
    fn flush(&mut self) -> io::Result<()> {
        let length = self.buffer.len().saturating_sub(ROOM);
        if length == 0 {
            return Ok(());
        }
        let start = if self.chunked {
            // The line goes right before the bytes, so that one call sends both.
            let line = format!("{length:x}\r\n");
            let start = ROOM - line.len();
            self.buffer[start..ROOM].copy_from_slice(line.as_bytes());
            self.buffer.extend_from_slice(b"\r\n");
            start
        } else {
            ROOM
        };
        self.stream.write_all(&self.buffer[start..])?;
        self.stream.flush()?;
        self.sent += length as u64;
        // An answer that mostly waits keeps no large buffer.
        if self.buffer.capacity() > FULL / 4 {
            self.buffer = Vec::new();
        } else {
            self.buffer.clear();
        }
        Ok(())
    }
}
