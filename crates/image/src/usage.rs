//! How much disk things take: the numbers of `du`, each inode counted once.
//!
//! An image takes its blobs and its unpacked layers. What several images have in common is counted as shared in
//! each of them and once in the total, so that unique and shared parts and left-overs add up to what `du` says.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use fluyt_model::Result;
use fluyt_model::error::IoContext;

use crate::digest::Digest;
use crate::oci::{self, Document};
use crate::store::Store;

/// What one image takes, in bytes on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageUsage {
    /// The image.
    pub id: Digest,
    /// Everything it needs.
    pub size: u64,
    /// The part that other images need too.
    pub shared: u64,
    /// The part that comes free when it is removed.
    pub unique: u64,
}

/// What the image store takes, in bytes on disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreUsage {
    /// Each image, in the order of [`Store::images`].
    pub images: Vec<ImageUsage>,
    /// Everything that images need, once.
    pub total: u64,
    /// What comes free when every image that no container uses is removed, with the left-overs.
    pub reclaimable: u64,
    /// What no image needs: left-overs of interrupted work, layers that only containers need.
    pub leftovers: u64,
}

impl Store {
    /// Measures the store. `used` are the ids of images that containers use.
    ///
    /// The size of a layer is measured once and remembered in its record.
    ///
    /// # Errors
    /// I/O errors; those of the record file.
    pub fn usage(&self, used: &[Digest]) -> Result<StoreUsage> {
        let blob_sizes: BTreeMap<Digest, u64> =
            self.blobs().list()?.0.into_iter().map(|b| (b.digest, b.disk)).collect();
        let layer_sizes = self.layer_sizes()?;
        // A part is a blob or a layer; both are named by digests, which may be equal.
        let mut parts: BTreeMap<(bool, Digest), (u64, BTreeSet<usize>)> = BTreeMap::new();
        let images = self.images()?;
        for (at, image) in images.iter().enumerate() {
            let blobs = self.blobs_of(image)?;
            let sized = |digest: &Digest| blob_sizes.get(digest).copied().unwrap_or(0);
            let blobs = blobs.into_iter().map(|digest| (sized(&digest), (false, digest)));
            let layers = image
                .layers
                .iter()
                .map(|l| (layer_sizes.get(&l.key).copied().unwrap_or(0), (true, l.key.clone())));
            for (size, part) in blobs.chain(layers) {
                parts.entry(part).or_insert_with(|| (size, BTreeSet::new())).1.insert(at);
            }
        }
        let mut usage = StoreUsage::default();
        for (at, image) in images.iter().enumerate() {
            let mine = parts.values().filter(|(_, owners)| owners.contains(&at));
            let (mut shared, mut unique) = (0, 0);
            for (size, owners) in mine {
                *(if owners.len() > 1 { &mut shared } else { &mut unique }) += size;
            }
            usage.images.push(ImageUsage { id: image.id.clone(), size: shared + unique, shared, unique });
        }
        let in_use = |at: &usize| used.contains(&images[*at].id);
        usage.total = parts.values().map(|(size, _)| size).sum();
        let all: u64 = blob_sizes.values().sum::<u64>()
            + layer_sizes.values().sum::<u64>()
            + disk_usage(&self.dir("ingest"))?.saturating_sub(own_blocks(&self.dir("ingest")));
        usage.leftovers = all.saturating_sub(usage.total);
        usage.reclaimable =
            parts.values().filter(|(_, o)| !o.iter().any(in_use)).map(|(size, _)| size).sum::<u64>()
                + usage.leftovers;
        Ok(usage)
    }

    /// The blobs that an image leads to, indexes of its names included.
    fn blobs_of(&self, image: &crate::images::Image) -> Result<BTreeSet<Digest>> {
        let mut found = BTreeSet::from([image.id.clone(), image.manifest.clone()]);
        found.extend(self.targets(&image.id)?.into_iter().map(|(_, target)| target));
        if let Ok(bytes) = self.blobs().read_small(&image.manifest, oci::MAX_DOCUMENT)
            && let Ok(Document::Manifest(manifest)) = Document::parse(&bytes, image.manifest.as_str())
        {
            found.extend(manifest.layers.into_iter().map(|layer| layer.digest));
        }
        Ok(found)
    }

    /// The bytes on disk of every layer with a record, by its key. Each is measured once.
    ///
    /// # Errors
    /// I/O errors; those of the record file.
    pub fn layer_sizes(&self) -> Result<BTreeMap<Digest, u64>> {
        let mut known = BTreeMap::new();
        let mut unknown = Vec::new();
        {
            let sql = "SELECT key, disk FROM layers";
            let mut statement = self.db.connection().prepare_cached(sql).map_err(|e| self.db.error(e))?;
            let rows = statement
                .query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, Option<i64>>(1)?)))
                .map_err(|e| self.db.error(e))?;
            for row in rows {
                let (key, disk) = row.map_err(|e| self.db.error(e))?;
                let key = Digest::parse(&key)?;
                match disk {
                    Some(disk) => drop(known.insert(key, disk.cast_unsigned())),
                    None => unknown.push(key),
                }
            }
        }
        for key in unknown {
            let disk = disk_usage(&self.dir("layers").join(key.hex()))?;
            let sql = "UPDATE layers SET disk = ?2 WHERE key = ?1";
            let parameters = rusqlite::params![key.as_str(), disk.cast_signed()];
            self.db.connection().execute(sql, parameters).map_err(|e| self.db.error(e))?;
            known.insert(key, disk);
        }
        Ok(known)
    }
}

fn own_blocks(path: &Path) -> u64 {
    path.symlink_metadata().map_or(0, |meta| meta.blocks() * 512)
}

/// The bytes on disk of a file or of a directory with everything in it, as `du -B1` counts; 0 when it is absent.
///
/// # Errors
/// I/O errors.
pub fn disk_usage(path: &Path) -> Result<u64> {
    sum(path, |meta| meta.blocks() * 512)
}

/// The bytes that the regular files at or below `path` hold, each file once; 0 when it is absent. What people call the
/// size of a container or an image, whatever the file system takes for it.
///
/// # Errors
/// I/O errors.
pub fn content_size(path: &Path) -> Result<u64> {
    sum(path, |meta| if meta.is_file() { meta.len() } else { 0 })
}

fn sum(path: &Path, size: impl Fn(&Metadata) -> u64) -> Result<u64> {
    let Ok(meta) = path.symlink_metadata() else { return Ok(0) };
    let mut total = size(&meta);
    if !meta.is_dir() {
        return Ok(total);
    }
    let mut seen = HashSet::new();
    let mut open = vec![path.to_owned()];
    while let Some(dir) = open.pop() {
        let entries = match std::fs::read_dir(&dir) {
            // Removed meanwhile by somebody else.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
            other => other.about(|| dir.display().to_string())?,
        };
        for entry in entries {
            let entry = entry.about(|| dir.display().to_string())?;
            let Ok(meta) = entry.metadata() else { continue };
            if meta.is_dir() {
                open.push(entry.path());
            } else if meta.nlink() > 1 && !seen.insert((meta.dev(), meta.ino())) {
                continue;
            }
            total += size(&meta);
        }
    }
    Ok(total)
}
