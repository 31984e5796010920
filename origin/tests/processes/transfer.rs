//! Everything moves from the embedded store to Redis and back, by the commands that an operator gives.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Output},
};

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    origin::{Origin, embedded},
    redis::Redis,
};

fn store_command(store: &str, arguments: &[&str], file: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    command.env("PORTCULLIS_MASTER_KEY", "07".repeat(32)).env("PORTCULLIS_STORE__URL", store);
    command.arg("store").args(arguments).arg(file).output().unwrap()
}

fn done(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn refused(output: &Output) -> String {
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

async fn post(origin: &Origin, path: &str, body: Value) -> Value {
    let (status, answer) = origin.manage(Method::POST, path, &body).await;
    assert!((200..300).contains(&status), "{path} {status} {answer}");
    answer
}

/// An open with an idempotency key: the first time and every other time the same.
async fn open_once(origin: &Origin) -> Value {
    let body = json!({ "subject": "bob", "client_id": "web" });
    let request = origin.request(Method::POST, "/v1/sessions", &body).header("Idempotency-Key", "once");
    serde_json::from_slice(&request.send().await.unwrap().bytes().await.unwrap()).unwrap()
}

/// What is known before a move, and must be true after it.
struct Known {
    kept: Value,
    revoked: Value,
    disabled: Value,
    once: Value,
    api_keys: Value,
    acts: usize,
}

impl Known {
    async fn make(origin: &Origin) -> Self {
        let (kept, revoked) = (origin.open().await, origin.open().await);
        post(origin, &format!("/v1/sessions/{}/revoke", revoked["session_id"].as_str().unwrap()), json!({})).await;
        let carol = json!({ "subject": "carol", "client_id": "web" });
        let disabled = post(origin, "/v1/sessions", carol).await;
        post(origin, "/v1/subjects/carol/disable", json!({})).await;
        post(origin, "/v1/apikeys", json!({ "name": "job", "scopes": ["sessions:read"] })).await;
        let once = open_once(origin).await;
        let (api_keys, acts) = (api_keys(origin).await, acts(origin).await);
        let (status, kept) = origin.refresh(&kept["refresh_token"]).await;
        assert_eq!(status, 200, "{kept}");
        Self { kept, revoked, disabled, once, api_keys, acts }
    }

    /// Goes on with the same tokens; those of sessions that are over stay refused.
    async fn check(&mut self, origin: &Origin) {
        assert_eq!(origin.introspect(&self.kept["access_token"]).await["active"], true);
        for over in [&self.revoked, &self.disabled] {
            assert_eq!(origin.introspect(&over["access_token"]).await["active"], false);
            assert_eq!(origin.refresh(&over["refresh_token"]).await.0, 400);
        }
        let carol = json!({ "subject": "carol", "client_id": "web" });
        assert_eq!(origin.manage(Method::POST, "/v1/sessions", &carol).await.0, 403);
        assert_eq!(open_once(origin).await, self.once);
        assert_eq!(api_keys(origin).await, self.api_keys);
        assert!(acts(origin).await >= self.acts);
        let (status, renewed) = origin.refresh(&self.kept["refresh_token"]).await;
        assert_eq!(status, 200, "{renewed}");
        self.kept = renewed;
        let (_, listed) = origin.manage(Method::GET, "/v1/subjects/alice/sessions", &json!({})).await;
        assert_eq!(listed["sessions"].as_array().map(Vec::len), Some(1), "{listed}");
    }
}

async fn api_keys(origin: &Origin) -> Value {
    origin.manage(Method::GET, "/v1/apikeys", &json!({})).await.1["api_keys"].clone()
}

async fn acts(origin: &Origin) -> usize {
    let (_, trail) = origin.manage(Method::GET, "/v1/audit", &json!({})).await;
    trail["entries"].as_array().map_or(0, Vec::len)
}

/// I2, I4: no session ends on the way to Redis and back, none that is over comes back, and the keys are the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_moves_to_redis_and_back_without_ending_a_session() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| directory.path().join(name);
    let redis = Redis::start();
    let first = embedded(directory.path());
    let origin = Origin::start(&first, &[]);
    let mut known = Known::make(&origin).await;
    let in_use = refused(&store_command(&first, &["export"], &file("one")));
    assert!(in_use.contains("another process has it open") && !file("one").exists(), "{in_use}");
    drop(origin);

    let exported = done(&store_command(&first, &["export"], &file("one")));
    assert!(exported["records"].as_u64() > Some(8) && exported["floors"].as_u64() > Some(1), "{exported}");
    assert_eq!(fs::metadata(file("one")).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(done(&store_command(&redis.url(), &["import"], &file("one"))), exported);
    let origin = Origin::start(&redis.url(), &[]);
    known.check(&origin).await;
    let again = refused(&store_command(&redis.url(), &["import"], &file("one")));
    assert!(again.contains("not empty") && again.contains("--replace"), "{again}");
    drop(origin);

    done(&store_command(&redis.url(), &["export"], &file("two")));
    let second = format!("embedded:{}", file("second.db").display());
    done(&store_command(&second, &["import"], &file("two")));
    done(&store_command(&second, &["import", "--replace"], &file("two")));
    known.check(&Origin::start(&second, &[])).await;
}

/// What cannot be read moves nothing, and says where.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_was_cut_off_moves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (whole, cut) = (directory.path().join("whole"), directory.path().join("cut"));
    let store = embedded(directory.path());
    let nowhere = format!("embedded:{}", directory.path().join("other.db").display());
    let missing = refused(&store_command(&nowhere, &["export"], &whole));
    assert!(missing.contains("there is no store") && !whole.exists(), "{missing}");

    let origin = Origin::start(&store, &[]);
    origin.open().await;
    drop(origin);
    done(&store_command(&store, &["export"], &whole));
    let bytes = fs::read(&whole).unwrap();
    fs::write(&cut, &bytes[..bytes.len() - 1]).unwrap();
    let text = refused(&store_command(&nowhere, &["import"], &cut));
    assert!(text.contains("it ends at line") && text.contains("offset"), "{text}");
    done(&store_command(&nowhere, &["import"], &whole));
}
