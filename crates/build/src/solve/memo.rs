//! What the files of a context contained when they were last read, so that a build whose context has not changed reads
//! none of them.
//!
//! A file is known by device and inode, and is taken for unchanged while size, time of modification and time of change
//! are what they were. The kernel sets the time of change itself and nobody can set it back, but clocks have grains: a
//! file is noted only when its last change lies further back than such a grain, and only on file systems of this
//! machine, whose clock is ours. What a program writes through a mapping after it was noted, without a call that tells
//! the kernel, is seen when the kernel writes it back.
//!
//! ```text
//! ROOT/build/known/HEX   for each directory that was a context, HEX of its path
//!   "fluyt files 2\n"
//!   records: device inode size | modified: s ns | changed: s ns | digest   (little endian, sorted by device and inode)
//!   SHA-256 of all before it
//! ```
//! A file that cannot be read is as good as none: everything is read then.

use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use fluyt_image::Digest;
use fluyt_image::digest::{Algorithm, Hasher};
use rustix::fs::Stat;

const MAGIC: &[u8] = b"fluyt files 2\n";
/// Bytes of one record.
const RECORD: usize = 7 * 8 + 32;
/// Records of one context; what was not asked for in the last build goes when there would be more.
const MOST: usize = 500_000;
/// Notes of directories that were no context for so long are removed.
const KEEP: Duration = Duration::from_secs(60 * 24 * 3600);
/// The grain of file systems that count fractions of seconds: a tick of the kernel, at most.
const FINE: i128 = 50_000_000;
/// The grain of those that count whole or even seconds.
const COARSE: i128 = 2_000_000_000;

/// The SHA-256 of a file's attributes and content.
pub type FileDigest = [u8; 32];

#[derive(Clone, Copy, PartialEq, Eq)]
struct Record {
    id: (u64, u64),
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
    digest: FileDigest,
}

/// The notes of one context.
pub struct Memo {
    path: PathBuf,
    /// The device of the context, if its file system can be trusted with times.
    device: Option<u64>,
    known: Vec<Record>,
    fresh: Mutex<Vec<Record>>,
}

impl Memo {
    /// The notes on the open directory `context`, kept for its `path` below the data root `root`.
    #[must_use]
    pub fn open(root: &Path, path: &Path, context: &OwnedFd) -> Self {
        use std::os::unix::ffi::OsStrExt;
        let name = Digest::of(path.as_os_str().as_bytes());
        let path = root.join("build").join("known").join(&name.hex()[..32]);
        let device = trusted_device(context);
        let known = device.and_then(|_| read(&path)).unwrap_or_default();
        Self { path, device, known, fresh: Mutex::default() }
    }

    /// The digest of a file with this status, if it has not changed since it was noted.
    #[must_use]
    pub fn find(&self, stat: &Stat) -> Option<FileDigest> {
        let wanted = record(stat, [0; 32]);
        let at = self.known.binary_search_by_key(&wanted.id, |r| r.id).ok()?;
        let found = self.known[at];
        (Record { digest: [0; 32], ..found } == wanted).then_some(found.digest)
    }

    /// Notes the digest of a file whose status was `stat` at `when`, before it was read. Whether its status tells from
    /// now on that it has changed.
    pub fn note(&self, stat: &Stat, when: SystemTime, digest: FileDigest) -> bool {
        let record = record(stat, digest);
        if self.device != Some(record.id.0) {
            return false;
        }
        let now = when.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_nanos().cast_signed());
        let nanos = |(s, ns): (i64, i64)| i128::from(s) * 1_000_000_000 + i128::from(ns);
        let grain = if record.changed.1 == 0 { COARSE } else { FINE };
        let sure = nanos(record.changed) + grain < now;
        if sure {
            self.fresh.lock().unwrap_or_else(PoisonError::into_inner).push(record);
        }
        sure
    }

    /// Waits, if files changed a moment ago, until they can be noted: a grain of a fine clock at most.
    pub fn settle<'a>(&self, stats: impl Iterator<Item = &'a Stat>) {
        let newest = stats.map(|stat| record(stat, [0; 32]).changed).filter(|changed| changed.1 != 0).max();
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |d| d.as_nanos().cast_signed());
        let Some((seconds, nanos)) = newest.filter(|_| self.device.is_some()) else { return };
        let left = i128::from(seconds) * 1_000_000_000 + i128::from(nanos) + FINE + 1 - now;
        if (1..=FINE + 1).contains(&left) {
            std::thread::sleep(Duration::from_nanos(u64::try_from(left).unwrap_or(0)));
        }
    }

    /// Keeps what was noted. That it cannot be kept costs time in the next build and nothing else.
    pub fn save(&self) {
        let fresh = std::mem::take(&mut *self.fresh.lock().unwrap_or_else(PoisonError::into_inner));
        if fresh.is_empty() {
            return;
        }
        let mut all: std::collections::BTreeMap<(u64, u64), Record> =
            fresh.into_iter().map(|record| (record.id, record)).collect();
        for old in &self.known {
            if all.len() >= MOST {
                break;
            }
            all.entry(old.id).or_insert(*old);
        }
        let _ = write(&self.path, all.values());
    }
}

/// The device of a directory on a file system that sets times of change by this machine's clock, finely or not.
fn trusted_device(dir: &OwnedFd) -> Option<u64> {
    // ext2 to 4, XFS, Btrfs, tmpfs, F2FS, ZFS, overlay, bcachefs.
    const LOCAL: [u64; 8] =
        [0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994, 0xf2f5_2010, 0x2fc1_2fc1, 0x794c_7630, 0xca45_1a4e];
    #[allow(clippy::useless_conversion, clippy::unnecessary_cast)]
    let kind = rustix::fs::fstatfs(dir).ok()?.f_type as u64 & 0xffff_ffff;
    let stat = rustix::fs::fstat(dir).ok()?;
    #[allow(clippy::useless_conversion)]
    LOCAL.contains(&kind).then_some(stat.st_dev.into())
}

/// Whether the two are of one file that has not changed in between, as far as times can tell.
#[must_use]
pub fn unchanged(before: &Stat, after: &Stat) -> bool {
    record(before, [0; 32]) == record(after, [0; 32])
}

#[allow(clippy::useless_conversion)]
fn record(stat: &Stat, digest: FileDigest) -> Record {
    let nanos = |n| i64::try_from(n).unwrap_or(0);
    Record {
        id: (stat.st_dev.into(), stat.st_ino.into()),
        size: u64::try_from(stat.st_size).unwrap_or(0),
        modified: (stat.st_mtime.into(), nanos(stat.st_mtime_nsec)),
        changed: (stat.st_ctime.into(), nanos(stat.st_ctime_nsec)),
        digest,
    }
}

fn read(path: &Path) -> Option<Vec<Record>> {
    let bytes = std::fs::read(path).ok()?;
    let (body, sum) = bytes.split_at_checked(bytes.len().checked_sub(32)?)?;
    if sum != digest_of(body) {
        return None;
    }
    let records = body.strip_prefix(MAGIC)?;
    records.chunks(RECORD).map(parse).collect()
}

fn parse(bytes: &[u8]) -> Option<Record> {
    let word = |at: usize| Some(u64::from_le_bytes(bytes.get(8 * at..8 * at + 8)?.try_into().ok()?));
    let time = |at: usize| Some((word(at)?.cast_signed(), word(at + 1)?.cast_signed()));
    Some(Record {
        id: (word(0)?, word(1)?),
        size: word(2)?,
        modified: time(3)?,
        changed: time(5)?,
        digest: bytes.get(56..RECORD)?.try_into().ok()?,
    })
}

fn write<'a>(path: &Path, records: impl Iterator<Item = &'a Record>) -> std::io::Result<()> {
    let mut bytes = MAGIC.to_vec();
    for r in records {
        let (m, c) = (r.modified, r.changed);
        let words = [r.id.0, r.id.1, r.size, m.0.cast_unsigned(), m.1.cast_unsigned()];
        for word in words.into_iter().chain([c.0.cast_unsigned(), c.1.cast_unsigned()]) {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        bytes.extend_from_slice(&r.digest);
    }
    let sum = digest_of(&bytes);
    bytes.extend_from_slice(&sum);
    let dir = path.parent().unwrap_or(path);
    std::fs::create_dir_all(dir)?;
    forget_old(dir);
    let fresh = path.with_extension(format!("{}-new", std::process::id()));
    let mut file = std::fs::File::create(&fresh)?;
    let done = file.write_all(&bytes).and_then(|()| std::fs::rename(&fresh, path));
    if done.is_err() {
        let _ = std::fs::remove_file(&fresh);
    }
    done
}

/// Removes the notes of directories that have not been contexts for long, and what a killed build left.
fn forget_old(dir: &Path) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let age = entry.metadata().and_then(|m| m.modified()).ok().and_then(|t| t.elapsed().ok());
        if age.is_some_and(|age| age > KEEP) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// The SHA-256 of bytes.
#[must_use]
pub fn digest_of(bytes: &[u8]) -> FileDigest {
    let mut hasher = Hasher::new(Algorithm::Sha256);
    hasher.update(bytes);
    raw(hasher)
}

/// The bytes of a SHA-256.
#[must_use]
pub fn raw(hasher: Hasher) -> FileDigest {
    let mut out = [0; 32];
    let digest = hasher.finish();
    for (byte, pair) in out.iter_mut().zip(digest.hex().as_bytes().chunks(2)) {
        let digit = |b: u8| char::from(b).to_digit(16).unwrap_or(0) as u8;
        *byte = digit(pair[0]) << 4 | digit(pair[1]);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stat_of(path: &Path) -> Stat {
        rustix::fs::stat(path).unwrap()
    }

    fn memo(root: &Path, context: &Path) -> Memo {
        let dir = super::super::tree::open_dir(context).unwrap();
        Memo::open(root, context, &dir.0)
    }

    #[test]
    fn an_unchanged_file_is_known_and_a_changed_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let (root, context) = (dir.path().join("root"), dir.path().join("context"));
        std::fs::create_dir_all(&context).unwrap();
        let file = context.join("a");
        std::fs::write(&file, "one").unwrap();
        let later = SystemTime::now() + Duration::from_secs(60);
        let first = memo(&root, &context);
        if first.device.is_none() {
            // Nothing is noted on such a file system.
            return;
        }
        assert!(first.find(&stat_of(&file)).is_none());
        first.note(&stat_of(&file), later, [7; 32]);
        first.save();
        let second = memo(&root, &context);
        assert_eq!(second.find(&stat_of(&file)), Some([7; 32]));
        // The same size and the same time of modification, as a careful forger would do it.
        let modified = std::fs::metadata(&file).unwrap().modified().unwrap();
        let before = stat_of(&file);
        loop {
            std::fs::write(&file, "two").unwrap();
            std::fs::File::options().write(true).open(&file).unwrap().set_modified(modified).unwrap();
            let after = stat_of(&file);
            // A clock of ticks may not have moved on.
            if (after.st_ctime, after.st_ctime_nsec) != (before.st_ctime, before.st_ctime_nsec) {
                break;
            }
        }
        assert!(second.find(&stat_of(&file)).is_none());
    }

    #[test]
    fn a_file_that_has_just_changed_is_not_noted() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a");
        std::fs::write(&file, "one").unwrap();
        let stat = stat_of(&file);
        let changed = SystemTime::UNIX_EPOCH
            + Duration::new(stat.st_ctime.cast_unsigned(), u32::try_from(stat.st_ctime_nsec).unwrap());
        let memo = memo(&dir.path().join("root"), dir.path());
        memo.note(&stat, changed + Duration::from_millis(10), [7; 32]);
        memo.save();
        assert!(!dir.path().join("root").exists());
    }

    #[test]
    fn a_file_that_has_just_changed_can_be_noted_after_a_moment() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a");
        let (root, context) = (dir.path().join("root"), dir.path());
        std::fs::write(&file, "one").unwrap();
        let stat = stat_of(&file);
        let first = memo(&root, context);
        first.settle([&stat].into_iter());
        first.note(&stat, SystemTime::now(), [7; 32]);
        first.save();
        let found = memo(&root, context).find(&stat);
        // A file system whose times cannot be trusted, or which has whole seconds, notes nothing yet.
        if first.device.is_some() && stat.st_ctime_nsec != 0 {
            assert_eq!(found, Some([7; 32]));
        }
    }

    #[test]
    fn damaged_notes_are_no_notes() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a");
        std::fs::write(&file, "one").unwrap();
        let root = dir.path().join("root");
        let first = memo(&root, dir.path());
        if first.device.is_none() {
            return;
        }
        first.note(&stat_of(&file), SystemTime::now() + Duration::from_secs(60), [7; 32]);
        first.save();
        let whole = std::fs::read(&first.path).unwrap();
        for end in [0, 10, MAGIC.len() + 5, whole.len() - 1] {
            std::fs::write(&first.path, &whole[..end]).unwrap();
            assert!(memo(&root, dir.path()).known.is_empty());
        }
        let mut wrong = whole.clone();
        wrong[MAGIC.len() + 3] ^= 1;
        std::fs::write(&first.path, &wrong).unwrap();
        assert!(memo(&root, dir.path()).known.is_empty());
        std::fs::write(&first.path, &whole).unwrap();
        assert_eq!(memo(&root, dir.path()).known.len(), 1);
    }
}
