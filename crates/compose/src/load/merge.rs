//! One document over another, by the rules of each attribute.

use crate::document::{Entry, Map, Mark, Node, Value};
use crate::schema::{Object, Same, Shape, Unset};

/// `over` on top of `base`: mappings are joined, lists are appended, all else is replaced, except where the table says
/// otherwise. The tag of `over` stays on the result, for the files below.
pub fn merge(shape: &Shape, base: Node, over: Node) -> Node {
    if over.mark != Mark::None || base.mark == Mark::Reset {
        return over;
    }
    let mark = base.mark;
    let pos = if over.is_null() { base.pos } else { over.pos };
    let value = values(shape, base.value, over.value);
    Node { value, pos, mark }
}

fn values(shape: &Shape, base: Value, over: Value) -> Value {
    match (shape, base, over) {
        (Shape::Command | Shape::Test | Shape::Ulimit(_), _, over) => over,
        (Shape::Any, base, over) => anything(base, over),
        (_, base, Value::Null) => base,
        (_, Value::Null, over) => over,
        (Shape::Dict(unset), Value::Map(base), Value::Map(over)) => Value::Map(dict(base, over, *unset)),
        (Shape::Hosts, Value::Map(base), Value::Map(over)) => Value::Map(hosts(base, over)),
        (
            Shape::Object(object)
            | Shape::ObjectOrNull(object)
            | Shape::Build(object)
            | Shape::Extends(object)
            | Shape::Volume(object)
            | Shape::Device(object),
            Value::Map(base),
            Value::Map(over),
        ) => Value::Map(objects(object, base, over)),
        (Shape::Named(object) | Shape::DependsOn(object), Value::Map(base), Value::Map(over)) => {
            Value::Map(maps(&Shape::ObjectOrNull(object), base, over))
        }
        (Shape::Map(inner), Value::Map(base), Value::Map(over)) => Value::Map(maps(inner, base, over)),
        (
            Shape::Options | Shape::Contexts | Shape::Ssh | Shape::MultiOptions,
            Value::Map(base),
            Value::Map(over),
        ) => Value::Map(maps(&Shape::Str, base, over)),
        (Shape::Logging(object), Value::Map(base), Value::Map(over)) => {
            Value::Map(logging(object, base, over))
        }
        (shape, Value::List(mut base), Value::List(over)) => {
            base.extend(over);
            Value::List(unique(base, same_of(shape)))
        }
        (_, _, over) => over,
    }
}

fn same_of(shape: &Shape) -> Same {
    match shape {
        Shape::List(_, same) | Shape::Strings(same) | Shape::OneOrMore(same) | Shape::Scalars(same) => *same,
        Shape::Ports(_) => Same::Port,
        Shape::EnvFiles(_) => Same::Attr("path"),
        _ => Same::Never,
    }
}

/// Extensions: mappings are joined, lists appended.
fn anything(base: Value, over: Value) -> Value {
    match (base, over) {
        (Value::Map(base), Value::Map(over)) => Value::Map(maps(&Shape::Any, base, over)),
        (Value::List(mut base), Value::List(over)) => {
            base.extend(over);
            Value::List(base)
        }
        (base, Value::Null) => base,
        (_, over) => over,
    }
}

fn maps(shape: &Shape, base: Map, over: Map) -> Map {
    let mut out = base;
    for entry in over {
        put(shape, &mut out, entry);
    }
    out
}

fn put(shape: &Shape, out: &mut Map, entry: Entry) {
    match out.remove_keeping_place(&entry.key) {
        Some((at, before)) => {
            let node = merge(shape, before.node, entry.node);
            out.insert_at(at, Entry { node, ..entry });
        }
        None => out.push(entry),
    }
}

/// Objects: each attribute by its own rule.
fn objects(object: &Object, base: Map, over: Map) -> Map {
    let mut out = base;
    for entry in over {
        let shape = object.attr(&entry.key).map_or(&Shape::Any, |a| &a.shape);
        put(shape, &mut out, entry);
    }
    out
}

/// Options belong to their driver: another driver starts from nothing.
fn logging(object: &Object, base: Map, over: Map) -> Map {
    let driver = |map: &Map| map.get("driver").and_then(|n| n.str().map(str::to_owned));
    match (driver(&base), driver(&over)) {
        (Some(before), Some(after)) if before != after => over,
        _ => objects(object, base, over),
    }
}

/// A key without a value replaces one with a value where that means "from the environment".
fn dict(base: Map, over: Map, unset: Unset) -> Map {
    let mut out = base;
    for entry in over {
        if unset == Unset::Null || entry.node.mark == Mark::Reset || !entry.node.is_null() {
            match out.remove_keeping_place(&entry.key) {
                Some((at, _)) => out.insert_at(at, entry),
                None => out.push(entry),
            }
        }
    }
    out
}

/// Addresses of the same host are gathered.
fn hosts(base: Map, over: Map) -> Map {
    let mut out = base;
    for entry in over {
        match (out.get_mut(&entry.key).map(|n| &mut n.value), &entry.node.value) {
            (Some(Value::List(before)), Value::List(more)) if entry.node.mark == Mark::None => {
                for address in more {
                    if !before.iter().any(|b| b.value == address.value) {
                        before.push(address.clone());
                    }
                }
            }
            _ => out.set(&entry.key, entry.pos, entry.node),
        }
    }
    out
}

/// A list in which, of items that are the same, the last one stands in the place of the first.
pub fn unique(items: Vec<Node>, same: Same) -> Vec<Node> {
    if matches!(same, Same::Never | Same::Forbidden) {
        return items;
    }
    let mut out: Vec<(Option<String>, Node)> = Vec::new();
    for item in items {
        let key = identity(&item, same);
        match out.iter_mut().find(|(k, _)| k.is_some() && *k == key) {
            Some((_, before)) if same == Same::Subnet => {
                let base = std::mem::replace(before, Node::new(Value::Null, item.pos));
                *before = merge(&Shape::Any, base, item);
            }
            Some((_, before)) => *before = item,
            None => out.push((key, item)),
        }
    }
    out.into_iter().map(|(_, item)| item).collect()
}

fn identity(item: &Node, same: Same) -> Option<String> {
    match same {
        Same::Never | Same::Forbidden => None,
        Same::Key => item.scalar().map(|t| t.split_once('=').map_or(t.clone(), |(key, _)| key.to_owned())),
        Same::Attr(attr) => item.get(attr)?.scalar(),
        Same::Subnet => item.get("subnet")?.scalar(),
        Same::Mount(below) => match item.get("target").and_then(Node::scalar) {
            Some(target) => Some(target),
            None => Some(format!("{below}/{}", item.get("source")?.scalar()?)),
        },
        Same::Port => {
            let word =
                |key: &str, default: &str| item.get(key).and_then(Node::scalar).unwrap_or(default.to_owned());
            item.get("target")?;
            Some(format!(
                "{}:{}:{}/{}",
                word("host_ip", "0.0.0.0"),
                word("published", ""),
                word("target", ""),
                word("protocol", "tcp")
            ))
        }
    }
}
