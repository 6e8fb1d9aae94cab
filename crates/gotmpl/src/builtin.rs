//! The functions that every template has. `and`, `or` and `call` need the evaluator and live there.

use crate::exec::Dyn;
use crate::format::{sprint, sprintf, sprintln};
use crate::function::{Param, Signature};
use crate::{Elem, Value};

/// The signature of the built-in function `name`.
pub(crate) fn signature(name: &str) -> Option<Signature> {
    use Param::{Any, Str, Value};
    Some(match name {
        "and" | "or" | "call" | "index" | "slice" | "eq" => Signature::variadic(&[Value], Value),
        "len" | "not" => Signature::fixed(&[Value]),
        "ne" | "lt" | "le" | "gt" | "ge" => Signature::fixed(&[Value, Value]),
        "print" | "println" | "html" | "js" | "urlquery" => Signature::variadic(&[], Any),
        "printf" => Signature::variadic(&[Str], Any),
        _ => return None,
    })
}

/// Runs the built-in function `name`; the arguments fit its signature.
pub(crate) fn run(name: &str, args: &[Dyn]) -> Result<Dyn, String> {
    let values = || args.iter().map(Dyn::printable).collect::<Vec<_>>();
    let operands = || args.iter().map(Dyn::value).collect::<Vec<_>>();
    let text = |s: String| Ok(Dyn::Val(Value::str(s)));
    let truth = |b: Result<bool, String>| b.map(|b| Dyn::Val(Value::Bool(b)));
    match name {
        "print" => text(sprint(&operands())),
        "println" => text(sprintln(&operands())),
        "printf" => {
            let operands = operands();
            text(sprintf(operands[0].as_str().unwrap_or_default(), &operands[1..]))
        }
        "html" => text(escape_html(&sprint(&values()))),
        "js" => text(escape_js(&sprint(&values()))),
        "urlquery" => text(escape_query(&sprint(&values()))),
        "len" => length(&args[0]),
        "not" => truth(Ok(!args[0].value().truth())),
        "index" => index(args),
        "slice" => slice(args),
        "eq" => truth(eq(args)),
        "ne" => truth(eq(args).map(|b| !b)),
        "lt" => truth(lt(&args[0], &args[1])),
        "le" => truth(le(args)),
        "gt" => truth(le(args).map(|b| !b)),
        "ge" => truth(lt(&args[0], &args[1]).map(|b| !b)),
        _ => Err(format!("{name} is not a built-in function")),
    }
}

fn le(args: &[Dyn]) -> Result<bool, String> {
    Ok(lt(&args[0], &args[1])? || eq(args)?)
}

fn length(item: &Dyn) -> Result<Dyn, String> {
    let n = match item {
        Dyn::Invalid => return Err("reflect: call of reflect.Value.Type on zero Value".into()),
        Dyn::Val(v) | Dyn::Iface(v) => match v {
            Value::Nil | Value::NilPointer(_) => return Err("len of nil pointer".into()),
            Value::Str(s) => s.len(),
            Value::List(l) => l.items.len(),
            Value::Map(m) => m.entries.len(),
            other => return Err(format!("len of type {}", other.type_name().trim_start_matches('*'))),
        },
    };
    Ok(Dyn::Val(int(n)))
}

fn int(n: usize) -> Value {
    Value::Int(i64::try_from(n).unwrap_or(i64::MAX))
}

fn index_arg(index: &Value, cap: usize) -> Result<usize, String> {
    let x = match index {
        Value::Int(n) => *n,
        Value::Byte(n) => i64::from(*n),
        Value::Uint(n) => *n as i64,
        Value::Nil => return Err("cannot index slice/array with nil".into()),
        other => return Err(format!("cannot index slice/array with type {}", other.type_name())),
    };
    usize::try_from(x).ok().filter(|n| *n <= cap).ok_or_else(|| format!("index out of range: {x}"))
}

fn index(args: &[Dyn]) -> Result<Dyn, String> {
    let mut item = args[0].clone();
    if matches!(item.value(), Value::Nil) {
        return Err("index of untyped nil".into());
    }
    for arg in &args[1..] {
        let at = arg.value();
        item = match item.value() {
            Value::Nil | Value::NilPointer(_) => return Err("index of nil pointer".into()),
            Value::Str(s) => {
                let i = index_arg(&at, s.len())?;
                let byte = s.as_bytes().get(i).ok_or("reflect: string index out of range")?;
                Dyn::Val(Value::Byte(*byte))
            }
            Value::List(l) => {
                let i = index_arg(&at, l.items.len())?;
                let value = l.items.get(i).ok_or("reflect: slice index out of range")?;
                Dyn::element(value.clone(), l.elem)
            }
            Value::Map(m) => {
                let key = map_key(&at)?;
                let value = m.entries.get(key).cloned().unwrap_or_else(|| zero(m.elem));
                Dyn::element(value, m.elem)
            }
            other => {
                return Err(format!(
                    "can't index item of type {}",
                    other.type_name().trim_start_matches('*')
                ));
            }
        };
    }
    Ok(item)
}

fn map_key(key: &Value) -> Result<&str, String> {
    match key {
        Value::Str(s) => Ok(s),
        Value::Nil => Err("value is nil; should be of type string".into()),
        other => Err(format!("value has type {}; should be string", other.type_name())),
    }
}

/// The zero value of an element type.
pub(crate) fn zero(elem: Elem) -> Value {
    match elem {
        Elem::Any => Value::Nil,
        Elem::Str => Value::str(""),
    }
}

fn slice(args: &[Dyn]) -> Result<Dyn, String> {
    let item = args[0].value();
    let indexes = &args[1..];
    let len = match &item {
        Value::Nil => return Err("slice of untyped nil".into()),
        Value::NilPointer(_) => return Err("slice of nil pointer".into()),
        _ if indexes.len() > 3 => return Err(format!("too many slice indexes: {}", indexes.len())),
        Value::Str(_) if indexes.len() == 3 => return Err("cannot 3-index slice a string".into()),
        Value::Str(s) => s.len(),
        Value::List(l) => l.items.len(),
        other => {
            return Err(format!("can't slice item of type {}", other.type_name().trim_start_matches('*')));
        }
    };
    let mut bounds = [0, len, len];
    for (i, arg) in indexes.iter().enumerate() {
        bounds[i] = index_arg(&arg.value(), len)?;
    }
    for (low, high) in [(bounds[0], bounds[1]), (bounds[1], bounds[2])] {
        if low > high {
            return Err(format!("invalid slice index: {low} > {high}"));
        }
    }
    Ok(Dyn::Val(match item {
        Value::Str(s) => {
            Value::str(String::from_utf8_lossy(&s.as_bytes()[bounds[0]..bounds[1]]).into_owned())
        }
        Value::List(l) => Value::List(std::sync::Arc::new(crate::List {
            items: l.items[bounds[0]..bounds[1]].to_vec(),
            elem: l.elem,
        })),
        other => other,
    }))
}

/// The kinds that compare with one another.
#[derive(PartialEq)]
enum Basic {
    Bool,
    Int,
    Uint,
    Float,
    Str,
}

fn basic(v: &Value) -> Option<Basic> {
    Some(match v {
        Value::Bool(_) => Basic::Bool,
        Value::Int(_) => Basic::Int,
        Value::Uint(_) | Value::Byte(_) => Basic::Uint,
        Value::Float(_) => Basic::Float,
        Value::Str(_) => Basic::Str,
        _ => return None,
    })
}

fn wide(v: &Value) -> i128 {
    match v {
        Value::Int(n) => i128::from(*n),
        Value::Uint(n) => i128::from(*n),
        Value::Byte(n) => i128::from(*n),
        _ => 0,
    }
}

fn both_integers(a: &Basic, b: &Basic) -> bool {
    matches!(a, Basic::Int | Basic::Uint) && matches!(b, Basic::Int | Basic::Uint)
}

fn eq(args: &[Dyn]) -> Result<bool, String> {
    let first = args[0].value();
    if args.len() < 2 {
        return Err("missing argument for comparison".into());
    }
    for other in &args[1..] {
        if equal(&first, &other.value())? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn equal(a: &Value, b: &Value) -> Result<bool, String> {
    let nil = |v: &Value| matches!(v, Value::Nil | Value::NilPointer(_));
    match (basic(a), basic(b)) {
        (Some(x), Some(y)) if both_integers(&x, &y) => Ok(wide(a) == wide(b)),
        (None, None) if nil(a) || nil(b) => Ok(nil(a) == nil(b)),
        (None, None) => uncommon_equal(a, b),
        (x, y) if x == y => Ok(match (a, b) {
            (Value::Bool(a), Value::Bool(b)) => a == b,
            (Value::Float(a), Value::Float(b)) => a == b,
            (Value::Str(a), Value::Str(b)) => a == b,
            _ => false,
        }),
        _ if matches!(a, Value::Nil) || matches!(b, Value::Nil) => Ok(false),
        _ => Err(format!("incompatible types for comparison: {} and {}", a.type_name(), b.type_name())),
    }
}

fn uncommon_equal(a: &Value, b: &Value) -> Result<bool, String> {
    let (ta, tb) = (a.type_name(), b.type_name());
    let show = |v: &Value| sprintf("%s", std::slice::from_ref(v));
    if std::mem::discriminant(a) != std::mem::discriminant(b) {
        return Err(format!(
            "non-comparable types {}: {ta}, {tb}: {}",
            show(a),
            sprint(std::slice::from_ref(b))
        ));
    }
    match (a, b) {
        (Value::Struct(x), Value::Struct(y)) if ta.starts_with('*') => Ok(std::sync::Arc::ptr_eq(x, y)),
        (Value::Struct(x), Value::Struct(y)) if comparable(b) => {
            Ok(ta == tb && x.fields.iter().zip(&y.fields).all(|(f, g)| equal(&f.1, &g.1).unwrap_or(false)))
        }
        _ => Err(format!("non-comparable type {}: {tb}", show(b))),
    }
}

/// Whether Go's `==` applies to values of this type.
fn comparable(v: &Value) -> bool {
    match v {
        Value::List(_) | Value::Map(_) | Value::Func(_) => false,
        Value::Struct(s) => s.type_name.starts_with('*') || s.fields.iter().all(|(_, f)| comparable(f)),
        _ => true,
    }
}

fn lt(a: &Dyn, b: &Dyn) -> Result<bool, String> {
    let (a, b) = (a.value(), b.value());
    let bad = || "invalid type for comparison".to_owned();
    let (x, y) = (basic(&a).ok_or_else(bad)?, basic(&b).ok_or_else(bad)?);
    if both_integers(&x, &y) {
        return Ok(wide(&a) < wide(&b));
    }
    if x != y {
        return Err(format!("incompatible types for comparison: {} and {}", a.type_name(), b.type_name()));
    }
    match (&a, &b) {
        (Value::Float(a), Value::Float(b)) => Ok(a < b),
        (Value::Str(a), Value::Str(b)) => Ok(a < b),
        _ => Err(bad()),
    }
}

fn escape_html(s: &str) -> String {
    let mut out = String::with_capacity(s.len());
    for c in s.chars() {
        match c {
            '\0' => out.push('\u{fffd}'),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            c => out.push(c),
        }
    }
    out
}

fn escape_js(s: &str) -> String {
    let mut out = String::with_capacity(s.len());
    for c in s.chars() {
        match c {
            '\\' => out.push_str(r"\\"),
            '\'' => out.push_str(r"\'"),
            '"' => out.push_str("\\\""),
            '<' | '>' | '&' | '=' => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c if c < ' ' || (!c.is_ascii() && !crate::quote::is_print(c)) => {
                out.push_str(&format!("\\u{:04X}", u32::from(c)));
            }
            c => out.push(c),
        }
    }
    out
}

fn escape_query(s: &str) -> String {
    let mut out = String::with_capacity(s.len());
    for b in s.bytes() {
        match b {
            b' ' => out.push('+'),
            b if b.is_ascii_alphanumeric() || b"-_.~".contains(&b) => out.push(b as char),
            b => out.push_str(&format!("%{b:02X}")),
        }
    }
    out
}
