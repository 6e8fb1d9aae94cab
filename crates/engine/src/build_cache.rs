//! The build cache as a thing that takes room: what is in it, what it takes, what goes.
//!
//! An entry is a result of a build (all keys that lead to the same layers) or the directory of a cache mount. Layers
//! that images have too are *shared*: forgetting an entry frees none of them. An entry is *in use* while a living build
//! holds one of its layers or mounts its directory; such a one stays. [`choose`] is a pure function.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use fluyt_image::{CacheRecord, Digest, time};
use fluyt_model::Result;
use fluyt_model::error::IoContext;
use rustix::fs::{FlockOperation, flock};

use crate::{Engine, Pruned};

/// An entry of the build cache.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CacheEntry {
    /// How it is called.
    pub id: String,
    /// The entry that it stands on; empty: none that is known.
    pub parent: String,
    /// `regular` or `exec.cachemount`.
    pub kind: String,
    /// What made it.
    pub description: String,
    /// Bytes on disk of what it adds to its parent.
    pub size: u64,
    /// Seconds since the epoch.
    pub created: i64,
    /// Seconds since the epoch.
    pub used: i64,
    /// How often it was found.
    pub uses: u64,
    /// A living build needs it.
    pub in_use: bool,
    /// An image has all of its layers.
    pub shared: bool,
    /// It can be written: a cache mount.
    pub mutable: bool,
    /// What leads to it, by which it is forgotten.
    pub keys: Vec<Digest>,
    /// Its layers with their bytes on disk, lowest first; those that images have count nothing.
    pub layers: Vec<(Digest, u64)>,
    /// The directory of a cache mount.
    pub dir: Option<PathBuf>,
}

/// How much of the build cache may stay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// This much always stays, in bytes.
    pub reserved: u64,
    /// More than this never stays, in bytes; 0: no such limit.
    pub max_used: u64,
    /// So much of the disk shall be free, in bytes; 0: it does not matter.
    pub min_free: u64,
}

impl Limits {
    /// How many of `total` bytes may stay when `free` bytes of the disk are free; `None`: nothing is limited.
    #[must_use]
    pub fn keep(&self, total: u64, free: u64) -> Option<u64> {
        if *self == Self::default() {
            return None;
        }
        let excess = self.min_free.saturating_sub(free);
        let mut keep = if self.max_used == 0 { u64::MAX } else { self.max_used };
        if excess > 0 {
            keep = keep.min(total.saturating_sub(excess));
        }
        // With a reserve alone, everything beyond it goes.
        if self.max_used == 0 && self.min_free == 0 {
            keep = self.reserved;
        }
        Some(keep.max(self.reserved))
    }
}

/// The bytes of layers that no image has.
#[must_use]
pub fn layer_bytes(entries: &[CacheEntry]) -> u64 {
    let layers: BTreeMap<&Digest, u64> =
        entries.iter().flat_map(|e| &e.layers).map(|(k, n)| (k, *n)).collect();
    layers.values().sum()
}

/// The total of bytes that entries take which no image takes too.
#[must_use]
pub fn private_bytes(entries: &[CacheEntry]) -> u64 {
    let mounts = entries.iter().filter(|e| e.dir.is_some()).map(|e| e.size);
    layer_bytes(entries) + mounts.sum::<u64>()
}

/// Which entries go: of those that `wanted` names and nobody uses, the ones used longest ago, until `keep` bytes stay; all
/// of them without `keep`. What others stand on counts as used when they were, and goes after them.
#[must_use]
pub fn choose(entries: &[CacheEntry], wanted: &dyn Fn(&CacheEntry) -> bool, keep: Option<u64>) -> Vec<usize> {
    let mut holders: BTreeMap<&Digest, usize> = BTreeMap::new();
    let mut used: BTreeMap<&Digest, i64> = BTreeMap::new();
    for entry in entries {
        for (key, _) in &entry.layers {
            *holders.entry(key).or_default() += 1;
            let latest = used.entry(key).or_insert(entry.used);
            *latest = (*latest).max(entry.used);
        }
    }
    let effective = |entry: &CacheEntry| {
        entry.layers.last().and_then(|(key, _)| used.get(key)).copied().unwrap_or(entry.used)
    };
    // Where room is to be made, forgetting what takes none would be a loss only.
    let takes_room = |e: &CacheEntry| e.dir.is_some() || e.layers.iter().any(|(_, size)| *size > 0);
    let mut order: Vec<usize> = (0..entries.len())
        .filter(|at| {
            let entry = &entries[*at];
            !entry.in_use && (keep.is_none() || takes_room(entry)) && wanted(entry)
        })
        .collect();
    order.sort_by_key(|at| {
        let entry = &entries[*at];
        (effective(entry), std::cmp::Reverse(entry.layers.len()), entry.uses, entry.id.clone())
    });
    let mut total = private_bytes(entries);
    let mut gone = Vec::new();
    for at in order {
        if keep.is_some_and(|keep| total <= keep) {
            break;
        }
        let entry = &entries[at];
        for (key, size) in &entry.layers {
            if let Some(count) = holders.get_mut(key) {
                *count -= 1;
                total = total.saturating_sub(if *count == 0 { *size } else { 0 });
            }
        }
        if entry.dir.is_some() {
            total = total.saturating_sub(entry.size);
        }
        gone.push(at);
    }
    gone
}

impl Engine {
    fn mounts_dir(&self) -> PathBuf {
        self.paths.root().join("build").join("mounts")
    }

    /// What is in the build cache, what was used last first.
    ///
    /// # Errors
    /// The records cannot be read.
    pub fn build_cache(&self) -> Result<Vec<CacheEntry>> {
        let sizes = self.store.layer_sizes()?;
        let of_images: BTreeSet<Digest> =
            self.store.images()?.into_iter().flat_map(|i| i.layers).map(|layer| layer.key).collect();
        let held = self.store.leased()?;
        let mut entries: Vec<CacheEntry> = Vec::new();
        let mut places: BTreeMap<Vec<Digest>, usize> = BTreeMap::new();
        for record in self.store.cache_list()? {
            let layers: Vec<Digest> = record.layers.iter().map(|layer| layer.key.clone()).collect();
            if let Some(at) = places.get(&layers) {
                let known: &mut CacheEntry = &mut entries[*at];
                known.created = known.created.min(record.created);
                known.uses += record.uses;
                known.keys.push(record.key);
                continue;
            }
            places.insert(layers.clone(), entries.len());
            let shared = layers.iter().all(|key| of_images.contains(key));
            let in_use = layers.iter().any(|key| held.contains(key));
            entries.push(entry(record, shared, in_use, |key| {
                if of_images.contains(key) { 0 } else { sizes.get(key).copied().unwrap_or(0) }
            }));
        }
        let ids: BTreeMap<&Vec<Digest>, String> =
            places.iter().map(|(layers, at)| (layers, entries[*at].id.clone())).collect();
        let parents: Vec<(usize, String)> = places
            .iter()
            .filter_map(|(layers, at)| {
                (1..layers.len()).rev().find_map(|n| Some((*at, ids.get(&layers[..n].to_vec())?.clone())))
            })
            .collect();
        drop(ids);
        for (at, parent) in parents {
            entries[at].parent = parent;
        }
        for entry in &mut entries {
            entry.size = entry.layers.last().map_or(0, |(key, _)| sizes.get(key).copied().unwrap_or(0));
        }
        entries.extend(self.cache_mounts()?);
        entries.sort_by(|a, b| (b.used, b.created, &a.id).cmp(&(a.used, a.created, &b.id)));
        Ok(entries)
    }

    /// What a cache mount takes: measured again only when it was used since, because it may hold very many files.
    fn mount_size(&self, path: &Path, meta: &Metadata, in_use: bool) -> Result<u64> {
        let stamp = format!("{} {}", meta.mtime(), meta.mtime_nsec());
        let name = path.file_name().unwrap_or_default();
        let known = self.paths.root().join("build").join("sizes").join(name);
        let text = std::fs::read_to_string(&known).unwrap_or_default();
        if let Some(size) = text.strip_prefix(&stamp).and_then(|rest| rest.trim().parse().ok())
            && !in_use
        {
            return Ok(size);
        }
        let size = fluyt_image::usage::disk_usage(path)?;
        if !in_use {
            // What cannot be remembered is measured again.
            let _ = known.parent().map(std::fs::create_dir_all);
            let _ = std::fs::write(&known, format!("{stamp} {size}"));
        }
        Ok(size)
    }

    /// At least what the build cache takes, without a look at what is what: all layers that are here, and cache mounts.
    ///
    /// # Errors
    /// The records cannot be read.
    pub(crate) fn build_cache_bound(&self) -> Result<u64> {
        let mounts: u64 = self.cache_mounts()?.iter().map(|entry| entry.size).sum();
        Ok(self.store.layers_bound()?.saturating_add(mounts))
    }

    fn cache_mounts(&self) -> Result<Vec<CacheEntry>> {
        let mut found = Vec::new();
        for file in std::fs::read_dir(self.mounts_dir()).into_iter().flatten().flatten() {
            let path = file.path();
            let (Ok(lock), Ok(meta)) = (File::open(&path), file.metadata()) else { continue };
            let seconds = |when: std::io::Result<std::time::SystemTime>| {
                let since = when.ok().and_then(|t| t.duration_since(UNIX_EPOCH).ok());
                since.and_then(|d| i64::try_from(d.as_secs()).ok()).unwrap_or(0)
            };
            let in_use = flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err();
            found.push(CacheEntry {
                id: file.file_name().to_string_lossy().into_owned(),
                kind: "exec.cachemount".to_owned(),
                description: "cached mount".to_owned(),
                size: self.mount_size(&path, &meta, in_use)?,
                created: seconds(meta.created().or_else(|_| meta.modified())),
                used: seconds(meta.modified()),
                in_use,
                mutable: true,
                dir: Some(path),
                ..CacheEntry::default()
            });
        }
        Ok(found)
    }

    /// Removes entries of the build cache: those that `wanted` names and nobody uses, down to what `limits` let stay.
    ///
    /// # Errors
    /// Something cannot be removed.
    pub fn prune_build_cache(&self, wanted: &dyn Fn(&CacheEntry) -> bool, limits: Limits) -> Result<Pruned> {
        let entries = self.build_cache()?;
        let keep = limits.keep(private_bytes(&entries), self.free_bytes()?);
        let gone: Vec<&CacheEntry> =
            choose(&entries, wanted, keep).into_iter().map(|at| &entries[at]).collect();
        let mut pruned = Pruned::default();
        let keys: Vec<Digest> = gone.iter().flat_map(|entry| entry.keys.iter().cloned()).collect();
        self.store.cache_remove(&keys)?;
        for entry in gone {
            if let Some(dir) = &entry.dir {
                let Ok(lock) = File::open(dir) else { continue };
                if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
                    continue;
                }
                // At once for whoever wants to mount it: half of a cache would be taken for a whole one.
                let trash = self.paths.trash();
                let doomed = trash.join(format!("{}-{}", entry.id, std::process::id()));
                std::fs::create_dir_all(&trash).about(|| trash.display().to_string())?;
                std::fs::rename(dir, &doomed).about(|| dir.display().to_string())?;
                std::fs::remove_dir_all(&doomed).about(|| doomed.display().to_string())?;
                let _ = std::fs::remove_file(self.paths.root().join("build").join("sizes").join(&entry.id));
                pruned.bytes += entry.size;
            }
            pruned.removed.push(entry.id.clone());
        }
        pruned.bytes += self.collect()?;
        Ok(pruned)
    }

    /// Free bytes of the disk that the data root is on.
    fn free_bytes(&self) -> Result<u64> {
        self.disk().map(|(_, free)| free)
    }

    /// All bytes of the disk that the data root is on, and those that are free.
    ///
    /// # Errors
    /// The file system does not tell.
    pub fn disk(&self) -> Result<(u64, u64)> {
        let root = self.paths.root();
        let stat = rustix::fs::statvfs(root).about(|| root.display().to_string())?;
        Ok((stat.f_blocks.saturating_mul(stat.f_frsize), stat.f_bavail.saturating_mul(stat.f_frsize)))
    }
}

fn entry(record: CacheRecord, shared: bool, in_use: bool, size: impl Fn(&Digest) -> u64) -> CacheEntry {
    let layers = record.layers.iter().map(|layer| (layer.key.clone(), size(&layer.key)));
    CacheEntry {
        id: record.key.short().to_owned(),
        kind: "regular".to_owned(),
        description: record.note,
        created: record.created,
        used: record.used.max(record.created),
        uses: record.uses,
        in_use,
        shared,
        layers: layers.collect(),
        keys: vec![record.key],
        ..CacheEntry::default()
    }
}

/// Seconds since the epoch, now; what ages are measured from.
#[must_use]
pub fn now() -> i64 {
    time::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(id: &str, layers: &[(&str, u64)], used: i64) -> CacheEntry {
        let layers: Vec<_> = layers.iter().map(|(k, n)| (Digest::of(k.as_bytes()), *n)).collect();
        CacheEntry { id: id.to_owned(), layers, used, ..CacheEntry::default() }
    }

    fn chosen(entries: &[CacheEntry], keep: Option<u64>) -> Vec<&str> {
        choose(entries, &|_| true, keep).into_iter().map(|at| entries[at].id.as_str()).collect()
    }

    #[test]
    fn the_oldest_goes_first_and_what_others_stand_on_last() {
        let entries = [
            made("base", &[("a", 10)], 1),
            made("top", &[("a", 10), ("b", 20)], 9),
            made("old", &[("c", 5)], 2),
            made("older", &[("d", 5)], 1),
        ];
        assert_eq!(private_bytes(&entries), 40);
        assert!(chosen(&entries, Some(40)).is_empty());
        assert_eq!(chosen(&entries, Some(39)), ["older"]);
        assert_eq!(chosen(&entries, Some(30)), ["older", "old"]);
        assert_eq!(chosen(&entries, Some(29)), ["older", "old", "top"]);
        assert_eq!(chosen(&entries, Some(0)), ["older", "old", "top", "base"]);
        assert_eq!(chosen(&entries, None).len(), 4);
    }

    #[test]
    fn what_is_in_use_stays() {
        let mut entries = [made("a", &[("a", 10)], 1), made("b", &[("b", 10)], 2)];
        entries[0].in_use = true;
        assert_eq!(chosen(&entries, Some(0)), ["b"]);
        assert_eq!(choose(&entries, &|e| e.id == "a", None), Vec::<usize>::new());
    }

    #[test]
    fn limits_are_buildkits() {
        let limits = |reserved, max_used, min_free| Limits { reserved, max_used, min_free };
        for (limits, total, free, expected) in [
            (limits(0, 0, 0), 100, 0, None),
            (limits(10, 0, 0), 100, 1000, Some(10)),
            (limits(0, 60, 0), 100, 0, Some(60)),
            (limits(0, 60, 20), 100, 5, Some(60)),
            (limits(0, 90, 20), 100, 5, Some(85)),
            (limits(50, 60, 90), 100, 5, Some(50)),
            (limits(0, 0, 20), 100, 50, Some(u64::MAX)),
            (limits(0, 0, 20), 100, 10, Some(90)),
        ] {
            assert_eq!(limits.keep(total, free), expected, "{limits:?}");
        }
    }
}
