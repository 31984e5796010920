//! Shows, rotates and revokes the keys that sign tokens.

use metrics::counter;
use shared::revocation::{FloorKey, ScopeKind, Version};

use super::{Changed, Service, ServiceError, events, write::Timings};
use crate::{
    keys::{KeysView, revocation},
    shell,
    telemetry::metrics::REVOCATIONS,
};

impl Service {
    /// The keys as they are now, as far as this process knows.
    pub fn signing_keys(&self) -> KeysView {
        let is_revoked = |key: &_| self.feed.has_revoked(key);
        KeysView::new(&self.keys.current(), self.keys.policy(), shell::now(), is_revoked)
    }

    /// Lets the key that stands by sign as soon as gates had the lead time to learn of it. Nothing changes while a rotation
    /// is on its way.
    ///
    /// # Errors
    ///
    /// [`ServiceError::Keys`], the store.
    pub async fn rotate_keys(&self) -> Result<KeysView, ServiceError> {
        let before = self.keys.current().version();
        let ring = self.keys.rotate(shell::now()).await?;
        self.feed.announce();
        if ring.version() != before {
            events::keys_rotated();
        }
        Ok(self.signing_keys())
    }

    /// Raises the floor of a key, so that every token that it signed is refused, and has another one sign.
    ///
    /// The floor counts alone: if the set cannot be changed at once, no token is signed with the key all the same, and the
    /// set is changed with the next heartbeat.
    ///
    /// # Errors
    ///
    /// [`ServiceError::NoSuchKey`], the store.
    pub async fn revoke_key(&self, kid: &str) -> Result<Changed, ServiceError> {
        self.feed.follow_keys().await?;
        let key = FloorKey::signing_key(kid);
        let is_known = self.keys.current().key_set().get(kid).is_some();
        if !is_known && self.feed.lowest(&key) != Version::ENDED {
            return Err(ServiceError::NoSuchKey);
        }
        let cursor = if is_known { self.raise(&[revocation(key, shell::now())]).await? } else { self.feed.cursor() };
        if let Err(error) = self.feed.follow_keys().await {
            tracing::warn!(event = "keys_follow_failed", reason = %error);
        }
        if is_known {
            counter!(REVOCATIONS, "scope" => ScopeKind::SigningKey.name()).increment(1);
            events::key_revoked(kid);
        }
        Ok(Changed {
            floors: vec![(ScopeKind::SigningKey, Version::ENDED)],
            cursor,
            written: is_known,
            raised: is_known,
            acknowledged_at: shell::now(),
            timings: Timings::default(),
        })
    }
}
