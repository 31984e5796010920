//! A hub: the rules of `shared`, over frames in memory that outlive it.

use std::{collections::BTreeMap, convert::Infallible};

use shared::{
    feed::{Cursor, Epoch, FrameKind, Header, UnverifiedFrame},
    hub::{FrameStore, Hub, Newest},
    replica::{Position, Replica},
};

use crate::sign::Signatures;

/// Frames by kind.
#[derive(Default)]
pub(crate) struct Frames(BTreeMap<u8, Vec<(Header, Vec<u8>)>>);

fn number(kind: FrameKind) -> u8 {
    match kind {
        FrameKind::Delta => 0,
        FrameKind::Snapshot => 1,
        FrameKind::Keys => 2,
        FrameKind::Policy => 3,
        FrameKind::Urgent => 4,
    }
}

impl FrameStore for Frames {
    type Error = Infallible;

    fn insert(&mut self, header: &Header, frame: &[u8]) -> Result<(), Infallible> {
        self.0.entry(number(header.kind)).or_default().push((*header, frame.to_vec()));
        Ok(())
    }

    fn clear(&mut self, kind: FrameKind) -> Result<(), Infallible> {
        self.0.remove(&number(kind));
        Ok(())
    }

    fn read(&self, kind: FrameKind, after: Cursor, bytes: &mut Vec<u8>) -> Result<(), Infallible> {
        let frames = self.0.get(&number(kind)).into_iter().flatten();
        for (_, frame) in frames.filter(|(header, _)| after == Cursor(0) || header.upto > after) {
            bytes.extend_from_slice(frame);
        }
        Ok(())
    }

    fn newest(&self, kind: FrameKind) -> Result<Option<Newest>, Infallible> {
        let frames = self.0.get(&number(kind));
        let newest = |frames: &Vec<(Header, Vec<u8>)>| {
            let upto = frames.iter().map(|(header, _)| header.upto).max()?;
            let epoch = frames.iter().map(|(header, _)| header.epoch).max()?;
            Some(Newest { epoch, upto, count: frames.len() })
        };
        Ok(frames.and_then(newest))
    }
}

/// A hub and what is under way for it.
pub(crate) struct HubNode {
    pub(crate) up: bool,
    pub(crate) hub: Hub<Frames>,
    /// Its pull that is not answered.
    pub(crate) pulling: Option<u64>,
    pub(crate) clock_offset: i64,
}

impl HubNode {
    pub(crate) fn new(clock_offset: i64) -> Self {
        Self { up: true, hub: Hub::new(Frames::default()), pulling: None, clock_offset }
    }

    /// What it kept is there again; what it only had in mind is not.
    pub(crate) fn restart(&mut self) {
        let before = core::mem::replace(&mut self.hub, Hub::new(Frames::default()));
        self.hub = Hub::new(before.into_frames());
        let Ok(()) = self.hub.load();
        self.pulling = None;
        self.up = true;
    }

    /// What a gate would hold that came to it now.
    pub(crate) fn replica(&self, signatures: Signatures) -> Replica {
        let mut replica = Replica::new();
        let Ok(bytes) = self.hub.since(Position { epoch: Epoch(0), cursor: Cursor(0), keys: 0, policy: 0 });
        let (mut rest, key): (&[u8], _) = (&bytes, [signatures.key()]);
        while let Ok((frame, after)) = UnverifiedFrame::split(rest) {
            if let Ok(frame) = frame.verify(&signatures, &key) {
                replica.accept(&frame);
            }
            rest = after;
        }
        replica
    }
}
