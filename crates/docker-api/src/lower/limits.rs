//! Limits: cgroup resources, rlimits, the OOM score.

use std::path::PathBuf;

use fluyt_model::sandbox::Resources;
use fluyt_model::{Error, Result};

use crate::types::host_config::Resources as DockerResources;
use crate::types::{HostConfig, ThrottleDevice};

/// Lowers Docker's resource fields, in which 0 means "not set".
#[must_use]
pub fn resources(r: &DockerResources) -> Resources {
    let some = |v: i64| (v != 0).then_some(v);
    let unsigned = |v: i64| u64::try_from(v).ok().filter(|v| *v != 0);
    let rates = |list: &[ThrottleDevice]| list.iter().map(|d| (PathBuf::from(&d.path), d.rate)).collect();
    Resources {
        memory: some(r.memory),
        memory_swap: some(r.memory_swap),
        memory_reservation: some(r.memory_reservation),
        memory_swappiness: r.memory_swappiness.and_then(|v| u64::try_from(v).ok()),
        oom_kill_disable: r.oom_kill_disable.unwrap_or(false),
        nano_cpus: some(r.nano_cpus),
        cpu_shares: unsigned(r.cpu_shares),
        cpu_quota: some(r.cpu_quota),
        cpu_period: unsigned(r.cpu_period),
        cpu_rt_runtime: some(r.cpu_realtime_runtime),
        cpu_rt_period: unsigned(r.cpu_realtime_period),
        cpuset_cpus: r.cpuset_cpus.clone(),
        cpuset_mems: r.cpuset_mems.clone(),
        pids_limit: r.pids_limit.filter(|v| *v != 0),
        blkio_weight: (r.blkio_weight != 0).then_some(r.blkio_weight),
        blkio_weight_device: r
            .blkio_weight_device
            .iter()
            .map(|d| (PathBuf::from(&d.path), d.weight))
            .collect(),
        read_bps: rates(&r.blkio_device_read_bps),
        write_bps: rates(&r.blkio_device_write_bps),
        read_iops: rates(&r.blkio_device_read_iops),
        write_iops: rates(&r.blkio_device_write_iops),
    }
}

pub(super) fn rlimits(host: &HostConfig) -> Result<Vec<(String, u64, u64)>> {
    let limit = |name: &str, value: i64| {
        if value == -1 {
            return Ok(u64::MAX);
        }
        u64::try_from(value).map_err(|_| Error::invalid(format!("invalid ulimit {name}: {value}")))
    };
    host.resources
        .ulimits
        .iter()
        .map(|u| Ok((u.name.to_ascii_uppercase(), limit(&u.name, u.soft)?, limit(&u.name, u.hard)?)))
        .collect()
}

pub(super) fn oom_score_adj(host: &HostConfig) -> Result<Option<i32>> {
    if !(-1000..=1000).contains(&host.oom_score_adj) {
        return Err(Error::invalid(format!(
            "Invalid value {}, range for oom score adj is [-1000, 1000]",
            host.oom_score_adj
        )));
    }
    Ok(i32::try_from(host.oom_score_adj).ok().filter(|v| *v != 0))
}
