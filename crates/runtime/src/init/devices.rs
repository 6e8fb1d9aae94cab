//! `/dev`: the default nodes and links, and the devices of the configuration.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use fluyt_model::error::{Error, IoContext, Result};
use fluyt_sys::mount as attr;
use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, Uid, makedev};
use rustix::io::Errno;

use super::mounts::clone_tree;
use super::root::{Root, attach, clean};
use crate::spec::Device;

/// Name, major, minor of the nodes that every container has (runtime-spec, "Default Devices").
pub(crate) const DEFAULT: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

const LINKS: [(&str, &str); 4] = [
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
];

/// Makes the default nodes and links and the configured devices. `bind`: nodes cannot be made here (user namespace), so
/// the host's are bound.
pub(crate) fn populate(root: &Root, devices: &[Device], bind: bool) -> Result<()> {
    let dev = root.ensure_dir(Path::new("dev"))?;
    for (name, major, minor) in DEFAULT {
        let overridden = devices.iter().any(|d| clean(&d.path) == Path::new("dev").join(name));
        if !overridden {
            let node = Node {
                kind: FileType::CharacterDevice,
                mode: 0o666,
                device: makedev(major, minor),
                owner: None,
            };
            make(dev.as_fd(), root, Path::new(name), &Path::new("dev").join(name), &node, bind)?;
        }
    }
    for device in devices {
        configured(root, dev.as_fd(), device, bind)?;
    }
    for (target, name) in LINKS {
        link(dev.as_fd(), target, name)?;
    }
    if rustix::fs::access("/proc/kcore", rustix::fs::Access::EXISTS).is_ok() {
        link(dev.as_fd(), "/proc/kcore", "core")?;
    }
    // The instance of the container, not of the host.
    match rustix::fs::readlinkat(&dev, c"ptmx", Vec::new()) {
        Ok(t) if t.as_c_str() == c"pts/ptmx" => Ok(()),
        _ => {
            let _ = rustix::fs::unlinkat(&dev, c"ptmx", AtFlags::empty());
            link(dev.as_fd(), "pts/ptmx", "ptmx")
        }
    }
}

fn link(dev: BorrowedFd<'_>, target: &str, name: &str) -> Result<()> {
    match rustix::fs::symlinkat(target, dev, name) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(e) => Err(Error::io(format!("/dev/{name} in the container"), e.into())),
    }
}

struct Node {
    kind: FileType,
    mode: u32,
    device: u64,
    owner: Option<(u32, u32)>,
}

fn configured(root: &Root, dev: BorrowedFd<'_>, d: &Device, bind: bool) -> Result<()> {
    let kind = match d.kind.as_str() {
        "c" | "u" => FileType::CharacterDevice,
        "b" => FileType::BlockDevice,
        "p" => FileType::Fifo,
        other => return Err(Error::invalid(format!("device {:?} has the unknown type {other:?}", d.path))),
    };
    let number =
        |n: i64| u32::try_from(n).map_err(|_| Error::invalid(format!("device {:?}: bad number {n}", d.path)));
    let device = if kind == FileType::Fifo { 0 } else { makedev(number(d.major)?, number(d.minor)?) };
    let owner = (d.uid.is_some() || d.gid.is_some()).then(|| (d.uid.unwrap_or(0), d.gid.unwrap_or(0)));
    let node = Node { kind, mode: d.file_mode.unwrap_or(0o666) & 0o7777, device, owner };
    let path = clean(&d.path);
    let name = path.file_name().ok_or_else(|| Error::invalid(format!("device path {:?}", d.path)))?;
    let bind = bind && kind != FileType::Fifo;
    match path.parent() {
        Some(parent) if parent == Path::new("dev") => make(dev, root, Path::new(name), &path, &node, bind),
        parent => {
            let dir = root.ensure_dir(parent.unwrap_or(Path::new("")))?;
            make(dir.as_fd(), root, Path::new(name), &path, &node, bind)
        }
    }
}

fn make(dir: BorrowedFd<'_>, root: &Root, name: &Path, path: &Path, node: &Node, bind: bool) -> Result<()> {
    let about = || format!("device /{} in the container", path.display());
    if bind {
        return bind_node(root, path);
    }
    match rustix::fs::mknodat(dir, name, node.kind, Mode::from_raw_mode(node.mode), node.device) {
        Ok(()) => {}
        Err(Errno::EXIST) => {
            let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).about(about)?;
            if FileType::from_raw_mode(stat.st_mode) != node.kind || stat.st_rdev != node.device {
                return Err(Error::conflict(format!("{} exists and is something else", about())));
            }
            rustix::fs::chmodat(dir, name, Mode::from_raw_mode(node.mode), AtFlags::empty()).about(about)?;
        }
        Err(Errno::PERM) => return bind_node(root, path),
        Err(e) => return Err(Error::io(about(), e.into())),
    }
    if let Some((uid, gid)) = node.owner {
        let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        rustix::fs::chownat(dir, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW).about(about)?;
    }
    Ok(())
}

/// Binds the host's node of the same path.
fn bind_node(root: &Root, path: &Path) -> Result<()> {
    let source = clone_tree(CWD, &Path::new("/").join(path), false)?;
    // What is seen there is a node and nothing else, whatever the host's /dev allows.
    let change = attr::Attr { set: attr::NOSUID | attr::NOEXEC, ..Default::default() };
    attr::setattr(source.as_fd(), &change, false)
        .about(|| format!("device /{} in the container", path.display()))?;
    let target = root.ensure_file(path)?;
    attach(source.as_fd(), target.as_fd()).about(|| format!("device /{} in the container", path.display()))
}

/// The host's `/dev/null`, verified to be it, for masking files.
pub(crate) fn null() -> Result<OwnedFd> {
    let fd =
        rustix::fs::open("/dev/null", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).about(|| "/dev/null")?;
    let stat = rustix::fs::fstat(&fd).about(|| "/dev/null")?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::CharacterDevice || stat.st_rdev != makedev(1, 3) {
        return Err(Error::corrupt("/dev/null is not the null device"));
    }
    Ok(fd)
}
