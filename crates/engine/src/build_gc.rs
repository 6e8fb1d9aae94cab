//! The build cache after a build: what it may take, by settings, and bringing it back to that.
//!
//! Settings come from the first of `ROOT/builder.json`, `/etc/fluyt/builder.json` and the `builder` of
//! `/etc/docker/daemon.json` that is there, in Docker's form:
//!
//! ```text
//! {"gc": {"enabled": true, "defaultReservedSpace": "10%", "defaultMaxUsedSpace": "60%", "defaultMinFreeSpace": "20GB"}}
//! ```
//! A size is bytes, a number with a unit, or a share of the disk. `defaultKeepStorage` is the old name of
//! `defaultReservedSpace`. Without settings: 10 % stay in any case, more than 60 % never, and 20 % of the disk shall be
//! free; entries not used for sixty days go first.

use std::path::{Path, PathBuf};

use fluyt_model::error::IoContext;
use fluyt_model::{Error, Result, quantity};
use serde::Deserialize;
use serde_json::Value;

use crate::build_cache::{Limits, now};
use crate::{Engine, Pruned};

/// After so many seconds without use an entry goes.
const OLD: i64 = 60 * 24 * 3600;
/// Shares of the disk, in percent: what stays, what is never exceeded, what shall be free.
const SHARES: [u64; 3] = [10, 60, 20];

/// The settings as a file has them.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Gc {
    enabled: Option<bool>,
    default_keep_storage: Value,
    default_reserved_space: Value,
    default_max_used_space: Value,
    default_min_free_space: Value,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Builder {
    gc: Gc,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Daemon {
    builder: Builder,
}

/// What a settings text means on a disk of so many bytes; `None`: nothing is removed.
fn limits(builder: &Builder, disk: u64, path: &Path) -> Result<Option<Limits>> {
    let gc = &builder.gc;
    if gc.enabled == Some(false) {
        return Ok(None);
    }
    let size = |value: &Value, share: u64| -> Result<u64> {
        let bad = || Error::invalid(format!("{}: {value} is no size", path.display()));
        match value {
            Value::Null => Ok(disk / 100 * share),
            Value::Number(n) => n.as_u64().ok_or_else(bad),
            Value::String(text) => match text.trim().strip_suffix('%') {
                Some(share) => {
                    Ok(disk / 100 * share.trim().parse::<u64>().ok().filter(|n| *n <= 100).ok_or_else(bad)?)
                }
                None => quantity::parse_bytes(text).ok().and_then(|n| u64::try_from(n).ok()).ok_or_else(bad),
            },
            _ => Err(bad()),
        }
    };
    let reserved = if gc.default_reserved_space.is_null() {
        &gc.default_keep_storage
    } else {
        &gc.default_reserved_space
    };
    let found = Limits {
        reserved: size(reserved, SHARES[0])?,
        max_used: size(&gc.default_max_used_space, SHARES[1])?,
        min_free: size(&gc.default_min_free_space, SHARES[2])?,
    };
    // A reserve beyond the default of what is never exceeded raises it, as who reserves means it.
    let max_used =
        if gc.default_max_used_space.is_null() { found.max_used.max(found.reserved) } else { found.max_used };
    Ok(Some(Limits { max_used, ..found }))
}

fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e).about(|| path.display().to_string()),
    }
}

impl Engine {
    /// What the build cache may take; `None`: whatever it likes.
    ///
    /// # Errors
    /// A settings file that cannot be read.
    pub fn build_cache_limits(&self) -> Result<Option<Limits>> {
        let (disk, _) = self.disk()?;
        let own = [self.paths.root().join("builder.json"), PathBuf::from("/etc/fluyt/builder.json")];
        let bad =
            |path: &Path, e: serde_json::Error| Error::invalid(path.display().to_string()).with_source(e);
        for path in own {
            if let Some(bytes) = read(&path)? {
                let builder: Builder = serde_json::from_slice(&bytes).map_err(|e| bad(&path, e))?;
                return limits(&builder, disk, &path);
            }
        }
        let path = Path::new("/etc/docker/daemon.json");
        let daemon: Daemon = match read(path)? {
            Some(bytes) => serde_json::from_slice(&bytes).map_err(|e| bad(path, e))?,
            None => Daemon::default(),
        };
        limits(&daemon.builder, disk, path)
    }

    /// Brings the build cache back to what it may take. Costs one look at the disk where there is room.
    ///
    /// # Errors
    /// Something cannot be removed.
    pub fn tidy_build_cache(&self) -> Result<Pruned> {
        let Some(limits) = self.build_cache_limits()? else { return Ok(Pruned::default()) };
        let (disk, free) = self.disk()?;
        // What everything together does not exceed, the cache does not; most often the disk tells enough.
        let enough_free = free >= limits.min_free;
        let most = if enough_free { limits.max_used.max(limits.reserved) } else { limits.reserved };
        let roomy = enough_free && disk.saturating_sub(free) <= most || self.build_cache_bound()? <= most;
        let before = now() - OLD;
        let old = self.images().cache_oldest()?.is_some_and(|used| used < before);
        let mut pruned = Pruned::default();
        if old {
            let limits = Limits { reserved: limits.reserved.max(1), ..Limits::default() };
            pruned = self.prune_build_cache(&|entry| entry.used < before, limits)?;
        }
        if !roomy {
            let more = self.prune_build_cache(&|_| true, limits)?;
            pruned.bytes += more.bytes;
            pruned.removed.extend(more.removed);
        }
        Ok(pruned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Option<Limits>> {
        limits(&serde_json::from_str(text).unwrap(), 1000, Path::new("x"))
    }

    #[test]
    fn settings_are_dockers() {
        let all = |reserved, max_used, min_free| Some(Limits { reserved, max_used, min_free });
        for (text, expected) in [
            ("{}", all(100, 600, 200)),
            (r#"{"gc": {"enabled": false}}"#, None),
            (r#"{"gc": {"enabled": true, "defaultKeepStorage": "7B"}}"#, all(7, 600, 200)),
            (r#"{"gc": {"defaultReservedSpace": 800}}"#, all(800, 800, 200)),
            (
                r#"{"gc": {"defaultReservedSpace": 0, "defaultMaxUsedSpace": "50%", "defaultMinFreeSpace": "1KB"}}"#,
                all(0, 500, 1024),
            ),
        ] {
            assert_eq!(of(text).unwrap(), expected, "{text}");
        }
        for text in
            [r#"{"gc": {"defaultMaxUsedSpace": "much"}}"#, r#"{"gc": {"defaultMaxUsedSpace": "101%"}}"#]
        {
            assert!(of(text).unwrap_err().to_string().contains("is no size"));
        }
    }
}
