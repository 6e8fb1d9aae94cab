//! The configuration file of a registry, JSON. Every part may be left out; unknown keys are refused, as a right
//! that is misspelt must not be silently none.

use std::path::{Path, PathBuf};
use std::time::Duration;

use fluyt_model::error::IoContext;
use fluyt_model::{Error, Result};
use serde::Deserialize;

use super::gc::CollectOptions;
use super::notify::NotificationsConfig;

/// The whole file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub(crate) struct Config {
    /// Users and their bcrypt hashes.
    pub htpasswd: Option<PathBuf>,
    /// Tokens of our own instead of passwords with every request.
    pub token: Option<TokenConfig>,
    /// Who may do what. Without rules every user of the password file may do everything.
    pub rights: Option<Vec<Rule>>,
    /// A registry whose content is cached.
    pub proxy: Option<ProxyConfig>,
    /// Whether manifests are taken whose blobs or children are not (all) here: parts of indexes, for example.
    pub sparse: bool,
    /// Collection while the registry serves.
    pub gc: GcConfig,
    /// Who is told of what is pushed, pulled and deleted.
    pub notifications: NotificationsConfig,
    /// The longest manifest that is taken, in bytes; 4 MiB without it.
    pub max_manifest_size: Option<u64>,
    /// Connections served at once; more wait.
    pub max_connections: Option<usize>,
}

/// See [`Config::token`].
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub(crate) struct TokenConfig {
    /// What the tokens are for.
    pub service: String,
    /// How long they are good for, in seconds.
    pub lifetime: u64,
    /// Where clients get them; without it `/token` of the address they came by.
    pub realm: Option<String>,
}

impl Default for TokenConfig {
    fn default() -> Self {
        Self { service: "fluyt-registry".to_owned(), lifetime: 300, realm: None }
    }
}

/// A right. See `auth::rights`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rule {
    /// Names, `*` for everybody who has logged in, `anonymous` for everybody.
    pub users: Vec<String>,
    /// Names of repositories; `*` at the end stands for anything, `{user}` for the user's name.
    pub repositories: Vec<String>,
    /// `pull`, `push`, `delete` or `*`.
    pub actions: Vec<String>,
}

/// See [`Config::proxy`].
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub(crate) struct ProxyConfig {
    /// Its base URL.
    pub url: String,
    /// The user there.
    pub username: Option<String>,
    /// The password there.
    pub password: Option<String>,
    /// For how many seconds a tag is believed before the upstream is asked again.
    pub ttl: u64,
    /// Bytes of content that are kept.
    pub max_size: Option<u64>,
    /// Seconds after which what nobody asks for goes.
    pub max_age: Option<u64>,
}

impl Default for ProxyConfig {
    fn default() -> Self {
        Self { url: String::new(), username: None, password: None, ttl: 60, max_size: None, max_age: None }
    }
}

/// See [`Config::gc`].
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub(crate) struct GcConfig {
    /// Seconds between collections; 0 for none.
    pub interval: u64,
    /// Seconds that something must be unused.
    pub grace: u64,
    /// Whether manifests without a tag go too.
    pub untagged: bool,
}

impl Default for GcConfig {
    fn default() -> Self {
        Self { interval: 6 * 3600, grace: 24 * 3600, untagged: false }
    }
}

impl GcConfig {
    /// How often to collect, and what.
    pub fn schedule(&self) -> Option<(Duration, CollectOptions)> {
        let options = CollectOptions {
            grace: Duration::from_secs(self.grace),
            untagged: self.untagged,
            dry_run: false,
        };
        (self.interval > 0).then(|| (Duration::from_secs(self.interval), options))
    }
}

impl Config {
    /// Reads the file.
    ///
    /// # Errors
    /// I/O errors; `Kind::Invalid` with the place of what is wrong.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).about(|| path.display().to_string())?;
        let mut config: Self = serde_json::from_slice(&bytes).map_err(|e| {
            Error::invalid(format!("{}: not a valid configuration of a registry", path.display()))
                .with_source(e)
        })?;
        // A path in the file is meant from where the file is.
        if let (Some(file), Some(dir)) = (&config.htpasswd, path.parent()) {
            config.htpasswd = Some(dir.join(file));
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_and_misspellings_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("registry.json");
        std::fs::write(
            &path,
            r#"{"htpasswd": "users", "token": {"lifetime": 60}, "gc": {"interval": 0},
                "rights": [{"users": ["ann"], "repositories": ["team/*"], "actions": ["*"]}]}"#,
        )
        .unwrap();
        let config = Config::read(&path).unwrap();
        assert_eq!(config.htpasswd, Some(dir.path().join("users")));
        assert_eq!(config.token.unwrap().service, "fluyt-registry");
        assert!(config.gc.schedule().is_none());
        std::fs::write(&path, r#"{"rigths": []}"#).unwrap();
        assert!(Config::read(&path).unwrap_err().chain().contains("rigths"));
    }
}
