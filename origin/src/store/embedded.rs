//! The store in one SQLite file: no server, crash-safe, for one process.
//!
//! One thread writes: it takes every call that is waiting, works on all of them in one transaction, and answers after the
//! commit, so that many callers share one flush to disk. One thread reads, with its own connection.
//!
//! Invariant (I6): a write is answered after the commit with `synchronous=FULL`; a commit that fails is
//! [`StoreError::OutcomeUnknown`] for every call in it.

mod examine;
mod log;
mod scan;
mod values;
mod worker;

use std::{
    ffi::OsString,
    fs::{File, TryLockError},
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use rusqlite::{Connection, OpenFlags};
use shared::{
    feed::{Cursor, Epoch},
    id::{SessionId, SubjectId},
    revocation::Floor,
    time::Timestamp,
};
use tokio::sync::watch;

pub(super) use self::examine::examine;
use self::worker::{Reader, Writer};
use super::{Answer, Indexed, Key, LogRead, Place, Scanned, Snapshot, Store, StoreError, Swapped, Usage};
use crate::shell;

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, number INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS records (key BLOB PRIMARY KEY, value BLOB NOT NULL, expires_at INTEGER) STRICT, WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS records_by_expiry ON records (expires_at) WHERE expires_at IS NOT NULL;
    CREATE TABLE IF NOT EXISTS log (position INTEGER PRIMARY KEY, floor BLOB NOT NULL, at INTEGER NOT NULL) STRICT;
    CREATE TABLE IF NOT EXISTS floors (key BLOB PRIMARY KEY, floor BLOB NOT NULL, forget_at INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS sessions (subject BLOB, session BLOB, expires_at INTEGER NOT NULL, PRIMARY KEY (subject, session)) STRICT, WITHOUT ROWID;
";

/// The embedded store.
pub(crate) struct EmbeddedStore {
    writer: Writer,
    reader: Reader,
    head: watch::Sender<Cursor>,
    calls: AtomicU64,
    /// Held as long as the store is open.
    _lock: File,
}

impl EmbeddedStore {
    /// Opens or makes the file.
    ///
    /// # Errors
    ///
    /// Another process has it open, or it cannot be read or made.
    pub(crate) async fn open(path: &Path, timeout: Duration) -> Result<Self, StoreError> {
        let lock = lock(path)?;
        let connection = connect(path, timeout, OpenFlags::default())?;
        examine::check_durability(&connection)?;
        connection.execute_batch(SCHEMA).map_err(unusable)?;
        log::prepare(&connection, shell::now()).map_err(unusable)?;
        let head = log::head(&connection).map_err(unusable)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let reader = Reader::start(connect(path, timeout, flags)?, timeout);
        let writer = Writer::start(connection, timeout);
        let (head, _) = watch::channel(head);
        Ok(Self { writer, reader, head, calls: AtomicU64::new(0), _lock: lock })
    }

    fn count(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
    }
}

impl Store for EmbeddedStore {
    fn load<'a>(&'a self, key: &'a Key) -> Answer<'a, Option<Vec<u8>>> {
        self.count();
        let key = key.to_bytes();
        Box::pin(self.reader.call(move |connection| values::load(connection, &key, shell::now())))
    }

    fn load_many<'a>(&'a self, keys: &'a [Key]) -> Answer<'a, Vec<Option<Vec<u8>>>> {
        self.count();
        let keys: Vec<_> = keys.iter().map(Key::to_bytes).collect();
        Box::pin(self.reader.call(move |connection| {
            let now = shell::now();
            keys.iter().map(|key| values::load(connection, key, now)).collect()
        }))
    }

    fn swap<'a>(
        &'a self,
        key: &'a Key,
        expected: Option<&'a [u8]>,
        new: &'a [u8],
        expires_at: Option<Timestamp>,
    ) -> Answer<'a, Swapped> {
        self.count();
        let (key, expected, new) = (key.to_bytes(), expected.map(<[u8]>::to_vec), new.to_vec());
        Box::pin(self.writer.call(move |connection| {
            values::swap(connection, &key, expected.as_deref(), &new, expires_at, shell::now())
        }))
    }

    fn extend<'a>(&'a self, key: &'a Key, length: usize, more: &'a [u8], expires_at: Timestamp) -> Answer<'a, Swapped> {
        self.count();
        let (key, more) = (key.to_bytes(), more.to_vec());
        let extend =
            move |connection: &Connection| values::extend(connection, &key, length, &more, expires_at, shell::now());
        Box::pin(self.writer.call(extend))
    }

    fn append<'a>(&'a self, floors: &'a [Floor]) -> Answer<'a, Cursor> {
        self.count();
        let floors = floors.to_vec();
        Box::pin(async move {
            let upto = self.writer.call(move |connection| log::append(connection, &floors, shell::now())).await?;
            self.head.send_if_modified(|head| {
                let grown = upto > *head;
                *head = upto.max(*head);
                grown
            });
            Ok(upto)
        })
    }

    fn read_log(&self, after: Cursor, max: usize) -> Answer<'_, LogRead> {
        self.count();
        Box::pin(self.reader.call(move |connection| {
            let (as_of, epoch) = (shell::now(), log::epoch(connection)?);
            let (head, entries) = log::read(connection, after, max)?;
            Ok(LogRead { epoch, as_of, head, entries })
        }))
    }

    fn snapshot(&self) -> Answer<'_, Snapshot> {
        self.count();
        Box::pin(self.reader.call(move |connection| {
            let (as_of, epoch) = (shell::now(), log::epoch(connection)?);
            let (head, floors) = log::floors(connection, as_of)?;
            Ok(Snapshot { epoch, as_of, head, floors })
        }))
    }

    fn renew(&self, known: Epoch) -> Answer<'_, Epoch> {
        self.count();
        Box::pin(self.writer.call(move |connection| log::renew(connection, known, shell::now())))
    }

    fn trim(&self, now: Timestamp) -> Answer<'_, u64> {
        self.count();
        Box::pin(
            self.writer
                .call(move |connection| Ok(log::trim(connection, now)?.saturating_add(values::trim(connection, now)?))),
        )
    }

    fn wait_for_append(&self, after: Cursor, at_most: Duration) -> Answer<'_, ()> {
        let mut head = self.head.subscribe();
        Box::pin(async move {
            let _ = tokio::time::timeout(at_most, head.wait_for(|head| *head > after)).await;
            Ok(())
        })
    }

    fn index_add<'a>(
        &'a self,
        subject: &'a SubjectId,
        session: &'a SessionId,
        expires_at: Timestamp,
    ) -> Answer<'a, ()> {
        self.count();
        let (subject, session) = (subject.clone(), *session);
        Box::pin(self.writer.call(move |connection| values::index_add(connection, &subject, &session, expires_at)))
    }

    fn index_remove<'a>(&'a self, subject: &'a SubjectId, session: &'a SessionId) -> Answer<'a, ()> {
        self.count();
        let (subject, session) = (subject.clone(), *session);
        Box::pin(self.writer.call(move |connection| values::index_remove(connection, &subject, &session)))
    }

    fn index_list<'a>(
        &'a self,
        subject: &'a SubjectId,
        after: Option<Indexed>,
        max: usize,
    ) -> Answer<'a, Vec<Indexed>> {
        self.count();
        let subject = subject.clone();
        let list = move |connection: &Connection| values::index_list(connection, &subject, after, max, shell::now());
        Box::pin(self.reader.call(list))
    }

    fn scan(&self, from: Place) -> Answer<'_, Scanned> {
        self.count();
        Box::pin(async move {
            let page = self.reader.call(move |connection| scan::page(connection, &from, shell::now())).await?;
            page.ok_or(StoreError::Corrupt("a key of another kind"))
        })
    }

    fn usage(&self) -> Answer<'_, Usage> {
        self.count();
        Box::pin(self.reader.call(|connection| {
            let number = |pragma| connection.query_row(pragma, [], |row| row.get::<_, i64>(0));
            let bytes = number("PRAGMA page_count")?.saturating_mul(number("PRAGMA page_size")?);
            Ok(Usage { bytes: u64::try_from(bytes).ok(), processor: examine::processor_time() })
        }))
    }

    fn ping(&self) -> Answer<'_, ()> {
        self.count();
        Box::pin(self.reader.call(|connection| connection.query_row("SELECT 1", [], |_| Ok(()))))
    }

    fn round_trips(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }
}

fn lock_file(path: &Path) -> OsString {
    let mut name = OsString::from(path);
    name.push(".lock");
    name
}

/// Whether a process has the file open.
fn is_locked(path: &Path) -> Result<bool, StoreError> {
    let Ok(file) = File::open(lock_file(path)) else { return Ok(false) };
    match file.try_lock() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(StoreError::Unsuitable(format!("it cannot be locked: {error}"))),
    }
}

/// A second process would not hear of the first one's appends.
fn lock(path: &Path) -> Result<File, StoreError> {
    let name = lock_file(path);
    let file = File::options().create(true).truncate(false).write(true).open(&name);
    let file = file.map_err(|error| StoreError::Unsuitable(format!("its lock file cannot be made: {error}")))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::Unsuitable("another process has it open".to_owned())),
        Err(TryLockError::Error(error)) => Err(StoreError::Unsuitable(format!("it cannot be locked: {error}"))),
    }
}

fn connect(path: &Path, timeout: Duration, flags: OpenFlags) -> Result<Connection, StoreError> {
    let connection = Connection::open_with_flags(path, flags).map_err(unusable)?;
    // Half of the caller's patience, so that it hears of the failure before its own deadline.
    connection.busy_timeout(timeout / 2).map_err(unusable)?;
    if flags.contains(OpenFlags::SQLITE_OPEN_READ_WRITE) {
        connection.pragma_update(None, "journal_mode", "WAL").map_err(unusable)?;
        connection.pragma_update(None, "synchronous", "FULL").map_err(unusable)?;
    }
    Ok(connection)
}

fn unusable(error: rusqlite::Error) -> StoreError {
    StoreError::Unsuitable(error.to_string())
}

#[cfg(test)]
mod tests;
