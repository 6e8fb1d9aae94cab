//! The conversation between the launching process and the init stage, over one `SOCK_SEQPACKET` pair.
//!
//! ```text
//! parent                                child (already in its new namespaces)
//!   Mapped    ---------------------->   may take on its ids        (new user namespace only)
//!   ...                                 mounts, as far as it can
//!   Attached  ---------------------->   is in its cgroups, may enter a cgroup namespace
//!   <----------------------  HooksPoint (only with runtime hooks, or limits too low to mount with)
//!   HooksDone ---------------------->   createContainer hooks, pivot_root, console
//!   <------------------------ Terminal  (with the master)
//!   Filter    ---------------------->   (only with seccomp: compiled while the child mounts)
//!   Go        ---------------------->   identity, capabilities, seccomp
//!   <------------------------- Warning  (what could not be done and is no failure)
//!   <-------------------------- Notify  (with the seccomp descriptor)
//!   <-------------------------- Parked  (create only: waits on its start socket, this conversation ends)
//!   <------------------------- Execing  then end of file: the program runs
//!   <-------------------------- Failed  at any point, with kind and text, then end of file
//! ```
//!
//! End of file on the child's side means that the parent died: the child exits.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::seccomp::Filter;
use fluyt_model::error::{Error, IoContext, Kind, Result};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

/// What the parent tells the child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Order {
    Mapped = b'M',
    Attached = b'A',
    HooksDone = b'H',
    Go = b'G',
}

/// The first byte of the message with the filter.
const FILTER: u8 = b'F';

/// The longest message to the child: a filter of 4096 instructions.
const LONGEST: usize = 40 * 1024;

/// What the child tells the parent.
#[derive(Debug)]
pub(crate) enum Report {
    HooksPoint,
    Terminal(OwnedFd),
    Notify(OwnedFd),
    Parked,
    Execing,
    /// Something that could not be done and that the container can live without.
    Warning(String),
    Failed(Error),
    /// The child's end is closed.
    Eof,
}

/// A connected pair: the parent's end, the child's end.
pub(crate) fn pair() -> Result<(OwnedFd, OwnedFd)> {
    rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .about(|| "socket pair for the init stage")
}

/// The parent's end.
#[derive(Debug)]
pub(crate) struct ParentEnd(pub(crate) OwnedFd);

impl ParentEnd {
    /// A dead child is noticed by [`ParentEnd::next`], so a failed order is no error here.
    pub(crate) fn order(&self, order: Order) {
        let _ = fluyt_sys::pass::send(self.0.as_fd(), &[order as u8], &[]);
    }

    /// Sends the compiled filter; it must come before [`Order::Go`].
    pub(crate) fn filter(&self, filter: &Filter) {
        let mut message = vec![FILTER];
        message.extend(filter.encode());
        let _ = fluyt_sys::pass::send(self.0.as_fd(), &message, &[]);
    }

    pub(crate) fn next(&self) -> Result<Report> {
        let mut buffer = [0u8; 8192];
        let reset =
            |e: &std::io::Error| e.raw_os_error() == Some(rustix::io::Errno::CONNRESET.raw_os_error());
        // A child that ends with orders unread makes the first receive fail; what it said is still to be read then.
        let received = match fluyt_sys::pass::receive(self.0.as_fd(), &mut buffer) {
            Err(e) if reset(&e) => fluyt_sys::pass::receive(self.0.as_fd(), &mut buffer),
            other => other,
        };
        let (n, mut fds) = received.about(|| "message of the init stage")?;
        let mut descriptor = || {
            fds.pop().ok_or_else(|| Error::internal("the init stage sent a message without its descriptor"))
        };
        Ok(match buffer[..n] {
            [] => Report::Eof,
            [b'R', ..] => Report::HooksPoint,
            [b'T', ..] => Report::Terminal(descriptor()?),
            [b'N', ..] => Report::Notify(descriptor()?),
            [b'P', ..] => Report::Parked,
            [b'X', ..] => Report::Execing,
            [b'W', ref text @ ..] => Report::Warning(String::from_utf8_lossy(text).into_owned()),
            [b'E', kind, ref text @ ..] => {
                Report::Failed(Error::new(kind_of(kind), String::from_utf8_lossy(text).into_owned()))
            }
            _ => return Err(Error::internal("the init stage sent an unknown message")),
        })
    }
}

/// The child's end; remembers orders that came early.
#[derive(Debug)]
pub(crate) struct ChildEnd {
    fd: OwnedFd,
    seen: Vec<u8>,
    filter: Option<Filter>,
    buffer: Vec<u8>,
}

impl ChildEnd {
    /// `filtered`: a filter is going to come.
    pub(crate) fn new(fd: OwnedFd, filtered: bool) -> Self {
        let buffer = vec![0; if filtered { LONGEST } else { 8 }];
        Self { fd, seen: Vec::with_capacity(4), filter: None, buffer }
    }

    /// Waits for one order; the orders that come before it are remembered.
    pub(crate) fn await_order(&mut self, order: Order) -> Result<()> {
        while !self.seen.contains(&(order as u8)) {
            let (n, _) = fluyt_sys::pass::receive(self.fd.as_fd(), &mut self.buffer)
                .about(|| "order of the launching process")?;
            if n == 0 {
                // Nobody is left to be told anything.
                fluyt_sys::task::exit_now(1);
            }
            if self.buffer[0] == FILTER {
                self.filter = Filter::decode(&self.buffer[1..n]);
            } else {
                self.seen.push(self.buffer[0]);
            }
        }
        Ok(())
    }

    /// The filter that came before [`Order::Go`].
    pub(crate) fn take_filter(&mut self) -> Result<Filter> {
        self.filter.take().ok_or_else(|| Error::internal("the launching process sent no filter"))
    }

    pub(crate) fn hooks_point(&self) -> Result<()> {
        self.send(b"R", None)
    }

    pub(crate) fn terminal(&self, master: BorrowedFd<'_>) -> Result<()> {
        self.send(b"T", Some(master))
    }

    pub(crate) fn notify(&self, listener: BorrowedFd<'_>) -> Result<()> {
        self.send(b"N", Some(listener))
    }

    pub(crate) fn parked(&self) -> Result<()> {
        self.send(b"P", None)
    }

    pub(crate) fn execing(&self) -> Result<()> {
        self.send(b"X", None)
    }

    pub(crate) fn warning(&self, text: &str) -> Result<()> {
        self.send(&[b"W", text.as_bytes()].concat(), None)
    }

    /// The descriptor of the conversation.
    pub(crate) fn raw(&self) -> std::os::fd::RawFd {
        std::os::fd::AsRawFd::as_raw_fd(&self.fd)
    }

    pub(crate) fn failed(&self, e: &Error) {
        let _ = self.send(&encode_error(e), None);
    }

    /// Puts another connection in place of the first (the start request of a parked container).
    pub(crate) fn replace(&mut self, fd: OwnedFd) {
        self.fd = fd;
    }

    fn send(&self, data: &[u8], fd: Option<BorrowedFd<'_>>) -> Result<()> {
        let fds: &[BorrowedFd<'_>] = fd.as_slice();
        fluyt_sys::pass::send(self.fd.as_fd(), data, fds).about(|| "message to the launching process")
    }
}

fn encode_error(e: &Error) -> Vec<u8> {
    let mut data = vec![b'E', code_of(e.kind())];
    let text = e.chain();
    let mut end = text.len().min(4000);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    data.extend_from_slice(&text.as_bytes()[..end]);
    data
}

fn code_of(kind: Kind) -> u8 {
    Kind::ALL.iter().position(|k| *k == kind).and_then(|i| u8::try_from(i).ok()).unwrap_or(0)
}

fn kind_of(code: u8) -> Kind {
    Kind::ALL.get(usize::from(code)).copied().unwrap_or(Kind::Internal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_words_are_read_though_orders_were_not() {
        let (a, b) = pair().expect("pair");
        let (parent, child) = (ParentEnd(a), ChildEnd::new(b, false));
        parent.order(Order::Go);
        child.failed(&Error::invalid("too late"));
        drop(child);
        assert!(matches!(parent.next().expect("report"), Report::Failed(e) if e.chain() == "too late"));
        assert!(matches!(parent.next().expect("eof"), Report::Eof));
    }

    #[test]
    fn reports_and_orders_cross_the_pair() {
        let (a, b) = pair().expect("pair");
        let (parent, mut child) = (ParentEnd(a), ChildEnd::new(b, false));
        parent.order(Order::Attached);
        parent.order(Order::Go);
        child.await_order(Order::Go).expect("go");
        child.await_order(Order::Attached).expect("attached");
        child.failed(&Error::new(Kind::CommandNotFound, "exec: \"x\": not found"));
        drop(child);
        let Report::Failed(e) = parent.next().expect("report") else { panic!("no failure") };
        assert_eq!((e.kind(), e.chain().as_str()), (Kind::CommandNotFound, "exec: \"x\": not found"));
        assert!(matches!(parent.next().expect("eof"), Report::Eof));
    }
}
