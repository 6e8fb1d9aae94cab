//! The pump between this process's standard streams and a process in a container: one loop around `poll`, no threads.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use fluyt_docker_api::api::{Received, Stream};
use fluyt_model::error::IoContext;
use fluyt_model::{Kind, Result};
use fluyt_sys::signals::Signals;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::Signal;

use super::keys::DetachKeys;

/// Input is passed on in pieces that a socket or a pipe that is ready takes without blocking.
const PIECE: usize = 4096;

/// The process at the other end.
pub trait Session {
    /// Something that has already been read, if there is any: asked for before each poll.
    fn buffered(&mut self) -> Result<Option<Received>>;
    /// What to poll for output, in a fixed order.
    fn outputs(&self) -> Vec<BorrowedFd<'_>>;
    /// What to poll before input is written; `None` when the process takes none.
    fn input(&self) -> Option<BorrowedFd<'_>>;
    /// Reads once from the output with this index, which is ready.
    fn receive(&mut self, index: usize) -> Result<Received>;
    /// Passes input on.
    fn send(&mut self, bytes: &[u8]) -> Result<()>;
    /// Ends the input.
    fn close_input(&mut self) -> Result<()>;
    /// Tells the terminal's size.
    fn resize(&mut self, rows: u16, columns: u16) -> Result<()>;
    /// Passes a signal on.
    fn signal(&mut self, number: i32) -> Result<()>;
}

/// Why the pump stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The process ended with this code.
    Exited(i32),
    /// All output is at its end; the code has to be asked for.
    Closed,
    /// The user detached.
    Detached,
}

/// What the pump connects.
#[derive(Debug, Default)]
pub struct Options {
    /// Standard input goes to the process.
    pub stdin: bool,
    /// Standard output is wanted.
    pub stdout: bool,
    /// Standard error is wanted.
    pub stderr: bool,
    /// Keys that detach; `None`: input is not watched.
    pub keys: Option<DetachKeys>,
    /// The terminal's size is passed on.
    pub resize: bool,
}

/// Signals that are passed on: all that a user would send, but not those by which the terminal controls this
/// process itself, nor those that report its own mistakes.
fn forwarded() -> Vec<i32> {
    const KEPT: [Signal; 16] = [
        Signal::KILL,
        Signal::STOP,
        Signal::CHILD,
        Signal::PIPE,
        Signal::URG,
        Signal::TSTP,
        Signal::TTIN,
        Signal::TTOU,
        Signal::SEGV,
        Signal::BUS,
        Signal::ILL,
        Signal::FPE,
        Signal::TRAP,
        Signal::ABORT,
        Signal::SYS,
        Signal::CONT,
    ];
    (1..32).filter(|n| KEPT.iter().all(|s| s.as_raw() != *n)).collect()
}

/// Blocks the signals that a pump with these options handles; without forwarding only the terminal's size.
///
/// # Errors
/// The kernel refuses a descriptor.
pub fn signals(forward: bool) -> Result<Signals> {
    if forward { Signals::block(&forwarded()) } else { Signals::block(&[Signal::WINCH.as_raw()]) }
}

/// Runs until the process ends, all output is closed, or the user detaches.
///
/// # Errors
/// The session breaks, or standard output cannot be written.
pub fn run(session: &mut dyn Session, mut options: Options, signals: &Signals) -> Result<End> {
    let mut stdin_open = options.stdin;
    let mut pending: Vec<u8> = Vec::new();
    let mut closed: Vec<usize> = Vec::new();
    loop {
        while let Some(received) = session.buffered()? {
            match received {
                Received::Data(stream, bytes) => write_out(stream, &bytes, &options)?,
                Received::Exited(code) => return Ok(End::Exited(code)),
                Received::Closed => return Ok(End::Closed),
            }
        }
        let ready = wait(session, signals, &closed, stdin_open && pending.is_empty(), !pending.is_empty())?;
        if ready.signals {
            take_signals(session, &options, signals)?;
        }
        for index in ready.outputs {
            match session.receive(index)? {
                Received::Data(stream, bytes) => write_out(stream, &bytes, &options)?,
                Received::Closed => closed.push(index),
                Received::Exited(code) => return Ok(End::Exited(code)),
            }
        }
        if closed.len() >= session.outputs().len() {
            return Ok(End::Closed);
        }
        if ready.writable {
            let rest = pending.split_off(pending.len().min(PIECE));
            stdin_open = unless_gone(session.send(&pending))?;
            pending = if stdin_open { rest } else { Vec::new() };
        } else if ready.stdin {
            let mut typed = read_stdin()?;
            if typed.is_empty() {
                stdin_open = false;
                unless_gone(session.close_input())?;
            } else if let Some(keys) = &mut options.keys {
                let scanned = keys.scan(&typed);
                if scanned.detached {
                    return Ok(End::Detached);
                }
                typed = scanned.input;
            }
            pending = typed;
        }
    }
}

#[derive(Debug, Default)]
struct Ready {
    signals: bool,
    stdin: bool,
    writable: bool,
    outputs: Vec<usize>,
}

/// Waits for anything to do. Standard input and the session's input are polled only when there is room and need.
fn wait(
    session: &dyn Session,
    signals: &Signals,
    closed: &[usize],
    want_stdin: bool,
    want_write: bool,
) -> Result<Ready> {
    let stdin = io::stdin();
    let mut fds = vec![PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN)];
    let outputs = session.outputs();
    let open: Vec<usize> = (0..outputs.len()).filter(|i| !closed.contains(i)).collect();
    fds.extend(open.iter().map(|i| PollFd::from_borrowed_fd(outputs[*i], PollFlags::IN)));
    let input = session.input();
    // Without an input, the pending bytes are "writable": sending them fails and drops them.
    let mut ready = Ready { writable: want_write && input.is_none(), ..Ready::default() };
    let next = fds.len();
    match input {
        Some(input) if want_write => fds.push(PollFd::from_borrowed_fd(input, PollFlags::OUT)),
        _ if want_stdin => fds.push(PollFd::from_borrowed_fd(stdin.as_fd(), PollFlags::IN)),
        _ => {}
    }
    if !ready.writable {
        match poll(&mut fds, None) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok(ready),
            Err(e) => return Err(io::Error::from(e)).about(|| "poll"),
        }
    }
    let hit = |i: usize| fds.get(i).is_some_and(|fd| !fd.revents().is_empty());
    ready.signals = hit(0);
    ready.writable |= want_write && hit(next);
    ready.stdin = want_stdin && hit(next);
    ready.outputs = open.iter().enumerate().filter(|(n, _)| hit(n + 1)).map(|(_, i)| *i).collect();
    Ok(ready)
}

fn take_signals(session: &mut dyn Session, options: &Options, signals: &Signals) -> Result<()> {
    while let Some(number) = signals.next()? {
        if number != Signal::WINCH.as_raw() {
            unless_gone(session.signal(number))?;
        } else if options.resize
            && let Some((rows, columns)) = super::size()
        {
            unless_gone(session.resize(rows, columns))?;
        }
    }
    Ok(())
}

fn read_stdin() -> Result<Vec<u8>> {
    let mut buffer = vec![0; 32 * 1024];
    loop {
        match rustix::io::read(io::stdin(), &mut buffer) {
            Ok(n) => {
                buffer.truncate(n);
                return Ok(buffer);
            }
            Err(rustix::io::Errno::INTR) => {}
            // A terminal that is gone ends the input.
            Err(rustix::io::Errno::IO) => return Ok(Vec::new()),
            Err(e) => return Err(io::Error::from(e)).about(|| "standard input"),
        }
    }
}

fn write_out(stream: Stream, bytes: &[u8], options: &Options) -> Result<()> {
    match stream {
        Stream::Stdout if options.stdout => {
            write_all(io::stdout().as_fd(), bytes).about(|| "standard output")
        }
        Stream::Stderr if options.stderr => write_all(io::stderr().as_fd(), bytes).about(|| "standard error"),
        _ => Ok(()),
    }
}

/// Writes everything, unbuffered.
///
/// # Errors
/// The descriptor cannot be written.
pub fn write_all(fd: BorrowedFd<'_>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(fd, bytes) {
            Ok(n) => bytes = &bytes[n..],
            Err(rustix::io::Errno::INTR) => {}
            // Somebody else's O_NONBLOCK on a shared terminal or pipe.
            Err(rustix::io::Errno::AGAIN) => {
                poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::OUT)], None)?;
            }
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

/// The process may end before its input does; that is no failure. Whether it still listens.
fn unless_gone(result: Result<()>) -> Result<bool> {
    match result {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == Kind::Unavailable => Ok(false),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    /// A process that says what is in its socket, and ends with 7 when told so by an empty message.
    struct Fake {
        socket: UnixStream,
        said: Vec<u8>,
        ends: bool,
    }

    impl Session for Fake {
        fn buffered(&mut self) -> Result<Option<Received>> {
            Ok(None)
        }

        fn outputs(&self) -> Vec<BorrowedFd<'_>> {
            vec![self.socket.as_fd()]
        }

        fn input(&self) -> Option<BorrowedFd<'_>> {
            None
        }

        fn receive(&mut self, _: usize) -> Result<Received> {
            let mut buffer = vec![0; 64];
            let n =
                rustix::io::read(&self.socket, &mut buffer).map_err(io::Error::from).about(|| "socket")?;
            buffer.truncate(n);
            self.said.extend_from_slice(&buffer);
            Ok(match (n, self.ends) {
                (0, true) => Received::Exited(7),
                (0, false) => Received::Closed,
                _ => Received::Data(Stream::Stdout, buffer),
            })
        }

        fn send(&mut self, _: &[u8]) -> Result<()> {
            Ok(())
        }

        fn close_input(&mut self) -> Result<()> {
            Ok(())
        }

        fn resize(&mut self, _: u16, _: u16) -> Result<()> {
            Ok(())
        }

        fn signal(&mut self, _: i32) -> Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_pump_runs_until_the_end() {
        for (ends, end) in [(true, End::Exited(7)), (false, End::Closed)] {
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            theirs.write_all(b"hello").unwrap();
            drop(theirs);
            let mut fake = Fake { socket: ours, said: Vec::new(), ends };
            let signals = signals(false).unwrap();
            assert_eq!(run(&mut fake, Options::default(), &signals).unwrap(), end);
            assert_eq!(fake.said, b"hello");
        }
    }
}
