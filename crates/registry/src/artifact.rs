//! The manifest of one platform and single blobs into a store, for what is no image: the build cache of another machine.

use std::sync::atomic::AtomicBool;

use fluyt_image::{Blobs, Descriptor, Digest, Document, Manifest, Platform, Silent};
use fluyt_model::reference::Reference;
use fluyt_model::{Error, Result};

use crate::download::Download;
use crate::manifest;
use crate::platform;
use crate::registry::Registry;
use crate::signed::Judge;

/// Indexes within indexes that are followed.
const MAX_INDEX_DEPTH: usize = 4;

impl Registry {
    /// The manifest that `reference` names; of an index, the one for `platform`. [`Settings::policy`](crate::Settings::policy)
    /// decides about it as about an image.
    ///
    /// # Errors
    /// As [`Registry::pull`].
    pub fn manifest(
        &self,
        blobs: &Blobs,
        reference: &Reference,
        platform: &Platform,
    ) -> Result<(Digest, Manifest)> {
        let reference = reference.clone().or_latest();
        let judge = Judge::of(&self.settings, &reference)?;
        let remote = self.remote(reference.domain())?;
        let mut current = manifest::fetch(&remote, blobs, &reference)?;
        let target = current.descriptor.digest.clone();
        for _ in 0..MAX_INDEX_DEPTH {
            match &current.document {
                Document::Manifest(manifest) => {
                    let digest = current.descriptor.digest;
                    judge.approve(&remote, &reference, &target, &digest)?;
                    return Ok((digest, manifest.clone()));
                }
                Document::Index(index) => {
                    let child = platform::choose(index, platform, &reference.familiar())?;
                    current = manifest::fetch_child(&remote, blobs, &reference, child)?;
                }
            }
        }
        Err(Error::corrupt(format!("{}: indexes are nested too deeply", reference.familiar())))
    }

    /// Fetches one blob of a repository into `blobs`, verified; nothing if it is there.
    ///
    /// # Errors
    /// As [`Registry::pull`].
    pub fn fetch_blob(&self, blobs: &Blobs, reference: &Reference, blob: &Descriptor) -> Result<()> {
        let remote = self.remote(reference.domain())?;
        let download = Download {
            remote: &remote,
            repository: reference.path(),
            blobs,
            descriptor: blob,
            progress: &Silent,
            item: String::new(),
            stop: &AtomicBool::new(false),
            board: None,
        };
        download.run().map(drop)
    }
}
