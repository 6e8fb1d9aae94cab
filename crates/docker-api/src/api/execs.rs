//! Commands in running containers: parameters, results, operations.

use fluyt_model::Result;

use super::Attached;
use crate::types::{ExecInspect, ExecOptions};

/// How a command that was made is started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StartExec {
    /// Nobody stays with it.
    pub detach: bool,
    /// The caller expects a terminal.
    pub tty: bool,
    /// Size of the terminal: rows, columns.
    pub size: Option<(u16, u16)>,
}

/// What can be asked of and about commands in containers.
#[allow(clippy::missing_errors_doc)] // each: `NotFound`, and what the sentence says
pub trait Execs {
    /// Makes a command ready to start; its id. `Conflict` if the container does not run or is paused.
    fn exec_create(&self, container: &str, options: &ExecOptions) -> Result<String>;

    /// Whether it could be started now: `Conflict` if its container does not run or is paused. A daemon says so itself.
    fn exec_check(&self, id: &str) -> Result<()> {
        let _ = id;
        Ok(())
    }

    /// Starts it; the session, unless it is detached. `Conflict` if it was started before, `CommandNotFound` and
    /// `CommandNotExecutable` if it cannot be run.
    fn exec_start(&self, id: &str, how: StartExec) -> Result<Option<Box<dyn Attached>>>;

    /// Tells its terminal its size.
    fn exec_resize(&self, id: &str, rows: u16, columns: u16) -> Result<()>;

    /// All about it, also after its end.
    fn exec_inspect(&self, id: &str) -> Result<ExecInspect>;
}
