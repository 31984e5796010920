//! The two threads that work on the file.

use std::{
    sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    thread,
    time::Duration,
};

use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::store::StoreError;

/// Calls that may wait for a thread; one more is refused at once.
pub(super) const WAITING_MAX: usize = 1_024;

/// The most calls in one transaction.
const BATCH_MAX: usize = 128;

type SqlResult<T> = rusqlite::Result<T>;

/// Works inside a transaction, if there is one; what it returns answers the caller, by whether the commit succeeded.
type Write = Box<dyn FnOnce(Result<&Connection, &rusqlite::Error>) -> Answer + Send>;
type Answer = Box<dyn FnOnce(Option<&rusqlite::Error>) + Send>;
type Read = Box<dyn FnOnce(&mut Connection) + Send>;

/// Hands calls to the thread that writes.
pub(super) struct Writer {
    calls: SyncSender<Write>,
    timeout: Duration,
}

impl Writer {
    pub(super) fn start(mut connection: Connection, timeout: Duration) -> Self {
        let (calls, waiting) = sync_channel(WAITING_MAX);
        thread::spawn(move || while write_batch(&mut connection, &waiting).is_some() {});
        Self { calls, timeout }
    }

    /// Runs `work` in a transaction; answered after its commit.
    pub(super) async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> SqlResult<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        let write: Write = Box::new(move |connection| {
            // A savepoint of its own: what fails here takes nothing of the others with it.
            let done = match connection {
                Ok(connection) => {
                    savepoint(connection, work).map_err(|error| StoreError::Unavailable(error.to_string()))
                }
                Err(error) => Err(StoreError::Unavailable(error.to_string())),
            };
            Box::new(move |commit| {
                let done = match commit {
                    None => done,
                    Some(error) => done.and(Err(StoreError::OutcomeUnknown(error.to_string()))),
                };
                let _ = answer.send(done);
            })
        });
        self.calls.try_send(write).map_err(|error| refused(&error))?;
        match tokio::time::timeout(self.timeout, answered).await {
            Ok(Ok(done)) => done,
            Ok(Err(_)) => Err(StoreError::OutcomeUnknown("the writing thread ended".to_owned())),
            Err(_) => Err(StoreError::OutcomeUnknown("the deadline passed".to_owned())),
        }
    }
}

fn write_batch(connection: &mut Connection, waiting: &Receiver<Write>) -> Option<()> {
    let first = waiting.recv().ok()?;
    let batch = std::iter::once(first).chain(waiting.try_iter().take(BATCH_MAX.saturating_sub(1)));
    match connection.execute_batch("BEGIN IMMEDIATE") {
        Ok(()) => {
            let answers: Vec<Answer> = batch.map(|write| write(Ok(connection))).collect();
            let committed = connection.execute_batch("COMMIT");
            if committed.is_err() {
                let _ = connection.execute_batch("ROLLBACK");
            }
            for answer in answers {
                answer(committed.as_ref().err());
            }
        }
        // Without a transaction nothing is tried.
        Err(error) => {
            tracing::warn!(event = "store_begin_failed", reason = %error);
            // Whoever is answered may call again at once, and that call is another attempt.
            let failed: Vec<Write> = batch.collect();
            failed.into_iter().for_each(|write| write(Err(&error))(None));
        }
    }
    Some(())
}

fn savepoint<T>(connection: &Connection, work: impl FnOnce(&Connection) -> SqlResult<T>) -> SqlResult<T> {
    connection.execute_batch("SAVEPOINT one")?;
    let done = work(connection);
    connection.execute_batch(if done.is_ok() { "RELEASE one" } else { "ROLLBACK TO one; RELEASE one" })?;
    done
}

/// Hands calls to the thread that reads.
pub(super) struct Reader {
    calls: SyncSender<Read>,
    timeout: Duration,
}

impl Reader {
    pub(super) fn start(mut connection: Connection, timeout: Duration) -> Self {
        let (calls, waiting) = sync_channel::<Read>(WAITING_MAX);
        thread::spawn(move || {
            for read in waiting {
                read(&mut connection);
            }
        });
        Self { calls, timeout }
    }

    /// Runs `work` in one consistent view of the file.
    pub(super) async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> SqlResult<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        let read: Read = Box::new(move |connection| {
            let done = connection.transaction().and_then(|transaction| work(&transaction));
            let _ = answer.send(done);
        });
        self.calls.try_send(read).map_err(|error| refused(&error))?;
        match tokio::time::timeout(self.timeout, answered).await {
            Ok(Ok(done)) => done.map_err(|error| StoreError::Unavailable(error.to_string())),
            Ok(Err(_)) => Err(StoreError::Unavailable("the reading thread ended".to_owned())),
            Err(_) => Err(StoreError::Unavailable("the deadline passed".to_owned())),
        }
    }
}

fn refused<T>(error: &TrySendError<T>) -> StoreError {
    StoreError::Unavailable(match error {
        TrySendError::Full(_) => "too many calls are waiting".to_owned(),
        TrySendError::Disconnected(_) => "its thread ended".to_owned(),
    })
}
