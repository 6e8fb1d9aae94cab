//! Networks and volumes.

use crate::types::network::{ConfigReference, EndpointResource};
use crate::types::{Ipam, IpamConfig, Map, NetworkInspect, Volume};
use fluyt_engine::{NetworkView, VolumeView};

use crate::time;

/// A network as `network inspect` shows it.
pub fn network(view: &NetworkView) -> NetworkInspect {
    let spec = &view.spec;
    let config: Vec<IpamConfig> = spec
        .subnets
        .iter()
        .map(|s| IpamConfig {
            subnet: s.subnet.clone(),
            ip_range: s.range.clone(),
            gateway: s.gateway.clone(),
            auxiliary_addresses: Map::null_if_empty(
                s.aux.iter().map(|(name, ip)| (name.clone(), ip.to_string())).collect(),
            ),
        })
        .collect();
    let with_prefix = |address: Option<String>| address.unwrap_or_default();
    NetworkInspect {
        name: spec.name.clone(),
        id: view.id.clone(),
        created: time::rfc3339_nano(view.created),
        scope: "local".to_owned(),
        driver: spec.driver.clone(),
        enable_ipv4: spec.ipv4,
        enable_ipv6: spec.ipv6,
        ipam: Ipam {
            driver: "default".to_owned(),
            options: Map::null_if_empty(spec.ipam_options.clone()),
            config: config.into(),
        },
        internal: spec.internal,
        attachable: spec.attachable,
        ingress: false,
        config_from: ConfigReference::default(),
        config_only: false,
        containers: view
            .endpoints
            .iter()
            .map(|(id, name, e)| {
                let resource = EndpointResource {
                    name: name.clone(),
                    endpoint_id: e.endpoint_id.clone(),
                    mac_address: e.mac.clone(),
                    ipv4_address: with_prefix(e.ipv4.map(|(a, p)| format!("{a}/{p}"))),
                    ipv6_address: with_prefix(e.ipv6.map(|(a, p)| format!("{a}/{p}"))),
                };
                (id.clone(), resource)
            })
            .collect(),
        options: options(view),
        labels: spec.labels.clone(),
    }
}

/// What was asked for; of the default network also what clients look for there: the name of its bridge first of all.
fn options(view: &NetworkView) -> std::collections::BTreeMap<String, String> {
    let mut options = view.spec.options.clone();
    if view.spec.name == "bridge" {
        for (name, value) in [
            ("bridge.default_bridge", "true"),
            ("bridge.enable_icc", "true"),
            ("bridge.enable_ip_masquerade", "true"),
            ("bridge.host_binding_ipv4", "0.0.0.0"),
            ("bridge.name", view.ifname.as_str()),
            ("driver.mtu", "1500"),
        ] {
            options.entry(format!("com.docker.network.{name}")).or_insert_with(|| value.to_owned());
        }
    }
    options
}

/// A volume as `volume inspect` shows it.
pub fn volume(view: &VolumeView) -> Volume {
    let mut labels = view.spec.labels.clone();
    if view.anonymous {
        labels.entry("com.docker.volume.anonymous".to_owned()).or_default();
    }
    Volume {
        created_at: time::rfc3339_seconds(view.created),
        driver: if view.spec.driver.is_empty() { "local".to_owned() } else { view.spec.driver.clone() },
        labels: if labels.is_empty() { Map::null() } else { labels.into() },
        mountpoint: view.mountpoint.display().to_string(),
        name: view.spec.name.clone(),
        options: Map::null_if_empty(view.spec.options.clone()),
        scope: "local".to_owned(),
        usage_data: None,
    }
}
