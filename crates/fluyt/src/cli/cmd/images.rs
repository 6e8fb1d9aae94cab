//! `images`, `history`, `tag`, and images as Docker's documents.

use fluyt_docker_api::types::image::ImageMetadata;
use fluyt_docker_api::types::{
    GraphDriver, HistoryItem, ImageConfig, ImageInspect, ImageSummary, List, RootFs,
};
use fluyt_engine::Engine;
use fluyt_image::Image;
use fluyt_model::reference::Reference;
use fluyt_model::{Error, Result};

use super::Cli;
use crate::cli::fail::Outcome;
use crate::cli::filter::{Filters, glob};
use crate::cli::flags::{Arity, Command, NONE, Parsed, many, switch, text, values};
use crate::cli::format::{self, rows};
use crate::cli::{print_text, time};

/// `fluyt images`.
pub const IMAGES: Command = Command {
    name: "images",
    arguments: "[REPOSITORY[:TAG]]",
    about: "List images",
    flags: &[&[
        switch('a', "all", "Show all images (default hides intermediate images)"),
        switch(NONE, "digests", "Show digests"),
        many('f', "filter", "filter", values::filter, "Filter output based on conditions provided"),
        text(NONE, "format", super::list::FORMAT),
        switch(NONE, "no-trunc", "Don't truncate output"),
        switch('q', "quiet", "Only show image IDs"),
        switch(NONE, "tree", "List multi-platform images as a tree").hidden(),
    ]],
    arity: Arity::AtMost(1),
    interspersed: true,
};

/// `fluyt history`.
pub const HISTORY: Command = Command {
    name: "history",
    arguments: "IMAGE",
    about: "Show the history of an image",
    flags: &[&[
        text(NONE, "format", super::list::FORMAT),
        switch('H', "human", "Print sizes and dates in human readable format").default("true"),
        switch(NONE, "no-trunc", "Don't truncate output"),
        text(NONE, "platform", "Show history for the given platform"),
        switch('q', "quiet", "Only show image IDs"),
    ]],
    arity: Arity::Exactly(1),
    interspersed: true,
};

/// `fluyt tag`.
pub const TAG: Command = Command {
    name: "tag",
    arguments: "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
    about: "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE",
    flags: &[],
    arity: Arity::Exactly(2),
    interspersed: true,
};

const FILTERS: &[&str] = &["before", "dangling", "label", "label!", "reference", "since", "until"];

/// Runs `fluyt images`.
pub fn images(cli: &Cli, flags: &Parsed) -> Outcome {
    let engine = cli.engine()?;
    let now = time::now();
    let filters = Filters::parse(flags.all("filter"), FILTERS)?;
    let store = engine.images();
    let dangling = filters.boolean("dangling")?;
    let edge = |name: &str| -> Result<Option<i64>> {
        filters.values(name).first().map(|n| store.resolve(n).map(|image| image.created)).transpose()
    };
    let (before, since, until) = (edge("before")?, edge("since")?, filters.time("until", now)?);
    let mut patterns: Vec<String> = filters.values("reference").to_vec();
    patterns.extend(flags.args.first().cloned());
    let containers = engine.container_images()?;

    let mut rows = Vec::new();
    let digests = flags.on("digests") || flags.text("format").contains(".Digest");
    for image in store.images()? {
        let mut summary = summary(&image);
        let is_dangling = summary.repo_tags.is_empty() && summary.repo_digests.is_empty();
        let kept = dangling.is_none_or(|wanted| wanted == is_dangling)
            && before.is_none_or(|edge| image.created < edge)
            && since.is_none_or(|edge| image.created > edge)
            && until.is_none_or(|until| image.created * 1_000_000_000 < until)
            && filters.labels(&summary.labels);
        if !kept {
            continue;
        }
        if !patterns.is_empty() {
            summary.repo_tags.retain(|name| patterns.iter().any(|p| reference_matches(p, name)));
            summary.repo_digests.retain(|name| patterns.iter().any(|p| reference_matches(p, name)));
            if summary.repo_tags.is_empty() && summary.repo_digests.is_empty() {
                continue;
            }
        }
        summary.containers = containers.iter().filter(|id| **id == summary.id).count() as i64;
        rows.push(summary);
    }
    let trunc = !flags.on("no-trunc");
    let mut template = format::choose(&rows::IMAGES, flags.text("format"), flags.on("quiet"));
    if template == rows::IMAGES.table && flags.on("digests") {
        template = rows::IMAGES_WITH_DIGESTS;
    }
    let quiet = template == rows::IMAGES.quiet;
    let all = rows.iter().flat_map(|summary| {
        let mut rows = rows::image(summary, digests, trunc, now);
        // An id is an id, however many names it has.
        if quiet {
            rows.truncate(1);
        }
        rows
    });
    print_text(&format::render(&rows::IMAGES, template, all)?)?;
    Ok(0)
}

/// Whether a familiar name is what the pattern means: by repository, by repository and tag, with `*`.
fn reference_matches(pattern: &str, name: &str) -> bool {
    let Ok(parsed) = Reference::parse_untagged(name) else { return false };
    let repository = parsed.familiar_name();
    let full = parsed.name();
    [name, repository.as_str(), full.as_str()].iter().any(|text| glob(pattern, text))
        || Reference::parse_untagged(pattern)
            .is_ok_and(|p| p.name() == full && p.tag().is_none_or(|tag| parsed.tag() == Some(tag)))
}

/// An image as a row of `GET /images/json`.
pub fn summary(image: &Image) -> ImageSummary {
    ImageSummary {
        containers: -1,
        created: image.created,
        id: image.id.to_string(),
        labels: image.config.config.labels.clone().into(),
        parent_id: image.parent.as_ref().map(ToString::to_string).unwrap_or_default(),
        repo_digests: image.repo_digests(),
        repo_tags: image.repo_tags(),
        shared_size: -1,
        size: i64::try_from(image.size).unwrap_or(i64::MAX),
    }
}

/// All images as rows.
///
/// # Errors
/// Those of the record file.
pub fn summaries(engine: &Engine) -> Result<Vec<ImageSummary>> {
    Ok(engine.images().images()?.iter().map(summary).collect())
}

/// An image as `inspect` shows it.
///
/// # Errors
/// Its configuration cannot be read.
pub fn document(engine: &Engine, image: &Image) -> Result<ImageInspect> {
    #[derive(serde::Deserialize)]
    struct Raw {
        #[serde(default)]
        config: Option<ImageConfig>,
        #[serde(default)]
        docker_version: String,
    }
    let store = engine.images();
    let raw: Raw = serde_json::from_str(&store.raw_config(&image.id)?)
        .map_err(|e| Error::corrupt(format!("configuration of image {}", image.id)).with_source(e))?;
    let lowers = store.snapshot_lowers(image);
    let (upper, rest) = match lowers.split_first() {
        Some((upper, rest)) => (upper.display().to_string(), rest),
        None => (String::new(), &[][..]),
    };
    let lower: Vec<String> = rest.iter().map(|p| p.display().to_string()).collect();
    let mut data = vec![("UpperDir".to_owned(), upper)];
    if !lower.is_empty() {
        data.push(("LowerDir".to_owned(), lower.join(":")));
    }
    Ok(ImageInspect {
        id: image.id.to_string(),
        repo_tags: image.repo_tags(),
        repo_digests: image.repo_digests(),
        parent: image.parent.as_ref().map(ToString::to_string).unwrap_or_default(),
        comment: image.config.comment.clone(),
        created: image.config.created.clone().unwrap_or_default(),
        docker_version: raw.docker_version,
        author: image.config.author.clone(),
        config: raw.config.unwrap_or_default(),
        architecture: image.config.architecture.clone(),
        variant: image.config.variant.clone().unwrap_or_default(),
        os: image.config.os.clone(),
        os_version: image.config.os_version.clone().unwrap_or_default(),
        size: i64::try_from(image.size).unwrap_or(i64::MAX),
        graph_driver: GraphDriver { data: data.into_iter().collect(), name: "overlay2".to_owned() },
        root_fs: RootFs {
            kind: "layers".to_owned(),
            layers: image.config.rootfs.diff_ids.iter().map(ToString::to_string).collect(),
        },
        metadata: ImageMetadata { last_tag_time: time::rfc3339_nano(image.added * 1_000_000_000) },
    })
}

/// Runs `fluyt history`.
pub fn history(cli: &Cli, flags: &Parsed) -> Outcome {
    let platform = flags.given("platform").filter(|text| !text.is_empty());
    let image = super::run::local_image(cli.engine()?, &flags.args[0], platform)?;
    let now = time::now();
    let mut template = format::choose(&rows::HISTORY, flags.text("format"), flags.on("quiet"));
    let human = flags.on("human");
    if template == rows::HISTORY.table && !human {
        template = rows::HISTORY_PLAIN;
    }
    let items = history_items(&image);
    let trunc = !flags.on("no-trunc");
    print_text(&format::render(
        &rows::HISTORY,
        template,
        items.iter().map(|item| rows::history(item, trunc, human, now)),
    )?)?;
    Ok(0)
}

/// The steps of an image, the newest first, with the sizes of the layers that they made.
fn history_items(image: &Image) -> Vec<HistoryItem> {
    let mut layers = image.layers.iter();
    let mut items: Vec<HistoryItem> = image
        .config
        .history
        .iter()
        .map(|step| HistoryItem {
            comment: step.comment.clone(),
            created: step.created.as_deref().and_then(|text| time::parse(text, 0).ok()).unwrap_or(0)
                / 1_000_000_000,
            created_by: step.created_by.clone(),
            id: "<missing>".to_owned(),
            size: if step.empty_layer {
                0
            } else {
                layers.next().map_or(0, |layer| i64::try_from(layer.size).unwrap_or(i64::MAX))
            },
            tags: List::null(),
        })
        .collect();
    // Layers that no step tells of.
    items.extend(layers.map(|layer| HistoryItem {
        id: "<missing>".to_owned(),
        created: image.created,
        size: i64::try_from(layer.size).unwrap_or(i64::MAX),
        ..HistoryItem::default()
    }));
    items.reverse();
    if let Some(newest) = items.first_mut() {
        newest.id = image.id.to_string();
        newest.tags = List::null_if_empty(image.repo_tags());
    }
    items
}

/// Runs `fluyt tag`.
pub fn tag(cli: &Cli, flags: &Parsed) -> Outcome {
    let engine = cli.engine()?;
    let source = engine.images().resolve(&flags.args[0])?;
    let name = engine.images().tag(&flags.args[0], &flags.args[1])?;
    engine.emit_image("tag", &source.id.to_string(), &name.familiar());
    Ok(0)
}
