//! `--ssh`: sockets of agents, and files of keys, for which an agent is started that lives as long as the build. Keys go
//! from their files into its memory; nothing of them is written anywhere, and steps see a socket only.
//!
//! The agent is OpenSSH's, in its form that ends with a command that it runs: that command waits for the end of a pipe
//! from here, so a builder that is killed leaves no agent either.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use fluyt_model::error::IoContext;
use fluyt_model::{Error, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::cli::flags::Parsed;

/// The longest file of a key, in bytes.
const MOST: u64 = 100 * 1024;
/// How long an agent may take to end, in seconds.
const PATIENCE: i64 = 2;

/// The agents of a build.
#[derive(Default)]
pub struct Agents {
    /// Their sockets, by id.
    pub sockets: BTreeMap<String, PathBuf>,
    /// Those that were started for it; they end with this.
    _started: Vec<KeyAgent>,
}

impl Agents {
    /// Reads the flag, and starts what it needs.
    ///
    /// # Errors
    /// A file that is not there or holds no key; OpenSSH is not installed.
    pub fn read(flags: &Parsed) -> Result<Self> {
        let mut found = Self::default();
        for text in flags.all("ssh") {
            let (id, paths) = text.split_once('=').unwrap_or((text, ""));
            let id = if id.is_empty() { "default" } else { id };
            if found.sockets.contains_key(id) {
                return Err(Error::invalid(format!("duplicate agent ID \"{id}\"")));
            }
            let paths: Vec<PathBuf> = match paths {
                "" => vec![std::env::var_os("SSH_AUTH_SOCK").map(PathBuf::from).ok_or_else(|| {
                    Error::invalid(format!(
                        "invalid empty ssh agent socket for {id}: make sure SSH_AUTH_SOCK is set"
                    ))
                })?],
                paths => paths.split(',').map(PathBuf::from).collect(),
            };
            let socket = found.of(&paths).map_err(|e| e.context(format!("--ssh {text}")))?;
            found.sockets.insert(id.to_owned(), socket);
        }
        Ok(found)
    }

    /// The socket of one agent.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&PathBuf> {
        self.sockets.get(id)
    }

    fn of(&mut self, paths: &[PathBuf]) -> Result<PathBuf> {
        let mut sockets = 0;
        for path in paths {
            let meta = std::fs::metadata(path).about(|| path.display().to_string())?;
            sockets += usize::from(meta.file_type().is_socket());
        }
        match (sockets, paths) {
            (0, _) => {}
            (1, [one]) => return Ok(one.clone()),
            (many, _) if many == paths.len() => return Err(Error::invalid("only single socket allowed")),
            _ => return Err(Error::invalid("invalid combination of keys and sockets")),
        }
        let agent = KeyAgent::start()?;
        paths.iter().try_for_each(|path| agent.add(path))?;
        let socket = agent.socket.clone();
        self._started.push(agent);
        Ok(socket)
    }
}

/// An agent of ours.
struct KeyAgent {
    socket: PathBuf,
    agent: OwnedFd,
    /// The command that the agent waits for; it waits for us.
    keeper: Child,
}

impl KeyAgent {
    fn start() -> Result<Self> {
        // What the shell is told by the agent it tells us, and then reads until we are gone.
        let script = "echo \"$SSH_AGENT_PID $SSH_AUTH_SOCK\"; exec cat > /dev/null";
        let mut keeper = Command::new("ssh-agent")
            .args(["sh", "-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| missing("ssh-agent", e))?;
        let mut line = String::new();
        let stdout = keeper.stdout.take().ok_or_else(|| Error::internal("ssh-agent without a pipe"))?;
        BufReader::new(stdout.take(4096)).read_line(&mut line).about(|| "ssh-agent")?;
        let parts = line.trim().split_once(' ');
        let found = parts.and_then(|(pid, socket)| Some((Pid::from_raw(pid.parse().ok()?)?, socket)));
        let Some((pid, socket)) = found else {
            drop(keeper.stdin.take());
            let _ = keeper.wait();
            return Err(Error::internal("ssh-agent did not start"));
        };
        // It lives as long as the command does, so the number is its own.
        let agent = pidfd_open(pid, PidfdFlags::empty()).about(|| "ssh-agent")?;
        Ok(Self { socket: PathBuf::from(socket), agent, keeper })
    }

    /// Gives it a key.
    fn add(&self, path: &Path) -> Result<()> {
        let name = path.display().to_string();
        let mut key = Vec::new();
        let file = std::fs::File::open(path).about(|| name.clone())?;
        file.take(MOST).read_to_end(&mut key).about(|| name.clone())?;
        let mut add = Command::new("ssh-add")
            .args(["-q", "-"])
            .env("SSH_AUTH_SOCK", &self.socket)
            // A password is asked for on the terminal, or not at all.
            .env_remove("DISPLAY")
            .env_remove("SSH_ASKPASS")
            .env_remove("SSH_ASKPASS_REQUIRE")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| missing("ssh-add", e))?;
        if let Some(mut input) = add.stdin.take() {
            // That it reads no further is said by its end.
            let _ = input.write_all(&key);
        }
        let output = add.wait_with_output().about(|| "ssh-add")?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(Error::invalid(format!("failed to parse {name}: {}", said.trim().replace("(stdin)", &name)))
            .with_hint("it has to be a private key; one with a password can be used by an agent that has it"))
    }
}

fn missing(program: &str, e: std::io::Error) -> Error {
    Error::io(program, e).with_hint("install OpenSSH's client, or give the socket of an agent")
}

impl Drop for KeyAgent {
    fn drop(&mut self) {
        let _ = pidfd_send_signal(&self.agent, Signal::TERM);
        let mut fds = [PollFd::new(&self.agent, PollFlags::IN)];
        let _ = poll(&mut fds, Some(&Timespec { tv_sec: PATIENCE, tv_nsec: 0 }));
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}
