//! Asks a hub for the floors that it holds, and gives the store those that it lost.
//!
//! A hub proves what it says: its frames are the origin's own, signed with the feed key. Nothing else of it is believed, so a
//! hub that answers garbage changes nothing.
//!
//! Wire format: `GET` at the address that frames are posted to, `?epoch=0&after=0&keys=0`, brings every frame that the hub
//! keeps, one after the other.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use reqwest::StatusCode;
use shared::{
    feed::{Cursor, Epoch, FRAME_BYTES_MAX, FrameKind, frames},
    revocation::Floors,
    time::Timestamp,
};
use tokio::sync::watch;

use super::{BodyError, Feed, FeedError, body_of, state::missing_from};
use crate::{
    config::Hub,
    keys::{KeysError, Verifier},
    shell,
};

/// What a hub keeps at most: a snapshot of a million floors, and as much again in deltas.
const ANSWER_BYTES_MAX: usize = 64 * FRAME_BYTES_MAX;

/// How long a hub may take to tell all of it, while some of it keeps coming: 64 MiB at a megabit a second.
const ANSWER_MAX: Duration = Duration::from_secs(600);

/// Pause after the store did not take what the hubs hold.
const PAUSE: Duration = Duration::from_millis(200);

/// Why a hub did not help.
#[derive(Debug, thiserror::Error)]
pub(super) enum RejoinError {
    #[error("the hub cannot be reached or did not answer in time")]
    Unreachable,
    #[error("the hub answered {0}")]
    Status(StatusCode),
    #[error("the hub's answer is too large")]
    TooLarge,
    #[error("the hub's answer holds a frame that is malformed or not signed by the feed key")]
    Frames,
    #[error(transparent)]
    Feed(#[from] FeedError),
    #[error(transparent)]
    Keys(#[from] KeysError),
}

/// How long a hub is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    /// All of the answer within the time of a push: others wait for it.
    Short,
    /// As long as some of it keeps coming within that time.
    WhileItComes,
}

/// What signed frames say: floors, and the furthest position in the newest log among them.
struct Held {
    floors: Floors,
    epoch: Epoch,
    cursor: Cursor,
    /// The latest reading of the store's clock in that log.
    as_of: Timestamp,
    /// The version of its keys.
    keys: u64,
}

impl RejoinError {
    /// Whether asking again can bring more: a hub that answers something else has nothing to give.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable | Self::Feed(_) | Self::Keys(_) => true,
            Self::Status(status) => status.is_server_error(),
            Self::TooLarge | Self::Frames => false,
        }
    }
}

/// Asks the hubs whenever the log is another one than before, until `stop` says so.
pub(super) async fn run(feed: Arc<Feed>, hubs: Vec<Hub>, client: reqwest::Client, mut stop: watch::Receiver<bool>) {
    let mut head = feed.watch();
    loop {
        let asked = async {
            while let Some(epoch) = feed.rejoining() {
                match feed.rejoin_all(&hubs, &client).await {
                    Ok(()) => feed.rejoined(epoch),
                    Err(error) => {
                        tracing::warn!(event = "feed_rejoin_failed", reason = %error);
                        tokio::time::sleep(PAUSE).await;
                    }
                }
            }
            head.changed().await
        };
        tokio::select! {
            _ = asked => {}
            () = super::until(&mut stop) => return,
        }
    }
}

impl Feed {
    /// Joins what every hub holds, all at the same time. One that does not answer is passed over.
    ///
    /// # Errors
    ///
    /// The store.
    pub(super) async fn rejoin_all(&self, hubs: &[Hub], client: &reqwest::Client) -> Result<(), FeedError> {
        let asked = hubs.iter().map(|hub| self.rejoin_from(hub, client, Patience::Short));
        for (hub, rejoined) in hubs.iter().zip(join_all(asked).await) {
            match rejoined {
                Ok(()) => {}
                Err(RejoinError::Feed(error)) => return Err(error),
                Err(error) => tracing::warn!(event = "feed_rejoin_failed", hub = hub.name, reason = %error),
            }
        }
        Ok(())
    }

    /// The log for which the hubs are still to be asked.
    fn rejoining(&self) -> Option<Epoch> {
        let state = self.read();
        state.rejoining.then_some(state.epoch)
    }

    /// The hubs were asked, unless the log has become another one meanwhile.
    fn rejoined(&self, epoch: Epoch) {
        let mut state = self.write();
        state.rejoining &= state.epoch != epoch;
    }

    /// Joins what a hub holds; the store gets what it lacks. A store whose log is older or shorter than the hub proves it
    /// was gets another epoch, and so does one whose clock was set back since the hub heard of it.
    pub(super) async fn rejoin_from(
        &self,
        hub: &Hub,
        client: &reqwest::Client,
        patience: Patience,
    ) -> Result<(), RejoinError> {
        let bytes = ask(hub, client, patience).await?;
        let held = self.read_frames(&bytes)?;
        let snapshot = self.store.snapshot().await.map_err(FeedError::from)?;
        let is_contradicted = held.epoch == snapshot.epoch
            && (held.cursor > snapshot.head || self.read().is_set_back(held.as_of, snapshot.as_of));
        if held.epoch > snapshot.epoch || is_contradicted {
            tracing::warn!(event = "feed_store_fell_back", hub = hub.name, epoch = snapshot.epoch.0);
            self.store.renew(held.epoch).await.map_err(FeedError::from)?;
        }
        let lost = missing_from(&snapshot, &held.floors, shell::now());
        if !lost.is_empty() {
            tracing::warn!(event = "feed_floors_rejoined", hub = hub.name, count = lost.len());
        }
        self.append_lost(&lost).await?;
        self.keys.outrank(held.keys).await?;
        Ok(self.learn(&lost)?)
    }

    fn read_frames(&self, bytes: &[u8]) -> Result<Held, RejoinError> {
        let keys = self.keys.current().feed_public_keys().map_err(|_| RejoinError::Frames)?;
        let mut held =
            Held { floors: Floors::new(), epoch: Epoch(0), cursor: Cursor(0), as_of: Timestamp::EPOCH, keys: 0 };
        for frame in frames(bytes, &Verifier, &keys) {
            let frame = frame.map_err(|_| RejoinError::Frames)?;
            for floor in frame.floors() {
                held.floors.join(floor);
            }
            let header = frame.header();
            match header.kind {
                FrameKind::Keys => held.keys = held.keys.max(header.upto.0),
                FrameKind::Policy => {}
                FrameKind::Delta | FrameKind::Snapshot | FrameKind::Urgent => {
                    // The newest log tells the time; another one may have had another clock.
                    (_, held.as_of) = (held.epoch, held.as_of).max((header.epoch, header.as_of));
                    (held.epoch, held.cursor) = (held.epoch, held.cursor).max((header.epoch, header.upto));
                }
            }
        }
        Ok(held)
    }
}

async fn ask(hub: &Hub, client: &reqwest::Client, patience: Patience) -> Result<Vec<u8>, RejoinError> {
    let mut request = client.get(&hub.url).query(&[("epoch", "0"), ("after", "0"), ("keys", "0")]);
    if patience == Patience::WhileItComes {
        request = request.timeout(ANSWER_MAX);
    }
    let response = request.send().await.map_err(|_| RejoinError::Unreachable)?;
    if response.status() != StatusCode::OK {
        return Err(RejoinError::Status(response.status()));
    }
    body_of(response, ANSWER_BYTES_MAX).await.map_err(|error| match error {
        BodyError::Broken => RejoinError::Unreachable,
        BodyError::TooLarge => RejoinError::TooLarge,
    })
}
