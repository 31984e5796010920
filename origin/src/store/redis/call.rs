//! One call to Redis: with a deadline, a place among the calls in flight, and its failure told apart by whether something
//! may have been written.
//!
//! A connection that turns out to be broken, or to lead to a server that is no longer the primary, is made anew and the call
//! is sent once more: a restart or a failover between two calls goes unnoticed. What may have been written twice is safe:
//! floors and the index are joined, and a swap that finds its own bytes says that its outcome is unknown.

use redis::{Cmd, ErrorKind, FromRedisValue, RedisError, ScriptInvocation, ServerErrorKind};
use tokio::time::{Instant, timeout};

use super::{RedisStore, StoreError, link::Connection};

/// What is sent.
#[derive(Clone, Copy)]
enum Request<'a> {
    Command(&'a Cmd),
    Script(&'a ScriptInvocation<'a>),
}

impl RedisStore {
    /// A command that may be repeated.
    pub(super) async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, StoreError> {
        self.call(Request::Command(command), false).await.map(|(answer, _)| answer)
    }

    /// A script that may be repeated.
    pub(super) async fn run<T: FromRedisValue>(&self, call: &ScriptInvocation<'_>) -> Result<T, StoreError> {
        self.call(Request::Script(call), false).await.map(|(answer, _)| answer)
    }

    /// A script that writes what must be kept; whether it was sent more than once is beside its answer.
    pub(super) async fn write<T: FromRedisValue>(&self, call: &ScriptInvocation<'_>) -> Result<(T, bool), StoreError> {
        self.call(Request::Script(call), true).await
    }

    async fn call<T: FromRedisValue>(&self, request: Request<'_>, writes: bool) -> Result<(T, bool), StoreError> {
        let Ok(_place) = self.places.try_acquire() else {
            return Err(StoreError::Unavailable("too many calls are in flight".to_owned()));
        };
        self.breaker.admit(Instant::now())?;
        self.count();
        let number = self.link.number();
        match timeout(self.timeout, self.attempts(request, writes)).await {
            Ok(Ok(answer)) => {
                self.breaker.answered();
                Ok(answer)
            }
            Ok(Err(Failure { error, answered })) => {
                if answered {
                    self.breaker.answered();
                } else {
                    self.breaker.failed(Instant::now());
                }
                Err(error)
            }
            Err(_) => {
                // A connection over which nothing comes back may be one that nobody is at the end of.
                self.link.give_up(number);
                self.breaker.failed(Instant::now());
                let text = "the deadline passed".to_owned();
                Err(if writes { StoreError::OutcomeUnknown(text) } else { StoreError::Unavailable(text) })
            }
        }
    }

    async fn attempts<T: FromRedisValue>(&self, request: Request<'_>, writes: bool) -> Result<(T, bool), Failure> {
        let mut sent = false;
        for again in [false, true] {
            let connection = self.link.connection().await;
            let mut connection = connection.map_err(|error| Failure { error: error.after(sent), answered: false })?;
            let done = match request {
                Request::Command(command) => command.query_async(&mut connection).await,
                Request::Script(call) => call.invoke_async(&mut connection).await,
            };
            let error = match done {
                Ok(answer) => {
                    if writes {
                        self.confirm(&mut connection).await?;
                    }
                    return Ok((answer, again && sent));
                }
                Err(error) => error,
            };
            let (lost, moved) = (is_lost(&error), is_not_primary(&error));
            let failure = failed(&error, writes);
            sent |= failure.may_have_happened();
            if lost || moved {
                self.link.give_up(connection.number);
            }
            if again || !(lost || moved) {
                return Err(Failure { error: failure.after(sent), answered: !lost });
            }
        }
        Err(Failure { error: StoreError::Unavailable("it was not tried".to_owned()).after(sent), answered: false })
    }

    /// Waits until enough replicas have what this connection wrote. It holds up what follows on the connection for one
    /// delay of the link.
    async fn confirm(&self, connection: &mut Connection) -> Result<(), Failure> {
        if self.replicas == 0 {
            return Ok(());
        }
        // Sooner than our own deadline, so that the answer is heard.
        let millis = (self.timeout / 2).as_millis().to_string();
        let confirmed: Result<u64, _> = redis::cmd("WAIT").arg(self.replicas).arg(millis).query_async(connection).await;
        if confirmed.is_ok_and(|confirmed| confirmed >= self.replicas) {
            return Ok(());
        }
        let error = StoreError::OutcomeUnknown("too few replicas confirmed it".to_owned());
        Err(Failure { error, answered: true })
    }
}

/// A failure, and whether the store said anything.
struct Failure {
    error: StoreError,
    answered: bool,
}

pub(super) fn is_lost(error: &RedisError) -> bool {
    error.is_timeout() || error.is_connection_dropped() || error.is_io_error() || error.is_connection_refusal()
}

/// After a failover the server that was the primary is a replica, or is loading what the new one sends.
fn is_not_primary(error: &RedisError) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown | ServerErrorKind::BusyLoading)
    )
}

/// Without the server's own words, which may repeat a key: what it was, and whether it may have been written.
pub(super) fn failed(error: &RedisError, writes: bool) -> StoreError {
    let text = match error.code() {
        Some(code) => format!("the server answered {code}"),
        None => error.category().to_owned(),
    };
    if writes && is_lost(error) && !error.is_connection_refusal() {
        StoreError::OutcomeUnknown(text)
    } else {
        StoreError::Unavailable(text)
    }
}
