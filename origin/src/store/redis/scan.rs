//! Everything that is kept, piece by piece. One server is asked by `SCAN`, whose cursor is the place; a cluster slot by slot,
//! whichever node has the slot.

use std::ops::Range;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use redis::cmd;
use shared::{id::SubjectId, time::Timestamp};

use super::{
    RedisStore, StoreError,
    index::{Scored, indexed},
    names::{self, Named},
    subject,
};
use crate::store::{Indexed, Kept, Key, Place, Scanned};

/// Keys that `SCAN` looks at per call.
const COUNT: u64 = 512;

/// Slots of a cluster (its specification), and how many are asked for at a time.
const SLOTS: u64 = 16_384;
const SLOTS_AT_ONCE: u64 = 64;

/// Calls at the same time: many more would only wait for each other.
const AT_ONCE: usize = 64;

impl RedisStore {
    pub(super) async fn scan_from(&self, from: &Place) -> Result<Scanned, StoreError> {
        let (names, next) = self.names(from, names::PREFIX).await?;
        let named = names.iter().map(|name| names::parse(name).ok_or(StoreError::Corrupt("a key of another kind")));
        let named: Vec<Named> = named.collect::<Result<_, _>>()?;
        let kept: Vec<Vec<Kept>> =
            stream::iter(named).map(|named| self.kept(named)).buffered(AT_ONCE).try_collect().await?;
        Ok(Scanned { kept: kept.concat(), next })
    }

    /// Some of the names that begin with `prefix`, and where the rest begins.
    pub(super) async fn names(&self, from: &Place, prefix: &str) -> Result<(Vec<String>, Option<Place>), StoreError> {
        let at = match from.0.as_slice() {
            [] => 0,
            bytes => bytes.try_into().map(u64::from_be_bytes).unwrap_or_default(),
        };
        let (names, next) = if self.is_cluster { self.slots(at, prefix).await? } else { self.some(at, prefix).await? };
        Ok((names, next.map(|next| Place(next.to_be_bytes().to_vec()))))
    }

    /// Some names of one server.
    async fn some(&self, cursor: u64, prefix: &str) -> Result<(Vec<String>, Option<u64>), StoreError> {
        let mut command = cmd("SCAN");
        command.arg(cursor).arg("MATCH").arg(format!("{prefix}*")).arg("COUNT").arg(COUNT);
        let (next, names): (u64, Vec<String>) = self.ask(&command).await?;
        Ok((names, (next != 0).then_some(next)))
    }

    /// The names in some slots of a cluster.
    async fn slots(&self, first: u64, prefix: &str) -> Result<(Vec<String>, Option<u64>), StoreError> {
        let end = first.saturating_add(SLOTS_AT_ONCE).min(SLOTS);
        let slots: Range<u64> = first..end;
        let names: Vec<Vec<String>> =
            stream::iter(slots).map(|slot| self.slot(slot)).buffered(AT_ONCE).try_collect().await?;
        let names = names.concat().into_iter().filter(|name| name.starts_with(prefix)).collect();
        Ok((names, (end < SLOTS).then_some(end)))
    }

    async fn slot(&self, slot: u64) -> Result<Vec<String>, StoreError> {
        let count: u64 = self.ask(cmd("CLUSTER").arg("COUNTKEYSINSLOT").arg(slot)).await?;
        if count == 0 {
            return Ok(Vec::new());
        }
        self.ask(cmd("CLUSTER").arg("GETKEYSINSLOT").arg(slot).arg(count)).await
    }

    async fn kept(&self, named: Named) -> Result<Vec<Kept>, StoreError> {
        match named {
            Named::Record(key) => {
                let (value, expires_at) = self.value(names::record(&key)).await?;
                Ok(value.map(|value| Kept::Record { key, value, expires_at }).into_iter().collect())
            }
            Named::Subject(subject) => self.subject(subject).await,
            Named::MoreSessions(subject) => self.more_sessions(subject).await,
        }
    }

    /// A value with its time; none if it went away since.
    async fn value(&self, name: String) -> Result<(Option<Vec<u8>>, Option<Timestamp>), StoreError> {
        let (value, until): (Option<Vec<u8>>, i64) = self.run(self.scripts.record.prepare_invoke().key(name)).await?;
        Ok((value, u64::try_from(until).ok().map(Timestamp::from_millis)))
    }

    async fn subject(&self, subject: SubjectId) -> Result<Vec<Kept>, StoreError> {
        let (value, expires_at) = self.value(names::subject(&subject)).await?;
        let Some(value) = value else { return Ok(Vec::new()) };
        let (noted, record) = subject::parts(&value)?;
        let now = crate::shell::now();
        let mut kept: Vec<Kept> = noted
            .into_iter()
            .filter(|entry| !now.has_reached(entry.expires_at))
            .map(|entry| of_index(&subject, entry))
            .collect();
        kept.extend(record.map(|record| Kept::Record {
            key: Key::Subject(subject),
            value: record.to_vec(),
            expires_at,
        }));
        Ok(kept)
    }

    async fn more_sessions(&self, subject: SubjectId) -> Result<Vec<Kept>, StoreError> {
        let mut command = cmd("ZRANGEBYSCORE");
        command.arg(names::more_sessions(&subject)).arg(format!("({}", crate::shell::now().as_millis())).arg("+inf");
        let raw: Vec<Scored> = self.ask(command.arg("WITHSCORES")).await?;
        raw.into_iter().map(|scored| Ok(of_index(&subject, indexed(scored)?))).collect()
    }
}

fn of_index(subject: &SubjectId, entry: Indexed) -> Kept {
    Kept::Indexed { subject: subject.clone(), session: entry.session, expires_at: entry.expires_at }
}
