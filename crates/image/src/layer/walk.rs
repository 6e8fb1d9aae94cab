//! Walks a stack of layer directories as the one tree that an overlay of them would show, without mounting it.
//!
//! Topmost first. A whiteout hides what is below it, an opaque directory hides its lower namesakes. Directories
//! are opened again by their path inside their layer, links not followed, so that depth costs no descriptors. The
//! order is that of the names' bytes, a directory's entries before those of its subdirectories.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use fluyt_model::error::IoContext;
use fluyt_model::{Error, Result};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, ResolveFlags, Stat};

use super::copy::is_opaque;
use super::extract::{open_root, show};

/// The most entries of one tree.
const MAX_ENTRIES: u64 = 100_000_000;

/// One entry of a walk.
pub(crate) struct Node<'a> {
    /// The path from the root, without a leading slash.
    pub path: &'a [u8],
    /// The directory that it is in, in its own layer.
    pub dir: &'a OwnedFd,
    /// Its name in there.
    pub name: &'a [u8],
    /// Its status.
    pub stat: &'a Stat,
}

impl Node<'_> {
    /// Its kind.
    pub(crate) fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }

    /// Whether it marks a removed name (seen only with [`Stack::raw`]).
    pub(crate) fn is_whiteout(&self) -> bool {
        is_whiteout(self.stat)
    }

    /// Opens it without following it, for status and attributes.
    pub(crate) fn open_path(&self) -> Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(self.dir, self.name, flags, Mode::empty()).about(|| show(self.path))
    }

    /// Opens a regular file for reading.
    pub(crate) fn open_file(&self) -> Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        rustix::fs::openat(self.dir, self.name, flags, Mode::empty()).about(|| show(self.path))
    }
}

pub(crate) fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// A stack of layers, topmost first.
pub(crate) struct Stack {
    roots: Vec<OwnedFd>,
    raw: bool,
}

/// A directory to visit: its path and the layers that contribute to it, topmost first.
struct Open {
    path: Vec<u8>,
    layers: Vec<usize>,
}

impl Stack {
    /// Opens the layers at `dirs`, topmost first.
    pub(crate) fn open(dirs: &[PathBuf]) -> Result<Self> {
        Ok(Self { roots: dirs.iter().map(|dir| open_root(dir)).collect::<Result<_>>()?, raw: false })
    }

    /// A stack of directories that are open already.
    pub(crate) fn from_fds(roots: Vec<OwnedFd>) -> Self {
        Self { roots, raw: false }
    }

    /// Shows whiteouts instead of applying them: for the content of one layer.
    pub(crate) fn raw(mut self) -> Self {
        self.raw = true;
        self
    }

    /// Whether whiteouts are shown.
    pub(crate) fn is_raw(&self) -> bool {
        self.raw
    }

    /// The roots, topmost first.
    pub(crate) fn roots(&self) -> &[OwnedFd] {
        &self.roots
    }

    /// The layers that contribute to the directory `path` (clean, no links on the way), topmost first.
    pub(crate) fn contributors(&self, path: &[u8]) -> Result<Vec<usize>> {
        let mut layers: Vec<usize> = self.until_opaque((0..self.roots.len()).collect(), b"")?;
        let mut end = 0;
        while end < path.len() {
            let next = memchr::memchr(b'/', &path[end..]).map_or(path.len(), |at| end + at);
            layers = self.step(&layers, &path[..next])?;
            end = next + 1;
        }
        Ok(layers)
    }

    /// From the layers that contribute to a directory to those that contribute to its subdirectory `path`.
    fn step(&self, layers: &[usize], path: &[u8]) -> Result<Vec<usize>> {
        let mut found = Vec::new();
        for layer in layers {
            match rustix::fs::openat2(
                &self.roots[*layer],
                path,
                OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
                Mode::empty(),
                inside(),
            ) {
                Ok(fd) => {
                    let stat = rustix::fs::fstat(&fd).about(|| show(path))?;
                    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                        break;
                    }
                    found.push(*layer);
                }
                Err(rustix::io::Errno::NOENT) => {}
                Err(rustix::io::Errno::NOTDIR | rustix::io::Errno::LOOP) => break,
                Err(e) => return Err(Error::io(show(path), e.into())),
            }
        }
        self.until_opaque(found, path)
    }

    /// Cuts a list of contributing layers after the first that is opaque at `path`.
    fn until_opaque(&self, mut layers: Vec<usize>, path: &[u8]) -> Result<Vec<usize>> {
        if self.raw || layers.len() < 2 {
            return Ok(layers);
        }
        for (at, layer) in layers.iter().enumerate() {
            if is_opaque(&self.open_dir(*layer, path)?) {
                layers.truncate(at + 1);
                break;
            }
        }
        Ok(layers)
    }

    fn open_dir(&self, layer: usize, path: &[u8]) -> Result<OwnedFd> {
        let path_or_dot = if path.is_empty() { b"." } else { path };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat2(&self.roots[layer], path_or_dot, flags, Mode::empty(), inside())
            .about(|| show(path))
    }

    /// Visits everything below the directory `start` (empty for the root; no links on the way).
    pub(crate) fn walk(&self, start: &[u8], visit: &mut dyn FnMut(&Node<'_>) -> Result<()>) -> Result<()> {
        let mut stack = vec![Open { path: start.to_vec(), layers: self.contributors(start)? }];
        let mut seen = 0;
        while let Some(open) = stack.pop() {
            let dirs: Vec<OwnedFd> =
                open.layers.iter().map(|layer| self.open_dir(*layer, &open.path)).collect::<Result<_>>()?;
            let names = merged_names(&dirs, &open.path)?;
            let mut below = Vec::new();
            for (name, at) in names {
                seen += 1;
                if seen > MAX_ENTRIES {
                    return Err(Error::new(fluyt_model::Kind::Exhausted, "the tree has too many entries"));
                }
                let path =
                    if open.path.is_empty() { name.clone() } else { [&open.path, &b"/"[..], &name].concat() };
                let stat = match rustix::fs::statat(&dirs[at], &*name, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(stat) => stat,
                    // Removed since it was listed: the tree may be in use.
                    Err(rustix::io::Errno::NOENT) => continue,
                    Err(e) => return Err(Error::io(show(&path), e.into())),
                };
                if !self.raw && is_whiteout(&stat) {
                    continue;
                }
                visit(&Node { path: &path, dir: &dirs[at], name: &name, stat: &stat })?;
                if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                    below.push(Open { layers: self.step(&open.layers[at..], &path)?, path });
                }
            }
            stack.extend(below.into_iter().rev());
        }
        Ok(())
    }

    /// Follows links inside the merged tree, as a process with this root would; `None` where nothing is.
    pub(crate) fn resolve(&self, path: &[u8]) -> Result<Option<(Vec<u8>, OwnedFd)>> {
        let mut todo: Vec<Vec<u8>> = parts(path).rev().collect();
        let mut at: Vec<Vec<u8>> = Vec::new();
        let mut links = 0;
        while let Some(part) = todo.pop() {
            if part == b".." {
                at.pop();
                continue;
            }
            at.push(part);
            let Some(found) = super::complete::find(&self.roots, &at.join(&b'/'))? else { return Ok(None) };
            let stat = rustix::fs::fstat(&found).about(|| show(path))?;
            if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
                continue;
            }
            links += 1;
            if links > 40 {
                return Err(Error::invalid(format!("too many symbolic links in {:?}", show(path))));
            }
            let target = rustix::fs::readlinkat(&found, "", Vec::new()).about(|| show(path))?.into_bytes();
            at.pop();
            if target.starts_with(b"/") {
                at.clear();
            }
            todo.extend(parts(&target).rev());
        }
        let clean = at.join(&b'/');
        Ok(super::complete::find(&self.roots, &clean)?.map(|found| (clean, found)))
    }
}

fn parts(path: &[u8]) -> impl DoubleEndedIterator<Item = Vec<u8>> {
    path.split(|b| *b == b'/').filter(|p| !matches!(*p, b"" | b".")).map(<[u8]>::to_vec)
}

fn inside() -> ResolveFlags {
    ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS
}

/// The names in a list of directories, each with the topmost directory that has it, sorted.
fn merged_names(dirs: &[OwnedFd], path: &[u8]) -> Result<BTreeMap<Vec<u8>, usize>> {
    let mut names = BTreeMap::new();
    for (at, dir) in dirs.iter().enumerate() {
        let mut buffer = Vec::with_capacity(32 * 1024);
        let mut entries = RawDir::new(dir, buffer.spare_capacity_mut());
        while let Some(entry) = entries.next() {
            let entry = entry.about(|| show(path))?;
            let name = entry.file_name().to_bytes();
            if !matches!(name, b"." | b"..") {
                names.entry(name.to_vec()).or_insert(at);
            }
        }
    }
    Ok(names)
}
