//! Builds.

use std::io::Read;

use fluyt_engine::build_cache::{CacheEntry, Limits};
use fluyt_model::{Error, Result};

use super::Local;
use crate::api::*;
use crate::build::classic;
use crate::select::cache::Wanted;

impl Builds for Local {
    fn build(
        &self,
        wanted: &BuildImage,
        context: &mut (dyn Read + Send),
        progress: &dyn Progress,
    ) -> Result<String> {
        let gathered = classic::gather(&*self.engine()?, wanted, context)?;
        classic::build(&*self.engine()?, self.shared.own_logins, wanted, &gathered, progress)
    }

    fn build_start(&self, wanted: BuildImage, context: &mut (dyn Read + Send)) -> Result<Building> {
        let gathered = classic::gather(&*self.engine()?, &wanted, context)?;
        let local = self.clone();
        Ok(Box::new(move |progress| {
            classic::build(&*local.engine()?, local.shared.own_logins, &wanted, &gathered, progress)
        }))
    }

    fn build_prune(&self, wanted: &PruneBuilds) -> Result<CachePruned> {
        let chosen = Wanted::of(&wanted.filters)?;
        let limits = Limits {
            reserved: wanted.reserved_space.unwrap_or(0),
            max_used: wanted.max_used_space.unwrap_or(0),
            min_free: wanted.min_free_space.unwrap_or(0),
        };
        if limits.max_used > 0 && limits.reserved > limits.max_used {
            return Err(Error::invalid("reserved-space is more than max-used-space"));
        }
        let names = |entry: &CacheEntry| (wanted.all || !entry.shared) && chosen.names(entry);
        let pruned = self.engine()?.prune_build_cache(&names, limits)?;
        Ok(CachePruned { deleted: pruned.removed, space: pruned.bytes })
    }
}
