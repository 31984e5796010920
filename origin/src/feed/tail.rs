//! Follows the log: waits for it to grow, reads what is new, takes it in.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use shared::{
    feed::Cursor,
    revocation::{Floor, Joined},
};
use tokio::sync::watch;

use super::{Feed, FeedError};
use crate::{
    shell,
    store::{Entries, LogRead},
};

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
                let now = shell::now();
                feed.write().floors.prune(now);
                if let Err(error) = feed.store.trim(now).await {
                    tracing::warn!(event = "store_trim_failed", reason = %error);
                }
            }
            () = super::until(&mut stop) => return,
        }
    }
}

impl Feed {
    /// Waits for the log to grow, at most `wait`, and reads it to its head.
    pub(crate) async fn follow(&self, wait: Duration) -> Result<(), FeedError> {
        self.store.wait_for_append(self.cursor(), wait).await?;
        loop {
            let after = self.cursor();
            let read = self.store.read_log(after, READ_MAX).await?;
            if read.epoch != self.read().epoch || read.entries == Entries::SnapshotNeeded {
                return self.reload().await;
            }
            if self.take(after, read)? {
                return Ok(());
            }
        }
    }

    /// Takes in a read; whether it reached the head.
    fn take(&self, after: Cursor, read: LogRead) -> Result<bool, FeedError> {
        let Entries::Contiguous(floors) = read.entries else { return Ok(false) };
        let mut state = self.write();
        let mut full = false;
        for floor in &floors {
            full |= state.floors.join(*floor) == Joined::Full;
        }
        let upto = Cursor(after.0.saturating_add(u64::try_from(floors.len()).unwrap_or(u64::MAX)));
        let positions = (after.0.saturating_add(1)..).map(Cursor);
        state.recent.extend(positions.zip(floors), upto);
        let complete = upto >= read.head;
        if full {
            // What has no place cannot be vouched for: `as_of` stays, and replicas turn stale instead of wrong.
            return Err(FeedError::Full);
        }
        if complete {
            state.as_of = state.as_of.max(read.as_of);
            state.read_at = Instant::now();
        }
        drop(state);
        if upto > after {
            self.head.send_replace(upto);
        }
        Ok(complete)
    }

    /// Reads everything anew after a gap or in another epoch, and appends again what the store lost.
    async fn reload(&self) -> Result<(), FeedError> {
        let snapshot = self.store.snapshot().await?;
        let lost: Vec<Floor> = self.restart(&snapshot, shell::now());
        if !lost.is_empty() {
            tracing::warn!(event = "feed_floors_rejoined", count = lost.len());
        }
        for floors in lost.chunks(REJOIN_MAX) {
            self.store.append(floors).await?;
        }
        self.head.send_replace(snapshot.head);
        Ok(())
    }
}
