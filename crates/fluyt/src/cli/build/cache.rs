//! `--cache-from` and `--cache-to`: where caches of other machines are, read and written.

use std::path::PathBuf;
use std::time::Instant;

use fluyt_build::cache::document::{BUILDKIT_MEDIA_TYPE, MEDIA_TYPE};
use fluyt_build::cache::{Document, Import, Imports, Ledger, Mode, Origin};
use fluyt_engine::Engine;
use fluyt_image::Packing;
use fluyt_image::layer::codec::Compression;
use fluyt_image::oci::{self, Document as ImageDocument, MAX_DOCUMENT};
use fluyt_image::{Blobs, Descriptor, Digest, ImageConfig, Layout, Lease, Manifest, Platform, Silent};
use fluyt_model::reference::Reference;
use fluyt_model::{Error, Kind, Result};
use fluyt_registry::{PushOptions, Registry};

use super::progress::Progress;
use super::wanted::pairs;
use crate::cli::flags::Parsed;

/// The tag of a cache in a directory.
const LATEST: &str = "latest";

/// A place for caches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A directory.
    Local {
        /// The directory.
        dir: PathBuf,
        /// Under which name.
        tag: String,
        /// The manifest, when it is named by its digest.
        digest: Option<Digest>,
    },
    /// A reference: a cache, or an image that carries one.
    Registry(Reference),
    /// The image that is built.
    Inline,
}

/// A cache to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Where.
    pub place: Place,
    /// How much.
    pub mode: Mode,
    /// How new layers are compressed, and whether those that are compressed otherwise are, too.
    pub packing: Packing,
    /// That it cannot be written is no error.
    pub ignore_error: bool,
}

type Fields = Vec<(String, String)>;

fn get<'a>(fields: &'a Fields, name: &str) -> Option<&'a str> {
    fields.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

fn truth(fields: &Fields, name: &str, default: bool) -> Result<bool> {
    match get(fields, name) {
        None => Ok(default),
        Some("true" | "1" | "t" | "T" | "TRUE" | "True") => Ok(true),
        Some("false" | "0" | "f" | "F" | "FALSE" | "False") => Ok(false),
        Some(other) => Err(Error::invalid(format!("{name}={other}: true or false is expected"))),
    }
}

/// The entries of one value: fields with a type, or references alone.
fn entries(flag: &str, text: &str) -> Result<Vec<Fields>> {
    let fields = pairs(text)?;
    if fields.iter().all(|(key, _)| key.is_empty()) {
        let named = |(_, reference): (String, String)| {
            vec![("type".to_owned(), "registry".to_owned()), ("ref".to_owned(), reference)]
        };
        return Ok(fields.into_iter().map(named).collect());
    }
    if get(&fields, "type").is_none_or(str::is_empty) {
        return Err(Error::invalid(format!("--{flag} {text}: type required form")));
    }
    if let Some((_, word)) = fields.iter().find(|(key, _)| key.is_empty()) {
        return Err(Error::invalid(format!("--{flag} {text}: invalid value {word}")));
    }
    Ok(vec![fields])
}

fn place(flag: &str, fields: &Fields, directory: &str) -> Result<Place> {
    let kind = get(fields, "type").unwrap_or_default();
    let needed = |name: &str| {
        get(fields, name)
            .filter(|value| !value.is_empty())
            .ok_or_else(|| Error::invalid(format!("--{flag} type={kind}: {name} is required")))
    };
    match kind {
        "local" => Ok(Place::Local {
            dir: PathBuf::from(needed(directory)?),
            tag: get(fields, "tag").unwrap_or(LATEST).to_owned(),
            digest: get(fields, "digest").map(Digest::parse).transpose()?,
        }),
        "registry" => {
            let reference = needed("ref")?;
            Reference::parse_untagged(reference)
                .map(|reference| Place::Registry(reference.or_latest()))
                .map_err(|e| e.context(format!("--{flag}: ref={reference}")))
        }
        "inline" if flag == "cache-to" => Ok(Place::Inline),
        "gha" | "s3" | "azblob" => Err(Error::unsupported(format!("--{flag} type={kind}"))
            .with_hint("keep the cache in a registry (type=registry,ref=…) or a directory (type=local)")),
        other => Err(Error::invalid(format!("--{flag}: unknown cache type {other:?}"))
            .with_hint("registry, local and, for --cache-to, inline are known")),
    }
}

/// What `--cache-from` names.
///
/// # Errors
/// A value that is malformed, a kind of place that is not known.
pub fn sources(flags: &Parsed) -> Result<Vec<Place>> {
    let mut found = Vec::new();
    for text in flags.all("cache-from").filter(|text| !text.is_empty()) {
        for fields in entries("cache-from", text)? {
            found.push(place("cache-from", &fields, "src")?);
        }
    }
    Ok(found)
}

/// What `--cache-to` names; `inline`: the argument `BUILDKIT_INLINE_CACHE` asks for an image that carries its cache.
///
/// # Errors
/// As [`sources`]; a compression or a layout that is not written.
pub fn targets(flags: &Parsed, inline: bool) -> Result<Vec<Target>> {
    let mut found = Vec::new();
    for text in flags.all("cache-to").filter(|text| !text.is_empty()) {
        for fields in entries("cache-to", text)? {
            found.push(target(text, &fields)?);
        }
    }
    if inline && !found.iter().any(|target| target.place == Place::Inline) {
        let packing = Packing::default();
        found.push(Target { place: Place::Inline, mode: Mode::Min, packing, ignore_error: false });
    }
    Ok(found)
}

fn target(text: &str, fields: &Fields) -> Result<Target> {
    let mode = match get(fields, "mode").map(str::to_lowercase).as_deref() {
        None | Some("" | "min") => Mode::Min,
        Some("max") => Mode::Max,
        Some(other) => return Err(Error::invalid(format!("--cache-to {text}: unknown mode {other:?}"))),
    };
    let compression = match get(fields, "compression") {
        None | Some("" | "gzip") => Compression::Gzip,
        Some("zstd") => Compression::Zstd,
        Some("uncompressed") => Compression::None,
        Some(other) => {
            return Err(Error::unsupported(format!("--cache-to {text}: compression {other:?}"))
                .with_hint("gzip, zstd and uncompressed are written"));
        }
    };
    if !truth(fields, "oci-mediatypes", true)? {
        return Err(Error::unsupported(format!("--cache-to {text}: oci-mediatypes=false"))
            .with_hint("leave it out: Docker's media types know no manifests but images"));
    }
    if !truth(fields, "image-manifest", true)? {
        return Err(Error::unsupported(format!("--cache-to {text}: image-manifest=false"))
            .with_hint("leave it out: the cache is an image manifest, which every registry takes"));
    }
    Ok(Target {
        place: place("cache-to", fields, "dest")?,
        mode,
        packing: Packing { compression, level: None, force: truth(fields, "force-compression", false)? },
        ignore_error: truth(fields, "ignore-error", false)?,
    })
}

/// Blobs in a directory.
struct FromLayout(Layout);

impl Origin for FromLayout {
    fn fetch(&self, blobs: &Blobs, blob: &Descriptor) -> Result<()> {
        self.0.fetch(blobs, blob)
    }
}

/// Blobs of a repository.
struct FromRegistry(Registry, Reference);

impl Origin for FromRegistry {
    fn fetch(&self, blobs: &Blobs, blob: &Descriptor) -> Result<()> {
        self.0.fetch_blob(blobs, &self.1, blob)
    }
}

/// Blobs of this store: of an image that is here.
struct FromStore;

impl Origin for FromStore {
    fn fetch(&self, blobs: &Blobs, blob: &Descriptor) -> Result<()> {
        if blobs.has(&blob.digest) {
            return Ok(());
        }
        Err(Error::not_found(format!("blob {} is not in the store", blob.digest)))
    }
}

/// Reads the documents of caches. One that is not there or cannot be read is told of, and left out.
pub fn import(
    engine: &Engine,
    lease: &Lease,
    places: &[Place],
    platform: &Platform,
    progress: &Progress,
) -> Imports {
    let mut imports = Imports::default();
    for place in places {
        let began = Instant::now();
        let (name, found) = match place {
            Place::Local { dir, tag, digest } => {
                (dir.display().to_string(), from_layout(lease, Layout::new(dir), tag, digest.as_ref()))
            }
            Place::Registry(reference) => {
                (reference.to_string(), from_reference(engine, lease, reference, platform))
            }
            Place::Inline => continue,
        };
        let line = match &found {
            Ok(import) if import.is_empty() => "there is no build cache in it".to_owned(),
            Ok(import) => format!("{} results known", import.len()),
            Err(e) => format!("WARNING: it is not used: {}", e.chain()),
        };
        let seconds = began.elapsed().as_secs_f64();
        progress.internal(&format!("importing cache manifest from {name}"), &[line], seconds);
        imports.all.extend(found.ok());
    }
    imports
}

/// Tells of caches that turned out to be broken.
pub fn complain(imports: &Imports, progress: &Progress) {
    for why in imports.all.iter().filter_map(Import::broken) {
        progress.internal("importing cache", &[format!("WARNING: it is not used any more: {why}")], 0.0);
    }
}

fn from_layout(lease: &Lease, layout: Layout, tag: &str, digest: Option<&Digest>) -> Result<Import> {
    let name = layout.path().display().to_string();
    let found = match digest {
        Some(digest) => layout.index()?.manifests.into_iter().find(|d| d.digest == *digest),
        None => Some(layout.tagged(tag)?),
    };
    let blobs = lease.blobs();
    let found = found.ok_or_else(|| Error::not_found(format!("{name}: there is no such manifest in it")))?;
    layout.fetch(&blobs, &found)?;
    let bytes = blobs.read_small(&found.digest, MAX_DOCUMENT)?;
    let ImageDocument::Manifest(manifest) = ImageDocument::parse(&bytes, &name)? else {
        return Err(Error::unsupported(format!("{name}: {tag} is an index, not a build cache")));
    };
    let config = &manifest.config;
    if config.size > MAX_DOCUMENT {
        return Err(Error::corrupt(format!("{name}: its configuration is too large")));
    }
    layout.fetch(&blobs, config)?;
    let bytes = blobs.read_small(&config.digest, MAX_DOCUMENT)?;
    opened(&name, &manifest, &bytes, Box::new(FromLayout(layout)))
}

fn from_reference(
    engine: &Engine,
    lease: &Lease,
    reference: &Reference,
    platform: &Platform,
) -> Result<Import> {
    let (name, blobs) = (reference.to_string(), lease.blobs());
    if let Some(image) = engine.images().by_reference(reference)?
        && image.config.build_cache.is_some()
    {
        crate::cli::cmd::trust::check(engine, None, &name, &image)?;
        let bytes = blobs.read_small(&image.manifest, MAX_DOCUMENT)?;
        if let ImageDocument::Manifest(manifest) = ImageDocument::parse(&bytes, &name)? {
            return inline(&name, &manifest, image.config, Box::new(FromStore));
        }
    }
    let registry = crate::cli::cmd::registry_for_build()?;
    let (_, manifest) = registry.manifest(&blobs, reference, platform)?;
    let bytes = registry.blob(reference, &manifest.config, MAX_DOCUMENT)?;
    opened(&name, &manifest, &bytes, Box::new(FromRegistry(registry, reference.clone())))
}

/// The cache that a manifest with this configuration is or carries.
fn opened(name: &str, manifest: &Manifest, config: &[u8], origin: Box<dyn Origin>) -> Result<Import> {
    match manifest.config.media_type.as_str() {
        MEDIA_TYPE => Import::new(name, origin, Document::parse(config, name)?, manifest.layers.clone()),
        BUILDKIT_MEDIA_TYPE => Err(Error::unsupported(format!("{name} is a cache that BuildKit wrote"))
            .with_hint("its keys mean nothing here; write a new one with --cache-to, under another name")),
        oci::OCI_CONFIG | oci::DOCKER_CONFIG => {
            inline(name, manifest, ImageConfig::parse(config, name)?, origin)
        }
        other => Err(Error::unsupported(format!("{name} is no build cache but {other}"))),
    }
}

fn inline(name: &str, manifest: &Manifest, config: ImageConfig, origin: Box<dyn Origin>) -> Result<Import> {
    let Some(value) = config.build_cache else {
        return Import::new(name, origin, Document::default(), Vec::new());
    };
    let mut document: Document = serde_json::from_value(value)
        .map_err(|e| Error::corrupt(format!("the build cache of image {name}")).with_source(e))?;
    document.layers = config.rootfs.diff_ids;
    document.clean();
    document.check(name, document.layers.len())?;
    Import::new(name, origin, document, manifest.layers.clone())
}

/// Writes the caches that are not part of an image.
///
/// # Errors
/// One cannot be written, and that was not to be ignored.
pub fn export(
    engine: &Engine,
    lease: &Lease,
    targets: &[Target],
    ledger: &Ledger,
    imports: &Imports,
    progress: &Progress,
) -> Result<()> {
    for target in targets {
        let began = Instant::now();
        let (kind, written) = match &target.place {
            Place::Inline => continue,
            Place::Local { dir, tag, .. } => (
                "client directory",
                to_layout(engine, lease, target, &Layout::new(dir), tag, ledger, imports),
            ),
            Place::Registry(reference) => {
                ("registry", to_registry(engine, lease, target, reference, ledger, imports))
            }
        };
        let line = match &written {
            Ok(line) => line.clone(),
            Err(e) if target.ignore_error => format!("WARNING: it was not written: {}", e.chain()),
            Err(_) => String::new(),
        };
        let seconds = began.elapsed().as_secs_f64();
        if !line.is_empty() {
            progress.internal(&format!("exporting cache to {kind}"), &[line], seconds);
        }
        if !target.ignore_error {
            written.map_err(|e| e.context(format!("exporting the cache to a {kind}")))?;
        }
    }
    Ok(())
}

fn to_layout(
    engine: &Engine,
    lease: &Lease,
    target: &Target,
    layout: &Layout,
    tag: &str,
    ledger: &Ledger,
    imports: &Imports,
) -> Result<String> {
    let has = |_: &Import, blob: &Digest| layout.has(blob);
    let cache = ledger.export(engine.images(), lease, imports, target.mode, target.packing, &has)?;
    let blobs = lease.blobs();
    for blob in cache.blobs.iter().chain([&cache.manifest]) {
        layout.put(&blobs, &blob.digest)?;
    }
    layout.tag(&cache.manifest, tag)?;
    Ok(format!("writing cache manifest {} done, {} results", cache.manifest.digest, cache.records))
}

fn to_registry(
    engine: &Engine,
    lease: &Lease,
    target: &Target,
    reference: &Reference,
    ledger: &Ledger,
    imports: &Imports,
) -> Result<String> {
    let registry = crate::cli::cmd::registry_for_build()?;
    let own = |import: &Import, _: &Digest| {
        Reference::parse(import.name()).is_ok_and(|r| r.name() == reference.name())
    };
    let push = |has: &dyn Fn(&Import, &Digest) -> bool| -> Result<String> {
        let cache = ledger.export(engine.images(), lease, imports, target.mode, target.packing, has)?;
        let blobs = lease.blobs();
        let options = PushOptions::default();
        let pushed = registry.push(&blobs, &cache.manifest.digest, reference, &options, &Silent)?;
        Ok(format!("pushing cache manifest {} done, {} results", pushed.target.digest, cache.records))
    };
    match push(&own) {
        // What was read from there has been removed meanwhile.
        Err(e) if matches!(e.kind(), Kind::NotFound | Kind::Corrupt) => push(&|_, _| false),
        other => other,
    }
}
