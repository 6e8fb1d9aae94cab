//! Kubernetes objects as far as a node needs them: pods, what makes pods, what pods refer to.
//!
//! The types read and write Kubernetes' own documents (JSON names, nothing written that is not set). Fields that mean
//! nothing to a node are absent; [`crate::decode`] tells of them. Meanings and defaults are in [`crate::lower`].

#[macro_use]
mod blank;
mod config;
mod container;
mod meta;
mod pod;
mod probe;
mod security;
mod volume;
mod workload;

pub use blank::{Binary, IntOrText};
pub use config::{Claim, ClaimSpec, ConfigMap, Secret};
pub use container::{
    Container, ContainerPort, EnvFrom, EnvSource, EnvVar, FieldRef, KeyRef, NamedRef, ResourceFieldRef,
    Resources, VolumeMount,
};
pub use meta::{LabelSelector, Meta};
pub use pod::{DnsConfig, DnsOption, HostAlias, Pod, PodSpec, PodTemplate};
pub use probe::{Action, ExecAction, HttpAction, HttpHeader, Lifecycle, Probe, SleepAction, TcpAction};
pub use security::{Capabilities, PodSecurity, Profile, SeLinux, Security, Sysctl};
pub use volume::{
    ClaimSource, ConfigSource, DownwardItem, DownwardSource, EmptyDir, HostPath, ImageSource, Item,
    Projected, Projection, SecretSource, Volume,
};
pub use workload::{Job, JobSpec, Service, ServicePort, ServiceSpec, Workload, WorkloadSpec};
