//! The signing keys as they are now: the copy of this process, and the one in the store that all origins share.
//!
//! Every change is a compare-and-swap of the sealed set. Other origins see it when they look, each heartbeat.
//!
//! Invariant: a set replaces only an older one. A store that lost its keys, or fell back to older ones, gets ours back.

use std::sync::{Arc, PoisonError, RwLock};

use shared::time::Timestamp;

use super::{KeyPolicy, KeyRing, KeyRingError, RingKey, Sealer, revocation};
use crate::{
    config::{Config, secrets::MasterKey},
    store::{
        AnyStore, Key, StoreError, Swapped,
        agreed::{self, ATTEMPTS, Form},
    },
};

/// Why the keys cannot be read or changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeysError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The keys do not open, or cannot be made or changed.
    #[error(transparent)]
    Ring(#[from] KeyRingError),
    /// No key has this name.
    #[error("there is no signing key with this kid; `portcullis keys show` prints those that there are")]
    Unknown,
    /// Somebody else kept writing.
    #[error("the signing keys changed {ATTEMPTS} times while they were read")]
    Contended,
}

/// The signing keys, followed and changed.
pub struct Keys {
    store: Arc<AnyStore>,
    sealer: Sealer,
    policy: KeyPolicy,
    held: RwLock<Held>,
}

type Held = agreed::Copy<Arc<KeyRing>>;

impl Form for Sealer {
    type Value = Arc<KeyRing>;
    type Error = KeysError;

    const KEY: Key = Key::Keys;

    fn version(ring: &Arc<KeyRing>) -> u64 {
        ring.version()
    }

    fn read(&self, sealed: &[u8]) -> Result<Arc<KeyRing>, KeysError> {
        Ok(Arc::new(KeyRing::open(self, sealed)?))
    }

    fn write(&self, ring: &Arc<KeyRing>) -> Result<Vec<u8>, KeysError> {
        Ok(ring.seal(self)?)
    }

    fn contended() -> KeysError {
        KeysError::Contended
    }
}

impl Keys {
    /// Opens the keys in the store; makes them if they are not there, and does what is due. What is sealed under the
    /// second master key is sealed again under the first.
    ///
    /// # Errors
    ///
    /// [`KeysError`]; a set that does not open is left as it is.
    pub async fn open(
        store: Arc<AnyStore>,
        master: &MasterKey,
        config: &Config,
        now: Timestamp,
    ) -> Result<Arc<Self>, KeysError> {
        let sealer = Sealer::new(master).map_err(KeyRingError::from)?;
        let policy = KeyPolicy::new(config);
        let rule = |ring: Option<&Arc<KeyRing>>| match ring {
            None => Ok(Some(Arc::new(KeyRing::generate(&policy, now)?))),
            Some(ring) => Ok(ring.maintained(&policy, now, |_| false)?.map(Arc::new)),
        };
        let held = agreed::commit(&store, &sealer, None, &rule).await?.ok_or(KeyRingError::Content)?;
        let keys = Arc::new(Self { store, sealer, policy, held: RwLock::new(held) });
        keys.rewrap().await?;
        Ok(keys)
    }

    /// The keys, as far as this process knows.
    pub fn current(&self) -> Arc<KeyRing> {
        Arc::clone(&self.held.read().unwrap_or_else(PoisonError::into_inner).value)
    }

    /// How they are to be used.
    pub fn policy(&self) -> &KeyPolicy {
        &self.policy
    }

    /// Takes in what other origins changed, and does what is due. Whether the set is another one than before.
    ///
    /// # Errors
    ///
    /// [`KeysError`]; the set that was held stays.
    pub async fn follow(
        &self,
        now: Timestamp,
        is_revoked: impl Fn(&RingKey) -> bool + Sync,
    ) -> Result<bool, KeysError> {
        let before = self.current().version();
        let ring = self.change(&|ring| ring.maintained(&self.policy, now, &is_revoked)).await?;
        Ok(ring.version() != before)
    }

    /// Lets the key that stands by sign as soon as it may.
    ///
    /// # Errors
    ///
    /// [`KeysError`]; nothing was changed, or the rotation may be repeated.
    pub async fn rotate(&self, now: Timestamp) -> Result<Arc<KeyRing>, KeysError> {
        self.change(&|ring| ring.rotated(&self.policy, now)).await
    }

    /// Appends the floor of a key and takes the key out of the set.
    ///
    /// # Errors
    ///
    /// [`KeysError::Unknown`]; another [`KeysError`] if the floor may not be written, or the key is still in the set: the
    /// call may be repeated, and origins that run take it out.
    pub async fn revoke(&self, kid: &str, now: Timestamp) -> Result<(), KeysError> {
        let ring = self.current();
        let key = ring.tokens().iter().find(|key| key.kid() == kid).ok_or(KeysError::Unknown)?;
        self.store.append(&[revocation(key.floor_key, now)]).await?;
        self.follow(now, |other| other.floor_key == key.floor_key).await?;
        Ok(())
    }

    /// Makes a next feed key, to be pinned at every gate and hub.
    ///
    /// # Errors
    ///
    /// [`KeysError`].
    pub async fn prepare_feed_key(&self, now: Timestamp) -> Result<Arc<KeyRing>, KeysError> {
        self.change(&|ring| ring.with_next_feed_key(now)).await
    }

    /// Lets the next feed key sign.
    ///
    /// # Errors
    ///
    /// [`KeyRingError::NoNextFeedKey`] if none was prepared; [`KeysError`].
    pub async fn switch_feed_key(&self, now: Timestamp) -> Result<Arc<KeyRing>, KeysError> {
        self.change(&|ring| ring.with_feed_key_switched(now).map(Some)).await
    }

    /// Puts the set above a version that a hub has seen: the store fell back to an older set, and hubs and gates take a
    /// newer one only.
    ///
    /// # Errors
    ///
    /// [`KeysError`].
    pub async fn outrank(&self, version: u64) -> Result<(), KeysError> {
        self.change(&|ring| ring.above(version)).await.map(drop)
    }

    /// Seals the set again under the master key, if it is sealed under the second one. Whether it was.
    ///
    /// # Errors
    ///
    /// [`KeysError`].
    pub async fn rewrap(&self) -> Result<bool, KeysError> {
        for _ in 0..ATTEMPTS {
            let held = self.held.read().unwrap_or_else(PoisonError::into_inner).clone();
            if !held.value.is_sealed_under_second(&self.sealer, &held.bytes) {
                return Ok(false);
            }
            let sealed = held.value.seal(&self.sealer)?;
            match self.store.swap(&Key::Keys, Some(&held.bytes), &sealed, None).await {
                Ok(Swapped::Done) => {
                    self.install(Held { bytes: sealed, ..held });
                    tracing::info!(event = "keys_rewrapped");
                    return Ok(true);
                }
                Ok(Swapped::Conflict) | Err(StoreError::OutcomeUnknown(_)) => self.change(&|_| Ok(None)).await?,
                Err(error) => return Err(error.into()),
            };
        }
        Err(KeysError::Contended)
    }

    async fn change(
        &self,
        rule: &(impl Fn(&KeyRing) -> Result<Option<KeyRing>, KeyRingError> + Sync),
    ) -> Result<Arc<KeyRing>, KeysError> {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner).clone();
        let rule = |ring: Option<&Arc<KeyRing>>| match ring {
            None => Ok(None),
            Some(ring) => Ok(rule(ring)?.map(Arc::new)),
        };
        let next = agreed::commit(&self.store, &self.sealer, Some(&held), &rule).await?;
        self.install(next.ok_or(KeyRingError::Content)?);
        Ok(self.current())
    }

    fn install(&self, next: Held) {
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        if next.value.version() >= held.value.version() {
            *held = next;
        }
    }
}
