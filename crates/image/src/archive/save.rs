//! `save`: images as a docker-archive that is an OCI layout too, as current versions of Docker write it, or as a
//! plain OCI layout.
//!
//! Blobs go out as they are stored, so that loading them again gives the same digests. The archive depends only on
//! the images and names given.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

use fluyt_model::error::IoContext;
use fluyt_model::reference::Reference;
use fluyt_model::{Error, Result};

use super::{ArchiveImage, IMAGE_NAME, REF_NAME, Repositories};
use crate::digest::Digest;
use crate::images::Image;
use crate::layer::codec::Compression;
use crate::layer::gzip::Gzip;
use crate::layer::writer::TarWriter;
use crate::oci::{self, Descriptor, Document, Index, Manifest, Platform};
use crate::progress::{Outcome, Progress};
use crate::store::Store;

/// How images are saved.
#[derive(Clone, Debug)]
pub struct SaveOptions {
    /// Refuse images that are not for this platform.
    pub platform: Option<Platform>,
    /// Only the OCI layout, without Docker's `manifest.json` and `repositories`.
    pub oci_only: bool,
    /// How the whole archive is compressed.
    pub compression: Compression,
}

impl Default for SaveOptions {
    fn default() -> Self {
        Self { platform: None, oci_only: false, compression: Compression::None }
    }
}

/// What goes into an archive.
#[derive(Default)]
pub(super) struct Contents {
    pub blobs: BTreeSet<Digest>,
    pub manifests: Vec<Descriptor>,
    pub images: Vec<ArchiveImage>,
    pub repositories: Repositories,
}

impl Store {
    /// Saves the images that `names` find, in the order given. A name without tag saves every tag of that
    /// repository; an id saves the image without names.
    ///
    /// # Errors
    /// `Kind::NotFound` for a name that finds nothing; I/O errors.
    pub fn save<W: Write>(
        &self,
        names: &[&str],
        output: W,
        options: &SaveOptions,
        progress: &dyn Progress,
    ) -> Result<W> {
        let lease = self.lease()?;
        let mut contents = Contents::default();
        for (image, references) in self.selected(names)? {
            lease.protect(&image.manifest)?;
            self.add_image(&mut contents, &image, &references, options)?;
        }
        for digest in &contents.blobs {
            lease.protect(digest)?;
        }
        let mut output = Encoder::new(output, options.compression)?;
        self.write_layout(&contents, &mut output, options, progress)?;
        output.finish().about(|| "writing the archive")
    }

    /// The images to save, each once, with the names that were asked for.
    fn selected(&self, names: &[&str]) -> Result<Vec<(Image, Vec<Reference>)>> {
        let mut selected: Vec<(Image, Vec<Reference>)> = Vec::new();
        let mut add = |image: Image, name: Option<Reference>| {
            let at = selected.iter().position(|(known, _)| known.id == image.id).unwrap_or_else(|| {
                selected.push((image, Vec::new()));
                selected.len() - 1
            });
            if let Some(name) = name.filter(|name| !selected[at].1.contains(name)) {
                selected[at].1.push(name);
            }
        };
        for name in names {
            let bare = Reference::parse_untagged(name).ok().filter(Reference::is_name_only);
            let tags = match &bare {
                Some(repository) => self.tags_of(repository)?,
                None => Vec::new(),
            };
            if tags.is_empty() {
                let image = self.resolve(name)?;
                let reference =
                    Reference::parse(name).ok().filter(|r| image.references.contains(&r.to_string()));
                add(image, reference.filter(|r| r.digest().is_none()));
            }
            for (reference, image) in tags {
                add(image, Some(reference));
            }
        }
        Ok(selected)
    }

    fn tags_of(&self, repository: &Reference) -> Result<Vec<(Reference, Image)>> {
        let mut found = Vec::new();
        for image in self.images()? {
            for reference in image.parsed_references() {
                if reference.name() == repository.name() && reference.digest().is_none() {
                    found.push((reference, image.clone()));
                }
            }
        }
        found.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(found)
    }

    fn add_image(
        &self,
        contents: &mut Contents,
        image: &Image,
        references: &[Reference],
        options: &SaveOptions,
    ) -> Result<()> {
        if let Some(wanted) = &options.platform
            && wanted.rank(&image.config.platform()).is_none()
        {
            return Err(Error::not_found(format!(
                "image {} is for {}, not for {wanted}",
                references.first().map_or_else(|| image.id.short().to_owned(), Reference::familiar),
                image.config.platform()
            )));
        }
        let bytes = self.blobs().read_small(&image.manifest, oci::MAX_DOCUMENT)?;
        let Document::Manifest(manifest) = Document::parse(&bytes, image.manifest.as_str())? else {
            return Err(Error::corrupt(format!("the manifest of image {} is an index", image.id)));
        };
        contents.blobs.insert(image.manifest.clone());
        contents.blobs.insert(manifest.config.digest.clone());
        contents.blobs.extend(manifest.layers.iter().map(|layer| layer.digest.clone()));
        let targets: BTreeMap<String, Digest> = self.targets(&image.id)?.into_iter().collect();
        if references.is_empty() {
            contents.manifests.push(self.manifest_descriptor(image, &manifest, bytes.len()));
        }
        for reference in references {
            let target = targets.get(&reference.to_string());
            let mut descriptor = match target.filter(|t| **t != image.manifest) {
                Some(index) => match self.whole_index(index)? {
                    Some((descriptor, blobs)) => {
                        contents.blobs.extend(blobs);
                        descriptor
                    }
                    None => self.manifest_descriptor(image, &manifest, bytes.len()),
                },
                None => self.manifest_descriptor(image, &manifest, bytes.len()),
            };
            descriptor.annotations.insert(IMAGE_NAME.to_owned(), reference.to_string());
            if let Some(tag) = reference.tag() {
                descriptor.annotations.insert(REF_NAME.to_owned(), tag.to_owned());
                let tags = contents.repositories.entry(reference.familiar_name()).or_default();
                tags.insert(tag.to_owned(), image.layers.last().map_or("", |l| l.diff_id.hex()).to_owned());
            }
            contents.manifests.push(descriptor);
        }
        contents.images.push(ArchiveImage {
            config: blob_path(&manifest.config.digest),
            repo_tags: Some(references.iter().map(Reference::familiar).collect()),
            layers: Some(manifest.layers.iter().map(|layer| blob_path(&layer.digest)).collect()),
        });
        Ok(())
    }

    fn manifest_descriptor(&self, image: &Image, manifest: &Manifest, size: usize) -> Descriptor {
        let media_type = manifest.media_type.as_deref().unwrap_or(oci::OCI_MANIFEST);
        let mut descriptor = Descriptor::new(media_type, image.manifest.clone(), size as u64);
        descriptor.platform = Some(image.config.platform());
        descriptor
    }

    /// An index with everything it leads to, if all of that is here.
    fn whole_index(&self, digest: &Digest) -> Result<Option<(Descriptor, BTreeSet<Digest>)>> {
        let blobs = self.blobs();
        let mut all = BTreeSet::new();
        let mut open = vec![digest.clone()];
        let mut top = None;
        while let Some(next) = open.pop() {
            if !all.insert(next.clone()) {
                continue;
            }
            if !blobs.has(&next) {
                return Ok(None);
            }
            let bytes = blobs.read_small(&next, oci::MAX_DOCUMENT)?;
            let document = Document::parse(&bytes, next.as_str())?;
            if top.is_none() {
                let Document::Index(index) = &document else { return Ok(None) };
                let media_type = index.media_type.as_deref().unwrap_or(oci::OCI_INDEX);
                top = Some(Descriptor::new(media_type, next.clone(), bytes.len() as u64));
            }
            match document {
                Document::Index(index) => open.extend(index.manifests.into_iter().map(|m| m.digest)),
                Document::Manifest(manifest) => {
                    for blob in manifest.layers.into_iter().chain([manifest.config]) {
                        if !blobs.has(&blob.digest) {
                            return Ok(None);
                        }
                        all.insert(blob.digest);
                    }
                }
            }
        }
        Ok(top.map(|top| (top, all)))
    }

    pub(super) fn write_layout(
        &self,
        contents: &Contents,
        output: &mut dyn Write,
        options: &SaveOptions,
        progress: &dyn Progress,
    ) -> Result<()> {
        let mut tar = TarWriter::new(output);
        let written = |e| Error::io("writing the archive", e);
        tar.append_directory("blobs", 0).map_err(written)?;
        let mut algorithms = BTreeSet::new();
        for digest in &contents.blobs {
            if algorithms.insert(digest.algorithm()) {
                tar.append_directory(&format!("blobs/{}", digest.algorithm().name()), 0).map_err(written)?;
            }
            let size = self.blobs().size(digest)?;
            let item = format!("Saving {digest}");
            progress.begin(&item, Some(size));
            let mut file = Watched { inner: self.blobs().open(digest)?, item: &item, progress };
            let result = tar.append_stream(&blob_path(digest), size, &mut file, 0);
            progress.finish(&item, if result.is_ok() { Outcome::Done } else { Outcome::Failed });
            result.map_err(written)?;
        }
        let index = Index {
            schema_version: 2,
            media_type: Some(oci::OCI_INDEX.to_owned()),
            manifests: contents.manifests.clone(),
            annotations: BTreeMap::new(),
        };
        tar.append_bytes("index.json", &json(&index)?, 0).map_err(written)?;
        if !options.oci_only {
            tar.append_bytes("manifest.json", &json(&contents.images)?, 0).map_err(written)?;
        }
        tar.append_bytes("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#, 0).map_err(written)?;
        if !options.oci_only && !contents.repositories.is_empty() {
            tar.append_bytes("repositories", &json(&contents.repositories)?, 0).map_err(written)?;
        }
        tar.finish().map_err(written)?;
        Ok(())
    }
}

pub(super) fn json<T: serde::Serialize>(value: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|e| Error::internal("writing a document").with_source(e))
}

pub(super) fn blob_path(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().name(), digest.hex())
}

struct Watched<'a> {
    inner: std::fs::File,
    item: &'a str,
    progress: &'a dyn Progress,
}

impl std::io::Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.progress.advance(self.item, n as u64);
        Ok(n)
    }
}

/// A writer that compresses.
pub(crate) enum Encoder<W: Write> {
    Plain(W),
    Gzip(Box<Gzip<W>>),
    Zstd(Box<zstd::stream::write::Encoder<'static, W>>),
}

impl<W: Write> Encoder<W> {
    pub(crate) fn new(output: W, compression: Compression) -> Result<Self> {
        Ok(match compression {
            Compression::None => Self::Plain(output),
            Compression::Gzip => Self::Gzip(Box::new(Gzip::new(output, 4))),
            Compression::Bzip2 | Compression::Xz => {
                return Err(Error::unsupported("bzip2 and xz are read, not written"));
            }
            Compression::Zstd => Self::Zstd(Box::new(
                zstd::stream::write::Encoder::new(output, 3)
                    .map_err(|e| Error::internal("setting up the zstd encoder").with_source(e))?,
            )),
        })
    }

    pub(crate) fn finish(self) -> std::io::Result<W> {
        match self {
            Self::Plain(mut w) => {
                w.flush()?;
                Ok(w)
            }
            Self::Gzip(w) => w.finish(),
            Self::Zstd(w) => w.finish(),
        }
    }
}

impl<W: Write> Write for Encoder<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self {
            Self::Plain(w) => w.write(bytes),
            Self::Gzip(w) => w.write(bytes),
            Self::Zstd(w) => w.write(bytes),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match self {
            Self::Plain(w) => w.flush(),
            Self::Gzip(w) => w.flush(),
            Self::Zstd(w) => w.flush(),
        }
    }
}
