//! Under systemd, whatever is left in the cgroup of a session or a service is ended with it. A monitor must not be: it
//! moves into a cgroup of its own beside the containers'.

use std::path::{Path, PathBuf};

use fluyt_model::Result;
use fluyt_model::error::IoContext;
use fluyt_runtime::CgroupPaths;

/// Where systemd is in charge, this exists (sd_booted(3)).
const SYSTEMD: &str = "/run/systemd/system";

/// Moves this process into the group `monitors` beside the container's, in the hierarchy by which systemd tracks
/// processes. Does nothing on a host without systemd.
///
/// # Errors
/// The group cannot be made or joined.
pub fn enter(container: &CgroupPaths) -> Result<()> {
    if !Path::new(SYSTEMD).exists() {
        return Ok(());
    }
    let Some(group) = beside(container) else { return Ok(()) };
    join(&group)
}

/// Moves this process out of its way: a group that has processes cannot have groups with limits below it (version 2).
/// For who makes a container in the group `parent`, its own, which a service manager has delegated to it.
///
/// # Errors
/// The group `monitors` in it cannot be made or joined.
pub fn stand_aside(parent: &str) -> Result<()> {
    if parent.is_empty() || !fluyt_runtime::is_unified() {
        return Ok(());
    }
    join(&Path::new("/sys/fs/cgroup").join(parent.trim_start_matches('/')).join("monitors"))
}

fn join(group: &Path) -> Result<()> {
    std::fs::create_dir_all(group).about(|| group.display().to_string())?;
    let procs = group.join("cgroup.procs");
    std::fs::write(&procs, std::process::id().to_string()).about(|| procs.display().to_string())
}

fn beside(container: &CgroupPaths) -> Option<PathBuf> {
    let own = container.v2.as_deref().or_else(|| container.controller("name=systemd"))?;
    Some(own.parent()?.join("monitors"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_is_beside_the_containers() {
        let paths = CgroupPaths { v2: Some("/sys/fs/cgroup/fluyt/ab".into()), ..CgroupPaths::default() };
        assert_eq!(beside(&paths), Some(PathBuf::from("/sys/fs/cgroup/fluyt/monitors")));
        assert_eq!(beside(&CgroupPaths::default()), None);
    }
}
