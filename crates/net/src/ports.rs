//! Published ports: reserving them on the host, and the elements of the table that lead them into the sandbox.
//!
//! The data path is the kernel's translation alone. A bound socket that nobody listens on keeps the port from being
//! given to someone else, and tells us when someone else has it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};

use fluyt_model::error::{Error, Kind, Result};
use fluyt_model::sandbox::Protocol;
use fluyt_sys::netlink::Socket;
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, Shutdown, SocketFlags, SocketType, sockopt};
use serde::{Deserialize, Serialize};

use crate::bridge::is_race;
use crate::nft::elements::{self, Elements, Key, Value, protocol_number};
use crate::nft::{self, Firewall, Transaction};
use crate::scope::Scope;

/// A port of a sandbox on the host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortMapping {
    /// Address on the host; `None`: every address of both families. `0.0.0.0` and `::` mean one family.
    #[serde(default)]
    pub host_ip: Option<IpAddr>,
    /// Port on the host; 0: the kernel picks a free one when it is reserved.
    pub host_port: u16,
    /// Port inside the sandbox.
    pub container_port: u16,
    /// Transport protocol.
    #[serde(default)]
    pub protocol: Protocol,
    /// The sandbox's IPv4 address.
    #[serde(default)]
    pub target_v4: Option<Ipv4Addr>,
    /// The sandbox's IPv6 address.
    #[serde(default)]
    pub target_v6: Option<Ipv6Addr>,
}

/// A port held for a sandbox. Closing the socket gives it back.
#[derive(Debug)]
pub struct Reservation {
    /// The bound socket; `None` where the kernel has no sockets of the protocol (SCTP without its module).
    pub socket: Option<OwnedFd>,
    /// The port: as asked for, or as picked.
    pub port: u16,
}

impl PortMapping {
    /// `0.0.0.0:8080/tcp`, as messages show it.
    fn shown(&self) -> String {
        let ip = self.host_ip.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        format!("{}/{}", SocketAddr::new(ip, self.host_port), protocol_name(self.protocol))
    }

    /// The elements of the table for this mapping, with the addresses that each family leads to.
    pub(crate) fn elements(&self, owner: &str) -> Elements {
        let specific = self.host_ip.filter(|ip| !ip.is_unspecified());
        let targets = [self.target_v4.map(IpAddr::V4), self.target_v6.map(IpAddr::V6)];
        let of_family = |target: &IpAddr| self.host_ip.is_none_or(|ip| ip.is_ipv4() == target.is_ipv4());
        targets
            .into_iter()
            .flatten()
            .filter(of_family)
            .flat_map(|target| {
                let key = Key::port(specific, self.protocol, self.host_port, target.is_ipv4());
                let data = elements::target(target, self.container_port);
                let mine = |data| Value { data, comment: owner.to_owned() };
                [(key, mine(data)), (Key::itself(target), mine(Vec::new()))]
            })
            .collect()
    }
}

fn protocol_name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    }
}

/// Takes a port of the host for as long as the returned socket is open.
///
/// # Errors
/// `Conflict` if another process has it, `Invalid` if the address is not one of the host's, `PermissionDenied` for
/// low ports without the right.
pub fn reserve(mapping: &PortMapping) -> Result<Reservation> {
    // One socket for both families where the kernel has IPv6.
    let both = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), mapping.host_port);
    let addr = mapping.host_ip.map_or(both, |ip| SocketAddr::new(ip, mapping.host_port));
    let mut done = bind(mapping.protocol, addr, mapping.host_ip.is_some());
    if mapping.host_ip.is_none() && matches!(done, Err(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL)) {
        let v4 = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), mapping.host_port);
        done = bind(mapping.protocol, v4, true);
    }
    match done {
        Ok((socket, port)) => Ok(Reservation { socket: Some(socket), port }),
        Err(Errno::PROTONOSUPPORT) if mapping.host_port != 0 => {
            Ok(Reservation { socket: None, port: mapping.host_port })
        }
        Err(e) => Err(refusal(mapping, e)),
    }
}

/// [`reserve`] for one of several who hold the same port together: processes of this user that ask for it by this.
///
/// # Errors
/// As there; a port on which closed connections linger counts as taken.
pub fn reserve_beside(mapping: &PortMapping) -> Result<Reservation> {
    let both = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), mapping.host_port);
    let addr = mapping.host_ip.map_or(both, |ip| SocketAddr::new(ip, mapping.host_port));
    let hold = |addr: SocketAddr, one_family| -> Result<OwnedFd, Errno> {
        let fd = open(mapping.protocol, addr, one_family)?;
        sockopt::set_socket_reuseport(&fd, true)?;
        net::bind(&fd, &addr)?;
        Ok(fd)
    };
    let mut done = hold(addr, mapping.host_ip.is_some());
    if mapping.host_ip.is_none() && matches!(done, Err(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL)) {
        done = hold(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), mapping.host_port), true);
    }
    let socket = done.map_err(|e| refusal(mapping, e))?;
    Ok(Reservation { socket: Some(socket), port: mapping.host_port })
}

fn refusal(mapping: &PortMapping, e: Errno) -> Error {
    let error =
        |kind, why: &str| Error::new(kind, format!("failed to bind host port {}: {why}", mapping.shown()));
    let (port, protocol) = (mapping.host_port, protocol_name(mapping.protocol));
    match e {
        Errno::ADDRINUSE => error(Kind::Conflict, "address already in use").with_hint(format!(
            "`ss -lnp 'sport = :{port}'` shows a process that has it, `fluyt ps --filter publish={port}/{protocol}` \
             a container; or publish another port"
        )),
        Errno::ADDRNOTAVAIL => error(Kind::Invalid, "the host has no such address")
            .with_hint("`ip addr` lists the host's addresses"),
        Errno::ACCESS | Errno::PERM => error(Kind::PermissionDenied, "permission denied")
            .with_hint("ports below net.ipv4.ip_unprivileged_port_start need root"),
        e => error(Kind::Internal, &e.to_string()),
    }
}

fn open(protocol: Protocol, addr: SocketAddr, one_family: bool) -> Result<OwnedFd, Errno> {
    let family = if addr.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let (kind, number) = match protocol {
        Protocol::Tcp => (SocketType::STREAM, None),
        Protocol::Udp => (SocketType::DGRAM, None),
        Protocol::Sctp => (SocketType::STREAM, Some(net::ipproto::SCTP)),
    };
    let fd = net::socket_with(family, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, number)?;
    if family == AddressFamily::INET6 {
        sockopt::set_ipv6_v6only(&fd, one_family)?;
    }
    if protocol == Protocol::Udp {
        // What is not translated away would pile up here unread: hold as little of it as the kernel allows.
        sockopt::set_socket_recv_buffer_size(&fd, 1)?;
    }
    Ok(fd)
}

fn bind(protocol: Protocol, addr: SocketAddr, one_family: bool) -> Result<(OwnedFd, u16), Errno> {
    let mut fd = open(protocol, addr, one_family)?;
    match net::bind(&fd, &addr) {
        Err(Errno::ADDRINUSE) if protocol == Protocol::Tcp => {
            fd = open(protocol, addr, one_family)?;
            bind_over_time_wait(fd.as_fd(), addr)?;
        }
        other => other?,
    }
    let local = net::getsockname(&fd)?;
    let port = SocketAddr::try_from(local).map_err(|_| Errno::AFNOSUPPORT)?.port();
    Ok((fd, port))
}

/// Binds a port on which only closed connections linger. With address reuse alone two reservations would both
/// succeed; listening makes the kernel compare in earnest, and shutting down ends the listening but keeps the port.
fn bind_over_time_wait(fd: std::os::fd::BorrowedFd<'_>, addr: SocketAddr) -> Result<(), Errno> {
    sockopt::set_socket_reuseaddr(fd, true)?;
    net::bind(fd, &addr)?;
    net::listen(fd, 0)?;
    net::shutdown(fd, Shutdown::Read)?;
    sockopt::set_socket_reuseaddr(fd, false)
}

/// [`Firewall::publish`] over a connection of its own.
///
/// # Errors
/// As there.
pub fn publish(scope: &Scope, owner: &str, mappings: &[PortMapping]) -> Result<()> {
    Firewall::open()?.publish(scope, owner, mappings)
}

/// [`Firewall::unpublish`] over a connection of its own, whose closing waits for a grace period.
///
/// # Errors
/// As there.
pub fn unpublish(scope: &Scope, owner: &str, mappings: &[PortMapping]) -> Result<()> {
    Firewall::open()?.unpublish(scope, owner, mappings)
}

impl Firewall {
    /// Leads the ports into the sandbox `owner` (its id, shown as a comment). One batch; elements that an earlier
    /// owner of a port left behind are replaced, since the reservation proves that he is gone.
    ///
    /// # Errors
    /// `NotFound` if the table is missing: [`crate::ensure_bridge`] makes it.
    pub fn publish(&mut self, scope: &Scope, owner: &str, mappings: &[PortMapping]) -> Result<()> {
        let wanted: Elements = mappings.iter().flat_map(|m| m.elements(owner)).collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let table = scope.table();
        let mut t = Transaction::new();
        for (key, value) in &wanted {
            elements::add(&mut t, &table, key, value);
        }
        match t.commit(&mut self.socket) {
            Ok(()) => {}
            Err(f) if is_race(f.errno()) => replace(&mut self.socket, &table, &wanted)?,
            Err(f) => return Err(nft::refused(&table, f)),
        }
        forget_flows(&mut self.socket, mappings)
    }

    /// Takes all ports of the sandbox `owner` back. Elements that are gone already, or that belong to somebody else
    /// by now, are left as they are.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn unpublish(&mut self, scope: &Scope, owner: &str, mappings: &[PortMapping]) -> Result<()> {
        const ATTEMPTS: u32 = 5;
        let table = scope.table();
        let held: Elements = mappings.iter().flat_map(|m| m.elements(owner)).collect();
        for attempt in 1..=ATTEMPTS {
            let mut t = Transaction::new();
            for key in held.keys() {
                if elements::get(&mut self.socket, &table, key)?.is_some_and(|v| v.comment == owner) {
                    elements::remove(&mut t, &table, key);
                }
            }
            if t.len() == 0 {
                break;
            }
            match t.commit(&mut self.socket) {
                Ok(()) => break,
                // Somebody changed the table between the look and the removal: nothing was removed, look again.
                Err(f) if attempt < ATTEMPTS && is_race(f.errno()) => {}
                Err(f) => return Err(nft::refused(&table, f)),
            }
        }
        forget_flows(&mut self.socket, mappings)
    }
}

/// The slow way of [`Firewall::publish`]: looks at each element first.
fn replace(firewall: &mut Socket, table: &str, wanted: &Elements) -> Result<()> {
    let mut t = Transaction::new();
    for (key, value) in wanted {
        let now = elements::get(firewall, table, key)?;
        if now.as_ref() == Some(value) {
            continue;
        }
        if now.is_some() {
            elements::remove(&mut t, table, key);
        }
        elements::add(&mut t, table, key, value);
    }
    t.commit(firewall).map_err(|f| nft::refused(table, f))
}

/// UDP flows outlive their rules: a client that keeps sending would go on to the old place. Forgets those flows.
fn forget_flows(firewall: &mut Socket, mappings: &[PortMapping]) -> Result<()> {
    for mapping in mappings.iter().filter(|m| m.protocol == Protocol::Udp) {
        crate::conntrack::forget(firewall, protocol_number(mapping.protocol), mapping.host_port)?;
    }
    Ok(())
}
