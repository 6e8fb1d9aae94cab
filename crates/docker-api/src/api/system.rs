//! The engine itself: parameters, results, operations.

use fluyt_model::Result;

use super::{AuthConfig, Filters, Follow};
use crate::types::{DiskUsage, EventMessage, SystemInfo, Version};

/// Which events are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventsOf {
    /// Nanoseconds since 1970: not before; `None`: from now on.
    pub since: Option<i64>,
    /// Nanoseconds since 1970: not after, and the stream ends then; `None`: it goes on.
    pub until: Option<i64>,
    /// `container`, `daemon`, `event`, `image`, `label`, `network`, `scope`, `type`, `volume`, `plugin` and others.
    pub filters: Filters,
}

/// Of what the disk use is counted; all of it when nothing is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskUseOf {
    /// Containers.
    pub containers: bool,
    /// Images and layers.
    pub images: bool,
    /// Volumes.
    pub volumes: bool,
    /// The build cache.
    pub build_cache: bool,
}

/// What an engine says when it is pinged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ping {
    /// The newest version of the API that it speaks.
    pub api_version: String,
    /// `linux`.
    pub os_type: String,
    /// `1`: classic, `2`: BuildKit.
    pub builder_version: String,
    /// It has experimental features on.
    pub experimental: bool,
}

/// What a registry said to credentials.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuthAnswer {
    /// A sentence.
    pub status: String,
    /// A token to use from now on instead of the password, if it gave one.
    pub identity_token: String,
}

/// What can be asked of and about the engine itself.
#[allow(clippy::missing_errors_doc)]
pub trait System {
    /// Whether it is there.
    fn ping(&self) -> Result<Ping>;

    /// Versions.
    fn version(&self) -> Result<Version>;

    /// What it is and what its machine has.
    fn info(&self) -> Result<SystemInfo>;

    /// Asks a registry whether credentials are good. `Unauthorized` if not.
    fn auth(&self, credentials: &AuthConfig) -> Result<AuthAnswer>;

    /// What happens.
    fn events(&self, wanted: &EventsOf) -> Result<Box<dyn Follow<EventMessage>>>;

    /// What takes room on the disk.
    fn disk_usage(&self, of: DiskUseOf) -> Result<DiskUsage>;
}
