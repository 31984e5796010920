use super::*;
use crate::config::SigningAlgorithm::*;

const DAY: u64 = 86_400;
const T0: u64 = 1_800_000_000;

fn at(secs: u64) -> Timestamp {
    Timestamp::from_secs(T0 + secs)
}

fn policy() -> KeyPolicy {
    KeyPolicy { algorithm: Ed25519, lead: Duration::from_secs(300), rotate_every: Some(Duration::from_secs(30 * DAY)) }
}

fn signing(ring: &KeyRing, secs: u64) -> String {
    ring.signing(Ed25519, at(secs), |_| false).unwrap().kid().to_owned()
}

fn standby(ring: &KeyRing) -> String {
    let mut standing_by = ring.tokens().iter().filter(|key| key.signs_from.is_none());
    let kid = standing_by.next().unwrap().kid().to_owned();
    assert!(standing_by.next().is_none());
    kid
}

fn maintained(ring: &KeyRing, secs: u64) -> Option<KeyRing> {
    ring.maintained(&policy(), at(secs), |_| false).unwrap()
}

fn has(ring: &KeyRing, kid: &str) -> bool {
    ring.key_set().get(kid).is_some()
}

#[test]
fn a_new_set_signs_at_once_and_needs_nothing() {
    let ring = KeyRing::generate(&policy(), at(0)).unwrap();
    assert_ne!(signing(&ring, 0), standby(&ring));
    assert!(maintained(&ring, 0).is_none() && maintained(&ring, 30 * DAY - 1).is_none());
    assert_eq!(signing(&ring, 0), ring.signing(Ed25519, Timestamp::EPOCH, |_| false).unwrap().kid(), "a clock behind");
}

/// KEY-05: published before use, kept until the last token has expired.
#[test]
fn a_rotation_lets_the_published_key_sign_and_keeps_the_old_one_for_its_tokens() {
    let ring = KeyRing::generate(&policy(), at(0)).unwrap();
    let (old, new) = (signing(&ring, 0), standby(&ring));
    let early = ring.rotated(&policy(), at(100)).unwrap().unwrap();
    assert_eq!((signing(&early, 299), signing(&early, 300)), (old.clone(), new.clone()), "the lead time is kept");
    assert!(early.rotated(&policy(), at(200)).unwrap().is_none(), "on its way already");

    let ring = ring.rotated(&policy(), at(1_000)).unwrap().unwrap();
    assert!(ring.version() > early.version());
    assert_eq!(signing(&ring, 1_000), new, "published for long: at once");
    assert!(has(&ring, &old) && standby(&ring) != new);
    let replaced_at = 1_000 + KEPT.as_secs();
    assert!(maintained(&ring, replaced_at - 1).is_none());
    let cleared = maintained(&ring, replaced_at).unwrap();
    assert!(!has(&cleared, &old) && has(&cleared, &new));
    assert_eq!(cleared.tokens().len(), 2);
}

#[test]
fn a_key_is_rotated_when_its_time_has_come_if_there_is_one() {
    let ring = KeyRing::generate(&policy(), at(0)).unwrap();
    let next = standby(&ring);
    let rotated = maintained(&ring, 30 * DAY).unwrap();
    assert_eq!(signing(&rotated, 30 * DAY), next);
    assert!(maintained(&rotated, 30 * DAY + 1).is_none(), "once");
    let never = KeyPolicy { rotate_every: None, ..policy() };
    assert!(ring.maintained(&never, at(3_000 * DAY), |_| false).unwrap().is_none());
}

/// A revoked key is out at once; the one that stands by is known everywhere already.
#[test]
fn a_revoked_key_is_replaced_at_once() {
    let ring = KeyRing::generate(&policy(), at(0)).unwrap();
    let (bad, good) = (signing(&ring, 0), standby(&ring));
    let is_bad = |key: &RingKey| key.kid() == bad;
    let before = ring.signing(Ed25519, at(10), is_bad).unwrap();
    assert_eq!(before.kid(), good, "before the set was changed, nothing is signed with it");
    assert!(ring.signing(Ed25519, at(10), |_| true).is_none());
    let ring = ring.maintained(&policy(), at(10), is_bad).unwrap().unwrap();
    assert_eq!(signing(&ring, 10), good);
    assert!(!has(&ring, &bad) && has(&ring, &good));
    assert!(ring.maintained(&policy(), at(10), is_bad).unwrap().is_none(), "repeated");

    let all = ring.maintained(&policy(), at(20), |_| true).unwrap().unwrap();
    assert_eq!(all.tokens().len(), 2);
    assert!(!has(&all, &good) && !signing(&all, 20).is_empty());
}

#[test]
fn a_revoked_key_in_waiting_changes_nothing_else() {
    let ring = KeyRing::generate(&policy(), at(0)).unwrap();
    let (good, bad) = (signing(&ring, 0), standby(&ring));
    let ring = ring.maintained(&policy(), at(10), |key| key.kid() == bad).unwrap().unwrap();
    assert_eq!(signing(&ring, 10), good);
    assert_ne!(standby(&ring), bad);
}

#[test]
fn another_algorithm_is_published_before_it_is_used() {
    let ring = KeyRing::generate(&policy(), at(0)).unwrap();
    let old = signing(&ring, 0);
    let chosen = KeyPolicy { algorithm: Es256, ..policy() };
    let ring = ring.maintained(&chosen, at(1_000), |_| false).unwrap().unwrap();
    let signs = |ring: &KeyRing, secs| ring.signing(Es256, at(secs), |_| false).unwrap().key.jwk().alg;
    assert_eq!((signs(&ring, 1_299), signs(&ring, 1_300)), ("Ed25519", "ES256"));
    assert_eq!(signing(&ring, 2_000), old, "an origin that still has the old configuration goes on");
    assert!(ring.maintained(&chosen, at(29 * DAY), |_| false).unwrap().is_none());
    let later = ring.maintained(&chosen, at(32 * DAY), |_| false).unwrap().unwrap();
    assert!(!has(&later, &old));
}

#[test]
fn rotations_without_end_are_refused_before_the_set_is_too_large() {
    let hasty = KeyPolicy { lead: Duration::ZERO, ..policy() };
    let mut ring = KeyRing::generate(&hasty, at(0)).unwrap();
    let mut secs = 0;
    let refused = loop {
        secs += 1;
        match ring.rotated(&hasty, at(secs)) {
            Ok(next) => ring = next.unwrap(),
            Err(error) => break error,
        }
    };
    assert_eq!((refused, ring.tokens().len()), (KeyRingError::Full, 16));
    assert_eq!(maintained(&ring, secs + KEPT.as_secs()).unwrap().tokens().len(), 2, "and forgotten an hour later");
}

/// A key that was replaced does not come back when the one after it is revoked.
#[test]
fn the_key_that_stands_by_follows_a_revoked_one_although_an_older_one_is_there() {
    let ring = KeyRing::generate(&policy(), at(0)).unwrap().rotated(&policy(), at(1_000)).unwrap().unwrap();
    let (bad, next) = (signing(&ring, 1_000), standby(&ring));
    let ring = ring.maintained(&policy(), at(2_000), |key| key.kid() == bad).unwrap().unwrap();
    assert_eq!(signing(&ring, 2_000), next);
}

#[test]
fn the_feed_key_is_prepared_then_switched() {
    let ring = KeyRing::generate(&policy(), at(0)).unwrap();
    let old = ring.feed().public_text();
    assert_eq!(ring.with_feed_key_switched(at(1)).err(), Some(KeyRingError::NoNextFeedKey));
    let ring = ring.with_next_feed_key(at(1)).unwrap().unwrap();
    assert!(ring.with_next_feed_key(at(2)).unwrap().is_none(), "repeated");
    let next = ring.feed_keys().next.as_ref().unwrap().public_text();
    assert_eq!((ring.feed().public_text(), ring.feed_public_keys().unwrap().len()), (old.clone(), 2));
    let ring = ring.with_feed_key_switched(at(3)).unwrap();
    assert_eq!((ring.feed().public_text(), ring.feed_keys().previous.clone()), (next, Some(old)));
}
