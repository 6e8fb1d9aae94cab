//! What `exec` has to know about a container, remembered from one command to the next.
//!
//! Opening the database, reading its log and its schema takes longer than all the rest of an `exec`. So what was read is
//! kept beside it, in `ROOT/known/XX` (XX is a hash of the name as it was typed), with the state of the database's files at
//! that time: their inodes, sizes and times of modification. Every commit changes one of these. What is remembered counts
//! only as long as all of them are the same; then nothing at all has been committed since, and asking again would give
//! the same answer. A commit that falls into the same tick of the clock as the one before it might go unnoticed, so
//! nothing is remembered until the files have rested. Whether the container runs is not remembered: that is looked at.

use std::collections::BTreeMap;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::Paths;
use crate::container::create::attributes;
use crate::records::ContainerRecord;

/// So long the files must not have changed. The kernel's coarsest clock ticks every 10 ms.
const REST: Duration = Duration::from_millis(100);

/// As many names are remembered.
const SLOTS: u64 = 64;

/// What `exec` needs of a record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Known {
    pub(crate) id: String,
    pub(crate) name: String,
    /// Additional groups of its processes.
    pub(crate) groups: Vec<String>,
    /// Those of its events.
    pub(crate) attributes: BTreeMap<String, String>,
}

impl From<&ContainerRecord> for Known {
    fn from(record: &ContainerRecord) -> Self {
        let groups = record.spec.containers.first().map(|c| c.process.groups.clone());
        Self {
            id: record.id.clone(),
            name: record.name.clone(),
            groups: groups.unwrap_or_default(),
            attributes: attributes(record),
        }
    }
}

/// Inode, size, seconds and nanoseconds of modification.
type FileState = (u64, u64, i64, i64);

/// The state of the database's files: equal states mean equal contents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State([Option<FileState>; 2]);

impl State {
    /// The present one.
    pub(crate) fn look(paths: &Paths) -> Self {
        let of = |name: &str| {
            let m = std::fs::metadata(paths.root().join(name)).ok()?;
            Some((m.ino(), m.len(), m.mtime(), m.mtime_nsec()))
        };
        Self([of("db.sqlite"), of("db.sqlite-wal")])
    }

    /// Whether the last change lies so far back that the next one will show.
    fn has_rested(&self) -> bool {
        let Ok(now) = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) else { return false };
        let rested = |(_, _, seconds, nanoseconds): &FileState| {
            let seconds = u64::try_from(*seconds).unwrap_or(u64::MAX);
            let nanoseconds = u32::try_from(*nanoseconds).unwrap_or(0);
            now.checked_sub(Duration::new(seconds, nanoseconds)).is_some_and(|age| age > REST)
        };
        self.0[0].is_some() && self.0.iter().flatten().all(rested)
    }
}

#[derive(Serialize, Deserialize)]
struct Note {
    typed: String,
    state: State,
    known: Known,
}

fn slot(paths: &Paths, typed: &str) -> PathBuf {
    let hash = typed
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    paths.root().join("known").join(format!("{:02x}", (hash ^ (hash >> 32)) % SLOTS))
}

/// What is remembered for a container named as typed, if it still holds.
pub(crate) fn recall(paths: &Paths, typed: &str) -> Option<Known> {
    let note: Note = serde_json::from_slice(&std::fs::read(slot(paths, typed)).ok()?).ok()?;
    (note.typed == typed && note.state == State::look(paths)).then_some(note.known)
}

/// Remembers what was read from the database after `state` was looked at.
pub(crate) fn remember(paths: &Paths, typed: &str, state: State, known: &Known) {
    if !state.has_rested() {
        return;
    }
    let note = Note { typed: typed.to_owned(), state, known: known.clone() };
    // Nothing depends on it: what cannot be written, or was torn by two writers at once, is asked for again.
    if let Ok(text) = serde_json::to_vec(&note) {
        let _ = replace(&slot(paths, typed), &text);
    }
}

fn replace(path: &Path, text: &[u8]) -> std::io::Result<()> {
    let new = path.with_extension("new");
    std::fs::write(&new, text).or_else(|_| {
        let parent = path.parent().unwrap_or(Path::new("/"));
        std::fs::DirBuilder::new().mode(0o700).create(parent)?;
        std::fs::write(&new, text)
    })?;
    std::fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Known {
        let (id, name) = ("0".repeat(64), "web".to_owned());
        Known { id, name, groups: Vec::new(), attributes: BTreeMap::new() }
    }

    #[test]
    fn holds_until_the_database_changes() {
        let dir = tempfile::tempdir().expect("directory");
        let paths = Paths::new(dir.path()).expect("paths");
        let db = dir.path().join("db.sqlite");
        std::fs::write(&db, "one").expect("write");
        let past = SystemTime::now() - Duration::from_secs(5);
        let age = |time| std::fs::File::options().write(true).open(&db).and_then(|f| f.set_modified(time));
        age(past).expect("age");
        remember(&paths, "web", State::look(&paths), &known());
        assert_eq!(recall(&paths, "web"), Some(known()));
        assert_eq!(recall(&paths, "we"), None);
        age(past + Duration::from_millis(20)).expect("age");
        assert_eq!(recall(&paths, "web"), None, "written again");
        age(past).expect("age");
        assert_eq!(recall(&paths, "web"), Some(known()));
        std::fs::write(dir.path().join("db.sqlite-wal"), "x").expect("write");
        assert_eq!(recall(&paths, "web"), None, "a commit in the log");
    }

    #[test]
    fn fresh_files_are_not_trusted() {
        let dir = tempfile::tempdir().expect("directory");
        let paths = Paths::new(dir.path()).expect("paths");
        std::fs::write(dir.path().join("db.sqlite"), "one").expect("write");
        remember(&paths, "web", State::look(&paths), &known());
        assert_eq!(recall(&paths, "web"), None);
    }
}
