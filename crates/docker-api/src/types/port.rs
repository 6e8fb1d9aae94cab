//! Port numbers with a protocol, and the maps keyed by them (`"80/tcp"`).

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use fluyt_model::{Error, Result};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{List, is_zero};

/// A transport protocol that ports belong to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Proto {
    /// SCTP.
    Sctp,
    /// TCP, the default.
    #[default]
    Tcp,
    /// UDP.
    Udp,
}

impl Proto {
    /// Its name in Docker's documents.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sctp => "sctp",
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

impl FromStr for Proto {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.to_ascii_lowercase().as_str() {
            "tcp" => Ok(Self::Tcp),
            "udp" => Ok(Self::Udp),
            "sctp" => Ok(Self::Sctp),
            _ => Err(Error::invalid(format!("invalid proto: {text}"))),
        }
    }
}

/// A container's port: `80/tcp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PortNumber {
    /// 1 to 65535 (0 is accepted where Docker accepts it).
    pub port: u16,
    /// Its protocol.
    pub proto: Proto,
}

impl fmt::Display for PortNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.port, self.proto.as_str())
    }
}

/// Ordered by their text, as Go sorts the keys of its maps.
impl Ord for PortNumber {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.to_string().cmp(&other.to_string())
    }
}

impl PartialOrd for PortNumber {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl FromStr for PortNumber {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (port, proto) = text.split_once('/').unwrap_or((text, "tcp"));
        let port = port.parse().map_err(|_| Error::invalid(format!("invalid port: {text:?}")))?;
        Ok(Self { port, proto: proto.parse()? })
    }
}

impl Serialize for PortNumber {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PortNumber {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|e: Error| serde::de::Error::custom(e))
    }
}

/// Go's `struct{}`: the value of a map that is used as a set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Empty {}

/// A set of container ports.
pub type PortSet = BTreeMap<PortNumber, Empty>;

/// Container ports with the host addresses that each is published on (`null`: exposed only).
pub type PortMap = BTreeMap<PortNumber, List<PortBinding>>;

/// One published address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PortBinding {
    /// The host's address; empty: all.
    #[serde(rename = "HostIp")]
    pub host_ip: String,
    /// A port, a range `8000-8010` to choose from, or empty for a free one.
    #[serde(rename = "HostPort")]
    pub host_port: String,
}

/// A port in a list of containers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PortSummary {
    /// The host's address, if published.
    #[serde(rename = "IP", skip_serializing_if = "String::is_empty")]
    pub ip: String,
    /// The container's port.
    #[serde(rename = "PrivatePort")]
    pub private_port: u16,
    /// The host's port, if published.
    #[serde(rename = "PublicPort", skip_serializing_if = "is_zero")]
    pub public_port: u16,
    /// The protocol.
    #[serde(rename = "Type")]
    pub kind: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_read_and_print() {
        for (text, printed) in [("80", "80/tcp"), ("53/udp", "53/udp"), ("9/SCTP", "9/sctp")] {
            assert_eq!(text.parse::<PortNumber>().unwrap().to_string(), printed);
        }
        for bad in ["", "x", "80/x", "70000"] {
            assert!(bad.parse::<PortNumber>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_map_of_ports_is_keyed_by_their_text() {
        let map: PortMap =
            serde_json::from_str(r#"{"8080/tcp":null,"80/tcp":[{"HostIp":"","HostPort":"81"}]}"#).unwrap();
        let text = serde_json::to_string(&map).unwrap();
        assert_eq!(text, r#"{"80/tcp":[{"HostIp":"","HostPort":"81"}],"8080/tcp":null}"#);
    }
}
