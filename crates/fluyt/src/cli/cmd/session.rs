//! A session of Docker's operations as the pump sees it: an attached container, or a command that a daemon runs.

use std::os::fd::BorrowedFd;

use fluyt_docker_api::api::{Attached, Docker, Received};
use fluyt_model::{Kind, Result};

use crate::cli::terminal::pump::Session;

/// A session.
pub struct Connected<'a> {
    session: Box<dyn Attached>,
    /// Input can be closed: a terminal of a command has no half to close, its end of input is a key.
    half_closes: bool,
    /// The container that gets signals.
    signalled: Option<(&'a dyn Docker, &'a str)>,
}

impl<'a> Connected<'a> {
    /// To the container `id`, which gets signals.
    pub fn to_container(session: Box<dyn Attached>, docker: &'a dyn Docker, id: &'a str) -> Self {
        Self { session, half_closes: true, signalled: Some((docker, id)) }
    }

    /// To a command in a container; as with Docker, signals are not its business.
    pub fn to_command(session: Box<dyn Attached>, tty: bool) -> Self {
        Self { session, half_closes: !tty, signalled: None }
    }
}

impl Session for Connected<'_> {
    fn buffered(&mut self) -> Result<Option<Received>> {
        self.session.buffered()
    }

    fn outputs(&self) -> Vec<BorrowedFd<'_>> {
        self.session.fd().into_iter().collect()
    }

    fn input(&self) -> Option<BorrowedFd<'_>> {
        self.session.fd()
    }

    fn receive(&mut self, _: usize) -> Result<Received> {
        self.session.read()
    }

    fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.session.write(bytes)
    }

    fn close_input(&mut self) -> Result<()> {
        if self.half_closes { self.session.close_input() } else { Ok(()) }
    }

    fn resize(&mut self, rows: u16, columns: u16) -> Result<()> {
        self.session.resize(rows, columns)
    }

    fn signal(&mut self, number: i32) -> Result<()> {
        let Some((docker, id)) = self.signalled else { return Ok(()) };
        match docker.container_kill(id, &number.to_string()) {
            // It may have ended in between.
            Err(e) if matches!(e.kind(), Kind::Conflict | Kind::NotFound) => Ok(()),
            other => other,
        }
    }
}
