//! Images and root file systems as archives: load, save, import, export.
//!
//! - [`load`]: docker-archive (current, and the v1 layout of old versions) and OCI layouts, from a stream or a
//!   directory, compressed or not.
//! - [`save`]: the same, written.
//! - [`bundle`]: documents that are no recorded images, as a build puts them out.
//! - [`commit`]: new images from a writable layer or from the archive of a root file system.

pub mod bundle;
pub mod commit;
mod legacy;
pub mod load;
pub mod save;
mod stage;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The annotation by which Docker and containerd name an image in an OCI layout, in full form.
pub(crate) const IMAGE_NAME: &str = "io.containerd.image.name";
/// The annotation by which the OCI specification names an image in a layout.
pub(crate) const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// One image in `manifest.json` of a docker-archive.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ArchiveImage {
    /// The file of the configuration.
    pub config: String,
    /// Names, `busybox:latest`.
    #[serde(default)]
    pub repo_tags: Option<Vec<String>>,
    /// The files of the layers, lowest first.
    #[serde(default)]
    pub layers: Option<Vec<String>>,
}

/// `repositories` of a docker-archive: repository -> tag -> id of the v1 layer.
pub(crate) type Repositories = BTreeMap<String, BTreeMap<String, String>>;
