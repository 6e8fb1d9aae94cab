//! One connection: requests one after the other until either side has enough.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::peer::Peer;
use super::request::{Framing, Malformed};
use super::response::Ending;
use super::server::{Ends, Follower, Seat, Shared, Standing};
use super::socket::Socket;
use super::stream::Stream;
use super::{Body, Duplex, Exchange, Head, Method, Payload, Request, Response, Sink, TlsFiles};

/// The longest head of a request.
const MAX_HEAD: usize = 64 << 10;
/// What is read and thrown away of a body that nobody wanted, so that the connection lives on.
const PASS_OVER: u64 = 256 << 10;
/// How long a thread stays with a connection that has nothing to say: a client that asks one thing after the other
/// needs no handing over.
const STAY: Duration = Duration::from_millis(30);
/// The first byte of a session of TLS.
const HANDSHAKE: u8 = 22;

/// A connection's stream with what was read ahead of its use.
pub(crate) struct Wire {
    pub stream: Stream,
    buffer: Vec<u8>,
    start: usize,
    /// Bytes that have come in all, whatever they were.
    came: u64,
}

impl Wire {
    pub fn new(stream: Stream) -> Self {
        Self { stream, buffer: Vec::new(), start: 0, came: 0 }
    }

    /// Bytes that have come in all.
    pub fn came(&self) -> u64 {
        self.came
    }

    /// Reads more into the buffer; how much. What was used goes: only what is not yet used is ever kept.
    fn more(&mut self) -> io::Result<usize> {
        self.buffer.drain(..self.start);
        self.start = 0;
        let old = self.buffer.len();
        self.buffer.resize(old + 8192, 0);
        let result = self.stream.read(&mut self.buffer[old..]);
        let new = *result.as_ref().unwrap_or(&0);
        self.buffer.truncate(old + new);
        self.came += new as u64;
        result
    }

    fn pending(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    /// The memory that it holds.
    #[cfg(test)]
    pub fn kept(&self) -> usize {
        self.buffer.capacity()
    }

    /// Takes what was read ahead.
    pub fn take_pending(&mut self) -> Vec<u8> {
        let pending = self.buffer.split_off(self.start);
        self.buffer = Vec::new();
        self.start = 0;
        pending
    }

    /// Whether a read gives something without asking the socket.
    pub fn holds(&mut self) -> bool {
        !self.pending().is_empty() || self.stream.holds()
    }

    /// Keeps no more room than what is in it needs: many connections wait most of the time.
    fn shrink(&mut self) {
        self.buffer = self.take_pending();
        self.buffer.shrink_to_fit();
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
            let n = self.stream.read(buffer)?;
            self.came += n as u64;
            return Ok(n);
        }
        let n = pending.len().min(buffer.len());
        buffer[..n].copy_from_slice(&pending[..n]);
        self.start += n;
        Ok(n)
    }
}

/// A connection between two requests, or in the middle of a head.
pub(crate) struct Connection {
    wire: Wire,
    peer: Peer,
    /// TLS that begins with the first byte.
    tls: Option<Arc<TlsFiles>>,
    secure: bool,
    /// When the head that has begun has to be complete.
    due: Option<Instant>,
    seat: Seat,
    /// Whether the server's epoll set has the socket.
    pub watched: bool,
}

/// What a connection has to say.
enum Next {
    Request(Result<(Head, Framing), Malformed>),
    /// Nothing at the moment.
    Later,
    /// No more.
    End,
}

/// What is left of a connection after an answer.
enum After {
    Open,
    /// To be closed; whether the peer may still be sending.
    Close {
        sending: bool,
    },
}

impl Connection {
    pub fn new(socket: Socket, peer: Peer, tls: Option<Arc<TlsFiles>>, seat: Seat) -> Self {
        let secure = tls.is_some();
        Self { wire: Wire::new(Stream::Plain(socket)), peer, tls, secure, due: None, seat, watched: false }
    }

    /// The socket, to be waited for.
    pub fn socket(&self) -> &Socket {
        self.wire.stream.socket()
    }

    /// The socket, its place, and whether the epoll set has it. What was read ahead goes.
    pub fn into_parts(self) -> (Socket, Seat, bool) {
        let socket = match self.wire.stream {
            Stream::Plain(socket) => socket,
            Stream::Tls(stream) => stream.sock,
        };
        (socket, self.seat, self.watched)
    }

    /// When the head that has begun has to be complete.
    pub fn due(&self) -> Option<Instant> {
        self.due
    }
}

/// Serves a connection that has something to say, until it has nothing more for a moment or ends. Errors of the
/// connection end it; there is nobody to tell.
pub(crate) fn serve(mut connection: Connection, shared: &Arc<Shared>) {
    if let Some(tls) = connection.tls.take() {
        // A client that speaks http where https is served; clients that try both go on at once then.
        if connection.socket().peek().is_some_and(|first| first != HANDSHAKE) {
            return refuse_plain(connection, shared);
        }
        let Stream::Plain(socket) = connection.wire.stream else { return };
        let Some(stream) = tls.accept(socket) else { return };
        connection.wire.stream = stream;
    }
    let mut readable = true;
    loop {
        match next(&mut connection, readable, shared) {
            Next::Request(request) => {
                let rest = match exchange(connection, request, shared) {
                    Some((rest, After::Open)) => rest,
                    Some((mut rest, After::Close { sending: true })) => {
                        rest.wire.stream.close_write();
                        return shared.dismiss(rest);
                    }
                    Some((mut rest, After::Close { sending: false })) => {
                        return rest.wire.stream.close_write();
                    }
                    None => return,
                };
                connection = rest;
                readable = false;
            }
            Next::Later => {
                connection.wire.shrink();
                return shared.park(connection);
            }
            Next::End => return connection.wire.stream.close_write(),
        }
    }
}

fn refuse_plain(mut connection: Connection, shared: &Shared) {
    let text = b"this address is served by https\n".to_vec();
    let response = Response::new(400).header("Content-Type", "text/plain").payload(Payload::Bytes(text));
    // A peer that takes so little at once is not waited for.
    let stream = &mut connection.wire.stream;
    stream.socket_mut().set_waits(false);
    let _ = response.write(stream, &mut Vec::new(), false, Some("close"));
    shared.dismiss(connection);
}

/// The next request's head, or the refusal of it. `readable`: whether the socket is known to have something.
fn next(connection: &mut Connection, mut readable: bool, shared: &Shared) -> Next {
    let Connection { wire, due, .. } = connection;
    let stopping = || shared.stopping.load(Ordering::Relaxed);
    wire.stream.socket_mut().set_waits(false);
    loop {
        if !wire.pending().is_empty() {
            match Head::parse(wire.pending()) {
                // One that came by a connection that was idle when the end was announced: the client sees it closed
                // and asks elsewhere.
                Ok(Some(_)) if stopping() => return Next::End,
                Ok(Some((head, length))) => {
                    wire.start += length;
                    *due = None;
                    return Next::Request(head.framing().map(|framing| (head, framing)));
                }
                Ok(None) if wire.pending().len() > MAX_HEAD => {
                    return Next::Request(Err(Malformed::TooLarge));
                }
                Ok(None) => {}
                Err(e) => return Next::Request(Err(e)),
            }
            let until = *due.get_or_insert_with(|| Instant::now() + shared.limits.head);
            if Instant::now() >= until {
                return Next::End;
            }
        }
        if stopping() && wire.pending().is_empty() {
            return Next::End;
        }
        // Where threads are short, none is left to wait.
        if !readable
            && !wire.stream.holds()
            && (shared.is_short() || !wire.stream.socket().wait_readable(STAY))
        {
            return Next::Later;
        }
        readable = false;
        match wire.more() {
            Ok(1..) => {}
            // Of TLS, a part of what has to be complete, or nothing for us.
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                due.get_or_insert_with(|| Instant::now() + shared.limits.head);
            }
            _ => return Next::End,
        }
    }
}

/// Answers one request; what is left of the connection, unless somebody else has it now.
fn exchange(
    mut connection: Connection,
    head: Result<(Head, Framing), Malformed>,
    shared: &Arc<Shared>,
) -> Option<(Connection, After)> {
    let wire = &mut connection.wire;
    wire.stream.socket_mut().set_waits(true);
    wire.stream.socket_mut().set_write_timeout(Some(shared.limits.write));
    let (head, framing) = match head {
        Ok(found) => found,
        Err(bad) => {
            let status = match bad {
                Malformed::Syntax => 400,
                Malformed::TooLarge => 431,
                Malformed::Encoding => 501,
            };
            let _ = Response::new(status).write(&mut wire.stream, &mut Vec::new(), false, Some("close"));
            return Some((connection, After::Close { sending: true }));
        }
    };
    if framing != Framing::Length(0) {
        wire.stream.socket_mut().set_read_timeout(Some(shared.limits.body));
    }
    let asked = Asked {
        bodyless: head.method == Method::Head,
        modern: head.modern,
        keep: if head.modern {
            !head.lists("connection", "close")
        } else {
            head.lists("connection", "keep-alive")
        },
    };
    let awaited = head.modern && head.lists("expect", "100-continue");
    let peer = connection.peer;
    let handler = &shared.handler;
    let mut seen = handler.observes().then(|| observed(&head, peer));
    if seen.is_some() {
        handler.begun();
    }
    let busy = shared.busy();
    let began = Instant::now();
    let mut request =
        Request { body: Body::new(wire, framing, awaited), head, peer, secure: connection.secure };
    let response = handler.handle(&mut request);
    let complete = request.body.finish(PASS_OVER);
    drop(request.head);
    let (response, aside) = admit(response, asked, complete, shared);
    let status = response.status;
    let (after, bytes, sent) = answer(connection, response, asked, complete, shared);
    drop((busy, aside));
    if let Some(seen) = &mut seen {
        seen.status = status;
        seen.bytes = bytes;
        seen.took = began.elapsed();
        seen.sent = sent;
        handler.done(seen);
    }
    after
}

/// What a request says about its answer.
#[derive(Clone, Copy)]
struct Asked {
    /// It wants no body.
    bodyless: bool,
    /// It knows chunks.
    modern: bool,
    /// It may ask again on this connection.
    keep: bool,
}

/// The response that is given, and this thread's leave to go on for as long as the client likes if it does: who does so
/// keeps no thread from those who do not.
fn admit(
    response: Response,
    asked: Asked,
    complete: bool,
    shared: &Arc<Shared>,
) -> (Response, Option<Standing>) {
    match response.payload {
        // Without the rest of the request's body nobody can tell where the other protocol begins.
        Payload::Hijack(_) if !complete => (Response::new(400), None),
        Payload::Chunked(_) if asked.bodyless => (response, None),
        Payload::Chunked(_) | Payload::Hijack(_) => match shared.step_aside() {
            Some(aside) => (response, Some(aside)),
            None => (shared.handler.full(), None),
        },
        _ => (response, None),
    }
}

/// What is left, how many bytes of the body were (to be) sent, and whether they were.
type Answered = (Option<(Connection, After)>, u64, bool);

fn answer(
    mut connection: Connection,
    mut response: Response,
    asked: Asked,
    complete: bool,
    shared: &Arc<Shared>,
) -> Answered {
    let payload = std::mem::replace(&mut response.payload, Payload::Empty);
    let keep = asked.keep && complete && !shared.stopping.load(Ordering::Relaxed);
    let word = match keep {
        false => Some("close"),
        true if !asked.modern => Some("keep-alive"),
        true => None,
    };
    let wire = &mut connection.wire;
    let after = |ok: bool| if ok && keep { After::Open } else { After::Close { sending: !complete } };
    match payload {
        Payload::Hijack(speak) => {
            let ok = write(wire, &response.head(None, None)).is_ok();
            if ok {
                hand_over(connection, speak, shared);
            }
            (None, 0, ok)
        }
        Payload::Chunked(tell) => {
            let ending = if asked.modern { Ending::Chunks } else { Ending::Close };
            let word = if asked.modern { word } else { Some("close") };
            let mut result = write(wire, &response.head(Some(ending), word));
            let mut sent = 0;
            if result.is_ok() && !asked.bodyless {
                let _follower = Follower::new(shared, wire.stream.socket(), Ends::Reading);
                wire.stream.socket_mut().set_write_timeout(shared.limits.stream);
                let mut sink = Sink::new(&mut wire.stream, asked.modern);
                result = tell(&mut sink).and_then(|()| sink.finish());
                sent = sink.sent();
            }
            let ok = result.is_ok();
            let after = if asked.modern { after(ok) } else { After::Close { sending: !complete } };
            (Some((connection, after)), sent, ok)
        }
        known => {
            let bytes = if asked.bodyless { 0 } else { known.length() };
            let mut scratch = Vec::new();
            let ok =
                response.payload(known).write(&mut wire.stream, &mut scratch, asked.bodyless, word).is_ok();
            (Some((connection, after(ok))), bytes, ok)
        }
    }
}

fn write(wire: &mut Wire, bytes: &[u8]) -> io::Result<()> {
    use std::io::Write;
    wire.stream.write_all(bytes)?;
    wire.stream.flush()
}

fn hand_over(connection: Connection, speak: super::Conversation, shared: &Arc<Shared>) {
    if connection.watched {
        shared.forget(connection.socket());
    }
    let Connection { mut wire, seat, .. } = connection;
    wire.stream.socket_mut().set_write_timeout(shared.limits.stream);
    let follower = Follower::new(shared, wire.stream.socket(), Ends::Both);
    speak(Duplex::new(wire, follower, seat));
}

/// What is known of a request when it begins.
fn observed(head: &Head, peer: Peer) -> Exchange {
    let text = |name: &str| head.header(name).unwrap_or_default().to_owned();
    let mut target = head.path.clone();
    for (at, (name, value)) in head.query.iter().enumerate() {
        target.push(if at == 0 { '?' } else { '&' });
        target.push_str(&format!("{name}={value}"));
    }
    Exchange {
        peer,
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
