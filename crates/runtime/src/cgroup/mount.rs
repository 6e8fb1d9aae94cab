//! The `cgroup` mount of a container: version 2 as one file system, version 1 as a tmpfs with one mount for each hierarchy.

use std::os::fd::AsFd;
use std::path::Path;

use fluyt_model::error::{IoContext, Result};
use fluyt_sys::mount::{self as attr, Attr};
use rustix::fs::{CWD, OFlags};

use super::{CgroupPaths, host};
use crate::init::mounts::{Mounter, clone_tree, file_system};
use crate::init::options::Options;
use crate::init::root::{attach, clean};
use crate::spec::Mount;

/// Mounts it. `fresh`: this process is in a cgroup namespace of its own, rooted at the container's groups.
pub(crate) fn mount(m: &mut Mounter<'_>, entry: &Mount, paths: &CgroupPaths, fresh: bool) -> Result<()> {
    let o = Options::parse(&entry.options);
    let done = if host::is_unified() {
        unified(m, entry, &o, paths, fresh)
    } else {
        separate(m, entry, &o, paths, fresh)
    };
    done.map_err(|e| e.context(format!("mounting cgroup at {:?}", entry.destination)))
}

fn attributes(o: &Options) -> Attr<'static> {
    Attr { set: o.set, clear: o.clear & (!o.set | attr::ATIME_MASK), ..Attr::default() }
}

fn unified(m: &Mounter<'_>, entry: &Mount, o: &Options, paths: &CgroupPaths, fresh: bool) -> Result<()> {
    let target = m.root.ensure_dir(&clean(&entry.destination))?;
    let own = paths.v2.as_deref().unwrap_or(Path::new("/sys/fs/cgroup"));
    let mount = if fresh {
        // Without the right to mount a new one (user namespace on older kernels), the host's is bound.
        file_system("cgroup2", "cgroup", &o.data).or_else(|_| clone_tree(CWD, own, true))?
    } else {
        clone_tree(CWD, own, true)?
    };
    attr::setattr(mount.as_fd(), &attributes(o), false).about(|| "attributes")?;
    attach(mount.as_fd(), target.as_fd()).about(|| "attaching")
}

fn separate(m: &mut Mounter<'_>, entry: &Mount, o: &Options, paths: &CgroupPaths, fresh: bool) -> Result<()> {
    let tmpfs = Mount {
        destination: entry.destination.clone(),
        kind: "tmpfs".to_owned(),
        source: "tmpfs".into(),
        options: entry
            .options
            .iter()
            .filter(|w| !o.data.contains(w))
            .cloned()
            .chain(["mode=755".to_owned()])
            .collect(),
        ..Mount::default()
    };
    m.mount(&tmpfs, None)?;
    let top = clean(&entry.destination);
    let attributes = Attr { set: o.set, clear: o.clear & (!o.set | attr::ATIME_MASK), ..Attr::default() };
    for dir in &paths.v1 {
        let name = dir.controllers.strip_prefix("name=").unwrap_or(&dir.controllers);
        let target = m.root.ensure_dir(&top.join(name))?;
        let tree = if fresh {
            let words: Vec<String> = match dir.controllers.strip_prefix("name=") {
                Some(_) => vec!["none".to_owned(), dir.controllers.clone(), "xattr".to_owned()],
                None => dir.controllers.split(',').map(str::to_owned).collect(),
            };
            file_system("cgroup", "cgroup", &words).or_else(|_| clone_tree(CWD, &dir.path, true))?
        } else {
            clone_tree(CWD, &dir.path, true)?
        };
        attr::setattr(tree.as_fd(), &attributes, false).about(|| format!("attributes of {name}"))?;
        attach(tree.as_fd(), target.as_fd()).about(|| format!("attaching {name}"))?;
        if dir.controllers.contains(',') {
            let place = m.root.open(&top, OFlags::PATH | OFlags::DIRECTORY).about(|| "cgroup tmpfs")?;
            for one in dir.controllers.split(',') {
                let _ = rustix::fs::symlinkat(name, &place, one);
            }
        }
    }
    Ok(())
}
