//! Containers as they were read, kept in memory from one question to the next.
//!
//! Several processes change the records of a data root, so nothing in here is believed, all of it is compared:
//! - Whether anything has been committed, SQLite tells each connection ([`Db::version`](fluyt_image::Db::version)). As long
//!   as nothing has, what a connection has seen holds ([`Sights`], one for each engine).
//! - Otherwise rows are asked for again. One whose text is what it was stands for what was made of it then ([`Memory`],
//!   one for each process), so that a change to one container costs nothing for the others.
//! - What a container does is in its monitor's file. That is read again when its inode, size or times are others, and
//!   whenever it was so fresh at the last look that its times could not tell. Whether a monitor lives is not kept at all.

use std::any::Any;
use std::collections::{HashMap, HashSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use fluyt_image::Seen;
use fluyt_model::sandbox::{SandboxSpec, SandboxStatus};
use fluyt_model::{Error, Result};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::Paths;
use crate::api::{ContainerPaths, EndpointView, MountView};

/// As many containers are remembered, and as many names; who has more waits a little longer for the rest.
const MOST: usize = 2048;
/// A file that changed so shortly before it was read might change again without showing it: the kernel's coarsest clock
/// ticks every 10 ms.
const REST: Duration = Duration::from_millis(100);

/// What is recorded of a container: its row, and what was made of it.
#[derive(Debug, Default)]
pub struct Recorded {
    /// Full id.
    pub id: String,
    /// Name without a slash.
    pub name: String,
    /// Nanoseconds since the epoch.
    pub created: i64,
    /// What it should be.
    pub spec: SandboxSpec,
    /// Effective mounts (volumes named, sources resolved).
    pub mounts: Vec<MountView>,
    /// Files of the container on the host.
    pub paths: ContainerPaths,
    /// The record as it is stored.
    text: String,
    /// What a façade has made of its document.
    made: OnceLock<Arc<dyn Any + Send + Sync>>,
    /// The last status, and the state of the file it was in.
    status: Mutex<Option<(Stamp, Arc<SandboxStatus>)>>,
}

/// What is read of a record's text at once; the façade's document is not.
#[derive(Deserialize)]
struct Stored {
    spec: SandboxSpec,
    mounts: Vec<MountView>,
    lower: Vec<PathBuf>,
}

impl Recorded {
    fn read(paths: &Paths, id: &str, name: &str, created: i64, text: &str) -> serde_json::Result<Self> {
        let Stored { spec, mounts, lower } = serde_json::from_str(text)?;
        let dir = paths.container(id);
        let name_file = |file| crate::pod::name_file(paths, id, &spec, file);
        let paths = ContainerPaths {
            log: super::start::log_path(&dir, id, &spec),
            resolv_conf: name_file("resolv.conf"),
            hostname: dir.join("hostname"),
            hosts: name_file("hosts"),
            lower,
            upper: dir.join("upper"),
            work: dir.join("work"),
            dir,
        };
        let (id, name, text) = (id.to_owned(), name.to_owned(), text.to_owned());
        Ok(Self { id, name, created, spec, mounts, paths, text, ..Self::default() })
    }

    /// A container that is nowhere, with a façade's document and nothing else: for who renders such.
    #[must_use]
    pub fn imagined(id: &str, document: &serde_json::Value) -> Self {
        let text = serde_json::json!({ "document": document }).to_string();
        Self { id: id.to_owned(), text, ..Self::default() }
    }

    /// The façade's document; `None` if it is not what the façade takes it for.
    #[must_use]
    pub fn document<T: DeserializeOwned>(&self) -> Option<T> {
        #[derive(Deserialize)]
        struct Only<T> {
            document: T,
        }
        serde_json::from_str(&self.text).ok().map(|Only { document }| document)
    }

    /// What `make` makes of this record: made once, for all views of it. It must depend on nothing else.
    pub fn made<T: Send + Sync + 'static>(&self, make: impl Fn() -> T) -> Arc<T> {
        let known = self.made.get_or_init(|| Arc::new(make()));
        Arc::clone(known).downcast().unwrap_or_else(|_| Arc::new(make()))
    }

    /// What the monitor wrote last; a container that was never started has a status of its own.
    ///
    /// # Errors
    /// The file exists but cannot be read.
    pub(crate) fn last_status(&self) -> Result<Arc<SandboxStatus>> {
        let path = self.paths.dir.join("state.json");
        let stamp = match Stamp::of(&path) {
            Ok(stamp) => stamp,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Arc::default()),
            Err(e) => return Err(Error::io(path.display().to_string(), e)),
        };
        if let Some((known, status)) = &*self.status()
            && *known == stamp
        {
            return Ok(Arc::clone(status));
        }
        // Of what was looked at, or newer; then the file will never again be as it was.
        let status = Arc::new(fluyt_monitor::state::load(&self.paths.dir)?);
        *self.status() = stamp.has_rested().then(|| (stamp, Arc::clone(&status)));
        Ok(status)
    }

    fn status(&self) -> MutexGuard<'_, Option<(Stamp, Arc<SandboxStatus>)>> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The state of a file that is replaced, never written in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(path: &Path) -> std::io::Result<Self> {
        let m = std::fs::metadata(path)?;
        Ok(Self {
            inode: m.ino(),
            size: m.size(),
            modified: (m.mtime(), m.mtime_nsec()),
            changed: (m.ctime(), m.ctime_nsec()),
        })
    }

    /// Whether the next change will show.
    fn has_rested(&self) -> bool {
        let Ok(now) = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) else { return false };
        let (seconds, nanoseconds) = self.modified.max(self.changed);
        let seconds = u64::try_from(seconds).unwrap_or(u64::MAX);
        let nanoseconds = u32::try_from(nanoseconds).unwrap_or(0);
        now.checked_sub(Duration::new(seconds, nanoseconds)).is_some_and(|age| age > REST)
    }
}

/// The records that a process has read, by the containers' ids.
#[derive(Debug, Default)]
pub struct Memory(Mutex<HashMap<String, Arc<Recorded>>>);

impl Memory {
    /// What a row says: what was made of it before if it is the same, else read now.
    pub(crate) fn take(
        &self,
        paths: &Paths,
        (id, name, created, text): (&str, &str, i64, &str),
    ) -> serde_json::Result<Arc<Recorded>> {
        let mut known = self.lock();
        if let Some(old) = known.get(id)
            && old.text == text
            && old.name == name
            && old.created == created
        {
            return Ok(Arc::clone(old));
        }
        let new = Arc::new(Recorded::read(paths, id, name, created, text)?);
        if known.len() < MOST || known.contains_key(id) {
            known.insert(id.to_owned(), Arc::clone(&new));
        }
        Ok(new)
    }

    /// Forgets whom nobody has any longer.
    pub(crate) fn keep_only(&self, sights: &[Sight]) {
        let mut known = self.lock();
        if known.len() > sights.len() {
            let there: HashSet<&str> = sights.iter().map(|(recorded, _)| recorded.id.as_str()).collect();
            known.retain(|id, _| there.contains(id.as_str()));
        }
    }

    /// Forgets one.
    pub(crate) fn forget(&self, id: &str) {
        self.lock().remove(id);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Recorded>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A container as the records have it: its own, and its plugs.
pub(crate) type Sight = (Arc<Recorded>, Arc<[EndpointView]>);

/// What one connection has seen since the last change.
#[derive(Default)]
pub(crate) struct Sights {
    version: Option<Seen>,
    /// By the names that were asked for.
    named: HashMap<String, Sight>,
    all: Option<Arc<[Sight]>>,
}

impl Sights {
    /// These, emptied if anything has changed.
    pub(crate) fn at(&mut self, version: Seen) -> &mut Self {
        if self.version != Some(version) {
            *self = Self { version: Some(version), ..Self::default() };
        }
        self
    }

    pub(crate) fn named(&self, name: &str) -> Option<Sight> {
        self.named.get(name).cloned()
    }

    pub(crate) fn name(&mut self, name: &str, sight: &Sight) {
        if self.named.len() >= MOST {
            self.named.clear();
        }
        self.named.insert(name.to_owned(), sight.clone());
    }

    pub(crate) fn all(&self) -> Option<Arc<[Sight]>> {
        self.all.clone()
    }

    pub(crate) fn set_all(&mut self, all: &Arc<[Sight]>) {
        self.all = (all.len() <= MOST).then(|| Arc::clone(all));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"{"spec":{},"document":{"a":1},"mounts":[],"lower":[]}"#;

    fn status(dir: &Path, code: i32) {
        let status = SandboxStatus { exit_code: code, ..SandboxStatus::default() };
        fluyt_monitor::state::save(dir, &status).expect("status");
    }

    #[test]
    fn rows_stand_for_what_was_made_of_them_as_long_as_they_are_the_same() {
        let dir = tempfile::tempdir().expect("directory");
        let paths = Paths::new(dir.path()).expect("paths");
        let memory = Memory::default();
        let take = |name: &str, text: &str| memory.take(&paths, ("id", name, 1, text)).expect("record");
        let first = take("web", TEXT);
        let made = first.made(|| 7_u8);
        assert!(Arc::ptr_eq(&first, &take("web", TEXT)));
        assert!(Arc::ptr_eq(&made, &take("web", TEXT).made(|| 8_u8)));
        assert_eq!(*first.made(|| "another kind"), "another kind");
        assert_eq!(take("other", TEXT).name, "other");
        let changed = take("other", &TEXT.replace("\"a\":1", "\"a\":2"));
        assert_eq!(changed.document::<serde_json::Value>(), Some(serde_json::json!({"a": 2})));
        assert_eq!(*changed.made(|| 9_u8), 9);
        memory.keep_only(&[]);
        assert!(!Arc::ptr_eq(&changed, &take("other", &changed.text)));
    }

    #[test]
    fn a_status_is_read_again_when_its_file_is_another() {
        let dir = tempfile::tempdir().expect("directory");
        let paths = Paths::new(dir.path()).expect("paths");
        let record = Recorded::read(&paths, "id", "web", 1, TEXT).expect("record");
        let own = &record.paths.dir;
        std::fs::create_dir_all(own).expect("directory");
        assert_eq!(record.last_status().expect("status").exit_code, 0);
        // Two in one tick of the clock: neither is trusted.
        for code in 1..20 {
            status(own, code);
            assert_eq!(record.last_status().expect("status").exit_code, code);
        }
        std::thread::sleep(REST * 2);
        let rested = record.last_status().expect("status");
        assert!(Arc::ptr_eq(&rested, &record.last_status().expect("status")));
        status(own, 21);
        assert_eq!(record.last_status().expect("status").exit_code, 21);
    }
}
