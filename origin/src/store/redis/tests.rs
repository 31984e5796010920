use std::{
    net::TcpListener,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use super::*;
use crate::store::contract;

const TIMEOUT: Duration = Duration::from_secs(5);

/// A server on a free port; it ends with the test.
struct Server {
    child: Child,
    port: u16,
    _directory: tempfile::TempDir,
}

impl Server {
    fn start(arguments: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        // The cluster's bus listens 10000 above the port.
        let port = (0..100)
            .map(|_| TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port())
            .find(|port| *port < 55_000)
            .unwrap();
        let child = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--save", "", "--appendonly", "yes", "--dir"])
            .arg(directory.path())
            .args(arguments)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self { child, port, _directory: directory };
        server.wait(|answer| answer.contains("PONG"), &["PING"]);
        server
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    fn cli(&self, arguments: &[&str]) -> String {
        let output = Command::new("redis-cli").args(["-p", &self.port.to_string()]).args(arguments).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Waits for an answer; there is no event to wait for.
    fn wait(&self, good: impl Fn(&str) -> bool, arguments: &[&str]) {
        let started = Instant::now();
        while !good(&self.cli(arguments)) {
            assert!(started.elapsed() < Duration::from_secs(30), "{arguments:?}");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn one_server_keeps_the_contract() {
    let server = Server::start(&[]);
    contract::check(&open(&server.url(), TIMEOUT, 0).await.unwrap()).await;
}

#[tokio::test]
async fn a_cluster_keeps_the_contract() {
    let cluster = ["--cluster-enabled", "yes"];
    let servers = [Server::start(&cluster), Server::start(&cluster), Server::start(&cluster)];
    let nodes: Vec<String> = servers.iter().map(|server| format!("127.0.0.1:{}", server.port)).collect();
    let nodes: Vec<&str> = nodes.iter().map(String::as_str).collect();
    servers[0].cli(&[&["--cluster", "create"], nodes.as_slice(), &["--cluster-yes"]].concat());
    for server in &servers {
        server.wait(|info| info.contains("cluster_state:ok") && info.contains("cluster_size:3"), &["CLUSTER", "INFO"]);
    }
    let urls = servers.iter().map(Server::url).collect::<Vec<_>>().join(",");
    contract::check(&open(&urls, TIMEOUT, 0).await.unwrap()).await;
}

#[tokio::test]
async fn a_server_that_evicts_is_refused() {
    let server = Server::start(&["--maxmemory-policy", "allkeys-lru"]);
    let refused = open(&server.url(), TIMEOUT, 0).await.err();
    let text = "maxmemory-policy must be noeviction, and is allkeys-lru".to_owned();
    assert_eq!(refused, Some(StoreError::Unsuitable(text)));
}

/// I6: a write that no replica confirmed is not acknowledged, and says that it may have happened.
#[tokio::test]
async fn a_write_without_its_replicas_is_not_acknowledged() {
    let server = Server::start(&[]);
    let store = open(&server.url(), Duration::from_millis(300), 1).await.unwrap();
    let refused = store.append(&[contract::floor(1, 1)]).await;
    assert!(refused.is_err_and(|error| error.may_have_happened()));
}

/// Another log is another epoch, so that nobody takes an emptied store for one in which nothing was revoked.
#[tokio::test]
async fn an_emptied_server_has_another_epoch() {
    let server = Server::start(&[]);
    let store = open(&server.url(), TIMEOUT, 0).await.unwrap();
    store.append(&[contract::floor(1, 1)]).await.unwrap();
    let before = store.read_log(Cursor(0), 1).await.unwrap().epoch;
    assert_eq!(store.read_log(Cursor(0), 1).await.unwrap().epoch, before);
    server.cli(&["FLUSHALL"]);
    assert!(store.read_log(Cursor(1), 1).await.unwrap().epoch > before);
}
