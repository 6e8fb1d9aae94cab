//! The mounts of the configuration, attached by descriptor so that no path is walked twice.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use fluyt_model::error::{Error, IoContext, Result};
use fluyt_sys::mount::{self as attr, Attr};
use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags, UnmountFlags};

use super::options::Options;
use super::root::{Root, attach, clean};
use crate::prepare::{Source, inside};
use crate::spec;

const PROC_SUPER_MAGIC: i64 = 0x9fa0;
/// What lxcfs and the like may replace below `/proc`; any other mount there would fool tools that trust procfs.
const PROC_PLACES: [&str; 12] = [
    "proc/cpuinfo",
    "proc/diskstats",
    "proc/meminfo",
    "proc/stat",
    "proc/swaps",
    "proc/uptime",
    "proc/loadavg",
    "proc/slabinfo",
    "proc/net/dev",
    "proc/sys/kernel/ns_last_pid",
    "proc/sys/crypto/fips_enabled",
    "proc/sys/kernel/random",
];

/// Mounts whose read-only attribute waits until everything inside them is made.
#[derive(Debug, Default)]
pub(crate) struct Deferred(Vec<OwnedFd>);

impl Deferred {
    /// Makes them read-only.
    pub(crate) fn finish(self) -> Result<()> {
        for fd in self.0 {
            attr::setattr(fd.as_fd(), &Attr { set: attr::RDONLY, ..Attr::default() }, false)
                .about(|| "making a mount read-only")?;
        }
        Ok(())
    }
}

/// Everything that one mount needs besides itself.
pub(crate) struct Mounter<'a> {
    pub(crate) root: &'a Root,
    /// Relative sources of bind mounts start here.
    pub(crate) bundle: BorrowedFd<'a>,
    pub(crate) label: &'a str,
    /// Where the root comes from: sources below it are looked up inside it.
    pub(crate) rootfs: &'a crate::Rootfs,
    pub(crate) deferred: Deferred,
}

fn object(m: &spec::Mount) -> String {
    format!("mounting {:?} to rootfs at {:?}", m.source, m.destination)
}

impl Mounter<'_> {
    /// Performs one mount of the configuration, except those of type `cgroup`.
    pub(crate) fn mount(&mut self, m: &spec::Mount, prepared: Option<&Source>) -> Result<()> {
        let options = Options::parse(&m.options);
        self.mount_parsed(m, &options, prepared).map_err(|e| e.context(object(m)))
    }

    fn mount_parsed(&mut self, m: &spec::Mount, o: &Options, prepared: Option<&Source>) -> Result<()> {
        // Some callers name the place as they see it themselves.
        let place = clean(inside(self.rootfs, &m.destination).unwrap_or(&m.destination));
        if o.remount {
            return self.remount(&place, o);
        }
        if o.bind.is_some() || m.kind == "bind" {
            return self.bind(m, &place, o, prepared);
        }
        let (target, made) = if m.kind == "tmpfs" {
            self.root.ensure_mount_point(&place)?
        } else {
            (self.root.ensure_dir(&place)?, false)
        };
        self.check_place(&place, target.as_fd(), &m.kind)?;
        let mount = match prepared {
            Some(Source::Tree(fd)) => fd.try_clone().about(|| "mount")?,
            _ => self.new_file_system(m, o, target.as_fd(), made)?,
        };
        self.finish(&mount, o, target.as_fd(), m.kind == "tmpfs" || place == Path::new("dev"))?;
        if o.set & attr::RDONLY != 0 && (m.kind == "tmpfs" || place == Path::new("dev")) {
            self.deferred.0.push(mount);
        }
        Ok(())
    }

    /// `made`: the mount point was not there before.
    fn new_file_system(
        &self,
        m: &spec::Mount,
        o: &Options,
        target: BorrowedFd<'_>,
        made: bool,
    ) -> Result<OwnedFd> {
        let mut data = o.data.clone();
        // A new one is everybody's, as the kernel makes it.
        if m.kind == "tmpfs" && !made && !data.iter().any(|d| d.starts_with("mode=")) {
            // As if the directory itself had become volatile.
            let mode = rustix::fs::fstat(target).about(|| "mount point")?.st_mode & 0o7777;
            data.push(format!("mode={mode:o}"));
        }
        if !self.label.is_empty()
            && super::finish::selinux_enabled()
            && !data.iter().any(|d| d.starts_with("context="))
            && ["tmpfs", "mqueue", "devpts", "overlay", "ramfs"].contains(&m.kind.as_str())
        {
            data.push(format!("context={}", self.label));
        }
        let source = m.source.to_string_lossy();
        let made = match file_system(&m.kind, &source, &data) {
            Err(e) if m.kind == "sysfs" && e.kind() == fluyt_model::error::Kind::PermissionDenied => {
                clone_tree(CWD, Path::new("/sys"), true)
            }
            Err(e) if m.kind == "proc" && e.kind() == fluyt_model::error::Kind::PermissionDenied => {
                clone_tree(CWD, Path::new("/proc"), true)
            }
            other => other,
        }?;
        if o.copy_up && m.kind == "tmpfs" {
            super::copyup::copy_up(target, made.as_fd())?;
        }
        Ok(made)
    }

    fn bind(&mut self, m: &spec::Mount, place: &Path, o: &Options, prepared: Option<&Source>) -> Result<()> {
        let tree = match prepared {
            Some(Source::Tree(fd)) => fd.try_clone().about(|| "mount")?,
            Some(Source::Mapping(userns)) => {
                let tree = self.late_source(m, o)?;
                super::rootfs::map_ids(&tree, userns, o.idmap == Some(true))?;
                tree
            }
            None => self.late_source(m, o)?,
        };
        let kind = FileType::from_raw_mode(rustix::fs::fstat(&tree).about(|| "mount source")?.st_mode);
        let target = if kind == FileType::Directory {
            self.root.ensure_dir(place)?
        } else {
            self.root.ensure_file(place)?
        };
        self.check_place(place, target.as_fd(), "bind")?;
        self.finish(&tree, o, target.as_fd(), false)
    }

    /// A source that is opened only now; one below the root is what the mounts before it have made of it.
    fn late_source(&self, m: &spec::Mount, o: &Options) -> Result<OwnedFd> {
        let recursive = o.bind == Some(true);
        match inside(self.rootfs, &m.source) {
            Some(path) => {
                let about = || format!("mount source {}", m.source.display());
                let fd = self.root.open(path, OFlags::PATH).about(about)?;
                clone_tree(fd.as_fd(), Path::new(""), recursive)
            }
            None => clone_tree(self.bundle, &m.source, recursive),
        }
    }

    /// Attributes, then the place, then propagation (which the place may have changed).
    fn finish(&self, mount: &OwnedFd, o: &Options, target: BorrowedFd<'_>, defer_ro: bool) -> Result<()> {
        let set = if defer_ro { o.set & !attr::RDONLY } else { o.set };
        // What is cleared and set at once is set; the access time mask must be cleared as a whole.
        let clear = o.clear & (!set | attr::ATIME_MASK);
        let fd = mount.as_fd();
        if set | clear != 0 {
            attr::setattr(fd, &Attr { set, clear, ..Attr::default() }, false).about(|| "mount attributes")?;
        }
        if o.recursive_set | o.recursive_clear != 0 {
            let clear = o.recursive_clear & (!o.recursive_set | attr::ATIME_MASK);
            attr::setattr(fd, &Attr { set: o.recursive_set, clear, ..Attr::default() }, true)
                .about(|| "recursive mount attributes")?;
        }
        attach(fd, target).about(|| "attaching the mount")?;
        if o.propagation != 0 {
            let change = Attr { propagation: o.propagation, ..Attr::default() };
            attr::setattr(fd, &change, o.recursive_propagation).about(|| "mount propagation")?;
        }
        Ok(())
    }

    fn remount(&self, place: &Path, o: &Options) -> Result<()> {
        let fd = self.root.open(place, OFlags::PATH).about(|| format!("/{}", place.display()))?;
        let clear = o.clear & (!o.set | attr::ATIME_MASK);
        attr::setattr(
            fd.as_fd(),
            &Attr { set: o.set, clear, propagation: o.propagation, userns: None },
            false,
        )
        .about(|| "remounting")
    }

    /// Refuses places below `/proc` that would hide what procfs says, and `proc` or `sysfs` behind a link.
    fn check_place(&self, place: &Path, target: BorrowedFd<'_>, kind: &str) -> Result<()> {
        if (kind == "proc" || kind == "sysfs") && place.components().count() > 0 {
            let resolve = rustix::fs::ResolveFlags::IN_ROOT | rustix::fs::ResolveFlags::NO_SYMLINKS;
            rustix::fs::openat2(
                self.root.fd(),
                place,
                OFlags::PATH | OFlags::CLOEXEC,
                Mode::empty(),
                resolve,
            )
            .about(|| {
                format!("filesystem {kind:?} must be mounted on ordinary directory, without symbolic links")
            })?;
            return Ok(());
        }
        let below_proc = rustix::fs::fstatfs(target).about(|| "mount point")?.f_type == PROC_SUPER_MAGIC;
        if below_proc && !PROC_PLACES.iter().any(|p| Path::new(p) == place) && place != Path::new("proc") {
            return Err(Error::invalid(format!(
                "/{} cannot be mounted because it is inside /proc",
                place.display()
            )));
        }
        Ok(())
    }
}

/// A detached copy of the mount that holds `path`.
pub(crate) fn clone_tree(dir: BorrowedFd<'_>, path: &Path, recursive: bool) -> Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if path.as_os_str().is_empty() {
        flags |= OpenTreeFlags::AT_EMPTY_PATH;
    }
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    rustix::mount::open_tree(dir, path, flags).about(|| format!("mount source {}", path.display()))
}

/// A new, detached file system.
pub(crate) fn file_system<S: AsRef<str>>(kind: &str, source: &str, data: &[S]) -> Result<OwnedFd> {
    let fs =
        rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC).about(|| format!("file system {kind:?}"))?;
    if !source.is_empty() {
        rustix::mount::fsconfig_set_string(fs.as_fd(), "source", source).about(|| "source")?;
    }
    for option in data {
        let option = option.as_ref();
        let set = match option.split_once('=') {
            Some((key, value)) => {
                rustix::mount::fsconfig_set_string(fs.as_fd(), key, value.trim_matches('"'))
            }
            None => rustix::mount::fsconfig_set_flag(fs.as_fd(), option),
        };
        set.map_err(|e| explain(fs.as_fd(), &format!("{kind}: option {option:?}"), e))?;
    }
    rustix::mount::fsconfig_create(fs.as_fd()).map_err(|e| explain(fs.as_fd(), kind, e))?;
    rustix::mount::fsmount(fs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
        .map_err(|e| explain(fs.as_fd(), kind, e))
}

/// Mounts a new file system on a directory of the calling process's mount namespace; `options` as in `mounts[].options`.
///
/// # Errors
/// What the kernel refuses, in its own words where it has some.
pub fn mount_on(kind: &str, source: &str, options: &[String], target: &Path) -> Result<()> {
    let mut o = Options::parse(options);
    if o.set & attr::RDONLY != 0 {
        // A disk that cannot be written to can be mounted only so.
        o.data.push("ro".to_owned());
    }
    let place = rustix::fs::open(target, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .about(|| target.display().to_string())?;
    let mount = file_system(kind, source, &o.data)?;
    let clear = o.clear & (!o.set | attr::ATIME_MASK);
    if o.set | clear != 0 {
        attr::setattr(mount.as_fd(), &Attr { set: o.set, clear, ..Attr::default() }, false)
            .about(|| "mount attributes")?;
    }
    attach(mount.as_fd(), place.as_fd()).about(|| target.display().to_string())
}

/// The kernel's own words about a refused file system, if it left any in the context.
fn explain(fs: BorrowedFd<'_>, about: &str, e: rustix::io::Errno) -> Error {
    let mut buffer = [0u8; 512];
    let words = rustix::io::read(fs, &mut buffer)
        .ok()
        .map(|n| String::from_utf8_lossy(&buffer[..n]).trim().to_owned());
    match words.filter(|w| !w.is_empty()) {
        Some(w) => Error::io(format!("{about} ({w})"), e.into()),
        None => Error::io(about, e.into()),
    }
}

/// Makes `fd`'s root the root of this mount namespace and lets go of the old one.
pub(crate) fn pivot(fd: BorrowedFd<'_>) -> Result<()> {
    rustix::process::fchdir(fd).about(|| "root file system")?;
    rustix::process::pivot_root(".", ".").about(|| "pivot_root")?;
    // The old root now covers the new one at ".". It must not carry the unmount to the host.
    rustix::mount::unmount(".", UnmountFlags::DETACH).about(|| "letting go of the old root")?;
    rustix::process::chdir("/").about(|| "/")
}

/// Takes away every complete procfs and sysfs outside the new root. The old root stays in the namespace when it is only
/// moved over, and a user namespace inside may mount a new procfs if it finds a complete one anywhere: without masks.
pub(crate) fn hide_full_views(root: &Path) -> Result<()> {
    use rustix::mount::{MountFlags, MountPropagationFlags};
    let table = std::fs::read_to_string("/proc/self/mountinfo").about(|| "mounts of the old root")?;
    for place in full_views(&table).iter().rev().filter(|p| !p.starts_with(root)) {
        let about = || format!("hiding {} of the old root", place.display());
        rustix::mount::mount_change(place, MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
            .about(about)?;
        if rustix::mount::unmount(place, UnmountFlags::DETACH).is_err() {
            // Locked in a user namespace: covered, then.
            rustix::mount::mount("tmpfs", place, "tmpfs", MountFlags::empty(), None).about(about)?;
        }
    }
    Ok(())
}

/// The places of procfs and sysfs mounts in a mount table that show all of it.
fn full_views(table: &str) -> Vec<std::path::PathBuf> {
    let view = |line: &str| {
        let (left, right) = line.split_once(" - ")?;
        let mut fields = left.split(' ').skip(3);
        let (root, place) = (fields.next()?, fields.next()?);
        let kind = right.split(' ').next()?;
        let full = root == "/" && (kind == "proc" || kind == "sysfs");
        // Only blanks are written as escapes that matter for a path here.
        full.then(|| place.replace("\\040", " ").into())
    };
    table.lines().filter_map(view).collect()
}

/// The way without `pivot_root`, for roots that are initramfs: moves the new root over the old one.
pub(crate) fn move_root(fd: BorrowedFd<'_>) -> Result<()> {
    rustix::process::fchdir(fd).about(|| "root file system")?;
    rustix::mount::mount_move(".", "/").about(|| "moving the root file system to /")?;
    rustix::process::chroot(".").about(|| "chroot")?;
    rustix::process::chdir("/").about(|| "/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_complete_procfs_and_sysfs_are_found() {
        let table = "22 1 0:20 / /proc rw shared:1 - proc proc rw\n\
            23 1 0:21 / /a\\040b rw - sysfs sysfs rw\n\
            24 22 0:20 /sys /mnt/sys rw - proc proc rw\n\
            25 1 8:1 / / rw - ext4 /dev/vda rw\n";
        assert_eq!(full_views(table), [Path::new("/proc"), Path::new("/a b")]);
    }
}
