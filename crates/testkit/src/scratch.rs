//! A directory of one test, on a real file system, gone when the test ends.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A directory that is removed when dropped, with whatever is still mounted below it.
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// A fresh directory whose name begins with `name`.
    ///
    /// # Panics
    /// The temporary directory cannot be written.
    #[must_use]
    pub fn new(name: &str) -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("fluyt-{name}-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        Self { path }
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path below it.
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path.join(name)
    }

    /// Writes a file below it and returns its path.
    ///
    /// # Panics
    /// The file cannot be written.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).unwrap_or_else(|e| panic!("{}: {e}", parent.display()));
        }
        fs::write(&path, content).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        for _ in 0..64 {
            let below = mounts_below(&self.path);
            if below.is_empty() {
                break;
            }
            for mount in below.iter().rev() {
                let _ = Command::new("umount").arg("-l").arg(mount).output();
            }
        }
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Mount points of this mount namespace at or below `path`, in mount order.
#[must_use]
pub fn mounts_below(path: &Path) -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let points = table.lines().filter_map(|l| l.split(' ').nth(4)).map(PathBuf::from);
    points.filter(|p| p.starts_with(path)).collect()
}
