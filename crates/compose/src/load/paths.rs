//! Paths in files: those of an included or extended file are relative to it, and all become absolute in the end.

use std::path::{Path, PathBuf};

use super::short::clean;
use crate::document::{Node, Value};

/// How relative paths are made whole.
pub struct Base<'a> {
    /// What they are relative to.
    pub directory: &'a Path,
    /// What `~` stands for.
    pub home: Option<&'a str>,
}

impl Base<'_> {
    /// A path, whole.
    pub fn absolute(&self, path: &str) -> String {
        let expanded = match (path.strip_prefix('~'), self.home) {
            (Some(rest), Some(home)) if rest.is_empty() || rest.starts_with('/') => format!("{home}{rest}"),
            _ => path.to_owned(),
        };
        let windows =
            expanded.as_bytes().get(1) == Some(&b':') && expanded.as_bytes()[0].is_ascii_alphabetic();
        if expanded.is_empty() || expanded.starts_with('/') || windows || expanded.starts_with("\\\\") {
            return expanded;
        }
        clean(&self.directory.join(expanded).to_string_lossy())
    }

    fn each(&self, node: Option<&mut Node>, change: impl Fn(&str) -> Option<String>) {
        if let Some(node) = node
            && let Value::Str(text) = &mut node.value
            && let Some(new) = change(text)
        {
            *text = new;
        }
    }

    fn path(&self, node: Option<&mut Node>) {
        self.each(node, |text| Some(self.absolute(text)));
    }

    fn list(&self, node: Option<&mut Node>) {
        if let Some(Node { value: Value::List(items), .. }) = node {
            items.iter_mut().for_each(|item| self.path(Some(item)));
        }
    }

    /// Everything in a whole file.
    pub fn file(&self, root: &mut Node) {
        let Some(root) = root.map_mut() else { return };
        for (key, change) in [
            ("services", Self::service as fn(&Self, &mut Node)),
            ("configs", Self::file_object),
            ("secrets", Self::file_object),
            ("volumes", Self::volume),
        ] {
            if let Some(map) = root.get_mut(key).and_then(Node::map_mut) {
                map.iter_mut().for_each(|entry| change(self, &mut entry.node));
            }
        }
    }

    fn file_object(&self, node: &mut Node) {
        if let Some(map) = node.map_mut() {
            self.path(map.get_mut("file"));
        }
    }

    /// A volume that is a bind mount by its options.
    fn volume(&self, node: &mut Node) {
        let local = node.get_str("driver") == Some("local");
        if let Some(options) = node.map_mut().and_then(|m| m.get_mut("driver_opts"))
            && local
            && options.get_str("o") == Some("bind")
            && let Some(map) = options.map_mut()
        {
            self.path(map.get_mut("device"));
        }
    }

    /// Everything in a service.
    pub fn service(&self, node: &mut Node) {
        let Some(service) = node.map_mut() else { return };
        if let Some(build) = service.get_mut("build").and_then(Node::map_mut) {
            self.each(build.get_mut("context"), |text| self.context(text));
            if let Some(contexts) = build.get_mut("additional_contexts").and_then(Node::map_mut) {
                contexts.iter_mut().for_each(|e| self.each(Some(&mut e.node), |text| self.context(text)));
            }
            if let Some(keys) = build.get_mut("ssh").and_then(Node::map_mut) {
                keys.iter_mut().for_each(|e| self.path(Some(&mut e.node)));
            }
        }
        self.list(service.get_mut("label_file"));
        if let Some(Node { value: Value::List(items), .. }) = service.get_mut("env_file") {
            items.iter_mut().filter_map(Node::map_mut).for_each(|m| self.path(m.get_mut("path")));
        }
        if let Some(extends) = service.get_mut("extends").and_then(Node::map_mut) {
            self.path(extends.get_mut("file"));
        }
        if let Some(develop) = service.get_mut("develop").and_then(Node::map_mut)
            && let Some(Node { value: Value::List(items), .. }) = develop.get_mut("watch")
        {
            items.iter_mut().filter_map(Node::map_mut).for_each(|m| self.path(m.get_mut("path")));
        }
        if let Some(Node { value: Value::List(items), .. }) = service.get_mut("volumes") {
            for item in items {
                if item.get_str("type") == Some("bind")
                    && let Some(map) = item.map_mut()
                {
                    self.path(map.get_mut("source"));
                }
            }
        }
    }

    /// A context of a build, unless it is somewhere else.
    fn context(&self, text: &str) -> Option<String> {
        let remote =
            ["https://", "http://", "git://", "ssh://", "github.com/", "git@", "service:", "target:"];
        let elsewhere = text.contains("://") || remote.iter().any(|prefix| text.starts_with(prefix));
        (!elsewhere).then(|| self.absolute(text))
    }
}

/// `path`, from `directory` if it is relative, without `.` and `..`.
pub fn resolve(directory: &Path, path: &Path) -> PathBuf {
    PathBuf::from(clean(&directory.join(path).to_string_lossy()))
}
