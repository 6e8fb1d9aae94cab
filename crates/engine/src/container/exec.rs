//! Commands in running containers. The caller is their parent: nothing of ours stands between.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use fluyt_model::error::IoContext;
use fluyt_model::sandbox::{CAPABILITIES, Phase, SandboxStatus};
use fluyt_model::{Error, Result};
use fluyt_monitor::state::Subject;
use fluyt_runtime::spec::{Capabilities, Process, Spec};
use fluyt_runtime::{CgroupPaths, ExecRequest, Io, Running};
use rustix::fs::{Mode, OFlags};
use rustix::pipe::PipeFlags;
use rustix::process::{WaitId, WaitIdOptions, waitid};

use crate::api::ExecOptions;
use crate::container::create::random;
use crate::container::known::{self, Known};
use crate::container::tell::status_of;
use crate::{Engine, Paths, lookup};

/// A running command with the caller's ends of its streams.
#[derive(Debug)]
pub struct Exec {
    running: Running,
    /// Input, or the terminal for both ways.
    pub stdin: Option<OwnedFd>,
    /// Output, or the terminal.
    pub stdout: Option<OwnedFd>,
    /// Errors; none with a terminal.
    pub stderr: Option<OwnedFd>,
    tty: bool,
    journal: PathBuf,
    /// The container, and this command by its id, as events name them.
    subject: Subject,
}

impl Exec {
    /// Becomes readable when the command has ended.
    #[must_use]
    pub fn pidfd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.running.pidfd.as_fd()
    }

    /// Its process id on the host.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.running.pid
    }

    /// Tells its terminal the size.
    pub fn resize(&self, rows: u16, cols: u16) {
        if let Some(terminal) = self.stdout.as_ref().filter(|_| self.tty) {
            let size = rustix::termios::Winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 };
            // A terminal that is closing needs no size.
            let _ = rustix::termios::tcsetwinsize(terminal, size);
        }
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// It has ended.
    pub fn signal(&self, number: i32) -> Result<()> {
        fluyt_sys::signal::send(self.pidfd(), number).about(|| format!("process {}", self.running.pid))
    }

    /// Waits for its end, tells the journal, and returns the exit code, 128 + signal if it was killed.
    ///
    /// # Errors
    /// Somebody else has collected it.
    pub fn wait(&mut self) -> Result<i32> {
        let status = waitid(WaitId::PidFd(self.pidfd()), WaitIdOptions::EXITED)
            .about(|| format!("process {}", self.running.pid))?;
        let code = status.and_then(|s| s.exit_status().or_else(|| s.terminating_signal().map(|n| 128 + n)));
        let code = code.unwrap_or(255);
        self.subject.attributes.insert("exitCode".to_owned(), code.to_string());
        let _ = fluyt_monitor::state::emit(&self.journal, &[("exec_die", &self.subject)]);
        Ok(code)
    }
}

/// A container in which commands are to be run: what of its record matters for that.
#[derive(Debug)]
pub struct ExecTarget {
    paths: Paths,
    known: Known,
}

impl Engine {
    /// Finds a container to run commands in.
    ///
    /// # Errors
    /// `NotFound`, or an ambiguous prefix of an id.
    pub fn exec_target(&self, name: &str) -> Result<ExecTarget> {
        let state = known::State::look(&self.paths);
        let known = Known::from(&self.records().container(name)?);
        known::remember(&self.paths, name, state, &known);
        Ok(ExecTarget { paths: self.paths.clone(), known })
    }

    /// Runs a command in a running container; the caller serves its streams.
    ///
    /// # Errors
    /// As [`Engine::exec_target`] and [`ExecTarget::exec`].
    pub fn exec(&self, name: &str, options: &ExecOptions) -> Result<Exec> {
        self.exec_target(name)?.exec(options)
    }

    /// Runs a command in a running container and leaves it alone.
    ///
    /// # Errors
    /// As [`Engine::exec`].
    pub fn exec_detached(&self, name: &str, options: &ExecOptions) -> Result<()> {
        self.exec_target(name)?.exec_detached(options)
    }
}

impl ExecTarget {
    /// The container that was found under this very name before, if nothing has been recorded since in the data root
    /// `root`. Opens no database.
    #[must_use]
    pub fn recall(root: &Path, name: &str) -> Option<Self> {
        let paths = Paths::new(root).ok()?;
        let known = known::recall(&paths, name)?;
        Some(Self { paths, known })
    }

    /// A container of which this is known.
    pub(crate) fn of(root: &Path, known: Known) -> Result<Self> {
        Ok(Self { paths: Paths::new(root)?, known })
    }

    /// The container's full id.
    pub(crate) fn id(&self) -> &str {
        &self.known.id
    }

    /// What is known of it.
    pub(crate) fn into_known(self) -> Known {
        self.known
    }

    /// Runs a command; the caller serves its streams.
    ///
    /// # Errors
    /// `Conflict` if the container does not run or is paused; `CommandNotFound`, `CommandNotExecutable`.
    pub fn exec(&self, options: &ExecOptions) -> Result<Exec> {
        self.run(options, true, None)
    }

    /// The same for a command that was made before and has an id.
    pub(crate) fn exec_made(&self, id: &str, options: &ExecOptions, attached: bool) -> Result<Exec> {
        self.run(options, attached, Some(id))
    }

    /// Runs a command and leaves it alone.
    ///
    /// # Errors
    /// As [`ExecTarget::exec`].
    pub fn exec_detached(&self, options: &ExecOptions) -> Result<()> {
        self.run(options, false, None).map(drop)
    }

    /// The container's status, if commands can be run in it.
    ///
    /// # Errors
    /// `Conflict` if it does not run or is paused.
    pub(crate) fn check_running(&self) -> Result<SandboxStatus> {
        let record = &self.known;
        let status = status_of(&self.paths, &record.id)?;
        match status.phase {
            Phase::Running => {}
            Phase::Paused => {
                return Err(Error::conflict(format!(
                    "container {} is paused, unpause the container before exec",
                    record.name
                )));
            }
            Phase::Restarting => {
                return Err(Error::conflict(format!(
                    "Container {} is restarting, wait until the container is running",
                    record.id
                )));
            }
            _ => {
                return Err(Error::conflict(format!("container {} is not running", record.id))
                    .with_hint(format!("`fluyt start {}` starts it", record.name)));
            }
        }
        Ok(status)
    }

    fn run(&self, options: &ExecOptions, attached: bool, made: Option<&str>) -> Result<Exec> {
        if options.args.is_empty() {
            return Err(Error::invalid("no exec command specified"));
        }
        let record = &self.known;
        let status = self.check_running()?;
        let oci = self.oci()?;
        let process = self.process(options, &oci, &status)?;
        let (io, mut ends) = if attached { streams(options)? } else { detached()? };
        let command = told(&process.args);
        let cgroup: CgroupPaths = serde_json::from_value(status.cgroup.clone())
            .map_err(|e| Error::corrupt(format!("container {}: cgroup", record.name)).with_source(e))?;
        let running = fluyt_runtime::exec(ExecRequest {
            target_pid: status.pid,
            target_start_time: Some(status.pid_start),
            cgroup,
            process,
            seccomp: oci.linux().seccomp.clone().filter(|_| !options.privileged),
            personality: oci.linux().personality.clone(),
            io,
            preserve_fds: 0,
            sub_cgroups: Vec::new(),
            memory_policy: None,
            state: fluyt_runtime::spec::State::default(),
            no_new_keyring: false,
            seal: fluyt_sys::exe::Held::default(),
        })?;
        let (journal, subject) = match made {
            Some(id) => self.announce(id, &[&format!("exec_start: {command}")]),
            None => {
                let id = fluyt_model::id::from_random(random()?);
                self.announce(&id, &[&format!("exec_create: {command}"), &format!("exec_start: {command}")])
            }
        };
        let mut exec = Exec {
            journal,
            subject,
            running,
            stdin: ends.stdin.take(),
            stdout: ends.stdout.take(),
            stderr: ends.stderr.take(),
            tty: false,
        };
        if let Some(master) = exec.running.console.take() {
            exec.stdin = Some(master.try_clone().about(|| "terminal")?);
            exec.stdout = Some(master);
            exec.tty = true;
        }
        Ok(exec)
    }

    /// Tells the journal that a command was made.
    pub(crate) fn announce_made(&self, id: &str, command: &str) {
        self.announce(id, &[&format!("exec_create: {command}")]);
    }

    /// Tells the journal. An event that cannot be written is lost: what it tells of has happened all the same.
    fn announce(&self, id: &str, actions: &[&str]) -> (PathBuf, Subject) {
        let mut attributes = self.known.attributes.clone();
        attributes.insert("execID".to_owned(), id.to_owned());
        let subject = Subject { kind: "container".to_owned(), id: self.known.id.clone(), attributes };
        let journal = self.paths.events();
        let events: Vec<(&str, &Subject)> = actions.iter().map(|action| (*action, &subject)).collect();
        let _ = fluyt_monitor::state::emit(&journal, &events);
        (journal, subject)
    }

    fn oci(&self) -> Result<Spec> {
        let path = self.paths.container(&self.known.id).join("config.json");
        let text = std::fs::read(&path).about(|| path.display().to_string())?;
        serde_json::from_slice(&text).map_err(|e| Error::corrupt(path.display().to_string()).with_source(e))
    }

    fn process(&self, options: &ExecOptions, oci: &Spec, status: &SandboxStatus) -> Result<Process> {
        let mut process = oci.process.clone().unwrap_or_default();
        process.args.clone_from(&options.args);
        process.terminal = options.tty.is_some();
        process.oom_score_adj = None;
        if !options.cwd.is_empty() {
            process.cwd = PathBuf::from(&options.cwd);
        }
        if process.terminal && !process.env.iter().any(|e| e.starts_with("TERM=")) {
            process.env.push("TERM=xterm".to_owned());
        }
        let set: Vec<&str> = options.env.iter().filter_map(|e| e.split_once('=').map(|(k, _)| k)).collect();
        process.env.retain(|e| e.split_once('=').is_none_or(|(k, _)| !set.contains(&k)));
        process.env.extend(options.env.iter().filter(|e| e.contains('=')).cloned());
        if !options.user.is_empty() {
            // What runs may have changed its accounts; its own view counts.
            let root = [PathBuf::from(format!("/proc/{}/root", status.pid))];
            let passwd = lookup::merged_file(&root, "etc/passwd").unwrap_or_default();
            let group = lookup::merged_file(&root, "etc/group").unwrap_or_default();
            let account = lookup::account(&options.user, &self.known.groups, &passwd, &group)?;
            process.user.uid = account.uid;
            process.user.gid = account.gid;
            process.user.additional_gids = account.groups;
            process.env.retain(|e| !e.starts_with("HOME="));
            process.env.push(format!("HOME={}", account.home));
        }
        let mut bounding = process.capabilities.clone().unwrap_or_default().bounding;
        if options.privileged {
            process.apparmor_profile.clear();
            bounding = CAPABILITIES.iter().map(|c| format!("CAP_{c}")).collect();
        }
        let held = if process.user.uid == 0 { bounding.clone() } else { Vec::new() };
        process.capabilities = Some(Capabilities {
            effective: held.clone(),
            permitted: held,
            bounding,
            ..Capabilities::default()
        });
        Ok(process)
    }
}

/// A command as events name it: the program, a blank, the arguments.
pub(crate) fn told(args: &[String]) -> String {
    let program = args.first().map_or("", String::as_str);
    format!("{program} {}", args.get(1..).unwrap_or_default().join(" "))
}

#[derive(Default)]
struct Ends {
    stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
}

fn null() -> Result<OwnedFd> {
    rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).about(|| "/dev/null")
}

fn detached() -> Result<(Io, Ends)> {
    Ok((Io::Fds { stdin: null()?, stdout: null()?, stderr: null()? }, Ends::default()))
}

fn streams(options: &ExecOptions) -> Result<(Io, Ends)> {
    if let Some((rows, cols)) = options.tty {
        return Ok((Io::Terminal { rows, cols, returns: true }, Ends::default()));
    }
    let pipe = || rustix::pipe::pipe_with(PipeFlags::CLOEXEC).about(|| "pipe");
    let ((out, stdout), (err, stderr)) = (pipe()?, pipe()?);
    let (stdin, input) = if options.stdin {
        let (reader, writer) = pipe()?;
        (reader, Some(writer))
    } else {
        (null()?, None)
    };
    Ok((Io::Fds { stdin, stdout, stderr }, Ends { stdin: input, stdout: Some(out), stderr: Some(err) }))
}
