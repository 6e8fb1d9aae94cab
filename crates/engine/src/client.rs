//! Talking to a monitor: requests over its socket, and the attached stream.

use std::io::{BufRead, BufReader, ErrorKind, IoSlice, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use fluyt_model::error::IoContext;
use fluyt_model::{Error, Kind, Result};
use fluyt_monitor::protocol::{self, FrameKind, Reply, Request};

use crate::api::Stream;

/// What comes from an attached container.
#[derive(Debug, PartialEq, Eq)]
pub enum Frame {
    /// Output.
    Data(Stream, Vec<u8>),
    /// It has ended for good, with this exit code.
    Exited(i32),
    /// The monitor has gone without a word.
    Lost,
}

/// An attached container: output comes in frames, input and sizes go out.
#[derive(Debug)]
pub struct Attach {
    socket: UnixStream,
    incoming: Vec<u8>,
    read: usize,
}

impl Attach {
    fn new(socket: UnixStream, incoming: Vec<u8>) -> Self {
        Self { socket, incoming, read: 0 }
    }

    /// Over a connection on which nothing but frames comes.
    pub(crate) fn over(socket: UnixStream) -> Self {
        Self::new(socket, Vec::new())
    }

    /// A frame that has already arrived whole, if there is one: look here before polling.
    ///
    /// # Errors
    /// The monitor speaks nonsense.
    pub fn buffered(&mut self) -> Result<Option<Frame>> {
        let Some((kind, payload, taken)) = protocol::parse(&self.incoming[self.read..])? else {
            return Ok(None);
        };
        let frame = match kind {
            FrameKind::Stdout => Frame::Data(Stream::Stdout, payload.to_vec()),
            FrameKind::Stderr => Frame::Data(Stream::Stderr, payload.to_vec()),
            FrameKind::Exit => Frame::Exited(payload.try_into().map(i32::from_be_bytes).unwrap_or(-1)),
            other => return Err(Error::internal(format!("the monitor sent an unexpected {other:?} frame"))),
        };
        self.read += taken;
        if self.read == self.incoming.len() {
            self.incoming.clear();
            self.read = 0;
        }
        Ok(Some(frame))
    }

    /// The next frame; waits for it.
    ///
    /// # Errors
    /// The socket fails, or the monitor speaks nonsense.
    pub fn read(&mut self) -> Result<Frame> {
        loop {
            if let Some(frame) = self.buffered()? {
                return Ok(frame);
            }
            self.incoming.drain(..self.read);
            self.read = 0;
            let start = self.incoming.len();
            self.incoming.resize(start + protocol::MAX_FRAME, 0);
            let got = self.socket.read(&mut self.incoming[start..]);
            self.incoming.truncate(start + *got.as_ref().unwrap_or(&0));
            match got {
                Ok(0) => return Ok(Frame::Lost),
                Ok(_) => {}
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::ConnectionReset => return Ok(Frame::Lost),
                Err(e) => return Err(Error::io("attached stream", e)),
            }
        }
    }

    /// Sends input.
    ///
    /// # Errors
    /// `Unavailable` when the container has gone.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        for part in bytes.chunks(protocol::MAX_FRAME) {
            self.send(FrameKind::Stdin, part)?;
        }
        Ok(())
    }

    /// Says that there is no more input.
    ///
    /// # Errors
    /// `Unavailable` when the container has gone.
    pub fn close_stdin(&mut self) -> Result<()> {
        self.send(FrameKind::CloseStdin, &[])
    }

    /// Says how large the terminal is.
    ///
    /// # Errors
    /// `Unavailable` when the container has gone.
    pub fn resize(&mut self, rows: u16, cols: u16) -> Result<()> {
        let ([r1, r0], [c1, c0]) = (rows.to_be_bytes(), cols.to_be_bytes());
        self.send(FrameKind::Resize, &[r1, r0, c1, c0])
    }

    fn send(&mut self, kind: FrameKind, payload: &[u8]) -> Result<()> {
        let header = protocol::header(kind, payload.len());
        let both = [IoSlice::new(&header), IoSlice::new(payload)];
        // One call, as a rule; what is left of it follows.
        let sent = loop {
            match self.socket.write_vectored(&both) {
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                other => break other.about(|| "attached stream")?,
            }
        };
        let mut rest = || {
            self.socket.write_all(header.get(sent..).unwrap_or_default())?;
            self.socket.write_all(payload.get(sent.saturating_sub(header.len())..).unwrap_or_default())
        };
        rest().about(|| "attached stream")
    }
}

impl AsFd for Attach {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Sends `request` to the monitor that serves `run_dir` and waits for its answer.
///
/// # Errors
/// `Conflict` if no monitor listens there (the container does not run), or what the monitor answers.
pub fn ask(run_dir: &Path, request: &Request) -> Result<Reply> {
    ask_on(connect(run_dir)?, request).map(|(reply, _)| reply)
}

/// Attaches to the container that `run_dir` belongs to.
///
/// # Errors
/// `Conflict` if it does not run.
pub fn attach(run_dir: &Path, stdin: bool) -> Result<Attach> {
    let (_, attach) = ask_on(connect(run_dir)?, &Request::Attach { stdin })?;
    Ok(attach)
}

/// Sends `request` on `socket`; the answer comes with what an attached stream goes on with.
///
/// # Errors
/// What the monitor answers.
pub fn ask_on(mut socket: UnixStream, request: &Request) -> Result<(Reply, Attach)> {
    send(&mut socket, request)?;
    hear(socket)
}

/// Sends `request` to the monitor that serves `run_dir`; the answer is heard with [`hear`].
///
/// # Errors
/// `Conflict` if no monitor listens there.
pub fn say(run_dir: &Path, request: &Request) -> Result<UnixStream> {
    let mut socket = connect(run_dir)?;
    send(&mut socket, request)?;
    Ok(socket)
}

fn send(socket: &mut UnixStream, request: &Request) -> Result<()> {
    let mut line = serde_json::to_vec(request).map_err(|e| Error::internal("request").with_source(e))?;
    line.push(b'\n');
    socket.write_all(&line).about(|| "monitor")
}

/// Waits for the answer to what was sent on `socket`.
///
/// # Errors
/// What the monitor answers.
pub fn hear(socket: UnixStream) -> Result<(Reply, Attach)> {
    let mut reader = BufReader::with_capacity(4096, &socket);
    let mut answer = Vec::new();
    reader.read_until(b'\n', &mut answer).about(|| "monitor")?;
    if answer.is_empty() {
        return Err(Error::new(Kind::Unavailable, "the container's monitor went away before it answered")
            .with_hint("see monitor.log in the container's directory"));
    }
    let rest = reader.buffer().to_vec();
    let reply: Reply = serde_json::from_slice(&answer)
        .map_err(|e| Error::internal("the monitor's answer cannot be read").with_source(e))?;
    Ok((reply.into_result()?, Attach::new(socket, rest)))
}

fn connect(run_dir: &Path) -> Result<UnixStream> {
    UnixStream::connect(run_dir.join(fluyt_monitor::SOCKET)).map_err(|e| match e.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => Error::conflict("the container is not running"),
        _ => Error::io(run_dir.join(fluyt_monitor::SOCKET).display().to_string(), e),
    })
}
