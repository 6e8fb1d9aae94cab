//! What a classic build says: one step after another, although the solver works on several at once.
//!
//! Steps are told in the order of the Dockerfile. What a later one prints while an earlier one runs is kept until its turn.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use fluyt_build::dockerfile::{Dockerfile, Lines};
use fluyt_build::graph::{Graph, Id, Op};
use fluyt_build::plan::Joined;
use fluyt_build::{Cancel, Event, Output, Watch};
use fluyt_image::digest::{Algorithm, Hasher};

use crate::api::{Progress, ProgressMessage};

/// A step of the Dockerfile.
struct Step {
    text: String,
    /// It begins a stage.
    from: bool,
    /// What it became; nothing for what only changes the configuration.
    vertices: Vec<Id>,
    /// What stands for its image.
    id: String,
    begun: bool,
    running: bool,
    cached: bool,
    /// Kept until its turn.
    held: Vec<u8>,
}

struct State {
    steps: Vec<Step>,
    /// The step that is being told.
    at: usize,
    /// Vertices that are done.
    done: BTreeSet<Id>,
    failed: Option<Id>,
}

/// Tells of a build.
pub struct Steps<'a> {
    sink: &'a dyn Progress,
    cancel: &'a Cancel,
    quiet: bool,
    /// The step that a vertex belongs to.
    step_of: BTreeMap<Id, usize>,
    /// What a vertex needs, directly or not.
    needs: Vec<BTreeSet<Id>>,
    state: Mutex<State>,
}

impl<'a> Steps<'a> {
    /// For a build of `file` as it was planned; `quiet`: nothing is told.
    pub fn new(
        file: &Dockerfile,
        target: &str,
        plan: &Joined,
        sink: &'a dyn Progress,
        cancel: &'a Cancel,
        quiet: bool,
    ) -> Self {
        let mut steps = steps(file, target, plan);
        let mut chain = String::new();
        for step in &mut steps {
            chain = digest(&chain, &step.text);
            step.id.clone_from(&chain);
        }
        let placed = steps.iter().enumerate();
        let step_of = placed.flat_map(|(at, step)| step.vertices.iter().map(move |id| (*id, at))).collect();
        let state = State { steps, at: 0, done: BTreeSet::new(), failed: None };
        Self { sink, cancel, quiet, step_of, needs: needs(&plan.graph), state: Mutex::new(state) }
    }

    /// The vertex that failed first.
    pub fn failed(&self) -> Option<Id> {
        self.state().failed
    }

    /// Tells what is left, all of it done; the last step is the image `id`.
    pub fn finish(&self, id: &str) {
        let mut state = self.state();
        while state.at < state.steps.len() {
            let last = state.at + 1 == state.steps.len();
            self.close(&mut state, last.then_some(id));
        }
    }

    /// A line of its own.
    pub fn say(&self, text: &str) {
        let stream = format!("{text}\n");
        self.send(ProgressMessage { stream, ..ProgressMessage::default() });
    }

    fn send(&self, message: ProgressMessage) {
        if !self.quiet && self.sink.tell(message).is_err() {
            self.cancel.cancel();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, state: &mut State) {
        let (at, count) = (state.at, state.steps.len());
        let Some(step) = state.steps.get_mut(at).filter(|step| !step.begun) else { return };
        step.begun = true;
        let text = format!("Step {}/{count} : {}", at + 1, step.text);
        self.say(&text);
    }

    /// Tells the rest of the present step and goes on to the next.
    fn close(&self, state: &mut State, id: Option<&str>) {
        self.begin(state);
        let at = state.at;
        let cached = is_cached(&state.steps, at);
        let Some(step) = state.steps.get_mut(at) else { return };
        let held = std::mem::take(&mut step.held);
        self.output(step, &held);
        if step.running {
            self.say(&format!(" ---> Removed intermediate container {}", short(&container(step))));
        } else if cached {
            self.say(" ---> Using cache");
        }
        self.say(&format!(" ---> {}", short(id.unwrap_or(&step.id))));
        state.at += 1;
    }

    fn output(&self, step: &mut Step, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        if !step.running {
            step.running = true;
            self.say(&format!(" ---> Running in {}", short(&container(step))));
        }
        let stream = String::from_utf8_lossy(bytes).into_owned();
        self.send(ProgressMessage { stream, ..ProgressMessage::default() });
    }

    /// Goes on over steps that are done, and tells what the one that is reached has said so far.
    fn advance(&self, state: &mut State) {
        while let Some(step) = state.steps.get(state.at) {
            // The last one waits for the image's id.
            let last = state.at + 1 == state.steps.len();
            if last || !step.vertices.iter().all(|id| state.done.contains(id)) || !decided(state) {
                break;
            }
            self.close(state, None);
        }
        self.begin(state);
        let at = state.at;
        if let Some(step) = state.steps.get_mut(at) {
            let held = std::mem::take(&mut step.held);
            self.output(step, &held);
        }
    }

    /// What a vertex stands on is done, told of or not: the solver passes over what is cached.
    fn settle(&self, state: &mut State, id: Id) {
        for need in &self.needs[id] {
            if state.done.insert(*need)
                && let Some(at) = self.step_of.get(need)
            {
                state.steps[*at].cached = true;
            }
        }
    }
}

impl Watch for Steps<'_> {
    fn event(&self, event: Event<'_>) {
        let mut state = self.state();
        match event {
            Event::Started(id) => {
                self.settle(&mut state, id);
                self.advance(&mut state);
            }
            Event::Done(id, cached) => {
                self.settle(&mut state, id);
                state.done.insert(id);
                if let Some(at) = self.step_of.get(&id) {
                    state.steps[*at].cached |= cached;
                }
                self.advance(&mut state);
            }
            Event::Failed(id, _) => {
                state.failed.get_or_insert(id);
            }
            Event::Output(id, stream, bytes) => self.printed(&mut state, id, stream, bytes),
        }
    }
}

impl Steps<'_> {
    fn printed(&self, state: &mut State, id: Id, stream: Output, bytes: &[u8]) {
        let Some(at) = self.step_of.get(&id).copied() else { return };
        // The classic builder shows errors in red, on the same stream.
        let mut shown = Vec::new();
        if stream == Output::Stderr {
            shown.extend_from_slice(b"\x1b[91m");
        }
        shown.extend_from_slice(bytes);
        if stream == Output::Stderr {
            shown.extend_from_slice(b"\x1b[0m");
        }
        // It runs, so what only changes the configuration before it is told of.
        while state.at < at && state.steps[state.at..at].iter().all(|step| !step.works()) {
            self.close(state, None);
        }
        if at == state.at {
            self.begin(state);
            self.output(&mut state.steps[at], &shown);
        } else {
            state.steps[at].held.extend_from_slice(&shown);
        }
    }
}

impl Step {
    /// Whether it is more than a change of the configuration.
    fn works(&self) -> bool {
        self.from || !self.vertices.is_empty()
    }
}

/// Whether it is known if the present step was there already: one that only changes the configuration waits for the next
/// that does more.
fn decided(state: &State) -> bool {
    let rest = &state.steps[state.at..];
    match rest.iter().find(|step| step.works()) {
        Some(next) => next.from || next.vertices.iter().all(|id| state.done.contains(id)),
        None => true,
    }
}

/// Whether a step was there already. One that only changes the configuration counts as the work after it does, or,
/// where there is none, as that before it.
fn is_cached(steps: &[Step], at: usize) -> bool {
    let Some(step) = steps.get(at) else { return false };
    if step.works() {
        return step.cached;
    }
    let works = |step: &&Step| step.works();
    match steps[at..].iter().find(works).filter(|step| !step.from) {
        Some(next) => next.cached,
        None => steps[..at].iter().rfind(works).is_some_and(|step| step.cached),
    }
}

fn short(id: &str) -> &str {
    fluyt_model::id::short(id)
}

fn container(step: &Step) -> String {
    digest(&step.id, "container")
}

fn digest(chain: &str, text: &str) -> String {
    let mut hasher = Hasher::new(Algorithm::Sha256);
    hasher.update(chain.as_bytes());
    hasher.update(b"\n");
    hasher.update(text.as_bytes());
    hasher.finish().hex().to_owned()
}

/// The instructions of the stages that are built, up to the target.
fn steps(file: &Dockerfile, target: &str, plan: &Joined) -> Vec<Step> {
    let lines: Vec<(Lines, Id)> =
        plan.graph.vertices.iter().enumerate().filter_map(|(id, v)| Some((v.lines?, id))).collect();
    let within = |lines: &Lines, of: &Lines| of.first <= lines.first && lines.last <= of.last;
    let of =
        |place: &Lines| lines.iter().filter(|(l, _)| within(l, place)).map(|(_, id)| *id).collect::<Vec<_>>();
    let wanted = file.stages.iter().position(|s| !target.is_empty() && s.name.eq_ignore_ascii_case(target));
    let last = wanted.or_else(|| target.parse().ok()).unwrap_or(file.stages.len().saturating_sub(1));
    let mut steps = Vec::new();
    for (at, stage) in file.stages.iter().enumerate().take(last + 1) {
        let mut own = vec![step(&stage.source, true, of(&stage.lines))];
        own.extend(stage.steps.iter().map(|s| step(&s.source, false, of(&s.lines))));
        // A stage that nothing needs is not built.
        if at == last || own.iter().any(|step| !step.vertices.is_empty()) {
            steps.append(&mut own);
        }
    }
    steps
}

fn step(text: &str, from: bool, vertices: Vec<Id>) -> Step {
    Step {
        text: text.to_owned(),
        from,
        vertices,
        id: String::new(),
        begun: false,
        running: false,
        cached: false,
        held: Vec::new(),
    }
}

/// For each vertex everything that it stands on.
fn needs(graph: &Graph) -> Vec<BTreeSet<Id>> {
    let mut all: Vec<BTreeSet<Id>> = Vec::new();
    for vertex in &graph.vertices {
        let mut mine = BTreeSet::new();
        for need in vertex.op.needs() {
            mine.extend(all.get(need).into_iter().flatten().copied());
            mine.insert(need);
        }
        all.push(mine);
    }
    all
}

/// The command of a vertex, as Docker's engine shows it.
pub fn command(graph: &Graph, id: Id) -> Option<String> {
    match &graph.vertices.get(id)?.op {
        Op::Exec(exec) => Some(exec.args.join(" ")),
        _ => None,
    }
}
