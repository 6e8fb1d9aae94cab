//! The `passthrough` driver, Podman's: output goes where that of whoever started the container went; under a service
//! manager, into its service's.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;

use fluyt_model::{Error, Result};
use rustix::io::FdFlags;

use super::Source;
use crate::PASSED_FDS;

/// The inherited descriptors.
#[derive(Debug)]
pub struct Passthrough {
    out: File,
    err: File,
}

impl Passthrough {
    /// Takes them over; nobody else may have done so.
    pub(super) fn open() -> Result<Self> {
        let taken = PASSED_FDS.map(|fd| {
            let fd = fluyt_sys::task::take_inherited(fd)?;
            // The container has its own.
            rustix::io::fcntl_setfd(fd.as_fd(), FdFlags::CLOEXEC).ok()?;
            Some(File::from(fd))
        });
        match taken {
            [Some(out), Some(err)] => Ok(Self { out, err }),
            _ => Err(Error::internal("log driver passthrough: no output was passed on to the monitor")),
        }
    }

    /// What nobody takes any more is lost, as it would be without a monitor between.
    pub(super) fn line(&mut self, source: Source, line: &[u8]) {
        let file = if source == Source::Stderr { &mut self.err } else { &mut self.out };
        let _ = file.write_all(line);
    }
}
