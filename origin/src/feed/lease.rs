//! Which origin pushes to a hub: the one that holds the hub's lease in the store.
//!
//! The lease saves work and decides nothing: frames may be pushed by anyone and twice, and a hub that nobody pushes to pulls.
//! So a holder that cannot reach the store goes on for as long as its lease lasts, and two that push at once for a moment do
//! no harm.

use std::time::{Duration, Instant};

use aws_lc_rs::digest;

use crate::{
    shell,
    store::{AnyStore, Key, StoreError, Swapped},
};

/// How long a lease lasts. The clocks of origins and store may be apart by some of it, and what is left is some renewals.
pub(super) const LEASE: Duration = Duration::from_secs(5);

/// How often the lease is renewed, and how often others look whether it is free.
pub(super) const RENEWAL: Duration = Duration::from_secs(1);

/// The lease of one hub, as one origin sees it.
pub(super) struct Lease {
    key: Key,
    holder: [u8; 16],
    /// When it was taken or renewed last.
    held_since: Option<Instant>,
    /// When the store was asked last.
    asked_at: Option<Instant>,
}

impl Lease {
    /// Of the hub with this name; `holder` is random and says who asks.
    pub(super) fn new(hub: &str, holder: [u8; 16]) -> Self {
        let digest = digest::digest(&digest::SHA256, hub.as_bytes());
        let mut name = [0; 16];
        for (to, from) in name.iter_mut().zip(digest.as_ref()) {
            *to = *from;
        }
        Self { key: Key::PushLease(name), holder, held_since: None, asked_at: None }
    }

    /// Whether this origin is the one that pushes; takes the lease if it is free, and renews it if that is due.
    pub(super) async fn is_held(&mut self, store: &AnyStore) -> bool {
        if self.asked_at.is_none_or(|asked_at| asked_at.elapsed() >= RENEWAL) {
            self.asked_at = Some(Instant::now());
            match self.take(store).await {
                Ok(held) => self.held_since = held.then(Instant::now),
                Err(error) => tracing::warn!(event = "feed_lease_failed", reason = %error),
            }
        }
        self.held_since.is_some_and(|since| since.elapsed() < LEASE)
    }

    async fn take(&self, store: &AnyStore) -> Result<bool, StoreError> {
        let expected = store.load(&self.key).await?;
        if expected.as_deref().is_some_and(|holder| holder != self.holder) {
            return Ok(false);
        }
        let until = shell::now().saturating_add(LEASE);
        let swapped = store.swap(&self.key, expected.as_deref(), &self.holder, Some(until)).await?;
        Ok(swapped == Swapped::Done)
    }

    /// Lets another origin try, and does not ask again for a while.
    pub(super) async fn pass_on(&mut self, store: &AnyStore) {
        self.release(store).await;
        self.asked_at = Some(Instant::now() + RENEWAL);
    }

    /// Lets another origin take the lease at once.
    pub(super) async fn release(&mut self, store: &AnyStore) {
        if self.held_since.take().is_some() {
            let _ = store.swap(&self.key, Some(&self.holder), &self.holder, Some(shell::now())).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::faulty::FaultyStore;

    #[tokio::test]
    async fn a_lease_has_one_holder_until_it_is_let_go() {
        let store = AnyStore::new(FaultyStore::new());
        let (mut first, mut second) = (Lease::new("hub", [1; 16]), Lease::new("hub", [2; 16]));
        assert!(first.is_held(&store).await);
        assert!(!second.is_held(&store).await);
        assert!(Lease::new("another hub", [2; 16]).is_held(&store).await);
        first.asked_at = None;
        assert!(first.is_held(&store).await, "renewed");
        first.release(&store).await;
        assert!(!first.is_held(&store).await);
        second.asked_at = None;
        assert!(second.is_held(&store).await);
        first.asked_at = None;
        assert!(!first.is_held(&store).await);
    }
}
