//! What an origin pushes to one hub, piece by piece, as the pusher of the origin does; the sizes are those of `shared`.

use core::time::Duration;

use shared::{
    feed::{FrameKind, Header},
    pieces::{PieceSize, overtaking},
    replica::Position,
    revocation::Floor,
};

use crate::{
    Mutant,
    origin::Origin,
    sign::Signatures,
    store::{EPOCH, Store},
};

/// One request to a hub.
pub(crate) struct Piece {
    pub(crate) frames: Vec<u8>,
    /// Where the hub stands that took it in.
    pub(crate) end: Position,
    /// Whether more would have followed had there been room.
    is_full: bool,
}

/// What one hub is being sent.
#[derive(Clone)]
pub(crate) struct Pieces {
    size: PieceSize,
    /// Up to where wide floors were looked for, and sent if there were any.
    urgent: Option<u64>,
    snapshot: Option<Outgoing>,
}

/// A snapshot of which some parts are still to be sent; the header is that of the next.
#[derive(Clone)]
struct Outgoing {
    header: Header,
    floors: Vec<Floor>,
}

impl Default for Pieces {
    fn default() -> Self {
        Self { size: PieceSize::FIRST, urgent: None, snapshot: None }
    }
}

impl Piece {
    /// Frames that leave out nothing for want of room.
    pub(crate) fn alone(frames: Vec<u8>, end: Position) -> Self {
        Self { frames, end, is_full: false }
    }
}

impl Pieces {
    /// The next piece for a hub at `position`.
    pub(crate) fn next(
        &mut self,
        origin: &Origin,
        position: Position,
        store: &Store,
        signatures: Signatures,
        mutant: Option<Mutant>,
    ) -> Piece {
        let mut piece = self.floors(origin, position, store, signatures, mutant);
        let mut frames = Vec::new();
        if mutant != Some(Mutant::NothingOvertakes) {
            frames = self.urgent(origin, position, piece.end, store, signatures);
        }
        frames.extend(origin.versions_since(position, signatures));
        frames.append(&mut piece.frames);
        Piece { frames, ..piece }
    }

    /// The hub took in a piece.
    pub(crate) fn taken(&mut self, piece: &Piece, took: Duration) {
        self.size = self.size.taken(piece.is_full, took);
    }

    /// The hub stands elsewhere than thought.
    pub(crate) fn missed(&mut self) {
        *self = Self { size: self.size, ..Self::default() };
    }

    /// What the hub took in is not known any more.
    pub(crate) fn failed(&mut self) {
        *self = Self { size: self.size.failed(), ..Self::default() };
    }

    /// Floors in their order.
    fn floors(
        &mut self,
        origin: &Origin,
        position: Position,
        store: &Store,
        signatures: Signatures,
        mutant: Option<Mutant>,
    ) -> Piece {
        let own = origin.position();
        let floors_max = if mutant == Some(Mutant::PushesWhole) { usize::MAX } else { self.size.floors_max() };
        let delta = if self.snapshot.is_none() { origin.delta_since(position, floors_max, store) } else { None };
        if let Some((mut header, floors)) = delta {
            if mutant == Some(Mutant::FreshPieces) {
                header.as_of = origin.header(0).as_of;
            }
            let end = Position { cursor: header.upto, ..own };
            return Piece { frames: signatures.floors(&header, &floors), end, is_full: floors.len() >= floors_max };
        }
        let mut snapshot = self.snapshot.take().unwrap_or_else(|| {
            let (header, floors) = origin.whole();
            Outgoing { header, floors }
        });
        let Header { upto, part, parts, .. } = snapshot.header;
        let parts = match mutant {
            Some(Mutant::PushesWhole) => part..parts,
            _ => self.size.parts(origin.lengths.part_floors, part, parts),
        };
        snapshot.header.part = parts.end;
        let frames =
            parts.flat_map(|part| origin.part(Header { part, ..snapshot.header }, &snapshot.floors, signatures));
        let frames = frames.collect();
        if snapshot.header.part >= snapshot.header.parts {
            return Piece::alone(frames, Position { cursor: upto, ..own });
        }
        self.snapshot = Some(snapshot);
        // Until the last part the hub stands where it did.
        Piece { frames, end: Position { keys: own.keys, policy: own.policy, ..position }, is_full: true }
    }

    /// Wide floors that lie behind `end`, if there are any that were not sent before.
    fn urgent(
        &mut self,
        origin: &Origin,
        position: Position,
        end: Position,
        store: &Store,
        signatures: Signatures,
    ) -> Vec<u8> {
        let in_log = |after| origin.log_since(after, store).map(Vec::into_iter);
        let sent = self.urgent.max((end.epoch == EPOCH).then_some(end.cursor.0));
        let log = if position.epoch == EPOCH { in_log(position.cursor.0) } else { None };
        let all = log.is_none().then(|| origin.floors.iter()).into_iter().flatten();
        let floors = overtaking(sent.and_then(in_log), log.into_iter().flatten().chain(all));
        self.urgent = Some(origin.cursor);
        if floors.is_empty() {
            return Vec::new();
        }
        signatures.floors(&Header { kind: FrameKind::Urgent, ..origin.header(0) }, &floors)
    }
}
