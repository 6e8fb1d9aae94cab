//! Who makes what: two builds at once that need the same result make it once.
//!
//! ```text
//! ROOT/build/making/HEX   for each result that is being made, HEX of its content key
//! ```
//! The file is locked (flock) by the process that makes the result, and removed by it. The others wait, and then look
//! into the cache; when the maker failed or died, whose death releases the lock, the next of them makes it. Whoever waits
//! holds no turn, so nobody waits in a circle.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fluyt_image::Digest;
use fluyt_model::error::IoContext;
use fluyt_model::{Error, Kind, Result};
use rustix::fs::FlockOperation;

use crate::executor::Cancel;

/// How long to sleep between two looks at a lock that another process holds.
const PAUSE: Duration = Duration::from_millis(20);

/// Locks at once or not at all.
const EXCLUSIVE: FlockOperation = FlockOperation::NonBlockingLockExclusive;

/// The right to make a result; given up when dropped.
#[derive(Debug)]
pub(super) struct Turn {
    path: PathBuf,
    _lock: File,
}

impl Drop for Turn {
    fn drop(&mut self) {
        // Before the lock is released: who gets it on a file that has no name any more tries again.
        let _ = std::fs::remove_file(&self.path);
    }
}

fn place(root: &Path) -> PathBuf {
    root.join("build").join("making")
}

/// Waits for the turn to make what `key` leads to; whether there was anybody to wait for. `waiting` is called once
/// before the wait.
///
/// # Errors
/// The build was cancelled meanwhile; I/O errors.
pub(super) fn take(root: &Path, key: &Digest, cancel: &Cancel, waiting: &dyn Fn()) -> Result<(Turn, bool)> {
    let dir = place(root);
    let path = dir.join(key.hex());
    let about = || path.display().to_string();
    let mut waited = false;
    loop {
        let open = || File::options().write(true).create(true).truncate(false).open(&path);
        let lock = match open() {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                std::fs::create_dir_all(&dir).about(about)?;
                open()
            }
            other => other,
        };
        let lock = lock.about(about)?;
        if !try_lock(&lock, EXCLUSIVE)? {
            // Somebody who sweeps has it for a moment only.
            std::thread::sleep(PAUSE);
            if !waited {
                waiting();
            }
            waited = true;
            lock_when_free(&lock, EXCLUSIVE, cancel)?;
        }
        if same_file(&lock, &path) {
            return Ok((Turn { path, _lock: lock }, waited));
        }
    }
}

/// Removes what killed builds have left.
pub(super) fn sweep(root: &Path) {
    for entry in std::fs::read_dir(place(root)).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(lock) = File::open(&path) else { continue };
        if matches!(try_lock(&lock, EXCLUSIVE), Ok(true)) && same_file(&lock, &path) {
            let _ = std::fs::remove_file(&path);
        }
    }
}

fn try_lock(lock: &File, how: FlockOperation) -> Result<bool> {
    match rustix::fs::flock(lock, how) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
        Err(e) => Err(Error::io("locking a file of the build cache", e.into())),
    }
}

/// Waits until the lock can be had; `how` is an operation that does not wait itself.
///
/// # Errors
/// The build was cancelled meanwhile; I/O errors.
pub(super) fn lock_when_free(lock: &File, how: FlockOperation, cancel: &Cancel) -> Result<()> {
    while !try_lock(lock, how)? {
        if cancel.is_cancelled() {
            return Err(Error::new(Kind::Unavailable, "the build was cancelled"));
        }
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

/// Whether the open file is still the one at that path.
pub(super) fn same_file(open: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let id = |meta: std::fs::Metadata| (meta.dev(), meta.ino());
    let there = std::fs::metadata(path).map(id).ok();
    there.is_some() && open.metadata().map(id).ok() == there
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn one_at_a_time_and_nothing_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (inside, most, done) = (AtomicUsize::new(0), AtomicUsize::new(0), Mutex::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..3 {
                        let key = Digest::of(b"key");
                        let turn = take(dir.path(), &key, &Cancel::default(), &|| {}).unwrap();
                        most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        sweep(dir.path());
                        inside.fetch_sub(1, Ordering::SeqCst);
                        drop(turn);
                        *done.lock().unwrap() += 1;
                    }
                });
            }
        });
        assert_eq!((most.into_inner(), done.into_inner().unwrap()), (1, 24));
        assert_eq!(std::fs::read_dir(place(dir.path())).unwrap().count(), 0);
    }

    #[test]
    fn who_waits_can_be_cancelled_and_what_the_dead_left_is_swept() {
        let dir = tempfile::tempdir().unwrap();
        let key = Digest::of(b"key");
        let turn = take(dir.path(), &key, &Cancel::default(), &|| {}).unwrap();
        let cancel = Cancel::default();
        let told = AtomicUsize::new(0);
        let refused = take(dir.path(), &key, &cancel, &|| {
            told.fetch_add(1, Ordering::SeqCst);
            cancel.cancel();
        });
        assert!(refused.is_err());
        assert_eq!(told.into_inner(), 1);
        sweep(dir.path());
        assert_eq!(std::fs::read_dir(place(dir.path())).unwrap().count(), 1, "a turn that is held stays");
        drop(turn);
        std::fs::write(place(dir.path()).join("dead"), "").unwrap();
        sweep(dir.path());
        assert_eq!(std::fs::read_dir(place(dir.path())).unwrap().count(), 0);
    }
}
