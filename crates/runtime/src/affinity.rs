//! CPU lists like `0-3,7` and setting the affinity of the calling task to one.

use fluyt_model::error::{Error, IoContext, Result};
use rustix::thread::CpuSet;

/// Lets the calling task run on every CPU that its cgroup allows: what the caller was restricted to is not the
/// container's business. Where that is refused nothing changes.
pub(crate) fn reset() {
    let mut all = CpuSet::new();
    (0..CpuSet::MAX_CPU).for_each(|n| all.set(n));
    let _ = rustix::thread::sched_setaffinity(None, &all);
}

/// Restricts the calling task to a list of CPUs.
pub(crate) fn set(list: &str) -> Result<()> {
    let set = parse(list)?;
    rustix::thread::sched_setaffinity(None, &set).about(|| format!("execCPUAffinity {list:?}"))
}

/// The CPUs of a list as bits, those above 63 left out. `None` for what is no list.
#[must_use]
pub fn mask(list: &str) -> Option<u64> {
    let set = parse(list).ok()?;
    Some((0..64).filter(|n| set.is_set(*n)).fold(0, |bits, n| bits | 1 << n))
}

fn parse(list: &str) -> Result<CpuSet> {
    let bad = || Error::invalid(format!("CPU list {list:?}"));
    let mut set = CpuSet::new();
    for range in crate::list::ranges(list, CpuSet::MAX_CPU).ok_or_else(bad)? {
        range.for_each(|n| set.set(n));
    }
    if set.count() == 0 { Err(bad()) } else { Ok(set) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_ranges() {
        let set = parse("0-2,5").expect("valid");
        assert_eq!((set.count(), set.is_set(5), set.is_set(3)), (4, true, false));
        for bad in ["", "3-1", "x", "99999"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
