//! `system dial-stdio`: what `ssh://` hosts run on this machine.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};

use fluyt_docker_api::remote::dial::Stream;
use fluyt_model::error::IoContext;
use fluyt_model::{Error, Kind, Result};
use rustix::event::{PollFd, PollFlags, poll};

use super::Cli;
use crate::cli::fail::Outcome;
use crate::cli::flags::{Arity, Command, Parsed};

/// `fluyt system dial-stdio`.
pub const DIAL: Command = Command {
    name: "dial-stdio",
    arguments: "",
    about: "Proxy the stdio stream to the daemon connection. Should not be invoked manually.",
    flags: &[],
    arity: Arity::None,
    interspersed: true,
};

/// Runs `fluyt system dial-stdio`.
pub fn dial_stdio(cli: &Cli, _: &Parsed) -> Outcome {
    let stream = match cli.options().endpoint()? {
        Some(endpoint) => cli.options().client(&endpoint)?.dial(),
        None => super::engine_socket(cli),
    };
    let stream = stream.map_err(|e| e.context("failed to open the raw stream connection"))?;
    pump(stream)?;
    Ok(0)
}

/// Copies both ways until the daemon has nothing more to say. Each side's end is passed on.
fn pump(mut stream: Stream) -> Result<()> {
    let stdin = io::stdin();
    let mut buffer = vec![0; 64 << 10];
    let mut open = true;
    loop {
        let (from_user, from_daemon) = match stream.has_plaintext() {
            true => (false, true),
            false => ready(open.then(|| stdin.as_fd()), stream.as_fd())?,
        };
        if from_daemon {
            match stream.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(n) => {
                    let mut out = io::stdout().lock();
                    out.write_all(&buffer[..n]).and_then(|()| out.flush()).about(|| "standard output")?;
                }
                Err(e) if e.kind() == io::ErrorKind::ConnectionReset => return Ok(()),
                Err(e) => return Err(Error::new(Kind::Unavailable, "the daemon's stream").with_source(e)),
            }
        }
        if from_user {
            match rustix::io::read(&stdin, &mut buffer) {
                Ok(0) => {
                    open = false;
                    let _ = stream.close_write();
                }
                Ok(n) => stream
                    .write_all(&buffer[..n])
                    .and_then(|()| stream.flush())
                    .map_err(|e| Error::new(Kind::Unavailable, "the daemon's stream").with_source(e))?,
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(io::Error::from(e)).about(|| "standard input"),
            }
        }
    }
}

/// Which of the two can be read.
fn ready(stdin: Option<BorrowedFd<'_>>, daemon: BorrowedFd<'_>) -> Result<(bool, bool)> {
    let mut fds = vec![PollFd::from_borrowed_fd(daemon, PollFlags::IN)];
    fds.extend(stdin.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
    match poll(&mut fds, None) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(e) => return Err(io::Error::from(e)).about(|| "poll"),
    }
    let hit = |i: usize| fds.get(i).is_some_and(|fd| !fd.revents().is_empty());
    Ok((hit(1), hit(0)))
}
