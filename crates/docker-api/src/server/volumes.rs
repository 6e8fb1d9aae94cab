//! Volumes.

use fluyt_http::Response;
use fluyt_model::Result;
use serde::Serialize;

use super::call::{Call, done, json};
use super::route::{Route, delete, get, post, put};
use super::swarm;
use super::version::ApiVersion;
use crate::types::{List, Volume, VolumeCreate};

/// Their operations.
pub const ROUTES: &[Route] = &[
    get("/volumes", list),
    post("/volumes/create", create),
    post("/volumes/prune", prune),
    get("/volumes/*", inspect),
    put("/volumes/*", swarm::no_manager),
    delete("/volumes/*", remove),
];

/// A prune took named volumes too until here.
const NAMED_STAY: ApiVersion = ApiVersion(42);

fn list(call: &mut Call<'_, '_>) -> Result<Response> {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Volumes {
        volumes: Vec<Volume>,
        warnings: List<String>,
    }
    let found = call.docker.volume_list(&call.filters()?)?;
    json(200, &Volumes { volumes: found.volumes, warnings: List::null_if_empty(found.warnings) })
}

fn create(call: &mut Call<'_, '_>) -> Result<Response> {
    let wanted: VolumeCreate = call.json()?.unwrap_or_default();
    json(201, &call.docker.volume_create(&wanted)?)
}

fn inspect(call: &mut Call<'_, '_>) -> Result<Response> {
    json(200, &call.docker.volume_inspect(call.name())?)
}

fn remove(call: &mut Call<'_, '_>) -> Result<Response> {
    call.docker.volume_remove(call.name(), call.flag("force"))?;
    done(204)
}

fn prune(call: &mut Call<'_, '_>) -> Result<Response> {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Pruned {
        volumes_deleted: List<String>,
        space_reclaimed: u64,
    }
    let mut filters = call.filters()?;
    if call.version < NAMED_STAY {
        filters.take("all");
        filters.add("all", "true");
    }
    let pruned = call.docker.volume_prune(&filters)?;
    let volumes_deleted = List::null_if_empty(pruned.deleted);
    json(200, &Pruned { volumes_deleted, space_reclaimed: pruned.space })
}
