//! The accepting loop: what comes goes to a thread, what says nothing waits here.

use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fluyt_model::error::IoContext;
use fluyt_model::{Error, Result};
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;

use super::connection::{self, Connection};
use super::pool::{Aside, Pool};
use super::socket::Socket;
use super::{Handler, Listener};

/// How much a server takes, and how long it waits.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections open at once. When there are more, those that have said nothing for longest are closed, and if
    /// none is idle, the new ones wait.
    pub connections: usize,
    /// Requests answered at once, each by a thread; more wait.
    pub threads: usize,
    /// Answers that go on (in chunks, or a connection that was handed over) at once, each by a thread that is not one
    /// of those above; to more, [`Handler::full`] says no.
    pub followers: usize,
    /// The stack of such a thread, bytes.
    pub stack: usize,
    /// How long a connection may be idle between requests.
    pub idle: Duration,
    /// How long the head of a request may take from its first byte on.
    pub head: Duration,
    /// How long a peer may send nothing of a body that it announced.
    pub body: Duration,
    /// How long a peer may take nothing of an answer of known length.
    pub write: Duration,
    /// The same for an answer in chunks and a connection that was handed over; `None`: as long as it likes.
    pub stream: Option<Duration>,
    /// How often [`Handler::tick`] is called, and the certificates' files are looked at.
    pub tick: Duration,
    /// How long requests under way may go on after the server was told to end.
    pub last_orders: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1024,
            threads: 1024,
            followers: 1024,
            stack: 512 << 10,
            idle: Duration::from_secs(75),
            head: Duration::from_secs(30),
            body: Duration::from_secs(60),
            write: Duration::from_secs(60),
            stream: None,
            tick: Duration::from_secs(1),
            last_orders: Duration::from_secs(15),
        }
    }
}

/// A server that is bound but not yet serving.
#[derive(Debug)]
pub struct Server {
    name: String,
    listeners: Vec<Listener>,
    limits: Limits,
}

/// What the connections' threads share.
pub(crate) struct Shared {
    pub handler: Arc<dyn Handler>,
    pub limits: Limits,
    pub stopping: AtomicBool,
    /// Requests being answered.
    busy: AtomicUsize,
    open: Arc<AtomicUsize>,
    serial: AtomicU64,
    epoll: OwnedFd,
    /// Connections that say nothing, those that are silent for longest first.
    parked: Mutex<BTreeMap<u64, Parked>>,
    /// Answers that may go on for ever, to be ended with the server.
    followers: Mutex<HashMap<u64, (Arc<OwnedFd>, Ends)>>,
    /// Connections that have had their last answer, those that had it first first.
    leaving: Mutex<BTreeMap<u64, Leaving>>,
    pool: Arc<Pool<(Connection, Arc<Shared>)>>,
}

/// A thread's leave to follow for as long as it likes.
pub(crate) type Standing = Aside<(Connection, Arc<Shared>)>;

struct Parked {
    connection: Connection,
    since: Instant,
    until: Instant,
}

/// A connection that is closed in a way that lets the peer read its last answer: what it still sends is thrown away for
/// a while, as a socket that is closed with unread data resets the connection.
struct Leaving {
    socket: Socket,
    _seat: Seat,
    /// When it is closed whatever the peer does.
    end: Instant,
    /// When it is closed unless the peer sends something.
    until: Instant,
    /// Bytes that may still be thrown away.
    left: usize,
}

/// What is thrown away of what comes after the last answer, so that the peer gets to read that.
const LINGER: usize = 8 << 20;
/// How long that goes on at most, and without anything coming.
const LINGER_TIME: Duration = Duration::from_secs(5);
const LINGER_SILENCE: Duration = Duration::from_secs(1);
/// How many do so at once; the one that has done so for longest is closed then.
const LEAVING: usize = 256;

/// What the epoll set says of the end; listeners have the numbers from 0, connections those from `FIRST` on.
const STOP: u64 = u64::MAX;
const FIRST: u64 = 1 << 16;
/// A connection must be idle so long before another may take its place.
const SETTLED: Duration = Duration::from_secs(1);
/// How soon the server looks again whether there is room.
const FULL_WAIT: Duration = Duration::from_millis(20);

impl Server {
    /// A server of that name (of its threads, at most 15 bytes) on these sockets.
    #[must_use]
    pub fn new(name: &str, listeners: Vec<Listener>, limits: Limits) -> Self {
        Self { name: name.to_owned(), listeners, limits }
    }

    /// Where it listens.
    #[must_use]
    pub fn listeners(&self) -> &[Listener] {
        &self.listeners
    }

    /// Serves until `stop` becomes readable; then short requests under way may end, answers that go on are ended.
    ///
    /// # Errors
    /// The sockets cannot be waited for.
    pub fn run(self, handler: Arc<dyn Handler>, stop: BorrowedFd<'_>) -> Result<()> {
        let what = || "waiting for connections";
        let shared = Arc::new(Shared::new(&self.name, handler, self.limits).about(what)?);
        let mut room = true;
        epoll::add(&shared.epoll, stop, epoll::EventData::new_u64(STOP), epoll::EventFlags::IN)
            .about(what)?;
        for (at, listener) in (0..).zip(&self.listeners) {
            epoll::add(&shared.epoll, listener, epoll::EventData::new_u64(at), epoll::EventFlags::IN)
                .about(what)?;
        }
        let mut events = Vec::with_capacity(128);
        let mut ticked = Instant::now();
        let mut swept = Instant::now();
        'serve: loop {
            let wait = self.pause(&shared, room, ticked);
            events.clear();
            match epoll::wait(&shared.epoll, spare_capacity(&mut events), Some(&wait)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(e) => return Err(Error::io(what(), e.into())),
            }
            for event in &events {
                match event.data.u64() {
                    STOP => break 'serve,
                    token if token >= FIRST => shared.unpark(token),
                    at => {
                        let listener = usize::try_from(at).ok().and_then(|at| self.listeners.get(at));
                        let found = listener.is_none_or(|listener| accept_all(listener, &shared));
                        if !found {
                            self.listen(&shared, false)?;
                            room = false;
                        }
                    }
                }
            }
            if !room && (shared.has_room() || shared.may_make_room()) {
                self.listen(&shared, true)?;
                room = true;
            }
            if swept.elapsed() >= Duration::from_secs(1) {
                swept = Instant::now();
                shared.sweep(swept);
            }
            if ticked.elapsed() >= self.limits.tick {
                ticked = Instant::now();
                self.tick(&shared);
            }
        }
        shared.stopping.store(true, Ordering::Relaxed);
        drop(self.listeners);
        shared.end();
        Ok(())
    }

    /// How long there is nothing to do unless somebody comes.
    fn pause(&self, shared: &Shared, room: bool, ticked: Instant) -> Timespec {
        let mut wait = self.limits.tick.saturating_sub(ticked.elapsed());
        if !shared.parked().is_empty() || !shared.leaving().is_empty() {
            wait = wait.min(Duration::from_secs(1));
        }
        if !room {
            wait = wait.min(FULL_WAIT);
        }
        Timespec {
            tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: wait.subsec_nanos().into(),
        }
    }

    /// Whether new connections are taken.
    fn listen(&self, shared: &Shared, takes: bool) -> Result<()> {
        let flags = if takes { epoll::EventFlags::IN } else { epoll::EventFlags::empty() };
        for (at, listener) in (0..).zip(&self.listeners) {
            epoll::modify(&shared.epoll, listener, epoll::EventData::new_u64(at), flags)
                .about(|| "waiting for connections")?;
        }
        Ok(())
    }

    fn tick(&self, shared: &Shared) {
        shared.handler.tick();
        for tls in self.listeners.iter().filter_map(Listener::tls) {
            if let Err(e) = tls.refresh() {
                shared.handler.trouble(&e);
            }
        }
    }
}

/// Takes connections that wait; whether there was room for them.
fn accept_all(listener: &Listener, shared: &Arc<Shared>) -> bool {
    for _ in 0..64 {
        if !shared.has_room() && !shared.may_make_room() {
            return false;
        }
        match listener.accept() {
            Ok((socket, peer)) => {
                if !shared.has_room() {
                    shared.make_room();
                }
                let seat = Seat::new(&shared.open);
                shared.park(Connection::new(socket, peer, listener.tls().map(Arc::clone), seat));
            }
            Err(Errno::AGAIN) => return true,
            // Descriptors or memory are short for the moment.
            Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => return shared.make_room(),
            // The peer is gone already.
            Err(_) => {}
        }
    }
    true
}

impl Shared {
    fn new(name: &str, handler: Arc<dyn Handler>, limits: Limits) -> std::result::Result<Self, Errno> {
        let work = Box::new(|(connection, shared): (Connection, Arc<Self>)| {
            connection::serve(connection, &shared);
        });
        Ok(Self {
            handler,
            limits,
            stopping: AtomicBool::new(false),
            busy: AtomicUsize::new(0),
            open: Arc::default(),
            serial: AtomicU64::new(FIRST),
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            parked: Mutex::default(),
            followers: Mutex::default(),
            leaving: Mutex::default(),
            pool: Pool::new(name, limits.stack, limits.threads, limits.followers, work),
        })
    }

    /// Whether threads are short, so that one that merely waits should let go.
    pub fn is_short(&self) -> bool {
        self.pool.is_short()
    }

    /// Makes the calling thread one that follows for as long as it likes; `None` when there are too many.
    pub fn step_aside(&self) -> Option<Standing> {
        self.pool.step_aside()
    }

    /// Counts a request as being answered.
    pub fn busy(self: &Arc<Self>) -> Busy {
        self.busy.fetch_add(1, Ordering::Relaxed);
        Busy(Arc::clone(self))
    }

    /// Keeps a connection until it has something to say.
    pub fn park(&self, mut connection: Connection) {
        let mut parked = self.parked();
        // Read under the lock: who empties the list has said before that the end is near.
        if self.stopping.load(Ordering::Relaxed) {
            return;
        }
        let token = self.serial.fetch_add(1, Ordering::Relaxed);
        let data = epoll::EventData::new_u64(token);
        let flags = epoll::EventFlags::IN | epoll::EventFlags::RDHUP | epoll::EventFlags::ONESHOT;
        let set = match connection.watched {
            true => epoll::modify(&self.epoll, connection.socket(), data, flags),
            false => epoll::add(&self.epoll, connection.socket(), data, flags),
        };
        if set.is_err() {
            return;
        }
        connection.watched = true;
        let since = Instant::now();
        let until = connection.due().unwrap_or(since + self.limits.idle);
        parked.insert(token, Parked { connection, since, until });
    }

    /// Hands a connection that has something to say to a thread.
    fn unpark(self: &Arc<Self>, token: u64) {
        let found = self.parked().remove(&token);
        match found {
            Some(found) => self.pool.submit((found.connection, Arc::clone(self))),
            None => self.throw_away(token),
        }
    }

    /// Closes a connection that has had its last answer, and whose peer may still be sending. No thread waits for that.
    pub fn dismiss(&self, connection: Connection) {
        let (socket, seat, watched) = connection.into_parts();
        socket.close_write();
        let mut leaving = self.leaving();
        if self.stopping.load(Ordering::Relaxed) {
            return;
        }
        while leaving.len() >= LEAVING.min(self.limits.connections / 8).max(1) {
            leaving.pop_first();
        }
        let token = self.serial.fetch_add(1, Ordering::Relaxed);
        let data = epoll::EventData::new_u64(token);
        let flags = epoll::EventFlags::IN | epoll::EventFlags::RDHUP;
        let set = match watched {
            true => epoll::modify(&self.epoll, &socket, data, flags),
            false => epoll::add(&self.epoll, &socket, data, flags),
        };
        if set.is_ok() {
            let now = Instant::now();
            let (end, until) = (now + LINGER_TIME, now + LINGER_SILENCE);
            leaving.insert(token, Leaving { socket, _seat: seat, end, until, left: LINGER });
        }
    }

    /// Reads a little of what comes by a connection that is being closed, in the accepting thread.
    fn throw_away(&self, token: u64) {
        let mut leaving = self.leaving();
        let Some(found) = leaving.get_mut(&token) else { return };
        let mut sink = [0; 16 << 10];
        found.socket.set_waits(false);
        match found.socket.read(&mut sink) {
            Ok(n @ 1..) if n < found.left => {
                found.left -= n;
                found.until = Instant::now() + LINGER_SILENCE;
            }
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
            _ => drop(leaving.remove(&token)),
        }
    }

    /// Takes a connection out of the epoll set, where its descriptor's copies would keep it.
    pub fn forget(&self, socket: &Socket) {
        let _ = epoll::delete(&self.epoll, socket);
    }

    fn has_room(&self) -> bool {
        self.open.load(Ordering::Relaxed) < self.limits.connections
    }

    /// Whether a connection has been idle for so long that another may take its place.
    fn may_make_room(&self) -> bool {
        self.parked().first_key_value().is_some_and(|(_, parked)| parked.since.elapsed() >= SETTLED)
    }

    /// Closes the connection that has been idle for longest; whether there was one.
    fn make_room(&self) -> bool {
        let mut parked = self.parked();
        let Some(first) = parked.first_entry() else { return false };
        if first.get().since.elapsed() < SETTLED {
            return false;
        }
        drop(first.remove());
        true
    }

    /// Closes connections that have been silent for too long.
    fn sweep(&self, now: Instant) {
        self.parked().retain(|_, parked| parked.until > now);
        self.leaving().retain(|_, leaving| leaving.until > now && leaving.end > now);
    }

    /// Waits for what is under way, after telling those who would go on.
    fn end(&self) {
        self.parked().clear();
        self.leaving().clear();
        for (socket, ends) in self.followers().values() {
            ends.apply(socket);
        }
        let until = Instant::now() + self.limits.last_orders;
        while (self.busy.load(Ordering::Relaxed) > 0 || !self.followers().is_empty())
            && Instant::now() < until
        {
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn parked(&self) -> MutexGuard<'_, BTreeMap<u64, Parked>> {
        self.parked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn leaving(&self) -> MutexGuard<'_, BTreeMap<u64, Leaving>> {
        self.leaving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn followers(&self) -> MutexGuard<'_, HashMap<u64, (Arc<OwnedFd>, Ends)>> {
        self.followers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How an answer that would go on is ended.
#[derive(Clone, Copy)]
pub(crate) enum Ends {
    /// To who polls for that, the peer looks gone; the end of the answer can still be sent.
    Reading,
    /// The peer has gone. One that merely sends no more would be nothing special in a conversation.
    Both,
}

impl Ends {
    fn apply(self, socket: &OwnedFd) {
        let how = match self {
            Self::Reading => rustix::net::Shutdown::Read,
            Self::Both => rustix::net::Shutdown::Both,
        };
        let _ = rustix::net::shutdown(socket.as_fd(), how);
    }
}

/// A request being answered.
pub(crate) struct Busy(Arc<Shared>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A place among the open connections.
pub(crate) struct Seat(Arc<AtomicUsize>);

impl Seat {
    fn new(open: &Arc<AtomicUsize>) -> Self {
        open.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(open))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An answer that goes on for as long as it likes, and must not when the server ends.
pub(crate) struct Follower {
    shared: Arc<Shared>,
    id: u64,
}

impl Follower {
    pub fn new(shared: &Arc<Shared>, socket: &Socket, ends: Ends) -> Self {
        let id = shared.serial.fetch_add(1, Ordering::Relaxed);
        let fd = socket.shared();
        let mut followers = shared.followers();
        if shared.stopping.load(Ordering::Relaxed) {
            ends.apply(&fd);
        }
        followers.insert(id, (fd, ends));
        drop(followers);
        Self { shared: Arc::clone(shared), id }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.shared.followers().remove(&self.id);
    }
}
