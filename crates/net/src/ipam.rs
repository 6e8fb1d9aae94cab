//! Address management: which subnet a new network gets, which address an endpoint gets. Pure: what is in use comes
//! in, the choice comes out; the engine's transaction makes it stick.

use std::collections::BTreeSet;
use std::net::IpAddr;

use fluyt_model::error::{Error, Kind, Result};
use serde::{Deserialize, Serialize};

use crate::addr::{Cidr, fnv1a, to_ip, to_number};

/// A range from which networks are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// The whole range.
    pub base: Cidr,
    /// Prefix length of each network cut from it.
    pub size: u8,
}

/// Pools of the default bridge, in order of preference: large networks, away from Docker's 172.17.0.0/16 and
/// Podman's 10.88.0.0/16.
#[must_use]
pub fn default_bridge_pools() -> Vec<Pool> {
    pools(&[("172.29.0.0/16", 20), ("172.30.0.0/16", 20), ("10.209.0.0/16", 20), ("192.168.192.0/18", 20)])
}

/// Pools of user-defined networks, in order of preference: first 256 networks of 254 addresses, then thousands of
/// 62 addresses.
#[must_use]
pub fn user_pools() -> Vec<Pool> {
    pools(&[("10.210.0.0/16", 24), ("10.211.0.0/16", 26), ("10.224.0.0/13", 26), ("192.168.128.0/18", 26)])
}

fn pools(all: &[(&str, u8)]) -> Vec<Pool> {
    let parse = |(base, size): &(&str, u8)| base.parse().ok().map(|base| Pool { base, size: *size });
    all.iter().filter_map(parse).collect()
}

/// The first block of the pools that shares no address with `used`: the networks that exist, the host's routes
/// ([`crate::host_routes`]) and its name servers.
///
/// # Errors
/// `Exhausted` if there is none; `Invalid` for a pool that is smaller than its blocks.
pub fn pick_subnet(pools: &[Pool], used: &[Cidr]) -> Result<Cidr> {
    for pool in pools {
        let bits = if pool.base.is_ipv4() { 32 } else { 128 };
        if pool.size < pool.base.prefix() || pool.size > bits {
            return Err(Error::invalid(format!(
                "address pool {} cannot be cut into /{}",
                pool.base, pool.size
            )));
        }
        let block = first_gap(pool, used, u32::from(bits - pool.size));
        if let Some(first) = block {
            return Cidr::new(to_ip(first, pool.base.is_ipv4()), pool.size);
        }
    }
    Err(Error::new(Kind::Exhausted, "no free subnet is left in the address pools")
        .with_hint("remove unused networks with `fluyt network prune`, or name a subnet with --subnet"))
}

/// Where the first block of `1 << low` addresses begins that is inside the pool and outside of `used`.
fn first_gap(pool: &Pool, used: &[Cidr], low: u32) -> Option<u128> {
    let rest = 1_u128.checked_shl(low).unwrap_or(0).wrapping_sub(1);
    let mut used: Vec<(u128, u128)> =
        used.iter().filter(|u| u.overlaps(&pool.base)).map(|u| (u.first(), u.last())).collect();
    used.sort_unstable();
    let mut first = pool.base.first();
    for (from, to) in used {
        if from > first | rest {
            break;
        }
        if to >= first {
            // The next boundary of a block after the end of what is in use.
            first = (to | rest).checked_add(1)?;
        }
    }
    (first >= pool.base.first() && first | rest <= pool.base.last()).then_some(first)
}

/// The unique local IPv6 subnet (RFC 4193, /64) of a network: always the same for the same data root and network,
/// unless `used` holds it.
///
/// # Errors
/// `Exhausted` if all attempts collide.
pub fn ula_subnet(scope: &str, network_id: &str, used: &[Cidr]) -> Result<Cidr> {
    const ATTEMPTS: u32 = 64;
    let site = u128::from(fnv1a(format!("fluyt site {scope}").as_bytes()) & 0xff_ffff_ffff);
    for attempt in 0..ATTEMPTS {
        let salt = format!("{network_id} {attempt}");
        let subnet = u128::from(fnv1a(salt.as_bytes()) >> 20 & 0xffff);
        let block = Cidr::new(to_ip(0xfd << 120 | site << 80 | subnet << 64, false), 64)?;
        if !used.iter().any(|u| u.overlaps(&block)) {
            return Ok(block);
        }
    }
    Err(Error::new(Kind::Exhausted, format!("no free IPv6 subnet for network {network_id}"))
        .with_hint("name one with --ipv6 --subnet"))
}

/// The gateway that a subnet gets when none is named: its first address.
///
/// # Errors
/// `Invalid` if the subnet has no room for one.
pub fn first_address(subnet: &Cidr) -> Result<IpAddr> {
    pick_address(subnet, None, &BTreeSet::new(), None)
}

/// The next free address of `range` (or the whole `subnet`) after `last`, starting over at the end, so that an
/// address is not given away again at once. Network and broadcast addresses are passed over.
///
/// # Errors
/// `Exhausted` if every address is taken; `Invalid` if the range is not inside the subnet.
pub fn pick_address(
    subnet: &Cidr,
    range: Option<&Cidr>,
    taken: &BTreeSet<IpAddr>,
    last: Option<IpAddr>,
) -> Result<IpAddr> {
    let range = range.unwrap_or(subnet);
    if !subnet.contains(range.network().addr()) || range.prefix() < subnet.prefix() {
        return Err(Error::invalid(format!("address range {range} is not inside subnet {subnet}")));
    }
    let (first, end) = (range.first(), range.last());
    let after = last.filter(|l| range.contains(*l)).map_or(first, |l| to_number(l).wrapping_add(1));
    let mut number = if after > end { first } else { after };
    // Every step passes over an address that is taken or reserved, so this many steps meet a free one if any is.
    let steps = (taken.len() as u128 + 4).min((end - first).saturating_add(1));
    for _ in 0..steps {
        let addr = to_ip(number, range.is_ipv4());
        if !is_reserved(subnet, number) && !taken.contains(&addr) {
            return Ok(addr);
        }
        number = if number >= end { first } else { number + 1 };
    }
    Err(Error::new(Kind::Exhausted, format!("no free address is left in {range}"))
        .with_hint("remove containers from the network, or create one with a larger --subnet"))
}

/// Whether a host must not have this address of the subnet.
fn is_reserved(subnet: &Cidr, number: u128) -> bool {
    let small = subnet.host_bits() < 2;
    let broadcast = subnet.is_ipv4() && number == subnet.last();
    !small && (number == subnet.first() || broadcast)
}

/// Checks an address that the user asked for.
///
/// # Errors
/// `Invalid` if it is outside the subnet or reserved, `Conflict` if it is taken.
pub fn check_address(subnet: &Cidr, wanted: IpAddr, taken: &BTreeSet<IpAddr>) -> Result<()> {
    if !subnet.contains(wanted) {
        return Err(Error::invalid(format!("address {wanted} is not in subnet {subnet}")));
    }
    if is_reserved(subnet, to_number(wanted)) {
        return Err(Error::invalid(format!("address {wanted} is reserved in subnet {subnet}")));
    }
    if taken.contains(&wanted) {
        return Err(Error::conflict(format!("address {wanted} is already in use"))
            .with_hint("`fluyt network inspect` shows who has it"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cidr(text: &str) -> Cidr {
        text.parse().unwrap()
    }

    #[test]
    fn subnets_avoid_what_is_in_use() {
        let one = pick_subnet(&user_pools(), &[]).unwrap();
        assert_eq!(one, cidr("10.210.0.0/24"));
        assert_eq!(pick_subnet(&user_pools(), &[one]).unwrap(), cidr("10.210.1.0/24"));
        // A VPN that routes all of 10/8.
        assert_eq!(pick_subnet(&user_pools(), &[cidr("10.0.0.0/8")]).unwrap(), cidr("192.168.128.0/26"));
        assert_eq!(
            pick_subnet(&default_bridge_pools(), &[cidr("172.16.0.0/12")]).unwrap(),
            cidr("10.209.0.0/20")
        );
        let e = pick_subnet(&user_pools(), &[cidr("0.0.0.0/0")]).unwrap_err();
        assert_eq!(e.kind(), Kind::Exhausted);
    }

    #[test]
    fn thousands_of_networks_fit() {
        let mut used = Vec::new();
        for _ in 0..2000 {
            let next = pick_subnet(&user_pools(), &used).unwrap();
            used.push(next);
        }
        let distinct: BTreeSet<_> = used.iter().copied().collect();
        assert_eq!(distinct.len(), 2000);
    }

    #[test]
    fn ula_is_stable_and_steps_aside() {
        let a = ula_subnet("", "net1", &[]).unwrap();
        assert_eq!(a, ula_subnet("", "net1", &[]).unwrap());
        assert_eq!((a.prefix(), a.addr().to_string().starts_with("fd")), (64, true));
        assert_ne!(a, ula_subnet("", "net1", &[a]).unwrap());
        assert_ne!(a, ula_subnet("x", "net1", &[]).unwrap());
    }

    #[test]
    fn addresses_go_round() {
        let subnet = cidr("10.0.0.0/29");
        let mut taken = BTreeSet::from(["10.0.0.1".parse().unwrap()]);
        let mut last = None;
        let mut given = Vec::new();
        for _ in 0..7 {
            let addr = pick_address(&subnet, None, &taken, last).unwrap();
            last = Some(addr);
            given.push(addr.to_string());
        }
        assert_eq!(given[..6].join(" "), "10.0.0.2 10.0.0.3 10.0.0.4 10.0.0.5 10.0.0.6 10.0.0.2");
        taken.extend((2..7).map(|n| IpAddr::from([10, 0, 0, n])));
        assert_eq!(pick_address(&subnet, None, &taken, last).unwrap_err().kind(), Kind::Exhausted);
        let range = cidr("10.0.0.4/31");
        assert!(pick_address(&subnet, Some(&cidr("10.0.1.0/31")), &taken, None).is_err());
        taken.remove(&"10.0.0.5".parse().unwrap());
        assert_eq!(pick_address(&subnet, Some(&range), &taken, None).unwrap().to_string(), "10.0.0.5");
        assert_eq!(first_address(&cidr("fd00::/64")).unwrap().to_string(), "fd00::1");
    }

    proptest! {
        #[test]
        fn a_picked_address_is_free_and_inside(
            base in any::<u32>(), prefix in 8_u8..=31, taken in proptest::collection::btree_set(0_u32..64, 0..40),
            last in 0_u32..64,
        ) {
            let subnet = Cidr::new(IpAddr::from(base.to_be_bytes()), prefix).unwrap().network();
            let at = |n: u32| to_ip(subnet.first() + u128::from(n), true);
            let taken: BTreeSet<IpAddr> = taken.into_iter().map(at).collect();
            match pick_address(&subnet, None, &taken, Some(at(last))) {
                Ok(addr) => {
                    prop_assert!(subnet.contains(addr) && !taken.contains(&addr));
                    prop_assert!(check_address(&subnet, addr, &taken).is_ok());
                }
                Err(_) => {
                    let free = (subnet.first()..=subnet.last()).take(128)
                        .filter(|n| check_address(&subnet, to_ip(*n, true), &taken).is_ok()).count();
                    prop_assert_eq!(free, 0);
                }
            }
        }
    }
}
