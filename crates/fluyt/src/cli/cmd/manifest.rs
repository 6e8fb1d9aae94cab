//! `manifest`: lists of images for several platforms, put together here and pushed. Docker's verbs, and those of
//! Podman that have other words. The lists are records of the data root.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use fluyt_docker_api::transfer;
use fluyt_engine::Engine;
use fluyt_image::oci::MAX_DOCUMENT;
use fluyt_image::{Descriptor, Digest, Document, ImageConfig, Lease, ManifestList, Member, Platform};
use fluyt_model::reference::Reference;
use fluyt_model::{Error, Kind, Result};
use fluyt_registry::{PushOptions, RawDocument, Registry, Settings, packed_manifest};

use super::Cli;
use super::registry::TLS_VERIFY;
use crate::cli::fail::{self, Failure, Outcome};
use crate::cli::flags::{Arity, Command, Flag, NONE, Parsed, list, many, switch, text, values};
use crate::cli::format::indent::indent;
use crate::cli::progress::Report;
use crate::cli::{print_line, print_text};

const INSECURE: Flag = switch(NONE, "insecure", "Allow communication with an insecure registry");
const ALL: Flag = switch(NONE, "all", "Add every image of an index that is named");
const ANNOTATION: Flag =
    many(NONE, "annotation", "key=value", values::label, "Set an annotation of the image's entry");
const PLATFORM: &[Flag] = &[
    text(NONE, "arch", "Set architecture"),
    text(NONE, "os", "Set operating system"),
    list(NONE, "os-features", "Set operating system feature"),
    text(NONE, "os-version", "Set operating system version"),
    text(NONE, "variant", "Set architecture variant"),
];

const fn command(
    name: &'static str,
    arguments: &'static str,
    about: &'static str,
    flags: &'static [&'static [Flag]],
    arity: Arity,
) -> Command {
    Command { name, arguments, about, flags, arity, interspersed: true }
}

/// `fluyt manifest create`.
pub const CREATE: Command = command(
    "create",
    "MANIFEST_LIST [MANIFEST...]",
    "Create a local manifest list for annotating and pushing to a registry",
    &[&[ALL, switch('a', "amend", "Amend an existing manifest list"), INSECURE, TLS_VERIFY]],
    Arity::AtLeast(1),
);

/// `fluyt manifest add`.
pub const ADD: Command = command(
    "add",
    "MANIFEST_LIST MANIFEST [MANIFEST...]",
    "Add images to a manifest list",
    &[&[ALL, ANNOTATION, INSECURE, TLS_VERIFY], PLATFORM],
    Arity::AtLeast(2),
);

/// `fluyt manifest annotate`.
pub const ANNOTATE: Command = command(
    "annotate",
    "MANIFEST_LIST MANIFEST",
    "Add additional information to a local image manifest",
    &[&[ANNOTATION, switch(NONE, "index", "Set annotations of the list itself")], PLATFORM],
    Arity::Between(1, 2),
);

/// `fluyt manifest exists`.
pub const EXISTS: Command = command(
    "exists",
    "MANIFEST_LIST",
    "Tell by the exit code whether a manifest list is here",
    &[],
    Arity::Exactly(1),
);

/// `fluyt manifest inspect`.
pub const INSPECT: Command = command(
    "inspect",
    "[MANIFEST_LIST] MANIFEST",
    "Display an image manifest, or manifest list",
    &[&[
        INSECURE,
        TLS_VERIFY,
        switch('v', "verbose", "Output additional info including layers and platform"),
    ]],
    Arity::Between(1, 2),
);

/// `fluyt manifest push`.
pub const PUSH: Command = command(
    "push",
    "MANIFEST_LIST [DESTINATION]",
    "Push a manifest list to a repository",
    &[&[
        switch(NONE, "all", "Accepted for compatibility; all images are pushed"),
        INSECURE,
        switch('p', "purge", "Remove the local manifest list after push"),
        switch(NONE, "rm", "Remove the local manifest list after push").hidden().alias_of("purge"),
        TLS_VERIFY,
    ]],
    Arity::Between(1, 2),
);

/// `fluyt manifest remove`.
pub const REMOVE: Command = command(
    "remove",
    "MANIFEST_LIST MANIFEST",
    "Remove an image from a manifest list, by its name or digest",
    &[],
    Arity::Exactly(2),
);

/// `fluyt manifest rm`.
pub const RM: Command = command(
    "rm",
    "MANIFEST_LIST [MANIFEST_LIST...]",
    "Delete one or more manifest lists from local storage",
    &[],
    Arity::AtLeast(1),
);

fn registry(flags: &Parsed) -> Result<Registry> {
    let mut settings = transfer::settings()?;
    if flags.on("insecure") || !flags.on("tls-verify") {
        settings.insecure.push(Settings::EVERYBODY.to_owned());
    }
    Ok(Registry::new(settings))
}

/// A name, perhaps with Podman's transport before it.
fn named(text: &str) -> Result<Reference> {
    Reference::parse(text.strip_prefix("docker://").unwrap_or(text))
}

fn no_such_list(name: &Reference) -> Error {
    Error::not_found(format!("No such manifest: {}", name.familiar()))
        .with_hint("`fluyt manifest create` begins one")
}

fn existing(engine: &Engine, name: &Reference) -> Result<ManifestList> {
    engine.images().manifest_list(name)?.ok_or_else(|| no_such_list(name))
}

/// Runs `fluyt manifest create`.
pub fn create(cli: &Cli, flags: &Parsed) -> Outcome {
    let engine = cli.engine()?;
    let name = named(&flags.args[0])?;
    let old = engine.images().manifest_list(&name)?;
    if old.is_some() && !flags.on("amend") {
        return Err(
            Error::conflict("refusing to amend an existing manifest list with no --amend flag").into()
        );
    }
    let registry = registry(flags)?;
    extend(engine, &registry, &name, old.unwrap_or_default(), flags, false)?;
    print_line(&format!("Created manifest list {}", name.familiar()))?;
    Ok(0)
}

/// Runs `fluyt manifest add`.
pub fn add(cli: &Cli, flags: &Parsed) -> Outcome {
    let engine = cli.engine()?;
    let name = named(&flags.args[0])?;
    let list = existing(engine, &name)?;
    let registry = registry(flags)?;
    extend(engine, &registry, &name, list, flags, true)?;
    print_line(&name.familiar())?;
    Ok(0)
}

/// Adds images to a list and keeps it.
fn extend(
    engine: &Engine,
    registry: &Registry,
    name: &Reference,
    mut list: ManifestList,
    flags: &Parsed,
    describing: bool,
) -> Result<()> {
    let images = &flags.args[1..];
    let store = engine.images();
    store.undoing(|lease| {
        let mut blobs = Vec::new();
        for image in images {
            for mut member in members(engine, registry, lease, image, flags.on("all"), &mut blobs)? {
                if describing {
                    describe(&mut member, flags);
                }
                list.add(member);
            }
        }
        store.keep_manifest_list(lease, name, &list, &blobs)
    })
}

/// Sets what the flags say of an image.
fn describe(member: &mut Member, flags: &Parsed) {
    let platform = member.descriptor.platform.get_or_insert_with(Platform::default);
    let set = |name: &str| flags.given(name).filter(|v| !v.is_empty()).map(str::to_owned);
    platform.architecture = set("arch").unwrap_or(std::mem::take(&mut platform.architecture));
    platform.os = set("os").unwrap_or(std::mem::take(&mut platform.os));
    platform.os_version = set("os-version").or(platform.os_version.take());
    platform.variant = set("variant").or(platform.variant.take());
    for feature in flags.all("os-features").flat_map(|f| f.split(',')).filter(|f| !f.is_empty()) {
        if !member.os_features.iter().any(|have| have == feature) {
            member.os_features.push(feature.to_owned());
        }
    }
    member.descriptor.annotations.extend(annotations(flags));
}

fn annotations(flags: &Parsed) -> BTreeMap<String, String> {
    flags
        .all("annotation")
        .map(|t| t.split_once('=').unwrap_or((t, "")))
        .map(|(k, v)| (k.into(), v.into()))
        .collect()
}

/// The images that a name stands for: in its registry, or here if it is nowhere else. What has to be kept of them goes
/// to `blobs`.
fn members(
    engine: &Engine,
    registry: &Registry,
    lease: &Lease,
    image: &str,
    all: bool,
    blobs: &mut Vec<Digest>,
) -> Result<Vec<Member>> {
    let name = named(image)?;
    let document = match registry.document(&name) {
        Ok(document) => document,
        Err(e) => match local(engine, lease, &name, blobs)? {
            Some(member) => return Ok(vec![member]),
            None if e.kind() == Kind::NotFound => {
                return Err(Error::not_found(format!("no such manifest: {}", name.familiar())).with_source(e));
            }
            None => return Err(e),
        },
    };
    match document.parse()? {
        Document::Manifest(_) => Ok(vec![remote_member(registry, lease, &name, &document, None, blobs)?]),
        Document::Index(_) if !all => Err(Error::invalid(format!("{} is a manifest list", name.familiar()))
            .with_hint("--all adds every image of it")),
        Document::Index(index) => {
            let mut found = Vec::new();
            for child in &index.manifests {
                let of = name.with_digest(child.digest.as_str())?;
                let document = registry.document(&of)?;
                let mut member = remote_member(registry, lease, &of, &document, Some(child), blobs)?;
                member.descriptor.annotations.clone_from(&child.annotations);
                found.push(member);
            }
            Ok(found)
        }
    }
}

fn remote_member(
    registry: &Registry,
    lease: &Lease,
    name: &Reference,
    document: &RawDocument,
    listed: Option<&Descriptor>,
    blobs: &mut Vec<Digest>,
) -> Result<Member> {
    blobs.push(lease.blobs().put_bytes(&document.bytes)?);
    let mut descriptor = document.descriptor.clone();
    descriptor.platform = listed.and_then(|l| l.platform.clone());
    if let (None, Document::Manifest(manifest)) = (&descriptor.platform, document.parse()?) {
        let raw = registry.blob(name, &manifest.config, MAX_DOCUMENT)?;
        descriptor.platform = Some(platform_of(&raw, &manifest.config.digest)?);
    }
    Ok(Member { descriptor, os_features: Vec::new(), from: name.to_string(), local: false })
}

fn platform_of(config: &[u8], digest: &Digest) -> Result<Platform> {
    Ok(ImageConfig::parse(config, digest.as_str())?.platform())
}

/// An image of this store, as it would be pushed.
fn local(engine: &Engine, lease: &Lease, name: &Reference, keep: &mut Vec<Digest>) -> Result<Option<Member>> {
    let Some(image) = engine.images().by_reference(name)? else { return Ok(None) };
    let blobs = lease.blobs();
    let digest = packed_manifest(&blobs, &image.manifest, &Report::on_stderr(false))?;
    let bytes = blobs.read_small(&digest, MAX_DOCUMENT)?;
    let Document::Manifest(manifest) = Document::parse(&bytes, digest.as_str())? else { return Ok(None) };
    keep.push(digest.clone());
    keep.push(manifest.config.digest.clone());
    keep.extend(manifest.layers.iter().map(|l| l.digest.clone()));
    let media_type = manifest.media_type.as_deref().unwrap_or(fluyt_image::oci::OCI_MANIFEST);
    let mut descriptor = Descriptor::new(media_type, digest, bytes.len() as u64);
    descriptor.platform = Some(image.config.platform());
    Ok(Some(Member { descriptor, os_features: Vec::new(), from: name.to_string(), local: true }))
}

/// Runs `fluyt manifest annotate`.
pub fn annotate(cli: &Cli, flags: &Parsed) -> Outcome {
    let engine = cli.engine()?;
    let name = named(&flags.args[0])?;
    let Some(mut list) = engine.images().manifest_list(&name)? else {
        let text = format!(
            "manifest for image {} does not exist in {}",
            flags.args.last().map_or("", String::as_str),
            name.familiar()
        );
        return Err(Error::not_found(text).with_source(no_such_list(&name)).into());
    };
    match flags.args.get(1) {
        None if flags.on("index") => list.annotations.extend(annotations(flags)),
        None => {
            return Err(
                Error::invalid("name the image of the list, or give --index for the list itself").into()
            );
        }
        Some(image) => {
            let member = list.member_mut(image).ok_or_else(|| {
                Error::not_found(format!("manifest for image {image} does not exist in {}", name.familiar()))
            })?;
            describe(member, flags);
        }
    }
    let store = engine.images();
    store.keep_manifest_list(&store.lease()?, &name, &list, &[])?;
    Ok(0)
}

/// Runs `fluyt manifest remove`.
pub fn remove(cli: &Cli, flags: &Parsed) -> Outcome {
    let engine = cli.engine()?;
    let name = named(&flags.args[0])?;
    let mut list = existing(engine, &name)?;
    let digest = list.member_mut(&flags.args[1]).map(|m| m.descriptor.digest.clone());
    let digest = digest
        .ok_or_else(|| Error::not_found(format!("{} has no image {}", name.familiar(), flags.args[1])))?;
    list.members.retain(|m| m.descriptor.digest != digest);
    let store = engine.images();
    store.keep_manifest_list(&store.lease()?, &name, &list, &[])?;
    print_line(digest.as_str())?;
    Ok(0)
}

/// Runs `fluyt manifest exists`.
pub fn exists(cli: &Cli, flags: &Parsed) -> Outcome {
    let found = cli.engine()?.images().manifest_list(&named(&flags.args[0])?)?;
    Ok(i32::from(found.is_none()))
}

/// Runs `fluyt manifest rm`.
pub fn rm(cli: &Cli, flags: &Parsed) -> Outcome {
    let engine = cli.engine()?;
    let mut missing = false;
    for name in &flags.args {
        let name = named(name)?;
        if !engine.images().remove_manifest_list(&name)? {
            fail::print_bare(&no_such_list(&name));
            missing = true;
        }
    }
    if missing { Err(Failure::Code(1)) } else { Ok(0) }
}

/// Runs `fluyt manifest push`.
pub fn push(cli: &Cli, flags: &Parsed) -> Outcome {
    let engine = cli.engine()?;
    let name = named(&flags.args[0])?;
    let list = existing(engine, &name)?;
    let target = flags.args.get(1).map_or_else(|| Ok(name.clone()), |text| named(text))?;
    let registry = registry(flags)?;
    let store = engine.images();
    let report = Report::on_stderr(false);
    store.undoing(|lease| {
        for member in &list.members {
            let descriptor = &member.descriptor;
            let complete = |p: &Platform| !p.os.is_empty() && !p.architecture.is_empty();
            if !descriptor.platform.as_ref().is_some_and(complete) {
                return Err(Error::invalid(format!(
                    "manifest {} must have an OS and Architecture to be pushed to a registry",
                    member.from
                ))
                .with_hint("set them with `fluyt manifest annotate --os … --arch …`"));
            }
            let there = target.with_digest(descriptor.digest.as_str())?;
            if member.local {
                let options = PushOptions::default();
                registry.push(&lease.blobs(), &descriptor.digest, &there, &options, &report)?;
            } else {
                let from = Reference::parse_untagged(&member.from)?;
                registry.copy(&lease.blobs(), &from, descriptor, &target, &report)?;
            }
            print_line(&format!("Pushed ref {} with digest: {}", there.familiar(), descriptor.digest))?;
        }
        Ok(())
    })?;
    let put = registry.put_document(&target, list.media_type(), &list.to_bytes()?)?;
    print_line(put.descriptor.digest.as_str())?;
    if flags.on("purge") {
        store.remove_manifest_list(&name)?;
    }
    Ok(0)
}

/// Runs `fluyt manifest inspect`.
pub fn inspect(cli: &Cli, flags: &Parsed) -> Outcome {
    let engine = cli.engine()?;
    let verbose = flags.on("verbose");
    let name = named(&flags.args[0])?;
    let local = engine.images().manifest_list(&name)?;
    let text = match (local, flags.args.get(1)) {
        (None, Some(_)) => return Err(no_such_list(&name).into()),
        (Some(mut list), Some(image)) => {
            let member = list
                .member_mut(image)
                .ok_or_else(|| Error::not_found(format!("No such manifest: {image}")))?;
            let raw = engine.images().blobs().read_small(&member.descriptor.digest, MAX_DOCUMENT)?;
            one(&member.from, &member.descriptor, &raw, verbose)?
        }
        (Some(list), None) if verbose => {
            let mut parts = Vec::new();
            for member in &list.members {
                let raw = engine.images().blobs().read_small(&member.descriptor.digest, MAX_DOCUMENT)?;
                parts.push(detail(&familiar(&member.from), &member.descriptor, &raw)?);
            }
            indent(&format!("[{}]", parts.join(",")), "\t")
        }
        (Some(list), None) => String::from_utf8_lossy(&list.to_bytes()?).into_owned(),
        (None, None) => remote(&registry(flags)?, &name, verbose)?,
    };
    print_text(&format!("{}\n", text.trim_end()))?;
    Ok(0)
}

fn familiar(name: &str) -> String {
    Reference::parse_untagged(name).map_or_else(|_| name.to_owned(), |r| r.familiar())
}

fn remote(registry: &Registry, name: &Reference, verbose: bool) -> Result<String> {
    let document = registry.document(name).map_err(|e| match e.kind() {
        Kind::NotFound => Error::not_found(format!("no such manifest: {}", name.familiar())).with_source(e),
        _ => e,
    })?;
    let config = |of: &Reference, document: &RawDocument| -> Result<Descriptor> {
        let mut descriptor = document.descriptor.clone();
        if let Document::Manifest(manifest) = document.parse()? {
            let raw = registry.blob(of, &manifest.config, MAX_DOCUMENT)?;
            // An artifact's configuration says nothing of a platform.
            descriptor.platform = platform_of(&raw, &manifest.config.digest).ok();
        }
        Ok(descriptor)
    };
    match document.parse()? {
        Document::Manifest(_) => {
            let descriptor = if verbose { config(name, &document)? } else { document.descriptor.clone() };
            one(&name.to_string(), &descriptor, &document.bytes, verbose)
        }
        Document::Index(_) if !verbose => Ok(String::from_utf8_lossy(&document.bytes).into_owned()),
        Document::Index(index) => {
            let mut parts = Vec::new();
            for child in &index.manifests {
                let of = name.with_digest(child.digest.as_str())?;
                let inner = registry.document(&of)?;
                let descriptor = Descriptor { platform: child.platform.clone(), ..inner.descriptor.clone() };
                parts.push(detail(
                    &format!("{}@{}", name.familiar(), child.digest),
                    &descriptor,
                    &inner.bytes,
                )?);
            }
            Ok(indent(&format!("[{}]", parts.join(",")), "\t"))
        }
    }
}

fn one(name: &str, descriptor: &Descriptor, raw: &[u8], verbose: bool) -> Result<String> {
    if verbose {
        return Ok(indent(&detail(&familiar(name), descriptor, raw)?, "\t"));
    }
    Ok(indent(&String::from_utf8_lossy(raw), "\t"))
}

/// Docker's document about one manifest.
fn detail(name: &str, descriptor: &Descriptor, raw: &[u8]) -> Result<String> {
    let field = if descriptor.media_type == fluyt_image::oci::DOCKER_MANIFEST {
        "SchemaV2Manifest"
    } else {
        "OCIManifest"
    };
    Ok(format!(
        r#"{{"Ref":{},"Descriptor":{},"Raw":{},"{field}":{}}}"#,
        json(&name)?,
        json(descriptor)?,
        json(&BASE64.encode(raw))?,
        String::from_utf8_lossy(raw)
    ))
}

fn json(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|e| Error::internal("writing JSON").with_source(e))
}
