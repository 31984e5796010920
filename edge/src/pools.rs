//! The pools of the policy's upstreams, and where sessions were sent last.

use core::{num::NonZeroUsize, time::Duration};
use std::collections::BTreeMap;

use lru::LruCache;
use serde_json::{Value, json};
use shared::{
    policy::{Policy, Upstream},
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
    pools: BTreeMap<String, (Upstream, Pool)>,
    /// The node that answered last, by session and upstream.
    seats: LruCache<String, usize>,
    rebinds: u64,
}

impl Pools {
    /// Those of a policy; an upstream with one address and no deadline is none.
    pub(crate) fn of(policy: &Policy) -> Self {
        let mut pools = Self { pools: BTreeMap::new(), seats: LruCache::new(SEATS_MAX), rebinds: 0 };
        pools.follow(policy);
        pools
    }

    /// Lets another policy count. What is known of nodes stays where it says the same of an upstream.
    pub(crate) fn follow(&mut self, policy: &Policy) {
        let mut before = core::mem::take(&mut self.pools);
        let upstreams = policy.upstreams().iter().filter(|(_, upstream)| upstream.address().is_none());
        self.pools = upstreams
            .map(|(name, upstream)| {
                let same = before.remove(name).filter(|(before, _)| before == upstream);
                (name.clone(), same.unwrap_or_else(|| (upstream.clone(), Pool::new(upstream))))
            })
            .collect();
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
        let (Upstream { addresses, .. }, pool) = self.pools.get_mut(upstream)?;
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
            .flat_map(|(upstream, pool)| pool.failing().filter_map(|node| upstream.addresses.get(node)))
            .collect();
        json!({ "rebinds": self.rebinds, "failing": failing })
    }
}
