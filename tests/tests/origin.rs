//! The origin over HTTP: the life of a session, and what a hub hears of it.

use origin::{
    config::{Store, StoreUrl},
    keys::Verifier,
    store::{AnyStore, Key},
};
use portcullis_tests::{TestHub, TestOrigin, eventually, feed_key};
use reqwest::Method;
use serde_json::{Value, json};
use shared::token::{AccessToken, Expected};

type Tested = anyhow::Result<()>;

const EXPECTED: Expected<'_> = Expected { issuer: "http://127.0.0.1:8780", audience: "portcullis" };

async fn open(origin: &TestOrigin, subject: &str) -> anyhow::Result<Value> {
    let body =
        json!({ "subject": subject, "client_id": "web", "roles": ["member"], "scope": "read write", "tenant": "acme" });
    let (status, opened) = origin.manage(Method::POST, "/v1/sessions", body).await?;
    assert_eq!(status, 201, "{opened}");
    Ok(opened)
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}

/// REF-01 to REF-06: rotation, the same answer to a repeat, the end at reuse.
#[tokio::test]
async fn a_session_is_opened_refreshed_and_ended_by_reuse() -> Tested {
    let directory = tempfile::tempdir()?;
    let origin = TestOrigin::start(directory.path(), vec![]).await?;
    let opened = open(&origin, "alice").await?;
    assert!(origin.is_active(text(&opened, "access_token")).await?);

    let (status, second) = origin.refresh(text(&opened, "refresh_token"), "web").await?;
    assert_eq!(status, 200, "{second}");
    let (status, repeated) = origin.refresh(text(&opened, "refresh_token"), "web").await?;
    assert_eq!((status, &repeated["refresh_token"]), (200, &second["refresh_token"]));
    let (status, refused) = origin.refresh(text(&second, "refresh_token"), "other").await?;
    assert_eq!((status, text(&refused, "error")), (400, "invalid_grant"));

    let (status, third) = origin.refresh(text(&second, "refresh_token"), "web").await?;
    assert_eq!(status, 200);
    assert!(origin.is_active(text(&third, "access_token")).await?);
    let (status, reused) = origin.refresh(text(&opened, "refresh_token"), "web").await?;
    assert_eq!((status, text(&reused, "error")), (400, "invalid_grant"));
    assert!(!origin.is_active(text(&third, "access_token")).await?);
    assert_eq!(origin.refresh(text(&third, "refresh_token"), "web").await?.0, 400);
    let path = format!("/v1/sessions/{}", text(&opened, "session_id"));
    let (_, shown) = origin.manage(Method::GET, &path, json!({})).await?;
    assert_eq!((text(&shown, "state"), text(&shown, "reason")), ("ended", "token_reuse"));
    origin.stop().await;
    Ok(())
}

#[tokio::test]
async fn roles_change_and_everyone_signs_out() -> Tested {
    let directory = tempfile::tempdir()?;
    let origin = TestOrigin::start(directory.path(), vec![]).await?;
    let (phone, laptop) = (open(&origin, "bob").await?, open(&origin, "bob").await?);

    let (status, changed) = origin.manage(Method::PUT, "/v1/subjects/bob/roles", json!({ "roles": ["admin"] })).await?;
    assert_eq!((status, &changed["floors"]), (200, &json!([{ "scope": "subject", "version": 2 }])));
    assert!(!origin.is_active(text(&phone, "access_token")).await?);
    let (_, renewed) = origin.refresh(text(&phone, "refresh_token"), "web").await?;
    assert!(origin.is_active(text(&renewed, "access_token")).await?);

    let (_, listed) = origin.manage(Method::GET, "/v1/subjects/bob/sessions", json!({})).await?;
    assert_eq!(listed["sessions"].as_array().map(Vec::len), Some(2));
    assert_eq!(origin.manage(Method::POST, "/v1/subjects/bob/revoke", json!({})).await?.0, 200);
    assert!(!origin.is_active(text(&renewed, "access_token")).await?);
    for device in [&renewed, &laptop] {
        assert_eq!(origin.refresh(text(device, "refresh_token"), "web").await?.0, 400);
    }
    let (_, listed) = origin.manage(Method::GET, "/v1/subjects/bob/sessions", json!({})).await?;
    assert_eq!(listed, json!({ "sessions": [], "next_cursor": null }));
    assert!(origin.is_active(text(&open(&origin, "bob").await?, "access_token")).await?);
    origin.stop().await;
    Ok(())
}

/// SES-06, SES-08.
/// SES-06, SES-15: the sessions of a subject, and of a tenant, die with it; a tenant has no place in another's sessions.
#[tokio::test]
async fn a_subject_is_disabled_and_a_tenant_is_ended() -> Tested {
    let directory = tempfile::tempdir()?;
    let origin = TestOrigin::start(directory.path(), vec![]).await?;
    let carol = open(&origin, "carol").await?;
    assert_eq!(origin.manage(Method::POST, "/v1/subjects/carol/disable", json!({})).await?.0, 200);
    assert!(!origin.is_active(text(&carol, "access_token")).await?);
    let body = json!({ "subject": "carol", "client_id": "web", "tenant": "acme" });
    assert_eq!(origin.manage(Method::POST, "/v1/sessions", body.clone()).await?.0, 403);
    assert_eq!(origin.manage(Method::POST, "/v1/subjects/carol/enable", json!({})).await?.0, 200);
    assert_eq!(origin.manage(Method::POST, "/v1/sessions", body).await?.0, 201);

    let dora = open(&origin, "dora").await?;
    assert_eq!(origin.manage(Method::POST, "/v1/tenants/acme/revoke", json!({})).await?.0, 200);
    assert!(!origin.is_active(text(&dora, "access_token")).await?);
    assert_eq!(origin.refresh(text(&dora, "refresh_token"), "web").await?.0, 400);
    assert!(origin.is_active(text(&open(&origin, "dora").await?, "access_token")).await?);
    let other = json!({ "subject": "dora", "client_id": "web", "tenant": "other" });
    assert_eq!(origin.manage(Method::POST, "/v1/sessions", other).await?.0, 409);
    origin.stop().await;
    Ok(())
}

/// What the process before acknowledged, the next one knows (I2, I4).
#[tokio::test]
async fn a_restart_forgets_nothing() -> Tested {
    let directory = tempfile::tempdir()?;
    let origin = TestOrigin::start(directory.path(), vec![]).await?;
    let (kept, ended) = (open(&origin, "erin").await?, open(&origin, "erin").await?);
    let path = format!("/v1/sessions/{}/revoke", text(&ended, "session_id"));
    let (status, changed) = origin.manage(Method::POST, &path, json!({ "reason": "signed_out" })).await?;
    assert_eq!((status, text(&changed["floors"][0], "scope")), (200, "session"));
    let (status, again) = origin.manage(Method::POST, &path, json!({})).await?;
    assert_eq!((status, &again["floors"]), (200, &changed["floors"]));
    origin.stop().await;

    let origin =
        eventually("the lock of the file", async || TestOrigin::start(directory.path(), vec![]).await.ok()).await?;
    assert!(origin.is_active(text(&kept, "access_token")).await?);
    assert!(!origin.is_active(text(&ended, "access_token")).await?);
    assert_eq!(origin.refresh(text(&kept, "refresh_token"), "web").await?.0, 200);
    assert_eq!(origin.refresh(text(&ended, "refresh_token"), "web").await?.0, 400);
    origin.stop().await;
    Ok(())
}

#[tokio::test]
async fn bad_input_is_refused_with_a_reason() -> Tested {
    let directory = tempfile::tempdir()?;
    let origin = TestOrigin::start(directory.path(), vec![]).await?;
    for (body, status) in [
        (json!({ "subject": "frank" }), 400),
        (json!({ "subject": "frank", "client_id": "web", "colour": "red" }), 400),
        (json!({ "subject": "two words", "client_id": "web" }), 400),
        (json!({ "subject": "frank", "client_id": "web", "scope": " " }), 422),
        (json!({ "subject": "frank", "client_id": "web", "auth_time": 1 }), 422),
        (json!({ "subject": "frank", "client_id": "web" }), 201),
    ] {
        let (found, answer) = origin.manage(Method::POST, "/v1/sessions", body.clone()).await?;
        assert_eq!(found, status, "{body} {answer}");
    }
    assert_eq!(origin.manage(Method::POST, "/v1/subjects/nobody/revoke", json!({})).await?.0, 404);
    let response = origin.request(Method::POST, "/v1/sessions").send().await?;
    assert_eq!((response.status().as_u16(), response.headers().contains_key("www-authenticate")), (401, true));
    for path in
        ["/healthz", "/readyz", "/metrics", "/.well-known/jwks.json", "/feed/snapshot", "/feed/delta?epoch=0&after=0"]
    {
        assert_eq!(origin.request(Method::GET, path).send().await?.status().as_u16(), 200, "{path}");
    }
    origin.stop().await;
    Ok(())
}

/// I1, I5: what is ended is pushed at once; a replica that missed it is brought up to date.
#[tokio::test]
async fn a_hub_hears_of_the_end_of_a_session() -> Tested {
    let directory = tempfile::tempdir()?;
    let hub = TestHub::start(feed_key(directory.path()).await?).await?;

    let hubs = vec![hub.config()];
    let origin =
        eventually("the lock of the file", async || TestOrigin::start(directory.path(), hubs.clone()).await.ok())
            .await?;
    let (kept, ended) = (open(&origin, "gail").await?, open(&origin, "gail").await?);
    eventually("the token keys", async || hub.with(|replica| (!replica.keys().is_empty()).then_some(()))).await?;
    let token = |opened: &Value| {
        hub.with(|replica| AccessToken::verify(text(opened, "access_token"), replica.keys(), &Verifier, EXPECTED))
    };
    let (kept, ended_token) = (token(&kept)?, token(&ended)?);
    assert!(hub.with(|replica| ended_token.revoked_by(replica.floors())).is_none());

    let path = format!("/v1/sessions/{}/revoke", text(&ended, "session_id"));
    let (_, changed) = origin.manage(Method::POST, &path, json!({})).await?;
    eventually("the floor", async || hub.with(|replica| ended_token.revoked_by(replica.floors()))).await?;
    assert!(hub.with(|replica| kept.revoked_by(replica.floors())).is_none());
    assert_eq!(Some(hub.with(|replica| replica.position().cursor.0)), changed["cursor"].as_u64());
    origin.stop().await;
    Ok(())
}

/// I1: what was acknowledged just before the origin stops reaches the hub, although nobody waits for it.
#[tokio::test]
async fn what_was_acknowledged_before_the_stop_is_pushed() -> Tested {
    let directory = tempfile::tempdir()?;
    let hub = TestHub::start(feed_key(directory.path()).await?).await?;
    let origin = TestOrigin::start(directory.path(), vec![hub.config()]).await?;
    let ended = open(&origin, "hugo").await?;
    eventually("the token keys", async || hub.with(|replica| (!replica.keys().is_empty()).then_some(()))).await?;
    let path = format!("/v1/sessions/{}/revoke", text(&ended, "session_id"));
    let (_, changed) = origin.manage(Method::POST, &path, json!({})).await?;
    origin.stop().await;
    assert_eq!(Some(hub.with(|replica| replica.position().cursor.0)), changed["cursor"].as_u64());
    Ok(())
}

/// I2, I4: the file of the store is gone, the keys are kept; what the hub holds comes back before anyone is served.
#[tokio::test]
async fn floors_outlive_the_store() -> Tested {
    let (before, after) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let hub = TestHub::start(feed_key(before.path()).await?).await?;
    copy_keys(before.path(), after.path()).await?;
    let origin = TestOrigin::start(before.path(), vec![hub.config()]).await?;
    let (kept, ended) = (open(&origin, "ida").await?, open(&origin, "ida").await?);
    let path = format!("/v1/sessions/{}/revoke", text(&ended, "session_id"));
    origin.manage(Method::POST, &path, json!({})).await?;
    origin.stop().await;
    let position = hub.with(shared::replica::Replica::position);

    let origin = TestOrigin::start(after.path(), vec![hub.config()]).await?;
    let frames = origin.request(Method::GET, "/feed/snapshot").send().await?.bytes().await?;
    let mut replica = shared::replica::Replica::new();
    hub.read(&mut replica, &frames);
    eventually("the epoch after", async || hub.with(|hub| (hub.position().epoch > position.epoch).then_some(())))
        .await?;
    let verify =
        |opened: &Value| AccessToken::verify(text(opened, "access_token"), replica.keys(), &Verifier, EXPECTED);
    assert!(verify(&ended)?.revoked_by(replica.floors()).is_some());
    assert!(verify(&kept)?.revoked_by(replica.floors()).is_none());
    origin.stop().await;
    Ok(())
}

async fn store_in(directory: &std::path::Path) -> anyhow::Result<AnyStore> {
    let url = StoreUrl::from(format!("embedded:{}", directory.join("store.db").display()));
    eventually("the lock of the file", async || {
        AnyStore::open(&Store { url: url.clone(), ..Store::default() }).await.ok()
    })
    .await
}

async fn copy_keys(from: &std::path::Path, to: &std::path::Path) -> anyhow::Result<()> {
    let sealed = store_in(from).await?.load(&Key::Keys).await?.unwrap_or_default();
    store_in(to).await?.swap(&Key::Keys, None, &sealed, None).await?;
    Ok(())
}

/// A floor outlives the tokens of before a restart too, after which tokens live shorter; without such, it is forgotten early.
#[tokio::test]
async fn a_floor_outlives_tokens_of_an_earlier_configuration() -> Tested {
    for (before_s, kept) in [(3_600, 3_600..4_000), (60, 60..400)] {
        let directory = tempfile::tempdir()?;
        let origin = TestOrigin::start_with(directory.path(), |config| {
            config.tokens.access_ttl_s = before_s;
            config.tokens.access_ttl_spread_percent = 0;
            config.feed.remember_s = 0;
        });
        let origin = origin.await?;
        let opened = open(&origin, "alice").await?;
        assert_eq!(opened["expires_in"], before_s);
        let mut config = origin.stop().await;
        config.tokens.access_ttl_s = 60;
        let origin = TestOrigin::start_again(config).await?;
        let path = format!("/v1/sessions/{}/revoke", text(&opened, "session_id"));
        let (status, revoked) = origin.manage(Method::POST, &path, json!({})).await?;
        assert_eq!(status, 200, "{revoked}");
        origin.stop().await;
        let snapshot = store_in(directory.path()).await?.snapshot().await?;
        let ended = revoked["acknowledged_at_ms"].as_u64().unwrap_or_default() / 1_000;
        let kept_s: Vec<u64> = snapshot.floors.iter().map(|floor| floor.forget_at.as_secs() - ended).collect();
        assert!(matches!(kept_s.as_slice(), [kept_s] if kept.contains(kept_s)), "{kept_s:?}, not {kept:?}");
    }
    Ok(())
}
