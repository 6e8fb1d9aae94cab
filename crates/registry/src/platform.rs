//! The choice among the images of an index.

use fluyt_image::{Descriptor, Index, Platform};
use fluyt_model::{Error, Result};

/// The entry of an index for `wanted`, or for this machine.
///
/// # Errors
/// `Kind::NotFound` that lists what there is.
pub(crate) fn choose<'a>(index: &'a Index, wanted: &Platform, name: &str) -> Result<&'a Descriptor> {
    if let Some(at) = wanted.choose(&index.manifests) {
        return Ok(&index.manifests[at]);
    }
    // A single image without a platform is what its configuration says it is.
    if let [only] = &index.manifests[..]
        && only.platform.is_none()
    {
        return Ok(only);
    }
    let mut have: Vec<String> = index
        .manifests
        .iter()
        .filter_map(|m| m.platform.as_ref())
        .filter(|p| p.os != "unknown")
        .map(ToString::to_string)
        .collect();
    have.sort();
    have.dedup();
    let error =
        Error::not_found(format!("no matching manifest for {wanted} in the manifest list entries of {name}"));
    Err(if have.is_empty() { error } else { error.with_hint(format!("there are: {}", have.join(", "))) })
}
