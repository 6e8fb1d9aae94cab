//! Reading a container's log back: from the oldest kept part to the newest line, and on as lines come.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fluyt_model::error::IoContext;
use fluyt_model::sandbox::Phase;
use fluyt_model::{Error, Result};
use serde::Deserialize;

use super::journal::JournalReader;
use crate::api::{LogOptions, Stream};
use crate::notice::{Followed, Notices, Patience, Woken};
use crate::{Engine, Paths};

/// How often a followed log is looked at when nobody tells of a change: its monitor may have been killed.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// The same while the container is ending.
const ENDING: Duration = Duration::from_millis(5);
/// Bytes read from a log at once.
const CHUNK: usize = 256 * 1024;

/// One line of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// Which stream it came from.
    pub stream: Stream,
    /// When it was read from the container, ns since the epoch.
    pub time: i64,
    /// The text, with its newline unless the line was cut there.
    pub line: Vec<u8>,
    /// Attributes that the log driver's options asked for.
    pub attributes: Vec<(String, String)>,
}

/// Reads one log.
pub struct LogReader {
    paths: Paths,
    id: String,
    path: PathBuf,
    options: LogOptions,
    /// Parts not yet opened, oldest first.
    parts: VecDeque<File>,
    current: Option<BufReader<File>>,
    /// The raw line being read.
    raw: Vec<u8>,
    /// The time that was read last.
    last_time: Stamp,
    /// Lines to pass over before the first that is wanted.
    skip: u64,
    /// Asked once more after the container has ended, for what came last.
    ended: bool,
    /// The log is not in files but in the systemd journal.
    journal: Option<JournalReader>,
    /// Tells of what is written, once the end of a followed log was met.
    notices: Option<Notices>,
}

#[derive(Deserialize)]
struct Entry<'a> {
    #[serde(borrow)]
    log: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    stream: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    time: std::borrow::Cow<'a, str>,
    #[serde(default)]
    attrs: std::collections::BTreeMap<String, String>,
}

impl Engine {
    /// Opens a container's log.
    ///
    /// # Errors
    /// `NotFound`; `Unsupported` if its log driver keeps nothing that can be read.
    pub fn logs(&self, name: &str, options: LogOptions) -> Result<LogReader> {
        let record = self.records().container(name)?;
        let path = self.log_path(&record);
        let driver = &record.spec.containers[0].log.driver;
        let journal = (driver == "journald")
            .then(|| JournalReader::open(&self.paths, &record.id, options))
            .transpose()?;
        if path.as_os_str().is_empty() && journal.is_none() {
            return Err(Error::unsupported("configured logging driver does not support reading")
                .with_hint(format!("container {} logs to {driver}: look there", record.name)));
        }
        let mut reader = LogReader {
            paths: self.paths.clone(),
            id: record.id,
            options,
            parts: if journal.is_some() { VecDeque::new() } else { open_parts(&path)? },
            path,
            journal,
            current: None,
            raw: Vec::new(),
            last_time: Stamp::default(),
            skip: 0,
            ended: false,
            notices: None,
        };
        if let (Some(tail), None) = (options.tail, &reader.journal) {
            reader.skip_to_tail(tail)?;
        }
        Ok(reader)
    }
}

/// The parts of a log that exist, oldest first.
fn open_parts(path: &Path) -> Result<VecDeque<File>> {
    let mut parts = VecDeque::new();
    let numbered =
        |n: u32| if n == 0 { path.to_owned() } else { PathBuf::from(format!("{}.{n}", path.display())) };
    for n in 0.. {
        let compressed = PathBuf::from(format!("{}.gz", numbered(n).display()));
        let opened = match File::open(numbered(n)) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && compressed.exists() => inflate(&compressed),
            other => other,
        };
        match opened {
            Ok(file) => parts.push_front(file),
            // A container that was never started has no log at all.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => break,
            Err(e) => return Err(Error::io(numbered(n).display().to_string(), e)),
        }
    }
    Ok(parts)
}

/// A compressed part as a file that can be read from any place; it lives in memory while it is open.
fn inflate(path: &Path) -> std::io::Result<File> {
    let mut plain = File::from(rustix::fs::memfd_create("log", rustix::fs::MemfdFlags::CLOEXEC)?);
    std::io::copy(&mut flate2::read::MultiGzDecoder::new(File::open(path)?), &mut plain)?;
    plain.rewind()?;
    Ok(plain)
}

impl LogReader {
    /// The next line that was asked for; when following, waits for it. `None` at the end.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn next_line(&mut self) -> Result<Option<LogLine>> {
        loop {
            match self.next_within(Patience::ENDLESS)? {
                Followed::Item(line) => return Ok(Some(line)),
                Followed::Nothing => {}
                Followed::End => return Ok(None),
            }
        }
    }

    /// The next line that was asked for; when following, waits for it as long as `patience` lasts.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn next_within(&mut self, patience: Patience<'_>) -> Result<Followed<LogLine>> {
        if let Some(journal) = &mut self.journal {
            return journal.next_within(patience);
        }
        let mut idle = false;
        loop {
            if !self.read_raw()? {
                if !self.options.follow || self.ended || self.is_over() {
                    return Ok(Followed::End);
                }
                if idle && self.wait(patience)? == Woken::Enough {
                    return Ok(Followed::Nothing);
                }
                // The first time round, the notices begin before the last look.
                idle = self.notices.is_some();
                if !idle {
                    let notices = Notices::new()?;
                    notices.add(&self.paths.container(&self.id))?;
                    self.notices = Some(notices);
                }
                self.ended = !self.is_running();
                continue;
            }
            idle = false;
            let line = parse(&self.raw, &mut self.last_time);
            self.raw.clear();
            // A line that is no JSON was torn by a full disk; the rest of the log is still good.
            let Some(line) = line else { continue };
            if self.skip > 0 {
                self.skip -= u64::from(self.wanted_stream(line.stream));
                continue;
            }
            if self.options.until.is_some_and(|until| line.time > until) {
                return Ok(Followed::End);
            }
            if self.wanted_stream(line.stream) && self.options.since.is_none_or(|since| line.time >= since) {
                return Ok(Followed::Item(line));
            }
        }
    }

    fn is_running(&self) -> bool {
        fluyt_monitor::owner(&self.paths.run_of(&self.id)).is_some()
    }

    /// Whether no line that may still come can be wanted.
    fn is_over(&self) -> bool {
        self.options.until.is_some_and(|until| fluyt_monitor::state::now() > until)
    }

    fn wait(&self, patience: Patience<'_>) -> Result<Woken> {
        let Some(notices) = &self.notices else { return Ok(Woken::Look) };
        let phase = fluyt_monitor::state::load(&self.paths.container(&self.id)).map(|status| status.phase);
        let mut look_again = if matches!(phase, Ok(Phase::Exited)) { ENDING } else { LOOK_AGAIN };
        if let Some(until) = self.options.until {
            let left = until.saturating_sub(fluyt_monitor::state::now()).max(0);
            look_again = look_again.min(Duration::from_nanos(left.unsigned_abs().saturating_add(1_000_000)));
        }
        notices.wait(Some(look_again), patience)
    }

    fn wanted_stream(&self, stream: Stream) -> bool {
        match stream {
            Stream::Stdout => self.options.stdout,
            Stream::Stderr => self.options.stderr,
        }
    }

    /// Reads one whole raw line; `false` if there is none at the moment.
    fn read_raw(&mut self) -> Result<bool> {
        loop {
            if let Some(reader) = &mut self.current {
                read_line(reader, &mut self.raw).about(|| self.path.display().to_string())?;
                if self.raw.last() == Some(&b'\n') {
                    return Ok(true);
                }
                if self.parts.is_empty() && !self.rotated()? {
                    return Ok(false);
                }
            }
            match self.parts.pop_front() {
                Some(file) => {
                    self.raw.clear();
                    self.current = Some(BufReader::with_capacity(CHUNK, file));
                }
                None if self.current.is_none() => {
                    self.parts = open_parts(&self.path)?;
                    if self.parts.is_empty() {
                        return Ok(false);
                    }
                }
                None => return Ok(false),
            }
        }
    }

    /// Whether the log went on in a new file, which is then the next part.
    fn rotated(&mut self) -> Result<bool> {
        let about = || self.path.display().to_string();
        let Some(current) = &self.current else { return Ok(false) };
        let Ok(newest) = File::open(&self.path) else { return Ok(false) };
        let (old, new) = (current.get_ref().metadata().about(about)?, newest.metadata().about(about)?);
        if old.ino() == new.ino() {
            return Ok(false);
        }
        // What was written to the old file between our last read and its rotation is read first.
        if old.len() > self.position()? {
            return Ok(false);
        }
        self.parts.push_back(newest);
        Ok(true)
    }

    fn position(&mut self) -> Result<u64> {
        let Some(current) = &mut self.current else { return Ok(0) };
        current.stream_position().about(|| self.path.display().to_string())
    }

    /// Moves to the last `tail` lines. Reads backwards, so that the length of the log does not matter.
    fn skip_to_tail(&mut self, tail: u64) -> Result<()> {
        let both = self.options.stdout && self.options.stderr;
        if !both {
            // Lines of one stream must be counted one by one.
            return self.skip_by_counting(tail);
        }
        let mut missing = tail;
        let mut kept = VecDeque::new();
        while let Some(mut file) = self.parts.pop_back() {
            let (start, found) = tail_of(&mut file, missing).about(|| self.path.display().to_string())?;
            file.seek(SeekFrom::Start(start)).about(|| self.path.display().to_string())?;
            kept.push_front(file);
            missing -= found.min(missing);
            if missing == 0 {
                break;
            }
        }
        self.parts = kept;
        Ok(())
    }

    fn skip_by_counting(&mut self, tail: u64) -> Result<()> {
        let follow = std::mem::replace(&mut self.options.follow, false);
        let mut total = 0;
        while self.next_line()?.is_some() {
            total += 1;
        }
        self.options.follow = follow;
        self.parts = open_parts(&self.path)?;
        self.current = None;
        self.skip = 0;
        let since = self.options.since;
        for _ in 0..u64::saturating_sub(total, tail) {
            self.next_line()?;
        }
        self.options.since = since;
        Ok(())
    }
}

/// Appends what is left of a line to `raw`, with its newline if it is there: as `read_until`, only faster.
fn read_line(reader: &mut BufReader<File>, raw: &mut Vec<u8>) -> std::io::Result<()> {
    loop {
        let available = match reader.fill_buf() {
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            other => other?,
        };
        let end = memchr::memchr(b'\n', available);
        let taken = end.map_or(available.len(), |at| at + 1);
        raw.extend_from_slice(&available[..taken]);
        reader.consume(taken);
        if end.is_some() || taken == 0 {
            return Ok(());
        }
    }
}

/// A time as text and as a number: all lines that the monitor took at once have the same.
#[derive(Debug, Default)]
struct Stamp {
    text: Vec<u8>,
    time: i64,
}

impl Stamp {
    fn parse(&mut self, text: &[u8]) -> Option<i64> {
        if self.text != text || text.is_empty() {
            self.time = fluyt_model::time::parse(std::str::from_utf8(text).ok()?)?;
            self.text.clear();
            self.text.extend_from_slice(text);
        }
        Some(self.time)
    }
}

/// Where the last `lines` lines of `file` start, and how many there are (fewer in a shorter file).
fn tail_of(file: &mut File, lines: u64) -> std::io::Result<(u64, u64)> {
    let mut end = file.metadata()?.len();
    let total = end;
    if lines == 0 {
        return Ok((end, 0));
    }
    let (mut found, mut buffer) = (0, vec![0; CHUNK]);
    while end > 0 {
        let size = end.min(CHUNK as u64);
        let start = end - size;
        file.seek(SeekFrom::Start(start))?;
        let chunk = &mut buffer[..usize::try_from(size).unwrap_or(CHUNK)];
        file.read_exact(chunk)?;
        for (at, byte) in chunk.iter().enumerate().rev() {
            let after = start + at as u64 + 1;
            // The newline at the very end ends the last line rather than starting another.
            if *byte == b'\n' && after != total {
                found += 1;
                if found == lines {
                    return Ok((after, found));
                }
            }
        }
        end = start;
    }
    Ok((0, found + u64::from(total > 0)))
}

/// Reads one raw line. The form that our own monitor writes is taken apart by hand; everything else by the parser.
fn parse(raw: &[u8], last: &mut Stamp) -> Option<LogLine> {
    parse_own(raw, last).or_else(|| {
        let entry: Entry<'_> = serde_json::from_slice(raw).ok()?;
        Some(LogLine {
            stream: if entry.stream == "stderr" { Stream::Stderr } else { Stream::Stdout },
            time: fluyt_model::time::parse(&entry.time)?,
            line: entry.log.into_owned().into_bytes(),
            attributes: entry.attrs.into_iter().collect(),
        })
    })
}

fn parse_own(raw: &[u8], last: &mut Stamp) -> Option<LogLine> {
    let rest = raw.strip_prefix(b"{\"log\":\"")?.strip_suffix(b"\"}\n")?;
    let mut text = Vec::with_capacity(rest.len());
    let mut at = 0;
    loop {
        let next = at + memchr::memchr2(b'"', b'\\', rest.get(at..)?)?;
        text.extend_from_slice(&rest[at..next]);
        if rest[next] == b'"' {
            at = next;
            break;
        }
        match rest.get(next + 1)? {
            b'n' => text.push(b'\n'),
            b'r' => text.push(b'\r'),
            b't' => text.push(b'\t'),
            b'"' => text.push(b'"'),
            b'\\' => text.push(b'\\'),
            // \u…: rare enough for the parser.
            _ => return None,
        }
        at = next + 2;
    }
    let rest = rest[at..].strip_prefix(b"\",\"stream\":\"std")?;
    let (stream, rest) = match rest {
        [b'o', b'u', b't', b'"', rest @ ..] => (Stream::Stdout, rest),
        [b'e', b'r', b'r', b'"', rest @ ..] => (Stream::Stderr, rest),
        _ => return None,
    };
    let time = rest.strip_prefix(b",\"time\":\"")?;
    let time = last.parse(time)?;
    Some(LogLine { stream, time, line: text, attributes: Vec::new() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_of_reading_agree() {
        let raw = b"{\"log\":\"a \\\"b\\\" \\\\ \\tc\\n\",\"stream\":\"stderr\",\"time\":\"2023-11-14T22:13:20.5Z\"}\n";
        let last = &mut Stamp::default();
        let own = parse_own(raw, last).unwrap();
        assert_eq!(own.line, b"a \"b\" \\ \tc\n");
        assert_eq!((own.stream, own.time), (Stream::Stderr, 1_700_000_000_500_000_000));
        let odd = b"{\"stream\":\"stdout\",\"log\":\"\\u001b[0m\",\"time\":\"2023-11-14T22:13:20Z\",\"attrs\":{\"a\":\"b\"}}\n";
        assert!(parse_own(odd, last).is_none());
        let line = parse(odd, last).unwrap();
        assert_eq!((line.line.as_slice(), line.attributes.len()), (&b"\x1b[0m"[..], 1));
        assert_eq!(parse(b"{\"log\":\"torn", last), None);
    }

    #[test]
    fn a_time_that_is_none_is_never_taken_for_the_one_before() {
        let mut last = Stamp::default();
        assert_eq!(last.parse(b""), None);
        for text in ["1970-01-01T00:00:01Z", "1970-01-01T00:00:01Z", "nonsense", "", "1970-01-01T00:00:02Z"] {
            assert_eq!(last.parse(text.as_bytes()), fluyt_model::time::parse(text), "{text}");
        }
    }

    #[test]
    fn the_tail_is_found_from_the_end() {
        let mut file = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut file, b"one\ntwo\nthree\n").unwrap();
        assert_eq!(tail_of(&mut file, 1).unwrap(), (8, 1));
        assert_eq!(tail_of(&mut file, 2).unwrap(), (4, 2));
        assert_eq!(tail_of(&mut file, 9).unwrap(), (0, 3));
        assert_eq!(tail_of(&mut file, 0).unwrap(), (14, 0));
    }
}
