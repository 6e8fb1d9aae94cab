//! Lists of CPUs and memory nodes as the kernel writes them: `0-3,7` (cpuset(7), "List format").

use std::ops::RangeInclusive;

/// The ranges of a list whose numbers are all below `end`; `None` for what is no such list. An empty list has none.
pub(crate) fn ranges(list: &str, end: usize) -> Option<Vec<RangeInclusive<usize>>> {
    let number = |s: &str| s.trim().parse::<usize>().ok().filter(|n| *n < end);
    let parts = list.split(',').filter(|part| !part.trim().is_empty());
    parts
        .map(|part| {
            let (from, to) = part.split_once('-').unwrap_or((part, part));
            let (from, to) = (number(from)?, number(to)?);
            (from <= to).then_some(from..=to)
        })
        .collect()
}
