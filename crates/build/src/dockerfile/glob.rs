//! The patterns of `${x#…}`, `${x%…}` and `${x/…/…}`: `*`, `?`, everything else as it is.

/// One element of a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// Any text without line breaks.
    Star,
    /// Any one character but a line break.
    Any,
    /// This character.
    Exactly(char),
}

/// A parsed pattern.
#[derive(Clone, Debug)]
pub struct Glob(Vec<Part>);

impl Glob {
    /// Parses a pattern.
    ///
    /// # Errors
    /// An escape of a character that needs none.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            parts.push(match c {
                '*' => Part::Star,
                '?' => Part::Any,
                '\\' => match chars.next() {
                    // These two end what surrounds the pattern; their escape is not the pattern's.
                    Some(c @ ('}' | '/' | '*' | '?' | '\\')) => Part::Exactly(c),
                    Some(c) => return Err(format!("invalid escape '\\{c}'")),
                    None => return Err("invalid escape '\\'".to_owned()),
                },
                c => Part::Exactly(c),
            });
        }
        Ok(Self(parts))
    }

    /// `value` without the part at its beginning that matches: the longest, or the shortest.
    #[must_use]
    pub fn without_prefix(&self, value: &str, longest: bool) -> String {
        let chars: Vec<char> = value.chars().collect();
        match ends(&self.0, &chars, longest) {
            Some(end) => chars[end..].iter().collect(),
            None => value.to_owned(),
        }
    }

    /// `value` without the part at its end that matches: the longest, or the shortest.
    #[must_use]
    pub fn without_suffix(&self, value: &str, longest: bool) -> String {
        let parts: Vec<Part> = self.0.iter().rev().copied().collect();
        let chars: Vec<char> = value.chars().rev().collect();
        match ends(&parts, &chars, longest) {
            Some(end) => chars[end..].iter().rev().collect(),
            None => value.to_owned(),
        }
    }

    /// `value` with the first part that matches replaced, or all of them.
    #[must_use]
    pub fn replace(&self, value: &str, replacement: &str, all: bool) -> String {
        let chars: Vec<char> = value.chars().collect();
        let mut out = String::new();
        let mut at = 0;
        // Where the last match ended: an empty one right there is none.
        let mut after = None;
        while at <= chars.len() {
            match ends(&self.0, &chars[at..], true) {
                Some(length) if length > 0 || after != Some(at) => {
                    out.push_str(replacement);
                    at += length;
                    if length == 0 {
                        out.extend(chars.get(at));
                        at += 1;
                    }
                    after = Some(at);
                    if !all {
                        break;
                    }
                }
                _ => {
                    out.extend(chars.get(at));
                    at += 1;
                }
            }
        }
        out.extend(chars.get(at..).unwrap_or_default());
        out
    }
}

/// Where a match that begins at the beginning ends: as late, or as early as possible.
fn ends(parts: &[Part], chars: &[char], latest: bool) -> Option<usize> {
    // The ends that are possible after each part: bounded by the length, whatever the number of stars.
    let mut reach = vec![false; chars.len() + 1];
    reach[0] = true;
    for part in parts {
        let mut next = vec![false; chars.len() + 1];
        for at in 0..=chars.len() {
            if !reach[at] {
                continue;
            }
            match part {
                Part::Star => {
                    let mut end = at;
                    loop {
                        if next[end] && end > at {
                            break;
                        }
                        next[end] = true;
                        if end == chars.len() || chars[end] == '\n' {
                            break;
                        }
                        end += 1;
                    }
                }
                Part::Any if at < chars.len() && chars[at] != '\n' => next[at + 1] = true,
                Part::Exactly(c) if chars.get(at) == Some(c) => next[at + 1] = true,
                _ => {}
            }
        }
        reach = next;
    }
    if latest { reach.iter().rposition(|r| *r) } else { reach.iter().position(|r| *r) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_and_suffixes() {
        let glob = |text: &str| Glob::parse(text).unwrap();
        assert_eq!(glob("a*c").without_prefix("abcbcd", false), "bcd");
        assert_eq!(glob("a*c").without_prefix("abcbcd", true), "d");
        assert_eq!(glob("*").without_prefix("abc", true), "");
        assert_eq!(glob("*").without_prefix("abc", false), "abc");
        assert_eq!(glob("c*e").without_suffix("abcdce", false), "abcd");
        assert_eq!(glob("c*e").without_suffix("abcdce", true), "ab");
        assert_eq!(glob("\\*").without_prefix("*x", true), "x");
        assert!(Glob::parse("\\a").is_err());
    }

    #[test]
    fn replacements() {
        let glob = |text: &str| Glob::parse(text).unwrap();
        assert_eq!(glob("o").replace("foo boo", "0", false), "f0o boo");
        assert_eq!(glob("o").replace("foo boo", "0", true), "f00 b00");
        assert_eq!(glob("*").replace("abc", "x", true), "x");
        assert_eq!(glob("z").replace("abc", "x", true), "abc");
        assert_eq!(glob("b*").replace("abcd", "", false), "a");
        let long = "a".repeat(300);
        assert_eq!(glob("*a*a*a*a*b").replace(&long, "x", true), long);
    }
}
