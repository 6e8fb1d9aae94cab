//! Which daemon the command line speaks to: the options before the command, the environment, Docker's contexts.
//!
//! Docker's order: `--context`; `--host`; `DOCKER_HOST`; `DOCKER_CONTEXT`; `currentContext` of `config.json`. When none
//! of them names a daemon, this process is the engine.

pub mod config;
pub mod store;

use std::path::{Path, PathBuf};

use fluyt_docker_api::remote::proxy::Proxy;
use fluyt_docker_api::remote::tls::{Material, files_in};
use fluyt_docker_api::remote::{Client, Dialer, Host, Remote};
use fluyt_model::{Error, Result};

use store::{DEFAULT, Store};

/// What the options before the command say about the daemon.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// `-H`.
    pub host: Option<String>,
    /// `-c`.
    pub context: Option<String>,
    /// `--config`.
    pub config: Option<PathBuf>,
    /// `--tls`.
    pub tls: Option<bool>,
    /// `--tlsverify`.
    pub tls_verify: Option<bool>,
    /// `--tlscacert`.
    pub ca: Option<PathBuf>,
    /// `--tlscert`.
    pub cert: Option<PathBuf>,
    /// `--tlskey`.
    pub key: Option<PathBuf>,
}

/// Where a daemon is and how it is spoken to.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Where.
    pub host: Host,
    /// For TCP.
    pub tls: Option<Material>,
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|v| !v.is_empty())
}

impl Options {
    /// Docker's configuration directory, if there can be one.
    pub fn config_dir(&self) -> Option<PathBuf> {
        self.config
            .clone()
            .or_else(|| variable("DOCKER_CONFIG").map(PathBuf::from))
            .or_else(|| variable("HOME").map(|home| Path::new(&home).join(".docker")))
    }

    /// The store of contexts.
    ///
    /// # Errors
    /// There is no configuration directory.
    pub fn store(&self) -> Result<Store> {
        self.config_dir().map(|dir| Store::new(&dir)).ok_or_else(no_directory)
    }

    /// The context that is used; `default` stands for options and environment.
    ///
    /// # Errors
    /// `--host` and `--context` at once; a `config.json` that cannot be read.
    pub fn name(&self) -> Result<String> {
        if self.host.is_some() && self.context.is_some() {
            return Err(Error::invalid("conflicting options: cannot specify both --host and --context"));
        }
        if let Some(name) = &self.context {
            return Ok(name.clone());
        }
        if self.host.is_some() || variable("DOCKER_HOST").is_some() {
            return Ok(DEFAULT.to_owned());
        }
        if let Some(name) = variable("DOCKER_CONTEXT") {
            return Ok(name);
        }
        let current = match self.config_dir() {
            Some(dir) => config::current_context(&dir)?,
            None => None,
        };
        Ok(current.unwrap_or_else(|| DEFAULT.to_owned()))
    }

    /// The daemon that options and environment name, if they name one.
    ///
    /// # Errors
    /// A malformed host; certificates that cannot be read.
    pub fn default_endpoint(&self) -> Result<Option<Endpoint>> {
        let Some(text) = self.host.clone().or_else(|| variable("DOCKER_HOST")) else { return Ok(None) };
        let verify = self.tls_verify.unwrap_or_else(|| variable("DOCKER_TLS_VERIFY").is_some());
        let wanted = self.tls.unwrap_or_else(|| variable("DOCKER_TLS").is_some())
            || self.tls_verify.is_some()
            || verify;
        let host = Host::parse(&text, wanted)?;
        let tls =
            if wanted && matches!(host, Host::Tcp { .. }) { Some(self.material(verify)?) } else { None };
        Ok(Some(Endpoint { host, tls }))
    }

    fn material(&self, verify: bool) -> Result<Material> {
        let dir = variable("DOCKER_CERT_PATH").map(PathBuf::from).or_else(|| self.config_dir());
        let [ca, cert, key] = dir.map(|dir| files_in(&dir).map(Some)).unwrap_or_default();
        // Certificate and key may be missing where nobody named them; the authority only where it is not asked.
        let own = |given: &Option<PathBuf>, usual: Option<PathBuf>| {
            given.clone().or_else(|| usual.filter(|path| path.exists()))
        };
        let ca = self.ca.clone().or_else(|| ca.filter(|path| verify || path.exists()));
        let (cert, key) = (own(&self.cert, cert), own(&self.key, key));
        Material::read(ca.as_deref(), cert.as_deref(), key.as_deref(), !verify)
    }

    /// The daemon that is spoken to; `None`: this process is the engine.
    ///
    /// # Errors
    /// An unknown context, a malformed host, certificates that cannot be read.
    pub fn endpoint(&self) -> Result<Option<Endpoint>> {
        let name = self.name()?;
        if name == DEFAULT {
            return self.default_endpoint();
        }
        let store = self.store()?;
        let meta = store.get(&name)?;
        let (host, skip_verify) = meta.endpoint()?;
        if host.is_empty() {
            return Ok(None);
        }
        let tls = store.material(&name, skip_verify)?;
        let host = Host::parse(host, tls.is_some())?;
        let tls = tls.filter(|_| matches!(host, Host::Tcp { .. }));
        Ok(Some(Endpoint { host, tls }))
    }

    /// A client of the daemon at an endpoint.
    ///
    /// # Errors
    /// Certificates that do not fit together, a malformed `DOCKER_API_VERSION`.
    pub fn client(&self, endpoint: &Endpoint) -> Result<Client> {
        let tls = endpoint.tls.as_ref().map(Material::config).transpose()?;
        let headers = match self.config_dir() {
            Some(dir) => config::http_headers(&dir)?,
            None => Vec::new(),
        };
        let proxy = match &endpoint.host {
            Host::Tcp { machine, port } => Proxy::on_the_way(machine, *port, tls.is_some(), &variable)?,
            _ => None,
        };
        let dialer = Dialer::new(endpoint.host.clone(), tls).through(proxy);
        Client::new(dialer, variable("DOCKER_API_VERSION").as_deref(), headers)
    }

    /// The daemon's operations, if one is named.
    ///
    /// # Errors
    /// As [`Options::endpoint`] and [`Options::client`].
    pub fn remote(&self) -> Result<Option<Remote>> {
        match self.endpoint()? {
            Some(endpoint) => Ok(Some(Remote::new(self.client(&endpoint)?))),
            None => Ok(None),
        }
    }
}

/// There is no place for Docker's configuration.
pub fn no_directory() -> Error {
    Error::invalid("there is no configuration directory")
        .with_hint("set HOME or DOCKER_CONFIG to a directory")
}
