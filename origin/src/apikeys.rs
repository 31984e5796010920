//! Keys of the management API: made, rotated, removed, and recognised when they are presented.
//!
//! A key reads `pk_` ‖ id (22 characters) ‖ `_` ‖ secret (43 characters), base64url; the id names it, the secret has 256
//! random bits. A record holds SHA-256 of the secret only, which suffices for a secret that cannot be guessed. After a
//! rotation the secret of before counts for a while, so that clients move over without a gap.
//!
//! Invariant (I10): no secret is stored or logged; it is shown once, to whoever made or rotated the key.

mod record;

use std::{sync::Arc, time::Duration};

use aws_lc_rs::digest;
use moka::sync::Cache;
use shared::{id::TenantId, time::Timestamp};

pub use self::record::{ApiKey, ApiKeyId, Scope, Scopes};
use self::record::{Presented, StoredSecret};
use crate::{
    shell::{self, NoRandomness},
    store::{AnyStore, Key, StoreError, Swapped},
};

/// The most keys of one installation: they are listed in one record of 16 bytes each.
pub const KEYS_MAX: usize = 1_000;

/// A key that was removed or rotated elsewhere still counts for this long.
const CACHED: Duration = Duration::from_secs(2);

/// "Last used" is written at most this often.
const LAST_USED_GRAIN: Duration = Duration::from_secs(3_600);

/// How often a change is tried again when other writers come first.
const ATTEMPTS: u32 = 8;

/// Why a key is not made or changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApiKeyError {
    /// There is no such key.
    #[error("there is no such API key")]
    NotFound,
    /// There are [`KEYS_MAX`] already.
    #[error("there are {KEYS_MAX} API keys already; remove one first")]
    TooMany,
    /// Other writers came first too often; nothing was written.
    #[error("the API keys are being changed by others; nothing was written")]
    Contended,
    /// The store holds bytes that are no key.
    #[error("an API key in the store cannot be read")]
    Record,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The cryptography library failed.
    #[error(transparent)]
    Library(#[from] NoRandomness),
}

/// What a key may do, as its maker says.
#[derive(Debug, Clone)]
pub struct NewKey {
    /// For people.
    pub name: String,
    /// What it may do.
    pub scopes: Scopes,
    /// The one tenant that it may touch; none for all.
    pub tenant: Option<TenantId>,
    /// When it ends; none for never.
    pub expires_at: Option<Timestamp>,
    /// The actor that makes it.
    pub created_by: String,
}

/// A key and the text to present, which is not to be had again.
pub struct Issued {
    /// The record.
    pub key: ApiKey,
    /// `pk_…`.
    pub text: String,
}

/// The API keys of an installation.
pub struct ApiKeys {
    store: Arc<AnyStore>,
    cache: Cache<ApiKeyId, Arc<ApiKey>>,
}

impl ApiKeys {
    /// Over a store.
    pub fn new(store: Arc<AnyStore>) -> Self {
        let capacity = u64::try_from(KEYS_MAX).unwrap_or(u64::MAX);
        Self { store, cache: Cache::builder().max_capacity(capacity).time_to_live(CACHED).build() }
    }

    /// The key that a text is, if it counts now; none for any other text.
    ///
    /// # Errors
    ///
    /// The store.
    pub async fn authenticate(&self, text: &[u8], now: Timestamp) -> Result<Option<Arc<ApiKey>>, ApiKeyError> {
        let Some(presented) = Presented::parse(text) else { return Ok(None) };
        let key = match self.cache.get(&presented.id) {
            Some(key) => key,
            None => {
                let Some((key, _)) = self.load(presented.id).await? else { return Ok(None) };
                let key = Arc::new(key);
                self.cache.insert(key.id, Arc::clone(&key));
                key
            }
        };
        if !key.accepts(&presented, now) {
            return Ok(None);
        }
        if key.last_used_at.is_none_or(|at| now.saturating_since(Timestamp::from_secs(at)) >= LAST_USED_GRAIN) {
            self.note_use(key.id, now).await;
        }
        Ok(Some(key))
    }

    /// Makes a key.
    ///
    /// # Errors
    ///
    /// [`ApiKeyError`].
    pub async fn create(&self, new: NewKey, now: Timestamp) -> Result<Issued, ApiKeyError> {
        let id = ApiKeyId(shell::random()?);
        let (secret, text) = new_secret(id)?;
        let key = ApiKey {
            id,
            name: new.name,
            scopes: new.scopes,
            tenant: new.tenant,
            created_at: now.as_secs(),
            created_by: new.created_by,
            expires_at: new.expires_at.map(Timestamp::as_secs),
            last_used_at: None,
            secrets: vec![secret],
        };
        // The list first: an id without a key is passed over; a key that is not listed could not be found.
        self.change_list(|ids| {
            if ids.len() >= KEYS_MAX {
                return Err(ApiKeyError::TooMany);
            }
            ids.push(id);
            Ok(())
        })
        .await?;
        let swapped = self.store.swap(&Key::ApiKey(id.0), None, &key.encode()?, new.expires_at).await?;
        if swapped == Swapped::Conflict { Err(ApiKeyError::Contended) } else { Ok(Issued { key, text }) }
    }

    /// All keys, by the time of their making.
    ///
    /// # Errors
    ///
    /// The store.
    pub async fn list(&self) -> Result<Vec<ApiKey>, ApiKeyError> {
        let (ids, _) = self.load_list().await?;
        let names: Vec<Key> = ids.iter().map(|id| Key::ApiKey(id.0)).collect();
        let stored = self.store.load_many(&names).await?;
        let mut keys = stored.iter().flatten().map(|bytes| ApiKey::decode(bytes)).collect::<Result<Vec<_>, _>>()?;
        keys.sort_by_key(|key| (key.created_at, key.id));
        Ok(keys)
    }

    /// One key.
    ///
    /// # Errors
    ///
    /// [`ApiKeyError::NotFound`]; the store.
    pub async fn show(&self, id: ApiKeyId) -> Result<ApiKey, ApiKeyError> {
        self.load(id).await?.map(|(key, _)| key).ok_or(ApiKeyError::NotFound)
    }

    /// Gives a key a new secret; the newest of before counts for `overlap` more, any older one no longer.
    ///
    /// # Errors
    ///
    /// [`ApiKeyError`].
    pub async fn rotate(&self, id: ApiKeyId, overlap: Duration, now: Timestamp) -> Result<Issued, ApiKeyError> {
        let (secret, text) = new_secret(id)?;
        let key = self
            .change(id, |key| {
                let last = key.secrets.pop();
                let ends = now.saturating_add(overlap).as_secs();
                key.secrets = last.map(|last| last.ending_at(ends)).into_iter().chain([secret.clone()]).collect();
            })
            .await?;
        Ok(Issued { key, text })
    }

    /// Ends a key at once, for good.
    ///
    /// # Errors
    ///
    /// [`ApiKeyError::NotFound`]; the store.
    pub async fn remove(&self, id: ApiKeyId, now: Timestamp) -> Result<(), ApiKeyError> {
        let (_, stored) = self.load(id).await?.ok_or(ApiKeyError::NotFound)?;
        // Bytes whose time is over are gone.
        let swapped = self.store.swap(&Key::ApiKey(id.0), Some(&stored), b"", Some(now)).await?;
        self.cache.invalidate(&id);
        if swapped == Swapped::Conflict {
            return Err(ApiKeyError::Contended);
        }
        self.change_list(|ids| {
            ids.retain(|listed| *listed != id);
            Ok(())
        })
        .await
    }

    async fn load(&self, id: ApiKeyId) -> Result<Option<(ApiKey, Vec<u8>)>, ApiKeyError> {
        let Some(stored) = self.store.load(&Key::ApiKey(id.0)).await? else { return Ok(None) };
        Ok(Some((ApiKey::decode(&stored)?, stored)))
    }

    async fn change(&self, id: ApiKeyId, rule: impl Fn(&mut ApiKey)) -> Result<ApiKey, ApiKeyError> {
        for _ in 0..ATTEMPTS {
            let (mut key, stored) = self.load(id).await?.ok_or(ApiKeyError::NotFound)?;
            rule(&mut key);
            let expires_at = key.expires_at.map(Timestamp::from_secs);
            let swapped = self.store.swap(&Key::ApiKey(id.0), Some(&stored), &key.encode()?, expires_at).await?;
            self.cache.invalidate(&id);
            if swapped == Swapped::Done {
                return Ok(key);
            }
        }
        Err(ApiKeyError::Contended)
    }

    /// A note that is lost is written at the next use.
    async fn note_use(&self, id: ApiKeyId, now: Timestamp) {
        if let Err(error) = self.change(id, |key| key.last_used_at = Some(now.as_secs())).await {
            tracing::debug!(event = "api_key_use_not_noted", reason = %error);
        }
    }

    async fn load_list(&self) -> Result<(Vec<ApiKeyId>, Option<Vec<u8>>), ApiKeyError> {
        let stored = self.store.load(&Key::ApiKeys).await?;
        let (ids, _) = stored.as_deref().unwrap_or_default().as_chunks::<16>();
        Ok((ids.iter().copied().map(ApiKeyId).collect(), stored))
    }

    async fn change_list(
        &self,
        rule: impl Fn(&mut Vec<ApiKeyId>) -> Result<(), ApiKeyError>,
    ) -> Result<(), ApiKeyError> {
        for _ in 0..ATTEMPTS {
            let (mut ids, stored) = self.load_list().await?;
            if ids.len() >= KEYS_MAX {
                // Keys that expired are still listed.
                let alive: Vec<ApiKeyId> = self.list().await?.into_iter().map(|key| key.id).collect();
                ids.retain(|id| alive.contains(id));
            }
            rule(&mut ids)?;
            let new = ids.iter().flat_map(|id| id.0).collect::<Vec<u8>>();
            if self.store.swap(&Key::ApiKeys, stored.as_deref(), &new, None).await? == Swapped::Done {
                return Ok(());
            }
        }
        Err(ApiKeyError::Contended)
    }
}

fn new_secret(id: ApiKeyId) -> Result<(StoredSecret, String), NoRandomness> {
    let secret = [shell::random()?, shell::random()?].concat();
    let hash = digest::digest(&digest::SHA256, &secret);
    Ok((StoredSecret::new(hash.as_ref()), Presented::text(id, &secret)))
}
