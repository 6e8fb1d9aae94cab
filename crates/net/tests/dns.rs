//! The resolver with real sockets: a client inside a namespace, upstream servers on the host.
#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use fluyt_net::dns::{Config, NamesFile, Server};
use fluyt_net::loopback_up;
use fluyt_testkit::netns::{Namespace, isolate};
use fluyt_testkit::wait::patience;

const RESOLVER: &str = "127.0.0.11:53";

fn question(id: u16, name: &str, kind: u16) -> Vec<u8> {
    let mut out = vec![0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    out[..2].copy_from_slice(&id.to_be_bytes());
    for label in name.split('.') {
        out.push(label.len() as u8);
        out.extend_from_slice(label.as_bytes());
    }
    out.push(0);
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&[0, 1]);
    out
}

/// An answer without records and with this outcome.
fn answer(question: &[u8], rcode: u8) -> Vec<u8> {
    let mut out = question.to_vec();
    out[2] |= 0x80;
    out[3] = 0x80 | rcode;
    out
}

fn rcode(reply: &[u8]) -> u8 {
    reply[3] & 15
}

/// An upstream server that answers everything with `rcode`, over UDP and TCP; `None`: never.
fn upstream(outcome: Option<u8>) -> SocketAddr {
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let addr = udp.local_addr().unwrap();
    let tcp = TcpListener::bind(addr).unwrap();
    thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((n, peer)) = udp.recv_from(&mut buffer) {
            if let Some(outcome) = outcome {
                udp.send_to(&answer(&buffer[..n], outcome), peer).unwrap();
            }
        }
    });
    thread::spawn(move || {
        for stream in tcp.incoming() {
            let mut stream = stream.unwrap();
            let (Some(outcome), Some(q)) = (outcome, read_frame(&mut stream)) else { continue };
            write_frame(&mut stream, &answer(&q, outcome));
        }
    });
    addr
}

fn read_frame(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length).ok()?;
    let mut frame = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut frame).ok()?;
    Some(frame)
}

fn write_frame(stream: &mut TcpStream, message: &[u8]) {
    stream.write_all(&(message.len() as u16).to_be_bytes()).unwrap();
    stream.write_all(message).unwrap();
}

/// Serves `config` in `container` while `client` runs inside it.
fn serving(container: &Namespace, config: &Config, client: impl FnOnce() + Send) {
    loopback_up(container.as_fd()).unwrap();
    let mut server = Server::open(container.as_fd(), config).unwrap_or_else(|e| panic!("{}", e.chain()));
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let worker = scope.spawn(|| {
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| container.run(client)));
            done.store(true, Ordering::Relaxed);
            if let Err(panic) = result {
                std::panic::resume_unwind(panic);
            }
        });
        while !done.load(Ordering::Relaxed) {
            let wait = server.timeout().unwrap_or(Duration::MAX).min(Duration::from_millis(20));
            let fd = server.as_fd();
            let mut polled = [rustix::event::PollFd::new(&fd, rustix::event::PollFlags::IN)];
            let wait = rustix::time::Timespec { tv_sec: 0, tv_nsec: wait.subsec_nanos().into() };
            rustix::event::poll(&mut polled, Some(&wait)).unwrap();
            server.run();
        }
        worker.join().unwrap();
    });
}

fn ask(name: &str, kind: u16) -> Vec<u8> {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(patience(5)))).unwrap();
    socket.send_to(&question(77, name, kind), RESOLVER).unwrap();
    let mut buffer = [0; 4096];
    let (n, from) = socket.recv_from(&mut buffer).unwrap();
    assert_eq!((from.to_string().as_str(), &buffer[..2]), (RESOLVER, &[0, 77][..]));
    buffer[..n].to_vec()
}

fn ask_tcp(names: &[&str]) -> Vec<Vec<u8>> {
    let mut stream = TcpStream::connect(RESOLVER).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(patience(5)))).unwrap();
    for name in names {
        write_frame(&mut stream, &question(78, name, 1));
    }
    names.iter().map(|_| read_frame(&mut stream).unwrap()).collect()
}

fn names_file(name: &str) -> std::path::PathBuf {
    let file = NamesFile {
        endpoints: vec![("172.30.0.2".parse().unwrap(), vec!["web.mynet".into(), "web".into()])],
        absent: vec!["gone".into()],
        ..NamesFile::default()
    };
    let path = std::env::temp_dir().join(format!("fluyt-dns-{name}-{}", std::process::id()));
    std::fs::write(&path, file.text()).unwrap();
    path
}

fn host() -> Namespace {
    let host = isolate();
    loopback_up(host.as_fd()).unwrap();
    host
}

#[test]
fn names_of_the_network_stay_and_others_are_forwarded() {
    let _host = host();
    for yield_port in [false, true] {
        // One server that is silent and one that fails do not hurt while another one answers.
        let upstreams = vec![upstream(None), upstream(Some(2)), upstream(Some(3))];
        let path = names_file(&format!("a{yield_port}"));
        let config = Config { names: vec![path.clone()], upstreams, yield_port, ..Config::default() };
        let container = Namespace::new();
        serving(&container, &config, || {
            let local = ask("web", 1);
            assert_eq!((rcode(&local), &local[local.len() - 4..]), (0, &[172, 30, 0, 2][..]));
            assert_eq!((rcode(&ask("WEB", 28)), ask("web", 28)[7]), (0, 0), "no IPv6 address: no data");
            assert_eq!(rcode(&ask("gone", 1)), 3);
            assert_eq!(rcode(&ask("elsewhere.example", 1)), 3, "from the third server");
            let replies = ask_tcp(&["web", "elsewhere.example", "web"]);
            assert_eq!(replies.iter().map(|r| rcode(r)).collect::<Vec<_>>(), [0, 3, 0]);
            if yield_port {
                UdpSocket::bind("0.0.0.0:53").expect("the sandbox may have the port");
                TcpListener::bind("0.0.0.0:53").expect("the sandbox may have the port");
            }
        });
        std::fs::remove_file(path).unwrap();
    }
}

#[test]
fn without_an_answer_there_is_a_failure() {
    let _host = host();
    let container = Namespace::new();
    serving(&container, &Config::default(), || {
        assert_eq!(rcode(&ask("elsewhere.example", 1)), 2, "no upstream at all");
        assert_eq!(rcode(&ask_tcp(&["elsewhere.example"])[0]), 2);
    });
    let container = Namespace::new();
    serving(&container, &Config { upstreams: vec![upstream(None)], ..Config::default() }, || {
        assert_eq!(rcode(&ask("elsewhere.example", 1)), 2, "a silent upstream");
    });
}

#[test]
fn a_flood_is_bounded_and_survived() {
    let _host = host();
    let container = Namespace::new();
    let config = Config { upstreams: vec![upstream(None)], ..Config::default() };
    serving(&container, &config, || {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(patience(8)))).unwrap();
        for n in 0..300_u16 {
            socket.send_to(&question(n, &format!("n{n}.example"), 1), RESOLVER).unwrap();
            socket.send_to(&n.to_be_bytes(), RESOLVER).unwrap();
            thread::sleep(Duration::from_micros(300));
        }
        let mut buffer = [0; 512];
        let answered = (0..300).take_while(|_| socket.recv_from(&mut buffer).is_ok()).count();
        assert_eq!(answered, 300, "each question gets its failure");
    });
}
