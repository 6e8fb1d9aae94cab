//! Version 1: one directory in each hierarchy; file names differ from version 2, values are the specification's own.

use std::path::Path;
use std::time::{Duration, Instant};

use fluyt_model::error::{Error, Kind, Result};

use super::{CgroupPaths, V1Dir, files};
use crate::spec::{BlockIo, Cpu, DeviceRule, Memory, Network, Resources, ThrottleDevice};

/// Makes the directories, and a cpuset that can hold tasks.
///
/// Whether any of them was there before.
pub(crate) fn create(dirs: &[V1Dir]) -> Result<bool> {
    let mut present = false;
    for dir in dirs {
        let new = files::make(&dir.path)?;
        present |= !new;
        if new && dir.controllers.split(',').any(|c| c == "cpuset") {
            inherit_cpuset(&dir.path, 0)?;
        }
    }
    Ok(present)
}

/// An empty cpuset accepts no task; a new one takes over what its parent has.
fn inherit_cpuset(dir: &Path, depth: u32) -> Result<()> {
    for name in ["cpuset.cpus", "cpuset.mems"] {
        if !files::read(&dir.join(name))?.trim().is_empty() {
            continue;
        }
        let Some(parent) = dir.parent().filter(|_| depth < 32) else { continue };
        let mut value = files::read(&parent.join(name))?;
        if value.trim().is_empty() {
            inherit_cpuset(parent, depth + 1)?;
            value = files::read(&parent.join(name))?;
        }
        files::write(&dir.join(name), value.trim())?;
    }
    Ok(())
}

/// Writes limits; with `fresh`, device rules too (a new group starts with none).
pub(crate) fn apply(paths: &CgroupPaths, r: &Resources, fresh: bool) -> Result<()> {
    let need = |name: &str| {
        paths
            .controller(name)
            .ok_or_else(|| Error::unsupported(format!("this host has no {name} cgroup controller")))
    };
    if fresh || !r.devices.is_empty() {
        match paths.controller("devices") {
            Some(dir) => devices(dir, &r.devices, fresh)?,
            None if r.devices.iter().any(|d| !d.allow) => {
                return Err(need("devices").err().unwrap_or_else(|| Error::unsupported("devices")));
            }
            None => {}
        }
    }
    if let Some(m) = &r.memory {
        memory(need("memory")?, m)?;
    }
    if let Some(c) = &r.cpu {
        cpu(paths, c)?;
    }
    if let Some(limit) = r.pids.as_ref().and_then(|p| p.limit) {
        files::write(&need("pids")?.join("pids.max"), &super::pids_value(limit))?;
    }
    if let Some(b) = &r.block_io {
        block_io(need("blkio")?, b)?;
    }
    for h in &r.hugepage_limits {
        files::write(
            &need("hugetlb")?.join(format!("hugetlb.{}.limit_in_bytes", h.page_size)),
            &h.limit.to_string(),
        )?;
        let reserved = need("hugetlb")?.join(format!("hugetlb.{}.rsvd.limit_in_bytes", h.page_size));
        files::write_if_present(&reserved, &h.limit.to_string())?;
    }
    for (device, limit) in &r.rdma {
        files::write(&need("rdma")?.join("rdma.max"), &super::v2::rdma_line(device, limit))?;
    }
    if let Some(n) = &r.network {
        network(paths, n)?;
    }
    if !r.unified.is_empty() {
        return Err(Error::unsupported(
            "invalid configuration: resources.unified needs cgroup v2, which this host does not use",
        ));
    }
    Ok(())
}

/// The rules that every container needs besides its own: making nodes is harmless, the default devices are promised.
pub(crate) fn default_rules() -> Vec<DeviceRule> {
    let rule = |major: Option<i64>, minor: Option<i64>, kind: &str, access: &str| DeviceRule {
        allow: true,
        kind: kind.to_owned(),
        major,
        minor,
        access: access.to_owned(),
    };
    let mut rules = vec![rule(None, None, "c", "m"), rule(None, None, "b", "m")];
    for (_, major, minor) in crate::init::devices::DEFAULT {
        rules.push(rule(Some(major.into()), Some(minor.into()), "c", "rwm"));
    }
    // /dev/console, terminals of the container's devpts and its multiplexer; tun for VPNs as runc has it.
    rules.push(rule(Some(5), Some(1), "c", "rwm"));
    rules.push(rule(Some(136), None, "c", "rwm"));
    rules.push(rule(Some(5), Some(2), "c", "rwm"));
    rules
}

fn devices(dir: &Path, rules: &[DeviceRule], fresh: bool) -> Result<()> {
    // A configuration without rules leaves the devices as the parent group has them.
    let defaults = if fresh && rules.iter().any(|r| !r.allow) { default_rules() } else { Vec::new() };
    // Each of the two files is opened once: the rules are many.
    let mut open: [Option<files::Control>; 2] = [None, None];
    for rule in rules.iter().chain(&defaults) {
        let name = if rule.allow { "devices.allow" } else { "devices.deny" };
        let slot = &mut open[usize::from(rule.allow)];
        let file = match slot {
            Some(file) => file,
            none => none.insert(files::Control::open(&dir.join(name))?),
        };
        file.write(&device_line(rule)?)?;
    }
    Ok(())
}

fn device_line(r: &DeviceRule) -> Result<String> {
    let number = |n: Option<i64>| n.filter(|n| *n >= 0).map_or_else(|| "*".to_owned(), |n| n.to_string());
    let kind = device_kind(r)?;
    if kind == 'a' {
        return Ok("a".to_owned());
    }
    let access: String = r.access.chars().filter(|c| "rwm".contains(*c)).collect();
    let access = if access.is_empty() { "rwm" } else { access.as_str() };
    Ok(format!("{kind} {}:{} {access}", number(r.major), number(r.minor)))
}

/// `a`, `b` or `c`, from the words of the specification.
pub(crate) fn device_kind(r: &DeviceRule) -> Result<char> {
    match r.kind.as_str() {
        "" | "a" => Ok('a'),
        "b" => Ok('b'),
        "c" | "u" => Ok('c'),
        other => Err(Error::invalid(format!("device rule of the unknown type {other:?}"))),
    }
}

fn memory(dir: &Path, m: &Memory) -> Result<()> {
    let file = |name: &str| dir.join(format!("memory.{name}"));
    if m.check_before_update == Some(true)
        && let (Some(limit), Some(usage)) = (m.limit, files::number(&file("usage_in_bytes")))
        && u64::try_from(limit).is_ok_and(|l| l < usage)
    {
        return Err(Error::invalid(format!(
            "unable to set memory limit to {limit} (current usage: {usage})"
        )));
    }
    let set = |name: &str, value: i64| {
        files::write(&file(name), &value.to_string()).map_err(|e| {
            let e = e.context(format!("unable to set memory limit to {value}"));
            if e.chain().contains("busy") {
                e.with_hint("the processes use more memory than that")
            } else {
                e
            }
        })
    };
    // The limit without swap may never exceed that with swap: growing starts with the latter, shrinking with the former.
    let swap = match (m.limit, m.swap) {
        (Some(-1), None) if files::number(&file("memsw.limit_in_bytes")).is_some() => Some(-1),
        (_, swap) => swap.filter(|s| *s != 0),
    };
    let current = files::number(&file("limit_in_bytes")).unwrap_or(u64::MAX);
    let grows = swap.is_some_and(|s| s < 0 || u64::try_from(s).is_ok_and(|s| s > current));
    if let (Some(s), true) = (swap, grows) {
        set("memsw.limit_in_bytes", s)?;
    }
    if let Some(limit) = m.limit.filter(|l| *l != 0) {
        set("limit_in_bytes", limit)?;
    }
    if let (Some(s), false) = (swap, grows) {
        set("memsw.limit_in_bytes", s)?;
    }
    if let Some(v) = m.reservation.filter(|v| *v != 0) {
        set("soft_limit_in_bytes", v)?;
    }
    if let Some(v) = m.kernel_tcp.filter(|v| *v != 0) {
        set("kmem.tcp.limit_in_bytes", v)?;
    }
    if m.disable_oom_killer == Some(true) {
        files::write(&file("oom_control"), "1")?;
    }
    match m.swappiness {
        None | Some(u64::MAX) => Ok(()),
        Some(v) if v <= 100 => files::write(&file("swappiness"), &v.to_string()),
        Some(v) => Err(Error::invalid(format!("memory swappiness {v} is not 0 to 100"))),
    }
}

fn cpu(paths: &CgroupPaths, c: &Cpu) -> Result<()> {
    let cpu_dir = paths.controller("cpu");
    let set = |name: &str, value: Option<String>| {
        let Some(value) = value else { return Ok(()) };
        let dir = cpu_dir.ok_or_else(|| Error::unsupported("this host has no cpu cgroup controller"))?;
        files::write(&dir.join(name), &value)
    };
    let positive = |v: Option<u64>| v.filter(|v| *v != 0).map(|v| v.to_string());
    set("cpu.shares", positive(c.shares))?;
    let (period, quota) = (positive(c.period), c.quota.filter(|q| *q != 0).map(|q| q.to_string()));
    // A new period with the old quota may exceed the parent's share, and the other way round: try both orders.
    if period.is_some() && set("cpu.cfs_period_us", period.clone()).is_err() {
        set("cpu.cfs_quota_us", quota.clone())?;
        set("cpu.cfs_period_us", period)?;
    } else {
        set("cpu.cfs_quota_us", quota)?;
    }
    set("cpu.cfs_burst_us", c.burst.map(|v| v.to_string()))?;
    let runtime = c.realtime_runtime.filter(|v| *v != 0).map(|v| v.to_string());
    let period = positive(c.realtime_period);
    // Here too, each is judged with what the other is at that moment.
    if period.is_some() && set("cpu.rt_period_us", period.clone()).is_err() {
        set("cpu.rt_runtime_us", runtime)?;
        set("cpu.rt_period_us", period)?;
    } else {
        set("cpu.rt_runtime_us", runtime)?;
    }
    set("cpu.idle", c.idle.map(|v| v.to_string()))?;
    for (name, value) in [("cpuset.cpus", &c.cpus), ("cpuset.mems", &c.mems)] {
        if !value.is_empty() {
            let dir = paths
                .controller("cpuset")
                .ok_or_else(|| Error::unsupported("this host has no cpuset controller"))?;
            files::write(&dir.join(name), value)?;
        }
    }
    Ok(())
}

fn block_io(dir: &Path, b: &BlockIo) -> Result<()> {
    // The names depend on the scheduler that the kernel was built with.
    let weight = |names: [&str; 2], value: &str| -> Result<()> {
        for name in names {
            if files::write_if_present(&dir.join(name), value)? {
                return Ok(());
            }
        }
        Err(Error::unsupported(format!(
            "this kernel has no {} file: no I/O scheduler with weights",
            names[0]
        )))
    };
    if let Some(w) = b.weight.filter(|w| *w != 0) {
        weight(["blkio.weight", "blkio.bfq.weight"], &w.to_string())?;
    }
    if let Some(w) = b.leaf_weight.filter(|w| *w != 0) {
        files::write(&dir.join("blkio.leaf_weight"), &w.to_string())?;
    }
    for d in &b.weight_device {
        if let Some(w) = d.weight {
            let line = format!("{}:{} {w}", d.major, d.minor);
            weight(["blkio.weight_device", "blkio.bfq.weight_device"], &line)?;
        }
        if let Some(w) = d.leaf_weight {
            files::write(&dir.join("blkio.leaf_weight_device"), &format!("{}:{} {w}", d.major, d.minor))?;
        }
    }
    let throttle = |name: &str, list: &[ThrottleDevice]| -> Result<()> {
        for d in list {
            files::write(&dir.join(name), &format!("{}:{} {}", d.major, d.minor, d.rate))?;
        }
        Ok(())
    };
    throttle("blkio.throttle.read_bps_device", &b.throttle_read_bps_device)?;
    throttle("blkio.throttle.write_bps_device", &b.throttle_write_bps_device)?;
    throttle("blkio.throttle.read_iops_device", &b.throttle_read_iops_device)?;
    throttle("blkio.throttle.write_iops_device", &b.throttle_write_iops_device)
}

fn network(paths: &CgroupPaths, n: &Network) -> Result<()> {
    let missing = |name: &str| Error::unsupported(format!("this host has no {name} cgroup controller"));
    if let Some(class) = n.class_id {
        let dir = paths.controller("net_cls").ok_or_else(|| missing("net_cls"))?;
        files::write(&dir.join("net_cls.classid"), &class.to_string())?;
    }
    for p in &n.priorities {
        let dir = paths.controller("net_prio").ok_or_else(|| missing("net_prio"))?;
        files::write(&dir.join("net_prio.ifpriomap"), &format!("{} {}", p.name, p.priority))?;
    }
    Ok(())
}

/// Freezes or thaws, and waits for it.
pub(crate) fn set_frozen(dir: &Path, frozen: bool) -> Result<()> {
    let file = dir.join("freezer.state");
    let wanted = if frozen { "FROZEN" } else { "THAWED" };
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut pause = Duration::from_micros(50);
    loop {
        match files::write(&file, wanted) {
            Ok(()) => {}
            Err(e) if e.kind() == Kind::NotFound => return Err(e),
            Err(e) => return Err(e.context("freezer")),
        }
        if files::read(&file)?.trim() == wanted {
            return Ok(());
        }
        if Instant::now() > deadline {
            let _ = files::write(&file, "THAWED");
            return Err(Error::new(Kind::Timeout, format!("{} did not become {wanted}", file.display())));
        }
        // FREEZING: new tasks may have slipped in; a short thaw lets the kernel start over when that lasts.
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(10));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_rules_become_lines() {
        let rule =
            DeviceRule { allow: true, kind: "c".into(), major: Some(1), minor: None, access: "rw".into() };
        assert_eq!(device_line(&rule).expect("line"), "c 1:* rw");
        assert_eq!(device_line(&DeviceRule::default()).expect("line"), "a");
    }
}
