//! Desired networks and published ports -> what the kernel has -> a plan -> the kernel. For repair (after somebody
//! flushed the firewall, deleted a bridge, or a monitor was killed) and after a reboot.
//!
//! [`plan`] is pure and a [`Plan`] prints as text; carrying it out ([`apply`]) decides nothing. Planning again after
//! applying gives an empty plan.

use std::fmt;

use fluyt_model::error::{Error, Kind, Result};
use fluyt_sys::netlink::consts::*;
use fluyt_sys::netlink::{Batch, Socket};

use crate::addr::{Cidr, Mac};
use crate::bridge::{self, BridgeSpec, LinkState};
use crate::link::{self, explain};
use crate::nft::elements::{self, Elements, Key, Set, Value};
use crate::nft::{self, Transaction, ruleset};
use crate::ports::PortMapping;
use crate::scope::Scope;
use crate::sysctl;

/// What should be: all networks of a data root, and the ports of all sandboxes that run.
#[derive(Clone, Debug, Default)]
pub struct Desired {
    /// Bridges.
    pub bridges: Vec<BridgeSpec>,
    /// Sandbox ids with their ports.
    pub published: Vec<(String, Vec<PortMapping>)>,
}

/// What is, as far as it concerns one data root.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// Links by name: those of the desired bridges, and bridges that the table knows.
    links: Vec<(String, LinkState, Vec<Cidr>)>,
    /// Elements of the table; `None` without the table.
    elements: Option<Elements>,
    /// Number of our rules in the table.
    rules: usize,
    /// Kernel parameters that were looked at, with their values.
    sysctls: Vec<(String, String)>,
}

/// One effect.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    InstallTable,
    CreateBridge { name: String, mtu: Option<u32> },
    RemoveBridge { name: String },
    RemoveAddress { name: String, address: Cidr },
    AddAddress { name: String, address: Cidr },
    RaiseBridge { name: String, mtu: Option<u32>, loopback6: bool },
    Write { path: String, value: String },
    RemoveElement { key: Key },
    AddElement { key: Key, value: Value },
}

/// The steps from what is to what should be, in order, each with its cause.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    steps: Vec<(Step, &'static str)>,
}

impl Plan {
    /// Whether everything is as it should be.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    fn push(&mut self, step: Step, cause: &'static str) {
        self.steps.push((step, cause));
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.steps.iter().try_for_each(|(step, cause)| writeln!(f, "{step}  # {cause}"))
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InstallTable => write!(f, "install the firewall table"),
            Self::CreateBridge { name, .. } => write!(f, "create bridge {name}"),
            Self::RemoveBridge { name } => write!(f, "remove bridge {name}"),
            Self::RemoveAddress { name, address } => write!(f, "remove address {address} from {name}"),
            Self::AddAddress { name, address } => write!(f, "add address {address} to {name}"),
            Self::RaiseBridge { name, .. } => write!(f, "bring up {name}"),
            Self::Write { path, value } => write!(f, "set {path} to {value}"),
            Self::RemoveElement { key } => write!(f, "remove {} from {}", shown(key), key.set.name()),
            Self::AddElement { key, value } => {
                write!(f, "add {} to {}", shown(key), key.set.name())?;
                if value.comment.is_empty() { Ok(()) } else { write!(f, " for {}", value.comment) }
            }
        }
    }
}

/// A key for people: an interface, or a port.
fn shown(key: &Key) -> String {
    if !key.set.is_ports() {
        return key.interface_name().to_owned();
    }
    let address = |bytes: &[u8]| bridge::read_ip(bytes).map_or_else(String::new, |a| a.to_string());
    let port = |bytes: &[u8]| match *bytes {
        [protocol, 0, 0, 0, a, b, ..] => format!("protocol {protocol} port {}", u16::from_be_bytes([a, b])),
        _ => String::new(),
    };
    match key.set {
        Set::Self4 => address(key.bytes.get(..4).unwrap_or_default()),
        Set::Self6 => address(key.bytes.get(..16).unwrap_or_default()),
        Set::Dnat4Addr | Set::Dnat6Addr => {
            let split = if key.set == Set::Dnat4Addr { 4 } else { 16 };
            let (ip, rest) = key.bytes.split_at(split.min(key.bytes.len()));
            format!("{} {}", address(ip), port(rest))
        }
        _ => port(&key.bytes),
    }
}

/// Looks at the links, the table and the parameters that concern `scope` and `desired`.
///
/// # Errors
/// The kernel refuses to show them.
pub fn observe(scope: &Scope, desired: &Desired) -> Result<Observed> {
    let mut firewall = nft::socket()?;
    let table = scope.table();
    let elements = if ruleset::installed(&mut firewall, &table)? {
        elements::dump(&mut firewall, &table, &Set::ALL)?
    } else {
        None
    };
    let known = elements.iter().flatten().map(|(k, _)| k).filter(|k| k.set == Set::Bridges);
    let mut names: Vec<String> = known.map(|k| k.interface_name().to_owned()).collect();
    names.extend(desired.bridges.iter().map(|b| b.ifname.clone()));
    names.sort_unstable();
    names.dedup();
    let mut socket = link::socket()?;
    let mut links = Vec::new();
    for name in names {
        if let Some(state) = bridge::look(&mut socket, &name)? {
            let addresses = bridge::addresses(&mut socket, state.index)?;
            links.push((name, state, addresses));
        }
    }
    let paths = desired.bridges.iter().flat_map(parameters).map(|(path, _)| path);
    let sysctls = paths.filter_map(|p| sysctl::read(&p).map(|v| (p, v))).collect();
    let rules = ruleset::rules_present(&mut firewall, &table)?;
    Ok(Observed { links, elements, rules, sysctls })
}

/// All parameters of a bridge: its own, and that the host forwards.
fn parameters(spec: &BridgeSpec) -> Vec<(String, &'static str)> {
    let mut all = spec.sysctls();
    if spec.forwards(true) {
        all.push(("net/ipv4/ip_forward".to_owned(), "1"));
    }
    if spec.forwards(false) {
        all.push((bridge::FORWARD_IPV6.to_owned(), "1"));
    }
    all
}

/// The steps from `observed` to `desired`.
#[must_use]
pub fn plan(desired: &Desired, observed: &Observed) -> Plan {
    let mut plan = Plan::default();
    for spec in &desired.bridges {
        plan_bridge(&mut plan, spec, observed);
    }
    if observed.elements.is_none() || observed.rules != ruleset::rule_count() {
        plan.push(Step::InstallTable, "it is missing, damaged or of another version");
    }
    let mut wanted: Elements = desired.bridges.iter().flat_map(BridgeSpec::elements).collect();
    for (owner, mappings) in &desired.published {
        wanted.extend(mappings.iter().flat_map(|m| m.elements(owner)));
    }
    let nothing = Elements::new();
    let have = observed.elements.as_ref().unwrap_or(&nothing);
    for (key, value) in have {
        match wanted.get(key) {
            None => plan.push(Step::RemoveElement { key: key.clone() }, "nothing wants it"),
            Some(right) if right != value => {
                plan.push(Step::RemoveElement { key: key.clone() }, "it is another one's or outdated");
            }
            Some(_) => {}
        }
    }
    for (key, value) in wanted {
        if have.get(&key) != Some(&value) {
            plan.push(Step::AddElement { key, value }, "it is missing");
        }
    }
    let is_wanted = |name: &str| desired.bridges.iter().any(|b| b.ifname == name);
    for (name, state, _) in &observed.links {
        if !is_wanted(name) && state.kind == "bridge" {
            plan.push(Step::RemoveBridge { name: name.clone() }, "its network is gone");
        }
    }
    plan
}

fn plan_bridge(plan: &mut Plan, spec: &BridgeSpec, observed: &Observed) {
    let name = &spec.ifname;
    let link = observed.links.iter().find(|(n, ..)| n == name);
    let (state, have) = link.map_or((None, &[][..]), |(_, state, have)| (Some(state), have));
    if state.is_none() {
        plan.push(Step::CreateBridge { name: name.clone(), mtu: spec.mtu }, "it is missing");
    }
    for (path, value) in parameters(spec) {
        let now = observed.sysctls.iter().find(|(p, _)| *p == path).map(|(_, v)| v.as_str());
        // A parameter of a link that does not exist yet cannot be seen; one that the kernel lacks is passed over.
        if now.is_some_and(|v| v != value) || (now.is_none() && state.is_none()) {
            plan.push(Step::Write { path, value: value.to_owned() }, "the network needs it");
        }
    }
    let (stale, missing) = bridge::difference(have, &spec.gateways);
    for address in stale {
        plan.push(Step::RemoveAddress { name: name.clone(), address }, "it is not the network's");
    }
    for address in missing {
        plan.push(Step::AddAddress { name: name.clone(), address }, "it is missing");
    }
    let mtu = spec.mtu.filter(|m| state.is_none_or(|s| s.mtu != *m));
    if state.is_none_or(|s| !s.up) || mtu.is_some() {
        plan.push(
            Step::RaiseBridge { name: name.clone(), mtu, loopback6: spec.leads_loopback6() },
            "it is down or has another MTU",
        );
    }
}

/// Carries a plan out, in order. The changes of the table take effect together.
///
/// # Errors
/// The first step that the kernel refuses; what was done before stays done, and planning again carries on.
pub fn apply(scope: &Scope, plan: &Plan) -> Result<()> {
    let mut firewall = nft::socket()?;
    let mut links = link::socket()?;
    let table = scope.table();
    let mut t = Transaction::new();
    for (step, _) in &plan.steps {
        match step {
            Step::InstallTable => ruleset::install(&mut t, &table),
            Step::RemoveElement { key } => elements::remove(&mut t, &table, key),
            Step::AddElement { key, value } => elements::add(&mut t, &table, key, value),
            Step::Write { path, value } if path == bridge::FORWARD_IPV6 => bridge::forward_ipv6(value)?,
            Step::Write { path, value } => sysctl::ensure(path, value)?,
            Step::RemoveBridge { name } => crate::endpoint::delete_by_name(&mut links, name)?,
            other => change_link(&mut links, scope, other)?,
        }
    }
    t.commit(&mut firewall).map_err(|f| nft::refused(&table, f))
}

fn change_link(links: &mut Socket, scope: &Scope, step: &Step) -> Result<()> {
    let mut batch = Batch::new();
    match step {
        Step::CreateBridge { name, mtu } => {
            link::create_bridge(&mut batch, name, Mac::of_name(&format!("{}/{name}", scope.table())), *mtu);
        }
        Step::AddAddress { name, address } | Step::RemoveAddress { name, address } => {
            let add = matches!(step, Step::AddAddress { .. });
            link::address(&mut batch, index(links, name)?, address, add);
        }
        Step::RaiseBridge { name, mtu, loopback6 } => {
            let index = index(links, name)?;
            link::up(&mut batch, index, *mtu);
            // With a link that goes down its routes go.
            if *loopback6 {
                link::loopback6_route(&mut batch, index);
            }
        }
        _ => {}
    }
    links.submit(batch).map_err(|f| explain(&step.to_string(), f))
}

fn index(links: &Socket, name: &str) -> Result<u32> {
    links.link_index(name).map_err(|e| Error::io(format!("bridge {name}"), e).with_kind(Kind::NotFound))
}

/// Brings the kernel to `desired` and gives the plan that it took: empty if nothing was wrong.
///
/// # Errors
/// The kernel refuses; `Conflict` if the state keeps changing under our hands.
pub fn reconcile(scope: &Scope, desired: &Desired) -> Result<Plan> {
    const ATTEMPTS: u32 = 5;
    let mut last = None;
    for _ in 0..ATTEMPTS {
        let plan = plan(desired, &observe(scope, desired)?);
        if plan.is_empty() {
            return Ok(plan);
        }
        match apply(scope, &plan) {
            Ok(()) => return Ok(plan),
            // Somebody else of ours changed the same things meanwhile: look again.
            Err(e) if matches!(e.kind(), Kind::Conflict | Kind::NotFound) => last = Some(e),
            Err(e) => return Err(e),
        }
    }
    Err(last.unwrap_or_else(|| Error::conflict("the networks keep changing")))
}

/// The forward hooks of other programs' tables that drop what nobody accepts: with one of them the host's firewall
/// must let containers through. The names of their chains, `ip filter FORWARD`.
///
/// # Errors
/// The kernel refuses to list chains.
pub fn forward_guards() -> Result<Vec<String>> {
    const FORWARD: u32 = 2;
    const DROP: u32 = 0;
    let mut socket = nft::socket()?;
    let mut guards = Vec::new();
    let mut batch = Batch::new();
    batch.push("list chains", nft::kind(NFT_MSG_GETCHAIN), NLM_F_DUMP, &nft::header(0, 0), |_| {});
    let done = socket.query(batch, |reply| {
        let family = match reply.payload.first() {
            Some(&NFPROTO_INET) => "inet",
            Some(&NFPROTO_IPV4) => "ip",
            Some(&NFPROTO_IPV6) => "ip6",
            _ => return,
        };
        let attrs = reply.attrs(4);
        let hook = attrs.find(NFTA_CHAIN_HOOK).and_then(|h| h.nested().find(NFTA_HOOK_HOOKNUM));
        let policy = attrs.find(NFTA_CHAIN_POLICY).map(|p| p.be32());
        let name = |kind| attrs.find(kind).map_or("", |a| a.str());
        if hook.is_some_and(|h| h.be32() == FORWARD) && policy == Some(DROP) {
            guards.push(format!("{family} {} {}", name(NFTA_CHAIN_TABLE), name(NFTA_CHAIN_NAME)));
        }
    });
    done.map_err(|f| explain("cannot list the host's firewall chains", f))?;
    Ok(guards)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use proptest::prelude::*;

    fn spec(n: u8, flags: u8) -> BridgeSpec {
        let gateway = Cidr::new(IpAddr::from([10, 9, n, 1]), 24).unwrap();
        BridgeSpec {
            internal: flags & 1 != 0,
            icc: flags & 2 != 0,
            masquerade: flags & 4 != 0,
            mtu: (flags & 8 != 0).then_some(1400),
            ..BridgeSpec::new(format!("fy-{n}"), vec![gateway])
        }
    }

    fn mapping(n: u8, port: u16) -> PortMapping {
        PortMapping {
            host_port: port,
            container_port: 80,
            target_v4: Some([10, 9, n, 2].into()),
            ..PortMapping::default()
        }
    }

    /// What the kernel would show after the plan.
    fn simulate(before: &Observed, plan: &Plan) -> Observed {
        let mut o = before.clone();
        for (step, _) in &plan.steps {
            match step {
                Step::InstallTable => {
                    o.elements.get_or_insert_default();
                    o.rules = ruleset::rule_count();
                }
                Step::CreateBridge { name, mtu } => {
                    let state =
                        LinkState { mtu: mtu.unwrap_or(1500), kind: "bridge".into(), ..LinkState::default() };
                    o.links.push((name.clone(), state, Vec::new()));
                }
                Step::RemoveBridge { name } => o.links.retain(|(n, ..)| n != name),
                Step::RemoveAddress { name, address } => {
                    o.links.iter_mut().filter(|l| l.0 == *name).for_each(|l| l.2.retain(|a| a != address));
                }
                Step::AddAddress { name, address } => {
                    o.links.iter_mut().filter(|l| l.0 == *name).for_each(|l| l.2.push(*address));
                }
                Step::RaiseBridge { name, mtu, .. } => {
                    for l in o.links.iter_mut().filter(|l| l.0 == *name) {
                        l.1.up = true;
                        l.1.mtu = mtu.unwrap_or(l.1.mtu);
                    }
                }
                Step::Write { path, value } => {
                    o.sysctls.retain(|(p, _)| p != path);
                    o.sysctls.push((path.clone(), value.clone()));
                }
                Step::RemoveElement { key } => {
                    o.elements.get_or_insert_default().remove(key);
                }
                Step::AddElement { key, value } => {
                    o.elements.get_or_insert_default().insert(key.clone(), value.clone());
                }
            }
        }
        o
    }

    fn desired(bridges: &[(u8, u8)], ports: &[(u8, u16)]) -> Desired {
        let mut bridges: Vec<BridgeSpec> = bridges.iter().map(|(n, flags)| spec(*n, *flags)).collect();
        bridges.dedup_by_key(|b| b.ifname.clone());
        let published = ports.iter().map(|(n, p)| (format!("c{n}"), vec![mapping(*n, *p)])).collect();
        Desired { bridges, published }
    }

    proptest! {
        #[test]
        fn planning_again_gives_an_empty_plan(
            first in proptest::collection::btree_map(0_u8..6, 0_u8..16, 0..6),
            second in proptest::collection::btree_map(0_u8..6, 0_u8..16, 0..6),
            ports in proptest::collection::btree_map(1_u16..9, 0_u8..6, 0..6),
        ) {
            let list = |m: &std::collections::BTreeMap<u8, u8>| m.iter().map(|(a, b)| (*a, *b)).collect::<Vec<_>>();
            let ports: Vec<(u8, u16)> = ports.into_iter().map(|(p, n)| (n, p)).collect();
            let mut state = Observed::default();
            for wanted in [desired(&list(&first), &[]), desired(&list(&second), &ports)] {
                state = simulate(&state, &plan(&wanted, &state));
                prop_assert_eq!(plan(&wanted, &state), Plan::default());
            }
            state = simulate(&state, &plan(&Desired::default(), &state));
            prop_assert!(state.links.is_empty() && state.elements.is_some_and(|e| e.is_empty()));
        }
    }

    #[test]
    fn a_plan_reads_well() {
        let text = plan(&desired(&[(1, 6)], &[(1, 8080)]), &Observed::default()).to_string();
        for line in [
            "create bridge fy-1  # it is missing",
            "add address 10.9.1.1/24 to fy-1  # it is missing",
            "add protocol 6 port 8080 to dnat4 for c1  # it is missing",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} in\n{text}");
        }
    }
}
