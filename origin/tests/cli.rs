//! The commands over the management API as an operator or a script meets them, and the client library under them.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::process::{Command, Output};

use client::{Client, Error, OpenSession};
use portcullis_origin::{
    config::{
        Config, StoreUrl,
        secrets::{ManagementKey, MasterKey, Secrets},
    },
    server::Server,
};

const KEY: &str = "management-key-of-a-test";

async fn start(directory: &std::path::Path) -> (Server, String) {
    let mut config = Config::default();
    config.server.listen.set_port(0);
    config.store.url = StoreUrl::from(format!("embedded:{}", directory.join("store.db").display()));
    let secrets = Secrets { master_key: MasterKey::new([7; 32]), management_key: ManagementKey::new(KEY) };
    let server = Server::start(config, secrets).await.unwrap();
    let url = format!("http://{}", server.address());
    (server, url)
}

/// Runs the program; `key` is its key in the environment.
fn portcullis(url: &str, key: Option<&str>, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    command.env_remove("PORTCULLIS_MANAGEMENT_KEY").env("PORTCULLIS_ORIGIN_URL", url);
    if let Some(key) = key {
        command.env("PORTCULLIS_API_KEY", key);
    }
    command.args(arguments).output().unwrap()
}

fn done(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_sees_and_ends_sessions_and_reads_who_did() {
    let directory = tempfile::tempdir().unwrap();
    let (server, url) = start(directory.path()).await;
    let client = Client::new(url.parse().unwrap(), KEY.to_owned().into()).unwrap();
    let opened =
        client.open_session(&OpenSession::new("alice".parse().unwrap(), "web".parse().unwrap())).await.unwrap();
    let sid = opened.session_id.to_string();
    let listed = client.sessions_of(&"alice".parse().unwrap(), 10).await.unwrap();
    assert_eq!((listed.sessions.len(), listed.sessions[0].session_id), (1, opened.session_id));

    let table = done(&portcullis(&url, Some(KEY), &["sessions", "list", "alice"]));
    assert!(table.contains("session_id") && table.contains(&sid), "{table}");
    let json = done(&portcullis(&url, Some(KEY), &["sessions", "show", &sid, "--json"]));
    let shown: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(shown["state"], "open");
    done(&portcullis(&url, Some(KEY), &["subjects", "revoke", "alice", "--because", "stolen phone"]));
    assert_eq!(client.session(opened.session_id).await.unwrap().state, "ended");
    let trail = done(&portcullis(&url, Some(KEY), &["audit", "--action", "revoke_subject"]));
    assert!(trail.contains("subject:alice") && trail.contains("stolen phone"), "{trail}");

    let file = directory.path().join("key");
    std::fs::write(&file, format!("{KEY}\n")).unwrap();
    let made = portcullis(
        &url,
        None,
        &["apikeys", "create", "ci", "--scope", "audit:read", "--key-file", file.to_str().unwrap(), "--json"],
    );
    let made: serde_json::Value = serde_json::from_str(&done(&made)).unwrap();
    let weak = made["key"].as_str().unwrap();
    done(&portcullis(&url, Some(weak), &["audit"]));

    // The documented exit codes, each with its cause.
    for (code, key, url, arguments) in [
        (1, None, url.as_str(), &["audit"][..]),
        (2, Some(KEY), &url, &["sessions", "bend"]),
        (3, Some(KEY), &url, &["subjects", "show", "nobody"]),
        (4, Some(weak), &url, &["subjects", "show", "alice"]),
        (4, Some("wrong"), &url, &["subjects", "show", "alice"]),
        (5, Some(KEY), "http://127.0.0.1:1", &["subjects", "show", "alice"]),
    ] {
        let output = portcullis(url, key, arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{arguments:?} {said}");
        assert!(!said.contains(weak) && !said.contains(KEY), "I10: {said}");
    }
    server.stop().await;
}

/// A list has more entries than a page: the client and the commands follow the pages, as far as they are told to.
#[tokio::test(flavor = "multi_thread")]
async fn lists_are_read_page_by_page() {
    const SESSIONS: usize = 230;
    let directory = tempfile::tempdir().unwrap();
    let (server, url) = start(directory.path()).await;
    let client = Client::new(url.parse().unwrap(), KEY.to_owned().into()).unwrap();
    let alice = OpenSession::new("alice".parse().unwrap(), "web".parse().unwrap());
    let mut opened = Vec::new();
    for _ in 0..SESSIONS {
        opened.push(client.open_session(&alice).await.unwrap().session_id);
    }
    opened.sort_unstable();

    let all = client.sessions_of(&alice.subject, 1_000).await.unwrap();
    let mut seen: Vec<_> = all.sessions.iter().map(|session| session.session_id).collect();
    seen.sort_unstable();
    assert_eq!((seen, all.is_more), (opened, false));
    let some = client.sessions_of(&alice.subject, 205).await.unwrap();
    assert_eq!((some.sessions.len(), some.is_more), (205, true));

    let table = done(&portcullis(&url, Some(KEY), &["sessions", "list", "alice"]));
    assert_eq!(table.lines().count(), SESSIONS + 1, "a head and all of them");
    let listed = |arguments: &[&str]| {
        let text = done(&portcullis(&url, Some(KEY), arguments));
        serde_json::from_str::<serde_json::Value>(&text).unwrap()
    };
    let first = listed(&["sessions", "list", "alice", "--limit", "201", "--json"]);
    let cursor = first["next_cursor"].as_str().unwrap();
    let rest = listed(&["sessions", "list", "alice", "--cursor", cursor, "--json"]);
    let count = |list: &serde_json::Value| list["sessions"].as_array().unwrap().len();
    assert_eq!((count(&first), count(&rest), &rest["next_cursor"]), (201, 29, &serde_json::Value::Null));
    server.stop().await;
}

#[tokio::test]
async fn the_client_says_what_the_origin_said() {
    let directory = tempfile::tempdir().unwrap();
    let (server, url) = start(directory.path()).await;
    let client = Client::new(url.parse().unwrap(), "wrong".to_owned().into()).unwrap();
    let refused = client.subject(&"alice".parse().unwrap()).await.unwrap_err();
    assert!(
        matches!(&refused, Error::Refused { status: 401, problem, .. } if problem.title == "Unauthorized"),
        "{refused}"
    );
    assert!(!refused.is_temporary() && !format!("{client:?}").contains("wrong"));
    server.stop().await;
}
