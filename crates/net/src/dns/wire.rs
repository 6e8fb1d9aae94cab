//! DNS messages (RFC 1035, RFC 6891): reading one question out of untrusted bytes, and writing answers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Length of a message's header.
pub(super) const HEADER: usize = 12;
/// Largest answer over UDP to a client that announces nothing.
pub(super) const PLAIN_UDP: usize = 512;
/// What we announce, and the most that we send over UDP: it fits every path.
const OUR_UDP: u16 = 1232;

pub(super) const TYPE_A: u16 = 1;
pub(super) const TYPE_PTR: u16 = 12;
pub(super) const TYPE_AAAA: u16 = 28;
const TYPE_OPT: u16 = 41;
pub(super) const TYPE_ANY: u16 = 255;
const CLASS_IN: u16 = 1;
const CLASS_ANY: u16 = 255;

const POINTER_TO_QUESTION: [u8; 2] = [0xc0, 0x0c];

/// Outcomes in a message's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rcode {
    NoError = 0,
    FormErr = 1,
    ServFail = 2,
    NxDomain = 3,
    NotImp = 4,
}

/// A question, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Query<'a> {
    pub(super) id: u16,
    /// Recursion desired, to be repeated in the answer.
    recursion: bool,
    /// The question section as it came.
    pub(super) question: &'a [u8],
    /// The name in lower case without its last dot; `None` if it is not plain text.
    pub(super) name: Option<String>,
    pub(super) kind: u16,
    pub(super) is_internet: bool,
    /// UDP size that the client announces by EDNS.
    edns: Option<u16>,
}

/// Why a message cannot be treated as a question.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unfit {
    /// Not a question at all: no answer.
    Silence,
    /// A question that gets an error.
    Refused(Vec<u8>),
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// Reads a client's message.
pub(super) fn read(message: &[u8]) -> Result<Query<'_>, Unfit> {
    let (Some(id), Some(flags), Some(questions)) =
        (u16_at(message, 0), u16_at(message, 2), u16_at(message, 4))
    else {
        return Err(Unfit::Silence);
    };
    if message.len() < HEADER || flags & 0x8000 != 0 {
        return Err(Unfit::Silence);
    }
    let refuse = |rcode| {
        let bare = Query {
            id,
            recursion: flags & 0x0100 != 0,
            question: &[],
            name: None,
            kind: 0,
            is_internet: true,
            edns: None,
        };
        Unfit::Refused(answer(&bare, rcode, &[], 0, false))
    };
    if flags & 0x7800 != 0 {
        return Err(refuse(Rcode::NotImp));
    }
    if questions != 1 {
        return Err(refuse(Rcode::FormErr));
    }
    let (name, end) = read_name(message, HEADER).ok_or_else(|| refuse(Rcode::FormErr))?;
    let (Some(kind), Some(class)) = (u16_at(message, end), u16_at(message, end + 2)) else {
        return Err(refuse(Rcode::FormErr));
    };
    Ok(Query {
        id,
        recursion: flags & 0x0100 != 0,
        question: &message[HEADER..end + 4],
        name,
        kind,
        is_internet: class == CLASS_IN || class == CLASS_ANY,
        edns: edns_size(message, end + 4),
    })
}

/// Reads an uncompressed name; gives the text, if it is plain, and the offset behind it.
fn read_name(message: &[u8], start: usize) -> Option<(Option<String>, usize)> {
    const MOST: usize = 255;
    let mut at = start;
    let mut text = Some(String::new());
    loop {
        let length = usize::from(*message.get(at)?);
        at += 1;
        if length == 0 {
            return Some((text, at));
        }
        if length > 63 || at + length - start >= MOST {
            return None;
        }
        let label = message.get(at..at + length)?;
        at += length;
        let plain = label.iter().all(|b| b.is_ascii_graphic() && *b != b'.' && *b != b'\\');
        text = text.filter(|_| plain).map(|mut t| {
            if !t.is_empty() {
                t.push('.');
            }
            t.extend(label.iter().map(|b| char::from(b.to_ascii_lowercase())));
            t
        });
    }
}

/// The UDP size in the OPT record of a query that carries nothing else behind its question.
fn edns_size(message: &[u8], at: usize) -> Option<u16> {
    let (answers, authorities, additional) = (u16_at(message, 6)?, u16_at(message, 8)?, u16_at(message, 10)?);
    let is_opt = message.get(at) == Some(&0) && u16_at(message, at + 1)? == TYPE_OPT;
    (answers == 0 && authorities == 0 && additional > 0 && is_opt).then(|| u16_at(message, at + 3))?
}

impl Query<'_> {
    /// The most bytes of an answer over UDP.
    pub(super) fn udp_limit(&self) -> usize {
        self.edns.map_or(PLAIN_UDP, |size| usize::from(size.min(OUR_UDP)).max(PLAIN_UDP))
    }

    /// The address that a reverse question (`….in-addr.arpa`, `….ip6.arpa`) is about.
    pub(super) fn reverse(&self) -> Option<IpAddr> {
        let name = self.name.as_deref()?;
        if let Some(digits) = name.strip_suffix(".in-addr.arpa") {
            let parts: Vec<u8> = digits.split('.').map(|p| p.parse().ok()).collect::<Option<_>>()?;
            let [d, c, b, a] = *parts.as_slice() else { return None };
            return Some(IpAddr::V4(Ipv4Addr::new(a, b, c, d)));
        }
        let nibbles = name.strip_suffix(".ip6.arpa")?;
        let mut value = 0_u128;
        let mut count = 0_u32;
        for nibble in nibbles.split('.') {
            if nibble.len() != 1 || count == 32 {
                return None;
            }
            value |= u128::from(u8::from_str_radix(nibble, 16).ok()?) << (4 * count);
            count += 1;
        }
        (count == 32).then(|| IpAddr::V6(Ipv6Addr::from_bits(value)))
    }
}

/// What an answer says about the name in question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Record {
    Address(IpAddr),
    Name(String),
}

/// Writes an answer. Over UDP, where it must fit into `limit` bytes (0: no limit), records that do not fit are left
/// out and the answer is marked as cut.
pub(super) fn answer(
    query: &Query<'_>,
    rcode: Rcode,
    records: &[Record],
    limit: usize,
    ours: bool,
) -> Vec<u8> {
    const RESPONSE: u16 = 0x8000;
    const AUTHORITATIVE: u16 = 0x0400;
    const CUT: u16 = 0x0200;
    const RECURSION: u16 = 0x0080;
    let mut flags = RESPONSE | RECURSION | rcode as u16;
    flags |= if query.recursion { 0x0100 } else { 0 } | if ours { AUTHORITATIVE } else { 0 };
    let mut out = vec![0_u8; HEADER];
    out.extend_from_slice(query.question);
    let opt = if query.edns.is_some() { 11 } else { 0 };
    let mut count = 0_u16;
    for record in records {
        let before = out.len();
        write_record(&mut out, record);
        if limit > 0 && out.len() + opt > limit {
            out.truncate(before);
            flags |= CUT;
            break;
        }
        count += 1;
    }
    if opt > 0 {
        out.push(0);
        out.extend_from_slice(&TYPE_OPT.to_be_bytes());
        out.extend_from_slice(&OUR_UDP.to_be_bytes());
        out.extend_from_slice(&[0; 6]);
    }
    for (at, value) in [
        (0, query.id),
        (2, flags),
        (4, u16::from(!query.question.is_empty())),
        (6, count),
        (10, u16::from(opt > 0)),
    ] {
        out[at..at + 2].copy_from_slice(&value.to_be_bytes());
    }
    out
}

/// Seconds for which an answer may be kept: short, since a container that restarts may come back elsewhere.
const TTL: u32 = 5;

fn write_record(out: &mut Vec<u8>, record: &Record) {
    let (kind, data) = match record {
        Record::Address(IpAddr::V4(a)) => (TYPE_A, a.octets().to_vec()),
        Record::Address(IpAddr::V6(a)) => (TYPE_AAAA, a.octets().to_vec()),
        Record::Name(name) => (TYPE_PTR, encode_name(name)),
    };
    out.extend_from_slice(&POINTER_TO_QUESTION);
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&CLASS_IN.to_be_bytes());
    out.extend_from_slice(&TTL.to_be_bytes());
    out.extend_from_slice(&u16::try_from(data.len()).unwrap_or(0).to_be_bytes());
    out.extend_from_slice(&data);
}

/// A name as labels; what cannot be one (empty or over-long labels) is left out.
fn encode_name(name: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len() + 2);
    for label in name.split('.').filter(|l| (1..=63).contains(&l.len())) {
        out.push(u8::try_from(label.len()).unwrap_or(0));
        out.extend_from_slice(label.as_bytes());
    }
    out.push(0);
    out
}

/// Whether `reply` answers the question that was sent as `sent`: id, direction, and the question itself, in which
/// letters may have changed case.
pub(super) fn is_answer_to(reply: &[u8], id: u16, question: &[u8]) -> bool {
    let same_question =
        reply.get(HEADER..HEADER + question.len()).is_some_and(|q| q.eq_ignore_ascii_case(question));
    u16_at(reply, 0) == Some(id)
        && u16_at(reply, 2).is_some_and(|f| f & 0x8000 != 0)
        && u16_at(reply, 4) == Some(1)
        && same_question
}

/// Whether an upstream server has an answer, positive or negative, and not a failure of its own.
pub(super) fn is_conclusive(reply: &[u8]) -> bool {
    u16_at(reply, 2).is_some_and(|f| [Rcode::NoError as u16, Rcode::NxDomain as u16].contains(&(f & 0xf)))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A question for `name`.
    pub(in crate::dns) fn question(id: u16, name: &str, kind: u16) -> Vec<u8> {
        let mut out = vec![0_u8; HEADER];
        out[..2].copy_from_slice(&id.to_be_bytes());
        out[2] = 1;
        out[5] = 1;
        out.extend_from_slice(&encode_name(name));
        out.extend_from_slice(&kind.to_be_bytes());
        out.extend_from_slice(&CLASS_IN.to_be_bytes());
        out
    }

    #[test]
    fn questions_are_read() {
        let bytes = question(7, "Web.Example", TYPE_A);
        let q = read(&bytes).unwrap();
        assert_eq!((q.id, q.name.as_deref(), q.kind, q.udp_limit()), (7, Some("web.example"), TYPE_A, 512));
        let mut with_opt = bytes.clone();
        with_opt[11] = 1;
        with_opt.extend_from_slice(&[0, 0, 41, 0x10, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(read(&with_opt).unwrap().udp_limit(), 1232);
        let reply = answer(&read(&with_opt).unwrap(), Rcode::NxDomain, &[], 512, true);
        assert_eq!((reply[3] & 15, reply[11]), (3, 1), "EDNS is answered with EDNS");
    }

    #[test]
    fn unfit_messages_get_what_they_deserve() {
        let good = question(7, "web", TYPE_A);
        assert_eq!(read(&good[..5]), Err(Unfit::Silence));
        let mut reply = good.clone();
        reply[2] |= 0x80;
        assert_eq!(read(&reply), Err(Unfit::Silence));
        let mut update = good.clone();
        update[2] |= 0x28;
        assert!(matches!(read(&update), Err(Unfit::Refused(r)) if r[3] & 15 == 4));
        let mut pointer = good;
        pointer[12] = 0xc0;
        assert!(matches!(read(&pointer), Err(Unfit::Refused(r)) if r[3] & 15 == 1));
    }

    #[test]
    fn reverse_names_are_addresses() {
        for (name, addr) in [
            ("2.0.29.172.in-addr.arpa", Some("172.29.0.2")),
            ("2.0.29.in-addr.arpa", None),
            ("1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa", Some("fd00::1")),
            ("1.0.ip6.arpa", None),
        ] {
            let bytes = question(1, name, TYPE_PTR);
            let got = read(&bytes).unwrap().reverse();
            assert_eq!(got, addr.map(|a| a.parse().unwrap()), "{name}");
        }
    }

    #[test]
    fn long_answers_are_cut() {
        let bytes = question(7, "web", TYPE_A);
        let records: Vec<_> = (0..100).map(|n| Record::Address(IpAddr::from([10, 0, 0, n]))).collect();
        let q = read(&bytes).unwrap();
        let short = answer(&q, Rcode::NoError, &records, q.udp_limit(), true);
        assert!(short.len() <= 512 && short[2] & 2 != 0);
        let whole = answer(&q, Rcode::NoError, &records, 0, true);
        assert_eq!((whole.len(), whole[2] & 2), (HEADER + 9 + 1600, 0));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            if let Ok(q) = read(&bytes) {
                let _ = q.reverse();
                let reply = answer(&q, Rcode::NoError, &[Record::Name("a.b".into())], q.udp_limit(), true);
                prop_assert!(is_answer_to(&reply, q.id, q.question));
            }
            let _ = is_answer_to(&bytes, 1, &[0, 0, 1, 0, 1]);
        }

        #[test]
        fn damaged_questions_are_survived(
            name in "[a-z.]{0,80}", at in 0_usize..100, byte in any::<u8>(), cut in 0_usize..100,
        ) {
            let mut bytes = question(9, &name, TYPE_A);
            let len = bytes.len();
            bytes[at % len] = byte;
            bytes.truncate(len.saturating_sub(cut % 20));
            if let Err(Unfit::Refused(reply)) = read(&bytes) {
                prop_assert!(reply.len() >= HEADER);
            }
        }
    }
}
