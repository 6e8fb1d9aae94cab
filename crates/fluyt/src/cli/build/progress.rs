//! What a build shows while it runs: a display on a terminal, BuildKit's plain form, its JSON, or nothing.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use fluyt_build::graph::Id;
use fluyt_build::{Event, Output, Watch};

use super::live::{Key, Live, Outcome};

/// How much of a step's output is kept for the case that it fails.
const KEPT: usize = 64 * 1024;
/// How many of its last lines are shown then.
const LAST_LINES: usize = 40;

/// The form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A display that is drawn anew in place.
    Tty,
    /// Numbered lines.
    Plain,
    /// One JSON object a line.
    RawJson,
    /// Nothing.
    Quiet,
}

/// Shows a build.
pub struct Progress {
    form: Form,
    names: Vec<(String, String)>,
    state: Mutex<State>,
    live: Option<Live>,
}

#[derive(Default)]
struct State {
    next: usize,
    steps: BTreeMap<Id, Step>,
    /// The step that the last line was about.
    last: usize,
    /// The first step that failed.
    failed: Option<Id>,
}

/// The longest line that is shown whole, in bytes.
const LONGEST: usize = 64 << 10;

struct Step {
    number: usize,
    began: Instant,
    partial: [Vec<u8>; 2],
    kept: Vec<u8>,
}

impl Progress {
    /// For vertices with these names and digests, of which so many are needed; the first number is free.
    pub fn new(form: Form, names: Vec<(String, String)>, needed: usize) -> Self {
        let live = (form == Form::Tty).then(|| Live::start(needed));
        Self { form, names, state: Mutex::new(State { next: 1, ..State::default() }), live }
    }

    /// Nothing more will happen: what is written from now on comes below.
    pub fn finish(&self) {
        if let Some(live) = &self.live {
            live.finish();
        }
    }

    /// Something beside the graph begins; [`Progress::internal`] ends it.
    pub fn begin(&self, name: &str) {
        if let Some(live) = &self.live {
            live.update(|board| board.begin(Key::Other(name.to_owned()), name, Instant::now()));
        }
    }

    /// Something beside the graph failed.
    pub fn failed(&self, name: &str) {
        if let Some(live) = &self.live {
            let key = Key::Other(name.to_owned());
            live.update(|board| board.end(&key, Outcome::Failed, &[], Instant::now()));
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells of something that is not an operation of the graph.
    pub fn internal(&self, name: &str, lines: &[String], seconds: f64) {
        if let Some(live) = &self.live {
            let took = Duration::try_from_secs_f64(seconds).unwrap_or_default();
            return live.update(|board| board.tell(name, lines, took, Instant::now()));
        }
        let mut state = self.lock();
        let number = state.next;
        state.next += 1;
        match self.form {
            Form::Plain => {
                let mut text = format!("#{number} {name}\n");
                for line in lines {
                    text.push_str(&format!("#{number} {line}\n"));
                }
                text.push_str(&format!("#{number} DONE {seconds:.1}s\n\n"));
                state.last = 0;
                say(&text);
            }
            Form::RawJson => say_json(&serde_json::json!({"vertexes": [{"name": name, "completed": true}]})),
            Form::Quiet | Form::Tty => {}
        }
    }

    /// The last output of a step, for the report of its failure; with its name.
    pub fn failure(&self) -> Option<String> {
        let state = self.lock();
        let id = state.failed?;
        let step = state.steps.get(&id)?;
        let text = String::from_utf8_lossy(&step.kept).into_owned();
        let all: Vec<&str> = text.lines().collect();
        let from = all.len().saturating_sub(LAST_LINES);
        let mut out = format!("------\n > {}:\n", self.names.get(id).map_or("", |(name, _)| name));
        for line in &all[from..] {
            out.push_str(&format!("{line}\n"));
        }
        out.push_str("------\n");
        Some(out)
    }

    fn output(&self, state: &mut State, id: Id, stream: Output, bytes: &[u8]) {
        let (form, digest) = (self.form, self.names.get(id).map_or("", |(_, digest)| digest));
        let header = self.header(state, id);
        let Some(step) = state.steps.get_mut(&id) else { return };
        step.kept.extend_from_slice(bytes);
        if step.kept.len() > 2 * KEPT {
            let cut = step.kept.len() - KEPT;
            step.kept.drain(..cut);
        }
        if form == Form::RawJson {
            let number = if stream == Output::Stdout { 1 } else { 2 };
            let text = String::from_utf8_lossy(bytes);
            return say_json(
                &serde_json::json!({"logs": [{"vertex": digest, "stream": number, "data": text}]}),
            );
        }
        if let Some(live) = &self.live {
            return live.update(|board| board.write(&Key::Vertex(id), bytes));
        }
        if form == Form::Quiet {
            return;
        }
        let mut text = header;
        let since = step.began.elapsed().as_secs_f64();
        let number = step.number;
        lines(&mut step.partial[usize::from(stream == Output::Stderr)], bytes, LONGEST, |line| {
            let line = String::from_utf8_lossy(line);
            text.push_str(&format!("#{number} {since:.3} {}\n", line.trim_end_matches('\r')));
        });
        say(&text);
    }

    /// The line that says which step follows, when another one was shown before.
    fn header(&self, state: &mut State, id: Id) -> String {
        let Some(step) = state.steps.get(&id) else { return String::new() };
        if self.form != Form::Plain || state.last == step.number {
            return String::new();
        }
        let gap = if state.last == 0 { "" } else { "\n" };
        let number = step.number;
        state.last = number;
        format!("{gap}#{number} {}\n", self.names.get(id).map_or("", |(name, _)| name))
    }

    fn done(&self, state: &mut State, id: Id, how: &str, error: Option<&str>) {
        let header = self.header(state, id);
        let Some(step) = state.steps.get_mut(&id) else { return };
        let seconds = step.began.elapsed().as_secs_f64();
        if let Some(live) = &self.live {
            let outcome = match (error, how) {
                (Some(e), _) if e.ends_with("the build was cancelled") => Outcome::Canceled,
                (Some(_), _) => Outcome::Failed,
                (None, "CACHED") => Outcome::Cached,
                _ => Outcome::Done,
            };
            return live.update(|board| board.end(&Key::Vertex(id), outcome, &[], Instant::now()));
        }
        match self.form {
            Form::Plain => {
                let mut text = header;
                for partial in &mut step.partial {
                    if !partial.is_empty() {
                        let line = String::from_utf8_lossy(partial).into_owned();
                        text.push_str(&format!("#{} {seconds:.3} {line}\n", step.number));
                        partial.clear();
                    }
                }
                let end = match (error, how) {
                    (Some(e), _) if e.ends_with("the build was cancelled") => "CANCELED".to_owned(),
                    (Some(e), _) => format!("ERROR: {e}"),
                    (None, "CACHED") => "CACHED".to_owned(),
                    _ => format!("DONE {seconds:.1}s"),
                };
                text.push_str(&format!("#{} {end}\n\n", step.number));
                state.last = 0;
                say(&text);
            }
            Form::RawJson => {
                let (name, digest) = self.names.get(id).cloned().unwrap_or_default();
                let vertex = serde_json::json!({"digest": digest, "name": name, "completed": true,
                    "cached": how == "CACHED", "error": error});
                say_json(&serde_json::json!({"vertexes": [vertex]}));
            }
            Form::Quiet | Form::Tty => {}
        }
    }
}

/// Gives each line that `bytes` complete to `each`, without its end; `partial` is what has come of the next one. A line
/// ends at `longest` bytes in any case.
pub(super) fn lines(partial: &mut Vec<u8>, bytes: &[u8], longest: usize, mut each: impl FnMut(&[u8])) {
    let mut rest = bytes;
    while !rest.is_empty() {
        let room = longest.saturating_sub(partial.len());
        let end = rest.iter().take(room).position(|b| *b == b'\n');
        let taken = end.unwrap_or(room.min(rest.len()));
        partial.extend_from_slice(&rest[..taken]);
        rest = &rest[taken + usize::from(end.is_some())..];
        if end.is_some() || partial.len() >= longest {
            each(partial);
            partial.clear();
        }
    }
}

impl Watch for Progress {
    fn event(&self, event: Event<'_>) {
        let mut state = self.lock();
        match event {
            Event::Started(id) => {
                let number = state.next;
                state.next += 1;
                let step = Step {
                    number,
                    began: Instant::now(),
                    partial: [Vec::new(), Vec::new()],
                    kept: Vec::new(),
                };
                state.steps.insert(id, step);
                if let Some(live) = &self.live {
                    let name = self.names.get(id).map_or("", |(name, _)| name);
                    live.update(|board| board.begin(Key::Vertex(id), name, Instant::now()));
                } else if self.form == Form::RawJson {
                    let (name, digest) = self.names.get(id).cloned().unwrap_or_default();
                    say_json(
                        &serde_json::json!({"vertexes": [{"digest": digest, "name": name, "started": true}]}),
                    );
                } else {
                    let header = self.header(&mut state, id);
                    say(&header);
                }
            }
            Event::Done(id, cached) => {
                self.done(&mut state, id, if cached { "CACHED" } else { "DONE" }, None)
            }
            Event::Failed(id, error) => {
                state.failed.get_or_insert(id);
                self.done(&mut state, id, "ERROR", Some(error));
            }
            Event::Output(id, stream, bytes) => self.output(&mut state, id, stream, bytes),
        }
    }
}

fn say(text: &str) {
    if !text.is_empty() {
        // Nobody can be told that standard error is closed.
        let _ = std::io::stderr().lock().write_all(text.as_bytes());
    }
}

fn say_json(value: &serde_json::Value) {
    say(&format!("{value}\n"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_where_they_end_or_where_they_are_too_long() {
        let mut partial = Vec::new();
        let mut found: Vec<String> = Vec::new();
        for bytes in ["a", "b\nc\n\n", "12345", "67", "8901", "\n", "x"] {
            lines(&mut partial, bytes.as_bytes(), 8, |line| {
                found.push(String::from_utf8_lossy(line).into_owned());
            });
        }
        assert_eq!(found, ["ab", "c", "", "12345678", "901"]);
        assert_eq!(partial, b"x");
    }
}
