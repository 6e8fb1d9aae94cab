//! The process that owns one sandbox: its stdio, logs, exit code, OOM events, restarts, health checks and resolver.
//!
//! `fluyt monitor DIR` is started by the engine and lives as long as the container is meant to live. It survives
//! every other process of ours. It is one thread around one `poll`; it has no async runtime, no database and no
//! HTTP, and keeps only what it is using, so that fifty of them cost little.
//!
//! What it does not do: choose addresses, pull images, remember anything that is not in the container's directory.
#![forbid(unsafe_code)]

pub mod client;
mod guard;
pub mod health;
pub mod hold;
pub mod log;
pub mod network;
pub mod notify;
pub mod pid1;
mod probe;
pub mod protocol;
pub mod refuge;
pub mod restart;
mod run;
mod service;
pub mod spec;
pub mod state;
pub mod step;
pub mod volumes;
pub mod watch;

use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use fluyt_model::error::IoContext;
use fluyt_model::{Error, Result};
use rustix::fs::FlockOperation;
use rustix::io::FdFlags;
use rustix::process::{Flock, FlockType, WaitId, WaitIdOptions, waitid};

pub use spec::MonitorSpec;

/// The descriptor on which the starter's socket is inherited.
pub const STARTER_FD: i32 = 3;
/// The descriptor on which the mount that its executable lives in may be inherited. It is closed when the monitor ends:
/// that takes the kernel a moment for which nobody should wait.
pub const SEAL_FD: i32 = 4;
/// The descriptors on which output goes with the log driver `passthrough`: those of whoever started the container.
pub const PASSED_FDS: [i32; 2] = [5, 6];
/// The lock that a living monitor holds, in its run directory.
pub const LOCK: &str = "monitor.lock";
/// The socket on which it listens, in its run directory.
pub const SOCKET: &str = "monitor.sock";

/// `fluyt monitor DIR`: serves the container in DIR. Returns an exit code.
#[must_use]
pub fn main(args: &[String]) -> i32 {
    if let [flag, part] = args
        && flag == log::COMPRESS
    {
        return log::compress(Path::new(part)).map_or(1, |()| 0);
    }
    if let [flag, dir] = args
        && flag == hold::FLAG
    {
        return hold::main(Path::new(dir));
    }
    if let [flag, root, run] = args
        && flag == watch::FLAG
    {
        return watch::main(Path::new(root), Path::new(run));
    }
    let [dir] = args else {
        eprintln!("fluyt: monitor is started by fluyt itself, with the container's directory");
        return 125;
    };
    let starter = fluyt_sys::task::take_inherited(STARTER_FD).map(UnixStream::from);
    let mount = fluyt_sys::task::take_inherited(SEAL_FD);
    for fd in [starter.as_ref().map(AsFd::as_fd), mount.as_ref().map(AsFd::as_fd)].into_iter().flatten() {
        // It is open; nothing else can be wrong with it.
        let _ = rustix::io::fcntl_setfd(fd, FdFlags::CLOEXEC);
    }
    match serve(Path::new(dir), starter) {
        Ok((spec, end)) if end.remove => last_act(&spec, end.code, ["container", "reap"], &spec.id),
        Ok((spec, end)) if !spec.pod.is_empty() => last_act(&spec, end.code, ["pod", "settle"], &spec.pod),
        Ok((spec, end)) => exit_code(&spec, end.code),
        Err(e) => {
            eprintln!("fluyt: monitor of {dir}: {}", e.chain());
            125
        }
    }
}

/// The main process of a service ends as the container did; nobody else asks.
fn exit_code(spec: &MonitorSpec, code: i32) -> i32 {
    if spec.notify.is_some() { code & 0xff } else { 0 }
}

/// Serves until the container has ended for good; how that was.
fn serve(dir: &Path, starter: Option<UnixStream>) -> Result<(MonitorSpec, service::End)> {
    // Executed by a descriptor, it would be listed under that number. The name is for people: nothing depends on it.
    let _ = rustix::thread::set_name(c"fluyt-monitor");
    // A session of its own: signals of the caller's terminal are not meant for it.
    let _ = rustix::process::setsid();
    let begun = MonitorSpec::load(dir).and_then(|spec| {
        let lock = lock(&spec.run_dir)?;
        let listener = listen_at(&spec.run_dir.join(SOCKET))?;
        Ok((spec, lock, listener))
    });
    let (spec, lock, listener) = match begun {
        Ok(begun) => begun,
        Err(e) => {
            tell(starter, &e);
            return Err(e);
        }
    };
    let socket = spec.run_dir.join(SOCKET);
    let outcome = service::Service::new(spec.clone(), listener, starter).and_then(service::Service::serve);
    // The socket goes before the lock, so that nobody meets the socket of a monitor that has let go.
    let _ = std::fs::remove_file(socket);
    drop(lock);
    outcome.map(|end| (spec, end))
}

fn tell(starter: Option<UnixStream>, error: &Error) {
    if let Some(socket) = starter
        && let Ok(mut client) = client::Client::new(socket)
    {
        client.reply(&protocol::Reply::failed(error));
        client.send_all();
    }
}

/// Takes the lock of the container. A POSIX lock: others can ask who holds it without taking it themselves.
fn lock(run_dir: &Path) -> Result<File> {
    let path = run_dir.join(LOCK);
    let about = || path.display().to_string();
    let file =
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path).about(about)?;
    rustix::fs::fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive)
        .map_err(|_| Error::conflict(format!("{}: another monitor owns this container", path.display())))?;
    Ok(file)
}

/// Listens on the socket `path`, instead of whoever has left one there.
fn listen_at(path: &Path) -> Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            return Err(Error::io(path.display().to_string(), e));
        }
        _ => {}
    }
    UnixListener::bind(path).about(|| path.display().to_string())
}

/// The last act for a container that removes itself, or whose pod may go with it: become the command that does it.
fn last_act(spec: &MonitorSpec, code: i32, words: [&str; 2], object: &str) -> i32 {
    use std::os::unix::process::CommandExt;
    let mut command = std::process::Command::new("/proc/self/exe");
    command.arg0("fluyt").arg("--root").arg(&spec.root).args(words);
    if spec.notify.is_some() {
        command.arg("--exit-code").arg(exit_code(spec, code).to_string());
    }
    command.arg(object);
    let error = command.exec();
    eprintln!("fluyt: container {}: cannot {}: {error}", spec.id, words.join(" "));
    125
}

/// Collects a child that has ended: its exit code, 128 + signal if it was killed. `None` while it runs.
fn reap(pidfd: BorrowedFd<'_>) -> Option<i32> {
    let status = waitid(WaitId::PidFd(pidfd), WaitIdOptions::EXITED | WaitIdOptions::NOHANG).ok()??;
    status.exit_status().or_else(|| status.terminating_signal().map(|s| 128 + s))
}

/// The process id of the monitor that owns `run_dir`, if one lives.
#[must_use]
pub fn owner(run_dir: &Path) -> Option<i32> {
    let file = File::open(run_dir.join(LOCK)).ok()?;
    let question = Flock::from(FlockType::WriteLock);
    let holder = rustix::process::fcntl_getlk(&file, &question).ok()??;
    // A holder in another process id namespace has no number here.
    Some(holder.pid.map_or(0, |pid| pid.as_raw_nonzero().get()))
}

/// The starter's end and the monitor's end of the socket that a new monitor inherits.
///
/// # Errors
/// No descriptors are left.
pub fn socket_pair() -> Result<(UnixStream, OwnedFd)> {
    let (ours, theirs) = UnixStream::pair().about(|| "socket pair")?;
    Ok((ours, theirs.into()))
}
