//! The engine itself.

use fluyt_http::{Payload, Response};
use fluyt_model::Result;

use super::call::{Call, json};
use super::route::{Route, get, head};

/// Its operations.
pub const ROUTES: &[Route] =
    &[get("/_ping", ping), head("/_ping", ping), get("/version", version), get("/info", info)];

fn ping(call: &mut Call<'_, '_>) -> Result<Response> {
    let ping = call.docker.ping()?;
    Ok(Response::new(200)
        .header("Builder-Version", ping.builder_version)
        .header("Cache-Control", "no-cache, no-store, must-revalidate")
        .header("Pragma", "no-cache")
        .header("Swarm", "inactive")
        .header("Content-Type", "text/plain; charset=utf-8")
        .payload(Payload::Bytes(b"OK".to_vec())))
}

fn version(call: &mut Call<'_, '_>) -> Result<Response> {
    json(200, &call.docker.version()?)
}

fn info(call: &mut Call<'_, '_>) -> Result<Response> {
    json(200, &call.docker.info()?)
}
