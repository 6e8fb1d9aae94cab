//! Control groups, version 1 (one directory in each hierarchy) and version 2 (one directory).
//!
//! [`Cgroup`] is the handle: made by the launch, reopened by anybody from its serialisable [`CgroupPaths`]. What the files
//! of the two versions are called and how limits translate is in `v1` and `v2`; where the directories go is in `host`.

mod devices;
mod events;
mod files;
mod host;
pub(crate) mod mount;
mod pressure;
mod stats;
mod v1;
mod v2;

pub use events::OomWatch;
pub use host::is_unified;
pub use pressure::{Pressure, PressureLine};
pub use stats::{BlkioEntry, CgroupStats, CpuStats, HugetlbStats, MemoryStats, PidsStats};

pub(crate) use v2::weight_of_shares;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fluyt_model::error::{Error, IoContext, Result};
use serde::{Deserialize, Serialize};

use crate::spec::Resources;

/// Who makes the directories.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CgroupDriver {
    /// This runtime, by mkdir.
    #[default]
    Cgroupfs,
    /// systemd, as a transient scope.
    Systemd,
    /// Nobody: the container stays in the groups of the caller and has no limits.
    Disabled,
}

/// One directory of a version 1 hierarchy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct V1Dir {
    /// The controllers mounted together there, as the kernel lists them: `memory`, `cpu,cpuacct`, `name=systemd`.
    pub controllers: String,
    /// The directory.
    pub path: PathBuf,
}

/// Where a container's control groups are; enough to reopen them from another process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupPaths {
    /// The version 2 directory, on hosts that use version 2 for controllers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub v2: Option<PathBuf>,
    /// The version 1 directories, on all other hosts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub v1: Vec<V1Dir>,
    /// The systemd scope, with the systemd driver.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
}

impl CgroupPaths {
    /// The directory of a version 1 controller.
    #[must_use]
    pub fn controller(&self, name: &str) -> Option<&Path> {
        self.v1.iter().find(|d| d.controllers.split(',').any(|c| c == name)).map(|d| d.path.as_path())
    }

    /// The directory that lists the container's processes best.
    fn main(&self) -> Option<&Path> {
        self.v2
            .as_deref()
            .or_else(|| self.controller("pids"))
            .or_else(|| self.controller("devices"))
            .or_else(|| self.controller("memory"))
            .or_else(|| self.v1.first().map(|d| d.path.as_path()))
    }
}

/// A container's control groups.
#[derive(Clone, Debug, Default)]
pub struct Cgroup {
    paths: CgroupPaths,
}

/// `pids.max` for a limit of the specification: negative is none, and no group of none at all could hold a container.
fn pids_value(limit: i64) -> String {
    if limit < 0 { "max".to_owned() } else { limit.max(1).to_string() }
}

fn open_directory(dir: &Path) -> Result<OwnedFd> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(dir, flags, Mode::empty()).about(|| dir.display().to_string())
}

fn open_tasks_file(dir: &Path) -> Result<OwnedFd> {
    use rustix::fs::{Mode, OFlags};
    let path = dir.join("tasks");
    rustix::fs::open(&path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
        .about(|| path.display().to_string())
}

/// Moves the calling, single-threaded process into the version 1 groups.
pub(crate) fn attach_self(paths: &CgroupPaths) -> Result<()> {
    for dir in &paths.v1 {
        enter(&open_tasks_file(&dir.path)?)?;
    }
    Ok(())
}

/// Moves the calling, single-threaded process into the group of an opened `tasks` file.
pub(crate) fn enter(tasks: &OwnedFd) -> Result<()> {
    rustix::io::write(tasks, b"0").about(|| "joining a cgroup").map(drop)
}

impl Cgroup {
    /// Reopens existing groups. Nothing is checked: a group that is gone shows when it is used.
    #[must_use]
    pub fn open(paths: &CgroupPaths) -> Self {
        Self { paths: paths.clone() }
    }

    /// Where they are.
    #[must_use]
    pub fn paths(&self) -> &CgroupPaths {
        &self.paths
    }

    /// The group with the path `cgroups_path`, as in a configuration, in every hierarchy; it need not exist.
    ///
    /// # Errors
    /// The host has no cgroups.
    pub fn at(cgroups_path: &str) -> Result<Self> {
        Self::plan(cgroups_path, "", CgroupDriver::Cgroupfs)
    }

    /// Finds the places for a container without making them.
    pub(crate) fn plan(cgroups_path: &str, id: &str, driver: CgroupDriver) -> Result<Self> {
        host::plan(cgroups_path, id, driver).map(|paths| Self { paths })
    }

    /// Makes the directories; `Conflict` if they were there and are in use. With the systemd driver this needs `pid`, which is moved there by systemd.
    pub(crate) fn create(&self, resources: Option<&Resources>) -> Result<()> {
        let present = match &self.paths.v2 {
            Some(dir) => v2::create(dir, resources)?,
            None => v1::create(&self.paths.v1)?,
        };
        // systemd has moved the process there by now.
        if present && self.paths.scope.is_none() { self.vacant() } else { Ok(()) }
    }

    /// Groups that were there before must be nobody's: a container would share its limits with strangers, and its end
    /// would be theirs.
    fn vacant(&self) -> Result<()> {
        let found = self.pids().map_or(0, |pids| pids.len());
        let name = self.paths.main().unwrap_or(Path::new("")).display().to_string();
        if found > 0 {
            let text = format!("container's cgroup is not empty: {found} process(es) found in {name}");
            return Err(Error::conflict(text));
        }
        if self.is_frozen().unwrap_or(false) {
            return Err(Error::conflict(format!("container's cgroup unexpectedly frozen: {name}")));
        }
        Ok(())
    }

    /// A descriptor for `CLONE_INTO_CGROUP`, on version 2.
    pub(crate) fn birth_place(&self) -> Result<Option<OwnedFd>> {
        self.paths.v2.as_deref().map(open_directory).transpose()
    }

    /// The same for the group below this one that `pid` is in, if it is in one.
    ///
    /// A container that manages groups of its own moves its processes out of the group that it was started in.
    pub(crate) fn birth_place_beside(&self, pid: i32) -> Result<Option<OwnedFd>> {
        let Some(dir) = &self.paths.v2 else { return Ok(None) };
        let theirs = host::unified_group_of(pid)?.filter(|place| place != dir && place.starts_with(dir));
        theirs.as_deref().map(open_directory).transpose()
    }

    /// Makes groups for other groups to be in, with limits; those that are there already get the limits too.
    ///
    /// # Errors
    /// A directory cannot be made, a limit is refused.
    pub fn make(&self, resources: &Resources) -> Result<()> {
        match &self.paths.v2 {
            Some(dir) => v2::create(dir, Some(resources))?,
            None => v1::create(&self.paths.v1)?,
        };
        self.update(resources)
    }

    /// Moves a process into the groups.
    ///
    /// # Errors
    /// `NotFound` if a group or the process is gone, `PermissionDenied`.
    pub fn attach(&self, pid: i32) -> Result<()> {
        for dir in self.directories() {
            files::write(&dir.join("cgroup.procs"), &pid.to_string())?;
        }
        Ok(())
    }

    /// Whether a single-threaded process can move itself in cheaply ([`attach_self`]).
    ///
    /// A write to `cgroup.procs` takes a lock for which all forks of the machine stand still, and waits for a grace period
    /// of RCU when the machine was quiet: milliseconds. A task that moves itself through version 1's `tasks` needs no lock.
    pub(crate) fn has_tasks_files(&self) -> bool {
        self.paths.v2.is_none() && self.paths.scope.is_none()
    }

    /// The opened `tasks` files, for a process that will not see their paths.
    pub(crate) fn open_tasks(&self) -> Result<Vec<OwnedFd>> {
        if !self.has_tasks_files() {
            return Ok(Vec::new());
        }
        self.paths.v1.iter().map(|d| open_tasks_file(&d.path)).collect()
    }

    /// Sets the limits of a new group, device rules with them.
    pub(crate) fn apply(&self, resources: &Resources) -> Result<()> {
        if self.paths == CgroupPaths::default() {
            // Made without groups.
            return Ok(());
        }
        match &self.paths.v2 {
            Some(dir) => v2::apply(dir, resources, true),
            None => v1::apply(&self.paths, resources, true),
        }
    }

    /// Changes limits; what `resources` does not name stays.
    ///
    /// # Errors
    /// Names the file and what the kernel says about the value.
    pub fn update(&self, resources: &Resources) -> Result<()> {
        if let Some(scope) = &self.paths.scope {
            // First, since systemd writes its own view of the limits into the files.
            crate::systemd::update_scope(scope, resources, self.paths.v2.is_some())?;
        }
        match &self.paths.v2 {
            Some(dir) => v2::apply(dir, resources, false),
            None => v1::apply(&self.paths, resources, false),
        }
    }

    /// What the container uses now. Controllers that the host lacks stay at their defaults.
    ///
    /// # Errors
    /// `NotFound` if the groups are gone.
    pub fn stats(&self) -> Result<CgroupStats> {
        stats::read(&self.paths)
    }

    /// How long tasks waited for a resource (`cpu`, `memory` or `io`): version 2, and kernels that count it.
    #[must_use]
    pub fn pressure(&self, resource: &str) -> Option<Pressure> {
        let file = self.paths.v2.as_ref()?.join(format!("{resource}.pressure"));
        std::fs::read_to_string(file).ok().map(|text| Pressure::parse(&text))
    }

    /// All processes in the groups and below, in the caller's pid namespace.
    ///
    /// # Errors
    /// `NotFound` if the groups are gone.
    pub fn pids(&self) -> Result<Vec<i32>> {
        let dir = self.paths.main().ok_or_else(|| Error::not_found("the container has no cgroup"))?;
        let mut pids = Vec::new();
        files::pids_below(dir, &mut pids, 0)?;
        Ok(pids)
    }

    /// Stops all processes and waits until they stand still, at most ten seconds.
    ///
    /// # Errors
    /// `Timeout`, `NotFound`, `Unsupported` without the freezer controller.
    pub fn freeze(&self) -> Result<()> {
        self.set_frozen(true)
    }

    /// Lets them go on.
    ///
    /// # Errors
    /// As [`Cgroup::freeze`].
    pub fn thaw(&self) -> Result<()> {
        self.set_frozen(false)
    }

    fn set_frozen(&self, frozen: bool) -> Result<()> {
        match &self.paths.v2 {
            Some(dir) => v2::set_frozen(dir, frozen),
            None => {
                let dir = self.paths.controller("freezer");
                v1::set_frozen(
                    dir.ok_or_else(|| Error::unsupported("this host has no freezer cgroup"))?,
                    frozen,
                )
            }
        }
    }

    /// Whether the processes are frozen.
    ///
    /// # Errors
    /// `NotFound` if the groups are gone.
    pub fn is_frozen(&self) -> Result<bool> {
        match &self.paths.v2 {
            Some(dir) => Ok(files::read(&dir.join("cgroup.freeze"))?.trim() == "1"),
            None => match self.paths.controller("freezer") {
                Some(dir) => Ok(files::read(&dir.join("freezer.state"))?.trim() != "THAWED"),
                None => Ok(false),
            },
        }
    }

    /// Sends a signal to every process in the groups. Processes that appear meanwhile are found by repeating, bounded.
    ///
    /// # Errors
    /// `PermissionDenied`; groups that are gone are no error.
    pub fn kill(&self, signal: i32) -> Result<()> {
        const SIGKILL: i32 = 9;
        if let (Some(dir), SIGKILL) = (&self.paths.v2, signal)
            && files::write(&dir.join("cgroup.kill"), "1").is_ok()
        {
            return Ok(());
        }
        let signal = rustix::process::Signal::from_named_raw(signal)
            .ok_or_else(|| Error::invalid(format!("signal {signal}")))?;
        let rounds = if signal == rustix::process::Signal::KILL { 10 } else { 1 };
        for _ in 0..rounds {
            let pids = match self.pids() {
                Ok(pids) => pids,
                Err(e) if e.kind() == fluyt_model::error::Kind::NotFound => return Ok(()),
                Err(e) => return Err(e),
            };
            if pids.is_empty() {
                return Ok(());
            }
            for pid in pids.iter().filter_map(|p| rustix::process::Pid::from_raw(*p)) {
                match rustix::process::kill_process(pid, signal) {
                    Ok(()) | Err(rustix::io::Errno::SRCH) => {}
                    Err(e) => return Err(Error::io(format!("signal to process {pid}"), e.into())),
                }
            }
            if rounds > 1 && self.is_frozen().unwrap_or(false) {
                // A frozen process on version 1 cannot even die.
                self.thaw()?;
            }
        }
        Ok(())
    }

    /// Removes the groups with everything below them. Waits for dying processes, at most two seconds.
    ///
    /// # Errors
    /// `Conflict` (EBUSY) if processes stay; every directory is tried before the first error is reported.
    pub fn delete(&self) -> Result<()> {
        let mut failure = None;
        for dir in self.directories() {
            if let Err(e) = files::remove(dir, Duration::from_secs(2)) {
                failure.get_or_insert(e);
            }
        }
        if let Some(scope) = &self.paths.scope {
            // systemd drops an empty scope by itself; a failed one would keep its name.
            crate::systemd::stop_scope(scope);
        }
        failure.map_or(Ok(()), Err)
    }

    /// Whether any process is left in the groups.
    #[must_use]
    pub fn is_populated(&self) -> bool {
        self.pids().is_ok_and(|p| !p.is_empty())
    }

    /// A watch on out-of-memory kills.
    ///
    /// # Errors
    /// `Unsupported` without the memory controller.
    pub fn oom_watch(&self) -> Result<OomWatch> {
        OomWatch::open(&self.paths)
    }

    /// How many processes the kernel has killed here for lack of memory.
    ///
    /// # Errors
    /// `NotFound` if the group is gone, `Unsupported` without the memory controller.
    pub fn oom_kills(&self) -> Result<u64> {
        events::oom_kills(&self.paths)
    }

    fn directories(&self) -> impl Iterator<Item = &Path> {
        self.paths.v2.as_deref().into_iter().chain(self.paths.v1.iter().map(|d| d.path.as_path()))
    }
}
