//! The document of a cache that is kept elsewhere: which keys lead to which layers. Pure.
//!
//! ```text
//! {"version": 1,
//!  "layers":  ["sha256:…", …],            diff ids; the layers of the manifest, or of the image, in the same order
//!  "records": [{"keys": ["sha256:…", …],  the definition key and the content key of a result
//!               "layers": [0, 1, 4],      its layers, lowest first, by their place above
//!               "note": "[2/4] RUN"}, …]}
//! ```
//!
//! It is the configuration of a manifest (media type [`MEDIA_TYPE`]), or stands in the configuration of an image under
//! `fluyt.buildcache.v1`, then without `layers`, which are the image's own. It holds no times and no names of a machine:
//! the same build writes the same bytes. What is read is another's and is checked here before anything is done with it.

use fluyt_image::Digest;
use fluyt_model::{Error, Result};
use serde::{Deserialize, Serialize};

/// The media type of the document as a manifest's configuration.
pub const MEDIA_TYPE: &str = "application/vnd.fluyt.buildcache.config.v1+json";
/// BuildKit's counterpart, whose keys are made of other things: nothing in it can be found by ours.
pub const BUILDKIT_MEDIA_TYPE: &str = "application/vnd.buildkit.cacheconfig.v0";
/// The version that is written.
const VERSION: u32 = 1;
/// More records than any Dockerfile makes.
const MAX_RECORDS: usize = 100_000;
/// What a note may have of another's text, in characters.
const MAX_NOTE: usize = 1000;
/// As many layers as an image may have.
const MAX_DEPTH: usize = 500;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// Of the rules of this document.
    pub version: u32,
    /// Diff ids; empty in an image.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<Digest>,
    /// What is found.
    #[serde(default)]
    pub records: Vec<Record>,
}

/// A result.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// What it is found under.
    pub keys: Vec<Digest>,
    /// Places in [`Document::layers`], lowest first.
    pub layers: Vec<usize>,
    /// What made it, for people.
    #[serde(default)]
    pub note: String,
}

impl Document {
    /// A document of these records. Their order does not matter: it is made the same always.
    #[must_use]
    pub fn new(layers: Vec<Digest>, mut records: Vec<Record>) -> Self {
        for record in &mut records {
            record.keys.sort();
            record.keys.dedup();
        }
        records.sort_by(|a, b| (&a.layers, &a.keys).cmp(&(&b.layers, &b.keys)));
        records.dedup();
        Self { version: VERSION, layers, records }
    }

    /// Reads a document of `name`.
    ///
    /// # Errors
    /// `Corrupt` when it is none; `Unsupported` for another version; as [`Document::check`].
    pub fn parse(bytes: &[u8], name: &str) -> Result<Self> {
        let mut document: Self = serde_json::from_slice(bytes)
            .map_err(|e| Error::corrupt(format!("build cache {name}")).with_source(e))?;
        document.clean();
        document.check(name, document.layers.len())?;
        Ok(document)
    }

    /// Takes from notes what would play tricks on a terminal.
    pub fn clean(&mut self) {
        for record in &mut self.records {
            if record.note.chars().any(char::is_control) || record.note.len() > MAX_NOTE {
                record.note = record.note.chars().filter(|c| !c.is_control()).take(MAX_NOTE).collect();
            }
        }
    }

    /// Whether its records make sense over `count` layers.
    ///
    /// # Errors
    /// `Unsupported` for another version; `Corrupt` for a record that leads to layers that do not exist.
    pub fn check(&self, name: &str, count: usize) -> Result<()> {
        if self.version != VERSION {
            return Err(Error::unsupported(format!("build cache {name}: version {}", self.version))
                .with_hint("another version of this program wrote it; let this one write it anew"));
        }
        let bad = |what: &str| Err(Error::corrupt(format!("build cache {name}: {what}")));
        if self.records.len() > MAX_RECORDS || self.records.iter().any(|r| r.keys.len() > MAX_RECORDS) {
            return bad("too many records");
        }
        for record in &self.records {
            if record.layers.len() > MAX_DEPTH {
                return bad("a record with too many layers");
            }
            if record.layers.iter().any(|at| *at >= count) {
                return bad("a record names a layer that is not there");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(text: &str) -> Digest {
        Digest::of(text.as_bytes())
    }

    fn record(keys: &[&str], layers: &[usize]) -> Record {
        Record {
            keys: keys.iter().map(|k| digest(k)).collect(),
            layers: layers.to_vec(),
            note: String::new(),
        }
    }

    #[test]
    fn the_same_records_give_the_same_bytes() {
        let layers = vec![digest("1"), digest("2")];
        let one = Document::new(layers.clone(), vec![record(&["a", "b"], &[0]), record(&["c"], &[0, 1])]);
        let two = Document::new(layers, vec![record(&["c", "c"], &[0, 1]), record(&["b", "a"], &[0])]);
        assert_eq!(one, two);
        let bytes = serde_json::to_vec(&one).unwrap();
        assert_eq!(Document::parse(&bytes, "x").unwrap(), one);
    }

    #[test]
    fn notes_of_others_are_plain_text() {
        let text = r#"{"version":1,"records":[{"keys":[],"layers":[],"note":"a\u001b[2Jb\nc"}]}"#;
        assert_eq!(Document::parse(text.as_bytes(), "x").unwrap().records[0].note, "a[2Jbc");
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let layers =
            r#""layers":["sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"]"#;
        for (text, expected) in [
            ("".to_owned(), "build cache x"),
            ("[]".to_owned(), "build cache x"),
            (r#"{"version":2}"#.to_owned(), "version 2"),
            (r#"{"version":1,"layers":["../../etc/passwd"]}"#.to_owned(), "build cache x"),
            (format!(r#"{{"version":1,{layers},"records":[{{"keys":[],"layers":[1]}}]}}"#), "not there"),
            (
                format!(r#"{{"version":1,{layers},"records":[{{"keys":["k"],"layers":[0]}}]}}"#),
                "build cache x",
            ),
            (
                format!(r#"{{"version":1,{layers},"records":[{{"keys":[],"layers":{:?}}}]}}"#, vec![0; 501]),
                "too many layers",
            ),
        ] {
            let error = Document::parse(text.as_bytes(), "x").expect_err(&text).to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(Document::parse(deep.as_bytes(), "x").is_err());
    }
}
