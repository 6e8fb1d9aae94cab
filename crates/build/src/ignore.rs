//! `.dockerignore`: which files of a context are left out. The rules are those of moby's pattern matcher.
//!
//! A pattern matches a path from the root of the context; what is below a directory that matches, matches. `!`
//! takes back. The last pattern that applies decides. `*` and `?` do not match a slash, `**` does.

use crate::dockerfile::Fault;
use crate::dockerfile::fault::Result;

/// A list of patterns.
#[derive(Clone, Debug, Default)]
pub struct Ignore {
    patterns: Vec<Pattern>,
}

/// Which patterns matched a directory: what its entries start from.
#[derive(Clone, Debug, Default)]
pub struct Matched(Vec<bool>);

#[derive(Clone, Debug)]
struct Pattern {
    text: String,
    takes_back: bool,
    kind: PatternKind,
}

#[derive(Clone, Debug)]
enum PatternKind {
    Exact,
    /// Everything that begins so.
    Prefix(String),
    /// Everything that ends so; and, if it begins with a slash, the path that is the rest.
    Suffix(String),
    Glob(Vec<Part>),
}

/// One element of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// This character.
    Exactly(char),
    /// Any one character but a slash.
    Any,
    /// Any text without a slash.
    Star,
    /// Any number of whole directories, or nothing.
    Directories,
    /// Anything.
    All,
    /// One of these ranges, or none of them.
    Class(bool, Vec<(char, char)>),
}

impl Ignore {
    /// Reads the text of a `.dockerignore`.
    ///
    /// # Errors
    /// A pattern that is malformed.
    pub fn parse(text: &str) -> Result<Self> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let lines = text.lines().filter(|line| !line.starts_with('#')).map(str::trim);
        let mut patterns = Vec::new();
        for line in lines.filter(|line| !line.is_empty()) {
            let (mark, pattern) = match line.strip_prefix('!') {
                Some(rest) => ("!", rest.trim()),
                None => ("", line),
            };
            let clean = if pattern.is_empty() { String::new() } else { clean(pattern) };
            let bare = match clean.strip_prefix('/') {
                Some(rest) if !rest.is_empty() => rest,
                _ => &clean,
            };
            patterns.push(format!("{mark}{bare}"));
        }
        Self::new(patterns.iter().map(String::as_str))
    }

    /// From patterns.
    ///
    /// # Errors
    /// A pattern that is malformed.
    pub fn new<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Result<Self> {
        let mut found = Vec::new();
        for text in patterns {
            let text = text.trim();
            if text.is_empty() {
                continue;
            }
            let (takes_back, text) = match text.strip_prefix('!') {
                Some("") => return Err(Fault::new("illegal exclusion pattern: \"!\"")),
                Some(rest) => (true, clean(rest)),
                None => (false, clean(text)),
            };
            let kind = compile(&text)?;
            found.push(Pattern { text, takes_back, kind });
        }
        Ok(Self { patterns: found })
    }

    /// Whether there are no patterns.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Whether a pattern says in so many words that nothing exists.
    #[must_use]
    pub fn leaves_out_everything(&self) -> bool {
        self.patterns.iter().any(|p| !p.takes_back && matches!(p.text.as_str(), "*" | "**" | "**/*"))
    }

    /// Whether a pattern takes back what others leave out: then directories that are left out must be looked into.
    #[must_use]
    pub fn takes_back(&self) -> bool {
        self.patterns.iter().any(|p| p.takes_back)
    }

    /// Whether `path` (no slash at either end) is left out, for a walk: `parent` is what came of its directory.
    #[must_use]
    pub fn matches(&self, path: &str, parent: Option<&Matched>) -> (bool, Matched) {
        let mut state = Vec::with_capacity(self.patterns.len());
        let mut out = false;
        for (at, pattern) in self.patterns.iter().enumerate() {
            let mut matched = parent.is_some_and(|p| p.0.get(at) == Some(&true));
            if !matched {
                if pattern.takes_back != out {
                    state.push(false);
                    continue;
                }
                matched =
                    pattern.matches(path) || parent.is_none() && parents(path).any(|p| pattern.matches(p));
            }
            if matched {
                out = !pattern.takes_back;
            }
            state.push(matched);
        }
        (out, Matched(state))
    }

    /// Whether `path` or a directory above it is left out.
    #[must_use]
    pub fn leaves_out(&self, path: &str) -> bool {
        self.matches(path, None).0
    }
}

impl Pattern {
    fn matches(&self, path: &str) -> bool {
        match &self.kind {
            PatternKind::Exact => path == self.text,
            PatternKind::Prefix(prefix) => path.starts_with(prefix),
            PatternKind::Suffix(suffix) => {
                path.ends_with(suffix) || suffix.strip_prefix('/').is_some_and(|rest| path == rest)
            }
            PatternKind::Glob(parts) => glob_matches(parts, path),
        }
    }
}

fn parents(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(|(at, _)| &path[..at])
}

/// A path without `.`, `..`, doubled and trailing slashes.
#[must_use]
pub fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => match parts.last() {
                Some(&"..") | None if rooted => {}
                Some(&"..") | None => parts.push(".."),
                Some(_) => drop(parts.pop()),
            },
            part => parts.push(part),
        }
    }
    let joined = parts.join("/");
    match (rooted, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}

fn compile(text: &str) -> Result<PatternKind> {
    let parts = parse_glob(text, true)?;
    let literal = |parts: &[Part]| {
        parts
            .iter()
            .map(|p| if let Part::Exactly(c) = p { Some(*c) } else { None })
            .collect::<Option<String>>()
    };
    if !text.contains('\\') {
        if literal(&parts).is_some() {
            return Ok(PatternKind::Exact);
        }
        if let Some(rest) = text.strip_prefix("**")
            && !rest.contains(['*', '?', '[', ']'])
        {
            return Ok(PatternKind::Suffix(rest.to_owned()));
        }
        if let Some(prefix) = text.strip_suffix("**")
            && !prefix.contains(['*', '?', '[', ']'])
        {
            return Ok(PatternKind::Prefix(prefix.to_owned()));
        }
    }
    Ok(PatternKind::Glob(parts))
}

/// Parses a pattern; with `deep`, two stars match slashes.
///
/// # Errors
/// A bracket that is not closed, a backslash at the end.
pub fn parse_glob(text: &str, deep: bool) -> Result<Vec<Part>> {
    let bad = || Fault::new(format!("syntax error in pattern {}", crate::dockerfile::quoted(text)));
    let mut parts = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        parts.push(match c {
            '*' if deep && chars.peek() == Some(&'*') => {
                chars.next();
                chars.next_if_eq(&'/');
                if chars.peek().is_none() { Part::All } else { Part::Directories }
            }
            '*' => Part::Star,
            '?' => Part::Any,
            '\\' => Part::Exactly(chars.next().ok_or_else(bad)?),
            '[' => {
                let negated = chars.next_if_eq(&'^').is_some();
                let mut ranges = Vec::new();
                loop {
                    let mut one = |first: bool| match chars.next() {
                        Some(']') if !first => Ok(None),
                        Some('\\') => chars.next().map(Some).ok_or_else(bad),
                        Some(c) => Ok(Some(c)),
                        None => Err(bad()),
                    };
                    let Some(low) = one(ranges.is_empty())? else { break };
                    let high = if chars.next_if_eq(&'-').is_some() {
                        match chars.next() {
                            Some('\\') => chars.next().ok_or_else(bad)?,
                            Some(']') | None => return Err(bad()),
                            Some(c) => c,
                        }
                    } else {
                        low
                    };
                    ranges.push((low, high));
                }
                Part::Class(negated, ranges)
            }
            c => Part::Exactly(c),
        });
    }
    Ok(parts)
}

/// Whether a pattern matches the whole of `text`.
#[must_use]
pub fn glob_matches(parts: &[Part], text: &str) -> bool {
    let chars: Vec<char> = text.chars().collect();
    // What is reachable after each part: bounded by the length, whatever the number of stars.
    let mut reach = vec![false; chars.len() + 1];
    reach[0] = true;
    for part in parts {
        let mut next = vec![false; chars.len() + 1];
        for at in (0..=chars.len()).filter(|at| reach[*at]) {
            let c = chars.get(at);
            match part {
                Part::Exactly(wanted) if c == Some(wanted) => next[at + 1] = true,
                Part::Any if c.is_some_and(|c| *c != '/') => next[at + 1] = true,
                Part::Class(negated, ranges) => {
                    if let Some(c) = c
                        && ranges.iter().any(|(low, high)| (low..=high).contains(&c)) != *negated
                    {
                        next[at + 1] = true;
                    }
                }
                Part::Star => {
                    let end = chars[at..].iter().position(|c| *c == '/').map_or(chars.len(), |n| at + n);
                    next[at..=end].fill(true);
                }
                Part::All => next[at..].fill(true),
                Part::Directories => {
                    next[at] = true;
                    for end in (at..chars.len()).filter(|end| chars[*end] == '/') {
                        next[end + 1] = true;
                    }
                }
                _ => {}
            }
        }
        reach = next;
    }
    reach[chars.len()]
}

/// Whether a path of a source has wildcards in it.
#[must_use]
pub fn has_wildcards(text: &str) -> bool {
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '*' | '?' | '[' => return true,
            '\\' => drop(chars.next()),
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn single_patterns() {
        for (pattern, path, expected) in [
            ("**", "file", true),
            ("**", "dir/file", true),
            ("**/", "file", true),
            ("dir/**", "dir/file", true),
            ("dir/**", "dir", false),
            ("**/dir", "a/b/dir", true),
            ("**/dir", "dir", true),
            ("**/dir", "xdir", false),
            ("**file", "myfile", true),
            ("**/file", "a/myfile", false),
            ("**/**/**", "x", true),
            ("abc/**/def", "abc/def", true),
            ("abc/**/def", "abc/x/y/def", true),
            ("a*b", "aXb", true),
            ("a*b", "a/b", false),
            ("a?b", "a/b", false),
            ("*", "a", true),
            ("*", "a/b", false),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            (r"a\*b", "a*b", true),
            (r"a\*b", "aXb", false),
            ("*.md", "README.md", true),
            ("*.md", "doc/README.md", false),
            ("**/*.md", "doc/x/README.md", true),
            ("a.b", "aXb", false),
            ("/exact/", "exact", true),
        ] {
            let ignore = Ignore::parse(pattern).unwrap();
            assert_eq!(ignore.patterns[0].matches(path), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn the_last_pattern_that_applies_decides() {
        let ignore =
            Ignore::parse("# comment\n*.md\n!README.md\n\nbuild\n!build/keep\n/etc/../logs/\n").unwrap();
        for (path, out) in [
            ("a.md", true),
            ("README.md", false),
            ("build", true),
            ("build/x", true),
            ("build/keep", false),
            ("build/keep/y", false),
            ("logs/a/b", true),
            ("src/main.c", false),
        ] {
            assert_eq!(ignore.leaves_out(path), out, "{path}");
        }
        assert!(ignore.takes_back());
        let (out, dir) = ignore.matches("build", None);
        assert!(
            out && ignore.matches("build/x", Some(&dir)).0 && !ignore.matches("build/keep", Some(&dir)).0
        );
    }

    #[test]
    fn everything_but_one() {
        let ignore = Ignore::parse("*\n!src\n!go.*\nsrc/secret").unwrap();
        assert!(ignore.leaves_out("x") && !ignore.leaves_out("src/a") && !ignore.leaves_out("go.mod"));
        assert!(ignore.leaves_out("src/secret"));
    }

    #[test]
    fn malformed_patterns_are_refused() {
        for bad in ["[", "a[b", "x\\", "[a-]"] {
            assert!(Ignore::new([bad]).unwrap_err().to_string().contains("syntax error in pattern"), "{bad}");
        }
        assert!(Ignore::new(["!"]).is_err());
    }

    #[test]
    fn paths_are_cleaned() {
        for (path, expected) in [
            ("", "."),
            ("a//b/", "a/b"),
            ("/../a", "/a"),
            ("../a/..", ".."),
            ("a/..", "."),
            ("./x", "x"),
            ("/", "/"),
        ] {
            assert_eq!(clean(path), expected, "{path}");
        }
    }
}
