use core::time::Duration;
use std::{string::ToString as _, vec, vec::Vec};

use proptest::prelude::*;

use super::*;

mod changes;
mod model;

pub(super) const POLICY: Policy = Policy {
    browse: Lifetimes { idle: Duration::from_secs(7_200), absolute: Duration::from_secs(7_200) },
    standard: Lifetimes { idle: Duration::from_secs(600), absolute: Duration::from_secs(3_600) },
    privileged: Lifetimes { idle: Duration::from_secs(60), absolute: Duration::from_secs(300) },
    retry_window: Duration::from_secs(30),
};
pub(super) const ID: SessionId = SessionId::from_random([9; 16]);
const EVERYONE: Versions = Versions { version: Version::INITIAL, sessions_floor: Version::INITIAL };

pub(super) fn at(secs: u64) -> Timestamp {
    Timestamp::from_secs(1_800_000_000 + secs)
}

pub(super) fn client() -> ClientId {
    "web".parse().unwrap()
}

pub(super) fn context(agent: &str) -> ClientContext {
    ClientContext::new(&client(), Some(agent))
}

pub(super) fn subject() -> Subject {
    Subject::new(None, vec!["member".parse().unwrap()], Version::NONE).unwrap()
}

/// Nothing was ever revoked.
pub(crate) fn around(subject: &Subject) -> Surroundings<'_> {
    Surroundings {
        id: &ID,
        subject,
        tenant: None,
        everyone: &EVERYONE,
        policy: &POLICY,
        session_floor: Version::NONE,
        subject_floor: Version::NONE,
        tenant_floor: Version::NONE,
        everyone_floor: Version::NONE,
    }
}

fn command() -> Open {
    Open {
        subject: "3f1c2b0e-9a55-4c7e-8a3e-8b0d6d6f2a11".parse().unwrap(),
        tenant: None,
        client_id: client(),
        tier: Tier::Standard,
        seed: Seed([1; 16]),
        context: context("Firefox"),
        auth_time: None,
        acr: Some("urn:example:aal2".to_string()),
        amr: vec!["pwd".to_string(), "otp".to_string()],
        scope: Some("read write".to_string()),
        device: None,
    }
}

/// A session of ordinary content, opened at [`at`]`(0)`.
pub(crate) fn session() -> Session {
    Session::open(command(), &around(&subject()), at(0)).unwrap()
}

fn refresh(session: &Session, generation: u32, agent: &str, now: u64) -> Result<Refreshed, RefreshError> {
    let subject = subject();
    let live = session.live(around(&subject), at(now)).unwrap();
    live.refresh(Generation(generation), &client(), context(agent), at(now))
}

fn rotated(session: &Session, generation: u32, now: u64) -> Session {
    match refresh(session, generation, "Firefox", now) {
        Ok(Refreshed::Rotated { session, .. }) => *session,
        other => panic!("{other:?}"),
    }
}

fn reuse_class(result: Result<Refreshed, RefreshError>) -> Option<ReuseClass> {
    match result {
        Err(RefreshError::Reuse { session, class }) => {
            assert!(matches!(session.state, State::Ended { reason: EndReason::TokenReuse, .. }));
            assert_eq!(session.version, Version::ENDED);
            Some(class)
        }
        _ => None,
    }
}

#[test]
fn the_live_generation_rotates_and_moves_nothing_but_idle_time() {
    let before = session();
    let after = rotated(&before, 0, 100);
    assert_eq!(after.generation, Generation(1));
    assert_eq!(after.idle_expires_at, at(700));
    assert_eq!((after.expires_at, after.auth_time), (before.expires_at, before.auth_time), "REF-10");
    assert_eq!((&after.acr, &after.amr, after.version), (&before.acr, &before.amr, before.version), "REF-10");
}

#[test]
fn the_token_before_gets_the_same_successor_inside_the_window_from_the_same_client() {
    let session = rotated(&session(), 0, 100);
    assert_eq!(refresh(&session, 0, "Firefox", 129), Ok(Refreshed::Repeated(Generation(1))), "REF-05");
    assert_eq!(reuse_class(refresh(&session, 0, "Firefox", 130)), Some(ReuseClass::LateRetry), "half-open");
    assert_eq!(reuse_class(refresh(&session, 0, "curl", 101)), Some(ReuseClass::OtherClient), "REF-04");
}

#[test]
fn an_older_token_is_reuse_at_any_time() {
    let session = rotated(&rotated(&session(), 0, 1), 1, 2);
    assert_eq!(reuse_class(refresh(&session, 0, "Firefox", 2)), Some(ReuseClass::Ancestor), "REF-04");
    assert_eq!(reuse_class(refresh(&session, 0, "curl", 2)), Some(ReuseClass::OtherClient));
}

#[test]
fn a_later_generation_heals_the_record_without_an_alarm() {
    let healed = refresh(&session(), 4, "Firefox", 5);
    assert!(matches!(healed, Ok(Refreshed::Rotated { session, healed: true }) if session.generation == Generation(5)));
}

#[test]
fn another_client_gets_nothing_and_ends_nothing() {
    let session = session();
    let subject = subject();
    let live = session.live(around(&subject), at(1)).unwrap();
    let other: ClientId = "other".parse().unwrap();
    let refused = live.refresh(Generation(0), &other, context("Firefox"), at(1));
    assert_eq!(refused, Err(RefreshError::WrongClient), "REF-07");
}

/// TMO-04, TMO-07, TMO-08, TMO-10: whatever the client keeps or proves, these ends hold.
#[test]
fn a_session_is_over_exactly_at_its_ends() {
    let session = session();
    let subject = subject();
    let live = |session: &Session, now| session.live(around(&subject), at(now)).map(|_| ());
    assert_eq!(live(&session, 599), Ok(()));
    assert_eq!(live(&session, 600), Err(NotLive::Idle));
    let mut kept = session;
    for n in 0..8 {
        kept = rotated(&kept, n, u64::from(n) * 500);
    }
    assert_eq!(kept.idle_expires_at, kept.expires_at, "idle time never passes the absolute end");
    assert_eq!(live(&kept, 3_599), Ok(()));
    assert_eq!(live(&kept, 3_600), Err(NotLive::Expired));
}

#[test]
fn an_ended_session_stays_ended_with_its_first_reason() {
    let ended = session().ended(EndReason::SignedOut, Initiator::User, at(5)).unwrap();
    assert_eq!(ended.ended(EndReason::Revoked, Initiator::Admin, at(6)), None);
    let subject = subject();
    assert_eq!(ended.live(around(&subject), at(6)).map(|_| ()), Err(NotLive::Ended(EndReason::SignedOut)));
}

#[test]
fn wider_scopes_and_the_floor_end_a_session_and_a_change_of_roles_does_not() {
    let session = session();
    let live = |around: Surroundings<'_>| session.live(around, at(1)).map(|live| live.versions());
    let initial = subject();
    let roles = initial.with_roles(vec![], Version::NONE).unwrap().unwrap();
    assert_eq!(live(around(&roles)), Ok([1, 2, 0, 1].map(Version::new)));
    let all = initial.with_sessions_ended(Version::NONE);
    assert_eq!(live(around(&all)), Err(NotLive::EndedForAll));
    let disabled = initial.disabled(Version::NONE).unwrap();
    assert_eq!(live(around(&disabled)), Err(NotLive::SubjectDisabled));
    assert_eq!(live(around(&disabled.enabled(Version::NONE).unwrap())), Err(NotLive::EndedForAll));
    let tenant = Versions::new(Version::NONE).sessions_ended(Version::NONE);
    assert_eq!(live(Surroundings { tenant: Some(&tenant), ..around(&initial) }), Err(NotLive::EndedForAll));
    let everyone = EVERYONE.sessions_ended(Version::NONE);
    assert_eq!(live(Surroundings { everyone: &everyone, ..around(&initial) }), Err(NotLive::EndedForAll), "SES-08");
    let renewed = EVERYONE.raised(Version::NONE);
    assert_eq!(live(Surroundings { everyone: &renewed, ..around(&initial) }), Ok([1, 1, 0, 2].map(Version::new)));
    let floor = Surroundings { session_floor: Version::ENDED, ..around(&initial) };
    assert_eq!(live(floor), Err(NotLive::UnderFloor), "the record fell back behind its floor");
    let ahead = Surroundings { subject_floor: Version::new(6), ..around(&initial) };
    assert_eq!(live(ahead), Ok([1, 6, 0, 1].map(Version::new)), "the log leads the record");
}

#[test]
fn nothing_opens_for_a_disabled_subject_or_with_an_impossible_auth_time() {
    let disabled = subject().disabled(Version::NONE).unwrap();
    let open = |command: Open, subject: &Subject| {
        Session::open(command, &around(subject), at(5_000)).map(|session| session.auth_time)
    };
    assert_eq!(open(command(), &disabled), Err(OpenError::SubjectDisabled));
    let at_login = |secs| Open { auth_time: Some(at(secs)), ..command() };
    assert_eq!(open(at_login(5_001), &subject()), Err(OpenError::AuthTime));
    assert_eq!(open(at_login(1_400), &subject()), Err(OpenError::AuthTime));
    assert_eq!(open(at_login(1_401), &subject()), Ok(at(1_401)));
}

proptest! {
    /// I3 and liveness: a client that always uses its newest token, with repeats inside the window, is never accused; the
    /// generation never falls; a second holder of an old token is always found out.
    #[test]
    fn an_honest_client_is_never_accused(steps in prop::collection::vec((any::<bool>(), 0_u64..29), 1..60)) {
        let mut session = session();
        let mut now = 0;
        let mut seen = Vec::new();
        for (repeat, pause) in steps {
            now += pause;
            if now >= 3_500 {
                break;
            }
            let presented = session.generation.0;
            session = rotated(&session, presented, now);
            seen.push(presented);
            if repeat {
                prop_assert_eq!(refresh(&session, presented, "Firefox", now), Ok(Refreshed::Repeated(session.generation)));
            }
        }
        for old in seen.iter().rev().skip(1) {
            prop_assert!(reuse_class(refresh(&session, *old, "Firefox", now)).is_some());
        }
    }
}
