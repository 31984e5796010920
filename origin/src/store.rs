//! The store: bytes under typed keys with revisions by content, a log of floors, an index of sessions by subject.
//!
//! It knows nothing of sessions. Every backend keeps these promises, and one contract suite checks them on all of them:
//!
//! Invariant: [`Store::swap`] writes only over exactly the bytes that were expected; nothing is written otherwise.
//! Invariant (I4): the log is append-only with consecutive positions in one epoch; after a loss the epoch is another one.
//! What a backend cannot notice by itself (a file that was put back) its users do, and ask for another epoch.
//! Invariant (I6): an error says whether the write may have happened; an acknowledged write is kept.

pub(crate) mod agreed;
pub mod doctor;
mod embedded;
mod error;
mod key;
mod redis;
pub(crate) mod watch;

#[cfg(test)]
pub(crate) mod contract;
#[cfg(test)]
pub(crate) mod faulty;

use std::{future::Future, ops::Deref, pin::Pin, sync::Arc, time::Duration};

use shared::{
    feed::{Cursor, Epoch},
    id::{SessionId, SubjectId},
    revocation::Floor,
    time::Timestamp,
};

#[cfg(test)]
pub(crate) use self::redis::test_server;
pub use self::{error::StoreError, key::Key};
use crate::config;

/// An answer of the store, some time later.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// A session in the index of its subject. The order is that of expiry, and of the ids where that is the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Indexed {
    /// When its time is over.
    pub expires_at: Timestamp,
    /// Which.
    pub session: SessionId,
}

/// What a compare-and-swap came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Swapped {
    /// The new value is kept.
    Done,
    /// The store holds other bytes than were expected; nothing was written.
    Conflict,
}

/// Something that a command finds written already, and is about to tell of.
#[derive(Debug, Clone, Copy)]
pub enum Written<'a> {
    /// A record.
    Record(&'a Key),
    /// A record, and the floors that were appended before it.
    AfterFloors(&'a Key),
}

/// A piece of the log and how far it reaches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRead {
    /// The log that was read.
    pub epoch: Epoch,
    /// The store's clock, read before anything else: every floor acknowledged up to then is at or before `head`.
    pub as_of: Timestamp,
    /// The newest position of the log.
    pub head: Cursor,
    /// The entries after the position that was asked for.
    pub entries: Entries,
}

/// The entries of a read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entries {
    /// The floors of `after + 1`, `after + 2` and so on, without a gap; complete if they reach `head`.
    Contiguous(Vec<Floor>),
    /// The log no longer reaches back to the position, or the position lies ahead of it.
    SnapshotNeeded,
}

/// Every live floor, complete up to `head`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The log that was read.
    pub epoch: Epoch,
    /// The store's clock, read before anything else.
    pub as_of: Timestamp,
    /// The position up to which the floors are complete; later ones may be among them.
    pub head: Cursor,
    /// At most one floor per key, in any order.
    pub floors: Vec<Floor>,
}

/// One thing that a store keeps, beside its log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// A value under a key.
    Record {
        /// The key.
        key: Key,
        /// The value.
        value: Vec<u8>,
        /// How long it is kept; none for ever.
        expires_at: Option<Timestamp>,
    },
    /// A session that is noted for a subject.
    Indexed {
        /// The subject.
        subject: SubjectId,
        /// The session.
        session: SessionId,
        /// Until when.
        expires_at: Timestamp,
    },
}

/// Where a scan goes on; means something to the store that gave it only. The default is the beginning.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place(Vec<u8>);

/// A piece of a scan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scanned {
    /// Some of what is kept; may be nothing before the end.
    pub kept: Vec<Kept>,
    /// Where the rest begins; none at the end.
    pub next: Option<Place>,
}

/// What a store has used up so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes that everything in it takes; none where others write too, or if it is not told.
    pub bytes: Option<u64>,
    /// Time of the processor that waits on calls, of all servers; none if it is not told.
    pub processor: Option<Duration>,
}

/// A backend.
pub trait Store: Send + Sync {
    /// The value under a key; none if there is none or its time is over.
    ///
    /// # Errors
    ///
    /// [`StoreError`], as for every method here.
    fn load<'a>(&'a self, key: &'a Key) -> Answer<'a, Option<Vec<u8>>>;

    /// The values of several keys, in one round trip if the backend can.
    fn load_many<'a>(&'a self, keys: &'a [Key]) -> Answer<'a, Vec<Option<Vec<u8>>>>;

    /// Writes `new` if the key holds exactly `expected` (none: nothing), kept until `expires_at` if given. The record of a
    /// subject is kept for good: what is noted of the subject may go with it.
    fn swap<'a>(
        &'a self,
        key: &'a Key,
        expected: Option<&'a [u8]>,
        new: &'a [u8],
        expires_at: Option<Timestamp>,
    ) -> Answer<'a, Swapped>;

    /// Writes `more` behind a value of exactly `length` bytes, at least one, kept until `expires_at` from then on. Only for
    /// values that are extended, or replaced by shorter ones: the length has to say whether it is the one that is meant.
    fn extend<'a>(&'a self, key: &'a Key, length: usize, more: &'a [u8], expires_at: Timestamp) -> Answer<'a, Swapped>;

    /// Appends floors in order, each at the next position; the position of the last one, or the head if none is given.
    fn append<'a>(&'a self, floors: &'a [Floor]) -> Answer<'a, Cursor>;

    /// Waits until something that was written before, by whomever, is as safe as if it were written now.
    fn confirm<'a>(&'a self, _written: Written<'a>) -> Answer<'a, ()> {
        // What can be read was committed.
        Box::pin(async { Ok(()) })
    }

    /// At most `max` entries after a position.
    fn read_log(&self, after: Cursor, max: usize) -> Answer<'_, LogRead>;

    /// Every live floor.
    fn snapshot(&self) -> Answer<'_, Snapshot>;

    /// Gives the log an epoch above `known`, unless it has one; positions and floors stay. For a log in which positions no
    /// longer mean what they did. The epoch that the log has now.
    fn renew(&self, known: Epoch) -> Answer<'_, Epoch>;

    /// Forgets floors whose time is over, and entries of the log that a snapshot stands for; of what else is over, at least
    /// some, so that after enough calls it is gone. Returns how much was dropped, of floors and entries at least.
    fn trim(&self, now: Timestamp) -> Answer<'_, u64>;

    /// Returns when the log has grown past a position, or after `at_most`; the caller reads it either way.
    fn wait_for_append(&self, after: Cursor, at_most: Duration) -> Answer<'_, ()>;

    /// Notes a session of a subject until `expires_at`; noting it again moves the time.
    fn index_add<'a>(&'a self, subject: &'a SubjectId, session: &'a SessionId, expires_at: Timestamp)
    -> Answer<'a, ()>;

    /// Forgets a session of a subject; fine if it was not noted.
    fn index_remove<'a>(&'a self, subject: &'a SubjectId, session: &'a SessionId) -> Answer<'a, ()>;

    /// At most `max` sessions of a subject whose time is not over, those that expire last first: of all, or of those after
    /// one that was listed before.
    fn index_list<'a>(&'a self, subject: &'a SubjectId, after: Option<Indexed>, max: usize)
    -> Answer<'a, Vec<Indexed>>;

    /// Everything that is kept, piece by piece. What is written or forgotten meanwhile may or may not be part of it; a store
    /// that nobody writes to is told whole, though a thing may be told twice.
    fn scan(&self, from: Place) -> Answer<'_, Scanned>;

    /// What decides now whether acknowledged writes are kept; nothing, if that is settled when the store is opened.
    fn durability(&self) -> Answer<'_, doctor::Report> {
        Box::pin(async { Ok(doctor::Report::new(Vec::new(), &[])) })
    }

    /// What the store has used up, for measurements.
    fn usage(&self) -> Answer<'_, Usage> {
        Box::pin(async { Ok(Usage::default()) })
    }

    /// Bytes that a key and its value take, the sessions that are noted before a subject's record among them; none if there is
    /// none or the store does not tell.
    fn size_of<'a>(&'a self, _key: &'a Key) -> Answer<'a, Option<u64>> {
        Box::pin(async { Ok(None) })
    }

    /// Whether the store answers.
    fn ping(&self) -> Answer<'_, ()>;

    /// Calls to the store since it was opened; one per round trip. For tests of what an operation costs.
    fn round_trips(&self) -> u64;
}

/// Any backend, shared.
#[derive(Clone)]
pub struct AnyStore(Arc<dyn Store>);

impl AnyStore {
    /// Opens the store that the configuration names.
    ///
    /// # Errors
    ///
    /// The store cannot be reached or opened, or does not keep what it acknowledges.
    pub async fn open(config: &config::Store) -> Result<Self, StoreError> {
        let url = config.url.expose();
        match url.strip_prefix("embedded:") {
            Some(path) => Ok(Self::new(embedded::EmbeddedStore::open(path.as_ref(), config.timeout()).await?)),
            None => redis::open(config).await,
        }
    }

    /// Reads the address of the store; nothing is connected, made or opened.
    ///
    /// # Errors
    ///
    /// It is malformed, or the file of the certificate authority cannot be read.
    pub fn check(config: &config::Store) -> Result<(), StoreError> {
        match config.url.expose().strip_prefix("embedded:") {
            Some("") => Err(StoreError::Unsuitable("its address names no file".to_owned())),
            Some(_) => Ok(()),
            None => redis::check(config),
        }
    }

    /// Finds out how the store that the configuration names is; a running origin is not disturbed. `skew_max` is how far
    /// the clocks of store and origin may be apart.
    pub async fn examine(config: &config::Store, skew_max: Duration) -> doctor::Report {
        let url = config.url.expose();
        let examined = match url.strip_prefix("embedded:") {
            Some(path) => embedded::examine(path.as_ref(), config.timeout()),
            None => redis::examine(config, skew_max).await,
        };
        examined.unwrap_or_else(|error| doctor::Report::unreachable(&error))
    }

    /// Shares a backend.
    pub fn new(store: impl Store + 'static) -> Self {
        Self(Arc::new(store))
    }
}

impl Deref for AnyStore {
    type Target = dyn Store;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}
