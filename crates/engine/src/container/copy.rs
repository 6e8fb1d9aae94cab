//! Files in and out of containers, running or not.
//!
//! All of it happens in a thread with a mount namespace of its own: a copy of the container's (or, for a stopped container,
//! one in which the root file system and the volumes are mounted), without proc file systems. Every path is then resolved
//! by the kernel below the container's own root: no link planted by the container can lead to the host. When the thread
//! ends, whatever it mounted is gone, even if the process is killed.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Component, Path, PathBuf};

use fluyt_model::error::IoContext;
use fluyt_model::sandbox::IdMaps;
use fluyt_model::{Error, Result};
use fluyt_runtime::{Root, Rootfs};
use rustix::fs::{CWD, Gid, Mode, OFlags, Uid};
use rustix::mount::{MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::Engine;
use crate::api::{ContainerView, CopyOptions, PathStat};
use crate::container::archive;
use crate::container::ids;
use crate::container::start::overlay_options;

/// The owner of what belongs to nobody in a container's user namespace.
const NOBODY: u32 = 65534;

impl Engine {
    /// What is at `path` in a container.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn path_stat(&self, name: &str, path: &str) -> Result<PathStat> {
        let view = self.container(name)?;
        let inside = inside(path);
        within(&view, |_| Ok(stat(&inside, &view.name)?.called(path)))
    }

    /// Writes `path` of a container, and all below it, as a tar archive whose entries begin with its last component; that of
    /// `DIRECTORY/.` is `.`: what is in it is meant.
    ///
    /// # Errors
    /// `NotFound`; the archive cannot be written.
    pub fn copy_out(
        &self,
        name: &str,
        path: &str,
        follow: bool,
        out: &mut (dyn Write + Send),
    ) -> Result<PathStat> {
        let view = self.container(name)?;
        let asked = inside(path);
        within(&view, |maps| {
            let stat = self::stat(&asked, &view.name)?.called(path);
            let about = || format!("{}:{}", view.name, asked.display());
            let source = if follow && !stat.link_target.is_empty() {
                std::fs::canonicalize(&asked).about(about)?
            } else {
                asked.clone()
            };
            let label = match asked.file_name() {
                Some(name) if !means_contents(path) => PathBuf::from(name),
                _ => PathBuf::from("."),
            };
            let down = |list: &[(u32, u32, u32)], id: u32| ids::inside(list, id).unwrap_or(NOBODY);
            let inner =
                |uid: u32, gid: u32| maps.map_or((uid, gid), |m| (down(&m.uids, uid), down(&m.gids, gid)));
            archive::pack(&source, &label, out, &inner).map_err(|e| e.context(about()))?;
            Ok(stat)
        })
        .inspect(|_| self.tell_container(&view.id, "archive-path", &[]))
    }

    /// Unpacks a tar archive into the directory `dest` of a container.
    ///
    /// # Errors
    /// `NotFound` if there is no such directory, `Conflict` if a directory would be replaced by a file or the other
    /// way round, `PermissionDenied` if the container's root is read-only.
    pub fn copy_in(
        &self,
        name: &str,
        dest: &str,
        input: &mut (dyn Read + Send),
        options: CopyOptions,
    ) -> Result<()> {
        let view = self.container(name)?;
        let dest = inside(dest);
        if view.spec.containers[0].security.read_only_root && !on_writable_mount(&view, &dest) {
            return Err(Error::new(
                fluyt_model::Kind::PermissionDenied,
                "container rootfs is marked read-only",
            ));
        }
        within(&view, |maps| {
            let up = |list: &[(u32, u32, u32)], id: u32| {
                ids::outside(list, id).or_else(|| ids::outside(list, 0)).unwrap_or(id)
            };
            let outer =
                |uid: u32, gid: u32| maps.map_or((uid, gid), |m| (up(&m.uids, uid), up(&m.gids, gid)));
            let about = || format!("{}:{}", view.name, dest.display());
            if !std::fs::metadata(&dest).map_err(|e| missing(e, &dest, &view.name))?.is_dir() {
                return Err(Error::invalid(format!("{}: not a directory", about())));
            }
            archive::unpack(input, &dest, options, &outer, maps.is_none()).map_err(|e| e.context(about()))
        })?;
        self.tell_container(&view.id, "extract-to-dir", &[]);
        Ok(())
    }
}

/// Runs `work` with the container's file system as the root of the calling code's view.
///
/// `work` gets the mappings of a running container's own user namespace: ids are those of the host then.
fn within<T: Send>(
    view: &ContainerView,
    work: impl FnOnce(Option<&IdMaps>) -> Result<T> + Send,
) -> Result<T> {
    let pid = view.status.pid;
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let maps = ids::of_process(pid);
            let own = Processes::open()?;
            if pid == 0 {
                enter_stopped(view)?;
                own.hide()?;
            } else {
                enter_running(pid, maps.as_ref(), &own)?;
            }
            work(maps.as_ref())
        });
        thread.join().unwrap_or_else(|_| Err(Error::internal("the copying thread panicked")))
    })
}

/// Gives this thread a mount namespace of its own, with the container's root file system as its root.
fn enter_stopped(view: &ContainerView) -> Result<()> {
    let target = view.paths.dir.join("rootfs");
    let about = || target.display().to_string();
    fluyt_sys::clone::unshare(fluyt_sys::clone::NEWNS).about(|| "mount namespace")?;
    rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .about(|| "/")?;
    let root = Root::new(fluyt_runtime::overlay(&Rootfs::Overlay {
        lower: view.paths.lower.clone(),
        upper: view.paths.upper.clone(),
        work: view.paths.work.clone(),
        options: overlay_options(false),
        target: target.clone(),
        // Ids on disk are the container's own, and nobody of it sees this mount.
        mapped: None,
    })?);
    rustix::mount::move_mount(root.fd(), "", CWD, &target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .about(about)?;
    for mount in view.mounts.iter().filter(|m| matches!(m.kind.as_str(), "bind" | "volume" | "image")) {
        // A container that was never started has no places for its mounts yet.
        let place = Path::new(&mount.target);
        let path = mount.lower.first().unwrap_or(&mount.source);
        let point = if path.is_dir() { root.ensure_dir(place)? } else { root.ensure_file(place)? };
        let source = if mount.lower.len() > 1 {
            // What was written to a writable one is not shown: it ends with the run.
            fluyt_runtime::overlay(&Rootfs::Overlay {
                lower: mount.lower.clone(),
                upper: PathBuf::new(),
                work: PathBuf::new(),
                options: overlay_options(false),
                target: target.clone(),
                mapped: None,
            })?
        } else {
            let flags = OpenTreeFlags::OPEN_TREE_CLONE
                | OpenTreeFlags::OPEN_TREE_CLOEXEC
                | OpenTreeFlags::AT_RECURSIVE;
            rustix::mount::open_tree(CWD, path, flags).about(|| path.display().to_string())?
        };
        if !mount.rw {
            let read_only = fluyt_sys::mount::Attr { set: fluyt_sys::mount::RDONLY, ..Default::default() };
            fluyt_sys::mount::setattr(source.as_fd(), &read_only, true).about(|| mount.target.clone())?;
        }
        let both = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        rustix::mount::move_mount(&source, "", &point, "", both).about(|| mount.target.clone())?;
    }
    rustix::process::chdir(&target).about(about)?;
    rustix::process::pivot_root(".", ".").about(about)?;
    rustix::mount::unmount(".", UnmountFlags::DETACH).about(about)?;
    rustix::process::chdir("/").about(about)
}

/// Takes this thread into the mount namespace of a running container; with a user namespace of its own, as its root,
/// but with all of the caller's rights.
fn enter_running(pid: i32, maps: Option<&IdMaps>, own: &Processes) -> Result<()> {
    let path = format!("/proc/{pid}/ns/mnt");
    let namespace = File::open(&path).about(|| path.clone())?;
    // A thread that shares its root and working directory with others may not change its mount namespace.
    fluyt_sys::clone::unshare(fluyt_sys::clone::FS).about(|| "file system attributes")?;
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Mount)).about(|| path)?;
    // A copy of it, in which the container has no say and what is taken away is there still for the container.
    fluyt_sys::clone::unshare(fluyt_sys::clone::NEWNS).about(|| "mount namespace")?;
    rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .about(|| "/")?;
    own.hide()?;
    let root = maps.and_then(|m| Some((ids::outside(&m.uids, 0)?, ids::outside(&m.gids, 0)?)));
    if let Some((uid, gid)) = root {
        let rights = rustix::thread::capabilities(None).about(|| "capabilities")?;
        rustix::thread::set_thread_res_gid(Gid::ROOT, Gid::from_raw(gid), Gid::ROOT).about(|| "group")?;
        rustix::thread::set_thread_res_uid(Uid::ROOT, Uid::from_raw(uid), Uid::ROOT).about(|| "user")?;
        // They went with the user; permitted they still are.
        rustix::thread::set_capabilities(None, rights).about(|| "capabilities")?;
    }
    Ok(())
}

/// This thread's entry in the host's list of processes, by which its mounts are told wherever it goes.
struct Processes(OwnedFd);

impl Processes {
    fn open() -> Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open("/proc/thread-self", flags, Mode::empty()).map(Self).about(|| "/proc/thread-self")
    }

    /// Takes away every proc file system of this thread's own mount namespace. Its links (`/proc/1/root`) lead out of the
    /// container where it sees processes of others, and this thread has the rights to follow them.
    fn hide(&self) -> Result<()> {
        // Another one may lie under each that is taken away.
        for _ in 0..64 {
            let shown = self.mounted()?;
            let Some(path) = shown.first() else { return Ok(()) };
            let about = || path.display().to_string();
            let flags = UnmountFlags::DETACH | UnmountFlags::NOFOLLOW;
            match rustix::mount::unmount(path, flags) {
                Ok(()) => {}
                // Mounts that came from a container's user namespace cannot be parted; something can be put over them.
                Err(rustix::io::Errno::INVAL) => {
                    let flags =
                        MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
                    rustix::mount::mount("none", path, "tmpfs", flags, None).about(about)?;
                }
                Err(e) => return Err(Error::io(about(), e.into())),
            }
        }
        Err(Error::internal("the container has too many proc file systems"))
    }

    /// Where proc file systems are mounted and nothing over them.
    fn mounted(&self) -> Result<Vec<PathBuf>> {
        let about = || "mountinfo";
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.0, "mountinfo", flags, Mode::empty()).about(about)?;
        let mut text = Vec::new();
        File::from(file).read_to_end(&mut text).about(about)?;
        Ok(proc_mounts(&text))
    }
}

/// Mount points of the proc file systems in a mountinfo (proc_pid_mountinfo(5)) that can be reached: nothing is mounted over
/// them, or over what they are mounted in.
fn proc_mounts(mountinfo: &[u8]) -> Vec<PathBuf> {
    let lines = mountinfo.split(|b| *b == b'\n').map(|line| line.split(|b| *b == b' ').collect::<Vec<_>>());
    let mounts: Vec<Vec<&[u8]>> = lines.filter(|fields| fields.len() > 4).collect();
    let hidden = |mount: &Vec<&[u8]>| {
        let covered = |at: &Vec<&[u8]>| mounts.iter().any(|over| over[1] == at[0] && over[4] == at[4]);
        let mut at = mount;
        if covered(at) {
            return true;
        }
        // A chain is no longer than there are mounts.
        for _ in 0..mounts.len() {
            let Some(below) = mounts.iter().find(|below| below[0] == at[1] && below[0] != at[0]) else {
                break;
            };
            // What lies over it hides what is mounted in it, but not itself.
            if at[4] != below[4] && covered(below) {
                return true;
            }
            at = below;
        }
        false
    };
    let is_proc = |mount: &&Vec<&[u8]>| {
        let dash = mount.iter().position(|field| *field == b"-");
        dash.and_then(|dash| mount.get(dash + 1)).is_some_and(|kind| *kind == b"proc")
    };
    let shown = mounts.iter().filter(is_proc).filter(|mount| !hidden(mount));
    shown.map(|mount| PathBuf::from(std::ffi::OsString::from_vec(unescaped(mount[4])))).collect()
}

/// A field of mountinfo, which has spaces, line feeds and backslashes as three octal digits.
fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, after)) = rest.split_first() {
        let code = after
            .get(..3)
            .filter(|_| byte == b'\\')
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        out.push(code.unwrap_or(byte));
        rest = if code.is_some() { &after[3..] } else { after };
    }
    out
}

/// The absolute form of a path in a container, without `..` above the root.
fn inside(path: &str) -> PathBuf {
    let mut absolute = PathBuf::from("/");
    for component in Path::new(path).components() {
        match component {
            Component::Normal(name) => absolute.push(name),
            Component::ParentDir => drop(absolute.pop()),
            _ => {}
        }
    }
    absolute
}

/// Whether a path is `DIRECTORY/.`.
fn means_contents(path: &str) -> bool {
    path == "." || path.ends_with("/.")
}

impl PathStat {
    /// The name that the path ends with, where that is another one.
    fn called(mut self, path: &str) -> Self {
        if means_contents(path) {
            ".".clone_into(&mut self.name);
        }
        self
    }
}

fn on_writable_mount(view: &ContainerView, dest: &Path) -> bool {
    let over = view.mounts.iter().filter(|m| dest.starts_with(&m.target));
    over.max_by_key(|m| m.target.len()).is_some_and(|m| m.rw)
}

fn missing(error: std::io::Error, path: &Path, name: &str) -> Error {
    match error.kind() {
        std::io::ErrorKind::NotFound => {
            Error::not_found(format!("Could not find the file {} in container {name}", path.display()))
        }
        _ => Error::io(format!("{name}:{}", path.display()), error),
    }
}

fn stat(path: &Path, name: &str) -> Result<PathStat> {
    let metadata = std::fs::symlink_metadata(path).map_err(|e| missing(e, path, name))?;
    let kind = metadata.file_type();
    let link_target = if kind.is_symlink() {
        std::fs::read_link(path).about(|| path.display().to_string())?.display().to_string()
    } else {
        String::new()
    };
    Ok(PathStat {
        name: path.file_name().map_or_else(|| "/".to_owned(), |n| n.to_string_lossy().into_owned()),
        size: metadata.size(),
        mode: metadata.mode(),
        mtime: metadata.mtime() * 1_000_000_000 + metadata.mtime_nsec(),
        is_dir: kind.is_dir(),
        is_special: kind.is_block_device() || kind.is_char_device() || kind.is_fifo() || kind.is_socket(),
        link_target,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_file_systems_are_found_that_nothing_lies_over() {
        let text = b"20 1 0:1 / / rw - overlay o rw\n21 20 0:2 / /proc rw,nosuid shared:1 - proc proc rw\n\
            22 21 0:2 /sys /proc/sys ro - proc proc ro\n23 20 0:3 / /a\\040b rw - proc p rw\n\
            24 23 0:4 / /a\\040b rw - tmpfs none ro\n25 20 0:3 / /c\\134d rw - proc p rw\n";
        assert_eq!(proc_mounts(text), ["/proc", "/proc/sys", "/c\\d"].map(PathBuf::from));
        // What is mounted in one that is covered is out of reach; a proc over the cover is not.
        let cover = b"26 21 0:5 / /proc ro - tmpfs none ro\n";
        assert_eq!(proc_mounts(&[&text[..], cover].concat()), ["/c\\d"].map(PathBuf::from));
        let again = b"27 26 0:6 / /proc ro - proc p rw\n";
        assert_eq!(proc_mounts(&[&text[..], cover, again].concat()), ["/c\\d", "/proc"].map(PathBuf::from));
    }

    #[test]
    fn paths_never_leave_the_root() {
        assert_eq!(inside("../../etc/../x/./y"), Path::new("/x/y"));
        assert_eq!(inside(""), Path::new("/"));
    }
}
