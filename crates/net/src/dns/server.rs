//! The sockets of the resolver, and the steps that the monitor's loop takes with them.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use fluyt_model::error::{Error, IoContext, Result};
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use rustix::time::Timespec;
use serde::{Deserialize, Serialize};

use super::forward::{Due, MOST_PENDING, Pending};
use super::names::{Lookup, Names};
use super::tcp::{Connection, MOST_CONNECTIONS};
use super::wire::{self, Query, Rcode, Unfit};
use crate::netns;
use crate::resolvconf::RESOLVER;

/// What a resolver serves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// Files with the names of the sandbox's networks, see [`super::NamesFile`].
    pub names: Vec<PathBuf>,
    /// Names that this sandbox alone knows (links), and the names of its networks that they stand for.
    #[serde(default)]
    pub aliases: Vec<(String, String)>,
    /// Servers for all other names; none on internal networks, where other names get a failure at once.
    pub upstreams: Vec<SocketAddr>,
    /// Whether programs in the sandbox want port 53 for themselves (it exposes or publishes that port). The resolver
    /// then listens elsewhere and the sandbox's own packets to it are translated.
    #[serde(default)]
    pub yield_port: bool,
}

/// The resolver of one sandbox.
pub struct Server {
    epoll: OwnedFd,
    udp: UdpSocket,
    tcp: TcpListener,
    pub(super) names: Names,
    pub(super) upstreams: Vec<SocketAddr>,
    slots: Vec<Option<Slot>>,
    connections: Vec<Option<Connection>>,
    buffer: Vec<u8>,
    began: Instant,
}

/// A question that is with the upstream servers, and the socket with a random port of its own for it.
struct Slot {
    pending: Pending,
    socket: UdpSocket,
}

const UDP: u64 = 0;
const TCP: u64 = 1;
const SLOTS: u64 = 100;
const CONNECTIONS: u64 = 1000;

/// Largest message over UDP that is handled.
const BUFFER: usize = 4096;
const PORT: u16 = 53;

impl Server {
    /// Opens the resolver's sockets in the sandbox's namespace, whose loopback must be up.
    ///
    /// # Errors
    /// `Conflict` if something in the sandbox has the port already.
    pub fn open(netns: BorrowedFd<'_>, config: &Config) -> Result<Self> {
        Self::with(netns::inside(netns, || listen(config.yield_port))?, config)
    }

    /// One of several resolvers of a namespace that several sandboxes share. The kernel gives each question to one of them;
    /// when one goes, the others go on.
    ///
    /// # Errors
    /// `Conflict` if something that is not one of them has the port.
    pub fn open_beside(netns: BorrowedFd<'_>, config: &Config) -> Result<Self> {
        Self::with(netns::inside(netns, || listen_beside(config.yield_port))?, config)
    }

    fn with((udp, tcp): (UdpSocket, TcpListener), config: &Config) -> Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC).about(|| "cannot create an epoll descriptor")?;
        for (fd, token) in [(udp.as_fd(), UDP), (tcp.as_fd(), TCP)] {
            watch(epoll.as_fd(), fd, token, EventFlags::IN).about(|| "cannot watch the resolver's socket")?;
        }
        // Our own address as an upstream would be asking ourselves.
        let upstreams = config.upstreams.iter().filter(|u| u.ip() != IpAddr::V4(RESOLVER)).copied().collect();
        Ok(Self {
            epoll,
            udp,
            tcp,
            names: Names::new(config.names.clone(), &config.aliases),
            upstreams,
            slots: Vec::new(),
            connections: Vec::new(),
            buffer: Vec::new(),
            began: Instant::now(),
        })
    }

    /// Takes another configuration at run time, after a network was connected or disconnected.
    pub fn reconfigure(&mut self, config: &Config) {
        self.names = Names::new(config.names.clone(), &config.aliases);
        self.upstreams = config.upstreams.clone();
    }

    /// How long the caller may wait before it calls [`Server::run`] although nothing became readable; `None`: for
    /// ever.
    #[must_use]
    pub fn timeout(&self) -> Option<Duration> {
        let now = self.now();
        let slots = self.slots.iter().flatten().map(|s| s.pending.deadline());
        let connections = self.connections.iter().flatten().map(Connection::deadline);
        slots.chain(connections).min().map(|at| Duration::from_millis(at.saturating_sub(now)))
    }

    /// Does what can be done without waiting. Failures of single questions concern nobody but their askers.
    pub fn run(&mut self) {
        const ROUNDS: usize = 8;
        self.buffer.resize(BUFFER, 0);
        for _ in 0..ROUNDS {
            let mut events =
                [const { Event { flags: EventFlags::empty(), data: EventData::new_u64(0) } }; 16];
            let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
            let ready = match epoll::wait(&self.epoll, &mut events, Some(&at_once)) {
                Ok(0) | Err(_) => break,
                Ok(ready) => ready,
            };
            for event in &events[..ready] {
                let token = event.data.u64();
                match token {
                    UDP => self.receive_questions(),
                    TCP => self.accept(),
                    SLOTS..CONNECTIONS => self.receive_answers((token - SLOTS) as usize),
                    _ => self.advance((token - CONNECTIONS) as usize),
                }
            }
        }
        self.look_at_the_clock();
        if self.slots.iter().all(Option::is_none) && self.connections.iter().all(Option::is_none) {
            // Idle: give the memory back.
            self.buffer = Vec::new();
            self.slots = Vec::new();
            self.connections = Vec::new();
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn receive_questions(&mut self) {
        const AT_ONCE: usize = 32;
        for _ in 0..AT_ONCE {
            let Ok((length, client)) = self.udp.recv_from(&mut self.buffer) else { return };
            let message = self.buffer[..length].to_vec();
            match wire::read(&message) {
                Err(Unfit::Silence) => {}
                Err(Unfit::Refused(answer)) => self.reply(&answer, client),
                Ok(query) => self.question(&message, &query, client),
            }
        }
    }

    fn reply(&self, answer: &[u8], client: SocketAddr) {
        // A client that has gone away, or a full queue: it asks again if it cares.
        let _ = self.udp.send_to(answer, client);
    }

    fn question(&mut self, message: &[u8], query: &Query<'_>, client: SocketAddr) {
        self.names.refresh();
        let answer = match self.names.lookup(query) {
            Lookup::Known(rcode, records) => {
                Some(wire::answer(query, rcode, &records, query.udp_limit(), true))
            }
            Lookup::Unknown => self.forward(message, query, client),
        };
        if let Some(answer) = answer {
            self.reply(&answer, client);
        }
    }

    /// Passes a question on; gives the failure to report if that is impossible.
    fn forward(&mut self, message: &[u8], query: &Query<'_>, client: SocketAddr) -> Option<Vec<u8>> {
        if self.slots.iter().flatten().any(|s| s.pending.is_repeat(client, query)) {
            return None;
        }
        let failure = || Some(wire::answer(query, Rcode::ServFail, &[], query.udp_limit(), false));
        let index = self.slots.iter().position(Option::is_none).unwrap_or(self.slots.len());
        if index >= MOST_PENDING || self.upstreams.is_empty() {
            return failure();
        }
        let mut id = [0_u8; 2];
        let random = rustix::rand::getrandom(&mut id, rustix::rand::GetRandomFlags::empty());
        let (Ok(_), Ok(socket)) = (random, upstream_socket(&self.upstreams)) else { return failure() };
        if watch(self.epoll.as_fd(), socket.as_fd(), SLOTS + index as u64, EventFlags::IN).is_err() {
            return failure();
        }
        let pending = Pending::new(client, message, query, u16::from_be_bytes(id), self.now());
        send_to_all(&socket, &pending.message, &self.upstreams);
        if index == self.slots.len() {
            self.slots.push(None);
        }
        self.slots[index] = Some(Slot { pending, socket });
        None
    }

    fn receive_answers(&mut self, index: usize) {
        const AT_ONCE: usize = 8;
        for _ in 0..AT_ONCE {
            let Some(Some(slot)) = self.slots.get_mut(index) else { return };
            let (length, from) = match slot.socket.recv_from(&mut self.buffer) {
                Ok(got) => got,
                Err(_) => return,
            };
            let from = SocketAddr::new(from.ip().to_canonical(), from.port());
            if !self.upstreams.contains(&from) {
                continue;
            }
            let servers = self.upstreams.len().min(MOST_UPSTREAMS);
            if let Some(answer) = slot.pending.settle(&self.buffer[..length], servers) {
                let client = slot.pending.client;
                self.slots[index] = None;
                self.reply(&answer, client);
                return;
            }
        }
    }

    fn accept(&mut self) {
        for _ in 0..MOST_CONNECTIONS {
            let Ok((stream, _)) = self.tcp.accept() else { return };
            let index = self.connections.iter().position(Option::is_none).unwrap_or(self.connections.len());
            if index >= MOST_CONNECTIONS || stream.set_nonblocking(true).is_err() {
                continue;
            }
            let token = CONNECTIONS + index as u64;
            let both = EventFlags::IN | EventFlags::OUT | EventFlags::ET;
            if watch(self.epoll.as_fd(), stream.as_fd(), token, both).is_err() {
                continue;
            }
            if index == self.connections.len() {
                self.connections.push(None);
            }
            self.connections[index] = Some(Connection::new(stream, token, self.now()));
            self.advance(index);
        }
    }

    fn advance(&mut self, index: usize) {
        let now = self.now();
        let Some(slot) = self.connections.get_mut(index) else { return };
        if let Some(connection) = slot
            && !connection.advance(self.epoll.as_fd(), &mut self.names, &self.upstreams, now)
        {
            *slot = None;
        }
    }

    fn look_at_the_clock(&mut self) {
        let now = self.now();
        for index in 0..self.slots.len() {
            let Some(slot) = &mut self.slots[index] else { continue };
            match slot.pending.due(now) {
                Due::Wait => {}
                Due::Resend => send_to_all(&slot.socket, &slot.pending.message, &self.upstreams),
                Due::GiveUp(answer) => {
                    let client = slot.pending.client;
                    self.slots[index] = None;
                    self.reply(&answer, client);
                }
            }
        }
        for slot in &mut self.connections {
            let late = slot.as_mut().filter(|c| c.deadline() <= now);
            if late.is_some_and(|c| !c.expire(self.epoll.as_fd(), &self.upstreams, now)) {
                *slot = None;
            }
        }
    }
}

impl AsFd for Server {
    /// Readable when [`Server::run`] has something to do.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

/// Opens both listeners in the current namespace.
fn listen(yield_port: bool) -> Result<(UdpSocket, TcpListener)> {
    let addr = SocketAddr::new(IpAddr::V4(RESOLVER), if yield_port { 0 } else { PORT });
    let taken = |e: io::Error| {
        Error::io(format!("cannot serve names at {RESOLVER}:{PORT} in the container"), e)
            .with_hint("another program in this network namespace has the port")
    };
    let udp = UdpSocket::bind(addr).map_err(taken)?;
    let tcp = TcpListener::bind(addr).map_err(taken)?;
    udp.set_nonblocking(true).map_err(taken)?;
    tcp.set_nonblocking(true).map_err(taken)?;
    if yield_port {
        let ports = (udp.local_addr().map_err(taken)?.port(), tcp.local_addr().map_err(taken)?.port());
        crate::nft::ruleset::translate_resolver(RESOLVER, PORT, ports)?;
    }
    Ok((udp, tcp))
}

/// The same for one of several, who share a port. Where port 53 is yielded they share another one.
fn listen_beside(yield_port: bool) -> Result<(UdpSocket, TcpListener)> {
    const OTHER: u16 = 10053;
    let addr = SocketAddr::new(IpAddr::V4(RESOLVER), if yield_port { OTHER } else { PORT });
    let taken = |e: rustix::io::Errno| {
        Error::io(format!("cannot serve names at {RESOLVER}:{PORT} in the pod"), e.into())
            .with_hint("another program in this network namespace has the port")
    };
    let bound = |kind| -> Result<OwnedFd, rustix::io::Errno> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd = rustix::net::socket_with(AddressFamily::INET, kind, flags, None)?;
        sockopt::set_socket_reuseport(&fd, true)?;
        rustix::net::bind(&fd, &addr)?;
        Ok(fd)
    };
    let udp = bound(SocketType::DGRAM).map_err(taken)?;
    let tcp = bound(SocketType::STREAM).map_err(taken)?;
    rustix::net::listen(&tcp, 128).map_err(taken)?;
    if yield_port {
        crate::nft::ruleset::translate_resolver(RESOLVER, PORT, (OTHER, OTHER))?;
    }
    Ok((udp.into(), tcp.into()))
}

/// Servers that are asked at the same time.
const MOST_UPSTREAMS: usize = 3;

/// A socket with a port that the kernel picks at random, for servers of both families if there are such.
fn upstream_socket(upstreams: &[SocketAddr]) -> io::Result<UdpSocket> {
    let v4 = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
    let both = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0);
    let socket = if upstreams.iter().all(SocketAddr::is_ipv4) {
        UdpSocket::bind(v4)?
    } else {
        UdpSocket::bind(both).or_else(|_| UdpSocket::bind(v4))?
    };
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn send_to_all(socket: &UdpSocket, message: &[u8], upstreams: &[SocketAddr]) {
    let mapped = socket.local_addr().is_ok_and(|a| a.is_ipv6());
    for upstream in upstreams.iter().take(MOST_UPSTREAMS) {
        let to = match upstream.ip() {
            IpAddr::V4(a) if mapped => SocketAddr::new(IpAddr::V6(a.to_ipv6_mapped()), upstream.port()),
            _ => *upstream,
        };
        // A server that cannot be reached is one that does not answer.
        let _ = socket.send_to(message, to);
    }
}

pub(super) fn watch(
    epoll: BorrowedFd<'_>,
    fd: BorrowedFd<'_>,
    token: u64,
    flags: EventFlags,
) -> io::Result<()> {
    Ok(epoll::add(epoll, fd, EventData::new_u64(token), flags)?)
}
