//! `registry serve`: real clients push to it and pull from it, with TLS and passwords, and it survives being killed.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use fluyt_testkit::host::finish;
use fluyt_testkit::{Host, skip, wait};

use crate::{host, ours_only};

/// `secret`, as `htpasswd -B` writes it.
const USERS: &str = "ann:$2b$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW\n";

/// A registry that ends with this value.
pub(crate) struct Served {
    child: Child,
    pub(crate) address: String,
    root: PathBuf,
}

impl Served {
    pub(crate) fn start(host: &Host, flags: &[&str]) -> Self {
        Self::at(host, &host.scratch().join("served"), wait::free_port(), flags)
    }

    fn at(host: &Host, root: &Path, port: u16, flags: &[&str]) -> Self {
        let address = format!("127.0.0.1:{port}");
        let mut words = vec!["registry", "serve", "--addr", &address];
        words.extend(flags);
        let mut command = host.command(words);
        command.env("FLUYT_ROOT", root).stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.spawn().expect("the program");
        wait::until("the registry to listen", 20, || TcpStream::connect(&address).ok());
        Self { child, address, root: root.to_owned() }
    }

    /// Kills it and starts another one in its place.
    fn killed_and_started(mut self, host: &Host) -> Self {
        self.child.kill().expect("killed");
        self.child.wait().expect("ended");
        let port = self.address.rsplit_once(':').and_then(|(_, p)| p.parse().ok()).expect("a port");
        Self::at(host, &self.root.clone(), port, &[])
    }

    /// Sends bytes on a connection of their own; what comes back.
    fn send(&self, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(&self.address).expect("connected");
        stream.write_all(bytes).expect("sent");
        stream.shutdown(Shutdown::Write).expect("a socket");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("an answer");
        String::from_utf8_lossy(&answer).into_owned()
    }

    pub(crate) fn ask(&self, method: &str, path: &str) -> String {
        self.send(
            format!("{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                .as_bytes(),
        )
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs another program to its end and asserts success.
#[track_caller]
pub(crate) fn ok(program: &str, line: &str) -> String {
    let mut command = Command::new(program);
    command.args(line.split_whitespace());
    let outcome = finish(&mut command, b"", 120);
    assert_eq!(outcome.code, 0, "{program} {line}: {outcome:?}");
    outcome.text().to_owned()
}

pub(crate) fn installed(program: &str) -> bool {
    let found =
        Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !found {
        skip(&format!("{program} is not installed"));
    }
    found
}

#[test]
fn ours_pushes_pulls_and_finds() {
    let host = host!();
    ours_only!(host);
    let served = Served::start(&host, &[]);
    let name = format!("{}/team/box:1", served.address);
    let id = host.ok("images -q --no-trunc box");
    host.ok(&format!("tag box {name}"));
    host.ok(&format!("push {name}"));
    host.ok(&format!("rmi {name} box"));
    host.ok(&format!("pull {name}"));
    assert_eq!(host.ok(&format!("images -q --no-trunc {name}")), id);
    assert_eq!(host.ok(&format!("run --rm {name} echo pulled")), "pulled");
    let found = host.ok_words(&["search", "--format", "{{.Name}}", &format!("{}/te", served.address)]);
    assert_eq!(found, format!("{}/team/box", served.address));
    host.fails(1, "not found", &format!("pull {}/team/box:2", served.address));
}

#[test]
fn it_ends_in_order_when_it_is_told_to() {
    let host = host!();
    ours_only!(host);
    let mut served = Served::start(&host, &[]);
    let idle = TcpStream::connect(&served.address).expect("connected");
    let pid = rustix::process::Pid::from_child(&served.child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("told");
    let ended = wait::until("the registry to end", 30, || served.child.try_wait().ok().flatten());
    assert_eq!(ended.code(), Some(0));
    drop(idle);
}

#[test]
fn one_data_root_serves_what_it_runs() {
    let host = host!();
    ours_only!(host);
    let served = Served::at(&host, host.root(), wait::free_port(), &[]);
    let name = format!("{}/box:1", served.address);
    host.ok(&format!("tag box {name}"));
    host.ok(&format!("push {name}"));
    host.ok(&format!("rmi {name}"));
    host.ok("rmi box");
    host.ok("image prune -a -f");
    host.ok(&format!("pull {name}"));
    assert_eq!(host.ok(&format!("run --rm {name} echo here")), "here");
    assert!(served.ask("DELETE", "/v2/box/manifests/1").contains(" 202 "));
    let said = host.ok("registry gc --untagged --grace 0s");
    assert!(said.contains("Manifests: 1"), "{said}");
    assert_eq!(host.ok(&format!("run --rm {name} echo still")), "still", "the image keeps its blobs");
}

#[test]
fn skopeo_and_podman_push_and_pull() {
    let host = host!();
    ours_only!(host);
    if !installed("skopeo") || !installed("podman") {
        return;
    }
    let served = Served::start(&host, &[]);
    let address = &served.address;
    host.ok(&format!("tag box {address}/one:1"));
    host.ok(&format!("push {address}/one:1"));
    let tls = "--src-tls-verify=false --dest-tls-verify=false";
    let dir = host.scratch().join("copied").display().to_string();
    ok("skopeo", &format!("copy {tls} docker://{address}/one:1 docker://{address}/two/three:2"));
    ok("skopeo", &format!("copy --src-tls-verify=false docker://{address}/two/three:2 dir:{dir}"));
    ok(
        "skopeo",
        &format!("copy --dest-tls-verify=false --format v2s2 dir:{dir} docker://{address}/docker:1"),
    );
    let tags = ok("skopeo", &format!("list-tags --tls-verify=false docker://{address}/two/three"));
    assert!(tags.contains("\"2\""), "{tags}");
    let place = |name: &str| host.scratch().join(name).display().to_string();
    let podman = format!("--root {} --runroot {} --storage-driver vfs", place("podman"), place("podman-run"));
    ok("podman", &format!("{podman} pull -q --tls-verify=false {address}/docker:1"));
    ok("podman", &format!("{podman} push -q --tls-verify=false {address}/docker:1 {address}/podman:1"));
    host.ok(&format!("pull {address}/podman:1"));
    assert_eq!(host.ok(&format!("run --rm {address}/podman:1 echo all-the-way")), "all-the-way");
    ok("skopeo", &format!("delete --tls-verify=false docker://{address}/docker:1"));
    assert!(served.ask("GET", "/v2/docker/manifests/1").contains(" 404 "));
}

#[test]
fn docker_pushes_and_pulls() {
    let host = host!();
    ours_only!(host);
    if !installed("dockerd") || !installed("docker") {
        return;
    }
    let served = Served::start(&host, &[]);
    let name = format!("{}/team/box:1", served.address);
    host.ok(&format!("tag box {name}"));
    host.ok(&format!("push {name}"));
    let path = |p: &str| host.scratch().join("docker").join(p).display().to_string();
    std::fs::create_dir_all(path("")).expect("a directory");
    let log = std::fs::File::create(path("log")).expect("a file");
    let mut daemon = Command::new("dockerd")
        .args(["--data-root", &path("data"), "--exec-root", &path("exec"), "--pidfile", &path("pid")])
        .args(["-H", &format!("unix://{}", path("sock")), "--storage-driver", "vfs", "--bridge", "none"])
        .args(["--iptables=false", "--ip6tables=false"])
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a file"))
        .stderr(log)
        .spawn()
        .expect("dockerd");
    let prefix = format!("-H unix://{}", path("sock"));
    let version = || {
        let mut command = Command::new("docker");
        finish(command.args(prefix.split(' ')).arg("version"), b"", 20).code == 0
    };
    wait::until("dockerd to answer or to end", 60, || {
        (version() || daemon.try_wait().is_ok_and(|s| s.is_some())).then_some(())
    });
    if version() {
        ok("docker", &format!("{prefix} pull {name}"));
        ok("docker", &format!("{prefix} tag {name} {}/again:2", served.address));
        ok("docker", &format!("{prefix} push {}/again:2", served.address));
        host.ok(&format!("pull {}/again:2", served.address));
        assert_eq!(host.ok(&format!("run --rm {}/again:2 echo docker", served.address)), "docker");
    } else {
        skip("dockerd does not start here");
    }
    let pid = rustix::process::Pid::from_child(&daemon);
    let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    let _ = daemon.wait();
}

#[test]
fn tls_and_tokens_with_a_strange_client() {
    let host = host!();
    ours_only!(host);
    if !installed("skopeo") {
        return;
    }
    let dir = host.scratch().join("tls");
    std::fs::create_dir_all(&dir).expect("a directory");
    let file = |name: &str| dir.join(name).display().to_string();
    let mut openssl = Command::new("openssl");
    let line = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=x -addext subjectAltName=IP:127.0.0.1";
    openssl.args(line.split(' ')).args(["-keyout", &file("server.key"), "-out", &file("ca.crt")]);
    if !openssl.stderr(Stdio::null()).status().is_ok_and(|s| s.success()) {
        return skip("openssl is not installed");
    }
    std::fs::write(file("users"), USERS).expect("written");
    let rights = r#"{"htpasswd": "users", "token": {}, "rights": [
        {"users": ["ann"], "repositories": ["*"], "actions": ["*"]},
        {"users": ["anonymous"], "repositories": ["public/*"], "actions": ["pull"]}]}"#;
    std::fs::write(file("registry.json"), rights).expect("written");
    let (key, certificate, config) = (file("server.key"), file("ca.crt"), file("registry.json"));
    let served = Served::start(&host, &["--tls-key", &key, "--tls-cert", &certificate, "--config", &config]);
    let (address, certs) = (&served.address, dir.display());
    let name = format!("{address}/public/box:1");
    host.fails(1, "denied", &format!("pull {address}/private/box:1"));
    let mut login = host.command(["login", "-u", "ann", "--password-stdin", address]);
    assert_eq!(finish(&mut login, b"wrong", 60).code, 1);
    let mut login = host.command(["login", "-u", "ann", "--password-stdin", address]);
    let said = finish(&mut login, b"secret", 60);
    assert_eq!(said.code, 0, "{said:?}");
    host.ok(&format!("tag box {name}"));
    host.ok(&format!("push {name}"));
    // `server.key` without its certificate in the directory would be refused: a copy with the authority alone.
    let trust = host.scratch().join("trust");
    std::fs::create_dir_all(&trust).expect("a directory");
    std::fs::copy(dir.join("ca.crt"), trust.join("ca.crt")).expect("copied");
    let (copied, trust) = (host.scratch().join("copied").display().to_string(), trust.display());
    ok("skopeo", &format!("copy --src-cert-dir {trust} docker://{name} dir:{copied}"));
    ok(
        "skopeo",
        &format!(
            "copy --dest-cert-dir {trust} --dest-creds ann:secret dir:{copied} docker://{address}/private/x:1"
        ),
    );
    let mut denied = Command::new("skopeo");
    let line = format!(
        "copy --dest-cert-dir {trust} --dest-creds ann:wrong dir:{copied} docker://{address}/private/x:2"
    );
    assert_ne!(finish(denied.args(line.split(' ')), b"", 60).code, 0);
    let mut denied = Command::new("skopeo");
    let line = format!("copy --src-cert-dir {trust} docker://{address}/private/x:1 dir:{copied}");
    assert_ne!(finish(denied.args(line.split(' ')), b"", 60).code, 0, "{certs}");
}

#[test]
fn an_upload_survives_a_kill() {
    let host = host!();
    ours_only!(host);
    let served = Served::start(&host, &[]);
    let begun = served.ask("POST", "/v2/a/blobs/uploads/");
    let location =
        begun.lines().find_map(|l| l.strip_prefix("Location: ")).expect("a location").trim().to_owned();
    let bytes = vec![b'x'; 100_000];
    let digest = fluyt_testkit::images::sha256(&bytes);
    let head = format!("PATCH {location} HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n");
    let mut stream = TcpStream::connect(&served.address).expect("connected");
    stream.write_all(&[head.as_bytes(), &bytes[..70_000]].concat()).expect("sent");
    stream.shutdown(Shutdown::Write).expect("a socket");
    let _ = stream.read_to_end(&mut Vec::new());
    let served = served.killed_and_started(&host);
    let status = served.ask("GET", &location);
    assert!(status.contains(" 204 ") && status.contains("Range: 0-69999"), "{status}");
    let head = format!(
        "PUT {location}?digest=sha256:{digest} HTTP/1.1\r\nHost: x\r\nContent-Range: 70000-99999\r\nContent-Length: 30000\r\nConnection: close\r\n\r\n"
    );
    let done = served.send(&[head.as_bytes(), &bytes[70_000..]].concat());
    assert!(done.contains(" 201 "), "{done}");
    let served = served.killed_and_started(&host);
    let answer = served.ask("GET", &format!("/v2/a/blobs/sha256:{digest}"));
    assert!(answer.contains(" 200 ") && answer.ends_with("xxx"));
}
