//! Mounts that must be opened before the child exists: sources that a user namespace could not reach, and mapped mounts.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use fluyt_model::error::{Error, IoContext, Result};
use fluyt_sys::clone;
use rustix::fs::{CWD, Mode, OFlags};

use crate::Rootfs;
use crate::init::options::Options;
use crate::init::{Join, mounts::clone_tree, rootfs};
use crate::launch::{Launch, write_maps};
use crate::spec::{IdMapping, Mount};

/// What the caller prepares for one mount.
pub(crate) enum Source {
    /// The detached mount itself.
    Tree(OwnedFd),
    /// The user namespace with its mapping: the source is there only when the mounts before it are.
    Mapping(OwnedFd),
}

/// What is prepared, by index of `spec.mounts`, and the root.
#[derive(Default)]
pub(crate) struct Prepared {
    pub(crate) mounts: Vec<Option<Source>>,
    pub(crate) root: Option<OwnedFd>,
}

/// The container's user namespace, made or found when it is first needed.
struct Mapper<'a> {
    launch: &'a Launch,
    joins: &'a [Join],
    own: Option<Users>,
}

/// A user namespace and who its root is for the caller.
pub(crate) struct Users {
    pub(crate) namespace: OwnedFd,
    /// User and group id.
    pub(crate) root: (u32, u32),
}

impl Mapper<'_> {
    fn own(&mut self, what: &Path) -> Result<&Users> {
        if self.own.is_none() {
            let linux = self.launch.spec.linux();
            self.own = Some(if linux.uid_mappings.is_empty() {
                joined_users(self.joins, what)?
            } else {
                users_with(&linux.uid_mappings, &linux.gid_mappings)?
            });
        }
        self.own.as_ref().ok_or_else(|| Error::internal("the namespace was just stored"))
    }

    /// The user namespace whose mapping a mount gets.
    fn of(&mut self, m: &Mount) -> Result<OwnedFd> {
        if m.uid_mappings.is_empty() {
            self.own(&m.destination)?.namespace.try_clone().about(|| "user namespace")
        } else {
            users_with(&m.uid_mappings, &m.gid_mappings).map(|users| users.namespace)
        }
    }

    /// A mount of the whole overlay, its layers mapped if the root file system's are.
    fn overlay(&mut self, rootfs: &Rootfs) -> Result<OwnedFd> {
        let Rootfs::Overlay { mapped: Some(base), target, .. } = rootfs else {
            return rootfs::overlay_apart(rootfs);
        };
        rootfs::mapped_overlay(rootfs, base, self.own(target)?)
    }
}

/// Opens what only the caller can open.
pub(crate) fn mounts(l: &Launch, joins: &[Join], in_userns: bool) -> Result<Prepared> {
    let mut out = Prepared::default();
    let early = |m: &Mount| {
        !m.uid_mappings.is_empty() || m.kind == "overlay" || Options::parse(&m.options).idmap.is_some()
    };
    if !in_userns && !l.spec.mounts.iter().any(early) {
        return Ok(out);
    }
    let mut mapper = Mapper { launch: l, joins, own: None };
    for m in &l.spec.mounts {
        out.mounts.push(one(&mut mapper, m, in_userns)?);
    }
    if in_userns {
        out.root = Some(match &l.rootfs {
            Rootfs::Dir(dir) => clone_tree(CWD, dir, true)?,
            overlay @ Rootfs::Overlay { .. } => mapper.overlay(overlay)?,
        });
    }
    Ok(out)
}

fn one(mapper: &mut Mapper<'_>, m: &Mount, in_userns: bool) -> Result<Option<Source>> {
    let l = mapper.launch;
    let o = Options::parse(&m.options);
    let is_bind = o.bind.is_some() || m.kind == "bind";
    let mapped = !m.uid_mappings.is_empty() || o.idmap.is_some();
    if let Some(overlay) = overlay_of(l, m, &o).filter(|_| !is_bind) {
        return mapper
            .overlay(&overlay)
            .map(|tree| Some(Source::Tree(tree)))
            .map_err(|e| e.context(format!("mount {:?}", m.destination)));
    }
    if !is_bind {
        return if mapped {
            Err(Error::unsupported(format!("mount {:?}: only bind mounts can be mapped", m.destination)))
        } else {
            Ok(None)
        };
    }
    if !in_userns && !mapped {
        return Ok(None);
    }
    let source = l.bundle.join(&m.source);
    let late = inside(&l.rootfs, &source).is_some();
    if late && !mapped {
        return Ok(None);
    }
    let namespace = if mapped { Some(mapper.of(m)?) } else { None };
    if let (true, Some(namespace)) = (late, &namespace) {
        return namespace.try_clone().about(|| "user namespace").map(|fd| Some(Source::Mapping(fd)));
    }
    let tree = clone_tree(CWD, &source, o.bind == Some(true))
        .map_err(|e| e.context(format!("mount {:?}", m.destination)))?;
    if let Some(namespace) = namespace {
        rootfs::map_ids(&tree, &namespace, o.idmap == Some(true))
            .map_err(|e| e.context(format!("mount {:?}", m.destination)))?;
    }
    Ok(Some(Source::Tree(tree)))
}

/// A source below the root file system, which earlier mounts may have changed: its path there.
pub(crate) fn inside<'a>(rootfs: &Rootfs, source: &'a Path) -> Option<&'a Path> {
    let Rootfs::Dir(dir) = rootfs else { return None };
    source.strip_prefix(dir).ok().filter(|rest| !rest.as_os_str().is_empty())
}

/// An overlay among the mounts, for which the way of the root file system is taken: its layers may be more than fit into
/// one option. One with an SELinux label is left to the general way.
fn overlay_of(l: &Launch, m: &Mount, o: &Options) -> Option<Rootfs> {
    if m.kind != "overlay" || !l.spec.linux().mount_label.is_empty() {
        return None;
    }
    let (mut lower, mut upper, mut work, mut options) =
        (Vec::new(), PathBuf::new(), PathBuf::new(), Vec::new());
    for option in &o.data {
        match option.split_once('=') {
            Some(("lowerdir", list)) => lower = layers(list),
            Some(("lowerdir+", layer)) => lower.push(PathBuf::from(layer)),
            Some(("upperdir", path)) => upper = path.into(),
            Some(("workdir", path)) => work = path.into(),
            _ => options.push(option.clone()),
        }
    }
    if lower.iter().any(|layer| inside(&l.rootfs, layer).is_some()) {
        // Earlier mounts may change what is there.
        return None;
    }
    // The root's place serves as theirs where an old kernel must mount before it can hand a mount out.
    let (mapped, target) = match &l.rootfs {
        Rootfs::Overlay { mapped, target, .. } => (mapped.clone(), target.clone()),
        Rootfs::Dir(dir) => (None, dir.clone()),
    };
    (!lower.is_empty()).then_some(Rootfs::Overlay { lower, upper, work, options, target, mapped })
}

/// The layers of a `lowerdir` option: separated by colons, which `\:` is not.
fn layers(list: &str) -> Vec<PathBuf> {
    let mut all = vec![String::new()];
    let mut characters = list.chars();
    while let Some(c) = characters.next() {
        match c {
            ':' => all.push(String::new()),
            '\\' => all.last_mut().into_iter().for_each(|layer| layer.extend(characters.next())),
            c => all.last_mut().into_iter().for_each(|layer| layer.push(c)),
        }
    }
    all.into_iter().map(PathBuf::from).collect()
}

fn joined_users(joins: &[Join], what: &Path) -> Result<Users> {
    let join = joins.iter().find(|j| j.kind == clone::NEWUSER);
    let join = join.ok_or_else(|| {
        Error::invalid(format!("mount {what:?} is to be mapped, but there are no mappings"))
    })?;
    let namespace = join.fd.try_clone().about(|| join.path.display().to_string())?;
    let root = held(0, Some(&mut || crate::init::join(join)), &mut |pid| Ok(root_of(pid)))?;
    Ok(Users { namespace, root })
}

/// A user namespace with these mappings, held only by the descriptor.
fn users_with(uids: &[IdMapping], gids: &[IdMapping]) -> Result<Users> {
    held(clone::NEWUSER, None, &mut |pid| {
        write_maps(pid, uids, gids)?;
        let path = format!("/proc/{pid}/ns/user");
        let namespace = rustix::fs::open(Path::new(&path), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        Ok(Users { namespace: namespace.about(|| path)?, root: root_of(pid) })
    })
}

/// Who root of the user namespace of process `pid` is out here; our own root if it has none.
fn root_of(pid: i32) -> (u32, u32) {
    let outside = |name: &str| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
        crate::streams::translate(&text, 0).unwrap_or(0)
    };
    (outside("uid_map"), outside("gid_map"))
}

/// Looks at a process that only waits, born with `flags` after `before`.
fn held<T>(
    flags: u64,
    before: Option<&mut dyn FnMut() -> std::io::Result<()>>,
    look: &mut dyn FnMut(i32) -> Result<T>,
) -> Result<T> {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).about(|| "pipe")?;
    let mut ends = Some((read, write));
    let mut wait = || {
        let Some((read, write)) = ends.take() else { return 1 };
        drop(write);
        let _ = rustix::io::read(&read, &mut [0u8; 1]);
        0
    };
    let child = clone::spawn(clone::Options { flags, cgroup: None, before }, &mut wait)
        .about(|| "user namespace for a mapped mount")?;
    let result = look(child.pid);
    drop(ends);
    let _ = clone::reap(child.pid, true);
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_separated_by_bare_colons() {
        assert_eq!(layers("/a:/b"), [Path::new("/a"), Path::new("/b")]);
        assert_eq!(layers("/a\\:x:/b\\\\"), [Path::new("/a:x"), Path::new("/b\\")]);
    }
}
