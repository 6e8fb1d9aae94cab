//! The store of one data root: its directories, its records, its blobs.

use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use fluyt_model::Result;
use fluyt_model::error::IoContext;

use crate::blobs::Blobs;
use crate::db::{Db, Part};
use crate::layer::Limits;
use crate::lease::Lease;
use crate::records;

/// The owner's rights.
const PRIVATE: u32 = 0o700;
/// Everybody else's.
const OTHERS: u32 = 0o077;
/// The directory that says that all others are there.
const LAST: &str = "l";

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
        // Made last, and closed last: where it is, everything is.
        let last = std::fs::metadata(root.join(LAST));
        if !last.is_ok_and(|found| found.is_dir() && found.permissions().mode() & OTHERS == 0) {
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

/// The directories of a data root, all of them their owner's alone: records tell what containers and builds were given,
/// and layers hold set-uid programs and whatever else an image may bring. Nobody else needs a way through: containers get
/// to their files by mounts, also those whose root is somebody else outside.
const DIRECTORIES: [&str; 8] =
    ["blobs/sha256", "ingest", "leases", "layers", "volumes", "containers", "build", "trash"];

/// What the names of more of our own files begin with. (Settings are the administrator's.)
const FILES: [&str; 4] = ["db.sqlite", "events.jsonl", "gc.lock", "known"];

fn make_directories(root: &Path) -> Result<()> {
    make_private(root)?;
    for name in DIRECTORIES {
        make_private(&root.join(name))?;
    }
    close(root);
    let last = root.join(LAST);
    make_private(&last)?;
    set_mode(&last);
    Ok(())
}

fn make_private(path: &Path) -> Result<()> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(PRIVATE).create(path);
    made.about(|| path.display().to_string())
}

/// Takes away what an earlier version gave to others. The root itself may be somebody else's directory: it is closed only
/// if it looks as that version made it.
fn close(root: &Path) {
    let ours = |name: &str| {
        FILES.iter().any(|file| name.starts_with(file))
            || DIRECTORIES.iter().any(|directory| directory.split('/').next() == Some(name))
    };
    for entry in std::fs::read_dir(root).into_iter().flatten().flatten() {
        if ours(&entry.file_name().to_string_lossy()) && !entry.file_type().is_ok_and(|t| t.is_symlink()) {
            set_mode(&entry.path());
        }
    }
    if std::fs::metadata(root).is_ok_and(|found| found.permissions().mode() & 0o7777 == 0o711) {
        set_mode(root);
    }
}

/// Leaves a file to its owner alone. A file system that keeps no modes is no reason to give up.
fn set_mode(path: &Path) {
    if let Ok(found) = std::fs::metadata(path)
        && found.permissions().mode() & OTHERS != 0
    {
        let mode = found.permissions().mode() & PRIVATE;
        let _ = std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open_to_others(root: &Path) -> Vec<String> {
        let mut found: Vec<String> = std::fs::read_dir(root)
            .unwrap()
            .flatten()
            .filter(|entry| entry.metadata().unwrap().permissions().mode() & 0o077 != 0)
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        found.sort();
        found
    }

    #[test]
    fn what_is_made_is_its_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let store = Store::open(dir.path()).unwrap();
        store.db().write(|_| Ok(())).unwrap();
        let _lease = store.lease().unwrap();
        assert_eq!(open_to_others(dir.path()), [""; 0]);
        let other = dir.path().join("made/by/us");
        Store::open(&other).unwrap();
        assert_eq!(std::fs::metadata(&other).unwrap().permissions().mode() & 0o7777, 0o700);
    }

    #[test]
    fn a_root_that_was_open_is_closed() {
        let dir = tempfile::tempdir().unwrap();
        drop(Store::open(dir.path()).unwrap());
        let set = |name: &str, mode: u32| {
            let path = dir.path().join(name);
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        for name in ["layers", "l", "containers", "volumes", ""] {
            set(name, 0o711);
        }
        std::fs::write(dir.path().join("events.jsonl"), "").unwrap();
        std::fs::write(dir.path().join("else"), "").unwrap();
        for (name, mode) in [("db.sqlite", 0o644), ("events.jsonl", 0o644), ("build", 0o755), ("else", 0o644)]
        {
            set(name, mode);
        }
        drop(Store::open(dir.path()).unwrap());
        assert_eq!(open_to_others(dir.path()), ["else"]);
        assert_eq!(std::fs::metadata(dir.path()).unwrap().permissions().mode() & 0o7777, 0o700);
        // Somebody else's directory stays as it is.
        set("", 0o755);
        set("l", 0o711);
        drop(Store::open(dir.path()).unwrap());
        assert_eq!(std::fs::metadata(dir.path()).unwrap().permissions().mode() & 0o7777, 0o755);
    }
}
