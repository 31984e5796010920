//! Real servers that fail over, restart, forget their scripts, ask for a password, or speak TLS.

use std::{fs, process::Command};

use super::{
    test_server::Server,
    tests::{config, replicated},
    *,
};
use crate::{config::Risk, store::contract};

const DEADLINE: Duration = Duration::from_secs(60);

/// Asks again until the call succeeds.
async fn eventually<T>(mut call: impl AsyncFnMut() -> Result<T, StoreError>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        match call().await {
            Ok(answer) => return answer,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A restart or a flush of the scripts between two calls is no error to the caller.
#[tokio::test]
async fn scripts_and_connections_come_back_unnoticed() {
    let mut server = Server::start(&[]);
    let store = open(&config(&server.url())).await.unwrap();
    for version in 1..=3 {
        assert_eq!(store.append(&[contract::floor(1, version)]).await, Ok(Cursor(version)));
        server.cli(&["SCRIPT", "FLUSH"]);
    }
    let mut held: Option<Vec<u8>> = None;
    for new in [b"a", b"b", b"c"] {
        server.restart();
        assert_eq!(store.swap(&Key::Keys, held.as_deref(), new, None).await, Ok(Swapped::Done));
        held = Some(new.to_vec());
    }
    assert_eq!(store.snapshot().await.unwrap().floors, [contract::floor(1, 3)]);
}

/// A store that is gone costs no time after a few calls, and is found again.
#[tokio::test]
async fn a_server_that_is_gone_is_found_again() {
    let mut server = Server::start(&[]);
    let store = open(&config(&server.url())).await.unwrap();
    server.stop();
    for _ in 0..50 {
        assert!(store.append(&[]).await.is_err());
    }
    server.restart();
    eventually(async || store.ping().await).await;
    assert_eq!(store.append(&[contract::floor(1, 1)]).await, Ok(Cursor(1)));
}

/// A user with the rights that are needed and no others; a wrong password is refused.
#[tokio::test]
async fn a_user_of_the_access_list_is_enough() {
    let server = Server::start(&[]);
    let rules = ["~portcullis:*", "~{portcullis:log}:*", "+@read", "+@write", "+@scripting", "+ping", "+info", "+time"];
    server.cli(&[["ACL", "SETUSER", "origin", "on", ">p@ss,word"].as_slice(), &rules].concat());
    server.cli(&["ACL", "SETUSER", "default", "off"]);
    let url = |password: &str| format!("redis://origin:{password}@127.0.0.1:{}", server.port());
    let store = config(&url("p%40ss%2Cword"));
    // It may not ask how the server is set up, so that has to be accepted.
    let name = Risk::UnknownSettings.name();
    assert!(matches!(open(&store).await.err(), Some(StoreError::Unsuitable(text)) if text.contains(name)));
    let store = config::Store { accept: vec![Risk::UnknownSettings], ..store };
    let asking = config::Store { acknowledge: replicated(100), ..store.clone() };
    let report = examine(&asking, Duration::from_secs(2)).await.unwrap();
    assert!(report.findings.iter().any(|finding| finding.check == "wait"), "it may not call WAIT either: {report:?}");
    contract::check(&open(&store).await.unwrap()).await;
    assert!(open(&config(&url("wrong"))).await.is_err());
    assert!(open(&config(&server.url())).await.is_err());
}

/// TLS with a certificate authority of our own; without it, and without TLS, nothing connects.
#[tokio::test]
async fn a_server_with_tls_keeps_the_contract() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name).display().to_string();
    let openssl = |arguments: &[&str]| {
        assert!(Command::new("openssl").args(arguments).output().unwrap().status.success(), "{arguments:?}");
    };
    let (ca, ca_key, key, request, certificate) = (at("ca"), at("ca.key"), at("key"), at("csr"), at("cert"));
    let names = at("names");
    fs::write(&names, "subjectAltName=IP:127.0.0.1\n").unwrap();
    let new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"];
    openssl(&[["req", "-x509", "-subj", "/CN=ca", "-keyout", &ca_key, "-out", &ca].as_slice(), &new_key].concat());
    openssl(&[["req", "-subj", "/CN=server", "-keyout", &key, "-out", &request].as_slice(), &new_key[..5]].concat());
    openssl(&[
        "x509",
        "-req",
        "-in",
        &request,
        "-CA",
        &ca,
        "-CAkey",
        &ca_key,
        "-CAcreateserial",
        "-days",
        "2",
        "-extfile",
        &names,
        "-out",
        &certificate,
    ]);
    let server = Server::start(&[]);
    for (name, value) in [
        ("tls-cert-file", certificate.as_str()),
        ("tls-key-file", &key),
        ("tls-ca-cert-file", &ca),
        ("tls-auth-clients", "no"),
    ] {
        server.cli(&["CONFIG", "SET", name, value]);
    }
    let port = Server::free_port();
    server.cli(&["CONFIG", "SET", "tls-port", &port.to_string()]);
    let url = format!("rediss://127.0.0.1:{port}");
    let trusting = config::Store { tls_ca_file: Some(ca.into()), ..config(&url) };
    contract::check(&open(&trusting).await.unwrap()).await;
    assert!(open(&config(&url)).await.is_err(), "nobody vouches for the certificate");
    assert!(open(&config(&format!("redis://127.0.0.1:{port}"))).await.is_err(), "it speaks TLS only");
}

/// The primary dies; the sentinels name another one. Acknowledged with one replica, nothing is lost, and the log has another
/// epoch.
#[tokio::test]
async fn sentinels_lead_to_the_new_primary() {
    let mut primary = Server::start(&[]);
    let replica = Server::start(&["--replicaof", "127.0.0.1", &primary.port().to_string()]);
    replica.wait(|info| info.contains("master_link_status:up"), &["INFO", "replication"]);
    let directory = tempfile::tempdir().unwrap();
    let sentinels: Vec<Server> = (0..3)
        .map(|number| {
            let file = directory.path().join(format!("{number}.conf"));
            let text = format!(
                "sentinel monitor primary 127.0.0.1 {} 2\nsentinel down-after-milliseconds primary 300\n\
                 sentinel failover-timeout primary 3000\n",
                primary.port()
            );
            fs::write(&file, text).unwrap();
            Server::start_sentinel(&file)
        })
        .collect();
    for sentinel in &sentinels {
        let is_complete = |info: &str| info.contains("slaves=1") && info.contains("sentinels=3");
        sentinel.wait(is_complete, &["INFO", "sentinel"]);
    }
    let hosts: Vec<String> = sentinels.iter().map(|sentinel| format!("127.0.0.1:{}", sentinel.port())).collect();
    let url = format!("redis+sentinel://{}/primary", hosts.join(","));
    let store = open(&config::Store { acknowledge: replicated(2_500), ..config(&url) }).await.unwrap();
    assert_eq!(store.append(&[contract::floor(1, 1)]).await, Ok(Cursor(1)));
    assert_eq!(store.swap(&Key::Keys, None, b"sealed", None).await, Ok(Swapped::Done));
    let before = store.snapshot().await.unwrap();

    primary.stop();
    let after = eventually(async || store.snapshot().await).await;
    assert!(after.epoch > before.epoch);
    assert_eq!((after.head, after.floors), (before.head, before.floors));
    assert_eq!(store.load(&Key::Keys).await, Ok(Some(b"sealed".to_vec())));
    // One server is left, so no replica can confirm anything; without asking for one, writes go on.
    assert!(store.append(&[contract::floor(2, 1)]).await.is_err_and(|error| error.may_have_happened()));
    let alone = config::Store { accept: vec![Risk::AsynchronousReplication], ..config(&url) };
    let alone = open(&alone).await.unwrap();
    assert!(alone.append(&[contract::floor(3, 1)]).await.is_ok());
}

/// I2: six nodes that confirm each other's writes keep the contract. The one that holds the log dies right after a write was
/// acknowledged, and the replica that takes over has it; nothing more is acknowledged until that one has a replica too.
#[tokio::test]
async fn a_cluster_fails_over() {
    let arguments = ["--cluster-enabled", "yes", "--cluster-node-timeout", "1000"];
    let mut servers: Vec<Server> = (0..6).map(|_| Server::start(&arguments)).collect();
    let nodes: Vec<String> = servers.iter().map(|server| format!("127.0.0.1:{}", server.port())).collect();
    let nodes: Vec<&str> = nodes.iter().map(String::as_str).collect();
    let create = [&["--cluster", "create"], nodes.as_slice(), &["--cluster-replicas", "1", "--cluster-yes"]].concat();
    servers[0].cli(&create);
    for server in &servers {
        server.wait(|info| info.contains("cluster_state:ok") && info.contains("cluster_size:3"), &["CLUSTER", "INFO"]);
    }
    let confirming =
        config::Store { acknowledge: replicated(5_000), ..config(&format!("redis+cluster://{}", nodes.join(","))) };
    let store = eventually(async || open(&confirming).await).await;
    contract::check(&store).await;
    assert_eq!(store.confirm(Written::AfterFloors(&Key::Keys)).await, Ok(()));
    let waits = servers.iter().filter(|server| server.cli(&["INFO", "commandstats"]).contains("cmdstat_wait:"));
    assert_eq!(waits.count(), 3, "each primary was asked what its replica has");

    let before = store.snapshot().await.unwrap();
    let slot = servers[0].cli(&["CLUSTER", "KEYSLOT", "{portcullis:log}:head"]);
    let holds_log = |server: &Server| server.cli(&["CLUSTER", "COUNTKEYSINSLOT", slot.trim()]).trim() != "0";
    let is_primary = |server: &Server| server.cli(&["ROLE"]).starts_with("master");
    let holder = servers.iter().position(|server| is_primary(server) && holds_log(server)).unwrap();
    let next = Cursor(before.head.0 + 1);
    assert_eq!(store.append(&[contract::floor(2, 7)]).await, Ok(next));
    servers[holder].stop();
    let after = eventually(async || store.snapshot().await).await;
    assert!(after.epoch > before.epoch);
    assert_eq!(after.head, next);
    assert!(after.floors.contains(&contract::floor(2, 7)));
    servers[holder].restart();
    assert!(eventually(async || store.append(&[contract::floor(3, 7)]).await).await > next);
}
