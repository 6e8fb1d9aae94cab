//! Who asks, and whether they may: open to all, passwords with every request (Basic), or tokens of our own (Bearer).
//!
//! Without a password file everything is allowed to everybody who can reach the address. With one, rules decide;
//! without rules its users may do everything and others nothing.

mod passwords;
mod rights;
mod tokens;

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fluyt_model::{Error, Result};
use serde_json::json;

use super::config::Config;
use super::failure::{Answered, Code, Failure};
use super::names;
use fluyt_http::{Method, Request, Response, parse_query};
use passwords::Passwords;
pub(crate) use rights::Action;
use rights::Rights;
use tokens::{Access, Tokens};

/// Who sent a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Identity {
    /// Nobody needs to say.
    Anyone,
    /// Somebody who did not say.
    Anonymous,
    /// A user with the right password.
    User(String),
    /// A bearer of a token: what it grants counts; whose it is counts for what he may see in lists.
    Bearer(Option<String>, Vec<Access>),
}

impl Identity {
    /// The user's name; empty for nobody in particular.
    pub fn name(&self) -> &str {
        match self {
            Self::User(name) | Self::Bearer(Some(name), _) => name,
            _ => "",
        }
    }
}

/// The longest form that asks for a token.
const MAX_FORM: u64 = 64 << 10;

/// The authentication of one registry.
#[derive(Debug)]
pub(crate) struct Auth {
    passwords: Option<Passwords>,
    rights: Rights,
    tokens: Option<Tokens>,
}

impl Auth {
    /// As the configuration says. The key of tokens is kept in the data root.
    pub fn new(root: &Path, config: &Config) -> Result<Self> {
        let passwords = config.htpasswd.as_deref().map(Passwords::open).transpose()?;
        if passwords.is_none() && (config.token.is_some() || config.rights.is_some()) {
            return Err(Error::invalid("the configuration has rights or tokens, but no password file")
                .with_hint("give --htpasswd FILE, made with `htpasswd -B -c FILE USER`"));
        }
        let tokens = config.token.as_ref().map(|t| Tokens::new(root, t)).transpose()?;
        Ok(Self { passwords, rights: Rights::new(config.rights.as_deref())?, tokens })
    }

    /// Finds out who sent a request; wrong credentials are refused.
    pub fn identify(&self, request: &Request<'_>) -> Answered<Identity> {
        let Some(passwords) = &self.passwords else { return Ok(Identity::Anyone) };
        let Some(header) = request.head.header("authorization") else { return Ok(Identity::Anonymous) };
        let (scheme, rest) = header.split_once(' ').unwrap_or((header, ""));
        if scheme.eq_ignore_ascii_case("bearer")
            && let Some(tokens) = &self.tokens
        {
            return match tokens.verify(rest.trim()) {
                Some((user, access)) => Ok(Identity::Bearer(user, access)),
                None => Err(self.challenge(request, None, &[], Some("invalid_token"))),
            };
        }
        match basic(rest).filter(|_| scheme.eq_ignore_ascii_case("basic")) {
            Some((user, password)) if passwords.check(&user, &password) => Ok(Identity::User(user)),
            _ => Err(self.challenge(request, None, &[], None)),
        }
    }

    /// Whether the rules allow an action.
    pub fn allows(&self, identity: &Identity, repository: &str, action: Action) -> bool {
        match identity {
            Identity::Anyone => true,
            Identity::Anonymous => self.rights.allow(None, repository, action),
            Identity::User(user) => self.rights.allow(Some(user), repository, action),
            Identity::Bearer(_, access) => access.iter().any(|a| a.covers(repository, action)),
        }
    }

    /// Whether a repository is shown in lists.
    pub fn shows(&self, identity: &Identity, repository: &str) -> bool {
        match identity {
            Identity::Bearer(user, _) => self.rights.allow(user.as_deref(), repository, Action::Pull),
            other => self.allows(other, repository, Action::Pull),
        }
    }

    /// Refuses what is not allowed. Without a repository it is enough to be somebody.
    pub fn require(
        &self,
        request: &Request<'_>,
        identity: &Identity,
        repository: Option<&str>,
        actions: &[Action],
    ) -> Answered<()> {
        let Some(name) = repository else {
            return match identity {
                Identity::Anonymous => Err(self.challenge(request, None, &[], None)),
                _ => Ok(()),
            };
        };
        if actions.iter().all(|action| self.allows(identity, name, *action)) {
            return Ok(());
        }
        match identity {
            Identity::User(user) => {
                let what = actions.iter().map(|a| a.name()).collect::<Vec<_>>().join(",");
                Err(Failure::new(Code::Denied, format!("user {user} may not {what} repository {name}")))
            }
            Identity::Bearer(..) => {
                Err(self.challenge(request, repository, actions, Some("insufficient_scope")))
            }
            _ => Err(self.challenge(request, repository, actions, None)),
        }
    }

    /// 401 with what a client has to bring.
    fn challenge(
        &self,
        request: &Request<'_>,
        repository: Option<&str>,
        actions: &[Action],
        error: Option<&str>,
    ) -> Failure {
        let failure = Failure::new(Code::Unauthorized, "authentication required");
        let Some(tokens) = &self.tokens else {
            return failure.header("WWW-Authenticate", "Basic realm=\"fluyt registry\", charset=\"UTF-8\"");
        };
        let scheme = if request.secure || request.head.header("x-forwarded-proto") == Some("https") {
            "https"
        } else {
            "http"
        };
        let host = request.head.header("host").unwrap_or("localhost");
        let realm = tokens.realm().map_or_else(|| format!("{scheme}://{host}/token"), str::to_owned);
        let mut text =
            format!("Bearer realm=\"{}\",service=\"{}\"", quoted(&realm), quoted(tokens.service()));
        if let Some(name) = repository {
            let actions = actions.iter().map(|a| a.name()).collect::<Vec<_>>().join(",");
            text.push_str(&format!(",scope=\"repository:{name}:{actions}\""));
        }
        if let Some(error) = error {
            text.push_str(&format!(",error=\"{error}\""));
        }
        failure.header("WWW-Authenticate", text)
    }

    /// `GET` or `POST /token`: gives out a token with what the user may do of what is asked for.
    pub fn token(&self, request: &mut Request<'_>) -> Answered {
        let (Some(tokens), Some(passwords)) = (&self.tokens, &self.passwords) else {
            return Err(Failure::new(Code::Unsupported, "this registry gives out no tokens").status(404));
        };
        let asked = TokenRequest::read(request)?;
        let refused = || {
            Failure::new(Code::Unauthorized, "wrong user name or password")
                .header("WWW-Authenticate", "Basic realm=\"fluyt registry\", charset=\"UTF-8\"")
        };
        let user = match (&asked.credentials, &asked.refresh) {
            (Some((user, password)), _) => {
                Some(passwords.check(user, password).then(|| user.clone()).ok_or_else(refused)?)
            }
            (None, Some(refresh)) => {
                let user = tokens.verify_refresh(refresh, |user| passwords.hash(user));
                Some(user.ok_or_else(refused)?)
            }
            (None, None) => None,
        };
        let granted = asked.scopes.iter().filter_map(|scope| self.grant(user.as_deref(), scope)).collect();
        let token = tokens.issue(user.as_deref(), granted)?;
        let mut answer = json!({
            "token": token.text,
            "access_token": token.text,
            "expires_in": token.lifetime,
            "issued_at": token.issued,
        });
        if let (true, Some(user)) = (asked.offline, &user)
            && let Some(hash) = passwords.hash(user)
        {
            answer["refresh_token"] = json!(tokens.issue_refresh(user, &hash)?);
        }
        Ok(Response::new(200).json(&answer).header("Cache-Control", "no-store"))
    }

    /// What of a scope (`repository:NAME:ACTION,…`) a user gets.
    fn grant(&self, user: Option<&str>, scope: &str) -> Option<Access> {
        let (kind, rest) = scope.split_once(':')?;
        let (name, actions) = rest.rsplit_once(':')?;
        if kind != "repository" || names::repository(name).is_err() {
            return None;
        }
        let granted: Vec<Action> = actions
            .split(',')
            .flat_map(Action::parse)
            .filter(|action| self.rights.allow(user, name, *action))
            .collect();
        Some(Access { name: name.to_owned(), actions: granted })
    }
}

/// What a client says when it asks for a token: Docker's `GET` or OAuth2's `POST`.
struct TokenRequest {
    credentials: Option<(String, String)>,
    refresh: Option<String>,
    scopes: Vec<String>,
    offline: bool,
}

impl TokenRequest {
    fn read(request: &mut Request<'_>) -> Answered<Self> {
        let bad = |text: &str| Failure::new(Code::Unsupported, text).status(400);
        let pairs = match request.head.method {
            Method::Get | Method::Head => request.head.query.clone(),
            Method::Post => {
                let body = request
                    .body
                    .read_all(MAX_FORM)
                    .ok()
                    .flatten()
                    .ok_or_else(|| bad("the form is cut or too long"))?;
                parse_query(&String::from_utf8_lossy(&body)).unwrap_or_default()
            }
            _ => return Err(Failure::new(Code::Unsupported, "tokens are asked for with GET or POST")),
        };
        let one = |name: &str| pairs.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone());
        let scopes =
            pairs.iter().filter(|(n, _)| n == "scope").flat_map(|(_, v)| v.split(' ').map(str::to_owned));
        let scopes = scopes.filter(|s| !s.is_empty()).take(100).collect();
        let mut found = Self { credentials: None, refresh: None, scopes, offline: false };
        if request.head.method == Method::Post {
            match one("grant_type").as_deref() {
                Some("password") => {
                    found.credentials =
                        Some((one("username").unwrap_or_default(), one("password").unwrap_or_default()))
                }
                Some("refresh_token") => found.refresh = Some(one("refresh_token").unwrap_or_default()),
                _ => return Err(bad("grant_type is neither password nor refresh_token")),
            }
            found.offline = one("access_type").as_deref() == Some("offline");
            return Ok(found);
        }
        found.offline = one("offline_token").as_deref() == Some("true");
        if let Some(header) = request.head.header("authorization") {
            let (scheme, rest) = header.split_once(' ').unwrap_or((header, ""));
            // Somebody who brings what cannot be read is not anonymous.
            let given = basic(rest).filter(|_| scheme.eq_ignore_ascii_case("basic"));
            found.credentials = Some(given.unwrap_or_default());
        }
        Ok(found)
    }
}

fn basic(text: &str) -> Option<(String, String)> {
    let bytes = STANDARD.decode(text.trim()).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let (user, password) = text.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

/// A text inside quotes of a header.
fn quoted(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}
