//! Which request leads where, and with which rights.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fluyt_image::Digest;
use fluyt_model::Result;

use super::auth::{Action, Auth};
use super::config::Config;
use super::failure::{Answered, Code, Failure};
use super::gc::{self, CollectOptions};
use super::http::{Handler, Method, Request, Response};
use super::names::{self, Key, Route};
use super::proxy::Proxy;
use super::records::Records;
use super::uploads::{self, Uploads};
use super::{ServeOptions, TIDY_EVERY, blobs, listings, manifests};

/// A registry at work.
#[derive(Debug)]
pub(crate) struct App {
    records: std::sync::Arc<Records>,
    uploads: Uploads,
    auth: Auth,
    proxy: Option<Proxy>,
    read_only: bool,
    collection: Option<(Duration, CollectOptions)>,
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
        let records = std::sync::Arc::new(Records::open(&options.root)?);
        let auth = Auth::new(&options.root, &config)?;
        let proxy = match config.proxy {
            Some(upstream) => Some(Proxy::new(upstream, options.settings, std::sync::Arc::clone(&records))?),
            None => None,
        };
        let collection = config.gc.schedule();
        let now = Instant::now();
        Ok(Self {
            records,
            uploads: Uploads::default(),
            auth,
            proxy,
            read_only: options.read_only,
            collection,
            tidied: Mutex::new((now, now)),
            working: std::sync::Arc::default(),
        })
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
        let allowed = |repository: &str, actions: &[Action]| {
            self.auth.require(request, &identity, Some(repository), actions)
        };
        let (pull, push, delete) =
            (&[Action::Pull][..], &[Action::Pull, Action::Push][..], &[Action::Delete][..]);
        match (method, route) {
            (Method::Get, Route::Base) => {
                self.auth.require(request, &identity, None, &[])?;
                Ok(Response::new(200).json(&serde_json::json!({})))
            }
            (Method::Get, Route::Catalog) => {
                self.auth.require(request, &identity, None, &[])?;
                listings::catalog(&self.records, &request.head, &|name| self.auth.shows(&identity, name))
            }
            (Method::Get, Route::Search) => {
                self.auth.require(request, &identity, None, &[])?;
                listings::search(&self.records, &request.head, &|name| self.auth.shows(&identity, name))
            }
            (Method::Get, Route::Tags(name)) => {
                allowed(name, pull)?;
                match &self.proxy {
                    Some(proxy) => proxy.tags(&request.head, name),
                    None => listings::tags(&self.records, &request.head, name),
                }
            }
            (Method::Get, Route::Referrers(name, subject)) => {
                allowed(name, pull)?;
                let subject = names::digest(subject)?;
                match &self.proxy {
                    Some(proxy) => proxy.referrers(&request.head, name, &subject),
                    None => listings::referrers(&self.records, &request.head, name, &subject),
                }
            }
            (Method::Get, Route::Manifest(name, key)) => {
                allowed(name, pull)?;
                self.manifest(request, name, &Key::parse(key)?)
            }
            (Method::Put, Route::Manifest(name, key)) => {
                allowed(name, push)?;
                manifests::put(&self.records, request, name, &Key::parse(key)?)
            }
            (Method::Delete, Route::Manifest(name, key)) => {
                allowed(name, delete)?;
                manifests::delete(&self.records, name, &Key::parse(key)?)
            }
            (Method::Get, Route::Blob(name, digest)) => {
                allowed(name, pull)?;
                self.blob(request, name, &names::digest(digest)?)
            }
            (Method::Delete, Route::Blob(name, digest)) => {
                allowed(name, delete)?;
                blobs::delete(&self.records, name, &names::digest(digest)?)
            }
            (Method::Post, Route::Uploads(name)) => {
                allowed(name, push)?;
                let readable = |from: &str| self.auth.allows(&identity, from, Action::Pull);
                uploads::begin(&self.records, request, name, &readable)
            }
            (Method::Get, Route::Upload(name, id)) => {
                allowed(name, push)?;
                uploads::status(&self.uploads, &self.records, name, id)
            }
            (Method::Patch, Route::Upload(name, id)) => {
                allowed(name, push)?;
                uploads::chunk(&self.uploads, &self.records, request, name, id)
            }
            (Method::Put, Route::Upload(name, id)) => {
                allowed(name, push)?;
                uploads::finish(&self.uploads, &self.records, request, name, id)
            }
            (Method::Delete, Route::Upload(name, id)) => {
                allowed(name, push)?;
                uploads::cancel(&self.uploads, &self.records, name, id)
            }
            _ => Err(Failure::new(Code::Unsupported, "this cannot be done with that method")),
        }
    }

    fn manifest(&self, request: &Request<'_>, name: &str, key: &Key) -> Answered {
        let warning = match &self.proxy {
            Some(proxy) => proxy.refresh(name, key)?,
            None => None,
        };
        let found = manifests::get(&self.records, &request.head, name, key)?;
        let response = found.ok_or_else(|| manifests::unknown(&self.records, name, key))?;
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
            return Ok(found);
        }
        match &self.proxy {
            Some(proxy) => proxy.blob(&request.head, name, digest),
            None => Err(blobs::unknown(name, digest)),
        }
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
