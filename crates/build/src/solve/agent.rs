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

/// Copies both ways until both are silent.
fn lead(client: &UnixStream, server: &UnixStream) {
    std::thread::scope(|scope| {
        scope.spawn(|| copy(client, server));
        copy(server, client);
    });
}

fn copy(mut from: &UnixStream, mut to: &UnixStream) {
    let mut buffer = [0; 16 * 1024];
    loop {
        match from.read(&mut buffer) {
            Ok(n) if n > 0 && to.write_all(&buffer[..n]).is_ok() => {}
            _ => break,
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Write);
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
            let mut text = Vec::new();
            peer.read_to_end(&mut text).expect("read");
            text.reverse();
            peer.write_all(&text).expect("written");
        });
        let place = dir.path().join("forward");
        let ids = (0o640, rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
        let forward = Forward::start(&agent, place.clone(), ids).expect("started");
        assert_eq!(std::fs::metadata(&place).expect("there").permissions().mode() & 0o777, 0o640);
        let mut client = UnixStream::connect(&place).expect("connected");
        client.write_all(b"abc").expect("written");
        client.shutdown(std::net::Shutdown::Write).expect("shut");
        let mut answer = String::new();
        client.read_to_string(&mut answer).expect("an answer");
        assert_eq!(answer, "cba");
        echo.join().expect("ended");
        drop(forward);
        assert!(!place.exists());
    }
}
