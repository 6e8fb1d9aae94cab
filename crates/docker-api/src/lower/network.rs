//! Namespaces, networks, ports, names.

use fluyt_model::sandbox::{Dns, HostEntry, Namespace, Namespaces, NetworkAttachment, PortMapping, Protocol};
use fluyt_model::{Error, Result};

use crate::types::network::EndpointSettings;
use crate::types::port::Proto;
use crate::types::{ContainerConfig, CreateRequest, HostConfig, PortNumber};

/// The network that `default` stands for.
const DEFAULT: &str = "bridge";

pub(super) fn namespaces(host: &HostConfig) -> Result<Namespaces> {
    let member = !host.pod.is_empty();
    let network = match host.network_mode.as_str() {
        "host" => Namespace::Host,
        "" | "default" if member => Namespace::Pod,
        mode => match mode.strip_prefix("container:") {
            Some("") => return Err(Error::invalid("invalid container format container:<name|id>")),
            Some(other) => Namespace::Container(other.to_owned()),
            None => mode.strip_prefix("ns:").map_or(Namespace::Private, |path| Namespace::Path(path.into())),
        },
    };
    Ok(Namespaces {
        network,
        pid: if member && host.pid_mode.is_empty() { Namespace::Pod } else { shared("pid", &host.pid_mode)? },
        ipc: match host.ipc_mode.as_str() {
            "shareable" => Namespace::Shareable,
            "none" => Namespace::None,
            "" if member => Namespace::Pod,
            mode => shared("ipc", mode)?,
        },
        uts: if member && host.uts_mode.is_empty() { Namespace::Pod } else { shared("uts", &host.uts_mode)? },
        user: super::users::namespace(host)?,
        cgroup: match host.cgroupns_mode.as_str() {
            "" if host.privileged => Namespace::Host,
            "" if member => Namespace::Pod,
            "" | "private" => Namespace::Private,
            "host" => Namespace::Host,
            other => return Err(Error::invalid(format!("invalid cgroup namespace mode: {other}"))),
        },
    })
}

fn shared(what: &str, mode: &str) -> Result<Namespace> {
    match mode {
        "" | "private" => Ok(Namespace::Private),
        "host" => Ok(Namespace::Host),
        other => match other.strip_prefix("container:") {
            Some(name) if !name.is_empty() => Ok(Namespace::Container(name.to_owned())),
            _ => Err(Error::invalid(format!("--{what}: invalid {} mode", what.to_ascii_uppercase()))),
        },
    }
}

/// Docker's conflicts between sharing a network stack and having settings for one.
pub(super) fn check_conflicts(
    config: &ContainerConfig,
    host: &HostConfig,
    namespaces: &Namespaces,
) -> Result<()> {
    let conflict = |what: &str| Err(Error::conflict(format!("conflicting options: {what}")));
    if host.uts_mode == "host" && !config.hostname.is_empty() {
        return conflict("hostname and the UTS mode");
    }
    match &namespaces.network {
        Namespace::Container(_) => {
            if !config.hostname.is_empty() {
                return conflict("hostname and the network mode");
            }
            if !host.links.is_empty() {
                return conflict(
                    "host type networking can't be used with links. This would result in undefined behavior",
                );
            }
            if !host.dns.is_empty() {
                return conflict("dns and the network mode");
            }
            if !host.extra_hosts.is_empty() {
                return conflict("custom host-to-IP mapping and the network mode");
            }
            if !host.port_bindings.is_empty() || host.publish_all_ports {
                return conflict("port publishing and the container type network mode");
            }
            Ok(())
        }
        Namespace::Host if !host.links.is_empty() => {
            conflict("host type networking can't be used with links. This would result in undefined behavior")
        }
        _ => Ok(()),
    }
}

pub(super) fn attachments(
    config: &ContainerConfig,
    request: &CreateRequest,
) -> Result<Vec<NetworkAttachment>> {
    let host = &request.host_config;
    let mode = host.network_mode.as_str();
    if config.network_disabled || matches!(mode, "host" | "none") || mode.contains(':') {
        return Ok(Vec::new());
    }
    let first = if matches!(mode, "" | "default") { DEFAULT } else { mode };
    let endpoints = &request.networking_config.endpoints_config;
    let settings = endpoints.get(first).or_else(|| endpoints.get(mode).filter(|_| first == DEFAULT));
    let mut list = vec![attachment(first, &settings.cloned().unwrap_or_default())?];
    for link in host.links.iter() {
        let (name, alias) = link.split_once(':').unwrap_or((link, link));
        list[0]
            .links
            .push((name.trim_start_matches('/').to_owned(), alias.trim_start_matches('/').to_owned()));
    }
    if list[0].mac.is_none() && !config.mac_address.is_empty() {
        list[0].mac = Some(config.mac_address.clone());
    }
    for (name, settings) in endpoints.iter().filter(|(name, _)| *name != first && *name != mode) {
        list.push(attachment(name, settings)?);
    }
    Ok(list)
}

/// Lowers one endpoint's settings on `network`.
///
/// # Errors
/// `Invalid` for an address that cannot be read.
pub fn attachment(network: &str, settings: &EndpointSettings) -> Result<NetworkAttachment> {
    let ipam = settings.ipam_config.clone().unwrap_or_default();
    let address = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    Ok(NetworkAttachment {
        network: network.to_owned(),
        aliases: settings.aliases.to_vec(),
        ipv4: address(&ipam.ipv4_address)
            .map(|t| t.parse().map_err(|_| Error::invalid(format!("invalid IPv4 address: {t}"))))
            .transpose()?,
        ipv6: address(&ipam.ipv6_address)
            .map(|t| t.parse().map_err(|_| Error::invalid(format!("invalid IPv6 address: {t}"))))
            .transpose()?,
        mac: address(&settings.mac_address),
        links: settings
            .links
            .iter()
            .map(|l| l.split_once(':').unwrap_or((l, l)))
            .map(|(name, alias)| (name.to_owned(), alias.to_owned()))
            .collect(),
        gateway_priority: i32::try_from(settings.gw_priority)
            .map_err(|_| Error::invalid(format!("gw-priority {} is out of range", settings.gw_priority)))?,
        driver_opts: (*settings.driver_opts).clone(),
    })
}

pub(super) fn ports(config: &ContainerConfig, host: &HostConfig) -> Result<Vec<PortMapping>> {
    let mut ports = Vec::new();
    for (port, bindings) in &host.port_bindings {
        for binding in bindings.iter() {
            let (first, last) = host_ports(&binding.host_port)?;
            ports.push(PortMapping {
                host_ip: match binding.host_ip.as_str() {
                    "" => None,
                    text => Some(text.parse().map_err(|_| {
                        Error::invalid(format!("invalid IP address in add-host: \"{text}\""))
                            .context("published port")
                    })?),
                },
                host_port: first,
                host_port_end: if last == first { 0 } else { last },
                ..mapping(*port)
            });
        }
    }
    if host.publish_all_ports {
        for port in config.exposed_ports.keys().filter(|p| !host.port_bindings.contains_key(p)) {
            ports.push(mapping(*port));
        }
    }
    Ok(ports)
}

fn mapping(port: PortNumber) -> PortMapping {
    PortMapping {
        container_port: port.port,
        protocol: match port.proto {
            Proto::Udp => Protocol::Udp,
            Proto::Sctp => Protocol::Sctp,
            _ => Protocol::Tcp,
        },
        ..PortMapping::default()
    }
}

fn host_ports(text: &str) -> Result<(u16, u16)> {
    if text.is_empty() {
        return Ok((0, 0));
    }
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let number = |t: &str| t.parse().map_err(|_| Error::invalid(format!("invalid publish port: {text}")));
    let (first, last): (u16, u16) = (number(first)?, number(last)?);
    if last < first {
        return Err(Error::invalid(format!("invalid range specified for port: {text}")));
    }
    Ok((first, last))
}

pub(super) fn dns(host: &HostConfig) -> Dns {
    Dns { servers: host.dns.to_vec(), search: host.dns_search.to_vec(), options: host.dns_options.to_vec() }
}

pub(super) fn extra_hosts(host: &HostConfig) -> Result<Vec<HostEntry>> {
    host.extra_hosts
        .iter()
        .map(|entry| {
            let (name, address) = entry
                .split_once(['=', ':'])
                .ok_or_else(|| Error::invalid(format!("bad format for add-host: \"{entry}\"")))?;
            let bare = address.trim_start_matches('[').trim_end_matches(']');
            if bare != "host-gateway" && bare.parse::<std::net::IpAddr>().is_err() {
                return Err(Error::invalid(format!("invalid IP address in add-host: \"{address}\"")));
            }
            Ok(HostEntry { name: name.to_owned(), address: bare.to_owned() })
        })
        .collect()
}
