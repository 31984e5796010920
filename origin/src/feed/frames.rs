//! Floors, keys and policy as signed frames.

use shared::{
    feed::{Cursor, FRAME_FLOORS_MAX, FrameKind, Header, assemble, encode_floors},
    revocation::Floor,
};

use super::{Feed, FeedError, Position};
use crate::keys::KeyRing;

impl Feed {
    /// What brings a replica at `position` up to date: the keys and the policy if it lacks them, then a delta, or a snapshot.
    ///
    /// # Errors
    ///
    /// A frame cannot be signed.
    pub async fn frames_since(&self, position: Position) -> Result<Vec<u8>, FeedError> {
        let mut frames = Vec::new();
        let header = self.header();
        let ring = self.keys.current();
        if position.keys < ring.version() {
            frames.extend(self.keys_frame(header, &ring)?);
        }
        frames.extend(self.policy_frame(header, position.policy)?);
        if position.keys < ring.feed_keys().since {
            // What it holds and hands on is signed by a key that nobody will pin any more.
            frames.extend(self.floor_parts()?);
            return Ok(frames);
        }
        let delta = {
            let state = self.read();
            let same = position.epoch == state.epoch;
            if same && position.cursor > state.recent.end() {
                // Another origin was faster.
                Some((state.header(), Vec::new()))
            } else if same {
                let floors = state.recent.since(position.cursor).filter(|floors| floors.len() <= FRAME_FLOORS_MAX);
                floors.map(|floors| (Header { after: position.cursor, ..state.header() }, floors))
            } else {
                None
            }
        };
        match delta {
            Some((header, floors)) => frames.extend(self.sign(&header, &encode_floors(&floors))?),
            None => frames.extend(self.floor_parts()?),
        }
        Ok(frames)
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
        let (header, floors) = {
            let state = self.read();
            (state.header(), state.floors.iter().collect::<Vec<Floor>>())
        };
        let mut chunks: Vec<&[Floor]> = floors.chunks(FRAME_FLOORS_MAX).collect();
        if chunks.is_empty() {
            chunks.push(&[]);
        }
        let parts = u16::try_from(chunks.len()).map_err(|_| FeedError::Frame)?;
        let header = Header { kind: FrameKind::Snapshot, after: Cursor(0), parts, ..header };
        let mut frames = Vec::new();
        for (part, floors) in (0..parts).zip(chunks) {
            frames.extend(self.sign(&Header { part, ..header }, &encode_floors(floors))?);
        }
        Ok(frames)
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
