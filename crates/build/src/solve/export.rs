//! From layers to an image: compressed archives, configuration, manifest, record, names.

use fluyt_image::oci::{self, Document};
use fluyt_image::{Descriptor, Digest, Image, ImageConfig, LayerRef, Lease, Manifest, NewImage, Store};
use fluyt_model::reference::Reference;
use fluyt_model::{Error, Result};

use crate::plan::Plan;

/// An image that was built.
#[derive(Debug)]
pub struct Built {
    /// The image.
    pub image: Image,
    /// The descriptor of its manifest.
    pub manifest: Descriptor,
    /// Its configuration.
    pub config: ImageConfig,
}

/// Records the image of a plan whose tree consists of `layers`, and gives it `names`. `carried` is the cache that it
/// carries for other machines ([`crate::cache::Ledger::inline`]).
///
/// # Errors
/// I/O errors; a layer that has been changed.
pub fn export(
    store: &Store,
    lease: &Lease,
    plan: &Plan,
    layers: &[LayerRef],
    names: &[Reference],
    carried: Option<serde_json::Value>,
) -> Result<Built> {
    remember_bases(store, lease, plan)?;
    let blobs = lease.blobs();
    let descriptors = store.compressed_layers(lease, layers)?;
    let mut config = plan.config.clone();
    // A base image's own cache is not this image's.
    config.build_cache = carried;
    config.rootfs.kind = "layers".to_owned();
    config.rootfs.diff_ids = layers.iter().map(|layer| layer.diff_id.clone()).collect();
    let now = match plan.epoch {
        Some(epoch) => crate::plan::rfc3339(epoch),
        None => fluyt_image::time::now_rfc3339(),
    };
    let unchanged = existing(store, &config, names)?;
    config.created = Some(unchanged.clone().unwrap_or_else(|| now.clone()));
    for line in &mut config.history {
        line.created.get_or_insert_with(|| unchanged.clone().unwrap_or_else(|| now.clone()));
    }
    let bytes =
        serde_json::to_vec(&config).map_err(|e| Error::internal("writing a configuration").with_source(e))?;
    let config_digest = blobs.put_bytes(&bytes)?;
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(oci::OCI_MANIFEST.to_owned()),
        artifact_type: None,
        config: Descriptor::new(oci::OCI_CONFIG, config_digest.clone(), bytes.len() as u64),
        layers: descriptors,
        annotations: std::collections::BTreeMap::new(),
    };
    let bytes =
        serde_json::to_vec(&manifest).map_err(|e| Error::internal("writing a manifest").with_source(e))?;
    let digest = blobs.put_bytes(&bytes)?;
    let new =
        NewImage { manifest: digest.clone(), config: config_digest, layers: layers.to_vec(), parent: None };
    let named: Vec<_> = names.iter().map(|name| (name.clone(), digest.clone())).collect();
    let image = store.record_image(lease, &new, &named)?;
    let manifest = Descriptor::new(oci::OCI_MANIFEST, digest, bytes.len() as u64);
    Ok(Built { image, manifest, config })
}

/// The time of the image that one of `names` stands for, if it is the same but for its times: a build from the cache
/// gives the image that is there.
fn existing(store: &Store, config: &ImageConfig, names: &[Reference]) -> Result<Option<String>> {
    let bare = |config: &ImageConfig| {
        let mut config = config.clone();
        config.created = None;
        config.history.iter_mut().for_each(|line| line.created = None);
        config
    };
    let wanted = bare(config);
    for name in names {
        if let Some(image) = store.by_reference(name)?
            && bare(&image.config) == wanted
        {
            return Ok(image.config.created);
        }
    }
    Ok(None)
}

/// The layers of base images have archives already: those they came with.
fn remember_bases(store: &Store, lease: &Lease, plan: &Plan) -> Result<()> {
    for base in plan.images.values() {
        let Ok(bytes) = lease.blobs().read_small(&base.manifest, oci::MAX_DOCUMENT) else { continue };
        let Ok(Document::Manifest(manifest)) = Document::parse(&bytes, base.manifest.as_str()) else {
            continue;
        };
        let diff_ids: &[Digest] = &base.config.rootfs.diff_ids;
        for (descriptor, diff_id) in manifest.layers.iter().zip(diff_ids) {
            if lease.blobs().has(&descriptor.digest) {
                store.remember_blob(diff_id, descriptor)?;
            }
        }
    }
    Ok(())
}
