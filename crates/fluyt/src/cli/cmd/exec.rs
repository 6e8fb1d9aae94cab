//! `exec`.

use std::os::fd::{AsFd, BorrowedFd};

use fluyt_docker_api::api::{Docker, Received, StartExec};
use fluyt_docker_api::types::ExecOptions as ApiExecOptions;
use fluyt_engine::{Exec, ExecOptions, ExecTarget, Stream};
use fluyt_model::error::IoContext;
use fluyt_model::{Error, Kind, Result};

use super::Cli;
use super::session::Connected;
use crate::cli::create::{self, ThisHost};
use crate::cli::fail::{Failure, Outcome};
use crate::cli::flags::{Arity, Command, NONE, Parsed, list, many, switch, text, values};
use crate::cli::terminal::keys::DetachKeys;
use crate::cli::terminal::pump::{self, End, Options, Session};
use crate::cli::terminal::{self, RawMode};

/// `fluyt exec`.
pub const EXEC: Command = Command {
    name: "exec",
    arguments: "CONTAINER COMMAND [ARG...]",
    about: "Execute a command in a running container",
    flags: &[&[
        switch('d', "detach", "Detached mode: run command in the background"),
        text(NONE, "detach-keys", "Override the key sequence for detaching a container"),
        many('e', "env", "list", values::env, "Set environment variables"),
        list(NONE, "env-file", "Read in a file of environment variables"),
        switch('i', "interactive", "Keep STDIN open even if not attached"),
        switch(NONE, "privileged", "Give extended privileges to the command"),
        switch('t', "tty", "Allocate a pseudo-TTY"),
        text('u', "user", "Username or UID (format: \"<name|uid>[:<group|gid>]\")"),
        text('w', "workdir", "Working directory inside the container"),
    ]],
    arity: Arity::AtLeast(2),
    interspersed: false,
};

/// Runs `fluyt exec`.
pub fn exec(cli: &Cli, flags: &Parsed) -> Outcome {
    if let Some(remote) = cli.remote()? {
        return exec_remotely(remote, flags);
    }
    // What this process becomes in the container must not lead back to a file that the container could write.
    fluyt_engine::seal(cli.root()).about(|| "running from a sealed executable")?;
    let keys = DetachKeys::parse(flags.text("detach-keys"))?;
    let (detach, stdin, tty) =
        (flags.on("detach"), flags.on("interactive") && !flags.on("detach"), flags.on("tty"));
    if !detach {
        terminal::check_tty(stdin, tty)?;
    }
    let options = ExecOptions {
        args: flags.args[1..].to_vec(),
        env: create::environment(flags, &ThisHost).map_err(Error::invalid)?,
        cwd: flags.text("workdir").to_owned(),
        user: flags.text("user").to_owned(),
        privileged: flags.on("privileged"),
        tty: tty.then(|| terminal::size().unwrap_or((0, 0))),
        stdin,
    };
    // A container that cannot be asked is no failure of the command in it.
    let plain = |error: Error| Failure::Coded(error, 1);
    let unstarted = |error: Error| match error.kind() {
        Kind::CommandNotFound | Kind::CommandNotExecutable => Failure::Error(error),
        Kind::Conflict => plain(error),
        // As Docker says of a command that was accepted and could not be started.
        _ => Failure::Coded(error, 126),
    };
    let target = match ExecTarget::recall(cli.root(), &flags.args[0]) {
        Some(target) => target,
        None => cli.engine().and_then(|engine| engine.exec_target(&flags.args[0])).map_err(plain)?,
    };
    if detach {
        target.exec_detached(&options).map_err(unstarted)?;
        return Ok(0);
    }
    let exec = target.exec(&options).map_err(unstarted)?;
    follow(exec, stdin, tty, keys)
}

/// By a daemon. Here no process of this machine enters the container, so that there is nothing to seal.
fn exec_remotely(docker: &dyn Docker, flags: &Parsed) -> Outcome {
    let keys = DetachKeys::parse(flags.text("detach-keys"))?;
    let (detach, tty) = (flags.on("detach"), flags.on("tty"));
    let stdin = flags.on("interactive") && !detach;
    if !detach {
        terminal::check_tty(stdin, tty)?;
    }
    let size = if tty { terminal::size() } else { None };
    let plain = |error: Error| Failure::Coded(error, 1);
    let options = ApiExecOptions {
        user: flags.text("user").to_owned(),
        privileged: flags.on("privileged"),
        tty,
        console_size: size.map(|(rows, columns)| [rows, columns]),
        attach_stdin: stdin,
        attach_stdout: !detach,
        attach_stderr: !detach,
        detach_keys: flags.text("detach-keys").to_owned(),
        env: create::environment(flags, &ThisHost).map_err(Error::invalid)?.into(),
        working_dir: flags.text("workdir").to_owned(),
        cmd: flags.args[1..].to_vec().into(),
        detach,
    };
    let id = docker.exec_create(&flags.args[0], &options).map_err(plain)?;
    let started = docker.exec_start(&id, StartExec { detach, tty, size }).map_err(|e| match e.kind() {
        Kind::CommandNotFound | Kind::CommandNotExecutable => Failure::Error(e),
        Kind::Conflict | Kind::NotFound => plain(e),
        _ => Failure::Coded(e, 126),
    })?;
    let Some(session) = started else { return Ok(0) };
    let signals = pump::signals(false)?;
    let raw = if tty && stdin { RawMode::enter()? } else { None };
    let options =
        Options { stdin, stdout: true, stderr: true, keys: (stdin && tty).then_some(keys), resize: tty };
    let end = pump::run(&mut Connected::to_command(session, tty), options, &signals);
    drop(raw);
    let code = match end? {
        End::Exited(code) => i64::from(code),
        End::Detached => return Ok(0),
        End::Closed => docker.exec_inspect(&id)?.exit_code.unwrap_or(0),
    };
    if code == 0 { Ok(0) } else { Err(Failure::Code(i32::try_from(code).unwrap_or(255))) }
}

fn follow(exec: Exec, stdin: bool, tty: bool, keys: DetachKeys) -> Outcome {
    // Without a terminal Docker leaves signals alone: Ctrl-C ends the client, not the command.
    let signals = pump::signals(false)?;
    let raw = if tty && stdin { RawMode::enter()? } else { None };
    let mut session = Running { exec, tty };
    let options =
        Options { stdin, stdout: true, stderr: true, keys: (stdin && tty).then_some(keys), resize: tty };
    let end = pump::run(&mut session, options, &signals);
    drop(raw);
    let code = match end? {
        End::Exited(code) => code,
        End::Closed => session.exec.wait()?,
        End::Detached => return Ok(0),
    };
    if code == 0 { Ok(0) } else { Err(Failure::Code(code)) }
}

/// A command in a container as the pump sees it.
struct Running {
    exec: Exec,
    tty: bool,
}

impl Session for Running {
    fn buffered(&mut self) -> Result<Option<Received>> {
        Ok(None)
    }

    fn outputs(&self) -> Vec<BorrowedFd<'_>> {
        self.exec.stdout.iter().chain(&self.exec.stderr).map(AsFd::as_fd).collect()
    }

    fn input(&self) -> Option<BorrowedFd<'_>> {
        self.exec.stdin.as_ref().map(AsFd::as_fd)
    }

    fn receive(&mut self, index: usize) -> Result<Received> {
        let (fd, stream) = match (index, &self.exec.stdout, &self.exec.stderr) {
            (0, Some(stdout), _) => (stdout.as_fd(), Stream::Stdout),
            (_, _, Some(stderr)) => (stderr.as_fd(), Stream::Stderr),
            _ => return Ok(Received::Closed),
        };
        let mut buffer = vec![0; 64 * 1024];
        match rustix::io::read(fd, &mut buffer) {
            Ok(0) => Ok(Received::Closed),
            Ok(n) => {
                buffer.truncate(n);
                Ok(Received::Data(stream, buffer))
            }
            // The last process that had the terminal open is gone.
            Err(rustix::io::Errno::IO) if self.tty => Ok(Received::Closed),
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => Ok(Received::Data(stream, Vec::new())),
            Err(e) => Err(std::io::Error::from(e)).about(|| "output of the command"),
        }
    }

    fn send(&mut self, bytes: &[u8]) -> Result<()> {
        match &self.exec.stdin {
            Some(stdin) => pump::write_all(stdin.as_fd(), bytes).about(|| "input of the command"),
            None => Err(Error::new(Kind::Unavailable, "the command takes no input")),
        }
    }

    fn close_input(&mut self) -> Result<()> {
        // A terminal has no half to close; its end of input is a key.
        if !self.tty {
            self.exec.stdin = None;
        }
        Ok(())
    }

    fn resize(&mut self, rows: u16, columns: u16) -> Result<()> {
        self.exec.resize(rows, columns);
        Ok(())
    }

    fn signal(&mut self, _: i32) -> Result<()> {
        Ok(())
    }
}
