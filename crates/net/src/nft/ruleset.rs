//! The fixed part of the table: chains, rules and empty sets. Installing it again changes nothing that is right,
//! puts right what is not, and keeps the elements and the user's chain.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use fluyt_model::error::Result;
use fluyt_model::sandbox::Protocol;
use fluyt_sys::netlink::consts::*;
use fluyt_sys::netlink::{Batch, Socket};

use super::elements::{Set, comment_text};
use super::expr::{Meta, Rule, Side, Verdict};
use super::{Transaction, header, kind, refused};
use crate::link::libc_errno;

/// Raised whenever chains, rules or sets change; it is kept in the table's comment.
pub(crate) const VERSION: &str = "fluyt rules 2";

/// Where a chain hooks into the kernel.
struct Hook {
    kind: &'static str,
    number: u32,
    priority: i32,
}

const PREROUTING: u32 = 0;
const FORWARD: u32 = 2;
const OUTPUT: u32 = 3;
const POSTROUTING: u32 = 4;

/// The chain for the administrator's own rules: made if it is missing, never changed.
const USER: &str = "user";

type Write = fn(&mut Rule<'_, '_>);

/// A chain with its rules.
struct Chain {
    name: &'static str,
    hook: Option<Hook>,
    rules: &'static [Write],
}

/// Chains in an order in which each is named after those that it jumps to.
const CHAINS: &[Chain] = &[
    Chain { name: USER, hook: None, rules: &[] },
    // Members of an internal network reach one another and nothing else.
    Chain {
        name: "internal",
        hook: None,
        rules: &[|r| r.pair_in(Set::Icc.name()).verdict(Verdict::Accept), |r| r.verdict(Verdict::Drop)],
    },
    // A binding to one address wins over one to all addresses.
    Chain {
        name: "translate",
        hook: None,
        rules: &[
            |r| r.translate(true, true, Set::Dnat4Addr.name()),
            |r| r.translate(true, false, Set::Dnat4.name()),
            |r| r.translate(false, true, Set::Dnat6Addr.name()),
            |r| r.translate(false, false, Set::Dnat6.name()),
        ],
    },
    // Our bridges have route_localnet, for published ports on 127.0.0.1; no container may make use of it. Before
    // connection tracking: answers to the host's loopback still carry the bridge's address here.
    Chain {
        name: "raw",
        hook: Some(Hook { kind: "filter", number: PREROUTING, priority: -300 }),
        rules: &[
            |r| {
                r.name_in(Meta::InName, Set::Bridges.name(), true)
                    .loopback4(Side::Source)
                    .verdict(Verdict::Drop)
            },
            |r| {
                r.name_in(Meta::InName, Set::Bridges.name(), true)
                    .loopback4(Side::Destination)
                    .verdict(Verdict::Drop)
            },
        ],
    },
    // A packet from a wire to 127.0.0.0/8 is never translated, whatever route_localnet says on other links.
    Chain {
        name: "prerouting",
        hook: Some(Hook { kind: "nat", number: PREROUTING, priority: -100 }),
        rules: &[
            |r| r.loopback4(Side::Destination).verdict(Verdict::Return),
            |r| r.for_this_host().verdict(Verdict::Jump("translate")),
        ],
    },
    Chain {
        name: "output",
        hook: Some(Hook { kind: "nat", number: OUTPUT, priority: -100 }),
        rules: &[|r| r.for_this_host().verdict(Verdict::Jump("translate"))],
    },
    // `accept` here ends only this chain: every other table still has its say.
    Chain {
        name: "forward",
        hook: Some(Hook { kind: "filter", number: FORWARD, priority: 0 }),
        rules: &[
            |r| r.verdict(Verdict::Jump(USER)),
            |r| r.established().verdict(Verdict::Accept),
            |r| r.name_in(Meta::InName, Set::Internal.name(), true).verdict(Verdict::Goto("internal")),
            |r| r.name_in(Meta::OutName, Set::Internal.name(), true).verdict(Verdict::Goto("internal")),
            |r| r.translated().verdict(Verdict::Accept),
            |r| r.pair_in(Set::Icc.name()).verdict(Verdict::Accept),
            |r| r.name_in(Meta::OutName, Set::Direct.name(), true).verdict(Verdict::Accept),
            |r| r.name_in(Meta::OutName, Set::Bridges.name(), true).verdict(Verdict::Drop),
        ],
    },
    Chain {
        name: "postrouting",
        hook: Some(Hook { kind: "nat", number: POSTROUTING, priority: 100 }),
        rules: &[
            // Egress. Between our own bridges the source stays what it is.
            |r| {
                r.name_in(Meta::InName, Set::Masquerade.name(), true)
                    .name_in(Meta::OutName, Set::Bridges.name(), false)
                    .masquerade()
            },
            // The host's loopback reaches a published port: the answer must find the way back.
            |r| r.name_in(Meta::OutName, Set::Bridges.name(), true).loopback4(Side::Source).masquerade(),
            |r| {
                r.name_in(Meta::OutName, Set::Bridges.name(), true)
                    .source6(IpAddr::V6(Ipv6Addr::LOCALHOST))
                    .masquerade()
            },
            // A container reaches a published port of its own network by the host's address: without this the answer
            // would go straight over the bridge, past the translation.
            |r| r.pair_in(Set::Hairpin.name()).translated().masquerade(),
            // A container reaches itself so. Where br_netfilter is on, no incoming interface is known here.
            |r| r.itself(true, Set::Self4.name()).translated().masquerade(),
            |r| r.itself(false, Set::Self6.name()).translated().masquerade(),
        ],
    },
];

/// Appends everything fixed to a transaction.
pub(crate) fn install(t: &mut Transaction, table: &str) {
    t.push("create the table", NFT_MSG_NEWTABLE, NLM_F_CREATE, |m| {
        m.str(NFTA_TABLE_NAME, table).be32(NFTA_TABLE_FLAGS, 0);
        m.bytes(NFTA_TABLE_USERDATA, &super::elements::comment(VERSION));
    });
    for (number, set) in Set::ALL.iter().enumerate() {
        install_set(t, table, *set, u32::try_from(number + 1).unwrap_or(u32::MAX));
    }
    for chain in CHAINS {
        install_chain(t, table, chain);
    }
    for chain in CHAINS.iter().filter(|c| c.name != USER) {
        t.push("empty the chain", NFT_MSG_DELRULE, 0, |m| {
            m.str(NFTA_RULE_TABLE, table).str(NFTA_RULE_CHAIN, chain.name);
        });
    }
    for chain in CHAINS {
        for write in chain.rules {
            t.push("add a rule", NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND, |m| {
                m.str(NFTA_RULE_TABLE, table).str(NFTA_RULE_CHAIN, chain.name);
                m.nest(NFTA_RULE_EXPRESSIONS, |m| write(&mut Rule::new(m)));
            });
        }
    }
}

fn install_set(t: &mut Transaction, table: &str, set: Set, id: u32) {
    let shape = set.shape();
    t.push("create a set", NFT_MSG_NEWSET, NLM_F_CREATE, |m| {
        m.str(NFTA_SET_TABLE, table).str(NFTA_SET_NAME, set.name());
        m.be32(NFTA_SET_FLAGS, if shape.data_len > 0 { NFT_SET_MAP } else { 0 });
        m.be32(NFTA_SET_KEY_TYPE, shape.key_type).be32(NFTA_SET_KEY_LEN, shape.key_len);
        if shape.data_len > 0 {
            m.be32(NFTA_SET_DATA_TYPE, shape.data_type).be32(NFTA_SET_DATA_LEN, shape.data_len);
        }
        m.be32(NFTA_SET_ID, id);
        if set.is_host_order() {
            const KEY_BYTE_ORDER: u8 = 0;
            const HOST_ORDER: u32 = 1;
            let [a, b, c, d] = HOST_ORDER.to_ne_bytes();
            m.bytes(NFTA_SET_USERDATA, &[KEY_BYTE_ORDER, 4, a, b, c, d]);
        }
    });
}

fn install_chain(t: &mut Transaction, table: &str, chain: &Chain) {
    t.push("create a chain", NFT_MSG_NEWCHAIN, NLM_F_CREATE, |m| {
        m.str(NFTA_CHAIN_TABLE, table).str(NFTA_CHAIN_NAME, chain.name);
        if let Some(hook) = &chain.hook {
            m.nest(NFTA_CHAIN_HOOK, |m| {
                m.be32(NFTA_HOOK_HOOKNUM, hook.number);
                m.be32(NFTA_HOOK_PRIORITY, hook.priority.cast_unsigned());
            });
            const ACCEPT: u32 = 1;
            m.be32(NFTA_CHAIN_POLICY, ACCEPT).str(NFTA_CHAIN_TYPE, hook.kind);
        }
    });
}

/// Appends the removal of the whole table.
pub(crate) fn remove(t: &mut Transaction, table: &str) {
    t.push("delete the table", NFT_MSG_DELTABLE, 0, |m| {
        m.str(NFTA_TABLE_NAME, table);
    });
}

/// Whether this version of the table is in place.
///
/// # Errors
/// The kernel lacks nf_tables or refuses to show the table.
pub(crate) fn installed(socket: &mut Socket, table: &str) -> Result<bool> {
    let mut batch = Batch::new();
    batch.push("look up the table", kind(NFT_MSG_GETTABLE), 0, &header(NFPROTO_INET, 0), |m| {
        m.str(NFTA_TABLE_NAME, table);
    });
    let mut version = None;
    let done = socket.query(batch, |reply| {
        version = reply.attrs(4).find(NFTA_TABLE_USERDATA).map(|a| comment_text(a.value));
    });
    match done {
        Ok(()) => Ok(version.as_deref() == Some(VERSION)),
        Err(f) if f.errno() == libc_errno::ENOENT => Ok(false),
        Err(f) => Err(refused(table, f)),
    }
}

/// How many rules of ours the table should have, the administrator's own left out.
pub(crate) fn rule_count() -> usize {
    CHAINS.iter().map(|c| c.rules.len()).sum()
}

/// How many it has; 0 without the table.
///
/// # Errors
/// The kernel refuses to list them.
pub(crate) fn rules_present(socket: &mut Socket, table: &str) -> Result<usize> {
    let mut batch = Batch::new();
    batch.push("list rules", kind(NFT_MSG_GETRULE), NLM_F_DUMP, &header(NFPROTO_INET, 0), |m| {
        m.str(NFTA_RULE_TABLE, table);
    });
    let mut count = 0;
    let done = socket.query(batch, |reply| {
        let chain = reply.attrs(4).find(NFTA_RULE_CHAIN).map_or("", |a| a.str());
        count += usize::from(CHAINS.iter().any(|c| c.name == chain && c.name != USER));
    });
    match done {
        Ok(()) => Ok(count),
        Err(f) if f.errno() == libc_errno::ENOENT => Ok(0),
        Err(f) => Err(refused(table, f)),
    }
}

/// In a sandbox's namespace: leads the sandbox's own packets to `addr`:`port` to the ports at which the resolver
/// listens instead (UDP, TCP). The table dies with the namespace.
///
/// # Errors
/// The kernel lacks nf_tables.
pub(crate) fn translate_resolver(addr: Ipv4Addr, port: u16, to: (u16, u16)) -> Result<()> {
    const TABLE: &str = "fluyt-resolver";
    let chain = Chain {
        name: "output",
        hook: Some(Hook { kind: "nat", number: OUTPUT, priority: -100 }),
        rules: &[],
    };
    let mut t = Transaction::new();
    t.push("create the table", NFT_MSG_NEWTABLE, NLM_F_CREATE, |m| {
        m.str(NFTA_TABLE_NAME, TABLE).be32(NFTA_TABLE_FLAGS, 0);
    });
    install_chain(&mut t, TABLE, &chain);
    // After a restart of the monitor the ports are others.
    t.push("empty the chain", NFT_MSG_DELRULE, 0, |m| {
        m.str(NFTA_RULE_TABLE, TABLE).str(NFTA_RULE_CHAIN, chain.name);
    });
    for (protocol, to) in [(Protocol::Udp, to.0), (Protocol::Tcp, to.1)] {
        t.push("add a rule", NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND, |m| {
            m.str(NFTA_RULE_TABLE, TABLE).str(NFTA_RULE_CHAIN, chain.name);
            m.nest(NFTA_RULE_EXPRESSIONS, |m| {
                Rule::new(m).destination(addr, protocol, port).redirect(addr, to);
            });
        });
    }
    t.commit(&mut super::socket()?).map_err(|f| refused(TABLE, f))
}
