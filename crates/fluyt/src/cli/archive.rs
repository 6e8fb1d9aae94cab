//! The local side of `cp`: where things go, and archives made from and turned into local files.
//!
//! What comes out of a container is not trusted: nothing is written outside the target, nor through a symbolic link
//! that lies below it.

use std::fs;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::path::{Component, Path, PathBuf};

use fluyt_model::error::IoContext;
use fluyt_model::{Error, Result};
use tar::{Archive, Builder, Entry, EntryType};

/// Bytes that went through.
#[derive(Debug, Default)]
pub struct Counter {
    /// The number of them.
    pub bytes: u64,
}

/// The last name of a path; `/` and `.` for the root and the current directory.
pub fn last_name(path: &str) -> &str {
    let bare = path.strip_suffix("/.").unwrap_or(path).trim_end_matches('/');
    match bare.rsplit('/').next() {
        None | Some("") => "/",
        Some(name) => name,
    }
}

/// Decides which local path the copied thing itself becomes.
///
/// # Errors
/// A file where a directory is needed, or the other way round; a missing parent.
pub fn local_target(target: &Path, name: &str, is_dir: bool, contents_only: bool) -> Result<PathBuf> {
    let shown = target.display();
    let trailing = target.as_os_str().as_encoded_bytes().ends_with(b"/");
    match target.metadata() {
        Ok(meta) if meta.is_dir() => {
            let merge = (is_dir && contents_only) || name == "/";
            Ok(if merge { target.to_owned() } else { target.join(name) })
        }
        Ok(_) if is_dir => Err(Error::invalid(format!("cannot copy a directory to the file {shown}"))),
        Ok(_) if trailing => Err(Error::invalid(format!("not a directory: {shown}"))),
        Ok(_) => Ok(target.to_owned()),
        Err(_) if trailing && !is_dir => {
            Err(Error::not_found(format!("destination directory {shown} does not exist"))
                .with_hint(format!("make it with `mkdir -p {shown}`")))
        }
        Err(_) => {
            let parent = target.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
            if parent.is_dir() {
                return Ok(target.to_owned());
            }
            Err(Error::not_found(format!(
                "invalid output path: directory {} does not exist",
                parent.display()
            ))
            .with_hint(format!("make it with `mkdir -p {}`", parent.display())))
        }
    }
}

/// How a local path enters a container.
#[derive(Debug, PartialEq, Eq)]
pub struct Inward {
    /// The container's directory that the archive is unpacked in.
    pub directory: String,
    /// The name that the copied thing gets there; empty: its contents go there.
    pub name: String,
}

impl Inward {
    /// Decides; `there` says whether the target exists, and whether it is a directory.
    ///
    /// # Errors
    /// A file where a directory is needed, or the other way round.
    pub fn plan(source: &str, target: &str, is_dir: bool, there: Option<bool>) -> Result<Self> {
        let clean = match target.trim_end_matches("/.").trim_end_matches('/') {
            "" => "/",
            other => other,
        };
        let split = || {
            let (parent, name) = clean.rsplit_once('/').unwrap_or(("", clean));
            let directory = if parent.is_empty() { "/" } else { parent };
            Self { directory: directory.to_owned(), name: name.to_owned() }
        };
        match there {
            Some(true) => {
                let contents = is_dir && (source.ends_with("/.") || source == ".");
                let name = if contents { String::new() } else { local_name(source)? };
                Ok(Self { directory: clean.to_owned(), name })
            }
            Some(false) if is_dir => Err(Error::invalid("cannot copy directory")
                .with_hint(format!("{target} is a file in the container"))),
            Some(false) => Ok(split()),
            None if !is_dir && target.ends_with('/') => {
                Err(Error::not_found(format!("no such directory in the container: {target}")))
            }
            None => Ok(split()),
        }
    }
}

/// The name of a local path, also of `..` and `/`.
fn local_name(source: &str) -> Result<String> {
    let path = Path::new(source);
    let named = match path.file_name() {
        Some(name) => name.to_owned(),
        None => {
            let full = path.canonicalize().about(|| source.to_owned())?;
            full.file_name().map(std::ffi::OsStr::to_owned).unwrap_or_default()
        }
    };
    named.into_string().map_err(|_| Error::invalid(format!("{source}: the name is not UTF-8")))
}

/// Runs `produce` here and `consume` on another thread, with a pipe between them.
///
/// # Errors
/// The consumer's failure, since it makes the producer fail too; else the producer's.
pub fn pipe_out(
    produce: impl FnOnce(&mut (dyn Write + Send)) -> Result<()>,
    consume: impl FnOnce(&mut dyn Read) -> Result<()> + Send,
) -> Result<()> {
    let (mut reader, mut writer) = pipe()?;
    std::thread::scope(|scope| {
        let consumer = scope.spawn(move || {
            let result = consume(&mut reader);
            if result.is_ok() {
                let _ = io::copy(&mut reader, &mut io::sink());
            }
            result
        });
        let produced = produce(&mut writer);
        drop(writer);
        join(consumer.join()).and(produced)
    })
}

/// Runs `produce` on another thread and `consume` here, with a pipe between them.
///
/// # Errors
/// The consumer's failure, since it makes the producer fail too; else the producer's.
pub fn pipe_in(
    produce: impl FnOnce(&mut dyn Write) -> Result<()> + Send,
    consume: impl FnOnce(&mut (dyn Read + Send)) -> Result<()>,
) -> Result<()> {
    let (mut reader, mut writer) = pipe()?;
    std::thread::scope(|scope| {
        let producer = scope.spawn(move || produce(&mut writer));
        let consumed = consume(&mut reader);
        drop(reader);
        let produced = join(producer.join());
        // A producer that failed gives a broken archive; its failure is the cause.
        match produced {
            Err(e) if !is_broken_pipe(&e) => Err(e),
            _ => consumed,
        }
    })
}

fn pipe() -> Result<(PipeReader, PipeWriter)> {
    io::pipe().about(|| "pipe")
}

fn join(result: std::thread::Result<Result<()>>) -> Result<()> {
    result.unwrap_or_else(|_| Err(Error::internal("the copying thread panicked")))
}

fn is_broken_pipe(error: &Error) -> bool {
    std::error::Error::source(error)
        .and_then(|e| e.downcast_ref::<io::Error>())
        .is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
}

/// Unpacks an archive whose first entry is the copied thing itself, which becomes `target`.
///
/// # Errors
/// A broken archive, an entry that points elsewhere, a file that cannot be written.
pub fn unpack(input: &mut dyn Read, target: &Path, keep_owner: bool, count: &mut Counter) -> Result<()> {
    let mut archive = Archive::new(input);
    archive.set_preserve_permissions(true);
    archive.set_preserve_ownerships(keep_owner);
    let mut root: Option<PathBuf> = None;
    // Directories get their modes and times when nothing more is written into them.
    let mut directories = Vec::new();
    for entry in archive.entries().about(|| "archive from the container")? {
        let mut entry = entry.about(|| "archive from the container")?;
        let name = normal(&entry.path().about(|| "archive from the container")?)?;
        let root = root.get_or_insert_with(|| name.clone());
        let below = name.strip_prefix(&*root).map_err(|_| foreign(&name))?;
        let place = if below.as_os_str().is_empty() { target.to_owned() } else { target.join(below) };
        check_parents(target, below)?;
        count.bytes += entry.size();
        match entry.header().entry_type() {
            EntryType::Directory => {
                make_directory(&place, below.as_os_str().is_empty())?;
                directories.push((place, entry.header().mode().unwrap_or(0o755)));
            }
            EntryType::Link => {
                let link = entry.link_name().about(|| "archive from the container")?;
                let link = normal(&link.ok_or_else(|| foreign(&name))?)?;
                let link = link.strip_prefix(&*root).map_err(|_| foreign(&link))?;
                check_parents(target, link)?;
                let _ = fs::remove_file(&place);
                fs::hard_link(target.join(link), &place).about(|| place.display().to_string())?;
            }
            EntryType::Char | EntryType::Block | EntryType::Fifo => special(&entry, &place)?,
            _ => {
                entry.unpack(&place).about(|| place.display().to_string())?;
            }
        }
    }
    for (path, mode) in directories.into_iter().rev() {
        set_mode(&path, mode, path == target).about(|| path.display().to_string())?;
    }
    Ok(())
}

/// Gives a directory its mode, unless an entry that came later has put a link in its place.
fn set_mode(path: &Path, mode: u32, is_target: bool) -> io::Result<()> {
    use rustix::fs::{Mode, OFlags};
    use std::os::unix::fs::PermissionsExt;
    let follow = if is_target { OFlags::empty() } else { OFlags::NOFOLLOW };
    // Not for reading: that need not be allowed.
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC | follow;
    let fd = rustix::fs::open(path, flags, Mode::empty())?;
    let place = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&fd));
    fs::set_permissions(place, fs::Permissions::from_mode(mode))
}

fn foreign(name: &Path) -> Error {
    Error::corrupt(format!(
        "archive from the container: the entry {} is not part of what was asked for",
        name.display()
    ))
}

/// The path without `.` and leading `/`; `..` is refused.
fn normal(path: &Path) -> Result<PathBuf> {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(part) => out.push(part),
            Component::CurDir | Component::RootDir => {}
            _ => return Err(foreign(path)),
        }
    }
    Ok(out)
}

fn through(link: &Path) -> Error {
    Error::invalid(format!("{} is a symbolic link; nothing is written through it", link.display()))
}

/// No directory between the target and what is written below it may be a symbolic link.
fn check_parents(target: &Path, below: &Path) -> Result<()> {
    let mut path = target.to_owned();
    for part in below.parent().into_iter().flat_map(Path::components) {
        path.push(part);
        if path.symlink_metadata().is_ok_and(|meta| meta.is_symlink()) {
            return Err(through(&path));
        }
    }
    Ok(())
}

/// Makes a directory, or takes one that is there. Only the target itself may be a link to one: that is the caller's.
fn make_directory(place: &Path, is_target: bool) -> Result<()> {
    let found = || if is_target { place.metadata() } else { place.symlink_metadata() };
    match fs::create_dir(place) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => match found() {
            Ok(meta) if meta.is_dir() => Ok(()),
            Ok(meta) if meta.is_symlink() => Err(through(place)),
            _ => Err(Error::conflict(format!(
                "cannot overwrite the file {} with a directory",
                place.display()
            ))),
        },
        other => other.about(|| place.display().to_string()),
    }
}

fn special<R: Read>(entry: &Entry<'_, R>, place: &Path) -> Result<()> {
    use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
    let header = entry.header();
    let kind = match header.entry_type() {
        EntryType::Char => FileType::CharacterDevice,
        EntryType::Block => FileType::BlockDevice,
        _ => FileType::Fifo,
    };
    let number = |value: io::Result<Option<u32>>| value.ok().flatten().unwrap_or(0);
    let device = makedev(number(header.device_major()), number(header.device_minor()));
    let _ = fs::remove_file(place);
    let mode = Mode::from_raw_mode(header.mode().unwrap_or(0o644));
    mknodat(CWD, place, kind, mode, device).about(|| place.display().to_string())
}

/// Packs a local path as `plan` says.
///
/// # Errors
/// A file that cannot be read; the other end of the pipe is gone.
pub fn pack(
    local: &Path,
    plan: &Inward,
    follow: bool,
    out: &mut dyn Write,
    count: &mut Counter,
) -> Result<()> {
    let shown = || local.display().to_string();
    let mut builder = Builder::new(Counting { out, count });
    builder.follow_symlinks(false);
    let meta = if follow { local.metadata() } else { local.symlink_metadata() }.about(shown)?;
    if meta.is_dir() {
        let name = if plan.name.is_empty() { "." } else { plan.name.as_str() };
        let local = if follow { local.canonicalize().about(shown)? } else { local.to_owned() };
        builder.append_dir_all(name, &local).about(shown)?;
    } else {
        builder.follow_symlinks(follow);
        builder.append_path_with_name(local, &plan.name).about(shown)?;
    }
    builder.into_inner().and_then(|mut out| out.flush()).about(shown)
}

struct Counting<'a> {
    out: &'a mut dyn Write,
    count: &'a mut Counter,
}

impl Write for Counting<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.count.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_things_go_in() {
        let plan = |source, target, is_dir, there| {
            Inward::plan(source, target, is_dir, there).map(|p| (p.directory, p.name))
        };
        let went = |d: &str, n: &str| (d.to_owned(), n.to_owned());
        assert_eq!(plan("/l/f", "/d", false, Some(true)).unwrap(), went("/d", "f"));
        assert_eq!(plan("/l/f", "/d/g", false, None).unwrap(), went("/d", "g"));
        assert_eq!(plan("/l/f", "/g", false, Some(false)).unwrap(), went("/", "g"));
        assert_eq!(plan("/l/x", "/d", true, Some(true)).unwrap(), went("/d", "x"));
        assert_eq!(plan("/l/x/.", "/d", true, Some(true)).unwrap(), went("/d", ""));
        assert_eq!(plan("/l/x", "/d/new", true, None).unwrap(), went("/d", "new"));
        assert_eq!(plan("f", "/", false, Some(true)).unwrap(), went("/", "f"));
        assert!(plan("/l/x", "/file", true, Some(false)).is_err());
        assert!(plan("/l/f", "/none/", false, None).is_err());
    }

    #[test]
    fn where_things_come_out() {
        let dir = std::env::temp_dir().join(format!("fluyt-cp-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("file"), "x").unwrap();
        let of = |target: &str, is_dir, contents| local_target(&dir.join(target), "src", is_dir, contents);
        assert_eq!(of("", false, false).unwrap(), dir.join("src"));
        assert_eq!(of("", true, true).unwrap(), dir.join(""));
        assert_eq!(of("new", true, false).unwrap(), dir.join("new"));
        assert_eq!(of("file", false, false).unwrap(), dir.join("file"));
        assert!(of("file", true, false).is_err());
        assert!(of("none/", false, false).is_err());
        assert!(of("none/x", false, false).is_err());

        // Out of one tree and into another, through a pipe.
        fs::create_dir_all(dir.join("tree/sub")).unwrap();
        fs::write(dir.join("tree/sub/f"), "hello").unwrap();
        std::os::unix::fs::symlink("sub/f", dir.join("tree/link")).unwrap();
        let plan = Inward { directory: "/".to_owned(), name: "renamed".to_owned() };
        let (mut packed, mut unpacked) = (Counter::default(), Counter::default());
        pipe_out(
            |out| pack(&dir.join("tree"), &plan, false, out, &mut packed),
            |input| unpack(input, &dir.join("copy"), false, &mut unpacked),
        )
        .unwrap();
        assert_eq!(fs::read_to_string(dir.join("copy/link")).unwrap(), "hello");
        assert_eq!(unpacked.bytes, 5);
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn nothing_is_written_through_a_link() {
        let dir = std::env::temp_dir().join(format!("fluyt-cp-evil-{}", std::process::id()));
        fs::create_dir_all(dir.join("outside")).unwrap();
        let mut builder = Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(EntryType::Directory);
        header.set_mode(0o755);
        header.set_size(0);
        builder.append_data(&mut header.clone(), "r/", io::empty()).unwrap();
        header.set_entry_type(EntryType::Symlink);
        builder.append_link(&mut header.clone(), "r/l", dir.join("outside")).unwrap();
        header.set_entry_type(EntryType::Regular);
        header.set_size(1);
        builder.append_data(&mut header, "r/l/f", &b"x"[..]).unwrap();
        let bytes = builder.into_inner().unwrap();
        let error = unpack(&mut &bytes[..], &dir.join("t"), false, &mut Counter::default()).unwrap_err();
        assert!(error.to_string().contains("symbolic link"), "{error}");
        assert!(!dir.join("outside/f").exists());
        // A directory of the link's name would change the mode of what it leads to.
        use std::os::unix::fs::PermissionsExt;
        let before = dir.join("outside").metadata().unwrap().permissions().mode();
        for late in [false, true] {
            let mut builder = Builder::new(Vec::new());
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(EntryType::Directory);
            header.set_mode(0o711);
            header.set_size(0);
            builder.append_data(&mut header.clone(), "r/", io::empty()).unwrap();
            let mut link = header.clone();
            link.set_entry_type(EntryType::Symlink);
            if late {
                builder.append_data(&mut header.clone(), "r/l/", io::empty()).unwrap();
                builder.append_link(&mut link, "r/l", dir.join("outside")).unwrap();
            } else {
                builder.append_link(&mut link, "r/l", dir.join("outside")).unwrap();
                builder.append_data(&mut header, "r/l/", io::empty()).unwrap();
            }
            let bytes = builder.into_inner().unwrap();
            let to = dir.join(format!("late-{late}"));
            assert!(unpack(&mut &bytes[..], &to, false, &mut Counter::default()).is_err(), "{late}");
            assert_eq!(dir.join("outside").metadata().unwrap().permissions().mode(), before);
        }
        // What the caller names may be a link, and gets the mode of what is copied.
        let target = dir.join("named");
        std::os::unix::fs::symlink(dir.join("outside"), &target).unwrap();
        let mut builder = Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(EntryType::Directory);
        header.set_mode(0o711);
        header.set_size(0);
        builder.append_data(&mut header, "r/", io::empty()).unwrap();
        let bytes = builder.into_inner().unwrap();
        unpack(&mut &bytes[..], &target, false, &mut Counter::default()).unwrap();
        assert_eq!(dir.join("outside").metadata().unwrap().permissions().mode() & 0o777, 0o711);
        fs::remove_dir_all(&dir).unwrap();
    }
}
