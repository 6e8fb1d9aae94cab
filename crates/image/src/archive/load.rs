//! `load`: images from a docker-archive or an OCI layout.
//!
//! Blobs stream into the content store; when the archive is read, its index says which of them are images. A
//! failed load removes what it added.

use std::io::{BufReader, Read};
use std::path::Path;

use fluyt_model::reference::Reference;
use fluyt_model::{Error, Result};

use super::stage::Stage;
use super::{ArchiveImage, IMAGE_NAME, REF_NAME, legacy};
use crate::blobs::Blobs;
use crate::digest::Digest;
use crate::images::Name;
use crate::layer::codec::{Compression, Decoder};
use crate::lease::Lease;
use crate::oci::{self, Descriptor, Document, ImageConfig, Index, Manifest, Platform};
use crate::progress::Progress;
use crate::store::Store;

/// What one image of an archive became.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The id of the image.
    pub id: Digest,
    /// The name it was given, `None` when the archive has none for it.
    pub name: Option<Reference>,
    /// The image that had this name before.
    pub replaced: Option<Digest>,
}

/// As `docker load` tells it: `Loaded image: busybox:latest`.
impl std::fmt::Display for Loaded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.name {
            Some(name) => write!(f, "Loaded image: {}", name.familiar()),
            None => write!(f, "Loaded image ID: {}", self.id),
        }
    }
}

/// An image found in an archive: its manifest and its names, each with its target.
pub(crate) struct Candidate {
    pub manifest: Digest,
    pub names: Vec<Name>,
}

impl Store {
    /// Loads every image of a docker-archive or OCI layout from a stream; `platform` chooses in multi-platform
    /// indexes (default: this machine's).
    ///
    /// # Errors
    /// `Kind::Corrupt` for damage and wrong digests, `Kind::Invalid` for what is no archive of images; nothing
    /// of a failed load stays.
    pub fn load(
        &self,
        input: impl Read,
        platform: Option<&Platform>,
        progress: &dyn Progress,
    ) -> Result<Vec<Loaded>> {
        self.undoing(|lease| {
            let blobs = lease.blobs();
            let mut stage = Stage::new(&blobs, progress);
            let decoder = Decoder::detect(input)?;
            stage.read_tar(BufReader::with_capacity(256 * 1024, decoder))?;
            self.load_stage(lease, &stage, platform, progress)
        })
    }

    /// Loads every image of a directory with an OCI layout or an unpacked docker-archive.
    ///
    /// # Errors
    /// As [`Store::load`].
    pub fn load_directory(
        &self,
        dir: &Path,
        platform: Option<&Platform>,
        progress: &dyn Progress,
    ) -> Result<Vec<Loaded>> {
        self.undoing(|lease| {
            let blobs = lease.blobs();
            let mut stage = Stage::new(&blobs, progress);
            stage.read_directory(dir)?;
            self.load_stage(lease, &stage, platform, progress)
        })
    }

    /// Runs `work` under a lease and removes what it added when it fails.
    ///
    /// # Errors
    /// Those of `work`.
    pub fn undoing<T>(&self, work: impl FnOnce(&Lease) -> Result<T>) -> Result<T> {
        let lease = self.lease()?;
        let result = work(&lease);
        if result.is_err() {
            // The error of the work itself matters more than one of tidying up, which `prune` repeats.
            let _ = self.discard(lease);
        }
        result
    }

    fn load_stage(
        &self,
        lease: &Lease,
        stage: &Stage<'_>,
        platform: Option<&Platform>,
        progress: &dyn Progress,
    ) -> Result<Vec<Loaded>> {
        let blobs = lease.blobs();
        let host = Platform::host();
        let platform = platform.unwrap_or(&host);
        let listed = archive_images(stage)?;
        let mut found = layout_candidates(stage, &blobs, platform)?;
        if let Some(listed) = listed {
            add_listed(stage, &blobs, listed, &mut found)?;
        } else if found.is_empty() {
            found = legacy::candidates(stage, &blobs)?;
        }
        if found.is_empty() {
            return Err(Error::invalid(
                "the archive has no image: neither manifest.json nor index.json nor repositories",
            )
            .with_hint("to make an image of a root file system, use `fluyt import`"));
        }
        let mut loaded = Vec::new();
        for candidate in found {
            let mut replaced = Vec::new();
            for (name, _) in &candidate.names {
                replaced.push(self.by_reference(name)?.map(|image| image.id));
            }
            let image = self.register(lease, &candidate.manifest, &candidate.names, progress)?;
            let names = candidate.names.into_iter().zip(replaced);
            let before = loaded.len();
            loaded.extend(names.map(|((name, _), old)| Loaded {
                id: image.id.clone(),
                name: Some(name),
                replaced: old.filter(|old| *old != image.id),
            }));
            if loaded.len() == before {
                loaded.push(Loaded { id: image.id, name: None, replaced: None });
            }
        }
        Ok(loaded)
    }
}

fn archive_images(stage: &Stage<'_>) -> Result<Option<Vec<ArchiveImage>>> {
    let Some(bytes) = stage.document("manifest.json")? else { return Ok(None) };
    let parsed = serde_json::from_slice(&bytes);
    parsed.map(Some).map_err(|e| Error::corrupt("manifest.json").with_source(e))
}

/// The images of an OCI layout's `index.json`.
fn layout_candidates(stage: &Stage<'_>, blobs: &Blobs, platform: &Platform) -> Result<Vec<Candidate>> {
    let Some(bytes) = stage.document("index.json")? else { return Ok(Vec::new()) };
    let index: Index =
        serde_json::from_slice(&bytes).map_err(|e| Error::corrupt("index.json").with_source(e))?;
    let mut found: Vec<Candidate> = Vec::new();
    for descriptor in &index.manifests {
        if descriptor.annotations.contains_key("vnd.docker.reference.type") {
            continue;
        }
        let Some(manifest) = image_of(blobs, descriptor, platform, 0)? else { continue };
        let name = layout_name(descriptor)?.map(|name| (name, descriptor.digest.clone()));
        match found.iter_mut().find(|candidate| candidate.manifest == manifest) {
            Some(known) => known.names.extend(name),
            None => found.push(Candidate { manifest, names: name.into_iter().collect() }),
        }
    }
    if found.is_empty() && !index.manifests.is_empty() {
        return Err(Error::not_found(format!("the archive has no image for the platform {platform}"))
            .with_hint("choose another one with --platform"));
    }
    Ok(found)
}

/// Follows indexes down to the manifest for `platform`; `None` when the layout does not have it.
fn image_of(
    blobs: &Blobs,
    descriptor: &Descriptor,
    platform: &Platform,
    depth: u32,
) -> Result<Option<Digest>> {
    if !blobs.has(&descriptor.digest) {
        return Err(Error::corrupt(format!("the archive lacks the blob {}", descriptor.digest)));
    }
    let bytes = blobs.read_small(&descriptor.digest, oci::MAX_DOCUMENT)?;
    match Document::parse(&bytes, descriptor.digest.as_str())? {
        Document::Manifest(manifest) => {
            let image = matches!(manifest.config.media_type.as_str(), oci::OCI_CONFIG | oci::DOCKER_CONFIG);
            Ok(image.then(|| descriptor.digest.clone()))
        }
        Document::Index(_) if depth > 3 => Err(Error::invalid("indexes are nested too deeply")),
        Document::Index(index) => {
            // An archive may hold only some of the platforms that its index names.
            let here: Vec<Descriptor> =
                index.manifests.into_iter().filter(|m| blobs.has(&m.digest)).collect();
            let chosen = platform.choose(&here).or_else(|| {
                let plain = here.iter().position(|m| m.platform.is_none());
                plain.filter(|_| here.len() == 1)
            });
            chosen.map_or(Ok(None), |at| image_of(blobs, &here[at], platform, depth + 1))
        }
    }
}

/// The name of an image in a layout: containerd's annotation, or the specification's if it is a whole name.
fn layout_name(descriptor: &Descriptor) -> Result<Option<Reference>> {
    if let Some(name) = descriptor.annotations.get(IMAGE_NAME) {
        return Reference::parse(name).map(Some);
    }
    let Some(name) = descriptor.annotations.get(REF_NAME) else { return Ok(None) };
    // By the specification this may be a bare tag; a tag of no repository names nothing.
    let whole = name.contains(['/', ':']);
    if whole { Reference::parse(name).map(Some) } else { Ok(None) }
}

/// Adds what `manifest.json` lists: further names of images known from the layout, or images of their own.
fn add_listed(
    stage: &Stage<'_>,
    blobs: &Blobs,
    listed: Vec<ArchiveImage>,
    found: &mut Vec<Candidate>,
) -> Result<()> {
    for image in listed {
        let config = stage.blob(&image.config)?.ok_or_else(|| {
            Error::corrupt(format!("the archive lacks the configuration {:?}", image.config))
        })?;
        check_config_name(&image.config, &config)?;
        let names: Vec<Reference> =
            image.repo_tags.iter().flatten().map(|tag| Reference::parse(tag)).collect::<Result<_>>()?;
        let known =
            found.iter().position(|candidate| config_of(blobs, &candidate.manifest) == Some(config.clone()));
        let at = match known {
            Some(at) => at,
            None => {
                let layers = image.layers.unwrap_or_default();
                let manifest = manifest_for(stage, blobs, &config, &layers)?;
                found.push(Candidate { manifest, names: Vec::new() });
                found.len() - 1
            }
        };
        for name in names {
            if !found[at].names.iter().any(|(known, _)| *known == name) {
                let target = found[at].manifest.clone();
                found[at].names.push((name, target));
            }
        }
    }
    Ok(())
}

/// `HEX.json` states the digest of the configuration.
fn check_config_name(name: &str, digest: &Digest) -> Result<()> {
    let stem = name.strip_suffix(".json").unwrap_or(name);
    let stated = Digest::from_sha256_hex(stem.rsplit('/').next().unwrap_or(stem));
    match stated {
        Ok(stated) if stated != *digest => {
            Err(Error::corrupt(format!("the configuration {name:?} has the digest {digest}")))
        }
        _ => Ok(()),
    }
}

fn config_of(blobs: &Blobs, manifest: &Digest) -> Option<Digest> {
    let bytes = blobs.read_small(manifest, oci::MAX_DOCUMENT).ok()?;
    match Document::parse(&bytes, manifest.as_str()).ok()? {
        Document::Manifest(manifest) => Some(manifest.config.digest),
        Document::Index(_) => None,
    }
}

/// Writes the manifest of an image that came without one.
fn manifest_for(stage: &Stage<'_>, blobs: &Blobs, config: &Digest, layers: &[String]) -> Result<Digest> {
    let raw = blobs.read_small(config, oci::MAX_DOCUMENT)?;
    let stated = ImageConfig::parse(&raw, config.as_str())?.rootfs.diff_ids.len();
    if stated != layers.len() {
        return Err(Error::corrupt(format!(
            "invalid manifest, layers length mismatch: expected {stated}, got {}",
            layers.len()
        )));
    }
    let mut digests = Vec::new();
    for name in layers {
        digests.push(
            stage
                .blob(name)?
                .ok_or_else(|| Error::corrupt(format!("the archive lacks the layer {name:?}")))?,
        );
    }
    write_manifest(blobs, config, &digests)
}

/// Writes an OCI manifest over blobs that are here and returns its digest.
pub(crate) fn write_manifest(blobs: &Blobs, config: &Digest, layers: &[Digest]) -> Result<Digest> {
    let mut descriptors = Vec::new();
    for digest in layers {
        let mut start = Vec::new();
        blobs
            .open(digest)?
            .take(8)
            .read_to_end(&mut start)
            .map_err(|e| Error::io(format!("blob {digest}"), e))?;
        let media_type =
            match Compression::detect(&start).map_err(|e| e.context(format!("layer {digest}")))? {
                Compression::None => oci::OCI_LAYER,
                Compression::Gzip => oci::OCI_LAYER_GZIP,
                Compression::Zstd => oci::OCI_LAYER_ZSTD,
                Compression::Bzip2 | Compression::Xz => {
                    return Err(Error::unsupported(format!("layer {digest} is compressed with bzip2 or xz"))
                        .with_hint("layers of images may be compressed with gzip or zstd"));
                }
            };
        descriptors.push(Descriptor::new(media_type, digest.clone(), blobs.size(digest)?));
    }
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(oci::OCI_MANIFEST.to_owned()),
        artifact_type: None,
        config: Descriptor::new(oci::OCI_CONFIG, config.clone(), blobs.size(config)?),
        layers: descriptors,
        annotations: Default::default(),
    };
    let bytes =
        serde_json::to_vec(&manifest).map_err(|e| Error::internal("writing a manifest").with_source(e))?;
    blobs.put_bytes(&bytes)
}
