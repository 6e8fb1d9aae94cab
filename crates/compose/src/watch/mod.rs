//! `develop.watch`: which change of a file asks for which work on which service. What is decided here is pure; [`tree`]
//! tells of changes, [`sync`] puts files into containers.

pub mod sync;
pub mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fluyt_build::ignore::Ignore;
use fluyt_model::{Error, Result};

use crate::document::{Node, Value};
use crate::load::Source;
use crate::project::Project;
use crate::view::View;

/// Changes are waited for until nothing has changed for so long: editors and version control write many files at once.
pub const QUIET: Duration = Duration::from_millis(100);

/// But no longer than this, for something that never is quiet.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// What editors and tools leave for a moment, and what version control keeps.
const EPHEMERAL: &str = "**/.git\n**/*___jb_old___\n**/*___jb_tmp___\n**/.idea/**\n**/.#*\n**/#*#\n**/4913\n**/*~\n\
                         **/.*.swp\n**/.*.swx\n**/.*.swo\n**/.*.swn\n**/.*.kate-swp\n**/*-go-tmp-umask";

/// What a change asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Build the image and make the containers anew.
    Rebuild,
    /// Put the files into the containers.
    Sync,
    /// Restart the containers.
    Restart,
    /// Both.
    SyncRestart,
    /// Put the files into the containers, then run a command in them.
    SyncExec,
}

impl Action {
    fn of(text: &str) -> Option<Self> {
        Some(match text {
            "rebuild" => Self::Rebuild,
            "sync" => Self::Sync,
            "restart" => Self::Restart,
            "sync+restart" => Self::SyncRestart,
            "sync+exec" => Self::SyncExec,
            _ => return None,
        })
    }

    /// Whether it puts files into containers.
    pub fn syncs(self) -> bool {
        matches!(self, Self::Sync | Self::SyncRestart | Self::SyncExec)
    }
}

/// One item of `develop.watch`.
#[derive(Clone, Debug)]
pub struct Rule {
    /// The service.
    pub service: String,
    /// What is to be done.
    pub action: Action,
    /// What is watched, absolute.
    pub path: PathBuf,
    /// Where it is in the containers.
    pub target: String,
    /// The command of `sync+exec`.
    pub exec: Option<Node>,
    /// Whether everything is put into the containers at the beginning.
    pub initial: bool,
    include: Option<Ignore>,
    ignore: Ignore,
    /// What `.dockerignore` of the service's build says, and about which directory.
    context: Option<(PathBuf, Ignore)>,
}

/// A file of this machine and its place in containers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mapping {
    /// Here.
    pub host: PathBuf,
    /// There, absolute.
    pub container: String,
}

/// What is to be done after some changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Services that are built and made anew.
    pub rebuild: BTreeSet<String>,
    /// Files for containers of services.
    pub sync: BTreeMap<String, BTreeSet<Mapping>>,
    /// Services that are restarted.
    pub restart: BTreeSet<String>,
    /// Rules whose command is run, by their places, in this order.
    pub exec: BTreeSet<usize>,
}

impl Batch {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The rules of services of a project (all that have some, if none is named), and what the user should know.
///
/// # Errors
/// No service has any; a rule cannot be followed; a pattern is malformed.
pub fn rules(
    project: &Project,
    services: &[String],
    source: &dyn Source,
) -> Result<(Vec<Rule>, Vec<String>)> {
    let (mut rules, mut warnings) = (Vec::new(), Vec::new());
    for service in project.services() {
        if !services.is_empty() && !services.iter().any(|s| s == service) {
            continue;
        }
        let Some(node) = project.service(service) else { continue };
        let Some(develop) = node.get("develop") else { continue };
        let context = context(node, source).map_err(|e| e.context(format!("service {service}")))?;
        for trigger in develop.items("watch") {
            let rule = rule(service, node, trigger, context.clone())
                .map_err(|e| e.context(format!("services.{service}.develop.watch")))?;
            if rule.action.syncs() && mounted(node, &rule.path) {
                let path = rule.path.display();
                warnings.push(format!(
                    "{path} is watched for service {service}, which has it as a bind mount already: nothing to sync"
                ));
                continue;
            }
            rules.push(rule);
        }
    }
    if rules.is_empty() && warnings.is_empty() {
        return Err(Error::invalid("none of the selected services is configured for watch")
            .with_hint("give a service a `develop` section with `watch` in it"));
    }
    Ok((rules, warnings))
}

fn rule(service: &str, node: &Node, trigger: &Node, context: Option<(PathBuf, Ignore)>) -> Result<Rule> {
    let word = trigger.text("action");
    let action = Action::of(&word).ok_or_else(|| {
        Error::invalid(format!("unknown action {word:?}")).with_hint("rebuild, sync, restart, …")
    })?;
    let target = trigger.text("target");
    if action.syncs() && !target.starts_with('/') {
        return Err(Error::invalid(format!(
            "action {word} of {} has no target in the container that begins with /",
            trigger.text("path")
        ))
        .with_hint("say where the files are in the container: `target: /app`"));
    }
    if action == Action::Rebuild && node.get("build").is_none() {
        return Err(Error::invalid(format!(
            "can't watch service {service:?} with action rebuild without a build context"
        ))
        .with_hint("give the service a `build`, or use action sync or restart"));
    }
    let exec = trigger.get("exec").cloned();
    let command = exec.as_ref().map(|e| e.texts("command")).unwrap_or_default();
    if action == Action::SyncExec && command.is_empty() {
        return Err(Error::invalid("action sync+exec has no command").with_hint("add `exec: {command: …}`"));
    }
    let include = trigger.texts("include");
    let old = trigger.get("x-initialSync").is_some_and(|n| n.value == Value::Bool(true));
    Ok(Rule {
        service: service.to_owned(),
        action,
        path: PathBuf::from(trigger.text("path")),
        target,
        exec,
        initial: action.syncs() && (trigger.flag("initial_sync") || old),
        include: if include.is_empty() { None } else { Some(patterns(&include)?) },
        ignore: patterns(&trigger.texts("ignore"))?,
        context,
    })
}

fn patterns(list: &[String]) -> Result<Ignore> {
    Ignore::parse(&list.join("\n")).map_err(|e| Error::invalid(format!("a pattern of watch: {e}")))
}

/// The directory of a service's build on this machine, and what its `.dockerignore` leaves out.
fn context(node: &Node, source: &dyn Source) -> Result<Option<(PathBuf, Ignore)>> {
    let Some(build) = node.get("build") else { return Ok(None) };
    let directory = PathBuf::from(build.text("context"));
    if !directory.is_absolute() {
        return Ok(None);
    }
    let dockerfile = Some(build.text("dockerfile")).filter(|d| !d.is_empty());
    let own = directory.join(format!("{}.dockerignore", dockerfile.as_deref().unwrap_or("Dockerfile")));
    let Some(path) = [own, directory.join(".dockerignore")].into_iter().find(|p| source.is_file(p)) else {
        return Ok(None);
    };
    let text = source.read(&path).map_err(|e| Error::io(path.display().to_string(), e))?;
    let ignore = Ignore::parse(&text).map_err(|e| Error::invalid(format!("{}: {e}", path.display())))?;
    Ok(Some((directory, ignore)))
}

/// Whether a service has a path of this machine as a bind mount.
fn mounted(node: &Node, path: &Path) -> bool {
    let binds = node.items("volumes").iter().filter(|v| v.text("type") == "bind");
    binds
        .map(|v| PathBuf::from(v.text("source")))
        .any(|source| !source.as_os_str().is_empty() && path.starts_with(source))
}

fn ephemeral() -> &'static Ignore {
    static PATTERNS: std::sync::OnceLock<Ignore> = std::sync::OnceLock::new();
    PATTERNS.get_or_init(|| Ignore::parse(EPHEMERAL).unwrap_or_default())
}

/// A path as patterns see it.
fn below(base: &Path, path: &Path) -> Option<String> {
    path.strip_prefix(base).ok().map(|rest| rest.to_string_lossy().into_owned())
}

impl Rule {
    /// Where a changed path belongs in containers, if the rule is about it. Rules without a target give an empty text.
    pub fn matches(&self, path: &Path) -> Option<String> {
        let rest = below(&self.path, path)?;
        if self.is_left_out(path) {
            return None;
        }
        if let Some(include) = self.include.as_ref().filter(|_| !rest.is_empty())
            && !include.leaves_out(&rest)
        {
            return None;
        }
        Some(self.place(&rest))
    }

    /// Whether a path, and all that is below it, is nothing to this rule.
    pub fn is_left_out(&self, path: &Path) -> bool {
        let Some(rest) = below(&self.path, path).filter(|rest| !rest.is_empty()) else { return false };
        let by_context = self.context.as_ref().is_some_and(|(directory, ignore)| {
            below(directory, path).is_some_and(|rest| !rest.is_empty() && ignore.leaves_out(&rest))
        });
        by_context || ephemeral().leaves_out(&rest) || self.ignore.leaves_out(&rest)
    }

    /// Whether nothing below a directory that is left out can be taken back by a pattern.
    fn for_good(&self) -> bool {
        !self.ignore.takes_back() && !self.context.as_ref().is_some_and(|(_, ignore)| ignore.takes_back())
    }

    fn place(&self, rest: &str) -> String {
        if self.target.is_empty() {
            return String::new();
        }
        let target = self.target.trim_end_matches('/');
        match (rest, self.path.file_name()) {
            // A single file, into a directory.
            ("", Some(name)) if self.target.ends_with('/') && !self.path.is_dir() => {
                format!("{target}/{}", name.to_string_lossy())
            }
            ("", _) => self.target.clone(),
            (rest, _) => format!("{target}/{rest}"),
        }
    }
}

/// What changed paths ask for. A directory that is watched as such is nothing by itself.
pub fn batch<'p>(rules: &[Rule], paths: impl IntoIterator<Item = &'p PathBuf>) -> Batch {
    let mut batch = Batch::default();
    for path in paths {
        for (n, rule) in rules.iter().enumerate() {
            let Some(container) = rule.matches(path) else { continue };
            let mapping = Mapping { host: path.clone(), container };
            let service = rule.service.clone();
            if rule.action.syncs() {
                batch.sync.entry(service.clone()).or_default().insert(mapping);
            }
            match rule.action {
                Action::Rebuild => drop(batch.rebuild.insert(service)),
                Action::Restart | Action::SyncRestart => drop(batch.restart.insert(service)),
                Action::SyncExec => drop(batch.exec.insert(n)),
                Action::Sync => {}
            }
        }
    }
    batch
}

/// The directories and files that rules are about, each once.
pub fn roots(rules: &[Rule]) -> Vec<PathBuf> {
    let all: BTreeSet<PathBuf> = rules.iter().map(|r| r.path.clone()).collect();
    all.into_iter().collect()
}

/// Whether a directory need not be looked into: no rule is about anything below it.
pub fn skipped(rules: &[Rule], path: &Path) -> bool {
    let mut about = rules.iter().filter(|r| path.starts_with(&r.path) || r.path.starts_with(path)).peekable();
    about.peek().is_some() && about.all(|r| path.starts_with(&r.path) && r.for_good() && r.is_left_out(path))
}

/// When changes that have come in are to be acted on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Debounce {
    span: Option<(Instant, Instant)>,
}

impl Debounce {
    /// Something has changed.
    pub fn changed(&mut self, now: Instant) {
        self.span = Some((self.span.map_or(now, |(first, _)| first), now));
    }

    /// How long is still to be waited; nothing if nothing has changed.
    pub fn left(&self, now: Instant) -> Option<Duration> {
        let (first, last) = self.span?;
        let quiet = QUIET.saturating_sub(now.saturating_duration_since(last));
        let patience = PATIENCE.saturating_sub(now.saturating_duration_since(first));
        Some(quiet.min(patience))
    }

    /// They are acted on.
    pub fn reset(&mut self) {
        self.span = None;
    }
}

#[cfg(test)]
mod tests;
