//! A unit file: sections of keys with their comments, as systemd reads it (systemd.syntax(7)), and as text again.
//!
//! Every key remembers the file and the line that it came from. Values are kept as they are; who looks one up says how it is read.

use std::fmt::Write as _;
use std::sync::Arc;

use fluyt_model::{Error, Result};

/// A line of a section.
#[derive(Clone, Debug)]
enum Line {
    Comment(String),
    Key(Entry),
}

/// A key with its value and where it was written.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// The value as written, without blanks around it, continuation lines joined.
    pub value: String,
    /// The file; empty for what was not read from any.
    pub file: Arc<str>,
    /// The line of that file, from one.
    pub line: u32,
}

#[derive(Clone, Debug, Default)]
struct Section {
    name: String,
    /// What stands before it.
    comments: Vec<String>,
    lines: Vec<Line>,
}

impl Section {
    fn entries(&self) -> impl DoubleEndedIterator<Item = &Entry> {
        self.lines.iter().filter_map(|line| match line {
            Line::Key(entry) => Some(entry),
            Line::Comment(_) => None,
        })
    }
}

/// A unit file.
#[derive(Clone, Debug, Default)]
pub struct Unit {
    /// Its file name, `web.container`.
    pub name: String,
    /// Where it is.
    pub path: String,
    sections: Vec<Section>,
}

impl Unit {
    /// Reads the file at `path` whose content is `text`.
    ///
    /// # Errors
    /// `Invalid`, naming file and line: what is neither a section, nor a key with a value, nor a comment.
    pub fn parse(path: &str, text: &str) -> Result<Self> {
        let name = path.rsplit('/').next().unwrap_or(path).to_owned();
        let mut unit = Self { name, path: path.to_owned(), sections: Vec::new() };
        let file: Arc<str> = path.into();
        let mut current = None;
        let mut comments = Vec::new();
        for (line, text) in logical_lines(text) {
            if text.is_empty() || text.starts_with(['#', ';']) {
                comments.push(text);
                continue;
            }
            let wrong = |why: &str| Error::invalid(format!("{path}, line {line}: {why}: {text}"));
            if let Some(name) = text.strip_prefix('[') {
                let name = name.strip_suffix(']').filter(|n| !n.is_empty() && !n.contains(['[', ']']));
                let name = name.ok_or_else(|| wrong("not the name of a section"))?;
                let index = unit.section(name);
                // One empty line before a section is written anyway.
                let before = usize::from(comments.first().is_some_and(String::is_empty));
                unit.sections[index].comments.extend(comments.drain(..).skip(before));
                current = Some(index);
                continue;
            }
            let Some((key, value)) = text.split_once('=') else {
                return Err(wrong("neither a section, nor a key with a value, nor a comment"));
            };
            let key = key.trim_end();
            if key.is_empty() {
                return Err(wrong("a value without a key"));
            }
            let index = current.ok_or_else(|| wrong("a key before any section"))?;
            let lines = &mut unit.sections[index].lines;
            lines.extend(comments.drain(..).map(Line::Comment));
            let value = value.trim_start().to_owned();
            lines.push(Line::Key(Entry { key: key.to_owned(), value, file: Arc::clone(&file), line }));
        }
        match unit.sections.last_mut() {
            Some(section) => section.lines.extend(comments.into_iter().map(Line::Comment)),
            None => unit.sections.push(Section { comments, ..Section::default() }),
        }
        Ok(unit)
    }

    fn section(&mut self, name: &str) -> usize {
        if let Some(index) = self.sections.iter().position(|s| s.name == name) {
            return index;
        }
        self.sections.push(Section { name: name.to_owned(), ..Section::default() });
        self.sections.len() - 1
    }

    fn find(&self, name: &str) -> Option<&Section> {
        self.sections.iter().find(|s| s.name == name)
    }

    /// Whether the section is there.
    #[must_use]
    pub fn has_section(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// Appends everything of `other`, a drop-in.
    pub fn merge(&mut self, other: Self) {
        for section in other.sections {
            let index = self.section(&section.name);
            self.sections[index].comments.extend(section.comments);
            self.sections[index].lines.extend(section.lines);
        }
    }

    /// The keys of a section in their order, as often as they were given.
    pub fn entries(&self, section: &str) -> impl DoubleEndedIterator<Item = &Entry> {
        self.find(section).into_iter().flat_map(Section::entries)
    }

    /// Whether the key was given.
    #[must_use]
    pub fn has(&self, section: &str, key: &str) -> bool {
        self.entries(section).any(|entry| entry.key == key)
    }

    /// The value that was given last, without blanks at its end.
    #[must_use]
    pub fn raw(&self, section: &str, key: &str) -> Option<&str> {
        self.entries(section).rev().find(|entry| entry.key == key).map(|entry| entry.value.trim_end())
    }

    /// The same without the double quotes that surround it.
    #[must_use]
    pub fn last(&self, section: &str, key: &str) -> Option<&str> {
        let value = self.raw(section, key)?;
        Some(value.strip_prefix('"').and_then(|v| v.strip_suffix('"')).unwrap_or(value))
    }

    /// The same if it is not empty.
    #[must_use]
    pub fn text(&self, section: &str, key: &str) -> Option<&str> {
        self.last(section, key).filter(|value| !value.is_empty())
    }

    /// The last value as a boolean: `1`, `yes`, `true` and `on` are true, everything else is false.
    #[must_use]
    pub fn boolean(&self, section: &str, key: &str) -> Option<bool> {
        let value = self.last(section, key)?;
        Some(["1", "yes", "true", "on"].iter().any(|yes| value.eq_ignore_ascii_case(yes)))
    }

    /// All values since the last empty one.
    #[must_use]
    pub fn all(&self, section: &str, key: &str) -> Vec<&str> {
        let mut values = Vec::new();
        for entry in self.entries(section).filter(|entry| entry.key == key) {
            match entry.value.as_str() {
                "" => values.clear(),
                value => values.push(value),
            }
        }
        values
    }

    /// Appends a key.
    pub fn add(&mut self, section: &str, key: &str, value: impl Into<String>) {
        let index = self.section(section);
        self.sections[index].lines.push(made(key, value));
    }

    /// Puts a key before all others of its section.
    pub fn prepend(&mut self, section: &str, key: &str, value: impl Into<String>) {
        let index = self.section(section);
        self.sections[index].lines.insert(0, made(key, value));
    }

    /// Gives the last of these keys another value, or appends it.
    pub fn set(&mut self, section: &str, key: &str, value: impl Into<String>) {
        let index = self.section(section);
        let found = self.sections[index].lines.iter_mut().rev().find_map(|line| match line {
            Line::Key(entry) if entry.key == key => Some(entry),
            _ => None,
        });
        match found {
            Some(entry) => entry.value = value.into(),
            None => self.add(section, key, value),
        }
    }

    /// Takes all these keys away.
    pub fn unset(&mut self, section: &str, key: &str) {
        if let Some(section) = self.sections.iter_mut().find(|s| s.name == section) {
            section.lines.retain(|line| !matches!(line, Line::Key(entry) if entry.key == key));
        }
    }

    /// Gives a section another name.
    pub fn rename(&mut self, section: &str, name: &str) {
        let Some(at) = self.sections.iter().position(|s| s.name == section) else { return };
        match self.sections.iter().position(|s| s.name == name) {
            None => self.sections[at].name = name.to_owned(),
            Some(into) if into != at => {
                let moved = std::mem::take(&mut self.sections[at]);
                self.sections[into].comments.extend(moved.comments);
                self.sections[into].lines.extend(moved.lines);
                self.sections.remove(at);
            }
            Some(_) => {}
        }
    }

    /// The file's text.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut out = String::new();
        for (index, section) in self.sections.iter().enumerate() {
            if index > 0 {
                out.push('\n');
            }
            for comment in &section.comments {
                let _ = writeln!(out, "{comment}");
            }
            if section.name.is_empty() {
                continue;
            }
            let _ = writeln!(out, "[{}]", section.name);
            for line in &section.lines {
                let _ = match line {
                    Line::Comment(text) => writeln!(out, "{text}"),
                    Line::Key(entry) => writeln!(out, "{}={}", entry.key, entry.value),
                };
            }
        }
        out
    }
}

fn made(key: &str, value: impl Into<String>) -> Line {
    Line::Key(Entry { key: key.to_owned(), value: value.into(), file: "".into(), line: 0 })
}

/// The lines of `text` with the number of their first line; a backslash at the end of one joins the next to it, and
/// comments and empty lines between are skipped.
fn logical_lines(text: &str) -> Vec<(u32, String)> {
    let mut lines = Vec::new();
    let mut open: Option<(u32, String)> = None;
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if open.is_some() && (line.is_empty() || line.starts_with(['#', ';'])) {
            continue;
        }
        let comment = line.starts_with(['#', ';']);
        let (text, continued) = match line.strip_suffix('\\') {
            Some(text) if !comment => (text, true),
            _ => (line, false),
        };
        let (first, mut whole) = open.take().unwrap_or((number, String::new()));
        whole.push_str(text);
        if continued {
            // systemd puts a blank where the backslash was.
            if !whole.ends_with(' ') {
                whole.push(' ');
            }
            open = Some((first, whole));
        } else {
            lines.push((first, whole));
        }
    }
    lines.extend(open);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# head\n\n[Unit]\nDescription = A b \n\n; why\n[Container]\nImage=\"a/b\"\nExec=one \\\n# not \
                        this\n  two\\\nthree\nVolume=a\nVolume=\nVolume=b\nVolume=c\nReadOnly=On\n";

    #[test]
    fn a_unit_is_read_and_written() {
        let unit = Unit::parse("/d/web.container", TEXT).unwrap();
        assert_eq!(unit.name, "web.container");
        assert_eq!(unit.last("Unit", "Description"), Some("A b"));
        assert_eq!(unit.last("Container", "Image"), Some("a/b"));
        assert_eq!(unit.raw("Container", "Exec"), Some("one two three"));
        assert_eq!(unit.all("Container", "Volume"), ["b", "c"]);
        assert_eq!(unit.boolean("Container", "ReadOnly"), Some(true));
        assert_eq!(unit.boolean("Container", "Nothing"), None);
        let image = unit.entries("Container").next().unwrap();
        assert_eq!((&*image.file, image.line), ("/d/web.container", 8));
        let text = unit.to_text();
        assert!(text.starts_with("# head\n\n[Unit]\nDescription=A b\n\n; why\n[Container]\n"), "{text}");
        assert_eq!(Unit::parse("/d/web.container", &text).unwrap().to_text(), text);
    }

    #[test]
    fn sections_change_their_names_and_keys_their_values() {
        let mut unit = Unit::parse("x.volume", "[Volume]\nA=1\n[X-Volume]\nB=2\n").unwrap();
        unit.rename("Volume", "X-Volume");
        unit.prepend("Unit", "After", "x");
        unit.prepend("Unit", "Wants", "x");
        unit.set("X-Volume", "B", "3");
        unit.set("X-Volume", "C", "4");
        unit.unset("X-Volume", "A");
        assert_eq!(unit.to_text(), "[X-Volume]\nB=3\nC=4\n\n[Unit]\nWants=x\nAfter=x\n");
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        for (text, line, why) in [
            ("[Unit]\nrubbish\n", 2, "neither a section"),
            ("A=1\n", 1, "before any section"),
            ("[Unit]\n\n=1\n", 3, "without a key"),
            ("[Un[it]\n", 1, "name of a section"),
            ("[]\n", 1, "name of a section"),
        ] {
            let error = Unit::parse("/d/x.pod", text).unwrap_err().to_string();
            assert!(error.starts_with(&format!("/d/x.pod, line {line}: ")) && error.contains(why), "{error}");
        }
        assert_eq!(Unit::parse("x.pod", "# only\n").unwrap().to_text(), "# only\n");
    }
}
