//! A blocking netlink socket. It belongs to the network namespace in which it was opened, wherever it is used.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{self, AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use super::consts::{NLM_F_ACK_TLVS, NLM_F_CAPPED, NLMSG_DONE, NLMSG_ERROR};
use super::message::{Attrs, Batch, HEADER, Reply};

/// Netlink families that are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Links, addresses, routes.
    Route,
    /// nf_tables and connection tracking.
    Netfilter,
}

/// The kernel refused a request, or the socket failed.
#[derive(Debug)]
pub struct Failure {
    /// Index of the request in its batch; `None` if the socket itself failed.
    pub index: Option<usize>,
    /// What the request was for.
    pub label: &'static str,
    /// The kernel's own words, if it had any.
    pub text: Option<String>,
    /// The error number.
    pub source: io::Error,
}

impl Failure {
    fn socket(label: &'static str, e: Errno) -> Self {
        Self { index: None, label, text: None, source: e.into() }
    }

    /// The error number.
    #[must_use]
    pub fn errno(&self) -> i32 {
        self.source.raw_os_error().unwrap_or(libc::EIO)
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.text {
            Some(text) => write!(f, "{}: {}: {}", self.label, text, self.source),
            None => write!(f, "{}: {}", self.label, self.source),
        }
    }
}

impl std::error::Error for Failure {}

/// A netlink socket.
pub struct Socket {
    fd: OwnedFd,
}

/// Room for acknowledgements.
const SMALL: usize = 2 * 1024;
/// Room for the largest datagram that the kernel sends in answer to a lookup. It is given back after each use: a
/// socket may be held for long by a process that must stay small.
const LARGE: usize = 32 * 1024;

impl Socket {
    /// Opens a socket in the caller's network namespace.
    ///
    /// # Errors
    /// The errno of `socket`; `EPROTONOSUPPORT` where the kernel lacks the family.
    pub fn open(protocol: Protocol) -> io::Result<Self> {
        let number = match protocol {
            Protocol::Route => None,
            Protocol::Netfilter => std::num::NonZeroU32::new(libc::NETLINK_NETFILTER.unsigned_abs()),
        }
        .map(net::Protocol::from_raw);
        let fd = net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, number)?;
        extended_acks(&fd);
        Ok(Self { fd })
    }

    /// Sends a batch and waits until every request has taken effect.
    ///
    /// rtnetlink carries on after a refused request; nf_tables undoes the whole batch.
    ///
    /// # Errors
    /// The first request that the kernel refused.
    pub fn submit(&mut self, mut batch: Batch) -> Result<(), Failure> {
        if batch.is_empty() {
            return Ok(());
        }
        batch.acknowledge_last();
        let last = batch.labels.len() - 1;
        self.exchange(&batch, last, SMALL, &mut |_| {})
    }

    /// Sends a batch whose request `acknowledged` carries its own demand for an acknowledgement.
    ///
    /// # Errors
    /// The first request that the kernel refused.
    pub fn submit_until(&mut self, batch: &Batch, acknowledged: usize) -> Result<(), Failure> {
        self.exchange(batch, acknowledged, SMALL, &mut |_| {})
    }

    /// Sends a batch and hands every answer that is not an acknowledgement to `each`: for lookups and dumps.
    ///
    /// # Errors
    /// The first request that the kernel refused.
    pub fn query(&mut self, mut batch: Batch, mut each: impl FnMut(Reply<'_>)) -> Result<(), Failure> {
        if batch.is_empty() {
            return Ok(());
        }
        batch.acknowledge_last();
        let last = batch.labels.len() - 1;
        self.exchange(&batch, last, LARGE, &mut each)
    }

    /// The index of the link `name` in the socket's namespace.
    ///
    /// # Errors
    /// `ENODEV` if there is none.
    pub fn link_index(&self, name: &str) -> io::Result<u32> {
        Ok(net::netdevice::name_to_index(self.fd.as_fd(), name)?)
    }

    fn exchange(
        &mut self,
        batch: &Batch,
        last: usize,
        room: usize,
        each: &mut dyn FnMut(Reply<'_>),
    ) -> Result<(), Failure> {
        let mut buffer = vec![0_u8; room];
        let label = batch.labels[0];
        let sent = retry(|| net::send(&self.fd, &batch.bytes, SendFlags::empty()));
        sent.map_err(|e| Failure::socket(label, e))?;
        let mut first: Option<Failure> = None;
        loop {
            // The answers to a batch are queued before `send` returns; only a dump is continued by reading.
            let flags = if first.is_some() { RecvFlags::DONTWAIT } else { RecvFlags::empty() };
            let got = retry(|| net::recv(&self.fd, &mut buffer[..], flags | RecvFlags::TRUNC));
            let length = match (got, first) {
                (Ok((_, length)), kept) if length <= buffer.len() => {
                    first = kept;
                    length
                }
                (Ok(_), kept) => {
                    return Err(kept.unwrap_or_else(|| Failure::socket(label, Errno::MSGSIZE)));
                }
                (Err(_), Some(kept)) => return Err(kept),
                (Err(e), None) => return Err(Failure::socket(label, e)),
            };
            let mut rest = &buffer[..length];
            while let Some((reply, next)) = Reply::split(rest) {
                rest = next;
                if reply.kind != NLMSG_ERROR && reply.kind != NLMSG_DONE {
                    each(reply);
                    continue;
                }
                if let Some(failure) = refused(&reply, batch) {
                    first.get_or_insert(failure);
                }
                if reply.sequence as usize == last {
                    return first.map_or(Ok(()), Err);
                }
            }
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn retry<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}

/// Reads an acknowledgement: `None` if it says success.
fn refused(reply: &Reply<'_>, batch: &Batch) -> Option<Failure> {
    let code = reply.payload.get(..4).and_then(|b| b.try_into().ok()).map_or(0, i32::from_ne_bytes);
    if code >= 0 {
        return None;
    }
    let index = reply.sequence as usize;
    Some(Failure {
        index: Some(index),
        label: batch.labels.get(index).copied().unwrap_or("request"),
        text: kernel_text(reply),
        source: io::Error::from_raw_os_error(-code),
    })
}

/// The sentence that the kernel adds to a refusal (attribute `NLMSGERR_ATTR_MSG`).
fn kernel_text(reply: &Reply<'_>) -> Option<String> {
    const NLMSGERR_ATTR_MSG: u16 = 1;
    if reply.flags & NLM_F_ACK_TLVS == 0 {
        return None;
    }
    let echoed = if reply.flags & NLM_F_CAPPED != 0 || reply.kind == NLMSG_DONE {
        if reply.kind == NLMSG_DONE { 0 } else { HEADER }
    } else {
        (reply.u32_at(4) as usize).next_multiple_of(4)
    };
    let attrs: Attrs<'_> = reply.attrs(4 + echoed);
    attrs.find(NLMSGERR_ATTR_MSG).map(|a| a.str().to_owned()).filter(|t| !t.is_empty())
}

/// Asks for the kernel's words in refusals, and for refusals that do not repeat the request. Both are comforts: a
/// kernel that refuses them still answers in the plain form.
fn extended_acks(fd: &OwnedFd) {
    for option in [libc::NETLINK_EXT_ACK, libc::NETLINK_CAP_ACK] {
        let on: libc::c_int = 1;
        // SAFETY: `on` outlives the call and its size is given; the descriptor is open.
        unsafe {
            libc::setsockopt(
                fd.as_raw_fd(),
                libc::SOL_NETLINK,
                option,
                (&raw const on).cast(),
                size_of::<libc::c_int>() as libc::socklen_t,
            );
        }
    }
}
