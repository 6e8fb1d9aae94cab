//! A small HTTP/1.1 server: one thread a connection, bounded heads, bodies as streams, files sent in large pieces.
//!
//! It knows nothing of registries. HTTP/2, compression and multipart are absent: no client of a registry needs them.
//!
//! # Why blocking threads
//! What a registry does is moving bytes between files and sockets. A thread that lets the kernel send a file
//! (`sendfile`) does that with a few system calls and no memory of its own; a few hundred such threads cost less than
//! one garbage-collected server, and the program needs no second, asynchronous world beside its synchronous one.
//! Measured with 64 connections that fetch a blob of 20 MB: per gigabyte, `sendfile` takes a third less processor
//! time than reading and writing in pieces (which is all that an asynchronous HTTP library offers), and a sixth of
//! what docker-registry takes. `bench/registry.sh` has the figures of the whole.

mod body;
mod connection;
mod listen;
mod request;
mod response;
mod stream;

#[cfg(test)]
mod fuzz;

pub(crate) use body::Body;
pub(crate) use listen::{Listening, MAX_CONNECTIONS, Server};
pub(crate) use request::{Head, Method, Request, parse_query};
pub(crate) use response::{Payload, Response, date};
pub(crate) use stream::TlsFiles;

/// An answered request, for who writes it down.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub peer: std::net::IpAddr,
    pub method: Method,
    /// Path and query.
    pub target: String,
    pub path: String,
    pub status: u16,
    /// Bytes of the body that were to be sent.
    pub bytes: u64,
    pub took: std::time::Duration,
    /// The header, not yet judged.
    pub authorization: String,
    pub agent: String,
    /// Whether the answer reached the peer's socket.
    pub sent: bool,
}

/// What answers requests.
pub(crate) trait Handler: Send + Sync + 'static {
    /// Answers one request. Never panics; every failure is a response.
    fn handle(&self, request: &mut Request<'_>) -> Response;

    /// Called about once a second by the accepting thread, for housekeeping that is quick.
    fn tick(&self) {}

    /// Whether [`Handler::begun`] and [`Handler::done`] are to be called.
    fn observes(&self) -> bool {
        false
    }

    /// A request begins.
    fn begun(&self) {}

    /// A request has been answered.
    fn done(&self, _: &Exchange) {}
}
