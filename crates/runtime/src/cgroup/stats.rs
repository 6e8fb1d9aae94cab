//! What a container uses, in units of the specification whatever the version: nanoseconds, bytes, counts.

use std::path::Path;

use fluyt_model::error::{Error, Result};
use serde::{Deserialize, Serialize};

use super::{CgroupPaths, files};

/// What a container uses now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupStats {
    /// Processor time.
    pub cpu: CpuStats,
    /// Memory.
    pub memory: MemoryStats,
    /// Tasks.
    pub pids: PidsStats,
    /// Block devices.
    pub blkio: Vec<BlkioEntry>,
    /// Huge pages by size.
    pub hugetlb: Vec<HugetlbStats>,
}

/// Processor time in nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuStats {
    /// All.
    pub total: u64,
    /// In user mode.
    pub user: u64,
    /// In kernel mode.
    pub kernel: u64,
    /// By processor; version 1 only.
    pub per_cpu: Vec<u64>,
    /// Enforcement periods that have passed.
    pub periods: u64,
    /// Periods in which the group was held back.
    pub throttled_periods: u64,
    /// How long it was held back.
    pub throttled_time: u64,
}

/// Memory in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryStats {
    /// In use, cache included.
    pub usage: u64,
    /// The most ever in use; 0 if the kernel does not say.
    pub max_usage: u64,
    /// The limit; `u64::MAX` for none.
    pub limit: u64,
    /// How often the limit was hit.
    pub failures: u64,
    /// Page cache.
    pub cache: u64,
    /// Anonymous memory.
    pub rss: u64,
    /// Page cache that can be dropped first (`inactive_file`), which Docker subtracts from the usage.
    pub inactive_file: u64,
    /// Swap in use.
    pub swap: u64,
    /// The swap limit; memory and swap together on version 1. `u64::MAX` for none.
    pub swap_limit: u64,
    /// Kernel memory.
    pub kernel: u64,
    /// Processes killed for lack of memory.
    pub oom_kills: u64,
    /// Every line of `memory.stat`.
    pub details: std::collections::BTreeMap<String, u64>,
}

/// Tasks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PidsStats {
    /// Now.
    pub current: u64,
    /// The limit; `u64::MAX` for none.
    pub limit: u64,
}

/// What went to and from one block device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlkioEntry {
    /// Major number.
    pub major: u64,
    /// Minor number.
    pub minor: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub write_bytes: u64,
    /// Read operations.
    pub read_ops: u64,
    /// Write operations.
    pub write_ops: u64,
}

/// Huge pages of one size.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HugetlbStats {
    /// `2MB`, `1GB`.
    pub size: String,
    /// Bytes in use.
    pub usage: u64,
    /// Most bytes ever in use.
    pub max_usage: u64,
    /// How often the limit was hit.
    pub failures: u64,
}

pub(super) fn read(paths: &CgroupPaths) -> Result<CgroupStats> {
    let dir = paths.main().ok_or_else(|| Error::not_found("the container has no cgroup"))?;
    if !dir.is_dir() {
        return Err(Error::not_found(format!("cgroup {}", dir.display())));
    }
    Ok(match &paths.v2 {
        Some(dir) => unified(dir),
        None => separate(paths),
    })
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

fn value(text: &str, key: &str) -> u64 {
    files::keyed(text, key).and_then(|v| v.parse().ok()).unwrap_or(0)
}

fn unlimited(v: u64) -> u64 {
    // Version 1 has no word for "none", only the largest number of pages.
    if v > i64::MAX as u64 - 0x10_0000 { u64::MAX } else { v }
}

fn unified(dir: &Path) -> CgroupStats {
    let n = |name: &str| files::number(&dir.join(name));
    let cpu = text(&dir.join("cpu.stat"));
    let stat = text(&dir.join("memory.stat"));
    let events = text(&dir.join("memory.events"));
    CgroupStats {
        cpu: CpuStats {
            total: value(&cpu, "usage_usec") * 1000,
            user: value(&cpu, "user_usec") * 1000,
            kernel: value(&cpu, "system_usec") * 1000,
            per_cpu: Vec::new(),
            periods: value(&cpu, "nr_periods"),
            throttled_periods: value(&cpu, "nr_throttled"),
            throttled_time: value(&cpu, "throttled_usec") * 1000,
        },
        memory: MemoryStats {
            usage: n("memory.current").unwrap_or(0),
            max_usage: n("memory.peak").unwrap_or(0),
            limit: n("memory.max").unwrap_or(u64::MAX),
            failures: value(&events, "max"),
            cache: value(&stat, "file"),
            rss: value(&stat, "anon"),
            inactive_file: value(&stat, "inactive_file"),
            swap: n("memory.swap.current").unwrap_or(0),
            swap_limit: n("memory.swap.max").unwrap_or(u64::MAX),
            kernel: value(&stat, "kernel"),
            oom_kills: value(&events, "oom_kill"),
            details: details(&stat),
        },
        pids: PidsStats { current: n("pids.current").unwrap_or(0), limit: n("pids.max").unwrap_or(u64::MAX) },
        blkio: io_stat(&text(&dir.join("io.stat"))),
        hugetlb: hugetlb(dir, "current", "max", "events"),
    }
}

fn details(stat: &str) -> std::collections::BTreeMap<String, u64> {
    let parse = |l: &str| l.split_once(' ').and_then(|(k, v)| Some((k.to_owned(), v.trim().parse().ok()?)));
    stat.lines().filter_map(parse).collect()
}

/// `MAJ:MIN rbytes=.. wbytes=.. rios=.. wios=..`
fn io_stat(text: &str) -> Vec<BlkioEntry> {
    let line = |l: &str| {
        let (device, rest) = l.split_once(' ')?;
        let (major, minor) = device.split_once(':')?;
        let get = |key: &str| {
            let found = rest.split_whitespace().find_map(|w| w.split_once('=').filter(|(k, _)| *k == key));
            found.and_then(|(_, v)| v.parse().ok()).unwrap_or(0)
        };
        Some(BlkioEntry {
            major: major.parse().ok()?,
            minor: minor.parse().ok()?,
            read_bytes: get("rbytes"),
            write_bytes: get("wbytes"),
            read_ops: get("rios"),
            write_ops: get("wios"),
        })
    };
    text.lines().filter_map(line).collect()
}

fn separate(paths: &CgroupPaths) -> CgroupStats {
    let mut s = CgroupStats::default();
    s.memory.limit = u64::MAX;
    s.memory.swap_limit = u64::MAX;
    s.pids.limit = u64::MAX;
    if let Some(dir) = paths.controller("cpuacct") {
        cpuacct(dir, &mut s.cpu);
    }
    if let Some(dir) = paths.controller("cpu") {
        let stat = text(&dir.join("cpu.stat"));
        s.cpu.periods = value(&stat, "nr_periods");
        s.cpu.throttled_periods = value(&stat, "nr_throttled");
        s.cpu.throttled_time = value(&stat, "throttled_time");
    }
    if let Some(dir) = paths.controller("memory") {
        s.memory = memory(dir);
    }
    if let Some(dir) = paths.controller("pids") {
        s.pids.current = files::number(&dir.join("pids.current")).unwrap_or(0);
        s.pids.limit = files::number(&dir.join("pids.max")).unwrap_or(u64::MAX);
    }
    if let Some(dir) = paths.controller("blkio") {
        s.blkio = blkio(dir);
    }
    if let Some(dir) = paths.controller("hugetlb") {
        s.hugetlb = hugetlb(dir, "usage_in_bytes", "max_usage_in_bytes", "failcnt");
    }
    s
}

fn cpuacct(dir: &Path, cpu: &mut CpuStats) {
    const TICK: u64 = 10_000_000;
    let stat = text(&dir.join("cpuacct.stat"));
    cpu.total = files::number(&dir.join("cpuacct.usage")).unwrap_or(0);
    cpu.user = value(&stat, "user") * TICK;
    cpu.kernel = value(&stat, "system") * TICK;
    let per = text(&dir.join("cpuacct.usage_percpu"));
    cpu.per_cpu = per.split_whitespace().filter_map(|v| v.parse().ok()).collect();
}

fn memory(dir: &Path) -> MemoryStats {
    let n = |name: &str| files::number(&dir.join(format!("memory.{name}"))).unwrap_or(0);
    let limit = |name: &str| files::number(&dir.join(format!("memory.{name}"))).map_or(u64::MAX, unlimited);
    let stat = text(&dir.join("memory.stat"));
    let total = |key: &str| {
        let hierarchical = format!("total_{key}");
        if files::keyed(&stat, &hierarchical).is_some() {
            value(&stat, &hierarchical)
        } else {
            value(&stat, key)
        }
    };
    MemoryStats {
        usage: n("usage_in_bytes"),
        max_usage: n("max_usage_in_bytes"),
        limit: limit("limit_in_bytes"),
        failures: n("failcnt"),
        cache: total("cache"),
        rss: total("rss"),
        inactive_file: total("inactive_file"),
        swap: total("swap"),
        swap_limit: limit("memsw.limit_in_bytes"),
        kernel: n("kmem.usage_in_bytes"),
        oom_kills: value(&text(&dir.join("memory.oom_control")), "oom_kill"),
        details: details(&stat),
    }
}

fn blkio(dir: &Path) -> Vec<BlkioEntry> {
    let mut out: Vec<BlkioEntry> = Vec::new();
    let pick = |names: [&str; 2]| {
        names.iter().map(|n| text(&dir.join(n))).find(|t| !t.is_empty()).unwrap_or_default()
    };
    let bytes = pick(["blkio.throttle.io_service_bytes_recursive", "blkio.throttle.io_service_bytes"]);
    let ops = pick(["blkio.throttle.io_serviced_recursive", "blkio.throttle.io_serviced"]);
    for (text, is_bytes) in [(&bytes, true), (&ops, false)] {
        for line in text.lines() {
            let mut words = line.split_whitespace();
            let (Some(device), Some(op), Some(v)) = (words.next(), words.next(), words.next()) else {
                continue;
            };
            let Some((major, minor)) = device.split_once(':') else { continue };
            let (Ok(major), Ok(minor), Ok(v)) =
                (major.parse::<u64>(), minor.parse::<u64>(), v.parse::<u64>())
            else {
                continue;
            };
            let at = out.iter().position(|e| e.major == major && e.minor == minor).unwrap_or_else(|| {
                out.push(BlkioEntry { major, minor, ..BlkioEntry::default() });
                out.len() - 1
            });
            let entry = &mut out[at];
            match (op, is_bytes) {
                ("Read", true) => entry.read_bytes = v,
                ("Write", true) => entry.write_bytes = v,
                ("Read", false) => entry.read_ops = v,
                ("Write", false) => entry.write_ops = v,
                _ => {}
            }
        }
    }
    out
}

fn hugetlb(dir: &Path, usage: &str, peak: &str, failures: &str) -> Vec<HugetlbStats> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let suffix = format!(".{usage}");
    let mut out: Vec<HugetlbStats> = entries
        .flatten()
        .filter_map(|e| {
            let name = e.file_name().into_string().ok()?;
            let size = name.strip_prefix("hugetlb.")?.strip_suffix(&suffix)?.to_owned();
            if size.contains("rsvd") {
                return None;
            }
            let n = |what: &str| files::number(&dir.join(format!("hugetlb.{size}.{what}"))).unwrap_or(0);
            let failed = if failures == "events" {
                value(&text(&dir.join(format!("hugetlb.{size}.events"))), "max")
            } else {
                n(failures)
            };
            let max_usage = if peak == "max" { 0 } else { n(peak) };
            Some(HugetlbStats { usage: n(usage), max_usage, failures: failed, size })
        })
        .collect();
    out.sort_by(|a, b| a.size.cmp(&b.size));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn io_stat_lines_become_entries() {
        let e = io_stat("254:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n8:0 \n");
        assert_eq!(e.len(), 2);
        assert_eq!((e[0].major, e[0].read_bytes, e[0].write_ops), (254, 1, 4));
    }

    #[test]
    fn the_largest_number_of_version_one_is_no_limit() {
        assert_eq!(unlimited(9_223_372_036_854_771_712), u64::MAX);
        assert_eq!(unlimited(4096), 4096);
    }
}
