//! The table of a network's names, read from files that the engine replaces atomically.
//!
//! One file for each network, one line for each endpoint, as in a hosts file:
//!
//! ```text
//! @172.30.0.0/24                          a subnet of the network: reverse questions about it stay here
//! 172.30.0.2 web.mynet web 1f2e3d4c5b6a   an address and its names; the first one answers reverse questions
//! - db                                    a name that belongs to the network but has no address now
//! ```
//!
//! A name with several lines has several addresses (a service); they are given in turn.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use super::wire::{Query, Rcode, Record, TYPE_A, TYPE_AAAA, TYPE_ANY, TYPE_PTR};
use crate::addr::Cidr;

/// The content of one file, for the engine to write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamesFile {
    /// Subnets of the network.
    pub subnets: Vec<Cidr>,
    /// Addresses with their names, the canonical one first.
    pub endpoints: Vec<(IpAddr, Vec<String>)>,
    /// Names without an address now: of containers that do not run.
    pub absent: Vec<String>,
}

impl NamesFile {
    /// The text of the file. Names that hold white space are left out: they cannot be asked for.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        for subnet in &self.subnets {
            let _ = writeln!(text, "@{subnet}");
        }
        let fit = |n: &&String| !n.is_empty() && !n.contains(char::is_whitespace);
        for (addr, names) in &self.endpoints {
            let names: Vec<&str> = names.iter().filter(fit).map(String::as_str).collect();
            let _ = writeln!(text, "{addr} {}", names.join(" "));
        }
        for name in self.absent.iter().filter(fit) {
            let _ = writeln!(text, "- {name}");
        }
        text
    }
}

/// A file and the state in which it was read last.
struct Source {
    path: PathBuf,
    stamp: Option<(u64, u64, i64, i64)>,
}

/// The names that one sandbox can ask for: those of all its networks.
#[derive(Default)]
pub struct Names {
    sources: Vec<Source>,
    by_name: BTreeMap<String, Vec<IpAddr>>,
    by_addr: BTreeMap<IpAddr, String>,
    subnets: Vec<Cidr>,
    /// Names that this sandbox alone knows, and the network's names that they stand for.
    aliases: BTreeMap<String, String>,
    turn: usize,
}

/// Larger files are not read: a network of this many names is a mistake.
const MOST_BYTES: u64 = 4 << 20;

/// What the table knows of a question.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Lookup {
    /// The answer.
    Known(Rcode, Vec<Record>),
    /// Nothing: ask upstream.
    Unknown,
}

impl Names {
    /// The table of the files at `paths`; they are read with the first question. `aliases` are names of this sandbox's
    /// own for names of its networks, whether somebody has those yet or not.
    #[must_use]
    pub fn new(paths: Vec<PathBuf>, aliases: &[(String, String)]) -> Self {
        let sources = paths.into_iter().map(|path| Source { path, stamp: None }).collect();
        let small = |text: &String| text.to_ascii_lowercase();
        let aliases = aliases.iter().map(|(alias, name)| (small(alias), small(name))).collect();
        Self { sources, aliases, ..Self::default() }
    }

    /// Reads the files again if one of them was replaced.
    pub(super) fn refresh(&mut self) {
        let mut changed = false;
        for source in &mut self.sources {
            let stamp =
                fs::metadata(&source.path).ok().map(|m| (m.dev(), m.ino(), m.mtime(), m.mtime_nsec()));
            changed |= stamp != source.stamp;
            source.stamp = stamp;
        }
        if changed {
            self.by_name.clear();
            self.by_addr.clear();
            self.subnets.clear();
            for n in 0..self.sources.len() {
                let path = &self.sources[n].path;
                let small = fs::metadata(path).is_ok_and(|m| m.len() <= MOST_BYTES);
                let text = if small { fs::read_to_string(path).unwrap_or_default() } else { String::new() };
                self.add(&text);
            }
        }
    }

    /// Adds the lines of one file. Lines that make no sense are passed over.
    fn add(&mut self, text: &str) {
        for line in text.lines() {
            if let Some(subnet) = line.strip_prefix('@') {
                self.subnets.extend(subnet.trim().parse::<Cidr>());
                continue;
            }
            let mut words = line.split_whitespace();
            let Some(first) = words.next() else { continue };
            let addr = match first {
                "-" => None,
                addr => match addr.parse::<IpAddr>() {
                    Ok(addr) => Some(addr),
                    Err(_) => continue,
                },
            };
            for (n, name) in words.enumerate() {
                let name = name.to_ascii_lowercase();
                if let (0, Some(addr)) = (n, addr) {
                    self.by_addr.entry(addr).or_insert_with(|| name.clone());
                }
                let addresses = self.by_name.entry(name).or_default();
                addresses.extend(addr.filter(|a| !addresses.contains(a)));
            }
        }
    }

    /// Answers a question from the table, if it is about one of its names or addresses.
    pub(super) fn lookup(&mut self, query: &Query<'_>) -> Lookup {
        let Some(name) = query.name.as_deref().filter(|_| query.is_internet) else { return Lookup::Unknown };
        if let Some(addr) = query.reverse() {
            if let Some(name) = self.by_addr.get(&addr) {
                let asked = [TYPE_PTR, TYPE_ANY].contains(&query.kind);
                let records = if asked { vec![Record::Name(name.clone())] } else { Vec::new() };
                return Lookup::Known(Rcode::NoError, records);
            }
            // An address of the network that nobody has is nobody else's business.
            let inside = self.subnets.iter().any(|s| s.contains(addr));
            return if inside { Lookup::Known(Rcode::NxDomain, Vec::new()) } else { Lookup::Unknown };
        }
        let name = self.aliases.get(&name.to_ascii_lowercase()).map_or(name, String::as_str);
        let Some(addresses) = self.by_name.get(name) else { return Lookup::Unknown };
        if addresses.is_empty() {
            return Lookup::Known(Rcode::NxDomain, Vec::new());
        }
        let wanted = |a: &&IpAddr| match query.kind {
            TYPE_A => a.is_ipv4(),
            TYPE_AAAA => a.is_ipv6(),
            kind => kind == TYPE_ANY,
        };
        let mut records: Vec<Record> = addresses.iter().filter(wanted).map(|a| Record::Address(*a)).collect();
        if records.len() > 1 {
            self.turn = self.turn.wrapping_add(1);
            let first = self.turn % records.len();
            records.rotate_left(first);
        }
        Lookup::Known(Rcode::NoError, records)
    }
}

#[cfg(test)]
mod tests {
    use super::super::wire::{read, tests::question};
    use super::*;

    fn ask(names: &mut Names, name: &str, kind: u16) -> String {
        let bytes = question(1, name, kind);
        match names.lookup(&read(&bytes).unwrap()) {
            Lookup::Unknown => "upstream".into(),
            Lookup::Known(rcode, records) => {
                let shown = records.iter().map(|r| match r {
                    Record::Address(a) => a.to_string(),
                    Record::Name(n) => n.clone(),
                });
                format!("{rcode:?} {}", shown.collect::<Vec<_>>().join(" ")).trim().to_owned()
            }
        }
    }

    #[test]
    fn the_table_answers_for_its_names_only() {
        let file = NamesFile {
            subnets: vec!["172.30.0.0/24".parse().unwrap()],
            endpoints: vec![
                ("172.30.0.2".parse().unwrap(), vec!["web.mynet".into(), "Web".into(), "bad name".into()]),
                ("fd00::2".parse().unwrap(), vec!["web.mynet".into(), "web".into()]),
                ("172.30.0.3".parse().unwrap(), vec!["db.mynet".into(), "db".into()]),
            ],
            absent: vec!["cache".into()],
        };
        let mut names = Names::default();
        names.add(&file.text());
        names.add("nonsense line\n@x\n\n172.30.0.9\n");
        for (name, kind, answer) in [
            ("web", TYPE_A, "NoError 172.30.0.2"),
            ("WEB", TYPE_AAAA, "NoError fd00::2"),
            ("db", TYPE_AAAA, "NoError"),
            ("db", 15, "NoError"),
            ("cache", TYPE_A, "NxDomain"),
            ("example.com", TYPE_A, "upstream"),
            ("2.0.30.172.in-addr.arpa", TYPE_PTR, "NoError web.mynet"),
            ("77.0.30.172.in-addr.arpa", TYPE_PTR, "NxDomain"),
            ("1.1.1.1.in-addr.arpa", TYPE_PTR, "upstream"),
        ] {
            assert_eq!(ask(&mut names, name, kind), answer, "{name} {kind}");
        }
    }

    #[test]
    fn addresses_of_a_service_take_turns_and_files_are_reloaded() {
        let dir = std::env::temp_dir().join(format!("fluyt-names-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let path = dir.join("names");
        let put = |text: &str| {
            fs::write(dir.join("new"), text).unwrap();
            fs::rename(dir.join("new"), &path).unwrap();
        };
        put("10.0.0.1 a s\n10.0.0.2 b s\n");
        let mut names = Names::new(vec![path.clone(), dir.join("missing")], &[("Link".into(), "s".into())]);
        names.refresh();
        let first = ask(&mut names, "s", TYPE_A);
        let second = ask(&mut names, "s", TYPE_A);
        assert_ne!(first, second);
        assert_eq!(ask(&mut names, "s", TYPE_A), first);
        put("10.0.0.9 s\n");
        names.refresh();
        assert_eq!(ask(&mut names, "s", TYPE_A), "NoError 10.0.0.9");
        assert_eq!(ask(&mut names, "a", TYPE_A), "upstream");
        assert_eq!(ask(&mut names, "link", TYPE_A), "NoError 10.0.0.9", "a name for a name");
        put("10.0.0.1 a\n");
        names.refresh();
        assert_eq!(ask(&mut names, "link", TYPE_A), "upstream", "nobody has the name that it stands for");
        fs::remove_dir_all(&dir).unwrap();
    }
}
