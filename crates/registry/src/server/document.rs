//! What a manifest says, as far as a registry has to know: what it refers to, its subject, its type. Pure.
//!
//! The bytes are kept as they came; nothing here writes a document.

use std::sync::{Mutex, PoisonError};

use fluyt_image::{Digest, oci};
use serde_json::Value;

use super::failure::{Answered, Code, Failure};

/// What was read from a manifest.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Document {
    pub media_type: String,
    /// Blobs it refers to: configuration and layers, without those that are elsewhere by intention.
    pub blobs: Vec<Digest>,
    /// Manifests it refers to.
    pub manifests: Vec<Digest>,
    pub subject: Option<Digest>,
    /// Its `artifactType`, or the type of its configuration.
    pub artifact_type: Option<String>,
    /// Its annotations as JSON text.
    pub annotations: Option<String>,
}

fn invalid(text: impl Into<String>) -> Failure {
    Failure::new(Code::ManifestInvalid, text)
}

/// From this size on manifests are read one after the other: read, one may take twenty times its size of memory, and a
/// thousand connections may bring one each.
const LARGE: usize = 64 << 10;
static READING: Mutex<()> = Mutex::new(());

/// Reads a manifest that came with `content_type`.
pub(crate) fn read(bytes: &[u8], content_type: Option<&str>) -> Answered<Document> {
    let _turn = (bytes.len() >= LARGE).then(|| READING.lock().unwrap_or_else(PoisonError::into_inner));
    let value: Value =
        serde_json::from_slice(bytes).map_err(|e| invalid(format!("the manifest is not JSON: {e}")))?;
    if !value.is_object() {
        return Err(invalid("the manifest is not a JSON object"));
    }
    let content_type =
        content_type.map(|t| t.split(';').next().unwrap_or(t).trim()).filter(|t| !t.is_empty());
    let inner = match value.get("mediaType") {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => Some(text.as_str()),
        Some(_) => return Err(invalid("mediaType is not a text")),
    };
    let media_type = match (content_type, inner) {
        (Some(outer), Some(inner)) if outer != inner => {
            return Err(invalid(format!("Content-Type is {outer}, the manifest's mediaType {inner}")));
        }
        (Some(t), _) | (None, Some(t)) => t.to_owned(),
        (None, None) if value.get("manifests").is_some() => oci::OCI_INDEX.to_owned(),
        (None, None) => oci::OCI_MANIFEST.to_owned(),
    };
    if value.get("schemaVersion").and_then(Value::as_u64) == Some(1) || value.get("fsLayers").is_some() {
        return Err(invalid("manifests of Docker's schema 1 are not supported: push with a current client"));
    }
    let index = oci::is_index(&media_type);
    // One document that can be read as two things is how signatures are tricked (CVE-2021-41190).
    if value.get("manifests").is_some_and(|m| !m.is_null())
        && (value.get("layers").is_some() || value.get("config").is_some())
    {
        return Err(invalid("the manifest has both manifests and layers"));
    }
    let known = index || oci::is_manifest(&media_type);
    if known && value.get("schemaVersion").and_then(Value::as_u64) != Some(2) {
        return Err(invalid("schemaVersion is not 2"));
    }
    if oci::is_manifest(&media_type) && value.get("config").is_none() {
        return Err(invalid("an image manifest needs a config"));
    }
    let mut blobs = Vec::new();
    if let Some(config) = value.get("config").filter(|c| !c.is_null()) {
        blobs.push(descriptor(config)?);
    }
    for name in ["layers", "blobs"] {
        for layer in list(&value, name)? {
            let digest = descriptor(layer)?;
            if !is_elsewhere(layer) {
                blobs.push(digest);
            }
        }
    }
    let manifests = list(&value, "manifests")?.iter().map(descriptor).collect::<Answered<Vec<_>>>()?;
    let subject = value.get("subject").filter(|s| !s.is_null()).map(descriptor).transpose()?;
    let text = |v: Option<&Value>| v.and_then(Value::as_str).filter(|t| !t.is_empty()).map(str::to_owned);
    let of_config = || text(value.get("config").and_then(|c| c.get("mediaType")));
    Ok(Document {
        artifact_type: text(value.get("artifactType")).or_else(of_config),
        annotations: value.get("annotations").filter(|a| a.is_object()).map(Value::to_string),
        media_type,
        blobs,
        manifests,
        subject,
    })
}

fn list<'v>(value: &'v Value, name: &str) -> Answered<&'v [Value]> {
    match value.get(name) {
        None | Some(Value::Null) => Ok(&[]),
        Some(Value::Array(items)) => Ok(items),
        Some(_) => Err(invalid(format!("{name} is not a list"))),
    }
}

fn descriptor(value: &Value) -> Answered<Digest> {
    let text = value
        .get("digest")
        .and_then(Value::as_str)
        .ok_or_else(|| invalid("the manifest has a descriptor without a digest"))?;
    Digest::parse(text).map_err(|e| invalid(format!("the manifest has an {e}")))
}

/// Layers that are not pushed: those that may not be distributed, and those that say where they are.
fn is_elsewhere(layer: &Value) -> bool {
    let media_type = layer.get("mediaType").and_then(Value::as_str).unwrap_or_default();
    let urls = layer.get("urls").and_then(Value::as_array).is_some_and(|u| !u.is_empty());
    urls || media_type.contains(".nondistributable.") || media_type.contains(".foreign.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn digest(n: u8) -> String {
        Digest::of(&[n]).to_string()
    }

    fn layer(n: u8, media_type: &str) -> Value {
        json!({"mediaType": media_type, "digest": digest(n), "size": 1})
    }

    #[test]
    fn what_a_manifest_refers_to_is_found() {
        let manifest = json!({
            "schemaVersion": 2, "mediaType": oci::OCI_MANIFEST,
            "config": layer(1, "application/vnd.example+json"),
            "layers": [layer(2, "application/vnd.oci.image.layer.v1.tar"),
                       layer(3, "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip")],
            "subject": layer(4, oci::OCI_MANIFEST), "annotations": {"a": "b"},
        });
        let read =
            read(manifest.to_string().as_bytes(), Some("application/vnd.oci.image.manifest.v1+json; x=y"))
                .unwrap();
        assert_eq!(read.blobs, [Digest::of(&[1]), Digest::of(&[2])]);
        assert_eq!(read.subject, Some(Digest::of(&[4])));
        assert_eq!(read.artifact_type.as_deref(), Some("application/vnd.example+json"));
        assert_eq!(read.annotations.as_deref(), Some(r#"{"a":"b"}"#));
    }

    #[test]
    fn what_is_no_manifest_is_refused() {
        let config = layer(1, "x/y");
        for (bad, content_type) in [
            (json!([]), None),
            (json!({"schemaVersion": 2, "config": config}), Some("text/plain")),
            (json!({"schemaVersion": 1, "fsLayers": []}), None),
            (json!({"schemaVersion": 2, "layers": []}), None),
            (json!({"schemaVersion": 2, "config": {"digest": "x"}}), None),
            (json!({"schemaVersion": 2, "config": config, "layers": 5}), None),
            (json!({"schemaVersion": 2, "config": config, "manifests": []}), None),
            (
                json!({"schemaVersion": 2, "config": config, "mediaType": oci::OCI_MANIFEST}),
                Some(oci::OCI_INDEX),
            ),
        ] {
            let result = read(bad.to_string().as_bytes(), content_type);
            if content_type == Some("text/plain") {
                assert_eq!(result.unwrap().media_type, "text/plain", "other types are kept");
            } else {
                assert_eq!(result.unwrap_err().code(), Code::ManifestInvalid, "{bad}");
            }
        }
        assert!(read(b"{", None).is_err());
    }
}
