//! Who is at the other end of a connection.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// The other end of a connection, as the kernel knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// By TCP, from there.
    Tcp(SocketAddr),
    /// By a unix socket, from a process of this user and group.
    Unix {
        /// The effective user when it connected.
        uid: u32,
        /// The effective group.
        gid: u32,
    },
}

impl Peer {
    /// The address, if it has one.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Tcp(address) => Some(address.ip()),
            Self::Unix { .. } => None,
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix { uid, .. } => write!(f, "user {uid}"),
        }
    }
}
