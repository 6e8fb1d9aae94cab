//! What a running container uses.

use fluyt_model::error::IoContext;
use fluyt_model::{Error, Result};
use fluyt_runtime::{Cgroup, CgroupPaths};

use crate::Engine;
use crate::api::Stats;

impl Engine {
    /// One reading of what a container uses; all zero if it does not run.
    ///
    /// # Errors
    /// `NotFound`; the cgroup cannot be read.
    pub fn stats(&self, name: &str) -> Result<Stats> {
        let record = self.records().container(name)?;
        let status = self.status(&record.id)?;
        let mut stats = Stats {
            read: fluyt_monitor::state::now(),
            online_cpus: std::thread::available_parallelism()
                .map_or(1, |n| u32::try_from(n.get()).unwrap_or(1)),
            machine_cpu: machine_cpu()?,
            ..Stats::default()
        };
        if status.pid == 0 {
            return Ok(stats);
        }
        let paths: CgroupPaths = serde_json::from_value(status.cgroup)
            .map_err(|e| Error::corrupt(format!("container {}: cgroup", record.name)).with_source(e))?;
        let used = Cgroup::open(&paths).stats()?;
        fill(&mut stats, &used);
        let machine = memory_of_machine()?;
        if stats.memory_limit == 0 || stats.memory_limit > machine {
            stats.memory_limit = machine;
        }
        if !record.spec.networks.is_empty() {
            stats.networks = interfaces(status.pid)?;
        }
        Ok(stats)
    }
}

fn fill(stats: &mut Stats, used: &fluyt_runtime::CgroupStats) {
    stats.cpu_total = used.cpu.total;
    stats.cpu_user = used.cpu.user;
    stats.cpu_system = used.cpu.kernel;
    stats.cpu_per.clone_from(&used.cpu.per_cpu);
    stats.throttling = (used.cpu.periods, used.cpu.throttled_periods, used.cpu.throttled_time);
    stats.memory = used.memory.usage;
    stats.memory_limit = used.memory.limit;
    stats.memory_stat.clone_from(&used.memory.details);
    stats.inactive_file = used.memory.inactive_file;
    stats.pids = used.pids.current;
    stats.pids_limit = used.pids.limit;
    stats.blkio =
        used.blkio.iter().fold((0, 0), |(r, w), device| (r + device.read_bytes, w + device.write_bytes));
}

/// Processor time of the whole machine, ns, from the first line of /proc/stat (proc(5)).
fn machine_cpu() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/stat").about(|| "/proc/stat")?;
    let first = text.lines().next().unwrap_or_default();
    let ticks: u64 = first.split_whitespace().skip(1).take(8).filter_map(|n| n.parse::<u64>().ok()).sum();
    let hertz = rustix::param::clock_ticks_per_second().max(1);
    Ok(ticks.saturating_mul(1_000_000_000 / hertz))
}

pub(crate) fn memory_of_machine() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").about(|| "/proc/meminfo")?;
    let kib = text
        .lines()
        .find_map(|l| l.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    Ok(kib.unwrap_or(0) * 1024)
}

fn interfaces(pid: i32) -> Result<Vec<(String, [u64; 8])>> {
    let path = format!("/proc/{pid}/net/dev");
    let text = std::fs::read_to_string(&path).about(|| path)?;
    Ok(text
        .lines()
        .skip(2)
        .filter_map(|line| {
            let (name, counters) = line.split_once(':')?;
            let all: Vec<u64> = counters.split_whitespace().filter_map(|n| n.parse().ok()).collect();
            let picked = [0, 1, 2, 3, 8, 9, 10, 11].map(|at| all.get(at).copied().unwrap_or(0));
            (name.trim() != "lo").then(|| (name.trim().to_owned(), picked))
        })
        .collect())
}
