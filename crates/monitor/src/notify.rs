//! Tells a service manager about the container (sd_notify(3)): that the monitor is the main process of its service, and
//! when the container is up. Where the container says the latter itself, it is given a socket of the monitor's, which
//! passes on what concerns the container and keeps back what only a main process may say.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};

use fluyt_model::Result;
use fluyt_model::error::IoContext;
use fluyt_model::sandbox::{Notify, Ready};

/// Where the directory with the socket appears in the container.
pub const INSIDE: &str = "/run/notify";
/// The socket's name there.
pub const SOCKET: &str = "notify.sock";

/// What is longer is no message of sd_notify(3).
const LONGEST: usize = 4096;
/// So many messages of the container are taken at once.
const AT_ONCE: usize = 16;

/// The directory that a container sees at [`INSIDE`].
#[must_use]
pub fn directory(run: &Path) -> PathBuf {
    run.join("notify")
}

/// Makes that directory: everybody in the container may reach the socket.
///
/// # Errors
/// It cannot be made.
pub fn make_directory(run: &Path) -> Result<()> {
    let directory = directory(run);
    let about = || directory.display().to_string();
    std::fs::create_dir_all(&directory).about(about)?;
    std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o755)).about(about)
}

/// The connection to the service manager.
#[derive(Debug)]
pub struct Notifier {
    address: SocketAddr,
    ready: Ready,
    /// Where the container speaks.
    inside: Option<UnixDatagram>,
    /// It has been said that the container is up.
    said: bool,
}

impl Notifier {
    /// Prepares to tell; listens where the container will speak.
    ///
    /// # Errors
    /// The socket for the container cannot be made.
    pub fn open(notify: &Notify, run: &Path) -> Result<Self> {
        let address = match notify.socket.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name),
            None => SocketAddr::from_pathname(&notify.socket),
        };
        let address = address.about(|| format!("NOTIFY_SOCKET={}", notify.socket))?;
        let inside = (notify.ready == Ready::Said).then(|| listen(run)).transpose()?;
        Ok(Self { address, ready: notify.ready, inside, said: false })
    }

    /// The container runs.
    pub fn started(&mut self) {
        let up = if self.ready == Ready::Started { "READY=1\n" } else { "" };
        self.said |= !up.is_empty();
        self.tell(format!("MAINPID={}\n{up}", std::process::id()).as_bytes());
    }

    /// A health check has passed.
    pub fn healthy(&mut self) {
        if self.ready == Ready::Healthy && !std::mem::replace(&mut self.said, true) {
            self.tell(b"READY=1\n");
        }
    }

    /// What the container speaks on.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.inside.as_ref().map(AsFd::as_fd)
    }

    /// Passes on what the container has said.
    pub fn pass_on(&self) {
        let Some(inside) = &self.inside else { return };
        let mut buffer = [0; LONGEST];
        for _ in 0..AT_ONCE {
            let Ok(length) = inside.recv(&mut buffer) else { return };
            let message = allowed(&buffer[..length]);
            if !message.is_empty() {
                self.tell(&message);
            }
        }
    }

    /// Whoever does not listen any more is not waited for.
    fn tell(&self, message: &[u8]) {
        let sent = UnixDatagram::unbound().and_then(|socket| socket.send_to_addr(message, &self.address));
        if let Err(error) = sent {
            eprintln!("fluyt: monitor: telling the service manager at {:?}: {error}", self.address);
        }
    }
}

fn listen(run: &Path) -> Result<UnixDatagram> {
    let path = directory(run).join(SOCKET);
    let about = || path.display().to_string();
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error).about(about),
        _ => {}
    }
    let socket = UnixDatagram::bind(&path).about(about)?;
    socket.set_nonblocking(true).about(about)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).about(about)?;
    Ok(socket)
}

/// The lines that a container may say about its service: nothing about processes and descriptors of the host.
fn allowed(message: &[u8]) -> Vec<u8> {
    const KNOWN: [&str; 8] = [
        "READY=",
        "RELOADING=",
        "STOPPING=",
        "STATUS=",
        "ERRNO=",
        "WATCHDOG=",
        "WATCHDOG_USEC=",
        "EXTEND_TIMEOUT_USEC=",
    ];
    let mut passed = Vec::with_capacity(message.len() + 1);
    for line in message.split(|byte| *byte == b'\n') {
        if KNOWN.iter().any(|known| line.starts_with(known.as_bytes()))
            || line.starts_with(b"MONOTONIC_USEC=")
        {
            passed.extend_from_slice(line);
            passed.push(b'\n');
        }
    }
    passed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_cannot_speak_for_the_host() {
        assert_eq!(allowed(b"READY=1\nMAINPID=1\nSTATUS=up\nFDSTORE=1"), b"READY=1\nSTATUS=up\n");
        assert!(allowed(b"MAINPID=1").is_empty());
    }

    #[test]
    fn who_is_told_what_and_when() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("manager");
        let manager = UnixDatagram::bind(&path).unwrap();
        manager.set_nonblocking(true).unwrap();
        let heard = || {
            let mut buffer = [0; 256];
            manager.recv(&mut buffer).map(|n| String::from_utf8_lossy(&buffer[..n]).into_owned()).ok()
        };
        let main = format!("MAINPID={}\n", std::process::id());
        let open = |ready| {
            make_directory(dir.path()).unwrap();
            let notify = Notify { socket: path.to_str().unwrap().to_owned(), ready };
            Notifier::open(&notify, dir.path()).unwrap()
        };
        open(Ready::Started).started();
        assert_eq!(heard(), Some(format!("{main}READY=1\n")));
        let mut healthy = open(Ready::Healthy);
        healthy.started();
        healthy.healthy();
        healthy.healthy();
        assert_eq!((heard(), heard(), heard()), (Some(main.clone()), Some("READY=1\n".to_owned()), None));
        let mut said = open(Ready::Said);
        said.started();
        let inside = UnixDatagram::unbound().unwrap();
        inside.send_to(b"READY=1\nMAINPID=7", directory(dir.path()).join(SOCKET)).unwrap();
        said.pass_on();
        assert_eq!((heard(), heard()), (Some(main), Some("READY=1\n".to_owned())));
        // A manager that has gone is no reason to fail.
        drop(manager);
        open(Ready::Started).started();
    }
}
