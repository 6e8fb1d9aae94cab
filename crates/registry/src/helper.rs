//! Credential helpers: programs `docker-credential-NAME` that keep secrets (a key chain, a cloud's login).
//!
//! The protocol is Docker's: the verb is the argument, the input comes on stdin, JSON or a message on stdout.

use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fluyt_model::{Error, Kind, Result};
use serde::Deserialize;

use crate::config_file::Credentials;

/// A helper may ask the user something, so it has time.
const TIMEOUT: Duration = Duration::from_secs(120);
/// No answer is longer.
const LONGEST_ANSWER: u64 = 1 << 20;

/// One helper by its name.
pub(crate) struct Helper(String);

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    #[serde(default)]
    username: String,
    #[serde(default)]
    secret: String,
}

impl Helper {
    pub fn new(name: &str) -> Self {
        Self(format!("docker-credential-{name}"))
    }

    /// The credentials for `key`; `None` if the helper has none.
    pub fn get(&self, key: &str) -> Result<Option<Credentials>> {
        let (ok, text) = self.run("get", key)?;
        if !ok {
            // Helpers word it alike, in a sentence of their own.
            let unknown = text.contains("not found") || text.contains("no credentials");
            return if unknown { Ok(None) } else { Err(self.failed("get", key, &text)) };
        }
        let answer: Answer = serde_json::from_str(&text).map_err(|e| {
            Error::internal(format!("{}: its answer for {key} cannot be read", self.0)).with_source(e)
        })?;
        Ok(match (answer.username.as_str(), answer.secret.as_str()) {
            (_, "") => None,
            ("<token>", secret) => Some(Credentials::IdentityToken(secret.to_owned())),
            _ => Some(Credentials::Password { username: answer.username, password: answer.secret }),
        })
    }

    pub fn store(&self, key: &str, credentials: &Credentials) -> Result<()> {
        let (username, secret) = match credentials {
            Credentials::Password { username, password } => (username.as_str(), password),
            Credentials::IdentityToken(token) | Credentials::RegistryToken(token) => ("<token>", token),
        };
        let input =
            serde_json::json!({ "ServerURL": key, "Username": username, "Secret": secret }).to_string();
        match self.run("store", &input)? {
            (true, _) => Ok(()),
            (false, text) => Err(self.failed("store", key, &text)),
        }
    }

    /// Whether there was something to erase.
    pub fn erase(&self, key: &str) -> Result<bool> {
        match self.run("erase", key)? {
            (true, _) => Ok(true),
            (false, text) if text.contains("not found") => Ok(false),
            (false, text) => Err(self.failed("erase", key, &text)),
        }
    }

    fn failed(&self, verb: &str, key: &str, text: &str) -> Error {
        Error::internal(format!("{} {verb} failed for {key}: {}", self.0, text.trim())).with_hint(
            "check the credential helper, or remove it from credsStore and credHelpers in config.json",
        )
    }

    fn run(&self, verb: &str, input: &str) -> Result<(bool, String)> {
        let mut child = Command::new(&self.0)
            .arg(verb)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .map_err(|e| {
                Error::io(format!("the credential helper {} cannot be run", self.0), e)
                    .with_hint("install it, or remove it from credsStore and credHelpers in config.json")
            })?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take();
        let mut text = String::new();
        std::thread::scope(|scope| {
            let reader = scope.spawn(move || {
                let mut text = String::new();
                if let Some(stdout) = stdout {
                    let _ = stdout.take(LONGEST_ANSWER).read_to_string(&mut text);
                }
                text
            });
            if let Some(mut stdin) = stdin {
                // A helper that does not read its input says why on stdout.
                let _ = stdin.write_all(input.as_bytes());
            }
            let ended = self.wait(&mut child);
            text = reader.join().unwrap_or_default();
            ended
        })
        .map(|ok| (ok, text))
    }

    fn wait(&self, child: &mut Child) -> Result<bool> {
        let start = Instant::now();
        loop {
            let status = child.try_wait().map_err(|e| Error::io(self.0.clone(), e))?;
            if let Some(status) = status {
                return Ok(status.success());
            }
            if start.elapsed() > TIMEOUT {
                let _ = child.kill();
                let _ = child.wait();
                return Err(Error::new(Kind::Timeout, format!("{} did not end within 120 s", self.0)));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
