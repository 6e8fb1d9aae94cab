//! From lines to instructions: each instruction's own grammar, with the messages that users of BuildKit know.

use fluyt_model::quantity;

use super::fault::{Fault, Result};
use super::instruction::{
    ArgDef, ArgStep, CommandLine, Copy, Device, Dockerfile, Health, Instruction, Pair, Run, Stage, Step,
};
use super::lines::{self, Heredoc, Json, Line};
use super::lint::{self, Lint, Rule};
use super::mount;
use super::suggest::with_nearest;

/// Every keyword.
pub const KEYWORDS: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// What one line says.
enum Said {
    From(Stage),
    Step(Step),
}

/// Parses the text of a Dockerfile; `lint` hears of what could be better.
///
/// # Errors
/// The first mistake, with its lines.
pub fn parse(text: &str, lint: &mut Lint) -> Result<Dockerfile> {
    if text.is_empty() {
        return Err(Fault::new("the Dockerfile cannot be empty"));
    }
    let file = lines::split(text)?;
    let mut parsed = Dockerfile {
        escape: file.escape,
        check: file.check.clone(),
        syntax: file.syntax.clone(),
        ..Dockerfile::default()
    };
    if let Some(check) = &file.check {
        // What follows a blank is a remark.
        lint.directive(check.split(' ').next().unwrap_or_default())?;
    }
    for line in &file.empty_continuations {
        lint.tell(Rule::NoEmptyContinuation, lines_of(*line), "Empty continuation line".to_owned());
    }
    for line in &file.lines {
        let around = lint.focus(&line.comments);
        let said = instruction(line, file.escape, lint).map_err(|e| {
            e.prefixed(&format!("dockerfile parse error on line {}: ", line.lines.first)).at(line.lines)
        })?;
        lint.restore(around);
        match said {
            Said::From(stage) => parsed.stages.push(stage),
            Said::Step(step) => match (parsed.stages.last_mut(), step.instruction) {
                (None, Instruction::Arg(args)) => parsed.meta_args.push(ArgStep { args, lines: step.lines }),
                (None, _) => return Err(Fault::new("no build stage in current context").at(step.lines)),
                (Some(stage), instruction) => stage.steps.push(Step { instruction, ..step }),
            },
        }
    }
    if parsed.stages.is_empty() {
        return Err(Fault::new("dockerfile contains no stages to build"));
    }
    lint::casing(&file.lines, lint);
    Ok(parsed)
}

/// What is wrong with the form of an instruction's words, whatever they mean. A whole file is looked through for this
/// before any instruction is understood.
///
/// # Errors
/// A list with something else than strings in it, a pair without a value.
pub(super) fn syntax(line: &Line, escape: char) -> Result<()> {
    match line.keyword.to_ascii_lowercase().as_str() {
        "env" => pairs("ENV", &line.rest, escape).map(drop),
        "label" => pairs("LABEL", &line.rest, escape).map(drop),
        "add" | "copy" | "volume" | "cmd" | "entrypoint" | "run" | "shell" => list(&line.rest).map(drop),
        "healthcheck" => list(healthcheck_words(&line.rest).1).map(drop),
        "onbuild" => {
            let inner = lines::words(&line.rest, escape);
            // One step down is enough: an ONBUILD of an ONBUILD is refused.
            if inner.keyword.eq_ignore_ascii_case("onbuild") { Ok(()) } else { syntax(&inner, escape) }
        }
        _ => Ok(()),
    }
}

fn lines_of(line: u32) -> super::fault::Lines {
    super::fault::Lines { first: line, last: line }
}

/// Parses the one instruction that an `ONBUILD` of a base image holds.
///
/// # Errors
/// It is not one instruction, or a wrong one.
pub fn parse_trigger(text: &str) -> Result<Step> {
    let file = lines::split(text)?;
    let [line] = &file.lines[..] else {
        return Err(Fault::new("onbuild trigger should be a single expression"));
    };
    match instruction(line, file.escape, &mut Lint::silent())? {
        Said::Step(step) => Ok(step),
        Said::From(_) => Err(Fault::new("FROM isn't allowed as an ONBUILD trigger")),
    }
}

fn instruction(line: &Line, escape: char, lint: &mut Lint) -> Result<Said> {
    let keyword = line.keyword.to_ascii_uppercase();
    if keyword == "FROM" {
        return from(line, lint).map(Said::From);
    }
    let no_flags = || Flags::read(&line.flags, &[]).map(drop);
    let instruction = match keyword.as_str() {
        "ADD" => Instruction::Copy(copy(line, true)?),
        "COPY" => Instruction::Copy(copy(line, false)?),
        "ARG" => Instruction::Arg(args(line, escape, lint)?),
        "CMD" => Instruction::Cmd(no_flags().and_then(|()| command(line, &line.rest))?),
        "ENTRYPOINT" => Instruction::Entrypoint(no_flags().and_then(|()| command(line, &line.rest))?),
        "ENV" => Instruction::Env(no_flags().and_then(|()| named_pairs("ENV", &line.rest, escape))?),
        "LABEL" => Instruction::Label(no_flags().and_then(|()| named_pairs("LABEL", &line.rest, escape))?),
        "EXPOSE" => {
            let mut ports = at_least_one("EXPOSE", lines::at_blanks(&line.rest))?;
            no_flags()?;
            ports.sort();
            Instruction::Expose(ports)
        }
        "HEALTHCHECK" => Instruction::Healthcheck(healthcheck(line)?),
        "MAINTAINER" => {
            let message = "Maintainer instruction is deprecated in favor of using label";
            lint.tell(Rule::MaintainerDeprecated, line.lines, message.to_owned());
            let text = exactly_one("MAINTAINER", &line.rest)?;
            no_flags()?;
            Instruction::Maintainer(text)
        }
        "ONBUILD" => Instruction::Onbuild(onbuild(line, escape)?),
        "RUN" => Instruction::Run(run(line)?),
        "SHELL" => {
            no_flags()?;
            match list(&line.rest)? {
                Some(words) if words.is_empty() => return Err(needs_one("SHELL")),
                Some(words) => Instruction::Shell(words),
                None if line.rest.is_empty() => return Err(needs_one("SHELL")),
                None => return Err(Fault::new("SHELL requires the arguments to be in JSON form")),
            }
        }
        "STOPSIGNAL" => Instruction::StopSignal(exactly_one("STOPSIGNAL", &line.rest)?),
        "USER" => {
            let user = exactly_one("USER", &line.rest)?;
            no_flags()?;
            Instruction::User(user)
        }
        "VOLUME" => {
            let paths = list(&line.rest)?.unwrap_or_else(|| lines::at_blanks(&line.rest));
            let paths = at_least_one("VOLUME", paths)?;
            no_flags()?;
            if paths.iter().any(|path| path.trim().is_empty()) {
                return Err(Fault::new("VOLUME specified can not be an empty string"));
            }
            Instruction::Volume(paths.iter().map(|path| path.trim().to_owned()).collect())
        }
        "WORKDIR" => {
            let path = exactly_one("WORKDIR", &line.rest)?;
            no_flags()?;
            Instruction::Workdir(path)
        }
        _ => {
            let message = format!("unknown instruction: {}", line.keyword);
            return Err(Fault::new(with_nearest(message, &line.keyword, KEYWORDS, false)));
        }
    };
    Ok(Said::Step(Step {
        instruction,
        keyword: line.keyword.clone(),
        source: line.original.trim().to_owned(),
        lines: line.lines,
        comments: line.comments.clone(),
    }))
}

fn from(line: &Line, lint: &mut Lint) -> Result<Stage> {
    let words = lines::at_blanks(&line.rest);
    if let [_, word, name] = &words[..] {
        if *name != name.to_lowercase() {
            let message = format!("Stage name '{name}' should be lowercase");
            lint.tell(Rule::StageNameCasing, line.lines, message);
        }
        let lower = line.keyword == line.keyword.to_lowercase();
        let upper = line.keyword == line.keyword.to_uppercase();
        let same = if lower { *word == word.to_lowercase() } else { *word == word.to_uppercase() };
        if (lower || upper) && !same {
            let message = format!("'{word}' and '{}' keywords' casing do not match", line.keyword);
            lint.tell(Rule::FromAsCasing, line.lines, message);
        }
    }
    let name = match &words[..] {
        [_] => String::new(),
        [_, word, name] if word.eq_ignore_ascii_case("as") => {
            let lower = name.to_lowercase();
            if !is_stage_name(&lower) {
                return Err(Fault::new(format!(
                    "invalid name for build stage: {}, name can't start with a number or contain symbols",
                    super::quoted(name)
                )));
            }
            lower
        }
        _ => return Err(Fault::new("FROM requires either one or three arguments")),
    };
    let flags = Flags::read(&line.flags, &[("platform", Takes::Text)])?;
    if !name.is_empty() {
        lint::description(lint, "FROM", &[&name], &line.comments, line.lines);
    }
    Ok(Stage {
        base: words[0].clone(),
        platform: flags.text("platform"),
        source: line.original.trim().to_owned(),
        lines: line.lines,
        steps: Vec::new(),
        comments: line.comments.clone(),
        description: description_of(&line.comments, &name),
        name,
    })
}

fn is_stage_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.'))
}

fn description_of(comments: &[String], name: &str) -> String {
    let found = comments.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    found.filter(|_| !name.is_empty()).unwrap_or("").to_owned()
}

fn args(line: &Line, escape: char, lint: &mut Lint) -> Result<Vec<ArgDef>> {
    let words = at_least_one("ARG", lines::quoted_words(&line.rest, escape))?;
    let mut found = Vec::with_capacity(words.len());
    for word in &words {
        let (name, value) = match word.split_once('=') {
            Some(("", _)) => return Err(Fault::new("ARG names can not be blank")),
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (word.as_str(), None),
        };
        let description = description_of(&line.comments, name);
        found.push(ArgDef { name: name.to_owned(), value, description });
    }
    let names: Vec<&str> = found.iter().map(|arg| arg.name.as_str()).collect();
    lint::description(lint, "ARG", &names, &line.comments, line.lines);
    Ok(found)
}

/// The pairs of `ENV` and `LABEL`; there is one, and each has a name.
fn named_pairs(keyword: &str, rest: &str, escape: char) -> Result<Vec<Pair>> {
    let pairs = pairs(keyword, rest, escape)?;
    if pairs.is_empty() {
        return Err(needs_one(keyword));
    }
    if pairs.iter().any(|pair| pair.name.is_empty()) {
        return Err(Fault::new(format!("{keyword} names can not be blank")));
    }
    Ok(pairs)
}

/// `NAME=value …`, or the old form `NAME value with blanks`.
fn pairs(keyword: &str, rest: &str, escape: char) -> Result<Vec<Pair>> {
    let words = lines::quoted_words(rest, escape);
    let Some(first) = words.first() else { return Ok(Vec::new()) };
    if !first.contains('=') {
        let at = rest.find(lines::is_blank);
        let (name, value) = at
            .map(|at| (&rest[..at], rest[at..].trim_start_matches(lines::is_blank)))
            .ok_or_else(|| Fault::new(format!("{keyword} must have two arguments")))?;
        return Ok(vec![Pair { name: name.to_owned(), value: value.to_owned(), legacy: true }]);
    }
    words
        .iter()
        .map(|word| match word.split_once('=') {
            None => Err(Fault::new(format!(
                "Syntax error - can't find = in {}. Must be of the form: name=value",
                super::quoted(word)
            ))),
            Some((name, value)) => Ok(Pair { name: name.to_owned(), value: value.to_owned(), legacy: false }),
        })
        .collect()
}

/// The words of a list in JSON; `None` when it is none.
fn list(rest: &str) -> Result<Option<Vec<String>>> {
    match lines::json_list(rest) {
        Some(Json::Strings(words)) => Ok(Some(words)),
        Some(Json::Mixed) => {
            Err(Fault::new("when using JSON array syntax, arrays must be comprised of strings only"))
        }
        None => Ok(None),
    }
}

fn command(line: &Line, rest: &str) -> Result<CommandLine> {
    let heredocs = line.heredocs.clone();
    Ok(match list(rest)? {
        Some(words) => CommandLine { words, shell: false, heredocs },
        None if rest.is_empty() => CommandLine { words: Vec::new(), shell: true, heredocs },
        None => CommandLine { words: vec![rest.to_owned()], shell: true, heredocs },
    })
}

fn run(line: &Line) -> Result<Run> {
    const KNOWN: [(&str, Takes); 4] = [
        ("mount", Takes::Many),
        ("device", Takes::Many),
        ("network", Takes::Text),
        ("security", Takes::Text),
    ];
    let flags = Flags::read(&line.flags, &KNOWN)?;
    let command = command(line, &line.rest)?;
    let devices = flags.many("device").iter().map(|text| device(text)).collect::<Result<_>>()?;
    let mounts = flags.many("mount");
    for text in &mounts {
        mount::from_of(text)?;
    }
    let network = flags.text("network");
    if flags.given("network") && !matches!(network.as_str(), "default" | "none" | "host") {
        return Err(Fault::new(format!("invalid network mode {}", super::quoted(&network))));
    }
    let security = flags.text("security");
    if flags.given("security") && !matches!(security.as_str(), "sandbox" | "insecure") {
        return Err(Fault::new(format!("security {} is not valid", super::quoted(&security))));
    }
    Ok(Run { command, mounts, network, security, devices })
}

/// `NAME[,required[=true]]`, or with `name=`.
fn device(text: &str) -> Result<Device> {
    let mut device = Device::default();
    let fields = mount::csv(text).map_err(|e| e.prefixed("failed to parse csv devices: "))?;
    for field in fields {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key.to_lowercase(), Some(value)),
            None => (field.to_lowercase(), None),
        };
        match (key.as_str(), value) {
            ("required", None) => device.required = true,
            ("required", Some(value)) => device.required = mount::boolean("required", value)?,
            ("name", Some(value)) if device.name.is_empty() => value.clone_into(&mut device.name),
            ("name", Some(_)) => {
                return Err(Fault::new(format!("device name already set to {}", device.name)));
            }
            _ if device.name.is_empty() => device.name = field,
            (_, None) => {
                return Err(Fault::new(format!("invalid field '{field}' must be a key=value pair")));
            }
            (key, Some(_)) => {
                let message = format!("unexpected key '{key}' in '{field}'");
                return Err(Fault::new(with_nearest(message, key, ["name", "required"], true)));
            }
        }
    }
    Ok(device)
}

fn copy(line: &Line, add: bool) -> Result<Copy> {
    let keyword = if add { "ADD" } else { "COPY" };
    let mut words = list(&line.rest)?.unwrap_or_else(|| lines::at_blanks(&line.rest));
    if words.len() < 2 {
        return Err(Fault::new(format!(
            "{keyword} requires at least two arguments, but only one was provided. Destination could not be determined"
        )));
    }
    const BOTH: [(&str, Takes); 4] =
        [("chown", Takes::Text), ("chmod", Takes::Text), ("link", Takes::Switch), ("exclude", Takes::Many)];
    let own: &[(&str, Takes)] = if add {
        &[("keep-git-dir", Takes::Switch), ("checksum", Takes::Text), ("unpack", Takes::Switch)]
    } else {
        &[("from", Takes::Text), ("parents", Takes::Switch)]
    };
    let flags = Flags::read(&line.flags, &[&BOTH[..], own].concat())?;
    let target = words.pop().unwrap_or_default();
    if lines::heredoc_of(&target)?.is_some() {
        return Err(Fault::new(format!("{keyword} cannot accept a heredoc as a destination")));
    }
    let mut copy = Copy {
        add,
        target,
        from: flags.text("from"),
        chown: flags.text("chown"),
        chmod: flags.text("chmod"),
        link: flags.switch("link") == Some(true),
        parents: flags.switch("parents") == Some(true),
        exclude: flags.many("exclude"),
        checksum: flags.text("checksum"),
        keep_git_dir: flags.switch("keep-git-dir"),
        unpack: flags.switch("unpack"),
        ..Copy::default()
    };
    for word in words {
        match lines::heredoc_of(&word)? {
            Some(asked) => {
                let text = line.heredocs.iter().find(|h| h.name == asked.name);
                let content = text.map(Heredoc::text).unwrap_or_default();
                copy.inline.push(Heredoc { content, chomp: false, ..asked });
            }
            None => copy.sources.push(word),
        }
    }
    Ok(copy)
}

/// The trigger is not looked into: it is the stages on top of this one that it must be right for.
fn onbuild(line: &Line, escape: char) -> Result<String> {
    let trigger = lines::words(&line.rest, escape).keyword.to_uppercase();
    if line.rest.is_empty() {
        return Err(needs_one("ONBUILD"));
    }
    Flags::read(&line.flags, &[])?;
    match trigger.as_str() {
        "ONBUILD" => return Err(Fault::new("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")),
        "MAINTAINER" | "FROM" => {
            return Err(Fault::new(format!("{trigger} isn't allowed as an ONBUILD trigger")));
        }
        _ => {}
    }
    let whole = line.original.trim_start();
    let mut text = whole.get(line.keyword.len()..).unwrap_or_default().trim_start().to_owned();
    for heredoc in &line.heredocs {
        text.push_str(&format!("\n{}{}", heredoc.content, heredoc.name));
    }
    Ok(text)
}

/// The kind of a health check, and its command.
fn healthcheck_words(rest: &str) -> (&str, &str) {
    let (kind, rest) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    (kind, rest.trim())
}

fn healthcheck(line: &Line) -> Result<Health> {
    let (kind, rest) = healthcheck_words(&line.rest);
    let kind = kind.to_uppercase();
    if kind.is_empty() {
        return Err(needs_one("HEALTHCHECK"));
    }
    let words = list(rest)?;
    if kind == "NONE" {
        if !rest.is_empty() && words.as_ref().is_none_or(|words| !words.is_empty()) {
            return Err(Fault::new("HEALTHCHECK NONE takes no arguments"));
        }
        return Ok(Health { test: vec![kind], ..Health::default() });
    }
    const NAMES: [&str; 4] = ["interval", "timeout", "start-period", "start-interval"];
    let flags = Flags::read(
        &line.flags,
        &[&NAMES.map(|name| (name, Takes::Text))[..], &[("retries", Takes::Text)]].concat(),
    )?;
    if kind != "CMD" {
        return Err(Fault::new(format!("Unknown type {} in HEALTHCHECK (try CMD)", super::quoted(&kind))));
    }
    let test = match words {
        Some(words) if !words.is_empty() => [vec!["CMD".to_owned()], words].concat(),
        None if !rest.is_empty() => vec!["CMD-SHELL".to_owned(), rest.to_owned()],
        _ => return Err(Fault::new("Missing command after HEALTHCHECK CMD")),
    };
    let mut times = [0_i64; 4];
    for (name, time) in NAMES.into_iter().zip(&mut times) {
        *time = interval(&flags.text(name), name)?;
    }
    let retries = match flags.text("retries").as_str() {
        "" => 0,
        text => text.parse::<i32>().map_err(|e| {
            use std::num::IntErrorKind::{NegOverflow, PosOverflow};
            let why = match e.kind() {
                PosOverflow | NegOverflow => "value out of range",
                _ => "invalid syntax",
            };
            Fault::new(format!("strconv.ParseInt: parsing {}: {why}", super::quoted(text)))
        })?,
    };
    if retries < 0 {
        return Err(Fault::new(format!("--retries cannot be negative ({retries})")));
    }
    let [interval, timeout, start_period, start_interval] = times;
    Ok(Health { test, interval, timeout, start_period, start_interval, retries: retries.into() })
}

fn interval(text: &str, name: &str) -> Result<i64> {
    if text.is_empty() {
        return Ok(0);
    }
    let nanos = quantity::parse_duration(text).map_err(Fault::from)?;
    if nanos != 0 && nanos < 1_000_000 {
        return Err(Fault::new(format!("Interval \"{name}\" cannot be less than 1ms")));
    }
    Ok(nanos)
}

fn needs_one(keyword: &str) -> Fault {
    Fault::new(format!("{keyword} requires at least one argument"))
}

fn at_least_one(keyword: &str, words: Vec<String>) -> Result<Vec<String>> {
    if words.is_empty() { Err(needs_one(keyword)) } else { Ok(words) }
}

fn exactly_one(keyword: &str, rest: &str) -> Result<String> {
    if rest.is_empty() {
        return Err(Fault::new(format!("{keyword} requires exactly one argument")));
    }
    Ok(rest.to_owned())
}

/// What a flag takes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Takes {
    /// A value.
    Text,
    /// A value, and it may come again.
    Many,
    /// Nothing, or `true` or `false`.
    Switch,
}

/// The flags of one instruction.
struct Flags<'a> {
    given: Vec<(&'a str, &'a str)>,
}

impl<'a> Flags<'a> {
    /// Reads flags, in order: no others than `known` ones.
    fn read(flags: &'a [String], known: &[(&str, Takes)]) -> Result<Self> {
        let mut given: Vec<(&str, &str)> = Vec::new();
        for flag in flags {
            let (name, value) = match flag.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (flag.as_str(), None),
            };
            let Some(bare) = name.strip_prefix("--") else {
                return Err(Fault::new(format!("arg should start with -- : {flag}")));
            };
            let Some((_, takes)) = known.iter().find(|(known, _)| *known == bare) else {
                let message = format!("unknown flag: {name}");
                let names = known.iter().map(|(name, _)| *name);
                return Err(Fault::new(with_nearest(message, bare, names, true)));
            };
            if *takes != Takes::Many && given.iter().any(|(other, _)| *other == bare) {
                return Err(Fault::new(format!("duplicate flag specified: {name}")));
            }
            let missing = || Fault::new(format!("missing a value on flag: {name}"));
            let value = match (takes, value) {
                (Takes::Switch, None) => "true",
                (Takes::Switch, Some("")) | (_, None) => return Err(missing()),
                (_, Some(value)) => value,
            };
            if *takes == Takes::Switch && !["true", "false"].contains(&value.to_lowercase().as_str()) {
                let message = format!("expecting boolean value for flag {name}, not: {value}");
                return Err(Fault::new(message));
            }
            given.push((bare, value));
        }
        Ok(Self { given })
    }

    fn given(&self, name: &str) -> bool {
        self.given.iter().any(|(given, _)| *given == name)
    }

    fn text(&self, name: &str) -> String {
        self.many(name).into_iter().next().unwrap_or_default()
    }

    fn many(&self, name: &str) -> Vec<String> {
        self.given.iter().filter(|(given, _)| *given == name).map(|(_, value)| (*value).to_owned()).collect()
    }

    fn switch(&self, name: &str) -> Option<bool> {
        self.given(name).then(|| self.text(name).eq_ignore_ascii_case("true"))
    }
}
