//! Writes that a replica must have before they are acknowledged, with a replica that stops answering and goes on.

use origin::config::{Acknowledge, Level, Risk, StoreUrl};
use portcullis_tests::{TestOrigin, TestRedis};
use reqwest::{Method, Response};
use serde_json::{Value, json};

type Tested = anyhow::Result<()>;

const REPLICATED: Level = Level::Replicated(1);

struct Replicated {
    _primary: TestRedis,
    replica: TestRedis,
    origin: TestOrigin,
    _directory: tempfile::TempDir,
}

async fn start(sessions: Level) -> anyhow::Result<Replicated> {
    let primary = TestRedis::start().await?;
    let replica = TestRedis::start_replica_of(&primary).await?;
    let directory = tempfile::tempdir()?;
    let origin = TestOrigin::start_with(directory.path(), |config| {
        config.store.url = StoreUrl::from(primary.url());
        let levels = Acknowledge { floors: REPLICATED, sessions, records: sessions, timeout_ms: 1_000 };
        config.store.acknowledge = levels;
        config.store.accept = vec![Risk::AsynchronousReplication];
    })
    .await?;
    Ok(Replicated { _primary: primary, replica, origin, _directory: directory })
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}

async fn open(origin: &TestOrigin) -> anyhow::Result<Value> {
    let body = json!({ "subject": "alice", "client_id": "web" });
    let (status, opened) = origin.manage(Method::POST, "/v1/sessions", body).await?;
    anyhow::ensure!(status == 201, "{opened}");
    Ok(opened)
}

async fn refresh(origin: &TestOrigin, token: &str) -> anyhow::Result<Response> {
    let form = [("grant_type", "refresh_token"), ("refresh_token", token), ("client_id", "web")];
    Ok(origin.request(Method::POST, "/oauth2/token").form(&form).send().await?)
}

async fn revoke(origin: &TestOrigin, opened: &Value) -> anyhow::Result<Response> {
    let path = format!("/v1/sessions/{}/revoke", text(opened, "session_id"));
    Ok(origin.managed(Method::POST, &path).json(&json!({})).send().await?)
}

fn is_unknown(response: &Response) -> bool {
    response.status() == 503 && response.headers().contains_key("retry-after")
}

/// SES-18, I2, I3: without its replica a write is neither acknowledged nor refused: 503 with `Retry-After`. So is its repeat,
/// which finds it written and not confirmed. With the replica the same commands succeed, and nobody is accused.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_no_replica_confirms_is_unknown_and_may_be_repeated() -> Tested {
    let Replicated { _primary, replica, origin, _directory } = start(REPLICATED).await?;
    let (kept, ended) = (open(&origin).await?, open(&origin).await?);
    let token = text(&kept, "refresh_token");

    replica.pause()?;
    for _ in 0..2 {
        let opening =
            origin.managed(Method::POST, "/v1/sessions").json(&json!({ "subject": "bob", "client_id": "web" }));
        let opening = async { anyhow::Ok(opening.send().await?) };
        let (renewed, revoked, opened) = tokio::try_join!(refresh(&origin, token), revoke(&origin, &ended), opening)?;
        assert!(is_unknown(&renewed) && is_unknown(&revoked) && is_unknown(&opened));
    }
    assert!(origin.is_active(text(&kept, "access_token")).await?, "what only reads goes on");

    replica.resume()?;
    assert_eq!(revoke(&origin, &ended).await?.status(), 200);
    assert!(!origin.is_active(text(&ended, "access_token")).await?);
    let renewed = refresh(&origin, token).await?;
    assert_eq!(renewed.status(), 200);
    let renewed: Value = serde_json::from_slice(&renewed.bytes().await?)?;
    assert!(origin.is_active(text(&renewed, "access_token")).await?);
    assert_eq!(refresh(&origin, text(&renewed, "refresh_token")).await?.status(), 200);
    origin.stop().await;
    Ok(())
}

/// SES-18, I2: each kind of write has its own level. With floors replicated and sessions not, refreshes go on without the
/// replica and ends wait for it.
#[tokio::test(flavor = "multi_thread")]
async fn kinds_of_writes_are_acknowledged_at_their_own_level() -> Tested {
    let Replicated { _primary, replica, origin, _directory } = start(Level::Local).await?;
    let opened = open(&origin).await?;
    replica.pause()?;
    let renewed = refresh(&origin, text(&opened, "refresh_token")).await?;
    assert_eq!(renewed.status(), 200);
    assert_eq!(refresh(&origin, text(&opened, "refresh_token")).await?.status(), 200, "the repeat neither");
    assert!(is_unknown(&revoke(&origin, &opened).await?));
    replica.resume()?;
    assert_eq!(revoke(&origin, &opened).await?.status(), 200);
    assert!(!origin.is_active(text(&opened, "access_token")).await?);
    origin.stop().await;
    Ok(())
}
