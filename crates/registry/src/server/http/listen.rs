//! The listening socket: accepts, bounds the number of connections, ends in order.

use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use fluyt_model::error::IoContext;
use fluyt_model::{Error, Kind, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::stream::{Stream, TlsFiles};
use super::{Handler, connection};

/// Connections served at once when nobody says how many; more wait in the kernel's queue.
pub(crate) const MAX_CONNECTIONS: usize = 1024;
/// The stack of a connection's thread.
const STACK: usize = 512 << 10;
/// How long requests under way may go on after the server was told to end.
const LAST_ORDERS: Duration = Duration::from_secs(15);

/// What the connections' threads share.
pub(crate) struct Shared {
    pub handler: Arc<dyn Handler>,
    pub stopping: AtomicBool,
    /// Requests being answered.
    pub busy: AtomicUsize,
    connections: AtomicUsize,
}

/// A server that is bound but not yet serving.
#[derive(Debug)]
pub(crate) struct Server {
    listener: TcpListener,
    tls: Option<TlsFiles>,
    most: usize,
}

/// Where a server listens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Listening(pub SocketAddr);

impl Server {
    /// Binds `address` (`HOST:PORT`; port 0 takes a free one), for at most so many connections at once.
    ///
    /// # Errors
    /// `Kind::Invalid` for a malformed address; the address is in use or not of this machine.
    pub fn bind(address: &str, tls: Option<TlsFiles>, most: usize) -> Result<(Self, Listening)> {
        let text = if address.starts_with(':') { format!("0.0.0.0{address}") } else { address.to_owned() };
        let found = text.to_socket_addrs().map_err(|e| {
            Error::invalid(format!("{address}: not an address to listen on"))
                .with_hint("give HOST:PORT, for example 127.0.0.1:5000")
                .with_source(e)
        })?;
        let found: Vec<SocketAddr> = found.collect();
        let listener = TcpListener::bind(&found[..]).map_err(|e| {
            let busy = e.kind() == std::io::ErrorKind::AddrInUse;
            let e = if busy {
                Error::new(Kind::Conflict, format!("listening on {address}")).with_source(e)
            } else {
                Error::io(format!("listening on {address}"), e)
            };
            if busy {
                e.with_hint("another program listens there; choose another port with --addr")
            } else {
                e
            }
        })?;
        listener.set_nonblocking(true).about(|| format!("listening on {address}"))?;
        let local = listener.local_addr().about(|| format!("listening on {address}"))?;
        Ok((Self { listener, tls, most: most.max(1) }, Listening(local)))
    }

    /// Serves until `stop` becomes readable, then lets requests under way end.
    ///
    /// # Errors
    /// The listening socket fails.
    pub fn run(self, handler: Arc<dyn Handler>, stop: BorrowedFd<'_>) -> Result<()> {
        let shared = Arc::new(Shared {
            handler,
            stopping: AtomicBool::new(false),
            busy: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
        });
        let tls = self.tls.map(Arc::new);
        let mut ticked = Instant::now();
        loop {
            let full = shared.connections.load(Ordering::Relaxed) >= self.most;
            let mut fds = vec![PollFd::from_borrowed_fd(stop, PollFlags::IN)];
            if !full {
                fds.push(PollFd::from_borrowed_fd(self.listener.as_fd(), PollFlags::IN));
            }
            let wait = if full { 20_000_000 } else { 999_000_000 };
            match poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: wait })) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(Error::io("waiting for connections", e.into())),
            }
            if !fds[0].revents().is_empty() {
                break;
            }
            if ticked.elapsed() >= Duration::from_secs(1) {
                ticked = Instant::now();
                shared.handler.tick();
                if let Some(tls) = &tls
                    && let Err(e) = tls.refresh()
                {
                    eprintln!("registry: {}", e.chain());
                }
            }
            if !full {
                accept_all(&self.listener, &shared, tls.as_ref());
            }
        }
        shared.stopping.store(true, Ordering::Relaxed);
        drop(self.listener);
        let until = Instant::now() + LAST_ORDERS;
        while shared.busy.load(Ordering::Relaxed) > 0 && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

fn accept_all(listener: &TcpListener, shared: &Arc<Shared>, tls: Option<&Arc<TlsFiles>>) {
    for _ in 0..64 {
        match listener.accept() {
            Ok((socket, peer)) => start(socket, peer, shared, tls),
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => return,
            // The peer is gone already, or descriptors are short for the moment.
            Err(_) => {
                std::thread::sleep(Duration::from_millis(5));
                return;
            }
        }
    }
}

fn start(socket: TcpStream, peer: SocketAddr, shared: &Arc<Shared>, tls: Option<&Arc<TlsFiles>>) {
    let _ = socket.set_nonblocking(false);
    shared.connections.fetch_add(1, Ordering::Relaxed);
    let work = {
        let (shared, tls) = (Arc::clone(shared), tls.map(Arc::clone));
        move || {
            let secure = tls.is_some();
            let stream = match tls {
                None => Ok(Stream::Plain(socket)),
                Some(_) if speaks_plainly(&socket) => {
                    connection::refuse_plain(socket);
                    shared.connections.fetch_sub(1, Ordering::Relaxed);
                    return;
                }
                Some(tls) => tls.accept(socket),
            };
            if let Ok(stream) = stream {
                connection::serve(stream, peer, secure, &shared);
            }
            shared.connections.fetch_sub(1, Ordering::Relaxed);
        }
    };
    let spawned = std::thread::Builder::new().name("registry-conn".to_owned()).stack_size(STACK).spawn(work);
    if spawned.is_err() {
        shared.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Whether what comes on a connection that should begin with a handshake of TLS is something else: http, most likely.
fn speaks_plainly(socket: &TcpStream) -> bool {
    const HANDSHAKE: u8 = 22;
    let _ = socket.set_read_timeout(Some(Duration::from_secs(30)));
    let mut first = [0];
    matches!(socket.peek(&mut first), Ok(1) if first[0] != HANDSHAKE)
}
