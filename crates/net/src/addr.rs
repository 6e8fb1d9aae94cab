//! Addresses with prefixes, hardware addresses, and the hash from which stable names are derived.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use fluyt_model::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// An address and the length of its network's prefix, written `172.29.0.1/16`. Bits behind the prefix are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cidr {
    addr: IpAddr,
    prefix: u8,
}

impl Cidr {
    /// An address in a network of `prefix` bits.
    ///
    /// # Errors
    /// `Invalid` if the prefix is longer than the address.
    pub fn new(addr: IpAddr, prefix: u8) -> Result<Self> {
        let most = if addr.is_ipv4() { 32 } else { 128 };
        if prefix > most {
            return Err(Error::invalid(format!("{addr}/{prefix}: the prefix is longer than {most} bits")));
        }
        Ok(Self { addr, prefix })
    }

    /// The address.
    #[must_use]
    pub fn addr(&self) -> IpAddr {
        self.addr
    }

    /// Bits of the network part.
    #[must_use]
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// Whether it is IPv4.
    #[must_use]
    pub fn is_ipv4(&self) -> bool {
        self.addr.is_ipv4()
    }

    /// The network: the same prefix, all other bits zero.
    #[must_use]
    pub fn network(&self) -> Self {
        Self { addr: to_ip(self.first(), self.is_ipv4()), prefix: self.prefix }
    }

    /// The last address of the network (IPv4: the broadcast address).
    #[must_use]
    pub fn last_addr(&self) -> IpAddr {
        to_ip(self.last(), self.is_ipv4())
    }

    /// Whether `addr` is in this network.
    #[must_use]
    pub fn contains(&self, addr: IpAddr) -> bool {
        addr.is_ipv4() == self.is_ipv4() && (self.first()..=self.last()).contains(&to_number(addr))
    }

    /// Whether the two networks share an address.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.is_ipv4() == other.is_ipv4() && self.first() <= other.last() && other.first() <= self.last()
    }

    pub(crate) fn host_bits(&self) -> u32 {
        (if self.is_ipv4() { 32 } else { 128 }) - u32::from(self.prefix)
    }

    pub(crate) fn first(&self) -> u128 {
        let low = self.host_bits();
        if low >= 128 { 0 } else { to_number(self.addr) >> low << low }
    }

    pub(crate) fn last(&self) -> u128 {
        let low = self.host_bits();
        self.first() | if low >= 128 { u128::MAX } else { (1 << low) - 1 }
    }
}

pub(crate) fn to_number(addr: IpAddr) -> u128 {
    match addr {
        IpAddr::V4(a) => u128::from(a.to_bits()),
        IpAddr::V6(a) => a.to_bits(),
    }
}

pub(crate) fn to_ip(number: u128, ipv4: bool) -> IpAddr {
    if ipv4 {
        IpAddr::V4(Ipv4Addr::from_bits((number & 0xffff_ffff) as u32))
    } else {
        IpAddr::V6(Ipv6Addr::from_bits(number))
    }
}

pub(crate) fn octets(addr: IpAddr) -> Vec<u8> {
    match addr {
        IpAddr::V4(a) => a.octets().to_vec(),
        IpAddr::V6(a) => a.octets().to_vec(),
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr, self.prefix)
    }
}

impl FromStr for Cidr {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = || {
            Error::invalid(format!("{text:?} is not an address with a prefix"))
                .with_hint("write it like 172.30.0.0/24 or fd00:1::/64")
        };
        let (addr, prefix) = text.split_once('/').ok_or_else(bad)?;
        Self::new(addr.parse().map_err(|_| bad())?, prefix.parse().map_err(|_| bad())?)
    }
}

impl Serialize for Cidr {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Cidr {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A hardware address, written `02:42:ac:1d:00:02`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// The address that belongs to an IPv4 address: `02:42` and its four bytes. The same address always comes with
    /// the same hardware address, so a neighbour's cache is never stale.
    #[must_use]
    pub fn of_ipv4(addr: Ipv4Addr) -> Self {
        let [a, b, c, d] = addr.octets();
        Self([0x02, 0x42, a, b, c, d])
    }

    /// A stable, locally administered address derived from a name.
    #[must_use]
    pub fn of_name(name: &str) -> Self {
        let h = fnv1a(name.as_bytes()).to_be_bytes();
        Self([0x02, h[3], h[4], h[5], h[6], h[7]])
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for Mac {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = || {
            Error::invalid(format!("{text:?} is not a MAC address")).with_hint(
                "write it like 02:42:ac:1d:00:02; multicast addresses (odd first byte) do not work",
            )
        };
        let mut bytes = [0_u8; 6];
        let mut parts = text.split([':', '-']);
        for byte in &mut bytes {
            let part = parts.next().filter(|p| p.len() == 2).ok_or_else(bad)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| bad())?;
        }
        if parts.next().is_some() || bytes[0] & 1 == 1 || bytes == [0; 6] {
            return Err(bad());
        }
        Ok(Self(bytes))
    }
}

impl Serialize for Mac {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Mac {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// FNV-1a, 64 bits: stable across versions and machines. For names, not against adversaries.
pub(crate) fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(text: &str) -> Cidr {
        text.parse().unwrap()
    }

    #[test]
    fn networks_know_their_edges() {
        let c = cidr("172.29.5.1/16");
        assert_eq!(c.network().to_string(), "172.29.0.0/16");
        assert_eq!(c.last_addr().to_string(), "172.29.255.255");
        assert!(c.contains("172.29.0.9".parse().unwrap()));
        assert!(!c.contains("172.30.0.9".parse().unwrap()));
        assert!(!c.contains("::1".parse().unwrap()));
        assert!(cidr("0.0.0.0/0").overlaps(&c));
        assert!(cidr("::/0").contains("fd00::1".parse().unwrap()));
        assert!(!cidr("::/0").overlaps(&c));
        assert_eq!(cidr("fd00:1::7/64").network().to_string(), "fd00:1::/64");
    }

    #[test]
    fn bad_texts_are_refused() {
        for text in ["", "1.2.3.4", "1.2.3.4/33", "x/8", "1.2.3.4/-1", "fd00::/129"] {
            assert!(text.parse::<Cidr>().is_err(), "{text}");
        }
        for text in
            ["", "02:42", "01:00:00:00:00:01", "02:42:ac:1d:00:02:03", "0242ac1d0002", "00:00:00:00:00:00"]
        {
            assert!(text.parse::<Mac>().is_err(), "{text}");
        }
        assert_eq!("02-42-AC-1d-00-02".parse::<Mac>().unwrap().to_string(), "02:42:ac:1d:00:02");
    }
}
