//! Where a server listens: TCP, a socket file, or a socket that was there before.

use std::fmt;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fluyt_model::error::IoContext;
use fluyt_model::{Error, Kind, Result};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrAny, SocketAddrUnix, SocketFlags, SocketType, acceptfrom_with, sockopt,
};

use super::TlsFiles;
use super::peer::Peer;
use super::socket::Socket;

/// Connections that wait in the kernel until they are accepted.
const BACKLOG: i32 = 4096;

/// An address that is listened on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// TCP.
    Tcp(SocketAddr),
    /// A socket file; empty for one without a name.
    Unix(PathBuf),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "tcp://{address}"),
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

/// Who may use a socket file.
#[derive(Clone, Copy, Debug)]
pub struct Access {
    /// Permission bits.
    pub mode: u32,
    /// The owner; who creates it with `None`.
    pub uid: Option<u32>,
    /// The group, likewise.
    pub gid: Option<u32>,
}

/// A socket that listens. A socket file of its own goes with it.
#[derive(Debug)]
pub struct Listener {
    fd: OwnedFd,
    place: Place,
    tls: Option<Arc<TlsFiles>>,
    /// The file, with device and inode: one that another has put there stays.
    file: Option<(PathBuf, (u64, u64))>,
}

impl Listener {
    /// Listens on `HOST:PORT`; port 0 takes a free one, no host is every address of IPv4.
    ///
    /// # Errors
    /// `Kind::Invalid` for a malformed address, `Kind::Conflict` when it is in use; it is not of this machine.
    pub fn tcp(address: &str) -> Result<Self> {
        let text = if address.starts_with(':') { format!("0.0.0.0{address}") } else { address.to_owned() };
        let found = text.to_socket_addrs().map_err(|e| {
            Error::invalid(format!("{address}: not an address to listen on"))
                .with_hint("give HOST:PORT, for example 127.0.0.1:5000")
                .with_source(e)
        })?;
        let found: Vec<SocketAddr> = found.collect();
        let what = || format!("listening on {address}");
        let listener = TcpListener::bind(&found[..]).map_err(|e| {
            if e.kind() == std::io::ErrorKind::AddrInUse {
                Error::new(Kind::Conflict, what())
                    .with_source(e)
                    .with_hint("another program listens there; choose another port")
            } else {
                Error::io(what(), e)
            }
        })?;
        listener.set_nonblocking(true).about(what)?;
        let local = listener.local_addr().about(what)?;
        // Asked again, it takes the longer queue.
        rustix::net::listen(&listener, BACKLOG).about(what)?;
        Ok(Self { fd: listener.into(), place: Place::Tcp(local), tls: None, file: None })
    }

    /// Listens on a socket file. One that nobody answers on any more is replaced.
    ///
    /// # Errors
    /// `Kind::Conflict` when somebody answers there, or the file is no socket; I/O errors.
    pub fn unix(path: &Path, access: Access) -> Result<Self> {
        let what = || path.display().to_string();
        clear(path)?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).about(what)?;
        // The mode of an unbound socket is that of its file: there is no moment in which others get in.
        rustix::fs::fchmod(&fd, rustix::fs::Mode::from_raw_mode(access.mode & 0o600)).about(what)?;
        let address = SocketAddrUnix::new(path).map_err(|e| {
            Error::io(what(), e.into()).with_hint("the path of a socket has at most 107 bytes")
        })?;
        rustix::net::bind(&fd, &address).map_err(|e| match e {
            Errno::ADDRINUSE => answered(path),
            e => Error::io(what(), e.into()),
        })?;
        let found = path.symlink_metadata().about(what)?;
        let listener = Self {
            fd,
            place: Place::Unix(path.to_owned()),
            tls: None,
            file: Some((path.to_owned(), (found.dev(), found.ino()))),
        };
        if access.uid.is_some() || access.gid.is_some() {
            std::os::unix::fs::lchown(path, access.uid, access.gid).about(what)?;
        }
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(access.mode)).about(what)?;
        rustix::net::listen(&listener.fd, BACKLOG).about(what)?;
        Ok(listener)
    }

    /// A socket that listens already: who started this process has made it.
    ///
    /// # Errors
    /// `Kind::Invalid` when it is no listening stream socket.
    pub fn inherited(fd: OwnedFd) -> Result<Self> {
        let unusable = || Error::invalid("an inherited descriptor is not a listening socket");
        if !sockopt::socket_acceptconn(&fd).is_ok_and(|listens| listens)
            || !sockopt::socket_type(&fd).is_ok_and(|kind| kind == SocketType::STREAM)
        {
            return Err(unusable());
        }
        let what = || "an inherited socket";
        let name = rustix::net::getsockname(&fd).about(what)?;
        let place = match SocketAddr::try_from(name.clone()) {
            Ok(address) => Place::Tcp(address),
            Err(_) => Place::Unix(unix_path(name).ok_or_else(unusable)?),
        };
        rustix::io::ioctl_fionbio(&fd, true).about(what)?;
        rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::CLOEXEC).about(what)?;
        Ok(Self { fd, place, tls: None, file: None })
    }

    /// The same with TLS.
    #[must_use]
    pub fn with_tls(mut self, tls: Arc<TlsFiles>) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Where it listens.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.place
    }

    pub(crate) fn tls(&self) -> Option<&Arc<TlsFiles>> {
        self.tls.as_ref()
    }

    /// The next connection.
    pub(crate) fn accept(&self) -> std::result::Result<(Socket, Peer), Errno> {
        let (fd, address) = acceptfrom_with(&self.fd, SocketFlags::CLOEXEC)?;
        let peer = match &self.place {
            Place::Tcp(_) => {
                let _ = sockopt::set_tcp_nodelay(&fd, true);
                // A peer that vanishes without a word is noticed also by those who only write now and then.
                let _ = sockopt::set_socket_keepalive(&fd, true);
                let address = address.and_then(|a| SocketAddr::try_from(a).ok());
                Peer::Tcp(address.ok_or(Errno::CONNABORTED)?)
            }
            Place::Unix(_) => {
                let (uid, gid) = fluyt_sys::peer::credentials(fd.as_fd())?;
                Peer::Unix { uid, gid }
            }
        };
        Ok((Socket::new(fd), peer))
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some((path, identity)) = &self.file
            && path.symlink_metadata().is_ok_and(|now| (now.dev(), now.ino()) == *identity)
        {
            let _ = std::fs::remove_file(path);
        }
    }
}

fn unix_path(name: SocketAddrAny) -> Option<PathBuf> {
    let name = SocketAddrUnix::try_from(name).ok()?;
    Some(
        name.path()
            .map(|path| PathBuf::from(std::ffi::OsStr::new(&*path.to_string_lossy())))
            .unwrap_or_default(),
    )
}

fn answered(path: &Path) -> Error {
    Error::conflict(format!("{}: another program listens there", path.display()))
        .with_hint("stop it first, or choose another socket")
}

/// Makes room for a socket file.
fn clear(path: &Path) -> Result<()> {
    let what = || path.display().to_string();
    let found = match path.symlink_metadata() {
        Ok(found) => found,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(Error::io(what(), e)),
    };
    if !found.file_type().is_socket() {
        return Err(Error::conflict(format!("{}: in the way, and not a socket", path.display()))
            .with_hint("remove it, or choose another path"));
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let probe = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).about(what)?;
    let address = SocketAddrUnix::new(path).about(what)?;
    match rustix::net::connect(&probe, &address) {
        Err(Errno::CONNREFUSED) => std::fs::remove_file(path).about(what),
        Err(Errno::NOENT) => Ok(()),
        // Also when its queue is full.
        Ok(()) | Err(Errno::AGAIN) => Err(answered(path)),
        Err(e) => Err(Error::io(what(), e.into())),
    }
}
