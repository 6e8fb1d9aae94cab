//! Bridges: the link, its addresses, the kernel parameters and the elements of the firewall table that go with it.

use std::net::{IpAddr, Ipv4Addr};

use fluyt_model::error::{Kind, Result};
use fluyt_sys::netlink::consts::*;
use fluyt_sys::netlink::{Batch, Socket};
use serde::{Deserialize, Serialize};

use crate::addr::{Cidr, Mac, fnv1a};
use crate::link::{self, explain, libc_errno};
use crate::nft::elements::{self, Elements, Key, Set, Value};
use crate::nft::{self, Firewall, Transaction, ruleset};
use crate::scope::Scope;
use crate::{endpoint, sysctl};

/// What a bridge should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BridgeSpec {
    /// Interface, at most 15 bytes: see [`Scope::default_bridge`] and [`Scope::bridge_of`].
    pub ifname: String,
    /// The bridge's own addresses, with the prefix of their subnets.
    pub gateways: Vec<Cidr>,
    /// MTU in bytes; `None`: the kernel's default.
    #[serde(default)]
    pub mtu: Option<u32>,
    /// No way out and no way in: members reach one another and the host only.
    #[serde(default)]
    pub internal: bool,
    /// Whether members may talk to one another. If not, endpoints are to be attached as isolated ports too.
    #[serde(default = "yes")]
    pub icc: bool,
    /// Whether members leave the host with the host's address.
    #[serde(default = "yes")]
    pub masquerade: bool,
    /// Whether members may be reached from other networks and hosts without a published port (a routed network).
    #[serde(default)]
    pub direct: bool,
    /// Address to which ports are published when a mapping names none.
    #[serde(default)]
    pub host_binding_ipv4: Option<Ipv4Addr>,
}

fn yes() -> bool {
    true
}

impl BridgeSpec {
    /// A bridge with Docker's defaults: masqueraded, members may talk.
    #[must_use]
    pub fn new(ifname: impl Into<String>, gateways: Vec<Cidr>) -> Self {
        Self {
            ifname: ifname.into(),
            gateways,
            mtu: None,
            internal: false,
            icc: true,
            masquerade: true,
            direct: false,
            host_binding_ipv4: None,
        }
    }

    /// Marks the bridge's element in the table: if it is there, the bridge was made by these rules for this
    /// specification.
    fn marker(&self) -> String {
        format!("{:016x}", fnv1a(format!("{}{self:?}", ruleset::VERSION).as_bytes()))
    }

    /// The elements that the table should hold for this bridge.
    pub(crate) fn elements(&self) -> Elements {
        let wanted = [
            (Set::Internal, self.internal),
            (Set::Masquerade, self.masquerade && !self.internal),
            (Set::Direct, self.direct && !self.internal),
            (Set::Icc, self.icc),
            (Set::Hairpin, true),
        ];
        let mut all: Elements = wanted
            .into_iter()
            .filter(|(_, wanted)| *wanted)
            .map(|(set, _)| (Key::interface(set, &self.ifname), Value::default()))
            .collect();
        let marker = Value { data: Vec::new(), comment: self.marker() };
        all.insert(Key::interface(Set::Bridges, &self.ifname), marker);
        all
    }

    /// Kernel parameters, in the order in which they are to be written.
    pub(crate) fn sysctls(&self) -> Vec<(String, &'static str)> {
        let name = &self.ifname;
        let mut all = vec![
            // Published ports on 127.0.0.1 lead over this link; the table keeps containers from using it.
            (format!("net/ipv4/conf/{name}/route_localnet"), "1"),
        ];
        if self.gateways.iter().any(|c| !c.is_ipv4()) {
            all.push((format!("net/ipv6/conf/{name}/disable_ipv6"), "0"));
            // No member of the network may reconfigure the host.
            all.push((format!("net/ipv6/conf/{name}/accept_ra"), "0"));
            all.push((format!("net/ipv6/conf/{name}/accept_dad"), "0"));
        }
        all
    }

    /// Whether answers to the host's `::1` come in over this link.
    pub(crate) fn leads_loopback6(&self) -> bool {
        self.forwards(false)
    }

    pub(crate) fn forwards(&self, ipv4: bool) -> bool {
        !self.internal && self.gateways.iter().any(|c| c.is_ipv4() == ipv4)
    }
}

/// What the kernel says of a link.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LinkState {
    pub(crate) index: u32,
    pub(crate) up: bool,
    pub(crate) mtu: u32,
    pub(crate) kind: String,
}

/// Looks at the link `name`; `None` if there is none.
pub(crate) fn look(socket: &mut Socket, name: &str) -> Result<Option<LinkState>> {
    let mut batch = Batch::new();
    link::get(&mut batch, name);
    let mut found = None;
    let done = socket.query(batch, |reply| {
        if reply.kind != RTM_NEWLINK {
            return;
        }
        let attrs = reply.attrs(16);
        let kind = attrs.find(IFLA_LINKINFO).and_then(|a| a.nested().find(IFLA_INFO_KIND));
        found = Some(LinkState {
            index: reply.u32_at(4),
            up: reply.u32_at(8) & IFF_UP != 0,
            mtu: attrs.find(IFLA_MTU).map_or(0, |a| a.u32()),
            kind: kind.map_or_else(String::new, |a| a.str().to_owned()),
        });
    });
    match done {
        Ok(()) => Ok(found),
        Err(f) if f.errno() == libc_errno::ENODEV => Ok(None),
        Err(f) => Err(explain(&format!("cannot look at link {name}"), f)),
    }
}

/// [`Firewall::ensure_bridge`] over a connection of its own.
///
/// # Errors
/// As there.
pub fn ensure_bridge(scope: &Scope, spec: &BridgeSpec) -> Result<()> {
    Firewall::open()?.ensure_bridge(scope, spec)
}

impl Firewall {
    /// Makes the bridge what `spec` says, with everything that belongs to it. When it is so already this costs two
    /// netlink lookups and one or two reads of kernel parameters.
    ///
    /// # Errors
    /// `PermissionDenied` without CAP_NET_ADMIN, `Conflict` if the name belongs to a link that is no bridge or an
    /// address is used elsewhere, `Unsupported` if the kernel lacks nf_tables.
    pub fn ensure_bridge(&mut self, scope: &Scope, spec: &BridgeSpec) -> Result<()> {
        let firewall = &mut self.socket;
        let mut links = link::socket()?;
        let key = Key::interface(Set::Bridges, &spec.ifname);
        let marked = elements::get(firewall, &scope.table(), &key)?;
        if marked.is_some_and(|v| v.comment == spec.marker())
            && look(&mut links, &spec.ifname)?.is_some_and(|l| l.up && l.kind == "bridge")
        {
            return ensure_forwarding(spec);
        }
        ensure_link(&mut links, scope, spec)?;
        ensure_forwarding(spec)?;
        ensure_elements(firewall, scope, &spec.ifname, &spec.elements())
    }
}

/// Lets the host forward packets. IPv6: a host that forwards ignores router advertisements unless told otherwise,
/// and would lose its own default route.
pub(crate) fn ensure_forwarding(spec: &BridgeSpec) -> Result<()> {
    if spec.forwards(true) {
        sysctl::ensure("net/ipv4/ip_forward", "1")?;
    }
    if spec.forwards(false) && sysctl::read(FORWARD_IPV6).is_some_and(|v| v != "1") {
        forward_ipv6("1")?;
    }
    Ok(())
}

/// The parameter by which the host forwards IPv6.
pub(crate) const FORWARD_IPV6: &str = "net/ipv6/conf/all/forwarding";

/// Writes it, and before that keeps links that listen to routers listening.
pub(crate) fn forward_ipv6(value: &str) -> Result<()> {
    let links = std::fs::read_dir("/proc/sys/net/ipv6/conf").into_iter().flatten().flatten();
    for entry in links {
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = format!("net/ipv6/conf/{name}/accept_ra");
        if !["all", "default", "lo"].contains(&name.as_str()) && sysctl::read(&path).as_deref() == Some("1") {
            sysctl::ensure(&path, "2")?;
        }
    }
    sysctl::ensure(FORWARD_IPV6, value)
}

fn ensure_link(links: &mut Socket, scope: &Scope, spec: &BridgeSpec) -> Result<()> {
    let name = &spec.ifname;
    let mut state = look(links, name)?;
    if state.is_none() {
        let mut batch = Batch::new();
        let mac = Mac::of_name(&format!("{}/{name}", scope.table()));
        link::create_bridge(&mut batch, name, mac, spec.mtu);
        match links.submit(batch) {
            // Another process of ours was faster.
            Err(f) if f.errno() != libc_errno::EEXIST => {
                return Err(explain(&format!("cannot create bridge {name}"), f)
                    .with_hint("creating networks needs root (CAP_NET_ADMIN)"));
            }
            _ => state = look(links, name)?,
        }
    }
    let Some(state) = state.filter(|s| s.kind == "bridge") else {
        return Err(fluyt_model::Error::new(Kind::Conflict, format!("link {name} is not a bridge"))
            .with_hint("rename or remove it: the name is reserved for a network"));
    };
    // Before the link comes up, so that it never listens to routers.
    for (path, value) in spec.sysctls() {
        sysctl::ensure(&path, value)?;
    }
    let (stale, missing) = difference(&addresses(links, state.index)?, &spec.gateways);
    let mut batch = Batch::new();
    for cidr in &stale {
        link::address(&mut batch, state.index, cidr, false);
    }
    for cidr in &missing {
        link::address(&mut batch, state.index, cidr, true);
    }
    let mtu = spec.mtu.filter(|m| *m != state.mtu);
    if !state.up || mtu.is_some() {
        link::up(&mut batch, state.index, mtu);
    }
    if spec.leads_loopback6() {
        link::loopback6_route(&mut batch, state.index);
    }
    links.submit(batch).map_err(|f| explain(&format!("cannot configure bridge {name}"), f))
}

/// The addresses of a link.
pub(crate) fn addresses(links: &mut Socket, index: u32) -> Result<Vec<Cidr>> {
    let mut batch = Batch::new();
    batch.push("list addresses", RTM_GETADDR, NLM_F_DUMP, &[0; 8], |_| {});
    let mut have = Vec::new();
    links
        .query(batch, |reply| {
            if reply.kind == RTM_NEWADDR && reply.u32_at(4) == index {
                have.extend(read_address(&reply));
            }
        })
        .map_err(|f| explain("cannot list the host's addresses", f))?;
    Ok(have)
}

/// Addresses that a link has and should not have, and those that it should have and has not. Link-local IPv6
/// addresses are the kernel's.
pub(crate) fn difference(have: &[Cidr], wanted: &[Cidr]) -> (Vec<Cidr>, Vec<Cidr>) {
    let stale = have.iter().filter(|c| !wanted.contains(c) && !is_link_local(c.addr())).copied().collect();
    let missing = wanted.iter().filter(|c| !have.contains(c)).copied().collect();
    (stale, missing)
}

fn is_link_local(addr: IpAddr) -> bool {
    matches!(addr, IpAddr::V6(a) if a.segments()[0] & 0xffc0 == 0xfe80)
}

fn read_address(reply: &fluyt_sys::netlink::Reply<'_>) -> Option<Cidr> {
    let attrs = reply.attrs(8);
    let bytes = attrs.find(IFA_LOCAL).or_else(|| attrs.find(IFA_ADDRESS))?.value;
    Cidr::new(read_ip(bytes)?, *reply.payload.get(1)?).ok()
}

pub(crate) fn read_ip(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}

/// Brings the table's elements about one interface to `wanted`, installing the table if need be.
fn ensure_elements(firewall: &mut Socket, scope: &Scope, ifname: &str, wanted: &Elements) -> Result<()> {
    const ATTEMPTS: u32 = 5;
    let table = scope.table();
    let sets: Vec<Set> = Set::ALL.into_iter().filter(|s| !s.is_ports()).collect();
    for attempt in 1..=ATTEMPTS {
        let installed = ruleset::installed(firewall, &table)?;
        let have = if installed { elements::dump(firewall, &table, &sets)? } else { None };
        let mut t = Transaction::new();
        if have.is_none() {
            ruleset::install(&mut t, &table);
        }
        let have = match have {
            Some(have) => have,
            // Sets of an older version keep their elements while the rules are replaced.
            None => elements::dump(firewall, &table, &sets)?.unwrap_or_default(),
        };
        for (key, value) in have.iter().filter(|(k, _)| k.interface_name() == ifname) {
            if wanted.get(key) != Some(value) {
                elements::remove(&mut t, &table, key);
            }
        }
        for (key, value) in wanted {
            if have.get(key) != Some(value) {
                elements::add(&mut t, &table, key, value);
            }
        }
        match t.commit(firewall) {
            Ok(()) => return Ok(()),
            // Another process of ours changed the same elements in between.
            Err(f) if attempt < ATTEMPTS && is_race(f.errno()) => {}
            Err(f) => return Err(nft::refused(&table, f)),
        }
    }
    Ok(())
}

/// Errors that a change by another process between looking and acting can cause.
pub(crate) fn is_race(errno: i32) -> bool {
    [libc_errno::EEXIST, libc_errno::ENOENT, libc_errno::EBUSY].contains(&errno)
}

/// Removes a bridge and its elements; one that does not exist is no error. The table stays: other bridges use it.
///
/// # Errors
/// The kernel refuses.
pub fn remove_bridge(scope: &Scope, ifname: &str) -> Result<()> {
    let mut links = link::socket()?;
    endpoint::delete_by_name(&mut links, ifname)?;
    let mut firewall = nft::socket()?;
    if !ruleset::installed(&mut firewall, &scope.table())? {
        return Ok(());
    }
    ensure_elements(&mut firewall, scope, ifname, &Elements::new())
}

/// Removes the whole table of a data root: after its last network, or to give everything back.
///
/// # Errors
/// The kernel refuses.
pub fn remove_table(scope: &Scope) -> Result<()> {
    let mut firewall = nft::socket()?;
    let mut t = Transaction::new();
    ruleset::remove(&mut t, &scope.table());
    match t.commit(&mut firewall) {
        Err(f) if f.errno() == libc_errno::ENOENT => Ok(()),
        other => other.map_err(|f| nft::refused(&scope.table(), f)),
    }
}
