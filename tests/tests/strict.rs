//! What the origin takes for a session, a credential or an id, and what it keeps of them: nothing that was made up, and
//! nothing that could be used again.

use portcullis_tests::{TestOrigin, TestRedis};
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};

type Tested = anyhow::Result<()>;

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}

async fn on_redis(redis: &TestRedis) -> anyhow::Result<TestOrigin> {
    let directory = tempfile::tempdir()?;
    TestOrigin::start_with(directory.path(), |config| config.store.url = redis.url().into()).await
}

async fn open(origin: &TestOrigin) -> anyhow::Result<Value> {
    let body = json!({ "subject": "alice", "client_id": "web", "amr": ["pwd"] });
    let (status, opened) = origin.manage(Method::POST, "/v1/sessions", body).await?;
    assert_eq!(status, 201, "{opened}");
    Ok(opened)
}

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// SES-16, I10: what lies on the disk names the session, and holds no token and no part that authenticates one.
#[tokio::test]
async fn the_store_holds_no_credential() -> Tested {
    use base64ct::{Base64UrlUnpadded, Encoding as _};
    let redis = TestRedis::start().await?;
    let origin = on_redis(&redis).await?;
    let opened = open(&origin).await?;
    let (status, renewed) = origin.refresh(text(&opened, "refresh_token"), "web").await?;
    assert_eq!(status, 200);
    let on_disk = redis.written()?;
    assert!(contains(&on_disk, text(&opened, "session_id").as_bytes()), "this is where records lie");
    for tokens in [&opened, &renewed] {
        let (access, refresh) = (text(tokens, "access_token"), text(tokens, "refresh_token"));
        let signature = access.rsplit('.').next().unwrap_or_default();
        let decoded = Base64UrlUnpadded::decode_vec(refresh.trim_start_matches("rt_"))?;
        let mac = decoded.get(decoded.len() - 32..).unwrap_or_default();
        for secret in [access.as_bytes(), signature.as_bytes(), refresh.as_bytes(), mac] {
            assert!(secret.len() >= 32 && !contains(&on_disk, secret));
        }
    }
    origin.stop().await;
    Ok(())
}

/// SES-03, SES-04: an id or token that was made up is never adopted, and a malformed one harms nobody.
#[tokio::test]
async fn a_made_up_session_is_never_adopted() -> Tested {
    let redis = TestRedis::start().await?;
    let origin = on_redis(&redis).await?;
    let made_up = "AAAAAAAAAAAAAAAAAAAAAA";
    let token = format!("rt_{}", "A".repeat(70));
    for _ in 0..2 {
        assert_eq!(origin.refresh(&token, "web").await?.0, 400);
        assert_eq!(origin.manage(Method::GET, &format!("/v1/sessions/{made_up}"), json!({})).await?.0, 404);
        for (method, rest, body) in [
            (Method::POST, "revoke", json!({})),
            (Method::POST, "step-up", json!({ "amr": ["pwd"] })),
            (Method::PUT, "scope", json!({ "scope": "read" })),
        ] {
            let (status, answer) = origin.manage(method, &format!("/v1/sessions/{made_up}/{rest}"), body).await?;
            assert_eq!(status, 404, "{rest} {answer}");
        }
    }
    let long = "A".repeat(8_192);
    for id in ["%00", "*1%0D%0A$8%0D%0AFLUSHALL%0D%0A", "%C3%A9%C3%A9", "..%2F..%2Fx", "AAAAAAAAAAAAAAAAAAAAAB", &long]
    {
        let status = origin.managed(Method::GET, &format!("/v1/sessions/{id}")).send().await?.status();
        assert!(status.is_client_error(), "{id}: {status}");
        let status = origin.refresh(id, "web").await?.0;
        assert_eq!(status, 400, "{id}");
    }
    let opened = open(&origin).await?;
    assert_eq!(origin.refresh(text(&opened, "refresh_token"), "web").await?.0, 200, "the store is as it was");
    origin.stop().await;
    Ok(())
}

/// SES-13: a session is what its authentication was, whatever is done with it but a step-up.
#[tokio::test]
async fn a_session_never_says_more_than_its_authentication() -> Tested {
    use base64ct::{Base64UrlUnpadded, Encoding as _};
    let directory = tempfile::tempdir()?;
    let origin = TestOrigin::start(directory.path(), vec![]).await?;
    let opened = open(&origin).await?;
    let path = format!("/v1/sessions/{}/scope", text(&opened, "session_id"));
    assert_eq!(origin.manage(Method::PUT, &path, json!({ "scope": "admin" })).await?.0, 200);
    let roles = json!({ "roles": ["admin"] });
    assert_eq!(origin.manage(Method::PUT, "/v1/subjects/alice/roles", roles).await?.0, 200);
    let (_, renewed) = origin.refresh(text(&opened, "refresh_token"), "web").await?;
    let payload = text(&renewed, "access_token").split('.').nth(1).unwrap_or_default();
    let claims: Value = serde_json::from_slice(&Base64UrlUnpadded::decode_vec(payload)?)?;
    assert_eq!((&claims["acr"], &claims["amr"]), (&Value::Null, &json!(["pwd"])));
    assert_eq!((&claims["scope"], &claims["roles"]), (&json!("admin"), &json!(["admin"])));
    origin.stop().await;
    Ok(())
}

/// BRR-01 to BRR-03, BRR-05 to BRR-08, BRR-13, BRR-14 at the management API.
#[tokio::test]
async fn calls_need_one_credential_in_one_place() -> Tested {
    let directory = tempfile::tempdir()?;
    let origin = TestOrigin::start(directory.path(), vec![]).await?;
    let path = "/v1/subjects/alice";
    let none = origin.request(Method::GET, path).send().await?;
    assert_eq!(
        (none.status(), header(&none, "www-authenticate")),
        (StatusCode::UNAUTHORIZED, "Bearer realm=\"portcullis\"")
    );
    let mut bodies = Vec::new();
    for wrong in ["wrong", "\"quoted\", error=\"x\"", &"k".repeat(2_000)] {
        let refused =
            origin.request(Method::GET, path).header("authorization", format!("Bearer {wrong}")).send().await?;
        assert_eq!(refused.status(), StatusCode::UNAUTHORIZED, "BRR-03");
        let challenge = header(&refused, "www-authenticate").to_owned();
        assert_eq!(challenge, "Bearer realm=\"portcullis\", error=\"invalid_token\"", "BRR-03, BRR-07");
        bodies.push(refused.text().await?);
    }
    assert!(bodies.windows(2).all(|pair| pair[0] == pair[1]), "BRR-08: {bodies:?}");
    let twice = origin.managed(Method::GET, path).header("authorization", "Bearer other").send().await?;
    assert_eq!(twice.status(), StatusCode::BAD_REQUEST, "BRR-05");
    let query = origin.request(Method::GET, &format!("{path}?access_token=management-key-of-a-test")).send().await?;
    assert_eq!(query.status(), StatusCode::UNAUTHORIZED, "BRR-06");
    let method = origin.managed(Method::DELETE, path).send().await?;
    assert_eq!((method.status(), header(&method, "allow").contains("GET")), (StatusCode::METHOD_NOT_ALLOWED, true));
    for (response, media) in [
        (origin.managed(Method::GET, path).send().await?, "application/problem+json"),
        (origin.managed(Method::GET, "/v1/subjects/alice/sessions").send().await?, "application/json"),
        (origin.request(Method::GET, "/metrics").send().await?, "text/plain; version=0.0.4; charset=utf-8"),
    ] {
        assert_eq!(header(&response, "content-type"), media, "BRR-14");
    }
    open(&origin).await?;
    assert_eq!(origin.managed(Method::GET, path).send().await?.status(), StatusCode::OK, "the twin that passes");
    origin.stop().await;
    Ok(())
}

/// Integers may have a fraction of zero and a cursor may be of a list that changed; an array is no object, though a library
/// would read it as one, and a reason has no tab.
#[tokio::test]
async fn bodies_and_headers_are_what_the_document_says() -> Tested {
    let directory = tempfile::tempdir()?;
    let origin = TestOrigin::start(directory.path(), vec![]).await?;
    let opening = |more: Value| {
        let mut body = json!({ "subject": "alice", "client_id": "web" });
        body.as_object_mut().into_iter().for_each(|body| body.extend(more.as_object().cloned().unwrap_or_default()));
        body
    };
    let key = |life: f64| json!({ "name": "a", "scopes": ["introspect"], "expires_in_s": life });
    for (path, body, status) in [
        ("/v1/apikeys", key(3_595.0), 201),
        ("/v1/apikeys", key(3_595.5), 400),
        ("/v1/sessions", opening(json!({ "device": { "name": "phone" } })), 201),
        ("/v1/sessions", opening(json!({ "device": ["phone", null] })), 400),
        ("/v1/sessions", opening(json!({ "scope": "x".repeat(512) })), 201),
        ("/v1/sessions", opening(json!({ "scope": "x".repeat(513) })), 422),
        ("/v1/sessions", opening(json!({ "acr": "x".repeat(65) })), 422),
        ("/v1/subjects/alice/revoke", json!({ "except": null }), 200),
        ("/v1/subjects/alice/revoke", json!([null]), 400),
    ] {
        let (found, answer) = origin.manage(Method::POST, path, body.clone()).await?;
        assert_eq!(found, status, "{body} {answer}");
    }
    let of_another_list = "AAABmqCz4AB61vvSpwBpn-9PTjD8PLSM";
    for (cursor, status) in [(of_another_list, 200), ("x", 400), (&of_another_list[1..], 400)] {
        let path = format!("/v1/apikeys?cursor={cursor}");
        assert_eq!(origin.managed(Method::GET, &path).send().await?.status(), status, "{cursor}");
    }
    for (since, status) in [("253402300799", 200), ("253402300800", 400)] {
        let path = format!("/v1/audit?since={since}");
        assert_eq!(origin.managed(Method::GET, &path).send().await?.status(), status, "{since}");
    }
    for (reason, status) in [("ticket 7", 200), ("ticket\t7", 400)] {
        let request = origin.managed(Method::POST, "/v1/subjects/alice/revoke").header("Portcullis-Reason", reason);
        assert_eq!(request.send().await?.status(), status, "{reason}");
    }
    origin.stop().await;
    Ok(())
}
