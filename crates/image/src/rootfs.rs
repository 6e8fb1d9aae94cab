//! Root file systems of containers and images as trees: export, changes, copying into a volume.
//!
//! Everything is read from the layer directories themselves; nothing is mounted.

use std::collections::{BTreeSet, HashMap};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use fluyt_model::error::IoContext;
use fluyt_model::{Error, Result};
use rustix::fs::{AtFlags, FileType, Mode};

use crate::images::Image;
use crate::layer::complete::find;
use crate::layer::extract::{open_root, show};
use crate::layer::walk::Stack;
use crate::layer::{copy, pack};
use crate::store::Store;

/// How a path of a container differs from its image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChangeKind {
    /// Its content or metadata changed, or something below it did.
    Modified,
    /// It is new.
    Added,
    /// It was removed.
    Deleted,
}

impl ChangeKind {
    /// The letter that `docker diff` shows.
    #[must_use]
    pub fn letter(self) -> char {
        match self {
            Self::Modified => 'C',
            Self::Added => 'A',
            Self::Deleted => 'D',
        }
    }
}

/// One difference between a container and its image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// How it differs.
    pub kind: ChangeKind,
    /// The absolute path inside the container.
    pub path: String,
}

/// Writes the merged tree of `dirs` (topmost first: the writable layer, then the image's) as an archive.
///
/// # Errors
/// I/O errors with the path.
pub fn export<W: Write>(dirs: &[PathBuf], output: W) -> Result<W> {
    pack::pack(&Stack::open(dirs)?, output, &|_| false)
}

/// Writes the tree of an open directory, for instance a mounted root file system, as an archive.
///
/// # Errors
/// I/O errors with the path.
pub fn export_mounted<W: Write>(root: OwnedFd, output: W) -> Result<W> {
    pack::pack(&Stack::from_fds(vec![root]), output, &|_| false)
}

/// How the writable layer `upper` differs from the layers `lowers` (topmost first), sorted by path.
///
/// # Errors
/// I/O errors with the path.
pub fn changes(upper: &Path, lowers: &[PathBuf]) -> Result<Vec<Change>> {
    let top = Stack::open(&[upper.to_owned()])?.raw();
    let below = Stack::open(lowers)?;
    let mut found: HashMap<Vec<u8>, ChangeKind> = HashMap::new();
    top.walk(b"", &mut |node| {
        let lower = find(below.roots(), node.path)?;
        if node.is_whiteout() {
            if lower.is_some() {
                found.insert(node.path.to_vec(), ChangeKind::Deleted);
            }
            return Ok(());
        }
        let Some(lower) = lower else {
            found.insert(node.path.to_vec(), ChangeKind::Added);
            return Ok(());
        };
        let old = rustix::fs::fstat(&lower).about(|| show(node.path))?;
        let both_directories =
            node.kind() == FileType::Directory && FileType::from_raw_mode(old.st_mode) == FileType::Directory;
        if both_directories && is_opaque_node(node)? {
            deleted_below(&below, &top, node.path, &mut found)?;
            found.insert(node.path.to_vec(), ChangeKind::Modified);
            return Ok(());
        }
        let same_directory = both_directories
            && (old.st_mode, old.st_uid, old.st_gid)
                == (node.stat.st_mode, node.stat.st_uid, node.stat.st_gid)
            && (old.st_mtime, old.st_mtime_nsec) == (node.stat.st_mtime, node.stat.st_mtime_nsec);
        if !same_directory {
            found.insert(node.path.to_vec(), ChangeKind::Modified);
        }
        Ok(())
    })?;
    add_parents(&mut found);
    let mut list: Vec<Change> =
        found.into_iter().map(|(path, kind)| Change { kind, path: format!("/{}", show(&path)) }).collect();
    list.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(list)
}

fn is_opaque_node(node: &crate::layer::walk::Node<'_>) -> Result<bool> {
    Ok(copy::is_opaque(&node.open_path()?))
}

/// What the opaque directory `path` hides: its lower content without what it has anew.
fn deleted_below(
    below: &Stack,
    top: &Stack,
    path: &[u8],
    found: &mut HashMap<Vec<u8>, ChangeKind>,
) -> Result<()> {
    below.walk(path, &mut |node| {
        let direct = node.path.len() == path.len() + 1 + node.name.len();
        if direct && find(top.roots(), node.path)?.is_none() {
            found.insert(node.path.to_vec(), ChangeKind::Deleted);
        }
        Ok(())
    })
}

/// A change below a directory is a change of the directory.
fn add_parents(found: &mut HashMap<Vec<u8>, ChangeKind>) {
    let mut parents = BTreeSet::new();
    for path in found.keys() {
        let mut rest = path.as_slice();
        while let Some((parent, _)) =
            crate::layer::extract::split(rest).filter(|(parent, _)| !parent.is_empty())
        {
            parents.insert(parent.to_vec());
            rest = parent;
        }
    }
    for parent in parents {
        found.entry(parent).or_insert(ChangeKind::Modified);
    }
}

impl Store {
    /// What the image has at `path`, resolved inside it, as directories for an overlay, topmost first; one alone is a
    /// directory or file to be shown as it is. An empty path stands for the whole image.
    ///
    /// # Errors
    /// `Kind::NotFound` if the image has nothing there; I/O errors with the path.
    pub fn subtree(&self, image: &Image, path: &str) -> Result<Vec<PathBuf>> {
        let lowers = self.snapshot_lowers(image);
        if path.split('/').all(|part| matches!(part, "" | ".")) {
            return Ok(lowers);
        }
        let stack = Stack::open(&lowers)?;
        let (clean, found) = stack
            .resolve(path.as_bytes())?
            .ok_or_else(|| Error::not_found(format!("the image has no {path}")))?;
        let stat = rustix::fs::fstat(&found).about(|| path.to_owned())?;
        let below = std::ffi::OsStr::from_bytes(&clean);
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            return Ok(stack.contributors(&clean)?.into_iter().map(|at| lowers[at].join(below)).collect());
        }
        for (at, layer) in lowers.iter().enumerate() {
            if find(&stack.roots()[at..=at], &clean)?.is_some() {
                return Ok(vec![layer.join(below)]);
            }
        }
        Err(Error::not_found(format!("the image has no {path}")))
    }

    /// Copies what the image has at the absolute path `path` into the existing directory `dest`: content, owner,
    /// modes, attributes, times, hard links; the directory itself gets the metadata of the one in the image.
    ///
    /// Returns whether there was such a directory; if the image has nothing or no directory there, nothing is done.
    ///
    /// # Errors
    /// I/O errors with the path.
    pub fn copy_up(&self, image: &Image, path: &str, dest: &Path) -> Result<bool> {
        let stack = Stack::open(&self.snapshot_lowers(image))?;
        let Some((start, found)) = stack.resolve(path.as_bytes())? else { return Ok(false) };
        let stat = rustix::fs::fstat(&found).about(|| path.to_owned())?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            return Ok(false);
        }
        let root = open_root(dest)?;
        let mut links: HashMap<(u64, u64), Vec<u8>> = HashMap::new();
        let mut directories = Vec::new();
        stack.walk(&start, &mut |node| {
            let below = if start.is_empty() { node.path } else { &node.path[start.len() + 1..] };
            let about = |e: Error| e.context(format!("copying {:?} to {}", show(node.path), dest.display()));
            let (parent, name) = crate::layer::extract::split(below).expect("a node has a name");
            let dir = copy::open_dir_in(&root, parent).about(|| show(parent)).map_err(about)?;
            if node.kind() == FileType::Directory {
                match rustix::fs::mkdirat(&dir, name, Mode::RWXU) {
                    Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                    Err(e) => return Err(about(Error::io("creating it", e.into()))),
                }
                directories.push((below.to_vec(), node.path.to_vec()));
                return Ok(());
            }
            if node.stat.st_nlink > 1
                && let Some(first) = links.get(&(node.stat.st_dev, node.stat.st_ino))
            {
                let linked = rustix::fs::linkat(&root, &**first, &dir, name, AtFlags::empty());
                return linked.about(|| "linking it").map_err(about);
            }
            copy::file(&node.open_path()?, &dir, name).map_err(about)?;
            links.insert((node.stat.st_dev, node.stat.st_ino), below.to_vec());
            Ok(())
        })?;
        // Deepest last in the walk, so backwards: a time set is not changed again by what is made below.
        for (below, path) in directories.into_iter().rev() {
            let Some(source) = find(stack.roots(), &path)? else { continue };
            let stat = rustix::fs::fstat(&source).about(|| show(&path))?;
            let own = copy::open_dir_in(&root, &below).about(|| show(&below))?;
            copy::metadata(&source, &own, &stat)
                .map_err(|e| e.context(format!("copying {:?}", show(&path))))?;
        }
        copy::metadata(&found, &copy::open_dir_in(&root, b"").about(|| dest.display().to_string())?, &stat)?;
        Ok(true)
    }
}
