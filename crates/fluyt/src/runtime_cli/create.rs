//! `create`, `run` and `start`.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use fluyt_model::error::{Error, IoContext, Kind, Result};
use fluyt_runtime::spec::Spec;
use fluyt_runtime::{Io, Launch, Rootfs, Running, hooks, launch, rootfs_of};
use fluyt_sys::exe::Held;
use rustix::net::SocketType;

use super::args::{Flag, Parsed, switch, value};
use super::state::{Container, Dir, Record, Status};
use super::{Context, bundle, foreground, now, seal};

pub(super) static FLAGS: [Flag; 11] = [
    value("bundle", Some('b'), "directory of the bundle (default: the current one)"),
    value("config", Some('f'), "configuration file in the bundle (default: config.json)"),
    value("console-socket", None, "unix socket that gets the master of the container's terminal"),
    value("pid-file", None, "file that gets the pid of the init process"),
    switch("no-pivot", None, "do not use pivot_root"),
    switch("no-new-keyring", None, "stay in the caller's session keyring"),
    value("preserve-fds", None, "keep this many descriptors above standard error open"),
    switch("detach", Some('d'), "leave the container running and return"),
    switch("keep", None, "do not delete the container when it has exited"),
    switch("no-subreaper", None, "accepted for compatibility"),
    value("pidfd-socket", None, "unix socket that gets a pidfd of the init process"),
];

/// What `create` and `run` have in common.
struct Order<'a> {
    id: &'a str,
    parsed: &'a Parsed,
    detach: bool,
    /// Wait for `start`.
    park: bool,
}

/// A container just launched, with what the caller must still do for it.
struct Launched {
    running: Running,
    dir: Dir,
    record: Record,
    spec: Spec,
}

/// `create`.
pub(super) fn create(context: &Context, parsed: &Parsed) -> Result<i32> {
    let seal = seal()?;
    let order = Order { id: parsed.id("create")?, parsed, detach: true, park: true };
    let mut launched = order.launch(context, seal)?;
    order.deliver_or_undo(&mut launched)?;
    Ok(0)
}

/// `run`.
pub(super) fn run(context: &Context, parsed: &Parsed) -> Result<i32> {
    let seal = seal()?;
    let order = Order { id: parsed.id("run")?, parsed, detach: parsed.on("detach"), park: false };
    let mut launched = order.launch(context, seal)?;
    order.deliver_or_undo(&mut launched)?;
    if let Err(e) = poststart(&launched.spec, &launched.record) {
        let running = &launched.running;
        let _ = rustix::process::pidfd_send_signal(&running.pidfd, rustix::process::Signal::KILL);
        let _ = fluyt_sys::clone::reap(running.pid, true);
        launched.undo(context);
        return Err(e);
    }
    if order.detach {
        return Ok(0);
    }
    let code = foreground::wait(&launched.running, launched.running.console.as_ref());
    if !parsed.on("keep") {
        launched.undo(context);
    }
    code
}

/// Runs the poststart hooks. A container whose hook fails is ended by the caller, as callers of runc expect.
fn poststart(spec: &Spec, record: &Record) -> Result<()> {
    let Some(h) = spec.hooks.as_ref().filter(|h| !h.poststart.is_empty()) else { return Ok(()) };
    let state = fluyt_runtime::spec::State {
        oci_version: record.oci_version.clone(),
        id: record.id.clone(),
        status: "running".to_owned(),
        pid: record.pid,
        bundle: record.bundle.clone(),
        annotations: record.annotations.clone(),
    };
    hooks::run("poststart", &h.poststart, &state)
}

impl Launched {
    /// Takes away what the container leaves: its groups, its state, and the poststop hooks' work.
    fn undo(&self, context: &Context) {
        if let Err(e) = self.running.cgroup.kill(9).and_then(|()| self.running.cgroup.delete()) {
            context.warn(&e);
        }
        fluyt_runtime::remove_resctrl(&self.spec, &self.record.id);
        if let Err(e) = self.dir.remove() {
            context.warn(&e);
        }
        super::manage::poststop(context, &self.spec, &self.record);
    }
}

/// The directory of a container that is being made; removed again unless it is kept.
struct Guard(Option<Dir>);

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(dir) = self.0.take() {
            let _ = dir.remove();
        }
    }
}

impl Order<'_> {
    fn launch(&self, context: &Context, seal: Held) -> Result<Launched> {
        let bundle = bundle(self.parsed)?;
        let path = bundle.join(self.parsed.get("config").unwrap_or("config.json"));
        let config = std::fs::read(&path).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => {
                Error::not_found(format!("JSON specification file {} not found", path.display()))
            }
            _ => Error::io(path.display().to_string(), e),
        })?;
        let mut spec: Spec = serde_json::from_slice(&config)
            .map_err(|e| Error::invalid(path.display().to_string()).with_source(e))?;
        if let (Some(process), count @ 1..) = (&mut spec.process, listening()) {
            // Sockets of an activation go along; in the container their owner is the first process.
            process.env.extend([format!("LISTEN_FDS={count}"), "LISTEN_PID=1".to_owned()]);
        }
        let io = self.io(&spec)?;
        let dir = Dir::create(&context.root, self.id)?;
        let mut guard = Guard(Some(dir.clone()));
        let rootfs = rootfs_of(&bundle, &spec);
        let rootfs =
            std::fs::canonicalize(&rootfs).about(|| format!("root file system {}", rootfs.display()))?;
        let rules = spec.take_rules();
        let mut request = Launch::new(self.id, spec.clone(), &bundle, Rootfs::Dir(rootfs.clone()));
        request.spec.put_rules(rules);
        request.io = io;
        request.seal = seal;
        request.cgroup_driver = context.driver;
        request.preserve_fds = preserved(self.parsed)?;
        request.no_pivot = self.parsed.on("no-pivot");
        request.no_new_keyring = self.parsed.on("no-new-keyring");
        if self.park {
            request.park = Some(
                fluyt_sys::pass::listen(&dir.start_socket(), SocketType::SEQPACKET)
                    .about(|| dir.start_socket().display().to_string())?,
            );
        }
        let failed = |e: Error| match e.kind() {
            Kind::CommandNotFound | Kind::CommandNotExecutable => {
                e.context("unable to start container process")
            }
            _ => e,
        };
        if context.debug {
            self.tell(context, &spec);
        }
        context.debug("nsexec container setup: cloning the init stage into its namespaces and cgroups");
        let starting = launch(request)?;
        context.debug(&format!("child process in init(): pid {} mounts its file systems", starting.pid()));
        let record = self.record(&spec, bundle, rootfs, &starting);
        dir.save(&record, &config)?;
        let running = starting.proceed().map_err(failed)?;
        running.warnings.iter().for_each(|text| context.log("warning", text));
        context.debug("init: closing the pipe to signal completion");
        guard.0 = None;
        Ok(Launched { running, dir, record, spec })
    }

    /// What `--debug` says about the container before it is made.
    fn tell(&self, context: &Context, spec: &Spec) {
        context.debug(&format!("container {}: fluyt-runc exeseal: using /proc/self/exe clone", self.id));
        if fluyt_sys::exe::is_overlay() {
            context.debug("fluyt-runc exeseal: using overlayfs for sealed /proc/self/exe");
        }
        if let Some(bits) = spec.linux().seccomp.as_ref().and_then(fluyt_runtime::features::seccomp_flags) {
            context.debug(&format!("seccomp filter flags: {bits}"));
        }
    }

    fn record(
        &self,
        spec: &Spec,
        bundle: PathBuf,
        rootfs: PathBuf,
        starting: &fluyt_runtime::Starting,
    ) -> Record {
        Record {
            oci_version: spec.oci_version.clone(),
            id: self.id.to_owned(),
            pid: starting.pid(),
            start_time: fluyt_runtime::start_time(starting.pid()).unwrap_or(0),
            bundle,
            rootfs,
            created: now(),
            uid: rustix::process::getuid().as_raw(),
            annotations: spec.annotations.clone(),
            cgroup: starting.cgroup().paths().clone(),
            no_new_keyring: self.parsed.on("no-new-keyring"),
        }
    }

    fn io(&self, spec: &Spec) -> Result<Io> {
        let terminal = spec.process.as_ref().is_some_and(|p| p.terminal);
        let socket = self.parsed.get("console-socket").filter(|s| !s.is_empty());
        terminal_io(terminal, socket, self.detach)
    }

    /// Hands over the terminal, the pid file and the pidfd; a container that cannot be handed over is taken away again.
    fn deliver_or_undo(&self, launched: &mut Launched) -> Result<()> {
        let delivered = deliver(self.parsed, &mut launched.running);
        if delivered.is_err() {
            let _ =
                rustix::process::pidfd_send_signal(&launched.running.pidfd, rustix::process::Signal::KILL);
            let _ = fluyt_sys::clone::reap(launched.running.pid, true);
            let _ = launched.running.cgroup.kill(9);
            let _ = launched.running.cgroup.delete();
            let _ = launched.dir.remove();
        }
        delivered
    }
}

/// How a process's streams are connected.
pub(super) fn terminal_io(terminal: bool, socket: Option<&str>, detach: bool) -> Result<Io> {
    match (terminal, socket, detach) {
        (true, None, true) => {
            Err(Error::invalid("cannot allocate tty if runc will detach without setting console socket"))
        }
        (false, Some(_), _) | (true, Some(_), false) => {
            Err(Error::invalid("cannot use console socket if runc will not detach or allocate tty"))
        }
        (true, None, false) => {
            let size = rustix::termios::tcgetwinsize(rustix::stdio::stdin()).ok();
            // Our own terminal adds the carriage returns (see `foreground`); a pipe or a file wants none.
            let (rows, cols) = size.map_or((0, 0), |s| (s.ws_row, s.ws_col));
            Ok(Io::Terminal { rows, cols, returns: false })
        }
        (true, Some(_), true) => Ok(Io::Terminal { rows: 0, cols: 0, returns: true }),
        (false, None, _) => Ok(Io::Inherit),
    }
}

/// How many sockets of an activation this process was given.
fn listening() -> u32 {
    std::env::var("LISTEN_FDS").ok().and_then(|v| v.parse::<u32>().ok()).unwrap_or(0)
}

/// Descriptors to keep: what the flag says, and those of socket activation.
pub(super) fn preserved(parsed: &Parsed) -> Result<u32> {
    let asked: u32 = parsed.number("preserve-fds")?.unwrap_or(0);
    let all = asked.saturating_add(listening());
    for fd in 0..asked {
        let number = i32::try_from(fd + 3).map_err(|_| Error::invalid("--preserve-fds is too large"))?;
        if !fluyt_sys::task::is_open(number) {
            return Err(Error::invalid(format!("--preserve-fds {asked}: descriptor {number} is not open")));
        }
    }
    Ok(all)
}

/// Terminal to the console socket, pidfd to its socket, pid to its file.
pub(super) fn deliver(parsed: &Parsed, running: &mut Running) -> Result<()> {
    if let Some(path) = parsed.get("console-socket").filter(|s| !s.is_empty()) {
        let master =
            running.console.take().ok_or_else(|| Error::internal("the container has no terminal"))?;
        send_to(path, b"/dev/ptmx", &master)?;
    }
    if let Some(path) = parsed.get("pidfd-socket").filter(|s| !s.is_empty()) {
        send_to(path, b"pidfd", &running.pidfd)?;
    }
    if let Some(path) = parsed.get("pid-file").filter(|s| !s.is_empty()) {
        super::state::replace(Path::new(path), running.pid.to_string().as_bytes())?;
    }
    Ok(())
}

fn send_to(path: &str, name: &[u8], fd: &OwnedFd) -> Result<()> {
    let socket = fluyt_sys::pass::connect(Path::new(path), SocketType::STREAM).about(|| path.to_owned())?;
    fluyt_sys::pass::send(socket.as_fd(), name, &[fd.as_fd()]).about(|| path.to_owned())
}

/// `start`.
pub(super) fn start(context: &Context, parsed: &Parsed) -> Result<i32> {
    let container = Container::load(&context.root, parsed.id("start")?)?;
    match container.status() {
        Status::Created => {}
        Status::Stopped => return Err(Error::conflict("cannot start a container that has stopped")),
        Status::Running | Status::Paused => {
            return Err(Error::conflict("cannot start an already running container"));
        }
    }
    let path = container.dir.start_socket();
    let socket = fluyt_sys::pass::connect(&path, SocketType::SEQPACKET)
        .map_err(|e| Error::io("asking the container to start", e))?;
    // Whoever removes the socket has started the container; a second one fails above or here.
    std::fs::remove_file(&path).map_err(|_| Error::conflict("cannot start an already running container"))?;
    let spec = container.dir.spec()?;
    fluyt_runtime::await_start(&socket, &spec, &container.state(Status::Created))?;
    poststart(&spec, &container.record).inspect_err(|_| {
        let _ = super::manage::signal_init(&container, 9);
    })?;
    Ok(0)
}
