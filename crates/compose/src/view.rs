//! Attributes of a canonical tree by their Rust types. The tree was checked when it was loaded, so that what has
//! another type counts as not given.

use std::collections::BTreeMap;

use crate::document::{Map, Node, Value};
use crate::units;

/// Typed reading of a node's attributes.
pub trait View {
    /// A text; empty if not given.
    fn text(&self, key: &str) -> String;
    /// A boolean; false if not given.
    fn flag(&self, key: &str) -> bool;
    /// A boolean, if given.
    fn maybe(&self, key: &str) -> Option<bool>;
    /// A whole number, if given.
    fn int(&self, key: &str) -> Option<i64>;
    /// A number, if given.
    fn number(&self, key: &str) -> Option<f64>;
    /// Bytes; 0 if not given.
    fn amount(&self, key: &str) -> i64;
    /// Nanoseconds, if given.
    fn span(&self, key: &str) -> Option<i64>;
    /// Texts; none if not given.
    fn texts(&self, key: &str) -> Vec<String>;
    /// Items; none if not given.
    fn items(&self, key: &str) -> &[Node];
    /// Names and texts; empty texts for names without.
    fn dict(&self, key: &str) -> BTreeMap<String, String>;
    /// Entries of a mapping; none if not given.
    fn entries(&self, key: &str) -> Vec<(&str, &Node)>;
}

impl View for Node {
    fn text(&self, key: &str) -> String {
        self.get(key).and_then(Node::scalar).unwrap_or_default()
    }

    fn flag(&self, key: &str) -> bool {
        self.maybe(key).unwrap_or(false)
    }

    fn maybe(&self, key: &str) -> Option<bool> {
        if let Value::Bool(b) = self.get(key)?.value { Some(b) } else { None }
    }

    fn int(&self, key: &str) -> Option<i64> {
        match self.get(key)?.value {
            Value::Int(n) => Some(n),
            Value::Float(f) => Some(f as i64),
            _ => None,
        }
    }

    fn number(&self, key: &str) -> Option<f64> {
        match self.get(key)?.value {
            Value::Int(n) => Some(n as f64),
            Value::Float(f) => Some(f),
            _ => None,
        }
    }

    fn amount(&self, key: &str) -> i64 {
        self.text(key).parse().unwrap_or(0)
    }

    fn span(&self, key: &str) -> Option<i64> {
        units::duration(self.get(key)?.str()?).ok()
    }

    fn texts(&self, key: &str) -> Vec<String> {
        self.items(key).iter().filter_map(Node::scalar).collect()
    }

    fn items(&self, key: &str) -> &[Node] {
        self.get(key).and_then(Node::list).unwrap_or_default()
    }

    fn dict(&self, key: &str) -> BTreeMap<String, String> {
        self.entries(key).into_iter().map(|(k, v)| (k.to_owned(), v.scalar().unwrap_or_default())).collect()
    }

    fn entries(&self, key: &str) -> Vec<(&str, &Node)> {
        let map = self.get(key).and_then(Node::map);
        map.into_iter().flat_map(Map::iter).map(|e| (e.key.as_str(), &e.node)).collect()
    }
}
