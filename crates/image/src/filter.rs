//! Listing images by filter, and the history of one.

use fluyt_model::reference::Reference;
use fluyt_model::{Error, Result};

use crate::digest::Digest;
use crate::images::Image;
use crate::store::Store;
use crate::time;

/// Which images to list; everything that is set must hold, of several references one.
#[derive(Clone, Debug, Default)]
pub struct Filters {
    /// Only images without (or with) a tag.
    pub dangling: Option<bool>,
    /// `key` or `key=value` labels, all of which the image has.
    pub labels: Vec<String>,
    /// `key` or `key=value` labels, none of which the image has.
    pub without_labels: Vec<String>,
    /// Only images made before this one (name or id).
    pub before: Option<String>,
    /// Only images made after this one (name or id).
    pub since: Option<String>,
    /// Patterns of names, `*` and `?` not crossing a slash; one must match.
    pub references: Vec<String>,
    /// Only images made before this time, in seconds since the epoch.
    pub until: Option<i64>,
}

/// One line of an image's history, newest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryLine {
    /// The id, for the topmost line only: those below have none of their own.
    pub id: Option<Digest>,
    /// Seconds since the epoch; 0 when unknown.
    pub created: i64,
    /// The instruction.
    pub created_by: String,
    /// The size of its layer's files in bytes; 0 without a layer.
    pub size: u64,
    /// A comment.
    pub comment: String,
}

impl Store {
    /// The images for which `filters` hold, newest first.
    ///
    /// # Errors
    /// `Kind::NotFound` when `before` or `since` name nothing.
    pub fn list(&self, filters: &Filters) -> Result<Vec<Image>> {
        let limit = |name: &Option<String>| -> Result<Option<Image>> {
            name.as_deref().map(|name| self.resolve(name)).transpose()
        };
        let (before, since) = (limit(&filters.before)?, limit(&filters.since)?);
        let mut images = self.images()?;
        images.retain(|image| {
            before.as_ref().is_none_or(|b| image.created < b.created)
                && since.as_ref().is_none_or(|s| image.created > s.created)
                && filters.matches(image)
        });
        Ok(images)
    }

    /// The history of the image that `name` finds, newest first.
    ///
    /// # Errors
    /// `Kind::NotFound`.
    pub fn history(&self, name: &str) -> Result<Vec<HistoryLine>> {
        let image = self.resolve(name)?;
        let mut layers = image.layers.iter();
        let mut lines: Vec<HistoryLine> = image
            .config
            .history
            .iter()
            .map(|h| HistoryLine {
                id: None,
                created: h.created.as_deref().and_then(time::parse_rfc3339).unwrap_or(0),
                created_by: h.created_by.clone(),
                size: if h.empty_layer { 0 } else { layers.next().map_or(0, |layer| layer.size) },
                comment: h.comment.clone(),
            })
            .collect();
        // Layers that the history forgot still take room.
        lines.extend(layers.map(|layer| HistoryLine {
            id: None,
            created: image.created,
            created_by: String::new(),
            size: layer.size,
            comment: String::new(),
        }));
        lines.reverse();
        if let Some(first) = lines.first_mut() {
            first.id = Some(image.id);
        }
        Ok(lines)
    }
}

impl Filters {
    /// Adds one `--filter key=value`; `until` must be given as a number of seconds.
    ///
    /// # Errors
    /// `Kind::Invalid` with Docker's text.
    pub fn add(&mut self, key: &str, value: &str) -> Result<()> {
        let bad = || Error::invalid(format!("invalid filter '{key}={value}'"));
        match key {
            "dangling" => {
                self.dangling = Some(match value {
                    "true" | "1" => true,
                    "false" | "0" => false,
                    _ => return Err(bad()),
                });
            }
            "label" => self.labels.push(value.to_owned()),
            "label!" => self.without_labels.push(value.to_owned()),
            "before" => self.before = Some(value.to_owned()),
            "since" => self.since = Some(value.to_owned()),
            "reference" => self.references.push(value.to_owned()),
            "until" => {
                self.until = Some(value.parse().ok().or_else(|| time::parse_rfc3339(value)).ok_or_else(bad)?)
            }
            _ => {
                return Err(Error::invalid(format!("invalid filter '{key}'")).with_hint(
                    "images are filtered by before, dangling, label, reference, since and until",
                ));
            }
        }
        Ok(())
    }

    /// Whether what does not need the store holds: all but `before` and `since`.
    #[must_use]
    pub fn matches(&self, image: &Image) -> bool {
        let tagged = image.parsed_references().any(|r| r.digest().is_none());
        let has = |label: &String| match label.split_once('=') {
            Some((key, value)) => image.config.config.labels.get(key).is_some_and(|v| v == value),
            None => image.config.config.labels.contains_key(label.as_str()),
        };
        self.dangling.is_none_or(|dangling| dangling != tagged)
            && self.labels.iter().all(has)
            && !self.without_labels.iter().any(has)
            && self.until.is_none_or(|until| image.created < until)
            && (self.references.is_empty()
                || image
                    .parsed_references()
                    .any(|r| self.references.iter().any(|p| reference_matches(p, &r))))
    }
}

/// Whether a pattern matches a name, as people write it, with or without its tag.
#[must_use]
pub fn reference_matches(pattern: &str, reference: &Reference) -> bool {
    [reference.familiar(), reference.familiar_name(), reference.to_string(), reference.name()]
        .iter()
        .any(|text| glob(pattern.as_bytes(), text.as_bytes()))
}

/// Go's `path.Match` without character classes' escapes: `*` and `?` stop at slashes, `[…]` is a set.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        let step = match pattern.get(p) {
            Some(b'*') => {
                star = Some((p + 1, t));
                p += 1;
                continue;
            }
            Some(b'?') if text[t] != b'/' => Some(1),
            Some(b'[') => class(&pattern[p..], text[t]),
            Some(c) if *c == text[t] => Some(1),
            _ => None,
        };
        match (step, star) {
            (Some(n), _) => {
                p += n;
                t += 1;
            }
            (None, Some((after, at))) if text[at] != b'/' => {
                star = Some((after, at + 1));
                (p, t) = (after, at + 1);
            }
            _ => return false,
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}

/// The length of the class at the start of `pattern` if it contains `byte`.
fn class(pattern: &[u8], byte: u8) -> Option<usize> {
    let end = memchr::memchr(b']', pattern)?;
    let (negated, set) = match pattern[1..end].strip_prefix(b"^") {
        Some(set) => (true, set),
        None => (false, &pattern[1..end]),
    };
    let mut found = false;
    let mut at = 0;
    while at < set.len() {
        if at + 2 < set.len() && set[at + 1] == b'-' {
            found |= (set[at]..=set[at + 2]).contains(&byte);
            at += 3;
        } else {
            found |= set[at] == byte;
            at += 1;
        }
    }
    (found != negated && byte != b'/').then_some(end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_names() {
        let r = Reference::parse("registry.test/team/app:v1.2").unwrap();
        for (pattern, matches) in [
            ("registry.test/team/app", true),
            ("registry.test/*/app:v1*", true),
            ("registry.test/*", false),
            ("*/*/*:v?.2", true),
            ("*/*/*:v[0-9].2", true),
            ("*/*/*:v[^0-9].2", false),
            ("app", false),
        ] {
            assert_eq!(reference_matches(pattern, &r), matches, "{pattern}");
        }
        let short = Reference::parse("busybox").unwrap();
        assert!(reference_matches("busy*", &short) && reference_matches("busybox:latest", &short));
        assert!(glob(b"***", b"") && !glob(b"[", b"a") && !glob(b"a*b", b"ac"));
    }
}
