//! What a data root may leave on its host, seen before and after a test.
//!
//! Only what belongs to the root is looked at, so that tests run side by side: mounts, processes and run directories
//! by its path and its hash, cgroups by its hash, and links, addresses and nftables tables of the network namespace
//! that the test has for itself.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The things of one root, each as a line for people.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Snapshot(BTreeSet<String>);

/// Where to look.
#[derive(Clone, Debug)]
pub struct Scope {
    /// The data root.
    pub root: PathBuf,
    /// Whether the network namespace belongs to the test alone.
    pub own_network: bool,
}

impl Scope {
    /// The short hash that the root's links, cgroups and run directory carry (ARCHITECTURE.md, "Data root").
    #[must_use]
    pub fn hash(&self) -> String {
        let mix = |h: u64, b: &u8| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3);
        let hash = self.root.as_os_str().as_encoded_bytes().iter().fold(0xcbf2_9ce4_8422_2325_u64, mix);
        format!("{:06x}", (hash ^ (hash >> 24) ^ (hash >> 48)) & 0x00ff_ffff)
    }

    /// The root's run directory.
    #[must_use]
    pub fn run(&self) -> PathBuf {
        PathBuf::from(format!("/run/fluyt-{}", self.hash()))
    }

    /// Looks at the host now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let mut seen = BTreeSet::new();
        self.mounts(&mut seen);
        self.processes(&mut seen);
        self.cgroups(&mut seen);
        self.sockets(&mut seen);
        if self.own_network {
            self.network(&mut seen);
        }
        Snapshot(seen)
    }

    /// The cgroups of the root, parents first.
    #[must_use]
    pub fn cgroup_directories(&self) -> Vec<PathBuf> {
        let name = format!("fluyt-{}", self.hash());
        let mut found = Vec::new();
        let mut waiting = vec![(PathBuf::from("/sys/fs/cgroup"), 0, false)];
        while let Some((directory, depth, ours)) = waiting.pop() {
            for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
                if depth >= 6 || !entry.file_type().is_ok_and(|t| t.is_dir()) {
                    continue;
                }
                let ours = ours || entry.file_name().to_string_lossy().contains(&name);
                if ours {
                    found.push(entry.path());
                }
                waiting.push((entry.path(), depth + 1, ours));
            }
        }
        found.sort();
        found
    }

    fn mounts(&self, seen: &mut BTreeSet<String>) {
        let (root, run) =
            (self.root.to_string_lossy().into_owned(), self.run().to_string_lossy().into_owned());
        for line in fs::read_to_string("/proc/self/mountinfo").unwrap_or_default().lines() {
            if line.contains(&root) || line.contains(&run) {
                let fields: Vec<&str> = line.split(' ').collect();
                seen.insert(format!("mount {}", fields.get(4..).unwrap_or(&fields).join(" ")));
            }
        }
    }

    /// Processes that were given the root by argument or by environment, but for this one.
    fn processes(&self, seen: &mut BTreeSet<String>) {
        let root = self.root.to_string_lossy().into_owned();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.parse() == Ok(std::process::id()) || name.parse::<u32>().is_err() {
                continue;
            }
            let text = |file: &str| {
                let bytes = fs::read(entry.path().join(file)).unwrap_or_default();
                String::from_utf8_lossy(&bytes).replace('\0', " ")
            };
            let command = text("cmdline");
            if command.contains(&root) || text("environ").contains(&format!("FLUYT_ROOT={root}")) {
                seen.insert(format!("process {name}: {}", command.chars().take(160).collect::<String>()));
            }
        }
    }

    /// Links, routes and firewall tables. The default bridge, its route and the root's own table stay between commands, as
    /// Docker's bridge does; but a table that still has an entry for a container is a leak.
    fn network(&self, seen: &mut BTreeSet<String>) {
        let list = |program: &str, arguments: &[&str]| {
            let output = Command::new(program).args(arguments).output();
            let text = output.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default();
            text.lines().map(|l| l.trim_end().to_owned()).filter(|l| !l.is_empty()).collect::<Vec<_>>()
        };
        let tables = list("nft", &["list", "tables"]);
        let ours = |table: &String| table.starts_with("table inet fluyt-");
        seen.extend(tables.iter().filter(|t| !ours(t)).map(|t| format!("nftables {t}")));
        // One bridge a root; a second root on this network has its own table.
        let mut bridges = tables.iter().filter(|t| ours(t)).count();
        for link in list("ip", &["-brief", "link"]) {
            let name = link.split_whitespace().next().unwrap_or_default();
            if name.starts_with("fy-") && bridges > 0 {
                bridges -= 1;
            } else {
                seen.insert(format!("link {name}"));
            }
        }
        let routes = list("ip", &["route"]);
        seen.extend(routes.iter().filter(|r| !r.contains(" dev fy-")).map(|r| format!("route {r}")));
        let mut inside = String::new();
        for line in list("nft", &["list", "table", "inet", &format!("fluyt-{}", self.hash())]) {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                ["map" | "set" | "chain", name, ..] => inside = (*name).to_owned(),
                ["elements", ..] if inside.starts_with("dnat") || inside.starts_with("self") => {
                    seen.insert(format!("nftables {inside} {}", line.trim()));
                }
                _ => {}
            }
        }
    }

    /// Cgroups below the root's own one; the empty parent is no leak.
    fn cgroups(&self, seen: &mut BTreeSet<String>) {
        let name = format!("fluyt-{}", self.hash());
        for directory in self.cgroup_directories() {
            if directory.file_name().is_some_and(|n| n != name.as_str()) {
                seen.insert(format!("cgroup {}", directory.display()));
            }
        }
    }

    fn sockets(&self, seen: &mut BTreeSet<String>) {
        let mut waiting = vec![self.run()];
        while let Some(directory) = waiting.pop() {
            for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
                if entry.file_type().is_ok_and(|t| t.is_dir()) {
                    waiting.push(entry.path());
                }
                if entry.path().parent() != Some(&self.run()) || entry.path().join("monitor.lock").exists() {
                    seen.insert(format!("run file {}", entry.path().display()));
                }
            }
        }
    }
}

impl Snapshot {
    /// What is here and was not in `earlier`; and the reverse.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Difference {
        Difference {
            more: self.0.difference(&earlier.0).cloned().collect(),
            less: earlier.0.difference(&self.0).cloned().collect(),
        }
    }
}

/// What changed on the host.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Difference {
    /// Left behind.
    pub more: Vec<String>,
    /// Gone.
    pub less: Vec<String>,
}

impl Difference {
    /// Whether nothing changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.more.is_empty() && self.less.is_empty()
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.more {
            writeln!(f, "left behind: {line}")?;
        }
        for line in &self.less {
            writeln!(f, "gone:        {line}")?;
        }
        Ok(())
    }
}

/// Removes what is allowed to stay between commands, so that a thousand tests leave nothing on a machine: the root's
/// empty run directory and its empty parent cgroup.
pub fn sweep(scope: &Scope) {
    let remove = |path: &Path| {
        let _ = fs::remove_dir(path);
    };
    for directory in scope.cgroup_directories().iter().rev() {
        remove(directory);
    }
    let networks = scope.run().join("networks");
    if fs::read_dir(&networks).is_ok_and(|mut d| d.next().is_none()) {
        remove(&networks);
    }
    let _ = fs::remove_dir_all(scope.run());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_left_behind_is_named() {
        let snapshot = |lines: &[&str]| Snapshot(lines.iter().map(|l| (*l).to_owned()).collect());
        let difference = snapshot(&["mount /x", "link lo"]).since(&snapshot(&["link lo", "link eth0"]));
        assert_eq!(difference.to_string(), "left behind: mount /x\ngone:        link eth0\n");
        assert!(snapshot(&["a"]).since(&snapshot(&["a"])).is_empty());
    }

    #[test]
    fn the_hash_is_six_digits() {
        let scope = Scope { root: PathBuf::from("/tmp/x"), own_network: false };
        assert_eq!(scope.hash().len(), 6);
    }
}
