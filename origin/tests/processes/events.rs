//! What a process writes to its log about the life of sessions.

use reqwest::Method;
use serde_json::{Value, json};

use crate::origin::{Origin, embedded};

/// A name and a user agent that would add a line, a colour and a member to a log that repeats them as they are.
const HOSTILE: &str = "x\r\n{\"event\":\"forged\"}\u{1b}[31m";

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}

async fn post(origin: &Origin, path: &str, body: Value) -> Value {
    origin.manage(Method::POST, path, &body).await.1
}

/// Opens, refreshes, replays, steps up, changes and ends, at one origin after the other; everything that was secret.
async fn live(origin: &Origin) -> Vec<String> {
    let device = json!({ "user_agent": HOSTILE });
    let body = json!({ "subject": "alice", "client_id": "web", "scope": "read write", "device": device });
    let mut seen = vec![];
    let mut opened = vec![];
    for _ in 0..3 {
        opened.push(post(origin, "/v1/sessions", body.clone()).await);
    }
    let (stolen, kept) = (&opened[1], &opened[2]);
    let (_, second) = origin.refresh(&stolen["refresh_token"]).await;
    let (_, third) = origin.refresh(&second["refresh_token"]).await;
    assert_eq!(origin.refresh(&stolen["refresh_token"]).await.0, 400);
    let path = format!("/v1/sessions/{}", text(kept, "session_id"));
    origin.manage(Method::PUT, &format!("{path}/scope"), &json!({ "scope": "read" })).await;
    let stepped_up = post(origin, &format!("{path}/step-up"), json!({ "amr": ["otp"] })).await;
    origin.manage(Method::PUT, "/v1/subjects/alice/roles", &json!({ "roles": ["admin"] })).await;
    let path = format!("/v1/sessions/{}/revoke", text(&stepped_up, "session_id"));
    post(origin, &path, json!({ "reason": "signed_out" })).await;
    post(origin, "/v1/subjects/alice/revoke", json!({})).await;
    post(origin, "/v1/everyone/renew", json!({})).await;
    for answer in opened.iter().chain([&second, &third, &stepped_up]) {
        for name in ["session_id", "access_token", "refresh_token"] {
            seen.push(text(answer, name).to_owned());
        }
    }
    seen.retain(|secret| !secret.is_empty());
    seen
}

fn events<'a>(log: &'a [Value], name: &str) -> Vec<&'a Value> {
    log.iter().filter(|line| line["event"] == name).collect()
}

/// LOG-01, LOG-02, LOG-03, LOG-04, REF-12: every event by its name, no session id or token in any line, no forged line.
#[tokio::test(flavor = "multi_thread")]
async fn the_life_of_sessions_is_logged_without_anything_that_is_secret() {
    let directory = tempfile::tempdir().unwrap();
    let store = embedded(directory.path());
    let limit = ("PORTCULLIS_SESSIONS__CONCURRENT_MAX", "2");
    let origin = Origin::start(&store, &[limit]);
    let mut secrets = live(&origin).await;
    let now = post(&origin, "/v1/sessions", json!({ "subject": "carol", "client_id": "web" })).await;
    let body = json!({ "subject": "bob", "client_id": "web", "auth_time": auth_time(&now) - 7_200 });
    let old = post(&origin, "/v1/sessions", body).await;
    secrets.extend(["session_id", "access_token", "refresh_token"].map(|name| text(&old, name).to_owned()));
    let mut lines = origin.into_log();

    let stricter = [("PORTCULLIS_SESSIONS__STANDARD_ABSOLUTE_S", "3600")];
    let origin = Origin::start(&store, &stricter);
    assert_eq!(origin.refresh(&old["refresh_token"]).await.0, 400);
    assert_eq!(origin.refresh(&old["refresh_token"]).await.0, 400);
    lines.extend(origin.into_log());

    for line in &lines {
        for secret in &secrets {
            assert!(!line.contains(secret.as_str()), "I10, LOG-03: {line}");
        }
        assert!(!line.contains("forged") && !line.contains('\u{1b}'), "LOG-04: {line}");
    }
    let log: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).expect("LOG-04: a JSON object")).collect();
    for name in [
        "session_created",
        "session_renewed",
        "session_logout",
        "session_expired",
        "session_use_after_expire",
        "authn_token_created",
        "authn_token_revoked",
        "authn_token_reuse",
        "excess_sessions_exceeded",
        "privilege_permissions_changed",
    ] {
        let found = events(&log, name);
        assert!(!found.is_empty(), "LOG-02: {name}");
        for event in found {
            assert!(event["timestamp"].is_string(), "LOG-01: {event}");
        }
    }
    assert_eq!(events(&log, "authn_token_reuse")[0]["class"], "ancestor");
    let expired = events(&log, "session_expired");
    assert_eq!((expired.len(), &expired[0]["reason"], &expired[0]["subject"]), (1, &json!("policy"), &json!("bob")));
    let used = events(&log, "session_use_after_expire");
    let tag = &events(&log, "session_created").into_iter().find(|event| event["subject"] == "bob").unwrap()["session"];
    assert!(used.iter().filter(|event| event["session"] == *tag).count() == 2, "{used:?}");
    let scopes: Vec<&str> = events(&log, "authn_token_revoked").iter().map(|event| text(event, "scope")).collect();
    for scope in ["session", "subject", "everyone"] {
        assert!(scopes.contains(&scope), "{scopes:?}");
    }
}

fn auth_time(opened: &Value) -> u64 {
    use base64ct::{Base64UrlUnpadded, Encoding as _};
    let payload = text(opened, "access_token").split('.').nth(1).unwrap();
    let claims: Value = serde_json::from_slice(&Base64UrlUnpadded::decode_vec(payload).unwrap()).unwrap();
    claims["auth_time"].as_u64().unwrap()
}
