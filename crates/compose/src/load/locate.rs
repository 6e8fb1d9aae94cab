//! Which files make up a project, and in which environment they are read.

use std::path::{Path, PathBuf};

use fluyt_model::error::IoContext;
use fluyt_model::{Error, Kind, Result};

use super::interpolate::Environment;
use super::{Options, Source, dotenv, paths};

const NAMES: [&str; 4] = ["compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"];
const OVERRIDES: [&str; 4] = [
    "compose.override.yml",
    "compose.override.yaml",
    "docker-compose.override.yml",
    "docker-compose.override.yaml",
];

/// The files of a project.
#[derive(Clone, Debug)]
pub struct Found {
    /// The files in their order, absolute (`-` for the standard input).
    pub files: Vec<PathBuf>,
    /// The project's directory.
    pub directory: PathBuf,
    /// The process's environment over what files of variables say.
    pub environment: Environment,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// Finds the files of a project.
///
/// # Errors
/// There are none; a file of variables is missing or wrong.
pub fn locate(options: &Options, source: &dyn Source) -> Result<Found> {
    let mut warnings = Vec::new();
    let (files, fetched) = files(options, source, &mut warnings)?;
    let directory = match &options.project_directory {
        Some(directory) => paths::resolve(&options.directory, directory),
        None => match files.iter().find(|f| f.as_os_str() != "-") {
            Some(first) => first.parent().unwrap_or(Path::new("/")).to_owned(),
            None => options.directory.clone(),
        },
    };
    // Variables are the user's: what was fetched has no say in them.
    let of = if fetched && options.project_directory.is_none() { &options.directory } else { &directory };
    let environment = environment(options, source, of)?;
    Ok(Found { files, directory, environment, warnings })
}

/// The files, and whether the first one was fetched from somewhere else.
fn files(options: &Options, source: &dyn Source, warnings: &mut Vec<String>) -> Result<(Vec<PathBuf>, bool)> {
    let all = |list: &[&Path]| -> Result<(Vec<PathBuf>, bool)> {
        let found: Vec<(PathBuf, bool)> =
            list.iter().map(|f| given(options, source, f)).collect::<Result<_>>()?;
        let fetched = found.first().is_some_and(|(_, fetched)| *fetched);
        Ok((found.into_iter().map(|(path, _)| path).collect(), fetched))
    };
    if !options.files.is_empty() {
        return all(&options.files.iter().map(PathBuf::as_path).collect::<Vec<_>>());
    }
    let start = options
        .project_directory
        .as_ref()
        .map_or(options.directory.clone(), |d| paths::resolve(&options.directory, d));
    let variables = environment(options, source, &start)?;
    if let Some(list) = variables.get("COMPOSE_FILE").filter(|l| !l.is_empty()) {
        let separator = variables.get("COMPOSE_PATH_SEPARATOR").filter(|s| !s.is_empty());
        let separator = separator.map_or(":", String::as_str);
        return all(&list_of(list, separator).iter().map(|f| Path::new(f.as_str())).collect::<Vec<_>>());
    }
    for directory in start.ancestors() {
        let here = |names: [&str; 4]| -> Vec<PathBuf> {
            names.iter().map(|n| directory.join(n)).filter(|p| source.is_file(p)).collect()
        };
        let mut one = |found: Vec<PathBuf>| {
            if found.len() > 1 {
                let names: Vec<String> = found.iter().map(|f| f.display().to_string()).collect();
                warnings
                    .push(format!("Found multiple config files with supported names: {}", names.join(", ")));
                warnings.push(format!("Using {}", names[0]));
            }
            found.into_iter().next()
        };
        if let Some(first) = one(here(NAMES)) {
            let mut files = vec![first];
            files.extend(one(here(OVERRIDES)));
            return Ok((files, false));
        }
    }
    Err(Error::not_found(format!("no Compose file in {} or above it", start.display()))
        .with_hint("write a compose.yaml, or name a file with -f"))
}

/// The items of `COMPOSE_FILE`. The separator does not split addresses: a colon before `//`, or after a user at a host.
fn list_of(list: &str, separator: &str) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    for part in list.split(separator) {
        let whole = out.last().is_some_and(|last| {
            let scheme =
                ["oci", "https", "http", "git", "ssh"].contains(&last.as_str()) && part.starts_with("//");
            scheme || last.contains("://") || last.starts_with("git@")
        });
        // What follows an address belongs to it (a port, a path, a tag) until a file of this machine begins.
        let file = [".yaml", ".yml"].iter().any(|end| part.ends_with(end)) && !part.starts_with("//");
        match out.last_mut() {
            Some(last) if separator == ":" && whole && !file => *last = format!("{last}:{part}"),
            _ => out.push(part.to_owned()),
        }
    }
    out
}

/// The path of a file, and whether it was fetched.
fn given(options: &Options, source: &dyn Source, file: &Path) -> Result<(PathBuf, bool)> {
    if file.as_os_str() == "-" {
        return Ok((file.to_owned(), false));
    }
    if let Some(local) = source.fetch(&file.to_string_lossy())? {
        return Ok((local, true));
    }
    Ok((paths::resolve(&options.directory, file), false))
}

fn environment(options: &Options, source: &dyn Source, directory: &Path) -> Result<Environment> {
    let mut files: Vec<PathBuf> =
        options.env_files.iter().map(|f| paths::resolve(&options.directory, f)).collect();
    if files.is_empty()
        && let Some(list) = options.environment.get("COMPOSE_ENV_FILES").filter(|l| !l.is_empty())
    {
        files = list.split(',').map(|f| paths::resolve(&options.directory, Path::new(f))).collect();
    }
    let disabled = options.environment.get("COMPOSE_DISABLE_ENV_FILE").map(String::as_str);
    let default = directory.join(".env");
    if files.is_empty()
        && !matches!(disabled, Some("1" | "t" | "true" | "TRUE" | "True"))
        && source.is_file(&default)
    {
        files.push(default);
    }
    let mut environment = from_files(&files, &options.environment, source)?;
    for (name, value) in &options.environment {
        environment.insert(name.clone(), value.clone());
    }
    Ok(environment)
}

/// The variables of files, later ones over earlier ones; they may refer to `outer` and to one another.
///
/// # Errors
/// A file is missing or wrong.
pub fn from_files(files: &[PathBuf], outer: &Environment, source: &dyn Source) -> Result<Environment> {
    let mut environment = Environment::new();
    for path in files {
        if source.is_directory(path) {
            return Err(Error::invalid(format!(
                "{} is a directory, not a file of variables",
                path.display()
            )));
        }
        let text = source.read(path).about(|| format!("couldn't find env file {}", path.display()))?;
        let lookup = |name: &str| outer.get(name).or_else(|| environment.get(name)).cloned();
        let more = dotenv::parse(&text, &lookup).map_err(|(line, what)| {
            Error::new(Kind::Invalid, format!("{}:{line}: {what}", path.display()))
        })?;
        environment.extend(
            more.into_iter().filter(|(name, _)| !name.trim_start().starts_with(|c: char| c.is_ascii_digit())),
        );
    }
    Ok(environment)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_files_may_have_addresses_in_it() {
        for (list, files) in [
            ("a.yaml:b.yaml", &["a.yaml", "b.yaml"][..]),
            ("oci://127.0.0.1:5000/app:v1", &["oci://127.0.0.1:5000/app:v1"]),
            ("oci://reg/app:v1:own.yaml", &["oci://reg/app:v1", "own.yaml"]),
            ("a.yaml:https://h/x.git#main:sub", &["a.yaml", "https://h/x.git#main:sub"]),
            ("git@h:x.git#v1", &["git@h:x.git#v1"]),
        ] {
            assert_eq!(list_of(list, ":"), files, "{list}");
        }
        assert_eq!(list_of("a,b:c", ","), ["a", "b:c"]);
    }
}
