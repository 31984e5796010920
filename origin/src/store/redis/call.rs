//! One call to Redis: with a deadline, a place among the calls in flight, and its failure told apart by whether something
//! may have been written.
//!
//! A connection that turns out to be broken, or to lead to a server that is no longer the primary, is made anew and the call
//! is sent once more: a restart or a failover between two calls goes unnoticed. What may have been written twice is safe:
//! floors and the index are joined, and a swap that finds its own bytes says that its outcome is unknown.

use std::{sync::Arc, time::Duration};

use redis::{Cmd, ErrorKind, FromRedisValue, RedisError, ScriptInvocation, ServerErrorKind};
use tokio::time::{Instant, timeout};

use super::{
    Confirming, RedisStore, StoreError,
    link::{Connection, Link},
    nodes::{self, Node, Nodes},
};

/// How often a script is loaded again for one call.
const UNKNOWN_MAX: u32 = 4;

/// How often one call is sent on to another node of a cluster.
const ELSEWHERE_MAX: u32 = 16;

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
    /// A name in it that says where in a cluster it belongs, if replicas must have it.
    name: &'a str,
}

/// Who takes a call.
#[derive(Clone, Copy)]
enum Target<'a> {
    Link(&'a Link),
    Slot(&'a Nodes, u16),
}

impl Target<'_> {
    /// A connection, and the node of a cluster that it leads to.
    async fn connection(self) -> (Result<Connection, StoreError>, Option<Node>) {
        match self {
            Self::Link(link) => (link.connection().await, None),
            Self::Slot(nodes, slot) => match nodes.of(slot) {
                Ok(node) => (node.link.connection().await, Some(node)),
                Err(error) => (Err(error), None),
            },
        }
    }

    /// The number of the connection that is in use, and the node.
    fn in_use(self) -> (u64, Option<Node>) {
        match self {
            Self::Link(link) => (link.number(), None),
            Self::Slot(nodes, slot) => {
                let node = nodes.of(slot).ok();
                (node.as_ref().map_or(0, |node| node.link.number()), node)
            }
        }
    }

    /// The connection failed, or leads to a server that takes no writes.
    fn give_up(self, node: Option<&Node>, number: u64) {
        match (self, node) {
            (Self::Link(link), _) => link.give_up(number),
            (Self::Slot(nodes, _), Some(node)) => {
                node.link.give_up(number);
                nodes.failed(node);
            }
            (Self::Slot(..), None) => {}
        }
    }
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
        self.call(Call { request, writes: false, replicas: 0, name: "" }).await.map(|(answer, _)| answer)
    }

    /// A script that writes under `name` what so many replicas must have; whether it was sent more than once is beside its
    /// answer.
    pub(super) async fn write<T: FromRedisValue>(
        &self,
        call: &ScriptInvocation<'_>,
        replicas: u64,
        name: &str,
    ) -> Result<(T, bool), StoreError> {
        self.call(Call { request: Request::Script(call), writes: true, replicas, name }).await
    }

    /// As [`Self::write`], for a command that may be repeated.
    pub(super) async fn write_command(&self, command: &Cmd, replicas: u64, name: &str) -> Result<(), StoreError> {
        self.call(Call { request: Request::Command(command), writes: true, replicas, name }).await.map(|((), _)| ())
    }

    async fn call<T: FromRedisValue>(&self, call: Call<'_>) -> Result<(T, bool), StoreError> {
        let Ok(_place) = self.places.try_acquire() else {
            return Err(StoreError::Unavailable("too many calls are in flight".to_owned()));
        };
        self.breaker.admit(Instant::now())?;
        self.count();
        let (target, patience) = match (call.replicas, &self.confirming) {
            (0, _) => (Target::Link(self.links.here()), self.timeout),
            (_, Confirming::Links(links)) => (Target::Link(links.here()), self.patience()),
            (_, Confirming::Nodes(nodes)) => (Target::Slot(nodes, nodes::slot(call.name)), self.patience()),
        };
        let before = target.in_use();
        match timeout(patience, self.attempts(call, target)).await {
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
                target.give_up(before.1.as_ref(), before.0);
                self.breaker.failed(Instant::now());
                let text = "the deadline passed".to_owned();
                Err(if call.writes { StoreError::OutcomeUnknown(text) } else { StoreError::Unavailable(text) })
            }
        }
    }

    fn patience(&self) -> Duration {
        self.timeout.saturating_add(self.acknowledge.timeout())
    }

    async fn attempts<T: FromRedisValue>(&self, call: Call<'_>, target: Target<'_>) -> Result<(T, bool), Failure> {
        let (mut sent, mut again, mut unknown, mut elsewhere) = (false, false, 0, 0);
        loop {
            let (connection, node) = target.connection().await;
            let mut connection = match connection {
                Ok(connection) => connection,
                // Nothing was sent; another node may know who took over.
                Err(_) if node.is_some() && elsewhere < ELSEWHERE_MAX => {
                    target.give_up(node.as_ref(), 0);
                    elsewhere += 1;
                    continue;
                }
                Err(error) => return Err(Failure { error: error.after(sent), answered: false }),
            };
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
            if let (Target::Slot(nodes, slot), Some(node), Some(to)) = (target, &node, moved_to(&error))
                && elsewhere < ELSEWHERE_MAX
            {
                nodes.moved(node, slot, to);
                elsewhere += 1;
                continue;
            }
            let (lost, moved) = (is_lost(&error), is_not_primary(&error));
            let failure = failed(&error, call.writes);
            sent |= failure.may_have_happened();
            if lost || moved {
                target.give_up(node.as_ref(), connection.number);
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

/// The node that serves what was asked of another.
fn moved_to(error: &RedisError) -> Option<&str> {
    let is_moved = error.kind() == ErrorKind::Server(ServerErrorKind::Moved);
    error.redirect_node().filter(|_| is_moved).map(|(address, _)| address)
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
