//! `imagetools` (buildx): indexes made in a registry of what is in registries, and looked at there. Nothing is kept here.

use std::collections::BTreeMap;

use fluyt_docker_api::transfer;
use fluyt_gotmpl::Value as TemplateValue;
use fluyt_image::oci::{DOCKER_MANIFEST, DOCKER_MANIFEST_LIST, MAX_DOCUMENT, OCI_INDEX};
use fluyt_image::{Descriptor, Document, ImageConfig, Index, Platform};
use fluyt_model::error::IoContext;
use fluyt_model::reference::Reference;
use fluyt_model::{Error, Kind, Result};
use fluyt_registry::{RawDocument, Registry};
use serde_json::{Value, json};

use super::Cli;
use super::registry::TLS_VERIFY;
use crate::cli::fail::Outcome;
use crate::cli::flags::{Arity, Command, NONE, Parsed, many, switch, text, values};
use crate::cli::progress::Report;
use crate::cli::{format, print_line, print_text};

/// `fluyt imagetools create`.
pub const CREATE: Command = Command {
    name: "create",
    arguments: "[SOURCE...]",
    about: "Create a new image based on source images",
    flags: &[&[
        many(NONE, "annotation", "stringArray", values::any, "Add annotation to the image"),
        switch(NONE, "append", "Append to existing manifest"),
        text(NONE, "builder", "Accepted for compatibility").hidden(),
        switch(NONE, "dry-run", "Show final image instead of pushing"),
        many('f', "file", "stringArray", values::any, "Read source descriptor from file"),
        text(NONE, "metadata-file", "Write create result metadata to a file"),
        many('p', "platform", "stringArray", values::any, "Filter specified platforms of target image"),
        switch(
            NONE,
            "prefer-index",
            "When only a single source is specified, prefer outputting an image index or manifest list instead of \
             performing a carbon copy",
        )
        .default("true"),
        text(NONE, "progress", "Accepted for compatibility").default("auto"),
        many('t', "tag", "stringArray", values::any, "Set reference for new image"),
        TLS_VERIFY,
    ]],
    arity: Arity::AtLeast(0),
    interspersed: true,
};

/// `fluyt imagetools inspect`.
pub const INSPECT: Command = Command {
    name: "inspect",
    arguments: "NAME",
    about: "Show details of an image in the registry",
    flags: &[&[
        text(NONE, "builder", "Accepted for compatibility").hidden(),
        text(NONE, "format", "Format the output using the given Go template"),
        switch(NONE, "raw", "Show original, unformatted JSON manifest"),
        TLS_VERIFY,
    ]],
    arity: Arity::Exactly(1),
    interspersed: true,
};

/// Something that becomes a part of the new image.
struct Source {
    /// The repository it is in.
    from: Reference,
    /// What it is, with a platform or annotations that a descriptor gave.
    descriptor: Descriptor,
    bytes: Vec<u8>,
}

/// An annotation with what it is for.
struct Annotation {
    /// Of the entries of the index, and not of the index.
    of_entries: bool,
    /// Only of entries of this platform.
    platform: Option<Platform>,
    key: String,
    value: String,
}

impl Annotation {
    /// `[TYPE[,TYPE]][[PLATFORM]]:KEY=VALUE`, the types `index` and `manifest-descriptor`; without a type `index`.
    fn parse(text: &str) -> Result<Vec<Self>> {
        let bad = || {
            Error::invalid(format!("invalid annotation {text:?}"))
                .with_hint("expected [index|manifest-descriptor[PLATFORM]:]KEY=VALUE")
        };
        let (key, value) = text.split_once('=').ok_or_else(bad)?;
        let (kinds, key) = match key.rsplit_once(':') {
            Some((kinds, key)) if kinds.starts_with("index") || kinds.starts_with("manifest") => (kinds, key),
            _ => ("index", key),
        };
        if key.is_empty() {
            return Err(bad());
        }
        let mut all = Vec::new();
        for kind in kinds.split(',') {
            let (kind, platform) = match kind.split_once('[') {
                Some((kind, rest)) => (kind, Some(Platform::parse(rest.strip_suffix(']').ok_or_else(bad)?)?)),
                None => (kind, None),
            };
            let of_entries = match kind {
                "index" => false,
                "manifest-descriptor" => true,
                other => {
                    return Err(Error::invalid(format!(
                        "{other} annotations are not supported when creating an image from sources"
                    ))
                    .with_hint("use index or manifest-descriptor"));
                }
            };
            all.push(Self { of_entries, platform, key: key.to_owned(), value: value.to_owned() });
        }
        Ok(all)
    }
}

/// Runs `fluyt imagetools create`.
pub fn create(cli: &Cli, flags: &Parsed) -> Outcome {
    let tags = flags.all("tag").map(Reference::parse).collect::<Result<Vec<_>>>()?;
    let dry = flags.on("dry-run");
    if flags.args.is_empty() && flags.all("file").next().is_none() {
        return Err(Error::invalid("no sources specified").into());
    }
    if tags.is_empty() && !dry {
        return Err(Error::invalid("can't push with no tags specified, please set --tag or --dry-run").into());
    }
    if tags.is_empty() && flags.on("append") {
        return Err(Error::invalid("can't append with no tags specified").into());
    }
    let registry = transfer::client(flags.on("tls-verify"), None)?;
    let sources = sources(&registry, flags, &tags)?;
    let mut annotations = Vec::new();
    for text in flags.all("annotation") {
        annotations.extend(Annotation::parse(text)?);
    }
    let (media_type, bytes, parts) = combine(&registry, &sources, &annotations, flags)?;
    if dry {
        print_line(&String::from_utf8_lossy(&bytes))?;
        return Ok(0);
    }
    let store = cli.engine()?.images();
    let report = Report::on_stderr(false);
    let mut done = None;
    store.undoing(|lease| {
        for tag in &tags {
            for (from, descriptor) in &parts {
                registry.copy(&lease.blobs(), from, descriptor, tag, &report)?;
            }
            let put = registry.put_document(tag, &media_type, &bytes)?;
            eprintln!("pushing {} to {}", put.descriptor.digest, tag);
            done = Some(put.descriptor);
        }
        Ok(())
    })?;
    if let (Some(path), Some(descriptor)) = (flags.given("metadata-file"), done) {
        let names: Vec<String> = tags.iter().map(ToString::to_string).collect();
        let text = json!({"containerimage.descriptor": descriptor, "image.name": names.join(",")});
        let text = serde_json::to_string_pretty(&text)
            .map_err(|e| Error::internal("writing JSON").with_source(e))?;
        std::fs::write(path, text).about(|| path.to_owned())?;
    }
    Ok(0)
}

/// What was named, fetched; what is appended to comes first.
fn sources(registry: &Registry, flags: &Parsed, tags: &[Reference]) -> Result<Vec<Source>> {
    let mut all = Vec::new();
    if flags.on("append") {
        for tag in tags.iter().take(1) {
            match registry.find_document(tag)? {
                Some(document) => all.push(of(tag.clone(), document, None)),
                None => {
                    return Err(Error::not_found(format!(
                        "{}: not found, nothing to append to",
                        tag.familiar()
                    )));
                }
            }
        }
    }
    let files = flags.all("file").map(|path| std::fs::read_to_string(path).about(|| path.to_owned()));
    let files = files.collect::<Result<Vec<_>>>()?;
    for text in files.iter().map(String::as_str).chain(flags.args.iter().map(String::as_str)) {
        all.push(source(registry, text.trim(), tags)?);
    }
    Ok(all)
}

/// A name, a bare digest, or a descriptor in JSON; what has no repository is in that of the tags.
fn source(registry: &Registry, text: &str, tags: &[Reference]) -> Result<Source> {
    let repository = || {
        tags.first().cloned().ok_or_else(|| {
            Error::invalid(format!("no repository known for {text}"))
                .with_hint("give a --tag, or name the repository")
        })
    };
    if text.starts_with('{') {
        let mut value: Value = serde_json::from_str(text)
            .map_err(|e| Error::invalid(format!("{text}: not a descriptor")).with_source(e))?;
        for (field, default) in [("mediaType", json!("")), ("size", json!(0))] {
            if value.get(field).is_none() {
                value[field] = default;
            }
        }
        let given: Descriptor = serde_json::from_value(value)
            .map_err(|e| Error::invalid(format!("{text}: not a descriptor")).with_source(e))?;
        let from = repository()?.with_digest(given.digest.as_str())?;
        let document = registry.document(&from)?;
        return Ok(of(from, document, Some(given)));
    }
    let from =
        if text.starts_with("sha256:") { repository()?.with_digest(text)? } else { Reference::parse(text)? };
    let document = registry.document(&from).map_err(|e| e.context(from.familiar()))?;
    Ok(of(from, document, None))
}

fn of(from: Reference, document: RawDocument, given: Option<Descriptor>) -> Source {
    let mut descriptor = document.descriptor;
    if let Some(given) = given {
        descriptor.platform = given.platform;
        descriptor.annotations = given.annotations;
    }
    Source { from, descriptor, bytes: document.bytes }
}

/// The new image (type and bytes), and what it is made of, each with where it is.
type Combined = (String, Vec<u8>, Vec<(Reference, Descriptor)>);

fn combine(
    registry: &Registry,
    sources: &[Source],
    annotations: &[Annotation],
    flags: &Parsed,
) -> Result<Combined> {
    let platforms =
        flags.all("platform").flat_map(|p| p.split(',')).map(Platform::parse).collect::<Result<Vec<_>>>()?;
    if let ([only], true, true) = (sources, annotations.is_empty(), platforms.is_empty()) {
        let parsed = Document::parse(&only.bytes, only.descriptor.digest.as_str())?;
        if matches!(parsed, Document::Index(_)) || !flags.on("prefer-index") {
            let parts = match parsed {
                Document::Index(index) => {
                    index.manifests.into_iter().map(|d| (only.from.clone(), d)).collect()
                }
                // The document itself is put under the tag; its blobs have to be there before.
                Document::Manifest(_) => vec![(only.from.clone(), only.descriptor.clone())],
            };
            return Ok((only.descriptor.media_type.clone(), only.bytes.clone(), parts));
        }
    }
    let mut parts: Vec<(Reference, Descriptor)> = Vec::new();
    for source in sources {
        match Document::parse(&source.bytes, source.descriptor.digest.as_str())? {
            Document::Index(index) => {
                for child in index.manifests {
                    add(&mut parts, &source.from, child);
                }
            }
            Document::Manifest(manifest) => {
                let mut descriptor = source.descriptor.clone();
                if descriptor.platform.is_none() {
                    let raw = registry.blob(&source.from, &manifest.config, MAX_DOCUMENT)?;
                    let config = ImageConfig::parse(&raw, manifest.config.digest.as_str()).ok();
                    descriptor.platform = config.map(|c| c.platform()).filter(|p| !p.os.is_empty());
                }
                add(&mut parts, &source.from, descriptor);
            }
        }
    }
    if !platforms.is_empty() {
        let fits = |d: &Descriptor| {
            d.platform.as_ref().is_some_and(|have| platforms.iter().any(|wanted| wanted == have))
        };
        let kept: Vec<String> =
            parts.iter().filter(|(_, d)| fits(d)).map(|(_, d)| d.digest.to_string()).collect();
        // What describes an image goes with it.
        let about = |d: &Descriptor| {
            d.annotations.get("vnd.docker.reference.digest").is_some_and(|of| kept.contains(of))
        };
        parts.retain(|(_, d)| fits(d) || about(d));
        if parts.is_empty() {
            return Err(Error::not_found("no source is for the platforms that were asked for"));
        }
    }
    let docker = annotations.is_empty() && parts.iter().all(|(_, d)| d.media_type == DOCKER_MANIFEST);
    let media_type = if docker { DOCKER_MANIFEST_LIST } else { OCI_INDEX };
    let mut of_index = BTreeMap::new();
    for annotation in annotations {
        let Annotation { of_entries, platform, key, value } = annotation;
        if !of_entries {
            of_index.insert(key.clone(), value.clone());
            continue;
        }
        for (_, entry) in &mut parts {
            let fits = platform.as_ref().is_none_or(|p| entry.platform.as_ref() == Some(p));
            if fits {
                entry.annotations.insert(key.clone(), value.clone());
            }
        }
    }
    let index = Index {
        schema_version: 2,
        media_type: Some(media_type.to_owned()),
        manifests: parts.iter().map(|(_, d)| d.clone()).collect(),
        annotations: of_index,
    };
    let bytes =
        serde_json::to_vec_pretty(&index).map_err(|e| Error::internal("writing an index").with_source(e))?;
    Ok((media_type.to_owned(), bytes, parts))
}

/// Adds an entry, or what it says further to the one that is there.
fn add(parts: &mut Vec<(Reference, Descriptor)>, from: &Reference, new: Descriptor) {
    match parts.iter_mut().find(|(_, old)| old.digest == new.digest) {
        None => parts.push((from.clone(), new)),
        Some((_, old)) => {
            old.annotations.extend(new.annotations);
            old.platform = new.platform.or(old.platform.take());
        }
    }
}

/// Runs `fluyt imagetools inspect`.
pub fn inspect(_: &Cli, flags: &Parsed) -> Outcome {
    let registry = transfer::client(flags.on("tls-verify"), None)?;
    let name = Reference::parse(&flags.args[0])?;
    let document = registry.document(&name)?;
    if flags.on("raw") {
        print_text(&String::from_utf8_lossy(&document.bytes))?;
        return Ok(0);
    }
    match flags.given("format").filter(|f| !f.is_empty()) {
        None => print_text(&overview(&name, &document)?)?,
        Some(template) => {
            let template = format::parse(template)?;
            let value = described(&registry, &name, &document)?;
            let value = TemplateValue::from_json_struct(&value, "imagetools.tplInput");
            print_line(&template.execute(&value).map_err(format::bad_template)?)?;
        }
    }
    Ok(0)
}

fn overview(name: &Reference, document: &RawDocument) -> Result<String> {
    let mut out = format!(
        "Name:      {name}\nMediaType: {}\nDigest:    {}\n",
        document.descriptor.media_type, document.descriptor.digest
    );
    let Document::Index(index) = document.parse()? else { return Ok(out) };
    for (key, value) in &index.annotations {
        out.push_str(&format!("Annotation: {key}: {value}\n"));
    }
    out.push_str("\nManifests:\n");
    let named = Reference::parse_untagged(&name.name())?.to_string();
    let named = name.tag().map_or(named.clone(), |tag| format!("{named}:{tag}"));
    let entries = index.manifests.iter().map(|entry| {
        let mut lines =
            format!("  Name:        {}@{}\n  MediaType:   {}\n", named, entry.digest, entry.media_type);
        if let Some(platform) = &entry.platform {
            lines.push_str(&format!("  Platform:    {platform}\n"));
        }
        if !entry.annotations.is_empty() {
            lines.push_str("  Annotations: \n");
            for (key, value) in &entry.annotations {
                lines.push_str(&format!("    {key}: {value}\n"));
            }
        }
        lines
    });
    out.push_str(&entries.collect::<Vec<_>>().join("\n"));
    Ok(out)
}

/// What templates see: `.Name`, `.Manifest`, `.Image` (of an index: by platform).
fn described(registry: &Registry, name: &Reference, document: &RawDocument) -> Result<Value> {
    let mut manifest: Value = serde_json::from_slice(&document.bytes)
        .map_err(|e| Error::corrupt(name.familiar()).with_source(e))?;
    manifest["digest"] = json!(document.descriptor.digest);
    manifest["size"] = json!(document.descriptor.size);
    manifest["mediaType"] = json!(document.descriptor.media_type);
    let image = match document.parse()? {
        Document::Manifest(_) => config(registry, name, document)?,
        Document::Index(index) => {
            let mut all = serde_json::Map::new();
            for entry in &index.manifests {
                let Some(platform) = entry.platform.as_ref().filter(|p| p.os != "unknown") else { continue };
                let of = name.with_digest(entry.digest.as_str())?;
                match registry.document(&of) {
                    Ok(inner) => {
                        all.insert(platform.to_string(), config(registry, &of, &inner)?);
                    }
                    // An index may list what its registry does not have.
                    Err(e) if e.kind() == Kind::NotFound => {}
                    Err(e) => return Err(e),
                }
            }
            Value::Object(all)
        }
    };
    Ok(json!({"Name": name.to_string(), "Manifest": manifest, "Image": image}))
}

fn config(registry: &Registry, name: &Reference, document: &RawDocument) -> Result<Value> {
    let Document::Manifest(manifest) = document.parse()? else { return Ok(Value::Null) };
    let raw = registry.blob(name, &manifest.config, MAX_DOCUMENT)?;
    serde_json::from_slice(&raw).map_err(|e| Error::corrupt(name.familiar()).with_source(e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn annotations_say_what_they_are_for() {
        let parsed = |text: &str| {
            Annotation::parse(text).map(|all| {
                all.into_iter()
                    .map(|a| (a.of_entries, a.platform.map(|p| p.to_string()), a.key, a.value))
                    .collect::<Vec<_>>()
            })
        };
        let one =
            |e, p: Option<&str>, k: &str, v: &str| (e, p.map(str::to_owned), k.to_owned(), v.to_owned());
        assert_eq!(parsed("a=b=c").unwrap(), [one(false, None, "a", "b=c")]);
        assert_eq!(parsed("org:x=1").unwrap(), [one(false, None, "org:x", "1")]);
        assert_eq!(
            parsed("index,manifest-descriptor[linux/arm64]:a=b").unwrap(),
            [one(false, None, "a", "b"), one(true, Some("linux/arm64"), "a", "b")]
        );
        for bad in ["a", "index:=x", "manifest:a=b", "manifest-descriptor[linux:a=b"] {
            assert!(parsed(bad).is_err(), "{bad}");
        }
    }
}
