//! An origin: follows the log, and makes signed frames of what it knows. Small pieces, so that snapshots have parts and a hub
//! that lags needs one.

use shared::{
    feed::{Cursor, Epoch, FrameKind, Header, encode_floors},
    replica::Position,
    revocation::{Floor, Floors},
    time::Timestamp,
};

use crate::{
    sign::Signatures,
    store::{EPOCH, Store},
};

/// Entries of the log that an origin holds; a replica further behind gets a snapshot.
const RECENT_MAX: u64 = 24;

/// Floors in one part of a snapshot.
const PART_FLOORS_MAX: usize = 8;

/// The version of the token keys, which never change here.
pub(crate) const KEYS_VERSION: u64 = 1;

pub(crate) struct Origin {
    pub(crate) up: bool,
    /// Counts its restarts, so that what it was about to do is not done by its successor.
    pub(crate) life: u64,
    pub(crate) floors: Floors,
    pub(crate) cursor: u64,
    pub(crate) as_of: u64,
    start: u64,
}

impl Origin {
    /// Reads everything as it starts.
    pub(crate) fn start(store: &Store, life: u64, now: u64) -> Self {
        let head = store.head();
        let mut origin = Self { up: true, life, floors: Floors::new(), cursor: head, as_of: now, start: head };
        origin.floors.extend(store.between(0, head));
        origin
    }

    /// Takes in the log up to `head`, as it was at `as_of`.
    pub(crate) fn read(&mut self, store: &Store, head: u64, as_of: u64) {
        self.floors.extend(store.between(self.cursor, head));
        self.cursor = self.cursor.max(head);
        self.start = self.start.max(self.cursor.saturating_sub(RECENT_MAX));
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
        let mut frames = Vec::new();
        if position.keys < KEYS_VERSION {
            let header = Header { kind: FrameKind::Keys, upto: Cursor(KEYS_VERSION), ..self.header(0) };
            frames.extend(signatures.frame(&header, &signatures.token_keys().encode()));
        }
        let after = position.cursor.0;
        if position.epoch == EPOCH && after > self.cursor {
            frames.extend(self.heartbeat(signatures));
        } else if position.epoch == EPOCH && after >= self.start {
            let floors = store.between(after, self.cursor);
            frames.extend(signatures.frame(&self.header(after), &encode_floors(&floors)));
        } else {
            frames.extend(self.snapshot(signatures));
        }
        frames
    }

    /// The keys and every floor.
    pub(crate) fn everything(&self, store: &Store, signatures: Signatures) -> Vec<u8> {
        let nothing = Position { epoch: Epoch(0), cursor: Cursor(0), keys: 0, policy: 0 };
        self.frames_since(nothing, store, signatures)
    }

    fn snapshot(&self, signatures: Signatures) -> Vec<u8> {
        let floors: Vec<Floor> = self.floors.iter().collect();
        let mut chunks: Vec<&[Floor]> = floors.chunks(PART_FLOORS_MAX).collect();
        if chunks.is_empty() {
            chunks.push(&[]);
        }
        let parts = u16::try_from(chunks.len()).unwrap_or(u16::MAX);
        let header = Header { kind: FrameKind::Snapshot, parts, after: Cursor(0), ..self.header(0) };
        let part =
            |(part, floors): (u16, &[Floor])| signatures.frame(&Header { part, ..header }, &encode_floors(floors));
        (0..parts).zip(chunks).flat_map(part).collect()
    }

    fn header(&self, after: u64) -> Header {
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
