//! The engine itself.

use fluyt_http::{Payload, Response};
use fluyt_model::{Error, Result};
use serde::Serialize;

use super::call::{Call, json};
use super::route::{Route, get, head, post};
use super::usage;
use super::version::ApiVersion;
use crate::api::{AuthConfig, DiskUseOf};
use crate::types::DiskUsage;

/// Its operations.
pub const ROUTES: &[Route] = &[
    get("/_ping", ping),
    head("/_ping", ping),
    get("/version", version),
    get("/info", info),
    post("/auth", auth),
    get("/system/df", disk_use),
];

/// Sums by kind are there from here on.
const SUMS: ApiVersion = ApiVersion(52);
/// `BuilderSize` was there until here.
const NO_BUILDER_SIZE: ApiVersion = ApiVersion(42);

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

fn auth(call: &mut Call<'_, '_>) -> Result<Response> {
    let credentials: AuthConfig = call.json()?.unwrap_or_default();
    let said = call.docker.auth(&credentials)?;
    json(200, &serde_json::json!({ "Status": said.status, "IdentityToken": said.identity_token }))
}

fn disk_use(call: &mut Call<'_, '_>) -> Result<Response> {
    let mut of = DiskUseOf::default();
    for kind in call.texts("type") {
        match kind.as_str() {
            "container" => of.containers = true,
            "image" => of.images = true,
            "volume" => of.volumes = true,
            "build-cache" => of.build_cache = true,
            other => return Err(Error::invalid(format!("unknown object type: {other}"))),
        }
    }
    let usage = call.docker.disk_usage(of)?;
    if call.version >= SUMS {
        #[derive(Serialize)]
        struct Both<'u> {
            /// Who asks for the objects of the new form knows the old one is gone.
            #[serde(flatten)]
            old: Option<&'u DiskUsage>,
            #[serde(flatten)]
            sums: usage::Usages,
        }
        let verbose = call.flag("verbose");
        let old = (!verbose).then_some(&usage);
        return json(200, &Both { old, sums: usage::sums(&usage, verbose) });
    }
    if call.version >= NO_BUILDER_SIZE {
        return json(200, &usage);
    }
    let mut document =
        serde_json::to_value(&usage).map_err(|e| Error::internal("the answer").with_source(e))?;
    let cache: i64 = usage.build_cache.iter().filter(|entry| !entry.shared).map(|entry| entry.size).sum();
    document["BuilderSize"] = cache.into();
    json(200, &document)
}
