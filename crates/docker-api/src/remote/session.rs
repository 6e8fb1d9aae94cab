//! An attached container or command: frames or a terminal's bytes by a connection that has left HTTP.

use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};

use fluyt_model::{Error, Kind, Result};

use super::Remote;
use super::client::{Hijacked, Request, segment};
use crate::api::{Attached, Received, Stream};

/// Read at once.
const PIECE: usize = 32 << 10;
/// Stream, three zeros, length.
const HEADER: usize = 8;

/// Frames of the streams of a process without a terminal: a header of eight bytes, then as many as it says.
#[derive(Debug, Default)]
pub(super) struct Frames {
    buffer: Vec<u8>,
    start: usize,
    /// The frame at hand and how much of it is still to come.
    left: Option<(u8, usize)>,
}

impl Frames {
    /// Room for what comes next, and how much of it was used.
    pub(super) fn fill(
        &mut self,
        read: impl FnOnce(&mut [u8]) -> std::io::Result<usize>,
    ) -> std::io::Result<usize> {
        self.buffer.drain(..self.start);
        self.start = 0;
        let old = self.buffer.len();
        self.buffer.resize(old + PIECE, 0);
        let result = read(&mut self.buffer[old..]);
        self.buffer.truncate(old + *result.as_ref().unwrap_or(&0));
        result
    }

    /// Everything that is there, whatever it is.
    pub(super) fn take_all(&mut self) -> Option<Vec<u8>> {
        let rest = self.buffer.split_off(self.start);
        self.buffer.clear();
        self.start = 0;
        (!rest.is_empty()).then_some(rest)
    }

    /// The next piece of a frame (`whole`: all of the next frame), if it is there.
    pub(super) fn take(&mut self, whole: bool) -> Result<Option<(Stream, Vec<u8>)>> {
        loop {
            let pending = &self.buffer[self.start..];
            let (kind, left) = match self.left {
                Some(frame) => frame,
                None => {
                    let Some(header) = pending.first_chunk::<HEADER>() else { return Ok(None) };
                    let [kind, 0, 0, 0, a, b, c, d] = *header else {
                        return Err(Error::corrupt("the daemon's stream is not framed as it should be"));
                    };
                    let frame = (kind, u32::from_be_bytes([a, b, c, d]) as usize);
                    self.start += HEADER;
                    self.left = Some(frame);
                    continue;
                }
            };
            let n = left.min(pending.len());
            if (whole || kind == 3) && n < left || (n == 0 && left > 0) {
                return Ok(None);
            }
            let bytes = pending[..n].to_vec();
            self.start += n;
            self.left = (n < left).then_some((kind, left - n));
            match kind {
                // Nothing in it, nothing to tell.
                _ if bytes.is_empty() && !whole => {}
                0 | 1 => return Ok(Some((Stream::Stdout, bytes))),
                2 => return Ok(Some((Stream::Stderr, bytes))),
                3 => return Err(Error::internal(String::from_utf8_lossy(&bytes).trim().to_owned())),
                _ => return Err(Error::corrupt("the daemon's stream has a stream nobody knows")),
            }
        }
    }
}

/// Whose terminal is told its size.
pub(super) enum Subject {
    Container(String),
    Exec(String),
}

/// See the module.
pub(super) struct Session {
    remote: Remote,
    subject: Subject,
    connection: Hijacked,
    tty: bool,
    frames: Frames,
}

impl Session {
    pub(super) fn new(remote: &Remote, subject: Subject, connection: Hijacked, tty: bool) -> Self {
        Self { remote: remote.clone(), subject, connection, tty, frames: Frames::default() }
    }

    fn parsed(&mut self) -> Result<Option<Received>> {
        if self.tty {
            return Ok(self.frames.take_all().map(|bytes| Received::Data(Stream::Stdout, bytes)));
        }
        Ok(self.frames.take(false)?.map(|(stream, bytes)| Received::Data(stream, bytes)))
    }

    fn fill(&mut self) -> Result<usize> {
        let connection = &mut self.connection;
        match self.frames.fill(|buffer| connection.read(buffer)) {
            // A daemon that is killed ends its connections so; there will be no more output either way.
            Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => Ok(0),
            other => other.map_err(|e| Error::new(Kind::Unavailable, "the daemon's stream").with_source(e)),
        }
    }
}

fn gone(e: std::io::Error) -> Error {
    Error::new(Kind::Unavailable, "the daemon's stream").with_source(e)
}

impl Attached for Session {
    fn buffered(&mut self) -> Result<Option<Received>> {
        loop {
            if let Some(received) = self.parsed()? {
                return Ok(Some(received));
            }
            if !self.connection.has_pending() {
                return Ok(None);
            }
            if self.fill()? == 0 {
                return Ok(Some(Received::Closed));
            }
        }
    }

    fn read(&mut self) -> Result<Received> {
        loop {
            if let Some(received) = self.parsed()? {
                return Ok(received);
            }
            match self.connection.settle() {
                Ok(true) => {}
                Ok(false) => return Ok(Received::Data(Stream::Stdout, Vec::new())),
                // As in `fill`.
                Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => return Ok(Received::Closed),
                Err(e) => return Err(gone(e)),
            }
            if self.fill()? == 0 {
                return Ok(Received::Closed);
            }
        }
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.connection.as_fd())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.connection.write_all(bytes).and_then(|()| self.connection.flush()).map_err(gone)
    }

    fn close_input(&mut self) -> Result<()> {
        self.connection.close_write().map_err(gone)
    }

    fn resize(&mut self, rows: u16, columns: u16) -> Result<()> {
        let path = match &self.subject {
            Subject::Container(id) => format!("/containers/{}/resize", segment(id)),
            Subject::Exec(id) => format!("/exec/{}/resize", segment(id)),
        };
        let request =
            Request::new("POST", path).query("h", &rows.to_string()).query("w", &columns.to_string());
        match self.remote.client.call(request) {
            Ok(answer) => answer.done(),
            // It may have ended in between, or not have begun.
            Err(e) if matches!(e.kind(), Kind::Conflict | Kind::NotFound | Kind::Internal) => Ok(()),
            Err(e) => Err(e),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(frames: &mut Frames, bytes: &[u8]) {
        frames
            .fill(|buffer| {
                buffer[..bytes.len()].copy_from_slice(bytes);
                Ok(bytes.len())
            })
            .unwrap();
    }

    #[test]
    fn frames_come_apart_wherever_they_are_cut() {
        let mut all = Vec::new();
        for (kind, text) in [(1u8, "hello"), (2, "oops"), (1, ""), (1, "!")] {
            all.extend([kind, 0, 0, 0]);
            all.extend(u32::try_from(text.len()).unwrap().to_be_bytes());
            all.extend(text.as_bytes());
        }
        for cut in 1..all.len() {
            let mut frames = Frames::default();
            let (mut out, mut err) = (Vec::new(), Vec::new());
            for part in [&all[..cut], &all[cut..]] {
                feed(&mut frames, part);
                while let Some((stream, bytes)) = frames.take(false).unwrap() {
                    if stream == Stream::Stdout { &mut out } else { &mut err }.extend(bytes);
                }
            }
            assert_eq!((&out[..], &err[..]), (&b"hello!"[..], &b"oops"[..]), "cut at {cut}");
        }
    }

    #[test]
    fn nonsense_and_the_daemons_own_errors_are_errors() {
        let mut frames = Frames::default();
        feed(&mut frames, b"hello world");
        assert!(frames.take(false).is_err());
        let mut frames = Frames::default();
        feed(&mut frames, &[3, 0, 0, 0, 0, 0, 0, 2, b'n', b'o']);
        assert_eq!(frames.take(false).unwrap_err().to_string(), "no");
    }
}
