//! One connection: requests one after the other until either side has enough.

use std::io::{self, Read};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::listen::Shared;
use super::request::{Framing, Malformed};
use super::stream::Stream;
use super::{Body, Exchange, Head, Method, Payload, Request, Response};

/// The longest head of a request.
const MAX_HEAD: usize = 64 << 10;
/// How long a connection may be idle between requests.
const IDLE: Duration = Duration::from_secs(75);
/// How long the head of a request may take from its first byte on.
const HEAD_TIME: Duration = Duration::from_secs(30);
/// How long a peer may send nothing of a body that it announced.
const BODY_TIME: Duration = Duration::from_secs(60);
/// How long a peer may take nothing of what is sent to it.
const WRITE_TIME: Duration = Duration::from_secs(60);
/// What is read and thrown away of a body that nobody wanted, so that the connection lives on.
const PASS_OVER: u64 = 256 << 10;

/// A connection's stream with what was read ahead of its use.
pub(crate) struct Wire {
    pub stream: Stream,
    buffer: Vec<u8>,
    start: usize,
}

impl Wire {
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

    fn pending(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    /// Up to the next line feed, without it and the carriage return before it; at most `limit` bytes.
    pub fn line(&mut self, limit: usize) -> io::Result<Vec<u8>> {
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
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the body was cut"));
            }
        }
    }
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

/// Serves a connection until it ends. Errors of the connection end it; there is nobody to tell.
pub(super) fn serve(stream: Stream, peer: SocketAddr, secure: bool, shared: &Shared) {
    let _ = stream.socket().set_nodelay(true);
    let _ = stream.socket().set_write_timeout(Some(WRITE_TIME));
    let mut wire = Wire { stream, buffer: Vec::new(), start: 0 };
    let mut scratch = Vec::new();
    while let Some(head) = next_head(&mut wire, shared) {
        shared.busy.fetch_add(1, Ordering::Relaxed);
        let go_on = exchange(&mut wire, head, peer, secure, &mut scratch, shared);
        shared.busy.fetch_sub(1, Ordering::Relaxed);
        if !go_on {
            linger(&mut wire);
            return;
        }
    }
    wire.stream.close_write();
}

/// Tells a client that speaks http where https is served; clients that try both go on at once then.
pub(super) fn refuse_plain(socket: TcpStream) {
    let mut wire = Wire { stream: Stream::Plain(socket), buffer: Vec::new(), start: 0 };
    let text = b"this address is served by https\n".to_vec();
    let response = Response::new(400).header("Content-Type", "text/plain").payload(Payload::Bytes(text));
    let _ = response.write(&mut wire.stream, &mut Vec::new(), false, true);
    linger(&mut wire);
}

/// The next request's head, or the refusal of it; `None` when there is no next request.
fn next_head(wire: &mut Wire, shared: &Shared) -> Option<Result<(Head, Framing), Malformed>> {
    let mut deadline = None;
    loop {
        if !wire.pending().is_empty() {
            match Head::parse(wire.pending()) {
                // One that came by a connection that was idle when the end was announced: the client sees it closed
                // and asks elsewhere.
                Ok(Some(_)) if shared.stopping.load(Ordering::Relaxed) => return None,
                Ok(Some((head, length))) => {
                    wire.start += length;
                    return Some(head.framing().map(|framing| (head, framing)));
                }
                Ok(None) if wire.pending().len() > MAX_HEAD => return Some(Err(Malformed::TooLarge)),
                Ok(None) => {}
                Err(e) => return Some(Err(e)),
            }
            deadline = deadline.or_else(|| Some(Instant::now() + HEAD_TIME));
        }
        if shared.stopping.load(Ordering::Relaxed) && wire.pending().is_empty() {
            return None;
        }
        let patience = match deadline {
            Some(deadline) => deadline.saturating_duration_since(Instant::now()),
            None => IDLE,
        };
        if patience.is_zero() {
            return None;
        }
        wire.stream.set_patience(patience);
        if !matches!(wire.more(), Ok(1..)) {
            return None;
        }
    }
}

/// Answers one request; whether the connection goes on.
fn exchange(
    wire: &mut Wire,
    head: Result<(Head, Framing), Malformed>,
    peer: SocketAddr,
    secure: bool,
    scratch: &mut Vec<u8>,
    shared: &Shared,
) -> bool {
    let (head, framing) = match head {
        Ok(found) => found,
        Err(bad) => {
            let status = match bad {
                Malformed::Syntax => 400,
                Malformed::TooLarge => 431,
                Malformed::Encoding => 501,
            };
            let _ = Response::new(status).write(&mut wire.stream, scratch, false, true);
            return false;
        }
    };
    wire.stream.set_patience(BODY_TIME);
    let bodyless = head.method == Method::Head;
    let keep =
        if head.modern { !head.lists("connection", "close") } else { head.lists("connection", "keep-alive") };
    let awaited = head.modern && head.lists("expect", "100-continue");
    let mut seen = shared.handler.observes().then(|| observed(&head, peer));
    if seen.is_some() {
        shared.handler.begun();
    }
    let began = Instant::now();
    let mut request = Request { body: Body::new(wire, framing, awaited), head, peer, secure };
    let response = shared.handler.handle(&mut request);
    let reusable = request.body.finish(PASS_OVER);
    let keep = keep && reusable && !shared.stopping.load(Ordering::Relaxed);
    // Many connections wait most of the time: between requests they keep no large buffers.
    if let Some(seen) = &mut seen {
        seen.status = response.status;
        seen.bytes = if bodyless { 0 } else { response.payload.length() };
    }
    let written = response.write(&mut wire.stream, scratch, bodyless, !keep);
    *scratch = Vec::new();
    if let Some(mut seen) = seen {
        seen.took = began.elapsed();
        seen.sent = written.is_ok();
        shared.handler.done(&seen);
    }
    if wire.pending().is_empty() {
        wire.buffer = Vec::new();
        wire.start = 0;
    }
    written.is_ok() && keep
}

/// What is known of a request when it begins.
fn observed(head: &Head, peer: SocketAddr) -> Exchange {
    let text = |name: &str| head.header(name).unwrap_or_default().to_owned();
    let mut target = head.path.clone();
    for (at, (name, value)) in head.query.iter().enumerate() {
        target.push(if at == 0 { '?' } else { '&' });
        target.push_str(&format!("{name}={value}"));
    }
    Exchange {
        peer: peer.ip(),
        method: head.method,
        target,
        path: head.path.clone(),
        status: 0,
        bytes: 0,
        took: Duration::ZERO,
        authorization: text("authorization"),
        agent: text("user-agent"),
        sent: false,
    }
}

/// Closes in a way that lets the peer read the answer: what it still sends is read for a while, as a socket that is
/// closed with unread data resets the connection.
fn linger(wire: &mut Wire) {
    wire.stream.close_write();
    wire.stream.set_patience(Duration::from_secs(1));
    let mut sink = [0; 8192];
    let until = Instant::now() + Duration::from_secs(5);
    while Instant::now() < until && matches!(wire.stream.read(&mut sink), Ok(1..)) {}
}
