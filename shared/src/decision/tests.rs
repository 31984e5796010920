use std::{vec, vec::Vec};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{
    policy::PathPattern,
    revocation::{Floor, FloorKey, Version},
    token::tests::{NOW, token_with},
};

const SKEW: Duration = Duration::from_secs(2);

fn now() -> Timestamp {
    Timestamp::from_secs(NOW + 10)
}

fn route(requirements: Requirements) -> Route {
    Route {
        id: "r".into(),
        host: None,
        path: PathPattern::parse("/*").unwrap(),
        methods: None,
        access: Access::Session(requirements),
        assurance: Assurance::default(),
        staleness_ms_max: 5_000,
        on_stale: OnStale::Deny,
        sign_in: None,
        upstream: "app".into(),
    }
}

fn fresh(floors: &Floors) -> View<'_> {
    View { floors, freshness: Freshness::AsOf(now()), inquiry: Inquiry::default(), skew_max: SKEW }
}

fn denied(requirements: Requirements, members: &[(&str, Value)]) -> Option<Denied> {
    let (token, floors) = (token_with(members), Floors::new());
    match decide(&route(requirements), Credential::Token(&token), fresh(&floors), now()) {
        Decision::Deny(denied) => Some(denied),
        Decision::Allow(claims) => {
            assert_eq!(claims, token.claims(), "I6");
            None
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_credential_comes_first() {
    let floors = Floors::new();
    let decide = |credential| decide(&route(Requirements::default()), credential, fresh(&floors), now());
    assert_eq!(decide(Credential::None), Decision::Deny(Denied::NoCredential));
    let bad = decide(Credential::Bad(TokenError::Signature));
    assert_eq!(bad, Decision::Deny(Denied::InvalidToken(TokenError::Signature)));
    let anonymous = Route { access: Access::Anonymous, ..route(Requirements::default()) };
    assert_eq!(super::decide(&anonymous, Credential::None, fresh(&floors), now()), Decision::Anonymous);
}

/// A gate that knows nothing, or nothing new, does not say that a key is none.
#[test]
fn a_key_that_may_have_been_missed_is_asked_for() {
    let floors = Floors::new();
    let unknown = |on_stale, inquiry, freshness| {
        let route = Route { on_stale, ..route(Requirements::default()) };
        let view = View { freshness, inquiry, ..fresh(&floors) };
        decide(&route, Credential::Bad(TokenError::UnknownKey), view, now())
    };
    let refused = Decision::Deny(Denied::InvalidToken(TokenError::UnknownKey));
    let (nobody, everybody) = (Inquiry::default(), Inquiry { hub: Asked::InVain, origin: Asked::InVain });
    let at_last = [(OnStale::Deny, Denied::Stale), (OnStale::Ask, Denied::Stale)];
    for (on_stale, denied) in at_last {
        assert_eq!(unknown(on_stale, nobody, Freshness::Unsynced), Decision::Ask(Source::Hub));
        assert_eq!(unknown(on_stale, everybody, Freshness::Unsynced), Decision::Deny(denied));
        assert_eq!(unknown(on_stale, nobody, Freshness::AsOf(now())), refused);
    }
    assert_eq!(unknown(OnStale::Allow, everybody, Freshness::Unsynced), refused, "I7");
}

#[test]
fn expiry_is_half_open() {
    let at = NOW + 10;
    let refused = denied(Requirements::default(), &[("exp", json!(at))]);
    assert_eq!(refused, Some(Denied::InvalidToken(TokenError::Expired)), "TOK-13: now == exp is expired");
    assert_eq!(denied(Requirements::default(), &[("exp", json!(at + 1))]), None);
}

#[test]
fn requirements_are_met_or_named() {
    let roles = |name: &str| Requirements { roles_any: vec![name.parse().unwrap()], ..Requirements::default() };
    assert_eq!(denied(roles("admin"), &[]), None);
    assert_eq!(denied(roles("owner"), &[]), Some(Denied::Roles));

    let scope = || Requirements { scope_all: vec!["read".into(), "write".into()], ..Requirements::default() };
    assert_eq!(denied(scope(), &[("scope", json!("write other read"))]), None);
    assert_eq!(denied(scope(), &[("scope", json!("read writer"))]), Some(Denied::Scope));
    assert_eq!(denied(scope(), &[]), Some(Denied::Scope));

    let acr = || Requirements { acr_any: vec!["phr".into(), "mfa".into()], ..Requirements::default() };
    assert_eq!(denied(acr(), &[("acr", json!("mfa"))]), None);
    assert_eq!(denied(acr(), &[("acr", json!("pwd"))]), Some(Denied::Authentication));
    assert_eq!(denied(acr(), &[]), Some(Denied::Authentication));

    let age = || Requirements { max_age_s: Some(60), ..Requirements::default() };
    assert_eq!(denied(age(), &[("auth_time", json!(NOW - 49))]), None);
    assert_eq!(denied(age(), &[("auth_time", json!(NOW - 50))]), Some(Denied::Authentication));
    assert_eq!(denied(age(), &[]), Some(Denied::Authentication));

    let tenant = |name: &str| Requirements { tenant: Some(name.parse().unwrap()), ..Requirements::default() };
    assert_eq!(denied(tenant("acme"), &[]), None);
    assert_eq!(denied(tenant("other"), &[]), Some(Denied::Tenant));
}

/// I7: what becomes of a good token when nobody can say whether it still is one.
#[test]
fn a_stale_replica_does_what_the_route_says() {
    let (token, floors) = (token_with(&[]), Floors::new());
    for freshness in [Freshness::Unsynced, Freshness::AsOf(now().saturating_sub(Duration::from_secs(60)))] {
        let decide = |on_stale, inquiry| {
            let route = Route { on_stale, ..route(Requirements::default()) };
            decide(&route, Credential::Token(&token), View { freshness, inquiry, ..fresh(&floors) }, now())
        };
        for on_stale in [OnStale::Deny, OnStale::Allow, OnStale::Ask] {
            assert_eq!(decide(on_stale, Inquiry::default()), Decision::Ask(Source::Hub));
        }
        for hub in [Asked::InVain, Asked::Answered] {
            let asked = Inquiry { hub, ..Inquiry::default() };
            assert_eq!(decide(OnStale::Deny, asked), Decision::Deny(Denied::Stale));
            assert_eq!(decide(OnStale::Allow, asked), Decision::Allow(token.claims()));
            assert_eq!(decide(OnStale::Ask, asked), Decision::Ask(Source::Origin));
            let asked = Inquiry { origin: Asked::InVain, ..asked };
            assert_eq!(decide(OnStale::Ask, asked), Decision::Deny(Denied::Stale));
        }
    }
}

/// A route that wants somebody asked lets nobody pass on what the replica knew before, however fresh that is.
#[test]
fn assurance_says_who_must_have_answered() {
    use Asked::{Answered, InVain, No};
    let (token, floors) = (token_with(&[]), Floors::new());
    let decide = |assurance, on_stale, hub, origin| {
        let route = Route { assurance, on_stale, ..route(Requirements::default()) };
        let view = View { inquiry: Inquiry { hub, origin }, ..fresh(&floors) };
        decide(&route, Credential::Token(&token), view, now())
    };
    let (allow, deny) = (Decision::Allow(token.claims()), Decision::Deny(Denied::Stale));
    let (hub, origin) = (Decision::Ask(Source::Hub), Decision::Ask(Source::Origin));
    assert_eq!(decide(Assurance::Bounded, OnStale::Deny, No, No), allow, "I12");

    assert_eq!(decide(Assurance::Regional, OnStale::Deny, No, No), hub);
    assert_eq!(decide(Assurance::Regional, OnStale::Deny, Answered, No), allow);
    assert_eq!(decide(Assurance::Regional, OnStale::Deny, InVain, No), deny);
    assert_eq!(decide(Assurance::Regional, OnStale::Allow, InVain, No), allow);
    assert_eq!(decide(Assurance::Regional, OnStale::Ask, InVain, No), origin);
    assert_eq!(decide(Assurance::Regional, OnStale::Ask, InVain, Answered), allow);
    assert_eq!(decide(Assurance::Regional, OnStale::Ask, InVain, InVain), deny);

    assert_eq!(decide(Assurance::Authoritative, OnStale::Deny, No, No), origin);
    assert_eq!(decide(Assurance::Authoritative, OnStale::Deny, Answered, No), origin, "a hub is not enough");
    assert_eq!(decide(Assurance::Authoritative, OnStale::Deny, No, Answered), allow);
    for on_stale in [OnStale::Deny, OnStale::Ask] {
        assert_eq!(decide(Assurance::Authoritative, on_stale, No, InVain), deny);
    }
    assert_eq!(decide(Assurance::Authoritative, OnStale::Allow, No, InVain), allow);
}

/// The scopes of a token of [`token_with`] (versions 1, 2 and 3), each with its version.
fn scopes() -> [(FloorKey, u64); 3] {
    [
        (FloorKey::session(&"AAAAAAAAAAAAAAAAAAAAAA".parse().unwrap()), 1),
        (FloorKey::subject(&"alice".parse().unwrap()), 2),
        (FloorKey::tenant(&"acme".parse().unwrap()), 3),
    ]
}

proptest! {
    /// Safety and liveness in one: with a fresh view a token passes exactly if no scope's floor is above its version, and
    /// a dead one passes nowhere, however stale the view and forgiving the route.
    #[test]
    fn floors_alone_decide_over_a_good_token(
        raised in proptest::collection::vec((0_usize..4, 0_u64..6), 0..8),
        synced in any::<bool>(),
        forgiving in any::<bool>(),
    ) {
        let scopes = scopes();
        let mut floors = Floors::new();
        let mut dead = false;
        for (scope, lowest) in raised {
            let (key, version) = scopes.get(scope).copied().unwrap_or((FloorKey::signing_key("another"), u64::MAX));
            floors.join(Floor { key, lowest: Version::new(lowest), forget_at: Timestamp::from_secs(NOW + 900) });
            dead |= lowest > version;
        }
        let token = token_with(&[]);
        let on_stale = if forgiving { OnStale::Allow } else { OnStale::Deny };
        let route = Route { on_stale, ..route(Requirements::default()) };
        let freshness = if synced { Freshness::AsOf(now()) } else { Freshness::Unsynced };
        let inquiry = Inquiry { hub: Asked::InVain, ..Inquiry::default() };
        let view = View { freshness, inquiry, ..fresh(&floors) };
        let decision = decide(&route, Credential::Token(&token), view, now());
        if dead {
            prop_assert!(matches!(decision, Decision::Deny(Denied::Revoked(_))));
        } else if synced || forgiving {
            prop_assert_eq!(decision, Decision::Allow(token.claims()));
        } else {
            prop_assert_eq!(decision, Decision::Deny(Denied::Stale));
        }
    }
}

/// A token that expires so many seconds after `now()`, of somebody who authenticated so many before it, on a route for
/// authentications of at most `max_age_s`, held by a replica that is so old.
fn kept_for(exp_s: u64, since_s: u64, max_age_s: Option<u64>, old_ms: u64, route: Route) -> Option<u64> {
    let token = token_with(&[("exp", json!(NOW + 10 + exp_s)), ("auth_time", json!(NOW + 10 - since_s))]);
    let route = Route { access: Access::Session(Requirements { max_age_s, ..Requirements::default() }), ..route };
    let floors = Floors::new();
    let view =
        View { freshness: Freshness::AsOf(now().saturating_sub(Duration::from_millis(old_ms))), ..fresh(&floors) };
    let is_allowed = |at| matches!(decide(&route, Credential::Token(&token), view, at), Decision::Allow(_));
    let until = allowed_until(&route, &token, view, now())?;
    assert!(is_allowed(now()) && is_allowed(until.saturating_sub(Duration::from_millis(1))), "I1: {until:?}");
    assert!(!is_allowed(until.saturating_add(Duration::from_millis(1))), "it could be longer: {until:?}");
    Some(until.saturating_since(now()).as_millis() as u64)
}

proptest! {
    /// I1: an allowance is not kept longer than it is one, nor much shorter.
    #[test]
    fn an_allowance_is_kept_as_long_as_it_is_one(
        exp_s in 0_u64..12,
        since_s in 0_u64..10,
        max_age_s in prop::option::of(0_u64..20),
        old_ms in 0_u64..6_000,
    ) {
        let route = route(Requirements::default());
        let kept = kept_for(exp_s, since_s, max_age_s, old_ms, route);
        // The clocks may be two seconds apart, and the route's bound is five.
        let by_now = exp_s > 0 && max_age_s.is_none_or(|max_age| max_age > since_s) && old_ms < 3_000;
        if by_now {
            prop_assert!(kept.is_some());
        }
    }
}

/// The first end counts.
#[test]
fn an_allowance_ends_with_token_authentication_or_freshness() {
    let kept = |exp_s, max_age_s, old_ms| kept_for(exp_s, 4, max_age_s, old_ms, route(Requirements::default()));
    assert_eq!(kept(2, Some(60), 0), Some(2_000), "token");
    assert_eq!(kept(60, Some(5), 0), Some(1_000), "authentication");
    assert_eq!(kept(60, Some(60), 500), Some(2_500), "freshness, less what the clocks may be apart");
}

#[test]
fn an_allowance_is_kept_only_where_nobody_need_be_asked() {
    let kept = |route| kept_for(60, 4, None, 500, route);
    let plain = || route(Requirements::default());
    assert_eq!(kept(plain()), Some(2_500));
    assert_eq!(kept(Route { assurance: Assurance::Regional, ..plain() }), None);
    assert_eq!(kept(Route { assurance: Assurance::Authoritative, ..plain() }), None);
    // What passes though the replica is stale was asked about first.
    let (token, floors) = (token_with(&[]), Floors::new());
    let forgiving = Route { on_stale: OnStale::Allow, ..plain() };
    let asked = Inquiry { hub: Asked::InVain, ..Inquiry::default() };
    for freshness in [Freshness::Unsynced, Freshness::AsOf(now().saturating_sub(Duration::from_secs(4)))] {
        let view = View { freshness, inquiry: asked, ..fresh(&floors) };
        assert_eq!(decide(&forgiving, Credential::Token(&token), view, now()), Decision::Allow(token.claims()));
        assert_eq!(allowed_until(&forgiving, &token, view, now()), None);
    }
}

#[test]
fn every_denial_has_a_name_of_its_own() {
    let all = [
        Denied::NoCredential,
        Denied::InvalidToken(TokenError::Expired),
        Denied::InvalidToken(TokenError::Signature),
        Denied::Revoked(ScopeKind::Session),
        Denied::Scope,
        Denied::Roles,
        Denied::Tenant,
        Denied::Authentication,
        Denied::Stale,
    ];
    let mut names: Vec<&str> = all.iter().map(|denied| denied.name()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), all.len());
}

/// BRR-01 to BRR-04, STP-01, STP-02.
#[test]
fn challenges_say_what_is_missing_and_no_more() {
    let plain = route(Requirements::default());
    let challenge = |denied: Denied, route: &Route| denied.challenge(route).unwrap_or_default();
    assert_eq!(challenge(Denied::NoCredential, &plain), r#"Bearer realm="portcullis""#);
    let bad = [Denied::InvalidToken(TokenError::Signature), Denied::Revoked(ScopeKind::Session)];
    for denied in bad {
        assert_eq!(challenge(denied, &plain), r#"Bearer realm="portcullis", error="invalid_token""#);
        assert_eq!((denied.status(), denied.detail()), (401, bad[0].detail()), "BRR-08");
    }
    let scope = route(Requirements { scope_all: vec!["read".into(), "write".into()], ..Requirements::default() });
    let wanted = r#"Bearer realm="portcullis", error="insufficient_scope", scope="read write""#;
    assert_eq!((Denied::Scope.status(), challenge(Denied::Scope, &scope).as_str()), (403, wanted));
    let roles = route(Requirements { roles_any: vec!["secret-role".parse().unwrap()], ..Requirements::default() });
    assert_eq!(challenge(Denied::Roles, &roles), r#"Bearer realm="portcullis", error="insufficient_scope""#);
    let acr = Requirements { acr_any: vec!["a".into(), "b".into()], max_age_s: Some(300), ..Requirements::default() };
    assert_eq!(
        challenge(Denied::Authentication, &route(acr.clone())),
        r#"Bearer realm="portcullis", error="insufficient_user_authentication", acr_values="a b", max_age="300""#
    );
    let both = Requirements { scope_all: vec!["pay".into()], max_age_s: None, ..acr };
    assert_eq!(
        challenge(Denied::Authentication, &route(both)),
        r#"Bearer realm="portcullis", error="insufficient_user_authentication", scope="pay", acr_values="a b""#,
        "STP-02"
    );
    assert_eq!((Denied::Stale.status(), Denied::Stale.challenge(&plain)), (503, None));
}
