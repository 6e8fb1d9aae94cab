//! The way in: one [`Registry`] for all registries, which keeps connections and tokens while it lives.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use fluyt_model::reference::{DEFAULT_DOMAIN, Reference};
use fluyt_model::{Error, Kind, Result};
use serde::Deserialize;

use crate::auth::percent;
use crate::config_file::{self, Credentials};
use crate::hosts_toml;
use crate::http::{Ask, join};
use crate::places;
use crate::remote::{Remote, Scope};
use crate::settings::Settings;

/// The host that serves Docker's registry.
const DOCKER_IO_HOST: &str = "registry-1.docker.io";
/// Tags asked for in one request, and requests made at most.
const TAG_PAGE: usize = 1000;
const MAX_TAG_PAGES: usize = 1000;
/// No page of tags is longer.
const MAX_TAG_DOCUMENT: u64 = 16 << 20;

/// A client of all registries. Usable from several threads.
#[derive(Debug)]
pub struct Registry {
    pub(crate) settings: Settings,
    remotes: Mutex<HashMap<String, Arc<Remote>>>,
    given: Mutex<HashMap<String, Credentials>>,
}

#[derive(Deserialize)]
struct Tags {
    tags: Option<Vec<String>>,
}

impl Registry {
    /// A client. Nothing is read or contacted yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self { settings, remotes: Mutex::default(), given: Mutex::default() }
    }

    /// Uses these credentials for a registry domain instead of those kept in files.
    pub fn use_credentials(&self, domain: &str, credentials: Credentials) {
        self.given.lock().unwrap_or_else(PoisonError::into_inner).insert(domain.to_owned(), credentials);
        self.remotes.lock().unwrap_or_else(PoisonError::into_inner).remove(domain);
    }

    /// Credentials that were given for a domain.
    pub(crate) fn given(&self, domain: &str) -> Option<Credentials> {
        self.given.lock().unwrap_or_else(PoisonError::into_inner).get(domain).cloned()
    }

    /// The registry of a domain, contacted at the first use.
    pub(crate) fn remote(&self, domain: &str) -> Result<Arc<Remote>> {
        let mut remotes = self.remotes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(remote) = remotes.get(domain) {
            return Ok(Arc::clone(remote));
        }
        let server =
            hosts_toml::find(&self.settings.certificate_dirs, domain)?.and_then(|hosts| hosts.server);
        let remote = if let Some(host) = server {
            places::connect(self, &host, domain)?
        } else {
            let credentials = match self.given(domain) {
                Some(given) => Some(given),
                None => config_file::find(&self.settings.credentials, domain)?,
            };
            Remote::connect(&self.settings, host_of_domain(domain), credentials)?
        };
        let remote = Arc::new(remote);
        remotes.insert(domain.to_owned(), Arc::clone(&remote));
        Ok(remote)
    }

    /// All tags of a repository, sorted as the registry sorts them. A mirror that answers is believed.
    ///
    /// # Errors
    /// What the registry says; `Kind::NotFound` for a repository that it does not have.
    pub fn tags(&self, reference: &Reference) -> Result<Vec<String>> {
        let mut last = None;
        for place in self.places(reference)? {
            match place.remote(self).and_then(|remote| self.tags_at(&remote, &place.reference)) {
                Ok(tags) => return Ok(tags),
                Err(e) => last = Some(e),
            }
        }
        // The last one is the registry itself, whose word counts.
        Err(last.unwrap_or_else(|| Error::internal(format!("no place for {reference}"))))
    }

    fn tags_at(&self, remote: &Remote, reference: &Reference) -> Result<Vec<String>> {
        let scope = Scope::pull(reference.path());
        let what = format!("tags of {}", reference.familiar_name());
        let mut url = remote.url(&format!("{}/tags/list?n={TAG_PAGE}", reference.path()));
        let mut all = Vec::new();
        for _ in 0..MAX_TAG_PAGES {
            let answer = remote.ask(Some(&scope), || Ask::get(url.clone(), what.clone()))?;
            let next = answer.header("link").and_then(next_link).map(|l| join(&answer.url, l));
            let bytes = answer.bytes(MAX_TAG_DOCUMENT, &what)?;
            let page: Tags = serde_json::from_slice(&bytes).map_err(|e| {
                let text = format!("registry {}: {what}: the answer cannot be read", remote.host());
                Error::new(Kind::Unavailable, text).with_source(e)
            })?;
            let page = page.tags.unwrap_or_default();
            let last = page.last().cloned();
            all.extend(page);
            // Pages of another host would get our token there.
            match (next, last) {
                (Some(next), Some(_)) if next.starts_with(&remote.base) => url = next,
                (Some(_), Some(last)) => {
                    let path = reference.path();
                    url = remote.url(&format!("{path}/tags/list?n={TAG_PAGE}&last={}", percent(&last)));
                }
                _ => return Ok(all),
            }
        }
        Err(Error::new(Kind::Unavailable, format!("registry {}: {what} do not end", remote.host())))
    }
}

/// The host that serves a domain.
pub(crate) fn host_of_domain(domain: &str) -> &str {
    if domain == DEFAULT_DOMAIN { DOCKER_IO_HOST } else { domain }
}

/// The target of `<URL>; rel="next"`.
pub(crate) fn next_link(header: &str) -> Option<&str> {
    let (url, rest) = header.trim().strip_prefix('<')?.split_once('>')?;
    rest.replace('"', "").contains("rel=next").then_some(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_to_next_pages_are_read() {
        assert_eq!(
            next_link(r#"</v2/a/tags/list?last=x&n=2>; rel="next""#),
            Some("/v2/a/tags/list?last=x&n=2")
        );
        assert_eq!(next_link("<x>; rel=prev"), None);
        assert_eq!(host_of_domain("docker.io"), "registry-1.docker.io");
    }
}
