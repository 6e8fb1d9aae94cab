//! Networks.

use fluyt_model::{Error, Result};
use serde::Deserialize;
use serde_json::json;

use super::Remote;
use super::client::{Request, segment};
use crate::api::*;
use crate::types::{EndpointSettings, List, NetworkCreate, NetworkInspect};

fn on<'a>(method: &'static str, name: &str, action: &str) -> Request<'a> {
    Request::new(method, format!("/networks/{}{action}", segment(name)))
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Created {
    id: String,
    warning: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct PruneDocument {
    networks_deleted: List<String>,
}

impl Networks for Remote {
    fn network_list(&self, filters: &Filters) -> Result<Vec<NetworkInspect>> {
        self.client.call(Request::new("GET", "/networks").filters(filters))?.json()
    }

    fn network_inspect(&self, name: &str) -> Result<NetworkInspect> {
        self.client.call(on("GET", name, ""))?.json()
    }

    fn network_create(&self, wanted: &NetworkCreate) -> Result<NetworkCreated> {
        let mut body = serde_json::to_value(wanted)
            .map_err(|e| Error::internal(format!("network {}", wanted.name)).with_source(e))?;
        if !self.speaks(44)? {
            // Before that, two networks of one name were made unless the client said no.
            body["CheckDuplicate"] = json!(true);
        }
        let made: Created =
            self.client.call(Request::new("POST", "/networks/create").json(&body)?)?.json()?;
        Ok(NetworkCreated { id: made.id, warning: made.warning })
    }

    fn network_remove(&self, name: &str) -> Result<()> {
        self.client.call(on("DELETE", name, ""))?.done()
    }

    fn network_connect(&self, network: &str, container: &str, endpoint: &EndpointSettings) -> Result<()> {
        let body = json!({"Container": container, "EndpointConfig": endpoint});
        self.client.call(on("POST", network, "/connect").json(&body)?)?.done()
    }

    fn network_disconnect(&self, network: &str, container: &str, force: bool) -> Result<()> {
        let body = json!({"Container": container, "Force": force});
        self.client.call(on("POST", network, "/disconnect").json(&body)?)?.done()
    }

    fn network_prune(&self, filters: &Filters) -> Result<Vec<String>> {
        let request = Request::new("POST", "/networks/prune").filters(filters);
        let found: PruneDocument = self.client.call(request)?.json()?;
        Ok(found.networks_deleted.into_inner())
    }
}
