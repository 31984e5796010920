//! The process is killed between the two writes of a command, at every command that has two.
//!
//! Design: the log leads the record. What was not acknowledged may have happened in part, a floor is never too low, and
//! the same command once more brings everything in line.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use crate::origin::{Origin, embedded};

fn start(directory: &tempfile::TempDir, failpoints: &str) -> Origin {
    Origin::start(&embedded(directory.path()), &[("FAILPOINTS", failpoints)])
}

/// Sends a command that stops at the failpoint, waits until its floor is in the log, and kills the process.
async fn kill_during(mut origin: Origin, method: Method, path: &str, body: &Value) {
    let command = tokio::spawn(origin.request(method, path, body).send());
    let started = Instant::now();
    loop {
        // The thread that stopped answers none of its connections; another one gets another thread at last.
        let metrics = origin.get("/metrics").timeout(Duration::from_secs(1));
        let metrics = async { metrics.send().await?.text().await }.await.unwrap_or_default();
        if metrics.contains("portcullis_floors_appended_total 1\n") {
            break;
        }
        assert!(started.elapsed() < Duration::from_secs(60), "the floor was not appended");
    }
    assert!(!command.is_finished(), "the command was answered although it stopped half-way");
    origin.kill();
    assert!(command.await.unwrap().is_err());
}

/// The first two changes make the records of subject and tenant; the third is the command.
const STOP_AT_THE_COMMAND: &str = "between-log-and-record=2*off->pause";

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_between_log_and_record_of_an_ended_session() {
    let directory = tempfile::tempdir().unwrap();
    let origin = start(&directory, STOP_AT_THE_COMMAND);
    let opened = origin.open().await;
    assert_eq!(origin.introspect(&opened["access_token"]).await["active"], true);
    let path = format!("/v1/sessions/{}", opened["session_id"].as_str().unwrap());
    kill_during(origin, Method::POST, &format!("{path}/revoke"), &json!({})).await;

    let origin = start(&directory, "");
    assert_eq!(origin.introspect(&opened["access_token"]).await, json!({ "active": false }));
    let (status, _) = origin.manage(Method::POST, &format!("{path}/revoke"), &json!({})).await;
    assert_eq!(status, 200);
    let (_, shown) = origin.manage(Method::GET, &path, &json!({})).await;
    assert_eq!((&shown["state"], &shown["reason"]), (&json!("ended"), &json!("revoked")));
    assert_eq!(origin.refresh(&opened["refresh_token"]).await.0, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_between_log_and_record_of_a_change_of_roles() {
    let directory = tempfile::tempdir().unwrap();
    let origin = start(&directory, STOP_AT_THE_COMMAND);
    let opened = origin.open().await;
    let none = json!({ "roles": [] });
    kill_during(origin, Method::PUT, "/v1/subjects/alice/roles", &none).await;

    let origin = start(&directory, "");
    assert_eq!(origin.introspect(&opened["access_token"]).await, json!({ "active": false }));
    // The command was not acknowledged: the session goes on with the old roles, above the floor.
    let (status, renewed) = origin.refresh(&opened["refresh_token"]).await;
    assert_eq!(status, 200);
    assert_eq!(origin.introspect(&renewed["access_token"]).await["roles"], json!(["admin"]));

    assert_eq!(origin.manage(Method::PUT, "/v1/subjects/alice/roles", &none).await.0, 200);
    assert_eq!(origin.introspect(&renewed["access_token"]).await, json!({ "active": false }));
    let (_, renewed) = origin.refresh(&renewed["refresh_token"]).await;
    let shown = origin.introspect(&renewed["access_token"]).await;
    assert_eq!((&shown["active"], &shown["roles"]), (&json!(true), &Value::Null));
}
