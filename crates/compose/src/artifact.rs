//! A project as an OCI artifact, as docker compose publishes it: a manifest whose layers are Compose files and files of
//! variables. Pure: registries are asked elsewhere.

use std::collections::BTreeMap;

use fluyt_model::{Error, Result};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::labels::OUR_VERSION;

/// What the artifact is, by its manifest.
pub const PROJECT: &str = "application/vnd.docker.compose.project";
/// A Compose file.
pub const FILE: &str = "application/vnd.docker.compose.file+yaml";
/// A file of variables.
pub const ENV_FILE: &str = "application/vnd.docker.compose.envfile";
/// The configuration of an artifact that is pushed as version 1.0 of the image specification knows it.
pub const OLD_CONFIG: &str = "application/vnd.docker.compose.config.empty.v1+json";
/// The empty configuration of version 1.1.
pub const EMPTY: &str = "application/vnd.oci.empty.v1+json";
/// A manifest.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// An index.
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// The name of the file that the layers of a project make together.
pub const MAIN: &str = "compose.yaml";

/// The content of an empty configuration.
pub const EMPTY_CONTENT: &[u8] = b"{}";

const VERSION_KEY: &str = "com.docker.compose.version";
const FILE_KEY: &str = "com.docker.compose.file";
const ENV_KEY: &str = "com.docker.compose.envfile";
const EXTENDS_KEY: &str = "com.docker.compose.extends";

/// Which version of the image specification a manifest is written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Oci {
    /// Its configuration says what it is.
    V1_0,
    /// It has an artifact type.
    V1_1,
}

/// A part of an artifact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// What it is.
    pub media_type: String,
    /// What is said about it.
    pub annotations: BTreeMap<String, String>,
    /// Its content.
    pub bytes: Vec<u8>,
}

impl Layer {
    fn new(media_type: &str, key: &str, name: &str, bytes: Vec<u8>) -> Self {
        let annotations = [(VERSION_KEY, OUR_VERSION), (key, name)];
        let annotations = annotations.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        Self { media_type: media_type.to_owned(), annotations, bytes }
    }

    /// A Compose file of the project.
    pub fn file(name: &str, bytes: Vec<u8>) -> Self {
        Self::new(FILE, FILE_KEY, name, bytes)
    }

    /// A file that services of the project extend.
    pub fn extended(name: &str, bytes: Vec<u8>) -> Self {
        let mut layer = Self::file(name, bytes);
        layer.annotations.insert(EXTENDS_KEY.to_owned(), "true".to_owned());
        layer
    }

    /// A file of variables.
    pub fn variables(name: &str, bytes: Vec<u8>) -> Self {
        Self::new(ENV_FILE, ENV_KEY, name, bytes)
    }

    /// Its descriptor.
    pub fn descriptor(&self) -> Value {
        json!({
            "mediaType": self.media_type,
            "digest": digest(&self.bytes),
            "size": self.bytes.len(),
            "annotations": self.annotations,
        })
    }
}

/// The digest of content.
pub fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect();
    format!("sha256:{hex}")
}

/// The manifest of an artifact; `created` as RFC 3339 has it.
pub fn manifest(layers: &[Layer], oci: Oci, created: &str) -> Vec<u8> {
    let config = match oci {
        Oci::V1_0 => OLD_CONFIG,
        Oci::V1_1 => EMPTY,
    };
    let mut manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": config, "digest": digest(EMPTY_CONTENT), "size": EMPTY_CONTENT.len()},
        "layers": layers.iter().map(Layer::descriptor).collect::<Vec<_>>(),
        "annotations": {"org.opencontainers.image.created": created},
    });
    if oci == Oci::V1_1 {
        manifest["artifactType"] = json!(PROJECT);
        manifest["config"]["data"] = json!("e30=");
    }
    manifest.to_string().into_bytes()
}

/// The index of an application: the images of its services, about the artifact that names them.
pub fn application(images: &[Value], artifact: &[u8]) -> Vec<u8> {
    let subject = json!({
        "mediaType": MANIFEST,
        "artifactType": PROJECT,
        "digest": digest(artifact),
        "size": artifact.len(),
    });
    let index = json!({
        "schemaVersion": 2,
        "mediaType": INDEX,
        "artifactType": PROJECT,
        "manifests": images,
        "subject": subject,
        "annotations": {VERSION_KEY: OUR_VERSION},
    });
    index.to_string().into_bytes()
}

/// What a document of a registry is to this.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Document {
    /// The artifact: its layers' descriptors.
    Artifact(Vec<Value>),
    /// An index that names the artifact, by digest.
    Index(String),
}

/// Reads a manifest or an index.
///
/// # Errors
/// It is something else than a project.
pub fn read(bytes: &[u8], name: &str) -> Result<Document> {
    let value: Value = serde_json::from_slice(bytes)
        .map_err(|e| Error::corrupt(format!("the manifest of {name} is no JSON")).with_source(e))?;
    let text = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
    if let Some(manifests) = value["manifests"].as_array() {
        let subject = value.get("subject").into_iter();
        let found = manifests.iter().chain(subject).find(|m| m["artifactType"] == PROJECT);
        let found = found.map(|m| text(m, "digest")).filter(|d| !d.is_empty());
        return found.map(Document::Index).ok_or_else(|| {
            Error::invalid(format!("{name} is an index without a Compose project in it"))
                .with_hint("is it an image? name what `compose publish` has pushed")
        });
    }
    let kind = text(&value, "artifactType");
    let config = text(&value["config"], "mediaType");
    if kind != PROJECT && !(kind.is_empty() && config == OLD_CONFIG) {
        let kind = if kind.is_empty() { config } else { kind };
        return Err(Error::invalid(format!("{name} is not a Compose project, but {kind}"))
            .with_hint("name what `compose publish` has pushed"));
    }
    Ok(Document::Artifact(value["layers"].as_array().cloned().unwrap_or_default()))
}

/// The files that layers make; `content` gives the content of a layer's descriptor. Names are those of files in one
/// directory, and nothing but the main file has the name of a file that is read without being asked for.
///
/// # Errors
/// A name that leads elsewhere; what `content` says.
pub fn unpack(
    layers: &[Value],
    content: &mut dyn FnMut(&Value) -> Result<Vec<u8>>,
) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for layer in layers {
        let note = |key: &str| layer["annotations"][key].as_str().map(str::to_owned);
        match layer["mediaType"].as_str().unwrap_or_default() {
            FILE => {
                let extended = note(EXTENDS_KEY).is_some();
                let name = if extended { own_name(note(FILE_KEY))? } else { MAIN.to_owned() };
                let file = files.entry(name).or_default();
                if !file.is_empty() {
                    file.extend_from_slice(b"\n---\n");
                }
                file.extend(content(layer)?);
            }
            ENV_FILE => {
                let name = own_name(note(ENV_KEY))?;
                files.insert(name, content(layer)?);
            }
            _ => {}
        }
    }
    if !files.contains_key(MAIN) {
        return Err(Error::invalid("the artifact has no Compose file"));
    }
    Ok(files)
}

fn own_name(name: Option<String>) -> Result<String> {
    let name = name.ok_or_else(|| Error::invalid("invalid OCI artifact: a layer without a file name"))?;
    let bad = name.contains(['/', '\\', '\0']) || matches!(name.as_str(), "" | "." | ".." | ".env" | MAIN);
    if bad {
        return Err(Error::invalid(format!("invalid OCI artifact: a layer has the file name {name:?}")));
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unpacked(layers: &[Layer]) -> Result<BTreeMap<String, Vec<u8>>> {
        let manifest = manifest(layers, Oci::V1_1, "2026-01-01T00:00:00Z");
        let Document::Artifact(found) = read(&manifest, "x")? else { panic!("an index") };
        unpack(&found, &mut |descriptor| {
            let wanted = descriptor["digest"].as_str().unwrap();
            Ok(layers.iter().find(|l| digest(&l.bytes) == wanted).unwrap().bytes.clone())
        })
    }

    #[test]
    fn what_is_packed_is_unpacked() {
        let files = unpacked(&[
            Layer::file("compose.yaml", b"services: {}".to_vec()),
            Layer::file("override.yaml", b"name: x".to_vec()),
            Layer::extended("abc.yaml", b"services: {a: {}}".to_vec()),
            Layer::variables("def.env", b"A=b".to_vec()),
        ])
        .unwrap();
        assert_eq!(files["compose.yaml"], b"services: {}\n---\nname: x");
        assert_eq!(files.keys().collect::<Vec<_>>(), ["abc.yaml", "compose.yaml", "def.env"]);
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for name in ["../x", "/etc/x", "a/b", "..", "", ".env", "compose.yaml", "a\\b"] {
            let main = Layer::file("compose.yaml", b"a: b".to_vec());
            assert!(unpacked(&[main.clone(), Layer::extended(name, b"1".to_vec())]).is_err(), "{name}");
            assert!(unpacked(&[main, Layer::variables(name, b"2".to_vec())]).is_err(), "{name}");
        }
        assert!(unpacked(&[Layer::variables("x.env", Vec::new())]).is_err(), "no Compose file");
    }

    #[test]
    fn what_is_no_project_is_told_from_one() {
        let image =
            json!({"config": {"mediaType": "application/vnd.oci.image.config.v1+json"}, "layers": []});
        let error = read(image.to_string().as_bytes(), "img").unwrap_err().to_string();
        assert!(
            error.contains("img is not a Compose project, but application/vnd.oci.image.config"),
            "{error}"
        );
        let old = manifest(&[], Oci::V1_0, "");
        assert_eq!(read(&old, "x").unwrap(), Document::Artifact(Vec::new()));
        let index = application(&[json!({"digest": "sha256:1"})], &old);
        assert_eq!(read(&index, "x").unwrap(), Document::Index(digest(&old)));
        assert!(read(br#"{"manifests": []}"#, "x").is_err());
        assert!(read(b"no", "x").is_err());
    }
}
