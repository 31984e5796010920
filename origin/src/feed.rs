//! The floors of this process: read from the log, held in memory, handed to hubs as signed frames.
//!
//! Invariant (I5): a frame's `as_of` is a reading of the store's clock from before the head up to which it is complete.
//! Invariant (I4): floors only rise; a store that lost some (another epoch, a log that fell back) gets them back from memory
//! and from hubs before anything is said about it, and keeps them as long as a record that it lost may come back.

mod frames;
mod keys;
mod lease;
mod pieces;
mod push;
mod recent;
mod rejoin;
mod state;
mod tail;
#[cfg(test)]
mod tests;

use std::{
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, atomic::AtomicU64},
    time::Duration,
};

use anyhow::Context as _;
use metrics::gauge;
use shared::{
    feed::Cursor,
    revocation::{Floor, FloorKey, Floors, Version},
};
use tokio::{
    sync::{Mutex, watch},
    task::JoinSet,
};

pub use shared::replica::Position;

use self::state::State;
use crate::{
    config::Config,
    keys::Keys,
    policies::{Policies, PoliciesError},
    shell,
    store::{AnyStore, StoreError},
    telemetry::metrics::{FEED_AS_OF, FEED_CURSOR, FLOORS},
};

/// Why there are no frames.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FeedError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The route policy cannot be read.
    #[error(transparent)]
    Policy(PoliciesError),
    /// The store lost floors, or may have, and the hubs have not been asked for them yet.
    #[error("what the store may have lost is being asked of the hubs")]
    Rejoining,
    /// The log was not read for too long.
    #[error("the floor log is not being followed")]
    NotFollowed,
    /// A frame could not be made or signed.
    #[error("a frame cannot be made")]
    Frame,
    /// More floors than fit.
    #[error("there is no room for more floors")]
    Full,
}

impl From<PoliciesError> for FeedError {
    fn from(error: PoliciesError) -> Self {
        match error {
            PoliciesError::Store(error) => Self::Store(error),
            error => Self::Policy(error),
        }
    }
}

/// Holds the floors and follows the log.
pub struct Feed {
    store: Arc<AnyStore>,
    keys: Arc<Keys>,
    policies: Policies,
    state: RwLock<State>,
    head: watch::Sender<Cursor>,
    floors_max: usize,
    heartbeat: Duration,
    /// Whether there is somebody to ask for what the store lost.
    has_hubs: bool,
    /// The longest that a session lasts.
    session_max: Duration,
    /// One reader of the log at a time; holds the number of the last reading that reached the head.
    readings: Mutex<u64>,
    /// Counts readings of the log when they begin.
    readings_begun: AtomicU64,
}

impl Feed {
    /// Reads every live floor.
    ///
    /// # Errors
    ///
    /// The store does not answer, or holds more floors than `limits.floors`, or a policy that is none.
    pub async fn load(store: Arc<AnyStore>, keys: Arc<Keys>, config: &Config) -> Result<Arc<Self>, FeedError> {
        let snapshot = store.snapshot().await?;
        let policies = Policies::open(Arc::clone(&store)).await?;
        let floors_max = usize::try_from(config.limits.floors).unwrap_or(usize::MAX);
        let state = State::new(&snapshot, config.feed.clock_skew_max());
        let (head, _) = watch::channel(snapshot.head);
        let feed = Self {
            store,
            keys,
            policies,
            state: RwLock::new(state),
            head,
            floors_max,
            heartbeat: config.feed.heartbeat(),
            has_hubs: !config.hubs.is_empty(),
            session_max: config.sessions.absolute_max(),
            readings: Mutex::new(0),
            readings_begun: AtomicU64::new(0),
        };
        feed.learn(&[])?;
        feed.report();
        Ok(Arc::new(feed))
    }

    /// The lowest acceptable version of a scope, as far as this process knows.
    pub fn lowest(&self, key: &FloorKey) -> Version {
        self.read().floors.lowest(key)
    }

    /// Answers a question about all floors.
    pub fn with_floors<T>(&self, ask: impl FnOnce(&Floors) -> T) -> T {
        ask(&self.read().floors)
    }

    /// Joins floors that this process appended itself, ahead of the log's tail.
    ///
    /// # Errors
    ///
    /// [`FeedError::Full`]: not all of them have a place.
    pub fn learn(&self, floors: &[Floor]) -> Result<(), FeedError> {
        if self.write().join(floors) { Ok(()) } else { Err(FeedError::Full) }
    }

    /// Whether `count` more floors have a place.
    ///
    /// # Errors
    ///
    /// [`FeedError::Full`].
    pub fn check_room(&self, count: usize) -> Result<(), FeedError> {
        let len = self.read().floors.len();
        if len.saturating_add(count) > self.floors_max { Err(FeedError::Full) } else { Ok(()) }
    }

    /// Whether all is known that anybody still holds.
    ///
    /// # Errors
    ///
    /// [`FeedError::Rejoining`].
    pub fn check_whole(&self) -> Result<(), FeedError> {
        if self.read().rejoining { Err(FeedError::Rejoining) } else { Ok(()) }
    }

    /// Whether the log was read within `age_max`.
    ///
    /// # Errors
    ///
    /// [`FeedError::NotFollowed`].
    pub fn check_fresh(&self, age_max: Duration) -> Result<(), FeedError> {
        if self.read().read_at.elapsed() > age_max { Err(FeedError::NotFollowed) } else { Ok(()) }
    }

    /// Changes when the log has grown.
    pub fn watch(&self) -> watch::Receiver<Cursor> {
        self.head.subscribe()
    }

    /// The position up to which this process follows the log.
    pub fn cursor(&self) -> Cursor {
        self.read().recent.end()
    }

    /// Whether a replica lacks something that this process has.
    pub fn is_ahead_of(&self, position: Position) -> bool {
        !position.has_all_of(self.position())
    }

    /// Where a replica stands that has everything this process has.
    fn position(&self) -> Position {
        let state = self.read();
        let (keys, policy) = (self.keys.current().version(), self.policies.current().version());
        Position { epoch: state.epoch, cursor: state.recent.end(), keys, policy }
    }

    fn report(&self) {
        let state = self.read();
        gauge!(FLOORS).set(state.floors.len() as f64);
        gauge!(FEED_CURSOR).set(state.recent.end().0 as f64);
        gauge!(FEED_AS_OF).set(state.as_of.as_millis() as f64 / 1_000.0);
    }

    // A panic while the lock was held leaves floors that are whole or lower; the log's tail raises them again.
    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts the tails of the log and of the keys, the upkeep, and one push task per hub.
///
/// # Errors
///
/// The HTTP client cannot be made.
pub fn spawn(
    tasks: &mut JoinSet<()>,
    feed: Arc<Feed>,
    config: &Config,
    stopped: &watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let client = client(config)?;
    let heartbeat = config.feed.heartbeat();
    tasks.spawn(tail::run(Arc::clone(&feed), heartbeat, stopped.clone()));
    tasks.spawn(keys::run(Arc::clone(&feed), heartbeat, stopped.clone()));
    tasks.spawn(tail::forget(Arc::clone(&feed), stopped.clone()));
    tasks.spawn(rejoin::run(Arc::clone(&feed), config.hubs.clone(), client.clone(), stopped.clone()));
    let holder = shell::random().context("no randomness")?;
    for hub in &config.hubs {
        let lease = lease::Lease::new(&hub.name, holder);
        tasks.spawn(push::run(hub.clone(), lease, Arc::clone(&feed), client.clone(), heartbeat, stopped.clone()));
    }
    Ok(())
}

/// Gives the store the floors that it lost and the hubs still hold, before anybody is told anything.
///
/// # Errors
///
/// The HTTP client cannot be made, or the store fails. A hub that does not answer is passed over: its floors are asked
/// for once more before anything is pushed to it.
pub async fn rejoin(feed: &Feed, config: &Config) -> anyhow::Result<()> {
    feed.rejoin_all(&config.hubs, &client(config)?).await.context("cannot write what the hubs hold")
}

fn client(config: &Config) -> anyhow::Result<reqwest::Client> {
    // A request goes to the address of the configuration and nowhere else.
    let mut client = reqwest::Client::builder();
    if config.hubs.iter().all(|hub| hub.url.starts_with("http://")) {
        // Certificates of the system are not needed, and may not be there.
        client = client.tls_certs_only([]);
    }
    client
        .timeout(config.feed.push_timeout())
        // Where the whole of an answer is given longer, each part of it is not.
        .read_timeout(config.feed.push_timeout())
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .tcp_nodelay(true)
        .build()
        .context("cannot make the HTTP client of the feed")
}

/// Why a hub's answer has no body.
enum BodyError {
    Broken,
    TooLarge,
}

/// The body of a hub's answer, of at most `bytes_max`: more is not even read.
async fn body_of(mut response: reqwest::Response, bytes_max: usize) -> Result<Vec<u8>, BodyError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|_| BodyError::Broken)? {
        if body.len().saturating_add(chunk.len()) > bytes_max {
            return Err(BodyError::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Returns when the process is to stop.
async fn until(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}
