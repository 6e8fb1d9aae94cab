//! The `journald` driver: systemd's native journal protocol, one datagram a line.

use std::collections::BTreeMap;
use std::os::unix::net::UnixDatagram;

use fluyt_model::Result;
use fluyt_model::error::IoContext;

use super::{Origin, Source};

const SOCKET: &str = "/run/systemd/journal/socket";

/// A connection to the journal.
#[derive(Debug)]
pub struct Journald {
    socket: UnixDatagram,
    /// The fields that every entry carries, already encoded.
    fields: Vec<u8>,
}

impl Journald {
    pub(super) fn open(origin: &Origin, extra: &BTreeMap<String, String>, tag: &str) -> Result<Self> {
        let about = || format!("log driver journald: {SOCKET}");
        let socket = UnixDatagram::unbound().about(about)?;
        socket.connect(SOCKET).about(about).map_err(|e| e.with_hint("is systemd-journald running?"))?;
        socket.set_nonblocking(true).about(about)?;
        let mut fields = Vec::new();
        let short = fluyt_model::id::short(&origin.id);
        for (key, value) in [
            ("CONTAINER_ID", short),
            ("CONTAINER_ID_FULL", &origin.id),
            ("CONTAINER_NAME", &origin.name),
            ("CONTAINER_TAG", tag),
            ("SYSLOG_IDENTIFIER", tag),
            ("IMAGE_NAME", &origin.image),
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
        Ok(Self { socket, fields })
    }

    pub(super) fn line(&self, source: Source, line: &[u8]) {
        let (text, partial) = match line.strip_suffix(b"\n") {
            Some(text) => (text, false),
            None => (line, true),
        };
        let mut entry = self.fields.clone();
        field(&mut entry, "PRIORITY", if source == Source::Stderr { b"3" } else { b"6" });
        if partial {
            field(&mut entry, "CONTAINER_PARTIAL_MESSAGE", b"true");
        }
        field(&mut entry, "MESSAGE", text);
        // A full journal loses lines rather than stopping the container.
        let _ = self.socket.send(&entry);
    }
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
