//! Images.

use fluyt_http::Response;
use fluyt_model::{Error, Result};
use serde::Serialize;
use serde_json::json;

use super::call::{Call, json as answer};
use super::progress::{self, Kept};
use super::registry_auth;
use super::route::{Route, delete, get, post};
use super::version::ApiVersion;
use super::{compat, flow};
use crate::api::{
    CommitContainer, ImportImage, ListImages, ProgressMessage, PullImage, PushImage, RemoveImage,
    SearchImages,
};
use crate::types::ContainerConfig;

/// Their operations.
pub const ROUTES: &[Route] = &[
    get("/images/json", list),
    get("/images/search", search),
    get("/images/get", save_several),
    post("/images/create", create),
    post("/images/load", load),
    post("/images/prune", prune),
    post("/commit", commit),
    get("/images/**/json", inspect),
    get("/images/**/history", history),
    get("/images/**/get", save),
    post("/images/**/push", push),
    post("/images/**/tag", tag),
    delete("/images/**", remove),
    get("/distribution/**/json", distribution),
];

/// Documents had `VirtualSize` until here.
const NO_VIRTUAL_SIZE: ApiVersion = ApiVersion(44);
/// Configurations had all fields of containers until here.
const OWN_CONFIG: ApiVersion = ApiVersion(50);
/// Images without a name were called `<none>:<none>` until here.
const NO_NONE: ApiVersion = ApiVersion(43);

fn list(call: &mut Call<'_, '_>) -> Result<Response> {
    let mut filters = call.filters()?;
    // Before there were filters, a name was given by itself.
    if !call.text("filter").is_empty() {
        filters.add("reference", call.text("filter"));
    }
    let wanted = ListImages {
        all: call.flag("all"),
        shared_size: call.flag("shared-size"),
        manifests: call.flag("manifests"),
        filters,
    };
    let mut found = call.docker.image_list(&wanted)?;
    for summary in &mut found {
        summary.containers = -1;
    }
    let old = call.version < NO_VIRTUAL_SIZE;
    if !old {
        return answer(200, &found);
    }
    let none = call.version < NO_NONE;
    let mut documents = value(&found)?;
    for document in documents.as_array_mut().into_iter().flatten() {
        document["VirtualSize"] = document["Size"].clone();
        if none && document["RepoTags"].as_array().is_some_and(Vec::is_empty) {
            document["RepoTags"] = json!(["<none>:<none>"]);
            if document["RepoDigests"].as_array().is_some_and(Vec::is_empty) {
                document["RepoDigests"] = json!(["<none>@<none>"]);
            }
        }
    }
    answer(200, &documents)
}

fn value(document: &impl Serialize) -> Result<serde_json::Value> {
    serde_json::to_value(document).map_err(|e| Error::internal("the answer").with_source(e))
}

/// A platform as text or as the document of newer versions.
fn platform(text: &str) -> Result<String> {
    #[derive(serde::Deserialize)]
    struct Platform {
        #[serde(default)]
        os: String,
        #[serde(default)]
        architecture: String,
        #[serde(default)]
        variant: String,
    }
    if !text.trim_start().starts_with('{') {
        return Ok(text.to_owned());
    }
    let platform: Platform = serde_json::from_str(text)
        .map_err(|e| Error::invalid(format!("failed to parse platform {text}")).with_source(e))?;
    if platform.os.is_empty() || platform.architecture.is_empty() {
        return Err(Error::invalid("both OS and Architecture must be provided"));
    }
    let parts = [platform.os, platform.architecture, platform.variant];
    Ok(parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/"))
}

fn platforms(call: &Call<'_, '_>, name: &str) -> Result<Vec<String>> {
    call.texts(name).iter().filter(|text| !text.is_empty()).map(|text| platform(text)).collect()
}

fn inspect(call: &mut Call<'_, '_>) -> Result<Response> {
    let manifests = call.flag("manifests");
    let wanted = platform(call.text("platform"))?;
    if manifests && !wanted.is_empty() {
        return Err(Error::invalid("conflicting options: manifests and platform options cannot both be set"));
    }
    let image = call.docker.image_inspect(call.name(), &wanted)?;
    let old = call.version < NO_VIRTUAL_SIZE;
    // It asks for the newest version, whichever that is, and makes no container anew without the fields that are gone.
    let agent = call.request.head.header("user-agent").unwrap_or_default();
    let compose_1 = agent.starts_with("docker-compose/1.");
    if !manifests && call.version >= OWN_CONFIG && !compose_1 {
        return answer(200, &image);
    }
    let mut document = value(&image)?;
    compat::image_config(&mut document, call.version);
    if manifests {
        document["Manifests"] = value(&call.docker.image_manifests(call.name())?)?;
    }
    if old || compose_1 {
        document["VirtualSize"] = document["Size"].clone();
        document["Container"] = json!("");
        document["ContainerConfig"] = value(&ContainerConfig::default())?;
    }
    answer(200, &document)
}

fn history(call: &mut Call<'_, '_>) -> Result<Response> {
    answer(200, &call.docker.image_history(call.name(), &platform(call.text("platform"))?)?)
}

fn create(call: &mut Call<'_, '_>) -> Result<Response> {
    if call.text("fromImage").is_empty() {
        return import(call);
    }
    let (name, tag) = (call.text("fromImage"), call.text("tag"));
    let reference = match tag {
        "" => name.to_owned(),
        digest if digest.contains(':') => format!("{}@{digest}", bare(name)),
        tag => format!("{}:{tag}", bare(name)),
    };
    let parsed = fluyt_model::reference::Reference::parse_untagged(&reference)?;
    let wanted = PullImage {
        all_tags: parsed.is_name_only(),
        reference,
        platform: platform(call.text("platform"))?,
        auth: registry_auth::one(call),
        signature_policy: None,
    };
    let docker = call.docker.clone();
    progress::live(move |sink| docker.image_pull(&wanted, sink))
}

/// A name without its tag.
fn bare(name: &str) -> &str {
    let from = name.rfind('/').map_or(0, |at| at + 1);
    let name = name.split_once('@').map_or(name, |(name, _)| name);
    name[from.min(name.len())..].split_once(':').map_or(name, |(last, _)| &name[..from + last.len()])
}

fn import(call: &mut Call<'_, '_>) -> Result<Response> {
    let source = call.text("fromSrc");
    let wanted = ImportImage {
        url: if source == "-" { String::new() } else { source.to_owned() },
        repository: call.text("repo").to_owned(),
        tag: call.text("tag").to_owned(),
        message: call.text("message").to_owned(),
        changes: changes(call),
        platform: platform(call.text("platform"))?,
    };
    if source.is_empty() {
        return Err(Error::invalid("neither fromImage nor fromSrc is given"));
    }
    let (docker, kept) = (call.docker.clone(), Kept::default());
    let done = docker.image_import(&wanted, &mut call.body(), &kept).map(|id| {
        use crate::api::Progress;
        let _ = kept.tell(ProgressMessage { status: id, ..ProgressMessage::default() });
    });
    kept.answer(done)
}

/// Instructions of Dockerfiles; one parameter may have several lines.
fn changes(call: &Call<'_, '_>) -> Vec<String> {
    let all = call.texts("changes");
    all.iter()
        .flat_map(|text| text.lines())
        .filter(|line| !line.trim().is_empty())
        .map(str::to_owned)
        .collect()
}

fn push(call: &mut Call<'_, '_>) -> Result<Response> {
    let wanted = PushImage {
        name: call.name().to_owned(),
        tag: call.text("tag").to_owned(),
        platform: platform(call.text("platform"))?,
        auth: registry_auth::one(call),
    };
    let docker = call.docker.clone();
    progress::live(move |sink| docker.image_push(&wanted, sink))
}

fn tag(call: &mut Call<'_, '_>) -> Result<Response> {
    call.docker.image_tag(call.name(), call.text("repo"), call.text("tag"))?;
    Ok(Response::new(201))
}

fn remove(call: &mut Call<'_, '_>) -> Result<Response> {
    let name = call.name().to_owned();
    if name.is_empty() {
        return Err(Error::invalid("image name cannot be blank"));
    }
    let how = RemoveImage {
        force: call.flag("force"),
        no_prune: call.flag("noprune"),
        platforms: platforms(call, "platforms")?,
    };
    answer(200, &call.docker.image_remove(&name, &how)?)
}

fn search(call: &mut Call<'_, '_>) -> Result<Response> {
    let limit = match call.number("limit")? {
        None => None,
        Some(n) => Some(u32::try_from(n).map_err(|_| Error::invalid(format!("invalid limit {n}")))?),
    };
    let wanted = SearchImages {
        term: call.text("term").to_owned(),
        limit,
        filters: call.filters()?,
        auth: registry_auth::one(call),
    };
    answer(200, &call.docker.image_search(&wanted)?)
}

fn prune(call: &mut Call<'_, '_>) -> Result<Response> {
    answer(200, &call.docker.image_prune(&call.filters()?)?)
}

fn commit(call: &mut Call<'_, '_>) -> Result<Response> {
    let config: Option<ContainerConfig> =
        if call.request.body.length() == Some(0) { None } else { call.json()? };
    let wanted = CommitContainer {
        container: call.text("container").to_owned(),
        repository: call.text("repo").to_owned(),
        tag: call.text("tag").to_owned(),
        comment: call.text("comment").to_owned(),
        author: call.text("author").to_owned(),
        pause: call.flag_or("pause", true),
        changes: changes(call),
        config,
    };
    answer(201, &json!({ "Id": call.docker.image_commit(&wanted)? }))
}

fn save(call: &mut Call<'_, '_>) -> Result<Response> {
    archive(call, &[call.name().to_owned()])
}

fn save_several(call: &mut Call<'_, '_>) -> Result<Response> {
    let names: Vec<String> = call
        .texts("names")
        .iter()
        .flat_map(|text| text.split(','))
        .filter(|n| !n.is_empty())
        .map(str::to_owned)
        .collect();
    archive(call, &names)
}

fn archive(call: &Call<'_, '_>, names: &[String]) -> Result<Response> {
    let output = call.docker.image_save(names, &platforms(call, "platform")?)?;
    Ok(flow::output(Response::new(200).header("Content-Type", "application/x-tar"), output))
}

fn load(call: &mut Call<'_, '_>) -> Result<Response> {
    let (quiet, wanted) = (call.flag_or("quiet", true), platforms(call, "platform")?);
    let (docker, kept) = (call.docker.clone(), Kept::default());
    // As with Docker's engine, what is wrong with an archive is told in the stream.
    let done = docker.image_load(&mut call.body(), &wanted, quiet, &kept);
    kept.whole(done)
}

fn distribution(call: &mut Call<'_, '_>) -> Result<Response> {
    answer(200, &call.docker.distribution_inspect(call.name(), registry_auth::one(call).as_ref())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_platforms() {
        for (name, without) in
            [("a:1", "a"), ("reg:5000/a", "reg:5000/a"), ("reg:5000/a:1", "reg:5000/a"), ("a@sha256:0", "a")]
        {
            assert_eq!(bare(name), without, "{name}");
        }
        assert_eq!(platform("linux/arm64").unwrap(), "linux/arm64");
        let document = r#"{"os":"linux","architecture":"arm","variant":"v7"}"#;
        assert_eq!(platform(document).unwrap(), "linux/arm/v7");
        assert!(platform("{").is_err() && platform(r#"{"os":"linux"}"#).is_err());
    }
}
