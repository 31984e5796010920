//! The audit trail: who did what to whom, when, why, and how it ended.
//!
//! Entries are kept in the store in numbered segments, which lie in a ring: the newest replace the oldest, and a segment
//! is forgotten when its time is over. A segment is lines of JSON: its number, then one entry on each. One task writes them;
//! what waits while it writes goes into one segment together, so that many acts at once cost few writes.
//!
//! Invariant (I8): at most [`SEGMENTS_MAX`] segments of [`SEGMENT_ENTRIES_MAX`] entries are kept.
//! Invariant: an entry that cannot be written is in the log, and the failure is counted; the act itself stands.

mod query;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

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

/// Entries of a segment.
pub const SEGMENT_ENTRIES_MAX: usize = 32;

/// Acts that may wait to be written; one more is only logged.
const WAITING_MAX: usize = 1_024;

/// How often a segment is tried again when other origins come first.
const ATTEMPTS: u32 = 32;

/// For this long the segment that was written last is written on, if its length is still what it was then. Others may have
/// begun another one meanwhile, but not have come round to the same place.
const BELIEVED: Duration = Duration::from_secs(1);

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
    /// The segment that was written last, and when.
    last: Option<(Newest, Instant)>,
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

    async fn append(&mut self, mut entries: &[Entry]) -> Result<(), AuditError> {
        // Who loses a segment to others begins one of its own, so that each writes in peace after a few tries.
        let mut is_crowded = false;
        for _ in 0..ATTEMPTS {
            let newest = match self.last.take().filter(|(_, at)| at.elapsed() < BELIEVED) {
                Some((newest, _)) => newest,
                None => self.newest().await?,
            };
            let room = SEGMENT_ENTRIES_MAX.saturating_sub(newest.entries);
            if room == 0 || is_crowded {
                // Whoever comes first moves on; everyone else finds it moved.
                is_crowded = false;
                self.guess = newest.number.saturating_add(1);
                let next = self.guess.to_be_bytes();
                self.store.swap(&Key::AuditHead, newest.head.as_deref(), &next, None).await?;
                continue;
            }
            let (fitting, rest) = entries.split_at(room.min(entries.len()));
            let Some(newest) = self.write(newest, fitting).await? else {
                is_crowded = true;
                continue;
            };
            (self.guess, self.last) = (newest.number, Some((newest, Instant::now())));
            entries = rest;
            if entries.is_empty() {
                return Ok(());
            }
        }
        Err(AuditError::Contended)
    }

    /// Puts entries at the end of a segment; what it is then, or none if another writer came first.
    async fn write(&self, newest: Newest, entries: &[Entry]) -> Result<Option<Newest>, AuditError> {
        let place = Key::AuditSegment(place(newest.number));
        let at = entries.last().map_or(0, |entry| entry.at_ms);
        let kept_until = Timestamp::from_millis(at).saturating_add(self.kept);
        let (swapped, length) = match &newest.stored {
            Stored::Segment { length } => {
                let lines = lines(entries)?;
                let swapped = self.store.extend(&place, *length, &lines, kept_until).await?;
                (swapped, length.saturating_add(lines.len()))
            }
            Stored::Other(replaced) => {
                let segment = [format!("{}\n", newest.number).into_bytes(), lines(entries)?].concat();
                let swapped = self.store.swap(&place, replaced.as_deref(), &segment, Some(kept_until)).await?;
                (swapped, segment.len())
            }
        };
        let entries = newest.entries.saturating_add(entries.len());
        let newest = Newest { entries, stored: Stored::Segment { length }, ..newest };
        Ok((swapped == Swapped::Done).then_some(newest))
    }

    /// The newest segment, in one call if its number is the one that it probably has.
    async fn newest(&self) -> Result<Newest, AuditError> {
        let keys = [Key::AuditHead, Key::AuditSegment(place(self.guess))];
        let mut found = self.store.load_many(&keys).await?.into_iter();
        let (head, stored) = (found.next().flatten(), found.next().flatten());
        let number = number(head.as_deref())?;
        let stored =
            if number == self.guess { stored } else { self.store.load(&Key::AuditSegment(place(number))).await? };
        let entries = decode(stored.as_deref(), number)?;
        let (entries, stored) = match (entries, stored) {
            (Some(entries), Some(stored)) => (entries.len(), Stored::Segment { length: stored.len() }),
            (_, stored) => (0, Stored::Other(stored)),
        };
        Ok(Newest { number, head, entries, stored })
    }
}

/// The newest segment, as the store has it.
struct Newest {
    number: u64,
    /// The bytes that say its number.
    head: Option<Vec<u8>>,
    /// How many it holds.
    entries: usize,
    stored: Stored,
}

/// What lies in the place of a segment.
enum Stored {
    /// The segment, of so many bytes.
    Segment { length: usize },
    /// Nothing, or one of an earlier round.
    Other(Option<Vec<u8>>),
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

/// Each on a line of its own.
fn lines(entries: &[Entry]) -> Result<Vec<u8>, AuditError> {
    let mut lines = Vec::new();
    for entry in entries {
        serde_json::to_writer(&mut lines, entry).map_err(|_| AuditError::Record)?;
        lines.push(b'\n');
    }
    Ok(lines)
}

/// The entries of the segment with this number; none if its place holds nothing, or one of an earlier round.
fn decode(stored: Option<&[u8]>, number: u64) -> Result<Option<Vec<Entry>>, AuditError> {
    let Some(stored) = stored else { return Ok(None) };
    let mut parts = serde_json::Deserializer::from_slice(stored);
    if u64::deserialize(&mut parts).map_err(|_| AuditError::Record)? != number {
        return Ok(None);
    }
    let entries = parts.into_iter().collect::<Result<_, _>>().map_err(|_| AuditError::Record)?;
    Ok(Some(entries))
}

#[cfg(test)]
mod tests;
