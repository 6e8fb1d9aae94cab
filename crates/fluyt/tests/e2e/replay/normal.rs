//! What is different by nature becomes the same word: ids, times, addresses, names that are made up, paths.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// Numbers that are times or of the machine, by their names.
const NUMBERS: [&str; 13] = [
    "Created",
    "Pid",
    "time",
    "timeNano",
    "NFd",
    "NGoroutines",
    "NEventsListener",
    "created",
    "mtime",
    "IPPrefixLen",
    "GlobalIPv6PrefixLen",
    "MemTotal",
    "SpaceReclaimed",
];
/// Texts that are made up, by their names.
const TEXTS: [&str; 11] = [
    "SystemTime",
    "SandboxKey",
    "SandboxID",
    "GitCommit",
    "LowerDir",
    "UpperDir",
    "WorkDir",
    "MergedDir",
    // By the machine's version of control groups.
    "CgroupnsMode",
    "reclaimed",
    "KernelVersion",
];
/// How addresses begin that the scripts give.
const GIVEN: [&str; 9] =
    ["10.123.", "10.124.", "10.125.", "10.9.", "10.1.0.", "127.", "192.0.2.", "0.0.0.0", "255."];
/// Where names stand.
const NAMES: [&str; 3] = ["Name", "Names", "name"];
/// Lists whose order says nothing.
const SETS: [&str; 9] = [
    "Mounts",
    "Ports",
    "Volumes",
    "RepoTags",
    "RepoDigests",
    "ExecIDs",
    "DNSNames",
    "Networks",
    "ContainersDeleted",
];

/// An answer without what is different by nature.
pub(super) fn normal(
    answer: Value,
    places: &[(String, &str)],
    variables: &BTreeMap<String, String>,
) -> Value {
    walk("", answer, &|text| word(text, places, variables))
}

/// Events by the type of what they are about, each as a line: the order within a type is told, that among them is not.
pub(super) fn events(
    events: Vec<Value>,
    places: &[(String, &str)],
    variables: &BTreeMap<String, String>,
) -> Value {
    let mut types: Map<String, Value> = Map::new();
    for event in events {
        let event = normal(event, places, variables);
        let kind = event["Type"].as_str().unwrap_or_default().to_owned();
        let attributes = event["Actor"]["Attributes"].as_object().cloned().unwrap_or_default();
        let words: Vec<String> = attributes
            .iter()
            .map(|(name, value)| format!("{name}={}", value.as_str().unwrap_or_default()))
            .collect();
        let line = format!(
            "{} {} {}",
            event["Action"].as_str().unwrap_or_default(),
            event["Actor"]["ID"],
            words.join(" ")
        );
        if let Value::Array(lines) = types.entry(kind).or_insert_with(|| json!([])) {
            lines.push(json!(line));
        }
    }
    json!({ "events": types })
}

fn walk(name: &str, value: Value, word: &dyn Fn(&str) -> String) -> Value {
    match value {
        Value::Number(n) if NUMBERS.contains(&name) && n.as_f64() != Some(0.0) => json!("<n>"),
        Value::String(text) if TEXTS.contains(&name) && !text.is_empty() => json!("<text>"),
        Value::String(text) if name == "Status" => json!(duration(&word(&text))),
        Value::String(text) if NAMES.contains(&name) && is_made_up(&text) => json!("<made up>"),
        Value::String(text) => json!(word(&text)),
        Value::Array(items) => {
            let mut items: Vec<Value> = items.into_iter().map(|item| walk(name, item, word)).collect();
            if SETS.contains(&name) {
                items.sort_by_key(Value::to_string);
            }
            Value::Array(items)
        }
        Value::Object(fields) => {
            fields.into_iter().map(|(key, value)| (word(&key), walk(&key, value, word))).collect()
        }
        other => other,
    }
}

/// `quality_person`, as names of containers are made up. The scripts give no such names.
fn is_made_up(text: &str) -> bool {
    let Some((left, right)) = text.strip_prefix('/').unwrap_or(text).split_once('_') else { return false };
    let right = right.trim_end_matches(|c: char| c.is_ascii_digit());
    [left, right].iter().all(|half| half.len() > 2 && half.bytes().all(|b| b.is_ascii_lowercase()))
}

/// `Up 3 seconds` and the like.
fn duration(text: &str) -> String {
    if let Some(rest) = text.strip_prefix("Up ") {
        let more = rest.find(" (").map_or("", |at| &rest[at..]);
        return format!("Up <for>{more}");
    }
    match text.split_once(") ") {
        Some((start, rest)) if rest.ends_with(" ago") => format!("{start}) <for> ago"),
        _ => text.to_owned(),
    }
}

fn word(text: &str, places: &[(String, &str)], variables: &BTreeMap<String, String>) -> String {
    let mut text = text.to_owned();
    for (name, value) in variables {
        if value.len() > 3 {
            text = text.replace(value, &format!("<{name}>"));
            let short = value.strip_prefix("sha256:").unwrap_or(value);
            if short.len() == 64 {
                text = text
                    .replace(short, &format!("<{name}>"))
                    .replace(&short[..12], &format!("<{name} short>"));
            }
        }
    }
    for (path, short) in places {
        text = text.replace(path, short);
    }
    without_masks(&runs(&text))
}

/// Lengths of networks, which are by choice of whoever made them.
fn without_masks(text: &str) -> String {
    let mut pieces = text.split("<address>/");
    let mut out = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        out.push_str("<address>/<n>");
        out.push_str(piece.trim_start_matches(|c: char| c.is_ascii_digit()));
    }
    out
}

/// Replaces runs of letters, digits and what holds times and addresses together.
fn runs(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !part(c)).unwrap_or(rest.len());
        let (run, after) = rest.split_at(end);
        out.push_str(&known(run));
        let mut after = after.chars();
        out.extend(after.next());
        rest = after.as_str();
    }
    out
}

fn part(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, ':' | '.' | '-' | '_' | '+')
}

fn known(run: &str) -> String {
    let hex = |text: &str| text.bytes().all(|b| b.is_ascii_hexdigit());
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let bare = run.trim_end_matches([':', '.']);
    let tail = &run[bare.len()..];
    if let Some(id) = bare.strip_prefix("sha256:")
        && id.len() == 64
        && hex(id)
    {
        return format!("<digest>{tail}");
    }
    if hex(bare) && matches!(bare.len(), 64 | 12) && !digits(bare) {
        return format!("<id>{tail}");
    }
    // RFC 3339; the beginning of time stays.
    let date = bare.as_bytes();
    if date.len() >= 19
        && date[4] == b'-'
        && date[10] == b'T'
        && digits(&bare[..4])
        && !bare.starts_with("0001-")
    {
        return format!("<time>{tail}");
    }
    let pieces: Vec<&str> = bare.split(':').collect();
    if pieces.len() == 6 && pieces.iter().all(|p| p.len() == 2 && hex(p)) && bare.starts_with("02:42") {
        return format!("<mac>{tail}");
    }
    let address = pieces[0].split('.').collect::<Vec<_>>();
    let given = GIVEN.iter().any(|start| run.starts_with(start));
    if address.len() == 4 && address.iter().all(|p| digits(p)) && !given {
        return run.replacen(pieces[0], "<address>", 1);
    }
    if bare.starts_with("fd") && pieces.len() > 3 && pieces.iter().all(|p| hex(p)) {
        return format!("<address>{tail}");
    }
    run.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_different_by_nature_becomes_the_same() {
        let id = "ab".repeat(32);
        let variables = BTreeMap::from([("one".to_owned(), id.clone())]);
        let say = |text: &str| word(text, &[("/tmp/x".to_owned(), "ROOT")], &variables);
        assert_eq!(say(&format!("No such: {id}.")), "No such: <one>.");
        assert_eq!(say("/tmp/x/containers"), "ROOT/containers");
        assert_eq!(say("at 2026-01-02T03:04:05.678Z, 172.17.0.2:80"), "at <time>, <address>:80");
        assert_eq!(
            say("10.210.0.2/24, fd00:1::2/64, 10.123.0.1/24"),
            "<address>/<n>, <address>/<n>, 10.123.0.1/24"
        );
        assert_eq!(say("0001-01-01T00:00:00Z"), "0001-01-01T00:00:00Z");
        assert_eq!(say(&format!("sha256:{}", "0a".repeat(32))), "<digest>");
        assert_eq!(duration("Exited (3) 2 seconds ago"), "Exited (3) <for> ago");
        assert_eq!(duration("Up 5 seconds (Paused)"), "Up <for> (Paused)");
    }
}
