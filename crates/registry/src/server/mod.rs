//! The distribution protocol, server side: OCI distribution-spec 1.1 on the content store of a data root.
//!
//! Blocking threads for what is being answered (see [`fluyt_http`] for why). It shares the data root with everything else of this
//! program: several processes may use it at once, blobs that images and repositories have in common exist once.
//! Building and running images is not here; replication and webhooks are absent.
//!
//! # Map
//! - [`ServeOptions`], [`serve`]: the way in. [`collect`]: collection from outside.
//! - `app`: which request leads where, with which rights.
//! - `names`, `document`, `failure`: names, manifests and refusals, all pure.
//! - `blobs`, `uploads`, `manifests`, `listings`: the endpoints. `records`: what is remembered.
//! - `auth`: who may do what. `proxy`: the pull-through cache, `evict` what goes from it. `gc`: what is no longer needed.
//! - `observe`: access log and counters.

mod app;
mod auth;
mod blobs;
mod config;
mod document;
mod evict;
mod failure;
mod gc;
mod listings;
mod manifests;
mod names;
mod notify;
mod observe;
mod proxy;
mod records;
mod uploads;

use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use fluyt_http::{self as http, Limits, Listener};
use fluyt_model::{Error, Result};

use crate::Settings;
use records::Records;

pub use evict::Bounds;
pub use gc::{CollectOptions, Swept};
pub(crate) use listings::escape;
pub use observe::LogFormat;

/// How a registry is served.
#[derive(Clone, Debug, Default)]
pub struct ServeOptions {
    /// The data root.
    pub root: PathBuf,
    /// `HOST:PORT`; port 0 takes a free one.
    pub address: String,
    /// A PEM file with the certificate chain, and one with its key: https then.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Users and their bcrypt hashes, as `htpasswd -B` writes them.
    pub htpasswd: Option<PathBuf>,
    /// The configuration file (JSON): rights, tokens, cache, collection. See `docs/registry.md`.
    pub config: Option<PathBuf>,
    /// The base URL of a registry whose content is cached.
    pub proxy: Option<String>,
    /// For how long a tag is believed before the upstream is asked again; `None`: as the configuration says.
    pub proxy_ttl: Option<Duration>,
    /// How much a cache keeps; what is `None` is as the configuration says.
    pub cache: Bounds,
    /// A file for a line about each request; `-`: standard error.
    pub access_log: Option<(PathBuf, LogFormat)>,
    /// `HOST:PORT` where counters are shown at `/metrics`.
    pub metrics: Option<String>,
    /// Connections served at once; `None`: as the configuration says, else 1024.
    pub max_connections: Option<usize>,
    /// Refuses everything that changes something.
    pub read_only: bool,
    /// How the cached registry is reached.
    pub settings: Settings,
}

/// A registry that is bound to its address.
#[derive(Debug)]
pub struct Bound {
    /// Where it listens.
    pub address: SocketAddr,
    /// Where the counters are shown.
    pub metrics: Option<SocketAddr>,
    server: http::Server,
    page: Option<http::Server>,
    app: Arc<app::App>,
}

/// Opens the data root, reads the configuration and binds the address.
///
/// # Errors
/// I/O errors; `Kind::Invalid` for a configuration, certificate or password file that is wrong; `Kind::Conflict`
/// when the address is in use.
pub fn bind(options: ServeOptions) -> Result<Bound> {
    let page = options.metrics.as_deref().map(Listener::tcp).transpose()?;
    let mut listener = Listener::tcp(&options.address)?;
    if let Some((certificate, key)) = &options.tls {
        listener = listener.with_tls(Arc::new(http::TlsFiles::load(certificate, key, None)?));
    }
    let address = address(&listener)?;
    let metrics = page.as_ref().map(self::address).transpose()?;
    let app = Arc::new(app::App::new(options)?);
    let most = app.most_connections();
    let limits = Limits { connections: most, threads: most, ..Limits::default() };
    let server = http::Server::new("registry-conn", vec![listener], limits);
    let limits = Limits { connections: PAGE_CONNECTIONS, threads: PAGE_CONNECTIONS, ..Limits::default() };
    let page = page.map(|listener| http::Server::new("registry-page", vec![listener], limits));
    Ok(Bound { address, metrics, server, page, app })
}

/// Where a listener on TCP listens.
fn address(listener: &Listener) -> Result<SocketAddr> {
    match listener.place() {
        http::Place::Tcp(address) => Ok(*address),
        http::Place::Unix(_) => Err(Error::internal("a registry listens on TCP")),
    }
}

impl Bound {
    /// What opens the access log anew when it is called, for whoever rotates logs.
    pub fn reopener(&self) -> impl Fn() + Send + 'static + use<> {
        let observer = self.app.observer();
        move || observer.reopen()
    }

    /// Serves until `stop` becomes readable; requests under way may end.
    ///
    /// # Errors
    /// The listening socket fails.
    pub fn serve(self, stop: BorrowedFd<'_>) -> Result<()> {
        raise_file_limit();
        let handler = Arc::clone(&self.app);
        let Some(page) = self.page else { return self.server.run(handler, stop) };
        let counters = Arc::new(observe::Page(self.app.observer()));
        std::thread::scope(|scope| {
            let spawned = std::thread::Builder::new()
                .name("registry-metrics".to_owned())
                .spawn_scoped(scope, || page.run(counters, stop));
            spawned.map_err(|e| Error::io("starting a thread", e))?;
            self.server.run(handler, stop)
        })
    }
}

/// Removes from the repositories of a data root what no manifest needs, and blobs that nothing needs any more.
/// Safe while a registry serves the same root, and while others push.
///
/// # Errors
/// I/O errors.
pub fn collect(root: &Path, options: &CollectOptions) -> Result<Swept> {
    gc::run(&Records::open(root)?, options)
}

/// Throws away what of a cache is beyond the bounds: what nobody has asked for for long, then the least recently asked
/// for. Blobs that came within `grace` stay. Safe while a registry serves the same root.
///
/// # Errors
/// I/O errors.
pub fn trim(root: &Path, bounds: &Bounds, grace: Duration) -> Result<Swept> {
    evict::run(&Records::open(root)?, bounds, grace)
}

/// Connections to the counters served at once.
const PAGE_CONNECTIONS: usize = 16;

/// Each connection may have a socket and a file open; the usual limit is for less. Where it cannot be raised, fewer
/// connections are accepted at once.
fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.unwrap_or(8192).min(8192);
    if limit.current.is_some_and(|now| now < wanted) {
        limit.current = Some(wanted);
        let _ = setrlimit(Resource::Nofile, limit);
    }
}

/// Fills `bytes` from the kernel's generator.
fn random(bytes: &mut [u8]) -> Result<()> {
    let n = rustix::rand::getrandom(&mut *bytes, rustix::rand::GetRandomFlags::empty())
        .map_err(|e| Error::io("random bytes", e.into()))?;
    // Up to 256 bytes come whole (getrandom(2)).
    if n == bytes.len() { Ok(()) } else { Err(Error::internal("the kernel gave too few random bytes")) }
}

/// How often idle uploads are looked after.
const TIDY_EVERY: Duration = Duration::from_secs(60);
