//! One plug of a sandbox into a network: a virtual cable to a bridge, or a macvlan link on one of the host's.
//!
//! [`attach`] is on the way of every start. It costs two batches: one in the host's namespace that creates, plugs
//! and raises the host's end, one in the sandbox's that configures the inner end. Nothing here waits for an RCU
//! grace period unless a link of the same name is left over from a namespace that is still dying.

use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use fluyt_model::error::{Error, Result};
use fluyt_sys::netlink::{Batch, Socket};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::addr::{Cidr, Mac, to_ip};
use crate::link::{self, Veth, explain, libc_errno};
use crate::{netns, sysctl};

/// How macvlan links on one parent see each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MacvlanMode {
    /// They exchange frames directly.
    #[default]
    Bridge,
    /// They never do.
    Private,
    /// They do over an external switch that reflects frames.
    Vepa,
    /// One link owns the parent's address.
    Passthru,
}

impl MacvlanMode {
    fn number(self) -> u32 {
        match self {
            Self::Private => 1,
            Self::Vepa => 2,
            Self::Bridge => 4,
            Self::Passthru => 8,
        }
    }
}

/// What the sandbox is plugged into.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Link {
    /// A bridge of ours.
    Bridge {
        /// The bridge's interface.
        ifname: String,
        /// The host's end of the cable, see [`crate::Scope::host_end`]; at most 15 bytes.
        host_ifname: String,
        /// Whether the port exchanges no frames with other isolated ports (`icc` off).
        isolated: bool,
    },
    /// A link of the host.
    Macvlan {
        /// The host's interface.
        parent: String,
        /// How links on the same parent see each other.
        mode: MacvlanMode,
    },
}

/// A route that is not the default route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Destination.
    pub to: Cidr,
    /// Next hop; `None`: the destination is on the link.
    pub via: Option<IpAddr>,
}

/// One plug of a sandbox into a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointSpec {
    /// What it is plugged into.
    pub link: Link,
    /// Name inside the sandbox, `eth0`.
    pub container_ifname: String,
    /// Hardware address that was asked for; `None`: derived from the IPv4 address.
    #[serde(default)]
    pub mac: Option<Mac>,
    /// Addresses with the prefix of their network.
    pub addresses: Vec<Cidr>,
    /// Next hops of the default routes, at most one of each family; none on internal networks, and none where
    /// another network provides the default route.
    #[serde(default)]
    pub gateways: Vec<IpAddr>,
    /// Further routes.
    #[serde(default)]
    pub routes: Vec<Route>,
    /// MTU in bytes; `None`: the kernel's default.
    #[serde(default)]
    pub mtu: Option<u32>,
    /// Parameters inside the sandbox by dotted name; `IFNAME` stands for the interface.
    #[serde(default)]
    pub sysctls: Vec<(String, String)>,
}

impl EndpointSpec {
    /// The hardware address that the endpoint gets.
    #[must_use]
    pub fn mac(&self) -> Mac {
        self.mac.unwrap_or_else(|| {
            let v4 = self.addresses.iter().find_map(|c| match c.addr() {
                IpAddr::V4(a) => Some(a),
                IpAddr::V6(_) => None,
            });
            v4.map_or_else(
                || Mac::of_name(&format!("{:?}{}", self.addresses, self.container_ifname)),
                Mac::of_ipv4,
            )
        })
    }

    fn has_ipv6(&self) -> bool {
        self.addresses.iter().any(|c| !c.is_ipv4())
    }
}

/// Plugs the sandbox whose network namespace is `netns` into its network, and brings its loopback up.
///
/// # Errors
/// `NotFound` if the bridge or the parent link is missing, `Conflict` if the name inside is taken, `Invalid` for an
/// address that the kernel refuses. Nothing is left behind on failure.
pub fn attach(spec: &EndpointSpec, netns: BorrowedFd<'_>) -> Result<()> {
    let mut host = link::socket()?;
    create(spec, &mut host, netns)?;
    let done = configure(spec, netns).and_then(|inner| announce(spec, &mut host, inner));
    if done.is_err()
        && let Ok(mut inner) = netns::inside(netns, link::socket)
    {
        let _ = delete_by_name(&mut inner, &spec.container_ifname);
    }
    done
}

fn create(spec: &EndpointSpec, host: &mut Socket, netns: BorrowedFd<'_>) -> Result<()> {
    match &spec.link {
        Link::Bridge { ifname, host_ifname, isolated } => {
            let master = index_of(host, ifname, "bridge")?;
            let cable = Veth {
                host_name: host_ifname,
                inner_name: &spec.container_ifname,
                mac: spec.mac(),
                mtu: spec.mtu,
                netns: netns.as_raw_fd(),
            };
            // With br_netfilter a port published by a container and used by itself is translated inside the bridge.
            let hairpin = sysctl::read("net/bridge/bridge-nf-call-iptables").is_some_and(|v| v == "1");
            let build = || {
                let mut batch = Batch::new();
                link::create_veth(&mut batch, &cable);
                link::no_ipv6_address(&mut batch, host_ifname);
                link::enslave(&mut batch, host_ifname, master);
                if *isolated || hairpin {
                    link::port_options(&mut batch, host_ifname, *isolated, hairpin);
                }
                batch
            };
            let mut done = host.submit(build());
            // A cable of this name belongs to an earlier run of the same sandbox: its namespace is being torn down.
            if matches!(&done, Err(f) if f.index == Some(0) && f.errno() == libc_errno::EEXIST) {
                delete_by_name(host, host_ifname)?;
                done = host.submit(build());
            }
            done.map_err(|f| {
                if f.index.is_some_and(|i| i > 0) {
                    let _ = delete_by_name(host, host_ifname);
                }
                explain(&format!("cannot plug {host_ifname} into bridge {ifname}"), f)
            })
        }
        Link::Macvlan { parent, mode } => {
            let index = index_of(host, parent, "parent link")?;
            let mut batch = Batch::new();
            let (name, netns) = (&spec.container_ifname, netns.as_raw_fd());
            link::create_macvlan(&mut batch, name, index, mode.number(), spec.mac(), spec.mtu, netns);
            host.submit(batch).map_err(|f| explain(&format!("cannot create a macvlan link on {parent}"), f))
        }
    }
}

fn index_of(socket: &Socket, name: &str, what: &str) -> Result<u32> {
    socket.link_index(name).map_err(|e| {
        Error::io(format!("{what} {name} does not exist"), e)
            .with_kind(fluyt_model::error::Kind::NotFound)
            .with_hint("`ip link` lists the host's links")
    })
}

/// Gives the inner end its addresses, raises it and the loopback, and adds the routes. A socket in there.
fn configure(spec: &EndpointSpec, netns: BorrowedFd<'_>) -> Result<Socket> {
    let name = &spec.container_ifname;
    let mut inner = netns::inside(netns, || {
        let socket = link::socket()?;
        interface_sysctls(spec)?;
        Ok(socket)
    })?;
    let index = index_of(&inner, name, "link")?;
    if matches!(spec.link, Link::Macvlan { .. }) {
        raise_when_free(&mut inner, name, index)?;
    }
    let mut batch = Batch::new();
    link::up(&mut batch, LOOPBACK, None);
    for cidr in &spec.addresses {
        link::address(&mut batch, index, cidr, true);
    }
    link::up(&mut batch, index, None);
    for gateway in &spec.gateways {
        default_route(&mut batch, index, *gateway)?;
    }
    for route in &spec.routes {
        link::route(&mut batch, index, &route.to, route.via, None);
    }
    inner.submit(batch).map_err(|f| explain(&format!("cannot configure {name} in the container"), f))?;
    Ok(inner)
}

/// Brings a macvlan link up. Its hardware address may still be that of the same sandbox's link of before, whose namespace
/// the kernel takes apart in its own time.
fn raise_when_free(inner: &mut Socket, name: &str, index: u32) -> Result<()> {
    const ROUNDS: u32 = 1000;
    for round in 0.. {
        let mut batch = Batch::new();
        link::up(&mut batch, index, None);
        match inner.submit(batch) {
            Ok(()) => break,
            Err(f) if f.errno() == libc_errno::EADDRINUSE && round < ROUNDS => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(f) => return Err(explain(&format!("cannot bring up {name} in the container"), f)),
        }
    }
    Ok(())
}

/// Tells the neighbours a hardware address that was asked for: they may know the address with another one.
///
/// What the kernel says by itself when the link comes up is lost, because it opens the bridge's port only afterwards, and
/// with the first port the bridge. So this waits for them, bounded, and has it said again: the kernel does so when the
/// hardware address is set anew.
fn announce(spec: &EndpointSpec, host: &mut Socket, mut inner: Socket) -> Result<()> {
    const ROUNDS: u32 = 500;
    let Link::Bridge { ifname, host_ifname, .. } = &spec.link else { return Ok(()) };
    let Some(mac) = spec.mac else { return Ok(()) };
    for name in [host_ifname, ifname] {
        for _ in 0..ROUNDS {
            let looked = link::is_operational(host, name);
            if looked.map_err(|f| explain(&format!("cannot look at link {name}"), f))? {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    let mut batch = Batch::new();
    link::hardware_address(&mut batch, index_of(&inner, &spec.container_ifname, "link")?, mac);
    inner.submit(batch).map_err(|f| explain("cannot announce the container's hardware address", f))
}

/// The loopback link's index in every namespace.
const LOOPBACK: u32 = 1;

fn default_route(batch: &mut Batch, index: u32, gateway: IpAddr) -> Result<()> {
    let everything = Cidr::new(to_ip(0, gateway.is_ipv4()), 0)?;
    link::route(batch, index, &everything, Some(gateway), None);
    Ok(())
}

/// Parameters that must be set before the link comes up: no router may reconfigure the sandbox, and an interface
/// without IPv6 addresses speaks no IPv6.
fn interface_sysctls(spec: &EndpointSpec) -> Result<()> {
    let name = &spec.container_ifname;
    if spec.has_ipv6() {
        sysctl::ensure(&format!("net/ipv6/conf/{name}/accept_ra"), "0")?;
        sysctl::ensure(&format!("net/ipv6/conf/{name}/disable_ipv6"), "0")?;
    } else {
        sysctl::ensure(&format!("net/ipv6/conf/{name}/disable_ipv6"), "1")?;
    }
    if spec.mac.is_some() {
        // The address may be known with another hardware address: tell the neighbours. Else it never changes, and a
        // broadcast to every port of the bridge costs more than all the rest.
        sysctl::ensure(&format!("net/ipv4/conf/{name}/arp_notify"), "1")?;
        if spec.has_ipv6() {
            sysctl::ensure(&format!("net/ipv6/conf/{name}/ndisc_notify"), "1")?;
        }
    }
    for (key, value) in &spec.sysctls {
        sysctl::write(&sysctl::path_of(key)?.replace("IFNAME", name), value)?;
    }
    Ok(())
}

/// Brings up the loopback of a sandbox that has no other link.
///
/// # Errors
/// The kernel refuses to enter the namespace or to raise the link.
pub fn loopback_up(netns: BorrowedFd<'_>) -> Result<()> {
    let mut inner = netns::inside(netns, link::socket)?;
    let mut batch = Batch::new();
    link::up(&mut batch, LOOPBACK, None);
    inner.submit(batch).map_err(|f| explain("cannot bring up the container's loopback", f))
}

/// Unplugs a running sandbox from a network. An endpoint that is gone already is no error.
///
/// # Errors
/// The kernel refuses.
pub fn detach(spec: &EndpointSpec, netns: BorrowedFd<'_>) -> Result<()> {
    let mut inner = netns::inside(netns, link::socket)?;
    delete_by_name(&mut inner, &spec.container_ifname)
}

/// Makes `gateways` the default routes of a running sandbox, over its interface `ifname`: after the network that
/// provided them was disconnected, or one with a higher priority was connected.
///
/// # Errors
/// `NotFound` if the interface is missing, else the kernel's refusal.
pub fn set_default_routes(netns: BorrowedFd<'_>, ifname: &str, gateways: &[IpAddr]) -> Result<()> {
    let mut inner = netns::inside(netns, link::socket)?;
    let index = index_of(&inner, ifname, "link")?;
    let mut batch = Batch::new();
    for gateway in gateways {
        default_route(&mut batch, index, *gateway)?;
    }
    inner.submit(batch).map_err(|f| explain(&format!("cannot route over {ifname} in the container"), f))
}

/// Deletes the link `name` if there is one.
pub(crate) fn delete_by_name(socket: &mut Socket, name: &str) -> Result<()> {
    let index = match socket.link_index(name) {
        Ok(index) => index,
        Err(e) if e.raw_os_error() == Some(Errno::NODEV.raw_os_error()) => return Ok(()),
        Err(e) => return Err(Error::io(format!("cannot look up link {name}"), e)),
    };
    let mut batch = Batch::new();
    link::delete(&mut batch, index);
    match socket.submit(batch) {
        Err(f) if f.errno() == libc_errno::ENODEV => Ok(()),
        other => other.map_err(|f| explain(&format!("cannot delete link {name}"), f)),
    }
}
