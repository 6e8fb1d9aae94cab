//! A request's body as a stream: of a stated length, or in chunks.

use std::io::{self, Read, Write};

use super::connection::Wire;
use super::request::Framing;

/// The longest line before a chunk.
const MAX_CHUNK_LINE: usize = 1024;

/// The body of the request at hand. Reads end with `Ok(0)` when it is complete and fail when it is cut.
pub struct Body<'a> {
    wire: &'a mut Wire,
    state: State,
    /// The client waits for `100 Continue` before it sends.
    awaited: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// So many bytes are left.
    Length(u64),
    /// In a chunk, so many bytes are left.
    Chunk(u64),
    /// Before the line of a chunk; whether one came before.
    BetweenChunks(bool),
    /// Complete.
    Done,
    /// Broken: nothing can follow on this connection.
    Broken,
}

impl<'a> Body<'a> {
    pub(super) fn new(wire: &'a mut Wire, framing: Framing, awaited: bool) -> Self {
        let state = match framing {
            Framing::Length(0) => State::Done,
            Framing::Length(n) => State::Length(n),
            Framing::Chunked => State::BetweenChunks(false),
        };
        Self { wire, state, awaited: awaited && state != State::Done }
    }

    /// The stated length of what is left; `None` when it comes in chunks.
    #[must_use]
    pub fn length(&self) -> Option<u64> {
        match self.state {
            State::Length(n) => Some(n),
            State::Done => Some(0),
            _ => None,
        }
    }

    /// Reads all of it, at most `limit` bytes; `None` when it is longer.
    ///
    /// # Errors
    /// The body is cut, malformed, or comes too slowly.
    pub fn read_all(&mut self, limit: u64) -> io::Result<Option<Vec<u8>>> {
        if self.length().is_some_and(|n| n > limit) {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        self.take(limit + 1).read_to_end(&mut bytes)?;
        Ok((bytes.len() as u64 <= limit).then_some(bytes))
    }

    /// Passes over what was not read, if it is short; whether the connection can serve another request.
    pub(super) fn finish(mut self, limit: u64) -> bool {
        if self.state == State::Done {
            return true;
        }
        // A client that waits for `100 Continue` may or may not send its body now: there is no way to tell.
        if self.awaited || self.state == State::Broken || self.length().is_some_and(|n| n > limit) {
            return false;
        }
        let mut sink = [0; 8192];
        let mut passed = 0;
        while passed <= limit {
            match self.read(&mut sink) {
                Ok(0) => return true,
                Ok(n) => passed += n as u64,
                Err(_) => return false,
            }
        }
        false
    }

    fn fill(&mut self, buffer: &mut [u8], left: u64) -> io::Result<usize> {
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        match self.wire.read(&mut buffer[..most]) {
            Ok(0) => {
                self.state = State::Broken;
                Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the body was cut"))
            }
            Err(e) => {
                self.state = State::Broken;
                Err(e)
            }
            Ok(n) => Ok(n),
        }
    }

    /// The length of the next chunk, from its line.
    fn next_chunk(&mut self, follows: bool) -> io::Result<u64> {
        if follows && !self.wire.line(2)?.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a chunk is longer than said"));
        }
        let line = self.wire.line(MAX_CHUNK_LINE)?;
        let digits = line.split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
        let text = std::str::from_utf8(digits).unwrap_or_default();
        let malformed = || io::Error::new(io::ErrorKind::InvalidData, "malformed chunk");
        if text.is_empty() || text.len() > 15 || text.starts_with('+') {
            return Err(malformed());
        }
        let size = u64::from_str_radix(text, 16).map_err(|_| malformed())?;
        if size == 0 {
            // Trailers are read and mean nothing here.
            for _ in 0..64 {
                if self.wire.line(MAX_CHUNK_LINE)?.is_empty() {
                    return Ok(0);
                }
            }
            return Err(malformed());
        }
        Ok(size)
    }
}

impl Read for Body<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        if std::mem::take(&mut self.awaited) {
            self.wire.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
            self.wire.stream.flush()?;
        }
        loop {
            match self.state {
                State::Done => return Ok(0),
                State::Broken => {
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the body was cut"));
                }
                State::Length(left) => {
                    let n = self.fill(buffer, left)?;
                    let left = left - n as u64;
                    self.state = if left == 0 { State::Done } else { State::Length(left) };
                    return Ok(n);
                }
                State::Chunk(left) => {
                    let n = self.fill(buffer, left)?;
                    let left = left - n as u64;
                    self.state = if left == 0 { State::BetweenChunks(true) } else { State::Chunk(left) };
                    return Ok(n);
                }
                State::BetweenChunks(follows) => {
                    self.state = State::Broken;
                    self.state = match self.next_chunk(follows)? {
                        0 => State::Done,
                        n => State::Chunk(n),
                    };
                }
            }
        }
    }
}
