//! From lines to instructions: each instruction's own grammar, with the messages that users of BuildKit know.

use fluyt_model::quantity;

use super::fault::{Fault, Result};
use super::instruction::{
    ArgDef, ArgStep, CommandLine, Copy, Dockerfile, Health, Instruction, Pair, Run, Stage, Step,
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
    if text.trim().is_empty() {
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
        lint.configure(check)?;
    }
    for line in &file.empty_continuations {
        lint.tell(Rule::NoEmptyContinuation, lines_of(*line), "Empty continuation line".to_owned());
    }
    for line in &file.lines {
        let said = instruction(line, file.escape, lint).map_err(|e| {
            e.prefixed(&format!("dockerfile parse error on line {}: ", line.lines.first)).at(line.lines)
        })?;
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
    let mut flags = Flags::new(&line.flags);
    let instruction = match keyword.as_str() {
        "ADD" => Instruction::Copy(copy(line, true)?),
        "COPY" => Instruction::Copy(copy(line, false)?),
        "ARG" => Instruction::Arg(args(line, escape, lint)?),
        "CMD" => Instruction::Cmd(flags.none().and_then(|()| command(line, &line.rest))?),
        "ENTRYPOINT" => Instruction::Entrypoint(flags.none().and_then(|()| command(line, &line.rest))?),
        "ENV" => Instruction::Env(flags.none().and_then(|()| pairs("ENV", &line.rest, escape))?),
        "LABEL" => Instruction::Label(flags.none().and_then(|()| pairs("LABEL", &line.rest, escape))?),
        "EXPOSE" => {
            let mut ports = lines::at_blanks(&line.rest);
            flags.none()?;
            ports.sort();
            Instruction::Expose(at_least_one("EXPOSE", ports)?)
        }
        "HEALTHCHECK" => Instruction::Healthcheck(healthcheck(line)?),
        "MAINTAINER" => {
            let message = "Maintainer instruction is deprecated in favor of using label";
            lint.tell(Rule::MaintainerDeprecated, line.lines, message.to_owned());
            Instruction::Maintainer(exactly_one("MAINTAINER", &line.rest)?)
        }
        "ONBUILD" => Instruction::Onbuild(onbuild(line)?),
        "RUN" => Instruction::Run(run(line)?),
        "SHELL" => {
            flags.none()?;
            match list(&line.rest)? {
                Some(words) if words.is_empty() => return Err(needs_one("SHELL")),
                Some(words) => Instruction::Shell(words),
                None if line.rest.is_empty() => return Err(needs_one("SHELL")),
                None => return Err(Fault::new("SHELL requires the arguments to be in JSON form")),
            }
        }
        "STOPSIGNAL" => Instruction::StopSignal(exactly_one("STOPSIGNAL", &line.rest)?),
        "USER" => Instruction::User(flags.none().and_then(|()| exactly_one("USER", &line.rest))?),
        "VOLUME" => {
            let paths = list(&line.rest)?.unwrap_or_else(|| lines::at_blanks(&line.rest));
            let paths = at_least_one("VOLUME", paths)?;
            flags.none()?;
            if paths.iter().any(|path| path.trim().is_empty()) {
                return Err(Fault::new("VOLUME specified can not be an empty string"));
            }
            Instruction::Volume(paths.iter().map(|path| path.trim().to_owned()).collect())
        }
        "WORKDIR" => {
            Instruction::Workdir(exactly_one("WORKDIR", &line.rest).and_then(|p| flags.none().map(|()| p))?)
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
    let mut flags = Flags::new(&line.flags);
    let platform = flags.text("platform");
    flags.finish(&["platform"])?;
    if !name.is_empty() {
        lint::description(lint, "FROM", &[&name], &line.comments, line.lines);
    }
    Ok(Stage {
        base: words[0].clone(),
        platform: platform?,
        source: line.original.trim().to_owned(),
        lines: line.lines,
        steps: Vec::new(),
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

/// `NAME=value …`, or the old form `NAME value with blanks`.
fn pairs(keyword: &str, rest: &str, escape: char) -> Result<Vec<Pair>> {
    let words = lines::quoted_words(rest, escape);
    let Some(first) = words.first() else { return Err(needs_one(keyword)) };
    let blank = || Fault::new(format!("{keyword} names can not be blank"));
    if !first.contains('=') {
        let at = rest.find(char::is_whitespace);
        let (name, value) = at
            .map(|at| (&rest[..at], rest[at..].trim_start()))
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
            Some(("", _)) => Err(blank()),
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
    let mut flags = Flags::new(&line.flags);
    let (mounts, devices) = (flags.many("mount"), flags.many("device"));
    let (network, security) = (flags.text("network"), flags.text("security"));
    flags.finish(&["mount", "device", "network", "security"])?;
    let (network, security, mounts) = (network?, security?, mounts?);
    if !matches!(network.as_str(), "" | "default" | "none" | "host") {
        return Err(Fault::new(format!("invalid network mode {}", super::quoted(&network))));
    }
    if !matches!(security.as_str(), "" | "sandbox" | "insecure") {
        return Err(Fault::new(format!("security {} is not valid", super::quoted(&security))));
    }
    for text in &mounts {
        mount::from_of(text)?;
    }
    let command = command(line, &line.rest)?;
    if command.words.is_empty() {
        return Err(needs_one("RUN"));
    }
    Ok(Run { command, mounts, network, security, devices: devices? })
}

fn copy(line: &Line, add: bool) -> Result<Copy> {
    let keyword = if add { "ADD" } else { "COPY" };
    let mut words = list(&line.rest)?.unwrap_or_else(|| lines::at_blanks(&line.rest));
    if words.len() < 2 {
        return Err(Fault::new(format!(
            "{keyword} requires at least two arguments, but only one was provided. Destination could not be determined"
        )));
    }
    let mut flags = Flags::new(&line.flags);
    let (chown, chmod, from, checksum) =
        (flags.text("chown"), flags.text("chmod"), flags.text("from"), flags.text("checksum"));
    let (link, parents) = (flags.switch("link"), flags.switch("parents"));
    let (keep_git_dir, unpack) = (flags.switch("keep-git-dir"), flags.switch("unpack"));
    let exclude = flags.many("exclude");
    let both = ["chown", "chmod", "link", "exclude"];
    let own: &[&str] = if add { &["keep-git-dir", "checksum", "unpack"] } else { &["from", "parents"] };
    flags.finish(&[&both[..], own].concat())?;
    let target = words.pop().unwrap_or_default();
    if lines::heredoc_of(&target)?.is_some() {
        return Err(Fault::new(format!("{keyword} cannot accept a heredoc as a destination")));
    }
    let mut copy = Copy {
        add,
        target,
        from: from?,
        chown: chown?,
        chmod: chmod?,
        link: link? == Some(true),
        parents: parents? == Some(true),
        exclude: exclude?,
        checksum: checksum?,
        keep_git_dir: keep_git_dir?,
        unpack: unpack?,
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

fn onbuild(line: &Line) -> Result<String> {
    Flags::new(&line.flags).none()?;
    let inner = lines::at_blanks(&line.rest);
    let Some(trigger) = inner.first().map(|word| word.to_uppercase()) else {
        return Err(needs_one("ONBUILD"));
    };
    match trigger.as_str() {
        "ONBUILD" => return Err(Fault::new("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")),
        "MAINTAINER" | "FROM" => {
            return Err(Fault::new(format!("{trigger} isn't allowed as an ONBUILD trigger")));
        }
        _ => {}
    }
    // Its own grammar counts here already.
    let mut nested = lines::words(&line.rest, '\\');
    nested.heredocs.clone_from(&line.heredocs);
    nested.original.clone_from(&line.rest);
    instruction(&nested, '\\', &mut Lint::silent())?;
    let mut text = line.rest.clone();
    for heredoc in &line.heredocs {
        text.push_str(&format!("\n{}{}", heredoc.content, heredoc.name));
    }
    Ok(text)
}

fn healthcheck(line: &Line) -> Result<Health> {
    let (kind, rest) = line.rest.split_once(char::is_whitespace).unwrap_or((&line.rest, ""));
    let (kind, rest) = (kind.to_uppercase(), rest.trim());
    if kind.is_empty() {
        return Err(needs_one("HEALTHCHECK"));
    }
    let words = list(rest)?;
    if kind == "NONE" {
        if !rest.is_empty() {
            return Err(Fault::new("HEALTHCHECK NONE takes no arguments"));
        }
        return Ok(Health { test: vec![kind], ..Health::default() });
    }
    let mut flags = Flags::new(&line.flags);
    const NAMES: [&str; 4] = ["interval", "timeout", "start-period", "start-interval"];
    let texts = NAMES.map(|name| flags.text(name));
    let retries = flags.text("retries");
    flags.finish(&[&NAMES[..], &["retries"]].concat())?;
    if kind != "CMD" {
        return Err(Fault::new(format!("Unknown type {} in HEALTHCHECK (try CMD)", super::quoted(&kind))));
    }
    let test = match words {
        Some(words) if !words.is_empty() => [vec!["CMD".to_owned()], words].concat(),
        None if !rest.is_empty() => vec!["CMD-SHELL".to_owned(), rest.to_owned()],
        _ => return Err(Fault::new("Missing command after HEALTHCHECK CMD")),
    };
    let mut times = [0_i64; 4];
    for ((text, name), time) in texts.into_iter().zip(NAMES).zip(&mut times) {
        *time = interval(&text?, name)?;
    }
    let retries = retries?;
    let retries = match retries.as_str() {
        "" => 0,
        text => text.parse::<i32>().map_err(|_| {
            Fault::new(format!("strconv.ParseInt: parsing {}: invalid syntax", super::quoted(text)))
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

/// The flags of one instruction.
struct Flags<'a> {
    given: Vec<(&'a str, Option<&'a str>)>,
}

/// Those that can be given more than once.
const REPEATABLE: [&str; 3] = ["mount", "device", "exclude"];

impl<'a> Flags<'a> {
    fn new(flags: &'a [String]) -> Self {
        let given = flags.iter().map(|flag| match flag.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (flag.as_str(), None),
        });
        Self { given: given.collect() }
    }

    fn values(&self, name: &str) -> impl Iterator<Item = Option<&'a str>> {
        let flag = format!("--{name}");
        self.given.iter().filter(move |(given, _)| *given == flag).map(|(_, value)| *value)
    }

    fn text(&mut self, name: &str) -> Result<String> {
        match self.values(name).next() {
            None => Ok(String::new()),
            Some(Some(value)) => Ok(value.to_owned()),
            Some(None) => Err(Fault::new(format!("missing a value on flag: --{name}"))),
        }
    }

    fn many(&mut self, name: &str) -> Result<Vec<String>> {
        let missing = || Fault::new(format!("missing a value on flag: --{name}"));
        self.values(name).map(|value| value.map(str::to_owned).ok_or_else(missing)).collect()
    }

    fn switch(&mut self, name: &str) -> Result<Option<bool>> {
        let Some(value) = self.values(name).next() else { return Ok(None) };
        match value.map(str::to_lowercase).as_deref() {
            None | Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some("") => Err(Fault::new(format!("missing a value on flag: --{name}"))),
            Some(_) => Err(Fault::new(format!(
                "expecting boolean value for flag --{name}, not: {}",
                value.unwrap_or_default()
            ))),
        }
    }

    /// No others than these, and each once.
    fn finish(&self, known: &[&str]) -> Result<()> {
        for (at, (flag, _)) in self.given.iter().enumerate() {
            let name = flag.strip_prefix("--").unwrap_or(flag);
            if !known.contains(&name) {
                let message = format!("unknown flag: {flag}");
                return Err(Fault::new(with_nearest(message, name, known.iter().copied(), true)));
            }
            if !REPEATABLE.contains(&name) && self.given[..at].iter().any(|(other, _)| other == flag) {
                return Err(Fault::new(format!("duplicate flag specified: {flag}")));
            }
        }
        Ok(())
    }

    fn none(&mut self) -> Result<()> {
        self.finish(&[])
    }
}
