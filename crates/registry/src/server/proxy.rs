//! The pull-through cache: what is not here is fetched from an upstream registry, given to the client while it
//! arrives, and kept. What is here is served also when the upstream fails or limits.
//!
//! A digest never changes, so what is named by one is fetched once. A tag is believed for a while (`ttl`), then the
//! upstream is asked what it stands for now; if it does not say, what is here is served with a warning.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fluyt_image::time::now;
use fluyt_image::{Digest, Ingest, Lease, oci};
use fluyt_model::{Error, Kind, Result};
use ureq::http::{Method as HttpMethod, StatusCode};

use super::blobs;
use super::config::ProxyConfig;
use super::failure::{Answered, Code, Failure};
use super::listings;
use super::manifests::{self, MAX_MANIFEST};
use super::names::Key;
use super::records::Records;
use crate::http::{Answer, Ask};
use crate::remote::{Remote, Scope};
use crate::{Credentials, Settings};
use fluyt_http::{Head, Method, Payload, Response};

/// Lists and referrers that are handed through, at most.
const MAX_LIST: u64 = 16 << 20;
/// For how long an upstream that failed is left alone.
const REST: Duration = Duration::from_secs(10);
/// How often a transfer without progress is tried.
const ATTEMPTS: u32 = 4;
/// How long a client waits for the next bytes of a transfer.
const PATIENCE: Duration = Duration::from_secs(120);

/// A cache of one upstream.
#[derive(Debug)]
pub(crate) struct Proxy {
    config: ProxyConfig,
    settings: Settings,
    credentials: Option<Credentials>,
    records: Arc<Records>,
    remote: Mutex<Option<Arc<Remote>>>,
    /// Until when the upstream is not asked, and why.
    resting: Mutex<Option<(Instant, Kind, String)>>,
    transfers: Arc<Mutex<HashMap<Digest, Arc<Transfer>>>>,
    /// Blobs that somebody is just asking the upstream for.
    starting: Mutex<BTreeSet<Digest>>,
    started: Condvar,
}

/// One who asks the upstream for a blob; others wait until this is dropped.
struct Starting<'p>(&'p Proxy, &'p Digest);

impl Drop for Starting<'_> {
    fn drop(&mut self) {
        locked(&self.0.starting).remove(self.1);
        self.0.started.notify_all();
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Proxy {
    /// For an upstream. It is first spoken to when something is wanted from it.
    ///
    /// # Errors
    /// `Kind::Invalid` for a malformed URL.
    pub fn new(mut config: ProxyConfig, mut settings: Settings, records: Arc<Records>) -> Result<Self> {
        if !config.url.contains("://") {
            config.url = format!("https://{}", config.url);
        }
        if !config.url.starts_with("http://") && !config.url.starts_with("https://") || config.url.len() < 9 {
            return Err(Error::invalid(format!("proxy: {:?} is not the URL of a registry", config.url)));
        }
        let credentials = match (&config.username, &config.password) {
            (Some(username), Some(password)) => {
                Some(Credentials::Password { username: username.clone(), password: password.clone() })
            }
            _ => None,
        };
        // Clients wait meanwhile: what does not help soon is left to them to repeat.
        settings.attempts = settings.attempts.min(2);
        settings.longest_pause = settings.longest_pause.min(Duration::from_secs(5));
        Ok(Self {
            config,
            settings,
            credentials,
            records,
            remote: Mutex::default(),
            resting: Mutex::default(),
            transfers: Arc::default(),
            starting: Mutex::default(),
            started: Condvar::new(),
        })
    }

    fn remote(&self) -> Result<Arc<Remote>> {
        if let Some((until, kind, why)) = &*locked(&self.resting)
            && Instant::now() < *until
        {
            return Err(Error::new(*kind, why.clone()));
        }
        if let Some(remote) = &*locked(&self.remote) {
            return Ok(Arc::clone(remote));
        }
        let made = Remote::at(&self.settings, &self.config.url, self.credentials.clone());
        let remote = Arc::new(self.noted(made)?);
        *locked(&self.remote) = Some(Arc::clone(&remote));
        Ok(remote)
    }

    /// Remembers a failure of the upstream, so that the next clients do not wait for the same.
    fn noted<T>(&self, result: Result<T>) -> Result<T> {
        match &result {
            Err(e) if matches!(e.kind(), Kind::Unavailable | Kind::Timeout | Kind::RateLimited) => {
                *locked(&self.resting) = Some((Instant::now() + REST, e.kind(), e.chain()));
            }
            Err(_) => {}
            Ok(_) => *locked(&self.resting) = None,
        }
        result
    }

    fn ask(&self, method: HttpMethod, repository: &str, path: &str, accept: &str) -> Result<Answer> {
        let remote = self.remote()?;
        let url = remote.url(&format!("{repository}/{path}"));
        let make = || Ask::new(method.clone(), url.clone(), path.to_owned()).header("accept", accept);
        self.noted(remote.ask(Some(&Scope::pull(repository)), make))
    }

    /// Brings a manifest here, or its tag up to date. A warning for the client if what is here may be old.
    pub fn refresh(&self, repository: &str, key: &Key) -> Answered<Option<String>> {
        let here = match key {
            Key::Digest(digest) => {
                if self.records.manifest(repository, digest)?.is_some() {
                    return Ok(None);
                }
                None
            }
            Key::Tag(tag) => self.records.tag(repository, tag)?,
        };
        if let Some((_, checked)) = &here
            && now() - checked < i64::try_from(self.config.ttl).unwrap_or(i64::MAX)
        {
            return Ok(None);
        }
        match (self.fetch_manifest(repository, key, here.as_ref().map(|h| &h.0)), here) {
            (Ok(()), _) => Ok(None),
            // The upstream says that there is none: then there is none.
            (Err(e), _) if e.kind() == Kind::NotFound => {
                Err(manifests::unknown(&self.records, repository, key))
            }
            (Err(e), Some(_)) => Ok(Some(format!("may be out of date: {}", e.chain()))),
            (Err(e), None) => Err(upstream(e)),
        }
    }

    fn fetch_manifest(&self, repository: &str, key: &Key, here: Option<&Digest>) -> Result<()> {
        let accept =
            [oci::OCI_INDEX, oci::DOCKER_MANIFEST_LIST, oci::OCI_MANIFEST, oci::DOCKER_MANIFEST].join(", ");
        let path = format!("manifests/{key}");
        if let (Some(here), Key::Tag(tag)) = (here, key) {
            // Asking what a tag stands for is not counted by limits; fetching is.
            let answer = self.ask(HttpMethod::HEAD, repository, &path, &accept)?;
            if answer.header("docker-content-digest") == Some(here.as_str()) {
                return self.records.write(false, |tx| {
                    let repo = tx.repository(repository)?;
                    tx.put_tag(repo, tag, here)
                });
            }
        }
        let answer = self.ask(HttpMethod::GET, repository, &path, &accept)?;
        let content_type = answer.header("content-type").map(str::to_owned);
        let bytes = answer.bytes(MAX_MANIFEST, &path)?;
        let tags = match key {
            Key::Tag(tag) => vec![tag.clone()],
            Key::Digest(_) => Vec::new(),
        };
        let stored =
            manifests::store(&self.records, repository, key, &bytes, content_type.as_deref(), &tags, true);
        stored.map(|_| ()).map_err(|f| Error::corrupt(format!("the upstream's {path}: {}", f.text())))
    }

    /// Serves a blob that is not here while it arrives.
    pub fn blob(&self, head: &Head, repository: &str, digest: &Digest) -> Answered {
        if head.method == Method::Head {
            let size = self.size(repository, digest).map_err(|e| absent(e, repository, digest))?;
            return Ok(described(digest).payload(Payload::Stream(Box::new(io::empty()), size)));
        }
        let transfer = match self.join(repository, digest).map_err(|e| absent(e, repository, digest))? {
            Some(transfer) => transfer,
            // It was here after all: another repository had it, or a transfer has just ended.
            None => {
                let found = blobs::get(&self.records, head, repository, digest)?;
                return found.ok_or_else(|| blobs::unknown(repository, digest));
            }
        };
        let size = transfer.size;
        let file = transfer.file.try_clone().map_err(|e| Error::io(format!("blob {digest}"), e))?;
        let follower = Follower { transfer, file, at: 0 };
        Ok(described(digest).payload(Payload::Stream(Box::new(follower), size)))
    }

    /// The size of a blob that the upstream has in this repository.
    fn size(&self, repository: &str, digest: &Digest) -> Result<u64> {
        let path = format!("blobs/{digest}");
        let answer = self.ask(HttpMethod::HEAD, repository, &path, "*/*")?;
        self.length(&answer, &path)
    }

    fn length(&self, answer: &Answer, path: &str) -> Result<u64> {
        answer.header("content-length").and_then(|n| n.parse().ok()).ok_or_else(|| {
            Error::new(Kind::Unavailable, format!("{}: {path} comes without its length", self.config.url))
        })
    }

    /// The transfer of a blob, begun if there is none; `None` when the repository has the blob now.
    fn join(&self, repository: &str, digest: &Digest) -> Result<Option<Arc<Transfer>>> {
        let _starting = self.alone_with(digest);
        let under_way = locked(&self.transfers).get(digest).cloned();
        if let Some(transfer) = under_way {
            if !locked(&transfer.repositories).contains(repository) {
                // That another repository has it gives this one no right to it: the upstream says.
                self.size(repository, digest)?;
                let transfers = locked(&self.transfers);
                if transfers.contains_key(digest) {
                    locked(&transfer.repositories).insert(repository.to_owned());
                }
                // If it has just ended, the next request of this repository finds the content by the upstream's word.
            }
            return Ok(Some(transfer));
        }
        if self.records.has_blob(repository, digest)? {
            return Ok(None);
        }
        let path = format!("blobs/{digest}");
        // The answer also tells whether this repository has the blob upstream, which content that another
        // repository brought here does not.
        let answer = self.ask(HttpMethod::GET, repository, &path, "*/*")?;
        let lease = self.records.lease()?;
        if lease.blobs().has(digest) {
            self.records.write(false, |tx| tx.link_blob(repository, digest))?;
            return Ok(None);
        }
        let size = self.length(&answer, &path)?;
        let ingest = lease.blobs().ingest(Some(digest), Some(size), "")?;
        let transfer = Arc::new(Transfer {
            digest: digest.clone(),
            size,
            file: ingest.reader()?,
            state: Mutex::default(),
            moved: Condvar::new(),
            repositories: Mutex::new(BTreeSet::from([repository.to_owned()])),
        });
        let work = Work {
            transfer: Arc::clone(&transfer),
            records: Arc::clone(&self.records),
            remote: self.remote()?,
            repository: repository.to_owned(),
            all: Arc::clone(&self.transfers),
        };
        locked(&self.transfers).insert(digest.clone(), Arc::clone(&transfer));
        let spawned = std::thread::Builder::new()
            .name("registry-fetch".to_owned())
            .spawn(move || work.run(answer, ingest, lease));
        if let Err(e) = spawned {
            locked(&self.transfers).remove(digest);
            return Err(Error::io("starting a thread", e));
        }
        Ok(Some(transfer))
    }

    /// Waits until nobody else is beginning with this blob, so that it is fetched once.
    fn alone_with<'p>(&'p self, digest: &'p Digest) -> Starting<'p> {
        let mut starting = locked(&self.starting);
        while !starting.insert(digest.clone()) {
            starting = self.started.wait(starting).unwrap_or_else(PoisonError::into_inner);
        }
        Starting(self, digest)
    }

    /// The upstream's tags; those that are here if it does not answer.
    pub fn tags(&self, head: &Head, repository: &str) -> Answered {
        let mut query = Vec::new();
        for name in ["n", "last"] {
            query.extend(head.parameter(name).map(|v| format!("{name}={}", listings::escape(v))));
        }
        let path = format!("tags/list?{}", query.join("&"));
        match self.hand_through(repository, path.trim_end_matches('?')) {
            Ok(response) => Ok(response),
            Err(e) if e.kind() == Kind::NotFound => Err(Failure::new(
                Code::NameUnknown,
                format!("repository {repository} is not known to the upstream"),
            )),
            Err(e) => listings::tags(&self.records, head, repository).map_err(|_| upstream(e)),
        }
    }

    /// The upstream's referrers; those that are here if it does not answer.
    pub fn referrers(&self, head: &Head, repository: &str, subject: &Digest) -> Answered {
        let mut path = format!("referrers/{subject}");
        if let Some(kind) = head.parameter("artifactType") {
            path.push_str(&format!("?artifactType={}", listings::escape(kind)));
        }
        match self.hand_through(repository, &path) {
            Ok(response) => Ok(response),
            Err(_) => listings::referrers(&self.records, head, repository, subject),
        }
    }

    fn hand_through(&self, repository: &str, path: &str) -> Result<Response> {
        let answer = self.ask(HttpMethod::GET, repository, path, "*/*")?;
        let mut response = Response::new(200);
        for (name, key) in [
            ("Content-Type", "content-type"),
            ("Link", "link"),
            ("OCI-Filters-Applied", "oci-filters-applied"),
        ] {
            if let Some(value) = answer.header(key) {
                // A link to the upstream itself leads past this cache; its path is what counts.
                response = response.header(name, value.replace(&format!("<{}/", self.config.url), "</"));
            }
        }
        Ok(response.payload(Payload::Bytes(answer.bytes(MAX_LIST, path)?)))
    }
}

fn described(digest: &Digest) -> Response {
    Response::new(200)
        .header("Docker-Content-Digest", digest.as_str())
        .header("ETag", format!("\"{digest}\""))
        .header("Content-Type", "application/octet-stream")
}

fn upstream(e: Error) -> Failure {
    match e.kind() {
        // The client has no say in how this cache logs in there.
        Kind::Unauthorized | Kind::PermissionDenied => Failure::new(Code::Denied, e.chain()),
        Kind::Unavailable | Kind::Timeout | Kind::Corrupt => {
            Failure::new(Code::Unavailable, e.chain()).status(502)
        }
        _ => e.into(),
    }
}

fn absent(e: Error, repository: &str, digest: &Digest) -> Failure {
    if e.kind() == Kind::NotFound { blobs::unknown(repository, digest) } else { upstream(e) }
}

/// A blob on its way.
#[derive(Debug)]
struct Transfer {
    digest: Digest,
    size: u64,
    /// What has arrived, for reading; it stays readable when the blob gets its name.
    file: File,
    state: Mutex<Progress>,
    moved: Condvar,
    /// Who asked for it: they have it afterwards.
    repositories: Mutex<BTreeSet<String>>,
}

#[derive(Debug, Default)]
struct Progress {
    written: u64,
    /// Whole and verified, or given up.
    end: Option<std::result::Result<(), String>>,
}

/// What fetches.
struct Work {
    transfer: Arc<Transfer>,
    records: Arc<Records>,
    remote: Arc<Remote>,
    repository: String,
    all: Arc<Mutex<HashMap<Digest, Arc<Transfer>>>>,
}

impl Work {
    fn run(self, answer: Answer, mut ingest: Ingest, lease: Lease) {
        let outcome = self.fetch(answer, &mut ingest).and_then(|()| ingest.commit().map(|_| ()));
        let outcome = outcome.and_then(|()| {
            // Nobody joins between the record and the end: they find the blob in their repository then.
            let mut all = locked(&self.all);
            let repositories = locked(&self.transfer.repositories).clone();
            let recorded = self.records.write(false, |tx| {
                repositories.iter().try_for_each(|name| tx.link_blob(name, &self.transfer.digest))
            });
            all.remove(&self.transfer.digest);
            recorded
        });
        locked(&self.all).remove(&self.transfer.digest);
        drop(lease);
        if let Err(e) = &outcome {
            eprintln!("registry: fetching blob {}: {}", self.transfer.digest, e.chain());
        }
        locked(&self.transfer.state).end = Some(outcome.map_err(|e| e.chain()));
        self.transfer.moved.notify_all();
    }

    fn fetch(&self, answer: Answer, ingest: &mut Ingest) -> Result<()> {
        let mut answer = Some(answer);
        let mut failed = 0;
        loop {
            let before = ingest.offset();
            let copied = match answer.take() {
                Some(answer) => self.copy(answer, ingest),
                None => self.resume(ingest).and_then(|answer| self.copy(answer, ingest)),
            };
            let Err(e) = copied else { return Ok(()) };
            failed = if ingest.offset() > before { 1 } else { failed + 1 };
            if failed >= ATTEMPTS || !matches!(e.kind(), Kind::Unavailable | Kind::Timeout) {
                return Err(e);
            }
            std::thread::sleep(self.remote.pause(failed));
        }
    }

    fn resume(&self, ingest: &mut Ingest) -> Result<Answer> {
        let path = format!("{}/blobs/{}", self.repository, self.transfer.digest);
        let range = format!("bytes={}-", ingest.offset());
        let answer = self.remote.ask(Some(&Scope::pull(&self.repository)), || {
            Ask::get(self.remote.url(&path), path.clone()).header("range", range.clone())
        })?;
        // What was sent cannot be taken back, so beginning anew is not possible.
        if answer.status != StatusCode::PARTIAL_CONTENT {
            return Err(Error::unsupported(format!("{}: {path} cannot be resumed", self.remote.host())));
        }
        Ok(answer)
    }

    fn copy(&self, answer: Answer, ingest: &mut Ingest) -> Result<()> {
        let cut = |e: io::Error| {
            Error::new(Kind::Unavailable, format!("{}: blob {}", self.remote.host(), self.transfer.digest))
                .with_source(e)
        };
        let mut reader = answer.reader();
        let mut buffer = vec![0; 128 << 10];
        while ingest.offset() < self.transfer.size {
            match reader.read(&mut buffer) {
                Ok(0) => return Err(cut(io::ErrorKind::UnexpectedEof.into())),
                Ok(n) => ingest.write_all(&buffer[..n]).map_err(|e| ingest.write_error(e))?,
                Err(e) => return Err(cut(e)),
            }
            locked(&self.transfer.state).written = ingest.offset();
            self.transfer.moved.notify_all();
        }
        Ok(())
    }
}

/// Reads a blob that is arriving. The last byte is held back until the whole is verified, so that no client takes
/// wrong content for complete.
struct Follower {
    transfer: Arc<Transfer>,
    file: File,
    at: u64,
}

impl Read for Follower {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut state = locked(&self.transfer.state);
        let until = Instant::now() + PATIENCE;
        let ready = loop {
            let ready = match &state.end {
                Some(Ok(())) => self.transfer.size,
                Some(Err(e)) => return Err(io::Error::other(e.clone())),
                None => state.written.min(self.transfer.size.saturating_sub(1)),
            };
            if ready > self.at || self.at == self.transfer.size {
                break ready;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            state = self.transfer.moved.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        };
        drop(state);
        let most = usize::try_from(ready - self.at).unwrap_or(usize::MAX).min(buffer.len());
        let n = self.file.read_at(&mut buffer[..most], self.at)?;
        self.at += n as u64;
        Ok(n)
    }
}
