//! Networks.

use fluyt_http::Response;
use fluyt_model::{Error, Kind, Result};
use serde::{Deserialize, Serialize};

use super::call::{Call, done, json};
use super::route::{Route, delete, get, post};
use super::version::ApiVersion;
use crate::types::{EndpointSettings, List, NetworkCreate};

/// Their operations.
pub const ROUTES: &[Route] = &[
    get("/networks", list),
    get("/networks/", list),
    post("/networks/create", create),
    post("/networks/prune", prune),
    get("/networks/*", inspect),
    delete("/networks/*", remove),
    post("/networks/*/connect", connect),
    post("/networks/*/disconnect", disconnect),
];

/// Lists had the containers of each network until here.
const SHORT_LISTS: ApiVersion = ApiVersion(28);

fn list(call: &mut Call<'_, '_>) -> Result<Response> {
    let mut found = call.docker.network_list(&call.filters()?)?;
    if call.version >= SHORT_LISTS {
        for network in &mut found {
            network.containers.clear();
        }
    }
    json(200, &found)
}

fn inspect(call: &mut Call<'_, '_>) -> Result<Response> {
    let name = call.name();
    if !matches!(call.text("scope"), "" | "local") {
        return Err(Error::not_found(format!("network {name} not found")));
    }
    json(200, &call.docker.network_inspect(name)?)
}

fn create(call: &mut Call<'_, '_>) -> Result<Response> {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Created {
        id: String,
        warning: String,
    }
    let wanted: NetworkCreate = call.json()?.unwrap_or_default();
    let made = call.docker.network_create(&wanted).map_err(forbidden)?;
    json(201, &Created { id: made.id, warning: made.warning })
}

fn remove(call: &mut Call<'_, '_>) -> Result<Response> {
    call.docker.network_remove(call.name()).map_err(forbidden)?;
    done(204)
}

/// What is in the way of a network is forbidden, in Docker's eyes; only a name that is taken is a conflict.
fn forbidden(error: Error) -> Error {
    let taken = error.to_string().ends_with("already exists");
    if error.kind() == Kind::Conflict && !taken { error.with_kind(Kind::PermissionDenied) } else { error }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Plug {
    container: String,
    endpoint_config: Option<EndpointSettings>,
    force: bool,
}

fn connect(call: &mut Call<'_, '_>) -> Result<Response> {
    let plug: Plug = call.json()?.unwrap_or_default();
    if plug.container.is_empty() {
        return Err(Error::invalid("invalid name or ID supplied: \"\""));
    }
    let endpoint = plug.endpoint_config.unwrap_or_default();
    call.docker.network_connect(call.name(), &plug.container, &endpoint).map_err(forbidden)?;
    done(200)
}

fn disconnect(call: &mut Call<'_, '_>) -> Result<Response> {
    let plug: Plug = call.json()?.unwrap_or_default();
    call.docker.network_disconnect(call.name(), &plug.container, plug.force)?;
    done(200)
}

fn prune(call: &mut Call<'_, '_>) -> Result<Response> {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Pruned {
        networks_deleted: List<String>,
    }
    let deleted = call.docker.network_prune(&call.filters()?)?;
    json(200, &Pruned { networks_deleted: List::null_if_empty(deleted) })
}
