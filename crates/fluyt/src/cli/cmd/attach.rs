//! `attach`, and what `run`, `start` and `attach` share: the pump on an attached container.

use fluyt_docker_api::api::{AttachContainer, Attached, Docker, Follow, Next, Wait, WaitCondition, Waited};
use fluyt_docker_api::types::ContainerInspect;
use fluyt_model::{Error, Kind, Result};

use super::session::Connected;
use super::{Cli, lifecycle};
use crate::cli::fail::{Failure, Outcome};
use crate::cli::flags::{Arity, Command, NONE, Parsed, switch, text};
use crate::cli::terminal::keys::DetachKeys;
use crate::cli::terminal::pump::{self, End, Options, Session};
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
    let keys = Keys::of(flags)?;
    let docker = cli.docker()?;
    let found = docker.container_inspect(&flags.args[0], false)?;
    let refused = match &found.state {
        state if state.restarting => {
            Some("You cannot attach to a restarting container, wait until it is running")
        }
        state if state.paused => Some("You cannot attach to a paused container, unpause it first"),
        state if !state.running => Some("You cannot attach to a stopped container, start it first"),
        _ => None,
    };
    if let Some(why) = refused {
        return Err(Error::conflict(why).into());
    }
    let (tty, open) = io_of(&found);
    let stdin = open && !flags.on("no-stdin");
    terminal::check_tty(stdin, tty)?;
    let wanted = Wanted {
        stdin,
        stdout: true,
        stderr: true,
        tty,
        keys,
        sig_proxy: flags.on("sig-proxy"),
        removes: false,
    };
    let connection = connect(cli, &found.id, &wanted, WaitCondition::NotRunning)?;
    follow(cli, docker, &found.id, connection, wanted)
}

/// Whether a container has a terminal, and whether its standard input is open.
pub fn io_of(found: &ContainerInspect) -> (bool, bool) {
    (found.config.tty, found.config.open_stdin)
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
    pub keys: Keys,
    /// Signals are passed on.
    pub sig_proxy: bool,
    /// It is removed when it has ended: by this process, unless there is a daemon that does it.
    pub removes: bool,
}

/// Keys that detach, and how they were written.
#[derive(Debug)]
pub struct Keys {
    watched: DetachKeys,
    text: String,
}

impl Keys {
    /// What `--detach-keys` says.
    ///
    /// # Errors
    /// `Invalid`, in Docker's words.
    pub fn of(flags: &Parsed) -> Result<Self> {
        let text = flags.text("detach-keys").to_owned();
        Ok(Self { watched: DetachKeys::parse(&text)?, text })
    }
}

/// An attached container, and what will tell how it ended.
pub struct Connection {
    session: Box<dyn Attached>,
    /// A daemon's connection does not tell; it is asked before the start, or a quick end would be missed.
    end: Option<Box<dyn Follow<Waited>>>,
}

impl Connection {
    /// Looks whether the container has been started: until then a session keeps its input.
    ///
    /// # Errors
    /// The container has gone.
    pub fn begin(&mut self) -> Result<()> {
        self.session.is_live().map(drop)
    }
}

/// Attaches to a container that runs, or that will be started next. `end` is what a daemon is asked to wait for.
///
/// # Errors
/// The container cannot be attached to.
pub fn connect(cli: &Cli, id: &str, wanted: &Wanted, end: WaitCondition) -> Result<Connection> {
    let docker = cli.docker()?;
    let remote = cli.remote()?.is_some();
    let how = AttachContainer {
        stream: true,
        stdin: wanted.stdin,
        stdout: wanted.stdout,
        stderr: wanted.stderr,
        removes: wanted.removes && !remote,
        detach_keys: wanted.keys.text.clone(),
        ..AttachContainer::default()
    };
    let session = docker.container_attach(id, how)?.session;
    let end = if remote { Some(docker.container_wait(id, end)?) } else { None };
    Ok(Connection { session, end })
}

/// Pumps until the container ends or the user detaches; the exit code is the container's.
///
/// # Errors
/// The connection breaks.
pub fn follow(cli: &Cli, docker: &dyn Docker, id: &str, connection: Connection, wanted: Wanted) -> Outcome {
    // With a terminal in raw mode, Ctrl-C reaches the container as a key.
    let signals = pump::signals(wanted.sig_proxy)?;
    let raw = if wanted.tty && wanted.stdin { RawMode::enter()? } else { None };
    let Connection { session, end } = connection;
    let mut session = Connected::to_container(session, docker, id);
    if wanted.tty
        && let Some((rows, columns)) = terminal::size()
    {
        session.resize(rows, columns).or_else(unless_gone)?;
    }
    let options = Options {
        stdin: wanted.stdin,
        stdout: wanted.stdout,
        stderr: wanted.stderr,
        keys: (wanted.stdin && wanted.tty).then_some(wanted.keys.watched),
        resize: wanted.tty,
    };
    let ended = pump::run(&mut session, options, &signals);
    drop(raw);
    if ended.is_err() && wanted.removes && cli.remote()?.is_none() {
        // The monitor removes the container, unless it has left that to this process; then the container is over already.
        drop(session);
        cli.local()?.engine()?.reap_if_over(id)?;
        return ended.map(|_| 0).map_err(Failure::from);
    }
    match ended? {
        End::Exited(code) => {
            if wanted.removes && cli.remote()?.is_none() {
                cli.local()?.engine()?.reap(id)?;
            }
            code_of(code.into())
        }
        End::Detached => Ok(0),
        End::Closed => match exit_code(docker, id, end) {
            Ok(code) => code_of(code),
            Err(error) if error.kind() == Kind::NotFound => Ok(0),
            Err(error) => Err(error.into()),
        },
    }
}

fn exit_code(docker: &dyn Docker, id: &str, end: Option<Box<dyn Follow<Waited>>>) -> Result<i64> {
    let Some(mut end) = end else { return lifecycle::ended(docker, id, WaitCondition::NotRunning) };
    match end.next(Wait::FOREVER)? {
        Next::Item(waited) if !waited.error.is_empty() => Err(Error::internal(waited.error)),
        Next::Item(waited) => Ok(waited.code),
        Next::Idle | Next::End => Err(Error::new(Kind::Unavailable, "the daemon does not say how it ended")),
    }
}

fn code_of(code: i64) -> Outcome {
    match i32::try_from(code).unwrap_or(255) {
        0 => Ok(0),
        code => Err(Failure::Code(code)),
    }
}

fn unless_gone(error: Error) -> Result<()> {
    if error.kind() == Kind::Unavailable { Ok(()) } else { Err(error) }
}
