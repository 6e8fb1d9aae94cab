//! Account of the questions that are with upstream servers. Pure: time and randomness come in, what is to be sent
//! goes out.

use std::net::SocketAddr;

use super::wire::{self, HEADER, Query};

/// Questions that may be with upstream servers at once.
pub(super) const MOST_PENDING: usize = 64;
/// Milliseconds after which a question is sent again.
const RETRY_AFTER: u64 = 1_000;
/// How often a question is sent.
const TRIES: u32 = 3;

/// A question that is with the upstream servers.
pub(super) struct Pending {
    /// Who asked.
    pub(super) client: SocketAddr,
    /// The question as it is sent: the client's bytes with our id.
    pub(super) message: Vec<u8>,
    /// Length of the question section in `message`.
    question: usize,
    client_id: u16,
    id: u16,
    tries: u32,
    retry_at: u64,
    /// An answer that is no good but better than none: a server's own failure.
    fallback: Option<Vec<u8>>,
    /// Servers that failed.
    failed: usize,
}

/// What to do about a question whose time is up.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Nothing yet.
    Wait,
    /// Send it again.
    Resend,
    /// Give the client this answer and forget the question.
    GiveUp(Vec<u8>),
}

impl Pending {
    /// Takes a client's question on, under our own random `id`.
    pub(super) fn new(client: SocketAddr, bytes: &[u8], query: &Query<'_>, id: u16, now: u64) -> Self {
        let mut message = bytes.to_vec();
        message[..2].copy_from_slice(&id.to_be_bytes());
        Self {
            client,
            message,
            question: query.question.len(),
            client_id: query.id,
            id,
            tries: 1,
            retry_at: now + RETRY_AFTER,
            fallback: None,
            failed: 0,
        }
    }

    /// Whether the client has sent the same question again.
    pub(super) fn is_repeat(&self, client: SocketAddr, query: &Query<'_>) -> bool {
        self.client == client
            && self.client_id == query.id
            && self.message.get(HEADER..HEADER + self.question) == Some(query.question)
    }

    /// Takes an upstream server's message; gives the client's answer if it settles the question. `servers` is the
    /// number of servers that were asked.
    pub(super) fn settle(&mut self, reply: &[u8], servers: usize) -> Option<Vec<u8>> {
        let question = self.message.get(HEADER..HEADER + self.question)?;
        if !wire::is_answer_to(reply, self.id, question) {
            return None;
        }
        let mut answer = reply.to_vec();
        answer[..2].copy_from_slice(&self.client_id.to_be_bytes());
        if wire::is_conclusive(&answer) {
            return Some(answer);
        }
        self.failed += 1;
        self.fallback.get_or_insert(answer);
        if self.failed >= servers { self.fallback.take() } else { None }
    }

    /// Looks at the clock.
    pub(super) fn due(&mut self, now: u64) -> Due {
        if now < self.retry_at {
            return Due::Wait;
        }
        if self.tries < TRIES {
            self.tries += 1;
            self.retry_at = now + RETRY_AFTER;
            return Due::Resend;
        }
        let failure = || {
            let mut bytes = self.message.clone();
            bytes[..2].copy_from_slice(&self.client_id.to_be_bytes());
            wire::read(&bytes).map_or_else(
                |_| Vec::new(),
                |q| wire::answer(&q, wire::Rcode::ServFail, &[], q.udp_limit(), false),
            )
        };
        Due::GiveUp(self.fallback.take().unwrap_or_else(failure))
    }

    /// When to look at the clock next.
    pub(super) fn deadline(&self) -> u64 {
        self.retry_at
    }
}

#[cfg(test)]
mod tests {
    use super::super::wire::{Rcode, TYPE_A, answer, read, tests::question};
    use super::*;

    fn pending() -> Pending {
        let bytes = question(7, "example.com", TYPE_A);
        Pending::new("127.0.0.1:5000".parse().unwrap(), &bytes, &read(&bytes).unwrap(), 99, 0)
    }

    fn reply(p: &Pending, rcode: Rcode) -> Vec<u8> {
        answer(&read(&p.message).unwrap(), rcode, &[], 0, false)
    }

    #[test]
    fn the_first_conclusive_answer_wins() {
        let mut p = pending();
        assert_eq!(p.settle(&reply(&p, Rcode::ServFail), 2), None);
        let good = p.settle(&reply(&p, Rcode::NxDomain), 2).unwrap();
        assert_eq!((good[1], good[3] & 15), (7, 3), "with the client's id");
        let mut p = pending();
        assert_eq!(p.settle(&reply(&p, Rcode::ServFail), 1).unwrap()[3] & 15, 2, "all servers failed");
    }

    #[test]
    fn forged_answers_are_ignored() {
        let mut p = pending();
        let mut wrong_id = reply(&p, Rcode::NoError);
        wrong_id[1] ^= 1;
        assert_eq!(p.settle(&wrong_id, 1), None);
        let other = question(99, "example.org", TYPE_A);
        assert_eq!(p.settle(&answer(&read(&other).unwrap(), Rcode::NoError, &[], 0, false), 1), None);
        assert_eq!(p.settle(&[], 1), None);
        let echo = p.message.clone();
        assert_eq!(p.settle(&echo, 1), None);
    }

    #[test]
    fn silence_is_met_with_patience_and_an_end() {
        let mut p = pending();
        assert_eq!(p.due(999), Due::Wait);
        assert_eq!(p.due(1000), Due::Resend);
        assert_eq!(p.due(1500), Due::Wait);
        assert_eq!(p.due(2000), Due::Resend);
        assert!(matches!(p.due(3000), Due::GiveUp(a) if a[1] == 7 && a[3] & 15 == 2));
    }
}
