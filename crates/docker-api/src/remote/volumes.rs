//! Volumes.

use fluyt_model::Result;
use serde::Deserialize;

use super::Remote;
use super::client::{Request, segment};
use crate::api::*;
use crate::types::{List, Volume, VolumeCreate};

fn on<'a>(method: &'static str, name: &str) -> Request<'a> {
    Request::new(method, format!("/volumes/{}", segment(name)))
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct ListDocument {
    volumes: List<Volume>,
    warnings: List<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct PruneDocument {
    volumes_deleted: List<String>,
    space_reclaimed: u64,
}

impl Volumes for Remote {
    fn volume_list(&self, filters: &Filters) -> Result<VolumeList> {
        let found: ListDocument =
            self.client.call(Request::new("GET", "/volumes").filters(filters))?.json()?;
        Ok(VolumeList { volumes: found.volumes.into_inner(), warnings: found.warnings.into_inner() })
    }

    fn volume_create(&self, wanted: &VolumeCreate) -> Result<Volume> {
        self.client.call(Request::new("POST", "/volumes/create").json(wanted)?)?.json()
    }

    fn volume_inspect(&self, name: &str) -> Result<Volume> {
        self.client.call(on("GET", name))?.json()
    }

    fn volume_remove(&self, name: &str, force: bool) -> Result<()> {
        self.client.call(on("DELETE", name).flag("force", force))?.done()
    }

    fn volume_prune(&self, filters: &Filters) -> Result<Pruned> {
        let request = Request::new("POST", "/volumes/prune").filters(filters);
        let found: PruneDocument = self.client.call(request)?.json()?;
        Ok(Pruned { deleted: found.volumes_deleted.into_inner(), space: found.space_reclaimed })
    }
}
