//! What templates compute with: JSON's values plus what a Go program has beside them (typed maps and lists,
//! structs, nil pointers, functions and methods).
//!
//! The static types matter: in Go the elements of a `map[string]string` are strings, those of a
//! `map[string]interface {}` are interfaces, and messages and zero values differ.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::function::Function;

/// A value. Cloning is cheap: containers are shared.
#[derive(Clone, Debug, Default)]
pub enum Value {
    /// A nil interface; JSON's `null`.
    #[default]
    Nil,
    /// A nil pointer to the named struct type.
    NilPointer(Arc<str>),
    /// `bool`
    Bool(bool),
    /// `int`
    Int(i64),
    /// `uint64`
    Uint(u64),
    /// `uint8`: what indexing a string gives.
    Byte(u8),
    /// `float64`
    Float(f64),
    /// `string`
    Str(Arc<str>),
    /// A slice.
    List(Arc<List>),
    /// A map with string keys.
    Map(Arc<Map>),
    /// A struct, or a pointer to one.
    Struct(Arc<Struct>),
    /// A function.
    Func(Function),
}

/// The static type of the elements of a list or a map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Elem {
    /// `interface {}`
    #[default]
    Any,
    /// `string`
    Str,
}

impl Elem {
    pub(crate) fn type_name(self) -> &'static str {
        match self {
            Self::Any => "interface {}",
            Self::Str => "string",
        }
    }
}

/// A slice with the static type of its elements.
#[derive(Clone, Debug, Default)]
pub struct List {
    /// The elements.
    pub items: Vec<Value>,
    /// Their static type.
    pub elem: Elem,
}

/// A map with string keys, perhaps of a named type with methods.
#[derive(Clone, Debug, Default)]
pub struct Map {
    /// The entries; they are iterated and printed in this order.
    pub entries: BTreeMap<String, Value>,
    /// The static type of the values.
    pub elem: Elem,
    /// The type's name, if it is not a plain map type.
    pub type_name: Option<Arc<str>>,
    /// Methods, found before entries.
    pub methods: BTreeMap<String, Function>,
}

/// A struct: a fixed set of fields, and methods. A name that it lacks is an error, unlike a key that a map lacks.
#[derive(Clone, Debug, Default)]
pub struct Struct {
    /// The type's name as Go prints it, e.g. `*formatter.ContainerContext`. With the star it is a pointer.
    pub type_name: Arc<str>,
    /// The fields in their order.
    pub fields: Vec<(String, Value)>,
    /// Methods, found before fields. `String` without arguments is used to print the value.
    pub methods: BTreeMap<String, Function>,
}

impl Struct {
    /// The field of this name.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&Value> {
        self.fields.iter().find(|(n, _)| n == name).map(|(_, v)| v)
    }
}

/// What Go type stands for a place in a JSON document (see [`Value::from_json_with`]).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Shape {
    /// As Go decodes JSON: `map[string]interface {}`, `[]interface {}`, `interface {}`.
    #[default]
    Any,
    /// `map[string]string` or `[]string`.
    Strings,
    /// The named struct (with a star before the name: a pointer; `null` is then a nil pointer).
    Struct(String),
}

impl Value {
    /// A string.
    pub fn str(s: impl Into<Arc<str>>) -> Self {
        Self::Str(s.into())
    }

    /// A `[]string`.
    pub fn strings<S: Into<Arc<str>>>(items: impl IntoIterator<Item = S>) -> Self {
        let items = items.into_iter().map(Self::str).collect();
        Self::List(Arc::new(List { items, elem: Elem::Str }))
    }

    /// A `[]interface {}`.
    #[must_use]
    pub fn list(items: Vec<Self>) -> Self {
        Self::List(Arc::new(List { items, elem: Elem::Any }))
    }

    /// A `map[string]interface {}`.
    pub fn map<K: Into<String>>(entries: impl IntoIterator<Item = (K, Self)>) -> Self {
        let entries = entries.into_iter().map(|(k, v)| (k.into(), v)).collect();
        Self::Map(Arc::new(Map { entries, ..Map::default() }))
    }

    /// A `map[string]string`.
    pub fn string_map<K: Into<String>, S: Into<Arc<str>>>(entries: impl IntoIterator<Item = (K, S)>) -> Self {
        let entries = entries.into_iter().map(|(k, v)| (k.into(), Self::str(v))).collect();
        Self::Map(Arc::new(Map { entries, elem: Elem::Str, ..Map::default() }))
    }

    /// The JSON document with Go types chosen by `shape`, which gets the path of keys to a container or a null
    /// (list indices are not part of it).
    pub fn from_json_with(json: &serde_json::Value, shape: &dyn Fn(&[&str]) -> Shape) -> Self {
        convert(json, &mut Vec::new(), shape)
    }

    /// The JSON document whose top level is the struct `type_name`: a name that it lacks is an error.
    #[must_use]
    pub fn from_json_struct(json: &serde_json::Value, type_name: &str) -> Self {
        Self::from_json_with(json, &|path| {
            if path.is_empty() { Shape::Struct(type_name.to_owned()) } else { Shape::Any }
        })
    }

    /// Adds a method to a struct or a map; another value stays as it is.
    #[must_use]
    pub fn with_method(self, name: &str, function: Function) -> Self {
        match self {
            Self::Struct(s) => {
                let mut s = Arc::unwrap_or_clone(s);
                s.methods.insert(name.to_owned(), function);
                Self::Struct(Arc::new(s))
            }
            Self::Map(m) => {
                let mut m = Arc::unwrap_or_clone(m);
                m.methods.insert(name.to_owned(), function);
                Self::Map(Arc::new(m))
            }
            other => other,
        }
    }

    /// The name of the Go type; a nil interface is `<nil>`.
    #[must_use]
    pub fn type_name(&self) -> Cow<'_, str> {
        Cow::Borrowed(match self {
            Self::Nil => "<nil>",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Uint(_) => "uint64",
            Self::Byte(_) => "uint8",
            Self::Float(_) => "float64",
            Self::Str(_) => "string",
            Self::NilPointer(name) => name,
            Self::Struct(s) => &s.type_name,
            Self::Func(f) => return Cow::Owned(f.type_name()),
            Self::List(l) => return Cow::Owned(format!("[]{}", l.elem.type_name())),
            Self::Map(m) => match &m.type_name {
                Some(name) => name,
                None => return Cow::Owned(format!("map[string]{}", m.elem.type_name())),
            },
        })
    }

    /// Go's truth: not zero, not empty, not nil. A struct is always true.
    #[must_use]
    pub fn truth(&self) -> bool {
        match self {
            Self::Nil | Self::NilPointer(_) => false,
            Self::Bool(b) => *b,
            Self::Int(n) => *n != 0,
            Self::Uint(n) => *n != 0,
            Self::Byte(n) => *n != 0,
            Self::Float(f) => *f != 0.0,
            Self::Str(s) => !s.is_empty(),
            Self::List(l) => !l.items.is_empty(),
            Self::Map(m) => !m.entries.is_empty(),
            Self::Struct(_) | Self::Func(_) => true,
        }
    }

    /// The string, if it is one.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        if let Self::Str(s) = self { Some(s) } else { None }
    }

    /// The integer, if it is one that fits.
    #[must_use]
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Self::Int(n) => Some(*n),
            Self::Byte(n) => Some(i64::from(*n)),
            Self::Uint(n) => i64::try_from(*n).ok(),
            _ => None,
        }
    }

    /// The method of this name.
    pub(crate) fn method(&self, name: &str) -> Option<&Function> {
        match self {
            Self::Struct(s) => s.methods.get(name),
            Self::Map(m) => m.methods.get(name),
            _ => None,
        }
    }
}

impl From<&serde_json::Value> for Value {
    fn from(json: &serde_json::Value) -> Self {
        Self::from_json_with(json, &|_| Shape::Any)
    }
}

impl From<&str> for Value {
    fn from(s: &str) -> Self {
        Self::str(s)
    }
}

impl From<String> for Value {
    fn from(s: String) -> Self {
        Self::str(s)
    }
}

impl From<bool> for Value {
    fn from(b: bool) -> Self {
        Self::Bool(b)
    }
}

impl From<i64> for Value {
    fn from(n: i64) -> Self {
        Self::Int(n)
    }
}

fn convert<'a>(
    json: &'a serde_json::Value,
    path: &mut Vec<&'a str>,
    shape: &dyn Fn(&[&str]) -> Shape,
) -> Value {
    use serde_json::Value as J;
    match json {
        J::Null => match shape(path) {
            Shape::Struct(name) if name.starts_with('*') => Value::NilPointer(name.into()),
            Shape::Strings => Value::string_map::<String, String>([]),
            _ => Value::Nil,
        },
        J::Bool(b) => Value::Bool(*b),
        J::Number(n) => number(n),
        J::String(s) => Value::str(s.as_str()),
        J::Array(items) => {
            let elem = if shape(path) == Shape::Strings { Elem::Str } else { Elem::Any };
            let items = items.iter().map(|v| convert(v, path, shape)).collect();
            Value::List(Arc::new(List { items, elem }))
        }
        J::Object(map) => {
            let shape_here = shape(path);
            let mut fields = Vec::with_capacity(map.len());
            for (key, v) in map {
                path.push(key);
                fields.push((key.clone(), convert(v, path, shape)));
                path.pop();
            }
            object(fields, shape_here)
        }
    }
}

fn object(fields: Vec<(String, Value)>, shape: Shape) -> Value {
    let elem = match shape {
        Shape::Struct(name) => {
            return Value::Struct(Arc::new(Struct {
                type_name: name.into(),
                fields,
                methods: BTreeMap::new(),
            }));
        }
        Shape::Strings => Elem::Str,
        Shape::Any => Elem::Any,
    };
    Value::Map(Arc::new(Map { entries: fields.into_iter().collect(), elem, ..Map::default() }))
}

fn number(n: &serde_json::Number) -> Value {
    if let Some(i) = n.as_i64() {
        Value::Int(i)
    } else if let Some(u) = n.as_u64() {
        Value::Uint(u)
    } else {
        Value::Float(n.as_f64().unwrap_or(f64::NAN))
    }
}
