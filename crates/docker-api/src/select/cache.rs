//! Which entries of the build cache somebody means.

use fluyt_engine::build_cache::CacheEntry;
use fluyt_model::Result;

use crate::filter::{Filters, boolean};
use crate::time;

/// Filters of `builder du` and `builder prune`.
pub const FILTERS: &[&str] = &[
    "id",
    "parent",
    "parents",
    "type",
    "description",
    "description~",
    "inuse",
    "shared",
    "private",
    "mutable",
    "immutable",
    "until",
    "unused-for",
];
/// Which entries filters name.
pub struct Wanted {
    filters: Filters,
    /// Not used since, in seconds since the epoch.
    before: Option<i64>,
}

impl Wanted {
    /// Reads filters.
    ///
    /// # Errors
    /// One that is not known, or a value that is malformed.
    pub fn read<'a>(texts: impl Iterator<Item = &'a str>) -> Result<Self> {
        Self::of(&Filters::parse(texts, FILTERS)?)
    }

    /// By filters that are read already.
    ///
    /// # Errors
    /// As [`Wanted::read`].
    pub fn of(filters: &Filters) -> Result<Self> {
        let filters = filters.clone();
        filters.check(FILTERS)?;
        for name in ["inuse", "shared", "private", "mutable", "immutable"] {
            // A bare name means that it holds.
            if filters.values(name).first().is_some_and(|value| !value.is_empty()) {
                filters.boolean(name)?;
            }
        }
        let now = time::now();
        let mut before = None;
        for name in ["until", "unused-for"] {
            if let Some(found) = filters.time(name, now)? {
                before = Some(found.div_euclid(1_000_000_000));
            }
        }
        Ok(Self { filters, before })
    }

    /// Whether they name this entry.
    #[must_use]
    pub fn names(&self, entry: &CacheEntry) -> bool {
        let holds = |name: &str, is: bool| match self.filters.values(name).first().map(String::as_str) {
            None => true,
            Some("") => is,
            Some(value) => boolean(value) == Some(is),
        };
        self.before.is_none_or(|before| entry.used <= before)
            && self.filters.any("id", |id| entry.id.starts_with(id))
            && self.filters.any("parent", |id| entry.parent == id)
            && self.filters.any("parents", |id| entry.parent == id)
            && self.filters.exact("type", &entry.kind)
            && self.filters.exact("description", &entry.description)
            && self.filters.matches("description~", &entry.description)
            && holds("inuse", entry.in_use)
            && holds("shared", entry.shared)
            && holds("private", !entry.shared)
            && holds("mutable", entry.mutable)
            && holds("immutable", !entry.mutable)
    }
}
