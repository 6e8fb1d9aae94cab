//! `--build-context` from elsewhere: repositories, archives on web servers, OCI layouts. What comes over the network is
//! unpacked into a directory that lives as long as the build.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use fluyt_build::Fetch;
use fluyt_build::ignore::Ignore;
use fluyt_build::plan::NamedContext;
use fluyt_build::solve::Context;
use fluyt_docker_api::build::Fetcher;
use fluyt_docker_api::build::context::{Stream, from_repository, unpacked};
use fluyt_engine::Engine;
use fluyt_image::NewLayer;
use fluyt_model::error::IoContext;
use fluyt_model::{Error, Result};
use serde_json::Value;

use super::wanted::Wanted;

/// The longest index of an OCI layout in bytes.
const MAX_INDEX: u64 = 4 << 20;

/// Fetches the contexts that are not on this machine. The directories are gone with what this returns.
///
/// # Errors
/// The context, and why it cannot be had.
pub fn fetch(engine: &Engine, wanted: &mut Wanted) -> Result<Vec<NewLayer>> {
    let mut kept = Vec::new();
    for (name, place) in std::mem::take(&mut wanted.remote_contexts) {
        let about = |e: Error| e.context(format!("--build-context {name}={place}"));
        let context = one(engine, wanted, &place, &mut kept).map_err(about)?;
        let context = match context {
            Found::Image(image) => NamedContext::Image(image),
            Found::Directory(path) => {
                let ignore = Ignore::default();
                wanted.contexts.insert(name.clone(), Context { path, ignore });
                NamedContext::Directory
            }
        };
        wanted.options.contexts.insert(name, context);
    }
    Ok(kept)
}

enum Found {
    Image(String),
    Directory(PathBuf),
}

fn one(engine: &Engine, wanted: &Wanted, place: &str, kept: &mut Vec<NewLayer>) -> Result<Found> {
    if let Some(layout) = place.strip_prefix("oci-layout://") {
        return image_of(engine, layout).map(Found::Image);
    }
    let into = engine.images().new_layer()?;
    let agent = wanted.agents.get("default").map(PathBuf::as_path);
    let path = if let Some(git) = fluyt_build::gitref::parse(place).map_err(|f| f.error)? {
        from_repository(&git, false, agent, &into)?
    } else {
        let file = into.dir().join("fetched");
        Fetcher.http(place, &fluyt_build::Validators::default(), &file)?;
        let mut file = std::fs::File::open(&file).about(|| place.to_owned())?;
        match unpacked(&mut file, &into)? {
            Stream::Archive => into.fs(),
            Stream::Text(_) => return Err(Error::invalid("it is no archive")),
        }
    };
    kept.push(into);
    Ok(Found::Directory(path))
}

/// The image of `PATH[:TAG][@DIGEST]`, brought into the store without a name.
fn image_of(engine: &Engine, layout: &str) -> Result<String> {
    let (rest, digest) = match layout.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (layout, None),
    };
    let last = rest.rfind('/').map_or(0, |at| at + 1);
    let (dir, tag) = match rest[last..].split_once(':') {
        Some((name, tag)) => (&rest[..last + name.len()], Some(tag)),
        None => (rest, None),
    };
    let dir = Path::new(dir).canonicalize().about(|| dir.to_owned())?;
    let index = dir.join("index.json");
    let mut text = String::new();
    let file = std::fs::File::open(&index).about(|| index.display().to_string())?;
    std::io::Read::read_to_string(&mut std::io::Read::take(file, MAX_INDEX), &mut text)
        .about(|| index.display().to_string())?;
    let mut index: Value =
        serde_json::from_str(&text).map_err(|e| Error::corrupt(format!("{}: {e}", index.display())))?;
    let all = index["manifests"].as_array().cloned().unwrap_or_default();
    let named = |manifest: &&Value| {
        let tagged = |tag: &str| manifest["annotations"]["org.opencontainers.image.ref.name"] == tag;
        match (digest, tag) {
            (Some(digest), _) => manifest["digest"] == digest,
            (None, Some(tag)) => tagged(tag),
            (None, None) => all.len() == 1 || tagged("latest"),
        }
    };
    let mut chosen = all.iter().find(named).cloned().ok_or_else(|| {
        Error::not_found(format!("{layout}: there is no such image in the layout"))
            .with_hint("name one: oci-layout://PATH:TAG or oci-layout://PATH@DIGEST")
    })?;
    if let Some(chosen) = chosen.as_object_mut() {
        // Its name there is none here.
        chosen.remove("annotations");
    }
    index["manifests"] = Value::from(vec![chosen]);
    let view = engine.images().new_layer()?;
    let put = |name: &str, bytes: &[u8]| {
        let path = view.dir().join("layout").join(name);
        std::fs::write(&path, bytes).about(|| path.display().to_string())
    };
    let root = view.dir().join("layout");
    std::fs::create_dir(&root).about(|| root.display().to_string())?;
    put("index.json", index.to_string().as_bytes())?;
    put("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    let digest = index["manifests"][0]["digest"].as_str().unwrap_or_default();
    link_blobs(&dir, &root, digest)?;
    let loaded = engine.images().load_directory(&root, None, &fluyt_image::progress::Silent)?;
    let image = loaded.first().ok_or_else(|| Error::not_found(format!("{layout}: no image")))?;
    Ok(image.id.to_string())
}

/// Puts what a manifest or an index refers to into another layout, as far as it is there.
fn link_blobs(from: &Path, to: &Path, digest: &str) -> Result<()> {
    let mut todo = vec![digest.to_owned()];
    let mut seen = BTreeSet::new();
    while let Some(digest) = todo.pop() {
        let digest = fluyt_image::Digest::parse(&digest)?;
        if !seen.insert(digest.clone()) {
            continue;
        }
        let place = format!("blobs/{}", digest.to_string().replace(':', "/"));
        let (old, new) = (from.join(&place), to.join(&place));
        let about = || old.display().to_string();
        if let Some(parent) = new.parent() {
            std::fs::create_dir_all(parent).about(|| parent.display().to_string())?;
        }
        if let Err(e) = std::fs::hard_link(&old, &new) {
            if e.kind() == std::io::ErrorKind::NotFound && seen.len() > 1 {
                // Another platform's, perhaps: what is really needed is missed when it is read.
                continue;
            }
            std::fs::copy(&old, &new).about(about)?;
        }
        let size = std::fs::metadata(&new).about(about)?.len();
        if size > MAX_INDEX {
            continue;
        }
        let text = std::fs::read(&new).about(about)?;
        let Ok(document) = serde_json::from_slice::<Value>(&text) else { continue };
        let lists =
            [&document["manifests"], &document["layers"]].into_iter().filter_map(Value::as_array).flatten();
        let all = lists.chain([&document["config"]]);
        todo.extend(all.filter_map(|descriptor| descriptor["digest"].as_str()).map(str::to_owned));
    }
    Ok(())
}
