//! Images on their way from and to registries: pull and push over an engine, with the settings of this machine.

mod pull;
mod push;

use std::path::Path;

use fluyt_engine::Engine;
use fluyt_model::reference::Reference;
use fluyt_model::{Error, Result};
use fluyt_registry::{CredentialFiles, Registry, Settings};

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
    let mut settings = settings()?;
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
