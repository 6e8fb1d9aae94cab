//! Launching a container: the parent's side. See [`crate::sync`] for the conversation with the child.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use fluyt_model::error::{Error, IoContext, Kind, Result};
use fluyt_sys::clone;
use fluyt_sys::exe::Held;
use rustix::fs::{Mode, OFlags};

use crate::cgroup::{Cgroup, CgroupDriver};
use crate::init::{self, Init, Join};
use crate::seccomp::Filter;
use crate::spec::{IdMapping, Namespace, Resources, Seccomp, Spec, State};
use crate::sync::{self, Order, ParentEnd, Report};
use crate::{hooks, procfs};

/// Where the container's root file system comes from.
#[derive(Clone, Debug)]
pub enum Rootfs {
    /// A directory.
    Dir(PathBuf),
    /// An overlay, mounted only inside the container's mount namespace.
    Overlay {
        /// Read-only layers, the top one first.
        lower: Vec<PathBuf>,
        /// The writable layer; empty: none, the overlay is read-only.
        upper: PathBuf,
        /// overlayfs' work directory, on the file system of `upper`.
        work: PathBuf,
        /// More options: `volatile`, `userxattr`, `index=off`.
        options: Vec<String>,
        /// An existing empty directory that serves as mount point.
        target: PathBuf,
        /// All layers lie below this directory, and their ids are those inside the container's user namespace, new or
        /// joined: the layers are seen through its mappings. Needs Linux 5.19 and a file system with mapped mounts.
        mapped: Option<PathBuf>,
    },
}

/// The container's standard streams.
#[derive(Debug)]
pub enum Io {
    /// Those of the caller.
    Inherit,
    /// These.
    Fds {
        /// Standard input.
        stdin: OwnedFd,
        /// Standard output.
        stdout: OwnedFd,
        /// Standard error.
        stderr: OwnedFd,
    },
    /// A new terminal; its master comes back in [`Running::console`]. Zero rows: the size in `process.consoleSize`.
    Terminal {
        /// Rows.
        rows: u16,
        /// Columns.
        cols: u16,
        /// Whether a carriage return goes before each newline that comes out of it, as terminals do by default. Whoever
        /// shows it on a terminal of its own, or in a file, does without.
        returns: bool,
    },
}

/// What to launch.
#[derive(Debug)]
pub struct Launch {
    /// The container's id, for hooks, the default cgroup path and the keyring.
    pub id: String,
    /// The configuration. `root.path` is not used, `rootfs` is.
    pub spec: Spec,
    /// The bundle's absolute path: relative bind sources start here, hooks run here.
    pub bundle: PathBuf,
    /// The root file system.
    pub rootfs: Rootfs,
    /// The standard streams.
    pub io: Io,
    /// Who makes the cgroup.
    pub cgroup_driver: CgroupDriver,
    /// Descriptors 3 to 2 + this number stay open in the container.
    pub preserve_fds: u32,
    /// Start the program with all signals blocked: an init that waits for them loses none that comes before it is ready.
    pub block_signals: bool,
    /// Move the root instead of `pivot_root`, for hosts that run from an initramfs.
    pub no_pivot: bool,
    /// Stay in the caller's session keyring.
    pub no_new_keyring: bool,
    /// The caller's seal, given up as soon as that delays nobody.
    pub seal: Held,
    /// Do not execute when told to proceed, but wait for a connection on this listening `SOCK_SEQPACKET` socket.
    pub park: Option<OwnedFd>,
}

impl Launch {
    /// A launch with the defaults: streams inherited, cgroupfs driver.
    #[must_use]
    pub fn new(id: impl Into<String>, spec: Spec, bundle: impl Into<PathBuf>, rootfs: Rootfs) -> Self {
        Self {
            id: id.into(),
            spec,
            bundle: bundle.into(),
            rootfs,
            io: Io::Inherit,
            cgroup_driver: CgroupDriver::Cgroupfs,
            preserve_fds: 0,
            block_signals: false,
            no_pivot: false,
            no_new_keyring: false,
            park: None,
            seal: Held::default(),
        }
    }
}

/// A container whose init stage lives in its namespaces and cgroups and waits to be told to go on.
///
/// Dropped without [`Starting::proceed`], the child is killed and the cgroups are removed.
#[derive(Debug)]
pub struct Starting {
    child: Option<clone::Child>,
    sync: ParentEnd,
    cgroup: Cgroup,
    spec: Spec,
    id: String,
    bundle: PathBuf,
    netns: Option<PathBuf>,
    seal: Held,
}

/// A container whose program runs (or, parked, is about to).
#[derive(Debug)]
pub struct Running {
    /// Its init process in the caller's pid namespace.
    pub pid: i32,
    /// The same as a descriptor; it stays valid when the pid is reused.
    pub pidfd: OwnedFd,
    /// Field 22 of `/proc/PID/stat`, in clock ticks since boot.
    pub start_time: u64,
    /// The master of its terminal.
    pub console: Option<OwnedFd>,
    /// Its control groups.
    pub cgroup: Cgroup,
    /// What could not be done and does not matter enough to fail.
    pub warnings: Vec<String>,
}

/// The `CLONE_NEW*` bit of a namespace type; unknown types are none.
pub(crate) fn namespace_flag(kind: &str) -> Option<u64> {
    Some(match kind {
        "pid" => clone::NEWPID,
        "network" => clone::NEWNET,
        "mount" => clone::NEWNS,
        "ipc" => clone::NEWIPC,
        "uts" => clone::NEWUTS,
        "user" => clone::NEWUSER,
        "cgroup" => clone::NEWCGROUP,
        "time" => clone::NEWTIME,
        _ => return None,
    })
}

struct Namespaces {
    new: u64,
    joins: Vec<Join>,
    netns: Option<PathBuf>,
}

fn namespaces(list: &[Namespace]) -> Result<Namespaces> {
    let mut out = Namespaces { new: 0, joins: Vec::new(), netns: None };
    for ns in list {
        let Some(kind) = namespace_flag(&ns.kind) else { continue };
        if out.new & kind != 0 || out.joins.iter().any(|j| j.kind == kind) {
            return Err(Error::invalid(format!("namespace {} is listed twice", ns.kind)));
        }
        if ns.path.as_os_str().is_empty() {
            out.new |= kind;
            continue;
        }
        let about = || format!("namespace {}", ns.path.display());
        let fd = rustix::fs::open(&ns.path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).about(about)?;
        if kind == clone::NEWNET {
            out.netns = Some(ns.path.clone());
        }
        out.joins.push(Join { kind, fd, path: ns.path.clone() });
    }
    Ok(out)
}

/// Clones the init stage straight into its namespaces and, while it mounts, makes its cgroups and sets their limits.
///
/// The caller must be single threaded; it is not changed in any way.
///
/// # Errors
/// Everything that is wrong with the configuration or that the kernel refuses so far; nothing is left behind.
pub fn launch(mut l: Launch) -> Result<Starting> {
    crate::validate::spec(&l.spec, &l.id)?;
    let rules = l.spec.take_rules();
    let linux = l.spec.linux();
    let ns = namespaces(&linux.namespaces)?;
    let cgroup = Cgroup::plan(&linux.cgroups_path, &l.id, l.cgroup_driver)?;
    let (parent_end, child_end) = sync::pair()?;
    let new_userns = ns.new & clone::NEWUSER != 0;
    let in_userns = new_userns || ns.joins.iter().any(|j| j.kind == clone::NEWUSER);
    let prepared = crate::prepare::mounts(&l, &ns.joins, in_userns)?;
    let seccomp = linux.seccomp.clone().map(|s| Seccomp { syscalls: rules, ..s });
    let state = StartState {
        spec: l.spec.clone(),
        id: l.id.clone(),
        bundle: l.bundle.clone(),
        netns: ns.netns.clone(),
        cgroup,
        seal: l.seal,
    };
    let plan = Plan::new(&ns, &l.spec, new_userns);
    let init = Init {
        id: l.id,
        spec: l.spec,
        bundle: l.bundle,
        rootfs: l.rootfs,
        io: l.io,
        new: ns.new & !clone::NEWCGROUP,
        joins: Vec::new(),
        in_userns,
        at_place: in_userns && plan.flags & clone::NEWNS != 0,
        await_maps: new_userns,
        attach_self: state.cgroup.has_tasks_files() && !in_userns,
        new_cgroupns: ns.new & clone::NEWCGROUP != 0,
        cgroup: state.cgroup.paths().clone(),
        filtered: seccomp.is_some(),
        prepared: prepared.mounts,
        time_offsets: plan.inner_offsets.clone(),
        prepared_root: prepared.root,
        no_pivot: l.no_pivot,
        no_new_keyring: l.no_new_keyring,
        preserve_fds: l.preserve_fds,
        block_signals: l.block_signals,
        park: l.park,
    };
    let starting = start(state, plan, ns.joins, init, ParentEnd(parent_end), child_end)?;
    // Only now: the child mounts meanwhile.
    if let Some(seccomp) = &seccomp {
        starting.sync.filter(&Filter::compile(seccomp)?);
    }
    Ok(starting)
}

struct StartState {
    spec: Spec,
    id: String,
    bundle: PathBuf,
    netns: Option<PathBuf>,
    cgroup: Cgroup,
    seal: Held,
}

/// Which namespace work is done where.
struct Plan {
    /// For `clone3`.
    flags: u64,
    /// Joins must be done before the clone, in a stepping stone.
    early_joins: bool,
    /// A new time namespace with these contents of `timens_offsets`.
    offsets: Option<String>,
    /// The same, to be made by the child in its new user namespace.
    inner_offsets: Option<String>,
}

impl Plan {
    fn new(ns: &Namespaces, spec: &Spec, new_userns: bool) -> Self {
        let mut flags = ns.new & !clone::NEWCGROUP;
        let lines: String = spec
            .linux()
            .time_offsets
            .iter()
            .map(|(c, o)| format!("{c} {} {}\n", o.secs, o.nanosecs))
            .collect();
        let offsets = (flags & clone::NEWTIME != 0 && !lines.is_empty()).then_some(lines);
        if offsets.is_some() {
            // Offsets can be set only before the first process is inside.
            flags &= !clone::NEWTIME;
        }
        // These change only children; and a new user namespace would take away the right to join the others.
        let early = |j: &Join| j.kind == clone::NEWPID || j.kind == clone::NEWUSER;
        let early_joins = new_userns || ns.joins.iter().any(early);
        let (offsets, inner_offsets) = if new_userns { (None, offsets) } else { (offsets, None) };
        Self { flags, early_joins, offsets, inner_offsets }
    }
}

/// Joins in the stepping stone; what needs the rights of the user namespace comes after it, what needs ours before.
fn join_early(joins: &[Join]) -> std::io::Result<()> {
    // A process that shares memory cannot join a time namespace; the child does that itself.
    let mut late: Vec<&Join> = Vec::new();
    for j in joins.iter().filter(|j| j.kind != clone::NEWTIME && j.kind != clone::NEWUSER) {
        if init::join(j).is_err() {
            late.push(j);
        }
    }
    for j in joins.iter().filter(|j| j.kind == clone::NEWUSER).chain(late) {
        init::join(j)?;
    }
    Ok(())
}

fn start(
    mut state: StartState,
    plan: Plan,
    joins: Vec<Join>,
    mut init: Init,
    parent_end: ParentEnd,
    child_end: OwnedFd,
) -> Result<Starting> {
    let resources = state.spec.linux().resources.clone().unwrap_or_default();
    let born_inside = state.cgroup.paths().v2.is_some() && state.cgroup.paths().scope.is_none();
    if born_inside {
        state.cgroup.create(Some(&resources)).inspect_err(|e| {
            if e.kind() != Kind::Conflict {
                let _ = state.cgroup.delete();
            }
        })?;
    }
    let birth_place = if born_inside { state.cgroup.birth_place()? } else { None };
    let (early, late): (Vec<Join>, Vec<Join>) = if plan.early_joins {
        // Version 2 lets nobody be born in a group beyond the border of the cgroup namespace that his parent is in: that one
        // is joined by the child, in its group.
        let after_birth =
            |j: &Join| j.kind == clone::NEWTIME || (j.kind == clone::NEWCGROUP && birth_place.is_some());
        joins.into_iter().partition(|j| !after_birth(j))
    } else {
        (Vec::new(), joins)
    };
    init.joins = late;
    // Its copy of this directory is the one way to its own root file system that is open to any user.
    let place = if init.at_place { Some(place_of(&init.rootfs)?) } else { None };
    let mut before = || {
        if let Some(place) = &place {
            rustix::process::fchdir(place)?;
        }
        join_early(&early)?;
        if let Some(text) = &plan.offsets {
            clone::unshare(clone::NEWTIME)?;
            std::fs::write("/proc/self/timens_offsets", text)?;
        }
        Ok(())
    };
    let mut ends = Some((parent_end, child_end));
    let mut seal = Some(std::mem::take(&mut state.seal));
    let mut child = || {
        drop(seal.take());
        let Some((parent_end, child_end)) = ends.take() else { return 1 };
        // Its own copy of the parent's end would hide the parent's death from it.
        drop(parent_end);
        init.main(child_end)
    };
    let options = clone::Options {
        flags: plan.flags,
        cgroup: birth_place.as_ref().map(AsFd::as_fd),
        before: (plan.early_joins || plan.offsets.is_some()).then_some(&mut before),
    };
    let spawned = clone::spawn(options, &mut child);
    let child = match spawned {
        Ok(child) => child,
        Err(e) => {
            let _ = state.cgroup.delete();
            return Err(Error::io("cloning the init stage into its namespaces", e));
        }
    };
    let attaches_itself = init.attach_self;
    let (sync, _) = ends.take().ok_or_else(|| Error::internal("the pair went to the child"))?;
    let mut starting = Starting {
        child: Some(child),
        sync,
        cgroup: state.cgroup,
        spec: state.spec,
        id: state.id,
        bundle: state.bundle,
        netns: state.netns,
        seal: seal.take().unwrap_or_default(),
    };
    if let Err(e) = starting.set_up(&resources, born_inside, attaches_itself) {
        return Err(starting.cause(e));
    }
    if init.in_userns
        && let Some(process) = &starting.spec.process
    {
        crate::streams::give(&init.io, starting.pid(), &process.user);
    }
    Ok(starting)
}

/// The directory that the root file system will cover.
fn place_of(rootfs: &Rootfs) -> Result<OwnedFd> {
    let (Rootfs::Dir(place) | Rootfs::Overlay { target: place, .. }) = rootfs;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(place, flags, Mode::empty()).about(|| format!("root file system {}", place.display()))
}

impl Starting {
    /// What the parent does while the child mounts.
    fn set_up(&mut self, resources: &Resources, born_inside: bool, attaches_itself: bool) -> Result<()> {
        let pid = self.pid();
        let linux = self.spec.linux();
        if !linux.net_devices.is_empty() {
            crate::netdev::move_all(&linux.net_devices, &self.netns()?)?;
        }
        if !linux.uid_mappings.is_empty() || !linux.gid_mappings.is_empty() {
            write_maps(pid, &linux.uid_mappings, &linux.gid_mappings)?;
            self.sync.order(Order::Mapped);
        }
        if self.cgroup.paths().scope.is_some() {
            crate::systemd::start_scope(self.cgroup.paths(), pid, resources)?;
            if self.cgroup.paths().v2.is_none() {
                self.cgroup.create(Some(resources))?;
                self.cgroup.attach(pid)?;
            }
        } else if !born_inside {
            self.cgroup.create(Some(resources)).inspect_err(|e| {
                if e.kind() == Kind::Conflict {
                    // Another container's groups: not ours to kill and to remove.
                    self.cgroup = Cgroup::default();
                }
            })?;
            if !attaches_itself {
                self.cgroup.attach(pid)?;
            }
        }
        self.cgroup.apply(resources)?;
        self.sync.order(Order::Attached);
        if let Some(score) = self.spec.process.as_ref().and_then(|p| p.oom_score_adj) {
            set_oom_score(pid, score)?;
        }
        if let Some(rdt) = &linux.intel_rdt {
            crate::rdt::apply(rdt, &self.id, pid)?;
        }
        Ok(())
    }

    /// The init process in the caller's pid namespace.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.child.as_ref().map_or(0, |c| c.pid)
    }

    /// The init process as a descriptor. Readable (`POLLIN`) when it dies.
    ///
    /// # Panics
    /// Never: the child is there until `proceed` takes it.
    #[must_use]
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.child
            .as_ref()
            .map(|c| c.pidfd.as_fd())
            .expect("the child is taken by proceed only, which consumes self")
    }

    /// The container's network namespace, open.
    ///
    /// # Errors
    /// What the child reported, if it failed meanwhile.
    pub fn netns(&self) -> Result<OwnedFd> {
        let path =
            self.netns.clone().unwrap_or_else(|| PathBuf::from(format!("/proc/{}/ns/net", self.pid())));
        rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .about(|| path.display().to_string())
            .map_err(|e| self.cause(e))
    }

    /// Why the parent's part failed: `error`, or what a child that has ended said before it did.
    fn cause(&self, error: Error) -> Error {
        // A process loses its namespaces and groups a little before it counts as ended.
        let patience = if error.kind() == Kind::NotFound { 200 } else { 0 };
        if !clone::wait_exit(self.pidfd(), patience).unwrap_or(false) {
            return error;
        }
        loop {
            match self.sync.next() {
                Ok(report @ (Report::Failed(_) | Report::Eof)) => return self.unexpected(report),
                Ok(_) => {}
                Err(_) => return error,
            }
        }
    }

    /// The container's control groups.
    #[must_use]
    pub fn cgroup(&self) -> &Cgroup {
        &self.cgroup
    }

    fn state(&self, status: &str) -> State {
        State {
            oci_version: self.spec.oci_version.clone(),
            id: self.id.clone(),
            status: status.to_owned(),
            pid: self.pid(),
            bundle: self.bundle.clone(),
            annotations: self.spec.annotations.clone(),
        }
    }

    /// Runs the runtime hooks, lets the child go and waits until the program runs (or, parked, waits for its start).
    ///
    /// poststart hooks are the caller's business ([`crate::hooks::run_all`]); it knows when the container counts as started.
    ///
    /// # Errors
    /// `Kind::CommandNotFound` and `Kind::CommandNotExecutable` for a program that cannot be run, whatever else the init
    /// stage or a hook reports; the container is gone then, its cgroups too.
    pub fn proceed(mut self) -> Result<Running> {
        let mut console = None;
        let mut warnings = Vec::new();
        if init::wants_hooks_point(&self.spec) {
            match self.sync.next()? {
                Report::HooksPoint => {
                    if let Some(h) = &self.spec.hooks {
                        // prestart is older than the status `creating`: specification 1.0 ran it for a created container,
                        // and what still uses it (as crun tells it, and its validation suite checks) knows that word only.
                        hooks::run("prestart", &h.prestart, &self.state("created"))?;
                        hooks::run("createRuntime", &h.create_runtime, &self.state("creating"))?;
                    }
                    self.sync.order(Order::HooksDone);
                }
                other => return Err(self.unexpected(other)),
            }
        }
        self.raise_rlimits()?;
        self.sync.order(Order::Go);
        // The child has closed its own long ago: it is this process that waits for the kernel, and it has to wait anyway.
        self.seal.unmount();
        let mut execing = false;
        loop {
            match self.sync.next()? {
                Report::Terminal(master) => console = Some(master),
                Report::Notify(listener) => self.pass_listener(&listener)?,
                Report::Execing => execing = true,
                Report::Eof if execing => break,
                Report::Parked => break,
                Report::Warning(text) => warnings.push(text),
                other => return Err(self.unexpected(other)),
            }
        }
        std::mem::take(&mut self.seal).release();
        let child = self.child.take().ok_or_else(|| Error::internal("no child"))?;
        // It may have run to its end by now; it is not reaped, so its stat is still there.
        let start_time = procfs::start_time(child.pid).unwrap_or(0);
        Ok(Running {
            pid: child.pid,
            pidfd: child.pidfd,
            start_time,
            console,
            cgroup: std::mem::take(&mut self.cgroup),
            warnings,
        })
    }

    /// The listener of the filter goes to the socket that the configuration names, with the container's state.
    fn pass_listener(&self, listener: &OwnedFd) -> Result<()> {
        let Some(seccomp) = &self.spec.linux().seccomp else { return Ok(()) };
        crate::seccomp::notify::pass(seccomp, listener, &self.state("creating"), self.pid())
    }

    fn raise_rlimits(&self) -> Result<()> {
        self.spec.process.as_ref().map_or(Ok(()), |p| crate::rlimit::raise(self.pid(), &p.rlimits))
    }

    fn unexpected(&self, report: Report) -> Error {
        match report {
            Report::Failed(e) => e,
            Report::Eof => self.death(),
            other => Error::internal(format!("the init stage said {other:?} out of turn")),
        }
    }

    /// Why the init stage is gone without a word: most often it was killed.
    fn death(&self) -> Error {
        let oom = self.cgroup.oom_kills().unwrap_or(0) > 0;
        let error = Error::internal("the init stage of the container died before it could run its program");
        if oom {
            error.with_kind(Kind::Exhausted).with_hint("the memory limit is too low to start the container")
        } else {
            error
        }
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        if let Some(child) = self.child.take() {
            let _ = rustix::process::pidfd_send_signal(&child.pidfd, rustix::process::Signal::KILL);
            let _ = clone::reap(child.pid, true);
            let _ = self.cgroup.kill(9);
            let _ = self.cgroup.delete();
        }
    }
}

/// Sets `oom_score_adj` of a process.
pub(crate) fn set_oom_score(pid: i32, score: i32) -> Result<()> {
    let path = format!("/proc/{pid}/oom_score_adj");
    std::fs::write(&path, score.to_string()).about(|| format!("setting oomScoreAdj {score}"))
}

/// Writes the id mappings of a new user namespace.
pub(crate) fn write_maps(pid: i32, uids: &[IdMapping], gids: &[IdMapping]) -> Result<()> {
    let text = |list: &[IdMapping]| -> String {
        list.iter().map(|m| format!("{} {} {}\n", m.container_id, m.host_id, m.size)).collect()
    };
    let write = |name: &str, data: String| {
        let path = format!("/proc/{pid}/{name}");
        std::fs::write(&path, &data).about(|| format!("writing {data:?} to {path}"))
    };
    if !gids.is_empty() && rustix::process::geteuid() != rustix::fs::Uid::ROOT {
        // An unprivileged writer of a group map must give up setgroups first.
        write("setgroups", "deny".to_owned())?;
    }
    if !uids.is_empty() {
        write("uid_map", text(uids))?;
    }
    if gids.is_empty() { Ok(()) } else { write("gid_map", text(gids)) }
}

/// The absolute path of a bundle's root file system.
#[must_use]
pub fn rootfs_of(bundle: &Path, spec: &Spec) -> PathBuf {
    bundle.join(spec.root.as_ref().map_or(Path::new("rootfs"), |r| r.path.as_path()))
}

/// Waits, as the one who connected to the start socket of a parked container, until its program runs.
///
/// `state` is the container's, for the agent that its filter may name.
///
/// # Errors
/// What the container's startContainer hooks or its exec report.
pub fn await_start(socket: &OwnedFd, spec: &Spec, state: &State) -> Result<()> {
    let end = ParentEnd(socket.try_clone().about(|| "start socket")?);
    let mut execing = false;
    loop {
        match end.next()? {
            Report::Execing => execing = true,
            Report::Warning(_) => {}
            Report::Eof if execing => return Ok(()),
            Report::Failed(e) => return Err(e),
            Report::Eof => return Err(Error::internal("the container died before it could run its program")),
            Report::Notify(listener) => {
                if let Some(seccomp) = &spec.linux().seccomp {
                    crate::seccomp::notify::pass(seccomp, &listener, state, state.pid)?;
                }
            }
            other => return Err(Error::internal(format!("the container said {other:?} out of turn"))),
        }
    }
}
