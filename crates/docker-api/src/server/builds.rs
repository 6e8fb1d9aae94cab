//! Builds in the classic form.

use std::collections::BTreeMap;

use fluyt_http::Response;
use fluyt_model::{Error, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::call::{Call, done, json};
use super::progress;
use super::registry_auth;
use super::route::{Route, post};
use crate::api::{BuildImage, PruneBuilds};
use crate::types::List;

/// Their operations.
pub const ROUTES: &[Route] =
    &[post("/build", build), post("/build/prune", prune), post("/build/cancel", cancel)];

fn build(call: &mut Call<'_, '_>) -> Result<Response> {
    let wanted = wanted(call)?;
    let docker = call.docker.clone();
    let building = docker.build_start(wanted, &mut call.body())?;
    progress::live(move |sink| building(sink).map(drop))
}

fn wanted(call: &Call<'_, '_>) -> Result<BuildImage> {
    if call.text("version") == "2" {
        return Err(Error::unsupported(
            "builds over BuildKit's protocol (version=2) are not implemented by this engine",
        )
        .with_hint("set DOCKER_BUILDKIT=0, or build with `fluyt build`"));
    }
    if !matches!(call.text("outputs"), "" | "[]" | "null") {
        return Err(Error::unsupported("outputs of classic builds are not implemented by this engine"));
    }
    let n = |name: &str| call.number(name).map(Option::unwrap_or_default);
    let text = |name: &str| call.text(name).to_owned();
    Ok(BuildImage {
        dockerfile: text("dockerfile"),
        tags: call.texts("t").into_iter().filter(|t| !t.is_empty()).collect(),
        extra_hosts: hosts(call)?,
        remote: text("remote"),
        quiet: call.flag("q"),
        no_cache: call.flag("nocache"),
        cache_from: document(call, "cachefrom")?,
        pull: call.flag("pull"),
        remove: call.flag_or("rm", true),
        force_remove: call.flag("forcerm"),
        build_args: document::<BTreeMap<String, Option<String>>>(call, "buildargs")?,
        labels: document(call, "labels")?,
        memory: n("memory")?,
        memory_swap: n("memswap")?,
        cpu_shares: n("cpushares")?,
        cpuset_cpus: text("cpusetcpus"),
        cpuset_mems: text("cpusetmems"),
        cpu_period: n("cpuperiod")?,
        cpu_quota: n("cpuquota")?,
        cgroup_parent: text("cgroupparent"),
        shm_size: n("shmsize")?,
        ulimits: document(call, "ulimits")?,
        squash: call.flag("squash"),
        network_mode: text("networkmode"),
        platform: text("platform").to_lowercase(),
        target: text("target"),
        security_opt: document(call, "securityopt")?,
        auth: registry_auth::all(call),
    })
}

/// `extrahosts`: `name:address`, several parameters or one with commas.
fn hosts(call: &Call<'_, '_>) -> Result<Vec<String>> {
    let all = call.texts("extrahosts");
    Ok(all.iter().flat_map(|text| text.split(',')).filter(|h| !h.is_empty()).map(str::to_owned).collect())
}

/// A parameter that is a JSON document.
fn document<T: DeserializeOwned + Default>(call: &Call<'_, '_>, name: &str) -> Result<T> {
    let text = call.text(name);
    if text.is_empty() {
        return Ok(T::default());
    }
    let read: Option<T> = serde_json::from_str(text)
        .map_err(|e| Error::invalid(format!("error reading {name}")).with_source(e))?;
    Ok(read.unwrap_or_default())
}

fn prune(call: &mut Call<'_, '_>) -> Result<Response> {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Pruned {
        caches_deleted: List<String>,
        space_reclaimed: u64,
    }
    let bytes = |name: &str| -> Result<Option<u64>> {
        let Some(n) = call.number(name)? else { return Ok(None) };
        u64::try_from(n).map(Some).map_err(|_| Error::invalid(format!("{name} is negative: {n}")))
    };
    let wanted = PruneBuilds {
        all: call.flag("all"),
        reserved_space: bytes("reserved-space")?.or(bytes("keep-storage")?),
        max_used_space: bytes("max-used-space")?,
        min_free_space: bytes("min-free-space")?,
        filters: call.filters()?,
    };
    let pruned = call.docker.build_prune(&wanted)?;
    json(200, &Pruned { caches_deleted: List::null_if_empty(pruned.deleted), space_reclaimed: pruned.space })
}

/// Builds end with the connections of their clients; there is none to be found by an id.
fn cancel(call: &mut Call<'_, '_>) -> Result<Response> {
    if call.text("id").is_empty() {
        return Err(Error::invalid("build ID not specified"));
    }
    done(200)
}
