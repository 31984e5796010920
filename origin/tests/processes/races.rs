//! Twenty refreshes of one token at once, over two origins on one Redis, while the origins are ended at random failpoints.
//!
//! `PORTCULLIS_RACE_SESSIONS` says of how many sessions, and `PORTCULLIS_RACE_SEED` repeats a run; `cargo xtask races`
//! takes 1,000 sessions.

use std::{
    env,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use futures_util::future::join_all;
use portcullis_origin::failpoints;
use reqwest::{Client, Method};
use serde_json::{Value, json};

use crate::{
    origin::{MANAGEMENT_KEY, Origin, lasting_port},
    redis::Redis,
    restart::{PATIENCE, acknowledge, becomes_ready},
};

/// Refreshes of one token at the same time.
const PARALLEL: usize = 20;

/// Sessions at the same time.
const SESSIONS_CONCURRENT: usize = 4;

/// A process passes its failpoint less often than this before it is ended there. Most are passed once in two sessions.
const PASSES_END: u64 = 6;

/// The state of SplitMix64 (Steele, Lea, Flood 2014).
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }

    fn failpoint(&mut self) -> String {
        let name = failpoints::ALL[usize::try_from(self.below(failpoints::ALL.len() as u64)).unwrap()];
        format!("{name}={}*off->return", self.below(PASSES_END))
    }
}

/// An origin that ends at one failpoint after the other, and is started again at once.
struct Victim {
    address: String,
    stop: Arc<AtomicBool>,
    ends: Arc<AtomicUsize>,
    thread: JoinHandle<Vec<String>>,
}

impl Victim {
    fn start(store: &str, mut random: Random) -> Self {
        let (stop, ends) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (address, store) = (format!("127.0.0.1:{}", lasting_port()), store.to_owned());
        let (listen, stopped, counted) = (address.clone(), Arc::clone(&stop), Arc::clone(&ends));
        let mut start = move || {
            let point = random.failpoint();
            Origin::start(&store, &[("FAILPOINTS", &point), ("PORTCULLIS_SERVER__LISTEN", &listen)])
        };
        let mut origin = start();
        let thread = thread::spawn(move || {
            let mut log = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                if origin.has_ended() {
                    counted.fetch_add(1, Ordering::Relaxed);
                    log.extend(std::mem::replace(&mut origin, start()).into_last_log());
                }
                thread::sleep(Duration::from_millis(2));
            }
            log.extend(origin.into_last_log());
            log
        });
        Self { address, stop, ends, thread }
    }

    /// Ends it; what it logged in all its lives.
    fn finish(self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// Opens a session and refreshes it twenty times at once; the session, and the one successor of its token.
async fn race(client: &Client, addresses: &[String; 2], number: usize) -> (String, Value) {
    let done = AtomicUsize::new(0);
    let body = json!({ "subject": format!("subject-{number}"), "client_id": "web" });
    let open = || client.post(format!("http://{}/v1/sessions", addresses[number % 2]));
    let opened = acknowledge(|| open().bearer_auth(MANAGEMENT_KEY).json(&body), &done).await;
    let token = opened["refresh_token"].as_str().unwrap();
    let form = [("grant_type", "refresh_token"), ("refresh_token", token), ("client_id", "web")];
    let refresh = |address: &String| client.post(format!("http://{address}/oauth2/token")).form(&form);
    let calls = addresses.iter().cycle().take(PARALLEL);
    let answers = join_all(calls.map(|address| acknowledge(move || refresh(address), &done))).await;
    let successor = &answers[0]["refresh_token"];
    assert!(successor.is_string() && *successor != opened["refresh_token"]);
    assert!(answers.iter().all(|answer| answer["refresh_token"] == *successor), "{answers:?}");
    (opened["session_id"].as_str().unwrap().to_owned(), successor.clone())
}

fn number_of(variable: &str) -> Option<u64> {
    env::var(variable).ok().map(|text| text.parse().unwrap())
}

/// REF-05, I2, I3: every answer that comes at last carries the same successor, every session is at that one generation,
/// and nobody is accused.
#[tokio::test(flavor = "multi_thread")]
async fn refreshes_of_one_token_get_one_successor_while_origins_are_ended_at_failpoints() {
    let sessions = usize::try_from(number_of("PORTCULLIS_RACE_SESSIONS").unwrap_or(40)).unwrap();
    let now = || u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos()).unwrap();
    let seed = number_of("PORTCULLIS_RACE_SEED").unwrap_or_else(now);
    println!("PORTCULLIS_RACE_SEED={seed}");
    let redis = Redis::start();
    let victims = [seed, !seed].map(|seed| Victim::start(&redis.url(), Random(seed)));
    let addresses = [victims[0].address.clone(), victims[1].address.clone()];
    let client = Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();

    let next = AtomicUsize::new(0);
    let work = async || {
        let mut raced = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= sessions {
                return raced;
            }
            raced.push(race(&client, &addresses, number).await);
        }
    };
    let raced = join_all((0..SESSIONS_CONCURRENT).map(|_| work())).await.concat();
    let ends = victims.each_ref().map(|victim| victim.ends.load(Ordering::Relaxed));
    println!("{sessions} sessions; the origins ended {ends:?} times");
    assert!(ends.iter().all(|ends| *ends > 0));
    let log = victims.map(Victim::finish).concat();
    assert!(!log.iter().any(|line| line.contains("authn_token_reuse")));

    let origin = Origin::start(&redis.url(), &[]);
    becomes_ready(&origin).await;
    for (id, successor) in &raced {
        let (_, shown) = origin.manage(Method::GET, &format!("/v1/sessions/{id}"), &json!({})).await;
        assert_eq!((&shown["state"], &shown["generation"]), (&json!("open"), &json!(1)), "{shown}");
        assert_eq!(origin.refresh(successor).await.0, 200, "the successor is the live generation");
    }
}
