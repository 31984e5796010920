//! Everything that is kept, piece by piece. One server is asked by `SCAN`, whose cursor is the place; a cluster slot by slot,
//! whichever node has the slot.

use std::ops::Range;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use redis::cmd;
use shared::{
    id::{SessionId, SubjectId},
    time::Timestamp,
};

use super::{
    RedisStore, StoreError,
    names::{self, Named},
};
use crate::store::{Kept, Key, Place, Scanned};

/// Keys that `SCAN` looks at per call.
const COUNT: u64 = 512;

/// Slots of a cluster (its specification), and how many are asked for at a time.
const SLOTS: u64 = 16_384;
const SLOTS_AT_ONCE: u64 = 64;

/// Calls at the same time: many more would only wait for each other.
const AT_ONCE: usize = 64;

impl RedisStore {
    pub(super) async fn scan_from(&self, from: &Place) -> Result<Scanned, StoreError> {
        let at = match from.0.as_slice() {
            [] => 0,
            bytes => bytes.try_into().map(u64::from_be_bytes).unwrap_or_default(),
        };
        let (names, next) = if self.is_cluster { self.slots(at).await? } else { self.some(at).await? };
        let named = names.iter().map(|name| names::parse(name).ok_or(StoreError::Corrupt("a key of another kind")));
        let named: Vec<Named> = named.collect::<Result<_, _>>()?;
        let kept: Vec<Vec<Kept>> =
            stream::iter(named).map(|named| self.kept(named)).buffered(AT_ONCE).try_collect().await?;
        Ok(Scanned { kept: kept.concat(), next: next.map(|next| Place(next.to_be_bytes().to_vec())) })
    }

    /// Some names of one server.
    async fn some(&self, cursor: u64) -> Result<(Vec<String>, Option<u64>), StoreError> {
        let mut command = cmd("SCAN");
        command.arg(cursor).arg("MATCH").arg(format!("{}*", names::PREFIX)).arg("COUNT").arg(COUNT);
        let (next, names): (u64, Vec<String>) = self.ask(&command).await?;
        Ok((names, (next != 0).then_some(next)))
    }

    /// The names in some slots of a cluster.
    async fn slots(&self, first: u64) -> Result<(Vec<String>, Option<u64>), StoreError> {
        let end = first.saturating_add(SLOTS_AT_ONCE).min(SLOTS);
        let slots: Range<u64> = first..end;
        let names: Vec<Vec<String>> =
            stream::iter(slots).map(|slot| self.slot(slot)).buffered(AT_ONCE).try_collect().await?;
        let names = names.concat().into_iter().filter(|name| name.starts_with(names::PREFIX)).collect();
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
            Named::Record(key) => Ok(self.record(key).await?.into_iter().collect()),
            Named::Index(subject) => self.index(subject).await,
        }
    }

    /// A value with its time; none if it went away since.
    async fn record(&self, key: Key) -> Result<Option<Kept>, StoreError> {
        let (value, until): (Option<Vec<u8>>, i64) =
            self.run(self.scripts.record.prepare_invoke().key(names::record(&key))).await?;
        let expires_at = u64::try_from(until).ok().map(Timestamp::from_millis);
        Ok(value.map(|value| Kept::Record { key, value, expires_at }))
    }

    async fn index(&self, subject: SubjectId) -> Result<Vec<Kept>, StoreError> {
        let mut command = cmd("ZRANGEBYSCORE");
        command.arg(names::index(&subject)).arg(format!("({}", crate::shell::now().as_millis())).arg("+inf");
        let raw: Vec<(Vec<u8>, u64)> = self.ask(command.arg("WITHSCORES")).await?;
        let entry = |(id, until): (Vec<u8>, u64)| {
            let id = id.try_into().map_err(|_| StoreError::Corrupt("a session id of another length"))?;
            let (session, expires_at) = (SessionId::from_random(id), Timestamp::from_millis(until));
            Ok(Kept::Indexed { subject: subject.clone(), session, expires_at })
        };
        raw.into_iter().map(entry).collect()
    }
}
