//! Entering a network namespace for a moment.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use fluyt_model::error::{Error, IoContext, Result};
use rustix::fs::{Mode, OFlags};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

const OWN: &str = "/proc/thread-self/ns/net";

/// Runs `work` with the calling thread inside `netns`, then goes back.
///
/// # Errors
/// The kernel refuses to enter. If it refuses to go back the process must not carry on in the wrong namespace: that
/// error is returned even when `work` succeeded.
pub(crate) fn inside<T>(netns: BorrowedFd<'_>, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let own: OwnedFd =
        rustix::fs::open(OWN, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).about(|| OWN)?;
    enter(netns).map_err(|e| e.context("cannot enter the container's network namespace"))?;
    let done = work();
    enter(own.as_fd()).map_err(|e| e.context("cannot return from the container's network namespace"))?;
    done
}

fn enter(netns: BorrowedFd<'_>) -> Result<()> {
    move_into_link_name_space(netns, Some(LinkNameSpaceType::Network))
        .map_err(|e| Error::io("setns", e.into()))
}
