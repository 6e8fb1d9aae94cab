//! Waiting for the end of a container, so that the one who waits can leave, and nothing that happens in between is missed.
//!
//! ```text
//!   Still ──started──► Runs ──ended──► (Leaves ──removed──►) done
//! ```
//! What was the case when the waiting began is noted then: a container that has come and gone before anybody looked again
//! has another start time than the noted one, and one that is gone altogether has left its exit code in the event journal.

use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use fluyt_model::{Error, Kind, Result};
use fluyt_monitor::protocol::{Reply, Request};
use rustix::event::{PollFd, PollFlags};

use crate::api::WaitCondition;
use crate::container::tell::{is_served, status_of};
use crate::notice::{Followed, Notices, Patience, Woken, poll_for};
use crate::{Engine, Paths};

/// Between two looks when nobody tells of a change.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Between two looks at something that is happening right now.
const SOON: Duration = Duration::from_millis(2);

/// Somebody who waits for a container's end.
pub struct Waiter {
    paths: Paths,
    id: String,
    condition: WaitCondition,
    /// When it was started last, at the beginning of the waiting.
    started: i64,
    /// When the waiting began.
    began: i64,
    code: i32,
    state: State,
}

enum State {
    /// It does not run.
    Still(Notices),
    /// Its monitor will answer here.
    Runs(BufReader<UnixStream>),
    /// It has ended, and its removal is waited for.
    Leaves(Notices),
    Done,
}

impl Engine {
    /// Begins to wait for a container.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn waiter(&self, name: &str, condition: WaitCondition) -> Result<Waiter> {
        let record = self.records().container(name)?;
        let mut waiter = Waiter {
            paths: self.paths.clone(),
            id: record.id,
            condition,
            started: 0,
            began: fluyt_monitor::state::now(),
            code: 0,
            state: State::Done,
        };
        // Notices first, then a look: nothing falls in between. (Who waits for no start needs none.)
        let notices = match condition {
            WaitCondition::NotRunning => None,
            _ => Some(waiter.notices()?),
        };
        let status = status_of(&waiter.paths, &waiter.id)?;
        (waiter.started, waiter.code) = (status.started_at, status.exit_code);
        waiter.state = match (waiter.ask()?, notices) {
            (Some(socket), _) => State::Runs(socket),
            // It is just being started, or about to end.
            (None, None) if is_served(&waiter.paths, &waiter.id) => State::Still(waiter.notices()?),
            (None, None) => {
                // It may have ended since its status was looked at.
                waiter.code = waiter.last_code(waiter.code)?;
                State::Done
            }
            (None, Some(notices)) => State::Still(notices),
        };
        Ok(waiter)
    }
}

impl Waiter {
    /// The container's exit code, once what is waited for has happened; `removed` says whether a container is recorded no
    /// more.
    ///
    /// # Errors
    /// Its state cannot be read.
    pub fn within(
        &mut self,
        removed: &dyn Fn(&str) -> Result<bool>,
        patience: Patience<'_>,
    ) -> Result<Followed<i32>> {
        loop {
            self.state = match std::mem::replace(&mut self.state, State::Done) {
                State::Done => return Ok(Followed::Item(self.code)),
                State::Runs(socket) => {
                    if self.runs_on(&socket, patience)? {
                        self.state = State::Runs(socket);
                        return Ok(Followed::Nothing);
                    }
                    self.ended(socket)?
                }
                State::Still(notices) => match self.changed()? {
                    Some(next) => next,
                    None => {
                        let alive = is_served(&self.paths, &self.id);
                        let enough = notices.wait(Some(if alive { SOON } else { LOOK_AGAIN }), patience)?;
                        self.state = State::Still(notices);
                        if enough == Woken::Enough {
                            return Ok(Followed::Nothing);
                        }
                        continue;
                    }
                },
                State::Leaves(notices) => {
                    if removed(&self.id)? {
                        continue;
                    }
                    let going = !self.paths.container(&self.id).exists();
                    let enough = notices.wait(Some(if going { SOON } else { LOOK_AGAIN }), patience)?;
                    self.state = State::Leaves(notices);
                    if enough == Woken::Enough {
                        return Ok(Followed::Nothing);
                    }
                    continue;
                }
            };
        }
    }

    /// Notices of the container's own files and of its removal.
    fn notices(&self) -> Result<Notices> {
        let notices = Notices::new()?;
        notices.add(&self.paths.container(&self.id))?;
        Ok(notices)
    }

    /// Asks its monitor to tell the end; `None` if it has none, or one that is not ready yet.
    fn ask(&self) -> Result<Option<BufReader<UnixStream>>> {
        if !is_served(&self.paths, &self.id) {
            return Ok(None);
        }
        let path = self.paths.run_of(&self.id).join(fluyt_monitor::SOCKET);
        let Ok(mut socket) = UnixStream::connect(path) else { return Ok(None) };
        let mut line =
            serde_json::to_vec(&Request::Wait).map_err(|e| Error::internal("request").with_source(e))?;
        line.push(b'\n');
        Ok(socket.write_all(&line).is_ok().then(|| BufReader::new(socket)))
    }

    /// What comes after standing still, if something has happened.
    fn changed(&mut self) -> Result<Option<State>> {
        if let Some(socket) = self.ask()? {
            return Ok(Some(State::Runs(socket)));
        }
        if !self.paths.container(&self.id).exists() {
            self.code = self.journalled()?.unwrap_or(self.code);
            return self.leaving().map(Some);
        }
        // In this order: what a monitor has to say it writes before it lets go.
        let served = is_served(&self.paths, &self.id);
        let status = status_of(&self.paths, &self.id)?;
        let ended_since = status.started_at != self.started && status.finished_at >= status.started_at;
        // Who waits for no start may have come when the monitor had just put its socket away: its end is the one.
        if !served && (ended_since || self.condition == WaitCondition::NotRunning) {
            self.code = status.exit_code;
            return self.leaving().map(Some);
        }
        Ok(None)
    }

    /// What comes after the end.
    fn leaving(&self) -> Result<State> {
        if self.condition != WaitCondition::Removed {
            return Ok(State::Done);
        }
        let notices = self.notices()?;
        notices.add(&self.paths.containers())?;
        Ok(State::Leaves(notices))
    }

    /// Waits for the monitor's answer; whether there is none yet.
    fn runs_on(&self, socket: &BufReader<UnixStream>, patience: Patience<'_>) -> Result<bool> {
        let mut fds = vec![PollFd::from_borrowed_fd(socket.get_ref().as_fd(), PollFlags::IN)];
        fds.extend(patience.unless_gone.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::RDHUP)));
        loop {
            let n = poll_for(&mut fds, patience.timeout)?;
            if n > 0 || patience.timeout.is_some() {
                return Ok(fds.first().is_none_or(|fd| fd.revents().is_empty()));
            }
        }
    }

    fn ended(&mut self, mut socket: BufReader<UnixStream>) -> Result<State> {
        let mut line = Vec::new();
        let read = socket.read_until(b'\n', &mut line);
        let code = match (read, serde_json::from_slice::<Reply>(&line)) {
            (Ok(_), Ok(Reply::Exited { code })) => code,
            // The monitor was killed, or ended before it could answer.
            _ => self.last_code(255)?,
        };
        self.code = code;
        self.leaving()
    }

    /// The exit code of a container that does not run: by its status, or, if it has been removed, by what the journal tells;
    /// `otherwise` if neither does.
    fn last_code(&self, otherwise: i32) -> Result<i32> {
        match status_of(&self.paths, &self.id) {
            Ok(status) if self.paths.container(&self.id).exists() => Ok(status.exit_code),
            Err(e) if e.kind() != Kind::NotFound => Err(e),
            _ => Ok(self.journalled()?.unwrap_or(otherwise)),
        }
    }

    /// The exit code of its last end since the waiting began, by the event journal.
    fn journalled(&self) -> Result<Option<i32>> {
        let mut reader = crate::events::read(&self.paths, self.began);
        let mut code = None;
        while let Some(event) = reader.next_event()? {
            if event.id == self.id && event.action == "die" {
                code = event.attributes.get("exitCode").and_then(|c| c.parse().ok()).or(code);
            }
        }
        Ok(code)
    }
}
