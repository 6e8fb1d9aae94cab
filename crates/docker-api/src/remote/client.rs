//! Requests to a daemon: connections kept alive, the version of the API that both sides know, errors in its own words.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use fluyt_model::{Error, Kind, Result};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::dial::Dialer;
use super::host::Host;
use super::wire::{self, Head, Unread, Wire};

/// The newest version of the API that this client speaks.
pub const NEWEST: (u32, u32) = (1, 51);
/// What a daemon speaks that does not say.
const SILENT: (u32, u32) = (1, 24);
/// The longest document that is read as a whole.
const MAX_DOCUMENT: u64 = 256 << 20;
/// The longest error body.
const MAX_ERROR: u64 = 1 << 20;
/// Connections that are kept for later requests.
const MAX_IDLE: usize = 8;

const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
const PATH: &AsciiSet = &QUERY.remove(b'/').remove(b':').remove(b'@').remove(b'+');

/// A part of a path that came from outside: an id, a name.
#[must_use]
pub fn segment(text: &str) -> String {
    utf8_percent_encode(text, PATH).to_string()
}

/// A request, without the version in its path.
pub struct Request<'a> {
    method: &'static str,
    path: String,
    query: String,
    headers: Vec<(String, String)>,
    body: Sent<'a>,
}

/// The body of a request.
enum Sent<'a> {
    Nothing,
    Bytes(Vec<u8>),
    Stream(&'a mut dyn Read),
}

impl<'a> Request<'a> {
    /// For a path whose outside parts have been through [`segment`].
    pub fn new(method: &'static str, path: impl Into<String>) -> Self {
        Self { method, path: path.into(), query: String::new(), headers: Vec::new(), body: Sent::Nothing }
    }

    /// Adds a parameter.
    #[must_use]
    pub fn query(mut self, name: &str, value: &str) -> Self {
        self.query.push(if self.query.is_empty() { '?' } else { '&' });
        self.query.push_str(name);
        self.query.push('=');
        self.query.extend(utf8_percent_encode(value, QUERY));
        self
    }

    /// Adds a parameter when it is wanted.
    #[must_use]
    pub fn flag(self, name: &str, wanted: bool) -> Self {
        if wanted { self.query(name, "1") } else { self }
    }

    /// Adds a parameter when there is a value.
    #[must_use]
    pub fn maybe(self, name: &str, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.query(name, value),
            None => self,
        }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sends a document.
    ///
    /// # Errors
    /// It cannot be written as JSON.
    pub fn json(mut self, document: &impl serde::Serialize) -> Result<Self> {
        let bytes = serde_json::to_vec(document)
            .map_err(|e| Error::internal(format!("the request for {}", self.path)).with_source(e))?;
        self.body = Sent::Bytes(bytes);
        Ok(self.header("Content-Type", "application/json"))
    }

    /// Sends a stream of unknown length.
    #[must_use]
    pub fn stream(mut self, kind: &str, body: &'a mut dyn Read) -> Self {
        self.body = Sent::Stream(body);
        self.header("Content-Type", kind)
    }

    /// Whether it may be sent a second time when the first connection turns out to be dead.
    fn repeatable(&self) -> bool {
        !matches!(self.body, Sent::Stream(_))
    }
}

/// Speaks to one daemon. May be used by several threads; each request has a connection for itself.
pub struct Client {
    dialer: Dialer,
    pool: Arc<Pool>,
    /// Sent with every request.
    headers: Vec<(String, String)>,
    version: OnceLock<(u32, u32)>,
}

#[derive(Default)]
struct Pool(Mutex<Vec<Wire>>);

impl Pool {
    fn take(&self) -> Option<Wire> {
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(mut wire) = idle.pop() {
            if !wire.is_stale() {
                return Some(wire);
            }
        }
        None
    }

    fn keep(&self, mut wire: Wire) {
        wire.answers += 1;
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MAX_IDLE {
            idle.push(wire);
        }
    }
}

/// An answer whose body has not been read.
pub struct Answer {
    head: Head,
    body: wire::Body,
    wire: Option<Wire>,
    pool: Arc<Pool>,
}

/// A connection that has left HTTP: bytes both ways.
pub struct Hijacked {
    wire: Wire,
    /// The `Content-Type` of the answer.
    pub content_type: String,
}

impl Client {
    /// For a daemon. `version` fixes the API's version (`DOCKER_API_VERSION`), else it is agreed on with the daemon.
    ///
    /// # Errors
    /// `Invalid` for a version that is none.
    pub fn new(dialer: Dialer, version: Option<&str>, headers: Vec<(String, String)>) -> Result<Self> {
        let fixed = OnceLock::new();
        if let Some(text) = version.filter(|text| !text.is_empty()) {
            let parsed = parse_version(text).ok_or_else(|| {
                Error::invalid(format!("invalid API version ({text:?}): must be formatted <major>.<minor>"))
            })?;
            let _ = fixed.set(parsed);
        }
        Ok(Self { dialer, pool: Arc::default(), headers, version: fixed })
    }

    /// The daemon's host.
    #[must_use]
    pub fn host(&self) -> &Host {
        self.dialer.host()
    }

    /// Connects without saying anything.
    ///
    /// # Errors
    /// The daemon does not answer.
    pub fn dial(&self) -> Result<super::dial::Stream> {
        self.dialer.dial()
    }

    /// The version of the API that is spoken: the older of the daemon's newest and this client's.
    ///
    /// # Errors
    /// The daemon does not answer.
    pub fn version(&self) -> Result<(u32, u32)> {
        if let Some(version) = self.version.get() {
            return Ok(*version);
        }
        let head = self.ping()?;
        let theirs = head.header("api-version").and_then(parse_version).unwrap_or(SILENT);
        Ok(*self.version.get_or_init(|| theirs.min(NEWEST)))
    }

    /// Asks whether the daemon is there.
    ///
    /// # Errors
    /// It does not answer.
    pub fn ping(&self) -> Result<Head> {
        let answer = self.exchange(Request::new("HEAD", "/_ping"), "", false)?;
        // A proxy in between may allow GET only.
        if answer.head.status < 400 {
            return Ok(answer.into_head());
        }
        let answer = self.exchange(Request::new("GET", "/_ping"), "", false)?;
        let head = answer.head.clone();
        let _ = answer.bytes();
        Ok(head)
    }

    /// Sends a request; an answer that is a failure is an error, in the daemon's own words.
    ///
    /// # Errors
    /// The daemon does not answer, or refuses.
    pub fn call(&self, request: Request<'_>) -> Result<Answer> {
        let (major, minor) = self.version()?;
        self.exchange(request, &format!("/v{major}.{minor}"), false)?.judged()
    }

    /// Sends a request after which the connection belongs to the caller.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn hijack(&self, request: Request<'_>) -> Result<Hijacked> {
        let (major, minor) = self.version()?;
        let request = request.header("Connection", "Upgrade").header("Upgrade", "tcp");
        let mut answer = self.exchange(request, &format!("/v{major}.{minor}"), true)?.judged()?;
        let content_type = answer.head.header("content-type").unwrap_or_default().to_owned();
        let wire = answer.wire.take().ok_or_else(|| Error::internal("an answer without its connection"))?;
        Ok(Hijacked { wire, content_type })
    }

    /// One request and the head of its answer. A connection that was idle may turn out to have been closed meanwhile:
    /// then the request goes out once more, by a new one. One that changes something with each time does so only if the
    /// daemon cannot have had all of it.
    fn exchange(&self, mut request: Request<'_>, prefix: &str, raw: bool) -> Result<Answer> {
        let head = self.head_of(&request, prefix);
        let to_head = request.method == "HEAD";
        // A connection that will be handed over is one of its own, as Docker's client has it.
        let mut reuse = request.repeatable() && !raw;
        loop {
            let idle = if reuse { self.pool.take() } else { None };
            let fresh = idle.is_none();
            let mut wire = match idle {
                Some(wire) => wire,
                None => Wire::new(self.dialer.dial()?),
            };
            let sent = match &mut request.body {
                Sent::Nothing => wire.send(&head, None, false),
                Sent::Bytes(bytes) => wire.send(&head, Some(&mut bytes.as_slice()), false),
                Sent::Stream(stream) => wire.send(&head, Some(*stream), true),
            };
            if let Err(e) = &sent
                && let Some(unread) = e.get_ref().and_then(|e| e.downcast_ref::<Unread>())
            {
                let text = format!("what was to be sent to {}: {unread}", self.dialer.host());
                return Err(Error::new(Kind::Internal, text));
            }
            // A server that refuses a request early closes; its answer is there all the same.
            let found = match (wire.head(), sent) {
                (Ok(Some(found)), _) => found,
                (_, sent) if !fresh && (sent.is_err() || matches!(request.method, "GET" | "HEAD")) => {
                    reuse = false;
                    continue;
                }
                (_, _) if request.repeatable() && self.dialer.another_program(&mut wire.stream) => continue,
                (Ok(None), Ok(())) => return Err(self.dialer.broken(&mut wire.stream, ended())),
                (Ok(None), Err(e)) | (Err(e), _) => return Err(self.dialer.broken(&mut wire.stream, e)),
            };
            let body =
                wire::Body::of(&found, to_head).map_err(|e| self.dialer.broken(&mut wire.stream, e))?;
            let mut answer = Answer { head: found, body, wire: Some(wire), pool: Arc::clone(&self.pool) };
            if !(raw && answer.head.status < 300) {
                answer.give_back();
            }
            return Ok(answer);
        }
    }

    fn head_of(&self, request: &Request<'_>, prefix: &str) -> Vec<u8> {
        let machine = match self.dialer.host() {
            Host::Tcp { machine, port } if machine.contains(':') => format!("[{machine}]:{port}"),
            Host::Tcp { machine, port } => format!("{machine}:{port}"),
            Host::Unix(_) | Host::Ssh(_) => "api.moby.localhost".to_owned(),
        };
        let mut head = format!("{} {prefix}{}{} HTTP/1.1\r\n", request.method, request.path, request.query);
        let mut add = |name: &str, value: &str| {
            // A value with a line break in it would be a header of its own.
            let clean = |c: char| !c.is_control();
            head.extend([name, ": "]);
            head.extend(value.chars().filter(|c| clean(*c)));
            head.push_str("\r\n");
        };
        add("Host", &machine);
        add("User-Agent", concat!("fluyt/", env!("CARGO_PKG_VERSION"), " (linux)"));
        for (name, value) in self.headers.iter().chain(&request.headers) {
            add(name, value);
        }
        match &request.body {
            Sent::Nothing if matches!(request.method, "POST" | "PUT") => add("Content-Length", "0"),
            Sent::Nothing => {}
            Sent::Bytes(bytes) => add("Content-Length", &bytes.len().to_string()),
            Sent::Stream(_) => add("Transfer-Encoding", "chunked"),
        }
        head.push_str("\r\n");
        head.into_bytes()
    }
}

fn ended() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "end of file")
}

fn parse_version(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.strip_prefix('v').unwrap_or(text).split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

impl Answer {
    /// Status code.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.head.status
    }

    /// The first header of a name, which is in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.header(name)
    }

    fn into_head(self) -> Head {
        self.head
    }

    /// Keeps the connection for others once nothing more comes for this answer.
    fn give_back(&mut self) {
        if self.body.keeps()
            && let Some(wire) = self.wire.take()
        {
            self.pool.keep(wire);
        }
    }

    /// The whole body.
    ///
    /// # Errors
    /// The connection breaks; the body is too long.
    pub fn bytes(mut self) -> Result<Vec<u8>> {
        self.read_up_to(MAX_DOCUMENT)
    }

    fn read_up_to(&mut self, limit: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let broken = |e| Error::new(Kind::Unavailable, "the daemon's answer").with_source(e);
        self.take(limit + 1).read_to_end(&mut bytes).map_err(broken)?;
        if bytes.len() as u64 > limit {
            return Err(Error::new(Kind::Exhausted, "the daemon's answer is too long"));
        }
        Ok(bytes)
    }

    /// The body as a document.
    ///
    /// # Errors
    /// The connection breaks; `Corrupt` for something else than the document.
    pub fn json<T: DeserializeOwned>(self) -> Result<T> {
        decode(&self.bytes()?)
    }

    /// Reads the body to its end, so that the connection can be used again.
    ///
    /// # Errors
    /// The connection breaks.
    pub fn done(self) -> Result<()> {
        self.bytes().map(drop)
    }

    /// An error for the answer that says there was one.
    fn judged(mut self) -> Result<Self> {
        if self.head.status < 400 {
            return Ok(self);
        }
        let status = self.head.status;
        let json = self.header("content-type").is_some_and(|t| t.starts_with("application/json"));
        let text = self.read_up_to(MAX_ERROR).unwrap_or_default();
        Err(failure(status, json, &text))
    }

    /// What to poll before a read.
    #[must_use]
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.wire.as_ref().map(|wire| wire.stream.as_fd())
    }

    /// Whether a read finds something that `poll` does not see.
    pub fn is_ready(&mut self) -> bool {
        let body = &mut self.body;
        self.wire.as_mut().is_none_or(|wire| body.is_ready(wire))
    }

    /// Takes in what `poll` has seen; whether a read finds something now.
    pub(super) fn settle(&mut self) -> io::Result<bool> {
        let body = &mut self.body;
        self.wire.as_mut().map_or(Ok(true), |wire| body.settle(wire))
    }
}

impl Read for Answer {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(wire) = &mut self.wire else { return Ok(0) };
        let n = self.body.read(wire, buffer)?;
        if self.body.is_over() {
            self.give_back();
        }
        Ok(n)
    }
}

/// A document. Daemons of other versions write `null` where this one has an empty list or text.
pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    let bad = |e| Error::corrupt("the daemon's answer is not what was asked for").with_source(e);
    serde_json::from_slice(bytes).or_else(|first| {
        let mut value: serde_json::Value = serde_json::from_slice(bytes).map_err(|_| bad(first))?;
        drop_nulls(&mut value);
        serde_json::from_value(value).map_err(bad)
    })
}

fn drop_nulls(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Object(fields) => {
            fields.retain(|_, v| !v.is_null());
            fields.values_mut().for_each(drop_nulls);
        }
        serde_json::Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

/// What a daemon says when it refuses.
#[derive(Deserialize)]
struct Refusal {
    message: String,
}

/// The error of an answer with a status of 400 and above.
fn failure(status: u16, json: bool, body: &[u8]) -> Error {
    let text = String::from_utf8_lossy(body);
    let message = match serde_json::from_slice::<Refusal>(body) {
        Ok(refusal) if json && !refusal.message.is_empty() => refusal.message,
        _ if text.trim().is_empty() => format!("the daemon answers {status} and says nothing more"),
        _ => text.trim().to_owned(),
    };
    Error::new(kind_of(status), message)
}

/// The other direction of the server's table.
fn kind_of(status: u16) -> Kind {
    match status {
        400 | 405 | 406 | 411 | 413 | 415 | 422 => Kind::Invalid,
        401 | 407 => Kind::Unauthorized,
        403 => Kind::PermissionDenied,
        404 | 410 => Kind::NotFound,
        409 | 412 => Kind::Conflict,
        408 | 504 => Kind::Timeout,
        429 => Kind::RateLimited,
        501 | 505 => Kind::Unsupported,
        502 | 503 => Kind::Unavailable,
        507 => Kind::Exhausted,
        _ => Kind::Internal,
    }
}

impl Hijacked {
    /// Bytes that have been read and wait to be taken, which `poll` does not see.
    pub fn has_pending(&mut self) -> bool {
        !self.wire.pending().is_empty() || self.wire.stream.has_plaintext()
    }

    /// Takes in what has just become readable; whether a read finds something now.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn settle(&mut self) -> io::Result<bool> {
        Ok(!self.wire.pending().is_empty() || self.wire.stream.settle()?)
    }

    /// Tells the daemon that nothing more comes; what it sends is still read.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn close_write(&mut self) -> io::Result<()> {
        self.wire.stream.close_write()
    }
}

impl Read for Hijacked {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.wire.read(buffer)
    }
}

impl Write for Hijacked {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.wire.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.wire.flush()
    }
}

impl AsFd for Hijacked {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wire.stream.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::BufRead;
    use std::os::unix::net::UnixListener;
    use std::path::PathBuf;

    /// Answers each connection with the texts of its list, one a request, and closes it; says what was asked.
    fn served(name: &str, answers: Vec<Vec<&'static str>>) -> (Client, std::thread::JoinHandle<Vec<String>>) {
        let place = std::env::temp_dir().join(format!("fluyt-client-{name}-{}.sock", std::process::id()));
        let _ = std::fs::remove_file(&place);
        let listener = UnixListener::bind(&place).unwrap();
        let client = Client::new(Dialer::new(Host::Unix(PathBuf::from(&place)), None), None, vec![]).unwrap();
        let server = std::thread::spawn(move || {
            let mut asked = Vec::new();
            for list in answers {
                let (mut socket, _) = listener.accept().unwrap();
                let mut reader = io::BufReader::new(socket.try_clone().unwrap());
                for answer in list {
                    let mut line = String::new();
                    reader.read_line(&mut line).unwrap();
                    asked.push(line.trim_end().to_owned());
                    while line != "\r\n" {
                        line.clear();
                        reader.read_line(&mut line).unwrap();
                    }
                    socket.write_all(answer.as_bytes()).unwrap();
                }
            }
            let _ = std::fs::remove_file(&place);
            asked
        });
        (client, server)
    }

    const PING: &str = "HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\nContent-Length: 0\r\n\r\n";

    #[test]
    fn a_version_is_agreed_on_and_connections_are_used_again() {
        let document = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n[1,2]\r\n0\r\n\r\n";
        // The first connection ends when its third request would come: it goes out again by another.
        let (client, server) = served("reuse", vec![vec![PING, document], vec![document]]);
        let list = || client.call(Request::new("GET", "/x").query("a", "b c&d")).unwrap().json::<Vec<u8>>();
        assert_eq!(list().unwrap(), [1, 2]);
        assert_eq!(client.version().unwrap(), (1, 41));
        assert_eq!(list().unwrap(), [1, 2]);
        let asked = server.join().unwrap();
        let line = "GET /v1.41/x?a=b%20c%26d HTTP/1.1";
        assert_eq!(asked, ["HEAD /_ping HTTP/1.1", line, line]);
    }

    #[test]
    fn what_the_daemon_may_have_carried_out_is_not_sent_again() {
        let document = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n[1,2]";
        // It ends when it has read the second request, and again at the fourth.
        let lists = vec![vec![PING, ""], vec![document, ""], vec![document]];
        let (client, server) = served("again", lists);
        client.version().unwrap();
        assert!(client.call(Request::new("POST", "/x")).is_err());
        let list = || client.call(Request::new("GET", "/x")).unwrap().json::<Vec<u8>>().unwrap();
        assert_eq!((list(), list()), (vec![1, 2], vec![1, 2]));
        let asked = server.join().unwrap();
        let (post, get) = ("POST /v1.41/x HTTP/1.1", "GET /v1.41/x HTTP/1.1");
        assert_eq!(asked, ["HEAD /_ping HTTP/1.1", post, get, get, get]);
    }

    #[test]
    fn refusals_are_errors_in_the_daemons_words() {
        let json = "HTTP/1.1 409 Conflict\r\nContent-Type: application/json\r\nContent-Length: 18\r\n\r\n{\"message\":\"busy\"}";
        let text = "HTTP/1.1 404 Not Found\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\ngone\n";
        let same = "HTTP/1.1 304 Not Modified\r\n\r\n";
        let (client, server) = served("refusals", vec![vec![PING, json, text, same]]);
        let call = || client.call(Request::new("POST", "/x"));
        let refused = |answer: Result<Answer>| match answer {
            Err(e) => (e.kind(), e.to_string()),
            Ok(answer) => panic!("{}", answer.status()),
        };
        assert_eq!(refused(call()), (Kind::Conflict, "busy".to_owned()));
        assert_eq!(refused(call()), (Kind::NotFound, "gone".to_owned()));
        assert_eq!(call().unwrap().status(), 304);
        server.join().unwrap();
    }

    #[test]
    fn nobody_there_is_said_in_dockers_words() {
        let dialer = Dialer::new(Host::Unix(PathBuf::from("/nobody/here")), None);
        let error = Client::new(dialer, Some("1.30"), vec![]).unwrap().ping().unwrap_err();
        assert_eq!(error.kind(), Kind::Unavailable);
        assert!(error.to_string().starts_with("Cannot connect to the Docker daemon at unix:///nobody/here."));
        let dialer = Dialer::new(Host::Unix(PathBuf::from("/nobody/here")), None);
        assert!(Client::new(dialer, Some("new"), vec![]).is_err());
    }
}
