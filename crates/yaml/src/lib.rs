//! Documents as trees whose every node knows where it was written: file, line and column.
//!
//! YAML is read into them ([`read`]), they are written as YAML and JSON ([`write`]), and what is wrong in them is told with the
//! line that it is about ([`fault`]). What the attributes mean is not known here: Compose files and Kubernetes objects are
//! read alike.

#![forbid(unsafe_code)]

pub mod fault;
mod read;
mod scalar;
pub mod write;

pub use read::{Tags, read, read_with};
pub use scalar::go_float;

use std::path::{Path, PathBuf};

/// Where something was written. Lines and columns begin at 1; a line of 0 means that nobody wrote it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pos {
    /// Which file, an index into [`Files`].
    pub file: u16,
    /// The line.
    pub line: u32,
    /// The column, in characters.
    pub column: u32,
}

/// What a tag asks for when a document is laid over another one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mark {
    /// To be merged by the rules of the attribute.
    #[default]
    None,
    /// `!reset`: the attribute is taken away.
    Reset,
    /// `!override`: what was there before is replaced.
    Override,
}

/// A value of a document.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Nothing, `~`, `null`.
    Null,
    /// `true`, `false`.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Any other number.
    Float(f64),
    /// A text.
    Str(String),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping.
    Map(Map),
}

/// A value and where it was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// The value.
    pub value: Value,
    /// Where it begins.
    pub pos: Pos,
    /// Its tag.
    pub mark: Mark,
}

/// One entry of a mapping.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key was written.
    pub pos: Pos,
    /// The value.
    pub node: Node,
}

/// A mapping: keys in the order in which they were written, each once.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Map {
    entries: Vec<Entry>,
}

impl Node {
    /// A value at a place.
    pub fn new(value: Value, pos: Pos) -> Self {
        Self { value, pos, mark: Mark::None }
    }

    /// A text at a place.
    pub fn text(text: impl Into<String>, pos: Pos) -> Self {
        Self::new(Value::Str(text.into()), pos)
    }

    /// The mapping, if it is one.
    pub fn map(&self) -> Option<&Map> {
        if let Value::Map(map) = &self.value { Some(map) } else { None }
    }

    /// The mapping, if it is one.
    pub fn map_mut(&mut self) -> Option<&mut Map> {
        if let Value::Map(map) = &mut self.value { Some(map) } else { None }
    }

    /// The items, if it is a sequence.
    pub fn list(&self) -> Option<&[Node]> {
        if let Value::List(list) = &self.value { Some(list) } else { None }
    }

    /// The text, if it is one.
    pub fn str(&self) -> Option<&str> {
        if let Value::Str(text) = &self.value { Some(text) } else { None }
    }

    /// The value of a key, if this is a mapping that has it.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.map()?.get(key)
    }

    /// The text of a key, if there is one.
    pub fn get_str(&self, key: &str) -> Option<&str> {
        self.get(key)?.str()
    }

    /// Whether it is null.
    pub fn is_null(&self) -> bool {
        matches!(self.value, Value::Null)
    }

    /// A scalar as text, numbers as Go prints them; none for null, sequences and mappings.
    pub fn scalar(&self) -> Option<String> {
        match &self.value {
            Value::Bool(b) => Some(b.to_string()),
            Value::Int(n) => Some(n.to_string()),
            Value::Float(f) => Some(go_float(*f)),
            Value::Str(s) => Some(s.clone()),
            Value::Null | Value::List(_) | Value::Map(_) => None,
        }
    }

    /// What it is, as messages say it.
    pub fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "nothing",
            Value::Bool(_) => "a boolean",
            Value::Int(_) | Value::Float(_) => "a number",
            Value::Str(_) => "a string",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }

    /// A program's document, written nowhere.
    pub fn from_json(value: serde_json::Value) -> Self {
        use serde_json::Value as J;
        let value = match value {
            J::Null => Value::Null,
            J::Bool(b) => Value::Bool(b),
            J::Number(number) => match number.as_i64() {
                Some(whole) => Value::Int(whole),
                None => Value::Float(number.as_f64().unwrap_or_default()),
            },
            J::String(text) => Value::Str(text),
            J::Array(items) => Value::List(items.into_iter().map(Self::from_json).collect()),
            J::Object(map) => Value::Map(
                map.into_iter()
                    .map(|(key, value)| Entry { key, pos: Pos::default(), node: Self::from_json(value) })
                    .collect(),
            ),
        };
        Self::new(value, Pos::default())
    }

    /// The same without places, for programs that read documents.
    pub fn to_json(&self) -> serde_json::Value {
        use serde_json::Value as J;
        match &self.value {
            Value::Null => J::Null,
            Value::Bool(b) => J::Bool(*b),
            Value::Int(n) => J::from(*n),
            Value::Float(f) => J::from(*f),
            Value::Str(s) => J::String(s.clone()),
            Value::List(items) => J::Array(items.iter().map(Self::to_json).collect()),
            Value::Map(map) => J::Object(map.iter().map(|e| (e.key.clone(), e.node.to_json())).collect()),
        }
    }
}

impl Map {
    /// The entries in their order.
    pub fn iter(&self) -> std::slice::Iter<'_, Entry> {
        self.entries.iter()
    }

    /// The entries in their order.
    pub fn as_slice(&self) -> &[Entry] {
        &self.entries
    }

    /// The entries in their order.
    pub fn iter_mut(&mut self) -> std::slice::IterMut<'_, Entry> {
        self.entries.iter_mut()
    }

    /// How many entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The entry of a key.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().find(|e| e.key == key)
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|e| &e.node)
    }

    /// The value of a key.
    pub fn get_mut(&mut self, key: &str) -> Option<&mut Node> {
        self.entries.iter_mut().find(|e| e.key == key).map(|e| &mut e.node)
    }

    /// Sets a key, in its old place if it was there.
    pub fn set(&mut self, key: &str, pos: Pos, node: Node) {
        match self.entries.iter_mut().find(|e| e.key == key) {
            Some(entry) => entry.node = node,
            None => self.entries.push(Entry { key: key.to_owned(), pos, node }),
        }
    }

    /// Appends an entry whose key is known to be new.
    pub fn push(&mut self, entry: Entry) {
        self.entries.push(entry);
    }

    /// Takes a key away.
    pub fn remove(&mut self, key: &str) -> Option<Entry> {
        let at = self.entries.iter().position(|e| e.key == key)?;
        Some(self.entries.remove(at))
    }

    /// Takes a key away, and says where it stood.
    pub fn remove_keeping_place(&mut self, key: &str) -> Option<(usize, Entry)> {
        let at = self.entries.iter().position(|e| e.key == key)?;
        Some((at, self.entries.remove(at)))
    }

    /// Puts an entry in a place.
    pub fn insert_at(&mut self, at: usize, entry: Entry) {
        self.entries.insert(at, entry);
    }

    /// Keeps the entries that `keep` likes.
    pub fn retain(&mut self, keep: impl FnMut(&Entry) -> bool) {
        self.entries.retain(keep);
    }

    /// Orders the entries.
    pub fn sort_by(&mut self, order: impl FnMut(&Entry, &Entry) -> std::cmp::Ordering) {
        self.entries.sort_by(order);
    }
}

impl IntoIterator for Map {
    type Item = Entry;
    type IntoIter = std::vec::IntoIter<Entry>;

    fn into_iter(self) -> Self::IntoIter {
        self.entries.into_iter()
    }
}

impl FromIterator<Entry> for Map {
    fn from_iter<T: IntoIterator<Item = Entry>>(iter: T) -> Self {
        Self { entries: iter.into_iter().collect() }
    }
}

/// The files that were read, for messages that quote them.
#[derive(Clone, Debug, Default)]
pub struct Files {
    files: Vec<(PathBuf, String)>,
}

impl Files {
    /// Adds a file; its number.
    pub fn add(&mut self, path: &Path, text: String) -> u16 {
        self.files.push((path.to_owned(), text));
        u16::try_from(self.files.len() - 1).unwrap_or(u16::MAX)
    }

    /// The path of a file.
    pub fn path(&self, file: u16) -> Option<&Path> {
        self.files.get(usize::from(file)).map(|f| f.0.as_path())
    }

    /// A line of a file.
    pub fn line(&self, pos: Pos) -> Option<&str> {
        let number = usize::try_from(pos.line.checked_sub(1)?).ok()?;
        self.files.get(usize::from(pos.file))?.1.lines().nth(number)
    }

    /// The place of `part`, looked for from `pos` on for a few lines; `pos` if it is not there.
    pub fn find(&self, pos: Pos, part: &str) -> Pos {
        for ahead in 0..64 {
            let at = Pos { line: pos.line + ahead, ..pos };
            let Some(line) = self.line(at) else { break };
            let skip = if ahead == 0 { pos.column.saturating_sub(1) as usize } else { 0 };
            let start = line.char_indices().nth(skip).map_or(line.len(), |(i, _)| i);
            if let Some(found) = line[start..].find(part) {
                let column = line[..start + found].chars().count() + 1;
                return Pos { column: u32::try_from(column).unwrap_or(u32::MAX), ..at };
            }
        }
        pos
    }
}
