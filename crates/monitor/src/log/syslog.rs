//! The `syslog` driver: RFC 3164 (default) or RFC 5424 lines to a local socket or over UDP or TCP. No TLS.

use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs, UdpSocket};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::time::{Duration, Instant};

use fluyt_model::error::IoContext;
use fluyt_model::sandbox::LogSpec;
use fluyt_model::{Error, Kind, Result};
use rustix::io::Errno;
use rustix::net::{SendFlags, send};

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

/// How long a server may keep the container waiting before it counts as away.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long after a failed connection the next is tried.
const RETRY: Duration = Duration::from_secs(1);
/// Where local servers listen, by convention.
const LOCAL: [&str; 3] = ["/dev/log", "/var/run/syslog", "/var/run/log"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    /// RFC 3164 without the host's name: what local servers are told, and the default.
    Local,
    Rfc3164,
    Rfc5424,
    Rfc5424Micro,
}

#[derive(Debug)]
enum Transport {
    Datagram(UnixDatagram),
    Stream(UnixStream),
    Udp(UdpSocket),
    Tcp(TcpStream),
}

/// A connection to a syslog server; made anew when the server went away and came back.
#[derive(Debug)]
pub struct Syslog {
    address: String,
    transport: Option<Transport>,
    /// The last line was not taken in time: the next ones are offered without waiting until one is.
    stuck: bool,
    /// When a connection was last tried in vain.
    failed: Option<Instant>,
    format: Format,
    facility: u8,
    tag: String,
    host: String,
}

impl Syslog {
    pub(super) fn open(spec: &LogSpec, tag: &str) -> Result<Self> {
        let option = |name: &str| spec.options.get(name).map(String::as_str).unwrap_or_default();
        let address = option("syslog-address");
        Ok(Self {
            address: address.to_owned(),
            transport: Some(connect(address)?),
            stuck: false,
            failed: None,
            format: format(option("syslog-format"))?,
            facility: facility(option("syslog-facility"))?,
            tag: tag.to_owned(),
            host: std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned(),
        })
    }

    pub(super) fn line(&mut self, source: Source, time: i64, line: &[u8]) {
        let mut entry = self.header(source, time).into_bytes();
        entry.extend_from_slice(line.strip_suffix(b"\n").unwrap_or(line));
        if self.transport.is_none() {
            self.connect_again();
        }
        if self.send(&mut entry).is_err() {
            // The server was started again: what it missed in between is lost, this line is not.
            self.transport = None;
            self.connect_again();
            let _ = self.send(&mut entry);
        }
    }

    fn header(&self, source: Source, time: i64) -> String {
        let severity = if source == Source::Stderr { 3 } else { 6 };
        let priority = u16::from(self.facility) * 8 + severity;
        let (pid, tag, host) = (std::process::id(), &self.tag, &self.host);
        // Neither format says more than these precisions; a fraction of zeroes is left out.
        let precise = |step: i64| rfc3339(time.div_euclid(step) * step);
        match self.format {
            Format::Local => format!("<{priority}>{} {tag}[{pid}]: ", bsd_time(local(time))),
            Format::Rfc3164 => format!("<{priority}>{} {host} {tag}[{pid}]: ", bsd_time(local(time))),
            Format::Rfc5424 => {
                format!("<{priority}>1 {} {host} {tag} {pid} {tag} - ", precise(1_000_000_000))
            }
            Format::Rfc5424Micro => {
                format!("<{priority}>1 {} {host} {tag} {pid} {tag} - ", precise(1_000))
            }
        }
    }

    fn connect_again(&mut self) {
        if self.failed.is_some_and(|at| at.elapsed() < RETRY) {
            return;
        }
        self.transport = connect(&self.address).ok();
        self.failed = self.transport.is_none().then(Instant::now);
        self.stuck = false;
    }

    /// Sends one entry, or drops it when the server takes none within [`PATIENCE`]: a server that hangs loses lines
    /// rather than stopping the container.
    ///
    /// # Errors
    /// The connection is of no use any more.
    fn send(&mut self, entry: &mut Vec<u8>) -> io::Result<()> {
        let flags = if self.stuck { SendFlags::DONTWAIT } else { SendFlags::empty() } | SendFlags::NOSIGNAL;
        let sent = match &mut self.transport {
            None => return Ok(()),
            Some(Transport::Datagram(socket)) => send(&*socket, entry, flags).map(drop),
            Some(Transport::Udp(socket)) => {
                // A refusal tells of the datagram before; this one may arrive.
                return send(&*socket, entry, flags).map(drop).or(Ok(()));
            }
            Some(Transport::Stream(stream)) => send_whole(&*stream, entry, flags),
            Some(Transport::Tcp(stream)) => send_whole(&*stream, entry, flags),
        };
        match sent {
            Ok(()) => self.stuck = false,
            Err(Errno::AGAIN) => self.stuck = true,
            // Too long for one datagram: no other connection would help.
            Err(Errno::MSGSIZE) => {}
            Err(e) => return Err(e.into()),
        }
        Ok(())
    }
}

/// Sends an entry and its end over a stream. Once a part of it was taken the rest has to follow, or the connection has
/// to end: half a line would garble the next.
fn send_whole(stream: impl AsFd, entry: &mut Vec<u8>, flags: SendFlags) -> rustix::io::Result<()> {
    entry.push(b'\n');
    let mut sent = 0;
    while sent < entry.len() {
        // The rest of a line waits in any case.
        let flags = if sent == 0 { flags } else { SendFlags::NOSIGNAL };
        match send(&stream, &entry[sent..], flags) {
            Ok(n) => sent += n,
            Err(Errno::INTR) => {}
            Err(e) => {
                entry.pop();
                return Err(if sent == 0 { e } else { Errno::PIPE });
            }
        }
    }
    entry.pop();
    Ok(())
}

fn format(name: &str) -> Result<Format> {
    Ok(match name {
        "" => Format::Local,
        "rfc3164" => Format::Rfc3164,
        "rfc5424" => Format::Rfc5424,
        "rfc5424micro" => Format::Rfc5424Micro,
        other => {
            return Err(Error::invalid(format!("Invalid syslog format: {other}"))
                .with_hint("use rfc3164, rfc5424 or rfc5424micro"));
        }
    })
}

/// Checks the options; done at creation, so that a typing error is not found at start.
pub(super) fn check(spec: &LogSpec) -> Result<()> {
    let option = |name: &str| spec.options.get(name).map(String::as_str).unwrap_or_default();
    format(option("syslog-format"))?;
    facility(option("syslog-facility"))?;
    let address = option("syslog-address");
    if address.is_empty() { Ok(()) } else { split(address).map(drop) }
}

/// The protocol and the rest of an address.
fn split(address: &str) -> Result<(&str, &str)> {
    match address.split_once("://") {
        Some((scheme @ ("unix" | "unixgram" | "udp" | "tcp"), rest)) => Ok((scheme, rest)),
        Some((scheme, _)) => {
            Err(Error::unsupported(format!("syslog-address: protocol {scheme} in {address}"))
                .with_hint("use unix, unixgram, udp or tcp"))
        }
        None => {
            Err(Error::invalid(format!("syslog-address should be in form proto://address, got {address}")))
        }
    }
}

fn connect(address: &str) -> Result<Transport> {
    if address.is_empty() {
        return connect_locally();
    }
    let about = || format!("log driver syslog: {address}");
    let (scheme, rest) = split(address)?;
    let with_port = if rest.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) {
        rest.to_owned()
    } else {
        format!("{rest}:514")
    };
    let peer = || -> Result<SocketAddr> {
        with_port.to_socket_addrs().about(about)?.next().ok_or_else(|| Error::not_found(about()))
    };
    Ok(match scheme {
        "unix" => {
            let socket = UnixStream::connect(rest).about(about)?;
            socket.set_write_timeout(Some(PATIENCE)).about(about)?;
            Transport::Stream(socket)
        }
        "unixgram" => {
            let socket = UnixDatagram::unbound().about(about)?;
            socket.connect(rest).about(about)?;
            socket.set_write_timeout(Some(PATIENCE)).about(about)?;
            Transport::Datagram(socket)
        }
        "udp" => {
            let peer = peer()?;
            let local = if peer.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            let socket = UdpSocket::bind(local).about(about)?;
            socket.connect(peer).about(about)?;
            socket.set_write_timeout(Some(PATIENCE)).about(about)?;
            Transport::Udp(socket)
        }
        _ => {
            let stream = TcpStream::connect_timeout(&peer()?, Duration::from_secs(5)).about(about)?;
            stream.set_write_timeout(Some(PATIENCE)).about(about)?;
            Transport::Tcp(stream)
        }
    })
}

/// The first local server that listens, by datagrams or by a stream.
fn connect_locally() -> Result<Transport> {
    let about = || "log driver syslog";
    let socket = UnixDatagram::unbound().about(about)?;
    for path in LOCAL {
        if socket.connect(path).is_ok() {
            socket.set_write_timeout(Some(PATIENCE)).about(about)?;
            return Ok(Transport::Datagram(socket));
        }
        if let Ok(socket) = UnixStream::connect(path) {
            socket.set_write_timeout(Some(PATIENCE)).about(about)?;
            return Ok(Transport::Stream(socket));
        }
    }
    Err(Error::new(
        Kind::Unavailable,
        format!("log driver syslog: no server listens at {}", LOCAL.join(", ")),
    )
    .with_hint("start a syslog daemon or give --log-opt syslog-address=udp://HOST:514"))
}

/// A time, ns since the epoch, as this machine's clocks on the wall show it.
fn local(time: i64) -> i64 {
    time + fluyt_sys::localtime::offset(time.div_euclid(1_000_000_000)) * 1_000_000_000
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

/// `Nov 21 14:05:09`, the time format of RFC 3164, section 4.1.2, of a local time.
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
        let expected = bsd_time(local(951_782_400_000_000_000));
        assert!(text.starts_with(&format!("<131>{expected} web[")), "{text}");
        assert!(text.ends_with("]: oops"), "{text}");
    }

    #[test]
    fn a_server_that_returns_gets_lines_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let server = UnixDatagram::bind(&path).unwrap();
        let address = format!("unixgram://{}", path.display());
        let spec = LogSpec { driver: "syslog".into(), options: [("syslog-address".into(), address)].into() };
        let mut sink = Syslog::open(&spec, "t").unwrap();
        sink.line(Source::Stdout, 0, b"one\n");
        drop(server);
        std::fs::remove_file(&path).unwrap();
        sink.line(Source::Stdout, 0, b"lost\n");
        let server = UnixDatagram::bind(&path).unwrap();
        sink.failed = None;
        sink.line(Source::Stdout, 0, b"two\n");
        let mut buffer = [0; 64];
        server.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let n = server.recv(&mut buffer).unwrap();
        assert!(buffer[..n].ends_with(b"]: two"));
    }

    #[test]
    fn a_hanging_server_costs_one_wait() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let _server = UnixDatagram::bind(&path).unwrap();
        let address = format!("unixgram://{}", path.display());
        let spec = LogSpec { driver: "syslog".into(), options: [("syslog-address".into(), address)].into() };
        let mut sink = Syslog::open(&spec, "t").unwrap();
        let started = Instant::now();
        // More than any queue of datagrams holds.
        for _ in 0..5000 {
            sink.line(Source::Stdout, 0, b"x\n");
        }
        assert!(sink.stuck && started.elapsed() < 3 * PATIENCE);
    }

    #[test]
    fn formats_say_what_their_standards_want() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = format!("udp://{}", server.local_addr().unwrap());
        let header = |format: &str| {
            let options = [("syslog-address", address.as_str()), ("syslog-format", format)];
            let options = options.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
            let mut sink = Syslog::open(&LogSpec { driver: "syslog".into(), options }, "tag").unwrap();
            sink.host = "host".into();
            sink.header(Source::Stdout, 951_782_400_123_456_789)
        };
        let pid = std::process::id();
        assert_eq!(header("rfc5424"), format!("<30>1 2000-02-29T00:00:00Z host tag {pid} tag - "));
        assert_eq!(
            header("rfc5424micro"),
            format!("<30>1 2000-02-29T00:00:00.123456Z host tag {pid} tag - ")
        );
        let time = bsd_time(local(951_782_400_000_000_000));
        assert_eq!(header("rfc3164"), format!("<30>{time} host tag[{pid}]: "));
        assert_eq!(header(""), format!("<30>{time} tag[{pid}]: "));
    }

    #[test]
    fn bad_addresses_are_named() {
        assert!(connect("nowhere").unwrap_err().to_string().contains("nowhere"));
        assert!(facility("nope").is_err());
    }
}
