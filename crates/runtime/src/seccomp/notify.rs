//! Handing the notification descriptor of a filter to the agent that the configuration names.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use fluyt_model::error::{Error, IoContext, Result};
use rustix::net::SocketType;
use serde::Serialize;

use crate::spec::{Seccomp, State};

/// The container process state of the specification.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ProcessState<'a> {
    oci_version: &'a str,
    fds: [&'static str; 1],
    pid: i32,
    #[serde(skip_serializing_if = "str::is_empty")]
    metadata: &'a str,
    state: &'a State,
}

/// Sends the descriptor with the state to `listenerPath`.
pub(crate) fn pass(seccomp: &Seccomp, listener: &OwnedFd, state: &State, pid: i32) -> Result<()> {
    let about = || format!("failed to connect with seccomp agent {}", seccomp.listener_path);
    let socket =
        fluyt_sys::pass::connect(Path::new(&seccomp.listener_path), SocketType::STREAM).about(about)?;
    let message = ProcessState {
        oci_version: &state.oci_version,
        fds: ["seccompFd"],
        pid,
        metadata: &seccomp.listener_metadata,
        state,
    };
    let data = serde_json::to_vec(&message).map_err(|e| Error::internal(about()).with_source(e))?;
    fluyt_sys::pass::send(socket.as_fd(), &data, &[listener.as_fd()]).about(about)
}
