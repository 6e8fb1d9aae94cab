//! Which services take part: by profile, and by what the user names.

use fluyt_model::{Error, Result};

use super::Options;
use super::interpolate::Environment;
use crate::document::{Entry, Map, Node, Value};
use crate::fault::{Fault, did_you_mean};

/// Every profile that the files name, sorted.
pub fn all(root: &Node) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for service in root.get("services").and_then(Node::map).into_iter().flat_map(Map::iter) {
        names.extend(profiles_of(&service.node));
    }
    names.sort();
    names.dedup();
    names
}

fn profiles_of(service: &Node) -> Vec<String> {
    let list = service.get("profiles").and_then(Node::list).unwrap_or_default();
    list.iter().filter_map(|n| n.str().map(str::to_owned)).collect()
}

/// The profiles that are active: those of the options, else of `COMPOSE_PROFILES`.
pub fn active(options: &Options, environment: &Environment) -> Vec<String> {
    if !options.profiles.is_empty() {
        return options.profiles.clone();
    }
    let list = environment.get("COMPOSE_PROFILES").map(String::as_str).unwrap_or_default();
    list.split(',').map(str::trim).filter(|p| !p.is_empty()).map(str::to_owned).collect()
}

/// Takes services out of the project whose profiles are not active, unless they are asked for by name. Returns them.
pub fn split(root: &mut Node, active: &[String], wanted: &[String], faults: &mut Vec<Fault>) -> Map {
    let mut disabled = Map::default();
    let Some(services) = root.map_mut().and_then(|m| m.get_mut("services")).and_then(Node::map_mut) else {
        return disabled;
    };
    let enabled = |entry: &Entry, names: &[String]| {
        let profiles = profiles_of(&entry.node);
        profiles.is_empty()
            || active.iter().any(|a| a == "*" || profiles.contains(a))
            || names.contains(&entry.key)
    };
    // A service that is asked for brings the services that it needs, whatever their profiles.
    let mut names: Vec<String> = wanted.to_vec();
    let mut at = 0;
    while at < names.len() {
        if let Some(service) = services.get(&names[at]) {
            for name in needed(service, true) {
                if services.get(&name).is_some() && !names.contains(&name) {
                    names.push(name);
                }
            }
        }
        at += 1;
    }
    for entry in services.iter() {
        if entry.node.is_null() {
            faults.push(
                Fault::new(entry.pos, format!("service {:?} says nothing", entry.key))
                    .hint("give it an image or a build"),
            );
        }
    }
    let (on, off): (Vec<Entry>, Vec<Entry>) =
        std::mem::take(services).into_iter().partition(|e| enabled(e, &names));
    *services = on.into_iter().collect();
    off.into_iter().for_each(|e| disabled.push(e));
    disabled
}

/// The services that a service needs; with `required` only those it cannot do without.
fn needed(service: &Node, required: bool) -> Vec<String> {
    let on = service.get("depends_on").and_then(Node::map).into_iter().flat_map(Map::iter);
    on.filter(|e| !required || e.node.get("required").is_none_or(|r| r.value != Value::Bool(false)))
        .map(|e| e.key.clone())
        .collect()
}

/// Keeps the named services and what they need.
///
/// # Errors
/// There is no such service.
pub fn select(root: &mut Node, disabled: &mut Map, wanted: &[String]) -> Result<()> {
    if wanted.is_empty() {
        return Ok(());
    }
    let Some(services) = root.map_mut().and_then(|m| m.get_mut("services")).and_then(Node::map_mut) else {
        return Err(no_service(&wanted[0], &Map::default()));
    };
    let mut names = Vec::new();
    for name in wanted {
        if services.get(name).is_none() {
            return Err(no_service(name, services));
        }
        names.push(name.clone());
    }
    let mut at = 0;
    while at < names.len() {
        if let Some(service) = services.get(&names[at]) {
            for name in needed(service, false) {
                if services.get(&name).is_some() && !names.contains(&name) {
                    names.push(name);
                }
            }
        }
        at += 1;
    }
    let (on, off): (Vec<Entry>, Vec<Entry>) =
        std::mem::take(services).into_iter().partition(|e| names.contains(&e.key));
    *services = on.into_iter().collect();
    // What was left out takes no part, so nobody may wait for it.
    for entry in services.iter_mut() {
        if let Some(on) = entry.node.map_mut().and_then(|m| m.get_mut("depends_on")).and_then(Node::map_mut) {
            on.retain(|e| names.contains(&e.key));
        }
    }
    off.into_iter().for_each(|e| disabled.push(e));
    Ok(())
}

fn no_service(name: &str, services: &Map) -> Error {
    let known: Vec<&str> = services.iter().map(|e| e.key.as_str()).collect();
    let error = Error::not_found(format!("no such service: {name}"));
    match did_you_mean(name, known.iter().copied()) {
        Some(meant) => error.with_hint(format!("did you mean {meant}?")),
        None if known.is_empty() => error,
        None => error.with_hint(format!("the project has {}", known.join(", "))),
    }
}
