//! Records and the index of sessions, as SQL.

use rusqlite::{Connection, OptionalExtension as _, Result, params};
use shared::{
    id::{SessionId, SubjectId},
    time::Timestamp,
};

use crate::store::Swapped;

pub(super) fn load(connection: &Connection, key: &[u8], now: Timestamp) -> Result<Option<Vec<u8>>> {
    let sql = "SELECT value FROM records WHERE key = ?1 AND (expires_at IS NULL OR expires_at > ?2)";
    connection.prepare_cached(sql)?.query_row(params![key, millis(now)], |row| row.get(0)).optional()
}

pub(super) fn swap(
    connection: &Connection,
    key: &[u8],
    expected: Option<&[u8]>,
    new: &[u8],
    expires_at: Option<Timestamp>,
    now: Timestamp,
) -> Result<Swapped> {
    if load(connection, key, now)?.as_deref() != expected {
        return Ok(Swapped::Conflict);
    }
    let sql = "INSERT INTO records (key, value, expires_at) VALUES (?1, ?2, ?3)
               ON CONFLICT (key) DO UPDATE SET value = excluded.value, expires_at = excluded.expires_at";
    connection.prepare_cached(sql)?.execute(params![key, new, expires_at.map(millis)])?;
    Ok(Swapped::Done)
}

pub(super) fn index_add(
    connection: &Connection,
    subject: &SubjectId,
    session: &SessionId,
    expires_at: Timestamp,
) -> Result<()> {
    let sql = "INSERT INTO sessions (subject, session, expires_at) VALUES (?1, ?2, ?3)
               ON CONFLICT (subject, session) DO UPDATE SET expires_at = excluded.expires_at";
    let row = params![subject.as_str().as_bytes(), session.as_bytes(), millis(expires_at)];
    connection.prepare_cached(sql)?.execute(row).map(drop)
}

pub(super) fn index_remove(connection: &Connection, subject: &SubjectId, session: &SessionId) -> Result<()> {
    let sql = "DELETE FROM sessions WHERE subject = ?1 AND session = ?2";
    connection.prepare_cached(sql)?.execute(params![subject.as_str().as_bytes(), session.as_bytes()]).map(drop)
}

pub(super) fn index_list(
    connection: &Connection,
    subject: &SubjectId,
    max: usize,
    now: Timestamp,
) -> Result<Vec<SessionId>> {
    let sql = "SELECT session FROM sessions WHERE subject = ?1 AND expires_at > ?2 ORDER BY expires_at DESC LIMIT ?3";
    let mut statement = connection.prepare_cached(sql)?;
    let max = i64::try_from(max).unwrap_or(i64::MAX);
    let rows = statement.query_map(params![subject.as_str().as_bytes(), millis(now), max], |row| {
        row.get::<_, [u8; 16]>(0).map(SessionId::from_random)
    })?;
    rows.collect()
}

/// Drops what nobody can read any more.
pub(super) fn trim(connection: &Connection, now: Timestamp) -> Result<u64> {
    let records = connection.execute("DELETE FROM records WHERE expires_at <= ?1", [millis(now)])?;
    let sessions = connection.execute("DELETE FROM sessions WHERE expires_at <= ?1", [millis(now)])?;
    Ok(u64::try_from(records.saturating_add(sessions)).unwrap_or(u64::MAX))
}

/// SQLite's integers are signed; our times are far from their end.
pub(super) fn millis(time: Timestamp) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}
