//! Limits of control groups, devices, limits of processes.

use std::collections::BTreeMap;
use std::path::PathBuf;

use fluyt_model::Amount;
use fluyt_model::sandbox::{DeviceSpec, Resources};

use super::{Lowering, Problem};
use crate::annotations;
use crate::objects::Container;

/// What is limited.
pub(super) fn limits(container: &Container, words: &BTreeMap<String, String>) -> Lowering<Resources> {
    let mut limits = Resources::default();
    let amount = |list: &BTreeMap<String, Amount>, bound: &str, name: &str| match list.get(name) {
        Some(amount) if amount.is_negative() => {
            Err(Problem::new(format!("resources.{bound}.{name}"), format!("{amount} is less than nothing")))
        }
        Some(amount) if !amount.is_zero() => Ok(Some(*amount)),
        _ => Ok(None),
    };
    let (most, least) = (&container.resources.limits, &container.resources.requests);
    if let Some(cpu) = amount(most, "limits", "cpu")? {
        limits.nano_cpus = Some(cpu.in_milli().saturating_mul(1_000_000));
    }
    if let Some(cpu) = amount(least, "requests", "cpu")? {
        let shares = cpu.in_milli().saturating_mul(1024) / 1000;
        limits.cpu_shares = Some(u64::try_from(shares).unwrap_or_default().clamp(2, 262_144));
    }
    let memory = amount(most, "limits", "memory")?.map(Amount::value);
    let reserved = amount(least, "requests", "memory")?.map(Amount::value);
    if let (Some(memory), Some(reserved)) = (memory, reserved)
        && reserved > memory
    {
        return Err(Problem::new(
            "resources.requests.memory",
            "more memory is requested than the container may use",
        ));
    }
    limits.memory = memory;
    limits.memory_reservation = reserved;
    let own = |name: &str| annotations::own(words, name, &container.name);
    if let Some(text) = own(annotations::PIDS_LIMIT) {
        limits.pids_limit = Some(text.parse().map_err(|_| annotated(annotations::PIDS_LIMIT, text))?);
    }
    limits.cpuset_cpus = own(annotations::CPUSET).unwrap_or_default().to_owned();
    limits.cpuset_mems = own(annotations::MEMORY_NODES).unwrap_or_default().to_owned();
    Ok(limits)
}

/// An annotation whose value has no meaning.
pub(super) fn annotated(name: &str, value: &str) -> Problem {
    Problem::new("metadata.annotations", format!("{name}: {value:?} cannot be read"))
}

/// Devices that are asked for as resources: those of the machine, and those that CDI names.
pub(super) fn devices(container: &Container) -> (Vec<DeviceSpec>, Vec<String>) {
    let (mut devices, mut named) = (Vec::new(), Vec::new());
    let all = container.resources.requests.keys().chain(container.resources.limits.keys());
    for key in all.filter(|key| key.contains('=')) {
        match key.strip_prefix("podman.io/device=") {
            Some(path) => {
                let mut parts = path.split(':');
                let host = PathBuf::from(parts.next().unwrap_or_default());
                let inside = parts.next().map_or_else(|| host.clone(), PathBuf::from);
                let permissions = parts.next().unwrap_or("rwm").to_owned();
                let device = DeviceSpec { host_path: host, container_path: inside, permissions };
                if !devices.contains(&device) {
                    devices.push(device);
                }
            }
            None if !named.contains(key) => named.push(key.clone()),
            None => {}
        }
    }
    (devices, named)
}

/// Limits of the processes of the whole pod: `nofile=1024:2048,…`.
pub(super) fn rlimits(words: &BTreeMap<String, String>) -> Lowering<Vec<(String, u64, u64)>> {
    let Some(text) = words.get(annotations::ULIMIT) else { return Ok(Vec::new()) };
    let number = |text: &str| match text {
        "-1" | "unlimited" => Some(u64::MAX),
        text => text.parse().ok(),
    };
    let one = |part: &str| {
        let (name, values) = part.split_once('=')?;
        let (soft, hard) = values.split_once(':').unwrap_or((values, values));
        Some((name.trim().to_uppercase(), number(soft)?, number(hard)?))
    };
    let parts = text.split(',').filter(|p| !p.is_empty());
    parts.map(|part| one(part).ok_or_else(|| annotated(annotations::ULIMIT, part))).collect()
}
