//! The body of `POST /containers/{id}/update`.

use serde::{Deserialize, Serialize};

use super::{Resources, RestartPolicy};

/// Limits to change; zero, empty and `None` leave a limit as it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct UpdateConfig {
    /// Limits.
    #[serde(flatten)]
    pub resources: Resources,
    /// An empty name leaves it.
    pub restart_policy: RestartPolicy,
}
