//! `ADD` of addresses: files of a real web server, fetched once and asked about afterwards.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use fluyt_testkit::Host;

use crate::{host, ours_only};

/// What the server has and what it was asked.
#[derive(Default)]
struct Web {
    /// Path to headers and content.
    pages: Vec<(String, String, Vec<u8>)>,
    /// First lines and conditions of requests.
    asked: Vec<String>,
}

/// A web server on the loopback address that knows `If-None-Match` and `If-Modified-Since`, redirects and failures.
struct Server {
    address: String,
    web: Arc<Mutex<Web>>,
}

impl Server {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let web = Arc::new(Mutex::new(Web::default()));
        let shared = Arc::clone(&web);
        // It ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mut stream = stream;
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n == 1) {
                    head.push(byte[0]);
                }
                let answer = answer(&mut shared.lock().expect("the pages"), &String::from_utf8_lossy(&head));
                let _ = stream.write_all(&answer);
            }
        });
        Self { address, web }
    }

    fn page(&self, path: &str, headers: &str, content: &[u8]) {
        let mut web = self.web.lock().expect("the pages");
        web.pages.retain(|(known, _, _)| known != path);
        web.pages.push((path.to_owned(), headers.to_owned(), content.to_owned()));
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.web.lock().expect("the pages").asked)
    }
}

fn answer(web: &mut Web, head: &str) -> Vec<u8> {
    let path = head.split_whitespace().nth(1).unwrap_or_default().to_owned();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|l| l.to_lowercase().starts_with(&format!("{name}:")));
        line.and_then(|l| l.split_once(':')).map(|(_, value)| value.trim().to_owned())
    };
    let (tag, since) = (field(head, "if-none-match"), field(head, "if-modified-since"));
    web.asked.push(format!(
        "{path} {} {}",
        tag.clone().unwrap_or_default(),
        since.clone().unwrap_or_default()
    ));
    let Some((_, headers, content)) = web.pages.iter().find(|(known, _, _)| *known == path) else {
        return b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_vec();
    };
    let same = match (&tag, &since) {
        (Some(tag), _) => field(headers, "etag").as_ref() == Some(tag),
        (None, Some(since)) => field(headers, "last-modified").as_ref() == Some(since),
        (None, None) => false,
    };
    if same {
        return b"HTTP/1.1 304 Not Modified\r\nConnection: close\r\n\r\n".to_vec();
    }
    let status = if headers.contains("Location:") { "302 Found" } else { "200 OK" };
    let mut answer = format!(
        "HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n",
        content.len()
    )
    .into_bytes();
    answer.extend(content);
    answer
}

fn build(host: &Host, text: &str, flags: &[&str]) -> String {
    host.scratch().write("web/Dockerfile", text);
    let dir = host.scratch().join("web").display().to_string();
    let outcome = host.run_words(&[&["build", "--progress", "plain", "-t", "web"], flags, &[&dir]].concat());
    assert_eq!(outcome.code, 0, "{outcome:?}");
    outcome.stderr
}

fn cached(said: &str) -> usize {
    said.matches(" CACHED").count()
}

#[test]
fn a_file_is_fetched_once_and_asked_about() {
    let host = host!();
    ours_only!(host);
    let server = Server::start();
    let text =
        format!("FROM box\nADD http://{}/file /got\nRUN cat /got > /copy\nCMD cat /copy\n", server.address);
    server.page("/file", "ETag: \"1\"\r\n", b"one");
    assert_eq!(cached(&build(&host, &text, &[])), 0);
    assert_eq!(server.asked(), ["/file  "]);
    assert_eq!(cached(&build(&host, &text, &[])), 3);
    assert_eq!(server.asked(), ["/file \"1\" "]);
    // A new tag with the same content is fetched, and nothing after it is done again.
    server.page("/file", "ETag: \"2\"\r\n", b"one");
    assert_eq!(cached(&build(&host, &text, &[])), 2);
    assert_eq!(server.asked(), ["/file \"1\" "]);
    server.page("/file", "ETag: \"3\"\r\n", b"three");
    assert_eq!(cached(&build(&host, &text, &[])), 0);
    assert_eq!(host.ok("run --rm web"), "three");
    server.asked();
    // Without the cache nothing is known; after it was removed neither.
    build(&host, &text, &["--no-cache"]);
    assert_eq!(server.asked(), ["/file  "]);
    host.ok("rmi -f web");
    host.ok("builder prune -af");
    build(&host, &text, &[]);
    assert_eq!(server.asked(), ["/file  "]);
}

#[test]
fn dates_serve_where_there_are_no_tags() {
    let host = host!();
    ours_only!(host);
    let server = Server::start();
    let date = "Wed, 21 Oct 2015 07:28:00 GMT";
    let text = format!(
        "FROM box\nADD http://{}/dir/a%20file?x=y#z /got/\nCMD stat -c '%Y %a %n' /got/*\n",
        server.address
    );
    server.page("/dir/a%20file?x=y", &format!("Last-Modified: {date}\r\n"), b"one");
    build(&host, &text, &[]);
    assert_eq!(host.ok("run --rm web"), "1445412480 600 /got/a file");
    assert_eq!(cached(&build(&host, &text, &[])), 2);
    assert_eq!(server.asked()[1], format!("/dir/a%20file?x=y  {date}"));
    // A server that says neither is asked for all of it each time, and the rest is cached by what came.
    server.page("/dir/a%20file?x=y", "", b"one");
    assert_eq!(cached(&build(&host, &text, &[])), 1);
    assert_eq!(host.ok("run --rm web"), "1445412480 600 /got/a file", "a new time changes nothing");
    host.ok("rmi -f web");
    host.ok("builder prune -af");
    build(&host, &text, &[]);
    assert_eq!(host.ok("run --rm web"), "0 600 /got/a file");
    server.asked();
    assert_eq!(cached(&build(&host, &text, &[])), 1);
    assert_eq!(server.asked(), ["/dir/a%20file?x=y  "]);
}

#[test]
fn redirects_are_followed_and_servers_name_files() {
    let host = host!();
    ours_only!(host);
    let server = Server::start();
    server.page("/", "Location: /real\r\n", b"");
    server.page("/real", "Content-Disposition: attachment; filename=\"../named.txt\"\r\n", b"real");
    let text = format!("FROM box\nADD http://{}/ /got/\nCMD cat /got/named.txt\n", server.address);
    build(&host, &text, &[]);
    assert_eq!(host.ok("run --rm web"), "real");
    let dir = host.scratch().join("web").display().to_string();
    server.page("/loop", "Location: /loop\r\n", b"");
    host.scratch().write("web/Dockerfile", format!("FROM box\nADD http://{}/loop /got\n", server.address));
    host.fails_words(1, "too many redirects", &["build", &dir]);
}

#[test]
fn a_checksum_needs_no_server() {
    let host = host!();
    ours_only!(host);
    let server = Server::start();
    server.page("/file", "ETag: \"1\"\r\n", b"one");
    let sum = fluyt_testkit::images::sha256(b"one");
    let sum = sum.strip_prefix("sha256:").unwrap_or(&sum);
    let text =
        format!("FROM box\nADD --checksum=sha256:{sum} http://{}/file /got\nCMD cat /got\n", server.address);
    build(&host, &text, &[]);
    server.asked();
    assert_eq!(cached(&build(&host, &text, &[])), 2);
    assert!(server.asked().is_empty(), "what its digest names need not be asked for");
    let text = text.replace(&sum[..8], "00000000");
    host.scratch().write("web/Dockerfile", &text);
    let dir = host.scratch().join("web").display().to_string();
    host.fails_words(1, "digest mismatch", &["build", &dir]);
}
