//! An engine of a test: `fluyt engine` on a socket of its own, and requests to it as bytes.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use fluyt_testkit::{Host, wait};

/// An engine that ends with this value.
pub(crate) struct Engine {
    child: Child,
    socket: PathBuf,
}

/// An answer with its body, as it came.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Lines of the head, in lower case.
    pub(crate) head: Vec<String>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Engine {
    /// An engine over the data root of `host`.
    pub(crate) fn start(host: &Host, flags: &[&str]) -> Self {
        Self::at(host, &host.scratch().join("engine.sock"), flags)
    }

    /// The same on this socket.
    pub(crate) fn at(host: &Host, socket: &Path, flags: &[&str]) -> Self {
        let place = format!("unix://{}", socket.display());
        let mut words = vec!["engine", "-H", &place];
        words.extend(flags);
        let log =
            std::fs::OpenOptions::new().create(true).append(true).open(host.scratch().join("engine.log"));
        let mut command = host.command(words);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log.expect("a file"));
        let mut child = command.spawn().expect("the program");
        wait::until("the engine to answer", 20, || {
            let ended = child.try_wait().ok().flatten();
            assert!(ended.is_none(), "the engine ended: {ended:?}");
            UnixStream::connect(socket).ok()
        });
        Self { child, socket: socket.to_owned() }
    }

    /// Where it listens.
    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// A connection to it, on which nothing waits for longer than a while.
    pub(crate) fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.socket).expect("connected");
        let patience = Duration::from_secs(wait::patience(30));
        stream.set_read_timeout(Some(patience)).expect("a socket");
        stream.set_write_timeout(Some(patience)).expect("a socket");
        stream
    }

    /// Asks for something on a connection of its own.
    pub(crate) fn ask(&self, method: &str, path: &str, body: &str) -> Answer {
        let mut stream = self.connect();
        send(&mut stream, method, path, body);
        answer(&mut BufReader::new(stream))
    }

    /// Sends bytes on a connection of their own; all that comes back.
    pub(crate) fn send(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect();
        // It may refuse before it has read all of it.
        let _ = stream.write_all(bytes);
        let mut text = Vec::new();
        let _ = stream.read_to_end(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    }

    /// A line of `/proc/PID/status`, its number.
    pub(crate) fn status(&self, name: &str) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("a line of that name");
        let digits = line.trim_start_matches(':').split_whitespace().next().unwrap_or_default();
        digits.parse().expect("a number")
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).expect("told");
    }

    /// Waits for its end; the exit code, none after a signal.
    pub(crate) fn ended(&mut self) -> Option<i32> {
        wait::until("the engine to end", 30, || self.child.try_wait().ok().flatten()).code()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.socket);
    }
}

/// Writes a request; its body is JSON.
pub(crate) fn send(stream: &mut impl Write, method: &str, path: &str, body: &str) {
    let kind = if body.is_empty() { "" } else { "Content-Type: application/json\r\n" };
    let length = body.len();
    let text =
        format!("{method} {path} HTTP/1.1\r\nHost: docker\r\n{kind}Content-Length: {length}\r\n\r\n{body}");
    stream.write_all(text.as_bytes()).expect("sent");
}

/// Reads the head of an answer: the code, and the lines in lower case.
pub(crate) fn head(reader: &mut impl BufRead) -> (u16, Vec<String>) {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        let n = reader.read_line(&mut line).expect("an answer");
        assert!(n > 0, "closed after {lines:?}");
        if line == "\r\n" {
            break;
        }
        lines.push(line.trim_end().to_ascii_lowercase());
    }
    let status = lines[0].split(' ').nth(1).and_then(|code| code.parse().ok());
    (status.unwrap_or_else(|| panic!("no answer: {lines:?}")), lines)
}

/// Reads a whole answer, of known length or in chunks.
pub(crate) fn answer(reader: &mut impl BufRead) -> Answer {
    let (status, head) = head(reader);
    let mut body = Vec::new();
    if head.iter().any(|line| line == "transfer-encoding: chunked") {
        while let Some(piece) = chunk(reader) {
            body.extend(piece);
        }
    } else {
        let length = head.iter().find_map(|line| line.strip_prefix("content-length: "));
        body.resize(length.and_then(|n| n.parse().ok()).unwrap_or(0), 0);
        reader.read_exact(&mut body).expect("the body");
    }
    Answer { status, head, body }
}

/// The next chunk of an answer; none after the last.
pub(crate) fn chunk(reader: &mut impl BufRead) -> Option<Vec<u8>> {
    let mut line = String::new();
    reader.read_line(&mut line).expect("a chunk's line");
    let length = usize::from_str_radix(line.trim_end(), 16).unwrap_or_else(|_| panic!("no chunk: {line:?}"));
    let mut piece = vec![0; length + 2];
    reader.read_exact(&mut piece).expect("a chunk");
    piece.truncate(length);
    (length > 0).then_some(piece)
}
