//! Directories of this machine, watched with all that is below them by inotify(7): which paths have changed.
//!
//! Nothing is lost: a directory is watched before it is read, so that what is made in between is told by one of the
//! two; when the kernel's queue overflows, everything is read anew and held against what was known.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fluyt_model::error::IoContext;
use fluyt_model::{Error, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;

/// Whether a directory is not to be looked into.
pub type Skip<'s> = Box<dyn Fn(&Path) -> bool + 's>;

/// What a file was when it was last looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    size: u64,
    mode: u32,
    changed: (i64, i64),
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let meta = path.symlink_metadata().ok()?;
        // A directory changes with its entries, which are told by themselves.
        let changed = if meta.is_dir() { (0, 0) } else { (meta.ctime(), meta.ctime_nsec()) };
        let size = if meta.is_dir() { 0 } else { meta.size() };
        Some(Self { inode: meta.ino(), size, mode: meta.mode(), changed })
    }
}

/// Files and directories that are watched.
pub struct Tree<'s> {
    fd: OwnedFd,
    roots: Vec<PathBuf>,
    skip: Skip<'s>,
    directories: HashMap<i32, PathBuf>,
    watches: BTreeMap<PathBuf, i32>,
    known: BTreeMap<PathBuf, Stamp>,
    changed: BTreeSet<PathBuf>,
}

fn open() -> Result<OwnedFd> {
    inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).map_err(|e| {
        let error = Error::io("inotify", e.into());
        match e {
            Errno::MFILE => error.with_hint("allow more: sysctl fs.inotify.max_user_instances=1024"),
            _ => error,
        }
    })
}

impl<'s> Tree<'s> {
    /// Watches these roots: directories with all that is below them, files, and what is not there yet.
    ///
    /// # Errors
    /// The kernel's limits are reached.
    pub fn new(roots: Vec<PathBuf>, skip: Skip<'s>) -> Result<Self> {
        let mut tree = Self {
            fd: open()?,
            roots,
            skip,
            directories: HashMap::new(),
            watches: BTreeMap::new(),
            known: BTreeMap::new(),
            changed: BTreeSet::new(),
        };
        tree.begin()?;
        tree.changed.clear();
        Ok(tree)
    }

    /// Takes in what the kernel tells; whether anything has changed.
    ///
    /// # Errors
    /// The kernel's limits are reached.
    pub fn read(&mut self) -> Result<bool> {
        let before = self.changed.len();
        let mut events = Vec::new();
        let mut overflow = false;
        let mut buffer = [MaybeUninit::<u8>::uninit(); 16 * 1024];
        let mut reader = inotify::Reader::new(&self.fd, &mut buffer);
        loop {
            match reader.next() {
                Ok(event) => {
                    overflow |= event.events().contains(ReadFlags::QUEUE_OVERFLOW);
                    let name = event.file_name().map(|n| OsStr::from_bytes(n.to_bytes()).to_owned());
                    events.push((event.wd(), event.events(), name));
                }
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(e) => return Err(Error::io("inotify", e.into())),
            }
        }
        if overflow {
            self.anew()?;
        } else {
            for (wd, flags, name) in events {
                self.event(wd, flags, name.as_deref())?;
            }
        }
        Ok(self.changed.len() > before || overflow && !self.changed.is_empty())
    }

    /// Waits for something to read, at most so long.
    ///
    /// # Errors
    /// poll(2) fails.
    pub fn wait(&self, timeout: Option<Duration>) -> Result<()> {
        let timeout = timeout.map(|t| Timespec {
            tv_sec: i64::try_from(t.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: t.subsec_nanos().into(),
        });
        match poll(&mut [PollFd::new(&self.fd, PollFlags::IN)], timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(e) => Err(std::io::Error::from(e)).about(|| "poll"),
        }
    }

    /// The paths that have changed since the last call.
    pub fn take(&mut self) -> BTreeSet<PathBuf> {
        std::mem::take(&mut self.changed)
    }

    /// Everything that is known below a path, itself too.
    pub fn below(&self, path: &Path) -> Vec<PathBuf> {
        within(&self.known, path).collect()
    }

    fn begin(&mut self) -> Result<()> {
        for root in self.roots.clone() {
            // Its directory tells when it comes, goes or is replaced; the nearest one that is there, for what is not.
            let nearest = root.ancestors().skip(1).find(|a| a.is_dir());
            if let Some(parent) = nearest {
                self.watch(parent)?;
            }
            self.walk(&root)?;
        }
        Ok(())
    }

    /// After an overflow: nothing that was told can be relied on.
    fn anew(&mut self) -> Result<()> {
        self.fd = open()?;
        self.directories.clear();
        self.watches.clear();
        let old = std::mem::take(&mut self.known);
        let told = std::mem::take(&mut self.changed);
        self.begin()?;
        self.changed = told;
        let new = self.known.iter().filter(|(path, stamp)| old.get(*path) != Some(stamp)).map(|(p, _)| p);
        self.changed.extend(new.cloned());
        self.changed.extend(old.into_keys().filter(|path| !self.known.contains_key(path)));
        Ok(())
    }

    fn event(&mut self, wd: i32, flags: ReadFlags, name: Option<&OsStr>) -> Result<()> {
        if flags.contains(ReadFlags::IGNORED) {
            if let Some(path) = self.directories.remove(&wd)
                && self.watches.get(&path) == Some(&wd)
            {
                self.watches.remove(&path);
            }
            return Ok(());
        }
        let (Some(directory), Some(name)) = (self.directories.get(&wd), name) else { return Ok(()) };
        let path = directory.join(name);
        if flags.intersects(ReadFlags::DELETE | ReadFlags::MOVED_FROM) {
            self.gone(&path);
            return Ok(());
        }
        let directory = flags.contains(ReadFlags::ISDIR);
        if flags.intersects(ReadFlags::CREATE | ReadFlags::MOVED_TO) {
            // Something else may have had the name before.
            if directory {
                self.gone(&path);
            }
            return self.walk(&path);
        }
        if self.is_ours(&path) && !(directory && self.roots.contains(&path)) {
            self.note(&path);
        }
        Ok(())
    }

    /// Whether a root is the path or above it.
    fn is_ours(&self, path: &Path) -> bool {
        self.roots.iter().any(|root| path.starts_with(root))
    }

    fn leads_to_ours(&self, path: &Path) -> bool {
        self.roots.iter().any(|root| root.starts_with(path))
    }

    fn note(&mut self, path: &Path) {
        match Stamp::of(path) {
            Some(stamp) => drop(self.known.insert(path.to_owned(), stamp)),
            None => drop(self.known.remove(path)),
        }
        self.changed.insert(path.to_owned());
    }

    fn gone(&mut self, path: &Path) {
        let watched: Vec<PathBuf> = within(&self.watches, path).collect();
        for directory in watched {
            if let Some(wd) = self.watches.remove(&directory) {
                self.directories.remove(&wd);
                // It may be gone with the directory already.
                let _ = inotify::remove_watch(&self.fd, wd);
            }
        }
        let known: Vec<PathBuf> = within(&self.known, path).collect();
        for path in known {
            self.known.remove(&path);
            self.changed.insert(path);
        }
    }

    /// Takes in a path with all that is below it.
    fn walk(&mut self, start: &Path) -> Result<()> {
        let mut todo = vec![start.to_owned()];
        while let Some(path) = todo.pop() {
            let ours = self.is_ours(&path);
            if !ours && !self.leads_to_ours(&path) {
                continue;
            }
            // A root may be a link to a directory; below it, links are what they are.
            let root = self.roots.contains(&path);
            let is_directory = match root {
                true => path.is_dir(),
                false => path.symlink_metadata().is_ok_and(|m| m.is_dir()),
            };
            if ours && !(root && is_directory) {
                self.note(&path);
            }
            if !is_directory || (ours && !root && (self.skip)(&path)) || !self.watch(&path)? {
                continue;
            }
            let Ok(entries) = std::fs::read_dir(&path) else { continue };
            todo.extend(entries.flatten().map(|e| e.path()));
        }
        Ok(())
    }

    /// Watches one directory; whether it can be.
    fn watch(&mut self, path: &Path) -> Result<bool> {
        let flags = WatchFlags::CREATE
            | WatchFlags::MODIFY
            | WatchFlags::ATTRIB
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::DELETE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::ONLYDIR
            | WatchFlags::EXCL_UNLINK;
        match inotify::add_watch(&self.fd, path, flags) {
            Ok(wd) => {
                if let Some(old) = self.directories.insert(wd, path.to_owned()).filter(|old| old != path) {
                    self.watches.remove(&old);
                }
                self.watches.insert(path.to_owned(), wd);
                Ok(true)
            }
            Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS | Errno::LOOP) => Ok(false),
            Err(e) => {
                let error = Error::io(format!("watching {}", path.display()), e.into());
                Err(match e {
                    Errno::NOSPC => error.with_hint(
                        "there are more directories than may be watched: ignore some (`ignore:`), or allow more: \
                         sysctl fs.inotify.max_user_watches=524288",
                    ),
                    _ => error,
                })
            }
        }
    }
}

impl AsFd for Tree<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The keys that are a path or below it. (Paths are ordered by their elements, so those stand together.)
fn within<'m, V>(map: &'m BTreeMap<PathBuf, V>, path: &'m Path) -> impl Iterator<Item = PathBuf> + 'm {
    map.range(path.to_owned()..).map(|(key, _)| key).take_while(move |key| key.starts_with(path)).cloned()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Instant;

    use super::*;

    fn names(tree: &mut Tree<'_>, base: &Path) -> Vec<String> {
        tree.read().unwrap();
        let all = tree.take();
        all.iter().map(|p| p.strip_prefix(base).unwrap().to_string_lossy().into_owned()).collect()
    }

    /// Reads until a path has been told, or three seconds have passed.
    fn told(tree: &mut Tree<'_>, base: &Path, name: &str) -> bool {
        let end = Instant::now() + Duration::from_secs(3);
        while Instant::now() < end {
            if names(tree, base).iter().any(|n| n == name) {
                return true;
            }
            tree.wait(Some(Duration::from_millis(20))).unwrap();
        }
        false
    }

    #[test]
    fn everything_below_is_told_and_what_is_skipped_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().canonicalize().unwrap();
        fs::create_dir_all(base.join("src/deep")).unwrap();
        fs::create_dir_all(base.join("src/modules/x")).unwrap();
        fs::write(base.join("src/deep/old"), "1").unwrap();
        let skip: Skip<'_> = Box::new(|p| p.file_name().is_some_and(|n| n == "modules"));
        let mut tree = Tree::new(vec![base.join("src")], skip).unwrap();
        assert!(names(&mut tree, &base).is_empty());
        fs::write(base.join("src/modules/x/a"), "1").unwrap();
        fs::write(base.join("beside"), "1").unwrap();
        assert!(names(&mut tree, &base).is_empty());
        fs::write(base.join("src/deep/old"), "2").unwrap();
        assert_eq!(names(&mut tree, &base), ["src/deep/old"]);
        fs::create_dir_all(base.join("src/new/er")).unwrap();
        fs::write(base.join("src/new/er/file"), "1").unwrap();
        assert!(told(&mut tree, &base, "src/new/er/file"));
        fs::write(base.join("src/new/er/file"), "2").unwrap();
        assert!(told(&mut tree, &base, "src/new/er/file"));
        fs::rename(base.join("src/new"), base.join("src/moved")).unwrap();
        let all = names(&mut tree, &base);
        for name in ["src/new", "src/new/er/file", "src/moved", "src/moved/er/file"] {
            assert!(all.iter().any(|n| n == name), "{name}: {all:?}");
        }
        fs::write(base.join("src/moved/er/file"), "3").unwrap();
        assert_eq!(names(&mut tree, &base), ["src/moved/er/file"]);
        fs::remove_dir_all(base.join("src/moved")).unwrap();
        let all = names(&mut tree, &base);
        assert!(all.iter().any(|n| n == "src/moved"), "{all:?}");
    }

    #[test]
    fn files_that_are_replaced_and_roots_that_come_later() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().canonicalize().unwrap();
        fs::write(base.join("file"), "1").unwrap();
        let roots = vec![base.join("file"), base.join("later/on")];
        let mut tree = Tree::new(roots, Box::new(|_| false)).unwrap();
        fs::write(base.join("file.new"), "2").unwrap();
        fs::rename(base.join("file.new"), base.join("file")).unwrap();
        assert_eq!(names(&mut tree, &base), ["file"]);
        fs::write(base.join("file"), "3").unwrap();
        assert_eq!(names(&mut tree, &base), ["file"]);
        fs::create_dir(base.join("later")).unwrap();
        assert!(names(&mut tree, &base).is_empty());
        fs::create_dir(base.join("later/on")).unwrap();
        names(&mut tree, &base);
        fs::write(base.join("later/on/file"), "1").unwrap();
        assert!(told(&mut tree, &base, "later/on/file"));
        fs::remove_dir_all(base.join("later")).unwrap();
        assert!(told(&mut tree, &base, "later/on/file"));
    }

    #[test]
    fn after_an_overflow_what_differs_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().canonicalize().unwrap();
        for name in ["same", "changes", "goes"] {
            fs::write(base.join(name), "1").unwrap();
        }
        let mut tree = Tree::new(vec![base.clone()], Box::new(|_| false)).unwrap();
        fs::write(base.join("changes"), "22").unwrap();
        fs::write(base.join("comes"), "1").unwrap();
        fs::remove_file(base.join("goes")).unwrap();
        tree.anew().unwrap();
        assert_eq!(names(&mut tree, &base), ["changes", "comes", "goes"]);
        fs::write(base.join("same"), "2").unwrap();
        assert_eq!(names(&mut tree, &base), ["same"]);
    }
}
