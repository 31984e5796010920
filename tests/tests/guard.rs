//! The guard before a service, with a real origin and gate: the gate's decision without the gate.

use std::time::{SystemTime, UNIX_EPOCH};

use base64ct::{Base64UrlUnpadded, Encoding as _};
use guard::{Accepts, AssertionKey, Claims};
use portcullis_tests::{ASSERTION_KEY, GatePlace, GateSettings, Opened, POLICY, TestGuarded, TestOrigin, eventually};
use reqwest::{Method, Response};
use serde_json::{Value, json};
use shared::{
    assertion::{Asserted, Forwarded, Parties},
    time::Timestamp,
};

type Tested = anyhow::Result<()>;

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

fn claims(token: &str) -> anyhow::Result<Claims> {
    let part = token.split('.').nth(1).unwrap_or_default();
    let part = Base64UrlUnpadded::decode_vec(part).map_err(|error| anyhow::anyhow!("{error}"))?;
    Ok(serde_json::from_slice(&part)?)
}

/// An assertion on `GET` of this path, as the gate would make it at this time.
fn asserted(origin: &TestOrigin, path: &str, opened: Option<&Opened>, at: Timestamp) -> anyhow::Result<String> {
    let asserted = match opened {
        Some(opened) => Asserted::of(&claims(&opened.access)?),
        None => Asserted::default(),
    };
    let parties = Parties { issuer: origin.issuer(), upstream: "app" };
    let request = Forwarded { method: "GET", path, query: "" };
    let made = AssertionKey::from_hex(ASSERTION_KEY)?.assert(parties, request, "app.example", &asserted, at);
    made.ok_or_else(|| anyhow::anyhow!("too long"))
}

async fn open(origin: &TestOrigin, body: Value) -> anyhow::Result<Opened> {
    let (status, opened) = origin.manage(Method::POST, "/v1/sessions", body).await?;
    anyhow::ensure!(status == 201, "{status} {opened}");
    let text = |name: &str| opened[name].as_str().unwrap_or_default().to_owned();
    Ok(Opened { access: text("access_token"), refresh: text("refresh_token"), session: text("session_id") })
}

async fn open_member(origin: &TestOrigin, subject: &str) -> anyhow::Result<Opened> {
    open(origin, json!({ "subject": subject, "client_id": "web", "roles": ["member"], "scope": "read" })).await
}

/// BRR-10, BRR-11: through the gate a request arrives as who it is from; past the gate nothing arrives, whatever it carries.
#[tokio::test]
async fn nobody_but_the_gate_reaches_a_guarded_service() -> Tested {
    let directory = tempfile::tempdir()?;
    let place = GatePlace::new(POLICY)?;
    let hub = place.hub();
    let origin = TestOrigin::start_with(directory.path(), |config| config.hubs = vec![hub]).await?;
    let service = TestGuarded::start(&origin, Accepts::Assertions(TestGuarded::gate()?)).await?;
    let settings = GateSettings::of(&origin).with_upstream("app", service.address());
    let gate = place.start(settings.with("ASSERTION_KEYS", &json!({ "app": ASSERTION_KEY }).to_string())).await?;
    gate.ready().await?;
    service.guard().ready().await;
    let alice = open_member(&origin, "alice").await?;
    let forged = |request: reqwest::RequestBuilder| {
        request.header("portcullis-subject", "mallory").header("portcullis_roles", "admin")
    };

    for (method, path) in [(Method::GET, "/app/x?y=%2F'"), (Method::POST, "/app/x"), (Method::DELETE, "/app/")] {
        let answer = forged(gate.request(method, path).bearer_auth(&alice.access)).send().await?;
        assert_eq!(answer.status(), 200, "{path}");
        let seen: Value = answer.json().await?;
        assert_eq!((&seen["subject"], &seen["shown_by"]), (&json!("alice"), &json!("Assertion")));
        assert_eq!(seen["headers"]["portcullis-subject"], "alice");
        assert_eq!(seen["headers"]["portcullis-session"], json!(alice.session));
        assert_eq!(seen["headers"]["portcullis_roles"], Value::Null);
    }
    let anonymous: Value = forged(gate.request(Method::GET, "/public/x")).send().await?.json().await?;
    assert_eq!(anonymous, json!({ "subject": null, "shown_by": null, "headers": {} }));

    for path in ["/app/x", "/public/x"] {
        let past = forged(service.request(Method::GET, path).bearer_auth(&alice.access)).send().await?;
        assert_eq!((past.status().as_u16(), header(&past, "www-authenticate").is_empty()), (401, false), "BRR-01");
        assert_eq!(header(&past, "content-type"), "application/problem+json");
        assert_eq!(header(&past, "cache-control"), "no-store");
    }
    origin.stop().await;
    Ok(())
}

/// BRR-11: an assertion counts for its request, its subject and its time; each refusal is beside what passes.
#[tokio::test]
async fn an_assertion_counts_for_its_request_only() -> Tested {
    let directory = tempfile::tempdir()?;
    let origin = TestOrigin::start(directory.path(), vec![]).await?;
    let service = TestGuarded::start(&origin, Accepts::Either(TestGuarded::gate()?)).await?;
    service.guard().ready().await;
    let alice = open_member(&origin, "alice").await?;
    let good = asserted(&origin, "/app/x", Some(&alice), now())?;
    let with = async |method: Method, path: &str, assertions: &[&str], more: &[(&str, &str)]| {
        let mut request = service.request(method, path);
        for assertion in assertions {
            request = request.header("portcullis-assertion", *assertion);
        }
        for (name, value) in more {
            request = request.header(*name, *value);
        }
        anyhow::Ok(request.send().await?.status().as_u16())
    };
    assert_eq!(with(Method::GET, "/app/x", &[&good], &[]).await?, 200);
    assert_eq!(with(Method::GET, "/app/x", &[&good], &[("portcullis-subject", "alice")]).await?, 200);
    assert_eq!(with(Method::GET, "/app/x", &[&good], &[("portcullis-subject", "mallory")]).await?, 401);
    assert_eq!(with(Method::GET, "/app/x", &[&good], &[("portcullis-tenant", "acme")]).await?, 401);
    for (method, path) in [(Method::POST, "/app/x"), (Method::GET, "/app/y"), (Method::GET, "/app/x?a")] {
        assert_eq!(with(method, path, &[&good], &[]).await?, 401, "{path}");
    }
    assert_eq!(with(Method::GET, "/app/x", &[&good, &good], &[]).await?, 401, "one, and no other");
    let old = Timestamp::from_secs(now().as_secs() - 31);
    assert_eq!(with(Method::GET, "/app/x", &[&asserted(&origin, "/app/x", Some(&alice), old)?], &[]).await?, 401);
    let (signed, signature) = good.rsplit_once('.').unwrap_or_default();
    let other = if signature.starts_with('A') { "B" } else { "A" };
    let tampered = format!("{signed}.{other}{}", &signature[1..]);
    assert_eq!(with(Method::GET, "/app/x", &[&tampered], &[]).await?, 401);
    let bearer = format!("Bearer {}", alice.access);
    assert_eq!(with(Method::GET, "/app/x", &[&tampered], &[("authorization", &bearer)]).await?, 401, "no second try");
    assert_eq!(with(Method::GET, "/app/x", &[], &[("authorization", &bearer)]).await?, 200);
    assert_eq!(with(Method::GET, "/app/x", &[&alice.access], &[]).await?, 401, "TOK-18");

    // Nobody's assertion opens only what is open to everyone; the policy of the service counts beside that of the gate.
    let nobody = |path: &str| asserted(&origin, path, None, now());
    assert_eq!(with(Method::GET, "/app/x", &[&nobody("/app/x")?], &[]).await?, 401);
    assert_eq!(with(Method::GET, "/public/x", &[&nobody("/public/x")?], &[]).await?, 200);
    let admin = asserted(&origin, "/app/admin/x", Some(&alice), now())?;
    assert_eq!(with(Method::GET, "/app/admin/x", &[&admin], &[]).await?, 403);
    let path = format!("/v1/sessions/{}/revoke", alice.session);
    assert_eq!(origin.manage(Method::POST, &path, json!({})).await?.0, 200);
    eventually("the refusal", async || {
        let fresh = asserted(&origin, "/app/x", Some(&alice), now()).ok()?;
        (with(Method::GET, "/app/x", &[&fresh], &[]).await.ok()? == 401).then_some(())
    })
    .await?;
    let bob = open_member(&origin, "bob").await?;
    assert_eq!(with(Method::GET, "/app/x", &[&asserted(&origin, "/app/x", Some(&bob), now())?], &[]).await?, 200);
    origin.stop().await;
    Ok(())
}

/// BRR-01 to BRR-05, COO-11, CSR-01: the same as at the gate, by the same rules.
#[tokio::test]
async fn an_access_token_counts_as_at_the_gate() -> Tested {
    let directory = tempfile::tempdir()?;
    let origin = TestOrigin::start(directory.path(), vec![]).await?;
    let service = TestGuarded::start(&origin, Accepts::Tokens).await?;
    service.guard().ready().await;
    let member = open_member(&origin, "alice").await?;
    let admin = json!({ "subject": "root", "client_id": "web", "roles": ["admin"], "scope": "write", "acr": "phr" });
    let admin = open(&origin, admin).await?;

    let answer = service.request(Method::GET, "/app/x").bearer_auth(&member.access).send().await?;
    let seen: Value = answer.json().await?;
    assert_eq!((&seen["subject"], &seen["shown_by"]), (&json!("alice"), &json!("Token")));
    for (path, error) in [
        ("/app/admin/x", r#"error="insufficient_scope""#),
        ("/app/scoped", r#"error="insufficient_scope", scope="write""#),
        ("/app/recent", r#"error="insufficient_user_authentication", acr_values="phr", max_age="300""#),
    ] {
        let refused = service.request(Method::GET, path).bearer_auth(&member.access).send().await?;
        assert!(header(&refused, "www-authenticate").ends_with(error), "{path} {refused:?}");
        assert_eq!(service.status_of(path, &admin.access).await?, 200, "{path}");
    }
    let none = service.request(Method::GET, "/app/x").send().await?;
    assert_eq!((none.status().as_u16(), header(&none, "www-authenticate")), (401, r#"Bearer realm="portcullis""#));
    assert_eq!(service.status_of("/app/x", "a.b.c").await?, 401);
    let forged = asserted(&origin, "/app/x", Some(&member), now())?;
    let forged = service.request(Method::GET, "/app/x").header("portcullis-assertion", forged).send().await?;
    assert_eq!(forged.status(), 401, "no gate speaks to this service");

    let cookie = member.cookies();
    let ask = |method: Method, headers: &[(&str, &str)]| {
        let mut request = service.request(method, "/app/x");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send()
    };
    let bearer = format!("Bearer {}", member.access);
    assert_eq!(ask(Method::GET, &[("cookie", &cookie)]).await?.status(), 200);
    assert_eq!(ask(Method::GET, &[("cookie", &cookie), ("cookie", &cookie)]).await?.status(), 400);
    assert_eq!(ask(Method::GET, &[("cookie", &cookie), ("authorization", &bearer)]).await?.status(), 400);
    assert_eq!(ask(Method::POST, &[("cookie", &cookie), ("origin", "http://evil.example")]).await?.status(), 403);
    assert_eq!(ask(Method::POST, &[("cookie", &cookie), ("origin", service.address())]).await?.status(), 200);
    // A WebSocket begins with a GET.
    let handshake = ("upgrade", "websocket");
    let from_elsewhere = [("cookie", &*cookie), ("origin", "http://evil.example"), handshake];
    assert_eq!(ask(Method::GET, &from_elsewhere).await?.status(), 403);
    assert_eq!(ask(Method::GET, &from_elsewhere[..2]).await?.status(), 200);
    assert_eq!(ask(Method::GET, &[from_elsewhere[0], ("origin", service.address()), handshake]).await?.status(), 200);
    assert_eq!(service.status_of("/app/%61", &member.access).await?, 400);
    assert_eq!(service.status_of("/app//x", &member.access).await?, 400);
    assert_eq!(service.status_of("/nowhere", &member.access).await?, 404);
    let method = service.request(Method::DELETE, "/read-only").bearer_auth(&member.access).send().await?;
    assert_eq!((method.status().as_u16(), header(&method, "allow")), (405, "GET, HEAD"));
    origin.stop().await;
    Ok(())
}

/// I1, I7, TOK-23, TOK-24: what is revoked is refused; without an origin a route goes on until its bound and then says so, or
/// goes on if it was told to; with the origin back everything recovers by itself. Before the first sync nothing is known.
#[tokio::test]
async fn the_guard_follows_the_origin_and_outlives_it() -> Tested {
    let directory = tempfile::tempdir()?;
    let origin = TestOrigin::start(directory.path(), vec![]).await?;
    let service = TestGuarded::start(&origin, Accepts::Tokens).await?;
    service.guard().ready().await;
    let (ended, kept) = (open_member(&origin, "dora").await?, open_member(&origin, "dora").await?);
    for opened in [&ended, &kept] {
        assert_eq!(service.status_of("/app/x", &opened.access).await?, 200);
    }
    let path = format!("/v1/sessions/{}/revoke", ended.session);
    assert_eq!(origin.manage(Method::POST, &path, json!({})).await?.0, 200);
    let is =
        async |path: &str, token: &str, status| (service.status_of(path, token).await.ok()? == status).then_some(());
    eventually("the refusal", async || is("/app/x", &ended.access, 401).await).await?;
    assert_eq!(service.status_of("/relaxed/x", &ended.access).await?, 401, "a known end denies everywhere");

    // A route that has the origin asked knows at once.
    let third = open_member(&origin, "dora").await?;
    assert_eq!(service.status_of("/authoritative/x", &third.access).await?, 200);
    let path = format!("/v1/sessions/{}/revoke", third.session);
    assert_eq!(origin.manage(Method::POST, &path, json!({})).await?.0, 200);
    assert_eq!(service.status_of("/authoritative/x", &third.access).await?, 401);

    let stopped = origin.stop().await;
    assert_eq!(service.status_of("/authoritative/x", &kept.access).await?, 503, "nobody to ask");
    eventually("the bound", async || is("/app/x", &kept.access, 503).await).await?;
    let refused = service.request(Method::GET, "/app/x").bearer_auth(&kept.access).send().await?;
    assert_eq!((refused.status().as_u16(), header(&refused, "retry-after")), (503, "1"));
    assert_eq!(service.status_of("/asking/x", &kept.access).await?, 503, "nobody can be asked");
    assert_eq!(service.status_of("/relaxed/x", &kept.access).await?, 200);
    assert_eq!(service.status_of("/relaxed/x", &ended.access).await?, 401);
    assert_eq!(service.status_of("/app/x", "a.b.c").await?, 401);
    assert_eq!(service.request(Method::GET, "/public/x").send().await?.status(), 200);

    let origin = TestOrigin::start_again(stopped).await?;
    for path in ["/app/x", "/asking/x"] {
        eventually("the recovery", async || is(path, &kept.access, 200).await).await?;
    }
    let late = TestGuarded::start(&origin, Accepts::Tokens).await?;
    late.guard().ready().await;
    assert_eq!(late.status_of("/app/x", &ended.access).await?, 401, "who comes late learns what was before");
    let mut elsewhere = TestGuarded::settings(&origin, Accepts::Tokens)?;
    elsewhere.origin = "http://127.0.0.1:1".parse()?;
    let blind = TestGuarded::start_with(elsewhere).await?;
    assert_eq!(blind.status_of("/app/x", &kept.access).await?, 503, "to know nothing is not that nothing was revoked");
    assert!(!blind.guard().is_ready());
    origin.stop().await;
    Ok(())
}
