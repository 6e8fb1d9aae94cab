//! Pulling one image.

use std::io::Read;

use fluyt_engine::Engine;
use fluyt_image::{Digest, Image, LayerSource, NewImage, Platform, Progress, Store};
use fluyt_model::Result;
use fluyt_model::reference::Reference;
use fluyt_registry::{PullOptions, Pulled, Registry};

use crate::policy;

/// What a name stands for here: the digest that the registry gave, if it can be compared with what it gives now.
fn known(store: &Store, reference: &Reference) -> Result<Option<Digest>> {
    let Some(image) = store.by_reference(reference)?.filter(|_| reference.digest().is_none()) else {
        return Ok(None);
    };
    let name = reference.to_string();
    Ok(store.targets(&image.id)?.into_iter().find(|(n, _)| *n == name).map(|(_, target)| target))
}

/// Pulls one image and gives it its name. Nothing half-done stays.
///
/// # Errors
/// What the registry says; a policy that does not let it be used; a store that cannot be written.
pub fn pull(
    engine: &Engine,
    registry: &Registry,
    reference: &Reference,
    platform: Option<Platform>,
    report: &dyn Progress,
) -> Result<(Pulled, Image)> {
    let store = engine.images();
    let known = known(store, reference)?;
    let options = PullOptions { platform, known, ..PullOptions::default() };
    let (pulled, image) = store.undoing(|lease| {
        let blobs = lease.blobs();
        let (pulled, layers) = registry.pull(&blobs, reference, &options, report, |arriving| {
            let sources: Vec<LayerSource<'_>> = arriving
                .manifest
                .layers
                .iter()
                .zip(&arriving.config.rootfs.diff_ids)
                .enumerate()
                .map(|(index, (descriptor, diff_id))| LayerSource {
                    descriptor: descriptor.clone(),
                    diff_id: diff_id.clone(),
                    open: Box::new(move || {
                        let file = arriving.open_layer(index)?;
                        Ok(Box::new(file) as Box<dyn Read + Send>)
                    }),
                })
                .collect();
            store.unpack_layers(lease, &sources, report)
        })?;
        let new = NewImage {
            manifest: pulled.manifest.digest.clone(),
            config: pulled.document.config.digest.clone(),
            layers,
            parent: None,
        };
        let digest = pulled.target.digest.clone();
        let mut names = vec![(reference.with_digest(digest.as_str())?, digest.clone())];
        if reference.digest().is_none() {
            names.push((reference.clone(), digest));
        }
        let image = store.record_image_from(lease, &new, &names, &[policy::origin(&pulled)?])?;
        Ok((pulled, image))
    })?;
    engine.emit_image("pull", &reference.familiar(), &reference.familiar_name());
    Ok((pulled, image))
}

/// A name with everything that is left out of it for people.
#[must_use]
pub fn in_full(reference: &Reference) -> String {
    match (reference.tag(), reference.digest()) {
        (_, Some(digest)) => format!("{}@{digest}", reference.name()),
        (Some(tag), None) => format!("{}:{tag}", reference.name()),
        (None, None) => reference.name(),
    }
}
