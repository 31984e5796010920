//! The store in Redis (or Valkey): one server, a primary behind sentinels, or a cluster (see [`address`]).
//!
//! A record is one string key; before that of a subject its sessions are noted (see [`subject`]). The log, the live floors
//! and the epoch share the hash tag `{portcullis:log}`, so one script changes all of them. Every call has a deadline; a write
//! whose answer did not come is [`StoreError::OutcomeUnknown`].
//!
//! Invariant (I2): a write is acknowledged only after as many replicas have it as `store.acknowledge` asks for its kind
//! (`WAIT`). A command that finds everything written already is confirmed alike.

mod address;
mod breaker;
mod call;
mod confirm;
mod examine;
mod index;
mod link;
mod names;
mod nodes;
mod scan;
mod scripts;
mod subject;

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use futures_util::future::try_join_all;
use shared::{
    feed::{Cursor, Epoch},
    id::{SessionId, SubjectId},
    revocation::Floor,
    time::Timestamp,
};
use tokio::{
    sync::{Mutex, Semaphore, watch},
    time::Instant,
};

use self::{
    address::{Source, nodes_of},
    breaker::Breaker,
    link::{GivenUp, Links},
    nodes::Nodes,
    scripts::Scripts,
};
use super::{
    Answer, AnyStore, Entries, Indexed, Key, LogRead, Place, Scanned, Snapshot, Store, StoreError, Swapped, Usage,
    Written,
    doctor::{Report, refuse_risks},
};
use crate::config::{self, Acknowledge, Risk};

/// How often the head is asked for while nothing is appended by this process: what another origin appended is seen
/// this much later at most.
const POLL: Duration = Duration::from_millis(20);

/// The most entries dropped by one call, so that no call holds up the server.
const TRIM_MAX: u64 = 1_000;

/// Connects, and refuses a server that may lose what it acknowledged, unless that is accepted.
///
/// # Errors
///
/// The address is malformed, nobody answers, or something may be lost.
pub(super) async fn open(config: &config::Store) -> Result<AnyStore, StoreError> {
    let store = connect(config).await?;
    refuse_risks(&store.examine_durability().await?)?;
    Ok(AnyStore::new(store))
}

/// Reads the address.
///
/// # Errors
///
/// It is malformed, or the file of the certificate authority cannot be read.
pub(super) fn check(config: &config::Store) -> Result<(), StoreError> {
    Source::parse(config.url.expose(), config.tls_ca_file.as_deref(), config.timeout()).map(drop)
}

/// What the servers say of themselves.
///
/// # Errors
///
/// The address is malformed, or nobody answers.
pub(super) async fn examine(config: &config::Store, skew_max: Duration) -> Result<Report, StoreError> {
    connect(config).await?.examine(skew_max).await
}

async fn connect(config: &config::Store) -> Result<RedisStore, StoreError> {
    let timeout = config.timeout();
    let source = || Source::parse(config.url.expose(), config.tls_ca_file.as_deref(), timeout);
    let patience = timeout.saturating_add(config.acknowledge.timeout());
    let given_up = GivenUp::default();
    let confirming = match source()? {
        Source::Cluster(_) => {
            Confirming::Nodes(nodes_of(config.url.expose(), config.tls_ca_file.as_deref(), patience)?)
        }
        _ => Confirming::Links(Links::new(source, patience, &given_up)?),
    };
    let links = Links::new(source, timeout, &given_up)?;
    let source = source()?;
    let store = RedisStore {
        is_cluster: matches!(source, Source::Cluster(_)),
        fails_over: !matches!(source, Source::Single(_)),
        links,
        confirming,
        breaker: Breaker::new(timeout),
        places: Semaphore::new(usize::try_from(config.calls_concurrent).unwrap_or(Semaphore::MAX_PERMITS)),
        scripts: Scripts::new(),
        timeout,
        acknowledge: config.acknowledge,
        accept: config.accept.clone(),
        head: watch::channel(Cursor(0)).0,
        swept: Mutex::default(),
        calls: AtomicU64::new(0),
    };
    store.ping().await?;
    Ok(store)
}

struct RedisStore {
    is_cluster: bool,
    /// Whether another server takes the place of one that dies.
    fails_over: bool,
    links: Links,
    confirming: Confirming,
    breaker: Breaker,
    /// Places for calls in flight; one more is refused at once.
    places: Semaphore,
    scripts: Scripts,
    timeout: Duration,
    acknowledge: Acknowledge,
    accept: Vec<Risk>,
    head: watch::Sender<Cursor>,
    /// How far the sweep for sessions that are over has come.
    swept: Mutex<Place>,
    calls: AtomicU64,
}

/// Connections for writes that replicas must confirm.
enum Confirming {
    /// To the one primary.
    Links(Links),
    /// To the primaries of a cluster.
    Nodes(Nodes),
}

impl RedisStore {
    fn count(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
    }

    /// Replicas that must have what is written under a key.
    fn replicas_of(&self, key: &Key) -> u64 {
        match key {
            Key::Session(_) | Key::Roster(_) => self.acknowledge.sessions.replicas(),
            _ => self.acknowledge.records.replicas(),
        }
    }

    /// Waits until so many replicas have everything that was written on the server of the log: whoever has this has all that
    /// was written before it, by whomever.
    async fn mark(&self, replicas: u64) -> Result<(), StoreError> {
        if replicas == 0 {
            return Ok(());
        }
        let mut command = redis::cmd("SET");
        command.arg(scripts::MARK).arg("");
        self.write_command(&command, replicas, scripts::MARK).await
    }

    /// As [`Self::mark`], on the server of a record, by the record itself.
    async fn write_again(&self, key: &Key, replicas: u64) -> Result<(), StoreError> {
        if replicas == 0 {
            return Ok(());
        }
        let name = names::record(key);
        self.write(&self.scripts.again.key(&name), replicas, &name).await.map(|((), _)| ())
    }

    /// The newest word counts, also when it is a lower one: a log that was emptied begins anew.
    fn head_is(&self, seen: Cursor) {
        self.head.send_if_modified(|head| std::mem::replace(head, seen) != seen);
    }
}

impl Store for RedisStore {
    fn load<'a>(&'a self, key: &'a Key) -> Answer<'a, Option<Vec<u8>>> {
        Box::pin(async move {
            let value = self.ask(redis::cmd("GET").arg(names::record(key))).await?;
            record_of(key, value)
        })
    }

    fn load_many<'a>(&'a self, keys: &'a [Key]) -> Answer<'a, Vec<Option<Vec<u8>>>> {
        Box::pin(async move {
            match keys {
                [] => Ok(Vec::new()),
                // The keys lie on several nodes: asked side by side.
                _ if self.is_cluster => try_join_all(keys.iter().map(|key| self.load(key))).await,
                _ => {
                    let names: Vec<_> = keys.iter().map(names::record).collect();
                    let values: Vec<Option<Vec<u8>>> = self.ask(redis::cmd("MGET").arg(names)).await?;
                    keys.iter().zip(values).map(|(key, value)| record_of(key, value)).collect()
                }
            }
        })
    }

    fn swap<'a>(
        &'a self,
        key: &'a Key,
        expected: Option<&'a [u8]>,
        new: &'a [u8],
        expires_at: Option<Timestamp>,
    ) -> Answer<'a, Swapped> {
        Box::pin(async move {
            let script = match key {
                Key::Subject(_) => &self.scripts.subject.swap,
                _ => &self.scripts.swap,
            };
            let name = names::record(key);
            let mut call = script.key(&name);
            call.arg(u8::from(expected.is_some())).arg(expected.unwrap_or_default()).arg(new);
            call.arg(expires_at.map_or(0, Timestamp::as_millis));
            let (answer, again) = self.write::<u8>(&call, self.replicas_of(key), &name).await?;
            match (subject::said(answer)?, again) {
                (1, _) => Ok(Swapped::Done),
                // Its own bytes from the first time, or the same ones from another writer.
                (2, true) => Err(StoreError::OutcomeUnknown("the connection was lost after the write".to_owned())),
                _ => Ok(Swapped::Conflict),
            }
        })
    }

    fn extend<'a>(&'a self, key: &'a Key, length: usize, more: &'a [u8], expires_at: Timestamp) -> Answer<'a, Swapped> {
        Box::pin(async move {
            let name = names::record(key);
            let mut call = self.scripts.extend.key(&name);
            call.arg(length).arg(more).arg(expires_at.as_millis());
            match self.write::<bool>(&call, self.replicas_of(key), &name).await? {
                (true, _) => Ok(Swapped::Done),
                // Longer by what was written the first time, or by another writer.
                (false, true) => Err(StoreError::OutcomeUnknown("the connection was lost after the write".to_owned())),
                (false, false) => Ok(Swapped::Conflict),
            }
        })
    }

    fn append<'a>(&'a self, floors: &'a [Floor]) -> Answer<'a, Cursor> {
        Box::pin(async move {
            let mut call = scripts::on_log(&self.scripts.append);
            call.arg(scripts::new_epoch());
            for floor in floors {
                call.arg(floor.encode().as_slice()).arg(floor.forget_at.as_secs());
            }
            let upto = Cursor(self.write(&call, self.acknowledge.floors.replicas(), scripts::HEAD).await?.0);
            self.head_is(upto);
            Ok(upto)
        })
    }

    fn read_log(&self, after: Cursor, max: usize) -> Answer<'_, LogRead> {
        Box::pin(async move {
            let mut call = scripts::on_log(&self.scripts.read);
            call.arg(scripts::new_epoch()).arg(after.0.saturating_add(1)).arg(max);
            let found: scripts::Found<(String, Vec<u8>)> = self.run(&call).await?;
            let (as_of, epoch, head, same, raw) = found;
            self.head_is(Cursor(head));
            let (mut epoch, head) = (Epoch(epoch), Cursor(head));
            if !same {
                // Another server: what it holds counts, and the caller sees by the epoch that something may be missing.
                epoch = self.renew(epoch).await?;
            }
            let entries = scripts::entries(after, head, max, raw)?;
            Ok(LogRead { epoch, as_of: Timestamp::from_millis(as_of), head, entries })
        })
    }

    fn snapshot(&self) -> Answer<'_, Snapshot> {
        Box::pin(async move {
            let mut call = scripts::on_log(&self.scripts.snapshot);
            call.arg(scripts::new_epoch());
            let (as_of, epoch, head, same, raw): scripts::Found<Vec<u8>> = self.run(&call).await?;
            let (as_of, mut epoch) = (Timestamp::from_millis(as_of), Epoch(epoch));
            if !same {
                epoch = self.renew(epoch).await?;
            }
            let mut floors = raw.iter().map(|raw| scripts::floor(raw)).collect::<Result<Vec<_>, _>>()?;
            // By both clocks: a server whose clock runs ahead must not hide what still counts.
            let now = as_of.min(crate::shell::now());
            floors.retain(|floor| !now.has_reached(floor.forget_at));
            Ok(Snapshot { epoch, as_of, head: Cursor(head), floors })
        })
    }

    fn renew(&self, known: Epoch) -> Answer<'_, Epoch> {
        Box::pin(async move {
            let mut call = scripts::on_log(&self.scripts.renew);
            call.arg(known.0).arg(scripts::new_epoch().max(known.0.saturating_add(1)));
            Ok(Epoch(self.write(&call, self.acknowledge.floors.replicas(), scripts::HEAD).await?.0))
        })
    }

    fn trim(&self, now: Timestamp) -> Answer<'_, u64> {
        Box::pin(async move {
            let mut dropped = 0_u64;
            loop {
                let mut call = scripts::on_log(&self.scripts.trim);
                call.arg(now.as_secs()).arg(now.saturating_sub(scripts::KEPT).as_millis()).arg(TRIM_MAX);
                let count: u64 = self.run(&call).await?;
                dropped = dropped.saturating_add(count);
                if count < TRIM_MAX {
                    break;
                }
            }
            self.sweep().await?;
            Ok(dropped)
        })
    }

    fn wait_for_append(&self, after: Cursor, at_most: Duration) -> Answer<'_, ()> {
        Box::pin(async move {
            let deadline = Instant::now() + at_most;
            let mut own = self.head.subscribe();
            loop {
                let pause = POLL.min(deadline.saturating_duration_since(Instant::now()));
                if tokio::time::timeout(pause, own.wait_for(|head| *head != after)).await.is_ok() {
                    return Ok(());
                }
                let head: Option<u64> = self.ask(redis::cmd("GET").arg(scripts::HEAD)).await?;
                if head.unwrap_or(0) != after.0 || Instant::now() >= deadline {
                    return Ok(());
                }
            }
        })
    }

    fn confirm<'a>(&'a self, written: Written<'a>) -> Answer<'a, ()> {
        Box::pin(async move {
            let (key, floors) = match written {
                Written::Record(key) => (key, 0),
                Written::AfterFloors(key) => (key, self.acknowledge.floors.replicas()),
            };
            let record = self.replicas_of(key);
            if !self.is_cluster {
                return self.mark(record.max(floors)).await;
            }
            // Log and record are on nodes of their own.
            self.mark(floors).await?;
            self.write_again(key, record).await
        })
    }

    fn index_add<'a>(
        &'a self,
        subject: &'a SubjectId,
        session: &'a SessionId,
        expires_at: Timestamp,
    ) -> Answer<'a, ()> {
        Box::pin(self.note(subject, session, expires_at))
    }

    fn index_remove<'a>(&'a self, subject: &'a SubjectId, session: &'a SessionId) -> Answer<'a, ()> {
        Box::pin(self.forget(subject, Some(session)))
    }

    fn index_list<'a>(
        &'a self,
        subject: &'a SubjectId,
        after: Option<Indexed>,
        max: usize,
    ) -> Answer<'a, Vec<Indexed>> {
        Box::pin(async move { self.index_page(subject, after.as_ref(), max, crate::shell::now()).await })
    }

    fn scan(&self, from: Place) -> Answer<'_, Scanned> {
        Box::pin(async move { self.scan_from(&from).await })
    }

    fn durability(&self) -> Answer<'_, Report> {
        Box::pin(self.examine_durability())
    }

    fn usage(&self) -> Answer<'_, Usage> {
        Box::pin(async move { Ok(Usage { bytes: None, processor: self.processor_time().await? }) })
    }

    fn size_of<'a>(&'a self, key: &'a Key) -> Answer<'a, Option<u64>> {
        // Who may not ask is told nothing.
        Box::pin(async move {
            let mut command = redis::cmd("MEMORY");
            command.arg("USAGE").arg(names::record(key)).arg("SAMPLES").arg(0);
            Ok(self.ask(&command).await.unwrap_or(None))
        })
    }

    fn ping(&self) -> Answer<'_, ()> {
        Box::pin(async move { self.ask(&redis::cmd("PING")).await })
    }

    fn round_trips(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }
}

/// The record in what is kept under a key.
fn record_of(key: &Key, value: Option<Vec<u8>>) -> Result<Option<Vec<u8>>, StoreError> {
    match (key, value) {
        (Key::Subject(_), Some(value)) => Ok(subject::parts(&value)?.1.map(<[u8]>::to_vec)),
        (_, value) => Ok(value),
    }
}

#[cfg(test)]
mod failover_tests;
#[cfg(test)]
mod storm_tests;
#[cfg(test)]
pub(crate) mod test_server;
#[cfg(test)]
mod tests;
