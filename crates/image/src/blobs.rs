//! The content store: immutable files named by their digest, `blobs/ALGORITHM/HEX`.
//!
//! A blob is written to `ingest/`, hashed on the way, synchronised and renamed into place: a file under `blobs/`
//! is always whole. An ingest is locked (flock) while its writer lives. Who references a blob is not known here;
//! see [`crate::gc`] and [`crate::lease`].

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fluyt_model::error::IoContext;
use fluyt_model::{Error, Kind, Result};
use rustix::fs::{FlockOperation, flock};

use crate::digest::{Algorithm, Digest, Hasher};
use crate::failpoint;
use crate::lease::LeaseFile;

/// Access to the blobs of one data root. Cheap to clone, usable from several threads.
#[derive(Clone, Debug)]
pub struct Blobs {
    root: Arc<Path>,
    lease: Option<Arc<LeaseFile>>,
}

impl Blobs {
    pub(crate) fn new(root: &Path, lease: Option<Arc<LeaseFile>>) -> Self {
        Self { root: root.into(), lease }
    }

    /// Where the blob `digest` is or would be.
    #[must_use]
    pub fn path(&self, digest: &Digest) -> PathBuf {
        let mut path = self.root.join("blobs");
        path.push(digest.algorithm().name());
        path.push(digest.hex());
        path
    }

    /// Whether the blob is here. Through a lease's blobs, a blob that was found is also protected by the lease.
    #[must_use]
    pub fn has(&self, digest: &Digest) -> bool {
        if let Some(lease) = &self.lease
            && lease.protect(digest).is_err()
        {
            return false;
        }
        self.path(digest).exists()
    }

    /// Opens the blob for reading.
    ///
    /// # Errors
    /// `Kind::NotFound` when it is not here.
    pub fn open(&self, digest: &Digest) -> Result<File> {
        File::open(self.path(digest)).map_err(|e| self.missing(digest, e))
    }

    /// The size in bytes.
    ///
    /// # Errors
    /// `Kind::NotFound` when it is not here.
    pub fn size(&self, digest: &Digest) -> Result<u64> {
        Ok(self.path(digest).metadata().map_err(|e| self.missing(digest, e))?.len())
    }

    /// Reads a blob that is at most `limit` bytes long, and verifies its digest.
    ///
    /// # Errors
    /// `Kind::NotFound`; `Kind::Invalid` when it is longer than `limit`; `Kind::Corrupt` when the content does not
    /// match its name.
    pub fn read_small(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>> {
        let file = self.open(digest)?;
        let mut bytes = Vec::new();
        file.take(limit + 1).read_to_end(&mut bytes).about(|| format!("blob {digest}"))?;
        if bytes.len() as u64 > limit {
            return Err(Error::invalid(format!("blob {digest} is larger than {limit} bytes")));
        }
        let mut hasher = Hasher::new(digest.algorithm());
        hasher.update(&bytes);
        if hasher.finish() != *digest {
            return Err(Error::corrupt(format!("blob {digest}: its content does not match its digest"))
                .with_hint("run `fluyt system fsck --repair`, then pull or load the image again"));
        }
        Ok(bytes)
    }

    /// Stores `bytes` and returns their SHA-256 digest. Does nothing when the blob is here already.
    ///
    /// # Errors
    /// I/O errors; `Kind::Exhausted` when the disk is full.
    pub fn put_bytes(&self, bytes: &[u8]) -> Result<Digest> {
        let digest = Digest::of(bytes);
        if self.has(&digest) {
            return Ok(digest);
        }
        let mut ingest = self.ingest(Some(&digest), Some(bytes.len() as u64), "")?;
        ingest.write_all(bytes).map_err(|e| ingest.write_error(e))?;
        ingest.commit()
    }

    /// Begins to write a blob.
    ///
    /// `expected` and `expected_size` are verified, the size while writing. A non-empty `resume_key` names the
    /// transfer: if an earlier writer kept what it had (see [`Ingest::keep`]) or was killed, writing goes on at
    /// [`Ingest::offset`]. When a living writer already works under that key, this one starts anew on its own.
    ///
    /// # Errors
    /// I/O errors; `Kind::Exhausted` when the disk is full.
    pub fn ingest(
        &self,
        expected: Option<&Digest>,
        expected_size: Option<u64>,
        resume_key: &str,
    ) -> Result<Ingest> {
        let mut opened = None;
        if !resume_key.is_empty() {
            opened = open_locked(&self.part(resume_key), false)?;
        }
        let opened = match opened {
            Some(found) => found,
            None => fresh_ingest(&self.root.join("ingest"))?,
        };
        self.ingest_into(opened, expected, expected_size)
    }

    /// As [`Blobs::ingest`] under a key that is not empty; `None` when a living writer works under that key.
    /// [`Blobs::part_size`] tells how far that one is.
    ///
    /// # Errors
    /// I/O errors; `Kind::Exhausted` when the disk is full.
    pub fn ingest_alone(
        &self,
        expected: Option<&Digest>,
        expected_size: Option<u64>,
        resume_key: &str,
    ) -> Result<Option<Ingest>> {
        let opened = open_locked(&self.part(resume_key), false)?;
        opened.map(|opened| self.ingest_into(opened, expected, expected_size)).transpose()
    }

    /// How many bytes are written under a key, by whomever; `None` when there is no such transfer.
    #[must_use]
    pub fn part_size(&self, resume_key: &str) -> Option<u64> {
        self.part(resume_key).metadata().ok().map(|m| m.len())
    }

    fn part(&self, resume_key: &str) -> PathBuf {
        let mut path = self.root.join("ingest");
        path.push(format!("part-{}", Digest::of(resume_key.as_bytes()).hex()));
        path
    }

    fn ingest_into(
        &self,
        (path, file): (PathBuf, File),
        expected: Option<&Digest>,
        expected_size: Option<u64>,
    ) -> Result<Ingest> {
        let algorithm = expected.map_or(Algorithm::Sha256, Digest::algorithm);
        let mut ingest = Ingest {
            blobs: self.clone(),
            file,
            path,
            hasher: Hasher::new(algorithm),
            algorithm,
            written: 0,
            expected: expected.cloned(),
            expected_size,
            keep: false,
            done: false,
        };
        ingest.rehash_existing()?;
        Ok(ingest)
    }

    /// Removes the blob; that it is absent is no error.
    pub(crate) fn remove(&self, digest: &Digest) -> Result<()> {
        let path = self.path(digest);
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e).about(|| path.display().to_string()),
            _ => Ok(()),
        }
    }

    /// Every blob with its apparent size and its size on disk, in bytes, in no order; and the paths of files that
    /// are not named by a digest.
    ///
    /// # Errors
    /// I/O errors.
    pub fn list(&self) -> Result<(Vec<BlobInfo>, Vec<PathBuf>)> {
        let (mut found, mut strays) = (Vec::new(), Vec::new());
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let dir = self.root.join("blobs").join(algorithm.name());
            let entries = match std::fs::read_dir(&dir) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                other => other.about(|| dir.display().to_string())?,
            };
            for entry in entries {
                let entry = entry.about(|| dir.display().to_string())?;
                let name = entry.file_name();
                match Digest::parse(&format!("{}:{}", algorithm.name(), name.to_string_lossy())) {
                    Ok(digest) => {
                        let Ok(meta) = entry.metadata() else { continue };
                        found.push(BlobInfo { digest, size: meta.len(), disk: meta.blocks() * 512 });
                    }
                    Err(_) => strays.push(entry.path()),
                }
            }
        }
        Ok((found, strays))
    }

    fn missing(&self, digest: &Digest, e: io::Error) -> Error {
        if e.kind() == io::ErrorKind::NotFound {
            Error::not_found(format!("blob {digest} is not in the store"))
        } else {
            Error::io(self.path(digest).display().to_string(), e)
        }
    }
}

/// One blob in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobInfo {
    /// Its name.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// What it takes on disk, in bytes.
    pub disk: u64,
}

/// A blob being written. Dropped without [`Ingest::commit`], it is removed, unless [`Ingest::keep`] was called.
#[derive(Debug)]
pub struct Ingest {
    blobs: Blobs,
    file: File,
    path: PathBuf,
    hasher: Hasher,
    algorithm: Algorithm,
    written: u64,
    expected: Option<Digest>,
    expected_size: Option<u64>,
    keep: bool,
    done: bool,
}

impl std::fmt::Debug for Hasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hasher")
    }
}

impl Ingest {
    /// How many bytes are written: where a resumed transfer goes on.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.written
    }

    /// Keeps what is written when this is dropped, so that a later ingest under the same key resumes.
    pub fn keep(&mut self) {
        self.keep = true;
    }

    /// The file being written, for reading what is there so far. It stays readable after [`Ingest::commit`].
    ///
    /// # Errors
    /// I/O errors.
    pub fn reader(&self) -> Result<File> {
        File::open(&self.path).about(|| self.path.display().to_string())
    }

    /// Gives up what is written, also after [`Ingest::keep`].
    pub fn discard(mut self) {
        self.keep = false;
    }

    /// Says only now which digest the content has to have. When that digest is of another algorithm than the one
    /// computed so far, what is written is read once more.
    ///
    /// # Errors
    /// I/O errors.
    pub fn expect(&mut self, digest: &Digest) -> Result<()> {
        self.expected = Some(digest.clone());
        if digest.algorithm() == self.algorithm {
            return Ok(());
        }
        self.algorithm = digest.algorithm();
        self.hasher = Hasher::new(self.algorithm);
        self.written = 0;
        self.file.rewind().about(|| self.path.display().to_string())?;
        self.rehash_existing()
    }

    /// Throws away what is written and begins again at offset 0 (a server that cannot resume).
    ///
    /// # Errors
    /// I/O errors.
    pub fn restart(&mut self) -> Result<()> {
        self.file.set_len(0).about(|| self.path.display().to_string())?;
        self.file.rewind().about(|| self.path.display().to_string())?;
        self.written = 0;
        self.hasher = Hasher::new(self.algorithm);
        Ok(())
    }

    /// Whether what is written is what was expected; its digest.
    ///
    /// # Errors
    /// `Kind::Corrupt` when the size or the digest is not the expected one.
    pub fn verify(&self) -> Result<Digest> {
        let digest = self.hasher.clone().finish();
        if let Some(size) = self.expected_size
            && size != self.written
        {
            let name = self.expected.as_ref().unwrap_or(&digest);
            return Err(Error::corrupt(format!("blob {name}: expected {size} bytes, got {}", self.written)));
        }
        match &self.expected {
            Some(expected) if *expected != digest => {
                Err(Error::corrupt(format!("blob {expected}: the content has the digest {digest}"))
                    .with_hint("the data was damaged or changed on its way; fetch it again"))
            }
            _ => Ok(digest),
        }
    }

    /// Verifies, synchronises and publishes the blob.
    ///
    /// # Errors
    /// `Kind::Corrupt` when the size or the digest is not the expected one (what was written is removed then);
    /// `Kind::Exhausted` when the disk is full.
    pub fn commit(mut self) -> Result<Digest> {
        let digest = match self.verify() {
            Ok(digest) => digest,
            Err(e) => {
                // Only what is merely short may go on later.
                self.keep = self.keep && self.expected_size.is_some_and(|size| self.written < size);
                return Err(e);
            }
        };
        let target = self.blobs.path(&digest);
        if let Some(lease) = &self.blobs.lease {
            lease.protect(&digest)?;
            if target.exists() {
                // Somebody was faster; the drop removes what was written here, also of what could have gone on later.
                self.keep = false;
                return Ok(digest);
            }
            lease.created_blob(&digest);
        }
        failpoint::pass("blob-before-sync");
        rustix::fs::fdatasync(&self.file).about(|| self.path.display().to_string())?;
        failpoint::pass("blob-before-rename");
        match std::fs::rename(&self.path, &target) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let parent = target.parent().expect("a blob's path has a parent");
                std::fs::create_dir_all(parent).about(|| parent.display().to_string())?;
                std::fs::rename(&self.path, &target).about(|| target.display().to_string())?;
            }
            other => other.about(|| target.display().to_string())?,
        }
        self.done = true;
        failpoint::pass("blob-after-rename");
        Ok(digest)
    }

    /// Names the blob in an error of a write to it.
    #[must_use]
    pub fn write_error(&self, e: io::Error) -> Error {
        let name =
            self.expected.as_ref().map_or_else(|| self.path.display().to_string(), |d| format!("blob {d}"));
        let full = matches!(e.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        let e = Error::io(format!("writing {name}"), e);
        if full { e.with_hint("free some disk space (`fluyt system prune`), then try again") } else { e }
    }

    fn rehash_existing(&mut self) -> Result<()> {
        let mut buffer = vec![0; 128 * 1024];
        loop {
            let n = self.file.read(&mut buffer).about(|| self.path.display().to_string())?;
            if n == 0 {
                break;
            }
            self.hasher.update(&buffer[..n]);
            self.written += n as u64;
        }
        if self.expected_size.is_some_and(|size| self.written > size) {
            self.restart()?;
        }
        Ok(())
    }
}

impl Write for Ingest {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(size) = self.expected_size
            && self.written + bytes.len() as u64 > size
        {
            self.keep = false;
            let what = self.expected.as_ref().map_or("the blob", |d| d.as_str());
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{what}: more data than the expected {size} bytes"),
            ));
        }
        let n = self.file.write(bytes)?;
        self.hasher.update(&bytes[..n]);
        self.written += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Ingest {
    fn drop(&mut self) {
        if !self.done && !self.keep {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Opens and locks `path`, creating it. `None` when another process holds its lock.
///
/// Whoever removes such a file does so under its lock, so a file that is locked but no longer linked is a lost
/// race: it is opened again.
fn open_locked(path: &Path, exclusive: bool) -> Result<Option<(PathBuf, File)>> {
    for _ in 0..100 {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .create_new(exclusive)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .about(|| path.display().to_string())?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
            Err(e) => return Err(Error::io(path.display().to_string(), e.into())),
        }
        let meta = file.metadata().about(|| path.display().to_string())?;
        if meta.nlink() > 0 && std::fs::metadata(path).is_ok_and(|m| m.ino() == meta.ino()) {
            return Ok(Some((path.to_owned(), file)));
        }
    }
    Ok(None)
}

fn fresh_ingest(dir: &Path) -> Result<(PathBuf, File)> {
    for _ in 0..100 {
        let path = dir.join(format!("new-{}", random_name()?));
        match open_locked(&path, true) {
            Ok(Some(found)) => return Ok(found),
            Ok(None) => {}
            Err(e) if e.kind() == Kind::Conflict => {}
            Err(e) => return Err(e),
        }
    }
    Err(Error::internal(format!("{}: no free name for a new file", dir.display())))
}

/// Sixteen random hex digits from the kernel.
pub(crate) fn random_name() -> Result<String> {
    let mut bytes = [0_u8; 8];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()).about(|| "random numbers")?;
    let mut text = String::with_capacity(16);
    crate::digest::push_hex(&mut text, &bytes);
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blobs(dir: &Path) -> Blobs {
        std::fs::create_dir_all(dir.join("ingest")).unwrap();
        Blobs::new(dir, None)
    }

    fn files_in(dir: &Path) -> usize {
        std::fs::read_dir(dir).unwrap().count()
    }

    #[test]
    fn a_blob_round_trips_and_leaves_no_ingest() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = blobs(dir.path());
        let digest = blobs.put_bytes(b"hello").unwrap();
        assert!(blobs.has(&digest));
        assert_eq!(blobs.size(&digest).unwrap(), 5);
        assert_eq!(blobs.read_small(&digest, 5).unwrap(), b"hello");
        assert_eq!(blobs.read_small(&digest, 4).unwrap_err().kind(), Kind::Invalid);
        assert_eq!(files_in(&dir.path().join("ingest")), 0);
        assert_eq!(blobs.open(&Digest::of(b"x")).unwrap_err().kind(), Kind::NotFound);
    }

    #[test]
    fn wrong_content_is_refused_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = blobs(dir.path());
        let mut ingest = blobs.ingest(Some(&Digest::of(b"right")), Some(5), "key").unwrap();
        ingest.keep();
        ingest.write_all(b"wrong").unwrap();
        assert_eq!(ingest.commit().unwrap_err().kind(), Kind::Corrupt);
        let mut ingest = blobs.ingest(None, Some(3), "").unwrap();
        assert!(ingest.write_all(b"more").is_err());
        drop(ingest);
        assert_eq!(files_in(&dir.path().join("ingest")), 0);
        assert!(!dir.path().join("blobs").exists());
    }

    #[test]
    fn a_kept_transfer_resumes_where_it_stopped() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = blobs(dir.path());
        let digest = Digest::of(b"hello world");
        let mut first = blobs.ingest(Some(&digest), Some(11), "key").unwrap();
        first.write_all(b"hello ").unwrap();
        let mut parallel = blobs.ingest(Some(&digest), Some(11), "key").unwrap();
        assert_eq!(parallel.offset(), 0);
        parallel.write_all(b"hello world").unwrap();
        parallel.commit().unwrap();
        first.keep();
        drop(first);
        let mut second = blobs.ingest(Some(&digest), Some(11), "key").unwrap();
        assert_eq!(second.offset(), 6);
        second.write_all(b"world").unwrap();
        assert_eq!(second.commit().unwrap(), digest);
        assert_eq!(files_in(&dir.path().join("ingest")), 0);
    }

    #[test]
    fn a_transfer_of_what_is_there_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let store = crate::Store::open(dir.path()).unwrap();
        let lease = store.lease().unwrap();
        for key in ["a", "b", "c"] {
            let mut upload = lease.blobs().ingest_alone(None, None, key).unwrap().unwrap();
            upload.keep();
            upload.write_all(b"the same").unwrap();
            assert_eq!(upload.commit().unwrap(), Digest::of(b"the same"));
            assert_eq!(files_in(&dir.path().join("ingest")), 0, "{key}");
        }
    }

    #[test]
    fn a_damaged_blob_is_noticed_when_read() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = blobs(dir.path());
        let digest = blobs.put_bytes(b"hello").unwrap();
        std::fs::write(blobs.path(&digest), b"jello").unwrap();
        assert_eq!(blobs.read_small(&digest, 100).unwrap_err().kind(), Kind::Corrupt);
    }
}
