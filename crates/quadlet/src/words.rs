//! Words of a value as systemd reads and writes them (systemd.syntax(7), "Quoting" and "C-style escapes").

use std::fmt::Write as _;

/// Splits `text` at white space; quotes group and are removed, backslashes stand for themselves. This is how lists of
/// units are read.
///
/// # Errors
/// A quote that does not end.
pub fn list(text: &str) -> Result<Vec<String>, String> {
    split(text, false)
}

/// Splits `text` at white space; quotes group and are removed, C escapes are resolved. This is how command lines are read:
/// a quote may be left open.
///
/// # Errors
/// An escape that systemd does not know.
pub fn arguments(text: &str) -> Result<Vec<String>, String> {
    split(text, true)
}

fn split(text: &str, command: bool) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut rest = text.trim_start_matches(is_blank);
    while !rest.is_empty() {
        let (word, after) = first(rest, command)?;
        words.push(word);
        rest = after.trim_start_matches(is_blank);
    }
    Ok(words)
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r')
}

/// The first word of `text`, which begins with one, and what follows it.
fn first(text: &str, command: bool) -> Result<(String, &str), String> {
    let mut word = Vec::new();
    let mut quote = None;
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        at += c.len_utf8();
        match (c, quote) {
            ('\\', _) if command => {
                if at == text.len() {
                    break;
                }
                at += escape(&text[at..], &mut word)?;
            }
            (c, Some(open)) if c == open => quote = None,
            ('\'' | '"', None) => quote = Some(c),
            (c, None) if is_blank(c) => {
                at -= c.len_utf8();
                break;
            }
            (c, _) => word.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    if quote.is_some() && !command {
        return Err(format!("unbalanced quotes in {text:?}"));
    }
    let word = String::from_utf8(word).map_err(|_| format!("escapes in {text:?} are not UTF-8"))?;
    Ok((word, &text[at..]))
}

/// Resolves the escape that begins `text` (behind its backslash); how many bytes it takes.
fn escape(text: &str, out: &mut Vec<u8>) -> Result<usize, String> {
    let unknown = || {
        let shown: String = text.chars().take(1).collect();
        format!("unsupported escape char: \\{shown}")
    };
    let digits = |from: usize, count: usize, radix: u32| {
        let digits = text.get(from..from + count).filter(|d| d.bytes().all(|b| b.is_ascii_alphanumeric()));
        digits.and_then(|d| u32::from_str_radix(d, radix).ok()).filter(|n| *n != 0).ok_or_else(unknown)
    };
    let first = text.chars().next().ok_or_else(unknown)?;
    let byte = match first {
        'a' => 7,
        'b' => 8,
        'f' => 12,
        'n' => b'\n',
        'r' => b'\r',
        't' => b'\t',
        'v' => 11,
        's' => b' ',
        '\\' | '"' | '\'' => first as u8,
        'x' => {
            out.push(u8::try_from(digits(1, 2, 16)?).map_err(|_| unknown())?);
            return Ok(3);
        }
        '0'..='7' => {
            out.push(u8::try_from(digits(0, 3, 8)?).map_err(|_| unknown())?);
            return Ok(3);
        }
        'u' | 'U' => {
            let count = if first == 'u' { 4 } else { 8 };
            let c = char::from_u32(digits(1, count, 16)?).ok_or_else(unknown)?;
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            return Ok(1 + count);
        }
        _ => return Err(unknown()),
    };
    out.push(byte);
    Ok(1)
}

/// A command line of which systemd makes `words` again.
#[must_use]
pub fn join(words: &[String]) -> String {
    words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
}

/// One word, in quotes where it needs them.
#[must_use]
pub fn quoted(word: &str) -> String {
    let special = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '"' | '\'' | '\\');
    if !word.is_empty() && word != ";" && !word.chars().any(special) {
        return word.to_owned();
    }
    let mut out = String::with_capacity(word.len() + 8);
    out.push('"');
    for c in word.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_ascii_control() => {
                let _ = write!(out, "\\x{:02x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A path as one word of a list of paths: blanks are escaped as well.
#[must_use]
pub fn quoted_path(path: &str) -> String {
    quoted(path).replace(' ', "\\x20")
}

/// The fields of one line of comma-separated values, as `--mount` has them.
///
/// # Errors
/// Quotes that do not fit.
pub fn fields(text: &str) -> Result<Vec<String>, String> {
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let Some(inside) = rest.strip_prefix('"') else {
            let (field, after) = rest.split_once(',').map_or((rest, None), |(f, a)| (f, Some(a)));
            if field.contains('"') {
                return Err(format!("a quote within a field of {text:?}"));
            }
            fields.push(field.to_owned());
            let Some(after) = after else { return Ok(fields) };
            rest = after;
            continue;
        };
        let mut field = String::new();
        let mut left = inside;
        loop {
            let (before, after) =
                left.split_once('"').ok_or_else(|| format!("a quote in {text:?} does not end"))?;
            field.push_str(before);
            left = after;
            let Some(after) = left.strip_prefix('"') else { break };
            field.push('"');
            left = after;
        }
        fields.push(field);
        match left.strip_prefix(',') {
            Some(after) => rest = after,
            None if left.is_empty() => return Ok(fields),
            None => return Err(format!("text after a quoted field of {text:?}")),
        }
    }
}

/// One line of comma-separated values.
#[must_use]
pub fn join_fields(fields: &[String]) -> String {
    let field = |field: &String| {
        if field.contains(['"', ',', '\n', '\r']) || field.starts_with(char::is_whitespace) {
            format!("\"{}\"", field.replace('"', "\"\""))
        } else {
            field.clone()
        }
    };
    fields.iter().map(field).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_lines_are_read_as_systemd_does() {
        let read = |text: &str| arguments(text).unwrap();
        assert_eq!(
            read(r#"/bin/x "an arg" 'a"b' a;b\nc "\x41\u00e9\101" """#),
            ["/bin/x", "an arg", "a\"b", "a;b\nc", "AéA", ""]
        );
        assert_eq!(read(r#"sh -c "open"#), ["sh", "-c", "open"]);
        assert_eq!(read("  a\\\\b  "), ["a\\b"]);
        assert_eq!(read("a\\"), ["a"]);
        for wrong in [r"\q", r"\x0", r"\x00", r"\9", r"\777", r"\ud800"] {
            assert!(arguments(wrong).unwrap_err().contains("unsupported escape char"), "{wrong}");
        }
        assert!(arguments(r"\xff").is_err());
    }

    #[test]
    fn lists_keep_backslashes_and_want_their_quotes_closed() {
        assert_eq!(list(r#"a.service "b c" d\x2d.mount"#).unwrap(), ["a.service", "b c", r"d\x2d.mount"]);
        assert!(list("'open").is_err());
    }

    #[test]
    fn what_is_joined_is_read_again() {
        for word in ["plain", "", ";", "two words", "q\"'\\", "tab\tnew\n", "é", "\u{7}", "%i $X"] {
            let words = vec!["/x".to_owned(), word.to_owned()];
            assert_eq!(arguments(&join(&words)).unwrap(), words, "{word:?}");
        }
        assert_eq!(quoted_path("/a b"), "\"/a\\x20b\"");
    }

    #[test]
    fn fields_of_mounts() {
        assert_eq!(fields(r#"type=bind,"dst=/a,1",x"#).unwrap(), ["type=bind", "dst=/a,1", "x"]);
        assert_eq!(fields(r#""a""b""#).unwrap(), ["a\"b"]);
        assert_eq!(join_fields(&["a,b".to_owned(), "c\"d".to_owned(), "e".to_owned()]), r#""a,b","c""d",e"#);
        for wrong in [r#""a"#, r#""a"b"#, r#"a"b"#] {
            assert!(fields(wrong).is_err(), "{wrong}");
        }
    }
}
