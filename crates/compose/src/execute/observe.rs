//! What is there of a project.

use std::collections::BTreeMap;

use fluyt_docker_api::api::{Docker, Filters, ListContainers};
use fluyt_docker_api::types::{ContainerSummary, Map, NetworkInspect};
use fluyt_model::{Kind, Result};

use crate::labels;
use crate::lower::resource_name;
use crate::plan::{Container, Network, Observed, Volume};
use crate::project::Project;

/// Looks at everything that carries a project's label, and at what its files name.
///
/// # Errors
/// The engine does not answer.
pub fn observe(docker: &dyn Docker, name: &str, project: Option<&Project>) -> Result<Observed> {
    let mut filters = Filters::default();
    filters.add("label", &format!("{}={name}", labels::PROJECT));
    let wanted = ListContainers { all: true, filters: filters.clone(), ..ListContainers::default() };
    let mut observed = Observed {
        containers: docker.container_list(&wanted)?.iter().map(container).collect(),
        ..Observed::default()
    };
    for network in docker.network_list(&filters)? {
        let key = network.labels.get(labels::NETWORK).cloned().unwrap_or_default();
        let hash = network.labels.get(labels::CONFIG_HASH).cloned().unwrap_or_default();
        let wanted = project.and_then(|p| p.hash_of_network(&key));
        // Only then does it matter who is in it, and only looking at it alone tells.
        let members = match wanted.is_some_and(|wanted| wanted != hash) {
            true => maybe(docker.network_inspect(&network.id))?.map(members).unwrap_or_default(),
            false => Vec::new(),
        };
        observed.networks.push(Network { key, hash, id: network.id, name: network.name, members });
    }
    for volume in docker.volume_list(&filters)?.volumes {
        observed.volumes.push(Volume {
            key: label(&volume.labels, labels::VOLUME),
            hash: label(&volume.labels, labels::CONFIG_HASH),
            name: volume.name,
        });
    }
    if let Some(project) = project {
        others(docker, project, &mut observed)?;
    }
    Ok(observed)
}

/// Networks and volumes of the files' names that somebody else made, and images.
fn others(docker: &dyn Docker, project: &Project, observed: &mut Observed) -> Result<()> {
    for key in project.names("networks") {
        let name = resource_name(project, "networks", key);
        if observed.network(&name).is_none()
            && let Some(found) = maybe(docker.network_inspect(&name))?
            && found.name == name
        {
            observed.networks.push(Network { id: found.id, name, ..Network::default() });
        }
    }
    for key in project.names("volumes") {
        let name = resource_name(project, "volumes", key);
        if observed.volume(&name).is_none() && maybe(docker.volume_inspect(&name))?.is_some() {
            observed.volumes.push(Volume { name, key: String::new(), hash: String::new() });
        }
    }
    for service in project.services() {
        let Some(image) = project.image(service) else { continue };
        if let Some(found) = maybe(docker.image_inspect(&image, ""))? {
            observed.images.insert(service.to_owned(), found.id);
        }
    }
    Ok(())
}

fn members(network: NetworkInspect) -> Vec<(String, String)> {
    network.containers.into_iter().map(|(id, place)| (id, place.name)).collect()
}

fn maybe<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(e) if e.kind() == Kind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

fn label(labels: &Map<String>, key: &str) -> String {
    labels.get(key).cloned().unwrap_or_default()
}

/// A container as its summary tells.
pub fn container(summary: &ContainerSummary) -> Container {
    let get = |key: &str| label(&summary.labels, key);
    let name = summary.names.first().map(|n| n.trim_start_matches('/').to_owned()).unwrap_or_default();
    let networks: BTreeMap<String, String> = summary
        .network_settings
        .networks
        .iter()
        .map(|(name, place)| (name.clone(), place.network_id.clone()))
        .collect();
    let volumes = summary.mounts.iter().filter(|m| m.kind == "volume");
    Container {
        id: summary.id.clone(),
        name,
        service: get(labels::SERVICE),
        number: get(labels::NUMBER).parse().unwrap_or(0),
        one_off: get(labels::ONE_OFF).eq_ignore_ascii_case("true") || !get(labels::HOOK).is_empty(),
        state: summary.state.clone(),
        hash: get(labels::CONFIG_HASH),
        image: get(labels::IMAGE),
        networks,
        volumes: volumes.map(|m| (m.destination.clone(), m.name.clone())).collect(),
        depends_on: get(labels::DEPENDS_ON)
            .split(',')
            .filter_map(|d| d.split(':').next())
            .filter(|d| !d.is_empty())
            .map(str::to_owned)
            .collect(),
    }
}
