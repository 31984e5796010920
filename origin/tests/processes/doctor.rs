//! `portcullis doctor`, and the start over a store that may lose what it acknowledged, as an operator meets them.

use std::process::{Command, Output};

use serde_json::Value;

use crate::{
    origin::{MANAGEMENT_KEY, Origin, embedded},
    redis::Redis,
};

fn portcullis(store: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    command.env("PORTCULLIS_STORE__URL", store).env("PORTCULLIS_MASTER_KEY", "07".repeat(32));
    command.env("PORTCULLIS_MANAGEMENT_KEY", MANAGEMENT_KEY).args(arguments).output().unwrap()
}

/// Exit code, and the report.
fn doctor(store: &str) -> (i32, Value) {
    let output = portcullis(store, &["doctor", "--json"]);
    (output.status.code().unwrap(), serde_json::from_slice(&output.stdout).unwrap())
}

/// Status and what was found, by check.
fn found<'a>(report: &'a Value, check: &str) -> (&'a str, &'a str) {
    let findings = report["findings"].as_array().unwrap();
    let finding = findings.iter().find(|finding| finding["check"] == check).unwrap();
    (finding["status"].as_str().unwrap(), finding["found"].as_str().unwrap())
}

/// SES-18, I2: a store that may lose what it acknowledged is not used, and the operator is told what to change or to accept.
#[tokio::test]
async fn a_store_that_may_lose_writes_is_not_served_from_unless_that_is_accepted() {
    let redis = Redis::start_with_fsync("everysec");
    let refused = portcullis(&redis.url(), &["serve"]);
    let said = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("appendfsync is everysec") && said.contains("store.accept = [\"fsync-everysec\"]"), "{said}");

    let (code, report) = doctor(&redis.url());
    assert_eq!((code, &report["status"]), (11, &Value::from("bad")), "{report}");
    assert_eq!(found(&report, "appendfsync"), ("bad", "everysec"));

    let accepting = [("PORTCULLIS_STORE__ACCEPT", "[\"fsync-everysec\"]")];
    assert_eq!(Origin::start(&redis.url(), &accepting).open().await["token_type"], "Bearer");
}

/// What is healthy, what warns and what is bad have their exit codes and stand in the table.
#[tokio::test]
async fn a_doctor_tells_by_its_exit_code() {
    let redis = Redis::start();
    let (code, report) = doctor(&redis.url());
    assert_eq!((code, found(&report, "replicas")), (10, ("warn", "none")), "{report}");
    for check in ["maxmemory-policy", "appendonly", "appendfsync", "version", "memory", "persistence", "clock"] {
        assert_eq!(found(&report, check).0, "healthy", "{report}");
    }
    let table = portcullis(&redis.url(), &["doctor"]);
    let table = String::from_utf8(table.stdout).unwrap();
    assert!(table.contains("warn") && table.contains("should be at least one"), "{table}");

    let (code, report) = doctor("redis://user:hunter2@127.0.0.1:1");
    assert_eq!((code, found(&report, "answers").0), (11, "bad"), "{report}");
    assert!(!report.to_string().contains("hunter2"), "I10: {report}");
}

/// The file of an origin that runs is examined beside it.
#[tokio::test]
async fn a_doctor_reads_the_file_of_an_origin_that_runs() {
    let directory = tempfile::tempdir().unwrap();
    let store = embedded(directory.path());
    assert!(found(&doctor(&store).1, "file").1.starts_with("none yet"));
    assert!(directory.path().read_dir().unwrap().next().is_none(), "a doctor makes no file");

    let mut origin = Origin::start(&store, &[]);
    origin.open().await;
    let (_, report) = doctor(&store);
    for (check, expected) in [("journal_mode", "wal"), ("synchronous", "full"), ("integrity", "ok")] {
        assert_eq!(found(&report, check), ("healthy", expected), "{report}");
    }
    assert!(found(&report, "lock").1.starts_with("held"), "{report}");
    origin.open().await;
    assert!(origin.terminate());
    assert_eq!(found(&doctor(&store).1, "lock").1, "free");
}
