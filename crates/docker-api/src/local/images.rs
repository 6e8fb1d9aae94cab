//! Images and registries.

use std::io::Read;

use fluyt_model::Result;

use super::{Local, missing};
use crate::api::*;
use crate::types::{HistoryItem, ImageInspect, ImageSummary};

impl Images for Local {
    fn image_list(&self, _: &ListImages) -> Result<Vec<ImageSummary>> {
        Err(missing("image list"))
    }

    fn image_inspect(&self, _: &str, _: &str) -> Result<ImageInspect> {
        Err(missing("image inspect"))
    }

    fn image_history(&self, _: &str, _: &str) -> Result<Vec<HistoryItem>> {
        Err(missing("image history"))
    }

    fn image_pull(&self, _: &PullImage, _: &dyn Progress) -> Result<()> {
        Err(missing("image pull"))
    }

    fn image_push(&self, _: &PushImage, _: &dyn Progress) -> Result<()> {
        Err(missing("image push"))
    }

    fn image_import(&self, _: &ImportImage, _: &mut (dyn Read + Send), _: &dyn Progress) -> Result<String> {
        Err(missing("image import"))
    }

    fn image_tag(&self, _: &str, _: &str, _: &str) -> Result<()> {
        Err(missing("image tag"))
    }

    fn image_remove(&self, _: &str, _: &RemoveImage) -> Result<Vec<ImageDeleted>> {
        Err(missing("image remove"))
    }

    fn image_search(&self, _: &SearchImages) -> Result<Vec<SearchResult>> {
        Err(missing("image search"))
    }

    fn image_prune(&self, _: &Filters) -> Result<ImagesPruned> {
        Err(missing("image prune"))
    }

    fn image_commit(&self, _: &CommitContainer) -> Result<String> {
        Err(missing("image commit"))
    }

    fn image_save(&self, _: &[String], _: &[String]) -> Result<Output> {
        Err(missing("image save"))
    }

    fn image_load(&self, _: &mut (dyn Read + Send), _: &[String], _: bool, _: &dyn Progress) -> Result<()> {
        Err(missing("image load"))
    }
}

impl Distribution for Local {
    fn distribution_inspect(&self, _: &str, _: Option<&AuthConfig>) -> Result<DistributionInspect> {
        Err(missing("distribution inspect"))
    }
}
