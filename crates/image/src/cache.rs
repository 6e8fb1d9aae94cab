//! Layers that are kept for their own sake: the builder's cache, and how a new layer comes into the store.
//!
//! A record leads from a key, which the builder makes of all that a result depends on, to the layers of the result.
//! Collection keeps these layers; a record whose layers are gone is none.

use std::path::{Path, PathBuf};

use fluyt_model::error::IoContext;
use fluyt_model::{Error, Result};
use rusqlite::OptionalExtension;
use rustix::fs::{AtFlags, Timespec, Timestamps};

use crate::archive::commit::pack_layer;
use crate::blobs::Blobs;
use crate::digest::Digest;
use crate::layer::unpack::{LayerRef, Pending};
use crate::layer::walk::Stack;
use crate::lease::Lease;
use crate::oci::{Descriptor, OCI_LAYER_GZIP};
use crate::store::Store;
use crate::time;

/// A record of the builder's cache.
#[derive(Clone, Debug, PartialEq)]
pub struct CacheRecord {
    /// What it is found under.
    pub key: Digest,
    /// The layers of the result, lowest first.
    pub layers: Vec<LayerRef>,
    /// What made it, for people.
    pub note: String,
    /// Seconds since the epoch.
    pub created: i64,
    /// Seconds since the epoch.
    pub used: i64,
    /// How often it was found.
    pub uses: u64,
}

/// A layer being made: an overlay's upper directory, removed when dropped.
#[derive(Debug)]
pub struct NewLayer {
    pending: Pending,
}

impl NewLayer {
    /// The directory that is filled: the upper directory of an overlay.
    #[must_use]
    pub fn fs(&self) -> PathBuf {
        self.pending.dir.join("fs")
    }

    /// The overlay's work directory.
    #[must_use]
    pub fn work(&self) -> PathBuf {
        self.pending.dir.join("work")
    }

    /// An empty directory to mount on.
    #[must_use]
    pub fn mountpoint(&self) -> PathBuf {
        self.pending.dir.join("rootfs")
    }

    /// The directory that all of it is in; other files in it vanish with it, or when it is published.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.pending.dir
    }
}

impl Store {
    /// Begins a layer.
    ///
    /// # Errors
    /// I/O errors.
    pub fn new_layer(&self) -> Result<NewLayer> {
        let pending = Pending::fresh(&self.root)?;
        let layer = NewLayer { pending };
        for dir in [layer.fs(), layer.work(), layer.mountpoint()] {
            std::fs::create_dir(&dir).about(|| dir.display().to_string())?;
        }
        // An overlay's root shows the mode of its upper directory.
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(layer.fs(), mode).about(|| layer.fs().display().to_string())?;
        Ok(layer)
    }

    /// Publishes a layer under the digest of its archive, with no time in it after `epoch`.
    ///
    /// # Errors
    /// I/O errors. The layer is removed then.
    pub fn publish_layer(&self, lease: &Lease, layer: NewLayer, epoch: Option<i64>) -> Result<LayerRef> {
        for other in std::fs::read_dir(layer.dir()).about(|| layer.dir().display().to_string())?.flatten() {
            if other.file_name() != "fs" {
                crate::gc::remove_tree(&other.path())?;
            }
        }
        let fs = layer.fs();
        if let Some(epoch) = epoch {
            clamp_times(&fs, epoch)?;
        }
        let (diff_id, size) = crate::archive::commit::digest_layer(&fs)?;
        lease.protect(&diff_id)?;
        if let Some(known) = self.known_layer(&diff_id, &diff_id)? {
            return Ok(known);
        }
        let mut pending = layer.pending;
        pending.found.size = size;
        lease.created_layer(&diff_id);
        self.publish(pending, &diff_id, &diff_id, false)
    }

    /// The compressed archive of a layer: the blob that was made before, or a new one.
    ///
    /// # Errors
    /// I/O errors; `Kind::Corrupt` when the layer's directory has been changed.
    pub fn layer_blob(&self, lease: &Lease, layer: &LayerRef) -> Result<Descriptor> {
        if let Some(known) = self.known_blob(lease, &layer.diff_id)? {
            return Ok(known);
        }
        let made = make_blob(&lease.blobs(), &layer.path(&self.root), &layer.diff_id)?;
        self.remember_blob(&layer.diff_id, &made)?;
        Ok(made)
    }

    /// The compressed archives of layers, made at once on all processors where they are missing.
    ///
    /// # Errors
    /// As [`Store::layer_blob`].
    pub fn compressed_layers(&self, lease: &Lease, layers: &[LayerRef]) -> Result<Vec<Descriptor>> {
        let mut found: Vec<Option<Descriptor>> = Vec::with_capacity(layers.len());
        for layer in layers {
            found.push(self.known_blob(lease, &layer.diff_id)?);
        }
        let missing: Vec<usize> = (0..layers.len()).filter(|at| found[*at].is_none()).collect();
        let (root, blobs) = (self.root.clone(), lease.blobs());
        let made = at_once(missing.len(), &|at| {
            let layer = &layers[missing[at]];
            make_blob(&blobs, &layer.path(&root), &layer.diff_id)
        });
        for (index, blob) in missing.into_iter().zip(made) {
            let blob = blob?;
            self.remember_blob(&layers[index].diff_id, &blob)?;
            found[index] = Some(blob);
        }
        found.into_iter().map(|d| d.ok_or_else(|| Error::internal("a layer without a blob"))).collect()
    }

    /// Remembers that `blob` is the archive of the layer `diff_id`.
    ///
    /// # Errors
    /// Those of the record file.
    pub fn remember_blob(&self, diff_id: &Digest, blob: &Descriptor) -> Result<()> {
        self.db.write(|tx| {
            tx.execute(
                "INSERT OR REPLACE INTO layer_blobs(diff_id, blob, media_type, size) VALUES (?1, ?2, ?3, ?4)",
                rusqlite::params![
                    diff_id.as_str(),
                    blob.digest.as_str(),
                    blob.media_type,
                    blob.size.cast_signed()
                ],
            )
            .map_err(|e| self.db.error(e))?;
            Ok(())
        })
    }

    pub(crate) fn known_blob(&self, lease: &Lease, diff_id: &Digest) -> Result<Option<Descriptor>> {
        let row = self
            .db
            .connection()
            .prepare_cached("SELECT blob, media_type, size FROM layer_blobs WHERE diff_id = ?1")
            .map_err(|e| self.db.error(e))?
            .query_row([diff_id.as_str()], |row| {
                Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, i64>(2)?))
            })
            .optional()
            .map_err(|e| self.db.error(e))?;
        let Some((blob, media_type, size)) = row else { return Ok(None) };
        let digest = Digest::parse(&blob)?;
        Ok(lease.blobs().has(&digest).then(|| Descriptor::new(&media_type, digest, size.cast_unsigned())))
    }

    /// The layers that a key leads to, protected by `lease`; `None` when there is no record or a layer is gone.
    ///
    /// # Errors
    /// Those of the record file.
    pub fn cache_find(&self, lease: &Lease, key: &Digest) -> Result<Option<Vec<LayerRef>>> {
        let text: Option<String> = self
            .db
            .connection()
            .prepare_cached("SELECT layers FROM cache WHERE key = ?1")
            .map_err(|e| self.db.error(e))?
            .query_row([key.as_str()], |row| row.get(0))
            .optional()
            .map_err(|e| self.db.error(e))?;
        let Some(text) = text else { return Ok(None) };
        let layers: Vec<LayerRef> = serde_json::from_str(&text)
            .map_err(|e| Error::corrupt("a record of the build cache").with_source(e))?;
        for layer in &layers {
            lease.protect(&layer.key)?;
            if !layer.path(&self.root).is_dir() {
                return Ok(None);
            }
        }
        Ok(Some(layers))
    }

    /// The keys that lead to these layers and were recorded with this note.
    ///
    /// # Errors
    /// Those of the record file.
    pub fn cache_keys(&self, layers: &[LayerRef], note: &str) -> Result<Vec<Digest>> {
        let layers =
            serde_json::to_string(layers).map_err(|e| Error::internal("a cache record").with_source(e))?;
        let sql = "SELECT key FROM cache WHERE layers = ?1 AND note = ?2";
        let mut statement = self.db.connection().prepare_cached(sql).map_err(|e| self.db.error(e))?;
        let rows = statement
            .query_map([layers.as_str(), note], |row| row.get::<_, String>(0))
            .map_err(|e| self.db.error(e))?;
        rows.map(|row| Digest::parse(&row.map_err(|e| self.db.error(e))?)).collect()
    }

    /// Records results: key, layers, what made them.
    ///
    /// # Errors
    /// Those of the record file.
    pub fn cache_put(&self, records: &[(Digest, Vec<LayerRef>, String)]) -> Result<()> {
        let now = time::now();
        self.db.write(|tx| {
            for (key, layers, note) in records {
                let layers = serde_json::to_string(layers)
                    .map_err(|e| Error::internal("writing a cache record").with_source(e))?;
                tx.execute(
                    "INSERT OR REPLACE INTO cache(key, layers, note, created, used, uses)
                     VALUES (?1, ?2, ?3, ?4, ?4, 0)",
                    rusqlite::params![key.as_str(), layers, note, now],
                )
                .map_err(|e| self.db.error(e))?;
            }
            Ok(())
        })
    }

    /// Notes that records were useful.
    ///
    /// # Errors
    /// Those of the record file.
    pub fn cache_touch(&self, keys: &[Digest]) -> Result<()> {
        if keys.is_empty() {
            return Ok(());
        }
        let now = time::now();
        self.db.write(|tx| {
            for key in keys {
                tx.execute(
                    "UPDATE cache SET used = ?2, uses = uses + 1 WHERE key = ?1",
                    rusqlite::params![key.as_str(), now],
                )
                .map_err(|e| self.db.error(e))?;
            }
            Ok(())
        })
    }

    /// All records, the one used last first.
    ///
    /// # Errors
    /// Those of the record file.
    pub fn cache_list(&self) -> Result<Vec<CacheRecord>> {
        let sql =
            "SELECT key, layers, note, created, used, uses FROM cache ORDER BY used DESC, created DESC, key";
        let mut statement = self.db.connection().prepare_cached(sql).map_err(|e| self.db.error(e))?;
        let rows = statement
            .query_map([], |row| {
                Ok((
                    row.get::<_, String>(0)?,
                    row.get::<_, String>(1)?,
                    row.get::<_, String>(2)?,
                    row.get::<_, i64>(3)?,
                    row.get::<_, i64>(4)?,
                    row.get::<_, i64>(5)?,
                ))
            })
            .map_err(|e| self.db.error(e))?;
        rows.map(|row| {
            let (key, layers, note, created, used, uses) = row.map_err(|e| self.db.error(e))?;
            Ok(CacheRecord {
                key: Digest::parse(&key)?,
                layers: serde_json::from_str(&layers)
                    .map_err(|e| Error::corrupt("a record of the build cache").with_source(e))?,
                note,
                created,
                used,
                uses: uses.cast_unsigned(),
            })
        })
        .collect()
    }

    /// Forgets records; the next collection removes the layers that nothing else needs.
    ///
    /// # Errors
    /// Those of the record file.
    pub fn cache_remove(&self, keys: &[Digest]) -> Result<()> {
        self.db.write(|tx| {
            for key in keys {
                tx.execute("DELETE FROM cache WHERE key = ?1", [key.as_str()])
                    .map_err(|e| self.db.error(e))?;
            }
            Ok(())
        })
    }
}

/// Does `work` for each number below `count`, on all processors; the results in order.
pub(crate) fn at_once<T: Send>(count: usize, work: &(dyn Fn(usize) -> Result<T> + Sync)) -> Vec<Result<T>> {
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(count);
    let next = std::sync::atomic::AtomicUsize::new(0);
    let made = std::sync::Mutex::new(Vec::with_capacity(count));
    let run = || {
        loop {
            let at = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            if at >= count {
                return;
            }
            let done = work(at);
            made.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((at, done));
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..workers {
            scope.spawn(run);
        }
        run();
    });
    let mut made = made.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    made.sort_by_key(|(at, _)| *at);
    made.into_iter().map(|(_, done)| done).collect()
}

fn make_blob(blobs: &Blobs, dir: &Path, diff_id: &Digest) -> Result<Descriptor> {
    let (blob, found) = pack_layer(blobs, dir)?;
    if found != *diff_id {
        return Err(Error::corrupt(format!("layer {diff_id}: its directory has been changed"))
            .with_hint("run `fluyt builder prune`, then build again"));
    }
    let size = blobs.size(&blob)?;
    Ok(Descriptor::new(OCI_LAYER_GZIP, blob, size))
}

/// Sets times after `epoch` to it.
fn clamp_times(dir: &Path, epoch: i64) -> Result<()> {
    let stack = Stack::open(&[dir.to_owned()])?.raw();
    stack.walk(b"", &mut |node| {
        #[allow(clippy::useless_conversion)]
        let later = i64::from(node.stat.st_mtime) > epoch
            || i64::from(node.stat.st_mtime) == epoch && node.stat.st_mtime_nsec > 0;
        if later && !node.is_whiteout() {
            let time = Timespec { tv_sec: epoch, tv_nsec: 0 };
            let times = Timestamps { last_access: time, last_modification: time };
            rustix::fs::utimensat(node.dir, node.name, &times, AtFlags::SYMLINK_NOFOLLOW)
                .about(|| String::from_utf8_lossy(node.path).into_owned())?;
        }
        Ok(())
    })
}
