//! The v1 layout of archives that very old versions of Docker saved: one directory a layer, each with a `json`
//! that names its parent, and `repositories` for the names.

use fluyt_model::reference::Reference;
use fluyt_model::{Error, Result};
use serde::Deserialize;

use super::Repositories;
use super::load::{Candidate, write_manifest};
use super::stage::Stage;
use crate::blobs::Blobs;
use crate::digest::{Digest, is_lower_hex};
use crate::layer::codec::Decoder;
use crate::oci::{ContainerConfig, History, ImageConfig, RootFs};

/// The most layers of an image in this layout.
const MAX_LAYERS: usize = 1024;

/// The `json` of one v1 layer.
#[derive(Deserialize)]
struct Layer {
    #[serde(default)]
    parent: String,
    #[serde(default)]
    created: Option<String>,
    #[serde(default)]
    author: String,
    #[serde(default)]
    comment: String,
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
    #[serde(default)]
    config: Option<ContainerConfig>,
    #[serde(default)]
    container_config: Option<ContainerConfig>,
}

/// The images that `repositories` names; none when there is no such file.
pub(crate) fn candidates(stage: &Stage<'_>, blobs: &Blobs) -> Result<Vec<Candidate>> {
    let Some(bytes) = stage.document("repositories")? else { return Ok(Vec::new()) };
    let repositories: Repositories =
        serde_json::from_slice(&bytes).map_err(|e| Error::corrupt("repositories").with_source(e))?;
    let mut found: Vec<Candidate> = Vec::new();
    for (repository, tags) in repositories {
        for (tag, id) in tags {
            let name = Reference::parse(&format!("{repository}:{tag}"))?;
            let manifest = convert(stage, blobs, &id)?;
            let name = (name, manifest.clone());
            match found.iter_mut().find(|candidate| candidate.manifest == manifest) {
                Some(known) => known.names.push(name),
                None => found.push(Candidate { manifest, names: vec![name] }),
            }
        }
    }
    Ok(found)
}

/// Makes configuration and manifest of the image whose topmost layer is `id`.
fn convert(stage: &Stage<'_>, blobs: &Blobs, id: &str) -> Result<Digest> {
    let mut chain = Vec::new();
    let mut next = id.to_owned();
    while !next.is_empty() {
        if next.len() != 64 || !is_lower_hex(&next) {
            return Err(Error::invalid(format!("the layer id {next:?} is malformed")));
        }
        if chain.len() >= MAX_LAYERS {
            return Err(Error::invalid("the layers of the archive are too many, or in a circle"));
        }
        let name = format!("{next}/json");
        let bytes =
            stage.document(&name)?.ok_or_else(|| Error::corrupt(format!("the archive lacks {name:?}")))?;
        let layer: Layer = serde_json::from_slice(&bytes).map_err(|e| Error::corrupt(name).with_source(e))?;
        let parent = layer.parent.clone();
        chain.push((std::mem::replace(&mut next, parent), layer));
    }
    let mut config = ImageConfig {
        rootfs: RootFs { kind: "layers".to_owned(), diff_ids: Vec::new() },
        ..Default::default()
    };
    let mut digests = Vec::new();
    for (id, layer) in chain.into_iter().rev() {
        let name = format!("{id}/layer.tar");
        let digest =
            stage.blob(&name)?.ok_or_else(|| Error::corrupt(format!("the archive lacks {name:?}")))?;
        config.rootfs.diff_ids.push(diff_id(blobs, &digest)?);
        digests.push(digest);
        let command = layer.container_config.and_then(|c| c.cmd).unwrap_or_default().join(" ");
        config.history.push(History {
            created: layer.created.clone(),
            created_by: command,
            author: layer.author.clone(),
            comment: layer.comment.clone(),
            empty_layer: false,
        });
        config.created = layer.created;
        config.author = layer.author;
        config.architecture = layer.architecture;
        config.os = if layer.os.is_empty() { "linux".to_owned() } else { layer.os };
        config.config = layer.config.unwrap_or_default();
    }
    let bytes =
        serde_json::to_vec(&config).map_err(|e| Error::internal("writing a configuration").with_source(e))?;
    let config = blobs.put_bytes(&bytes)?;
    write_manifest(blobs, &config, &digests)
}

/// The digest of a layer without its compression.
fn diff_id(blobs: &Blobs, digest: &Digest) -> Result<Digest> {
    let mut decoder = Decoder::detect(blobs.open(digest)?)?;
    if matches!(decoder, Decoder::Plain(_)) {
        return Ok(digest.clone());
    }
    super::commit::content_digest(&mut decoder, digest)
}
