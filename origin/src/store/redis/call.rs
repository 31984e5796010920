//! One call to Redis: with a deadline, counted, its failure told apart by whether something may have been written.

use redis::{Cmd, FromRedisValue, RedisError, ScriptInvocation, aio::ConnectionLike};

use super::{RedisStore, StoreError};

impl<C: ConnectionLike + Clone + Send + Sync + 'static> RedisStore<C> {
    /// A command that may be repeated.
    pub(super) async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, StoreError> {
        self.count();
        let mut connection = self.connection.clone();
        match tokio::time::timeout(self.timeout, command.query_async(&mut connection)).await {
            Ok(answer) => answer.map_err(|error| failed(&error, false)),
            Err(_) => Err(StoreError::Unavailable("the deadline passed".to_owned())),
        }
    }

    /// A script that may be repeated.
    pub(super) async fn run<T: FromRedisValue>(&self, call: &ScriptInvocation<'_>) -> Result<T, StoreError> {
        self.invoke(call, false).await
    }

    /// A script that writes what must be kept.
    pub(super) async fn write<T: FromRedisValue>(&self, call: &ScriptInvocation<'_>) -> Result<T, StoreError> {
        let answer = self.invoke(call, true).await?;
        if self.replicas > 0 {
            let millis = self.timeout.as_millis().to_string();
            let mut wait = redis::cmd("WAIT");
            let confirmed: Result<u64, _> = self.ask(wait.arg(self.replicas).arg(millis)).await;
            if confirmed.is_ok_and(|confirmed| confirmed >= self.replicas) {
                return Ok(answer);
            }
            return Err(StoreError::OutcomeUnknown("too few replicas confirmed it".to_owned()));
        }
        Ok(answer)
    }

    async fn invoke<T: FromRedisValue>(&self, call: &ScriptInvocation<'_>, writes: bool) -> Result<T, StoreError> {
        self.count();
        let mut connection = self.connection.clone();
        match tokio::time::timeout(self.timeout, call.invoke_async(&mut connection)).await {
            Ok(answer) => answer.map_err(|error| failed(&error, writes)),
            Err(_) if writes => Err(StoreError::OutcomeUnknown("the deadline passed".to_owned())),
            Err(_) => Err(StoreError::Unavailable("the deadline passed".to_owned())),
        }
    }
}

/// Without the server's own words, which may repeat a key: what it was, and whether it may have been written.
pub(super) fn failed(error: &RedisError, writes: bool) -> StoreError {
    let text = match error.code() {
        Some(code) => format!("the server answered {code}"),
        None => error.category().to_owned(),
    };
    let lost = error.is_timeout() || error.is_connection_dropped() || error.is_io_error();
    if writes && lost && !error.is_connection_refusal() {
        StoreError::OutcomeUnknown(text)
    } else {
        StoreError::Unavailable(text)
    }
}
