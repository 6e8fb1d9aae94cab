//! The documents of pods: what is kept of the command that made one, and what `pod inspect` and `pod ps` show.

use fluyt_docker_api::time;
use fluyt_docker_api::types::Map;
use fluyt_engine::pod::PodView;
use fluyt_model::sandbox::{MountSource, Namespace};
use fluyt_model::{Error, Result};
use serde::{Deserialize, Serialize};

use super::create::bindings;

/// What is kept of the command that made a pod.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Stored {
    /// Its words.
    pub create_command: Vec<String>,
    /// The image of a sandbox that elsewhere would run.
    pub infra_image: String,
    /// What it would run.
    pub infra_command: String,
}

impl Stored {
    /// What was kept; a pod of another façade has nothing.
    pub fn of(pod: &PodView) -> Self {
        serde_json::from_value(pod.document.clone()).unwrap_or_default()
    }

    /// As the engine keeps it.
    pub fn value(&self) -> Result<serde_json::Value> {
        serde_json::to_value(self).map_err(|e| Error::internal("the pod").with_source(e))
    }
}

/// A published port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Binding {
    /// Address on the host.
    pub host_ip: String,
    /// Port on the host.
    pub host_port: String,
}

/// A container of a pod.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Member {
    /// Full id.
    pub id: String,
    /// Name.
    pub name: String,
    /// `running`, `exited`, …
    pub state: String,
}

/// The containers of a pod as clients see them: with the sandbox, the sandbox first.
pub fn members(pod: &PodView) -> Vec<Member> {
    let infra = (!pod.infra_id.is_empty()).then(|| Member {
        id: pod.infra_id.clone(),
        name: pod.infra_name.clone(),
        state: pod.infra.as_str().to_owned(),
    });
    let own = pod.members.iter().map(|m| Member {
        id: m.id.clone(),
        name: m.name.clone(),
        state: m.status.phase.as_str().to_owned(),
    });
    infra.into_iter().chain(own).collect()
}

/// The sandbox, in Podman's words.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct InfraConfig {
    port_bindings: Map<Vec<Binding>>,
    host_network: bool,
    #[serde(rename = "StaticIP")]
    static_ip: String,
    #[serde(rename = "StaticMAC")]
    static_mac: String,
    no_manage_resolv_conf: bool,
    #[serde(rename = "DNSServer")]
    dns_server: Option<Vec<String>>,
    #[serde(rename = "DNSSearch")]
    dns_search: Option<Vec<String>>,
    #[serde(rename = "DNSOption")]
    dns_option: Option<Vec<String>>,
    no_manage_hosts: bool,
    host_add: Option<Vec<String>>,
    networks: Option<Vec<String>>,
    network_options: Option<()>,
    #[serde(rename = "pid_ns")]
    pid_ns: &'static str,
    #[serde(rename = "userns")]
    userns: &'static str,
    #[serde(rename = "uts_ns")]
    uts_ns: &'static str,
}

/// What every container has mounted.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct PodMount {
    #[serde(rename = "Type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    source: String,
    destination: String,
    #[serde(rename = "RW")]
    rw: bool,
    propagation: String,
}

/// `pod inspect`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct PodInspect {
    id: String,
    name: String,
    created: String,
    create_command: Vec<String>,
    exit_policy: &'static str,
    state: &'static str,
    hostname: String,
    #[serde(skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    labels: std::collections::BTreeMap<String, String>,
    create_cgroup: bool,
    cgroup_parent: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    cgroup_path: String,
    create_infra: bool,
    #[serde(rename = "InfraContainerID", skip_serializing_if = "String::is_empty")]
    infra_container_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    infra_config: Option<InfraConfig>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    shared_namespaces: Vec<&'static str>,
    restart_policy: &'static str,
    num_containers: usize,
    containers: Vec<Member>,
    #[serde(rename = "cpu_period", skip_serializing_if = "Option::is_none")]
    cpu_period: Option<u64>,
    #[serde(rename = "cpu_quota", skip_serializing_if = "Option::is_none")]
    cpu_quota: Option<i64>,
    #[serde(rename = "cpu_shares", skip_serializing_if = "Option::is_none")]
    cpu_shares: Option<u64>,
    #[serde(rename = "cpuset_cpus", skip_serializing_if = "String::is_empty")]
    cpuset_cpus: String,
    #[serde(rename = "cpuset_mems", skip_serializing_if = "String::is_empty")]
    cpuset_mems: String,
    #[serde(rename = "mounts", skip_serializing_if = "Vec::is_empty")]
    mounts: Vec<PodMount>,
    #[serde(rename = "memory_limit", skip_serializing_if = "Option::is_none")]
    memory_limit: Option<i64>,
    #[serde(rename = "memory_swap", skip_serializing_if = "Option::is_none")]
    memory_swap: Option<i64>,
    #[serde(rename = "blkio_weight", skip_serializing_if = "Option::is_none")]
    blkio_weight: Option<u16>,
}

/// Microseconds in which a fraction of processors is counted out.
const PERIOD: u64 = 100_000;

/// The document of a pod.
pub fn inspect(pod: &PodView) -> PodInspect {
    let (spec, resources) = (&pod.spec, &pod.spec.resources);
    let (period, quota) = match resources.nano_cpus {
        Some(nano) => (Some(PERIOD), Some(nano / 10_000)),
        None => (resources.cpu_period, resources.cpu_quota),
    };
    let containers = members(pod);
    PodInspect {
        id: pod.id.clone(),
        name: pod.name.clone(),
        created: time::rfc3339_nano(pod.created),
        create_command: Stored::of(pod).create_command,
        exit_policy: spec.exit_policy.as_str(),
        state: pod.phase.as_str(),
        hostname: spec.sandbox.hostname.clone(),
        labels: spec.sandbox.labels.clone(),
        create_cgroup: spec.infra && spec.share_parent,
        cgroup_parent: pod.cgroup.rsplit_once('/').map(|(parent, _)| parent.to_owned()).unwrap_or_default(),
        cgroup_path: pod.cgroup.clone(),
        create_infra: spec.infra,
        infra_container_id: pod.infra_id.clone(),
        infra_config: spec.infra.then(|| infra_config(pod)),
        shared_namespaces: shared(pod),
        restart_policy: spec.restart.condition.as_str(),
        num_containers: containers.len(),
        containers,
        cpu_period: period,
        cpu_quota: quota,
        cpu_shares: resources.cpu_shares,
        cpuset_cpus: resources.cpuset_cpus.clone(),
        cpuset_mems: resources.cpuset_mems.clone(),
        mounts: spec.mounts.iter().filter_map(mount).collect(),
        memory_limit: resources.memory,
        memory_swap: resources.memory_swap.or_else(|| resources.memory.map(|m| m.saturating_mul(2))),
        blkio_weight: resources.blkio_weight,
    }
}

/// The namespaces that the containers of a pod share.
pub fn shared(pod: &PodView) -> Vec<&'static str> {
    let share = pod.spec.share;
    [
        ("cgroup", share.cgroup),
        ("ipc", share.ipc),
        ("net", share.network),
        ("pid", share.pid),
        ("uts", share.uts),
    ]
    .into_iter()
    .filter_map(|(name, is)| is.then_some(name))
    .collect()
}

fn infra_config(pod: &PodView) -> InfraConfig {
    let sandbox = &pod.spec.sandbox;
    let some = |list: &[String]| (!list.is_empty()).then(|| list.to_vec());
    let first = sandbox.networks.first();
    let word = |from: &Namespace| if *from == Namespace::Host { "host" } else { "private" };
    let hosts: Vec<String> =
        sandbox.extra_hosts.iter().map(|h| format!("{}:{}", h.name, h.address)).collect();
    let networks: Vec<String> = sandbox.networks.iter().map(|a| a.network.clone()).collect();
    InfraConfig {
        port_bindings: bindings(&pod.spec),
        host_network: sandbox.namespaces.network == Namespace::Host,
        static_ip: first.and_then(|a| a.ipv4).map(|ip| ip.to_string()).unwrap_or_default(),
        static_mac: first.and_then(|a| a.mac.clone()).unwrap_or_default(),
        no_manage_resolv_conf: false,
        dns_server: some(&sandbox.dns.servers),
        dns_search: some(&sandbox.dns.search),
        dns_option: some(&sandbox.dns.options),
        no_manage_hosts: false,
        host_add: some(&hosts),
        networks: some(&networks),
        network_options: None,
        pid_ns: word(&sandbox.namespaces.pid),
        userns: "host",
        uts_ns: word(&sandbox.namespaces.uts),
    }
}

fn mount(spec: &fluyt_model::sandbox::MountSpec) -> Option<PodMount> {
    let (kind, name, source) = match &spec.source {
        MountSource::Bind { path, .. } => ("bind", String::new(), path.display().to_string()),
        MountSource::Volume { name, .. } => ("volume", name.clone(), name.clone()),
        MountSource::Tmpfs { .. } => ("tmpfs", String::new(), String::new()),
        MountSource::Image { image, .. } => ("image", image.clone(), image.clone()),
        MountSource::VolumesFrom { .. } => return None,
    };
    let propagation = if spec.propagation.is_empty() { "rprivate" } else { &spec.propagation };
    Some(PodMount {
        kind,
        name,
        source,
        destination: spec.target.clone(),
        rw: !spec.read_only,
        propagation: propagation.to_owned(),
    })
}
