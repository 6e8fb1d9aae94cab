//! From the merged files to a project: defaults, what must be there, and the steps that follow.

use std::collections::BTreeMap;

use fluyt_model::{Error, Result};

use super::canon::join;
use super::interpolate::Environment;
use super::locate::Found;
use super::{Loader, consistency, environment, normalize, order, paths, profiles};
use crate::document::{Entry, Map, Node, Value};
use crate::fault::Fault;
use crate::project::Project;
use crate::schema::{FILE, Shape};

impl Loader<'_> {
    pub(super) fn name(&mut self, found: &Found, environment: &Environment) -> Result<String> {
        let given = self.options.name.clone().filter(|n| !n.is_empty());
        let given =
            given.or_else(|| environment.get("COMPOSE_PROJECT_NAME").filter(|n| !n.is_empty()).cloned());
        if let Some(name) = given {
            if normalize::normal_name(&name) == name {
                return Ok(name);
            }
            return Err(Error::invalid(format!("{name:?} cannot be the name of a project")).with_hint(
                "names are made of lowercase letters, digits, - and _, and begin with a letter or digit",
            ));
        }
        let mut name = None;
        for path in &found.files {
            let text = self.text(path)?;
            let file = self.files.add(path, text.clone());
            let documents = crate::document::read(&text, file).map_err(|f| self.error(vec![f]))?;
            for document in &documents {
                let Some(node) = document.get("name") else { continue };
                let Some(text) = node.str() else { continue };
                let lookup = |name: &str| environment.get(name).cloned();
                let filled = match self.options.interpolate {
                    true => super::interpolate::placed(text, &lookup, node.pos, &self.files),
                    false => Ok(text.to_owned()),
                };
                name = Some((filled.map_err(|f| self.error(vec![f]))?, node.pos));
            }
        }
        match name {
            Some((text, pos)) => {
                let normal = normalize::normal_name(&text);
                if normal.is_empty() {
                    let fault = Fault::new(pos, format!("{text:?} cannot be the name of a project"))
                        .hint("names are made of lowercase letters, digits, - and _");
                    return Err(self.error(vec![fault]));
                }
                Ok(normal)
            }
            None => {
                let base =
                    found.directory.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
                let normal = normalize::normal_name(&base);
                if normal.is_empty() {
                    return Err(Error::invalid(format!(
                        "the directory {} gives the project no name",
                        found.directory.display()
                    ))
                    .with_hint("name it with -p, or with name: in the file"));
                }
                Ok(normal)
            }
        }
    }

    pub(super) fn finish(
        &mut self,
        mut root: Node,
        name: String,
        found: &Found,
        environment: Environment,
    ) -> Result<Project> {
        defaults(&mut root);
        let mut faults = Vec::new();
        required(&Shape::Object(&FILE), &root, "", &mut faults);
        consistency::objects(&root, &mut faults);
        self.stop(&mut faults)?;
        if self.options.resolve_paths {
            let home = self.options.environment.get("HOME").map(String::as_str);
            paths::Base { directory: &found.directory, home }.file(&mut root);
        }
        environment::from_outside(&mut root, &environment);
        if let Some(map) = root.map_mut() {
            map.remove("name");
            if self.options.normalize {
                map.set("name", Default::default(), Node::text(name.clone(), Default::default()));
            }
        }
        if self.options.normalize {
            normalize::normalize(&mut root, &name, &environment);
        }
        let all = profiles::all(&root);
        let active = profiles::active(self.options, &environment);
        let mut disabled = Map::default();
        if self.options.interpolate {
            disabled = profiles::split(&mut root, &active, &self.options.services, &mut faults);
            self.stop(&mut faults)?;
            if self.options.consistency {
                consistency::services(&root, &disabled, &mut faults);
                self.stop(&mut faults)?;
            }
            profiles::select(&mut root, &mut disabled, &self.options.services)?;
            let services = root.map_mut().and_then(|m| m.get_mut("services")).and_then(Node::map_mut);
            if let (true, Some(services)) = (self.options.resolve_environment, services) {
                for service in services.iter_mut().filter_map(|e| e.node.map_mut()) {
                    self.read_files(service, &environment)?;
                }
            }
        }
        let tree = order::ordered(&Shape::Object(&FILE), root);
        let disabled: BTreeMap<String, Node> = disabled
            .into_iter()
            .map(|e| (e.key, order::ordered(&Shape::Object(&crate::schema::SERVICE), e.node)))
            .collect();
        Ok(Project {
            name,
            directory: found.directory.clone(),
            files: found.files.clone(),
            environment,
            all_profiles: all,
            tree,
            disabled,
            warnings: std::mem::take(&mut self.warnings),
        })
    }

    fn stop(&self, faults: &mut Vec<Fault>) -> Result<()> {
        if faults.is_empty() {
            return Ok(());
        }
        faults.sort_by_key(|f| f.pos);
        Err(self.error(std::mem::take(faults)))
    }
}

/// What attributes are when they are not given.
pub fn defaults(root: &mut Node) {
    let Some(root) = root.map_mut() else { return };
    for section in ["networks", "volumes", "secrets", "configs"] {
        if let Some(map) = root.get_mut(section).and_then(Node::map_mut) {
            map.iter_mut().filter_map(|e| e.node.map_mut()).for_each(external);
        }
    }
    let Some(services) = root.get_mut("services").and_then(Node::map_mut) else { return };
    for service in services.iter_mut().filter_map(|e| e.node.map_mut()) {
        if let Some(build) = service.get_mut("build").and_then(Node::map_mut) {
            missing(build, "context", || Value::Str(".".to_owned()));
        }
        each(service, "secrets", |secret| {
            if let Some(source) = secret.get("source").and_then(Node::str).map(str::to_owned) {
                missing(secret, "target", || Value::Str(format!("/run/secrets/{source}")));
            }
        });
        each(service, "ports", |port| {
            missing(port, "protocol", || Value::Str("tcp".to_owned()));
            missing(port, "mode", || Value::Str("ingress".to_owned()));
        });
        each(service, "gpus", all_devices);
        each(service, "volumes", |volume| {
            if let Some(bind) = volume.get_mut("bind").and_then(Node::map_mut) {
                missing(bind, "create_host_path", || Value::Bool(true));
            }
        });
        if let Some(Node { value: Value::Map(map), .. }) = service.get_mut("depends_on") {
            map.iter_mut()
                .filter_map(|e| e.node.map_mut())
                .for_each(|d| missing(d, "required", || Value::Bool(true)));
        }
        let reservations = service
            .get_mut("deploy")
            .and_then(Node::map_mut)
            .and_then(|m| m.get_mut("resources"))
            .and_then(Node::map_mut)
            .and_then(|m| m.get_mut("reservations"))
            .and_then(Node::map_mut);
        if let Some(reservations) = reservations {
            each(reservations, "devices", all_devices);
        }
    }
}

fn all_devices(device: &mut Map) {
    if device.get("device_ids").is_none() {
        missing(device, "count", || Value::Int(-1));
    }
}

fn each(map: &mut Map, key: &str, change: impl Fn(&mut Map)) {
    if let Some(Node { value: Value::List(items), .. }) = map.get_mut(key) {
        items.iter_mut().filter_map(Node::map_mut).for_each(change);
    }
}

fn missing(map: &mut Map, key: &str, value: impl FnOnce() -> Value) {
    if map.get(key).is_none() {
        map.set(key, Default::default(), Node::new(value(), Default::default()));
    }
}

/// `external: {name: x}` is the old form of `external: true` and `name: x`.
fn external(map: &mut Map) {
    let Some(Value::Map(old)) = map.get("external").map(|n| n.value.clone()) else { return };
    if let Some(node) = map.get_mut("external") {
        node.value = Value::Bool(true);
    }
    if let Some(name) = old.entry("name")
        && map.get("name").is_none()
    {
        map.push(Entry { key: "name".to_owned(), pos: name.pos, node: name.node.clone() });
    }
}

/// What must be there once everything is merged.
fn required(shape: &Shape, node: &Node, path: &str, faults: &mut Vec<Fault>) {
    match (shape, &node.value) {
        (
            Shape::Object(object)
            | Shape::ObjectOrNull(object)
            | Shape::Logging(object)
            | Shape::Build(object)
            | Shape::Extends(object)
            | Shape::FileRef(object)
            | Shape::Device(object)
            | Shape::Volume(object)
            | Shape::Ulimit(object),
            Value::Map(map),
        ) => {
            for name in object.required.iter().filter(|name| map.get(name).is_none()) {
                faults.push(
                    Fault::new(node.pos, format!("{path} has no {name}"))
                        .hint(format!("add {name}, which it cannot do without")),
                );
            }
            for entry in map.iter() {
                if let Some(attr) = object.attr(&entry.key) {
                    required(&attr.shape, &entry.node, &join(path, &entry.key), faults);
                }
            }
        }
        (Shape::Map(inner), Value::Map(map)) => {
            map.iter().for_each(|e| required(inner, &e.node, &join(path, &e.key), faults));
        }
        (Shape::DependsOn(object) | Shape::Named(object), Value::Map(map)) => {
            map.iter()
                .for_each(|e| required(&Shape::ObjectOrNull(object), &e.node, &join(path, &e.key), faults));
        }
        (Shape::List(inner, _), Value::List(items)) => {
            for (n, item) in items.iter().enumerate() {
                required(inner, item, &format!("{path}[{n}]"), faults);
            }
        }
        (Shape::EnvFiles(object) | Shape::Ports(object) | Shape::Gpus(object), Value::List(items)) => {
            for (n, item) in items.iter().enumerate() {
                required(&Shape::Object(object), item, &format!("{path}[{n}]"), faults);
            }
        }
        _ => {}
    }
}
