//! One run of the container, from its clone to its reaped exit code: its descriptors and what flows through them.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use fluyt_model::error::IoContext;
use fluyt_model::sandbox::{PortMapping, RestartCondition, Stdin};
use fluyt_model::{Error, Result};
use fluyt_net::Firewall;
use fluyt_runtime::spec::Spec;
use fluyt_runtime::{Io, Launch, Running};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::pipe::PipeFlags;

use crate::log::{Lines, Source};
use crate::probe::Probe;
use crate::spec::MonitorSpec;

/// Bytes of input that wait for a container that does not read.
const MAX_PENDING_INPUT: usize = 256 * 1024;
/// Bytes taken from a pipe at once, as long as it does not hold more.
pub const CHUNK: usize = 64 * 1024;
/// Bytes taken at once from a pipe that holds more: each read wakes the writer, and each write costs a system call.
pub const BURST: usize = 256 * 1024;
/// Room that a pipe is given after its first burst, so that its writer goes on while the monitor writes the log.
const PIPE_SIZE: usize = 1 << 20;

/// The same for input.
const INPUT_PIPE_SIZE: usize = 256 << 10;

/// An output stream of the container.
#[derive(Debug)]
pub struct Output {
    fd: OwnedFd,
    /// Which one.
    pub source: Source,
    /// Its unfinished line.
    pub lines: Lines,
    /// It was asked for more room already.
    widened: bool,
}

/// What one read of an output gave.
#[derive(Debug, PartialEq, Eq)]
pub enum Taken {
    /// So many bytes.
    Bytes(usize),
    /// Nothing at the moment.
    Empty,
    /// Nobody writes any more.
    End,
}

impl Output {
    /// An output that is read from `fd`, which does not block.
    fn new(fd: OwnedFd, source: Source) -> Self {
        Self { fd, source, lines: Lines::default(), widened: false }
    }

    /// Reads once, without blocking, into the free room of `buffer`, which is empty.
    pub fn take(&self, buffer: &mut Vec<u8>) -> Taken {
        match rustix::io::read(&self.fd, rustix::buffer::spare_capacity(buffer)) {
            Ok(0) => Taken::End,
            Ok(n) => Taken::Bytes(n),
            Err(Errno::AGAIN | Errno::INTR) => Taken::Empty,
            // EIO: the last slave of the terminal is closed.
            Err(_) => Taken::End,
        }
    }

    /// Gives the pipe more room, once.
    pub fn widen(&mut self) {
        if !std::mem::replace(&mut self.widened, true) {
            // Only a wish: beyond the user's pipe quota, or where it is a terminal, it stays as it is.
            let _ = rustix::pipe::fcntl_setpipe_size(&self.fd, PIPE_SIZE);
        }
    }
}

impl AsFd for Output {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The container's standard input as the monitor holds it.
#[derive(Debug, Default)]
pub struct Input {
    fd: Option<OwnedFd>,
    /// What waits, behind `sent` bytes that do not any more.
    pending: Vec<u8>,
    sent: usize,
    closing: bool,
    tty: bool,
    /// It was asked for more room already.
    widened: bool,
}

impl Input {
    /// Queues bytes; they are dropped if input is closed.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.fd.is_none() || self.closing {
            return;
        }
        // What the container takes at once is not copied.
        let taken = if self.has_pending() { 0 } else { self.write(bytes) };
        if self.fd.is_some() {
            self.pending.drain(..self.sent);
            self.sent = 0;
            self.pending.extend_from_slice(bytes.get(taken..).unwrap_or_default());
        }
    }

    /// Closes input after what is queued; a terminal stays open.
    pub fn close(&mut self) {
        self.closing = !self.tty;
        self.send();
    }

    /// Whether the descriptor should be polled for room.
    #[must_use]
    pub fn waiting(&self) -> Option<&OwnedFd> {
        self.fd.as_ref().filter(|_| self.has_pending())
    }

    /// Whether clients should hold their input back.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.pending.len() - self.sent > MAX_PENDING_INPUT
    }

    fn has_pending(&self) -> bool {
        self.sent < self.pending.len()
    }

    /// Sends what waits, as far as the container takes it.
    pub fn send(&mut self) {
        if self.has_pending() {
            let pending = std::mem::take(&mut self.pending);
            self.sent += self.write(&pending[self.sent..]);
            self.pending = pending;
        }
        if !self.has_pending() || self.fd.is_none() {
            self.sent = 0;
            // What a burst needed is given back.
            if self.pending.capacity() > CHUNK {
                self.pending = Vec::new();
            }
            self.pending.clear();
            if self.closing {
                self.fd = None;
            }
        }
    }

    /// Writes as much as the container takes now; how much. A container that takes none any more has no input.
    fn write(&mut self, bytes: &[u8]) -> usize {
        let mut done = 0;
        while let Some(fd) = &self.fd
            && done < bytes.len()
        {
            match rustix::io::write(fd, &bytes[done..]) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    if !std::mem::replace(&mut self.widened, true) {
                        // Only a wish, as for output.
                        let _ = rustix::pipe::fcntl_setpipe_size(fd, INPUT_PIPE_SIZE);
                    }
                    break;
                }
                Err(_) => self.fd = None,
            }
        }
        done
    }
}

/// A running container.
pub struct Run {
    /// The process and its cgroup.
    pub running: Running,
    /// Its open output streams.
    pub outputs: Vec<Output>,
    /// Its input.
    pub input: Input,
    /// When it began.
    pub started: Instant,
    /// When it is to be killed.
    pub kill_at: Option<Instant>,
    /// Set when it has been reaped: the code, and until when its output is still waited for.
    pub exited: Option<(i32, Instant)>,
    /// Somebody asked for its end.
    pub stopped: bool,
    /// The health check asked for its end.
    pub unhealthy: bool,
    /// OOM notifications.
    pub oom: Option<fluyt_runtime::OomWatch>,
    /// The resolver on 127.0.0.11.
    pub dns: Option<fluyt_net::dns::Server>,
    /// The health check in progress.
    pub probe: Option<Probe>,
    /// When the next health check is due.
    pub probe_at: Option<Instant>,
    /// The published ports as they were chosen.
    pub ports: Vec<PortMapping>,
    /// Bound sockets that keep others from taking the published ports.
    reserved: Vec<fluyt_net::Reservation>,
    /// The container has a process id namespace of its own: with its first process, all end.
    own_pids: bool,
    /// The network namespace, for plugs made while it runs.
    pub netns: Option<OwnedFd>,
    /// Its root file system, so that it is not the container's last process that gives it up: before an overlay goes,
    /// the kernel writes back all of the file system that its upper directory is on.
    root: Option<OwnedFd>,
}

impl Run {
    /// Starts the container as `spec` and `oci` say; when this returns, its command has been executed.
    ///
    /// # Errors
    /// Whatever the kernel or the configuration objects to; everything done so far is undone.
    pub fn start(
        spec: &MonitorSpec,
        oci: Spec,
        size: Option<(u16, u16)>,
        firewall: &mut Option<Firewall>,
    ) -> Result<Self> {
        let (io, ends) = streams(spec, size)?;
        let rootfs = spec.rootfs.overlay();
        let own_pids =
            oci.linux().namespaces.iter().any(|n| n.kind == "pid" && n.path.as_os_str().is_empty());
        let block_signals = runs_our_init(&oci);
        let launch =
            Launch { io, block_signals, ..Launch::new(spec.id.clone(), oci, spec.dir.clone(), rootfs) };
        let starting = fluyt_runtime::launch(launch)?;
        // The child mounts its root file system while its network is plugged in here.
        let wired = crate::network::Wired::up(spec, &starting, firewall)?;
        let mut running = match starting.proceed() {
            Ok(running) => running,
            Err(e) => {
                wired.down(spec, firewall);
                return Err(e);
            }
        };
        let (mut outputs, mut input) = ends;
        if let Some(master) = running.console.take() {
            nonblocking(&master)?;
            let writer = master.try_clone().about(|| "terminal")?;
            input = Input { fd: Some(writer), tty: true, ..Input::default() };
            outputs = vec![Output::new(master, Source::Stdout)];
        }
        let started = Instant::now();
        // What ends before this is opened waits for the disk; nothing else depends on it.
        let root = if spec.restart.condition == RestartCondition::No { root_of(running.pid) } else { None };
        Ok(Self {
            oom: running.cgroup.oom_watch().ok(),
            running,
            outputs,
            input,
            started,
            kill_at: None,
            exited: None,
            stopped: false,
            unhealthy: false,
            dns: wired.dns,
            probe: None,
            probe_at: None,
            ports: wired.ports,
            reserved: wired.reserved,
            own_pids,
            netns: wired.netns,
            root,
        })
    }

    /// Sends a signal to the first process.
    ///
    /// # Errors
    /// It has ended, or the number is no signal.
    pub fn signal(&self, number: i32) -> Result<()> {
        let about = || format!("signal {number} to process {}", self.running.pid);
        fluyt_sys::signal::send(self.running.pidfd.as_fd(), number).about(about)
    }

    /// Collects the exit code if the first process has ended; `grace` is how long its output is still waited for.
    pub fn reap(&mut self, grace: Duration) -> Option<i32> {
        let code = crate::reap(self.running.pidfd.as_fd())?;
        if !self.own_pids {
            // Nothing else would end the processes that it left behind.
            let _ = self.running.cgroup.kill(9);
        }
        self.kill_at = None;
        self.exited = Some((code, Instant::now() + grace));
        Some(code)
    }

    /// Whether nothing more will come: it has been reaped and its output has ended or been waited for long enough.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.exited.is_some_and(|(_, until)| self.outputs.is_empty() || Instant::now() >= until)
    }

    /// Tells the terminal its size.
    pub fn resize(&self, rows: u16, cols: u16) {
        if let Some(output) = self.outputs.first().filter(|_| self.input.tty) {
            let size = rustix::termios::Winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 };
            // The terminal may be closing; then nobody needs its size.
            let _ = rustix::termios::tcsetwinsize(output, size);
        }
    }

    /// Its root file system, to be given up when everybody has been told of the end.
    pub fn take_root(&mut self) -> Option<OwnedFd> {
        self.root.take()
    }

    /// Takes away what the run leaves: its published ports and its cgroups.
    ///
    /// # Errors
    /// Something could not be removed; all the rest was.
    pub fn clean(self, spec: &MonitorSpec, firewall: &mut Option<Firewall>) -> Result<()> {
        drop(self.reserved);
        let unpublished = crate::network::unpublish(spec, &self.ports, firewall);
        self.running.cgroup.delete().and(unpublished)
    }
}

/// Whether the first process is the init that we mount. It blocks its signals first thing; before that, a process 1
/// would lose them. An image's own program of that name knows nothing of it.
fn runs_our_init(oci: &Spec) -> bool {
    let Some(program) = oci.process.as_ref().and_then(|p| p.args.first()).map(Path::new) else {
        return false;
    };
    program.file_name().is_some_and(|name| name == crate::pid1::NAME)
        && oci.mounts.iter().any(|m| m.destination == program)
}

/// The root mount of a process, without anything that is mounted below it.
fn root_of(pid: i32) -> Option<OwnedFd> {
    rustix::fs::open(format!("/proc/{pid}/root"), OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()
}

type Ends = (Vec<Output>, Input);

fn streams(spec: &MonitorSpec, size: Option<(u16, u16)>) -> Result<(Io, Ends)> {
    if spec.tty {
        let (rows, cols) = size.unwrap_or(spec.console_size);
        return Ok((Io::Terminal { rows, cols, returns: true }, (Vec::new(), Input::default())));
    }
    let (stdin, input) = match spec.stdin {
        Stdin::Null => {
            let null = rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
            (null.about(|| "/dev/null")?, Input::default())
        }
        Stdin::Open | Stdin::Once => {
            let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).about(|| "pipe")?;
            nonblocking(&writer)?;
            (reader, Input { fd: Some(writer), ..Input::default() })
        }
    };
    let (stdout, out) = output(Source::Stdout)?;
    let (stderr, err) = output(Source::Stderr)?;
    Ok((Io::Fds { stdin, stdout, stderr }, (vec![out, err], input)))
}

fn output(source: Source) -> Result<(OwnedFd, Output)> {
    let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).about(|| "pipe")?;
    nonblocking(&reader)?;
    Ok((writer, Output::new(reader, source)))
}

pub(crate) fn nonblocking(fd: &OwnedFd) -> Result<()> {
    let flags = rustix::fs::fcntl_getfl(fd).map_err(|e| Error::io("file status flags", e.into()))?;
    rustix::fs::fcntl_setfl(fd, flags | OFlags::NONBLOCK)
        .map_err(|e| Error::io("file status flags", e.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that tell their place.
    fn pattern(from: usize, len: usize) -> Vec<u8> {
        (from..from + len).map(|at| u8::try_from(at % 251).expect("small")).collect()
    }

    #[test]
    fn input_arrives_whole_and_in_order_however_slowly_it_is_read() {
        use rustix::pipe::{PipeFlags, pipe_with};
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).expect("a pipe");
        let mut input = Input { fd: Some(writer), ..Input::default() };
        let (mut sent, mut got) = (0, Vec::new());
        let mut room = [0; 3000];
        while sent < 2 << 20 {
            let len = 1 + (sent * 7) % 40_000;
            input.push(&pattern(sent, len));
            sent += len;
            for _ in 0..len / 4000 {
                let n = rustix::io::read(&reader, &mut room).unwrap_or(0);
                got.extend_from_slice(&room[..n]);
            }
            if input.is_full() {
                assert!(input.waiting().is_some());
                input.send();
            }
        }
        input.close();
        while let Ok(n) = rustix::io::read(&reader, &mut room) {
            got.extend_from_slice(&room[..n]);
            if n == 0 {
                break;
            }
            input.send();
        }
        assert!(got == pattern(0, sent), "{} of {sent} bytes", got.len());
        assert!(input.waiting().is_none() && input.pending.capacity() <= CHUNK, "little is kept");
    }
}
