//! Where a container's output goes. Each driver takes whole lines of one stream with one time.
//!
//! A line longer than [`MAX_LINE`] is passed on in parts, as Docker does; only its last part ends in a newline.

mod journald;
mod json_file;
mod passthrough;
mod syslog;

use std::collections::BTreeMap;
use std::path::Path;

use fluyt_model::sandbox::LogSpec;
use fluyt_model::{Error, Result};

pub use json_file::{COMPRESS, DEFAULT_MAX_FILE, DEFAULT_MAX_SIZE, compress};

use journald::Journald;
use json_file::JsonFile;
use passthrough::Passthrough;
use syslog::Syslog;

/// A line is cut after so many bytes.
pub const MAX_LINE: usize = 16 * 1024;

/// Which stream a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Standard output or the terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Source {
    /// `stdout` or `stderr`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// Who logs: what drivers put beside each line.
#[derive(Clone, Debug, Default)]
pub struct Origin {
    /// Container id.
    pub id: String,
    /// Container name.
    pub name: String,
    /// Image name.
    pub image: String,
    /// Environment of the container, for the `env` option.
    pub env: Vec<String>,
    /// Labels of the container, for the `labels` option.
    pub labels: BTreeMap<String, String>,
}

impl Origin {
    /// The attributes that the options `labels`, `env` and `tag` ask for.
    fn extra(&self, spec: &LogSpec) -> BTreeMap<String, String> {
        let mut extra = BTreeMap::new();
        let wanted = |option: &str| {
            spec.options.get(option).map(String::as_str).unwrap_or_default().split(',').map(str::trim)
        };
        for key in wanted("labels") {
            if let Some(value) = self.labels.get(key) {
                extra.insert(key.to_owned(), value.clone());
            }
        }
        for key in wanted("env") {
            if let Some(value) = self.env.iter().find_map(|e| e.strip_prefix(key)?.strip_prefix('=')) {
                extra.insert(key.to_owned(), value.to_owned());
            }
        }
        if spec.options.contains_key("tag") {
            extra.insert("tag".to_owned(), self.tag(spec));
        }
        extra
    }

    /// The `tag` option, whose template the engine has filled in; the short id without one.
    fn tag(&self, spec: &LogSpec) -> String {
        let tag = spec.options.get("tag").map(String::as_str);
        tag.unwrap_or_else(|| fluyt_model::id::short(&self.id)).to_owned()
    }
}

/// A log driver.
#[derive(Debug)]
pub enum Sink {
    /// Lines of JSON in a rotated file; also the `local` driver, with its own defaults.
    JsonFile(JsonFile),
    /// The systemd journal.
    Journald(Journald),
    /// A syslog server or socket.
    Syslog(Syslog),
    /// Where the output of whoever started the container goes.
    Passthrough(Passthrough),
    /// Nowhere.
    None,
}

impl Sink {
    /// Opens the driver that `spec` names, with `path` for those that write a file.
    ///
    /// # Errors
    /// An unknown driver or option, an unreachable server, an unwritable file.
    pub fn open(spec: &LogSpec, path: &Path, origin: &Origin) -> Result<Self> {
        check(spec)?;
        Ok(match spec.driver.as_str() {
            "" | "json-file" | "local" => Self::JsonFile(JsonFile::open(spec, path, &origin.extra(spec))?),
            "journald" => Self::Journald(Journald::open(origin, &origin.extra(spec), &origin.tag(spec))?),
            "syslog" => Self::Syslog(Syslog::open(spec, &origin.tag(spec))?),
            "passthrough" => Self::Passthrough(Passthrough::open()?),
            _ => Self::None,
        })
    }

    /// Whether it does anything with lines: else nobody needs to look for where they end.
    #[must_use]
    pub fn takes_lines(&self) -> bool {
        !matches!(self, Self::None)
    }

    /// Takes one line (with its newline, unless it is the first part of a long one) read at `time` (ns since epoch).
    pub fn line(&mut self, source: Source, time: i64, line: &[u8]) {
        match self {
            Self::JsonFile(sink) => sink.line(source, time, line),
            Self::Journald(sink) => sink.line(source, time, line),
            Self::Syslog(sink) => sink.line(source, time, line),
            Self::Passthrough(sink) => sink.line(source, line),
            Self::None => {}
        }
    }

    /// Hands everything taken so far to the kernel.
    ///
    /// # Errors
    /// The file cannot be written; the lines concerned are dropped, so that a full disk never stops a container.
    pub fn flush(&mut self) -> Result<()> {
        match self {
            Self::JsonFile(sink) => sink.flush(),
            Self::Journald(_) | Self::Syslog(_) | Self::Passthrough(_) | Self::None => Ok(()),
        }
    }

    /// Gives memory back that a burst needed.
    pub fn relax(&mut self) {
        if let Self::JsonFile(sink) = self {
            sink.relax();
        }
    }
}

/// Checks driver and option names; done at creation, so that a typing error is not found at start.
///
/// # Errors
/// `Invalid`, naming the driver or the option.
pub fn check(spec: &LogSpec) -> Result<()> {
    const FILE: &[&str] = &[
        "max-size",
        "max-file",
        "compress",
        "labels",
        "labels-regex",
        "env",
        "env-regex",
        "tag",
        "mode",
        "max-buffer-size",
    ];
    const JOURNALD: &[&str] =
        &["labels", "labels-regex", "env", "env-regex", "tag", "mode", "max-buffer-size"];
    const SYSLOG: &[&str] = &[
        "syslog-address",
        "syslog-facility",
        "syslog-format",
        "labels",
        "labels-regex",
        "env",
        "env-regex",
        "tag",
        "mode",
        "max-buffer-size",
    ];
    let known: &[&str] = match spec.driver.as_str() {
        "" | "json-file" | "local" => FILE,
        "journald" => JOURNALD,
        "syslog" => SYSLOG,
        "none" => return Ok(()),
        "passthrough" => &[],
        other => {
            return Err(Error::invalid(format!("logger: no log driver named '{other}' is registered"))
                .with_hint("use json-file, local, journald, syslog, passthrough or none"));
        }
    };
    if let Some(option) = spec.options.keys().find(|k| !known.contains(&k.as_str())) {
        let driver = if spec.driver.is_empty() { "json-file" } else { &spec.driver };
        return Err(Error::invalid(format!("unknown log opt '{option}' for {driver} log driver"))
            .with_hint(format!("known options: {}", known.join(", "))));
    }
    if spec.driver == "syslog" {
        syslog::check(spec)?;
    }
    json_file::Limits::of(spec).map(drop)
}

/// Cuts one stream into lines; holds at most one unfinished line.
#[derive(Debug, Default)]
pub struct Lines {
    rest: Vec<u8>,
}

impl Lines {
    /// Calls `line` for each line that `bytes` completes, and for each full part of a long one.
    pub fn push(&mut self, mut bytes: &[u8], mut line: impl FnMut(&[u8])) {
        while !bytes.is_empty() {
            let room = MAX_LINE - self.rest.len();
            let window = bytes.get(..room).unwrap_or(bytes);
            let taken = match memchr::memchr(b'\n', window) {
                Some(at) => at + 1,
                None if window.len() == room => room,
                None => {
                    self.rest.extend_from_slice(window);
                    return;
                }
            };
            let (now, later) = bytes.split_at(taken);
            if self.rest.is_empty() {
                line(now);
            } else {
                self.rest.extend_from_slice(now);
                line(&self.rest);
                self.rest.clear();
            }
            bytes = later;
        }
    }

    /// Calls `line` for what is left at the end of the stream, and forgets it.
    pub fn finish(&mut self, mut line: impl FnMut(&[u8])) {
        if !self.rest.is_empty() {
            line(&self.rest);
        }
        self.rest = Vec::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(chunks: &[&[u8]]) -> Vec<Vec<u8>> {
        let (mut lines, mut out) = (Lines::default(), Vec::new());
        for chunk in chunks {
            lines.push(chunk, |l| out.push(l.to_vec()));
        }
        lines.finish(|l| out.push(l.to_vec()));
        out
    }

    #[test]
    fn lines_are_cut_wherever_the_chunks_break() {
        assert_eq!(cut(&[b"a\nb", b"c\n", b"d"]), [b"a\n".to_vec(), b"bc\n".to_vec(), b"d".to_vec()]);
        assert_eq!(cut(&[b"\n\n"]), [b"\n".to_vec(), b"\n".to_vec()]);
        assert!(cut(&[b""]).is_empty());
    }

    #[test]
    fn a_long_line_comes_in_parts() {
        let long = vec![b'x'; 2 * MAX_LINE + 5];
        let parts = cut(&[&long[..7], &long[7..], b"\n"]);
        assert_eq!(parts.iter().map(Vec::len).collect::<Vec<_>>(), [MAX_LINE, MAX_LINE, 6]);
        assert!(parts[2].ends_with(b"\n"));
    }

    #[test]
    fn unknown_drivers_and_options_are_named() {
        let spec = LogSpec { driver: "gelph".into(), ..LogSpec::default() };
        assert!(check(&spec).unwrap_err().to_string().contains("gelph"));
        let spec = LogSpec { options: [("max-sise".into(), "1".into())].into(), ..LogSpec::default() };
        assert!(check(&spec).unwrap_err().to_string().contains("max-sise"));
    }
}
