//! Follows the log: waits for it to grow, reads what is new, takes it in.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use metrics::counter;
use shared::{revocation::Floor, time::Timestamp};
use tokio::sync::watch;

use super::{Feed, FeedError};
use crate::{shell, store::Entries, telemetry::metrics::FLOORS_REJOINED};

/// Entries per read; a read stays far under a megabyte.
const READ_MAX: usize = 8_192;

/// Floors per append when a store gets back what it lost.
const REJOIN_MAX: usize = 1_024;

/// Pause after a read that failed.
const PAUSE: Duration = Duration::from_millis(200);

/// How often what may be forgotten is.
const FORGET_INTERVAL: Duration = Duration::from_secs(30);

/// A heartbeat carries a reading of the store's clock that is at most this part of its interval old.
const READS_PER_HEARTBEAT: u32 = 4;

/// Follows the log until `stop` says so.
pub(super) async fn run(feed: Arc<Feed>, heartbeat: Duration, mut stop: watch::Receiver<bool>) {
    let wait = heartbeat / READS_PER_HEARTBEAT;
    loop {
        tokio::select! {
            followed = feed.follow(wait) => {
                feed.report();
                if let Err(error) = followed {
                    tracing::warn!(event = "feed_tail_failed", reason = %error);
                    tokio::time::sleep(PAUSE).await;
                }
            }
            () = super::until(&mut stop) => return,
        }
    }
}

/// Forgets floors and log entries whose time is over, until `stop` says so.
pub(super) async fn forget(feed: Arc<Feed>, mut stop: watch::Receiver<bool>) {
    let mut ticks = tokio::time::interval(FORGET_INTERVAL);
    loop {
        tokio::select! {
            _ = ticks.tick() => {
                if let Err(error) = feed.forget(shell::now()).await {
                    tracing::warn!(event = "store_trim_failed", reason = %error);
                }
            }
            () = super::until(&mut stop) => return,
        }
    }
}

impl Feed {
    /// Forgets what is over by the clock of this machine and by that of the store: one that runs ahead must not make
    /// others forget what still counts.
    pub(super) async fn forget(&self, now: Timestamp) -> Result<(), FeedError> {
        let now = {
            let mut state = self.write();
            let now = now.min(state.as_of);
            state.floors.prune(now);
            now
        };
        self.store.trim(now).await?;
        Ok(())
    }

    /// Waits for the log to grow, at most `wait`, and reads it to its head.
    pub(crate) async fn follow(&self, wait: Duration) -> Result<(), FeedError> {
        self.store.wait_for_append(self.cursor(), wait).await?;
        let mut last = self.readings.lock().await;
        self.read_to_head(&mut last).await
    }

    /// Reads the log to its head, so that everything acknowledged before the call is known. Those who call while it is being
    /// read share the next reading.
    ///
    /// # Errors
    ///
    /// The store does not answer, or holds more floors than there is room for.
    pub async fn catch_up(&self) -> Result<(), FeedError> {
        let begun = self.readings_begun.load(Ordering::SeqCst);
        let mut last = self.readings.lock().await;
        if *last > begun { Ok(()) } else { self.read_to_head(&mut last).await }
    }

    /// `last` is the number of the last reading that reached the head.
    async fn read_to_head(&self, last: &mut u64) -> Result<(), FeedError> {
        let number = self.readings_begun.fetch_add(1, Ordering::SeqCst).saturating_add(1);
        self.read_all().await?;
        *last = number;
        Ok(())
    }

    async fn read_all(&self) -> Result<(), FeedError> {
        loop {
            if self.read().has_room_again() {
                return self.reload().await;
            }
            let after = self.cursor();
            let read = self.store.read_log(after, READ_MAX).await?;
            if read.epoch != self.read().epoch || read.entries == Entries::SnapshotNeeded {
                return self.reload().await;
            }
            if self.read().was_set_back(read.as_of) {
                // Replicas forget the readings of before with the epoch that they belong to, and nothing else.
                tracing::warn!(event = "feed_store_clock_set_back", epoch = read.epoch.0);
                self.store.renew(read.epoch).await?;
                return self.reload().await;
            }
            let complete = self.write().take(&read)?;
            let upto = self.cursor();
            if upto > after {
                self.head.send_replace(upto);
            }
            if complete {
                return Ok(());
            }
        }
    }

    /// Reads everything anew after a gap or in another epoch. What the store lost is appended again before anything is said
    /// about it.
    async fn reload(&self) -> Result<(), FeedError> {
        let known = self.position();
        let mut snapshot = self.store.snapshot().await?;
        // A log that fell back, or an older one: its positions do not mean what they meant to those who follow it.
        if snapshot.epoch < known.epoch || (snapshot.epoch == known.epoch && snapshot.head < known.cursor) {
            self.store.renew(known.epoch).await?;
            snapshot = self.store.snapshot().await?;
        }
        let lost = self.read().lost(&snapshot, shell::now());
        self.append_lost(&lost).await?;
        if snapshot.epoch != known.epoch {
            tracing::warn!(event = "feed_epoch_changed", epoch = snapshot.epoch.0, rejoined = lost.len());
        }
        self.write().restart(&snapshot, self.heartbeat, self.has_hubs);
        self.head.send_replace(snapshot.head);
        Ok(())
    }

    /// Appends floors that the store had before; the tail reads them like any others. A record that the store lost with them is
    /// healed when somebody asks for it, so they are kept as long as a session may last.
    pub(super) async fn append_lost(&self, floors: &[Floor]) -> Result<(), FeedError> {
        let until = Timestamp::from_secs(shell::now().saturating_add(self.session_max).as_secs_ceil());
        for floors in floors.chunks(REJOIN_MAX) {
            let kept = |floor: &Floor| Floor { forget_at: floor.forget_at.max(until), ..*floor };
            self.store.append(&floors.iter().map(kept).collect::<Vec<_>>()).await?;
            counter!(FLOORS_REJOINED).increment(u64::try_from(floors.len()).unwrap_or(u64::MAX));
        }
        Ok(())
    }
}
