//! One command of a build: like a container for its time, but without a record, a name, a log or a monitor.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio};

use fluyt_model::error::IoContext;
use fluyt_model::sandbox::SandboxSpec;
use fluyt_model::{Error, Kind, Result, id};
use fluyt_monitor::MonitorSpec;
use fluyt_monitor::spec::RootfsSpec;
use fluyt_monitor::step::{CLAIM_FD, Order, REPORT_FD, Report, Secret, TreeMount};

use crate::api::MountView;
use crate::container::create::random;
use crate::container::start::overlay_options;
use crate::records::ContainerRecord;
use crate::step_claim::{Claim, end_group};
use crate::{Engine, lower, seal};

/// A command to run.
#[derive(Debug, Default)]
pub struct StepRequest {
    /// The contract; its one container's mounts are in `mounts`.
    pub spec: SandboxSpec,
    /// Lower directories, topmost first.
    pub lower: Vec<PathBuf>,
    /// Upper directory, work directory, mount point.
    pub overlay: (PathBuf, PathBuf, PathBuf),
    /// A directory for its files.
    pub dir: PathBuf,
    /// Its mounts, in order.
    pub mounts: Vec<MountView>,
    /// File trees to mount on the host's side before, seen by nobody else.
    pub trees: Vec<TreeMount>,
    /// The directory in which the secrets appear; an empty one.
    pub memory: PathBuf,
    /// The secrets.
    pub secrets: Vec<Secret>,
}

/// A command that runs. Dropped, it is killed.
pub struct Step<'a> {
    engine: &'a Engine,
    id: String,
    child: Child,
    /// Closing it ends the command.
    life: Option<ChildStdin>,
    report: File,
    /// What came on it, once it is read.
    said: Option<Vec<u8>>,
    /// Holds its address until it is given back.
    _claim: Claim,
    /// The path of its cgroup.
    cgroup: String,
    /// It has said how it ended, so nothing of it is left.
    reported: bool,
    /// Its standard output.
    pub stdout: Option<ChildStdout>,
    /// Its standard error.
    pub stderr: Option<ChildStderr>,
}

impl Engine {
    /// Starts a command of a build.
    ///
    /// # Errors
    /// What it refers to does not exist; no process can be started.
    pub fn step(&self, request: StepRequest) -> Result<Step<'_>> {
        let id = id::from_random(random()?);
        let claim = self.claim_step(&id)?;
        self.begin_step(&id, request, claim).inspect_err(|_| self.forget_step(&id))
    }

    fn begin_step(&self, id: &str, request: StepRequest, mut claim: Claim) -> Result<Step<'_>> {
        let (upper, work, target) = request.overlay;
        let record = ContainerRecord {
            id: id.to_owned(),
            name: id::short(id).to_owned(),
            spec: request.spec,
            mounts: request.mounts,
            lower: request.lower,
            ..ContainerRecord::default()
        };
        let [container] = &record.spec.containers[..] else {
            return Err(Error::internal("a step is one container"));
        };
        let plugged = self.plug_in(&record)?;
        let network = self.network_files(&record, &request.dir, &plugged)?;
        let resolved = self.resolve(&record, &request.dir)?;
        claim.cgroup(&resolved.cgroup)?;
        let mut oci = lower::oci(&record.spec, container, &resolved)?;
        if !container.cdi_devices.is_empty() {
            let directories = crate::cdi::DIRECTORIES.map(std::path::Path::new);
            crate::cdi::apply(&crate::cdi::edits(&container.cdi_devices, &directories)?, &mut oci)?;
        }
        let order = Order {
            spec: MonitorSpec {
                id: id.to_owned(),
                root: self.paths.root().to_owned(),
                dir: request.dir.clone(),
                rootfs: RootfsSpec {
                    lower: record.lower.clone(),
                    upper,
                    work,
                    options: overlay_options(true),
                    target,
                    mapped: None,
                },
                network,
                ..MonitorSpec::default()
            },
            oci,
            trees: request.trees,
            memory: request.memory,
            secrets: request.secrets,
        };
        let (mut child, report) = self.spawn_step(&claim)?;
        let (stdout, stderr, life) = (child.stdout.take(), child.stderr.take(), child.stdin.take());
        let (id, cgroup) = (id.to_owned(), resolved.cgroup);
        let mut step = Step {
            engine: self,
            id,
            child,
            life,
            report,
            said: None,
            _claim: claim,
            cgroup,
            reported: false,
            stdout,
            stderr,
        };
        step.order(&order)?;
        Ok(step)
    }

    fn spawn_step(&self, claim: &Claim) -> Result<(Child, File)> {
        let about = || "fluyt step".to_owned();
        let sealed = seal::find(self.paths.run()).about(about)?;
        let (ours, theirs) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).about(about)?;
        let mut command = Command::new(format!("/proc/self/fd/{}", sealed.file.as_raw_fd()));
        command.arg0("fluyt").arg("step").env_clear();
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let fds: Vec<(OwnedFd, i32)> = vec![(theirs, REPORT_FD), (claim.share()?.into(), CLAIM_FD)];
        let child = fluyt_sys::spawn::with_fds(&mut command, fds).about(about)?;
        Ok((child, File::from(ours)))
    }

    /// Gives a step's addresses back.
    fn forget_step(&self, id: &str) {
        let freed = self.records().leases_of_container(id).and_then(|leases| {
            if leases.is_empty() {
                return Ok(());
            }
            self.records().write(|tx| {
                leases.iter().try_for_each(|l| self.records().delete_lease(tx, &l.network_id, id))
            })
        });
        // What stays is taken back when the network runs out of addresses.
        drop(freed);
    }
}

impl Step<'_> {
    fn order(&mut self, order: &Order) -> Result<()> {
        let text = serde_json::to_vec(order).map_err(|e| Error::internal("a step").with_source(e))?;
        let length = u32::try_from(text.len()).map_err(|_| Error::invalid("a step with too much in it"))?;
        let life = self.life.as_mut().ok_or_else(|| Error::internal("a step without input"))?;
        life.write_all(&length.to_le_bytes())
            .and_then(|()| life.write_all(&text))
            .and_then(|()| life.flush())
            .about(|| "fluyt step")
    }

    /// Kills the command and all its descendants.
    pub fn kill(&mut self) {
        self.life = None;
    }

    /// What becomes readable when its process ends; none once [`Step::hear`] was called.
    #[must_use]
    pub fn ending(&self) -> Option<BorrowedFd<'_>> {
        self.said.is_none().then(|| self.report.as_fd())
    }

    /// Hears how it ended. When its process was killed and says nothing, the command is killed too: nobody else does.
    ///
    /// # Errors
    /// The pipe cannot be read.
    pub fn hear(&mut self) -> Result<()> {
        if self.said.is_none() {
            let mut text = Vec::new();
            let read = self.report.read_to_end(&mut text).about(|| "fluyt step");
            self.reported = serde_json::from_slice::<Report>(&text).is_ok();
            self.said = Some(text);
            read?;
            self.end_unheard();
        }
        Ok(())
    }

    fn end_unheard(&self) {
        if !self.reported && !self.cgroup.is_empty() {
            // What cannot be ended now, the next build meets again.
            let _ = end_group(&self.cgroup);
        }
    }

    /// Waits for its end: its exit code.
    ///
    /// # Errors
    /// It could not be started.
    pub fn wait(mut self) -> Result<i32> {
        let heard = self.hear();
        self.life = None;
        let status = self.child.wait().about(|| "fluyt step")?;
        heard?;
        let text = self.said.take().unwrap_or_default();
        match serde_json::from_slice(&text) {
            Ok(Report::Exit(code)) => Ok(code),
            Ok(Report::Failed(kind, message, hint)) => {
                let kind = Kind::ALL.get(kind).copied().unwrap_or(Kind::Internal);
                let error = Error::new(kind, message);
                Err(match hint {
                    Some(hint) => error.with_hint(hint),
                    None => error,
                })
            }
            Err(_) => Err(Error::internal(format!("the process of a step ended without a report: {status}"))),
        }
    }
}

impl Drop for Step<'_> {
    fn drop(&mut self) {
        self.life = None;
        // It ends by itself now; waiting for it keeps what it uses until it has let go.
        let _ = self.child.wait();
        if !self.reported {
            // Cancelled, it may have said how it ended all the same.
            let _ = self.hear();
        }
        self.engine.forget_step(&self.id);
    }
}
