use std::{string::ToString as _, vec, vec::Vec};

use proptest::prelude::*;

use super::*;
use crate::{
    feed::{
        UnverifiedFrame, encode_floors,
        tests::{KEY, Sums, delta, frame, of_kind},
    },
    keys::PublicKey,
    policy::{Access, Assurance, OnStale, PathPattern, Route, Upstream},
};

const SKEW: Duration = Duration::from_millis(100);

fn floor(n: u64) -> Floor {
    Floor {
        key: FloorKey::signing_key(&(n % 7).to_string()),
        lowest: Version::new(n + 1),
        forget_at: Timestamp::from_secs(4_000_000_000),
    }
}

fn snapshot(epoch: u64, upto: u64, floors: &[Floor], as_of: u64, parts: u16) -> Vec<Vec<u8>> {
    let per_part = floors.len().div_ceil(usize::from(parts)).max(1);
    (0..parts)
        .map(|part| {
            let chunk = floors.chunks(per_part).nth(usize::from(part)).unwrap_or_default();
            let header = Header {
                kind: FrameKind::Snapshot,
                part,
                parts,
                epoch: Epoch(epoch),
                after: Cursor(0),
                upto: Cursor(upto),
                as_of: Timestamp::from_millis(as_of),
            };
            frame(&header, &encode_floors(chunk))
        })
        .collect()
}

fn keys(version: u64, body: &[u8]) -> Vec<u8> {
    versioned(FrameKind::Keys, version, body)
}

fn versioned(kind: FrameKind, version: u64, body: &[u8]) -> Vec<u8> {
    let header = Header {
        kind,
        part: 0,
        parts: 1,
        epoch: Epoch(1),
        after: Cursor(0),
        upto: Cursor(version),
        as_of: Timestamp::EPOCH,
    };
    frame(&header, body)
}

fn give(replica: &mut Replica, bytes: &[u8]) -> Accepted {
    let (frame, _) = UnverifiedFrame::split(bytes).unwrap();
    replica.accept(&frame.verify(&Sums, &KEY).unwrap())
}

fn as_of(millis: u64) -> Freshness {
    Freshness::AsOf(Timestamp::from_millis(millis))
}

#[test]
fn a_new_replica_is_not_ready_and_a_delta_alone_does_not_make_it_so() {
    let mut replica = Replica::new();
    assert_eq!(replica.freshness(), Freshness::Unsynced);
    assert_eq!(give(&mut replica, &delta(1, 0, &[floor(0)], 5)), Accepted::Gap);
    assert_eq!(replica.freshness(), Freshness::Unsynced);
    assert!(replica.floors().revokes(&floor(0).key, Version::NONE), "its floors count all the same");
}

/// I4, I5: what overtakes counts at once, and vouches for nothing.
#[test]
fn an_urgent_frame_joins_floors_and_moves_nothing_else() {
    let mut replica = Replica::new();
    let urgent = of_kind(FrameKind::Urgent, (0, 1), 9, &[floor(8)]);
    assert_eq!(give(&mut replica, &urgent), Accepted::Partial);
    assert_eq!(replica.freshness(), Freshness::Unsynced);
    give(&mut replica, &snapshot(1, 2, &[floor(0), floor(1)], 10, 1)[0]);
    let before = replica.position();
    assert_eq!(give(&mut replica, &urgent), Accepted::Partial);
    assert_eq!((replica.position(), replica.freshness()), (before, as_of(10)));
    assert!(replica.floors().revokes(&floor(8).key, Version::new(8)));
    assert!(!replica.floors().revokes(&floor(2).key, Version::new(2)), "the twin is still under way");
    // A piece of what is missing: the position moves, the freshness with the last piece only.
    assert_eq!(give(&mut replica, &delta(1, 2, &[floor(2)], 0)), Accepted::Advanced);
    assert_eq!((replica.position().cursor, replica.freshness()), (Cursor(3), as_of(10)));
    assert_eq!(give(&mut replica, &delta(1, 3, &[floor(3)], 20)), Accepted::Advanced);
    assert_eq!(replica.freshness(), as_of(20));
}

#[test]
fn freshness_moves_over_gapless_deltas_only() {
    let mut replica = Replica::new();
    assert_eq!(give(&mut replica, &snapshot(1, 2, &[floor(0), floor(1)], 10, 1)[0]), Accepted::Advanced);
    assert_eq!(replica.freshness(), as_of(10));
    assert_eq!(give(&mut replica, &delta(1, 2, &[floor(2)], 20)), Accepted::Advanced);
    assert_eq!(replica.freshness(), as_of(20));
    // Data held back while heartbeats pass: the heartbeat's position gives the gap away.
    assert_eq!(give(&mut replica, &delta(1, 4, &[], 30)), Accepted::Gap);
    assert_eq!(replica.freshness(), as_of(20));
    assert_eq!(give(&mut replica, &delta(1, 2, &[floor(2), floor(3)], 25)), Accepted::Advanced);
    assert_eq!(replica.freshness(), as_of(25));
    assert_eq!(give(&mut replica, &delta(1, 0, &[floor(0)], 99)), Accepted::Known, "ends before the position");
    assert_eq!(replica.freshness(), as_of(25));
}

#[test]
fn a_snapshot_counts_when_all_its_parts_came_in_order() {
    let floors: Vec<Floor> = (0..6).map(floor).collect();
    let parts = snapshot(1, 6, &floors, 10, 3);
    let mut replica = Replica::new();
    assert_eq!(give(&mut replica, &parts[1]), Accepted::Gap);
    assert_eq!(give(&mut replica, &parts[0]), Accepted::Partial);
    assert_eq!(give(&mut replica, &parts[0]), Accepted::Partial);
    assert_eq!(give(&mut replica, &parts[1]), Accepted::Partial);
    assert_eq!(replica.freshness(), Freshness::Unsynced);
    assert_eq!(give(&mut replica, &parts[2]), Accepted::Advanced);
    assert_eq!(replica.freshness(), as_of(10));
    assert_eq!(replica.position(), Position { epoch: Epoch(1), cursor: Cursor(6), keys: 0, policy: 0 });
}

#[test]
fn another_log_needs_a_snapshot_and_an_older_one_never_wins() {
    let mut replica = Replica::new();
    give(&mut replica, &snapshot(5, 9, &[floor(3)], 10, 1)[0]);
    assert_eq!(give(&mut replica, &delta(6, 9, &[floor(9)], 50)), Accepted::OtherEpoch);
    assert_eq!(replica.freshness(), as_of(10));
    assert_eq!(give(&mut replica, &snapshot(4, 99, &[], 60, 1)[0]), Accepted::OtherEpoch);
    assert_eq!(replica.freshness(), as_of(10));
    assert_eq!(give(&mut replica, &snapshot(6, 1, &[], 70, 1)[0]), Accepted::Advanced);
    assert_eq!(replica.freshness(), as_of(70));
    assert!(replica.floors().revokes(&floor(3).key, Version::new(1)), "floors outlive the log that they came from");
}

#[test]
fn keys_only_ever_become_newer() {
    let set = |kid: &str| KeySet::new([(kid.to_string(), PublicKey::Ed25519([2; 32]))]).unwrap();
    let mut replica = Replica::new();
    assert_eq!(give(&mut replica, &keys(2, &set("b").encode())), Accepted::Advanced);
    assert_eq!(give(&mut replica, &keys(1, &set("a").encode())), Accepted::Known);
    assert_eq!(give(&mut replica, &keys(3, b"\x01garbage")), Accepted::MalformedKeys);
    assert_eq!(replica.keys(), &set("b"));
    assert_eq!(replica.position().keys, 2);
}

#[test]
fn a_policy_is_checked_when_it_arrives_and_only_ever_becomes_newer() {
    let policy = |path: &str| {
        let route = Route {
            id: "r".into(),
            host: None,
            path: PathPattern::parse(path).unwrap(),
            methods: None,
            access: Access::Anonymous,
            assurance: Assurance::Bounded,
            staleness_ms_max: 5_000,
            on_stale: OnStale::Deny,
            sign_in: None,
            upstream: "app".into(),
        };
        Policy::new([route].into(), [("app".to_string(), Upstream::at("self"))].into()).unwrap()
    };
    let frame = |version, body: &[u8]| versioned(FrameKind::Policy, version, body);
    let mut replica = Replica::new();
    assert_eq!(replica.policy(), None);
    assert_eq!(give(&mut replica, &frame(2, &policy("/b").encode().unwrap())), Accepted::Advanced);
    assert_eq!(give(&mut replica, &frame(1, &policy("/a").encode().unwrap())), Accepted::Known);
    assert_eq!(give(&mut replica, &frame(3, b"PCP2\x01garbage")), Accepted::MalformedPolicy);
    assert_eq!((replica.policy(), replica.position().policy), (Some(&policy("/b")), 2));
    assert_eq!(give(&mut replica, &frame(4, b"")), Accepted::Advanced, "back to the policy of the build");
    assert_eq!((replica.policy(), replica.position().policy), (None, 4));
    assert_eq!(replica.freshness(), Freshness::Unsynced, "routes are no floors");
}

#[test]
fn a_token_raises_the_floor_that_it_proves_unless_it_is_of_the_first_version() {
    let key = FloorKey::signing_key("s");
    let forget_at = Timestamp::from_secs(9);
    let mut replica = Replica::new();
    replica.learn(key, Version::INITIAL, forget_at);
    assert!(replica.floors().is_empty());
    replica.learn(key, Version::new(3), forget_at);
    assert!(replica.floors().revokes(&key, Version::new(2)));
    assert!(!replica.floors().revokes(&key, Version::new(3)));
}

#[test]
fn age_counts_the_skew_and_a_clock_beyond_it_is_not_believed() {
    let at = Timestamp::from_millis;
    let bound = Duration::from_millis(1_000);
    assert!(as_of(10_000).is_within(bound, at(10_900), SKEW));
    assert!(!as_of(10_000).is_within(bound, at(10_901), SKEW));
    assert!(as_of(10_000).is_within(bound, at(9_900), SKEW), "the gate's clock is behind, within the skew");
    assert!(!as_of(10_000).is_within(bound, at(9_899), SKEW), "the gate's clock is further behind than declared");
    assert!(!Freshness::Unsynced.is_within(Duration::MAX, at(0), SKEW));
}

/// I1: what came from the future does not become believable by waiting.
#[test]
fn a_clock_that_is_behind_when_frames_come_closes_until_others_come() {
    let at = Timestamp::from_millis;
    let (bound, mut replica) = (Duration::from_millis(1_000), Replica::new());
    give(&mut replica, &snapshot(1, 1, &[floor(0)], 10_000, 1)[0]);
    replica.check_clock(at(9_000), SKEW);
    assert_eq!(replica.freshness(), Freshness::ClockBehind(at(10_000)));
    assert!(!replica.freshness().is_within(bound, at(9_950), SKEW));
    // Frames that lay in the hub since.
    give(&mut replica, &delta(1, 1, &[], 10_050));
    replica.check_clock(at(12_000), SKEW);
    assert_eq!(replica.freshness(), Freshness::ClockBehind(at(10_050)));
    // The clock was put right.
    give(&mut replica, &delta(1, 1, &[], 40_001));
    replica.check_clock(at(40_001), SKEW);
    assert!(replica.freshness().is_within(bound, at(40_001), SKEW));
}

/// I1, I4, I5: a store's clock ran ahead and was set back. The readings of the log before count until the snapshot of the
/// newer one is whole, and no longer; no frame brings them back, and in one log none takes freshness away.
#[test]
fn a_newer_log_replaces_the_readings_of_the_one_before() {
    let mut replica = Replica::new();
    give(&mut replica, &snapshot(5, 3, &[floor(0)], 10_000_000, 1)[0]);
    let parts = snapshot(6, 3, &[floor(1), floor(2)], 1_000, 2);
    assert_eq!(give(&mut replica, &parts[0]), Accepted::Partial);
    assert_eq!(replica.freshness(), as_of(10_000_000));
    assert_eq!(give(&mut replica, &parts[1]), Accepted::Advanced);
    assert_eq!(replica.freshness(), as_of(1_000));
    assert!((0..3).all(|n| replica.floors().lowest(&floor(n).key) >= floor(n).lowest));

    assert_eq!(give(&mut replica, &snapshot(5, 9, &[], 20_000_000, 1)[0]), Accepted::OtherEpoch);
    assert_eq!(give(&mut replica, &delta(5, 3, &[], 20_000_000)), Accepted::OtherEpoch);
    assert_eq!(give(&mut replica, &snapshot(6, 3, &[], 900, 1)[0]), Accepted::Known);
    assert_eq!(replica.freshness(), as_of(1_000));
    assert_eq!(give(&mut replica, &delta(6, 3, &[], 1_100)), Accepted::Advanced);
    assert_eq!(replica.freshness(), as_of(1_100));
}

/// I1: what came from hours ahead closes until the feed has gone on for half a minute in another log; in the same one that
/// takes hours.
#[test]
fn another_log_is_believed_after_half_a_minute() {
    let at = Timestamp::from_millis;
    for (epoch, is_believed) in [(6, true), (5, false)] {
        let mut replica = Replica::new();
        give(&mut replica, &snapshot(5, 1, &[floor(0)], 10_000_000, 1)[0]);
        replica.check_clock(at(1_000), SKEW);
        // What an origin sends that has nothing to claim yet.
        for (as_of, now) in [(0, 2_000), (3_000, 3_050), (31_900, 31_950)] {
            give(&mut replica, &snapshot(epoch, 1, &[floor(0)], as_of, 1)[0]);
            replica.check_clock(at(now), SKEW);
            assert!(matches!(replica.freshness(), Freshness::ClockBehind(_)), "{as_of}");
        }
        give(&mut replica, &snapshot(epoch, 1, &[floor(0)], 32_001, 1)[0]);
        replica.check_clock(at(32_001), SKEW);
        assert_eq!(replica.freshness().is_within(Duration::from_secs(1), at(32_001), SKEW), is_believed);
    }
}

/// A log in which entry n (from 1) was acknowledged at n * 10 ms, and frames that an honest origin could have made of it.
#[derive(Debug, Clone)]
enum Sent {
    Delta { after: u64, len: u64 },
    Snapshot { upto: u64, parts: u16, skip: Option<u16> },
}

fn sent() -> impl Strategy<Value = Sent> {
    prop_oneof![
        4 => (0_u64..20, 0_u64..5).prop_map(|(after, len)| Sent::Delta { after, len }),
        1 => (0_u64..20, 1_u16..4, prop::option::of(0_u16..4)).prop_map(|(upto, parts, skip)| Sent::Snapshot { upto, parts, skip }),
    ]
}

/// What an origin that read the head at `upto` may claim: everything acknowledged before the next entry.
fn honest_as_of(upto: u64) -> u64 {
    (upto + 1) * 10
}

proptest! {
    /// I5: whatever is lost, repeated or reordered, a replica that says "fresh as of t" holds all that was acknowledged
    /// before t. Liveness: once everything arrives, it is as fresh as the last frame.
    #[test]
    fn freshness_never_claims_too_much(script in prop::collection::vec(sent(), 0..40)) {
        let log: Vec<Floor> = (0..25).map(floor).collect();
        let mut replica = Replica::new();
        for sent in script {
            let frames = match sent {
                Sent::Delta { after, len } => {
                    let upto = after + len;
                    vec![delta(1, after, &log[after as usize..upto as usize], honest_as_of(upto))]
                }
                Sent::Snapshot { upto, parts, skip } => {
                    let mut frames = snapshot(1, upto, &log[..upto as usize], honest_as_of(upto), parts);
                    if let Some(skip) = skip.filter(|skip| *skip < parts) {
                        frames.remove(usize::from(skip));
                    }
                    frames
                }
            };
            let before = replica.freshness();
            for bytes in frames {
                give(&mut replica, &bytes);
            }
            if let Freshness::AsOf(as_of) = replica.freshness() {
                for (n, floor) in log.iter().enumerate() {
                    let acknowledged = Timestamp::from_millis((n as u64 + 1) * 10);
                    if acknowledged < as_of {
                        prop_assert!(replica.floors().lowest(&floor.key) >= floor.lowest);
                    }
                }
            }
            if let (Freshness::AsOf(before), Freshness::AsOf(now)) = (before, replica.freshness()) {
                prop_assert!(now >= before);
            }
        }
        for bytes in snapshot(1, 25, &log, honest_as_of(25), 2) {
            give(&mut replica, &bytes);
        }
        prop_assert_eq!(replica.freshness(), as_of(honest_as_of(25)));
    }
}

/// What may happen to a replica, with numbers for log, position and clock.
fn happen(replica: &mut Replica, what: u8, epoch: u64, position: u64, clock: u64) {
    match what {
        0 => drop(give(replica, &delta(epoch, position, &[floor(position)], clock))),
        1 => drop(give(replica, &delta(epoch, position, &[], clock))),
        2 => drop(give(replica, &snapshot(epoch, position, &[floor(position)], clock, 1)[0])),
        3 => drop(give(replica, &of_kind(FrameKind::Urgent, (0, 1), position, &[floor(position)]))),
        4 => drop(give(replica, &keys(position, &KeySet::default().encode()))),
        5 => drop(give(replica, &versioned(FrameKind::Policy, position, &[]))),
        6 => replica.learn(floor(position).key, Version::new(clock % 30), Timestamp::from_secs(4_000_000_000)),
        _ => replica.check_clock(Timestamp::from_millis(clock), SKEW),
    }
}

proptest! {
    /// I1: whoever kept an allowance may go on as long as the number stays: no floor has risen, no key or policy has come, and
    /// the replica is no less fresh.
    #[test]
    fn what_may_take_an_allowance_back_changes_the_number(
        script in prop::collection::vec((0_u8..8, 1_u64..3, 0_u64..12, 0_u64..400), 1..60),
    ) {
        let mut replica = Replica::new();
        for (what, epoch, position, clock) in script {
            let state = |replica: &Replica| {
                let floors: Vec<Version> = (0..7).map(|n| replica.floors().lowest(&floor(n).key)).collect();
                (floors, replica.position().keys, replica.position().policy)
            };
            let (changes, before, freshness) = (replica.changes(), state(&replica), replica.freshness());
            happen(&mut replica, what, epoch, position, clock);
            if replica.changes() == changes {
                prop_assert_eq!(state(&replica), before);
                if let Freshness::AsOf(before) = freshness {
                    prop_assert!(matches!(replica.freshness(), Freshness::AsOf(now) if now >= before), "{:?}", replica);
                }
            }
        }
    }
}

/// What comes every second takes nothing back.
#[test]
fn a_heartbeat_leaves_the_number() {
    let mut replica = Replica::new();
    give(&mut replica, &snapshot(1, 2, &[floor(0), floor(1)], 10, 1)[0]);
    let changes = replica.changes();
    assert_eq!(give(&mut replica, &delta(1, 2, &[], 20)), Accepted::Advanced);
    replica.check_clock(Timestamp::from_millis(20), SKEW);
    assert_eq!((replica.changes(), replica.freshness()), (changes, as_of(20)));
    assert_eq!(give(&mut replica, &delta(1, 2, &[floor(2)], 30)), Accepted::Advanced);
    assert_ne!(replica.changes(), changes);
}
