//! Volumes.

use serde::{Deserialize, Serialize};

use super::Map;

/// A volume.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Volume {
    /// RFC 3339.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub created_at: String,
    /// `local`.
    pub driver: String,
    /// Labels.
    pub labels: Map<String>,
    /// On the host.
    pub mountpoint: String,
    /// Its name.
    pub name: String,
    /// Of the driver.
    pub options: Map<String>,
    /// `local`.
    pub scope: String,
    /// Only in `df`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage_data: Option<VolumeUsage>,
}

/// How much a volume holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct VolumeUsage {
    /// Containers that use it; -1: not known.
    pub ref_count: i64,
    /// Bytes; -1: not known.
    pub size: i64,
}

/// The body of `POST /volumes/create`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct VolumeCreate {
    /// Empty: made up.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Empty: `local`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub driver: String,
    /// Of the driver.
    #[serde(skip_serializing_if = "Map::is_vacant")]
    pub driver_opts: Map<String>,
    /// Labels.
    #[serde(skip_serializing_if = "Map::is_vacant")]
    pub labels: Map<String>,
}
