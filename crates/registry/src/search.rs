//! Search: a hub's `/v1/search`, which our own registry has too; the catalog of registries that have no search.

use fluyt_model::{Error, Kind, Result};
use serde::Deserialize;

use crate::http::Ask;
use crate::registry::Registry;
use crate::remote::{Remote, Scope};

/// The longest answer.
const MAX_ANSWER: u64 = 16 << 20;
/// The host that Docker's hub searches on.
const HUB_SEARCH: &str = "index.docker.io";

/// A repository that was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct FoundRepository {
    /// Its name, with the registry's before it unless that is Docker's hub.
    pub name: String,
    /// What its owner says of it.
    pub description: String,
    /// How many people like it.
    pub star_count: i64,
    /// Whether the hub itself keeps it.
    pub is_official: bool,
    /// Whether the hub builds it.
    pub is_automated: bool,
}

#[derive(Deserialize)]
struct Results {
    #[serde(default)]
    results: Vec<FoundRepository>,
}

#[derive(Deserialize)]
struct Catalog {
    #[serde(default)]
    repositories: Vec<String>,
}

impl Registry {
    /// Repositories that `term` finds, at most `limit`. A term that begins with a registry's name (`HOST/TERM`) is
    /// searched for there, others on Docker's hub.
    ///
    /// # Errors
    /// `Kind::Unsupported` when the registry can neither search nor list; what it says otherwise.
    pub fn search(&self, term: &str, limit: u32) -> Result<Vec<FoundRepository>> {
        let (host, rest) = split(term);
        let remote = self.remote(host.unwrap_or(HUB_SEARCH))?;
        let url = format!("{}/v1/search?q={}&n={limit}", remote.base, crate::server::escape(rest));
        let what = format!("search for {term:?}");
        let answer = remote.ask(None, || Ask::get(url.clone(), what.clone()));
        let mut found = match answer {
            Ok(answer) => {
                let bytes = answer.bytes(MAX_ANSWER, &what)?;
                serde_json::from_slice::<Results>(&bytes)
                    .map_err(|e| {
                        Error::new(
                            Kind::Unavailable,
                            format!("registry {}: {what}: not a search's answer", remote.host()),
                        )
                        .with_source(e)
                    })?
                    .results
            }
            Err(e)
                if host.is_some()
                    && matches!(e.kind(), Kind::NotFound | Kind::Unsupported | Kind::Invalid) =>
            {
                in_catalog(&remote, rest)?
            }
            Err(e) => return Err(e),
        };
        found.truncate(limit as usize);
        if let Some(host) = host {
            for repository in &mut found {
                repository.name = format!("{host}/{}", repository.name);
            }
        }
        Ok(found)
    }
}

/// The first component is a registry's name if it could be no user's.
fn split(term: &str) -> (Option<&str>, &str) {
    match term.split_once('/') {
        Some((host, rest)) if host.contains(['.', ':']) || host == "localhost" => (Some(host), rest),
        _ => (None, term),
    }
}

/// What of the catalog contains `text`.
fn in_catalog(remote: &Remote, text: &str) -> Result<Vec<FoundRepository>> {
    let scope = Scope("registry:catalog:*".to_owned());
    let url = remote.url("_catalog?n=1000");
    let what = "its list of repositories";
    let answer = remote.ask(Some(&scope), || Ask::get(url.clone(), what)).map_err(|e| {
        let text = format!("registry {} can neither search nor list its repositories", remote.host());
        Error::unsupported(text).with_hint("name the repository in full").with_source(e)
    })?;
    let bytes = answer.bytes(MAX_ANSWER, what)?;
    let catalog: Catalog = serde_json::from_slice(&bytes).map_err(|e| {
        Error::new(Kind::Unavailable, format!("registry {}: {what}", remote.host())).with_source(e)
    })?;
    let fits = catalog.repositories.into_iter().filter(|name| name.contains(text));
    Ok(fits.map(|name| FoundRepository { name, ..FoundRepository::default() }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_before_the_term_is_found() {
        assert_eq!(split("busybox"), (None, "busybox"));
        assert_eq!(split("library/busybox"), (None, "library/busybox"));
        assert_eq!(split("localhost:5000/busy"), (Some("localhost:5000"), "busy"));
        assert_eq!(split("quay.io/a/b"), (Some("quay.io"), "a/b"));
        assert_eq!(split("localhost/"), (Some("localhost"), ""));
    }
}
