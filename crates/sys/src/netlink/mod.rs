//! Netlink: a blocking socket, a builder for batches of requests, a reader for replies.
//!
//! It knows the framing of netlink, rtnetlink and nfnetlink, and nothing of what the messages mean. A batch is one
//! `sendmsg`; the kernel works through it before that call returns, so the answers are already queued when the
//! socket is read. There is no event loop and no multicast here.

pub mod consts;
mod message;
mod socket;

pub use message::{Attr, Attrs, Batch, Body, Reply};
pub use socket::{Failure, Protocol, Socket};
