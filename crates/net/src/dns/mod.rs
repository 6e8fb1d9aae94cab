//! The resolver of user-defined networks: names of the network from a table, all else from the host's servers.
//!
//! Each monitor serves its own sandbox, at 127.0.0.11 port 53 inside the sandbox's network namespace, with sockets
//! opened there by [`Server::open`]; it asks upstream servers from the host's namespace. There is no thread: the
//! server has one descriptor ([`Server::as_fd`](std::os::fd::AsFd)) that becomes readable when there is work, a
//! [`Server::timeout`], and [`Server::run`], which never blocks.
//!
//! The parts: `wire` reads and writes messages, `names` holds the table, `forward` keeps account of questions that
//! are with upstream servers; these three do no I/O but reading the table's files. `server` has the sockets.
//!
//! What it does not do: caching, DNSSEC validation, recursion.

mod forward;
mod names;
mod server;
mod tcp;
mod wire;

pub use names::{Names, NamesFile};
pub use server::{Config, Server};
