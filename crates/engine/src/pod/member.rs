//! Containers as members of pods: what they take over when they are made, where they find it when they start.

use std::path::PathBuf;

use fluyt_model::sandbox::{MountSource, Namespace, RestartCondition, SandboxSpec, UserNamespace};
use fluyt_model::{Error, Result};
use fluyt_monitor::spec::NetworkPlan;

use super::state::SandboxState;
use super::{ExitPolicy, PodRecord};
use crate::records::ContainerRecord;
use crate::{Engine, Paths};

impl Engine {
    /// Makes the contract of a container that is to be a member of a pod definite: which namespaces it joins, what it takes
    /// over. Does nothing for any other.
    ///
    /// # Errors
    /// `NotFound` for an unknown pod, `Invalid` for what the pod decides for all its members.
    pub(crate) fn adopt(&self, spec: &mut SandboxSpec) -> Result<()> {
        let names = &mut spec.requires;
        for name in names.iter_mut() {
            *name = self.records().container(name)?.id;
        }
        if spec.pod.is_empty() {
            return not_without_pod(spec);
        }
        let pod = self.records().pod(&spec.pod)?;
        spec.pod.clone_from(&pod.id);
        spec.pod_name.clone_from(&pod.name);
        let (share, from) = (pod.spec.share, &pod.spec.sandbox.namespaces);
        let has = |shared: bool| pod.spec.infra && shared;
        if spec.namespaces.network == Namespace::Pod && has(share.network) {
            check_network(spec)?;
            spec.networks.clear();
        }
        if spec.namespaces.uts == Namespace::Pod && has(share.uts) && !spec.hostname.is_empty() {
            return Err(Error::invalid(
                "cannot set hostname when joining the pod UTS namespace: invalid configuration",
            )
            .with_hint("give it to the pod: `fluyt pod create --hostname`"));
        }
        if pod.spec.infra && spec.namespaces.user != UserNamespace::Host {
            return Err(Error::invalid("a member of a pod cannot have a user namespace of its own")
                .with_hint("leave out --userns, --uidmap and --gidmap"));
        }
        let namespaces = &mut spec.namespaces;
        for (wanted, shared, from) in [
            (&mut namespaces.network, share.network, &from.network),
            (&mut namespaces.ipc, share.ipc, &from.ipc),
            (&mut namespaces.uts, share.uts, &from.uts),
            (&mut namespaces.pid, share.pid, &from.pid),
            (&mut namespaces.cgroup, share.cgroup, &from.cgroup),
        ] {
            if *wanted == Namespace::Pod {
                *wanted = member_namespace(has(shared), from);
            }
        }
        if let Some(container) = spec.containers.first_mut() {
            if container.restart.condition == RestartCondition::No && !spec.auto_remove {
                container.restart = pod.spec.restart;
            }
            let mut mounts: Vec<_> = pod.spec.mounts.clone();
            mounts.retain(|m| {
                matches!(m.source, MountSource::VolumesFrom { .. })
                    || !container.mounts.iter().any(|own| own.target == m.target)
            });
            mounts.append(&mut container.mounts);
            container.mounts = mounts;
        }
        Ok(())
    }

    /// The pod that a container is a member of.
    ///
    /// # Errors
    /// `NotFound`.
    pub(crate) fn pod_of(&self, record: &ContainerRecord) -> Result<Option<PodRecord>> {
        if record.spec.pod.is_empty() { Ok(None) } else { self.records().pod(&record.spec.pod).map(Some) }
    }

    /// What a member's monitor does for the network of its pod.
    pub(crate) fn member_plan(&self, record: &ContainerRecord) -> Result<NetworkPlan> {
        let state = SandboxState::load(&self.paths, &record.spec.pod)?;
        let sandbox = state.network;
        if !sandbox.own {
            return Ok(NetworkPlan::default());
        }
        Ok(NetworkPlan {
            scope: sandbox.scope,
            joined: true,
            ports: sandbox.ports,
            dns: sandbox.dns,
            ..NetworkPlan::default()
        })
    }

    /// The pod whose sandbox goes with its last member, for the monitor of a member; empty: none.
    pub(crate) fn pod_to_settle(&self, record: &ContainerRecord) -> Result<String> {
        Ok(match self.pod_of(record)? {
            Some(pod) if pod.spec.infra && pod.spec.exit_policy == ExitPolicy::Stop => pod.id,
            _ => String::new(),
        })
    }

    /// See [`name_file`].
    pub(crate) fn name_file(&self, record: &ContainerRecord, file: &str) -> PathBuf {
        name_file(&self.paths, &record.id, &record.spec, file)
    }
}

/// Where a container's `hosts` or `resolv.conf` is: its own, or that of its pod.
pub(crate) fn name_file(paths: &Paths, id: &str, spec: &SandboxSpec, file: &str) -> PathBuf {
    if spec.namespaces.network == Namespace::Pod {
        paths.pod(&spec.pod).join(file)
    } else {
        paths.container(id).join(file)
    }
}

/// Where a member's namespace comes from that is to be the pod's.
fn member_namespace(shared: bool, pods: &Namespace) -> Namespace {
    match pods {
        _ if !shared => Namespace::Private,
        Namespace::Private | Namespace::Shareable => Namespace::Pod,
        other => other.clone(),
    }
}

/// Without a pod, its namespaces are those of any container.
fn not_without_pod(spec: &mut SandboxSpec) -> Result<()> {
    let n = &mut spec.namespaces;
    for namespace in [&mut n.network, &mut n.pid, &mut n.ipc, &mut n.uts, &mut n.cgroup] {
        if *namespace == Namespace::Pod {
            return Err(Error::invalid("the namespaces of a pod, without a pod"));
        }
    }
    Ok(())
}

/// What a pod decides about the network for all its members.
fn check_network(spec: &SandboxSpec) -> Result<()> {
    const WHY: &str =
        "must be defined when the pod is created: network cannot be configured when it is shared with a pod";
    let refuse = |what: &str, flag: &str| {
        Err(Error::invalid(format!("invalid config provided: {what} {WHY}"))
            .with_hint(format!("give it to the pod: `fluyt pod create {flag}`")))
    };
    if !spec.ports.is_empty() {
        return refuse("published or exposed ports", "--publish");
    }
    let plain = |a: &fluyt_model::sandbox::NetworkAttachment| {
        a.ipv4.is_none() && a.ipv6.is_none() && a.mac.is_none() && a.aliases.is_empty() && a.links.is_empty()
    };
    if spec.networks.len() > 1 || !spec.networks.iter().all(plain) {
        return refuse("networks", "--network");
    }
    if spec.dns != fluyt_model::sandbox::Dns::default() {
        return refuse("DNS options", "--dns");
    }
    if !spec.extra_hosts.is_empty() {
        return refuse("extra host entries", "--add-host");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_gets_what_the_pod_shares() {
        assert_eq!(member_namespace(true, &Namespace::Private), Namespace::Pod);
        assert_eq!(member_namespace(true, &Namespace::Host), Namespace::Host);
        assert_eq!(member_namespace(false, &Namespace::Host), Namespace::Private);
    }

    #[test]
    fn ports_and_networks_are_the_pods() {
        let mut spec = SandboxSpec { networks: vec![Default::default()], ..SandboxSpec::default() };
        assert!(check_network(&spec).is_ok());
        spec.ports.push(Default::default());
        let told = check_network(&spec).unwrap_err().to_string();
        assert!(
            told.contains("published or exposed ports must be defined when the pod is created"),
            "{told}"
        );
        spec.ports.clear();
        spec.dns.servers.push("1.1.1.1".to_owned());
        assert!(check_network(&spec).is_err());
    }
}
