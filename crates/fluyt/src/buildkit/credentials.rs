//! Credentials of the client for the build's process, by Docker's own protocol for credential helpers.
//!
//! The build's `config.json` names the helper [`NAME`]; that is this program again, called by that name, which asks the
//! engine over a socket that only this build knows. The engine asks the client. Nothing is written down.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use fluyt_buildkit::Session;
use fluyt_model::error::IoContext;
use fluyt_model::{Error, Result};

/// The name of the helper's program.
pub const NAME: &str = "docker-credential-fluyt-session";
/// What config.json calls it.
const STORE: &str = "fluyt-session";
/// The variable that names the socket.
pub const SOCKET: &str = "FLUYT_SESSION_SOCKET";
/// No address of a registry is longer.
const LONGEST: u64 = 4096;

/// The program [`NAME`]: `get` with the registry on standard input.
pub fn main(args: &[String]) -> i32 {
    match answer(args) {
        Ok(text) => {
            print!("{text}");
            0
        }
        Err(e) => {
            // Docker reads the message of a helper from its standard output.
            print!("{}", e.chain());
            1
        }
    }
}

fn answer(args: &[String]) -> Result<String> {
    if args.first().map(String::as_str) != Some("get") {
        return Err(Error::unsupported("credentials of a build's client can be read only"));
    }
    let path = std::env::var_os(SOCKET).ok_or_else(|| Error::invalid(format!("{SOCKET} is not set")))?;
    let about = || PathBuf::from(&path).display().to_string();
    let mut host = String::new();
    std::io::stdin().take(LONGEST).read_to_string(&mut host).about(|| "standard input")?;
    let mut socket = UnixStream::connect(&path).about(about)?;
    writeln!(socket, "{}", host.trim()).about(about)?;
    let mut text = String::new();
    socket.take(1 << 20).read_to_string(&mut text).about(about)?;
    if text.is_empty() { Err(Error::not_found("credentials not found in native keychain")) } else { Ok(text) }
}

/// Makes the directory that a build's process has as `DOCKER_CONFIG`, and the helper in it. Returns the directories to be
/// put into `PATH` and the socket's place.
///
/// # Errors
/// The disk.
pub fn prepare(dir: &Path, program: &Path) -> Result<(PathBuf, PathBuf)> {
    let bin = dir.join("bin");
    std::fs::create_dir(&bin).about(|| bin.display().to_string())?;
    let helper = bin.join(NAME);
    std::os::unix::fs::symlink(program, &helper).about(|| helper.display().to_string())?;
    let config = dir.join("config.json");
    let text = serde_json::json!({"credsStore": STORE}).to_string();
    std::fs::write(&config, text).about(|| config.display().to_string())?;
    Ok((bin, dir.join("credentials.sock")))
}

/// Answers the helper until the listener is shut down.
pub fn serve(listener: &UnixListener, session: &Session) {
    while let Ok((socket, _)) = listener.accept() {
        // The helper tells its build what it does not get.
        let _ = one(socket, session);
    }
}

fn one(mut socket: UnixStream, session: &Session) -> Result<()> {
    let about = || "a build's credentials";
    let mut host = String::new();
    BufReader::new(socket.try_clone().about(about)?.take(LONGEST)).read_line(&mut host).about(about)?;
    let host = host.trim();
    if let Some((name, secret)) = session.credentials(host)? {
        // A token of an identity has no user's name.
        let name = if name.is_empty() { "<token>".to_owned() } else { name };
        let answer = serde_json::json!({"ServerURL": host, "Username": name, "Secret": secret});
        write!(socket, "{answer}").about(about)?;
    }
    Ok(())
}
