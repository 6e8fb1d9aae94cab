//! The watcher of a data root: it starts containers again whose monitor was killed.
//!
//! Every monitor of a container with a restart policy keeps a connection to it ([`crate::guard`]) and has said whose
//! monitor it is. A connection that ends while the container's status says that it should run means that the monitor
//! was killed. The other way round the monitors notice the end of the watcher and start another one, which first looks
//! at everybody. So only whoever kills the watcher and all monitors of a root at once gets away with it, until the next
//! command looks at the containers ([`call`]).
//!
//! ```text
//!            connection lost            no monitor, should run      pause over
//!   quiet ───────────────────► looking ──────────────────► waiting ────────────► reviving
//!     ▲                           │ ends properly             ▲                      │
//!     └───────────────────────────┴───────────────────────────┴── failed, still lost ┤
//!     └───────────────────────────────────────────────────────────────────────── done┘
//! ```
//!
//! It starts by itself with the first such container and ends by itself after the last. It decides nothing but when:
//! whether and how a container is started again is up to the engine (`fluyt container revive`).

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fluyt_model::error::IoContext;
use fluyt_model::sandbox::{Phase, RestartCondition, SandboxStatus};
use fluyt_model::{Error, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::FlockOperation;
use rustix::process::{Pid, PidfdFlags};

use crate::restart::{FIRST_PAUSE, LONGEST_PAUSE, STABLE_AFTER};
use crate::{MonitorSpec, state};

/// The argument that makes a monitor process a watcher.
pub const FLAG: &str = "--watch";
/// The socket on which it listens, in the run directory of the data root.
pub const SOCKET: &str = "watch.sock";
/// The lock that the one living watcher of a data root holds.
const LOCK: &str = "watch.lock";

/// A watcher with nothing to watch ends after this long.
const IDLE: Duration = Duration::from_millis(300);
/// How long after its start the watcher looks at everybody again, for monitors that were killed before they could connect;
/// then it looks again and again, after pauses that double.
const SECOND_ROUND: Duration = Duration::from_secs(1);
/// The longest pause between two rounds.
const LONGEST_ROUND: Duration = Duration::from_secs(60);
/// The first look after a lost connection; a dying process lets go of its lock and its socket in any order.
const FIRST_LOOK: Duration = Duration::from_millis(10);
/// So often a monitor whose connection has ended is looked at before it counts as alive.
const LOOKS: u32 = 3;
/// So many containers are started at once.
const AT_ONCE: usize = 4;
/// Longest name that is taken from a connection, bytes: an id and a newline.
const MAX_NAME: usize = 128;

/// `fluyt monitor --watch ROOT RUN`. Returns an exit code.
pub(crate) fn main(root: &Path, run: &Path) -> i32 {
    let _ = rustix::thread::set_name(c"fluyt-watch");
    let _ = rustix::process::setsid();
    match Watcher::open(root, run) {
        Ok(Some(watcher)) => watcher.serve().map_or_else(
            |e| {
                eprintln!("fluyt: watcher of {}: {}", root.display(), e.chain());
                125
            },
            |()| 0,
        ),
        // Another one was quicker.
        Ok(None) => 0,
        Err(e) => {
            eprintln!("fluyt: watcher of {}: {}", root.display(), e.chain());
            125
        }
    }
}

/// Starts a watcher; if there is one already, the new one ends at once.
///
/// # Errors
/// The program cannot be executed.
pub fn spawn(root: &Path, run: &Path) -> Result<Child> {
    let mut command = Command::new("/proc/self/exe");
    command.arg0("fluyt").args(["monitor", FLAG]).arg(root).arg(run).env_clear().current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    fluyt_sys::spawn::with_fds(&mut command, Vec::new()).about(|| "fluyt watcher")
}

/// Makes sure that a watcher looks at the containers of a data root. For whoever meets a container without its monitor.
///
/// # Errors
/// None listens and none can be started.
pub fn call(root: &Path, run: &Path) -> Result<()> {
    match UnixStream::connect(run.join(SOCKET)) {
        Ok(_) => Ok(()),
        Err(_) => spawn(root, run).map(drop),
    }
}

/// Whether a container should run by its status, but its monitor was killed since the machine was switched on.
#[must_use]
pub fn is_lost(run_dir: &Path, status: &SandboxStatus) -> bool {
    matches!(status.phase, Phase::Running | Phase::Paused | Phase::Restarting)
        // The run directory is gone after a boot; then it is up to `system resume`.
        && run_dir.join(crate::LOCK).exists()
        && crate::owner(run_dir).is_none()
}

/// What is being done about a container.
#[derive(Debug, Default)]
enum Step {
    #[default]
    Quiet,
    Looking {
        at: Instant,
        left: u32,
    },
    Waiting {
        until: Instant,
    },
    Reviving {
        child: Child,
        pidfd: OwnedFd,
    },
}

/// A container whose connection was lost at least once.
#[derive(Debug, Default)]
struct Patient {
    step: Step,
    /// When it was started again the last time, and the pause before.
    revived: Option<(Instant, Duration)>,
}

impl Patient {
    fn due(&self) -> Option<Instant> {
        match self.step {
            Step::Looking { at, .. } => Some(at),
            Step::Waiting { until } => Some(until),
            Step::Quiet | Step::Reviving { .. } => None,
        }
    }

    /// The pause before the next attempt: none at first, then doubling while it does not last.
    fn pause(&self, now: Instant) -> Duration {
        match self.revived {
            Some((at, pause)) if now.saturating_duration_since(at) < STABLE_AFTER.max(pause) => {
                (pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE)
            }
            _ => Duration::ZERO,
        }
    }
}

/// A monitor that is being watched.
struct Link {
    socket: UnixStream,
    name: Vec<u8>,
    over: bool,
}

impl Link {
    /// Reads what came: the name, or the end.
    fn receive(&mut self) {
        let mut chunk = [0; MAX_NAME];
        loop {
            match self.socket.read(&mut chunk) {
                Ok(0) => self.over = true,
                Ok(n) if self.name.len() + n <= MAX_NAME => {
                    self.name.extend_from_slice(&chunk[..n]);
                    continue;
                }
                Ok(_) => self.over = true,
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                Err(_) => self.over = true,
            }
            return;
        }
    }

    /// The container's id, once it has been said whole.
    fn id(&self) -> Option<&str> {
        std::str::from_utf8(self.name.strip_suffix(b"\n")?).ok().filter(|id| fits(id))
    }
}

/// Whether `name` can be a container's id: it becomes part of a path.
fn fits(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_hexdigit())
}

struct Watcher {
    root: PathBuf,
    run: PathBuf,
    listener: UnixListener,
    _lock: std::fs::File,
    links: Vec<Link>,
    /// When everybody is looked at the next time, and the pause before.
    round: (Instant, Duration),
    patients: BTreeMap<String, Patient>,
}

impl Watcher {
    /// `None` if the data root has a watcher.
    fn open(root: &Path, run: &Path) -> Result<Option<Self>> {
        let path = run.join(LOCK);
        let about = || path.display().to_string();
        let lock = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        let lock = lock.about(about)?;
        if rustix::fs::fcntl_lock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Ok(None);
        }
        let socket = run.join(SOCKET);
        let listener = crate::listen_at(&socket)?;
        // Unlike the monitors' sockets it is in a directory that is open to others.
        let ours = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&socket, ours).about(|| socket.display().to_string())?;
        listener.set_nonblocking(true).about(|| socket.display().to_string())?;
        Ok(Some(Self {
            root: root.to_owned(),
            run: run.to_owned(),
            listener,
            _lock: lock,
            links: Vec::new(),
            round: (Instant::now() + SECOND_ROUND, SECOND_ROUND),
            patients: BTreeMap::new(),
        }))
    }

    fn serve(mut self) -> Result<()> {
        self.look_at_everybody();
        fluyt_sys::heap::trim();
        let mut idle_since = Instant::now();
        loop {
            if !self.is_idle() {
                idle_since = Instant::now();
            } else if idle_since.elapsed() >= IDLE {
                // Whoever connects from now on is hung up on, and starts another.
                let _ = std::fs::remove_file(self.run.join(SOCKET));
                return Ok(());
            }
            self.wait()?;
            self.accept();
            self.hear();
            if self.round.0 <= Instant::now() {
                let pause = (self.round.1 * 2).min(LONGEST_ROUND);
                self.round = (Instant::now() + pause, pause);
                self.look_at_everybody();
            }
            self.treat();
        }
    }

    fn is_idle(&self) -> bool {
        self.links.is_empty() && self.patients.values().all(|p| matches!(p.step, Step::Quiet))
    }

    fn wait(&self) -> Result<()> {
        let watch = |fd| PollFd::from_borrowed_fd(fd, PollFlags::IN);
        let mut fds = vec![watch(self.listener.as_fd())];
        fds.extend(self.links.iter().map(|l| watch(l.socket.as_fd())));
        fds.extend(self.patients.values().filter_map(|p| match &p.step {
            Step::Reviving { pidfd, .. } => Some(watch(pidfd.as_fd())),
            _ => None,
        }));
        let room = self.reviving() < AT_ONCE;
        let due = self.patients.values().filter(|p| room || matches!(p.step, Step::Looking { .. }));
        let due = due.filter_map(Patient::due).fold(self.round.0, Instant::min);
        let mut left = due.saturating_duration_since(Instant::now());
        if self.is_idle() {
            left = left.min(IDLE);
        }
        let timeout =
            Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: i64::from(left.subsec_nanos()) };
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(e) => Err(Error::io("poll", e.into())),
        }
    }

    fn reviving(&self) -> usize {
        self.patients.values().filter(|p| matches!(p.step, Step::Reviving { .. })).count()
    }

    fn accept(&mut self) {
        while let Ok((socket, _)) = self.listener.accept() {
            if socket.set_nonblocking(true).is_ok() {
                self.links.push(Link { socket, name: Vec::new(), over: false });
            }
        }
    }

    fn hear(&mut self) {
        self.links.iter_mut().for_each(Link::receive);
        let lost: Vec<String> =
            self.links.iter().filter(|l| l.over).filter_map(|l| l.id().map(str::to_owned)).collect();
        self.links.retain(|l| !l.over);
        for id in lost {
            self.look(id, FIRST_LOOK);
        }
    }

    /// Somebody's monitor may have been killed while no watcher lived, or before it had connected.
    fn look_at_everybody(&mut self) {
        for entry in std::fs::read_dir(&self.run).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if fits(&name) && crate::owner(&entry.path()).is_none() && self.is_lost(&name) {
                self.look(name, Duration::ZERO);
            }
        }
    }

    fn look(&mut self, id: String, after: Duration) {
        let patient = self.patients.entry(id).or_default();
        if !matches!(patient.step, Step::Reviving { .. } | Step::Waiting { .. }) {
            patient.step = Step::Looking { at: Instant::now() + after, left: LOOKS };
        }
    }

    fn is_lost(&self, id: &str) -> bool {
        let dir = self.root.join("containers").join(id);
        state::load(&dir).is_ok_and(|status| is_lost(&self.run.join(id), &status))
            && MonitorSpec::load(&dir).is_ok_and(|spec| spec.restart.condition != RestartCondition::No)
    }

    /// Does what is due for those who need it.
    fn treat(&mut self) {
        let now = Instant::now();
        let mut patients = std::mem::take(&mut self.patients);
        let mut busy = patients.values().filter(|p| matches!(p.step, Step::Reviving { .. })).count();
        for (id, patient) in &mut patients {
            if let Step::Reviving { child, .. } = &mut patient.step {
                let Ok(Some(status)) = child.try_wait() else { continue };
                busy -= 1;
                patient.step = if !status.success() && self.is_lost(id) {
                    Step::Waiting { until: now + patient.pause(now) }
                } else {
                    Step::Quiet
                };
            }
            if patient.due().is_none_or(|at| at > now) {
                continue;
            }
            if let Step::Looking { left, .. } = patient.step {
                patient.step = if self.is_lost(id) {
                    Step::Waiting { until: now + patient.pause(now) }
                } else if left > 1 && crate::owner(&self.run.join(id)).is_some() {
                    Step::Looking { at: now + FIRST_LOOK * 10, left: left - 1 }
                } else {
                    Step::Quiet
                };
            }
            if let Step::Waiting { until } = patient.step
                && until <= now
                && busy < AT_ONCE
            {
                let pause = patient.pause(now);
                patient.revived = Some((now, pause));
                match self.revive(id) {
                    Ok((child, pidfd)) => {
                        busy += 1;
                        patient.step = Step::Reviving { child, pidfd };
                    }
                    Err(_) => patient.step = Step::Waiting { until: now + patient.pause(now) },
                }
            }
        }
        patients.retain(|_, p| !matches!(p.step, Step::Quiet) || !p.pause(now).is_zero());
        self.patients = patients;
    }

    /// Has the engine start a container again, in a process of its own.
    fn revive(&self, id: &str) -> Result<(Child, OwnedFd)> {
        let mut command = Command::new("/proc/self/exe");
        command.arg0("fluyt").arg("--root").arg(&self.root).args(["container", "revive", id]);
        let log = self.root.join("containers").join(id).join("monitor.log");
        let log = OpenOptions::new().append(true).open(log).map_or_else(|_| Stdio::null(), Stdio::from);
        command.env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let mut child = command.spawn().about(|| "fluyt container revive")?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let pidfd = pid.map(|pid| rustix::process::pidfd_open(pid, PidfdFlags::empty()));
        match pidfd {
            Some(Ok(pidfd)) => Ok((child, pidfd)),
            _ => {
                // Nobody could wait for it beside everything else.
                let _ = child.wait();
                Err(Error::internal("no descriptor for a process"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_while_a_container_does_not_last() {
        let now = Instant::now();
        let mut patient = Patient::default();
        assert_eq!(patient.pause(now), Duration::ZERO);
        patient.revived = Some((now, Duration::ZERO));
        assert_eq!(patient.pause(now), FIRST_PAUSE);
        patient.revived = Some((now, LONGEST_PAUSE));
        assert_eq!(patient.pause(now + STABLE_AFTER), LONGEST_PAUSE);
        assert_eq!(patient.pause(now + LONGEST_PAUSE), Duration::ZERO);
    }

    #[test]
    fn a_name_becomes_part_of_a_path_only_if_it_is_an_id() {
        assert!(fits("0123abcdef"));
        assert!(!fits("") && !fits("../x") && !fits("networks"));
    }
}
