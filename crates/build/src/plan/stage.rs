//! One stage after another: what each instruction does to the file tree, the environment and the configuration.

use std::collections::BTreeMap;

use fluyt_image::oci::{Empty, Healthcheck, History};
use fluyt_image::{ImageConfig, Platform};
use fluyt_model::reference::Reference;

use super::{BaseImage, Inputs, NamedContext, Options, Plan, args};
use crate::dockerfile::fault::{Fault, Result};
use crate::dockerfile::instruction::{ArgDef, CommandLine, Health, Pair};
use crate::dockerfile::lint::{Lint, Rule, is_secret_name};
use crate::dockerfile::parse::parse_trigger;
use crate::dockerfile::suggest::{nearest, with_nearest};
use crate::dockerfile::{Dockerfile, Env, Instruction, Lexer, Lines, Stage, Step, quoted};
use crate::graph::{Action, CopyAction, FileOp, Graph, Id, ImageOp, Op, Tree, Vertex};
use crate::ignore::clean;

/// The PATH of images that have none.
const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a stage is after its last instruction so far.
#[derive(Clone, Debug)]
pub(super) struct State {
    pub tree: Tree,
    pub config: ImageConfig,
    pub env: Env,
    pub platform: Platform,
    /// `ARG`s, in order.
    pub args: Vec<(String, Option<String>)>,
    pub workdir_set: bool,
}

/// Where the numbering of the steps of a stage is.
#[derive(Clone, Debug, Default)]
pub(super) struct Counter {
    pub name: String,
    pub index: usize,
    pub total: usize,
}

/// Who was seen where, for instructions of which only the last one counts.
#[derive(Default)]
struct Seen {
    cmd: Option<Lines>,
    entrypoint: Option<Lines>,
    healthcheck: Option<Lines>,
}

/// The base of a stage, expanded.
#[derive(Clone, Debug)]
enum Base {
    Scratch,
    Stage(usize),
    Image(String),
}

pub(super) struct Planner<'a> {
    pub file: &'a Dockerfile,
    pub options: &'a Options,
    pub inputs: Inputs<'a>,
    pub lint: &'a mut Lint,
    pub lexer: Lexer,
    pub global: Env,
    pub graph: Graph,
    pub epoch: Option<i64>,
    images: BTreeMap<Id, BaseImage>,
    by_reference: BTreeMap<(String, String), Id>,
    bases: Vec<Base>,
    platforms: Vec<Option<Platform>>,
    done: BTreeMap<usize, State>,
}

impl<'a> Planner<'a> {
    pub(super) fn new(
        file: &'a Dockerfile,
        options: &'a Options,
        inputs: Inputs<'a>,
        lint: &'a mut Lint,
    ) -> Result<Self> {
        let mut planner = Self {
            lexer: Lexer::new(file.escape),
            global: args::global(file, options, true)?,
            file,
            options,
            inputs,
            lint,
            graph: Graph::default(),
            epoch: None,
            images: BTreeMap::new(),
            by_reference: BTreeMap::new(),
            bases: Vec::new(),
            platforms: Vec::new(),
            done: BTreeMap::new(),
        };
        planner.epoch = planner.epoch_given()?;
        planner.stage_names();
        planner.default_bases();
        planner.find_bases()?;
        planner.check_sources()?;
        Ok(planner)
    }

    pub(super) fn run(mut self) -> Result<Plan> {
        let target = self.target()?;
        if self.options.all_stages {
            for index in 0..self.file.stages.len() {
                self.stage(index)?;
            }
        }
        let mut state = self.stage(target)?;
        for (name, value) in &self.options.labels {
            state.config.config.labels.insert(name.clone(), value.clone());
        }
        if let Some(fault) = self.lint.failure() {
            return Err(fault);
        }
        if let Tree::Context(name) = &state.tree {
            // What is exported are layers: a context becomes one.
            let copy = CopyAction { source: state.tree.clone(), ..crate::solve::whole("/") };
            let actions = vec![Action::Copy(copy)];
            let op = Op::File(FileOp { base: Tree::Scratch, actions, link: false, epoch: self.epoch });
            let name = format!("[context {name}] load from client");
            state.tree = Tree::Vertex(self.graph.push(Vertex { op, name, lines: None, no_cache: false }));
        }
        state.config.os.clone_from(&state.platform.os);
        state.config.architecture.clone_from(&state.platform.architecture);
        state.config.variant.clone_from(&state.platform.variant);
        Ok(Plan {
            graph: self.graph,
            images: self.images,
            result: state.tree,
            config: state.config,
            epoch: self.epoch,
            target: self.file.stages[target].name.clone(),
        })
    }

    fn epoch_given(&self) -> Result<Option<i64>> {
        let given = self.options.build_args.get("SOURCE_DATE_EPOCH").map(String::as_str);
        match given.or_else(|| self.global.get("SOURCE_DATE_EPOCH")).unwrap_or("") {
            "" => Ok(None),
            text => {
                let seconds =
                    text.parse().map_err(|_| Fault::new(format!("invalid SOURCE_DATE_EPOCH: {text}")))?;
                Ok(Some(seconds))
            }
        }
    }

    fn stage_names(&mut self) {
        let mut seen: Vec<&str> = Vec::new();
        for stage in self.file.stages.iter().filter(|stage| !stage.name.is_empty()) {
            let name = stage.name.as_str();
            if matches!(name, "context" | "scratch") {
                let message =
                    format!("Stage name should not use the same name as reserved stage {}", quoted(name));
                self.lint.tell(Rule::ReservedStageName, stage.lines, message);
            }
            if seen.contains(&name) {
                let message = format!("Duplicate stage name {}, stage names should be unique", quoted(name));
                self.lint.tell(Rule::DuplicateStageName, stage.lines, message);
            }
            seen.push(name);
        }
    }

    /// Bases must be names also when nobody gives arguments. What cannot be expanded is told of later.
    fn default_bases(&mut self) {
        let Ok(env) = args::global(self.file, self.options, false) else { return };
        for stage in &self.file.stages {
            let Ok(base) = self.lexer.expand(&stage.base, &env) else { return };
            if base.text.is_empty() || Reference::parse_untagged(&base.text).is_err() {
                let message = format!(
                    "Default value for ARG {} results in empty or invalid base image name",
                    stage.base
                );
                self.lint.tell(Rule::InvalidDefaultArgInFrom, stage.lines, message);
            }
        }
    }

    /// Arguments in a `FROM` that are not declared anywhere before it.
    fn undeclared<'n>(&mut self, names: impl IntoIterator<Item = &'n String>, lines: Lines) {
        let mut declared: Vec<&str> = self.global.names().collect();
        declared.extend(self.file.meta_args.iter().flat_map(|step| &step.args).map(|arg| arg.name.as_str()));
        for name in names {
            if declared.contains(&name.as_str()) {
                continue;
            }
            let near = nearest(name, declared.iter().copied(), true);
            let near = near.map(|n| format!(" (did you mean {n}?)")).unwrap_or_default();
            let message = format!("FROM argument '{name}' is not declared{near}");
            self.lint.tell(Rule::UndefinedArgInFrom, lines, message);
        }
    }

    fn find_bases(&mut self) -> Result<()> {
        let file = self.file;
        for (index, stage) in file.stages.iter().enumerate() {
            let at = |e: Fault| e.at(stage.lines);
            let base = self.lexer.expand(&stage.base, &self.global).map_err(at)?;
            let around = self.lint.focus(&stage.comments);
            self.undeclared(&base.unmatched, stage.lines);
            if base.text.is_empty() {
                return Err(at(Fault::new(format!("base name ({}) should not be blank", stage.base))));
            }
            let platform = self.platform_of(stage)?;
            self.lint.restore(around);
            self.platforms.push(platform);
            let earlier = file.stages[..index]
                .iter()
                .rposition(|s| !s.name.is_empty() && s.name == base.text.to_lowercase());
            self.bases.push(match earlier {
                Some(earlier) => Base::Stage(earlier),
                None if base.text == "scratch" => Base::Scratch,
                None => {
                    if !self.options.contexts.contains_key(&base.text) {
                        reference_of(&base.text).map_err(at)?;
                    }
                    Base::Image(base.text)
                }
            });
        }
        Ok(())
    }

    fn platform_of(&mut self, stage: &Stage) -> Result<Option<Platform>> {
        if stage.platform.is_empty() {
            return Ok(None);
        }
        let at = |e: Fault| e.at(stage.lines);
        let found = self.lexer.expand(&stage.platform, &self.global).map_err(at)?;
        self.undeclared(&found.unmatched, stage.lines);
        if found.matched.len() == 1
            && found.unmatched.is_empty()
            && found.matched.contains("TARGETPLATFORM")
            && self.global.get("TARGETPLATFORM") == Some(&found.text)
        {
            let message = format!(
                "Setting platform to predefined {} in FROM is redundant as this is the default behavior",
                stage.platform
            );
            self.lint.tell(Rule::RedundantTargetPlatform, stage.lines, message);
        }
        let near = found
            .unmatched
            .iter()
            .find_map(|name| nearest(name, self.global.names(), true))
            .unwrap_or_default();
        let near = if near.is_empty() { near } else { format!(" (did you mean {near}?)") };
        if found.text.is_empty() {
            let message = format!("empty platform value from expression {}{near}", stage.platform);
            return Err(at(Fault::new(message)));
        }
        let platform = Platform::parse(&found.text).map_err(|e| {
            let message = format!("failed to parse platform {}: {}{near}", stage.platform, e.chain());
            at(Fault::new(message))
        })?;
        if !found.text.contains('/') && !is_known(&platform) {
            let message = format!(
                "failed to parse platform {}: {}: unknown operating system or architecture{near}",
                stage.platform,
                quoted(&found.text)
            );
            return Err(at(Fault::new(message)));
        }
        let named = stage.name.contains(&platform.os) || stage.name.contains(&platform.architecture);
        if found.matched.is_empty() && found.unmatched.is_empty() && !named {
            let message =
                format!("FROM --platform flag should not use constant value {}", quoted(&found.text));
            self.lint.tell(Rule::FromPlatformFlagConstDisallowed, stage.lines, message);
        }
        Ok(Some(platform))
    }

    /// What every `COPY --from` names must be possible, also in stages that are not built.
    fn check_sources(&self) -> Result<()> {
        for stage in &self.file.stages {
            for step in &stage.steps {
                let Instruction::Copy(copy) = &step.instruction else { continue };
                if copy.from.is_empty() {
                    continue;
                }
                let plain =
                    self.lexer.expand(&copy.from, &Env::default()).map_err(|e| e.at(step.lines))?.text;
                if plain != copy.from {
                    return Err(Fault::new(
                        "variable expansion is not supported for --from, define a new stage with FROM using ARG from global scope as a workaround",
                    )
                    .at(step.lines));
                }
                if let Ok(number) = copy.from.parse::<i64>()
                    && usize::try_from(number).map_or(true, |n| n >= self.file.stages.len())
                {
                    return Err(Fault::new(format!("invalid stage index {number}")).at(step.lines));
                }
            }
        }
        self.check_circles()
    }

    pub(super) fn stage_label(&self, index: usize) -> String {
        match self.file.stages[index].name.as_str() {
            "" => format!("stage-{index}"),
            name => name.to_owned(),
        }
    }

    /// The stage of a name or a number; of two with one name the later one.
    pub(super) fn stage_named(&self, name: &str) -> Option<usize> {
        if let Ok(number) = name.parse::<usize>() {
            return (number < self.file.stages.len()).then_some(number);
        }
        let lower = name.to_lowercase();
        self.file.stages.iter().rposition(|stage| !stage.name.is_empty() && stage.name == lower)
    }

    fn target(&self) -> Result<usize> {
        let wanted = self.options.target.as_str();
        if wanted.is_empty() {
            return Ok(self.file.stages.len() - 1);
        }
        self.stage_named(wanted).ok_or_else(|| {
            let names: Vec<String> = (0..self.file.stages.len()).map(|i| self.stage_label(i)).collect();
            let message = format!("target stage {} could not be found", quoted(wanted));
            Fault::new(with_nearest(message, wanted, names.iter().map(String::as_str), true))
        })
    }

    /// Plans a stage, and before it those that it needs.
    pub(super) fn stage(&mut self, index: usize) -> Result<State> {
        if let Some(state) = self.done.get(&index) {
            return Ok(state.clone());
        }
        let file = self.file;
        let stage = &file.stages[index];
        let mut counter = Counter {
            name: if file.stages.len() == 1 { String::new() } else { self.stage_label(index) },
            ..Counter::default()
        };
        let (mut state, triggers) = self.base_state(index, &mut counter).map_err(|e| e.at(stage.lines))?;
        let mut steps = Vec::new();
        for text in triggers {
            let step = parse_trigger(&text).map_err(|e| Fault { lines: None, ..e }.at(stage.lines))?;
            steps.push((Step { lines: stage.lines, ..step }, true));
        }
        // A context of the stage's name stands for all of it.
        if stage.name.is_empty() || !self.options.contexts.contains_key(&stage.name) {
            steps.extend(stage.steps.iter().map(|step| (step.clone(), false)));
        }
        let counted = |step: &Step| {
            matches!(step.instruction, Instruction::Copy(_) | Instruction::Run(_) | Instruction::Workdir(_))
        };
        counter.total += steps.iter().filter(|(step, _)| counted(step)).count();
        self.name_base(&state, &counter);
        let mut seen = Seen::default();
        let no_cache = self.options.no_cache
            || self.options.no_cache_stages.iter().any(|name| self.stage_named(name) == Some(index));
        for (step, is_trigger) in &steps {
            let mark = if *is_trigger { "ONBUILD " } else { "" };
            let around = self.lint.focus(&step.comments);
            self.step(index, &mut state, step, mark, &mut counter, &mut seen, no_cache)
                .map_err(|e| e.at(step.lines))?;
            self.lint.restore(around);
        }
        self.done.insert(index, state.clone());
        Ok(state)
    }

    /// The vertex of a base image gets its number now that the number of steps is known.
    fn name_base(&mut self, state: &State, counter: &Counter) {
        if let Tree::Vertex(id) = state.tree
            && counter.index == 1
            && let Op::Image(image) = &self.graph.vertices[id].op
        {
            let name = from_text(image);
            let named = self.step_name(state, &mut Counter { index: 0, ..counter.clone() }, &name);
            if self.graph.vertices[id].name.is_empty() {
                self.graph.vertices[id].name = named;
            }
        }
    }

    fn base_state(&mut self, index: usize, counter: &mut Counter) -> Result<(State, Vec<String>)> {
        let stage = &self.file.stages[index];
        let lines = stage.lines;
        let platform = self.platforms[index].clone().unwrap_or_else(|| self.options.platform.clone());
        if let Some(context) = self.options.contexts.get(&stage.name).filter(|_| !stage.name.is_empty()) {
            return self.named_context(&stage.name, context.clone(), platform, lines);
        }
        match self.bases[index].clone() {
            // Nothing is for every platform: it becomes what the image is for.
            Base::Scratch => Ok((empty_state(Tree::Scratch, self.options.platform.clone()), Vec::new())),
            Base::Stage(earlier) => {
                let mut state = self.stage(earlier)?;
                let triggers = std::mem::take(&mut state.config.config.on_build);
                Ok((state, triggers))
            }
            Base::Image(name) => {
                let short = Reference::parse_untagged(&name).map(|r| r.or_latest().familiar());
                let context = [Some(name.as_str()), short.as_deref().ok()];
                let found =
                    context.into_iter().flatten().find_map(|n| self.options.contexts.get(n).map(|c| (n, c)));
                if let Some((name, context)) = found {
                    return self.named_context(name, context.clone(), platform, lines);
                }
                counter.index = 1;
                counter.total = 1;
                self.image_state(&name, platform, lines)
            }
        }
    }

    fn named_context(
        &mut self,
        name: &str,
        context: NamedContext,
        platform: Platform,
        lines: Lines,
    ) -> Result<(State, Vec<String>)> {
        match context {
            NamedContext::Directory => {
                Ok((empty_state(Tree::Context(name.to_owned()), platform), Vec::new()))
            }
            NamedContext::Image(image) => self.image_state(&image, platform, lines),
            NamedContext::Stage(stage) => match self.stage_named(&stage) {
                Some(index) => Ok((self.stage(index)?, Vec::new())),
                None => Err(Fault::new(format!("target stage {} could not be found", quoted(&stage)))),
            },
        }
    }

    fn image_state(&mut self, name: &str, wanted: Platform, lines: Lines) -> Result<(State, Vec<String>)> {
        let id = self.image(name, &wanted)?;
        let base = &self.images[&id];
        let mut config = base.config.clone();
        config.created = None;
        let triggers = std::mem::take(&mut config.config.on_build);
        if !config.config.env.iter().any(|line| line.starts_with("PATH=")) {
            config.config.env.push(DEFAULT_PATH.to_owned());
        }
        let env = Env::from_lines(config.config.env.iter().map(String::as_str));
        let own = config.platform();
        let tree = if base.layers.is_empty() { Tree::Scratch } else { Tree::Vertex(id) };
        if tree != Tree::Scratch && (own.os != wanted.os || own.architecture != wanted.architecture) {
            let message = format!(
                "Base image {name} was pulled with platform {}, expected {} for current build",
                quoted(&own.to_string()),
                quoted(&wanted.to_string())
            );
            self.lint.tell(Rule::InvalidBaseImagePlatform, lines, message);
        }
        let platform = if own.os.is_empty() || own.architecture.is_empty() { wanted } else { own };
        let state = State { tree, config, env, platform, args: Vec::new(), workdir_set: false };
        Ok((state, triggers))
    }

    /// The vertex of an image; one for each name and platform.
    pub(super) fn image(&mut self, name: &str, platform: &Platform) -> Result<Id> {
        let reference = reference_of(name)?;
        let key = (reference.to_string(), platform.to_string());
        if let Some(id) = self.by_reference.get(&key) {
            return Ok(*id);
        }
        let base = (self.inputs.base)(&reference.familiar(), platform).map_err(|e| {
            let names: Vec<&str> =
                self.file.stages.iter().map(|s| s.name.as_str()).filter(|n| !n.is_empty()).collect();
            let near = nearest(name, names.iter().copied(), true);
            let fault = Fault::from(e).prefixed(&format!("{name}: "));
            match near {
                Some(near) => Fault {
                    error: fault.error.with_hint(format!("did you mean the stage {near}?")),
                    lines: fault.lines,
                },
                None => fault,
            }
        })?;
        let op = Op::Image(ImageOp {
            reference: base.reference.clone(),
            manifest: base.manifest.clone(),
            platform: platform.to_string(),
        });
        let id = self.graph.push(Vertex { op, name: String::new(), lines: None, no_cache: false });
        self.images.insert(id, base);
        self.by_reference.insert(key, id);
        Ok(id)
    }

    /// `[stage 2/5] RUN make`: counts on.
    pub(super) fn step_name(&self, state: &State, counter: &mut Counter, text: &str) -> String {
        counter.index += 1;
        let platform =
            if self.options.several_platforms { format!("{} ", state.platform) } else { String::new() };
        let stage = if counter.name.is_empty() { String::new() } else { format!("{} ", counter.name) };
        let width = counter.total.to_string().len();
        format!("[{platform}{stage}{:>width$}/{}] {text}", counter.index, counter.total)
    }

    /// A command as people see it in the name of a step: variables replaced as far as that goes, quotes kept.
    pub(super) fn shown_command(&self, text: &str, env: &Env) -> String {
        let lexer = Lexer { raw_quotes: true, keep_unset: true, ..self.lexer };
        lexer.expand(text, env).map_or_else(|_| text.to_owned(), |e| e.text)
    }

    /// Other instructions as people see them in the name of a step: as they are understood.
    pub(super) fn shown(&self, text: &str, env: &Env) -> String {
        self.lexer.expand(text, env).map_or_else(|_| text.to_owned(), |e| e.text)
    }

    /// Expands a word with the state's variables; those that do not exist are told of.
    pub(super) fn expand(&mut self, state: &State, lines: Lines, word: &str) -> Result<String> {
        self.expand_with(self.lexer, state, lines, word)
    }

    pub(super) fn expand_with(
        &mut self,
        lexer: Lexer,
        state: &State,
        lines: Lines,
        word: &str,
    ) -> Result<String> {
        let found = lexer.expand(word, &state.env)?;
        for name in &found.unmatched {
            if state.args.iter().any(|(arg, _)| arg == name) {
                continue;
            }
            let near = nearest(name, state.env.names(), true);
            let near = near.map(|n| format!(" (did you mean ${n}?)")).unwrap_or_default();
            self.lint.tell(Rule::UndefinedVar, lines, format!("Usage of undefined variable '${name}'{near}"));
        }
        Ok(found.text)
    }

    #[allow(clippy::too_many_arguments)]
    fn step(
        &mut self,
        index: usize,
        state: &mut State,
        step: &Step,
        mark: &str,
        counter: &mut Counter,
        seen: &mut Seen,
        no_cache: bool,
    ) -> Result<()> {
        let lines = step.lines;
        match &step.instruction {
            Instruction::Run(run) => {
                let vertex = self.run_step(state, step, run, mark, counter, index)?;
                state.tree = Tree::Vertex(self.graph.push(Vertex { no_cache, ..vertex }));
            }
            Instruction::Copy(copy) => {
                let before = self.graph.vertices.len();
                let vertex = self.copy_step(state, step, copy, mark, counter, index)?;
                // What it fetches is part of it.
                for fetched in &mut self.graph.vertices[before..] {
                    fetched.no_cache |= no_cache && matches!(fetched.op, Op::Http(_) | Op::Git(_));
                }
                state.tree = Tree::Vertex(self.graph.push(Vertex { no_cache, ..vertex }));
            }
            Instruction::Workdir(path) => self.workdir(state, step, path, mark, counter)?,
            Instruction::Env(pairs) => self.env(state, pairs, step)?,
            Instruction::Label(pairs) => self.label(state, pairs, step)?,
            Instruction::Arg(defs) => self.arg(state, defs, lines)?,
            Instruction::Cmd(command) => {
                self.only_once(&step.keyword, seen.cmd.replace(lines));
                let words = self.command(state, command, &step.keyword, lines);
                state.config.config.args_escaped = true;
                history(state, format!("CMD {}", go_list(&words)), true, self.epoch);
                state.config.config.cmd = Some(words);
            }
            Instruction::Entrypoint(command) => {
                self.only_once(&step.keyword, seen.entrypoint.replace(lines));
                let words = self.command(state, command, &step.keyword, lines);
                history(state, format!("ENTRYPOINT {}", go_list(&words)), true, self.epoch);
                state.config.config.entrypoint = if words.is_empty() { None } else { Some(words) };
                if seen.cmd.is_none() {
                    state.config.config.cmd = None;
                }
            }
            Instruction::Healthcheck(health) => {
                self.only_once(&step.keyword, seen.healthcheck.replace(lines));
                history(state, health_text(health), true, self.epoch);
                state.config.config.healthcheck = Some(Healthcheck {
                    test: health.test.clone(),
                    interval: health.interval,
                    timeout: health.timeout,
                    start_period: health.start_period,
                    start_interval: health.start_interval,
                    retries: health.retries,
                });
            }
            Instruction::Expose(words) => {
                let mut ports = Vec::new();
                for word in words {
                    for port in self.lexer.expand(word, &state.env)?.words {
                        ports.extend(super::expose::ports(&port, lines, self.lint)?);
                    }
                }
                history(state, format!("EXPOSE [{}]", ports.join(" ")), true, self.epoch);
                state.config.config.exposed_ports.extend(ports.into_iter().map(|port| (port, Empty {})));
            }
            Instruction::Maintainer(text) => {
                history(state, format!("MAINTAINER {text}"), true, self.epoch);
                state.config.author.clone_from(text);
            }
            Instruction::Onbuild(text) => {
                state.config.config.on_build.push(text.clone());
            }
            Instruction::Shell(words) => {
                history(state, format!("SHELL [{}]", words.join(" ")), true, self.epoch);
                state.config.config.shell.clone_from(words);
            }
            Instruction::StopSignal(text) => {
                let text = self.expand(state, lines, text)?;
                if fluyt_sys::signal::number(&text).is_none() {
                    return Err(Fault::new(format!("invalid signal: {text}")));
                }
                history(state, format!("STOPSIGNAL {text}"), true, self.epoch);
                state.config.config.stop_signal = text;
            }
            Instruction::User(text) => {
                let text = self.expand(state, lines, text)?;
                history(state, format!("USER {text}"), true, self.epoch);
                state.config.config.user = text;
            }
            Instruction::Volume(words) => {
                let mut paths = Vec::new();
                for word in words {
                    let path = self.expand(state, lines, word)?;
                    if path.is_empty() {
                        return Err(Fault::new("VOLUME specified can not be an empty string"));
                    }
                    paths.push(path);
                }
                history(state, format!("VOLUME [{}]", paths.join(" ")), true, self.epoch);
                state.config.config.volumes.extend(paths.into_iter().map(|path| (path, Empty {})));
            }
        }
        Ok(())
    }

    fn only_once(&mut self, keyword: &str, before: Option<Lines>) {
        if let Some(lines) = before {
            let message = format!(
                "Multiple {keyword} instructions should not be used in the same stage because only the last one will be used"
            );
            self.lint.tell(Rule::MultipleInstructionsDisallowed, lines, message);
        }
    }

    fn command(&mut self, state: &State, command: &CommandLine, keyword: &str, lines: Lines) -> Vec<String> {
        if !command.shell {
            return command.words.clone();
        }
        if state.config.config.shell.is_empty() {
            let message = format!(
                "JSON arguments recommended for {keyword} to prevent unintended behavior related to OS signals"
            );
            self.lint.tell(Rule::JSONArgsRecommended, lines, message);
        }
        with_shell(&state.config, &command.words)
    }

    fn workdir(
        &mut self,
        state: &mut State,
        step: &Step,
        path: &str,
        mark: &str,
        counter: &mut Counter,
    ) -> Result<()> {
        let path = self.expand(state, step.lines, path)?;
        if !state.workdir_set && !path.starts_with('/') {
            let message = format!(
                "Relative workdir {} can have unexpected results if the base image changes",
                quoted(&path)
            );
            self.lint.tell(Rule::WorkdirRelativePath, step.lines, message);
        }
        state.workdir_set = true;
        // An absolute path stays as it is written.
        let path =
            if path.starts_with('/') { path } else { absolute(&state.config.config.working_dir, &path) };
        state.config.config.working_dir.clone_from(&path);
        if path != "/" {
            let shown = self.shown(&step.source, &state.env);
            let name = self.step_name(state, counter, &format!("{mark}{}", upper_keyword(&shown)));
            let owner = state.config.config.user.clone();
            let actions = vec![Action::Mkdir { path: clean(&path), owner }];
            let op = Op::File(FileOp { base: state.tree.clone(), actions, link: false, epoch: self.epoch });
            let vertex = Vertex { op, name, lines: Some(step.lines), no_cache: false };
            state.tree = Tree::Vertex(self.graph.push(vertex));
        }
        history(state, format!("WORKDIR {path}"), path == "/", self.epoch);
        Ok(())
    }

    fn env(&mut self, state: &mut State, pairs: &[Pair], step: &Step) -> Result<()> {
        let lines = step.lines;
        let mut said = "ENV".to_owned();
        let mut set = Vec::new();
        for pair in pairs {
            self.legacy(&step.keyword, pair, lines);
            let (name, value) =
                (self.expand(state, lines, &pair.name)?, self.expand(state, lines, &pair.value)?);
            self.no_secret("ENV", &name, lines);
            said.push_str(&format!(" {name}={value}"));
            set.push((name, value));
        }
        for (name, value) in set {
            state.env.set(&name, &value);
            let line = format!("{name}={value}");
            let env = &mut state.config.config.env;
            match env.iter_mut().find(|old| old.split('=').next() == Some(&name)) {
                Some(old) => *old = line,
                None => env.push(line),
            }
        }
        history(state, said, true, self.epoch);
        Ok(())
    }

    fn label(&mut self, state: &mut State, pairs: &[Pair], step: &Step) -> Result<()> {
        let lines = step.lines;
        let mut said = "LABEL".to_owned();
        for pair in pairs {
            self.legacy(&step.keyword, pair, lines);
            let (name, value) =
                (self.expand(state, lines, &pair.name)?, self.expand(state, lines, &pair.value)?);
            said.push_str(&format!(" {name}={value}"));
            state.config.config.labels.insert(name, value);
        }
        history(state, said, true, self.epoch);
        Ok(())
    }

    fn legacy(&mut self, keyword: &str, pair: &Pair, lines: Lines) {
        if pair.legacy {
            let message = format!(
                "\"{keyword} key=value\" should be used instead of legacy \"{keyword} key value\" format"
            );
            self.lint.tell(Rule::LegacyKeyValueFormat, lines, message);
        }
    }

    fn no_secret(&mut self, keyword: &str, name: &str, lines: Lines) {
        if is_secret_name(name) {
            let message =
                format!("Do not use ARG or ENV instructions for sensitive data ({keyword} {})", quoted(name));
            self.lint.tell(Rule::SecretsUsedInArgOrEnv, lines, message);
        }
    }

    fn arg(&mut self, state: &mut State, defs: &[ArgDef], lines: Lines) -> Result<()> {
        let mut said = "ARG".to_owned();
        for def in defs {
            self.no_secret("ARG", &def.name, lines);
            let name = def.name.clone();
            let value = match (self.options.build_args.get(&name), &def.value) {
                (Some(given), _) => Some(given.clone()),
                (None, Some(text)) => Some(self.expand(state, lines, text)?),
                (None, None) => self.global.get(&name).map(str::to_owned),
            };
            if let Some(value) = &value {
                if !matches!(name.as_str(), "BUILDKIT_SBOM_SCAN_CONTEXT" | "BUILDKIT_SBOM_SCAN_STAGE") {
                    state.env.set(&name, value);
                }
                said.push_str(&format!(" {name}={value}"));
            } else {
                said.push_str(&format!(" {name}"));
            }
            state.args.push((name, value));
        }
        history(state, said, true, self.epoch);
        Ok(())
    }
}

/// The reference that the base of a stage is.
fn reference_of(name: &str) -> Result<Reference> {
    let found = Reference::parse_untagged(name).map_err(|e| {
        let text = e.chain();
        let why = text.split_once("\": ").map_or(text.as_str(), |(_, why)| why);
        Fault::new(format!("failed to parse stage name {}: {why}", quoted(name)))
    })?;
    Ok(found.or_latest())
}

/// Names of one part that are a system or an architecture.
fn is_known(platform: &Platform) -> bool {
    const SYSTEMS: [&str; 14] = [
        "aix",
        "android",
        "darwin",
        "dragonfly",
        "freebsd",
        "illumos",
        "ios",
        "js",
        "linux",
        "netbsd",
        "openbsd",
        "plan9",
        "solaris",
        "windows",
    ];
    const ARCHITECTURES: [&str; 22] = [
        "386",
        "amd64",
        "amd64p32",
        "arm",
        "armbe",
        "arm64",
        "arm64be",
        "loong64",
        "mips",
        "mipsle",
        "mips64",
        "mips64le",
        "mips64p32",
        "mips64p32le",
        "ppc",
        "ppc64",
        "ppc64le",
        "riscv",
        "riscv64",
        "s390",
        "s390x",
        "wasm",
    ];
    SYSTEMS.contains(&platform.os.as_str()) && ARCHITECTURES.contains(&platform.architecture.as_str())
}

/// What the step of a base image is called.
pub(super) fn from_text(image: &ImageOp) -> String {
    let name = image.reference.split('@').next().unwrap_or_default();
    format!("FROM {name}@{}", image.manifest)
}

fn empty_state(tree: Tree, platform: Platform) -> State {
    let mut config = ImageConfig::default();
    config.config.env.push(DEFAULT_PATH.to_owned());
    config.config.working_dir = "/".to_owned();
    config.rootfs.kind = "layers".to_owned();
    State {
        tree,
        env: Env::from_lines([DEFAULT_PATH]),
        config,
        platform,
        args: Vec::new(),
        workdir_set: false,
    }
}

/// Adds a line of history; `empty`: it made no layer.
pub(super) fn history(state: &mut State, text: String, empty: bool, epoch: Option<i64>) {
    state.config.history.push(History {
        created: epoch.map(rfc3339),
        created_by: text,
        comment: "buildkit.dockerfile.v0".to_owned(),
        empty_layer: empty,
        ..History::default()
    });
}

/// A command in shell form as what is executed.
pub(super) fn with_shell(config: &ImageConfig, words: &[String]) -> Vec<String> {
    let default = || vec!["/bin/sh".to_owned(), "-c".to_owned()];
    let mut all = if config.config.shell.is_empty() { default() } else { config.config.shell.clone() };
    all.push(words.join(" "));
    all
}

/// A path in a working directory, clean.
pub(super) fn absolute(dir: &str, path: &str) -> String {
    let all = if path.starts_with('/') { path.to_owned() } else { format!("/{dir}/{path}") };
    match clean(&all) {
        path if path.is_empty() => "/".to_owned(),
        path => path,
    }
}

/// The first word in upper case.
pub(super) fn upper_keyword(text: &str) -> String {
    let (keyword, rest) = text.split_at(text.find(char::is_whitespace).unwrap_or(text.len()));
    format!("{}{rest}", keyword.to_uppercase())
}

fn go_list(words: &[String]) -> String {
    format!("[{}]", words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" "))
}

fn health_text(health: &Health) -> String {
    format!(
        "HEALTHCHECK {{Test:[{}] Interval:{} Timeout:{} StartPeriod:{} StartInterval:{} Retries:{}}}",
        health.test.join(" "),
        go_duration(health.interval),
        go_duration(health.timeout),
        go_duration(health.start_period),
        go_duration(health.start_interval),
        health.retries
    )
}

/// A time span as `1h2m3.5s`.
fn go_duration(nanos: i64) -> String {
    let (seconds, rest) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
    if seconds == 0 && rest != 0 {
        // A health check knows nothing shorter than a millisecond.
        return format!("{}ms", fraction(rest / 1_000_000, rest % 1_000_000, 6));
    }
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    let mut text = String::new();
    if hours > 0 {
        text.push_str(&format!("{hours}h"));
    }
    if hours > 0 || minutes > 0 {
        text.push_str(&format!("{minutes}m"));
    }
    text.push_str(&format!("{}s", fraction(seconds % 60, rest, 9)));
    text
}

fn fraction(whole: i64, rest: i64, digits: usize) -> String {
    let rest = format!("{rest:0digits$}");
    match rest.trim_end_matches('0') {
        "" => whole.to_string(),
        rest => format!("{whole}.{rest}"),
    }
}

/// Seconds since the epoch as RFC 3339.
pub(crate) fn rfc3339(seconds: i64) -> String {
    fluyt_model::time::rfc3339(seconds.saturating_mul(1_000_000_000))
}
