//! Reading a container's log back from the systemd journal, by `journalctl`: its files have no other stable interface.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use fluyt_model::error::IoContext;
use fluyt_model::{Error, Result, time};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::logs::LogLine;
use crate::Paths;
use crate::api::{LogOptions, Stream};
use crate::notice::{Followed, Patience};

/// How often a followed log's container is looked at.
const LOOK_AGAIN: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
/// How long the journal may take to write down what it was sent.
const SYNC: Duration = Duration::from_secs(5);
/// The journal's service, by varlink.
const CONTROL: &str = "/run/systemd/journal/io.systemd.journal";
/// Bytes read at once.
const CHUNK: usize = 64 * 1024;

/// Reads one container's entries.
pub(crate) struct JournalReader {
    run: PathBuf,
    id: String,
    options: LogOptions,
    program: Program,
    /// Where the last entry was, to go on from there.
    cursor: Option<String>,
    /// The last lines, when only these are wanted and `journalctl` cannot count them.
    kept: Option<VecDeque<LogLine>>,
    following: bool,
}

impl JournalReader {
    pub fn open(paths: &Paths, id: &str, options: LogOptions) -> Result<Self> {
        // What a container has just written may still be on its way.
        synchronise();
        let mut reader = Self {
            run: paths.run_of(id),
            id: id.to_owned(),
            options,
            program: Program::start(&arguments(id, &options, options.follow, None))?,
            cursor: None,
            kept: None,
            following: options.follow,
        };
        if let (Some(tail), Some(_), false) = (options.tail, options.until, options.follow) {
            reader.keep_last(tail)?;
        }
        Ok(reader)
    }

    /// Reads to the end and keeps the last `tail` lines.
    fn keep_last(&mut self, tail: u64) -> Result<()> {
        let mut kept = VecDeque::new();
        while let Some(line) = self.next_line()? {
            kept.push_back(line);
            if kept.len() as u64 > tail {
                kept.pop_front();
            }
        }
        self.kept = Some(kept);
        Ok(())
    }

    /// The next line that was asked for; when following, waits for it. `None` at the end.
    fn next_line(&mut self) -> Result<Option<LogLine>> {
        loop {
            match self.next_within(Patience::ENDLESS)? {
                Followed::Item(line) => return Ok(Some(line)),
                Followed::Nothing => {}
                Followed::End => return Ok(None),
            }
        }
    }

    /// The same, as long as `patience` lasts.
    pub fn next_within(&mut self, patience: Patience<'_>) -> Result<Followed<LogLine>> {
        if let Some(kept) = &mut self.kept {
            return Ok(kept.pop_front().map_or(Followed::End, Followed::Item));
        }
        let began = Instant::now();
        loop {
            match self.program.entry(self.following.then_some(&LOOK_AGAIN))? {
                Next::Entry(entry) => {
                    if let Some(cursor) = entry.text("__CURSOR") {
                        self.cursor = Some(cursor);
                    }
                    let line = entry.line();
                    if self.options.until.is_some_and(|until| line.time > until) {
                        return Ok(Followed::End);
                    }
                    if self.options.since.is_none_or(|since| line.time >= since) {
                        return Ok(Followed::Item(line));
                    }
                }
                Next::Nothing if fluyt_monitor::owner(&self.run).is_some() => {
                    if patience.timeout.is_some_and(|t| began.elapsed() >= t) || patience.is_gone()? {
                        return Ok(Followed::Nothing);
                    }
                }
                Next::End if !self.following => return Ok(Followed::End),
                // The container has ended, or `journalctl -f` did: what came last is read without waiting.
                Next::Nothing | Next::End => {
                    synchronise();
                    self.following = false;
                    let cursor = self.cursor.as_deref();
                    self.program = Program::start(&arguments(&self.id, &self.options, false, cursor))?;
                }
            }
        }
    }
}

/// The words for `journalctl`.
fn arguments(id: &str, options: &LogOptions, follow: bool, after: Option<&str>) -> Vec<String> {
    let mut words: Vec<String> =
        ["--quiet", "--no-pager", "--all", "--output=export"].map(str::to_owned).to_vec();
    if follow {
        words.push("--follow".into());
    }
    if let Some(cursor) = after {
        words.push(format!("--after-cursor={cursor}"));
    } else {
        match options.tail {
            // A later end moves where the last lines are: these are counted here.
            Some(tail) if options.until.is_none() || follow => words.push(format!("--lines={tail}")),
            _ => words.push("--no-tail".into()),
        }
        if let Some(since) = options.since {
            // The journal's time is when an entry arrived there: never before the container wrote it.
            words.push(format!("--since=@{}", since.div_euclid(1_000_000_000)));
        }
    }
    words.push(format!("CONTAINER_ID_FULL={id}"));
    match (options.stdout, options.stderr) {
        (true, false) => words.push("PRIORITY=6".into()),
        (false, true) => words.push("PRIORITY=3".into()),
        _ => {}
    }
    words
}

/// Waits until the journal has written down what it was sent; where it cannot be asked, not at all.
fn synchronise() {
    let ask = || -> io::Result<()> {
        let mut control = UnixStream::connect(CONTROL)?;
        control.set_read_timeout(Some(SYNC))?;
        control.set_write_timeout(Some(SYNC))?;
        control.write_all(b"{\"method\":\"io.systemd.Journal.Synchronize\"}\0")?;
        let mut answer = [0; 256];
        // Answers end with a zero byte; this one is short.
        for _ in 0..16 {
            let n = control.read(&mut answer)?;
            if n == 0 || answer[..n].contains(&0) {
                break;
            }
        }
        Ok(())
    };
    let _ = ask();
}

/// What [`Program::entry`] found.
enum Next {
    Entry(Entry),
    /// Nothing within the time.
    Nothing,
    /// The program has ended.
    End,
}

/// A running `journalctl`; it ends with this value.
struct Program {
    child: Child,
    output: ChildStdout,
    buffer: Vec<u8>,
    /// How much of `buffer` has been taken.
    taken: usize,
}

impl Program {
    fn start(words: &[String]) -> Result<Self> {
        let mut child = Command::new("journalctl")
            .args(words)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|e| {
                if e.kind() == io::ErrorKind::NotFound {
                    Error::unsupported("the log is in the systemd journal, and journalctl is not installed")
                        .with_hint("install systemd's journalctl, or use --log-driver json-file or local")
                } else {
                    Error::io("journalctl", e)
                }
            })?;
        let output = child.stdout.take().ok_or_else(|| Error::unsupported("journalctl without output"))?;
        Ok(Self { child, output, buffer: Vec::new(), taken: 0 })
    }

    /// The next entry; waits at most `patience`, without one until there is one or the program ends.
    fn entry(&mut self, patience: Option<&Timespec>) -> Result<Next> {
        loop {
            if let Some((entry, used)) = Entry::parse(&self.buffer[self.taken..]) {
                self.taken += used;
                return Ok(Next::Entry(entry));
            }
            self.buffer.drain(..self.taken);
            self.taken = 0;
            if patience.is_some() {
                let mut fds = [PollFd::new(&self.output, PollFlags::IN)];
                match poll(&mut fds, patience) {
                    Ok(0) => return Ok(Next::Nothing),
                    Ok(_) => {}
                    Err(rustix::io::Errno::INTR) => continue,
                    Err(e) => return Err(Error::io("journalctl", e.into())),
                }
            }
            let old = self.buffer.len();
            self.buffer.resize(old + CHUNK, 0);
            let n = self.output.read(&mut self.buffer[old..]).about(|| "journalctl")?;
            self.buffer.truncate(old + n);
            if n == 0 {
                return Ok(Next::End);
            }
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One entry of the export format: fields in order.
struct Entry(Vec<(String, Vec<u8>)>);

impl Entry {
    /// The first entry of `bytes` and its length; none while it is not there as a whole.
    fn parse(bytes: &[u8]) -> Option<(Self, usize)> {
        let (mut fields, mut at) = (Vec::new(), 0);
        loop {
            let end = at + memchr::memchr(b'\n', bytes.get(at..)?)?;
            let line = &bytes[at..end];
            at = end + 1;
            if line.is_empty() {
                if fields.is_empty() {
                    continue;
                }
                return Some((Self(fields), at));
            }
            match memchr::memchr(b'=', line) {
                Some(cut) => fields.push((name(&line[..cut]), line[cut + 1..].to_vec())),
                // A field with any bytes: its length (u64, little endian), the bytes, a newline.
                None => {
                    let size = u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?);
                    let start = at + 8;
                    let end = start.checked_add(usize::try_from(size).ok()?)?;
                    fields.push((name(line), bytes.get(start..end)?.to_vec()));
                    bytes.get(end)?;
                    at = end + 1;
                }
            }
        }
    }

    fn bytes(&self, key: &str) -> Option<&[u8]> {
        self.0.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_slice())
    }

    fn text(&self, key: &str) -> Option<String> {
        self.bytes(key).map(|v| String::from_utf8_lossy(v).into_owned())
    }

    fn line(self) -> LogLine {
        // When the container wrote it; entries of other writers have only the journal's time, in microseconds.
        let time = self.text("SYSLOG_TIMESTAMP").and_then(|t| time::parse(&t)).or_else(|| {
            self.text("__REALTIME_TIMESTAMP").and_then(|t| t.parse::<i64>().ok()).map(|t| t * 1000)
        });
        let stream = if self.bytes("PRIORITY") == Some(b"3") { Stream::Stderr } else { Stream::Stdout };
        let mut line = self.bytes("MESSAGE").unwrap_or_default().to_vec();
        if self.bytes("CONTAINER_PARTIAL_MESSAGE") != Some(b"true") {
            line.push(b'\n');
        }
        LogLine { stream, time: time.unwrap_or_default(), line, attributes: self.attributes() }
    }

    /// What the options `labels`, `env` and `tag` added.
    fn attributes(&self) -> Vec<(String, String)> {
        const OURS: [&str; 6] =
            ["MESSAGE", "PRIORITY", "IMAGE_NAME", "SYSLOG_IDENTIFIER", "SYSLOG_TIMESTAMP", "TAG"];
        let added = self.0.iter().filter(|(k, _)| {
            !k.starts_with('_') && !k.starts_with("CONTAINER_") && !OURS.contains(&k.as_str())
        });
        added.map(|(k, v)| (k.clone(), String::from_utf8_lossy(v).into_owned())).collect()
    }
}

fn name(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_of_the_export_format() {
        let mut bytes =
            b"__CURSOR=s=1;i=2\nPRIORITY=3\nSYSLOG_TIMESTAMP=2023-11-14T22:13:20.5Z\nAPP=a=b\nMESSAGE\n"
                .to_vec();
        bytes.extend_from_slice(&3_u64.to_le_bytes());
        bytes.extend_from_slice(b"a\nb\n\n__CURSOR=x\n");
        let (entry, used) = Entry::parse(&bytes).unwrap();
        assert_eq!(&bytes[used..], b"__CURSOR=x\n");
        assert_eq!(entry.text("__CURSOR").as_deref(), Some("s=1;i=2"));
        let line = entry.line();
        assert_eq!((line.line.as_slice(), line.stream), (&b"a\nb\n"[..], Stream::Stderr));
        assert_eq!(line.time, 1_700_000_000_500_000_000);
        assert_eq!(line.attributes, [("APP".to_owned(), "a=b".to_owned())]);
        for cut in 0..used {
            assert!(Entry::parse(&bytes[..cut]).is_none(), "{cut}");
        }
    }

    #[test]
    fn what_journalctl_is_asked() {
        let options = LogOptions { tail: Some(3), stdout: true, stderr: true, ..LogOptions::default() };
        assert!(arguments("abc", &options, true, None).contains(&"--lines=3".to_owned()));
        let later = LogOptions { until: Some(1), since: Some(2_500_000_000), stderr: false, ..options };
        let words = arguments("abc", &later, false, None);
        assert!(words.contains(&"--no-tail".to_owned()) && words.contains(&"--since=@2".to_owned()));
        assert!(words.ends_with(&["CONTAINER_ID_FULL=abc".to_owned(), "PRIORITY=6".to_owned()]));
    }
}
