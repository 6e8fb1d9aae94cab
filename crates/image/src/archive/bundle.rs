//! Archives of documents rather than of recorded images: what a build puts out, with its indexes and attestations,
//! as one stream or as a directory.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;

use fluyt_model::error::IoContext;
use fluyt_model::reference::Reference;
use fluyt_model::{Error, Result};

use super::save::{Contents, Encoder, SaveOptions, blob_path, json};
use super::{ArchiveImage, IMAGE_NAME, REF_NAME};
use crate::digest::Digest;
use crate::oci::{self, Descriptor, Document, ImageConfig, Index, Manifest};
use crate::progress::Progress;
use crate::store::Store;

/// A manifest or an index that goes into an archive, under these names.
#[derive(Clone, Debug)]
pub struct Root {
    /// What `index.json` says of it, but for the names.
    pub descriptor: Descriptor,
    /// Its names; an empty list: it has none.
    pub names: Vec<Reference>,
}

impl Store {
    /// Writes an archive of documents that are in the store, with all that they lead to.
    ///
    /// # Errors
    /// `Kind::NotFound` for content that is not here; I/O errors.
    pub fn save_roots<W: Write>(
        &self,
        roots: &[Root],
        output: W,
        options: &SaveOptions,
        progress: &dyn Progress,
    ) -> Result<W> {
        let contents = self.contents_of(roots, options)?;
        let mut output = Encoder::new(output, options.compression)?;
        self.write_layout(&contents, &mut output, options, progress)?;
        output.finish().about(|| "writing the archive")
    }

    /// Adds documents with all that they lead to to the OCI layout in a directory, which is made where it is not. An
    /// entry of its index with the same name is replaced.
    ///
    /// # Errors
    /// `Kind::NotFound` for content that is not here; `Kind::Corrupt` for an index that is none; I/O errors.
    pub fn save_roots_in(&self, roots: &[Root], dir: &Path) -> Result<()> {
        let options = SaveOptions { oci_only: true, ..SaveOptions::default() };
        let contents = self.contents_of(roots, &options)?;
        let at = |name: &str| dir.join(name);
        let index = at("index.json");
        let mut manifests = match std::fs::read(&index) {
            Ok(bytes) => {
                let known: Index = serde_json::from_slice(&bytes)
                    .map_err(|e| Error::corrupt(index.display().to_string()).with_source(e))?;
                known.manifests
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(e) => return Err(Error::io(index.display().to_string(), e)),
        };
        for digest in &contents.blobs {
            let target = at(&blob_path(digest));
            let about = || target.display().to_string();
            if target.metadata().is_ok_and(|meta| Some(meta.len()) == self.blobs().size(digest).ok()) {
                continue;
            }
            if let Some(parent) = target.parent() {
                std::fs::create_dir_all(parent).about(|| parent.display().to_string())?;
            }
            let fresh = target.with_extension("new");
            let mut file = std::fs::File::create(&fresh).about(|| fresh.display().to_string())?;
            std::io::copy(&mut self.blobs().open(digest)?, &mut file).about(about)?;
            std::fs::rename(&fresh, &target).about(about)?;
        }
        let same = |a: &Descriptor, b: &Descriptor| match (
            a.annotations.get(IMAGE_NAME),
            b.annotations.get(IMAGE_NAME),
        ) {
            (None, None) => a.digest == b.digest,
            (a, b) => a == b,
        };
        manifests.retain(|old| !contents.manifests.iter().any(|new| same(old, new)));
        manifests.extend(contents.manifests);
        let document = Index {
            schema_version: 2,
            media_type: Some(oci::OCI_INDEX.to_owned()),
            manifests,
            annotations: BTreeMap::new(),
        };
        let layout = at("oci-layout");
        std::fs::write(&layout, br#"{"imageLayoutVersion":"1.0.0"}"#)
            .about(|| layout.display().to_string())?;
        // The index last: until then the new blobs belong to nothing.
        let fresh = at("index.json.new");
        std::fs::write(&fresh, json(&document)?).about(|| fresh.display().to_string())?;
        std::fs::rename(&fresh, &index).about(|| index.display().to_string())
    }

    fn contents_of(&self, roots: &[Root], options: &SaveOptions) -> Result<Contents> {
        let mut contents = Contents::default();
        for root in roots {
            self.gather(&root.descriptor.digest, &mut contents.blobs)?;
            if !options.oci_only {
                self.list_image(root, &mut contents)?;
            }
            if root.names.is_empty() {
                contents.manifests.push(root.descriptor.clone());
            }
            for name in &root.names {
                let mut descriptor = root.descriptor.clone();
                descriptor.annotations.insert(IMAGE_NAME.to_owned(), name.to_string());
                if let Some(tag) = name.tag() {
                    descriptor.annotations.insert(REF_NAME.to_owned(), tag.to_owned());
                }
                contents.manifests.push(descriptor);
            }
        }
        Ok(contents)
    }

    /// All that a document leads to.
    fn gather(&self, digest: &Digest, found: &mut BTreeSet<Digest>) -> Result<()> {
        let mut open = vec![digest.clone()];
        while let Some(next) = open.pop() {
            if !found.insert(next.clone()) {
                continue;
            }
            match self.document(&next)? {
                Document::Index(index) => open.extend(index.manifests.into_iter().map(|m| m.digest)),
                Document::Manifest(manifest) => {
                    found.extend(manifest.layers.into_iter().map(|layer| layer.digest));
                    found.insert(manifest.config.digest);
                }
            }
        }
        Ok(())
    }

    fn document(&self, digest: &Digest) -> Result<Document> {
        Document::parse(&self.blobs().read_small(digest, oci::MAX_DOCUMENT)?, digest.as_str())
    }

    /// The lines of `manifest.json` and `repositories`, for programs that know nothing of OCI layouts: of an index, its
    /// first image.
    fn list_image(&self, root: &Root, contents: &mut Contents) -> Result<()> {
        let manifest: Manifest = match self.document(&root.descriptor.digest)? {
            Document::Manifest(manifest) => manifest,
            Document::Index(index) => {
                let image = |m: &&Descriptor| !m.annotations.contains_key("vnd.docker.reference.type");
                let Some(first) = index.manifests.iter().find(image) else { return Ok(()) };
                match self.document(&first.digest)? {
                    Document::Manifest(manifest) => manifest,
                    Document::Index(_) => return Ok(()),
                }
            }
        };
        let raw = self.blobs().read_small(&manifest.config.digest, oci::MAX_DOCUMENT)?;
        let config = ImageConfig::parse(&raw, manifest.config.digest.as_str())?;
        let last = config.rootfs.diff_ids.last().map_or("", Digest::hex);
        for name in &root.names {
            if let Some(tag) = name.tag() {
                let tags = contents.repositories.entry(name.familiar_name()).or_default();
                tags.insert(tag.to_owned(), last.to_owned());
            }
        }
        contents.images.push(ArchiveImage {
            config: blob_path(&manifest.config.digest),
            repo_tags: Some(root.names.iter().map(Reference::familiar).collect()),
            layers: Some(manifest.layers.iter().map(|layer| blob_path(&layer.digest)).collect()),
        });
        Ok(())
    }
}
