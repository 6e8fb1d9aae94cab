//! What goes on, for people and machines: an access log with a line for each request, and counters in Prometheus' text
//! format (version 0.0.4) that a listener of its own shows. Neither is asked for: nothing is counted.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use fluyt_image::time::now;
use fluyt_model::error::IoContext;
use fluyt_model::{Error, Result};

use super::names::Route;
use fluyt_http::{Exchange, Handler, Method, Payload, Request, Response};

/// Upper ends of the histogram's buckets, in seconds.
const BUCKETS: [f64; 11] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0];

/// What is written for a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// The combined log format of web servers.
    #[default]
    Combined,
    /// One JSON object a line.
    Json,
}

/// Counts and writes down.
#[derive(Debug, Default)]
pub(crate) struct Observer {
    log: Option<Log>,
    counts: Option<Counts>,
}

#[derive(Debug)]
struct Log {
    path: PathBuf,
    file: Mutex<File>,
    format: LogFormat,
}

#[derive(Debug, Default)]
struct Counts {
    requests: Mutex<BTreeMap<(&'static str, &'static str, u16), u64>>,
    durations: Mutex<BTreeMap<&'static str, Histogram>>,
    sent: AtomicU64,
    busy: AtomicI64,
    /// Of a cache: answered from here, fetched, evicted.
    hits: AtomicU64,
    misses: AtomicU64,
    evicted: AtomicU64,
}

#[derive(Clone, Debug, Default)]
struct Histogram {
    buckets: [u64; BUCKETS.len()],
    count: u64,
    sum: f64,
}

impl Observer {
    /// Writes to `log` (`-`: standard error), counts if `counting`.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn new(log: Option<(&Path, LogFormat)>, counting: bool) -> Result<Self> {
        let log = match log {
            None => None,
            Some((path, format)) => {
                Some(Log { path: path.to_owned(), file: Mutex::new(open(path)?), format })
            }
        };
        Ok(Self { log, counts: counting.then(Counts::default) })
    }

    /// Opens the log anew: the old one may have been given another name.
    pub fn reopen(&self) {
        let Some(log) = &self.log else { return };
        match open(&log.path) {
            Ok(file) => *log.file.lock().unwrap_or_else(PoisonError::into_inner) = file,
            Err(e) => eprintln!("registry: {}", e.chain()),
        }
    }

    /// Whether anybody wants to know.
    pub fn wants(&self) -> bool {
        self.log.is_some() || self.counts.is_some()
    }

    /// A request begins.
    pub fn begun(&self) {
        if let Some(counts) = &self.counts {
            counts.busy.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A request has been answered.
    pub fn done(&self, exchange: &Exchange) {
        if let Some(counts) = &self.counts {
            counts.busy.fetch_sub(1, Ordering::Relaxed);
            counts.add(exchange);
        }
        if let Some(log) = &self.log {
            let line = match log.format {
                LogFormat::Combined => combined(exchange, now()),
                LogFormat::Json => json(exchange, now()),
            };
            // One write a line: lines of several processes do not mix. A full disk must not stop the registry.
            let _ = log.file.lock().unwrap_or_else(PoisonError::into_inner).write_all(line.as_bytes());
        }
    }

    /// A cache had what was asked for, or had not.
    pub fn cached(&self, hit: bool) {
        if let Some(counts) = &self.counts {
            let counter = if hit { &counts.hits } else { &counts.misses };
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A cache has thrown manifests away.
    pub fn evicted(&self, manifests: u64) {
        if let Some(counts) = &self.counts {
            counts.evicted.fetch_add(manifests, Ordering::Relaxed);
        }
    }

    /// The page of counters.
    pub fn page(&self) -> String {
        self.counts.as_ref().map(Counts::page).unwrap_or_default()
    }
}

fn open(path: &Path) -> Result<File> {
    if path == Path::new("-") {
        let copy = rustix::io::dup(std::io::stderr()).map_err(|e| Error::io("standard error", e.into()))?;
        return Ok(File::from(copy));
    }
    OpenOptions::new().append(true).create(true).open(path).about(|| path.display().to_string())
}

/// The user that an `Authorization` header names; nobody has verified that here.
fn user(authorization: &str) -> Option<String> {
    let (scheme, text) = authorization.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let plain = String::from_utf8(BASE64.decode(text.trim()).ok()?).ok()?;
    Some(plain.split_once(':')?.0.to_owned()).filter(|user| !user.is_empty())
}

/// Where a request came from, as logs have it.
fn from(exchange: &Exchange) -> String {
    exchange.peer.ip().map_or_else(|| "-".to_owned(), |ip| ip.to_string())
}

/// Few words for many paths: what counters are told apart by.
fn kind_of(path: &str) -> &'static str {
    match Route::of(path) {
        None => "unknown",
        Some(Route::Root | Route::Base) => "base",
        Some(Route::Token) => "token",
        Some(Route::Manifest(..)) => "manifest",
        Some(Route::Blob(..)) => "blob",
        Some(Route::Uploads(_) | Route::Upload(..)) => "upload",
        Some(Route::Tags(_)) => "tags",
        Some(Route::Referrers(..)) => "referrers",
        Some(Route::Catalog) => "catalog",
        Some(Route::Search) => "search",
    }
}

/// Text from outside within quotes: no quotes, no control characters.
fn quoted(text: &str) -> String {
    text.chars().map(|c| if c == '"' || c == '\\' || c.is_control() { '?' } else { c }).collect()
}

fn combined(exchange: &Exchange, at: i64) -> String {
    let user = user(&exchange.authorization);
    let user = user.as_deref().map_or_else(|| "-".to_owned(), |u| quoted(u).replace(' ', "_"));
    let agent = if exchange.agent.is_empty() { "-".to_owned() } else { quoted(&exchange.agent) };
    format!(
        "{} - {user} [{}] \"{} {} HTTP/1.1\" {} {} \"-\" \"{agent}\"\n",
        from(exchange),
        date(at),
        exchange.method.name(),
        quoted(&exchange.target),
        exchange.status,
        exchange.bytes,
    )
}

/// `21/Nov/2026:14:28:56 +0000`.
fn date(at: i64) -> String {
    let text = fluyt_http::date(at);
    // `Sat, 21 Nov 2026 14:28:56 GMT`.
    let words: Vec<&str> = text.split(' ').collect();
    match words[..] {
        [_, day, month, year, time, _] => format!("{day}/{month}/{year}:{time} +0000"),
        _ => text,
    }
}

fn json(exchange: &Exchange, at: i64) -> String {
    let value = serde_json::json!({
        "time": at,
        "peer": from(exchange),
        "user": user(&exchange.authorization),
        "method": exchange.method.name(),
        "target": exchange.target,
        "route": kind_of(&exchange.path),
        "status": exchange.status,
        "bytes": exchange.bytes,
        "seconds": exchange.took.as_secs_f64(),
        "agent": exchange.agent,
        "sent": exchange.sent,
    });
    format!("{value}\n")
}

impl Counts {
    fn add(&self, exchange: &Exchange) {
        let route = kind_of(&exchange.path);
        let key = (exchange.method.name(), route, exchange.status);
        *self.requests.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default() += 1;
        self.sent.fetch_add(exchange.bytes, Ordering::Relaxed);
        let seconds = exchange.took.as_secs_f64();
        let mut durations = self.durations.lock().unwrap_or_else(PoisonError::into_inner);
        let histogram = durations.entry(route).or_default();
        histogram.count += 1;
        histogram.sum += seconds;
        for (bucket, end) in histogram.buckets.iter_mut().zip(BUCKETS) {
            *bucket += u64::from(seconds <= end);
        }
    }

    fn page(&self) -> String {
        let mut out = String::new();
        let head = |out: &mut String, name: &str, kind: &str, help: &str| {
            let _ = write!(out, "# HELP fluyt_registry_{name} {help}\n# TYPE fluyt_registry_{name} {kind}\n");
        };
        head(&mut out, "requests_total", "counter", "Requests answered.");
        for ((method, route, code), n) in &*self.requests.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ = writeln!(
                out,
                "fluyt_registry_requests_total{{method=\"{method}\",route=\"{route}\",code=\"{code}\"}} {n}"
            );
        }
        let name = "request_duration_seconds";
        head(&mut out, name, "histogram", "Time from a request's head to the end of its answer.");
        for (route, histogram) in &*self.durations.lock().unwrap_or_else(PoisonError::into_inner) {
            for (n, end) in histogram.buckets.iter().zip(BUCKETS) {
                let _ = writeln!(out, "fluyt_registry_{name}_bucket{{route=\"{route}\",le=\"{end}\"}} {n}");
            }
            let Histogram { count, sum, .. } = histogram;
            let _ = writeln!(out, "fluyt_registry_{name}_bucket{{route=\"{route}\",le=\"+Inf\"}} {count}");
            let _ = writeln!(out, "fluyt_registry_{name}_sum{{route=\"{route}\"}} {sum}");
            let _ = writeln!(out, "fluyt_registry_{name}_count{{route=\"{route}\"}} {count}");
        }
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let plain = [
            ("response_bytes_total", "Bytes of answers' bodies.", load(&self.sent)),
            ("cache_hits_total", "Manifests and blobs that the cache had.", load(&self.hits)),
            ("cache_misses_total", "Manifests and blobs that the cache had to fetch.", load(&self.misses)),
            ("cache_evicted_total", "Manifests that the cache threw away.", load(&self.evicted)),
        ];
        for (name, help, value) in plain {
            head(&mut out, name, "counter", help);
            let _ = writeln!(out, "fluyt_registry_{name} {value}");
        }
        head(&mut out, "requests_in_flight", "gauge", "Requests being answered.");
        let _ =
            writeln!(out, "fluyt_registry_requests_in_flight {}", self.busy.load(Ordering::Relaxed).max(0));
        out
    }
}

/// The listener of the counters.
pub(crate) struct Page(pub Arc<Observer>);

impl Handler for Page {
    fn handle(&self, request: &mut Request<'_>) -> Response {
        match (request.head.method, request.head.path.as_str()) {
            (Method::Get | Method::Head, "/metrics") => Response::new(200)
                .header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
                .payload(Payload::Bytes(self.0.page().into_bytes())),
            (_, "/metrics") => Response::new(405),
            _ => Response::new(404),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_log_that_was_moved_away_is_made_anew_when_asked() {
        let dir = tempfile::tempdir().unwrap();
        let (path, old) = (dir.path().join("log"), dir.path().join("log.1"));
        let observer = Observer::new(Some((&path, LogFormat::Combined)), false).unwrap();
        let lines = |path: &Path| std::fs::read_to_string(path).unwrap().lines().count();
        observer.done(&exchange());
        std::fs::rename(&path, &old).unwrap();
        observer.done(&exchange());
        assert_eq!((lines(&old), path.exists()), (2, false));
        observer.reopen();
        observer.done(&exchange());
        assert_eq!((lines(&old), lines(&path)), (2, 1));
    }

    fn exchange() -> Exchange {
        Exchange {
            peer: fluyt_http::Peer::Tcp(([127, 0, 0, 1], 4000).into()),
            method: Method::Get,
            target: "/v2/a/manifests/1?x=\"y".to_owned(),
            path: "/v2/a/manifests/1".to_owned(),
            status: 200,
            bytes: 42,
            took: Duration::from_millis(3),
            authorization: "Basic YW5uOnNlY3JldA==".to_owned(),
            agent: "docker/28\n".to_owned(),
            sent: true,
        }
    }

    #[test]
    fn requests_are_written_down() {
        assert_eq!(
            combined(&exchange(), 1_795_271_336),
            "127.0.0.1 - ann [21/Nov/2026:14:28:56 +0000] \"GET /v2/a/manifests/1?x=?y HTTP/1.1\" 200 42 \"-\" \
             \"docker/28?\"\n"
        );
        let value: serde_json::Value = serde_json::from_str(&json(&exchange(), 1)).unwrap();
        assert_eq!((value["route"].as_str(), value["bytes"].as_u64()), (Some("manifest"), Some(42)));
        assert_eq!(user("Bearer x"), None);
    }

    #[test]
    fn requests_are_counted() {
        let observer = Observer::new(None, true).unwrap();
        observer.begun();
        observer.done(&exchange());
        observer.cached(false);
        let page = observer.page();
        for line in [
            "fluyt_registry_requests_total{method=\"GET\",route=\"manifest\",code=\"200\"} 1",
            "fluyt_registry_request_duration_seconds_bucket{route=\"manifest\",le=\"0.0025\"} 0",
            "fluyt_registry_request_duration_seconds_bucket{route=\"manifest\",le=\"0.005\"} 1",
            "fluyt_registry_request_duration_seconds_count{route=\"manifest\"} 1",
            "fluyt_registry_response_bytes_total 42",
            "fluyt_registry_cache_misses_total 1",
            "fluyt_registry_requests_in_flight 0",
        ] {
            assert!(page.lines().any(|l| l == line), "{line} is not in\n{page}");
        }
        assert!(!Observer::default().wants());
    }
}
