//! Pods inside of what makes pods, Services that lead to them, claims of volumes.

use std::collections::BTreeMap;

use fluyt_model::Amount;

use super::{volume_name, yaml};
use crate::annotations;
use crate::lower::Problem;
use crate::objects::{
    Claim, ClaimSpec, IntOrText, Job, JobSpec, LabelSelector, Meta, Pod, PodTemplate, Resources, Service,
    ServicePort, ServiceSpec, Workload, WorkloadSpec,
};

/// As what a pod is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Itself.
    Pod,
    /// A Deployment with so many replicas.
    Deployment(i64),
    /// A DaemonSet.
    DaemonSet,
    /// A Job.
    Job,
}

/// A pod as a kind of object, as YAML.
///
/// # Errors
/// Its restart policy is not one of the kind.
pub fn wrap(pod: &Pod, kind: Kind) -> Result<String, Problem> {
    let always = matches!(pod.spec.restart_policy.as_str(), "" | "Always");
    let refuse = |text: &str| Err(Problem::new("", text));
    match kind {
        Kind::Pod => Ok(yaml(pod)),
        Kind::Deployment(_) if !always => refuse("k8s Deployments can only have restartPolicy set to Always"),
        Kind::DaemonSet if !always => refuse("k8s DaemonSets can only have restartPolicy set to Always"),
        Kind::Job if pod.spec.restart_policy == "Always" => refuse(
            "k8s Jobs can not have restartPolicy set to Always; only Never and OnFailure policies allowed",
        ),
        Kind::Deployment(replicas) => {
            Ok(yaml(&workload(pod, "Deployment", (replicas > 1).then_some(replicas))))
        }
        Kind::DaemonSet => Ok(yaml(&workload(pod, "DaemonSet", None))),
        Kind::Job => Ok(yaml(&job(pod))),
    }
}

fn workload(pod: &Pod, kind: &str, replicas: Option<i64>) -> Workload {
    let metadata = labelled(pod);
    let selector = LabelSelector { match_labels: BTreeMap::from([app(pod)]) };
    Workload {
        api_version: "apps/v1".to_owned(),
        kind: kind.to_owned(),
        metadata: outer(pod, &metadata, kind),
        spec: WorkloadSpec {
            replicas,
            selector: Some(selector),
            template: PodTemplate { metadata, spec: pod.spec.clone() },
        },
    }
}

fn job(pod: &Pod) -> Job {
    let metadata = labelled(pod);
    let mut spec = pod.spec.clone();
    "Never".clone_into(&mut spec.restart_policy);
    Job {
        api_version: "batch/v1".to_owned(),
        kind: "Job".to_owned(),
        metadata: outer(pod, &metadata, "Job"),
        spec: JobSpec {
            completions: Some(1),
            parallelism: Some(1),
            template: PodTemplate { metadata, spec },
        },
    }
}

fn app(pod: &Pod) -> (String, String) {
    ("app".to_owned(), pod.metadata.name.clone())
}

fn labelled(pod: &Pod) -> Meta {
    let mut metadata = pod.metadata.clone();
    metadata.labels.extend([app(pod)]);
    metadata
}

fn outer(pod: &Pod, inner: &Meta, kind: &str) -> Meta {
    Meta {
        name: format!("{}-{}", pod.metadata.name, kind.to_lowercase()),
        creation_timestamp: pod.metadata.creation_timestamp.clone(),
        labels: inner.labels.clone(),
        ..Meta::default()
    }
}

/// A Service of the ports of a pod, on ports of the nodes that `node_port` chooses, as YAML.
pub fn service(pod: &Pod, node_port: &mut dyn FnMut() -> i64) -> String {
    let ports = pod.spec.containers.iter().flat_map(|c| &c.ports);
    let ports = ports.map(|port| ServicePort {
        name: port.container_port.to_string(),
        node_port: node_port(),
        port: port.container_port,
        protocol: port.protocol.clone(),
        target_port: IntOrText::Int(port.container_port),
    });
    let label = pod.metadata.labels.get("app").cloned().unwrap_or_default();
    yaml(&Service {
        api_version: "v1".to_owned(),
        kind: "Service".to_owned(),
        metadata: Meta { annotations: BTreeMap::new(), ..pod.metadata.clone() },
        spec: ServiceSpec {
            ports: ports.collect(),
            selector: BTreeMap::from([("app".to_owned(), label)]),
            kind: "NodePort".to_owned(),
        },
    })
}

/// The claim of a volume, as YAML.
#[must_use]
pub fn claim(
    name: &str,
    driver: &str,
    options: &BTreeMap<String, String>,
    labels: &BTreeMap<String, String>,
    now: &str,
) -> String {
    let mut words = BTreeMap::from([(annotations::VOLUME_DRIVER.to_owned(), driver.to_owned())]);
    for (key, word) in [
        ("o", annotations::VOLUME_OPTIONS),
        ("device", annotations::VOLUME_DEVICE),
        ("type", annotations::VOLUME_TYPE),
    ] {
        if let Some(value) = options.get(key) {
            words.insert(word.to_owned(), value.clone());
        }
    }
    yaml(&Claim {
        api_version: "v1".to_owned(),
        kind: "PersistentVolumeClaim".to_owned(),
        metadata: Meta {
            name: volume_name(name),
            labels: labels.clone(),
            annotations: words,
            creation_timestamp: Some(now.to_owned()),
            ..Meta::default()
        },
        spec: ClaimSpec {
            access_modes: vec!["ReadWriteOnce".to_owned()],
            resources: Resources {
                requests: BTreeMap::from([("storage".to_owned(), Amount::bytes(1 << 30))]),
                ..Resources::default()
            },
            ..ClaimSpec::default()
        },
    })
}
