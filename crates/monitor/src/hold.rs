//! The first process of a process namespace that the containers of a pod share.
//!
//! Such a namespace lives as long as its process 1, whatever files hold it. `fluyt monitor --hold DIR` starts one from
//! `DIR/config.json`, tells its pid and is gone; nobody waits for the process, its end is seen by its pid. What runs is this
//! very executable, mounted read-only into a root file system with nothing else in it, without any capability: what a member
//! of the pod reaches through it is that and no more. It reaps whatever is left to it and does nothing else.

use std::os::fd::OwnedFd;
use std::path::Path;

use fluyt_model::error::IoContext;
use fluyt_model::{Error, Result};
use fluyt_runtime::spec::Spec;
use fluyt_runtime::{Io, Launch, Rootfs};
use fluyt_sys::signals::Signals;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags};
use rustix::process::WaitOptions;
use serde::{Deserialize, Serialize};

/// The first argument of the role that starts the process.
pub const FLAG: &str = "--hold";

/// The argument after [`FLAG`] of a process that ends when it is asked to (SIGTERM).
pub const ENDS: &str = "--ends";

/// The process that was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// Its pid in the host's view.
    pub pid: i32,
    /// When it was started, in clock ticks since boot.
    pub start: u64,
}

/// `fluyt monitor --hold DIR`: starts the process and writes [`Started`] to standard output. Returns an exit code.
#[must_use]
pub fn main(dir: &Path) -> i32 {
    match start(dir) {
        Ok(started) => {
            println!("{}", serde_json::json!(started));
            0
        }
        Err(e) => {
            eprintln!("{}", e.chain());
            125
        }
    }
}

fn start(dir: &Path) -> Result<Started> {
    let path = dir.join("config.json");
    let text = std::fs::read(&path).about(|| path.display().to_string())?;
    let spec: Spec = serde_json::from_slice(&text).map_err(|e| {
        Error::corrupt(format!("{}: not an OCI configuration", path.display())).with_source(e)
    })?;
    let null = |flags| -> Result<OwnedFd> {
        rustix::fs::open("/dev/null", flags | OFlags::CLOEXEC, Mode::empty()).about(|| "/dev/null")
    };
    let io = Io::Fds {
        stdin: null(OFlags::RDONLY)?,
        stdout: null(OFlags::WRONLY)?,
        stderr: null(OFlags::WRONLY)?,
    };
    let id = dir.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let rootfs = Rootfs::Dir(dir.join("rootfs"));
    let launch = Launch { io, block_signals: true, ..Launch::new(id, spec, dir, rootfs) };
    let running = fluyt_runtime::launch(launch)?.proceed()?;
    Ok(Started { pid: running.pid, start: running.start_time })
}

/// `docker-init --hold`: process 1 of the namespace. Ends when it is killed from outside; with [`ENDS`], also when it is
/// asked to.
#[must_use]
pub fn init(args: &[String]) -> i32 {
    match reap_on(args == [ENDS]) {
        Ok(()) => 0,
        Err(e) => {
            eprintln!("{}", e.chain());
            125
        }
    }
}

fn reap_on(ends: bool) -> Result<()> {
    const SIGTERM: i32 = 15;
    const SIGCHLD: i32 = 17;
    let signals = Signals::block(if ends { &[SIGCHLD, SIGTERM] } else { &[SIGCHLD] })?;
    let _ = rustix::thread::set_name(c"fluyt-pod");
    loop {
        let mut fds = [PollFd::new(&signals, PollFlags::IN)];
        match poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(Error::io("poll", e.into())),
        }
        while let Some(number) = signals.next()? {
            if number == SIGTERM {
                return Ok(());
            }
        }
        while let Ok(Some(_)) = rustix::process::wait(WaitOptions::NOHANG) {}
    }
}
