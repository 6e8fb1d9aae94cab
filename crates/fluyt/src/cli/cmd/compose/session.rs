//! `up` in the foreground: containers are started, their output is shown, and what ends them all is watched for.
//!
//! What happens comes to one loop as messages: from a thread that follows the engine's events, from a thread a log, from the
//! thread that starts and the thread that stops the project. They end with the session: each looks now and then whether it
//! is over.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::Scope;
use std::time::{Duration, Instant};

use fluyt_compose::execute::{Executor, How, observe};
use fluyt_compose::plan::{self, Container, Observed, Plan};
use fluyt_compose::{Project, labels};
use fluyt_docker_api::api::{Docker, EventsOf, Filters, Follow, LogsOf, Next, Wait};
use fluyt_docker_api::types::EventMessage;
use fluyt_model::{Error, Result};
use fluyt_sys::signals::Signals;

use super::Called;
use super::attached::{Printer, follow, short};
use super::display::Display;
use super::down::only_stops;
use super::up::{Work, shown, tell_running};
use crate::cli::fail::{Failure, Outcome};
use crate::cli::{print_line, time};

const SIGINT: i32 = 2;
const SIGTERM: i32 = 15;
/// How often somebody looks for signals, and whether it is over.
const LOOK: Duration = Duration::from_millis(100);
/// The same while it is not clear yet what has become of a container.
const SOON: Duration = Duration::from_millis(10);
/// So long an engine may take to show what it has told.
const SETTLING: Duration = Duration::from_secs(10);
/// So long the last lines of a container may take that has ended.
const LAST_LINES: Duration = Duration::from_secs(2);
/// The exit code after an interrupt.
const INTERRUPTED: i32 = 130;

/// What has happened.
enum Message {
    /// A container has been made.
    Created(Known),
    /// A container has been started.
    Started(Known),
    /// A container has ended.
    Died(Died),
    /// A log has come to its end; the time of its last line.
    Silent(String, Option<i64>),
    /// Everything has been started, or could not be.
    Up(Result<()>),
    /// Everything has been stopped.
    Stopped,
    /// The events have broken off.
    Deaf(Error),
}

/// A container as events know it.
#[derive(Clone, Debug)]
struct Known {
    id: String,
    service: String,
    /// As its lines are marked.
    name: String,
    replaces: bool,
}

/// `up` in the foreground: containers are started, their output is shown until they have ended or the user ends it.
///
/// # Errors
/// As `up -d`.
pub fn up(called: &Called<'_>, project: &Project, work: &Work, how: How) -> Outcome {
    let docker = called.docker()?;
    let services = shown(called, project)?;
    let display = called.display(called.word)?;
    let (observed, plan) = work.planned(called, project, &display)?;
    tell_running(project, &observed, &plan, &display);
    let (made, starts) = plan.in_two();
    Executor::new(docker, project, &observed, how.clone(), &display).run(&made)?;
    display.finish();
    // From here on an interrupt stops the containers, not us. No thread is there that could take it.
    let signals = Signals::block(&[SIGINT, SIGTERM])?;
    let mut observed = observe(docker, &project.name, Some(project))?;
    observed.containers.retain(|c| !c.one_off && project.service(&c.service).is_some());
    observed.containers.sort_by(|a, b| (&a.service, a.number).cmp(&(&b.service, b.number)));
    let names: Vec<String> = observed
        .containers
        .iter()
        .filter(|c| services.contains(&c.service))
        .map(|c| Known::of(&project.name, c).name)
        .collect();
    print_line(&format!("Attaching to {}", names.join(", ")))?;
    let parsed = called.parsed;
    let from = parsed.given("exit-code-from").filter(|s| !s.is_empty()).map(str::to_owned);
    let failure = parsed.on("abort-on-container-failure");
    let watched = if parsed.args.is_empty() { &services } else { &parsed.args };
    let alive = observed.containers.iter().filter(|c| watched.contains(&c.service)).map(|c| c.id.clone());
    let session = Session {
        docker,
        project,
        printer: Printer::of(called, &names),
        display: called.display(called.word)?.beside_output(),
        stop_how: How { cancel: None, ..how.clone() },
        how: How { cancel: Some(Arc::new(AtomicBool::new(false))), ..how },
        over: AtomicBool::new(false),
        on_failure: failure,
        on_exit: !failure && (parsed.on("abort-on-container-exit") || from.is_some()),
        from,
        named: parsed.args.clone(),
        watched: watched.clone(),
        shown: services.clone(),
    };
    // What a container said when it ran before is not shown again. Times are the engine's: its clock may be another.
    let stopped = observed.containers.iter().filter(|c| !c.is_up());
    let ended = stopped.filter_map(|c| Some((c.id.clone(), ended_at(docker, &c.id)? + 1))).collect();
    let state = State { alive: alive.collect(), ended, ..State::default() };
    session.run(&observed, &starts, state, &signals)
}

/// What does not change while the output is shown.
struct Session<'a> {
    docker: &'a dyn Docker,
    project: &'a Project,
    printer: Printer,
    display: Display,
    how: How,
    stop_how: How,
    over: AtomicBool,
    on_exit: bool,
    on_failure: bool,
    from: Option<String>,
    /// The services that the user named.
    named: Vec<String>,
    /// The services whose containers are waited for.
    watched: Vec<String>,
    /// The services whose output is shown.
    shown: Vec<String>,
}

/// What does.
#[derive(Default)]
struct State {
    /// Containers that have not ended for good.
    alive: BTreeSet<String>,
    /// Until when there is nothing to show, of containers that had ended before.
    ended: BTreeMap<String, i64>,
    /// Logs that are followed, and whether they are to be followed again when they end.
    logs: BTreeMap<String, bool>,
    /// Ends of which it is not clear yet whether they are for good.
    unclear: Vec<Died>,
    /// Containers that have ended, but not their logs: what is to be said then, at the latest at a time.
    ending: BTreeMap<String, (String, String, Instant)>,
    is_up: bool,
    /// The project is being stopped, and has been.
    stopping: bool,
    stopped: Option<Instant>,
    /// The exit code so far, and whether it is that of the service that was asked for.
    code: i32,
    code_is_from: bool,
    interrupts: u32,
    failure: Option<Error>,
}

/// An end of a container, for good or not.
#[derive(Clone, Debug)]
struct Died {
    known: Known,
    code: i32,
    /// When, by the engine's clock.
    at: i64,
    heard: Instant,
}

impl Known {
    fn of(project: &str, container: &Container) -> Self {
        let number = container.number.to_string();
        Self {
            id: container.id.clone(),
            service: container.service.clone(),
            name: short(project, &container.name, &container.service, &number),
            replaces: false,
        }
    }

    fn of_event(project: &str, event: &EventMessage) -> Self {
        let get = |key: &str| event.actor.attributes.get(key).map(String::as_str).unwrap_or_default();
        Self {
            id: event.actor.id.clone(),
            service: get(labels::SERVICE).to_owned(),
            name: short(project, get("name"), get(labels::SERVICE), get(labels::NUMBER)),
            replaces: !get(labels::REPLACE).is_empty(),
        }
    }
}

impl<'a> Session<'a> {
    fn run(&self, observed: &Observed, starts: &Plan, mut state: State, signals: &Signals) -> Outcome {
        let mut filters = Filters::default();
        filters.add("label", &format!("{}={}", labels::PROJECT, self.project.name));
        filters.add("type", "container");
        let events = self.docker.events(&EventsOf { since: None, until: None, filters })?;
        let (sender, receiver) = channel();
        std::thread::scope(|scope| {
            let tell = sender.clone();
            scope.spawn(move || self.listen(events, &tell));
            for container in observed.containers.iter().filter(|c| c.is_up()) {
                let wanted = LogsOf { tail: Some(0), ..output() };
                self.show(scope, &mut state, Known::of(&self.project.name, container), wanted, &sender);
            }
            let tell = sender.clone();
            scope.spawn(move || {
                let executor =
                    Executor::new(self.docker, self.project, observed, self.how.clone(), &self.display);
                let _ = tell.send(Message::Up(executor.run(starts)));
            });
            let outcome = loop {
                if let Some(outcome) = self.end(&mut state) {
                    break outcome;
                }
                match signals.next() {
                    Ok(Some(_)) => self.interrupted(scope, &mut state, observed, &sender),
                    Ok(None) => {}
                    Err(e) => break Err(e.into()),
                }
                let pause = if state.unclear.is_empty() { LOOK } else { SOON };
                match receiver.recv_timeout(pause) {
                    Ok(message) => self.take(scope, &mut state, message, &sender),
                    Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
                }
                for died in std::mem::take(&mut state.unclear) {
                    self.died(scope, &mut state, died, observed, &sender);
                }
            };
            self.over.store(true, Ordering::Relaxed);
            outcome
        })
    }

    /// Tells of containers that come and go.
    fn listen(&self, mut events: Box<dyn Follow<EventMessage>>, tell: &Sender<Message>) {
        let wait = Wait { timeout: Some(LOOK), unless_gone: None };
        while !self.over.load(Ordering::Relaxed) {
            let event = match events.next(wait) {
                Ok(Next::Item(event)) => event,
                Ok(Next::Idle) => continue,
                Ok(Next::End) => {
                    let _ = tell.send(Message::Deaf(Error::internal("the engine's events have ended")));
                    return;
                }
                Err(e) => {
                    let _ = tell.send(Message::Deaf(e));
                    return;
                }
            };
            let attribute =
                |key: &str| event.actor.attributes.get(key).map(String::as_str).unwrap_or_default();
            let service = attribute(labels::SERVICE);
            let one_off = attribute(labels::ONE_OFF).eq_ignore_ascii_case("true");
            if one_off || self.project.service(service).is_none() {
                continue;
            }
            let known = Known::of_event(&self.project.name, &event);
            let message = match event.action.as_str() {
                "create" => Message::Created(known),
                "start" => Message::Started(known),
                "die" => {
                    let code = attribute("exitCode").parse().unwrap_or(1);
                    Message::Died(Died { known, code, at: event.time_nano, heard: Instant::now() })
                }
                _ => continue,
            };
            if tell.send(message).is_err() {
                return;
            }
        }
    }

    /// Shows the log of a container until it ends.
    fn show<'s>(
        &'s self,
        scope: &'s Scope<'s, '_>,
        state: &mut State,
        known: Known,
        wanted: LogsOf,
        tell: &Sender<Message>,
    ) {
        if !self.shown.contains(&known.service) {
            return;
        }
        state.logs.insert(known.id.clone(), false);
        let tell = tell.clone();
        scope.spawn(move || {
            let last = follow(self.docker, &known.id, wanted, &known.name, &self.printer, &self.over);
            let last = last.unwrap_or_else(|e| {
                if !self.over.load(Ordering::Relaxed) {
                    eprintln!("WARN: {}: {}", known.name, e.chain());
                }
                None
            });
            let _ = tell.send(Message::Silent(known.id, last));
        });
    }

    fn take<'s>(
        &'s self,
        scope: &'s Scope<'s, '_>,
        state: &mut State,
        message: Message,
        tell: &Sender<Message>,
    ) {
        match message {
            Message::Created(known) => {
                if known.replaces {
                    self.printer.status(&known.name, "has been recreated");
                }
                if self.watched.contains(&known.service) {
                    state.alive.insert(known.id);
                }
            }
            Message::Started(known) => {
                if self.watched.contains(&known.service) {
                    state.alive.insert(known.id.clone());
                }
                if let Some(again) = state.logs.get_mut(&known.id) {
                    *again = true;
                } else if self.shown.contains(&known.service) {
                    let since = state.ended.get(&known.id).copied();
                    self.show(scope, state, known, LogsOf { since, ..output() }, tell);
                }
            }
            Message::Died(died) => state.unclear.push(died),
            Message::Silent(id, last) => {
                let again = state.logs.remove(&id).unwrap_or(false);
                if let Some((name, what, _)) = state.ending.remove(&id) {
                    self.printer.status(&name, &what);
                } else if again && let Ok(now) = self.docker.container_inspect(&id, false) {
                    let label = |key: &str| now.config.labels.get(key).cloned().unwrap_or_default();
                    let name = now.name.trim_start_matches('/');
                    let (service, number) = (label(labels::SERVICE), label(labels::NUMBER));
                    let name = short(&self.project.name, name, &service, &number);
                    let since = last.map(|t| t + 1).or_else(|| state.ended.get(&id).copied());
                    let known = Known { id, service, name, replaces: false };
                    self.show(scope, state, known, LogsOf { since, ..output() }, tell);
                }
            }
            Message::Up(result) => {
                state.is_up = true;
                if let Err(e) = result
                    && !state.stopping
                {
                    state.failure = Some(e);
                }
            }
            Message::Stopped => state.stopped = Some(Instant::now()),
            Message::Deaf(e) => {
                state.failure.get_or_insert(e);
            }
        }
    }

    /// Whether an end is for good; none while the engine does not show it yet.
    fn for_good(&self, died: &Died) -> Option<bool> {
        let Ok(now) = self.docker.container_inspect(&died.known.id, false) else { return Some(true) };
        if now.state.restarting {
            return Some(false);
        }
        if !now.state.running {
            return Some(true);
        }
        let started = time::parse(&now.state.started_at, time::now()).unwrap_or(0);
        if started > died.at {
            return Some(false);
        }
        (died.heard.elapsed() >= SETTLING).then_some(true)
    }

    fn died<'s>(
        &'s self,
        scope: &'s Scope<'s, '_>,
        state: &mut State,
        died: Died,
        observed: &'s Observed,
        tell: &Sender<Message>,
    ) {
        let for_good = self.for_good(&died);
        let Died { known, code, .. } = match for_good {
            None => return state.unclear.push(died),
            Some(_) => died,
        };
        if for_good == Some(false) {
            self.printer.status(&known.name, &format!("exited with code {code} (restarting)"));
            return;
        }
        if !self.watched.contains(&known.service) && !self.shown.contains(&known.service) {
            return;
        }
        state.alive.remove(&known.id);
        let what = format!("exited with code {code}");
        if state.logs.contains_key(&known.id) {
            state.ending.insert(known.id.clone(), (known.name, what, Instant::now() + LAST_LINES));
        } else {
            self.printer.status(&known.name, &what);
        }
        if self.from.as_ref() == Some(&known.service) && !state.code_is_from {
            (state.code, state.code_is_from) = (code, true);
        }
        if !state.stopping && (self.on_exit || self.on_failure && code != 0) {
            if !state.code_is_from {
                state.code = code;
            }
            eprintln!("Aborting on container exit...");
            self.stop(scope, state, observed, tell);
        }
    }

    fn interrupted<'s>(
        &'s self,
        scope: &'s Scope<'s, '_>,
        state: &mut State,
        observed: &'s Observed,
        tell: &Sender<Message>,
    ) {
        state.interrupts += 1;
        if state.interrupts == 1 {
            eprintln!("Gracefully Stopping... press Ctrl+C again to force");
            if !state.stopping {
                self.stop(scope, state, observed, tell);
            }
            return;
        }
        for container in self.stopped_ones(observed) {
            scope.spawn(|| {
                // It may have ended by now.
                let _ = self.docker.container_kill(&container.id, "KILL");
            });
        }
    }

    /// The containers that an end of the session stops.
    fn stopped_ones<'o>(&self, observed: &'o Observed) -> impl Iterator<Item = &'o Container> {
        let named = self.named.clone();
        observed.containers.iter().filter(move |c| named.is_empty() || named.contains(&c.service))
    }

    /// Stops the project beside all else, those that others depend on last.
    fn stop<'s>(
        &'s self,
        scope: &'s Scope<'s, '_>,
        state: &mut State,
        observed: &'s Observed,
        tell: &Sender<Message>,
    ) {
        state.stopping = true;
        self.how.cancel.iter().for_each(|cancel| cancel.store(true, Ordering::Relaxed));
        let tell = tell.clone();
        scope.spawn(move || {
            if let Err(e) = self.stop_all(observed) {
                eprintln!("WARN: {}", e.chain());
            }
            let _ = tell.send(Message::Stopped);
        });
    }

    fn stop_all(&self, observed: &Observed) -> Result<()> {
        let now = observe(self.docker, &self.project.name, None)?;
        let ours: BTreeSet<&str> = self.stopped_ones(observed).map(|c| c.id.as_str()).collect();
        let services: BTreeSet<&str> = self.stopped_ones(observed).map(|c| c.service.as_str()).collect();
        let mut now = now;
        now.containers.retain(|c| !c.one_off && (ours.contains(&*c.id) || services.contains(&*c.service)));
        let plan =
            only_stops(plan::down(None, &now, &plan::Down::default()), "the output is no longer shown");
        Executor::new(self.docker, self.project, &now, self.stop_how.clone(), &self.display).run(&plan)
    }

    /// Whether it is over, and with which exit code.
    fn end(&self, state: &mut State) -> Option<Outcome> {
        if self.over.load(Ordering::Relaxed) {
            // Nobody reads what is shown.
            return Some(Err(Failure::Code(141)));
        }
        let late: Vec<String> = state
            .ending
            .iter()
            .filter(|(_, (_, _, until))| Instant::now() >= *until)
            .map(|(id, _)| id.clone())
            .collect();
        for (name, what, _) in late.iter().filter_map(|id| state.ending.remove(id)) {
            self.printer.status(&name, &what);
        }
        if let Some(failure) = state.failure.take_if(|_| !state.stopping) {
            return Some(Err(failure.into()));
        }
        // A container that was about to be started again tells nothing when it is stopped.
        let all_told = state.stopped.is_some_and(|at| at.elapsed() >= LAST_LINES);
        let quiet = state.alive.is_empty() && state.ending.is_empty() && state.unclear.is_empty();
        let stopped = !state.stopping || state.stopped.is_some();
        if !(state.is_up && stopped && (quiet || all_told)) {
            return None;
        }
        Some(match state.interrupts {
            0 => Ok(state.code),
            _ => Ok(INTERRUPTED),
        })
    }
}

/// When a container ended last, if it ever did; at the earliest when it said its last.
fn ended_at(docker: &dyn Docker, id: &str) -> Option<i64> {
    let now = docker.container_inspect(id, false).ok()?;
    let ended = time::parse(&now.state.finished_at, time::now()).ok().filter(|at| *at > 0)?;
    let last = LogsOf { follow: false, tail: Some(1), ..output() };
    let said = docker.container_logs(id, last).and_then(|mut logs| logs.lines.next(Wait::FOREVER));
    match said {
        Ok(Next::Item(line)) => Some(ended.max(line.time)),
        // A log that cannot be read is not shown either.
        _ => Some(ended),
    }
}

/// Everything that a container says from now on.
fn output() -> LogsOf {
    LogsOf { follow: true, stdout: true, stderr: true, ..LogsOf::default() }
}
