//! The Docker Engine API's documents (v1.50) as this project's own types.
//!
//! Field names, order and the presence of `null` and of absent fields follow what Docker's engine really prints,
//! which is what its Go structures say. There is no behaviour here beyond (de)serialisation and a few queries.

pub mod container;
pub mod events;
pub mod exec;
pub mod host_config;
pub mod image;
pub mod inspect;
pub mod mount;
pub mod network;
mod nullable;
pub mod port;
pub mod stats;
pub mod system;
pub mod update;
pub mod volume;

pub use container::{ContainerConfig, CreateRequest, CreateResponse, ExecOptions, HealthConfig};
pub use events::{Actor, EventMessage};
pub use exec::{ExecInspect, ExecProcess};
pub use host_config::{
    DeviceMapping, DeviceRequest, HostConfig, IdMappings, LogConfig, Resources, RestartPolicy, SdNotify,
    ThrottleDevice, Ulimit, WeightDevice,
};
pub use image::{HistoryItem, ImageConfig, ImageInspect, ImageSummary, RootFs};
pub use inspect::{
    ContainerInspect, ContainerState, ContainerSummary, GraphDriver, Health, HealthcheckResult, MountPoint,
    NetworkSettings,
};
pub use mount::{BindOptions, DriverConfig, ImageOptions, Mount, TmpfsOptions, VolumeOptions};
pub use network::{
    EndpointIpamConfig, EndpointSettings, Ipam, IpamConfig, NetworkCreate, NetworkInspect, NetworkingConfig,
};
pub use nullable::{List, Map, Nullable};
pub use port::{Empty, PortBinding, PortMap, PortNumber, PortSet, PortSummary, Proto};
pub use stats::ContainerStats;
pub use system::{BuildCacheEntry, DiskUsage, SystemInfo, Version};
pub use update::UpdateConfig;
pub use volume::{Volume, VolumeCreate, VolumeUsage};

/// For `skip_serializing_if` on numbers: Go's `omitempty`.
pub(crate) fn is_zero<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// For `skip_serializing_if` on booleans: Go's `omitempty`.
#[allow(clippy::trivially_copy_pass_by_ref)] // serde passes a reference
pub(crate) fn is_false(value: &bool) -> bool {
    !*value
}
