//! Commands in containers, as `GET /exec/{id}/json` shows them.

use serde::{Deserialize, Serialize};

use super::List;

/// All about a command.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ExecInspect {
    /// 64 digits.
    #[serde(rename = "ID")]
    pub id: String,
    /// It has been started and has not ended.
    pub running: bool,
    /// How it ended; `null` before.
    pub exit_code: Option<i64>,
    /// What it runs.
    pub process_config: ExecProcess,
    /// Whether its standard input is wanted.
    pub open_stdin: bool,
    /// Whether its standard error is wanted.
    pub open_stderr: bool,
    /// Whether its standard output is wanted.
    pub open_stdout: bool,
    /// Nobody can attach any more.
    pub can_remove: bool,
    /// The container.
    #[serde(rename = "ContainerID")]
    pub container_id: String,
    /// Keys that detach, as bytes.
    pub detach_keys: String,
    /// Its process id on the host; 0 before the start.
    pub pid: i64,
}

/// What a command runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExecProcess {
    /// A terminal.
    pub tty: bool,
    /// The program.
    pub entrypoint: String,
    /// Its arguments.
    pub arguments: List<String>,
    /// All capabilities.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub privileged: Option<bool>,
    /// Its user.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user: String,
}
