use std::{collections::BTreeMap, vec::Vec};

use proptest::prelude::*;

use super::*;

fn floors_of(floors: &[Floor]) -> Floors {
    let mut set = Floors::new();
    set.extend(floors.iter().copied());
    set
}

fn contents(set: &Floors) -> Vec<Floor> {
    set.iter().collect()
}

prop_compose! {
    /// Few keys, so that joins meet.
    fn floor()(key in 0_u8..24, lowest in prop_oneof![0_u64..6, Just(u64::MAX)], forget_at in 0_u64..100) -> Floor {
        let key = FloorKey::of(ScopeKind::Session, &[key]);
        Floor { key, lowest: Version(lowest), forget_at: Timestamp::from_secs(forget_at) }
    }
}

proptest! {
    /// Law: any order and any duplication gives the same set, which is the pointwise maximum (I4).
    #[test]
    fn joins_commute_associate_and_are_idempotent(floors in prop::collection::vec(floor(), 0..60), seed in any::<u64>()) {
        let mut model = BTreeMap::<FloorKey, (Version, Timestamp)>::new();
        for floor in floors.iter().filter(|floor| floor.lowest > Version::NONE) {
            let entry = model.entry(floor.key).or_insert((floor.lowest, floor.forget_at));
            *entry = (entry.0.max(floor.lowest), entry.1.max(floor.forget_at));
        }
        let set = floors_of(&floors);
        for (key, (lowest, _)) in &model {
            prop_assert_eq!(set.lowest(key), *lowest);
        }
        prop_assert_eq!(set.len(), model.len());

        let mut shuffled: Vec<Floor> = floors.iter().chain(&floors).copied().filter(|floor| floor.lowest > Version::NONE).collect();
        let mut state = seed;
        for i in (1..shuffled.len()).rev() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            shuffled.swap(i, (state >> 33) as usize % (i + 1));
        }
        let wanted: Vec<Floor> = floors.iter().copied().filter(|floor| floor.lowest > Version::NONE).collect();
        prop_assert_eq!(contents(&floors_of(&shuffled)), contents(&floors_of(&wanted)));
    }

    /// Law: a floor never falls, whatever is joined (I4).
    /// Keys that lie evenly, as digests do, and keys that crowd into one shard.
    #[test]
    fn every_floor_is_found_wherever_its_key_lies(numbers in prop::collection::vec(any::<u16>(), 0..400), crowd in 0_u32..112) {
        let key = |number: u16| {
            let spread = u128::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
            FloorKey::from_bytes((spread >> crowd).to_be_bytes())
        };
        let mut reference = BTreeMap::new();
        let mut set = Floors::new();
        for number in &numbers {
            set.join(Floor { key: key(*number), lowest: Version::INITIAL, forget_at: Timestamp::from_secs(1) });
            reference.insert(key(*number), Version::INITIAL);
        }
        prop_assert_eq!(set.iter().map(|floor| floor.key).collect::<Vec<_>>(), reference.keys().copied().collect::<Vec<_>>());
        for number in numbers.iter().flat_map(|number| [*number, number.wrapping_add(1)]) {
            prop_assert_eq!(set.lowest(&key(number)), reference.get(&key(number)).copied().unwrap_or(Version::NONE));
        }
    }

    #[test]
    fn a_join_never_lowers(before in prop::collection::vec(floor(), 0..40), more in floor()) {
        let mut set = floors_of(&before);
        let old = contents(&set);
        set.join(more);
        for floor in old {
            prop_assert!(set.lowest(&floor.key) >= floor.lowest);
        }
    }

    /// Law: forgetting is invisible: a token whose expiry lies before `forget_at` is judged the same with and without the
    /// forgotten floors, since it has expired wherever they are gone.
    #[test]
    fn forgetting_is_invisible(floors in prop::collection::vec(floor(), 0..40), now in 0_u64..120, key in 0_u8..24, version in 0_u64..6) {
        let full = floors_of(&floors);
        let mut pruned = floors_of(&floors);
        let now = Timestamp::from_secs(now);
        pruned.prune(now);
        let key = FloorKey::of(ScopeKind::Session, &[key]);
        if let Some(floor) = full.iter().find(|floor| floor.key == key) {
            // The latest expiry that a token under this floor can have.
            let expired = now.has_reached(floor.forget_at);
            let version = Version(version);
            prop_assert_eq!(
                full.revokes(&key, version) || expired,
                pruned.revokes(&key, version) || expired
            );
        }
        prop_assert_eq!(full.digest(now), pruned.digest(now));
    }

    #[test]
    fn an_encoded_floor_reads_back(floor in floor()) {
        prop_assert_eq!(Floor::decode(&floor.encode()), floor);
    }
}

#[test]
fn a_version_counts_up_to_but_not_into_the_end() {
    assert_eq!(Version::NONE.next(), Version::INITIAL);
    assert_eq!(Version::ENDED.next(), Version::ENDED);
    assert_eq!(Version(u64::MAX - 1).next(), Version(u64::MAX - 1));
}

#[test]
fn scopes_of_different_kinds_never_share_a_key() {
    let subject: SubjectId = "acme".parse().unwrap();
    let tenant: TenantId = "acme".parse().unwrap();
    assert_ne!(FloorKey::subject(&subject), FloorKey::tenant(&tenant));
}

#[test]
fn a_key_says_how_wide_its_scope_is() {
    let (subject, tenant) = ("acme".parse().unwrap(), "acme".parse().unwrap());
    let keys = [
        (FloorKey::session(&SessionId::from_random([7; 16])), false, "8d08ef5e888106cf57033928ebba6208"),
        (FloorKey::subject(&subject), false, "073881274ac7f6a9763f86246fce069d"),
        (FloorKey::tenant(&tenant), true, "2fb63b31a8d139557e31ce21a8fbd03e"),
        (FloorKey::signing_key("acme"), true, "293a6439ae69014e169015b49df055c2"),
        (FloorKey::everyone(), true, "4a1310515ac0d3d0e0f2e529bdb1989e"),
    ];
    for (key, is_wide, golden) in keys {
        assert_eq!(key.is_wide(), is_wide, "{key:?}");
        assert_eq!(std::format!("{key:?}"), std::format!("FloorKey({golden})"));
    }
    assert_eq!(FloorKey::everyone(), FloorKey::of(ScopeKind::Everyone, &[]), "the constant is what it stands for");
}

#[test]
fn a_million_floors_take_at_most_32_mib_and_one_more_than_the_limit_is_told() {
    let mut set = Floors::new();
    let forget_at = Timestamp::from_secs(1);
    let floor = |i: usize| {
        // A mix of the counter stands in for SHA-256: evenly spread, and much cheaper here.
        let mixed = (i as u128).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835).wrapping_add(1);
        Floor { key: FloorKey(mixed.to_be_bytes()), lowest: Version(1), forget_at }
    };
    for i in 0..FLOORS_MAX {
        assert_eq!(set.join(floor(i)), Joined::Raised);
    }
    assert!(set.memory_bytes() <= 32 << 20, "{} bytes", set.memory_bytes());
    assert_eq!(set.join(floor(FLOORS_MAX)), Joined::Full);
    // A scope that the set knows can still rise.
    assert_eq!(set.join(Floor { lowest: Version::ENDED, ..floor(7) }), Joined::Raised);
    set.prune(forget_at);
    assert!(set.is_empty());
}
