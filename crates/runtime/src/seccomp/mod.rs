//! System call filters: compiled here to BPF, without libseccomp.

pub(crate) mod notify;

use std::io;
use std::os::fd::OwnedFd;

use fluyt_model::error::{Error, Result};
use fluyt_sys::seccomp::Insn;

use crate::spec::Seccomp;

/// A compiled filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Filter {
    program: Vec<Insn>,
    flags: u64,
}

impl Filter {
    pub(crate) fn compile(_seccomp: &Seccomp) -> Result<Self> {
        Err(Error::unsupported("seccomp"))
    }

    /// Loads it on the calling task.
    pub(crate) fn load(&self) -> io::Result<Option<OwnedFd>> {
        fluyt_sys::seccomp::load(&self.program, self.flags)
    }
}
