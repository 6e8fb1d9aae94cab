//! The keeper's loop: a command's streams over a socket, one `poll`.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use fluyt_model::Result;
use fluyt_model::error::IoContext;
use fluyt_monitor::protocol::{self, FrameKind};
use rustix::event::{PollFd, PollFlags};

use crate::Exec;
use crate::container::attend::{ExecRecord, RecordFile};
use crate::notice::poll_for;

/// So long after the command's end its output may go on: others may hold it open.
const AFTER: Duration = Duration::from_secs(2);
/// Pieces in which input is written: what a pipe that is ready takes without waiting.
const PIECE: usize = 4096;

/// A connection on which frames come.
struct Line {
    socket: UnixStream,
    incoming: Vec<u8>,
}

impl Line {
    fn new(socket: UnixStream) -> Self {
        Self { socket, incoming: Vec::new() }
    }

    /// Reads what has come; `false` if the other side has gone.
    fn fill(&mut self) -> bool {
        let start = self.incoming.len();
        self.incoming.resize(start + PIECE, 0);
        let got = self.socket.read(&mut self.incoming[start..]);
        self.incoming.truncate(start + *got.as_ref().unwrap_or(&0));
        match got {
            Ok(n) => n > 0,
            Err(e) => e.kind() == ErrorKind::Interrupted,
        }
    }

    /// The next whole frame; nonsense counts as the end.
    fn frame(&mut self) -> Result<Option<(FrameKind, Vec<u8>)>> {
        let Some((kind, payload, taken)) = protocol::parse(&self.incoming)? else { return Ok(None) };
        let frame = (kind, payload.to_vec());
        self.incoming.drain(..taken);
        Ok(Some(frame))
    }
}

struct Keeper {
    exec: Exec,
    session: Option<Line>,
    control: Option<Line>,
    /// Input that the command has not taken.
    pending: Vec<u8>,
    /// Its end is still to come.
    ends: bool,
    tty: bool,
}

/// What poll said, by place.
#[derive(Default)]
struct Ready {
    session: bool,
    control: bool,
    stdout: bool,
    stderr: bool,
    stdin: bool,
    ended: bool,
}

/// Serves a command until it has ended and its output has; records its end.
pub(crate) fn serve(
    exec: Exec,
    mut record: ExecRecord,
    file: &RecordFile,
    session: Option<UnixStream>,
    control: UnixStream,
) -> Result<()> {
    let tty = record.options.tty.is_some();
    let mut keeper = Keeper {
        exec,
        session: session.map(Line::new),
        control: Some(Line::new(control)),
        pending: Vec::new(),
        ends: false,
        tty,
    };
    let mut deadline = None;
    while deadline.is_none() || keeper.exec.stdout.is_some() || keeper.exec.stderr.is_some() {
        let left = deadline.map(|at: Instant| at.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            break;
        }
        let ready = keeper.wait(left, deadline.is_none())?;
        if ready.ended {
            deadline = Some(Instant::now() + AFTER);
        }
        keeper.turn(&ready)?;
    }
    let code = keeper.exec.wait()?;
    record.exit_code = Some(code);
    record.ended = fluyt_monitor::state::now();
    // Before the session ends: whoever sees its end may ask for the code.
    file.write(&record)?;
    keeper.send(FrameKind::Exit, &code.to_be_bytes());
    Ok(())
}

impl Keeper {
    fn wait(&self, timeout: Option<Duration>, runs: bool) -> Result<Ready> {
        // Input that is not taken holds the rest of it back.
        let full = !self.pending.is_empty() || self.ends;
        let session = self.session.as_ref().map(|line| line.socket.as_fd());
        let list: [(Option<BorrowedFd<'_>>, PollFlags); 6] = [
            (session, if full { PollFlags::empty() } else { PollFlags::IN }),
            (self.control.as_ref().map(|line| line.socket.as_fd()), PollFlags::IN),
            (self.exec.stdout.as_ref().map(AsFd::as_fd), PollFlags::IN),
            (self.exec.stderr.as_ref().map(AsFd::as_fd), PollFlags::IN),
            (self.exec.stdin.as_ref().map(AsFd::as_fd).filter(|_| full), PollFlags::OUT),
            (Some(self.exec.pidfd()).filter(|_| runs), PollFlags::IN),
        ];
        let (mut fds, mut places) = (Vec::with_capacity(list.len()), [usize::MAX; 6]);
        for (place, (fd, flags)) in list.into_iter().enumerate() {
            if let Some(fd) = fd {
                places[place] = fds.len();
                fds.push(PollFd::from_borrowed_fd(fd, flags));
            }
        }
        poll_for(&mut fds, timeout)?;
        let hit = |place: usize| fds.get(places[place]).is_some_and(|fd| !fd.revents().is_empty());
        Ok(Ready {
            session: hit(0),
            control: hit(1),
            stdout: hit(2),
            stderr: hit(3),
            stdin: hit(4),
            ended: hit(5),
        })
    }

    fn turn(&mut self, ready: &Ready) -> Result<()> {
        if ready.stdout && !self.pass(false)? {
            self.exec.stdout = None;
        }
        if ready.stderr && !self.pass(true)? {
            self.exec.stderr = None;
        }
        if ready.session {
            self.hear();
        }
        if ready.control {
            let gone = self.control.as_mut().is_some_and(|line| !line.fill());
            while let Some(Ok(Some((kind, payload)))) = self.control.as_mut().map(Line::frame) {
                self.resize(kind, &payload);
            }
            if gone {
                // The engine has ended; the command goes on.
                self.control = None;
            }
        }
        if ready.stdin {
            self.give();
        }
        if self.exec.stdin.is_none() {
            self.pending.clear();
            self.ends = false;
        }
        Ok(())
    }

    /// Passes output on; `false` at its end. Output that nobody wants is read all the same.
    fn pass(&mut self, error: bool) -> Result<bool> {
        let mut buffer = [0; 32 * 1024];
        let source = if error { &self.exec.stderr } else { &self.exec.stdout };
        let Some(fd) = source else { return Ok(false) };
        match rustix::io::read(fd, &mut buffer) {
            Ok(0) => Ok(false),
            Ok(n) => {
                self.send(if error { FrameKind::Stderr } else { FrameKind::Stdout }, &buffer[..n]);
                Ok(true)
            }
            // The last process that had the terminal open is gone.
            Err(rustix::io::Errno::IO) if self.tty => Ok(false),
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => Ok(true),
            Err(e) => Err(std::io::Error::from(e)).about(|| "output of the command"),
        }
    }

    fn send(&mut self, kind: FrameKind, payload: &[u8]) {
        let Some(line) = &mut self.session else { return };
        let mut frame = protocol::header(kind, payload.len()).to_vec();
        frame.extend_from_slice(payload);
        if line.socket.write_all(&frame).is_err() {
            self.leave();
        }
    }

    /// The client has gone: so has its input.
    fn leave(&mut self) {
        self.session = None;
        if !self.tty {
            self.exec.stdin = None;
        }
    }

    /// Takes what the client sent.
    fn hear(&mut self) {
        let mut good = self.session.as_mut().is_some_and(Line::fill);
        loop {
            match self.session.as_mut().map(Line::frame) {
                Some(Ok(Some((FrameKind::Stdin, payload)))) => self.pending.extend_from_slice(&payload),
                Some(Ok(Some((FrameKind::CloseStdin, _)))) => self.ends = true,
                Some(Ok(Some((kind, payload)))) => self.resize(kind, &payload),
                Some(Ok(None)) | None => break,
                Some(Err(_)) => {
                    good = false;
                    break;
                }
            }
        }
        if !good {
            self.leave();
        }
    }

    fn resize(&self, kind: FrameKind, payload: &[u8]) {
        if let (FrameKind::Resize, [r1, r0, c1, c0]) = (kind, payload) {
            self.exec.resize(u16::from_be_bytes([*r1, *r0]), u16::from_be_bytes([*c1, *c0]));
        }
    }

    /// Writes a piece of input.
    fn give(&mut self) {
        let Some(stdin) = &self.exec.stdin else { return };
        let piece = &self.pending[..self.pending.len().min(PIECE)];
        match rustix::io::write(stdin, piece) {
            Ok(n) => drop(self.pending.drain(..n)),
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
            // The command reads no more.
            Err(_) => self.exec.stdin = None,
        }
        if self.pending.is_empty() && std::mem::take(&mut self.ends) && !self.tty {
            self.exec.stdin = None;
        }
    }
}
