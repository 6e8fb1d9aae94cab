//! What is there is looked at, and plans are carried out, over Docker's operations.
//!
//! No decision is made here: a step says what it does, and the graph says when. Steps that do not need each other are done
//! side by side, each in a thread that lives as long as its step; waiting steps are looked at by the thread that called.

mod observe;
mod pre_start;
mod report;
mod wait;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fluyt_docker_api::api::Received;
use fluyt_docker_api::api::{
    Docker, PutArchive, RemoveContainer, RemoveImage, StartContainer, StartExec, StopContainer,
};
use fluyt_docker_api::types::{EndpointSettings, ExecOptions};
use fluyt_model::{Error, Kind, Result};

use crate::document::Node;
use crate::lower::{self, Content, Surroundings, container_name, resource_name};
use crate::plan::{Action, Condition, Observed, Plan, action_text, is_anonymous};
use crate::project::Project;
use crate::view::View;

use wait::Waited;

pub use observe::observe;
pub use report::{Event, Report, State};
pub(crate) use wait::exec_code;

/// The shortest and the longest pause between two looks at what is waited for.
const LOOKS: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(100));
/// So many steps are done at once if nobody says how many.
const SIDE_BY_SIDE: usize = 32;

/// How plans are carried out.
#[derive(Clone, Debug, Default)]
pub struct How {
    /// Seconds until a container that is stopped is killed, instead of its own.
    pub timeout: Option<i64>,
    /// So long may waiting take altogether.
    pub wait_timeout: Option<Duration>,
    /// At most so many steps at once; `None`: as many as there are.
    pub parallel: Option<usize>,
    /// When this is set, no further step begins.
    pub cancel: Option<Arc<AtomicBool>>,
    /// Containers that are made anew do not get the anonymous volumes of those before.
    pub renew_anonymous_volumes: bool,
    /// Networks, volumes and images that something else uses are left, which is told, and is no failure.
    pub leave_used: bool,
}

/// Carries out plans.
pub struct Executor<'a> {
    docker: &'a dyn Docker,
    project: &'a Project,
    how: How,
    report: &'a dyn Report,
    images: BTreeMap<String, String>,
    /// Volumes of containers that were there: id -> target -> name.
    volumes: BTreeMap<String, BTreeMap<String, String>>,
    /// Containers of the project: service and number -> id.
    ids: Mutex<BTreeMap<(String, u32), String>>,
    /// Containers that this executor has started.
    started: Mutex<Vec<(String, u32)>>,
    /// Taken by starts that choose a published port of a range: engines do not choose for two at once.
    ranges: Mutex<()>,
}

/// A plan under way.
struct Run<'p> {
    plan: &'p Plan,
    /// Ids of containers whose place another one takes.
    replaced: Vec<String>,
    state: Vec<Step>,
    running: usize,
    failure: Option<Error>,
    /// When waiting steps began.
    waits: BTreeMap<usize, Instant>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Ahead,
    Begun,
    Done,
}

impl<'p> Run<'p> {
    fn of(plan: &'p Plan) -> Self {
        let replaced = plan.steps.iter().filter_map(|s| match &s.action {
            Action::CreateContainer { replaces: Some(id), aside: true, .. } => Some(id.clone()),
            _ => None,
        });
        Self {
            plan,
            replaced: replaced.collect(),
            state: vec![Step::Ahead; plan.steps.len()],
            running: 0,
            failure: None,
            waits: BTreeMap::new(),
        }
    }

    /// Steps that can begin.
    fn ready(&self) -> Vec<usize> {
        if self.failure.is_some() {
            return Vec::new();
        }
        let free = |n: &usize| {
            self.state[*n] == Step::Ahead
                && self.plan.steps[*n].after.iter().all(|a| self.state[*a] == Step::Done)
        };
        (0..self.state.len()).filter(free).collect()
    }

    fn is_done(&self) -> bool {
        self.state.iter().all(|s| *s == Step::Done)
    }

    fn ended(&mut self, step: usize, result: Result<()>) {
        match result {
            Ok(()) => self.state[step] = Step::Done,
            Err(e) => {
                self.failure.get_or_insert(e);
            }
        }
    }
}

impl<'a> Executor<'a> {
    /// For a project of which `observed` is there.
    pub fn new(
        docker: &'a dyn Docker,
        project: &'a Project,
        observed: &Observed,
        how: How,
        report: &'a dyn Report,
    ) -> Self {
        let own = observed.containers.iter().filter(|c| !c.one_off);
        // The newest come first; of two with one number, which an interrupted run leaves, the newest counts.
        let ids = own.clone().rev().map(|c| ((c.service.clone(), c.number), c.id.clone())).collect();
        Self {
            docker,
            project,
            how,
            report,
            images: observed.images.clone(),
            volumes: own.map(|c| (c.id.clone(), c.volumes.clone())).collect(),
            ids: Mutex::new(ids),
            started: Mutex::default(),
            ranges: Mutex::default(),
        }
    }

    /// The containers that were started, in their order.
    pub fn started(&self) -> Vec<(String, u32)> {
        locked(&self.started).clone()
    }

    /// The id of a container of a service.
    pub fn id(&self, service: &str, number: u32) -> Option<String> {
        locked(&self.ids).get(&(service.to_owned(), number)).cloned()
    }

    /// Carries out a plan.
    ///
    /// # Errors
    /// The first step that fails; steps that had begun are done to their end, and what has been done stays done.
    pub fn run(&self, plan: &Plan) -> Result<()> {
        let mut run = Run::of(plan);
        let began = Instant::now();
        let limit = self.how.parallel.unwrap_or(SIDE_BY_SIDE).max(1);
        std::thread::scope(|scope| {
            let (sender, receiver): (Sender<(usize, Result<()>)>, Receiver<_>) = channel();
            let mut pause = LOOKS.0;
            loop {
                let ready = run.ready();
                let alone = ready.len() == 1 && run.running == 0 && run.waits.is_empty();
                for n in ready {
                    let action = &plan.steps[n].action;
                    if let Action::Wait { service, .. } = action {
                        run.state[n] = Step::Begun;
                        run.waits.insert(n, Instant::now());
                        self.tell_of(service, State::Working, "Waiting", "");
                    } else if alone {
                        run.ended(n, self.step(action, &run.replaced));
                    } else if run.running < limit {
                        run.state[n] = Step::Begun;
                        run.running += 1;
                        let (sender, replaced) = (sender.clone(), run.replaced.clone());
                        scope.spawn(move || {
                            // The receiver lives until all have answered.
                            let _ = sender.send((n, self.step(action, &replaced)));
                        });
                    }
                }
                let settled = self.look(&mut run);
                if run.is_done() {
                    return Ok(());
                }
                if self.how.cancel.as_ref().is_some_and(|c| c.load(Ordering::Relaxed)) {
                    run.failure.get_or_insert_with(|| Error::new(Kind::Unavailable, "interrupted"));
                }
                self.late(&mut run, began);
                if run.running == 0
                    && let Some(failure) = run.failure.take()
                {
                    return Err(failure);
                }
                if settled || alone {
                    pause = LOOKS.0;
                    continue;
                }
                match receiver.recv_timeout(pause) {
                    Ok((n, result)) => {
                        run.running -= 1;
                        run.ended(n, result);
                        pause = LOOKS.0;
                    }
                    Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                        pause = (pause * 2).min(LOOKS.1);
                    }
                }
            }
        })
    }

    /// Looks at everything that is waited for; whether something has come to an end.
    fn look(&self, run: &mut Run<'_>) -> bool {
        if run.failure.is_some() {
            return false;
        }
        let waits: Vec<usize> = run.waits.keys().copied().filter(|n| run.state[*n] == Step::Begun).collect();
        let mut settled = false;
        let plan = run.plan;
        for n in waits {
            let action = &plan.steps[n].action;
            let Action::Wait { service, condition, required } = action else { continue };
            match self.is_so(service, *condition, *required) {
                Ok(Waited::NotYet) => {}
                Ok(waited) => {
                    let done = if *condition == Condition::Completed { "Exited" } else { "Healthy" };
                    if waited == Waited::Well {
                        self.tell_of(service, State::Done, done, "");
                    }
                    run.ended(n, Ok(()));
                    settled = true;
                }
                Err(e) => {
                    let why = e.to_string();
                    self.tell_of(service, State::Failed, "Error", why.lines().next().unwrap_or_default());
                    run.ended(n, Err(e.context(action_text(self.project, action))));
                    return true;
                }
            }
        }
        settled
    }

    /// Gives up when waiting has taken too long.
    fn late(&self, run: &mut Run<'_>, began: Instant) {
        if run.failure.is_some() || self.how.wait_timeout.is_none_or(|limit| began.elapsed() < limit) {
            return;
        }
        let open = |n: &&usize| run.state[**n] == Step::Begun;
        let what: Vec<String> = run
            .waits
            .keys()
            .filter(open)
            .map(|n| action_text(self.project, &run.plan.steps[*n].action))
            .collect();
        if !what.is_empty() {
            let late = Error::new(Kind::Timeout, format!("not ready in time: {}", what.join(", ")));
            run.failure = Some(late.with_hint("give it more time with --wait-timeout, or look at its logs"));
        }
    }

    /// Tells of all containers of a service.
    fn tell_of(&self, service: &str, state: State, text: &str, details: &str) {
        let numbers: Vec<u32> =
            locked(&self.ids).keys().filter(|(s, _)| s == service).map(|(_, n)| *n).collect();
        for number in numbers {
            let thing = format!("Container {}", container_name(self.project, service, number));
            self.report.tell(&Event::new(&thing, state, text).details(details));
        }
    }

    /// Does a step and tells of it.
    fn step(&self, action: &Action, replaced: &[String]) -> Result<()> {
        let told = report::told(self.project, action, replaced);
        if !told.doing.is_empty() {
            self.report.tell(&Event::new(&told.thing, State::Working, told.doing));
        }
        match self.act(action) {
            Ok(()) => {
                if !told.done.is_empty() {
                    self.report.tell(&Event::new(&told.thing, State::Done, told.done));
                }
                Ok(())
            }
            Err(e) if self.how.leave_used && is_in_use(action, &e) => {
                self.report.tell(&Event::new(&told.thing, State::Warning, "Resource is still in use"));
                Ok(())
            }
            Err(e) => {
                let why = e.to_string();
                let line = why.lines().next().unwrap_or_default();
                self.report.tell(&Event::new(&told.thing, State::Failed, "Error").details(line));
                Err(e.context(action_text(self.project, action)))
            }
        }
    }

    fn act(&self, action: &Action) -> Result<()> {
        match action {
            Action::CreateNetwork(key) => {
                self.docker.network_create(&lower::network(self.project, key))?;
            }
            Action::RemoveNetwork(name) => absent_is_fine(self.docker.network_remove(name))?,
            Action::CreateVolume(key) => {
                self.docker.volume_create(&lower::volume(self.project, key))?;
            }
            Action::RemoveVolume(name) => absent_is_fine(self.docker.volume_remove(name, false))?,
            Action::CreateContainer { service, number, replaces, aside } => {
                self.create(service, *number, replaces.clone(), *aside)?;
            }
            Action::RenameContainer { service, number } => {
                let name = container_name(self.project, service, *number);
                self.docker.container_rename(&self.known(service, *number)?, &name)?;
            }
            Action::PreStart { service, number } => {
                let id = self.known(service, *number)?;
                let around = self.surroundings(service, None);
                let says = |who: &str, bytes: &[u8]| self.report.says(who, bytes);
                pre_start::pre_start(self.docker, self.project, service, &id, &around, &says)?;
            }
            Action::StartContainer { service, number } => self.start(service, *number)?,
            Action::StopContainer { id, service, .. } => self.stop(id, service)?,
            Action::RemoveContainer { id, volumes, .. } => {
                let how = RemoveContainer { force: true, volumes: *volumes, link: false };
                absent_is_fine(self.docker.container_remove(id, how))?;
            }
            Action::Disconnect { network, id, .. } => {
                absent_is_fine(self.docker.network_disconnect(network, id, true))?;
            }
            Action::Connect { network, id, aliases, .. } => {
                let network = resource_name(self.project, "networks", network);
                let place =
                    EndpointSettings { aliases: aliases.clone().into(), ..EndpointSettings::default() };
                absent_is_fine(self.docker.network_connect(&network, id, &place))?;
            }
            Action::RemoveImage(name) => {
                absent_is_fine(self.docker.image_remove(name, &RemoveImage::default()).map(drop))?;
            }
            Action::Wait { .. } => {}
        }
        Ok(())
    }

    fn known(&self, service: &str, number: u32) -> Result<String> {
        self.id(service, number)
            .ok_or_else(|| Error::not_found(format!("service {service} has no container {number}")))
    }

    /// What containers of a service depend on besides their files.
    pub fn surroundings(&self, service: &str, replaces: Option<String>) -> Surroundings {
        let old = replaces.as_ref().and_then(|id| self.volumes.get(id));
        let old = old.filter(|_| !self.how.renew_anonymous_volumes);
        let inherited = old.into_iter().flatten().filter(|(_, name)| is_anonymous(name));
        let mut containers: BTreeMap<String, String> = BTreeMap::new();
        for ((service, _), id) in locked(&self.ids).iter() {
            containers.entry(service.clone()).or_insert_with(|| id.clone());
        }
        Surroundings {
            image_id: self.images.get(service).cloned().unwrap_or_default(),
            inherited: inherited.map(|(target, name)| (target.clone(), name.clone())).collect(),
            replaces,
            containers,
        }
    }

    fn create(&self, service: &str, number: u32, replaces: Option<String>, aside: bool) -> Result<()> {
        let around = self.surroundings(service, replaces.clone());
        let mut lowered = lower::container(self.project, service, number, &around)?;
        if let (true, Some(old)) = (aside, &replaces) {
            let short: String = old.chars().take(12).collect();
            lowered.create.name = format!("{short}_{}", lowered.create.name);
        }
        let id = create(self.docker, lowered)?;
        locked(&self.ids).insert((service.to_owned(), number), id);
        Ok(())
    }

    fn start(&self, service: &str, number: u32) -> Result<()> {
        let id = self.known(service, number)?;
        let node = self.project.service(service);
        let ranged = node.is_some_and(|n| n.items("ports").iter().any(|p| p.text("published").contains('-')));
        let one_at_a_time = ranged.then(|| locked(&self.ranges));
        self.docker.container_start(&id, &StartContainer::default())?;
        drop(one_at_a_time);
        locked(&self.started).push((service.to_owned(), number));
        for hook in node.map(|n| n.items("post_start")).unwrap_or_default() {
            self.hook(service, &id, hook, "post_start")?;
        }
        Ok(())
    }

    fn stop(&self, id: &str, service: &str) -> Result<()> {
        let hooks = self.project.service(service).map(|n| n.items("pre_stop")).unwrap_or_default();
        for hook in hooks {
            match self.hook(service, id, hook, "pre_stop") {
                // It has stopped already.
                Err(e) if matches!(e.kind(), Kind::Conflict | Kind::NotFound) => break,
                other => other?,
            }
        }
        let how = StopContainer { signal: String::new(), timeout: self.how.timeout };
        absent_is_fine(self.docker.container_stop(id, &how).map(drop))
    }

    /// Runs a command of the container's life in it.
    fn hook(&self, service: &str, id: &str, hook: &Node, what: &str) -> Result<()> {
        let options = ExecOptions {
            user: hook.text("user"),
            privileged: hook.flag("privileged"),
            attach_stdout: true,
            attach_stderr: true,
            env: lower::environment(hook).into(),
            working_dir: hook.text("working_dir"),
            cmd: hook.texts("command").into(),
            ..ExecOptions::default()
        };
        let exec = self.docker.exec_create(id, &options)?;
        let session = self.docker.exec_start(&exec, StartExec::default())?;
        if let Some(mut session) = session {
            loop {
                match session.read()? {
                    Received::Data(_, bytes) => self.report.says(&format!("{service} {what}"), &bytes),
                    Received::Exited(_) => {}
                    Received::Closed => break,
                }
            }
        }
        let ended = wait::exec_code(self.docker, &exec)?;
        match ended {
            0 => Ok(()),
            code => Err(Error::internal(format!("{what} hook of service {service} exited with code {code}"))),
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes a container, plugs it into all its networks and puts its files in; its id.
///
/// # Errors
/// What the engine says; a container that was made in vain is removed.
pub fn create(docker: &dyn Docker, lowered: lower::Lowered) -> Result<String> {
    let made = docker.container_create(lowered.create)?;
    let finish = || -> Result<()> {
        for (network, place) in &lowered.further {
            docker.network_connect(network, &made.id, place)?;
        }
        if !lowered.contents.is_empty() {
            let archive = archive(&lowered.contents)?;
            let how = PutArchive { path: "/".to_owned(), copy_uid_gid: true, ..PutArchive::default() };
            docker.container_put_archive(&made.id, &how, &mut archive.as_slice())?;
        }
        Ok(())
    };
    if let Err(e) = finish() {
        let _ =
            docker.container_remove(&made.id, RemoveContainer { force: true, volumes: true, link: false });
        return Err(e);
    }
    Ok(made.id)
}

/// Files as a tar archive that is unpacked at the root.
fn archive(contents: &[Content]) -> Result<Vec<u8>> {
    let mut builder = tar::Builder::new(Vec::new());
    let io = |e| Error::io("an archive of secrets and configs", e);
    for content in contents {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.bytes.len() as u64);
        header.set_mode(content.mode);
        header.set_uid(content.uid);
        header.set_gid(content.gid);
        header.set_mtime(0);
        builder
            .append_data(&mut header, content.target.trim_start_matches('/'), content.bytes.as_slice())
            .map_err(io)?;
    }
    builder.into_inner().map_err(io)
}

/// Whether something could not be removed because somebody else uses it. Of networks dockerd says so with 403.
fn is_in_use(action: &Action, error: &Error) -> bool {
    match action {
        Action::RemoveNetwork(_) => {
            error.kind() == Kind::Conflict || error.chain().contains("active endpoints")
        }
        Action::RemoveVolume(_) | Action::RemoveImage(_) => error.kind() == Kind::Conflict,
        _ => false,
    }
}

/// What is gone already need not go.
fn absent_is_fine(result: Result<()>) -> Result<()> {
    match result {
        Err(e) if e.kind() == Kind::NotFound => Ok(()),
        other => other,
    }
}

/// The name of a network or volume of a project.
pub fn name_of(project: &Project, section: &str, key: &str) -> String {
    resource_name(project, section, key)
}
