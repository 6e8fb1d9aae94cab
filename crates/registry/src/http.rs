//! One HTTP exchange: limits on time and size, redirects without leaking credentials, errors that name the peer.
//!
//! Knows nothing of registries' documents or tokens; tries nothing twice.

use std::io::Read;
use std::time::Duration;

use fluyt_model::{Error, Kind, Result};
use ureq::http::{Method, Request, Response as HttpResponse, StatusCode};
use ureq::{Agent, Body, SendBody};

use crate::settings::{Settings, host_name, is_loopback};
use crate::tls;

/// Redirects followed before giving up.
const MAX_REDIRECTS: usize = 10;
/// The longest error document that is read.
const MAX_ERROR_BODY: u64 = 64 << 10;

/// A request. Headers are name and value.
pub(crate) struct Ask<'a> {
    pub method: Method,
    pub url: String,
    pub headers: Vec<(&'static str, String)>,
    pub body: Payload<'a>,
    /// What is wanted, for errors: "manifest busybox:latest".
    pub what: String,
    /// Longer than the usual time to answer, where a registry has to do work first.
    pub patience: Option<Duration>,
}

impl<'a> Ask<'a> {
    pub fn new(method: Method, url: impl Into<String>, what: impl Into<String>) -> Self {
        Self {
            method,
            url: url.into(),
            headers: Vec::new(),
            body: Payload::None,
            what: what.into(),
            patience: None,
        }
    }

    pub fn get(url: impl Into<String>, what: impl Into<String>) -> Self {
        Self::new(Method::GET, url, what)
    }

    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub fn body(mut self, body: Payload<'a>) -> Self {
        self.body = body;
        self
    }

    pub fn patient(mut self) -> Self {
        self.patience = Some(Duration::from_secs(300));
        self
    }
}

/// What a request sends.
pub(crate) enum Payload<'a> {
    None,
    Bytes(&'a [u8]),
    /// A stream of known length, sent once; it has to be set anew for each try.
    Stream(&'a mut dyn Read, u64),
}

/// An answer, its body not yet read.
pub(crate) struct Answer {
    pub status: StatusCode,
    pub url: String,
    inner: HttpResponse<Body>,
}

impl Answer {
    /// A header as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.inner.headers().get(name)?.to_str().ok()
    }

    /// All values of a header, joined as HTTP allows.
    pub fn headers(&self, name: &str) -> String {
        let values = self.inner.headers().get_all(name).iter().filter_map(|v| v.to_str().ok());
        values.collect::<Vec<_>>().join(", ")
    }

    /// The body as a stream without limit.
    pub fn reader(self) -> impl Read {
        self.inner.into_body().into_with_config().limit(u64::MAX).reader()
    }

    /// The whole body, at most `limit` bytes.
    pub fn bytes(self, limit: u64, what: &str) -> Result<Vec<u8>> {
        let url = self.url.clone();
        let mut bytes = Vec::new();
        let result = self.reader().take(limit + 1).read_to_end(&mut bytes);
        result.map_err(|e| read_error(&url, what, e))?;
        if bytes.len() as u64 > limit {
            return Err(Error::corrupt(format!("{}: {what} is larger than {limit} bytes", host_of(&url))));
        }
        Ok(bytes)
    }

    /// What the server says about an error, cut short; never fails.
    pub fn error_text(self) -> String {
        let mut bytes = Vec::new();
        let _ = self.reader().take(MAX_ERROR_BODY).read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// A client for one host and what it redirects to.
#[derive(Clone, Debug)]
pub(crate) struct Http {
    agent: Agent,
    read_timeout: Duration,
    /// The host that this is for, and what its requests have to say further.
    host: String,
    headers: Vec<(String, String)>,
}

impl Http {
    /// A client for `host` (`NAME[:PORT]`); `https` loads certificates.
    pub fn new(settings: &Settings, host: &str, https: bool) -> Result<Self> {
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("fluyt/", env!("CARGO_PKG_VERSION")))
            .timeout_resolve(Some(settings.connect_timeout))
            .timeout_connect(Some(settings.connect_timeout))
            .timeout_per_read(Some(settings.read_timeout))
            .timeout_per_write(Some(settings.read_timeout))
            .max_idle_connections_per_host(settings.downloads.max(settings.uploads) + 1);
        let proxy = settings.proxy_from_env && !is_loopback(host);
        config = config.proxy(if proxy { ureq::Proxy::try_from_env() } else { None });
        if https {
            config = config.tls_config(tls::config(settings, host)?);
        }
        Ok(Self {
            agent: config.build().new_agent(),
            read_timeout: settings.read_timeout,
            host: host.to_owned(),
            headers: settings.rules.get(host).map(|r| r.headers.clone()).unwrap_or_default(),
        })
    }

    /// With further headers in every request to the host.
    pub fn with_headers(mut self, headers: Vec<(String, String)>) -> Self {
        self.headers.extend(headers);
        self
    }

    /// Sends the request and follows redirects of GET and HEAD. `authorization` goes to the first host only.
    pub fn send(&self, ask: &mut Ask<'_>, authorization: Option<&str>) -> Result<Answer> {
        let mut url = ask.url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let same = origin(&url) == origin(&ask.url);
            let answer = self.once(ask, &url, authorization.filter(|_| same))?;
            let follows = answer.status.is_redirection() && matches!(ask.method, Method::GET | Method::HEAD);
            let Some(location) = answer.header("location").filter(|_| follows) else { return Ok(answer) };
            url = join(&url, location);
        }
        Err(Error::new(
            Kind::Unavailable,
            format!("{}: too many redirects for {}", host_of(&ask.url), ask.what),
        ))
    }

    fn once(&self, ask: &mut Ask<'_>, url: &str, authorization: Option<&str>) -> Result<Answer> {
        let mut request = Request::builder().method(ask.method.clone()).uri(url);
        for (name, value) in &ask.headers {
            request = request.header(*name, value);
        }
        for (name, value) in self.headers.iter().filter(|_| host_of(url) == self.host) {
            request = request.header(name, value);
        }
        if let Some(value) = authorization {
            request = request.header("authorization", value);
        }
        let patience = ask.patience.unwrap_or(self.read_timeout);
        let body = match &mut ask.body {
            Payload::None => None,
            Payload::Bytes(bytes) => {
                request = request.header("content-length", bytes.len());
                Some(*bytes as &[u8])
            }
            Payload::Stream(reader, len) => {
                request = request.header("content-length", *len);
                let body = SendBody::from_reader(*reader);
                let built = request.body(body).map_err(|e| bad_request(url, e))?;
                return self.finish(built, url, &ask.what, patience);
            }
        };
        match body {
            None => {
                let built = request.body(()).map_err(|e| bad_request(url, e))?;
                self.finish(built, url, &ask.what, patience)
            }
            Some(bytes) => {
                let built = request.body(bytes).map_err(|e| bad_request(url, e))?;
                self.finish(built, url, &ask.what, patience)
            }
        }
    }

    fn finish<B: ureq::AsSendBody>(
        &self,
        request: Request<B>,
        url: &str,
        what: &str,
        patience: Duration,
    ) -> Result<Answer> {
        let request = self
            .agent
            .configure_request(request)
            .timeout_per_read(Some(patience))
            .timeout_recv_response(Some(patience))
            .build();
        match self.agent.run(request) {
            Ok(inner) => Ok(Answer { status: inner.status(), url: url.to_owned(), inner }),
            Err(e) => Err(transport_error(url, what, patience, e)),
        }
    }
}

fn bad_request(url: &str, e: ureq::http::Error) -> Error {
    Error::invalid(format!("{url}: not a valid request")).with_source(e)
}

/// Scheme, host and port of a URL: who receives it.
pub(crate) fn origin(url: &str) -> &str {
    let start = url.find("://").map_or(0, |i| i + 3);
    let end = url[start..].find(['/', '?', '#']).map_or(url.len(), |i| start + i);
    &url[..end]
}

/// Host and port of a URL.
pub(crate) fn host_of(url: &str) -> &str {
    let origin = origin(url);
    origin.split_once("://").map_or(origin, |(_, host)| host)
}

/// A `Location` relative to the URL that it came from.
pub(crate) fn join(base: &str, location: &str) -> String {
    // A scheme ends before anything else does (RFC 3986, section 3.1): an address in a query makes nothing absolute.
    let first = location.find([':', '/', '?', '#']).map_or("", |at| &location[at..]);
    if first.starts_with("://") {
        return location.to_owned();
    }
    if let Some(rest) = location.strip_prefix("//") {
        let scheme = base.split_once("://").map_or("https", |(s, _)| s);
        return format!("{scheme}://{rest}");
    }
    if location.starts_with('/') {
        return format!("{}{location}", origin(base));
    }
    let path = base.split(['?', '#']).next().unwrap_or(base);
    let dir = &path[..path.rfind('/').filter(|i| *i >= origin(base).len()).map_or(path.len(), |i| i)];
    format!("{dir}/{location}")
}

/// The error of a body that breaks off.
pub(crate) fn read_error(url: &str, what: &str, e: std::io::Error) -> Error {
    let host = host_of(url);
    let text = format!("registry {host}: reading {what}");
    let timed_out = e.kind() == std::io::ErrorKind::TimedOut
        || matches!(e.get_ref().and_then(|e| e.downcast_ref::<ureq::Error>()), Some(ureq::Error::Timeout(_)));
    let kind = if timed_out { Kind::Timeout } else { Kind::Unavailable };
    Error::new(kind, text)
        .with_source(e)
        .with_hint("try again: what has arrived is kept, and the transfer goes on from there")
}

fn transport_error(url: &str, what: &str, patience: Duration, e: ureq::Error) -> Error {
    let host = host_of(url);
    let seconds = patience.as_secs_f32();
    match e {
        ureq::Error::Timeout(ureq::Timeout::Resolve | ureq::Timeout::Connect) => {
            Error::new(Kind::Timeout, format!("registry {host}: no connection in time (wanted: {what})"))
                .with_hint(format!("check that {} is reachable from here, or name a proxy", host_name(host)))
        }
        ureq::Error::Timeout(_) => Error::new(
            Kind::Timeout,
            format!("registry {host} did not answer within {seconds} s (wanted: {what})"),
        )
        .with_hint("the registry accepts connections but hangs; try again later or use a mirror"),
        ureq::Error::HostNotFound => no_such_host(host, what),
        // How the C library's resolver fails reaches us as text only.
        ureq::Error::Io(e) if e.to_string().contains("failed to lookup address") => {
            no_such_host(host, what).with_source(e)
        }
        ureq::Error::Rustls(e) => tls_error(host, what, e.to_string()),
        // rustls' errors arrive wrapped in I/O errors.
        ureq::Error::Io(e)
            if ["certificate", "corrupt message", "received fatal alert"]
                .iter()
                .any(|s| e.to_string().contains(s)) =>
        {
            tls_error(host, what, e.to_string())
        }
        ureq::Error::Io(e) => {
            let refused = e.kind() == std::io::ErrorKind::ConnectionRefused;
            let error =
                Error::new(Kind::Unavailable, format!("registry {host} cannot be reached (wanted: {what})"))
                    .with_source(e);
            if refused { error.with_hint("is the registry running, and is the port right?") } else { error }
        }
        other => {
            Error::new(Kind::Unavailable, format!("registry {host}: the exchange failed (wanted: {what})"))
                .with_source(other)
        }
    }
}

fn no_such_host(host: &str, what: &str) -> Error {
    Error::new(Kind::Unavailable, format!("registry {host}: no such host (wanted: {what})"))
        .with_hint("check the registry's name and this machine's DNS (/etc/resolv.conf)")
}

fn tls_error(host: &str, what: &str, text: String) -> Error {
    let consent = format!(
        "if you trust the network to it, add \"{host}\" to \"insecure-registries\" in /etc/fluyt/registries.json"
    );
    let hint = if text.contains("InvalidContentType") {
        format!("the registry speaks plain http; {consent}")
    } else {
        format!("put the registry's CA into /etc/docker/certs.d/{host}/ca.crt, or {consent}")
    };
    Error::new(Kind::Unavailable, format!("registry {host}: no secure connection (wanted: {what}): {text}"))
        .with_hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_joined() {
        for (base, location, expected) in [
            ("http://a:1/v2/x/blobs/uploads/", "/v2/y?z=1", "http://a:1/v2/y?z=1"),
            ("http://a:1/v2/x", "https://b/c", "https://b/c"),
            ("https://a/v2/x", "//b/c", "https://b/c"),
            ("http://a:1/v2/x", "/v2/y?back=https://b/c", "http://a:1/v2/y?back=https://b/c"),
            ("http://a:1/v2/x/y?q", "z", "http://a:1/v2/x/z"),
            ("http://a:1", "z", "http://a:1/z"),
        ] {
            assert_eq!(join(base, location), expected);
        }
        assert_eq!(origin("http://a:1?x"), "http://a:1");
        assert_eq!(host_of("https://a.b/c"), "a.b");
    }
}
