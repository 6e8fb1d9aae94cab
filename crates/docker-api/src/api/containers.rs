//! Containers: parameters, results, operations.

use std::io::Read;

use fluyt_model::Result;

use super::{Attached, Filters, Follow, Output};
use crate::types::{
    ContainerInspect, ContainerStats, ContainerSummary, CreateRequest, CreateResponse, UpdateConfig,
};

pub use fluyt_engine::{Change, LogLine, PathStat, WaitCondition};

/// Which containers are listed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListContainers {
    /// Stopped ones too.
    pub all: bool,
    /// The newest so many, stopped ones too; `None`: all.
    pub limit: Option<usize>,
    /// With what they take on disk.
    pub size: bool,
    /// `ancestor`, `before`, `exited`, `expose`, `health`, `id`, `is-task`, `label`, `name`, `network`, `pod`,
    /// `publish`, `since`, `status`, `volume`.
    pub filters: Filters,
}

/// A container to be made.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CreateContainer {
    /// Its name; empty: one is made up.
    pub name: String,
    /// `os[/arch[/variant]]` that the image must be for; empty: whatever is there.
    pub platform: String,
    /// What it is.
    pub request: CreateRequest,
    /// A policy of signatures, instead of the machine's (an extension).
    pub signature_policy: Option<String>,
}

/// Which log lines are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogsOf {
    /// Go on as lines come.
    pub follow: bool,
    /// Standard output.
    pub stdout: bool,
    /// Standard error.
    pub stderr: bool,
    /// Nanoseconds since 1970: not before.
    pub since: Option<i64>,
    /// Nanoseconds since 1970: not after.
    pub until: Option<i64>,
    /// Only the last so many lines.
    pub tail: Option<u64>,
    /// Lines carry the attributes that the log options asked for. (Time stamps are always there.)
    pub details: bool,
}

/// What an opened log says about itself.
pub struct Logs {
    /// The container has a terminal: there is one stream, and it is not framed over HTTP.
    pub tty: bool,
    /// The lines.
    pub lines: Box<dyn Follow<LogLine>>,
}

/// How statistics are asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatsOf {
    /// A sample a second until the container is removed; otherwise one.
    pub stream: bool,
    /// The one sample is not preceded by another to compare with: it comes at once.
    pub one_shot: bool,
}

/// How a container is started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StartContainer {
    /// Its terminal's size, rows and columns, if the caller knows it.
    pub size: Option<(u16, u16)>,
}

/// How a container is stopped or restarted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StopContainer {
    /// Signal instead of the container's own; empty: its own.
    pub signal: String,
    /// Seconds until it is killed; `None`: its own; negative: never.
    pub timeout: Option<i64>,
}

/// How a container is removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RemoveContainer {
    /// Kill it first.
    pub force: bool,
    /// Its anonymous volumes too.
    pub volumes: bool,
    /// Remove a link by that name instead (legacy; refused).
    pub link: bool,
}

/// How a container is attached to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AttachContainer {
    /// What was logged before comes first.
    pub logs: bool,
    /// What comes from now on. A container that does not run is waited for.
    pub stream: bool,
    /// Input.
    pub stdin: bool,
    /// Output.
    pub stdout: bool,
    /// Errors.
    pub stderr: bool,
    /// Keys by which the caller detaches, in Docker's words; empty: the default. For a daemon that watches for them too.
    pub detach_keys: String,
    /// The caller removes an auto-removed container itself when it has ended (a command line without an engine).
    pub removes: bool,
}

/// An attached container.
pub struct AttachedContainer {
    /// It has a terminal.
    pub tty: bool,
    /// Its standard input is open.
    pub open_stdin: bool,
    /// The connection.
    pub session: Box<dyn Attached>,
}

/// What a wait found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Waited {
    /// Exit code, 128 + signal if it was killed.
    pub code: i64,
    /// Why there is none to speak of.
    pub error: String,
}

/// How an archive is unpacked into a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PutArchive {
    /// A directory.
    pub path: String,
    /// Refuse to replace a directory by something else, and the other way round.
    pub no_overwrite_dir_non_dir: bool,
    /// Keep the archive's owners; otherwise everything belongs to root.
    pub copy_uid_gid: bool,
}

/// The processes of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Processes {
    /// Columns.
    pub titles: Vec<String>,
    /// Rows.
    pub processes: Vec<Vec<String>>,
}

/// What a prune removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Ids or names.
    pub deleted: Vec<String>,
    /// Bytes that came free.
    pub space: u64,
}

/// What can be asked of and about containers. `name` is a name, an id, or an unambiguous beginning of one; an unknown
/// one is `NotFound`.
#[allow(clippy::missing_errors_doc)] // each: `NotFound`, and what the sentence says
pub trait Containers {
    /// The containers, newest first. `Invalid` for unknown filters.
    fn container_list(&self, wanted: &ListContainers) -> Result<Vec<ContainerSummary>>;

    /// Makes one. `NotFound` without its image, `Conflict` if the name is taken.
    fn container_create(&self, wanted: CreateContainer) -> Result<CreateResponse>;

    /// All about one, with what it takes on disk if `size`.
    fn container_inspect(&self, name: &str, size: bool) -> Result<ContainerInspect>;

    /// Its processes, by `ps` options (empty: `-ef`). `Conflict` if it does not run.
    fn container_top(&self, name: &str, ps_args: &[String]) -> Result<Processes>;

    /// Opens its log. `Unsupported` if its driver keeps nothing that can be read.
    fn container_logs(&self, name: &str, wanted: LogsOf) -> Result<Logs>;

    /// What differs from its image.
    fn container_changes(&self, name: &str) -> Result<Vec<Change>>;

    /// Its file system as a tar archive.
    fn container_export(&self, name: &str) -> Result<Output>;

    /// What it uses.
    fn container_stats(&self, name: &str, wanted: StatsOf) -> Result<Box<dyn Follow<ContainerStats>>>;

    /// Tells its terminal its size. `Conflict` if it does not run.
    fn container_resize(&self, name: &str, rows: u16, columns: u16) -> Result<()>;

    /// Starts it; whether it did not run before.
    fn container_start(&self, name: &str, how: &StartContainer) -> Result<bool>;

    /// Stops it; whether it ran before.
    fn container_stop(&self, name: &str, how: &StopContainer) -> Result<bool>;

    /// Stops and starts it.
    fn container_restart(&self, name: &str, how: &StopContainer) -> Result<()>;

    /// Sends a signal (empty: KILL). `Conflict` if it does not run.
    fn container_kill(&self, name: &str, signal: &str) -> Result<()>;

    /// Changes limits and restart policy; warnings come back.
    fn container_update(&self, name: &str, config: &UpdateConfig) -> Result<Vec<String>>;

    /// Gives it another name. `Conflict` if that is taken.
    fn container_rename(&self, name: &str, new: &str) -> Result<()>;

    /// Freezes it. `Conflict` if it does not run.
    fn container_pause(&self, name: &str) -> Result<()>;

    /// Lets it go on. `Conflict` if it is not paused.
    fn container_unpause(&self, name: &str) -> Result<()>;

    /// Attaches to it. One that does not run is waited for: whoever starts it connects this session before the first
    /// instruction. `Conflict` if it is paused or restarting.
    fn container_attach(&self, name: &str, how: AttachContainer) -> Result<AttachedContainer>;

    /// Waits: the container has been found when this returns, and the state from which `condition` counts has been
    /// noted, so that a caller may start the container now. The one item of the stream is what the wait found.
    fn container_wait(&self, name: &str, condition: WaitCondition) -> Result<Box<dyn Follow<Waited>>>;

    /// Removes it. `Conflict` if it runs, without `force`.
    fn container_remove(&self, name: &str, how: RemoveContainer) -> Result<()>;

    /// What is at a path in it.
    fn container_stat(&self, name: &str, path: &str) -> Result<PathStat>;

    /// A path of it and all below it as a tar archive.
    fn container_get_archive(&self, name: &str, path: &str) -> Result<(PathStat, Output)>;

    /// Unpacks a tar archive, compressed or not, into it.
    fn container_put_archive(
        &self,
        name: &str,
        how: &PutArchive,
        archive: &mut (dyn Read + Send),
    ) -> Result<()>;

    /// Removes all that are stopped. Filters: `until`, `label`, `label!`.
    fn container_prune(&self, filters: &Filters) -> Result<Pruned>;
}
