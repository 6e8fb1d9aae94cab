//! What the tests share: images made of bytes, a server that misbehaves on request, Debian's registry.
#![allow(dead_code)]

mod noise;

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use fluyt_image::{Blobs, Descriptor, Digest, Lease, Store, oci};
use fluyt_model::reference::Reference;
use fluyt_registry::{CredentialFiles, Settings};

pub use noise::noise;

pub fn reference(text: &str) -> Reference {
    Reference::parse(text).expect("a reference")
}

/// Settings that wait for nothing long.
pub fn settings(dir: &Path) -> Settings {
    Settings {
        credentials: CredentialFiles { docker: Some(dir.join("config.json")), podman: Vec::new() },
        certificate_dirs: Vec::new(),
        connect_timeout: Duration::from_secs(5),
        read_timeout: Duration::from_secs(5),
        retry_pause: Duration::from_millis(10),
        longest_pause: Duration::from_secs(5),
        proxy_from_env: false,
        ..Settings::default()
    }
}

/// A store in a directory of its own, with a lease.
pub struct Place {
    pub dir: tempfile::TempDir,
    pub store: Store,
    pub lease: Lease,
}

impl Place {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Store::open(&dir.path().join("root")).expect("a store");
        let lease = store.lease().expect("a lease");
        Self { dir, store, lease }
    }

    pub fn blobs(&self) -> Blobs {
        self.lease.blobs()
    }

    pub fn settings(&self) -> Settings {
        settings(self.dir.path())
    }
}

/// An image of these layers, put into `blobs`; its manifest.
pub fn image(blobs: &Blobs, architecture: &str, layers: &[Vec<u8>]) -> Descriptor {
    let put = |bytes: &[u8], media_type: &str| {
        Descriptor::new(media_type, blobs.put_bytes(bytes).expect("stored"), bytes.len() as u64)
    };
    let diff_ids: Vec<String> =
        layers.iter().map(|l| Digest::of(&[l, &b"plain"[..]].concat()).to_string()).collect();
    let config = serde_json::json!({
        "architecture": architecture, "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    let config = put(config.to_string().as_bytes(), oci::OCI_CONFIG);
    let layers: Vec<Descriptor> = layers.iter().map(|l| put(l, oci::OCI_LAYER_GZIP)).collect();
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": oci::OCI_MANIFEST, "config": config, "layers": layers,
    });
    let mut descriptor = put(manifest.to_string().as_bytes(), oci::OCI_MANIFEST);
    descriptor.platform = Some(oci::Platform {
        architecture: architecture.to_owned(),
        os: "linux".to_owned(),
        os_version: None,
        variant: None,
    });
    descriptor
}

/// An index of these images.
pub fn index(blobs: &Blobs, images: &[Descriptor]) -> Descriptor {
    let index = serde_json::json!({"schemaVersion": 2, "mediaType": oci::OCI_INDEX, "manifests": images});
    let bytes = index.to_string().into_bytes();
    Descriptor::new(oci::OCI_INDEX, blobs.put_bytes(&bytes).expect("stored"), bytes.len() as u64)
}

/// A request as the server saw it.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    pub target: String,
    pub headers: HashMap<String, String>,
    pub body: Vec<u8>,
}

impl Seen {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

/// What the server does.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Send only so many bytes of the body, then close.
    pub cut: Option<usize>,
    /// Say nothing for this long, then close.
    pub hang: Option<Duration>,
    /// Send only so many bytes of the body until the gate opens, then the rest.
    pub held: Option<(usize, Gate)>,
}

/// Closed until somebody opens it; gives way by itself after a while, so that a failing test ends.
#[derive(Clone, Debug, Default)]
pub struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    pub fn open(&self) {
        *self.0.0.lock().expect("no panic") = true;
        self.0.1.notify_all();
    }

    /// Whether it was opened in time.
    pub fn wait(&self) -> bool {
        let guard = self.0.0.lock().expect("no panic");
        let (open, _) =
            self.0.1.wait_timeout_while(guard, Duration::from_secs(20), |open| !*open).expect("no panic");
        *open
    }
}

pub fn reply(status: u16, body: impl Into<Vec<u8>>) -> Reply {
    Reply { status, headers: Vec::new(), body: body.into(), cut: None, hang: None, held: None }
}

impl Reply {
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub fn cut(mut self, after: usize) -> Self {
        self.cut = Some(after);
        self
    }

    pub fn held(mut self, after: usize, gate: &Gate) -> Self {
        self.held = Some((after, gate.clone()));
        self
    }

    pub fn hang(mut self, time: Duration) -> Self {
        self.hang = Some(time);
        self
    }
}

/// A small HTTP server on a loopback port; it stops when dropped.
pub struct Server {
    pub host: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    stop: Arc<AtomicBool>,
}

impl Server {
    /// Answers each request by `handle(request, number of earlier requests with the same method and target)`.
    pub fn start(handle: impl Fn(&Seen, usize) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let host = listener.local_addr().expect("an address").to_string();
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let stop = Arc::new(AtomicBool::new(false));
        let (log, stopped, handle) = (Arc::clone(&seen), Arc::clone(&stop), Arc::new(handle));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let (log, handle) = (Arc::clone(&log), Arc::clone(&handle));
                std::thread::spawn(move || stream.map(|s| serve(s, &log, &*handle)));
            }
        });
        Self { host, seen, stop }
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("no panic").clone()
    }

    /// Requests whose target contains `part`.
    pub fn count(&self, part: &str) -> usize {
        self.seen().iter().filter(|s| s.target.contains(part)).count()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(&self.host);
    }
}

fn serve(stream: TcpStream, log: &Mutex<Vec<Seen>>, handle: &dyn Fn(&Seen, usize) -> Reply) {
    let _ = stream.set_read_timeout(Some(Duration::from_secs(20)));
    let Ok(mut writer) = stream.try_clone() else { return };
    let mut reader = BufReader::new(stream);
    while let Some(request) = read_request(&mut reader) {
        let earlier = {
            let mut log = log.lock().expect("no panic");
            let same = |s: &&Seen| s.method == request.method && s.target == request.target;
            let earlier = log.iter().filter(same).count();
            log.push(request.clone());
            earlier
        };
        let reply = handle(&request, earlier);
        if let Some(time) = reply.hang {
            std::thread::sleep(time);
            return;
        }
        let mut head = format!("HTTP/1.1 {} X\r\n", reply.status);
        if !reply.headers.iter().any(|(n, _)| n == "content-length") {
            head.push_str(&format!("content-length: {}\r\n", reply.body.len()));
        }
        for (name, value) in &reply.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        let body = if request.method == "HEAD" { &[][..] } else { &reply.body };
        let mut body = &body[..reply.cut.unwrap_or(body.len()).min(body.len())];
        if let Some((after, gate)) = &reply.held {
            let first;
            (first, body) = body.split_at((*after).min(body.len()));
            if writer.write_all(head.as_bytes()).and_then(|()| writer.write_all(first)).is_err() {
                return;
            }
            head.clear();
            gate.wait();
        }
        if writer.write_all(head.as_bytes()).and_then(|()| writer.write_all(body)).is_err()
            || reply.cut.is_some()
        {
            return;
        }
    }
}

fn read_request(reader: &mut impl BufRead) -> Option<Seen> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").and_then(|l| l.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Seen { method, target, headers, body })
}

/// Serves an image from a store as a registry would: manifests by tag and digest, blobs with ranges.
pub fn as_registry(blobs: &Blobs, repository: &str, tag: &str, root: &Digest, request: &Seen) -> Reply {
    let error = |code: &str| {
        let text = format!(
            r#"{{"errors":[{{"code":"{code}","message":"{}"}}]}}"#,
            code.to_lowercase().replace('_', " ")
        );
        reply(404, text)
    };
    if request.target == "/v2/" {
        return reply(200, "{}");
    }
    if let Some(key) = request.target.strip_prefix(&format!("/v2/{repository}/manifests/")) {
        let digest = if key == tag { Some(root.clone()) } else { Digest::parse(key).ok() };
        return match digest.and_then(|d| Some((blobs.read_small(&d, 1 << 20).ok()?, d))) {
            Some((bytes, digest)) => {
                let json: serde_json::Value = serde_json::from_slice(&bytes).expect("JSON");
                reply(200, bytes)
                    .with("content-type", json["mediaType"].as_str().unwrap_or(oci::OCI_MANIFEST))
                    .with("docker-content-digest", digest.to_string())
            }
            None => error("MANIFEST_UNKNOWN"),
        };
    }
    if let Some(digest) = request.target.strip_prefix(&format!("/v2/{repository}/blobs/")) {
        let Some(bytes) = Digest::parse(digest).ok().and_then(|d| blobs.read_small(&d, 1 << 30).ok()) else {
            return error("BLOB_UNKNOWN");
        };
        let range = request.header("range").strip_prefix("bytes=").and_then(|r| r.split_once('-'));
        let range = range.and_then(|(start, end)| Some((start.parse::<usize>().ok()?, end)));
        return match range {
            Some((start, end)) if start < bytes.len() => {
                let end = end.parse::<usize>().unwrap_or(usize::MAX).min(bytes.len() - 1);
                reply(206, &bytes[start..=end])
                    .with("content-range", format!("bytes {start}-{end}/{}", bytes.len()))
            }
            Some(_) => reply(416, ""),
            None => reply(200, bytes).with("accept-ranges", "bytes"),
        };
    }
    error("NAME_UNKNOWN")
}

/// Debian's registry on a loopback port; ended when dropped.
pub struct Distribution {
    pub host: String,
    child: Child,
    _dir: tempfile::TempDir,
}

/// The password of `alice` is `secret`.
const HTPASSWD: &str = "alice:$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n";

impl Distribution {
    /// `None` when it is not installed.
    pub fn start(with_password: bool) -> Option<Self> {
        let dir = tempfile::tempdir().expect("a directory");
        let mut auth = String::new();
        if with_password {
            let path = dir.path().join("htpasswd");
            std::fs::write(&path, HTPASSWD).expect("written");
            auth = format!("auth:\n  htpasswd:\n    realm: test\n    path: {}\n", path.display());
        }
        Self::start_in(dir, "127.0.0.1", "", &auth)
    }

    /// With `http` more lines of its `http` section, and `more` further sections; reached as `name`.
    pub fn start_in(dir: tempfile::TempDir, name: &str, http: &str, more: &str) -> Option<Self> {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
        let address = format!("127.0.0.1:{port}");
        let config = format!(
            "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  \
             addr: {address}\n{http}{more}",
            dir.path().join("data").display()
        );
        let path = dir.path().join("config.yml");
        std::fs::write(&path, config).expect("written");
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let Ok(child) = child else {
            eprintln!("skipped: docker-registry is not installed");
            return None;
        };
        for _ in 0..500 {
            if TcpStream::connect(&address).is_ok() {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(Self { host: format!("{name}:{port}"), child, _dir: dir })
    }
}

impl Drop for Distribution {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
