//! Trees of a container as archives, and archives unpacked into them. To be called where the container's root is the root.
//!
//! What is archived changes meanwhile: files grow, shrink, and go. An archive has of each file as many bytes as its header
//! says, and leaves out what has gone and what archives cannot hold.

use std::collections::HashMap;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

use fluyt_image::Limits;
use fluyt_image::layer::reader::{Entry, EntryKind};
use fluyt_image::layer::unpack::extract_changed;
use fluyt_image::layer::writer::{TarWriter, plain};
use fluyt_model::error::IoContext;
use fluyt_model::{Error, Result};
use rustix::io::Errno;

use crate::api::CopyOptions;

/// The attribute that archives of containers carry, as docker's do.
const CAPABILITY: &str = "security.capability";

/// Changes (user, group) between the container's ids and the host's.
pub(super) type Owners<'a> = &'a dyn Fn(u32, u32) -> (u32, u32);

/// Writes `source`, and all below it, as an archive whose entries begin with `label`.
///
/// # Errors
/// `source` is not there; reading or writing fails.
pub(super) fn pack(source: &Path, label: &Path, out: &mut dyn Write, owners: Owners<'_>) -> Result<()> {
    let mut packer = Packer { writer: TarWriter::new(out), owners, links: HashMap::new() };
    std::fs::symlink_metadata(source).about(|| source.display().to_string())?;
    let mut todo = vec![(source.to_owned(), label.as_os_str().as_bytes().to_vec())];
    while let Some((path, name)) = todo.pop() {
        match packer.one(&path, &name) {
            Ok(children) => todo.extend(children.into_iter().rev()),
            // It has gone, or become something else.
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {}
            Err(e) => return Err(Error::io(path.display().to_string(), e)),
        }
    }
    packer.writer.finish().about(|| "writing the archive").map(drop)
}

struct Packer<'a> {
    writer: TarWriter<&'a mut dyn Write>,
    owners: Owners<'a>,
    /// The first name of each file that has several.
    links: HashMap<(u64, u64), Vec<u8>>,
}

/// What follows an entry: paths and their names in the archive.
type Children = Vec<(PathBuf, Vec<u8>)>;

impl Packer<'_> {
    fn one(&mut self, path: &Path, name: &[u8]) -> std::io::Result<Children> {
        let metadata = std::fs::symlink_metadata(path)?;
        let Some(kind) = kind(&metadata) else { return Ok(Vec::new()) };
        let mut entry = self.entry(name, kind, &metadata);
        let mut children = Vec::new();
        match kind {
            EntryKind::File => return self.file(path, entry, &metadata).map(|()| children),
            EntryKind::Directory => {
                let mut names = std::fs::read_dir(path)?
                    .map(|child| child.map(|c| c.file_name()))
                    .collect::<std::io::Result<Vec<_>>>()?;
                names.sort();
                let below = |child: &std::ffi::OsString| [name, b"/", child.as_bytes()].concat();
                children.extend(names.iter().map(|child| (path.join(child), below(child))));
            }
            EntryKind::Symlink => entry.link = std::fs::read_link(path)?.into_os_string().as_bytes().to_vec(),
            EntryKind::Char | EntryKind::Block => {
                let device = metadata.rdev();
                entry.device = (rustix::fs::major(device), rustix::fs::minor(device));
            }
            EntryKind::Fifo | EntryKind::HardLink => {}
        }
        self.writer.append(&entry, &mut std::io::empty())?;
        Ok(children)
    }

    fn file(&mut self, path: &Path, mut entry: Entry, metadata: &Metadata) -> std::io::Result<()> {
        if metadata.nlink() > 1 {
            let inode = (metadata.dev(), metadata.ino());
            if let Some(first) = self.links.get(&inode) {
                entry.kind = EntryKind::HardLink;
                entry.link.clone_from(first);
                return self.writer.append(&entry, &mut std::io::empty());
            }
            self.links.insert(inode, entry.path.clone());
        }
        // What is opened may be something else by now: no link is followed, and a pipe does not hold this up.
        let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
        let flags = i32::try_from(flags.bits()).unwrap_or_default();
        let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
            Err(e) if e.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => return Ok(()),
            other => other?,
        };
        let now = file.metadata()?;
        if !now.is_file() {
            return Ok(());
        }
        entry.size = now.size();
        entry.xattrs.extend(capability(&file));
        // Bytes that are gone meanwhile are zeros, those that have come are left out.
        self.writer.append(&entry, &mut file.take(now.size()).chain(std::io::repeat(0)))
    }

    fn entry(&self, name: &[u8], kind: EntryKind, metadata: &Metadata) -> Entry {
        let mut entry = plain(name, kind, metadata.mode() & 0o7777);
        (entry.uid, entry.gid) = (self.owners)(metadata.uid(), metadata.gid());
        entry.mtime = (metadata.mtime(), 0);
        entry
    }
}

fn capability(file: &File) -> Option<(Vec<u8>, Vec<u8>)> {
    // As long as the kernel's largest form (vfs_ns_cap_data), and room.
    let mut value = [0_u8; 64];
    let length = rustix::fs::fgetxattr(file, CAPABILITY, &mut value).ok()?;
    Some((CAPABILITY.as_bytes().to_vec(), value[..length].to_vec()))
}

/// What archives can hold: all but sockets.
fn kind(metadata: &Metadata) -> Option<EntryKind> {
    let kind = metadata.file_type();
    Some(match kind {
        _ if kind.is_file() => EntryKind::File,
        _ if kind.is_dir() => EntryKind::Directory,
        _ if kind.is_symlink() => EntryKind::Symlink,
        _ if kind.is_fifo() => EntryKind::Fifo,
        _ if kind.is_char_device() => EntryKind::Char,
        _ if kind.is_block_device() => EntryKind::Block,
        _ => return None,
    })
}

/// Unpacks an archive, compressed or not, into the directory `dest`. Links on the way are followed, below the root.
///
/// # Errors
/// `Conflict` if a directory would be replaced by something else or the other way round, and that is not wanted; `Invalid`
/// for names that lead out; reading or writing fails.
pub(super) fn unpack(
    input: &mut dyn Read,
    dest: &Path,
    options: CopyOptions,
    owners: Owners<'_>,
    devices: bool,
) -> Result<()> {
    let change = |entry: &mut Entry| -> Result<bool> {
        let inner = relative(&entry.path)?;
        if inner.as_os_str().is_empty() {
            // The directory itself is there, and stays as it is.
            return Ok(false);
        }
        let target = dest.join(inner);
        let is_dir = entry.kind == EntryKind::Directory;
        if let Ok(now) = std::fs::symlink_metadata(&target)
            && now.is_dir() != is_dir
        {
            if options.no_overwrite_dir_non_dir {
                return Err(Error::conflict(format!(
                    "cannot overwrite {} with a {}",
                    target.display(),
                    if is_dir { "directory" } else { "file" }
                )));
            }
            if now.is_dir() {
                std::fs::remove_dir_all(&target).about(|| target.display().to_string())?;
            }
        }
        if entry.kind == EntryKind::HardLink {
            entry.link = below_root(&dest.join(relative(&entry.link)?));
        }
        entry.path = below_root(&target);
        (entry.uid, entry.gid) = match options.keep_owner {
            true => owners(entry.uid, entry.gid),
            false => owners(0, 0),
        };
        Ok(devices || !matches!(entry.kind, EntryKind::Char | EntryKind::Block))
    };
    extract_changed(input, Path::new("/"), Limits::default(), &change)
}

/// A name of an archive as a path below a directory.
fn relative(name: &[u8]) -> Result<PathBuf> {
    let mut path = PathBuf::new();
    for component in Path::new(std::ffi::OsStr::from_bytes(name)).components() {
        match component {
            Component::Normal(part) => path.push(part),
            Component::ParentDir => {
                return Err(Error::invalid(format!(
                    "{:?}: a name with `..`, which could lead out of the directory",
                    String::from_utf8_lossy(name)
                )));
            }
            _ => {}
        }
    }
    Ok(path)
}

fn below_root(path: &Path) -> Vec<u8> {
    let path = path.as_os_str().as_bytes();
    path.strip_prefix(b"/").unwrap_or(path).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use fluyt_image::layer::reader::TarReader;

    fn names(archive: &[u8]) -> Vec<(String, EntryKind, u64)> {
        let mut reader = TarReader::new(archive);
        let mut found = Vec::new();
        while let Some(entry) = reader.next_entry().unwrap() {
            found.push((String::from_utf8(entry.path).unwrap(), entry.kind, entry.size));
        }
        found
    }

    #[test]
    fn sockets_are_left_out_and_names_of_one_file_are_links() {
        let dir = tempfile::tempdir().unwrap();
        let d = dir.path().join("d");
        std::fs::create_dir_all(d.join("sub")).unwrap();
        std::fs::write(d.join("a"), "one").unwrap();
        std::fs::hard_link(d.join("a"), d.join("sub/b")).unwrap();
        std::os::unix::fs::symlink("a", d.join("l")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(d.join("s.sock")).unwrap();
        let mut out = Vec::new();
        pack(&d, Path::new("d"), &mut out, &|uid, gid| (uid, gid)).unwrap();
        assert_eq!(
            names(&out),
            [
                ("d/".to_owned(), EntryKind::Directory, 0),
                ("d/a".to_owned(), EntryKind::File, 3),
                ("d/l".to_owned(), EntryKind::Symlink, 0),
                ("d/sub/".to_owned(), EntryKind::Directory, 0),
                ("d/sub/b".to_owned(), EntryKind::HardLink, 0),
            ]
        );
        assert!(pack(&d.join("none"), Path::new("x"), &mut Vec::new(), &|u, g| (u, g)).is_err());
    }

    /// Makes the file larger, and another one shorter, while the archive is written.
    struct Meddling<'a> {
        out: Vec<u8>,
        dir: &'a Path,
    }

    impl Write for Meddling<'_> {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let mut grown = OpenOptions::new().append(true).open(self.dir.join("grows"))?;
            grown.write_all(&[b'x'; 700])?;
            File::options().write(true).open(self.dir.join("shrinks"))?.set_len(10)?;
            let _ = std::fs::remove_file(self.dir.join("vanishes"));
            self.out.write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn files_that_change_meanwhile_do_not_break_the_archive() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["grows", "shrinks", "vanishes", "zz"] {
            std::fs::write(dir.path().join(name), vec![b'c'; 1_000_000]).unwrap();
        }
        let mut out = Meddling { out: Vec::new(), dir: dir.path() };
        pack(dir.path(), Path::new("."), &mut out, &|uid, gid| (uid, gid)).unwrap();
        let found = names(&out.out);
        let found: Vec<&str> = found.iter().map(|(name, _, _)| name.as_str()).collect();
        assert_eq!(found, ["./", "./grows", "./shrinks", "./zz"]);
    }
}
