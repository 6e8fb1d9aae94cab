//! The functions that Docker's command line adds to templates.

use crate::Value;
use crate::format::sprint;
use crate::function::{Function, Functions, Param, Signature};
use crate::json::to_json;

/// `json`, `join`, `split`, `title`, `lower`, `upper`, `pad`, `truncate`, as `docker … --format` has them.
#[must_use]
pub fn docker_functions() -> Functions {
    use Param::{Any, Int, Str};
    let text = |f: fn(&str) -> String| {
        Function::new(Signature::fixed(&[Str]), move |a| Ok(f(a[0].as_str().unwrap_or_default()).into()))
    };
    let mut set = Functions::new();
    let mut add = |name: &str, f: Function| {
        set.insert(name.to_owned(), f);
    };
    add("json", Function::new(Signature::fixed(&[Any]), |a| Ok(to_json(&a[0]).into())));
    add("join", Function::new(Signature::fixed(&[Any, Str]), |a| join(&a[0], a[1].as_str().unwrap_or(""))));
    add("split", Function::new(Signature::fixed(&[Str, Str]), |a| Ok(split(a))));
    add("title", text(title));
    add("lower", text(str::to_lowercase));
    add("upper", text(str::to_uppercase));
    add("pad", Function::new(Signature::fixed(&[Str, Int, Int]), pad));
    add("truncate", Function::new(Signature::fixed(&[Str, Int]), truncate));
    set
}

fn join(elems: &Value, separator: &str) -> Result<Value, String> {
    let show = |v: &Value| sprint(std::slice::from_ref(v));
    let parts: Vec<String> = match elems {
        Value::Nil => Vec::new(),
        Value::List(l) => l.items.iter().map(show).collect(),
        Value::Map(m) => m.entries.values().map(show).collect(),
        other => return Err(format!("expected slice, got {}", other.type_name())),
    };
    Ok(parts.join(separator).into())
}

fn split(args: &[Value]) -> Value {
    let (text, separator) = (args[0].as_str().unwrap_or_default(), args[1].as_str().unwrap_or_default());
    if separator.is_empty() {
        return Value::strings(text.chars().map(String::from));
    }
    Value::strings(text.split(separator))
}

/// Every letter that begins a word becomes upper case; a word goes on over letters, digits, `_` and `'`… as
/// Go's `strings.Title` has it: separators are space, and in ASCII all but letters, digits and `_`.
fn title(text: &str) -> String {
    let mut previous = ' ';
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        let separated = if previous.is_ascii() {
            !previous.is_ascii_alphanumeric() && previous != '_'
        } else {
            !previous.is_alphanumeric() && previous.is_whitespace()
        };
        if separated {
            out.extend(c.to_uppercase());
        } else {
            out.push(c);
        }
        previous = c;
    }
    out
}

/// Spaces around a text that is not empty.
fn pad(args: &[Value]) -> Result<Value, String> {
    let text = args[0].as_str().unwrap_or_default();
    if text.is_empty() {
        return Ok("".into());
    }
    let spaces = |v: &Value| {
        let count = usize::try_from(v.as_int().unwrap_or(0)).map_err(|_| "strings: negative Repeat count")?;
        if count > 1_000_000 {
            return Err("strings: Repeat output length overflow".to_owned());
        }
        Ok(" ".repeat(count))
    };
    Ok(format!("{}{text}{}", spaces(&args[1])?, spaces(&args[2])?).into())
}

/// The first bytes of a text; never less than whole characters.
fn truncate(args: &[Value]) -> Result<Value, String> {
    let text = args[0].as_str().unwrap_or_default();
    let length = args[1].as_int().unwrap_or(0);
    let Ok(length) = usize::try_from(length) else {
        return Err(format!("slice bounds out of range [:{length}]"));
    };
    let mut end = length.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    Ok(text[..end].into())
}
