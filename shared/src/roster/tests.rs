use std::{vec, vec::Vec};

use proptest::prelude::*;

use super::*;

fn at(secs: u64) -> Timestamp {
    Timestamp::from_secs(1_800_000_000 + secs)
}

fn entry(name: u8, opened: u64) -> Entry {
    Entry::new(id(name), at(opened), at(opened + 1_000))
}

fn id(name: u8) -> SessionId {
    SessionId::from_random([name; 16])
}

fn limit(sessions_max: u8, on_limit: OnLimit) -> Limit {
    Limit { sessions_max: NonZeroU8::new(sessions_max).unwrap(), on_limit }
}

fn ids(roster: &Roster) -> Vec<u8> {
    roster.entries().iter().map(|entry| entry.id().as_bytes()[0]).collect()
}

/// SES-10: the documented outcome of one session too many.
#[test]
fn one_too_many_evicts_the_oldest_or_is_refused() {
    let full = Roster::new(vec![entry(2, 20), entry(1, 10)]);
    let refused = full.admit(entry(3, 30), &[], limit(2, OnLimit::Refuse), at(30));
    assert_eq!(refused, Admission::Refused { open: 2 });
    let Admission::Evict { roster, evicted } = full.admit(entry(3, 30), &[], limit(2, OnLimit::EvictOldest), at(30))
    else {
        panic!("a place without an eviction");
    };
    assert_eq!((evicted, ids(&roster)), (vec![id(1)], vec![2, 3]));
}

#[test]
fn sessions_that_are_over_make_room() {
    let full = Roster::new(vec![entry(1, 10), entry(2, 20)]);
    let place = |admission| match admission {
        Admission::Place(roster) => ids(&roster),
        other => panic!("{other:?}"),
    };
    let refuse = limit(2, OnLimit::Refuse);
    assert!(full.is_full(&entry(3, 30), refuse, at(30)));
    assert_eq!(place(full.admit(entry(3, 30), &[id(2)], refuse, at(30))), [1, 3], "ended");
    assert!(!full.is_full(&entry(3, 1_010), refuse, at(1_010)));
    assert_eq!(place(full.admit(entry(3, 1_010), &[], refuse, at(1_010))), [2, 3], "expired");
    assert_eq!(place(full.admit(entry(2, 20), &[], refuse, at(30))), [1, 2], "a repeat takes no second place");
}

#[test]
fn a_step_up_takes_the_place_of_its_session() {
    let roster = Roster::new(vec![entry(1, 10), entry(2, 20)]);
    assert_eq!(ids(&roster.replaced(&id(1), entry(3, 30), at(30))), [2, 3]);
    assert_eq!(ids(&roster.replaced(&id(9), entry(3, 30), at(30))), [1, 2, 3], "one that was opened before the limit");
}

#[test]
fn a_lower_limit_evicts_as_many_as_it_takes() {
    let roster = Roster::new((0..10).map(|n| entry(n, u64::from(n))).collect());
    let Admission::Evict { roster, evicted } = roster.admit(entry(99, 50), &[], limit(3, OnLimit::EvictOldest), at(50))
    else {
        panic!("no eviction");
    };
    assert_eq!((evicted.len(), ids(&roster)), (8, vec![8, 9, 99]));
}

proptest! {
    /// Whoever opens and whatever ends, the limit holds, nobody is on the roster twice, and with eviction everyone gets in.
    #[test]
    fn the_limit_always_holds(
        opens in prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..3)), 1..60),
        sessions_max in 1_u8..6,
        evict in any::<bool>(),
    ) {
        let limit = limit(sessions_max, if evict { OnLimit::EvictOldest } else { OnLimit::Refuse });
        let mut roster = Roster::default();
        for (now, (name, over)) in opens.into_iter().enumerate() {
            let now = now as u64;
            let over: Vec<SessionId> = over.into_iter().map(id).collect();
            let full = roster.is_full(&entry(name, now), limit, at(now));
            match roster.admit(entry(name, now), &over, limit, at(now)) {
                Admission::Place(next) => roster = next,
                Admission::Evict { roster: next, evicted } => {
                    prop_assert!(full && evict);
                    prop_assert!(evicted.iter().all(|gone| next.entries().iter().all(|entry| entry.id() != gone)));
                    roster = next;
                }
                Admission::Refused { open } => {
                    prop_assert!(full && !evict && open >= usize::from(sessions_max));
                    continue;
                }
            }
            let mut names = ids(&roster);
            prop_assert!(names.contains(&name) && names.len() <= usize::from(sessions_max));
            names.sort_unstable();
            names.dedup();
            prop_assert_eq!(names.len(), roster.entries().len());
        }
    }
}
