//! What is done to pods: made, started, stopped, frozen, removed. Each is done to the members, those that need others after
//! them (when starting) or before them (when stopping), and to the sandbox.

use std::collections::HashSet;
use std::fs::File;

use fluyt_model::error::IoContext;
use fluyt_model::sandbox::{Namespace, Phase};
use fluyt_model::{Error, Kind, Result, id};
use fluyt_monitor::protocol::Request;

use super::{ExitPolicy, PodPhase, PodRecord, PodRemoveOptions, PodRequest, PodSpec, Share};
use crate::api::{Pruned, RemoveOptions, StartOptions, StopOptions};
use crate::container::create::{random, signal};
use crate::container::remove::delete_tree;
use crate::records::ContainerRecord;
use crate::{Engine, client, lower, names};

/// How often a made-up name is tried again when it is taken.
const NAME_ATTEMPTS: u32 = 16;

impl Engine {
    /// Makes a pod; nothing of it is started. Returns its id.
    ///
    /// # Errors
    /// `Conflict` for a name that is taken, `NotFound` for a network that does not exist, `Invalid` for contradictions.
    pub fn pod_create(&self, request: PodRequest) -> Result<String> {
        if let Some(name) = &request.name {
            id::check_name("pod", name).map_err(|_| {
                Error::invalid(format!("pod name \"{name}\": names must match [a-zA-Z0-9][a-zA-Z0-9_.-]*"))
            })?;
        }
        let mut pod = PodRecord {
            id: id::from_random(random()?),
            created: fluyt_monitor::state::now(),
            spec: request.spec,
            document: request.document,
            ..PodRecord::default()
        };
        if pod.spec.infra {
            pod.infra_id = id::from_random(random()?);
        } else {
            without_sandbox(&mut pod.spec)?;
        }
        self.check_pod(&pod.spec)?;
        let dir = self.paths.pod(&pod.id);
        std::fs::create_dir_all(&dir).about(|| dir.display().to_string())?;
        if let Err(e) = self.insert_pod(&mut pod, request.name) {
            // Nothing refers to the directory yet.
            let _ = std::fs::remove_dir(&dir);
            return Err(e);
        }
        self.emit_pod("create", &pod);
        Ok(pod.id)
    }

    fn insert_pod(&self, pod: &mut PodRecord, name: Option<String>) -> Result<()> {
        let made_up = name.is_none();
        for attempt in 0..NAME_ATTEMPTS {
            pod.name = match &name {
                Some(name) => name.clone(),
                None => {
                    names::make_up(u64::from_ne_bytes(*random()?.first_chunk().expect("32 bytes")), attempt)
                }
            };
            match self.records().write(|tx| self.records().insert_pod(tx, pod)) {
                Err(e) if made_up && e.kind() == Kind::Conflict => {}
                done => return done,
            }
        }
        Err(Error::new(Kind::Exhausted, "no free name could be made up").with_hint("give one with --name"))
    }

    fn check_pod(&self, spec: &PodSpec) -> Result<()> {
        lower::validate(&spec.resources, &lower::online_cpus)?;
        check_sysctls(spec)?;
        let sandbox = &spec.sandbox;
        if !sandbox.ports.is_empty() && sandbox.namespaces.network == Namespace::Host {
            return Err(Error::invalid("a pod on the host's network has no ports to publish")
                .with_hint("its programs listen on the host itself: leave out --publish"));
        }
        if sandbox.networks.is_empty() {
            return Ok(());
        }
        self.ensure_predefined()?;
        self.records().read(|tx| {
            for attachment in &sandbox.networks {
                let network = self.records().network(tx, &attachment.network)?;
                let asks = attachment.ipv4.is_some() || attachment.ipv6.is_some();
                if asks && network.spec.name == crate::network::DEFAULT_NETWORK {
                    return Err(Error::invalid(
                        "user specified IP address is supported on user defined networks only",
                    ));
                }
            }
            Ok(())
        })
    }

    /// Starts a pod: its sandbox, and every member that does not run. Starting a running one does nothing.
    ///
    /// # Errors
    /// The sandbox cannot be set up. Members that cannot be started are told together, after all were tried.
    pub fn pod_start(&self, name: &str) -> Result<()> {
        let pod = self.records().pod(name)?;
        let _held = self.hold_sandbox(&pod)?;
        let mut failures = Vec::new();
        for level in levels(self.records().members(&pod.id)?) {
            for member in level.iter().filter(|m| !self.is_running(&m.id)) {
                if let Err(e) = self.start(&member.id, StartOptions::default()) {
                    failures.push(e.context(format!("starting container {}", member.name)));
                }
            }
        }
        together(failures)
    }

    /// Stops a pod: its members, all at once as far as none needs another, then its sandbox.
    ///
    /// # Errors
    /// `Invalid` for an unknown signal; a member cannot be stopped.
    pub fn pod_stop(&self, name: &str, options: &StopOptions) -> Result<()> {
        let pod = self.records().pod(name)?;
        self.stop_members(&pod, options)?;
        self.release_sandbox(&pod).map(drop)
    }

    fn stop_members(&self, pod: &PodRecord, options: &StopOptions) -> Result<()> {
        let mut failures = Vec::new();
        for level in levels(self.records().members(&pod.id)?).into_iter().rev() {
            let mut asked = Vec::new();
            for member in &level {
                let stop = &member.spec.containers[0].stop;
                let wanted = options.signal.as_deref().unwrap_or(&stop.signal);
                let number = if wanted.is_empty() { 15 } else { signal(wanted)? };
                let timeout = options.timeout.or(stop.timeout).unwrap_or(10);
                let request = Request::Stop { signal: number, timeout, keep: false };
                // One that does not answer is stopped in the usual way, which looks closer.
                asked.push((member, client::say(&self.paths.run_of(&member.id), &request).ok()));
            }
            for (member, socket) in asked {
                let stopped = match socket.map(client::hear) {
                    Some(Ok(_)) => {
                        self.settle(&member.id);
                        self.emit_container("stop", member, &[]);
                        Ok(())
                    }
                    _ => match self.stop(&member.id, options) {
                        // It removed itself.
                        Err(e) if e.kind() == Kind::NotFound => Ok(()),
                        other => other,
                    },
                };
                if let Err(e) = stopped {
                    failures.push(e.context(format!("stopping container {}", member.name)));
                }
            }
        }
        together(failures)
    }

    /// Sends a signal to the first process of every member that runs. After SIGKILL, the sandbox goes.
    ///
    /// # Errors
    /// `Invalid` for an unknown signal.
    pub fn pod_kill(&self, name: &str, signal_name: &str) -> Result<()> {
        let pod = self.records().pod(name)?;
        let number = signal(signal_name)?;
        self.each_running(&pod, |engine, member| engine.kill(&member.id, signal_name))?;
        if number == 9 { self.release_sandbox(&pod).map(drop) } else { Ok(()) }
    }

    /// Stops a pod and starts all of it.
    ///
    /// # Errors
    /// As for stopping and starting.
    pub fn pod_restart(&self, name: &str, options: &StopOptions) -> Result<()> {
        self.pod_stop(name, options)?;
        self.pod_start(name)
    }

    /// Freezes the members that run.
    ///
    /// # Errors
    /// One cannot be frozen.
    pub fn pod_pause(&self, name: &str) -> Result<()> {
        let pod = self.records().pod(name)?;
        self.each_in(&pod, Phase::Running, |engine, member| engine.pause(&member.id))
    }

    /// Lets the members that are frozen go on.
    ///
    /// # Errors
    /// One cannot be thawed.
    pub fn pod_unpause(&self, name: &str) -> Result<()> {
        let pod = self.records().pod(name)?;
        self.each_in(&pod, Phase::Paused, |engine, member| engine.unpause(&member.id))
    }

    fn each_in(
        &self,
        pod: &PodRecord,
        phase: Phase,
        act: impl Fn(&Self, &ContainerRecord) -> Result<()>,
    ) -> Result<()> {
        self.each_running(pod, |engine, member| {
            if engine.status(&member.id)?.phase == phase { act(engine, member) } else { Ok(()) }
        })
    }

    fn each_running(
        &self,
        pod: &PodRecord,
        act: impl Fn(&Self, &ContainerRecord) -> Result<()>,
    ) -> Result<()> {
        let mut failures = Vec::new();
        for member in self.records().members(&pod.id)? {
            if !self.is_running(&member.id) {
                continue;
            }
            match act(self, &member) {
                // It has ended meanwhile.
                Err(e) if e.kind() == Kind::Conflict && !self.is_running(&member.id) => {}
                Err(e) => failures.push(e.context(format!("container {}", member.name))),
                Ok(()) => {}
            }
        }
        together(failures)
    }

    /// Removes a pod with its members.
    ///
    /// # Errors
    /// `Conflict` if a member runs and `force` is not given.
    pub fn pod_remove(&self, name: &str, options: PodRemoveOptions) -> Result<()> {
        const ATTEMPTS: u32 = 16;
        let pod = self.records().pod(name)?;
        for _ in 0..ATTEMPTS {
            let running: Vec<String> = self
                .records()
                .members(&pod.id)?
                .into_iter()
                .filter(|m| self.is_running(&m.id))
                .map(|m| m.name)
                .collect();
            if !running.is_empty() && !options.force {
                return Err(Error::conflict(format!(
                    "cannot remove pod {} as it is running: running or paused containers cannot be removed without \
                     force: {}",
                    pod.name,
                    running.join(", ")
                ))
                .with_hint(format!("`fluyt pod stop {0}` first, or `fluyt pod rm --force {0}`", pod.name)));
            }
            let stop = StopOptions { timeout: options.timeout, ..StopOptions::default() };
            self.stop_members(&pod, &stop)?;
            let remove = RemoveOptions { force: options.force, volumes: options.volumes };
            for member in self.records().members(&pod.id)?.into_iter().rev() {
                match self.remove(&member.id, remove) {
                    Err(e) if e.kind() == Kind::NotFound => {}
                    other => other?,
                }
            }
            if !self.release_sandbox(&pod)? {
                continue;
            }
            match self.records().delete_pod(&pod.id) {
                // A member has come meanwhile.
                Err(e) if e.kind() == Kind::Conflict => {}
                Err(e) => return Err(e),
                Ok(()) => {
                    self.tell_networks(&pod)?;
                    delete_tree(&self.paths.pod(&pod.id))?;
                    self.emit_pod("remove", &pod);
                    return Ok(());
                }
            }
        }
        Err(Error::conflict(format!("pod {} gets new containers again and again", pod.name)))
    }

    /// Removes pods in which nothing runs any more.
    ///
    /// # Errors
    /// One cannot be removed.
    pub fn prune_pods(&self) -> Result<Pruned> {
        let mut pruned = Pruned::default();
        for pod in self.pods()?.into_iter().rev() {
            if !matches!(pod.phase, PodPhase::Exited | PodPhase::Stopped) {
                continue;
            }
            match self.pod_remove(&pod.id, PodRemoveOptions { volumes: true, ..PodRemoveOptions::default() })
            {
                // Started or removed meanwhile.
                Err(e) if matches!(e.kind(), Kind::Conflict | Kind::NotFound) => continue,
                other => other?,
            }
            pruned.removed.push(pod.id);
        }
        Ok(pruned)
    }

    /// The last act of a member whose pod goes with its last one: takes the sandbox down unless another runs.
    ///
    /// # Errors
    /// Something cannot be removed.
    pub fn pod_settle(&self, id: &str) -> Result<()> {
        match self.records().pod(id) {
            Err(e) if e.kind() == Kind::NotFound => Ok(()),
            Err(e) => Err(e),
            Ok(pod) => self.release_sandbox(&pod).map(drop),
        }
    }

    /// What a member needs of its pod before it starts; to be held until it runs.
    pub(crate) fn member_sandbox(&self, record: &ContainerRecord) -> Result<Option<File>> {
        let Some(pod) = self.pod_of(record)? else { return Ok(None) };
        let held = self.hold_sandbox(&pod)?;
        if held.is_some() {
            self.introduce_members(&pod)?;
        }
        Ok(held)
    }

    /// Starts what a container cannot be without.
    pub(crate) fn start_required(&self, record: &ContainerRecord) -> Result<()> {
        for other in record.spec.requires.iter().filter(|other| !self.is_running(other)) {
            self.start(other, StartOptions::default()).map_err(|e| {
                e.context(format!("container {} is required by {}", id::short(other), record.name))
            })?;
        }
        Ok(())
    }

    /// A container that may be a member has another name.
    pub(crate) fn member_renamed(&self, record: &ContainerRecord) -> Result<()> {
        match self.pod_of(record)? {
            Some(pod) if self.pod_is_up(&pod.id) => self.introduce_members(&pod),
            _ => Ok(()),
        }
    }

    /// A container that may have been a member was removed.
    pub(crate) fn member_left(&self, record: &ContainerRecord) -> Result<()> {
        let pod = match self.pod_of(record) {
            Ok(Some(pod)) if pod.spec.infra => pod,
            Err(e) if e.kind() != Kind::NotFound => return Err(e),
            _ => return Ok(()),
        };
        if self.pod_is_up(&pod.id) {
            self.introduce_members(&pod)?;
            if pod.spec.exit_policy == ExitPolicy::Stop {
                self.release_sandbox(&pod)?;
            }
        }
        Ok(())
    }
}

/// A pod that has no sandbox has nothing that a sandbox would have.
fn without_sandbox(spec: &mut PodSpec) -> Result<()> {
    if !spec.sandbox.ports.is_empty() {
        return Err(Error::invalid("you must have an infra container to publish port bindings to the host"));
    }
    spec.share = Share::NONE;
    spec.sandbox.networks.clear();
    Ok(())
}

/// Only kernel parameters of namespaces that the pod has for itself may be set.
fn check_sysctls(spec: &PodSpec) -> Result<()> {
    const IPC: [&str; 8] = [
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    ];
    let own = |shared: bool, from: &Namespace| spec.infra && shared && *from == Namespace::Private;
    let namespaces = &spec.sandbox.namespaces;
    for key in spec.sandbox.sysctls.keys() {
        let sane = key.split('.').all(|part| !part.is_empty() && !part.contains('/'));
        let allowed = if key.starts_with("net.") {
            own(spec.share.network, &namespaces.network)
        } else if IPC.contains(&key.as_str()) || key.starts_with("fs.mqueue.") {
            own(spec.share.ipc, &namespaces.ipc)
        } else {
            false
        };
        if !sane || !allowed {
            return Err(Error::invalid(format!("sysctl {key:?} is not in a kernel namespace of the pod"))
                .with_hint("net.* belongs to a pod with a network of its own, kernel.shm* and fs.mqueue.* to one with --share ipc"));
        }
    }
    Ok(())
}

/// The members in the order in which they can be started: nobody before whom he requires.
fn levels(members: Vec<ContainerRecord>) -> Vec<Vec<ContainerRecord>> {
    let mut placed: HashSet<String> = HashSet::new();
    let mut rest = members;
    let mut levels = Vec::new();
    while !rest.is_empty() {
        let waits = |m: &ContainerRecord| {
            m.spec.requires.iter().any(|other| !placed.contains(other) && rest.iter().any(|r| r.id == *other))
        };
        let ready: Vec<bool> = rest.iter().map(|m| !waits(m)).collect();
        // A circle cannot be made, since a container requires those that were there before it; if one were met, its members
        // would go together.
        let stuck = !ready.contains(&true);
        let mut ready = ready.into_iter();
        let (level, later): (Vec<_>, Vec<_>) =
            rest.into_iter().partition(|_| stuck || ready.next() == Some(true));
        placed.extend(level.iter().map(|m| m.id.clone()));
        levels.push(level);
        rest = later;
    }
    levels
}

/// All failures as one.
fn together(mut failures: Vec<Error>) -> Result<()> {
    match failures.len() {
        0 => Ok(()),
        1 => Err(failures.remove(0)),
        n => {
            let list: String = failures.iter().map(|e| format!("\n  {}", e.chain())).collect();
            Err(Error::new(failures[0].kind(), format!("{n} errors occurred:{list}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fluyt_model::sandbox::SandboxSpec;

    fn member(id: &str, requires: &[&str]) -> ContainerRecord {
        let requires = requires.iter().map(|r| (*r).to_owned()).collect();
        let spec = SandboxSpec { requires, ..SandboxSpec::default() };
        ContainerRecord { id: id.to_owned(), spec, ..ContainerRecord::default() }
    }

    #[test]
    fn nobody_starts_before_whom_he_requires() {
        let all = vec![member("web", &["db", "elsewhere"]), member("db", &[]), member("log", &["web"])];
        let order: Vec<Vec<String>> =
            levels(all).into_iter().map(|l| l.into_iter().map(|m| m.id).collect()).collect();
        assert_eq!(order, [["db"], ["web"], ["log"]]);
        assert_eq!(levels(vec![member("a", &["b"]), member("b", &["a"])]).len(), 1);
    }

    #[test]
    fn only_the_pods_own_parameters_are_set() {
        let mut spec = PodSpec::default();
        let set = |spec: &mut PodSpec, key: &str| {
            spec.sandbox.sysctls = [(key.to_owned(), "1".to_owned())].into();
            check_sysctls(spec).is_ok()
        };
        assert!(set(&mut spec, "net.ipv4.ip_unprivileged_port_start") && set(&mut spec, "kernel.shmmax"));
        for bad in ["kernel.panic", "vm.swappiness", "net..x", "net./../x", "user.max_user_namespaces"] {
            assert!(!set(&mut spec, bad), "{bad}");
        }
        spec.share.ipc = false;
        assert!(!set(&mut spec, "kernel.shmmax"));
        spec.sandbox.namespaces.network = Namespace::Host;
        assert!(!set(&mut spec, "net.ipv4.ip_forward"));
    }
}
