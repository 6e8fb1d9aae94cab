//! Volumes.

use fluyt_model::Result;

use super::{Local, missing};
use crate::api::*;
use crate::types::{Volume, VolumeCreate};

impl Volumes for Local {
    fn volume_list(&self, _: &Filters) -> Result<VolumeList> {
        Err(missing("volume list"))
    }

    fn volume_create(&self, _: &VolumeCreate) -> Result<Volume> {
        Err(missing("volume create"))
    }

    fn volume_inspect(&self, _: &str) -> Result<Volume> {
        Err(missing("volume inspect"))
    }

    fn volume_remove(&self, _: &str, _: bool) -> Result<()> {
        Err(missing("volume remove"))
    }

    fn volume_prune(&self, _: &Filters) -> Result<Pruned> {
        Err(missing("volume prune"))
    }
}
