//! Carries a client's build out: brings its files, runs `fluyt build`, tells of it, hands over what comes of it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use fluyt_build::ignore::Ignore;
use fluyt_buildkit::proto::{Platform, PruneRequest, Timestamp, UsageRecord};
use fluyt_buildkit::{Build, Builder, Built, Selection, Session, Sink};
use fluyt_docker_api::api::{Builds as _, PruneBuilds};
use fluyt_docker_api::local::Local;
use fluyt_engine::Engine;
use fluyt_image::NewLayer;
use fluyt_model::error::IoContext;
use fluyt_model::{Error, Kind, Result};
use serde_json::Value;

use super::credentials;
use super::flags::{self, Handed};
use super::hidden::{self, Hidden};
use super::status::Teller;

/// The longest Dockerfile or list of patterns.
const MAX_TEXT: u64 = 16 << 20;
/// How much of what a build says beside its status is kept: its last words are why it failed.
const LAST_WORDS: usize = 64 << 10;

/// Builds in processes of their own.
pub struct Builds {
    root: PathBuf,
}

/// A build that is prepared: everything it needs is here.
struct Prepared {
    flags: Vec<String>,
    /// The context: a directory, an address, or `-`.
    context: String,
    /// What is on standard input, with `-`.
    input: Option<File>,
    /// What the client gets, by the output's number.
    handed: Vec<(usize, Handed)>,
    path: PathBuf,
    /// Sockets that are listened at for as long as the build runs.
    listeners: Vec<(UnixListener, Purpose)>,
    _scratch: NewLayer,
    /// What the build reads when it begins.
    secrets: Vec<Hidden>,
}

/// A process that is ready to be started, and its words, which it reads when it begins.
struct Asked {
    command: Command,
    words: Hidden,
}

impl Asked {
    /// Runs it to its end.
    fn output(mut self, about: &str) -> Result<std::process::Output> {
        let output = self.command.output().about(|| about.to_owned());
        drop(self.words);
        output
    }
}

/// What a socket is for.
enum Purpose {
    Credentials,
    Agent(String),
}

impl Builds {
    /// For a data root.
    pub fn new(root: &Path) -> Self {
        // Builds have another working directory.
        Self { root: std::path::absolute(root).unwrap_or_else(|_| root.to_owned()) }
    }

    /// `fluyt build` with the flags of what was prepared, and these.
    fn command(&self, prepared: &Prepared, more: &[&str]) -> Result<Asked> {
        let program = program()?;
        let dir = prepared.path.join("client");
        std::fs::create_dir(&dir).about(|| dir.display().to_string())?;
        let (bin, _) = credentials::prepare(&dir, &program)?;
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new(&program);
        let given = prepared.flags.iter().map(String::as_str).chain(more.iter().copied());
        let words = ["--root".as_ref(), self.root.as_os_str(), "build".as_ref()];
        let words = words.into_iter().chain(given.map(OsStr::new));
        let words = Hidden::words(words.chain(["--".as_ref(), prepared.context.as_ref()]))?;
        command
            .args([hidden::ROLE, &words.path()])
            // What the client calls an address is none of the files that happen to be here.
            .current_dir(&dir)
            .env("DOCKER_CONFIG", &dir)
            // What this process's user has logged in with is not the client's.
            .env("REGISTRY_AUTH_FILE", dir.join("auth.json"))
            .env("PATH", format!("{}:{path}", bin.display()))
            // A repository that a client sends is not to be looked at: its configuration may name programs.
            .env("BUILDX_GIT_INFO", "false")
            .env(credentials::SOCKET, prepared.path.join("credentials.sock"));
        // What concerns this process, or would change what the client asked for.
        for name in [
            "DOCKER_HOST",
            "DOCKER_CONTEXT",
            "DOCKER_DEFAULT_PLATFORM",
            "SOURCE_DATE_EPOCH",
            "BUILDKIT_PROGRESS",
            "SSH_AUTH_SOCK",
            "LISTEN_FDS",
            "LISTEN_PID",
            "NOTIFY_SOCKET",
        ] {
            command.env_remove(name);
        }
        command.stdin(
            prepared
                .input
                .as_ref()
                .map_or(Ok(Stdio::null()), |mut f| f.rewind().and_then(|()| f.try_clone()).map(Stdio::from))
                .about(|| "the context")?,
        );
        Ok(Asked { command, words })
    }

    fn prepare(&self, build: &Build, session: &Session) -> Result<Prepared> {
        if !matches!(build.frontend.as_str(), "dockerfile.v0" | "gateway.v0") {
            return Err(Error::unsupported(format!("the front end {:?}", build.frontend)));
        }
        let engine = Engine::open(&self.root)?;
        let scratch = engine.images().new_layer()?;
        let path = scratch.dir().to_owned();
        let listener = bind(&path.join("credentials.sock"))?;
        let mut prepared = Prepared {
            flags: flags::of_attributes(build)?,
            context: String::new(),
            input: None,
            handed: Vec::new(),
            path: path.clone(),
            listeners: vec![(listener, Purpose::Credentials)],
            _scratch: scratch,
            secrets: Vec::new(),
        };
        let text = files(&mut prepared, build, session)?;
        named_contexts(&mut prepared, build, session)?;
        if text.is_none_or(|text| text.contains("type=secret") || text.contains("type=ssh")) {
            self.private(&mut prepared, session)?;
        }
        Ok(prepared)
    }

    /// Secrets and agents that the Dockerfile speaks of, as far as the client has them.
    fn private(&self, prepared: &mut Prepared, session: &Session) -> Result<()> {
        let mut outline = self.command(prepared, &["--call=outline,format=json"])?;
        outline.command.stderr(Stdio::null());
        let answer = outline.output("asking for the secrets of a build")?;
        std::fs::remove_dir_all(prepared.path.join("client")).about(|| "a build's directory")?;
        // What is wrong with the file, the build itself says.
        let Ok(outline) = serde_json::from_slice::<Value>(&answer.stdout) else { return Ok(()) };
        let names = |key: &str| -> Vec<String> {
            let list = outline[key].as_array().map(Vec::as_slice).unwrap_or_default();
            list.iter().filter_map(|entry| entry["name"].as_str()).map(str::to_owned).collect()
        };
        for id in names("secrets") {
            let Some(content) = session.secret(&id)? else { continue };
            let kept = Hidden::new(&content)?;
            let attrs = BTreeMap::from([("id".to_owned(), id), ("src".to_owned(), kept.path())]);
            prepared.flags.push(format!("--secret={}", flags::fields("file", &attrs)?));
            prepared.secrets.push(kept);
        }
        for (number, id) in names("ssh").into_iter().enumerate() {
            // The rest would be read as the place of an agent.
            if id.contains('=') {
                return Err(Error::invalid(format!("invalid id of an SSH agent {id:?}")));
            }
            if session.has_agent(&id)? {
                let path = prepared.path.join(format!("agent-{number}.sock"));
                prepared.listeners.push((bind(&path)?, Purpose::Agent(id.clone())));
                prepared.flags.push(format!("--ssh={id}={}", path.display()));
            }
        }
        Ok(())
    }

    /// Runs the build, with what it needs of the client at hand.
    fn run(&self, prepared: &Prepared, session: &Session, sink: &Sink) -> Result<()> {
        let Asked { command, words } = self.command(prepared, &["--progress=rawjson"])?;
        std::thread::scope(|scope| {
            for (listener, purpose) in &prepared.listeners {
                scope.spawn(move || match purpose {
                    Purpose::Credentials => credentials::serve(listener, session),
                    Purpose::Agent(id) => session.forward_agent(id, listener),
                });
            }
            let done = carry_out(command, sink);
            drop(words);
            for (listener, _) in &prepared.listeners {
                // Ends the thread that accepts.
                let _ = rustix::net::shutdown(listener, rustix::net::Shutdown::Both);
            }
            done
        })
    }
}

impl Builder for Builds {
    fn build(&self, build: &Build, session: &Session, sink: &Sink) -> Result<Built> {
        let mut prepared = self.prepare(build, session)?;
        let (outputs, handed) = flags::of_outputs(&build.exporters, &prepared.path)?;
        let metadata = prepared.path.join("metadata.json");
        prepared.flags.extend(outputs);
        prepared.flags.push(format!("--metadata-file={}", metadata.display()));
        prepared.handed = handed;
        self.run(&prepared, session, sink)?;
        for (number, handed) in &prepared.handed {
            match handed {
                Handed::Directory(path) => session.send_directory(*number, path)?,
                Handed::File(path) => {
                    let mut to = session.file(*number, &BTreeMap::new())?;
                    let mut from = File::open(path).about(|| path.display().to_string())?;
                    std::io::copy(&mut from, &mut to).about(|| "sending an output to the client")?;
                    to.finish()?;
                }
            }
        }
        let text = std::fs::read(&metadata).about(|| metadata.display().to_string())?;
        let document: BTreeMap<String, Value> = serde_json::from_slice(&text)
            .map_err(|e| Error::internal("what a build tells of itself").with_source(e))?;
        Ok(document
            .into_iter()
            .filter(|(key, _)| !key.starts_with("buildx."))
            .map(|(k, v)| (k, word(v)))
            .collect())
    }

    fn ask(&self, build: &Build, session: &Session) -> Result<BTreeMap<String, Vec<u8>>> {
        let question = build.attrs.get("requestid").map(String::as_str).unwrap_or_default();
        let (call, version) = match question {
            "frontend.lint" => ("check", "1.0.0"),
            "frontend.outline" => ("outline", "1.0.0"),
            "frontend.targets" => ("targets", "1.0.0"),
            "frontend.subrequests.describe" => return Ok(described()),
            other => return Err(Error::unsupported(format!("unknown request type {other:?}"))),
        };
        let prepared = self.prepare(build, session)?;
        let asking = "asking about a Dockerfile";
        let question = format!("--call={call},format=json,ignorestatus=true");
        let json = self.command(&prepared, &[&question])?.output(asking)?;
        if !json.status.success() {
            return Err(failure(&json.stderr, "the Dockerfile cannot be read"));
        }
        std::fs::remove_dir_all(prepared.path.join("client")).about(|| "a build's directory")?;
        let question = format!("--call={call},ignorestatus=true");
        let text = self.command(&prepared, &[&question])?.output(asking)?;
        Ok(BTreeMap::from([
            ("result.json".to_owned(), json.stdout),
            ("result.txt".to_owned(), text.stdout),
            ("version".to_owned(), version.as_bytes().to_vec()),
        ]))
    }

    fn usage(&self, _: &[String]) -> Result<Vec<UsageRecord>> {
        let entries = Engine::open(&self.root)?.build_cache()?;
        let time = |seconds: i64| Some(Timestamp { seconds, nanos: 0 });
        let record = |entry: fluyt_engine::build_cache::CacheEntry| UsageRecord {
            id: entry.id,
            mutable: entry.mutable,
            in_use: entry.in_use,
            size: i64::try_from(entry.size).unwrap_or(i64::MAX),
            created_at: time(entry.created),
            last_used_at: time(entry.used),
            usage_count: i64::try_from(entry.uses).unwrap_or(i64::MAX),
            description: entry.description,
            record_type: entry.kind,
            shared: entry.shared,
            parents: Some(entry.parent).into_iter().filter(|parent| !parent.is_empty()).collect(),
        };
        Ok(entries.into_iter().map(record).collect())
    }

    fn prune(&self, request: &PruneRequest) -> Result<Vec<UsageRecord>> {
        let bytes = |n: i64| u64::try_from(n).ok().filter(|n| *n > 0);
        let wanted = PruneBuilds {
            all: request.all,
            reserved_space: bytes(request.reserved_space),
            max_used_space: bytes(request.max_used_space),
            min_free_space: bytes(request.min_free_space),
            ..PruneBuilds::default()
        };
        if !request.filter.is_empty() || request.keep_duration > 0 {
            return Err(Error::unsupported("filters when the build cache is pruned by buildx").with_hint(
                "`fluyt builder prune --filter …` and `docker builder prune --filter …` have them",
            ));
        }
        let before = self.usage(&[])?;
        Local::open(&self.root)?.build_prune(&wanted)?;
        let left = self.usage(&[])?;
        Ok(before.into_iter().filter(|record| !left.iter().any(|other| other.id == record.id)).collect())
    }

    fn platforms(&self) -> Vec<Platform> {
        let host = fluyt_image::Platform::host();
        vec![Platform {
            architecture: host.architecture.clone(),
            os: host.os.clone(),
            variant: host.variant.clone().unwrap_or_default(),
        }]
    }
}

/// This program.
fn program() -> Result<PathBuf> {
    std::env::current_exe().about(|| "/proc/self/exe")
}

fn bind(path: &Path) -> Result<UnixListener> {
    UnixListener::bind(path).about(|| path.display().to_string())
}

/// Brings Dockerfile and context; the Dockerfile's text, if it is here.
fn files(prepared: &mut Prepared, build: &Build, session: &Session) -> Result<Option<String>> {
    let attr = |name: &str| build.attrs.get(name).map(String::as_str).filter(|value| !value.is_empty());
    let name = attr("filename").unwrap_or("Dockerfile");
    if let Some(address) = attr("context") {
        if let Some(rest) = address.strip_prefix("http://buildkit-session/") {
            let path = prepared.path.join("upload");
            let mut to = File::create_new(&path).about(|| path.display().to_string())?;
            let mut from = session.upload("buildkit-session", &format!("/{rest}"))?;
            std::io::copy(&mut from, &mut to).about(|| "the client's context")?;
            prepared.input = Some(File::open(&path).about(|| path.display().to_string())?);
            prepared.context = "-".to_owned();
            prepared.flags.push(format!("--file={name}"));
            return Ok(None);
        }
        if let Some(input) = address.strip_prefix("input:") {
            return Err(Error::unsupported(format!("the result of another build as context: {input}")));
        }
        if !flags::is_address(address)? {
            return Err(Error::invalid(format!("unsupported context source {address:?}")).with_hint(
                "the client sends its own files; addresses of repositories and archives are fetched",
            ));
        }
        address.clone_into(&mut prepared.context);
        prepared.flags.push(format!("--file={name}"));
        return Ok(None);
    }
    let (own, file) = (prepared.path.join("dockerfile"), Path::new(name));
    let plain = file.components().all(|part| matches!(part, std::path::Component::Normal(_)));
    if !plain {
        return Err(Error::invalid(format!("invalid Dockerfile name {name:?}")));
    }
    make(&own)?;
    let ignore_name = format!("{name}.dockerignore");
    let follow = vec![name.to_owned(), ignore_name.clone(), name.to_lowercase()];
    session.directory(
        attr("dockerfilekey").unwrap_or("dockerfile"),
        &Selection { follow, ..Selection::default() },
        &own,
    )?;
    let text = read(&own, name)?.map_or_else(|| read(&own, &name.to_lowercase()), |text| Ok(Some(text)))?;
    let text = text.ok_or_else(|| {
        Error::new(
            Kind::NotFound,
            format!("failed to read dockerfile: open {name}: no such file or directory"),
        )
    })?;
    // Written anew: what a link of the client's would lead to is not the host's.
    let kept = prepared.path.join("file");
    make(&kept)?;
    let base = file.file_name().map_or_else(|| "Dockerfile".into(), |n| n.to_string_lossy().into_owned());
    let path = kept.join(&base);
    std::fs::write(&path, &text).about(|| path.display().to_string())?;
    prepared.flags.push(format!("--file={}", path.display()));
    let context = prepared.path.join("context");
    make(&context)?;
    prepared.context = context.display().to_string();
    let local = attr("contextkey").unwrap_or("context");
    let patterns = match read(&own, &ignore_name)? {
        Some(patterns) => Some(patterns),
        None => {
            let probe = prepared.path.join("probe");
            make(&probe)?;
            let follow = vec![".dockerignore".to_owned()];
            session.directory(local, &Selection { follow, ..Selection::default() }, &probe)?;
            read(&probe, ".dockerignore")?
        }
    };
    if let Some(text) = &patterns {
        // For a message in the builder's words, before the client looks at them.
        Ignore::parse(text).map_err(|f| f.error)?;
        let path = kept.join(format!("{base}.dockerignore"));
        std::fs::write(&path, text).about(|| path.display().to_string())?;
    }
    let exclude = patterns.as_deref().map(flags::patterns).unwrap_or_default();
    if uses_context(&text) {
        session.directory(local, &Selection { exclude, ..Selection::default() }, &context)?;
    }
    Ok(Some(text))
}

/// Whether anything in a Dockerfile may want the context. A base image with `ONBUILD` may want it, too, but is not known
/// yet: only a file that copies, adds or mounts nothing from anywhere and has one stage is sure.
fn uses_context(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    !lower.lines().map(str::trim_start).all(|line| {
        line.is_empty()
            || ["#", "from scratch", "run ", "env ", "cmd ", "label ", "arg "]
                .iter()
                .any(|w| line.starts_with(w))
    }) || lower.contains("--mount")
}

/// Brings directories that have names.
fn named_contexts(prepared: &mut Prepared, build: &Build, session: &Session) -> Result<()> {
    for (number, (key, value)) in
        build.attrs.iter().filter(|(key, _)| key.starts_with("context:")).enumerate()
    {
        let name = key.trim_start_matches("context:");
        let value = if let Some(local) = value.strip_prefix("local:") {
            let path = prepared.path.join(format!("named-{number}"));
            make(&path)?;
            let probe = prepared.path.join(format!("probe-{number}"));
            make(&probe)?;
            let follow = vec![".dockerignore".to_owned()];
            session.directory(local, &Selection { follow, ..Selection::default() }, &probe)?;
            let exclude = read(&probe, ".dockerignore")?.as_deref().map(flags::patterns).unwrap_or_default();
            session.directory(local, &Selection { exclude, ..Selection::default() }, &path)?;
            path.display().to_string()
        } else if value.starts_with("input:") || value.starts_with("oci-layout://") {
            return Err(Error::unsupported(format!("--build-context {name}={value} from this client"))
                .with_hint("build with `fluyt build`, which has layouts at hand"));
        } else if ["docker-image://", "target:"].iter().any(|scheme| value.starts_with(scheme))
            || flags::is_address(value)?
        {
            value.clone()
        } else {
            return Err(Error::invalid(format!("unsupported context source {value:?} for {name}")));
        };
        // The rest would be read as the place of the context.
        if name.contains('=') {
            return Err(Error::invalid(format!("invalid name of a context {name:?}")));
        }
        prepared.flags.push(format!("--build-context={name}={value}"));
    }
    Ok(())
}

fn make(path: &Path) -> Result<()> {
    std::fs::create_dir(path).about(|| path.display().to_string())
}

/// A text of a directory that came from the client; links are not followed out of it.
fn read(dir: &Path, name: &str) -> Result<Option<String>> {
    use fluyt_build::solve::tree;
    use rustix::fs::OFlags;
    let root = tree::open_dir(dir)?;
    let Ok(fd) = root.open(name, OFlags::RDONLY | OFlags::NONBLOCK) else { return Ok(None) };
    let file = File::from(fd);
    if !file.metadata().about(|| name.to_owned())?.is_file() {
        return Ok(None);
    }
    let mut text = String::new();
    file.take(MAX_TEXT).read_to_string(&mut text).about(|| name.to_owned())?;
    Ok(Some(text))
}

/// Runs a build, tells what it tells, and waits for its end.
fn carry_out(mut command: Command, sink: &Sink) -> Result<()> {
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().about(|| "starting a build")?;
    let child = Arc::new(Mutex::new(child));
    let told = lock(&child).stderr.take();
    let killed = Arc::clone(&child);
    sink.when_cancelled(move || {
        let child = lock(&killed);
        // The build's own process cleans up; the steps end with it.
        if let Some(pid) = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
    });
    let (mut teller, mut words) = (Teller::default(), Vec::new());
    let mut lines = BufReader::new(told.ok_or_else(|| Error::internal("a build without a voice"))?);
    let mut line = Vec::new();
    while lines.read_until(b'\n', &mut line).about(|| "a build's status")? > 0 {
        let text = String::from_utf8_lossy(&line);
        match teller.line(text.trim_end(), now()) {
            Some(status) => sink.tell(status),
            None => {
                words.extend_from_slice(&line);
                if words.len() > 2 * LAST_WORDS {
                    words.drain(..LAST_WORDS);
                }
            }
        }
        line.clear();
    }
    let status = wait(&child)?;
    match status.success() {
        true => Ok(()),
        false if sink.is_cancelled() => Err(Error::new(Kind::Unavailable, "context canceled")),
        false => Err(failure(&words, "the build ended without a word")),
    }
}

/// Waits without keeping the lock, which whoever cancels needs: its end of the pipe is closed, so it ends at once.
fn wait(child: &Mutex<Child>) -> Result<std::process::ExitStatus> {
    loop {
        if let Some(status) = lock(child).try_wait().about(|| "a build")? {
            return Ok(status);
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}

fn lock(child: &Mutex<Child>) -> std::sync::MutexGuard<'_, Child> {
    child.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The error that a build ended with, of all it said.
fn failure(words: &[u8], otherwise: &str) -> Error {
    let text = String::from_utf8_lossy(words);
    let Some(at) = text.rfind("fluyt: ") else {
        let text = text.trim();
        return Error::internal(if text.is_empty() { otherwise } else { text });
    };
    let said = text[at + "fluyt: ".len()..].trim_end();
    let (said, hint) = said.split_once("\nhint: ").map_or((said, None), |(said, hint)| (said, Some(hint)));
    let said = said.strip_prefix("failed to build: ").unwrap_or(said);
    let said = said.strip_prefix("failed to solve: ").unwrap_or(said);
    match hint {
        Some(hint) => Error::new(Kind::Internal, said).with_hint(hint),
        None => Error::new(Kind::Internal, said),
    }
}

/// A value as the client wants it: a text, or JSON in base64.
fn word(value: Value) -> String {
    match value {
        Value::String(text) => text,
        other => BASE64.encode(other.to_string()),
    }
}

fn described() -> BTreeMap<String, Vec<u8>> {
    let names = ["frontend.lint", "frontend.outline", "frontend.targets"];
    let all: Vec<Value> = names
        .iter()
        .map(|name| serde_json::json!({"name": name, "version": "1.0.0", "type": "rpc"}))
        .collect();
    let text = names.join("\n") + "\n";
    BTreeMap::from([
        ("result.json".to_owned(), Value::from(all).to_string().into_bytes()),
        ("result.txt".to_owned(), text.into_bytes()),
        ("version".to_owned(), b"1.0.0".to_vec()),
    ])
}

fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}
