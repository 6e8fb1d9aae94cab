//! Places that differ, and the list of those that are known.

use std::collections::BTreeMap;

use serde_json::Value;

/// A difference: request, place, what dockerd and ours have there.
pub(super) struct Difference {
    request: String,
    place: String,
    what: String,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} | {} | {}", self.request, self.place, self.what)
    }
}

/// All places where two answers differ.
pub(super) fn differences(request: &str, theirs: &Value, ours: &Value) -> Vec<Difference> {
    let mut found = Vec::new();
    walk(request, "", Some(theirs), Some(ours), &mut found);
    found
}

fn walk(
    request: &str,
    place: &str,
    theirs: Option<&Value>,
    ours: Option<&Value>,
    found: &mut Vec<Difference>,
) {
    let below = |name: &str| if place.is_empty() { name.to_owned() } else { format!("{place}.{name}") };
    match (theirs, ours) {
        (Some(Value::Object(a)), Some(Value::Object(b))) => {
            let mut names: Vec<&String> = a.keys().chain(b.keys()).collect();
            names.sort();
            names.dedup();
            for name in names {
                walk(request, &below(name), a.get(name), b.get(name), found);
            }
        }
        (Some(Value::Array(a)), Some(Value::Array(b))) if a.iter().chain(b).all(Value::is_string) => {
            lines(request, place, a, b, found);
        }
        (Some(Value::Array(a)), Some(Value::Array(b))) => {
            for index in 0..a.len().max(b.len()) {
                walk(request, &below(&index.to_string()), a.get(index), b.get(index), found);
            }
        }
        (a, b) if a == b => {}
        (a, b) => {
            let text = |v: Option<&Value>| v.map_or("(not there)".to_owned(), Value::to_string);
            let what = format!("{} -> {}", text(a), text(b));
            found.push(Difference { request: request.to_owned(), place: place.to_owned(), what });
        }
    }
}

/// Lists of texts: which are missing, which are too many, or that their order differs.
fn lines(request: &str, place: &str, theirs: &[Value], ours: &[Value], found: &mut Vec<Difference>) {
    let mut count: BTreeMap<String, i64> = BTreeMap::new();
    for (list, step) in [(theirs, 1), (ours, -1)] {
        for line in list {
            *count.entry(line.to_string()).or_default() += step;
        }
    }
    let mut add = |what: String| {
        found.push(Difference { request: request.to_owned(), place: place.to_owned(), what });
    };
    let mut same = true;
    for (line, n) in count.into_iter().filter(|(_, n)| *n != 0) {
        same = false;
        for _ in 0..n.abs() {
            add(if n > 0 { format!("{line} -> (not there)") } else { format!("(not there) -> {line}") });
        }
    }
    if same && theirs != ours {
        let text = |list: &[Value]| Value::Array(list.to_vec()).to_string();
        add(format!("order: {} -> {}", text(theirs), text(ours)));
    }
}

/// A listed difference.
struct Entry {
    line: usize,
    request: String,
    place: String,
    what: String,
    met: bool,
}

/// `differences.txt`: `request | place | what | reason`, each of the first three with `*` for anything. Lines of another
/// file's sections are not looked at; those that begin with `*` hold for all files, and have to be met in each.
pub(super) struct Known(Vec<Entry>);

impl Known {
    /// The lines that are about this file.
    ///
    /// # Panics
    /// A line has not four parts, or no reason.
    pub fn parse(file: &str, text: &str) -> Self {
        let mut entries = Vec::new();
        for (number, line) in text.lines().enumerate() {
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            let mut parts = line.split(" || ").map(str::trim);
            let mut part = || parts.next().filter(|p| !p.is_empty());
            let all = (part(), part(), part(), part());
            let (Some(request), Some(place), Some(what), Some(_reason)) = all else {
                panic!("differences.txt:{}: request || place || what || reason: {line}", number + 1);
            };
            if request.starts_with('*') || request.starts_with(&format!("{file}:")) {
                let (request, place, what) = (request.to_owned(), place.to_owned(), what.to_owned());
                entries.push(Entry { line: number + 1, request, place, what, met: false });
            }
        }
        Self(entries)
    }

    /// What is not listed, and what is listed and was not met.
    pub fn judge(&mut self, found: &[Difference]) -> (Vec<String>, Vec<String>) {
        let mut unlisted = Vec::new();
        for difference in found {
            let mut listed = false;
            for entry in &mut self.0 {
                if matches(&entry.request, &difference.request)
                    && matches(&entry.place, &difference.place)
                    && matches(&entry.what, &difference.what)
                {
                    (listed, entry.met) = (true, true);
                }
            }
            if !listed {
                unlisted.push(difference.to_string());
            }
        }
        let gone = self.0.iter().filter(|entry| !entry.met);
        let gone =
            gone.map(|e| format!("differences.txt:{}: {} | {} | {}", e.line, e.request, e.place, e.what));
        (unlisted, gone.collect())
    }
}

/// Whether a text is what a pattern says; `*` stands for anything.
fn matches(pattern: &str, text: &str) -> bool {
    let mut pieces = pattern.split('*');
    let first = pieces.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut last = None;
    for piece in pieces {
        if let Some(piece) = last {
            let Some(at) = rest.find(piece) else { return false };
            rest = &rest[at + str::len(piece)..];
        }
        last = Some(piece);
    }
    last.map_or(rest.is_empty(), |last| rest.ends_with(last))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn places_are_named_and_known_ones_are_passed_over() {
        let found = differences(
            "f: s | 1.41 GET /x",
            &json!({"a": 1, "b": [1, 2], "l": ["x", "y"]}),
            &json!({"a": 2, "b": [1], "c": null, "l": ["y", "x"]}),
        );
        let texts: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "f: s | 1.41 GET /x | a | 1 -> 2",
                "f: s | 1.41 GET /x | b.1 | 2 -> (not there)",
                "f: s | 1.41 GET /x | c | (not there) -> null",
                r#"f: s | 1.41 GET /x | l | order: ["x","y"] -> ["y","x"]"#,
            ]
        );
        let list = "# words\n* || a || * || why\nf: s* || b.* || * || why\nf: * || d || * || why\ng: * || * || * || why";
        let (unlisted, gone) = Known::parse("f", list).judge(&found);
        assert_eq!((unlisted.len(), gone.len()), (2, 1), "{unlisted:?} {gone:?}");
    }

    #[test]
    fn stars_stand_for_anything() {
        for (pattern, text, same) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("a*", "ab", true),
            ("*b", "ab", true),
            ("a*c*e", "abcde", true),
            ("a*c*e", "abde", false),
            ("*", "", true),
        ] {
            assert_eq!(matches(pattern, text), same, "{pattern} {text}");
        }
    }
}
