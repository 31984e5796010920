//! How the set of signing keys changes: made, rotated, cleared. Pure, but for the keys that are drawn.
//!
//! One token key signs, one stands by: published already, so that it can take over at any moment without a verifier that
//! has never heard of it. A key that was replaced stays until the last token that it signed has expired.
//!
//! Invariant (KEY-05): a key signs only after it was published for the lead time, except where there is no other key; a key
//! is dropped only when it is revoked or no token of it can be valid any more.

use std::{sync::Arc, time::Duration};

use shared::{
    revocation::{Floor, FloorKey, Version},
    time::Timestamp,
};

use super::{
    KeyRing, KeyRingError, RingKey,
    ring::FeedKeys,
    signer::{FeedKey, KeyRefused, TokenKey},
};
use crate::config::{Config, SigningAlgorithm};

/// A key that was replaced is kept this long: the longest lifetime that any configuration allows an access token (an
/// hour), and two minutes for clocks that differ.
pub(super) const KEPT: Duration = Duration::from_secs(3_720);

/// The floor of a revoked key is kept ten years: who has the key signs tokens whenever he likes, and a gate may have been
/// given its public half by hand.
const REVOKED_KEPT: Duration = Duration::from_secs(10 * 366 * 86_400);

/// The floor under which every token of a key lies.
pub fn revocation(key: FloorKey, now: Timestamp) -> Floor {
    Floor {
        key,
        lowest: Version::ENDED,
        forget_at: Timestamp::from_secs(now.saturating_add(REVOKED_KEPT).as_secs_ceil()),
    }
}

/// How keys are to be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyPolicy {
    /// What new tokens are signed with.
    pub algorithm: SigningAlgorithm,
    /// How long a key is published before it signs.
    pub lead: Duration,
    /// How long a key signs; none for as long as nobody rotates it.
    pub rotate_every: Option<Duration>,
}

impl KeyPolicy {
    /// As the configuration says.
    pub fn new(config: &Config) -> Self {
        let tokens = &config.tokens;
        let rotate_every = (tokens.key_rotation_s > 0).then(|| Duration::from_secs(tokens.key_rotation_s));
        Self { algorithm: tokens.algorithm, lead: Duration::from_secs(tokens.key_lead_s), rotate_every }
    }
}

#[cfg(test)]
impl Default for KeyPolicy {
    fn default() -> Self {
        Self::new(&Config::default())
    }
}

impl KeyRing {
    /// A first set: a key that signs, one that stands by, and a feed key.
    ///
    /// # Errors
    ///
    /// The library has no randomness.
    pub fn generate(policy: &KeyPolicy, now: Timestamp) -> Result<Self, KeyRingError> {
        let feed = FeedKeys { current: Arc::new(new_feed_key()?), next: None, previous: None, since: 0 };
        let signing = RingKey::generate(policy.algorithm, now, Some(now))?;
        let standby = RingKey::generate(policy.algorithm, now, None)?;
        Self::new(now.as_millis(), vec![signing, standby], feed)
    }

    /// The set after everything that is due at `now`; none if nothing is.
    ///
    /// # Errors
    ///
    /// [`KeyRingError::Full`], or the library fails.
    pub fn maintained(
        &self,
        policy: &KeyPolicy,
        now: Timestamp,
        is_revoked: impl Fn(&RingKey) -> bool,
    ) -> Result<Option<Self>, KeyRingError> {
        let mut tokens = self.tokens.clone();
        tokens.retain(|key| !is_revoked(key));
        let ended: Vec<bool> = tokens.iter().map(|key| has_ended(key, &tokens, policy, now)).collect();
        let mut ended = ended.into_iter();
        tokens.retain(|_| !ended.next().unwrap_or(false));
        let signs = |key: &RingKey| is_of(key, policy) && key.signs_from.is_some();
        let lost = self.tokens.iter().any(|key| signs(key) && is_revoked(key));
        if lost || !tokens.iter().any(signs) || is_due(&tokens, policy, now) {
            start_next(&mut tokens, policy, now)?;
        }
        ensure_standby(&mut tokens, policy, now)?;
        if same(&tokens, &self.tokens) { Ok(None) } else { self.with_tokens(tokens, now).map(Some) }
    }

    /// The set after a rotation: the key that stands by signs as soon as it was published for the lead time, and another
    /// one stands by. None if a rotation is on its way already.
    ///
    /// # Errors
    ///
    /// [`KeyRingError::Full`], or the library fails.
    pub fn rotated(&self, policy: &KeyPolicy, now: Timestamp) -> Result<Option<Self>, KeyRingError> {
        let is_pending = |key: &RingKey| is_of(key, policy) && key.signs_from.is_some() && !key.has_started(now);
        if self.tokens.iter().any(is_pending) {
            return Ok(None);
        }
        let mut tokens = self.tokens.clone();
        start_next(&mut tokens, policy, now)?;
        ensure_standby(&mut tokens, policy, now)?;
        self.with_tokens(tokens, now).map(Some)
    }

    /// The set with a next feed key; none if there is one.
    ///
    /// # Errors
    ///
    /// The library fails.
    pub fn with_next_feed_key(&self, now: Timestamp) -> Result<Option<Self>, KeyRingError> {
        if self.feed.next.is_some() {
            return Ok(None);
        }
        let feed = FeedKeys { next: Some(Arc::new(new_feed_key()?)), ..self.feed.clone() };
        Self::new(self.next_version(now), self.tokens.clone(), feed).map(Some)
    }

    /// The set in which the next feed key signs.
    ///
    /// # Errors
    ///
    /// [`KeyRingError::NoNextFeedKey`].
    pub fn with_feed_key_switched(&self, now: Timestamp) -> Result<Self, KeyRingError> {
        let current = self.feed.next.clone().ok_or(KeyRingError::NoNextFeedKey)?;
        let since = self.next_version(now);
        let feed = FeedKeys { current, next: None, previous: Some(self.feed.current.public_text()), since };
        Self::new(since, self.tokens.clone(), feed)
    }

    /// The same set above a version that a hub has seen; none if it stands above it already.
    ///
    /// # Errors
    ///
    /// Never.
    pub fn above(&self, version: u64) -> Result<Option<Self>, KeyRingError> {
        if self.version() >= version {
            return Ok(None);
        }
        Self::new(version.saturating_add(1), self.tokens.clone(), self.feed.clone()).map(Some)
    }

    /// Until when a key that was replaced is kept; none while it is needed.
    pub fn kept_until(&self, key: &RingKey) -> Option<Timestamp> {
        successor(key, &self.tokens).map(|from| from.saturating_add(KEPT))
    }

    fn with_tokens(&self, tokens: Vec<RingKey>, now: Timestamp) -> Result<Self, KeyRingError> {
        Self::new(self.next_version(now), tokens, self.feed.clone())
    }

    /// The clock keeps versions rising even if the store falls back to an older set.
    fn next_version(&self, now: Timestamp) -> u64 {
        self.version().saturating_add(1).max(now.as_millis())
    }
}

/// When another key of the same algorithm took over, or will.
fn successor(key: &RingKey, tokens: &[RingKey]) -> Option<Timestamp> {
    let from = key.signs_from?;
    let of_same = tokens.iter().filter(|other| other.key.algorithm() == key.key.algorithm());
    of_same.filter_map(|other| other.signs_from).filter(|other| *other > from).min()
}

/// Whether no token of a key can be valid any more.
fn has_ended(key: &RingKey, tokens: &[RingKey], policy: &KeyPolicy, now: Timestamp) -> bool {
    let replaced = match successor(key, tokens) {
        Some(from) => Some(from),
        // Another algorithm was chosen. Origins that still have the old one would have rotated its key by then.
        None if !is_of(key, policy) => {
            let chosen = tokens.iter().filter(|other| is_of(other, policy)).filter_map(|other| other.signs_from).min();
            chosen.zip(policy.rotate_every).map(|(from, every)| from.saturating_add(every))
        }
        None => None,
    };
    replaced.is_some_and(|from| now.has_reached(from.saturating_add(KEPT)))
}

fn is_due(tokens: &[RingKey], policy: &KeyPolicy, now: Timestamp) -> bool {
    let newest = tokens.iter().filter(|key| is_of(key, policy)).filter_map(|key| key.signs_from).max();
    newest.zip(policy.rotate_every).is_some_and(|(from, every)| now.has_reached(from.saturating_add(every)))
}

/// Lets the key that stands by sign, or a new one: after the lead time, or at once if no other key can.
fn start_next(tokens: &mut Vec<RingKey>, policy: &KeyPolicy, now: Timestamp) -> Result<(), KeyRingError> {
    let another_signs = tokens.iter().any(|key| key.has_started(now));
    let from = |published: Timestamp| if another_signs { now.max(published.saturating_add(policy.lead)) } else { now };
    match tokens.iter_mut().find(|key| is_of(key, policy) && key.signs_from.is_none()) {
        Some(standby) => standby.signs_from = Some(from(standby.published_at)),
        None => tokens.push(RingKey::generate(policy.algorithm, now, Some(from(now)))?),
    }
    Ok(())
}

fn ensure_standby(tokens: &mut Vec<RingKey>, policy: &KeyPolicy, now: Timestamp) -> Result<(), KeyRefused> {
    if !tokens.iter().any(|key| is_of(key, policy) && key.signs_from.is_none()) {
        tokens.push(RingKey::generate(policy.algorithm, now, None)?);
    }
    Ok(())
}

fn is_of(key: &RingKey, policy: &KeyPolicy) -> bool {
    key.key.algorithm() == policy.algorithm
}

fn same(one: &[RingKey], other: &[RingKey]) -> bool {
    let facts = |key: &RingKey| (key.floor_key, key.signs_from);
    one.iter().map(facts).eq(other.iter().map(facts))
}

fn new_feed_key() -> Result<FeedKey, KeyRefused> {
    FeedKey::from_pkcs8(&TokenKey::generate(SigningAlgorithm::Ed25519)?)
}

#[cfg(test)]
mod tests;
