//! Notifications: who asked to be told learns, by a POST, what was pushed, pulled, mounted and deleted. The envelope is
//! docker-registry's (`application/vnd.docker.distribution.events.v1+json`), and so are the names in the configuration.
//!
//! Telling never holds up a request: events go into a queue for each endpoint, which a thread of its own empties. An
//! endpoint that fails is asked again after a pause; when a queue is full, its oldest events are lost, and that is said.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use fluyt_http::{Method, Request, Response};
use fluyt_model::{Error, Result};
use serde::Deserialize;
use serde_json::{Value, json};
use ureq::http::Method as HttpMethod;

use super::names::{Key, Route};
use super::records::Records;
use crate::Settings;
use crate::http::{Ask, Http, Payload};

/// Events that wait for one endpoint.
const MOST: usize = 10_000;
/// Events in one envelope.
const TOGETHER: usize = 100;
/// The media type of an envelope.
const ENVELOPE: &str = "application/vnd.docker.distribution.events.v1+json";

/// What the configuration says.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct NotificationsConfig {
    /// Who is told.
    pub endpoints: Vec<EndpointConfig>,
}

/// One who is told.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub(crate) struct EndpointConfig {
    /// What it is called in messages.
    pub name: String,
    /// Where events are posted.
    pub url: String,
    /// Further headers, as `Authorization`.
    pub headers: BTreeMap<String, String>,
    /// Not for now.
    pub disabled: bool,
    /// Seconds that an answer may take.
    pub timeout: u64,
    /// Seconds between two tries.
    pub backoff: u64,
    /// What it need not be told.
    pub ignore: Ignored,
}

impl Default for EndpointConfig {
    fn default() -> Self {
        Self {
            name: String::new(),
            url: String::new(),
            headers: BTreeMap::new(),
            disabled: false,
            timeout: 5,
            backoff: 10,
            ignore: Ignored::default(),
        }
    }
}

/// See [`EndpointConfig::ignore`].
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub(crate) struct Ignored {
    /// Media types of what it is about.
    #[serde(alias = "mediatypes")]
    pub media_types: Vec<String>,
    /// `push`, `pull`, `mount`, `delete`.
    pub actions: Vec<String>,
}

/// Tells.
#[derive(Debug, Default)]
pub(crate) struct Notifier {
    endpoints: Vec<Arc<Endpoint>>,
    /// This registry, in events.
    source: Value,
    /// By which it is reached.
    scheme: &'static str,
}

#[derive(Debug)]
struct Endpoint {
    config: EndpointConfig,
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    events: VecDeque<Value>,
    lost: u64,
    over: bool,
}

impl Notifier {
    /// Starts a thread for each endpoint.
    ///
    /// # Errors
    /// An address that is none; certificates that cannot be read.
    pub fn start(
        config: &NotificationsConfig,
        settings: &Settings,
        address: &str,
        secure: bool,
    ) -> Result<Self> {
        let mut endpoints = Vec::new();
        for config in config.endpoints.iter().filter(|config| !config.disabled) {
            let host = config.url.split_once("://").and_then(|(scheme, rest)| {
                let host = rest.split('/').next().filter(|host| !host.is_empty())?;
                matches!(scheme, "http" | "https").then_some((scheme == "https", host))
            });
            let (https, host) = host.ok_or_else(|| {
                Error::invalid(format!("notifications: {:?} is no web address", config.url))
            })?;
            let mut settings = settings.clone();
            settings.read_timeout = Duration::from_secs(config.timeout.max(1));
            settings.connect_timeout = settings.read_timeout;
            let headers = config.headers.iter().map(|(name, value)| (name.clone(), value.clone()));
            let client = Http::new(&settings, host, https)?.with_headers(headers.collect());
            let (queue, changed) = (Mutex::default(), Condvar::new());
            let endpoint = Arc::new(Endpoint { config: config.clone(), queue, changed });
            let own = Arc::clone(&endpoint);
            std::thread::Builder::new()
                .name("registry-notify".to_owned())
                .spawn(move || own.run(&client))
                .map_err(|e| Error::io("starting a thread", e))?;
            endpoints.push(endpoint);
        }
        let mut id = [0; 16];
        super::random(&mut id)?;
        let source = json!({"addr": address, "instanceID": uuid(id)});
        Ok(Self { endpoints, source, scheme: if secure { "https" } else { "http" } })
    }

    /// Whether anybody is to be told.
    pub fn wants(&self) -> bool {
        !self.endpoints.is_empty()
    }

    /// Tells what a request has done.
    pub fn tell(
        &self,
        records: &Records,
        request: &Request<'_>,
        route: &Route<'_>,
        user: &str,
        response: &Response,
    ) {
        let found = event(self.scheme, records, request, route, response);
        let Some((action, target)) = found else { return };
        let mut id = [0; 16];
        if super::random(&mut id).is_err() {
            return;
        }
        let head = &request.head;
        let event = json!({
            "id": uuid(id),
            "timestamp": fluyt_model::time::rfc3339(nanos()),
            "action": action,
            "target": target,
            "request": {
                "id": uuid(id),
                "addr": request.peer.to_string(),
                "host": head.header("host").unwrap_or_default(),
                "method": head.method.name(),
                "useragent": head.header("user-agent").unwrap_or_default(),
            },
            "actor": if user.is_empty() { json!({}) } else { json!({"name": user}) },
            "source": self.source,
        });
        for endpoint in &self.endpoints {
            endpoint.add(&event);
        }
    }
}

impl Drop for Notifier {
    fn drop(&mut self) {
        for endpoint in &self.endpoints {
            endpoint.lock().over = true;
            endpoint.changed.notify_all();
        }
    }
}

impl Endpoint {
    fn lock(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, event: &Value) {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (action, kind) = (text(&event["action"]), text(&event["target"]["mediaType"]));
        let ignored = &self.config.ignore;
        if ignored.actions.contains(&action) || ignored.media_types.contains(&kind) {
            return;
        }
        let mut queue = self.lock();
        if queue.events.len() >= MOST {
            queue.events.pop_front();
            queue.lost += 1;
        }
        queue.events.push_back(event.clone());
        drop(queue);
        self.changed.notify_one();
    }

    /// Posts what comes until the registry ends.
    fn run(&self, client: &Http) {
        let mut failing = false;
        loop {
            let (events, lost) = {
                let mut queue = self.lock();
                while queue.events.is_empty() && !queue.over {
                    queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
                }
                if queue.over {
                    return;
                }
                let count = queue.events.len().min(TOGETHER);
                let events: Vec<Value> = queue.events.drain(..count).collect();
                (events, std::mem::take(&mut queue.lost))
            };
            let name = if self.config.name.is_empty() { &self.config.url } else { &self.config.name };
            if lost > 0 {
                eprintln!("registry: notifications: {name}: {lost} events were lost");
            }
            if let Err(e) = self.post(client, &events) {
                if !failing {
                    eprintln!("registry: notifications: {name}: {}", e.chain());
                }
                failing = true;
                let mut queue = self.lock();
                for event in events.into_iter().rev() {
                    queue.events.push_front(event);
                }
                let pause = Duration::from_secs(self.config.backoff.max(1));
                let over = |queue: &mut Queue| !queue.over;
                drop(self.changed.wait_timeout_while(queue, pause, over));
            } else {
                failing = false;
            }
        }
    }

    fn post(&self, client: &Http, events: &[Value]) -> Result<()> {
        let body = json!({"events": events}).to_string();
        let mut ask = Ask::new(HttpMethod::POST, self.config.url.clone(), "a notification");
        ask.headers.push(("content-type", ENVELOPE.to_owned()));
        ask.body = Payload::Bytes(body.as_bytes());
        let answer = client.send(&mut ask, None)?;
        if answer.status.is_success() || answer.status.is_redirection() {
            return Ok(());
        }
        Err(Error::new(fluyt_model::Kind::Unavailable, format!("it answers {}", answer.status)))
    }
}

/// What a request has done, and to what; `None` when nobody is told of it.
fn event(
    scheme: &str,
    records: &Records,
    request: &Request<'_>,
    route: &Route<'_>,
    response: &Response,
) -> Option<(&'static str, Value)> {
    let header =
        |name: &str| response.headers.iter().find(|(n, _)| *n == name).map(|(_, text)| text.as_str());
    let (method, status) = (request.head.method, response.status);
    let digest = || fluyt_image::Digest::parse(header("Docker-Content-Digest")?).ok();
    let about = |name: &str, kind: &str, place: &str| -> Option<Value> {
        let digest = digest()?;
        let size = records.blobs().size(&digest).ok()?;
        let host = request.head.header("host").unwrap_or_default();
        let url = format!("{scheme}://{host}/v2/{name}/{place}/{digest}");
        Some(json!({"mediaType": kind, "size": size, "length": size, "digest": digest.as_str(),
            "repository": name, "url": url}))
    };
    match (route, method, status) {
        (Route::Manifest(name, key), Method::Get | Method::Put, 200 | 201) => {
            let kind = records.manifest(name, &digest()?).ok()??.media_type;
            let mut target = about(name, &kind, "manifests")?;
            if let Ok(Key::Tag(tag)) = Key::parse(key) {
                target["tag"] = json!(tag);
            }
            Some((if method == Method::Put { "push" } else { "pull" }, target))
        }
        (Route::Blob(name, _), Method::Get, 200) => {
            Some(("pull", about(name, "application/octet-stream", "blobs")?))
        }
        (Route::Upload(name, _), Method::Put, 201) => {
            Some(("push", about(name, "application/octet-stream", "blobs")?))
        }
        (Route::Uploads(name), Method::Post, 201) => {
            let mut target = about(name, "application/octet-stream", "blobs")?;
            if request.head.parameter("mount").is_none() {
                return Some(("push", target));
            }
            if let Some(from) = request.head.parameter("from") {
                target["fromRepository"] = json!(from);
            }
            Some(("mount", target))
        }
        (Route::Manifest(name, key), Method::Delete, 202) => Some((
            "delete",
            match Key::parse(key).ok()? {
                Key::Tag(tag) => json!({"repository": name, "tag": tag}),
                Key::Digest(digest) => json!({"repository": name, "digest": digest.as_str()}),
            },
        )),
        (Route::Blob(name, digest), Method::Delete, 202) => {
            Some(("delete", json!({"repository": name, "digest": digest})))
        }
        _ => None,
    }
}

/// Sixteen random bytes as a UUID of version 4.
fn uuid(mut bytes: [u8; 16]) -> String {
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

fn nanos() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}
