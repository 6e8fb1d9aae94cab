//! Events.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::is_zero;

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EventMessage {
    /// Deprecated: the action, for containers and images.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub status: String,
    /// Deprecated: the actor's id, for containers and images.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// Deprecated: the image, for containers.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub from: String,
    /// `container`, `image`, `network`, `volume`.
    #[serde(rename = "Type")]
    pub kind: String,
    /// `start`, `die`, …
    #[serde(rename = "Action")]
    pub action: String,
    /// Whom it is about.
    #[serde(rename = "Actor")]
    pub actor: Actor,
    /// `local`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub scope: String,
    /// Seconds since 1970.
    #[serde(skip_serializing_if = "is_zero")]
    pub time: i64,
    /// Nanoseconds since 1970.
    #[serde(rename = "timeNano", skip_serializing_if = "is_zero")]
    pub time_nano: i64,
}

/// The object of an event.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Actor {
    /// Its id (a volume's name).
    #[serde(rename = "ID")]
    pub id: String,
    /// Its name, labels and so on.
    #[serde(rename = "Attributes")]
    pub attributes: BTreeMap<String, String>,
}
