//! A server as its clients see it: answers of every kind, connections that wait, its end.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fluyt_http::{Access, Handler, Limits, Listener, Payload, Place, Request, Response, Server};
use fluyt_model::Kind;

/// What the tests ask for.
#[derive(Default)]
struct Desk {
    /// Followers that have seen their client go.
    gone: Arc<AtomicUsize>,
}

impl Handler for Desk {
    fn handle(&self, request: &mut Request<'_>) -> Response {
        let gone = Arc::clone(&self.gone);
        match request.head.path.as_str() {
            "/echo" => match request.body.read_all(1 << 20) {
                Ok(Some(bytes)) => Response::new(200).payload(Payload::Bytes(bytes)),
                Ok(None) => Response::new(413),
                Err(_) => Response::new(400),
            },
            "/who" => Response::new(200).payload(Payload::Bytes(request.peer.to_string().into_bytes())),
            "/told" => Response::new(200).payload(Payload::chunked(|sink| {
                sink.write_all(b"one")?;
                sink.write_all(b"two")?;
                sink.flush()?;
                sink.write_all(&vec![b'x'; 100_000])
            })),
            "/cut" => Response::new(200).payload(Payload::chunked(|sink| {
                sink.write_all(b"half")?;
                sink.flush()?;
                Err(io::Error::other("no more"))
            })),
            "/follow" => Response::new(200).payload(Payload::chunked(move |sink| {
                let mut fds = [rustix::event::PollFd::new(&*sink, rustix::event::PollFlags::RDHUP)];
                let _ = rustix::event::poll(&mut fds, None);
                assert!(sink.gone());
                gone.fetch_add(1, Ordering::Relaxed);
                Ok(())
            })),
            "/upgrade" => {
                let response = Response::new(101).header("Connection", "Upgrade").header("Upgrade", "tcp");
                response.payload(Payload::hijack(|mut duplex| {
                    let mut bytes = Vec::new();
                    let _ = duplex.read_to_end(&mut bytes);
                    bytes.reverse();
                    let _ = duplex.write_all(&bytes);
                    duplex.close_write();
                }))
            }
            _ => Response::new(404),
        }
    }
}

/// A server that is served from a thread until it is dropped.
struct Served {
    place: Place,
    stop: Option<OwnedFd>,
    thread: Option<JoinHandle<()>>,
    desk: Arc<Desk>,
}

impl Served {
    fn on(listener: Listener, limits: Limits) -> Self {
        let place = listener.place().clone();
        let (reader, writer) = rustix::pipe::pipe().expect("done");
        let server = Server::new("test-http", vec![listener], limits);
        let desk = Arc::<Desk>::default();
        let handler = Arc::clone(&desk);
        let thread = std::thread::spawn(move || server.run(handler, reader.as_fd()).expect("done"));
        Self { place, stop: Some(writer), thread: Some(thread), desk }
    }

    fn tcp(limits: Limits) -> Self {
        Self::on(Listener::tcp("127.0.0.1:0").expect("done"), limits)
    }

    fn address(&self) -> SocketAddr {
        match &self.place {
            Place::Tcp(address) => *address,
            Place::Unix(path) => panic!("{}", path.display()),
        }
    }

    fn connect(&self) -> TcpStream {
        let socket = TcpStream::connect(self.address()).expect("done");
        socket.set_read_timeout(Some(Duration::from_secs(20))).expect("done");
        socket
    }

    fn end(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().expect("done");
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.end();
    }
}

fn ask(socket: &mut (impl Read + Write), request: &str) -> (u16, Vec<u8>) {
    socket.write_all(request.as_bytes()).expect("done");
    answer(&mut BufReader::new(socket))
}

/// Reads an answer with a length.
fn answer(reader: &mut impl BufRead) -> (u16, Vec<u8>) {
    let (status, headers) = head(reader);
    let length = headers.iter().find_map(|line| line.strip_prefix("content-length: ")).unwrap_or("0");
    let mut body = vec![0; length.parse().expect("done")];
    reader.read_exact(&mut body).expect("done");
    (status, body)
}

fn head(reader: &mut impl BufRead) -> (u16, Vec<String>) {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        assert!(reader.read_line(&mut line).expect("done") > 0, "closed after {lines:?}");
        if line == "\r\n" {
            break;
        }
        lines.push(line.trim_end().to_ascii_lowercase());
    }
    let status = lines[0].split(' ').nth(1).expect("done").parse().expect("done");
    (status, lines)
}

fn rest(socket: &mut impl Read) -> String {
    let mut text = Vec::new();
    let _ = socket.read_to_end(&mut text);
    String::from_utf8_lossy(&text).into_owned()
}

fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(30);
    while !done() {
        assert!(Instant::now() < until, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Threads of this process that belong to the server.
fn threads() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").expect("done");
    let named = |path: &Path| std::fs::read_to_string(path.join("comm")).is_ok_and(|n| n == "test-http\n");
    tasks.filter(|task| task.as_ref().is_ok_and(|task| named(&task.path()))).count()
}

#[test]
fn a_connection_is_used_again_and_pipelined_requests_are_answered_in_order() {
    let served = Served::tcp(Limits::default());
    let mut socket = served.connect();
    let text = "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc";
    assert_eq!(ask(&mut socket, text), (200, b"abc".to_vec()));
    // Long enough for its thread to have left it.
    std::thread::sleep(Duration::from_millis(100));
    socket.write_all(format!("{text}GET /none HTTP/1.1\r\n\r\n").as_bytes()).expect("done");
    let mut reader = BufReader::new(socket);
    assert_eq!(answer(&mut reader), (200, b"abc".to_vec()));
    assert_eq!(answer(&mut reader), (404, Vec::new()));
}

#[test]
fn a_head_may_come_in_drops_and_is_waited_for_without_a_thread() {
    let served = Served::tcp(Limits { head: Duration::from_secs(2), ..Limits::default() });
    let mut slow = served.connect();
    for byte in b"GET /who HT" {
        slow.write_all(&[*byte]).expect("done");
        std::thread::sleep(Duration::from_millis(40));
    }
    assert_eq!(ask(&mut slow, "TP/1.1\r\n\r\n").0, 200);
    let mut never = served.connect();
    never.write_all(b"GET /").expect("done");
    let began = Instant::now();
    assert_eq!(rest(&mut never), "");
    assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
}

#[test]
fn what_is_told_comes_in_chunks_and_to_old_clients_until_the_end() {
    let served = Served::tcp(Limits::default());
    let mut socket = served.connect();
    socket.write_all(b"GET /told HTTP/1.1\r\nConnection: close\r\n\r\n").expect("done");
    let text = rest(&mut socket);
    let (head, body) = text.split_once("\r\n\r\n").expect("done");
    assert!(head.contains("Transfer-Encoding: chunked"), "{head}");
    assert!(body.starts_with("6\r\nonetwo\r\n"), "{}", &body[..20]);
    assert!(body.ends_with("x\r\n0\r\n\r\n"));
    let mut socket = served.connect();
    socket.write_all(b"GET /told HTTP/1.0\r\n\r\n").expect("done");
    let text = rest(&mut socket);
    let (head, body) = text.split_once("\r\n\r\n").expect("done");
    assert!(!head.contains("chunked") && !head.contains("Content-Length"), "{head}");
    assert_eq!(body.len(), 100_006);
    let mut socket = served.connect();
    socket.write_all(b"GET /cut HTTP/1.1\r\n\r\n").expect("done");
    let text = rest(&mut socket);
    assert!(text.ends_with("4\r\nhalf\r\n"), "the end is not pretended: {text}");
}

#[test]
fn a_follower_sees_its_client_go_and_the_end_of_the_server() {
    let mut served = Served::tcp(Limits::default());
    let mut first = served.connect();
    first.write_all(b"GET /follow HTTP/1.1\r\n\r\n").expect("done");
    let (status, _) = head(&mut BufReader::new(&mut first));
    assert_eq!(status, 200, "the head comes before anything else");
    drop(first);
    let gone = Arc::clone(&served.desk.gone);
    wait_for("the follower notices", || gone.load(Ordering::Relaxed) == 1);
    let mut second = served.connect();
    second.write_all(b"GET /follow HTTP/1.1\r\n\r\n").expect("done");
    head(&mut BufReader::new(&mut second));
    let mut spoken = served.connect();
    spoken.write_all(b"GET /upgrade HTTP/1.1\r\nConnection: Upgrade\r\n\r\n").expect("done");
    let (status, _) = head(&mut BufReader::new(&mut spoken));
    assert_eq!(status, 101);
    let mut idle = served.connect();
    let began = Instant::now();
    served.end();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(gone.load(Ordering::Relaxed), 2);
    assert_eq!(rest(&mut second), "0\r\n\r\n");
    assert_eq!(rest(&mut spoken), "");
    assert_eq!(rest(&mut idle), "");
}

/// Begins an answer that goes on; its status.
fn follow(served: &Served, request: &str) -> (TcpStream, u16) {
    let mut socket = served.connect();
    socket.write_all(request.as_bytes()).expect("done");
    let (status, _) = head(&mut BufReader::new(&mut socket));
    (socket, status)
}

#[test]
fn followers_keep_no_thread_from_others_and_too_many_are_refused() {
    let served = Served::tcp(Limits { threads: 2, followers: 12, ..Limits::default() });
    let mut told: Vec<_> = (0..6).map(|_| follow(&served, "GET /follow HTTP/1.1\r\n\r\n")).collect();
    let upgrade = "GET /upgrade HTTP/1.1\r\nConnection: Upgrade\r\n\r\n";
    let spoken: Vec<_> = (0..6).map(|_| follow(&served, upgrade)).collect();
    assert!(told.iter().all(|(_, status)| *status == 200));
    assert!(spoken.iter().all(|(_, status)| *status == 101));
    for request in ["GET /follow HTTP/1.1\r\n\r\n", upgrade] {
        let (mut refused, status) = follow(&served, request);
        assert_eq!(status, 503);
        assert_eq!(ask(&mut refused, "GET /who HTTP/1.1\r\n\r\n").0, 200, "others are answered");
    }
    assert_eq!(ask(&mut served.connect(), "HEAD /told HTTP/1.1\r\n\r\n").0, 200, "nothing goes on");
    told.truncate(5);
    wait_for("a place is free again", || follow(&served, "GET /follow HTTP/1.1\r\n\r\n").1 == 200);
    drop((told, spoken));
    wait_for("threads that nobody needs end", || threads() <= 2);
}

#[test]
fn connections_that_are_closed_while_their_peers_still_send_take_no_threads() {
    let served = Served::tcp(Limits { threads: 2, ..Limits::default() });
    let (mut leaving, began) = (Vec::new(), Instant::now());
    for _ in 0..20 {
        let mut socket = served.connect();
        socket.write_all(b"\0\0\r\n\r\n").expect("done");
        assert_eq!(head(&mut BufReader::new(&mut socket)).0, 400);
        leaving.push(socket);
    }
    for socket in &mut leaving {
        socket.write_all(b"more").expect("nothing has reset it");
    }
    assert_eq!(ask(&mut served.connect(), "GET /who HTTP/1.1\r\n\r\n").0, 200);
    // Two threads that waited a second for each of them would take ten.
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let mut one = leaving.remove(0);
    wait_for("one that goes on sending is closed", || one.write_all(b"x").is_err());
}

#[test]
fn a_connection_is_handed_over_with_what_was_read_ahead() {
    let served = Served::tcp(Limits::default());
    let mut socket = served.connect();
    let text =
        "POST /upgrade HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 2\r\n\r\n{}early ";
    socket.write_all(text.as_bytes()).expect("done");
    let mut reader = BufReader::new(socket.try_clone().expect("done"));
    let (status, headers) = head(&mut reader);
    assert_eq!(status, 101);
    assert!(!headers.iter().any(|line| line.starts_with("content-length")), "{headers:?}");
    socket.write_all(b"late").expect("done");
    socket.shutdown(std::net::Shutdown::Write).expect("done");
    assert_eq!(rest(&mut reader), "etal ylrae");
}

#[test]
fn broken_requests_are_refused() {
    let served = Served::tcp(Limits::default());
    let long = format!("GET / HTTP/1.1\r\nA: {}\r\n", "x".repeat(70 << 10));
    for (text, status) in [
        ("\0\0\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", "400"),
        ("POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "400"),
        ("POST /echo HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", "501"),
        ("POST /echo HTTP/1.1\r\nContent-Length: 9999999\r\n\r\n", "413"),
        (long.as_str(), "431"),
    ] {
        let mut socket = served.connect();
        socket.write_all(text.as_bytes()).expect("done");
        let answer = rest(&mut socket);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer} to {text:.60}");
    }
}

#[test]
fn idle_connections_take_no_threads_and_make_room_for_others() {
    let served = Served::tcp(Limits { connections: 300, ..Limits::default() });
    let mut idle: Vec<TcpStream> = (0..300).map(|_| served.connect()).collect();
    for socket in idle.iter_mut().take(50) {
        assert_eq!(ask(socket, "GET /who HTTP/1.1\r\n\r\n").0, 200);
    }
    let mut more = served.connect();
    assert_eq!(ask(&mut more, "GET /who HTTP/1.1\r\n\r\n").0, 200, "the longest idle one made room");
    wait_for("threads that nobody needs end", || threads() <= 2);
    // It is one of those that had never said anything.
    let mut closed = 0;
    for socket in &mut idle[50..] {
        socket.set_nonblocking(true).expect("done");
        closed += usize::from(matches!(socket.read(&mut [0]), Ok(0)));
    }
    assert_eq!(closed, 1);
}

#[test]
fn a_socket_file_has_its_mode_is_replaced_when_stale_and_goes_with_the_server() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().expect("done");
    let path = dir.path().join("x.sock");
    let access = Access { mode: 0o660, uid: None, gid: None };
    drop(std::os::unix::net::UnixListener::bind(&path).expect("done"));
    let mut served = Served::on(Listener::unix(&path, access).expect("done"), Limits::default());
    assert_eq!(path.metadata().expect("done").permissions().mode() & 0o777, 0o660);
    let mut socket = UnixStream::connect(&path).expect("done");
    let (status, body) = ask(&mut socket, "GET /who HTTP/1.1\r\n\r\n");
    let me = rustix::process::geteuid().as_raw();
    assert_eq!((status, String::from_utf8(body).expect("done")), (200, format!("user {me}")));
    assert_eq!(
        Listener::unix(&path, access).expect_err("refused").kind(),
        Kind::Conflict,
        "somebody answers"
    );
    served.end();
    assert!(!path.exists());
    std::fs::write(&path, "precious").expect("done");
    assert_eq!(Listener::unix(&path, access).expect_err("refused").kind(), Kind::Conflict, "not a socket");
    assert_eq!(std::fs::read_to_string(&path).expect("done"), "precious");
}

#[test]
fn an_inherited_socket_serves() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("done");
    let served = Served::on(Listener::inherited(listener.into()).expect("done"), Limits::default());
    assert_eq!(ask(&mut served.connect(), "GET /who HTTP/1.1\r\n\r\n").0, 200);
    let file = tempfile::tempfile().expect("done");
    assert_eq!(Listener::inherited(file.into()).expect_err("refused").kind(), Kind::Invalid);
}
