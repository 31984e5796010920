//! What operations cost in round trips to the store, and sessions in its memory, on the stores that are used.

use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, stream};

use super::{
    Service,
    faults::{origin, origin_with, refresh, request},
    open::OpenSession,
};
use crate::{
    cli::plan::RECORD_FIXED_BYTES,
    config::{Config, Risk, Store, StoreUrl},
    store::{AnyStore, Key, faulty::FaultyStore, test_server::Server},
};

async fn open(url: String) -> AnyStore {
    AnyStore::open(&Store { url: StoreUrl::from(url), timeout_ms: 10_000, ..Store::default() }).await.unwrap()
}

/// A refresh reads the record and writes it; a repeat only reads it. Subject and tenant are cached.
async fn a_refresh_takes_two_round_trips(store: &AnyStore) {
    let service = origin(store).await;
    let opened = service.open(request("alice", "acme")).await.unwrap();
    let mut token = opened.tokens.refresh_token;
    for _ in 0..3 {
        let before = store.round_trips();
        let next = refresh(&service, &token).await.unwrap().refresh_token;
        assert_eq!(store.round_trips() - before, 2, "a rotation");
        let before = store.round_trips();
        assert_eq!(refresh(&service, &token).await.unwrap().refresh_token, next);
        assert_eq!(store.round_trips() - before, 1, "a repeat");
        token = next;
    }
}

#[tokio::test]
async fn a_refresh_takes_two_round_trips_to_the_embedded_store() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(format!("embedded:{}", directory.path().join("store.db").display())).await;
    a_refresh_takes_two_round_trips(&store).await;
}

#[tokio::test]
async fn a_refresh_takes_two_round_trips_to_redis() {
    let server = Server::start(&[]);
    a_refresh_takes_two_round_trips(&open(server.url()).await).await;
}

/// An open reads subject, tenant and everyone, and writes the index and the record; a limit adds the reading and the writing of the roster; an eviction adds the
/// look at those on it, and the load, floor, end and list of the oldest.
#[tokio::test]
async fn a_limit_costs_two_round_trips_and_an_eviction_five_more() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(format!("embedded:{}", directory.path().join("store.db").display())).await;
    let open_costs = async |service: &Service| {
        let before = store.round_trips();
        service.open(request("alice", "acme")).await.unwrap();
        store.round_trips() - before
    };
    let free = origin(&store).await;
    open_costs(&free).await;
    assert_eq!(open_costs(&free).await, 3);

    let mut config = Config::default();
    config.sessions.concurrent_max = 4;
    let limited = origin_with(&store, &config).await;
    open_costs(&limited).await;
    assert_eq!(open_costs(&limited).await, 5);
    assert_eq!(open_costs(&limited).await, 10);
}

/// A record of ordinary content is small, and `portcullis plan` does not count it smaller than it is.
#[tokio::test]
async fn an_ordinary_record_has_at_most_160_bytes() {
    let store = AnyStore::new(FaultyStore::new());
    let ordinary = OpenSession {
        scope: Some("read write".to_owned()),
        acr: Some("aal2".to_owned()),
        amr: vec!["pwd".to_owned(), "otp".to_owned()],
        ..request("3f1c2b0e-9a55-4c7e-8a3e-8b0d6d6f2a11", "acme-corporation")
    };
    let names = 36 + 16 + "web".len() + "read write".len() + "aal2".len() + "pwdotp".len();
    let service = origin(&store).await;
    let mut tokens = service.open(ordinary).await.unwrap();
    for _ in 0..3 {
        tokens.tokens = refresh(&service, &tokens.tokens.refresh_token).await.unwrap();
    }
    let record = store.load(&Key::Session(tokens.session_id)).await.unwrap().unwrap();
    assert!(record.len() <= 160, "{} bytes", record.len());
    assert!(record.len() <= RECORD_FIXED_BYTES as usize + names, "{} bytes, {names} of them names", record.len());
}

/// Sessions per subject where memory is counted.
const PER_SUBJECT: u32 = 2;

/// The memory of an ordinary session with its share of its subject, and of the session alone, all in: of so many sessions
/// that the tables of keys are about as full as with a million.
#[tokio::test]
async fn an_ordinary_session_takes_at_most_390_bytes_of_redis_with_its_share_of_the_subject() {
    const SESSIONS: u32 = 5_000;
    let server = Server::start(&["--appendonly", "no"]);
    let url = StoreUrl::from(server.url());
    let config = Store { url, timeout_ms: 10_000, accept: vec![Risk::NoAppendOnlyFile], ..Store::default() };
    let service = origin(&AnyStore::open(&config).await.unwrap()).await;
    let (service, used) = (&service, || {
        let info = server.cli(&["INFO", "memory"]);
        let used = info.lines().find_map(|line| line.strip_prefix("used_memory:")).unwrap();
        used.trim().parse::<f64>().unwrap()
    });
    let open = async |number: u32| {
        let ordinary = OpenSession {
            roles: Some(vec!["member".parse().unwrap(), "editor".parse().unwrap()]),
            scope: Some("read write".to_owned()),
            amr: vec!["pwd".to_owned()],
            ..request(&format!("u_{:022}", number / PER_SUBJECT), "acme")
        };
        service.open(ordinary).await.unwrap();
    };
    open(0).await;
    let before = used();
    stream::iter(1..=SESSIONS).for_each_concurrent(16, open).await;
    // What the server holds for a moment, a table that it is just growing out of among it, goes by itself.
    let settles_at_most = |max: f64| {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let bytes = (used() - before) / f64::from(SESSIONS);
            if bytes <= max {
                return bytes;
            }
            assert!(Instant::now() < deadline, "{bytes} bytes a session, more than {max}");
        }
    };
    let with_share = settles_at_most(390.0);
    let forget = "for _, key in ipairs(redis.call('KEYS', ARGV[1])) do redis.call('DEL', key) end";
    server.cli(&["EVAL", forget, "0", "portcullis:{subject:*"]);
    let alone = settles_at_most(290.0);
    assert!(with_share - alone > 50.0, "{with_share} {alone}: there were subjects");
    println!("{with_share} bytes a session with its share, {alone} alone");
}
