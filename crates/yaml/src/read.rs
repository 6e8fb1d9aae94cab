//! YAML text -> documents. Anchors, merge keys and the tags `!reset` and `!override` are resolved here; a bound on
//! what aliases may expand to keeps small files small.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Span, StrInput, Tag};

use super::{Entry, Map, Mark, Node, Pos, Value, scalar};
use crate::fault::{Fault, Outcome};

/// A document has at most so many nodes, aliases expanded.
const NODES: usize = 100_000;
/// Mappings and sequences are nested at most so deeply.
const DEPTH: usize = 128;

/// The documents of a text: one for each `---`, empty ones left out.
///
/// # Errors
/// The text is not YAML, a key occurs twice, an alias has no anchor, aliases expand too far.
pub fn read(text: &str, file: u16) -> Outcome<Vec<Node>> {
    read_with(text, file, Tags::Compose)
}

/// Which local tags (`!name`) a kind of files has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tags {
    /// Compose's `!reset` and `!override`.
    Compose,
    /// None.
    None,
}

/// The documents of a text with the tags of its kind of files.
///
/// # Errors
/// As of [`read`].
pub fn read_with(text: &str, file: u16, tags: Tags) -> Outcome<Vec<Node>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let parser = Parser::new_from_str(text);
    let mut reader = Reader { parser, file, tags, anchors: HashMap::new(), nodes: 0 };
    let mut documents = Vec::new();
    loop {
        match reader.next()? {
            (Event::StreamEnd, _) => return Ok(documents),
            (Event::DocumentStart(_), _) => {
                reader.anchors.clear();
                reader.nodes = 0;
                let event = reader.next()?;
                let node = reader.node(event, 0)?;
                if !node.is_null() {
                    documents.push(node);
                }
            }
            _ => {}
        }
    }
}

struct Reader<'a> {
    parser: Parser<'a, StrInput<'a>>,
    file: u16,
    tags: Tags,
    anchors: HashMap<usize, Node>,
    nodes: usize,
}

impl<'a> Reader<'a> {
    fn pos(&self, span: Span) -> Pos {
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Pos { file: self.file, line: number(span.start.line()), column: number(span.start.col() + 1) }
    }

    fn next(&mut self) -> Outcome<(Event<'a>, Span)> {
        match self.parser.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(e)) => {
                let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
                let pos = Pos {
                    file: self.file,
                    line: number(e.marker().line()),
                    column: number(e.marker().col() + 1),
                };
                Err(syntax(e.info(), pos))
            }
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn count(&mut self, pos: Pos, more: usize) -> Outcome<()> {
        self.nodes = self.nodes.saturating_add(more);
        if self.nodes > NODES {
            return Err(Fault::new(
                pos,
                format!("the document has more than {NODES} nodes when its aliases are expanded"),
            )
            .hint("split the file, or repeat fewer large anchors"));
        }
        Ok(())
    }

    fn node(&mut self, (event, span): (Event<'a>, Span), depth: usize) -> Outcome<Node> {
        let pos = self.pos(span);
        self.count(pos, 1)?;
        if depth > DEPTH {
            return Err(Fault::new(pos, format!("nested more than {DEPTH} deep")));
        }
        let (anchor, node) = match event {
            Event::Alias(id) => {
                let Some(node) = self.anchors.get(&id) else {
                    return Err(Fault::new(pos, "this alias is inside the node that it stands for")
                        .hint("an anchor can be used after the node that it names has ended"));
                };
                let node = node.clone();
                self.count(pos, size(&node))?;
                return Ok(node);
            }
            Event::Scalar(text, style, anchor, tag) => {
                (anchor, self.scalar(&text, style, tag.as_deref(), pos)?)
            }
            Event::SequenceStart(anchor, tag) => {
                let mark = self.mark(tag.as_deref(), pos)?;
                let items = self.sequence(depth)?;
                (anchor, Node { value: Value::List(items), pos, mark })
            }
            Event::MappingStart(anchor, tag) => {
                let mark = self.mark(tag.as_deref(), pos)?;
                let map = self.mapping(depth)?;
                (anchor, Node { value: Value::Map(map), pos, mark })
            }
            _ => (0, Node::new(Value::Null, pos)),
        };
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn scalar(&self, text: &str, style: ScalarStyle, tag: Option<&Tag>, pos: Pos) -> Outcome<Node> {
        let core = tag.filter(|t| t.is_yaml_core_schema()).map(|t| t.suffix.as_str());
        let value = match core {
            Some("str") => Value::Str(text.to_owned()),
            Some("null") => Value::Null,
            Some("float") => match scalar::plain(text) {
                Value::Int(n) => Value::Float(n as f64),
                other => other,
            },
            Some("int" | "bool") => scalar::plain(text),
            _ if style == ScalarStyle::Plain => scalar::plain(text),
            _ => Value::Str(text.to_owned()),
        };
        let mark = if core.is_some() { Mark::None } else { self.mark(tag, pos)? };
        Ok(Node { value, pos, mark })
    }

    fn sequence(&mut self, depth: usize) -> Outcome<Vec<Node>> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd | Event::StreamEnd, _) => return Ok(items),
                event => {
                    let node = self.node(event, depth + 1)?;
                    if node.mark != Mark::Reset {
                        items.push(node);
                    }
                }
            }
        }
    }

    fn mapping(&mut self, depth: usize) -> Outcome<Map> {
        let mut map = Map::default();
        let mut merged: Vec<Node> = Vec::new();
        loop {
            let (key, pos, plain) = match self.next()? {
                (Event::MappingEnd | Event::StreamEnd, _) => break,
                (Event::Scalar(text, style, anchor, _), span) => {
                    let pos = self.pos(span);
                    if anchor != 0 {
                        self.anchors.insert(anchor, Node::text(text.clone(), pos));
                    }
                    (text.into_owned(), pos, style == ScalarStyle::Plain)
                }
                (Event::Alias(id), span) => {
                    let pos = self.pos(span);
                    match self.anchors.get(&id).and_then(Node::scalar) {
                        Some(text) => (text, pos, false),
                        None => return Err(Fault::new(pos, "a key must be a text")),
                    }
                }
                (_, span) => {
                    return Err(Fault::new(self.pos(span), "a key must be a text")
                        .hint("quote a text that begins with [ or {"));
                }
            };
            let event = self.next()?;
            let node = self.node(event, depth + 1)?;
            if plain && key == "<<" {
                merged.push(node);
                continue;
            }
            if let Some(first) = map.entry(&key) {
                return Err(Fault::new(
                    pos,
                    format!("the key {key:?} is here twice: it was given in line {} before", first.pos.line),
                )
                .hint("remove one of them, or join what they say"));
            }
            map.push(Entry { key, pos, node });
        }
        for node in merged {
            merge_key(&mut map, node)?;
        }
        Ok(map)
    }

    fn mark(&self, tag: Option<&Tag>, pos: Pos) -> Outcome<Mark> {
        let Some(tag) = tag else { return Ok(Mark::None) };
        if tag.handle != "!" {
            return Ok(Mark::None);
        }
        match (self.tags, tag.suffix.as_str()) {
            (_, "") => Ok(Mark::None),
            (Tags::Compose, "reset") => Ok(Mark::Reset),
            (Tags::Compose, "override") => Ok(Mark::Override),
            (Tags::Compose, other) => Err(Fault::new(pos, format!("unknown tag !{other}"))
                .hint("Compose files know the tags !reset and !override")),
            (Tags::None, other) => Err(Fault::new(pos, format!("unknown tag !{other}"))
                .hint("quote a text that begins with an exclamation mark")),
        }
    }
}

/// `<<`: the keys of a mapping, or of several, that the mapping does not have itself.
fn merge_key(map: &mut Map, node: Node) -> Outcome<()> {
    match node.value {
        Value::Map(other) => {
            for entry in other {
                if map.get(&entry.key).is_none() {
                    map.push(entry);
                }
            }
            Ok(())
        }
        Value::List(nodes) => nodes.into_iter().try_for_each(|node| match node.value {
            Value::Map(_) => merge_key(map, node),
            _ => Err(not_mergeable(&node)),
        }),
        _ => Err(not_mergeable(&node)),
    }
}

fn not_mergeable(node: &Node) -> Fault {
    Fault::new(node.pos, format!("<< takes a mapping or a list of mappings, not {}", node.kind()))
        .hint("write `<<: *name`, where &name is the anchor of a mapping")
}

fn size(node: &Node) -> usize {
    match &node.value {
        Value::List(items) => 1 + items.iter().map(size).sum::<usize>(),
        Value::Map(map) => 1 + map.iter().map(|e| size(&e.node)).sum::<usize>(),
        _ => 1,
    }
}

/// The parser's words, with what usually is behind them.
fn syntax(info: &str, pos: Pos) -> Fault {
    let fault = Fault::new(pos, format!("not valid YAML: {info}"));
    let lower = info.to_ascii_lowercase();
    if lower.contains("tab") {
        fault.hint("indent with spaces: YAML does not take tabs")
    } else if lower.contains("anchor") || lower.contains("alias") {
        fault.hint("an alias *name needs an anchor &name above it in the same document")
    } else if lower.contains("mapping values are not allowed") || lower.contains("simple key") {
        fault.hint("a text with \": \" in it must be quoted, and keys of one mapping stand in one column")
    } else if lower.contains("block") || lower.contains("indent") {
        fault.hint("keys of one mapping and items of one list stand in one column")
    } else if lower.contains("quot")
        || lower.contains("flow")
        || lower.contains("end of stream")
        || lower.contains("node content")
    {
        fault.hint("is a quote, a bracket or a brace not closed?")
    } else {
        fault
    }
}
