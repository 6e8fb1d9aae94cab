//! The minimal init of `--init`: process 1 of a container that reaps whatever is left to it and passes signals on.
//!
//! It is this very executable, mounted read-only into the container and started under another name.

use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::Command;

use fluyt_model::error::IoContext;
use fluyt_model::{Error, Result};
use fluyt_sys::signals::Signals;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, WaitOptions, WaitStatus};

/// The name under which the executable acts as init.
pub const NAME: &str = "docker-init";

const SIGCHLD: i32 = 17;
const SIGTTIN: i32 = 21;
const SIGTTOU: i32 = 22;
/// Signals that report a fault of this process itself, and those that must not stop it.
const OWN: [i32; 8] = [4, 5, 6, 7, 8, 11, SIGTTIN, SIGTTOU];

/// `docker-init [--] COMMAND [ARG…]`: runs the command and returns its exit code, 128 + signal if it was killed.
#[must_use]
pub fn main(args: &[String]) -> i32 {
    if let [first, rest @ ..] = args
        && first == crate::hold::FLAG
    {
        return crate::hold::init(rest);
    }
    let args = match args {
        [first, rest @ ..] if first == "--" => rest,
        all => all,
    };
    let Some((program, rest)) = args.split_first() else {
        eprintln!("{NAME}: no command");
        return 125;
    };
    serve(program, rest).unwrap_or_else(|e| {
        eprintln!("{NAME}: {}", e.chain());
        match e.kind() {
            fluyt_model::Kind::NotFound => 127,
            fluyt_model::Kind::PermissionDenied => 126,
            _ => 125,
        }
    })
}

fn serve(program: &str, args: &[String]) -> Result<i32> {
    let wanted: Vec<i32> = (1..=64).filter(|n| !OWN.contains(n)).collect();
    // First of all: a process 1 without handlers does not even get the signals that would end others.
    let signals = Signals::block(&wanted)?;
    // The command leads its own process group, so that a terminal's signals reach it and not its init.
    let mut command = Command::new(program);
    command.args(args).process_group(0);
    let child =
        fluyt_sys::spawn::with_fds(&mut command, Vec::new()).about(|| format!("exec: \"{program}\""))?;
    let child = Pid::from_child(&child);
    // Without a terminal there is none to hand over.
    let _ = rustix::termios::tcsetpgrp(rustix::stdio::stdin(), child);
    loop {
        let mut fds = [PollFd::new(&signals, PollFlags::IN)];
        match poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(Error::io("poll", e.into())),
        }
        while let Some(number) = signals.next()? {
            if number == SIGCHLD {
                if let Some(code) = reap(child) {
                    return Ok(code);
                }
            } else {
                pass_on(child, number);
            }
        }
    }
}

/// Reaps everybody who has ended; the exit code if the command is among them.
fn reap(child: Pid) -> Option<i32> {
    let mut code = None;
    while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
        if pid == child {
            code = exit_code(status);
        }
    }
    code
}

fn exit_code(status: WaitStatus) -> Option<i32> {
    status.exit_status().or_else(|| status.terminating_signal().map(|n| 128 + n))
}

fn pass_on(child: Pid, number: i32) {
    if let Ok(pidfd) = rustix::process::pidfd_open(child, rustix::process::PidfdFlags::empty()) {
        // It may have ended this very moment; that is found by reaping.
        let _ = fluyt_sys::signal::send(pidfd.as_fd(), number);
    }
}
