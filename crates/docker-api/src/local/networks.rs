//! Networks.

use std::net::IpAddr;

use fluyt_engine::{NetworkSpec, SubnetSpec};
use fluyt_model::{Error, Kind, Result};

use super::Local;
use crate::api::*;
use crate::lower;
use crate::select::networks as select;
use crate::select::prune::{FILTERS as PRUNE_FILTERS, Keep};
use crate::types::{EndpointSettings, IpamConfig, NetworkCreate, NetworkInspect};
use crate::{render, time};

impl Networks for Local {
    fn network_list(&self, filters: &Filters) -> Result<Vec<NetworkInspect>> {
        let filters = filters.checked(select::FILTERS)?;
        let mut views = self.engine()?.networks()?;
        select::select(&mut views, &filters)?;
        Ok(views.iter().map(render::network).collect())
    }

    fn network_inspect(&self, name: &str) -> Result<NetworkInspect> {
        Ok(render::network(&self.engine()?.network(name)?))
    }

    fn network_create(&self, wanted: &NetworkCreate) -> Result<NetworkCreated> {
        let id = self.engine()?.network_create(spec(wanted)?)?;
        Ok(NetworkCreated { id, warning: String::new() })
    }

    fn network_remove(&self, name: &str) -> Result<()> {
        self.engine()?.network_remove(name)
    }

    fn network_connect(&self, network: &str, container: &str, endpoint: &EndpointSettings) -> Result<()> {
        let engine = self.engine()?;
        // The attachment is kept by the name, whatever it was called here.
        let name = engine.network(network)?.spec.name;
        engine.network_connect(&name, container, lower::attachment(&name, endpoint)?)
    }

    fn network_disconnect(&self, network: &str, container: &str, force: bool) -> Result<()> {
        self.engine()?.network_disconnect(network, container, force)
    }

    fn network_prune(&self, filters: &Filters) -> Result<Vec<String>> {
        let keep = Keep::new(filters.checked(PRUNE_FILTERS)?, time::now())?;
        Ok(self.engine()?.prune_networks(&|view| keep.network(view))?.removed)
    }
}

/// The engine's word for a network that is wanted.
fn spec(wanted: &NetworkCreate) -> Result<NetworkSpec> {
    if wanted.name.is_empty() {
        return Err(Error::invalid("network name cannot be empty"));
    }
    if wanted.scope == "swarm" || wanted.ingress || wanted.driver == "overlay" {
        return Err(no_swarm());
    }
    if !matches!(wanted.scope.as_str(), "" | "local") {
        return Err(Error::invalid(format!("invalid scope {:?} for a network", wanted.scope)));
    }
    let copies = wanted.config_from.as_ref().is_some_and(|from| !from.network.is_empty());
    if wanted.config_only || copies {
        return Err(Error::unsupported("networks that are only configurations are not implemented"));
    }
    let ipam = wanted.ipam.clone().unwrap_or_default();
    if !matches!(ipam.driver.as_str(), "" | "default" | "null") {
        let text = format!("could not find plugin {} in v1 plugin registry: plugin not found", ipam.driver);
        return Err(Error::new(Kind::NotFound, text).with_hint("the driver of addresses is `default`"));
    }
    Ok(NetworkSpec {
        name: wanted.name.clone(),
        driver: wanted.driver.clone(),
        internal: wanted.internal,
        ipv4: wanted.enable_ipv4.unwrap_or(true),
        ipv6: wanted.enable_ipv6.unwrap_or(false),
        subnets: ipam.config.iter().map(subnet).collect::<Result<_>>()?,
        options: wanted.options.clone().into_inner(),
        ipam_options: ipam.options.into_inner(),
        labels: wanted.labels.clone().into_inner(),
        attachable: wanted.attachable,
    })
}

fn subnet(config: &IpamConfig) -> Result<SubnetSpec> {
    if config.subnet.is_empty() {
        return Err(Error::invalid(
            "invalid network config:\ninvalid subnet : the address must not be empty",
        )
        .with_hint("a range, a gateway or an auxiliary address needs its subnet"));
    }
    let address = |(name, text): (&String, &String)| -> Result<(String, IpAddr)> {
        let address =
            text.parse().map_err(|_| Error::invalid(format!("invalid auxiliary address {text}")))?;
        Ok((name.clone(), address))
    };
    Ok(SubnetSpec {
        subnet: config.subnet.clone(),
        range: config.ip_range.clone(),
        gateway: config.gateway.clone(),
        aux: config.auxiliary_addresses.iter().map(address).collect::<Result<_>>()?,
    })
}

/// What Docker's engine says where it would need a swarm.
pub fn no_swarm() -> Error {
    Error::new(
        Kind::Unavailable,
        "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm \
         and try again.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Ipam;

    #[test]
    fn a_request_becomes_a_network() {
        let config = IpamConfig {
            subnet: "10.1.0.0/16".to_owned(),
            gateway: "10.1.0.1".to_owned(),
            auxiliary_addresses: [("a".to_owned(), "10.1.0.9".to_owned())].into_iter().collect(),
            ..IpamConfig::default()
        };
        let ipam = Some(Ipam { config: vec![config].into(), ..Ipam::default() });
        let wanted = NetworkCreate { name: "n".to_owned(), ipam, ..NetworkCreate::default() };
        let spec = spec(&wanted).unwrap();
        assert!(spec.ipv4 && !spec.ipv6);
        assert_eq!(spec.subnets[0].gateway, "10.1.0.1");
        assert_eq!(spec.subnets[0].aux["a"].to_string(), "10.1.0.9");
    }

    #[test]
    fn what_needs_a_cluster_says_so() {
        let wanted = |driver: &str, scope: &str| NetworkCreate {
            name: "n".to_owned(),
            driver: driver.to_owned(),
            scope: scope.to_owned(),
            ..NetworkCreate::default()
        };
        assert_eq!(spec(&wanted("overlay", "")).unwrap_err().kind(), Kind::Unavailable);
        assert_eq!(spec(&wanted("", "swarm")).unwrap_err().kind(), Kind::Unavailable);
        assert_eq!(spec(&wanted("", "galaxy")).unwrap_err().kind(), Kind::Invalid);
        assert_eq!(spec(&NetworkCreate::default()).unwrap_err().kind(), Kind::Invalid);
    }
}
