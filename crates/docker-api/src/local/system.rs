//! The engine itself.

use fluyt_model::Result;

use super::{Local, missing};
use crate::api::*;
use crate::types::{DiskUsage, EventMessage, SystemInfo, Version};

impl System for Local {
    fn ping(&self) -> Result<Ping> {
        Err(missing("ping"))
    }

    fn version(&self) -> Result<Version> {
        Err(missing("version"))
    }

    fn info(&self) -> Result<SystemInfo> {
        Err(missing("info"))
    }

    fn auth(&self, _: &AuthConfig) -> Result<AuthAnswer> {
        Err(missing("auth"))
    }

    fn events(&self, _: &EventsOf) -> Result<Box<dyn Follow<EventMessage>>> {
        Err(missing("events"))
    }

    fn disk_usage(&self, _: DiskUseOf) -> Result<DiskUsage> {
        Err(missing("disk usage"))
    }
}
