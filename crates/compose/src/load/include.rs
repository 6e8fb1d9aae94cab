//! `include`: other files with a directory and an environment of their own; what this file says is laid over them.

use std::path::{Path, PathBuf};

use fluyt_model::{Error, Kind, Result};

use super::interpolate::Environment;
use super::{Loader, environment, finish, locate, merge, paths};
use crate::document::{Map, Node, Pos, Value};
use crate::fault::Fault;
use crate::schema::{FILE, Shape};

impl Loader<'_> {
    /// Reads what a document includes into it.
    pub(super) fn include(
        &mut self,
        root: &mut Node,
        directory: &Path,
        environment: &Environment,
        stack: &mut Vec<PathBuf>,
    ) -> Result<()> {
        let Some(map) = root.map_mut() else { return Ok(()) };
        let Some(Value::List(items)) = map.remove("include").map(|e| e.node.value) else { return Ok(()) };
        for item in items {
            let imported = self.included(&item, directory, environment, stack)?;
            import(map, imported);
        }
        Ok(())
    }

    fn included(
        &mut self,
        item: &Node,
        directory: &Path,
        environment: &Environment,
        stack: &mut Vec<PathBuf>,
    ) -> Result<Node> {
        let texts = |key: &str| -> Vec<(String, Pos)> {
            let list = item.get(key).and_then(Node::list).unwrap_or_default();
            list.iter().filter_map(|n| Some((n.str()?.to_owned(), n.pos))).collect()
        };
        let mut files = Vec::new();
        for (text, pos) in texts("path") {
            files.push(self.included_file(&text, pos, directory, stack)?);
        }
        let Some(first) = files.first() else {
            let fault = Fault::new(item.pos, "this include has no path")
                .hint("name the file: `- path: other/compose.yaml`");
            return Err(self.error(vec![fault]));
        };
        let own = match item.get_str("project_directory").filter(|d| !d.is_empty()) {
            Some(own) => paths::resolve(directory, Path::new(own)),
            None => first.parent().unwrap_or(Path::new("/")).to_owned(),
        };
        let mut env_files = Vec::new();
        for (text, pos) in texts("env_file") {
            if text == "/dev/null" {
                continue;
            }
            let path = paths::resolve(directory, Path::new(&text));
            if !self.source.is_file(&path) {
                return Err(self.error(vec![no_file(&path, pos)]));
            }
            self.stays(pos, &path)?;
            env_files.push(path);
        }
        let default = own.join(".env");
        if item.get("env_file").is_none() && self.source.is_file(&default) {
            env_files.push(default);
        }
        let mut inner = locate::from_files(&env_files, environment, self.source)?;
        inner.extend(environment.iter().map(|(k, v)| (k.clone(), v.clone())));
        let mut model = self.model(&files, &own, &inner, stack)?;
        finish::defaults(&mut model);
        let home = self.options.environment.get("HOME").map(String::as_str);
        paths::Base { directory: &own, home }.file(&mut model);
        environment::from_outside(&mut model, &inner);
        Ok(model)
    }

    fn included_file(&self, text: &str, pos: Pos, directory: &Path, stack: &[PathBuf]) -> Result<PathBuf> {
        let path = match self.source.fetch(text)? {
            Some(local) => local,
            None => {
                let path = paths::resolve(directory, Path::new(text));
                self.stays(pos, &path)?;
                path
            }
        };
        if stack.contains(&path) {
            let chain: Vec<String> = stack.iter().chain([&path]).map(|p| p.display().to_string()).collect();
            let fault = Fault::new(
                pos,
                format!("files include one another in a circle: {}", chain.join(" includes ")),
            )
            .hint("take one include out of the circle");
            return Err(self.error(vec![fault]));
        }
        if self.source.is_directory(&path) {
            return Err(Error::new(Kind::Invalid, format!("{} is a directory", path.display()))
                .with_hint("name the file in it"));
        }
        if !self.source.is_file(&path) {
            return Err(self.error(vec![no_file(&path, pos)]));
        }
        Ok(path)
    }
}

fn no_file(path: &Path, pos: Pos) -> Fault {
    Fault::new(pos, format!("there is no file {}", path.display()))
        .kind(Kind::NotFound)
        .hint("paths of include are relative to the project's directory")
}

/// Everything of an included file that this file does not say otherwise.
fn import(map: &mut Map, imported: Node) {
    let Value::Map(imported) = imported.value else { return };
    for section in imported {
        if !["services", "volumes", "networks", "secrets", "configs", "models"]
            .contains(&section.key.as_str())
        {
            continue;
        }
        let Some(attr) = FILE.attr(&section.key) else { continue };
        let Shape::Map(shape) = &attr.shape else { continue };
        let Value::Map(entries) = section.node.value else { continue };
        if map.get(&section.key).is_none() {
            map.set(&section.key, section.pos, Node::new(Value::Map(Map::default()), section.node.pos));
        }
        let Some(own) = map.get_mut(&section.key).and_then(Node::map_mut) else { continue };
        for entry in entries {
            match own.get_mut(&entry.key) {
                Some(node) => {
                    let over = node.clone();
                    *node = merge::merge(shape, entry.node, over);
                }
                None => own.push(entry),
            }
        }
    }
}
