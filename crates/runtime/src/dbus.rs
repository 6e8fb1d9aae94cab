//! As much D-Bus as two method calls to systemd need: the handshake, marshalling of a call, the reply.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use fluyt_model::error::{Error, IoContext, Kind, Result};

const METHOD_CALL: u8 = 1;
const METHOD_RETURN: u8 = 2;
const ERROR: u8 = 3;
const LARGEST: usize = 1 << 20;

/// Arguments of a call, marshalled little-endian with D-Bus' alignments.
#[derive(Debug, Default)]
pub(crate) struct Body {
    bytes: Vec<u8>,
}

impl Body {
    fn align(&mut self, to: usize) {
        self.bytes.resize(self.bytes.len().next_multiple_of(to), 0);
    }

    pub(crate) fn u32(&mut self, v: u32) {
        self.align(4);
        self.bytes.extend(v.to_le_bytes());
    }

    fn u64(&mut self, v: u64) {
        self.align(8);
        self.bytes.extend(v.to_le_bytes());
    }

    pub(crate) fn string(&mut self, s: &str) {
        self.u32(u32::try_from(s.len()).unwrap_or(0));
        self.bytes.extend(s.as_bytes());
        self.bytes.push(0);
    }

    fn signature(&mut self, s: &str) {
        self.bytes.push(u8::try_from(s.len()).unwrap_or(0));
        self.bytes.extend(s.as_bytes());
        self.bytes.push(0);
    }

    /// An array whose elements are aligned to `to`.
    pub(crate) fn array(&mut self, to: usize, fill: impl FnOnce(&mut Self)) {
        self.u32(0);
        let length_at = self.bytes.len() - 4;
        self.align(to);
        let start = self.bytes.len();
        fill(self);
        let length = u32::try_from(self.bytes.len() - start).unwrap_or(0);
        self.bytes[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
    }

    /// One `(sv)` of systemd's property lists.
    pub(crate) fn property(&mut self, name: &str, value: &Value) {
        self.align(8);
        self.string(name);
        match value {
            Value::String(s) => {
                self.signature("s");
                self.string(s);
            }
            Value::Bool(b) => {
                self.signature("b");
                self.u32(u32::from(*b));
            }
            Value::U64(v) => {
                self.signature("t");
                self.u64(*v);
            }
            Value::Pids(list) => {
                self.signature("au");
                self.array(4, |b| list.iter().for_each(|p| b.u32(*p)));
            }
        }
    }
}

/// A property's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    String(String),
    Bool(bool),
    U64(u64),
    Pids(Vec<u32>),
}

/// A connection that may call methods.
pub(crate) struct Connection {
    stream: UnixStream,
    serial: u32,
    /// On the bus, messages need an address; systemd's private socket has no bus.
    bus: bool,
}

impl Connection {
    /// Connects to systemd: its private socket (root only), else the system bus.
    pub(crate) fn to_systemd() -> Result<Self> {
        const SOCKETS: [(&str, bool); 2] =
            [("/run/systemd/private", false), ("/run/dbus/system_bus_socket", true)];
        for (path, bus) in SOCKETS {
            let Ok(stream) = UnixStream::connect(path) else { continue };
            let mut connection = Self { stream, serial: 0, bus };
            connection.handshake().map_err(|e| e.context(path))?;
            return Ok(connection);
        }
        Err(Error::unsupported(
            "systemd cannot be reached: neither /run/systemd/private nor the system bus answers",
        )
        .with_hint("use the cgroupfs driver on hosts without systemd"))
    }

    fn handshake(&mut self) -> Result<()> {
        let limit = Some(Duration::from_secs(10));
        self.stream
            .set_read_timeout(limit)
            .and_then(|()| self.stream.set_write_timeout(limit))
            .about(|| "D-Bus")?;
        let uid = rustix::process::geteuid().as_raw().to_string();
        let hex: String = uid.bytes().map(|b| format!("{b:02x}")).collect();
        self.stream.write_all(format!("\0AUTH EXTERNAL {hex}\r\n").as_bytes()).about(|| "D-Bus")?;
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") && line.len() < 512 {
            let mut byte = [0u8; 1];
            self.stream.read_exact(&mut byte).about(|| "D-Bus")?;
            line.push(byte[0]);
        }
        if !line.starts_with(b"OK ") {
            return Err(Error::new(Kind::PermissionDenied, "D-Bus refuses this user"));
        }
        self.stream.write_all(b"BEGIN\r\n").about(|| "D-Bus")?;
        if self.bus {
            let target = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus");
            self.call_to(target, "Hello", "", &Body::default())?;
        }
        Ok(())
    }

    /// Calls a method of systemd's manager and waits for its answer.
    pub(crate) fn call(&mut self, method: &str, signature: &str, body: &Body) -> Result<()> {
        let target =
            ("org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager");
        self.call_to(target, method, signature, body)
    }

    fn call_to(
        &mut self,
        target: (&str, &str, &str),
        method: &str,
        signature: &str,
        body: &Body,
    ) -> Result<()> {
        self.serial += 1;
        let message = message(self.serial, self.bus, target, method, signature, body);
        self.stream.write_all(&message).about(|| "D-Bus")?;
        // Signals and other answers may come first.
        for _ in 0..1000 {
            let (kind, reply_to, text) = self.receive()?;
            match kind {
                METHOD_RETURN if reply_to == self.serial => return Ok(()),
                ERROR if reply_to == self.serial => {
                    return Err(Error::internal(format!("systemd: {method}: {text}")));
                }
                _ => {}
            }
        }
        Err(Error::new(Kind::Timeout, format!("systemd: {method}: no answer")))
    }

    /// Type, serial answered, and the text of an error.
    fn receive(&mut self) -> Result<(u8, u32, String)> {
        let mut head = [0u8; 16];
        self.stream.read_exact(&mut head).about(|| "D-Bus answer")?;
        let word = |at: usize| {
            let bytes = [head[at], head[at + 1], head[at + 2], head[at + 3]];
            let v = if head[0] == b'B' { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) };
            usize::try_from(v).unwrap_or(usize::MAX)
        };
        let (body, fields) = (word(4), word(12));
        if head[0] != b'l' || body > LARGEST || fields > LARGEST {
            return Err(Error::corrupt("D-Bus answer"));
        }
        let mut rest = vec![0u8; fields.next_multiple_of(8) + body];
        self.stream.read_exact(&mut rest).about(|| "D-Bus answer")?;
        let reply_to = reply_serial(&rest[..fields]).unwrap_or(0);
        let text = rest.get(fields.next_multiple_of(8) + 4..).unwrap_or_default();
        let text = String::from_utf8_lossy(text.split(|b| *b == 0).next().unwrap_or_default()).into_owned();
        Ok((head[1], reply_to, text))
    }
}

/// Field 5 (`REPLY_SERIAL`, type `u`) of a header's fields.
fn reply_serial(fields: &[u8]) -> Option<u32> {
    let mut at = 0usize;
    while at < fields.len() {
        at = at.next_multiple_of(8);
        let code = *fields.get(at)?;
        let kind = *fields.get(at + 2)?;
        at += 4;
        match kind {
            b'u' => {
                let value = u32::from_le_bytes(fields.get(at..at + 4)?.try_into().ok()?);
                if code == 5 {
                    return Some(value);
                }
                at += 4;
            }
            b'g' => at += usize::from(*fields.get(at)?) + 2,
            // Strings and object paths.
            _ => {
                let length = u32::from_le_bytes(fields.get(at..at + 4)?.try_into().ok()?);
                at += 4 + usize::try_from(length).ok()? + 1;
            }
        }
    }
    None
}

fn message(
    serial: u32,
    bus: bool,
    (destination, path, interface): (&str, &str, &str),
    method: &str,
    signature: &str,
    body: &Body,
) -> Vec<u8> {
    let mut m = Body { bytes: vec![b'l', METHOD_CALL, 0, 1] };
    m.u32(u32::try_from(body.bytes.len()).unwrap_or(0));
    m.u32(serial);
    m.array(8, |m| {
        let mut field = |code: u8, kind: &str, text: &str| {
            m.align(8);
            m.bytes.push(code);
            m.signature(kind);
            if kind == "g" { m.signature(text) } else { m.string(text) }
        };
        field(1, "o", path);
        field(2, "s", interface);
        field(3, "s", method);
        if bus {
            field(6, "s", destination);
        }
        if !signature.is_empty() {
            field(8, "g", signature);
        }
    });
    m.align(8);
    m.bytes.extend(&body.bytes);
    m.bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_laid_out_as_the_protocol_says() {
        let target = ("d.e", "/p", "i.f");
        let mut body = Body::default();
        body.string("ab");
        let m = message(7, false, target, "Go", "s", &body);
        // Header: little-endian call, version 1, 7 bytes of body, serial 7.
        assert_eq!(m[..12], [b'l', 1, 0, 1, 7, 0, 0, 0, 7, 0, 0, 0]);
        let fields = usize::from(m[12]);
        assert_eq!(&m[16..16 + 11], b"\x01\x01o\0\x02\0\0\0/p\0");
        assert_eq!((16 + fields).next_multiple_of(8) + 7, m.len());
        assert!(m.ends_with(b"\x02\0\0\0ab\0"));
    }

    #[test]
    fn arrays_of_properties_are_aligned() {
        let mut body = Body::default();
        body.array(8, |b| {
            b.property("P", &Value::Pids(vec![9]));
            b.property("D", &Value::Bool(true));
        });
        // Length, padding to 8, then each struct on a multiple of 8.
        assert_eq!(body.bytes[4..8], [0; 4]);
        assert_eq!(&body.bytes[8..14], b"\x01\0\0\0P\0");
        let length = u32::from_le_bytes(body.bytes[..4].try_into().expect("four"));
        assert_eq!(usize::try_from(length).expect("small") + 8, body.bytes.len());
    }

    #[test]
    fn the_serial_of_a_reply_is_found_behind_strings() {
        let mut m = Body::default();
        for (code, kind, text) in [(6u8, "s", ":1.5"), (8, "g", "o")] {
            m.align(8);
            m.bytes.push(code);
            m.signature(kind);
            if kind == "g" { m.signature(text) } else { m.string(text) }
        }
        m.align(8);
        m.bytes.push(5);
        m.signature("u");
        m.u32(42);
        assert_eq!(reply_serial(&m.bytes), Some(42));
    }
}
