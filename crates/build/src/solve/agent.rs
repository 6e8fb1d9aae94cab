//! The caller's SSH agent inside a step: a socket of the step's own, with the owner and mode that it asked for, whose
//! connections are led to the agent's. So a step that is not root can use it, and the agent's own socket is not
//! shown to anybody.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fluyt_model::Result;
use fluyt_model::error::IoContext;

/// A socket that leads to an agent; it ends with this value.
pub struct Forward {
    path: PathBuf,
    over: Arc<AtomicBool>,
}

impl Forward {
    /// Makes the socket `path` for the agent at `agent`; `owner` is mode, user and group.
    ///
    /// # Errors
    /// The socket cannot be made.
    pub fn start(agent: &Path, path: PathBuf, (mode, uid, gid): (u32, u32, u32)) -> Result<Self> {
        let about = || path.display().to_string();
        let listener = UnixListener::bind(&path).about(about)?;
        std::os::unix::fs::chown(&path, Some(uid), Some(gid)).about(about)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).about(about)?;
        let over = Arc::new(AtomicBool::new(false));
        let (agent, told) = (agent.to_owned(), Arc::clone(&over));
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if told.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(server) = UnixStream::connect(&agent) else { continue };
                std::thread::spawn(move || lead(&client, &server));
            }
        });
        Ok(Self { path, over })
    }
}

/// The requests that a step may make (draft-miller-ssh-agent): the list of keys, and a signature.
const ALLOWED: [u8; 2] = [11, 13];
/// What an agent answers when it does not do something: a message of one byte.
const FAILURE: [u8; 5] = [0, 0, 0, 1, 5];
/// The longest message, as OpenSSH has it.
const MOST: usize = 256 * 1024;

/// Leads requests to the agent and answers back until one of them has gone. A step must not take the caller's keys
/// away, add to them or lock them.
fn lead(mut client: &UnixStream, mut server: &UnixStream) {
    while let Some(request) = message(client) {
        let kind = request.get(4);
        let answer = if kind.is_some_and(|kind| ALLOWED.contains(kind)) {
            if server.write_all(&request).is_err() {
                return;
            }
            match message(server) {
                Some(answer) => answer,
                None => return,
            }
        } else {
            FAILURE.to_vec()
        };
        if client.write_all(&answer).is_err() {
            return;
        }
    }
}

/// The next message, with its length before it.
fn message(mut from: &UnixStream) -> Option<Vec<u8>> {
    let mut head = [0; 4];
    from.read_exact(&mut head).ok()?;
    let length = usize::try_from(u32::from_be_bytes(head)).ok().filter(|length| *length <= MOST)?;
    let mut whole = head.to_vec();
    whole.resize(4 + length, 0);
    from.read_exact(&mut whole[4..]).ok()?;
    Some(whole)
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        // The thread that waits for connections gets one.
        let _ = UnixStream::connect(&self.path);
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_reaches_the_agent_and_comes_back() {
        let dir = tempfile::tempdir().expect("a directory");
        let agent = dir.path().join("agent");
        let listener = UnixListener::bind(&agent).expect("bound");
        let echo = std::thread::spawn(move || {
            let (mut peer, _) = listener.accept().expect("a connection");
            let mut asked = Vec::new();
            while let Some(mut text) = message(&peer) {
                asked.push(text[4]);
                text[4..].reverse();
                peer.write_all(&text).expect("written");
            }
            asked
        });
        let place = dir.path().join("forward");
        let ids = (0o640, rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
        let forward = Forward::start(&agent, place.clone(), ids).expect("started");
        assert_eq!(std::fs::metadata(&place).expect("there").permissions().mode() & 0o777, 0o640);
        let mut client = UnixStream::connect(&place).expect("connected");
        let mut ask = |body: &[u8]| {
            let length = u32::try_from(body.len()).expect("short");
            client.write_all(&[&length.to_be_bytes(), body].concat()).expect("written");
            message(&client).expect("an answer").split_off(4)
        };
        assert_eq!(ask(&[11]), [11]);
        assert_eq!(ask(&[13, 1, 2]), [2, 1, 13]);
        // To add a key, to remove all, to lock, an extension, nothing.
        for body in [&[17, 1][..], &[19], &[22, 0], &[27, 1], &[]] {
            assert_eq!(ask(body), [5], "{body:?}");
        }
        client.shutdown(std::net::Shutdown::Both).expect("shut");
        assert_eq!(echo.join().expect("ended"), [11, 13]);
        drop(forward);
        assert!(!place.exists());
    }
}
