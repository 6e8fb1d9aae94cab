//! Version 2: one directory; the specification's values, which are version 1's, are translated.

use std::path::Path;
use std::time::{Duration, Instant};

use fluyt_model::error::{Error, IoContext, Kind, Result};
use rustix::fs::{Mode, OFlags};

use super::files;
use crate::spec::{BlockIo, Cpu, Memory, Rdma, Resources, ThrottleDevice};

const ROOT: &str = "/sys/fs/cgroup";

/// Makes the directory and passes the controllers on to it from the root.
///
/// Whether it was there before.
pub(crate) fn create(dir: &Path, resources: Option<&Resources>) -> Result<bool> {
    let present = !files::make(dir)?;
    let mut above: Vec<&Path> = dir.ancestors().skip(1).take_while(|p| p.starts_with(ROOT)).collect();
    above.reverse();
    for parent in above {
        pass_on(parent, resources)?;
    }
    Ok(present)
}

/// Enables every controller of `dir` for its children, each on its own so that one refusal does not cost the others.
fn pass_on(dir: &Path, resources: Option<&Resources>) -> Result<()> {
    let available = files::read(&dir.join("cgroup.controllers"))?;
    let enabled = files::read(&dir.join("cgroup.subtree_control"))?;
    let missing: Vec<String> = available
        .split_whitespace()
        .filter(|c| !enabled.split_whitespace().any(|e| e == *c))
        .map(|c| format!("+{c}"))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let file = dir.join("cgroup.subtree_control");
    if files::write(&file, &missing.join(" ")).is_ok() {
        return Ok(());
    }
    for one in missing {
        if let Err(e) = files::write(&file, &one) {
            // Only a controller that the container needs makes this an error.
            if resources.is_some_and(|r| needs(r, &one[1..])) {
                return Err(e.context(format!(
                    "cgroup {} cannot pass on controller {}",
                    dir.display(),
                    &one[1..]
                )));
            }
        }
    }
    Ok(())
}

fn needs(r: &Resources, controller: &str) -> bool {
    match controller {
        "memory" => r.memory.is_some(),
        "cpu" => {
            r.cpu.as_ref().is_some_and(|c| c.shares.is_some() || c.quota.is_some() || c.period.is_some())
        }
        "cpuset" => r.cpu.as_ref().is_some_and(|c| !c.cpus.is_empty() || !c.mems.is_empty()),
        "pids" => r.pids.as_ref().is_some_and(|p| p.limit.is_some()),
        "io" => r.block_io.is_some(),
        "hugetlb" => !r.hugepage_limits.is_empty(),
        "rdma" => !r.rdma.is_empty(),
        _ => false,
    }
}

/// Writes limits; `fresh` also installs the device program.
pub(crate) fn apply(dir: &Path, r: &Resources, fresh: bool) -> Result<()> {
    if fresh || !r.devices.is_empty() {
        devices(dir, r, fresh)?;
    }
    if let Some(m) = &r.memory {
        memory(dir, m)?;
    }
    if let Some(c) = &r.cpu {
        cpu(dir, c)?;
    }
    if let Some(limit) = r.pids.as_ref().and_then(|p| p.limit) {
        files::write(&dir.join("pids.max"), &super::pids_value(limit))?;
    }
    if let Some(b) = &r.block_io {
        block_io(dir, b)?;
    }
    for h in &r.hugepage_limits {
        files::write(&dir.join(format!("hugetlb.{}.max", h.page_size)), &h.limit.to_string())?;
        files::write_if_present(
            &dir.join(format!("hugetlb.{}.rsvd.max", h.page_size)),
            &h.limit.to_string(),
        )?;
    }
    for (device, limit) in &r.rdma {
        files::write(&dir.join("rdma.max"), &rdma_line(device, limit))?;
    }
    if r.network.as_ref().is_some_and(|n| n.class_id.is_some_and(|c| c != 0) || !n.priorities.is_empty()) {
        return Err(Error::unsupported("net_cls and net_prio do not exist in cgroup v2"));
    }
    for (name, value) in &r.unified {
        if name.contains('/') || name == "cgroup.procs" {
            return Err(Error::invalid(format!(
                "unified resource {name:?} must be a file name without slashes"
            )));
        }
        files::write(&dir.join(name), value).map_err(|e| e.context(format!("unified resource {name:?}")))?;
    }
    Ok(())
}

fn devices(dir: &Path, r: &Resources, fresh: bool) -> Result<()> {
    if r.devices.is_empty() {
        return Ok(());
    }
    let mut rules = r.devices.clone();
    if fresh && rules.iter().any(|d| !d.allow) {
        rules.extend(super::v1::default_rules());
    }
    let program = super::devices::compile(&rules)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let cgroup = rustix::fs::open(dir, flags, Mode::empty()).about(|| dir.display().to_string())?;
    super::devices::install(&cgroup, &program).about(|| format!("device rules of {}", dir.display()))
}

/// `rdma.max` line for one device.
pub(crate) fn rdma_line(device: &str, limit: &Rdma) -> String {
    let value = |v: Option<u32>| v.map_or_else(|| "max".to_owned(), |v| v.to_string());
    format!("{device} hca_handle={} hca_object={}", value(limit.hca_handles), value(limit.hca_objects))
}

fn limit(value: i64) -> String {
    if value < 0 { "max".to_owned() } else { value.to_string() }
}

fn memory(dir: &Path, m: &Memory) -> Result<()> {
    let file = |name: &str| dir.join(format!("memory.{name}"));
    if m.check_before_update == Some(true)
        && let (Some(limit), Some(usage)) = (m.limit, files::number(&file("current")))
        && u64::try_from(limit).is_ok_and(|l| l < usage)
    {
        return Err(Error::invalid(format!(
            "unable to set memory limit to {limit} (current usage: {usage})"
        )));
    }
    if let Some(swap) = swap_alone(m)? {
        match files::write_if_present(&file("swap.max"), &swap) {
            // A kernel without swap accounting: "no swap" and "unlimited" are true anyway.
            Ok(false) if swap != "max" && swap != "0" => {
                return Err(Error::unsupported("this kernel does not account swap per cgroup"));
            }
            other => other?,
        };
    }
    if let Some(v) = m.limit.filter(|v| *v != 0) {
        files::write(&file("max"), &limit(v))
            .map_err(|e| e.context(format!("unable to set memory limit to {v}")))?;
    }
    if let Some(v) = m.reservation.filter(|v| *v != 0) {
        files::write(&file("low"), &limit(v))?;
    }
    Ok(())
}

/// Swap alone, from version 1's memory and swap together.
fn swap_alone(m: &Memory) -> Result<Option<String>> {
    match (m.swap, m.limit) {
        (None | Some(0), Some(-1)) => Ok(Some("max".to_owned())),
        (None | Some(0), _) => Ok(None),
        (Some(-1), _) => Ok(Some("max".to_owned())),
        (Some(swap), Some(limit)) if limit > 0 && swap >= limit => Ok(Some((swap - limit).to_string())),
        (Some(swap), Some(limit)) if limit > 0 => Err(Error::invalid(format!(
            "memory and swap together ({swap}) are less than memory alone ({limit})"
        ))),
        (Some(_), _) => Err(Error::invalid("a swap limit needs a memory limit beside it")),
    }
}

/// `cpu.weight` (1 to 10000) for `cpu.shares` (2 to 262144): the curve through (2,1), (1024,100), (262144,10000).
pub(crate) fn weight_of_shares(shares: u64) -> u64 {
    if shares <= 2 {
        return 1;
    }
    if shares >= 262_144 {
        return 10_000;
    }
    let l = (shares as f64).log2();
    let exponent = (l * l + 125.0 * l) / 612.0 - 7.0 / 34.0;
    10f64.powf(exponent).ceil() as u64
}

fn cpu(dir: &Path, c: &Cpu) -> Result<()> {
    if c.realtime_period.is_some_and(|v| v != 0) || c.realtime_runtime.is_some_and(|v| v != 0) {
        return Err(Error::unsupported("realtime CPU limits do not exist in cgroup v2"));
    }
    if let Some(idle) = c.idle {
        files::write(&dir.join("cpu.idle"), &idle.to_string())?;
    }
    if let Some(shares) = c.shares.filter(|s| *s != 0) {
        files::write(&dir.join("cpu.weight"), &weight_of_shares(shares).to_string())?;
    }
    let max = dir.join("cpu.max");
    match (c.quota.filter(|q| *q != 0), c.period.filter(|p| *p != 0)) {
        (None, None) => {}
        (quota, period) => {
            let now = files::read(&max).unwrap_or_default();
            let mut now = now.split_whitespace();
            let (quota_now, period_now) = (now.next().unwrap_or("max"), now.next().unwrap_or("100000"));
            let quota = quota.map_or_else(|| quota_now.to_owned(), limit);
            let period = period.map_or_else(|| period_now.to_owned(), |p| p.to_string());
            files::write(&max, &format!("{quota} {period}"))?;
        }
    }
    if let Some(burst) = c.burst {
        files::write(&dir.join("cpu.max.burst"), &burst.to_string())?;
    }
    for (name, value) in [("cpuset.cpus", &c.cpus), ("cpuset.mems", &c.mems)] {
        if !value.is_empty() {
            files::write(&dir.join(name), value)?;
        }
    }
    Ok(())
}

/// `io.weight` (1 to 10000) for `blkio.weight` (10 to 1000).
fn io_weight(weight: u16) -> u64 {
    1 + (u64::from(weight).saturating_sub(10)) * 9999 / 990
}

fn block_io(dir: &Path, b: &BlockIo) -> Result<()> {
    if let Some(w) = b.weight.filter(|w| *w != 0)
        && !files::write_if_present(&dir.join("io.bfq.weight"), &w.to_string())?
    {
        files::write(&dir.join("io.weight"), &io_weight(w).to_string())?;
    }
    for d in &b.weight_device {
        if let Some(w) = d.weight {
            let bfq = format!("{}:{} {w}", d.major, d.minor);
            if !files::write_if_present(&dir.join("io.bfq.weight"), &bfq)? {
                files::write(&dir.join("io.weight"), &format!("{}:{} {}", d.major, d.minor, io_weight(w)))?;
            }
        }
    }
    let throttle = |key: &str, list: &[ThrottleDevice]| -> Result<()> {
        for d in list {
            let rate = if d.rate == 0 { "max".to_owned() } else { d.rate.to_string() };
            files::write(&dir.join("io.max"), &format!("{}:{} {key}={rate}", d.major, d.minor))?;
        }
        Ok(())
    };
    throttle("rbps", &b.throttle_read_bps_device)?;
    throttle("wbps", &b.throttle_write_bps_device)?;
    throttle("riops", &b.throttle_read_iops_device)?;
    throttle("wiops", &b.throttle_write_iops_device)
}

/// Freezes or thaws, and waits for it.
pub(crate) fn set_frozen(dir: &Path, frozen: bool) -> Result<()> {
    let wanted = if frozen { "1" } else { "0" };
    files::write(&dir.join("cgroup.freeze"), wanted)?;
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut pause = Duration::from_micros(50);
    while files::keyed(&files::read(&dir.join("cgroup.events"))?, "frozen") != Some(wanted) {
        if Instant::now() > deadline {
            let _ = files::write(&dir.join("cgroup.freeze"), "0");
            return Err(Error::new(Kind::Timeout, format!("{} did not freeze", dir.display())));
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(10));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_and_weights_meet_at_the_known_points() {
        for (shares, weight) in [(0, 1), (2, 1), (1024, 100), (262_144, 10_000)] {
            assert_eq!(weight_of_shares(shares), weight, "{shares}");
        }
        assert_eq!((io_weight(10), io_weight(1000)), (1, 10_000));
    }

    #[test]
    fn swap_is_what_remains_above_memory() {
        let m = |limit, swap| Memory { limit, swap, ..Memory::default() };
        assert_eq!(swap_alone(&m(Some(10), Some(30))).expect("valid"), Some("20".into()));
        assert_eq!(swap_alone(&m(Some(10), Some(-1))).expect("valid"), Some("max".into()));
        assert_eq!(swap_alone(&m(Some(10), None)).expect("valid"), None);
        assert!(swap_alone(&m(Some(10), Some(5))).is_err());
        assert!(swap_alone(&m(None, Some(5))).is_err());
    }
}
