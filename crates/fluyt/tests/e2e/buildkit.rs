//! A build as `docker buildx` conducts it, by a client of the tests' own: Debian has no buildx. Files, secrets and
//! outputs go over the client's session, the build itself over gRPC.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use fluyt_buildkit::grpc::{Call, Client, Code, Handler, Socket, Status, serve};
use fluyt_buildkit::proto::{
    BytesMessage, CredentialsRequest, CredentialsResponse, Empty, Exporter, GatewaySolveRequest,
    GatewaySolveResponse, GetSecretRequest, GetSecretResponse, Packet, ReturnRequest, SolveRequest,
    SolveResponse, Stat, StatusRequest, StatusResponse, packet,
};
use fluyt_testkit::Host;
use fluyt_testkit::host::BOX;

use crate::engines::Engine;
use crate::{host, ours_only};

const DIR: u32 = 1 << 31;
const METHODS: [&str; 4] = [
    "/moby.filesync.v1.FileSync/DiffCopy",
    "/moby.filesync.v1.FileSend/DiffCopy",
    "/moby.filesync.v1.Auth/Credentials",
    "/moby.buildkit.secrets.v1.Secrets/GetSecret",
];

/// The client's side of a session.
struct Offers {
    /// Files by directory and path; a path that ends with `/` is a directory.
    files: Vec<(&'static str, &'static str, &'static str)>,
    /// What was sent back: bytes of an archive.
    archive: Mutex<Vec<u8>>,
    /// Directories that were asked for, with what was to be left out.
    asked: Mutex<Vec<String>>,
}

impl Handler for Offers {
    fn call(&self, call: &mut Call) -> Result<(), Status> {
        match call.method() {
            "/moby.filesync.v1.FileSync/DiffCopy" => self.directory(call),
            "/moby.filesync.v1.FileSend/DiffCopy" => {
                while let Some(piece) = call.receive::<BytesMessage>()? {
                    self.archive.lock().expect("lock").extend(piece.data);
                }
                Ok(())
            }
            "/moby.buildkit.secrets.v1.Secrets/GetSecret" => {
                let request: GetSecretRequest = call.request()?;
                match request.id.as_str() {
                    "token" => call.send(&GetSecretResponse { data: b"hush".to_vec() }),
                    _ => Err(Status::new(Code::NotFound, "no such secret")),
                }
            }
            "/moby.filesync.v1.Auth/Credentials" => {
                let _: CredentialsRequest = call.request()?;
                call.send(&CredentialsResponse::default())
            }
            other => Err(Status::unimplemented(other)),
        }
    }
}

impl Offers {
    fn directory(&self, call: &mut Call) -> Result<(), Status> {
        let name = call.metadata("dir-name").unwrap_or_default().to_owned();
        let follow = call.metadata("followpaths").map(str::to_owned);
        let excluded = call.metadata("exclude-patterns").unwrap_or_default().to_owned();
        if follow.is_none() {
            self.asked.lock().expect("lock").push(format!("{name} without {excluded:?}"));
        }
        let mine: Vec<_> =
            self.files.iter().filter(|(dir, path, _)| *dir == name && *path != excluded).collect();
        for (_, path, content) in &mine {
            let mode = if path.ends_with('/') { DIR | 0o755 } else { 0o644 };
            let size = i64::try_from(content.len()).expect("short");
            let path = path.trim_end_matches('/').to_owned();
            let stat = Stat { path, mode, size, ..Stat::default() };
            call.send(&Packet { kind: packet::STAT, stat: Some(stat), ..Packet::default() })?;
        }
        call.send(&Packet { kind: packet::STAT, ..Packet::default() })?;
        while let Some(word) = call.receive::<Packet>()? {
            if word.kind == packet::FIN {
                return call.send(&Packet { kind: packet::FIN, ..Packet::default() });
            }
            let data = mine[word.id as usize].2.as_bytes().to_vec();
            call.send(&Packet { kind: packet::DATA, id: word.id, data, ..Packet::default() })?;
            call.send(&Packet { kind: packet::DATA, id: word.id, ..Packet::default() })?;
        }
        Ok(())
    }
}

/// Takes a connection of the engine over.
fn upgrade(engine: &Engine, path: &str, headers: &str) -> UnixStream {
    let mut stream = UnixStream::connect(engine.socket()).expect("connected");
    let head =
        format!("POST {path} HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n{headers}\r\n");
    stream.write_all(head.as_bytes()).expect("sent");
    let (mut answer, mut byte) = (Vec::new(), [0]);
    while !answer.ends_with(b"\r\n\r\n") {
        assert_eq!(stream.read(&mut byte).expect("an answer"), 1, "{}", String::from_utf8_lossy(&answer));
        answer.push(byte[0]);
    }
    assert!(answer.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&answer));
    stream
}

/// A client with a session; both connections end with it.
struct Buildx {
    client: Client,
    offers: Arc<Offers>,
    connections: [UnixStream; 2],
}

impl Buildx {
    fn new(engine: &Engine, files: Vec<(&'static str, &'static str, &'static str)>) -> Self {
        let offers = Arc::new(Offers { files, archive: Mutex::default(), asked: Mutex::default() });
        let mut headers = "X-Docker-Expose-Session-Uuid: s1\r\n".to_owned();
        for method in METHODS {
            headers.push_str(&format!("X-Docker-Expose-Session-Grpc-Method: {method}\r\n"));
        }
        let session = upgrade(engine, "/v1.51/session", &headers);
        let socket = Socket::new(session.try_clone().expect("clone").into(), Vec::new());
        let serving = Arc::clone(&offers);
        std::thread::spawn(move || serve(socket, serving));
        let control = upgrade(engine, "/grpc", "");
        let socket = Socket::new(control.try_clone().expect("clone").into(), Vec::new());
        let (tell, ready) = channel();
        std::thread::spawn(move || Client::drive(socket, |client| tell.send(client).expect("waited for")));
        Self { client: ready.recv().expect("a client"), offers, connections: [session, control] }
    }

    fn build(
        &self,
        id: &str,
        attrs: &[(&str, &str)],
        exporters: Vec<Exporter>,
    ) -> Result<BTreeMap<String, String>, Status> {
        let mut solve = self.client.open("/moby.buildkit.v1.Control/Solve", &[])?;
        solve.send(&SolveRequest {
            reference: id.to_owned(),
            session: "s1".to_owned(),
            exporters,
            ..SolveRequest::default()
        })?;
        let metadata = [("buildkit-controlapi-buildid", id.to_owned())];
        let mut gateway = self.client.open("/moby.buildkit.v1.frontend.LLBBridge/Solve", &metadata)?;
        let frontend_opt = attrs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let frontend = "dockerfile.v0".to_owned();
        gateway.send(&GatewaySolveRequest { frontend, frontend_opt, evaluate: false })?;
        let result = gateway.receive::<GatewaySolveResponse>()?.expect("one").result;
        let mut back = self.client.open("/moby.buildkit.v1.frontend.LLBBridge/Return", &metadata)?;
        back.send(&ReturnRequest { result, error: None })?;
        back.receive::<Empty>()?;
        Ok(solve.receive::<SolveResponse>()?.expect("one").exporter_response)
    }

    /// Everything that was told of a build: names of steps with what became of them, and what they printed.
    fn told(&self, id: &str) -> (Vec<String>, String) {
        let mut status = self.client.open("/moby.buildkit.v1.Control/Status", &[]).expect("open");
        status.send(&StatusRequest { reference: id.to_owned() }).expect("sent");
        let (mut steps, mut text) = (Vec::new(), Vec::new());
        while let Some(report) = status.receive::<StatusResponse>().expect("status") {
            for vertex in report.vertexes.into_iter().filter(|vertex| vertex.completed.is_some()) {
                assert!(vertex.started.is_some() && vertex.digest.starts_with("sha256:"), "{vertex:?}");
                let how = if vertex.error.is_empty() {
                    if vertex.cached { "cached" } else { "done" }
                } else {
                    "failed"
                };
                steps.push(format!("{} {how}", vertex.name));
            }
            text.extend(report.logs.into_iter().flat_map(|log| log.message));
        }
        (steps, String::from_utf8_lossy(&text).into_owned())
    }
}

impl Drop for Buildx {
    fn drop(&mut self) {
        for connection in &self.connections {
            let _ = connection.shutdown(std::net::Shutdown::Both);
        }
    }
}

fn exporter(kind: &str, attrs: &[(&str, &str)]) -> Vec<Exporter> {
    let attrs = attrs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    vec![Exporter { kind: kind.to_owned(), attrs }]
}

fn files(dockerfile: &'static str) -> Vec<(&'static str, &'static str, &'static str)> {
    vec![
        ("dockerfile", "Dockerfile", dockerfile),
        ("context", ".dockerignore", "# nothing of\nprivate\n"),
        ("context", "d/", ""),
        ("context", "d/file", "content"),
        ("context", "private", "not for the build"),
    ]
}

#[test]
fn buildx_builds_images_through_the_engine() {
    let host: Host = host!();
    ours_only!(host);
    let engine = Engine::start(&host, &[]);
    let text: &'static str = Box::leak(
        format!(
            "FROM {BOX}\nARG WHO\nCOPY . /c/\nRUN --mount=type=secret,id=token echo $WHO $(cat /run/secrets/token) && ls /c\nLABEL a=b\n"
        )
        .into_boxed_str(),
    );
    let client = Buildx::new(&engine, files(text));
    let attrs = [("build-arg:WHO", "me"), ("filename", "Dockerfile")];
    let built =
        client.build("one", &attrs, exporter("moby", &[("name", "docker.io/t/one:1")])).expect("built");
    let (steps, printed) = client.told("one");
    assert!(
        printed.contains("me hush\n") && printed.contains('d') && !printed.contains("private"),
        "{printed}"
    );
    assert!(
        steps.iter().any(|step| step.contains("RUN --mount=type=secret") && step.ends_with(" done")),
        "{steps:?}"
    );
    assert_eq!(*client.offers.asked.lock().expect("lock"), ["context without \"private\""]);
    let id = host.ok("images -q --no-trunc t/one:1");
    assert_eq!(built["containerimage.config.digest"], id.trim());
    assert_eq!(built["image.name"], "docker.io/t/one:1");

    // Again: everything is known, also in another archive, which the client gets.
    client.build("two", &attrs, exporter("tar", &[])).expect("built again");
    let (steps, _) = client.told("two");
    assert!(steps.iter().any(|step| step.contains("RUN --mount") && step.ends_with(" cached")), "{steps:?}");
    let archive = client.offers.archive.lock().expect("lock").clone();
    assert!(archive.windows(8).any(|bytes| bytes == b"c/d/file"), "{} bytes", archive.len());
    // Nothing of the secret is left in memory or on the disk.
    let run = host.ok("history --no-trunc t/one:1");
    assert!(!run.contains("hush"), "{run}");
}

#[test]
fn what_is_wrong_with_a_build_reaches_buildx() {
    let host: Host = host!();
    ours_only!(host);
    let engine = Engine::start(&host, &[]);
    let text: &'static str = Box::leak(format!("FROM {BOX}\nRUN echo before && exit 7\n").into_boxed_str());
    let client = Buildx::new(&engine, files(text));
    let failed = client.build("f", &[], exporter("image", &[])).expect_err("it fails");
    assert!(failed.message.contains("did not complete successfully: exit code: 7"), "{failed}");
    let (steps, printed) = client.told("f");
    assert!(
        printed.contains("before") && steps.iter().any(|step| step.ends_with(" failed")),
        "{steps:?} {printed}"
    );
    let missing = client.build("m", &[("filename", "No.dockerfile")], Vec::new()).expect_err("no such file");
    assert!(missing.message.contains("failed to read dockerfile: open No.dockerfile"), "{missing}");
    let outside = client.build("o", &[("filename", "../x")], Vec::new()).expect_err("no plain name");
    assert!(outside.message.contains("invalid Dockerfile name"), "{outside}");
    let unknown = client.build("u", &[], exporter("nonsense", &[])).expect_err("no such output");
    assert!(unknown.message.contains("exporter \"nonsense\""), "{unknown}");
    // A request that is no upgrade is refused, and the engine goes on.
    assert_eq!(engine.ask("POST", "/grpc", "").status, 400);
    assert_eq!(engine.ask("GET", "/_ping", "").text(), "OK");
}

/// The command lines of all processes that can be seen.
fn command_lines() -> Vec<String> {
    let processes = std::fs::read_dir("/proc").expect("proc").filter_map(Result::ok);
    let lines = processes.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " ")).collect()
}

#[test]
fn values_of_a_clients_build_stand_in_no_command_line() {
    let host: Host = host!();
    ours_only!(host);
    let engine = Engine::start(&host, &[]);
    let text: &'static str = Box::leak(
        format!("FROM {BOX}\nARG TOK\nRUN --mount=type=secret,id=token sleep 1 && echo $TOK\n")
            .into_boxed_str(),
    );
    let client = Buildx::new(&engine, files(text));
    let value = format!("value-of-{}", std::process::id());
    let attrs = [("build-arg:TOK", value.as_str()), ("label:l", value.as_str())];
    let (mut seen, mut read) = (false, Vec::new());
    std::thread::scope(|scope| {
        let building =
            scope.spawn(|| client.build("hidden", &attrs, exporter("moby", &[("name", "t/hidden:1")])));
        while !building.is_finished() {
            for line in command_lines() {
                seen |= line.contains(" told /proc/");
                read.extend(line.contains(&value).then_some(line));
            }
        }
        building.join().expect("no panic").expect("built");
    });
    assert!(seen, "the build's process was looked at");
    assert!(read.is_empty(), "{read:?}");
    assert_eq!(
        host.ok("inspect -f {{.Config.Labels.l}} t/hidden:1").trim(),
        value,
        "they arrive all the same"
    );
}

#[test]
fn clients_of_builds_name_no_directory_of_the_engines_machine() {
    let host: Host = host!();
    ours_only!(host);
    let engine = Engine::start(&host, &[]);
    let client = Buildx::new(&engine, files("FROM scratch\nCOPY --from=x hostname /\n"));
    for (id, attrs) in
        [("own", ("context", "/etc")), ("named", ("context:x", "/etc")), ("relative", ("context:x", "."))]
    {
        let refused = client.build(id, &[attrs], exporter("tar", &[])).expect_err("refused");
        assert!(refused.message.contains("unsupported context source"), "{refused}");
    }
    let away = exporter("local", &[("type", "local"), ("dest", "/tmp")]);
    assert!(client.build("away", &[], away).expect_err("refused").message.contains("invalid attribute"));
}
