//! fsutil's protocol: directories from the client, and to it.
//!
//! The sender tells of every file in the order of a walk; the receiver asks for the contents that it wants by their places in
//! that order, and gets them in pieces, several files at once. `FIN` each way is the end.
//!
//! What a client sends is not trusted: an entry is made only in a directory that this transfer has made, under a plain name,
//! and never in place of another.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use fluyt_model::error::IoContext;
use fluyt_model::{Error, Kind, Result};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};

use crate::grpc::Stream;
use crate::proto::{Packet, Stat, packet};
use crate::session::Session;

const FETCH: &str = "/moby.filesync.v1.FileSync/DiffCopy";
/// The method that takes outputs.
pub(crate) const SEND: &str = "/moby.filesync.v1.FileSend/DiffCopy";
/// The pieces in which files are sent.
const PIECE: usize = 64 << 10;

/// Bits of Go's `os.FileMode` beside the permissions.
mod go {
    pub const DIR: u32 = 1 << 31;
    pub const SYMLINK: u32 = 1 << 27;
    pub const DEVICE: u32 = 1 << 26;
    pub const PIPE: u32 = 1 << 25;
    pub const SOCKET: u32 = 1 << 24;
    pub const SETUID: u32 = 1 << 23;
    pub const SETGID: u32 = 1 << 22;
    pub const CHAR: u32 = 1 << 21;
    pub const STICKY: u32 = 1 << 20;
    pub const TYPE: u32 = DIR | SYMLINK | DEVICE | PIPE | SOCKET | CHAR | 1 << 19;
}

/// What of a client's directory is wanted. Patterns are those of `.dockerignore`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Only what matches one of these; none: everything.
    pub include: Vec<String>,
    /// Nothing of what matches these.
    pub exclude: Vec<String>,
    /// Only these paths and what links on them lead to; none: everything.
    pub follow: Vec<String>,
}

impl Selection {
    fn metadata(&self, name: &str) -> Vec<(&'static str, String)> {
        let mut all = Vec::new();
        let name = [name.to_owned()];
        let lists = [
            ("include-patterns", "include-patterns-encoded", &self.include[..]),
            ("exclude-patterns", "exclude-patterns-encoded", &self.exclude[..]),
            ("followpaths", "followpaths-encoded", &self.follow[..]),
            ("dir-name", "dir-name-encoded", &name[..]),
        ];
        for (key, flag, values) in lists {
            let plain = |value: &String| value.bytes().all(|b| (0x20..0x7f).contains(&b));
            if values.iter().all(plain) {
                all.extend(values.iter().map(|value| (key, value.clone())));
            } else {
                let encoded = |value: &String| utf8_percent_encode(value, NON_ALPHANUMERIC).to_string();
                all.extend(values.iter().map(|value| (key, encoded(value))));
                all.push((flag, "1".to_owned()));
            }
        }
        all
    }
}

/// See [`Session::directory`].
pub(crate) fn receive(session: &Session, name: &str, selection: &Selection, into: &Path) -> Result<u64> {
    let stream = session.open(FETCH, &selection.metadata(name))?;
    let (sender, mut stream) = stream.split();
    // Asking has a thread of its own: who only waits to ask would keep the client from sending, and the other way round.
    let (ask, asked) = mpsc::channel::<Packet>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for packet in asked {
                if sender.send(&packet).is_err() {
                    return;
                }
            }
        });
        let mut tree = Tree::new(into);
        let done = take_all(&mut stream, &mut tree, &ask);
        if let Err(e) = &done {
            let _ = ask.send(Packet {
                kind: packet::ERROR,
                data: e.to_string().into_bytes(),
                ..Packet::default()
            });
        }
        drop(ask);
        done?;
        tree.finish()?;
        Ok(tree.bytes)
    })
}

fn take_all(stream: &mut Stream, tree: &mut Tree<'_>, ask: &mpsc::Sender<Packet>) -> Result<()> {
    let cut = || Error::new(Kind::Unavailable, "the client ended the transfer early");
    let (mut number, mut told) = (0, false);
    let mut finished = false;
    loop {
        let Some(word) = stream.receive::<Packet>()? else {
            return if finished { Ok(()) } else { Err(cut()) };
        };
        match word.kind {
            packet::STAT => match word.stat {
                Some(stat) => {
                    if tree.add(number, stat)? {
                        let _ = ask.send(Packet { kind: packet::REQUEST, id: number, ..Packet::default() });
                    }
                    number = number.checked_add(1).ok_or_else(|| Error::invalid("too many files"))?;
                }
                None => told = true,
            },
            packet::DATA => tree.data(word.id, &word.data)?,
            packet::FIN => return Ok(()),
            packet::ERROR => {
                return Err(Error::new(Kind::Unavailable, String::from_utf8_lossy(&word.data).into_owned()));
            }
            other => return Err(Error::invalid(format!("an unknown word {other}"))),
        }
        if told && tree.wanted.is_empty() && !finished {
            finished = true;
            let _ = ask.send(Packet { kind: packet::FIN, ..Packet::default() });
        }
    }
}

/// A directory that fills.
struct Tree<'a> {
    root: &'a Path,
    /// Directories that were made here, with their times.
    directories: BTreeMap<PathBuf, Stat>,
    /// Files that were made here.
    files: BTreeSet<PathBuf>,
    /// What was asked for and has not come whole.
    wanted: HashMap<u32, Wanted>,
    bytes: u64,
}

struct Wanted {
    path: PathBuf,
    stat: Stat,
    file: Option<File>,
}

impl<'a> Tree<'a> {
    fn new(root: &'a Path) -> Self {
        let directories = BTreeMap::from([(PathBuf::new(), Stat::default())]);
        Self { root, directories, files: BTreeSet::new(), wanted: HashMap::new(), bytes: 0 }
    }

    /// Makes an entry; whether its content has to be asked for.
    fn add(&mut self, number: u32, stat: Stat) -> Result<bool> {
        let bad = |why: &str| Error::invalid(format!("the client sent {:?}: {why}", stat.path));
        let relative = Path::new(&stat.path);
        let plain = relative.components().all(|c| matches!(c, std::path::Component::Normal(_)));
        let whole = relative.components().collect::<PathBuf>().as_os_str() == relative.as_os_str();
        if !plain || !whole || stat.path.is_empty() || stat.path.contains('\0') {
            return Err(bad("not a plain path"));
        }
        let parent = relative.parent().unwrap_or(Path::new(""));
        if !self.directories.contains_key(parent) {
            return Err(bad("its directory did not come before"));
        }
        let path = self.root.join(relative);
        let about = || path.display().to_string();
        match stat.mode & go::TYPE {
            go::DIR => {
                std::fs::DirBuilder::new().mode(0o700).create(&path).about(about)?;
                self.directories.insert(relative.to_owned(), stat);
            }
            go::SYMLINK => {
                std::os::unix::fs::symlink(&stat.linkname, &path).about(about)?;
                set_time(&path, stat.mod_time)?;
            }
            go::PIPE => {
                let mode = rustix::fs::Mode::from_raw_mode(permissions(stat.mode));
                rustix::fs::mknodat(CWD, &path, rustix::fs::FileType::Fifo, mode, 0)
                    .map_err(std::io::Error::from)
                    .about(about)?;
            }
            0 if !stat.linkname.is_empty() => {
                let first = Path::new(&stat.linkname);
                if !self.files.contains(first) {
                    return Err(bad("a link to what did not come before"));
                }
                std::fs::hard_link(self.root.join(first), &path).about(about)?;
                self.files.insert(relative.to_owned());
            }
            0 => {
                drop(OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).about(about)?);
                self.files.insert(relative.to_owned());
                if stat.size == 0 {
                    seal(&path, &stat)?;
                    return Ok(false);
                }
                self.wanted.insert(number, Wanted { path, stat, file: None });
                return Ok(true);
            }
            // Devices and sockets are nothing that a build could copy.
            _ => {}
        }
        Ok(false)
    }

    fn data(&mut self, number: u32, bytes: &[u8]) -> Result<()> {
        let unknown =
            || Error::invalid(format!("the client sent data of file {number}, which was not asked for"));
        let wanted = self.wanted.get_mut(&number).ok_or_else(unknown)?;
        let about = || wanted.path.display().to_string();
        if bytes.is_empty() {
            seal(&wanted.path, &wanted.stat)?;
            self.wanted.remove(&number);
            return Ok(());
        }
        let file = match &mut wanted.file {
            Some(file) => file,
            none => none.insert(OpenOptions::new().append(true).open(&wanted.path).about(about)?),
        };
        file.write_all(bytes).about(about)?;
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// Gives directories their modes and times, the innermost first.
    fn finish(&self) -> Result<()> {
        for (path, stat) in self.directories.iter().rev().filter(|(path, _)| !path.as_os_str().is_empty()) {
            seal(&self.root.join(path), stat)?;
        }
        Ok(())
    }
}

/// Gives a file or directory its mode and time.
fn seal(path: &Path, stat: &Stat) -> Result<()> {
    let mode = std::fs::Permissions::from_mode(permissions(stat.mode));
    std::fs::set_permissions(path, mode).about(|| path.display().to_string())?;
    set_time(path, stat.mod_time)
}

fn set_time(path: &Path, nanoseconds: i64) -> Result<()> {
    let time = Timespec {
        tv_sec: nanoseconds.div_euclid(1_000_000_000),
        tv_nsec: nanoseconds.rem_euclid(1_000_000_000),
    };
    let times = Timestamps { last_access: time, last_modification: time };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)
        .map_err(std::io::Error::from)
        .about(|| path.display().to_string())
}

fn permissions(mode: u32) -> u32 {
    let bit = |go: u32, unix: u32| if mode & go == 0 { 0 } else { unix };
    mode & 0o777 | bit(go::SETUID, 0o4000) | bit(go::SETGID, 0o2000) | bit(go::STICKY, 0o1000)
}

fn go_mode(mode: u32) -> u32 {
    let bit = |unix: u32, go: u32| if mode & unix == 0 { 0 } else { go };
    let kind = match mode & 0o170_000 {
        0o040_000 => go::DIR,
        0o120_000 => go::SYMLINK,
        0o010_000 => go::PIPE,
        0o140_000 => go::SOCKET,
        0o060_000 => go::DEVICE,
        0o020_000 => go::DEVICE | go::CHAR,
        _ => 0,
    };
    kind | mode & 0o777 | bit(0o4000, go::SETUID) | bit(0o2000, go::SETGID) | bit(0o1000, go::STICKY)
}

/// See [`Session::send_directory`].
pub(crate) fn send(session: &Session, id: usize, from: &Path) -> Result<()> {
    let stream = session.open(SEND, &[("buildkit-attachable-exporter-id", id.to_string())])?;
    let (sender, mut answers) = stream.split();
    let sender = Arc::new(sender);
    let files = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        let walker = {
            let (sender, files) = (Arc::clone(&sender), &files);
            scope.spawn(move || -> Result<()> {
                tell(&sender, files, from, Path::new(""))?;
                Ok(sender.send(&Packet { kind: packet::STAT, ..Packet::default() })?)
            })
        };
        let served = serve(&sender, &mut answers, &files, from);
        let walked = walker.join().unwrap_or_else(|_| Err(Error::internal("telling of files")));
        // What the client says comes first: it may be why the other half broke off.
        served?;
        walked
    })?;
    drop(sender);
    while answers.receive::<Packet>()?.is_some() {}
    Ok(())
}

/// Answers what the client asks for, until it has everything.
fn serve(sender: &Stream, answers: &mut Stream, files: &Mutex<Vec<PathBuf>>, from: &Path) -> Result<()> {
    let mut buffer = vec![0; PIECE];
    while let Some(word) = answers.receive::<Packet>()? {
        match word.kind {
            packet::REQUEST => {
                let known = files.lock().unwrap_or_else(PoisonError::into_inner);
                let path = known.get(word.id as usize).cloned();
                drop(known);
                let path =
                    path.ok_or_else(|| Error::invalid("the client asks for a file that it was not told of"))?;
                let about = || path.display().to_string();
                let mut file = File::open(from.join(&path)).about(about)?;
                loop {
                    let n = file.read(&mut buffer).about(about)?;
                    let data = buffer[..n].to_vec();
                    sender.send(&Packet { kind: packet::DATA, id: word.id, data, ..Packet::default() })?;
                    if n == 0 {
                        break;
                    }
                }
            }
            packet::FIN => {
                sender.send(&Packet { kind: packet::FIN, ..Packet::default() })?;
                return Ok(());
            }
            packet::ERROR => {
                return Err(Error::new(Kind::Unavailable, String::from_utf8_lossy(&word.data).into_owned()));
            }
            other => return Err(Error::invalid(format!("an unknown word {other}"))),
        }
    }
    Err(Error::new(Kind::Unavailable, "the client ended the transfer early"))
}

/// Tells of everything below `at`, in order.
fn tell(sender: &Stream, files: &Mutex<Vec<PathBuf>>, root: &Path, at: &Path) -> Result<()> {
    let dir = root.join(at);
    let about = || dir.display().to_string();
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&dir).about(about)? {
        names.push(entry.about(about)?.file_name());
    }
    names.sort();
    for name in names {
        let path = at.join(name);
        let whole = root.join(&path);
        let meta = std::fs::symlink_metadata(&whole).about(|| whole.display().to_string())?;
        let link = if meta.is_symlink() {
            let link = std::fs::read_link(&whole).about(|| whole.display().to_string())?;
            link.to_string_lossy().into_owned()
        } else {
            String::new()
        };
        let stat = Stat {
            path: path.to_string_lossy().into_owned(),
            mode: go_mode(meta.mode()),
            uid: meta.uid(),
            gid: meta.gid(),
            size: if meta.is_file() { i64::try_from(meta.len()).unwrap_or(i64::MAX) } else { 0 },
            mod_time: meta.mtime().saturating_mul(1_000_000_000).saturating_add(meta.mtime_nsec()),
            linkname: link,
            ..Stat::default()
        };
        files.lock().unwrap_or_else(PoisonError::into_inner).push(path.clone());
        sender.send(&Packet { kind: packet::STAT, stat: Some(stat), ..Packet::default() })?;
        if meta.is_dir() {
            tell(sender, files, root, &path)?;
        }
    }
    Ok(())
}
