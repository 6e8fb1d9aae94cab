//! Attaching by a web socket (RFC 6455): the handshake, and frames in both directions.
//!
//! Output goes out as binary messages, one for each piece; what comes in is input, however it is cut into messages.
//! Extensions are not negotiated, and nothing is kept of a frame but what has not come yet.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fluyt_http::{Duplex, Payload, Response};
use fluyt_model::{Error, Result};
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

use super::call::Call;
use super::session::Client;
use crate::api::Stream;

/// What is put after the client's key (section 1.3).
const SALT: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// The longest message of control that is taken (section 5.5).
const MAX_CONTROL: u64 = 125;

/// The response that turns the connection into a web socket.
///
/// # Errors
/// `Invalid` for a request that does not ask for one.
pub fn response(call: &Call<'_, '_>, speak: impl FnOnce(Duplex) + Send + 'static) -> Result<Response> {
    let head = &call.request.head;
    let version = head.header("sec-websocket-version");
    let Some(key) = head.header("sec-websocket-key").filter(|_| head.lists("upgrade", "websocket")) else {
        return Err(Error::invalid("this is for web sockets: the request does not ask for one"));
    };
    if version != Some("13") {
        return Err(Error::invalid("unsupported version of the web socket protocol: 13 is known"));
    }
    let response = Response::new(101)
        .header("Upgrade", "websocket")
        .header("Connection", "Upgrade")
        .header("Sec-WebSocket-Accept", accept(key));
    Ok(response.payload(Payload::hijack(speak)))
}

/// The proof that the handshake was understood.
fn accept(key: &str) -> String {
    STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, format!("{key}{SALT}").as_bytes()))
}

/// A client by a web socket.
pub struct WebSocket {
    duplex: Duplex,
    reader: Reader,
    closed: bool,
}

impl WebSocket {
    /// Over a connection whose handshake was answered.
    pub fn new(duplex: Duplex) -> Self {
        Self { duplex, reader: Reader::default(), closed: false }
    }

    fn write(&mut self, opcode: u8, payload: &[u8]) -> io::Result<()> {
        self.duplex.write_all(&frame(opcode, payload))?;
        self.duplex.flush()
    }
}

impl Client for WebSocket {
    fn send(&mut self, _: Stream, bytes: &[u8]) -> io::Result<()> {
        self.write(BINARY, bytes)
    }

    fn receive(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut buffer = [0; 16 * 1024];
        let n = self.duplex.read(&mut buffer)?;
        if n == 0 {
            return Ok(None);
        }
        self.reader.take(&buffer[..n]);
        let mut input = Vec::new();
        while let Some(event) = self.reader.next()? {
            match event {
                Event::Data(bytes) => input.extend(bytes),
                Event::Ping(bytes) => self.write(PONG, &bytes)?,
                Event::Close => {
                    self.closed = true;
                    let _ = self.write(CLOSE, &NORMAL);
                    return Err(io::ErrorKind::ConnectionAborted.into());
                }
            }
        }
        Ok(Some(input))
    }

    fn holds(&mut self) -> bool {
        self.duplex.holds()
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.duplex.as_fd()
    }

    fn finish(&mut self) {
        if !self.closed {
            let _ = self.write(CLOSE, &NORMAL);
        }
        self.duplex.close_write();
    }
}

const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
/// 1000: all is done.
const NORMAL: [u8; 2] = [3, 232];

/// A whole message in one frame; servers do not mask (section 5.1).
fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80 | opcode];
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(n), _) if n < 126 => frame.push(n),
        (_, Ok(n)) => {
            frame.push(126);
            frame.extend(n.to_be_bytes());
        }
        _ => {
            frame.push(127);
            frame.extend((payload.len() as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(payload);
    frame
}

/// What a client says.
#[derive(Debug, PartialEq, Eq)]
enum Event {
    /// Part of a message.
    Data(Vec<u8>),
    /// It wants to hear this again.
    Ping(Vec<u8>),
    /// It is done.
    Close,
}

/// Takes frames apart. Sans I/O.
#[derive(Debug, Default)]
struct Reader {
    incoming: VecDeque<u8>,
    /// The frame whose payload is coming: opcode, bytes that are left, mask, how far into the mask.
    current: Option<(u8, u64, [u8; 4], usize)>,
}

impl Reader {
    fn take(&mut self, bytes: &[u8]) {
        self.incoming.extend(bytes);
    }

    /// The next thing that was said; none until more comes.
    fn next(&mut self) -> io::Result<Option<Event>> {
        loop {
            if self.current.is_none() && !self.begin()? {
                return Ok(None);
            }
            let Some((opcode, left, mask, at)) = self.current else { return Ok(None) };
            let whole = opcode >= CLOSE;
            let here = (self.incoming.len() as u64).min(left);
            if here < left && (whole || here == 0) {
                return Ok(None);
            }
            let take = usize::try_from(here).unwrap_or(usize::MAX);
            let bytes: Vec<u8> =
                self.incoming.drain(..take).enumerate().map(|(i, b)| b ^ mask[(at + i) % 4]).collect();
            self.current = (here < left).then_some((opcode, left - here, mask, (at + take) % 4));
            match opcode {
                0..=2 if bytes.is_empty() => {}
                0..=2 => return Ok(Some(Event::Data(bytes))),
                CLOSE => return Ok(Some(Event::Close)),
                PING => return Ok(Some(Event::Ping(bytes))),
                _ => {}
            }
        }
    }

    /// Reads the head of a frame; `false` if it has not come whole.
    fn begin(&mut self) -> io::Result<bool> {
        let wrong = |why: &str| Err(io::Error::new(io::ErrorKind::InvalidData, why.to_owned()));
        let at = |i: usize| self.incoming.get(i).copied();
        let (Some(first), Some(second)) = (at(0), at(1)) else { return Ok(false) };
        let opcode = first & 0x0f;
        if first & 0x70 != 0 || !matches!(opcode, 0..=2 | CLOSE..=PONG) {
            return wrong("a frame of an extension that was not agreed on");
        }
        if second & 0x80 == 0 {
            return wrong("a client's frame without a mask");
        }
        let wide = match second & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        if self.incoming.len() < 2 + wide + 4 {
            return Ok(false);
        }
        let length = match wide {
            0 => u64::from(second & 0x7f),
            _ => (2..2 + wide).filter_map(at).fold(0, |n, b| n << 8 | u64::from(b)),
        };
        if opcode >= CLOSE && (length > MAX_CONTROL || first & 0x80 == 0) {
            return wrong("a message of control that is too long or in pieces");
        }
        let mask = [0, 1, 2, 3].map(|i| at(2 + wide + i).unwrap_or(0));
        self.incoming.drain(..2 + wide + 4);
        self.current = Some((opcode, length, mask, 0));
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(opcode: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = frame(opcode, payload);
        let head = bytes.len() - payload.len();
        bytes[1] |= 0x80;
        let mask = [1, 2, 3, 4];
        for (i, byte) in bytes[head..].iter_mut().enumerate() {
            *byte ^= mask[i % 4];
        }
        bytes.splice(head..head, mask);
        bytes
    }

    #[test]
    fn the_example_of_the_specification_is_accepted() {
        assert_eq!(accept("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn messages_come_in_any_pieces() {
        let mut bytes = masked(1, b"hello");
        bytes.extend(masked(PING, b"p"));
        bytes.extend(masked(BINARY, &[7; 70_000]));
        bytes.extend(masked(CLOSE, &NORMAL));
        for size in [1, 3, 1000, bytes.len()] {
            let mut reader = Reader::default();
            let (mut data, mut others) = (Vec::new(), Vec::new());
            for piece in bytes.chunks(size) {
                reader.take(piece);
                while let Some(event) = reader.next().unwrap() {
                    match event {
                        Event::Data(bytes) => data.extend(bytes),
                        other => others.push(other),
                    }
                }
            }
            assert_eq!((data.len(), &data[..6]), (70_005, &b"hello\x07"[..]), "{size}");
            assert_eq!(others, [Event::Ping(b"p".to_vec()), Event::Close]);
        }
    }

    #[test]
    fn frames_that_no_client_sends_end_it() {
        for bad in [
            &frame(BINARY, b"x")[..],
            &[0xc2, 0x80, 0, 0, 0, 0],
            &[0x83, 0x80, 0, 0, 0, 0],
            &[0x09, 0x80, 0, 0, 0, 0],
        ] {
            let mut reader = Reader::default();
            reader.take(bad);
            assert!(reader.next().is_err(), "{bad:?}");
        }
    }
}
