//! Host devices passed in: their nodes and their cgroup rules.

use std::path::PathBuf;

use fluyt_runtime::spec::{Device, DeviceRule, Mount};

/// A device of the host, looked up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostDevice {
    /// Where it appears.
    pub path: PathBuf,
    /// Its node on the host.
    pub source: PathBuf,
    /// `c` or `b`.
    pub kind: char,
    /// Major number.
    pub major: i64,
    /// Minor number.
    pub minor: i64,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Allowed operations out of `rwm`.
    pub access: String,
}

/// The nodes to make.
pub fn nodes(devices: &[HostDevice]) -> Vec<Device> {
    devices
        .iter()
        .map(|d| Device {
            path: d.path.clone(),
            kind: d.kind.to_string(),
            major: d.major,
            minor: d.minor,
            file_mode: Some(d.mode),
            uid: Some(d.uid),
            gid: Some(d.gid),
        })
        .collect()
}

/// The nodes of the host as mounts, for a container in whose user namespace none can be made.
pub fn binds(devices: &[HostDevice]) -> impl Iterator<Item = Mount> + '_ {
    devices.iter().map(|d| Mount {
        destination: d.path.clone(),
        kind: "bind".to_owned(),
        source: d.source.clone(),
        options: ["bind", "nosuid", "noexec", "rprivate"].map(str::to_owned).to_vec(),
        ..Mount::default()
    })
}

/// The device cgroup: nothing, then what was asked for.
pub fn rules(privileged: bool, devices: &[HostDevice], extra: &[String]) -> Vec<DeviceRule> {
    if privileged {
        return vec![rule(true, "a", None, None, "rwm")];
    }
    // The runtime adds what every container has: making nodes, and using null, zero, the terminals and so on.
    let mut rules = vec![rule(false, "a", None, None, "rwm")];
    for d in devices {
        rules.push(rule(true, &d.kind.to_string(), Some(d.major), Some(d.minor), &d.access));
    }
    rules.extend(extra.iter().filter_map(|text| parse(text)));
    rules
}

fn rule(allow: bool, kind: &str, major: Option<i64>, minor: Option<i64>, access: &str) -> DeviceRule {
    DeviceRule { allow, kind: kind.to_owned(), major, minor, access: access.to_owned() }
}

/// Reads `c 1:3 rwm`; `*` stands for every number.
pub fn parse(text: &str) -> Option<DeviceRule> {
    let mut words = text.split_whitespace();
    let (kind, numbers, access) = (words.next()?, words.next()?, words.next()?);
    let (major, minor) = numbers.split_once(':')?;
    let number = |n: &str| if n == "*" { Some(None) } else { n.parse::<i64>().ok().map(Some) };
    let ok = matches!(kind, "a" | "b" | "c")
        && access.chars().all(|c| "rwm".contains(c))
        && words.next().is_none();
    ok.then_some(rule(true, kind, number(major)?, number(minor)?, access))
}
