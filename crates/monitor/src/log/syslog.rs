//! The `syslog` driver: RFC 3164 (default) or RFC 5424 lines to a local socket or over UDP or TCP.

use std::io::Write;
use std::net::{TcpStream, ToSocketAddrs, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::time::Duration;

use fluyt_model::error::IoContext;
use fluyt_model::sandbox::LogSpec;
use fluyt_model::{Error, Result};

use super::Source;
use fluyt_model::time::{civil, rfc3339};

const FACILITIES: [&str; 24] = [
    "kern",
    "user",
    "mail",
    "daemon",
    "auth",
    "syslog",
    "lpr",
    "news",
    "uucp",
    "cron",
    "authpriv",
    "ftp",
    "ntp",
    "security",
    "console",
    "solaris-cron",
    "local0",
    "local1",
    "local2",
    "local3",
    "local4",
    "local5",
    "local6",
    "local7",
];
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Rfc3164,
    Rfc5424,
}

#[derive(Debug)]
enum Transport {
    Datagram(UnixDatagram),
    Stream(UnixStream),
    Udp(UdpSocket),
    Tcp(TcpStream),
}

/// A connection to a syslog server.
#[derive(Debug)]
pub struct Syslog {
    transport: Transport,
    format: Format,
    facility: u8,
    tag: String,
    host: String,
}

impl Syslog {
    pub(super) fn open(spec: &LogSpec, tag: &str) -> Result<Self> {
        let option = |name: &str| spec.options.get(name).map(String::as_str).unwrap_or_default();
        let format = match option("syslog-format") {
            "" | "rfc3164" => Format::Rfc3164,
            "rfc5424" | "rfc5424micro" => Format::Rfc5424,
            other => {
                return Err(Error::invalid(format!("Invalid syslog format: {other}"))
                    .with_hint("use rfc3164, rfc5424 or rfc5424micro"));
            }
        };
        Ok(Self {
            transport: connect(option("syslog-address"))?,
            format,
            facility: facility(option("syslog-facility"))?,
            tag: tag.to_owned(),
            host: std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned(),
        })
    }

    pub(super) fn line(&mut self, source: Source, time: i64, line: &[u8]) {
        let severity = if source == Source::Stderr { 3 } else { 6 };
        let priority = u16::from(self.facility) * 8 + severity;
        let pid = std::process::id();
        let mut entry = match self.format {
            Format::Rfc3164 => format!("<{priority}>{} {}[{pid}]: ", bsd_time(time), self.tag),
            Format::Rfc5424 => {
                format!("<{priority}>1 {} {} {} {pid} - - ", rfc3339(time / 1000 * 1000), self.host, self.tag)
            }
        }
        .into_bytes();
        entry.extend_from_slice(line.strip_suffix(b"\n").unwrap_or(line));
        // A server that is away or slow loses lines rather than stopping the container.
        let _ = match &mut self.transport {
            Transport::Datagram(socket) => socket.send(&entry).map(drop),
            Transport::Udp(socket) => socket.send(&entry).map(drop),
            Transport::Stream(stream) => {
                entry.push(b'\n');
                stream.write_all(&entry)
            }
            Transport::Tcp(stream) => {
                entry.push(b'\n');
                stream.write_all(&entry)
            }
        };
    }
}

fn connect(address: &str) -> Result<Transport> {
    let about = || format!("log driver syslog: {address}");
    let timeout = Some(Duration::from_secs(1));
    if address.is_empty() {
        let socket = UnixDatagram::unbound().about(about)?;
        for path in ["/dev/log", "/var/run/syslog", "/var/run/log"] {
            if socket.connect(path).is_ok() {
                socket.set_nonblocking(true).about(about)?;
                return Ok(Transport::Datagram(socket));
            }
        }
        return Err(Error::new(fluyt_model::Kind::Unavailable, "log driver syslog: no local syslog socket")
            .with_hint("start a syslog daemon or give --log-opt syslog-address=udp://HOST:514"));
    }
    let Some((scheme, rest)) = address.split_once("://") else {
        return Err(Error::invalid(format!(
            "syslog-address should be in form proto://address, got {address}"
        )));
    };
    let with_port = if rest.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) {
        rest.to_owned()
    } else {
        format!("{rest}:514")
    };
    match scheme {
        "unix" => {
            let socket = UnixStream::connect(rest).about(about)?;
            socket.set_write_timeout(timeout).about(about)?;
            Ok(Transport::Stream(socket))
        }
        "unixgram" => {
            let socket = UnixDatagram::unbound().about(about)?;
            socket.connect(rest).about(about)?;
            socket.set_nonblocking(true).about(about)?;
            Ok(Transport::Datagram(socket))
        }
        "udp" => {
            let peer = with_port.to_socket_addrs().about(about)?.next();
            let peer = peer.ok_or_else(|| Error::not_found(about()))?;
            let local = if peer.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            let socket = UdpSocket::bind(local).about(about)?;
            socket.connect(peer).about(about)?;
            Ok(Transport::Udp(socket))
        }
        "tcp" => {
            let stream = TcpStream::connect(&with_port).about(about)?;
            stream.set_write_timeout(timeout).about(about)?;
            Ok(Transport::Tcp(stream))
        }
        other => Err(Error::unsupported(format!("syslog-address: protocol {other} in {address}"))
            .with_hint("use unix, unixgram, udp or tcp")),
    }
}

fn facility(name: &str) -> Result<u8> {
    if name.is_empty() {
        return Ok(3);
    }
    let by_name = FACILITIES.iter().position(|f| *f == name);
    let number = by_name.or_else(|| name.parse().ok().filter(|n| *n < FACILITIES.len()));
    number
        .and_then(|n| u8::try_from(n).ok())
        .ok_or_else(|| Error::invalid(format!("invalid syslog facility: {name}")))
}

/// `Nov 21 14:05:09`, the time format of RFC 3164, section 4.1.2 (in UTC).
fn bsd_time(time: i64) -> String {
    let secs = time.div_euclid(1_000_000_000);
    let (_, month, day) = civil(secs.div_euclid(86_400));
    let of_day = secs.rem_euclid(86_400);
    let month = usize::try_from(month - 1).ok().and_then(|m| MONTHS.get(m)).copied().unwrap_or("Jan");
    format!("{month} {day:>2} {:02}:{:02}:{:02}", of_day / 3600, of_day / 60 % 60, of_day % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_reach_a_server() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = format!("udp://{}", server.local_addr().unwrap());
        let options =
            [("syslog-address".to_owned(), address), ("syslog-facility".to_owned(), "local0".to_owned())];
        let spec = LogSpec { driver: "syslog".into(), options: options.into() };
        let mut sink = Syslog::open(&spec, "web").unwrap();
        sink.line(Source::Stderr, 951_782_400_000_000_000, b"oops\n");
        let mut buffer = [0; 256];
        server.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let n = server.recv(&mut buffer).unwrap();
        let text = String::from_utf8_lossy(&buffer[..n]).into_owned();
        assert!(text.starts_with("<131>Feb 29 00:00:00 web["), "{text}");
        assert!(text.ends_with("]: oops"), "{text}");
    }

    #[test]
    fn bad_addresses_are_named() {
        assert!(connect("nowhere").unwrap_err().to_string().contains("nowhere"));
        assert!(facility("nope").is_err());
    }
}
