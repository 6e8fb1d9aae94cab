//! `use_api_socket`: a service gets the engine's socket and what its user may log in with, as docker compose has it: an
//! engine knows nothing of this, the service gets a bind mount, a file and a variable. Pure.

use crate::document::{Map, Node, Pos, Value};
use crate::project::Project;
use crate::view::View;

/// Where programs look for the socket.
const SOCKET: &str = "/var/run/docker.sock";
/// The directory of what its user may log in with.
const CONFIG: &str = "/run/secrets/docker";
/// The config that has it.
const KEY: &str = "#apisocket";

/// Whether a service of the project has it.
pub fn is_used(project: &Project) -> bool {
    project.services().into_iter().filter_map(|s| project.service(s)).any(|n| n.flag("use_api_socket"))
}

/// Gives services what they ask for: `socket` of the engine's machine, `credentials` as a `config.json`.
pub fn give(project: &mut Project, socket: &str, credentials: &str) {
    let names: Vec<String> = project.services().into_iter().map(str::to_owned).collect();
    let users: Vec<String> =
        names.into_iter().filter(|s| project.service(s).is_some_and(|n| n.flag("use_api_socket"))).collect();
    if users.is_empty() {
        return;
    }
    if let Some(root) = project.tree.map_mut() {
        let configs = section(root, "configs");
        configs.set(KEY, Pos::default(), object(&[("content", text(credentials))]));
    }
    for service in users {
        if project.service(&service).is_some_and(|n| !n.dict("environment").contains_key("DOCKER_CONFIG")) {
            project.set_variable(&service, "DOCKER_CONFIG", CONFIG);
        }
        let services = project.tree.map_mut().and_then(|m| m.get_mut("services")).and_then(Node::map_mut);
        let Some(map) = services.and_then(|m| m.get_mut(&service)).and_then(Node::map_mut) else { continue };
        let bind = object(&[("create_host_path", Value::Bool(false))]);
        let mut mount = object(&[("type", text("bind")), ("source", text(socket)), ("target", text(SOCKET))]);
        if let Some(map) = mount.map_mut() {
            map.set("bind", Pos::default(), bind);
        }
        add(map, "volumes", mount);
        let target = format!("{CONFIG}/config.json");
        add(
            map,
            "configs",
            object(&[("source", text(KEY)), ("target", text(&target)), ("mode", text("0400"))]),
        );
    }
}

fn text(text: &str) -> Value {
    Value::Str(text.to_owned())
}

fn object(entries: &[(&str, Value)]) -> Node {
    let mut map = Map::default();
    for (key, value) in entries {
        map.set(key, Pos::default(), Node::new(value.clone(), Pos::default()));
    }
    Node::new(Value::Map(map), Pos::default())
}

fn section<'m>(root: &'m mut Map, key: &str) -> &'m mut Map {
    if root.get(key).and_then(Node::map).is_none() {
        root.set(key, Pos::default(), object(&[]));
    }
    root.get_mut(key).and_then(Node::map_mut).expect("it was just set")
}

fn add(map: &mut Map, key: &str, item: Node) {
    match map.get_mut(key) {
        Some(Node { value: Value::List(items), .. }) => items.push(item),
        _ => map.set(key, Pos::default(), Node::new(Value::List(vec![item]), Pos::default())),
    }
}
