//! Which names a signature is good for: `signedIdentity` of containers' `policy.json`.

use fluyt_model::reference::Reference;
use fluyt_model::{Error, Result};
use serde::Deserialize;

/// How the name that was signed has to relate to the name that is used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Identity {
    /// The same name with the same tag or digest.
    Exact,
    /// As [`Identity::Exact`]; for a name with a digest the same repository.
    #[default]
    RepoDigestOrExact,
    /// The same repository.
    Repository,
    /// This name, whatever is used.
    ExactReference(String),
    /// This repository, whatever is used.
    ExactRepository(String),
    /// As [`Identity::RepoDigestOrExact`] after replacing a prefix of the used name.
    Remap {
        /// What is replaced: a host, a namespace or a repository.
        prefix: String,
        /// By what.
        signed: String,
    },
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", deny_unknown_fields)]
enum Document {
    MatchExact {},
    MatchRepoDigestOrExact {},
    MatchRepository {},
    #[serde(rename_all = "camelCase")]
    ExactReference {
        docker_reference: String,
    },
    #[serde(rename_all = "camelCase")]
    ExactRepository {
        docker_repository: String,
    },
    #[serde(rename_all = "camelCase")]
    RemapIdentity {
        prefix: String,
        signed_prefix: String,
    },
}

impl<'de> Deserialize<'de> for Identity {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match Document::deserialize(deserializer)? {
            Document::MatchExact {} => Self::Exact,
            Document::MatchRepoDigestOrExact {} => Self::RepoDigestOrExact,
            Document::MatchRepository {} => Self::Repository,
            Document::ExactReference { docker_reference } => Self::ExactReference(docker_reference),
            Document::ExactRepository { docker_repository } => Self::ExactRepository(docker_repository),
            Document::RemapIdentity { prefix, signed_prefix } => {
                Self::Remap { prefix, signed: signed_prefix }
            }
        })
    }
}

impl Identity {
    /// Whether a signature of the name `signed` is good for `used`.
    ///
    /// # Errors
    /// `Kind::Invalid` when the rule itself names no repository.
    pub fn allows(&self, used: &Reference, signed: &str) -> Result<bool> {
        let Ok(signed) = Reference::parse_untagged(signed) else { return Ok(false) };
        let rule = |text: &str| {
            Reference::parse_untagged(text)
                .map_err(|e| Error::invalid("signedIdentity of the policy").with_source(e))
        };
        Ok(match self {
            Self::Exact => exactly(used, &signed),
            Self::RepoDigestOrExact => repo_digest_or_exact(used, &signed),
            Self::Repository => used.name() == signed.name(),
            Self::ExactReference(name) => exactly(&rule(name)?, &signed),
            Self::ExactRepository(name) => rule(name)?.name() == signed.name(),
            Self::Remap { prefix, signed: by } => repo_digest_or_exact(&remapped(used, prefix, by)?, &signed),
        })
    }
}

fn exactly(used: &Reference, signed: &Reference) -> bool {
    !used.is_name_only() && used.to_string() == signed.to_string()
}

fn repo_digest_or_exact(used: &Reference, signed: &Reference) -> bool {
    match used.digest() {
        Some(_) => used.name() == signed.name(),
        None => exactly(used, signed),
    }
}

fn remapped(used: &Reference, prefix: &str, by: &str) -> Result<Reference> {
    let text = used.to_string();
    match text.strip_prefix(prefix) {
        Some(rest) if rest.is_empty() || rest.starts_with(['/', ':', '@']) => {
            Reference::parse_untagged(&format!("{by}{rest}"))
                .map_err(|e| Error::invalid("remapIdentity of the policy").with_source(e))
        }
        _ => Ok(used.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

    fn parse(json: &str) -> Identity {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn names_relate_as_containers_says() {
        let exact = parse(r#"{"type":"matchExact"}"#);
        let default = parse(r#"{"type":"matchRepoDigestOrExact"}"#);
        let repository = parse(r#"{"type":"matchRepository"}"#);
        let other = parse(r#"{"type":"exactRepository","dockerRepository":"up.io/app"}"#);
        let reference = parse(r#"{"type":"exactReference","dockerReference":"up.io/app:2"}"#);
        let remap = parse(r#"{"type":"remapIdentity","prefix":"mirror:5000/x","signedPrefix":"up.io"}"#);
        let by_digest = format!("up.io/app{DIGEST}");
        let cases: &[(&Identity, &str, &str, bool)] = &[
            (&exact, "up.io/app:1", "up.io/app:1", true),
            (&exact, "up.io/app:1", "up.io/app", false),
            (&exact, &by_digest, "up.io/app:1", false),
            (&default, "up.io/app:1", "up.io/app:1", true),
            (&default, "up.io/app:1", "up.io/app:2", false),
            (&default, "up.io/app:1", "up.io/app", false),
            (&default, &by_digest, "up.io/app:1", true),
            (&default, &by_digest, "up.io/other:1", false),
            (&repository, "up.io/app:1", "up.io/app", true),
            (&repository, "busybox:1", "index.docker.io/library/busybox", true),
            (&repository, "up.io/app:1", "up.io/app2", false),
            (&other, "mirror:5000/y:1", "up.io/app:7", true),
            (&other, "up.io/app:1", "up.io/b", false),
            (&reference, "x:1", "up.io/app:2", true),
            (&reference, "x:1", "up.io/app:3", false),
            (&remap, "mirror:5000/x/app:1", "up.io/app:1", true),
            (&remap, "mirror:5000/xy/app:1", "up.io/app:1", false),
            (&remap, "up.io/app:1", "up.io/app:1", true),
        ];
        for (identity, used, signed, expected) in cases {
            let used = Reference::parse_untagged(used).unwrap();
            assert_eq!(identity.allows(&used, signed).unwrap(), *expected, "{identity:?} {used} {signed}");
        }
        assert!(serde_json::from_str::<Identity>(r#"{"type":"matchExact","x":1}"#).is_err());
        assert!(serde_json::from_str::<Identity>(r#"{"type":"else"}"#).is_err());
    }
}
