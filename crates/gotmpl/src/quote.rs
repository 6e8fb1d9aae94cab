//! Go's quoting of strings and characters, and its reverse. No fmt flags here: see `format`.

use std::fmt::Write as _;

/// Whether Go's `unicode.IsPrint` holds: graphic, and of the spaces only U+0020.
pub(crate) fn is_print(c: char) -> bool {
    if c.is_ascii() {
        return (' '..='~').contains(&c);
    }
    // After another character Rust escapes exactly what does not print.
    let probe: String = ['a', c].into_iter().collect();
    probe.escape_debug().count() == 2 && !c.is_whitespace()
}

/// A text in double quotes as Go's `strconv.Quote` and `%q` write it.
#[must_use]
pub fn quote(s: &str) -> String {
    quote_with(s, '"', false)
}

/// `'c'` with Go's escapes.
pub(crate) fn quote_rune(c: char, ascii: bool) -> String {
    quote_with(c.encode_utf8(&mut [0; 4]), '\'', ascii)
}

/// Quotes `s` between `mark`s; with `ascii` everything beyond ASCII is escaped (Go's `%+q`).
pub(crate) fn quote_with(s: &str, mark: char, ascii: bool) -> String {
    let mut out = String::with_capacity(s.len() + 2);
    out.push(mark);
    for c in s.chars() {
        push_escaped(&mut out, c, mark, ascii);
    }
    out.push(mark);
    out
}

fn push_escaped(out: &mut String, c: char, mark: char, ascii: bool) {
    match c {
        c if c == mark || c == '\\' => out.extend(['\\', c]),
        '\x07' => out.push_str("\\a"),
        '\x08' => out.push_str("\\b"),
        '\x0c' => out.push_str("\\f"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\x0b' => out.push_str("\\v"),
        c if is_print(c) && (c.is_ascii() || !ascii) => out.push(c),
        c => {
            let n = u32::from(c);
            // Writing into a String cannot fail.
            let _ = match n {
                0..0x80 => write!(out, "\\x{n:02x}"),
                0x80..0x10000 => write!(out, "\\u{n:04x}"),
                _ => write!(out, "\\U{n:08x}"),
            };
        }
    }
}

/// Go's `%#U`: `U+0040 '@'`; the end of the text is -1.
pub(crate) fn quote_rune_name(c: Option<char>) -> String {
    match c {
        None => "U+FFFFFFFFFFFFFFFF".into(),
        Some(c) if is_print(c) => format!("U+{:04X} '{c}'", u32::from(c)),
        Some(c) => format!("U+{:04X}", u32::from(c)),
    }
}

/// The value of a quoted Go literal (`"…"`, `` `…` ``); `None` if it is malformed.
/// Bytes that are not UTF-8 become U+FFFD.
pub(crate) fn unquote(s: &str) -> Option<String> {
    if let Some(raw) = s.strip_prefix('`') {
        return Some(raw.strip_suffix('`')?.replace('\r', ""));
    }
    let mut rest = s.strip_prefix('"')?.strip_suffix('"')?;
    let mut out = Vec::with_capacity(rest.len());
    while !rest.is_empty() {
        let (unit, tail) = unquote_unit(rest, '"')?;
        match unit {
            Unit::Byte(b) => out.push(b),
            Unit::Char(c) => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
        rest = tail;
    }
    Some(String::from_utf8(out).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned()))
}

/// The number of a character literal (`'a'`); `Err` carries Go's message.
pub(crate) fn unquote_char(s: &str) -> Result<u32, String> {
    let invalid = || "invalid syntax".to_owned();
    let body = s.strip_prefix('\'').ok_or_else(invalid)?;
    let (unit, tail) = unquote_unit(body, '\'').ok_or_else(invalid)?;
    if tail != "'" {
        return Err(format!("malformed character constant: {s}"));
    }
    Ok(match unit {
        Unit::Byte(b) => u32::from(b),
        Unit::Char(c) => u32::from(c),
    })
}

enum Unit {
    Byte(u8),
    Char(char),
}

fn unquote_unit(s: &str, mark: char) -> Option<(Unit, &str)> {
    let mut chars = s.chars();
    let c = chars.next()?;
    if c == mark {
        return None;
    }
    if c != '\\' {
        return Some((Unit::Char(c), chars.as_str()));
    }
    let e = chars.next()?;
    let rest = chars.as_str();
    let plain = match e {
        'a' => '\x07',
        'b' => '\x08',
        'f' => '\x0c',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\x0b',
        '\\' => '\\',
        '\'' | '"' if e == mark => e,
        'x' => return digits(rest, 2, 16).map(|(n, r)| (byte(n), r)),
        'u' => return digits(rest, 4, 16).and_then(|(n, r)| Some((Unit::Char(char::from_u32(n)?), r))),
        'U' => return digits(rest, 8, 16).and_then(|(n, r)| Some((Unit::Char(char::from_u32(n)?), r))),
        '0'..='7' => {
            let (n, r) = digits(&s[1..], 3, 8)?;
            return (n <= 255).then(|| (byte(n), r));
        }
        _ => return None,
    };
    Some((Unit::Char(plain), rest))
}

fn byte(n: u32) -> Unit {
    Unit::Byte((n & 0xff) as u8)
}

fn digits(s: &str, len: usize, radix: u32) -> Option<(u32, &str)> {
    let (head, tail) = s.split_at_checked(len)?;
    if !head.chars().all(|c| c.is_digit(radix)) {
        return None;
    }
    Some((u32::from_str_radix(head, radix).ok()?, tail))
}
