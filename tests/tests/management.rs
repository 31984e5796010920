//! The management API over HTTP: keys, bounds, trail, kept answers, pages, rate limits, refusals, document.

use std::path::Path;

use portcullis_tests::{MANAGEMENT_KEY, TestOrigin};
use reqwest::{Method, Response, header::HeaderMap};
use serde_json::{Value, json};

type Tested = anyhow::Result<()>;

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Value,
}

impl Answer {
    async fn read(response: Response) -> anyhow::Result<Self> {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let bytes = response.bytes().await?;
        let body = if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes)? };
        Ok(Self { status, headers, body })
    }

    fn text(&self, name: &str) -> &str {
        self.body[name].as_str().unwrap_or_default()
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

async fn call(origin: &TestOrigin, key: &str, method: Method, path: &str, body: Value) -> anyhow::Result<Answer> {
    let request = origin.request(method.clone(), path).bearer_auth(key);
    let request = if method == Method::GET { request } else { request.json(&body) };
    Answer::read(request.send().await?).await
}

async fn get(origin: &TestOrigin, key: &str, path: &str) -> anyhow::Result<Answer> {
    call(origin, key, Method::GET, path, Value::Null).await
}

async fn post(origin: &TestOrigin, key: &str, path: &str, body: Value) -> anyhow::Result<Answer> {
    call(origin, key, Method::POST, path, body).await
}

/// Makes an API key; its id and text.
async fn make_key(origin: &TestOrigin, scopes: &[&str], tenant: Option<&str>) -> anyhow::Result<(String, String)> {
    let body = json!({ "name": "test", "scopes": scopes, "tenant": tenant });
    let made = post(origin, MANAGEMENT_KEY, "/v1/apikeys", body).await?;
    assert_eq!(made.status, 201, "{}", made.body);
    Ok((made.text("id").to_owned(), made.text("key").to_owned()))
}

async fn open(origin: &TestOrigin, key: &str, subject: &str, tenant: &str) -> anyhow::Result<Answer> {
    post(origin, key, "/v1/sessions", json!({ "subject": subject, "client_id": "web", "tenant": tenant })).await
}

/// Whether any file of the store holds a text.
fn store_holds(directory: &Path, text: &str) -> anyhow::Result<bool> {
    for file in std::fs::read_dir(directory)? {
        let bytes = std::fs::read(file?.path())?;
        if bytes.windows(text.len()).any(|window| window == text.as_bytes()) {
            return Ok(true);
        }
    }
    Ok(false)
}

#[tokio::test]
async fn a_key_may_do_what_its_scopes_say_and_nothing_else() -> Tested {
    let directory = tempfile::tempdir()?;
    let origin = TestOrigin::start(directory.path(), vec![]).await?;
    let opened = open(&origin, MANAGEMENT_KEY, "alice", "acme").await?;
    let path = format!("/v1/sessions/{}", opened.text("session_id"));
    let (_, reader) = make_key(&origin, &["sessions:read"], None).await?;
    let (_, writer) = make_key(&origin, &["sessions:write"], None).await?;

    assert_eq!(get(&origin, &reader, &path).await?.status, 200);
    let refused = get(&origin, &writer, &path).await?;
    assert_eq!((refused.status, refused.text("title")), (403, "Forbidden"));
    assert!(refused.header("www-authenticate").contains("insufficient_scope"));
    assert_eq!(post(&origin, &reader, &format!("{path}/revoke"), json!({})).await?.status, 403);
    assert_eq!(post(&origin, &writer, &format!("{path}/revoke"), json!({})).await?.status, 200);

    let (_, asker) = make_key(&origin, &["introspect"], None).await?;
    for (key, status) in [(&asker, 200), (&reader, 403)] {
        let request = origin.request(Method::POST, "/oauth2/introspect").bearer_auth(key);
        let answer = Answer::read(request.form(&[("token", "x")]).send().await?).await?;
        assert_eq!(answer.status, status);
        // PRB-02: OAuth endpoints keep their own shape.
        assert_eq!(status == 403, answer.text("error") == "insufficient_scope");
    }
    origin.stop().await;
    Ok(())
}

/// I10, SES-01: the secret is shown once and is nowhere in the store; a made-up one is refused.
#[tokio::test]
async fn a_key_is_stored_hashed() -> Tested {
    let directory = tempfile::tempdir()?;
    let origin = TestOrigin::start(directory.path(), vec![]).await?;
    let (id, key) = make_key(&origin, &["apikeys:read"], None).await?;
    let shown = get(&origin, &key, &format!("/v1/apikeys/{id}")).await?;
    assert_eq!((shown.status, shown.text("name"), shown.text("created_by")), (200, "test", "bootstrap"));
    assert!(shown.body.get("key").is_none() && shown.body["last_used_at"].is_u64(), "{}", shown.body);

    let secret = &key[26..];
    assert_eq!(secret.len(), 43);
    assert!(store_holds(directory.path(), &id)?, "the record is looked for in the right place");
    assert!(!store_holds(directory.path(), secret)?);
    let other = format!("{}{}", &key[..26], secret.chars().rev().collect::<String>());
    for wrong in [other.as_str(), "pk_", "", &key[..68]] {
        assert_eq!(get(&origin, wrong, "/v1/apikeys").await?.status, 401, "{wrong}");
    }
    origin.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_key_is_rotated_without_a_gap_and_removed() -> Tested {
    let directory = tempfile::tempdir()?;
    let origin = TestOrigin::start(directory.path(), vec![]).await?;
    let (id, first) = make_key(&origin, &["apikeys:read"], None).await?;
    let path = format!("/v1/apikeys/{id}");
    let rotate = async |overlap_s: u64| -> anyhow::Result<String> {
        let body = json!({ "overlap_s": overlap_s });
        let rotated = post(&origin, MANAGEMENT_KEY, &format!("{path}/rotate"), body).await?;
        assert_eq!(rotated.status, 200, "{}", rotated.body);
        Ok(rotated.text("key").to_owned())
    };
    let second = rotate(3_600).await?;
    for key in [&first, &second] {
        assert_eq!(get(&origin, key, &path).await?.status, 200, "both secrets count");
    }
    assert!(get(&origin, &second, &path).await?.body["previous_secret_expires_at"].is_u64());
    let third = rotate(0).await?;
    for (key, status) in [(&first, 401), (&second, 401), (&third, 200)] {
        assert_eq!(get(&origin, key, &path).await?.status, status);
    }
    assert_eq!(call(&origin, MANAGEMENT_KEY, Method::DELETE, &path, json!({})).await?.status, 204);
    assert_eq!(get(&origin, &third, &path).await?.status, 401);
    assert_eq!(get(&origin, MANAGEMENT_KEY, &path).await?.status, 404);
    assert_eq!(get(&origin, MANAGEMENT_KEY, "/v1/apikeys").await?.body["api_keys"], json!([]));
    origin.stop().await;
    Ok(())
}

/// A key that manages keys gains nothing by it.
#[tokio::test]
async fn a_key_makes_no_key_that_may_do_more_than_itself() -> Tested {
    let directory = tempfile::tempdir()?;
    let origin = TestOrigin::start(directory.path(), vec![]).await?;
    let (_, maker) = make_key(&origin, &["apikeys:write", "sessions:read"], Some("acme")).await?;
    let (strong, _) = make_key(&origin, &["sessions:read", "sessions:write"], Some("acme")).await?;
    let (elsewhere, _) = make_key(&origin, &["sessions:read"], Some("other")).await?;
    for (scopes, tenant, status) in [
        (json!(["sessions:read"]), json!("acme"), 201),
        (json!(["sessions:write"]), json!("acme"), 403),
        (json!(["sessions:read"]), json!("other"), 403),
        (json!(["sessions:read"]), Value::Null, 403),
    ] {
        let body = json!({ "name": "made", "scopes": scopes, "tenant": tenant });
        let made = post(&origin, &maker, "/v1/apikeys", body.clone()).await?;
        assert_eq!(made.status, status, "{body} {}", made.body);
        if status == 201 {
            let path = format!("/v1/apikeys/{}/rotate", made.text("id"));
            assert_eq!(post(&origin, &maker, &path, json!({})).await?.status, 200);
        }
    }
    for (id, status) in [(&strong, 403), (&elsewhere, 404)] {
        assert_eq!(post(&origin, &maker, &format!("/v1/apikeys/{id}/rotate"), json!({})).await?.status, status);
        let removed = call(&origin, &maker, Method::DELETE, &format!("/v1/apikeys/{id}"), json!({})).await?;
        assert_eq!(removed.status, status);
    }
    origin.stop().await;
    Ok(())
}

/// SES-15: a key of one tenant neither touches nor sees what is of another.
#[tokio::test]
async fn a_bound_key_stays_within_its_tenant() -> Tested {
    let directory = tempfile::tempdir()?;
    let origin = TestOrigin::start(directory.path(), vec![]).await?;
    let scopes = ["sessions:read", "sessions:write", "subjects:read", "subjects:write", "tenants:write", "introspect"];
    let (_, bound) = make_key(&origin, &scopes, Some("acme")).await?;
    let own = open(&origin, &bound, "alice", "acme").await?;
    assert_eq!(own.status, 201, "{}", own.body);
    assert_eq!(open(&origin, &bound, "bob", "other").await?.status, 403);
    let other = open(&origin, MANAGEMENT_KEY, "bob", "other").await?;

    for (opened, subject, tenant, allowed) in [(&other, "bob", "other", false), (&own, "alice", "acme", true)] {
        let sid = opened.text("session_id");
        let is_active = {
            let request = origin.request(Method::POST, "/oauth2/introspect").bearer_auth(&bound);
            let answer = request.form(&[("token", opened.text("access_token"))]).send().await?;
            Answer::read(answer).await?.body["active"] == true
        };
        assert_eq!(is_active, allowed);
        let status = if allowed { 200 } else { 404 };
        for (method, path) in [
            (Method::GET, format!("/v1/sessions/{sid}")),
            (Method::GET, format!("/v1/subjects/{subject}")),
            (Method::GET, format!("/v1/subjects/{subject}/sessions")),
            (Method::POST, format!("/v1/sessions/{sid}/revoke")),
            (Method::POST, format!("/v1/subjects/{subject}/revoke")),
            (Method::POST, format!("/v1/tenants/{tenant}/revoke")),
        ] {
            assert_eq!(call(&origin, &bound, method, &path, json!({})).await?.status, status, "{path}");
        }
    }
    assert!(origin.is_active(other.text("access_token")).await?, "nothing happened to it");
    assert!(!origin.is_active(own.text("access_token")).await?);
    origin.stop().await;
    Ok(())
}

#[tokio::test]
async fn every_act_is_in_the_trail_also_a_refused_one() -> Tested {
    let directory = tempfile::tempdir()?;
    let origin = TestOrigin::start(directory.path(), vec![]).await?;
    let opened = open(&origin, MANAGEMENT_KEY, "alice", "acme").await?;
    let (id, bound) = make_key(&origin, &["subjects:write", "audit:read"], Some("acme")).await?;
    let request = origin.request(Method::POST, "/v1/subjects/alice/revoke").bearer_auth(&bound);
    let revoked = Answer::read(request.header("Portcullis-Reason", "case 7").json(&json!({})).send().await?).await?;
    assert_eq!(revoked.status, 200);
    assert_eq!(get(&origin, &bound, "/v1/subjects/alice").await?.status, 403);
    assert_eq!(post(&origin, &bound, "/v1/sessions/AAAAAAAAAAAAAAAAAAAAAA/revoke", json!({})).await?.status, 403);
    assert_eq!(post(&origin, MANAGEMENT_KEY, "/v1/tenants/acme/revoke", json!({})).await?.status, 200);
    assert_eq!(post(&origin, MANAGEMENT_KEY, "/v1/tenants/other/revoke", json!({})).await?.status, 200);

    let trail = get(&origin, MANAGEMENT_KEY, "/v1/audit").await?;
    let acts: Vec<(&str, &str, u64)> = trail.body["entries"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|entry| {
            let text = |name: &str| entry[name].as_str().unwrap_or_default();
            (text("action"), text("target"), entry["status"].as_u64().unwrap_or_default())
        })
        .collect();
    let made = format!("api_key:{id}");
    let opened = format!("session:{}", opened.text("session_id"));
    let expected = [
        ("revoke_tenant", "tenant:other", 200),
        ("revoke_tenant", "tenant:acme", 200),
        ("revoke_session", "session:AAAAAAAAAAAAAAAAAAAAAA", 403),
        ("revoke_subject", "subject:alice", 200),
        ("create_api_key", made.as_str(), 201),
        ("open_session", opened.as_str(), 201),
    ];
    assert_eq!(acts, expected, "a read is no act");

    let found = get(&origin, MANAGEMENT_KEY, &format!("/v1/audit?actor={id}&action=revoke_subject")).await?;
    let entry = &found.body["entries"][0];
    assert_eq!((&entry["reason"], &entry["target"]), (&json!("case 7"), &json!("subject:alice")));
    assert_eq!(entry["request_id"], revoked.header("x-request-id"));
    let since = entry["at_ms"].as_u64().unwrap_or_default() / 1_000 + 3_600;
    let later = get(&origin, MANAGEMENT_KEY, &format!("/v1/audit?since={since}")).await?;
    assert_eq!(later.body, json!({ "entries": [], "next_cursor": null }));
    let seen = get(&origin, &bound, "/v1/audit").await?;
    let seen: Vec<&Value> = seen.body["entries"].as_array().into_iter().flatten().map(|e| &e["target"]).collect();
    let of_tenant = ["tenant:acme", "session:AAAAAAAAAAAAAAAAAAAAAA", "subject:alice", &made, &opened];
    assert_eq!(seen, of_tenant.map(Value::from).iter().collect::<Vec<_>>());
    origin.stop().await;
    Ok(())
}

/// What a key for all tenants, a user and an OAuth client do to a session says whose it was.
#[tokio::test]
async fn an_act_says_on_which_tenant_it_was() -> Tested {
    let directory = tempfile::tempdir()?;
    let origin = TestOrigin::start(directory.path(), vec![]).await?;
    let open = async |subject: &str| open(&origin, MANAGEMENT_KEY, subject, "acme").await;
    let (ended, left, signed_out, revoked) =
        (open("alice").await?, open("alice").await?, open("bob").await?, open("carol").await?);
    let path = |opened: &Answer| format!("/v1/sessions/{}", opened.text("session_id"));
    assert_eq!(post(&origin, MANAGEMENT_KEY, &format!("{}/revoke", path(&ended)), json!({})).await?.status, 200);
    assert_eq!(post(&origin, MANAGEMENT_KEY, "/v1/subjects/alice/disable", json!({})).await?.status, 200);
    assert_eq!(post(&origin, MANAGEMENT_KEY, "/v1/subjects/alice/enable", json!({})).await?.status, 200);
    let own = origin.request(Method::POST, "/v1/me/sign-out").bearer_auth(signed_out.text("access_token"));
    assert_eq!(own.send().await?.status(), 204);
    for token in [revoked.text("refresh_token"), "rt_unknown"] {
        let form = [("token", token), ("client_id", "web")];
        assert_eq!(origin.request(Method::POST, "/oauth2/revoke").form(&form).send().await?.status(), 200);
    }
    let made_up = post(&origin, MANAGEMENT_KEY, "/v1/subjects/nobody/revoke", json!({})).await?;
    assert_eq!(made_up.status, 404);

    let trail = get(&origin, MANAGEMENT_KEY, "/v1/audit").await?;
    let entries = trail.body["entries"].as_array().cloned().unwrap_or_default();
    let named = |name: &str| entries.iter().find(|entry| entry["action"] == name).unwrap_or(&Value::Null);
    for (action, actor, target, tenant) in [
        ("open_session", "bootstrap", format!("session:{}", revoked.text("session_id")), "acme"),
        ("revoke_session", "bootstrap", format!("session:{}", ended.text("session_id")), "acme"),
        ("disable_subject", "bootstrap", "subject:alice".to_owned(), "acme"),
        ("sign_out", "subject:bob", format!("session:{}", signed_out.text("session_id")), "acme"),
        ("revoke_token", "client:web", format!("session:{}", revoked.text("session_id")), "acme"),
    ] {
        let entry = named(action);
        assert_eq!((&entry["actor"], &entry["target"]), (&json!(actor), &json!(target)), "{action}");
        assert_eq!(entry["tenant"], tenant, "{action}");
    }
    assert_eq!(named("revoke_subject")["tenant"], Value::Null, "nobody is of no tenant");
    assert_eq!(
        entries.iter().filter(|entry| entry["action"] == "revoke_token").count(),
        1,
        "an unknown token is no act"
    );
    assert!(!trail.body.to_string().contains(left.text("access_token")), "I10");
    let (_, bound) = make_key(&origin, &["audit:read"], Some("acme")).await?;
    let seen = get(&origin, &bound, "/v1/audit?action=sign_out").await?;
    assert_eq!(seen.body["entries"].as_array().map(Vec::len), Some(1), "the tenant's own auditor sees it");
    origin.stop().await;
    Ok(())
}

/// The trail outlives the process, and its pages follow each other without gap or repeat.
#[tokio::test]
async fn the_trail_is_read_in_pages() -> Tested {
    const ACTS: usize = 70;
    let directory = tempfile::tempdir()?;
    let origin = TestOrigin::start(directory.path(), vec![]).await?;
    for number in 0..ACTS {
        post(&origin, MANAGEMENT_KEY, &format!("/v1/tenants/t{number}/revoke"), json!({})).await?;
    }
    let (mut seen, mut path) = (Vec::new(), "/v1/audit?limit=9".to_owned());
    loop {
        let page = get(&origin, MANAGEMENT_KEY, &path).await?;
        let targets = page.body["entries"].as_array().into_iter().flatten().map(|entry| entry["target"].clone());
        seen.extend(targets);
        match page.body["next_cursor"].as_str() {
            Some(cursor) => path = format!("/v1/audit?limit=9&cursor={cursor}"),
            None => break,
        }
    }
    let expected: Vec<Value> = (0..ACTS).rev().map(|number| json!(format!("tenant:t{number}"))).collect();
    assert_eq!(seen, expected);
    for wrong in ["limit=0", "limit=201", "cursor=x", "colour=red", "limit=1&limit=2"] {
        assert_eq!(get(&origin, MANAGEMENT_KEY, &format!("/v1/audit?{wrong}")).await?.status, 400, "{wrong}");
    }
    origin.stop().await;
    Ok(())
}

#[tokio::test]
async fn keys_are_listed_in_pages() -> Tested {
    let directory = tempfile::tempdir()?;
    let origin = TestOrigin::start(directory.path(), vec![]).await?;
    let mut made = Vec::new();
    for _ in 0..3 {
        made.push(make_key(&origin, &["introspect"], None).await?.0);
    }
    let first = get(&origin, MANAGEMENT_KEY, "/v1/apikeys?limit=2").await?;
    let cursor = first.text("next_cursor").to_owned();
    let second = get(&origin, MANAGEMENT_KEY, &format!("/v1/apikeys?limit=2&cursor={cursor}")).await?;
    assert_eq!(second.body["next_cursor"], Value::Null);
    let pages = [&first, &second].into_iter().flat_map(|page| page.body["api_keys"].as_array().into_iter().flatten());
    let mut seen: Vec<&str> = pages.filter_map(|key| key["id"].as_str()).collect();
    seen.sort_unstable();
    made.sort_unstable();
    assert_eq!(seen, made);
    origin.stop().await;
    Ok(())
}

/// I10: the answer is given again, tokens and all, and the store cannot read it.
#[tokio::test]
async fn the_same_request_gets_the_same_answer_once() -> Tested {
    let directory = tempfile::tempdir()?;
    let origin = TestOrigin::start(directory.path(), vec![]).await?;
    let (_, other_client) = make_key(&origin, &["sessions:write"], None).await?;
    let open = async |key: &str, idempotency: &str, subject: &str| -> anyhow::Result<Answer> {
        let request = origin.request(Method::POST, "/v1/sessions").bearer_auth(key);
        let request = request.header("Idempotency-Key", idempotency);
        Answer::read(request.json(&json!({ "subject": subject, "client_id": "web" })).send().await?).await
    };
    let first = open(MANAGEMENT_KEY, "\"k1\"", "alice").await?;
    let again = open(MANAGEMENT_KEY, "k1", "alice").await?;
    assert_eq!((first.status, again.status, &first.body), (201, 201, &again.body));
    assert_eq!((first.header("idempotency-replayed"), again.header("idempotency-replayed")), ("", "true"));
    assert_eq!(again.header("cache-control"), "no-store");
    let listed = get(&origin, MANAGEMENT_KEY, "/v1/subjects/alice/sessions").await?;
    assert_eq!(listed.body["sessions"].as_array().map(Vec::len), Some(1), "there was one effect");
    for name in ["access_token", "refresh_token"] {
        assert!(!store_holds(directory.path(), first.text(name))?, "{name}");
    }

    assert_eq!(open(MANAGEMENT_KEY, "k1", "bob").await?.status, 422);
    assert_eq!(open(MANAGEMENT_KEY, "k2", "alice").await?.status, 201);
    let elsewhere = open(&other_client, "k1", "alice").await?;
    assert_eq!((elsewhere.status, elsewhere.header("idempotency-replayed")), (201, ""), "keys are of a client");
    assert_eq!(open(MANAGEMENT_KEY, &"x".repeat(129), "alice").await?.status, 400);
    assert_eq!(open(MANAGEMENT_KEY, &"x".repeat(128), "alice").await?.status, 201);
    origin.stop().await;
    Ok(())
}

#[tokio::test]
async fn many_at_once_with_one_key_have_one_effect() -> Tested {
    let directory = tempfile::tempdir()?;
    let origin = TestOrigin::start(directory.path(), vec![]).await?;
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let request = origin.request(Method::POST, "/v1/sessions").bearer_auth(MANAGEMENT_KEY);
        let request = request.header("Idempotency-Key", "one").json(&json!({ "subject": "alice", "client_id": "web" }));
        running.spawn(request.send());
    }
    let (mut done, mut refused) = (Vec::new(), 0);
    while let Some(response) = running.join_next().await {
        let answer = Answer::read(response??).await?;
        match answer.status {
            201 => done.push(answer.text("session_id").to_owned()),
            409 => refused += 1,
            status => anyhow::bail!("{status} {}", answer.body),
        }
    }
    done.dedup();
    assert_eq!((done.len(), refused < 8), (1, true));
    let listed = get(&origin, MANAGEMENT_KEY, "/v1/subjects/alice/sessions").await?;
    assert_eq!(listed.body["sessions"].as_array().map(Vec::len), Some(1));
    origin.stop().await;
    Ok(())
}

/// RL-01, RL-02, RL-03: a client is told its limit, what is left, and why it is refused; another one is not.
#[tokio::test]
async fn a_client_over_its_limit_is_refused_and_another_is_not() -> Tested {
    let directory = tempfile::tempdir()?;
    let set = |config: &mut origin::config::Config| config.limits.client_requests_per_minute = 3;
    let origin = TestOrigin::start_with(directory.path(), set).await?;
    let (_, key) = make_key(&origin, &["apikeys:read"], None).await?;
    let (mut served, mut last) = (0, get(&origin, &key, "/v1/apikeys").await?);
    assert_eq!(member(last.header("ratelimit-policy"), "client"), [("q".to_owned(), 3), ("w".to_owned(), 60)]);
    let state = member(last.header("ratelimit"), "client");
    assert!(matches!(state.as_slice(), [(r, 2), (t, 1..=60)] if r == "r" && t == "t"), "{state:?}");
    while last.status == 200 && served < 10 {
        served += 1;
        last = get(&origin, &key, "/v1/apikeys").await?;
    }
    assert_eq!((last.status, served < 10), (429, true));
    assert_eq!(last.text("type"), "https://iana.org/assignments/http-problem-types#quota-exceeded");
    assert_eq!(last.body["violated-policies"], json!(["client"]));
    assert!(last.header("retry-after").parse::<u64>()? >= 1);
    assert_eq!(get(&origin, MANAGEMENT_KEY, "/v1/apikeys").await?.status, 200);
    origin.stop().await;
    Ok(())
}

/// The parameters of one member of a list of strings, by a parser of RFC 9651.
fn member(text: &str, name: &str) -> Vec<(String, i64)> {
    use sfv::{BareItem, List, ListEntry, Parser};
    let list: List = Parser::new(text).parse().unwrap_or_default();
    let item = list.into_iter().find_map(|entry| match entry {
        ListEntry::Item(item) if matches!(&item.bare_item, BareItem::String(text) if text.as_str() == name) => {
            Some(item)
        }
        _ => None,
    });
    let params = item.map(|item| item.params).unwrap_or_default();
    let number = |value: BareItem| value.as_integer().map_or(-1, i64::from);
    params.into_iter().map(|(name, value)| (name.to_string(), number(value))).collect()
}

/// RL-05: whoever tries credentials is stopped; RL-04: and is not told what others behind the address do.
#[tokio::test]
async fn guessing_is_throttled_by_address() -> Tested {
    let directory = tempfile::tempdir()?;
    let set = |config: &mut origin::config::Config| {
        config.limits.address_failures_per_minute = 5;
        config.server.client_address_header = "x-client".to_owned();
    };
    let origin = TestOrigin::start_with(directory.path(), set).await?;
    let guess = async |path: &str, address: &str| -> anyhow::Result<Answer> {
        let request = origin.request(Method::POST, path).header("x-client", format!("10.0.0.1, {address}"));
        let form = [("grant_type", "refresh_token"), ("refresh_token", "guess"), ("client_id", "web"), ("token", "x")];
        let request = if path.ends_with("introspect") { request.bearer_auth("pk_guess") } else { request };
        Answer::read(request.form(&form).send().await?).await
    };
    for (path, address, neighbour, status) in [
        ("/oauth2/token", "192.0.2.1", "192.0.2.2", 400),
        ("/oauth2/introspect", "2001:db8::1", "2001:db8:0:1::1", 401),
    ] {
        let mut tried = 0;
        let stopped = loop {
            let answer = guess(path, address).await?;
            tried += 1;
            if answer.status == 429 || tried == 20 {
                break answer;
            }
            assert_eq!(answer.status, status);
        };
        assert_eq!((stopped.status, stopped.text("error")), (429, "temporarily_unavailable"), "{tried} tries");
        assert!(!stopped.headers.contains_key("ratelimit") && stopped.headers.contains_key("retry-after"));
        assert_eq!(guess(path, neighbour).await?.status, status);
    }
    // The same IPv6 network of 64 bits is the same address.
    assert_eq!(guess("/oauth2/introspect", "2001:db8::2").await?.status, 429);
    origin.stop().await;
    Ok(())
}

/// REV-08: revocation answers 200 for any token, so an address is limited in how often it asks; another one is not.
#[tokio::test]
async fn scanning_by_revocation_is_throttled_by_address() -> Tested {
    let directory = tempfile::tempdir()?;
    let set = |config: &mut origin::config::Config| {
        config.limits.address_requests_per_minute = 5;
        config.server.client_address_header = "x-client".to_owned();
    };
    let origin = TestOrigin::start_with(directory.path(), set).await?;
    let scan = async |address: &str| -> anyhow::Result<Answer> {
        let request = origin.request(Method::POST, "/oauth2/revoke").header("x-client", address);
        Answer::read(request.form(&[("token", "guess"), ("client_id", "web")]).send().await?).await
    };
    let mut last = scan("192.0.2.1").await?;
    let first = last.status;
    for _ in 0..20 {
        last = scan("192.0.2.1").await?;
    }
    assert_eq!((first, last.status, last.text("error")), (200, 429, "temporarily_unavailable"), "{}", last.body);
    assert!(last.header("retry-after").parse::<u64>()? >= 1);
    assert_eq!(scan("192.0.2.2").await?.status, 200);
    origin.stop().await;
    Ok(())
}

/// PRB-01, PRB-03, HDR-02: whoever refuses, it is a problem, and says nothing of the inside.
#[tokio::test]
async fn every_refusal_is_a_problem() -> Tested {
    let directory = tempfile::tempdir()?;
    let origin = TestOrigin::start(directory.path(), vec![]).await?;
    let (_, reader) = make_key(&origin, &["sessions:read"], None).await?;
    let large = json!({ "subject": "x".repeat(70_000), "client_id": "web" });
    for (status, key, method, path, body) in [
        (404, MANAGEMENT_KEY, Method::GET, "/nowhere", Value::Null),
        (404, MANAGEMENT_KEY, Method::GET, "/docs/nowhere", Value::Null),
        (405, MANAGEMENT_KEY, Method::DELETE, "/v1/sessions", Value::Null),
        (404, MANAGEMENT_KEY, Method::GET, "/v1/sessions/nonsense", Value::Null),
        (404, MANAGEMENT_KEY, Method::GET, "/v1/apikeys/AAAAAAAAAAAAAAAAAAAAAA", Value::Null),
        (401, "wrong", Method::GET, "/v1/apikeys", Value::Null),
        (403, &reader, Method::POST, "/v1/sessions", json!({ "subject": "a", "client_id": "web" })),
        (400, MANAGEMENT_KEY, Method::POST, "/v1/sessions", json!({ "subject": 7 })),
        (413, MANAGEMENT_KEY, Method::POST, "/v1/sessions", large),
        (422, MANAGEMENT_KEY, Method::POST, "/v1/apikeys", json!({ "name": "", "scopes": ["introspect"] })),
        (422, MANAGEMENT_KEY, Method::POST, "/v1/apikeys", json!({ "name": "a", "scopes": [] })),
        (400, MANAGEMENT_KEY, Method::POST, "/v1/apikeys", json!({ "name": "a", "scopes": ["everything"] })),
        (400, MANAGEMENT_KEY, Method::GET, "/v1/audit?limit=x", Value::Null),
        (400, MANAGEMENT_KEY, Method::GET, "/feed/delta", Value::Null),
    ] {
        let answer = call(&origin, key, method, path, body).await?;
        assert_eq!((answer.status, &answer.body["status"]), (status, &json!(status)), "{path} {}", answer.body);
        assert_eq!(answer.header("content-type"), "application/problem+json", "{path}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert!(answer.text("type") == "about:blank" || answer.text("type").starts_with("https://"), "{path}");
        let named = answer.body.as_object().into_iter().flat_map(|body| body.keys());
        assert_eq!(named.collect::<Vec<_>>(), ["detail", "status", "title", "type"], "{path}");
    }
    let text = origin.request(Method::POST, "/v1/sessions").bearer_auth(MANAGEMENT_KEY).body("subject=a");
    let answer = Answer::read(text.send().await?).await?;
    assert_eq!((answer.status, answer.header("content-type")), (415, "application/problem+json"));
    origin.stop().await;
    Ok(())
}

/// The document is OpenAPI 3.1, and its page brings everything along: nothing comes from elsewhere.
#[tokio::test]
async fn the_document_and_its_page_are_served() -> Tested {
    let directory = tempfile::tempdir()?;
    let origin = TestOrigin::start(directory.path(), vec![]).await?;
    let document = Answer::read(origin.request(Method::GET, "/openapi.json").send().await?).await?;
    assert!(document.text("openapi").starts_with("3.1"), "{}", document.text("openapi"));
    let open = &document.body["paths"]["/v1/sessions"]["post"];
    assert_eq!(open["security"][0]["api_key"], json!(["sessions:write"]));
    assert!(open["parameters"].as_array().is_some_and(|all| all.iter().any(|p| p["name"] == "Idempotency-Key")));

    let page = origin.request(Method::GET, "/docs").send().await?;
    let policy = page.headers()["content-security-policy"].to_str()?.to_owned();
    assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self'"), "{policy}");
    let page = page.text().await?;
    let sources = page.split(['"', '\'']).filter(|part| part.ends_with(".js") || part.ends_with(".css"));
    let sources: Vec<&str> = sources.collect();
    assert!(sources.len() >= 3 && !page.contains("<script>") && !page.contains("<style"), "{page}");
    for source in sources {
        let path = format!("/docs/{}", source.trim_start_matches("./"));
        let part = origin.request(Method::GET, &path).send().await?;
        assert_eq!(part.status().as_u16(), 200, "{source}");
        if source.contains("initializer") {
            assert!(part.text().await?.contains("/openapi.json"));
        }
    }
    let sessions = origin.request(Method::GET, "/v1/apikeys").send().await?;
    let policy = sessions.headers()["content-security-policy"].to_str()?;
    assert!(policy.starts_with("default-src 'none'; frame-ancestors"), "{policy}");
    origin.stop().await;
    Ok(())
}
