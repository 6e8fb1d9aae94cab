//! What belongs to clusters, and plugins: this engine has neither, and says so as Docker's does, or by name.

use fluyt_http::Response;
use fluyt_model::{Error, Result};

use super::call::{Call, json};
use super::route::{Route, delete, get, post};
use crate::local::no_swarm;

/// All of it.
pub const ROUTES: &[Route] = &[
    get("/swarm", no_manager),
    post("/swarm/init", missing),
    post("/swarm/join", missing),
    post("/swarm/leave", no_part),
    post("/swarm/update", no_manager),
    get("/swarm/unlockkey", no_manager),
    post("/swarm/unlock", no_manager),
    get("/services", no_manager),
    post("/services/create", no_manager),
    get("/services/*", no_manager),
    delete("/services/*", no_manager),
    post("/services/*/update", no_manager),
    get("/services/*/logs", no_manager),
    get("/nodes", no_manager),
    get("/nodes/*", no_manager),
    delete("/nodes/*", no_manager),
    post("/nodes/*/update", no_manager),
    get("/tasks", no_manager),
    get("/tasks/*", no_manager),
    get("/tasks/*/logs", no_manager),
    get("/secrets", no_manager),
    post("/secrets/create", no_manager),
    get("/secrets/*", no_manager),
    delete("/secrets/*", no_manager),
    post("/secrets/*/update", no_manager),
    get("/configs", no_manager),
    post("/configs/create", no_manager),
    get("/configs/*", no_manager),
    delete("/configs/*", no_manager),
    post("/configs/*/update", no_manager),
    get("/plugins", no_plugins),
    get("/plugins/privileges", missing),
    post("/plugins/pull", missing),
    post("/plugins/create", missing),
    get("/plugins/**/json", no_such_plugin),
    delete("/plugins/**", no_such_plugin),
    post("/plugins/**/enable", no_such_plugin),
    post("/plugins/**/disable", no_such_plugin),
    post("/plugins/**/upgrade", no_such_plugin),
    post("/plugins/**/push", no_such_plugin),
    post("/plugins/**/set", no_such_plugin),
];

/// What needs a manager of a cluster.
pub fn no_manager(_: &mut Call<'_, '_>) -> Result<Response> {
    Err(no_swarm())
}

fn no_part(_: &mut Call<'_, '_>) -> Result<Response> {
    Err(Error::new(fluyt_model::Kind::Unavailable, "This node is not part of a swarm"))
}

fn missing(call: &mut Call<'_, '_>) -> Result<Response> {
    let head = &call.request.head;
    Err(Error::unsupported(format!("{} {} is not implemented by this engine", head.method.name(), head.path)))
}

fn no_plugins(_: &mut Call<'_, '_>) -> Result<Response> {
    json(200, &serde_json::json!([]))
}

fn no_such_plugin(call: &mut Call<'_, '_>) -> Result<Response> {
    Err(Error::not_found(format!("plugin \"{}\" not found", call.name())))
}
