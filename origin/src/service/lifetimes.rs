//! How long the access tokens live that may be about: a floor has to outlive them, also those that were made under an
//! earlier configuration, or by an origin with another one.
//!
//! The store holds the longest lifetime with which any origin makes tokens, and forgets it when the last token of that
//! lifetime has expired: each origin notes its own again and again, unless a longer one is noted.
//!
//! Another origin's longer lifetime is known after [`LOOK_EVERY`]; so an origin whose lifetimes are to be raised is started
//! that much before it is sent calls, if floors must be exact to the second.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use shared::time::Timestamp;

use super::{ATTEMPTS, FLOOR_MARGIN, Service, ServiceError};
use crate::store::{Key, Swapped};

/// How often the record is looked at.
pub(crate) const LOOK_EVERY: Duration = Duration::from_secs(5);

/// How often an origin notes its own lifetime again.
const NOTE_EVERY: Duration = Duration::from_secs(60);

/// The longest lifetime that is known, in seconds.
pub(super) struct Longest(AtomicU64);

impl Longest {
    pub(super) fn new(own: Duration) -> Self {
        Self(AtomicU64::new(own.as_secs()))
    }

    pub(super) fn get(&self) -> Duration {
        Duration::from_secs(self.0.load(Ordering::Relaxed))
    }
}

/// Lifetime in seconds ‖ when it was noted in milliseconds, big-endian.
#[derive(Clone, Copy)]
struct Noted {
    lifetime_s: u64,
    at: Timestamp,
}

impl Noted {
    fn encode(self) -> Vec<u8> {
        [self.lifetime_s.to_be_bytes(), self.at.as_millis().to_be_bytes()].concat()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (lifetime_s, rest) = bytes.split_first_chunk()?;
        let at = Timestamp::from_millis(u64::from_be_bytes(rest.try_into().ok()?));
        Some(Self { lifetime_s: u64::from_be_bytes(*lifetime_s), at })
    }

    /// The last token of it that was made before the next note has expired by then.
    fn kept_until(self) -> Timestamp {
        let lifetime = Duration::from_secs(self.lifetime_s);
        self.at
            .saturating_add(NOTE_EVERY.saturating_add(LOOK_EVERY).saturating_add(lifetime).saturating_add(FLOOR_MARGIN))
    }
}

impl Service {
    /// Notes the own lifetime if no longer one is noted, and learns the longest. Before the first token is made, then every
    /// [`LOOK_EVERY`].
    ///
    /// # Errors
    ///
    /// The store, or other origins came first too often.
    pub async fn note_lifetimes(&self, now: Timestamp) -> Result<(), ServiceError> {
        let own = self.clients.access_ttl_max().as_secs();
        for _ in 0..ATTEMPTS {
            let stored = self.store.load(&Key::TokenLifetime).await?;
            let noted = stored.as_deref().and_then(Noted::decode);
            let is_fresh =
                |noted: Noted| noted.lifetime_s > own || !now.has_reached(noted.at.saturating_add(NOTE_EVERY));
            if let Some(noted) = noted.filter(|noted| noted.lifetime_s >= own && is_fresh(*noted)) {
                self.longest.0.store(noted.lifetime_s, Ordering::Relaxed);
                return Ok(());
            }
            let new = Noted { lifetime_s: own, at: now };
            let written =
                self.store.swap(&Key::TokenLifetime, stored.as_deref(), &new.encode(), Some(new.kept_until())).await?;
            if written == Swapped::Done {
                self.longest.0.store(own, Ordering::Relaxed);
                return Ok(());
            }
        }
        Err(ServiceError::Contended)
    }
}
