//! `fluyt engine`: Docker's API on sockets, for those who speak it. What is asked is answered by docker-api; here is
//! where it listens, who gets in, and how it begins and ends. Nothing depends on it: containers go on without.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use fluyt_docker_api::remote::dial::Stream;
use fluyt_http::{Access, Handler, Limits, Listener, Place, Server, TlsFiles};
use fluyt_model::error::IoContext;
use fluyt_model::{Error, Kind, Result};
use fluyt_sys::signals::Signals;
use fluyt_sys::{activation, nofile};

use super::Cli;
use super::engine_guard::Guard;
use crate::cli::fail::Outcome;
use crate::cli::flags::{Arity, Command, NONE, Parsed, list, switch, text};

/// SIGINT and SIGTERM, by their numbers on every architecture of Linux.
const ENDING: [i32; 2] = [2, 15];
/// Where it listens when nothing else is said.
const SOCKET: &str = "/run/fluyt.sock";
/// Descriptors that are wanted; a connection takes one, what is done for it a few.
const DESCRIPTORS: u64 = 64 << 10;

/// `fluyt engine`.
pub const ENGINE: Command = Command {
    name: "engine",
    arguments: "",
    about: "Serve the Docker Engine API",
    flags: &[&[
        switch(
            NONE,
            "allow-insecure-tcp",
            "Serve TCP beyond this machine to clients that nobody has verified, by any name",
        ),
        text('G', "group", "Group that may use the unix sockets").default("docker"),
        list(
            'H',
            "host",
            "Where to listen: unix://PATH, tcp://HOST:PORT, fd:// (default unix:///run/fluyt.sock)",
        ),
        switch(NONE, "tls", "Use TLS on TCP"),
        text(NONE, "tlscacert", "Serve only clients whose certificate this authority has signed (PEM file)"),
        text(NONE, "tlscert", "PEM file with the certificate chain"),
        text(NONE, "tlskey", "PEM file with the certificate's key"),
        switch(NONE, "tlsverify", "Use TLS on TCP and serve only clients with a certificate"),
    ]],
    arity: Arity::None,
    interspersed: true,
};

/// Runs `fluyt engine` until it is told to end.
pub fn engine(cli: &Cli, flags: &Parsed) -> Outcome {
    // Before the first thread, so that all of them leave these signals to the loop below.
    let signals = Signals::block(&ENDING)?;
    let inherited = inherited()?;
    let hosts = hosts(flags, !inherited.is_empty())?;
    let tls = tls(flags)?;
    let descriptors = usize::try_from(nofile::raise(DESCRIPTORS)).unwrap_or(1024);
    let handler = super::engine_handler::handler(cli)?;
    let door = Door { tls, group: flags.text("group"), open: flags.on("allow-insecure-tcp") };
    let listeners = door.listeners(&hosts, inherited)?;
    let handler: Arc<dyn Handler> =
        if door.verifies() { handler } else { Arc::new(Guard::new(handler, door.open)) };
    for listener in &listeners {
        eprintln!("engine: listening on {}", listener.place());
    }
    let server = Server::new("engine-request", listeners, limits(descriptors));
    tell("READY=1");
    server.run(handler, signals.as_fd())?;
    tell("STOPPING=1");
    // Taken, or they would have their usual effect as soon as they are no longer held back.
    while signals.next()?.is_some() {}
    Ok(0)
}

/// An engine in this process that serves one connection, for as long as the process lives.
///
/// # Errors
/// The data root cannot be opened; a socket cannot be made.
pub fn within(cli: &Cli) -> Result<Stream> {
    let handler = super::engine_handler::handler(cli)?;
    let about = || "a socket within this process";
    // A directory of this user only, and the name goes as soon as this process has connected: nobody else can.
    let run = cli.local()?.engine()?.paths().run().to_owned();
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&run)
        .about(|| run.display().to_string())?;
    let path = run.join(format!("dial-{}.sock", std::process::id()));
    let listener = Listener::unix(&path, Access { mode: 0o600, uid: None, gid: None })?;
    let ours = UnixStream::connect(&path).about(about);
    let _ = std::fs::remove_file(&path);
    let ours = ours?;
    let server = Server::new("engine-request", vec![listener], limits(256));
    let never = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC);
    let never = never.map_err(std::io::Error::from).about(about)?;
    let serve = move || {
        if let Err(e) = server.run(handler, never.as_fd()) {
            eprintln!("engine: {}", e.chain());
        }
    };
    std::thread::Builder::new().name("engine".to_owned()).spawn(serve).about(about)?;
    Ok(Stream::Unix(ours))
}

/// Who waits for it should not be the reason that it does not run.
fn tell(state: &str) {
    if let Err(e) = activation::notify(state) {
        eprintln!("engine: telling the service manager {state}: {e}");
    }
}

/// Three quarters of the descriptors are for connections, idle most of them; the rest is for what is done for some.
fn limits(descriptors: usize) -> Limits {
    Limits {
        connections: descriptors / 4 * 3,
        threads: 1024,
        // Such a one has some descriptors beside its connection.
        followers: (descriptors / 8).clamp(64, 8192),
        stack: 2 << 20,
        // Clients keep connections for a while and are told of no failure when one they had has been closed.
        idle: Duration::from_secs(600),
        body: Duration::from_secs(300),
        tick: Duration::from_secs(5),
        ..Limits::default()
    }
}

/// A place to listen, as `--host` names it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    Unix(PathBuf),
    Tcp(String),
    /// Inherited: all, or those of this name or number.
    Inherited(Option<String>),
}

impl Host {
    fn parse(text: &str) -> Result<Self> {
        let malformed = || {
            Error::invalid(format!("{text}: not a place to listen"))
                .with_hint("give unix:///run/fluyt.sock, tcp://127.0.0.1:2376 or fd://")
        };
        let (scheme, rest) = text.split_once("://").ok_or_else(malformed)?;
        match (scheme, rest) {
            ("unix", "") => Ok(Self::Unix(PathBuf::from(SOCKET))),
            ("unix", path) if path.starts_with('/') => Ok(Self::Unix(PathBuf::from(path))),
            ("tcp", address) => Ok(Self::Tcp(address.trim_end_matches('/').to_owned())),
            ("fd", "" | "*") => Ok(Self::Inherited(None)),
            ("fd", name) => Ok(Self::Inherited(Some(name.to_owned()))),
            _ => Err(malformed()),
        }
    }
}

/// The address with the port that Docker's clients expect, if it has none.
fn with_port(address: &str, secure: bool) -> String {
    let bare = address.rsplit_once(']').map_or(address, |(_, rest)| rest);
    if bare.contains(':') {
        return address.to_owned();
    }
    let host = if address.is_empty() { "127.0.0.1" } else { address };
    format!("{host}:{}", if secure { 2376 } else { 2375 })
}

/// A socket of who started this program, with its number and its name.
type Passed = (String, String, OwnedFd);

fn inherited() -> Result<Vec<Passed>> {
    let found = activation::take().about(|| "sockets of the service manager")?;
    // Numbers count from 3 on, as the descriptors do.
    Ok((3..).zip(found).map(|(number, (fd, name)): (u32, _)| (number.to_string(), name, fd)).collect())
}

fn hosts(flags: &Parsed, activated: bool) -> Result<Vec<Host>> {
    let mut hosts = flags.all("host").map(Host::parse).collect::<Result<Vec<_>>>()?;
    if hosts.is_empty() {
        hosts.push(if activated { Host::Inherited(None) } else { Host::Unix(PathBuf::from(SOCKET)) });
    }
    Ok(hosts)
}

/// How TCP is protected.
struct Tls {
    files: Arc<TlsFiles>,
    /// Clients without a certificate are kept out.
    verifies: bool,
}

fn tls(flags: &Parsed) -> Result<Option<Tls>> {
    let path = |name: &str, usual: &str| match flags.given(name) {
        Some(path) => PathBuf::from(path),
        None => {
            let home = std::env::var_os("HOME").map_or_else(|| PathBuf::from("/root"), PathBuf::from);
            std::env::var_os("DOCKER_CERT_PATH").map_or(home.join(".docker"), PathBuf::from).join(usual)
        }
    };
    let verifies = flags.on("tlsverify") || flags.given("tlscacert").is_some();
    let named = ["tlscert", "tlskey"].iter().any(|name| flags.given(name).is_some());
    if !flags.on("tls") && !verifies {
        if named {
            return Err(Error::invalid("--tlscert and --tlskey mean nothing without TLS").with_hint(
                "add --tlsverify and --tlscacert to serve those clients only that an authority vouches for",
            ));
        }
        return Ok(None);
    }
    let authority = verifies.then(|| path("tlscacert", "ca.pem"));
    let files =
        TlsFiles::load(&path("tlscert", "cert.pem"), &path("tlskey", "key.pem"), authority.as_deref())?;
    Ok(Some(Tls { files: Arc::new(files), verifies }))
}

/// Who may come in.
struct Door<'a> {
    tls: Option<Tls>,
    group: &'a str,
    /// Everybody, by TCP.
    open: bool,
}

impl Door<'_> {
    /// Whether clients by TCP have proved who they are.
    fn verifies(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.verifies)
    }

    fn listeners(&self, hosts: &[Host], mut inherited: Vec<Passed>) -> Result<Vec<Listener>> {
        let mut listeners = Vec::new();
        for host in hosts {
            match host {
                Host::Unix(path) => listeners.push(self.unix(path)?),
                Host::Tcp(address) => {
                    listeners.push(self.tcp(Listener::tcp(&with_port(address, self.tls.is_some()))?)?);
                }
                Host::Inherited(wanted) => {
                    let (these, rest): (Vec<Passed>, _) =
                        inherited.into_iter().partition(|(number, name, _)| {
                            wanted.as_ref().is_none_or(|wanted| wanted == number || wanted == name)
                        });
                    inherited = rest;
                    if these.is_empty() {
                        return Err(Error::not_found("fd://: no such socket was passed to this program")
                            .with_hint("it is for service managers; use unix:///run/fluyt.sock otherwise"));
                    }
                    for (_, _, fd) in these {
                        listeners.push(self.tcp(Listener::inherited(fd)?)?);
                    }
                }
            }
        }
        Ok(listeners)
    }

    fn unix(&self, path: &Path) -> Result<Listener> {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).about(|| parent.display().to_string())?;
        }
        let root = rustix::process::geteuid().is_root();
        let gid = if root { group(self.group)?.or(Some(0)) } else { None };
        Listener::unix(path, Access { mode: 0o660, uid: root.then_some(0), gid })
    }

    /// A listener by TCP with what protects it; one by a socket file as it is.
    fn tcp(&self, listener: Listener) -> Result<Listener> {
        let Place::Tcp(address) = listener.place() else { return Ok(listener) };
        if !self.verifies() {
            let local = address.ip().is_loopback();
            let who = if local { "any user of this machine who" } else { "whoever" };
            let warning =
                format!("tcp://{address}: {who} reaches this address would be root on this machine");
            if !self.open && !local {
                return Err(Error::new(Kind::PermissionDenied, warning).with_hint(
                    "serve only known clients with --tlsverify --tlscacert --tlscert --tlskey, or listen on \
                     127.0.0.1; --allow-insecure-tcp does it all the same",
                ));
            }
            eprintln!("engine: warning: {warning}");
        }
        Ok(match &self.tls {
            Some(tls) => listener.with_tls(Arc::clone(&tls.files)),
            None => listener,
        })
    }
}

/// The number of a group of this machine, by name or number; `None` if there is no such group.
fn group(name: &str) -> Result<Option<u32>> {
    if let Ok(number) = name.parse() {
        return Ok(Some(number));
    }
    let path = "/etc/group";
    let text = match std::fs::read_to_string(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
        other => other.about(|| path)?,
    };
    Ok(text.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok()).flatten()
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_told_apart() {
        assert_eq!(Host::parse("unix://").unwrap(), Host::Unix(SOCKET.into()));
        assert_eq!(Host::parse("unix:///x/y.sock").unwrap(), Host::Unix("/x/y.sock".into()));
        assert_eq!(Host::parse("tcp://:2375/").unwrap(), Host::Tcp(":2375".into()));
        assert_eq!(Host::parse("fd://").unwrap(), Host::Inherited(None));
        assert_eq!(Host::parse("fd://docker.socket").unwrap(), Host::Inherited(Some("docker.socket".into())));
        for bad in ["", "/run/x.sock", "unix://relative", "http://h", "npipe://x", "ssh://h"] {
            assert_eq!(Host::parse(bad).unwrap_err().kind(), Kind::Invalid, "{bad}");
        }
    }

    #[test]
    fn a_port_is_added_where_there_is_none() {
        assert_eq!(with_port("10.0.0.1", true), "10.0.0.1:2376");
        assert_eq!(with_port("[::1]", false), "[::1]:2375");
        assert_eq!(with_port("[::1]:99", true), "[::1]:99");
        assert_eq!(with_port("", false), "127.0.0.1:2375");
    }
}
