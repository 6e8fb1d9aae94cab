//! `extends`: a service starts from another one, of this file or another.

use std::path::{Path, PathBuf};

use fluyt_model::Result;

use super::interpolate::Environment;
use super::{Loader, merge, paths};
use crate::document::{Map, Node, Pos, Value};
use crate::fault::{Fault, did_you_mean};
use crate::schema::{SERVICE, Shape};

/// A service that is being extended: its file and its name.
type Step = (PathBuf, String);

struct File<'a> {
    services: Map,
    path: PathBuf,
    directory: PathBuf,
    environment: &'a Environment,
}

impl Loader<'_> {
    /// Applies `extends` of every service of a document.
    pub(super) fn extends(
        &mut self,
        root: &mut Node,
        path: &Path,
        directory: &Path,
        environment: &Environment,
    ) -> Result<()> {
        let Some(services) = root.map_mut().and_then(|m| m.get_mut("services")).and_then(Node::map_mut)
        else {
            return Ok(());
        };
        let names: Vec<String> =
            services.iter().filter(|e| e.node.get("extends").is_some()).map(|e| e.key.clone()).collect();
        if names.is_empty() {
            return Ok(());
        }
        let file = File {
            services: services.clone(),
            path: path.to_owned(),
            directory: directory.to_owned(),
            environment,
        };
        for name in names {
            let extended = self.extended(&file, &name, &mut Vec::new())?;
            if let Some(node) = services.get_mut(&name) {
                *node = extended;
            }
        }
        Ok(())
    }

    /// The service `name` of a file with what it extends below it.
    fn extended(&mut self, file: &File<'_>, name: &str, steps: &mut Vec<Step>) -> Result<Node> {
        let Some(service) = file.services.get(name) else {
            return Ok(Node::new(Value::Null, Pos::default()));
        };
        let mut service = service.clone();
        let Some(extends) = service.map_mut().and_then(|m| m.remove("extends")).map(|e| e.node) else {
            return Ok(service);
        };
        let step = (file.path.clone(), name.to_owned());
        if steps.contains(&step) {
            return Err(self.error(vec![circle(&extends, steps, &step)]));
        }
        steps.push(step);
        let Some(reference) = extends.get("service") else {
            let fault = Fault::new(extends.pos, format!("services.{name}.extends has no service"))
                .hint("name the service that it starts from: `extends: {service: base}`");
            return Err(self.error(vec![fault]));
        };
        let (target, target_pos) = (reference.str().unwrap_or_default().to_owned(), reference.pos);
        let base = match extends.get("file") {
            Some(other) => {
                let other_pos = other.pos;
                let other = self.open(other.str().unwrap_or_default(), other_pos, file)?;
                self.must_have(&other, &target, target_pos, name)?;
                let mut base = self.extended(&other, &target, steps)?;
                if other.directory != file.directory {
                    let home = self.options.environment.get("HOME").map(String::as_str);
                    paths::Base { directory: &other.directory, home }.service(&mut base);
                }
                base
            }
            None => {
                self.must_have(file, &target, target_pos, name)?;
                self.extended(file, &target, steps)?
            }
        };
        steps.pop();
        Ok(merge::merge(&Shape::Object(&SERVICE), base, service))
    }

    fn must_have(&self, file: &File<'_>, target: &str, pos: Pos, name: &str) -> Result<()> {
        if file.services.get(target).is_some() {
            return Ok(());
        }
        let place = file.path.display();
        let fault = Fault::new(
            pos,
            format!("service {name:?} cannot extend {target:?}: {place} has no such service"),
        );
        let known: Vec<&str> = file.services.iter().map(|e| e.key.as_str()).collect();
        let fault = match did_you_mean(target, known.iter().copied()) {
            Some(meant) => fault.hint(format!("did you mean {meant}?")),
            None => fault.hint(format!(
                "it has {}",
                if known.is_empty() { "none".to_owned() } else { known.join(", ") }
            )),
        };
        Err(self.error(vec![fault]))
    }

    fn open<'e>(&mut self, other: &str, pos: Pos, file: &File<'e>) -> Result<File<'e>> {
        let path = match self.source.fetch(other)? {
            Some(local) => local,
            None => {
                let home = self.options.environment.get("HOME").map(String::as_str);
                let path = PathBuf::from(paths::Base { directory: &file.directory, home }.absolute(other));
                self.stays(pos, &path)?;
                path
            }
        };
        if !self.source.is_file(&path) {
            let fault = Fault::new(pos, format!("there is no file {}", path.display()))
                .kind(fluyt_model::Kind::NotFound)
                .hint("paths of extends are relative to the file that they stand in");
            return Err(self.error(vec![fault]));
        }
        let mut services = Map::default();
        for document in self.documents(&path, file.environment)? {
            let Value::Map(mut map) = document.value else { continue };
            if let Some(Value::Map(more)) = map.remove("services").map(|e| e.node.value) {
                let shape = Shape::Map(&Shape::ObjectOrNull(&SERVICE));
                let base = Node::new(Value::Map(services), pos);
                let Value::Map(merged) = merge::merge(&shape, base, Node::new(Value::Map(more), pos)).value
                else {
                    services = Map::default();
                    continue;
                };
                services = merged;
            }
        }
        let directory = path.parent().unwrap_or(Path::new("/")).to_owned();
        Ok(File { services, path, directory, environment: file.environment })
    }
}

fn circle(extends: &Node, steps: &[Step], again: &Step) -> Fault {
    let steps: Vec<String> =
        steps.iter().chain([again]).map(|(file, name)| format!("{name} in {}", file.display())).collect();
    Fault::new(extends.pos, format!("services extend one another in a circle: {}", steps.join(" extends ")))
        .hint("take one extends out of the circle")
}
