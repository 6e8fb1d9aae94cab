//! HTTP/1.1 from the client's side: a request out, the head of its answer in, and the answer's body by its framing.
//!
//! Knows nothing of Docker. Absent: HTTP/2, compression, redirects, proxies.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::event::{PollFd, PollFlags, poll};

use super::dial::Stream;

/// The longest head of an answer.
const MAX_HEAD: usize = 256 << 10;
/// The longest line before a chunk.
const MAX_CHUNK_LINE: usize = 4096;
/// The most that is read of an early answer while a request's body is still being sent.
const MAX_EARLY: usize = 8 << 20;
/// A body is sent in pieces that a connection which is ready takes without blocking.
const PIECE: usize = 32 << 10;

/// A connection with what was read ahead of its use.
pub struct Wire {
    pub(super) stream: Stream,
    buffer: Vec<u8>,
    start: usize,
    /// Complete answers that came by it.
    pub(super) answers: u32,
}

/// The head of an answer.
#[derive(Clone, Debug, Default)]
pub struct Head {
    /// Status code.
    pub status: u16,
    /// Headers in their order, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The connection may be used again after the body.
    keep: bool,
}

impl Head {
    /// The first header of a name, which is in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    fn lists(&self, name: &str, token: &str) -> bool {
        let mut values = self.headers.iter().filter(|(n, _)| n == name).flat_map(|(_, v)| v.split(','));
        values.any(|v| v.trim().eq_ignore_ascii_case(token))
    }
}

/// Where the body of an answer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    /// After so many bytes.
    Length(u64),
    /// In a chunk with so many bytes left.
    Chunk(u64),
    /// Before the line of a chunk; whether one came before.
    BetweenChunks(bool),
    /// With the connection.
    Close,
    /// Here.
    Nothing,
}

impl Wire {
    /// Over a connection.
    pub fn new(stream: Stream) -> Self {
        Self { stream, buffer: Vec::new(), start: 0, answers: 0 }
    }

    /// What has been read and not used.
    pub fn pending(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    /// Reads more into the buffer; how much.
    fn more(&mut self) -> io::Result<usize> {
        if self.start == self.buffer.len() {
            self.buffer.clear();
            self.start = 0;
        }
        let old = self.buffer.len();
        self.buffer.resize(old + 8192, 0);
        let result = self.stream.read(&mut self.buffer[old..]);
        self.buffer.truncate(old + *result.as_ref().unwrap_or(&0));
        result
    }

    /// Whether the peer has closed an idle connection, or sent what nobody asked for.
    pub fn is_stale(&mut self) -> bool {
        if !self.pending().is_empty() || self.stream.has_plaintext() {
            return true;
        }
        is_ready(self.stream.as_fd(), PollFlags::IN)
    }

    /// Sends a request's head and its body. An answer that comes early ends the sending: whoever gave it does not want
    /// the rest.
    pub fn send(&mut self, head: &[u8], body: Option<&mut dyn Read>, chunked: bool) -> io::Result<()> {
        self.stream.write_all(head)?;
        if let Some(body) = body {
            let mut piece = vec![0; PIECE];
            loop {
                let n = match body.read(&mut piece) {
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                    Err(e) => return Err(io::Error::other(Unread(e))),
                    Ok(n) => n,
                };
                if self.await_room()? {
                    return Ok(());
                }
                if chunked {
                    self.stream.write_all(format!("{n:x}\r\n").as_bytes())?;
                    self.stream.write_all(&piece[..n])?;
                    self.stream.write_all(b"\r\n")?;
                } else {
                    self.stream.write_all(&piece[..n])?;
                }
                if n == 0 {
                    break;
                }
            }
        }
        self.stream.flush()
    }

    /// Waits until the peer takes more, and takes meanwhile what it sends: a server that answers while it reads would
    /// otherwise stand still. Returns whether the peer has refused the request or left.
    fn await_room(&mut self) -> io::Result<bool> {
        loop {
            let mut fds = [PollFd::new(&self.stream, PollFlags::IN | PollFlags::OUT)];
            match poll(&mut fds, None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
            let ready = fds[0].revents();
            if ready.intersects(PollFlags::IN | PollFlags::HUP) && self.stream.settle()? {
                if self.pending().len() > MAX_EARLY {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "too long an answer, too early"));
                }
                if self.more()? == 0 || self.is_refused() {
                    return Ok(true);
                }
            }
            if ready.intersects(PollFlags::OUT | PollFlags::ERR) {
                return Ok(false);
            }
        }
    }

    /// Whether what came early is the head of a failure.
    fn is_refused(&self) -> bool {
        matches!(parse_head(self.pending()), Ok(Some((head, _))) if head.status >= 400)
    }

    /// Reads the head of the answer; `None`: the connection ended before its first byte.
    pub fn head(&mut self) -> io::Result<Option<Head>> {
        loop {
            if let Some((head, length)) = parse_head(self.pending())? {
                self.start += length;
                // 100 and its like come before the answer.
                if head.status >= 200 || head.status == 101 {
                    return Ok(Some(head));
                }
                continue;
            }
            if self.pending().len() > MAX_HEAD {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "the head of the answer is too long"));
            }
            if self.more()? == 0 {
                let none = self.pending().is_empty();
                return if none { Ok(None) } else { Err(cut()) };
            }
        }
    }

    /// Up to the next line feed, without it and the carriage return before it.
    fn line(&mut self, limit: usize) -> io::Result<Vec<u8>> {
        let mut seen = 0;
        loop {
            if let Some(at) = self.pending()[seen..].iter().position(|b| *b == b'\n').map(|at| at + seen) {
                let mut line = self.pending()[..at].to_vec();
                self.start += at + 1;
                if line.last() == Some(&b'\r') {
                    line.pop();
                }
                return Ok(line);
            }
            seen = self.pending().len();
            if seen > limit {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a line is too long"));
            }
            if self.more()? == 0 {
                return Err(cut());
            }
        }
    }

    /// The length of the next chunk, from its line.
    fn next_chunk(&mut self, follows: bool) -> io::Result<u64> {
        let malformed = || io::Error::new(io::ErrorKind::InvalidData, "malformed chunk");
        if follows && !self.line(2)?.is_empty() {
            return Err(malformed());
        }
        let line = self.line(MAX_CHUNK_LINE)?;
        let digits = line.split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
        let text = std::str::from_utf8(digits).unwrap_or_default();
        if text.is_empty() || text.len() > 15 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(malformed());
        }
        let size = u64::from_str_radix(text, 16).map_err(|_| malformed())?;
        if size == 0 {
            for _ in 0..64 {
                if self.line(MAX_CHUNK_LINE)?.is_empty() {
                    return Ok(0);
                }
            }
            return Err(malformed());
        }
        Ok(size)
    }
}

/// The body of a request could not be read: not the connection's fault.
#[derive(Debug)]
pub(super) struct Unread(pub io::Error);

impl std::fmt::Display for Unread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Unread {}

fn cut() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the answer was cut")
}

/// Whether a descriptor is ready now.
pub(super) fn is_ready(fd: BorrowedFd<'_>, what: PollFlags) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(fd, what)];
    let at_once = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    matches!(poll(&mut fds, Some(&at_once)), Ok(1..))
}

/// A head with its length, once all of it is there.
fn parse_head(bytes: &[u8]) -> io::Result<Option<(Head, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; 128];
    let mut response = httparse::Response::new(&mut headers);
    let length = match response.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(e) => {
            let text = format!("what answers speaks no HTTP ({e})");
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
    };
    let headers = response.headers.iter();
    let headers = headers
        .map(|h| (h.name.to_ascii_lowercase(), String::from_utf8_lossy(h.value).trim().to_owned()))
        .collect();
    let mut head = Head { status: response.code.unwrap_or(0), headers, keep: false };
    head.keep = if response.version == Some(1) {
        !head.lists("connection", "close")
    } else {
        head.lists("connection", "keep-alive")
    };
    Ok(Some((head, length)))
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let pending = self.pending();
        if pending.is_empty() {
            return self.stream.read(buffer);
        }
        let n = pending.len().min(buffer.len());
        buffer[..n].copy_from_slice(&pending[..n]);
        self.start += n;
        Ok(n)
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// Reads the body of an answer.
pub struct Body {
    left: Left,
    /// The connection is good for another request afterwards.
    keep: bool,
}

impl Body {
    /// The body that follows a head; an answer to `HEAD` has none.
    pub fn of(head: &Head, to_head: bool) -> io::Result<Self> {
        let mut keep = head.keep;
        let left = if to_head || matches!(head.status, 101 | 204 | 304) {
            Left::Nothing
        } else if head.lists("transfer-encoding", "chunked") {
            Left::BetweenChunks(false)
        } else if let Some(length) = head.header("content-length") {
            let length = length.parse().map_err(|_| {
                io::Error::new(io::ErrorKind::InvalidData, "the length of the answer is no number")
            })?;
            if length == 0 { Left::Nothing } else { Left::Length(length) }
        } else {
            keep = false;
            Left::Close
        };
        Ok(Self { left, keep })
    }

    /// Whether all of it has been read.
    pub fn is_over(&self) -> bool {
        self.left == Left::Nothing
    }

    /// Whether the connection can serve another request, now that the body is over.
    pub fn keeps(&self) -> bool {
        self.is_over() && self.keep
    }

    /// Reads from the connection that the head came by.
    pub fn read(&mut self, wire: &mut Wire, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            let (most, chunk) = match self.left {
                Left::Nothing => return Ok(0),
                Left::Close => return wire.read(buffer),
                Left::Length(left) => (left, false),
                Left::Chunk(left) => (left, true),
                Left::BetweenChunks(follows) => {
                    self.left = match wire.next_chunk(follows)? {
                        0 => Left::Nothing,
                        n => Left::Chunk(n),
                    };
                    continue;
                }
            };
            let size = usize::try_from(most).unwrap_or(usize::MAX).min(buffer.len());
            let n = wire.read(&mut buffer[..size])?;
            if n == 0 {
                return Err(cut());
            }
            let left = most - n as u64;
            self.left = match (left, chunk) {
                (0, true) => Left::BetweenChunks(true),
                (0, false) => Left::Nothing,
                (left, true) => Left::Chunk(left),
                (left, false) => Left::Length(left),
            };
            return Ok(n);
        }
    }

    /// Whether [`read`](Self::read) would find something without waiting for the peer; it may still wait for the first
    /// byte of a chunk whose line has come.
    pub fn is_ready(&mut self, wire: &mut Wire) -> bool {
        loop {
            if let Left::BetweenChunks(follows) = &mut self.left {
                // What ends a chunk often comes with it, long before the next one.
                if *follows && wire.pending().starts_with(b"\r\n") {
                    wire.start += 2;
                    *follows = false;
                }
                let line = wire.pending().contains(&b'\n') || wire.pending().len() > MAX_CHUNK_LINE;
                if line || !wire.stream.has_plaintext() {
                    return line;
                }
                // A connection that has ended is found out by the read.
                if wire.more().unwrap_or(0) == 0 {
                    return true;
                }
                continue;
            }
            return self.is_over() || !wire.pending().is_empty() || wire.stream.has_plaintext();
        }
    }

    /// Takes in what has just become readable; whether [`read`](Self::read) finds something now (the end counts).
    ///
    /// # Errors
    /// The connection is gone.
    pub fn settle(&mut self, wire: &mut Wire) -> io::Result<bool> {
        if !matches!(self.left, Left::BetweenChunks(_)) {
            return wire.stream.settle();
        }
        if !wire.stream.settle()? {
            return Ok(false);
        }
        Ok(wire.more()? == 0 || self.is_ready(wire))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    fn answered(text: &[u8]) -> (Head, Vec<u8>, bool) {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(text).unwrap();
        drop(theirs);
        let mut wire = Wire::new(Stream::Unix(ours));
        let head = wire.head().unwrap().unwrap();
        let mut body = Body::of(&head, false).unwrap();
        let mut all = Vec::new();
        let mut piece = [0; 3];
        loop {
            match body.read(&mut wire, &mut piece).unwrap() {
                0 => break,
                n => all.extend_from_slice(&piece[..n]),
            }
        }
        (head, all, body.keeps())
    }

    #[test]
    fn bodies_end_where_they_say() {
        let (head, body, keeps) = answered(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A: b \r\n\r\nhello!");
        assert_eq!(
            (head.status, head.header("x-a"), &body[..], keeps),
            (200, Some("b"), &b"hello"[..], true)
        );
        let chunks = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\nT: x\r\n\r\n";
        let (_, body, keeps) = answered(chunks);
        assert_eq!((&body[..], keeps), (&b"abcdefg"[..], true));
        let (_, body, keeps) = answered(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\nto the end");
        assert_eq!((&body[..], keeps), (&b"to the end"[..], false));
        let (_, _, keeps) = answered(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n");
        assert!(!keeps);
    }

    #[test]
    fn broken_answers_are_refused() {
        let broken: [&[u8]; 5] = [
            b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello",
            b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n",
            b"SSH-2.0-OpenSSH\r\n",
        ];
        for text in broken {
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            theirs.write_all(text).unwrap();
            drop(theirs);
            let mut wire = Wire::new(Stream::Unix(ours));
            let whole = (|| {
                let head = wire.head()?.ok_or_else(cut)?;
                let mut body = Body::of(&head, false)?;
                let mut sink = [0; 64];
                while body.read(&mut wire, &mut sink)? > 0 {}
                io::Result::Ok(())
            })();
            assert!(whole.is_err(), "{}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn a_refusal_ends_the_sending() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let server = std::thread::spawn(move || {
            let mut theirs = theirs;
            let mut first = [0; 10];
            theirs.read_exact(&mut first).unwrap();
            theirs.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno").unwrap();
            theirs
        });
        let mut wire = Wire::new(Stream::Unix(ours));
        wire.send(b"PUT / HTTP/1.1\r\n\r\n", Some(&mut io::repeat(1)), true).unwrap();
        assert_eq!(wire.head().unwrap().unwrap().status, 404);
        drop(server.join().unwrap());
    }

    #[test]
    fn the_end_of_a_chunk_is_not_the_beginning_of_the_next() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut wire = Wire::new(Stream::Unix(ours));
        theirs.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n").unwrap();
        let head = wire.head().unwrap().unwrap();
        let mut body = Body::of(&head, false).unwrap();
        let mut piece = [0; 9];
        assert!(body.is_ready(&mut wire));
        assert_eq!(body.read(&mut wire, &mut piece).unwrap(), 3);
        assert!(!body.is_ready(&mut wire), "a read would wait for the next chunk");
        theirs.write_all(b"2\r").unwrap();
        assert!(!body.settle(&mut wire).unwrap());
        theirs.write_all(b"\nde").unwrap();
        assert!(body.settle(&mut wire).unwrap());
        assert_eq!(body.read(&mut wire, &mut piece).unwrap(), 2);
        drop(theirs);
        assert!(body.settle(&mut wire).unwrap(), "the end is found out by the read");
        assert!(body.read(&mut wire, &mut piece).is_err());
    }
}
