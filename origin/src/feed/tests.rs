//! The feed over a store that loses things, with origins that follow it step by step.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Instant,
};

use axum::{Router, extract::State as Shared, http::StatusCode, routing::post};
use futures_util::StreamExt as _;
use shared::{
    feed::{Epoch, UnverifiedFrame},
    replica::{Accepted, Freshness, Replica},
    revocation::FLOORS_MAX,
    time::Timestamp,
};

mod overtaking;

use super::*;
use crate::{
    config::{Hub, secrets::MasterKey},
    keys::{Keys, Verifier},
    shell,
    store::{
        contract::floor,
        faulty::{Fault, FaultyStore},
    },
};

fn config() -> Config {
    let mut config = Config::default();
    config.feed.heartbeat_ms = 50;
    config
}

async fn feed(store: &FaultyStore) -> Arc<Feed> {
    let store = Arc::new(AnyStore::new(store.clone()));
    let keys = Keys::open(store.clone(), &MasterKey::new([7; 32]), &config(), shell::now()).await.unwrap();
    Feed::load(store, keys, &config()).await.unwrap()
}

/// As the service does it: append, then hold it in memory.
async fn raise(feed: &Feed, floor: Floor) {
    feed.store.append(&[floor]).await.unwrap();
    feed.learn(&[floor]).unwrap();
}

async fn follow(feed: &Feed) {
    feed.follow(Duration::ZERO).await.unwrap();
}

/// A replica takes in what the feed hands out; what the last frame did.
async fn sync(feed: &Feed, replica: &mut Replica) -> Accepted {
    let bytes = feed.frames_since(replica.position()).await.unwrap();
    take(feed, replica, &bytes)
}

fn take(feed: &Feed, replica: &mut Replica, mut bytes: &[u8]) -> Accepted {
    let keys = [feed.keys.current().feed().public_key().unwrap()];
    let mut accepted = Accepted::Known;
    while !bytes.is_empty() {
        let (frame, rest) = UnverifiedFrame::split(bytes).unwrap();
        accepted = replica.accept(&frame.verify(&Verifier, &keys).unwrap());
        bytes = rest;
    }
    accepted
}

fn holds(replica: &Replica, floor: Floor) -> bool {
    replica.floors().lowest(&floor.key) >= floor.lowest
}

/// I2, I4: a store that was emptied gets everything back, and a replica of the log before goes on in the new one.
#[tokio::test]
async fn an_emptied_store_gets_its_floors_back() {
    let store = FaultyStore::new();
    let (one, mut replica) = (feed(&store).await, Replica::new());
    raise(&one, floor(1, 5)).await;
    follow(&one).await;
    sync(&one, &mut replica).await;
    let before = replica.position().epoch;

    store.empty();
    follow(&one).await;
    assert_eq!(one.store.snapshot().await.unwrap().floors, [floor(1, 5)]);
    follow(&one).await;
    sync(&one, &mut replica).await;
    assert!(replica.position().epoch > before && holds(&replica, floor(1, 5)));
    assert!(holds(&replica, floor(1, 5)));
    // The twin: nothing is made up.
    assert_eq!(one.store.read_log(Cursor(0), 9).await.unwrap().head, Cursor(1));
}

/// The rejoin fails half-way: nothing is said about the other log until it is done.
#[tokio::test]
async fn a_rejoin_that_fails_is_repeated() {
    for fault in [Fault::Before, Fault::After] {
        let store = FaultyStore::new();
        let one = feed(&store).await;
        raise(&one, floor(1, 5)).await;
        follow(&one).await;
        let before = one.position();
        store.empty();
        store.arm(fault, 0);
        assert!(one.follow(Duration::ZERO).await.is_err());
        assert_eq!(one.position(), before);
        follow(&one).await;
        assert_eq!(one.store.snapshot().await.unwrap().floors, [floor(1, 5)]);
        assert!(one.position().epoch > before.epoch);
    }
}

/// I5: the log fell back, and other floors took the positions of those that were lost. A replica that stood there does not
/// pass over them.
#[tokio::test]
async fn a_log_that_fell_back_is_another_log() {
    let store = FaultyStore::new();
    let (one, other, mut replica) = (feed(&store).await, feed(&store).await, Replica::new());
    let backup = store.backup();
    raise(&one, floor(1, 5)).await;
    raise(&one, floor(2, 5)).await;
    follow(&one).await;
    sync(&one, &mut replica).await;

    store.restore(backup);
    raise(&other, floor(3, 5)).await;
    follow(&one).await;
    raise(&other, floor(4, 5)).await;
    follow(&one).await;
    sync(&one, &mut replica).await;
    assert!((1..=4).all(|scope| holds(&replica, floor(scope, 5))));
    assert_eq!(one.store.snapshot().await.unwrap().floors.len(), 4, "the store has them again");
    follow(&other).await;
    assert!((1..=4).all(|scope| other.lowest(&floor(scope, 5).key) == Version::new(5)));
}

/// A store that was put back from long ago has an older epoch; it gets one that replicas take for a newer log.
#[tokio::test]
async fn an_older_log_gets_a_newer_epoch() {
    let store = FaultyStore::new();
    let (one, mut replica) = (feed(&store).await, Replica::new());
    let backup = store.backup();
    store.empty();
    follow(&one).await;
    raise(&one, floor(1, 5)).await;
    follow(&one).await;
    sync(&one, &mut replica).await;
    store.restore(backup);
    follow(&one).await;
    follow(&one).await;
    raise(&one, floor(2, 5)).await;
    follow(&one).await;
    assert_ne!(sync(&one, &mut replica).await, Accepted::OtherEpoch);
    assert!(holds(&replica, floor(2, 5)));
}

/// I5: in another epoch nobody is told that everything is known before other origins had time to append what was lost.
#[tokio::test]
async fn freshness_waits_for_other_origins_after_a_loss() {
    let store = FaultyStore::new();
    let (one, other) = (feed(&store).await, feed(&store).await);
    // Acknowledged by the other origin, and lost before this one read it.
    raise(&other, floor(1, 5)).await;
    store.empty();
    let before = one.read().as_of;
    follow(&one).await;
    follow(&one).await;
    assert_eq!(one.read().as_of, before);
    follow(&other).await;
    let deadline = Instant::now() + Duration::from_secs(20);
    while one.read().as_of == before {
        assert!(Instant::now() < deadline, "freshness never moved again");
        tokio::time::sleep(Duration::from_millis(5)).await;
        follow(&one).await;
    }
    assert_eq!(one.lowest(&floor(1, 5).key), Version::new(5));
}

/// I1, I4, I5: the store's clock ran ahead by hours and is set back. No reading of before counts any more at origins and
/// replicas, nothing is claimed before other origins had time to append what may be lost, and then everything is known again.
#[tokio::test]
async fn a_clock_that_is_set_back_begins_another_log() {
    let (store, hours) = (FaultyStore::new(), Duration::from_secs(3 * 3_600));
    store.set_ahead(hours);
    let (one, other, mut replica) = (feed(&store).await, feed(&store).await, Replica::new());
    follow(&one).await;
    sync(&one, &mut replica).await;
    let before = one.position().epoch;
    let skew_max = config().feed.clock_skew_max();
    let is_fresh = |replica: &Replica| replica.freshness().is_within(Duration::from_secs(60), shell::now(), skew_max);
    assert!(!is_fresh(&replica), "it came from too far ahead");

    store.set_ahead(Duration::ZERO);
    raise(&other, floor(1, 5)).await;
    follow(&one).await;
    assert!(one.position().epoch > before);
    assert_eq!(one.read().as_of, Timestamp::EPOCH);
    follow(&other).await;
    assert_eq!(other.read().as_of, Timestamp::EPOCH, "its own reading of before is no better");
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_fresh(&replica) {
        assert!(Instant::now() < deadline, "{:?}", replica.freshness());
        tokio::time::sleep(Duration::from_millis(5)).await;
        follow(&one).await;
        sync(&one, &mut replica).await;
    }
    assert!(holds(&replica, floor(1, 5)));
    assert!(one.read().as_of <= shell::now());
    let begun = one.position().epoch;
    follow(&other).await;
    assert_eq!(other.position().epoch, begun, "one other log is enough");
}

/// The twin: a clock that is corrected within the skew begins nothing, and no reading goes back.
#[tokio::test]
async fn a_clock_that_is_corrected_within_the_skew_goes_on() {
    let store = FaultyStore::new();
    // Half of it, so that a test that is slow does not pass it.
    store.set_ahead(config().feed.clock_skew_max() / 2);
    let one = feed(&store).await;
    follow(&one).await;
    let (epoch, as_of) = (one.position().epoch, one.read().as_of);
    store.set_ahead(Duration::ZERO);
    follow(&one).await;
    assert_eq!(one.position().epoch, epoch);
    assert!(one.read().as_of >= as_of);
}

/// I5: the clock was set back while no origin ran, so only the hub knows of it.
#[tokio::test]
async fn a_hub_tells_that_the_clock_was_set_back() {
    for hours in [0, 3] {
        let store = FaultyStore::new();
        store.set_ahead(Duration::from_secs(hours * 3_600));
        let frames = feed(&store).await.snapshot_frames().await.unwrap();
        let fake = hub(Script { status: StatusCode::OK, answer: "", frames: (StatusCode::OK, frames) }).await;
        store.set_ahead(Duration::ZERO);
        let next = feed(&store).await;
        let before = next.position().epoch;
        rejoin(&next, &Config { hubs: vec![fake.hub], ..config() }).await.unwrap();
        follow(&next).await;
        assert_eq!(next.position().epoch > before, hours > 0, "{hours} h");
    }
}

/// I5: a floor that had no place is not forgotten over: freshness stays until everything was read anew.
#[tokio::test]
async fn a_full_set_stays_stale_until_there_is_room() {
    let store = FaultyStore::new();
    let one = feed(&store).await;
    let soon = Timestamp::from_secs(shell::now().as_secs());
    for number in 0..FLOORS_MAX as u128 {
        let key = FloorKey::from_bytes((number << 20).to_be_bytes());
        one.write().join(&[Floor { key, lowest: Version::new(2), forget_at: soon }]);
    }
    one.store.append(&[floor(1, 5)]).await.unwrap();
    let before = one.read().as_of;
    assert_eq!(one.follow(Duration::ZERO).await, Err(FeedError::Full));
    assert_eq!(one.follow(Duration::ZERO).await, Err(FeedError::Full), "the next read does not make it whole");
    assert_eq!(one.read().as_of, before);
    one.write().floors.prune(soon);
    follow(&one).await;
    assert_eq!(one.lowest(&floor(1, 5).key), Version::new(5));
    assert!(one.read().as_of > before);
}

/// I1: an origin whose clock runs ahead does not make the store forget floors that still count.
#[tokio::test]
async fn a_clock_that_runs_ahead_forgets_nothing() {
    let store = FaultyStore::new();
    let one = feed(&store).await;
    raise(&one, floor(1, 5)).await;
    follow(&one).await;
    one.forget(Timestamp::from_secs(4_100_000_000)).await.unwrap();
    assert_eq!(one.store.snapshot().await.unwrap().floors, [floor(1, 5)]);
    assert_eq!(one.lowest(&floor(1, 5).key), Version::new(5));
}

/// What a process appended itself is in its snapshots before the tail has read it, and is read once.
#[tokio::test]
async fn what_was_learned_ahead_of_the_tail_counts_once() {
    let store = FaultyStore::new();
    let (one, mut replica) = (feed(&store).await, Replica::new());
    raise(&one, floor(1, 5)).await;
    assert_eq!(sync(&one, &mut replica).await, Accepted::Advanced);
    assert!(holds(&replica, floor(1, 5)));
    assert_eq!(replica.position().cursor, Cursor(0), "it vouches for what the tail has read");
    follow(&one).await;
    sync(&one, &mut replica).await;
    assert_eq!(replica.position().cursor, Cursor(1));
}

/// Two readers of the log at once take in every entry once, in order.
#[tokio::test]
async fn two_readers_do_not_take_an_entry_twice() {
    let store = FaultyStore::new();
    let (one, other) = (feed(&store).await, feed(&store).await);
    for version in 1..=50 {
        raise(&other, floor(1, version)).await;
        let (a, b) = tokio::join!(one.follow(Duration::ZERO), one.follow(Duration::ZERO));
        assert_eq!((a, b), (Ok(()), Ok(())));
    }
    let mut replica = Replica::new();
    sync(&other, &mut replica).await;
    assert_eq!(sync(&one, &mut replica).await, Accepted::Advanced);
    assert_eq!(replica.position().cursor, Cursor(50));
}

/// A hub that answers as it is told to, and counts what it is sent.
struct FakeHub {
    hub: Hub,
    posts: Arc<AtomicUsize>,
}

/// What the hub answers to frames, and what it shows of those it holds.
#[derive(Clone)]
struct Script {
    status: StatusCode,
    answer: &'static str,
    frames: (StatusCode, Vec<u8>),
}

async fn hub(script: Script) -> FakeHub {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let hub = Hub { name: "test".to_owned(), url: format!("http://{}/frames", listener.local_addr().unwrap()) };
    let posts = Arc::new(AtomicUsize::new(0));
    let take = |Shared((script, posts)): Shared<(Script, Arc<AtomicUsize>)>| async move {
        posts.fetch_add(1, Ordering::Relaxed);
        (script.status, script.answer)
    };
    let show = |Shared((script, _)): Shared<(Script, Arc<AtomicUsize>)>| async move { script.frames };
    let router = Router::new().route("/frames", post(take).get(show)).with_state((script, posts.clone()));
    tokio::spawn(async move { axum::serve(listener, router).await });
    FakeHub { hub, posts }
}

/// A hub that answers nonsense is backed off from, whatever the nonsense, and never flooded.
#[tokio::test]
async fn a_hub_that_answers_garbage_is_not_flooded() {
    let stuck = r#"{"epoch":"1","cursor":"0","keys":"0"}"#;
    for (status, answer) in [
        (StatusCode::OK, stuck),
        (StatusCode::CONFLICT, stuck),
        (StatusCode::OK, r#"{"epoch":"9","cursor":"0","keys":"0"}"#),
        (StatusCode::OK, "<html>"),
        (StatusCode::OK, r#"{"epoch":1,"cursor":0,"keys":0}"#),
        (StatusCode::BAD_GATEWAY, ""),
    ] {
        let store = FaultyStore::new();
        let one = feed(&store).await;
        raise(&one, floor(1, 5)).await;
        follow(&one).await;
        let fake = hub(Script { status, answer, frames: (StatusCode::OK, b"garbage".to_vec()) }).await;
        let failed = push::failures(fake.hub.clone(), one, client(&config()).unwrap(), 6).await;
        assert!(failed >= 3, "{status} {answer}: {failed} of 6 pushes counted as failures");
        assert!(fake.posts.load(Ordering::Relaxed) <= 6);
    }
}

/// The store was emptied while no origin ran: what the hub holds comes back before anything is pushed, so that neither store
/// nor hub ever says that nothing is revoked.
#[tokio::test]
async fn floors_come_back_from_a_hub() {
    let store = FaultyStore::new();
    let one = feed(&store).await;
    raise(&one, floor(1, 5)).await;
    follow(&one).await;
    let frames = one.snapshot_frames().await.unwrap();
    let sealed = store.backup();
    let fake = hub(Script { status: StatusCode::OK, answer: "", frames: (StatusCode::OK, frames.clone()) }).await;
    let config = Config { hubs: vec![fake.hub.clone()], ..config() };

    for lost in ["emptied", "fell back"] {
        store.restore(sealed.clone());
        store.lose_log(if lost == "emptied" { Epoch(2) } else { Epoch(1) });
        let next = feed(&store).await;
        assert_eq!(next.lowest(&floor(1, 5).key), Version::NONE, "{lost}");
        rejoin(&next, &config).await.unwrap();
        follow(&next).await;
        assert_eq!(next.lowest(&floor(1, 5).key), Version::new(5), "{lost}");
        assert_eq!(next.store.snapshot().await.unwrap().floors, [floor(1, 5)], "{lost}");
        let mut replica = Replica::new();
        take(&next, &mut replica, &frames);
        sync(&next, &mut replica).await;
        assert!(replica.position().epoch >= Epoch(2), "{lost}: positions of before mean nothing any more");
        assert!(matches!(replica.freshness(), Freshness::AsOf(_)));
    }
}

/// I1: a slow line delays what the store lost, and does not keep it away: before a push the hub is heard out.
#[tokio::test]
async fn floors_come_back_over_a_slow_line() {
    let store = FaultyStore::new();
    let one = feed(&store).await;
    raise(&one, floor(1, 5)).await;
    follow(&one).await;
    let frames = one.snapshot_frames().await.unwrap();
    store.lose_log(Epoch(2));
    let next = feed(&store).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let hub = Hub { name: "slow".to_owned(), url: format!("http://{}/frames", listener.local_addr().unwrap()) };
    let show = move || {
        let pieces: Vec<Vec<u8>> = frames.chunks(frames.len().div_ceil(12)).map(<[u8]>::to_vec).collect();
        let pieces = futures_util::stream::iter(pieces).then(|piece| async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            Ok::<_, std::convert::Infallible>(piece)
        });
        std::future::ready(axum::body::Body::from_stream(pieces))
    };
    let stands = r#"{"epoch":"1","cursor":"1","keys":"0","policy":"0"}"#;
    let router = Router::new().route("/frames", post(async move || stands).get(show));
    tokio::spawn(async move { axum::serve(listener, router).await });
    let mut config = Config { hubs: vec![hub.clone()], ..config() };
    config.feed.push_timeout_ms = 600;

    rejoin(&next, &config).await.unwrap();
    assert_eq!(next.store.snapshot().await.unwrap().floors, [], "an origin that starts does not wait that long");
    push::failures(hub, Arc::clone(&next), client(&config).unwrap(), 2).await;
    assert_eq!(next.store.snapshot().await.unwrap().floors, [floor(1, 5)]);
}

/// The twin: frames that our key did not sign bring nothing, and a hub that is not there is passed over.
#[tokio::test]
async fn a_hub_without_good_frames_brings_nothing() {
    let store = FaultyStore::new();
    let one = feed(&store).await;
    raise(&one, floor(1, 5)).await;
    let mut frames = one.snapshot_frames().await.unwrap();
    let last = frames.len() - 1;
    frames[last] ^= 1;
    store.lose_log(Epoch(2));
    let next = feed(&store).await;
    for shown in [(StatusCode::OK, frames), (StatusCode::NOT_FOUND, vec![]), (StatusCode::OK, b"<html>".to_vec())] {
        let fake = hub(Script { status: StatusCode::OK, answer: "", frames: shown }).await;
        rejoin(&next, &Config { hubs: vec![fake.hub], ..config() }).await.unwrap();
    }
    let gone = Hub { name: "gone".to_owned(), url: "http://127.0.0.1:1/frames".to_owned() };
    rejoin(&next, &Config { hubs: vec![gone], ..config() }).await.unwrap();
    assert_eq!(next.store.snapshot().await.unwrap().floors, []);
}
