//! Writes the entries of a layer archive below one directory, in overlay form, and nowhere else.
//!
//! Every path is resolved by the kernel inside the directory (`openat2` with `RESOLVE_IN_ROOT` and
//! `RESOLVE_NO_MAGICLINKS`); names with `..` or a leading slash are refused before that. Whiteouts become 0:0
//! character devices and opaque directories get `trusted.overlay.opaque`. What an archive leaves to the layers
//! below it (parents it does not name, hard links to files it does not have) is reported in [`Extracted`].

use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use fluyt_model::error::IoContext;
use fluyt_model::{Error, Result};
use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags,
};
use rustix::io::Errno;

use super::Limits;
use super::reader::{Entry, EntryKind, TarReader};

/// The attribute that hides a directory's lower namesakes.
pub(crate) const OPAQUE: &str = "trusted.overlay.opaque";
/// The prefix of whiteouts in archives.
pub(crate) const WHITEOUT: &[u8] = b".wh.";
/// The whiteout of all of a directory's lower content.
pub(crate) const OPAQUE_WHITEOUT: &[u8] = b".wh..wh..opq";
/// Names of the storage driver that invented whiteouts; they mean nothing elsewhere.
const FOREIGN_WHITEOUT: &[u8] = b".wh..wh.";

/// What extraction found out.
#[derive(Clone, Debug, Default)]
pub(crate) struct Extracted {
    /// The sum of the sizes of regular files, in bytes.
    pub size: u64,
    /// Directories that the archive uses but does not describe, parents first.
    pub implicit: BTreeSet<Vec<u8>>,
    /// Hard links whose target the archive does not have: name and target.
    pub missing: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Changes an entry before it is written; whether it is.
pub(crate) type Change<'a> = &'a dyn Fn(&mut Entry) -> Result<bool>;

/// Extracts one archive.
pub(crate) struct Extractor<'a> {
    change: Option<Change<'a>>,
    root: OwnedFd,
    umask: u32,
    owner: (u32, u32),
    /// Whether names that begin with `.wh.` take away what lower layers have.
    whiteouts: bool,
    limits: Limits,
    entries: u64,
    /// The directory that the entry before was in.
    parent: Option<(Vec<u8>, OwnedFd)>,
    /// Directories whose times and set-id bits are set last: path, mode, time.
    late: Vec<(Vec<u8>, u32, (i64, u32))>,
    found: Extracted,
}

impl<'a> Extractor<'a> {
    /// Extracts below `root`, which must exist.
    pub(crate) fn new(root: &Path, limits: Limits) -> Result<Self> {
        let root =
            rustix::fs::open(root, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
                .about(|| root.display().to_string())?;
        Ok(Self {
            change: None,
            root,
            umask: current_umask(),
            owner: (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw()),
            whiteouts: true,
            limits,
            entries: 0,
            parent: None,
            late: Vec::new(),
            found: Extracted::default(),
        })
    }

    /// The archive is no layer: all names are those of files.
    pub(crate) fn plain(self) -> Self {
        Self { whiteouts: false, ..self }
    }

    /// Entries are changed first, or left out.
    pub(crate) fn changing(self, change: Change<'a>) -> Self {
        Self { change: Some(change), ..self }
    }

    /// Extracts every entry of `archive`.
    pub(crate) fn run<R: std::io::BufRead>(mut self, archive: &mut TarReader<R>) -> Result<Extracted> {
        while let Some(mut entry) = archive.next_entry()? {
            self.entries += 1;
            if self.entries > self.limits.entries {
                return Err(Error::new(
                    fluyt_model::Kind::Exhausted,
                    format!("the archive has more than {} entries", self.limits.entries),
                ));
            }
            if !self.change.map_or(Ok(true), |change| change(&mut entry))? {
                continue;
            }
            self.entry(&entry, archive).map_err(|e| e.context(format!("entry {:?}", show(&entry.path))))?;
        }
        archive.finish()?;
        self.finish_directories()?;
        Ok(self.found)
    }

    fn entry<R: std::io::BufRead>(&mut self, entry: &Entry, archive: &mut TarReader<R>) -> Result<()> {
        let path = clean(&entry.path)?;
        let Some((parent, name)) = split(&path) else {
            return self.root_entry(entry);
        };
        if let Some(hidden) = name.strip_prefix(WHITEOUT).filter(|_| self.whiteouts) {
            let (parent, name, hidden) = (parent.to_vec(), name.to_vec(), hidden.to_vec());
            return self.whiteout(&parent, &name, &hidden);
        }
        let dir = self.take_parent(parent)?;
        let result = self.create(entry, &path, &dir, name, archive);
        self.keep_parent(parent, dir);
        result
    }

    fn create<R: std::io::BufRead>(
        &mut self,
        entry: &Entry,
        path: &[u8],
        dir: &OwnedFd,
        name: &[u8],
        archive: &mut TarReader<R>,
    ) -> Result<()> {
        match entry.kind {
            EntryKind::File => self.file(entry, dir, name, path, archive),
            EntryKind::Directory => self.directory(entry, dir, name, path),
            EntryKind::Symlink => {
                self.fresh(dir, name, path, || rustix::fs::symlinkat(&*entry.link, dir, name))?;
                self.plain_metadata(entry, dir, name, path, false)
            }
            EntryKind::HardLink => self.hard_link(entry, dir, name, path),
            EntryKind::Fifo => {
                let make = || rustix::fs::mknodat(dir, name, FileType::Fifo, Mode::RUSR, 0);
                self.fresh(dir, name, path, make)?;
                self.plain_metadata(entry, dir, name, path, true)
            }
            EntryKind::Char | EntryKind::Block => {
                let (major, minor) = entry.device;
                if (major, minor) == (0, 0) {
                    return Err(Error::invalid("a device with the number 0:0, which overlays use as a mark"));
                }
                let kind = if entry.kind == EntryKind::Char {
                    FileType::CharacterDevice
                } else {
                    FileType::BlockDevice
                };
                let device = rustix::fs::makedev(major, minor);
                self.fresh(dir, name, path, || rustix::fs::mknodat(dir, name, kind, Mode::RUSR, device))?;
                self.plain_metadata(entry, dir, name, path, true)
            }
        }
    }

    fn root_entry(&mut self, entry: &Entry) -> Result<()> {
        if entry.kind != EntryKind::Directory {
            return Err(Error::invalid("the root of an archive must be a directory"));
        }
        rustix::fs::fchown(&self.root, Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)))
            .about(|| "setting its owner")?;
        set_xattrs(&self.root, entry)?;
        self.late.push((Vec::new(), entry.mode, entry.mtime));
        Ok(())
    }

    fn file<R: std::io::BufRead>(
        &mut self,
        entry: &Entry,
        dir: &OwnedFd,
        name: &[u8],
        path: &[u8],
        archive: &mut TarReader<R>,
    ) -> Result<()> {
        if entry.size > Limits::MAX_FILE {
            return Err(Error::new(fluyt_model::Kind::Exhausted, format!("it claims {} bytes", entry.size)));
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = entry.mode & 0o777;
        let file =
            self.fresh(dir, name, path, || rustix::fs::openat(dir, name, flags, Mode::from_raw_mode(mode)))?;
        write_data(entry, &file, archive)?;
        self.found.size += entry.size;
        if (entry.uid, entry.gid) != self.owner {
            rustix::fs::fchown(&file, Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)))
                .about(|| "setting its owner")?;
        }
        if mode & !self.umask != entry.mode {
            rustix::fs::fchmod(&file, Mode::from_raw_mode(entry.mode)).about(|| "setting its mode")?;
        }
        set_xattrs(&file, entry)?;
        rustix::fs::futimens(&file, &times(entry.mtime)).about(|| "setting its time")?;
        Ok(())
    }

    fn directory(&mut self, entry: &Entry, dir: &OwnedFd, name: &[u8], path: &[u8]) -> Result<()> {
        let mut opaque = false;
        match rustix::fs::mkdirat(dir, name, Mode::RWXU) {
            Ok(()) => {}
            Err(Errno::EXIST) => match kind_at(dir, name)? {
                Found::Directory => {}
                found => {
                    opaque = found == Found::Whiteout;
                    self.replace(dir, name, path, found)?;
                    rustix::fs::mkdirat(dir, name, Mode::RWXU).about(|| "creating it")?;
                }
            },
            Err(e) => return Err(Error::io("creating it", e.into())),
        }
        self.found.implicit.remove(path);
        rustix::fs::chownat(
            dir,
            name,
            Some(Uid::from_raw(entry.uid)),
            Some(Gid::from_raw(entry.gid)),
            AtFlags::SYMLINK_NOFOLLOW,
        )
        .about(|| "setting its owner")?;
        if opaque || !entry.xattrs.is_empty() {
            let own = open_directory(dir.as_fd(), name)?;
            set_xattrs(&own, entry)?;
            if opaque {
                make_opaque(&own)?;
            }
        }
        self.late.push((path.to_vec(), entry.mode, entry.mtime));
        Ok(())
    }

    fn hard_link(&mut self, entry: &Entry, dir: &OwnedFd, name: &[u8], path: &[u8]) -> Result<()> {
        let target =
            clean(&entry.link).map_err(|e| e.context(format!("link target {:?}", show(&entry.link))))?;
        let Some((target_parent, target_name)) = split(&target) else {
            return Err(Error::invalid("a hard link to the root directory"));
        };
        if target == path {
            return Err(Error::invalid("a hard link to itself"));
        }
        let target_dir = match self.open_in_root(target_parent) {
            Ok(found) => found,
            Err(Errno::NOENT | Errno::NOTDIR) => {
                self.found.missing.push((path.to_vec(), target));
                return Ok(());
            }
            Err(e) => return Err(escape(e, target_parent)),
        };
        match kind_at(&target_dir, target_name) {
            Ok(Found::Directory) => return Err(Error::invalid("a hard link to a directory")),
            Ok(Found::Whiteout) => {
                return Err(Error::invalid("a hard link to a file that the layer removes"));
            }
            Ok(Found::Other) => {}
            Err(e) if e.kind() == fluyt_model::Kind::NotFound => {
                self.found.missing.push((path.to_vec(), target));
                return Ok(());
            }
            Err(e) => return Err(e),
        }
        self.fresh(dir, name, path, || {
            rustix::fs::linkat(&target_dir, target_name, dir, name, AtFlags::empty())
        })
    }

    /// Owner, mode, attributes and time of something that is neither file nor directory.
    fn plain_metadata(
        &self,
        entry: &Entry,
        dir: &OwnedFd,
        name: &[u8],
        path: &[u8],
        mode: bool,
    ) -> Result<()> {
        if (entry.uid, entry.gid) != self.owner {
            let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
            rustix::fs::chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
                .about(|| "setting its owner")?;
        }
        if mode {
            rustix::fs::chmodat(dir, name, Mode::from_raw_mode(entry.mode), AtFlags::empty())
                .about(|| "setting its mode")?;
        }
        for (key, value) in wanted_xattrs(entry) {
            let own = proc_path(dir, name);
            let key = String::from_utf8_lossy(key);
            tolerate(&key, rustix::fs::lsetxattr(&own, &*key, value, XattrFlags::empty()))?;
        }
        rustix::fs::utimensat(dir, name, &times(entry.mtime), AtFlags::SYMLINK_NOFOLLOW)
            .about(|| format!("setting the time of {:?}", show(path)))
    }

    fn whiteout(&mut self, parent: &[u8], name: &[u8], hidden: &[u8]) -> Result<()> {
        if name == OPAQUE_WHITEOUT {
            let dir = self.take_parent(parent)?;
            make_opaque(&dir)?;
            self.keep_parent(parent, dir);
            return Ok(());
        }
        if name.starts_with(FOREIGN_WHITEOUT) {
            return Ok(());
        }
        if matches!(hidden, b"" | b"." | b"..") {
            return Err(Error::invalid("a whiteout of no name"));
        }
        let dir = self.take_parent(parent)?;
        let made = rustix::fs::mknodat(&dir, hidden, FileType::CharacterDevice, Mode::empty(), 0);
        match made {
            Ok(()) => {}
            // A whiteout is about lower layers only: what this layer has of that name stays.
            Err(Errno::EXIST) => {
                if kind_at(&dir, hidden)? == Found::Directory {
                    make_opaque(&open_directory(dir.as_fd(), hidden)?)?;
                }
            }
            Err(e) => return Err(Error::io("creating a whiteout", e.into())),
        }
        self.keep_parent(parent, dir);
        Ok(())
    }

    /// Makes something new under a name; an earlier entry of that name gives way.
    fn fresh<T>(
        &mut self,
        dir: &OwnedFd,
        name: &[u8],
        path: &[u8],
        make: impl Fn() -> rustix::io::Result<T>,
    ) -> Result<T> {
        match make() {
            Err(Errno::EXIST) => {
                let found = kind_at(dir, name)?;
                self.replace(dir, name, path, found)?;
                make().about(|| "creating it")
            }
            other => other.about(|| "creating it"),
        }
    }

    fn replace(&mut self, dir: &OwnedFd, name: &[u8], path: &[u8], found: Found) -> Result<()> {
        self.parent = None;
        if found != Found::Directory {
            return rustix::fs::unlinkat(dir, name, AtFlags::empty()).about(|| "replacing an earlier entry");
        }
        self.late.retain(|(late, _, _)| late != path);
        match rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR) {
            Ok(()) => Ok(()),
            Err(Errno::NOTEMPTY | Errno::EXIST) => {
                Err(Error::invalid("it would replace a directory that has content by something else"))
            }
            Err(e) => Err(Error::io("replacing an earlier entry", e.into())),
        }
    }

    fn open_in_root(&self, path: &[u8]) -> rustix::io::Result<OwnedFd> {
        let path = if path.is_empty() { b"." } else { path };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat2(&self.root, path, flags, Mode::empty(), resolve())
    }

    fn take_parent(&mut self, path: &[u8]) -> Result<OwnedFd> {
        if let Some((cached, dir)) = self.parent.take()
            && cached == path
        {
            return Ok(dir);
        }
        match self.open_in_root(path) {
            Ok(dir) => Ok(dir),
            Err(Errno::NOENT) => self.make_parents(path),
            Err(e) => Err(escape(e, path)),
        }
    }

    fn keep_parent(&mut self, path: &[u8], dir: OwnedFd) {
        self.parent = Some((path.to_vec(), dir));
    }

    /// Creates the missing parents; their owner and mode come later from a lower layer, if one has them.
    fn make_parents(&mut self, path: &[u8]) -> Result<OwnedFd> {
        let mut dir = self.open_in_root(b"").map_err(|e| escape(e, path))?;
        let mut end = 0;
        while end < path.len() {
            let start = end;
            end = memchr::memchr(b'/', &path[start..]).map_or(path.len(), |at| start + at);
            let (upto, name) = (&path[..end], &path[start..end]);
            end += 1;
            dir = match self.open_in_root(upto) {
                Ok(next) => next,
                Err(Errno::NOENT) => {
                    match rustix::fs::mkdirat(&dir, name, Mode::from_raw_mode(0o755)) {
                        Ok(()) => {}
                        Err(Errno::EXIST) => return Err(through_link(upto)),
                        Err(e) => return Err(Error::io("creating its directory", e.into())),
                    }
                    rustix::fs::chmodat(&dir, name, Mode::from_raw_mode(0o755), AtFlags::empty())
                        .about(|| "creating its directory")?;
                    self.found.implicit.insert(upto.to_vec());
                    self.open_in_root(upto).map_err(|e| escape(e, upto))?
                }
                Err(e) => return Err(escape(e, upto)),
            };
        }
        Ok(dir)
    }

    /// Modes and times of directories, deepest first: creating files changes times, and a set-group-id bit would
    /// change the group of what is created below.
    fn finish_directories(&mut self) -> Result<()> {
        self.parent = None;
        for (path, mode, time) in std::mem::take(&mut self.late).into_iter().rev() {
            let about = || format!("directory {:?}", show(&path));
            let dir = match self.open_in_root(&path) {
                Ok(dir) => dir,
                // A later entry replaced it.
                Err(Errno::NOENT | Errno::NOTDIR) => continue,
                Err(e) => return Err(Error::io(about(), e.into())),
            };
            rustix::fs::fchmod(&dir, Mode::from_raw_mode(mode)).about(about)?;
            rustix::fs::futimens(&dir, &times(time)).about(about)?;
        }
        Ok(())
    }
}

/// How paths below a root are resolved everywhere in this crate.
pub(crate) fn resolve() -> ResolveFlags {
    ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS
}

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Directory,
    Whiteout,
    Other,
}

pub(crate) fn kind_at(dir: &OwnedFd, name: &[u8]) -> Result<Found> {
    let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).about(|| show(name))?;
    Ok(match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => Found::Directory,
        FileType::CharacterDevice if stat.st_rdev == 0 => Found::Whiteout,
        _ => Found::Other,
    })
}

pub(crate) fn open_directory(dir: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::empty()).about(|| show(name))
}

pub(crate) fn make_opaque(dir: &OwnedFd) -> Result<()> {
    rustix::fs::fsetxattr(dir, OPAQUE, b"y", XattrFlags::empty()).about(|| "making the directory opaque")
}

/// The path of `name` in `dir` for calls that take no directory descriptor.
pub(crate) fn proc_path(dir: &OwnedFd, name: &[u8]) -> Vec<u8> {
    use std::os::fd::AsRawFd;
    let mut path = format!("/proc/self/fd/{}/", dir.as_raw_fd()).into_bytes();
    path.extend_from_slice(name);
    path
}

pub(crate) fn times(mtime: (i64, u32)) -> Timestamps {
    let time = Timespec { tv_sec: mtime.0, tv_nsec: mtime.1.into() };
    Timestamps { last_access: time, last_modification: time }
}

pub(crate) fn show(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

/// The name of an entry without `.` parts and doubled slashes; empty for the root.
///
/// Refuses absolute names, `..` and NUL.
pub(crate) fn clean(path: &[u8]) -> Result<Vec<u8>> {
    if path.contains(&0) {
        return Err(Error::invalid("a name with a NUL byte"));
    }
    let is_root = path.iter().all(|b| *b == b'/');
    if path.is_empty() {
        return Err(Error::corrupt("an entry without a name"));
    }
    if path.starts_with(b"/") && !is_root {
        return Err(Error::invalid("an absolute name; names in an archive must be relative")
            .with_hint("make the archive anew, with names relative to its root"));
    }
    let mut clean = Vec::with_capacity(path.len());
    for part in path.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => return Err(Error::invalid("a name with `..`, which could lead out of the root")),
            part => {
                if !clean.is_empty() {
                    clean.push(b'/');
                }
                clean.extend_from_slice(part);
            }
        }
    }
    Ok(clean)
}

/// Splits a clean name into its directory and its last part; `None` for the root.
pub(crate) fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if path.is_empty() {
        return None;
    }
    Some(memchr::memrchr(b'/', path).map_or((b"", path), |at| (&path[..at], &path[at + 1..])))
}

fn through_link(path: &[u8]) -> Error {
    Error::invalid(format!(
        "its directory {:?} is a symbolic link that leads nowhere in this layer",
        show(path)
    ))
}

fn escape(e: Errno, path: &[u8]) -> Error {
    match e {
        Errno::NOTDIR => {
            Error::invalid(format!("its directory {:?} is not a directory in this layer", show(path)))
        }
        Errno::LOOP | Errno::XDEV | Errno::NOENT => through_link(path),
        e => Error::io(format!("its directory {:?}", show(path)), e.into()),
    }
}

fn write_data<R: std::io::BufRead>(entry: &Entry, file: &OwnedFd, archive: &mut TarReader<R>) -> Result<()> {
    let writing = || "writing it";
    match &entry.sparse {
        None => loop {
            let chunk = archive.chunk()?;
            if chunk.is_empty() {
                return Ok(());
            }
            let n = rustix::io::retry_on_intr(|| rustix::io::write(file, chunk)).about(writing)?;
            archive.consume(n);
        },
        Some(map) => {
            rustix::fs::ftruncate(file, entry.size).about(writing)?;
            for (offset, length) in map {
                let mut done = 0;
                while done < *length {
                    let chunk = archive.chunk()?;
                    let most = usize::try_from(length - done).unwrap_or(usize::MAX).min(chunk.len());
                    let n =
                        rustix::io::retry_on_intr(|| rustix::io::pwrite(file, &chunk[..most], offset + done))
                            .about(writing)?;
                    archive.consume(n);
                    done += n as u64;
                }
            }
            Ok(())
        }
    }
}

/// The attributes of an entry without those that would steer the overlay.
fn wanted_xattrs(entry: &Entry) -> impl Iterator<Item = (&[u8], &[u8])> {
    let foreign = |key: &[u8]| key.starts_with(b"trusted.overlay.") || key.starts_with(b"user.overlay.");
    entry.xattrs.iter().map(|(k, v)| (&**k, &**v)).filter(move |(k, _)| !foreign(k))
}

fn set_xattrs(file: &OwnedFd, entry: &Entry) -> Result<()> {
    for (key, value) in wanted_xattrs(entry) {
        let key = String::from_utf8_lossy(key);
        tolerate(&key, rustix::fs::fsetxattr(file, &*key, value, XattrFlags::empty()))?;
    }
    Ok(())
}

/// A file system without user attributes or access lists loses them; anything else is an error.
fn tolerate(key: &str, result: rustix::io::Result<()>) -> Result<()> {
    match result {
        Err(Errno::NOTSUP) if key.starts_with("user.") || key.starts_with("system.") => Ok(()),
        other => other.about(|| format!("setting its attribute {key}")),
    }
}

/// The umask, without changing it for a moment as the system call would.
fn current_umask() -> u32 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    line.and_then(|text| u32::from_str_radix(text.trim(), 8).ok()).unwrap_or(0o777)
}

/// Opens `path` below `root` without following its last part.
pub(crate) fn open_path_in(root: &OwnedFd, path: &[u8]) -> rustix::io::Result<OwnedFd> {
    let path = if path.is_empty() { b"." } else { path };
    rustix::fs::openat2(
        root,
        path,
        OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
        resolve(),
    )
}

/// Opens a directory by its path, to resolve others in it.
pub(crate) fn open_root(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, path, flags, Mode::empty()).about(|| path.display().to_string())
}
