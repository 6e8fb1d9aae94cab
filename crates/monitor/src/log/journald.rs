//! The `journald` driver: systemd's native journal protocol, one datagram a line.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use fluyt_model::Result;
use fluyt_model::error::IoContext;
use fluyt_model::time::rfc3339;
use rustix::io::Errno;
use rustix::net::{SendFlags, send};

use super::{Origin, Source};

const SOCKET: &str = "/run/systemd/journal/socket";

/// How long the journal may keep the container waiting before it counts as away.
const PATIENCE: Duration = Duration::from_secs(1);

/// A connection to the journal; made anew when the journal's service was started again.
#[derive(Debug)]
pub struct Journald {
    socket: UnixDatagram,
    /// The fields that every entry carries, already encoded.
    fields: Vec<u8>,
    /// The last entry was not taken in time: the next ones are offered without waiting until one is.
    stuck: bool,
    /// Entries so far.
    ordinal: u64,
    /// The long line that is being cut, by stream: its id and its parts so far.
    cut: [Option<(String, u32)>; 2],
}

impl Journald {
    pub(super) fn open(origin: &Origin, extra: &BTreeMap<String, String>, tag: &str) -> Result<Self> {
        let about = || format!("log driver journald: {SOCKET}");
        let socket = connect().about(about).map_err(|e| e.with_hint("is systemd-journald running?"))?;
        let mut fields = Vec::new();
        let short = fluyt_model::id::short(&origin.id);
        for (key, value) in [
            ("CONTAINER_ID", short),
            ("CONTAINER_ID_FULL", &origin.id),
            ("CONTAINER_NAME", &origin.name),
            ("CONTAINER_TAG", tag),
            ("SYSLOG_IDENTIFIER", tag),
            ("IMAGE_NAME", &origin.image),
            // With CONTAINER_LOG_ORDINAL: whether entries of this run are missing.
            ("CONTAINER_LOG_EPOCH", &made_up()),
        ] {
            field(&mut fields, key, value.as_bytes());
        }
        for (key, value) in extra {
            let key: String = key
                .chars()
                .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' })
                .collect();
            field(&mut fields, key.trim_start_matches('_'), value.as_bytes());
        }
        Ok(Self { socket, fields, stuck: false, ordinal: 0, cut: [None, None] })
    }

    pub(super) fn line(&mut self, source: Source, time: i64, line: &[u8]) {
        let (text, partial) = match line.strip_suffix(b"\n") {
            Some(text) => (text, false),
            None => (line, true),
        };
        self.ordinal += 1;
        let mut entry = self.fields.clone();
        field(&mut entry, "PRIORITY", if source == Source::Stderr { b"3" } else { b"6" });
        // When the container wrote it; the journal's own time is when it arrived there.
        field(&mut entry, "SYSLOG_TIMESTAMP", rfc3339(time).as_bytes());
        field(&mut entry, "CONTAINER_LOG_ORDINAL", self.ordinal.to_string().as_bytes());
        self.describe_part(source, partial, &mut entry);
        field(&mut entry, "MESSAGE", text);
        self.send(&entry);
    }

    /// Says of a part of a long line which line it belongs to and whether more come.
    fn describe_part(&mut self, source: Source, partial: bool, entry: &mut Vec<u8>) {
        let cut = &mut self.cut[usize::from(source == Source::Stderr)];
        if !partial && cut.is_none() {
            return;
        }
        let (id, ordinal) = cut.get_or_insert_with(|| (made_up(), 0));
        *ordinal += 1;
        field(entry, "CONTAINER_PARTIAL_ID", id.as_bytes());
        field(entry, "CONTAINER_PARTIAL_ORDINAL", ordinal.to_string().as_bytes());
        field(entry, "CONTAINER_PARTIAL_LAST", if partial { b"false" } else { b"true" });
        if partial {
            field(entry, "CONTAINER_PARTIAL_MESSAGE", b"true");
        } else {
            *cut = None;
        }
    }

    /// Sends one entry, or drops it when the journal takes none within [`PATIENCE`]: a journal that hangs loses lines
    /// rather than stopping the container.
    fn send(&mut self, entry: &[u8]) {
        let flags = |stuck: bool| {
            if stuck { SendFlags::DONTWAIT | SendFlags::NOSIGNAL } else { SendFlags::NOSIGNAL }
        };
        let mut sent = send(&self.socket, entry, flags(self.stuck));
        if matches!(sent, Err(Errno::CONNREFUSED | Errno::NOTCONN | Errno::CONNRESET | Errno::PIPE))
            && let Ok(socket) = connect()
        {
            self.socket = socket;
            sent = send(&self.socket, entry, flags(false));
        }
        self.stuck = sent == Err(Errno::AGAIN);
    }
}

fn connect() -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(SOCKET)?;
    socket.set_write_timeout(Some(PATIENCE))?;
    Ok(socket)
}

/// A random name of 32 hexadecimal digits.
fn made_up() -> String {
    let mut bytes = [0_u8; 16];
    // Without random numbers all names are alike, which costs readers the distinction and nothing else.
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Appends one field in the form that allows any bytes: name, newline, length (u64, little endian), value, newline.
fn field(out: &mut Vec<u8>, key: &str, value: &[u8]) {
    out.extend_from_slice(key.as_bytes());
    out.push(b'\n');
    out.extend_from_slice(&(value.len() as u64).to_le_bytes());
    out.extend_from_slice(value);
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_carry_any_bytes() {
        let mut out = Vec::new();
        field(&mut out, "MESSAGE", b"a\nb");
        assert_eq!(out, b"MESSAGE\n\x03\0\0\0\0\0\0\0a\nb\n");
    }
}
