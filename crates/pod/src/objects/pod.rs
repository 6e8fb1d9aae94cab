//! Pods.

use super::{Container, Meta, PodSecurity, Volume};

objects! {
    /// A pod.
    Pod {
        /// `v1`.
        api_version: String,
        /// `Pod`.
        kind: String,
        /// Name, labels, annotations.
        metadata: Meta,
        /// What it is.
        spec: PodSpec,
    }

    /// What pods are made of by those that make them.
    PodTemplate {
        /// Labels and annotations.
        metadata: Meta,
        /// What they are.
        spec: PodSpec,
    }

    /// What a pod is.
    PodSpec {
        /// Containers that run while it runs.
        containers: Vec<Container>,
        /// Containers that run before the others, one after another.
        init_containers: Vec<Container>,
        /// What containers may mount.
        volumes: Vec<Volume>,
        /// `Always`, `OnFailure`, `Never`.
        restart_policy: String,
        /// Seconds that its processes have to end.
        termination_grace_period_seconds: Option<i64>,
        /// Host name; empty: its name.
        hostname: String,
        /// The domain that its host name is in.
        subdomain: String,
        /// Whether programs see the whole domain name as their host name.
        #[serde(rename = "setHostnameAsFQDN")]
        set_hostname_as_fqdn: Option<bool>,
        /// Further lines of /etc/hosts.
        host_aliases: Vec<HostAlias>,
        /// Where names are resolved.
        dns_config: Option<DnsConfig>,
        /// `ClusterFirst`, `Default`, `None`, `ClusterFirstWithHostNet`.
        dns_policy: String,
        /// The machine's network.
        host_network: bool,
        /// The machine's processes.
        #[serde(rename = "hostPID")]
        host_pid: bool,
        /// The machine's IPC.
        #[serde(rename = "hostIPC")]
        host_ipc: bool,
        /// `false`: a user namespace of its own.
        host_users: Option<bool>,
        /// Containers see one another's processes.
        share_process_namespace: Option<bool>,
        /// Privileges.
        security_context: Option<PodSecurity>,
    }

    /// An address and its names.
    HostAlias {
        /// The address.
        ip: String,
        /// The names.
        hostnames: Vec<String>,
    }

    /// Where names are resolved.
    DnsConfig {
        /// Servers.
        nameservers: Vec<String>,
        /// Domains that are tried.
        searches: Vec<String>,
        /// Options of the resolver.
        options: Vec<DnsOption>,
    }

    /// An option of the resolver.
    DnsOption {
        /// Its name.
        name: String,
        /// Its value, if it takes one.
        value: Option<String>,
    }
}
