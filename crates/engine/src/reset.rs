//! Taking a whole data root away: what it holds and what belongs to it on the host.
//!
//! Works also where the data root itself was deleted by hand and only its traces on the host are left. Only files that
//! fluyt makes are deleted: a data root that was put into a directory with other things leaves those.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use fluyt_model::error::IoContext;
use fluyt_model::{Error, Result};
use fluyt_net::{Desired, Scope};
use fluyt_runtime::Cgroup;
use rustix::process::{Pid, Signal};

use crate::api::RemoveOptions;
use crate::container::remove::delete_tree;
use crate::pod::PodRemoveOptions;
use crate::{Engine, Paths};

/// What is in a data root. The records go first: without them the rest is nobody's.
const FILES: [&str; 8] = [
    "db.sqlite",
    "db.sqlite-wal",
    "db.sqlite-shm",
    "db.sqlite-journal",
    "events.jsonl",
    "events.jsonl.1",
    "gc.lock",
    "registry.key",
];
const DIRECTORIES: [&str; 13] = [
    "containers",
    "pods",
    "kube",
    "trash",
    "l",
    "layers",
    "blobs",
    "build",
    "ingest",
    "known",
    "leases",
    "volumes",
    "tmp",
];

/// Everything that could not be done, for one report at the end.
#[derive(Default)]
struct Failures(Vec<Error>);

impl Failures {
    fn note(&mut self, done: Result<()>) {
        self.0.extend(done.err());
    }

    fn report(mut self) -> Result<()> {
        match self.0.len() {
            0 => Ok(()),
            1 => Err(self.0.remove(0)),
            _ => {
                let list: String = self.0.iter().map(|e| format!("\n  {}", e.chain())).collect();
                Err(Error::new(self.0[0].kind(), format!("not everything could be removed:{list}")))
            }
        }
    }
}

/// Removes the containers, images, volumes and networks of the data root `root`, its bridges, its firewall table, its run
/// directory and its cgroups, and its files; the directory itself if nothing else is in it.
///
/// # Errors
/// Whatever could not be removed, after everything else was.
pub fn reset(root: &Path) -> Result<()> {
    let paths = Paths::new(root)?;
    let mut failures = Failures::default();
    if paths.root().join(FILES[0]).exists() {
        // A damaged record file must not keep anybody from getting rid of it.
        if let Ok(engine) = Engine::open(paths.root()) {
            empty(&engine, &mut failures);
        }
    }
    end_strays(&paths);
    failures.note(remove_cgroups(&paths));
    failures.note(remove_networks(&paths.scope()));
    failures.note(remove_run(&paths));
    if let Err(e) = detach_below(paths.root()) {
        // What is mounted in there is somebody's data: nothing is deleted through it.
        failures.note(Err(e));
        return failures.report();
    }
    for file in FILES {
        let path = paths.root().join(file);
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                failures.note(Err(Error::io(path.display().to_string(), e)));
            }
            _ => {}
        }
    }
    for directory in DIRECTORIES {
        failures.note(delete_tree(&paths.root().join(directory)));
    }
    // Something else may be in there, or it may be a mount point.
    let _ = std::fs::remove_dir(paths.root());
    failures.report()
}

/// Containers and networks in good order, so that hooks, volumes and links go as they always do.
fn empty(engine: &Engine, failures: &mut Failures) {
    let records = match engine.records().containers() {
        Ok(records) => records,
        Err(e) => return failures.note(Err(e)),
    };
    for record in records {
        let removed = engine.remove(&record.id, RemoveOptions { force: true, volumes: true });
        failures.note(removed.map_err(|e| e.context(format!("container {}", record.name))));
    }
    let pods = engine.pods();
    for pod in pods.into_iter().flatten() {
        let removed =
            engine.pod_remove(&pod.id, PodRemoveOptions { force: true, ..PodRemoveOptions::default() });
        failures.note(removed.map_err(|e| e.context(format!("pod {}", pod.name))));
    }
    let Ok(networks) = engine.networks() else { return };
    for network in networks {
        // The predefined ones refuse; their links go with all others of the root.
        let _ = engine.network_remove(&network.id);
    }
}

/// Monitors without a record: ended, and what they serve with them, by the cgroups.
fn end_strays(paths: &Paths) {
    for entry in std::fs::read_dir(paths.run()).into_iter().flatten().flatten() {
        let owner = fluyt_monitor::owner(&entry.path()).and_then(Pid::from_raw);
        if let Some(pid) = owner {
            // It may end in this very moment.
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
    }
}

fn remove_cgroups(paths: &Paths) -> Result<()> {
    let cgroup = Cgroup::at(&paths.cgroup_parent())?;
    if cgroup.is_populated() {
        // Frozen processes do not die.
        let _ = cgroup.thaw();
        cgroup.kill(9)?;
    }
    cgroup.delete()
}

fn remove_networks(scope: &Scope) -> Result<()> {
    let removed = fluyt_net::reconcile(scope, &Desired::default()).map(drop);
    let default = fluyt_net::remove_bridge(scope, &scope.default_bridge());
    removed.and(default).and(fluyt_net::remove_table(scope))
}

/// Takes down whatever is mounted below `root`: what killed monitors have left of volumes on other file systems.
fn detach_below(root: &Path) -> Result<()> {
    const TABLE: &str = "/proc/thread-self/mountinfo";
    let table = std::fs::read_to_string(TABLE).about(|| TABLE)?;
    // The table has no symbolic links.
    let root = &root.canonicalize().unwrap_or_else(|_| root.to_owned());
    let mut below: Vec<PathBuf> = table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(|point| PathBuf::from(OsString::from_vec(unescaped(point))))
        .filter(|point| point.starts_with(root) && point != root)
        .collect();
    below.sort();
    for point in below.iter().rev() {
        rustix::mount::unmount(point, rustix::mount::UnmountFlags::DETACH)
            .about(|| point.display().to_string())?;
    }
    Ok(())
}

/// A path of mountinfo: blanks and backslashes are three octal digits there.
fn unescaped(text: &str) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((first, after)) = rest.split_first() {
        let octal = after.get(..3).filter(|_| *first == b'\\');
        let byte =
            octal.and_then(|d| std::str::from_utf8(d).ok()).and_then(|d| u8::from_str_radix(d, 8).ok());
        out.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &after[3..] } else { after };
    }
    out
}

fn remove_run(paths: &Paths) -> Result<()> {
    let run = paths.run();
    for pod in std::fs::read_dir(run.join("pods")).into_iter().flatten().flatten() {
        crate::pod::unmount_below(&pod.path())?;
    }
    for entry in std::fs::read_dir(run).into_iter().flatten().flatten() {
        let shm = entry.path().join("shm");
        if shm.exists() && crate::container::start::is_mount_point(&shm)? {
            rustix::mount::unmount(&shm, rustix::mount::UnmountFlags::DETACH)
                .about(|| shm.display().to_string())?;
        }
    }
    delete_tree(run)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_the_mount_table_are_read() {
        assert_eq!(unescaped("/a\\040b\\134c"), b"/a b\\c");
        assert_eq!(unescaped("/plain\\"), b"/plain\\");
    }
}
