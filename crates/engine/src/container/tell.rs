//! What is said to containers that exist: stop, kill, pause, wait, rename, update, attach.

use std::sync::Arc;

use fluyt_model::sandbox::{Phase, RestartCondition, SandboxStatus};
use fluyt_model::{Error, Kind, Result, id};
use fluyt_monitor::protocol::{Reply, Request};
use fluyt_runtime::{Cgroup, CgroupPaths};

use crate::api::{StartOptions, StopOptions, UpdateRequest, WaitCondition};
use crate::container::create::signal;
use crate::container::start::removal_lock;
use crate::records::ContainerRecord;
use crate::{Attach, Engine, Paths, client, lower};

/// Between two looks at something that nobody tells us of.
const LOOK_AGAIN: std::time::Duration = std::time::Duration::from_millis(20);

/// See [`Engine::status`].
pub(crate) fn status_of(paths: &Paths, id: &str) -> Result<SandboxStatus> {
    let load = || fluyt_monitor::state::load(&paths.container(id)).map(Arc::new);
    corrected(load, || is_served(paths, id)).map(Arc::unwrap_or_clone)
}

/// A status as `load` finds it, corrected by whether it is `served`.
pub(crate) fn corrected(
    load: impl Fn() -> Result<Arc<SandboxStatus>>,
    served: impl Fn() -> bool,
) -> Result<Arc<SandboxStatus>> {
    let orphaned = |status: &SandboxStatus| {
        matches!(status.phase, Phase::Running | Phase::Paused | Phase::Restarting) && !served()
    };
    let mut status = load()?;
    if orphaned(&status) {
        // It may have ended between the two looks: what a monitor writes before it lets go counts.
        status = load()?;
        if orphaned(&status) {
            // The monitor was killed, or the machine was switched off.
            let status = Arc::make_mut(&mut status);
            status.phase = Phase::Exited;
            status.pid = 0;
            status.exit_code = if status.exit_code == 0 { 255 } else { status.exit_code };
            status.error = "the container's monitor ended without a word".to_owned();
        }
    }
    Ok(status)
}

/// Whether a monitor serves the container.
pub(crate) fn is_served(paths: &Paths, id: &str) -> bool {
    fluyt_monitor::owner(&paths.run_of(id)).is_some()
}

impl Engine {
    /// Whether a monitor serves the container: it runs, or is about to be restarted.
    #[must_use]
    pub fn is_running(&self, id: &str) -> bool {
        fluyt_monitor::owner(&self.paths.run_of(id)).is_some()
    }

    /// The status of a container, corrected by what can be looked at: without a monitor it does not run.
    pub(crate) fn status(&self, id: &str) -> Result<SandboxStatus> {
        status_of(&self.paths, id)
    }

    fn ask(&self, record: &ContainerRecord, request: &Request) -> Result<Reply> {
        client::ask(&self.paths.run_of(&record.id), request).map_err(|e| {
            // A monitor that hangs up, or has put its socket away, is about to end.
            if matches!(e.kind(), Kind::Unavailable | Kind::NotFound) {
                self.settle(&record.id);
                if !self.is_running(&record.id) {
                    return Self::not_running(record, "reach");
                }
            }
            e
        })
    }

    fn not_running(record: &ContainerRecord, verb: &str) -> Error {
        Error::conflict(format!(
            "cannot {verb} container: {}: container {} is not running",
            record.name, record.id
        ))
        .with_hint(format!("`fluyt start {}` starts it", record.name))
    }

    /// Attaches to a running container.
    ///
    /// # Errors
    /// `Conflict` if it does not run.
    pub fn attach(&self, name: &str, stdin: bool) -> Result<Attach> {
        let attach = self.attach_quietly(name, stdin)?;
        self.tell_container(name, "attach", &[]);
        Ok(attach)
    }

    /// The same without a word to the journal: it was told when the session began to wait.
    ///
    /// # Errors
    /// As [`Engine::attach`].
    pub fn attach_quietly(&self, name: &str, stdin: bool) -> Result<Attach> {
        let record = self.records().container(name)?;
        if !self.is_running(&record.id) {
            return Err(Error::conflict("cannot attach to a stopped container, start it first"));
        }
        if self.status(&record.id)?.phase == Phase::Paused {
            return Err(Error::conflict("cannot attach to a paused container, unpause it first"));
        }
        client::attach(&self.paths.run_of(&record.id), stdin)
    }

    /// Stops a container: its signal, then after its timeout SIGKILL. A stopped one stays as it is.
    ///
    /// # Errors
    /// `Invalid` for an unknown signal.
    pub fn stop(&self, name: &str, options: &StopOptions) -> Result<()> {
        self.stop_for(name, options, false)
    }

    /// Stops it; one that is to be kept is about to be started again, and does not remove itself.
    fn stop_for(&self, name: &str, options: &StopOptions, keep: bool) -> Result<()> {
        let record = self.records().container(name)?;
        let stop = &record.spec.containers[0].stop;
        let wanted = options.signal.as_deref().unwrap_or(&stop.signal);
        let number = if wanted.is_empty() { 15 } else { signal(wanted)? };
        let timeout = options.timeout.or(stop.timeout).unwrap_or(10);
        loop {
            if !self.is_running(&record.id) {
                // It may be about to be started again because its monitor was killed.
                let _starting = removal_lock(&self.paths.container(&record.id));
                if !self.is_running(&record.id) {
                    return self.end_orphan(&record, Phase::Exited, true);
                }
            }
            // Before it is done, as with a kill.
            self.emit_container("kill", &record, &[("signal", &number.to_string())]);
            match self.ask(&record, &Request::Stop { signal: number, timeout, keep }) {
                // It ended before it could be asked: its monitor was killed in this moment, or is on its way out.
                Err(e) => {
                    self.settle(&record.id);
                    if self.is_running(&record.id) {
                        return Err(e);
                    }
                }
                Ok(_) => break,
            }
        }
        self.settle(&record.id);
        self.emit_container("stop", &record, &[]);
        Ok(())
    }

    /// Whether it runs, for whoever holds its start lock: a monitor that has already told the end is waited for.
    pub(crate) fn runs_on(&self, id: &str) -> bool {
        let told = || fluyt_monitor::state::load(&self.paths.container(id)).map(|status| status.phase);
        if self.is_running(id) && matches!(told(), Ok(Phase::Created | Phase::Exited)) {
            self.settle(id);
        }
        self.is_running(id)
    }

    /// Waits until the monitor of an ended container has let go of it.
    pub(crate) fn settle(&self, id: &str) {
        for _ in 0..250 {
            if !self.is_running(id) {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    }

    /// Ends what is left of a container whose monitor was killed, and records `phase`: ended, or about to be started again.
    pub(crate) fn end_orphan(&self, record: &ContainerRecord, phase: Phase, by_user: bool) -> Result<()> {
        let status = fluyt_monitor::state::load(&self.paths.container(&record.id))?;
        let Ok(paths) = serde_json::from_value::<CgroupPaths>(status.cgroup.clone()) else { return Ok(()) };
        if !matches!(status.phase, Phase::Running | Phase::Paused | Phase::Restarting) {
            return Ok(());
        }
        let cgroup = Cgroup::open(&paths);
        if cgroup.is_populated() {
            cgroup.thaw()?;
            cgroup.kill(9)?;
        }
        let ended = SandboxStatus {
            phase,
            stopped_by_user: by_user,
            pid: 0,
            pid_start: 0,
            exit_code: 137,
            finished_at: fluyt_monitor::state::now(),
            ..status
        };
        cgroup.delete()?;
        fluyt_monitor::state::save(&self.paths.container(&record.id), &ended)
    }

    /// Sends a signal to a container's first process.
    ///
    /// # Errors
    /// `Conflict` if it does not run, `Invalid` for an unknown signal.
    pub fn kill(&self, name: &str, signal_name: &str) -> Result<()> {
        let record = self.records().container(name)?;
        let number = signal(signal_name)?;
        if !self.is_running(&record.id) {
            return Err(Self::not_running(&record, "kill"));
        }
        // Before it is done: its end is told by others, and comes after.
        self.emit_container("kill", &record, &[("signal", &number.to_string())]);
        self.ask(&record, &Request::Kill { signal: number })?;
        if number == 9 {
            // Nothing survives it: whoever removes the container next shall find it ended.
            self.settle(&record.id);
        }
        Ok(())
    }

    /// Starts every container whose restart policy says that it should run and that does not: after a boot, or after
    /// its monitor was killed. Returns the names, each with what came of it.
    ///
    /// # Errors
    /// The records cannot be read.
    pub fn resume(&self) -> Result<Vec<(String, Result<()>)>> {
        let mut done = Vec::new();
        for record in self.records().containers()? {
            let status = fluyt_monitor::state::load(&self.paths.container(&record.id))?;
            if self.is_running(&record.id)
                || !should_run(record.spec.containers[0].restart.condition, &status)
            {
                continue;
            }
            let outcome = self.start(&record.id, StartOptions::default()).map(drop);
            done.push((record.name, outcome));
        }
        Ok(done)
    }

    /// Stops and starts.
    ///
    /// # Errors
    /// As for stopping and starting.
    pub fn restart(&self, name: &str, options: &StopOptions) -> Result<()> {
        let record = self.records().container(name)?;
        self.stop_for(&record.id, options, true)?;
        if record.spec.auto_remove {
            self.forget_volatile(&record.id)?;
        }
        self.start(&record.id, StartOptions::default())?;
        self.emit_container("restart", &record, &[]);
        Ok(())
    }

    /// Lets a container that was to be thrown away be mounted again: its overlay was not to be synced, and is marked so. It
    /// has ended in order, and the machine has not gone down since.
    fn forget_volatile(&self, id: &str) -> Result<()> {
        let mark = self.paths.container(id).join("work/work/incompat");
        match std::fs::remove_dir_all(&mark) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::io(mark.display().to_string(), e))
            }
            _ => Ok(()),
        }
    }

    /// Freezes all processes.
    ///
    /// # Errors
    /// `Conflict` if it does not run or is paused already.
    pub fn pause(&self, name: &str) -> Result<()> {
        let record = self.records().container(name)?;
        if !self.is_running(&record.id) {
            return Err(Self::not_running(&record, "pause"));
        }
        self.ask(&record, &Request::Pause).map_err(|e| e.context(format!("container {}", record.name)))?;
        Ok(())
    }

    /// Lets them go on.
    ///
    /// # Errors
    /// `Conflict` if it is not paused.
    pub fn unpause(&self, name: &str) -> Result<()> {
        let record = self.records().container(name)?;
        if !self.is_running(&record.id) {
            return Err(Self::not_running(&record, "unpause"));
        }
        self.ask(&record, &Request::Unpause).map_err(|e| e.context(format!("container {}", record.name)))?;
        Ok(())
    }

    /// Tells a container's terminal its size.
    ///
    /// # Errors
    /// `Conflict` if it does not run.
    pub fn resize(&self, name: &str, rows: u16, cols: u16) -> Result<()> {
        let record = self.records().container(name)?;
        self.ask(&record, &Request::Resize { rows, cols })?;
        let size = [("height", rows.to_string()), ("width", cols.to_string())];
        self.emit_container("resize", &record, &size.each_ref().map(|(name, n)| (*name, n.as_str())));
        Ok(())
    }

    /// Waits for a container's end and returns its exit code.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn wait(&self, name: &str, condition: WaitCondition) -> Result<i32> {
        let record = self.records().container(name)?;
        let status = self.status(&record.id)?;
        let mut code = status.exit_code;
        if self.is_running(&record.id) {
            match self.ask(&record, &Request::Wait) {
                Ok(Reply::Exited { code: exit }) => code = exit,
                Ok(_) => {}
                // It ended before it could be asked.
                Err(_) => code = self.status(&record.id)?.exit_code,
            }
        } else if condition == WaitCondition::NextExit {
            // Created or stopped: the next start has a monitor to ask.
            while !self.is_running(&record.id) {
                self.records().container(&record.id)?;
                std::thread::sleep(LOOK_AGAIN);
            }
            return self.wait(&record.id, condition);
        }
        if condition == WaitCondition::Removed {
            while self.records().container(&record.id).is_ok() {
                std::thread::sleep(LOOK_AGAIN);
            }
        }
        Ok(code)
    }

    /// Gives a container another name.
    ///
    /// # Errors
    /// `Conflict` if the name is taken, `Invalid` if it is none.
    pub fn rename(&self, name: &str, new: &str) -> Result<()> {
        let record = self.records().container(name)?;
        let new = new.strip_prefix('/').unwrap_or(new);
        if new.is_empty() {
            return Err(Error::invalid("Neither old nor new names may be empty"));
        }
        id::check_name("container", new)?;
        if record.name == new {
            return Err(Error::invalid("Renaming a container with the same name as its current name"));
        }
        self.records().rename_container(&record.id, new)?;
        let renamed = self.records().container(&record.id)?;
        if self.is_running(&record.id) {
            self.write_monitor_spec(&renamed)?;
            match self.ask(&renamed, &Request::Reload) {
                // It has just ended.
                Err(_) if !self.is_running(&record.id) => {}
                other => drop(other?),
            }
        }
        self.member_renamed(&renamed)?;
        self.emit_container("rename", &renamed, &[("oldName", &format!("/{}", record.name))]);
        Ok(())
    }

    /// Takes a link to another container back, by its alias; it holds from the next start on. `document` is the façade's
    /// own document without it.
    ///
    /// # Errors
    /// `NotFound` if there is no such link.
    pub fn unlink(&self, name: &str, alias: &str, document: serde_json::Value) -> Result<()> {
        let mut record = self.records().container(name)?;
        let mut found = false;
        for attachment in &mut record.spec.networks {
            let before = attachment.links.len();
            attachment.links.retain(|(_, other)| other != alias);
            found |= attachment.links.len() < before;
        }
        if !found {
            return Err(Error::not_found(format!("No such link: /{}/{alias}", record.name)));
        }
        record.document = document;
        self.records().update_container(&record)
    }

    /// Changes limits and the restart policy, at once if the container runs.
    ///
    /// # Errors
    /// `Invalid` for limits that cannot work; the kernel's refusal.
    pub fn update(&self, name: &str, request: &UpdateRequest) -> Result<()> {
        let mut record = self.records().container(name)?;
        let container = &mut record.spec.containers[0];
        if let Some(restart) = request.restart {
            if record.spec.auto_remove && restart.condition != RestartCondition::No {
                return Err(Error::conflict(
                    "Restart policy cannot be updated because AutoRemove is enabled for the container",
                ));
            }
            container.restart = restart;
        }
        container.resources = container.resources.clone().changed_by(&request.resources);
        lower::validate(&container.resources, &lower::online_cpus)?;
        let resources = lower::resources(&container.resources, &std::collections::BTreeMap::new());
        if self.is_running(&record.id) {
            let paths: CgroupPaths = serde_json::from_value(self.status(&record.id)?.cgroup)
                .map_err(|e| Error::corrupt(format!("container {}: cgroup", record.name)).with_source(e))?;
            Cgroup::open(&paths).update(&resources)?;
        }
        self.records().update_container(&record)?;
        if self.is_running(&record.id) {
            // A restart by policy runs from these files.
            let dir = self.paths.container(&record.id);
            let oci = lower::oci(&record.spec, &record.spec.containers[0], &self.resolve(&record, &dir)?)?;
            let text = serde_json::to_vec(&oci).map_err(|e| Error::internal("config.json").with_source(e))?;
            std::fs::write(dir.join("config.json"), text)
                .map_err(|e| Error::io(dir.display().to_string(), e))?;
            self.write_monitor_spec(&record)?;
            match self.ask(&record, &Request::Reload) {
                // It has just ended.
                Err(_) if !self.is_running(&record.id) => {}
                other => drop(other?),
            }
        }
        self.emit_container("update", &record, &[]);
        Ok(())
    }

    /// The processes of a container as `ps` shows them.
    ///
    /// # Errors
    /// `Conflict` if it does not run; `Unsupported` if the host has no `ps` and options for it were given.
    pub fn top(&self, name: &str, ps_args: &[String]) -> Result<(Vec<String>, Vec<Vec<String>>)> {
        let record = self.records().container(name)?;
        if !self.is_running(&record.id) {
            return Err(Self::not_running(&record, "top"));
        }
        let paths: CgroupPaths = serde_json::from_value(self.status(&record.id)?.cgroup)
            .map_err(|e| Error::corrupt(format!("container {}: cgroup", record.name)).with_source(e))?;
        let pids = Cgroup::open(&paths).pids()?;
        let table = crate::container::top::processes(&pids, ps_args)?;
        self.emit_container("top", &record, &[]);
        Ok(table)
    }
}

/// Whether a container that nobody serves should run, by its policy and by how it was left.
fn should_run(condition: RestartCondition, status: &SandboxStatus) -> bool {
    let interrupted = matches!(status.phase, Phase::Running | Phase::Paused | Phase::Restarting);
    let ever = status.started_at != 0;
    match condition {
        RestartCondition::No => false,
        RestartCondition::Always => ever,
        RestartCondition::UnlessStopped => ever && !status.stopped_by_user,
        RestartCondition::OnFailure | RestartCondition::OnUnhealthy => interrupted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_stopped_by_hand_stays_down_unless_always() {
        let by_hand = SandboxStatus {
            phase: Phase::Exited,
            started_at: 1,
            stopped_by_user: true,
            ..SandboxStatus::default()
        };
        assert!(should_run(RestartCondition::Always, &by_hand));
        assert!(!should_run(RestartCondition::UnlessStopped, &by_hand));
        let interrupted = SandboxStatus { phase: Phase::Running, started_at: 1, ..SandboxStatus::default() };
        for condition in
            [RestartCondition::Always, RestartCondition::UnlessStopped, RestartCondition::OnFailure]
        {
            assert!(should_run(condition, &interrupted), "{condition:?}");
        }
        assert!(!should_run(RestartCondition::No, &interrupted));
        assert!(!should_run(RestartCondition::Always, &SandboxStatus::default()));
    }
}
