//! Questions over TCP: each is a length and a message (RFC 1035, 4.2.2). What the table does not know is passed to
//! an upstream server over TCP, one question at a time.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, SocketFlags, SocketType};

use super::names::{Lookup, Names};
use super::server::watch;
use super::wire::{self, HEADER, Rcode, Unfit};

/// Clients that may be connected at once.
pub(super) const MOST_CONNECTIONS: usize = 8;
/// Milliseconds that a client may keep a connection without progress.
const PATIENCE: u64 = 10_000;
/// Milliseconds that an upstream server may take.
const UPSTREAM_PATIENCE: u64 = 3_000;
/// Bytes of questions that are read ahead.
const READ_AHEAD: usize = 8 * 1024;

/// A client.
pub(super) struct Connection {
    client: TcpStream,
    token: u64,
    input: Vec<u8>,
    output: Vec<u8>,
    upstream: Option<Upstream>,
    deadline: u64,
    ended: bool,
}

/// A question on its way through an upstream server.
struct Upstream {
    stream: TcpStream,
    /// The question with its length.
    question: Vec<u8>,
    sent: usize,
    input: Vec<u8>,
    /// Index of the server.
    server: usize,
}

impl Connection {
    pub(super) fn new(client: TcpStream, token: u64, now: u64) -> Self {
        Self {
            client,
            token,
            input: Vec::new(),
            output: Vec::new(),
            upstream: None,
            deadline: now + PATIENCE,
            ended: false,
        }
    }

    pub(super) fn deadline(&self) -> u64 {
        self.deadline
    }

    /// Does all that can be done without waiting; `false` when the connection is over.
    pub(super) fn advance(
        &mut self,
        epoll: BorrowedFd<'_>,
        names: &mut Names,
        upstreams: &[SocketAddr],
        now: u64,
    ) -> bool {
        const STEPS: usize = 64;
        for _ in 0..STEPS {
            if !self.write_client() || !self.read_client() {
                return false;
            }
            let progress = match self.upstream.take() {
                Some(upstream) => self.pass(epoll, upstream, upstreams),
                None => match take_frame(&mut self.input) {
                    Some(frame) => self.question(epoll, &frame, names, upstreams),
                    None => Progress::Waiting,
                },
            };
            match progress {
                Progress::Made => {
                    self.deadline = now + if self.upstream.is_some() { UPSTREAM_PATIENCE } else { PATIENCE };
                }
                Progress::Waiting => break,
                Progress::Broken => return false,
            }
        }
        self.write_client() && !(self.ended && self.upstream.is_none() && self.output.is_empty())
    }

    /// Time is up: goes on to the next server if it was one that kept us waiting; `false` if it was the client.
    pub(super) fn expire(&mut self, epoll: BorrowedFd<'_>, upstreams: &[SocketAddr], now: u64) -> bool {
        let Some(up) = self.upstream.take() else { return false };
        self.connect(epoll, up.question, up.server + 1, upstreams);
        self.deadline = now + UPSTREAM_PATIENCE;
        self.write_client()
    }

    fn question(
        &mut self,
        epoll: BorrowedFd<'_>,
        frame: &[u8],
        names: &mut Names,
        upstreams: &[SocketAddr],
    ) -> Progress {
        let query = match wire::read(frame) {
            Err(Unfit::Silence) => return Progress::Broken,
            Err(Unfit::Refused(answer)) => {
                put_frame(&mut self.output, &answer);
                return Progress::Made;
            }
            Ok(query) => query,
        };
        names.refresh();
        match names.lookup(&query) {
            Lookup::Known(rcode, records) => {
                put_frame(&mut self.output, &wire::answer(&query, rcode, &records, 0, true));
            }
            Lookup::Unknown => {
                let mut question = Vec::new();
                put_frame(&mut question, frame);
                self.connect(epoll, question, 0, upstreams);
            }
        }
        Progress::Made
    }

    /// Begins with the first server from `server` on that does not refuse at once; a failure is the answer if none.
    fn connect(&mut self, epoll: BorrowedFd<'_>, question: Vec<u8>, server: usize, upstreams: &[SocketAddr]) {
        for (server, addr) in upstreams.iter().enumerate().skip(server) {
            let Ok(stream) = begin_connect(*addr) else { continue };
            let both = EventFlags::IN | EventFlags::OUT | EventFlags::ET;
            if watch(epoll, stream.as_fd(), self.token, both).is_ok() {
                self.upstream = Some(Upstream { stream, question, sent: 0, input: Vec::new(), server });
                return;
            }
        }
        if let Ok(query) = wire::read(&question[2..]) {
            put_frame(&mut self.output, &wire::answer(&query, Rcode::ServFail, &[], 0, false));
        }
    }

    /// Moves a question on through its server.
    fn pass(&mut self, epoll: BorrowedFd<'_>, mut up: Upstream, upstreams: &[SocketAddr]) -> Progress {
        let mut broken = false;
        while up.sent < up.question.len() && !broken {
            match up.stream.write(&up.question[up.sent..]) {
                Ok(0) => broken = true,
                Ok(n) => up.sent += n,
                Err(e) if is_wait(e.kind()) => break,
                Err(_) => broken = true,
            }
        }
        if up.sent == up.question.len() {
            broken |= !read_some(&mut up.stream, &mut up.input, usize::from(u16::MAX) + 2);
        }
        if let Some(answer) = take_frame(&mut up.input) {
            let fits = wire::read(&up.question[2..])
                .is_ok_and(|q| answer.len() >= HEADER && wire::is_answer_to(&answer, q.id, q.question));
            // A server's own failure is the answer only if no other server is left.
            if fits && (wire::is_conclusive(&answer) || up.server + 1 >= upstreams.len()) {
                put_frame(&mut self.output, &answer);
                return Progress::Made;
            }
            broken = true;
        }
        if broken {
            self.connect(epoll, up.question, up.server + 1, upstreams);
            return Progress::Made;
        }
        self.upstream = Some(up);
        Progress::Waiting
    }

    fn write_client(&mut self) -> bool {
        while !self.output.is_empty() {
            match self.client.write(&self.output) {
                Ok(0) => return false,
                Ok(n) => drop(self.output.drain(..n)),
                Err(e) if is_wait(e.kind()) => return true,
                Err(_) => return false,
            }
        }
        true
    }

    fn read_client(&mut self) -> bool {
        if !self.ended && self.input.len() < READ_AHEAD {
            self.ended = !read_some(&mut self.client, &mut self.input, READ_AHEAD);
        }
        // A client that has said everything may still be waiting for its answer.
        !self.ended || self.upstream.is_some() || !self.output.is_empty() || has_frame(&self.input)
    }
}

enum Progress {
    Made,
    Waiting,
    Broken,
}

fn is_wait(kind: ErrorKind) -> bool {
    // A connection that is still being made does not count as failed.
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::Interrupted | ErrorKind::NotConnected)
}

/// Reads what there is, up to `most` bytes in the buffer; `false` at the end or on an error.
fn read_some(stream: &mut TcpStream, into: &mut Vec<u8>, most: usize) -> bool {
    let mut chunk = [0_u8; 2048];
    while into.len() < most {
        match stream.read(&mut chunk) {
            Ok(0) => return false,
            Ok(n) => into.extend_from_slice(&chunk[..n]),
            Err(e) => return is_wait(e.kind()),
        }
    }
    true
}

fn has_frame(bytes: &[u8]) -> bool {
    bytes.len() >= 2 && bytes.len() - 2 >= usize::from(u16::from_be_bytes([bytes[0], bytes[1]]))
}

/// Takes a whole message off the front.
fn take_frame(bytes: &mut Vec<u8>) -> Option<Vec<u8>> {
    if !has_frame(bytes) {
        return None;
    }
    let length = usize::from(u16::from_be_bytes([bytes[0], bytes[1]]));
    let frame = bytes[2..2 + length].to_vec();
    bytes.drain(..2 + length);
    Some(frame)
}

fn put_frame(into: &mut Vec<u8>, message: &[u8]) {
    let length = u16::try_from(message.len()).unwrap_or(0);
    into.extend_from_slice(&length.to_be_bytes());
    into.extend_from_slice(&message[..usize::from(length)]);
}

fn begin_connect(addr: SocketAddr) -> Result<TcpStream, Errno> {
    let family = if addr.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let fd = net::socket_with(family, SocketType::STREAM, flags, None)?;
    match net::connect(&fd, &addr) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(TcpStream::from(fd)),
        Err(e) => Err(e),
    }
}
