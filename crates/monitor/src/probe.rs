//! A health check in progress: its process, its output, its deadline.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use fluyt_model::Result;
use fluyt_model::error::IoContext;
use fluyt_model::sandbox::{HealthCheck, HealthResult};
use fluyt_runtime::spec::Spec;
use fluyt_runtime::{ExecRequest, Io, Running};
use rustix::fs::{Mode, OFlags};
use rustix::pipe::PipeFlags;

use crate::health::MAX_OUTPUT;
use crate::state::now;

/// A running check.
#[derive(Debug)]
pub struct Probe {
    process: Running,
    output: OwnedFd,
    text: Vec<u8>,
    started: i64,
    /// When it has taken too long.
    pub deadline: Instant,
}

impl Probe {
    /// Executes the check inside the container.
    ///
    /// # Errors
    /// It cannot be executed, a missing program among the reasons.
    pub fn start(check: &HealthCheck, target: &Running, oci: &Spec) -> Result<Self> {
        let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).about(|| "pipe")?;
        crate::run::nonblocking(&reader)?;
        let stdin = rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        let mut process = oci.process.clone().unwrap_or_default();
        process.args = check.args.clone();
        process.terminal = false;
        let request = ExecRequest {
            target_pid: target.pid,
            target_start_time: Some(target.start_time),
            cgroup: target.cgroup.paths().clone(),
            process,
            seccomp: oci.linux().seccomp.clone(),
            io: Io::Fds {
                stdin: stdin.about(|| "/dev/null")?,
                stdout: writer.try_clone().about(|| "pipe")?,
                stderr: writer,
            },
            personality: oci.linux().personality.clone(),
            preserve_fds: 0,
            sub_cgroups: Vec::new(),
            memory_policy: None,
            state: fluyt_runtime::spec::State::default(),
            no_new_keyring: false,
            seal: fluyt_sys::exe::Held::default(),
        };
        let started = now();
        let process = fluyt_runtime::exec(request)?;
        let deadline = Instant::now() + Duration::from_nanos(check.timeout);
        Ok(Self { process, output: reader, text: Vec::new(), started, deadline })
    }

    /// What to poll: the process, and its output.
    #[must_use]
    pub fn fds(&self) -> [BorrowedFd<'_>; 2] {
        [self.process.pidfd.as_fd(), self.output.as_fd()]
    }

    /// Takes output, and the result if the check has ended or its time is up.
    pub fn poll(&mut self, timeout: u64) -> Option<HealthResult> {
        self.read();
        if let Some(code) = crate::reap(self.process.pidfd.as_fd()) {
            self.read();
            return Some(self.result(code, None));
        }
        if Instant::now() < self.deadline {
            return None;
        }
        let _ = fluyt_sys::signal::send(self.process.pidfd.as_fd(), 9);
        let limit = Duration::from_nanos(timeout);
        Some(self.result(-1, Some(format!("Health check exceeded timeout ({limit:?})"))))
    }

    fn read(&mut self) {
        let mut chunk = [0; 4096];
        while let Ok(n @ 1..) = rustix::io::read(&self.output, &mut chunk) {
            let room = MAX_OUTPUT.saturating_sub(self.text.len());
            self.text.extend_from_slice(&chunk[..n.min(room)]);
        }
    }

    fn result(&mut self, exit_code: i32, note: Option<String>) -> HealthResult {
        let output = note.unwrap_or_else(|| String::from_utf8_lossy(&self.text).into_owned());
        HealthResult { start: self.started, end: now(), exit_code, output }
    }
}

/// The result of a check that could not even be started.
#[must_use]
pub fn failed(error: &fluyt_model::Error) -> HealthResult {
    let time = now();
    HealthResult { start: time, end: time, exit_code: -1, output: error.chain() }
}
