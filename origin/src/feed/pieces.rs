//! What a hub lacks, in pieces that a slow link carries in a fraction of a second each; floors of wide scopes overtake the rest.
//!
//! Invariant (I5): only the piece that reaches the head says how fresh its receiver is.

use std::time::Duration;

use shared::{
    feed::{Cursor, Epoch, Header},
    pieces::PieceSize,
    replica::Position,
    revocation::Floor,
};

use super::{Feed, FeedError};

/// Floors in one part of a snapshot: a second at 256 kbit/s. A million floors make about a thousand parts.
const PART_FLOORS: usize = 1_024;

/// One request to a hub.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) frames: Vec<u8>,
    /// Where the hub stands that took it in.
    pub(super) end: Position,
    /// Whether more would have followed if the piece could be larger.
    is_full: bool,
}

/// What one hub is being sent.
pub(super) struct Pieces {
    /// Of the next piece.
    size: PieceSize,
    /// Up to where wide floors were looked for, and sent if there were any.
    urgent: (Epoch, Cursor),
    snapshot: Option<Outgoing>,
}

/// A snapshot of which some parts are still to be sent. Held once per hub that needs one: at most 32 MiB.
struct Outgoing {
    /// Of the next part.
    header: Header,
    floors: Vec<Floor>,
    /// The version of the keys since which the feed key signs; its parts are signed by one key.
    feed_since: u64,
}

impl Piece {
    /// Frames that leave out nothing for want of room.
    pub(super) fn alone(frames: Vec<u8>, end: Position) -> Self {
        Self { frames, end, is_full: false }
    }
}

impl Pieces {
    pub(super) fn new() -> Self {
        Self { size: PieceSize::FIRST, urgent: (Epoch(0), Cursor(0)), snapshot: None }
    }

    /// The next piece for a hub at `position`.
    ///
    /// # Errors
    ///
    /// A frame cannot be signed.
    pub(super) fn next(&mut self, feed: &Feed, position: Position) -> Result<Piece, FeedError> {
        // Before the frames: what changes meanwhile is not promised.
        let own = feed.position();
        let versions = feed.versions_since(position)?;
        let mut piece = self.floors(feed, position, own)?;
        let mut frames = self.urgent(feed, position, piece.end)?;
        frames.extend(versions);
        frames.append(&mut piece.frames);
        Ok(Piece { frames, ..piece })
    }

    /// The hub took in a piece.
    pub(super) fn taken(&mut self, piece: &Piece, took: Duration) {
        self.size = self.size.taken(piece.is_full, took);
    }

    /// The hub stands elsewhere than thought, and may have lost the parts and the urgent frame that it was sent.
    pub(super) fn missed(&mut self) {
        *self = Self { size: self.size, ..Self::new() };
    }

    /// What the hub took in is not known any more.
    pub(super) fn failed(&mut self) {
        *self = Self { size: self.size.failed(), ..Self::new() };
    }

    /// Floors in their order.
    fn floors(&mut self, feed: &Feed, position: Position, own: Position) -> Result<Piece, FeedError> {
        if self.snapshot.is_none()
            && let Some((header, floors)) = feed.delta_since(position, self.size.floors_max())
        {
            let is_full = floors.len() >= self.size.floors_max();
            let end = Position { epoch: header.epoch, cursor: header.upto, ..own };
            return Ok(Piece { frames: feed.floors_frame(&header, &floors)?, end, is_full });
        }
        let feed_since = feed.feed_since();
        let is_current =
            |begun: &Outgoing| begun.header.epoch == feed.position().epoch && begun.feed_since == feed_since;
        let mut snapshot = match self.snapshot.take().filter(is_current) {
            Some(begun) => begun,
            None => {
                let (header, floors) = feed.snapshot_of(PART_FLOORS)?;
                Outgoing { header, floors, feed_since }
            }
        };
        let Header { epoch, upto, part, parts, .. } = snapshot.header;
        let piece = self.size.parts(PART_FLOORS, part, parts);
        let (end, mut frames) = (piece.end, Vec::new());
        for part in piece {
            frames.extend(feed.part_frame(Header { part, ..snapshot.header }, &snapshot.floors, PART_FLOORS)?);
        }
        if end >= parts {
            return Ok(Piece::alone(frames, Position { epoch, cursor: upto, ..own }));
        }
        snapshot.header.part = end;
        self.snapshot = Some(snapshot);
        // Until the last part the hub stands where it did.
        Ok(Piece { frames, end: Position { keys: own.keys, policy: own.policy, ..position }, is_full: true })
    }

    /// Wide floors that lie behind `end`, if there are any that were not sent before.
    fn urgent(&mut self, feed: &Feed, position: Position, end: Position) -> Result<Vec<u8>, FeedError> {
        let sent = self.urgent.max((end.epoch, end.cursor));
        let (looked_through, frame) = feed.urgent_since(position, sent)?;
        self.urgent = looked_through;
        Ok(frame)
    }
}
