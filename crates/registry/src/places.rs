//! Where a name is fetched from: mirrors in their order, then the registry itself.
//!
//! The order: mirrors of the JSON settings (`registry-mirrors`), those of `registries.conf`, those of `hosts.toml`, the
//! registry itself (`location` of `registries.conf`, `server` of `hosts.toml`).

use std::sync::Arc;

use fluyt_model::Result;
use fluyt_model::reference::Reference;

use crate::config_file;
use crate::hosts_toml::{self, Host};
use crate::http::host_of;
use crate::registry::{Registry, host_of_domain};
use crate::remote::Remote;

/// One place that may have what a reference names.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// What is asked for there.
    pub reference: Reference,
    way: Way,
}

#[derive(Clone, Debug)]
enum Way {
    /// A mirror of the JSON settings: an URL or a host.
    Url(String),
    /// A registry as any other.
    Domain,
    /// A server of a `hosts.toml`.
    Host(Box<Host>),
}

impl Place {
    /// Contacts it.
    pub fn remote(&self, registry: &Registry) -> Result<Arc<Remote>> {
        let settings = &registry.settings;
        match &self.way {
            Way::Domain => registry.remote(self.reference.domain()),
            Way::Url(url) => {
                let credentials = config_file::find(&settings.credentials, host_of(url))?;
                let remote = if url.contains("://") {
                    Remote::at(settings, url, credentials)
                } else {
                    Remote::connect(settings, url, credentials)
                };
                remote.map(Arc::new)
            }
            Way::Host(host) => connect(registry, host, self.reference.domain()).map(Arc::new),
        }
    }
}

/// Contacts a server of a `hosts.toml` for a registry domain.
pub(crate) fn connect(registry: &Registry, host: &Host, domain: &str) -> Result<Remote> {
    let mut settings = registry.settings.clone();
    let base = match host.base.as_str() {
        "" => format!("https://{}", host_of_domain(domain)),
        base => base.to_owned(),
    };
    let name = host_of(&base).to_owned();
    if host.rules.skip_verify {
        settings.insecure.push(name.clone());
    }
    // The registry's own credentials are for itself; a mirror has its own.
    let of = if name == host_of_domain(domain) { domain } else { name.as_str() };
    let credentials = match registry.given(of) {
        Some(given) => Some(given),
        None => config_file::find(&settings.credentials, of)?,
    };
    settings.rules.insert(name, host.rules.clone());
    Remote::at_api(&settings, &base, &host.api, credentials)
}

impl Registry {
    /// The places of a reference; the last one is the registry itself.
    pub(crate) fn places(&self, reference: &Reference) -> Result<Vec<Place>> {
        let mut places = Vec::new();
        let urls = self.settings.mirrors.get(reference.domain()).map_or(&[][..], Vec::as_slice);
        places.extend(
            urls.iter().map(|url| Place { reference: reference.clone(), way: Way::Url(url.clone()) }),
        );
        let route = self.settings.registries.route(reference)?;
        places.extend(route.mirrors.into_iter().map(|reference| Place { reference, way: Way::Domain }));
        let itself = route.location.unwrap_or_else(|| reference.clone());
        if let Some(hosts) = hosts_toml::find(&self.settings.certificate_dirs, itself.domain())? {
            let fits = |host: &Host| host.resolve || itself.digest().is_some();
            places.extend(
                hosts
                    .mirrors
                    .into_iter()
                    .filter(fits)
                    .map(|host| Place { reference: itself.clone(), way: Way::Host(Box::new(host)) }),
            );
        }
        places.push(Place { reference: itself, way: Way::Domain });
        Ok(places)
    }
}
