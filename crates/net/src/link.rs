//! The rtnetlink messages: links, addresses, routes. Pure: each function appends to a batch.

use std::net::{IpAddr, Ipv6Addr};

use fluyt_model::error::{Error, Kind, Result};
use fluyt_sys::netlink::consts::*;
use fluyt_sys::netlink::{Batch, Body, Failure, Protocol, Socket};

use crate::addr::{Cidr, Mac, octets};

const AF_UNSPEC: u8 = 0;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const AF_INET6_ATTR: u16 = 10;

/// Opens an rtnetlink socket in the current namespace.
pub(crate) fn socket() -> Result<Socket> {
    Socket::open(Protocol::Route).map_err(|e| Error::io("cannot open a rtnetlink socket", e))
}

/// Names the object of a refused request and sorts the errno into a kind.
pub(crate) fn explain(object: &str, failure: Failure) -> Error {
    let kind = match failure.errno() {
        libc_errno::EPERM | libc_errno::EACCES => Kind::PermissionDenied,
        libc_errno::EEXIST | libc_errno::EBUSY | libc_errno::EADDRINUSE => Kind::Conflict,
        libc_errno::ENODEV | libc_errno::ENOENT => Kind::NotFound,
        libc_errno::EOPNOTSUPP | libc_errno::EPROTONOSUPPORT => Kind::Unsupported,
        _ => Kind::Internal,
    };
    Error::new(kind, object.to_owned()).with_source(failure)
}

/// Error numbers that decisions depend on.
pub(crate) mod libc_errno {
    use rustix::io::Errno;
    pub(crate) const EPERM: i32 = Errno::PERM.raw_os_error();
    pub(crate) const EACCES: i32 = Errno::ACCESS.raw_os_error();
    pub(crate) const EEXIST: i32 = Errno::EXIST.raw_os_error();
    pub(crate) const EBUSY: i32 = Errno::BUSY.raw_os_error();
    pub(crate) const EADDRINUSE: i32 = Errno::ADDRINUSE.raw_os_error();
    pub(crate) const ENODEV: i32 = Errno::NODEV.raw_os_error();
    pub(crate) const ENOENT: i32 = Errno::NOENT.raw_os_error();
    pub(crate) const EOPNOTSUPP: i32 = Errno::OPNOTSUPP.raw_os_error();
    pub(crate) const EPROTONOSUPPORT: i32 = Errno::PROTONOSUPPORT.raw_os_error();
}

/// `struct ifinfomsg`.
fn link_header(index: u32, flags: u32, change: u32) -> [u8; 16] {
    let mut h = [0_u8; 16];
    h[0] = AF_UNSPEC;
    h[4..8].copy_from_slice(&index.to_ne_bytes());
    h[8..12].copy_from_slice(&flags.to_ne_bytes());
    h[12..16].copy_from_slice(&change.to_ne_bytes());
    h
}

/// A link of any kind, up at once if `up`.
pub(crate) fn create_bridge(batch: &mut Batch, name: &str, mac: Mac, mtu: Option<u32>) {
    let header = link_header(0, 0, 0);
    batch.push("create the bridge", RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &header, |m| {
        m.str(IFLA_IFNAME, name).bytes(IFLA_ADDRESS, &mac.0);
        if let Some(mtu) = mtu {
            m.u32(IFLA_MTU, mtu);
        }
        m.nest(IFLA_LINKINFO, |m| {
            m.str(IFLA_INFO_KIND, "bridge").nest(IFLA_INFO_DATA, |m| {
                m.u32(IFLA_BR_FORWARD_DELAY, 0).u32(IFLA_BR_STP_STATE, 0);
            });
        });
    });
}

/// Both ends of a virtual cable.
pub(crate) struct Veth<'a> {
    pub(crate) host_name: &'a str,
    pub(crate) inner_name: &'a str,
    pub(crate) mac: Mac,
    pub(crate) mtu: Option<u32>,
    /// Descriptor number of the namespace of the inner end.
    pub(crate) netns: i32,
}

/// Creates a cable whose inner end is born inside the other namespace. Both ends are still down.
///
/// One queue each: a virtual cable has no queues to steer to, and on a large machine each one costs a kobject.
pub(crate) fn create_veth(batch: &mut Batch, v: &Veth<'_>) {
    let common = |m: &mut Body<'_>| {
        m.u32(IFLA_NUM_TX_QUEUES, 1).u32(IFLA_NUM_RX_QUEUES, 1);
        if let Some(mtu) = v.mtu {
            m.u32(IFLA_MTU, mtu);
        }
    };
    let header = link_header(0, 0, 0);
    batch.push("create the veth pair", RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &header, |m| {
        m.str(IFLA_IFNAME, v.host_name);
        common(m);
        m.nest(IFLA_LINKINFO, |m| {
            m.str(IFLA_INFO_KIND, "veth").nest(IFLA_INFO_DATA, |m| {
                m.nest(VETH_INFO_PEER, |m| {
                    m.raw(&link_header(0, 0, 0)).str(IFLA_IFNAME, v.inner_name).bytes(IFLA_ADDRESS, &v.mac.0);
                    common(m);
                    m.u32(IFLA_NET_NS_FD, v.netns.cast_unsigned());
                });
            });
        });
    });
}

/// Creates a macvlan link on `parent` directly inside another namespace.
pub(crate) fn create_macvlan(
    batch: &mut Batch,
    name: &str,
    parent: u32,
    mode: u32,
    mac: Mac,
    mtu: Option<u32>,
    netns: i32,
) {
    let header = link_header(0, 0, 0);
    batch.push("create the macvlan link", RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &header, |m| {
        m.str(IFLA_IFNAME, name).u32(IFLA_LINK, parent).bytes(IFLA_ADDRESS, &mac.0);
        m.u32(IFLA_NET_NS_FD, netns.cast_unsigned());
        if let Some(mtu) = mtu {
            m.u32(IFLA_MTU, mtu);
        }
        m.nest(IFLA_LINKINFO, |m| {
            m.str(IFLA_INFO_KIND, "macvlan").nest(IFLA_INFO_DATA, |m| {
                m.u32(IFLA_MACVLAN_MODE, mode);
            });
        });
    });
}

/// Keeps the kernel from giving the link `name` an IPv6 address of its own. It must still be down.
pub(crate) fn no_ipv6_address(batch: &mut Batch, name: &str) {
    batch.push("switch off address generation", RTM_NEWLINK, 0, &link_header(0, 0, 0), |m| {
        m.str(IFLA_IFNAME, name).nest(IFLA_AF_SPEC, |m| {
            m.nest(AF_INET6_ATTR, |m| {
                m.u8(IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE);
            });
        });
    });
}

/// Makes the link `name` a port of the bridge `master` and brings it up.
pub(crate) fn enslave(batch: &mut Batch, name: &str, master: u32) {
    batch.push("plug into the bridge", RTM_NEWLINK, 0, &link_header(0, IFF_UP, IFF_UP), |m| {
        m.str(IFLA_IFNAME, name).u32(IFLA_MASTER, master);
    });
}

/// Sets options of the bridge port `name`. `isolated`: it exchanges no frames with other isolated ports. `hairpin`: a
/// frame may leave by the port by which it came.
pub(crate) fn port_options(batch: &mut Batch, name: &str, isolated: bool, hairpin: bool) {
    batch.push("set options of the bridge port", RTM_NEWLINK, 0, &link_header(0, 0, 0), |m| {
        m.str(IFLA_IFNAME, name).nest(IFLA_LINKINFO, |m| {
            m.str(IFLA_INFO_SLAVE_KIND, "bridge").nest(IFLA_INFO_SLAVE_DATA, |m| {
                m.u8(IFLA_BRPORT_ISOLATED, isolated.into()).u8(IFLA_BRPORT_MODE, hairpin.into());
            });
        });
    });
}

/// Brings a link up, and sets its MTU if one is given.
pub(crate) fn up(batch: &mut Batch, index: u32, mtu: Option<u32>) {
    batch.push("bring the link up", RTM_NEWLINK, 0, &link_header(index, IFF_UP, IFF_UP), |m| {
        if let Some(mtu) = mtu {
            m.u32(IFLA_MTU, mtu);
        }
    });
}

/// Deletes a link and its peer.
pub(crate) fn delete(batch: &mut Batch, index: u32) {
    batch.push("delete the link", RTM_DELLINK, 0, &link_header(index, 0, 0), |_| {});
}

/// Asks for one link by name.
pub(crate) fn get(batch: &mut Batch, name: &str) {
    batch.push("look at the link", RTM_GETLINK, 0, &link_header(0, 0, 0), |m| {
        m.str(IFLA_IFNAME, name).u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
    });
}

/// Whether the link `name` carries traffic, as far as the kernel has worked that off.
pub(crate) fn is_operational(socket: &mut Socket, name: &str) -> std::result::Result<bool, Failure> {
    const IF_OPER_UP: u8 = 6;
    let mut batch = Batch::new();
    get(&mut batch, name);
    let mut state = None;
    socket.query(batch, |reply| {
        if reply.kind == RTM_NEWLINK {
            state = reply.attrs(16).find(IFLA_OPERSTATE).and_then(|a| a.value.first().copied());
        }
    })?;
    Ok(state == Some(IF_OPER_UP))
}

/// Sets the hardware address of a link.
pub(crate) fn hardware_address(batch: &mut Batch, index: u32, mac: Mac) {
    batch.push("set the hardware address", RTM_NEWLINK, 0, &link_header(index, 0, 0), |m| {
        m.bytes(IFLA_ADDRESS, &mac.0);
    });
}

/// Adds or removes an address. IPv6 addresses are usable at once: duplicates are excluded by address management.
pub(crate) fn address(batch: &mut Batch, index: u32, cidr: &Cidr, add: bool) {
    let mut header = [0_u8; 8];
    header[0] = if cidr.is_ipv4() { AF_INET } else { AF_INET6 };
    header[1] = cidr.prefix();
    header[2] = IFA_F_PERMANENT as u8;
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    let bytes = octets(cidr.addr());
    let (label, kind, flags) = if add {
        ("add the address", RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE)
    } else {
        ("remove the address", RTM_DELADDR, 0)
    };
    batch.push(label, kind, flags, &header, |m| {
        m.bytes(IFA_LOCAL, &bytes).bytes(IFA_ADDRESS, &bytes);
        if !cidr.is_ipv4() {
            m.u32(IFA_FLAGS, IFA_F_NODAD | IFA_F_PERMANENT);
        } else if cidr.prefix() < 31 {
            m.bytes(IFA_BROADCAST, &octets(cidr.last_addr()));
        }
    });
}

/// Makes `::1` local on the link `index` too: the answer to a translated packet of the host's loopback comes in over it and
/// must find its way. Nothing changes for what the host sends (the loopback link's own route has the better metric), nor
/// for strangers: the kernel drops what comes in from a wire with a loopback address before anything is translated.
pub(crate) fn loopback6_route(batch: &mut Batch, index: u32) {
    let mut header = [0_u8; 12];
    header[0] = AF_INET6;
    header[1] = 128;
    header[4] = RT_TABLE_LOCAL;
    header[5] = RTPROT_STATIC;
    header[7] = RTN_LOCAL;
    batch.push("add the route of ::1", RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, &header, |m| {
        m.bytes(RTA_DST, &Ipv6Addr::LOCALHOST.octets());
        m.u32(RTA_OIF, index);
        // Two routes to one place need two metrics.
        m.u32(RTA_PRIORITY, 0x1_0000 + index);
    });
}

/// Adds a route to `to` by way of `gateway` or straight over the link; replaces one that is the same.
pub(crate) fn route(batch: &mut Batch, index: u32, to: &Cidr, gateway: Option<IpAddr>, metric: Option<u32>) {
    let mut header = [0_u8; 12];
    header[0] = if to.is_ipv4() { AF_INET } else { AF_INET6 };
    header[1] = to.prefix();
    header[4] = RT_TABLE_MAIN;
    header[5] = RTPROT_STATIC;
    header[6] = if gateway.is_none() && to.is_ipv4() { RT_SCOPE_LINK } else { RT_SCOPE_UNIVERSE };
    header[7] = RTN_UNICAST;
    batch.push("add the route", RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, &header, |m| {
        if to.prefix() > 0 {
            m.bytes(RTA_DST, &octets(to.network().addr()));
        }
        if let Some(gateway) = gateway {
            m.bytes(RTA_GATEWAY, &octets(gateway));
        }
        m.u32(RTA_OIF, index);
        if let Some(metric) = metric {
            m.u32(RTA_PRIORITY, metric);
        }
    });
}
