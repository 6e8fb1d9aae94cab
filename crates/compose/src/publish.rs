//! What of a project is published: its files, with the names of files on this machine replaced by names in the artifact,
//! and what its author should know before. Pure but for the trait that reads files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use fluyt_model::error::IoContext;
use fluyt_model::{Error, Result};

use crate::artifact::{Layer, digest};
use crate::document::{self, Node, Pos};
use crate::load::{self, Source};
use crate::project::Project;
use crate::view::View;

/// A project made ready.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prepared {
    /// Its layers, without its files of variables.
    pub layers: Vec<Layer>,
    /// Its files of variables: path -> name in the artifact.
    pub variables: BTreeMap<PathBuf, String>,
    /// What its author should agree to, one paragraph each.
    pub questions: Vec<String>,
}

struct Work<'a> {
    project: &'a Project,
    source: &'a dyn Source,
    out: Prepared,
    extended: BTreeMap<PathBuf, String>,
    todo: Vec<PathBuf>,
    /// service -> why its variables are to be asked about.
    env: BTreeMap<String, BTreeSet<String>>,
    literal: BTreeSet<String>,
    secrets: BTreeSet<String>,
}

/// Makes a project ready; `with_env`: its variables are meant to be published.
///
/// # Errors
/// It includes files of this machine, has services that are built but have no image, or a path that cannot be replaced.
pub fn prepare(project: &Project, source: &dyn Source, with_env: bool) -> Result<Prepared> {
    let unnamed: Vec<&str> = project
        .services()
        .into_iter()
        .filter(|s| project.service(s).is_some_and(|n| n.get("build").is_some() && n.get("image").is_none()))
        .collect();
    if !unnamed.is_empty() {
        return Err(Error::invalid(format!(
            "your Compose stack cannot be published as it only contains a build section for service(s): {}",
            unnamed.join(", ")
        ))
        .with_hint("give them an `image` too: that is what others will pull"));
    }
    let mut work = Work {
        project,
        source,
        out: Prepared::default(),
        extended: BTreeMap::new(),
        todo: Vec::new(),
        env: BTreeMap::new(),
        literal: BTreeSet::new(),
        secrets: BTreeSet::new(),
    };
    for file in &project.files {
        let name = file.file_name().map_or("compose.yaml".into(), |n| n.to_string_lossy());
        let text = work.file(file)?;
        work.out.layers.push(Layer::file(&name, text.into_bytes()));
    }
    while let Some(file) = work.todo.pop() {
        let name = work.extended[&file].clone();
        let text = work.file(&file)?;
        work.out.layers.push(Layer::extended(&name, text.into_bytes()));
    }
    work.binds();
    work.contents();
    Ok(work.questions(with_env))
}

/// Texts that are written over others, by their places; the same place twice is the same text.
type Changes = BTreeMap<Pos, (String, String)>;

impl Work<'_> {
    /// The text of a file as it is published.
    fn file(&mut self, path: &Path) -> Result<String> {
        let text = self.source.read(path).about(|| path.display().to_string())?;
        let mut files = document::Files::default();
        let number = files.add(path, text.clone());
        let documents = document::read(&text, number)
            .map_err(|f| Error::invalid(format!("{}: {}", path.display(), f.message)))?;
        let mut changes = Changes::new();
        for root in &documents {
            self.includes(root, path)?;
            for (name, service) in root.entries("services") {
                self.service(name, service, path, &mut changes)?;
            }
            for (name, config) in root.entries("configs") {
                if config.get_str("content").is_some_and(is_literal) {
                    self.literal.insert(name.to_owned());
                }
            }
        }
        self.scan(&path.display().to_string(), &text);
        rewrite(&text, &changes).map_err(|e| e.context(path.display().to_string()))
    }

    fn includes(&self, root: &Node, path: &Path) -> Result<()> {
        let one = |node: &Node| -> Vec<String> {
            match node.str() {
                Some(text) => vec![text.to_owned()],
                None => match node.get("path") {
                    Some(path) if path.str().is_some() => path.str().map(str::to_owned).into_iter().collect(),
                    _ => node.texts("path"),
                },
            }
        };
        for text in root.items("include").iter().flat_map(one) {
            if self.source.fetch(&text)?.is_none() {
                return Err(Error::invalid(format!(
                    "cannot publish compose file with local includes: {} includes {text}",
                    path.display()
                ))
                .with_hint(
                    "publish what `fluyt compose config` prints instead, or include something remote",
                ));
            }
        }
        Ok(())
    }

    fn filled(&self, text: &str) -> String {
        let lookup = |name: &str| self.project.environment.get(name).cloned();
        load::filled(text, &lookup).unwrap_or_else(|| text.to_owned())
    }

    /// A path of a file, from the directory that it is relative to.
    fn resolved(&self, text: &str, base: &Path) -> PathBuf {
        load::resolve(base, Path::new(&self.filled(text)))
    }

    fn service(&mut self, name: &str, service: &Node, file: &Path, changes: &mut Changes) -> Result<()> {
        let base = if self.project.files.iter().any(|f| f == file) {
            self.project.directory.clone()
        } else {
            file.parent().unwrap_or(Path::new("/")).to_owned()
        };
        for node in env_files(service) {
            let text = node.str().unwrap_or_default();
            let path = self.resolved(text, &base);
            let hidden = format!("{}.env", hash(&path));
            changes.insert(node.pos, (text.to_owned(), hidden.clone()));
            if self.source.is_file(&path) {
                self.out.variables.insert(path, hidden);
            }
            self.env.entry(name.to_owned()).or_default().insert("env_file declared".to_owned());
        }
        for (key, value) in variables(service) {
            if is_sensitive(&key) && is_literal(&value) {
                let why = format!("literal value for {key:?}");
                self.env.entry(name.to_owned()).or_default().insert(why);
            }
        }
        let Some(node) = service.get("extends").and_then(|e| e.get("file")) else { return Ok(()) };
        let text = node.str().unwrap_or_default();
        if self.source.fetch(text)?.is_some() {
            return Ok(());
        }
        let path = self.resolved(text, &base);
        let hidden = format!("{}.yaml", hash(&path));
        changes.insert(node.pos, (text.to_owned(), hidden.clone()));
        if self.extended.insert(path.clone(), hidden).is_none() {
            self.todo.push(path);
        }
        Ok(())
    }

    fn binds(&mut self) {
        let mut lines = Vec::new();
        for service in self.project.services() {
            let Some(node) = self.project.service(service) else { continue };
            for volume in node.items("volumes").iter().filter(|v| v.text("type") == "bind") {
                lines.push(format!("  {service}: {} at {}", volume.text("source"), volume.text("target")));
            }
        }
        if !lines.is_empty() {
            self.out.questions.push(format!(
                "you are about to publish bind mounts declaration within your OCI artifact.\n\
                 only the bind mount declarations will be added to the OCI artifact (not content)\n\
                 please double check that you are not mounting potential user's sensitive directories or data\n{}",
                lines.join("\n")
            ));
        }
    }

    /// Files that the project has, though they are not published: their place in it may tell of them.
    fn contents(&mut self) {
        for path in self.out.variables.keys().cloned().collect::<Vec<_>>() {
            if let Ok(text) = self.source.read(&path) {
                self.scan(&path.display().to_string(), &text);
            }
        }
    }

    fn scan(&mut self, what: &str, text: &str) {
        for (number, line) in text.lines().enumerate() {
            if let Some(kind) = secret(line) {
                self.secrets.insert(format!("  {what}:{}: {kind}", number + 1));
            }
        }
    }

    fn questions(mut self, with_env: bool) -> Prepared {
        let join = |set: &BTreeSet<String>| set.iter().cloned().collect::<Vec<_>>().join("\n");
        if !self.secrets.is_empty() {
            self.out.questions.push(format!(
                "you are about to publish sensitive data within your OCI artifact.\n\
                 please double check that you are not leaking sensitive data\n{}",
                join(&self.secrets)
            ));
        }
        if !self.env.is_empty() && !with_env {
            let lines =
                self.env.iter().flat_map(|(s, why)| why.iter().map(move |w| format!("  service {s:?}: {w}")));
            self.out.questions.push(format!(
                "you are about to publish env-related declarations within your OCI artifact.\n{}\n\
                 Use --with-env to publish them without this question",
                lines.collect::<Vec<_>>().join("\n")
            ));
        }
        if !self.literal.is_empty() {
            let lines: BTreeSet<String> = self.literal.iter().map(|c| format!("  config {c:?}")).collect();
            self.out.questions.push(format!(
                "you are about to publish literal inline config content within your OCI artifact.\n{}",
                join(&lines)
            ));
        }
        self.out
    }
}

fn hash(path: &Path) -> String {
    digest(path.to_string_lossy().as_bytes()).trim_start_matches("sha256:").to_owned()
}

/// The paths of `env_file`, in whichever form.
fn env_files(service: &Node) -> Vec<&Node> {
    let Some(node) = service.get("env_file") else { return Vec::new() };
    if node.str().is_some() {
        return vec![node];
    }
    let items = node.list().unwrap_or_default().iter();
    items.filter_map(|item| if item.str().is_some() { Some(item) } else { item.get("path") }).collect()
}

/// The variables of a service as they are written, in whichever form.
fn variables(service: &Node) -> Vec<(String, String)> {
    let Some(node) = service.get("environment") else { return Vec::new() };
    match node.list() {
        Some(items) => {
            let pair = |item: &Node| {
                let (key, value) = item.str()?.split_once('=')?;
                Some((key.to_owned(), value.to_owned()))
            };
            items.iter().filter_map(pair).collect()
        }
        None => service
            .entries("environment")
            .into_iter()
            .filter_map(|(key, value)| Some((key.to_owned(), value.scalar()?)))
            .collect(),
    }
}

/// Whether the name of a variable says that its value should be kept.
fn is_sensitive(name: &str) -> bool {
    let name = name.to_ascii_lowercase().replace(['-', '.'], "_");
    let words = [
        "password",
        "passwd",
        "pwd",
        "secret",
        "token",
        "api_key",
        "apikey",
        "private_key",
        "access_key",
        "credential",
        "passphrase",
        "aws_secret",
        "auth_key",
    ];
    words.iter().any(|w| name.contains(w)) && !name.ends_with("_file")
}

/// Whether a value is more than a place for another one.
fn is_literal(value: &str) -> bool {
    let plain = value.replace("$$", "X");
    let plain = plain.trim();
    plain.len() >= 3 && !plain.starts_with('$') && !plain.ends_with('}')
}

/// What a line gives away, by the shape that well-known secrets have.
fn secret(line: &str) -> Option<&'static str> {
    const KINDS: [(&str, usize, &str); 8] = [
        ("AKIA", 16, "AWS access key"),
        ("ghp_", 36, "GitHub token"),
        ("gho_", 36, "GitHub token"),
        ("github_pat_", 22, "GitHub token"),
        ("glpat-", 20, "GitLab token"),
        ("xoxb-", 10, "Slack token"),
        ("sk_live_", 16, "Stripe key"),
        ("dckr_pat_", 20, "Docker token"),
    ];
    if line.contains("-----BEGIN ") && line.contains("PRIVATE KEY-----") {
        return Some("private key");
    }
    KINDS.iter().find_map(|(start, length, kind)| {
        let rest = &line[line.find(start)? + start.len()..];
        let run = rest.bytes().take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-')).count();
        (run >= *length).then_some(*kind)
    })
}

/// Writes texts over others at their places.
fn rewrite(text: &str, changes: &Changes) -> Result<String> {
    let mut out = text.to_owned();
    for (pos, (old, new)) in changes.iter().rev() {
        let line = usize::try_from(pos.line.saturating_sub(1)).unwrap_or(usize::MAX);
        let start: usize = text.split_inclusive('\n').take(line).map(str::len).sum();
        let column = pos.column.saturating_sub(1) as usize;
        let at = text[start..].char_indices().nth(column).map_or(text.len(), |(i, _)| start + i);
        let rest = &text[at..];
        let length = if rest.starts_with(old.as_str()) {
            old.len()
        } else {
            quoted(rest).ok_or_else(|| {
                Error::unsupported(format!("line {}: the path {old:?} cannot be replaced", pos.line))
                    .with_hint("write it in one line, plain or in quotes")
            })?
        };
        out.replace_range(at..at + length, new);
    }
    Ok(out)
}

/// The length of the text in quotes that something begins with.
fn quoted(text: &str) -> Option<usize> {
    let quote = text.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let mut chars = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            '\n' => return None,
            '\\' if quote == '"' => drop(chars.next()),
            c if c == quote && quote == '\'' && chars.peek().is_some_and(|(_, next)| *next == '\'') => {
                chars.next();
            }
            c if c == quote => return Some(at + 1),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::{Environment, Options};

    struct Files(Vec<(&'static str, &'static str)>);

    impl Source for Files {
        fn read(&self, path: &Path) -> std::io::Result<String> {
            let found = self.0.iter().find(|(name, _)| Path::new(name) == path);
            found.map(|(_, text)| (*text).to_owned()).ok_or_else(|| std::io::ErrorKind::NotFound.into())
        }

        fn is_file(&self, path: &Path) -> bool {
            self.0.iter().any(|(name, _)| Path::new(name) == path)
        }

        fn is_directory(&self, _: &Path) -> bool {
            false
        }
    }

    fn prepared(files: &[(&'static str, &'static str)], with_env: bool) -> Result<Prepared> {
        let files = Files(files.to_vec());
        let mut options = Options::new("/p", Environment::from([("DIR".to_owned(), "sub".to_owned())]));
        (options.consistency, options.resolve_environment) = (false, false);
        prepare(&crate::load(&options, &files)?, &files, with_env)
    }

    const MAIN: &str = "services:
  a:
    image: x
    env_file: [ './one.env', {path: \"${DIR}/two.env\", required: false} ]
    environment: {API_KEY: s3cr3t, OTHER_TOKEN: $OUTSIDE}
  b:
    extends: {file: \"base.yaml\", service: base} # why
    volumes: [/etc:/host]
";

    #[test]
    fn paths_become_names_and_nothing_else_changes() {
        let base = "services: {base: {image: y, env_file: base.env}}\n";
        let files = [
            ("/p/compose.yaml", MAIN),
            ("/p/base.yaml", base),
            ("/p/one.env", "A=1"),
            ("/p/base.env", "K=ghp_0123456789012345678901234567890123456789"),
        ];
        let found = prepared(&files, false).unwrap();
        let text = String::from_utf8(found.layers[0].bytes.clone()).unwrap();
        let name = |path: &str, end: &str| format!("{}.{end}", hash(Path::new(path)));
        let (one, two, other) =
            (name("/p/one.env", "env"), name("/p/sub/two.env", "env"), name("/p/base.yaml", "yaml"));
        let expected = MAIN
            .replace("'./one.env'", &one)
            .replace("\"${DIR}/two.env\"", &two)
            .replace("\"base.yaml\"", &other);
        assert_eq!(text, expected);
        assert_eq!(found.layers[1].annotations["com.docker.compose.file"], other);
        assert_eq!(
            found.variables.keys().collect::<Vec<_>>(),
            [Path::new("/p/base.env"), Path::new("/p/one.env")]
        );
        let all = found.questions.join("\n");
        for part in
            ["a: env_file", "/etc at /host", "GitHub token", "service \"a\": literal value for \"API_KEY\""]
        {
            let part = part.replace("a: env_file", "service \"a\": env_file declared");
            assert!(all.contains(&part), "{part}: {all}");
        }
        assert!(!all.contains("OTHER_TOKEN") && !all.contains("s3cr3t"), "{all}");
        let quiet = prepared(&files, true).unwrap().questions.join("\n");
        assert!(!quiet.contains("env-related"), "{quiet}");
    }

    #[test]
    fn what_cannot_be_published_is_refused() {
        let build =
            prepared(&[("/p/compose.yaml", "services: {a: {build: .}}")], false).unwrap_err().to_string();
        assert!(build.contains("only contains a build section for service(s): a"), "{build}");
        let files = [
            ("/p/compose.yaml", "include: [x.yaml]\nservices: {a: {image: b}}"),
            ("/p/x.yaml", "services: {c: {image: d}}"),
        ];
        let include = prepared(&files, false).unwrap_err().to_string();
        assert!(include.contains("local includes"), "{include}");
    }
}
