//! Running one more process in a container: joining all its namespaces at once, its cgroups, and its restrictions.

use std::convert::Infallible;
use std::os::fd::{AsFd, OwnedFd};

use fluyt_model::error::{Error, IoContext, Kind, Result};
use fluyt_sys::clone;
use fluyt_sys::exe::Held;
use rustix::fs::CWD;
use rustix::process::{Pid, PidfdFlags};
use rustix::thread::ThreadNameSpaceType;

use crate::cgroup::{Cgroup, CgroupPaths};
use crate::init::{self, console};
use crate::launch::{Io, Running};
use crate::procfs::{self, Proc};
use crate::seccomp::Filter;
use crate::spec::{Process, Seccomp, State};
use crate::sync::{self, ChildEnd, Order, ParentEnd, Report};

/// A process to run in a container.
#[derive(Debug)]
pub struct ExecRequest {
    /// The container's init process.
    pub target_pid: i32,
    /// Its start time, to be sure that the pid is still its; `None`: not checked.
    pub target_start_time: Option<u64>,
    /// The container's groups.
    pub cgroup: CgroupPaths,
    /// What to run. Its `oom_score_adj`, scheduler and so on count, not those of the container.
    pub process: Process,
    /// The container's system call filter.
    pub seccomp: Option<Seccomp>,
    /// The execution domain of the container.
    pub personality: Option<crate::spec::Personality>,
    /// The standard streams.
    pub io: Io,
    /// Descriptors 3 to 2 + this number stay open.
    pub preserve_fds: u32,
    /// Cgroups below the container's for this process: the controllers that it is about (as the kernel lists them, or
    /// one of them; empty: all) and the path. A path that is given is taken as it is: nothing else is tried.
    pub sub_cgroups: Vec<(String, String)>,
    /// The container's NUMA memory policy.
    pub memory_policy: Option<crate::spec::MemoryPolicy>,
    /// The container's state, for a seccomp listener.
    pub state: State,
    /// Stay in the caller's session keyring.
    pub no_new_keyring: bool,
    /// The caller's seal, given up as soon as that delays nobody.
    pub seal: Held,
}

/// What an error about the cgroups of the new process is about, in the words that callers of runc know.
const ADDING: &str = "error adding pid of the new process to cgroups";

impl ExecRequest {
    /// A request with the defaults: streams inherited, no filter.
    #[must_use]
    pub fn new(target_pid: i32, cgroup: CgroupPaths, process: Process) -> Self {
        Self {
            target_pid,
            target_start_time: None,
            cgroup,
            process,
            seccomp: None,
            personality: None,
            io: Io::Inherit,
            preserve_fds: 0,
            sub_cgroups: Vec::new(),
            memory_policy: None,
            state: State::default(),
            no_new_keyring: false,
            seal: Held::default(),
        }
    }
}

/// The namespaces in which `pid` differs from the caller, as `setns` wants them.
fn differing(pid: i32) -> Result<u64> {
    const LIST: [(&str, u64); 8] = [
        ("user", clone::NEWUSER),
        ("mnt", clone::NEWNS),
        ("pid", clone::NEWPID),
        ("net", clone::NEWNET),
        ("ipc", clone::NEWIPC),
        ("uts", clone::NEWUTS),
        ("cgroup", clone::NEWCGROUP),
        ("time", clone::NEWTIME),
    ];
    let mut flags = 0;
    for (name, flag) in LIST {
        let theirs = format!("/proc/{pid}/ns/{name}");
        let theirs = match rustix::fs::readlinkat(CWD, theirs.as_str(), Vec::new()) {
            Ok(t) => t,
            // A kernel without this kind.
            Err(rustix::io::Errno::NOENT) if name == "time" || name == "cgroup" => continue,
            Err(e) => return Err(Error::io(theirs, e.into())),
        };
        let ours = format!("/proc/thread-self/ns/{name}");
        let ours = rustix::fs::readlinkat(CWD, ours.as_str(), Vec::new()).about(|| ours)?;
        if ours != theirs {
            flags |= flag;
        }
    }
    Ok(flags)
}

fn setns(pidfd: &OwnedFd, flags: u64) -> std::io::Result<()> {
    if flags == 0 {
        return Ok(());
    }
    let bits = u32::try_from(flags).map_err(std::io::Error::other)?;
    let kinds = ThreadNameSpaceType::from_bits_retain(bits);
    Ok(rustix::thread::move_into_thread_name_spaces(pidfd.as_fd(), kinds)?)
}

/// Runs a process in a container and returns when its program has been executed.
///
/// The caller is single threaded, is not changed, and reaps the process.
///
/// # Errors
/// `NotFound` if the container is gone, `Kind::CommandNotFound`, `Kind::CommandNotExecutable`, or what the kernel refuses.
pub fn exec(request: ExecRequest) -> Result<Running> {
    crate::validate::process(&request.process)?;
    let pid = request.target_pid;
    let gone = || Error::not_found(format!("the container's process {pid} is gone"));
    let target = Pid::from_raw(pid).ok_or_else(gone)?;
    let pidfd = rustix::process::pidfd_open(target, PidfdFlags::empty()).map_err(|_| gone())?;
    if let Some(expected) = request.target_start_time
        && procfs::start_time(pid).ok() != Some(expected)
    {
        return Err(gone());
    }
    let flags = differing(pid)?;
    let cgroup = sub_group(&request)?;
    let (parent_end, child_end) = sync::pair()?;
    let birth_place = cgroup.birth_place().map_err(|e| e.context(ADDING))?;
    // cgroup v2 mounted with nsdelegate, as systemd does it, moves nobody across the border of a cgroup namespace that
    // the mover is in: the process is born in its group first.
    let joiner = Joiner { pidfd: &pidfd, late: flags & (clone::NEWTIME | clone::NEWCGROUP) };
    spawn(request, flags, &cgroup, birth_place, (ParentEnd(parent_end), child_end), &joiner)
}

fn sub_group(request: &ExecRequest) -> Result<Cgroup> {
    let mut paths = request.cgroup.clone();
    for (controllers, sub) in &request.sub_cgroups {
        if let Some(dir) = &mut paths.v2 {
            if !controllers.is_empty() {
                return Err(Error::invalid(format!("unknown controller {controllers} in a sub cgroup path")));
            }
            *dir = below(dir, sub)?;
            continue;
        }
        let same = |listed: &str| {
            controllers.is_empty() || listed == controllers || listed.split(',').any(|c| c == controllers)
        };
        let mut found = false;
        let listed: Vec<std::path::PathBuf> = paths.v1.iter().map(|d| d.path.clone()).collect();
        let wanted: Vec<&str> = controllers.split(',').collect();
        for dir in &mut paths.v1 {
            if same(&dir.controllers) || wanted.contains(&dir.controllers.as_str()) {
                let path = below(&dir.path, sub)?;
                found = true;
                // A path for all hierarchies counts where it exists; nowhere is an error, told by the first.
                if !controllers.is_empty() || path.is_dir() || !anywhere(&listed, sub) {
                    dir.path = path;
                }
            }
        }
        if !found {
            return Err(Error::invalid(format!("unknown controller {controllers} in a sub cgroup path")));
        }
    }
    Ok(Cgroup::open(&paths))
}

/// Whether any of the groups has a group of this path below it.
fn anywhere(dirs: &[std::path::PathBuf], sub: &str) -> bool {
    dirs.iter().any(|d| below(d, sub).is_ok_and(|p| p.is_dir()))
}

/// A group below `dir`; a path that leaves it is refused.
fn below(dir: &std::path::Path, sub: &str) -> Result<std::path::PathBuf> {
    let climbs = std::path::Path::new(sub).components().any(|c| c == std::path::Component::ParentDir);
    if climbs {
        return Err(Error::invalid(format!("bad sub cgroup path: {sub}: `..` components are not allowed")));
    }
    Ok(dir.join(init::root::clean(std::path::Path::new(sub))))
}

struct Joiner<'a> {
    pidfd: &'a OwnedFd,
    /// Namespaces that are joined by the new process itself, in its cgroup.
    late: u64,
}

fn spawn(
    mut request: ExecRequest,
    flags: u64,
    cgroup: &Cgroup,
    birth_place: Option<OwnedFd>,
    ends: (ParentEnd, OwnedFd),
    joiner: &Joiner<'_>,
) -> Result<Running> {
    let Joiner { pidfd, late } = *joiner;
    let mut before = || setns(pidfd, flags & !late);
    let tasks = cgroup.open_tasks().map_err(|e| e.context(ADDING))?;
    let given = !request.sub_cgroups.is_empty();
    let target_pid = request.target_pid;
    let mut seal = Some(std::mem::take(&mut request.seal));
    let born_inside = birth_place.is_some() || !tasks.is_empty();
    // Where nothing has to be done to the child from outside, its orders wait for it: on a busy machine it would
    // otherwise lose its turn once more.
    let process = &request.process;
    let in_userns = flags & clone::NEWUSER != 0;
    if in_userns {
        crate::streams::give(&request.io, target_pid, &process.user);
    }
    let at_once = born_inside && process.oom_score_adj.is_none() && process.rlimits.is_empty();
    if at_once {
        let (parent_end, _) = &ends;
        give_orders(&request, parent_end)?;
    }
    let mut stage = Stage { request, late, in_userns, tasks };
    let mut ends = Some(ends);
    let mut child = || {
        let Some((parent_end, child_end)) = ends.take() else { return 1 };
        drop(parent_end);
        drop(seal.take());
        stage.main(pidfd, child_end)
    };
    let mut born = |place: Option<&OwnedFd>| {
        let cgroup = place.map(AsFd::as_fd);
        clone::spawn(clone::Options { flags: 0, cgroup, before: Some(&mut before) }, &mut child)
    };
    let child = match born(birth_place.as_ref()) {
        Err(e) if birth_place.is_some() && admits_nobody(&e) && given => {
            return Err(Error::io(ADDING, e));
        }
        Err(e) if birth_place.is_some() && admits_nobody(&e) => {
            let beside = cgroup.birth_place_beside(target_pid)?;
            if beside.is_none() { Err(e) } else { born(beside.as_ref()) }
        }
        outcome => outcome,
    };
    let child = child.about(|| "joining the container's namespaces")?;
    let (sync, _) = ends.take().ok_or_else(|| Error::internal("the pair went to the child"))?;
    let prepared = if at_once { Ok(()) } else { set_up(&stage.request, &child, cgroup, born_inside, &sync) };
    let done = prepared.and_then(|()| accompany(&stage, &child, &sync));
    match done {
        Ok((console, warnings)) => {
            seal.take().unwrap_or_default().release();
            let start_time = procfs::start_time(child.pid).unwrap_or(0);
            let cgroup = Cgroup::open(&stage.request.cgroup);
            Ok(Running { pid: child.pid, pidfd: child.pidfd, start_time, console, cgroup, warnings })
        }
        Err(e) => {
            let _ = rustix::process::pidfd_send_signal(&child.pidfd, rustix::process::Signal::KILL);
            let _ = clone::reap(child.pid, true);
            Err(e)
        }
    }
}

/// Whether the kernel refuses processes in a version 2 group because the container has divided it: a group that passes
/// controllers on has no processes of its own, and a threaded one no new ones.
fn admits_nobody(e: &std::io::Error) -> bool {
    use rustix::io::Errno;
    let code = e.raw_os_error();
    [Errno::BUSY, Errno::OPNOTSUPP].iter().any(|errno| code == Some(errno.raw_os_error()))
}

/// All that the child is told.
fn give_orders(request: &ExecRequest, sync: &ParentEnd) -> Result<()> {
    if let Some(seccomp) = &request.seccomp {
        sync.filter(&Filter::compile(seccomp)?);
    }
    sync.order(Order::Go);
    Ok(())
}

/// What has to be done to the child from outside, then its orders.
fn set_up(
    request: &ExecRequest,
    child: &clone::Child,
    cgroup: &Cgroup,
    born_inside: bool,
    sync: &ParentEnd,
) -> Result<()> {
    if !born_inside {
        cgroup.attach(child.pid)?;
    }
    if let Some(score) = request.process.oom_score_adj {
        crate::launch::set_oom_score(child.pid, score)?;
    }
    crate::rlimit::raise(child.pid, &request.process.rlimits)?;
    give_orders(request, sync)
}

/// The parent's part of the conversation: the terminal comes back, and the warnings.
fn accompany(
    stage: &Stage,
    child: &clone::Child,
    sync: &ParentEnd,
) -> Result<(Option<OwnedFd>, Vec<String>)> {
    let (mut console, mut execing, mut warnings) = (None, false, Vec::new());
    loop {
        match sync.next()? {
            Report::Terminal(master) => console = Some(master),
            Report::Notify(listener) => {
                if let Some(seccomp) = &stage.request.seccomp {
                    crate::seccomp::notify::pass(seccomp, &listener, &stage.request.state, child.pid)?;
                }
            }
            Report::Execing => execing = true,
            Report::Warning(text) => warnings.push(text),
            Report::Eof if execing => return Ok((console, warnings)),
            Report::Failed(e) => return Err(e),
            Report::Eof => return Err(Error::internal("the process died before it could run its program")),
            other => return Err(Error::internal(format!("the exec stage said {other:?} out of turn"))),
        }
    }
}

/// The child's part.
struct Stage {
    request: ExecRequest,
    late: u64,
    in_userns: bool,
    /// Opened `tasks` files of the groups to enter.
    tasks: Vec<OwnedFd>,
}

impl Stage {
    fn main(&mut self, pidfd: &OwnedFd, sync: OwnedFd) -> i32 {
        let mut sync = ChildEnd::new(sync, self.request.seccomp.is_some());
        let Err(e) = self.run(pidfd, &mut sync);
        sync.failed(&e);
        match e.kind() {
            Kind::CommandNotFound => 127,
            Kind::CommandNotExecutable => 126,
            _ => 1,
        }
    }

    /// Restricts this process to one of the two CPU lists of the request.
    fn affinity(&self, which: fn(&crate::spec::CpuAffinity) -> &String) -> Result<()> {
        match self.request.process.exec_cpu_affinity.as_ref().map(which).filter(|l| !l.is_empty()) {
            Some(list) => crate::affinity::set(list),
            None => Ok(()),
        }
    }

    fn run(&mut self, pidfd: &OwnedFd, sync: &mut ChildEnd) -> Result<Infallible> {
        rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
            .about(|| "making the exec stage non-dumpable")?;
        self.affinity(|a| &a.initial)?;
        self.tasks.iter().try_for_each(crate::cgroup::enter)?;
        setns(pidfd, self.late).about(|| "joining the time and cgroup namespaces")?;
        if self.in_userns {
            init::become_root()?;
        }
        rustix::process::setsid().about(|| "setsid")?;
        let process = &self.request.process;
        match &self.request.io {
            Io::Inherit => {}
            Io::Fds { stdin, stdout, stderr } => console::stdio(stdin, stdout, stderr)?,
            Io::Terminal { rows, cols, returns } => {
                let (master, slave) = console::open()?;
                let size = process.console_size.as_ref();
                let (rows, cols) =
                    if *rows == 0 { size.map_or((0, 0), |s| (s.height, s.width)) } else { (*rows, *cols) };
                console::resize(&master, rows, cols)?;
                if !*returns {
                    console::newlines_alone(&master)?;
                }
                sync.terminal(master.as_fd())?;
                console::adopt(&slave)?;
            }
        }
        if !self.request.no_new_keyring {
            init::finish::keyring(&self.request.state.id)?;
        }
        init::finish::scheduling(process)?;
        if let Some(policy) = &self.request.memory_policy {
            crate::numa::set(policy)?;
        }
        if let Some(p) = &self.request.personality {
            init::finish::personality(p)?;
        }
        if !(process.apparmor_profile.is_empty() && process.selinux_label.is_empty()) {
            init::finish::labels(&Proc::open()?, process)?;
        }
        sync.await_order(Order::Go)?;
        if process.exec_cpu_affinity.is_none() {
            crate::affinity::reset();
        }
        self.affinity(|a| &a.last)?;
        let filter = if self.request.seccomp.is_some() { Some(sync.take_filter()?) } else { None };
        let target = init::assume_process(process, filter.as_ref(), self.request.preserve_fds, sync)?;
        init::execute(process, &target, filter.as_ref(), false, sync)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_does_not_differ_from_itself() {
        let pid = rustix::process::getpid().as_raw_nonzero().get();
        assert_eq!(differing(pid).expect("own namespaces"), 0);
    }
}
