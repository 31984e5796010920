//! The connection to Redis: made when it is needed, shared by all callers, given up when it fails, made again by one caller
//! while the others wait, and after a failed attempt not before a pause with jitter. Sentinels are asked at every attempt.

use std::{
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use backon::ExponentialBackoff;
use redis::{
    AsyncConnectionConfig, Cmd, Pipeline, RedisError, RedisFuture, Value,
    aio::{ConnectionLike, MultiplexedConnection},
    cluster_async::ClusterConnection,
};
use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};

use super::{StoreError, address::Source, call::failed, confirm::Confirms};
use crate::{lane, shell};

/// First and longest pause after a failure.
const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// One connection, as a caller holds it.
#[derive(Clone)]
pub(super) struct Connection {
    /// Tells it from those before and after it.
    pub(super) number: u64,
    pub(super) io: Io,
    /// What it wrote, for replicas to confirm.
    pub(super) confirms: Arc<Confirms>,
    /// How many connections had been given up when it was made.
    since: u64,
}

/// Counts the connections that were given up, over all links to servers of which another may become the primary. What was
/// connected before the last of them may lead to one that is no longer: it answers, and knows nothing of what came after it.
#[derive(Clone, Default)]
pub(super) struct GivenUp(Arc<AtomicU64>);

impl GivenUp {
    fn count(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    fn one_more(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[derive(Clone)]
pub(super) enum Io {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

/// A link for each thread that answers requests, and one for all others: a connection is driven by the runtime that made it.
pub(super) struct Links {
    of_lanes: Vec<Link>,
    other: Link,
}

impl Links {
    /// Makes them; each connects when it is first asked.
    ///
    /// # Errors
    ///
    /// The address is malformed.
    pub(super) fn new(
        source: impl Fn() -> Result<Source, StoreError>,
        timeout: Duration,
        given_up: &GivenUp,
    ) -> Result<Self, StoreError> {
        let link = || {
            let source = source()?;
            let given_up = matches!(source, Source::Sentinel(_)).then(|| given_up.clone()).unwrap_or_default();
            Ok(Link { given_up, ..Link::new(source, timeout) })
        };
        Ok(Self { of_lanes: (0..lane::count()).map(|_| link()).collect::<Result<_, _>>()?, other: link()? })
    }

    /// The link of this thread.
    pub(super) fn here(&self) -> &Link {
        lane::current().and_then(|number| self.of_lanes.get(number)).unwrap_or(&self.other)
    }
}

pub(super) struct Link {
    current: RwLock<Option<Connection>>,
    opening: Mutex<Opening>,
    timeout: Duration,
    given_up: GivenUp,
}

struct Opening {
    source: Source,
    made: u64,
    pauses: ExponentialBackoff,
    not_before: Option<Instant>,
}

impl Link {
    pub(super) fn new(source: Source, timeout: Duration) -> Self {
        let opening = Opening { source, made: 0, pauses: pauses(), not_before: None };
        Self { current: RwLock::new(None), opening: Mutex::new(opening), timeout, given_up: GivenUp::default() }
    }

    /// The connection that is in use, or a new one.
    pub(super) async fn connection(&self) -> Result<Connection, StoreError> {
        if let Some(connection) = self.current() {
            return Ok(connection);
        }
        let mut opening = self.opening.lock().await;
        if let Some(connection) = self.current() {
            return Ok(connection);
        }
        if opening.not_before.is_some_and(|at| Instant::now() < at) {
            return Err(StoreError::Unavailable("it could not be reached just now".to_owned()));
        }
        let since = self.given_up.count();
        let made = timeout(self.timeout, opening.connect(self.timeout)).await;
        let io = made.map_or_else(
            |_| Err(StoreError::Unavailable("connecting took too long".to_owned())),
            |made| made.map_err(|error| failed(&error, false)),
        );
        match io {
            Ok(io) => {
                opening.made = opening.made.saturating_add(1);
                (opening.pauses, opening.not_before) = (pauses(), None);
                let connection = Connection { number: opening.made, io, confirms: Arc::default(), since };
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Some(connection.clone());
                Ok(connection)
            }
            Err(error) => {
                let pause = opening.pauses.next().unwrap_or(PAUSE_MAX);
                opening.not_before = Some(Instant::now() + pause);
                Err(error)
            }
        }
    }

    /// Gives up a connection that failed, if it is still the one in use. Calls that wait on it are not cut off.
    pub(super) fn give_up(&self, number: u64) {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        if current.as_ref().is_some_and(|current| current.number == number) {
            *current = None;
            self.given_up.one_more();
        }
    }

    /// The number of the connection that is in use; 0 if there is none.
    pub(super) fn number(&self) -> u64 {
        self.current().map_or(0, |connection| connection.number)
    }

    fn current(&self) -> Option<Connection> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner).clone();
        current.filter(|connection| connection.since == self.given_up.count())
    }
}

impl Opening {
    async fn connect(&mut self, timeout: Duration) -> Result<Io, RedisError> {
        let config =
            AsyncConnectionConfig::new().set_connection_timeout(Some(timeout)).set_response_timeout(Some(timeout));
        let one = match &mut self.source {
            Source::Single(client) => client.get_multiplexed_async_connection_with_config(&config).await,
            Source::Sentinel(client) => client.get_async_connection_with_config(&config).await,
            Source::Cluster(client) => return client.get_async_connection().await.map(Io::Cluster),
        };
        one.map(Io::One)
    }
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        match &mut self.io {
            Io::One(connection) => connection.req_packed_command(command),
            Io::Cluster(connection) => connection.req_packed_command(command),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match &mut self.io {
            Io::One(connection) => connection.req_packed_commands(pipeline, offset, count),
            Io::Cluster(connection) => connection.req_packed_commands(pipeline, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match &self.io {
            Io::One(connection) => connection.get_db(),
            Io::Cluster(connection) => connection.get_db(),
        }
    }
}

pub(super) fn pauses() -> ExponentialBackoff {
    shell::pauses(PAUSE_MIN, PAUSE_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::test_server::Server;

    /// I2: of servers of which another may become the primary, a connection that fails takes those along that were made before
    /// it failed; links to one server are left alone.
    #[tokio::test]
    async fn a_connection_that_fails_takes_the_others_along_where_another_server_may_take_over() {
        let server = Server::start(&[]);
        let links = |given_up: [GivenUp; 2]| {
            given_up.map(|given_up| {
                let source = Source::parse(&server.url(), None, Duration::from_secs(10)).unwrap();
                Link { given_up, ..Link::new(source, Duration::from_secs(10)) }
            })
        };
        let shared = GivenUp::default();
        for ([one, other], is_left) in
            [(links([shared.clone(), shared]), false), (links([GivenUp::default(), GivenUp::default()]), true)]
        {
            let failed = one.connection().await.unwrap().number;
            let kept = other.connection().await.unwrap().number;
            one.give_up(failed);
            assert_eq!(other.number() == kept, is_left);
            assert_eq!(other.connection().await.unwrap().number == kept, is_left);
            // Who comes late with a connection that is gone takes nobody along.
            let made = one.connection().await.unwrap().number;
            one.give_up(failed);
            assert_eq!(one.number(), made);
        }
    }
}
