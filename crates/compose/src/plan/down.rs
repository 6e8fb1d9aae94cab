//! The plan of `down`.

use std::collections::BTreeMap;

use super::{Action, Container, Observed, Plan};
use crate::lower::{is_external, resource_name};
use crate::project::Project;

/// What goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Down {
    /// Only containers of these services; empty: everything.
    pub services: Vec<String>,
    /// Volumes too.
    pub volumes: bool,
    /// Containers of services that are not in the files too.
    pub remove_orphans: bool,
    /// Images of the services: none, those without a name of their own, all.
    pub images: Images,
}

/// Which images go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Images {
    /// None.
    #[default]
    None,
    /// Those that have no name of their own.
    Local,
    /// All.
    All,
}

/// The plan after which nothing of a project is there. Without its files (`project` is none) what is there has to say
/// all: then everything goes.
pub fn down(project: Option<&Project>, observed: &Observed, wanted: &Down) -> Plan {
    let mut plan = Plan::default();
    let known = |service: &str| {
        project.is_none_or(|p| p.service(service).is_some() || p.disabled.contains_key(service))
    };
    let chosen = |c: &&Container| {
        let named = wanted.services.is_empty() || wanted.services.contains(&c.service);
        named && (known(&c.service) || wanted.remove_orphans || c.one_off)
    };
    let cause = "asked to take the project down";
    let containers: Vec<&Container> = observed.containers.iter().filter(chosen).collect();
    let mut stops: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    let mut removed: Vec<usize> = Vec::new();
    // Services stop before those that they depend on.
    for container in dependents_first(&containers) {
        let mut after: Vec<usize> = Vec::new();
        for other in &containers {
            if other.depends_on.contains(&container.service) {
                after.extend(stops.get(other.service.as_str()).into_iter().flatten());
            }
        }
        let (id, name) = (container.id.clone(), container.name.clone());
        if container.is_up() {
            let stop = Action::StopContainer {
                id: id.clone(),
                name: name.clone(),
                service: container.service.clone(),
            };
            let step = plan.add(stop, cause, after.iter().copied());
            stops.entry(&container.service).or_default().push(step);
            after = vec![step];
        }
        let volumes = wanted.volumes;
        removed.push(plan.add(Action::RemoveContainer { id, name, volumes }, cause, after));
    }
    if wanted.volumes {
        // A container that took another's place has the other's anonymous volumes by name, so they stay when it goes.
        let mut anonymous: Vec<&String> =
            containers.iter().flat_map(|c| c.volumes.values()).filter(|name| is_anonymous(name)).collect();
        anonymous.sort();
        anonymous.dedup();
        for name in anonymous {
            plan.add(Action::RemoveVolume(name.clone()), cause, removed.iter().copied());
        }
    }
    if !wanted.services.is_empty() {
        return plan;
    }
    // What the files call external is somebody else's, whatever label it has from earlier; and data that they do not name
    // any more is for a person to remove.
    let own = |section: &str, key: &str, name: &str| {
        project.is_none_or(|p| {
            if p.names(section).contains(&key) {
                return !is_external(p, section, key) && resource_name(p, section, key) == name;
            }
            // The one that nobody declares is there as long as a service uses it.
            section == "networks" && key == "default"
        })
    };
    let stale = |section: &str, key: &str| project.is_some_and(|p| !p.names(section).contains(&key));
    for network in observed.networks.iter().filter(|n| !n.key.is_empty()) {
        let left_over = wanted.remove_orphans && stale("networks", &network.key);
        if !own("networks", &network.key, &network.name) && !left_over {
            continue;
        }
        plan.add(Action::RemoveNetwork(network.name.clone()), cause, removed.iter().copied());
    }
    if wanted.volumes {
        for volume in observed.volumes.iter().filter(|v| !v.key.is_empty()) {
            if !own("volumes", &volume.key, &volume.name) {
                continue;
            }
            plan.add(Action::RemoveVolume(volume.name.clone()), cause, removed.iter().copied());
        }
    }
    if let Some(project) = project {
        let mut images: Vec<String> = Vec::new();
        for service in project.services().into_iter().filter(|s| observed.images.contains_key(*s)) {
            let own = project.service(service).is_some_and(|n| n.get("image").is_some());
            let goes = match wanted.images {
                Images::None => false,
                Images::Local => !own,
                Images::All => true,
            };
            images.extend(project.image(service).filter(|i| goes && !images.contains(i)));
        }
        for image in images {
            plan.add(Action::RemoveImage(image), cause, removed.iter().copied());
        }
    }
    plan
}

/// Whether a volume's name was made up.
pub fn is_anonymous(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Containers, each after all that depend on its service.
fn dependents_first<'c>(containers: &[&'c Container]) -> Vec<&'c Container> {
    let mut left: Vec<&Container> = containers.to_vec();
    left.sort_by(|a, b| a.name.cmp(&b.name));
    let mut out = Vec::new();
    while !left.is_empty() {
        let free = |c: &&Container| {
            !left.iter().any(|o| o.service != c.service && o.depends_on.contains(&c.service))
        };
        let (mut now, later): (Vec<&Container>, Vec<&Container>) = left.iter().copied().partition(free);
        if now.is_empty() {
            // Labels that contradict one another: any order will do.
            now = later;
            left = Vec::new();
        } else {
            left = later;
        }
        out.append(&mut now);
    }
    out
}
