//! One registry as it is reached: its scheme, its way of authentication, its tokens; requests that are repeated
//! with pauses where that helps, and errors that say what the registry said.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use fluyt_model::{Error, Kind, Result};
use ureq::http::StatusCode;

use crate::auth::{self, Token};
use crate::challenge::Challenge;
use crate::config_file::Credentials;
use crate::http::{Answer, Ask, Http, Payload, host_of};
use crate::refusal;
use crate::settings::Settings;

/// A registry (or a mirror of one) that answered `/v2/`.
#[derive(Debug)]
pub(crate) struct Remote {
    /// `SCHEME://HOST[:PORT]` and perhaps a path, without a final slash.
    pub base: String,
    /// The path of the API there, `/v2` but for servers of a `hosts.toml`.
    api: String,
    pub http: Http,
    pub settings: Settings,
    credentials: Option<Credentials>,
    challenge: Mutex<Option<Challenge>>,
    tokens: Mutex<HashMap<String, Token>>,
}

/// What a request may do, as token services write it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scope(pub String);

impl Scope {
    pub fn pull(repository: &str) -> Self {
        Self(format!("repository:{repository}:pull"))
    }

    pub fn push(repository: &str) -> Self {
        Self(format!("repository:{repository}:pull,push"))
    }

    /// This and reading from other repositories. The parts are separated by spaces.
    pub fn and_pull(mut self, repositories: &[String]) -> Self {
        for repository in repositories {
            self.0.push_str(&format!(" repository:{repository}:pull"));
        }
        self
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Remote {
    /// Finds out how `host` (`NAME[:PORT]`) is spoken to. Insecure hosts are tried with http and https.
    pub fn connect(settings: &Settings, host: &str, credentials: Option<Credentials>) -> Result<Self> {
        let schemes: &[&str] = match (settings.is_insecure(host), crate::settings::is_loopback(host)) {
            (false, _) => &["https"],
            (true, true) => &["http", "https"],
            (true, false) => &["https", "http"],
        };
        let mut first = None;
        for scheme in schemes {
            match Self::at(settings, &format!("{scheme}://{host}"), credentials.clone()) {
                Ok(remote) => return Ok(remote),
                // A registry that hangs or says something sensible is not another one on https.
                Err(e) if e.kind() != Kind::Unavailable => return Err(e),
                Err(e) => first = first.or(Some(e)),
            }
        }
        Err(first.unwrap_or_else(|| Error::internal(format!("registry {host}: no scheme to try"))))
    }

    /// The registry at a base URL.
    pub fn at(settings: &Settings, base: &str, credentials: Option<Credentials>) -> Result<Self> {
        Self::at_api(settings, base, "/v2", credentials)
    }

    /// The registry at a base URL whose API has another path there.
    pub fn at_api(
        settings: &Settings,
        base: &str,
        api: &str,
        credentials: Option<Credentials>,
    ) -> Result<Self> {
        let base = base.trim_end_matches('/').to_owned();
        let http = Http::new(settings, host_of(&base), base.starts_with("https:"))?;
        let remote = Self {
            base,
            api: api.to_owned(),
            http,
            settings: settings.clone(),
            credentials,
            challenge: Mutex::default(),
            tokens: Mutex::default(),
        };
        remote.ping()?;
        Ok(remote)
    }

    /// Host and port, for people.
    pub fn host(&self) -> &str {
        host_of(&self.base)
    }

    /// The URL of a path below `/v2/`.
    pub fn url(&self, path: &str) -> String {
        format!("{}{}/{path}", self.base, self.api)
    }

    /// `GET /v2/`: does it answer, and what does it ask for?
    ///
    /// Some registries refuse this request and serve others, so 403 and 404 say nothing yet.
    fn ping(&self) -> Result<()> {
        let answer = self.repeated(1, || {
            let mut ask = Ask::get(self.url(""), "the API version");
            self.http.send(&mut ask, None)
        })?;
        match answer.status {
            StatusCode::UNAUTHORIZED => {
                *locked(&self.challenge) = Challenge::parse(&answer.headers("www-authenticate"));
                Ok(())
            }
            StatusCode::FORBIDDEN | StatusCode::NOT_FOUND => Ok(()),
            status if status.is_success() => Ok(()),
            status if may_pass(status) => Err(refusal::of(answer, "the API version")),
            status => Err(Error::new(
                Kind::Unavailable,
                format!("{} is not a registry: GET /v2/ was answered with {status}", self.host()),
            )
            .with_hint("check the registry's name and port")),
        }
    }

    /// What the registry asks for, as far as it has said.
    pub fn challenge(&self) -> Option<Challenge> {
        locked(&self.challenge).clone()
    }

    /// The credentials in use.
    pub fn credentials(&self) -> Option<&Credentials> {
        self.credentials.as_ref()
    }

    /// Sends a request until it is answered with success or in a way that will not change.
    ///
    /// The closure makes the request anew for each try.
    pub fn ask<'a>(&self, scope: Option<&Scope>, make: impl Fn() -> Ask<'a>) -> Result<Answer> {
        let what = make().what;
        let answer = self.with_pauses(|| self.authorised(scope, &mut make()))?;
        if answer.status.is_success() { Ok(answer) } else { Err(refusal::of(answer, &what)) }
    }

    /// One try of a request whose body cannot be sent twice. Any status is returned, but for 401 at the first try
    /// of a bodyless request.
    pub fn authorised(&self, scope: Option<&Scope>, ask: &mut Ask<'_>) -> Result<Answer> {
        let authorization = self.authorization(scope)?;
        let answer = self.http.send(ask, authorization.as_deref())?;
        if answer.status != StatusCode::UNAUTHORIZED || matches!(ask.body, Payload::Stream(..)) {
            return Ok(answer);
        }
        // The token ran out or was for another scope: once more, as the registry says now.
        let Some(challenge) = Challenge::parse(&answer.headers("www-authenticate")) else {
            return Ok(answer);
        };
        let asked_for = match &challenge {
            Challenge::Bearer { scope: Some(s), .. } => Some(Scope(s.clone())),
            _ => None,
        };
        *locked(&self.challenge) = Some(challenge);
        let scope = scope.cloned().or(asked_for);
        locked(&self.tokens).remove(scope.as_ref().map_or("", |s| &s.0));
        let renewed = self.authorization(scope.as_ref())?;
        if renewed.is_none()
            || (renewed == authorization && !matches!(self.challenge(), Some(Challenge::Bearer { .. })))
        {
            return Ok(answer);
        }
        drop(answer);
        self.http.send(ask, renewed.as_deref())
    }

    /// The `Authorization` header for a scope; a token is fetched if need be.
    fn authorization(&self, scope: Option<&Scope>) -> Result<Option<String>> {
        if let Some(Credentials::RegistryToken(token)) = &self.credentials {
            return Ok(Some(format!("Bearer {token}")));
        }
        match self.challenge() {
            None => Ok(None),
            Some(Challenge::Basic) => Ok(self.credentials.as_ref().and_then(auth::basic)),
            Some(Challenge::Bearer { realm, service, .. }) => {
                let key = scope.map_or("", |s| s.0.as_str());
                // Held while the token is fetched: parallel transfers then share one.
                let mut tokens = locked(&self.tokens);
                if let Some(token) = tokens.get(key)
                    && token.expires > Instant::now()
                {
                    return Ok(Some(format!("Bearer {}", token.text)));
                }
                let request = auth::TokenRequest {
                    realm: &realm,
                    service: service.as_deref(),
                    scope: scope.map(|s| s.0.as_str()),
                    offline: false,
                };
                let token = self.fetch_token(&request)?;
                let header = format!("Bearer {}", token.text);
                tokens.insert(key.to_owned(), token);
                Ok(Some(header))
            }
        }
    }

    /// Asks the token service, with pauses.
    pub fn fetch_token(&self, request: &auth::TokenRequest<'_>) -> Result<Token> {
        auth::fetch(self, request)
    }

    /// Repeats what fails for reasons that pass: broken connections, 5xx, 429. A hang is tried once more only.
    pub fn with_pauses(&self, once: impl FnMut() -> Result<Answer>) -> Result<Answer> {
        self.repeated(2, once)
    }

    /// As [`Remote::with_pauses`], given up at the hang number `most_hangs`.
    fn repeated(&self, most_hangs: u32, mut once: impl FnMut() -> Result<Answer>) -> Result<Answer> {
        let attempts = self.settings.attempts.max(1);
        let mut hangs = 0;
        for attempt in 1.. {
            let last = attempt >= attempts;
            let pause = match once() {
                Ok(answer) if may_pass(answer.status) && !last => match retry_after(&answer) {
                    Some(wanted) if wanted > self.settings.longest_pause => return Ok(answer),
                    Some(wanted) => wanted,
                    None => self.pause(attempt),
                },
                Ok(answer) => return Ok(answer),
                Err(e) if last || !worth_repeating(&e, &mut hangs, most_hangs) => return Err(e),
                Err(_) => self.pause(attempt),
            };
            std::thread::sleep(pause);
        }
        Err(Error::internal("unreachable: the last attempt returns"))
    }

    /// The pause after the `attempt`-th failure: doubling, with up to half as much again by chance.
    pub fn pause(&self, attempt: u32) -> Duration {
        let base = self.settings.retry_pause * 2_u32.saturating_pow(attempt.saturating_sub(1).min(6));
        let base = base.min(Duration::from_secs(10));
        // Each RandomState has fresh keys, which is randomness enough to spread clients.
        let share = RandomState::new().hash_one(attempt) % 500;
        base + base * u32::try_from(share).unwrap_or(0) / 1000
    }
}

fn worth_repeating(e: &Error, hangs: &mut u32, most_hangs: u32) -> bool {
    match e.kind() {
        Kind::Timeout => {
            *hangs += 1;
            *hangs < most_hangs
        }
        Kind::Unavailable => {
            // A port that nobody listens on, a name that nobody has, a certificate that nobody trusts: these do
            // not pass in seconds.
            let text = e.chain();
            let lasting = ["refused", "no such host", "no secure connection", "unreachable"];
            !lasting.iter().any(|s| text.contains(s))
        }
        _ => false,
    }
}

/// Whether a status may be another one soon.
pub(crate) fn may_pass(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504)
}

/// `Retry-After` in seconds or as a date.
pub(crate) fn retry_after(answer: &Answer) -> Option<Duration> {
    let text = answer.header("retry-after")?.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let at = http_date(text)?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs();
    Some(Duration::from_secs(at.saturating_sub(now)))
}

/// Seconds since 1970 of `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, section 5.6.7).
fn http_date(text: &str) -> Option<u64> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let words: Vec<&str> = text.split_once(", ")?.1.split(' ').collect();
    let [day, month, year, time, "GMT"] = words[..] else { return None };
    let month = u64::try_from(MONTHS.iter().position(|m| *m == month)?).ok()? + 1;
    let (day, year): (u64, u64) = (day.parse().ok()?, year.parse().ok()?);
    let clock: Vec<u64> = time.split(':').map(|p| p.parse().ok()).collect::<Option<_>>()?;
    let [hours, minutes, seconds] = clock[..] else { return None };
    if !(1970..=9999).contains(&year) {
        return None;
    }
    // Days from the civil calendar, with years that begin in March.
    let y = if month <= 2 { year - 1 } else { year };
    let m = (month + 9) % 12;
    let days = 365 * y + y / 4 - y / 100 + y / 400 + (m * 306 + 5) / 10 + day - 1;
    Some((days.checked_sub(719_468)?) * 86_400 + hours * 3600 + minutes * 60 + seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_http_are_read() {
        assert_eq!(http_date("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(http_date("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        assert_eq!(http_date("Sat, 21 Nov 2026 14:28:56 GMT"), Some(1_795_271_336));
        assert_eq!(http_date("tomorrow"), None);
    }
}
