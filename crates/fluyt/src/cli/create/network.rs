//! `--network` in its short and its `key=value` form, and the flags that belong to the first network.

use std::collections::BTreeMap;
use std::net::IpAddr;

use fluyt_docker_api::types::network::is_user_defined;
use fluyt_docker_api::types::{EndpointIpamConfig, EndpointSettings, List, Map, NetworkingConfig};

use super::csv;
use crate::cli::flags::Parsed;

/// One `--network`.
#[derive(Debug, Default)]
struct Attachment {
    target: String,
    aliases: Vec<String>,
    links: Vec<String>,
    driver_opts: BTreeMap<String, String>,
    ip: String,
    ip6: String,
    link_local: Vec<String>,
    mac: String,
    priority: i64,
}

/// The check of `--network`.
pub fn check(text: &str) -> Result<(), String> {
    attachment(text).map(|_| ())
}

/// The network mode and the endpoints that the flags ask for.
pub fn endpoints(flags: &Parsed) -> Result<(String, NetworkingConfig), String> {
    let mut wanted = flags.all("network").map(attachment).collect::<Result<Vec<_>, _>>()?;
    let implicit = wanted.is_empty();
    if implicit {
        wanted.push(Attachment { target: "default".to_owned(), ..Attachment::default() });
    }
    let mode = wanted[0].target.clone();
    let single = wanted.len() == 1;
    let user_defined = wanted.iter().filter(|a| is_user_defined(&a.target)).count();
    first_flags(&mut wanted[0], flags)?;

    let mut endpoints: Map<EndpointSettings> = Map::empty();
    for one in &wanted {
        let settings = settings(one)?;
        if endpoints.contains_key(&one.target) {
            return Err(format!("network {:?} is specified multiple times", one.target));
        }
        if single && !implicit && settings == EndpointSettings::default() {
            continue;
        }
        endpoints.insert(one.target.clone(), settings);
    }
    if user_defined > 0 && user_defined < wanted.len() {
        return Err(
            "conflicting options: cannot attach both user-defined and non-user-defined network-modes"
                .to_owned(),
        );
    }
    let lonely =
        |a: &Attachment| matches!(a.target.as_str(), "host" | "none") || a.target.starts_with("container:");
    if !single && let Some(one) = wanted.iter().find(|a| lonely(a)) {
        return Err(format!("conflicting options: {:?} cannot be combined with another network", one.target));
    }
    Ok((mode, NetworkingConfig { endpoints_config: endpoints }))
}

/// The settings of one attachment, for `network connect` too.
pub fn connect_settings(flags: &Parsed) -> Result<EndpointSettings, String> {
    let mut driver_opts = BTreeMap::new();
    for opt in flags.all("driver-opt") {
        let (key, value) = driver_opt(opt)?;
        driver_opts.insert(key, value);
    }
    let one = Attachment {
        target: "a".to_owned(),
        aliases: flags.list("alias"),
        links: flags.list("link"),
        driver_opts,
        ip: flags.text("ip").to_owned(),
        ip6: flags.text("ip6").to_owned(),
        link_local: flags.list("link-local-ip"),
        mac: String::new(),
        priority: flags.int("gw-priority"),
    };
    settings(&one)
}

/// Reads one `--network`.
fn attachment(text: &str) -> Result<Attachment, String> {
    let mut one = Attachment::default();
    if !is_long(text) {
        one.target = text.to_owned();
        return Ok(one);
    }
    // Podman's form: the options of a network stand behind its name and a colon.
    let options = match text.split_once(':') {
        Some((name, options)) if !name.contains(['=', ',']) && !name.is_empty() => {
            one.target = name.to_owned();
            options
        }
        _ => text,
    };
    for field in csv::fields(options)? {
        let (key, value) = field
            .split_once('=')
            .filter(|(key, _)| !key.is_empty())
            .ok_or_else(|| format!("invalid field {field}"))?;
        let value = value.trim();
        let address = |text: &str| {
            text.parse::<IpAddr>()
                .map(|a| a.to_string())
                .map_err(|_| format!("ParseAddr(\"{text}\"): unable to parse IP"))
        };
        match key.trim().to_ascii_lowercase().as_str() {
            "name" => one.target = value.to_owned(),
            "alias" => one.aliases.push(value.to_owned()),
            "ip" if value.contains(':') => one.ip6 = address(value)?,
            "ip" => one.ip = address(value)?,
            "ip6" => one.ip6 = address(value)?,
            "mac-address" | "mac" => one.mac = value.to_owned(),
            "link-local-ip" => one.link_local.push(address(value)?),
            "driver-opt" => {
                let (key, value) = driver_opt(value)?;
                one.driver_opts.insert(key, value);
            }
            "gw-priority" => {
                one.priority =
                    value.parse().map_err(|_| format!("invalid gw-priority ({value}): invalid syntax"))?;
            }
            other => return Err(format!("invalid field key {other}")),
        }
    }
    if one.target.is_empty() {
        return Err("network name/id is not specified".to_owned());
    }
    Ok(one)
}

/// Whether it is the `key=value` form: a `=` between two word characters.
fn is_long(text: &str) -> bool {
    let word = |c: u8| c.is_ascii_alphanumeric() || c == b'_';
    text.as_bytes().windows(3).any(|w| word(w[0]) && w[1] == b'=' && word(w[2]))
}

fn driver_opt(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => {
            Ok((key.trim().to_ascii_lowercase(), value.trim().to_owned()))
        }
        _ => Err("invalid key value pair format in driver options".to_owned()),
    }
}

/// Adds the flags that predate the `key=value` form to the first network.
fn first_flags(one: &mut Attachment, flags: &Parsed) -> Result<(), String> {
    let conflict = |what: &str, other: &str| {
        Err(format!("conflicting options: cannot specify both {what} and per-network {other}"))
    };
    let aliases = flags.list("network-alias");
    if !aliases.is_empty() {
        if !one.aliases.is_empty() {
            return conflict("--network-alias", "alias");
        }
        one.aliases = aliases;
    }
    if is_user_defined(&one.target) {
        one.links = flags.list("link");
    }
    for (flag, place, other) in [
        ("ip", &mut one.ip, "IPv4 address"),
        ("ip6", &mut one.ip6, "IPv6 address"),
        ("mac-address", &mut one.mac, "MAC address"),
    ] {
        if let Some(value) = flags.given(flag) {
            if !place.is_empty() {
                return conflict(&format!("--{flag}"), other);
            }
            *place = value.trim().to_owned();
        }
    }
    let link_local = flags.list("link-local-ip");
    if !link_local.is_empty() {
        if !one.link_local.is_empty() {
            return conflict("--link-local-ip", "link-local IP addresses");
        }
        one.link_local = link_local;
    }
    Ok(())
}

fn settings(one: &Attachment) -> Result<EndpointSettings, String> {
    if one.target.trim().is_empty() {
        return Err("no name set for network".to_owned());
    }
    if !is_user_defined(&one.target) {
        if !one.aliases.is_empty() {
            return Err("network-scoped aliases are only supported for user-defined networks".to_owned());
        }
        if !one.links.is_empty() {
            return Err("links are only supported for user-defined networks".to_owned());
        }
    }
    let addressed = !(one.ip.is_empty() && one.ip6.is_empty() && one.link_local.is_empty());
    let ipam_config = addressed.then(|| EndpointIpamConfig {
        ipv4_address: one.ip.clone(),
        ipv6_address: one.ip6.clone(),
        link_local_ips: List::null_if_empty(one.link_local.clone()),
    });
    let mac_address = if one.mac.is_empty() { String::new() } else { mac(&one.mac)? };
    Ok(EndpointSettings {
        ipam_config,
        links: List::null_if_empty(one.links.clone()),
        aliases: List::null_if_empty(one.aliases.clone()),
        mac_address,
        driver_opts: Map::null_if_empty(one.driver_opts.clone()),
        gw_priority: one.priority,
        ..EndpointSettings::default()
    })
}

/// Reads a MAC address: six octets, colons or dashes.
pub fn mac(text: &str) -> Result<String, String> {
    let octets: Option<Vec<u8>> = text
        .trim()
        .split([':', '-'])
        .map(|octet| if octet.len() == 2 { u8::from_str_radix(octet, 16).ok() } else { None })
        .collect();
    match octets {
        Some(octets) if octets.len() == 6 => {
            Ok(octets.iter().map(|o| format!("{o:02x}")).collect::<Vec<_>>().join(":"))
        }
        _ => Err(format!("{text} is not a valid mac address")),
    }
}
