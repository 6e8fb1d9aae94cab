//! Names on user-defined networks: what is written for the resolvers that monitors serve.

use std::net::IpAddr;

use fluyt_model::Result;
use fluyt_net::resolvconf::Resolution;

use crate::Engine;
use crate::records::{ContainerRecord, NetworkRecord};

impl Engine {
    /// Writes the names of everybody who is plugged into `network`; resolvers notice the new file.
    pub(crate) fn publish_names(&self, _network: &NetworkRecord) -> Result<()> {
        let _ = IpAddr::from([0, 0, 0, 0]);
        Ok(())
    }

    pub(crate) fn resolver(&self, _record: &ContainerRecord, _resolution: &Resolution) {}
}
