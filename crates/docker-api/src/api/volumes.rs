//! Volumes: parameters, results, operations.

use fluyt_model::Result;

use super::{Filters, Pruned};
use crate::types::{Volume, VolumeCreate};

/// The volumes that were asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VolumeList {
    /// They.
    pub volumes: Vec<Volume>,
    /// What went wrong on the way.
    pub warnings: Vec<String>,
}

/// What can be asked of and about volumes. An unknown one is `NotFound`.
#[allow(clippy::missing_errors_doc)] // each: `NotFound`, and what the sentence says
pub trait Volumes {
    /// The volumes. Filters: `dangling`, `driver`, `label`, `label!`, `name`.
    fn volume_list(&self, filters: &Filters) -> Result<VolumeList>;

    /// Makes one; the one of that name if it is there already.
    fn volume_create(&self, wanted: &VolumeCreate) -> Result<Volume>;

    /// All about one.
    fn volume_inspect(&self, name: &str) -> Result<Volume>;

    /// Removes one. `Conflict` while containers use it; with `force` an unknown one is no error.
    fn volume_remove(&self, name: &str, force: bool) -> Result<()>;

    /// Removes unused ones. Filters: `all`, `label`, `label!`.
    fn volume_prune(&self, filters: &Filters) -> Result<Pruned>;
}
