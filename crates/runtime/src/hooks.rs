//! Hooks: programs of the configuration, run one after the other with the container's state on stdin.

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fluyt_model::error::{Error, IoContext, Result};

use crate::spec::{Hook, State};

/// How much of a failing hook's output is shown.
const TAIL: usize = 2048;

/// Runs `hooks` in order; the first failure ends it.
///
/// # Errors
/// Names the stage, the hook and what it wrote to stderr.
pub fn run(stage: &str, hooks: &[Hook], state: &State) -> Result<()> {
    run_in(stage, hooks, state, &state.bundle, &[])
}

/// The same in the directory `cwd`; a hook without an environment of its own gets `env`.
pub(crate) fn run_in(stage: &str, hooks: &[Hook], state: &State, cwd: &Path, env: &[String]) -> Result<()> {
    if hooks.is_empty() {
        return Ok(());
    }
    let input = serde_json::to_vec(state).map_err(|e| Error::internal("state for a hook").with_source(e))?;
    for (i, hook) in hooks.iter().enumerate() {
        run_one(hook, &input, cwd, env)
            .map_err(|e| e.context(format!("error running {stage} hook #{i}: {}", hook.path.display())))?;
    }
    Ok(())
}

/// Runs `hooks` in order and reports failures without stopping (poststart, poststop).
///
/// # Errors
/// Nothing fails; the failures come back as a list.
#[must_use]
pub fn run_all(stage: &str, hooks: &[Hook], state: &State) -> Vec<Error> {
    hooks.iter().filter_map(|hook| run(stage, std::slice::from_ref(hook), state).err()).collect()
}

fn run_one(hook: &Hook, input: &[u8], cwd: &Path, env: &[String]) -> Result<()> {
    let mut command = Command::new(&hook.path);
    if let Some((first, rest)) = hook.args.split_first() {
        command.arg0(first).args(rest);
    }
    let env = if hook.env.is_empty() { env } else { &hook.env };
    if !env.is_empty() {
        // Without any of its own a hook inherits, as with other runtimes.
        command.env_clear();
    }
    for entry in env {
        if let Some((name, value)) = entry.split_once('=') {
            command.env(name, value);
        }
    }
    if cwd.is_dir() {
        command.current_dir(cwd);
    }
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().about(|| hook.path.display().to_string())?;
    if let Some(mut stdin) = child.stdin.take() {
        // A hook that does not read its input is no failure. The state fits into the pipe.
        let _ = stdin.write_all(input);
    }
    let deadline =
        hook.timeout.and_then(|s| u64::try_from(s).ok()).map(|s| Instant::now() + Duration::from_secs(s));
    let output = collect(&mut child, deadline)?;
    let status = child.wait().about(|| hook.path.display().to_string())?;
    if status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output);
    Err(Error::internal(format!("{}, stdout: , stderr: {}", how(status), text.trim_end())))
}

/// How a hook ended, in the words that callers of other runtimes know.
fn how(status: std::process::ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    let Some(signal) = status.signal() else { return status.to_string() };
    let name = match signal {
        2 => "interrupt",
        6 => "aborted",
        7 => "bus error",
        9 => "killed",
        11 => "segmentation fault",
        13 => "broken pipe",
        15 => "terminated",
        31 => "bad system call",
        other => return format!("signal: {other}"),
    };
    format!("signal: {name}")
}

/// Waits for the child's end, keeping the tail of its stderr; kills it at the deadline.
fn collect(child: &mut Child, deadline: Option<Instant>) -> Result<Vec<u8>> {
    let mut output = Vec::new();
    let mut stderr = child.stderr.take();
    let pid = rustix::process::Pid::from_child(child);
    let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).about(|| "hook")?;
    loop {
        let left = match deadline.map(|d| d.saturating_duration_since(Instant::now())) {
            Some(Duration::ZERO) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(Error::new(fluyt_model::error::Kind::Timeout, "hook ran past its timeout"));
            }
            Some(d) => i32::try_from(d.as_millis() + 1).unwrap_or(i32::MAX),
            None => -1,
        };
        let Some(pipe) = &mut stderr else {
            fluyt_sys::clone::wait_exit(pidfd.as_fd(), left).about(|| "hook")?;
            if fluyt_sys::clone::wait_exit(pidfd.as_fd(), 0).about(|| "hook")? {
                return Ok(output);
            }
            continue;
        };
        // The hook may leave a background process that holds its stderr: its own end counts, not the pipe's.
        if !fluyt_sys::clone::wait_either(pidfd.as_fd(), pipe.as_fd(), left).about(|| "hook")? {
            if fluyt_sys::clone::wait_exit(pidfd.as_fd(), 0).about(|| "hook")? {
                return Ok(output);
            }
            continue;
        }
        let mut buffer = [0u8; 1024];
        match pipe.read(&mut buffer) {
            Ok(0) | Err(_) => stderr = None,
            Ok(n) => {
                output.extend_from_slice(&buffer[..n]);
                let excess = output.len().saturating_sub(TAIL);
                output.drain(..excess);
            }
        }
    }
}

/// Whether a hook's path is one that can be run.
pub(crate) fn validate(hooks: &[Hook]) -> Result<()> {
    match hooks.iter().find(|h| !h.path.as_os_str().as_bytes().starts_with(b"/")) {
        Some(h) => Err(Error::invalid(format!("hook path {:?} is not absolute", h.path))),
        None => Ok(()),
    }
}
