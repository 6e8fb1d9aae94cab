//! Carries out a graph: asks the cache, runs what is missing, independent vertices at once.
//!
//! Every vertex has two keys. Its *definition* key covers what it does and the definition keys of all that it needs,
//! with the content of contexts and the digests of images: it is known before anything is done, so a build whose
//! result is cached looks up one record and touches no stage. Its *content* key covers what it does and what its inputs
//! turned out to be: a stage that was made anew but gave the same files does not spoil what comes after it.
//!
//! 1. Definition keys are computed in order. A vertex for which the cache is not asked has none, nor has what needs it.
//! 2. From the result downwards, vertices whose definition key is in the cache end the search.
//! 3. The rest is run by as many threads as there are processors; each vertex first asks for its content key.
//!
//! Nothing is shared between vertices but the results, which are immutable layers.

mod agent;
pub mod archive;
mod exec;
mod export;
pub mod files;
mod git;
pub mod memo;
pub mod select;
pub mod tree;
mod turns;
mod views;
mod web;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, PoisonError};

use fluyt_image::{Digest, LayerRef, Lease, NewLayer, Store};
use fluyt_model::{Error, Kind, Result};

use crate::cache::{Imports, Ledger, Made};
use crate::dockerfile::{Fault, Lines};
use crate::executor::{Cancel, Event, Executor, Fetch, Output, Watch};
use crate::graph::{Action, CopyAction, FileOp, Graph, Id, MountSource, Op, Tree};
use crate::ignore::Ignore;
use crate::plan::Joined;

pub use export::{Annotations, Attest, Exported, Form, Member, Work, told};
use memo::Memo;
use select::Source;
use views::Views;

/// The version of the rules by which keys are made: another one finds nothing of this one.
const KEYS: &str = "fluyt build 3";

/// What a step says whose result is being made by another build.
const WAITING: &[u8] = b"waiting for another build that makes this\n";

/// A directory of the caller.
#[derive(Clone, Debug)]
pub struct Context {
    /// Where it is.
    pub path: PathBuf,
    /// What of it does not exist for the build.
    pub ignore: Ignore,
}

/// What a build needs of the world.
pub struct World<'a> {
    /// Runs commands.
    pub executor: &'a dyn Executor,
    /// Fetches files.
    pub fetch: &'a dyn Fetch,
    /// Watches.
    pub watch: &'a dyn Watch,
    /// Ends the build early.
    pub cancel: &'a Cancel,
    /// Contexts by name; the main one is `context`.
    pub contexts: &'a BTreeMap<String, Context>,
    /// Secrets by id.
    pub secrets: &'a BTreeMap<String, Vec<u8>>,
    /// Sockets of SSH agents by id.
    pub agents: &'a BTreeMap<String, PathBuf>,
    /// Caches of other machines.
    pub imports: &'a Imports,
    /// Is told what was made.
    pub ledger: &'a Ledger,
}

/// Where things stand while vertices are run.
struct Progress {
    results: Vec<Option<Vec<LayerRef>>>,
    /// Results that are not made of what the definition keys stand for: a context changed meanwhile.
    strayed: Vec<bool>,
    /// Vertices to run that nobody has begun.
    waiting: Vec<Id>,
    running: usize,
    failure: Option<(Id, Error)>,
}

pub(crate) struct Solver<'a> {
    pub root: &'a Path,
    pub lease: &'a Lease,
    pub plan: &'a Joined,
    pub world: &'a World<'a>,
    definitions: Vec<Option<Digest>>,
    memos: Memos,
    views: Views,
    state: Mutex<Progress>,
    turn: Condvar,
    /// Set by the first failure too: what runs beside it need not go on.
    stop: Cancel,
}

/// What is known of the files of each context.
type Memos = BTreeMap<String, Memo>;

/// What came of a vertex.
struct Outcome {
    layers: Vec<LayerRef>,
    cached: bool,
    /// It is made of what its definition key stands for.
    faithful: bool,
}

/// What was made.
#[derive(Debug)]
pub struct Solved {
    /// For each goal its layers, lowest first.
    pub goals: Vec<Vec<LayerRef>>,
    /// The layers of each vertex, where they had to be known.
    pub vertices: Vec<Option<Vec<LayerRef>>>,
}

/// Makes the trees of a plan.
///
/// # Errors
/// The first vertex that failed, with its lines. What others made until then stays in the cache.
pub fn solve(
    store: &Store,
    lease: &Lease,
    plan: &Joined,
    world: &World<'_>,
) -> std::result::Result<Solved, Fault> {
    let goals = plan.results();
    let needed = plan.graph.needed_by(&goals);
    let memos = memos(store.root(), world);
    let views = Views::default();
    let (definitions, failed) = definition_keys(plan, world, (&memos, &views), &needed);
    memos.values().for_each(Memo::save);
    if let Some((id, e)) = failed {
        return Err(fault(plan, id, e));
    }
    let count = plan.graph.vertices.len();
    let mut results: Vec<Option<Vec<LayerRef>>> = vec![None; count];
    let mut hits: Vec<Digest> = Vec::new();
    let mut to_run = vec![false; count];
    let ids = goals.iter().filter_map(|goal| if let Tree::Vertex(id) = goal { Some(*id) } else { None });
    let mut open: Vec<Id> = ids.collect();
    while let Some(id) = open.pop() {
        if to_run[id] || results[id].is_some() {
            continue;
        }
        if let Some(image) = plan.images.get(&id) {
            for layer in &image.layers {
                lease.protect(&layer.key)?;
            }
            results[id] = Some(image.layers.clone());
            continue;
        }
        if let Some(key) = &definitions[id]
            && let Some(layers) = store.cache_find(lease, key)?
        {
            results[id] = Some(layers);
            hits.push(key.clone());
            continue;
        }
        if let Some(key) = &definitions[id]
            && let Some(layers) = world.imports.find(store, lease, key)
        {
            results[id] = Some(layers);
            continue;
        }
        to_run[id] = true;
        open.extend(plan.graph.vertices[id].op.needs());
    }
    for id in (0..count).filter(|id| needed[*id] && !to_run[*id]) {
        world.watch.event(Event::Started(id));
        world.watch.event(Event::Done(id, !plan.images.contains_key(&id)));
    }
    store.cache_touch(&hits)?;
    let waiting: Vec<Id> = (0..count).filter(|id| to_run[*id]).collect();
    if !waiting.is_empty() {
        turns::sweep(store.root());
    }
    let strayed = vec![false; count];
    let solver = Solver {
        root: store.root(),
        lease,
        plan,
        world,
        definitions,
        memos,
        views,
        state: Mutex::new(Progress { results, strayed, waiting, running: 0, failure: None }),
        turn: Condvar::new(),
        stop: world.cancel.part(),
    };
    solver.run_all();
    let state = solver.state.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some((id, e)) = state.failure {
        return Err(fault(plan, id, e));
    }
    if world.cancel.is_cancelled() {
        return Err(Error::new(Kind::Unavailable, "the build was cancelled").into());
    }
    let layers = |goal: &Tree| match goal {
        Tree::Vertex(id) => state.results[*id].clone().unwrap_or_default(),
        _ => Vec::new(),
    };
    let goals: Vec<Vec<LayerRef>> = goals.iter().map(layers).collect();
    let made = (0..count).filter(|id| needed[*id] && !plan.images.contains_key(id)).map(|id| Made {
        definition: solver.definitions[id].clone().filter(|_| !state.strayed[id]),
        layers: state.results[id].clone(),
        note: plan.graph.vertices[id].name.clone(),
    });
    world.ledger.note(made.collect(), &goals);
    Ok(Solved { goals, vertices: state.results })
}

fn fault(plan: &Joined, id: Id, error: Error) -> Fault {
    let lines: Option<Lines> = plan.graph.vertices[id].lines;
    Fault { error, lines }
}

type Keys = (Vec<Option<Digest>>, Option<(Id, Error)>);

/// The notes on the contexts; a context that cannot be opened has none, and is reported where it is used.
fn memos(root: &Path, world: &World<'_>) -> Memos {
    let open = |(name, context): (&String, &Context)| {
        let dir = tree::open_dir(&context.path).ok()?;
        Some((name.clone(), Memo::open(root, &context.path, &dir.0)))
    };
    world.contexts.iter().filter_map(open).collect()
}

/// The definition key of each vertex that is needed, as far as it has one.
fn definition_keys(plan: &Joined, world: &World<'_>, seen: (&Memos, &Views), needed: &[bool]) -> Keys {
    let mut keys: Vec<Option<Digest>> = Vec::with_capacity(needed.len());
    for (id, vertex) in plan.graph.vertices.iter().enumerate() {
        if !needed[id] {
            keys.push(None);
            continue;
        }
        let inputs: Option<Vec<String>> =
            vertex.op.needs().iter().map(|n| keys[*n].as_ref().map(|k| k.to_string())).collect();
        let contexts = match context_digests(&vertex.op, world, seen) {
            Ok(contexts) => contexts,
            Err(e) => return (keys, Some((id, e))),
        };
        let known = !vertex.no_cache && cacheable(&vertex.op);
        keys.push(inputs.filter(|_| known).map(|inputs| {
            let text = format!("{KEYS} definition\n{}\n{inputs:?}\n{contexts:?}", vertex.op.canonical());
            Digest::of(text.as_bytes())
        }));
    }
    (keys, None)
}

/// Whether the operation does the same whenever it is done.
fn cacheable(op: &Op) -> bool {
    match op {
        Op::Http(http) => !http.checksum.is_empty(),
        Op::Git(git) => crate::gitref::is_commit(&git.reference),
        _ => true,
    }
}

/// The digests of what an operation takes from contexts, in order.
fn context_digests(op: &Op, world: &World<'_>, (memos, views): (&Memos, &Views)) -> Result<Vec<Digest>> {
    let mut digests = Vec::new();
    let mut add = |tree: &Tree, action: &CopyAction| -> Result<()> {
        let Tree::Context(name) = tree else { return Ok(()) };
        digests.push(views.of(world, memos, name, action)?.digest.clone());
        Ok(())
    };
    match op {
        Op::File(file) => {
            add(&file.base, &whole("/"))?;
            for action in &file.actions {
                if let Action::Copy(copy) = action {
                    add(&copy.source, copy)?;
                }
            }
        }
        Op::Exec(exec) => {
            if let Some(tree) = &exec.base {
                add(tree, &whole("/"))?;
            }
            for mount in &exec.mounts {
                if let MountSource::Bind { tree, path } = &mount.source {
                    add(tree, &whole(path))?;
                }
            }
        }
        _ => {}
    }
    Ok(digests)
}

/// A copy of all that is at a path.
#[must_use]
pub fn whole(path: &str) -> CopyAction {
    CopyAction {
        source: Tree::Scratch,
        path: path.to_owned(),
        wildcards: false,
        target: "/".to_owned(),
        owner: String::new(),
        mode: String::new(),
        exclude: Vec::new(),
        parents: None,
        unpack: false,
    }
}

fn context<'a>(world: &World<'a>, name: &str) -> Result<&'a Context> {
    world.contexts.get(name).ok_or_else(|| {
        Error::invalid("there is no build context: the Dockerfile came alone")
            .with_hint("give a directory as the context, or take files from a stage or an image")
    })
}

/// What a layer stack is called in keys.
fn chain(layers: &[LayerRef]) -> String {
    layers.iter().map(|layer| layer.diff_id.as_str()).collect::<Vec<_>>().join(",")
}

impl Solver<'_> {
    fn graph(&self) -> &Graph {
        &self.plan.graph
    }

    fn run_all(&self) {
        let most = std::thread::available_parallelism().map_or(2, usize::from).max(2);
        let waiting = self.lock().waiting.len();
        let workers = most.min(waiting);
        if workers <= 1 {
            return self.work();
        }
        std::thread::scope(|scope| {
            for _ in 1..workers {
                scope.spawn(|| self.work());
            }
            self.work();
        });
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Progress> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes one vertex after another until none is left.
    fn work(&self) {
        let mut store = None;
        loop {
            let Some(id) = self.next() else { return };
            self.world.watch.event(Event::Started(id));
            let done = match &store {
                Some(store) => self.vertex(store, id),
                None => Store::open(self.root).and_then(|opened| {
                    let done = self.vertex(&opened, id);
                    store = Some(opened);
                    done
                }),
            };
            let mut state = self.lock();
            state.running -= 1;
            match done {
                Ok(outcome) => {
                    self.world.watch.event(Event::Done(id, outcome.cached));
                    state.strayed[id] = !outcome.faithful;
                    state.results[id] = Some(outcome.layers);
                }
                Err(e) => {
                    self.world.watch.event(Event::Failed(id, &e.chain()));
                    if state.failure.is_none() {
                        state.failure = Some((id, e));
                    }
                    self.stop.cancel();
                }
            }
            drop(state);
            self.turn.notify_all();
        }
    }

    /// The next vertex whose inputs are there; waits for one. `None` when nothing is left or the build has failed.
    fn next(&self) -> Option<Id> {
        let mut state = self.lock();
        loop {
            if state.failure.is_some() || self.stop.is_cancelled() || state.waiting.is_empty() {
                return None;
            }
            let ready = state.waiting.iter().position(|id| {
                self.graph().vertices[*id].op.needs().iter().all(|n| state.results[*n].is_some())
            });
            if let Some(at) = ready {
                state.running += 1;
                return Some(state.waiting.remove(at));
            }
            if state.running == 0 {
                return None;
            }
            state = self.turn.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The layers of a tree, lowest first.
    fn layers(&self, tree: &Tree) -> Vec<LayerRef> {
        match tree {
            Tree::Vertex(id) => self.lock().results[*id].clone().unwrap_or_default(),
            _ => Vec::new(),
        }
    }

    /// The directories of layers, topmost first.
    fn dirs(&self, layers: &[LayerRef]) -> Vec<PathBuf> {
        tree::distinct(layers.iter().rev().map(|layer| layer.path(self.root)))
    }

    /// The definition key of a vertex, if all that it needs is what the keys stand for.
    fn definition(&self, id: Id) -> Option<Digest> {
        let state = self.lock();
        let strayed = self.graph().vertices[id].op.needs().iter().any(|need| state.strayed[*need]);
        self.definitions[id].clone().filter(|_| !strayed)
    }

    /// Makes a vertex, or finds it in the cache.
    fn vertex(&self, store: &Store, id: Id) -> Result<Outcome> {
        let vertex = &self.graph().vertices[id];
        let spare = store.new_layer()?;
        let resolved = match &vertex.op {
            Op::Git(git) => Some(self.resolve(git)?),
            _ => None,
        };
        let key = match &resolved {
            Some((_, canonical)) => Digest::of(format!("{KEYS} content\n{canonical}").as_bytes()),
            None => self.content_key(&vertex.op, &spare)?,
        };
        let definition = self.definition(id);
        let faithful = definition.is_some() || self.definitions[id].is_none();
        let asked = !vertex.no_cache && (cacheable(&vertex.op) || resolved.is_some());
        let mut turn = None;
        if asked {
            if let Some(layers) = self.cached(store, id, &key, definition.as_ref())? {
                return Ok(Outcome { layers, cached: true, faithful });
            }
            let told = || self.world.watch.event(Event::Output(id, Output::Stderr, WAITING));
            let (mine, waited) = turns::take(self.root, &key, &self.stop, &told)?;
            turn = Some(mine);
            if waited && let Some(layers) = self.cached(store, id, &key, definition.as_ref())? {
                return Ok(Outcome { layers, cached: true, faithful });
            }
        }
        let (layers, as_seen) = match &vertex.op {
            Op::Image(_) => return Err(Error::internal("an image that was not found before")),
            Op::File(file) => self.file(store, file, spare)?,
            Op::Exec(exec) => self.exec(store, id, exec, spare)?,
            Op::Http(http) => {
                let (layers, cached) = self.http(store, id, http, spare)?;
                if cached || !cacheable(&vertex.op) {
                    return Ok(Outcome { layers, cached, faithful });
                }
                (layers, true)
            }
            Op::Git(git) => match &resolved {
                Some((commit, _)) => (vec![self.git(store, git, commit, spare)?], true),
                None => return Err(Error::internal("a repository that was not asked")),
            },
        };
        if as_seen {
            let keys = std::iter::once(key).chain(definition);
            let records: Vec<_> = keys.map(|key| (key, layers.clone(), vertex.name.clone())).collect();
            store.cache_put(&records)?;
        }
        drop(turn);
        Ok(Outcome { layers, cached: false, faithful: faithful && as_seen })
    }

    /// What the content key of a vertex leads to, here or on other machines; it is found by its definition key then too.
    fn cached(
        &self,
        store: &Store,
        id: Id,
        key: &Digest,
        definition: Option<&Digest>,
    ) -> Result<Option<Vec<LayerRef>>> {
        let layers = match store.cache_find(self.lease, key)? {
            Some(layers) => {
                store.cache_touch(std::slice::from_ref(key))?;
                Some(layers)
            }
            None => self.world.imports.find(store, self.lease, key),
        };
        if let (Some(layers), Some(definition)) = (&layers, definition) {
            let note = self.graph().vertices[id].name.clone();
            store.cache_put(&[(definition.clone(), layers.clone(), note)])?;
        }
        Ok(layers)
    }

    fn content_key(&self, op: &Op, spare: &NewLayer) -> Result<Digest> {
        let mut text = format!("{KEYS} content\n{}\n", op.canonical());
        if let Some(base) = op.base() {
            text.push_str(&chain(&self.layers(base)));
        }
        for digest in context_digests(op, self.world, (&self.memos, &self.views))? {
            text.push_str(&format!("\n{digest}"));
        }
        let mut add = |tree: &Tree, action: &CopyAction| -> Result<()> {
            if !matches!(tree, Tree::Vertex(_)) {
                return Ok(());
            }
            let root = tree::open_layers(&self.dirs(&self.layers(tree)), &spare.mountpoint())?;
            let source = Source { root: &root, ignore: None, anonymous: false };
            let digest = select::digest(&source, &mut select::select(&source, action)?, None)?;
            text.push_str(&format!("\n{digest}"));
            Ok(())
        };
        match op {
            Op::File(file) => {
                for action in &file.actions {
                    if let Action::Copy(copy) = action {
                        add(&copy.source, copy)?;
                    }
                }
            }
            Op::Exec(exec) => {
                for mount in &exec.mounts {
                    if let MountSource::Bind { tree, path } = &mount.source {
                        add(tree, &whole(path))?;
                    }
                }
            }
            _ => {}
        }
        Ok(Digest::of(text.as_bytes()))
    }

    /// The layers of a tree; a context becomes a layer, and it is said whether it still was what had been seen of it.
    fn base_layers(&self, store: &Store, tree: &Tree) -> Result<(Vec<LayerRef>, bool)> {
        match tree {
            Tree::Context(_) => {
                let action = CopyAction { source: tree.clone(), ..whole("/") };
                let op = FileOp {
                    base: Tree::Scratch,
                    actions: vec![Action::Copy(action)],
                    link: false,
                    epoch: None,
                };
                self.file(store, &op, store.new_layer()?)
            }
            tree => Ok((self.layers(tree), true)),
        }
    }

    /// Makes the tree of a file operation. Whether what it took from contexts was what had been seen of them; where it was
    /// not, it is what was there when it was copied.
    fn file(&self, store: &Store, op: &FileOp, layer: NewLayer) -> Result<(Vec<LayerRef>, bool)> {
        let (base, as_seen) = self.base_layers(store, &op.base)?;
        let takes =
            |action: &Action| matches!(action, Action::Copy(c) if matches!(c.source, Tree::Context(_)));
        match self.filled(op, &base, &layer, store, &self.views) {
            Ok(true) => return Ok((self.above(store, op, base, layer)?, as_seen)),
            Err(e) if !op.actions.iter().any(takes) || self.stop.is_cancelled() => return Err(e),
            // A file has changed or vanished since it was looked at.
            Ok(false) | Err(_) => drop(layer),
        }
        let layer = store.new_layer()?;
        self.filled(op, &base, &layer, store, &Views::default())?;
        Ok((self.above(store, op, base, layer)?, false))
    }

    fn above(
        &self,
        store: &Store,
        op: &FileOp,
        mut base: Vec<LayerRef>,
        layer: NewLayer,
    ) -> Result<Vec<LayerRef>> {
        base.push(store.publish_layer(self.lease, layer, op.epoch)?);
        Ok(base)
    }

    /// Does what a file operation does in a layer above `base`; whether contexts still were what `views` has of them.
    fn filled(
        &self,
        op: &FileOp,
        base: &[LayerRef],
        layer: &NewLayer,
        store: &Store,
        views: &Views,
    ) -> Result<bool> {
        let below = if op.link { Vec::new() } else { self.dirs(base) };
        let (fs, work) = (layer.fs(), layer.work());
        let root = match below.len() {
            0 => tree::open_dir(&fs)?,
            _ => tree::overlay(&below, Some((&fs, &work)), &layer.mountpoint())?,
        };
        let mut as_seen = true;
        for action in &op.actions {
            if self.stop.is_cancelled() {
                return Err(Error::new(Kind::Unavailable, "the build was cancelled"));
            }
            match action {
                Action::Mkdir { path, owner } => {
                    let who = files::owner(&root, owner)?.unwrap_or(files::Owner(0, 0));
                    files::make_dirs(&root, path, who, op.epoch)?;
                }
                Action::Write(write) => files::write(&root, write, op.epoch)?,
                Action::Copy(copy) => as_seen &= self.copy(store, &root, copy, op.epoch, views)?,
            }
        }
        Ok(as_seen)
    }

    /// Copies into an open tree; whether it was what `views` has of it.
    fn copy(
        &self,
        store: &Store,
        root: &tree::Root,
        copy: &CopyAction,
        epoch: Option<i64>,
        views: &Views,
    ) -> Result<bool> {
        if let Tree::Context(name) = &copy.source {
            let context = context(self.world, name)?;
            let view = views.of(self.world, &self.memos, name, copy)?;
            let from = tree::open_dir(&context.path)?;
            let source = Source { root: &from, ignore: Some(&context.ignore), anonymous: true };
            return files::copy(&source, &view.selection, root, copy, epoch);
        }
        let spare = store.new_layer()?;
        let from = tree::open_layers(&self.dirs(&self.layers(&copy.source)), &spare.mountpoint())?;
        let source = Source { root: &from, ignore: None, anonymous: false };
        files::copy(&source, &select::select(&source, copy)?, root, copy, epoch)
    }
}
