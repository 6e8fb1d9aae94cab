//! One error type for what crosses a crate border: a kind for programs, a sentence for people, a next step.
//!
//! A message names its object (a path, an id, an address) and does not repeat its source: the edge prints the
//! chain once, with [`Error::chain`]. The edge also owns the one table from [`Kind`] to exit codes.

use std::fmt;

/// What went wrong, as far as a program needs to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// The named object does not exist.
    NotFound,
    /// The object exists already, or is in a state that forbids the operation.
    Conflict,
    /// The request itself is malformed or contradictory.
    Invalid,
    /// The kernel or a registry refuses it to this user.
    PermissionDenied,
    /// Credentials are missing or wrong.
    Unauthorized,
    /// A peer asks to slow down.
    RateLimited,
    /// A peer or a resource does not answer, or answers with its own failure.
    Unavailable,
    /// A deadline passed.
    Timeout,
    /// No room: disk, inodes, addresses, memory.
    Exhausted,
    /// This machine or this build cannot do it.
    Unsupported,
    /// Data does not match its digest or its format.
    Corrupt,
    /// The command to run is not in the container (exit code 127).
    CommandNotFound,
    /// The command to run cannot be executed (exit code 126).
    CommandNotExecutable,
    /// Anything else: an I/O error, a defect.
    Internal,
}

impl Kind {
    /// Every kind; a kind's place is its code where one is sent between processes of one version.
    pub const ALL: [Self; 14] = [
        Self::Internal,
        Self::NotFound,
        Self::Conflict,
        Self::Invalid,
        Self::PermissionDenied,
        Self::Unauthorized,
        Self::RateLimited,
        Self::Unavailable,
        Self::Timeout,
        Self::Exhausted,
        Self::Unsupported,
        Self::Corrupt,
        Self::CommandNotFound,
        Self::CommandNotExecutable,
    ];
}

/// An error with its kind, its object in the message, an optional hint and an optional source.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: Kind,
    message: String,
    hint: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync + 'static>>,
}

/// The result of everything that can fail across a crate border.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of `kind` whose `message` names the object it is about.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner { kind, message: message.into(), hint: None, source: None }))
    }

    /// `Kind::NotFound`.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(Kind::NotFound, message)
    }

    /// `Kind::Conflict`.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(Kind::Conflict, message)
    }

    /// `Kind::Invalid`.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, message)
    }

    /// `Kind::Unsupported`.
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::new(Kind::Unsupported, message)
    }

    /// `Kind::Corrupt`.
    pub fn corrupt(message: impl Into<String>) -> Self {
        Self::new(Kind::Corrupt, message)
    }

    /// `Kind::Internal`.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Kind::Internal, message)
    }

    /// An I/O error about `object` (a path, an address, "what was being done to what"); its kind follows the errno.
    pub fn io(object: impl Into<String>, source: std::io::Error) -> Self {
        let kind = kind_of_io(&source);
        Self::new(kind, object).with_source(source)
    }

    /// Adds the next step for the user, a sentence without a final full stop.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Adds the cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Puts `message` before this error, keeping its kind and its hint.
    #[must_use]
    pub fn context(self, message: impl Into<String>) -> Self {
        let (kind, hint) = (self.0.kind, self.0.hint.clone());
        let mut outer = Self::new(kind, message).with_source(self);
        outer.0.hint = hint;
        outer
    }

    /// The same error under another kind.
    #[must_use]
    pub fn with_kind(mut self, kind: Kind) -> Self {
        self.0.kind = kind;
        self
    }

    /// The kind, for programs.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// The next step, if one is known.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// The whole message: this error and each source once, joined by `: `.
    #[must_use]
    pub fn chain(&self) -> String {
        let mut text = self.0.message.clone();
        let mut next = std::error::Error::source(self);
        while let Some(cause) = next {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            next = cause.source();
        }
        text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(|s| &**s as _)
    }
}

/// Names the object of an I/O error at the place where it is known.
pub trait IoContext<T> {
    /// Turns an I/O error into an [`Error`] about `object()`.
    ///
    /// # Errors
    /// The I/O error, with the object named.
    fn about<S: Into<String>>(self, object: impl FnOnce() -> S) -> Result<T>;
}

impl<T, E: Into<std::io::Error>> IoContext<T> for std::result::Result<T, E> {
    fn about<S: Into<String>>(self, object: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|e| Error::io(object(), e.into()))
    }
}

fn kind_of_io(e: &std::io::Error) -> Kind {
    use std::io::ErrorKind as K;
    match e.kind() {
        K::NotFound => Kind::NotFound,
        K::AlreadyExists => Kind::Conflict,
        K::PermissionDenied | K::ReadOnlyFilesystem => Kind::PermissionDenied,
        K::TimedOut => Kind::Timeout,
        K::StorageFull | K::QuotaExceeded | K::FileTooLarge => Kind::Exhausted,
        K::Unsupported => Kind::Unsupported,
        K::ConnectionRefused | K::ConnectionReset | K::ConnectionAborted | K::BrokenPipe => Kind::Unavailable,
        _ => Kind::Internal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_names_every_cause_once() {
        let io = std::io::Error::from_raw_os_error(2);
        let e = Error::io("/etc/x", io).context("container web");
        assert_eq!(e.kind(), Kind::NotFound);
        assert_eq!(e.chain(), "container web: /etc/x: No such file or directory (os error 2)");
    }
}
