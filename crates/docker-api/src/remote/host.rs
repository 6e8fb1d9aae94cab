//! Where a daemon is: `unix://PATH`, `tcp://HOST:PORT`, `ssh://[USER@]HOST[:PORT][/PATH]`. Pure.

use std::fmt;
use std::path::PathBuf;

use fluyt_model::{Error, Result};
use percent_encoding::percent_decode_str;

/// The socket that Docker's clients use when none is named.
pub const DEFAULT_SOCKET: &str = "/var/run/docker.sock";
/// The machine and the ports of `tcp://` when none is named.
const DEFAULT_MACHINE: &str = "127.0.0.1";
const PLAIN_PORT: u16 = 2375;
const TLS_PORT: u16 = 2376;

/// The address of a daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// A socket file.
    Unix(PathBuf),
    /// A port, with or without TLS.
    Tcp {
        /// Name or address, without brackets.
        machine: String,
        /// The port.
        port: u16,
    },
    /// Another machine, by its `docker system dial-stdio`.
    Ssh(Ssh),
}

/// What `ssh` is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ssh {
    /// The user there; empty: what ssh chooses.
    pub user: String,
    /// The machine.
    pub machine: String,
    /// The port; empty: what ssh chooses.
    pub port: String,
    /// The socket there; empty: the default of the machine.
    pub path: String,
}

impl Host {
    /// Reads a host as `-H` and `DOCKER_HOST` give it; without a scheme it is TCP. `tls` chooses the default port.
    ///
    /// # Errors
    /// `Invalid`, in Docker's words.
    pub fn parse(text: &str, tls: bool) -> Result<Self> {
        let text = text.trim();
        let malformed = || {
            Error::invalid(format!("invalid bind address format: {text}"))
                .with_hint("give unix://PATH, tcp://HOST:PORT or ssh://USER@HOST")
        };
        let (scheme, rest) = text.split_once("://").unwrap_or(("tcp", text));
        match scheme {
            "unix" if rest.contains("://") => {
                Err(Error::invalid(format!("invalid proto, expected unix: {text}")))
            }
            "unix" => {
                let path = if rest.is_empty() { DEFAULT_SOCKET } else { rest };
                Ok(Self::Unix(PathBuf::from(path)))
            }
            "tcp" | "http" | "https" => tcp(text, rest, tls || scheme == "https"),
            "ssh" => ssh(text, rest).map(Self::Ssh),
            _ => Err(malformed()),
        }
    }
}

fn tcp(text: &str, rest: &str, tls: bool) -> Result<Host> {
    let malformed = || Error::invalid(format!("invalid bind address format: {text}"));
    // A path after the address is not supported by any daemon of ours, and silently leaving it out would mislead.
    let address = rest.strip_suffix('/').unwrap_or(rest);
    if address.contains(['/', '?', '#', '@']) {
        return Err(malformed());
    }
    let (machine, port) = match address.strip_prefix('[') {
        Some(inner) => {
            let (machine, after) = inner.split_once(']').ok_or_else(malformed)?;
            (machine, after.strip_prefix(':').unwrap_or_default())
        }
        None => address.split_once(':').unwrap_or((address, "")),
    };
    let port = match port {
        "" if tls => TLS_PORT,
        "" => PLAIN_PORT,
        digits => digits.parse().map_err(|_| malformed())?,
    };
    let machine = if machine.is_empty() { DEFAULT_MACHINE } else { machine };
    Ok(Host::Tcp { machine: machine.to_owned(), port })
}

fn ssh(text: &str, rest: &str) -> Result<Ssh> {
    let invalid =
        |why: &str| Error::invalid(format!("ssh host connection is not valid: invalid SSH URL: {why}"));
    if let Some((_, query)) = rest.split_once('?') {
        return Err(invalid(&format!("query parameters are not allowed: {query:?}")));
    }
    if let Some((_, fragment)) = rest.split_once('#') {
        return Err(invalid(&format!("fragments are not allowed: {fragment:?}")));
    }
    let (authority, path) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, ""),
    };
    let (user, machine) = authority.rsplit_once('@').unwrap_or(("", authority));
    if user.contains(':') {
        return Err(invalid("plain-text password is not supported"));
    }
    let (machine, port) = match machine.strip_prefix('[') {
        Some(inner) => {
            let (machine, after) = inner.split_once(']').ok_or_else(|| invalid("missing ']' in host"))?;
            (machine, after.strip_prefix(':').unwrap_or_default())
        }
        None => machine.split_once(':').unwrap_or((machine, "")),
    };
    if machine.is_empty() {
        return Err(invalid("hostname is empty"));
    }
    if !port.bytes().all(|b| b.is_ascii_digit()) {
        return Err(invalid(&format!("invalid port {port:?} after host")));
    }
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let path = if path.trim_matches('/').is_empty() { String::new() } else { decoded(path) };
    let found = Ssh { user: decoded(user), machine: decoded(machine), port: port.to_owned(), path };
    // What begins with a dash would be read as an option.
    if [&found.user, &found.machine].iter().any(|word| word.starts_with('-')) {
        return Err(invalid(&format!("{text}: a name must not begin with a dash")));
    }
    Ok(found)
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp { machine, port } if machine.contains(':') => write!(f, "tcp://[{machine}]:{port}"),
            Self::Tcp { machine, port } => write!(f, "tcp://{machine}:{port}"),
            Self::Ssh(ssh) => {
                f.write_str("ssh://")?;
                if !ssh.user.is_empty() {
                    write!(f, "{}@", ssh.user)?;
                }
                f.write_str(&ssh.machine)?;
                if !ssh.port.is_empty() {
                    write!(f, ":{}", ssh.port)?;
                }
                f.write_str(&ssh.path)
            }
        }
    }
}

impl Ssh {
    /// The arguments of `ssh` that run `program system dial-stdio` there.
    #[must_use]
    pub fn arguments(&self, program: &str) -> Vec<String> {
        let mut words: Vec<String> = Vec::new();
        let mut add = |more: &[&str]| words.extend(more.iter().map(|w| (*w).to_owned()));
        if !self.user.is_empty() {
            add(&["-l", &self.user]);
        }
        if !self.port.is_empty() {
            add(&["-p", &self.port]);
        }
        add(&["-o", "ConnectTimeout=30", "-T", "--", &self.machine, program]);
        if !self.path.is_empty() {
            add(&[&format!("--host={}", quoted(&format!("unix://{}", self.path)))]);
        }
        add(&["system", "dial-stdio"]);
        words
    }
}

/// A word for the shell that ssh gives the command to.
fn quoted(word: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_./:@%+,=".contains(&b);
    if word.bytes().all(plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_read_as_docker_reads_them() {
        for (text, tls, expected) in [
            ("unix:///run/x.sock", false, "unix:///run/x.sock"),
            ("unix://", false, "unix:///var/run/docker.sock"),
            ("tcp://", false, "tcp://127.0.0.1:2375"),
            ("tcp://", true, "tcp://127.0.0.1:2376"),
            ("tcp://box", true, "tcp://box:2376"),
            ("box:4000", false, "tcp://box:4000"),
            (":4000", false, "tcp://127.0.0.1:4000"),
            ("tcp://[::1]:4000/", false, "tcp://[::1]:4000"),
            ("ssh://me@box:22/run/x.sock", false, "ssh://me@box:22/run/x.sock"),
            ("ssh://box/", false, "ssh://box"),
        ] {
            assert_eq!(Host::parse(text, tls).unwrap().to_string(), expected, "{text}");
        }
        for bad in [
            "npipe:////./pipe/x",
            "tcp://a:b",
            "tcp://a:1/v1",
            "tcp://[::1",
            "ssh://",
            "ssh://a:b@c",
            "ssh://a?b",
            "ssh://a#b",
            "ssh://-oProxyCommand=x",
            "ssh://a:x",
        ] {
            assert!(Host::parse(bad, false).is_err(), "{bad}");
        }
    }

    #[test]
    fn ssh_is_given_words_that_its_shell_reads_as_meant() {
        let ssh = |text: &str| match Host::parse(text, false) {
            Ok(Host::Ssh(ssh)) => ssh.arguments("docker").join(" "),
            other => panic!("{other:?}"),
        };
        assert_eq!(ssh("ssh://box"), "-o ConnectTimeout=30 -T -- box docker system dial-stdio");
        assert_eq!(
            ssh("ssh://me@box:222/run/a%20b.sock"),
            "-l me -p 222 -o ConnectTimeout=30 -T -- box docker --host='unix:///run/a b.sock' system dial-stdio"
        );
    }
}
