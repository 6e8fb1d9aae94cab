//! What a prune removes.

use fluyt_engine::build_cache::{CacheEntry, Limits};
use fluyt_engine::{ContainerView, Engine, NetworkView, Pruned, VolumeView};
use fluyt_image::{Image, Removed};
use fluyt_model::Result;

use crate::filter::Filters;

/// Filters of `container prune`, `network prune` and `system prune`.
pub const FILTERS: &[&str] = &["label", "label!", "until"];
/// Filters of `image prune`.
pub const IMAGE_FILTERS: &[&str] = &["dangling", "label", "label!", "until"];
/// Filters of `volume prune`.
pub const VOLUME_FILTERS: &[&str] = &["all", "label", "label!"];

/// What to keep, by the filters of a prune.
pub struct Keep {
    filters: Filters,
    until: Option<i64>,
}

impl Keep {
    /// By these filters. `now` is in nanoseconds since 1970.
    ///
    /// # Errors
    /// `Invalid` for an `until` that is no time.
    pub fn new(filters: Filters, now: i64) -> Result<Self> {
        let until = filters.time("until", now)?;
        Ok(Self { filters, until })
    }

    /// The filters.
    #[must_use]
    pub fn filters(&self) -> &Filters {
        &self.filters
    }

    /// Whether labels are asked for.
    #[must_use]
    pub fn by_label(&self) -> bool {
        self.filters.has("label") || self.filters.has("label!")
    }

    fn keeps(&self, created: i64, labels: &std::collections::BTreeMap<String, String>) -> bool {
        self.until.is_some_and(|until| created >= until) || !self.filters.labels(labels)
    }

    /// Whether this container is kept.
    #[must_use]
    pub fn container(&self, view: &ContainerView) -> bool {
        self.keeps(view.created, &view.spec.labels)
    }

    /// Whether this network is kept.
    #[must_use]
    pub fn network(&self, view: &NetworkView) -> bool {
        self.keeps(view.created, &view.spec.labels)
    }

    /// Whether this volume is kept.
    #[must_use]
    pub fn volume(&self, view: &VolumeView) -> bool {
        self.keeps(view.created, &view.spec.labels)
    }
}

/// Removes dangling images, or with `all` every image that no container uses, unless it is kept. What was removed, and
/// the bytes that came free.
///
/// # Errors
/// The store cannot be changed.
pub fn images(engine: &Engine, all: bool, keep: &Keep) -> Result<(Vec<Removed>, u64)> {
    let keeps = |image: &Image| keep.keeps(image.created * 1_000_000_000, &image.config.config.labels);
    engine.prune_images(all, &keeps)
}

/// Removes what `system prune` takes of the cache: all that nobody uses, or what no image has either. Nothing in the cache
/// has labels.
///
/// # Errors
/// Something cannot be removed.
pub fn cache(engine: &Engine, all: bool, keep: &Keep) -> Result<Pruned> {
    if keep.by_label() {
        return Ok(Pruned::default());
    }
    let before = keep.until.map(|until| until.div_euclid(1_000_000_000));
    let names =
        |entry: &CacheEntry| (all || !entry.shared) && before.is_none_or(|before| entry.used <= before);
    engine.prune_build_cache(&names, Limits::default())
}
