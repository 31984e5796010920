//! The floor log and the live floors, as SQL.

use std::time::Duration;

use rusqlite::{Connection, Error, OptionalExtension as _, Result, params, types::Type};
use shared::{
    feed::{Cursor, Epoch},
    revocation::{Floor, Version},
    time::Timestamp,
};

use super::values::millis;
use crate::store::Entries;

/// Entries are kept this long for replicas that are a little behind; after that a snapshot stands for them.
const KEPT: Duration = Duration::from_secs(600);

/// Random bits under the time of creation in an epoch.
const EPOCH_RANDOM_BITS: u32 = 20;

/// Gives a new log its epoch: later logs have higher ones.
pub(super) fn prepare(connection: &Connection, now: Timestamp) -> Result<()> {
    let sql = "INSERT INTO meta (name, number) VALUES ('epoch', (?1 << ?2) | (random() & ((1 << ?2) - 1)))
               ON CONFLICT (name) DO NOTHING";
    connection.execute(sql, params![millis(now), EPOCH_RANDOM_BITS])?;
    connection.execute("INSERT INTO meta (name, number) VALUES ('head', 0) ON CONFLICT (name) DO NOTHING", [])?;
    Ok(())
}

pub(super) fn epoch(connection: &Connection) -> Result<Epoch> {
    let sql = "SELECT number FROM meta WHERE name = 'epoch'";
    let epoch: i64 = connection.prepare_cached(sql)?.query_row([], |row| row.get(0))?;
    Ok(Epoch(epoch.unsigned_abs()))
}

/// An epoch above `known`, unless the log has one.
pub(super) fn renew(connection: &Connection, known: Epoch, now: Timestamp) -> Result<Epoch> {
    let held = epoch(connection)?;
    if held > known {
        return Ok(held);
    }
    let sql = "UPDATE meta SET number = max(?1 + 1, (?2 << ?3) | (random() & ((1 << ?3) - 1))) WHERE name = 'epoch'";
    let known = i64::try_from(known.0).unwrap_or(i64::MAX).min(i64::MAX.saturating_sub(1));
    connection.execute(sql, params![known, millis(now), EPOCH_RANDOM_BITS])?;
    epoch(connection)
}

/// The newest position.
pub(super) fn head(connection: &Connection) -> Result<Cursor> {
    let sql = "SELECT number FROM meta WHERE name = 'head'";
    let head: i64 = connection.prepare_cached(sql)?.query_row([], |row| row.get(0))?;
    Ok(Cursor(head.unsigned_abs()))
}

pub(super) fn append(connection: &Connection, floors: &[Floor], now: Timestamp) -> Result<Cursor> {
    let mut position = head(connection)?;
    for floor in floors {
        position = Cursor(position.0.saturating_add(1));
        connection.prepare_cached("INSERT INTO log (position, floor, at) VALUES (?1, ?2, ?3)")?.execute(params![
            number(position),
            floor.encode(),
            millis(now)
        ])?;
        join(connection, floor)?;
    }
    connection.prepare_cached("UPDATE meta SET number = ?1 WHERE name = 'head'")?.execute([number(position)])?;
    Ok(position)
}

/// Floors never fall, and are kept as long as any of them asks for.
fn join(connection: &Connection, floor: &Floor) -> Result<()> {
    let sql = "SELECT floor FROM floors WHERE key = ?1";
    let known: Option<[u8; Floor::ENCODED_LEN]> =
        connection.prepare_cached(sql)?.query_row([floor.key.as_bytes()], |row| row.get(0)).optional()?;
    let known = known.map_or(Floor { lowest: Version::NONE, ..*floor }, |known| Floor::decode(&known));
    let joined = Floor {
        key: floor.key,
        lowest: floor.lowest.max(known.lowest),
        forget_at: floor.forget_at.max(known.forget_at),
    };
    let sql = "INSERT INTO floors (key, floor, forget_at) VALUES (?1, ?2, ?3)
               ON CONFLICT (key) DO UPDATE SET floor = excluded.floor, forget_at = excluded.forget_at";
    let row = params![joined.key.as_bytes(), joined.encode(), millis(joined.forget_at)];
    connection.prepare_cached(sql)?.execute(row).map(drop)
}

pub(super) fn read(connection: &Connection, after: Cursor, max: usize) -> Result<(Cursor, Entries)> {
    let head = head(connection)?;
    if after > head {
        return Ok((head, Entries::SnapshotNeeded));
    }
    let sql = "SELECT position, floor FROM log WHERE position > ?1 ORDER BY position LIMIT ?2";
    let mut statement = connection.prepare_cached(sql)?;
    let max = i64::try_from(max).unwrap_or(i64::MAX);
    let mut rows = statement.query(params![number(after), max])?;
    let (mut floors, mut expected) = (Vec::new(), after);
    while let Some(row) = rows.next()? {
        expected = Cursor(expected.0.saturating_add(1));
        if row.get::<_, i64>(0)? != number(expected) {
            return Ok((head, Entries::SnapshotNeeded));
        }
        floors.push(Floor::decode(&row.get(1)?));
    }
    let gap = floors.is_empty() && after < head && max > 0;
    Ok((head, if gap { Entries::SnapshotNeeded } else { Entries::Contiguous(floors) }))
}

pub(super) fn floors(connection: &Connection, now: Timestamp) -> Result<(Cursor, Vec<Floor>)> {
    let mut statement = connection.prepare_cached("SELECT floor FROM floors WHERE forget_at > ?1")?;
    let rows = statement.query_map([millis(now)], |row| Ok(Floor::decode(&row.get(0)?)))?;
    Ok((head(connection)?, rows.collect::<Result<_>>()?))
}

/// Drops floors whose time is over and entries that a snapshot stands for.
pub(super) fn trim(connection: &Connection, now: Timestamp) -> Result<u64> {
    let floors = connection.execute("DELETE FROM floors WHERE forget_at <= ?1", [millis(now)])?;
    let entries = connection.execute("DELETE FROM log WHERE at <= ?1", [millis(now.saturating_sub(KEPT))])?;
    u64::try_from(floors.saturating_add(entries))
        .map_err(|error| Error::FromSqlConversionFailure(0, Type::Integer, error.into()))
}

fn number(position: Cursor) -> i64 {
    i64::try_from(position.0).unwrap_or(i64::MAX)
}
