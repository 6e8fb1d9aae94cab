//! The build cache.

use fluyt_engine::build_cache::CacheEntry;

use crate::time;

/// Entries as Docker's API has them.
#[must_use]
pub fn documents(entries: &[CacheEntry]) -> serde_json::Value {
    let stamp = |seconds: i64| time::rfc3339_nano(seconds * 1_000_000_000);
    let document = |entry: &CacheEntry| {
        serde_json::json!({
            "ID": entry.id,
            "Parents": parents(entry),
            "Type": entry.kind,
            "Description": entry.description,
            "InUse": entry.in_use,
            "Shared": entry.shared,
            "Size": entry.size,
            "CreatedAt": stamp(entry.created),
            "LastUsedAt": stamp(entry.used),
            "UsageCount": entry.uses,
        })
    };
    entries.iter().map(document).collect()
}

/// What an entry was made of.
#[must_use]
pub fn parents(entry: &CacheEntry) -> serde_json::Value {
    [&entry.parent].into_iter().filter(|parent| !parent.is_empty()).cloned().collect()
}
