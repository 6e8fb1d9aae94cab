//! `linux.memoryPolicy`: from which NUMA nodes the process gets its memory.

use fluyt_model::error::{Error, IoContext, Result};

use crate::spec::MemoryPolicy;

/// More nodes than any kernel is built for.
const MOST_NODES: usize = 4096;

/// Modes by name, with the kernel's numbers.
pub(crate) const MODES: [(&str, u32); 7] = [
    ("MPOL_BIND", 2),
    ("MPOL_DEFAULT", 0),
    ("MPOL_INTERLEAVE", 3),
    ("MPOL_LOCAL", 4),
    ("MPOL_PREFERRED", 1),
    ("MPOL_PREFERRED_MANY", 5),
    ("MPOL_WEIGHTED_INTERLEAVE", 6),
];

/// Flags by name, with the kernel's numbers.
pub(crate) const FLAGS: [(&str, u32); 3] = [
    ("MPOL_F_NUMA_BALANCING", 1 << 13),
    ("MPOL_F_RELATIVE_NODES", 1 << 14),
    ("MPOL_F_STATIC_NODES", 1 << 15),
];

fn lookup(table: &[(&str, u32)], name: &str) -> Option<u32> {
    table.iter().find(|(n, _)| *n == name).map(|(_, value)| *value)
}

/// The policy as `set_mempolicy(2)` wants it: mode with flags, nodes as bits.
pub(crate) fn parse(policy: &MemoryPolicy) -> Result<(u32, Vec<u64>)> {
    let mode = lookup(&MODES, &policy.mode)
        .ok_or_else(|| Error::invalid(format!("invalid memory policy mode {:?}", policy.mode)))?;
    let mut flags = 0;
    for name in &policy.flags {
        flags |= lookup(&FLAGS, name)
            .ok_or_else(|| Error::invalid(format!("invalid memory policy flag {name:?}")))?;
    }
    let nodes = nodes(&policy.nodes)?;
    let count: u32 = nodes.iter().map(|w| w.count_ones()).sum();
    let without = ["MPOL_DEFAULT", "MPOL_LOCAL"].contains(&policy.mode.as_str());
    if without && count > 0 {
        let text = format!("memory policy: {} mode requires 0 nodes but got {count}", policy.mode);
        return Err(Error::invalid(text));
    }
    Ok((mode | flags, nodes))
}

fn nodes(list: &str) -> Result<Vec<u64>> {
    let bad = || {
        Error::invalid(format!("invalid memory policy nodes {list:?}"))
            .with_hint(format!("a list of node numbers below {MOST_NODES} and ranges of them, like 0-1,3"))
    };
    let mut words: Vec<u64> = Vec::new();
    for n in crate::list::ranges(list, MOST_NODES).ok_or_else(bad)?.into_iter().flatten() {
        let word = n / 64;
        if words.len() <= word {
            words.resize(word + 1, 0);
        }
        words[word] |= 1 << (n % 64);
    }
    Ok(words)
}

/// Sets the policy of the calling task, for what it executes.
pub(crate) fn set(policy: &MemoryPolicy) -> Result<()> {
    let (mode, nodes) = parse(policy)?;
    fluyt_sys::task::set_memory_policy(mode, &nodes)
        .about(|| format!("memory policy {} on nodes {:?}", policy.mode, policy.nodes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(mode: &str, nodes: &str, flags: &[&str]) -> MemoryPolicy {
        let flags = flags.iter().map(|s| (*s).to_owned()).collect();
        MemoryPolicy { mode: mode.to_owned(), nodes: nodes.to_owned(), flags }
    }

    #[test]
    fn modes_flags_and_nodes_become_numbers() {
        let (mode, nodes) = parse(&policy("MPOL_BIND", "0-1, 65", &["MPOL_F_STATIC_NODES"])).expect("valid");
        assert_eq!((mode, nodes), (2 | 1 << 15, vec![3, 2]));
        for (bad, word) in [
            (policy("", "0", &[]), "mode"),
            (policy("BIND", "0", &[]), "mode"),
            (policy("MPOL_BIND", "0", &["X"]), "flag"),
            (policy("MPOL_BIND", "1-0", &[]), "nodes"),
            (policy("MPOL_BIND", "0-9876543210", &[]), "nodes"),
            (policy("MPOL_DEFAULT", "0-7", &[]), "requires 0 nodes but got 8"),
        ] {
            let text = parse(&bad).expect_err("invalid").chain();
            assert!(text.contains(word), "{text}");
        }
    }
}
