//! Limits as cgroup resources, and the checks that Docker makes of them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use fluyt_model::sandbox::{ContainerSpec, Resources as Wanted};
use fluyt_model::{Error, Result};
use fluyt_runtime::spec::{BlockIo, Cpu, Memory, Pids, Resources, ThrottleDevice, WeightDevice};

use super::{Resolved, devices};

/// The least memory that a container can start in, bytes.
const MIN_MEMORY: i64 = 6 << 20;
/// The scheduling period that fractions of processors are expressed in, microseconds.
const PERIOD: u64 = 100_000;

/// Processors that this machine has online.
#[must_use]
pub fn online_cpus() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Refuses limits that cannot work on a machine with `cpus` processors, which are counted only if it matters.
///
/// # Errors
/// `Invalid`, with Docker's sentence.
pub fn validate(r: &Wanted, cpus: &dyn Fn() -> usize) -> Result<()> {
    let invalid = |text: String| Err(Error::invalid(text));
    if r.memory.is_some_and(|m| m > 0 && m < MIN_MEMORY) {
        return Err(
            Error::invalid("Minimum memory limit allowed is 6MB").with_hint("give --memory 6m or more")
        );
    }
    if r.memory.is_some_and(|m| m < 0) {
        return invalid("memory limit cannot be negative".into());
    }
    match (r.memory, r.memory_swap) {
        (None, Some(swap)) if swap > 0 => {
            return invalid(
                "You should always set the Memory limit when using Memoryswap limit, see usage".into(),
            );
        }
        (Some(memory), Some(swap)) if swap > 0 && swap < memory => {
            return invalid("Minimum memoryswap limit should be larger than memory limit, see usage".into());
        }
        _ => {}
    }
    if let (Some(memory), Some(reservation)) = (r.memory, r.memory_reservation)
        && memory < reservation
    {
        return invalid(
            "Minimum memory limit can not be less than memory reservation limit, see usage".into(),
        );
    }
    if r.memory_swappiness.is_some_and(|s| s > 100) {
        return invalid(format!(
            "Invalid value: {}, valid memory swappiness range is 0-100",
            r.memory_swappiness.unwrap_or_default()
        ));
    }
    if let Some(nano) = r.nano_cpus {
        let cpus = cpus();
        if nano < 0 || nano > i64::try_from(cpus).unwrap_or(i64::MAX).saturating_mul(1_000_000_000) {
            return invalid(format!(
                "range of CPUs is from 0.01 to {cpus}.00, as there are only {cpus} CPUs available"
            ));
        }
        if r.cpu_quota.is_some() || r.cpu_period.is_some() {
            return invalid(
                "Conflicting options: Nano CPUs and CPU Period or Quota cannot both be set".into(),
            );
        }
    }
    if r.cpu_period.is_some_and(|p| !(1000..=1_000_000).contains(&p)) {
        return invalid(
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)".into(),
        );
    }
    if r.cpu_quota.is_some_and(|q| q > 0 && q < 1000) {
        return invalid("CPU cfs quota can not be less than 1ms (i.e. 1000)".into());
    }
    if r.blkio_weight.is_some_and(|w| !(10..=1000).contains(&w)) {
        return invalid("Range of blkio weight is from 10 to 1000".into());
    }
    for (what, list) in [("CPUs", &r.cpuset_cpus), ("memory nodes", &r.cpuset_mems)] {
        let wrong = list.split(',').filter(|p| !p.is_empty()).any(|p| {
            let (first, last) = p.split_once('-').unwrap_or((p, p));
            !matches!((first.parse::<u32>(), last.parse::<u32>()), (Ok(a), Ok(b)) if a <= b)
        });
        if wrong {
            return invalid(format!("Invalid value {list} for cpuset {what}"));
        }
    }
    if r.cpuset_cpus.is_empty() {
        return Ok(());
    }
    let cpus = cpus();
    let highest = r.cpuset_cpus.split([',', '-']).filter_map(|n| n.parse::<usize>().ok()).max();
    if highest.is_some_and(|h| h >= cpus) {
        return invalid(format!(
            "Requested CPUs are not available - requested {}, available: 0-{}",
            r.cpuset_cpus,
            cpus.saturating_sub(1)
        ));
    }
    Ok(())
}

pub(super) fn oci(container: &ContainerSpec, resolved: &Resolved) -> Resources {
    let mut r = resources(&container.resources, &resolved.block_devices);
    r.devices = devices::rules(container.security.privileged, &resolved.devices, &container.device_rules);
    r
}

/// The block devices that limits name.
pub fn limited_devices(r: &Wanted) -> impl Iterator<Item = &PathBuf> {
    let rates = [&r.read_bps, &r.write_bps, &r.read_iops, &r.write_iops];
    rates
        .into_iter()
        .flatten()
        .map(|(path, _)| path)
        .chain(r.blkio_weight_device.iter().map(|(path, _)| path))
}

/// The cgroup resources that `wanted` asks for, without device rules.
#[must_use]
pub fn resources(wanted: &Wanted, block_devices: &BTreeMap<PathBuf, (i64, i64)>) -> Resources {
    Resources {
        memory: memory(wanted),
        cpu: cpu(wanted),
        pids: wanted.pids_limit.map(|limit| Pids { limit: Some(if limit > 0 { limit } else { -1 }) }),
        block_io: block_io(wanted, block_devices),
        ..Resources::default()
    }
}

fn memory(wanted: &Wanted) -> Option<Memory> {
    let memory = Memory {
        limit: wanted.memory,
        reservation: wanted.memory_reservation,
        // Without a word about swap there is as much of it as memory.
        swap: wanted.memory_swap.or_else(|| wanted.memory.map(|m| m.saturating_mul(2))),
        swappiness: wanted.memory_swappiness,
        disable_oom_killer: wanted.oom_kill_disable.then_some(true),
        ..Memory::default()
    };
    (memory != Memory::default()).then_some(memory)
}

fn cpu(wanted: &Wanted) -> Option<Cpu> {
    let mut cpu = Cpu {
        shares: wanted.cpu_shares,
        quota: wanted.cpu_quota,
        period: wanted.cpu_period,
        realtime_runtime: wanted.cpu_rt_runtime,
        realtime_period: wanted.cpu_rt_period,
        cpus: wanted.cpuset_cpus.clone(),
        mems: wanted.cpuset_mems.clone(),
        ..Cpu::default()
    };
    if let Some(nano) = wanted.nano_cpus {
        cpu.period = Some(PERIOD);
        cpu.quota = Some(nano / 10_000);
    }
    (cpu != Cpu::default()).then_some(cpu)
}

fn block_io(wanted: &Wanted, numbers: &BTreeMap<PathBuf, (i64, i64)>) -> Option<BlockIo> {
    let rates = |list: &[(PathBuf, u64)]| -> Vec<ThrottleDevice> {
        list.iter()
            .filter_map(|(path, rate)| {
                let (major, minor) = *numbers.get(path)?;
                Some(ThrottleDevice { major, minor, rate: *rate })
            })
            .collect()
    };
    let weights = wanted.blkio_weight_device.iter().filter_map(|(path, weight)| {
        let (major, minor) = *numbers.get(path)?;
        Some(WeightDevice { major, minor, weight: Some(*weight), leaf_weight: None })
    });
    let io = BlockIo {
        weight: wanted.blkio_weight,
        weight_device: weights.collect(),
        throttle_read_bps_device: rates(&wanted.read_bps),
        throttle_write_bps_device: rates(&wanted.write_bps),
        throttle_read_iops_device: rates(&wanted.read_iops),
        throttle_write_iops_device: rates(&wanted.write_iops),
        ..BlockIo::default()
    };
    (io != BlockIo::default()).then_some(io)
}
