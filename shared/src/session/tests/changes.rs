//! Tiers, the policy of now, step-up, scope and fields.

use std::{string::ToString as _, vec, vec::Vec};

use super::*;

fn opened(tier: Tier) -> Session {
    Session::open(Open { tier, ..command() }, &around(&subject()), at(0)).unwrap()
}

fn live_under(session: &Session, policy: &Policy, now: u64) -> Result<Timestamp, NotLive> {
    let subject = subject();
    session.live(Surroundings { policy, ..around(&subject) }, at(now)).map(|live| live.ends_at())
}

fn step_up() -> StepUp {
    StepUp {
        seed: Seed([2; 16]),
        context: context("Firefox"),
        tier: None,
        auth_time: None,
        acr: Some("high".to_string()),
        amr: vec!["pwd".to_string(), "hwk".to_string()],
        scope: None,
        device: None,
    }
}

/// TMO-01, TMO-02, TMO-03: every tier is over exactly at its own ends, by idling and absolutely.
#[test]
fn every_tier_has_its_lifetimes() {
    for tier in Tier::ALL {
        let lifetimes = POLICY.lifetimes(tier);
        let session = opened(tier);
        assert_eq!(session.idle_expires_at, at(0).saturating_add(lifetimes.idle), "{tier}");
        assert_eq!(session.expires_at, at(0).saturating_add(lifetimes.absolute), "{tier}");
        let idle = lifetimes.idle.as_secs();
        assert!(live_under(&session, &POLICY, idle - 1).is_ok(), "{tier}");
        assert!(live_under(&session, &POLICY, idle).is_err(), "{tier}");
        assert_eq!(tier.to_string().parse(), Ok(tier));
    }
    assert_eq!("root".parse::<Tier>(), Err(UnknownTier));
}

/// The absolute end counts from the authentication, not from when the session was opened.
#[test]
fn a_session_that_is_opened_late_ends_no_later() {
    let open = Open { auth_time: Some(at(1_000)), ..command() };
    let session = Session::open(open, &around(&subject()), at(4_000)).unwrap();
    assert_eq!(session.expires_at, at(4_600));
}

/// TMO-02, TMO-06: a stricter policy holds for sessions that exist, and a looser one gives them nothing.
#[test]
fn the_policy_of_now_can_only_shorten() {
    let session = rotated(&opened(Tier::Standard), 0, 500);
    let policy = |idle: u64, absolute: u64| Policy {
        standard: Lifetimes { idle: Duration::from_secs(idle), absolute: Duration::from_secs(absolute) },
        ..POLICY
    };
    assert_eq!(live_under(&session, &policy(600, 3_600), 700), Ok(at(1_100)));
    assert_eq!(live_under(&session, &policy(9_000, 90_000), 700), Ok(at(1_100)), "looser");
    assert_eq!(live_under(&session, &policy(9_000, 90_000), 1_100), Err(NotLive::Idle), "looser");
    assert_eq!(live_under(&session, &policy(600, 700), 699), Ok(at(700)), "stricter: a token is shorter at once");
    assert_eq!(live_under(&session, &policy(600, 700), 700), Err(NotLive::Policy(Limit::Absolute)));
    assert_eq!(live_under(&session, &policy(200, 3_600), 699), Ok(at(700)));
    assert_eq!(live_under(&session, &policy(200, 3_600), 700), Err(NotLive::Policy(Limit::Idle)));
    assert!(live_under(&opened(Tier::Browse), &policy(200, 700), 800).is_ok(), "another tier");
}

/// STP-04, SES-02, TMO-04: `acr`, `amr` and `auth_time` move here, both lifetimes start anew, the rest stays.
#[test]
fn a_step_up_is_another_session_of_the_same_subject() {
    let fields = Fields::new([("cart".to_string(), "3".to_string())].into()).unwrap();
    let old = Session { fields, fields_revision: 1, ..rotated(&session(), 0, 100) };
    let subject = subject();
    let live = old.live(around(&subject), at(200)).unwrap();
    let new = live.step_up(StepUp { tier: Some(Tier::Privileged), ..step_up() }, at(200)).unwrap();
    assert_eq!((new.acr.as_deref(), new.amr.len(), new.auth_time), (Some("high"), 2, at(200)));
    assert_eq!((new.generation, new.expires_at, new.idle_expires_at), (Generation(0), at(500), at(260)));
    assert_ne!(new.seed, old.seed);
    assert_eq!(
        (&new.subject, &new.client_id, &new.scope, &new.fields),
        (&old.subject, &old.client_id, &old.scope, &old.fields)
    );
    let at_login =
        |secs| live.step_up(StepUp { auth_time: Some(at(secs)), ..step_up() }, at(200)).map(|new| new.auth_time);
    assert_eq!(at_login(201), Err(OpenError::AuthTime), "in the future");
    assert_eq!(at_login(0), Ok(at(0)));
    let younger = Session { auth_time: at(50), ..old.clone() };
    let live = younger.live(around(&subject), at(200)).unwrap();
    let back = live.step_up(StepUp { auth_time: Some(at(49)), ..step_up() }, at(200));
    assert_eq!(back.map(|_| ()), Err(OpenError::AuthTime), "before the authentication that it builds on");
}

#[test]
fn a_change_of_scope_raises_the_version_once() {
    let session = session();
    let subject = subject();
    let live = |session_floor| session.live(Surroundings { session_floor, ..around(&subject) }, at(1)).unwrap();
    let changed = live(Version::NONE).with_scope(Some("read".to_string())).unwrap();
    assert_eq!((changed.version, changed.scope.as_deref()), (Version::new(2), Some("read")));
    assert_eq!((changed.acr, changed.expires_at), (session.acr.clone(), session.expires_at));
    assert_eq!(live(Version::NONE).with_scope(session.scope.clone()), None, "a repeat raises nothing");
    let after_crash = live(Version::new(5)).with_scope(None).unwrap();
    assert_eq!(after_crash.version, Version::new(6), "above what the log says");
}

/// The version that the log forced on tokens is kept when the floor is forgotten.
#[test]
fn a_rotation_writes_the_version_of_the_floor() {
    let subject = subject();
    let session = session();
    let live = session.live(Surroundings { session_floor: Version::new(3), ..around(&subject) }, at(1)).unwrap();
    let Ok(Refreshed::Rotated { session: next, .. }) = live.refresh(Generation(0), &client(), context("x"), at(1))
    else {
        panic!("not rotated");
    };
    assert_eq!(next.version, Version::new(3));
}

#[test]
fn fields_are_written_over_the_revision_that_was_read() {
    let subject = subject();
    let fields = |value: &str| Fields::new([("cart".to_string(), value.to_string())].into()).unwrap();
    let write = |session: &Session, fields: &Fields, expected| {
        session.live(around(&subject), at(1)).unwrap().with_fields(fields, expected)
    };
    let first = write(&session(), &fields("1"), 0).unwrap().unwrap();
    assert_eq!((first.fields_revision, first.version), (1, session().version), "tokens are not concerned");
    assert_eq!(write(&first, &fields("1"), 0), Ok(None), "a repeat");
    assert_eq!(write(&first, &fields("2"), 0), Err(FieldsConflict::Stale { current: 1 }));
    assert_eq!(write(&first, &fields("2"), 1).map(|next| next.map(|next| next.fields_revision)), Ok(Some(2)));
    assert_eq!(write(&first, &fields("2"), u32::MAX), Err(FieldsConflict::Exhausted));
}

#[test]
fn reasons_initiators_and_limits_have_names_of_their_own() {
    let mut names: Vec<&str> = EndReason::ALL.map(EndReason::name).to_vec();
    names.extend(ReuseClass::ALL.map(ReuseClass::name));
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), 11);
}
