//! The `json-file` driver: Docker's lines `{"log":…,"stream":…,"time":…}`, rotated.
//!
//! Lines are encoded into one buffer and written when the reader of the pipe has nothing more at hand, so a burst
//! costs one write a chunk; the buffer is as large as the burst needs it until [`JsonFile::relax`]. `local` is the same file format with rotated parts compressed by default.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use flate2::Compression;
use flate2::write::GzEncoder;

use fluyt_model::error::IoContext;
use fluyt_model::sandbox::LogSpec;
use fluyt_model::{Error, Result};

use super::Source;
use fluyt_model::time::rfc3339;

/// A log file is rotated at this size unless `max-size` says otherwise, bytes.
pub const DEFAULT_MAX_SIZE: u64 = 100 << 20;
/// So many files are kept, the current one among them, unless `max-file` says otherwise.
pub const DEFAULT_MAX_FILE: u32 = 5;
/// The argument with which the monitor's executable compresses a part instead.
pub const COMPRESS: &str = "--compress-log";
/// How every line begins.
const PREFIX: &[u8] = b"{\"log\":\"";
/// How a line's own newline is written.
const NEWLINE: &str = "\\n";
/// The buffer is handed to the kernel when it is longer than this, bytes.
const FLUSH_AT: usize = 512 * 1024;

/// When files are rotated and how many are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes; 0: never.
    pub size: u64,
    /// Files.
    pub files: u32,
    /// Older files are compressed.
    pub compress: bool,
}

impl Limits {
    /// The limits that the options of `spec` ask for.
    ///
    /// # Errors
    /// `Invalid`, naming the option.
    pub fn of(spec: &LogSpec) -> Result<Self> {
        let size = match spec.options.get("max-size").map(String::as_str) {
            None if spec.driver == "local" => 20 << 20,
            None => DEFAULT_MAX_SIZE,
            Some("-1") => 0,
            Some(text) => bytes(text).ok_or_else(|| {
                Error::invalid(format!("invalid value for max-size: {text}")).with_hint("write it like 10m")
            })?,
        };
        let files = match spec.options.get("max-file") {
            None => DEFAULT_MAX_FILE,
            Some(text) => text.parse().ok().filter(|n| *n > 0).ok_or_else(|| {
                Error::invalid(format!("invalid value for max-file: {text}"))
                    .with_hint("max-file cannot be less than 1")
            })?,
        };
        let compress = match spec.options.get("compress").map(String::as_str) {
            None => spec.driver == "local",
            Some("true" | "1") => true,
            Some("false" | "0") => false,
            Some(text) => {
                return Err(Error::invalid(format!("invalid value for compress: {text}"))
                    .with_hint("use true or false"));
            }
        };
        Ok(Self { size, files, compress })
    }
}

fn bytes(text: &str) -> Option<u64> {
    let text = text.trim().to_ascii_lowercase();
    let text = text.strip_suffix('b').unwrap_or(&text);
    let (digits, shift) = match text.strip_suffix(['k', 'm', 'g']) {
        Some(digits) => {
            (digits, [("k", 10), ("m", 20), ("g", 30)].iter().find(|(u, _)| text.ends_with(u))?.1)
        }
        None => (text, 0),
    };
    digits.parse::<u64>().ok()?.checked_shl(shift).filter(|n| *n > 0)
}

/// A rotated file of JSON lines.
#[derive(Debug)]
pub struct JsonFile {
    path: PathBuf,
    file: File,
    written: u64,
    limits: Limits,
    buffer: Vec<u8>,
    /// The process that compresses the part that was rotated last.
    compressing: Option<Child>,
    /// `,"attrs":{…}` where options ask for attributes.
    attributes: String,
    /// What the suffix was made for: lines of one chunk share it.
    stamp: (Source, i64),
    /// What follows a line's text: the newline, stream, attributes, time.
    suffix: Vec<u8>,
}

impl JsonFile {
    pub(super) fn open(spec: &LogSpec, path: &Path, attributes: &BTreeMap<String, String>) -> Result<Self> {
        let file = create(path).about(|| path.display().to_string())?;
        let written = file.metadata().about(|| path.display().to_string())?.len();
        let attributes = match serde_json::to_string(attributes) {
            Ok(text) if !attributes.is_empty() => format!(",\"attrs\":{text}"),
            _ => String::new(),
        };
        let limits = Limits::of(spec)?;
        Ok(Self {
            path: path.to_owned(),
            file,
            written,
            limits,
            buffer: Vec::new(),
            compressing: None,
            attributes,
            stamp: (Source::Stdout, i64::MIN),
            suffix: Vec::new(),
        })
    }

    pub(super) fn line(&mut self, source: Source, time: i64, line: &[u8]) {
        if self.stamp != (source, time) {
            self.stamp = (source, time);
            self.suffix.clear();
            let parts = [
                NEWLINE,
                "\",\"stream\":\"",
                source.as_str(),
                "\"",
                &self.attributes,
                ",\"time\":\"",
                &rfc3339(time),
                "\"}\n",
            ];
            parts.iter().for_each(|part| self.suffix.extend_from_slice(part.as_bytes()));
        }
        let (text, suffix) = match line.split_last() {
            Some((b'\n', text)) => (text, &*self.suffix),
            _ => (line, &self.suffix[NEWLINE.len()..]),
        };
        let out = &mut self.buffer;
        out.reserve(PREFIX.len() + text.len() + suffix.len());
        out.extend_from_slice(PREFIX);
        if is_plain(text) {
            out.extend_from_slice(text);
        } else {
            escape(text, out);
        }
        out.extend_from_slice(suffix);
        // A small limit is kept to the line, not only to the chunk.
        let room = match self.limits.size {
            0 => FLUSH_AT as u64,
            size => size.saturating_sub(self.written).min(FLUSH_AT as u64),
        };
        if out.len() as u64 >= room {
            // A failure is reported by the flush at the end of the chunk, which meets it again.
            let _ = self.flush();
        }
    }

    pub(super) fn flush(&mut self) -> Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let full = self.limits.size > 0 && self.written >= self.limits.size;
        let rotated = if full { self.rotate() } else { Ok(()) };
        let result = rotated.and_then(|()| self.file.write_all(&self.buffer));
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        result.about(|| self.path.display().to_string())
    }

    /// Gives back what a burst needed; everything taken has been flushed.
    pub(super) fn relax(&mut self) {
        self.buffer = Vec::new();
    }

    fn rotate(&mut self) -> std::io::Result<()> {
        let part = |n: u32| match n {
            0 => self.path.clone(),
            n => PathBuf::from(format!("{}.{n}", self.path.display())),
        };
        // A part is not moved while it is being compressed.
        if let Some(mut child) = self.compressing.take() {
            child.wait()?;
        }
        for n in (1..self.limits.files).rev() {
            move_part(&part(n - 1), &part(n))?;
            move_part(&compressed(&part(n - 1)), &compressed(&part(n)))?;
        }
        if self.limits.files == 1 {
            std::fs::remove_file(&self.path)?;
        } else if self.limits.compress {
            // In a process of its own: the monitor goes on reading, and stays small.
            let mut command = Command::new("/proc/self/exe");
            command.arg0("fluyt").args(["monitor", COMPRESS]).arg(part(1));
            self.compressing = Some(command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?);
        }
        self.file = create(&self.path)?;
        self.written = 0;
        Ok(())
    }
}

/// Renames a part of a log, and lets the other form of what it replaces go; a part that does not exist is no error.
fn move_part(from: &Path, to: &Path) -> std::io::Result<()> {
    match std::fs::rename(from, to) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// The name of a part once it is compressed.
fn compressed(part: &Path) -> PathBuf {
    PathBuf::from(format!("{}.gz", part.display()))
}

/// Compresses one rotated part: `NAME` becomes `NAME.gz`.
///
/// # Errors
/// The file cannot be read or written; it stays as it is then.
pub fn compress(part: &Path) -> Result<()> {
    let about = || part.display().to_string();
    let temporary = PathBuf::from(format!("{}.gz.new", part.display()));
    let mut source = File::open(part).about(about)?;
    let target = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o640)
        .open(&temporary)
        .about(about)?;
    let mut encoder = GzEncoder::new(target, Compression::fast());
    std::io::copy(&mut source, &mut encoder).about(about)?;
    encoder.finish().about(about)?;
    std::fs::rename(&temporary, compressed(part)).about(about)?;
    std::fs::remove_file(part).about(about)
}

fn create(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o640).open(path)
}

/// Whether `text` can stand in a JSON string as it is. Written so that it compiles to vector instructions: nearly
/// every line of nearly every log passes here.
fn is_plain(text: &[u8]) -> bool {
    let plain = |b: &u8| (*b >= 0x20) & (*b < 0x80) & (*b != b'"') & (*b != b'\\');
    let all = |block: &[u8; 32]| block.iter().fold(true, |all, b| all & plain(b));
    match text.last_chunk() {
        // The last block overlaps the one before it: cheaper than what is left byte by byte.
        Some(last) => text.as_chunks().0.iter().all(all) && all(last),
        None => text.iter().all(plain),
    }
}

/// Writes `text` as the inside of a JSON string; bytes that are not UTF-8 become U+FFFD.
fn escape(text: &[u8], out: &mut Vec<u8>) {
    match std::str::from_utf8(text) {
        Ok(_) => escape_utf8(text, out),
        Err(_) => escape_utf8(String::from_utf8_lossy(text).as_bytes(), out),
    }
}

fn escape_utf8(text: &[u8], out: &mut Vec<u8>) {
    const PLAIN: [bool; 256] = {
        let mut plain = [true; 256];
        let mut byte = 0;
        while byte < 0x20 {
            plain[byte] = false;
            byte += 1;
        }
        plain[b'"' as usize] = false;
        plain[b'\\' as usize] = false;
        plain
    };
    let mut rest = text;
    while let Some(at) = rest.iter().position(|b| !PLAIN[usize::from(*b)]) {
        out.extend_from_slice(&rest[..at]);
        match rest[at] {
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            control => out.extend_from_slice(format!("\\u{control:04x}").as_bytes()),
        }
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(options: &[(&str, &str)]) -> LogSpec {
        let options = options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        LogSpec { driver: "json-file".into(), options }
    }

    #[test]
    fn lines_are_json_whatever_they_hold() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut sink = JsonFile::open(&spec(&[]), &path, &BTreeMap::new()).unwrap();
        let nasty = b"tab\t quote\" back\\ esc\x1b nul\0 \xff \xc3\xa4\n";
        sink.line(Source::Stderr, 1_700_000_000_000_000_000, nasty);
        sink.flush().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["log"], "tab\t quote\" back\\ esc\u{1b} nul\0 \u{fffd} ä\n");
        assert_eq!(value["stream"], "stderr");
        assert_eq!(value["time"], "2023-11-14T22:13:20Z");
    }

    #[test]
    fn what_is_plain_is_seen_at_every_length_and_place() {
        for length in 0..100 {
            let mut text = vec![b'x'; length];
            assert!(is_plain(&text));
            for at in 0..length {
                for odd in [b'"', b'\\', b'\n', 0, 0x1f, 0x80, 0xff] {
                    text[at] = odd;
                    assert!(!is_plain(&text), "{odd} at {at} of {length}");
                }
                text[at] = b'~';
            }
        }
    }

    #[test]
    fn a_burst_is_rotated_at_the_limit_too() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let options = spec(&[("max-size", "10k"), ("max-file", "3")]);
        let mut sink = JsonFile::open(&options, &path, &BTreeMap::new()).unwrap();
        (0..2000).for_each(|n| sink.line(Source::Stdout, 1, format!("line {n}\n").as_bytes()));
        sink.flush().unwrap();
        for part in ["log.1", "log.2"] {
            let size = std::fs::metadata(dir.path().join(part)).unwrap().len();
            assert!((10 << 10..(10 << 10) + 100).contains(&size), "{part}: {size}");
        }
    }

    #[test]
    fn a_full_file_is_rotated_and_old_ones_go() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut sink =
            JsonFile::open(&spec(&[("max-size", "1k"), ("max-file", "3")]), &path, &BTreeMap::new()).unwrap();
        for n in 0..200 {
            sink.line(Source::Stdout, n, format!("line {n}\n").as_bytes());
            sink.flush().unwrap();
        }
        let mut names: Vec<_> = std::fs::read_dir(dir.path())
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["log", "log.1", "log.2"]);
        assert!(std::fs::read_to_string(&path).unwrap().contains("line 199"));
        assert!(std::fs::metadata(dir.path().join("log.1")).unwrap().len() < 1200);
    }

    #[test]
    fn a_compressed_part_takes_the_place_of_the_plain_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.1");
        std::fs::write(&path, "line\n".repeat(1000)).unwrap();
        compress(&path).unwrap();
        assert!(!path.exists());
        let mut text = String::new();
        let file = File::open(dir.path().join("log.1.gz")).unwrap();
        std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(file), &mut text).unwrap();
        assert_eq!(text.len(), 5000);
    }

    #[test]
    fn sizes_are_read_as_docker_reads_them() {
        assert_eq!(bytes("10m"), Some(10 << 20));
        assert_eq!(bytes("1GB"), Some(1 << 30));
        assert_eq!(bytes("512"), Some(512));
        for bad in ["", "m", "-3", "0", "1x", "10 m m"] {
            assert_eq!(bytes(bad), None, "{bad}");
        }
    }
}
