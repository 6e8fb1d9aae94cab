//! One request and all of its answer.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use fluyt_testkit::wait;
use serde_json::{Map, Value, json};

use super::script::Step;
use crate::engines::chunk;

/// Headers whose values are part of what clients see.
const HEADERS: [&str; 7] = [
    "content-type",
    "api-version",
    "docker-experimental",
    "ostype",
    "upgrade",
    "swarm",
    "x-docker-container-path-stat",
];

/// A request that has been sent, and whose head has been answered.
pub(super) struct Open {
    reader: BufReader<UnixStream>,
    status: u16,
    /// Names in lower case, and values.
    head: Vec<(String, String)>,
    bodyless: bool,
    unordered: bool,
}

/// Asks, and reads all of the answer.
pub(super) fn ask(socket: &Path, step: &Step, body: &[u8]) -> Value {
    Open::new(socket, step, body).finish()
}

impl Open {
    /// Sends a request and reads the head of the answer.
    pub fn new(socket: &Path, step: &Step, body: &[u8]) -> Self {
        let mut stream = UnixStream::connect(socket).expect("connected");
        let patience = Duration::from_secs(wait::patience(60));
        stream.set_read_timeout(Some(patience)).expect("a socket");
        stream.set_write_timeout(Some(patience)).expect("a socket");
        let mut text = format!("{} {} HTTP/1.1\r\nHost: docker\r\n", step.method, encoded(&step.path));
        let archive = matches!(step.body, super::script::Body::Archive(_));
        let media = step.media.as_deref().or(match (archive, body.is_empty()) {
            (true, _) => Some("application/x-tar"),
            (false, false) => Some("application/json"),
            _ => None,
        });
        if let Some(media) = media.filter(|media| *media != "none") {
            text.push_str(&format!("Content-Type: {media}\r\n"));
        }
        if step.hijack {
            text.push_str("Connection: Upgrade\r\nUpgrade: tcp\r\n");
        } else if step.session.is_none() {
            text.push_str("Connection: close\r\n");
        }
        for (name, value) in &step.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() || matches!(step.method.as_str(), "POST" | "PUT") {
            text.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        text.push_str("\r\n");
        stream.write_all(text.as_bytes()).expect("sent");
        // It may refuse before it has read all of it.
        let _ = stream.write_all(body);
        let mut reader = BufReader::new(stream);
        let (status, head) = head(&mut reader);
        let bodyless = step.method == "HEAD" || matches!(status, 204 | 304);
        Self { reader, status, head, bodyless, unordered: step.unordered }
    }

    /// Sends input; none closes our half.
    pub fn input(&mut self, bytes: &[u8]) {
        let stream = self.reader.get_mut();
        if bytes == b"END" {
            stream.shutdown(Shutdown::Write).expect("a socket");
        } else {
            stream.write_all(bytes).expect("sent");
        }
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.head.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Reads to the end: a document of status, headers and body.
    pub fn finish(mut self) -> Value {
        let bytes = self.bytes();
        let mut headers = Map::new();
        for name in HEADERS {
            if let Some(value) = self.header(name) {
                let value = unpacked(value).unwrap_or_else(|| value.into());
                headers.insert(name.to_owned(), value);
            }
        }
        let media = self.header("content-type").unwrap_or_default().to_owned();
        let mut body = document(&bytes, &media, self.status);
        if let (true, Value::Array(items)) = (self.unordered, &mut body) {
            items.sort_by_key(|item| {
                [&item["Name"], &item["RepoTags"][0], item].map(|v| v.to_string()).concat()
            });
        }
        json!({"status": self.status, "headers": headers, "body": body})
    }

    fn bytes(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        if self.bodyless {
            return body;
        }
        if self.header("transfer-encoding") == Some("chunked") {
            while let Some(piece) = chunk(&mut self.reader) {
                body.extend(piece);
            }
        } else if let Some(length) = self.header("content-length").and_then(|n| n.parse::<u64>().ok()) {
            let read = self.reader.by_ref().take(length).read_to_end(&mut body).expect("the body");
            assert_eq!(read as u64, length, "the whole body");
        } else {
            // A connection that is cut after its last byte is one that has ended.
            loop {
                let piece = match self.reader.fill_buf() {
                    Ok([]) => break,
                    Ok(piece) => piece.to_vec(),
                    Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => break,
                    Err(e) => panic!("after {} bytes: {e}", body.len()),
                };
                self.reader.consume(piece.len());
                body.extend(piece);
            }
        }
        body
    }
}

/// A path as it may stand in a request: what is written plainly in the scripts is encoded.
fn encoded(path: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._~/?&=%:+,@".contains(c);
    let mut text = String::new();
    for c in path.chars() {
        if plain(c) {
            text.push(c);
        } else {
            let mut bytes = [0; 4];
            text.extend(c.encode_utf8(&mut bytes).bytes().map(|b| format!("%{b:02X}")));
        }
    }
    text
}

/// Reads the head of an answer.
fn head(reader: &mut impl BufRead) -> (u16, Vec<(String, String)>) {
    let mut lines = Vec::new();
    let mut status = 0;
    loop {
        let mut line = String::new();
        let read = reader.read_line(&mut line).expect("an answer");
        assert!(read > 0, "closed after {lines:?}");
        match (line.trim_end(), status) {
            ("", _) => return (status, lines),
            (first, 0) => {
                status = first.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
            }
            (line, _) => {
                let (name, value) = line.split_once(':').unwrap_or((line, ""));
                lines.push((name.to_ascii_lowercase(), value.trim().to_owned()));
            }
        }
    }
}

/// A body by its kind: a document, several, frames, an archive's names, or text.
fn document(bytes: &[u8], media: &str, status: u16) -> Value {
    if bytes.is_empty() {
        return Value::Null;
    }
    if media.starts_with("application/json") {
        let all: Result<Vec<Value>, _> =
            serde_json::Deserializer::from_slice(bytes).into_iter::<Value>().collect();
        match all {
            Ok(mut all) if all.len() == 1 && all[0].get("stream").is_none() => return all.remove(0),
            Ok(all) => return progress(all),
            Err(_) => {}
        }
    }
    if media == "application/x-tar" {
        return archive(bytes);
    }
    if let (101 | 200, Some(frames)) = (status, frames(bytes)) {
        return frames;
    }
    // Terminals and logs.
    if let Ok(all) =
        serde_json::Deserializer::from_slice(bytes).into_iter::<Value>().collect::<Result<Vec<_>, _>>()
        && all.iter().all(Value::is_object)
    {
        return Value::Array(all);
    }
    Value::String(String::from_utf8_lossy(bytes).into_owned())
}

/// Messages of work that goes on: output as its lines, whatever pieces it came in, everything else as it is. What are no
/// such messages stay documents.
fn progress(messages: Vec<Value>) -> Value {
    const NAMES: [&str; 9] =
        ["stream", "status", "error", "errorDetail", "aux", "progress", "progressDetail", "id", "time"];
    let told = |m: &Value| m.as_object().is_some_and(|m| m.keys().all(|name| NAMES.contains(&name.as_str())));
    if !messages.iter().all(told) {
        return Value::Array(messages);
    }
    let (mut lines, mut text) = (Vec::new(), String::new());
    let flush = |lines: &mut Vec<Value>, text: &mut String| {
        lines.extend(std::mem::take(text).lines().filter(|line| !line.is_empty()).map(|line| json!(line)));
    };
    for message in messages {
        match message["stream"].as_str() {
            Some(piece) => text.push_str(piece),
            None => {
                flush(&mut lines, &mut text);
                lines.push(json!(message.to_string()));
            }
        }
    }
    flush(&mut lines, &mut text);
    Value::Array(lines)
}

/// Frames of a stream, joined by stream: which bytes are in which frame is a matter of time.
fn frames(mut bytes: &[u8]) -> Option<Value> {
    let mut streams: Map<String, Value> = Map::new();
    while !bytes.is_empty() {
        let (head, rest) = bytes.split_at_checked(8)?;
        let [kind @ 0..=3, 0, 0, 0, a, b, c, d] = *head else { return None };
        let (piece, rest) = rest.split_at_checked(u32::from_be_bytes([a, b, c, d]) as usize)?;
        let name = ["stdin", "stdout", "stderr", "errors"][kind as usize];
        let entry = streams.entry(name).or_insert_with(|| json!(""));
        *entry = json!(entry.as_str().unwrap_or_default().to_owned() + &String::from_utf8_lossy(piece));
        bytes = rest;
    }
    Some(Value::Object(streams))
}

/// Names, kinds and modes in an archive.
fn archive(bytes: &[u8]) -> Value {
    let mut list = Vec::new();
    let mut archive = tar::Archive::new(bytes);
    let Ok(entries) = archive.entries() else { return json!("no archive") };
    for entry in entries {
        let Ok(entry) = entry else { return json!("a broken archive") };
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let header = entry.header();
        let mode = header.mode().unwrap_or_default() & 0o7777;
        list.push(format!("{path} {:?} {mode:o} {}", header.entry_type(), header.size().unwrap_or_default()));
    }
    list.sort();
    json!(list)
}

/// A document in base64, as the header that says what is at a path is.
fn unpacked(text: &str) -> Option<Value> {
    let bytes = base64::engine::general_purpose::STANDARD.decode(text).ok()?;
    serde_json::from_slice::<Value>(&bytes).ok().filter(Value::is_object)
}
