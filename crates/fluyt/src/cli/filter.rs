//! `--filter`: what a list shows. Pure.

use std::collections::BTreeMap;

use fluyt_model::{Error, Result, id};

/// Filters as given: several values of one name are alternatives (labels: all of them).
#[derive(Clone, Debug, Default)]
pub struct Filters(BTreeMap<String, Vec<String>>);

impl Filters {
    /// Reads `name=value` texts; names outside `known` are refused.
    ///
    /// # Errors
    /// `Invalid`, in Docker's words.
    pub fn parse<'a>(texts: impl Iterator<Item = &'a str>, known: &[&str]) -> Result<Self> {
        let mut filters = Self::default();
        for text in texts.filter(|text| !text.is_empty()) {
            let (name, value) = match text.split_once("!=") {
                Some((name, value)) if !name.contains("=") => (format!("{name}!"), value),
                _ => text.split_once("=").map_or((text.to_owned(), ""), |(n, v)| (n.to_owned(), v)),
            };
            let name = name.trim().to_ascii_lowercase();
            if !known.contains(&name.as_str()) {
                return Err(Error::invalid(format!("invalid filter '{name}'"))
                    .with_hint(format!("known filters: {}", known.join(", "))));
            }
            filters.0.entry(name).or_default().push(value.trim().to_owned());
        }
        Ok(filters)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this one is given.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The values of one filter.
    pub fn values(&self, name: &str) -> &[String] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    /// Whether one of the values passes `test`, or none is given.
    pub fn any(&self, name: &str, test: impl Fn(&str) -> bool) -> bool {
        let values = self.values(name);
        values.is_empty() || values.iter().any(|value| test(value))
    }

    /// Whether `text` equals one of the values.
    pub fn exact(&self, name: &str, text: &str) -> bool {
        self.any(name, |value| value == text)
    }

    /// Whether `text` contains one of the values (or, with anchors, begins or ends with it).
    pub fn matches(&self, name: &str, text: &str) -> bool {
        self.any(name, |value| contains(text, value))
    }

    /// Whether a name matches one pattern, as `name` filters match.
    pub fn name_matches(name: &str, pattern: &str) -> bool {
        contains(name, pattern)
    }

    /// Whether an id begins with one of the values.
    pub fn id(&self, name: &str, full: &str) -> bool {
        let bare = full.strip_prefix("sha256:").unwrap_or(full);
        self.any(name, |value| bare.starts_with(value.strip_prefix("sha256:").unwrap_or(value)))
    }

    /// Whether all `label` filters hold, and no `label!` filter does.
    pub fn labels(&self, labels: &BTreeMap<String, String>) -> bool {
        let has = |text: &String| match text.split_once('=') {
            Some((key, value)) => labels.get(key).is_some_and(|v| v == value),
            None => labels.contains_key(text),
        };
        self.values("label").iter().all(has) && !self.values("label!").iter().any(has)
    }

    /// The value of a filter that is true or false.
    ///
    /// # Errors
    /// `Invalid` for anything else.
    pub fn boolean(&self, name: &str) -> Result<Option<bool>> {
        let Some(value) = self.values(name).first() else {
            return Ok(None);
        };
        match super::flags::values::boolean(value) {
            Some(value) => Ok(Some(value)),
            None => {
                Err(Error::invalid(format!("invalid filter '{name}={value}'"))
                    .with_hint("it is true or false"))
            }
        }
    }

    /// The point in time of an `until` (or `since`) filter.
    ///
    /// # Errors
    /// `Invalid` for what is no time.
    pub fn time(&self, name: &str, now: i64) -> Result<Option<i64>> {
        self.values(name).first().map(|text| super::time::parse(text, now)).transpose()
    }
}

/// Docker matches names as regular expressions; nearly all in use are a plain part, with `^` and `$` at its ends.
fn contains(text: &str, pattern: &str) -> bool {
    let (start, pattern) = pattern.strip_prefix('^').map_or((false, pattern), |p| (true, p));
    let (end, pattern) = pattern.strip_suffix('$').map_or((false, pattern), |p| (true, p));
    let pieces: Vec<&str> = pattern.split(".*").collect();
    wildcard(text, &pieces, start, end)
}

/// Whether `pieces` occur in `text` one after another, tied to its ends if so wanted.
fn wildcard(text: &str, pieces: &[&str], start: bool, end: bool) -> bool {
    let Some((first, rest)) = pieces.split_first() else {
        return true;
    };
    if rest.is_empty() {
        return match (start, end) {
            (true, true) => text == *first,
            (true, false) => text.starts_with(first),
            (false, true) => text.ends_with(first),
            (false, false) => text.contains(first),
        };
    }
    let at = if start { text.starts_with(first).then_some(0) } else { text.find(first) };
    at.is_some_and(|at| wildcard(&text[at + first.len()..], rest, false, end))
}

/// Whether `pattern`, a path with `*` and `?`, matches all of `text` (image references).
pub fn glob(pattern: &str, text: &str) -> bool {
    match (pattern.chars().next(), text.chars().next()) {
        (None, None) => true,
        (Some('*'), _) => {
            glob(&pattern[1..], text)
                || text.chars().next().is_some_and(|c| c != '/' && glob(pattern, &text[c.len_utf8()..]))
        }
        (Some('?'), Some(c)) if c != '/' => glob(&pattern[1..], &text[c.len_utf8()..]),
        (Some(p), Some(c)) if p == c => glob(&pattern[p.len_utf8()..], &text[c.len_utf8()..]),
        _ => false,
    }
}

/// Whether `wanted` is the id or the beginning of `full`.
pub fn is_id(full: &str, wanted: &str) -> bool {
    !wanted.is_empty() && (full.starts_with(wanted) || id::short(full) == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filters(texts: &[&str]) -> Filters {
        Filters::parse(texts.iter().copied(), &["name", "label", "label!", "id", "dangling"]).unwrap()
    }

    #[test]
    fn names_labels_and_ids() {
        let f = filters(&["name=we", "name=^db$"]);
        assert!(f.matches("name", "web") && f.matches("name", "db") && !f.matches("name", "db2"));
        assert!(filters(&["name=a.*z$"]).matches("name", "xabcz"));
        let labels = BTreeMap::from([("a".to_owned(), "1".to_owned())]);
        assert!(filters(&["label=a"]).labels(&labels) && filters(&["label=a=1"]).labels(&labels));
        assert!(!filters(&["label=a=2"]).labels(&labels) && !filters(&["label!=a"]).labels(&labels));
        assert!(filters(&["id=0123"]).id("id", "sha256:012345"));
        assert_eq!(filters(&["dangling=true"]).boolean("dangling").unwrap(), Some(true));
        assert!(filters(&["dangling=x"]).boolean("dangling").is_err());
        let error = Filters::parse(["nope=1"].into_iter(), &["name"]).unwrap_err();
        assert_eq!(error.to_string(), "invalid filter 'nope'");
    }

    #[test]
    fn globs() {
        assert!(glob("busy*", "busybox") && glob("*:1.?", "a:1.2") && !glob("a*", "a/b") && !glob("a", "ab"));
    }
}
