//! What runs -> Kubernetes' objects: pods of sandboxes and their containers, what makes pods, Services, claims of volumes; and
//! these as YAML.
//!
//! A pod that was played comes out so that it can be played again: names of containers are those inside the pod, volumes
//! that went with it are emptyDirs. What Kubernetes has no field for is an annotation, as with Podman.

mod container;
mod mounts;
mod workload;

use std::collections::BTreeMap;
use std::path::Path;

use fluyt_model::sandbox::{Namespace, PortMapping, Protocol, RestartCondition, SandboxSpec};
use fluyt_yaml::{Node, write};
use serde::Serialize;

use crate::annotations;
use crate::lower::{ImageFacts, Problem};
use crate::objects::{
    ContainerPort, DnsConfig, DnsOption, HostAlias, Meta, Pod, PodSecurity, PodSpec, Sysctl, Volume,
};

pub use workload::{Kind, claim, service, wrap};

/// A pod, or containers that are to become one.
#[derive(Clone, Copy, Debug)]
pub struct Whole<'a> {
    /// The pod's name.
    pub name: &'a str,
    /// The sandbox.
    pub sandbox: &'a SandboxSpec,
    /// Containers see one another's processes.
    pub share_pid: bool,
    /// The name of its sandbox, if it was given one.
    pub infra_name: &'a str,
    /// The restart policy.
    pub restart: RestartCondition,
    /// The containers, in the order in which they were made.
    pub parts: &'a [Part<'a>],
    /// Now, as RFC 3339.
    pub now: &'a str,
    /// Ports of the machine are left out: a Service is made for them.
    pub service: bool,
}

/// A container.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a> {
    /// Its name on the machine.
    pub name: &'a str,
    /// Its sandbox.
    pub sandbox: &'a SandboxSpec,
    /// Its program, if it has its own.
    pub entrypoint: &'a [String],
    /// Its arguments.
    pub cmd: &'a [String],
    /// Its image.
    pub image: &'a ImageFacts,
}

/// What is generated, and what has no words in Kubernetes.
#[derive(Clone, Debug, Default)]
pub struct Generated {
    /// The pod.
    pub pod: Pod,
    /// What was left out.
    pub warnings: Vec<String>,
}

/// What is at a path of the machine: `Directory`, `File`; `DirectoryOrCreate` if nothing is.
pub type Look<'a> = &'a dyn Fn(&Path) -> &'static str;

/// The pod of a sandbox and its containers.
///
/// # Errors
/// There are no containers.
pub fn pod(whole: Whole<'_>, look: Look<'_>) -> Result<Generated, Problem> {
    if whole.parts.is_empty() {
        return Err(Problem::new("", format!("pod {} has no containers", whole.name))
            .hint("put containers into it first"));
    }
    let name = without_underscores(whole.name);
    let mut generated = Generated::default();
    let mut words = pod_annotations(whole);
    let mut volumes: Vec<Volume> = Vec::new();
    let mut containers = Vec::new();
    for part in whole.parts {
        let short = part.name.strip_prefix(&format!("{}-", whole.name)).unwrap_or(part.name);
        let short = without_underscores(short);
        let mut made = container::container(*part, &short, whole.name, &mut volumes, look);
        words.append(&mut made.annotations);
        generated.warnings.append(&mut made.warnings);
        containers.push(made.container);
    }
    let mut ports = ports(&whole.sandbox.ports, whole.service);
    if let Some(first) = containers.first_mut() {
        first.ports.append(&mut ports);
    }
    let mut labels = whole.sandbox.labels.clone();
    labels.entry("app".to_owned()).or_insert_with(|| name.clone());
    generated.pod = Pod {
        api_version: "v1".to_owned(),
        kind: "Pod".to_owned(),
        metadata: Meta {
            name,
            labels,
            annotations: words,
            creation_timestamp: Some(whole.now.to_owned()),
            ..Meta::default()
        },
        spec: PodSpec { containers, volumes, ..pod_spec(whole) },
    };
    Ok(generated)
}

fn pod_annotations(whole: Whole<'_>) -> BTreeMap<String, String> {
    let own = whole.sandbox.annotations.iter();
    let mut words: BTreeMap<String, String> =
        own.filter(|(key, _)| !annotations::is_ours(key)).map(|(k, v)| (k.clone(), v.clone())).collect();
    if !whole.infra_name.is_empty() {
        words.insert(annotations::INFRA_NAME.to_owned(), whole.infra_name.to_owned());
    }
    words
}

fn pod_spec(whole: Whole<'_>) -> PodSpec {
    let sandbox = whole.sandbox;
    let host = |namespace: &Namespace| *namespace == Namespace::Host;
    let namespaces = &sandbox.namespaces;
    let own_name = !sandbox.hostname.is_empty() && sandbox.hostname != whole.name && !host(&namespaces.uts);
    PodSpec {
        hostname: if own_name { sandbox.hostname.clone() } else { String::new() },
        host_network: host(&namespaces.network),
        host_pid: host(&namespaces.pid),
        host_ipc: host(&namespaces.ipc),
        share_process_namespace: (whole.share_pid && !host(&namespaces.pid)).then_some(true),
        restart_policy: match whole.restart {
            RestartCondition::No => "Never",
            RestartCondition::Always | RestartCondition::UnlessStopped => "Always",
            RestartCondition::OnFailure | RestartCondition::OnUnhealthy => "OnFailure",
        }
        .to_owned(),
        termination_grace_period_seconds: whole.parts.iter().find_map(|part| {
            part.sandbox.containers.first().and_then(|c| c.stop.timeout).filter(|seconds| *seconds >= 0)
        }),
        host_aliases: aliases(sandbox),
        dns_config: dns(sandbox),
        security_context: security(whole),
        ..PodSpec::default()
    }
}

fn aliases(sandbox: &SandboxSpec) -> Vec<HostAlias> {
    let mut aliases: Vec<HostAlias> = Vec::new();
    for entry in &sandbox.extra_hosts {
        match aliases.iter_mut().find(|alias| alias.ip == entry.address) {
            Some(alias) => alias.hostnames.push(entry.name.clone()),
            None => {
                aliases.push(HostAlias { ip: entry.address.clone(), hostnames: vec![entry.name.clone()] });
            }
        }
    }
    aliases
}

fn dns(sandbox: &SandboxSpec) -> Option<DnsConfig> {
    let dns = &sandbox.dns;
    let option = |text: &String| match text.split_once(':') {
        Some((name, value)) => DnsOption { name: name.to_owned(), value: Some(value.to_owned()) },
        None => DnsOption { name: text.clone(), value: None },
    };
    let config = DnsConfig {
        nameservers: dns.servers.clone(),
        searches: dns.search.clone(),
        options: dns.options.iter().map(option).collect(),
    };
    (config != DnsConfig::default()).then_some(config)
}

/// Parameters of the kernel, and the groups that all containers have.
fn security(whole: Whole<'_>) -> Option<PodSecurity> {
    let sysctl = |(name, value): (&String, &String)| Sysctl { name: name.clone(), value: value.clone() };
    let groups = |part: &Part<'_>| {
        part.sandbox.containers.first().map(|c| c.process.groups.clone()).unwrap_or_default()
    };
    let first = whole.parts.first().map(groups).unwrap_or_default();
    let same = whole.parts.iter().all(|part| groups(part) == first);
    let security = PodSecurity {
        sysctls: whole.sandbox.sysctls.iter().map(sysctl).collect(),
        supplemental_groups: match same {
            true => first.iter().filter_map(|group| group.parse().ok()).collect(),
            false => Vec::new(),
        },
        ..PodSecurity::default()
    };
    (security != PodSecurity::default()).then_some(security)
}

fn ports(mappings: &[PortMapping], service: bool) -> Vec<ContainerPort> {
    let port = |mapping: &PortMapping| ContainerPort {
        container_port: i64::from(mapping.container_port),
        host_port: if service { 0 } else { i64::from(mapping.host_port) },
        host_ip: match service {
            true => String::new(),
            false => mapping.host_ip.map(|ip| ip.to_string()).unwrap_or_default(),
        },
        protocol: match mapping.protocol {
            Protocol::Tcp => String::new(),
            other => other.as_str().to_uppercase(),
        },
        ..ContainerPort::default()
    };
    mappings.iter().map(port).collect()
}

/// Names of Kubernetes have no underscores.
#[must_use]
pub fn without_underscores(name: &str) -> String {
    name.replace('_', "")
}

/// A name of a volume, from a path or another name.
fn volume_name(text: &str) -> String {
    let trimmed = text.trim_matches('/');
    if trimmed.is_empty() { "root".to_owned() } else { trimmed.replace(['/', '.', '_'], "-").to_lowercase() }
}

/// An object as YAML, its keys in order, as Kubernetes' tools write it.
#[must_use]
pub fn yaml(object: &impl Serialize) -> String {
    let value = serde_json::to_value(object).unwrap_or_default();
    write::yaml_flat(&Node::from_json(value))
}

#[cfg(test)]
mod tests;
