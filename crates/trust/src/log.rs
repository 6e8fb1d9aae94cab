//! Entries of a transparency log (Rekor) that come with a signature, verified by the log's key without asking it:
//! the log promised to have taken this signature, at this time.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use fluyt_model::{Error, Kind, Result};
use ring::digest::{SHA256, digest};
use serde::Deserialize;

use crate::keys::PublicKey;
use crate::pem;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Bundle {
    signed_entry_timestamp: String,
    payload: Promise,
}

#[derive(Deserialize)]
struct Promise {
    body: String,
    #[serde(rename = "integratedTime")]
    time: i64,
    #[serde(rename = "logIndex")]
    index: i64,
    #[serde(rename = "logID")]
    log: String,
}

#[derive(Deserialize)]
struct Body {
    kind: String,
    spec: Spec,
}

#[derive(Deserialize)]
struct Spec {
    data: Data,
    signature: Signed,
}

#[derive(Deserialize)]
struct Data {
    hash: Hash,
}

#[derive(Deserialize)]
struct Hash {
    algorithm: String,
    value: String,
}

#[derive(Deserialize)]
struct Signed {
    content: String,
    #[serde(rename = "publicKey")]
    key: Content,
}

#[derive(Deserialize)]
struct Content {
    content: String,
}

/// What a signature must be for an entry to be about it.
pub(crate) struct About<'a> {
    /// The signed bytes.
    pub payload: &'a [u8],
    /// The signature's bytes.
    pub signature: &'a [u8],
    /// The DER of the certificate or the key that it was verified with.
    pub signer: &'a [u8],
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Verifies an entry: signed by one of the logs, and about this signature. Returns when the log took it, in seconds
/// since the epoch.
///
/// # Errors
/// `Kind::Unauthorized`; `Kind::Corrupt`.
pub(crate) fn verify(bundle: &str, logs: &[PublicKey], about: &About<'_>) -> Result<i64> {
    let broken = || Error::corrupt("the entry of the transparency log cannot be read");
    let refused = |why: &str| Error::new(Kind::Unauthorized, format!("the transparency log: {why}"));
    let bundle: Bundle = serde_json::from_str(bundle).map_err(|e| broken().with_source(e))?;
    let Promise { body, time, index, log } = bundle.payload;
    let decode = |text: &str| BASE64.decode(text).map_err(|_| broken());
    let promise = decode(&bundle.signed_entry_timestamp)?;
    let key = logs.iter().find(|key| hex(digest(&SHA256, key.spki()).as_ref()) == log);
    let key = key.ok_or_else(|| refused(&format!("the entry is of another log, {log}")))?;
    // Canonical JSON (RFC 8785); base64 and hexadecimal digits need no escapes, and nothing else gets this far.
    let bytes = decode(&body)?;
    let signed = format!(r#"{{"body":"{body}","integratedTime":{time},"logID":"{log}","logIndex":{index}}}"#);
    key.verify(signed.as_bytes(), &promise).map_err(|_| refused("its promise is not signed by its key"))?;
    let body: Body = serde_json::from_slice(&bytes).map_err(|e| broken().with_source(e))?;
    if body.kind != "hashedrekord" || body.spec.data.hash.algorithm != "sha256" {
        return Err(refused(&format!("entries of the kind {} are not known", body.kind)));
    }
    let signer = String::from_utf8(decode(&body.spec.signature.key.content)?).map_err(|_| broken())?;
    let signer = pem::parse(&signer).into_iter().next().ok_or_else(broken)?;
    let same = body.spec.data.hash.value == hex(digest(&SHA256, about.payload).as_ref())
        && decode(&body.spec.signature.content)? == about.signature
        && signer.bytes == about.signer;
    if same { Ok(time) } else { Err(refused("the entry is about another signature")) }
}
