//! The operations of Docker's API over a connection to somebody's daemon: ours or dockerd.
//!
//! Here are the transport (unix, TCP, TLS, ssh) and the client of HTTP/1.1 that it carries. Where the daemon is, is the
//! caller's to say: this module reads no environment and no configuration.

pub mod client;
pub mod dial;
pub mod host;
pub mod tls;
mod wire;

pub use client::Client;
pub use dial::Dialer;
pub use host::Host;
