//! A small HTTP/1.1 server: one thread a connection, bounded heads, bodies as streams, files sent in large pieces.
//!
//! It knows nothing of registries. HTTP/2, compression and multipart are absent: no client of a registry needs them.
//!
//! # Why blocking threads
//! What a registry does is moving bytes between files and sockets. A thread with a 128 KiB buffer does that with two
//! system calls a piece; a few hundred of them cost less memory than one garbage-collected server, and the program
//! needs no second, asynchronous world beside its synchronous one. `bench/registry.sh` has the figures.

mod body;
mod connection;
mod listen;
mod request;
mod response;
mod stream;

pub(crate) use body::Body;
pub(crate) use listen::{Listening, Server};
pub(crate) use request::{Head, Method, Request, parse_query};
pub(crate) use response::{Payload, Response};
pub(crate) use stream::TlsFiles;

/// What answers requests.
pub(crate) trait Handler: Send + Sync + 'static {
    /// Answers one request. Never panics; every failure is a response.
    fn handle(&self, request: &mut Request<'_>) -> Response;

    /// Called about once a second by the accepting thread, for housekeeping that is quick.
    fn tick(&self) {}
}
