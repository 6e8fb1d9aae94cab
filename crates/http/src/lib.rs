//! A small HTTP/1.1 server: bounded heads, bodies as streams, files sent by the kernel, answers that go on for as long
//! as they like, connections that are handed over whole.
//!
//! It listens on TCP, unix sockets and inherited sockets, with or without TLS, and knows nothing of what it serves.
//! HTTP/2, compression and multipart are absent: no client of a registry or of Docker's API needs them from here.
//!
//! # Map
//! - [`Server`]: the accepting loop; [`Listener`]: where it listens; [`Limits`]: how much it takes.
//! - [`Handler`]: what answers. It gets a [`Request`] and gives a [`Response`] with a [`Payload`].
//! - [`Sink`] is what a payload in chunks writes to, [`Duplex`] a connection that was handed over.
//! - `connection`: one connection, request by request; `pool`: the threads; `socket`, `stream`, `tls`: the bytes.
//!
//! # Why blocking threads
//! What a registry does is moving bytes between files and sockets. A thread that lets the kernel send a file
//! (`sendfile`) does that with a few system calls and no memory of its own; a few hundred such threads cost less than
//! one garbage-collected server, and the program needs no second, asynchronous world beside its synchronous one.
//! Measured with 64 connections that fetch a blob of 20 MB: per gigabyte, `sendfile` takes a third less processor
//! time than reading and writing in pieces (which is all that an asynchronous HTTP library offers), and a sixth of
//! what docker-registry takes. `bench/registry.sh` has the figures of the whole.
//!
//! A thread belongs to a connection only while a request is answered, and for a moment after: most clients ask again
//! at once or not for long. Then the connection waits in one epoll set, with a descriptor and some hundred bytes, and
//! so does one whose head comes in drops. Ten thousand idle ones need no threads. One that is closed while its peer still
//! sends waits there likewise. Answers that go on for as long as the client likes have threads of their own number: no
//! number of them keeps others from being answered.
#![forbid(unsafe_code)]

mod body;
mod connection;
mod duplex;
mod listen;
mod peer;
mod pool;
mod request;
mod response;
mod server;
mod sink;
mod socket;
mod stream;
mod tls;

#[cfg(test)]
mod fuzz;

pub use body::Body;
pub use duplex::Duplex;
pub use listen::{Access, Listener, Place};
pub use peer::Peer;
pub use request::{Head, Method, Request, parse_query};
pub use response::{Conversation, Payload, Response, Telling, date};
pub use server::{Limits, Server};
pub use sink::Sink;
pub use tls::TlsFiles;

/// An answered request, for who writes it down.
#[derive(Debug)]
pub struct Exchange {
    /// Who asked.
    pub peer: Peer,
    /// How.
    pub method: Method,
    /// Path and query, decoded.
    pub target: String,
    /// The path alone, decoded.
    pub path: String,
    /// The answer.
    pub status: u16,
    /// Bytes of the body that were to be sent; of one in chunks, that were sent.
    pub bytes: u64,
    /// From the end of the request's head to the end of the answer.
    pub took: std::time::Duration,
    /// The header, not yet judged.
    pub authorization: String,
    /// What the client says it is.
    pub agent: String,
    /// Whether the answer reached the peer's socket.
    pub sent: bool,
}

/// What answers requests.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request. Never panics; every failure is a response.
    fn handle(&self, request: &mut Request<'_>) -> Response;

    /// Called every [`Limits::tick`] by the accepting thread, for housekeeping that is quick.
    fn tick(&self) {}

    /// The answer when an answer that goes on cannot be given, as [`Limits::followers`] of them are under way. One of
    /// known length.
    fn full(&self) -> Response {
        Response::new(503)
    }

    /// Something is wrong that no request can be told of: a renewed certificate that cannot be read.
    fn trouble(&self, _: &fluyt_model::Error) {}

    /// Whether [`Handler::begun`] and [`Handler::done`] are to be called.
    fn observes(&self) -> bool {
        false
    }

    /// A request begins.
    fn begun(&self) {}

    /// A request has been answered.
    fn done(&self, _: &Exchange) {}
}
