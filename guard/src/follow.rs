//! Keeps a replica up to date with the origin's feed, in a task of its own.
//!
//! Invariant (I5): frames count only behind the signature of a pinned key; a pull that fails changes nothing.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
    time::{Duration, Instant},
};

use client::{FeedClient, Reading};
use shared::{
    feed::frames,
    keys::{KeySet, PublicKey, Verifier},
    policy::Policy,
    replica::{Freshness, Replica},
    time::Timestamp,
};
use tokio::{
    sync::{Notify, watch},
    task::JoinHandle,
    time::timeout,
};

use crate::settings::{Settings, SettingsError};

/// Deadline of one pull, and how long a request waits for it.
const PULL_MAX: Duration = Duration::from_millis(1_500);

/// After a pull that failed nobody waits for another one so long.
const RETRY: Duration = Duration::from_secs(1);

/// A replica and the task that keeps it up to date, which ends when this is dropped.
pub(crate) struct Follower {
    held: Arc<Held>,
    task: JoinHandle<()>,
}

struct Held {
    replica: Mutex<Replica>,
    /// Those of the replica, apart from it, so that signatures are checked without the lock.
    keys: RwLock<Arc<KeySet>>,
    /// That of the replica, if the feed brought one, so that a route is held without the lock.
    policy: RwLock<Option<Arc<Policy>>>,
    feed_keys: Vec<PublicKey>,
    feed: FeedClient,
    pulls: Mutex<Pulls>,
    ended: watch::Sender<Ended>,
    failed_at: Mutex<Option<Instant>>,
    wanted: Notify,
    /// How far the clocks of store and service may be apart.
    skew_max: Duration,
}

/// Pulls, counted from 1.
#[derive(Default)]
struct Pulls {
    begun: u64,
    /// Up to this one the origin has to read the log for its answer.
    current: u64,
}

/// The last pull that has ended.
#[derive(Clone, Copy, Default)]
struct Ended {
    number: u64,
    is_good: bool,
}

impl Follower {
    pub(crate) fn start(settings: &Settings) -> Result<Self, SettingsError> {
        let feed = FeedClient::new(&settings.origin, PULL_MAX).map_err(|_| SettingsError::Origin)?;
        let held = Arc::new(Held {
            replica: Mutex::new(Replica::new()),
            keys: RwLock::default(),
            policy: RwLock::default(),
            feed_keys: settings.feed_keys.clone(),
            feed,
            pulls: Mutex::default(),
            ended: watch::Sender::new(Ended::default()),
            failed_at: Mutex::new(None),
            wanted: Notify::new(),
            skew_max: settings.skew_max,
        });
        let (followed, pause) = (Arc::clone(&held), settings.refresh);
        let task = tokio::spawn(async move {
            loop {
                followed.pull().await;
                // Whoever waits does not wait for the pause.
                let _ = timeout(pause, followed.wanted.notified()).await;
            }
        });
        Ok(Self { held, task })
    }

    pub(crate) fn replica(&self) -> MutexGuard<'_, Replica> {
        lock(&self.held.replica)
    }

    pub(crate) fn keys(&self) -> Arc<KeySet> {
        Arc::clone(&self.held.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The policy that the feed brought.
    pub(crate) fn policy(&self) -> Option<Arc<Policy>> {
        self.held.policy.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Has the replica hold everything that was acknowledged before this call; whether it does. All who wait share a pull.
    pub(crate) async fn catch_up(&self) -> bool {
        let failed_lately = lock(&self.held.failed_at).is_some_and(|at| at.elapsed() < RETRY);
        if failed_lately {
            return false;
        }
        let mut ended = self.held.ended.subscribe();
        // A pull that is under way may have been answered before.
        let next = lock(&self.held.pulls).next_is_current();
        self.held.wanted.notify_one();
        let waited = timeout(PULL_MAX, ended.wait_for(|ended| ended.number >= next)).await;
        matches!(waited, Ok(Ok(ended)) if ended.is_good)
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.replica().freshness() != Freshness::Unsynced
    }

    pub(crate) async fn ready(&self) {
        let mut ended = self.held.ended.subscribe();
        while !self.is_ready() {
            // The sender lives as long as `self`.
            if ended.changed().await.is_err() {
                return;
            }
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Pulls {
    fn next_is_current(&mut self) -> u64 {
        self.current = self.begun.saturating_add(1);
        self.current
    }

    fn begin(&mut self) -> (u64, Reading) {
        self.begun = self.begun.saturating_add(1);
        (self.begun, if self.begun <= self.current { Reading::Current } else { Reading::Recent })
    }
}

impl Held {
    async fn pull(&self) {
        let (number, reading) = lock(&self.pulls).begin();
        let position = lock(&self.replica).position();
        let failed = match self.feed.since(position, reading).await {
            Ok(bytes) => self.accept(&bytes).err().map(|error| error.to_string()),
            Err(error) => Some(error.to_string()),
        };
        let is_good = failed.is_none();
        *lock(&self.failed_at) = failed.is_some().then(Instant::now);
        if let Some(reason) = failed {
            tracing::warn!(event = "guard_pull_failed", reason);
        }
        self.ended.send_replace(Ended { number, is_good });
    }

    /// Takes in the frames that are good, up to the first that is not.
    fn accept(&self, bytes: &[u8]) -> Result<(), shared::feed::FrameError> {
        let mut good = Vec::new();
        let mut ended = Ok(());
        for frame in frames(bytes, &Verifier, &self.feed_keys) {
            match frame {
                Ok(frame) => good.push(frame),
                Err(error) => ended = Err(error),
            }
        }
        let mut replica = lock(&self.replica);
        let before = replica.position();
        for frame in &good {
            replica.accept(frame);
        }
        let now = now();
        replica.check_clock(now, self.skew_max);
        replica.prune(now);
        if replica.position().keys != before.keys {
            *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(replica.keys().clone());
        }
        if replica.position().policy != before.policy {
            *self.policy.write().unwrap_or_else(PoisonError::into_inner) = replica.policy().cloned().map(Arc::new);
        }
        ended
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The time of this machine.
pub(crate) fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
