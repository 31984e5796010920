//! One call to Redis: with a deadline, a place among the calls in flight, and its failure told apart by whether something
//! may have been written.
//!
//! A connection that turns out to be broken, or to lead to a server that is no longer the primary, is made anew and the call
//! is sent once more: a restart or a failover between two calls goes unnoticed. What may have been written twice is safe:
//! floors and the index are joined, and a swap that finds its own bytes says that its outcome is unknown.

use std::sync::Arc;

use redis::{Cmd, ErrorKind, FromRedisValue, RedisError, ScriptInvocation, ServerErrorKind};
use tokio::time::{Instant, timeout};

use super::{
    RedisStore, StoreError,
    link::{Connection, Link},
};

/// How often a script is loaded again for one call.
const UNKNOWN_MAX: u32 = 4;

/// What is sent.
#[derive(Clone, Copy)]
enum Request<'a> {
    Command(&'a Cmd),
    Script(&'a ScriptInvocation<'a>),
}

/// A call, and what it writes.
#[derive(Clone, Copy)]
struct Call<'a> {
    request: Request<'a>,
    /// Whether it writes what must be kept.
    writes: bool,
    /// Replicas that must have that.
    replicas: u64,
}

impl RedisStore {
    /// A command that may be repeated.
    pub(super) async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, StoreError> {
        self.read(Request::Command(command)).await
    }

    /// A script that may be repeated.
    pub(super) async fn run<T: FromRedisValue>(&self, call: &ScriptInvocation<'_>) -> Result<T, StoreError> {
        self.read(Request::Script(call)).await
    }

    async fn read<T: FromRedisValue>(&self, request: Request<'_>) -> Result<T, StoreError> {
        self.call(Call { request, writes: false, replicas: 0 }).await.map(|(answer, _)| answer)
    }

    /// A script that writes what so many replicas must have; whether it was sent more than once is beside its answer.
    pub(super) async fn write<T: FromRedisValue>(
        &self,
        call: &ScriptInvocation<'_>,
        replicas: u64,
    ) -> Result<(T, bool), StoreError> {
        self.call(Call { request: Request::Script(call), writes: true, replicas }).await
    }

    /// As [`Self::write`], for a command that may be repeated.
    pub(super) async fn write_command(&self, command: &Cmd, replicas: u64) -> Result<(), StoreError> {
        self.call(Call { request: Request::Command(command), writes: true, replicas }).await.map(|((), _)| ())
    }

    async fn call<T: FromRedisValue>(&self, call: Call<'_>) -> Result<(T, bool), StoreError> {
        let Ok(_place) = self.places.try_acquire() else {
            return Err(StoreError::Unavailable("too many calls are in flight".to_owned()));
        };
        self.breaker.admit(Instant::now())?;
        self.count();
        let (link, patience) = match call.replicas {
            0 => (&self.link, self.timeout),
            _ => (&self.confirming, self.timeout.saturating_add(self.acknowledge.timeout())),
        };
        let number = link.number();
        match timeout(patience, self.attempts(call, link)).await {
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
                link.give_up(number);
                self.breaker.failed(Instant::now());
                let text = "the deadline passed".to_owned();
                Err(if call.writes { StoreError::OutcomeUnknown(text) } else { StoreError::Unavailable(text) })
            }
        }
    }

    async fn attempts<T: FromRedisValue>(&self, call: Call<'_>, link: &Link) -> Result<(T, bool), Failure> {
        let (mut sent, mut again, mut unknown) = (false, false, 0);
        loop {
            let connection = link.connection().await;
            let mut connection = connection.map_err(|error| Failure { error: error.after(sent), answered: false })?;
            let done = match call.request {
                Request::Command(command) => command.query_async(&mut connection).await,
                Request::Script(call) => call.invoke_async(&mut connection).await,
            };
            let error = match done {
                Ok(answer) => {
                    self.confirmed(&mut connection, call.replicas).await?;
                    return Ok((answer, again && sent));
                }
                Err(error) => error,
            };
            // Scripts were flushed between the loading of this one and its call: nothing was done.
            if is_unknown_script(&error) && unknown < UNKNOWN_MAX {
                unknown += 1;
                continue;
            }
            let (lost, moved) = (is_lost(&error), is_not_primary(&error));
            let failure = failed(&error, call.writes);
            sent |= failure.may_have_happened();
            if lost || moved {
                link.give_up(connection.number);
            }
            if again || !(lost || moved) {
                return Err(Failure { error: failure.after(sent), answered: !lost });
            }
            again = true;
        }
    }

    /// Waits until so many replicas have what this connection wrote.
    async fn confirmed(&self, connection: &mut Connection, replicas: u64) -> Result<(), Failure> {
        let confirms = Arc::clone(&connection.confirms);
        let wait = async || {
            let millis = self.acknowledge.timeout().as_millis().to_string();
            redis::cmd("WAIT").arg(replicas).arg(millis).query_async(connection).await.unwrap_or(0)
        };
        if replicas == 0 || confirms.have(replicas, wait).await {
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

fn is_unknown_script(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
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
