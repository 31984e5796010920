//! Answers by idempotency key (draft-ietf-httpapi-idempotency-key-header): the same request again gets the same answer
//! again, without a second effect.
//!
//! A record is kept under a hash of client and key, sealed, since an answer may hold tokens: to make them again instead,
//! the time and randomness of the first run would have to be kept, which are as good as the tokens. While the first run
//! is at work its record says so, for a minute at most.
//!
//! Invariant (I10): the store holds neither keys nor answers in clear.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use aws_lc_rs::digest;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use serde::{Deserialize, Serialize};
use shared::time::Timestamp;

use crate::{
    config::Limits,
    keys::{AnswerSealer, SealError},
    store::{AnyStore, Key, StoreError, Swapped},
};

/// How long a first run is waited for: longer than any request may take.
const AT_WORK: Duration = Duration::from_secs(150);

/// The largest answer that is kept; every answer to a POST is far smaller.
const ANSWER_BYTES_MAX: usize = 32 * 1024;

/// An answer as it is given again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Headers that go with it.
    pub headers: Vec<(String, String)>,
    /// JSON text.
    pub body: String,
}

/// What there is of a request that names an idempotency key.
pub enum Claim {
    /// Nothing: it is to be run.
    New(Claimed),
    /// It was run, with this answer.
    Answered(Answer),
    /// Another request had the same key.
    OtherRequest,
    /// It is being run.
    AtWork,
    /// As many answers are kept as may be; the time until there is place.
    Full(Duration),
}

/// The right to run a request, and to keep its answer.
pub struct Claimed {
    record: [u8; 32],
    fingerprint: String,
    stored: Vec<u8>,
}

/// Why an answer is not kept or found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdempotencyError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A record does not open.
    #[error("a kept answer cannot be opened: {0}")]
    Seal(#[from] SealError),
    /// A record is none, or an answer is too large.
    #[error("a kept answer cannot be read or written")]
    Record,
}

#[derive(Serialize, Deserialize)]
struct Record {
    fingerprint: String,
    answer: Option<Answer>,
}

/// Keeps and finds answers.
pub struct Answers {
    store: Arc<AnyStore>,
    sealer: AnswerSealer,
    kept: Duration,
    places: DefaultDirectRateLimiter,
}

impl Answers {
    /// Over a store.
    pub fn new(store: Arc<AnyStore>, sealer: AnswerSealer, limits: &Limits) -> Self {
        let kept = Duration::from_secs(limits.idempotency_s);
        let max = u32::try_from(limits.idempotency_answers).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN);
        // Places come back evenly over the time that an answer is kept.
        let quota = Quota::with_period(kept / max.get()).unwrap_or(Quota::per_second(max)).allow_burst(max);
        Self { store, sealer, kept, places: RateLimiter::direct(quota) }
    }

    /// Claims the right to run a request.
    ///
    /// # Errors
    ///
    /// The store, or a record that does not open.
    pub async fn claim(
        &self,
        client: &str,
        key: &str,
        request: &[&[u8]],
        now: Timestamp,
    ) -> Result<Claim, IdempotencyError> {
        let record = hash(&[client.as_bytes(), key.as_bytes()]);
        let fingerprint = hash(request).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let place = Key::IdempotentAnswer(record);
        if let Some(stored) = self.store.load(&place).await? {
            return self.found(&record, &fingerprint, &stored);
        }
        if let Err(full) = self.places.check() {
            return Ok(Claim::Full(
                full.wait_time_from(governor::clock::Clock::now(&governor::clock::DefaultClock::default())),
            ));
        }
        let at_work = self.seal(&record, &Record { fingerprint: fingerprint.clone(), answer: None })?;
        match self.store.swap(&place, None, &at_work, Some(now.saturating_add(AT_WORK))).await? {
            Swapped::Done => Ok(Claim::New(Claimed { record, fingerprint, stored: at_work })),
            Swapped::Conflict => Ok(Claim::AtWork),
        }
    }

    /// Keeps the answer of a request that was run.
    ///
    /// # Errors
    ///
    /// The store, or an answer that is too large.
    pub async fn keep(&self, claimed: Claimed, answer: Answer, now: Timestamp) -> Result<(), IdempotencyError> {
        let done = self.seal(&claimed.record, &Record { fingerprint: claimed.fingerprint, answer: Some(answer) })?;
        if done.len() > ANSWER_BYTES_MAX {
            return Err(IdempotencyError::Record);
        }
        let place = Key::IdempotentAnswer(claimed.record);
        self.store.swap(&place, Some(&claimed.stored), &done, Some(now.saturating_add(self.kept))).await?;
        Ok(())
    }

    /// Gives the right back, for a request whose answer is not to be given again.
    ///
    /// # Errors
    ///
    /// The store.
    pub async fn release(&self, claimed: Claimed, now: Timestamp) -> Result<(), IdempotencyError> {
        // Bytes whose time is over are gone.
        let place = Key::IdempotentAnswer(claimed.record);
        self.store.swap(&place, Some(&claimed.stored), b"", Some(now)).await?;
        Ok(())
    }

    fn found(&self, record: &[u8; 32], fingerprint: &str, stored: &[u8]) -> Result<Claim, IdempotencyError> {
        let plain = self.sealer.open(record, stored)?;
        let found: Record = serde_json::from_slice(&plain).map_err(|_| IdempotencyError::Record)?;
        Ok(match found.answer {
            _ if found.fingerprint != fingerprint => Claim::OtherRequest,
            Some(answer) => Claim::Answered(answer),
            None => Claim::AtWork,
        })
    }

    fn seal(&self, record: &[u8; 32], content: &Record) -> Result<Vec<u8>, IdempotencyError> {
        let plain = serde_json::to_vec(content).map(zeroize::Zeroizing::new).map_err(|_| IdempotencyError::Record)?;
        Ok(self.sealer.seal(record, &plain)?)
    }
}

/// SHA-256 over parts, each with its length before it, so that no two lists of parts run together.
fn hash(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        context.update(part);
    }
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    out
}
