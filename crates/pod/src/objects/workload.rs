//! What makes pods, and what leads to them.

use std::collections::BTreeMap;

use super::{IntOrText, LabelSelector, Meta, PodTemplate};

objects! {
    /// A Deployment or a DaemonSet.
    Workload {
        /// `apps/v1`.
        api_version: String,
        /// `Deployment`, `DaemonSet`.
        kind: String,
        /// Its name.
        metadata: Meta,
        /// What it is.
        spec: WorkloadSpec,
    }

    /// What a Deployment or a DaemonSet is.
    WorkloadSpec {
        /// How many pods.
        replicas: Option<i64>,
        /// Which are its pods.
        selector: Option<LabelSelector>,
        /// What its pods are.
        template: PodTemplate,
    }

    /// A Job.
    Job {
        /// `batch/v1`.
        api_version: String,
        /// `Job`.
        kind: String,
        /// Its name.
        metadata: Meta,
        /// What it is.
        spec: JobSpec,
    }

    /// What a Job is.
    JobSpec {
        /// How many pods have to succeed.
        completions: Option<i64>,
        /// How many run at once.
        parallelism: Option<i64>,
        /// What its pods are.
        template: PodTemplate,
    }

    /// A Service.
    Service {
        /// `v1`.
        api_version: String,
        /// `Service`.
        kind: String,
        /// Its name.
        metadata: Meta,
        /// What it is.
        spec: ServiceSpec,
    }

    /// What a Service is.
    ServiceSpec {
        /// Its ports.
        ports: Vec<ServicePort>,
        /// The labels of its pods.
        selector: BTreeMap<String, String>,
        /// `NodePort`, …
        #[serde(rename = "type")]
        kind: String,
    }

    /// A port of a Service.
    ServicePort {
        /// Its name.
        name: String,
        /// On each node.
        node_port: i64,
        /// Of the Service.
        port: i64,
        /// `TCP`, `UDP`, `SCTP`; empty: TCP.
        protocol: String,
        /// Of the pods.
        target_port: IntOrText,
    }
}
