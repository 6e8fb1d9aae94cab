//! gRPC over HTTP/2, as far as BuildKit's clients use it: unary calls and streams, metadata, status; no compression.
//!
//! Both ends are blocking for their users. A connection has one thread with an event loop of its own; calls and the loop
//! exchange whole messages over bounded queues, so a slow side holds the other back.

mod client;
mod server;
mod socket;
mod stream;

use std::fmt;

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

pub use client::{Client, Stream};
pub use server::{Call, Handler, serve};
pub use socket::Socket;

/// The longest message that is taken, in bytes. BuildKit's own limit is 16 MiB.
const MAX_MESSAGE: usize = 32 << 20;

/// Codes of gRPC (its documentation, "Status codes and their use in gRPC").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// Done.
    Ok = 0,
    /// The caller gave up.
    Cancelled = 1,
    /// Something else.
    Unknown = 2,
    /// The request makes no sense.
    InvalidArgument = 3,
    /// There is no such thing.
    NotFound = 5,
    /// The caller may not.
    PermissionDenied = 7,
    /// Some limit.
    ResourceExhausted = 8,
    /// Not in this state.
    FailedPrecondition = 9,
    /// There is no such method here.
    Unimplemented = 12,
    /// A defect.
    Internal = 13,
    /// The other side has gone.
    Unavailable = 14,
}

impl Code {
    pub(crate) fn from_number(number: u32) -> Self {
        const ALL: [Code; 11] = [
            Code::Ok,
            Code::Cancelled,
            Code::Unknown,
            Code::InvalidArgument,
            Code::NotFound,
            Code::PermissionDenied,
            Code::ResourceExhausted,
            Code::FailedPrecondition,
            Code::Unimplemented,
            Code::Internal,
            Code::Unavailable,
        ];
        ALL.into_iter().find(|code| *code as u32 == number).unwrap_or(Self::Unknown)
    }
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The code.
    pub code: Code,
    /// For people.
    pub message: String,
}

impl Status {
    /// A status.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// The method is not here.
    #[must_use]
    pub fn unimplemented(method: &str) -> Self {
        Self::new(Code::Unimplemented, format!("unknown method {method}"))
    }

    fn gone(why: impl fmt::Display) -> Self {
        Self::new(Code::Unavailable, format!("the connection is gone: {why}"))
    }

    /// The message as `grpc-message` carries it.
    fn encoded(&self) -> String {
        /// What a header cannot carry, and the sign of the encoding itself.
        const UNSAFE: AsciiSet = CONTROLS.add(b'%');
        utf8_percent_encode(&self.message, &UNSAFE).to_string()
    }

    /// The status in the trailers of an answer; none: the answer was cut off.
    fn of(trailers: &http::HeaderMap) -> Option<Self> {
        let number = trailers.get("grpc-status")?.to_str().ok()?.parse().ok()?;
        let message =
            trailers.get("grpc-message").map(|m| String::from_utf8_lossy(m.as_bytes()).into_owned());
        let message = percent_decode_str(&message.unwrap_or_default()).decode_utf8_lossy().into_owned();
        Some(Self { code: Code::from_number(number), message })
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Status {}

impl From<Status> for fluyt_model::Error {
    fn from(status: Status) -> Self {
        use fluyt_model::Kind;
        let kind = match status.code {
            Code::NotFound => Kind::NotFound,
            Code::InvalidArgument => Kind::Invalid,
            Code::Unimplemented => Kind::Unsupported,
            Code::Unavailable | Code::Cancelled => Kind::Unavailable,
            _ => Kind::Internal,
        };
        Self::new(kind, status.message)
    }
}
