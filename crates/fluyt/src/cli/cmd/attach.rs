//! `attach`, and what `run`, `start` and `attach` share: the pump on a container's monitor.

use std::os::fd::{AsFd, BorrowedFd};

use fluyt_engine::{Attach, Engine, Frame, WaitCondition};
use fluyt_model::sandbox::{Phase, Stdin};
use fluyt_model::{Error, Kind, Result};

use super::Cli;
use crate::cli::fail::{Failure, Outcome};
use crate::cli::flags::{Arity, Command, NONE, Parsed, switch, text};
use crate::cli::terminal::keys::DetachKeys;
use crate::cli::terminal::pump::{self, End, Options, Received, Session};
use crate::cli::terminal::{self, RawMode};

/// `fluyt attach`.
pub const ATTACH: Command = Command {
    name: "attach",
    arguments: "CONTAINER",
    about: "Attach local standard input, output, and error streams to a running container",
    flags: &[&[
        text(NONE, "detach-keys", "Override the key sequence for detaching a container"),
        switch(NONE, "no-stdin", "Do not attach STDIN"),
        switch(NONE, "sig-proxy", "Proxy all received signals to the process").default("true"),
    ]],
    arity: Arity::Exactly(1),
    interspersed: true,
};

/// Runs `fluyt attach`.
pub fn attach(cli: &Cli, flags: &Parsed) -> Outcome {
    let keys = DetachKeys::parse(flags.text("detach-keys"))?;
    let engine = cli.engine()?;
    let view = engine.container(&flags.args[0])?;
    let refused = match view.status.phase {
        Phase::Running => None,
        Phase::Paused => Some("You cannot attach to a paused container, unpause it first"),
        Phase::Restarting => Some("You cannot attach to a restarting container, wait until it is running"),
        _ => Some("You cannot attach to a stopped container, start it first"),
    };
    if let Some(why) = refused {
        return Err(Error::conflict(why).into());
    }
    let (tty, open) = io_of(&view);
    let stdin = open && !flags.on("no-stdin");
    terminal::check_tty(stdin, tty)?;
    let attached = engine.attach(&view.id, stdin)?;
    let wanted = Wanted {
        stdin,
        stdout: true,
        stderr: true,
        tty,
        keys,
        sig_proxy: flags.on("sig-proxy"),
        removes: false,
    };
    follow(engine, &view.id, attached, wanted)
}

/// Whether a container has a terminal, and whether its standard input is open.
pub fn io_of(view: &fluyt_engine::ContainerView) -> (bool, bool) {
    view.spec.containers.first().map_or((false, false), |c| (c.process.tty, c.process.stdin != Stdin::Null))
}

/// What a client wants of an attached container.
#[derive(Debug)]
pub struct Wanted {
    /// Its standard input.
    pub stdin: bool,
    /// Its standard output.
    pub stdout: bool,
    /// Its standard error.
    pub stderr: bool,
    /// It has a terminal.
    pub tty: bool,
    /// Keys that detach.
    pub keys: DetachKeys,
    /// Signals are passed on.
    pub sig_proxy: bool,
    /// This process removes the container when it has ended.
    pub removes: bool,
}

/// Pumps until the container ends or the user detaches; the exit code is the container's.
///
/// # Errors
/// The connection breaks.
pub fn follow(engine: &Engine, id: &str, attach: Attach, wanted: Wanted) -> Outcome {
    // With a terminal in raw mode, Ctrl-C reaches the container as a key.
    let signals = pump::signals(wanted.sig_proxy)?;
    let raw = if wanted.tty && wanted.stdin { RawMode::enter()? } else { None };
    let mut session = Container { engine, id, attach };
    if wanted.tty
        && let Some((rows, columns)) = terminal::size()
    {
        session.attach.resize(rows, columns).or_else(unless_gone)?;
    }
    let options = Options {
        stdin: wanted.stdin,
        stdout: wanted.stdout,
        stderr: wanted.stderr,
        keys: (wanted.stdin && wanted.tty).then_some(wanted.keys),
        resize: wanted.tty,
    };
    let end = pump::run(&mut session, options, &signals);
    drop(raw);
    match end? {
        End::Exited(code) => {
            if wanted.removes {
                engine.reap(id)?;
            }
            code_of(code)
        }
        End::Detached => Ok(0),
        End::Closed => match engine.wait(id, WaitCondition::NotRunning) {
            Ok(code) => code_of(code),
            Err(error) if error.kind() == Kind::NotFound => Ok(0),
            Err(error) => Err(error.into()),
        },
    }
}

fn code_of(code: i32) -> Outcome {
    if code == 0 { Ok(0) } else { Err(Failure::Code(code)) }
}

fn unless_gone(error: Error) -> Result<()> {
    if error.kind() == Kind::Unavailable { Ok(()) } else { Err(error) }
}

/// A container's monitor as the pump sees it.
struct Container<'a> {
    engine: &'a Engine,
    id: &'a str,
    attach: Attach,
}

fn received(frame: Frame) -> Received {
    match frame {
        Frame::Data(stream, bytes) => Received::Data(stream, bytes),
        Frame::Exited(code) => Received::Exited(code),
        Frame::Lost => Received::Closed,
    }
}

impl Session for Container<'_> {
    fn buffered(&mut self) -> Result<Option<Received>> {
        Ok(self.attach.buffered()?.map(received))
    }

    fn outputs(&self) -> Vec<BorrowedFd<'_>> {
        vec![self.attach.as_fd()]
    }

    fn input(&self) -> Option<BorrowedFd<'_>> {
        Some(self.attach.as_fd())
    }

    fn receive(&mut self, _: usize) -> Result<Received> {
        self.attach.read().map(received)
    }

    fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.attach.write(bytes)
    }

    fn close_input(&mut self) -> Result<()> {
        self.attach.close_stdin()
    }

    fn resize(&mut self, rows: u16, columns: u16) -> Result<()> {
        self.attach.resize(rows, columns)
    }

    fn signal(&mut self, number: i32) -> Result<()> {
        match self.engine.kill(self.id, &number.to_string()) {
            // It may have ended in between.
            Err(e) if matches!(e.kind(), Kind::Conflict | Kind::NotFound) => Ok(()),
            other => other,
        }
    }
}
