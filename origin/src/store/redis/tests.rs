use std::time::Duration;

use super::{
    test_server::{Server, cluster},
    *,
};
use crate::{
    config::{Level, Risk},
    store::contract,
};

/// A cluster has no servers that are asked to confirm.
pub(super) fn cluster_config(url: &str) -> config::Store {
    config::Store { accept: vec![Risk::AsynchronousReplication], ..config(url) }
}

/// Every write is confirmed by one replica within so many milliseconds.
pub(super) fn replicated(timeout_ms: u64) -> Acknowledge {
    let level = Level::Replicated(1);
    Acknowledge { floors: level, sessions: level, records: level, timeout_ms }
}

/// A server and one that follows it. What the second keeps on its disk is not looked at, and a disk that is slow would hold
/// up what it confirms.
fn with_replica() -> (Server, Server) {
    let primary = Server::start(&[]);
    let of = ["--replicaof", "127.0.0.1", &primary.port().to_string(), "--appendonly", "no"];
    let replica = Server::start(&of);
    replica.wait(|info| info.contains("master_link_status:up"), &["INFO", "replication"]);
    (primary, replica)
}

/// A store that is given time, on a machine that may be busy.
pub(super) fn config(url: &str) -> config::Store {
    config::Store { url: url.to_owned().into(), timeout_ms: 5_000, ..config::Store::default() }
}

#[tokio::test]
async fn one_server_keeps_the_contract() {
    let server = Server::start(&[]);
    contract::check(&open(&config(&server.url())).await.unwrap()).await;
}

/// I11: where a subject has no record, its sessions have a lifetime; with it, those that are over go when another comes, or
/// at a sweep. No key stays for a subject of which nothing is left.
#[tokio::test]
async fn sessions_that_are_over_leave_nothing_behind() {
    let server = Server::start(&[]);
    let store = open(&config(&server.url())).await.unwrap();
    let size = |key: &str| server.cli(&["STRLEN", key]).trim().parse::<usize>().unwrap();
    let lifetime = |key: &str| server.cli(&["PTTL", key]).trim().parse::<i64>().unwrap();
    let id = |byte: u8| SessionId::from_random([byte; 16]);
    let soon = crate::shell::now().saturating_add(Duration::from_millis(500));
    let hour = crate::shell::now().saturating_add(Duration::from_secs(3_600));
    let subjects = ["alice", "bob", "carol"].map(|name| name.parse::<SubjectId>().unwrap());
    let [alice, bob, _] = &subjects;
    let [of_alice, of_bob, of_carol] = subjects.each_ref().map(names::subject);

    for subject in [alice, bob] {
        store.swap(&Key::Subject(subject.clone()), None, b"record", None).await.unwrap();
    }
    let bare = size(&of_alice);
    for subject in &subjects {
        store.index_add(subject, &id(1), soon).await.unwrap();
    }
    assert_eq!((lifetime(&of_alice), lifetime(&of_bob)), (-1, -1));
    assert!((1..=60_500).contains(&lifetime(&of_carol)), "{}", lifetime(&of_carol));
    let longer = size(&of_alice);
    assert!(longer > bare);

    let deadline = Instant::now() + Duration::from_secs(30);
    while !store.index_list(alice, None, 1).await.unwrap().is_empty() {
        assert!(Instant::now() < deadline);
    }
    store.index_add(bob, &id(2), hour).await.unwrap();
    assert_eq!(size(&of_bob), longer, "the one in the place of the other");
    while size(&of_alice) != bare || size(&of_carol) != 0 {
        assert!(Instant::now() < deadline, "the sweep does not find them");
        store.trim(crate::shell::now()).await.unwrap();
    }
    assert_eq!(store.index_list(bob, None, 9).await.unwrap(), [Indexed { expires_at: hour, session: id(2) }]);
    assert_eq!(store.load(&Key::Subject(alice.clone())).await, Ok(Some(b"record".to_vec())));
}

/// I8, I11: a subject of a thousand sessions stays a small value, whose neighbour has a lifetime; it is gone with the last
/// of them.
#[tokio::test]
async fn a_subject_of_many_sessions_has_them_elsewhere() {
    let server = Server::start(&[]);
    let store = open(&config(&server.url())).await.unwrap();
    let hour = crate::shell::now().saturating_add(Duration::from_secs(3_600));
    let alice: SubjectId = "alice".parse().unwrap();
    let (value, more) = (names::subject(&alice), names::more_sessions(&alice));
    let ids: Vec<_> = (0_u128..1_000).map(|number| SessionId::from_random(number.to_be_bytes())).collect();
    store.swap(&Key::Subject(alice.clone()), None, b"record", None).await.unwrap();
    for id in &ids {
        store.index_add(&alice, id, hour).await.unwrap();
    }
    let size = server.cli(&["STRLEN", &value]).trim().parse::<usize>().unwrap();
    assert_eq!(size, 1 + subject::NOTED_MAX * 22 + b"record".len());
    let lifetime = server.cli(&["PTTL", &more]).trim().parse::<i64>().unwrap();
    assert!((3_000_000..=3_660_000).contains(&lifetime), "{lifetime}");
    let mut listed: Vec<_> = store.index_list(&alice, None, 2_000).await.unwrap();
    listed.sort_unstable_by_key(|entry| entry.session);
    assert_eq!(listed.iter().map(|entry| entry.session).collect::<Vec<_>>(), ids);

    // One that stands elsewhere goes at a sweep when its time is over, though nobody comes or goes.
    let soon = crate::shell::now().saturating_add(Duration::from_millis(300));
    store.index_add(&alice, &SessionId::from_random([9; 16]), soon).await.unwrap();
    let others = (ids.len() - subject::NOTED_MAX).to_string();
    let deadline = Instant::now() + Duration::from_secs(30);
    while server.cli(&["ZCARD", &more]).trim() != others {
        assert!(Instant::now() < deadline, "the sweep does not find it");
        store.trim(crate::shell::now()).await.unwrap();
    }

    // One that stands elsewhere, noted once more when there is a place, stands in one place.
    store.index_remove(&alice, &ids[0]).await.unwrap();
    store.index_add(&alice, &ids[999], hour).await.unwrap();
    assert_eq!(store.index_list(&alice, None, 2_000).await.unwrap().len(), 999);
    for id in &ids {
        store.index_remove(&alice, id).await.unwrap();
    }
    assert_eq!(server.cli(&["EXISTS", &more]).trim(), "0");
    assert_eq!(store.load(&Key::Subject(alice.clone())).await, Ok(Some(b"record".to_vec())));
}

/// A value that this form is not the form of is told, and left as it is.
#[tokio::test]
async fn a_subject_of_another_form_is_refused() {
    let server = Server::start(&[]);
    let store = open(&config(&server.url())).await.unwrap();
    let alice: SubjectId = "alice".parse().unwrap();
    let (key, id) = (Key::Subject(alice.clone()), SessionId::from_random([1; 16]));
    server.cli(&["SET", &names::subject(&alice), "old"]);
    let refused = StoreError::Corrupt("a subject of another form");
    let hour = crate::shell::now().saturating_add(Duration::from_secs(3_600));
    assert_eq!(store.load(&key).await, Err(refused.clone()));
    assert_eq!(store.swap(&key, None, b"new", None).await, Err(refused.clone()));
    assert_eq!(store.index_add(&alice, &id, hour).await, Err(refused.clone()));
    assert_eq!(store.index_remove(&alice, &id).await, Err(refused.clone()));
    assert_eq!(store.index_list(&alice, None, 1).await, Err(refused));
    assert_eq!(server.cli(&["GET", &names::subject(&alice)]).trim(), "old");
}

#[tokio::test]
async fn a_cluster_keeps_the_contract() {
    let (_servers, urls) = cluster();
    contract::check(&open(&cluster_config(&urls)).await.unwrap()).await;
}

/// SES-18, I2: a server that may lose what it acknowledged is refused by the name of the risk, and used if that is accepted.
#[tokio::test]
async fn a_server_that_may_lose_writes_is_refused_unless_that_is_accepted() {
    for (arguments, risk) in [
        (["--maxmemory-policy", "allkeys-lru"], Risk::EvictingPolicy),
        (["--appendonly", "no"], Risk::NoAppendOnlyFile),
        (["--appendfsync", "everysec"], Risk::FsyncEverysec),
        (["--appendfsync", "no"], Risk::NoFsync),
        (["--no-appendfsync-on-rewrite", "yes"], Risk::NoFsyncOnRewrite),
    ] {
        let server = Server::start(&arguments);
        let refused = open(&config(&server.url())).await.err();
        assert!(matches!(&refused, Some(StoreError::Unsuitable(text)) if text.contains(risk.name())), "{refused:?}");
        let accepted = config::Store { accept: vec![risk], ..config(&server.url()) };
        assert_eq!(open(&accepted).await.unwrap().ping().await, Ok(()));
    }
}

/// SES-18, I2: a server with a replica that is not asked may fail over to one that knows less.
#[tokio::test]
async fn a_replica_that_is_not_asked_is_a_risk() {
    let (primary, _replica) = with_replica();
    let refused = open(&config(&primary.url())).await.err();
    let name = Risk::AsynchronousReplication.name();
    assert!(matches!(&refused, Some(StoreError::Unsuitable(text)) if text.contains(name)), "{refused:?}");
    let asked = open(&config::Store { acknowledge: replicated(5_000), ..config(&primary.url()) }).await.unwrap();
    assert_eq!(asked.append(&[contract::floor(1, 1)]).await, Ok(Cursor(1)));
}

/// I6: a write that no replica confirmed is not acknowledged, and says that it may have happened.
#[tokio::test]
async fn a_write_without_its_replicas_is_not_acknowledged() {
    let server = Server::start(&[]);
    let store = open(&config::Store { acknowledge: replicated(300), ..config(&server.url()) }).await.unwrap();
    let refused = store.append(&[contract::floor(1, 1)]).await;
    assert!(refused.is_err_and(|error| error.may_have_happened()));
}

/// I2, I6: while the replica does not answer, writes that it must confirm are unknown after their deadline, other writes and
/// reads go on beside them; when it answers again the same writes are acknowledged.
#[tokio::test]
async fn a_replica_that_hangs_holds_up_the_writes_that_it_must_confirm_and_nothing_else() {
    let (primary, replica) = with_replica();
    let acknowledge = Acknowledge { sessions: Level::Local, records: Level::Local, ..replicated(1_500) };
    let accept = vec![Risk::AsynchronousReplication];
    let store = open(&config::Store { acknowledge, accept, ..config(&primary.url()) }).await.unwrap();
    assert_eq!(store.append(&[contract::floor(1, 1)]).await, Ok(Cursor(1)));

    replica.pause();
    let raised = [contract::floor(1, 2)];
    let append = store.append(&raised);
    tokio::pin!(append);
    let others = async {
        for _ in 0..20 {
            assert_eq!(store.load(&Key::Everyone).await, Ok(None));
        }
        store.swap(&Key::Keys, None, b"sealed", None).await
    };
    tokio::select! {
        biased;
        appended = &mut append => panic!("it was not confirmed within its deadline: {appended:?}"),
        others = others => assert_eq!(others, Ok(Swapped::Done)),
    }
    let is_unknown = |error: StoreError| error.may_have_happened();
    assert!(append.await.is_err_and(is_unknown));
    assert_eq!(store.confirm(Written::Record(&Key::Keys)).await, Ok(()));
    let with_floors = store.confirm(Written::AfterFloors(&Key::Keys)).await;
    assert!(with_floors.is_err_and(is_unknown), "the floors that led the record are not confirmed");

    replica.resume();
    assert_eq!(store.append(&[contract::floor(1, 2)]).await, Ok(Cursor(3)));
    assert_eq!(store.confirm(Written::AfterFloors(&Key::Keys)).await, Ok(()));
}

/// I2: a hundred writes at once that a replica must confirm take about as long as one, not a hundred times.
#[tokio::test]
async fn writes_at_once_are_confirmed_together() {
    let (primary, _replica) = with_replica();
    let store = open(&config::Store { acknowledge: replicated(5_000), ..config(&primary.url()) }).await.unwrap();
    let floors: Vec<_> = (0..100).map(|number| [contract::floor(number, 1)]).collect();
    let appended = futures_util::future::join_all(floors.iter().map(|floor| store.append(floor))).await;
    assert!(appended.iter().all(Result::is_ok), "{appended:?}");
    let stats = primary.cli(&["INFO", "commandstats"]);
    let waits = stats.split("cmdstat_wait:calls=").nth(1).and_then(|rest| rest.split(',').next()).unwrap();
    assert!(waits.parse::<u32>().unwrap() <= 50, "{waits} waits for 100 writes");
}

/// What a doctor sees of a server and of a cluster: every check, at each primary.
#[tokio::test]
async fn a_doctor_sees_every_primary() {
    let server = Server::start(&[]);
    let report = examine(&config(&server.url()), Duration::from_secs(2)).await.unwrap();
    let checks: Vec<_> = report.findings.iter().map(|finding| finding.check).collect();
    let one =
        ["maxmemory-policy", "appendonly", "appendfsync", "replicas", "version", "memory", "persistence", "clock"];
    assert_eq!(checks, [one.as_slice(), &["latency"]].concat());
    assert!(report.findings.iter().all(|finding| finding.risk.is_none() && finding.node.is_none()), "{report:?}");

    let (servers, urls) = cluster();
    let report = examine(&cluster_config(&urls), Duration::from_secs(2)).await.unwrap();
    for server in &servers {
        let node = format!("127.0.0.1:{}", server.port());
        let findings = report.findings.iter().filter(|finding| finding.node.as_deref() == Some(&node));
        assert_eq!(findings.map(|finding| finding.check).collect::<Vec<_>>(), checks, "{report:?}");
    }
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
