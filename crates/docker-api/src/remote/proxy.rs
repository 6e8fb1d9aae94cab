//! A proxy between this machine and a daemon by TCP: a tunnel by `CONNECT` (RFC 9110, 9.3.6), for TLS and without.
//!
//! Which proxy the environment names is decided here, by the rules of Go's net/http, which Docker's client follows; the
//! variables themselves are the caller's to read. Absent: proxies that are spoken to by TLS, SOCKS.

use std::io::{self, Read, Write};
use std::net::{IpAddr, TcpStream};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fluyt_model::{Error, Result};

/// The longest head of a proxy's answer.
const MAX_HEAD: usize = 16 << 10;
/// How long a proxy may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// A proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    /// Name or address.
    pub machine: String,
    /// Port.
    pub port: u16,
    /// `user:password`; empty: none.
    credentials: String,
}

impl Proxy {
    /// The proxy on the way to a machine, if variables name one; `tls` says which of them count.
    ///
    /// # Errors
    /// `Invalid` for what is no address, `Unsupported` for a kind of proxy that cannot be spoken to.
    pub fn on_the_way(
        machine: &str,
        port: u16,
        tls: bool,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Option<Self>> {
        let either = |upper: &str, lower: &str| env(upper).or_else(|| env(lower)).filter(|v| !v.is_empty());
        let (upper, lower) = if tls { ("HTTPS_PROXY", "https_proxy") } else { ("HTTP_PROXY", "http_proxy") };
        let Some(text) = either(upper, lower) else { return Ok(None) };
        let excepted = either("NO_PROXY", "no_proxy").unwrap_or_default();
        if is_excepted(machine, port, &excepted) {
            return Ok(None);
        }
        Self::parse(&text).map(Some).map_err(|e| e.context(format!("{upper}={}", shown(&text))))
    }

    fn parse(text: &str) -> Result<Self> {
        let bad = || {
            Error::invalid("not the address of a proxy").with_hint("for example http://proxy.example:3128")
        };
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        if scheme != "http" {
            return Err(Error::unsupported(format!("a proxy by {scheme} cannot be spoken to"))
                .with_hint("name one by http://, or reach the daemon by ssh://"));
        }
        let rest = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let (credentials, place) = rest.rsplit_once('@').unwrap_or(("", rest));
        let (machine, port) = match place.strip_prefix('[') {
            Some(rest) => {
                let (machine, after) = rest.split_once(']').ok_or_else(bad)?;
                (machine, after.strip_prefix(':'))
            }
            None => place.split_once(':').map_or((place, None), |(machine, port)| (machine, Some(port))),
        };
        let port = port.map_or(Ok(80), |port| port.parse().map_err(|_| bad()))?;
        if machine.is_empty() {
            return Err(bad());
        }
        let credentials = percent_encoding::percent_decode_str(credentials).decode_utf8_lossy().into_owned();
        Ok(Self { machine: machine.to_owned(), port, credentials })
    }

    /// Has the proxy, to which `socket` leads, connect to a port of a machine.
    ///
    /// # Errors
    /// The proxy refuses, or does not speak HTTP.
    pub(super) fn tunnel(&self, socket: &mut TcpStream, machine: &str, port: u16) -> io::Result<()> {
        let place =
            if machine.contains(':') { format!("[{machine}]:{port}") } else { format!("{machine}:{port}") };
        let mut request = format!("CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n");
        if !self.credentials.is_empty() {
            request
                .push_str(&format!("Proxy-Authorization: Basic {}\r\n", STANDARD.encode(&self.credentials)));
        }
        request.push_str("\r\n");
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.write_all(request.as_bytes())?;
        let head = head(socket)?;
        socket.set_read_timeout(None)?;
        let status = head.lines().next().unwrap_or_default();
        let code = status.split(' ').nth(1).unwrap_or_default();
        if status.starts_with("HTTP/1.") && code.len() == 3 && code.starts_with('2') {
            return Ok(());
        }
        let text = format!("proxy {}:{} does not connect to {place}: {status}", self.machine, self.port);
        Err(io::Error::other(text))
    }
}

/// An answer's head. Byte by byte: what follows it is the daemon's.
fn head(socket: &mut TcpStream) -> io::Result<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() > MAX_HEAD || socket.read(&mut byte)? == 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the proxy gives no answer"));
        }
        head.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

/// An address without its password.
fn shown(text: &str) -> String {
    match text.rsplit_once('@') {
        Some((before, place)) => {
            let scheme = before.split_once("://").map_or(String::new(), |(scheme, _)| format!("{scheme}://"));
            format!("{scheme}***@{place}")
        }
        None => text.to_owned(),
    }
}

/// Whether `NO_PROXY`, or its being this machine, keeps a machine from being asked for by a proxy.
fn is_excepted(machine: &str, port: u16, list: &str) -> bool {
    let machine = machine.trim_end_matches('.').to_ascii_lowercase();
    let address: Option<IpAddr> = machine.parse().ok();
    if machine == "localhost" || address.is_some_and(|a| a.is_loopback()) {
        return true;
    }
    list.split(',').map(|entry| entry.trim().to_ascii_lowercase()).filter(|entry| !entry.is_empty()).any(
        |entry| {
            if entry == "*" {
                return true;
            }
            if let (Some(address), Some((network, bits))) = (address, entry.split_once('/')) {
                return is_within(address, network, bits);
            }
            let (name, wanted) = match entry.rsplit_once(':') {
                Some((name, port)) if !name.contains(':') => (name.to_owned(), port.parse::<u16>().ok()),
                _ => (entry, None),
            };
            if wanted.is_some_and(|wanted| wanted != port) {
                return false;
            }
            if let (Some(address), Ok(other)) = (address, name.parse::<IpAddr>()) {
                return address == other;
            }
            let name = name.strip_prefix('*').unwrap_or(&name);
            match name.strip_prefix('.') {
                Some(domain) => machine.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.')),
                None => machine == name || machine.strip_suffix(name).is_some_and(|rest| rest.ends_with('.')),
            }
        },
    )
}

fn is_within(address: IpAddr, network: &str, bits: &str) -> bool {
    let (Ok(network), Ok(bits)) = (network.parse::<IpAddr>(), bits.parse::<u32>()) else { return false };
    let number = |address: IpAddr| match address {
        IpAddr::V4(a) => (u128::from(a.to_bits()) << 96, 32),
        IpAddr::V6(a) => (a.to_bits(), 128),
    };
    let ((a, width), (n, other)) = (number(address), number(network));
    if width != other || bits > width {
        return false;
    }
    bits == 0 || a >> (128 - bits) == n >> (128 - bits)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn found(machine: &str, tls: bool, env: &[(&str, &str)]) -> Option<String> {
        let env = |name: &str| env.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
        Proxy::on_the_way(machine, 2375, tls, &env).unwrap().map(|p| format!("{}:{}", p.machine, p.port))
    }

    #[test]
    fn the_environment_names_proxies_and_exceptions() {
        let both = [("HTTP_PROXY", "http://p:3128"), ("https_proxy", "q")];
        assert_eq!(found("d.example", false, &both).as_deref(), Some("p:3128"));
        assert_eq!(found("d.example", true, &both).as_deref(), Some("q:80"));
        for own in ["localhost", "127.0.0.1", "::1"] {
            assert_eq!(found(own, false, &both), None, "{own}");
        }
        for (list, machine, direct) in [
            ("example", "d.example", true),
            (".example", "d.example", true),
            (".example", "example", false),
            ("*.example", "d.example", true),
            ("ample", "d.example", false),
            ("10.0.0.0/8", "10.9.9.9", true),
            ("10.0.0.0/8", "11.9.9.9", false),
            ("a, d.example:2375", "d.example", true),
            ("d.example:80", "d.example", false),
            ("10.1.1.1", "10.1.1.1", true),
            ("*", "anything", true),
        ] {
            let env = [("HTTP_PROXY", "p:1"), ("NO_PROXY", list)];
            assert_eq!(found(machine, false, &env).is_none(), direct, "{list} {machine}");
        }
        let env = |_: &str| Some("socks5://me:secret@p:1".to_owned());
        let error = Proxy::on_the_way("d.example", 1, false, &env).unwrap_err().chain();
        assert!(error.contains("socks5") && !error.contains("secret"), "{error}");
        let env = |name: &str| (name == "HTTP_PROXY").then(|| "http://:x".to_owned());
        assert!(Proxy::on_the_way("d.example", 1, false, &env).is_err());
    }

    #[test]
    fn a_tunnel_is_asked_for_and_nothing_is_read_beyond_the_answer() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = std::thread::spawn(move || {
            let mut heads = Vec::new();
            for answer in ["HTTP/1.1 200 OK\r\n\r\nmore", "HTTP/1.1 403 Forbidden\r\n\r\n"] {
                let (mut socket, _) = listener.accept().unwrap();
                heads.push(head(&mut socket).unwrap());
                socket.write_all(answer.as_bytes()).unwrap();
            }
            heads
        });
        let proxy = Proxy::parse(&format!("http://me:a%20b@127.0.0.1:{port}")).unwrap();
        let mut socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
        proxy.tunnel(&mut socket, "d.example", 2375).unwrap();
        let mut rest = String::new();
        socket.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "more");
        let mut socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let refused = proxy.tunnel(&mut socket, "::5", 1).unwrap_err().to_string();
        assert!(refused.contains("does not connect to [::5]:1: HTTP/1.1 403 Forbidden"), "{refused}");
        let heads = server.join().unwrap();
        let expected = "CONNECT d.example:2375 HTTP/1.1\r\nHost: d.example:2375\r\nProxy-Authorization: Basic bWU6YSBi\r\n\r\n";
        assert_eq!(heads[0], expected);
    }
}
