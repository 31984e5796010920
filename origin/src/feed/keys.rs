//! Follows the signing keys and the route policy: what other origins changed, what is due, what is revoked.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;

use super::Feed;
use crate::{
    keys::{KeysError, RingKey},
    policies::{CurrentPolicy, Policies, PoliciesError},
    shell,
};

/// Follows the keys until `stop` says so.
pub(super) async fn run(feed: Arc<Feed>, heartbeat: Duration, mut stop: watch::Receiver<bool>) {
    let mut ticks = tokio::time::interval(heartbeat);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut head = feed.watch();
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            Ok(()) = head.changed() => {
                // Another origin may have revoked the key that signs.
                if !feed.keys.current().tokens().iter().any(|key| feed.has_revoked(key)) {
                    continue;
                }
            }
            () = super::until(&mut stop) => return,
        }
        if let Err(error) = feed.follow_keys().await {
            tracing::warn!(event = "keys_follow_failed", reason = %error);
        }
        if let Err(error) = feed.follow_policy().await {
            tracing::warn!(event = "policy_follow_failed", reason = %error);
        }
    }
}

impl Feed {
    /// Takes in what changed in the store, does what is due, and lets hubs know.
    ///
    /// # Errors
    ///
    /// [`KeysError`]; the keys that were held stay.
    pub(crate) async fn follow_keys(&self) -> Result<(), KeysError> {
        if self.keys.follow(shell::now(), |key| self.has_revoked(key)).await? {
            tracing::info!(event = "keys_changed", version = self.keys.current().version());
            self.announce();
        }
        Ok(())
    }

    /// The route policy of the gates.
    pub fn policies(&self) -> &Policies {
        &self.policies
    }

    /// Has gates judge by this policy; without a text by the one that they were built with.
    ///
    /// # Errors
    ///
    /// [`PoliciesError`]; nothing was changed, or the call may be repeated.
    pub async fn set_policy(&self, text: Option<String>) -> Result<Arc<CurrentPolicy>, PoliciesError> {
        let set = self.policies.set(text, self.feed_since(), shell::now()).await?;
        tracing::info!(event = "policy_set", version = set.version());
        self.announce();
        Ok(set)
    }

    async fn follow_policy(&self) -> Result<(), PoliciesError> {
        if self.policies.follow(self.feed_since()).await? {
            tracing::info!(event = "policy_changed", version = self.policies.current().version());
            self.announce();
        }
        Ok(())
    }

    /// Version of the signing keys since which the feed key signs.
    pub(super) fn feed_since(&self) -> u64 {
        self.keys.current().feed_keys().since
    }

    /// Whether a signing key was revoked.
    pub(crate) fn has_revoked(&self, key: &RingKey) -> bool {
        self.lowest(&key.floor_key) > shared::revocation::Version::INITIAL
    }

    /// Wakes whoever hands frames on: the keys are others than before.
    pub(crate) fn announce(&self) {
        self.head.send_modify(|_| {});
    }
}
