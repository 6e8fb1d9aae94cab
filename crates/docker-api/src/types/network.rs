//! Networks and a container's place in them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{List, Map};

/// Networks that a new container joins.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworkingConfig {
    /// By the network's name or id.
    pub endpoints_config: Map<EndpointSettings>,
}

/// A container's place in one network: what was asked for, and what it got.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EndpointSettings {
    /// Addresses asked for.
    #[serde(rename = "IPAMConfig")]
    pub ipam_config: Option<EndpointIpamConfig>,
    /// `container:alias`.
    #[serde(rename = "Links")]
    pub links: List<String>,
    /// More names for DNS.
    #[serde(rename = "Aliases")]
    pub aliases: List<String>,
    /// Asked for or given.
    #[serde(rename = "MacAddress")]
    pub mac_address: String,
    /// Options of the driver.
    #[serde(rename = "DriverOpts")]
    pub driver_opts: Map<String>,
    /// The network with the highest gives the default route.
    #[serde(rename = "GwPriority")]
    pub gw_priority: i64,
    /// The network.
    #[serde(rename = "NetworkID")]
    pub network_id: String,
    /// This place.
    #[serde(rename = "EndpointID")]
    pub endpoint_id: String,
    /// IPv4 gateway.
    #[serde(rename = "Gateway")]
    pub gateway: String,
    /// IPv4 address.
    #[serde(rename = "IPAddress")]
    pub ip_address: String,
    /// Its prefix length.
    #[serde(rename = "IPPrefixLen")]
    pub ip_prefix_len: u8,
    /// IPv6 gateway.
    #[serde(rename = "IPv6Gateway")]
    pub ipv6_gateway: String,
    /// IPv6 address.
    #[serde(rename = "GlobalIPv6Address")]
    pub global_ipv6_address: String,
    /// Its prefix length.
    #[serde(rename = "GlobalIPv6PrefixLen")]
    pub global_ipv6_prefix_len: u8,
    /// All names that resolve to it.
    #[serde(rename = "DNSNames")]
    pub dns_names: List<String>,
}

/// Addresses asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EndpointIpamConfig {
    /// IPv4.
    #[serde(rename = "IPv4Address", skip_serializing_if = "String::is_empty")]
    pub ipv4_address: String,
    /// IPv6.
    #[serde(rename = "IPv6Address", skip_serializing_if = "String::is_empty")]
    pub ipv6_address: String,
    /// Link-local ones.
    #[serde(rename = "LinkLocalIPs", skip_serializing_if = "List::is_vacant")]
    pub link_local_ips: List<String>,
}

/// How a network gives out addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Ipam {
    /// `default`.
    pub driver: String,
    /// Its options.
    pub options: Map<String>,
    /// Its subnets.
    pub config: List<IpamConfig>,
}

/// One subnet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct IpamConfig {
    /// CIDR.
    #[serde(rename = "Subnet", skip_serializing_if = "String::is_empty")]
    pub subnet: String,
    /// CIDR within it to give out.
    #[serde(rename = "IPRange", skip_serializing_if = "String::is_empty")]
    pub ip_range: String,
    /// The bridge's own address.
    #[serde(rename = "Gateway", skip_serializing_if = "String::is_empty")]
    pub gateway: String,
    /// Addresses that are taken, by name.
    #[serde(rename = "AuxiliaryAddresses", skip_serializing_if = "Map::is_vacant")]
    pub auxiliary_addresses: Map<String>,
}

/// A reference to a config-only network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ConfigReference {
    /// Its name.
    pub network: String,
}

/// The body of `POST /networks/create`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkCreate {
    /// Its name.
    #[serde(rename = "Name")]
    pub name: String,
    /// `bridge`, `macvlan`, …
    #[serde(rename = "Driver")]
    pub driver: String,
    /// `local`.
    #[serde(rename = "Scope")]
    pub scope: String,
    /// Default: true.
    #[serde(rename = "EnableIPv4", skip_serializing_if = "Option::is_none")]
    pub enable_ipv4: Option<bool>,
    /// Default: the engine's.
    #[serde(rename = "EnableIPv6", skip_serializing_if = "Option::is_none")]
    pub enable_ipv6: Option<bool>,
    /// Subnets.
    #[serde(rename = "IPAM")]
    pub ipam: Option<Ipam>,
    /// No way out.
    #[serde(rename = "Internal")]
    pub internal: bool,
    /// Swarm.
    #[serde(rename = "Attachable")]
    pub attachable: bool,
    /// Swarm.
    #[serde(rename = "Ingress")]
    pub ingress: bool,
    /// Only a template.
    #[serde(rename = "ConfigOnly")]
    pub config_only: bool,
    /// Take the configuration from there.
    #[serde(rename = "ConfigFrom")]
    pub config_from: Option<ConfigReference>,
    /// Of the driver.
    #[serde(rename = "Options")]
    pub options: Map<String>,
    /// Labels.
    #[serde(rename = "Labels")]
    pub labels: Map<String>,
}

/// A network, as `network inspect` shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkInspect {
    /// Its name.
    #[serde(rename = "Name")]
    pub name: String,
    /// Its id.
    #[serde(rename = "Id")]
    pub id: String,
    /// RFC 3339.
    #[serde(rename = "Created")]
    pub created: String,
    /// `local`.
    #[serde(rename = "Scope")]
    pub scope: String,
    /// `bridge`, …
    #[serde(rename = "Driver")]
    pub driver: String,
    /// IPv4.
    #[serde(rename = "EnableIPv4")]
    pub enable_ipv4: bool,
    /// IPv6.
    #[serde(rename = "EnableIPv6")]
    pub enable_ipv6: bool,
    /// Subnets.
    #[serde(rename = "IPAM")]
    pub ipam: Ipam,
    /// No way out.
    #[serde(rename = "Internal")]
    pub internal: bool,
    /// Swarm.
    #[serde(rename = "Attachable")]
    pub attachable: bool,
    /// Swarm.
    #[serde(rename = "Ingress")]
    pub ingress: bool,
    /// Template it was made from.
    #[serde(rename = "ConfigFrom")]
    pub config_from: ConfigReference,
    /// Only a template.
    #[serde(rename = "ConfigOnly")]
    pub config_only: bool,
    /// Running containers in it, by id.
    #[serde(rename = "Containers")]
    pub containers: BTreeMap<String, EndpointResource>,
    /// Of the driver.
    #[serde(rename = "Options")]
    pub options: BTreeMap<String, String>,
    /// Labels.
    #[serde(rename = "Labels")]
    pub labels: BTreeMap<String, String>,
}

/// A container in `network inspect`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EndpointResource {
    /// The container's name.
    #[serde(rename = "Name")]
    pub name: String,
    /// Its place.
    #[serde(rename = "EndpointID")]
    pub endpoint_id: String,
    /// MAC address.
    #[serde(rename = "MacAddress")]
    pub mac_address: String,
    /// CIDR.
    #[serde(rename = "IPv4Address")]
    pub ipv4_address: String,
    /// CIDR.
    #[serde(rename = "IPv6Address")]
    pub ipv6_address: String,
}

/// The kinds of network mode that are not the name of a network.
#[must_use]
pub fn is_user_defined(mode: &str) -> bool {
    !matches!(mode, "" | "default" | "bridge" | "host" | "none") && !mode.starts_with("container:")
}
