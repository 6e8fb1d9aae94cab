//! Containers.

mod archive;
mod attach;
mod logs;

use std::collections::BTreeMap;

use fluyt_http::Response;
use fluyt_model::{Error, Result};
use serde::Serialize;
use serde_json::Value;

use super::call::{Call, done, json};
use super::route::{Route, delete, get, head, post, put};
use super::{compat, flow};
use crate::api::{
    CreateContainer, ListContainers, RemoveContainer, StartContainer, StatsOf, StopContainer, WaitCondition,
    Waited,
};
use crate::types::{ContainerStats, CreateRequest, UpdateConfig};

/// Their operations.
pub const ROUTES: &[Route] = &[
    get("/containers/json", list),
    post("/containers/create", create),
    post("/containers/prune", prune),
    get("/containers/*/json", inspect),
    get("/containers/*/top", top),
    get("/containers/*/logs", logs::logs),
    get("/containers/*/changes", changes),
    get("/containers/*/export", export),
    get("/containers/*/stats", stats),
    post("/containers/*/resize", resize),
    post("/containers/*/start", start),
    post("/containers/*/stop", stop),
    post("/containers/*/restart", restart),
    post("/containers/*/kill", kill),
    post("/containers/*/update", update),
    post("/containers/*/rename", rename),
    post("/containers/*/pause", pause),
    post("/containers/*/unpause", unpause),
    post("/containers/*/wait", wait),
    post("/containers/*/attach", attach::attach),
    get("/containers/*/attach/ws", attach::by_web_socket),
    head("/containers/*/archive", archive::stat),
    get("/containers/*/archive", archive::get_archive),
    put("/containers/*/archive", archive::put_archive),
    delete("/containers/*", remove),
    // A link, by the names of the container and of the alias.
    delete("/containers/*/*", remove),
];

fn list(call: &mut Call<'_, '_>) -> Result<Response> {
    let limit = call.number("limit")?.and_then(|n| usize::try_from(n).ok()).filter(|n| *n > 0);
    let wanted =
        ListContainers { all: call.flag("all"), limit, size: call.flag("size"), filters: call.filters()? };
    let mut list = call.docker.container_list(&wanted)?;
    for summary in &mut list {
        compat::summary(summary, call.version);
    }
    json(200, &list)
}

fn create(call: &mut Call<'_, '_>) -> Result<Response> {
    let Some(mut request) = call.json::<CreateRequest>()? else {
        return Err(Error::invalid("config cannot be empty in order to create a container"));
    };
    let mut warnings = compat::create(&mut request, call.version).map_err(Error::invalid)?;
    let platform = if call.version.0 >= 41 { call.text("platform").to_owned() } else { String::new() };
    let wanted =
        CreateContainer { name: call.text("name").to_owned(), platform, request, signature_policy: None };
    let mut created = call.docker.container_create(wanted)?;
    let mut all = std::mem::take(&mut created.warnings).into_inner();
    all.append(&mut warnings);
    created.warnings = all.into();
    json(201, &created)
}

fn prune(call: &mut Call<'_, '_>) -> Result<Response> {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Report {
        containers_deleted: Option<Vec<String>>,
        space_reclaimed: u64,
    }
    let pruned = call.docker.container_prune(&call.filters()?)?;
    let containers_deleted = (!pruned.deleted.is_empty()).then_some(pruned.deleted);
    json(200, &Report { containers_deleted, space_reclaimed: pruned.space })
}

fn inspect(call: &mut Call<'_, '_>) -> Result<Response> {
    let mut document = call.docker.container_inspect(call.name(), call.flag("size"))?;
    if call.version.0 < 52 {
        compat::inspect_before_52(&mut document, call.version);
        return json(200, &document);
    }
    let mut document =
        serde_json::to_value(&document).map_err(|e| Error::internal("the answer").with_source(e))?;
    compat::inspect_since_52(&mut document);
    json(200, &document)
}

fn top(call: &mut Call<'_, '_>) -> Result<Response> {
    let args: Vec<String> = call.text("ps_args").split_whitespace().map(str::to_owned).collect();
    let table = call.docker.container_top(call.name(), &args)?;
    json(200, &serde_json::json!({"Titles": table.titles, "Processes": table.processes}))
}

fn changes(call: &mut Call<'_, '_>) -> Result<Response> {
    let changes = call.docker.container_changes(call.name())?;
    let kind = |c: char| match c {
        'A' => 1,
        'D' => 2,
        _ => 0,
    };
    let list: Vec<Value> = changes
        .into_iter()
        .map(|change| serde_json::json!({"Path": change.path, "Kind": kind(change.kind)}))
        .collect();
    // Nothing is `null`, as the engine has always said.
    if list.is_empty() { json(200, &Value::Null) } else { json(200, &list) }
}

fn export(call: &mut Call<'_, '_>) -> Result<Response> {
    let output = call.docker.container_export(call.name())?;
    Ok(flow::output(Response::new(200).header("Content-Type", "application/x-tar"), output))
}

fn stats(call: &mut Call<'_, '_>) -> Result<Response> {
    let stream = call.flag_or("stream", true);
    let one_shot = call.version.0 >= 41 && call.flag("one-shot");
    if stream && one_shot {
        return Err(Error::invalid("cannot have stream=true and one-shot=true"));
    }
    let samples = call.docker.container_stats(call.name(), StatsOf { stream, one_shot })?;
    let response = Response::new(200).header("Content-Type", "application/json");
    Ok(flow::items(response, samples, |out, sample: ContainerStats| {
        let mut line = serde_json::to_vec(&sample)?;
        line.push(b'\n');
        out.write_all(&line)
    }))
}

fn resize(call: &mut Call<'_, '_>) -> Result<Response> {
    let (rows, columns) = call.size()?;
    call.docker.container_resize(call.name(), rows, columns)?;
    done(200)
}

fn start(call: &mut Call<'_, '_>) -> Result<Response> {
    // A document that is not empty has at least 8 bytes.
    if call.request.body.length().is_none_or(|n| n > 7) {
        return Err(Error::invalid(
            "starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24",
        ));
    }
    if !call.text("checkpoint").is_empty() {
        return Err(Error::unsupported("checkpoints are not implemented by this engine"));
    }
    let started = call.docker.container_start(call.name(), &StartContainer::default())?;
    done(if started { 204 } else { 304 })
}

fn stop_options(call: &Call<'_, '_>) -> Result<StopContainer> {
    let signal = if call.version.0 >= 42 { call.text("signal").to_owned() } else { String::new() };
    Ok(StopContainer { signal, timeout: call.number("t")? })
}

fn stop(call: &mut Call<'_, '_>) -> Result<Response> {
    let stopped = call.docker.container_stop(call.name(), &stop_options(call)?)?;
    done(if stopped { 204 } else { 304 })
}

fn restart(call: &mut Call<'_, '_>) -> Result<Response> {
    call.docker.container_restart(call.name(), &stop_options(call)?)?;
    done(204)
}

fn kill(call: &mut Call<'_, '_>) -> Result<Response> {
    call.docker.container_kill(call.name(), call.text("signal"))?;
    done(204)
}

fn update(call: &mut Call<'_, '_>) -> Result<Response> {
    let mut config = call.json::<UpdateConfig>()?.unwrap_or_default();
    compat::update(&mut config.resources, call.version);
    let warnings = call.docker.container_update(call.name(), &config)?;
    json(200, &BTreeMap::from([("Warnings", (!warnings.is_empty()).then_some(warnings))]))
}

fn rename(call: &mut Call<'_, '_>) -> Result<Response> {
    call.docker.container_rename(call.name(), call.text("name"))?;
    done(204)
}

fn pause(call: &mut Call<'_, '_>) -> Result<Response> {
    call.docker.container_pause(call.name())?;
    done(204)
}

fn unpause(call: &mut Call<'_, '_>) -> Result<Response> {
    call.docker.container_unpause(call.name())?;
    done(204)
}

fn wait(call: &mut Call<'_, '_>) -> Result<Response> {
    let condition = match call.text("condition") {
        _ if call.version.0 < 30 => WaitCondition::NotRunning,
        "" | "not-running" => WaitCondition::NotRunning,
        "next-exit" => WaitCondition::NextExit,
        "removed" => WaitCondition::Removed,
        other => return Err(Error::invalid(format!("invalid condition: {other:?}"))),
    };
    let waiting = call.docker.container_wait(call.name(), condition)?;
    let response = Response::new(200).header("Content-Type", "application/json");
    Ok(flow::items(response, waiting, |out, waited: Waited| {
        #[derive(Serialize)]
        #[serde(rename_all = "PascalCase")]
        struct Report {
            status_code: i64,
            #[serde(skip_serializing_if = "Option::is_none")]
            error: Option<BTreeMap<&'static str, String>>,
        }
        let error = (!waited.error.is_empty()).then(|| BTreeMap::from([("Message", waited.error)]));
        let mut line = serde_json::to_vec(&Report { status_code: waited.code, error })?;
        line.push(b'\n');
        out.write_all(&line)
    }))
}

fn remove(call: &mut Call<'_, '_>) -> Result<Response> {
    let how = RemoveContainer { force: call.flag("force"), volumes: call.flag("v"), link: call.flag("link") };
    if call.variables.len() > 1 && !how.link {
        return Err(Error::not_found("page not found"));
    }
    call.docker.container_remove(&call.variables.join("/"), how)?;
    done(204)
}
