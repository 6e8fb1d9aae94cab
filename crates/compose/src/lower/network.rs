//! Ports, networks, and a container's place in them.

use std::collections::BTreeMap;

use fluyt_docker_api::types::network::EndpointIpamConfig;
use fluyt_docker_api::types::{Empty, PortNumber};
use fluyt_docker_api::types::{
    EndpointSettings, Ipam, IpamConfig, List, Map, NetworkCreate, PortBinding, PortMap, PortSet,
};
use fluyt_model::Result;

use super::{Surroundings, resource_name};
use crate::document::Node;
use crate::labels;
use crate::project::Project;
use crate::view::View;

/// Ports that a container says it listens on.
pub fn exposed(node: &Node) -> Result<PortSet> {
    let mut set = PortSet::new();
    for text in node.texts("expose") {
        let (range, proto) = text.split_once('/').unwrap_or((&text, "tcp"));
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        match (first.parse::<u16>(), last.parse::<u16>()) {
            (Ok(first), Ok(last)) => {
                for port in first..=last {
                    set.insert(format!("{port}/{proto}").parse()?, Empty {});
                }
            }
            _ => {
                set.insert(text.parse()?, Empty {});
            }
        }
    }
    for port in node.items("ports") {
        set.insert(number(port)?, Empty {});
    }
    Ok(set)
}

fn number(port: &Node) -> Result<PortNumber> {
    let proto = port.text("protocol");
    let proto = if proto.is_empty() { "tcp" } else { &proto };
    format!("{}/{proto}", port.int("target").unwrap_or(0)).parse()
}

/// Ports that are published.
pub fn bindings(node: &Node) -> Result<PortMap> {
    let mut map: BTreeMap<PortNumber, Vec<PortBinding>> = BTreeMap::new();
    for port in node.items("ports") {
        let binding = PortBinding { host_ip: port.text("host_ip"), host_port: port.text("published") };
        map.entry(number(port)?).or_default().push(binding);
    }
    Ok(map.into_iter().map(|(port, list)| (port, list.into())).collect())
}

/// The networks of a service, the most important first.
pub fn by_priority(node: &Node) -> Vec<(&str, &Node)> {
    let mut networks = node.entries("networks");
    networks.sort_by_key(|(_, place)| std::cmp::Reverse(place.int("priority").unwrap_or(0)));
    networks
}

/// A container's place in each of its networks, by the networks' names.
pub fn endpoints(
    project: &Project,
    service: &str,
    node: &Node,
    around: &Surroundings,
) -> Vec<(String, EndpointSettings)> {
    let mut links: Vec<String> = node.texts("external_links");
    for link in node.texts("links") {
        let (target, alias) = link.split_once(':').unwrap_or((&link, &link));
        if let Some(container) = around.containers.get(target) {
            links.push(format!("{container}:{alias}"));
        }
    }
    let mac = node.text("mac_address");
    let place = |(n, (key, place)): (usize, (&str, &Node))| {
        let mut aliases = vec![service.to_owned()];
        aliases.extend(place.texts("aliases").into_iter().filter(|a| a != service));
        let ipam = EndpointIpamConfig {
            ipv4_address: place.text("ipv4_address"),
            ipv6_address: place.text("ipv6_address"),
            link_local_ips: List::null_if_empty(place.texts("link_local_ips")),
        };
        let own_mac = place.text("mac_address");
        let mut options = place.dict("driver_opts");
        let interface = place.text("interface_name");
        if !interface.is_empty() {
            options.insert("com.docker.network.endpoint.ifname".to_owned(), interface);
        }
        let settings = EndpointSettings {
            ipam_config: (ipam != EndpointIpamConfig::default()).then_some(ipam),
            links: List::null_if_empty(links.clone()),
            aliases: aliases.into(),
            mac_address: if own_mac.is_empty() && n == 0 { mac.clone() } else { own_mac },
            driver_opts: Map::null_if_empty(options),
            gw_priority: place.int("gw_priority").unwrap_or(0),
            ..EndpointSettings::default()
        };
        (resource_name(project, "networks", key), settings)
    };
    by_priority(node).into_iter().enumerate().map(place).collect()
}

/// The network whose name or id a container's settings must have, for each network of a service: key and name.
pub fn network_of(project: &Project, node: &Node) -> Vec<(String, String)> {
    let networks = by_priority(node).into_iter();
    networks.map(|(key, _)| (key.to_owned(), resource_name(project, "networks", key))).collect()
}

/// A network to be made.
pub fn create(project: &Project, key: &str) -> NetworkCreate {
    let Some(node) = project.tree.get("networks").and_then(|n| n.get(key)) else {
        return NetworkCreate::default();
    };
    let mut labels = node.dict("labels");
    labels.insert(labels::NETWORK.to_owned(), key.to_owned());
    labels.insert(labels::PROJECT.to_owned(), project.name.clone());
    labels.insert(labels::VERSION.to_owned(), labels::OUR_VERSION.to_owned());
    labels.insert(labels::CONFIG_HASH.to_owned(), project.hash_of_network(key).unwrap_or_default());
    let ipam = node.get("ipam").map(|ipam| Ipam {
        driver: ipam.text("driver"),
        options: Map::null_if_empty(ipam.dict("options")),
        config: ipam
            .items("config")
            .iter()
            .map(|pool| IpamConfig {
                subnet: pool.text("subnet"),
                ip_range: pool.text("ip_range"),
                gateway: pool.text("gateway"),
                auxiliary_addresses: Map::null_if_empty(pool.dict("aux_addresses")),
            })
            .collect(),
    });
    NetworkCreate {
        name: node.text("name"),
        driver: node.text("driver"),
        enable_ipv4: node.maybe("enable_ipv4"),
        enable_ipv6: node.maybe("enable_ipv6"),
        ipam,
        internal: node.flag("internal"),
        attachable: node.flag("attachable"),
        options: node.dict("driver_opts").into(),
        labels: labels.into(),
        ..NetworkCreate::default()
    }
}
