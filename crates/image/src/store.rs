//! The store of one data root: its directories, its records, its blobs.

use std::path::{Path, PathBuf};

use fluyt_model::Result;
use fluyt_model::error::IoContext;

use crate::blobs::Blobs;
use crate::db::{Db, Part};
use crate::layer::Limits;
use crate::lease::Lease;
use crate::records;

/// The image store of one data root. Several processes may have one open at once.
///
/// Not shared between threads (the record file's connection is not); [`Blobs`] and [`Lease`] are.
#[derive(Debug)]
pub struct Store {
    pub(crate) root: PathBuf,
    pub(crate) db: Db,
    pub(crate) limits: Limits,
}

impl Store {
    /// Opens the store under `root`, creating what is missing. Cheap when it exists and is up to date.
    ///
    /// # Errors
    /// I/O errors with the path; `Kind::Corrupt` for a damaged record file; `Kind::Unsupported` when a newer
    /// program wrote it.
    pub fn open(root: &Path) -> Result<Self> {
        // `l/` is made last: where it is, everything is.
        if !root.join("l").is_dir() {
            make_directories(root)?;
        }
        let db = Db::open(root)?;
        db.migrate(Part::Image, records::SCHEMA)?;
        Ok(Self { root: root.to_owned(), db, limits: Limits::default() })
    }

    /// Replaces the bounds on what a layer may contain.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// The data root.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The record file, also for the engine's own tables (see [`Db::migrate`]).
    #[must_use]
    pub fn db(&self) -> &Db {
        &self.db
    }

    /// The blobs, without protection from collection: for reading what records reference.
    #[must_use]
    pub fn blobs(&self) -> Blobs {
        Blobs::new(&self.root, None)
    }

    /// Begins a lease: for every operation that writes blobs or layers before a record references them.
    ///
    /// # Errors
    /// I/O errors.
    pub fn lease(&self) -> Result<Lease> {
        Lease::new(&self.root)
    }

    pub(crate) fn dir(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }
}

fn make_directories(root: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let mut private = std::fs::DirBuilder::new();
    private.recursive(true).mode(0o711);
    private.create(root).about(|| root.display().to_string())?;
    for (name, mode) in [
        ("blobs/sha256", 0o700),
        ("ingest", 0o700),
        ("leases", 0o700),
        ("layers", 0o711),
        ("volumes", 0o711),
        ("containers", 0o711),
        ("l", 0o711),
    ] {
        let path = root.join(name);
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(mode)
            .create(&path)
            .about(|| path.display().to_string())?;
    }
    Ok(())
}
