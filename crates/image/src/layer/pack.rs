//! Trees as archives: a merged root file system (export), or one layer with its removals (commit).

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};

use fluyt_model::error::IoContext;
use fluyt_model::{Error, Result};
use rustix::fs::{FileType, Stat};

use super::copy::{data_pieces, is_opaque, xattrs_of};
use super::extract::{OPAQUE_WHITEOUT, WHITEOUT, show};
use super::reader::{Entry, EntryKind};
use super::walk::{Node, Stack};
use super::writer::{TarWriter, plain};

/// Files below this size are written whole, holes or not.
const SPARSE_FROM: u64 = 1 << 20;

/// Writes the tree of `stack` as an archive and returns the output. Sockets are left out: archives cannot hold
/// them. Paths for which `omit` holds (no leading slash) are left out with everything below them.
pub(crate) fn pack<W: Write>(stack: &Stack, output: W, omit: &dyn Fn(&[u8]) -> bool) -> Result<W> {
    pack_sized(stack, output, omit).map(|(output, _)| output)
}

/// As [`pack`], and the sum of the sizes of all regular files, each name counted.
pub(crate) fn pack_sized<W: Write>(
    stack: &Stack,
    output: W,
    omit: &dyn Fn(&[u8]) -> bool,
) -> Result<(W, u64)> {
    let mut packer =
        Packer { writer: TarWriter::new(output), links: HashMap::new(), removals: stack.is_raw(), size: 0 };
    let mut omitted: Vec<Vec<u8>> = Vec::new();
    stack.walk(b"", &mut |node| {
        let below = |p: &Vec<u8>| node.path.starts_with(p) && node.path.get(p.len()) == Some(&b'/');
        if omitted.iter().any(below) {
            return Ok(());
        }
        if omit(node.path) {
            omitted.push(node.path.to_vec());
            return Ok(());
        }
        packer.node(node).map_err(|e| e.context(format!("archiving {:?}", show(node.path))))
    })?;
    let size = packer.size;
    Ok((packer.writer.finish().about(|| "writing the archive")?, size))
}

struct Packer<W> {
    writer: TarWriter<W>,
    /// The first name of each file that has several.
    links: HashMap<(u64, u64), Vec<u8>>,
    /// Whether what a directory hides is to be said.
    removals: bool,
    size: u64,
}

impl<W: Write> Packer<W> {
    fn node(&mut self, node: &Node<'_>) -> Result<()> {
        if node.is_whiteout() {
            let (parent, name) = super::extract::split(node.path).expect("a node has a name");
            let mut path = parent.to_vec();
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(WHITEOUT);
            path.extend_from_slice(name);
            return self.write(&plain(&path, EntryKind::File, 0), &mut std::io::empty());
        }
        let Some(kind) = entry_kind(node.kind()) else { return Ok(()) };
        let mut entry = from_stat(node.path, kind, node.stat);
        self.size += entry.size;
        if kind != EntryKind::Directory && node.stat.st_nlink > 1 {
            if let Some(first) = self.links.get(&(node.stat.st_dev, node.stat.st_ino)) {
                entry.kind = EntryKind::HardLink;
                entry.link.clone_from(first);
                entry.size = 0;
                return self.write(&entry, &mut std::io::empty());
            }
            self.links.insert((node.stat.st_dev, node.stat.st_ino), node.path.to_vec());
        }
        match kind {
            EntryKind::File => self.file(node, entry),
            EntryKind::Symlink => {
                entry.link = rustix::fs::readlinkat(node.dir, node.name, Vec::new())
                    .about(|| "reading the link")?
                    .into_bytes();
                self.write(&entry, &mut std::io::empty())
            }
            EntryKind::Directory => {
                let own = node.open_path()?;
                entry.xattrs = xattrs_of(&own)?;
                self.write(&entry, &mut std::io::empty())?;
                if self.removals && is_opaque(&own) {
                    let path = [node.path, b"/", OPAQUE_WHITEOUT].concat();
                    self.write(&plain(&path, EntryKind::File, 0), &mut std::io::empty())?;
                }
                Ok(())
            }
            _ => self.write(&entry, &mut std::io::empty()),
        }
    }

    fn file(&mut self, node: &Node<'_>, mut entry: Entry) -> Result<()> {
        let fd = node.open_file()?;
        entry.xattrs = xattrs_of(&fd)?;
        let allocated = u64::try_from(node.stat.st_blocks).unwrap_or(0) * 512;
        // Never in a layer: its digest must not depend on how a file system happens to allocate blocks, which changes
        // with the first writeback.
        if !self.removals && entry.size >= SPARSE_FROM && allocated <= entry.size / 2 {
            let mut pieces = data_pieces(&fd, entry.size)?;
            if pieces.last().is_none_or(|(offset, length)| offset + length < entry.size) {
                pieces.push((entry.size, 0));
            }
            entry.sparse = Some(pieces);
        }
        let mut file = File::from(fd);
        match &entry.sparse {
            None => self.write(&entry, &mut file),
            Some(pieces) => {
                let mut data = Pieces { file, pieces: pieces.clone(), at: 0, done: 0, placed: false };
                self.write(&entry, &mut data)
            }
        }
    }

    fn write(&mut self, entry: &Entry, data: &mut dyn Read) -> Result<()> {
        self.writer.append(entry, data).map_err(|e| Error::io("writing the archive", e))
    }
}

/// Reads the pieces of a sparse file one after another.
struct Pieces {
    file: File,
    pieces: Vec<(u64, u64)>,
    at: usize,
    done: u64,
    placed: bool,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while let Some((offset, length)) = self.pieces.get(self.at) {
            if self.done == *length {
                self.at += 1;
                (self.done, self.placed) = (0, false);
                continue;
            }
            if !self.placed {
                self.file.seek(SeekFrom::Start(*offset))?;
                self.placed = true;
            }
            let most = usize::try_from(length - self.done).unwrap_or(usize::MAX).min(buffer.len());
            let n = self.file.read(&mut buffer[..most])?;
            self.done += n as u64;
            return Ok(n);
        }
        Ok(0)
    }
}

fn entry_kind(kind: FileType) -> Option<EntryKind> {
    Some(match kind {
        FileType::RegularFile => EntryKind::File,
        FileType::Directory => EntryKind::Directory,
        FileType::Symlink => EntryKind::Symlink,
        FileType::Fifo => EntryKind::Fifo,
        FileType::CharacterDevice => EntryKind::Char,
        FileType::BlockDevice => EntryKind::Block,
        _ => return None,
    })
}

#[allow(clippy::useless_conversion)]
fn from_stat(path: &[u8], kind: EntryKind, stat: &Stat) -> Entry {
    let device = matches!(kind, EntryKind::Char | EntryKind::Block);
    let mut entry = plain(path, kind, stat.st_mode & 0o7777);
    (entry.uid, entry.gid) = (stat.st_uid, stat.st_gid);
    entry.mtime = (stat.st_mtime.into(), 0);
    if kind == EntryKind::File {
        entry.size = u64::try_from(stat.st_size).unwrap_or(0);
    }
    if device {
        entry.device = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
    }
    entry
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use rustix::fs::{Timespec, Timestamps};

    use super::*;

    #[test]
    fn a_layer_is_the_same_however_its_files_are_allocated() {
        let dir = tempfile::tempdir().unwrap();
        let mut archives = Vec::new();
        for holes in [true, false] {
            let root = dir.path().join(holes.to_string());
            std::fs::create_dir(&root).unwrap();
            let mut file = File::create(root.join("f")).unwrap();
            if holes {
                file.set_len(4 << 20).unwrap();
            } else {
                file.write_all(&vec![0; 4 << 20]).unwrap();
            }
            let time = Timespec { tv_sec: 1, tv_nsec: 0 };
            let times = Timestamps { last_access: time, last_modification: time };
            rustix::fs::futimens(&file, &times).unwrap();
            rustix::fs::futimens(File::open(&root).unwrap(), &times).unwrap();
            let stack = Stack::open(&[root]).unwrap();
            archives.push(pack(&stack.raw(), Vec::new(), &|_| false).unwrap());
        }
        assert!(archives[0] == archives[1], "{} and {} bytes", archives[0].len(), archives[1].len());
    }
}
