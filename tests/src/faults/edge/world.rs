//! Origin, hub, gate and application, clients at work, and what they were told.

use std::{
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use ::origin::{
    config::{Config, StoreUrl, secrets::MasterKey},
    server::{open_keys, open_store},
    store::AnyStore,
};
use anyhow::Context as _;
use fastrand::Rng;
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use shared::{
    id::SessionId,
    revocation::{Floor, FloorKey, Version},
    time::Timestamp,
};
use tokio::{task::JoinSet, time::sleep};

use super::{
    EdgeCounts,
    link::{Downward, Line, Link},
};
use crate::{
    GatePlace, GateSettings, MANAGEMENT_KEY, MASTER_KEY, POLICY, TestGate, TestRedis, TestUpstream, eventually,
    faults::process::{OriginProcess, Plan},
};

/// What the route `/app/*` allows, and the skew that is declared.
pub(super) const BOUND: Duration = Duration::from_millis(3_500);

/// How long the floors of sessions that nobody asks for are remembered.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(3_600);

/// Clients that ask the gate at the same time.
const CLIENTS: u64 = 4;

/// Tokens among which they choose.
const RECENT: usize = 40;

/// Pause between two sessions that are opened, of which every other one is ended.
const PAUSE: Duration = Duration::from_millis(60);

/// Answers of each kind that are waited for before and after a fault.
const PROGRESS: u64 = 20;

pub(super) struct World {
    /// In the order of their start.
    pub(super) origins: Vec<OriginProcess>,
    pub(super) gate: TestGate,
    link: Link,
    back: Link,
    line: Arc<Line>,
    store: Arc<AnyStore>,
    told: Arc<Told>,
    clients: JoinSet<()>,
    _upstream: TestUpstream,
    _redis: TestRedis,
}

/// What clients were told.
#[derive(Default)]
struct Told {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    sessions: Vec<Session>,
    counts: EdgeCounts,
    /// Where sessions are opened and ended.
    base: String,
}

#[derive(Debug, Clone)]
struct Session {
    id: String,
    token: String,
    end: End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    No,
    /// Asked for, and not acknowledged: it may or may not have ended.
    Asked,
    Acknowledged(Instant),
}

impl World {
    /// Starts all of it with so many origins; each reaches the hub, and the hub the first of them, over links that can hold
    /// frames back.
    pub(super) async fn start(program: &Path, origins: usize) -> anyhow::Result<Self> {
        let redis = TestRedis::start().await?;
        let place = GatePlace::new(POLICY)?;
        let hub = place.hub();
        let (address, path) = hub.url.split_once("/.portcullis").context("the address of the hub")?;
        let line = Line::new();
        let link = Link::to(address, Arc::clone(&line), Downward::Requests).await?;
        let mut config = Config::default();
        config.store.url = StoreUrl::from(redis.url());
        config.feed.heartbeat_ms = 500;
        config.hubs = vec![::origin::config::Hub {
            name: hub.name.clone(),
            url: format!("{}/.portcullis{path}", link.address()),
        }];
        let store = open_store(&config).await?;
        let keys = open_keys(&store, &config, &MasterKey::new(MASTER_KEY)).await?;
        let mut started = Vec::new();
        for _ in 0..origins {
            started.push(OriginProcess::start(Plan::new(program.to_owned(), &config, 0.into())?).await?);
        }
        let base = started.first().context("no origin")?.base();
        let back = Link::to(&base, Arc::clone(&line), Downward::Answers).await?;
        let upstream = TestUpstream::start().await?;
        let settings = GateSettings::default()
            .with("HUB_NAME", "local")
            .with("ORIGIN_URL", back.address())
            .with("ISSUER", config.issuer())
            .with("AUDIENCE", "portcullis")
            .with("FEED_KEYS", &keys.current().feed().public_text())
            .with("CLOCK_SKEW_MS_MAX", "500")
            .with_upstream("app", upstream.address());
        let gate = place.start(settings).await?;
        gate.ready().await?;
        let (told, mut clients) = (Arc::new(Told::default()), JoinSet::new());
        told.state().base = base;
        clients.spawn(open_and_end(Arc::clone(&told)));
        for number in 0..CLIENTS {
            clients.spawn(ask(Arc::clone(&told), gate.base().to_owned(), Rng::with_seed(number)));
        }
        let world =
            Self { origins: started, gate, link, back, line, store, told, clients, _upstream: upstream, _redis: redis };
        world.goes_on().await?;
        Ok(world)
    }

    /// Waits until clients were told something of each kind again.
    pub(super) async fn goes_on(&self) -> anyhow::Result<()> {
        let of = |counts: &EdgeCounts| (counts.passed, counts.refused);
        let (passed, refused) = of(&self.told.state().counts);
        let done = async || {
            let now = of(&self.told.state().counts);
            (now.0 >= passed + PROGRESS && now.1 >= refused + PROGRESS).then_some(())
        };
        eventually("clients to get on", done).await
    }

    /// An origin, by its number.
    pub(super) fn origin(&self, number: usize) -> anyhow::Result<&OriginProcess> {
        self.origins.get(number).context("there is no such origin")
    }

    /// Holds back what is no heartbeat on both ways between origin and hub, or lets it go.
    pub(super) fn hold(&self, holds: bool) {
        self.link.hold(holds);
        self.back.hold(holds);
    }

    /// How many bits a second go from the origins to the hub; none for a line that takes no time.
    pub(super) fn slow(&self, bits_per_s: Option<u64>) {
        self.line.is_slow(bits_per_s);
    }

    /// Puts the ends of so many sessions that nobody asks for into the log; where it ends then.
    pub(super) async fn revoke(&self, count: usize) -> anyhow::Result<u64> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
        let forget_at = Timestamp::from_secs(now.as_secs()).saturating_add(FORGOTTEN_AFTER);
        let (mut rng, mut end) = (Rng::with_seed(0), 0);
        let mut end_of = || {
            let key = FloorKey::session(&SessionId::from_random(rng.u128(..).to_be_bytes()));
            Floor { key, lowest: Version::ENDED, forget_at }
        };
        let floors: Vec<Floor> = (0..count).map(|_| end_of()).collect();
        for some in floors.chunks(1_000) {
            end = self.store.append(some).await?.0;
        }
        Ok(end)
    }

    /// Ends every session of a tenant; returns when that was acknowledged.
    pub(super) async fn end_tenant(&self, tenant: &str) -> anyhow::Result<Instant> {
        let url = format!("{}/v1/tenants/{tenant}/revoke", self.told.state().base);
        let request = client()?.post(url).bearer_auth(MANAGEMENT_KEY).json(&json!({}));
        request.send().await?.error_for_status()?;
        Ok(Instant::now())
    }

    /// Up to where the gate knows the log.
    pub(super) async fn cursor_of_gate(&self) -> anyhow::Result<u64> {
        let status = self.gate.status().await?;
        Ok(status["cursor"].as_str().context("no cursor")?.parse()?)
    }

    /// Sessions are opened and ended at another origin from now on.
    pub(super) fn use_origin(&self, number: usize) {
        if let Some(origin) = self.origins.get(number) {
            self.told.state().base = origin.base();
        }
    }

    /// The token of a session that the clients do not know.
    pub(super) async fn open(&self) -> anyhow::Result<String> {
        self.open_in(None).await
    }

    /// As [`Self::open`], in a tenant.
    pub(super) async fn open_in(&self, tenant: Option<&str>) -> anyhow::Result<String> {
        let base = self.told.state().base.clone();
        let client = client()?;
        let open = async || open(&client, &base, tenant).await.ok();
        Ok(eventually("a session", open).await?.token)
    }

    /// Waits until this good token passes, and notes how long that took.
    pub(super) async fn recovers(&self, token: &str) -> anyhow::Result<()> {
        let since = Instant::now();
        let passes = async || (self.gate.status_of("/app/x", token).await.ok()? == 200).then_some(());
        eventually("a good token to pass", passes).await?;
        self.told.state().counts.recovered.push(since.elapsed());
        Ok(())
    }

    /// Notes what does not hold.
    pub(super) fn expect(&self, holds: bool, what: &str) {
        if !holds {
            self.told.state().counts.broken.push(what.to_owned());
        }
    }

    pub(super) fn note(&self, what: String) {
        self.told.state().counts.notes.push(what);
    }

    /// Lets the clients get on, and past the bound of what was ended last; what they were told.
    pub(super) async fn finish(mut self) -> anyhow::Result<EdgeCounts> {
        self.goes_on().await?;
        sleep(BOUND).await;
        self.clients.shutdown().await;
        Ok(self.told.state().counts.clone())
    }
}

impl Told {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Opens sessions, and ends every other one some time later.
async fn open_and_end(told: Arc<Told>) {
    let Ok(client) = client() else { return };
    for turn in 0_usize.. {
        sleep(PAUSE).await;
        let base = told.state().base.clone();
        let Ok(session) = open(&client, &base, None).await else { continue };
        let index = {
            let mut state = told.state();
            state.sessions.push(session);
            state.sessions.len() - 1
        };
        if turn % 2 == 1 {
            end(&told, &client, &base, index.saturating_sub(9)).await;
        }
    }
}

async fn open(client: &Client, base: &str, tenant: Option<&str>) -> anyhow::Result<Session> {
    let subject = tenant.map_or_else(|| "alice".to_owned(), |tenant| format!("alice-of-{tenant}"));
    let mut body = json!({ "subject": subject, "client_id": "web", "roles": ["member"] });
    if let Some(tenant) = tenant {
        body["tenant"] = tenant.into();
    }
    let request = client.post(format!("{base}/v1/sessions")).bearer_auth(MANAGEMENT_KEY).json(&body);
    let opened: Value = serde_json::from_slice(&request.send().await?.error_for_status()?.bytes().await?)?;
    let text = |name: &str| opened[name].as_str().map(str::to_owned).context("not a session");
    Ok(Session { id: text("session_id")?, token: text("access_token")?, end: End::No })
}

async fn end(told: &Told, client: &Client, base: &str, index: usize) {
    let id = {
        let mut state = told.state();
        let Some(session) = state.sessions.get_mut(index).filter(|session| session.end == End::No) else { return };
        session.end = End::Asked;
        session.id.clone()
    };
    let request = client.post(format!("{base}/v1/sessions/{id}/revoke")).bearer_auth(MANAGEMENT_KEY).json(&json!({}));
    if request.send().await.is_ok_and(|answer| answer.status().is_success())
        && let Some(session) = told.state().sessions.get_mut(index)
    {
        session.end = End::Acknowledged(Instant::now());
    }
}

/// Asks the gate with one token after the other.
async fn ask(told: Arc<Told>, base: String, mut rng: Rng) {
    let Ok(client) = client() else { return };
    loop {
        sleep(Duration::from_millis(5)).await;
        let index = {
            let len = told.state().sessions.len();
            len.saturating_sub(1 + rng.usize(..RECENT.min(len.max(1))))
        };
        let Some(session) = told.state().sessions.get(index).cloned() else { continue };
        let asked_at = Instant::now();
        let answer = client.get(format!("{base}/app/x")).bearer_auth(&session.token).send().await;
        // A gate that does not run answers nothing, and admits nobody.
        let Ok(answer) = answer else { continue };
        let says_when = answer.headers().contains_key("retry-after");
        let mut state = told.state();
        let end_now = state.sessions.get(index).map(|session| session.end);
        let counts = &mut state.counts;
        match (answer.status(), session.end) {
            (StatusCode::OK, End::Acknowledged(at)) if asked_at.duration_since(at) > BOUND => counts.admitted += 1,
            (StatusCode::OK, _) => counts.passed += 1,
            (StatusCode::UNAUTHORIZED, _) if end_now == Some(End::No) => counts.wrong += 1,
            (StatusCode::UNAUTHORIZED, _) => counts.refused += 1,
            (StatusCode::SERVICE_UNAVAILABLE, _) if says_when => counts.stale += 1,
            (status, end) => {
                counts.wrong += 1;
                counts.notes.push(format!("an answer {status} to a session with the end {end:?}"));
            }
        }
    }
}

fn client() -> anyhow::Result<Client> {
    Ok(Client::builder().no_proxy().timeout(Duration::from_secs(5)).build()?)
}
