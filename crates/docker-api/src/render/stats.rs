//! Samples of what a container uses.

use std::collections::BTreeMap;

use fluyt_engine::Stats;

use crate::time;
use crate::types::stats::{
    BlkioStatEntry, BlkioStats, CpuStats, CpuUsage, MemoryStats, NetworkStats, PidsStats, ThrottlingData,
};
use crate::types::{ContainerStats, List};

/// A sample with the one before it (of a container that does not run: neither).
#[must_use]
pub fn stats(id: &str, name: &str, before: Option<&Stats>, now: Option<&Stats>) -> ContainerStats {
    let mut all = ContainerStats {
        name: format!("/{name}"),
        id: id.to_owned(),
        read: time::rfc3339_nano(now.map_or(0, |s| s.read)),
        preread: time::rfc3339_nano(before.map_or(0, |s| s.read)),
        precpu_stats: before.map(cpu).unwrap_or_default(),
        ..ContainerStats::default()
    };
    let Some(now) = now else { return all };
    all.cpu_stats = cpu(now);
    all.pids_stats = PidsStats { current: now.pids, limit: now.pids_limit };
    all.memory_stats = memory(now);
    all.blkio_stats = blkio(now);
    all.networks = networks(now);
    all
}

fn cpu(stats: &Stats) -> CpuStats {
    let (periods, throttled_periods, throttled_time) = stats.throttling;
    CpuStats {
        cpu_usage: CpuUsage {
            total_usage: stats.cpu_total,
            percpu_usage: stats.cpu_per.clone(),
            usage_in_kernelmode: stats.cpu_system,
            usage_in_usermode: stats.cpu_user,
        },
        system_cpu_usage: stats.machine_cpu,
        online_cpus: stats.online_cpus,
        throttling_data: ThrottlingData { periods, throttled_periods, throttled_time },
    }
}

/// Clients subtract the inactive file cache themselves, by one of two names.
fn memory(stats: &Stats) -> MemoryStats {
    let mut details = stats.memory_stat.clone();
    if !details.contains_key("total_inactive_file") {
        details.entry("inactive_file".to_owned()).or_insert(stats.inactive_file);
    }
    MemoryStats { usage: stats.memory, stats: details, limit: stats.memory_limit, ..MemoryStats::default() }
}

fn blkio(stats: &Stats) -> BlkioStats {
    let (read, written) = stats.blkio;
    let entry = |op: &str, value| BlkioStatEntry { op: op.to_owned(), value, ..BlkioStatEntry::default() };
    let bytes = if (read, written) == (0, 0) {
        List::null()
    } else {
        vec![entry("read", read), entry("write", written)].into()
    };
    BlkioStats { io_service_bytes_recursive: bytes, ..BlkioStats::default() }
}

fn networks(stats: &Stats) -> BTreeMap<String, NetworkStats> {
    let one = |c: &[u64; 8]| NetworkStats {
        rx_bytes: c[0],
        rx_packets: c[1],
        rx_errors: c[2],
        rx_dropped: c[3],
        tx_bytes: c[4],
        tx_packets: c[5],
        tx_errors: c[6],
        tx_dropped: c[7],
    };
    stats.networks.iter().map(|(name, counters)| (name.clone(), one(counters))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_has_the_processor_time_of_the_one_before() {
        let before = Stats { read: 1_000_000_000, cpu_total: 5, ..Stats::default() };
        let now = Stats {
            read: 2_000_000_000,
            cpu_total: 9,
            networks: vec![("eth0".to_owned(), [1, 2, 3, 4, 5, 6, 7, 8])],
            ..Stats::default()
        };
        let document = stats("i", "n", Some(&before), Some(&now));
        assert_eq!(
            (document.precpu_stats.cpu_usage.total_usage, document.cpu_stats.cpu_usage.total_usage),
            (5, 9)
        );
        assert_eq!((document.preread.as_str(), document.name.as_str()), ("1970-01-01T00:00:01Z", "/n"));
        assert_eq!(document.networks["eth0"].tx_dropped, 8);
        assert_eq!(stats("i", "n", None, None).read, "0001-01-01T00:00:00Z");
    }
}
