//! Filters: what a list shows. Pure.

use std::collections::BTreeMap;

use fluyt_model::{Error, Result, id};

/// Filters as given: several values of one name are alternatives (labels: all of them).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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

    /// These, for an operation that takes those in `known`.
    ///
    /// # Errors
    /// As [`Filters::check`].
    pub fn checked(&self, known: &[&str]) -> Result<Self> {
        self.check(known)?;
        Ok(self.clone())
    }

    /// The filters by themselves.
    #[must_use]
    pub fn into_inner(self) -> BTreeMap<String, Vec<String>> {
        self.0
    }

    /// Reads the `filters` parameter of the API: `{"name":{"value":true}}`, or the older `{"name":["value"]}`. Empty text:
    /// none. Names are not looked at; see [`Filters::check`].
    ///
    /// # Errors
    /// `Invalid` for anything else.
    pub fn from_json(text: &str) -> Result<Self> {
        #[derive(serde::Deserialize)]
        #[serde(untagged)]
        enum Values {
            Set(BTreeMap<String, bool>),
            List(Vec<String>),
        }
        if text.is_empty() {
            return Ok(Self::default());
        }
        let read: Option<BTreeMap<String, Values>> =
            serde_json::from_str(text).map_err(|_| Error::invalid("invalid filter"))?;
        let mut filters = Self::default();
        for (name, values) in read.unwrap_or_default() {
            let values = match values {
                Values::Set(set) => set.into_keys().collect(),
                Values::List(list) => list,
            };
            filters.0.insert(name, values);
        }
        Ok(filters)
    }

    /// The `filters` parameter of the API; empty if there are none.
    #[must_use]
    pub fn to_json(&self) -> String {
        if self.0.is_empty() {
            return String::new();
        }
        let set = |values: &Vec<String>| -> serde_json::Value {
            values.iter().map(|value| (value.clone(), true.into())).collect::<serde_json::Map<_, _>>().into()
        };
        let all: serde_json::Map<_, _> =
            self.0.iter().map(|(name, values)| (name.clone(), set(values))).collect();
        serde_json::Value::from(all).to_string()
    }

    /// Refuses names outside `known`.
    ///
    /// # Errors
    /// `Invalid`, in Docker's words.
    pub fn check(&self, known: &[&str]) -> Result<()> {
        match self.0.keys().find(|name| !known.contains(&name.as_str())) {
            None => Ok(()),
            Some(name) => Err(Error::invalid(format!("invalid filter '{name}'"))
                .with_hint(format!("known filters: {}", known.join(", ")))),
        }
    }

    /// Adds one value of a filter.
    pub fn add(&mut self, name: &str, value: &str) {
        self.0.entry(name.to_owned()).or_default().push(value.to_owned());
    }

    /// Takes a filter out; its values.
    pub fn take(&mut self, name: &str) -> Vec<String> {
        self.0.remove(name).unwrap_or_default()
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
        match boolean(value) {
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
        self.values(name).first().map(|text| crate::time::parse(text, now)).transpose()
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

/// A boolean in Go's spelling.
#[must_use]
pub fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
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
    fn both_forms_of_the_api() {
        let new = Filters::from_json(r#"{"label":{"a":true,"b=1":true},"name":{}}"#).unwrap();
        assert_eq!(new.values("label"), ["a", "b=1"]);
        let old = Filters::from_json(r#"{"label":["a","b=1"]}"#).unwrap();
        assert_eq!(Filters::from_json(&old.to_json()).unwrap().values("label"), ["a", "b=1"]);
        assert!(Filters::from_json("").unwrap().is_empty() && Filters::from_json("{").is_err());
        assert!(old.check(&["label"]).is_ok());
        assert_eq!(old.check(&["name"]).unwrap_err().to_string(), "invalid filter 'label'");
    }

    #[test]
    fn globs() {
        assert!(glob("busy*", "busybox") && glob("*:1.?", "a:1.2") && !glob("a*", "a/b") && !glob("a", "ab"));
    }
}
