//! Sessions with containers: with those that run, and with those that are yet to be started.
//!
//! ```text
//!   Waiting ──started here──► Live      the monitor is told to attach before the first instruction
//!           ──started by somebody else──► Live
//! ```

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fluyt_engine::{Attach, Frame, LogLine, LogReader, Stream};
use fluyt_model::error::IoContext;
use fluyt_model::{Error, Kind, Result};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use super::Local;
use crate::api::{Attached, Received};

/// So much input is kept for a container that has not been started.
const MAX_PENDING: usize = 1 << 20;

/// From this length on a piece of what was logged is passed on.
const LOGGED_PIECE: usize = 32 * 1024;

/// How often it is looked whether somebody else has started a container.
const LOOK_AGAIN: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// Sessions that wait for a start, by container.
#[derive(Default)]
pub(super) struct Hub {
    waiting: Mutex<HashMap<String, Vec<Arc<Slot>>>>,
}

/// Where whoever starts the container puts the connection.
pub(super) struct Slot {
    /// Becomes readable then.
    ready: OwnedFd,
    pub stdin: bool,
    pub removes: bool,
    content: Mutex<Content>,
}

/// Who sees to the connection of a session that waits.
#[derive(Default)]
enum Content {
    /// Nobody: if somebody else has started the container, the session connects itself.
    #[default]
    Free,
    /// The start that is under way in this process.
    Taken,
    /// It is there.
    Filled(Result<Attach>),
    /// The session has it.
    Connected,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Slot {
    /// Connects the session that waits.
    pub fn fill(&self, attach: Result<Attach>) {
        *locked(&self.content) = Content::Filled(attach);
        // It cannot overflow: it is written once.
        let _ = rustix::io::write(&self.ready, &1_u64.to_ne_bytes());
    }
}

impl Hub {
    fn enter(&self, id: &str, stdin: bool, removes: bool) -> Result<Arc<Slot>> {
        let ready = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).about(|| "eventfd")?;
        let slot = Arc::new(Slot { ready, stdin, removes, content: Mutex::default() });
        locked(&self.waiting).entry(id.to_owned()).or_default().push(Arc::clone(&slot));
        Ok(slot)
    }

    /// Those that wait for a container, the first come first. Whoever takes them connects them or puts them back.
    pub fn take(&self, id: &str) -> Vec<Arc<Slot>> {
        let mut slots = locked(&self.waiting).remove(id).unwrap_or_default();
        slots.retain(|slot| {
            let mut content = locked(&slot.content);
            let free = matches!(*content, Content::Free);
            if free {
                *content = Content::Taken;
            }
            free
        });
        slots
    }

    /// Puts back those whose container could not be started: it may be tried again.
    pub fn put_back(&self, id: &str, slots: Vec<Arc<Slot>>) {
        // One whose session has gone is known to nobody else.
        let slots = slots.into_iter().filter(|slot| Arc::strong_count(slot) > 1);
        let slots = slots.inspect(|slot| *locked(&slot.content) = Content::Free);
        let mut waiting = locked(&self.waiting);
        let list = waiting.entry(id.to_owned()).or_default();
        list.splice(0..0, slots);
        if list.is_empty() {
            waiting.remove(id);
        }
    }

    fn leave(&self, id: &str, slot: &Arc<Slot>) {
        let mut waiting = locked(&self.waiting);
        if let Some(list) = waiting.get_mut(id) {
            list.retain(|other| !Arc::ptr_eq(other, slot));
            if list.is_empty() {
                waiting.remove(id);
            }
        }
    }
}

/// Which output a session wants.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wants {
    pub stdout: bool,
    pub stderr: bool,
}

impl Wants {
    fn wants(self, stream: Stream) -> bool {
        match stream {
            Stream::Stdout => self.stdout,
            Stream::Stderr => self.stderr,
        }
    }
}

/// What a container has logged, as pieces of output. However long the log is, only a piece of it is in memory.
pub(super) struct Logged {
    reader: LogReader,
    /// The first line of the next piece.
    held: Option<LogLine>,
}

impl Logged {
    /// What this reads; it follows nothing.
    pub fn new(reader: LogReader) -> Self {
        Self { reader, held: None }
    }

    /// The next piece, of one stream.
    fn next(&mut self) -> Result<Option<Received>> {
        let first = match self.held.take() {
            Some(line) => Some(line),
            None => self.reader.next_line()?,
        };
        let Some(LogLine { stream, line: mut bytes, .. }) = first else { return Ok(None) };
        while bytes.len() < LOGGED_PIECE {
            match self.reader.next_line()? {
                Some(line) if line.stream == stream => bytes.extend_from_slice(&line.line),
                other => {
                    self.held = other;
                    break;
                }
            }
        }
        Ok(Some(Received::Data(stream, bytes)))
    }
}

/// A session with a container or a command.
pub(super) struct Session {
    /// What comes before anything else: what was logged.
    first: Option<Logged>,
    wants: Wants,
    state: State,
    /// Of what a caller that detaches is told.
    told: Option<Told>,
}

/// An event that is told when the caller detaches.
pub(super) struct Told {
    pub local: Local,
    pub container: String,
    pub action: &'static str,
    /// Of a command.
    pub exec: Option<String>,
}

enum State {
    Live(Attach),
    Waiting(Waiting),
    /// Only what was logged was asked for.
    Over,
}

struct Waiting {
    local: Local,
    id: String,
    slot: Arc<Slot>,
    /// Input that came before the start.
    pending: Vec<u8>,
    input_closed: bool,
    size: Option<(u16, u16)>,
}

impl Waiting {
    /// The connection, if somebody else has started the container; `NotFound` if it has gone.
    fn started_by_others(&self) -> Result<Option<Attach>> {
        let engine = self.local.engine()?;
        if !engine.is_running(&self.id) {
            let there = engine.paths().container(&self.id).exists();
            return if there { Ok(None) } else { Err(Error::not_found(self.id.clone())) };
        }
        match engine.attach_quietly(&self.id, self.slot.stdin) {
            Ok(attach) => Ok(Some(attach)),
            Err(e) if matches!(e.kind(), Kind::Conflict | Kind::Unavailable) => Ok(None),
            Err(e) => Err(e),
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.local.shared.hub.leave(&self.id, &self.slot);
    }
}

impl Session {
    /// With a container that runs.
    pub fn live(attach: Attach, wants: Wants) -> Self {
        Self { first: None, wants, state: State::Live(attach), told: None }
    }

    /// With one that does not run yet.
    pub fn waiting(local: &Local, id: &str, stdin: bool, removes: bool, wants: Wants) -> Result<Self> {
        let slot = local.shared.hub.enter(id, stdin, removes)?;
        let waiting = Waiting {
            local: local.clone(),
            id: id.to_owned(),
            slot,
            pending: Vec::new(),
            input_closed: false,
            size: None,
        };
        Ok(Self { first: None, wants, state: State::Waiting(waiting), told: None })
    }

    /// With nothing but what was logged.
    pub fn over(wants: Wants) -> Self {
        Self { first: None, wants, state: State::Over, told: None }
    }

    /// Says what is told when the caller detaches.
    #[must_use]
    pub fn telling(mut self, told: Told) -> Self {
        self.told = Some(told);
        self
    }

    /// Puts what was logged before everything else.
    #[must_use]
    pub fn after(mut self, logged: Option<Logged>) -> Self {
        self.first = logged;
        self
    }

    /// Goes on as a live session if the container has been started; whether it has.
    fn connect(&mut self) -> Result<bool> {
        let State::Waiting(waiting) = &mut self.state else { return Ok(true) };
        let mut content = locked(&waiting.slot.content);
        let attach = match std::mem::replace(&mut *content, Content::Connected) {
            Content::Filled(attach) => attach?,
            Content::Free => match waiting.started_by_others() {
                Ok(Some(attach)) => attach,
                other => {
                    *content = Content::Free;
                    drop(content);
                    if let Err(e) = other {
                        self.state = State::Over;
                        // What has been removed will not be started.
                        return if e.kind() == Kind::NotFound { Ok(true) } else { Err(e) };
                    }
                    return Ok(false);
                }
            },
            other => {
                *content = other;
                return Ok(false);
            }
        };
        drop(content);
        let (pending, closed, size) =
            (std::mem::take(&mut waiting.pending), waiting.input_closed, waiting.size);
        self.state = State::Live(attach);
        if let Some((rows, columns)) = size {
            self.resize(rows, columns)?;
        }
        if !pending.is_empty() {
            self.write(&pending)?;
        }
        if closed {
            self.close_input()?;
        }
        Ok(true)
    }

    /// Waits for the start.
    fn wait_for_start(&mut self) -> Result<()> {
        while let State::Waiting(waiting) = &self.state {
            let mut fds = [PollFd::from_borrowed_fd(waiting.slot.ready.as_fd(), PollFlags::IN)];
            match poll(&mut fds, Some(&LOOK_AGAIN)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(std::io::Error::from(e)).about(|| "poll"),
            }
            self.connect()?;
        }
        Ok(())
    }

    fn received(&self, frame: Frame) -> Option<Received> {
        match frame {
            Frame::Data(stream, bytes) => self.wants.wants(stream).then_some(Received::Data(stream, bytes)),
            Frame::Exited(code) => Some(Received::Exited(code)),
            Frame::Lost => Some(Received::Closed),
        }
    }
}

impl Attached for Session {
    fn buffered(&mut self) -> Result<Option<Received>> {
        if let Some(logged) = &mut self.first {
            match logged.next()? {
                Some(piece) => return Ok(Some(piece)),
                None => self.first = None,
            }
        }
        loop {
            let frame = match &mut self.state {
                State::Live(attach) => attach.buffered()?,
                State::Waiting(_) => return Ok(None),
                State::Over => return Ok(Some(Received::Closed)),
            };
            let Some(frame) = frame else { return Ok(None) };
            if let Some(received) = self.received(frame) {
                return Ok(Some(received));
            }
        }
    }

    fn read(&mut self) -> Result<Received> {
        loop {
            if let Some(received) = self.buffered()? {
                return Ok(received);
            }
            self.wait_for_start()?;
            let State::Live(attach) = &mut self.state else { return Ok(Received::Closed) };
            let frame = attach.read()?;
            if let Some(received) = self.received(frame) {
                return Ok(received);
            }
        }
    }

    fn is_live(&mut self) -> Result<bool> {
        self.connect()
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.state {
            State::Live(attach) => Some(attach.as_fd()),
            State::Waiting(waiting) => Some(waiting.slot.ready.as_fd()),
            State::Over => None,
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        match &mut self.state {
            State::Live(attach) => attach.write(bytes),
            State::Waiting(waiting) if waiting.pending.len() + bytes.len() <= MAX_PENDING => {
                waiting.pending.extend_from_slice(bytes);
                Ok(())
            }
            State::Waiting(_) => {
                self.wait_for_start()?;
                self.write(bytes)
            }
            State::Over => Err(Error::new(Kind::Unavailable, "nothing is attached that takes input")),
        }
    }

    fn close_input(&mut self) -> Result<()> {
        match &mut self.state {
            State::Live(attach) => attach.close_stdin(),
            State::Waiting(waiting) => {
                waiting.input_closed = true;
                Ok(())
            }
            State::Over => Ok(()),
        }
    }

    fn detached(&mut self) {
        let Some(told) = self.told.take() else { return };
        // An event that cannot be told is lost.
        let Ok(engine) = told.local.engine() else { return };
        let exec: Vec<(&str, &str)> = told.exec.iter().map(|id| ("execID", id.as_str())).collect();
        engine.tell_container(&told.container, told.action, &exec);
    }

    fn resize(&mut self, rows: u16, columns: u16) -> Result<()> {
        match &mut self.state {
            State::Live(attach) => attach.resize(rows, columns),
            State::Waiting(waiting) => {
                waiting.size = Some((rows, columns));
                Ok(())
            }
            State::Over => Ok(()),
        }
    }
}
