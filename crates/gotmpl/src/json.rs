//! Values as JSON, byte for byte as Go's encoder writes them without HTML escaping.

use crate::Value;
use crate::float::format_float;

/// The JSON text of a value; functions are `null`.
#[must_use]
pub fn to_json(v: &Value) -> String {
    let mut out = String::new();
    write(v, &mut out);
    out
}

fn write(v: &Value, out: &mut String) {
    match v {
        Value::Nil | Value::NilPointer(_) | Value::Func(_) => out.push_str("null"),
        Value::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
        Value::Int(n) => out.push_str(&n.to_string()),
        Value::Uint(n) => out.push_str(&n.to_string()),
        Value::Byte(n) => out.push_str(&n.to_string()),
        Value::Float(f) => out.push_str(&float(*f)),
        Value::Str(s) => string(s, out),
        Value::List(l) => {
            out.push('[');
            for (i, item) in l.items.iter().enumerate() {
                separate(i, out);
                write(item, out);
            }
            out.push(']');
        }
        Value::Map(m) => object(m.entries.iter(), out),
        Value::Struct(s) => object(s.fields.iter().map(|(k, v)| (k, v)), out),
    }
}

fn separate(i: usize, out: &mut String) {
    if i > 0 {
        out.push(',');
    }
}

fn object<'a>(fields: impl Iterator<Item = (&'a String, &'a Value)>, out: &mut String) {
    out.push('{');
    for (i, (key, value)) in fields.enumerate() {
        separate(i, out);
        string(key, out);
        out.push(':');
        write(value, out);
    }
    out.push('}');
}

/// Go's rule: plain notation but for exponents below -6 and from 21 on.
fn float(f: f64) -> String {
    let size = f.abs();
    if !f.is_finite() {
        return "null".into();
    }
    if size != 0.0 && !(1e-6..1e21).contains(&size) {
        return format_float(f, 'e', None).replace("e-0", "e-");
    }
    format_float(f, 'f', None)
}

fn string(s: &str, out: &mut String) {
    out.push('"');
    for c in s.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            c if c < ' ' || matches!(c, '\u{2028}' | '\u{2029}') => {
                out.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}
