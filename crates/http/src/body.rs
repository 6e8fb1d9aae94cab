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

    /// Passes over what was not read, if no more than `limit` bytes have to come for it, the lines of chunks among them;
    /// whether the connection can serve another request.
    pub(super) fn finish(mut self, limit: u64) -> bool {
        if self.state == State::Done {
            return true;
        }
        // A client that waits for `100 Continue` may or may not send its body now: there is no way to tell.
        if self.awaited || self.state == State::Broken || self.length().is_some_and(|n| n > limit) {
            return false;
        }
        let mut sink = [0; 8192];
        let most = self.wire.came() + limit;
        while self.wire.came() <= most {
            match self.read(&mut sink) {
                Ok(0) => return true,
                Ok(_) => {}
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

#[cfg(test)]
mod tests {
    use super::super::socket::Socket;
    use super::super::stream::Stream;
    use super::*;
    use std::os::unix::net::UnixStream;

    /// A peer that sends chunks of one byte behind lines of a thousand until it is told to end, and the wire to it.
    fn chatty(first: &'static [u8], chunks: usize) -> (Wire, std::thread::JoinHandle<usize>) {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let sender = std::thread::spawn(move || {
            let chunk = [b"1;".as_slice(), &[b'a'; 1017], b"\r\nX\r\n"].concat();
            assert_eq!(chunk.len(), 1024);
            theirs.write_all(first).unwrap();
            (0..chunks).take_while(|_| theirs.write_all(&chunk).is_ok()).count()
        });
        (Wire::new(Stream::Plain(Socket::new(ours.into()))), sender)
    }

    #[test]
    fn what_was_used_is_not_kept() {
        // The lines never end where a read does.
        let (mut wire, sender) = chatty(b"1\r\nX\r\n", 4096);
        let mut body = Body::new(&mut wire, Framing::Chunked, false);
        let mut seen = 0;
        while let Ok(n @ 1..) = body.read(&mut [0; 64]) {
            seen += n;
            assert!(body.wire.kept() <= 64 << 10, "{} bytes after {seen} chunks", body.wire.kept());
        }
        assert_eq!((seen, sender.join().unwrap()), (4097, 4096));
    }

    #[test]
    fn what_nobody_wants_is_passed_over_by_its_length_on_the_wire() {
        let (mut wire, sender) = chatty(b"1\r\nX\r\n", 4096);
        assert!(!Body::new(&mut wire, Framing::Chunked, false).finish(64 << 10));
        assert!(wire.came() <= 128 << 10, "{}", wire.came());
        drop(wire);
        assert!(sender.join().unwrap() < 4096);
        let (mut wire, sender) = chatty(b"1\r\nX\r\n0\r\n\r\n", 0);
        assert!(Body::new(&mut wire, Framing::Chunked, false).finish(64 << 10));
        sender.join().unwrap();
    }
}
