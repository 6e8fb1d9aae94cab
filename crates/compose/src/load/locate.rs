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
    let files = files(options, source, &mut warnings)?;
    let directory = match &options.project_directory {
        Some(directory) => paths::resolve(&options.directory, directory),
        None => match files.iter().find(|f| f.as_os_str() != "-") {
            Some(first) => first.parent().unwrap_or(Path::new("/")).to_owned(),
            None => options.directory.clone(),
        },
    };
    let environment = environment(options, source, &directory)?;
    Ok(Found { files, directory, environment, warnings })
}

fn files(options: &Options, source: &dyn Source, warnings: &mut Vec<String>) -> Result<Vec<PathBuf>> {
    if !options.files.is_empty() {
        return options.files.iter().map(|f| given(options, source, f)).collect();
    }
    let start = options
        .project_directory
        .as_ref()
        .map_or(options.directory.clone(), |d| paths::resolve(&options.directory, d));
    let variables = environment(options, source, &start)?;
    if let Some(list) = variables.get("COMPOSE_FILE").filter(|l| !l.is_empty()) {
        let separator = variables.get("COMPOSE_PATH_SEPARATOR").filter(|s| !s.is_empty());
        let separator = separator.map_or(":", String::as_str);
        return list.split(separator).map(|f| given(options, source, Path::new(f))).collect();
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
            return Ok(files);
        }
    }
    Err(Error::not_found(format!("no Compose file in {} or above it", start.display()))
        .with_hint("write a compose.yaml, or name a file with -f"))
}

fn given(options: &Options, source: &dyn Source, file: &Path) -> Result<PathBuf> {
    if file.as_os_str() == "-" {
        return Ok(file.to_owned());
    }
    if let Some(local) = source.fetch(&file.to_string_lossy())? {
        return Ok(local);
    }
    Ok(paths::resolve(&options.directory, file))
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
