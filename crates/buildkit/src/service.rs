//! `moby.buildkit.v1.Control` and the gateway of a build (`moby.buildkit.v1.frontend.LLBBridge`).
//!
//! buildx is a front end itself: it begins a build without one (`Control/Solve`), asks the gateway for the result of
//! `dockerfile.v0` (`LLBBridge/Solve`), and gives that back as its own (`Return`). Nothing is made before then: what the
//! gateway gives is a name for the attributes, and the build with all its outputs is one call of [`Builder::build`].

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fluyt_model::{Error, Kind, Result as ModelResult};

use crate::grpc::{Call, Code, Handler, Status};
use crate::proto::{
    ApiCap, BuildkitVersion, CacheEntry, DiskUsageRequest, DiskUsageResponse, Empty, Exporter, GatewayResult,
    GatewaySolveRequest, GatewaySolveResponse, InfoResponse, ListWorkersResponse, Platform, PongResponse,
    PruneRequest, Ref, ReturnRequest, SolveRequest, SolveResponse, StatusRequest, StatusResponse,
    UsageRecord, WorkerRecord,
};
use crate::session::{Session, Sessions};

/// How long a call about a build waits for that build.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long an ended build is remembered for who asks how it went.
const MEMORY: Duration = Duration::from_secs(60);
/// How many reports wait for a listener; after that the oldest are dropped.
const KEPT: usize = 4096;

/// The capabilities of front ends that the gateway has (BuildKit's `frontend/gateway/pb/caps.go`).
const FRONTEND_CAPS: &[&str] = &[
    "solve.base",
    "solve.inlinereturn",
    "return",
    "returnmap",
    "importcaches",
    "proto.refarray",
    "reference.output",
    "frontend.inputs",
    "frontend.caps",
    "gateway.solve.metadata",
    "gateway.solve.evaluate",
    "gateway.evaluate",
    "gateway.warnings",
];
/// Those of graphs that clients ask for (`solver/pb/caps.go`).
const LLB_CAPS: &[&str] = &[
    "source.image",
    "source.image.resolvemode",
    "source.local",
    "source.local.unique",
    "source.local.sessionid",
    "source.local.includepatterns",
    "source.local.followpaths",
    "source.local.excludepatterns",
    "source.local.sharedkeyhint",
    "source.git",
    "source.git.keepgitdir",
    "source.git.subdir",
    "source.http",
    "source.http.checksum",
    "exec.meta.base",
    "exec.meta.network",
    "exec.meta.proxyenv",
    "exec.meta.security",
    "exec.meta.ulimit",
    "exec.mount.bind",
    "exec.mount.cache",
    "exec.mount.tmpfs",
    "exec.mount.secret",
    "exec.mount.ssh",
    "exec.secretenv",
    "file.base",
    "platform",
    "constraints",
    "meta.ignorecache",
    "meta.description",
    "meta.exportcache",
    "exporter.image.annotations",
    "exporter.image.attestations",
    "exporter.sourcedateepoch",
    "exporter.multiple",
];

/// A build as a client asks for it.
#[derive(Clone, Debug, Default)]
pub struct Build {
    /// Its id.
    pub id: String,
    /// The front end: `dockerfile.v0`, or `gateway.v0` for another image.
    pub frontend: String,
    /// The front end's attributes: `filename`, `target`, `build-arg:NAME`, …
    pub attrs: BTreeMap<String, String>,
    /// Outputs.
    pub exporters: Vec<Exporter>,
    /// Caches that are written.
    pub cache_to: Vec<CacheEntry>,
    /// Caches that are read.
    pub cache_from: Vec<CacheEntry>,
    /// What steps may be allowed.
    pub entitlements: Vec<String>,
}

/// A front end and its attributes.
type Asked = (String, BTreeMap<String, String>);

/// The end of a build: what its outputs say (`containerimage.digest`, …).
pub type Built = BTreeMap<String, String>;

/// Who carries builds out.
pub trait Builder: Send + Sync + 'static {
    /// Builds; tells of it as it goes.
    ///
    /// # Errors
    /// Why there is no result.
    fn build(&self, build: &Build, session: &Session, sink: &Sink) -> ModelResult<Built>;

    /// Answers a question about a Dockerfile (`requestid`: `frontend.lint`, `frontend.outline`, `frontend.targets`).
    ///
    /// # Errors
    /// There is no such question, or the file cannot be read.
    fn ask(&self, build: &Build, session: &Session) -> ModelResult<BTreeMap<String, Vec<u8>>>;

    /// What is in the build cache.
    ///
    /// # Errors
    /// The records.
    fn usage(&self, filters: &[String]) -> ModelResult<Vec<UsageRecord>>;

    /// Makes room in the build cache; what went.
    ///
    /// # Errors
    /// The records.
    fn prune(&self, request: &PruneRequest) -> ModelResult<Vec<UsageRecord>>;

    /// What steps can be run for.
    fn platforms(&self) -> Vec<Platform>;
}

/// Where a build tells how it goes.
#[derive(Default)]
pub struct Sink {
    state: Mutex<State>,
    changed: Condvar,
    cancelled: AtomicBool,
    on_cancel: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

#[derive(Default)]
struct State {
    reports: VecDeque<StatusResponse>,
    /// The attributes behind the names that the gateway gave.
    results: HashMap<String, Asked>,
    /// What the client gave back, by name; an empty name is no result.
    returned: Option<Result<String, Status>>,
    session: String,
    ended: Option<Instant>,
}

impl Sink {
    /// Tells something.
    pub fn tell(&self, report: StatusResponse) {
        let mut state = self.lock();
        if state.reports.len() >= KEPT {
            state.reports.pop_front();
        }
        state.reports.push_back(report);
        self.changed.notify_all();
    }

    /// Whether the client has given up.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::SeqCst)
    }

    /// Has `hook` called when the client gives up; at once if it has.
    pub fn when_cancelled(&self, hook: impl FnOnce() + Send + 'static) {
        *self.on_cancel.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(hook));
        if self.is_cancelled() {
            self.cancel();
        }
    }

    fn cancel(&self) {
        self.cancelled.store(true, Ordering::SeqCst);
        let hook = self.on_cancel.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(hook) = hook {
            hook();
        }
        self.changed.notify_all();
    }

    fn end(&self) {
        self.lock().ended = Some(Instant::now());
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let waited = self.changed.wait_timeout(state, Duration::from_secs(1));
        waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// Answers the calls of one server's clients.
pub struct Service {
    builder: Arc<dyn Builder>,
    sessions: Arc<Sessions>,
    builds: Mutex<HashMap<String, Arc<Sink>>>,
    begun: Condvar,
    version: String,
}

impl Service {
    /// For a builder, and the sessions of the same server; `version` is what clients are told.
    pub fn new(builder: Arc<dyn Builder>, sessions: Arc<Sessions>, version: &str) -> Self {
        Self {
            builder,
            sessions,
            builds: Mutex::default(),
            begun: Condvar::new(),
            version: version.to_owned(),
        }
    }

    fn begin(&self, id: &str, session: &str) -> Result<Arc<Sink>, Status> {
        let mut builds = self.builds.lock().unwrap_or_else(PoisonError::into_inner);
        builds.retain(|_, sink| sink.lock().ended.is_none_or(|ended| ended.elapsed() < MEMORY));
        if builds.contains_key(id) {
            return Err(Status::new(Code::InvalidArgument, format!("there is a build {id} already")));
        }
        let sink = Arc::new(Sink::default());
        session.clone_into(&mut sink.lock().session);
        builds.insert(id.to_owned(), Arc::clone(&sink));
        self.begun.notify_all();
        Ok(sink)
    }

    /// The build with this id; waits a while for one that has not begun yet.
    fn find(&self, id: &str) -> Result<Arc<Sink>, Status> {
        let until = Instant::now() + PATIENCE;
        let mut builds = self.builds.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(sink) = builds.get(id) {
                return Ok(Arc::clone(sink));
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Status::new(Code::NotFound, format!("no such job {id}")));
            }
            builds = self.begun.wait_timeout(builds, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn solve(&self, call: &mut Call) -> Result<(), Status> {
        let request: SolveRequest = call.request()?;
        let sink = self.begin(&request.reference, &request.session)?;
        let watched = Arc::clone(&sink);
        call.when_cancelled(move || watched.cancel());
        let built = self.carry_out(request, &sink);
        sink.end();
        call.send(&SolveResponse { exporter_response: built? })
    }

    fn carry_out(&self, request: SolveRequest, sink: &Sink) -> Result<Built, Status> {
        let mut build = Build {
            id: request.reference,
            frontend: request.frontend,
            attrs: request.frontend_attrs,
            exporters: request.exporters,
            entitlements: request.entitlements,
            ..Build::default()
        };
        if build.exporters.is_empty() && !request.exporter_deprecated.is_empty() {
            let attrs = request.exporter_attrs_deprecated;
            build.exporters.push(Exporter { kind: request.exporter_deprecated, attrs });
        }
        if let Some(cache) = request.cache {
            (build.cache_to, build.cache_from) = (cache.exports, cache.imports);
        }
        if build.frontend.is_empty() {
            let Some((frontend, attrs)) = returned(sink)? else { return Ok(Built::new()) };
            build.frontend = frontend;
            build.attrs.extend(attrs);
        }
        let session = self.sessions.get(&request.session).map_err(status)?;
        self.builder.build(&build, &session, sink).map_err(status)
    }

    /// Tells how a build goes, until it has ended and all is told.
    fn status(&self, call: &mut Call) -> Result<(), Status> {
        let request: StatusRequest = call.request()?;
        let sink = self.find(&request.reference)?;
        loop {
            let mut state = sink.lock();
            let reports = std::mem::take(&mut state.reports);
            if reports.is_empty() {
                if state.ended.is_some() || call.is_cancelled() {
                    return Ok(());
                }
                drop(sink.wait(state));
                continue;
            }
            drop(state);
            for report in &reports {
                call.send(report)?;
            }
        }
    }

    /// What the gateway is asked in the name of the build that the metadata names.
    fn gateway(&self, method: &str, call: &mut Call) -> Result<(), Status> {
        let id = call.metadata("buildkit-controlapi-buildid").unwrap_or_default().to_owned();
        let sink = self.find(&id)?;
        match method {
            "Ping" => call.send(&PongResponse {
                frontend_caps: caps(FRONTEND_CAPS),
                llb_caps: caps(LLB_CAPS),
                workers: vec![self.worker()],
            }),
            "Solve" => {
                let request: GatewaySolveRequest = call.request()?;
                if request.frontend.is_empty() {
                    return Err(Status::new(
                        Code::Unimplemented,
                        "graphs of the client's own (LLB) are not understood; front ends are",
                    ));
                }
                let result = self.frontend(&id, &sink, request)?;
                call.send(&GatewaySolveResponse { result: Some(result) })
            }
            "Return" => {
                let request: ReturnRequest = call.request()?;
                let returned = match (request.error, request.result) {
                    (Some(error), _) => Err(Status::new(
                        Code::from_number(u32::try_from(error.code).unwrap_or(2)),
                        error.message,
                    )),
                    (None, result) => Ok(result.map(name_of).unwrap_or_default()),
                };
                sink.lock().returned = Some(returned);
                sink.changed.notify_all();
                call.send(&Empty {})
            }
            "Inputs" | "Evaluate" | "Warn" => call.send(&Empty {}),
            _ => Err(Status::unimplemented(call.method())),
        }
    }

    fn frontend(&self, id: &str, sink: &Sink, request: GatewaySolveRequest) -> Result<GatewayResult, Status> {
        let (frontend, attrs) = (request.frontend, request.frontend_opt);
        if attrs.contains_key("requestid") {
            let session = self.sessions.get(&sink.lock().session.clone()).map_err(status)?;
            let build = Build { id: id.to_owned(), frontend, attrs, ..Build::default() };
            let metadata = self.builder.ask(&build, &session).map_err(status)?;
            return Ok(GatewayResult { metadata, ..GatewayResult::default() });
        }
        let mut state = sink.lock();
        let name = format!("{id}/{}", state.results.len());
        state.results.insert(name.clone(), (frontend, attrs));
        Ok(GatewayResult { single: Some(Ref { id: name }), ..GatewayResult::default() })
    }

    fn worker(&self) -> WorkerRecord {
        // With this label clients ask for all outputs that an image store has, not only for those of old daemons.
        let label = ("org.mobyproject.buildkit.worker.snapshotter".to_owned(), "overlayfs".to_owned());
        WorkerRecord {
            id: "fluyt".to_owned(),
            labels: BTreeMap::from([label]),
            platforms: self.builder.platforms(),
            version: Some(self.builder_version()),
        }
    }

    fn builder_version(&self) -> BuildkitVersion {
        BuildkitVersion {
            package: "github.com/fluyt/fluyt".to_owned(),
            version: format!("v{}", self.version),
            ..BuildkitVersion::default()
        }
    }

    fn control(&self, method: &str, call: &mut Call) -> Result<(), Status> {
        match method {
            "Solve" => self.solve(call),
            "Status" => self.status(call),
            "ListWorkers" => call.send(&ListWorkersResponse { record: vec![self.worker()] }),
            "Info" => call.send(&InfoResponse { version: Some(self.builder_version()) }),
            "DiskUsage" => {
                let request: DiskUsageRequest = call.request()?;
                let record = self.builder.usage(&request.filter).map_err(status)?;
                call.send(&DiskUsageResponse { record })
            }
            "Prune" => {
                let request: PruneRequest = call.request()?;
                for record in self.builder.prune(&request).map_err(status)? {
                    call.send(&record)?;
                }
                Ok(())
            }
            // Nothing is remembered of builds that were.
            "ListenBuildHistory" => Ok(()),
            "UpdateBuildHistory" => call.send(&Empty {}),
            _ => Err(Status::unimplemented(call.method())),
        }
    }
}

impl Handler for Service {
    fn call(&self, call: &mut Call) -> Result<(), Status> {
        let method = call.method().to_owned();
        match method.rsplit_once('/') {
            Some(("/moby.buildkit.v1.Control", name)) => self.control(name, call),
            Some(("/moby.buildkit.v1.frontend.LLBBridge", name)) => self.gateway(name, call),
            _ => Err(Status::unimplemented(&method)),
        }
    }
}

/// Waits for what the client gives back; none: there is nothing to build.
fn returned(sink: &Sink) -> Result<Option<Asked>, Status> {
    let mut state = sink.lock();
    loop {
        if sink.is_cancelled() {
            return Err(Status::new(Code::Cancelled, "context canceled"));
        }
        match state.returned.take() {
            Some(Ok(name)) if name.is_empty() => return Ok(None),
            Some(Ok(name)) => {
                let unknown = || Status::new(Code::InvalidArgument, format!("no such result {name}"));
                return state.results.get(&name).cloned().map(Some).ok_or_else(unknown);
            }
            Some(Err(status)) => return Err(status),
            None => state = sink.wait(state),
        }
    }
}

/// The name of a result; several of one build are the same.
fn name_of(result: GatewayResult) -> String {
    match (result.single, result.several) {
        (Some(one), _) => one.id,
        (None, Some(map)) => map.refs.into_values().next().map(|one| one.id).unwrap_or_default(),
        (None, None) => String::new(),
    }
}

fn caps(names: &[&str]) -> Vec<ApiCap> {
    names.iter().map(|id| ApiCap { id: (*id).to_owned(), enabled: true }).collect()
}

fn status(error: Error) -> Status {
    let code = match error.kind() {
        Kind::NotFound => Code::NotFound,
        Kind::Invalid => Code::InvalidArgument,
        Kind::PermissionDenied | Kind::Unauthorized => Code::PermissionDenied,
        Kind::Unsupported => Code::Unimplemented,
        Kind::Unavailable => Code::Unavailable,
        Kind::Exhausted => Code::ResourceExhausted,
        _ => Code::Unknown,
    };
    Status::new(code, error.chain().to_string())
}
