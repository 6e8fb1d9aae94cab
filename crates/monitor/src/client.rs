//! One connection to the monitor's socket: buffers and what it waits for. Never blocks.

use std::io::{ErrorKind, IoSlice, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::protocol::{self, FrameKind, Reply, Request};

/// Output for a client that does not read is held back, and with it the container's output, beyond this, bytes.
const HIGH_WATER: usize = 1 << 20;

/// Bytes that are read at once from a client that mostly says little, and from one that sends much.
const FIRST_ROOM: usize = 4 * 1024;
const ROOM: usize = 128 * 1024;

/// What a client is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It has not asked yet.
    Asking,
    /// It started or attached: frames go both ways.
    Attached {
        /// Its frames may write to the container's standard input.
        stdin: bool,
    },
    /// It is told the exit code at the next end.
    Waiting,
    /// It has its answer.
    Done,
}

/// What a client said.
#[derive(Debug)]
pub enum Said {
    /// A request.
    Request(Request),
    /// Bytes for standard input.
    Input(Vec<u8>),
    /// Its input has ended.
    InputEnd,
    /// The terminal's size.
    Resize(u16, u16),
    /// It is gone, or spoke nonsense.
    Gone,
}

/// A connection.
#[derive(Debug)]
pub struct Client {
    socket: UnixStream,
    incoming: Vec<u8>,
    outgoing: Vec<u8>,
    sent: usize,
    /// What it is there for.
    pub mode: Mode,
    /// It will remove the container.
    pub removes: bool,
    /// It sends much.
    busy: bool,
    gone: bool,
}

impl Client {
    /// Takes over a connection.
    ///
    /// # Errors
    /// It cannot be made non-blocking.
    pub fn new(socket: UnixStream) -> std::io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket,
            incoming: Vec::new(),
            outgoing: Vec::new(),
            sent: 0,
            mode: Mode::Asking,
            removes: false,
            busy: false,
            gone: false,
        })
    }

    /// Whether bytes wait to be sent.
    #[must_use]
    pub fn has_output(&self) -> bool {
        self.sent < self.outgoing.len()
    }

    /// Whether so much waits that the container's output should wait too.
    #[must_use]
    pub fn is_slow(&self) -> bool {
        self.outgoing.len() - self.sent > HIGH_WATER
    }

    /// Whether it removes the container, and is still there to do so: not only as far as has been noticed.
    #[must_use]
    pub fn will_remove(&self) -> bool {
        let ends = PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR;
        let mut fds = [PollFd::new(&self.socket, ends)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        self.removes && !self.gone && matches!(poll(&mut fds, Some(&now)), Ok(0))
    }

    /// Whether nothing more will come of it.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.gone || (self.mode == Mode::Done && !self.has_output())
    }

    /// Queues an answer.
    pub fn reply(&mut self, reply: &Reply) {
        let mut line = serde_json::to_vec(reply).expect("a reply is plain data");
        line.push(b'\n');
        self.outgoing.extend_from_slice(&line);
        self.send();
    }

    /// Queues frames with these bytes.
    pub fn frame(&mut self, kind: FrameKind, payload: &[u8]) {
        let parts: Vec<_> = payload
            .chunks(protocol::MAX_FRAME)
            .map(|part| (protocol::header(kind, part.len()), part))
            .collect();
        // All of it in one call, and what the socket takes at once is not copied.
        let mut sent = if self.has_output() || self.gone { 0 } else { self.send_now(&parts) };
        for (header, part) in &parts {
            for piece in [header.as_slice(), part] {
                self.outgoing.extend_from_slice(piece.get(sent..).unwrap_or_default());
                sent = sent.saturating_sub(piece.len());
            }
        }
        self.send();
    }

    /// Sends frames; how many bytes of them the socket took.
    fn send_now(&mut self, parts: &[([u8; protocol::HEADER], &[u8])]) -> usize {
        let pieces: Vec<_> =
            parts.iter().flat_map(|(header, part)| [IoSlice::new(header), IoSlice::new(part)]).collect();
        match self.socket.write_vectored(&pieces) {
            Ok(n) => n,
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => 0,
            Err(_) => {
                self.gone = true;
                0
            }
        }
    }

    /// Sends what waits, as far as the socket takes it.
    pub fn send(&mut self) {
        while self.has_output() && !self.gone {
            match self.socket.write(&self.outgoing[self.sent..]) {
                Ok(0) => self.gone = true,
                Ok(n) => self.sent += n,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(_) => self.gone = true,
            }
        }
        self.sent = 0;
        // What a burst needed is given back.
        if self.outgoing.capacity() > protocol::MAX_FRAME {
            self.outgoing = Vec::new();
        }
        self.outgoing.clear();
    }

    /// Sends everything, waiting for the client at most a second: the last words before the monitor ends.
    pub fn send_all(&mut self) {
        let timeout = Some(std::time::Duration::from_secs(1));
        if self.socket.set_nonblocking(false).is_ok() && self.socket.set_write_timeout(timeout).is_ok() {
            let _ = self.socket.write_all(&self.outgoing[self.sent..]);
        }
        self.outgoing = Vec::new();
        self.sent = 0;
    }

    /// Reads what is there and returns what was said, in order.
    pub fn receive(&mut self) -> Vec<Said> {
        let mut said = Vec::new();
        let (start, room) = (self.incoming.len(), if self.busy { ROOM } else { FIRST_ROOM });
        self.incoming.resize(start + room, 0);
        let got = self.socket.read(&mut self.incoming[start..]);
        self.incoming.truncate(start + *got.as_ref().unwrap_or(&0));
        match got {
            Ok(0) => self.gone = true,
            // Who has more to say than fits is listened to with more room.
            Ok(n) => self.busy = n == room || (self.busy && n > FIRST_ROOM),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(_) => self.gone = true,
        }
        while let Some(next) = self.next_said() {
            said.push(next);
        }
        if self.incoming.is_empty() {
            self.incoming = Vec::new();
        }
        if self.gone {
            said.push(Said::Gone);
        }
        said
    }

    fn next_said(&mut self) -> Option<Said> {
        let (said, taken) = match self.mode {
            Mode::Asking => {
                let Some(end) = memchr::memchr(b'\n', &self.incoming) else {
                    self.gone |= self.incoming.len() > protocol::MAX_LINE;
                    return None;
                };
                let Ok(request) = serde_json::from_slice(&self.incoming[..end]) else {
                    self.gone = true;
                    return None;
                };
                // Set here so that frames sent right behind the line are read as frames.
                self.mode = match request {
                    Request::Start { stdin, .. } | Request::Attach { stdin } => Mode::Attached { stdin },
                    _ => Mode::Waiting,
                };
                (Said::Request(request), end + 1)
            }
            Mode::Attached { stdin } => match protocol::parse(&self.incoming) {
                Ok(None) => return None,
                Ok(Some((FrameKind::Stdin, payload, taken))) if stdin => {
                    (Said::Input(payload.to_vec()), taken)
                }
                Ok(Some((FrameKind::CloseStdin, _, taken))) if stdin => (Said::InputEnd, taken),
                Ok(Some((FrameKind::Resize, &[r1, r0, c1, c0], taken))) => {
                    (Said::Resize(u16::from_be_bytes([r1, r0]), u16::from_be_bytes([c1, c0])), taken)
                }
                _ => {
                    self.gone = true;
                    return None;
                }
            },
            Mode::Waiting | Mode::Done => {
                self.incoming.clear();
                return None;
            }
        };
        self.incoming.drain(..taken);
        Some(said)
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_arrive_whole_and_in_order_however_slowly_they_are_read() {
        let (ours, mut theirs) = UnixStream::pair().expect("a pair");
        let mut client = Client::new(ours).expect("a client");
        theirs.set_nonblocking(true).expect("a socket");
        let mut got = Vec::new();
        let mut room = vec![0; 50_000];
        for round in 0..100_u8 {
            client.frame(FrameKind::Stdout, &vec![round; 1 + usize::from(round) * 700]);
            if round % 3 == 0 {
                let n = theirs.read(&mut room).unwrap_or(0);
                got.extend_from_slice(&room[..n]);
            }
        }
        while let Ok(n) = theirs.read(&mut room) {
            got.extend_from_slice(&room[..n]);
            client.send();
        }
        assert!(!client.has_output());
        let mut rest = got.as_slice();
        for round in 0..100_u8 {
            let wanted = vec![round; 1 + usize::from(round) * 700];
            let mut seen = Vec::new();
            while seen.len() < wanted.len() {
                let (kind, part, taken) = protocol::parse(rest).expect("a frame").expect("whole");
                assert_eq!(kind, FrameKind::Stdout);
                seen.extend_from_slice(part);
                rest = &rest[taken..];
            }
            assert!(seen == wanted, "frame {round}");
        }
        assert!(rest.is_empty());
    }

    #[test]
    fn much_input_is_heard_in_order() {
        let (ours, mut theirs) = UnixStream::pair().expect("a pair");
        let mut client = Client::new(ours).expect("a client");
        client.mode = Mode::Attached { stdin: true };
        let mut heard = Vec::new();
        let mut sent = Vec::new();
        for round in 0..60_u8 {
            let piece = vec![round; 1 + usize::from(round) * 500];
            theirs.write_all(&protocol::header(FrameKind::Stdin, piece.len())).expect("room");
            theirs.write_all(&piece).expect("room");
            sent.extend_from_slice(&piece);
            for said in client.receive() {
                match said {
                    Said::Input(bytes) => heard.extend_from_slice(&bytes),
                    other => panic!("{other:?}"),
                }
            }
        }
        drop(theirs);
        while !client.is_finished() {
            for said in client.receive() {
                if let Said::Input(bytes) = said {
                    heard.extend_from_slice(&bytes);
                }
            }
        }
        assert!(heard == sent);
    }
}
