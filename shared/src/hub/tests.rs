//! A hub over frames in memory.

use core::convert::Infallible;
use std::vec::Vec;

use super::*;
use crate::{
    feed::tests::{KEY, Sums, delta, of_kind},
    revocation::{Floor, FloorKey, Version},
};

#[derive(Default)]
struct Frames(Vec<(Header, Vec<u8>)>);

impl FrameStore for Frames {
    type Error = Infallible;

    fn insert(&mut self, header: &Header, frame: &[u8]) -> Result<(), Infallible> {
        self.0.push((*header, frame.to_vec()));
        Ok(())
    }

    fn clear(&mut self, kind: FrameKind) -> Result<(), Infallible> {
        self.0.retain(|(header, _)| header.kind != kind);
        Ok(())
    }

    fn read(&self, kind: FrameKind, after: Cursor, bytes: &mut Vec<u8>) -> Result<(), Infallible> {
        let is_asked = |header: &Header| header.kind == kind && (after == Cursor(0) || header.upto > after);
        bytes.extend(self.0.iter().filter(|(header, _)| is_asked(header)).flat_map(|(_, frame)| frame));
        Ok(())
    }

    fn newest(&self, kind: FrameKind) -> Result<Option<Newest>, Infallible> {
        let headers: Vec<&Header> = self.0.iter().map(|(header, _)| header).filter(|it| it.kind == kind).collect();
        let newest = headers.iter().max_by_key(|header| (header.epoch, header.upto));
        Ok(newest.map(|header| Newest { epoch: header.epoch, upto: header.upto, count: headers.len() }))
    }
}

fn floor(kid: &str) -> Floor {
    Floor { key: FloorKey::signing_key(kid), lowest: Version::ENDED, forget_at: Timestamp::from_secs(9) }
}

fn take(hub: &mut Hub<Frames>, bytes: &[u8], now: u64) -> Stored {
    hub.take(bytes, &Sums, &KEY, Timestamp::from_millis(now)).unwrap()
}

fn at(cursor: u64) -> Position {
    Position { epoch: Epoch(1), cursor: Cursor(cursor), keys: 0, policy: 0 }
}

fn contains(bytes: &[u8], frame: &[u8]) -> bool {
    bytes.windows(frame.len()).any(|window| window == frame)
}

fn snapshot(part: (u16, u16)) -> Vec<u8> {
    of_kind(FrameKind::Snapshot, part, 1, &[floor("a")])
}

#[test]
fn an_urgent_frame_is_handed_out_until_the_log_has_come_as_far() {
    let mut hub = Hub::new(Frames::default());
    take(&mut hub, &snapshot((0, 1)), 1_000);
    let urgent = of_kind(FrameKind::Urgent, (0, 1), 3, &[floor("c")]);
    let older = of_kind(FrameKind::Urgent, (0, 1), 2, &[]);
    assert_eq!(take(&mut hub, &urgent, 1_000), Stored::Advanced);
    assert_eq!(take(&mut hub, &older, 1_000), Stored::Known, "only a newer one brings more");
    assert_eq!(hub.position(), at(1));
    assert!(contains(&hub.since(at(1)).unwrap(), &urgent));
    assert!(!contains(&hub.since(at(3)).unwrap(), &urgent), "who stands there has it");

    // It outlives a restart, and ends with the last piece.
    let mut hub = Hub::new(hub.into_frames());
    hub.load().unwrap();
    take(&mut hub, &delta(1, 1, &[floor("b")], 0), 1_000);
    assert!(contains(&hub.since(at(1)).unwrap(), &urgent));
    take(&mut hub, &delta(1, 2, &[floor("c")], 60), 1_000);
    assert!(!contains(&hub.since(at(1)).unwrap(), &urgent));
    assert_eq!(take(&mut hub, &urgent, 1_000), Stored::Known);
}

#[test]
fn a_snapshot_that_is_coming_is_not_pulled_until_it_stops() {
    let mut hub = Hub::new(Frames::default());
    let now = |millis| Timestamp::from_millis(millis);
    assert_eq!(hub.wants(now(1_000)), Some(Pull::Snapshot));
    assert_eq!(take(&mut hub, &snapshot((0, 2)), 1_000), Stored::Known);
    assert_eq!(hub.wants(now(2_200)), None);
    assert_eq!(hub.wants(now(2_300)), Some(Pull::Snapshot), "the next part does not come");
    assert_eq!(take(&mut hub, &snapshot((1, 2)), 2_300), Stored::Advanced);
    assert_eq!(hub.wants(now(2_300)), None);
}
