use std::{format, vec};

use proptest::prelude::*;

use super::*;

fn route(id: &str, path: &str) -> Route {
    Route {
        id: id.into(),
        host: None,
        path: PathPattern::parse(path).unwrap(),
        methods: None,
        access: Access::Session(Requirements::default()),
        assurance: Assurance::default(),
        staleness_ms_max: 5_000,
        on_stale: OnStale::Deny,
        sign_in: None,
        upstream: "app".into(),
    }
}

fn for_methods(id: &str, path: &str, methods: &[&str]) -> Route {
    Route { methods: Some(methods.iter().map(|method| (*method).into()).collect()), ..route(id, path) }
}

fn policy(routes: Vec<Route>) -> Result<Policy, PolicyError> {
    Policy::new(routes, BTreeMap::from([("app".into(), Upstream::at("http://127.0.0.1:8790"))]))
}

fn found(policy: &Policy, method: &str, host: Option<&str>, path: &str) -> Option<String> {
    match policy.route(method, host, &CanonicalPath::new(path).unwrap()) {
        Routed::Route(index, route) => {
            assert_eq!(policy.routes()[index].id, route.id);
            Some(route.id.clone())
        }
        Routed::NotFound | Routed::MethodNotAllowed(_) => None,
    }
}

#[test]
fn the_first_match_wins_at_segment_boundaries() {
    let policy = policy(vec![route("admin", "/app/admin/*"), route("app", "/app/*"), route("home", "/")]).unwrap();
    let found = |path| found(&policy, "GET", None, path);
    assert_eq!(found("/app/admin/users").as_deref(), Some("admin"));
    assert_eq!(found("/app/administrators").as_deref(), Some("app"));
    assert_eq!(found("/").as_deref(), Some("home"));
    assert_eq!(found("/app"), None);
    assert_eq!(found("/other"), None);
}

#[test]
fn hosts_are_compared_without_case() {
    let api = Route { host: Some("api.example".into()), ..route("api", "/*") };
    let policy = policy(vec![api, route("any", "/x")]).unwrap();
    assert_eq!(found(&policy, "GET", Some("API.example"), "/x").as_deref(), Some("api"));
    assert_eq!(found(&policy, "GET", Some("other.example"), "/x").as_deref(), Some("any"));
    assert_eq!(found(&policy, "GET", None, "/y"), None);
}

#[test]
fn a_route_is_for_a_host_that_a_request_can_have() {
    let with = |host: &str| Route { host: Some(host.into()), ..route("a", "/*") };
    for host in ["api.example", "API.example", "my_host", "xn--bcher-kva.example", "127.0.0.1", "[::1]"] {
        assert!(policy(vec![with(host)]).is_ok(), "{host}");
    }
    for host in
        ["", "api.example.", "api.example:443", "*.example", "https://api.example", "bücher.example", "[::1]:80"]
    {
        assert_eq!(policy(vec![with(host)]), Err(PolicyError::Host { route: 0, found: host.into() }));
    }
    let hidden = Route { id: "b".into(), ..with("API.example") };
    assert_eq!(policy(vec![with("api.EXAMPLE"), hidden]), Err(PolicyError::Shadowed { route: 1, by: "a".into() }));
}

#[test]
fn a_wrong_method_says_which_are_right() {
    let policy =
        policy(vec![for_methods("read", "/x", &["GET", "HEAD"]), for_methods("write", "/x", &["POST"])]).unwrap();
    let path = CanonicalPath::new("/x").unwrap();
    assert_eq!(policy.route("PUT", None, &path), Routed::MethodNotAllowed(BTreeSet::from(["GET", "HEAD", "POST"])));
    assert_eq!(found(&policy, "POST", None, "/x").as_deref(), Some("write"));
}

#[test]
fn wrong_policies_are_refused_with_their_place() {
    let cases = [
        (vec![], "a policy must have 1 to 256 routes"),
        (
            vec![route("a", "/x"), route("a", "/y")],
            "routes[1].id: \"a\" is the id of an earlier route; ids must be unique",
        ),
        (
            vec![Route { upstream: "nobody".into(), ..route("a", "/x") }],
            "routes[0].upstream: \"nobody\" is not one of [upstreams]",
        ),
        (
            vec![Route { staleness_ms_max: 99, ..route("a", "/x") }],
            "routes[0].staleness_ms_max: 99 is not from 100 to 300000",
        ),
        (
            vec![route("a", "/app/*"), for_methods("b", "/app/admin/*", &["GET"])],
            "routes[1].path: no request can reach this route, since \"a\" takes them all; put it first",
        ),
    ];
    for (routes, text) in cases {
        assert_eq!(policy(routes).unwrap_err().to_string(), text);
    }
    assert!(policy(vec![for_methods("a", "/x", &["GET"]), route("b", "/x")]).is_ok());
}

#[test]
fn patterns_are_canonical() {
    for wrong in ["", "x", "/a*", "/a/*/b", "/a/../b", "/a//b", "*", "/%2e%2e/*"] {
        assert_eq!(PathPattern::parse(wrong), None, "{wrong}");
    }
    assert_eq!(PathPattern::parse("/*"), Some(PathPattern::Under("/".into())));
}

proptest! {
    /// A route that is accepted after another can be reached, or the two are not comparable.
    #[test]
    fn what_covers_matches_whatever_the_other_matches(a in "(/[ab]){1,3}", b in "(/[ab]){1,3}", rest in "(/[ab]){0,2}") {
        let (a, b) = (PathPattern::parse(&format!("{a}/*")).unwrap(), PathPattern::parse(&format!("{b}/*")).unwrap());
        let PathPattern::Under(prefix) = &b else { unreachable!() };
        let path = format!("{prefix}{}", rest.trim_start_matches('/'));
        prop_assert!(b.matches(&path));
        prop_assert!(!a.covers(&b) || a.matches(&path));
    }
}

/// What the build wrote is what the gate reads; nothing else is read.
#[test]
fn a_policy_survives_its_bytes_and_other_bytes_are_none() {
    let admin = Requirements { roles_any: ["admin".parse().unwrap()].into(), ..Requirements::default() };
    let admin = Route { access: Access::Session(admin), ..for_methods("admin", "/admin/*", &["GET"]) };
    let written = policy(vec![admin, route("app", "/*")]).unwrap();
    let bytes = written.encode().unwrap();
    assert_eq!(Policy::decode(&bytes), Ok(written));
    for end in 0..bytes.len() {
        assert_eq!(Policy::decode(&bytes[..end]), Err(PolicyBytesError::Malformed), "{end}");
    }
    let longer = [bytes.as_slice(), &[0]].concat();
    assert_eq!(Policy::decode(&longer), Err(PolicyBytesError::Malformed));

    let hidden = (vec![route("a", "/*"), route("b", "/x")], BTreeMap::from([("app", Upstream::at("self"))]));
    let bytes = postcard::to_extend(&hidden, MAGIC.to_vec()).unwrap();
    let error = PolicyError::Shadowed { route: 1, by: "a".into() };
    assert_eq!(Policy::decode(&bytes), Err(PolicyBytesError::Policy(error)), "bytes are checked like a file");
}

#[test]
fn an_upstream_is_an_address_without_a_path() {
    let with =
        |address: &str| Policy::new(vec![route("a", "/*")], BTreeMap::from([("app".into(), Upstream::at(address))]));
    for address in ["self", "http://127.0.0.1:8790", "https://app.example", "http://[::1]:80"] {
        assert!(with(address).is_ok(), "{address}");
    }
    for address in ["", "app", "ftp://a", "http://", "http://a/", "http://a/b", "http://a?b", "http://a b"] {
        let error = PolicyError::Address { upstream: "app".into(), found: address.into() };
        assert_eq!(with(address), Err(error), "{address}");
    }
    let hidden = PolicyError::Address { upstream: "app".into(), found: "…@a:1".into() };
    assert_eq!(with("http://user:secret@a:1"), Err(hidden), "no credential in an error");
}

#[test]
fn a_place_to_sign_in_is_a_path_or_a_url_of_https() {
    for good in [
        "/sign-in",
        "/sign-in?theme=dark",
        "https://login.example",
        "https://login.example/a?b=c",
        "http://localhost:80/x",
    ] {
        assert!(is_sign_in(good), "{good}");
    }
    let long = format!("/{}", "a".repeat(SIGN_IN_BYTES_MAX));
    for bad in [
        "",
        "sign-in",
        "//evil.example",
        "/\\evil.example",
        "http://login.example/",
        "http://localhost.evil.example/",
        "https://",
        "https:///x",
        "javascript:alert(1)",
        "/a#b",
        "/a b",
        "/a\n",
        "/a?return_to=x",
        &long,
    ] {
        assert!(!is_sign_in(bad), "{bad}");
        let wrong = Route { sign_in: Some(bad.into()), ..route("a", "/a") };
        assert_eq!(policy(vec![wrong]), Err(PolicyError::SignIn { route: 0, found: bad.into() }));
    }
    let with = |access| policy(vec![Route { sign_in: Some("/sign-in".into()), access, ..route("a", "/a") }]);
    assert!(with(Access::Session(Requirements::default())).is_ok());
    assert!(matches!(with(Access::Anonymous), Err(PolicyError::SignIn { .. })));
}

#[test]
fn an_upstream_has_one_address_or_a_pool_of_different_ones() {
    let with = |addresses: &[&str]| {
        let addresses = addresses.iter().map(|address| (*address).into()).collect();
        let upstream = Upstream { addresses, affinity: Affinity::Session, answer_ms_max: Some(300_000) };
        Policy::new(vec![route("a", "/a")], BTreeMap::from([("app".into(), upstream)]))
    };
    let policy = with(&["http://a:1", "http://b:1"]).unwrap();
    assert_eq!(Policy::decode(&policy.encode().unwrap()), Ok(policy.clone()));
    assert_eq!(policy.upstream("app").and_then(Upstream::address), None);
    assert_eq!(with(&["self"]), Err(PolicyError::Answer { upstream: "app".into(), found: 300_000 }));
    let upstreams = BTreeMap::from([("app".into(), Upstream::at("self"))]);
    let own = Policy::new(vec![route("a", "/a")], upstreams);
    assert!(own.is_ok_and(|policy| policy.upstream("app").is_some_and(Upstream::is_self)));
    let wrong = PolicyError::Addresses { upstream: "app".into() };
    assert_eq!(with(&[]), Err(wrong.clone()));
    assert_eq!(with(&["http://a:1", "http://a:1"]), Err(wrong));
    assert!(matches!(with(&["http://a:1", "self"]), Err(PolicyError::Address { .. })));

    let mut moved = policy.clone();
    assert_eq!(moved.move_upstream("app", vec!["http://c:1".into()]), Ok(()));
    let there = moved.upstream("app").unwrap();
    assert_eq!((&*there.addresses, there.answer_ms_max), (&[String::from("http://c:1")][..], Some(300_000)));
    let nobody = PolicyError::NoUpstream { upstream: "b".into() };
    assert_eq!(moved.move_upstream("b", vec!["http://c:1".into()]), Err(nobody));
    assert!(moved.move_upstream("app", vec!["c".into()]).is_err());
}
