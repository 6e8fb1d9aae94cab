//! What a container should run: `Config`, the body of `create`, and the options of `exec`.

use serde::{Deserialize, Deserializer, Serialize};

use super::{Empty, HostConfig, List, Map, NetworkingConfig, PortSet, is_false, is_zero};

/// The portable part of a container's definition; an image's `Config` has the same shape.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerConfig {
    /// UTS host name; empty: the short id.
    pub hostname: String,
    /// UTS domain name.
    pub domainname: String,
    /// `user[:group]`, names or numbers.
    pub user: String,
    /// Whether a client attaches to standard input at the start.
    pub attach_stdin: bool,
    /// Whether a client attaches to standard output.
    pub attach_stdout: bool,
    /// Whether a client attaches to standard error.
    pub attach_stderr: bool,
    /// Ports the container listens on.
    #[serde(skip_serializing_if = "PortSet::is_empty")]
    pub exposed_ports: PortSet,
    /// Whether the process gets a terminal.
    pub tty: bool,
    /// Whether standard input stays open while nobody is attached.
    pub open_stdin: bool,
    /// Whether standard input closes when the first client leaves.
    pub stdin_once: bool,
    /// `KEY=value`; a bare `KEY` removes the image's.
    pub env: List<String>,
    /// Arguments (or the command, without an entry point).
    #[serde(deserialize_with = "string_or_list")]
    pub cmd: List<String>,
    /// How to tell whether it is healthy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<HealthConfig>,
    /// Windows only.
    #[serde(skip_serializing_if = "is_false")]
    pub args_escaped: bool,
    /// The image, as the user named it.
    pub image: String,
    /// Paths that get an anonymous volume.
    pub volumes: Map<Empty>,
    /// Working directory.
    pub working_dir: String,
    /// The command; a single empty string resets the image's.
    #[serde(deserialize_with = "string_or_list")]
    pub entrypoint: List<String>,
    /// No network at all.
    #[serde(skip_serializing_if = "is_false")]
    pub network_disabled: bool,
    /// Deprecated place of the MAC address.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mac_address: String,
    /// Build triggers of the image.
    pub on_build: List<String>,
    /// Labels.
    pub labels: Map<String>,
    /// Signal of `stop`; empty: SIGTERM.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub stop_signal: String,
    /// Seconds that `stop` waits before it kills.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_timeout: Option<i64>,
    /// Shell of the shell forms.
    #[serde(skip_serializing_if = "List::is_vacant")]
    pub shell: List<String>,
}

/// A health check; times in nanoseconds, zero inherits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HealthConfig {
    /// `[]` inherits, `["NONE"]` disables, `["CMD", …]` executes, `["CMD-SHELL", line]` runs a shell.
    #[serde(skip_serializing_if = "List::is_vacant")]
    pub test: List<String>,
    /// Time between checks.
    #[serde(skip_serializing_if = "is_zero")]
    pub interval: i64,
    /// Time before a check counts as hung.
    #[serde(skip_serializing_if = "is_zero")]
    pub timeout: i64,
    /// Time in which failures do not count.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_period: i64,
    /// Time between checks during the start period.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_interval: i64,
    /// Failures in a row before it is unhealthy.
    #[serde(skip_serializing_if = "is_zero")]
    pub retries: i64,
}

/// The body of `POST /containers/create`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct CreateRequest {
    /// The portable part.
    #[serde(flatten)]
    pub config: ContainerConfig,
    /// The part that belongs to this host.
    pub host_config: HostConfig,
    /// Networks to join.
    pub networking_config: NetworkingConfig,
}

/// The answer to `create`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct CreateResponse {
    /// The container's id.
    pub id: String,
    /// What was ignored.
    pub warnings: List<String>,
}

/// The body of `POST /containers/{id}/exec`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ExecOptions {
    /// `user[:group]`.
    pub user: String,
    /// All capabilities.
    pub privileged: bool,
    /// A terminal.
    pub tty: bool,
    /// Initial size of the terminal: rows, columns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub console_size: Option<[u16; 2]>,
    /// Attach standard input.
    pub attach_stdin: bool,
    /// Attach standard error.
    pub attach_stderr: bool,
    /// Attach standard output.
    pub attach_stdout: bool,
    /// Key sequence that detaches.
    pub detach_keys: String,
    /// More environment.
    pub env: List<String>,
    /// Working directory; empty: the container's.
    pub working_dir: String,
    /// The command.
    pub cmd: List<String>,
    /// Do not wait.
    pub detach: bool,
}

/// `Cmd` and `Entrypoint` may be one string in old clients' requests.
fn string_or_list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<List<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        One(String),
        Many(Vec<String>),
    }
    Ok(match Option::<Either>::deserialize(deserializer)? {
        None => List::null(),
        Some(Either::One(word)) => vec![word].into(),
        Some(Either::Many(words)) => words.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_config_prints_as_docker_prints_it() {
        let text = serde_json::to_string(&ContainerConfig::default()).unwrap();
        assert_eq!(
            text,
            r#"{"Hostname":"","Domainname":"","User":"","AttachStdin":false,"AttachStdout":false,"AttachStderr":false,"Tty":false,"OpenStdin":false,"StdinOnce":false,"Env":null,"Cmd":null,"Image":"","Volumes":null,"WorkingDir":"","Entrypoint":null,"OnBuild":null,"Labels":null}"#
        );
    }

    #[test]
    fn a_request_reads_config_beside_host_config() {
        let request: CreateRequest = serde_json::from_str(
            r#"{"Image":"a","Cmd":"sh","ExposedPorts":{"80/tcp":{}},"HostConfig":{"Memory":6,"Binds":["/a:/b"]}}"#,
        )
        .unwrap();
        assert_eq!(*request.config.cmd, ["sh"]);
        assert_eq!(request.host_config.resources.memory, 6);
        assert_eq!(*request.host_config.binds, ["/a:/b"]);
        assert_eq!(request.config.exposed_ports.len(), 1);
    }
}
