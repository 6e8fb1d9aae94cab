//! File trees as descriptors: layers as an overlay that is mounted nowhere, a context as its directory. Paths are
//! resolved inside them, as a process with that root would.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use fluyt_model::error::IoContext;
use fluyt_model::{Error, Result};
use fluyt_runtime::Rootfs;
use fluyt_sys::mount::{self, Attr};
use rustix::fs::{CWD, FileType, Mode, OFlags, RawDir, ResolveFlags, Stat};

/// The links that a path may lead through.
const MAX_DEPTH: usize = 4096;

/// The longest text that is read, in bytes: the records of a large distribution have a tenth of it.
const MAX_TEXT: u64 = 64 << 20;

/// The root of a tree.
#[derive(Debug)]
pub struct Root(pub OwnedFd);

/// Opens a directory of the host.
pub fn open_dir(path: &Path) -> Result<Root> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, path, flags, Mode::empty()).about(|| path.display().to_string()).map(Root)
}

/// Directories of layers, topmost first, each once: an overlay refuses one that comes twice, and what a layer hides or
/// shows is decided by its topmost place.
#[must_use]
pub fn distinct(dirs: impl IntoIterator<Item = PathBuf>) -> Vec<PathBuf> {
    let mut seen = BTreeSet::new();
    dirs.into_iter().filter(|dir| seen.insert(dir.clone())).collect()
}

/// Opens the tree of layers, topmost first, for reading. `spare` is an empty directory.
pub fn open_layers(layers: &[PathBuf], spare: &Path) -> Result<Root> {
    match &distinct(layers.iter().cloned())[..] {
        [] => open_dir(spare),
        [one] => open_dir(one),
        many => overlay(many, None, spare),
    }
}

/// Mounts an overlay of layers, topmost first, nowhere.
pub fn overlay(layers: &[PathBuf], upper: Option<(&Path, &Path)>, mountpoint: &Path) -> Result<Root> {
    let (upper, work) = upper.unwrap_or((Path::new(""), Path::new("")));
    let rootfs = Rootfs::Overlay {
        lower: layers.to_vec(),
        upper: upper.to_owned(),
        work: work.to_owned(),
        options: vec!["redirect_dir=off".to_owned(), "metacopy=off".to_owned()],
        target: mountpoint.to_owned(),
        mapped: None,
    };
    let made = fluyt_runtime::overlay(&rootfs)?;
    // Files are read and written through it, nothing else.
    let plain = Attr { set: mount::NODEV | mount::NOSUID | mount::NOEXEC, ..Attr::default() };
    mount::setattr(made.as_fd(), &plain, false).about(|| "an overlay")?;
    // What the mount gives is a path only.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(&made, ".", flags, Mode::empty()).about(|| "an overlay").map(Root)
}

impl Root {
    /// Opens what is at `path`; links are followed if `follow`.
    pub fn at(&self, path: &str, follow: bool) -> rustix::io::Result<OwnedFd> {
        let nofollow = if follow { OFlags::empty() } else { OFlags::NOFOLLOW };
        self.open(path, OFlags::PATH | nofollow)
    }

    /// Opens with flags.
    pub fn open(&self, path: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let bare = path.trim_matches('/');
        let bare = if bare.is_empty() { "." } else { bare };
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        rustix::fs::openat2(&self.0, bare, flags | OFlags::CLOEXEC, Mode::empty(), resolve)
    }

    /// A directory, for reading its names.
    pub fn dir(&self, path: &str) -> Result<OwnedFd> {
        self.open(path, OFlags::RDONLY | OFlags::DIRECTORY).about(|| path.to_owned())
    }

    /// The sorted names in a directory.
    pub fn names(&self, path: &str) -> Result<Vec<String>> {
        names(&self.dir(path)?, path)
    }

    /// The path that `path` leads to when links are followed inside the tree: absolute, without links.
    pub fn real_path(&self, path: &str) -> Result<String> {
        let (path, missing) = self.lead(path)?;
        missing.map_or(Ok(path), |(_, error)| Err(error))
    }

    /// The path that `path` leads to, and of it the topmost path that is not there: what making it would make.
    ///
    /// # Errors
    /// Those of looking, but for what is missing; links in a circle.
    pub fn missing(&self, path: &str) -> Result<(String, Option<String>)> {
        let (path, missing) = self.lead(path)?;
        Ok((path, missing.map(|(top, _)| top)))
    }

    /// Follows `path` through all links; with the topmost path that is missing and the error of looking for it.
    fn lead(&self, path: &str) -> Result<(String, Option<(String, Error)>)> {
        let split = |path: &str| -> Vec<String> {
            path.split('/').filter(|part| !matches!(*part, "" | ".")).rev().map(str::to_owned).collect()
        };
        let mut todo = split(path);
        let mut at: Vec<String> = Vec::new();
        let mut links = 0;
        let mut missing: Option<(String, Error)> = None;
        while let Some(part) = todo.pop() {
            if part == ".." {
                at.pop();
                // Out of what is missing: nothing of it is on the way any more.
                let here = format!("/{}", at.join("/"));
                if missing.as_ref().is_some_and(|(top, _)| here.len() < top.len()) {
                    missing = None;
                }
                continue;
            }
            at.push(part);
            if missing.is_some() {
                continue;
            }
            let here = format!("/{}", at.join("/"));
            let fd = match self.at(&here, false) {
                Ok(fd) => fd,
                Err(e) => {
                    let text = format!("failed to calculate checksum: {path:?}: not found");
                    let absent = e == rustix::io::Errno::NOENT;
                    let error = Error::io(text, e.into());
                    if !absent {
                        return Err(error);
                    }
                    missing = Some((here, error));
                    continue;
                }
            };
            let stat = rustix::fs::fstat(&fd).about(|| here.clone())?;
            if kind(&stat) != FileType::Symlink {
                continue;
            }
            links += 1;
            if links > 40 {
                return Err(Error::invalid(format!("{path}: too many symbolic links")));
            }
            let target = rustix::fs::readlinkat(&fd, "", Vec::new()).about(|| here.clone())?;
            let target = target.to_string_lossy().into_owned();
            at.pop();
            if target.starts_with('/') {
                at.clear();
            }
            todo.extend(split(&target));
        }
        Ok((format!("/{}", at.join("/")), missing))
    }

    /// Opens a regular file, for reading. Nothing else is ever opened: what the device that a foreign tree has does when it
    /// is opened, it does to this machine.
    ///
    /// # Errors
    /// `InvalidInput` for what is something else; those of looking for it.
    pub fn regular(&self, path: &str) -> std::io::Result<File> {
        let found = self.at(path, true)?;
        if kind(&rustix::fs::fstat(&found)?) != FileType::RegularFile {
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, "not a regular file"));
        }
        File::open(fd_path(&found))
    }

    /// The text of a regular file, if it is there and no longer than any that an image has for us.
    pub fn text(&self, path: &str) -> Option<String> {
        let mut text = String::new();
        let length = self.regular(path).ok()?.take(MAX_TEXT + 1).read_to_string(&mut text).ok()?;
        (length as u64 <= MAX_TEXT).then_some(text)
    }
}

/// The sorted names in an open directory.
pub fn names(dir: &OwnedFd, path: &str) -> Result<Vec<String>> {
    let mut found = BTreeSet::new();
    let mut buffer = Vec::with_capacity(32 * 1024);
    let mut entries = RawDir::new(dir, buffer.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        let entry = entry.about(|| path.to_owned())?;
        let name = entry.file_name().to_bytes();
        if matches!(name, b"." | b"..") {
            continue;
        }
        let name = std::str::from_utf8(name).map_err(|_| {
            Error::unsupported(format!(
                "{path}: a file name is not UTF-8: {:?}",
                String::from_utf8_lossy(name)
            ))
        })?;
        found.insert(name.to_owned());
    }
    Ok(found.into_iter().collect())
}

/// The kind of a status.
pub fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// The path of an open file for calls that take paths only.
pub fn fd_path(fd: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// Refuses trees deeper than any program makes them.
pub fn check_depth(path: &str) -> Result<()> {
    if path.bytes().filter(|b| *b == b'/').count() > MAX_DEPTH {
        return Err(Error::invalid(format!("{path}: too many directories below one another")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::inotify;

    #[test]
    fn only_regular_files_of_a_bounded_length_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let root = open_dir(dir.path()).unwrap();
        std::fs::write(dir.path().join("passwd"), "root:x:0:0\n").unwrap();
        std::os::unix::fs::symlink("/passwd", dir.path().join("link")).unwrap();
        assert_eq!(root.text("/link").as_deref(), Some("root:x:0:0\n"));
        let huge = std::fs::File::create(dir.path().join("huge")).unwrap();
        huge.set_len(MAX_TEXT + 1).unwrap();
        assert_eq!(root.text("huge"), None);
        assert_eq!(root.text("."), None);
        let fifo = dir.path().join("fifo");
        rustix::fs::mknodat(CWD, &fifo, FileType::Fifo, Mode::RWXU, 0).unwrap();
        let events = inotify::init(inotify::CreateFlags::NONBLOCK).unwrap();
        inotify::add_watch(&events, &fifo, inotify::WatchFlags::OPEN).unwrap();
        assert_eq!(root.text("fifo"), None);
        let opened = rustix::io::read(&events, &mut [0; 64]);
        assert_eq!(opened.unwrap_err(), rustix::io::Errno::AGAIN, "it was opened");
        let zero = dir.path().join("zero");
        if rustix::fs::mknodat(CWD, &zero, FileType::CharacterDevice, Mode::RWXU, rustix::fs::makedev(1, 5))
            .is_ok()
        {
            assert_eq!(root.text("zero"), None);
        }
    }

    #[test]
    fn a_path_is_followed_to_what_is_missing_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let root = open_dir(dir.path()).unwrap();
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        std::os::unix::fs::symlink("../run/systemd/resolv.conf", dir.path().join("etc/resolv.conf")).unwrap();
        std::os::unix::fs::symlink("circle", dir.path().join("circle")).unwrap();
        let missing = |path: &str| root.missing(path).unwrap();
        assert_eq!(missing("/etc"), ("/etc".into(), None));
        assert_eq!(missing("/etc/a/b"), ("/etc/a/b".into(), Some("/etc/a".into())));
        assert_eq!(missing("/etc/a/../b/c"), ("/etc/b/c".into(), Some("/etc/b".into())));
        assert_eq!(missing("/gone/../etc"), ("/etc".into(), None));
        assert_eq!(missing("etc/resolv.conf"), ("/run/systemd/resolv.conf".into(), Some("/run".into())));
        assert!(root.missing("circle/x").is_err());
        assert!(root.real_path("/etc/resolv.conf").is_err());
        assert_eq!(root.real_path("//etc/./").unwrap(), "/etc");
    }

    #[test]
    fn nothing_in_an_overlay_is_a_device_or_a_program() {
        if !fluyt_testkit::is_root() {
            return fluyt_testkit::skip("needs root");
        }
        let dir = tempfile::tempdir().unwrap();
        let layers = ["a", "b", "spare"].map(|name| dir.path().join(name));
        layers.iter().for_each(|layer| std::fs::create_dir(layer).unwrap());
        let (null, number) = (layers[0].join("null"), rustix::fs::makedev(1, 3));
        rustix::fs::mknodat(CWD, &null, FileType::CharacterDevice, Mode::RWXU, number).unwrap();
        let root = open_layers(&layers[..2], &layers[2]).unwrap();
        assert!(root.at("null", false).is_ok());
        assert_eq!(root.open("null", OFlags::RDONLY).unwrap_err(), rustix::io::Errno::ACCESS);
    }
}
