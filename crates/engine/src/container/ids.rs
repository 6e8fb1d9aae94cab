//! Which ids of the host a container's own user namespace has.
//!
//! A container that asks for `auto` gets a range of host ids that no other container of the data root has, for as long as
//! it exists. Ranges come from the entries of `fluyt` (or else `containers`) in `/etc/subuid` and `/etc/subgid`; where
//! there are none, from [`DEFAULT_POOL`], without what those files give to others. On disk nothing is shifted: layers and
//! volumes are shown through mapped mounts.

use fluyt_model::sandbox::{IdMaps, UserNamespace};
use fluyt_model::{Error, Kind, Result};

use crate::records::ContainerRecord;

/// Host ids that are given out when the administrator says nothing: a part of what systemd's convention sets aside for
/// containers (524288 to 1879048191). (first id, number of ids)
pub const DEFAULT_POOL: (u32, u32) = (0x2000_0000, 0x4000_0000);
/// So many ids a container gets unless it asks for another number.
pub const DEFAULT_SIZE: u32 = 65536;
/// Whose entries in the files are looked for.
const OWNERS: [&str; 2] = ["fluyt", "containers"];

/// A stretch of ids: the first one and their number.
type Range = (u32, u32);

/// The mappings for a new container that asks for `wanted`, beside those that exist.
///
/// # Errors
/// `Exhausted` if no range of that size is free.
pub(crate) fn choose(
    wanted: &UserNamespace,
    others: &[ContainerRecord],
    start: u32,
) -> Result<Option<IdMaps>> {
    match wanted {
        UserNamespace::Host | UserNamespace::Container(_) | UserNamespace::Path(_) => Ok(None),
        UserNamespace::Mapped { uids, gids } => Ok(Some(IdMaps { uids: uids.clone(), gids: gids.clone() })),
        UserNamespace::Auto { size } => {
            let size = if *size == 0 { DEFAULT_SIZE } else { *size };
            let maps: Vec<&IdMaps> = others.iter().filter_map(|r| r.user_maps.as_ref()).collect();
            let one = |file: &str, triples: fn(&IdMaps) -> &Vec<(u32, u32, u32)>| {
                let text = std::fs::read_to_string(file).unwrap_or_default();
                let used = maps.iter().flat_map(|m| triples(m)).map(|(_, host, count)| (*host, *count));
                free(&text, used.collect(), size, start).ok_or_else(|| {
                    Error::new(Kind::Exhausted, format!("no {size} ids are free for a user namespace"))
                        .with_hint(format!(
                            "give fluyt a larger range in {file}, or ask for fewer: --userns=auto:size=N"
                        ))
                })
            };
            let uid = one("/etc/subuid", |m| &m.uids)?;
            let gid = one("/etc/subgid", |m| &m.gids)?;
            Ok(Some(IdMaps { uids: vec![(0, uid, size)], gids: vec![(0, gid, size)] }))
        }
    }
}

/// The first id of a free stretch of `size` ids. The default pool is searched from the `start`th place on, so that two
/// data roots of one host, which know nothing of each other, hardly meet.
fn free(file: &str, mut used: Vec<Range>, size: u32, start: u32) -> Option<u32> {
    let entries: Vec<(&str, Range)> = file.lines().filter_map(entry).collect();
    let of = |owner: &str| entries.iter().filter(|(o, _)| *o == owner).map(|(_, r)| *r).collect::<Vec<_>>();
    let ours = OWNERS.iter().map(|owner| of(owner)).find(|ranges| !ranges.is_empty());
    if let Some(pools) = ours {
        return pools.into_iter().find_map(|pool| first_gap(pool, &used, size));
    }
    used.extend(entries.iter().map(|(_, range)| *range));
    let (first, count) = DEFAULT_POOL;
    let skip = (start % (count / DEFAULT_SIZE)) * DEFAULT_SIZE;
    first_gap((first + skip, count - skip), &used, size).or_else(|| first_gap(DEFAULT_POOL, &used, size))
}

fn entry(line: &str) -> Option<(&str, Range)> {
    let mut parts = line.trim().split(':');
    let (owner, first, count) = (parts.next()?, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    Some((owner, (first, count)))
}

/// The first place in `pool` where `size` ids fit between those that are used.
fn first_gap(pool: Range, used: &[Range], size: u32) -> Option<u32> {
    let end = u64::from(pool.0) + u64::from(pool.1);
    let mut at = u64::from(pool.0);
    let mut sorted: Vec<Range> = used.to_vec();
    sorted.sort_unstable();
    for (first, count) in sorted {
        let (first, after) = (u64::from(first), u64::from(first) + u64::from(count));
        if at + u64::from(size) <= first {
            break;
        }
        at = at.max(after);
    }
    // The last id of all means "no change" to the kernel.
    (at + u64::from(size) <= end.min(u64::from(u32::MAX))).then(|| u32::try_from(at).ok()).flatten()
}

/// The host's id of `id` by triples (id inside, id on the host, count).
pub(crate) fn outside(triples: &[(u32, u32, u32)], id: u32) -> Option<u32> {
    triples.iter().find_map(|(inside, host, count)| {
        let offset = id.checked_sub(*inside).filter(|o| o < count)?;
        host.checked_add(offset)
    })
}

/// The container's id of `id` on the host.
pub(crate) fn inside(triples: &[(u32, u32, u32)], id: u32) -> Option<u32> {
    let turned: Vec<_> = triples.iter().map(|(inside, host, count)| (*host, *inside, *count)).collect();
    outside(&turned, id)
}

/// The mappings of the user namespace in which process `pid` is; `None` if it is the caller's.
pub(crate) fn of_process(pid: i32) -> Option<IdMaps> {
    let namespace = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/user")).ok();
    if namespace(&pid.to_string())? == namespace("self")? {
        return None;
    }
    let read = |name: &str| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
        let triple = |line: &str| {
            let numbers: Vec<u32> = line.split_whitespace().filter_map(|n| n.parse().ok()).collect();
            if let [inside, host, count] = numbers[..] { Some((inside, host, count)) } else { None }
        };
        text.lines().filter_map(triple).collect()
    };
    Some(IdMaps { uids: read("uid_map"), gids: read("gid_map") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_found_between_what_is_used() {
        assert_eq!(first_gap((100, 50), &[], 50), Some(100));
        assert_eq!(first_gap((100, 50), &[], 51), None);
        assert_eq!(first_gap((100, 50), &[(110, 10), (90, 15)], 5), Some(105));
        assert_eq!(first_gap((100, 50), &[(110, 10), (90, 15)], 6), Some(120));
        assert_eq!(first_gap((100, 50), &[(110, 10), (90, 15)], 40), None);
        assert_eq!(first_gap((u32::MAX - 9, 20), &[], 10), None);
    }

    #[test]
    fn the_administrators_ranges_come_first() {
        let file = "me:100000:65536\ncontainers:200000:131072\n";
        assert_eq!(free(file, vec![(200_000, 65536)], 65536, 7), Some(265_536));
        assert_eq!(free(file, vec![(200_000, 65536), (265_536, 65536)], 65536, 7), None);
        assert_eq!(free("fluyt:5:1000\ncontainers:2000:9\n", vec![], 100, 0), Some(5));
        let start = DEFAULT_POOL.0 + 2 * DEFAULT_SIZE;
        assert_eq!(free("me:100000:65536\n", vec![], 65536, 2), Some(start));
        assert_eq!(free(&format!("me:{start}:65536\n"), vec![], 65536, 2), Some(start + 65536));
    }

    #[test]
    fn ids_go_both_ways() {
        let maps = [(0, 100_000, 1000), (1000, 5000, 1)];
        assert_eq!(outside(&maps, 1000), Some(5000));
        assert_eq!(inside(&maps, 100_999), Some(999));
        assert_eq!(inside(&maps, 0), None);
    }
}
