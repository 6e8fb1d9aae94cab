//! Requests as data.
//!
//! ```text
//! archive NAME                 a tar archive that bodies may name; then lines `  PATH: TEXT`
//! == SECTION [1.24 1.41]       its steps are played for each version (default: 1.41), and everything is removed after it
//! METHOD PATH OPTION…          a request; the body follows, indented
//! INPUT NAME                   sends the indented text on a session that is open (`END`, alone: closes our half)
//! END NAME                     reads a session to its end
//! ```
//! Options: `save:VAR=PLACE` keeps a part of the answer, for `${VAR}`; `until:PLACE=VALUE` asks until it is so;
//! `body:NAME` sends an archive; `session:NAME` leaves the connection open; `hijack` asks for the connection;
//! `type:MEDIA` another type than JSON; `header:NAME=VALUE`; `unordered`: the order of the list does not count;
//! `skip`: the answer is not compared. `\n` in texts is a line feed.

use std::collections::BTreeMap;

use fluyt_testkit::images::{self, Entry};

/// A body.
#[derive(Clone, Debug, Default)]
pub(super) enum Body {
    #[default]
    None,
    Text(String),
    Archive(String),
}

/// A request, or something done with a session.
#[derive(Clone, Debug, Default)]
pub(super) struct Step {
    pub method: String,
    pub path: String,
    pub body: Body,
    pub saves: Vec<(String, String)>,
    pub until: Option<(String, String)>,
    pub session: Option<String>,
    pub hijack: bool,
    pub media: Option<String>,
    pub headers: Vec<(String, String)>,
    pub unordered: bool,
    pub skip: bool,
}

impl Step {
    /// A plain request.
    pub fn new(method: &str, path: &str) -> Self {
        Self { method: method.to_owned(), path: path.to_owned(), ..Self::default() }
    }
}

/// Steps that belong together.
pub(super) struct Section {
    pub name: String,
    pub versions: Vec<String>,
    pub steps: Vec<Step>,
}

/// A file of them.
pub(super) struct Script {
    pub sections: Vec<Section>,
    pub archives: BTreeMap<String, Vec<u8>>,
}

impl Script {
    /// Reads a file.
    ///
    /// # Panics
    /// A line cannot be understood.
    pub fn parse(file: &str, text: &str) -> Self {
        let mut sections: Vec<Section> = Vec::new();
        let mut archives: BTreeMap<String, Vec<Entry>> = BTreeMap::new();
        let mut archive: Option<String> = None;
        for (number, line) in text.lines().enumerate() {
            let wrong = || -> ! { panic!("{file}.txt:{}: {line}", number + 1) };
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            if let Some(more) = line.strip_prefix("  ") {
                if let Some(name) = &archive {
                    let Some((path, text)) = more.split_once(": ") else { wrong() };
                    let entry = Entry::File(path.to_owned(), 0o644, unescaped(text).into_bytes());
                    archives.entry(name.clone()).or_default().push(entry);
                } else {
                    let Some(step) = sections.last_mut().and_then(|s| s.steps.last_mut()) else { wrong() };
                    match &mut step.body {
                        Body::Text(text) => text.push_str(&unescaped(more)),
                        body => *body = Body::Text(unescaped(more)),
                    }
                }
            } else if let Some(name) = line.strip_prefix("archive ") {
                archives.entry(name.to_owned()).or_default();
                archive = Some(name.to_owned());
            } else if let Some(head) = line.strip_prefix("== ") {
                archive = None;
                let (name, versions) = match head.split_once(" [") {
                    Some((name, versions)) => (name, versions.trim_end_matches(']')),
                    None => (head, "1.41"),
                };
                let versions = versions.split_whitespace().map(str::to_owned).collect();
                sections.push(Section { name: format!("{file}: {name}"), versions, steps: Vec::new() });
            } else {
                let Some(section) = sections.last_mut() else { wrong() };
                section.steps.push(step(line).unwrap_or_else(|| wrong()));
            }
        }
        let archives = archives.into_iter().map(|(name, entries)| (name, images::tar(&entries))).collect();
        Self { sections, archives }
    }
}

fn step(line: &str) -> Option<Step> {
    let mut words = line.split_whitespace();
    let mut step = Step::new(words.next()?, words.next()?);
    for word in words {
        let (option, value) = word.split_once(':').unwrap_or((word, ""));
        let pair = || value.split_once('=').map(|(a, b)| (a.to_owned(), b.to_owned()));
        match option {
            "save" => step.saves.push(pair()?),
            "until" => step.until = pair().map(|(place, value)| (place, value.replace("\\n", "\n"))),
            "body" => step.body = Body::Archive(value.to_owned()),
            "session" => step.session = Some(value.to_owned()),
            "hijack" => step.hijack = true,
            "type" => step.media = Some(value.to_owned()),
            "header" => step.headers.push(pair()?),
            "unordered" => step.unordered = true,
            "skip" => step.skip = true,
            _ => return None,
        }
    }
    Some(step)
}

fn unescaped(text: &str) -> String {
    // In JSON `\\n` stays what it is there.
    if text.trim_start().starts_with(['{', '[', '"']) { text.to_owned() } else { text.replace("\\n", "\n") }
}
