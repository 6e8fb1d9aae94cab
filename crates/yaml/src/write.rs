//! Documents -> YAML and JSON, byte for byte as Go's libraries write them, because others compare what `config` prints
//! and hash what it is made of.

use super::{Map, Node, Value, go_float, scalar};

/// YAML with two columns a level, sequences indented under their keys.
pub fn yaml(node: &Node) -> String {
    yaml_with(node, 2)
}

/// YAML with two columns a level, sequences in the column of their keys, as Kubernetes' tools write it.
pub fn yaml_flat(node: &Node) -> String {
    yaml_with(node, 0)
}

/// `step`: how far sequences are indented under their keys.
fn yaml_with(node: &Node, step: usize) -> String {
    let mut out = String::new();
    match &node.value {
        Value::Map(map) if !map.is_empty() => yaml_map(map, 0, step, &mut out),
        Value::List(items) if !items.is_empty() => yaml_list(items, 0, step, &mut out),
        _ => {
            yaml_scalar(node, 0, &mut out);
            out.push('\n');
        }
    }
    out
}

fn indent(level: usize, out: &mut String) {
    out.extend(std::iter::repeat_n(' ', level));
}

fn yaml_map(map: &Map, level: usize, step: usize, out: &mut String) {
    for (n, entry) in map.iter().enumerate() {
        if n > 0 {
            indent(level, out);
        }
        out.push_str(&yaml_text(&entry.key, level));
        out.push(':');
        yaml_below(&entry.node, level, step, out);
    }
}

/// What stands behind `key:`.
fn yaml_below(node: &Node, level: usize, step: usize, out: &mut String) {
    match &node.value {
        Value::Map(map) if !map.is_empty() => {
            out.push('\n');
            indent(level + 2, out);
            yaml_map(map, level + 2, step, out);
        }
        Value::List(items) if !items.is_empty() => {
            out.push('\n');
            indent(level + step, out);
            yaml_list(items, level + step, step, out);
        }
        _ => {
            out.push(' ');
            yaml_scalar(node, level, out);
            out.push('\n');
        }
    }
}

fn yaml_list(items: &[Node], level: usize, step: usize, out: &mut String) {
    for (n, item) in items.iter().enumerate() {
        if n > 0 {
            indent(level, out);
        }
        out.push_str("- ");
        match &item.value {
            Value::Map(map) if !map.is_empty() => yaml_map(map, level + 2, step, out),
            Value::List(inner) if !inner.is_empty() => yaml_list(inner, level + 2, step, out),
            _ => {
                yaml_scalar(item, level, out);
                out.push('\n');
            }
        }
    }
}

fn yaml_scalar(node: &Node, level: usize, out: &mut String) {
    match &node.value {
        Value::Null => out.push_str("null"),
        Value::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
        Value::Int(n) => out.push_str(&n.to_string()),
        Value::Float(f) => out.push_str(&match go_float(*f).as_str() {
            "NaN" => ".nan".to_owned(),
            "+Inf" => ".inf".to_owned(),
            "-Inf" => "-.inf".to_owned(),
            text => text.to_owned(),
        }),
        Value::Str(text) => out.push_str(&yaml_text(text, level)),
        Value::List(_) => out.push_str("[]"),
        Value::Map(_) => out.push_str("{}"),
    }
}

/// A text: plain where it reads back as the same text, a block where it has lines, quoted otherwise.
fn yaml_text(text: &str, level: usize) -> String {
    if !matches!(scalar::plain(text), Value::Str(_)) || reads_as_something_else(text) {
        return double_quoted(text);
    }
    let special = text.chars().any(|c| (c.is_control() && c != '\n') || c == '\u{feff}');
    if text.contains('\n') {
        let trailing_space = text.lines().any(|line| line.ends_with(' '));
        if special || trailing_space || text.starts_with([' ', '\n']) {
            return double_quoted(text);
        }
        return literal(text, level);
    }
    if special {
        return double_quoted(text);
    }
    if plain_allowed(text) { text.to_owned() } else { format!("'{}'", text.replace('\'', "''")) }
}

/// YAML 1.1's booleans, numbers of base 60, dates, merge keys.
fn reads_as_something_else(text: &str) -> bool {
    let old = [
        "y", "Y", "yes", "Yes", "YES", "on", "On", "ON", "n", "N", "no", "No", "NO", "off", "Off", "OFF",
        "<<", "=",
    ];
    old.contains(&text) || base60(text) || date(text)
}

fn base60(text: &str) -> bool {
    let text = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (text, fraction) = text.split_once('.').unwrap_or((text, ""));
    let mut parts = text.split(':');
    let first = parts.next().unwrap_or_default();
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit() || b == b'_');
    let rest: Vec<&str> = parts.collect();
    first.starts_with(|c: char| c.is_ascii_digit())
        && digits(first)
        && digits(fraction)
        && !rest.is_empty()
        && rest.iter().all(|p| match p.as_bytes() {
            [a] => a.is_ascii_digit(),
            [a, b] => (b'0'..=b'5').contains(a) && b.is_ascii_digit(),
            _ => false,
        })
}

fn date(text: &str) -> bool {
    let bytes = text.as_bytes();
    let digits = bytes.iter().take_while(|b| b.is_ascii_digit()).count();
    if digits != 4 || bytes.get(4) != Some(&b'-') {
        return false;
    }
    let rest = &text[5..];
    let mut parts = rest.splitn(2, '-');
    let month = parts.next().unwrap_or_default();
    let day = parts.next().unwrap_or_default();
    let number = |s: &str| (1..=2).contains(&s.len()) && s.bytes().all(|b| b.is_ascii_digit());
    let day_only = day.split(['T', 't', ' ']).next().unwrap_or_default();
    number(month) && number(day_only) && (day_only == day || day[day_only.len() + 1..].contains(':'))
}

fn plain_allowed(text: &str) -> bool {
    if text.starts_with(' ') || text.ends_with(' ') || text.starts_with("---") || text.starts_with("...") {
        return false;
    }
    let chars: Vec<char> = text.chars().collect();
    for (i, &c) in chars.iter().enumerate() {
        let space_follows = chars.get(i + 1).is_none_or(|c| *c == ' ');
        let indicator = if i == 0 {
            "#,[]{}&*!|>'\"%@`".contains(c) || ("?:-".contains(c) && space_follows)
        } else {
            (c == ':' && space_follows) || (c == '#' && chars[i - 1] == ' ')
        };
        if indicator {
            return false;
        }
    }
    true
}

fn literal(text: &str, level: usize) -> String {
    let mut out = String::from("|");
    let body = text.trim_end_matches('\n');
    match text.len() - body.len() {
        0 => out.push('-'),
        1 => {}
        _ => out.push('+'),
    }
    for line in text.strip_suffix('\n').unwrap_or(text).split('\n') {
        out.push('\n');
        if !line.is_empty() {
            indent(level + 2, &mut out);
            out.push_str(line);
        }
    }
    out
}

fn double_quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            '\0' => out.push_str("\\0"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            '\u{1b}' => out.push_str("\\e"),
            '\u{feff}' => out.push_str("\\uFEFF"),
            c if c.is_control() => out.push_str(&format!("\\x{:02X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// JSON without any space, as Go marshals it: `<`, `>` and `&` escaped.
pub fn json(node: &Node) -> String {
    let mut out = String::new();
    write_json(node, None, &mut out);
    out
}

/// JSON with two columns a level.
pub fn json_pretty(node: &Node) -> String {
    let mut out = String::new();
    write_json(node, Some(0), &mut out);
    out
}

fn write_json(node: &Node, level: Option<usize>, out: &mut String) {
    match &node.value {
        Value::Null => out.push_str("null"),
        Value::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
        Value::Int(n) => out.push_str(&n.to_string()),
        Value::Float(f) => out.push_str(&go_float(*f)),
        Value::Str(text) => json_text(text, out),
        Value::List(items) if items.is_empty() => out.push_str("[]"),
        Value::List(items) => {
            let inner = open('[', level, out);
            for (n, item) in items.iter().enumerate() {
                separate(n, inner, out);
                write_json(item, inner, out);
            }
            close(']', level, out);
        }
        Value::Map(map) if map.is_empty() => out.push_str("{}"),
        Value::Map(map) => {
            let inner = open('{', level, out);
            for (n, entry) in map.iter().enumerate() {
                separate(n, inner, out);
                json_text(&entry.key, out);
                out.push_str(if inner.is_some() { ": " } else { ":" });
                write_json(&entry.node, inner, out);
            }
            close('}', level, out);
        }
    }
}

fn open(bracket: char, level: Option<usize>, out: &mut String) -> Option<usize> {
    out.push(bracket);
    level.map(|l| l + 2)
}

fn separate(n: usize, inner: Option<usize>, out: &mut String) {
    if n > 0 {
        out.push(',');
    }
    if let Some(level) = inner {
        out.push('\n');
        indent(level, out);
    }
}

fn close(bracket: char, level: Option<usize>, out: &mut String) {
    if let Some(level) = level {
        out.push('\n');
        indent(level, out);
    }
    out.push(bracket);
}

fn json_text(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c if u32::from(c) < 0x20 => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_quoted_where_they_would_read_as_something_else() {
        for (text, written) in [
            ("web", "web"),
            ("8080", "\"8080\""),
            ("true", "\"true\""),
            ("yes", "\"yes\""),
            ("", "\"\""),
            ("80:80", "80:80"),
            ("22:22", "\"22:22\""),
            ("2001-01-01", "\"2001-01-01\""),
            ("a: b", "'a: b'"),
            ("- x", "'- x'"),
            ("-x", "-x"),
            ("it's # x", "'it''s # x'"),
            ("*x", "'*x'"),
            ("tab\there", "\"tab\\there\""),
            ("3.7", "\"3.7\""),
            ("a\nb\n", "|\n  a\n  b"),
        ] {
            assert_eq!(yaml_text(text, 0), written, "{text:?}");
        }
    }
}
