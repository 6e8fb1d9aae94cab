//! Login and logout: credentials are tried at the registry before they are kept.

use fluyt_model::{Error, Kind, Result};
use ureq::http::StatusCode;

use crate::auth::TokenRequest;
use crate::challenge::Challenge;
use crate::config_file::{self, Credentials};
use crate::http::Ask;
use crate::refusal;
use crate::registry::{Registry, host_of_domain};
use crate::remote::Remote;

/// What a login did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedIn {
    /// The registry domain.
    pub domain: String,
    /// A warning for the user: the secret lies unencrypted in a file.
    pub warning: Option<String>,
}

impl Registry {
    /// Tries credentials at the registry `server` (a domain, or a URL of it) and keeps them if they are good.
    ///
    /// # Errors
    /// `Kind::Unauthorized` when the registry refuses them; what the network does; I/O errors.
    pub fn login(&self, server: &str, credentials: &Credentials) -> Result<LoggedIn> {
        let domain = domain_of(server)?;
        let remote = Remote::connect(&self.settings, host_of_domain(domain), Some(credentials.clone()))?;
        let refreshed = verify(&remote)?;
        let kept = match (refreshed, credentials) {
            (Some(token), Credentials::Password { .. }) => Credentials::IdentityToken(token),
            _ => credentials.clone(),
        };
        let warning = config_file::store(&self.settings.credentials, domain, &kept)?;
        self.use_credentials(domain, kept);
        Ok(LoggedIn { domain: domain.to_owned(), warning })
    }

    /// Tries credentials at the registry `server` and keeps nothing; a refresh token, where the registry gives one.
    ///
    /// # Errors
    /// `Kind::Unauthorized` when the registry refuses them; what the network does.
    pub fn try_credentials(&self, server: &str, credentials: &Credentials) -> Result<Option<String>> {
        let domain = domain_of(server)?;
        let remote = Remote::connect(&self.settings, host_of_domain(domain), Some(credentials.clone()))?;
        verify(&remote)
    }

    /// Forgets the credentials for a registry; false when there were none.
    ///
    /// # Errors
    /// I/O errors; a credential helper that fails.
    pub fn logout(&self, server: &str) -> Result<bool> {
        config_file::erase(&self.settings.credentials, domain_of(server)?)
    }

    /// The credentials kept for a registry.
    ///
    /// # Errors
    /// A file that cannot be read; a credential helper that fails.
    pub fn credentials(&self, server: &str) -> Result<Option<Credentials>> {
        config_file::find(&self.settings.credentials, domain_of(server)?)
    }
}

/// The domain of what a user calls a registry; empty is Docker's.
fn domain_of(server: &str) -> Result<&str> {
    let host = server.trim_start_matches("https://").trim_start_matches("http://");
    let host = host.split('/').next().unwrap_or_default();
    match host {
        "" | "index.docker.io" | "registry-1.docker.io" => Ok("docker.io"),
        h if h.chars().all(|c| c.is_ascii_alphanumeric() || "-._:[]".contains(c)) => Ok(h),
        _ => Err(Error::invalid(format!("{server:?} is not the name of a registry"))
            .with_hint("a registry is HOST or HOST:PORT")),
    }
}

/// Uses the credentials once; a refresh token if the token service gives one.
fn verify(remote: &Remote) -> Result<Option<String>> {
    let Some(Challenge::Bearer { realm, service, scope }) = remote.challenge() else {
        let answer =
            remote.with_pauses(|| remote.authorised(None, &mut Ask::get(remote.url(""), "login")))?;
        return match answer.status {
            status if status.is_success() => Ok(None),
            StatusCode::UNAUTHORIZED => {
                let said = refusal::of(answer, "login").chain();
                let text = format!("unauthorized: incorrect username or password ({said})");
                Err(Error::new(Kind::Unauthorized, text).with_hint("check the name and the password"))
            }
            _ => Err(refusal::of(answer, "login")),
        };
    };
    let request =
        TokenRequest { realm: &realm, service: service.as_deref(), scope: scope.as_deref(), offline: true };
    let token = remote.fetch_token(&request)?;
    // The token must open the registry: a service that gives tokens to everybody proves nothing.
    let header = format!("Bearer {}", token.text);
    let answer =
        remote.with_pauses(|| remote.http.send(&mut Ask::get(remote.url(""), "login"), Some(&header)))?;
    if answer.status.is_success() { Ok(token.refresh) } else { Err(refusal::of(answer, "login")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_named_in_many_ways() {
        for (typed, domain) in [
            ("", "docker.io"),
            ("docker.io", "docker.io"),
            ("https://index.docker.io/v1/", "docker.io"),
            ("http://localhost:5000/", "localhost:5000"),
            ("quay.io", "quay.io"),
        ] {
            assert_eq!(domain_of(typed).expect("a domain"), domain);
        }
        assert!(domain_of("a b").is_err());
    }
}
