//! Images on their way from and to registries: pull and push over an engine, with the settings of this machine.

mod pull;
mod push;

use std::path::Path;

use base64::Engine as _;
use fluyt_engine::Engine;
use fluyt_model::reference::Reference;
use fluyt_model::{Error, Result};
use fluyt_registry::{CredentialFiles, Credentials, Registry, Settings};

use crate::api::AuthConfig;
use crate::policy;

pub use pull::{in_full, pull};
pub use push::{push, push_built};

/// How registries are reached: credentials from where Docker and Podman keep them, the machine's settings.
///
/// # Errors
/// A settings file that is not valid.
pub fn settings() -> Result<Settings> {
    let mut settings = Settings {
        credentials: CredentialFiles::from_env(&|key| std::env::var_os(key)),
        ..Settings::default()
    };
    for path in ["/etc/docker/daemon.json", "/etc/fluyt/registries.json"] {
        settings.read_file(Path::new(path))?;
    }
    settings.read_registries_conf(&|key| std::env::var_os(key))?;
    Ok(settings)
}

/// The client of all registries, with the policy of a flag or of this machine.
///
/// # Errors
/// A settings file or a policy that is not valid.
pub fn client(verify: bool, policy: Option<&str>) -> Result<Registry> {
    client_by(verify, policy, &|_| {})
}

/// The same with settings that `adjust` changes.
///
/// # Errors
/// As [`client`].
pub fn client_by(verify: bool, policy: Option<&str>, adjust: &dyn Fn(&mut Settings)) -> Result<Registry> {
    let mut settings = settings()?;
    adjust(&mut settings);
    settings.policy = policy::policy(policy)?;
    if !verify {
        settings.insecure.push(Settings::EVERYBODY.to_owned());
    }
    Ok(Registry::new(settings))
}

/// Every tag that this store has of a repository.
///
/// # Errors
/// `NotFound` if there is none.
pub fn local_tags(engine: &Engine, repository: &Reference) -> Result<Vec<Reference>> {
    let mut found = Vec::new();
    for image in engine.images().images()? {
        found
            .extend(image.parsed_references().filter(|r| r.name() == repository.name() && r.tag().is_some()));
    }
    if found.is_empty() {
        return Err(Error::not_found(format!(
            "An image does not exist locally with the tag: {}",
            repository.familiar_name()
        )));
    }
    found.sort();
    Ok(found)
}

/// What a client sent to prove who it is, and the registry it is for.
///
/// # Errors
/// `Invalid` for an `auth` that cannot be read.
pub fn credentials(given: &AuthConfig) -> Result<(String, Credentials)> {
    let server = if given.server_address.is_empty() { "docker.io" } else { &given.server_address };
    let credentials = if !given.registry_token.is_empty() {
        Credentials::RegistryToken(given.registry_token.clone())
    } else if !given.identity_token.is_empty() {
        Credentials::IdentityToken(given.identity_token.clone())
    } else if given.username.is_empty() && !given.auth.is_empty() {
        let bytes = base64::engine::general_purpose::STANDARD.decode(given.auth.trim());
        let text = bytes.ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let pair = text.as_deref().and_then(|text| text.split_once(':'));
        let (username, password) =
            pair.ok_or_else(|| Error::invalid("the credentials are not base64 of NAME:PASSWORD"))?;
        Credentials::Password { username: username.to_owned(), password: password.to_owned() }
    } else {
        Credentials::Password { username: given.username.clone(), password: given.password.clone() }
    };
    Ok((server.to_owned(), credentials))
}

/// The client of all registries as [`client`], with what somebody sent for the registry `domain`. Where somebody else is
/// served than the user of this process, the credentials that this user keeps are none of theirs: without `own` they are
/// not looked at.
///
/// # Errors
/// As [`client`] and [`credentials`].
pub fn client_for(
    domain: &str,
    given: Option<&AuthConfig>,
    policy: Option<&str>,
    own: bool,
) -> Result<Registry> {
    let registry = client_by(true, policy, &|settings| {
        if !own {
            settings.credentials = CredentialFiles::default();
        }
    })?;
    if let Some(given) = given.filter(|given| **given != AuthConfig::default()) {
        let (_, credentials) = credentials(given)?;
        if credentials != (Credentials::Password { username: String::new(), password: String::new() }) {
            registry.use_credentials(domain, credentials);
        }
    }
    Ok(registry)
}
