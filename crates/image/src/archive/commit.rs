//! New images: from a container's writable layer (`commit`), and from the archive of a root file system
//! (`import`).

use std::io::{BufRead, Read, Write};
use std::path::Path;

use fluyt_model::error::IoContext;
use fluyt_model::reference::Reference;
use fluyt_model::{Error, Kind, Result};
use serde_json::{Map, Value, json};

use super::load::write_manifest;
use super::save::Encoder;
use crate::blobs::Ingest;
use crate::changes::Instruction;
use crate::digest::{Algorithm, Digest, Hasher};
use crate::images::{Image, NewImage};
use crate::layer::Limits;
use crate::layer::codec::{Compression, Decoder, peek};
use crate::layer::pack;
use crate::layer::unpack::LayerSource;
use crate::layer::walk::Stack;
use crate::lease::Lease;
use crate::oci::{ContainerConfig, Document, MAX_DOCUMENT, Platform};
use crate::progress::{Outcome, Progress};
use crate::store::Store;
use crate::time;

/// What a commit adds to the image of the container.
#[derive(Clone, Debug, Default)]
pub struct CommitOptions {
    /// The name of the new image.
    pub reference: Option<Reference>,
    /// Who made it.
    pub author: String,
    /// A comment.
    pub comment: String,
    /// `-c` instructions.
    pub changes: Vec<Instruction>,
    /// The container's own configuration, which replaces the image's defaults before the instructions apply.
    pub config: Option<ContainerConfig>,
    /// The command of the container, for the history.
    pub created_by: String,
    /// Paths (absolute) in the writable layer that are not the user's: mount points and files that the runtime made.
    pub omit: Vec<String>,
}

/// What an import makes.
#[derive(Clone, Debug, Default)]
pub struct ImportOptions {
    /// The name of the new image.
    pub reference: Option<Reference>,
    /// `-c` instructions.
    pub changes: Vec<Instruction>,
    /// A comment; Docker writes `Imported from -`.
    pub message: String,
    /// The platform that the image is for; default this machine's.
    pub platform: Option<Platform>,
}

impl Store {
    /// Makes an image of a container's writable layer `upper` on top of `base`.
    ///
    /// # Errors
    /// I/O errors; `Kind::Invalid` for a bad instruction. Nothing of a failed commit stays.
    pub fn commit(
        &self,
        base: &Image,
        upper: &Path,
        options: &CommitOptions,
        progress: &dyn Progress,
    ) -> Result<Image> {
        self.undoing(|lease| {
            let (blob, diff_id) = pack_upper(lease, upper, &options.omit, progress)?;
            let mut config = self.base_config(base)?;
            if let Some(own) = &options.config {
                overlay_config(&mut config, own)?;
            }
            let now = time::now_rfc3339();
            let history = json!({
                "created": now, "created_by": options.created_by, "author": options.author, "comment": options.comment,
            });
            finish_config(&mut config, &now, &options.changes, Some((&diff_id, history)))?;
            config.insert("author".to_owned(), Value::from(options.author.clone()));
            config.insert("comment".to_owned(), Value::from(options.comment.clone()));
            let mut layers = self.layer_blobs(lease, base)?;
            layers.push(blob);
            self.finish_image(lease, config, &layers, Some(&base.id), options.reference.as_ref(), progress)
        })
    }

    /// Makes an image of one layer from the archive of a root file system.
    ///
    /// # Errors
    /// `Kind::Corrupt`, `Kind::Invalid` for a bad archive; nothing of a failed import stays.
    pub fn import(
        &self,
        input: impl Read,
        options: &ImportOptions,
        progress: &dyn Progress,
    ) -> Result<Image> {
        self.undoing(|lease| {
            let (blob, diff_id) = store_archive(lease, input, progress)?;
            let platform = options.platform.clone().unwrap_or_else(Platform::host);
            let now = time::now_rfc3339();
            let mut config = Map::new();
            config.insert("architecture".to_owned(), Value::from(platform.architecture));
            config.insert("os".to_owned(), Value::from(platform.os));
            if let Some(variant) = platform.variant {
                config.insert("variant".to_owned(), Value::from(variant));
            }
            config.insert("config".to_owned(), json!({}));
            config.insert("rootfs".to_owned(), json!({"type": "layers", "diff_ids": []}));
            config.insert("comment".to_owned(), Value::from(options.message.clone()));
            let history = json!({"created": now, "comment": options.message});
            finish_config(&mut config, &now, &options.changes, Some((&diff_id, history)))?;
            self.finish_image(lease, config, &[blob], None, options.reference.as_ref(), progress)
        })
    }

    fn base_config(&self, base: &Image) -> Result<Map<String, Value>> {
        match serde_json::from_str(&self.raw_config(&base.id)?) {
            Ok(Value::Object(config)) => Ok(config),
            _ => Err(Error::corrupt(format!("the configuration of image {}", base.id))),
        }
    }

    fn layer_blobs(&self, lease: &Lease, base: &Image) -> Result<Vec<Digest>> {
        let blobs = lease.blobs();
        let bytes = blobs.read_small(&base.manifest, MAX_DOCUMENT)?;
        match Document::parse(&bytes, base.manifest.as_str())? {
            Document::Manifest(manifest) => {
                Ok(manifest.layers.into_iter().map(|layer| layer.digest).collect())
            }
            Document::Index(_) => {
                Err(Error::corrupt(format!("the manifest of image {} is an index", base.id)))
            }
        }
    }

    fn finish_image(
        &self,
        lease: &Lease,
        config: Map<String, Value>,
        layers: &[Digest],
        parent: Option<&Digest>,
        reference: Option<&Reference>,
        progress: &dyn Progress,
    ) -> Result<Image> {
        let blobs = lease.blobs();
        let bytes = serde_json::to_vec(&config)
            .map_err(|e| Error::internal("writing a configuration").with_source(e))?;
        let config = blobs.put_bytes(&bytes)?;
        let manifest = write_manifest(&blobs, &config, layers)?;
        let (document, parsed, _) = self.read_image_documents(lease, &manifest)?;
        let sources: Vec<LayerSource<'_>> = document
            .layers
            .iter()
            .zip(&parsed.rootfs.diff_ids)
            .map(|(descriptor, diff_id)| LayerSource::blob(&blobs, descriptor, diff_id))
            .collect();
        let layers = self.unpack_layers(lease, &sources, progress)?;
        let names: Vec<_> = reference.iter().map(|r| ((*r).clone(), manifest.clone())).collect();
        let new = NewImage { manifest, config, layers, parent: parent.cloned() };
        self.record_image(lease, &new, &names)
    }
}

/// Writes the archive of a writable layer as a gzip blob; returns its digest and its diff id.
fn pack_upper(
    lease: &Lease,
    upper: &Path,
    omit: &[String],
    progress: &dyn Progress,
) -> Result<(Digest, Digest)> {
    let ingest = lease.blobs().ingest(None, None, "")?;
    let item = "Committing";
    progress.begin(item, None);
    let omitted = |path: &[u8]| omit.iter().any(|o| o.trim_start_matches('/').as_bytes() == path);
    let encoder = Encoder::new(ingest, Compression::Gzip)?;
    let hashing = Hashing { inner: encoder, hasher: Hasher::new(Algorithm::Sha256), item, progress };
    let result = pack::pack(&Stack::open(&[upper.to_owned()])?.raw(), hashing, &omitted);
    progress.finish(item, if result.is_ok() { Outcome::Done } else { Outcome::Failed });
    result?.stored(&upper.display())
}

/// Writes the archive of a layer's directory as a gzip blob; returns its digest and its diff id.
pub(crate) fn pack_layer(blobs: &crate::blobs::Blobs, dir: &Path) -> Result<(Digest, Digest)> {
    pack_with(Encoder::new(blobs.ingest(None, None, "")?, Compression::Gzip)?, dir)
}

/// Writes the archive of a layer's directory through an encoder; returns the digest of the blob and of the archive.
pub(crate) fn pack_with(encoder: Encoder<Ingest>, dir: &Path) -> Result<(Digest, Digest)> {
    let stack = Stack::open(&[dir.to_owned()])?.raw();
    pack::pack(&stack, Hashing::quiet(encoder), &|_| false)?.stored(&dir.display())
}

/// Writes an archive that is here, `source`, through an encoder; returns the digest of the blob and of the archive.
pub(crate) fn repack(
    encoder: Encoder<Ingest>,
    mut archive: impl Read,
    source: &Digest,
) -> Result<(Digest, Digest)> {
    let mut hashing = Hashing::quiet(encoder);
    std::io::copy(&mut archive, &mut hashing).about(|| format!("packing blob {source} anew"))?;
    hashing.stored(source)
}

/// The digest of the archive of a layer's directory, and the sum of its files' sizes.
pub(crate) fn digest_layer(dir: &Path) -> Result<(Digest, u64)> {
    let stack = Stack::open(&[dir.to_owned()])?.raw();
    let sink = std::io::BufWriter::with_capacity(256 * 1024, std::io::sink());
    let (hashing, size) = pack::pack_sized(&stack, Hashing::quiet(sink), &|_| false)?;
    Ok((hashing.hasher.finish(), size))
}

/// Stores the archive of a root file system as it is, or plain if no layer may be compressed so; returns its digest and
/// that of its content.
fn store_archive(lease: &Lease, input: impl Read, progress: &dyn Progress) -> Result<(Digest, Digest)> {
    let (buffered, compression) = peek(input)?;
    let fits = compression.fits_layers();
    let mut input = Decoder::new(buffered, if fits { Compression::None } else { compression })?;
    let blobs = lease.blobs();
    let mut ingest = blobs.ingest(None, None, "")?;
    let item = "Importing";
    progress.begin(item, None);
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let n = match input.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(e) if !fits => {
                let text = "the archive: its compressed data is damaged or truncated";
                return Err(Error::corrupt(text).with_source(e));
            }
            Err(e) => return Err(Error::io("reading the archive", e)),
        };
        if !fits && ingest.offset() > Limits::default().total {
            return Err(Error::new(Kind::Exhausted, "the uncompressed archive is too large"));
        }
        ingest.write_all(&buffer[..n]).map_err(|e| ingest.write_error(e))?;
        progress.advance(item, n as u64);
    }
    if ingest.offset() == 0 {
        return Err(
            Error::invalid("the archive is empty").with_hint("give the tar archive of a root file system")
        );
    }
    let blob = ingest.commit()?;
    progress.finish(item, Outcome::Done);
    let diff_id = content_digest(&mut Decoder::detect(blobs.open(&blob)?)?, &blob)?;
    Ok((blob, diff_id))
}

pub(crate) fn content_digest(decoder: &mut Decoder<impl BufRead>, name: &Digest) -> Result<Digest> {
    let mut hasher = Hasher::new(Algorithm::Sha256);
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let n = decoder.read(&mut buffer).map_err(|e| {
            Error::corrupt(format!("archive {name}: the compressed data is damaged or truncated"))
                .with_source(e)
        })?;
        if n == 0 {
            return Ok(hasher.finish());
        }
        hasher.update(&buffer[..n]);
    }
}

struct Hashing<'a, W> {
    inner: W,
    hasher: Hasher,
    item: &'a str,
    progress: &'a dyn Progress,
}

impl<W: Write> Write for Hashing<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let n = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..n]);
        self.progress.advance(self.item, n as u64);
        Ok(n)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

impl<W> Hashing<'_, W> {
    /// One that tells nobody how far it is.
    fn quiet(inner: W) -> Self {
        let hasher = Hasher::new(Algorithm::Sha256);
        Self { inner, hasher, item: "", progress: &crate::progress::Silent }
    }
}

impl Hashing<'_, Encoder<Ingest>> {
    /// Keeps what was written of `whose` files; returns the digest of the blob and of the archive.
    fn stored(self, whose: &dyn std::fmt::Display) -> Result<(Digest, Digest)> {
        let diff_id = self.hasher.finish();
        let ingest = self.inner.finish().about(|| format!("writing the layer of {whose}"))?;
        Ok((ingest.commit()?, diff_id))
    }
}

/// Puts the known fields of `own` over the `config` of an image, leaving unknown ones.
fn overlay_config(config: &mut Map<String, Value>, own: &ContainerConfig) -> Result<()> {
    let own =
        serde_json::to_value(own).map_err(|e| Error::internal("writing a configuration").with_source(e))?;
    let known = [
        "User",
        "ExposedPorts",
        "Env",
        "Entrypoint",
        "Cmd",
        "Volumes",
        "WorkingDir",
        "Labels",
        "StopSignal",
        "StopTimeout",
        "Healthcheck",
        "OnBuild",
        "Shell",
        "ArgsEscaped",
    ];
    let inner = config.entry("config").or_insert_with(|| json!({}));
    if !inner.is_object() {
        *inner = json!({});
    }
    if let (Some(inner), Value::Object(own)) = (inner.as_object_mut(), own) {
        inner.retain(|key, _| !known.contains(&key.as_str()));
        inner.extend(own);
    }
    Ok(())
}

/// Applies instructions and adds the layer with its line of history.
fn finish_config(
    config: &mut Map<String, Value>,
    now: &str,
    changes: &[Instruction],
    layer: Option<(&Digest, Value)>,
) -> Result<()> {
    let inner = config.get("config").cloned().filter(|c| !c.is_null()).unwrap_or_else(|| json!({}));
    let mut parsed: ContainerConfig = serde_json::from_value(inner)
        .map_err(|e| Error::corrupt("the configuration of the image").with_source(e))?;
    for change in changes {
        change.apply(&mut parsed);
    }
    overlay_config(config, &parsed)?;
    config.insert("created".to_owned(), Value::from(now));
    // What Docker once recorded of the building container says nothing about the new image.
    config.remove("container");
    config.remove("container_config");
    config.remove("id");
    if let Some((diff_id, line)) = layer {
        push(config, &["rootfs", "diff_ids"], Value::from(diff_id.as_str()))?;
        push(config, &["history"], line)?;
    }
    Ok(())
}

/// Appends to the list at `path`, making it where it is absent or null.
fn push(config: &mut Map<String, Value>, path: &[&str], value: Value) -> Result<()> {
    let wrong = || Error::corrupt(format!("the configuration of the image: {} is no list", path.join(".")));
    let (last, parents) = path.split_last().ok_or_else(wrong)?;
    let mut at = config;
    for key in parents {
        let next = at.entry(*key).or_insert_with(|| json!({}));
        at = next.as_object_mut().ok_or_else(wrong)?;
    }
    let list = at.entry(*last).or_insert_with(|| json!([]));
    if list.is_null() {
        *list = json!([]);
    }
    list.as_array_mut().ok_or_else(wrong)?.push(value);
    Ok(())
}
