//! The hub: keeps the origin's signed frames as they came and hands them to the gates of its region.
//!
//! It never signs, so what a gate gets is the origin's word. A frame before which something is missing is not kept; the
//! answer says where the hub stands, from where the origin sends again. A hub that hears nothing it can use pulls.
//!
//! Out of scope: where frames lie ([`FrameStore`]) and how they travel.
//!
//! Invariant: what is kept is one whole snapshot, the gap-free deltas after it, one keys frame, one policy frame, and
//! the newest urgent frame while the hub stands before its end.

use alloc::vec::Vec;
use core::{mem, time::Duration};

use crate::{
    feed::{Cursor, Epoch, Frame, FrameError, FrameKind, Header, UnverifiedFrame},
    keys::{PublicKey, VerifySignature},
    replica::Position,
    time::Timestamp,
};

/// The pause after a pull. With the deadline of a pull it is what a hub takes to be back after a fault, and with [`QUIET_MAX`]
/// what it takes to miss a push that was lost; gates need some time after it, and all of that stays under two seconds (I9).
pub const PAUSE: Duration = Duration::from_millis(250);

/// How long a pull may take, and each piece of its answer.
pub const PULL_TIMEOUT: Duration = Duration::from_millis(750);

/// Without a frame that it can use for this long a hub pulls: a heartbeat, and a quarter more.
pub const QUIET_MAX: Duration = Duration::from_millis(1_250);

/// Deltas that are kept before a new snapshot is asked for.
pub const DELTAS_MAX: usize = 2_048;

/// Where a hub keeps its frames.
pub trait FrameStore {
    /// Why it cannot.
    type Error;

    /// Puts a frame behind those of its kind.
    ///
    /// # Errors
    ///
    /// It may or may not be kept.
    fn insert(&mut self, header: &Header, frame: &[u8]) -> Result<(), Self::Error>;

    /// Drops every frame of a kind.
    ///
    /// # Errors
    ///
    /// They may or may not be there.
    fn clear(&mut self, kind: FrameKind) -> Result<(), Self::Error>;

    /// Appends the frames of a kind to `bytes` in the order of their insertion: those that end after `after`, or all of them
    /// if that is 0.
    ///
    /// # Errors
    ///
    /// They cannot be read.
    fn read(&self, kind: FrameKind, after: Cursor, bytes: &mut Vec<u8>) -> Result<(), Self::Error>;

    /// The newest header of a kind and how many frames of it there are; none if there is no frame.
    ///
    /// # Errors
    ///
    /// They cannot be read.
    fn newest(&self, kind: FrameKind) -> Result<Option<Newest>, Self::Error>;
}

/// The end of what is kept of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Newest {
    /// Of the last frame.
    pub epoch: Epoch,
    /// Of the last frame.
    pub upto: Cursor,
    /// How many frames.
    pub count: usize,
}

/// What taking in a frame did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// The hub stands at the end of the frame now.
    Advanced,
    /// Nothing new.
    Known,
    /// Something before the frame is missing.
    Gap,
}

/// Why frames are not taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TakeError<E> {
    /// Malformed, or not signed by a pinned key.
    Frame(FrameError),
    /// They cannot be kept.
    Store(E),
}

/// What a hub asks the origin for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pull {
    /// Everything.
    Snapshot,
    /// What it lacks.
    Since(Position),
}

/// The frames of a region and where they end.
pub struct Hub<S> {
    frames: S,
    position: Position,
    /// Where the snapshot ends and the deltas begin.
    start: Cursor,
    deltas: usize,
    /// Parts of a snapshot that is still incomplete, in order.
    parts: Vec<(Header, Vec<u8>)>,
    heartbeat: Option<(Timestamp, Vec<u8>)>,
    /// Where the urgent frame ends that is kept; zeroes for none.
    urgent: (Epoch, Cursor),
    heard_at: Timestamp,
    /// A frame came that does not follow on what is kept.
    behind: bool,
}

impl<S: FrameStore> Hub<S> {
    /// Over frames of which nothing is known yet; see [`Self::load`].
    pub fn new(frames: S) -> Self {
        Self {
            frames,
            position: Position { epoch: Epoch(0), cursor: Cursor(0), keys: 0, policy: 0 },
            start: Cursor(0),
            deltas: 0,
            parts: Vec::new(),
            heartbeat: None,
            urgent: (Epoch(0), Cursor(0)),
            heard_at: Timestamp::EPOCH,
            behind: false,
        }
    }

    /// Goes on from the frames that are kept.
    ///
    /// # Errors
    ///
    /// They cannot be read; then the hub knows nothing, and asks for a snapshot.
    pub fn load(&mut self) -> Result<(), S::Error> {
        let [snapshot, delta, keys] = [FrameKind::Snapshot, FrameKind::Delta, FrameKind::Keys];
        let (snapshot, delta, keys) =
            (self.frames.newest(snapshot)?, self.frames.newest(delta)?, self.frames.newest(keys)?);
        self.position.keys = keys.map_or(0, |keys| keys.upto.0);
        self.position.policy = self.frames.newest(FrameKind::Policy)?.map_or(0, |policy| policy.upto.0);
        if let Some(urgent) = self.frames.newest(FrameKind::Urgent)? {
            self.urgent = (urgent.epoch, urgent.upto);
        }
        if let Some(snapshot) = snapshot {
            let end = delta.map_or(snapshot.upto, |delta| delta.upto.max(snapshot.upto));
            (self.position.epoch, self.position.cursor, self.start) = (snapshot.epoch, end, snapshot.upto);
        }
        self.deltas = delta.map_or(0, |delta| delta.count);
        Ok(())
    }

    /// Where the hub stands.
    pub fn position(&self) -> Position {
        self.position
    }

    /// What the hub holds its frames in.
    pub fn into_frames(self) -> S {
        self.frames
    }

    /// Takes in the frames that are good, up to the first that is not; what became of the last.
    ///
    /// # Errors
    ///
    /// A frame is not good, or cannot be kept. Those before it were taken in.
    pub fn take(
        &mut self,
        mut bytes: &[u8],
        verifier: &impl VerifySignature,
        feed_keys: &[PublicKey],
        now: Timestamp,
    ) -> Result<Stored, TakeError<S::Error>> {
        let mut stored = Stored::Known;
        while !bytes.is_empty() {
            let (frame, rest) = UnverifiedFrame::split(bytes).map_err(TakeError::Frame)?;
            let frame = frame.verify(verifier, feed_keys).map_err(TakeError::Frame)?;
            stored = self.store(&frame).map_err(TakeError::Store)?;
            if matches!(frame.header().kind, FrameKind::Delta | FrameKind::Snapshot) {
                self.behind = stored == Stored::Gap;
            }
            if stored != Stored::Gap {
                // One that is of no use is no sign that what is needed will come.
                self.heard_at = now;
            }
            bytes = rest;
        }
        Ok(stored)
    }

    /// What should be asked of the origin at `now`, if anything.
    pub fn wants(&self, now: Timestamp) -> Option<Pull> {
        let is_quiet = now.saturating_since(self.heard_at) >= QUIET_MAX;
        if !is_quiet && !self.parts.is_empty() {
            // A pull would take the link from the snapshot that is coming.
            return None;
        }
        if self.position.epoch == Epoch(0) || self.deltas > DELTAS_MAX {
            return Some(Pull::Snapshot);
        }
        (is_quiet || self.behind).then_some(Pull::Since(self.position))
    }

    /// When to ask [`Self::wants`] again.
    pub fn look_after(&self, now: Timestamp) -> Duration {
        if self.wants(now).is_some() {
            return PAUSE;
        }
        self.heard_at.saturating_add(QUIET_MAX).saturating_since(now).max(PAUSE)
    }

    /// The frames that bring a gate from `position` to where the hub stands.
    ///
    /// # Errors
    ///
    /// The frames cannot be read.
    pub fn since(&self, position: Position) -> Result<Vec<u8>, S::Error> {
        let mut bytes = Vec::new();
        if position.keys < self.position.keys {
            self.frames.read(FrameKind::Keys, Cursor(0), &mut bytes)?;
        }
        if position.policy < self.position.policy {
            self.frames.read(FrameKind::Policy, Cursor(0), &mut bytes)?;
        }
        if (position.epoch, position.cursor) < self.urgent {
            self.frames.read(FrameKind::Urgent, Cursor(0), &mut bytes)?;
        }
        if self.position.epoch == Epoch(0) {
            return Ok(bytes);
        }
        if position.epoch == self.position.epoch && position.cursor >= self.start {
            self.frames.read(FrameKind::Delta, position.cursor, &mut bytes)?;
        } else {
            self.frames.read(FrameKind::Snapshot, Cursor(0), &mut bytes)?;
            self.frames.read(FrameKind::Delta, Cursor(0), &mut bytes)?;
        }
        if let Some((_, heartbeat)) = &self.heartbeat {
            bytes.extend_from_slice(heartbeat);
        }
        Ok(bytes)
    }

    fn store(&mut self, frame: &Frame<'_>) -> Result<Stored, S::Error> {
        let header = frame.header();
        match header.kind {
            FrameKind::Keys | FrameKind::Policy => self.store_version(frame),
            FrameKind::Snapshot => self.store_part(frame),
            FrameKind::Urgent => self.store_urgent(frame),
            FrameKind::Delta if header.epoch != self.position.epoch || header.after > self.position.cursor => {
                // An older log has nothing to say; a newer one has to begin with its snapshot.
                Ok(if header.epoch < self.position.epoch { Stored::Known } else { Stored::Gap })
            }
            FrameKind::Delta => self.store_delta(frame),
        }
    }

    /// Of keys and of policies the newest is kept.
    fn store_version(&mut self, frame: &Frame<'_>) -> Result<Stored, S::Error> {
        let Header { kind, upto, .. } = *frame.header();
        let held = if kind == FrameKind::Keys { &mut self.position.keys } else { &mut self.position.policy };
        if upto.0 <= *held {
            return Ok(Stored::Known);
        }
        self.frames.clear(kind)?;
        self.frames.insert(frame.header(), frame.as_bytes())?;
        *held = upto.0;
        Ok(Stored::Advanced)
    }

    /// Each one brings what those before it brought and the log has not, so the newest is enough.
    fn store_urgent(&mut self, frame: &Frame<'_>) -> Result<Stored, S::Error> {
        let Header { epoch, upto, .. } = *frame.header();
        if (epoch, upto) <= self.urgent.max((self.position.epoch, self.position.cursor)) {
            return Ok(Stored::Known);
        }
        self.frames.clear(FrameKind::Urgent)?;
        self.frames.insert(frame.header(), frame.as_bytes())?;
        self.urgent = (epoch, upto);
        Ok(Stored::Advanced)
    }

    /// Drops the urgent frame once the hub stands where it ends.
    fn drop_urgent(&mut self) -> Result<(), S::Error> {
        if self.urgent.0 != Epoch(0) && self.urgent <= (self.position.epoch, self.position.cursor) {
            self.frames.clear(FrameKind::Urgent)?;
            self.urgent = (Epoch(0), Cursor(0));
        }
        Ok(())
    }

    fn store_delta(&mut self, frame: &Frame<'_>) -> Result<Stored, S::Error> {
        let header = frame.header();
        if header.upto < self.position.cursor {
            return Ok(Stored::Known);
        }
        if frame.is_heartbeat() {
            if self.heartbeat.as_ref().is_none_or(|(known, _)| *known < header.as_of) {
                self.heartbeat = Some((header.as_of, frame.as_bytes().to_vec()));
            }
            return Ok(Stored::Known);
        }
        if header.upto == self.position.cursor {
            return Ok(Stored::Known);
        }
        self.frames.insert(header, frame.as_bytes())?;
        self.deltas = self.deltas.saturating_add(1);
        self.position.cursor = header.upto;
        self.heartbeat = None;
        self.drop_urgent()?;
        Ok(Stored::Advanced)
    }

    fn store_part(&mut self, frame: &Frame<'_>) -> Result<Stored, S::Error> {
        let header = *frame.header();
        if (header.epoch, header.upto) < (self.position.epoch, self.position.cursor) {
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
        self.frames.clear(FrameKind::Snapshot)?;
        self.frames.clear(FrameKind::Delta)?;
        for (header, bytes) in mem::take(&mut self.parts) {
            self.frames.insert(&header, &bytes)?;
        }
        (self.position.epoch, self.position.cursor, self.start) = (header.epoch, header.upto, header.upto);
        self.deltas = 0;
        self.heartbeat = None;
        self.drop_urgent()?;
        Ok(Stored::Advanced)
    }
}

#[cfg(test)]
mod tests;
