//! Floors, keys and policy as signed frames.

use shared::{
    feed::{Cursor, Epoch, FRAME_FLOORS_MAX, FrameKind, Header, assemble, encode_floors},
    pieces::overtaking,
    revocation::Floor,
    time::Timestamp,
};

use super::{Feed, FeedError, Position};
use crate::keys::KeyRing;

impl Feed {
    /// What brings a replica at `position` up to date: the keys and the policy if it lacks them, then deltas, or a snapshot.
    ///
    /// # Errors
    ///
    /// A frame cannot be signed.
    pub async fn frames_since(&self, position: Position) -> Result<Vec<u8>, FeedError> {
        let mut frames = self.versions_since(position)?;
        let mut reached = position;
        loop {
            let Some((header, floors)) = self.delta_since(reached, FRAME_FLOORS_MAX) else {
                frames.extend(self.floor_parts()?);
                return Ok(frames);
            };
            frames.extend(self.floors_frame(&header, &floors)?);
            if floors.len() < FRAME_FLOORS_MAX {
                return Ok(frames);
            }
            reached.cursor = header.upto;
        }
    }

    /// The keys and the policy, as far as those at `position` are older.
    pub(super) fn versions_since(&self, position: Position) -> Result<Vec<u8>, FeedError> {
        let (header, ring) = (self.header(), self.keys.current());
        let mut frames = Vec::new();
        if position.keys < ring.version() {
            frames.extend(self.keys_frame(header, &ring)?);
        }
        frames.extend(self.policy_frame(header, position.policy)?);
        Ok(frames)
    }

    /// The floors after `position`, at most `floors_max`; none if only a snapshot helps. Short of the head the header says nothing
    /// of freshness (I5).
    pub(super) fn delta_since(&self, position: Position, floors_max: usize) -> Option<(Header, Vec<Floor>)> {
        if position.keys < self.feed_since() {
            // What it holds and hands on is signed by a key that nobody will pin any more.
            return None;
        }
        let state = self.read();
        let header = state.header();
        if position.epoch != state.epoch {
            return None;
        }
        if position.cursor > header.upto {
            // Another origin was faster.
            return Some((header, Vec::new()));
        }
        let floors: Vec<Floor> = state.recent.since(position.cursor)?.take(floors_max).collect();
        let upto = Cursor(position.cursor.0.saturating_add(u64::try_from(floors.len()).ok()?));
        let as_of = if upto == header.upto { header.as_of } else { Timestamp::EPOCH };
        Some((Header { after: position.cursor, upto, as_of, ..header }, floors))
    }

    /// An urgent frame for a replica at `position`, if there are wide floors after `sent`: every wide floor that it lacks.
    /// Empty if there are none, or more than one frame holds. Beside it stands how far the log was looked through.
    pub(super) fn urgent_since(
        &self,
        position: Position,
        sent: (Epoch, Cursor),
    ) -> Result<((Epoch, Cursor), Vec<u8>), FeedError> {
        let (header, floors) = {
            let state = self.read();
            let header = Header { kind: FrameKind::Urgent, after: Cursor(0), ..state.header() };
            let in_log =
                |(epoch, after): (Epoch, Cursor)| if epoch == state.epoch { state.recent.since(after) } else { None };
            let log = in_log((position.epoch, position.cursor));
            let all = log.is_none().then(|| state.floors.iter()).into_iter().flatten();
            (header, overtaking(in_log(sent), log.into_iter().flatten().chain(all)))
        };
        let frame = if floors.is_empty() { Vec::new() } else { self.floors_frame(&header, &floors)? };
        Ok(((header.epoch, header.upto), frame))
    }

    pub(super) fn floors_frame(&self, header: &Header, floors: &[Floor]) -> Result<Vec<u8>, FeedError> {
        self.sign(header, &encode_floors(floors))
    }

    /// An empty delta at our own position.
    ///
    /// # Errors
    ///
    /// It cannot be signed.
    pub fn heartbeat_frame(&self) -> Result<Vec<u8>, FeedError> {
        self.sign(&self.header(), &[])
    }

    /// The keys, the policy and every live floor.
    ///
    /// # Errors
    ///
    /// A frame cannot be signed.
    pub async fn snapshot_frames(&self) -> Result<Vec<u8>, FeedError> {
        let mut frames = self.keys_frame(self.header(), &self.keys.current())?;
        frames.extend(self.policy_frame(self.header(), 0)?);
        frames.extend(self.floor_parts()?);
        Ok(frames)
    }

    fn floor_parts(&self) -> Result<Vec<u8>, FeedError> {
        let (header, floors) = self.snapshot_of(FRAME_FLOORS_MAX)?;
        let mut frames = Vec::new();
        for part in 0..header.parts {
            frames.extend(self.part_frame(Header { part, ..header }, &floors, FRAME_FLOORS_MAX)?);
        }
        Ok(frames)
    }

    /// The part that the header names, of the floors that [`Self::snapshot_of`] gave.
    pub(super) fn part_frame(
        &self,
        header: Header,
        floors: &[Floor],
        part_floors: usize,
    ) -> Result<Vec<u8>, FeedError> {
        let floors = floors.chunks(part_floors).nth(usize::from(header.part)).unwrap_or_default();
        self.floors_frame(&header, floors)
    }

    /// Every live floor, and the header of the first of the parts of `part_floors` that they make.
    pub(super) fn snapshot_of(&self, part_floors: usize) -> Result<(Header, Vec<Floor>), FeedError> {
        let state = self.read();
        let floors: Vec<Floor> = state.floors.iter().collect();
        let parts = u16::try_from(floors.len().div_ceil(part_floors).max(1)).map_err(|_| FeedError::Frame)?;
        Ok((Header { kind: FrameKind::Snapshot, after: Cursor(0), parts, ..state.header() }, floors))
    }

    fn keys_frame(&self, header: Header, ring: &KeyRing) -> Result<Vec<u8>, FeedError> {
        let upto = Cursor(ring.version());
        let header = Header { kind: FrameKind::Keys, after: Cursor(0), upto, ..header };
        self.sign(&header, &ring.key_set().encode())
    }

    /// The policy, if it is newer than `known`.
    fn policy_frame(&self, header: Header, known: u64) -> Result<Vec<u8>, FeedError> {
        let policy = self.policies.current();
        if policy.version() <= known {
            return Ok(Vec::new());
        }
        let upto = Cursor(policy.version());
        let header = Header { kind: FrameKind::Policy, after: Cursor(0), upto, ..header };
        self.sign(&header, policy.encoded())
    }

    fn header(&self) -> Header {
        self.read().header()
    }

    fn sign(&self, header: &Header, body: &[u8]) -> Result<Vec<u8>, FeedError> {
        assemble(header, body, |message| self.keys.current().feed().sign(message)).map_err(|_| FeedError::Frame)
    }
}
