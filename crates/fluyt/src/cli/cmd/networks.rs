//! `network create`, `ls`, `rm`, `connect`, `disconnect`.

use std::net::IpAddr;

use fluyt_docker_api::api::Docker;
use fluyt_docker_api::select::networks as select;
use fluyt_docker_api::types::{Ipam, IpamConfig, Map, NetworkCreate};
use fluyt_engine::SubnetSpec;
use fluyt_model::{Error, Kind, Result};

use super::Cli;
use crate::cli::create::{key_values, network as endpoints};
use crate::cli::fail::{Outcome, for_each};
use crate::cli::filter::Filters;
use crate::cli::flags::{Arity, Command, NONE, Parsed, int, list, many, one, switch, text, values};
use crate::cli::format::{self, rows};
use crate::cli::{fail, print_line, print_text, time};

/// `fluyt network create`.
pub const CREATE: Command = Command {
    name: "create",
    arguments: "NETWORK",
    about: "Create a network",
    flags: &[&[
        switch(NONE, "attachable", "Enable manual container attachment"),
        list(NONE, "aux-address", "Auxiliary IPv4 or IPv6 addresses used by Network driver"),
        text(NONE, "config-from", "The network from which to copy the configuration").hidden(),
        switch(NONE, "config-only", "Create a configuration only network").hidden(),
        text('d', "driver", "Driver to manage the Network").default("bridge"),
        list(NONE, "gateway", "IPv4 or IPv6 Gateway for the master subnet"),
        switch(NONE, "disable-dns", "Not here: networks of one's own have a resolver").hidden(),
        list(NONE, "dns", "Not here: name servers are a container's").hidden(),
        switch(NONE, "ignore", "Do not fail if the network exists already"),
        text(NONE, "interface-name", "Name of the bridge, or of the parent of a macvlan network"),
        switch(NONE, "ingress", "Create swarm routing-mesh network").hidden(),
        switch(NONE, "internal", "Restrict external access to the network"),
        list(NONE, "ip-range", "Allocate container ip from a sub-range"),
        text(NONE, "ipam-driver", "IP Address Management Driver").default("default"),
        list(NONE, "ipam-opt", "Set IPAM driver specific options"),
        switch(NONE, "ipv4", "Enable or disable IPv4 address assignment").default("true"),
        switch(NONE, "ipv6", "Enable or disable IPv6 address assignment"),
        many(NONE, "label", "list", values::label, "Set metadata on a network"),
        list('o', "opt", "Set driver specific options"),
        text(NONE, "scope", "Control the network's scope"),
        list(NONE, "subnet", "Subnet in CIDR format that represents a network segment"),
    ]],
    arity: Arity::Exactly(1),
    interspersed: true,
};

/// `fluyt network ls`.
pub const LS: Command = Command {
    name: "ls",
    arguments: "",
    about: "List networks",
    flags: &[&[
        many('f', "filter", "filter", values::filter, "Provide filter values (e.g. \"driver=bridge\")"),
        text(NONE, "format", super::list::FORMAT),
        switch(NONE, "no-trunc", "Do not truncate the output"),
        switch('q', "quiet", "Only display network IDs"),
    ]],
    arity: Arity::None,
    interspersed: true,
};

/// `fluyt network rm`.
pub const RM: Command = Command {
    name: "rm",
    arguments: "NETWORK [NETWORK...]",
    about: "Remove one or more networks",
    flags: &[&[switch('f', "force", "Do not error if the network does not exist")]],
    arity: Arity::AtLeast(1),
    interspersed: true,
};

/// `fluyt network connect`.
pub const CONNECT: Command = Command {
    name: "connect",
    arguments: "NETWORK CONTAINER",
    about: "Connect a container to a network",
    flags: &[&[
        list(NONE, "alias", "Add network-scoped alias for the container"),
        list(NONE, "driver-opt", "driver options for the network"),
        int(NONE, "gw-priority", "Highest gw-priority provides the default gateway"),
        one(NONE, "ip", "ip", values::ip, "IPv4 address (e.g., \"172.30.100.104\")"),
        one(NONE, "ip6", "ip", values::ip, "IPv6 address (e.g., \"2001:db8::33\")"),
        many(NONE, "link", "list", values::link, "Add link to another container"),
        list(NONE, "link-local-ip", "Add a link-local address for the container"),
    ]],
    arity: Arity::Exactly(2),
    interspersed: true,
};

/// `fluyt network disconnect`.
pub const DISCONNECT: Command = Command {
    name: "disconnect",
    arguments: "NETWORK CONTAINER",
    about: "Disconnect a container from a network",
    flags: &[&[switch('f', "force", "Force the container to disconnect from a network")]],
    arity: Arity::Exactly(2),
    interspersed: true,
};

/// Runs `fluyt network create`.
pub fn create(cli: &Cli, flags: &Parsed) -> Outcome {
    for swarm in ["ingress", "config-only", "config-from"] {
        if flags.changed(swarm) {
            return Err(Error::unsupported(format!("--{swarm} belongs to clusters")).into());
        }
    }
    if !matches!(flags.text("scope"), "" | "local") {
        return Err(
            Error::unsupported(format!("the scope {:?} belongs to clusters", flags.text("scope"))).into()
        );
    }
    // The second words are Podman's.
    let ipam_driver = match flags.text("ipam-driver") {
        "default" | "host-local" => "default",
        "null" | "none" => "null",
        other => return Err(Error::not_found(format!("no IPAM driver {other:?}")).into()),
    };
    if flags.on("disable-dns") {
        return Err(Error::unsupported("the resolver of a network cannot be switched off")
            .with_hint("leave out --disable-dns: containers may have other name servers, by --dns")
            .into());
    }
    if flags.changed("dns") {
        return Err(Error::unsupported("a network has no name servers of its own")
            .with_hint("give --dns (in units DNS=) to its containers")
            .into());
    }
    let name = &flags.args[0];
    let exists = |docker: &dyn Docker| match docker.network_list(&Filters::default()) {
        Ok(networks) => networks.iter().any(|network| network.name == *name),
        Err(_) => false,
    };
    if flags.on("ignore") && exists(cli.docker()?) {
        print_line(name)?;
        return Ok(0);
    }
    let config = |s: SubnetSpec| IpamConfig {
        subnet: s.subnet,
        ip_range: s.range,
        gateway: s.gateway,
        auxiliary_addresses: s.aux.into_iter().map(|(name, ip)| (name, ip.to_string())).collect(),
    };
    let wanted = NetworkCreate {
        name: flags.args[0].clone(),
        driver: flags.text("driver").to_owned(),
        enable_ipv4: flags.changed("ipv4").then(|| flags.on("ipv4")),
        enable_ipv6: flags.changed("ipv6").then(|| flags.on("ipv6")),
        ipam: Some(Ipam {
            driver: ipam_driver.to_owned(),
            options: key_values(flags.all("ipam-opt")),
            config: subnets(flags)?.into_iter().map(config).collect(),
        }),
        internal: flags.on("internal"),
        attachable: flags.on("attachable"),
        options: options(flags),
        labels: key_values(flags.all("label")),
        ..NetworkCreate::default()
    };
    let docker = cli.docker()?;
    let made = match docker.network_create(&wanted) {
        // Somebody else was quicker.
        Err(error) if flags.on("ignore") && error.kind() == Kind::Conflict && exists(docker) => {
            print_line(name)?;
            return Ok(0);
        }
        made => made?,
    };
    if !made.warning.is_empty() {
        eprintln!("WARNING: {}", made.warning);
    }
    print_line(&made.id)?;
    Ok(0)
}

/// The driver's options; Podman's flag and its short names are Docker's long ones.
fn options(flags: &Parsed) -> Map<String> {
    let macvlan = flags.text("driver") == "macvlan";
    let link = if macvlan { "parent" } else { "com.docker.network.bridge.name" };
    let given = key_values(flags.all("opt")).into_inner().into_iter();
    let mut options: Map<String> = given
        .map(|(key, value)| match key.as_str() {
            "mtu" => ("com.docker.network.driver.mtu".to_owned(), value),
            "mode" if macvlan => ("macvlan_mode".to_owned(), value),
            _ => (key, value),
        })
        .collect();
    if let Some(name) = flags.given("interface-name") {
        options.insert(link.to_owned(), name.to_owned());
    }
    options
}

/// Puts ranges, gateways and auxiliary addresses to the subnets that contain them.
fn subnets(flags: &Parsed) -> Result<Vec<SubnetSpec>> {
    let mut subnets: Vec<(Cidr, SubnetSpec)> = Vec::new();
    for text in flags.all("subnet") {
        let cidr = Cidr::parse(text)?;
        if subnets.iter().any(|(other, _)| other.overlaps(&cidr)) {
            return Err(Error::invalid("multiple overlapping subnet configuration is not supported"));
        }
        subnets.push((cidr, SubnetSpec { subnet: text.to_owned(), ..SubnetSpec::default() }));
    }
    for text in flags.all("ip-range") {
        let range = Cidr::parse(text)?;
        let (_, spec) = subnets
            .iter_mut()
            .find(|(cidr, _)| cidr.contains(range.address))
            .ok_or_else(|| Error::invalid(format!("no matching subnet for range {text}")))?;
        if !spec.range.is_empty() {
            return Err(Error::invalid(format!(
                "cannot configure multiple ranges ({text}, {}) on the same subnet ({})",
                spec.range, spec.subnet
            )));
        }
        spec.range = text.to_owned();
    }
    for text in flags.all("gateway") {
        let address = ip(text)?;
        let (_, spec) = subnets
            .iter_mut()
            .find(|(cidr, _)| cidr.contains(address))
            .ok_or_else(|| Error::invalid(format!("no matching subnet for gateway {text}")))?;
        if !spec.gateway.is_empty() {
            return Err(Error::invalid(format!(
                "cannot configure multiple gateways ({text}, {}) for the same subnet ({})",
                spec.gateway, spec.subnet
            )));
        }
        spec.gateway = text.to_owned();
    }
    for (name, text) in key_values(flags.all("aux-address")).into_inner() {
        let address = ip(&text)?;
        let (_, spec) = subnets
            .iter_mut()
            .find(|(cidr, _)| cidr.contains(address))
            .ok_or_else(|| Error::invalid(format!("no matching subnet for aux-address {text}")))?;
        spec.aux.insert(name, address);
    }
    Ok(subnets.into_iter().map(|(_, spec)| spec).collect())
}

fn ip(text: &str) -> Result<IpAddr> {
    text.parse().map_err(|_| Error::invalid(format!("invalid IP address: {text}")))
}

/// An address with a prefix length.
#[derive(Clone, Copy, Debug)]
struct Cidr {
    address: IpAddr,
    prefix: u8,
}

impl Cidr {
    fn parse(text: &str) -> Result<Self> {
        let bad =
            || Error::invalid(format!("invalid CIDR address: {text}")).with_hint("for example 172.30.0.0/16");
        let (address, prefix) = text.split_once('/').ok_or_else(bad)?;
        let address: IpAddr = address.parse().map_err(|_| bad())?;
        let prefix: u8 = prefix.parse().map_err(|_| bad())?;
        if prefix > if address.is_ipv4() { 32 } else { 128 } {
            return Err(bad());
        }
        Ok(Self { address, prefix })
    }

    fn contains(&self, other: IpAddr) -> bool {
        network_bits(self.address, self.prefix) == network_bits(other, self.prefix)
            && self.address.is_ipv4() == other.is_ipv4()
    }

    fn overlaps(&self, other: &Self) -> bool {
        if self.prefix <= other.prefix { self.contains(other.address) } else { other.contains(self.address) }
    }
}

/// The first `prefix` bits of an address.
fn network_bits(address: IpAddr, prefix: u8) -> u128 {
    let (bits, width) = match address {
        IpAddr::V4(a) => (u128::from(a.to_bits()), 32),
        IpAddr::V6(a) => (a.to_bits(), 128),
    };
    if prefix == 0 { 0 } else { bits >> (width - u32::from(prefix).min(width)) }
}

/// Runs `fluyt network ls`.
pub fn ls(cli: &Cli, flags: &Parsed) -> Outcome {
    let filters = Filters::parse(flags.all("filter"), select::FILTERS)?;
    let mut networks = cli.docker()?.network_list(&filters)?;
    networks.sort_by(|a, b| a.name.cmp(&b.name));
    let template = format::choose(&rows::NETWORKS, flags.text("format"), flags.on("quiet"));
    let trunc = !flags.on("no-trunc");
    let rows = networks.iter().map(|n| rows::network(n, time::stamp(&n.created).unwrap_or(0), trunc));
    print_text(&format::render(&rows::NETWORKS, template, rows)?)?;
    Ok(0)
}

/// Runs `fluyt network rm`.
pub fn rm(cli: &Cli, flags: &Parsed) -> Outcome {
    let docker = cli.docker()?;
    let force = flags.on("force");
    for_each(&flags.args, |name| match docker.network_remove(name) {
        Ok(()) => Ok(Some(name.to_owned())),
        Err(e) if force && e.kind() == Kind::NotFound => {
            fail::print(&e);
            Ok(None)
        }
        Err(e) => Err(e),
    })
}

/// Runs `fluyt network connect`.
pub fn connect(cli: &Cli, flags: &Parsed) -> Outcome {
    let settings = endpoints::connect_settings(flags).map_err(Error::invalid)?;
    cli.docker()?.network_connect(&flags.args[0], &flags.args[1], &settings)?;
    Ok(0)
}

/// Runs `fluyt network disconnect`.
pub fn disconnect(cli: &Cli, flags: &Parsed) -> Outcome {
    cli.docker()?.network_disconnect(&flags.args[0], &flags.args[1], flags.on("force"))?;
    Ok(0)
}
