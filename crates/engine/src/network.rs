//! Networks of a data root: made, listed, removed; addresses given out.
//!
//! `bridge`, `host` and `none` exist always; the first gets its subnet when it is first needed. Leases outlive a
//! stop, so that a container keeps its address; they are taken back when a network runs out of addresses.

use std::collections::BTreeSet;
use std::net::IpAddr;

use fluyt_model::sandbox::NetworkAttachment;
use fluyt_model::{Error, Kind, Result, id};
use fluyt_monitor::protocol::Request;
use fluyt_monitor::spec::Plug;
use fluyt_net::{BridgeSpec, Cidr, EndpointSpec, Link, MacvlanMode, ipam};
use rusqlite::Connection;

use crate::api::{EndpointView, NetworkSpec, NetworkView, Pruned, SubnetSpec};
use crate::container::create::random;
use crate::records::{ContainerRecord, NetworkRecord};
use crate::{Engine, client};

/// The network that containers join unless they ask for another.
pub const DEFAULT_NETWORK: &str = "bridge";
/// So often another subnet is chosen when somebody else got the one that was.
const TRIES: u32 = 32;
const PREDEFINED: [(&str, &str); 3] = [(DEFAULT_NETWORK, "bridge"), ("host", "host"), ("none", "null")];

impl Engine {
    /// Makes the networks that exist always, with the first one's subnet.
    ///
    /// # Errors
    /// No subnet is free for the default bridge.
    pub(crate) fn ensure_predefined(&self) -> Result<()> {
        let known = self.records().read(|tx| self.records().networks(tx))?;
        if PREDEFINED.iter().all(|(name, _)| known.iter().any(|n| n.spec.name == *name)) {
            return Ok(());
        }
        let used = used_subnets(&known)?;
        self.records().write(|tx| {
            for (name, driver) in PREDEFINED {
                if self.records().network(tx, name).is_ok() {
                    continue;
                }
                let mut network = NetworkRecord {
                    id: id::from_random(random()?),
                    created: fluyt_monitor::state::now(),
                    spec: NetworkSpec {
                        name: name.to_owned(),
                        driver: driver.to_owned(),
                        ipv4: true,
                        ipv6: driver == "bridge",
                        ..NetworkSpec::default()
                    },
                    ..NetworkRecord::default()
                };
                if driver == "bridge" {
                    network.ifname = self.paths.scope().default_bridge();
                    let id = network.id.clone();
                    complete(
                        &mut network.spec,
                        &ipam::default_bridge_pools(),
                        &used,
                        self.paths.scope().suffix(),
                        &id,
                    )?;
                }
                self.records().put_network(tx, &network)?;
            }
            Ok(())
        })
    }

    /// Makes a network. Returns its id.
    ///
    /// # Errors
    /// `Conflict` for a name that exists or a subnet that overlaps, `Invalid` for what cannot be read,
    /// `Exhausted` when no subnet is left.
    pub fn network_create(&self, mut spec: NetworkSpec) -> Result<String> {
        id::check_network_name(&spec.name)?;
        self.ensure_predefined()?;
        if spec.driver.is_empty() {
            spec.driver = "bridge".to_owned();
        }
        let mut network = NetworkRecord {
            id: id::from_random(random()?),
            created: fluyt_monitor::state::now(),
            ..NetworkRecord::default()
        };
        match spec.driver.as_str() {
            "bridge" => {
                network.ifname = match spec.options.get("com.docker.network.bridge.name") {
                    Some(name) => check_ifname(name)?,
                    None => self.paths.scope().bridge_of(&network.id),
                };
            }
            "macvlan" => {
                let parent = spec.options.get("parent").ok_or_else(|| {
                    Error::invalid("a macvlan network needs its parent link").with_hint("give -o parent=eth0")
                })?;
                network.ifname = check_ifname(parent)?;
                macvlan_mode(spec.options.get("macvlan_mode"))?;
            }
            other => {
                return Err(Error::new(
                    Kind::NotFound,
                    format!("could not find plugin {other} in v1 plugin registry"),
                )
                .with_hint("use the driver bridge or macvlan"));
            }
        }
        let mut tries = 0;
        loop {
            // Reading the host's routes takes its time; it is done before the transaction.
            let known = self.records().read(|tx| self.records().networks(tx))?;
            let used = used_subnets(&known)?;
            network.spec = spec.clone();
            let scope = self.paths.scope();
            complete(&mut network.spec, &ipam::user_pools(), &used, scope.suffix(), &network.id)?;
            let mut taken = false;
            let written = self.records().write(|tx| {
                let now = self.records().networks(tx)?;
                let fits = overlap(&network.spec, &now);
                taken = fits.is_err();
                fits?;
                self.records().put_network(tx, &network)
            });
            // Somebody who made a network meanwhile may have got the subnet that was chosen here.
            let chosen = network.spec.subnets.len() > spec.subnets.len();
            if !(taken && chosen && tries < TRIES) {
                written?;
                break;
            }
            tries += 1;
        }
        if network.spec.driver == "bridge"
            && let Err(e) = fluyt_net::ensure_bridge(&self.paths.scope(), &bridge(&network)?)
        {
            // What cannot be made is not recorded either.
            self.records().write(|tx| self.records().delete_network(tx, &network.id))?;
            return Err(e);
        }
        self.emit_network("create", &network, None);
        Ok(network.id)
    }

    /// Removes a network that nobody uses.
    ///
    /// # Errors
    /// `PermissionDenied` for those that exist always, `Conflict` while containers run on it.
    pub fn network_remove(&self, name: &str) -> Result<()> {
        let view = self.network(name)?;
        if PREDEFINED.iter().any(|(n, _)| *n == view.spec.name) {
            return Err(Error::new(
                Kind::PermissionDenied,
                format!("{} is a pre-defined network and cannot be removed", view.spec.name),
            ));
        }
        if let Some((_, container, _)) = view.endpoints.first() {
            return Err(Error::conflict(format!(
                "error while removing network: network {} has active endpoints (name:\"{container}\")",
                view.spec.name
            ))
            .with_hint(format!("`fluyt network disconnect {} {container}` first", view.spec.name)));
        }
        let network = self.records().write(|tx| {
            let network = self.records().network(tx, &view.id)?;
            self.records().delete_network(tx, &network.id)?;
            Ok(network)
        })?;
        if network.spec.driver == "bridge" {
            fluyt_net::remove_bridge(&self.paths.scope(), &network.ifname)?;
        }
        let _ = std::fs::remove_file(self.paths.names(&network.id));
        self.emit_network("destroy", &network, None);
        Ok(())
    }

    /// All networks, by name.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn networks(&self) -> Result<Vec<NetworkView>> {
        self.ensure_predefined()?;
        let mut all = self.records().read(|tx| self.records().networks(tx))?;
        all.sort_by(|a, b| a.spec.name.cmp(&b.spec.name));
        all.into_iter().map(|n| self.network_view(n)).collect()
    }

    /// One network by name, id or unambiguous beginning of an id.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn network(&self, name: &str) -> Result<NetworkView> {
        self.ensure_predefined()?;
        let record = self.records().read(|tx| self.records().network(tx, name))?;
        self.network_view(record)
    }

    fn network_view(&self, record: NetworkRecord) -> Result<NetworkView> {
        let leases = self.records().read(|tx| self.records().leases_of_network(tx, &record.id))?;
        let mut endpoints = Vec::new();
        for (container, endpoint) in leases {
            if fluyt_monitor::owner(&self.paths.run_of(&container)).is_some()
                && let Ok(owner) = self.records().container(&container)
            {
                endpoints.push((container, owner.name, endpoint));
            } else if self.pod_is_up(&container)
                && let Ok(pod) = self.records().pod(&container)
            {
                endpoints.push((container, pod.name, endpoint));
            }
        }
        Ok(NetworkView {
            id: record.id,
            created: record.created,
            spec: record.spec,
            ifname: record.ifname,
            endpoints,
        })
    }

    /// Plugs a container into a network, at once if it runs.
    ///
    /// # Errors
    /// `Conflict` if it is plugged in already or shares another's stack, `NotFound`, `Exhausted`.
    pub fn network_connect(
        &self,
        network: &str,
        container: &str,
        mut attachment: NetworkAttachment,
    ) -> Result<()> {
        let mut record = self.records().container(container)?;
        let net = self.records().read(|tx| self.records().network(tx, network))?;
        attachment.network.clone_from(&net.spec.name);
        if matches!(net.spec.driver.as_str(), "host" | "null") {
            return Err(Error::invalid(if net.spec.driver == "host" {
                "container cannot be disconnected from host network or connected to host network"
            } else {
                "container cannot be connected to multiple networks with one of the networks in private (none) mode"
            }));
        }
        let own = matches!(record.spec.namespaces.network, fluyt_model::sandbox::Namespace::Private);
        if !own {
            return Err(Error::conflict(
                "container sharing network namespace with another container or host cannot be connected to any other network",
            ));
        }
        if record.spec.networks.iter().any(|a| a.network == net.spec.name || a.network == net.id) {
            return Err(Error::conflict(format!(
                "endpoint with name {} already exists in network {}",
                record.name, net.spec.name
            )));
        }
        record.spec.networks.push(attachment.clone());
        self.records().update_container(&record)?;
        if self.is_running(&record.id) {
            let index = record.spec.networks.len() - 1;
            let endpoint = self.records().write(|tx| self.lease(tx, &record, &net, &attachment))?;
            let plug = plug(&self.paths.scope(), &record.id, &net, &attachment, &endpoint, index, false)?;
            self.write_monitor_spec(&record)?;
            let bridge = (net.spec.driver == "bridge").then(|| bridge(&net)).transpose()?.map(Box::new);
            self.publish_names(&net)?;
            client::ask(&self.paths.run_of(&record.id), &Request::Connect { bridge, plug: Box::new(plug) })?;
        }
        self.emit_network("connect", &net, Some(&record.id));
        Ok(())
    }

    /// Unplugs a container from a network, at once if it runs.
    ///
    /// # Errors
    /// `NotFound` if it is not plugged in.
    pub fn network_disconnect(&self, network: &str, container: &str, _force: bool) -> Result<()> {
        let mut record = self.records().container(container)?;
        let net = self.records().read(|tx| self.records().network(tx, network))?;
        let position =
            record.spec.networks.iter().position(|a| a.network == net.spec.name || a.network == net.id);
        let Some(index) = position else {
            return Err(Error::not_found(format!(
                "container {} is not connected to network {}",
                record.name, net.spec.name
            )));
        };
        let attachment = record.spec.networks.remove(index);
        let lease =
            self.records().leases_of_container(&record.id)?.into_iter().find(|e| e.network_id == net.id);
        self.records().write(|tx| self.records().delete_lease(tx, &net.id, &record.id))?;
        self.records().update_container(&record)?;
        if self.is_running(&record.id)
            && let Some(endpoint) = lease
        {
            let plug = plug(&self.paths.scope(), &record.id, &net, &attachment, &endpoint, index, false)?;
            self.write_monitor_spec(&record)?;
            self.publish_names(&net)?;
            client::ask(&self.paths.run_of(&record.id), &Request::Disconnect { plug: Box::new(plug) })?;
        }
        self.emit_network("disconnect", &net, Some(&record.id));
        Ok(())
    }

    /// Removes networks without containers that `keep` does not hold.
    ///
    /// # Errors
    /// One cannot be removed.
    pub fn prune_networks(&self, keep: &dyn Fn(&NetworkView) -> bool) -> Result<Pruned> {
        let mut pruned = Pruned::default();
        let used: BTreeSet<String> = self
            .records()
            .containers()?
            .into_iter()
            .flat_map(|c| c.spec.networks.into_iter().map(|a| a.network))
            .chain(
                self.records()
                    .pods()?
                    .into_iter()
                    .flat_map(|p| p.spec.sandbox.networks.into_iter().map(|a| a.network)),
            )
            .collect();
        for view in self.networks()? {
            let predefined = PREDEFINED.iter().any(|(n, _)| *n == view.spec.name);
            if predefined || used.contains(&view.spec.name) || used.contains(&view.id) || keep(&view) {
                continue;
            }
            self.network_remove(&view.id)?;
            pruned.removed.push(view.spec.name);
        }
        self.emit_prune("network", pruned.bytes);
        Ok(pruned)
    }

    /// Gives `record` an address on `network`, its old one if it has one there.
    pub(crate) fn lease(
        &self,
        tx: &Connection,
        record: &ContainerRecord,
        network: &NetworkRecord,
        attachment: &NetworkAttachment,
    ) -> Result<EndpointView> {
        let all = self.records().leases_of_network(tx, &network.id)?;
        let old = all.iter().find(|(c, _)| *c == record.id).map(|(_, e)| e.clone());
        let mut endpoint = EndpointView {
            network: network.spec.name.clone(),
            network_id: network.id.clone(),
            endpoint_id: id::from_random(random()?),
            dns_names: dns_names(record, attachment),
            aliases: attachment.aliases.clone(),
            ..EndpointView::default()
        };
        let mut last = network.clone();
        for subnet in &network.spec.subnets {
            let block: Cidr = subnet.subnet.parse()?;
            let (wanted, kept) = match block.is_ipv4() {
                true => (
                    attachment.ipv4.map(IpAddr::V4),
                    old.as_ref().and_then(|e| e.ipv4).map(|(a, _)| IpAddr::V4(a)),
                ),
                false => (
                    attachment.ipv6.map(IpAddr::V6),
                    old.as_ref().and_then(|e| e.ipv6).map(|(a, _)| IpAddr::V6(a)),
                ),
            };
            let has = if block.is_ipv4() { endpoint.ipv4.is_some() } else { endpoint.ipv6.is_some() };
            if has || wanted.is_some_and(|w| !block.contains(w)) {
                continue;
            }
            let address = match kept.filter(|k| wanted.is_none_or(|w| w == *k)) {
                Some(kept) => kept,
                None => self.address(tx, record, &all, subnet, &block, wanted, &network.last)?,
            };
            let gateway = (!network.spec.internal).then(|| subnet.gateway.parse().ok()).flatten();
            match (address, gateway) {
                (IpAddr::V4(a), gateway) => {
                    endpoint.ipv4 = Some((a, block.prefix()));
                    endpoint.gateway4 =
                        gateway.and_then(|g: IpAddr| if let IpAddr::V4(g) = g { Some(g) } else { None });
                    last.last = a.to_string();
                }
                (IpAddr::V6(a), gateway) => {
                    endpoint.ipv6 = Some((a, block.prefix()));
                    endpoint.gateway6 =
                        gateway.and_then(|g: IpAddr| if let IpAddr::V6(g) = g { Some(g) } else { None });
                }
            }
        }
        if attachment.ipv4.is_some_and(|w| endpoint.ipv4.is_none_or(|(a, _)| a != w)) {
            return Err(Error::invalid(format!(
                "no configured subnet or ip-range contain the IP address {}",
                attachment.ipv4.map(|a| a.to_string()).unwrap_or_default()
            )));
        }
        endpoint.mac =
            endpoint_spec(&self.paths.scope(), &record.id, network, attachment, &endpoint, 0, true)?
                .mac()
                .to_string();
        self.records().put_lease(tx, &record.id, &endpoint)?;
        if last.last != network.last {
            self.records().put_network(tx, &last)?;
        }
        Ok(endpoint)
    }

    /// Whether a container, a pod or a build step is at work with its addresses.
    fn holds_addresses(&self, id: &str) -> bool {
        self.is_running(id) || self.step_runs(id) || self.pod_is_up(id)
    }

    #[expect(clippy::too_many_arguments, reason = "one decision with all that it depends on")]
    fn address(
        &self,
        tx: &Connection,
        record: &ContainerRecord,
        all: &[(String, EndpointView)],
        subnet: &SubnetSpec,
        block: &Cidr,
        wanted: Option<IpAddr>,
        last: &str,
    ) -> Result<IpAddr> {
        let others = all.iter().filter(|(c, _)| *c != record.id);
        let mut taken: BTreeSet<IpAddr> = others
            .clone()
            .flat_map(|(_, e)| {
                [e.ipv4.map(|(a, _)| IpAddr::V4(a)), e.ipv6.map(|(a, _)| IpAddr::V6(a))].into_iter().flatten()
            })
            .collect();
        taken.extend(subnet.gateway.parse::<IpAddr>().ok());
        taken.extend(subnet.aux.values().copied());
        if let Some(wanted) = wanted {
            if taken.contains(&wanted)
                && let Some((holder, _)) = others.clone().find(|(c, e)| {
                    e.ipv4.is_some_and(|(a, _)| IpAddr::V4(a) == wanted) && !self.holds_addresses(c)
                })
            {
                // Somebody who does not run need not keep what another asks for by name.
                let network = all.iter().find(|(c, _)| c == holder).map(|(_, e)| e.network_id.clone());
                self.records().delete_lease(tx, &network.unwrap_or_default(), holder)?;
                taken.remove(&wanted);
            }
            ipam::check_address(block, wanted, &taken)?;
            return Ok(wanted);
        }
        let range: Option<Cidr> = if subnet.range.is_empty() { None } else { Some(subnet.range.parse()?) };
        let last = last.parse().ok().filter(|a| block.contains(*a));
        match ipam::pick_address(block, range.as_ref(), &taken, last) {
            Err(e) if e.kind() == Kind::Exhausted => {
                let idle = others.clone().find(|(c, _)| !self.holds_addresses(c));
                let Some((holder, endpoint)) = idle else { return Err(e) };
                self.records().delete_lease(tx, &endpoint.network_id, holder)?;
                match (block.is_ipv4(), endpoint.ipv4, endpoint.ipv6) {
                    (true, Some((a, _)), _) => Ok(IpAddr::V4(a)),
                    (false, _, Some((a, _))) => Ok(IpAddr::V6(a)),
                    _ => Err(e),
                }
            }
            picked => picked,
        }
    }
}

/// Under which names others on the network find a container.
fn dns_names(record: &ContainerRecord, attachment: &NetworkAttachment) -> Vec<String> {
    let mut names = vec![record.name.clone()];
    for name in attachment
        .aliases
        .iter()
        .cloned()
        .chain([id::short(&record.id).to_owned(), record.spec.hostname.clone()])
    {
        if !name.is_empty() && !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// What the host's bridge of `network` should be.
pub(crate) fn bridge(network: &NetworkRecord) -> Result<BridgeSpec> {
    let mut gateways = Vec::new();
    for subnet in &network.spec.subnets {
        let block: Cidr = subnet.subnet.parse()?;
        let gateway: IpAddr = subnet.gateway.parse().map_err(|_| {
            Error::invalid(format!("network {}: gateway {}", network.spec.name, subnet.gateway))
        })?;
        gateways.push(Cidr::new(gateway, block.prefix())?);
    }
    let option = |name: &str| network.spec.options.get(name).map(String::as_str);
    let flag = |name: &str, default: bool| option(name).map_or(default, |v| matches!(v, "true" | "1"));
    Ok(BridgeSpec {
        mtu: option("com.docker.network.driver.mtu").and_then(|v| v.parse().ok()),
        internal: network.spec.internal,
        icc: flag("com.docker.network.bridge.enable_icc", true),
        masquerade: flag("com.docker.network.bridge.enable_ip_masquerade", true) && !network.spec.internal,
        direct: matches!(
            option("com.docker.network.bridge.gateway_mode_ipv4"),
            Some("routed" | "nat-unprotected")
        ),
        host_binding_ipv4: option("com.docker.network.bridge.host_binding_ipv4").and_then(|v| v.parse().ok()),
        ..BridgeSpec::new(network.ifname.clone(), gateways)
    })
}

/// The link of a container on `network`; `index` numbers its interface, `default_route` says whether it leads out.
pub(crate) fn endpoint_spec(
    scope: &fluyt_net::Scope,
    container: &str,
    network: &NetworkRecord,
    attachment: &NetworkAttachment,
    endpoint: &EndpointView,
    index: usize,
    default_route: bool,
) -> Result<EndpointSpec> {
    let mut addresses = Vec::new();
    if let Some((a, prefix)) = endpoint.ipv4 {
        addresses.push(Cidr::new(IpAddr::V4(a), prefix)?);
    }
    if let Some((a, prefix)) = endpoint.ipv6 {
        addresses.push(Cidr::new(IpAddr::V6(a), prefix)?);
    }
    let gateways = [endpoint.gateway4.map(IpAddr::V4), endpoint.gateway6.map(IpAddr::V6)];
    let bridge = if network.spec.driver == "bridge" { Some(bridge(network)?) } else { None };
    let link = match &bridge {
        Some(b) => Link::Bridge {
            ifname: network.ifname.clone(),
            host_ifname: scope.host_end(container, &network.id),
            isolated: !b.icc,
        },
        None => Link::Macvlan {
            parent: network.ifname.clone(),
            mode: macvlan_mode(network.spec.options.get("macvlan_mode"))?,
        },
    };
    let name = attachment.driver_opts.get("com.docker.network.endpoint.ifname");
    Ok(EndpointSpec {
        link,
        container_ifname: match name {
            Some(name) => check_ifname(name)?,
            None => format!("eth{index}"),
        },
        mac: attachment.mac.as_ref().map(|m| m.parse()).transpose()?,
        addresses,
        gateways: if default_route { gateways.into_iter().flatten().collect() } else { Vec::new() },
        routes: Vec::new(),
        mtu: bridge.and_then(|b| b.mtu),
        sysctls: endpoint_sysctls(attachment),
    })
}

/// The plug that a monitor makes for [`endpoint_spec`].
pub(crate) fn plug(
    scope: &fluyt_net::Scope,
    container: &str,
    network: &NetworkRecord,
    attachment: &NetworkAttachment,
    endpoint: &EndpointView,
    index: usize,
    default_route: bool,
) -> Result<Plug> {
    let endpoint = endpoint_spec(scope, container, network, attachment, endpoint, index, default_route)?;
    Ok(Plug { network: network.id.clone(), endpoint })
}

fn endpoint_sysctls(attachment: &NetworkAttachment) -> Vec<(String, String)> {
    let Some(list) = attachment.driver_opts.get("com.docker.network.endpoint.sysctls") else {
        return Vec::new();
    };
    list.split(',').filter_map(|s| s.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

fn macvlan_mode(name: Option<&String>) -> Result<MacvlanMode> {
    match name.map(String::as_str) {
        None | Some("bridge") => Ok(MacvlanMode::Bridge),
        Some("private") => Ok(MacvlanMode::Private),
        Some("vepa") => Ok(MacvlanMode::Vepa),
        Some("passthru") => Ok(MacvlanMode::Passthru),
        Some(other) => Err(Error::invalid(format!("unknown macvlan mode {other}"))
            .with_hint("use bridge, private, vepa or passthru")),
    }
}

fn check_ifname(name: &str) -> Result<String> {
    let ok = (1..16).contains(&name.len()) && !name.contains(['/', ' ', ':']) && name != "." && name != "..";
    if ok {
        Ok(name.to_owned())
    } else {
        Err(Error::invalid(format!("\"{name}\" is no name for a network link")))
    }
}

/// Every subnet that must not be given out again: the host's routes and our own networks.
fn used_subnets(networks: &[NetworkRecord]) -> Result<Vec<Cidr>> {
    let mut used = fluyt_net::host_routes()?;
    used.extend(networks.iter().flat_map(|n| &n.spec.subnets).filter_map(|s| s.subnet.parse::<Cidr>().ok()));
    Ok(used)
}

/// Fills in what was left open: subnets from the pools, gateways.
fn complete(
    spec: &mut NetworkSpec,
    pools: &[ipam::Pool],
    used: &[Cidr],
    scope: &str,
    id: &str,
) -> Result<()> {
    let parsed: Vec<Cidr> = spec
        .subnets
        .iter()
        .map(|s| s.subnet.parse::<Cidr>().map_err(|_| Error::invalid(format!("invalid subnet {}", s.subnet))))
        .collect::<Result<_>>()?;
    if spec.ipv4 && !parsed.iter().any(Cidr::is_ipv4) {
        let subnet = ipam::pick_subnet(pools, used)?.to_string();
        spec.subnets.insert(0, SubnetSpec { subnet, ..SubnetSpec::default() });
    }
    if spec.ipv6 && !parsed.iter().any(|c| !c.is_ipv4()) {
        let subnet = ipam::ula_subnet(scope, id, used)?.to_string();
        spec.subnets.push(SubnetSpec { subnet, ..SubnetSpec::default() });
    }
    for subnet in &mut spec.subnets {
        let block: Cidr = subnet.subnet.parse()?;
        if block.network() != block {
            return Err(Error::invalid(format!("invalid subnet {block}: it should be {}", block.network())));
        }
        if subnet.gateway.is_empty() {
            subnet.gateway = ipam::first_address(&block)?.to_string();
        } else if !subnet.gateway.parse::<IpAddr>().is_ok_and(|g| block.contains(g)) {
            return Err(Error::invalid(format!("no matching subnet for gateway {}", subnet.gateway)));
        }
        if !subnet.range.is_empty() {
            let range: Cidr = subnet.range.parse()?;
            if !block.contains(range.addr()) || range.prefix() < block.prefix() {
                return Err(Error::invalid(format!("no matching subnet for range {range}")));
            }
        }
    }
    Ok(())
}

fn overlap(spec: &NetworkSpec, others: &[NetworkRecord]) -> Result<()> {
    for subnet in &spec.subnets {
        let block: Cidr = subnet.subnet.parse()?;
        for other in others {
            let clash = other
                .spec
                .subnets
                .iter()
                .filter_map(|s| s.subnet.parse::<Cidr>().ok())
                .any(|o| o.overlaps(&block));
            // Two bridges need different routes, two networks on one parent different addresses.
            let parent = |s: &NetworkSpec| s.options.get("parent").cloned();
            let together = other.spec.driver == spec.driver
                && (spec.driver == "bridge" || parent(&other.spec) == parent(spec));
            if clash && together && !matches!(spec.driver.as_str(), "host" | "null") {
                return Err(Error::conflict(format!(
                    "Pool overlaps with other one on this address space: {block} is used by network {}",
                    other.spec.name
                )));
            }
        }
    }
    Ok(())
}
