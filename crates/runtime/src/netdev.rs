//! `linux.netDevices`: network devices of the caller that the container gets.
//!
//! A device is moved and renamed in one request, so that its name in the container cannot be in its way here. The kernel
//! takes its addresses away; the permanent ones with global scope are given back, then it is set up. When the container's
//! network namespace ends, the kernel moves physical devices back and removes virtual ones.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use fluyt_model::error::{Error, IoContext, Result};
use fluyt_sys::clone;
use fluyt_sys::netlink::{Attr, Batch, Failure, Protocol, Socket, consts as nl};

use crate::spec::NetDevice;

/// Offsets in `struct ifaddrmsg`.
const PREFIX: usize = 1;
const FLAGS: usize = 2;
const SCOPE: usize = 3;

/// An address that goes along.
struct Address {
    family: u8,
    prefix: u8,
    value: Vec<u8>,
}

/// Moves the devices into the network namespace `target`.
pub(crate) fn move_all(devices: &BTreeMap<String, NetDevice>, target: &OwnedFd) -> Result<()> {
    let mut here = Socket::open(Protocol::Route).about(|| "netlink socket")?;
    let mut there = socket_in(target)?;
    for (name, device) in devices {
        let new = if device.name.is_empty() { name } else { &device.name };
        move_one(&mut here, &mut there, name, new, target).map_err(|e| {
            e.context(format!("moving network device {name:?} into the container as {new:?}"))
        })?;
    }
    Ok(())
}

/// Whether a name can be one of a network device.
pub(crate) fn is_name(name: &str) -> bool {
    let fits = (1..=15).contains(&name.len()) && name != "." && name != "..";
    fits && !name.bytes().any(|b| b == b'/' || b == b':' || b.is_ascii_whitespace())
}

/// A socket of another network namespace: a socket stays where it was opened, so a stepping stone opens it there.
fn socket_in(target: &OwnedFd) -> Result<Socket> {
    let mut socket = None;
    let mut enter = || {
        let kind = rustix::thread::LinkNameSpaceType::Network;
        rustix::thread::move_into_link_name_space(target.as_fd(), Some(kind))?;
        socket = Some(Socket::open(Protocol::Route)?);
        Ok(())
    };
    let mut nothing = || 0;
    let options = clone::Options { before: Some(&mut enter), ..clone::Options::default() };
    let visitor =
        clone::spawn(options, &mut nothing).about(|| "visiting the container's network namespace")?;
    let _ = clone::reap(visitor.pid, true);
    socket.ok_or_else(|| Error::internal("no socket came back from the container's network namespace"))
}

fn move_one(here: &mut Socket, there: &mut Socket, name: &str, new: &str, target: &OwnedFd) -> Result<()> {
    let index = here.link_index(name).about(|| format!("network device {name:?}"))?;
    let addresses = addresses(here, index).map_err(failed)?;
    let mut batch = Batch::new();
    batch.push("setting it down", nl::RTM_NEWLINK, 0, &link(index, 0), |_| {});
    let target = u32::try_from(target.as_raw_fd()).map_err(|_| Error::internal("network namespace"))?;
    batch.push("moving it", nl::RTM_NEWLINK, 0, &link(index, 0), |m| {
        m.str(nl::IFLA_IFNAME, new).u32(nl::IFLA_NET_NS_FD, target);
    });
    here.submit(batch).map_err(failed)?;
    let index = there.link_index(new).about(|| format!("network device {new:?} in the container"))?;
    let mut batch = Batch::new();
    for a in addresses {
        let [b0, b1, b2, b3] = index.to_ne_bytes();
        let header = [a.family, a.prefix, 0, nl::RT_SCOPE_UNIVERSE, b0, b1, b2, b3];
        batch.push(
            "giving back an address",
            nl::RTM_NEWADDR,
            nl::NLM_F_CREATE | nl::NLM_F_EXCL,
            &header,
            |m| {
                m.bytes(nl::IFA_LOCAL, &a.value).bytes(nl::IFA_ADDRESS, &a.value);
            },
        );
    }
    batch.push("setting it up", nl::RTM_NEWLINK, 0, &link(index, nl::IFF_UP), |_| {});
    there.submit(batch).map_err(failed)
}

/// `struct ifinfomsg` that changes whether the device is up.
fn link(index: u32, flags: u32) -> [u8; 16] {
    let mut header = [0; 16];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..16].copy_from_slice(&nl::IFF_UP.to_ne_bytes());
    header
}

/// The permanent addresses with global scope of a device.
fn addresses(socket: &mut Socket, index: u32) -> std::result::Result<Vec<Address>, Failure> {
    let mut batch = Batch::new();
    batch.push("reading addresses", nl::RTM_GETADDR, nl::NLM_F_DUMP, &[0; 8], |_| {});
    let mut found = Vec::new();
    socket.query(batch, |reply| {
        let head = |at: usize| reply.payload.get(at).copied().unwrap_or(0);
        let flags = reply.attrs(8).find(nl::IFA_FLAGS).map_or(u32::from(head(FLAGS)), Attr::u32);
        let kept = flags & nl::IFA_F_PERMANENT != 0 && head(SCOPE) == nl::RT_SCOPE_UNIVERSE;
        if reply.kind != nl::RTM_NEWADDR || reply.u32_at(4) != index || !kept {
            return;
        }
        let value = reply.attrs(8).find(nl::IFA_LOCAL).or_else(|| reply.attrs(8).find(nl::IFA_ADDRESS));
        if let Some(value) = value {
            found.push(Address { family: head(0), prefix: head(PREFIX), value: value.value.to_vec() });
        }
    })?;
    Ok(found)
}

fn failed(f: Failure) -> Error {
    let text = f.text.as_ref().map_or_else(|| f.label.to_owned(), |t| format!("{}: {t}", f.label));
    Error::io(text, f.source)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_devices() {
        for (name, good) in
            [("eth0", true), ("", false), ("a/b", false), ("..", false), ("sixteen-letters-", false)]
        {
            assert_eq!(is_name(name), good, "{name}");
        }
    }
}
