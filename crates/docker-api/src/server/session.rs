//! Connections that are handed over: the pump between a client and an attached container or command.
//!
//! One loop around `poll`, as the command line's own. Input is passed on in pieces that a socket which is ready takes
//! without waiting; a client that reads nothing makes the loop, and with it the container's output, wait.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;

use fluyt_http::{Duplex, Payload, Response};
use fluyt_model::{Kind, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::call::Call;
use super::version::ApiVersion;
use crate::api::{Attached, Received, Stream};
use crate::keys::DetachKeys;

/// Input is passed on in pieces of this size: a socket that says it has room has room for more than that.
const PIECE: usize = 32 * 1024;
/// So long output waits at most until the client has read the head of the answer: what it finds in the same read as the
/// head, it may leave in the buffers of its HTTP library when it takes the connection from there (docker-py does).
const HEAD_READ: std::time::Duration = std::time::Duration::from_millis(100);
/// How often a session that waits for a start is looked at.
const LOOK_AGAIN: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// How a client's connection is served.
pub struct Terms {
    /// What the client sends is input.
    pub stdin: bool,
    /// Keys by which the client detaches.
    pub keys: Option<DetachKeys>,
}

/// The media type of a session's output.
pub fn media_type(framed: bool, version: ApiVersion) -> &'static str {
    if framed && version.0 >= 42 {
        "application/vnd.docker.multiplexed-stream"
    } else {
        "application/vnd.docker.raw-stream"
    }
}

/// The response that hands the connection over to a session.
pub fn response(call: &Call<'_, '_>, framed: bool, speak: impl FnOnce(Duplex) + Send + 'static) -> Response {
    let response = if call.upgrades() {
        Response::new(101)
            .header("Content-Type", media_type(framed, call.version))
            .header("Connection", "Upgrade")
            .header("Upgrade", "tcp")
    } else {
        Response::new(200).header("Content-Type", "application/vnd.docker.raw-stream")
    };
    response.payload(Payload::hijack(speak))
}

/// What the client's side of a session is: a plain connection, or one with a protocol of its own.
pub trait Client {
    /// Sends output.
    fn send(&mut self, stream: Stream, bytes: &[u8]) -> io::Result<()>;
    /// Reads what the client sent, when it is ready; none: it sends no more.
    fn receive(&mut self) -> io::Result<Option<Vec<u8>>>;
    /// Whether something can be read whatever poll says.
    fn holds(&mut self) -> bool;
    /// What is polled.
    fn fd(&self) -> std::os::fd::BorrowedFd<'_>;
    /// Says that nothing more comes.
    fn finish(&mut self);
}

/// A connection without a protocol of its own.
pub struct Plain {
    duplex: Duplex,
    framed: bool,
    /// Nothing has been sent yet.
    fresh: bool,
}

impl Plain {
    /// Over a connection that was handed over.
    pub fn new(duplex: Duplex, framed: bool) -> Self {
        Self { duplex, framed, fresh: true }
    }
}

/// Eight bytes before each piece of output: which stream, how long.
pub fn frame(stream: Stream, length: usize) -> [u8; 8] {
    let kind = if stream == Stream::Stdout { 1 } else { 2 };
    let [a, b, c, d] = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    [kind, 0, 0, 0, a, b, c, d]
}

impl Client for Plain {
    fn send(&mut self, stream: Stream, bytes: &[u8]) -> io::Result<()> {
        if std::mem::take(&mut self.fresh) {
            fluyt_engine::wait_until_read(self.duplex.as_fd(), HEAD_READ);
        }
        if self.framed {
            // One call, so that small pieces are one packet.
            let mut framed = Vec::with_capacity(bytes.len() + 8);
            framed.extend_from_slice(&frame(stream, bytes.len()));
            framed.extend_from_slice(bytes);
            self.duplex.write_all(&framed)?;
        } else {
            self.duplex.write_all(bytes)?;
        }
        self.duplex.flush()
    }

    fn receive(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut buffer = vec![0; 32 * 1024];
        let n = self.duplex.read(&mut buffer)?;
        buffer.truncate(n);
        Ok((n > 0).then_some(buffer))
    }

    fn holds(&mut self) -> bool {
        self.duplex.holds()
    }

    fn fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.duplex.as_fd()
    }

    fn finish(&mut self) {
        let _ = self.duplex.flush();
        self.duplex.close_write();
    }
}

/// What is left to do for a client's input.
struct Input {
    /// The client may still send.
    open: bool,
    /// What it sent, and how much of that the session has taken.
    pending: Vec<u8>,
    given: usize,
    /// The end of the input is still to be passed on.
    ends: bool,
    keys: Option<DetachKeys>,
}

impl Input {
    /// What comes when nothing waits is not copied.
    fn add(&mut self, bytes: Vec<u8>) {
        if self.pending.is_empty() {
            self.pending = bytes;
        } else {
            self.pending.extend(bytes);
        }
    }
}

/// Pumps until the session ends, the client goes, or it detaches. Errors end it: there is nobody else to tell.
pub fn pump(client: &mut dyn Client, session: &mut dyn Attached, terms: Terms) {
    let _ = run(client, session, terms);
    client.finish();
}

fn run(client: &mut dyn Client, session: &mut dyn Attached, terms: Terms) -> Result<()> {
    let broken = |e: io::Error| fluyt_model::Error::io("the client", e);
    let mut input = Input { open: terms.stdin, pending: Vec::new(), given: 0, ends: false, keys: terms.keys };
    loop {
        // First, because what came with the start is buffered from then on, and poll does not see it.
        let live = session.is_live()?;
        while let Some(received) = session.buffered()? {
            match received {
                Received::Data(stream, bytes) => client.send(stream, &bytes).map_err(broken)?,
                Received::Exited(_) | Received::Closed => return Ok(()),
            }
        }
        let ready = wait(client, session, &input, live)?;
        if ready.gone {
            return Ok(());
        }
        if ready.output && live {
            match session.read()? {
                Received::Data(stream, bytes) => client.send(stream, &bytes).map_err(broken)?,
                Received::Exited(_) | Received::Closed => return Ok(()),
            }
        }
        if ready.room {
            give(session, &mut input)?;
        }
        if ready.input && !take(client, &mut input).map_err(broken)? {
            session.detached();
            return Ok(());
        }
    }
}

/// Passes a piece of input on. A session that takes none any more is no failure: its output may go on.
fn give(session: &mut dyn Attached, input: &mut Input) -> Result<()> {
    let piece = &input.pending[input.given..];
    let piece = piece.get(..PIECE).unwrap_or(piece);
    let mut given = if piece.is_empty() { Ok(()) } else { session.write(piece) };
    input.given += piece.len();
    if input.given == input.pending.len() {
        input.pending.clear();
        input.given = 0;
    }
    if given.is_ok() && input.pending.is_empty() && std::mem::take(&mut input.ends) {
        given = session.close_input();
    }
    match given {
        Err(e) if e.kind() == Kind::Unavailable => {
            (input.pending, input.given) = (Vec::new(), 0);
            (input.open, input.ends) = (false, false);
            Ok(())
        }
        other => other,
    }
}

/// Reads what the client sent; `false` if it detached.
fn take(client: &mut dyn Client, input: &mut Input) -> io::Result<bool> {
    let Some(bytes) = client.receive()? else {
        (input.open, input.ends) = (false, true);
        return Ok(true);
    };
    match &mut input.keys {
        Some(keys) => {
            let scanned = keys.scan(&bytes);
            input.add(scanned.input);
            Ok(!scanned.detached)
        }
        None => {
            input.add(bytes);
            Ok(true)
        }
    }
}

#[derive(Default)]
struct Ready {
    gone: bool,
    output: bool,
    room: bool,
    input: bool,
}

fn wait(client: &mut dyn Client, session: &dyn Attached, input: &Input, live: bool) -> Result<Ready> {
    let gives = !input.pending.is_empty() || input.ends;
    let takes = input.open && input.pending.is_empty();
    if takes && client.holds() {
        return Ok(Ready { input: true, ..Ready::default() });
    }
    // A session that waits for its start keeps input itself.
    if gives && !live {
        return Ok(Ready { room: true, ..Ready::default() });
    }
    let mut interest = PollFlags::IN;
    interest.set(PollFlags::OUT, gives);
    let Some(fd) = session.fd() else { return Ok(Ready { output: true, ..Ready::default() }) };
    // A client that has gone altogether is told of without being asked for.
    let client_interest = if takes { PollFlags::IN } else { PollFlags::empty() };
    let mut fds =
        [PollFd::from_borrowed_fd(client.fd(), client_interest), PollFd::from_borrowed_fd(fd, interest)];
    match poll(&mut fds, if live { None } else { Some(&LOOK_AGAIN) }) {
        Ok(_) => {}
        Err(rustix::io::Errno::INTR) => return Ok(Ready::default()),
        Err(e) => return Err(fluyt_model::Error::io("poll", e.into())),
    }
    let [from_client, from_session] = fds.map(|fd| fd.revents());
    let ends = PollFlags::HUP | PollFlags::ERR;
    Ok(Ready {
        gone: from_client.intersects(ends) && !from_client.contains(PollFlags::IN),
        input: takes && from_client.contains(PollFlags::IN),
        output: from_session.intersects(PollFlags::IN | ends),
        room: gives && from_session.intersects(PollFlags::OUT | ends),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;
    use std::os::fd::BorrowedFd;
    use std::os::unix::net::UnixStream;

    struct Caller {
        socket: UnixStream,
        got: Vec<u8>,
    }

    impl Client for Caller {
        fn send(&mut self, stream: Stream, bytes: &[u8]) -> io::Result<()> {
            self.got.extend(frame(stream, bytes.len()));
            self.got.extend(bytes);
            Ok(())
        }

        fn receive(&mut self) -> io::Result<Option<Vec<u8>>> {
            let mut buffer = vec![0; 64];
            let n = self.socket.read(&mut buffer)?;
            buffer.truncate(n);
            Ok((n > 0).then_some(buffer))
        }

        fn holds(&mut self) -> bool {
            false
        }

        fn fd(&self) -> BorrowedFd<'_> {
            self.socket.as_fd()
        }

        fn finish(&mut self) {}
    }

    /// A session that is started after some looks, with output that came together with the start; nothing ever makes its
    /// descriptor readable. It ends when its input does.
    struct Late {
        socket: UnixStream,
        looks: u32,
        output: VecDeque<Received>,
        input: Vec<u8>,
    }

    impl Attached for Late {
        fn buffered(&mut self) -> Result<Option<Received>> {
            Ok(if self.looks > 2 { self.output.pop_front() } else { None })
        }

        fn read(&mut self) -> Result<Received> {
            Ok(Received::Closed)
        }

        fn fd(&self) -> Option<BorrowedFd<'_>> {
            Some(self.socket.as_fd())
        }

        fn is_live(&mut self) -> Result<bool> {
            self.looks += 1;
            Ok(self.looks > 2)
        }

        fn write(&mut self, bytes: &[u8]) -> Result<()> {
            self.input.extend(bytes);
            Ok(())
        }

        fn close_input(&mut self) -> Result<()> {
            self.output.push_back(Received::Exited(0));
            Ok(())
        }

        fn resize(&mut self, _: u16, _: u16) -> Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_came_with_the_start_is_not_waited_for() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let (idle, _kept) = UnixStream::pair().unwrap();
        let mut client = Caller { socket: ours, got: Vec::new() };
        let output = VecDeque::from([Received::Data(Stream::Stderr, b"prompt".to_vec())]);
        let mut session = Late { socket: idle, looks: 0, output, input: Vec::new() };
        theirs.write_all(b"typed").unwrap();
        theirs.shutdown(std::net::Shutdown::Write).unwrap();
        pump(&mut client, &mut session, Terms { stdin: true, keys: None });
        assert_eq!(client.got, b"\x02\0\0\0\0\0\0\x06prompt");
        assert_eq!(session.input, b"typed");
    }

    #[test]
    fn keys_detach_and_are_no_input() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let (idle, _kept) = UnixStream::pair().unwrap();
        let mut client = Caller { socket: ours, got: Vec::new() };
        let mut session = Late { socket: idle, looks: 9, output: VecDeque::new(), input: Vec::new() };
        theirs.write_all(b"x\x10\x11").unwrap();
        let keys = DetachKeys::parse("").unwrap();
        pump(&mut client, &mut session, Terms { stdin: true, keys: Some(keys) });
        assert!(client.got.is_empty() && !session.input.contains(&0x10));
    }
}
