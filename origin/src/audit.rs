//! The audit trail: who did what to whom, when, why, and how it ended.
//!
//! Entries are kept in the store in numbered segments, which lie in a ring: the newest replace the oldest, and a segment
//! is forgotten when its time is over. One task writes them; what waits while it writes goes into one segment together,
//! so that many acts at once cost few writes.
//!
//! Invariant (I8): at most [`SEGMENTS_MAX`] segments of [`SEGMENT_ENTRIES_MAX`] entries are kept.
//! Invariant: an entry that cannot be written is in the log, and the failure is counted; the act itself stands.

mod query;

use std::{sync::Arc, time::Duration};

use metrics::counter;
use serde::{Deserialize, Serialize};
use shared::time::Timestamp;
use tokio::sync::{mpsc, oneshot};

pub use self::query::{Page, Query};
use crate::{
    store::{AnyStore, Key, StoreError, Swapped},
    telemetry::metrics::AUDIT_FAILURES,
};

/// Segments in the ring: with 32 entries each, 65,536 acts.
pub const SEGMENTS_MAX: u16 = 2_048;

/// Entries of a segment, which is rewritten as it grows.
pub const SEGMENT_ENTRIES_MAX: usize = 32;

/// Acts that may wait to be written; one more is only logged.
const WAITING_MAX: usize = 1_024;

/// How often a segment is tried again when other origins come first.
const ATTEMPTS: u32 = 32;

/// One act.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// When it ended, Unix milliseconds.
    pub at_ms: u64,
    /// The request, as its answer names it.
    pub request_id: String,
    /// The id of the API key, `bootstrap`, `subject:…` or `client:…`.
    pub actor: String,
    /// The operation.
    pub action: String,
    /// To what: `session:…`, `subject:…`, `tenant:…` and so on.
    pub target: Option<String>,
    /// The tenant that was acted on, or that the actor is bound to.
    pub tenant: Option<String>,
    /// As the client gave it.
    pub reason: Option<String>,
    /// The HTTP status of the answer.
    pub status: u16,
}

/// Why the trail is not read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuditError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store holds bytes that are no segment.
    #[error("a segment of the audit trail cannot be read")]
    Record,
    /// Other origins came first too often.
    #[error("the audit trail is being written by others")]
    Contended,
    /// Too many acts are waiting, or the task ended.
    #[error("the audit trail takes no more entries now")]
    Busy,
}

#[derive(Serialize, Deserialize)]
struct Segment {
    number: u64,
    entries: Vec<Entry>,
}

type Waiting = (Entry, oneshot::Sender<Result<(), AuditError>>);

/// Takes and finds entries.
pub struct Trail {
    store: Arc<AnyStore>,
    waiting: mpsc::Sender<Waiting>,
}

/// Writes what a [`Trail`] takes; run it as a task.
pub struct Writer {
    store: Arc<AnyStore>,
    kept: Duration,
    waiting: mpsc::Receiver<Waiting>,
    /// The number that the newest segment probably has.
    guess: u64,
    /// The segment that was written last, with its bytes.
    last: Option<(Segment, Vec<u8>)>,
}

/// A trail over a store whose entries are kept for `kept`, and its writer.
pub fn trail(store: &Arc<AnyStore>, kept: Duration) -> (Trail, Writer) {
    let (sender, waiting) = mpsc::channel(WAITING_MAX);
    let trail = Trail { store: Arc::clone(store), waiting: sender };
    (trail, Writer { store: Arc::clone(store), kept, waiting, guess: 0, last: None })
}

impl Trail {
    /// Logs an act and waits until it is kept.
    pub async fn note(&self, entry: Entry) {
        // LOG-03: the id of a session belongs into the trail, which is guarded, and not into a log.
        let kind = entry.target.as_deref().and_then(|target| target.split(':').next());
        tracing::info!(
            event = "admin_act",
            actor = entry.actor,
            action = entry.action,
            target_kind = kind,
            reason = entry.reason,
            status = entry.status,
            request_id = entry.request_id
        );
        if let Err(error) = self.keep(entry).await {
            counter!(AUDIT_FAILURES).increment(1);
            tracing::error!(event = "audit_failed", reason = %error);
        }
    }

    async fn keep(&self, entry: Entry) -> Result<(), AuditError> {
        let (answer, answered) = oneshot::channel();
        self.waiting.try_send((entry, answer)).map_err(|_| AuditError::Busy)?;
        answered.await.map_err(|_| AuditError::Busy)?
    }
}

impl Writer {
    /// Writes until nobody can send any more.
    pub async fn run(mut self) {
        let mut batch = Vec::new();
        while self.waiting.recv_many(&mut batch, SEGMENT_ENTRIES_MAX).await > 0 {
            let (entries, answers): (Vec<_>, Vec<_>) = batch.drain(..).unzip();
            let written = self.append(&entries).await;
            for answer in answers {
                let _ = answer.send(written.clone());
            }
        }
    }

    async fn append(&mut self, entries: &[Entry]) -> Result<(), AuditError> {
        for _ in 0..ATTEMPTS {
            let Newest { number, head, stored } = self.newest().await?;
            let place = Key::AuditSegment(place(number));
            let mut segment = match self.last.take() {
                // What nobody else wrote since need not be read again.
                Some((segment, bytes)) if stored.as_ref() == Some(&bytes) && segment.number == number => segment,
                _ => decode(stored.as_deref(), number)?,
            };
            if !segment.entries.is_empty() && segment.entries.len().saturating_add(entries.len()) > SEGMENT_ENTRIES_MAX
            {
                // Whoever comes first moves on; everyone else finds it moved.
                self.guess = number.saturating_add(1);
                let next = self.guess.to_be_bytes();
                self.store.swap(&Key::AuditHead, head.as_deref(), &next, None).await?;
                continue;
            }
            segment.entries.extend_from_slice(entries);
            let bytes = serde_json::to_vec(&segment).map_err(|_| AuditError::Record)?;
            let newest = entries.last().map_or(0, |entry| entry.at_ms);
            let kept_until = Timestamp::from_millis(newest).saturating_add(self.kept);
            if self.store.swap(&place, stored.as_deref(), &bytes, Some(kept_until)).await? == Swapped::Done {
                (self.guess, self.last) = (number, Some((segment, bytes)));
                return Ok(());
            }
        }
        Err(AuditError::Contended)
    }

    /// The newest segment, in one call if its number is the one that it probably has.
    async fn newest(&self) -> Result<Newest, AuditError> {
        let keys = [Key::AuditHead, Key::AuditSegment(place(self.guess))];
        let mut found = self.store.load_many(&keys).await?.into_iter();
        let (head, stored) = (found.next().flatten(), found.next().flatten());
        let number = number(head.as_deref())?;
        let stored =
            if number == self.guess { stored } else { self.store.load(&Key::AuditSegment(place(number))).await? };
        Ok(Newest { number, head, stored })
    }
}

/// The newest segment, as the store has it.
struct Newest {
    number: u64,
    /// The bytes that say its number.
    head: Option<Vec<u8>>,
    /// Its own bytes.
    stored: Option<Vec<u8>>,
}

/// The number of the newest segment.
async fn head(store: &AnyStore) -> Result<u64, AuditError> {
    number(store.load(&Key::AuditHead).await?.as_deref())
}

fn number(head: Option<&[u8]>) -> Result<u64, AuditError> {
    head.map_or(Ok(0), |bytes| Ok(u64::from_be_bytes(bytes.try_into().map_err(|_| AuditError::Record)?)))
}

fn place(number: u64) -> u16 {
    u16::try_from(number % u64::from(SEGMENTS_MAX)).unwrap_or(0)
}

/// The segment of this number; empty if its place holds nothing, or one of an earlier round.
fn decode(stored: Option<&[u8]>, number: u64) -> Result<Segment, AuditError> {
    let Some(bytes) = stored else { return Ok(Segment { number, entries: Vec::new() }) };
    let segment: Segment = serde_json::from_slice(bytes).map_err(|_| AuditError::Record)?;
    if segment.number == number { Ok(segment) } else { Ok(Segment { number, entries: Vec::new() }) }
}
