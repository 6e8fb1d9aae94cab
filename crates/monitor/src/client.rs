//! One connection to the monitor's socket: buffers and what it waits for. Never blocks.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::protocol::{self, FrameKind, Reply, Request};

/// Output for a client that does not read is held back, and with it the container's output, beyond this, bytes.
const HIGH_WATER: usize = 1 << 20;

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

    /// Queues a frame.
    pub fn frame(&mut self, kind: FrameKind, payload: &[u8]) {
        for part in payload.chunks(protocol::MAX_FRAME) {
            self.outgoing.extend_from_slice(&protocol::header(kind, part.len()));
            self.outgoing.extend_from_slice(part);
        }
        self.send();
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
        let mut chunk = [0; 16 * 1024];
        let mut said = Vec::new();
        match self.socket.read(&mut chunk) {
            Ok(0) => self.gone = true,
            Ok(n) => self.incoming.extend_from_slice(&chunk[..n]),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(_) => self.gone = true,
        }
        while let Some(next) = self.next_said() {
            said.push(next);
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
