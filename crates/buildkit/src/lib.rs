//! What `docker buildx` and `docker build` speak with BuildKit: gRPC on a connection that was taken over from the
//! Engine API (`POST /grpc`), and a second connection (`POST /session`) on which the client is the server and gives
//! files, secrets, credentials and agents to the builder.
//!
//! ```text
//! client ──/grpc──────> grpc::server ──> control, gateway ──> Builder (the caller's)
//!    ^                                                           │
//!    └──/session── grpc::client <── session::Session <───────────┘ files, secrets, …
//! ```
//!
//! - [`grpc`] is the transport: blocking calls over HTTP/2, one small event loop a connection.
//! - [`proto`] has the messages, field for field as BuildKit and fsutil number them.
//! - [`session`] is the client's side: what it offers, and how it is asked.
//! - [`service`] answers `Control` and the gateway of a build.
//!
//! What is absent: a solver, an image store, LLB. A build is a front end's name and its attributes here; who carries it
//! out is behind [`Builder`].
#![forbid(unsafe_code)]

mod filesync;
pub mod grpc;
pub mod proto;
pub mod service;
pub mod session;

pub use filesync::Selection;
pub use service::{Build, Builder, Built, Service, Sink};
pub use session::{Offer, Session, Sessions};
