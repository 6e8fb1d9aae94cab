//! Mounts that must be opened before the child exists: sources that a user namespace could not reach, and mapped mounts.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use fluyt_model::error::{Error, IoContext, Result};
use fluyt_sys::clone;
use fluyt_sys::mount::{self as attr, Attr, Fd};
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

/// Opens what only the caller can open.
pub(crate) fn mounts(l: &Launch, joins: &[Join], in_userns: bool) -> Result<Prepared> {
    let mut out = Prepared::default();
    let mapped = |m: &Mount| !m.uid_mappings.is_empty() || Options::parse(&m.options).idmap.is_some();
    if !in_userns && !l.spec.mounts.iter().any(mapped) {
        return Ok(out);
    }
    for m in &l.spec.mounts {
        out.mounts.push(one(l, m, joins, in_userns)?);
    }
    if in_userns {
        out.root = Some(match &l.rootfs {
            Rootfs::Dir(dir) => clone_tree(CWD, dir, true)?,
            overlay @ Rootfs::Overlay { .. } => rootfs::overlay(overlay)?,
        });
    }
    Ok(out)
}

fn one(l: &Launch, m: &Mount, joins: &[Join], in_userns: bool) -> Result<Option<Source>> {
    let o = Options::parse(&m.options);
    let is_bind = o.bind.is_some() || m.kind == "bind";
    let mapped = !m.uid_mappings.is_empty() || o.idmap.is_some();
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
    let mapping = if mapped { Some(mapping(l, m, joins)?) } else { None };
    if let (true, Some(userns)) = (late, &mapping) {
        return userns.try_clone().about(|| "user namespace").map(|fd| Some(Source::Mapping(fd)));
    }
    let tree = clone_tree(CWD, &source, o.bind == Some(true))
        .map_err(|e| e.context(format!("mount {:?}", m.destination)))?;
    if let Some(userns) = mapping {
        map(tree.as_fd(), userns.as_fd(), &o, m)?;
    }
    Ok(Some(Source::Tree(tree)))
}

/// Gives a detached mount the mapping of a user namespace.
pub(crate) fn map(tree: BorrowedFd<'_>, userns: BorrowedFd<'_>, o: &Options, m: &Mount) -> Result<()> {
    let change = Attr { set: attr::IDMAP, userns: Some(Fd(userns)), ..Attr::default() };
    attr::setattr(tree, &change, o.idmap == Some(true))
        .about(|| format!("mapping the ids of mount {:?}", m.destination))
}

/// A source below the root file system, which earlier mounts may have changed: its path there.
pub(crate) fn inside<'a>(rootfs: &Rootfs, source: &'a Path) -> Option<&'a Path> {
    let Rootfs::Dir(dir) = rootfs else { return None };
    source.strip_prefix(dir).ok().filter(|rest| !rest.as_os_str().is_empty())
}

/// The user namespace whose mapping a mount gets.
fn mapping(l: &Launch, m: &Mount, joins: &[Join]) -> Result<OwnedFd> {
    let (uids, gids) = if m.uid_mappings.is_empty() {
        (&l.spec.linux().uid_mappings, &l.spec.linux().gid_mappings)
    } else {
        (&m.uid_mappings, &m.gid_mappings)
    };
    if uids.is_empty() { joined_userns(joins, m) } else { userns_with(uids, gids) }
}

fn joined_userns(joins: &[Join], m: &Mount) -> Result<OwnedFd> {
    let join = joins.iter().find(|j| j.kind == clone::NEWUSER);
    let join = join.ok_or_else(|| {
        Error::invalid(format!("mount {:?} is to be mapped, but there are no mappings", m.destination))
    })?;
    join.fd.try_clone().about(|| join.path.display().to_string())
}

/// A user namespace with these mappings, held only by the descriptor.
fn userns_with(uids: &[IdMapping], gids: &[IdMapping]) -> Result<OwnedFd> {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).about(|| "pipe")?;
    let mut ends = Some((read, write));
    let mut wait = || {
        let Some((read, write)) = ends.take() else { return 1 };
        drop(write);
        let _ = rustix::io::read(&read, &mut [0u8; 1]);
        0
    };
    let options = clone::Options { flags: clone::NEWUSER, ..clone::Options::default() };
    let child = clone::spawn(options, &mut wait).about(|| "user namespace for a mapped mount")?;
    let result = write_maps(child.pid, uids, gids).and_then(|()| {
        let path = format!("/proc/{}/ns/user", child.pid);
        rustix::fs::open(Path::new(&path), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).about(|| path)
    });
    drop(ends);
    let _ = clone::reap(child.pid, true);
    result
}
