//! Docker's store of contexts: `CONFIG/contexts/meta/SHA256/meta.json` and `CONFIG/contexts/tls/SHA256/docker/*.pem`.
//!
//! Shared with Docker's own client: what it does not know it keeps. Nothing here decides which context is used.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use fluyt_docker_api::remote::tls::Material;
use fluyt_image::Digest;
use fluyt_model::error::IoContext;
use fluyt_model::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// The endpoint that this program and Docker's client use.
pub const DOCKER: &str = "docker";
/// The name of what the command line and the environment say.
pub const DEFAULT: &str = "default";

/// What `meta.json` says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Meta {
    /// The context's name.
    #[serde(rename = "Name", alias = "name", skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// `Description`, and what others put there.
    #[serde(rename = "Metadata", alias = "metadata", deserialize_with = "or_default")]
    pub metadata: Map<String, Value>,
    /// By kind; [`DOCKER`] has `Host` and `SkipTLSVerify`.
    #[serde(rename = "Endpoints", alias = "endpoints", deserialize_with = "or_default")]
    pub endpoints: Map<String, Value>,
}

fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

impl Meta {
    /// With one endpoint.
    pub fn new(name: &str, description: &str, host: &str, skip_verify: bool) -> Self {
        let mut meta = Self { name: name.to_owned(), ..Self::default() };
        meta.describe(description);
        meta.set_endpoint(host, skip_verify);
        meta
    }

    /// Sets the description, unless it is empty.
    pub fn describe(&mut self, description: &str) {
        if !description.is_empty() {
            self.metadata.insert("Description".to_owned(), json!(description));
        }
    }

    /// The description.
    pub fn description(&self) -> &str {
        self.metadata.get("Description").and_then(Value::as_str).unwrap_or_default()
    }

    /// Sets the endpoint.
    pub fn set_endpoint(&mut self, host: &str, skip_verify: bool) {
        let mut endpoint = Map::new();
        if !host.is_empty() {
            endpoint.insert("Host".to_owned(), json!(host));
        }
        endpoint.insert("SkipTLSVerify".to_owned(), json!(skip_verify));
        self.endpoints.insert(DOCKER.to_owned(), Value::Object(endpoint));
    }

    /// The daemon's host (empty: none is named), and whether its certificate is believed unread.
    ///
    /// # Errors
    /// The context has no such endpoint.
    pub fn endpoint(&self) -> Result<(&str, bool)> {
        let Some(endpoint) = self.endpoints.get(DOCKER) else {
            return Err(Error::invalid("cannot find docker endpoint in context"));
        };
        let host = endpoint.get("Host").and_then(Value::as_str).unwrap_or_default();
        Ok((host, endpoint.get("SkipTLSVerify").and_then(Value::as_bool).unwrap_or(false)))
    }
}

/// The contexts of one configuration directory.
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
}

impl Store {
    /// Under Docker's configuration directory.
    pub fn new(config_dir: &Path) -> Self {
        Self { dir: config_dir.join("contexts") }
    }

    /// Where a context's `meta.json` is.
    pub fn meta_dir(&self, name: &str) -> PathBuf {
        self.dir.join("meta").join(Digest::of(name.as_bytes()).hex())
    }

    /// Where a context's certificates are.
    pub fn tls_dir(&self, name: &str) -> PathBuf {
        self.dir.join("tls").join(Digest::of(name.as_bytes()).hex())
    }

    /// A context.
    ///
    /// # Errors
    /// `NotFound`, in Docker's words; a file that cannot be read.
    pub fn get(&self, name: &str) -> Result<Meta> {
        let path = self.meta_dir(name).join("meta.json");
        read(&path).map_err(|e| match e.kind() {
            fluyt_model::Kind::NotFound => {
                Error::not_found(format!("context {name:?}: context not found: open {}", path.display()))
                    .with_source(std::io::Error::from_raw_os_error(2))
            }
            _ => e.context(format!("context {name:?}")),
        })
    }

    /// Whether there is one of that name.
    pub fn has(&self, name: &str) -> bool {
        self.meta_dir(name).is_dir()
    }

    /// All of them, by name.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn list(&self) -> Result<Vec<Meta>> {
        let dir = self.dir.join("meta");
        let entries = match std::fs::read_dir(&dir) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.about(|| dir.display().to_string())?,
        };
        let mut found = Vec::new();
        for entry in entries {
            let path = entry.about(|| dir.display().to_string())?.path().join("meta.json");
            match read(&path) {
                Ok(meta) => found.push(meta),
                Err(e) if e.kind() == fluyt_model::Kind::NotFound => {}
                Err(e) => return Err(e.context("failed to read metadata")),
            }
        }
        found.sort_by(|a: &Meta, b| a.name.cmp(&b.name));
        Ok(found)
    }

    /// Makes or replaces one.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn put(&self, meta: &Meta) -> Result<()> {
        let text = serde_json::to_vec(meta)
            .map_err(|e| Error::internal(format!("context {:?}", meta.name)).with_source(e))?;
        write(&self.meta_dir(&meta.name), "meta.json", &text, 0o755, 0o644)
    }

    /// Removes one with its certificates, if it is there.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn remove(&self, name: &str) -> Result<()> {
        for dir in [self.meta_dir(name), self.tls_dir(name)] {
            remove_all(&dir).map_err(|e| e.context(format!("failed to remove context {name}")))?;
        }
        Ok(())
    }

    /// The names of the files with certificates, by endpoint.
    ///
    /// # Errors
    /// A directory cannot be read.
    pub fn tls_files(&self, name: &str) -> Result<BTreeMap<String, Vec<String>>> {
        let dir = self.tls_dir(name);
        let mut found = BTreeMap::new();
        for endpoint in names(&dir)? {
            if dir.join(&endpoint).is_dir() {
                let files = names(&dir.join(&endpoint))?;
                found.insert(endpoint, files);
            }
        }
        Ok(found)
    }

    /// One of these files.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn tls_file(&self, name: &str, endpoint: &str, file: &str) -> Result<Vec<u8>> {
        let path = self.tls_dir(name).join(endpoint).join(file);
        std::fs::read(&path).about(|| path.display().to_string())
    }

    /// Replaces the files of one endpoint.
    ///
    /// # Errors
    /// They cannot be written.
    pub fn put_tls(&self, name: &str, endpoint: &str, files: &[(String, Vec<u8>)]) -> Result<()> {
        let dir = self.tls_dir(name).join(endpoint);
        remove_all(&dir)?;
        for (file, bytes) in files {
            write(&dir, file, bytes, 0o700, 0o600)?;
        }
        Ok(())
    }

    /// Certificates of the endpoint, if the context has any or says that the daemon's is not to be verified.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn material(&self, name: &str, skip_verify: bool) -> Result<Option<Material>> {
        let read = |file: &str| match self.tls_file(name, DOCKER, file) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(e) if e.kind() == fluyt_model::Kind::NotFound => Ok(None),
            Err(e) => Err(e),
        };
        let found =
            Material { ca: read("ca.pem")?, cert: read("cert.pem")?, key: read("key.pem")?, skip_verify };
        Ok((found != Material::default()).then_some(found))
    }
}

fn read(path: &Path) -> Result<Meta> {
    let bytes = std::fs::read(path).about(|| path.display().to_string())?;
    serde_json::from_slice(&bytes)
        .map_err(|e| Error::invalid(format!("parsing {}", path.display())).with_source(e))
}

fn names(dir: &Path) -> Result<Vec<String>> {
    let entries = match std::fs::read_dir(dir) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.about(|| dir.display().to_string())?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.about(|| dir.display().to_string())?;
        found.push(entry.file_name().to_string_lossy().into_owned());
    }
    found.sort();
    Ok(found)
}

fn remove_all(dir: &Path) -> Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other.about(|| dir.display().to_string()),
    }
}

/// Writes a file whole or not at all.
fn write(dir: &Path, name: &str, bytes: &[u8], dir_mode: u32, mode: u32) -> Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(dir_mode)
        .create(dir)
        .about(|| dir.display().to_string())?;
    let temporary = dir.join(format!(".{name}.{}.tmp", std::process::id()));
    let done = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(&temporary)
        .and_then(|mut file| file.write_all(bytes))
        .and_then(|()| std::fs::rename(&temporary, dir.join(name)));
    if done.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    done.about(|| dir.join(name).display().to_string())
}

/// Refuses names that no context can have.
///
/// # Errors
/// `Invalid`, in Docker's words.
pub fn check_name(name: &str) -> Result<()> {
    const FORMAT: &str = "^[a-zA-Z0-9][a-zA-Z0-9_.+-]+$";
    let word = |b: u8| b.is_ascii_alphanumeric() || b"_.+-".contains(&b);
    let bytes = name.as_bytes();
    match name {
        "" => Err(Error::invalid("context name cannot be empty")),
        DEFAULT => Err(Error::invalid("\"default\" is a reserved context name")),
        _ if bytes.len() >= 2 && bytes[0].is_ascii_alphanumeric() && bytes.iter().all(|b| word(*b)) => Ok(()),
        _ => Err(Error::invalid(format!(
            "context name {name:?} is invalid, names are validated against regexp {FORMAT:?}"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_is_kept_as_docker_keeps_it() {
        let dir = fluyt_testkit::Scratch::new("contexts");
        let store = Store::new(dir.path());
        assert!(store.list().unwrap().is_empty());
        let mut meta = Meta::new("far", "a box", "tcp://box:2376", false);
        meta.metadata.insert("theirs".to_owned(), json!(1));
        store.put(&meta).unwrap();
        store.put_tls("far", DOCKER, &[("ca.pem".to_owned(), b"x".to_vec())]).unwrap();
        let text = std::fs::read_to_string(store.meta_dir("far").join("meta.json")).unwrap();
        assert_eq!(
            text,
            r#"{"Name":"far","Metadata":{"Description":"a box","theirs":1},"Endpoints":{"docker":{"Host":"tcp://box:2376","SkipTLSVerify":false}}}"#
        );
        let found = store.get("far").unwrap();
        assert_eq!((found.endpoint().unwrap(), found.description()), (("tcp://box:2376", false), "a box"));
        assert_eq!(store.material("far", false).unwrap().unwrap().ca, Some(b"x".to_vec()));
        assert_eq!(store.tls_files("far").unwrap()[DOCKER], ["ca.pem"]);
        store.remove("far").unwrap();
        assert!(store.get("far").is_err() && store.material("far", false).unwrap().is_none());
    }

    #[test]
    fn names() {
        for good in ["ab", "a-b", "A.1+_"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["", "a", "default", "-a", "a b", "a/b"] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }
}
