//! The lines of a log, as a daemon sends them: framed, or a terminal's bytes; each with its time in front.

use std::io::Read;
use std::time::Instant;

use fluyt_model::{Error, Kind, Result};

use super::client::Answer;
use super::follow::ready;
use super::session::Frames;
use crate::api::{Follow, LogLine, Next, Stream, Wait};
use crate::time;

/// See the module.
pub(super) struct LogLines {
    answer: Answer,
    frames: Frames,
    /// A terminal's bytes that are not a whole line yet.
    rest: Vec<u8>,
    tty: bool,
    details: bool,
    over: bool,
}

impl LogLines {
    pub(super) fn new(answer: Answer, tty: bool, details: bool) -> Self {
        Self { answer, frames: Frames::default(), rest: Vec::new(), tty, details, over: false }
    }

    fn parsed(&mut self) -> Result<Option<LogLine>> {
        if !self.tty {
            let found = self.frames.take(true)?;
            return Ok(found.map(|(stream, bytes)| line_of(stream, &bytes, self.details)));
        }
        if let Some(more) = self.frames.take_all() {
            self.rest.extend(more);
        }
        let end = match self.rest.iter().position(|b| *b == b'\n') {
            Some(at) => at + 1,
            None if self.over && !self.rest.is_empty() => self.rest.len(),
            None => return Ok(None),
        };
        let line: Vec<u8> = self.rest.drain(..end).collect();
        Ok(Some(line_of(Stream::Stdout, &line, self.details)))
    }
}

impl Follow<LogLine> for LogLines {
    fn next(&mut self, wait: Wait<'_>) -> Result<Next<LogLine>> {
        let until = wait.timeout.map(|timeout| Instant::now() + timeout);
        loop {
            if let Some(line) = self.parsed()? {
                return Ok(Next::Item(line));
            }
            if self.over {
                return Ok(Next::End);
            }
            if !ready(&mut self.answer, wait.unless_gone, until)? {
                return Ok(Next::Idle);
            }
            let answer = &mut self.answer;
            let read = self.frames.fill(|buffer| answer.read(buffer));
            self.over =
                read.map_err(|e| Error::new(Kind::Unavailable, "the daemon's log").with_source(e))? == 0;
        }
    }
}

/// Takes `TIME [attributes ]text` apart.
fn line_of(stream: Stream, bytes: &[u8], details: bool) -> LogLine {
    let (time, mut rest) = match word(bytes) {
        Some((word, rest)) => match std::str::from_utf8(word).ok().and_then(time::stamp) {
            Some(nanos) => (nanos, rest),
            None => (0, bytes),
        },
        None => (0, bytes),
    };
    let mut attributes = Vec::new();
    if details && let Some((word, after)) = word(rest) {
        let text = String::from_utf8_lossy(word);
        for pair in text.split(',').filter(|p| !p.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            attributes.push((decoded(key), decoded(value)));
        }
        rest = after;
    }
    LogLine { stream, time, line: rest.to_vec(), attributes }
}

fn word(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = bytes.iter().position(|b| *b == b' ')?;
    Some((&bytes[..at], &bytes[at + 1..]))
}

fn decoded(text: &str) -> String {
    percent_encoding::percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_its_time_and_its_attributes() {
        let line = line_of(Stream::Stderr, b"2006-01-02T15:04:05.500000000Z a=b%20c,d= text here\n", true);
        assert_eq!(line.time, 1_136_214_245_500_000_000);
        assert_eq!(line.line, b"text here\n");
        assert_eq!(line.attributes, [("a".to_owned(), "b c".to_owned()), ("d".to_owned(), String::new())]);
        assert_eq!(line_of(Stream::Stdout, b"no time\n", false).line, b"no time\n");
        assert_eq!(line_of(Stream::Stdout, b"2006-01-02T15:04:05Z  x\n", true).line, b"x\n");
    }
}
