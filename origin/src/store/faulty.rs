//! A store in memory that fails on demand, for tests: before a write, after it, with a conflict, or by taking its time.
//!
//! Without a fault it keeps the contract of every store. Writes are counted from the moment a fault is armed, so a test can
//! let each write of a command fail in turn.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Bound,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use shared::{
    feed::{Cursor, Epoch},
    id::{SessionId, SubjectId},
    revocation::{Floor, FloorKey},
    time::Timestamp,
};
use tokio::sync::{Notify, watch};

use super::{Answer, Entries, Indexed, Kept, Key, LogRead, Place, Scanned, Snapshot, Store, StoreError, Swapped};
use crate::shell;

/// What goes wrong with one write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It does not happen, and says so.
    Before,
    /// It happens, and the error says that it may have.
    After,
    /// A swap says that another writer came first; nothing is written.
    Conflict,
    /// It happens only when the test says so.
    Held,
}

/// The store; clones share everything.
#[derive(Clone)]
pub(crate) struct FaultyStore(Arc<Inner>);

struct Inner {
    state: Mutex<State>,
    head: watch::Sender<Cursor>,
    calls: AtomicU64,
    /// By so many milliseconds its clock is ahead.
    ahead_ms: AtomicU64,
    held: Notify,
    released: Notify,
}

/// Everything that a store holds.
#[derive(Clone)]
pub(crate) struct State {
    epoch: Epoch,
    head: Cursor,
    records: HashMap<Key, (Vec<u8>, Option<Timestamp>)>,
    log: BTreeMap<Cursor, (Floor, Timestamp)>,
    floors: BTreeMap<FloorKey, Floor>,
    index: BTreeMap<(SubjectId, SessionId), Timestamp>,
    armed: Option<(usize, Fault)>,
}

impl FaultyStore {
    /// An empty one.
    pub(crate) fn new() -> Self {
        let state = Mutex::new(State::new(Epoch(1)));
        let (head, _) = watch::channel(Cursor(0));
        let (calls, ahead_ms) = (AtomicU64::new(0), AtomicU64::new(0));
        Self(Arc::new(Inner { state, head, calls, ahead_ms, held: Notify::new(), released: Notify::new() }))
    }

    /// Lets the write number `nth` from now, counted from 0, go wrong.
    pub(crate) fn arm(&self, fault: Fault, nth: usize) {
        self.state().armed = Some((nth, fault));
    }

    /// Whether the armed fault has not come about yet; disarms it.
    pub(crate) fn disarm(&self) -> bool {
        self.state().armed.take().is_some()
    }

    /// Returns when a write is held.
    pub(crate) async fn held(&self) {
        self.0.held.notified().await;
    }

    /// Lets the held write happen.
    pub(crate) fn release(&self) {
        self.0.released.notify_one();
    }

    /// Jumps: from now on its clock is ahead by so much.
    pub(crate) fn set_ahead(&self, ahead: Duration) {
        self.0.ahead_ms.store(ahead.as_millis() as u64, Ordering::Relaxed);
    }

    /// What time it is by its clock.
    fn reading(&self) -> Timestamp {
        shell::now().saturating_add(Duration::from_millis(self.0.ahead_ms.load(Ordering::Relaxed)))
    }

    /// Drops the entries of the log up to a position, as if they were old.
    pub(crate) fn trim_log(&self, upto: Cursor) {
        self.state().log.retain(|position, _| *position > upto);
    }

    /// What it holds now.
    pub(crate) fn backup(&self) -> State {
        self.state().clone()
    }

    /// Puts back what it held once.
    pub(crate) fn restore(&self, backup: State) {
        self.0.head.send_replace(backup.head);
        *self.state() = backup;
    }

    /// Loses everything; the log that begins has a higher epoch.
    pub(crate) fn empty(&self) {
        let epoch = self.state().epoch.0 + 1;
        self.restore(State::new(Epoch(epoch)));
    }

    /// Loses the log and the floors, not the records.
    pub(crate) fn lose_log(&self, epoch: Epoch) {
        let mut state = self.state();
        *state = State { records: std::mem::take(&mut state.records), ..State::new(epoch) };
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read<T: Send + 'static>(&self, work: impl FnOnce(&State) -> T) -> Answer<'_, T> {
        self.0.calls.fetch_add(1, Ordering::Relaxed);
        let done = work(&self.state());
        Box::pin(async {
            // As over a network, others go on between a question and its answer.
            tokio::task::yield_now().await;
            Ok(done)
        })
    }

    /// A write; `conflict` is what a conflict answers, for those that can have one.
    fn write<'a, T: Send + 'a>(
        &'a self,
        conflict: Option<T>,
        work: impl FnOnce(&mut State) -> T + Send + 'a,
    ) -> Answer<'a, T> {
        self.0.calls.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move {
            match (self.next_fault(conflict.is_some()), conflict) {
                (Some(Fault::Before), _) => return Err(StoreError::Unavailable("a fault before the write".to_owned())),
                (Some(Fault::Conflict), Some(conflict)) => return Ok(conflict),
                (Some(Fault::Held), _) => {
                    self.0.held.notify_one();
                    self.0.released.notified().await;
                }
                (Some(Fault::After), _) => {
                    self.perform(work);
                    return Err(StoreError::OutcomeUnknown("a fault after the write".to_owned()));
                }
                (Some(Fault::Conflict) | None, _) => {}
            }
            Ok(self.perform(work))
        })
    }

    fn perform<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state();
        let done = work(&mut state);
        let head = state.head;
        drop(state);
        self.0.head.send_replace(head);
        done
    }

    /// The fault of this write, if it is the one that was armed. Writes that cannot conflict do not count for a conflict.
    fn next_fault(&self, can_conflict: bool) -> Option<Fault> {
        let mut state = self.state();
        let (nth, fault) = state.armed?;
        if fault == Fault::Conflict && !can_conflict {
            return None;
        }
        state.armed = nth.checked_sub(1).map(|nth| (nth, fault));
        state.armed.is_none().then_some(fault)
    }
}

impl State {
    fn new(epoch: Epoch) -> Self {
        Self {
            epoch,
            head: Cursor(0),
            records: HashMap::new(),
            log: BTreeMap::new(),
            floors: BTreeMap::new(),
            index: BTreeMap::new(),
            armed: None,
        }
    }

    fn load(&self, key: &Key, now: Timestamp) -> Option<Vec<u8>> {
        let (value, expires_at) = self.records.get(key)?;
        if expires_at.is_some_and(|end| now.has_reached(end)) { None } else { Some(value.clone()) }
    }

    fn append(&mut self, floor: &Floor, now: Timestamp) {
        self.head = Cursor(self.head.0 + 1);
        self.log.insert(self.head, (*floor, now));
        let held = self.floors.entry(floor.key).or_insert(*floor);
        held.lowest = held.lowest.max(floor.lowest);
        held.forget_at = held.forget_at.max(floor.forget_at);
    }

    fn entries(&self, after: Cursor, max: usize) -> Entries {
        let mut floors = Vec::new();
        for (position, (floor, _)) in self.log.range((Bound::Excluded(after), Bound::Unbounded)).take(max) {
            if position.0 != after.0 + floors.len() as u64 + 1 {
                return Entries::SnapshotNeeded;
            }
            floors.push(*floor);
        }
        let gap = floors.is_empty() && after != self.head && max > 0;
        if gap { Entries::SnapshotNeeded } else { Entries::Contiguous(floors) }
    }
}

impl Store for FaultyStore {
    fn load<'a>(&'a self, key: &'a Key) -> Answer<'a, Option<Vec<u8>>> {
        self.read(|state| state.load(key, shell::now()))
    }

    fn load_many<'a>(&'a self, keys: &'a [Key]) -> Answer<'a, Vec<Option<Vec<u8>>>> {
        self.read(|state| keys.iter().map(|key| state.load(key, shell::now())).collect())
    }

    fn swap<'a>(
        &'a self,
        key: &'a Key,
        expected: Option<&'a [u8]>,
        new: &'a [u8],
        expires_at: Option<Timestamp>,
    ) -> Answer<'a, Swapped> {
        self.write(Some(Swapped::Conflict), move |state| {
            if state.load(key, shell::now()).as_deref() != expected {
                return Swapped::Conflict;
            }
            state.records.insert(key.clone(), (new.to_vec(), expires_at));
            Swapped::Done
        })
    }

    fn extend<'a>(&'a self, key: &'a Key, length: usize, more: &'a [u8], expires_at: Timestamp) -> Answer<'a, Swapped> {
        self.write(Some(Swapped::Conflict), move |state| {
            match state.load(key, shell::now()).filter(|value| value.len() == length) {
                Some(mut value) => {
                    value.extend_from_slice(more);
                    state.records.insert(key.clone(), (value, Some(expires_at)));
                    Swapped::Done
                }
                None => Swapped::Conflict,
            }
        })
    }

    fn append<'a>(&'a self, floors: &'a [Floor]) -> Answer<'a, Cursor> {
        self.write(None, move |state| {
            for floor in floors {
                state.append(floor, shell::now());
            }
            state.head
        })
    }

    fn read_log(&self, after: Cursor, max: usize) -> Answer<'_, LogRead> {
        let as_of = self.reading();
        self.read(|state| {
            let entries = state.entries(after, max);
            LogRead { epoch: state.epoch, as_of, head: state.head, entries }
        })
    }

    fn snapshot(&self) -> Answer<'_, Snapshot> {
        let as_of = self.reading();
        self.read(|state| {
            let now = as_of.min(shell::now());
            let floors = state.floors.values().filter(|floor| !now.has_reached(floor.forget_at)).copied().collect();
            Snapshot { epoch: state.epoch, as_of, head: state.head, floors }
        })
    }

    fn renew(&self, known: Epoch) -> Answer<'_, Epoch> {
        self.write(None, move |state| {
            state.epoch = state.epoch.max(Epoch(known.0 + 1));
            state.epoch
        })
    }

    fn trim(&self, now: Timestamp) -> Answer<'_, u64> {
        let dropped = self.perform(|state| {
            let before = state.floors.len() + state.log.len();
            state.floors.retain(|_, floor| !now.has_reached(floor.forget_at));
            state.log.retain(|_, (_, at)| !now.has_reached(at.saturating_add(Duration::from_secs(600))));
            before - state.floors.len() - state.log.len()
        });
        Box::pin(async move { Ok(dropped as u64) })
    }

    fn wait_for_append(&self, after: Cursor, at_most: Duration) -> Answer<'_, ()> {
        let mut head = self.0.head.subscribe();
        Box::pin(async move {
            let _ = tokio::time::timeout(at_most, head.wait_for(|head| *head != after)).await;
            Ok(())
        })
    }

    fn index_add<'a>(
        &'a self,
        subject: &'a SubjectId,
        session: &'a SessionId,
        expires_at: Timestamp,
    ) -> Answer<'a, ()> {
        self.write(None, move |state| {
            state.index.insert((subject.clone(), *session), expires_at);
        })
    }

    fn index_remove<'a>(&'a self, subject: &'a SubjectId, session: &'a SessionId) -> Answer<'a, ()> {
        self.write(None, move |state| {
            state.index.remove(&(subject.clone(), *session));
        })
    }

    fn index_list<'a>(
        &'a self,
        subject: &'a SubjectId,
        after: Option<Indexed>,
        max: usize,
    ) -> Answer<'a, Vec<Indexed>> {
        let now = shell::now();
        self.read(|state| {
            let of_subject = state.index.iter().filter(|((of, _), end)| of == subject && !now.has_reached(**end));
            let mut found: Vec<_> =
                of_subject.map(|((_, session), end)| Indexed { expires_at: *end, session: *session }).collect();
            found.retain(|entry| after.is_none_or(|after| *entry < after));
            found.sort_unstable_by(|a, b| b.cmp(a));
            found.truncate(max);
            found
        })
    }

    fn scan(&self, _: Place) -> Answer<'_, Scanned> {
        let now = shell::now();
        self.read(|state| {
            let record = |(key, (value, end)): (&Key, &(Vec<u8>, Option<Timestamp>))| {
                let (key, value, expires_at) = (key.clone(), value.clone(), *end);
                Kept::Record { key, value, expires_at }
            };
            let live = state.records.iter().filter(|(_, (_, end))| end.is_none_or(|end| !now.has_reached(end)));
            let indexed =
                state.index.iter().filter(|(_, end)| !now.has_reached(**end)).map(|((subject, session), end)| {
                    Kept::Indexed { subject: subject.clone(), session: *session, expires_at: *end }
                });
            Scanned { kept: live.map(record).chain(indexed).collect(), next: None }
        })
    }

    fn ping(&self) -> Answer<'_, ()> {
        self.read(|_| ())
    }

    fn round_trips(&self) -> u64 {
        self.0.calls.load(Ordering::Relaxed)
    }
}

mod tests {
    use super::*;
    use crate::store::{AnyStore, contract};

    #[tokio::test]
    async fn without_a_fault_it_keeps_the_contract() {
        contract::check(&AnyStore::new(FaultyStore::new())).await;
    }

    /// I6 of the port: each fault does what its name says, to the write it was armed for and to no other.
    #[tokio::test]
    async fn each_fault_does_what_it_says_once() {
        let store = FaultyStore::new();
        store.arm(Fault::Before, 1);
        assert_eq!(store.append(&[contract::floor(1, 1)]).await, Ok(Cursor(1)));
        let failed = store.append(&[contract::floor(1, 2)]).await;
        assert!(failed.is_err_and(|error| !error.may_have_happened()));
        assert_eq!(store.snapshot().await.unwrap().head, Cursor(1));

        store.arm(Fault::After, 0);
        let failed = store.append(&[contract::floor(1, 2)]).await;
        assert!(failed.is_err_and(|error| error.may_have_happened()));
        assert_eq!(store.snapshot().await.unwrap().head, Cursor(2));

        store.arm(Fault::Conflict, 0);
        store.append(&[contract::floor(1, 3)]).await.unwrap();
        assert_eq!(store.swap(&Key::Keys, None, b"a", None).await, Ok(Swapped::Conflict));
        assert_eq!(store.swap(&Key::Keys, None, b"a", None).await, Ok(Swapped::Done));
        assert!(!store.disarm());

        store.arm(Fault::Held, 0);
        let swap = async { store.swap(&Key::Keys, Some(b"a"), b"c", None).await };
        let other = async {
            store.held().await;
            assert_eq!(store.swap(&Key::Keys, Some(b"a"), b"b", None).await, Ok(Swapped::Done));
            store.release();
        };
        assert_eq!(tokio::join!(swap, other).0, Ok(Swapped::Conflict));
        store.trim_log(Cursor(2));
        assert_eq!(store.read_log(Cursor(0), 9).await.unwrap().entries, Entries::SnapshotNeeded);
    }
}
