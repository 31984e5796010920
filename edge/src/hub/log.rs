//! The frames of a hub in its SQL storage.
//!
//! Positions are stored as text of 20 digits, which sorts like the numbers and survives JavaScript's 53 bits.

use serde::Deserialize;
use shared::{
    feed::{Cursor, Epoch, Frame, FrameKind, Header},
    replica::Position,
};
use worker::{Result, SqlStorage, SqlStorageValue};

const SCHEMA: &str = "CREATE TABLE IF NOT EXISTS frames (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    epoch TEXT NOT NULL,
    after_position TEXT NOT NULL,
    upto TEXT NOT NULL,
    frame BLOB NOT NULL
)";

/// What storing a frame did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stored {
    /// The hub stands at the end of the frame now.
    Advanced,
    /// Nothing new.
    Known,
    /// Something before the frame is missing.
    Gap,
}

/// The frames and where they end.
pub(super) struct Log {
    sql: SqlStorage,
    position: Position,
    deltas: usize,
    /// Parts of a snapshot that is still incomplete, in order.
    parts: Vec<(Header, Vec<u8>)>,
    heartbeat: Option<(u64, Vec<u8>)>,
}

#[derive(Deserialize)]
struct Row {
    epoch: String,
    upto: String,
    count: f64,
}

impl Log {
    /// Opens the storage. Storage that cannot be read gives an empty log, which asks for a snapshot.
    pub(super) fn open(sql: SqlStorage) -> Self {
        let position = Position { epoch: Epoch(0), cursor: Cursor(0), keys: 0 };
        let mut log = Self { sql, position, deltas: 0, parts: Vec::new(), heartbeat: None };
        if let Err(error) = log.load() {
            worker::console_error!("the storage of the hub cannot be read: {error}");
        }
        log
    }

    pub(super) fn position(&self) -> Position {
        self.position
    }

    pub(super) fn deltas(&self) -> usize {
        self.deltas
    }

    /// Stores a frame whose signature was checked.
    pub(super) fn store(&mut self, frame: &Frame<'_>) -> Result<Stored> {
        let header = frame.header();
        match header.kind {
            FrameKind::Keys => self.store_keys(frame),
            FrameKind::Snapshot => self.store_part(frame),
            FrameKind::Delta if header.epoch != self.position.epoch || header.after > self.position.cursor => {
                // An older log has nothing to say; a newer one has to begin with its snapshot.
                Ok(if header.epoch < self.position.epoch { Stored::Known } else { Stored::Gap })
            }
            FrameKind::Delta => self.store_delta(frame),
        }
    }

    /// The frames that bring a gate from `position` to where the hub stands.
    pub(super) fn since(&self, position: Position) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        if position.keys < self.position.keys {
            self.append(&mut bytes, "SELECT frame FROM frames WHERE kind = 'keys'", Vec::new())?;
        }
        if self.position.epoch == Epoch(0) {
            return Ok(bytes);
        }
        let after = digits(position.cursor.0);
        if position.epoch != self.position.epoch || !self.reaches_back_to(&after)? {
            self.append(&mut bytes, "SELECT frame FROM frames WHERE kind = 'snapshot' ORDER BY id", Vec::new())?;
            self.append(&mut bytes, "SELECT frame FROM frames WHERE kind = 'delta' ORDER BY id", Vec::new())?;
        } else {
            let query = "SELECT frame FROM frames WHERE kind = 'delta' AND upto > ? ORDER BY id";
            self.append(&mut bytes, query, vec![after.into()])?;
        }
        if let Some((_, heartbeat)) = &self.heartbeat {
            bytes.extend_from_slice(heartbeat);
        }
        Ok(bytes)
    }

    fn reaches_back_to(&self, after: &str) -> Result<bool> {
        // The snapshot's end is where the deltas begin.
        let query =
            "SELECT '' AS epoch, '' AS upto, COUNT(*) AS count FROM frames WHERE kind = 'snapshot' AND upto <= ?";
        let rows: Vec<Row> = self.sql.exec(query, vec![after.into()])?.to_array()?;
        Ok(rows.first().is_some_and(|row| row.count > 0.0))
    }

    fn append(&self, bytes: &mut Vec<u8>, query: &str, bindings: Vec<SqlStorageValue>) -> Result<()> {
        for row in self.sql.exec(query, bindings)?.raw() {
            for value in row? {
                if let SqlStorageValue::Blob(frame) = value {
                    bytes.extend_from_slice(&frame);
                }
            }
        }
        Ok(())
    }

    fn store_keys(&mut self, frame: &Frame<'_>) -> Result<Stored> {
        let version = frame.header().upto.0;
        if version <= self.position.keys {
            return Ok(Stored::Known);
        }
        self.sql.exec("DELETE FROM frames WHERE kind = 'keys'", None)?;
        self.insert("keys", frame.header(), frame.as_bytes())?;
        self.position.keys = version;
        Ok(Stored::Advanced)
    }

    fn store_delta(&mut self, frame: &Frame<'_>) -> Result<Stored> {
        let header = frame.header();
        if header.upto < self.position.cursor {
            return Ok(Stored::Known);
        }
        if frame.is_heartbeat() {
            let as_of = header.as_of.as_millis();
            if self.heartbeat.as_ref().is_none_or(|(known, _)| *known < as_of) {
                self.heartbeat = Some((as_of, frame.as_bytes().to_vec()));
            }
            return Ok(Stored::Known);
        }
        if header.upto == self.position.cursor {
            return Ok(Stored::Known);
        }
        self.insert("delta", header, frame.as_bytes())?;
        self.deltas = self.deltas.saturating_add(1);
        self.position.cursor = header.upto;
        self.heartbeat = None;
        Ok(Stored::Advanced)
    }

    fn store_part(&mut self, frame: &Frame<'_>) -> Result<Stored> {
        let header = *frame.header();
        let ours = (self.position.epoch, self.position.cursor);
        if (header.epoch, header.upto) < ours {
            return Ok(Stored::Known);
        }
        if header.part == 0 {
            self.parts.clear();
        }
        let follows = self
            .parts
            .last()
            .is_none_or(|(last, _)| (last.epoch, last.upto, last.as_of) == (header.epoch, header.upto, header.as_of));
        if !follows || usize::from(header.part) != self.parts.len() {
            return Ok(Stored::Gap);
        }
        self.parts.push((header, frame.as_bytes().to_vec()));
        if self.parts.len() < usize::from(header.parts) {
            return Ok(Stored::Known);
        }
        self.sql.exec("DELETE FROM frames WHERE kind IN ('snapshot', 'delta')", None)?;
        for (header, bytes) in core::mem::take(&mut self.parts) {
            self.insert("snapshot", &header, &bytes)?;
        }
        (self.position.epoch, self.position.cursor) = (header.epoch, header.upto);
        self.deltas = 0;
        self.heartbeat = None;
        Ok(Stored::Advanced)
    }

    fn insert(&self, kind: &str, header: &Header, bytes: &[u8]) -> Result<()> {
        let values = vec![
            kind.into(),
            digits(header.epoch.0).into(),
            digits(header.after.0).into(),
            digits(header.upto.0).into(),
            bytes.to_vec().into(),
        ];
        let query = "INSERT INTO frames (kind, epoch, after_position, upto, frame) VALUES (?, ?, ?, ?, ?)";
        self.sql.exec(query, values)?;
        Ok(())
    }

    fn load(&mut self) -> Result<()> {
        self.sql.exec(SCHEMA, None)?;
        let last = |kinds: &str| -> Result<Option<Row>> {
            let query = format!(
                "SELECT MAX(epoch) AS epoch, MAX(upto) AS upto, COUNT(*) AS count FROM frames WHERE kind {kinds} HAVING count > 0"
            );
            Ok(self.sql.exec(&query, None)?.to_array()?.into_iter().next())
        };
        let (floors, deltas, keys) = (last("IN ('snapshot', 'delta')")?, last("= 'delta'")?, last("= 'keys'")?);
        if let Some(row) = floors {
            self.position.epoch = Epoch(row.epoch.parse().unwrap_or(0));
            self.position.cursor = Cursor(row.upto.parse().unwrap_or(0));
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count of rows")]
        let counted = deltas.map_or(0, |row| row.count as usize);
        self.deltas = counted;
        self.position.keys = keys.and_then(|row| row.upto.parse().ok()).unwrap_or(0);
        Ok(())
    }
}

fn digits(number: u64) -> String {
    format!("{number:020}")
}
