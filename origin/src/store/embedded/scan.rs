//! Everything that is kept, page by page, as SQL: the records in the order of their keys, then the index.

use rusqlite::{Connection, Result, params};
use shared::{
    id::{SessionId, SubjectId},
    time::Timestamp,
};

use super::values::millis;
use crate::store::{Kept, Key, Place, Scanned};

/// Rows of a page: far below a megabyte, except for segments of the audit trail.
const PAGE: usize = 512;

const RECORDS: u8 = b'r';
const INDEX: u8 = b'i';

/// The page that begins after a place; none if there is a key or subject that nobody can have written.
pub(super) fn page(connection: &Connection, from: &Place, now: Timestamp) -> Result<Option<Scanned>> {
    match from.0.split_first() {
        None => records(connection, &[], now),
        Some((&RECORDS, after)) => records(connection, after, now),
        Some((_, after)) => index(connection, after, now),
    }
}

fn records(connection: &Connection, after: &[u8], now: Timestamp) -> Result<Option<Scanned>> {
    let sql = "SELECT key, value, expires_at FROM records
               WHERE key > ?1 AND (expires_at IS NULL OR expires_at > ?2) ORDER BY key LIMIT ?3";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params![after, millis(now), i64::try_from(PAGE).unwrap_or(i64::MAX)])?;
    let mut kept = Vec::new();
    let mut last = None;
    while let Some(row) = rows.next()? {
        let bytes: Vec<u8> = row.get(0)?;
        let Some(key) = Key::from_bytes(&bytes) else { return Ok(None) };
        let expires_at = row.get::<_, Option<i64>>(2)?.map(time);
        kept.push(Kept::Record { key, value: row.get(1)?, expires_at });
        last = Some(bytes);
    }
    let next = match last {
        Some(last) if kept.len() == PAGE => [&[RECORDS], last.as_slice()].concat(),
        _ => vec![INDEX],
    };
    Ok(Some(Scanned { kept, next: Some(Place(next)) }))
}

/// A place in the index is the session, which has a fixed length, and the subject.
fn index(connection: &Connection, after: &[u8], now: Timestamp) -> Result<Option<Scanned>> {
    let sql = "SELECT subject, session, expires_at FROM sessions
               WHERE (subject, session) > (?1, ?2) AND expires_at > ?3 ORDER BY subject, session LIMIT ?4";
    let (session, subject) = after.split_at_checked(16).unwrap_or_default();
    let mut statement = connection.prepare_cached(sql)?;
    let limit = i64::try_from(PAGE).unwrap_or(i64::MAX);
    let mut rows = statement.query(params![subject, session, millis(now), limit])?;
    let (mut kept, mut last) = (Vec::new(), None);
    while let Some(row) = rows.next()? {
        let (subject, session): (Vec<u8>, [u8; 16]) = (row.get(0)?, row.get(1)?);
        let Some(id) = std::str::from_utf8(&subject).ok().and_then(|text| text.parse::<SubjectId>().ok()) else {
            return Ok(None);
        };
        let expires_at = time(row.get(2)?);
        kept.push(Kept::Indexed { subject: id, session: SessionId::from_random(session), expires_at });
        last = Some([&[INDEX], session.as_slice(), &subject].concat());
    }
    let next = last.filter(|_| kept.len() == PAGE).map(Place);
    Ok(Some(Scanned { kept, next }))
}

fn time(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis.unsigned_abs())
}
