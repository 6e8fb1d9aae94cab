//! The order in which a project is printed and hashed: attributes as in the table, names sorted; what is false, zero or
//! empty is left out unless the table keeps it.

use std::cmp::Ordering;

use crate::document::{Entry, Map, Node, Value};
use crate::schema::{Object, Shape};

/// The same tree in order, without what says nothing.
pub fn ordered(shape: &Shape, node: Node) -> Node {
    let Node { value, pos, mark } = node;
    Node { value: values(shape, value), pos, mark }
}

fn values(shape: &Shape, value: Value) -> Value {
    match (shape, value) {
        (
            Shape::Object(object)
            | Shape::ObjectOrNull(object)
            | Shape::Logging(object)
            | Shape::Build(object)
            | Shape::Extends(object)
            | Shape::FileRef(object)
            | Shape::Include(object)
            | Shape::Device(object)
            | Shape::Volume(object)
            | Shape::Ulimit(object),
            Value::Map(map),
        ) => Value::Map(object_map(object, map)),
        (Shape::Map(inner), Value::Map(map)) => Value::Map(sorted(map, |node| ordered(inner, node))),
        (Shape::Named(object) | Shape::DependsOn(object), Value::Map(map)) => {
            Value::Map(sorted(map, |node| ordered(&Shape::ObjectOrNull(object), node)))
        }
        (Shape::Hosts, Value::Map(map)) => Value::List(host_list(map)),
        (Shape::Any, Value::Map(map)) => Value::Map(sorted(map, |node| ordered(&Shape::Any, node))),
        (Shape::Any, Value::List(items)) => {
            Value::List(items.into_iter().map(|i| ordered(&Shape::Any, i)).collect())
        }
        (_, Value::Map(map)) => Value::Map(sorted(map, |node| node)),
        (Shape::List(inner, _), Value::List(items)) => {
            Value::List(items.into_iter().map(|item| ordered(inner, item)).collect())
        }
        (Shape::EnvFiles(object) | Shape::Ports(object) | Shape::Gpus(object), Value::List(items)) => {
            let items = items.into_iter().map(|item| ordered(&Shape::Object(object), item));
            Value::List(
                items
                    .map(|item| if matches!(shape, Shape::EnvFiles(_)) { optional_only(item) } else { item })
                    .collect(),
            )
        }
        (_, value) => value,
    }
}

fn object_map(object: &Object, mut map: Map) -> Map {
    let mut out = Map::default();
    for attr in object.attrs {
        if let Some(Entry { key, pos, node }) = map.remove(attr.name) {
            let node = ordered(&attr.shape, node);
            if says_something(&attr.shape, &node, attr.keep, attr.name) {
                out.push(Entry { key, pos, node });
            }
        }
    }
    // Extensions stand at the end.
    let rest = sorted(map, |node| ordered(&Shape::Any, node));
    rest.into_iter().for_each(|entry| out.push(entry));
    out
}

fn says_something(shape: &Shape, node: &Node, keep: bool, name: &str) -> bool {
    // Its default is true, so it is left out when it is true.
    if name == "create_host_path" {
        return node.value != Value::Bool(true);
    }
    if keep {
        return !node.is_null();
    }
    match &node.value {
        Value::Null => false,
        Value::Bool(b) => *b,
        Value::Int(n) => *n != 0,
        Value::Float(f) => *f != 0.0,
        Value::Str(text) => match shape {
            Shape::Bytes => text != "0",
            Shape::Duration => text != "0s",
            _ => !text.is_empty(),
        },
        Value::List(items) => !items.is_empty(),
        Value::Map(map) => {
            let object = matches!(shape, Shape::ObjectOrNull(_) | Shape::Object(_) | Shape::Logging(_));
            !map.is_empty() || (object && !["ipam", "resources", "placement", "exec"].contains(&name))
        }
    }
}

/// A file of variables says only that it is not required.
fn optional_only(mut node: Node) -> Node {
    if let Some(map) = node.map_mut() {
        map.retain(|e| e.key != "required" || e.node.value != Value::Bool(true));
    }
    node
}

/// `HOST=ADDRESS`, sorted.
fn host_list(map: Map) -> Vec<Node> {
    let mut out = Vec::new();
    for entry in map {
        let Value::List(addresses) = entry.node.value else { continue };
        for address in addresses {
            let text = format!("{}={}", entry.key, address.str().unwrap_or_default());
            out.push(Node::text(text, address.pos));
        }
    }
    out.sort_by(|a, b| a.str().cmp(&b.str()));
    out
}

fn sorted(map: Map, change: impl Fn(Node) -> Node) -> Map {
    let mut map: Map = map.into_iter().map(|e| Entry { node: change(e.node), ..e }).collect();
    map.sort_by(|a, b| a.key.cmp(&b.key));
    map
}

/// The order of names in YAML: numbers in them count as numbers, letters come after everything else.
pub fn natural(a: &str, b: &str) -> Ordering {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut digits = false;
    for i in 0..a.len().min(b.len()) {
        if a[i] == b[i] {
            digits = a[i].is_ascii_digit();
            continue;
        }
        let (letter_a, letter_b) = (a[i].is_alphabetic(), b[i].is_alphabetic());
        if letter_a && letter_b {
            return a[i].cmp(&b[i]);
        }
        if letter_a || letter_b {
            let letter_first = if digits { letter_a } else { letter_b };
            return if letter_first { Ordering::Less } else { Ordering::Greater };
        }
        let (zero_a, zero_b) = (a[i] == '0', b[i] == '0');
        let from = if zero_a || zero_b {
            (0..i).rev().take_while(|j| a[*j].is_ascii_digit()).last().unwrap_or(i)
        } else {
            i
        };
        let number = |chars: &[char]| -> (u64, usize) {
            let run: String = chars.iter().take_while(|c| c.is_ascii_digit()).take(18).collect();
            (run.parse().unwrap_or(0), run.len())
        };
        let ((number_a, length_a), (number_b, length_b)) = (number(&a[from..]), number(&b[from..]));
        return number_a.cmp(&number_b).then(length_a.cmp(&length_b)).then(a[i].cmp(&b[i]));
    }
    a.len().cmp(&b.len())
}

/// The same tree with every mapping of names in the order of YAML. Objects of the table keep theirs.
pub fn naturally(shape: &Shape, node: &mut Node) {
    match (shape, &mut node.value) {
        (
            Shape::Object(object)
            | Shape::ObjectOrNull(object)
            | Shape::Logging(object)
            | Shape::Build(object)
            | Shape::Volume(object),
            Value::Map(map),
        ) => {
            for entry in map.iter_mut() {
                let inner = object.attr(&entry.key).map_or(&Shape::Any, |a| &a.shape);
                naturally(inner, &mut entry.node);
            }
        }
        (Shape::Map(inner), Value::Map(map)) => {
            map.sort_by(|a, b| natural(&a.key, &b.key));
            map.iter_mut().for_each(|e| naturally(inner, &mut e.node));
        }
        (Shape::Named(object) | Shape::DependsOn(object), Value::Map(map)) => {
            map.sort_by(|a, b| natural(&a.key, &b.key));
            map.iter_mut().for_each(|e| naturally(&Shape::ObjectOrNull(object), &mut e.node));
        }
        (Shape::List(inner, _), Value::List(items)) => {
            items.iter_mut().for_each(|item| naturally(inner, item))
        }
        (
            Shape::Dict(_) | Shape::Options | Shape::Contexts | Shape::Ssh | Shape::MultiOptions | Shape::Any,
            Value::Map(map),
        ) => {
            map.sort_by(|a, b| natural(&a.key, &b.key));
            map.iter_mut().for_each(|e| naturally(&Shape::Any, &mut e.node));
        }
        (Shape::Any, Value::List(items)) => items.iter_mut().for_each(|item| naturally(&Shape::Any, item)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_numbers_in_their_order() {
        let mut names = ["web10", "web2", "web1", "db", "web-1", "_x"];
        names.sort_by(|a, b| natural(a, b));
        assert_eq!(names, ["_x", "db", "web-1", "web1", "web2", "web10"]);
    }
}
