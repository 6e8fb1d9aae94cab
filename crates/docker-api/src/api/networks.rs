//! Networks: parameters and operations.

use fluyt_model::Result;

use super::Filters;
use crate::types::{EndpointSettings, NetworkCreate, NetworkInspect};

/// A network that was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkCreated {
    /// Its id.
    pub id: String,
    /// What was ignored.
    pub warning: String,
}

/// What can be asked of and about networks. An unknown one is `NotFound`.
#[allow(clippy::missing_errors_doc)] // each: `NotFound`, and what the sentence says
pub trait Networks {
    /// The networks. Filters: `dangling`, `driver`, `id`, `label`, `label!`, `name`, `scope`, `type`.
    fn network_list(&self, filters: &Filters) -> Result<Vec<NetworkInspect>>;

    /// All about one.
    fn network_inspect(&self, name: &str) -> Result<NetworkInspect>;

    /// Makes one. `Conflict` if the name is taken.
    fn network_create(&self, wanted: &NetworkCreate) -> Result<NetworkCreated>;

    /// Removes one. `PermissionDenied` for predefined ones, `Conflict` while containers are in it.
    fn network_remove(&self, name: &str) -> Result<()>;

    /// Plugs a container in.
    fn network_connect(&self, network: &str, container: &str, endpoint: &EndpointSettings) -> Result<()>;

    /// Unplugs a container.
    fn network_disconnect(&self, network: &str, container: &str, force: bool) -> Result<()>;

    /// Removes unused ones; their names. Filters: `until`, `label`, `label!`.
    fn network_prune(&self, filters: &Filters) -> Result<Vec<String>>;
}
