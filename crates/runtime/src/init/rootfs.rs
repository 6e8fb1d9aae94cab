//! The root mount itself: a directory bound onto itself, or an overlay assembled here.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use fluyt_model::error::{Error, IoContext, Result};
use fluyt_sys::mount as attr;
use rustix::fs::{AtFlags, CWD, Gid, Mode, OFlags, StatxFlags, Uid};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags};

use super::mounts::clone_tree;
use super::options;
use super::root::{Root, attach};
use crate::Rootfs;
use crate::prepare::Users;

/// Mounts the root so that `pivot_root` accepts it, in the current (private copy of the) mount namespace. `at_place`: the
/// working directory is its place, and this namespace belongs to a user namespace of its own.
pub(crate) fn prepare(
    rootfs: &Rootfs,
    prepared: Option<OwnedFd>,
    propagation: &str,
    at_place: bool,
) -> Result<Root> {
    separate(propagation)?;
    let (tree, target) = match (rootfs, prepared) {
        (Rootfs::Dir(dir), None) => (clone_tree(CWD, dir, true)?, dir.as_path()),
        (Rootfs::Dir(dir), Some(tree)) => (tree, dir.as_path()),
        (Rootfs::Overlay { target, .. }, Some(tree)) => (tree, target.as_path()),
        (Rootfs::Overlay { target, .. }, None) => (overlay(rootfs)?, target.as_path()),
    };
    let about = || format!("root file system {}", target.display());
    let path = if at_place { Path::new(".") } else { target };
    let place = rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let place = place.about(about)?;
    // Copies of the host's mounts in another user's namespace are slaves: no parent of ours is shared there.
    if !at_place && matches!(options::propagation(propagation), Some((attr::SHARED, _))) {
        isolate_parent(target)?;
    }
    attach(tree.as_fd(), place.as_fd()).about(about)?;
    if at_place {
        // Hooks begin in the root, by whatever way they can reach it.
        rustix::process::fchdir(&tree).about(about)?;
    }
    Ok(Root::new(tree))
}

/// Cuts the namespace's propagation towards the host before the first mount.
fn separate(propagation: &str) -> Result<()> {
    let flags = match options::propagation(propagation) {
        Some((attr::SHARED, _)) => return Ok(()),
        Some((attr::PRIVATE, _)) => MountPropagationFlags::PRIVATE,
        _ => MountPropagationFlags::DOWNSTREAM,
    };
    rustix::mount::mount_change("/", flags | MountPropagationFlags::REC).about(|| "propagation of /")
}

/// `pivot_root` refuses a root whose parent mount is shared, and a shared parent would carry our mounts to the host.
fn isolate_parent(target: &Path) -> Result<()> {
    let id = |path: &Path| {
        rustix::fs::statx(CWD, path, AtFlags::empty(), StatxFlags::MNT_ID)
            .map(|s| s.stx_mnt_id)
            .about(|| path.display().to_string())
    };
    let mut top = target.canonicalize().about(|| target.display().to_string())?;
    let own = id(&top)?;
    while let Some(up) = top.parent().map(Path::to_path_buf) {
        if id(&up)? != own {
            break;
        }
        top = up;
    }
    rustix::mount::mount_change(&top, MountPropagationFlags::PRIVATE).about(|| top.display().to_string())
}

/// The propagation that the container's root has in the end.
pub(crate) fn final_propagation(name: &str) -> Result<()> {
    let Some((kind, recursive)) = options::propagation(name) else {
        return if name.is_empty() {
            Ok(())
        } else {
            Err(Error::invalid(format!("rootfsPropagation {name:?} is not a propagation")))
        };
    };
    let mut flags = match kind {
        attr::SHARED => MountPropagationFlags::SHARED,
        attr::PRIVATE => MountPropagationFlags::PRIVATE,
        attr::SLAVE => MountPropagationFlags::DOWNSTREAM,
        _ => MountPropagationFlags::UNBINDABLE,
    };
    if recursive {
        flags |= MountPropagationFlags::REC;
    }
    rustix::mount::mount_change("/", flags).about(|| "propagation of /")
}

/// The longest string that `fsconfig` takes, with room for its NUL.
const LONGEST: usize = 250;

/// How long the run before may take to give its upper directory up: while its overlay is being written back, a kernel
/// with `index=on` says EBUSY.
const GIVEN_UP: Duration = Duration::from_secs(10);

/// A path as the overlay file system gets it: itself, or through a descriptor when it is too long or would need escapes.
fn name_of(path: &Path, keep: &mut Vec<OwnedFd>) -> Result<String> {
    if let Some(text) = path.to_str()
        && text.len() < LONGEST
        && !text.bytes().any(|b| matches!(b, b':' | b',' | b'\\' | b'"'))
    {
        return Ok(text.to_owned());
    }
    let fd = rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .about(|| path.display().to_string())?;
    let name = format!("/proc/self/fd/{}", fd.as_raw_fd());
    keep.push(fd);
    Ok(name)
}

/// A detached mount of an overlay, for the init stage and for whoever looks at a container that does not run. With an
/// empty `upper` it cannot be written; it needs two layers then.
///
/// # Errors
/// The kernel refuses it, or a layer is missing.
pub fn overlay(rootfs: &Rootfs) -> Result<OwnedFd> {
    let Rootfs::Overlay { lower, upper, work, options, target, .. } = rootfs else {
        return Err(Error::internal("not an overlay"));
    };
    let mut keep = Vec::new();
    let writable = if upper.as_os_str().is_empty() {
        None
    } else {
        Some((name_of(upper, &mut keep)?, name_of(work, &mut keep)?))
    };
    let writable = writable.as_ref().map(|(upper, work)| (upper.as_str(), work.as_str()));
    let layers = lower.iter().map(|l| name_of(l, &mut keep)).collect::<Result<Vec<_>>>()?;
    let mut made = overlay_by_layers(&layers, writable, options);
    let until = Instant::now() + GIVEN_UP;
    while made.as_ref().err() == Some(&rustix::io::Errno::BUSY) && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(5));
        made = overlay_by_layers(&layers, writable, options);
    }
    match made {
        Ok(fd) => Ok(fd),
        // Before Linux 6.5 layers cannot be given one by one; before 5.x not by fsconfig at all.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS | rustix::io::Errno::OPNOTSUPP) => {
            overlay_by_mount(lower, writable, options, target, &mut keep)
        }
        Err(e) => Err(Error::io(format!("overlay on {}", target.display()), e.into())),
    }
}

/// The same for a caller in the host's mount namespace, in which nothing appears even for a moment.
///
/// # Errors
/// As [`overlay`].
pub(crate) fn overlay_apart(rootfs: &Rootfs) -> Result<OwnedFd> {
    made_aside(&mut || {
        private_mounts()?;
        overlay(rootfs)
    })
}

fn made_aside(make: &mut dyn FnMut() -> Result<OwnedFd>) -> Result<OwnedFd> {
    let mut made = Err(Error::internal("the process that mounts an overlay ended early"));
    fluyt_sys::clone::aside(&mut || made = make()).about(|| "overlay")?;
    made
}

fn private_mounts() -> Result<()> {
    fluyt_sys::clone::unshare(fluyt_sys::clone::NEWNS).about(|| "mount namespace")?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", private).about(|| "propagation of /")
}

/// The same with the ids of all layers below the directory `base` seen through the mappings of `userns`: made in a mount
/// namespace that only this lives in, where a mapped copy of the mount covers `base`.
///
/// # Errors
/// As [`overlay`]; `Unsupported` if the kernel or the file system has no mapped layers.
pub(crate) fn mapped_overlay(rootfs: &Rootfs, base: &Path, users: &Users) -> Result<OwnedFd> {
    made_aside(&mut || over_mapped(rootfs, base, users))
}

fn over_mapped(rootfs: &Rootfs, base: &Path, users: &Users) -> Result<OwnedFd> {
    let about = || base.display().to_string();
    private_mounts()?;
    let tree = clone_tree(CWD, base, false)?;
    map_ids(&tree, &users.namespace, false).map_err(|e| e.context(about()))?;
    let place = rustix::fs::open(base, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    attach(tree.as_fd(), place.about(about)?.as_fd()).about(about)?;
    // The overlay does its work on the layers in the name of who mounts it: one who is mapped, or nothing could be made.
    let rights = rustix::thread::capabilities(None).about(|| "capabilities")?;
    let (uid, gid) = (Uid::from_raw(users.root.0), Gid::from_raw(users.root.1));
    rustix::thread::set_thread_res_gid(Gid::ROOT, gid, Gid::ROOT).about(|| "group of the overlay")?;
    rustix::thread::set_thread_res_uid(Uid::ROOT, uid, Uid::ROOT).about(|| "user of the overlay")?;
    rustix::thread::set_capabilities(None, rights).about(|| "capabilities of the overlay")?;
    overlay(rootfs)
}

/// Shows the ids of a detached mount as those that `userns` maps them to.
///
/// # Errors
/// `Unsupported` if the file system cannot.
pub(crate) fn map_ids(tree: &OwnedFd, userns: &OwnedFd, recursive: bool) -> Result<()> {
    let change =
        attr::Attr { set: attr::IDMAP, userns: Some(attr::Fd(userns.as_fd())), ..attr::Attr::default() };
    attr::setattr(tree.as_fd(), &change, recursive).map_err(|e| {
        if e.raw_os_error() == Some(rustix::io::Errno::INVAL.raw_os_error()) {
            Error::unsupported("its file system cannot map ids").with_source(e).with_hint(
                "ext4, xfs, btrfs, tmpfs and overlay's layers can since Linux 5.12 to 6.3; for a volume or a directory the option \
                 noidmap leaves ids as they are",
            )
        } else {
            Error::io("mapping ids", e)
        }
    })
}

fn overlay_by_layers(
    layers: &[String],
    writable: Option<(&str, &str)>,
    options: &[String],
) -> rustix::io::Result<OwnedFd> {
    use rustix::mount::{fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen};
    let fs = fsopen(c"overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(fs.as_fd(), c"source", c"overlay")?;
    for layer in layers {
        fsconfig_set_string(fs.as_fd(), c"lowerdir+", layer)?;
    }
    if let Some((upper, work)) = writable {
        fsconfig_set_string(fs.as_fd(), c"upperdir", upper)?;
        fsconfig_set_string(fs.as_fd(), c"workdir", work)?;
    }
    for option in options {
        match option.split_once('=') {
            Some((key, value)) => fsconfig_set_string(fs.as_fd(), key, value)?,
            None => fsconfig_set_flag(fs.as_fd(), option.as_str())?,
        }
    }
    fsconfig_create(fs.as_fd())?;
    fsmount(fs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
}

/// One `mount(2)` with all layers in its page of data, by descriptors if their paths do not fit.
fn overlay_by_mount(
    lower: &[std::path::PathBuf],
    writable: Option<(&str, &str)>,
    options: &[String],
    target: &Path,
    keep: &mut Vec<OwnedFd>,
) -> Result<OwnedFd> {
    const PAGE: usize = 4000;
    let line = |layers: &[String]| {
        let mut data = format!("lowerdir={}", layers.join(":"));
        if let Some((upper, work)) = writable {
            data.push_str(&format!(",upperdir={upper},workdir={work}"));
        }
        for option in options {
            data.push(',');
            data.push_str(option);
        }
        data
    };
    let mut layers = lower.iter().map(|l| name_of(l, keep)).collect::<Result<Vec<_>>>()?;
    if line(&layers).len() > PAGE {
        layers.clear();
        for path in lower {
            let fd =
                rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
                    .about(|| path.display().to_string())?;
            layers.push(format!("/proc/self/fd/{}", fd.as_raw_fd()));
            keep.push(fd);
        }
    }
    let data = std::ffi::CString::new(line(&layers)).map_err(|_| Error::invalid("a path contains a NUL"))?;
    if data.as_bytes().len() > PAGE {
        return Err(Error::unsupported(format!("{} layers do not fit into one overlay here", lower.len())));
    }
    rustix::mount::mount("overlay", target, "overlay", MountFlags::empty(), Some(data.as_c_str()))
        .about(|| format!("overlay on {}", target.display()))?;
    let tree = clone_tree(CWD, target, false)?;
    let detach = rustix::mount::UnmountFlags::DETACH;
    rustix::mount::unmount(target.as_os_str().as_bytes(), detach).about(|| target.display().to_string())?;
    Ok(tree)
}
