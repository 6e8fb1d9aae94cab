//! Networks.

use fluyt_model::Result;

use super::{Local, missing};
use crate::api::*;
use crate::types::{EndpointSettings, NetworkCreate, NetworkInspect};

impl Networks for Local {
    fn network_list(&self, _: &Filters) -> Result<Vec<NetworkInspect>> {
        Err(missing("network list"))
    }

    fn network_inspect(&self, _: &str) -> Result<NetworkInspect> {
        Err(missing("network inspect"))
    }

    fn network_create(&self, _: &NetworkCreate) -> Result<NetworkCreated> {
        Err(missing("network create"))
    }

    fn network_remove(&self, _: &str) -> Result<()> {
        Err(missing("network remove"))
    }

    fn network_connect(&self, _: &str, _: &str, _: &EndpointSettings) -> Result<()> {
        Err(missing("network connect"))
    }

    fn network_disconnect(&self, _: &str, _: &str, _: bool) -> Result<()> {
        Err(missing("network disconnect"))
    }

    fn network_prune(&self, _: &Filters) -> Result<Vec<String>> {
        Err(missing("network prune"))
    }
}
