//! What was typed, made ready to build.

use std::collections::BTreeMap;
use std::path::PathBuf;

use fluyt_build::dockerfile::mount::fields;
use fluyt_build::plan::{NamedContext, Options};
use fluyt_build::solve::Context;
use fluyt_image::Platform;
use fluyt_model::error::IoContext;
use fluyt_model::{Error, Result};

use super::attests::Attests;
use super::cache;
use super::keys::Agents;
use super::outputs::{self, Output};
use super::podman;
use super::progress::Form;
use crate::cli::create::devices;
use crate::cli::flags::Parsed;

/// What is done with the Dockerfile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// It is built.
    Build,
    /// It is checked.
    Check,
    /// Its arguments are listed.
    Outline,
    /// Its targets are listed.
    Targets,
    /// Its graph is printed.
    Graph,
}

/// The flags of `fluyt build`, understood.
pub struct Wanted {
    /// The context as given.
    pub path: String,
    /// `-f`.
    pub file: Option<String>,
    /// For the plan.
    pub options: Options,
    /// Directories of `--build-context`.
    pub contexts: BTreeMap<String, Context>,
    /// `--build-context` that have to be fetched, by name.
    pub remote_contexts: Vec<(String, String)>,
    /// `--platform`, when there are several.
    pub platforms: Vec<Platform>,
    /// `--output`, with `-t`.
    pub outputs: Vec<Output>,
    /// `--attest`.
    pub attests: Attests,
    /// `--allow`.
    pub allowed: Vec<String>,
    /// `--secret`.
    pub secrets: BTreeMap<String, Vec<u8>>,
    /// `--ssh`.
    pub agents: Agents,
    /// `--signature-policy`.
    pub signature_policy: Option<String>,
    /// `--pull`.
    pub pull: bool,
    /// `--progress` and `--quiet`.
    pub form: Form,
    /// Only the id of the image is printed.
    pub quiet: bool,
    /// `--call`, `--check`.
    pub call: Call,
    /// `--call=…,format=json`.
    pub json: bool,
    /// `--call=…,ignorestatus=true`: findings are no failure.
    pub ignore_status: bool,
    /// `--iidfile`.
    pub iidfile: Option<PathBuf>,
    /// `--metadata-file`.
    pub metadata: Option<PathBuf>,
    /// `--cgroup-parent`.
    pub cgroup_parent: String,
    /// `--cache-from`.
    pub cache_from: Vec<cache::Place>,
    /// `--cache-to`.
    pub cache_to: Vec<cache::Target>,
}

impl Wanted {
    /// Reads the flags.
    ///
    /// # Errors
    /// A value that is malformed, a file that cannot be read, a thing that does not exist yet.
    pub fn read(flags: &Parsed) -> Result<Self> {
        let (contexts, named, remote_contexts) = contexts(flags)?;
        let quiet = flags.on("quiet");
        let (call, json, ignore_status) = call(flags)?;
        let mut options = options(flags, named)?;
        let platforms = platforms(flags)?;
        if let [one] = &platforms[..] {
            options.platform.clone_from(one);
        }
        let inline = options.build_args.get("BUILDKIT_INLINE_CACHE");
        let inline = inline.is_some_and(|value| matches!(value.as_str(), "1" | "true"));
        Ok(Self {
            cache_from: cache::sources(flags)?,
            cache_to: cache::targets(flags, inline)?,
            path: podman::context(flags).unwrap_or_default(),
            file: flags.given("file").map(str::to_owned),
            options,
            contexts,
            remote_contexts,
            platforms,
            outputs: outputs::read(flags)?,
            attests: Attests::read(flags)?,
            allowed: super::entitle::read(flags)?,
            secrets: secrets(flags)?,
            agents: Agents::read(flags)?,
            signature_policy: flags.given("signature-policy").map(str::to_owned),
            pull: podman::pulls(flags),
            form: form(flags.text("progress"), quiet)?,
            quiet,
            call,
            json,
            ignore_status,
            iidfile: flags.given("iidfile").map(PathBuf::from),
            metadata: flags.given("metadata-file").map(PathBuf::from),
            cgroup_parent: flags.text("cgroup-parent").to_owned(),
        })
    }
}

fn form(text: &str, quiet: bool) -> Result<Form> {
    let from_env = std::env::var("BUILDKIT_PROGRESS").unwrap_or_default();
    let text = if matches!(text, "" | "auto") { from_env.as_str() } else { text };
    let dumb = std::env::var("TERM").is_ok_and(|term| term == "dumb");
    let terminal = crate::cli::terminal::stderr_is_terminal();
    match text {
        _ if quiet => Ok(Form::Quiet),
        "" | "auto" if terminal && !dumb => Ok(Form::Tty),
        "" | "auto" | "plain" => Ok(Form::Plain),
        "tty" if terminal => Ok(Form::Tty),
        "tty" => Err(Error::invalid("--progress tty: standard error is no terminal")
            .with_hint("--progress plain fits files and pipes")),
        "rawjson" => Ok(Form::RawJson),
        "quiet" | "none" => Ok(Form::Quiet),
        other => Err(Error::invalid(format!("invalid progress mode {other}"))
            .with_hint("auto, plain, tty, quiet and rawjson are known")),
    }
}

/// What is called, whether its answer is to be JSON, whether its findings are no failure.
fn call(flags: &Parsed) -> Result<(Call, bool, bool)> {
    if flags.on("print-graph") {
        return Ok((Call::Graph, true, false));
    }
    let text = flags.text("call");
    let (mut call, mut json, mut ignore) = (Call::Build, false, false);
    for (number, (key, value)) in pairs(text)?.into_iter().enumerate() {
        match key.as_str() {
            "" if number > 0 => {
                return Err(Error::invalid(format!(
                    "invalid print function {text:?}: {value:?} has no value"
                )));
            }
            "" | "method" => {
                call = match value.as_str() {
                    "" | "build" => Call::Build,
                    "check" | "lint" => Call::Check,
                    "outline" => Call::Outline,
                    "targets" => Call::Targets,
                    other => {
                        return Err(Error::invalid(format!(
                            "method {other:?} is not supported by the frontend"
                        ))
                        .with_hint("build, check, outline and targets are known"));
                    }
                }
            }
            "format" => {
                json = match value.as_str() {
                    "json" => true,
                    "" | "text" => false,
                    other => return Err(Error::invalid(format!("--call: unknown format {other:?}"))),
                }
            }
            "ignorestatus" => {
                ignore = match value.as_str() {
                    "true" | "1" => true,
                    "false" | "0" => false,
                    other => return Err(Error::invalid(format!("--call: invalid boolean {other:?}"))),
                }
            }
            other => return Err(Error::invalid(format!("--call: unexpected key {other:?}"))),
        }
    }
    if flags.on("check") {
        call = Call::Check;
    }
    Ok((call, json, ignore))
}

fn options(flags: &Parsed, contexts: BTreeMap<String, NamedContext>) -> Result<Options> {
    let mut options = Options { contexts, ..Options::default() };
    for text in flags.all("build-arg") {
        match text.split_once('=') {
            Some((name, value)) => drop(options.build_args.insert(name.to_owned(), value.to_owned())),
            None => {
                if let Ok(value) = std::env::var(text) {
                    options.build_args.insert(text.to_owned(), value);
                }
            }
        }
    }
    if let Ok(epoch) = std::env::var("SOURCE_DATE_EPOCH") {
        options.build_args.entry("SOURCE_DATE_EPOCH".to_owned()).or_insert(epoch);
    }
    for text in flags.all("label") {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        options.labels.push((name.to_owned(), value.to_owned()));
    }
    options.target = flags.text("target").to_owned();
    options.no_cache = flags.on("no-cache");
    options.no_cache_stages =
        flags.all("no-cache-filter").flat_map(|t| t.split(',')).map(str::to_owned).collect();
    options.network = match flags.text("network") {
        "" | "default" | "bridge" => String::new(),
        mode @ ("host" | "none") => mode.to_owned(),
        other => {
            return Err(Error::unsupported(format!("network mode {other:?} not supported by a build"))
                .with_hint("default, host and none are"));
        }
    };
    for text in flags.all("add-host") {
        let (name, address) = text
            .split_once(['=', ':'])
            .ok_or_else(|| Error::invalid(format!("bad format for add-host: {text:?}")))?;
        options.hosts.push((name.to_owned(), address.trim_matches(['[', ']']).to_owned()));
    }
    options.shm_size = u64::try_from(flags.bytes("shm-size")).unwrap_or(0);
    for text in flags.all("ulimit") {
        let limit = devices::ulimit(text).map_err(Error::invalid)?;
        let number = |n: i64| u64::try_from(n).unwrap_or(u64::MAX);
        options.ulimits.push((limit.name, number(limit.soft), number(limit.hard)));
    }
    Ok(options)
}

/// `key=value` fields; the first may be a value alone.
pub(super) fn pairs(text: &str) -> Result<Vec<(String, String)>> {
    Ok(fields(text)
        .map_err(|f| f.error)?
        .into_iter()
        .map(|field| match field.split_once('=') {
            Some((key, value)) => (key.trim().to_lowercase(), value.to_owned()),
            None => (String::new(), field),
        })
        .collect())
}

/// `--platform`, each once; empty: this machine's.
fn platforms(flags: &Parsed) -> Result<Vec<Platform>> {
    let default = std::env::var("DOCKER_DEFAULT_PLATFORM").unwrap_or_default();
    let named = podman::platforms(flags)?;
    let mut given: Vec<&str> = named.iter().flat_map(|p| p.split(',')).map(str::trim).collect();
    if given.is_empty() && !default.is_empty() {
        given.push(&default);
    }
    let mut found = Vec::new();
    for text in given {
        let platform = if text == "local" { Platform::host() } else { Platform::parse(text)? };
        if !found.contains(&platform) {
            found.push(platform);
        }
    }
    Ok(found)
}

type Contexts = (BTreeMap<String, Context>, BTreeMap<String, NamedContext>, Vec<(String, String)>);

fn contexts(flags: &Parsed) -> Result<Contexts> {
    let (mut directories, mut named, mut remote) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
    for text in flags.all("build-context") {
        let (name, value) = text
            .split_once('=')
            .ok_or_else(|| Error::invalid(format!("invalid context value: {text}, expected key=value")))?;
        let context = if let Some(image) = value.strip_prefix("docker-image://") {
            NamedContext::Image(image.to_owned())
        } else if let Some(stage) = value.strip_prefix("target:") {
            NamedContext::Stage(stage.to_owned())
        } else if is_remote(value)? {
            remote.push((name.to_owned(), value.to_owned()));
            continue;
        } else if value.contains("://") {
            return Err(Error::unsupported(format!("--build-context {text}"))
                .with_hint("directories, repositories, archives on web servers, docker-image://, oci-layout:// and target: are known"));
        } else {
            let path = std::fs::canonicalize(value).about(|| format!("--build-context {text}"))?;
            if !path.is_dir() {
                return Err(Error::invalid(format!("--build-context {text}: not a directory")));
            }
            let place = path.join(".dockerignore");
            let ignore = match std::fs::read_to_string(&place) {
                Ok(text) => fluyt_build::ignore::Ignore::parse(&text).map_err(|f| f.error)?,
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => fluyt_build::ignore::Ignore::default(),
                // What it leaves out may be what nobody is to have.
                Err(e) => return Err(Error::io(place.display().to_string(), e)),
            };
            directories.insert(name.to_owned(), Context { path, ignore });
            NamedContext::Directory
        };
        named.insert(name.to_owned(), context);
    }
    Ok((directories, named, remote))
}

/// Whether a context has to be fetched: a layout of images, a web address, a repository that no directory is called.
fn is_remote(value: &str) -> Result<bool> {
    let git = fluyt_build::gitref::parse(value).map_err(|f| f.error)?;
    Ok(["oci-layout://", "http://", "https://"].iter().any(|scheme| value.starts_with(scheme))
        || git.is_some() && !std::path::Path::new(value).exists())
}

fn secrets(flags: &Parsed) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut found = BTreeMap::new();
    for text in flags.all("secret") {
        let pairs = pairs(text)?;
        let get = |names: &[&str]| {
            pairs.iter().find(|(key, _)| names.contains(&key.as_str())).map(|(_, value)| value.clone())
        };
        if let Some((key, _)) =
            pairs.iter().find(|(key, _)| !matches!(key.as_str(), "id" | "type" | "src" | "source" | "env"))
        {
            return Err(Error::invalid(format!("unexpected key '{key}' in '{text}'")));
        }
        let id = get(&["id"]).ok_or_else(|| Error::invalid(format!("secret missing ID: {text}")))?;
        let (file, variable) = (get(&["src", "source"]), get(&["env"]));
        let kind = get(&["type"]).unwrap_or_default();
        let named_env =
            file.is_none() && (variable.is_some() || kind == "env" || std::env::var_os(&id).is_some());
        let value = if kind != "file" && named_env || kind == "env" {
            let name = variable.or(file).unwrap_or_else(|| id.clone());
            std::env::var(&name)
                .map_err(|_| Error::not_found(format!("secret {id}: the variable {name} is not set")))?
                .into_bytes()
        } else {
            let path = file.unwrap_or_else(|| id.clone());
            std::fs::read(&path).about(|| format!("secret {id}: {path}"))?
        };
        if value.len() > 500 * 1024 {
            return Err(Error::invalid(format!("invalid secret size {}, max 500KiB", value.len())));
        }
        found.insert(id, value);
    }
    Ok(found)
}
