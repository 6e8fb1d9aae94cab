//! Documents that come one after the other: events, statistics, the end of a wait, the progress of work.

use std::io::Read;
use std::marker::PhantomData;
use std::os::fd::BorrowedFd;
use std::time::Instant;

use fluyt_model::{Error, Kind, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::de::DeserializeOwned;

use super::client::{Answer, decode};
use crate::api::{Follow, Next, Progress, ProgressMessage, Wait};

/// The longest document in a stream.
const MAX_LINE: usize = 64 << 20;

/// A line of JSON a document.
pub(super) struct Documents<T> {
    lines: Lines,
    what: PhantomData<fn() -> T>,
}

impl<T> Documents<T> {
    pub(super) fn new(answer: Answer) -> Self {
        Self { lines: Lines::new(answer), what: PhantomData }
    }
}

impl<T: DeserializeOwned> Follow<T> for Documents<T> {
    fn next(&mut self, wait: Wait<'_>) -> Result<Next<T>> {
        match self.lines.next(wait)? {
            Next::Item(line) => decode(&line).map(Next::Item),
            Next::Idle => Ok(Next::Idle),
            Next::End => Ok(Next::End),
        }
    }
}

/// The first document of an answer that comes when it comes; then the end.
pub(super) struct Once<T, F> {
    lines: Option<Lines>,
    make: F,
    what: PhantomData<fn() -> T>,
}

impl<T, F> Once<T, F> {
    pub(super) fn new(answer: Answer, make: F) -> Self {
        Self { lines: Some(Lines::new(answer)), make, what: PhantomData }
    }
}

impl<T, F: FnMut(&[u8]) -> Result<T> + Send> Follow<T> for Once<T, F> {
    fn next(&mut self, wait: Wait<'_>) -> Result<Next<T>> {
        let Some(lines) = &mut self.lines else { return Ok(Next::End) };
        match lines.next(wait)? {
            Next::Item(line) => {
                self.lines = None;
                (self.make)(&line).map(Next::Item)
            }
            Next::Idle => Ok(Next::Idle),
            Next::End => {
                Err(Error::new(Kind::Unavailable, "the daemon ended the connection without an answer"))
            }
        }
    }
}

/// The body of an answer by lines; empty ones are passed over.
pub(super) struct Lines {
    answer: Answer,
    buffer: Vec<u8>,
    start: usize,
    over: bool,
}

impl Lines {
    pub(super) fn new(answer: Answer) -> Self {
        Self { answer, buffer: Vec::new(), start: 0, over: false }
    }

    pub(super) fn next(&mut self, wait: Wait<'_>) -> Result<Next<Vec<u8>>> {
        let until = wait.timeout.map(|timeout| Instant::now() + timeout);
        let mut seen = 0;
        loop {
            let pending = &self.buffer[self.start..];
            if let Some(at) = pending[seen..].iter().position(|b| *b == b'\n').map(|at| at + seen) {
                let line = pending[..at].trim_ascii().to_vec();
                self.start += at + 1;
                seen = 0;
                if !line.is_empty() {
                    return Ok(Next::Item(line));
                }
                continue;
            }
            seen = pending.len();
            if self.over {
                let rest = pending.trim_ascii().to_vec();
                self.start = self.buffer.len();
                return Ok(if rest.is_empty() { Next::End } else { Next::Item(rest) });
            }
            if seen > MAX_LINE {
                return Err(Error::new(Kind::Exhausted, "a document of the daemon is too long"));
            }
            if !ready(&mut self.answer, wait.unless_gone, until)? {
                return Ok(Next::Idle);
            }
            self.fill()?;
        }
    }

    fn fill(&mut self) -> Result<()> {
        self.buffer.drain(..self.start);
        self.start = 0;
        let old = self.buffer.len();
        self.buffer.resize(old + (32 << 10), 0);
        let result = self.answer.read(&mut self.buffer[old..]);
        self.buffer.truncate(old + *result.as_ref().unwrap_or(&0));
        match result {
            Ok(0) => self.over = true,
            Ok(_) => {}
            Err(e) => return Err(Error::new(Kind::Unavailable, "the daemon's answer").with_source(e)),
        }
        Ok(())
    }
}

/// Waits until there is something to read; false when the waiting ended otherwise.
pub(super) fn ready(
    answer: &mut Answer,
    also: Option<BorrowedFd<'_>>,
    until: Option<Instant>,
) -> Result<bool> {
    if (also.is_none() && until.is_none()) || answer.is_ready() {
        return Ok(true);
    }
    loop {
        let Some(fd) = answer.fd() else { return Ok(true) };
        let mut fds = vec![PollFd::from_borrowed_fd(fd, PollFlags::IN)];
        fds.extend(also.map(|also| PollFd::from_borrowed_fd(also, PollFlags::RDHUP)));
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        let left = left.map(|left| Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        });
        match poll(&mut fds, left.as_ref()) {
            Ok(_) if fds[0].revents().is_empty() => return Ok(false),
            Ok(_) => {
                let gone = |e| Error::new(Kind::Unavailable, "the daemon's answer").with_source(e);
                if answer.settle().map_err(gone)? {
                    return Ok(true);
                }
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(Error::io("waiting for the daemon", e.into())),
        }
    }
}

/// Hands the messages of a pull, a push, a load or a build on; a failure among them is the failure of the work.
/// `seen` is shown each message before.
pub(super) fn relay(
    answer: Answer,
    progress: &dyn Progress,
    mut seen: impl FnMut(&ProgressMessage),
) -> Result<()> {
    let mut stream = Documents::<ProgressMessage>::new(answer);
    let mut failed = None;
    while let Next::Item(message) = stream.next(Wait::FOREVER)? {
        let detail = message.error_detail.as_ref();
        let text = detail.map(|d| d.message.clone()).filter(|m| !m.is_empty());
        let text = text.or_else(|| Some(message.error.clone()).filter(|m| !m.is_empty()));
        match text {
            Some(text) => failed = Some(Error::new(kind_of(&text), text)),
            None => {
                seen(&message);
                progress.tell(message)?;
            }
        }
    }
    failed.map_or(Ok(()), Err)
}

/// What kind of failure a sentence in a stream is: there is no status any more when it comes.
fn kind_of(text: &str) -> Kind {
    let text = text.to_ascii_lowercase();
    let has = |part: &str| text.contains(part);
    if has("unauthorized") || has("authentication required") || has("no basic auth") {
        Kind::Unauthorized
    } else if has("not found") || has("manifest unknown") || has("does not exist") {
        Kind::NotFound
    } else if has("denied") {
        Kind::PermissionDenied
    } else if has("too many requests") || has("toomanyrequests") {
        Kind::RateLimited
    } else if has("no space left") {
        Kind::Exhausted
    } else {
        Kind::Internal
    }
}
