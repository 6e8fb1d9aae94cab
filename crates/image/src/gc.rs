//! Collection: what no record, lease or container needs is removed.
//!
//! [`plan`] is a pure function of records and listings; [`Store::collect`] looks, plans and executes under the
//! exclusive `gc.lock`, so that no lease can be extended meanwhile.
//!
//! Other parts of the program keep blobs by records of their own: a part that does so makes a view
//! `blobs_of_PART(digest)`. Every such view counts here; what is behind it is not looked into.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fluyt_model::Result;
use fluyt_model::error::IoContext;
use rustix::fs::{FlockOperation, flock};

use crate::blobs::BlobInfo;
use crate::digest::Digest;
use crate::failpoint;
use crate::layer::unpack::LayerRef;
use crate::lease::{self, Lease};
use crate::oci::{self, Document};
use crate::remove::{Users, nobody};
use crate::store::Store;

/// How long an interrupted download is kept to be resumed.
pub const PARTIAL_AGE: Duration = Duration::from_secs(24 * 3600);

/// What the records and the living work need.
#[derive(Clone, Debug, Default)]
pub struct Needed {
    /// Blobs reachable from records.
    pub blobs: HashSet<Digest>,
    /// Keys of layers of images.
    pub layers: HashSet<Digest>,
    /// Short links that containers have as lower layers.
    pub links: HashSet<String>,
    /// What leases protect: blobs and layers alike.
    pub leased: HashSet<Digest>,
}

/// A row of `layers`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerRow {
    /// Its key, the name of its directory.
    pub key: Digest,
    /// Its short link.
    pub link: String,
}

/// A file or directory in `ingest/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IngestInfo {
    /// Its path.
    pub path: PathBuf,
    /// Whether its writer lives.
    pub locked: bool,
    /// Whether a later download may resume it.
    pub resumable: bool,
    /// Time since its last change.
    pub age: Duration,
}

/// What is there.
#[derive(Clone, Debug, Default)]
pub struct Present {
    /// The content store.
    pub blobs: Vec<BlobInfo>,
    /// Records of layers.
    pub layers: Vec<LayerRow>,
    /// Names of directories under `layers/`.
    pub layer_dirs: Vec<String>,
    /// Names under `l/` with their targets.
    pub links: Vec<(String, String)>,
    /// What is being written, or was.
    pub ingests: Vec<IngestInfo>,
}

/// What to remove.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Blobs.
    pub blobs: Vec<BlobInfo>,
    /// Records of layers, with their directories and links.
    pub layers: Vec<LayerRow>,
    /// Directories under `layers/` without a record.
    pub layer_dirs: Vec<String>,
    /// Links that no record has.
    pub links: Vec<String>,
    /// Left-overs of dead writers.
    pub ingests: Vec<PathBuf>,
}

impl Plan {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Decides what may go. `partial_age` is how long a resumable left-over is kept.
#[must_use]
pub fn plan(needed: &Needed, present: &Present, partial_age: Duration) -> Plan {
    let keeps = |row: &LayerRow| {
        needed.layers.contains(&row.key)
            || needed.leased.contains(&row.key)
            || needed.links.contains(&row.link)
    };
    let blob_goes = |b: &&BlobInfo| !needed.blobs.contains(&b.digest) && !needed.leased.contains(&b.digest);
    let known_dirs: HashSet<&str> = present.layers.iter().map(|row| row.key.hex()).collect();
    let leased_dirs: HashSet<&str> = needed.leased.iter().map(Digest::hex).collect();
    let known_links: HashSet<&str> = present.layers.iter().map(|row| row.link.as_str()).collect();
    let stray_link = |(name, target): &&(String, String)| {
        // A link is made just before its record: one to a leased layer may be about to get it.
        let hex = target.strip_prefix("../layers/").and_then(|t| t.strip_suffix("/fs")).unwrap_or("");
        !known_links.contains(name.as_str()) && !leased_dirs.contains(hex) && !needed.links.contains(name)
    };
    Plan {
        blobs: present.blobs.iter().filter(blob_goes).cloned().collect(),
        layers: present.layers.iter().filter(|row| !keeps(row)).cloned().collect(),
        layer_dirs: present
            .layer_dirs
            .iter()
            .filter(|name| !known_dirs.contains(name.as_str()) && !leased_dirs.contains(name.as_str()))
            .cloned()
            .collect(),
        links: present.links.iter().filter(stray_link).map(|(name, _)| name.clone()).collect(),
        ingests: present
            .ingests
            .iter()
            .filter(|i| !i.locked && (!i.resumable || i.age >= partial_age))
            .map(|i| i.path.clone())
            .collect(),
    }
}

/// How much a collection removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Blobs.
    pub blobs: u64,
    /// Layers.
    pub layers: u64,
    /// What was on disk, in bytes.
    pub bytes: u64,
}

impl Store {
    /// Removes everything that neither images, nor leases, nor the containers of `users` need.
    ///
    /// `partial_age`: how old an interrupted download must be; see [`PARTIAL_AGE`].
    ///
    /// # Errors
    /// I/O errors; what was removed before stays removed, and the rest is found again by the next call.
    pub fn collect(&self, users: Users<'_>, partial_age: Duration) -> Result<Collected> {
        let _guard = lease::lock_exclusive(&self.root)?;
        let plan = plan(&self.needed(users)?, &self.present()?, partial_age);
        self.execute(&plan)
    }

    /// What has to stay. To be called under [`lease::lock_exclusive`], before anything is looked for on disk.
    ///
    /// Leases come first: work records what it has made and then ends its lease, and waits for nobody with either. Whatever
    /// is not leased any more when we look is among the records that we read afterwards, which are all of one moment.
    pub(crate) fn needed(&self, users: Users<'_>) -> Result<Needed> {
        let leased = lease::protected(&self.root)?;
        self.db.read(|tx| {
            let links = users(tx)?.into_iter().flat_map(|user| user.links).collect();
            Ok(Needed { blobs: self.reachable_blobs()?, layers: self.referenced_layers()?, links, leased })
        })
    }

    /// As [`Store::collect`], for blobs and interrupted downloads only: needs nobody to tell what containers use.
    ///
    /// # Errors
    /// As [`Store::collect`].
    pub fn collect_blobs(&self, partial_age: Duration) -> Result<Collected> {
        let _guard = lease::lock_exclusive(&self.root)?;
        let needed = self.needed(&nobody)?;
        let (blobs, _) = self.blobs().list()?;
        let parts = self.ingests()?.into_iter().filter(|i| i.resumable).collect();
        let present = Present { blobs, ingests: parts, ..Present::default() };
        self.execute(&plan(&needed, &present, partial_age))
    }

    /// Ends a lease and removes what was added under it and is not referenced: for work that failed.
    ///
    /// # Errors
    /// I/O errors.
    pub fn discard(&self, lease: Lease) -> Result<Collected> {
        let created = lease.created();
        drop(lease);
        let _guard = lease::lock_exclusive(&self.root)?;
        let leased = lease::protected(&self.root)?;
        let (blobs, layers) = (self.reachable_blobs()?, self.referenced_layers()?);
        let free = |digest: &&Digest, needed: &HashSet<Digest>| {
            !needed.contains(*digest) && !leased.contains(*digest)
        };
        let free_blobs = created.blobs.iter().filter(|b| free(b, &blobs));
        let first = Plan {
            blobs: free_blobs.map(|digest| BlobInfo { digest: digest.clone(), size: 0, disk: 0 }).collect(),
            ..Plan::default()
        };
        // Blobs have no rows of their own: on a full disk their removal makes the room to write the records.
        let mut done = self.execute(&first)?;
        let gone: HashSet<&Digest> = created.layers.iter().filter(|l| free(l, &layers)).collect();
        let rows: Vec<LayerRow> =
            self.layer_rows()?.into_iter().filter(|row| gone.contains(&row.key)).collect();
        let unrecorded: Vec<&Digest> =
            gone.into_iter().filter(|key| !rows.iter().any(|row| row.key == **key)).collect();
        let targets: Vec<String> =
            unrecorded.iter().map(|key| format!("../layers/{}/fs", key.hex())).collect();
        let second = Plan {
            layers: rows,
            layer_dirs: unrecorded.iter().map(|key| key.hex().to_owned()).collect(),
            links: self
                .links()?
                .into_iter()
                .filter(|(_, t)| targets.contains(t))
                .map(|(name, _)| name)
                .collect(),
            ..Plan::default()
        };
        let more = self.execute(&second)?;
        done.layers += more.layers;
        done.bytes += more.bytes;
        Ok(done)
    }

    /// Every blob that a record leads to: manifests, indexes, configurations, layers.
    pub(crate) fn reachable_blobs(&self) -> Result<HashSet<Digest>> {
        let mut open: Vec<Digest> =
            self.texts("SELECT manifest FROM images UNION SELECT target FROM refs")?;
        let mut found: HashSet<Digest> = self.texts("SELECT id FROM images")?.into_iter().collect();
        let mut kept_by_others = Vec::new();
        for view in self.blob_views()? {
            kept_by_others.extend(self.texts(&format!("SELECT digest FROM \"{view}\""))?);
        }
        let blobs = self.blobs();
        while let Some(digest) = open.pop() {
            if !found.insert(digest.clone()) {
                continue;
            }
            // A document that is gone or damaged leads nowhere; fsck reports it.
            let Ok(bytes) = blobs.read_small(&digest, oci::MAX_DOCUMENT) else { continue };
            match Document::parse(&bytes, digest.as_str()) {
                Ok(Document::Manifest(manifest)) => {
                    found.insert(manifest.config.digest);
                    found.extend(manifest.layers.into_iter().map(|layer| layer.digest));
                }
                Ok(Document::Index(index)) => open.extend(index.manifests.into_iter().map(|m| m.digest)),
                Err(_) => {}
            }
        }
        found.extend(kept_by_others);
        Ok(found)
    }

    /// The views by which other parts tell what they keep.
    fn blob_views(&self) -> Result<Vec<String>> {
        let sql = "SELECT name FROM sqlite_schema WHERE type = 'view' AND name GLOB 'blobs_of_[a-z]*'";
        let mut statement = self.db.connection().prepare_cached(sql).map_err(|e| self.db.error(e))?;
        let rows = statement.query_map([], |row| row.get::<_, String>(0)).map_err(|e| self.db.error(e))?;
        rows.map(|row| row.map_err(|e| self.db.error(e))).collect()
    }

    pub(crate) fn referenced_layers(&self) -> Result<HashSet<Digest>> {
        let mut statement = self
            .db
            .connection()
            .prepare_cached("SELECT layers FROM images UNION ALL SELECT layers FROM cache")
            .map_err(|e| self.db.error(e))?;
        let rows = statement.query_map([], |row| row.get::<_, String>(0)).map_err(|e| self.db.error(e))?;
        let mut keys = HashSet::new();
        for row in rows {
            let text = row.map_err(|e| self.db.error(e))?;
            let layers: Vec<LayerRef> = serde_json::from_str(&text)
                .map_err(|e| fluyt_model::Error::corrupt("the layers of an image's record").with_source(e))?;
            keys.extend(layers.into_iter().map(|layer| layer.key));
        }
        Ok(keys)
    }

    pub(crate) fn layer_rows(&self) -> Result<Vec<LayerRow>> {
        let mut statement = self
            .db
            .connection()
            .prepare_cached("SELECT key, link FROM layers")
            .map_err(|e| self.db.error(e))?;
        let rows = statement
            .query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))
            .map_err(|e| self.db.error(e))?;
        rows.map(|row| {
            let (key, link) = row.map_err(|e| self.db.error(e))?;
            Ok(LayerRow { key: Digest::parse(&key)?, link })
        })
        .collect()
    }

    fn texts(&self, sql: &str) -> Result<Vec<Digest>> {
        let mut statement = self.db.connection().prepare_cached(sql).map_err(|e| self.db.error(e))?;
        let rows = statement.query_map([], |row| row.get::<_, String>(0)).map_err(|e| self.db.error(e))?;
        rows.map(|row| Digest::parse(&row.map_err(|e| self.db.error(e))?)).collect()
    }

    /// Lists what is there.
    pub(crate) fn present(&self) -> Result<Present> {
        let (blobs, _) = self.blobs().list()?;
        let links = self.links()?;
        Ok(Present {
            blobs,
            layers: self.layer_rows()?,
            layer_dirs: names_in(&self.dir("layers"))?,
            links,
            ingests: self.ingests()?,
        })
    }

    /// The short links with their targets.
    fn links(&self) -> Result<Vec<(String, String)>> {
        let mut links = Vec::new();
        for name in names_in(&self.dir("l"))? {
            let target = std::fs::read_link(self.dir("l").join(&name)).unwrap_or_default();
            links.push((name, target.to_string_lossy().into_owned()));
        }
        Ok(links)
    }

    fn ingests(&self) -> Result<Vec<IngestInfo>> {
        let dir = self.dir("ingest");
        let mut found = Vec::new();
        for name in names_in(&dir)? {
            let path = dir.join(&name);
            let Ok(file) = std::fs::File::open(&path) else { continue };
            let Ok(meta) = file.metadata() else { continue };
            let age = meta.modified().ok().and_then(|t| t.elapsed().ok()).unwrap_or_default();
            let locked = flock(&file, FlockOperation::NonBlockingLockExclusive).is_err();
            // A directory gets its lock a moment after it is made.
            let young = name.starts_with("making-") && age < Duration::from_secs(60);
            found.push(IngestInfo {
                path,
                locked: locked || young,
                resumable: name.starts_with("part-"),
                age,
            });
        }
        Ok(found)
    }

    pub(crate) fn execute(&self, plan: &Plan) -> Result<Collected> {
        let mut done = Collected::default();
        let blobs = self.blobs();
        // Records first: a record never names what is not there. Then links, then directories.
        if !plan.layers.is_empty() {
            self.db.write(|tx| {
                for row in &plan.layers {
                    tx.execute("DELETE FROM layers WHERE key = ?1", [row.key.as_str()])
                        .map_err(|e| self.db.error(e))?;
                }
                Ok(())
            })?;
        }
        failpoint::pass("gc-after-records");
        let links = plan.layers.iter().map(|row| &row.link).chain(&plan.links);
        for link in links {
            remove_file(&self.dir("l").join(link))?;
        }
        failpoint::pass("gc-after-links");
        let dirs =
            plan.layers.iter().map(|row| row.key.hex()).chain(plan.layer_dirs.iter().map(String::as_str));
        for name in dirs {
            let path = self.dir("layers").join(name);
            done.bytes += crate::usage::disk_usage(&path)?;
            // Out of the way at once, so that a half-removed directory is never taken for a layer.
            let doomed = self.dir("ingest").join(format!("removing-{}", crate::blobs::random_name()?));
            match std::fs::rename(&path, &doomed) {
                Ok(()) => {
                    failpoint::pass("gc-layer-moved");
                    remove_tree(&doomed)?;
                    done.layers += 1;
                }
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(e) => return Err(fluyt_model::Error::io(path.display().to_string(), e)),
            }
        }
        for blob in &plan.blobs {
            let disk = if blob.disk > 0 { blob.disk } else { blobs.size(&blob.digest).unwrap_or(0) };
            blobs.remove(&blob.digest)?;
            done.bytes += disk;
            done.blobs += 1;
            failpoint::pass("gc-blob-removed");
        }
        for path in &plan.ingests {
            done.bytes += crate::usage::disk_usage(path)?;
            remove_tree(path)?;
        }
        Ok(done)
    }
}

pub(crate) fn names_in(dir: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).about(|| dir.display().to_string())? {
        let entry = entry.about(|| dir.display().to_string())?;
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    Ok(names)
}

fn remove_file(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e).about(|| path.display().to_string()),
        _ => Ok(()),
    }
}

/// Removes a file or a directory with everything in it; that it is gone is no error.
pub(crate) fn remove_tree(path: &Path) -> Result<()> {
    let is_dir = path.symlink_metadata().is_ok_and(|m| m.is_dir());
    let result = if is_dir { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
    match result {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e).about(|| path.display().to_string()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn what_is_recorded_while_a_collection_looks_stays() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let worker = Store::open(dir.path()).unwrap();
        let tables = "CREATE TABLE kept(digest TEXT); CREATE VIEW blobs_of_test AS SELECT digest FROM kept";
        store.db().connection().execute_batch(tables).unwrap();
        let lease = worker.lease().unwrap();
        let kept = lease.blobs().put_bytes(b"kept").unwrap();
        let waste = store.lease().unwrap().blobs().put_bytes(b"waste").unwrap();
        // The worker records what it has made and ends its lease while the records are being read.
        let lease = RefCell::new(Some(lease));
        let users = |_: &rusqlite::Connection| {
            let recorded = "INSERT INTO kept VALUES(?1)";
            worker.db().write(|tx| {
                tx.execute(recorded, [kept.as_str()]).map(drop).map_err(|e| worker.db().error(e))
            })?;
            drop(lease.take());
            Ok(Vec::new())
        };
        store.collect(&users, PARTIAL_AGE).unwrap();
        assert!(store.blobs().has(&kept) && !store.blobs().has(&waste));
        store.collect(&nobody, PARTIAL_AGE).unwrap();
        assert!(store.blobs().has(&kept));
    }
}
