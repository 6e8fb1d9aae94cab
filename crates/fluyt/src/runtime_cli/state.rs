//! Containers on disk: `ROOT/ID/state.json`, the configuration as it was, and the start socket of a created container.
//!
//! What can be looked at is not remembered: whether a container runs follows from its process, whether it was started from
//! the start socket, whether it is paused from its cgroup.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use fluyt_model::error::{Error, IoContext, Kind, Result};
use fluyt_runtime::spec::{Spec, State};
use fluyt_runtime::{Cgroup, CgroupPaths, process_stat};
use serde::{Deserialize, Serialize};

/// What is written once, when the container is created.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Record {
    pub(super) oci_version: String,
    pub(super) id: String,
    pub(super) pid: i32,
    pub(super) start_time: u64,
    pub(super) bundle: PathBuf,
    pub(super) rootfs: PathBuf,
    pub(super) created: String,
    pub(super) uid: u32,
    #[serde(default)]
    pub(super) annotations: BTreeMap<String, String>,
    pub(super) cgroup: CgroupPaths,
    #[serde(default)]
    pub(super) no_new_keyring: bool,
}

/// The life of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Created,
    Running,
    Paused,
    Stopped,
}

impl Status {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        }
    }
}

/// The directory of one container.
#[derive(Debug, Clone)]
pub(super) struct Dir(PathBuf);

impl Dir {
    /// Makes the directory of a new container.
    pub(super) fn create(root: &Path, id: &str) -> Result<Self> {
        fluyt_runtime::validate_id(id)?;
        let dir = root.join(id);
        let make =
            || std::os::unix::fs::DirBuilderExt::mode(&mut std::fs::DirBuilder::new(), 0o711).create(&dir);
        let made = match make() {
            Err(e) if e.kind() == ErrorKind::NotFound => {
                std::os::unix::fs::DirBuilderExt::mode(std::fs::DirBuilder::new().recursive(true), 0o700)
                    .create(root)
                    .about(|| root.display().to_string())?;
                make()
            }
            other => other,
        };
        match made {
            Ok(()) => Ok(Self(dir)),
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {
                Err(Error::conflict(format!("container with given ID already exists: {id}"))
                    .with_hint(format!("fluyt runtime delete {id}")))
            }
            Err(e) => Err(Error::io(dir.display().to_string(), e)),
        }
    }

    pub(super) fn existing(root: &Path, id: &str) -> Result<Self> {
        fluyt_runtime::validate_id(id)?;
        let dir = root.join(id);
        if dir.is_dir() {
            Ok(Self(dir))
        } else {
            Err(Error::not_found(format!("container does not exist: {id}")))
        }
    }

    pub(super) fn start_socket(&self) -> PathBuf {
        self.0.join("start.sock")
    }

    /// Writes the record in one piece; nobody reads a half one.
    pub(super) fn save(&self, record: &Record, config: &[u8]) -> Result<()> {
        let path = self.0.join("config.json");
        std::fs::write(&path, config).about(|| path.display().to_string())?;
        self.save_record(record)
    }

    pub(super) fn save_record(&self, record: &Record) -> Result<()> {
        let data = serde_json::to_vec(record).map_err(|e| Error::internal("state.json").with_source(e))?;
        replace(&self.0.join("state.json"), &data)
    }

    pub(super) fn record(&self) -> Result<Record> {
        let path = self.0.join("state.json");
        let data = std::fs::read(&path).map_err(|e| match e.kind() {
            ErrorKind::NotFound => Error::not_found(format!("container does not exist: {}", self.name())),
            _ => Error::io(path.display().to_string(), e),
        })?;
        serde_json::from_slice(&data).map_err(|e| Error::corrupt(path.display().to_string()).with_source(e))
    }

    pub(super) fn spec(&self) -> Result<Spec> {
        let path = self.0.join("config.json");
        let data = std::fs::read(&path).about(|| path.display().to_string())?;
        serde_json::from_slice(&data).map_err(|e| Error::corrupt(path.display().to_string()).with_source(e))
    }

    pub(super) fn remove(&self) -> Result<()> {
        for name in ["state.json", "config.json", "start.sock", "state.json.new"] {
            let _ = std::fs::remove_file(self.0.join(name));
        }
        match std::fs::remove_dir(&self.0) {
            Err(e) if e.kind() == ErrorKind::DirectoryNotEmpty => std::fs::remove_dir_all(&self.0),
            other => other,
        }
        .or_else(|e| if e.kind() == ErrorKind::NotFound { Ok(()) } else { Err(e) })
        .about(|| self.0.display().to_string())
    }

    fn name(&self) -> String {
        self.0.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
    }
}

/// Replaces a file atomically.
pub(super) fn replace(path: &Path, data: &[u8]) -> Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    std::fs::write(&new, data).about(|| new.display().to_string())?;
    std::fs::rename(&new, path).about(|| path.display().to_string())
}

/// A container found on disk.
pub(super) struct Container {
    pub(super) dir: Dir,
    pub(super) record: Record,
}

impl Container {
    pub(super) fn load(root: &Path, id: &str) -> Result<Self> {
        let dir = Dir::existing(root, id)?;
        let record = dir.record()?;
        Ok(Self { dir, record })
    }

    /// All containers below `root`; those that vanish meanwhile, or are only being made, are left out.
    pub(super) fn list(root: &Path) -> Result<Vec<Self>> {
        let entries = match std::fs::read_dir(root) {
            Ok(entries) => entries,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(Error::io(root.display().to_string(), e)),
        };
        let mut names: Vec<String> =
            entries.flatten().filter_map(|e| e.file_name().into_string().ok()).collect();
        names.sort();
        Ok(names.iter().filter_map(|n| Self::load(root, n).ok()).collect())
    }

    /// Whether the init process lives (a zombie does not).
    pub(super) fn is_alive(&self) -> bool {
        self.record.pid > 0 && alive(self.record.pid, self.record.start_time)
    }

    pub(super) fn status(&self) -> Status {
        if !self.is_alive() {
            return Status::Stopped;
        }
        if self.dir.start_socket().exists() {
            return Status::Created;
        }
        if self.cgroup().is_frozen().unwrap_or(false) { Status::Paused } else { Status::Running }
    }

    pub(super) fn cgroup(&self) -> Cgroup {
        Cgroup::open(&self.record.cgroup)
    }

    pub(super) fn state(&self, status: Status) -> State {
        State {
            oci_version: self.record.oci_version.clone(),
            id: self.record.id.clone(),
            status: status.name().to_owned(),
            pid: if status == Status::Stopped { 0 } else { self.record.pid },
            bundle: self.record.bundle.clone(),
            annotations: self.record.annotations.clone(),
        }
    }

    /// Refuses an operation that needs a living container.
    pub(super) fn expect(&self, wanted: &[Status], action: &str) -> Result<Status> {
        let status = self.status();
        if wanted.contains(&status) {
            return Ok(status);
        }
        Err(Error::new(Kind::Conflict, format!("cannot {action} a container that is {}", status.name())))
    }
}

/// Whether the process that had this pid and start time still runs.
pub(super) fn alive(pid: i32, start: u64) -> bool {
    process_stat(pid).is_ok_and(|s| s.start_time == start && !matches!(s.state, b'Z' | b'X'))
}
