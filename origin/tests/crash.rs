//! The process is killed between the two writes of a command, at every command that has two.
//!
//! Design: the log leads the record. What was not acknowledged may have happened in part, a floor is never too low, and
//! the same command once more brings everything in line.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use reqwest::{Client, Method};
use serde_json::{Value, json};

const MANAGEMENT_KEY: &str = "management-key-of-a-test";

/// A process of its own; it is killed with SIGKILL when it is dropped.
struct Origin {
    child: Child,
    base: String,
    client: Client,
}

impl Origin {
    fn start(directory: &Path, failpoints: &str) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_portcullis"))
            .arg("serve")
            .env("PORTCULLIS_MASTER_KEY", "07".repeat(32))
            .env("PORTCULLIS_MANAGEMENT_KEY", MANAGEMENT_KEY)
            .env("PORTCULLIS_SERVER__LISTEN", "127.0.0.1:0")
            .env("PORTCULLIS_STORE__URL", format!("embedded:{}", directory.join("store.db").display()))
            .env("PORTCULLIS_TELEMETRY__LOG_FORMAT", "json")
            .env("FAILPOINTS", failpoints)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut lines = lines.map(|line| line.unwrap());
        let address = lines
            .find_map(|line| Some(line.split_once("\"address\":\"")?.1.split_once('"')?.0.to_owned()))
            .expect("the process says where it listens");
        // What it writes from now on must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, base: format!("http://{address}"), client: Client::builder().no_proxy().build().unwrap() }
    }

    async fn manage(&self, method: Method, path: &str, body: &Value) -> (u16, Value) {
        let request = self.client.request(method.clone(), format!("{}{path}", self.base)).bearer_auth(MANAGEMENT_KEY);
        let request = if method == Method::GET { request } else { request.json(body) };
        let response = request.send().await.unwrap();
        (response.status().as_u16(), serde_json::from_slice(&response.bytes().await.unwrap()).unwrap())
    }

    async fn open(&self) -> Value {
        let body = json!({ "subject": "alice", "client_id": "web", "tenant": "acme", "roles": ["admin"] });
        let (status, opened) = self.manage(Method::POST, "/v1/sessions", &body).await;
        assert_eq!(status, 201, "{opened}");
        opened
    }

    async fn introspect(&self, token: &Value) -> Value {
        let form = [("token", token.as_str().unwrap())];
        let request = self.client.post(format!("{}/oauth2/introspect", self.base)).bearer_auth(MANAGEMENT_KEY);
        let response = request.form(&form).send().await.unwrap();
        serde_json::from_slice(&response.bytes().await.unwrap()).unwrap()
    }

    async fn refresh(&self, token: &Value) -> (u16, Value) {
        let form = [("grant_type", "refresh_token"), ("refresh_token", token.as_str().unwrap()), ("client_id", "web")];
        let response = self.client.post(format!("{}/oauth2/token", self.base)).form(&form).send().await.unwrap();
        (response.status().as_u16(), serde_json::from_slice(&response.bytes().await.unwrap()).unwrap())
    }

    /// Sends a command that stops at the failpoint, waits until its floor is in the log, and kills the process.
    async fn kill_during(mut self, method: Method, path: &str, body: &Value) {
        let request = self.client.request(method, format!("{}{path}", self.base));
        let command = tokio::spawn(request.bearer_auth(MANAGEMENT_KEY).json(body).send());
        let started = Instant::now();
        loop {
            let metrics = self.client.get(format!("{}/metrics", self.base)).send().await.unwrap().text().await.unwrap();
            if metrics.contains("portcullis_floors_appended_total 1\n") {
                break;
            }
            assert!(started.elapsed() < Duration::from_secs(20), "the floor was not appended");
        }
        assert!(!command.is_finished(), "the command was answered although it stopped half-way");
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        assert!(command.await.unwrap().is_err());
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The first two changes make the records of subject and tenant; the third is the command.
const STOP_AT_THE_COMMAND: &str = "between-log-and-record=2*off->pause";

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_between_log_and_record_of_an_ended_session() {
    let directory = tempfile::tempdir().unwrap();
    let origin = Origin::start(directory.path(), STOP_AT_THE_COMMAND);
    let opened = origin.open().await;
    assert_eq!(origin.introspect(&opened["access_token"]).await["active"], true);
    let path = format!("/v1/sessions/{}", opened["session_id"].as_str().unwrap());
    origin.kill_during(Method::POST, &format!("{path}/revoke"), &json!({})).await;

    let origin = Origin::start(directory.path(), "");
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
    let origin = Origin::start(directory.path(), STOP_AT_THE_COMMAND);
    let opened = origin.open().await;
    let none = json!({ "roles": [] });
    origin.kill_during(Method::PUT, "/v1/subjects/alice/roles", &none).await;

    let origin = Origin::start(directory.path(), "");
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
