//! What is there is looked at, and plans are carried out, over Docker's operations.
//!
//! No decision is made here: a step says what it does, and the graph says when. Waiting steps wait side by side; all
//! others are done one after the other, as soon as what they need is done.

mod observe;
mod pre_start;
mod wait;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use fluyt_docker_api::api::Received;
use fluyt_docker_api::api::{
    Docker, PutArchive, RemoveContainer, RemoveImage, StartContainer, StartExec, StopContainer,
};
use fluyt_docker_api::types::{EndpointSettings, ExecOptions};
use fluyt_model::{Error, Kind, Result};

use crate::document::Node;
use crate::lower::{self, Content, Surroundings, container_name, resource_name};
use crate::plan::{Action, Observed, Plan, action_text, is_anonymous};
use crate::project::Project;
use crate::view::View;

pub use observe::observe;
pub(crate) use wait::exec_code;

/// Between two looks at what is waited for.
const LOOK: Duration = Duration::from_millis(50);

/// Is told how a plan gets on.
pub trait Report {
    /// A step begins.
    fn begins(&self, what: &str);
    /// A step is done, after so long.
    fn done(&self, what: &str, took: Duration);
    /// A service hook or a failed container said something.
    fn says(&self, who: &str, bytes: &[u8]);
}

/// How plans are carried out.
#[derive(Clone, Debug, Default)]
pub struct How {
    /// Seconds until a container that is stopped is killed, instead of its own.
    pub timeout: Option<i64>,
    /// So long may waiting take altogether.
    pub wait_timeout: Option<Duration>,
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
    ids: BTreeMap<(String, u32), String>,
    /// Containers that this executor has started.
    started: Vec<(String, u32)>,
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
        Self {
            docker,
            project,
            how,
            report,
            images: observed.images.clone(),
            volumes: own.clone().map(|c| (c.id.clone(), c.volumes.clone())).collect(),
            // The newest come first; of two with one number, which an interrupted run leaves, the newest counts.
            ids: own.rev().map(|c| ((c.service.clone(), c.number), c.id.clone())).collect(),
            started: Vec::new(),
        }
    }

    /// The containers that were started, in their order.
    pub fn started(&self) -> &[(String, u32)] {
        &self.started
    }

    /// The id of a container of a service.
    pub fn id(&self, service: &str, number: u32) -> Option<&str> {
        self.ids.get(&(service.to_owned(), number)).map(String::as_str)
    }

    /// Carries out a plan.
    ///
    /// # Errors
    /// The first step that fails; what has been done stays done.
    pub fn run(&mut self, plan: &Plan) -> Result<()> {
        let began = Instant::now();
        let mut done: BTreeSet<usize> = BTreeSet::new();
        let mut waiting: BTreeMap<usize, Instant> = BTreeMap::new();
        while done.len() < plan.steps.len() {
            let mut progress = false;
            for (n, step) in plan.steps.iter().enumerate() {
                if done.contains(&n) || !step.after.iter().all(|a| done.contains(a)) {
                    continue;
                }
                let what = action_text(self.project, &step.action);
                if let Action::Wait { service, condition, required } = &step.action {
                    let since = *waiting.entry(n).or_insert_with(|| {
                        self.report.begins(&what);
                        Instant::now()
                    });
                    if self.is_so(service, *condition, *required)? {
                        self.report.done(&what, since.elapsed());
                        done.insert(n);
                        progress = true;
                    }
                    continue;
                }
                let since = Instant::now();
                self.report.begins(&what);
                self.act(&step.action).map_err(|e| e.context(what.clone()))?;
                self.report.done(&what, since.elapsed());
                done.insert(n);
                progress = true;
            }
            if progress {
                continue;
            }
            if self.how.wait_timeout.is_some_and(|limit| began.elapsed() >= limit) {
                let what: Vec<String> = waiting
                    .keys()
                    .filter(|n| !done.contains(n))
                    .map(|n| action_text(self.project, &plan.steps[*n].action))
                    .collect();
                return Err(Error::new(Kind::Timeout, format!("not ready in time: {}", what.join(", ")))
                    .with_hint("give it more time with --wait-timeout, or look at its logs"));
            }
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    fn act(&mut self, action: &Action) -> Result<()> {
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
        let id = self.id(service, number).map(str::to_owned);
        id.ok_or_else(|| Error::not_found(format!("service {service} has no container {number}")))
    }

    /// What containers of a service depend on besides their files.
    pub fn surroundings(&self, service: &str, replaces: Option<String>) -> Surroundings {
        let old = replaces.as_ref().and_then(|id| self.volumes.get(id));
        let inherited = old.into_iter().flatten().filter(|(_, name)| is_anonymous(name));
        let mut containers: BTreeMap<String, String> = BTreeMap::new();
        for ((service, _), id) in &self.ids {
            containers.entry(service.clone()).or_insert_with(|| id.clone());
        }
        Surroundings {
            image_id: self.images.get(service).cloned().unwrap_or_default(),
            inherited: inherited.map(|(target, name)| (target.clone(), name.clone())).collect(),
            replaces,
            containers,
        }
    }

    fn create(&mut self, service: &str, number: u32, replaces: Option<String>, aside: bool) -> Result<()> {
        let around = self.surroundings(service, replaces.clone());
        let mut lowered = lower::container(self.project, service, number, &around)?;
        if let (true, Some(old)) = (aside, &replaces) {
            let short: String = old.chars().take(12).collect();
            lowered.create.name = format!("{short}_{}", lowered.create.name);
        }
        let id = create(self.docker, lowered)?;
        self.ids.insert((service.to_owned(), number), id);
        Ok(())
    }

    fn start(&mut self, service: &str, number: u32) -> Result<()> {
        let id = self.known(service, number)?;
        self.docker.container_start(&id, &StartContainer::default())?;
        self.started.push((service.to_owned(), number));
        for hook in self.project.service(service).map(|n| n.items("post_start")).unwrap_or_default() {
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
