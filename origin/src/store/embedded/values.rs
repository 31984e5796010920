//! Records and the index of sessions, as SQL.

use rusqlite::{Connection, OptionalExtension as _, Result, params};
use shared::{
    id::{SessionId, SubjectId},
    time::Timestamp,
};

use crate::store::{Indexed, Swapped};

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

pub(super) fn extend(
    connection: &Connection,
    key: &[u8],
    length: usize,
    more: &[u8],
    expires_at: Timestamp,
    now: Timestamp,
) -> Result<Swapped> {
    let Some(mut value) = load(connection, key, now)?.filter(|value| value.len() == length) else {
        return Ok(Swapped::Conflict);
    };
    value.extend_from_slice(more);
    let sql = "UPDATE records SET value = ?2, expires_at = ?3 WHERE key = ?1";
    connection.prepare_cached(sql)?.execute(params![key, value, millis(expires_at)])?;
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
    after: Option<Indexed>,
    max: usize,
    now: Timestamp,
) -> Result<Vec<Indexed>> {
    let sql = "SELECT expires_at, session FROM sessions
               WHERE subject = ?1 AND expires_at > ?2 AND (expires_at, session) < (?3, ?4)
               ORDER BY expires_at DESC, session DESC LIMIT ?5";
    let mut statement = connection.prepare_cached(sql)?;
    // Without one that was seen, all are under a time that none can have.
    let (before, id) = after.map_or((i64::MAX, [0; 16]), |after| (millis(after.expires_at), *after.session.as_bytes()));
    let max = i64::try_from(max).unwrap_or(i64::MAX);
    let given = params![subject.as_str().as_bytes(), millis(now), before, id, max];
    let rows = statement.query_map(given, |row| {
        let expires_at = Timestamp::from_millis(u64::try_from(row.get::<_, i64>(0)?).unwrap_or(0));
        Ok(Indexed { expires_at, session: SessionId::from_random(row.get(1)?) })
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
