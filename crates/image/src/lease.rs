//! Leases: what work in flight protects from garbage collection.
//!
//! A lease is a file `leases/ID` that lists digests, one a line, locked (flock) while its holder lives. Adding a
//! digest takes `gc.lock` shared for a moment, collecting takes it exclusively: a digest that a lease named before
//! the holder looked for it cannot vanish between the look and the use. A killed holder's lock is gone, so its
//! lease protects nothing and the next collection removes the file.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use fluyt_model::Result;
use fluyt_model::error::IoContext;
use rustix::fs::{FlockOperation, flock};

use crate::blobs::{Blobs, random_name};
use crate::digest::Digest;

/// Protection for blobs and layers that no record references yet; ends when dropped.
#[derive(Clone, Debug)]
pub struct Lease {
    file: Arc<LeaseFile>,
    root: Arc<Path>,
}

impl Lease {
    pub(crate) fn new(root: &Path) -> Result<Self> {
        let name = random_name()?;
        let path = root.join("leases").join(&name);
        let guard = lock_shared(root)?;
        let file = OpenOptions::new()
            .append(true)
            .create_new(true)
            .open(&path)
            .about(|| path.display().to_string())?;
        flock(&file, FlockOperation::NonBlockingLockExclusive).about(|| path.display().to_string())?;
        drop(guard);
        let file = LeaseFile {
            root: root.to_owned(),
            path,
            file,
            held: Mutex::default(),
            created: Mutex::default(),
        };
        Ok(Self { file: Arc::new(file), root: root.into() })
    }

    /// The blobs of the store, every one found or written through this handle protected by the lease.
    #[must_use]
    pub fn blobs(&self) -> Blobs {
        Blobs::new(&self.root, Some(Arc::clone(&self.file)))
    }

    /// Protects a blob, or a layer by its diff id or key, whether it exists yet or not.
    ///
    /// # Errors
    /// I/O errors.
    pub fn protect(&self, digest: &Digest) -> Result<()> {
        self.file.protect(digest)
    }

    pub(crate) fn created_layer(&self, key: &Digest) {
        self.file.created.lock().unwrap_or_else(PoisonError::into_inner).layers.push(key.clone());
    }

    pub(crate) fn created(&self) -> Created {
        self.file.created.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[derive(Debug)]
pub(crate) struct LeaseFile {
    root: PathBuf,
    path: PathBuf,
    file: File,
    held: Mutex<HashSet<Digest>>,
    created: Mutex<Created>,
}

/// What was added to the store under a lease, for undoing an operation that failed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Created {
    pub blobs: Vec<Digest>,
    pub layers: Vec<Digest>,
}

impl LeaseFile {
    pub(crate) fn protect(&self, digest: &Digest) -> Result<()> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.contains(digest) {
            return Ok(());
        }
        let _guard = lock_shared(&self.root)?;
        // A line of its own, even if a full disk has cut off the one before.
        (&self.file)
            .write_all(format!("\n{digest}\n").as_bytes())
            .about(|| self.path.display().to_string())?;
        held.insert(digest.clone());
        Ok(())
    }

    pub(crate) fn created_blob(&self, digest: &Digest) {
        self.created.lock().unwrap_or_else(PoisonError::into_inner).blobs.push(digest.clone());
    }
}

impl Drop for LeaseFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

fn lock_file(root: &Path) -> Result<(PathBuf, File)> {
    let path = root.join("gc.lock");
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .about(|| path.display().to_string())?;
    Ok((path, file))
}

fn lock_shared(root: &Path) -> Result<File> {
    let (path, file) = lock_file(root)?;
    flock(&file, FlockOperation::LockShared).about(|| path.display().to_string())?;
    Ok(file)
}

/// Waits until no lease is being extended and keeps it so until the file is dropped.
pub(crate) fn lock_exclusive(root: &Path) -> Result<File> {
    let (path, file) = lock_file(root)?;
    flock(&file, FlockOperation::LockExclusive).about(|| path.display().to_string())?;
    Ok(file)
}

/// What living leases protect. Files of dead ones are removed. To be called under [`lock_exclusive`].
pub(crate) fn protected(root: &Path) -> Result<HashSet<Digest>> {
    let dir = root.join("leases");
    let mut all = HashSet::new();
    for entry in std::fs::read_dir(&dir).about(|| dir.display().to_string())? {
        let path = entry.about(|| dir.display().to_string())?.path();
        let Ok(file) = File::open(&path) else { continue };
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            let _ = std::fs::remove_file(&path);
            continue;
        }
        let text = std::io::read_to_string(&file).about(|| path.display().to_string())?;
        all.extend(text.lines().filter_map(|line| Digest::parse(line).ok()));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_protects_while_it_lives() {
        let dir = tempfile::tempdir().unwrap();
        for sub in ["leases", "ingest"] {
            std::fs::create_dir(dir.path().join(sub)).unwrap();
        }
        let lease = Lease::new(dir.path()).unwrap();
        let digest = lease.blobs().put_bytes(b"x").unwrap();
        lease.protect(&Digest::of(b"y")).unwrap();
        let guard = lock_exclusive(dir.path()).unwrap();
        assert_eq!(protected(dir.path()).unwrap(), HashSet::from([digest, Digest::of(b"y")]));
        drop(guard);
        drop(lease);
        std::fs::write(dir.path().join("leases/dead"), "sha256:").unwrap();
        assert!(protected(dir.path()).unwrap().is_empty());
        assert_eq!(std::fs::read_dir(dir.path().join("leases")).unwrap().count(), 0);
    }
}
