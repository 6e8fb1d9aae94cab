//! Which request leads where, and with which rights.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fluyt_image::Digest;
use fluyt_model::Result;

use super::auth::{Action, Auth, Identity};
use super::config::Config;
use super::evict::{self, Bounds, Uses};
use super::failure::{Answered, Code, Failure};
use super::gc::{self, CollectOptions};
use super::names::{self, Key, Route};
use super::notify::Notifier;
use super::observe::Observer;
use super::proxy::Proxy;
use super::records::Records;
use super::uploads::{self, Uploads};
use super::{ServeOptions, TIDY_EVERY, blobs, listings, manifests};
use fluyt_http::{Exchange, Handler, Method, Request, Response};

/// Connections served at once when nobody says how many.
const MAX_CONNECTIONS: usize = 1024;

/// A registry at work.
#[derive(Debug)]
pub(crate) struct App {
    records: std::sync::Arc<Records>,
    uploads: Uploads,
    auth: Auth,
    proxy: Option<Proxy>,
    read_only: bool,
    sparse: bool,
    collection: Option<(Duration, CollectOptions)>,
    observer: std::sync::Arc<Observer>,
    notifier: Notifier,
    max_manifest: u64,
    /// Of a cache: what it may keep, and what it is asked for.
    bounds: Bounds,
    uses: std::sync::Arc<Uses>,
    most_connections: usize,
    tidied: Mutex<(Instant, Instant)>,
    working: std::sync::Arc<AtomicBool>,
}

impl App {
    pub fn new(options: ServeOptions) -> Result<Self> {
        let mut config = match &options.config {
            Some(path) => Config::read(path)?,
            None => Config::default(),
        };
        if options.htpasswd.is_some() {
            config.htpasswd = options.htpasswd;
        }
        if let Some(url) = options.proxy {
            config.proxy.get_or_insert_default().url = url;
        }
        if let (Some(ttl), Some(proxy)) = (options.proxy_ttl, &mut config.proxy) {
            proxy.ttl = ttl.as_secs();
        }
        let bounds = match &config.proxy {
            Some(proxy) => Bounds {
                size: options.cache.size.or(proxy.max_size),
                age: options.cache.age.or(proxy.max_age.map(Duration::from_secs)),
            },
            None => Bounds::default(),
        };
        let log = options.access_log.as_ref().map(|(path, format)| (path.as_path(), *format));
        let observer = Observer::new(log, options.metrics.is_some())?;
        let records = std::sync::Arc::new(Records::open(&options.root)?);
        let auth = Auth::new(&options.root, &config)?;
        let notified = options.settings.clone();
        let proxy = match config.proxy {
            Some(upstream) => Some(Proxy::new(upstream, options.settings, std::sync::Arc::clone(&records))?),
            None => None,
        };
        let notifier =
            Notifier::start(&config.notifications, &notified, &options.address, options.tls.is_some())?;
        let collection = config.gc.schedule();
        let now = Instant::now();
        Ok(Self {
            records,
            uploads: Uploads::default(),
            auth,
            proxy,
            read_only: options.read_only,
            sparse: config.sparse,
            collection,
            observer: std::sync::Arc::new(observer),
            notifier,
            max_manifest: config.max_manifest_size.unwrap_or(manifests::MAX_MANIFEST),
            bounds,
            uses: std::sync::Arc::default(),
            most_connections: options.max_connections.or(config.max_connections).unwrap_or(MAX_CONNECTIONS),
            tidied: Mutex::new((now, now)),
            working: std::sync::Arc::default(),
        })
    }

    /// Who counts.
    pub fn observer(&self) -> std::sync::Arc<Observer> {
        std::sync::Arc::clone(&self.observer)
    }

    /// Connections served at once.
    pub fn most_connections(&self) -> usize {
        self.most_connections
    }

    fn answer(&self, request: &mut Request<'_>) -> Answered {
        let path = request.head.path.clone();
        let route = Route::of(&path)
            .ok_or_else(|| Failure::new(Code::Unknown, "there is no such page").status(404))?;
        match route {
            Route::Root => return Ok(Response::new(200)),
            Route::Token => return self.auth.token(request),
            _ => {}
        }
        if let Some(name) = route.repository() {
            names::repository(name)?;
        }
        let identity = self.auth.identify(request)?;
        let method = match request.head.method {
            Method::Head => Method::Get,
            other => other,
        };
        if method != Method::Get && (self.read_only || self.proxy.is_some()) {
            let why = if self.read_only { "this registry is read-only" } else { "this registry is a cache" };
            return Err(Failure::new(Code::Unsupported, why));
        }
        self.auth.require(request, &identity, route.repository(), actions(method, &route))?;
        let answered = match route {
            Route::Manifest(name, key) => self.on_manifest(request, method, name, &Key::parse(key)?),
            Route::Blob(name, digest) => self.on_blob(request, method, name, &names::digest(digest)?),
            Route::Uploads(_) | Route::Upload(..) => self.on_upload(request, method, &identity, &route),
            _ if method == Method::Get => self.on_list(request, &identity, &route),
            _ => Err(not_with_that_method()),
        };
        if self.notifier.wants()
            && let Ok(response) = &answered
        {
            self.notifier.tell(&self.records, request, &route, identity.name(), response);
        }
        answered
    }

    fn on_list(&self, request: &Request<'_>, identity: &Identity, route: &Route<'_>) -> Answered {
        let visible = |name: &str| self.auth.shows(identity, name);
        let (records, head) = (&self.records, &request.head);
        match (route, &self.proxy) {
            (Route::Base, _) => Ok(Response::new(200).json(&serde_json::json!({}))),
            (Route::Catalog, _) => listings::catalog(records, head, &visible),
            (Route::Search, _) => listings::search(records, head, &visible),
            (Route::Tags(name), Some(proxy)) => proxy.tags(head, name),
            (Route::Tags(name), None) => listings::tags(records, head, name),
            (Route::Referrers(name, subject), proxy) => {
                let subject = names::digest(subject)?;
                match proxy {
                    Some(proxy) => proxy.referrers(head, name, &subject),
                    None => listings::referrers(records, head, name, &subject),
                }
            }
            _ => Err(not_with_that_method()),
        }
    }

    fn on_manifest(&self, request: &mut Request<'_>, method: Method, name: &str, key: &Key) -> Answered {
        match method {
            Method::Get => self.manifest(request, name, key),
            Method::Put => {
                manifests::put(&self.records, request, name, key, (self.sparse, self.max_manifest))
            }
            Method::Delete => manifests::delete(&self.records, name, key),
            _ => Err(not_with_that_method()),
        }
    }

    fn on_blob(&self, request: &Request<'_>, method: Method, name: &str, digest: &Digest) -> Answered {
        match method {
            Method::Get => self.blob(request, name, digest),
            Method::Delete => blobs::delete(&self.records, name, digest),
            _ => Err(not_with_that_method()),
        }
    }

    fn on_upload(
        &self,
        request: &mut Request<'_>,
        method: Method,
        identity: &Identity,
        route: &Route<'_>,
    ) -> Answered {
        let (uploads, records) = (&self.uploads, &self.records);
        match (method, route) {
            (Method::Post, Route::Uploads(name)) => {
                let readable = |from: &str| self.auth.allows(identity, from, Action::Pull);
                uploads::begin(records, request, name, &readable)
            }
            (Method::Get, Route::Upload(name, id)) => uploads::status(uploads, records, name, id),
            (Method::Patch, Route::Upload(name, id)) => uploads::chunk(uploads, records, request, name, id),
            (Method::Put, Route::Upload(name, id)) => uploads::finish(uploads, records, request, name, id),
            (Method::Delete, Route::Upload(name, id)) => uploads::cancel(uploads, records, name, id),
            _ => Err(not_with_that_method()),
        }
    }

    fn manifest(&self, request: &Request<'_>, name: &str, key: &Key) -> Answered {
        let warning = match &self.proxy {
            Some(proxy) => {
                let here = match key {
                    Key::Digest(digest) => self.records.manifest(name, digest)?.is_some(),
                    Key::Tag(tag) => self.records.tag(name, tag)?.is_some(),
                };
                self.observer.cached(here);
                proxy.refresh(name, key)?
            }
            None => None,
        };
        let found = manifests::get(&self.records, &request.head, name, key)?;
        let response = found.ok_or_else(|| manifests::unknown(&self.records, name, key))?;
        if self.bounds != Bounds::default()
            && let Some((_, text)) = response.headers.iter().find(|(n, _)| *n == "Docker-Content-Digest")
            && let Ok(digest) = Digest::parse(text)
        {
            self.uses.note(name, &digest);
        }
        Ok(match warning {
            Some(text) => response.header("Warning", format!("299 - \"{}\"", text.replace(['"', '\\'], "'"))),
            None => response,
        })
    }

    fn blob(&self, request: &Request<'_>, name: &str, digest: &Digest) -> Answered {
        if let Some(found) = blobs::get(&self.records, &request.head, name, digest)? {
            if request.head.method == Method::Head {
                self.records.touch_blob(name, digest)?;
            }
            if self.proxy.is_some() {
                self.observer.cached(true);
            }
            return Ok(found);
        }
        if self.proxy.is_some() {
            self.observer.cached(false);
        }
        match &self.proxy {
            Some(proxy) => proxy.blob(&request.head, name, digest),
            None => Err(blobs::unknown(name, digest)),
        }
    }

    /// Throws away what of the cache is beyond its bounds.
    fn trim(&self) {
        let (records, uses) = (std::sync::Arc::clone(&self.records), std::sync::Arc::clone(&self.uses));
        let (bounds, observer) = (self.bounds, std::sync::Arc::clone(&self.observer));
        self.aside(move || {
            let swept = uses.write(&records).and_then(|()| evict::run(&records, &bounds, evict::GRACE));
            match swept {
                Ok(swept) => observer.evicted(swept.manifests),
                Err(e) => eprintln!("registry: the cache's bounds: {}", e.chain()),
            }
        });
    }

    /// Runs `work` on a thread of its own, unless the last one is still at it.
    fn aside(&self, work: impl FnOnce() + Send + 'static) {
        if self.working.swap(true, Ordering::Relaxed) {
            return;
        }
        let working = std::sync::Arc::clone(&self.working);
        let run = move || {
            work();
            working.store(false, Ordering::Relaxed);
        };
        if std::thread::Builder::new().name("registry-gc".to_owned()).spawn(run).is_err() {
            self.working.store(false, Ordering::Relaxed);
        }
    }
}

/// What a request needs the right to do in its repository.
fn actions(method: Method, route: &Route<'_>) -> &'static [Action] {
    match (method, route) {
        (_, Route::Uploads(_) | Route::Upload(..)) => &[Action::Pull, Action::Push],
        (Method::Get, _) => &[Action::Pull],
        (Method::Delete, _) => &[Action::Delete],
        _ => &[Action::Pull, Action::Push],
    }
}

fn not_with_that_method() -> Failure {
    Failure::new(Code::Unsupported, "this cannot be done with that method")
}

impl Handler for App {
    fn handle(&self, request: &mut Request<'_>) -> Response {
        let response = match self.answer(request) {
            Ok(response) => response,
            Err(failure) => {
                if failure.is_ours() {
                    let (head, peer) = (&request.head, request.peer);
                    eprintln!("registry: {:?} {} for {peer}: {}", head.method, head.path, failure.text());
                }
                failure.response()
            }
        };
        response.header("Docker-Distribution-Api-Version", "registry/2.0")
    }

    fn trouble(&self, error: &fluyt_model::Error) {
        eprintln!("registry: {}", error.chain());
    }

    fn observes(&self) -> bool {
        self.observer.wants()
    }

    fn begun(&self) {
        self.observer.begun();
    }

    fn done(&self, exchange: &Exchange) {
        self.observer.done(exchange);
    }

    fn tick(&self) {
        let (tidy, collect) = {
            let mut last = self.tidied.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let tidy = last.0.elapsed() >= TIDY_EVERY;
            let collect = self.collection.as_ref().filter(|(every, _)| last.1.elapsed() >= *every);
            if tidy {
                last.0 = Instant::now();
            }
            if collect.is_some() {
                last.1 = Instant::now();
            }
            (tidy, collect.map(|(_, options)| options.clone()))
        };
        if tidy && let Err(e) = self.uploads.tidy(&self.records) {
            eprintln!("registry: {}", e.chain());
        }
        if tidy && self.bounds != Bounds::default() {
            self.trim();
        }
        if let Some(options) = collect {
            let records = std::sync::Arc::clone(&self.records);
            self.aside(move || {
                if let Err(e) = gc::run(&records, &options) {
                    eprintln!("registry: collection: {}", e.chain());
                }
            });
        }
    }
}
