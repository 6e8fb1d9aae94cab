//! Connections to a daemon: a socket file, TCP, TLS over TCP, or the standard streams of an `ssh`.
//!
//! What is sent over them is not known here.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fluyt_model::{Error, Kind, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use super::host::{Host, Ssh};
use super::proxy::Proxy;

/// How long a connection by TCP may take to come about.
const CONNECT: Duration = Duration::from_secs(30);
/// How long an `ssh` may take to end after its connection was closed.
const FAREWELL: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// Makes connections to one daemon.
pub struct Dialer {
    host: Host,
    tls: Option<Arc<ClientConfig>>,
    /// What TCP goes through.
    proxy: Option<Proxy>,
    /// The machine behind `ssh` has no program called docker.
    only_fluyt: AtomicBool,
}

impl std::fmt::Debug for Dialer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dialer").field("host", &self.host).field("tls", &self.tls.is_some()).finish()
    }
}

impl Dialer {
    /// For a host; TLS is used for TCP only.
    #[must_use]
    pub fn new(host: Host, tls: Option<Arc<ClientConfig>>) -> Self {
        Self { host, tls, proxy: None, only_fluyt: AtomicBool::new(false) }
    }

    /// The same through a proxy, for TCP.
    #[must_use]
    pub fn through(self, proxy: Option<Proxy>) -> Self {
        Self { proxy, ..self }
    }

    /// The host.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Connects.
    ///
    /// # Errors
    /// `Unavailable` when nobody answers, `PermissionDenied` for a socket that is not this user's: in Docker's words.
    pub fn dial(&self) -> Result<Stream> {
        match &self.host {
            Host::Unix(path) => UnixStream::connect(path).map(Stream::Unix).map_err(|e| self.refused(e)),
            Host::Tcp { machine, port } => {
                let socket = match &self.proxy {
                    None => connect(machine, *port),
                    Some(proxy) => connect(&proxy.machine, proxy.port).and_then(|mut socket| {
                        proxy.tunnel(&mut socket, machine, *port)?;
                        Ok(socket)
                    }),
                };
                let socket = socket.map_err(|e| self.refused(e))?;
                let _ = socket.set_nodelay(true);
                match &self.tls {
                    None => Ok(Stream::Tcp(socket)),
                    Some(config) => shake_hands(config, machine, socket).map_err(|e| self.garbled(e)),
                }
            }
            Host::Ssh(ssh) => {
                let program = if self.only_fluyt.load(Ordering::Relaxed) { "fluyt" } else { "docker" };
                Piped::start(ssh, program).map(|piped| Stream::Command(Box::new(piped)))
            }
        }
    }

    /// Whether another connection is worth trying, after one ended without an answer: behind `ssh`, where there was no
    /// `docker` to run there may be a `fluyt`.
    pub(super) fn another_program(&self, stream: &mut Stream) -> bool {
        let Stream::Command(piped) = stream else { return false };
        piped.ended() == Some(127) && !self.only_fluyt.swap(true, Ordering::Relaxed)
    }

    fn refused(&self, source: io::Error) -> Error {
        let host = &self.host;
        match source.kind() {
            io::ErrorKind::PermissionDenied => Error::new(
                Kind::PermissionDenied,
                format!("permission denied while trying to connect to the Docker daemon socket at {host}"),
            )
            .with_hint("the socket's group may connect: become a member of it, or use sudo"),
            _ => Error::new(
                Kind::Unavailable,
                format!("Cannot connect to the Docker daemon at {host}. Is the docker daemon running?"),
            ),
        }
        .with_source(source)
    }

    fn garbled(&self, source: io::Error) -> Error {
        let plain = source.to_string().contains("InvalidContentType");
        let error = Error::new(Kind::Unavailable, format!("error during connect: {}", self.host));
        let error = if plain {
            error.with_hint("the daemon there may speak without TLS: try without --tls and DOCKER_TLS_VERIFY")
        } else {
            error.with_hint("check the certificates: --tlscacert, --tlscert, --tlskey, DOCKER_CERT_PATH")
        };
        error.with_source(source)
    }

    /// What to say of a connection that broke before an answer was there.
    pub(super) fn broken(&self, stream: &mut Stream, source: io::Error) -> Error {
        match stream {
            Stream::Command(piped) => piped.complaint(),
            Stream::Tls(_) => self.garbled(source),
            _ => Error::new(
                Kind::Unavailable,
                format!("error during connect: {}: the connection ended without an answer", self.host),
            )
            .with_source(source),
        }
    }
}

/// Tries each address of the machine.
fn connect(machine: &str, port: u16) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, format!("{machine}: no address"));
    for address in (machine, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT) {
            Ok(socket) => return Ok(socket),
            Err(e) => last = e,
        }
    }
    Err(last)
}

fn shake_hands(config: &Arc<ClientConfig>, machine: &str, mut socket: TcpStream) -> io::Result<Stream> {
    let name = ServerName::try_from(machine.to_owned())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, format!("{machine}: not a name")))?;
    let mut session = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
    socket.set_read_timeout(Some(CONNECT))?;
    while session.is_handshaking() {
        session.complete_io(&mut socket)?;
    }
    socket.set_read_timeout(None)?;
    Ok(Stream::Tls(Box::new(StreamOwned::new(session, socket))))
}

/// A connection.
pub enum Stream {
    /// To a socket file.
    Unix(UnixStream),
    /// To a port.
    Tcp(TcpStream),
    /// To a port, with TLS.
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
    /// To the standard streams of a command.
    Command(Box<Piped>),
}

impl Stream {
    /// Tells the peer that nothing more comes, while its own bytes are still read.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn close_write(&mut self) -> io::Result<()> {
        match self {
            Self::Unix(socket) => socket.shutdown(Shutdown::Write),
            Self::Tcp(socket) => socket.shutdown(Shutdown::Write),
            Self::Tls(stream) => {
                stream.conn.send_close_notify();
                stream.flush()?;
                stream.sock.shutdown(Shutdown::Write)
            }
            Self::Command(piped) => piped.socket.shutdown(Shutdown::Write),
        }
    }

    /// Whether bytes have been received and deciphered already, which `poll` does not see.
    pub fn has_plaintext(&mut self) -> bool {
        match self {
            Self::Tls(stream) => {
                stream.conn.process_new_packets().is_ok_and(|state| state.plaintext_bytes_to_read() > 0)
            }
            _ => false,
        }
    }
}

impl Stream {
    /// Takes in what has just become readable; whether a read finds something now (the end counts). Behind TLS what came
    /// may be no content at all: tickets for later sessions, for which a read would go on to wait.
    ///
    /// # Errors
    /// The connection is gone, or what came is not TLS.
    pub fn settle(&mut self) -> io::Result<bool> {
        if self.has_plaintext() {
            return Ok(true);
        }
        let Self::Tls(stream) = self else { return Ok(true) };
        let came = loop {
            match stream.conn.read_tls(&mut stream.sock) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        let state = stream.conn.process_new_packets().map_err(io::Error::other)?;
        let ready = came == 0 || state.peer_has_closed() || state.plaintext_bytes_to_read() > 0;
        while stream.conn.wants_write() {
            stream.conn.write_tls(&mut stream.sock)?;
        }
        Ok(ready)
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unix(socket) => socket.as_fd(),
            Self::Tcp(socket) => socket.as_fd(),
            Self::Tls(stream) => stream.sock.as_fd(),
            Self::Command(piped) => piped.socket.as_fd(),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let result = match self {
                Self::Unix(socket) => socket.read(buffer),
                Self::Tcp(socket) => socket.read(buffer),
                Self::Tls(stream) => stream.read(buffer),
                Self::Command(piped) => piped.socket.read(buffer),
            };
            match result {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Unix(socket) => socket.write(bytes),
            Self::Tcp(socket) => socket.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
            Self::Command(piped) => piped.socket.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Tls(stream) => stream.flush(),
            _ => Ok(()),
        }
    }
}

/// An `ssh` whose standard input and output are one socket, which closes by halves and can be polled.
pub struct Piped {
    child: Child,
    socket: UnixStream,
    /// What it said on standard error.
    said: File,
    words: Vec<String>,
}

impl Piped {
    fn start(ssh: &Ssh, program: &str) -> Result<Self> {
        let words = ssh.arguments(program);
        let failed = |e: io::Error| {
            Error::new(Kind::Unavailable, "error during connect: ssh cannot be run")
                .with_source(e)
                .with_hint("ssh:// hosts need the program ssh on this machine")
        };
        let (socket, theirs) = UnixStream::pair().map_err(failed)?;
        let said: OwnedFd = rustix::fs::memfd_create("ssh-stderr", rustix::fs::MemfdFlags::CLOEXEC)
            .map_err(|e| failed(e.into()))?;
        let said = File::from(said);
        let child = Command::new("ssh")
            .args(&words)
            .stdin(Stdio::from(OwnedFd::from(theirs.try_clone().map_err(failed)?)))
            .stdout(Stdio::from(OwnedFd::from(theirs)))
            .stderr(Stdio::from(said.try_clone().map_err(failed)?))
            .spawn()
            .map_err(failed)?;
        Ok(Self { child, socket, said, words })
    }

    /// The exit code, once the command has closed its streams; waits for it a little.
    fn ended(&mut self) -> Option<i32> {
        self.await_end();
        self.child.try_wait().ok().flatten().and_then(|status| status.code())
    }

    fn await_end(&self) {
        let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) else { return };
        // The child has not been waited for, so the number is still its own.
        if let Ok(fd) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
            let _ = poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&FAREWELL));
        }
    }

    /// What went wrong, in the words of Docker and of ssh.
    fn complaint(&mut self) -> Error {
        let mut said = String::new();
        let _ = self.said.rewind();
        let _ = (&mut self.said).take(64 << 10).read_to_string(&mut said);
        let end = match self.ended() {
            Some(code) => format!("has exited with exit status {code}"),
            None => "has ended".to_owned(),
        };
        let text = format!(
            "error during connect: command [ssh {}] {end}, make sure the URL is valid, and fluyt or Docker 18.09 or \
             later is installed on the remote host: stderr={}",
            self.words.join(" "),
            said.trim_end()
        );
        Error::new(Kind::Unavailable, text)
    }
}

impl Drop for Piped {
    fn drop(&mut self) {
        let _ = self.socket.shutdown(Shutdown::Both);
        self.await_end();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether there is a socket at a path that somebody listens on.
#[must_use]
pub fn answers(path: &Path) -> bool {
    UnixStream::connect(path).is_ok()
}
