//! A tenant of many subjects and a subject of many sessions: what the store is asked does not grow with them, and no key is
//! asked for by all of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    process::{Command as Program, Stdio},
    time::{Duration, Instant},
};

use super::{
    Service,
    faults::{claims, lives, origin, refresh, request},
    open::Opened,
    subjects::Command,
};
use crate::{
    config::{Store, StoreUrl},
    store::{AnyStore, test_server::Server},
};

/// Many, for a test. `cargo xtask bench origin` has a hundred thousand.
const MANY: usize = 300;

async fn open_store(url: String) -> AnyStore {
    AnyStore::open(&Store { url: StoreUrl::from(url), timeout_ms: 10_000, ..Store::default() }).await.unwrap()
}

/// Opens so many sessions of a tenant, each of a subject of its own.
async fn open_tenant(service: &Service, tenant: &str, subjects: usize) -> Vec<Opened> {
    let mut opened = Vec::new();
    for number in 0..subjects {
        opened.push(service.open(request(&format!("{tenant}-{number}"), tenant)).await.unwrap());
    }
    opened
}

/// Opens so many sessions of one subject.
async fn open_subject(service: &Service, subject: &str, sessions: usize) -> Vec<Opened> {
    let mut opened = Vec::new();
    for _ in 0..sessions {
        opened.push(service.open(request(subject, "others")).await.unwrap());
    }
    opened
}

/// What a server was asked to do, by command and key; how often.
type Asked = BTreeMap<(String, String), usize>;

/// Runs something while the server tells every command, those inside of scripts included.
async fn asked<T>(server: &Server, run: impl Future<Output = T>) -> (T, Asked) {
    let told = tempfile::NamedTempFile::new().unwrap();
    let mut monitor = Program::new("redis-cli")
        .args(["-p", &server.port().to_string(), "MONITOR"])
        .stdin(Stdio::null())
        .stdout(told.reopen().unwrap())
        .spawn()
        .unwrap();
    let wait_for = |text: &str| {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let lines = fs::read_to_string(told.path()).unwrap();
            if lines.contains(text) {
                return lines;
            }
            assert!(Instant::now() < deadline, "the monitor does not tell {text:?}");
        }
    };
    wait_for("OK");
    let done = run.await;
    server.cli(&["ECHO", "that was all"]);
    let lines = wait_for("that was all");
    monitor.kill().unwrap();
    monitor.wait().unwrap();
    let mut asked = Asked::new();
    for line in lines.lines() {
        let mut words = line.split('"').skip(1).step_by(2);
        let command = words.next().unwrap_or_default().to_uppercase();
        let keys = if command == "MGET" { usize::MAX } else { 1 };
        // What a script does is told by itself.
        for key in words.take(keys).filter(|key| key.contains("portcullis:")) {
            *asked.entry((command.clone(), key.to_owned())).or_default() += 1;
        }
    }
    (done, asked)
}

fn total(asked: &Asked) -> usize {
    asked.values().sum()
}

/// One floor ends a tenant or a subject, and the store is asked as often as for one of one session, for as many keys, none of
/// which is of a session.
#[tokio::test]
async fn ending_many_asks_the_store_what_ending_one_asks() {
    let server = Server::start(&[]);
    let store = open_store(server.url()).await;
    let service = origin(&store).await;
    // The scripts are loaded once.
    open_tenant(&service, "first", 1).await;
    service.revoke_tenant("first".parse().unwrap()).await.unwrap();

    let mut seen = Vec::new();
    for (name, count) in [("one", 1), ("many", MANY)] {
        let (of_tenant, of_subject) =
            (open_tenant(&service, name, count).await, open_subject(&service, &format!("lone-{name}"), count).await);
        let head = store.snapshot().await.unwrap().head.0;
        let before = store.round_trips();
        let (_, tenant) = asked(&server, service.revoke_tenant(name.parse().unwrap())).await;
        let between = store.round_trips();
        let subject = format!("lone-{name}").parse().unwrap();
        let (_, subject) = asked(&server, service.change_subject(subject, Command::RevokeSessions)).await;
        let round_trips = [between - before, store.round_trips() - between];
        assert_eq!(store.snapshot().await.unwrap().head.0, head + 2, "a floor each");
        for key in tenant.keys().chain(subject.keys()) {
            assert!(!key.1.contains(":session:"), "{key:?}");
        }
        seen.push((round_trips, [&tenant, &subject].map(total), [&tenant, &subject].map(BTreeMap::len)));
        for over in of_tenant.iter().chain(&of_subject).step_by(29) {
            assert!(claims(&service, &over.tokens.access_token).await.is_none());
            assert!(refresh(&service, &over.tokens.refresh_token).await.is_err());
        }
    }
    assert_eq!(seen[0], seen[1]);
    assert_eq!(seen[0].0, [3, 3], "load, append, swap");
    lives(&service, &service.open(request("many-1", "many")).await.unwrap().tokens).await;
}

#[tokio::test]
async fn ending_many_asks_the_embedded_store_three_times() {
    let directory = tempfile::tempdir().unwrap();
    let store = open_store(format!("embedded:{}", directory.path().join("store.db").display())).await;
    let service = origin(&store).await;
    for count in [1, MANY] {
        let of_tenant = open_tenant(&service, &format!("tenant-{count}"), count).await;
        open_subject(&service, &format!("subject-{count}"), count).await;
        let before = store.round_trips();
        service.revoke_tenant(format!("tenant-{count}").parse().unwrap()).await.unwrap();
        assert_eq!(store.round_trips() - before, 3);
        let before = store.round_trips();
        let subject = format!("subject-{count}").parse().unwrap();
        service.change_subject(subject, Command::RevokeSessions).await.unwrap();
        assert_eq!(store.round_trips() - before, 3);
        for over in of_tenant.iter().step_by(29) {
            assert!(refresh(&service, &over.tokens.refresh_token).await.is_err());
        }
    }
}

/// Sessions of one tenant share no key when they are refreshed; when they are opened, they share some that are read once by
/// each and not written.
#[tokio::test]
async fn sessions_of_one_tenant_write_no_key_in_common() {
    let server = Server::start(&[]);
    let service = origin(&open_store(server.url()).await).await;
    open_tenant(&service, "acme", 1).await;

    let (opened, asked_to_open) = asked(&server, open_tenant(&service, "acme", MANY)).await;
    let own = |key: &str| key.contains(":session:") || key.contains("{subject:");
    let shared: BTreeSet<_> = asked_to_open.iter().filter(|((_, key), _)| !own(key)).collect();
    let expected = ["portcullis:everyone", "portcullis:tenant:acme"].map(|key| ("MGET".to_owned(), key.to_owned()));
    assert_eq!(
        shared.iter().map(|(asked, count)| ((*asked).clone(), **count)).collect::<Vec<_>>(),
        expected.map(|asked| (asked, MANY))
    );
    let writes = asked_to_open.iter().filter(|((command, _), _)| command == "SET").map(|(_, count)| *count);
    assert!(writes.max().unwrap() <= 2, "a subject's record and the session in it");

    let refreshed = async {
        for opened in &opened {
            refresh(&service, &opened.tokens.refresh_token).await.unwrap();
        }
    };
    let ((), asked_to_refresh) = asked(&server, refreshed).await;
    let keys: BTreeSet<&str> = asked_to_refresh.keys().map(|(_, key)| key.as_str()).collect();
    assert_eq!(keys.len(), MANY);
    assert!(keys.iter().all(|key| key.contains(":session:")), "{keys:?}");
    assert!(asked_to_refresh.values().all(|count| *count <= 2), "{asked_to_refresh:?}");
}
