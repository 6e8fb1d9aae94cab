//! The systemd cgroup driver: a transient scope for the container, asked for over D-Bus.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fluyt_model::error::{Error, IoContext, Kind, Result};

use crate::cgroup::CgroupPaths;
use crate::dbus::{Body, Connection, Value};
use crate::spec::Resources;

/// `slice:prefix:name` of `cgroupsPath`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scope {
    slice: String,
    prefix: String,
    name: String,
}

impl Scope {
    /// Reads `cgroupsPath`; an empty one means `system.slice:fluyt:ID`.
    pub(crate) fn parse(path: &str, id: &str) -> Result<Self> {
        if path.is_empty() {
            return Ok(Self { slice: String::new(), prefix: "fluyt".into(), name: id.into() });
        }
        let parts: Vec<&str> = path.split(':').collect();
        match parts[..] {
            [slice, prefix, name] if !name.is_empty() => {
                Ok(Self { slice: slice.into(), prefix: prefix.into(), name: name.into() })
            }
            _ => Err(Error::invalid(format!(
                "expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups, got {path:?} instead"
            ))),
        }
    }

    /// The unit's name: a scope, unless the name itself is a slice.
    pub(crate) fn unit(&self) -> String {
        match (self.name.ends_with(".slice"), self.prefix.is_empty()) {
            (true, _) => self.name.clone(),
            (false, true) => format!("{}.scope", self.name),
            (false, false) => format!("{}-{}.scope", self.prefix, self.name),
        }
    }

    fn slice(&self) -> &str {
        if self.slice.is_empty() { "system.slice" } else { &self.slice }
    }
}

/// The unit's place below the hierarchy's root: `a-b.slice` lies in `a.slice`.
pub(crate) fn path_of(scope: &Scope) -> Result<PathBuf> {
    let mut path = expand_slice(scope.slice())?;
    path.push(scope.unit());
    Ok(path)
}

fn expand_slice(slice: &str) -> Result<PathBuf> {
    let bad = || Error::invalid(format!("invalid slice name {slice:?}"));
    let stem = slice.strip_suffix(".slice").filter(|s| !s.contains('/')).ok_or_else(bad)?;
    if stem == "-" {
        return Ok(PathBuf::new());
    }
    let mut path = PathBuf::new();
    let mut prefix = String::new();
    for part in stem.split('-') {
        if part.is_empty() {
            return Err(bad());
        }
        path.push(format!("{prefix}{part}.slice"));
        prefix.push_str(part);
        prefix.push('-');
    }
    Ok(path)
}

/// Asks systemd for the scope with `pid` in it, and waits until it is there.
pub(crate) fn start_scope(paths: &CgroupPaths, pid: i32, resources: &Resources) -> Result<()> {
    let unit = paths.scope.as_deref().ok_or_else(|| Error::internal("no scope planned"))?;
    let dir = paths.v2.as_deref().or_else(|| paths.v1.first().map(|d| d.path.as_path()));
    let slice = dir.and_then(Path::parent).and_then(Path::file_name).and_then(|n| n.to_str());
    let slice = slice.filter(|s| s.ends_with(".slice")).unwrap_or("-.slice");
    let mut connection = Connection::to_systemd()?;
    let mut body = Body::default();
    body.string(unit);
    body.string("replace");
    let list = properties(unit, slice, pid, resources, paths.v2.is_some());
    body.array(8, |b| list.iter().for_each(|(name, value)| b.property(name, value)));
    body.array(8, |_| {});
    connection
        .call("StartTransientUnit", "ssa(sv)a(sa(sv))", &body)
        .map_err(|e| e.context(format!("scope {unit}")))?;
    await_scope(unit, pid)
}

fn properties(unit: &str, slice: &str, pid: i32, r: &Resources, v2: bool) -> Vec<(&'static str, Value)> {
    let mut list = vec![
        ("Description", Value::String(format!("fluyt container {unit}"))),
        ("Slice", Value::String(slice.to_owned())),
        ("PIDs", Value::Pids(vec![u32::try_from(pid).unwrap_or(0)])),
        ("Delegate", Value::Bool(true)),
        ("DefaultDependencies", Value::Bool(false)),
        ("MemoryAccounting", Value::Bool(true)),
        ("CPUAccounting", Value::Bool(true)),
        ("TasksAccounting", Value::Bool(true)),
    ];
    list.extend(limits(r, v2));
    list
}

/// What systemd would otherwise write over when it reloads or is told another property; the runtime writes all limits
/// itself, too.
fn limits(r: &Resources, v2: bool) -> Vec<(&'static str, Value)> {
    let mut list = Vec::new();
    let positive = |v: i64| u64::try_from(v).ok().filter(|v| *v > 0);
    if let Some(limit) = r.memory.as_ref().and_then(|m| m.limit).and_then(positive) {
        list.push((if v2 { "MemoryMax" } else { "MemoryLimit" }, Value::U64(limit)));
    }
    if let Some(m) = r.memory.as_ref().filter(|_| v2)
        && let (Some(limit), Some(both)) = (m.limit.and_then(positive), m.swap)
    {
        // Version 1's memory and swap together; systemd's infinity is the greatest number.
        let alone = positive(both).map_or(u64::MAX, |both| both.saturating_sub(limit));
        list.push(("MemorySwapMax", Value::U64(alone)));
    }
    if let Some(limit) = r.pids.as_ref().and_then(|p| p.limit).and_then(positive) {
        list.push(("TasksMax", Value::U64(limit)));
    }
    if let Some(shares) = r.cpu.as_ref().and_then(|c| c.shares).filter(|s| *s > 0) {
        list.push(if v2 {
            ("CPUWeight", Value::U64(crate::cgroup::weight_of_shares(shares)))
        } else {
            ("CPUShares", Value::U64(shares))
        });
    }
    if let Some(quota) = r.cpu.as_ref().and_then(|c| c.quota).and_then(positive) {
        let period = r.cpu.as_ref().and_then(|c| c.period).filter(|p| *p > 0).unwrap_or(100_000);
        // systemd keeps whole percents of a second.
        let a_second = quota.saturating_mul(1_000_000) / period;
        list.push(("CPUQuotaPerSecUSec", Value::U64(a_second.next_multiple_of(10_000))));
    }
    list
}

/// Tells systemd changed limits of a scope.
pub(crate) fn update_scope(unit: &str, resources: &Resources, v2: bool) -> Result<()> {
    let list = limits(resources, v2);
    if list.is_empty() {
        return Ok(());
    }
    let mut body = Body::default();
    body.string(unit);
    // Until the next boot, as the scope itself.
    body.u32(1);
    body.array(8, |b| list.iter().for_each(|(name, value)| b.property(name, value)));
    Connection::to_systemd()?
        .call("SetUnitProperties", "sba(sv)", &body)
        .map_err(|e| e.context(format!("scope {unit}")))
}

/// The call returns when the job is queued; the process is moved a little later.
fn await_scope(unit: &str, pid: i32) -> Result<()> {
    let path = format!("/proc/{pid}/cgroup");
    let deadline = Instant::now() + Duration::from_secs(10);
    while Instant::now() < deadline {
        let text = std::fs::read_to_string(&path).about(|| path.as_str())?;
        if text.lines().any(|l| l.ends_with(unit)) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Err(Error::new(Kind::Timeout, format!("systemd did not move process {pid} into {unit}")))
}

/// Lets systemd forget a scope. A scope that is gone already is the normal case.
pub(crate) fn stop_scope(unit: &str) {
    let Ok(mut connection) = Connection::to_systemd() else { return };
    let mut body = Body::default();
    body.string(unit);
    body.string("replace");
    let _ = connection.call("StopUnit", "ss", &body);
    let mut body = Body::default();
    body.string(unit);
    let _ = connection.call("ResetFailedUnit", "s", &body);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_nest_by_their_dashes() {
        let scope = Scope::parse("a-b.slice:docker:x", "x").expect("valid");
        assert_eq!(path_of(&scope).expect("path"), PathBuf::from("a.slice/a-b.slice/docker-x.scope"));
        assert_eq!(
            path_of(&Scope::parse("", "x").expect("valid")).expect("path").to_str(),
            Some("system.slice/fluyt-x.scope")
        );
        assert!(Scope::parse("/a/b", "x").is_err());
        assert!(path_of(&Scope::parse("a--b.slice:p:n", "x").expect("valid")).is_err());
    }
}
