//! Containers.

use std::io::Read;

use fluyt_model::Result;

use super::{Local, missing};
use crate::api::*;
use crate::types::{ContainerInspect, ContainerStats, ContainerSummary, CreateResponse, UpdateConfig};

impl Containers for Local {
    fn container_list(&self, _: &ListContainers) -> Result<Vec<ContainerSummary>> {
        Err(missing("container list"))
    }

    fn container_create(&self, _: CreateContainer) -> Result<CreateResponse> {
        Err(missing("container create"))
    }

    fn container_inspect(&self, _: &str, _: bool) -> Result<ContainerInspect> {
        Err(missing("container inspect"))
    }

    fn container_top(&self, _: &str, _: &[String]) -> Result<Processes> {
        Err(missing("container top"))
    }

    fn container_logs(&self, _: &str, _: LogsOf) -> Result<Logs> {
        Err(missing("container logs"))
    }

    fn container_changes(&self, _: &str) -> Result<Vec<Change>> {
        Err(missing("container changes"))
    }

    fn container_export(&self, _: &str) -> Result<Output> {
        Err(missing("container export"))
    }

    fn container_stats(&self, _: &str, _: StatsOf) -> Result<Box<dyn Follow<ContainerStats>>> {
        Err(missing("container stats"))
    }

    fn container_resize(&self, _: &str, _: u16, _: u16) -> Result<()> {
        Err(missing("container resize"))
    }

    fn container_start(&self, _: &str, _: &StartContainer) -> Result<bool> {
        Err(missing("container start"))
    }

    fn container_stop(&self, _: &str, _: &StopContainer) -> Result<bool> {
        Err(missing("container stop"))
    }

    fn container_restart(&self, _: &str, _: &StopContainer) -> Result<()> {
        Err(missing("container restart"))
    }

    fn container_kill(&self, _: &str, _: &str) -> Result<()> {
        Err(missing("container kill"))
    }

    fn container_update(&self, _: &str, _: &UpdateConfig) -> Result<Vec<String>> {
        Err(missing("container update"))
    }

    fn container_rename(&self, _: &str, _: &str) -> Result<()> {
        Err(missing("container rename"))
    }

    fn container_pause(&self, _: &str) -> Result<()> {
        Err(missing("container pause"))
    }

    fn container_unpause(&self, _: &str) -> Result<()> {
        Err(missing("container unpause"))
    }

    fn container_attach(&self, _: &str, _: AttachContainer) -> Result<AttachedContainer> {
        Err(missing("container attach"))
    }

    fn container_wait(&self, _: &str, _: WaitCondition) -> Result<Box<dyn Follow<Waited>>> {
        Err(missing("container wait"))
    }

    fn container_remove(&self, _: &str, _: RemoveContainer) -> Result<()> {
        Err(missing("container remove"))
    }

    fn container_stat(&self, _: &str, _: &str) -> Result<PathStat> {
        Err(missing("container stat"))
    }

    fn container_get_archive(&self, _: &str, _: &str) -> Result<(PathStat, Output)> {
        Err(missing("container get archive"))
    }

    fn container_put_archive(&self, _: &str, _: &PutArchive, _: &mut (dyn Read + Send)) -> Result<()> {
        Err(missing("container put archive"))
    }

    fn container_prune(&self, _: &Filters) -> Result<Pruned> {
        Err(missing("container prune"))
    }
}
