//! Unpacks the layers of an image, several at once, and publishes them under `layers/`.
//!
//! ```text
//! ingest/unpack-RANDOM/fs   being extracted; the directory unpack-RANDOM is locked (flock) by its extractor
//!   | rename
//! layers/HEX/fs             whole; HEX is the diff id, or the chain id when the content depends on lower layers
//! l/XXXXXX -> ../layers/HEX/fs
//!   | row in `layers`
//! known
//! ```
//! A layer's content depends on those below it only where the archive leaves out parents or links to lower files;
//! such a layer is completed from the chain that it is unpacked for, and kept under its chain id.

use std::collections::HashMap;
use std::io::{BufReader, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use fluyt_model::error::IoContext;
use fluyt_model::{Error, Result};
use rusqlite::OptionalExtension;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::codec::{Counted, Decoder, Pipeline};
use super::extract::{Extracted, Extractor};
use super::reader::{Entry, TarReader};
use super::{Limits, complete};
use crate::blobs::{Blobs, random_name};
use crate::digest::Digest;
use crate::failpoint;
use crate::lease::Lease;
use crate::oci::Descriptor;
use crate::progress::{Outcome, Progress};
use crate::store::Store;

/// Opens the (compressed) archive of a layer; may wait until a download is complete.
pub type OpenLayer<'a> = Box<dyn Fn() -> Result<Box<dyn Read + Send>> + Send + Sync + 'a>;

/// A layer to unpack.
pub struct LayerSource<'a> {
    /// The archive as a manifest describes it; its size is for progress, its digest for messages.
    pub descriptor: Descriptor,
    /// The digest of the uncompressed archive, verified.
    pub diff_id: Digest,
    /// Opens the archive.
    pub open: OpenLayer<'a>,
}

impl LayerSource<'static> {
    /// A layer whose archive is a blob of the store.
    #[must_use]
    pub fn blob(blobs: &Blobs, descriptor: &Descriptor, diff_id: &Digest) -> Self {
        let (blobs, digest) = (blobs.clone(), descriptor.digest.clone());
        Self {
            descriptor: descriptor.clone(),
            diff_id: diff_id.clone(),
            open: Box::new(move || Ok(Box::new(blobs.open(&digest)?))),
        }
    }
}

/// An unpacked layer of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerRef {
    /// The digest of its uncompressed archive.
    pub diff_id: Digest,
    /// What it is kept under: the diff id, or the chain id (both as `sha256:HEX`).
    pub key: Digest,
    /// The short link under `l/`.
    pub link: String,
    /// The sum of its files' sizes in bytes.
    pub size: u64,
}

impl LayerRef {
    /// The directory that an overlay takes as a lower one, by its short link.
    #[must_use]
    pub fn path(&self, root: &Path) -> PathBuf {
        root.join("l").join(&self.link)
    }
}

/// A layer that is extracted but not yet published; removed when dropped.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) dir: PathBuf,
    pub(crate) found: Extracted,
    _lock: OwnedFd,
}

impl Pending {
    /// An empty one.
    pub(crate) fn fresh(root: &Path) -> Result<Self> {
        let (dir, lock) = fresh_dir(root)?;
        Ok(Self { dir, found: Extracted::default(), _lock: lock })
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

impl Store {
    /// Unpacks `sources`, lowest first, under the protection of `lease`; layers that are here already are not
    /// read. Uses as many threads as there are processors, twice.
    ///
    /// # Errors
    /// The first failure, naming the layer: `Kind::Corrupt` for damage or a wrong digest, `Kind::Invalid` for an
    /// archive that would write outside its root, `Kind::Exhausted` for limits or a full disk. Nothing of a
    /// failed layer is left.
    pub fn unpack_layers(
        &self,
        lease: &Lease,
        sources: &[LayerSource<'_>],
        progress: &dyn Progress,
    ) -> Result<Vec<LayerRef>> {
        let chain = chain_ids(sources.iter().map(|s| &s.diff_id));
        let mut known: HashMap<Digest, LayerRef> = HashMap::new();
        for (source, chain_id) in sources.iter().zip(&chain) {
            lease.protect(&source.diff_id)?;
            lease.protect(chain_id)?;
            if let Some(layer) = self.known_layer(&source.diff_id, chain_id)? {
                let item = item(source);
                progress.begin(&item, Some(source.descriptor.size));
                progress.finish(&item, Outcome::Exists);
                known.insert(chain_id.clone(), layer);
            }
        }
        let mut wanted: Vec<&LayerSource<'_>> = Vec::new();
        for (source, chain_id) in sources.iter().zip(&chain) {
            if !known.contains_key(chain_id) && !wanted.iter().any(|w| w.diff_id == source.diff_id) {
                wanted.push(source);
            }
        }
        let mut fresh = extract_all(&self.root, &wanted, self.limits, progress)?;
        let mut done: Vec<LayerRef> = Vec::with_capacity(sources.len());
        for (source, chain_id) in sources.iter().zip(&chain) {
            let layer = match known.remove(chain_id) {
                Some(layer) => layer,
                None => match self.known_layer(&source.diff_id, chain_id)? {
                    Some(layer) => layer,
                    None => {
                        let pending = match fresh.remove(&source.diff_id) {
                            Some(pending) => pending,
                            // The same archive twice in one image, depending on what is below it: extract again.
                            None => extract_one(&self.root, source, self.limits, progress)?,
                        };
                        let lowers: Vec<PathBuf> = done.iter().rev().map(|l| l.path(&self.root)).collect();
                        let dependent = complete::complete(&pending.dir.join("fs"), &pending.found, &lowers)
                            .map_err(|e| e.context(format!("layer {}", source.descriptor.digest)))?;
                        let key = if dependent { chain_id } else { &source.diff_id };
                        lease.created_layer(key);
                        self.publish(pending, &source.diff_id, key, dependent)?
                    }
                },
            };
            done.push(layer);
        }
        Ok(done)
    }

    /// The unpacked layer of this diff id, or of this chain id, if it is here.
    pub(crate) fn known_layer(&self, diff_id: &Digest, chain_id: &Digest) -> Result<Option<LayerRef>> {
        let mut statement = self
            .db
            .connection()
            .prepare_cached("SELECT key, diff_id, link, size FROM layers WHERE key = ?2 OR (key = ?1 AND dependent = 0) LIMIT 1")
            .map_err(|e| self.db.error(e))?;
        let row = statement
            .query_row([diff_id.as_str(), chain_id.as_str()], |row| {
                Ok((
                    row.get::<_, String>(0)?,
                    row.get::<_, String>(1)?,
                    row.get::<_, String>(2)?,
                    row.get::<_, i64>(3)?,
                ))
            })
            .optional()
            .map_err(|e| self.db.error(e))?;
        let Some((key, diff_id, link, size)) = row else { return Ok(None) };
        let layer = LayerRef {
            diff_id: Digest::parse(&diff_id)?,
            key: Digest::parse(&key)?,
            link,
            size: size.cast_unsigned(),
        };
        Ok(layer.path(&self.root).is_dir().then_some(layer))
    }

    pub(crate) fn publish(
        &self,
        pending: Pending,
        diff_id: &Digest,
        key: &Digest,
        dependent: bool,
    ) -> Result<LayerRef> {
        let target = self.dir("layers").join(key.hex());
        failpoint::pass("layer-before-rename");
        match std::fs::rename(&pending.dir, &target) {
            Ok(()) => {}
            // Published by another process, or before a crash that came between the rename and the record.
            Err(e) if target.join("fs").is_dir() => drop(e),
            Err(e) if target.is_dir() => {
                // What is there is no layer any more (somebody removed its content): it gives way.
                drop(e);
                crate::gc::remove_tree(&target)?;
                std::fs::rename(&pending.dir, &target).about(|| target.display().to_string())?;
            }
            Err(e) => return Err(Error::io(target.display().to_string(), e)),
        }
        failpoint::pass("layer-after-rename");
        let size = pending.found.size;
        drop(pending);
        self.record_layer(diff_id, key, size, dependent)
    }

    /// Gives a published layer its short link and its record, unless it has them.
    pub(crate) fn record_layer(
        &self,
        diff_id: &Digest,
        key: &Digest,
        size: u64,
        dependent: bool,
    ) -> Result<LayerRef> {
        let link = make_link(&self.dir("l"), key)?;
        failpoint::pass("layer-after-link");
        let link = self.db.write(|tx| {
            // A row whose link was lost (or never written through) takes the new one.
            let old: Option<String> = tx
                .query_row("SELECT link FROM layers WHERE key = ?1", [key.as_str()], |row| row.get(0))
                .optional()
                .map_err(|e| self.db.error(e))?;
            if let Some(old) = old
                && self.dir("l").join(&old).is_dir()
            {
                return Ok(old);
            }
            tx.execute(
                "INSERT OR REPLACE INTO layers(key, diff_id, link, size, dependent) VALUES (?1, ?2, ?3, ?4, ?5)",
                rusqlite::params![key.as_str(), diff_id.as_str(), link, size.cast_signed(), dependent],
            )
            .map_err(|e| self.db.error(e))?;
            Ok(link.clone())
        })
        .inspect(|kept| {
            if *kept != link {
                let _ = std::fs::remove_file(self.dir("l").join(&link));
            }
        })?;
        failpoint::pass("layer-after-record");
        Ok(LayerRef { diff_id: diff_id.clone(), key: key.clone(), link, size })
    }
}

/// Makes a short link to the layer `key` under a free random name.
fn make_link(dir: &Path, key: &Digest) -> Result<String> {
    const LETTERS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let target = format!("../layers/{}/fs", key.hex());
    for _ in 0..1000 {
        let mut bytes = [0_u8; 6];
        rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
            .about(|| "random numbers")?;
        let name: String = bytes.iter().map(|b| char::from(LETTERS[usize::from(b & 31)])).collect();
        match std::os::unix::fs::symlink(&target, dir.join(&name)) {
            Ok(()) => return Ok(name),
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(Error::io(dir.display().to_string(), e)),
        }
    }
    Err(Error::internal(format!("{}: no free name for a link", dir.display())))
}

/// The chain id of each layer: its diff id for the lowest, else the digest of the chain below and its diff id.
pub fn chain_ids<'a>(diff_ids: impl Iterator<Item = &'a Digest>) -> Vec<Digest> {
    let mut chain: Vec<Digest> = Vec::new();
    for diff_id in diff_ids {
        chain.push(match chain.last() {
            None => diff_id.clone(),
            Some(below) => Digest::of(format!("{below} {diff_id}").as_bytes()),
        });
    }
    chain
}

fn item(source: &LayerSource<'_>) -> String {
    format!("Extracting {}", source.descriptor.digest)
}

fn extract_all(
    root: &Path,
    wanted: &[&LayerSource<'_>],
    limits: Limits,
    progress: &dyn Progress,
) -> Result<HashMap<Digest, Pending>> {
    let workers = std::thread::available_parallelism().map_or(2, usize::from).min(wanted.len());
    let next = AtomicUsize::new(0);
    let failed = AtomicBool::new(false);
    let results = Mutex::new((HashMap::new(), None::<Error>));
    let work = || {
        while !failed.load(Ordering::Relaxed) {
            let Some(source) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) else { break };
            let result = extract_one(root, source, limits, progress);
            let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
            match result {
                Ok(pending) => {
                    results.0.insert(source.diff_id.clone(), pending);
                }
                Err(e) => {
                    failed.store(true, Ordering::Relaxed);
                    results.1.get_or_insert(e);
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..workers {
            scope.spawn(work);
        }
        work();
    });
    let (done, error) = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    error.map_or(Ok(done), Err)
}

fn extract_one(
    root: &Path,
    source: &LayerSource<'_>,
    limits: Limits,
    progress: &dyn Progress,
) -> Result<Pending> {
    let item = item(source);
    progress.begin(&item, Some(source.descriptor.size));
    let result = extract_quietly(root, source, limits, &item, progress);
    progress.finish(&item, if result.is_ok() { Outcome::Done } else { Outcome::Failed });
    result.map_err(|e| {
        let full = e.kind() == fluyt_model::Kind::Exhausted && e.hint().is_none();
        let e = e.context(format!("layer {}", source.descriptor.digest));
        if full { e.with_hint("free some disk space (`fluyt system prune`), then try again") } else { e }
    })
}

fn extract_quietly(
    root: &Path,
    source: &LayerSource<'_>,
    limits: Limits,
    item: &str,
    progress: &dyn Progress,
) -> Result<Pending> {
    let mut pending = Pending::fresh(root)?;
    let fs = pending.dir.join("fs");
    std::fs::create_dir(&fs).about(|| fs.display().to_string())?;
    let read = Arc::new(AtomicU64::new(0));
    let digest = std::thread::scope(|scope| -> Result<Digest> {
        let input = Reporting { inner: (source.open)()?, item, progress };
        let algorithm = source.diff_id.algorithm();
        let (pipe, thread) = Pipeline::start(scope, input, Arc::clone(&read), algorithm, limits)?;
        let mut archive = TarReader::new(pipe);
        // The archive, and with it the pipe, is dropped on an error too: then the decoding thread ends.
        pending.found = Extractor::new(&fs, limits)?.run(&mut archive)?;
        drop(archive);
        thread.join().map_err(|_| Error::internal("the decoding thread failed"))
    })?;
    failpoint::pass("layer-extracted");
    if digest != source.diff_id {
        return Err(Error::corrupt(format!(
            "its uncompressed content has the digest {digest}, the image's configuration states {}",
            source.diff_id
        )));
    }
    Ok(pending)
}

/// A new locked directory under `ingest/`.
fn fresh_dir(root: &Path) -> Result<(PathBuf, OwnedFd)> {
    let dir = root.join("ingest").join(format!("unpack-{}", random_name()?));
    let parent = root.join("ingest");
    // Made under another name first, so that a collector never sees it without its lock.
    let hidden = parent.join(format!("making-{}", random_name()?));
    std::fs::create_dir(&hidden).about(|| hidden.display().to_string())?;
    let lock = super::extract::open_directory(
        rustix::fs::CWD,
        std::os::unix::ffi::OsStrExt::as_bytes(hidden.as_os_str()),
    )?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive).about(|| hidden.display().to_string())?;
    std::fs::rename(&hidden, &dir).about(|| dir.display().to_string())?;
    Ok((dir, lock))
}

/// Tells progress about what is read.
struct Reporting<'a> {
    inner: Box<dyn Read + Send>,
    item: &'a str,
    progress: &'a dyn Progress,
}

impl Read for Reporting<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.progress.advance(self.item, n as u64);
        Ok(n)
    }
}

/// Extracts a layer's archive into an existing directory, without records: for tools and benches.
///
/// # Errors
/// As [`Store::unpack_layers`].
pub fn extract_archive(input: impl Read + Send, dir: &Path, limits: Limits) -> Result<(Digest, u64)> {
    extract(input, Extractor::new(dir, limits)?, dir, limits)
}

/// Extracts an archive that is no layer: a file of it may have the name of a whiteout.
///
/// # Errors
/// As [`Store::unpack_layers`].
pub fn extract_files(input: impl Read + Send, dir: &Path, limits: Limits) -> Result<(Digest, u64)> {
    extract(input, Extractor::new(dir, limits)?.plain(), dir, limits)
}

/// Extracts an archive that is no layer below `root`, which has content already: each entry as `change` makes it, or not
/// at all if that says no. Links of the tree are followed, and lead nowhere outside.
///
/// # Errors
/// As [`Store::unpack_layers`]; a hard link to what is not there; those of `change`.
pub fn extract_changed(
    input: &mut dyn Read,
    root: &Path,
    limits: Limits,
    change: &dyn Fn(&mut Entry) -> Result<bool>,
) -> Result<()> {
    let decoder = Decoder::detect(BufReader::new(input))?;
    let mut archive = TarReader::new(BufReader::new(decoder));
    let found = Extractor::new(root, limits)?.plain().changing(change).run(&mut archive)?;
    match found.missing.first() {
        None => Ok(()),
        Some((name, target)) => Err(Error::invalid(format!(
            "{:?} is a hard link to {:?}, which is not there",
            String::from_utf8_lossy(name),
            String::from_utf8_lossy(target)
        ))),
    }
}

fn extract(
    input: impl Read + Send,
    extractor: Extractor<'_>,
    dir: &Path,
    limits: Limits,
) -> Result<(Digest, u64)> {
    std::thread::scope(|scope| {
        let read = Arc::new(AtomicU64::new(0));
        let input = Counted::new(input, Arc::default());
        let (pipe, thread) = Pipeline::start(scope, input, read, crate::digest::Algorithm::Sha256, limits)?;
        let mut archive = TarReader::new(pipe);
        let found = extractor.run(&mut archive)?;
        drop(archive);
        complete::complete(dir, &found, &[])?;
        let digest = thread.join().map_err(|_| Error::internal("the decoding thread failed"))?;
        Ok((digest, found.size))
    })
}
