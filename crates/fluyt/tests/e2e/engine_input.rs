//! An engine among clients that are broken, slow, many or unwelcome.

use std::io::{BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use fluyt_testkit::host::finish;
use fluyt_testkit::{Host, skip, wait};

use crate::engines::{Engine, answer, send};
use crate::ours_only;

/// A host, as none of these tests runs a container; or the end of the test.
macro_rules! bare {
    () => {
        match Host::new(crate::PROGRAM) {
            Some(host) => host,
            None => return,
        }
    };
}

/// Asserts that it still answers, soon; how soon.
#[track_caller]
fn answers(engine: &Engine) -> Duration {
    let began = Instant::now();
    assert_eq!(engine.ask("GET", "/_ping", "").text(), "OK");
    began.elapsed()
}

#[test]
fn malformed_requests_are_refused_and_nobody_else_notices() {
    let host = bare!();
    ours_only!(host);
    let engine = Engine::start(&host, &[]);
    let many = format!("GET /_ping HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(500));
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(100 << 10));
    for (bytes, status) in [
        (&b"\0\x01\x02\r\n\r\n"[..], 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 hello of TLS\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"GET /_ping\r\n\r\n", 400),
        (b"GET /%zz HTTP/1.1\r\nHost: d\r\n\r\n", 400),
        (b"GET /_ping HTTP/1.1\r\nHost : d\r\n\r\n", 400),
        (b"POST /containers/create HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST /containers/create HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello", 400),
        (b"POST /containers/create HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST /containers/create HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (many.as_bytes(), 431),
        (long.as_bytes(), 431),
    ] {
        let said = engine.send(bytes);
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]).into_owned();
        assert!(said.starts_with(&format!("HTTP/1.1 {status} ")), "{said} to {shown:?}");
        assert!(said.contains("Connection: close"), "{said} to {shown:?}");
    }
    answers(&engine);
}

#[test]
fn a_body_without_end_is_not_kept() {
    let host = bare!();
    ours_only!(host);
    let engine = Engine::start(&host, &[]);
    answers(&engine);
    let before = engine.status("VmRSS");
    for head in [
        "Content-Type: application/json\r\nContent-Length: 1000000000000\r\n\r\n",
        "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n",
    ] {
        let mut stream = engine.connect();
        stream
            .write_all(format!("POST /containers/create HTTP/1.1\r\nHost: d\r\n{head}").as_bytes())
            .expect("sent");
        let chunked = head.contains("chunked");
        let piece = vec![b' '; 1 << 20];
        // Sooner or later it has enough and closes.
        let mut sent = 0;
        while sent < 256 {
            let framed = if chunked { stream.write_all(b"100000\r\n") } else { Ok(()) };
            let end: &[u8] = if chunked { b"\r\n" } else { b"" };
            if framed.and_then(|()| stream.write_all(&piece)).and_then(|()| stream.write_all(end)).is_err() {
                break;
            }
            sent += 1;
        }
        assert!(sent < 256, "it reads on for ever");
    }
    let grown = engine.status("VmHWM").saturating_sub(before);
    assert!(grown < 48 << 10, "{grown} KiB more");
    answers(&engine);
}

#[test]
fn slow_clients_keep_nobody_waiting() {
    let host = bare!();
    ours_only!(host);
    let engine = Engine::start(&host, &[]);
    answers(&engine);
    let mut heads: Vec<UnixStream> = (0..400).map(|_| engine.connect()).collect();
    for stream in &mut heads {
        stream.write_all(b"GET /_ping HT").expect("sent");
    }
    let mut bodies: Vec<UnixStream> = (0..50).map(|_| engine.connect()).collect();
    for stream in &mut bodies {
        stream.write_all(b"POST /containers/create HTTP/1.1\r\nContent-Length: 90\r\n\r\n{").expect("sent");
    }
    for _ in 0..20 {
        assert!(answers(&engine) < Duration::from_secs(2));
    }
    // A head that is not complete keeps no thread; a body that is being read does.
    wait::until("threads to be few", 10, || (engine.status("Threads") < 80).then_some(()));
    for stream in &mut heads {
        stream.write_all(b"TP/1.1\r\n\r\n").expect("sent");
    }
    for stream in heads {
        assert_eq!(answer(&mut BufReader::new(stream)).text(), "OK");
    }
}

#[test]
fn half_closed_connections_are_answered_and_then_closed() {
    let host = bare!();
    ours_only!(host);
    let engine = Engine::start(&host, &[]);
    let mut stream = engine.connect();
    send(&mut stream, "GET", "/_ping", "");
    stream.shutdown(Shutdown::Write).expect("a socket");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    assert!(text.ends_with("\r\n\r\nOK"), "{text}");
    for begun in [&b""[..], b"GET /_pi", b"POST /containers/create HTTP/1.1\r\nContent-Length: 9\r\n\r\n{"] {
        let mut stream = engine.connect();
        stream.write_all(begun).expect("sent");
        stream.shutdown(Shutdown::Write).expect("a socket");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("closed in order");
        assert!(!text.contains(" 200 ") && !text.contains(" 201 "), "{text}");
    }
    answers(&engine);
}

#[test]
fn ten_thousand_idle_connections_cost_little() {
    let host = bare!();
    ours_only!(host);
    // The engine raises its own limit; the test needs as many descriptors.
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    let (many, needed) = (10_000_usize, 14_000);
    if limit.maximum.is_some_and(|most| most < needed) {
        return skip("too few descriptors are allowed for ten thousand connections");
    }
    let engine = Engine::start(&host, &[]);
    limit.current = limit.current.map(|now| now.max(needed));
    setrlimit(Resource::Nofile, limit).expect("raised");
    answers(&engine);
    let before = engine.status("VmRSS");
    let mut idle: Vec<UnixStream> = Vec::with_capacity(many);
    for at in 0..many {
        let mut stream = engine.connect();
        // A tenth of them has asked something before.
        if at % 10 == 0 {
            send(&mut stream, "GET", "/_ping", "");
        }
        idle.push(stream);
    }
    let mut took: Vec<Duration> = (0..100).map(|_| answers(&engine)).collect();
    took.sort_unstable();
    assert!(took[50] < Duration::from_millis(wait::patience(50)), "median {:?}", took[50]);
    let grown = engine.status("VmRSS").saturating_sub(before);
    assert!(grown < 16 << 10, "{grown} KiB more");
    wait::until("threads to be few", 10, || (engine.status("Threads") < 20).then_some(()));
    // All of them are still served.
    let mut last = idle.pop().expect("many");
    send(&mut last, "GET", "/_ping", "");
    assert_eq!(answer(&mut BufReader::new(last)).status, 200);
    assert_eq!(answer(&mut BufReader::new(&mut idle[0])).status, 200);
}

/// `curl` as this user, whose only group has the same number.
fn curl_as(user: u32, socket: &Path) -> i32 {
    let mut command = Command::new("curl");
    command.args(["-sf", "--unix-socket"]).arg(socket).arg("http://docker/_ping").uid(user).gid(user);
    finish(&mut command, b"", 30).code
}

#[test]
fn the_socket_file_keeps_other_users_out() {
    let host = bare!();
    ours_only!(host);
    let dir = host.scratch().join("sockets");
    std::fs::create_dir_all(&dir).expect("made");
    for path in [host.scratch().path(), &dir] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("changed");
    }
    let ours = Engine::at(&host, &dir.join("ours.sock"), &["--group", "no-such-group"]);
    let mode = |engine: &Engine| engine.socket().metadata().expect("there").permissions().mode() & 0o7777;
    assert_eq!(mode(&ours), 0o660);
    assert_eq!(curl_as(0, ours.socket()), 0);
    assert_eq!(curl_as(65_534, ours.socket()), 7, "refused by the kernel");
    let theirs = Engine::at(&host, &dir.join("theirs.sock"), &["--group", "65534"]);
    assert_eq!(mode(&theirs), 0o660);
    assert_eq!(curl_as(65_534, theirs.socket()), 0, "the group may");
    assert_eq!(curl_as(12_345, theirs.socket()), 7);
}

/// `ca`, `server` and `client`, and a `stranger` of another authority; false without openssl.
fn certificates(dir: &Path) -> bool {
    const NEW: &str = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2";
    let openssl = |line: &str| {
        let mut command = Command::new("openssl");
        command.args(line.split(' ')).current_dir(dir).stdin(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    let authority =
        |name: &str| openssl(&format!("req -x509 {NEW} -keyout {name}.key -out {name}.pem -subj /CN={name}"));
    let signed = |name: &str, by: &str| {
        openssl(&format!("req {NEW} -keyout {name}.key -out {name}.csr -subj /CN={name}"))
            && openssl(&format!(
                "x509 -req -in {name}.csr -CA {by}.pem -CAkey {by}.key -CAcreateserial -days 2 -extfile names -out {name}.pem"
            ))
    };
    std::fs::write(dir.join("names"), "subjectAltName=IP:127.0.0.1\n").expect("written");
    authority("ca")
        && authority("other")
        && signed("server", "ca")
        && signed("client", "ca")
        && signed("stranger", "other")
}

#[test]
fn tls_keeps_out_who_has_no_certificate() {
    let host = bare!();
    ours_only!(host);
    let dir = host.scratch().join("tls");
    std::fs::create_dir_all(&dir).expect("made");
    if !certificates(&dir) {
        return skip("openssl makes no certificates");
    }
    let path = |name: &str| dir.join(name).display().to_string();
    let address = format!("127.0.0.1:{}", wait::free_port());
    let (place, ca, certificate, key) =
        (format!("tcp://{address}"), path("ca.pem"), path("server.pem"), path("server.key"));
    let flags =
        ["-H", &place, "--tlsverify", "--tlscacert", &ca, "--tlscert", &certificate, "--tlskey", &key];
    let engine = Engine::start(&host, &flags);
    let curl = |more: &[&str], scheme: &str| {
        let mut command = Command::new("curl");
        command.args(["-s", "--cacert", &ca]).args(more).arg(format!("{scheme}://{address}/_ping"));
        finish(&mut command, b"", 30)
    };
    let with = |who: &str| {
        curl(&["--cert", &path(&format!("{who}.pem")), "--key", &path(&format!("{who}.key"))], "https")
    };
    assert_eq!(with("client").success(), "OK");
    assert!(!curl(&[], "https").stdout.contains("OK"), "without a certificate");
    assert!(!with("stranger").stdout.contains("OK"), "a certificate of somebody else");
    assert!(curl(&[], "http").stdout.contains("https"), "plain text is told what is missing");
    // The socket beside it is as before.
    answers(&engine);
}

#[test]
fn tcp_for_everybody_has_to_be_asked_for() {
    let host = bare!();
    ours_only!(host);
    let place = format!("tcp://0.0.0.0:{}", wait::free_port());
    let outcome = host.fails(1, "would be root on this machine", &format!("engine -H {place}"));
    assert!(outcome.stderr.contains("--tlsverify"), "{outcome:?}");
    host.fails(1, "not a place to listen", "engine -H http://x");
    host.fails(1, "no such socket was passed", "engine -H fd://");
    let engine = Engine::start(&host, &["-H", &place, "--allow-insecure-tcp"]);
    let port = place.rsplit_once(':').expect("a port").1;
    assert!(wait::http_get(&format!("127.0.0.1:{port}"), "/_ping").is_some_and(|said| said.ends_with("OK")));
    answers(&engine);
}

#[test]
fn web_pages_are_kept_away_from_tcp_without_certificates() {
    let host = bare!();
    ours_only!(host);
    let address = format!("127.0.0.1:{}", wait::free_port());
    let engine = Engine::start(&host, &["-H", &format!("tcp://{address}")]);
    // It answers when it listens everywhere and has said so.
    answers(&engine);
    let log = std::fs::read_to_string(host.scratch().join("engine.log")).expect("a log");
    assert!(log.contains("any user of this machine"), "{log}");
    let asked = |headers: &str| {
        let mut stream = std::net::TcpStream::connect(&address).expect("connected");
        let text = format!(
            "POST /containers/prune HTTP/1.1\r\n{headers}Connection: close\r\nContent-Length: 0\r\n\r\n"
        );
        stream.write_all(text.as_bytes()).expect("sent");
        answer(&mut BufReader::new(stream)).status
    };
    assert_eq!(asked(&format!("Host: {address}\r\n")), 200);
    assert_eq!(asked("Host: localhost\r\n"), 200);
    assert_eq!(asked("Host: evil.example\r\n"), 403);
    assert_eq!(asked(&format!("Host: {address}\r\nOrigin: http://evil.example\r\n")), 403);
    assert!(engine.send(b"GET /_ping HTTP/1.0\r\nHost: any\r\nOrigin: x\r\n\r\n").ends_with("OK"));
}

#[test]
fn a_long_log_is_told_to_who_attaches_and_not_kept() {
    let host = crate::host!();
    ours_only!(host);
    // 40 MB.
    let script = "yes $(printf %08000d 1) | head -n 5000";
    host.ok_words(&["run", "-d", "--name", "talks", fluyt_testkit::host::BOX, "sh", "-c", script]);
    assert_eq!(host.ok("wait talks").trim(), "0");
    let engine = Engine::start(&host, &[]);
    answers(&engine);
    let before = engine.status("VmHWM");
    let mut stream = engine.connect();
    let text = "POST /containers/talks/attach?logs=1&stdout=1&stderr=1 HTTP/1.1\r\nHost: d\r\nUpgrade: tcp\r\n\
                Connection: Upgrade\r\n\r\n";
    stream.write_all(text.as_bytes()).expect("sent");
    let told = std::io::copy(&mut stream, &mut std::io::sink()).expect("told");
    assert!(told > 5000 * 8001, "{told}");
    let grown = engine.status("VmHWM") - before;
    assert!(grown < 16 << 10, "{grown} kB");
}

#[test]
fn a_service_manager_s_socket_is_taken_over_and_it_is_told() {
    let host = bare!();
    ours_only!(host);
    let (socket, notify) = (host.scratch().join("given.sock"), host.scratch().join("notify.sock"));
    let listener = std::os::unix::net::UnixListener::bind(&socket).expect("bound");
    let manager = std::os::unix::net::UnixDatagram::bind(&notify).expect("bound");
    manager.set_read_timeout(Some(Duration::from_secs(wait::patience(20)))).expect("a socket");
    // Connections made before it runs are served too.
    let mut early = UnixStream::connect(&socket).expect("connected");
    send(&mut early, "GET", "/_ping", "");
    let program = host.command(["engine"]).get_program().to_owned();
    let mut command = host.command(["engine"]);
    let mut shell = Command::new("sh");
    shell.args(["-c", "LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" engine -H fd:// 3<&0 </dev/null"]).arg(program);
    for (name, value) in command.env("NOTIFY_SOCKET", &notify).get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    shell.stdin(Stdio::from(std::os::fd::OwnedFd::from(listener))).stderr(Stdio::null());
    let mut child = shell.spawn().expect("the program");
    let told = |wanted: &str| {
        let mut state = [0; 64];
        let n = manager.recv(&mut state).expect("it is told");
        assert_eq!(&state[..n], wanted.as_bytes());
    };
    told("READY=1");
    early.set_read_timeout(Some(Duration::from_secs(wait::patience(20)))).expect("a socket");
    assert_eq!(answer(&mut BufReader::new(early)).text(), "OK");
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("told");
    told("STOPPING=1");
    let ended = wait::until("the engine to end", 30, || child.try_wait().ok().flatten());
    assert_eq!(ended.code(), Some(0));
    assert!(socket.exists(), "the manager's socket is the manager's");
}

#[test]
fn its_socket_goes_with_it_and_a_stale_one_is_replaced() {
    let host = bare!();
    ours_only!(host);
    let mut first = Engine::start(&host, &[]);
    let place = format!("unix://{}", first.socket().display());
    host.fails(1, "another program listens there", &format!("engine -H {place}"));
    answers(&first);
    let idle = first.connect();
    first.signal(rustix::process::Signal::KILL);
    assert_eq!(first.ended(), None);
    assert!(first.socket().exists(), "nobody was left to remove it");
    let mut second = Engine::start(&host, &[]);
    answers(&second);
    drop(idle);
    let mut idle = second.connect();
    second.signal(rustix::process::Signal::TERM);
    assert_eq!(second.ended(), Some(0));
    assert!(!second.socket().exists());
    assert_eq!(idle.read(&mut [0]).expect("closed in order"), 0);
}
