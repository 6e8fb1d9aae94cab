//! `update`: new limits for a running container.

use std::io::Read;

use fluyt_model::error::{Error, IoContext, Result};
use fluyt_runtime::spec::{BlockIo, Cpu, Memory, Pids, Resources};

use super::Context;
use super::args::{Flag, Parsed, value};
use super::state::{Container, Status};

pub(super) static FLAGS: [Flag; 17] = [
    value("resources", Some('r'), "JSON file with linux.resources, - for standard input"),
    value("blkio-weight", None, "10 to 1000"),
    value("cpu-period", None, "microseconds"),
    value("cpu-quota", None, "microseconds of CPU time per period"),
    value("cpu-burst", None, "microseconds"),
    value("cpu-share", None, "relative weight"),
    value("cpu-rt-period", None, "microseconds"),
    value("cpu-rt-runtime", None, "microseconds"),
    value("cpuset-cpus", None, "CPU list"),
    value("cpuset-mems", None, "memory node list"),
    value("cpu-idle", None, "1: run only when idle"),
    value("kernel-memory", None, "accepted for compatibility"),
    value("memory", None, "bytes; -1: no limit"),
    value("memory-reservation", None, "bytes; -1: no limit"),
    value("memory-swap", None, "bytes of memory and swap; -1: no limit"),
    value("pids-limit", None, "number of tasks; -1: no limit"),
    value("l3-cache-schema", None, "accepted for compatibility"),
];

/// `update`.
pub(super) fn update(context: &Context, parsed: &Parsed) -> Result<i32> {
    let container = Container::load(&context.root, parsed.id("update")?)?;
    container.expect(&[Status::Created, Status::Running, Status::Paused], "update")?;
    let resources = match parsed.get("resources") {
        Some(path) => from_file(path)?,
        None => from_flags(parsed)?,
    };
    container.cgroup().update(&resources).map(|()| 0)
}

fn from_file(path: &str) -> Result<Resources> {
    let mut text = String::new();
    if path == "-" {
        std::io::stdin().read_to_string(&mut text).about(|| "standard input")?;
    } else {
        text = std::fs::read_to_string(path).about(|| path.to_owned())?;
    }
    serde_json::from_str(&text).map_err(|e| Error::invalid(path).with_source(e))
}

fn from_flags(parsed: &Parsed) -> Result<Resources> {
    let bytes = |name: &str| -> Result<Option<i64>> {
        let Some(text) = parsed.get(name).filter(|t| !t.is_empty()) else { return Ok(None) };
        size(text)
            .map(Some)
            .ok_or_else(|| Error::invalid(format!("invalid value {text:?} for flag --{name}")))
    };
    let memory = Memory {
        limit: bytes("memory")?,
        reservation: bytes("memory-reservation")?,
        swap: bytes("memory-swap")?,
        check_before_update: Some(true),
        ..Memory::default()
    };
    let cpu = Cpu {
        shares: parsed.number("cpu-share")?,
        quota: parsed.number("cpu-quota")?,
        burst: parsed.number("cpu-burst")?,
        period: parsed.number("cpu-period")?,
        realtime_runtime: parsed.number("cpu-rt-runtime")?,
        realtime_period: parsed.number("cpu-rt-period")?,
        cpus: parsed.get("cpuset-cpus").unwrap_or_default().to_owned(),
        mems: parsed.get("cpuset-mems").unwrap_or_default().to_owned(),
        idle: parsed.number("cpu-idle")?,
    };
    let weight: Option<u16> = parsed.number("blkio-weight")?;
    let some_memory = memory.limit.is_some() || memory.reservation.is_some() || memory.swap.is_some();
    Ok(Resources {
        memory: some_memory.then_some(memory),
        cpu: (cpu != Cpu::default()).then_some(cpu),
        pids: parsed.number("pids-limit")?.map(|limit| Pids { limit: Some(limit) }),
        block_io: weight.map(|w| BlockIo { weight: Some(w), ..BlockIo::default() }),
        ..Resources::default()
    })
}

/// Bytes, with Docker's suffixes.
fn size(text: &str) -> Option<i64> {
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match lower[digits.len()..].trim_end_matches('b').trim_end_matches('i') {
        "" => 1,
        "k" => 1 << 10,
        "m" => 1 << 20,
        "g" => 1 << 30,
        "t" => 1 << 40,
        _ => return None,
    };
    digits.parse::<i64>().ok()?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in
            [("1", Some(1)), ("-1", Some(-1)), ("2m", Some(2 << 20)), ("1GiB", Some(1 << 30)), ("x", None)]
        {
            assert_eq!(size(text), bytes, "{text}");
        }
    }
}
