//! The first process of a sandbox whose members share their process ids, or their view of control groups, or that a
//! service manager watches.

use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use fluyt_model::error::IoContext;
use fluyt_model::sandbox::{ContainerSpec, Namespace, Namespaces, ProcessSpec, SandboxSpec, Security};
use fluyt_model::{Error, Result};
use fluyt_monitor::hold::{self, Started};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::PodRecord;
use super::state::SandboxState;
use crate::container::start::write_json;
use crate::lower::{self, Resolved, ResolvedMount};
use crate::{Engine, seal};

/// Where the executable appears in the process's otherwise empty root.
const PROGRAM: &str = "/docker-init";

impl PodRecord {
    /// Whether its first process ends when it is asked to: nobody else is in its process namespace who could ask.
    fn ends_alone(&self) -> bool {
        !self.held_namespaces().contains(&"pid")
    }

    /// The namespaces that need a process: file name in /proc/PID/ns.
    pub(super) fn held_namespaces(&self) -> Vec<&'static str> {
        let (share, from) = (&self.spec.share, &self.spec.sandbox.namespaces);
        [("pid", share.pid, &from.pid), ("cgroup", share.cgroup, &from.cgroup)]
            .into_iter()
            .filter_map(|(file, shared, from)| (shared && *from == Namespace::Private).then_some(file))
            .collect()
    }
}

impl Engine {
    /// Asks the process to end, so that whoever watches it sees no failure. What does not end is killed by others.
    pub(super) fn end_init(&self, pod: &PodRecord, state: &SandboxState) {
        /// So long it is waited for, milliseconds.
        const PATIENCE: i32 = 500;
        if let Some(path) = &pod.spec.pid_file {
            // Somebody may have taken it away.
            let _ = std::fs::remove_file(path);
        }
        let pid = Pid::from_raw(state.init_pid).filter(|_| pod.ends_alone() && state.init_lives());
        let Some(pidfd) = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()) else { return };
        if pidfd_send_signal(&pidfd, Signal::TERM).is_ok() {
            let _ = fluyt_sys::clone::wait_exit(pidfd.as_fd(), PATIENCE);
        }
    }

    /// Starts the process, in the namespaces that are there already, and holds those that come with it.
    pub(super) fn start_init(&self, pod: &PodRecord, run: &Path, state: &mut SandboxState) -> Result<()> {
        let held = pod.held_namespaces();
        if held.is_empty() && pod.spec.pid_file.is_none() {
            return Ok(());
        }
        let dir = run.join("init");
        let rootfs = dir.join("rootfs");
        std::fs::create_dir_all(&rootfs).about(|| rootfs.display().to_string())?;
        write_json(&dir.join("config.json"), &self.init_spec(pod, run, state)?)?;
        let started = self.spawn_init(&dir)?;
        (state.init_pid, state.init_start) = (started.pid, started.start);
        for file in held {
            let (source, target) = (format!("/proc/{}/ns/{file}", started.pid), run.join(file));
            std::fs::File::create(&target).about(|| target.display().to_string())?;
            rustix::mount::mount_bind(&source, &target).about(|| target.display().to_string())?;
            state.pins.push(file.to_owned());
        }
        if let Some(path) = &pod.spec.pid_file {
            std::fs::write(path, format!("{}\n", started.pid)).about(|| path.display().to_string())?;
        }
        Ok(())
    }

    fn init_spec(
        &self,
        pod: &PodRecord,
        run: &Path,
        state: &SandboxState,
    ) -> Result<fluyt_runtime::spec::Spec> {
        let has = |file: &str| state.pins.iter().any(|pin| pin == file);
        let of = |file: &str| if has(file) { Namespace::Pod } else { Namespace::Private };
        let mut args = [PROGRAM, hold::FLAG].map(str::to_owned).to_vec();
        if pod.ends_alone() {
            args.push(hold::ENDS.to_owned());
        }
        let container = ContainerSpec {
            process: ProcessSpec { args, ..ProcessSpec::default() },
            security: Security {
                cap_drop: vec!["ALL".to_owned()],
                no_new_privileges: true,
                read_only_root: true,
                ..Security::default()
            },
            ..ContainerSpec::default()
        };
        let sandbox = SandboxSpec {
            namespaces: Namespaces {
                network: of("net"),
                ipc: of("ipc"),
                uts: of("uts"),
                ..Namespaces::default()
            },
            ..SandboxSpec::default()
        };
        let joined = [("network", "net"), ("ipc", "ipc"), ("uts", "uts")];
        let program = ResolvedMount {
            target: PROGRAM.into(),
            source: std::env::current_exe().about(|| "/proc/self/exe")?,
            read_only: true,
            ..ResolvedMount::default()
        };
        let resolved = Resolved {
            hostname: pod.hostname(),
            home: "/".to_owned(),
            joined: joined
                .into_iter()
                .filter(|(_, file)| has(file))
                .map(|(kind, file)| (kind, run.join(file)))
                .collect(),
            mounts: vec![program],
            cgroup: format!("{}/init", self.pod_cgroup(pod)),
            shm_size: 1 << 20,
            shm: has("ipc").then(|| run.join("shm")),
            ..Resolved::default()
        };
        lower::oci(&sandbox, &container, &resolved)
    }

    fn spawn_init(&self, dir: &Path) -> Result<Started> {
        let about = || "the first process of the pod".to_owned();
        let sealed = seal::find(self.paths.run()).about(about)?;
        let mut command = Command::new(format!("/proc/self/fd/{}", sealed.file.as_raw_fd()));
        command.arg0("fluyt").arg("monitor").arg(hold::FLAG).arg(dir).env_clear();
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = fluyt_sys::spawn::with_fds(&mut command, Vec::new()).about(about)?;
        let output = child.wait_with_output().about(about)?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(Error::internal(format!("{}: {}", about(), said.trim())));
        }
        serde_json::from_slice(&output.stdout).map_err(|e| Error::internal(about()).with_source(e))
    }
}
