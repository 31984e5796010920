//! Pushes frames to one hub: new floors at once, a heartbeat when there are none, everything that the hub lacks when it
//! says so.
//!
//! Only the origin that holds the hub's lease pushes; the others wait until it is free.
//!
//! Invariant: one request per hub at a time, so a slow hub holds up nobody but itself, and what it missed is sent afterwards, piece
//! by piece; nothing queues up.

use std::{
    mem,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use backon::ExponentialBackoff;
use metrics::{counter, gauge, histogram};
use reqwest::{StatusCode, header};
use serde::Deserialize;
use shared::feed::{Cursor, Epoch};
use tokio::{sync::watch, time::Interval};

use super::{
    BodyError, Feed, Position, body_of,
    lease::{Lease, RENEWAL},
    pieces::{Piece, Pieces},
    rejoin::Patience,
};
use crate::{
    config::Hub,
    shell,
    telemetry::metrics::{PUSH_CURSOR, PUSH_DURATION, PUSH_LAST_ACK, PUSHES},
};

/// A hub answers with three numbers; more than this is no hub.
const ANSWER_BYTES_MAX: usize = 1_024;

/// First and longest pause after a failed push; with jitter, so that origins do not come back in step.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// After this long no further piece is begun when the process is to stop.
const LAST_MAX: Duration = Duration::from_secs(1);

/// Pushes in a row that fail before another origin may try.
const FAILURES_MAX: u32 = 3;

/// What a push came to.
#[derive(Debug, PartialEq, Eq)]
enum Pushed {
    /// The hub stands here now.
    Acknowledged(Position),
    /// The hub lacks something and stands here.
    Gap(Position),
}

/// Why a push failed. Never shows the address, which may hold a credential.
#[derive(Debug, thiserror::Error)]
enum PushError {
    #[error("the hub cannot be reached or did not answer in time")]
    Unreachable,
    #[error("the hub answered {0}")]
    Status(StatusCode),
    #[error("the hub's answer is not of the expected form")]
    Answer,
    #[error("the hub lacks frames although they were sent in full")]
    Stuck,
    #[error("no frames: {0}")]
    Frames(#[from] super::FeedError),
    #[error("what the hub holds cannot be read: {0}")]
    Rejoin(#[from] super::rejoin::RejoinError),
}

/// Numbers travel as strings, since JSON numbers of more than 53 bits do not survive JavaScript.
#[derive(Deserialize)]
struct Answer {
    epoch: String,
    cursor: String,
    keys: String,
    policy: String,
}

/// Pushes to `hub` until `stop` says so.
pub(super) async fn run(
    hub: Hub,
    mut lease: Lease,
    feed: Arc<Feed>,
    client: reqwest::Client,
    heartbeat: Duration,
    mut stop: watch::Receiver<bool>,
) {
    let mut task = Task::new(hub, feed, client);
    let mut head = task.feed.watch();
    let (mut pauses, mut failures) = (pauses(), 0_u32);
    let mut renewals = tokio::time::interval(RENEWAL);
    loop {
        if !lease.is_held(&task.feed.store).await {
            // What the hub will have by then is not known.
            task.forget();
            tokio::select! {
                _ = renewals.tick() => continue,
                () = super::until(&mut stop) => return,
            }
        }
        let pause = match push(&mut task, &mut lease, &mut renewals).await {
            Ok(()) => {
                (pauses, failures) = (self::pauses(), 0);
                // Something new may have come in while the last push was under way.
                if task.is_behind() { Duration::ZERO } else { heartbeat }
            }
            Err(error) => {
                counter!(PUSHES, "hub" => task.hub.name.clone(), "outcome" => "failed").increment(1);
                tracing::warn!(event = "feed_push_failed", hub = task.hub.name, reason = %error);
                failures += 1;
                if failures % FAILURES_MAX == 0 {
                    // Another origin may reach the hub.
                    lease.pass_on(&task.feed.store).await;
                }
                pauses.next().unwrap_or(PAUSE_MAX)
            }
        };
        let failed = pause != heartbeat;
        let mut waited = pin!(tokio::time::sleep(pause));
        loop {
            tokio::select! {
                () = &mut waited => break,
                // A hub that fails is not tried faster because there is news.
                Ok(()) = head.changed(), if !failed => break,
                _ = renewals.tick() => {
                    if !lease.is_held(&task.feed.store).await {
                        break;
                    }
                }
                () = super::until(&mut stop) => {
                    task.push_the_last().await;
                    return lease.release(&task.feed.store).await;
                }
            }
        }
    }
}

/// One push. The lease is renewed meanwhile, since all that a hub holds can take a slow line long.
async fn push(task: &mut Task, lease: &mut Lease, renewals: &mut Interval) -> Result<(), PushError> {
    let feed = Arc::clone(&task.feed);
    let mut pushed = pin!(task.push());
    loop {
        tokio::select! {
            done = &mut pushed => return done,
            _ = renewals.tick() => {
                lease.is_held(&feed.store).await;
            }
        }
    }
}

struct Task {
    hub: Hub,
    feed: Arc<Feed>,
    client: reqwest::Client,
    /// Where the hub stood at its last answer; none before the first.
    position: Option<Position>,
    /// Answers in a row after which the hub still lacked what it was sent.
    gaps: u32,
    /// The epoch in which the hub was asked for what it holds.
    asked_in: Option<Epoch>,
    pieces: Pieces,
}

impl Task {
    fn new(hub: Hub, feed: Arc<Feed>, client: reqwest::Client) -> Self {
        Self { hub, feed, client, position: None, gaps: 0, asked_in: None, pieces: Pieces::new() }
    }

    /// What the hub has is not known any more.
    fn forget(&mut self) {
        self.position = None;
        self.pieces.failed();
    }

    /// Sends what the hub lacks, or a heartbeat, and takes note of its answer.
    async fn push(&mut self) -> Result<(), PushError> {
        self.ask_before_replacing().await?;
        let mut piece = match self.position {
            Some(position) => self.pieces.next(&self.feed, position)?,
            // The answer to a bare heartbeat says where the hub stands.
            None => Piece::alone(self.feed.heartbeat_frame()?, self.feed.position()),
        };
        let started = Instant::now();
        let pushed = self.send(mem::take(&mut piece.frames)).await.inspect_err(|_| self.forget())?;
        let took = started.elapsed();
        let name = self.hub.name.clone();
        histogram!(PUSH_DURATION, "hub" => name.clone()).record(took.as_secs_f64());
        match pushed {
            Pushed::Acknowledged(position) if position.has_all_of(piece.end) => {
                self.pieces.taken(&piece, took);
                self.gaps = 0;
                self.position = Some(position);
                counter!(PUSHES, "hub" => name.clone(), "outcome" => "acknowledged").increment(1);
                gauge!(PUSH_LAST_ACK, "hub" => name.clone()).set(unix_seconds());
                gauge!(PUSH_CURSOR, "hub" => name).set(position.cursor.0 as f64);
                Ok(())
            }
            Pushed::Acknowledged(position) | Pushed::Gap(position) => {
                self.pieces.missed();
                let known = self.position.replace(position).is_some();
                counter!(PUSHES, "hub" => name, "outcome" => "gap").increment(1);
                self.gaps = self.gaps.saturating_add(1);
                // The first answer says where the hub stands, another one may be a race with another origin.
                if known && self.gaps > 2 { Err(PushError::Stuck) } else { Ok(()) }
            }
        }
    }

    /// A hub that stands in another log, or further in this one than the store, may hold floors that the store lost; a
    /// snapshot would replace them. Asked once per epoch.
    async fn ask_before_replacing(&mut self) -> Result<(), PushError> {
        let (Some(hub), own) = (self.position, self.feed.position()) else { return Ok(()) };
        let is_explained = hub.epoch == own.epoch && hub.cursor <= own.cursor;
        if is_explained || hub.epoch == Epoch(0) || self.asked_in == Some(own.epoch) {
            return Ok(());
        }
        // Another origin may only have been faster.
        self.feed.follow(Duration::ZERO).await?;
        let own = self.feed.position();
        if hub.epoch != own.epoch || hub.cursor > own.cursor {
            match self.feed.rejoin_from(&self.hub, &self.client, Patience::WhileItComes).await {
                Err(error) if error.may_pass() => return Err(error.into()),
                Err(error) => tracing::warn!(event = "feed_rejoin_failed", hub = self.hub.name, reason = %error),
                Ok(()) => {}
            }
            self.feed.follow(Duration::ZERO).await?;
            self.asked_in = Some(self.feed.position().epoch);
        }
        Ok(())
    }

    /// What was acknowledged shortly before the end reaches the hub if it can be reached.
    async fn push_the_last(&mut self) {
        let begun = Instant::now();
        if self.position.is_none() && self.push().await.is_err() {
            return;
        }
        while self.is_behind() && self.push().await.is_ok() && begun.elapsed() < LAST_MAX {}
    }

    async fn send(&self, frames: Vec<u8>) -> Result<Pushed, PushError> {
        let response = self
            .client
            .post(&self.hub.url)
            .header(header::CONTENT_TYPE, "application/octet-stream")
            .body(frames)
            .send()
            .await
            .map_err(|_| PushError::Unreachable)?;
        let status = response.status();
        if !matches!(status, StatusCode::OK | StatusCode::CONFLICT) {
            return Err(PushError::Status(status));
        }
        let body = body_of(response, ANSWER_BYTES_MAX).await.map_err(|error| match error {
            BodyError::Broken => PushError::Unreachable,
            BodyError::TooLarge => PushError::Answer,
        })?;
        let position = parse_answer(&body).ok_or(PushError::Answer)?;
        Ok(if status == StatusCode::OK { Pushed::Acknowledged(position) } else { Pushed::Gap(position) })
    }

    fn is_behind(&self) -> bool {
        self.position.is_some_and(|position| self.feed.is_ahead_of(position))
    }
}

fn parse_answer(body: &[u8]) -> Option<Position> {
    let answer: Answer = serde_json::from_slice(body).ok()?;
    Some(Position {
        epoch: Epoch(answer.epoch.parse().ok()?),
        cursor: Cursor(answer.cursor.parse().ok()?),
        keys: answer.keys.parse().ok()?,
        policy: answer.policy.parse().ok()?,
    })
}

fn pauses() -> ExponentialBackoff {
    shell::pauses(PAUSE_MIN, PAUSE_MAX)
}

fn unix_seconds() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// Pushes `count` times, without a pause, and counts what failed.
#[cfg(test)]
pub(super) async fn failures(hub: Hub, feed: Arc<Feed>, client: reqwest::Client, count: usize) -> usize {
    let mut task = Task::new(hub, feed, client);
    let mut failed = 0;
    for _ in 0..count {
        failed += usize::from(task.push().await.is_err());
    }
    failed
}
