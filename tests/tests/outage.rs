//! What callers are told while the store is gone.

use portcullis_tests::{REDIS_PASSWORD, TestOrigin, TestRedis};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

type Tested = anyhow::Result<()>;

/// Each kind of call that reads or writes the store, with a path to name it by.
fn calls(origin: &TestOrigin, opened: &Value) -> Vec<(String, RequestBuilder)> {
    let text = |name: &str| opened[name].as_str().unwrap_or_default();
    let (access, refresh, session) = (text("access_token"), text("refresh_token"), text("session_id"));
    let form = |path: &str, fields: &[(&str, &str)]| (path.to_owned(), origin.request(Method::POST, path).form(fields));
    let managed = |method: Method, path: String, body: Value| {
        let request = origin.managed(method, &path);
        (path, if body.is_null() { request } else { request.json(&body) })
    };
    let introspect = origin.managed(Method::POST, "/oauth2/introspect").form(&[("token", access)]);
    let own = origin.request(Method::GET, "/v1/me/sessions").bearer_auth(access);
    let refresh_fields = [("grant_type", "refresh_token"), ("refresh_token", refresh), ("client_id", "web")];
    vec![
        form("/oauth2/token", &refresh_fields),
        ("/oauth2/introspect".to_owned(), introspect),
        ("/v1/me/sessions".to_owned(), own),
        managed(Method::POST, "/v1/sessions".to_owned(), json!({ "subject": "bob", "client_id": "web" })),
        managed(Method::GET, format!("/v1/sessions/{session}"), Value::Null),
        managed(Method::GET, "/v1/subjects/alice/sessions".to_owned(), Value::Null),
        managed(Method::PUT, "/v1/subjects/alice/roles".to_owned(), json!({ "roles": ["admin"] })),
        managed(Method::GET, "/v1/audit".to_owned(), Value::Null),
        managed(Method::POST, "/v1/apikeys".to_owned(), json!({ "name": "a", "scopes": ["introspect"] })),
        managed(Method::POST, "/v1/keys/rotate".to_owned(), json!({})),
        form("/oauth2/revoke", &[("token", refresh), ("client_id", "web")]),
        managed(Method::POST, format!("/v1/sessions/{session}/revoke"), json!({})),
        managed(Method::POST, "/v1/subjects/alice/revoke".to_owned(), json!({})),
        managed(Method::POST, "/v1/everyone/revoke".to_owned(), json!({})),
    ]
}

/// PRB-01, PRB-02, PRB-03, REV-07: every call that needs the store is answered by 503 with `Retry-After`, in its shape, and tells
/// nothing of the store; while the store was there each was answered.
#[tokio::test]
async fn a_store_that_is_gone_is_told_and_nothing_else_of_it() -> Tested {
    let redis = TestRedis::start().await?;
    let directory = tempfile::tempdir()?;
    let origin = TestOrigin::start_with(directory.path(), |config| config.store.url = redis.url().into()).await?;
    let (_, opened) =
        origin.manage(Method::POST, "/v1/sessions", json!({ "subject": "alice", "client_id": "web" })).await?;
    for (path, request) in calls(&origin, &opened) {
        let status = request.send().await?.status();
        assert!(status.is_success(), "{path}: {status}");
    }
    let (_, opened) =
        origin.manage(Method::POST, "/v1/sessions", json!({ "subject": "alice", "client_id": "web" })).await?;
    let inside =
        [REDIS_PASSWORD.to_owned(), redis.port().to_string(), "redis".into(), "127.0.0.1".into(), ".rs".into()];
    let secrets = ["access_token", "refresh_token"].map(|name| opened[name].as_str().unwrap_or_default().to_owned());
    drop(redis);
    for (path, request) in calls(&origin, &opened) {
        let answer = request.send().await?;
        let head = format!("{:?}", answer.headers());
        let (status, retry) = (answer.status().as_u16(), answer.headers().get("retry-after").is_some());
        let body = answer.text().await?;
        assert_eq!((status, retry), (503, true), "{path}: {body}");
        let told: Value = serde_json::from_str(&body)?;
        match path.starts_with("/oauth2/") {
            true => assert_eq!(told["error"], "temporarily_unavailable", "PRB-02: {path}"),
            false => assert_eq!(told["status"], 503, "PRB-01: {path}"),
        }
        for word in inside.iter().chain(&secrets) {
            assert!(
                !body.to_lowercase().contains(word.as_str()) && !head.contains(word.as_str()),
                "PRB-03: {path}: {body}"
            );
        }
    }
    origin.stop().await;
    Ok(())
}
