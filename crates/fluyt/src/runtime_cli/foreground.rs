//! Waiting for a process in the foreground: signals are passed on, its terminal is connected to ours.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use fluyt_model::error::{IoContext, Result};
use fluyt_runtime::Running;
use fluyt_sys::clone;
use fluyt_sys::signals::Signals;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};

const SIGCHLD: i32 = 17;
const SIGURG: i32 = 23;
const SIGWINCH: i32 = 28;

/// Our terminal in raw mode; set back when dropped.
struct Raw(Termios);

impl Raw {
    fn set() -> Option<Self> {
        let stdin = rustix::stdio::stdin();
        let before = tcgetattr(stdin).ok()?;
        let mut raw = before.clone();
        // What the container's terminal leaves to ours (`Io::Terminal`, without returns) is still to be done there.
        let output = raw.output_modes;
        raw.make_raw();
        raw.output_modes = output;
        tcsetattr(stdin, OptionalActions::Now, &raw).ok()?;
        Some(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Flush, &self.0);
    }
}

/// Waits for the end of the process and gives its exit code.
pub(super) fn wait(running: &Running, console: Option<&OwnedFd>) -> Result<i32> {
    let all: Vec<i32> = (1..=64).filter(|s| !matches!(s, 32 | 33)).collect();
    let signals = Signals::block(&all)?;
    let _raw = console.and_then(|_| Raw::set());
    let mut terminal =
        console.map(|master| Terminal { master: master.as_fd(), input_open: true, output_open: true });
    loop {
        let exited = turn(running, &signals, terminal.as_mut())?;
        if exited {
            break;
        }
    }
    if let Some(t) = &mut terminal {
        t.drain();
    }
    let status = clone::reap(running.pid, true).about(|| "waiting for the container")?;
    Ok(clone::exit_code(status.unwrap_or(0)))
}

/// One round of waiting; true when the process has ended.
fn turn(running: &Running, signals: &Signals, terminal: Option<&mut Terminal<'_>>) -> Result<bool> {
    let stdin = rustix::stdio::stdin();
    let mut list = vec![
        PollFd::from_borrowed_fd(running.pidfd.as_fd(), PollFlags::IN),
        PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN),
    ];
    if let Some(t) = &terminal {
        let events = |on: bool| if on { PollFlags::IN } else { PollFlags::empty() };
        if t.output_open {
            list.push(PollFd::from_borrowed_fd(t.master, events(true)));
        }
        if t.input_open {
            list.push(PollFd::from_borrowed_fd(stdin, events(true)));
        }
    }
    match poll(&mut list, None) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(e) => return Err(fluyt_model::Error::io("waiting for the container", e.into())),
    }
    let ready: Vec<bool> = list.iter().map(|p| !p.revents().is_empty()).collect();
    drop(list);
    while let Some(signal) = signals.next()? {
        match signal {
            SIGCHLD | SIGURG => {}
            SIGWINCH => {
                if let (Some(t), Ok(size)) = (&terminal, tcgetwinsize(stdin)) {
                    let _ = tcsetwinsize(t.master, size);
                }
            }
            other => {
                let _ = fluyt_sys::signal::send(running.pidfd.as_fd(), other);
            }
        }
    }
    if let Some(t) = terminal {
        let mut extra = ready[2..].iter();
        if t.output_open && extra.next() == Some(&true) {
            t.output_open = copy(t.master, rustix::stdio::stdout());
        }
        if t.input_open && extra.next() == Some(&true) {
            t.input_open = copy(stdin, t.master);
        }
    }
    Ok(ready[0])
}

struct Terminal<'a> {
    master: BorrowedFd<'a>,
    input_open: bool,
    output_open: bool,
}

impl Terminal<'_> {
    /// What the process wrote before it ended.
    fn drain(&mut self) {
        for _ in 0..1024 {
            let mut list = [PollFd::from_borrowed_fd(self.master, PollFlags::IN)];
            let zero = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
            let some = poll(&mut list, Some(&zero)).is_ok_and(|n| n > 0)
                && list[0].revents().contains(PollFlags::IN);
            if !some || !copy(self.master, rustix::stdio::stdout()) {
                return;
            }
        }
    }
}

/// Copies what is there; false at the end of the stream.
fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> bool {
    let mut buffer = [0u8; 16 * 1024];
    let n = match rustix::io::read(from, &mut buffer) {
        Ok(0) => return false,
        Ok(n) => n,
        Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => return true,
        Err(_) => return false,
    };
    let mut left = &buffer[..n];
    while !left.is_empty() {
        match rustix::io::write(to, left) {
            Ok(n) => left = &left[n..],
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) => {
                let mut list = [PollFd::from_borrowed_fd(to, PollFlags::OUT)];
                let _ = poll(&mut list, None);
            }
            Err(_) => return false,
        }
    }
    true
}
