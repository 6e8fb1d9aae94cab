//! Tokens: the exchange with a token service (distribution specification, token authentication).
//!
//! With name and password or without any, by GET; with an identity token, by an OAuth2 POST.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use fluyt_model::{Error, Kind, Result};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use ureq::http::{Method, StatusCode};

use crate::config_file::Credentials;
use crate::http::{Ask, Payload, host_of};
use crate::refusal;
use crate::remote::Remote;

/// What this program calls itself towards token services.
const CLIENT_ID: &str = "fluyt";
/// No answer of a token service is longer.
const MAX_ANSWER: u64 = 1 << 20;
/// The specification's default lifetime.
const DEFAULT_LIFETIME: u64 = 60;

/// An access token and when to stop using it.
#[derive(Clone)]
pub(crate) struct Token {
    pub text: String,
    pub expires: Instant,
    /// A refresh token, if one was asked for and given.
    pub refresh: Option<String>,
}

/// Secrets are never shown.
impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

/// What is asked of a token service.
pub(crate) struct TokenRequest<'a> {
    pub realm: &'a str,
    pub service: Option<&'a str>,
    pub scope: Option<&'a str>,
    /// Whether a refresh token is wanted.
    pub offline: bool,
}

#[derive(Deserialize)]
struct Answer {
    token: Option<String>,
    access_token: Option<String>,
    refresh_token: Option<String>,
    expires_in: Option<u64>,
}

/// The `Authorization` header of Basic authentication.
pub(crate) fn basic(credentials: &Credentials) -> Option<String> {
    match credentials {
        Credentials::Password { username, password } => {
            Some(format!("Basic {}", BASE64.encode(format!("{username}:{password}"))))
        }
        _ => None,
    }
}

/// Asks the token service of a registry.
///
/// # Errors
/// `Kind::Unauthorized` when it refuses the credentials; what the network does.
pub(crate) fn fetch(remote: &Remote, request: &TokenRequest<'_>) -> Result<Token> {
    let realm = request.realm;
    if !realm.starts_with("https://") && !realm.starts_with("http://") {
        return Err(Error::new(
            Kind::Unavailable,
            format!("registry {}: its token service {realm:?} is not a URL", remote.host()),
        ));
    }
    let credentials = remote.credentials();
    let downgraded = remote.base.starts_with("https:") && realm.starts_with("http:");
    if credentials.is_some() && downgraded {
        return Err(Error::new(
            Kind::Unauthorized,
            format!("registry {} wants the credentials sent unencrypted to {realm}", remote.host()),
        )
        .with_hint("they were not sent; ask the registry's owner to serve tokens over https"));
    }
    let what = format!("a token from {}", host_of(realm));
    let started = Instant::now();
    let answer = remote.with_pauses(|| match credentials {
        Some(Credentials::IdentityToken(token)) => by_refresh_token(remote, request, token, &what),
        other => by_get(remote, request, other, &what),
    })?;
    if answer.status == StatusCode::UNAUTHORIZED && credentials.is_some() {
        let refused = refusal::of(answer, &what).chain();
        return Err(Error::new(
            Kind::Unauthorized,
            format!("unauthorized: incorrect username or password ({refused})"),
        )
        .with_hint(format!("run `fluyt login {}` with a valid name and password or token", remote.host())));
    }
    if !answer.status.is_success() {
        return Err(refusal::of(answer, &what));
    }
    parse(&answer.bytes(MAX_ANSWER, &what)?, &what, started)
}

fn parse(bytes: &[u8], what: &str, started: Instant) -> Result<Token> {
    let bad = |why: &str| Error::new(Kind::Unavailable, format!("{what}: {why}"));
    let answer: Answer = serde_json::from_slice(bytes).map_err(|_| bad("the answer cannot be read"))?;
    let text = answer
        .token
        .filter(|t| !t.is_empty())
        .or(answer.access_token)
        .filter(|t| !t.is_empty())
        .ok_or_else(|| bad("the answer has no token"))?;
    if text.chars().any(|c| c.is_control() || !c.is_ascii()) {
        return Err(bad("the token has characters that no token has"));
    }
    let lifetime = answer.expires_in.unwrap_or(DEFAULT_LIFETIME).clamp(1, 86_400);
    // Not used in its last tenth, so that it does not run out on its way.
    let expires = started + Duration::from_secs(lifetime) * 9 / 10;
    Ok(Token { text, expires, refresh: answer.refresh_token.filter(|t| !t.is_empty()) })
}

fn by_get(
    remote: &Remote,
    request: &TokenRequest<'_>,
    credentials: Option<&Credentials>,
    what: &str,
) -> Result<crate::http::Answer> {
    let mut query = Vec::new();
    if let Some(Credentials::Password { username, .. }) = credentials {
        query.push(("account", username.as_str()));
    }
    query.extend(request.service.map(|s| ("service", s)));
    query.extend(request.scope.into_iter().flat_map(|s| s.split(' ')).map(|s| ("scope", s)));
    if request.offline {
        query.extend([("offline_token", "true"), ("client_id", CLIENT_ID)]);
    }
    let separator = if request.realm.contains('?') { '&' } else { '?' };
    let mut ask = Ask::get(format!("{}{separator}{}", request.realm, form(&query)), what);
    remote.http.send(&mut ask, credentials.and_then(basic).as_deref())
}

fn by_refresh_token(
    remote: &Remote,
    request: &TokenRequest<'_>,
    token: &str,
    what: &str,
) -> Result<crate::http::Answer> {
    let mut fields =
        vec![("grant_type", "refresh_token"), ("client_id", CLIENT_ID), ("refresh_token", token)];
    fields.extend(request.service.map(|s| ("service", s)));
    fields.extend(request.scope.map(|s| ("scope", s)));
    let body = form(&fields);
    let mut ask = Ask::new(Method::POST, request.realm, what)
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Payload::Bytes(body.as_bytes()));
    remote.http.send(&mut ask, None)
}

/// `application/x-www-form-urlencoded`.
pub(crate) fn form(fields: &[(&str, &str)]) -> String {
    let parts: Vec<String> = fields.iter().map(|(k, v)| format!("{k}={}", percent(v))).collect();
    parts.join("&")
}

/// What RFC 3986 leaves as it is everywhere in an address (section 2.3).
const UNRESERVED: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Percent-encodes everything but what a URL never gives a meaning to.
pub(crate) fn percent(text: &str) -> String {
    utf8_percent_encode(text, &UNRESERVED).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_both_dialects_are_read() {
        let now = Instant::now();
        assert_eq!(parse(br#"{"token":"a","expires_in":100}"#, "t", now).expect("read").text, "a");
        let oauth = parse(br#"{"access_token":"b","refresh_token":"r","token":""}"#, "t", now).expect("read");
        assert_eq!((oauth.text.as_str(), oauth.refresh.as_deref()), ("b", Some("r")));
        assert_eq!(oauth.expires, now + Duration::from_secs(54));
        for bad in [&b"{}"[..], b"<html>", br#"{"token":"a\nb: c"}"#] {
            assert_eq!(parse(bad, "t", now).expect_err("refused").kind(), Kind::Unavailable);
        }
    }

    #[test]
    fn forms_are_encoded() {
        assert_eq!(
            form(&[("scope", "repository:a/b:pull,push"), ("x", "é &")]),
            "scope=repository%3Aa%2Fb%3Apull%2Cpush&x=%C3%A9%20%26"
        );
    }
}
