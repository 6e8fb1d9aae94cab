//! What a display knows: the operations that have begun, in order, with the last lines of their output.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Lines of output that are kept for the window of a running operation.
const KEPT: usize = 32;
/// The longest line that is kept, in bytes.
const LONGEST: usize = 4096;

/// What an operation is known by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    /// A vertex of the graph.
    Vertex(usize),
    /// Something beside the graph, by its name.
    Other(String),
}

/// How an operation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was done.
    Done,
    /// Its result was known.
    Cached,
    /// It failed.
    Failed,
    /// It was given up.
    Canceled,
}

/// An operation.
#[derive(Debug)]
pub struct Job {
    key: Key,
    /// What people call it.
    pub name: String,
    began: Instant,
    /// How it ended, and how long it took.
    pub end: Option<(Outcome, Duration)>,
    /// What it says of itself when it is done.
    pub notes: Vec<String>,
    /// The last lines of its output.
    pub log: VecDeque<String>,
    partial: Vec<u8>,
    /// How much it has written; who writes much is shown first.
    pub written: usize,
}

impl Job {
    /// How long it takes, or took.
    pub fn time(&self, now: Instant) -> Duration {
        self.end.map_or_else(|| now.saturating_duration_since(self.began), |(_, time)| time)
    }

    /// Whether it goes on.
    pub fn runs(&self) -> bool {
        self.end.is_none()
    }
}

/// See the module.
#[derive(Debug)]
pub struct Board {
    /// When the build began.
    pub began: Instant,
    /// In the order in which they began.
    pub jobs: Vec<Job>,
    vertices: usize,
}

impl Board {
    /// For a graph of so many operations.
    pub fn new(vertices: usize, now: Instant) -> Self {
        Self { began: now, jobs: Vec::new(), vertices }
    }

    /// How many operations are done, and how many there are as far as is known.
    pub fn counts(&self) -> (usize, usize) {
        let done = self.jobs.iter().filter(|job| !job.runs()).count();
        let others = self.jobs.iter().filter(|job| matches!(job.key, Key::Other(_))).count();
        (done, others + self.vertices)
    }

    /// Something begins.
    pub fn begin(&mut self, key: Key, name: &str, now: Instant) {
        self.jobs.push(Job {
            key,
            name: clean(name.as_bytes()),
            began: now,
            end: None,
            notes: Vec::new(),
            log: VecDeque::new(),
            partial: Vec::new(),
            written: 0,
        });
    }

    /// Something ends; the last one of that key.
    pub fn end(&mut self, key: &Key, outcome: Outcome, notes: &[String], now: Instant) {
        if let Some(job) = self.jobs.iter_mut().rev().find(|job| job.key == *key && job.runs()) {
            job.end = Some((outcome, job.time(now)));
            job.notes = notes.iter().map(|note| clean(note.as_bytes())).collect();
            job.log.clear();
            job.partial.clear();
        }
    }

    /// Something beside the graph is done, which took so long; it need not have been said to begin.
    pub fn tell(&mut self, name: &str, notes: &[String], took: Duration, now: Instant) {
        let key = Key::Other(name.to_owned());
        if !self.jobs.iter().any(|job| job.key == key && job.runs()) {
            self.begin(key.clone(), name, now.checked_sub(took).unwrap_or(now));
        }
        self.end(&key, Outcome::Done, notes, now);
    }

    /// What goes on has been given up.
    pub fn give_up(&mut self, now: Instant) {
        for job in self.jobs.iter_mut().filter(|job| job.runs()) {
            job.end = Some((Outcome::Canceled, job.time(now)));
        }
    }

    /// Something wrote.
    pub fn write(&mut self, key: &Key, bytes: &[u8]) {
        let Some(job) = self.jobs.iter_mut().rev().find(|job| job.key == *key && job.runs()) else { return };
        job.written += bytes.len();
        let log = &mut job.log;
        super::super::progress::lines(&mut job.partial, bytes, LONGEST, |line| {
            log.push_back(clean(line));
            if log.len() > KEPT {
                log.pop_front();
            }
        });
    }
}

impl Job {
    /// The last lines of output, with the one that is not complete.
    pub fn last_lines(&self, most: usize) -> Vec<String> {
        let mut lines: Vec<String> =
            self.log.iter().filter(|line| !line.trim().is_empty()).cloned().collect();
        let partial = clean(&self.partial);
        if !partial.trim().is_empty() {
            lines.push(partial);
        }
        let from = lines.len().saturating_sub(most);
        lines.split_off(from)
    }
}

/// A line as it looks at its end: what a carriage return has overwritten is gone, and so is what moves the cursor or
/// changes colours, which would spoil the display.
pub fn clean(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let text = text.trim_end_matches(['\n', '\r']);
    let text = text.rsplit('\r').next().unwrap_or(text);
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\t' => out.push(' '),
            '\x1b' => match chars.next() {
                // Parameters, then one letter.
                Some('[') => drop(chars.by_ref().find(|c| ('@'..='~').contains(c))),
                // A title or a link: up to its end.
                Some(']') => {
                    while let Some(c) = chars.next() {
                        if c == '\x07' || c == '\x1b' && chars.next_if_eq(&'\\').is_some() {
                            break;
                        }
                    }
                }
                _ => {}
            },
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_shown_as_they_end() {
        assert_eq!(clean(b"10%\r20%\r100%\n"), "100%");
        assert_eq!(clean(b"\x1b[31mred\x1b[0m\x1b[2J\x1b]0;title\x07 end\x08"), "red end");
        assert_eq!(clean(b"a\tb\xff\r\n"), "a b\u{fffd}");
        assert_eq!(clean(b"\x1b["), "");
    }

    #[test]
    fn operations_begin_write_and_end() {
        let now = Instant::now();
        let mut board = Board::new(3, now);
        board.begin(Key::Other("load".to_owned()), "load", now);
        board.end(&Key::Other("load".to_owned()), Outcome::Done, &["x".to_owned()], now);
        board.begin(Key::Vertex(0), "RUN", now);
        for n in 0..100 {
            board.write(&Key::Vertex(0), format!("line {n}\n").as_bytes());
        }
        board.write(&Key::Vertex(0), b"half");
        assert_eq!(board.jobs[1].last_lines(2), ["line 99", "half"]);
        assert_eq!(board.counts(), (1, 4));
        board.give_up(now);
        assert_eq!(board.counts(), (2, 4));
    }
}
