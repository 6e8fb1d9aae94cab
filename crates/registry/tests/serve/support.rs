//! A registry in this process, and a client that sends exactly what a test says.

#[path = "../support/noise.rs"]
mod noise;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::thread::JoinHandle;
use std::time::Duration;

use fluyt_image::Digest;
use fluyt_registry::Settings;
use fluyt_registry::server::{self, ServeOptions};
use serde_json::{Value, json};

pub use noise::noise;

pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// One request to another address.
pub fn ask_at(address: SocketAddr, method: &str, path: &str) -> Answer {
    let mut stream = TcpStream::connect(address).expect("connected");
    let head =
        format!("{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).expect("sent");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    Answer::parse(&answer)
}

/// A registry that ends with its test.
pub struct Served {
    pub dir: tempfile::TempDir,
    pub address: SocketAddr,
    stop: Option<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Served {
    pub fn new() -> Self {
        Self::with(|_| {})
    }

    pub fn with(change: impl FnOnce(&mut ServeOptions)) -> Self {
        Self::on(tempfile::tempdir().expect("a directory"), change)
    }

    pub fn on(dir: tempfile::TempDir, change: impl FnOnce(&mut ServeOptions)) -> Self {
        Self::begin(dir, change, &mut None)
    }

    /// The same, and where its counters are shown.
    pub fn with_address_of_counters(
        change: impl FnOnce(&mut ServeOptions),
        counters: &mut Option<SocketAddr>,
    ) -> Self {
        Self::begin(tempfile::tempdir().expect("a directory"), change, counters)
    }

    fn begin(
        dir: tempfile::TempDir,
        change: impl FnOnce(&mut ServeOptions),
        counters: &mut Option<SocketAddr>,
    ) -> Self {
        let mut options = ServeOptions {
            root: dir.path().join("root"),
            address: "127.0.0.1:0".to_owned(),
            settings: Settings {
                connect_timeout: Duration::from_secs(2),
                read_timeout: Duration::from_secs(5),
                retry_pause: Duration::from_millis(10),
                proxy_from_env: false,
                ..Settings::default()
            },
            ..ServeOptions::default()
        };
        change(&mut options);
        let bound = server::bind(options).expect("a registry");
        let address = bound.address;
        *counters = bound.metrics;
        let (read, write) = rustix::pipe::pipe().expect("a pipe");
        let thread = std::thread::spawn(move || bound.serve(read.as_fd()).expect("serving"));
        Self { dir, address, stop: Some(write), thread: Some(thread) }
    }

    /// Ends the registry and begins another one on the same data.
    pub fn restarted(mut self) -> Self {
        self.end();
        let dir = std::mem::replace(&mut self.dir, tempfile::tempdir().expect("a directory"));
        Self::on(dir, |_| {})
    }

    pub fn end(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the registry ends");
        }
    }

    pub fn root(&self) -> std::path::PathBuf {
        self.dir.path().join("root")
    }

    pub fn ask(&self, method: &str, path: &str) -> Answer {
        self.send(method, path, &[], b"")
    }

    /// One request on a connection of its own.
    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", self.address);
        if !body.is_empty() || matches!(method, "PUT" | "POST" | "PATCH") {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        self.raw(&[head.as_bytes(), body].concat())
    }

    /// These bytes on a connection of their own, and what comes back until it is closed.
    pub fn raw(&self, bytes: &[u8]) -> Answer {
        let mut stream = self.connect();
        // A server that has refused may close before all is sent.
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(Shutdown::Write);
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("an answer");
        Answer::parse(&answer)
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("connected");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a socket");
        stream
    }

    /// Pushes a blob in one request.
    pub fn blob(&self, repository: &str, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        let path = format!("/v2/{repository}/blobs/uploads/?digest={digest}");
        self.send("POST", &path, &[], bytes).is(201);
        digest
    }

    /// Begins an upload; where it goes on.
    pub fn upload(&self, repository: &str) -> String {
        let answer = self.ask("POST", &format!("/v2/{repository}/blobs/uploads/"));
        answer.is(202).header("location").to_owned()
    }

    /// Puts a manifest; its digest.
    pub fn manifest(&self, repository: &str, key: &str, manifest: &Value) -> Digest {
        let bytes = manifest.to_string();
        let kind = manifest["mediaType"].as_str().expect("a media type");
        let key = if key.is_empty() { Digest::of(bytes.as_bytes()).to_string() } else { key.to_owned() };
        let path = format!("/v2/{repository}/manifests/{key}");
        self.send("PUT", &path, &[("Content-Type", kind)], bytes.as_bytes()).is(201);
        Digest::of(bytes.as_bytes())
    }

    /// Pushes an image of one layer and tags it; its manifest and the digest of that.
    pub fn image(&self, repository: &str, tag: &str, layer: &[u8]) -> (Value, Digest) {
        let (config, layer_digest) = (self.blob(repository, b"{}"), self.blob(repository, layer));
        let manifest = image_manifest(&config, 2, &layer_digest, layer.len());
        let digest = self.manifest(repository, tag, &manifest);
        (manifest, digest)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.end();
    }
}

/// A manifest with a configuration and one layer.
pub fn image_manifest(config: &Digest, config_size: usize, layer: &Digest, size: usize) -> Value {
    json!({
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config.as_str(), "size": config_size},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": layer.as_str(), "size": size}],
    })
}

/// An answer, taken apart.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    fn parse(bytes: &[u8]) -> Self {
        let mut rest = bytes;
        loop {
            let at = rest.windows(4).position(|w| w == b"\r\n\r\n").expect("a whole head");
            let head = std::str::from_utf8(&rest[..at]).expect("text");
            let mut lines = head.split("\r\n");
            let status = lines.next().and_then(|l| l.split(' ').nth(1)).and_then(|s| s.parse().ok());
            let status = status.expect("a status");
            rest = &rest[at + 4..];
            if status == 100 {
                continue;
            }
            let headers = lines.filter_map(|l| l.split_once(": "));
            let headers = headers.map(|(n, v)| (n.to_ascii_lowercase(), v.to_owned())).collect();
            return Self { status, headers, body: rest.to_vec() };
        }
    }

    #[track_caller]
    pub fn is(&self, status: u16) -> &Self {
        assert_eq!(self.status, status, "{self:?} {}", String::from_utf8_lossy(&self.body));
        self
    }

    /// Checks the status and the code of the first error.
    #[track_caller]
    pub fn refuses(&self, status: u16, code: &str) -> &Self {
        self.is(status);
        assert_eq!(self.json()["errors"][0]["code"], code, "{self:?}");
        assert!(!self.json()["errors"][0]["message"].as_str().unwrap_or_default().is_empty());
        self
    }

    #[track_caller]
    pub fn header(&self, name: &str) -> &str {
        self.find(name).unwrap_or_else(|| panic!("no {name} in {self:?}"))
    }

    pub fn find(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    pub fn all(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(n, _)| n == name).map(|(_, v)| v.as_str()).collect()
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }
}

/// How many blobs a data root has.
pub fn blobs_in(root: &Path) -> usize {
    std::fs::read_dir(root.join("blobs/sha256")).map_or(0, Iterator::count)
}
