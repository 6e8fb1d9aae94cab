//! The sets and maps of the table: their shapes, their keys, and reading and writing their elements.

use std::collections::BTreeMap;
use std::net::IpAddr;

use fluyt_model::error::Result;
use fluyt_model::sandbox::Protocol;
use fluyt_sys::netlink::consts::*;
use fluyt_sys::netlink::{Attr, Batch, Socket};

use super::{Transaction, header, kind, refused};
use crate::addr::octets;
use crate::link::libc_errno;

/// The sets (interfaces) and maps (published ports) of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Set {
    /// Every bridge of ours.
    Bridges,
    /// Bridges without a way out.
    Internal,
    /// Bridges whose members are masqueraded on their way out.
    Masquerade,
    /// Bridges that may be reached from elsewhere without a published port.
    Direct,
    /// Pairs of the same bridge whose members may talk.
    Icc,
    /// Pairs of the same bridge, all of them.
    Hairpin,
    /// Pairs of the same IPv4 address: a container that reaches itself by its published port.
    Self4,
    /// Pairs of the same IPv6 address.
    Self6,
    /// Protocol and port -> IPv4 address and port.
    Dnat4,
    /// IPv4 address, protocol and port -> IPv4 address and port.
    Dnat4Addr,
    /// Protocol and port -> IPv6 address and port.
    Dnat6,
    /// IPv6 address, protocol and port -> IPv6 address and port.
    Dnat6Addr,
}

/// Types and lengths as nf_tables (and, for display, nft) wants them.
pub(super) struct Shape {
    pub(super) key_type: u32,
    pub(super) key_len: u32,
    pub(super) data_type: u32,
    pub(super) data_len: u32,
}

/// nft's numbers for types; a concatenation is written in six bits each.
const IPV4_ADDR: u32 = 7;
const IPV6_ADDR: u32 = 8;
const INET_PROTO: u32 = 12;
const INET_SERVICE: u32 = 13;
const IFNAME: u32 = 41;

/// Length of an interface name in a key, padded with zeros.
const NAME_LEN: usize = 16;

impl Set {
    /// All of them.
    pub(crate) const ALL: [Self; 12] = [
        Self::Bridges,
        Self::Internal,
        Self::Masquerade,
        Self::Direct,
        Self::Icc,
        Self::Hairpin,
        Self::Self4,
        Self::Self6,
        Self::Dnat4,
        Self::Dnat4Addr,
        Self::Dnat6,
        Self::Dnat6Addr,
    ];

    /// Its name in the table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bridges => "bridges",
            Self::Internal => "internals",
            Self::Masquerade => "egress",
            Self::Direct => "direct",
            Self::Icc => "icc",
            Self::Hairpin => "hairpin",
            Self::Self4 => "self4",
            Self::Self6 => "self6",
            Self::Dnat4 => "dnat4",
            Self::Dnat4Addr => "dnat4_addr",
            Self::Dnat6 => "dnat6",
            Self::Dnat6Addr => "dnat6_addr",
        }
    }

    /// Whether its elements belong to published ports, not to interfaces.
    pub(crate) fn is_ports(self) -> bool {
        self >= Self::Self4
    }

    /// Whether its keys are in host byte order: only nft's display depends on it.
    pub(super) fn is_host_order(self) -> bool {
        !self.is_ports()
    }

    pub(super) fn shape(self) -> Shape {
        let join = |types: &[u32]| types.iter().fold(0, |all, t| all << 6 | t);
        let (v4, v6) = (join(&[IPV4_ADDR, INET_SERVICE]), join(&[IPV6_ADDR, INET_SERVICE]));
        let (key_type, key_len, data_type, data_len) = match self {
            Self::Bridges | Self::Internal | Self::Masquerade | Self::Direct => (IFNAME, 16, 0, 0),
            Self::Icc | Self::Hairpin => (join(&[IFNAME, IFNAME]), 32, 0, 0),
            Self::Self4 => (join(&[IPV4_ADDR, IPV4_ADDR]), 8, 0, 0),
            Self::Self6 => (join(&[IPV6_ADDR, IPV6_ADDR]), 32, 0, 0),
            Self::Dnat4 => (join(&[INET_PROTO, INET_SERVICE]), 8, v4, 8),
            Self::Dnat4Addr => (join(&[IPV4_ADDR, INET_PROTO, INET_SERVICE]), 12, v4, 8),
            Self::Dnat6 => (join(&[INET_PROTO, INET_SERVICE]), 8, v6, 20),
            Self::Dnat6Addr => (join(&[IPV6_ADDR, INET_PROTO, INET_SERVICE]), 24, v6, 20),
        };
        Shape { key_type, key_len, data_type, data_len }
    }
}

/// Which element.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) set: Set,
    pub(crate) bytes: Vec<u8>,
}

/// What the element holds: where a port leads (empty for sets), and whose it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Value {
    pub(crate) data: Vec<u8>,
    pub(crate) comment: String,
}

/// Elements by key.
pub(crate) type Elements = BTreeMap<Key, Value>;

impl Key {
    /// The element of an interface.
    pub(crate) fn interface(set: Set, name: &str) -> Self {
        let mut one = [0_u8; NAME_LEN];
        let length = name.len().min(NAME_LEN - 1);
        one[..length].copy_from_slice(&name.as_bytes()[..length]);
        let twice = matches!(set, Set::Icc | Set::Hairpin);
        Self { set, bytes: if twice { [one, one].concat() } else { one.to_vec() } }
    }

    /// The element of a published port; `host` is `None` for all addresses of the target's family.
    pub(crate) fn port(host: Option<IpAddr>, protocol: Protocol, port: u16, ipv4: bool) -> Self {
        let set = match (ipv4, host.is_some()) {
            (true, false) => Set::Dnat4,
            (true, true) => Set::Dnat4Addr,
            (false, false) => Set::Dnat6,
            (false, true) => Set::Dnat6Addr,
        };
        let mut bytes = host.map(octets).unwrap_or_default();
        bytes.extend_from_slice(&[protocol_number(protocol), 0, 0, 0]);
        bytes.extend_from_slice(&port.to_be_bytes());
        bytes.extend_from_slice(&[0; 2]);
        Self { set, bytes }
    }

    /// The element by which `addr` is known to reach itself.
    pub(crate) fn itself(addr: IpAddr) -> Self {
        let set = if addr.is_ipv4() { Set::Self4 } else { Set::Self6 };
        Self { set, bytes: [octets(addr), octets(addr)].concat() }
    }

    /// The interface of an element that is one, or a pair of the same one.
    pub(crate) fn interface_name(&self) -> &str {
        let name = self.bytes.get(..NAME_LEN).unwrap_or_default();
        let end = name.iter().position(|b| *b == 0).unwrap_or(name.len());
        std::str::from_utf8(&name[..end]).unwrap_or("")
    }
}

/// The value of a published port.
pub(crate) fn target(addr: IpAddr, port: u16) -> Vec<u8> {
    let mut bytes = octets(addr);
    bytes.extend_from_slice(&port.to_be_bytes());
    bytes.extend_from_slice(&[0; 2]);
    bytes
}

/// The IP protocol number.
pub(crate) fn protocol_number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
        Protocol::Sctp => 132,
    }
}

/// User data in the form that nft shows as a comment; at most 127 bytes of text.
pub(crate) fn comment(text: &str) -> Vec<u8> {
    let text = text.get(..text.len().min(127)).unwrap_or("");
    let mut bytes = vec![0, u8::try_from(text.len() + 1).unwrap_or(0)];
    bytes.extend_from_slice(text.as_bytes());
    bytes.push(0);
    bytes
}

pub(crate) fn comment_text(bytes: &[u8]) -> String {
    let end = bytes.len().saturating_sub(1);
    match bytes {
        [0, _, ..] if end >= 2 => String::from_utf8_lossy(&bytes[2..end]).into_owned(),
        _ => String::new(),
    }
}

/// Appends the addition of an element.
pub(crate) fn add(t: &mut Transaction, table: &str, key: &Key, value: &Value) {
    t.push("add an element", NFT_MSG_NEWSETELEM, NLM_F_CREATE | NLM_F_EXCL, |m| {
        m.str(NFTA_SET_ELEM_LIST_TABLE, table).str(NFTA_SET_ELEM_LIST_SET, key.set.name());
        m.nest(NFTA_SET_ELEM_LIST_ELEMENTS, |m| {
            m.nest(NFTA_LIST_ELEM, |m| {
                m.nest(NFTA_SET_ELEM_KEY, |m| {
                    m.bytes(NFTA_DATA_VALUE, &key.bytes);
                });
                if !value.data.is_empty() {
                    m.nest(NFTA_SET_ELEM_DATA, |m| {
                        m.bytes(NFTA_DATA_VALUE, &value.data);
                    });
                }
                if !value.comment.is_empty() {
                    m.bytes(NFTA_SET_ELEM_USERDATA, &comment(&value.comment));
                }
            });
        });
    });
}

/// Appends the removal of an element.
pub(crate) fn remove(t: &mut Transaction, table: &str, key: &Key) {
    t.push("remove an element", NFT_MSG_DELSETELEM, 0, |m| {
        m.str(NFTA_SET_ELEM_LIST_TABLE, table).str(NFTA_SET_ELEM_LIST_SET, key.set.name());
        m.nest(NFTA_SET_ELEM_LIST_ELEMENTS, |m| {
            m.nest(NFTA_LIST_ELEM, |m| {
                m.nest(NFTA_SET_ELEM_KEY, |m| {
                    m.bytes(NFTA_DATA_VALUE, &key.bytes);
                });
            });
        });
    });
}

/// The value of one element; `None` if it, its set or the table is missing. One round trip.
pub(crate) fn get(socket: &mut Socket, table: &str, key: &Key) -> Result<Option<Value>> {
    let mut batch = Batch::new();
    batch.push("look up an element", kind(NFT_MSG_GETSETELEM), 0, &header(NFPROTO_INET, 0), |m| {
        m.str(NFTA_SET_ELEM_LIST_TABLE, table).str(NFTA_SET_ELEM_LIST_SET, key.set.name());
        m.nest(NFTA_SET_ELEM_LIST_ELEMENTS, |m| {
            m.nest(NFTA_LIST_ELEM, |m| {
                m.nest(NFTA_SET_ELEM_KEY, |m| {
                    m.bytes(NFTA_DATA_VALUE, &key.bytes);
                });
            });
        });
    });
    let mut found = None;
    let done = socket.query(batch, |reply| {
        if let Some(list) = reply.attrs(4).find(NFTA_SET_ELEM_LIST_ELEMENTS) {
            found = list.nested().next().map(|e| read(key.set, e).1);
        }
    });
    match done {
        Ok(()) => Ok(found),
        Err(f) if f.errno() == libc_errno::ENOENT => Ok(None),
        Err(f) => Err(refused(table, f)),
    }
}

/// All elements of `sets`; `None` if the table is missing or has not this version's sets.
pub(crate) fn dump(socket: &mut Socket, table: &str, sets: &[Set]) -> Result<Option<Elements>> {
    let mut elements = Elements::new();
    for set in sets {
        let mut batch = Batch::new();
        let family = header(NFPROTO_INET, 0);
        batch.push("list a set", kind(NFT_MSG_GETSETELEM), NLM_F_DUMP, &family, |m| {
            m.str(NFTA_SET_ELEM_LIST_TABLE, table).str(NFTA_SET_ELEM_LIST_SET, set.name());
        });
        let done = socket.query(batch, |reply| {
            let list = reply.attrs(4).find(NFTA_SET_ELEM_LIST_ELEMENTS);
            elements.extend(list.into_iter().flat_map(Attr::nested).map(|e| read(*set, e)));
        });
        match done {
            Ok(()) => {}
            Err(f) if f.errno() == libc_errno::ENOENT => return Ok(None),
            Err(f) => return Err(refused(table, f)),
        }
    }
    Ok(Some(elements))
}

fn read(set: Set, element: Attr<'_>) -> (Key, Value) {
    let value = |kind| {
        let data = element.nested().find(kind).and_then(|a| a.nested().find(NFTA_DATA_VALUE));
        data.map(|a| a.value.to_vec()).unwrap_or_default()
    };
    let comment = element.nested().find(NFTA_SET_ELEM_USERDATA).map(|a| comment_text(a.value));
    let key = Key { set, bytes: value(NFTA_SET_ELEM_KEY) };
    (key, Value { data: value(NFTA_SET_ELEM_DATA), comment: comment.unwrap_or_default() })
}
