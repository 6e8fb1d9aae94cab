//! Base images: what is here, or what somebody fetches.

use fluyt_build::plan::BaseImage;
use fluyt_engine::Engine;
use fluyt_image::{Lease, Platform, Silent};
use fluyt_model::reference::Reference;
use fluyt_model::{Error, Result};

use crate::policy;

/// Fetches an image by name for a platform.
pub type Pull<'a> = &'a dyn Fn(&str, &Platform) -> Result<()>;

/// Finds a base image here, or fetches it; with `newest` it is fetched anyway. Its layers are under `lease` then, so that
/// the build finds them later, whatever is removed meanwhile.
///
/// # Errors
/// What `pull` says; a policy that does not let it be used; `NotFound` for one that lacks a layer.
pub fn find(
    engine: &Engine,
    lease: &Lease,
    name: &str,
    platform: &Platform,
    newest: bool,
    signature_policy: Option<&str>,
    pull: Pull<'_>,
) -> Result<BaseImage> {
    let store = engine.images();
    let here = if newest { None } else { store.resolve_for(name, platform, &Silent).ok() };
    let image = match here {
        Some(image) => image,
        None => {
            let before = store.by_reference(&Reference::parse(name)?)?;
            pull(name, platform)?;
            let image = store.resolve(name)?;
            if let Some(before) = before {
                // What people run under that name stays what this machine runs.
                store.keep_names(&before, &image)?;
            }
            image
        }
    };
    policy::check(engine, signature_policy, name, &image)?;
    for layer in &image.layers {
        lease.protect(&layer.key)?;
        if !layer.path(store.root()).is_dir() {
            return Err(Error::not_found(format!("base image {name}: its layer {} is not here", layer.key))
                .with_hint("another process has just removed it; build again, with --pull to fetch it"));
        }
    }
    let reference = Reference::parse_untagged(name)?.or_latest();
    Ok(BaseImage {
        reference: reference.to_string(),
        manifest: image.manifest,
        config: image.config,
        layers: image.layers,
    })
}
