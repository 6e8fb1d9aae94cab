//! A response, and how it is written to the wire.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::io::retry_on_intr;

use super::socket::Socket;
use super::stream::Stream;
use super::{Duplex, Sink};

/// Tells an answer as it comes. An error cuts the connection, so that the client does not take what it has for all.
pub type Telling = Box<dyn FnOnce(&mut Sink<'_>) -> io::Result<()> + Send>;

/// Speaks whatever protocol was agreed on over a connection.
pub type Conversation = Box<dyn FnOnce(Duplex) + Send>;

/// What a response carries.
pub enum Payload {
    /// Nothing.
    Empty,
    /// These bytes.
    Bytes(Vec<u8>),
    /// A part of a file.
    File {
        /// The file; reading it does not move its position.
        file: File,
        /// Where the part begins.
        offset: u64,
        /// How long it is.
        length: u64,
    },
    /// So many bytes from a reader, as they come.
    Stream(Box<dyn Read + Send>, u64),
    /// What is written by and by, of unknown length. The head is sent before the first byte is asked for.
    Chunked(Telling),
    /// The head is sent as it is (status 101 with its headers, or 200), then the connection belongs to who is called.
    Hijack(Conversation),
}

impl Payload {
    /// How long it is; 0 where nobody knows.
    #[must_use]
    pub fn length(&self) -> u64 {
        match self {
            Self::Empty | Self::Chunked(_) | Self::Hijack(_) => 0,
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File { length, .. } | Self::Stream(_, length) => *length,
        }
    }

    /// A payload that is told as it comes.
    pub fn chunked(tell: impl FnOnce(&mut Sink<'_>) -> io::Result<()> + Send + 'static) -> Self {
        Self::Chunked(Box::new(tell))
    }

    /// A connection that is handed over.
    pub fn hijack(speak: impl FnOnce(Duplex) + Send + 'static) -> Self {
        Self::Hijack(Box::new(speak))
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Chunked(_) => f.write_str("Chunked"),
            Self::Hijack(_) => f.write_str("Hijack"),
            known => write!(f, "{} bytes", known.length()),
        }
    }
}

/// A response. Its length, its date and what concerns the connection are added when it is written.
#[derive(Debug)]
pub struct Response {
    /// The code.
    pub status: u16,
    /// Names and values.
    pub headers: Vec<(&'static str, String)>,
    /// What follows the head.
    pub payload: Payload,
}

/// How a body's end is told.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// There is none, nor a length of one.
    None,
    /// After so many bytes.
    Length(u64),
    /// In chunks.
    Chunks,
    /// With the connection.
    Close,
}

impl Response {
    /// A response without headers and body.
    #[must_use]
    pub fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), payload: Payload::Empty }
    }

    /// The same with one more header. Line ends in the value are left out: nobody ends a header early.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        let mut value = value.into();
        value.retain(|c| !c.is_control());
        self.headers.push((name, value));
        self
    }

    /// The same with a body.
    #[must_use]
    pub fn payload(mut self, payload: Payload) -> Self {
        self.payload = payload;
        self
    }

    /// The same with a JSON document as its body.
    #[must_use]
    pub fn json(self, value: &serde_json::Value) -> Self {
        let mut bytes = value.to_string().into_bytes();
        bytes.push(b'\n');
        self.header("Content-Type", "application/json").payload(Payload::Bytes(bytes))
    }

    /// The bytes before the body. A head that hands the connection over (`None`) says nothing that was not asked for.
    pub(crate) fn head(&self, ending: Option<Ending>, connection: Option<&str>) -> Vec<u8> {
        let mut head = format!("HTTP/1.1 {} {}\r\n", self.status, reason(self.status));
        for (name, value) in &self.headers {
            head.push_str(name);
            head.push_str(": ");
            head.push_str(value);
            head.push_str("\r\n");
        }
        if ending.is_some() {
            head.push_str("Date: ");
            head.push_str(&date(now()));
            head.push_str("\r\n");
        }
        match ending {
            Some(Ending::Length(length)) => head.push_str(&format!("Content-Length: {length}\r\n")),
            Some(Ending::Chunks) => head.push_str("Transfer-Encoding: chunked\r\n"),
            None | Some(Ending::None | Ending::Close) => {}
        }
        if let Some(word) = connection {
            head.push_str("Connection: ");
            head.push_str(word);
            head.push_str("\r\n");
        }
        head.push_str("\r\n");
        head.into_bytes()
    }

    /// Writes a response of known length. `scratch` is the room for pieces of files; `connection` what is said of it.
    ///
    /// # Errors
    /// The peer is gone, or a file is shorter than it was.
    pub(crate) fn write(
        mut self,
        stream: &mut Stream,
        scratch: &mut Vec<u8>,
        bodyless: bool,
        connection: Option<&str>,
    ) -> io::Result<()> {
        // 204 and 304 have no body and so no length of one (RFC 9110, section 8.6).
        let without = matches!(self.status, 204 | 304);
        let ending = if without { Ending::None } else { Ending::Length(self.payload.length()) };
        let mut head = self.head(Some(ending), connection);
        if bodyless || without {
            self.payload = Payload::Empty;
        }
        match self.payload {
            Payload::Empty | Payload::Chunked(_) | Payload::Hijack(_) => stream.write_all(&head)?,
            Payload::Bytes(bytes) => {
                head.extend_from_slice(&bytes);
                stream.write_all(&head)?;
            }
            Payload::File { file, offset, length } if length >= DIRECT && stream.is_plain() => {
                send_directly(stream.socket(), &head, &file, offset, length)?;
            }
            Payload::File { file, offset, length } => {
                send(stream, scratch, &head, length, |buffer, done| file.read_at(buffer, offset + done))?;
            }
            Payload::Stream(mut reader, length) => {
                // The first bytes may be some while in coming.
                stream.write_all(&head)?;
                stream.flush()?;
                send(stream, scratch, &[], length, |buffer, _| reader.read(buffer))?;
            }
        }
        stream.flush()
    }
}

/// The size of the pieces in which what the kernel cannot send itself is sent: large enough that calls cost nothing, small enough that a piece
/// is still in the processor's cache when it is written.
const PIECE: usize = 128 << 10;

/// From this length on the kernel moves a file's pages to the socket itself. Half the processor time of reading and
/// writing, and no room is needed for it.
const DIRECT: u64 = 32 << 10;

/// Writes `head` and then a part of a file, which the kernel sends without it passing through here.
fn send_directly(socket: &Socket, head: &[u8], file: &File, mut offset: u64, length: u64) -> io::Result<()> {
    let mut head = head;
    while !head.is_empty() {
        // More follows: the head goes out together with the first bytes of the file.
        let n = socket.send_more(head)?;
        head = &head[n..];
    }
    let end = offset + length;
    while offset < end {
        let most = usize::try_from(end - offset).unwrap_or(usize::MAX).min(1 << 30);
        let n = retry_on_intr(|| rustix::fs::sendfile(socket, file, Some(&mut offset), most))?;
        if n == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "less to send than promised"));
        }
    }
    Ok(())
}

/// Writes `head` and then `length` bytes that `fill` gives, the first of them together with the head.
fn send(
    stream: &mut Stream,
    scratch: &mut Vec<u8>,
    head: &[u8],
    length: u64,
    mut fill: impl FnMut(&mut [u8], u64) -> io::Result<usize>,
) -> io::Result<()> {
    scratch.resize(PIECE, 0);
    let mut at = head.len().min(PIECE / 2);
    scratch[..at].copy_from_slice(&head[..at]);
    if at < head.len() {
        stream.write_all(head)?;
        at = 0;
    }
    let mut done = 0;
    while done < length || at > 0 {
        let most = usize::try_from(length - done).unwrap_or(usize::MAX).min(PIECE - at);
        let n = if most == 0 { 0 } else { fill(&mut scratch[at..at + most], done)? };
        if n == 0 && done < length {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "less to send than promised"));
        }
        stream.write_all(&scratch[..at + n])?;
        done += n as u64;
        at = 0;
    }
    Ok(())
}

/// Now, in seconds since the epoch.
fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_secs()).unwrap_or(0))
}

/// Seconds since the epoch as HTTP writes times (RFC 9110, section 5.6.7).
#[must_use]
pub fn date(seconds: i64) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    // YYYY-MM-DDTHH:MM:SS…
    let text = fluyt_model::time::rfc3339(seconds.saturating_mul(1_000_000_000));
    let part = |from: usize, to: usize| text.get(from..to).unwrap_or_default();
    let weekday = usize::try_from(seconds.div_euclid(86_400).rem_euclid(7)).unwrap_or_default();
    let month = part(5, 7).parse::<usize>().unwrap_or(1).clamp(1, 12) - 1;
    format!("{}, {} {} {} {} GMT", DAYS[weekday], part(8, 10), MONTHS[month], part(0, 4), part(11, 19))
}

fn reason(status: u16) -> &'static str {
    match status {
        101 => "UPGRADED",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        206 => "Partial Content",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        416 => "Range Not Satisfiable",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        507 => "Insufficient Storage",
        _ => "Status",
    }
}

#[cfg(test)]
mod tests {
    use super::date;

    #[test]
    fn dates_are_written_as_http_has_them() {
        assert_eq!(date(0), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(date(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(date(951_782_400), "Tue, 29 Feb 2000 00:00:00 GMT");
    }
}
