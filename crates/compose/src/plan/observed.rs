//! What is there of a project: containers, networks and volumes with its labels, and the images of its services.

use std::collections::BTreeMap;

/// What is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// Containers of the project.
    pub containers: Vec<Container>,
    /// Networks, those that the project's files name whoever made them, and others with its label.
    pub networks: Vec<Network>,
    /// Volumes, in the same way.
    pub volumes: Vec<Volume>,
    /// The ids of the services' images; a service whose image is not here is not in it.
    pub images: BTreeMap<String, String>,
}

/// A container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Container {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its service.
    pub service: String,
    /// Which of the service's containers.
    pub number: u32,
    /// Made by `run`.
    pub one_off: bool,
    /// `created`, `running`, `paused`, `restarting`, `exited`, `dead`.
    pub state: String,
    /// The hash of what it was made of.
    pub hash: String,
    /// The id of its image, by its label; empty if it has none.
    pub image: String,
    /// Names of the networks that it is in, with their ids.
    pub networks: BTreeMap<String, String>,
    /// Its volumes: target -> name.
    pub volumes: BTreeMap<String, String>,
    /// The services that it depends on, by its label.
    pub depends_on: Vec<String>,
}

impl Container {
    /// Whether it need not be started.
    pub fn is_up(&self) -> bool {
        matches!(self.state.as_str(), "running" | "restarting" | "paused")
    }
}

/// A network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its key in the project; empty if the project did not make it.
    pub key: String,
    /// The hash of what it was made of; empty if not known.
    pub hash: String,
    /// Ids and names of the containers that run in it; only of one that is not as the files have it.
    pub members: Vec<(String, String)>,
}

/// A volume.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// Its key in the project; empty if the project did not make it.
    pub key: String,
    /// The hash of what it was made of; empty if not known.
    pub hash: String,
}

impl Observed {
    /// Containers of a service, those of `run` left out, by number.
    pub fn of(&self, service: &str) -> Vec<&Container> {
        let mut list: Vec<&Container> =
            self.containers.iter().filter(|c| c.service == service && !c.one_off).collect();
        list.sort_by_key(|c| (c.number, c.name.clone()));
        list
    }

    /// The network of a name.
    pub fn network(&self, name: &str) -> Option<&Network> {
        self.networks.iter().find(|n| n.name == name)
    }

    /// The volume of a name.
    pub fn volume(&self, name: &str) -> Option<&Volume> {
        self.volumes.iter().find(|v| v.name == name)
    }
}
