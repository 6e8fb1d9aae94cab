//! The init stage: the child from its birth in new namespaces to the exec of the container's program.
//!
//! It runs in a copy of the launching process, so everything that it needs is simply there. It never returns: it ends in
//! exec, or it reports the error and exits. The order of the steps is the order of the functions in [`Init::run`].

pub(crate) mod console;
pub(crate) mod copyup;
pub(crate) mod devices;
pub(crate) mod finish;
pub(crate) mod identity;
pub(crate) mod mounts;
pub(crate) mod options;
pub(crate) mod program;
pub(crate) mod root;
pub(crate) mod rootfs;

use std::convert::Infallible;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use fluyt_model::error::{Error, IoContext, Kind, Result};
use fluyt_sys::signals::Signals;
use fluyt_sys::{clone, task};
use rustix::fs::{Gid, Mode, OFlags, Uid};
use rustix::thread::LinkNameSpaceType;

use crate::cgroup::CgroupPaths;
use crate::procfs::Proc;
use crate::seccomp::Filter;

use crate::spec::{Hooks, Process, Spec, State};
use crate::sync::{ChildEnd, Order};
use crate::{Io, Rootfs, hooks};
use mounts::Mounter;

/// A namespace to join in the child.
#[derive(Debug)]
pub(crate) struct Join {
    /// The `CLONE_NEW*` bit.
    pub(crate) kind: u64,
    pub(crate) fd: OwnedFd,
    pub(crate) path: PathBuf,
}

/// Joins one namespace.
pub(crate) fn join(j: &Join) -> std::io::Result<()> {
    let kind = match j.kind {
        clone::NEWCGROUP => LinkNameSpaceType::ControlGroup,
        clone::NEWIPC => LinkNameSpaceType::InterProcessCommunication,
        clone::NEWNET => LinkNameSpaceType::Network,
        clone::NEWPID => LinkNameSpaceType::ProcessID,
        clone::NEWTIME => LinkNameSpaceType::Time,
        clone::NEWUSER => LinkNameSpaceType::User,
        clone::NEWUTS => LinkNameSpaceType::HostNameAndNISDomainName,
        _ => LinkNameSpaceType::Mount,
    };
    Ok(rustix::thread::move_into_link_name_space(j.fd.as_fd(), Some(kind))?)
}

/// Everything that the parent prepared.
pub(crate) struct Init {
    pub(crate) id: String,
    pub(crate) spec: Spec,
    pub(crate) bundle: PathBuf,
    pub(crate) rootfs: Rootfs,
    pub(crate) io: Io,
    /// `CLONE_NEW*` of the namespaces that are new.
    pub(crate) new: u64,
    /// Namespaces to join from the child itself.
    pub(crate) joins: Vec<Join>,
    /// In a user namespace that is not the caller's.
    pub(crate) in_userns: bool,
    /// The working directory is the root file system's place: its path may lead through directories that are closed to
    /// the root of the user namespace.
    pub(crate) at_place: bool,
    /// Must wait for its id mappings.
    pub(crate) await_maps: bool,
    /// Must move itself into its cgroups, once they are there.
    pub(crate) attach_self: bool,
    /// Enter a new cgroup namespace once attached.
    pub(crate) new_cgroupns: bool,
    pub(crate) cgroup: CgroupPaths,
    /// The parent sends a system call filter.
    pub(crate) filtered: bool,
    /// Mounts that only the parent could open, by index of `spec.mounts`.
    pub(crate) prepared: Vec<Option<crate::prepare::Source>>,
    /// A new time namespace with these contents of `timens_offsets`, to be made in the new user namespace.
    pub(crate) time_offsets: Option<String>,
    pub(crate) prepared_root: Option<OwnedFd>,
    pub(crate) no_pivot: bool,
    pub(crate) no_new_keyring: bool,
    pub(crate) preserve_fds: u32,
    pub(crate) block_signals: bool,
    /// Listening; the container waits there for its start.
    pub(crate) park: Option<OwnedFd>,
}

impl Init {
    /// Runs the stage to its end; the exit status is that of a failure.
    pub(crate) fn main(&mut self, sync: OwnedFd) -> i32 {
        let mut sync = ChildEnd::new(sync, self.filtered);
        let Err(e) = self.run(&mut sync);
        sync.failed(&e);
        match e.kind() {
            Kind::CommandNotFound => 127,
            Kind::CommandNotExecutable => 126,
            _ => 1,
        }
    }

    fn run(&mut self, sync: &mut ChildEnd) -> Result<Infallible> {
        let process =
            self.spec.process.clone().ok_or_else(|| Error::invalid("the configuration has no process"))?;
        self.namespaces(sync)?;
        let proc = Proc::open()?;
        let root = if self.has_mount_namespace() { Some(self.file_system(sync)?) } else { None };
        self.attach(sync)?;
        if self.new_cgroupns {
            self.enter_cgroup_namespace(sync)?;
        }
        self.container_hooks(sync)?;
        if let Some((root, finish)) = &root {
            let linux = self.spec.linux();
            finish::read_only(root, &linux.readonly_paths)?;
            finish::mask(root, &linux.masked_paths, &finish.null, &linux.mount_label)?;
        }
        self.enter_root(root.as_ref().map(|(r, _)| r))?;
        self.terminal(&process, root.as_ref().map(|(r, _)| r), sync)?;
        self.restrict(&proc, root)?;
        if !self.no_new_keyring {
            finish::keyring(&self.id)?;
        }
        finish::scheduling(&process)?;
        if let Some(policy) = &self.spec.linux().memory_policy {
            crate::numa::set(policy)?;
        }
        if let Some(p) = &self.spec.linux().personality {
            finish::personality(p)?;
        }
        finish::labels(&proc, &process)?;
        drop(proc);
        self.become_process(&process, sync)
    }

    fn has_mount_namespace(&self) -> bool {
        self.new & clone::NEWNS != 0 || self.joins.iter().any(|j| j.kind == clone::NEWNS)
    }

    fn namespaces(&mut self, sync: &mut ChildEnd) -> Result<()> {
        for j in &self.joins {
            join(j).about(|| format!("joining namespace {}", j.path.display()))?;
        }
        if self.await_maps {
            sync.await_order(Order::Mapped)?;
        }
        if self.in_userns {
            become_root()?;
        }
        if let Some(offsets) = self.time_offsets.take() {
            enter_time_namespace(&offsets)?;
        }
        rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
            .about(|| "making the init stage non-dumpable")?;
        rustix::process::setsid().about(|| "setsid")?;
        rustix::process::umask(Mode::empty());
        if self.new & clone::NEWNET != 0 {
            fluyt_sys::netdev::loopback_up().about(|| "loopback device")?;
        }
        if !self.spec.hostname.is_empty() {
            rustix::system::sethostname(self.spec.hostname.as_bytes()).about(|| "hostname")?;
        }
        if !self.spec.domainname.is_empty() {
            rustix::system::setdomainname(self.spec.domainname.as_bytes()).about(|| "domainname")?;
        }
        Ok(())
    }

    /// Makes sure that this process is in its cgroups.
    fn attach(&mut self, sync: &mut ChildEnd) -> Result<()> {
        if self.attach_self {
            sync.await_order(Order::Attached)?;
            crate::cgroup::attach_self(&self.cgroup)?;
            self.attach_self = false;
        }
        Ok(())
    }

    fn enter_cgroup_namespace(&mut self, sync: &mut ChildEnd) -> Result<()> {
        sync.await_order(Order::Attached)?;
        clone::unshare(clone::NEWCGROUP).about(|| "cgroup namespace")?;
        self.new_cgroupns = false;
        Ok(())
    }

    /// The root file system with everything mounted into it; what must stay writable until the end comes back.
    fn file_system(&mut self, sync: &mut ChildEnd) -> Result<(root::Root, Finish)> {
        let null = devices::null()?;
        // Who is in a user namespace has all sources from the caller, and might not reach the bundle.
        let bundle = if self.in_userns {
            None
        } else {
            let open = rustix::fs::open(&self.bundle, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
            Some(open.about(|| self.bundle.display().to_string())?)
        };
        let linux = self.spec.linux();
        let propagation = &linux.rootfs_propagation;
        let root = rootfs::prepare(&self.rootfs, self.prepared_root.take(), propagation, self.at_place)?;
        let label = linux.mount_label.clone();
        // Out of the way of the borrows below, and back when all is mounted.
        let rootfs = std::mem::replace(&mut self.rootfs, Rootfs::Dir(PathBuf::new()));
        let mut mounter = Mounter {
            root: &root,
            bundle: bundle.as_ref().map_or(rustix::fs::CWD, AsFd::as_fd),
            label: &label,
            rootfs: &rootfs,
            deferred: mounts::Deferred::default(),
        };
        let list = std::mem::take(&mut self.spec.mounts);
        for (i, m) in list.iter().enumerate() {
            if m.kind == "cgroup" || m.kind == "cgroup2" {
                self.attach(sync)?;
                let fresh = self.new_cgroupns || self.new & clone::NEWCGROUP != 0;
                if self.new_cgroupns {
                    self.enter_cgroup_namespace(sync)?;
                    self.new |= clone::NEWCGROUP;
                } else if !fresh {
                    sync.await_order(Order::Attached)?;
                }
                crate::cgroup::mount::mount(&mut mounter, m, &self.cgroup, fresh)?;
            } else {
                mounter.mount(m, self.prepared.get(i).and_then(Option::as_ref))?;
            }
        }
        let deferred = mounter.deferred;
        self.rootfs = rootfs;
        self.prepared = Vec::new();
        let dev_is_bound = list.iter().any(|m| {
            root::clean(&m.destination) == Path::new("dev")
                && options::Options::parse(&m.options).bind.is_some()
        });
        if !dev_is_bound {
            devices::populate(&root, &self.spec.linux().devices, self.in_userns)?;
        }
        self.spec.mounts = list;
        if let Some(process) = &self.spec.process {
            root.ensure_dir(&process.cwd).map_err(|e| e.context("process.cwd"))?;
        }
        Ok((root, Finish { deferred, null }))
    }

    fn container_hooks(&self, sync: &mut ChildEnd) -> Result<()> {
        if wants_hooks_point(&self.spec) {
            sync.await_order(Order::Attached)?;
            sync.hooks_point()?;
            sync.await_order(Order::HooksDone)?;
        }
        let Some(h) = &self.spec.hooks else { return Ok(()) };
        let (Rootfs::Dir(root) | Rootfs::Overlay { target: root, .. }) = &self.rootfs;
        hooks::run_in("createContainer", &h.create_container, &self.state("creating"), root, &[])
    }

    fn state(&self, status: &str) -> State {
        State {
            oci_version: self.spec.oci_version.clone(),
            id: self.id.clone(),
            status: status.to_owned(),
            pid: rustix::process::getpid().as_raw_nonzero().get(),
            bundle: self.bundle.clone(),
            annotations: self.spec.annotations.clone(),
        }
    }

    fn enter_root(&self, root: Option<&root::Root>) -> Result<()> {
        match root {
            Some(root) if self.no_pivot => {
                let (Rootfs::Dir(place) | Rootfs::Overlay { target: place, .. }) = &self.rootfs;
                mounts::hide_full_views(place)?;
                mounts::move_root(root.fd())
            }
            Some(root) => mounts::pivot(root.fd()),
            None => {
                let Rootfs::Dir(dir) = &self.rootfs else {
                    return Err(Error::invalid("an overlay needs a mount namespace of its own"));
                };
                rustix::process::chroot(dir).about(|| dir.display().to_string())?;
                rustix::process::chdir("/").about(|| "/")
            }
        }
    }

    fn terminal(&self, process: &Process, root: Option<&root::Root>, sync: &ChildEnd) -> Result<()> {
        match &self.io {
            Io::Inherit => Ok(()),
            Io::Fds { stdin, stdout, stderr } => console::stdio(stdin, stdout, stderr),
            Io::Terminal { rows, cols, returns } => {
                let (master, slave) = console::open()?;
                let size = process.console_size.as_ref();
                let (rows, cols) =
                    if *rows == 0 { size.map_or((0, 0), |s| (s.height, s.width)) } else { (*rows, *cols) };
                console::resize(&master, rows, cols)?;
                if !*returns {
                    console::newlines_alone(&master)?;
                }
                if let Some(root) = root {
                    console::bind_console(root, &slave)?;
                }
                sync.terminal(master.as_fd())?;
                console::adopt(&slave)
            }
        }
    }

    fn restrict(&self, proc: &Proc, root: Option<(root::Root, Finish)>) -> Result<()> {
        let linux = self.spec.linux();
        finish::sysctl(proc, &linux.sysctl)?;
        let Some((root, finish)) = root else { return Ok(()) };
        finish.deferred.finish()?;
        if self.spec.root.as_ref().is_some_and(|r| r.readonly) {
            let attr = fluyt_sys::mount::Attr { set: fluyt_sys::mount::RDONLY, ..Default::default() };
            fluyt_sys::mount::setattr(root.fd(), &attr, false)
                .about(|| "making the root file system read-only")?;
        }
        rootfs::final_propagation(&linux.rootfs_propagation)
    }

    /// From here on the process loses rights step by step.
    fn become_process(&mut self, process: &Process, sync: &mut ChildEnd) -> Result<Infallible> {
        sync.await_order(Order::Go)?;
        self.joins = Vec::new();
        self.io = Io::Inherit;
        crate::affinity::reset();
        let mut filter = if self.filtered { Some(sync.take_filter()?) } else { None };
        if let Some(listener) = &self.park {
            // Whatever else the caller had open is not to stay open for as long as the start takes. Before the filter,
            // which may be older than the call.
            let ours = [listener.as_raw_fd(), sync.raw()];
            task::close_from_except(3 + self.preserve_fds, &ours).about(|| "descriptors")?;
        }
        let target = assume_process(process, filter.as_ref(), self.preserve_fds, sync)?;
        if let Some(listener) = self.park.take() {
            // The filter may be in force already and know less than it takes to listen to signals as well.
            let signals = Signals::block(&ENDING).ok();
            sync.parked()?;
            if let Some(signals) = &signals {
                await_caller(&listener, signals);
            }
            let start = rustix::net::accept_with(&listener, rustix::net::SocketFlags::CLOEXEC)
                .about(|| "waiting for the start")?;
            sync.replace(start);
        }
        if let Some(h) = &self.spec.hooks {
            let env = if h.start_container.is_empty() { Vec::new() } else { program::environment(process) };
            let list = &h.start_container;
            if process.no_new_privileges && !list.is_empty() {
                // These hooks are the container's own programs: the filter is for them, too.
                if let Some(filter) = filter.take() {
                    load(&filter, sync)?;
                }
            }
            hooks::run_in("startContainer", list, &self.state("created"), Path::new("."), &env)?;
        }
        execute(process, &target, filter.as_ref(), self.block_signals, sync)
    }
}

/// Signals that end a container that waits for its start. The first process of a pid namespace gets only what it asks
/// for; a parked one that did not ask could be ended by SIGKILL alone.
const ENDING: [i32; 4] = [1, 2, 3, 15];

/// Waits until somebody connects; ends this process if it is told to.
fn await_caller(listener: &OwnedFd, signals: &Signals) {
    use rustix::event::{PollFd, PollFlags, poll};
    loop {
        let mut list = [
            PollFd::from_borrowed_fd(listener.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN),
        ];
        match poll(&mut list, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return,
        }
        let connected = !list[0].revents().is_empty();
        if let Ok(Some(signal)) = signals.next() {
            task::exit_now(128 + signal);
        }
        if connected {
            return;
        }
    }
}

/// What [`Init::restrict`] needs from the mounting step.
struct Finish {
    deferred: mounts::Deferred,
    null: OwnedFd,
}

/// Descriptors that mounting may need; a container with fewer gets its limits only when everything is mounted.
const ROOMY: u64 = 1024;

/// Whether the parent has something to do between the mounts and `pivot_root`: hooks, or to wait with the limits.
pub(crate) fn wants_hooks_point(spec: &Spec) -> bool {
    let hooks = |h: &Hooks| !h.prestart.is_empty() || !h.create_runtime.is_empty();
    let tight = |p: &Process| p.rlimits.iter().any(|l| l.kind == "RLIMIT_NOFILE" && l.soft < ROOMY);
    spec.hooks.as_ref().is_some_and(hooks) || spec.process.as_ref().is_some_and(tight)
}

/// Makes a time namespace with offsets and enters it.
///
/// It belongs to the user namespace that it is made in, which must be the container's: who runs with its rights could
/// never join another's.
fn enter_time_namespace(offsets: &str) -> Result<()> {
    clone::unshare(clone::NEWTIME).about(|| "time namespace")?;
    // The files of a process that is not dumpable belong to root of the host. Nobody else is in the container yet.
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::Dumpable)
        .about(|| "time namespace")?;
    std::fs::write("/proc/self/timens_offsets", offsets).about(|| "offsets of the time namespace")?;
    let path = PathBuf::from("/proc/self/ns/time_for_children");
    let fd = rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .about(|| "the new time namespace")?;
    join(&Join { kind: clone::NEWTIME, fd, path }).about(|| "entering the new time namespace")
}

/// Takes on root's ids of a user namespace, so that what is made from now on belongs to them.
pub(crate) fn become_root() -> Result<()> {
    let (uid, gid) = (Uid::ROOT, Gid::ROOT);
    let _ = rustix::thread::set_thread_groups(&[]);
    rustix::thread::set_thread_res_gid(gid, gid, gid).about(|| "group 0 of the user namespace")?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).about(|| "user 0 of the user namespace")
}

/// Enters the working directory and verifies that it lies below the container's root: a descriptor of the host's could
/// have made it point outside.
fn enter_directory(path: &Path) -> Result<()> {
    rustix::process::chdir(path)
        .about(|| format!("chdir to cwd ({:?}) set in config.json failed", path.display().to_string()))?;
    let outside = "current working directory is outside of container mount namespace root";
    let here = rustix::process::getcwd(Vec::new()).about(|| outside)?;
    if here.as_bytes().first() == Some(&b'/') { Ok(()) } else { Err(Error::invalid(outside)) }
}

/// Identity, privileges, working directory; the program comes back, found and checked.
pub(crate) fn assume_process(
    process: &Process,
    filter: Option<&Filter>,
    preserve_fds: u32,
    sync: &mut ChildEnd,
) -> Result<program::Target> {
    console::give_stdio(process.user.uid);
    // Before the filter: a profile may be older than the call. What is opened from here on closes by itself.
    task::close_on_exec_from(3 + preserve_fds).about(|| "descriptors")?;
    let cwd = if process.cwd.as_os_str().is_empty() { Path::new("/") } else { &process.cwd };
    let entered = enter_directory(cwd);
    crate::rlimit::lower(&process.rlimits)?;
    if process.no_new_privileges {
        rustix::thread::set_no_new_privs(true).about(|| "no_new_privs")?;
    } else if let Some(filter) = filter {
        // Without no_new_privs only a privileged task may load a filter.
        load(filter, sync)?;
    }
    for text in identity::assume(&process.user, process.capabilities.as_ref())? {
        sync.warning(&text)?;
    }
    if entered.is_err() {
        // A directory that only the user may enter (root squash, FUSE).
        enter_directory(cwd)?;
    }
    rustix::process::umask(Mode::from_raw_mode(process.user.umask.unwrap_or(0o022) & 0o777));
    program::find(process)
}

fn load(filter: &Filter, sync: &ChildEnd) -> Result<()> {
    match filter.load().about(|| "loading the seccomp filter")? {
        Some(listener) => sync.notify(listener.as_fd()),
        None => Ok(()),
    }
}

/// The last steps, after which there is no way back.
pub(crate) fn execute(
    process: &Process,
    target: &program::Target,
    filter: Option<&Filter>,
    block_signals: bool,
    sync: &ChildEnd,
) -> Result<Infallible> {
    task::reset_signals(block_signals).about(|| "signals")?;
    sync.execing()?;
    if process.no_new_privileges
        && let Some(filter) = filter
    {
        load(filter, sync)?;
    }
    Err(target.exec())
}
