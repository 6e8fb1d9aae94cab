//! Credentials in Docker's `config.json` and Podman's `auth.json`, and through credential helpers.
//!
//! Reading prefers, for a registry: its own helper (`credHelpers`), the general one (`credsStore`), `auths`. Writing
//! keeps every field that this program does not know, replaces the file atomically and leaves it to its owner only.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use fluyt_model::error::IoContext;
use fluyt_model::{Error, Result};
use serde_json::{Map, Value, json};

use crate::helper::Helper;
use crate::settings::CredentialFiles;

/// The key under which Docker keeps the credentials of its own registry.
pub(crate) const DOCKER_IO_KEY: &str = "https://index.docker.io/v1/";

/// What proves who the user is.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// Name and password.
    Password {
        /// The user's name.
        username: String,
        /// The password or an access token.
        password: String,
    },
    /// A refresh token, to be exchanged for access tokens.
    IdentityToken(String),
    /// An access token, used as it is.
    RegistryToken(String),
}

/// Secrets are never shown.
impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Password { username, .. } => write!(f, "Password({username})"),
            Self::IdentityToken(_) => f.write_str("IdentityToken"),
            Self::RegistryToken(_) => f.write_str("RegistryToken"),
        }
    }
}

/// The name under which credentials for a registry domain are kept.
pub(crate) fn key_of(domain: &str) -> &str {
    match domain {
        "docker.io" | "index.docker.io" | "registry-1.docker.io" => DOCKER_IO_KEY,
        other => other,
    }
}

/// The credentials for a registry domain.
///
/// # Errors
/// A file that is not JSON, a helper that fails.
pub(crate) fn find(files: &CredentialFiles, domain: &str) -> Result<Option<Credentials>> {
    for path in files.docker.iter().chain(&files.podman) {
        let Some(config) = read(path)? else { continue };
        if let Some(found) = find_in(&config, path, domain)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

fn find_in(config: &Map<String, Value>, path: &Path, domain: &str) -> Result<Option<Credentials>> {
    let key = key_of(domain);
    if let Some(helper) = helper_for(config, key, domain) {
        if let Some(found) = helper.get(key)? {
            return Ok(Some(found));
        }
        if domain == "docker.io" {
            return Ok(None);
        }
    }
    let Some(auths) = config.get("auths").and_then(Value::as_object) else { return Ok(None) };
    let entry =
        auths.get(key).or_else(|| auths.iter().find(|(k, _)| normalised(k) == domain).map(|(_, v)| v));
    entry.map_or(Ok(None), |e| decode(e, path, key))
}

/// Older files keep whole URLs.
fn normalised(key: &str) -> &str {
    let host = key.trim_start_matches("https://").trim_start_matches("http://");
    let host = host.split('/').next().unwrap_or(host);
    if matches!(host, "index.docker.io" | "registry-1.docker.io") { "docker.io" } else { host }
}

fn helper_for(config: &Map<String, Value>, key: &str, domain: &str) -> Option<Helper> {
    let named = |v: &Value| v.as_str().filter(|s| !s.is_empty()).map(Helper::new);
    let own = config.get("credHelpers").and_then(|h| h.get(key).or_else(|| h.get(domain)));
    own.and_then(named).or_else(|| config.get("credsStore").and_then(named))
}

fn decode(entry: &Value, path: &Path, key: &str) -> Result<Option<Credentials>> {
    let text = |name: &str| entry.get(name).and_then(Value::as_str).filter(|s| !s.is_empty());
    if let Some(token) = text("identitytoken") {
        return Ok(Some(Credentials::IdentityToken(token.to_owned())));
    }
    if let Some(token) = text("registrytoken") {
        return Ok(Some(Credentials::RegistryToken(token.to_owned())));
    }
    if let (Some(username), Some(password)) = (text("username"), text("password")) {
        return Ok(Some(Credentials::Password { username: username.into(), password: password.into() }));
    }
    let Some(auth) = text("auth") else { return Ok(None) };
    let bad = || {
        Error::invalid(format!("{}: the credentials for {key} cannot be read", path.display()))
            .with_hint(format!("run `fluyt login {}` to write them anew", normalised(key)))
    };
    let plain = String::from_utf8(BASE64.decode(auth).map_err(|_| bad())?).map_err(|_| bad())?;
    let (username, password) = plain.split_once(':').ok_or_else(bad)?;
    let password = password.trim_end_matches('\0').to_owned();
    Ok(Some(Credentials::Password { username: username.to_owned(), password }))
}

fn read(path: &Path) -> Result<Option<Map<String, Value>>> {
    let bytes = match std::fs::read(path) {
        Err(e) if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        other => other.about(|| path.display().to_string())?,
    };
    if bytes.trim_ascii().is_empty() {
        return Ok(None);
    }
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|e| Error::invalid(format!("{}: not a valid configuration", path.display())).with_source(e))
}

/// Keeps credentials for a registry domain, in a helper if one is configured. Returns a warning for the user when
/// they now lie unencrypted in a file.
///
/// # Errors
/// I/O errors; no file to write to; a helper that fails.
pub(crate) fn store(
    files: &CredentialFiles,
    domain: &str,
    credentials: &Credentials,
) -> Result<Option<String>> {
    let key = key_of(domain);
    let (path, _lock) = writable(files)?;
    let mut config = read(&path)?.unwrap_or_default();
    let (entry, warning) = match helper_for(&config, key, domain) {
        Some(helper) => {
            helper.store(key, credentials)?;
            (json!({}), None)
        }
        None => (encode(credentials), Some(unencrypted_warning(&path))),
    };
    let auths = config.entry("auths").or_insert_with(|| json!({}));
    let Some(auths) = auths.as_object_mut() else {
        return Err(Error::invalid(format!("{}: \"auths\" is not an object", path.display())));
    };
    auths.insert(key.to_owned(), entry);
    write(&path, &config)?;
    Ok(warning)
}

fn unencrypted_warning(path: &Path) -> String {
    format!(
        "Your credentials are stored unencrypted in '{}'. Configure a credential helper to remove this warning.",
        path.display()
    )
}

fn encode(credentials: &Credentials) -> Value {
    match credentials {
        Credentials::Password { username, password } => {
            json!({ "auth": BASE64.encode(format!("{username}:{password}")) })
        }
        Credentials::IdentityToken(token) => {
            json!({ "auth": BASE64.encode("<token>:"), "identitytoken": token })
        }
        Credentials::RegistryToken(token) => json!({ "registrytoken": token }),
    }
}

/// Forgets the credentials for a registry domain; false when there were none.
///
/// # Errors
/// I/O errors; a helper that fails.
pub(crate) fn erase(files: &CredentialFiles, domain: &str) -> Result<bool> {
    let key = key_of(domain);
    let mut found = false;
    for path in files.docker.iter().chain(&files.podman) {
        if read(path)?.is_none() {
            continue;
        }
        let _lock = lock(path)?;
        let Some(mut config) = read(path)? else { continue };
        if let Some(helper) = helper_for(&config, key, domain) {
            found |= helper.erase(key)?;
        }
        let Some(auths) = config.get_mut("auths").and_then(Value::as_object_mut) else { continue };
        let before = auths.len();
        auths.retain(|k, _| k != key && normalised(k) != domain);
        if auths.len() < before {
            found = true;
            write(path, &config)?;
        }
    }
    Ok(found)
}

/// The file to write to, its directory made and locked against other writers of ours.
fn writable(files: &CredentialFiles) -> Result<(PathBuf, File)> {
    let Some(path) = files.docker.clone() else {
        return Err(Error::invalid("there is no place to keep credentials")
            .with_hint("set HOME or DOCKER_CONFIG to a directory"));
    };
    let dir = parent(&path);
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).about(|| dir.display().to_string())?;
    let lock = lock(&path)?;
    Ok((path, lock))
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn lock(path: &Path) -> Result<File> {
    let dir = parent(path);
    let file = File::open(dir).about(|| dir.display().to_string())?;
    file.lock().about(|| dir.display().to_string())?;
    Ok(file)
}

fn write(path: &Path, config: &Map<String, Value>) -> Result<()> {
    // A link (dotfiles kept elsewhere) stays a link.
    let path = &std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let temporary = path.with_extension(format!("json.{}.tmp", std::process::id()));
    let about = || temporary.display().to_string();
    let mut text = Vec::new();
    let format = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    serde::Serialize::serialize(config, &mut serde_json::Serializer::with_formatter(&mut text, format))
        .map_err(|e| Error::internal(path.display().to_string()).with_source(e))?;
    let _ = std::fs::remove_file(&temporary);
    let result = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)
        .and_then(|mut file| {
            file.write_all(&text)?;
            file.sync_all()
        })
        .and_then(|()| std::fs::rename(&temporary, path));
    if result.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    result.about(about)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    fn files(dir: &Path) -> CredentialFiles {
        CredentialFiles { docker: Some(dir.join("d/config.json")), podman: vec![dir.join("auth.json")] }
    }

    fn alice() -> Credentials {
        Credentials::Password { username: "alice".into(), password: "pa:ss".into() }
    }

    #[test]
    fn what_is_stored_is_found_and_erased_and_strangers_are_kept() {
        let dir = tempfile::tempdir().expect("a directory");
        let files = files(dir.path());
        let path = dir.path().join("d/config.json");
        store(&files, "reg:5000", &alice()).expect("stored").expect("a warning");
        assert_eq!(std::fs::metadata(&path).expect("there").mode() & 0o777, 0o600);
        std::fs::write(&path, r#"{"zebra":{"a":1},"auths":{"https://other/v1/":{"auth":"YTpi"}}}"#)
            .expect("written");
        store(&files, "docker.io", &alice()).expect("stored");
        let json: Value = serde_json::from_slice(&std::fs::read(&path).expect("read")).expect("JSON");
        assert_eq!(json["zebra"]["a"], 1);
        assert_eq!(json["auths"][DOCKER_IO_KEY]["auth"], BASE64.encode("alice:pa:ss"));
        assert_eq!(find(&files, "docker.io").expect("found"), Some(alice()));
        assert!(find(&files, "other").expect("found").is_some());
        assert!(erase(&files, "docker.io").expect("erased"));
        assert!(!erase(&files, "docker.io").expect("nothing left"));
        assert_eq!(find(&files, "docker.io").expect("read"), None);
        assert_eq!(std::fs::read_dir(dir.path().join("d")).expect("listed").count(), 1);
    }

    #[test]
    fn podman_s_file_is_the_fallback() {
        let dir = tempfile::tempdir().expect("a directory");
        let files = files(dir.path());
        std::fs::write(dir.path().join("auth.json"), r#"{"auths":{"quay.io":{"auth":"YTpi"}}}"#)
            .expect("written");
        let expected = Credentials::Password { username: "a".into(), password: "b".into() };
        assert_eq!(find(&files, "quay.io").expect("found"), Some(expected));
        assert_eq!(find(&files, "other.io").expect("read"), None);
    }

    #[test]
    fn damaged_entries_name_file_and_registry() {
        let dir = tempfile::tempdir().expect("a directory");
        let files = files(dir.path());
        std::fs::write(dir.path().join("auth.json"), r#"{"auths":{"quay.io":{"auth":"%%"}}}"#)
            .expect("written");
        let text = find(&files, "quay.io").expect_err("damaged").to_string();
        assert!(text.contains("auth.json") && text.contains("quay.io"), "{text}");
        std::fs::write(dir.path().join("auth.json"), "[").expect("written");
        assert!(find(&files, "quay.io").expect_err("damaged").to_string().contains("auth.json"));
    }

    #[test]
    fn debug_output_shows_no_secret() {
        assert_eq!(format!("{:?}", alice()), "Password(alice)");
    }
}
