//! What stands behind the names of an image: manifests, indexes, attestations.

use std::collections::BTreeSet;

use fluyt_image::{Descriptor, Digest, Document, Image, ImageConfig, Manifest, Platform, Store, oci};
use fluyt_model::reference::Reference;
use fluyt_model::{Error, Result};
use fluyt_registry::{RawDocument, Registry};

use crate::api::DistributionPlatform;
use crate::types::List;
use crate::types::image::{
    AttestationData, ImageData, ManifestDescriptor, ManifestSize, ManifestSummary, UnpackedSize,
};

/// By what BuildKit marks an attestation, and what it is about.
const TYPE: &str = "vnd.docker.reference.type";
const ABOUT: &str = "vnd.docker.reference.digest";

/// All manifests that the names of `image` lead to. `used` are the images of containers.
///
/// # Errors
/// Those of the record file; a document that is damaged.
pub fn of(store: &Store, image: &Image, used: &[String]) -> Result<Vec<ManifestSummary>> {
    let mut roots: BTreeSet<Digest> =
        store.targets(&image.id)?.into_iter().map(|(_, target)| target).collect();
    if roots.is_empty() {
        roots.insert(image.manifest.clone());
    }
    let (mut found, mut seen) = (Vec::new(), BTreeSet::new());
    for root in roots {
        let Ok(bytes) = store.blobs().read_small(&root, oci::MAX_DOCUMENT) else { continue };
        let descriptors = match Document::parse(&bytes, root.as_str())? {
            Document::Index(index) => index.manifests,
            Document::Manifest(manifest) => {
                let kind = manifest.media_type.unwrap_or_else(|| oci::OCI_MANIFEST.to_owned());
                vec![Descriptor::new(&kind, root, bytes.len() as u64)]
            }
        };
        for descriptor in descriptors {
            if seen.insert(descriptor.digest.clone()) {
                found.push(summary(store, image, &descriptor, used)?);
            }
        }
    }
    Ok(found)
}

fn summary(
    store: &Store,
    image: &Image,
    descriptor: &Descriptor,
    used: &[String],
) -> Result<ManifestSummary> {
    let manifest = match store.blobs().read_small(&descriptor.digest, oci::MAX_DOCUMENT) {
        Ok(bytes) => match Document::parse(&bytes, descriptor.digest.as_str())? {
            Document::Manifest(manifest) => Some(manifest),
            Document::Index(_) => None,
        },
        Err(_) => None,
    };
    let parts = |m: &Manifest| {
        m.layers.iter().chain([&m.config]).map(|d| (d.digest.clone(), d.size)).collect::<Vec<_>>()
    };
    let here = |digest: &Digest| store.blobs().has(digest);
    let blobs = manifest.as_ref().map(parts).unwrap_or_default();
    let content = blobs.iter().filter(|(d, _)| here(d)).map(|(_, size)| size).sum::<u64>()
        + if manifest.is_some() { descriptor.size } else { 0 };
    let available = manifest.is_some() && blobs.iter().all(|(d, _)| here(d));
    let attested = descriptor.annotations.get(TYPE).is_some_and(|kind| kind == "attestation-manifest");
    let mut summary = ManifestSummary {
        id: descriptor.digest.to_string(),
        descriptor: described(descriptor),
        available,
        kind: if attested { "attestation" } else { "image" }.to_owned(),
        size: ManifestSize { content: bytes(content), total: bytes(content) },
        ..ManifestSummary::default()
    };
    if attested {
        let about = descriptor.annotations.get(ABOUT).cloned().unwrap_or_default();
        summary.attestation_data = Some(AttestationData { about });
        return Ok(summary);
    }
    let mine = if descriptor.digest == image.manifest {
        Some(image.clone())
    } else {
        store.by_manifest(&descriptor.digest)?
    };
    let unpacked = mine.as_ref().map_or(0, |image| image.size);
    let platform = match (&descriptor.platform, &mine) {
        (Some(platform), _) => platform.clone(),
        (None, Some(image)) => image.config.platform(),
        (None, None) => Platform::host(),
    };
    let containers =
        mine.iter().flat_map(|image| used.iter().filter(|id| **id == image.id.as_str()).cloned());
    summary.size.total = bytes(content + unpacked);
    summary.image_data = Some(ImageData {
        platform: platform_of(&platform),
        containers: List::from(containers.collect::<Vec<_>>()),
        size: UnpackedSize { unpacked: bytes(unpacked) },
    });
    Ok(summary)
}

fn bytes(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn described(descriptor: &Descriptor) -> ManifestDescriptor {
    ManifestDescriptor {
        media_type: descriptor.media_type.clone(),
        digest: descriptor.digest.to_string(),
        size: bytes(descriptor.size),
        annotations: descriptor.annotations.clone(),
        platform: descriptor.platform.as_ref().map(platform_of),
    }
}

fn platform_of(platform: &Platform) -> DistributionPlatform {
    DistributionPlatform {
        architecture: platform.architecture.clone(),
        os: platform.os.clone(),
        variant: platform.variant.clone().unwrap_or_default(),
        os_version: platform.os_version.clone().unwrap_or_default(),
    }
}

/// What a document in a registry has images for.
///
/// # Errors
/// What the registry says; a document that cannot be read.
pub fn platforms(
    registry: &Registry,
    reference: &Reference,
    document: &RawDocument,
) -> Result<Vec<DistributionPlatform>> {
    match document.parse()? {
        Document::Index(index) => {
            Ok(index.manifests.iter().filter_map(|m| m.platform.as_ref()).map(platform_of).collect())
        }
        Document::Manifest(manifest) => {
            let config = registry.blob(reference, &manifest.config, oci::MAX_DOCUMENT)?;
            let config: ImageConfig = serde_json::from_slice(&config).map_err(|e| {
                Error::corrupt(format!("the configuration of {}", reference.familiar())).with_source(e)
            })?;
            Ok(vec![platform_of(&config.platform())])
        }
    }
}
