//! The shapes of answers that take long: followed items, written bytes, progress, attached processes.

use std::io::Write;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use fluyt_model::Result;
use serde::{Deserialize, Serialize};

pub use fluyt_engine::Stream;

use crate::types::is_zero;

/// How long [`Follow::next`] may wait for an item.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wait<'a> {
    /// At most so long; `None`: as long as it takes.
    pub timeout: Option<Duration>,
    /// The waiting also ends, with [`Next::Idle`], when the peer of this socket or pipe has gone.
    pub unless_gone: Option<BorrowedFd<'a>>,
}

impl Wait<'_> {
    /// As long as it takes.
    pub const FOREVER: Wait<'static> = Wait { timeout: None, unless_gone: None };
    /// Not at all.
    pub const NEVER: Wait<'static> = Wait { timeout: Some(Duration::ZERO), unless_gone: None };
}

/// What a followed stream has to give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next<T> {
    /// The next item.
    Item(T),
    /// Nothing yet: the waiting ended otherwise.
    Idle,
    /// There will be no more.
    End,
}

/// A stream of items.
pub trait Follow<T>: Send {
    /// The next item; waits for it as `wait` allows.
    ///
    /// # Errors
    /// The stream breaks.
    fn next(&mut self, wait: Wait<'_>) -> Result<Next<T>>;
}

/// Bytes that are made while they are written. The object has been found; what fails now is the work itself.
pub type Output = Box<dyn FnOnce(&mut (dyn Write + Send)) -> Result<()> + Send>;

/// One message of a pull, a push, a load or a build, as Docker's engine words it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProgressMessage {
    /// Output of a build.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub stream: String,
    /// What is being done.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub status: String,
    /// How far it has come; written even when it is empty, if it is there.
    #[serde(rename = "progressDetail", skip_serializing_if = "Option::is_none")]
    pub detail: Option<ProgressDetail>,
    /// The same as a bar, for old clients.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub progress: String,
    /// The layer or other thing it is about; a tag in the first message of a pull.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// The failure that ended it.
    #[serde(rename = "errorDetail", skip_serializing_if = "Option::is_none")]
    pub error_detail: Option<ErrorDetail>,
    /// The same as a sentence.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub error: String,
    /// What programs read: the id of a built image, the digest of a pushed one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aux: Option<serde_json::Value>,
}

/// How far something has come, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProgressDetail {
    /// Done.
    #[serde(skip_serializing_if = "is_zero")]
    pub current: u64,
    /// Of so many; 0: not known.
    #[serde(skip_serializing_if = "is_zero")]
    pub total: u64,
}

/// A failure in a progress stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ErrorDetail {
    /// The exit code of a build's command.
    #[serde(skip_serializing_if = "is_zero")]
    pub code: i32,
    /// A sentence.
    pub message: String,
}

/// Is told how long work gets on. Calls may come from several threads.
pub trait Progress: Sync {
    /// One message. A sink whose reader has gone says so by failing; the work may stop then.
    ///
    /// # Errors
    /// Nobody listens any more.
    fn tell(&self, message: ProgressMessage) -> Result<()>;

    /// Whether nobody listens any more; work that is silent for long asks now and then.
    fn gone(&self) -> bool {
        false
    }
}

/// Tells nobody.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quiet;

impl Progress for Quiet {
    fn tell(&self, _: ProgressMessage) -> Result<()> {
        Ok(())
    }
}

/// What comes from an attached container or command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    /// Output; with a terminal all of it is `Stdout`.
    Data(Stream, Vec<u8>),
    /// It has ended with this exit code. Not every connection tells.
    Exited(i32),
    /// There will be no more output.
    Closed,
}

/// An attached container or command: output comes, input and sizes go.
pub trait Attached: Send {
    /// Something that has already arrived, if there is any: to be asked before each poll.
    ///
    /// # Errors
    /// The other side speaks nonsense.
    fn buffered(&mut self) -> Result<Option<Received>>;

    /// The next output; waits for it. It is empty when something came that is none.
    ///
    /// # Errors
    /// The connection fails.
    fn read(&mut self) -> Result<Received>;

    /// Readable when there is output, writable when input can be sent without waiting; to be polled for at most 100 ms
    /// while the session is not live. It may be another descriptor after each call of another method; `None` when there
    /// is nothing to wait for.
    fn fd(&self) -> Option<BorrowedFd<'_>>;

    /// Whether the container has been started: until then input is kept, and nothing comes. Looks, and goes on if so;
    /// `read` waits for it.
    ///
    /// # Errors
    /// The container has gone.
    fn is_live(&mut self) -> Result<bool> {
        Ok(true)
    }

    /// Sends input.
    ///
    /// # Errors
    /// `Unavailable` when the other side has gone.
    fn write(&mut self, bytes: &[u8]) -> Result<()>;

    /// Says that there is no more input.
    ///
    /// # Errors
    /// `Unavailable` when the other side has gone.
    fn close_input(&mut self) -> Result<()>;

    /// The caller has detached by its keys, and goes.
    fn detached(&mut self) {}

    /// Tells the terminal its size: rows, columns.
    ///
    /// # Errors
    /// The other side has gone.
    fn resize(&mut self, rows: u16, columns: u16) -> Result<()>;
}
