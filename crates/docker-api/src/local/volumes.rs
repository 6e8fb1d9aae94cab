//! Volumes.

use fluyt_engine::VolumeSpec;
use fluyt_model::{Kind, Result};

use super::Local;
use crate::api::*;
use crate::select::prune::{Keep, VOLUME_FILTERS};
use crate::select::volumes as select;
use crate::types::{Volume, VolumeCreate};
use crate::{render, time};

impl Volumes for Local {
    fn volume_list(&self, filters: &Filters) -> Result<VolumeList> {
        let filters = filters.checked(select::FILTERS)?;
        let mut views = self.engine()?.volumes()?;
        select::select(&mut views, &filters)?;
        Ok(VolumeList { volumes: views.iter().map(render::volume).collect(), warnings: Vec::new() })
    }

    fn volume_create(&self, wanted: &VolumeCreate) -> Result<Volume> {
        let spec = VolumeSpec {
            name: wanted.name.clone(),
            driver: wanted.driver.clone(),
            options: wanted.driver_opts.clone().into_inner(),
            labels: wanted.labels.clone().into_inner(),
        };
        Ok(render::volume(&self.engine()?.volume_create(spec)?))
    }

    fn volume_inspect(&self, name: &str) -> Result<Volume> {
        Ok(render::volume(&self.engine()?.volume(name)?))
    }

    fn volume_remove(&self, name: &str, force: bool) -> Result<()> {
        match self.engine()?.volume_remove(name, force) {
            Err(e) if force && e.kind() == Kind::NotFound => Ok(()),
            other => other,
        }
    }

    fn volume_prune(&self, filters: &Filters) -> Result<Pruned> {
        let keep = Keep::new(filters.checked(VOLUME_FILTERS)?, time::now())?;
        let all = keep.filters().boolean("all")?.unwrap_or(false);
        let pruned = self.engine()?.prune_volumes(all, &|view| keep.volume(view))?;
        Ok(Pruned { deleted: pruned.removed, space: pruned.bytes })
    }
}
