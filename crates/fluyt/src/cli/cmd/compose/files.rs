//! Files of projects: from disk, from the standard input, from repositories and registries.
//!
//! What is fetched lies in the user's cache directory, by commit or digest, so that it is fetched once; which commit or
//! digest is meant is asked each time, and taken as it was the last time when nobody answers.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::DirBuilder;
use std::io::Read;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use fluyt_build::git::{self, Wanted};
use fluyt_build::gitref::{self, GitRef};
use fluyt_compose::{Source, artifact};
use fluyt_docker_api::transfer;
use fluyt_image::Descriptor;
use fluyt_model::error::IoContext;
use fluyt_model::reference::Reference;
use fluyt_model::{Error, Kind, Result};
use fluyt_registry::Registry;
use serde_json::Value;

/// The beginning of a project's address in a registry.
pub const OCI: &str = "oci://";

/// So large may one file of an artifact be.
const MAX_FILE: u64 = 16 << 20;

const NAMES: [&str; 4] = ["compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"];

/// This machine's files, `-` as the standard input, and what has been fetched.
#[derive(Default)]
pub struct Files {
    known: RefCell<BTreeMap<String, PathBuf>>,
    /// The standard input, once it has been read.
    input: RefCell<Option<String>>,
}

impl Source for Files {
    fn read(&self, path: &Path) -> std::io::Result<String> {
        if path.as_os_str() != "-" {
            return std::fs::read_to_string(path);
        }
        let mut input = self.input.borrow_mut();
        if let Some(text) = &*input {
            return Ok(text.clone());
        }
        let mut text = String::new();
        std::io::stdin().lock().read_to_string(&mut text)?;
        *input = Some(text.clone());
        Ok(text)
    }

    fn is_file(&self, path: &Path) -> bool {
        std::fs::metadata(path).is_ok_and(|m| !m.is_dir())
    }

    fn is_directory(&self, path: &Path) -> bool {
        path.is_dir()
    }

    fn fetch(&self, reference: &str) -> Result<Option<PathBuf>> {
        if let Some(path) = self.known.borrow().get(reference) {
            return Ok(Some(path.clone()));
        }
        let Some(address) = Address::of(reference)? else { return Ok(None) };
        let path = address.fetch(reference)?;
        self.known.borrow_mut().insert(reference.to_owned(), path.clone());
        Ok(Some(path))
    }

    fn root(&self, path: &Path) -> Option<PathBuf> {
        let cache = cache().ok()?.canonicalize().ok()?;
        let real = path.canonicalize().ok()?;
        // KIND/KEY/VERSION/NAME of the cache is what was fetched at once.
        let own: PathBuf = real.strip_prefix(&cache).ok()?.components().take(4).collect();
        Some(cache.join(own))
    }
}

/// Where something is that is not on this machine.
enum Address {
    Git(Box<GitRef>),
    Registry(Reference),
}

/// Whether a variable of Compose forbids something.
fn forbidden(variable: &str, what: &str) -> Result<()> {
    let value = std::env::var(variable).unwrap_or_default();
    match value.to_ascii_lowercase().as_str() {
        "0" | "f" | "false" => Err(Error::invalid(format!("{what} is disabled by {variable}"))
            .with_hint(format!("set {variable}=1, or name a file of this machine"))),
        "" | "1" | "t" | "true" => Ok(()),
        other => Err(Error::invalid(format!("{variable} expects a boolean value, not {other:?}"))),
    }
}

impl Address {
    fn of(text: &str) -> Result<Option<Self>> {
        if let Some(name) = text.strip_prefix(OCI) {
            forbidden("COMPOSE_EXPERIMENTAL_OCI_REMOTE", "OCI remote resource")?;
            let reference = Reference::parse_untagged(name).map_err(|e| e.context(text.to_owned()))?;
            return Ok(Some(Self::Registry(reference.or_latest())));
        }
        let parsed = gitref::parse(text).map_err(|e| Error::invalid(format!("{text}: {e}")))?;
        let Some(found) = parsed.filter(|g| !(g.like_a_path && Path::new(text).exists())) else {
            if text.starts_with("https://") || text.starts_with("http://") {
                return Err(Error::unsupported(format!("{text} is neither a file nor a git repository"))
                    .with_hint("addresses of repositories end in .git; projects in registries are oci://REGISTRY/NAME"));
            }
            return Ok(None);
        };
        forbidden("COMPOSE_EXPERIMENTAL_GIT_REMOTE", "git remote resource")?;
        Ok(Some(Self::Git(Box::new(found))))
    }

    /// The file; without an answer, as it was the last time.
    fn fetch(&self, text: &str) -> Result<PathBuf> {
        let fresh = match self {
            Self::Git(found) => repository(found),
            Self::Registry(reference) => project(reference),
        };
        let last = directory(&["last", &key(text)])?.join("path");
        match fresh {
            Ok(path) => {
                replace(&last, path.to_string_lossy().as_bytes())?;
                Ok(path)
            }
            Err(e) if matches!(e.kind(), Kind::Unavailable | Kind::Timeout) => {
                let old = std::fs::read_to_string(&last).ok().map(PathBuf::from).filter(|p| p.is_file());
                let Some(path) = old else { return Err(e) };
                eprintln!("WARN: {}; {text} is taken as it was fetched the last time", e.chain());
                Ok(path)
            }
            Err(e) => Err(e),
        }
    }
}

/// Whether a text names something that is not on this machine.
pub fn is_remote(text: &str) -> bool {
    matches!(Address::of(text), Ok(Some(_)))
}

fn key(text: &str) -> String {
    artifact::digest(text.as_bytes()).trim_start_matches("sha256:").chars().take(32).collect()
}

/// Where everything that is fetched lies.
fn cache() -> Result<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let base = variable("XDG_CACHE_HOME").or_else(|| variable("HOME").map(|home| home.join(".cache")));
    let base = base.filter(|b| b.is_absolute()).ok_or_else(|| {
        Error::invalid("there is no directory for what is fetched").with_hint("set HOME or XDG_CACHE_HOME")
    })?;
    Ok(base.join("fluyt/compose"))
}

fn directory(names: &[&str]) -> Result<PathBuf> {
    let path = names.iter().fold(cache()?, |path, name| path.join(name));
    DirBuilder::new().recursive(true).mode(0o700).create(&path).about(|| path.display().to_string())?;
    Ok(path)
}

fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let new = path.with_extension(std::process::id().to_string());
    std::fs::write(&new, bytes)
        .and_then(|()| std::fs::rename(&new, path))
        .about(|| path.display().to_string())
}

/// The directory `name` of a version, made by `fill` if it is not there: whole or not at all.
fn version(
    kind: &str,
    of: &str,
    version: &str,
    name: &str,
    fill: impl FnOnce(&Path) -> Result<()>,
) -> Result<PathBuf> {
    let parent = directory(&[kind, &key(of)])?;
    let place = parent.join(version);
    if !place.join(name).is_dir() {
        let new = parent.join(format!("{version}.{}", std::process::id()));
        let inside = new.join(name);
        let made = DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&inside)
            .about(|| inside.display().to_string())
            .and_then(|()| fill(&inside));
        let moved = made.and_then(|()| match std::fs::rename(&new, &place) {
            Err(e) if !place.join(name).is_dir() => Err(Error::io(place.display().to_string(), e)),
            _ => Ok(()),
        });
        // Somebody else may have been first.
        if new.exists() {
            let _ = std::fs::remove_dir_all(&new);
        }
        moved?;
    }
    Ok(place.join(name))
}

/// A name for a directory: a project takes its own from it.
fn last_name(address: &str) -> String {
    let name = address.trim_end_matches('/').rsplit(['/', ':']).next().unwrap_or_default();
    let name: String = name
        .trim_end_matches(".git")
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '-' })
        .collect();
    let name = name.trim_start_matches('.').to_owned();
    if name.is_empty() { "project".to_owned() } else { name }
}

fn repository(found: &GitRef) -> Result<PathBuf> {
    let reference = if found.by_commit { &found.checksum } else { &found.reference };
    let wanted = Wanted {
        remote: &found.remote,
        reference,
        checksum: &found.checksum,
        without_submodules: found.submodules == Some(false),
        agent: None,
    };
    let resolved = wanted.resolve()?;
    let of = format!("{} {}", found.remote, wanted.without_submodules);
    let checkout = version("git", &of, &resolved.commit, &last_name(&found.remote), |dir| {
        wanted.checkout(&resolved, dir)?;
        git::forget(dir)
    })?;
    inside(&checkout, &found.subdir)
}

/// The Compose file at a place of a checkout, which may hold links: none of them leads out of it.
fn inside(checkout: &Path, subdir: &str) -> Result<PathBuf> {
    let base = checkout.canonicalize().about(|| checkout.display().to_string())?;
    let shown = if subdir.is_empty() { "the repository" } else { subdir };
    let place = base.join(subdir.trim_start_matches('/'));
    let place = place.canonicalize().map_err(|e| {
        Error::io(format!("{shown} of the repository"), e)
            .with_hint("name a directory or file that it has: ADDRESS#REF:PATH")
    })?;
    let file = if place.is_dir() {
        let found = NAMES.iter().map(|name| place.join(name)).find(|path| path.is_file());
        found.ok_or_else(|| {
            Error::not_found(format!("no Compose file in {shown}"))
                .with_hint("name the directory or file that has it: ADDRESS#REF:PATH")
        })?
    } else {
        place
    };
    let real = file.canonicalize().about(|| file.display().to_string())?;
    if !real.starts_with(&base) {
        return Err(Error::new(Kind::PermissionDenied, format!("{shown} leads out of the repository")));
    }
    Ok(file)
}

fn descriptor(value: &Value, name: &Reference) -> Result<Descriptor> {
    serde_json::from_value(value.clone())
        .map_err(|e| Error::corrupt(format!("a descriptor of {}", name.familiar())).with_source(e))
}

fn project(name: &Reference) -> Result<PathBuf> {
    let registry = transfer::client(true, None)?;
    let about = |e: Error| e.context(format!("failed to pull OCI resource {:?}", name.familiar()));
    let mut document = registry.document(name).map_err(about)?;
    let digest = document.descriptor.digest.as_str().trim_start_matches("sha256:").to_owned();
    let shown = name.familiar();
    let place = version("oci", &name.name(), &digest, &last_name(name.path()), |dir| {
        let layers = match artifact::read(&document.bytes, &shown)? {
            artifact::Document::Artifact(layers) => layers,
            artifact::Document::Index(digest) => {
                document = registry.document(&name.with_digest(&digest)?).map_err(about)?;
                match artifact::read(&document.bytes, &shown)? {
                    artifact::Document::Artifact(layers) => layers,
                    artifact::Document::Index(_) => {
                        return Err(Error::corrupt(format!(
                            "{shown}: an index names an index as its project"
                        )));
                    }
                }
            }
        };
        unpack(&registry, name, &layers, dir)
    })?;
    Ok(place.join(artifact::MAIN))
}

fn unpack(registry: &Registry, name: &Reference, layers: &[Value], dir: &Path) -> Result<()> {
    let mut content = |layer: &Value| registry.blob(name, &descriptor(layer, name)?, MAX_FILE);
    for (file, bytes) in artifact::unpack(layers, &mut content)? {
        let path = dir.join(file);
        std::fs::write(&path, bytes).about(|| path.display().to_string())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_what_is_none() {
        for text in
            ["oci://reg.example/app", "https://h.example/r.git#v1:sub", "git@h:r.git", "github.com/a/b"]
        {
            assert!(is_remote(text), "{text}");
        }
        for text in ["compose.yaml", "./oci/compose.yaml", "/a/b.yaml", "-", "oci:/x", "../x.git"] {
            assert!(Address::of(text).unwrap().is_none(), "{text}");
        }
        assert!(Address::of("https://h.example/compose.yaml").is_err());
    }

    #[test]
    fn names_of_directories() {
        for (address, name) in [
            ("https://h.example/a/shop.git", "shop"),
            ("git@h:shop.git", "shop"),
            ("library/app", "app"),
            ("https://h.example/..git", "project"),
            ("ssh://h/a b/", "a-b"),
        ] {
            assert_eq!(last_name(address), name, "{address}");
        }
    }
}
