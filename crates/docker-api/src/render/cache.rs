//! The build cache.

use fluyt_engine::build_cache::CacheEntry;

use crate::time;
use crate::types::{BuildCacheEntry, List};

/// An entry as Docker's API has it.
#[must_use]
pub fn entry(entry: &CacheEntry) -> BuildCacheEntry {
    let stamp = |seconds: i64| time::rfc3339_nano(seconds * 1_000_000_000);
    BuildCacheEntry {
        id: entry.id.clone(),
        parents: List::null_if_empty(parents(entry)),
        kind: entry.kind.clone(),
        description: entry.description.clone(),
        in_use: entry.in_use,
        shared: entry.shared,
        size: i64::try_from(entry.size).unwrap_or(i64::MAX),
        created_at: stamp(entry.created),
        last_used_at: Some(stamp(entry.used)),
        usage_count: i64::try_from(entry.uses).unwrap_or(i64::MAX),
    }
}

/// What an entry was made of.
#[must_use]
pub fn parents(entry: &CacheEntry) -> Vec<String> {
    [&entry.parent].into_iter().filter(|parent| !parent.is_empty()).cloned().collect()
}
