use std::time::Duration;

use super::{test_server::Server, *};
use crate::store::contract;

/// A store that is given time, on a machine that may be busy.
pub(super) fn config(url: &str) -> config::Store {
    config::Store { url: url.to_owned().into(), timeout_ms: 5_000, ..config::Store::default() }
}

#[tokio::test]
async fn one_server_keeps_the_contract() {
    let server = Server::start(&[]);
    contract::check(&open(&config(&server.url())).await.unwrap()).await;
}

#[tokio::test]
async fn a_cluster_keeps_the_contract() {
    let cluster = ["--cluster-enabled", "yes"];
    let servers = [Server::start(&cluster), Server::start(&cluster), Server::start(&cluster)];
    let nodes: Vec<String> = servers.iter().map(|server| format!("127.0.0.1:{}", server.port())).collect();
    let nodes: Vec<&str> = nodes.iter().map(String::as_str).collect();
    servers[0].cli(&[&["--cluster", "create"], nodes.as_slice(), &["--cluster-yes"]].concat());
    for server in &servers {
        server.wait(|info| info.contains("cluster_state:ok") && info.contains("cluster_size:3"), &["CLUSTER", "INFO"]);
    }
    let urls = servers.iter().map(Server::url).collect::<Vec<_>>().join(",");
    contract::check(&open(&config(&urls)).await.unwrap()).await;
}

#[tokio::test]
async fn a_server_that_evicts_is_refused() {
    let server = Server::start(&["--maxmemory-policy", "allkeys-lru"]);
    let refused = open(&config(&server.url())).await.err();
    let text = "maxmemory-policy must be noeviction, and is allkeys-lru".to_owned();
    assert_eq!(refused, Some(StoreError::Unsuitable(text)));
}

/// I6: a write that no replica confirmed is not acknowledged, and says that it may have happened.
#[tokio::test]
async fn a_write_without_its_replicas_is_not_acknowledged() {
    let server = Server::start(&[]);
    let store = open(&config::Store { replicas: 1, timeout_ms: 300, ..config(&server.url()) }).await.unwrap();
    let refused = store.append(&[contract::floor(1, 1)]).await;
    assert!(refused.is_err_and(|error| error.may_have_happened()));
}

/// Another log is another epoch, so that nobody takes an emptied store for one in which nothing was revoked.
#[tokio::test]
async fn an_emptied_server_has_another_epoch() {
    let server = Server::start(&[]);
    let store = open(&config(&server.url())).await.unwrap();
    store.append(&[contract::floor(1, 1)]).await.unwrap();
    let before = store.read_log(Cursor(0), 1).await.unwrap().epoch;
    assert_eq!(store.read_log(Cursor(0), 1).await.unwrap().epoch, before);
    server.cli(&["FLUSHALL"]);
    assert!(store.read_log(Cursor(1), 1).await.unwrap().epoch > before);
}

/// A log that begins anew is waited on from its own head: what was appended to the one before does not wake anyone.
#[tokio::test]
async fn an_emptied_log_is_waited_on() {
    let server = Server::start(&[]);
    let store = open(&config(&server.url())).await.unwrap();
    store.append(&[contract::floor(1, 1), contract::floor(2, 1)]).await.unwrap();
    server.cli(&["FLUSHALL"]);
    assert_eq!(store.read_log(Cursor(2), 1).await.unwrap().head, Cursor(0));
    let started = Instant::now();
    store.wait_for_append(Cursor(0), Duration::from_millis(200)).await.unwrap();
    assert!(started.elapsed() >= Duration::from_millis(200));
}

/// I5: after a restart or a failover something may be missing, so positions of before no longer count. The first to notice
/// gives the log another epoch, and everyone sees the same one.
#[tokio::test]
async fn a_restarted_server_has_another_epoch_and_the_same_floors() {
    let mut server = Server::start(&[]);
    let store = open(&config(&server.url())).await.unwrap();
    let other = open(&config(&server.url())).await.unwrap();
    store.append(&[contract::floor(1, 1)]).await.unwrap();
    let before = store.snapshot().await.unwrap();
    assert_eq!(store.read_log(Cursor(0), 1).await.unwrap().epoch, before.epoch);
    server.restart();
    let deadline = Instant::now() + Duration::from_secs(20);
    let after = loop {
        match store.read_log(Cursor(0), 1).await {
            Ok(read) => break read,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
    };
    assert!(after.epoch > before.epoch);
    assert_eq!(store.read_log(Cursor(0), 1).await.unwrap().epoch, after.epoch);
    while other.ping().await.is_err() {
        assert!(Instant::now() < deadline);
    }
    let seen = other.snapshot().await.unwrap();
    assert_eq!((seen.epoch, seen.head, seen.floors), (after.epoch, before.head, before.floors));
}

/// One call over the limit is refused at once, and the store goes on.
#[tokio::test]
async fn calls_over_the_limit_are_refused_at_once() {
    let server = Server::start(&[]);
    let store = open(&config::Store { calls_concurrent: 16, ..config(&server.url()) }).await.unwrap();
    let calls = futures_util::future::join_all((0..64).map(|_| store.ping())).await;
    let refused = calls.iter().filter(|call| call.is_err()).count();
    assert_eq!(refused, 48, "{calls:?}");
    assert_eq!(store.ping().await, Ok(()));
}
