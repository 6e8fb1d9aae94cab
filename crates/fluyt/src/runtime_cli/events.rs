//! `events`: statistics and out-of-memory notices as JSON lines, in runc's form.

use std::time::Duration;

use fluyt_model::error::{Error, Result};
use fluyt_runtime::{CgroupStats, PressureLine};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Serialize;
use serde_json::{Value, json};

use super::args::{Flag, Parsed, switch, value};
use super::state::{Container, Status};
use super::{Context, print};

pub(super) static FLAGS: [Flag; 2] = [
    value("interval", None, "time between statistics (default 5s)"),
    switch("stats", None, "print statistics once and end"),
];

/// `events`.
pub(super) fn events(context: &Context, parsed: &Parsed) -> Result<i32> {
    let container = Container::load(&context.root, parsed.id("events")?)?;
    container.expect(&[Status::Created, Status::Running, Status::Paused], "read events of")?;
    let interval = interval(parsed.get("interval").unwrap_or("5s"))?;
    if parsed.on("stats") {
        return stats_line(&container).and_then(|l| print(&l)).map(|()| 0);
    }
    let mut watch = container.cgroup().oom_watch().ok();
    let wait = Timespec {
        tv_sec: i64::try_from(interval.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: interval.subsec_nanos().into(),
    };
    while container.is_alive() {
        match stats_line(&container) {
            // Its groups went while it was looked at.
            Err(_) if !container.is_alive() => break,
            line => print(&line?)?,
        }
        let readable = match &watch {
            Some(w) => {
                let mut list = [PollFd::from_borrowed_fd(w.fd(), PollFlags::IN)];
                poll(&mut list, Some(&wait)).unwrap_or(0) > 0
            }
            None => {
                std::thread::sleep(interval);
                false
            }
        };
        if readable {
            let kills = watch.as_mut().map_or(0, fluyt_runtime::OomWatch::take);
            for _ in 0..kills {
                print(&Event::<()> { kind: "oom", id: &container.record.id, data: None }.line()?)?;
            }
        }
    }
    Ok(0)
}

/// Go's durations: `5s`, `300ms`, `1m30s`.
fn interval(text: &str) -> Result<Duration> {
    let bad = || Error::invalid(format!("invalid duration {text:?}"));
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(bad)?;
        let number: f64 = rest[..digits].parse().map_err(|_| bad())?;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let seconds = match &rest[..unit] {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "\u{b5}s" => 1e-6,
            _ => return Err(bad()),
        };
        rest = &rest[unit..];
        total += Duration::try_from_secs_f64(number * seconds).map_err(|_| bad())?;
    }
    if total.is_zero() { Err(Error::invalid("duration interval must be greater than 0")) } else { Ok(total) }
}

/// One line of output; who reads it relies on the order of the fields.
#[derive(Serialize)]
struct Event<'a, T> {
    #[serde(rename = "type")]
    kind: &'static str,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<T>,
}

impl<T: Serialize> Event<'_, T> {
    fn line(&self) -> Result<String> {
        let text = serde_json::to_string(self).map_err(|e| Error::internal("event").with_source(e))?;
        Ok(text + "\n")
    }
}

fn stats_line(container: &Container) -> Result<String> {
    let cgroup = container.cgroup();
    let mut data = document(&cgroup.stats()?);
    for (part, file) in [("cpu", "cpu"), ("memory", "memory"), ("blkio", "io")] {
        if let Some(p) = cgroup.pressure(file) {
            data[part]["psi"] = json!({"some": averages(&p.some), "full": averages(&p.full)});
        }
    }
    Event { kind: "stats", id: &container.record.id, data: Some(data) }.line()
}

fn averages(p: &PressureLine) -> Value {
    json!({"avg10": p.avg10, "avg60": p.avg60, "avg300": p.avg300, "total": p.total})
}

fn document(s: &CgroupStats) -> Value {
    let entry = |usage: u64, max: u64, limit: u64, failures: u64| json!({"limit": limit, "usage": usage, "max": max, "failcnt": failures});
    let m = &s.memory;
    let io = |read: fn(&fluyt_runtime::BlkioEntry) -> u64,
              write: fn(&fluyt_runtime::BlkioEntry) -> u64|
     -> Vec<Value> {
        let lines = |b: &fluyt_runtime::BlkioEntry| {
            let line = |op: &str, v: u64| json!({"major": b.major, "minor": b.minor, "op": op, "value": v});
            [line("Read", read(b)), line("Write", write(b))]
        };
        s.blkio.iter().flat_map(lines).collect()
    };
    let huge: serde_json::Map<String, Value> = s
        .hugetlb
        .iter()
        .map(|h| (h.size.clone(), json!({"usage": h.usage, "max": h.max_usage, "failcnt": h.failures})))
        .collect();
    json!({
        "cpu": {
            "usage": {"total": s.cpu.total, "percpu": s.cpu.per_cpu, "kernel": s.cpu.kernel, "user": s.cpu.user},
            "throttling": {
                "periods": s.cpu.periods,
                "throttledPeriods": s.cpu.throttled_periods,
                "throttledTime": s.cpu.throttled_time,
            },
        },
        "memory": {
            "cache": m.cache,
            "usage": entry(m.usage, m.max_usage, m.limit, m.failures),
            "swap": entry(m.swap, 0, m.swap_limit, 0),
            "kernel": entry(m.kernel, 0, 0, 0),
            "kernelTCP": entry(0, 0, 0, 0),
            "raw": m.details,
        },
        "pids": {"current": s.pids.current, "limit": if s.pids.limit == u64::MAX { 0 } else { s.pids.limit }},
        "blkio": {
            "ioServiceBytesRecursive": io(|b| b.read_bytes, |b| b.write_bytes),
            "ioServicedRecursive": io(|b| b.read_ops, |b| b.write_ops),
        },
        "hugetlb": huge,
        "intel_rdt": {},
        "network_interfaces": null,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(interval("1m30s").expect("valid"), Duration::from_secs(90));
        assert_eq!(interval("300ms").expect("valid"), Duration::from_millis(300));
        for bad in ["", "0s", "5", "x"] {
            assert!(interval(bad).is_err(), "{bad}");
        }
    }
}
