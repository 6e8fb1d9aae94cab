//! Indexes: the images for several platforms that one name stands for, and the one that is wanted of them.
//!
//! A name has one record: its index, and the image of it that is unpacked. The other images of the index are blobs;
//! they become records of their own when somebody asks for their platform.

use fluyt_model::reference::Reference;
use fluyt_model::{Kind, Result};

use crate::digest::Digest;
use crate::images::Image;
use crate::oci::{self, Document, Index, Platform};
use crate::progress::Progress;
use crate::store::Store;

impl Store {
    /// The index that a name stands for, if it stands for one that is here.
    ///
    /// # Errors
    /// Those of the record file.
    pub fn index_of(&self, name: &str) -> Result<Option<(Digest, Index)>> {
        let Ok(reference) = Reference::parse(name) else { return Ok(None) };
        let Some(image) = self.by_reference(&reference)? else { return Ok(None) };
        let wanted = reference.to_string();
        let targets = self.targets(&image.id)?;
        let named = targets.into_iter().find(|(known, target)| {
            *known == wanted || reference.digest().is_some_and(|digest| target.as_str() == digest)
        });
        let Some((_, target)) = named.filter(|(_, target)| *target != image.manifest) else {
            return Ok(None);
        };
        let Ok(bytes) = self.blobs().read_small(&target, oci::MAX_DOCUMENT) else { return Ok(None) };
        match Document::parse(&bytes, target.as_str()) {
            Ok(Document::Index(index)) => Ok(Some((target, index))),
            _ => Ok(None),
        }
    }

    /// The image that `name` finds, for `platform`: the one that the name stands for, or another one of its index.
    ///
    /// # Errors
    /// As [`Store::resolve`]; `Kind::NotFound` when none that is here is for that platform.
    pub fn resolve_for(&self, name: &str, platform: &Platform, progress: &dyn Progress) -> Result<Image> {
        let image = self.resolve(name)?;
        let own = image.config.platform();
        // A configuration that says nothing of a platform fits all.
        if own.os.is_empty() || platform.rank(&own) == Some(0) {
            return Ok(image);
        }
        if let Some((target, index)) = self.index_of(name)?
            && let Some(at) = platform.choose(&index.manifests)
        {
            let manifest = &index.manifests[at].digest;
            if *manifest == image.manifest {
                return Ok(image);
            }
            // What is true of the index is true of all that it names.
            let mut origins = self.origins(&image.id)?;
            origins.retain(|origin| origin.target == target);
            for origin in &mut origins {
                origin.manifest = manifest.clone();
            }
            if let Some(other) = self.by_manifest(manifest)? {
                return Ok(other);
            }
            if self.is_whole(manifest)? {
                return self.undoing(|lease| {
                    lease.protect(manifest)?;
                    self.register_from(lease, manifest, &[], &origins, progress)
                });
            }
        }
        if platform.rank(&own).is_some() {
            return Ok(image);
        }
        Err(fluyt_model::Error::new(
            Kind::NotFound,
            format!(
                "image with reference {name} was found but does not provide the specified platform ({platform})"
            ),
        )
        .with_hint(format!("it is for {own}; `--pull always` fetches another")))
    }

    /// Whether everything that a manifest or an index leads to is here.
    ///
    /// # Errors
    /// A document that is damaged.
    pub fn is_whole(&self, digest: &Digest) -> Result<bool> {
        let blobs = self.blobs();
        let mut open = vec![digest.clone()];
        let mut seen = std::collections::HashSet::new();
        while let Some(next) = open.pop() {
            if !seen.insert(next.clone()) {
                continue;
            }
            if !blobs.has(&next) {
                return Ok(false);
            }
            match Document::parse(&blobs.read_small(&next, oci::MAX_DOCUMENT)?, next.as_str())? {
                Document::Index(index) => open.extend(index.manifests.into_iter().map(|m| m.digest)),
                Document::Manifest(manifest) => {
                    let parts = manifest.layers.iter().chain([&manifest.config]);
                    if !parts.into_iter().all(|part| blobs.has(&part.digest)) {
                        return Ok(false);
                    }
                }
            }
        }
        Ok(true)
    }
}
