//! The nodes of an upstream: which one gets a request, and which ones are left alone for a while because they did not answer.
//!
//! Rendezvous hashing: every gate puts the nodes of a session into the same order, without a word between them; a node that
//! is lost moves its own sessions and no others. Nothing of this decides on correctness: any node may get any request.
//!
//! Invariant: whoever may not be asked twice is never the one that tries a node out; as long as there is a node that was not
//! tried for a request, there is one to choose.

use alloc::{string::String, vec::Vec};
use core::time::Duration;

use xxhash_rust::xxh3::Xxh3;

use crate::{
    policy::{ADDRESSES_MAX, Affinity, Upstream},
    time::Timestamp,
};

/// How long a node is left alone after it did not answer once; twice as long after each further failure.
const EJECTED_MIN: Duration = Duration::from_secs(1);

/// The longest time that a node is left alone.
const EJECTED_MAX: Duration = Duration::from_secs(30);

/// What became of a request to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It answered, whatever it said.
    Answered,
    /// It did not.
    Failed,
}

/// Whether a request may be sent again, to another node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    /// Its method is idempotent (RFC 9110 §9.2.2), and it has no body.
    May,
    /// It may have had an effect already.
    MayNot,
}

/// The nodes that were tried for a request, a bit each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tried(pub u32);

impl Tried {
    /// Whether this node was.
    pub fn has(self, node: usize) -> bool {
        u32::try_from(node).is_ok_and(|node| self.0.checked_shr(node).is_some_and(|rest| rest & 1 == 1))
    }
}

/// The nodes of an upstream, as one gate sees them.
#[derive(Debug)]
pub struct Pool {
    affinity: Affinity,
    /// How long a node may take until it answers, and so how long one request tries it out before another one may.
    answer_max: Duration,
    nodes: Vec<Node>,
    /// Requests without a session so far.
    turn: u64,
}

#[derive(Debug)]
struct Node {
    seed: u64,
    /// Since it answered last.
    failures: u32,
    /// Until then it is left alone.
    ejected_until: Timestamp,
}

impl Pool {
    /// Of the addresses of an upstream, in their order.
    pub fn new(upstream: &Upstream) -> Self {
        let node = |address: &String| Node {
            seed: hash(&[address.as_bytes()]),
            failures: 0,
            ejected_until: Timestamp::from_millis(0),
        };
        let nodes = upstream.addresses.iter().take(ADDRESSES_MAX).map(node).collect();
        Self { affinity: upstream.affinity, answer_max: upstream.answer_max(), nodes, turn: 0 }
    }

    /// How long a node may take from the whole request to the head of its answer; it failed if it took longer.
    pub fn answer_max(&self) -> Duration {
        self.answer_max
    }

    /// The node for a request of a session (empty for none) that was not tried yet: the first in the session's order that is
    /// not left alone, or else the first. None if all were tried.
    pub fn choose(&mut self, session: &str, repeat: Repeat, tried: Tried, now: Timestamp) -> Option<usize> {
        let has_place = self.affinity == Affinity::Session && !session.is_empty();
        if !has_place && tried == Tried::default() {
            self.turn = self.turn.wrapping_add(1);
        }
        let count = u64::try_from(self.nodes.len()).ok()?;
        let turn = self.turn;
        // The node whose turn it is ranks highest, then those after it.
        let turn = turn.checked_rem(count)?;
        let behind = |index: u64| index.wrapping_add(count).wrapping_sub(turn).checked_rem(count).unwrap_or(0);
        let rank = |index: usize, node: &Node| match has_place {
            true => hash(&[&node.seed.to_le_bytes(), session.as_bytes()]),
            false => !behind(u64::try_from(index).unwrap_or(0)),
        };
        let may_try =
            |node: &Node| node.failures == 0 || (repeat == Repeat::May && now.has_reached(node.ejected_until));
        let untried = self.nodes.iter().enumerate().filter(|(index, _)| !tried.has(*index));
        let (chosen, _) = untried.max_by_key(|(index, node)| (may_try(node), rank(*index, node)))?;
        if let Some(node) = self.nodes.get_mut(chosen).filter(|node| node.failures > 0) {
            // The others leave it alone until it is known what becomes of this one.
            node.ejected_until = node.ejected_until.max(now.saturating_add(self.answer_max));
        }
        Some(chosen)
    }

    /// Notes what became of a request to a node.
    pub fn settle(&mut self, node: usize, outcome: Outcome, now: Timestamp) {
        let Some(node) = self.nodes.get_mut(node) else { return };
        match outcome {
            Outcome::Answered => node.failures = 0,
            Outcome::Failed => {
                let doubled = EJECTED_MIN.saturating_mul(1_u32.checked_shl(node.failures).unwrap_or(u32::MAX));
                node.failures = node.failures.saturating_add(1).min(16);
                node.ejected_until = now.saturating_add(doubled.min(EJECTED_MAX));
            }
        }
    }

    /// The nodes that did not answer when they were asked last.
    pub fn failing(&self) -> impl Iterator<Item = usize> {
        self.nodes.iter().enumerate().filter(|(_, node)| node.failures > 0).map(|(index, _)| index)
    }
}

fn hash(parts: &[&[u8]]) -> u64 {
    let mut hash = Xxh3::new();
    for part in parts {
        hash.update(part);
    }
    hash.digest()
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, format};

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    fn pool(count: usize, affinity: Affinity) -> Pool {
        let addresses = (0..count).map(|node| format!("http://10.0.0.{node}:80")).collect();
        Pool::new(&Upstream { addresses, affinity, answer_ms_max: Some(5_000) })
    }

    fn places(pool: &mut Pool, now: Timestamp) -> BTreeMap<usize, usize> {
        let chosen =
            |session| (session, pool.choose(&format!("session {session}"), Repeat::MayNot, Tried(0), now).unwrap());
        (0..3_000).map(chosen).collect()
    }

    #[test]
    fn sessions_keep_their_node_and_a_lost_node_moves_only_its_own() {
        let mut pool = pool(3, Affinity::Session);
        let before = places(&mut pool, NOW);
        assert_eq!(places(&mut pool, NOW), before);
        let of = |node| before.values().filter(|place| **place == node).count();
        assert!((0..3).all(|node| of(node) > 800), "they are spread evenly");
        pool.settle(1, Outcome::Failed, NOW);
        let during = places(&mut pool, NOW);
        for (session, place) in &before {
            assert!(during[session] != 1 && (*place == 1 || during[session] == *place));
        }
        let moved = |to| before.iter().filter(|(session, place)| **place == 1 && during[*session] == to).count();
        assert!(moved(0) > 350 && moved(2) > 350, "its sessions are spread over the others");
        pool.settle(1, Outcome::Answered, NOW);
        assert_eq!(places(&mut pool, NOW), before);
    }

    #[test]
    fn the_order_of_the_addresses_does_not_matter() {
        let addresses = ["http://a:1", "http://b:1", "http://c:1"];
        let upstream = |order: [usize; 3]| Upstream {
            addresses: order.iter().map(|index| addresses[*index].into()).collect(),
            affinity: Affinity::Session,
            answer_ms_max: None,
        };
        let (mut one, mut other) = (Pool::new(&upstream([0, 1, 2])), Pool::new(&upstream([2, 0, 1])));
        for session in 0..100 {
            let session = format!("{session}");
            let chosen = one.choose(&session, Repeat::May, Tried(0), NOW).unwrap();
            let same = other.choose(&session, Repeat::May, Tried(0), NOW).unwrap();
            assert_eq!(addresses[chosen], addresses[[2, 0, 1][same]]);
        }
    }

    #[test]
    fn a_failing_node_is_tried_out_by_one_request_that_may_be_repeated() {
        let mut pool = pool(2, Affinity::Session);
        let session = (0..).map(|number| format!("{number}"));
        let session = session.into_iter().find(|it| pool.choose(it, Repeat::May, Tried(0), NOW) == Some(0)).unwrap();
        pool.settle(0, Outcome::Failed, NOW);
        assert_eq!(pool.failing().collect::<Vec<_>>(), [0]);
        assert_eq!(pool.choose(&session, Repeat::May, Tried(0), NOW), Some(1));
        let later = NOW.saturating_add(EJECTED_MIN);
        assert_eq!(pool.choose(&session, Repeat::MayNot, Tried(0), later), Some(1));
        assert_eq!(pool.choose(&session, Repeat::May, Tried(0), later), Some(0), "tried out");
        assert_eq!(pool.choose(&session, Repeat::May, Tried(0), later), Some(1), "by one only");
        pool.settle(0, Outcome::Failed, later);
        let again = later.saturating_add(EJECTED_MIN);
        assert_eq!(pool.choose(&session, Repeat::May, Tried(0), again), Some(1), "left alone for longer");
        pool.settle(0, Outcome::Answered, again);
        assert_eq!(pool.choose(&session, Repeat::MayNot, Tried(0), again), Some(0));
    }

    #[test]
    fn every_node_is_tried_once_before_there_is_none() {
        let mut pool = pool(3, Affinity::Session);
        for node in 0..3 {
            for _ in 0..40 {
                pool.settle(node, Outcome::Failed, NOW);
            }
        }
        let mut tried = Tried(0);
        for _ in 0..3 {
            let node = pool.choose("s", Repeat::May, tried, NOW).unwrap();
            assert!(!tried.has(node));
            tried.0 |= 1 << node;
        }
        assert_eq!(pool.choose("s", Repeat::May, tried, NOW), None);
        let most = NOW.saturating_add(EJECTED_MAX).saturating_add(pool.answer_max());
        assert!(pool.nodes.iter().all(|node| node.ejected_until <= most));
    }

    #[test]
    fn who_has_no_place_gets_each_in_turn() {
        let mut in_turn = pool(3, Affinity::None);
        let chosen = |pool: &mut Pool, session| pool.choose(session, Repeat::May, Tried(0), NOW).unwrap();
        let six: Vec<_> = (0..6).map(|_| chosen(&mut in_turn, "s")).collect();
        assert_eq!(six, [1, 2, 0, 1, 2, 0]);
        let mut by_session = pool(3, Affinity::Session);
        let three: Vec<_> = (0..3).map(|_| chosen(&mut by_session, "")).collect();
        assert_eq!(three, [1, 2, 0]);
    }
}
