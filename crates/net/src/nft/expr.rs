//! Rules as sequences of nf_tables expressions.
//!
//! Registers: a "wide" register (`NFT_REG_n`) is 16 bytes, made of four narrow ones (`NFT_REG32_n`). A key that
//! consists of several fields lies in consecutive narrow registers, each field padded to four bytes.

use std::net::{IpAddr, Ipv4Addr};

use fluyt_model::sandbox::Protocol;
use fluyt_sys::netlink::Body;
use fluyt_sys::netlink::consts::*;

use super::elements::protocol_number;
use crate::addr::octets;

const VERDICT: u32 = 0;
/// First narrow register.
const R0: u32 = 8;

/// Fields of a packet's context.
#[derive(Clone, Copy)]
pub(super) enum Meta {
    InName = 6,
    OutName = 7,
    Family = 15,
    Transport = 16,
}

/// Where a rule sends the packet.
#[derive(Clone, Copy)]
pub(super) enum Verdict {
    Drop,
    Accept,
    Return,
    Jump(&'static str),
    Goto(&'static str),
}

/// The addresses of a packet.
#[derive(Clone, Copy)]
pub(super) enum Side {
    Source,
    Destination,
}

/// A rule under construction.
pub(super) struct Rule<'a, 'b> {
    out: &'a mut Body<'b>,
}

impl<'a, 'b> Rule<'a, 'b> {
    /// Writes into the list of expressions of a rule message.
    pub(super) fn new(out: &'a mut Body<'b>) -> Self {
        Self { out }
    }

    fn expr(&mut self, name: &str, fill: impl FnOnce(&mut Body<'_>)) -> &mut Self {
        self.out.nest(NFTA_LIST_ELEM, |m| {
            m.str(NFTA_EXPR_NAME, name).nest(NFTA_EXPR_DATA, fill);
        });
        self
    }

    fn meta(&mut self, key: Meta, register: u32) -> &mut Self {
        self.expr("meta", |m| {
            m.be32(1, register).be32(2, key as u32);
        })
    }

    fn compare(&mut self, register: u32, equal: bool, value: &[u8]) -> &mut Self {
        self.expr("cmp", |m| {
            m.be32(1, register).be32(2, u32::from(!equal)).nest(3, |m| {
                m.bytes(NFTA_DATA_VALUE, value);
            });
        })
    }

    /// `base` 1: network header, 2: transport header.
    fn payload(&mut self, base: u32, offset: u32, length: u32, register: u32) -> &mut Self {
        self.expr("payload", |m| {
            m.be32(1, register).be32(2, base).be32(3, offset).be32(4, length);
        })
    }

    fn lookup(&mut self, set: &str, negated: bool) -> &mut Self {
        self.expr("lookup", |m| {
            m.str(1, set).be32(2, R0);
            if negated {
                m.be32(5, 1);
            }
        })
    }

    /// The packet's interface is (or is not) an element of `set`.
    pub(super) fn name_in(&mut self, which: Meta, set: &str, member: bool) -> &mut Self {
        self.meta(which, R0).lookup(set, !member)
    }

    /// The pair of incoming and outgoing interface is an element of `set`.
    pub(super) fn pair_in(&mut self, set: &str) -> &mut Self {
        self.meta(Meta::InName, R0).meta(Meta::OutName, R0 + 4).lookup(set, false)
    }

    /// The pair of source and destination address is an element of `set`.
    pub(super) fn itself(&mut self, ipv4: bool, set: &str) -> &mut Self {
        let (offset, length, next) = if ipv4 { (12, 4, R0 + 1) } else { (8, 16, R0 + 4) };
        self.family(ipv4)
            .payload(1, offset, length, R0)
            .payload(1, offset + length, length, next)
            .lookup(set, false)
    }

    /// The packet is IPv4 (or IPv6).
    pub(super) fn family(&mut self, ipv4: bool) -> &mut Self {
        self.meta(Meta::Family, R0).compare(R0, true, &[if ipv4 { NFPROTO_IPV4 } else { NFPROTO_IPV6 }])
    }

    /// The packet is IPv4 and the address on that side is in 127.0.0.0/8.
    pub(super) fn loopback4(&mut self, side: Side) -> &mut Self {
        let offset = match side {
            Side::Source => 12,
            Side::Destination => 16,
        };
        self.family(true).payload(1, offset, 1, R0).compare(R0, true, &[127])
    }

    /// The packet is IPv6 and comes from `addr`.
    pub(super) fn source6(&mut self, addr: IpAddr) -> &mut Self {
        self.family(false).payload(1, 8, 16, R0).compare(R0, true, &octets(addr))
    }

    /// The destination is an address of this host.
    pub(super) fn for_this_host(&mut self) -> &mut Self {
        const RTN_LOCAL: u32 = 2;
        const DESTINATION: u32 = 2;
        const ADDRESS_TYPE: u32 = 3;
        self.expr("fib", |m| {
            m.be32(1, R0).be32(2, ADDRESS_TYPE).be32(3, DESTINATION);
        })
        .compare(R0, true, &RTN_LOCAL.to_ne_bytes())
    }

    /// A field of connection tracking has one of the bits of `mask`. `key` 0: state, 2: status.
    fn tracking(&mut self, key: u32, mask: u32) -> &mut Self {
        self.expr("ct", |m| {
            m.be32(1, R0).be32(2, key);
        })
        .expr("bitwise", |m| {
            m.be32(1, R0).be32(2, R0).be32(3, 4);
            m.nest(4, |m| {
                m.bytes(NFTA_DATA_VALUE, &mask.to_ne_bytes());
            });
            m.nest(5, |m| {
                m.bytes(NFTA_DATA_VALUE, &[0; 4]);
            });
        })
        .compare(R0, false, &[0; 4])
    }

    /// The packet belongs to a connection that was let through before, or is related to one.
    pub(super) fn established(&mut self) -> &mut Self {
        self.tracking(0, 2 | 4)
    }

    /// The connection's destination was translated: it came by a published port.
    pub(super) fn translated(&mut self) -> &mut Self {
        self.tracking(2, 0x20)
    }

    /// Translates the destination by `map`, from protocol and port, or from address, protocol and port. A packet
    /// that the map does not know passes on to the next rule.
    pub(super) fn translate(&mut self, ipv4: bool, with_address: bool, map: &str) {
        let width = if ipv4 { 1 } else { 4 };
        let mut register = R0;
        self.family(ipv4);
        if with_address {
            let (offset, length) = if ipv4 { (16, 4) } else { (24, 16) };
            self.payload(1, offset, length, register);
            register += width;
        }
        self.meta(Meta::Transport, register).payload(2, 2, 2, register + 1);
        self.expr("lookup", |m| {
            m.str(1, map).be32(2, R0).be32(3, R0);
        });
        const DNAT: u32 = 1;
        let family = u32::from(if ipv4 { NFPROTO_IPV4 } else { NFPROTO_IPV6 });
        self.expr("nat", |m| {
            m.be32(1, DNAT).be32(2, family).be32(3, R0).be32(5, R0 + width);
        });
    }

    /// The packet goes to this IPv4 address and port by this protocol.
    pub(super) fn destination(&mut self, addr: Ipv4Addr, protocol: Protocol, port: u16) -> &mut Self {
        self.family(true)
            .payload(1, 16, 4, R0)
            .compare(R0, true, &addr.octets())
            .meta(Meta::Transport, R0)
            .compare(R0, true, &[protocol_number(protocol)])
            .payload(2, 2, 2, R0)
            .compare(R0, true, &port.to_be_bytes())
    }

    /// Translates the destination to this IPv4 address and port.
    pub(super) fn redirect(&mut self, addr: Ipv4Addr, port: u16) {
        const DNAT: u32 = 1;
        for (register, value) in [(R0, &addr.octets()[..]), (R0 + 1, &port.to_be_bytes()[..])] {
            self.expr("immediate", |m| {
                m.be32(1, register).nest(2, |m| {
                    m.bytes(NFTA_DATA_VALUE, value);
                });
            });
        }
        self.expr("nat", |m| {
            m.be32(1, DNAT).be32(2, u32::from(NFPROTO_IPV4)).be32(3, R0).be32(5, R0 + 1);
        });
    }

    /// Gives the packet the address of the outgoing interface as its source.
    pub(super) fn masquerade(&mut self) {
        self.expr("masq", |_| {});
    }

    /// Ends the rule.
    pub(super) fn verdict(&mut self, verdict: Verdict) {
        let (code, chain) = match verdict {
            Verdict::Drop => (0, None),
            Verdict::Accept => (1, None),
            Verdict::Jump(chain) => (-3_i32, Some(chain)),
            Verdict::Goto(chain) => (-4, Some(chain)),
            Verdict::Return => (-5, None),
        };
        self.expr("immediate", |m| {
            m.be32(1, VERDICT).nest(2, |m| {
                m.nest(NFTA_DATA_VERDICT, |m| {
                    m.be32(NFTA_VERDICT_CODE, code.cast_unsigned());
                    if let Some(chain) = chain {
                        m.str(NFTA_VERDICT_CHAIN, chain);
                    }
                });
            });
        });
    }
}
