//! How registries are reached: which are insecure, which have mirrors, time limits, parallelism.
//!
//! Two files of Docker's shape may say so (`insecure-registries`, `registry-mirrors`, …); the command line adds to
//! them. Nothing here touches the network.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use fluyt_model::error::IoContext;
use fluyt_model::reference::DEFAULT_DOMAIN;
use fluyt_model::{Error, Result};
use fluyt_trust::Policy;
use serde::Deserialize;

use crate::hosts_toml::Rules;
use crate::registries_conf::RegistriesConf;

/// Everything that a [`crate::Registry`] needs to know beforehand.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where credentials are read and written.
    pub credentials: CredentialFiles,
    /// Hosts (`HOST`, `HOST:PORT`) or IPv4 networks (`10.0.0.0/8`) whose certificates are not verified and that
    /// may speak plain http; [`Settings::EVERYBODY`] stands for all. Loopback addresses always are.
    pub insecure: Vec<String>,
    /// Base URLs to try before the registry itself, by registry domain. Used for pulling only.
    pub mirrors: BTreeMap<String, Vec<String>>,
    /// Containers' `registries.conf`: where names are fetched from in truth.
    pub registries: RegistriesConf,
    /// Which images may be used; `None`: all.
    pub policy: Option<Arc<Policy>>,
    /// How single hosts are spoken to.
    pub rules: BTreeMap<String, Rules>,
    /// Directories with `HOST[:PORT]/{*.crt,*.cert,*.key}` or `HOST[:PORT]/hosts.toml`; the first that has the host counts.
    pub certificate_dirs: Vec<PathBuf>,
    /// A directory with `{*.crt,*.cert,*.key}` for whatever host is asked, instead of those.
    pub certificates: Option<PathBuf>,
    /// A PEM file with the certificate authorities of the system; without it a built-in list is used.
    pub system_authorities: Vec<PathBuf>,
    /// Blobs downloaded at once.
    pub downloads: usize,
    /// Connections that one large blob may be fetched over where a single one is slow; 1: never more than one.
    pub connections: usize,
    /// Bytes that a blob has to lack for that.
    pub split_from: u64,
    /// How long the first connection goes on alone.
    pub split_after: Duration,
    /// Blobs uploaded at once.
    pub uploads: usize,
    /// How often a request or a transfer that makes no progress is tried.
    pub attempts: u32,
    /// Time for resolving a name and for connecting, each.
    pub connect_timeout: Duration,
    /// Time without a byte from the registry after which a request fails.
    pub read_timeout: Duration,
    /// The first pause before trying again; it doubles each time.
    pub retry_pause: Duration,
    /// The longest pause that a registry may ask for before the operation fails instead.
    pub longest_pause: Duration,
    /// Whether the proxies that the environment names are used (never for loopback addresses).
    pub proxy_from_env: bool,
}

/// The files that credentials come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CredentialFiles {
    /// Docker's `config.json`: read first, and written.
    pub docker: Option<PathBuf>,
    /// Podman's `auth.json` files: read when the first has nothing for a registry.
    pub podman: Vec<PathBuf>,
}

impl CredentialFiles {
    /// The places that Docker and Podman use, from the environment: `DOCKER_CONFIG`, `HOME`,
    /// `REGISTRY_AUTH_FILE`, `XDG_RUNTIME_DIR`, `XDG_CONFIG_HOME`.
    #[must_use]
    pub fn from_env(env: &dyn Fn(&str) -> Option<std::ffi::OsString>) -> Self {
        let dir = |name: &str| env(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let home = dir("HOME");
        let docker = dir("DOCKER_CONFIG").or_else(|| home.as_ref().map(|h| h.join(".docker")));
        let mut podman: Vec<PathBuf> = dir("REGISTRY_AUTH_FILE").into_iter().collect();
        if podman.is_empty() {
            let config = dir("XDG_CONFIG_HOME").or_else(|| home.map(|h| h.join(".config")));
            let bases = dir("XDG_RUNTIME_DIR").into_iter().chain(config);
            podman.extend(bases.map(|d| d.join("containers/auth.json")));
        }
        Self { docker: docker.map(|d| d.join("config.json")), podman }
    }
}

impl Default for Settings {
    fn default() -> Self {
        let paths = |list: &[&str]| list.iter().map(PathBuf::from).collect();
        Self {
            credentials: CredentialFiles::default(),
            insecure: Vec::new(),
            mirrors: BTreeMap::new(),
            registries: RegistriesConf::default(),
            policy: None,
            rules: BTreeMap::new(),
            certificate_dirs: paths(&[
                "/etc/fluyt/certs.d",
                "/etc/docker/certs.d",
                "/etc/containers/certs.d",
                "/etc/containerd/certs.d",
            ]),
            certificates: None,
            system_authorities: paths(&[
                "/etc/ssl/certs/ca-certificates.crt",
                "/etc/pki/tls/certs/ca-bundle.crt",
                "/etc/ssl/ca-bundle.pem",
                "/etc/ssl/cert.pem",
            ]),
            downloads: 3,
            connections: 4,
            split_from: 32 << 20,
            split_after: Duration::from_millis(700),
            uploads: 5,
            attempts: 5,
            connect_timeout: Duration::from_secs(15),
            read_timeout: Duration::from_secs(30),
            retry_pause: Duration::from_millis(500),
            longest_pause: Duration::from_secs(60),
            proxy_from_env: true,
        }
    }
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "kebab-case", default)]
struct File {
    insecure_registries: Vec<String>,
    registry_mirrors: Mirrors,
    max_concurrent_downloads: Option<usize>,
    max_concurrent_uploads: Option<usize>,
    max_connections_per_blob: Option<usize>,
    max_download_attempts: Option<u32>,
}

/// Docker's list (mirrors of its own registry) or an object by registry.
#[derive(Deserialize)]
#[serde(untagged)]
enum Mirrors {
    OfDefault(Vec<String>),
    ByDomain(BTreeMap<String, Vec<String>>),
}

impl Default for Mirrors {
    fn default() -> Self {
        Self::OfDefault(Vec::new())
    }
}

impl Settings {
    /// In [`Settings::insecure`]: every host.
    pub const EVERYBODY: &str = "*";

    /// Adds what the configuration file `path` says; a file that is not there says nothing.
    ///
    /// # Errors
    /// I/O errors; `Kind::Invalid` when it is not JSON of the expected shape.
    pub fn read_file(&mut self, path: &Path) -> Result<()> {
        let text = match std::fs::read(path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            other => other.about(|| path.display().to_string())?,
        };
        let file: File = serde_json::from_slice(&text).map_err(|e| {
            Error::invalid(format!("{}: not a valid configuration", path.display())).with_source(e)
        })?;
        self.insecure.extend(file.insecure_registries);
        match file.registry_mirrors {
            Mirrors::OfDefault(list) => {
                self.mirrors.entry(DEFAULT_DOMAIN.to_owned()).or_default().extend(list);
            }
            Mirrors::ByDomain(map) => {
                for (domain, list) in map {
                    self.mirrors.entry(domain).or_default().extend(list);
                }
            }
        }
        self.downloads = file.max_concurrent_downloads.unwrap_or(self.downloads).clamp(1, 64);
        self.connections = file.max_connections_per_blob.unwrap_or(self.connections).clamp(1, 16);
        self.uploads = file.max_concurrent_uploads.unwrap_or(self.uploads).clamp(1, 64);
        self.attempts = file.max_download_attempts.unwrap_or(self.attempts).clamp(1, 100);
        Ok(())
    }

    /// Reads containers' configuration: `$CONTAINERS_REGISTRIES_CONF`, else `/etc/fluyt/registries.conf`, else
    /// `/etc/containers/registries.conf`, each with its `.d` directory. Short names are taken from all but the last, which
    /// is there on many machines for Podman, where they mean something else than for Docker.
    ///
    /// # Errors
    /// I/O errors; `Kind::Invalid`.
    pub fn read_registries_conf(&mut self, env: &dyn Fn(&str) -> Option<std::ffi::OsString>) -> Result<()> {
        let given = env("CONTAINERS_REGISTRIES_CONF").filter(|v| !v.is_empty()).map(PathBuf::from);
        let own = PathBuf::from("/etc/fluyt/registries.conf");
        let (path, aliases) = match given {
            Some(path) => (path, true),
            None if own.exists() || Path::new("/etc/fluyt/registries.conf.d").is_dir() => (own, true),
            None => (PathBuf::from("/etc/containers/registries.conf"), false),
        };
        self.registries.read(&path, aliases)?;
        let insecure: Vec<String> = self.registries.insecure_hosts().map(str::to_owned).collect();
        self.insecure.extend(insecure);
        Ok(())
    }

    /// Whether certificates of `host` (`NAME[:PORT]`) need not be valid and http is allowed.
    pub(crate) fn is_insecure(&self, host: &str) -> bool {
        let name = host_name(host);
        is_loopback(host)
            || self.insecure.iter().any(|rule| {
                let rule = rule.trim_start_matches("http://").trim_start_matches("https://");
                rule == Self::EVERYBODY || rule == host || rule == name || in_network(name, rule)
            })
    }
}

/// The host without its port.
pub(crate) fn host_name(host: &str) -> &str {
    if let Some(end) = host.find(']') {
        return host[..=end].trim_start_matches('[').trim_end_matches(']');
    }
    host.split_once(':').map_or(host, |(name, _)| name)
}

/// `localhost`, 127.0.0.0/8 and ::1.
pub(crate) fn is_loopback(host: &str) -> bool {
    let name = host_name(host);
    name == "localhost" || name == "::1" || name.parse::<Ipv4Addr>().is_ok_and(|ip| ip.is_loopback())
}

fn in_network(name: &str, rule: &str) -> bool {
    let parse = || {
        let (network, bits) = rule.split_once('/')?;
        let (network, bits): (Ipv4Addr, u32) = (network.parse().ok()?, bits.parse().ok()?);
        let mask = u32::MAX.checked_shl(32_u32.checked_sub(bits)?).unwrap_or(0);
        let ip: Ipv4Addr = name.parse().ok()?;
        Some(u32::from(ip) & mask == u32::from(network) & mask)
    };
    parse().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_and_listed_hosts_are_insecure() {
        let settings =
            Settings { insecure: vec!["reg:5000".into(), "10.0.0.0/8".into()], ..Settings::default() };
        for host in ["localhost", "localhost:5000", "127.9.9.9:1", "[::1]:5000", "reg:5000", "10.1.2.3:80"] {
            assert!(settings.is_insecure(host), "{host}");
        }
        for host in ["reg:5001", "docker.io", "11.0.0.1", "localhost.example.org"] {
            assert!(!settings.is_insecure(host), "{host}");
        }
    }

    #[test]
    fn a_file_of_docker_s_shape_is_read() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("daemon.json");
        let mut settings = Settings::default();
        settings.read_file(&path).expect("a missing file says nothing");
        std::fs::write(
            &path,
            r#"{"insecure-registries":["r:1"],"registry-mirrors":["https://m"],"debug":true}"#,
        )
        .expect("written");
        settings.read_file(&path).expect("read");
        std::fs::write(
            &path,
            r#"{"registry-mirrors":{"quay.io":["https://q"]},"max-concurrent-downloads":9}"#,
        )
        .expect("written");
        settings.read_file(&path).expect("read");
        assert_eq!(settings.insecure, ["r:1"]);
        assert_eq!(settings.mirrors[DEFAULT_DOMAIN], ["https://m"]);
        assert_eq!((settings.mirrors["quay.io"].len(), settings.downloads), (1, 9));
        std::fs::write(&path, "{").expect("written");
        assert!(settings.read_file(&path).is_err());
    }

    #[test]
    fn credential_files_come_from_the_environment() {
        let env = |name: &str| match name {
            "HOME" => Some("/h".into()),
            "XDG_RUNTIME_DIR" => Some("/run/u".into()),
            _ => None,
        };
        let files = CredentialFiles::from_env(&env);
        assert_eq!(files.docker, Some("/h/.docker/config.json".into()));
        assert_eq!(
            files.podman,
            [PathBuf::from("/run/u/containers/auth.json"), PathBuf::from("/h/.config/containers/auth.json")]
        );
    }
}
