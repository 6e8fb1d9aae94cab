//! A monitor's connection to the watcher of its data root, and the watcher started when there is none.
//!
//! Only monitors of containers with a restart policy have one. It is made a moment after the start, so that nobody
//! waits for it.

use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::process::Child;
use std::time::{Duration, Instant};

use fluyt_model::sandbox::RestartCondition;

use crate::spec::MonitorSpec;
use crate::watch;

/// How long after a start the connection is made.
const AFTER_START: Duration = Duration::from_millis(50);
/// The first wait for a watcher that is being started; it doubles.
const FIRST_WAIT: Duration = Duration::from_millis(20);
/// The longest wait between two attempts.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// The connection, or when the next attempt to make it is due.
#[derive(Debug, Default)]
pub struct Guard {
    link: Option<UnixStream>,
    due: Option<Instant>,
    attempts: u32,
    /// The watcher that this monitor has started; it must be collected when it has ended.
    child: Option<Child>,
}

impl Guard {
    /// Follows the restart policy: a container that nobody would start again need not be watched.
    pub fn follow(&mut self, spec: &MonitorSpec) {
        if spec.restart.condition == RestartCondition::No {
            self.link = None;
            self.due = None;
        } else if self.link.is_none() && self.due.is_none() {
            self.due = Some(Instant::now() + AFTER_START);
        }
    }

    /// When something is to be done.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.due
    }

    /// Readable when the watcher has ended.
    #[must_use]
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.link.as_ref().map(AsFd::as_fd)
    }

    /// The watcher has ended. Fifty monitors notice in the same moment: one of them should be first.
    pub fn lost(&mut self) {
        self.link = None;
        let spread = u64::from(std::process::id() % 16) * 10;
        self.due = Some(Instant::now() + FIRST_WAIT + Duration::from_millis(spread));
    }

    /// Does what is due; whether a process was started for it.
    pub fn on_time(&mut self, spec: &MonitorSpec) -> bool {
        if self.due.is_none_or(|at| at > Instant::now()) {
            return false;
        }
        self.due = None;
        if self.child.as_mut().is_some_and(|c| c.try_wait().is_ok_and(|ended| ended.is_some())) {
            self.child = None;
        }
        let run = spec.run_dir.parent().unwrap_or(&spec.run_dir);
        let link = UnixStream::connect(run.join(watch::SOCKET))
            .and_then(|mut link| link.write_all(format!("{}\n", spec.id).as_bytes()).map(|()| link));
        if let Ok(link) = link {
            self.link = Some(link);
            self.attempts = 0;
            return false;
        }
        self.due = Some(Instant::now() + (FIRST_WAIT * 2u32.pow(self.attempts.min(9))).min(LONGEST_WAIT));
        self.attempts += 1;
        if self.child.is_none() {
            match watch::spawn(&spec.root, run) {
                Ok(child) => self.child = Some(child),
                Err(e) => eprintln!("fluyt: monitor of {}: {}", spec.id, e.chain()),
            }
        }
        true
    }
}
