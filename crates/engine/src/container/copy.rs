//! Files in and out of containers, running or not.
//!
//! All of it happens in a thread that has entered the container's mount namespace (or, for a stopped container, one of
//! its own in which the root file system and the volumes are mounted). Every path is then resolved by the kernel below
//! the container's own root: no link planted by the container can lead to the host. When the thread ends, whatever it
//! mounted is gone, even if the process is killed.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Component, Path, PathBuf};

use fluyt_model::error::IoContext;
use fluyt_model::sandbox::IdMaps;
use fluyt_model::{Error, Result};
use fluyt_runtime::{Root, Rootfs};
use rustix::fs::{CWD, Gid, Uid};
use rustix::mount::{MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::Engine;
use crate::api::{ContainerView, CopyOptions, PathStat};
use crate::container::ids;
use crate::container::idshift::Shifted;
use crate::container::start::overlay_options;

/// The owner of what belongs to nobody in a container's user namespace.
const NOBODY: u64 = 65534;

impl Engine {
    /// What is at `path` in a container.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn path_stat(&self, name: &str, path: &str) -> Result<PathStat> {
        let view = self.container(name)?;
        let path = inside(path);
        within(&view, |_| stat(&path, &view.name))
    }

    /// Writes `path` of a container, and all below it, as a tar archive whose entries begin with its last component.
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
            let stat = stat(&asked, &view.name)?;
            let about = || format!("{}:{}", view.name, asked.display());
            let source = if follow && !stat.link_target.is_empty() {
                std::fs::canonicalize(&asked).about(about)?
            } else {
                asked.clone()
            };
            let label = asked.file_name().map_or_else(|| PathBuf::from("."), PathBuf::from);
            let down = |list: &[(u32, u32, u32)], id: u64| {
                u32::try_from(id).ok().and_then(|id| ids::inside(list, id)).map_or(NOBODY, u64::from)
            };
            let inner = |uid, gid| maps.map_or((uid, gid), |m| (down(&m.uids, uid), down(&m.gids, gid)));
            let mut archive = tar::Builder::new(Shifted::new(out, &inner));
            archive.follow_symlinks(false);
            archive.sparse(true);
            let metadata = std::fs::symlink_metadata(&source).about(about)?;
            if metadata.is_dir() {
                archive.append_dir_all(&label, &source).about(about)?;
            } else {
                archive.append_path_with_name(&source, &label).about(about)?;
            }
            archive.finish().about(about)?;
            Ok(stat)
        })
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
            let up = |list: &[(u32, u32, u32)], id: u64| {
                let known = u32::try_from(id).ok().and_then(|id| ids::outside(list, id));
                known.or_else(|| ids::outside(list, 0)).map_or(id, u64::from)
            };
            let outer = |uid, gid| maps.map_or((uid, gid), |m| (up(&m.uids, uid), up(&m.gids, gid)));
            let about = || format!("{}:{}", view.name, dest.display());
            if !std::fs::metadata(&dest).map_err(|e| missing(e, &dest, &view.name))?.is_dir() {
                return Err(Error::invalid(format!("{}: not a directory", about())));
            }
            let mut archive = tar::Archive::new(Shifted::new(input, &outer));
            archive.set_preserve_permissions(true);
            archive.set_preserve_mtime(true);
            archive.set_preserve_ownerships(options.keep_owner);
            archive.set_unpack_xattrs(false);
            for entry in archive.entries().about(about)? {
                let mut entry = entry.about(about)?;
                let path = entry.path().about(about)?.into_owned();
                let target = dest.join(relative(&path));
                let is_dir = entry.header().entry_type().is_dir();
                if options.no_overwrite_dir_non_dir
                    && let Ok(now) = std::fs::symlink_metadata(&target)
                    && now.is_dir() != is_dir
                {
                    return Err(Error::conflict(format!(
                        "cannot overwrite {} with a {}",
                        target.display(),
                        if is_dir { "directory" } else { "file" }
                    )));
                }
                entry.unpack_in(&dest).about(|| format!("{}:{}", view.name, target.display()))?;
            }
            Ok(())
        })?;
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
            if pid == 0 {
                enter_stopped(view)?
            } else {
                enter_running(pid, maps.as_ref())?
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
fn enter_running(pid: i32, maps: Option<&IdMaps>) -> Result<()> {
    let path = format!("/proc/{pid}/ns/mnt");
    let namespace = File::open(&path).about(|| path.clone())?;
    // A thread that shares its root and working directory with others may not change its mount namespace.
    fluyt_sys::clone::unshare(fluyt_sys::clone::FS).about(|| "file system attributes")?;
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Mount)).about(|| path)?;
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
    // `dir/.` means what is in the directory; the last component says so to whoever asks.
    absolute
}

fn relative(path: &Path) -> PathBuf {
    path.components().filter(|c| matches!(c, Component::Normal(_))).collect()
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
    fn paths_never_leave_the_root() {
        assert_eq!(inside("../../etc/../x/./y"), Path::new("/x/y"));
        assert_eq!(inside(""), Path::new("/"));
        assert_eq!(relative(Path::new("/a/../b")), Path::new("a/b"));
    }
}
