//! What is signed: the "simple signing" document of containers and cosign.

use std::collections::BTreeMap;

use fluyt_model::{Error, Result};
use serde::Deserialize;
use serde_json::{Value, json};

/// What the document says of itself.
const TYPE: &str = "cosign container image signature";

/// The claim that an image has a name and, perhaps, annotations.
#[derive(Clone, Debug, PartialEq)]
pub struct Payload {
    /// The name the image was signed as, with or without a tag.
    pub reference: String,
    /// The digest of its manifest or index.
    pub digest: String,
    /// What the signer added.
    pub annotations: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
struct Document {
    critical: Critical,
    #[serde(default)]
    optional: Option<BTreeMap<String, Value>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Critical {
    identity: Identity,
    image: Image,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Identity {
    #[serde(rename = "docker-reference")]
    reference: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Image {
    #[serde(rename = "docker-manifest-digest")]
    digest: String,
}

impl Payload {
    /// The document as cosign writes it: no blanks, keys sorted.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let optional = if self.annotations.is_empty() { Value::Null } else { json!(self.annotations) };
        json!({
            "critical": {
                "identity": {"docker-reference": self.reference},
                "image": {"docker-manifest-digest": self.digest},
                "type": TYPE,
            },
            "optional": optional,
        })
        .to_string()
        .into_bytes()
    }

    /// Reads a document whose signature has been verified.
    ///
    /// # Errors
    /// `Kind::Corrupt` when it is another document, or has critical fields that are not known here.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let document: Document = serde_json::from_slice(bytes)
            .map_err(|e| Error::corrupt("the signed document is no simple signing payload").with_source(e))?;
        let critical = document.critical;
        if critical.kind != TYPE {
            return Err(Error::corrupt(format!("the signed document is of the type {:?}", critical.kind)));
        }
        Ok(Self {
            reference: critical.identity.reference,
            digest: critical.image.digest,
            annotations: document.optional.unwrap_or_default(),
        })
    }

    /// Whether the signer made all these annotations.
    #[must_use]
    pub fn has_annotations(&self, wanted: &BTreeMap<String, String>) -> bool {
        wanted.iter().all(|(key, value)| self.annotations.get(key).and_then(Value::as_str) == Some(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_are_cosign_s() {
        let mut payload = Payload {
            reference: "reg/app".to_owned(),
            digest: "sha256:00".to_owned(),
            annotations: BTreeMap::new(),
        };
        assert_eq!(
            String::from_utf8(payload.to_bytes()).unwrap(),
            r#"{"critical":{"identity":{"docker-reference":"reg/app"},"image":{"docker-manifest-digest":"sha256:00"},"type":"cosign container image signature"},"optional":null}"#
        );
        payload.annotations.insert("a".to_owned(), json!("b"));
        assert_eq!(Payload::parse(&payload.to_bytes()).unwrap(), payload);
        assert!(payload.has_annotations(&BTreeMap::from([("a".to_owned(), "b".to_owned())])));
        assert!(!payload.has_annotations(&BTreeMap::from([("a".to_owned(), "c".to_owned())])));
    }

    #[test]
    fn what_is_critical_and_unknown_is_refused() {
        let more = r#"{"critical":{"identity":{"docker-reference":"r"},"image":{"docker-manifest-digest":"d"},"type":"cosign container image signature","expires":1}}"#;
        assert!(Payload::parse(more.as_bytes()).is_err());
        let other = r#"{"critical":{"identity":{"docker-reference":"r"},"image":{"docker-manifest-digest":"d"},"type":"atomic container signature"}}"#;
        assert!(Payload::parse(other.as_bytes()).is_err());
        assert!(Payload::parse(b"[]").is_err());
    }
}
