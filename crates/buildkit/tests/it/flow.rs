//! A build as buildx conducts it: a build without a front end, the gateway asked, its result given back.

use std::collections::BTreeMap;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use fluyt_buildkit::grpc::{Call, Code, Handler, Socket, Status, serve};
use fluyt_buildkit::proto::{
    Empty, Exporter, GatewayResult, GatewaySolveRequest, GatewaySolveResponse, ListWorkersResponse, Platform,
    PruneRequest, ReturnRequest, RpcStatus, SolveRequest, SolveResponse, StatusRequest, StatusResponse,
    UsageRecord, Vertex,
};
use fluyt_buildkit::{Build, Builder, Built, Offer, Service, Session, Sessions, Sink};
use fluyt_model::{Error, Result};

use crate::Pair;

struct Fake;

impl Builder for Fake {
    fn build(&self, build: &Build, session: &Session, sink: &Sink) -> Result<Built> {
        assert_eq!(build.frontend, "dockerfile.v0");
        let vertex = Vertex { digest: "sha256:1".to_owned(), name: "step".to_owned(), ..Vertex::default() };
        sink.tell(StatusResponse { vertexes: vec![vertex], ..StatusResponse::default() });
        match build.attrs["target"].as_str() {
            "wait" => {
                let (tell, told) = std::sync::mpsc::channel();
                sink.when_cancelled(move || tell.send(()).unwrap_or_default());
                told.recv_timeout(Duration::from_secs(20)).map_err(|_| Error::internal("never cancelled"))?;
                Err(Error::internal("the build was cancelled"))
            }
            target => Ok(Built::from([
                ("target".to_owned(), target.to_owned()),
                ("outputs".to_owned(), build.exporters.len().to_string()),
                ("offers".to_owned(), session.offers("/A/b").to_string()),
            ])),
        }
    }

    fn ask(&self, build: &Build, _: &Session) -> Result<BTreeMap<String, Vec<u8>>> {
        Ok(BTreeMap::from([("result.txt".to_owned(), build.attrs["requestid"].clone().into_bytes())]))
    }

    fn usage(&self, _: &[String]) -> Result<Vec<UsageRecord>> {
        Ok(Vec::new())
    }

    fn prune(&self, _: &PruneRequest) -> Result<Vec<UsageRecord>> {
        Ok(Vec::new())
    }

    fn platforms(&self) -> Vec<Platform> {
        vec![Platform { os: "linux".to_owned(), architecture: "amd64".to_owned(), ..Platform::default() }]
    }
}

struct Nothing;

impl Handler for Nothing {
    fn call(&self, call: &mut Call) -> std::result::Result<(), Status> {
        Err(Status::unimplemented(call.method()))
    }
}

const CONTROL: &str = "/moby.buildkit.v1.Control";
const GATEWAY: &str = "/moby.buildkit.v1.frontend.LLBBridge";

/// A server with one session `s`, whose client offers `/a/B` and answers nothing.
fn server() -> (Pair, UnixStream) {
    let sessions = Arc::new(Sessions::default());
    let (ours, theirs) = UnixStream::pair().expect("pair");
    let cut = ours.try_clone().expect("clone");
    std::thread::spawn(move || drop(serve(Socket::new(theirs.into(), Vec::new()), Arc::new(Nothing))));
    let carried = Arc::clone(&sessions);
    let offer = Offer { id: "s".to_owned(), methods: vec!["/a/B".to_owned()], ..Offer::default() };
    std::thread::spawn(move || drop(carried.carry(Socket::new(ours.into(), Vec::new()), offer)));
    (Pair::new(Arc::new(Service::new(Arc::new(Fake), sessions, "1.2"))), cut)
}

fn request(id: &str) -> SolveRequest {
    let image = Exporter { kind: "image".to_owned(), ..Exporter::default() };
    SolveRequest {
        reference: id.to_owned(),
        session: "s".to_owned(),
        exporters: vec![image],
        ..SolveRequest::default()
    }
}

fn gateway(pair: &Pair, id: &str, attrs: &[(&str, &str)]) -> GatewayResult {
    let metadata = [("buildkit-controlapi-buildid", id.to_owned())];
    let mut call = pair.client.open(&format!("{GATEWAY}/Solve"), &metadata).expect("open");
    let frontend_opt = attrs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let frontend = "dockerfile.v0".to_owned();
    call.send(&GatewaySolveRequest { frontend, frontend_opt, evaluate: false }).expect("sent");
    call.receive::<GatewaySolveResponse>().expect("answer").expect("one").result.expect("result")
}

fn give_back(pair: &Pair, id: &str, request: &ReturnRequest) {
    let metadata = [("buildkit-controlapi-buildid", id.to_owned())];
    let mut call = pair.client.open(&format!("{GATEWAY}/Return"), &metadata).expect("open");
    call.send(request).expect("sent");
    call.receive::<Empty>().expect("answer").expect("one");
}

#[test]
fn the_client_is_the_front_end() {
    let (pair, _cut) = server();
    let workers: ListWorkersResponse =
        pair.client.ask(&format!("{CONTROL}/ListWorkers"), &Empty {}).expect("workers");
    assert!(workers.record[0].labels.contains_key("org.mobyproject.buildkit.worker.snapshotter"));
    // The status is asked for before the build is there.
    let mut status = pair.client.open(&format!("{CONTROL}/Status"), &[]).expect("open");
    status.send(&StatusRequest { reference: "b".to_owned() }).expect("sent");
    let mut solve = pair.client.open(&format!("{CONTROL}/Solve"), &[]).expect("open");
    solve.send(&request("b")).expect("sent");
    let lint = gateway(&pair, "b", &[("requestid", "frontend.lint")]);
    assert_eq!((lint.metadata["result.txt"].as_slice(), lint.single), (&b"frontend.lint"[..], None));
    let result = gateway(&pair, "b", &[("target", "one")]);
    give_back(&pair, "b", &ReturnRequest { result: Some(result), error: None });
    let built = solve.receive::<SolveResponse>().expect("built").expect("one").exporter_response;
    assert_eq!(
        (built["target"].as_str(), built["outputs"].as_str(), built["offers"].as_str()),
        ("one", "1", "true")
    );
    let report = status.receive::<StatusResponse>().expect("status").expect("one");
    assert_eq!(report.vertexes[0].name, "step");
    assert_eq!(status.receive::<StatusResponse>().expect("end"), None);
}

#[test]
fn failures_of_the_client_and_cancelled_builds_end() {
    let (pair, _cut) = server();
    let mut solve = pair.client.open(&format!("{CONTROL}/Solve"), &[]).expect("open");
    solve.send(&request("f")).expect("sent");
    let error = RpcStatus { code: 3, message: "no such file".to_owned() };
    give_back(&pair, "f", &ReturnRequest { result: None, error: Some(error) });
    let failed = solve.receive::<SolveResponse>().expect_err("failed");
    assert_eq!((failed.code, failed.message.as_str()), (Code::InvalidArgument, "no such file"));

    let mut status = pair.client.open(&format!("{CONTROL}/Status"), &[]).expect("open");
    status.send(&StatusRequest { reference: "w".to_owned() }).expect("sent");
    let solve = pair.client.open(&format!("{CONTROL}/Solve"), &[]).expect("open");
    solve.send(&request("w")).expect("sent");
    let result = gateway(&pair, "w", &[("target", "wait")]);
    give_back(&pair, "w", &ReturnRequest { result: Some(result), error: None });
    assert!(status.receive::<StatusResponse>().expect("status").is_some());
    drop(solve);
    // Ends although nobody waits for the build: it was told that the client has given up.
    assert_eq!(status.receive::<StatusResponse>().expect("end"), None);
}

#[test]
fn a_build_without_a_session_or_with_a_known_id_is_refused() {
    let (pair, _cut) = server();
    let mut first = pair.client.open(&format!("{CONTROL}/Solve"), &[]).expect("open");
    first.send(&request("x")).expect("sent");
    // The gateway knows it now.
    let _ = gateway(&pair, "x", &[("target", "one")]);
    let again =
        pair.client.ask::<SolveResponse>(&format!("{CONTROL}/Solve"), &request("x")).expect_err("known");
    assert_eq!(again.code, Code::InvalidArgument);
    give_back(&pair, "x", &ReturnRequest::default());
    assert!(first.receive::<SolveResponse>().expect("nothing to build").is_some());
    let stranger =
        SolveRequest { session: "nobody".to_owned(), frontend: "dockerfile.v0".to_owned(), ..request("y") };
    let refused =
        pair.client.ask::<SolveResponse>(&format!("{CONTROL}/Solve"), &stranger).expect_err("no session");
    assert_eq!(refused.code, Code::Unavailable);
}
