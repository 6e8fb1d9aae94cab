//! Tokens of our own: JSON web tokens (RFC 7519) signed with HMAC-SHA-256 by a key that only this data root has.
//!
//! The registry is the only one who verifies them, so a shared key does; other services' tokens are not accepted.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fluyt_image::time::now;
use fluyt_model::error::IoContext;
use fluyt_model::{Error, Result};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::rights::Action;
use crate::server::config::TokenConfig;

/// How long a refresh token is good for, in seconds.
const REFRESH: i64 = 90 * 24 * 3600;
/// How far clocks may be apart, in seconds.
const SKEW: i64 = 60;

/// A right that a token grants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Access {
    pub name: String,
    pub actions: Vec<Action>,
}

impl Access {
    /// Whether it grants this.
    pub fn covers(&self, repository: &str, action: Action) -> bool {
        self.name == repository && self.actions.contains(&action)
    }
}

/// Issues and verifies.
pub(crate) struct Tokens {
    key: [u8; 32],
    config: TokenConfig,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens").field("config", &self.config).finish_non_exhaustive()
    }
}

/// A token with what its bearer wants to know of it.
pub(crate) struct Issued {
    pub text: String,
    /// In seconds.
    pub lifetime: u64,
    /// RFC 3339.
    pub issued: String,
}

impl Tokens {
    /// Reads the key of the data root, or makes it.
    pub fn new(root: &Path, config: &TokenConfig) -> Result<Self> {
        Ok(Self { key: key(root)?, config: config.clone() })
    }

    /// Where clients get tokens, if the configuration says.
    pub fn realm(&self) -> Option<&str> {
        self.config.realm.as_deref()
    }

    /// What the tokens are for.
    pub fn service(&self) -> &str {
        &self.config.service
    }

    /// A token for a user (or nobody in particular) that grants `access`.
    pub fn issue(&self, user: Option<&str>, access: Vec<Access>) -> Result<Issued> {
        // Docker's clients take anything shorter for a minute.
        let lifetime = self.config.lifetime.max(60);
        let access: Vec<Value> = access
            .iter()
            .map(|a| {
                let actions: Vec<&str> = a.actions.iter().map(|a| a.name()).collect();
                json!({"type": "repository", "name": a.name, "actions": actions})
            })
            .collect();
        let text = self.sign(
            "access",
            user.unwrap_or_default(),
            i64::try_from(lifetime).unwrap_or(REFRESH),
            &json!(access),
        )?;
        let issued = fluyt_image::time::now_rfc3339();
        Ok(Issued { text, lifetime, issued })
    }

    /// A token that gets others later, for as long as what is kept of the user's password is `hash`.
    pub fn issue_refresh(&self, user: &str, hash: &str) -> Result<String> {
        self.sign("refresh", user, REFRESH, &json!(self.fingerprint(hash)))
    }

    /// What a refresh token says of a password: nothing to anybody without the key.
    fn fingerprint(&self, hash: &str) -> String {
        URL_SAFE_NO_PAD.encode(&hmac(&self.key, format!("password {hash}").as_bytes())[..16])
    }

    fn sign(&self, kind: &str, user: &str, lifetime: i64, access: &Value) -> Result<String> {
        let mut id = [0; 12];
        crate::server::random(&mut id)?;
        let head = json!({"alg": "HS256", "typ": "JWT"});
        let claims = json!({
            "iss": self.config.service, "aud": self.config.service, "sub": user, "use": kind,
            "iat": now(), "nbf": now() - SKEW, "exp": now() + lifetime,
            "jti": URL_SAFE_NO_PAD.encode(id), "access": access,
        });
        let signed = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(head.to_string()),
            URL_SAFE_NO_PAD.encode(claims.to_string())
        );
        let mac = URL_SAFE_NO_PAD.encode(hmac(&self.key, signed.as_bytes()));
        Ok(format!("{signed}.{mac}"))
    }

    /// Whose a token is and what it grants; `None` if it is not ours, not for access, or too old.
    pub fn verify(&self, token: &str) -> Option<(Option<String>, Vec<Access>)> {
        let claims = self.claims(token, "access")?;
        let list = claims.get("access")?.as_array()?;
        let access = list.iter().filter(|a| a.get("type").and_then(Value::as_str) == Some("repository"));
        let access = access.filter_map(|a| {
            let words = a.get("actions")?.as_array()?.iter().filter_map(Value::as_str);
            let name = a.get("name")?.as_str()?.to_owned();
            Some(Access { name, actions: words.flat_map(Action::parse).collect() })
        });
        let user = claims.get("sub").and_then(Value::as_str).filter(|u| !u.is_empty()).map(str::to_owned);
        Some((user, access.collect()))
    }

    /// Whose refresh token this is; nobody's if the user's password, of which `hash` tells what is kept, is another now.
    pub fn verify_refresh(&self, token: &str, hash: impl Fn(&str) -> Option<String>) -> Option<String> {
        let claims = self.claims(token, "refresh")?;
        let user = claims.get("sub")?.as_str()?;
        let issued_for = claims.get("access")?.as_str()?;
        same(issued_for.as_bytes(), self.fingerprint(&hash(user)?).as_bytes()).then(|| user.to_owned())
    }

    fn claims(&self, token: &str, kind: &str) -> Option<Value> {
        let (signed, mac) = token.rsplit_once('.')?;
        let mac = URL_SAFE_NO_PAD.decode(mac).ok()?;
        if !same(&mac, &hmac(&self.key, signed.as_bytes())) {
            return None;
        }
        // The signature is ours, and we sign with one algorithm only: the header needs no reading.
        let claims = URL_SAFE_NO_PAD.decode(signed.split_once('.')?.1).ok()?;
        let claims: Value = serde_json::from_slice(&claims).ok()?;
        let number = |name: &str| claims.get(name).and_then(Value::as_i64);
        let fresh = number("exp")? > now() && number("nbf")? <= now() + SKEW;
        let ours =
            claims.get("aud")?.as_str()? == self.config.service && claims.get("use")?.as_str()? == kind;
        (fresh && ours).then_some(claims)
    }
}

/// The key of a data root: `ROOT/registry.key`, made by whoever comes first.
fn key(root: &Path) -> Result<[u8; 32]> {
    let path = root.join("registry.key");
    let about = || path.display().to_string();
    let mut fresh = [0; 32];
    crate::server::random(&mut fresh)?;
    let mut name = String::from("registry.key.");
    fluyt_image::digest::push_hex(&mut name, &fresh[..4]);
    let draft = root.join(name);
    if !path.exists() {
        let mut file =
            std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft).about(about)?;
        crate::server::random(&mut fresh)?;
        file.write_all(&fresh).and_then(|()| file.sync_data()).about(about)?;
        // A link fails where a rename would replace the key that another process has just made.
        let linked = std::fs::hard_link(&draft, &path);
        std::fs::remove_file(&draft).about(about)?;
        match linked {
            Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => return Err(e).about(about),
            _ => {}
        }
    }
    let bytes = std::fs::read(&path).about(about)?;
    bytes.try_into().map_err(|_| {
        Error::corrupt(format!("{}: not a key of 32 bytes", path.display()))
            .with_hint("delete it; clients get new tokens")
    })
}

/// HMAC-SHA-256 (RFC 2104) with a key of 32 bytes.
fn hmac(key: &[u8; 32], message: &[u8]) -> [u8; 32] {
    let pad = |byte: u8| {
        let mut block = [byte; 64];
        block.iter_mut().zip(key).for_each(|(b, k)| *b ^= k);
        block
    };
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(message).finalize();
    Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize().into()
}

/// Whether two texts are the same, in a time that does not tell where they differ.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |d, (x, y)| d | (x ^ y)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hmac_is_the_known_one() {
        // RFC 4231, test case 1, its key filled up with zeros as HMAC does.
        let mut key = [0; 32];
        key[..20].fill(0x0b);
        let mut hex = String::new();
        fluyt_image::digest::push_hex(&mut hex, &hmac(&key, b"Hi There"));
        assert_eq!(hex, "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
    }

    #[test]
    fn only_own_tokens_of_the_right_kind_count() {
        let dir = tempfile::tempdir().unwrap();
        let tokens = Tokens::new(dir.path(), &TokenConfig::default()).unwrap();
        let access = vec![Access { name: "a/b".into(), actions: vec![Action::Pull] }];
        let token = tokens.issue(Some("ann"), access.clone()).unwrap().text;
        assert_eq!(tokens.verify(&token), Some((Some("ann".to_owned()), access)));
        let kept = |hash: &'static str| move |user: &str| (user == "ann").then(|| hash.to_owned());
        assert_eq!(tokens.verify_refresh(&token, kept("$2y$")), None);
        let refresh = tokens.issue_refresh("ann", "$2y$").unwrap();
        assert_eq!(tokens.verify_refresh(&refresh, kept("$2y$")).as_deref(), Some("ann"));
        assert_eq!(tokens.verify_refresh(&refresh, kept("$2y$other")), None, "another password");
        assert_eq!(tokens.verify_refresh(&refresh, |_| None), None, "no user");
        let before = tokens.sign("refresh", "ann", REFRESH, &json!([])).unwrap();
        assert_eq!(tokens.verify_refresh(&before, kept("$2y$")), None, "of an earlier version");
        assert_eq!(tokens.verify(&refresh), None);
        let mut forged = token.clone();
        forged.replace_range(40..41, if &token[40..41] == "A" { "B" } else { "A" });
        for bad in ["", ".", "a.b.c", &forged, &token[..token.len() - 4]] {
            assert_eq!(tokens.verify(bad), None, "{bad}");
        }
        let again = Tokens::new(dir.path(), &TokenConfig::default()).unwrap();
        assert!(again.verify(&token).is_some(), "the key is kept");
        let old = tokens.sign("access", "ann", -1, &json!([])).unwrap();
        assert_eq!(tokens.verify(&old), None, "too old");
        let elsewhere =
            Tokens::new(dir.path(), &TokenConfig { service: "x".into(), ..TokenConfig::default() }).unwrap();
        assert_eq!(elsewhere.verify(&token), None, "for another service");
    }
}
