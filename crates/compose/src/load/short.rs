//! Short forms of attributes and what they stand for.

use super::canon::{Canon, join};
use crate::document::{Entry, Map, Mark, Node, Pos, Value};
use crate::fault::Fault;
use crate::schema::{Object, Same, Shape};

/// Shapes that have a short form, and all mismatches.
pub fn value(canon: &mut Canon, shape: &Shape, value: Value, pos: Pos, path: &str) -> Option<Value> {
    match (shape, value) {
        (Shape::MultiOptions, Value::Map(map)) => multi_options(canon, map, path),
        (Shape::Hosts, value @ (Value::Map(_) | Value::List(_))) => hosts(canon, value, path),
        (Shape::Contexts, Value::Map(map)) => {
            canon.node(&Shape::Options, Node::new(Value::Map(map), pos), path).map(|n| n.value)
        }
        (Shape::Contexts, Value::List(items)) => contexts(canon, items, path),
        (Shape::Ssh, Value::Map(map)) => Some(Value::Map(map)),
        (Shape::Ssh, Value::List(items)) => ssh(canon, items, path),
        (Shape::Named(object), Value::Map(map)) => Some(named(canon, object, map, path)),
        (Shape::Named(_), Value::List(items)) => Some(names(canon, items, path, |_| Value::Null)),
        (Shape::DependsOn(object), Value::Map(map)) => {
            let shape = Shape::Object(object);
            let map: Map = map
                .into_iter()
                .filter_map(|entry| {
                    let node = canon.node(&shape, entry.node, &join(path, &entry.key))?;
                    Some(Entry { node, ..entry })
                })
                .collect();
            Some(Value::Map(map))
        }
        (Shape::DependsOn(_), Value::List(items)) => Some(names(canon, items, path, |pos| {
            let started = Node::text("service_started", pos);
            one_or_two(pos, "condition", started, Some(("required", Node::new(Value::Bool(true), pos))))
        })),
        (Shape::Build(_), Value::Str(text)) => Some(one_or_two(pos, "context", Node::text(text, pos), None)),
        (Shape::Extends(_), Value::Str(text)) => {
            Some(one_or_two(pos, "service", Node::text(text, pos), None))
        }
        (Shape::FileRef(_), Value::Str(text)) => Some(one_or_two(pos, "source", Node::text(text, pos), None)),
        (Shape::Include(_), Value::Str(text)) => {
            let list = Node::new(Value::List(vec![Node::text(text, pos)]), pos);
            Some(one_or_two(pos, "path", list, None))
        }
        (Shape::EnvFiles(_), Value::Str(text)) => Some(Value::List(vec![env_file(text, pos)])),
        (Shape::EnvFiles(object), Value::List(items)) => env_files(canon, object, items, path),
        (Shape::Device(_), Value::Str(text)) => device(canon, &text, pos, path),
        (Shape::Volume(_), Value::Str(text)) => volume(canon, &text, pos, path),
        (Shape::Ports(object), Value::List(items)) => Some(Value::List(ports(canon, object, items, path))),
        (Shape::Ulimit(_), value @ (Value::Int(_) | Value::Str(_))) => {
            canon.node(&Shape::Int(-1, i64::MAX), Node::new(value, pos), path).map(|n| n.value)
        }
        (Shape::Gpus(_), Value::Str(text)) if text == "all" => {
            let all = one_or_two(pos, "count", Node::new(Value::Int(-1), pos), None);
            Some(Value::List(vec![Node::new(all, pos)]))
        }
        (Shape::Gpus(object), Value::List(items)) => {
            Some(Value::List(canon.items(&Shape::Object(object), items, path)))
        }
        (Shape::External, Value::Map(map)) => external(canon, map, path),
        (Shape::External, value) => canon.node(&Shape::Bool, Node::new(value, pos), path).map(|n| n.value),
        (
            Shape::Build(object)
            | Shape::Extends(object)
            | Shape::FileRef(object)
            | Shape::Include(object)
            | Shape::Device(object)
            | Shape::Volume(object)
            | Shape::Ulimit(object),
            Value::Map(map),
        ) => Some(Value::Map(canon.object(object, map, path))),
        (shape, value) => {
            mismatch(canon, shape, Node::new(value, pos), path);
            None
        }
    }
}

/// A value of a kind that the attribute does not take.
fn mismatch(canon: &mut Canon, shape: &Shape, node: Node, path: &str) {
    let must = match shape {
        Shape::Object(_)
        | Shape::ObjectOrNull(_)
        | Shape::Logging(_)
        | Shape::Map(_)
        | Shape::Options
        | Shape::MultiOptions => "must be a mapping",
        Shape::List(..) | Shape::Strings(_) | Shape::Scalars(_) | Shape::Ports(_) => "must be a list",
        Shape::OneOrMore(_) => "must be a text or a list of texts",
        Shape::Dict(_) | Shape::Hosts | Shape::Contexts => "must be a mapping or a list of key=value",
        Shape::Named(_) | Shape::DependsOn(_) => "must be a list of names or a mapping",
        Shape::EnvFiles(_) => "must be a path or a list of paths",
        Shape::Ssh => "must be a list of ids or a mapping",
        Shape::Ulimit(_) => "must be a number or have soft and hard",
        Shape::Gpus(_) => "must be all or a list of devices",
        _ => "must be a text or a mapping",
    };
    let list = matches!(shape, Shape::List(..) | Shape::Strings(_) | Shape::Scalars(_) | Shape::Ports(_));
    match &node.value {
        Value::Str(text) if list => {
            let hint = format!("write it as a list: [{text:?}]");
            canon.wrong_with(path, must, &node, &hint);
        }
        Value::Int(_) if list => {
            canon.wrong_with(path, must, &node, "write it as a list, each item behind a -")
        }
        Value::List(_) if must == "must be a mapping" => {
            canon.wrong_with(path, must, &node, "write name: value in each line, without the -");
        }
        Value::Map(_) if list => canon.wrong_with(path, must, &node, "write each item behind a -"),
        Value::Bool(_) | Value::Int(_) | Value::Float(_) => {
            let hint = format!("quote it: \"{}\"", node.scalar().unwrap_or_default());
            canon.wrong_with(path, must, &node, &hint);
        }
        _ => canon.wrong(path, must, &node),
    }
}

fn one_or_two(pos: Pos, key: &str, node: Node, second: Option<(&str, Node)>) -> Value {
    let mut map = Map::default();
    map.set(key, pos, node);
    if let Some((key, node)) = second {
        map.set(key, pos, node);
    }
    Value::Map(map)
}

fn named(canon: &mut Canon, object: &'static Object, map: Map, path: &str) -> Value {
    let shape = Shape::ObjectOrNull(object);
    let entries = map.into_iter().filter_map(|entry| {
        let node = canon.node(&shape, entry.node, &join(path, &entry.key))?;
        Some(Entry { node, ..entry })
    });
    Value::Map(entries.collect())
}

fn names(canon: &mut Canon, items: Vec<Node>, path: &str, default: impl Fn(Pos) -> Value) -> Value {
    let mut map = Map::default();
    for (n, item) in items.into_iter().enumerate() {
        match item.str() {
            Some(name) if map.get(name).is_some() => {
                canon.faults.push(
                    Fault::new(item.pos, format!("{path} has {name:?} twice")).hint("remove one of them"),
                );
            }
            Some(name) => map.set(name, item.pos, Node::new(default(item.pos), item.pos)),
            None => {
                let inner = format!("{path}[{n}]");
                let hint = "a list has names only; to say more about them write a mapping, without the -";
                canon.wrong_with(&inner, "must be a name", &item, hint);
            }
        }
    }
    Value::Map(map)
}

fn multi_options(canon: &mut Canon, map: Map, path: &str) -> Option<Value> {
    let mut out = Map::default();
    for entry in map {
        let inner = join(path, &entry.key);
        let pos = entry.node.pos;
        let items = match entry.node.value {
            Value::List(items) => items,
            value => vec![Node::new(value, pos)],
        };
        let mut texts = Vec::new();
        for item in items {
            match item.scalar() {
                Some(text) => texts.push(Node::text(text, item.pos)),
                None => canon.wrong(&inner, "must be texts, numbers or booleans", &item),
            }
        }
        out.push(Entry { key: entry.key, pos: entry.pos, node: Node::new(Value::List(texts), pos) });
    }
    Some(Value::Map(out))
}

/// Host -> list of addresses.
fn hosts(canon: &mut Canon, value: Value, path: &str) -> Option<Value> {
    let mut out = Map::default();
    let mut add = |canon: &mut Canon, host: &str, address: &str, pos: Pos| {
        if host.is_empty() || host.contains([':', '=']) {
            canon
                .faults
                .push(Fault::new(pos, format!("{path}: bad host name {host:?}")).hint("write HOST=ADDRESS"));
            return;
        }
        let address = address.strip_prefix('[').and_then(|a| a.strip_suffix(']')).unwrap_or(address);
        let node = Node::text(address, pos);
        match out.get_mut(host) {
            Some(Node { value: Value::List(list), .. }) => {
                if !list.iter().any(|n| n.value == node.value) {
                    list.push(node);
                }
            }
            _ => out.set(host, pos, Node::new(Value::List(vec![node]), pos)),
        }
    };
    match value {
        Value::Map(map) => {
            for entry in map {
                match entry.node.value {
                    Value::List(items) => {
                        for item in items {
                            match item.scalar() {
                                Some(address) => add(canon, &entry.key, &address, item.pos),
                                None => canon.wrong(&join(path, &entry.key), "must be addresses", &item),
                            }
                        }
                    }
                    _ => match entry.node.str() {
                        Some(address) => add(canon, &entry.key, address, entry.pos),
                        None => canon.wrong(&join(path, &entry.key), "must be an address", &entry.node),
                    },
                }
            }
        }
        Value::List(items) => {
            for (n, item) in items.into_iter().enumerate() {
                let split = item.str().and_then(|t| t.split_once('=').or_else(|| t.split_once(':')));
                match split {
                    Some((host, addresses)) => {
                        addresses.split(',').for_each(|a| add(canon, host, a, item.pos))
                    }
                    None if canon.raw => {}
                    None => {
                        let inner = format!("{path}[{n}]");
                        canon.wrong_with(&inner, "must be HOST=ADDRESS", &item, "the address is missing");
                    }
                }
            }
        }
        _ => {}
    }
    Some(Value::Map(out))
}

fn contexts(canon: &mut Canon, items: Vec<Node>, path: &str) -> Option<Value> {
    let mut out = Map::default();
    for (n, item) in items.into_iter().enumerate() {
        match item.str().and_then(|t| t.split_once('=')) {
            Some((name, source)) => out.set(name, item.pos, Node::text(source, item.pos)),
            None => canon.wrong(&format!("{path}[{n}]"), "must be NAME=CONTEXT", &item),
        }
    }
    Some(Value::Map(out))
}

fn ssh(canon: &mut Canon, items: Vec<Node>, path: &str) -> Option<Value> {
    let mut out = Map::default();
    for (n, item) in items.into_iter().enumerate() {
        let inner = format!("{path}[{n}]");
        match item.str().map(|t| t.split_once('=').map_or((t, None), |(id, p)| (id, Some(p)))) {
            Some((id, Some(source))) => out.set(id, item.pos, Node::text(source, item.pos)),
            Some(("default", None)) => out.set("default", item.pos, Node::new(Value::Null, item.pos)),
            Some(_) => {
                canon.wrong_with(&inner, "must be ID=PATH", &item, "only default may stand without a path")
            }
            None => canon.wrong(&inner, "must be a text", &item),
        }
    }
    Some(Value::Map(out))
}

fn env_file(path: String, pos: Pos) -> Node {
    Node::new(
        one_or_two(pos, "path", Node::text(path, pos), Some(("required", Node::new(Value::Bool(true), pos)))),
        pos,
    )
}

fn env_files(canon: &mut Canon, object: &'static Object, items: Vec<Node>, path: &str) -> Option<Value> {
    let mut out = Vec::new();
    for (n, item) in items.into_iter().enumerate() {
        if item.mark == Mark::None && item.str().is_some() {
            let pos = item.pos;
            if let Value::Str(text) = item.value {
                out.push(env_file(text, pos));
            }
            continue;
        }
        let pos = item.pos;
        if let Some(mut node) = canon.node(&Shape::Object(object), item, &format!("{path}[{n}]")) {
            if let Some(map) = node.map_mut()
                && map.get("required").is_none()
            {
                map.set("required", pos, Node::new(Value::Bool(true), pos));
            }
            out.push(node);
        }
    }
    Some(Value::List(super::merge::unique(out, Same::Attr("path"))))
}

fn device(canon: &mut Canon, text: &str, pos: Pos, path: &str) -> Option<Value> {
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, permissions) = match parts[..] {
        [source] => (source, source, "rwm"),
        [source, target] => (source, target, "rwm"),
        [source, target, permissions] => (source, target, permissions),
        _ => {
            canon.wrong_with(
                path,
                "must be SOURCE[:TARGET[:PERMISSIONS]]",
                &Node::text(text, pos),
                "use the long form: source, target, permissions",
            );
            return None;
        }
    };
    let target = if target.is_empty() { source } else { target };
    let mut map = Map::default();
    for (key, value) in [("source", source), ("target", target), ("permissions", permissions)] {
        map.set(key, pos, Node::text(value, pos));
    }
    Some(Value::Map(map))
}

fn external(canon: &mut Canon, map: Map, path: &str) -> Option<Value> {
    // The name moves up in `finish`, where the object around it is at hand.
    for entry in map.iter() {
        if entry.key != "name" && !entry.key.starts_with("x-") {
            canon.faults.push(
                Fault::new(entry.pos, format!("{path} has no attribute {:?}", entry.key))
                    .hint("write external: true, and name: beside it"),
            );
            return None;
        }
    }
    Some(Value::Map(map))
}

/// `[SOURCE:]TARGET[:OPTIONS]`
fn volume(canon: &mut Canon, text: &str, pos: Pos, path: &str) -> Option<Value> {
    let fail = |canon: &mut Canon, what: &str| {
        let hint = "write SOURCE:TARGET or SOURCE:TARGET:ro, or use the long form";
        canon.wrong_with(path, what, &Node::text(text, pos), hint);
        None
    };
    let parts = split_volume(text);
    if parts.iter().any(|p| p.is_empty()) {
        return fail(canon, "must have no empty part between colons");
    }
    let (source, target, options) = match &parts[..] {
        [target] => (None, target.as_str(), ""),
        [source, target] => (Some(source.as_str()), target.as_str(), ""),
        [source, target, options] => (Some(source.as_str()), target.as_str(), options.as_str()),
        _ => return fail(canon, "has too many colons"),
    };
    let bind = source.is_some_and(is_path);
    let mut map = Map::default();
    let word = |text: &str| Node::text(text, pos);
    map.set("type", pos, word(if bind { "bind" } else { "volume" }));
    if let Some(source) = source {
        map.set("source", pos, word(source));
    }
    map.set("target", pos, word(&clean(target)));
    let mut inner = Map::default();
    for option in options.split(',').filter(|o| !o.is_empty()) {
        match option {
            "ro" => map.set("read_only", pos, Node::new(Value::Bool(true), pos)),
            "nocopy" if !bind => inner.set("nocopy", pos, Node::new(Value::Bool(true), pos)),
            "z" | "Z" if bind => inner.set("selinux", pos, word(option)),
            "private" | "rprivate" | "shared" | "rshared" | "slave" | "rslave" if bind => {
                inner.set("propagation", pos, word(option));
            }
            // Docker knows more words (consistency on other systems); none of them means anything here.
            _ => {}
        }
    }
    if bind {
        inner.set("create_host_path", pos, Node::new(Value::Bool(true), pos));
    }
    map.set(if bind { "bind" } else { "volume" }, pos, Node::new(Value::Map(inner), pos));
    Some(Value::Map(map))
}

/// Splits at colons, but not those of `C:\` and inside `${…}`.
fn split_volume(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut depth = 0usize;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let part = parts.last().map(String::as_str).unwrap_or_default();
        let drive = part.len() == 1
            && part.starts_with(|c: char| c.is_ascii_alphabetic())
            && matches!(chars.peek(), Some('\\' | '/'));
        match c {
            '$' if chars.peek() == Some(&'{') => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if c == ':' && depth == 0 && !drive {
            parts.push(String::new());
        } else if let Some(part) = parts.last_mut() {
            part.push(c);
        }
    }
    parts
}

fn is_path(source: &str) -> bool {
    let bytes = source.as_bytes();
    source.starts_with(['.', '/', '~'])
        || source.starts_with("\\\\")
        || (bytes.len() > 1 && bytes[0].is_ascii_alphabetic() && bytes[1] == b':')
}

/// A path without `.`, `..` and double slashes, as text.
pub fn clean(path: &str) -> String {
    let absolute = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|p| *p != "..") => {
                parts.pop();
            }
            ".." if absolute => {}
            part => parts.push(part),
        }
    }
    match (absolute, parts.join("/")) {
        (true, rest) => format!("/{rest}"),
        (false, rest) if rest.is_empty() => ".".to_owned(),
        (false, rest) => rest,
    }
}

fn ports(canon: &mut Canon, object: &'static Object, items: Vec<Node>, path: &str) -> Vec<Node> {
    let mut out = Vec::new();
    for (n, item) in items.into_iter().enumerate() {
        let inner = format!("{path}[{n}]");
        let pos = item.pos;
        match item.value {
            Value::Map(_) => out.extend(canon.node(&Shape::Object(object), item, &inner)),
            Value::Str(ref text) if canon.raw && text.contains('$') => out.push(item),
            Value::Int(_) | Value::Float(_) | Value::Str(_) => {
                let text = item.scalar().unwrap_or_default();
                match port(&text) {
                    Ok(found) => out.extend(found.into_iter().map(|p| p.into_node(pos))),
                    Err((what, hint)) => canon.wrong_with(&inner, &what, &item, hint),
                }
            }
            _ => canon.wrong(&inner, "must be a port or a mapping", &item),
        }
    }
    super::merge::unique(out, Same::Port)
}

struct Port {
    host: String,
    target: u16,
    published: String,
    protocol: String,
}

impl Port {
    fn into_node(self, pos: Pos) -> Node {
        let mut map = Map::default();
        map.set("mode", pos, Node::text("ingress", pos));
        if !self.host.is_empty() {
            map.set("host_ip", pos, Node::text(self.host, pos));
        }
        map.set("target", pos, Node::new(Value::Int(i64::from(self.target)), pos));
        if !self.published.is_empty() {
            map.set("published", pos, Node::text(self.published, pos));
        }
        map.set("protocol", pos, Node::text(self.protocol, pos));
        Node::new(Value::Map(map), pos)
    }
}

/// `[[ADDRESS:][PUBLISHED]:]TARGET[/PROTOCOL]`, ranges allowed; what is wrong with it otherwise.
fn port(text: &str) -> Result<Vec<Port>, (String, &'static str)> {
    const FORM: &str =
        "write TARGET, PUBLISHED:TARGET or ADDRESS:PUBLISHED:TARGET, each with an optional /tcp or /udp";
    let wrong = |what: &str| (what.to_owned(), FORM);
    let (rest, protocol) = text.rsplit_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    if !["tcp", "udp", "sctp"].contains(&protocol.as_str()) {
        return Err(wrong("must have one of the protocols tcp, udp, sctp"));
    }
    let (before, target) = rest.rsplit_once(':').map_or((None, rest), |(b, t)| (Some(b), t));
    let (host, published) = match before {
        None => ("", ""),
        Some(before) if before.ends_with(']') => (before, ""),
        Some(before) => before.rsplit_once(':').unwrap_or(("", before)),
    };
    let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    if !host.is_empty() && host.parse::<std::net::IpAddr>().is_err() {
        return Err(wrong("must begin with an IP address or a port"));
    }
    let (first, last) =
        range(target).ok_or_else(|| wrong("must end in a port from 1 to 65535 or a range of them"))?;
    let span = last - first;
    let published = match published {
        "" => None,
        text => {
            Some(range(text).ok_or_else(|| wrong("must publish a port from 0 to 65535 or a range of them"))?)
        }
    };
    if let Some((from, to)) = published
        && to - from != span
    {
        if span != 0 {
            return Err(wrong("must have ranges of the same length on both sides"));
        }
        let published = format!("{from}-{to}");
        return Ok(vec![Port { host: host.to_owned(), target: first, published, protocol }]);
    }
    let mut found: Vec<Port> = (0..=span)
        .map(|n| Port {
            host: host.to_owned(),
            target: first + n,
            published: published.map(|(from, _)| (from + n).to_string()).unwrap_or_default(),
            protocol: protocol.clone(),
        })
        .collect();
    found.sort_by_key(|p| p.target.to_string());
    Ok(found)
}

fn range(text: &str) -> Option<(u16, u16)> {
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    let (from, to) = (from.parse().ok()?, to.parse().ok()?);
    (from <= to).then_some((from, to))
}

/// The words of a command, split as a shell does: quotes and backslashes, nothing else.
///
/// # Errors
/// A quote is not closed.
pub fn words(text: &str) -> Result<Vec<String>, &'static str> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' | '\r' | '\n' => words.extend(word.take()),
            '\\' => {
                let next = chars.next().ok_or("must not end in a backslash")?;
                word.get_or_insert_default().push(next);
            }
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next().ok_or("must close its quotes")? {
                        '\'' => break,
                        c => word.push(c),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next().ok_or("must close its quotes")? {
                        '"' => break,
                        '\\' => match chars.next().ok_or("must close its quotes")? {
                            c @ ('"' | '\\' | '$' | '`') => word.push(c),
                            '\n' => {}
                            c => {
                                word.push('\\');
                                word.push(c);
                            }
                        },
                        c => word.push(c),
                    }
                }
            }
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_split_as_a_shell_does() {
        let split = |text| words(text).expect("closed quotes");
        assert_eq!(split("sh -c 'echo \"a b\"'"), ["sh", "-c", "echo \"a b\""]);
        assert_eq!(split(r#"a\ b "c\"d" ''"#), ["a b", "c\"d", ""]);
        assert!(words("echo 'x").is_err());
        assert_eq!(split(""), Vec::<String>::new());
    }

    #[test]
    fn ports_with_ranges() {
        let list = |text| {
            port(text)
                .map(|ports| ports.into_iter().map(|p| (p.host, p.published, p.target)).collect::<Vec<_>>())
                .map_err(|e| e.0)
        };
        let one = |h: &str, p: &str, t| (h.to_owned(), p.to_owned(), t);
        assert_eq!(list("80"), Ok(vec![one("", "", 80)]));
        assert_eq!(list("127.0.0.1:8080:80"), Ok(vec![one("127.0.0.1", "8080", 80)]));
        assert_eq!(list("[::1]:8080:80"), Ok(vec![one("::1", "8080", 80)]));
        assert_eq!(list("127.0.0.1::80"), Ok(vec![one("127.0.0.1", "", 80)]));
        assert_eq!(list("3000-3001:4000-4001"), Ok(vec![one("", "3000", 4000), one("", "3001", 4001)]));
        assert_eq!(list("8000-8010:80"), Ok(vec![one("", "8000-8010", 80)]));
        assert!(list("1-2:1-3").is_err());
        assert!(list("a:80").is_err());
        assert!(list("80/icmp").is_err());
        assert!(list("99999").is_err());
    }

    #[test]
    fn volumes_are_split_at_the_right_colons() {
        assert_eq!(split_volume("./a:/b:ro"), ["./a", "/b", "ro"]);
        assert_eq!(split_volume("C:\\x:/b"), ["C:\\x", "/b"]);
        assert_eq!(split_volume("${A:-x}:/b"), ["${A:-x}", "/b"]);
        assert_eq!(clean("/a/../b//c/"), "/b/c");
    }
}
