//! Pushing images.

use std::collections::BTreeSet;

use fluyt_engine::Engine;
use fluyt_image::oci::{Document, MAX_DOCUMENT};
use fluyt_image::{Blobs, Digest, Image, Platform, Progress, Silent, Store};
use fluyt_model::reference::Reference;
use fluyt_model::{Error, Kind, Result};
use fluyt_registry::{PushOptions, Pushed, Registry};

/// Pushes a document that is here, as it is, as a part of another command; the store's image is told where it is now.
/// Docker's line about it.
///
/// # Errors
/// What the registry says.
pub fn push_built(
    engine: &Engine,
    reference: &Reference,
    target: &Digest,
    image: Option<&Image>,
) -> Result<String> {
    let options = PushOptions { as_is: true, ..PushOptions::default() };
    let pushed = send(engine, &super::client(true, None)?, reference, target, image, options, &Silent)?;
    Ok(pushed.line())
}

/// Pushes the image that a name stands for here: its index if that is whole, one image if a platform is given or it is
/// not. `note` is told when it is not.
///
/// # Errors
/// `NotFound` for a name that is not here; what the registry says.
pub fn push(
    engine: &Engine,
    registry: &Registry,
    reference: &Reference,
    platform: Option<&Platform>,
    report: &dyn Progress,
    note: &dyn Fn(&str),
) -> Result<Pushed> {
    let store = engine.images();
    let missing = || {
        Error::not_found(format!(
            "An image does not exist locally with the tag: {}",
            reference.familiar_name()
        ))
        .with_hint(format!("give an image that name: fluyt tag IMAGE {}", reference.familiar()))
    };
    let image = store.by_reference(reference)?.ok_or_else(missing)?;
    let (target, image) = match platform {
        None => (whole(store, registry, reference, &image, note)?, image),
        Some(platform) => {
            let image =
                store.resolve_for(&reference.to_string(), platform, &Silent).map_err(|e| match e.kind() {
                    Kind::NotFound => Error::not_found(format!(
                        "image {} is not here for the platform {platform}",
                        reference.familiar()
                    )),
                    _ => e,
                })?;
            (image.manifest.clone(), image)
        }
    };
    send(engine, registry, reference, &target, Some(&image), PushOptions::default(), report)
}

/// Pushes a manifest or an index; the store's image is told where it is now.
fn send(
    engine: &Engine,
    registry: &Registry,
    reference: &Reference,
    target: &Digest,
    image: Option<&Image>,
    mut options: PushOptions,
    report: &dyn Progress,
) -> Result<Pushed> {
    let store = engine.images();
    options.mount_from = image
        .into_iter()
        .flat_map(Image::parsed_references)
        .filter(|r| r.domain() == reference.domain() && r.path() != reference.path())
        .map(|r| r.path().to_owned())
        .collect();
    // What is read and what is made for it stays until it is sent and, where it gets a name, recorded.
    let lease = store.lease()?;
    let blobs = lease.blobs();
    protect(&blobs, target)?;
    let pushed = registry.push(&blobs, target, reference, &options, report)?;
    if let Some(image) = image {
        // The name stands for this digest there now; remember it as Docker does.
        let name = reference.with_digest(pushed.target.digest.as_str())?;
        store.name(&image.id, &[(name, pushed.target.digest.clone())])?;
    }
    drop(lease);
    engine.emit_image("push", &reference.familiar(), &reference.familiar_name());
    Ok(pushed)
}

/// Puts everything that a manifest or an index leads to under the lease of `blobs`. What is not here may be there.
fn protect(blobs: &Blobs, target: &Digest) -> Result<()> {
    let mut open = vec![target.clone()];
    let mut seen = BTreeSet::new();
    while let Some(digest) = open.pop() {
        if !seen.insert(digest.clone()) || !blobs.has(&digest) {
            continue;
        }
        match Document::parse(&blobs.read_small(&digest, MAX_DOCUMENT)?, digest.as_str())? {
            Document::Index(index) => open.extend(index.manifests.into_iter().map(|child| child.digest)),
            Document::Manifest(manifest) => {
                for part in manifest.layers.iter().chain([&manifest.config]) {
                    let _ = blobs.has(&part.digest);
                }
            }
        }
    }
    Ok(())
}

/// What is pushed for a name: the index that it stands for, if all of its images are here or there; else this image.
fn whole(
    store: &Store,
    registry: &Registry,
    reference: &Reference,
    image: &Image,
    note: &dyn Fn(&str),
) -> Result<Digest> {
    let Some((target, index)) = store.index_of(&reference.to_string())? else {
        return Ok(image.manifest.clone());
    };
    for child in &index.manifests {
        let here = child.digest == image.manifest || store.is_whole(&child.digest)?;
        if !here && !registry.holds(&reference.with_digest(child.digest.as_str())?)? {
            note(&format!(
                "Not all images of the index {target} are here or in the repository: only the one for {} is pushed",
                image.config.platform()
            ));
            return Ok(image.manifest.clone());
        }
    }
    Ok(target)
}
