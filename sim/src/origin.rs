//! An origin: follows the log, and makes signed frames of what it knows.

use shared::{
    feed::{Cursor, Epoch, FRAME_FLOORS_MAX, FrameKind, Header},
    replica::Position,
    revocation::{Floor, Floors},
    time::Timestamp,
};

use crate::{
    sign::Signatures,
    store::{EPOCH, Store},
};

/// How much origins hold and send at once.
#[derive(Clone, Copy)]
pub(crate) struct Lengths {
    /// Entries of the log that an origin holds; a replica further behind gets a snapshot.
    pub(crate) recent_max: u64,
    /// Floors in one part of a snapshot.
    pub(crate) part_floors: usize,
}

impl Lengths {
    /// So small that snapshots have parts, and that a hub which lags needs one.
    pub(crate) const SMALL: Self = Self { recent_max: 24, part_floors: 8 };
}

/// The version of the token keys, which never change here.
pub(crate) const KEYS_VERSION: u64 = 1;

pub(crate) struct Origin {
    pub(crate) up: bool,
    /// Counts its restarts, so that what it was about to do is not done by its successor.
    pub(crate) life: u64,
    pub(crate) floors: Floors,
    pub(crate) cursor: u64,
    pub(crate) as_of: u64,
    pub(crate) lengths: Lengths,
    start: u64,
}

impl Origin {
    /// Reads everything as it starts.
    pub(crate) fn start(store: &Store, lengths: Lengths, life: u64, now: u64) -> Self {
        let head = store.head();
        let mut origin = Self { up: true, life, floors: Floors::new(), cursor: head, as_of: now, lengths, start: head };
        origin.floors.extend(store.between(0, head));
        origin
    }

    /// Takes in the log up to `head`, as it was at `as_of`.
    pub(crate) fn read(&mut self, store: &Store, head: u64, as_of: u64) {
        self.floors.extend(store.between(self.cursor, head));
        self.cursor = self.cursor.max(head);
        self.start = self.start.max(self.cursor.saturating_sub(self.lengths.recent_max));
        self.as_of = self.as_of.max(as_of);
    }

    pub(crate) fn position(&self) -> Position {
        Position { epoch: EPOCH, cursor: Cursor(self.cursor), keys: KEYS_VERSION, policy: 0 }
    }

    pub(crate) fn heartbeat(&self, signatures: Signatures) -> Vec<u8> {
        signatures.frame(&self.header(self.cursor), &[])
    }

    /// What brings a replica at `position` up to date, as `frames_since` of the origin makes it.
    pub(crate) fn frames_since(&self, position: Position, store: &Store, signatures: Signatures) -> Vec<u8> {
        let mut frames = self.versions_since(position, signatures);
        frames.extend(match self.delta_since(position, FRAME_FLOORS_MAX, store) {
            Some((header, floors)) => signatures.floors(&header, &floors),
            None => self.snapshot(signatures),
        });
        frames
    }

    /// The keys, if those at `position` are older.
    pub(crate) fn versions_since(&self, position: Position, signatures: Signatures) -> Vec<u8> {
        if position.keys >= KEYS_VERSION {
            return Vec::new();
        }
        let header = Header { kind: FrameKind::Keys, upto: Cursor(KEYS_VERSION), ..self.header(0) };
        signatures.frame(&header, &signatures.token_keys().encode())
    }

    /// The floors after `position`, at most `floors_max`; none if only a snapshot helps.
    pub(crate) fn delta_since(
        &self,
        position: Position,
        floors_max: usize,
        store: &Store,
    ) -> Option<(Header, Vec<Floor>)> {
        let after = position.cursor.0;
        if position.epoch != EPOCH {
            return None;
        }
        if after > self.cursor {
            return Some((self.header(self.cursor), Vec::new()));
        }
        let mut floors = self.log_since(after, store)?;
        floors.truncate(floors_max);
        let upto = after + floors.len() as u64;
        let header = self.header(after);
        // Short of the head it says nothing of freshness (I5).
        let as_of = if upto == self.cursor { header.as_of } else { Timestamp::EPOCH };
        Some((Header { upto: Cursor(upto), as_of, ..header }, floors))
    }

    /// The floors after `after` that are held in the order of the log; none if those do not reach back that far.
    pub(crate) fn log_since(&self, after: u64, store: &Store) -> Option<Vec<Floor>> {
        (self.start..=self.cursor).contains(&after).then(|| store.between(after, self.cursor))
    }

    /// The keys and every floor.
    pub(crate) fn everything(&self, store: &Store, signatures: Signatures) -> Vec<u8> {
        let nothing = Position { epoch: Epoch(0), cursor: Cursor(0), keys: 0, policy: 0 };
        self.frames_since(nothing, store, signatures)
    }

    fn snapshot(&self, signatures: Signatures) -> Vec<u8> {
        let (header, floors) = self.whole();
        (0..header.parts).flat_map(|part| self.part(Header { part, ..header }, &floors, signatures)).collect()
    }

    /// Every floor, and the header of the first of the parts that they make.
    pub(crate) fn whole(&self) -> (Header, Vec<Floor>) {
        let floors: Vec<Floor> = self.floors.iter().collect();
        let parts = floors.len().div_ceil(self.lengths.part_floors).max(1);
        let parts = u16::try_from(parts).unwrap_or(u16::MAX);
        (Header { kind: FrameKind::Snapshot, parts, ..self.header(0) }, floors)
    }

    /// The part that the header names, of the floors that [`Self::whole`] gave.
    pub(crate) fn part(&self, header: Header, floors: &[Floor], signatures: Signatures) -> Vec<u8> {
        let floors = floors.chunks(self.lengths.part_floors).nth(usize::from(header.part)).unwrap_or_default();
        signatures.floors(&header, floors)
    }

    pub(crate) fn header(&self, after: u64) -> Header {
        Header {
            kind: FrameKind::Delta,
            part: 0,
            parts: 1,
            epoch: EPOCH,
            after: Cursor(after),
            upto: Cursor(self.cursor),
            as_of: Timestamp::from_millis(self.as_of),
        }
    }
}
