//! A signature with what proves its signer, in the annotations that cosign uses.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use fluyt_model::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::keys::PrivateKey;
use crate::payload::Payload;

const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
const CERTIFICATE: &str = "dev.sigstore.cosign/certificate";
const CHAIN: &str = "dev.sigstore.cosign/chain";
const BUNDLE: &str = "dev.sigstore.cosign/bundle";

/// A signed payload. Nothing of it is verified yet: see [`crate::Verifier`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// The signed bytes, as text: payloads are JSON.
    pub payload: String,
    /// The signature of them, base64.
    pub signature: String,
    /// The signer's certificate, PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// The authorities above that certificate, PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chain: Option<String>,
    /// The entry of a transparency log, JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle: Option<String>,
}

impl Signature {
    /// The media type of a layer whose content is a payload.
    pub const MEDIA_TYPE: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
    /// The artifact type of a manifest of signatures that refers to its subject.
    pub const ARTIFACT_TYPE: &str = "application/vnd.dev.cosign.artifact.sig.v1+json";

    /// Signs a payload.
    ///
    /// # Errors
    /// Only when the system has no random numbers.
    pub fn make(key: &PrivateKey, payload: &Payload) -> Result<Self> {
        let bytes = payload.to_bytes();
        let signature = BASE64.encode(key.sign(&bytes)?);
        let payload = String::from_utf8(bytes).map_err(|_| Error::internal("a payload is not UTF-8"))?;
        Ok(Self { payload, signature, certificate: None, chain: None, bundle: None })
    }

    /// The signature of a layer with these annotations, whose content is `payload`; `None` when it is none.
    #[must_use]
    pub fn from_annotations(payload: &[u8], annotations: &BTreeMap<String, String>) -> Option<Self> {
        let text = |name: &str| annotations.get(name).filter(|t| !t.is_empty()).cloned();
        Some(Self {
            payload: String::from_utf8(payload.to_vec()).ok()?,
            signature: text(SIGNATURE)?,
            certificate: text(CERTIFICATE),
            chain: text(CHAIN),
            bundle: text(BUNDLE),
        })
    }

    /// What the layer of this signature is annotated with.
    #[must_use]
    pub fn annotations(&self) -> BTreeMap<String, String> {
        let fields = [
            (SIGNATURE, Some(&self.signature)),
            (CERTIFICATE, self.certificate.as_ref()),
            (CHAIN, self.chain.as_ref()),
            (BUNDLE, self.bundle.as_ref()),
        ];
        fields.into_iter().filter_map(|(name, text)| Some((name.to_owned(), text?.clone()))).collect()
    }

    /// The signature's bytes.
    ///
    /// # Errors
    /// `Kind::Corrupt`.
    pub(crate) fn bytes(&self) -> Result<Vec<u8>> {
        // Some signers break the text into lines.
        let text: String = self.signature.split_ascii_whitespace().collect();
        BASE64.decode(text).map_err(|_| Error::corrupt("the signature is not base64"))
    }
}
