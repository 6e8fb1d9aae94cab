//! Host name, ports, names.

use std::net::IpAddr;

use fluyt_model::sandbox::{Dns, HostEntry, PortMapping, Protocol};

use super::{Lowering, Machine, Problem, Subject, Wishes};
use crate::objects::{ContainerPort, PodSpec};

/// The host name: that of the machine on the machine's network.
pub(super) fn hostname(pod: Subject<'_>, machine: &Machine) -> String {
    if pod.spec.host_network {
        return machine.hostname.clone();
    }
    let name = if pod.spec.hostname.is_empty() { pod.name } else { &pod.spec.hostname };
    // The kernel takes 64 bytes, a domain name 63 a label.
    let mut name: String = name.chars().take(63).collect();
    name.truncate(name.trim_end_matches(['-', '.']).len());
    match pod.spec.subdomain.as_str() {
        subdomain if pod.spec.set_hostname_as_fqdn == Some(true) && !subdomain.is_empty() => {
            format!("{name}.{subdomain}")
        }
        _ => name,
    }
}

/// Published ports: those of `wishes` take the place of the pod's own.
pub(super) fn ports(spec: &PodSpec, wishes: &Wishes) -> Lowering<Vec<PortMapping>> {
    let mut ports = wishes.publish.clone();
    for (index, container) in spec.containers.iter().enumerate() {
        for (at, port) in container.ports.iter().enumerate() {
            let path = format!("spec.containers[{index}].ports[{at}]");
            let Some(mapping) = mapping(port, wishes.publish_all).map_err(|p| p.below(&path))? else {
                continue;
            };
            let given = |p: &&PortMapping| {
                p.container_port == mapping.container_port && p.protocol == mapping.protocol
            };
            if wishes.publish.iter().find(given).is_some() {
                continue;
            }
            let same = |p: &&PortMapping| {
                p.host_port == mapping.host_port
                    && p.protocol == mapping.protocol
                    && (p.host_ip == mapping.host_ip || p.host_ip.is_none() || mapping.host_ip.is_none())
            };
            if ports.iter().find(same).is_some() {
                return Err(Problem::new(
                    format!("{path}.hostPort"),
                    format!("the port {} of the machine is given twice", mapping.host_port),
                ));
            }
            ports.push(mapping);
        }
    }
    Ok(if spec.host_network { Vec::new() } else { ports })
}

fn mapping(port: &ContainerPort, publish_all: bool) -> Lowering<Option<PortMapping>> {
    let number = |field: &str, value: i64| {
        u16::try_from(value)
            .map_err(|_| Problem::new(field, format!("{value} is not a port")).hint("ports are 1 to 65535"))
    };
    let mut host_port = number("hostPort", port.host_port)?;
    let mut container_port = number("containerPort", port.container_port)?;
    if container_port == 0 {
        container_port = host_port;
    }
    if host_port == 0 && publish_all {
        host_port = container_port;
    }
    let protocol = match port.protocol.to_uppercase().as_str() {
        "" | "TCP" => Protocol::Tcp,
        "UDP" => Protocol::Udp,
        "SCTP" => Protocol::Sctp,
        _ => {
            return Err(Problem::new("protocol", format!("{:?} is not a protocol", port.protocol))
                .hint("use TCP, UDP or SCTP"));
        }
    };
    let host_ip = match port.host_ip.as_str() {
        "" => None,
        text => Some(
            text.parse::<IpAddr>()
                .map_err(|_| Problem::new("hostIP", format!("{text:?} is not an address")))?,
        )
        .filter(|ip| !ip.is_unspecified() || ip.is_ipv6()),
    };
    Ok((host_port != 0).then_some(PortMapping {
        host_ip,
        host_port,
        host_port_end: 0,
        container_port,
        protocol,
    }))
}

/// Where names are resolved.
pub(super) fn dns(spec: &PodSpec) -> Lowering<Dns> {
    match spec.dns_policy.as_str() {
        "" | "ClusterFirst" | "ClusterFirstWithHostNet" | "Default" | "None" => {}
        other => {
            return Err(Problem::new("spec.dnsPolicy", format!("{other:?} is not a DNS policy"))
                .hint("use ClusterFirst, Default or None"));
        }
    }
    let config = spec.dns_config.clone().unwrap_or_default();
    if spec.dns_policy == "None" && config.nameservers.is_empty() {
        return Err(Problem::new("spec.dnsPolicy", "with None, dnsConfig has to name servers"));
    }
    for (index, server) in config.nameservers.iter().enumerate() {
        if server.parse::<IpAddr>().is_err() {
            return Err(Problem::new(
                format!("spec.dnsConfig.nameservers[{index}]"),
                format!("{server:?} is not an address"),
            ));
        }
    }
    let option = |o: &crate::objects::DnsOption| match &o.value {
        Some(value) => format!("{}:{value}", o.name),
        None => o.name.clone(),
    };
    Ok(Dns {
        servers: config.nameservers,
        search: config.searches,
        options: config.options.iter().map(option).collect(),
    })
}

/// Further lines of /etc/hosts.
pub(super) fn hosts(spec: &PodSpec, wishes: &Wishes) -> Lowering<Vec<HostEntry>> {
    if wishes.no_hosts && !spec.host_aliases.is_empty() {
        return Err(Problem::new("spec.hostAliases", "hostAliases do not work with --no-hosts"));
    }
    let mut entries = Vec::new();
    for (index, alias) in spec.host_aliases.iter().enumerate() {
        if alias.ip.parse::<IpAddr>().is_err() {
            let path = format!("spec.hostAliases[{index}].ip");
            return Err(Problem::new(path, format!("{:?} is not an address", alias.ip)));
        }
        for name in &alias.hostnames {
            entries.push(HostEntry { name: name.clone(), address: alias.ip.clone() });
        }
    }
    Ok(entries)
}
