//! The frames of a hub in its SQL storage.
//!
//! Positions are stored as text of 20 digits, which sorts like the numbers and survives JavaScript's 53 bits.

use serde::Deserialize;
use shared::{
    feed::{Cursor, Epoch, FrameKind, Header},
    hub::{FrameStore, Newest},
};
use worker::{Error, Result, SqlStorage, SqlStorageValue};

const SCHEMA: &str = "CREATE TABLE IF NOT EXISTS frames (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    epoch TEXT NOT NULL,
    after_position TEXT NOT NULL,
    upto TEXT NOT NULL,
    frame BLOB NOT NULL
)";

/// The storage of a hub.
pub(super) struct SqlFrames(SqlStorage);

#[derive(Deserialize)]
struct Row {
    epoch: String,
    upto: String,
    count: f64,
}

impl SqlFrames {
    /// Makes the table, if it is not there.
    pub(super) fn open(sql: SqlStorage) -> (Self, Result<()>) {
        let made = sql.exec(SCHEMA, None).map(|_| ());
        (Self(sql), made)
    }
}

impl FrameStore for SqlFrames {
    type Error = Error;

    fn insert(&mut self, header: &Header, frame: &[u8]) -> Result<()> {
        let values = vec![
            name(header.kind).into(),
            digits(header.epoch.0).into(),
            digits(header.after.0).into(),
            digits(header.upto.0).into(),
            frame.to_vec().into(),
        ];
        let query = "INSERT INTO frames (kind, epoch, after_position, upto, frame) VALUES (?, ?, ?, ?, ?)";
        self.0.exec(query, values).map(|_| ())
    }

    fn clear(&mut self, kind: FrameKind) -> Result<()> {
        self.0.exec("DELETE FROM frames WHERE kind = ?", vec![name(kind).into()]).map(|_| ())
    }

    fn read(&self, kind: FrameKind, after: Cursor, bytes: &mut Vec<u8>) -> Result<()> {
        // The snapshot of an empty log ends at 0.
        let comparison = if after == Cursor(0) { ">=" } else { ">" };
        let query = format!("SELECT frame FROM frames WHERE kind = ? AND upto {comparison} ? ORDER BY id");
        for row in self.0.exec(&query, vec![name(kind).into(), digits(after.0).into()])?.raw() {
            for value in row? {
                if let SqlStorageValue::Blob(frame) = value {
                    bytes.extend_from_slice(&frame);
                }
            }
        }
        Ok(())
    }

    fn newest(&self, kind: FrameKind) -> Result<Option<Newest>> {
        let query = "SELECT MAX(epoch) AS epoch, MAX(upto) AS upto, COUNT(*) AS count FROM frames WHERE kind = ? \
                     HAVING count > 0";
        let rows: Vec<Row> = self.0.exec(query, vec![name(kind).into()])?.to_array()?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count of rows")]
        let newest = |row: Row| Newest {
            epoch: Epoch(row.epoch.parse().unwrap_or(0)),
            upto: Cursor(row.upto.parse().unwrap_or(0)),
            count: row.count as usize,
        };
        Ok(rows.into_iter().next().map(newest))
    }
}

fn name(kind: FrameKind) -> &'static str {
    match kind {
        FrameKind::Delta => "delta",
        FrameKind::Snapshot => "snapshot",
        FrameKind::Keys => "keys",
        FrameKind::Policy => "policy",
        FrameKind::Urgent => "urgent",
    }
}

fn digits(number: u64) -> String {
    format!("{number:020}")
}
