//! Pods as others see them: record, sandbox and members together.

use std::collections::HashMap;

use fluyt_model::sandbox::Phase;
use fluyt_model::{Kind, Result, id};

use super::state::SandboxState;
use super::{InfraPhase, PodPhase, PodRecord, PodView};
use crate::Engine;
use crate::api::ContainerView;

impl Engine {
    /// All pods, newest first.
    ///
    /// # Errors
    /// The records cannot be read.
    pub fn pods(&self) -> Result<Vec<PodView>> {
        let pods = self.records().pods()?;
        if pods.is_empty() {
            return Ok(Vec::new());
        }
        let mut members: HashMap<String, Vec<ContainerView>> = HashMap::new();
        for view in self.list()?.into_iter().rev().filter(|v| !v.spec.pod.is_empty()) {
            members.entry(view.spec.pod.clone()).or_default().push(view);
        }
        pods.into_iter()
            .map(|pod| {
                let members = members.remove(&pod.id).unwrap_or_default();
                self.pod_view(pod, members)
            })
            .collect()
    }

    /// One pod by name, id, or unambiguous beginning of an id.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn pod(&self, name: &str) -> Result<PodView> {
        let pod = self.records().pod(name)?;
        let mut members = Vec::new();
        for member in self.records().members(&pod.id)? {
            match self.container(&member.id) {
                // Removed meanwhile.
                Err(e) if e.kind() == Kind::NotFound => {}
                found => members.push(found?),
            }
        }
        self.pod_view(pod, members)
    }

    /// Whether there is such a pod.
    ///
    /// # Errors
    /// The records cannot be read.
    pub fn pod_exists(&self, name: &str) -> Result<bool> {
        match self.records().pod(name) {
            Err(e) if e.kind() == Kind::NotFound => Ok(false),
            found => found.map(|_| true),
        }
    }

    fn pod_view(&self, pod: PodRecord, members: Vec<ContainerView>) -> Result<PodView> {
        let state = SandboxState::load(&self.paths, &pod.id)?;
        let up = state.is_up(&self.paths.pod_run(&pod.id));
        let phases: Vec<Phase> = members.iter().map(|m| m.status.phase).collect();
        let infra = infra_phase(up, state.started_at != 0, &phases);
        let infra_name = match pod.spec.infra_name.as_str() {
            _ if !pod.spec.infra => String::new(),
            "" => format!("{}-infra", id::short(&pod.id)),
            name => name.to_owned(),
        };
        Ok(PodView {
            phase: phase(pod.spec.infra.then_some(infra), &phases),
            infra,
            infra_name,
            started_at: state.started_at,
            finished_at: state.finished_at,
            ports: if up { state.network.ports } else { Vec::new() },
            endpoints: if pod.owns_network() {
                self.records().leases_of_container(&pod.id)?
            } else {
                Vec::new()
            },
            cgroup: self.pod_cgroup(&pod),
            init_pid: if up { state.init_pid } else { 0 },
            members,
            id: pod.id,
            name: pod.name,
            created: pod.created,
            spec: pod.spec,
            document: pod.document,
            infra_id: pod.infra_id,
        })
    }
}

/// What the sandbox counts as, beside members in these states.
fn infra_phase(up: bool, ever: bool, members: &[Phase]) -> InfraPhase {
    let any = |phase| members.contains(&phase);
    match (up, ever) {
        (true, _) if any(Phase::Paused) && !any(Phase::Running) => InfraPhase::Paused,
        (true, _) => InfraPhase::Running,
        (false, true) => InfraPhase::Exited,
        (false, false) => InfraPhase::Created,
    }
}

/// The state of a pod, as Podman derives it.
fn phase(infra: Option<InfraPhase>, members: &[Phase]) -> PodPhase {
    let infra = infra.map(|infra| match infra {
        InfraPhase::Created => Phase::Created,
        InfraPhase::Running => Phase::Running,
        InfraPhase::Paused => Phase::Paused,
        InfraPhase::Exited => Phase::Exited,
    });
    let all = infra.iter().chain(members);
    let total = all.clone().count();
    let count = |wanted: &[Phase]| all.clone().filter(|p| wanted.contains(p)).count();
    let (running, paused) = (count(&[Phase::Running]), count(&[Phase::Paused]));
    let ended = count(&[Phase::Exited, Phase::Restarting, Phase::Removing]);
    if total == 0 {
        PodPhase::Created
    } else if running == total {
        PodPhase::Running
    } else if running > 0 {
        PodPhase::Degraded
    } else if paused == total {
        PodPhase::Paused
    } else if ended == total {
        PodPhase::Exited
    } else if ended > 0 {
        PodPhase::Stopped
    } else if count(&[Phase::Dead]) > 0 {
        PodPhase::Dead
    } else {
        PodPhase::Created
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_as_podman_tells_them() {
        use Phase::{Created, Exited, Paused, Running};
        let of = |up, ever, members: &[Phase]| phase(Some(infra_phase(up, ever, members)), members);
        assert_eq!(of(false, false, &[]), PodPhase::Created);
        assert_eq!(of(false, false, &[Created]), PodPhase::Created);
        assert_eq!(of(true, true, &[Running, Running]), PodPhase::Running);
        assert_eq!(of(true, true, &[Running, Exited]), PodPhase::Degraded);
        assert_eq!(of(true, true, &[Exited]), PodPhase::Degraded);
        assert_eq!(of(true, true, &[Paused]), PodPhase::Paused);
        assert_eq!(of(true, true, &[Paused, Exited]), PodPhase::Stopped);
        assert_eq!(of(false, true, &[Exited]), PodPhase::Exited);
        assert_eq!(of(false, true, &[Exited, Created]), PodPhase::Stopped);
        assert_eq!(phase(None, &[]), PodPhase::Created);
        assert_eq!(phase(None, &[Running]), PodPhase::Running);
    }
}
