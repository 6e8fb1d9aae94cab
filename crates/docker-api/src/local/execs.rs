//! Commands in containers.

use fluyt_model::Result;

use super::{Local, missing};
use crate::api::*;
use crate::types::{ExecInspect, ExecOptions, List};

impl Execs for Local {
    fn exec_create(&self, _: &str, _: &ExecOptions) -> Result<String> {
        Err(missing("exec create"))
    }

    fn exec_start(&self, _: &str, _: StartExec) -> Result<Option<Box<dyn Attached>>> {
        Err(missing("exec start"))
    }

    fn exec_resize(&self, _: &str, _: u16, _: u16) -> Result<()> {
        Err(missing("exec resize"))
    }

    fn exec_inspect(&self, _: &str) -> Result<ExecInspect> {
        Err(missing("exec inspect"))
    }
}

impl Local {
    /// The commands of a container that can be asked about.
    pub(super) fn execs_of(&self, _: &fluyt_engine::ContainerView) -> List<String> {
        List::null()
    }
}
