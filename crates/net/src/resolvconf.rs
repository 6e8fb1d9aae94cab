//! The container's `/etc/resolv.conf` and `/etc/hosts`: texts computed from the host's texts and the user's wishes.
//! Pure.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use fluyt_model::error::{Error, Result};
use fluyt_model::sandbox::{Dns, HostEntry};

/// Where our resolver listens inside a container.
pub const RESOLVER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);

/// systemd-resolved's stub, which forwards to the servers named in [`SYSTEMD_RESOLV_CONF`].
const SYSTEMD_STUB: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 53);

/// Where systemd-resolved writes the servers behind its stub.
pub const SYSTEMD_RESOLV_CONF: &str = "/run/systemd/resolve/resolv.conf";

/// Asked when the host names no server at all.
const LAST_RESORT: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(9, 9, 9, 9)), IpAddr::V4(Ipv4Addr::new(1, 1, 1, 1))];

/// How the container resolves names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It shares the host's network: the host's file as it is, but for the user's wishes.
    Host,
    /// The default bridge: it asks the host's servers itself, if it can reach them.
    Direct,
    /// A user-defined network: it asks our resolver, which knows the network's names.
    Resolver,
}

/// What was computed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolution {
    /// The text of the container's `/etc/resolv.conf`.
    pub text: String,
    /// Whether the container needs our resolver at [`RESOLVER`].
    pub resolver: bool,
    /// The servers to which the resolver forwards.
    pub upstreams: Vec<SocketAddr>,
}

/// A `resolv.conf` as far as it matters.
#[derive(Default)]
struct Parsed {
    servers: Vec<String>,
    search: Vec<String>,
    options: Vec<String>,
}

fn parse(text: &str) -> Parsed {
    let mut parsed = Parsed::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => parsed.servers.extend(words.next().map(str::to_owned)),
            // The last one of these two wins, as in the C library.
            Some("search" | "domain") => parsed.search = words.map(str::to_owned).collect(),
            Some("options") => parsed.options.extend(words.map(str::to_owned)),
            _ => {}
        }
    }
    parsed
}

/// The address of a server as `resolv.conf` writes it; a zone (`%eth0`) cannot be carried into a container.
fn address(server: &str) -> Option<IpAddr> {
    server.split('%').next().and_then(|a| a.parse().ok())
}

/// Computes the container's `resolv.conf`. `host` is the text of the host's file, `behind_stub` that of
/// [`SYSTEMD_RESOLV_CONF`] if it exists.
///
/// # Errors
/// `Invalid` if a server of `wishes` is no address.
pub fn resolv_conf(host: &str, behind_stub: Option<&str>, wishes: &Dns, mode: Mode) -> Result<Resolution> {
    for server in &wishes.servers {
        if address(server).is_none() {
            return Err(Error::invalid(format!("name server {server:?} is not an IP address"))
                .with_hint("--dns takes addresses like 9.9.9.9"));
        }
    }
    let mut parsed = parse(host);
    let stub_only = !parsed.servers.is_empty()
        && parsed.servers.iter().all(|s| address(s) == Some(IpAddr::V4(SYSTEMD_STUB)));
    if let (true, Some(behind), true) = (stub_only, behind_stub, mode != Mode::Host) {
        let real = parse(behind);
        if !real.servers.is_empty() {
            parsed.servers = real.servers;
        }
    }
    if !wishes.servers.is_empty() {
        parsed.servers.clone_from(&wishes.servers);
    }
    if !wishes.search.is_empty() {
        // A single dot means: no search list.
        parsed.search = wishes.search.iter().filter(|s| s.as_str() != ".").cloned().collect();
    }
    if !wishes.options.is_empty() {
        parsed.options.clone_from(&wishes.options);
    }
    Ok(compose(parsed, mode, !wishes.servers.is_empty()))
}

fn compose(mut parsed: Parsed, mode: Mode, asked_for: bool) -> Resolution {
    if mode == Mode::Host {
        return Resolution { text: render(&parsed), resolver: false, upstreams: Vec::new() };
    }
    let mut upstreams: Vec<IpAddr> = parsed.servers.iter().filter_map(|s| address(s)).collect();
    // Our own address as an upstream would be asking ourselves.
    upstreams.retain(|a| *a != IpAddr::V4(RESOLVER) && !a.is_unspecified());
    if upstreams.is_empty() {
        upstreams = LAST_RESORT.to_vec();
    }
    let reachable: Vec<IpAddr> =
        upstreams.iter().copied().filter(|a| asked_for || from_container(*a)).collect();
    // A server on the host's loopback can be asked by our resolver only, which asks from the host's namespace.
    let resolver = mode == Mode::Resolver || reachable.is_empty();
    if resolver {
        parsed.servers = vec![RESOLVER.to_string()];
        if mode == Mode::Resolver && !parsed.options.iter().any(|o| o.starts_with("ndots:")) {
            parsed.options.push("ndots:0".to_owned());
        }
    } else {
        parsed.servers = reachable.iter().map(ToString::to_string).collect();
    }
    let upstreams = upstreams.into_iter().map(|a| SocketAddr::new(a, 53)).collect();
    Resolution { text: render(&parsed), resolver, upstreams }
}

/// Whether a container on a bridge can ask a server at this address.
fn from_container(addr: IpAddr) -> bool {
    let link_local = matches!(addr, IpAddr::V6(a) if a.segments()[0] & 0xffc0 == 0xfe80);
    !addr.is_loopback() && !link_local
}

fn render(parsed: &Parsed) -> String {
    let mut text = String::new();
    for server in &parsed.servers {
        let _ = writeln!(text, "nameserver {server}");
    }
    for (keyword, words) in [("search", &parsed.search), ("options", &parsed.options)] {
        if !words.is_empty() {
            let _ = writeln!(text, "{keyword} {}", words.join(" "));
        }
    }
    text
}

/// Names under which a container reaches the host; Docker's, Podman's and ours.
const HOST_NAMES: &str = "host.docker.internal host.containers.internal host.fluyt.internal";

/// What goes into a container's `/etc/hosts`.
#[derive(Clone, Debug, Default)]
pub struct Hosts<'a> {
    /// The container's host name.
    pub hostname: &'a str,
    /// Its domain, if it has one.
    pub domain: &'a str,
    /// Its addresses on its networks.
    pub addresses: &'a [IpAddr],
    /// The host's addresses as seen from the container (the gateways of its bridge), for `host-gateway`.
    pub host_gateway: &'a [IpAddr],
    /// Further lines, in order.
    pub extra: &'a [HostEntry],
    /// The host's own file, for containers that share its network.
    pub host_file: Option<&'a str>,
}

/// Computes the container's `/etc/hosts`.
///
/// # Errors
/// `Invalid` for an entry whose address is none, or `host-gateway` where the host has no address.
pub fn hosts(h: &Hosts<'_>) -> Result<String> {
    let mut text = match h.host_file {
        Some(file) if file.is_empty() || file.ends_with('\n') => file.to_owned(),
        Some(file) => format!("{file}\n"),
        None => LOCAL.to_owned(),
    };
    for entry in h.extra {
        let addresses: Vec<IpAddr> = if entry.address == "host-gateway" {
            h.host_gateway.to_vec()
        } else {
            let literal = entry.address.trim_start_matches('[').trim_end_matches(']');
            literal.parse().into_iter().collect()
        };
        if addresses.is_empty() {
            return Err(Error::invalid(format!(
                "host entry {}: {:?} is not an address",
                entry.name, entry.address
            ))
            .with_hint("--add-host takes NAME:ADDRESS, or NAME:host-gateway on a bridge network"));
        }
        for addr in addresses {
            let _ = writeln!(text, "{addr}\t{}", entry.name);
        }
    }
    for addr in h.host_gateway {
        let names: Vec<&str> =
            HOST_NAMES.split(' ').filter(|n| !h.extra.iter().any(|e| e.name == **n)).collect();
        if !names.is_empty() {
            let _ = writeln!(text, "{addr}\t{}", names.join(" "));
        }
    }
    for addr in h.addresses.iter().filter(|_| !h.hostname.is_empty()) {
        if h.domain.is_empty() {
            let _ = writeln!(text, "{addr}\t{}", h.hostname);
        } else {
            let _ = writeln!(text, "{addr}\t{}.{} {}", h.hostname, h.domain, h.hostname);
        }
    }
    Ok(text)
}

const LOCAL: &str = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\n\
                     ff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n";

#[cfg(test)]
mod tests {
    use super::*;

    fn compute(host: &str, behind: Option<&str>, wishes: &Dns, mode: Mode) -> Resolution {
        resolv_conf(host, behind, wishes, mode).unwrap()
    }

    fn shown(r: &Resolution) -> String {
        let upstreams: Vec<_> = r.upstreams.iter().map(|u| u.ip().to_string()).collect();
        format!("{}| {} | {}", r.text.replace('\n', "; "), r.resolver, upstreams.join(" "))
    }

    #[test]
    fn servers_follow_the_host_and_the_mode() {
        let none = Dns::default();
        let plain = "# comment\nnameserver 10.0.0.53\nsearch corp.example\noptions edns0\n";
        let direct = compute(plain, None, &none, Mode::Direct);
        assert_eq!(
            shown(&direct),
            "nameserver 10.0.0.53; search corp.example; options edns0; | false | 10.0.0.53"
        );
        let user = compute(plain, None, &none, Mode::Resolver);
        assert_eq!(
            shown(&user),
            "nameserver 127.0.0.11; search corp.example; options edns0 ndots:0; | true | 10.0.0.53"
        );
        let stub = "nameserver 127.0.0.53\n";
        let behind = Some("nameserver 192.0.2.53\n");
        assert_eq!(
            shown(&compute(stub, behind, &none, Mode::Direct)),
            "nameserver 192.0.2.53; | false | 192.0.2.53"
        );
        assert_eq!(
            shown(&compute(stub, None, &none, Mode::Direct)),
            "nameserver 127.0.0.11; | true | 127.0.0.53"
        );
        assert_eq!(compute(stub, behind, &none, Mode::Host).text, stub);
        // Only ourselves: never a loop.
        let looped = compute("nameserver 127.0.0.11\n", None, &none, Mode::Resolver);
        assert_eq!(shown(&looped), "nameserver 127.0.0.11; options ndots:0; | true | 9.9.9.9 1.1.1.1");
    }

    #[test]
    fn wishes_win() {
        let wishes = Dns {
            servers: vec!["192.0.2.1".into()],
            search: vec![".".into()],
            options: vec!["timeout:1".into(), "ndots:2".into()],
        };
        let host = "nameserver 10.0.0.1\nsearch a b\noptions rotate\n";
        let r = compute(host, None, &wishes, Mode::Direct);
        assert_eq!(shown(&r), "nameserver 192.0.2.1; options timeout:1 ndots:2; | false | 192.0.2.1");
        let bad = Dns { servers: vec!["dns.example".into()], ..Dns::default() };
        assert!(resolv_conf(host, None, &bad, Mode::Direct).is_err());
    }

    #[test]
    fn hosts_know_the_host_and_the_container() {
        let extra = [
            HostEntry { name: "db".into(), address: "10.1.1.1".into() },
            HostEntry { name: "gw".into(), address: "host-gateway".into() },
        ];
        let (me, gateway): (IpAddr, IpAddr) = ([172, 29, 0, 2].into(), [172, 29, 0, 1].into());
        let h = Hosts {
            hostname: "web",
            domain: "lan",
            addresses: &[me],
            host_gateway: &[gateway],
            extra: &extra,
            host_file: None,
        };
        let text = hosts(&h).unwrap();
        for line in [
            "127.0.0.1\tlocalhost",
            "10.1.1.1\tdb",
            "172.29.0.1\tgw",
            "172.29.0.1\thost.docker.internal host.containers.internal host.fluyt.internal",
            "172.29.0.2\tweb.lan web",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} in {text}");
        }
        let isolated = Hosts { host_gateway: &[], ..h };
        assert!(hosts(&isolated).is_err(), "host-gateway needs a bridge");
    }
}
