//! One document against the table: what is wrong in it, and its long form.
//!
//! Everything wrong is collected, so that a user sees it all at once. Attributes that must be there are asked for only
//! when all files are merged ([`super::finish`]).

use super::short;
use crate::document::{Entry, Map, Mark, Node, Pos, Value, go_float};
use crate::fault::{Fault, did_you_mean};
use crate::schema::{Object, Same, Shape, Unset};
use crate::units;

/// What a walk through a document gathers.
pub struct Canon {
    /// All that is wrong.
    pub faults: Vec<Fault>,
    /// What is questionable, for warnings.
    pub warnings: Vec<String>,
    /// Whether texts may still contain `$` where numbers are expected (`--no-interpolate`).
    pub raw: bool,
}

impl Canon {
    /// The long form of `node`, or nothing if it is wrong or says nothing.
    pub fn node(&mut self, shape: &Shape, mut node: Node, path: &str) -> Option<Node> {
        if node.mark == Mark::Reset {
            return Some(node);
        }
        if self.raw && node.str().is_some_and(|s| s.contains('$')) {
            return Some(node);
        }
        let (pos, mark) = (node.pos, node.mark);
        let value = std::mem::replace(&mut node.value, Value::Null);
        let value = self.value(shape, value, pos, path)?;
        Some(Node { value, pos, mark })
    }

    fn value(&mut self, shape: &Shape, value: Value, pos: Pos, path: &str) -> Option<Value> {
        match (shape, value) {
            (Shape::Any, value) => Some(value),
            (
                Shape::Str
                | Shape::StrOrNull
                | Shape::Scalar
                | Shape::Checked(_)
                | Shape::OneOf(_)
                | Shape::BoolOrStr
                | Shape::Bool
                | Shape::Int(..)
                | Shape::Float
                | Shape::Bytes
                | Shape::Duration
                | Shape::Mode
                | Shape::Count
                | Shape::Command
                | Shape::Test,
                value,
            ) => self.single(shape, value, pos, path),
            (Shape::OneOrMore(_), Value::Str(text)) => Some(Value::List(vec![Node::text(text, pos)])),
            (Shape::Strings(same) | Shape::OneOrMore(same), Value::List(items)) => {
                self.texts(items, *same, false, path)
            }
            (Shape::Scalars(same), Value::List(items)) => self.texts(items, *same, true, path),
            (Shape::Dict(unset), Value::Map(map)) => self.dict(map, *unset, path),
            (Shape::Dict(unset), Value::List(items)) => self.dict_of_list(items, *unset, path),
            (Shape::Options, Value::Map(map)) => self.dict(map, Unset::Empty, path),
            (
                Shape::Object(object) | Shape::ObjectOrNull(object) | Shape::Logging(object),
                Value::Map(map),
            ) => Some(Value::Map(self.object(object, map, path))),
            (Shape::ObjectOrNull(_), Value::Null) => Some(Value::Null),
            (Shape::Map(shape), Value::Map(map)) => Some(Value::Map(self.named_values(shape, map, path))),
            (Shape::List(shape, same), Value::List(items)) => {
                let items = self.items(shape, items, path);
                Some(Value::List(super::merge::unique(items, *same)))
            }
            (shape, value) => short::value(self, shape, value, pos, path),
        }
    }

    /// A mapping with known keys.
    pub fn object(&mut self, object: &Object, map: Map, path: &str) -> Map {
        let mut out = Map::default();
        for entry in map {
            let inner = join(path, &entry.key);
            match object.attr(&entry.key) {
                Some(attr) => {
                    if let Some(node) = self.node(&attr.shape, entry.node, &inner) {
                        out.push(Entry { node, ..entry });
                    }
                }
                None if object.extensions && entry.key.starts_with("x-") => out.push(entry),
                None => self.unknown(object, &entry, path),
            }
        }
        out
    }

    fn unknown(&mut self, object: &Object, entry: &Entry, path: &str) {
        let place = if path.is_empty() { "a Compose file".to_owned() } else { path.to_owned() };
        let mut fault = Fault::new(entry.pos, format!("{place} has no attribute {:?}", entry.key));
        let mut known: Vec<&str> = object.attrs.iter().map(|a| a.name).collect();
        if let Some(meant) = did_you_mean(&entry.key, known.iter().copied()) {
            fault = fault.hint(format!("did you mean {meant}?"));
        } else if path.is_empty() && entry.node.get("image").or_else(|| entry.node.get("build")).is_some() {
            fault = fault.hint("services stand under the key services");
        } else if known.len() <= 12 {
            known.sort_unstable();
            fault = fault.hint(format!("it can have {}", known.join(", ")));
        } else if object.extensions {
            fault = fault.hint(format!("to keep data of your own call it x-{}", entry.key));
        }
        self.faults.push(fault);
    }

    fn named_values(&mut self, shape: &Shape, map: Map, path: &str) -> Map {
        let mut out = Map::default();
        for entry in map {
            let inner = join(path, &entry.key);
            self.name(&entry.key, entry.pos, path);
            if let Some(node) = self.node(shape, entry.node, &inner) {
                out.push(Entry { node, ..entry });
            }
        }
        out
    }

    /// Checks a name that users choose.
    pub fn name(&mut self, name: &str, pos: Pos, path: &str) {
        let fine = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
        if !fine {
            self.faults.push(
                Fault::new(pos, format!("{name:?} cannot be a name in {path}"))
                    .hint("names are made of letters, digits, points, _ and -"),
            );
        }
    }

    /// Every item of a list by one shape.
    pub fn items(&mut self, shape: &Shape, items: Vec<Node>, path: &str) -> Vec<Node> {
        let items = items.into_iter().enumerate();
        items.filter_map(|(n, item)| self.node(shape, item, &format!("{path}[{n}]"))).collect()
    }

    fn texts(&mut self, items: Vec<Node>, same: Same, numbers: bool, path: &str) -> Option<Value> {
        let shape = if numbers { Shape::Scalar } else { Shape::Str };
        let items = self.items(&shape, items, path);
        if same == Same::Forbidden {
            for (n, item) in items.iter().enumerate() {
                if items[..n].contains_value(item) {
                    let text = item.str().unwrap_or_default();
                    self.faults.push(
                        Fault::new(item.pos, format!("{path} has {text:?} twice")).hint("remove one of them"),
                    );
                }
            }
        }
        Some(Value::List(super::merge::unique(items, same)))
    }

    fn dict(&mut self, map: Map, unset: Unset, path: &str) -> Option<Value> {
        let mut out = Map::default();
        for entry in map {
            if entry.node.mark == Mark::Reset {
                out.push(entry);
                continue;
            }
            let value = match (&entry.node.value, entry.node.scalar()) {
                (_, Some(text)) => Value::Str(text),
                (Value::Null, None) if unset == Unset::Null => Value::Null,
                (Value::Null, None) => Value::Str(String::new()),
                _ => {
                    let inner = join(path, &entry.key);
                    let hint = "a variable or label has one value: write it as one text";
                    self.wrong_with(&inner, "must be a text, a number or a boolean", &entry.node, hint);
                    continue;
                }
            };
            let node = Node { value, ..entry.node };
            out.push(Entry { node, ..entry });
        }
        Some(Value::Map(out))
    }

    fn dict_of_list(&mut self, items: Vec<Node>, unset: Unset, path: &str) -> Option<Value> {
        let mut out = Map::default();
        for (n, item) in items.into_iter().enumerate() {
            let Some(text) = item.str() else {
                let inner = format!("{path}[{n}]");
                if matches!(item.value, Value::Map(_)) {
                    self.wrong_with(
                        &inner,
                        "must be a text like KEY=value",
                        &item,
                        "write `- KEY=value`, or make the whole list a mapping",
                    );
                } else {
                    self.wrong(&inner, "must be a text like KEY=value", &item);
                }
                continue;
            };
            let (key, value) = match text.split_once('=') {
                Some((key, value)) => (key, Value::Str(value.to_owned())),
                None if unset == Unset::Null => (text, Value::Null),
                None => (text, Value::Str(String::new())),
            };
            if unset == Unset::Null && key.ends_with(char::is_whitespace) {
                self.faults.push(
                    Fault::new(item.pos, format!("{path}: the name {key:?} ends in a space"))
                        .hint("write KEY=value without a space before ="),
                );
            }
            let key = key.to_owned();
            out.set(&key, item.pos, Node::new(value, item.pos));
        }
        Some(Value::Map(out))
    }

    /// Scalars and what is made of one.
    fn single(&mut self, shape: &Shape, value: Value, pos: Pos, path: &str) -> Option<Value> {
        match scalar(shape, value) {
            Ok(value) => value,
            Err((Value::List(items), _)) if matches!(shape, Shape::Command | Shape::Test) => {
                for (n, item) in items.iter().enumerate().filter(|(_, item)| item.str().is_none()) {
                    let inner = format!("{path}[{n}]");
                    match item.scalar() {
                        Some(text) => {
                            self.wrong_with(&inner, "must be a text", item, &format!("quote it: \"{text}\""))
                        }
                        None => self.wrong(&inner, "must be a text", item),
                    }
                }
                None
            }
            Err((value, must)) => {
                let node = Node::new(value, pos);
                match hint_for(shape, &node, &must) {
                    Some(hint) => self.wrong_with(path, &must, &node, &hint),
                    None => self.wrong(path, &must, &node),
                }
                None
            }
        }
    }

    /// Notes that the value of `path` is wrong.
    pub fn wrong(&mut self, path: &str, must: &str, node: &Node) {
        let fault = self.wrongness(path, must, node);
        let fault = if node.is_null() && must.starts_with("must be") {
            fault.hint(format!("give it a value or remove {}", last(path)))
        } else {
            fault
        };
        self.faults.push(fault);
    }

    /// The same, with what to do.
    pub fn wrong_with(&mut self, path: &str, must: &str, node: &Node, hint: &str) {
        let fault = self.wrongness(path, must, node).hint(hint);
        self.faults.push(fault);
    }

    fn wrongness(&self, path: &str, must: &str, node: &Node) -> Fault {
        let is = match (&node.value, node.scalar()) {
            (Value::Str(text), _) => format!("not {text:?}"),
            (_, Some(text)) => format!("not {} ({text})", node.kind()),
            _ => format!("not {}", node.kind()),
        };
        Fault::new(node.pos, format!("{path} {must}, {is}"))
    }
}

trait ContainsValue {
    fn contains_value(&self, node: &Node) -> bool;
}

impl ContainsValue for [Node] {
    fn contains_value(&self, node: &Node) -> bool {
        self.iter().any(|other| other.value == node.value)
    }
}

/// `services.web` and `image` -> `services.web.image`.
pub fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

fn last(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or(path)
}

/// The long form of a scalar, or the value as it was and what it must be.
fn scalar(shape: &Shape, value: Value) -> Result<Option<Value>, (Value, String)> {
    let text = value_text;
    let must = |value: Value, what: &str| Err((value, what.to_owned()));
    match (shape, value) {
        (Shape::Str | Shape::StrOrNull | Shape::BoolOrStr | Shape::Scalar, Value::Str(text)) => {
            Ok(Some(Value::Str(text)))
        }
        (Shape::StrOrNull | Shape::Command, Value::Null) => Ok(None),
        (Shape::BoolOrStr, Value::Bool(b)) => Ok(Some(Value::Str(b.to_string()))),
        (Shape::Scalar, value @ (Value::Int(_) | Value::Float(_))) => Ok(text(&value).map(Value::Str)),
        (Shape::Checked(check), Value::Str(text)) => match check(&text) {
            Ok(()) => Ok(Some(Value::Str(text))),
            Err(what) => Err((Value::Str(text), what)),
        },
        (Shape::OneOf(known), Value::Str(text)) if known.contains(&text.as_str()) => {
            Ok(Some(Value::Str(text)))
        }
        (Shape::OneOf(known), value) => Err((value, format!("must be one of {}", known.join(", ")))),
        (Shape::Bool, Value::Bool(b)) => Ok(Some(Value::Bool(b))),
        (Shape::Bool, Value::Str(text)) => match boolean(&text) {
            Some(b) => Ok(Some(Value::Bool(b))),
            None => must(Value::Str(text), "must be true or false"),
        },
        (Shape::Int(least, most), value) => match text(&value).and_then(|t| whole(&t)) {
            Some(n) if (*least..=*most).contains(&n) => Ok(Some(Value::Int(n))),
            _ => Err((value, whole_between(*least, *most))),
        },
        (Shape::Float, value) => {
            match text(&value).and_then(|t| t.parse::<f64>().ok()).filter(|f| f.is_finite()) {
                Some(f) => Ok(Some(number(f))),
                None => must(value, "must be a number"),
            }
        }
        (Shape::Bytes | Shape::Duration | Shape::Mode | Shape::Count, value) => measure(shape, value),
        (Shape::Command, Value::Str(text)) => match short::words(&text) {
            Ok(words) => {
                Ok(Some(Value::List(words.into_iter().map(|w| Node::text(w, Pos::default())).collect())))
            }
            Err(what) => Err((Value::Str(text), what.to_owned())),
        },
        (Shape::Test, Value::Str(text)) => {
            let words = ["CMD-SHELL".to_owned(), text];
            Ok(Some(Value::List(words.into_iter().map(|w| Node::text(w, Pos::default())).collect())))
        }
        (Shape::Command | Shape::Test, Value::List(items)) if items.iter().all(|i| i.str().is_some()) => {
            Ok(Some(Value::List(items)))
        }
        (Shape::Command | Shape::Test, value) => must(value, "must be a text or a list of texts"),
        (Shape::Bool, value) => must(value, "must be true or false"),
        (Shape::Scalar, value) => must(value, "must be a text or a number"),
        (_, value) => must(value, "must be a text"),
    }
}

/// Bytes, durations, permissions, numbers of devices.
fn measure(shape: &Shape, value: Value) -> Result<Option<Value>, (Value, String)> {
    let text = value_text;
    let must = |value: Value, what: &str| Err((value, what.to_owned()));
    match (shape, value) {
        (Shape::Bytes, value) => match text(&value).map_or_else(
            || Err(String::from("must be a number of bytes such as 512m or 2g")),
            |t| units::bytes(&t),
        ) {
            Ok(n) => Ok(Some(Value::Str(n.to_string()))),
            Err(what) => Err((value, what)),
        },
        (Shape::Duration, value) => {
            let nanoseconds = match &value {
                Value::Str(text) => units::duration(text),
                _ => Err("must be a duration such as 1m30s (units: ns, us, ms, s, m, h, d, w)".to_owned()),
            };
            nanoseconds.map(|n| Some(Value::Str(units::go_duration(n)))).map_err(|what| (value, what))
        }
        (Shape::Mode, value) => {
            let bits = match &value {
                Value::Int(n) => Some(*n),
                Value::Str(text) => i64::from_str_radix(text.trim_start_matches("0o"), 8).ok(),
                _ => None,
            };
            match bits.filter(|n| (0..=0o7777).contains(n)) {
                Some(bits) => Ok(Some(Value::Str(format!("0{bits:o}")))),
                None => must(value, "must be octal permissions such as 0440"),
            }
        }
        (Shape::Count, value) => match text(&value).as_deref() {
            Some(all) if all.eq_ignore_ascii_case("all") => Ok(Some(Value::Int(-1))),
            Some(n) if n.parse::<i64>().is_ok() => Ok(whole(n).map(Value::Int)),
            _ => must(value, "must be a number or all"),
        },
        (_, value) => must(value, "must be a text"),
    }
}

/// A scalar that is not a boolean, as text.
fn value_text(value: &Value) -> Option<String> {
    match value {
        Value::Str(text) => Some(text.clone()),
        Value::Int(n) => Some(n.to_string()),
        Value::Float(f) => Some(go_float(*f)),
        _ => None,
    }
}

/// What is likely to help with a scalar that is wrong.
fn hint_for(shape: &Shape, node: &Node, must: &str) -> Option<String> {
    let meant = |text: &str, known: &mut dyn Iterator<Item = &str>| {
        let known: Vec<String> = known.map(str::to_owned).collect();
        did_you_mean(text, known.iter().map(String::as_str)).map(|m| format!("did you mean {m}?"))
    };
    let fixed = |text: &str| Some(text.to_owned());
    match (shape, &node.value) {
        (_, Value::Null) => None,
        (Shape::Checked(_), Value::Bool(false)) => {
            fixed("quote it: \"no\" is a text, false is a boolean to YAML")
        }
        (
            Shape::Str | Shape::StrOrNull | Shape::Checked(_),
            Value::Bool(_) | Value::Int(_) | Value::Float(_),
        ) => Some(format!("quote it: \"{}\"", node.scalar().unwrap_or_default())),
        (Shape::OneOf(known), Value::Str(text)) => meant(text, &mut known.iter().copied()),
        (Shape::Checked(_), Value::Str(text)) => match must.strip_prefix("must be one of ") {
            Some(list) => meant(text, &mut list.split([',', ' ']).filter(|w| w.len() > 1)),
            None => fixed("choose another, or leave it out"),
        },
        (Shape::Duration, Value::Int(n)) => Some(format!("write {n}s for {n} seconds")),
        (Shape::Duration, Value::Str(text)) if text.parse::<u64>().is_ok() => {
            Some(format!("write {text}s for {text} seconds"))
        }
        (Shape::Duration, _) => fixed("write it as 10s, 1m30s or 1h"),
        (Shape::Bytes, _) => fixed("write it as 512m or 2g"),
        (Shape::Bool, _) => fixed("write true or false"),
        (Shape::Int(..) | Shape::Float, _) => fixed("write a plain number"),
        (Shape::Command, Value::Str(_)) => fixed("close the quote, or write the command as a list of words"),
        (Shape::Mode, _) => fixed("write four octal digits, as chmod takes them"),
        _ => None,
    }
}

fn whole_between(least: i64, most: i64) -> String {
    match (least, most) {
        (i64::MIN, i64::MAX) => "must be a whole number".to_owned(),
        (0, i64::MAX) => "must be a whole number that is not negative".to_owned(),
        (least, i64::MAX) => format!("must be a whole number from {least} on"),
        (least, most) => format!("must be a whole number from {least} to {most}"),
    }
}

fn whole(text: &str) -> Option<i64> {
    match text.parse::<i64>() {
        Ok(n) => Some(n),
        Err(_) => text.parse::<f64>().ok().filter(|f| f.fract() == 0.0 && f.abs() < 9e15).map(|f| f as i64),
    }
}

/// A number that is whole is printed as one.
fn number(f: f64) -> Value {
    if f.fract() == 0.0 && f.abs() < 9e15 { Value::Int(f as i64) } else { Value::Float(f) }
}

/// The booleans of YAML 1.1, which interpolated texts may be.
fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "y" | "yes" | "on" => Some(true),
        "false" | "n" | "no" | "off" => Some(false),
        _ => None,
    }
}
