//! Builds.

use std::io::Read;

use fluyt_model::Result;

use super::{Local, missing};
use crate::api::*;

impl Builds for Local {
    fn build(&self, _: &BuildImage, _: &mut (dyn Read + Send), _: &dyn Progress) -> Result<String> {
        Err(missing("build"))
    }

    fn build_prune(&self, _: &PruneBuilds) -> Result<CachePruned> {
        Err(missing("build prune"))
    }
}
