//! Origin and store stop and start again under load, in every way in which processes end. Everything recovers by itself.
//!
//! Clients do what well-behaved ones do: they repeat a command that was not answered, or answered 503. Of what was
//! acknowledged nothing is lost (I2), no repeat raises an alarm (I3), and no answer but 503 tells of the trouble (I7).

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};

use crate::{
    origin::{MANAGEMENT_KEY, Origin, embedded, lasting_port},
    redis::Redis,
};

/// How long a client repeats a command.
pub(crate) const PATIENCE: Duration = Duration::from_secs(25);

/// How often the embedded store loses its process: about 20 s of test on a busy machine. `PORTCULLIS_KILLS` asks for more.
const KILLS: usize = 60;

/// The clients that work at the same time.
const CLIENTS: usize = 4;

/// What a client knows of a session in the end.
struct Known {
    id: String,
    refresh_token: Value,
    ended: bool,
}

/// Clients that open, refresh and end sessions until they are told to stop.
struct Load {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicUsize>,
    clients: Vec<tokio::task::JoinHandle<Vec<Known>>>,
}

impl Load {
    fn start(address: &str) -> Self {
        let (stop, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let work = |number| work(number, address.to_owned(), stop.clone(), acknowledged.clone());
        let clients = (0..CLIENTS).map(|number| tokio::spawn(work(number))).collect();
        Self { stop, acknowledged, clients }
    }

    /// Waits until that many more commands were acknowledged.
    async fn goes_on(&self, more: usize) {
        let (wanted, started) = (self.acknowledged.load(Ordering::Relaxed) + more, Instant::now());
        while self.acknowledged.load(Ordering::Relaxed) < wanted {
            assert!(started.elapsed() < PATIENCE, "the load came to a halt");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn finish(self) -> Vec<Known> {
        self.stop.store(true, Ordering::Relaxed);
        let mut known = Vec::new();
        for client in self.clients {
            known.extend(client.await.unwrap());
        }
        known
    }
}

async fn work(number: usize, address: String, stop: Arc<AtomicBool>, acknowledged: Arc<AtomicUsize>) -> Vec<Known> {
    let client = Client::builder().no_proxy().timeout(Duration::from_secs(5)).build().unwrap();
    let at = |path: &str| format!("http://{address}{path}");
    let manage =
        |path: &str, body: &Value| client.request(Method::POST, at(path)).bearer_auth(MANAGEMENT_KEY).json(body);
    let open = json!({ "subject": format!("user-{number}"), "client_id": "web", "tenant": "acme" });
    let mut known = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let opened = acknowledge(|| manage("/v1/sessions", &open), &acknowledged).await;
        let mut refresh_token = opened["refresh_token"].clone();
        for _ in 0..2 {
            let token = refresh_token.as_str().unwrap().to_owned();
            let form = [("grant_type", "refresh_token"), ("refresh_token", &token), ("client_id", "web")];
            let renewed = acknowledge(|| client.post(at("/oauth2/token")).form(&form), &acknowledged).await;
            refresh_token = renewed["refresh_token"].clone();
        }
        let (id, ended) = (opened["session_id"].as_str().unwrap().to_owned(), known.len() % 2 == 0);
        if ended {
            acknowledge(|| manage(&format!("/v1/sessions/{id}/revoke"), &json!({})), &acknowledged).await;
        }
        known.push(Known { id, refresh_token, ended });
    }
    known
}

/// Repeats a command until it is acknowledged. Any answer but success and 503 with `Retry-After` is a failure.
pub(crate) async fn acknowledge(command: impl Fn() -> RequestBuilder, acknowledged: &AtomicUsize) -> Value {
    let started = Instant::now();
    loop {
        if let Ok(response) = command().send().await {
            let (status, retry_after) = (response.status(), response.headers().contains_key("retry-after"));
            // An answer that breaks off was none.
            if let Ok(body) = response.bytes().await {
                if status.is_success() {
                    acknowledged.fetch_add(1, Ordering::Relaxed);
                    return serde_json::from_slice(&body).unwrap();
                }
                let said = String::from_utf8_lossy(&body).into_owned();
                assert!(status == StatusCode::SERVICE_UNAVAILABLE && retry_after, "{status} {said}");
            }
        }
        assert!(started.elapsed() < PATIENCE, "a command was not acknowledged in time");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn check(origin: &Origin, known: &[Known]) {
    assert!(known.iter().any(|known| known.ended) && known.iter().any(|known| !known.ended));
    for Known { id, refresh_token, ended } in known {
        let (_, shown) = origin.manage(Method::GET, &format!("/v1/sessions/{id}"), &json!({})).await;
        let expected = if *ended { (json!("ended"), json!("revoked")) } else { (json!("open"), Value::Null) };
        assert_eq!((&shown["state"], &shown["reason"]), (&expected.0, &expected.1), "{shown}");
        let (status, renewed) = origin.refresh(refresh_token).await;
        assert_eq!(status, if *ended { 400 } else { 200 }, "{renewed}");
    }
}

pub(crate) async fn becomes_ready(origin: &Origin) {
    let started = Instant::now();
    while origin.get("/readyz").send().await.map(|response| response.status().as_u16()).ok() != Some(200) {
        assert!(started.elapsed() < PATIENCE, "the origin did not become ready again");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

enum End {
    Terminate,
    Kill,
}

/// `progress` says how many commands are acknowledged before the end with this number. How many were in all.
async fn an_origin_that_ends(end: End, times: usize, progress: impl Fn(usize) -> usize) -> usize {
    let directory = tempfile::tempdir().unwrap();
    let store = embedded(directory.path());
    let address = format!("127.0.0.1:{}", lasting_port());
    let mut origin = Origin::start(&store, &[("PORTCULLIS_SERVER__LISTEN", &address)]);
    let load = Load::start(&address);
    for number in 0..times {
        load.goes_on(progress(number)).await;
        match end {
            End::Terminate => assert!(origin.terminate(), "a stop by SIGTERM is a success"),
            End::Kill => origin.kill(),
        }
        origin = Origin::start(&store, &[("PORTCULLIS_SERVER__LISTEN", &address)]);
    }
    load.goes_on(60).await;
    becomes_ready(&origin).await;
    let acknowledged = load.acknowledged.clone();
    check(&origin, &load.finish().await).await;
    acknowledged.load(Ordering::Relaxed)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_that_is_terminated_under_load_loses_nothing() {
    assert!(an_origin_that_ends(End::Terminate, 2, |_| 60).await > 120);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_that_is_killed_again_and_again_loses_nothing() {
    let kills = std::env::var("PORTCULLIS_KILLS").map_or(KILLS, |kills| kills.parse().unwrap());
    let started = Instant::now();
    // Every kill comes in the middle of writes, each time at another point of them.
    let acknowledged = an_origin_that_ends(End::Kill, kills, |number| 1 + number % 13).await;
    println!("{kills} kills in {:?}: nothing lost of {acknowledged} acknowledged commands", started.elapsed());
}

/// SES-18: the store is killed and started again while two origins work on it.
#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_is_restarted_under_load_loses_nothing() {
    let mut redis = Redis::start();
    let url = redis.url();
    let variables = [("PORTCULLIS_STORE__TIMEOUT_MS", "500")];
    let (one, two) = (Origin::start(&url, &variables), Origin::start(&url, &variables));
    let loads = [Load::start(one.address()), Load::start(two.address())];
    for _ in 0..2 {
        loads[0].goes_on(40).await;
        redis.restart();
        loads[1].goes_on(40).await;
    }
    becomes_ready(&one).await;
    becomes_ready(&two).await;
    let [first, second] = loads;
    // What one origin acknowledged counts at the other.
    let (first, second) = (first.finish().await, second.finish().await);
    check(&two, &first).await;
    check(&one, &second).await;
}
