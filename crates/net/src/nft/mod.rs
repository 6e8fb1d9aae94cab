//! Our nftables table: a fixed set of chains and rules, made once, and sets whose elements are all that changes
//! when a network or a container comes and goes.
//!
//! Nothing outside the table is read for a decision or written. See ARCHITECTURE.md, "Network and the host's
//! firewall", for what the rules promise.

pub(crate) mod elements;
mod expr;
pub(crate) mod ruleset;

use fluyt_model::error::{Error, Kind, Result};
use fluyt_sys::netlink::consts::*;
use fluyt_sys::netlink::{Batch, Body, Failure, Protocol, Socket};

use crate::link::explain;

/// Opens an nfnetlink socket in the current namespace.
pub(crate) fn socket() -> Result<Socket> {
    Socket::open(Protocol::Netfilter).map_err(|e| {
        Error::io("cannot open a netfilter socket", e)
            .with_hint("the kernel needs CONFIG_NF_TABLES and CONFIG_NF_TABLES_INET")
    })
}

/// A connection to the kernel's firewall, for a process that uses it more than once.
///
/// The kernel waits for a grace period (some 10 ms) when such a connection is closed while removed elements are
/// still being freed, by whomever. A process in a hurry keeps this open until its work is reported.
pub struct Firewall {
    pub(crate) socket: Socket,
}

impl Firewall {
    /// Connects, in the current network namespace.
    ///
    /// # Errors
    /// `Unsupported` or `Internal` where the kernel has no nf_tables.
    pub fn open() -> Result<Self> {
        Ok(Self { socket: socket()? })
    }
}

/// `struct nfgenmsg`.
pub(crate) fn header(family: u8, resource: u16) -> [u8; 4] {
    let [a, b] = resource.to_be_bytes();
    [family, 0, a, b]
}

/// nf_tables requests that take effect all together or not at all.
pub(crate) struct Transaction {
    batch: Batch,
}

impl Transaction {
    pub(crate) fn new() -> Self {
        let mut batch = Batch::new();
        let subsystem = header(0, NFNL_SUBSYS_NFTABLES);
        batch.push("begin the transaction", NFNL_MSG_BATCH_BEGIN, 0, &subsystem, |_| {});
        Self { batch }
    }

    pub(crate) fn push(
        &mut self,
        label: &'static str,
        message: u16,
        flags: u16,
        fill: impl FnOnce(&mut Body<'_>),
    ) {
        self.batch.push(label, kind(message), flags, &header(NFPROTO_INET, 0), fill);
    }

    /// Number of requests so far.
    pub(crate) fn len(&self) -> usize {
        self.batch.len() - 1
    }

    /// Carries the transaction out; the index in a failure counts from this transaction's first request.
    pub(crate) fn commit(mut self, socket: &mut Socket) -> Result<(), Failure> {
        let requests = self.len();
        if requests == 0 {
            return Ok(());
        }
        self.batch.acknowledge_last();
        let subsystem = header(0, NFNL_SUBSYS_NFTABLES);
        self.batch.push("end the transaction", NFNL_MSG_BATCH_END, 0, &subsystem, |_| {});
        socket.submit_until(&self.batch, requests).map_err(|mut f| {
            f.index = f.index.and_then(|i| i.checked_sub(1));
            f
        })
    }
}

/// The message type of an nf_tables message.
pub(crate) fn kind(message: u16) -> u16 {
    NFNL_SUBSYS_NFTABLES << 8 | message
}

/// Explains a refused transaction.
pub(crate) fn refused(table: &str, failure: Failure) -> Error {
    let missing = matches!(
        failure.errno(),
        crate::link::libc_errno::EOPNOTSUPP | crate::link::libc_errno::EPROTONOSUPPORT
    );
    let error = explain(&format!("nftables table inet {table}"), failure);
    if missing {
        error.with_kind(Kind::Unsupported).with_hint(
            "the kernel needs nf_tables with NAT and fib (modules nf_tables, nft_nat, nft_fib_inet)",
        )
    } else {
        error
    }
}
