//! The pools of the policy's upstreams, and where sessions were sent last.

use core::{num::NonZeroUsize, time::Duration};
use std::collections::BTreeMap;

use lru::LruCache;
use serde_json::{Value, json};
use shared::{
    policy::Policy,
    pool::{Outcome, Pool, Repeat, Tried},
    time::Timestamp,
};

/// Sessions whose node is remembered, to see when it changes; some 100 bytes each.
const SEATS_MAX: NonZeroUsize = match NonZeroUsize::new(8_192) {
    Some(number) => number,
    None => NonZeroUsize::MIN,
};

/// All pools of a gate, by the names of their upstreams.
pub(crate) struct Pools {
    pools: BTreeMap<String, (Vec<String>, Pool)>,
    /// The node that answered last, by session and upstream.
    seats: LruCache<String, usize>,
    rebinds: u64,
}

impl Pools {
    /// Those of a policy; an upstream with one address and no deadline is none.
    pub(crate) fn of(policy: &Policy) -> Self {
        let pools = policy.upstreams().iter().filter(|(_, upstream)| upstream.address().is_none());
        let pools = pools.map(|(name, upstream)| (name.clone(), (upstream.addresses.clone(), Pool::new(upstream))));
        Self { pools: pools.collect(), seats: LruCache::new(SEATS_MAX), rebinds: 0 }
    }

    /// The place of the node for a request, its address and how long it may take; none if there is no other.
    pub(crate) fn choose(
        &mut self,
        upstream: &str,
        session: &str,
        repeat: Repeat,
        tried: Tried,
        now: Timestamp,
    ) -> Option<(usize, &str, Duration)> {
        let (addresses, pool) = self.pools.get_mut(upstream)?;
        let node = pool.choose(session, repeat, tried, now)?;
        Some((node, addresses.get(node)?, pool.answer_max()))
    }

    /// Notes what became of a request to a node.
    pub(crate) fn settle(&mut self, upstream: &str, session: &str, node: usize, outcome: Outcome, now: Timestamp) {
        let Some((_, pool)) = self.pools.get_mut(upstream) else { return };
        pool.settle(node, outcome, now);
        if outcome == Outcome::Answered && !session.is_empty() {
            let before = self.seats.put(format!("{session} {upstream}"), node);
            self.rebinds = self.rebinds.saturating_add(u64::from(before.is_some_and(|before| before != node)));
        }
    }

    /// How often a session was sent to another node than before, and the nodes that do not answer.
    pub(crate) fn status(&self) -> Value {
        let failing: Vec<_> = self
            .pools
            .values()
            .flat_map(|(addresses, pool)| pool.failing().filter_map(|node| addresses.get(node)))
            .collect();
        json!({ "rebinds": self.rebinds, "failing": failing })
    }
}
