//! Changes of files: copies, files from the Dockerfile, directories. Everything goes through the root of the tree
//! that is being made, so that no link leads out of it.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};

use fluyt_model::error::IoContext;
use fluyt_model::{Error, Kind, Result};
use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, SeekFrom, Stat, Timespec, Timestamps, Uid, XattrFlags,
};
use rustix::io::Errno;

use super::select::{Entry, Selected, Selection, Source, attributes as attributes_hash, open_file, rest};
use super::tree::{Root, fd_path, kind};
use super::{archive, memo};
use crate::graph::{CopyAction, WriteAction};
use crate::ignore::clean;
use crate::mode;

/// User and group of new files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner(pub u32, pub u32);

/// The ids of `user[:group]`, looked up in the accounts of `root`.
///
/// # Errors
/// A name that does not exist there.
pub fn owner(root: &Root, text: &str) -> Result<Option<Owner>> {
    if text.is_empty() {
        return Ok(None);
    }
    let (user, group) = text.split_once(':').map_or((text, None), |(u, g)| (u, Some(g)));
    let in_file = |file: &str, name: &str| -> Option<Vec<String>> {
        let text = root.text(file)?;
        let line = text.lines().find(|line| line.split(':').next() == Some(name))?;
        Some(line.split(':').map(str::to_owned).collect())
    };
    let field = |fields: &[String], at: usize| fields.get(at).and_then(|f| f.parse::<u32>().ok());
    let unknown = |what: &str, name: &str| {
        Error::new(Kind::Invalid, format!("unable to find {what} {name}: no matching entries in {what} file"))
            .with_hint("numbers need no account in the image")
    };
    let account = in_file("etc/passwd", user);
    let uid = match user.parse::<u32>() {
        Ok(uid) => uid,
        Err(_) => account.as_deref().and_then(|a| field(a, 2)).ok_or_else(|| unknown("passwd", user))?,
    };
    let gid = match group {
        Some(group) => match group.parse::<u32>() {
            Ok(gid) => gid,
            Err(_) => {
                let found = in_file("etc/group", group);
                found.as_deref().and_then(|g| field(g, 2)).ok_or_else(|| unknown("group", group))?
            }
        },
        // A number alone is user and group.
        None if user.parse::<u32>().is_ok() => uid,
        None => account.as_deref().and_then(|a| field(a, 3)).unwrap_or(uid),
    };
    Ok(Some(Owner(uid, gid)))
}

/// Makes a directory and what is missing above it; links are followed, also where they lead to nothing yet.
///
/// # Errors
/// A file is in the way.
pub fn make_dirs(root: &Root, path: &str, owner: Owner, epoch: Option<i64>) -> Result<()> {
    make_dirs_through(root, path, owner, epoch, 0)
}

/// The links that lead to nothing that one path may go through.
const MAX_LINKS: u32 = 40;

fn make_dirs_through(root: &Root, path: &str, owner: Owner, epoch: Option<i64>, links: u32) -> Result<()> {
    if links > MAX_LINKS {
        return Err(Error::invalid(format!("cannot create directory {path}: too many symbolic links")));
    }
    let mut at = String::new();
    for part in path.split('/').filter(|part| !part.is_empty()) {
        let above = if at.is_empty() { "/".to_owned() } else { at.clone() };
        at = format!("{at}/{part}");
        match root.at(&at, true) {
            Ok(fd) => {
                let stat = rustix::fs::fstat(&fd).about(|| at.clone())?;
                if kind(&stat) != FileType::Directory {
                    return Err(Error::invalid(format!("cannot create directory {at}: it is a file")));
                }
            }
            Err(Errno::NOENT) => {
                let dir = root.dir(&above)?;
                if let Ok(target) = rustix::fs::readlinkat(&dir, part, Vec::new()) {
                    let target = target.to_string_lossy().into_owned();
                    let target = if target.starts_with('/') { target } else { format!("{above}/{target}") };
                    make_dirs_through(root, &clean(&target), owner, epoch, links + 1)?;
                    continue;
                }
                rustix::fs::mkdirat(&dir, part, Mode::from_raw_mode(0o755)).about(|| at.clone())?;
                let made = root.at(&at, false).about(|| at.clone())?;
                set(&made, owner, Some(0o755), epoch.map(|e| (e, 0)), &at)?;
            }
            Err(e) => return Err(Error::io(at, e.into())),
        }
    }
    Ok(())
}

/// Owner, mode and time of an open file or directory, not of a link.
fn set(fd: &OwnedFd, owner: Owner, mode: Option<u32>, time: Option<(i64, i64)>, path: &str) -> Result<()> {
    let (uid, gid) = (Uid::from_raw(owner.0), Gid::from_raw(owner.1));
    rustix::fs::chownat(fd, "", Some(uid), Some(gid), AtFlags::EMPTY_PATH).about(|| path.to_owned())?;
    let own = fd_path(fd);
    if let Some(mode) = mode {
        rustix::fs::chmod(&*own, Mode::from_raw_mode(mode & 0o7777)).about(|| path.to_owned())?;
    }
    if let Some((seconds, nanos)) = time {
        rustix::fs::utimensat(CWD, &*own, &times(seconds, nanos), AtFlags::empty())
            .about(|| path.to_owned())?;
    }
    Ok(())
}

fn times(seconds: i64, nanos: i64) -> Timestamps {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanos };
    Timestamps { last_access: time, last_modification: time }
}

/// Writes a file that stands in the Dockerfile.
pub fn write(root: &Root, action: &WriteAction, epoch: Option<i64>) -> Result<()> {
    let who = owner(root, &action.owner)?.unwrap_or(Owner(0, 0));
    let path = place(root, &action.target, &action.name, who, epoch)?;
    let (dir, name) = parent(root, &path)?;
    remove(root, &dir, &path, &name, false)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(&dir, &name, flags, Mode::from_raw_mode(0o600)).about(|| path.clone())?;
    let mut file = File::from(fd);
    file.write_all(action.content.as_bytes()).about(|| path.clone())?;
    let mode = if action.mode.is_empty() {
        0o644
    } else {
        mode::changed(&action.mode, 0o644, false).unwrap_or(0o644)
    };
    set(&OwnedFd::from(file), who, Some(mode), epoch.map(|e| (e, 0)), &path)
}

/// The path of a file `name` copied to `target`, whose directories are made.
fn place(root: &Root, target: &str, name: &str, who: Owner, epoch: Option<i64>) -> Result<String> {
    let is_dir = |path: &str| {
        root.at(path, true)
            .and_then(|fd| rustix::fs::fstat(&fd))
            .is_ok_and(|s| kind(&s) == FileType::Directory)
    };
    let path = if target.ends_with('/') || is_dir(target) {
        format!("{}/{name}", target.trim_end_matches('/'))
    } else {
        target.to_owned()
    };
    let path = clean(&path);
    let above = path.rsplit_once('/').map_or("", |(above, _)| above);
    make_dirs(root, above, who, epoch)?;
    Ok(path)
}

/// The open parent directory of a path, links followed, and its last part.
fn parent(root: &Root, path: &str) -> Result<(OwnedFd, String)> {
    let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
    Ok((root.dir(if above.is_empty() { "/" } else { above })?, name.to_owned()))
}

/// Makes room for a new file; a directory stays if a directory comes.
fn remove(root: &Root, dir: &OwnedFd, path: &str, name: &str, directory: bool) -> Result<bool> {
    let stat = match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => stat,
        Err(Errno::NOENT) => return Ok(false),
        Err(e) => return Err(Error::io(path.to_owned(), e.into())),
    };
    match kind(&stat) {
        FileType::Directory if directory => return Ok(true),
        FileType::Directory => {
            return Err(Error::invalid(format!("cannot copy to non-directory: {path} is a directory")));
        }
        FileType::Symlink if directory => {
            let target = root.at(path, true).and_then(|fd| rustix::fs::fstat(&fd));
            if target.is_ok_and(|s| kind(&s) == FileType::Directory) {
                return Ok(true);
            }
        }
        _ => {}
    }
    if directory {
        return Err(Error::invalid(format!("cannot copy to non-directory: {path}")));
    }
    rustix::fs::unlinkat(dir, name, AtFlags::empty()).about(|| path.to_owned())?;
    Ok(false)
}

/// How files are copied.
struct Copying<'a> {
    source: &'a Source<'a>,
    root: &'a Root,
    owner: Option<Owner>,
    mode: &'a str,
    epoch: Option<i64>,
    /// What came of files with several names: a path, and the file that was made there.
    links: HashMap<(u64, u64), (String, (u64, u64))>,
    /// The directory that was written to last, by its path.
    parent: Option<(String, OwnedFd)>,
    /// The directory that was read from last.
    from: Option<(String, OwnedFd)>,
    buffer: Vec<u8>,
    /// Something that was copied is not what was digested.
    strayed: bool,
}

/// Files up to this size are read and written, larger ones are copied by the kernel.
const SMALL: usize = 64 << 10;

/// Copies a selection into the tree. Whether everything was still what it was when the selection was digested, if it was.
///
/// The digest says what a result is found under later, and the files may change in between: what was copied is compared,
/// by the file's status where that tells of every change, else by its content.
///
/// # Errors
/// I/O errors; a file that has vanished.
pub fn copy(
    source: &Source<'_>,
    selection: &Selection,
    root: &Root,
    action: &CopyAction,
    epoch: Option<i64>,
) -> Result<bool> {
    let who = owner(root, &action.owner)?;
    let mut copying = Copying {
        source,
        root,
        owner: who,
        mode: &action.mode,
        epoch,
        links: HashMap::new(),
        parent: None,
        from: None,
        buffer: vec![0; SMALL],
        strayed: false,
    };
    let several = selection.roots.len() > 1;
    for selected in &selection.roots {
        if action.unpack && selected.single && copying.unpack(selected, &action.target)? {
            continue;
        }
        let target =
            if several { format!("{}/", action.target.trim_end_matches('/')) } else { action.target.clone() };
        copying.selected(selected, &target)?;
    }
    Ok(!copying.strayed)
}

impl Copying<'_> {
    fn new_owner(&self) -> Owner {
        self.owner.unwrap_or(Owner(0, 0))
    }

    fn selected(&mut self, selected: &Selected, target: &str) -> Result<()> {
        if selected.single {
            let Some(entry) = selected.entries.first() else { return Ok(()) };
            let path = place(self.root, target, &entry.to, self.new_owner(), self.epoch)?;
            return self.entry(entry, &path, true);
        }
        let base = clean(target);
        let base = base.trim_end_matches('/');
        make_dirs(self.root, base, self.new_owner(), self.epoch)?;
        let mut directories = Vec::new();
        for entry in selected.entries.iter().filter(|entry| !entry.to.is_empty()) {
            let path = format!("{base}/{}", entry.to);
            self.entry(entry, &path, false)?;
            if kind(&entry.stat) == FileType::Directory {
                directories.push((path, &entry.stat));
            }
        }
        // What was made in them has changed their times.
        for (path, stat) in directories.into_iter().rev() {
            let fd = self.root.at(&path, true).about(|| path.clone())?;
            let (seconds, nanos) = mtime(stat);
            rustix::fs::utimensat(CWD, &*fd_path(&fd), &times(seconds, nanos), AtFlags::empty())
                .about(|| path.clone())?;
        }
        Ok(())
    }

    fn ids(&self, stat: &Stat) -> Owner {
        self.owner.unwrap_or(if self.source.anonymous {
            Owner(0, 0)
        } else {
            Owner(stat.st_uid, stat.st_gid)
        })
    }

    fn mode(&self, stat: &Stat) -> u32 {
        let mode = stat.st_mode & 0o7777;
        if self.mode.is_empty() {
            return mode;
        }
        mode::changed(self.mode, mode, kind(stat) == FileType::Directory).unwrap_or(mode)
    }

    fn entry(&mut self, entry: &Entry, path: &str, single: bool) -> Result<()> {
        let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
        let dir = match self.parent.take() {
            Some((open, dir)) if open == above => dir,
            _ => self.root.dir(if above.is_empty() { "/" } else { above })?,
        };
        let about = |e: Error| e.context(format!("copying {} to {path}", entry.path));
        let result = match kind(&entry.stat) {
            FileType::Directory => self.directory(entry, &dir, (path, name)).map_err(about),
            _ => self.no_directory(entry, &dir, (path, name), single).map_err(about),
        };
        self.parent = Some((above.to_owned(), dir));
        result
    }

    fn directory(&self, entry: &Entry, dir: &OwnedFd, (path, name): (&str, &str)) -> Result<()> {
        if !remove(self.root, dir, path, name, true)? {
            rustix::fs::mkdirat(dir, name, Mode::RWXU).about(|| "creating it")?;
        }
        let fd = self.root.at(path, true).about(|| path.to_owned())?;
        set(&fd, self.ids(&entry.stat), Some(self.mode(&entry.stat)), None, path)
    }

    fn no_directory(
        &mut self,
        entry: &Entry,
        dir: &OwnedFd,
        (path, name): (&str, &str),
        single: bool,
    ) -> Result<()> {
        let stat = &entry.stat;
        let (owner, mode) = (self.ids(stat), self.mode(stat));
        if stat.st_nlink > 1 && self.link(stat, dir, (path, name))? {
            return Ok(());
        }
        if kind(stat) == FileType::RegularFile {
            self.file(entry, dir, (path, name), single, (owner, mode))?;
        } else {
            self.special(entry, dir, (path, name), (owner, mode))?;
        }
        if stat.st_nlink > 1
            && let Some(made) = inode_at(dir, name)
        {
            self.links.insert(inode(stat), (path.to_owned(), made));
        }
        Ok(())
    }

    /// Makes a further name of a file that was copied before, if what was made then is still there.
    fn link(&mut self, stat: &Stat, dir: &OwnedFd, (path, name): (&str, &str)) -> Result<bool> {
        let Some((first, made)) = self.links.get(&inode(stat)).cloned() else { return Ok(false) };
        if inode_at(dir, name) == Some(made) {
            return Ok(true);
        }
        let Ok((other, other_name)) = parent(self.root, &first) else { return Ok(false) };
        if inode_at(&other, &other_name) != Some(made) {
            return Ok(false);
        }
        self.make_room(dir, path, name)?;
        rustix::fs::linkat(&other, &*other_name, dir, name, AtFlags::empty()).about(|| "linking it")?;
        Ok(true)
    }

    /// Removes what is in the way of a new file; its number may be that of another one next.
    fn make_room(&mut self, dir: &OwnedFd, path: &str, name: &str) -> Result<()> {
        if !self.links.is_empty()
            && let Some(gone) = inode_at(dir, name)
        {
            self.links.retain(|_, (_, made)| *made != gone);
        }
        remove(self.root, dir, path, name, false).map(drop)
    }

    /// Makes a link, a pipe or a device.
    fn special(
        &mut self,
        entry: &Entry,
        dir: &OwnedFd,
        (path, name): (&str, &str),
        (owner, mode): (Owner, u32),
    ) -> Result<()> {
        let stat = &entry.stat;
        self.make_room(dir, path, name)?;
        if kind(stat) == FileType::Symlink {
            let fd = self.source.root.at(&entry.path, false).about(|| entry.path.clone())?;
            let target = rustix::fs::readlinkat(&fd, "", Vec::new()).about(|| entry.path.clone())?;
            rustix::fs::symlinkat(&target, dir, name).about(|| "creating it")?;
            self.strayed |= entry.seen.is_some_and(|seen| seen.digest != memo::digest_of(target.as_bytes()));
        } else {
            rustix::fs::mknodat(dir, name, kind(stat), Mode::from_raw_mode(mode), stat.st_rdev)
                .about(|| "creating it")?;
        }
        let (uid, gid) = (Uid::from_raw(owner.0), Gid::from_raw(owner.1));
        rustix::fs::chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
            .about(|| "setting its owner")?;
        if kind(stat) != FileType::Symlink {
            rustix::fs::chmodat(dir, name, Mode::from_raw_mode(mode), AtFlags::empty())
                .about(|| "setting its mode")?;
        }
        let (seconds, nanos) = mtime(stat);
        rustix::fs::utimensat(dir, name, &times(seconds, nanos), AtFlags::SYMLINK_NOFOLLOW)
            .about(|| "setting its time")
    }

    fn file(
        &mut self,
        entry: &Entry,
        dir: &OwnedFd,
        (path, name): (&str, &str),
        single: bool,
        (owner, mode): (Owner, u32),
    ) -> Result<()> {
        let from = self.open_source(entry, single)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let make = || rustix::fs::openat(dir, name, flags, Mode::RUSR | Mode::WUSR);
        let to = match make() {
            Err(Errno::EXIST) => {
                self.make_room(dir, path, name)?;
                make()
            }
            other => other,
        };
        let to = to.about(|| "creating it")?;
        copy_content(&from, &to, entry.stat.st_size, &mut self.buffer)?;
        let (uid, gid) = (Uid::from_raw(owner.0), Gid::from_raw(owner.1));
        rustix::fs::fchown(&to, Some(uid), Some(gid)).about(|| "setting its owner")?;
        rustix::fs::fchmod(&to, Mode::from_raw_mode(mode)).about(|| "setting its mode")?;
        // After the owner: a change of that takes capabilities away.
        let attributes = xattrs(&from);
        self.strayed |= !self.as_digested(entry, &from, &to, &attributes)?;
        for (key, value) in &attributes {
            match rustix::fs::fsetxattr(&to, &**key, value, XattrFlags::empty()) {
                Ok(()) | Err(Errno::NOTSUP | Errno::PERM) => {}
                Err(e) => return Err(Error::io("setting an attribute", e.into())),
            }
        }
        let (seconds, nanos) = mtime(&entry.stat);
        rustix::fs::futimens(&to, &times(seconds, nanos)).about(|| "setting its time")
    }

    /// Whether what was copied from one file to the other is what was digested.
    fn as_digested(
        &mut self,
        entry: &Entry,
        from: &OwnedFd,
        to: &OwnedFd,
        attributes: &[(Vec<u8>, Vec<u8>)],
    ) -> Result<bool> {
        let Some(seen) = entry.seen else { return Ok(true) };
        if seen.sure && memo::unchanged(&entry.stat, &rustix::fs::fstat(from).about(|| "reading it")?) {
            return Ok(true);
        }
        let mut hasher = attributes_hash(attributes);
        rustix::fs::seek(to, SeekFrom::Start(0)).about(|| "reading it again")?;
        let mut copied = File::from(to.try_clone().about(|| "reading it again")?);
        rest(&mut hasher, &mut copied, &mut self.buffer).about(|| "reading it again")?;
        Ok(memo::raw(hasher) == seen.digest)
    }

    fn open_source(&mut self, entry: &Entry, single: bool) -> Result<OwnedFd> {
        let (above, name) = entry.path.rsplit_once('/').unwrap_or(("", &entry.path));
        if single || name.is_empty() {
            return open_file(self.source.root, &entry.path, single);
        }
        if self.from.as_ref().is_none_or(|(path, _)| path != above) {
            self.from = Some((above.to_owned(), self.source.root.dir(above)?));
        }
        let Some((_, dir)) = &self.from else { return open_file(self.source.root, &entry.path, single) };
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(dir, name, flags, Mode::empty()).about(|| entry.path.clone())
    }

    /// Gives a file, not what a link leads to, an owner; its set-id bits stay.
    fn own(&self, path: &str, owner: Owner) -> Result<()> {
        let (dir, name) = match parent(self.root, &clean(path)) {
            Ok(place) if !place.1.is_empty() => place,
            _ => return Ok(()),
        };
        let Ok(stat) = rustix::fs::statat(&dir, &*name, AtFlags::SYMLINK_NOFOLLOW) else { return Ok(()) };
        let (uid, gid) = (Uid::from_raw(owner.0), Gid::from_raw(owner.1));
        rustix::fs::chownat(&dir, &*name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
            .about(|| path.to_owned())?;
        if kind(&stat) != FileType::Symlink {
            rustix::fs::chmodat(&dir, &*name, Mode::from_raw_mode(stat.st_mode & 0o7777), AtFlags::empty())
                .about(|| path.to_owned())?;
        }
        Ok(())
    }

    /// Unpacks the file if it is an archive; whether it was one.
    fn unpack(&mut self, selected: &Selected, target: &str) -> Result<bool> {
        let Some(entry) = selected.entries.first() else { return Ok(false) };
        if kind(&entry.stat) != FileType::RegularFile {
            return Ok(false);
        }
        let fd = open_file(self.source.root, &entry.path, true)?;
        let hasher = attributes_hash(&xattrs(&fd));
        let mut file = File::from(fd);
        if !archive::is_archive(&mut file)? {
            return Ok(false);
        }
        let base = clean(target);
        make_dirs(self.root, base.trim_end_matches('/'), self.new_owner(), self.epoch)?;
        let dir = self.root.dir(&base)?;
        let again = file.try_clone().about(|| entry.path.clone())?;
        let about = |e: Error| e.context(format!("unpacking {}", entry.path));
        let mut file = archive::Hashing { file, hasher };
        self.links.clear();
        archive::unpack(&mut file, &dir).map_err(about)?;
        // What follows the archive in the file belongs to what was digested.
        std::io::copy(&mut file, &mut std::io::sink()).about(|| entry.path.clone())?;
        let read = memo::raw(file.hasher);
        self.strayed |= entry.seen.is_some_and(|seen| seen.digest != read);
        if let Some(owner) = self.owner {
            // The owner that was asked for is that of all that came out.
            let names = archive::members(again.try_clone().about(|| entry.path.clone())?).map_err(about)?;
            for path in names {
                self.own(&format!("{}/{path}", base.trim_end_matches('/')), owner)?;
            }
            let now = rustix::fs::fstat(&again).about(|| entry.path.clone())?;
            self.strayed |= entry.seen.is_some() && !memo::unchanged(&entry.stat, &now);
        }
        Ok(true)
    }
}

#[allow(clippy::useless_conversion)]
fn inode(stat: &Stat) -> (u64, u64) {
    (stat.st_dev.into(), stat.st_ino.into())
}

fn inode_at(dir: &OwnedFd, name: &str) -> Option<(u64, u64)> {
    rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).ok().map(|stat| inode(&stat))
}

#[allow(clippy::useless_conversion)]
fn mtime(stat: &Stat) -> (i64, i64) {
    (stat.st_mtime.into(), i64::try_from(stat.st_mtime_nsec).unwrap_or(0))
}

fn copy_content(from: &OwnedFd, to: &OwnedFd, size: i64, buffer: &mut [u8]) -> Result<()> {
    if usize::try_from(size).is_ok_and(|size| size < buffer.len()) {
        // The file may have grown: until its end, not until its size.
        loop {
            let n =
                rustix::io::retry_on_intr(|| rustix::io::read(from, &mut *buffer)).about(|| "reading it")?;
            let mut rest = &buffer[..n];
            while !rest.is_empty() {
                let done =
                    rustix::io::retry_on_intr(|| rustix::io::write(to, rest)).about(|| "writing it")?;
                rest = &rest[done..];
            }
            if n < buffer.len() {
                return Ok(());
            }
        }
    }
    loop {
        match rustix::fs::copy_file_range(from.as_fd(), None, to.as_fd(), None, 1 << 30) {
            Ok(0) => return Ok(()),
            Ok(_) | Err(Errno::INTR) => {}
            Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM) => break,
            Err(e) => return Err(Error::io("copying it", e.into())),
        }
    }
    let reader = from.try_clone().about(|| "copying it")?;
    let writer = to.try_clone().about(|| "copying it")?;
    std::io::copy(&mut File::from(reader), &mut File::from(writer)).about(|| "copying it")?;
    Ok(())
}

/// The attributes of an open file that belong into an image.
pub fn xattrs(fd: &OwnedFd) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut short = [0_u8; 512];
    let mut long = Vec::new();
    let list: &[u8] = match rustix::fs::flistxattr(fd, &mut short) {
        Ok(0) => return Vec::new(),
        Ok(length) => &short[..length],
        Err(Errno::RANGE) => {
            // As long as the kernel lets it become.
            long.resize(65536, 0);
            let Ok(length) = rustix::fs::flistxattr(fd, &mut long) else { return Vec::new() };
            &long[..length]
        }
        Err(_) => return Vec::new(),
    };
    let mut found = Vec::new();
    for name in list.split(|b| *b == 0).filter(|name| !name.is_empty()) {
        let ours = name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.");
        if ours || name.starts_with(b"security.selinux") {
            continue;
        }
        let mut value = vec![0_u8; 65536];
        if let Ok(n) = rustix::fs::fgetxattr(fd, name, &mut value) {
            value.truncate(n);
            found.push((name.to_vec(), value));
        }
    }
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::memo::Memo;
    use super::super::{select, tree, whole};
    use super::*;

    /// Digests a context, changes it, copies what was found. Whether the copy is said to be what was digested.
    fn after(settled: bool, unpack: bool, change: impl Fn(&Path)) -> Result<bool> {
        let dir = tempfile::tempdir().unwrap();
        let (context, to, root) =
            (dir.path().join("context"), dir.path().join("to"), dir.path().join("root"));
        for dir in [&context, &to] {
            std::fs::create_dir(dir).unwrap();
        }
        std::fs::write(context.join("file"), "one").unwrap();
        std::fs::hard_link(context.join("file"), context.join("again")).unwrap();
        std::fs::write(context.join("large"), vec![b'x'; 3 * SMALL]).unwrap();
        std::os::unix::fs::symlink("file", context.join("link")).unwrap();
        std::fs::write(context.join("a.tar"), archive(0)).unwrap();
        let from = tree::open_dir(&context).unwrap();
        let source = Source { root: &from, ignore: None, anonymous: true };
        let action = CopyAction { unpack, ..whole(if unpack { "/a.tar" } else { "/" }) };
        let mut selection = select::select(&source, &action).unwrap();
        let memo = Memo::open(&root, &context, &from.0);
        if settled {
            memo.settle(selection.roots.iter().flat_map(|r| &r.entries).map(|e| &e.stat));
        }
        select::digest(&source, &mut selection, Some(&memo)).unwrap();
        change(&context);
        let done = copy(&source, &selection, &tree::open_dir(&to).unwrap(), &action, None);
        if done.is_ok() {
            assert_eq!(to.join("inside").is_dir(), unpack);
        }
        done
    }

    fn archive(mtime: i64) -> Vec<u8> {
        let mut archive = fluyt_image::layer::writer::TarWriter::new(Vec::new());
        archive.append_directory("inside", mtime).unwrap();
        archive.finish().unwrap()
    }

    /// Other content of the same size, in the same inode, with the old time of modification.
    fn forge(path: &Path) {
        let modified = std::fs::metadata(path).unwrap().modified().unwrap();
        let mut bytes = std::fs::read(path).unwrap();
        let last = bytes.last_mut().unwrap();
        *last ^= 1;
        std::fs::write(path, bytes).unwrap();
        std::fs::File::options().write(true).open(path).unwrap().set_modified(modified).unwrap();
    }

    #[test]
    fn a_copy_of_what_has_changed_since_it_was_digested_says_so() {
        for settled in [false, true] {
            assert!(after(settled, false, |_| {}).unwrap());
            assert!(after(settled, true, |_| {}).unwrap());
            for name in ["file", "large", "a.tar"] {
                assert!(!after(settled, false, |dir| forge(&dir.join(name))).unwrap(), "{name}");
            }
            let other = |dir: &Path| std::fs::write(dir.join("a.tar"), archive(1)).unwrap();
            assert!(!after(settled, true, other).unwrap());
            let grown = |dir: &Path| std::fs::write(dir.join("file"), "one and more").unwrap();
            assert!(!after(settled, false, grown).unwrap());
            let linked = |dir: &Path| {
                std::fs::remove_file(dir.join("link")).unwrap();
                std::os::unix::fs::symlink("large", dir.join("link")).unwrap();
            };
            assert!(!after(settled, false, linked).unwrap());
            let gone = |dir: &Path| std::fs::remove_file(dir.join("large")).unwrap();
            assert!(after(settled, false, gone).is_err());
            // A link in its place is not followed.
            let replaced = |dir: &Path| {
                std::fs::remove_file(dir.join("large")).unwrap();
                std::os::unix::fs::symlink("/etc/passwd", dir.join("large")).unwrap();
            };
            assert!(after(settled, false, replaced).is_err());
        }
    }

    #[test]
    fn what_was_touched_only_is_still_the_same() {
        let touched = |dir: &Path| {
            let file = std::fs::File::options().write(true).open(dir.join("large")).unwrap();
            file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
        };
        assert!(after(true, false, touched).unwrap());
        // What came after the look is not copied.
        assert!(after(true, false, |dir| std::fs::write(dir.join("new"), "x").unwrap()).unwrap());
    }
}
