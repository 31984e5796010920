//! Load → apply → append floors → swap: the one loop through which records change.
//!
//! The rules are those of `shared`; here are the order of writes and what happens when one fails.
//!
//! Invariant: the log leads the record. A caller is answered after both; a crash between them leaves a floor that is too
//! high, never one that is too low, and every command may be repeated.

mod assertions;
pub mod changes;
#[cfg(test)]
mod cost;
#[cfg(test)]
mod crowd;
mod error;
mod events;
pub mod everyone;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod healing;
pub mod introspect;
pub mod keys;
#[cfg(test)]
mod life_faults;
#[cfg(test)]
mod life_model;
pub(crate) mod lifetimes;
mod limit;
pub mod open;
pub mod own;
#[cfg(test)]
mod own_writes;
pub mod refresh;
mod revoke;
pub mod sessions;
pub mod step_up;
pub mod subjects;
mod surroundings;
mod tokens;
mod verified;
mod write;

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use metrics::gauge;
use moka::sync::Cache;
use shared::{
    id::{SubjectId, TenantId},
    revocation::{Floor, FloorKey, Version},
    roster::Limit,
    session::{Policy, Tier},
    subject::{Subject, Versions},
    time::Timestamp,
};

pub use self::{error::ServiceError, tokens::Tokens, write::Changed};
use crate::{
    clients::Clients,
    config::{Config, secrets::Secrets},
    feed::Feed,
    keys::{Keys, Peppers, session_tags},
    store::{AnyStore, StoreError},
    telemetry::metrics::{CACHE_ENTRIES, CACHES},
};

/// A floor is kept this much longer than any token that it concerns, beside the clock skew.
const FLOOR_MARGIN: Duration = Duration::from_secs(60);

/// A record is kept this much longer than its session, so that its end can still be told.
const RECORD_MARGIN: Duration = Duration::from_secs(60);

/// How often a change is tried again when other writers come first.
const ATTEMPTS: u32 = 16;

/// Opens, refreshes, shows and ends sessions.
pub struct Service {
    store: Arc<AnyStore>,
    keys: Arc<Keys>,
    feed: Arc<Feed>,
    peppers: Peppers,
    clients: Clients,
    issuer: String,
    token_endpoint: String,
    audience: String,
    access_ttl: Duration,
    access_ttl_spread_percent: u64,
    longest: lifetimes::Longest,
    skew_max: Duration,
    remember: Duration,
    recent_auth: Duration,
    policy: Policy,
    default_tier: Tier,
    limit: Option<Limit>,
    turns: limit::Turns,
    tags: events::Tags,
    verified: verified::Verified,
    everyone: Cache<(), Versions>,
    subjects: Cache<SubjectId, Arc<Subject>>,
    tenants: Cache<TenantId, Versions>,
}

impl Service {
    /// Puts the service together.
    ///
    /// # Errors
    ///
    /// The cryptography library refuses to derive the pepper or to read the keys.
    pub fn new(
        store: Arc<AnyStore>,
        keys: Arc<Keys>,
        feed: Arc<Feed>,
        config: &Config,
        secrets: &Secrets,
    ) -> anyhow::Result<Self> {
        let tags = session_tags(&secrets.master_key).context("cannot derive the key of session tags")?;
        let age_max = Duration::from_secs(config.limits.subjects_cached_s);
        let clients = Clients::new(config).context("cannot read the clients")?;
        Ok(Self {
            store,
            keys,
            feed,
            longest: lifetimes::Longest::new(clients.access_ttl_max()),
            peppers: Peppers::new(&secrets.master_key).context("cannot derive the refresh pepper")?,
            clients,
            issuer: config.issuer().to_owned(),
            token_endpoint: format!("{}/oauth2/token", config.server.public_url),
            audience: config.tokens.audience.clone(),
            access_ttl: config.tokens.access_ttl(),
            access_ttl_spread_percent: config.tokens.access_ttl_spread_percent,
            skew_max: config.feed.clock_skew_max(),
            remember: config.feed.remember(),
            recent_auth: config.sessions.recent_auth(),
            policy: config.sessions.policy(config.tokens.retry_window()),
            default_tier: config.sessions.tier,
            limit: config.sessions.limit(),
            turns: limit::Turns::new(),
            tags: events::Tags::new(&tags),
            verified: verified::Verified::new(),
            everyone: Cache::builder().max_capacity(1).time_to_live(age_max).build(),
            subjects: Cache::builder().max_capacity(config.limits.subjects_cached).time_to_live(age_max).build(),
            tenants: Cache::builder().max_capacity(config.limits.subjects_cached).time_to_live(age_max).build(),
        })
    }

    /// Whether the store answers.
    ///
    /// # Errors
    ///
    /// It does not.
    pub async fn check_store(&self) -> Result<(), StoreError> {
        self.store.ping().await
    }

    /// Tells how many records the caches hold.
    pub(crate) fn gauge_caches(&self) {
        let entries = [self.subjects.entry_count(), self.tenants.entry_count(), self.everyone.entry_count()];
        for (cache, entries) in CACHES.into_iter().zip(entries) {
            gauge!(CACHE_ENTRIES, "cache" => cache).set(entries as f64);
        }
    }

    /// A floor that outlives every token under it that was made until `now`, and every backup of the store that may be put
    /// back.
    fn floor(&self, key: FloorKey, lowest: Version, now: Timestamp) -> Floor {
        let kept = self.longest.get().saturating_add(self.skew_max).saturating_add(FLOOR_MARGIN);
        let kept = kept.max(self.remember);
        Floor { key, lowest, forget_at: Timestamp::from_secs(now.saturating_add(kept).as_secs_ceil()) }
    }
}
