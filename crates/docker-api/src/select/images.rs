//! Which images a list shows.

use fluyt_engine::Engine;
use fluyt_model::Result;
use fluyt_model::reference::Reference;

use crate::filter::{Filters, glob};
use crate::render;
use crate::types::ImageSummary;

/// Filters of `images`.
pub const FILTERS: &[&str] = &["before", "dangling", "label", "label!", "reference", "since", "until"];

/// The images that the filters let pass, with the numbers of their containers. `now` is in nanoseconds since 1970.
///
/// # Errors
/// A filter's value that is no boolean, no time, or no image; those of the record file.
pub fn select(engine: &Engine, filters: &Filters, now: i64) -> Result<Vec<ImageSummary>> {
    let store = engine.images();
    let dangling = filters.boolean("dangling")?;
    let edge = |name: &str| -> Result<Option<i64>> {
        filters.values(name).first().map(|n| store.resolve(n).map(|image| image.created)).transpose()
    };
    let (before, since, until) = (edge("before")?, edge("since")?, filters.time("until", now)?);
    let patterns = filters.values("reference");
    let containers = engine.container_images()?;
    let mut found = Vec::new();
    for image in store.images()? {
        let mut summary = render::image_summary(&image);
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
        found.push(summary);
    }
    Ok(found)
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
