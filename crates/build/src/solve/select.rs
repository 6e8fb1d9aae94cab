//! Which files of a tree an operation takes, and the digest of what they are: content and metadata, no times.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use fluyt_image::Digest;
use fluyt_image::digest::{Algorithm, Hasher};
use fluyt_model::error::IoContext;
use fluyt_model::{Error, Kind, Result};
use rustix::fs::{AtFlags, FileType, OFlags, Stat};

use super::memo::{self, FileDigest, Memo};
use super::tree::{Root, check_depth, kind, names};
use crate::graph::CopyAction;
use crate::ignore::{Ignore, Matched, glob_matches, has_wildcards, parse_glob};

/// One file or directory.
pub struct Entry {
    /// Its path in the tree.
    pub path: String,
    /// Its path below the target; empty for the directory that is copied itself.
    pub to: String,
    /// Its status.
    pub stat: Stat,
    /// What it was when it was digested.
    pub seen: Option<Seen>,
}

/// What a file was when it was digested: what is copied later has to be the same.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// The digest of its attributes and content; of a link its target's.
    pub digest: FileDigest,
    /// A change since then shows in its status.
    pub sure: bool,
}

/// What one source leads to.
#[derive(Default)]
pub struct Selection {
    /// Each match of the source: a single file, or a directory with what is in it.
    pub roots: Vec<Selected>,
}

/// One match.
pub struct Selected {
    /// It is one file.
    pub single: bool,
    /// Parents before children.
    pub entries: Vec<Entry>,
}

/// A tree to select from.
pub struct Source<'a> {
    /// Its root.
    pub root: &'a Root,
    /// What of it does not exist.
    pub ignore: Option<&'a Ignore>,
    /// Owners do not count: everything is root's.
    pub anonymous: bool,
}

/// Finds the files of a copy.
pub fn select(source: &Source<'_>, action: &CopyAction) -> Result<Selection> {
    let exclude = Ignore::new(action.exclude.iter().map(String::as_str)).map_err(|f| f.error)?;
    let mut selection = Selection::default();
    let wild = action.wildcards && action.parents.is_none() && has_wildcards(&action.path);
    let paths = if wild { expand(source, &action.path)? } else { vec![action.path.clone()] };
    for path in paths {
        if let Some(found) = select_one(source, &path, action, &exclude, wild)? {
            selection.roots.push(found);
        }
    }
    Ok(selection)
}

fn missing(path: &str) -> Error {
    Error::new(
        Kind::NotFound,
        format!("failed to compute cache key: failed to calculate checksum: \"{path}\": not found"),
    )
    .with_hint("paths are relative to the build context; .dockerignore may leave the file out")
}

fn select_one(
    source: &Source<'_>,
    path: &str,
    action: &CopyAction,
    exclude: &Ignore,
    wild: bool,
) -> Result<Option<Selected>> {
    let named = path.trim_matches('/');
    // What a link leads to exists only if it is not left out where it is.
    let real = match source.ignore.filter(|ignore| !ignore.is_empty()).map(|_| source.root.real_path(path)) {
        None => path.to_owned(),
        Some(Ok(real)) => real,
        Some(Err(_)) if source.root.at(path, true).is_err() => return Err(missing(path)),
        Some(Err(e)) => return Err(e),
    };
    let bare = real.trim_matches('/');
    let left_out = |i: &Ignore, path: &str| !path.is_empty() && !i.takes_back() && i.leaves_out(path);
    let ignored = source.ignore.is_some_and(|i| left_out(i, named) || left_out(i, bare));
    let fd = match source.root.at(path, true) {
        Ok(fd) if !ignored => fd,
        Ok(_) => return Err(missing(path)),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Err(missing(path)),
        Err(e) => return Err(Error::io(path.to_owned(), e.into())),
    };
    let stat = rustix::fs::fstat(&fd).about(|| path.to_owned())?;
    if kind(&stat) != FileType::Directory {
        let file_ignored = source.ignore.is_some_and(|i| i.leaves_out(named) || i.leaves_out(bare));
        if file_ignored {
            return Err(missing(path));
        }
        let to = named.rsplit('/').next().unwrap_or(named).to_owned();
        if exclude.leaves_out(&to) {
            return Ok(None);
        }
        let path = path.to_owned();
        return Ok(Some(Selected { single: true, entries: vec![Entry { path, to, stat, seen: None }] }));
    }
    let mut walk = Walk {
        source,
        exclude,
        pattern: action
            .parents
            .as_deref()
            .map(|text| parse_glob(text, true))
            .transpose()
            .map_err(|f| f.error)?,
        pattern_text: action.parents.clone().unwrap_or_default(),
        entries: vec![Entry { path: real.clone(), to: String::new(), stat, seen: None }],
        waiting: Vec::new(),
    };
    let ignored = source.ignore.map(|i| {
        if bare.is_empty() {
            (false, None)
        } else {
            let (out, state) = i.matches(bare, None);
            (out, Some(state))
        }
    });
    let (out, state) = ignored.unwrap_or((false, None));
    walk.dir(&real, "", Around { ignored: out, ignore: state, excluded: None, inside: false })?;
    if out && walk.entries.len() == 1 {
        return Err(missing(path));
    }
    if let Some(text) = &action.parents
        && walk.entries.len() == 1
        && !has_wildcards(text)
        && !has_wildcards(path)
    {
        return Err(missing(&format!("{}/{text}", path.trim_end_matches('/'))));
    }
    let _ = wild;
    Ok(Some(Selected { single: false, entries: walk.entries }))
}

struct Walk<'a> {
    source: &'a Source<'a>,
    exclude: &'a Ignore,
    pattern: Option<Vec<crate::ignore::Part>>,
    pattern_text: String,
    entries: Vec<Entry>,
    /// Directories that are taken only if something in them is.
    waiting: Vec<Entry>,
}

/// What is known of a directory.
#[derive(Clone, Default)]
struct Around {
    ignored: bool,
    ignore: Option<Matched>,
    excluded: Option<Matched>,
    /// The pattern of `--parents` has matched above.
    inside: bool,
}

impl Walk<'_> {
    fn dir(&mut self, path: &str, to: &str, around: Around) -> Result<()> {
        check_depth(path)?;
        let dir = self.source.root.dir(path)?;
        for name in names(&dir, path)? {
            let stat = match rustix::fs::statat(&dir, &name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                Err(rustix::io::Errno::NOENT) => continue,
                Err(e) => return Err(Error::io(format!("{path}/{name}"), e.into())),
            };
            self.entry(path, to, &name, stat, &around)?;
        }
        Ok(())
    }

    fn entry(&mut self, path: &str, to: &str, name: &str, stat: Stat, around: &Around) -> Result<()> {
        let path = format!("{}/{name}", path.trim_end_matches('/'));
        let to = if to.is_empty() { name.to_owned() } else { format!("{to}/{name}") };
        let is_dir = kind(&stat) == FileType::Directory;
        let mut below = Around { inside: around.inside, ..Around::default() };
        let mut out = false;
        if let Some(ignore) = self.source.ignore {
            let (ignored, state) = ignore.matches(path.trim_start_matches('/'), around.ignore.as_ref());
            out |= ignored;
            (below.ignored, below.ignore) = (ignored, Some(state));
            if ignored && (!is_dir || !ignore.takes_back()) {
                return Ok(());
            }
        }
        if !self.exclude.is_empty() {
            let (excluded, state) = self.exclude.matches(&to, around.excluded.as_ref());
            out |= excluded;
            below.excluded = Some(state);
            if excluded && (!is_dir || !self.exclude.takes_back()) {
                return Ok(());
            }
        }
        if let Some(pattern) = &self.pattern
            && !below.inside
        {
            below.inside =
                glob_matches(pattern, &to) || self.pattern_text == "." || self.pattern_text.is_empty();
            if !below.inside && !is_dir {
                return Ok(());
            }
            out |= !below.inside;
        }
        // A whiteout is no file.
        if kind(&stat) == FileType::CharacterDevice && stat.st_rdev == 0 {
            return Ok(());
        }
        if matches!(kind(&stat), FileType::Socket) {
            return Ok(());
        }
        let entry = Entry { path: path.clone(), to: to.clone(), stat, seen: None };
        if out {
            self.waiting.push(entry);
            let depth = self.waiting.len();
            self.dir(&path, &to, below)?;
            if self.waiting.len() == depth {
                self.waiting.pop();
            }
            return Ok(());
        }
        self.entries.append(&mut self.waiting);
        self.entries.push(entry);
        if is_dir { self.dir(&path, &to, below) } else { Ok(()) }
    }
}

/// The paths that a pattern leads to, sorted.
fn expand(source: &Source<'_>, pattern: &str) -> Result<Vec<String>> {
    let mut found = vec![String::new()];
    for part in pattern.split('/').filter(|part| !part.is_empty()) {
        let mut next = Vec::new();
        if !has_wildcards(part) {
            let plain = part.replace('\\', "");
            next.extend(found.iter().map(|base| format!("{base}/{plain}")));
            next.retain(|path| source.root.at(path, false).is_ok());
        } else {
            let glob = parse_glob(part, false).map_err(|f| f.error)?;
            for base in &found {
                let is_dir = source
                    .root
                    .at(base, true)
                    .and_then(|fd| rustix::fs::fstat(&fd))
                    .is_ok_and(|stat| kind(&stat) == FileType::Directory);
                if is_dir {
                    let names = source.root.names(base)?;
                    next.extend(
                        names.iter().filter(|n| glob_matches(&glob, n)).map(|n| format!("{base}/{n}")),
                    );
                }
            }
        }
        found = next;
    }
    found.retain(|path| {
        let bare = path.trim_start_matches('/');
        !source.ignore.is_some_and(|ignore| ignore.leaves_out(bare))
    });
    Ok(found)
}

/// Files that one thread may hash before another is worth starting, in files and in bytes.
const FEW: (usize, u64) = (32, 1 << 20);

/// Bytes that take longer to hash than it takes until they can be noted.
const MUCH: u64 = 64 << 20;

/// The digest of what a selection is, with what each file was. Files that `memo` knows are not read.
pub fn digest(source: &Source<'_>, selection: &mut Selection, memo: Option<&Memo>) -> Result<Digest> {
    see(source, selection, memo)?;
    let mut hasher = Hasher::new(Algorithm::Sha256);
    let mut inodes: HashMap<(u64, u64), (usize, Option<Seen>)> = HashMap::new();
    let mut number = 0;
    for selected in &mut selection.roots {
        hasher.update(if selected.single { b"file\n" } else { b"tree\n" });
        for entry in &mut selected.entries {
            number += 1;
            let stat = &entry.stat;
            let (uid, gid) = if source.anonymous { (0, 0) } else { (stat.st_uid, stat.st_gid) };
            // The directory whose content is taken is not copied itself: what mode somebody's checkout has is nothing of the
            // result's. Of a stage it is the same each time, and a mount shows it.
            let passed_through = source.anonymous && !selected.single && entry.to.is_empty();
            let mode = if passed_through { stat.st_mode & !0o7777 } else { stat.st_mode };
            let head = format!("{}\0{mode:o}\0{uid}\0{gid}\0{}\0", entry.to, rdev(stat));
            hasher.update(head.as_bytes());
            if kind(stat) != FileType::Directory && stat.st_nlink > 1 {
                let (first, seen) = inodes.entry(inode(stat)).or_insert((number, entry.seen));
                if *first != number {
                    hasher.update(format!("link {first}\n").as_bytes());
                    entry.seen = *seen;
                    continue;
                }
            }
            match kind(stat) {
                FileType::RegularFile => {
                    hasher.update(&entry.seen.map(|seen| seen.digest).unwrap_or_default())
                }
                FileType::Symlink => {
                    let fd = source.root.at(&entry.path, false).about(|| entry.path.clone())?;
                    let target = rustix::fs::readlinkat(&fd, "", Vec::new()).about(|| entry.path.clone())?;
                    let length = target.as_bytes().len() as u64;
                    hasher.update(&length.to_le_bytes());
                    hasher.update(target.as_bytes());
                    entry.seen = Some(Seen { digest: memo::digest_of(target.as_bytes()), sure: false });
                }
                _ => {}
            }
            hasher.update(b"\n");
        }
    }
    Ok(hasher.finish())
}

#[allow(clippy::useless_conversion)]
fn inode(stat: &Stat) -> (u64, u64) {
    (stat.st_dev.into(), stat.st_ino.into())
}

/// Reads the regular files of a selection, but not a further name of a file that came before.
fn see(source: &Source<'_>, selection: &mut Selection, memo: Option<&Memo>) -> Result<()> {
    let mut to_read: Vec<(&mut Entry, bool)> = Vec::new();
    let mut seen: HashSet<(u64, u64)> = HashSet::new();
    let mut bytes = 0;
    for selected in &mut selection.roots {
        let single = selected.single;
        for entry in selected.entries.iter_mut().filter(|e| kind(&e.stat) == FileType::RegularFile) {
            let again = entry.stat.st_nlink > 1 && !seen.insert(inode(&entry.stat));
            let known = memo.and_then(|memo| memo.find(&entry.stat));
            entry.seen = known.map(|digest| Seen { digest, sure: true });
            if !again && known.is_none() {
                bytes += u64::try_from(entry.stat.st_size).unwrap_or(0);
                to_read.push((entry, single));
            }
        }
    }
    if let Some(memo) = memo.filter(|_| bytes >= MUCH) {
        memo.settle(to_read.iter().map(|(entry, _)| &entry.stat));
    }
    let helpers = if to_read.len() < FEW.0 && bytes < FEW.1 {
        0
    } else {
        std::thread::available_parallelism().map_or(1, usize::from).min(to_read.len()).saturating_sub(1)
    };
    let when = SystemTime::now();
    let rest = Mutex::new(to_read.into_iter());
    let next = || rest.lock().unwrap_or_else(PoisonError::into_inner).next();
    let work = || -> Result<()> {
        let mut buffer = vec![0_u8; 256 * 1024];
        while let Some((entry, single)) = next() {
            let read = content(source, entry, single, when, memo, &mut buffer).inspect_err(|_| {
                // The others need not go on.
                while next().is_some() {}
            });
            entry.seen = Some(read?);
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..helpers).map(|_| scope.spawn(work)).collect();
        let mine = work();
        let failed = |_| Err(Error::internal("a hashing thread failed"));
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(failed)).fold(mine, Result::and)
    })
}

fn rdev(stat: &Stat) -> u64 {
    if matches!(kind(stat), FileType::CharacterDevice | FileType::BlockDevice) { stat.st_rdev } else { 0 }
}

/// Opens a regular file; only the source that was named itself may be a link.
pub fn open_file(root: &Root, path: &str, follow: bool) -> Result<OwnedFd> {
    let nofollow = if follow { OFlags::empty() } else { OFlags::NOFOLLOW };
    root.open(path, OFlags::RDONLY | OFlags::NONBLOCK | nofollow).about(|| path.to_owned())
}

/// Reads a file's attributes and content.
fn content(
    source: &Source<'_>,
    entry: &Entry,
    follow: bool,
    when: SystemTime,
    memo: Option<&Memo>,
    buffer: &mut [u8],
) -> Result<Seen> {
    let fd = open_file(source.root, &entry.path, follow)?;
    let mut hasher = attributes(&super::files::xattrs(&fd));
    rest(&mut hasher, &mut File::from(fd), buffer).about(|| entry.path.clone())?;
    let digest = memo::raw(hasher);
    let sure = memo.is_some_and(|memo| memo.note(&entry.stat, when, digest));
    Ok(Seen { digest, sure })
}

/// A hash that has taken a file's attributes and waits for its content.
pub fn attributes(attributes: &[(Vec<u8>, Vec<u8>)]) -> Hasher {
    let mut hasher = Hasher::new(Algorithm::Sha256);
    // With numbers and lengths, so that nothing can pass for something else.
    hasher.update(&(attributes.len() as u64).to_le_bytes());
    for part in attributes.iter().flat_map(|(name, value)| [name, value]) {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher
}

/// Takes all that `file` still gives.
pub fn rest(hasher: &mut Hasher, file: &mut impl Read, buffer: &mut [u8]) -> std::io::Result<()> {
    loop {
        match file.read(buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => hasher.update(&buffer[..n]),
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}
