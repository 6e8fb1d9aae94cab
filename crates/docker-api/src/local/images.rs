//! Images and registries.

use std::fs::File;
use std::io::Read;

use fluyt_engine::{CommitRequest, Engine};
use fluyt_image::{Image, ImportOptions, Instruction, Platform, Removed, SaveOptions, Silent};
use fluyt_model::error::IoContext;
use fluyt_model::reference::Reference;
use fluyt_model::{Error, Kind, Result};
use fluyt_registry::{FileAsk, FoundRepository, fetch_file};

use super::tell::{Tell, Work};
use super::{Local, manifests};
use crate::api::*;
use crate::select::images as select;
use crate::select::prune::{self, IMAGE_FILTERS, Keep};
use crate::types::image::ManifestSummary;
use crate::types::{ContainerConfig, HistoryItem, ImageConfig, ImageInspect, ImageSummary, List};
use crate::{lower, policy, render, time, transfer};

impl Images for Local {
    fn image_list(&self, wanted: &ListImages) -> Result<Vec<ImageSummary>> {
        let engine = self.engine()?;
        let filters = wanted.filters.checked(select::FILTERS)?;
        let mut found = select::select(&engine, &filters, time::now())?;
        if wanted.shared_size {
            let usage = engine.images().usage(&[])?;
            for summary in &mut found {
                let shared =
                    usage.images.iter().find(|u| u.id.as_str() == summary.id).map_or(0, |u| u.shared);
                summary.shared_size = i64::try_from(shared).unwrap_or(i64::MAX);
            }
        }
        if wanted.manifests {
            let used = engine.container_images()?;
            for summary in &mut found {
                let image = engine.images().resolve(&summary.id)?;
                summary.manifests = Some(manifests::of(engine.images(), &image, &used)?);
            }
        }
        Ok(found)
    }

    fn image_inspect(&self, name: &str, platform: &str) -> Result<ImageInspect> {
        let engine = self.engine()?;
        render::image(engine.images(), &here(&engine, name, platform)?)
    }

    fn image_manifests(&self, name: &str) -> Result<Vec<ManifestSummary>> {
        let engine = self.engine()?;
        let image = engine.images().resolve(name)?;
        manifests::of(engine.images(), &image, &engine.container_images()?)
    }

    fn image_history(&self, name: &str, platform: &str) -> Result<Vec<HistoryItem>> {
        Ok(render::image_history(&here(&*self.engine()?, name, platform)?))
    }

    fn image_pull(&self, wanted: &PullImage, progress: &dyn Progress) -> Result<()> {
        let given = Reference::parse_untagged(&wanted.reference)?;
        let registry =
            self.registry(given.domain(), wanted.auth.as_ref(), wanted.signature_policy.as_deref())?;
        let engine = self.engine()?;
        let mut references = vec![given.clone().or_latest()];
        if wanted.all_tags {
            if !given.is_name_only() {
                return Err(Error::invalid("tag can't be used with --all-tags/-a"));
            }
            references.clear();
            for tag in registry.tags(&given).map_err(|e| denied(e, &given))? {
                references.push(given.with_tag(&tag)?);
            }
        }
        for reference in references {
            let opening = ProgressMessage {
                status: format!("Pulling from {}", reference.path()),
                id: reference.tag().or(reference.digest()).unwrap_or_default().to_owned(),
                ..ProgressMessage::default()
            };
            let tell = Tell::new(progress, Work::Pull, vec![opening]);
            let platform = platform(&wanted.platform)?;
            let (pulled, _) = transfer::pull(&engine, &registry, &reference, platform, &tell)
                .map_err(|e| denied(e, &reference))?;
            tell.status(pulled.digest_line());
            tell.status(pulled.status_line());
        }
        Ok(())
    }

    fn image_push(&self, wanted: &PushImage, progress: &dyn Progress) -> Result<()> {
        let given = Reference::parse_untagged(&wanted.name)?;
        if given.digest().is_some() {
            return Err(Error::invalid("cannot push a digest reference"));
        }
        let platform = platform(&wanted.platform)?;
        // What fails from here on is told in the stream, as with Docker's engine: an answer of 401 would make the client ask
        // its user who he is.
        let tell = Tell::new(progress, Work::Push, Vec::new());
        tell.status(format!("The push refers to repository [{}]", given.name()));
        let engine = self.engine()?;
        let references = match (wanted.tag.as_str(), given.tag()) {
            ("", None) => transfer::local_tags(&engine, &given)?,
            ("", Some(_)) => vec![given.clone()],
            (tag, _) => vec![given.with_tag(tag)?],
        };
        let registry = self.registry(given.domain(), wanted.auth.as_ref(), None)?;
        for reference in references {
            if let Ok(Some(image)) = engine.images().by_reference(&reference) {
                tell.hide(image.id.as_str());
            }
            let note = |text: &str| tell.status(text);
            let pushed = transfer::push(&engine, &registry, &reference, platform.as_ref(), &tell, &note)?;
            tell.status(pushed.line());
            let aux = serde_json::json!({
                "Tag": reference.tag().unwrap_or_default(),
                "Digest": pushed.target.digest.to_string(),
                "Size": pushed.target.size,
            });
            let detail = Some(ProgressDetail::default());
            tell.say(ProgressMessage { detail, aux: Some(aux), ..ProgressMessage::default() });
        }
        Ok(())
    }

    fn image_import(
        &self,
        wanted: &ImportImage,
        archive: &mut (dyn Read + Send),
        progress: &dyn Progress,
    ) -> Result<String> {
        let reference = named(&wanted.repository, &wanted.tag)?;
        let source = if wanted.url.is_empty() { "-" } else { &wanted.url };
        let message = if wanted.message.is_empty() {
            format!("Imported from {source}")
        } else {
            wanted.message.clone()
        };
        let options = ImportOptions {
            reference: reference.clone(),
            changes: wanted.changes.iter().map(|text| Instruction::parse(text)).collect::<Result<_>>()?,
            message,
            platform: platform(&wanted.platform)?,
        };
        policy::check_archive(&["tarball"], "the archive")?;
        let engine = self.engine()?;
        let image = if wanted.url.is_empty() {
            engine.images().import(archive, &options, &Silent)?
        } else {
            let status = format!("Downloading from {}", wanted.url);
            progress.tell(ProgressMessage { status, ..ProgressMessage::default() })?;
            let file = Fetched::of(&engine, &wanted.url)?;
            engine.images().import(file.open()?, &options, &Silent).map_err(|e| e.context(&wanted.url))?
        };
        let id = image.id.to_string();
        engine.emit_image("import", &id, &reference.map_or_else(|| id.clone(), |r| r.familiar()));
        Ok(id)
    }

    fn image_tag(&self, name: &str, repository: &str, tag: &str) -> Result<()> {
        let engine = self.engine()?;
        let image = engine.images().resolve(name)?;
        let target = named(repository, tag)?
            .ok_or_else(|| Error::invalid("invalid reference format: repository name must not be empty"))?;
        let name = engine.images().tag(name, &target.familiar())?;
        engine.emit_image("tag", &image.id.to_string(), &name.familiar());
        Ok(())
    }

    fn image_remove(&self, name: &str, how: &RemoveImage) -> Result<Vec<ImageDeleted>> {
        let engine = self.engine()?;
        if !how.platforms.is_empty() {
            // The image of a name is one of a platform: another one of its index is no image by itself.
            let own = engine.images().resolve(name)?.config.platform();
            for text in &how.platforms {
                if Platform::parse(text)?.rank(&own).is_none() {
                    return Err(Error::not_found(format!(
                        "image {name} is not here for the platform {text}"
                    )));
                }
            }
        }
        Ok(engine.remove_image(name, how.force)?.into_iter().map(deleted).collect())
    }

    fn image_search(&self, wanted: &SearchImages) -> Result<Vec<SearchResult>> {
        /// Results when nobody says how many, and at most.
        const LIMITS: (u32, u32) = (25, 100);
        let limit = match wanted.limit {
            None | Some(0) => LIMITS.0,
            Some(n) if n <= LIMITS.1 => n,
            Some(n) => {
                return Err(Error::invalid(format!("limit {n} is outside the range of [1, {}]", LIMITS.1)));
            }
        };
        let filters = wanted.filters.checked(&["stars", "is-official", "is-automated"])?;
        let mut stars = 0;
        for text in filters.values("stars") {
            let bad = || Error::invalid(format!("invalid filter 'stars={text}'"));
            stars = stars.max(text.parse::<i64>().map_err(|_| bad())?);
        }
        let (official, automated) = (filters.boolean("is-official")?, filters.boolean("is-automated")?);
        let domain = wanted.auth.as_ref().map_or(String::new(), |auth| auth.server_address.clone());
        let registry = self.registry(&domain, wanted.auth.as_ref(), None)?;
        let found = registry.search(&wanted.term, limit)?;
        let passes = |r: &FoundRepository| {
            r.star_count >= stars
                && official.is_none_or(|is| is == r.is_official)
                && automated.is_none_or(|is| is == r.is_automated)
        };
        Ok(found.into_iter().filter(passes).map(result).collect())
    }

    fn image_prune(&self, filters: &Filters) -> Result<ImagesPruned> {
        let keep = Keep::new(filters.checked(IMAGE_FILTERS)?, time::now())?;
        let all = keep.filters().boolean("dangling")? == Some(false);
        let (removed, bytes) = prune::images(&*self.engine()?, all, &keep)?;
        let images_deleted = List::null_if_empty(removed.into_iter().map(deleted).collect());
        Ok(ImagesPruned { images_deleted, space_reclaimed: bytes })
    }

    fn image_commit(&self, wanted: &CommitContainer) -> Result<String> {
        let engine = self.engine()?;
        let own = render::document(&engine.container(&wanted.container)?).config.clone();
        let config = wanted.config.as_ref().map_or_else(|| own.clone(), |given| over(given, &own));
        let config = serde_json::to_value(ImageConfig::from(&config))
            .map_err(|e| Error::internal("a container's configuration").with_source(e))?;
        engine.commit(
            &wanted.container,
            &CommitRequest {
                reference: named(&wanted.repository, &wanted.tag)?.map(|r| r.to_string()),
                comment: wanted.comment.clone(),
                author: wanted.author.clone(),
                changes: wanted.changes.clone(),
                pause: wanted.pause,
                config: Some(config),
            },
        )
    }

    fn image_save(&self, names: &[String], platforms: &[String]) -> Result<Output> {
        if names.is_empty() {
            return Err(Error::invalid("no images are named"));
        }
        let platform = one_platform(platforms)?;
        let mut ids = Vec::new();
        {
            let engine = self.engine()?;
            for name in names {
                match engine.images().resolve(name) {
                    Ok(image) => ids.push(image.id.to_string()),
                    // A repository without the tag `latest` stands for all its tags.
                    Err(e) if e.kind() == Kind::NotFound && has_tags(&engine, name) => {}
                    Err(e) => return Err(e),
                }
            }
        }
        let (local, names) = (self.clone(), names.to_vec());
        Ok(Box::new(move |out| {
            let engine = local.engine()?;
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let options = SaveOptions { platform, ..SaveOptions::default() };
            engine.images().save(&names, out, &options, &Silent)?;
            for id in ids {
                engine.emit_image("save", &id, &id);
            }
            Ok(())
        }))
    }

    fn image_load(
        &self,
        archive: &mut (dyn Read + Send),
        platforms: &[String],
        quiet: bool,
        progress: &dyn Progress,
    ) -> Result<()> {
        let platform = one_platform(platforms)?;
        policy::check_archive(&["docker-archive", "oci-archive"], "the archive")?;
        let engine = self.engine()?;
        let tell = Tell::new(progress, Work::Load, Vec::new());
        let report: &dyn fluyt_image::Progress = if quiet { &Silent } else { &tell };
        let loaded = engine.images().load(archive, platform.as_ref(), report)?;
        for image in &loaded {
            engine.emit_image("load", &image.id.to_string(), &image.id.to_string());
            if let (Some(old), Some(name)) = (&image.replaced, &image.name) {
                tell.say(line(format!(
                    "The image {} already exists, renaming the old one with ID {old} to empty string",
                    name.familiar()
                )));
            }
            tell.say(line(image.to_string()));
        }
        Ok(())
    }
}

impl Distribution for Local {
    fn distribution_inspect(&self, name: &str, auth: Option<&AuthConfig>) -> Result<DistributionInspect> {
        let reference = Reference::parse(name)?;
        let registry = self.registry(reference.domain(), auth, None)?;
        let document = registry.document(&reference)?;
        let platforms = manifests::platforms(&registry, &reference, &document)?;
        Ok(DistributionInspect {
            descriptor: DistributionDescriptor {
                media_type: document.descriptor.media_type.clone(),
                digest: document.descriptor.digest.to_string(),
                size: i64::try_from(document.bytes.len()).unwrap_or(i64::MAX),
            },
            platforms: platforms.into(),
        })
    }
}

/// The image that is here under a name, for a platform if one is given.
fn here(engine: &Engine, name: &str, wanted: &str) -> Result<Image> {
    match platform(wanted)? {
        Some(platform) => engine.images().resolve_for(name, &platform, &Silent),
        None => engine.images().resolve(name),
    }
}

fn platform(text: &str) -> Result<Option<Platform>> {
    if text.is_empty() { Ok(None) } else { Platform::parse(text).map(Some) }
}

fn one_platform(texts: &[String]) -> Result<Option<Platform>> {
    match texts {
        [] => Ok(None),
        [one] => platform(one),
        _ => Err(Error::unsupported("several platforms in one archive are not implemented")
            .with_hint("ask for one platform at a time")),
    }
}

/// `repository[:tag]` of two parameters; either may have the tag in it.
fn named(repository: &str, tag: &str) -> Result<Option<Reference>> {
    if repository.is_empty() {
        return Ok(None);
    }
    let reference = Reference::parse_untagged(repository)?;
    if reference.digest().is_some() {
        return Err(Error::invalid("refusing to create a tag with a digest reference"));
    }
    if tag.is_empty() { Ok(Some(reference.or_latest())) } else { reference.with_tag(tag).map(Some) }
}

fn has_tags(engine: &Engine, name: &str) -> bool {
    Reference::parse_untagged(name)
        .is_ok_and(|r| r.is_name_only() && transfer::local_tags(engine, &r).is_ok())
}

fn deleted(removed: Removed) -> ImageDeleted {
    match removed {
        Removed::Untagged(untagged) => ImageDeleted { untagged, ..ImageDeleted::default() },
        Removed::Deleted(deleted) => ImageDeleted { deleted, ..ImageDeleted::default() },
    }
}

fn result(found: FoundRepository) -> SearchResult {
    SearchResult {
        name: found.name,
        description: found.description,
        star_count: found.star_count,
        is_official: found.is_official,
        is_automated: found.is_automated,
    }
}

fn line(text: String) -> ProgressMessage {
    ProgressMessage { stream: text + "\n", ..ProgressMessage::default() }
}

/// A configuration that a client sends with a commit, over the container's own.
fn over(given: &ContainerConfig, own: &ContainerConfig) -> ContainerConfig {
    lower::with_image(given, own)
}

/// Docker's hub says that a repository that is not there is not allowed.
fn denied(error: Error, reference: &Reference) -> Error {
    if error.kind() != Kind::Unauthorized {
        return error;
    }
    let text = format!(
        "pull access denied for {}, repository does not exist or may require 'docker login': {}",
        reference.familiar_name(),
        error.chain()
    );
    Error::not_found(text)
}

/// A file that was fetched; it goes with this.
struct Fetched(std::path::PathBuf);

impl Fetched {
    fn of(engine: &Engine, url: &str) -> Result<Self> {
        let url = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
        let name = format!("import-{}-{}", std::process::id(), time::now());
        let file = Self(engine.paths().root().join("ingest").join(name));
        let settings = transfer::settings()?;
        fetch_file(&settings, FileAsk { url: &url, ..FileAsk::default() }, &file.0)?;
        Ok(file)
    }

    fn open(&self) -> Result<File> {
        File::open(&self.0).about(|| self.0.display().to_string())
    }
}

impl Drop for Fetched {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
