//! Which cgroup hierarchies this host has, and where a container's groups go in them.

use std::path::{Component, Path, PathBuf};

use fluyt_model::error::{Error, IoContext, Result};

use super::{CgroupDriver, CgroupPaths, V1Dir};

const ROOT: &str = "/sys/fs/cgroup";
const CGROUP2_SUPER_MAGIC: i64 = 0x6367_7270;
const CGROUP_SUPER_MAGIC: i64 = 0x0027_e0eb;

/// Whether version 2 has the controllers (the "unified" mode).
#[must_use]
pub fn is_unified() -> bool {
    rustix::fs::statfs(ROOT).is_ok_and(|s| s.f_type == CGROUP2_SUPER_MAGIC)
}

/// One line of `/proc/self/cgroup`.
struct Membership {
    controllers: String,
    path: PathBuf,
}

fn memberships(process: &str) -> Result<Vec<Membership>> {
    let file = format!("/proc/{process}/cgroup");
    let text = std::fs::read_to_string(&file).about(|| file)?;
    let parse = |line: &str| {
        let mut fields = line.splitn(3, ':');
        let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        Some(Membership { controllers: controllers.to_owned(), path: PathBuf::from(path) })
    };
    Ok(text.lines().filter_map(parse).collect())
}

/// The version 2 directory of a process.
pub(crate) fn unified_group_of(pid: i32) -> Result<Option<PathBuf>> {
    let own = memberships(&pid.to_string())?.into_iter().find(|m| m.controllers.is_empty());
    Ok(own.and_then(|m| m.path.to_str().map(|path| Path::new(ROOT).join(clean(path)))))
}

/// A path that cannot climb: `..` and `.` are gone, as is a leading slash.
fn clean(path: &str) -> PathBuf {
    let mut out = PathBuf::new();
    for part in Path::new(path).components() {
        match part {
            Component::Normal(name) => out.push(name),
            Component::ParentDir => {
                out.pop();
            }
            _ => {}
        }
    }
    out
}

/// Where the groups of container `id` go.
pub(crate) fn plan(cgroups_path: &str, id: &str, driver: CgroupDriver) -> Result<CgroupPaths> {
    if driver == CgroupDriver::Disabled {
        return Ok(CgroupPaths::default());
    }
    if driver == CgroupDriver::Systemd {
        let scope = crate::systemd::Scope::parse(cgroups_path, id)?;
        let inside = crate::systemd::path_of(&scope)?;
        let mut paths = place(&inside, true)?;
        paths.scope = Some(scope.unit());
        return Ok(paths);
    }
    let (inside, absolute) = match cgroups_path {
        "" => (PathBuf::from(id), false),
        path => (clean(path), path.starts_with('/')),
    };
    if inside.as_os_str().is_empty() {
        return Err(Error::invalid(format!("cgroupsPath {cgroups_path:?} names the root")));
    }
    place(&inside, absolute)
}

fn place(inside: &Path, absolute: bool) -> Result<CgroupPaths> {
    if is_unified() {
        let mut dir = PathBuf::from(ROOT);
        if !absolute {
            // The own group has processes, so controllers cannot be passed on in it: beside it, then.
            let own = memberships("self")?.into_iter().find(|m| m.controllers.is_empty()).map(|m| m.path);
            if let Some(parent) = own.as_deref().and_then(Path::parent) {
                dir.push(parent.strip_prefix("/").unwrap_or(parent));
            }
        }
        return Ok(CgroupPaths { v2: Some(dir.join(inside)), ..CgroupPaths::default() });
    }
    let mut v1 = Vec::with_capacity(12);
    for member in memberships("self")?.into_iter().filter(|m| !m.controllers.is_empty()) {
        let Some(mut dir) = mount_of(&member.controllers) else { continue };
        if !absolute {
            dir.push(member.path.strip_prefix("/").unwrap_or(&member.path));
        }
        v1.push(V1Dir { controllers: member.controllers, path: dir.join(inside) });
    }
    Ok(CgroupPaths { v1, ..CgroupPaths::default() })
}

/// The mount point of a version 1 hierarchy: by custom `/sys/fs/cgroup/CONTROLLERS`, else as the mount table has it.
fn mount_of(controllers: &str) -> Option<PathBuf> {
    let name = controllers.strip_prefix("name=").unwrap_or(controllers);
    let custom = Path::new(ROOT).join(name);
    if rustix::fs::statfs(&custom).is_ok_and(|s| s.f_type == CGROUP_SUPER_MAGIC) {
        return Some(custom);
    }
    let table = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    table.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let mut right = right.split(' ');
        let (kind, options) = (right.next()?, right.nth(1)?);
        let wanted = controllers.split(',').all(|c| options.split(',').any(|o| o == c));
        (kind == "cgroup" && wanted).then(|| left.split(' ').nth(4).map(PathBuf::from))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_cannot_climb_out() {
        assert_eq!(clean("/a/../../b"), Path::new("b"));
        assert!(plan("/..", "x", CgroupDriver::Cgroupfs).is_err());
    }

    #[test]
    fn a_plan_has_a_place_in_every_hierarchy() {
        let paths = plan("/fluyt-test/x", "x", CgroupDriver::Cgroupfs).expect("plan");
        assert!(paths.v2.is_some() || !paths.v1.is_empty());
        assert!(paths.v1.iter().all(|d| d.path.ends_with("fluyt-test/x")));
    }
}
