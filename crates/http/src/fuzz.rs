//! Broken heads and bodies of requests: they may be refused, nothing else.

use std::io::Write;
use std::os::unix::net::UnixStream;

use fluyt_testkit::fuzz::{ROUNDS, Target};

use super::Body;
use super::connection::Wire;
use super::request::{Framing, Head};
use super::socket::Socket;
use super::stream::Stream;

#[test]
fn fuzz_bodies() {
    let seeds: &[&[u8]] = &[
        b"5\r\nhello\r\n0\r\n\r\n",
        b"5;name=value\r\nhello\r\nA\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        b"1\r\na\r\n1\r\nb\r\n00\r\n\r\n",
    ];
    let words: &[&[u8]] = &[
        b"\r\n",
        b"\n",
        b"0\r\n\r\n",
        b"ffffffffffffffff",
        b"7fffffffffffffff",
        b"-1",
        b"+1",
        b"0x5",
        b";",
        b" ",
    ];
    Target { name: "http-body", seeds, words, rounds: ROUNDS }.run(|input| {
        let Ok((mut client, server)) = UnixStream::pair() else { return };
        // No more than a socket holds: nobody reads while this is written.
        client.write_all(&input[..input.len().min(32 << 10)]).expect("room for it");
        drop(client);
        let mut wire = Wire::new(Stream::Plain(Socket::new(server.into())));
        let mut body = Body::new(&mut wire, Framing::Chunked, false);
        if let Ok(Some(bytes)) = body.read_all(16 << 10) {
            assert!(bytes.len() < input.len().max(1));
            assert!(body.finish(0), "what ends is complete");
        }
    });
}

#[test]
fn fuzz_heads() {
    let seeds: &[&[u8]] = &[
        b"GET /v2/a/b/manifests/latest?n=1&last=x%2fy HTTP/1.1\r\nHost: h\r\nAccept: a/b, c/d;q=0.5\r\n\r\n",
        b"PATCH /v2/a/blobs/uploads/u?digest=sha256:00 HTTP/1.1\r\nHost: h\r\nContent-Range: 0-99\r\nContent-Length: 100\r\n\r\nbody",
        b"PUT / HTTP/1.0\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\nConnection: close, x\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"GET /v2/ HTTP/1.1\r\nHost: h\r\nAuthorization: Basic YTpi\r\nRange: bytes=0-4,-5\r\n\r\n",
    ];
    let words: &[&[u8]] = &[
        b"\r\n",
        b"\n",
        b"\r",
        b"\r\n\r\n",
        b": ",
        b" ",
        b"%",
        b"%00",
        b"%zz",
        b"?",
        b"&",
        b"=",
        b"HTTP/1.1",
        b"HTTP/9.9",
        b"Content-Length: ",
        b"18446744073709551616",
        b"-1",
        b"Transfer-Encoding: chunked\r\n",
        b"\t folded",
        b"\0",
        b"\xff",
        b"http://h/",
        b"*",
        b"//",
        b"/../",
    ];
    Target { name: "http-head", seeds, words, rounds: ROUNDS }.run(|input| {
        if let Ok(Some((head, used))) = Head::parse(input) {
            assert!(used <= input.len());
            let _ = (head.framing(), head.header("host"), head.lists("connection", "close"));
            let _ = head.parameters("n").count();
        }
    });
}
