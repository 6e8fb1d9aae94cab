//! Files of variables: `.env`, `--env-file`, `env_file`, `label_file`.

use super::interpolate::{Environment, substitute};

/// Reads a file of variables. Values may refer to what `lookup` knows and to earlier lines.
///
/// # Errors
/// The line and what is wrong with it.
pub fn parse(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<Environment, (u32, String)> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut out = Environment::new();
    let mut reader = Reader { text, at: 0 };
    loop {
        reader.skip_blank_and_comments();
        if reader.rest().is_empty() {
            return Ok(out);
        }
        let line = reader.line();
        let fail = |what: String| (line, what);
        let Some((name, has_value)) = reader.name().map_err(fail)? else { continue };
        if !has_value {
            if let Some(value) = lookup(&name) {
                out.insert(name, value);
            }
            continue;
        }
        let (raw, expand) = reader.value().map_err(fail)?;
        let value = if expand {
            let known = |key: &str| lookup(key).or_else(|| out.get(key).cloned());
            substitute(&raw, &known).map_err(|p| (line, p.message))?
        } else {
            raw
        };
        out.insert(name, value);
    }
}

/// A file of lines `NAME=value` that are taken as they are (`format: raw`).
///
/// # Errors
/// The line and what is wrong with it.
pub fn parse_raw(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<Environment, (u32, String)> {
    let mut out = Environment::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let number = u32::try_from(number + 1).unwrap_or(u32::MAX);
        match line.split_once('=') {
            Some((name, _)) if name.is_empty() || name.contains(char::is_whitespace) => {
                return Err((number, format!("{name:?} is not a variable name")));
            }
            Some((name, value)) => {
                out.insert(name.to_owned(), value.to_owned());
            }
            None => {
                if let Some(value) = lookup(line.trim_end()) {
                    out.insert(line.trim_end().to_owned(), value);
                }
            }
        }
    }
    Ok(out)
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn line(&self) -> u32 {
        let lines = self.text[..self.at].bytes().filter(|b| *b == b'\n').count() + 1;
        u32::try_from(lines).unwrap_or(u32::MAX)
    }

    fn skip_blank_and_comments(&mut self) {
        loop {
            let rest = self.rest();
            let blank = rest.len() - rest.trim_start().len();
            self.at += blank;
            if !self.rest().starts_with('#') {
                return;
            }
            self.at += self.rest().find('\n').unwrap_or(self.rest().len());
        }
    }

    /// The name, and whether a value follows; nothing for a line without either.
    fn name(&mut self) -> Result<Option<(String, bool)>, String> {
        if let Some(after) = self.rest().strip_prefix("export")
            && after.starts_with([' ', '\t'])
        {
            self.at += "export".len() + after.len() - after.trim_start_matches([' ', '\t']).len();
        }
        let rest = self.rest();
        let line = rest.split('\n').next().unwrap_or_default();
        let end = rest.find(['=', ':', '\n']).unwrap_or(rest.len());
        let name = rest[..end].trim_end();
        if let Some(bad) = name.chars().find(|c| !(c.is_alphanumeric() || "_.-[] \t".contains(*c))) {
            return Err(format!("unexpected character {bad:?} in variable name {:?}", line.trim_end()));
        }
        let has_value = rest[end..].starts_with(['=', ':']);
        self.at += (end + 1).min(rest.len());
        if name.contains([' ', '\t']) {
            return Err(format!("the variable name {name:?} contains a space"));
        }
        if has_value {
            let rest = self.rest();
            self.at += rest.len() - rest.trim_start_matches([' ', '\t', '\r', '\u{b}', '\u{c}']).len();
        }
        Ok((!name.is_empty() || has_value).then(|| (name.to_owned(), has_value)))
    }

    /// The value, and whether variables in it are filled in.
    fn value(&mut self) -> Result<(String, bool), String> {
        let rest = self.rest();
        let Some(quote @ ('"' | '\'')) = rest.chars().next() else {
            let end = rest.find('\n').unwrap_or(rest.len());
            self.at += end;
            let value = rest[..end].split(" #").next().unwrap_or_default();
            let value = if value.starts_with('#') && value.len() != end { "" } else { value };
            return Ok((value.trim_end().to_owned(), true));
        };
        let mut value = String::new();
        let mut escaped = false;
        for (at, c) in rest.char_indices().skip(1) {
            match (escaped, c) {
                (true, c) if c == quote => {
                    escaped = false;
                    value.push(c);
                }
                (true, c) => {
                    escaped = false;
                    value.push('\\');
                    value.push(c);
                }
                (false, '\\') => escaped = true,
                (false, c) if c == quote => {
                    self.at += at + 1;
                    return Ok(if quote == '"' { (escapes(&value), true) } else { (value, false) });
                }
                (false, c) => value.push(c),
            }
        }
        Err(format!("unterminated quoted value {}", rest.split('\n').next().unwrap_or_default()))
    }
}

/// `\n`, `\t`, octal `\0…` and others of a shell; `\$` is a dollar that is not filled in.
fn escapes(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('a') => out.push('\u{7}'),
            Some('b') => out.push('\u{8}'),
            Some('c') => out.push_str("\\c"),
            Some('f') => out.push('\u{c}'),
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('t') => out.push('\t'),
            Some('v') => out.push('\u{b}'),
            Some('\\') => out.push('\\'),
            Some('$') => out.push_str("$$"),
            Some('0') => {
                let mut code = 0;
                let mut digits = 0;
                while digits < 3
                    && let Some(digit) = chars.peek().and_then(|c| c.to_digit(8))
                {
                    code = code * 8 + digit;
                    digits += 1;
                    chars.next();
                }
                match char::from_u32(code).filter(|_| digits > 0) {
                    Some(c) => out.push(c),
                    None => out.push_str("\\0"),
                }
            }
            Some(other) => {
                out.push('\\');
                out.push(other);
            }
            None => out.push('\\'),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_as_compose_reads_them() {
        let text = "# comment\nA=1\nexport B = two words # comment\nC='$A'\nD=\"x\\n${A}\"\nE:yaml\nF\nG=${A}-${HOME}\nH=\"a\nb\"\nI=\nJ=a#b\n";
        let lookup = |name: &str| (name == "HOME" || name == "F").then(|| "/root".to_owned());
        let parsed = parse(text, &lookup).expect("a valid file");
        let expected = [
            ("A", "1"),
            ("B", "two words"),
            ("C", "$A"),
            ("D", "x\n1"),
            ("E", "yaml"),
            ("F", "/root"),
            ("G", "1-/root"),
            ("H", "a\nb"),
            ("I", ""),
            ("J", "a#b"),
        ];
        let expected: Environment = expected.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
        assert_eq!(parsed, expected);
    }

    #[test]
    fn what_is_wrong_names_its_line() {
        let none = |_: &str| None;
        assert_eq!(parse("A=1\nB C=2\n", &none).map_err(|e| e.0), Err(2));
        assert_eq!(parse("A=\"x\n", &none).map_err(|e| e.0), Err(1));
        assert_eq!(parse("A%B=1\n", &none).map_err(|e| e.0), Err(1));
    }
}
