//! What image store and registries tell of their work, in the words of Docker's engine.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fluyt_image::{Outcome, Progress};
use fluyt_model::quantity::human_size;

use crate::api::{self, ProgressDetail, ProgressMessage};

/// How often one thing tells how far it has come.
const PAUSE: Duration = Duration::from_millis(100);

/// Which work is told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Layers come from a registry.
    Pull,
    /// Layers go to a registry.
    Push,
    /// Layers come from an archive.
    Load,
}

/// Passes progress on to a sink of messages.
pub struct Tell<'a> {
    sink: &'a dyn api::Progress,
    work: Work,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Said before anything else.
    opening: Vec<ProgressMessage>,
    items: BTreeMap<String, Item>,
    /// Layers that a message has been about.
    known: BTreeSet<String>,
    /// Digests of which nothing is said: they are no layers, or all has been said.
    hidden: BTreeSet<String>,
}

struct Item {
    done: u64,
    total: u64,
    said: Instant,
}

impl<'a> Tell<'a> {
    /// Tells `sink` of `work`; `opening` is said when there is something to tell at all, so that work that fails before has
    /// said nothing.
    pub fn new(sink: &'a dyn api::Progress, work: Work, opening: Vec<ProgressMessage>) -> Self {
        Self { sink, work, state: Mutex::new(State { opening, ..State::default() }) }
    }

    /// Says nothing of this digest: it is a configuration or a manifest.
    pub fn hide(&self, digest: &str) {
        self.state().hidden.insert(digest.to_owned());
    }

    /// Says something of its own. That nobody listens any more does not end the work.
    pub fn say(&self, message: ProgressMessage) {
        let mut state = self.state();
        self.send(&mut state, message);
    }

    /// A line without an id.
    pub fn status(&self, text: impl Into<String>) {
        self.say(ProgressMessage { status: text.into(), ..ProgressMessage::default() });
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, state: &mut State, message: ProgressMessage) {
        for opening in std::mem::take(&mut state.opening) {
            let _ = self.sink.tell(opening);
        }
        let _ = self.sink.tell(message);
    }

    /// What is said of a layer when `verb` begins.
    fn beginning(&self, verb: &str) -> Option<&'static str> {
        match (self.work, verb) {
            (Work::Pull, "Downloading") => Some("Pulling fs layer"),
            (Work::Push, "Pushing") => Some("Preparing"),
            _ => None,
        }
    }

    /// What is said of it while it goes on.
    fn going(&self, verb: &str) -> Option<&'static str> {
        match (self.work, verb) {
            (Work::Pull, "Downloading") => Some("Downloading"),
            (Work::Pull, "Extracting") => Some("Extracting"),
            (Work::Push, "Pushing") => Some("Pushing"),
            (Work::Load, "Extracting") => Some("Loading layer"),
            _ => None,
        }
    }

    /// What is said of it at its end.
    fn ending(&self, verb: &str, outcome: Outcome, known: bool) -> Option<&'static str> {
        match (self.work, verb, outcome) {
            (Work::Pull, "Downloading", Outcome::Done) => Some("Download complete"),
            (Work::Pull, "Extracting", Outcome::Done) => Some("Pull complete"),
            (Work::Pull, _, Outcome::Exists) if !known => Some("Already exists"),
            // It was fetched, and another image has it already.
            (Work::Pull, "Extracting", Outcome::Exists) => Some("Pull complete"),
            (Work::Push, "Pushing", Outcome::Done) => Some("Pushed"),
            (Work::Push, "Pushing", Outcome::Exists) => Some("Layer already exists"),
            _ => None,
        }
    }
}

/// `Verb digest` as its parts.
fn parts(item: &str) -> (&str, &str) {
    item.split_once(' ').unwrap_or((item, ""))
}

fn about(name: &str, status: &str, detail: ProgressDetail) -> ProgressMessage {
    ProgressMessage {
        status: status.to_owned(),
        progress: bar(&detail),
        detail: Some(detail),
        id: short(name).to_owned(),
        ..ProgressMessage::default()
    }
}

fn short(name: &str) -> &str {
    if name.starts_with("sha256:") { fluyt_model::id::short(name) } else { name }
}

impl Progress for Tell<'_> {
    fn begin(&self, item: &str, total: Option<u64>) {
        let (verb, name) = parts(item);
        let mut state = self.state();
        let now = Instant::now();
        let said = now.checked_sub(PAUSE).unwrap_or(now);
        state.items.insert(item.to_owned(), Item { done: 0, total: total.unwrap_or(0), said });
        if state.hidden.contains(name) {
            return;
        }
        // What turns out to be there already is said once, at its end.
        if let Some(status) = self.beginning(verb).filter(|_| self.work == Work::Push) {
            self.send(&mut state, about(name, status, ProgressDetail::default()));
        }
    }

    fn advance(&self, item: &str, bytes: u64) {
        let (verb, name) = parts(item);
        let mut state = self.state();
        let hidden = state.hidden.contains(name);
        let Some(found) = state.items.get_mut(item) else { return };
        found.done += bytes;
        if hidden || (found.said.elapsed() < PAUSE && found.done != found.total) {
            return;
        }
        let Some(status) = self.going(verb) else { return };
        found.said = Instant::now();
        let detail = ProgressDetail { current: found.done, total: found.total };
        if state.known.insert(name.to_owned())
            && let Some(first) = self.beginning(verb).filter(|_| self.work == Work::Pull)
        {
            self.send(&mut state, about(name, first, ProgressDetail::default()));
        }
        self.send(&mut state, about(name, status, detail));
    }

    fn finish(&self, item: &str, outcome: Outcome) {
        let (verb, name) = parts(item);
        let mut state = self.state();
        state.items.remove(item);
        if state.hidden.contains(name) {
            return;
        }
        let known = !state.known.insert(name.to_owned());
        if !known
            && outcome == Outcome::Done
            && let Some(first) = self.beginning(verb).filter(|_| self.work == Work::Pull)
        {
            self.send(&mut state, about(name, first, ProgressDetail::default()));
        }
        if !known && outcome == Outcome::Exists && self.work == Work::Pull {
            state.hidden.insert(name.to_owned());
        }
        if let Some(status) = self.ending(verb, outcome, known) {
            self.send(&mut state, about(name, status, ProgressDetail::default()));
        }
    }
}

/// Docker's bar: `[====>     ]  1.5MB/3MB`.
pub fn bar(detail: &ProgressDetail) -> String {
    const WIDTH: u64 = 50;
    let (current, total) = (detail.current, detail.total);
    if current == 0 && total == 0 {
        return String::new();
    }
    let done = format!("{:>8}", human_size(current as f64));
    if total == 0 {
        return done;
    }
    let filled = (current.saturating_mul(100) / total / 2).min(WIDTH);
    let (full, empty) = ("=".repeat(filled as usize), " ".repeat((WIDTH - filled) as usize));
    if current > total {
        return format!("[{full}>{empty}] {done}");
    }
    format!("[{full}>{empty}] {done}/{}", human_size(total as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Lines(Mutex<Vec<String>>);

    impl api::Progress for Lines {
        fn tell(&self, message: ProgressMessage) -> fluyt_model::Result<()> {
            let text = serde_json::to_string(&message).unwrap();
            self.0.lock().unwrap().push(text);
            Ok(())
        }
    }

    #[test]
    fn a_pull_is_told_as_dockers_engine_tells_it() {
        let lines = Lines(Mutex::default());
        let opening = ProgressMessage {
            status: "Pulling from x".to_owned(),
            id: "latest".to_owned(),
            ..ProgressMessage::default()
        };
        let tell = Tell::new(&lines, Work::Pull, vec![opening]);
        let layer = format!("sha256:{}", "a".repeat(64));
        let other = format!("sha256:{}", "b".repeat(64));
        let (down, out) = (format!("Downloading {layer}"), format!("Extracting {layer}"));
        tell.begin(&down, Some(10));
        assert!(lines.0.lock().unwrap().is_empty());
        tell.advance(&down, 10);
        tell.finish(&down, Outcome::Done);
        tell.begin(&out, Some(10));
        tell.finish(&out, Outcome::Done);
        tell.begin(&format!("Extracting {other}"), Some(3));
        tell.finish(&format!("Extracting {other}"), Outcome::Exists);
        let bar = format!("[{}>]      10B/10B", "=".repeat(50));
        assert_eq!(
            *lines.0.lock().unwrap(),
            [
                r#"{"status":"Pulling from x","id":"latest"}"#.to_owned(),
                r#"{"status":"Pulling fs layer","progressDetail":{},"id":"aaaaaaaaaaaa"}"#.to_owned(),
                format!(
                    r#"{{"status":"Downloading","progressDetail":{{"current":10,"total":10}},"progress":"{bar}","id":"aaaaaaaaaaaa"}}"#
                ),
                r#"{"status":"Download complete","progressDetail":{},"id":"aaaaaaaaaaaa"}"#.to_owned(),
                r#"{"status":"Pull complete","progressDetail":{},"id":"aaaaaaaaaaaa"}"#.to_owned(),
                r#"{"status":"Already exists","progressDetail":{},"id":"bbbbbbbbbbbb"}"#.to_owned(),
            ]
        );
    }

    #[test]
    fn bars() {
        assert_eq!(bar(&ProgressDetail::default()), "");
        assert_eq!(bar(&ProgressDetail { current: 1500, total: 0 }), "   1.5kB");
        let half = bar(&ProgressDetail { current: 50, total: 100 });
        assert_eq!(half, format!("[{}>{}]      50B/100B", "=".repeat(25), " ".repeat(25)));
    }
}
