//! Statements about what was built, in in-toto's form: where it came from ([`provenance`]) and what is in it
//! ([`crate::sbom`]). Pure: times, ids and contents come in.

pub mod llb;
pub mod provenance;

use std::collections::BTreeMap;

use fluyt_image::{Digest, Platform};
use fluyt_model::reference::Reference;
use serde::Serialize;
use serde_json::Value;

/// The media type of a statement.
pub const MEDIA_TYPE: &str = "application/vnd.in-toto+json";
/// SLSA provenance, version 1.
pub const PROVENANCE_V1: &str = "https://slsa.dev/provenance/v1";
/// SLSA provenance, version 0.2.
pub const PROVENANCE_V02: &str = "https://slsa.dev/provenance/v0.2";
/// SPDX.
pub const SPDX: &str = "https://spdx.dev/Document";

/// What a statement says, before it is known what about.
#[derive(Clone, Debug, PartialEq)]
pub struct Attestation {
    /// The kind of [`Attestation::predicate`].
    pub predicate_type: &'static str,
    /// What is said.
    pub predicate: Value,
    /// The name of the file that holds it beside exported files.
    pub file: String,
}

/// Something that a statement is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Subject {
    /// A package address or a path.
    pub name: String,
    /// Algorithm and hexadecimal digits.
    pub digest: BTreeMap<String, String>,
}

impl Subject {
    /// A thing of this name and digest.
    #[must_use]
    pub fn new(name: String, digest: &Digest) -> Self {
        let digits = (digest.algorithm().name().to_owned(), digest.hex().to_owned());
        Self { name, digest: BTreeMap::from([digits]) }
    }
}

/// An in-toto statement, version 0.1.
#[derive(Debug, Serialize)]
struct Statement<'a> {
    #[serde(rename = "_type")]
    kind: &'static str,
    #[serde(rename = "predicateType")]
    predicate_type: &'a str,
    subject: &'a [Subject],
    predicate: &'a Value,
}

impl Attestation {
    /// The statement that says it of `subjects`, as JSON; `pretty`: for people.
    #[must_use]
    pub fn statement(&self, subjects: &[Subject], pretty: bool) -> Vec<u8> {
        let statement = Statement {
            kind: "https://in-toto.io/Statement/v0.1",
            predicate_type: self.predicate_type,
            subject: subjects,
            predicate: &self.predicate,
        };
        let written =
            if pretty { serde_json::to_vec_pretty(&statement) } else { serde_json::to_vec(&statement) };
        written.unwrap_or_default()
    }
}

/// The package address of an image: `pkg:docker/alpine@3.20?platform=linux%2Famd64`.
#[must_use]
pub fn purl(reference: &Reference, platform: Option<&Platform>) -> String {
    let familiar = reference.familiar_name();
    let path: Vec<String> = familiar.split('/').map(|part| escape(part, b":@&=+$")).collect();
    let mut text = format!("pkg:docker/{}", path.join("/"));
    let mut qualifiers = Vec::new();
    match (reference.tag(), reference.digest()) {
        (Some(tag), _) => text.push_str(&format!("@{tag}")),
        (None, Some(_)) => {}
        (None, None) => text.push_str("@latest"),
    }
    if let Some(digest) = reference.digest() {
        qualifiers.push(format!("digest={}", escape(digest, b"")));
    }
    if let Some(platform) = platform {
        qualifiers.push(format!("platform={}", escape(&platform.to_string(), b"")));
    }
    if !qualifiers.is_empty() {
        text.push_str(&format!("?{}", qualifiers.join("&")));
    }
    text
}

/// Percent-encodes what is neither unreserved nor in `also`.
pub(crate) fn escape(text: &str, also: &[u8]) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) || also.contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// An address without the password in it.
#[must_use]
pub fn without_credentials(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let host_end = rest.find('/').unwrap_or(rest.len());
    match rest[..host_end].rsplit_once('@') {
        Some((who, _)) if who.contains(':') => {
            format!("{scheme}://xxxxx:xxxxx@{}", &rest[who.len() + 1..])
        }
        Some((who, _)) => format!("{scheme}://xxxxx@{}", &rest[who.len() + 1..]),
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_packages() {
        let platform = Platform::parse("linux/arm64").unwrap();
        let of = |name: &str| purl(&Reference::parse_untagged(name).unwrap(), Some(&platform));
        assert_eq!(of("alpine:3.20"), "pkg:docker/alpine@3.20?platform=linux%2Farm64");
        assert_eq!(of("localhost:5000/a/b"), "pkg:docker/localhost:5000/a/b@latest?platform=linux%2Farm64");
        let digest = Digest::of(b"");
        let named = of(&format!("x@{digest}"));
        assert!(named.starts_with("pkg:docker/x?digest=sha256%3Ae3b0"), "{named}");
    }

    #[test]
    fn passwords_are_not_told() {
        assert_eq!(without_credentials("https://me:pw@host/x@y"), "https://xxxxx:xxxxx@host/x@y");
        assert_eq!(without_credentials("https://token@host"), "https://xxxxx@host");
        assert_eq!(without_credentials("https://host/a@b"), "https://host/a@b");
        assert_eq!(without_credentials("."), ".");
    }
}
