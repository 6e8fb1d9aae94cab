//! What is implicit, made explicit: the default network, dependencies that links and shared namespaces imply, names.

use super::environment::fill;
use super::interpolate::Environment;
use super::short::clean;
use crate::document::{Map, Node, Pos, Value};

/// The name of a project as made of any text: lowercase letters, digits, `_` and `-`.
pub fn normal_name(text: &str) -> String {
    let kept: String = text
        .to_lowercase()
        .chars()
        .filter(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-".contains(*c))
        .collect();
    kept.trim_start_matches(['_', '-']).to_owned()
}

/// Makes everything implicit explicit.
pub fn normalize(root: &mut Node, name: &str, environment: &Environment) {
    networks(root);
    let Some(root) = root.map_mut() else { return };
    if let Some(services) = root.get_mut("services").and_then(Node::map_mut) {
        for entry in services.iter_mut() {
            if let Some(map) = entry.node.map_mut() {
                service(map, environment);
            }
        }
    }
    for section in ["networks", "volumes", "configs", "secrets"] {
        let Some(map) = root.get_mut(section).and_then(Node::map_mut) else { continue };
        for entry in map.iter_mut() {
            if entry.node.is_null() {
                entry.node.value = Value::Map(Map::default());
            }
            let pos = entry.node.pos;
            let Some(resource) = entry.node.map_mut() else { continue };
            if resource.get("name").is_none() {
                let external = resource.get("external").is_some_and(|e| e.value == Value::Bool(true));
                let full = if external { entry.key.clone() } else { format!("{name}_{}", entry.key) };
                resource.set("name", pos, Node::text(full, pos));
            }
        }
    }
}

/// Services without networks are in the default one, which exists if anybody uses it.
fn networks(root: &mut Node) {
    let Some(root) = root.map_mut() else { return };
    let mut used = false;
    if let Some(services) = root.get_mut("services").and_then(Node::map_mut) {
        for entry in services.iter_mut() {
            let pos = entry.pos;
            let Some(service) = entry.node.map_mut() else { continue };
            if service.get("provider").is_some() || service.get("network_mode").is_some() {
                continue;
            }
            if service.get("networks").and_then(Node::map).is_none_or(Map::is_empty) {
                let mut map = Map::default();
                map.set("default", pos, Node::new(Value::Null, pos));
                service.set("networks", pos, Node::new(Value::Map(map), pos));
            }
            used |= service.get("networks").is_some_and(|n| n.get("default").is_some());
        }
    }
    if used {
        let nothing = || Node::new(Value::Null, Pos::default());
        match root.get_mut("networks").and_then(Node::map_mut) {
            Some(map) if map.get("default").is_none() => map.set("default", Pos::default(), nothing()),
            Some(_) => {}
            None => {
                let mut map = Map::default();
                map.set("default", Pos::default(), nothing());
                root.set("networks", Pos::default(), Node::new(Value::Map(map), Pos::default()));
            }
        }
    }
}

fn service(service: &mut Map, environment: &Environment) {
    if let Some(policy) = service.get_mut("pull_policy")
        && policy.str() == Some("if_not_present")
    {
        policy.value = Value::Str("missing".to_owned());
    }
    if let Some(build) = service.get_mut("build").and_then(Node::map_mut) {
        let pos = Pos::default();
        if build.get("context").is_none() {
            build.set("context", pos, Node::text(".", pos));
        }
        if build.get("dockerfile").is_none() && build.get("dockerfile_inline").is_none() {
            build.set("dockerfile", pos, Node::text("Dockerfile", pos));
        }
        fill(build.get_mut("args"), environment, false);
    }
    fill(service.get_mut("environment"), environment, true);
    if let Some(Node { value: Value::List(volumes), .. }) = service.get_mut("volumes") {
        for volume in volumes.iter_mut().filter_map(Node::map_mut) {
            if let Some(Value::Str(target)) = volume.get_mut("target").map(|n| &mut n.value) {
                *target = clean(target);
            }
        }
    }
    for (name, restart, pos) in implied(service) {
        depend(service, &name, restart, pos);
    }
    let image = service.get("image").cloned();
    if let (Some(image), Some(Node { value: Value::List(hooks), .. })) = (image, service.get_mut("pre_start"))
    {
        for hook in hooks.iter_mut().filter_map(Node::map_mut).filter(|h| h.get("image").is_none()) {
            hook.set("image", image.pos, image.clone());
        }
    }
}

/// Services that this one needs without saying so, and whether it restarts with them.
fn implied(service: &Map) -> Vec<(String, bool, Pos)> {
    let mut out = Vec::new();
    for link in service.get("links").and_then(Node::list).unwrap_or_default() {
        if let Some(text) = link.str() {
            out.push((text.split(':').next().unwrap_or_default().to_owned(), true, link.pos));
        }
    }
    for key in ["network_mode", "ipc", "pid", "uts", "cgroup"] {
        if let Some(node) = service.get(key)
            && let Some(name) = node.str().and_then(|t| t.strip_prefix("service:"))
        {
            out.push((name.to_owned(), true, node.pos));
        }
    }
    for from in service.get("volumes_from").and_then(Node::list).unwrap_or_default() {
        if let Some(text) = from.str().filter(|t| !t.starts_with("container:")) {
            out.push((text.split(':').next().unwrap_or_default().to_owned(), false, from.pos));
        }
    }
    out
}

fn depend(service: &mut Map, name: &str, restart: bool, pos: Pos) {
    if service.get("depends_on").and_then(Node::map).is_none() {
        service.set("depends_on", pos, Node::new(Value::Map(Map::default()), pos));
    }
    let Some(on) = service.get_mut("depends_on").and_then(Node::map_mut) else { return };
    if on.get(name).is_some() {
        return;
    }
    let mut map = Map::default();
    map.set("condition", pos, Node::text("service_started", pos));
    map.set("restart", pos, Node::new(Value::Bool(restart), pos));
    map.set("required", pos, Node::new(Value::Bool(true), pos));
    on.set(name, pos, Node::new(Value::Map(map), pos));
}
