//! What the registry remembers: repositories, their blobs, manifests, tags, uploads. In the record file of the data
//! root, beside the tables of the image store.
//!
//! ```text
//! registry_repos      id, name
//! registry_blobs      repo, digest       a blob that this repository may be asked for; `touched`: last pushed or
//!                                        asked for by a pusher, what a collection's grace counts from
//! registry_manifests  repo, digest       media type, subject, artifact type and annotations as they stand in it
//! registry_links      repo, manifest     what a manifest refers to, target, whether that is a manifest itself
//! registry_tags       repo, name         -> digest; `checked`: when the upstream was last asked (pull-through)
//! registry_uploads    id                 uploads under way, so that they survive a restart
//! registry_uses       repo, digest       when a cache's manifest was asked for last, in seconds since the epoch
//! blobs_of_registry   digest             the view by which collection knows what is kept (fluyt_image::gc)
//! ```
//!
//! Content is stored before its record is written and under a lease until then; every change that belongs together
//! is one transaction.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use fluyt_image::time::now;
use fluyt_image::{Blobs, Db, Digest, Lease, Part, Store};
use fluyt_model::{Error, Result};
use rusqlite::{Connection, OptionalExtension, params};

const SCHEMA: &[&str] = &["
CREATE TABLE registry_repos(
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
);
CREATE TABLE registry_blobs(
    repo INTEGER NOT NULL REFERENCES registry_repos(id),
    digest TEXT NOT NULL,
    touched INTEGER NOT NULL,
    PRIMARY KEY(repo, digest)
) WITHOUT ROWID;
CREATE INDEX registry_blobs_by_digest ON registry_blobs(digest);
CREATE TABLE registry_manifests(
    repo INTEGER NOT NULL REFERENCES registry_repos(id),
    digest TEXT NOT NULL,
    media_type TEXT NOT NULL,
    size INTEGER NOT NULL,
    subject TEXT,
    artifact_type TEXT,
    annotations TEXT,
    added INTEGER NOT NULL,
    PRIMARY KEY(repo, digest)
) WITHOUT ROWID;
CREATE INDEX registry_manifests_by_subject ON registry_manifests(repo, subject, digest) WHERE subject IS NOT NULL;
CREATE INDEX registry_manifests_by_digest ON registry_manifests(digest);
CREATE TABLE registry_links(
    repo INTEGER NOT NULL,
    manifest TEXT NOT NULL,
    target TEXT NOT NULL,
    is_manifest INTEGER NOT NULL,
    PRIMARY KEY(repo, manifest, target)
) WITHOUT ROWID;
CREATE INDEX registry_links_by_target ON registry_links(repo, target);
CREATE TABLE registry_tags(
    repo INTEGER NOT NULL REFERENCES registry_repos(id),
    name TEXT NOT NULL,
    digest TEXT NOT NULL,
    updated INTEGER NOT NULL,
    checked INTEGER NOT NULL,
    PRIMARY KEY(repo, name)
) WITHOUT ROWID;
CREATE INDEX registry_tags_by_digest ON registry_tags(repo, digest);
CREATE TABLE registry_uploads(
    id TEXT PRIMARY KEY NOT NULL,
    repo TEXT NOT NULL,
    algorithm TEXT NOT NULL,
    touched INTEGER NOT NULL
) WITHOUT ROWID;
CREATE VIEW blobs_of_registry AS
    SELECT digest FROM registry_blobs UNION SELECT digest FROM registry_manifests;
", "
CREATE TABLE registry_uses(
    repo INTEGER NOT NULL REFERENCES registry_repos(id),
    digest TEXT NOT NULL,
    used INTEGER NOT NULL,
    PRIMARY KEY(repo, digest)
) WITHOUT ROWID;
"];

/// The records of one data root for many threads: connections that are lent out for the time of one query.
#[derive(Debug)]
pub(crate) struct Records {
    root: PathBuf,
    idle: Mutex<Vec<Store>>,
    /// Writers of this process wait here for each other, not in SQLite's retries.
    writing: Mutex<()>,
    blobs: Blobs,
}

/// Connections that are kept for the next query.
const KEPT: usize = 8;

/// A manifest's record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Manifest {
    pub digest: Digest,
    pub media_type: String,
    pub size: u64,
    pub artifact_type: Option<String>,
    /// A JSON object, as text.
    pub annotations: Option<String>,
}

/// A manifest about to be recorded.
#[derive(Debug)]
pub(crate) struct NewManifest<'a> {
    pub record: Manifest,
    pub subject: Option<&'a Digest>,
    /// Blobs that have to be in the repository.
    pub blobs: &'a [Digest],
    /// Manifests that have to be in the repository.
    pub manifests: &'a [Digest],
    pub tags: &'a [String],
    /// Whether what it refers to may be missing (a cache fetches it when it is asked for).
    pub sparse: bool,
}

impl Records {
    /// Opens the records of a data root.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open(root: &Path) -> Result<Self> {
        let store = open(root)?;
        let blobs = store.blobs();
        Ok(Self { root: root.to_owned(), idle: Mutex::new(vec![store]), writing: Mutex::default(), blobs })
    }

    /// The blobs, for reading.
    pub fn blobs(&self) -> &Blobs {
        &self.blobs
    }

    /// A lease for what is about to be written.
    pub fn lease(&self) -> Result<Lease> {
        self.with(Store::lease)
    }

    /// Lends a store to `work`.
    pub fn with<T>(&self, work: impl FnOnce(&Store) -> Result<T>) -> Result<T> {
        let idle = self.idle().pop();
        let store = match idle {
            Some(store) => store,
            None => open(&self.root)?,
        };
        let value = work(&store);
        let mut idle = self.idle();
        if idle.len() < KEPT {
            idle.push(store);
        }
        value
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Store>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a query.
    pub fn read<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T> {
        self.with(|store| work(store.db().connection()).map_err(|e| store.db().error(e)))
    }

    /// Runs `work` in a write transaction. `durable`: it has reached the disk when this returns, and with it all
    /// that was written before.
    pub fn write<T>(&self, durable: bool, work: impl FnOnce(&Transaction<'_>) -> Result<T>) -> Result<T> {
        let _turn = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        self.with(|store| {
            let db = store.db();
            let set = |level: &str| {
                db.connection().execute_batch(&format!("PRAGMA synchronous={level}")).map_err(|e| db.error(e))
            };
            if durable {
                set("FULL")?;
            }
            let value = db.write(|connection| work(&Transaction { connection, db }));
            if durable {
                set("NORMAL")?;
            }
            value
        })
    }

    /// Runs `work` in a write transaction that is taken back.
    pub fn try_out(&self, work: impl FnOnce(&Transaction<'_>) -> Result<()>) -> Result<()> {
        let mut outcome = Ok(());
        let taken_back = self.write(false, |tx| {
            outcome = work(tx);
            Err::<(), Error>(Error::internal("taken back"))
        });
        // The write lock could not be had: then `work` never ran.
        match (taken_back, outcome) {
            (Err(e), Ok(())) if e.kind() != fluyt_model::Kind::Internal => Err(e),
            (_, outcome) => outcome,
        }
    }

    /// Whether the repository has been written to.
    pub fn repository_exists(&self, name: &str) -> Result<bool> {
        self.read(|c| c.prepare_cached("SELECT 1 FROM registry_repos WHERE name = ?1")?.exists([name]))
    }

    /// Whether the repository has the blob.
    pub fn has_blob(&self, repository: &str, digest: &Digest) -> Result<bool> {
        self.read(|c| {
            c.prepare_cached(
                "SELECT 1 FROM registry_blobs WHERE digest = ?2
                 AND repo = (SELECT id FROM registry_repos WHERE name = ?1)",
            )?
            .exists([repository, digest.as_str()])
        })
    }

    /// The repositories that have the blob, at most `limit`.
    pub fn repositories_with(&self, digest: &Digest, limit: u32) -> Result<Vec<String>> {
        self.read(|c| {
            c.prepare_cached(
                "SELECT name FROM registry_repos JOIN registry_blobs ON repo = id WHERE digest = ?1 LIMIT ?2",
            )?
            .query_map(params![digest.as_str(), limit], |row| row.get(0))?
            .collect()
        })
    }

    /// A pusher relies on the blob: collection has to wait for its manifest. Writes only when the last time is
    /// some while ago.
    pub fn touch_blob(&self, repository: &str, digest: &Digest) -> Result<()> {
        let touched: Option<i64> = self.read(|c| {
            c.prepare_cached(
                "SELECT touched FROM registry_blobs WHERE digest = ?2
                 AND repo = (SELECT id FROM registry_repos WHERE name = ?1)",
            )?
            .query_row([repository, digest.as_str()], |row| row.get(0))
            .optional()
        })?;
        if touched.is_none_or(|t| now() - t < 60) {
            return Ok(());
        }
        self.write(false, |tx| {
            tx.execute(
                "UPDATE registry_blobs SET touched = ?3 WHERE digest = ?2
                 AND repo = (SELECT id FROM registry_repos WHERE name = ?1)",
                params![repository, digest.as_str(), now()],
            )
            .map(|_| ())
        })
    }

    /// The manifest with this digest.
    pub fn manifest(&self, repository: &str, digest: &Digest) -> Result<Option<Manifest>> {
        self.read(|c| {
            c.prepare_cached(
                "SELECT digest, media_type, size, artifact_type, annotations FROM registry_manifests
                 WHERE digest = ?2 AND repo = (SELECT id FROM registry_repos WHERE name = ?1)",
            )?
            .query_row([repository, digest.as_str()], manifest_row)
            .optional()
        })
    }

    /// What a tag stands for, and when that was last checked with the upstream.
    pub fn tag(&self, repository: &str, tag: &str) -> Result<Option<(Digest, i64)>> {
        self.read(|c| {
            c.prepare_cached(
                "SELECT digest, checked FROM registry_tags
                 WHERE name = ?2 AND repo = (SELECT id FROM registry_repos WHERE name = ?1)",
            )?
            .query_row([repository, tag], |row| Ok((digest_at(row, 0)?, row.get(1)?)))
            .optional()
        })
    }

    /// Tags behind `last` in their order, at most `limit`.
    pub fn tags(&self, repository: &str, last: &str, limit: u32) -> Result<Vec<String>> {
        self.read(|c| {
            c.prepare_cached(
                "SELECT name FROM registry_tags
                 WHERE repo = (SELECT id FROM registry_repos WHERE name = ?1) AND name > ?2 ORDER BY name LIMIT ?3",
            )?
            .query_map(params![repository, last, limit], |row| row.get(0))?
            .collect()
        })
    }

    /// Repositories with manifests behind `last` in their order, at most `limit`.
    pub fn repositories(&self, last: &str, limit: u32) -> Result<Vec<String>> {
        self.read(|c| {
            c.prepare_cached(
                "SELECT name FROM registry_repos WHERE name > ?1
                 AND EXISTS (SELECT 1 FROM registry_manifests WHERE repo = id) ORDER BY name LIMIT ?2",
            )?
            .query_map(params![last, limit], |row| row.get(0))?
            .collect()
        })
    }

    /// Repositories with manifests whose name contains `text`, those that end in it first.
    pub fn search(&self, text: &str, offset: u32, limit: u32) -> Result<(u32, Vec<String>)> {
        let escaped = text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
        let (inside, end) = (format!("%{escaped}%"), format!("%{escaped}"));
        let condition = "FROM registry_repos WHERE name LIKE ?1 ESCAPE '\\'
                         AND EXISTS (SELECT 1 FROM registry_manifests WHERE repo = id)";
        self.read(|c| {
            let total = c.query_row(&format!("SELECT count(*) {condition}"), [&inside], |row| row.get(0))?;
            let names = c
                .prepare_cached(&format!(
                    "SELECT name {condition} ORDER BY name LIKE ?2 ESCAPE '\\' DESC, name LIMIT ?3 OFFSET ?4"
                ))?
                .query_map(params![inside, end, limit, offset], |row| row.get(0))?
                .collect::<rusqlite::Result<_>>()?;
            Ok((total, names))
        })
    }

    /// Manifests that refer to `subject`, behind `last` in the order of their digests: at most as many, with as many bytes of
    /// annotations, as `page` says (but one always), and whether there are more.
    pub fn referrers(
        &self,
        repository: &str,
        subject: &Digest,
        artifact_type: Option<&str>,
        last: &str,
        page: (u32, usize),
    ) -> Result<(Vec<Manifest>, bool)> {
        let (most, room) = page;
        self.read(|c| {
            let mut query = c.prepare_cached(
                "SELECT digest, media_type, size, artifact_type, annotations FROM registry_manifests
                 WHERE repo = (SELECT id FROM registry_repos WHERE name = ?1) AND subject = ?2 AND digest > ?4
                 AND (?3 IS NULL OR artifact_type = ?3) ORDER BY digest LIMIT ?5",
            )?;
            let wanted = params![repository, subject.as_str(), artifact_type, last, most + 1];
            let (mut found, mut bytes) = (Vec::new(), 0);
            for manifest in query.query_map(wanted, manifest_row)? {
                let manifest = manifest?;
                bytes += manifest.annotations.as_ref().map_or(0, String::len);
                if found.len() >= most as usize || (bytes > room && !found.is_empty()) {
                    return Ok((found, true));
                }
                found.push(manifest);
            }
            Ok((found, false))
        })
    }

    /// The repository, algorithm name and last use of an upload.
    pub fn upload(&self, id: &str) -> Result<Option<(String, String)>> {
        self.read(|c| {
            c.prepare_cached("SELECT repo, algorithm FROM registry_uploads WHERE id = ?1")?
                .query_row([id], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()
        })
    }
}

fn open(root: &Path) -> Result<Store> {
    let store = Store::open(root)?;
    store.db().migrate(Part::Registry, SCHEMA)?;
    // Each connection's cache of pages, in KiB: many may be open at once.
    store.db().connection().execute_batch("PRAGMA cache_size=-512").map_err(|e| store.db().error(e))?;
    Ok(store)
}

fn digest_at(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<Digest> {
    let text: String = row.get(column)?;
    Digest::parse(&text).map_err(|e| {
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, e.to_string().into())
    })
}

fn manifest_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Manifest> {
    Ok(Manifest {
        digest: digest_at(row, 0)?,
        media_type: row.get(1)?,
        size: row.get(2)?,
        artifact_type: row.get(3)?,
        annotations: row.get(4)?,
    })
}

/// A write transaction.
pub(crate) struct Transaction<'t> {
    connection: &'t Connection,
    db: &'t Db,
}

/// What a manifest refers to and the repository does not have.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Missing(pub Vec<Digest>);

impl Transaction<'_> {
    /// Runs a statement; how many rows it changed.
    pub fn execute(&self, sql: &str, params: impl rusqlite::Params) -> Result<usize> {
        let mut statement = self.connection.prepare_cached(sql).map_err(|e| self.db.error(e))?;
        statement.execute(params).map_err(|e| self.db.error(e))
    }

    fn exists(&self, sql: &str, params: impl rusqlite::Params) -> Result<bool> {
        let mut statement = self.connection.prepare_cached(sql).map_err(|e| self.db.error(e))?;
        statement.exists(params).map_err(|e| self.db.error(e))
    }

    /// The number of a repository, made if it is new.
    pub fn repository(&self, name: &str) -> Result<i64> {
        self.execute("INSERT OR IGNORE INTO registry_repos(name) VALUES (?1)", [name])?;
        self.known_repository(name)?
            .ok_or_else(|| Error::internal(format!("repository {name}: just made, not found")))
    }

    /// The number of a repository, if it is known.
    pub fn known_repository(&self, name: &str) -> Result<Option<i64>> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT id FROM registry_repos WHERE name = ?1")
            .map_err(|e| self.db.error(e))?;
        statement.query_row([name], |row| row.get(0)).optional().map_err(|e| self.db.error(e))
    }

    /// Records that a repository has a blob. The blob is there and leased.
    pub fn link_blob(&self, repository: &str, digest: &Digest) -> Result<()> {
        let repo = self.repository(repository)?;
        self.execute(
            "INSERT INTO registry_blobs(repo, digest, touched) VALUES (?1, ?2, ?3)
             ON CONFLICT DO UPDATE SET touched = excluded.touched",
            params![repo, digest.as_str(), now()],
        )
        .map(|_| ())
    }

    /// Takes a blob out of a repository; whether it was there.
    pub fn unlink_blob(&self, repository: &str, digest: &Digest) -> Result<bool> {
        let Some(repo) = self.known_repository(repository)? else { return Ok(false) };
        let n = self.execute(
            "DELETE FROM registry_blobs WHERE repo = ?1 AND digest = ?2",
            params![repo, digest.as_str()],
        )?;
        Ok(n > 0)
    }

    /// Records a manifest and its tags, or says what it refers to that is not there.
    pub fn put_manifest(&self, repository: &str, new: &NewManifest<'_>) -> Result<Result<(), Missing>> {
        let repo = self.repository(repository)?;
        let mut missing = Vec::new();
        if !new.sparse {
            for (digests, sql) in [
                (new.blobs, "SELECT 1 FROM registry_blobs WHERE repo = ?1 AND digest = ?2"),
                (new.manifests, "SELECT 1 FROM registry_manifests WHERE repo = ?1 AND digest = ?2"),
            ] {
                for digest in digests {
                    if !self.exists(sql, params![repo, digest.as_str()])? {
                        missing.push(digest.clone());
                    }
                }
            }
        }
        if !missing.is_empty() {
            return Ok(Err(Missing(missing)));
        }
        let (record, digest) = (&new.record, new.record.digest.as_str());
        self.execute(
            "INSERT OR REPLACE INTO registry_manifests
             (repo, digest, media_type, size, subject, artifact_type, annotations, added)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            params![
                repo,
                digest,
                record.media_type,
                record.size,
                new.subject.map(Digest::as_str),
                record.artifact_type,
                record.annotations,
                now()
            ],
        )?;
        let targets = new.blobs.iter().map(|d| (d, false)).chain(new.manifests.iter().map(|d| (d, true)));
        for (target, is_manifest) in targets {
            self.execute(
                "INSERT OR IGNORE INTO registry_links(repo, manifest, target, is_manifest) VALUES (?1, ?2, ?3, ?4)",
                params![repo, digest, target.as_str(), is_manifest],
            )?;
        }
        for tag in new.tags {
            self.put_tag(repo, tag, &record.digest)?;
        }
        Ok(Ok(()))
    }

    /// Lets a tag stand for a manifest, as checked now.
    pub fn put_tag(&self, repo: i64, tag: &str, digest: &Digest) -> Result<()> {
        self.execute(
            "INSERT INTO registry_tags(repo, name, digest, updated, checked) VALUES (?1, ?2, ?3, ?4, ?4)
             ON CONFLICT DO UPDATE SET checked = excluded.checked,
             updated = CASE WHEN digest = excluded.digest THEN updated ELSE excluded.updated END,
             digest = excluded.digest",
            params![repo, tag, digest.as_str(), now()],
        )
        .map(|_| ())
    }

    /// Removes a tag; whether it was there.
    pub fn remove_tag(&self, repository: &str, tag: &str) -> Result<bool> {
        let Some(repo) = self.known_repository(repository)? else { return Ok(false) };
        Ok(self.execute("DELETE FROM registry_tags WHERE repo = ?1 AND name = ?2", params![repo, tag])? > 0)
    }

    /// Removes a manifest and the tags that stand for it; whether it was there.
    pub fn remove_manifest(&self, repository: &str, digest: &Digest) -> Result<bool> {
        let Some(repo) = self.known_repository(repository)? else { return Ok(false) };
        let digest = digest.as_str();
        let found = self.execute(
            "DELETE FROM registry_manifests WHERE repo = ?1 AND digest = ?2",
            params![repo, digest],
        )?;
        self.execute("DELETE FROM registry_tags WHERE repo = ?1 AND digest = ?2", params![repo, digest])?;
        self.execute("DELETE FROM registry_links WHERE repo = ?1 AND manifest = ?2", params![repo, digest])?;
        Ok(found > 0)
    }
}
