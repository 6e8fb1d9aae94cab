//! The two files through which a monitor tells the world: `state.json` and the event journal.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use fluyt_model::error::IoContext;
use fluyt_model::sandbox::SandboxStatus;
use fluyt_model::{Error, Result};
use serde::{Deserialize, Serialize};

/// The journal is started anew when it is longer than this; one older part is kept.
const MAX_JOURNAL: u64 = 16 << 20;

/// Now, in nanoseconds since the epoch.
#[must_use]
pub fn now() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| i64::try_from(d.as_nanos()).unwrap_or(i64::MAX))
}

/// Replaces `DIR/state.json`; a reader sees the old or the new status, never a part.
///
/// # Errors
/// The file cannot be written (no space, say); the old one stays.
pub fn save(dir: &Path, status: &SandboxStatus) -> Result<()> {
    let text = serde_json::to_vec(status).map_err(|e| Error::internal("status").with_source(e))?;
    let (temporary, path) = (dir.join("state.json.new"), dir.join("state.json"));
    std::fs::write(&temporary, text).about(|| temporary.display().to_string())?;
    std::fs::rename(&temporary, &path).about(|| path.display().to_string())
}

/// Reads `DIR/state.json`; a container that was never started has none.
///
/// # Errors
/// The file exists but cannot be read or parsed.
pub fn load(dir: &Path) -> Result<SandboxStatus> {
    let path = dir.join("state.json");
    match std::fs::read(&path) {
        Ok(text) => serde_json::from_slice(&text)
            .map_err(|e| Error::corrupt(path.display().to_string()).with_source(e)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(SandboxStatus::default()),
        Err(e) => Err(Error::io(path.display().to_string(), e)),
    }
}

/// What an event tells of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// `container`, `network`, `volume`, `image`, …
    pub kind: String,
    /// Its id; the name of a volume.
    pub id: String,
    /// What listeners may want to know of it.
    pub attributes: BTreeMap<String, String>,
}

#[derive(Serialize)]
struct Entry<'a> {
    action: &'a str,
    #[serde(flatten)]
    subject: &'a Subject,
    time: i64,
}

/// Appends events, each an action and what it happened to, to the journal as one write: lines of several processes never mix.
///
/// # Errors
/// The journal cannot be opened or written.
pub fn emit(journal: &Path, events: &[(&str, &Subject)]) -> Result<()> {
    let about = || journal.display().to_string();
    let mut lines = Vec::new();
    for (action, subject) in events {
        serde_json::to_writer(&mut lines, &Entry { action, subject, time: now() })
            .map_err(|e| Error::internal("event").with_source(e))?;
        lines.push(b'\n');
    }
    let mut file = open(journal).about(about)?;
    if file.metadata().about(about)?.len() > MAX_JOURNAL {
        // Two processes may both do this; the worst outcome is a shorter history.
        let _ = std::fs::rename(journal, journal.with_extension("jsonl.1"));
        file = open(journal).about(about)?;
    }
    file.write_all(&lines).about(about)
}

fn open(journal: &Path) -> std::io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(journal)
}
