//! Variables of services: from the environment, and from files.

use std::path::PathBuf;

use fluyt_model::error::IoContext;
use fluyt_model::{Error, Kind, Result};

use super::interpolate::Environment;
use super::{Loader, dotenv};
use crate::document::{Map, Node, Value};
use crate::fault::Fault;

/// Gives variables without a value the one of the environment, if it has one.
pub fn from_outside(root: &mut Node, environment: &Environment) {
    let Some(services) = root.map_mut().and_then(|m| m.get_mut("services")).and_then(Node::map_mut) else {
        return;
    };
    for service in services.iter_mut().filter_map(|e| e.node.map_mut()) {
        fill(service.get_mut("environment"), environment, true);
    }
}

/// Gives keys without a value the one of the environment; drops those without any unless `keep`.
pub fn fill(node: Option<&mut Node>, environment: &Environment, keep: bool) {
    let Some(map) = node.and_then(Node::map_mut) else { return };
    for entry in map.iter_mut().filter(|e| e.node.is_null()) {
        if let Some(value) = environment.get(&entry.key) {
            entry.node.value = Value::Str(value.clone());
        }
    }
    if !keep {
        map.retain(|e| !e.node.is_null());
    }
}

impl Loader<'_> {
    /// Reads `env_file` and `label_file` of a service into its variables and labels.
    pub(super) fn read_files(&self, service: &mut Map, environment: &Environment) -> Result<()> {
        if let Some(files) = service.remove("env_file") {
            let own = service.remove("environment").map(|e| e.node);
            let map = self.env_files(&files.node, own.as_ref(), environment)?;
            if !map.is_empty() {
                service.set("environment", files.pos, Node::new(Value::Map(map), files.node.pos));
            }
        }
        if let Some(files) = service.remove("label_file") {
            let mut labels = Map::default();
            for node in files.node.list().unwrap_or_default() {
                let path = PathBuf::from(node.str().unwrap_or_default());
                self.stays(node.pos, &path)?;
                let text = self.source.read(&path).map_err(|e| {
                    let fault = Fault::new(node.pos, format!("label file {} not found", path.display()))
                        .kind(Kind::NotFound);
                    self.error(vec![fault]).with_source(e)
                })?;
                let known = |name: &str| labels.get(name).and_then(Node::str).map(str::to_owned);
                let more =
                    dotenv::parse(&text, &known).map_err(|(line, what)| wrong_line(&path, line, &what))?;
                for (key, value) in more {
                    labels.set(&key, node.pos, Node::text(value, node.pos));
                }
            }
            if let Some(Value::Map(own)) = service.remove("labels").map(|e| e.node.value) {
                own.into_iter().for_each(|e| labels.set(&e.key.clone(), e.pos, e.node));
            }
            service.set("labels", files.pos, Node::new(Value::Map(labels), files.node.pos));
        }
        Ok(())
    }

    fn env_files(&self, files: &Node, own: Option<&Node>, environment: &Environment) -> Result<Map> {
        let mut out = Map::default();
        for node in files.list().unwrap_or_default() {
            let path = PathBuf::from(node.get_str("path").unwrap_or_default());
            if !self.source.is_file(&path) {
                if node.get("required").is_none_or(|r| r.value != Value::Bool(false)) {
                    let pos = node.get("path").map_or(node.pos, |n| n.pos);
                    let fault = Fault::new(pos, format!("env file {} not found", path.display()))
                        .kind(Kind::NotFound)
                        .hint("write the file, or make it optional: `- path: … required: false`");
                    return Err(self.error(vec![fault]));
                }
                continue;
            }
            self.stays(node.get("path").map_or(node.pos, |n| n.pos), &path)?;
            let text = self.source.read(&path).about(|| path.display().to_string())?;
            let lookup = |name: &str| {
                let of_service = || own?.get(name)?.str().map(str::to_owned);
                environment.get(name).cloned().or_else(of_service)
            };
            let parsed = match node.get_str("format") {
                None | Some("") => dotenv::parse(&text, &lookup),
                Some("raw") => dotenv::parse_raw(&text, &lookup),
                Some(other) => {
                    let pos = node.get("format").map_or(node.pos, |n| n.pos);
                    let fault = Fault::new(pos, format!("unsupported env file format {other:?}"))
                        .hint("leave format out, or write raw");
                    return Err(self.error(vec![fault]));
                }
            };
            let more = parsed.map_err(|(line, what)| wrong_line(&path, line, &what))?;
            for (key, value) in more {
                out.set(&key, node.pos, Node::text(value, node.pos));
            }
        }
        if let Some(own) = own.and_then(Node::map) {
            own.iter().for_each(|e| out.set(&e.key, e.pos, e.node.clone()));
        }
        Ok(out)
    }
}

fn wrong_line(path: &std::path::Path, line: u32, what: &str) -> Error {
    Error::new(Kind::Invalid, format!("{}:{line}: {what}", path.display()))
}
