//! The change of one record together with the floors that it raises.

use std::time::{Duration, Instant};

use metrics::counter;
use shared::{
    codec::{CodecError, Record},
    feed::Cursor,
    revocation::{Floor, FloorKey, ScopeKind, Version},
    time::Timestamp,
};

use super::{ATTEMPTS, Service, ServiceError};
use crate::{
    failpoints, shell,
    store::{Key, Swapped, Written},
    telemetry::metrics::{COMMIT_CONFLICTS, FLOORS_APPENDED},
};

/// What a command came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// The floors of the scopes that it concerned.
    pub floors: Vec<(ScopeKind, Version)>,
    /// The log's position at which they stand at the latest.
    pub cursor: Cursor,
    /// Whether anything was written; a repeat writes nothing.
    pub written: bool,
    /// Whether a floor was raised.
    pub(super) raised: bool,
    /// When both log and record were written.
    pub acknowledged_at: Timestamp,
    /// What the parts took.
    pub timings: Timings,
}

impl Changed {
    /// Whether this call raised a floor.
    pub(super) fn raised(&self) -> bool {
        self.raised
    }
}

/// What the parts of a change took, over all attempts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timings {
    /// Reading the record.
    pub load: Duration,
    /// Appending to the log.
    pub log: Duration,
    /// Writing the record.
    pub record: Duration,
}

/// What a rule made of a record.
pub(super) struct Change<R> {
    /// The record to write; none if it stays as it is.
    pub(super) record: Option<R>,
    /// The scope and its new floor, raised before the record is written.
    pub(super) raise: Option<Version>,
    /// The floor that stands if nothing is raised.
    pub(super) stands: Version,
}

/// What is changed.
pub(super) struct Target {
    pub(super) key: Key,
    pub(super) scope: ScopeKind,
    pub(super) floor_key: FloorKey,
}

impl Service {
    /// Changes a record by a rule of `(record, floor of its scope)`, as often as other writers come first.
    ///
    /// # Errors
    ///
    /// What the rule refuses, or the store.
    pub(super) async fn change<R: Record + Clone>(
        &self,
        target: &Target,
        now: Timestamp,
        rule: impl Fn(Option<R>, Version) -> Result<Change<R>, ServiceError>,
        expires_at: impl Fn(&R) -> Option<Timestamp>,
    ) -> Result<(Changed, Option<R>), ServiceError> {
        let mut timings = Timings::default();
        let mut cursor = self.feed.cursor();
        let mut appended = false;
        for _ in 0..ATTEMPTS {
            let started = Instant::now();
            let stored = self.store.load(&target.key).await.map_err(|error| error.after(appended))?;
            timings.load += started.elapsed();
            let record = stored.as_deref().map(R::decode).transpose().map_err(ServiceError::Record)?;
            let floor = self.feed.lowest(&target.floor_key);
            let change = rule(record.clone(), floor)?;

            let raised = change.raise.is_some();
            if let Some(lowest) = change.raise {
                let started = Instant::now();
                cursor = self.raise(&[self.floor(target.floor_key, lowest, now)]).await?;
                appended = true;
                timings.log += started.elapsed();
            }
            failpoints::reached(failpoints::BETWEEN_LOG_AND_RECORD);
            let Some(new) = change.record else {
                if !raised {
                    // It was written before, by a command that may not have heard of its end.
                    self.store.confirm(Written::AfterFloors(&target.key)).await?;
                }
                let floors = vec![(target.scope, change.raise.unwrap_or(change.stands))];
                let changed =
                    Changed { floors, cursor, written: raised, raised, acknowledged_at: shell::now(), timings };
                return Ok((changed, record));
            };
            let started = Instant::now();
            let bytes = encode(&new)?;
            let swapped = self.store.swap(&target.key, stored.as_deref(), &bytes, expires_at(&new)).await;
            let swapped = swapped.map_err(|error| error.after(appended))?;
            timings.record += started.elapsed();
            if swapped == Swapped::Done {
                failpoints::reached(failpoints::AFTER_CHANGE);
                let floors = vec![(target.scope, change.raise.unwrap_or(change.stands))];
                let changed = Changed { floors, cursor, written: true, raised, acknowledged_at: shell::now(), timings };
                return Ok((changed, Some(new)));
            }
            counter!(COMMIT_CONFLICTS).increment(1);
        }
        Err(ServiceError::Contended)
    }

    /// Appends floors to the log and holds them in memory; the position of the last.
    pub(super) async fn raise(&self, floors: &[Floor]) -> Result<Cursor, ServiceError> {
        self.feed.check_room(floors.len())?;
        let cursor = self.store.append(floors).await?;
        counter!(FLOORS_APPENDED).increment(u64::try_from(floors.len()).unwrap_or(u64::MAX));
        self.feed.learn(floors)?;
        Ok(cursor)
    }
}

/// The bytes of a record; one that is too large is the caller's doing.
pub(super) fn encode<R: Record>(record: &R) -> Result<Vec<u8>, ServiceError> {
    record.encode().map_err(|error| match error {
        CodecError::TooLarge { .. } => ServiceError::TooLarge(error),
        CodecError::Format(_) | CodecError::Corrupt => ServiceError::Record(error),
    })
}
