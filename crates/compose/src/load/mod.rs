//! Files -> project. Pure but for [`Source`], which reads files: the environment comes as an argument.
//!
//! ```text
//! read -> interpolate -> against the table, long forms -> include -> extends -> merge     (each file)
//!   -> defaults -> required attributes -> paths -> implicit things -> consistency -> profiles -> env files   (the whole)
//! ```

mod canon;
mod consistency;
mod dotenv;
mod environment;
mod extends;
mod finish;
mod include;
mod interpolate;
mod locate;
mod merge;
mod normalize;
mod order;
mod paths;
mod profiles;
mod short;

use std::path::{Path, PathBuf};

use fluyt_model::error::IoContext;
use fluyt_model::{Error, Result};

use crate::document::{self, Files, Mark, Node, Pos, Value};
use crate::fault::{Fault, to_error};
use crate::project::Project;
use crate::schema::{FILE, Shape};

pub use dotenv::parse as parse_variables;
pub use interpolate::{Environment, Variable};
pub use locate::{Found, locate};
pub use normalize::normal_name;
pub use order::naturally as natural_order;
pub(crate) use paths::resolve;

/// How files are read.
pub trait Source {
    /// The text of a file.
    ///
    /// # Errors
    /// It cannot be read.
    fn read(&self, path: &Path) -> std::io::Result<String>;

    /// Whether there is a file (not a directory).
    fn is_file(&self, path: &Path) -> bool;

    /// Whether there is a directory.
    fn is_directory(&self, path: &Path) -> bool;

    /// A local copy of something that is somewhere else (`oci://…`, a git address); nothing for local paths.
    ///
    /// # Errors
    /// It cannot be fetched.
    fn fetch(&self, _reference: &str) -> Result<Option<PathBuf>> {
        Ok(None)
    }

    /// The directory that a file came in, if it was fetched: what it names must be in there, too.
    fn root(&self, _path: &Path) -> Option<PathBuf> {
        None
    }
}

/// What is to be loaded, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the user is, absolute.
    pub directory: PathBuf,
    /// `-f`: the files in their order; empty: looked for in the directory and above.
    pub files: Vec<PathBuf>,
    /// `--project-directory`.
    pub project_directory: Option<PathBuf>,
    /// `-p`.
    pub name: Option<String>,
    /// `--env-file`; empty: `.env` of the project's directory.
    pub env_files: Vec<PathBuf>,
    /// The environment of the process.
    pub environment: Environment,
    /// `--profile`.
    pub profiles: Vec<String>,
    /// Whether `$` in values is filled in.
    pub interpolate: bool,
    /// Whether what is implicit is made explicit.
    pub normalize: bool,
    /// Whether paths become absolute.
    pub resolve_paths: bool,
    /// Whether references between parts are checked.
    pub consistency: bool,
    /// Whether files of variables are read into services.
    pub resolve_environment: bool,
    /// Only these services and what they need; all, if empty.
    pub services: Vec<String>,
}

impl Options {
    /// Everything as `config` without options has it.
    pub fn new(directory: impl Into<PathBuf>, environment: Environment) -> Self {
        Self {
            directory: directory.into(),
            files: Vec::new(),
            project_directory: None,
            name: None,
            env_files: Vec::new(),
            environment,
            profiles: Vec::new(),
            interpolate: true,
            normalize: true,
            resolve_paths: true,
            consistency: true,
            resolve_environment: true,
            services: Vec::new(),
        }
    }
}

/// A text with its variables filled in; nothing if that cannot be done.
pub(crate) fn filled(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Option<String> {
    interpolate::substitute(text, lookup).ok()
}

/// What a load gathers on its way.
struct Loader<'a> {
    source: &'a dyn Source,
    options: &'a Options,
    files: Files,
    warnings: Vec<String>,
    variables: Vec<Variable>,
}

/// Loads a project.
///
/// # Errors
/// A file is missing or wrong: the message has file, line, column and the line itself for everything that is wrong.
pub fn load(options: &Options, source: &dyn Source) -> Result<Project> {
    let found = locate(options, source)?;
    let mut loader = Loader {
        source,
        options,
        files: Files::default(),
        warnings: found.warnings.clone(),
        variables: Vec::new(),
    };
    loader.project(&found)
}

/// Every variable that the files refer to, in their order of appearance, each once.
///
/// # Errors
/// As [`load`].
pub fn variables(options: &Options, source: &dyn Source) -> Result<Vec<Variable>> {
    let options = Options { interpolate: true, ..options.clone() };
    let found = locate(&options, source)?;
    let mut loader = Loader {
        source,
        options: &options,
        files: Files::default(),
        warnings: Vec::new(),
        variables: Vec::new(),
    };
    for path in &found.files {
        let text = loader.text(path)?;
        let file = loader.files.add(path, text.clone());
        let documents = document::read(&text, file).map_err(|f| loader.error(vec![f]))?;
        for mut node in documents {
            // A required variable that is missing is what the caller wants to know of.
            loader.interpolate(&mut node, &found.environment, &mut Vec::new());
        }
    }
    let mut out: Vec<Variable> = Vec::new();
    for variable in loader.variables {
        if !out.iter().any(|v| v.name == variable.name) {
            out.push(variable);
        }
    }
    Ok(out)
}

impl Loader<'_> {
    fn error(&self, faults: Vec<Fault>) -> Error {
        to_error(&faults, &self.files)
    }

    fn project(&mut self, found: &Found) -> Result<Project> {
        let mut environment = found.environment.clone();
        let name = self.name(found, &environment)?;
        environment.insert("COMPOSE_PROJECT_NAME".to_owned(), name.clone());
        let mut stack = Vec::new();
        let root = self.model(&found.files, &found.directory, &environment, &mut stack)?;
        if root.map().is_none_or(|m| m.is_empty()) {
            let hint = "a Compose file has at least the key services";
            return Err(Error::invalid(format!("{} says nothing", found.files[0].display())).with_hint(hint));
        }
        self.finish(root, name, found, environment)
    }

    /// What files from somewhere else read must have come with them.
    fn stays(&self, pos: Pos, path: &Path) -> Result<()> {
        let Some(root) = self.files.path(pos.file).and_then(|file| self.source.root(file)) else {
            return Ok(());
        };
        let own = path.starts_with(&root) && self.source.root(path).is_some();
        if own || !self.source.is_file(path) {
            return Ok(());
        }
        let fault = Fault::new(pos, format!("{} is not part of what was fetched", path.display()))
            .kind(fluyt_model::Kind::PermissionDenied)
            .hint("files from somewhere else may name only files that came with them");
        Err(self.error(vec![fault]))
    }

    /// The text of a file; errors name it.
    fn text(&self, path: &Path) -> Result<String> {
        self.source.read(path).about(|| path.display().to_string())
    }

    /// Several files, each over the ones before it, with what they include and extend.
    fn model(
        &mut self,
        paths: &[PathBuf],
        directory: &Path,
        environment: &Environment,
        stack: &mut Vec<PathBuf>,
    ) -> Result<Node> {
        let mut root = Node::new(Value::Map(document::Map::default()), Pos::default());
        for path in paths {
            for node in self.documents(path, environment)? {
                let mut node = node;
                stack.push(path.clone());
                self.include(&mut node, directory, environment, stack)?;
                stack.pop();
                self.extends(&mut node, path, directory, environment)?;
                root = merge::merge(&Shape::Object(&FILE), root, node);
            }
        }
        strip_resets(&mut root);
        Ok(root)
    }

    /// The documents of one file: filled in, checked, in long form.
    fn documents(&mut self, path: &Path, environment: &Environment) -> Result<Vec<Node>> {
        let text = self.text(path)?;
        let file = self.files.add(path, text.clone());
        let documents = document::read(&text, file).map_err(|f| self.error(vec![f]))?;
        let mut out = Vec::new();
        for mut node in documents {
            let mut faults = Vec::new();
            if self.options.interpolate {
                self.interpolate(&mut node, environment, &mut faults);
            }
            let pos = node.pos;
            let Value::Map(map) = node.value else {
                let fault = Fault::new(
                    pos,
                    format!("a Compose file must be a mapping, not {}", Node::new(node.value, pos).kind()),
                )
                .hint("its first key is usually services:");
                return Err(self.error(vec![fault]));
            };
            let mut canon = canon::Canon { faults, warnings: Vec::new(), raw: !self.options.interpolate };
            let mut map = canon.object(&FILE, map, "");
            let canon::Canon { faults, warnings, .. } = canon;
            self.warnings.extend(warnings);
            if !faults.is_empty() {
                let mut faults = faults;
                faults.sort_by_key(|f| f.pos);
                return Err(self.error(faults));
            }
            if map.remove("version").is_some() {
                self.warnings.push(format!(
                    "{}: the attribute `version` is obsolete, it is ignored; remove it",
                    path.display()
                ));
            }
            out.push(Node::new(Value::Map(map), pos));
        }
        Ok(out)
    }

    fn interpolate(&mut self, node: &mut Node, environment: &Environment, faults: &mut Vec<Fault>) {
        let lookup = |name: &str| environment.get(name).cloned();
        let mut interpolator = interpolate::Interpolator::new(&lookup);
        interpolator.tree(node, &self.files, faults);
        for name in interpolator.unset {
            let warning = format!("The {name:?} variable is not set. Defaulting to a blank string.");
            if !self.warnings.contains(&warning) {
                self.warnings.push(warning);
            }
        }
        self.variables.extend(interpolator.met);
    }
}

/// Takes away what was to be reset and had nothing below it.
fn strip_resets(node: &mut Node) {
    match &mut node.value {
        Value::Map(map) => {
            map.retain(|entry| entry.node.mark != Mark::Reset);
            map.iter_mut().for_each(|entry| strip_resets(&mut entry.node));
        }
        Value::List(items) => {
            items.retain(|item| item.mark != Mark::Reset);
            items.iter_mut().for_each(strip_resets);
        }
        _ => {}
    }
}
