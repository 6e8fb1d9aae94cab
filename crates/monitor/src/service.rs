//! The monitor's loop: one thread, one poll, no decisions of its own beyond order.
//!
//! ```text
//!            Start ok                  exit, policy says again
//!  waiting ───────────► running ─────────────────────────► pausing
//!     │ failed             │ ▲                                │
//!     ▼                    │ └────────────────────────────────┘ pause over
//!    end ◄─────────────────┴── exit, policy says no / stopped by hand
//! ```

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use fluyt_model::error::IoContext;
use fluyt_model::sandbox::{Health, HealthStatus, OnFailure, Phase, RestartCondition, SandboxStatus, Stdin};
use fluyt_model::{Error, Kind, Result};
use fluyt_net::Firewall;
use fluyt_runtime::spec::Spec;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::client::{Client, Mode, Said};
use crate::guard::Guard;
use crate::log::{Sink, Source};
use crate::notify::Notifier;
use crate::probe::{self, Probe};
use crate::protocol::{FrameKind, Reply, Request};
use crate::run::{BURST, CHUNK, Run, Taken};
use crate::spec::MonitorSpec;
use crate::state::Subject;
use crate::{health, restart, state};

/// How long output of an ended container is waited for when somebody else still holds its pipe.
const DRAIN: Duration = Duration::from_secs(2);
/// After so long without much output the memory that it needed is given back.
const CALM: Duration = Duration::from_millis(200);
/// So much output at once is much, bytes.
const MUCH: usize = 8 * 1024;

/// What to poll for, in the order in which it is handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    Output(usize),
    Exit,
    Input,
    Oom,
    Dns,
    Probe,
    Watcher,
    Notify,
    Listener,
    Client(usize),
}

/// How a monitor's work ended.
#[derive(Clone, Copy, Debug)]
pub struct End {
    /// The monitor should remove the container.
    pub remove: bool,
    /// The container's exit code.
    pub code: i32,
}

/// The monitor of one container.
pub struct Service {
    spec: MonitorSpec,
    status: SandboxStatus,
    listener: UnixListener,
    clients: Vec<Client>,
    sink: Sink,
    /// The connection to the firewall, while it is being used.
    firewall: Option<Firewall>,
    /// A start has left free memory behind.
    untidy: bool,
    run: Option<Run>,
    /// When an ended container is started again.
    again_at: Option<Instant>,
    series: restart::Series,
    /// The connection to the watcher of the data root.
    guard: Guard,
    /// The service manager that waits for the container.
    notifier: Option<Notifier>,
    /// Mounted volumes, as long as the container is meant to live.
    volumes: Vec<crate::volumes::Held>,
    buffer: Vec<u8>,
    /// When memory that much output needed is given back.
    calm_at: Option<Instant>,
    size: Option<(u16, u16)>,
    over: bool,
    /// It has been started, or was to be.
    begun: bool,
    /// Whoever stopped it is about to start it again.
    kept: bool,
    /// At the end somebody was attached who removes the container.
    removed_by_client: bool,
}

impl Service {
    /// Takes over the container that `spec` describes; `starter` asked for it and says [`Request::Start`] first.
    ///
    /// # Errors
    /// The status cannot be read, the log or the socket cannot be opened.
    pub fn new(spec: MonitorSpec, listener: UnixListener, starter: Option<UnixStream>) -> Result<Self> {
        let status = state::load(&spec.dir)?;
        listener.set_nonblocking(true).about(|| spec.run_dir.display().to_string())?;
        let mut service = Self {
            status,
            listener,
            clients: Vec::new(),
            sink: Sink::None,
            firewall: None,
            untidy: false,
            run: None,
            again_at: None,
            series: restart::Series::default(),
            guard: Guard::default(),
            notifier: None,
            volumes: Vec::new(),
            buffer: Vec::new(),
            calm_at: None,
            size: None,
            over: false,
            begun: false,
            kept: false,
            removed_by_client: false,
            spec,
        };
        match starter {
            Some(socket) => service.clients.push(Client::new(socket).about(|| "starter")?),
            None => service.begin()?,
        }
        Ok(service)
    }

    /// Runs until the container has ended for good; says how.
    ///
    /// # Errors
    /// The first start failed (the starter has been told), or polling is impossible.
    pub fn serve(mut self) -> Result<End> {
        while !self.over {
            let ready = self.wait()?;
            for token in ready {
                self.handle(token);
            }
            self.on_time();
            self.clients.iter_mut().for_each(Client::send);
            self.drop_finished_clients();
            if !self.over {
                self.tidy();
            }
            if self.run.is_none() && self.again_at.is_none() && self.clients.is_empty() {
                // The starter went away before it asked.
                self.over = true;
            }
        }
        self.clients.iter_mut().for_each(Client::send_all);
        // The end of the process closes it: nobody need wait for that.
        std::mem::forget(self.firewall.take());
        let remove = self.spec.auto_remove && !self.removed_by_client && !self.kept;
        Ok(End { remove, code: self.status.exit_code })
    }

    /// What can wait until everybody has been answered.
    fn tidy(&mut self) {
        self.firewall = None;
        if std::mem::take(&mut self.untidy) {
            fluyt_sys::heap::trim();
        }
    }

    /// Sleeps until something happens or is due; says what happened.
    fn wait(&self) -> Result<Vec<Token>> {
        let (tokens, mut fds): (Vec<Token>, Vec<PollFd<'_>>) = self.watched().into_iter().unzip();
        let timeout = self.next_deadline().map(|at| {
            let left = at.saturating_duration_since(Instant::now());
            Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: i64::from(left.subsec_nanos()) }
        });
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok(Vec::new()),
            Err(e) => return Err(Error::io("poll", e.into())),
        }
        let happened = fds.iter().map(|fd| !fd.revents().is_empty());
        Ok(tokens.iter().zip(happened).filter(|(_, yes)| *yes).map(|(token, _)| *token).collect())
    }

    fn watched(&self) -> Vec<(Token, PollFd<'_>)> {
        let watch = PollFd::from_borrowed_fd;
        let mut list = Vec::with_capacity(8 + self.clients.len());
        let mut input_full = false;
        if let Some(run) = &self.run {
            // A client that does not read holds the container's output back, as a pipe would.
            if !self.clients.iter().any(Client::is_slow) {
                let outputs = run.outputs.iter().enumerate();
                list.extend(
                    outputs.map(|(index, o)| (Token::Output(index), watch(o.as_fd(), PollFlags::IN))),
                );
            }
            if run.exited.is_none() {
                list.push((Token::Exit, watch(run.running.pidfd.as_fd(), PollFlags::IN)));
            }
            list.extend(run.input.waiting().map(|fd| (Token::Input, watch(fd.as_fd(), PollFlags::OUT))));
            list.extend(run.oom.as_ref().map(|oom| (Token::Oom, watch(oom.fd(), PollFlags::IN))));
            list.extend(run.dns.as_ref().map(|dns| (Token::Dns, watch(dns.as_fd(), PollFlags::IN))));
            list.extend(
                run.probe.iter().flat_map(Probe::fds).map(|fd| (Token::Probe, watch(fd, PollFlags::IN))),
            );
            input_full = run.input.is_full();
        }
        list.extend(self.guard.fd().map(|fd| (Token::Watcher, watch(fd, PollFlags::IN))));
        let said = self.notifier.as_ref().and_then(Notifier::fd);
        list.extend(said.map(|fd| (Token::Notify, PollFd::from_borrowed_fd(fd, PollFlags::IN))));
        list.push((Token::Listener, watch(self.listener.as_fd(), PollFlags::IN)));
        for (index, client) in self.clients.iter().enumerate() {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::IN, !input_full);
            flags.set(PollFlags::OUT, client.has_output());
            list.push((Token::Client(index), watch(client.as_fd(), flags)));
        }
        list
    }

    fn next_deadline(&self) -> Option<Instant> {
        let run = self.run.as_ref();
        let probe = run.and_then(|r| r.probe.as_ref().map_or(r.probe_at, |p| Some(p.deadline)));
        let drained = run.and_then(|r| r.exited.map(|(_, until)| until));
        let kill = run.and_then(|r| r.kill_at);
        let dns = run.and_then(|r| r.dns.as_ref()?.timeout()).map(|left| Instant::now() + left);
        let own = [self.again_at, self.guard.deadline(), self.calm_at];
        [probe, drained, dns, kill].into_iter().chain(own).flatten().min()
    }

    fn handle(&mut self, token: Token) {
        match token {
            Token::Output(index) => self.take_output(index),
            Token::Exit => self.reap(),
            Token::Input => {
                if let Some(run) = &mut self.run {
                    run.input.send();
                }
            }
            Token::Oom => self.on_oom(),
            Token::Dns => self.resolve_names(),
            // Both ends of a check may have become ready: the second finds it done, and must not begin another.
            Token::Probe if self.run.as_ref().is_some_and(|run| run.probe.is_some()) => self.poll_probe(),
            Token::Probe => {}
            Token::Watcher => self.guard.lost(),
            Token::Notify => self.notifier.iter().for_each(Notifier::pass_on),
            Token::Listener => self.accept(),
            Token::Client(index) => self.hear(index),
        }
    }

    /// Does what is due.
    fn on_time(&mut self) {
        let now = Instant::now();
        self.untidy |= self.guard.on_time(&self.spec);
        if self.calm_at.is_some_and(|at| at <= now) {
            self.calm_at = None;
            self.buffer = Vec::new();
            self.sink.relax();
            self.untidy = true;
        }
        if self.again_at.is_some_and(|at| at <= now) {
            self.again_at = None;
            if let Err(e) = self.begin() {
                self.failed_again(&e);
            }
        }
        if self
            .run
            .as_ref()
            .is_some_and(|r| r.dns.as_ref().is_some_and(|d| d.timeout().is_some_and(|t| t.is_zero())))
        {
            self.resolve_names();
        }
        let Some(run) = &mut self.run else { return };
        if run.kill_at.is_some_and(|at| at <= now) {
            run.kill_at = None;
            // It may have ended this very moment.
            let _ = run.signal(9);
        }
        if run.probe.is_some() || run.probe_at.is_some_and(|at| at <= now) {
            self.poll_probe();
        }
        self.drain_rest();
        if self.run.as_ref().is_some_and(Run::is_over) {
            self.ended();
        }
    }

    fn begin(&mut self) -> Result<()> {
        self.begun = true;
        let oci = configuration(&self.spec)?;
        let env = oci.process.as_ref().map(|p| p.env.clone()).unwrap_or_default();
        if self.notifier.is_none()
            && let Some(notify) = &self.spec.notify
        {
            self.notifier = Some(Notifier::open(notify, &self.spec.run_dir)?);
        }
        if matches!(self.sink, Sink::None) {
            self.sink = Sink::open(&self.spec.log, &self.spec.log_path, &origin(&self.spec, env))?;
        }
        self.untidy = true;
        if self.volumes.is_empty() && !self.spec.volumes.is_empty() {
            self.volumes = crate::volumes::hold(&self.spec.volumes)?;
        }
        let mut run = Run::start(&self.spec, oci, self.size, &mut self.firewall)?;
        if let Some(check) = &self.spec.health {
            run.probe_at = Some(Instant::now() + health::delay(check, &Health::default(), Duration::ZERO));
        }
        self.status = SandboxStatus {
            phase: Phase::Running,
            pid: run.running.pid,
            pid_start: run.running.start_time,
            started_at: state::now(),
            finished_at: self.status.finished_at,
            restart_count: self.series.count,
            health: self.spec.health.as_ref().map(|_| Health::default()),
            ports: run.ports.clone(),
            cgroup: serde_json::to_value(run.running.cgroup.paths()).unwrap_or_default(),
            ..SandboxStatus::default()
        };
        self.run = Some(run);
        self.guard.follow(&self.spec);
        self.save();
        // While this process is where the service manager started it.
        self.notifier.iter_mut().for_each(Notifier::started);
        self.events("start", &[], Companions::Taken);
        Ok(())
    }

    /// A restart by policy could not be made: that counts as an end.
    fn failed_again(&mut self, error: &Error) {
        self.status.error = error.chain();
        self.status.exit_code = exit_code(error);
        self.status.finished_at = state::now();
        let ended = restart::Ended {
            code: self.status.exit_code,
            ran: Duration::ZERO,
            by_user: false,
            unhealthy: false,
        };
        self.settle(ended);
    }

    fn take_output(&mut self, index: usize) {
        let Some(run) = &mut self.run else { return };
        let Some(output) = run.outputs.get_mut(index) else { return };
        // Most containers say nothing for most of the time, and many never do. Room that is not read into stays
        // untouched and costs nothing.
        self.buffer.clear();
        self.buffer.reserve_exact(CHUNK);
        let source = output.source;
        match output.take(&mut self.buffer) {
            Taken::Bytes(n) => {
                if n >= MUCH {
                    self.calm_at = Some(Instant::now() + CALM);
                }
                if n >= CHUNK {
                    output.widen();
                }
                if self.sink.takes_lines() {
                    let (time, sink) = (state::now(), &mut self.sink);
                    output.lines.push(&self.buffer, |line| sink.line(source, time, line));
                }
                let kind = if source == Source::Stdout { FrameKind::Stdout } else { FrameKind::Stderr };
                for client in self.clients.iter_mut().filter(|c| matches!(c.mode, Mode::Attached { .. })) {
                    client.frame(kind, &self.buffer);
                }
                if let Err(e) = self.sink.flush() {
                    // A full disk loses log lines; it must not stop the container.
                    self.status.error = e.chain();
                }
                if n >= CHUNK && self.buffer.capacity() < BURST {
                    self.buffer = Vec::with_capacity(BURST);
                }
            }
            Taken::Empty => {}
            Taken::End => {
                let (time, sink) = (state::now(), &mut self.sink);
                run.outputs[index].lines.finish(|line| sink.line(source, time, line));
                let _ = self.sink.flush();
                run.outputs.remove(index);
            }
        }
    }

    /// Once the container has ended, reads until its output has ended too.
    fn drain_rest(&mut self) {
        let Some(run) = &self.run else { return };
        if run.exited.is_none() || self.clients.iter().any(Client::is_slow) {
            return;
        }
        for index in (0..run.outputs.len()).rev() {
            self.take_output(index);
        }
    }

    fn reap(&mut self) {
        let Some(run) = &mut self.run else { return };
        if let Some(code) = run.reap(DRAIN) {
            self.status.exit_code = code;
            self.status.finished_at = state::now();
        }
    }

    /// The run is over, output and all: clean up behind it and decide what comes next.
    fn ended(&mut self) {
        let Some(mut run) = self.run.take() else { return };
        for mut output in std::mem::take(&mut run.outputs) {
            let (time, sink, source) = (state::now(), &mut self.sink, output.source);
            output.lines.finish(|line| sink.line(source, time, line));
        }
        let _ = self.sink.flush();
        let code = self.status.exit_code;
        self.status.oom_killed |= run.running.cgroup.oom_kills().is_ok_and(|n| n > 0);
        let ended = restart::Ended {
            code,
            ran: run.started.elapsed(),
            by_user: run.stopped,
            unhealthy: run.unhealthy,
        };
        self.status.pid = 0;
        self.status.pid_start = 0;
        self.status.stopped_by_user = run.stopped;
        self.status.ports.clear();
        let root = run.take_root();
        if let Err(e) = run.clean(&self.spec, &mut self.firewall) {
            self.status.error = e.chain();
        }
        self.events("die", &[("exitCode", &code.to_string())], Companions::LetGo);
        self.settle(ended);
        if self.over {
            // The end of this process gives it up, and waits for the disk then: nobody waits for this process.
            std::mem::forget(root);
        }
    }

    /// Restarts or ends, and tells everybody who waits.
    fn settle(&mut self, ended: restart::Ended) {
        let next = restart::decide(self.spec.restart, self.series, ended);
        match next {
            Some((pause, series)) => {
                self.series = series;
                self.again_at = Some(Instant::now() + pause);
                self.status.phase = Phase::Restarting;
            }
            None => {
                self.status.phase = Phase::Exited;
                self.over = true;
                self.volumes.clear();
                // A stale name misleads nobody for long: the next start on the network writes them anew.
                let _ = crate::network::withdraw(&self.spec);
            }
        }
        self.status.restart_count = self.series.count;
        self.save();
        // After the status is on disk: a client that breaks off looks there. Either it has gone by now, and this process
        // removes the container, or it will see that the container is over, and removes it.
        self.removed_by_client = self.over && self.clients.iter().any(Client::will_remove);
        for client in &mut self.clients {
            match client.mode {
                Mode::Waiting => {
                    client.reply(&Reply::Exited { code: ended.code });
                    client.mode = Mode::Done;
                }
                Mode::Attached { .. } if self.over => {
                    client.frame(FrameKind::Exit, &ended.code.to_be_bytes());
                    client.mode = Mode::Done;
                }
                _ => {}
            }
        }
    }

    fn resolve_names(&mut self) {
        if let Some(dns) = self.run.as_mut().and_then(|r| r.dns.as_mut()) {
            dns.run();
        }
    }

    fn on_oom(&mut self) {
        let Some(run) = self.run.as_mut() else { return };
        let Some(oom) = &mut run.oom else { return };
        if oom.take() > 0 && !self.status.oom_killed {
            self.status.oom_killed = true;
            self.save();
            self.event("oom", &[]);
        }
    }

    fn poll_probe(&mut self) {
        let (Some(check), Some(run)) = (&self.spec.health, &mut self.run) else {
            return;
        };
        if run.exited.is_some() || self.status.phase == Phase::Paused {
            run.probe_at = None;
            return;
        }
        let result = match &mut run.probe {
            Some(probe) => probe.poll(check.timeout),
            // Kept in memory between two checks, the configuration would cost every monitor more than all the rest.
            None => match configuration(&self.spec).and_then(|oci| Probe::start(check, &run.running, &oci)) {
                Ok(probe) => {
                    run.probe = Some(probe);
                    run.probe_at = None;
                    return;
                }
                Err(e) => Some(probe::failed(&e)),
            },
        };
        let Some(result) = result else { return };
        run.probe = None;
        let since_start = run.started.elapsed();
        let before = self.status.health.take().unwrap_or_default();
        let was = before.status;
        let after = health::record(check, before, result, since_start);
        run.probe_at = Some(Instant::now() + health::delay(check, &after, since_start));
        let is = after.status;
        self.status.health = Some(after);
        if is == HealthStatus::Healthy {
            self.notifier.iter_mut().for_each(Notifier::healthy);
        }
        if is != was
            && is == HealthStatus::Unhealthy
            && self.spec.restart.condition == RestartCondition::OnUnhealthy
        {
            run.unhealthy = true;
            let _ = run.signal(stop_signal(&self.spec));
            run.kill_at = stop_timeout(&self.spec).map(|t| Instant::now() + t);
        } else if is != was && is == HealthStatus::Unhealthy {
            // It may have ended this very moment.
            match check.on_failure {
                OnFailure::Nothing => {}
                OnFailure::Kill => drop(run.signal(9)),
                OnFailure::Stop => {
                    let _ = run.signal(stop_signal(&self.spec));
                    run.kill_at = stop_timeout(&self.spec).map(|t| Instant::now() + t);
                }
            }
        }
        self.save();
        if is != was {
            self.event(&format!("health_status: {}", is.as_str()), &[]);
        }
    }

    fn accept(&mut self) {
        while let Ok((socket, _)) = self.listener.accept() {
            if let Ok(client) = Client::new(socket) {
                self.clients.push(client);
            }
        }
    }

    fn hear(&mut self, index: usize) {
        let Some(client) = self.clients.get_mut(index) else { return };
        for said in client.receive() {
            match said {
                Said::Request(request) => self.answer(index, request),
                Said::Input(bytes) => {
                    if let Some(run) = &mut self.run {
                        run.input.push(&bytes);
                    }
                }
                Said::InputEnd => self.close_input(),
                Said::Resize(rows, cols) => self.resize(rows, cols),
                Said::Gone => {
                    // Input that was opened for one client ends with it.
                    if self.clients[index].mode == (Mode::Attached { stdin: true })
                        && self.spec.stdin == Stdin::Once
                    {
                        self.close_input();
                    }
                }
            }
        }
    }

    fn close_input(&mut self) {
        if let Some(run) = &mut self.run {
            run.input.close();
        }
    }

    fn resize(&mut self, rows: u16, cols: u16) {
        self.size = Some((rows, cols));
        if let Some(run) = &self.run {
            run.resize(rows, cols);
        }
    }

    fn drop_finished_clients(&mut self) {
        self.clients.retain(|c| !c.is_finished());
    }

    fn answer(&mut self, index: usize, request: Request) {
        let outcome = match request {
            Request::Start { .. } => self.answer_start(index, &request),
            Request::Attach { .. } if self.run.is_some() || self.again_at.is_some() || !self.begun => {
                Ok(Some(Reply::Ok))
            }
            Request::Attach { .. } => Err(Error::conflict("the container does not run")),
            Request::Wait => Ok(None),
            Request::Stop { signal, timeout, keep } => {
                self.kept = keep;
                self.stop(signal, timeout)
            }
            Request::Kill { signal } => self.kill(signal),
            Request::Pause => self.freeze(true),
            Request::Unpause => self.freeze(false),
            Request::Resize { rows, cols } => {
                self.resize(rows, cols);
                Ok(Some(Reply::Ok))
            }
            Request::Reload => self.reload(),
            Request::Connect { bridge, plug } => self.connect(bridge.as_deref(), &plug),
            Request::Disconnect { plug } => self.disconnect(&plug),
        };
        let Some(client) = self.clients.get_mut(index) else { return };
        let reply = match outcome {
            Ok(None) => return,
            Ok(Some(reply)) => reply,
            Err(e) => {
                client.mode = Mode::Done;
                Reply::failed(&e)
            }
        };
        if client.mode == Mode::Waiting {
            client.mode = Mode::Done;
        }
        client.reply(&reply);
    }

    fn answer_start(&mut self, index: usize, request: &Request) -> Result<Option<Reply>> {
        let &Request::Start { attach, removes, size, restarts, .. } = request else { return Ok(None) };
        if self.run.is_some() {
            return Err(Error::conflict("the container runs already"));
        }
        self.size = size;
        self.series.count = restarts;
        self.clients[index].removes = removes;
        if !attach {
            self.clients[index].mode = Mode::Done;
        }
        match self.begin() {
            Ok(()) => {
                // Answered first: who waits for the start need not wait for this.
                self.clients[index].reply(&Reply::Ok);
                if let Some(run) = &self.run
                    && let Err(e) = crate::refuge::enter(run.running.cgroup.paths())
                {
                    eprintln!("fluyt: monitor of {}: {}", self.spec.id, e.chain());
                }
                Ok(None)
            }
            Err(e) if restarts > 0 => {
                self.guard.follow(&self.spec);
                self.failed_again(&e);
                Err(e)
            }
            Err(e) => {
                self.over = true;
                self.status.phase = if self.status.started_at == 0 { Phase::Created } else { Phase::Exited };
                self.status.error = e.chain();
                self.status.exit_code = exit_code(&e);
                self.save();
                Err(e)
            }
        }
    }

    fn stop(&mut self, signal: i32, timeout: i64) -> Result<Option<Reply>> {
        if self.again_at.take().is_some() {
            // Between two runs: it simply does not come back.
            self.status.stopped_by_user = true;
            let code = self.status.exit_code;
            self.settle(restart::Ended { code, ran: Duration::ZERO, by_user: true, unhealthy: false });
            return Ok(Some(Reply::Exited { code }));
        }
        let Some(run) = &mut self.run else { return Err(Error::conflict("the container does not run")) };
        run.stopped = true;
        if run.exited.is_none() {
            run.signal(signal)?;
            let timeout = u64::try_from(timeout).ok();
            run.kill_at = timeout.map(|s| Instant::now() + Duration::from_secs(s));
            self.thaw_if_paused()?;
        }
        Ok(None)
    }

    fn kill(&mut self, signal: i32) -> Result<Option<Reply>> {
        if self.again_at.is_some() {
            return self.stop(signal, 0).map(|_| Some(Reply::Ok));
        }
        let ends = signal == 9 || signal == stop_signal(&self.spec);
        let Some(run) = self.run.as_mut().filter(|r| r.exited.is_none()) else {
            return Err(Error::conflict("the container does not run"));
        };
        run.stopped = true;
        run.signal(signal)?;
        if ends {
            self.thaw_if_paused()?;
        }
        Ok(Some(Reply::Ok))
    }

    fn thaw_if_paused(&mut self) -> Result<()> {
        if self.status.phase == Phase::Paused {
            self.freeze(false)?;
        }
        Ok(())
    }

    fn freeze(&mut self, on: bool) -> Result<Option<Reply>> {
        let Some(run) = &self.run else { return Err(Error::conflict("the container does not run")) };
        let paused = self.status.phase == Phase::Paused;
        if on == paused {
            let state = if paused { "already paused" } else { "not paused" };
            return Err(Error::conflict(format!("the container is {state}")));
        }
        if on {
            run.running.cgroup.freeze()?;
        } else {
            run.running.cgroup.thaw()?;
        }
        self.status.phase = if on { Phase::Paused } else { Phase::Running };
        if let (false, Some(check), Some(run)) = (on, &self.spec.health, &mut self.run) {
            run.probe_at = Some(Instant::now() + Duration::from_nanos(check.interval));
        }
        self.save();
        self.event(if on { "pause" } else { "unpause" }, &[]);
        Ok(Some(Reply::Ok))
    }

    fn reload(&mut self) -> Result<Option<Reply>> {
        let fresh = MonitorSpec::load(&self.spec.dir)?;
        self.spec.restart = fresh.restart;
        self.spec.attributes = fresh.attributes;
        self.spec.network = fresh.network;
        self.spec.companions = fresh.companions;
        self.guard.follow(&self.spec);
        if let Some(run) = &mut self.run
            && let (Some(config), Some(netns)) = (&self.spec.network.dns, &run.netns)
        {
            match &mut run.dns {
                Some(dns) => dns.reconfigure(config),
                // Another member's program has the port.
                None if self.spec.network.joined => {}
                none => *none = Some(fluyt_net::dns::Server::open(netns.as_fd(), config)?),
            }
        }
        Ok(Some(Reply::Ok))
    }

    fn connect(
        &mut self,
        bridge: Option<&fluyt_net::BridgeSpec>,
        plug: &crate::spec::Plug,
    ) -> Result<Option<Reply>> {
        if let Some(bridge) = bridge {
            fluyt_net::ensure_bridge(&crate::network::scope(&self.spec), bridge)?;
        }
        if let Some(netns) = self.run.as_ref().and_then(|r| r.netns.as_ref()) {
            fluyt_net::attach(&plug.endpoint, netns.as_fd())?;
        }
        self.reload()
    }

    fn disconnect(&mut self, plug: &crate::spec::Plug) -> Result<Option<Reply>> {
        if let Some(netns) = self.run.as_ref().and_then(|r| r.netns.as_ref()) {
            fluyt_net::detach(&plug.endpoint, netns.as_fd())?;
        }
        self.reload()
    }

    fn save(&mut self) {
        if let Err(e) = state::save(&self.spec.dir, &self.status) {
            // The old file stays; the next change tries again. Readers look at the lock and the process besides.
            self.status.error = e.chain();
        }
    }

    fn event(&self, action: &str, more: &[(&str, &str)]) {
        self.events(action, more, Companions::Untouched);
    }

    fn events(&self, action: &str, more: &[(&str, &str)], companions: Companions) {
        let mut attributes: BTreeMap<String, String> = self.spec.attributes.clone();
        attributes.extend(more.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
        let container = Subject { kind: "container".to_owned(), id: self.spec.id.clone(), attributes };
        let of = |subject: &Subject| match (companions, subject.kind == "volume") {
            (Companions::Taken, false) => "connect",
            (Companions::Taken, true) => "mount",
            (_, false) => "disconnect",
            (_, true) => "unmount",
        };
        let freed: Vec<Subject> = match companions {
            Companions::LetGo => self.spec.companions.iter().map(freed).collect(),
            _ => Vec::new(),
        };
        let mut events: Vec<(&str, &Subject)> = match companions {
            Companions::Untouched => Vec::new(),
            Companions::Taken => self.spec.companions.iter().map(|c| (of(c), c)).collect(),
            Companions::LetGo => freed.iter().map(|c| (of(c), c)).collect(),
        };
        // What it needs is there before it starts, and goes after it has died.
        let place = if matches!(companions, Companions::Taken) { events.len() } else { 0 };
        events.insert(place, (action, &container));
        // An event that cannot be written is lost; the container goes on.
        let _ = state::emit(&self.spec.events, &events);
    }
}

/// What an event of the container means for its networks and volumes.
#[derive(Clone, Copy)]
enum Companions {
    Untouched,
    Taken,
    LetGo,
}

/// What is told of something that is let go: of a volume, no more than who had it.
fn freed(subject: &Subject) -> Subject {
    let mut subject = subject.clone();
    if subject.kind == "volume" {
        subject.attributes.retain(|name, _| matches!(name.as_str(), "container" | "driver"));
    }
    subject
}

/// The container's OCI configuration.
fn configuration(spec: &MonitorSpec) -> Result<Spec> {
    let path = spec.dir.join("config.json");
    let text = std::fs::read(&path).about(|| path.display().to_string())?;
    serde_json::from_slice(&text)
        .map_err(|e| Error::corrupt(format!("{}: not an OCI configuration", path.display())).with_source(e))
}

fn origin(spec: &MonitorSpec, env: Vec<String>) -> crate::log::Origin {
    let attribute = |name: &str| spec.attributes.get(name).cloned().unwrap_or_default();
    crate::log::Origin {
        id: spec.id.clone(),
        name: attribute("name"),
        image: attribute("image"),
        env,
        labels: spec.attributes.clone(),
    }
}

/// How long a container may take to stop; `None`: as long as it likes.
fn stop_timeout(spec: &MonitorSpec) -> Option<Duration> {
    u64::try_from(spec.stop.timeout.unwrap_or(10)).ok().map(Duration::from_secs)
}

fn stop_signal(spec: &MonitorSpec) -> i32 {
    fluyt_sys::signal::number(&spec.stop.signal).unwrap_or(15)
}

/// Docker's exit code of a container whose command could not be started.
fn exit_code(error: &Error) -> i32 {
    match error.kind() {
        Kind::CommandNotFound => 127,
        Kind::CommandNotExecutable => 126,
        _ => 128,
    }
}
