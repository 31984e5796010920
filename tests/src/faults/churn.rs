//! A day of sessions, in steps of half an hour of a clock that origin and Redis go by: opened, refreshed, ended, expired.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use ::origin::{
    config::{Config, StoreUrl},
    server::open_store,
    store::{Kept, Key, Place, Store},
};
use anyhow::{Context as _, ensure};
use fastrand::Rng;
use futures_util::{StreamExt as _, stream};
use reqwest::{Client, RequestBuilder};
use serde_json::{Value, json};
use shared::{id::SessionId, time::Timestamp};

use super::process::{OriginProcess, Plan};
use crate::{
    MANAGEMENT_KEY, TestRedis,
    clock::{Clock, MovedClock},
    eventually,
};

const STEP_S: i64 = 1_800;
const STEPS: i64 = 48;

/// Subjects that come in a step, each with one to five sessions.
const SUBJECTS: u64 = 8;

/// Every so many subjects come back at every step; others come once.
const REGULAR: u64 = 4;

/// Commands at the same time.
const AT_ONCE: usize = 8;

/// Keys that one sweep of Redis looks at, at least.
const KEYS_PER_SWEEP: usize = 2_048;

/// Where the sessions of the day are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreOfDay {
    /// In a file.
    Embedded,
    /// In a Redis of its own.
    Redis,
}

/// What came of a day. Times are those of its end, by the clock of the store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Day {
    /// Sessions that were opened.
    pub opened: usize,
    /// Refreshes that were granted.
    pub refreshed: usize,
    /// Refreshes that were not, since the session's time was over or it was ended.
    pub refused: usize,
    /// Sessions that were ended.
    pub ended: usize,
    /// Sweeps before anything was counted.
    pub sweeps: usize,
    /// Records and entries of the index that are left.
    pub kept: usize,
    /// Bytes of the records that are left.
    pub bytes: usize,
    /// Records of sessions that are left.
    pub sessions: usize,
    /// Entries of the index that are left.
    pub noted: usize,
    /// Records of sessions without a lifetime.
    pub without_lifetime: usize,
    /// Records whose time is over.
    pub over: usize,
    /// Entries of the index whose session is gone, or whose time is over.
    pub orphans: usize,
}

/// Lets a day pass on an origin, and counts what is left; `program` is an origin if its first argument is `serve`.
///
/// # Errors
///
/// Something does not start, or a command is not answered as it must be.
pub async fn churn(program: &Path, store: StoreOfDay) -> anyhow::Result<Day> {
    let (clock, directory) = (MovedClock::new()?, tempfile::tempdir()?);
    let redis = match store {
        StoreOfDay::Embedded => None,
        StoreOfDay::Redis => Some(TestRedis::start_by(Clock::Moved(clock.clone())).await?),
    };
    let mut config = Config::default();
    config.store.url = StoreUrl::from(
        redis
            .as_ref()
            .map_or_else(|| format!("embedded:{}", directory.path().join("store.db").display()), TestRedis::url),
    );
    let plan = Plan::new(program.to_owned(), &config, Clock::Moved(clock.clone()))?;
    let origin = OriginProcess::start(plan).await?;
    let mut clients = Clients::new(origin.base())?;
    for step in 0..STEPS {
        clock.set(step * STEP_S)?;
        clients.step(u64::try_from(step)?).await?;
    }
    clock.set(STEPS * STEP_S)?;
    // A file is open in one process only.
    drop(origin);
    count(&config, clients.day).await
}

/// A session that a client has.
struct Held {
    id: String,
    refresh_token: String,
}

struct Clients {
    base: String,
    client: Client,
    random: Rng,
    held: Vec<Held>,
    day: Day,
}

impl Clients {
    fn new(base: String) -> anyhow::Result<Self> {
        let client = Client::builder().no_proxy().build()?;
        Ok(Self { base, client, random: Rng::with_seed(1), held: Vec::new(), day: Day::default() })
    }

    /// Half an hour: some sessions are refreshed or ended, subjects come, and one is signed out everywhere.
    async fn step(&mut self, step: u64) -> anyhow::Result<()> {
        let (mut refreshed, mut ended) = (Vec::new(), Vec::new());
        for held in std::mem::take(&mut self.held) {
            match self.random.u8(..4) {
                0 => ended.push(held),
                // Never heard of again.
                1 => {}
                _ => refreshed.push(held),
            }
        }
        let refreshes = refreshed.iter().map(|held| self.refresh(&held.refresh_token));
        let answers: Vec<_> = stream::iter(refreshes.collect::<Vec<_>>()).buffered(AT_ONCE).collect().await;
        for (held, answer) in refreshed.into_iter().zip(answers) {
            match answer? {
                (200, body) => {
                    self.day.refreshed += 1;
                    self.held.push(Held { refresh_token: text(&body, "refresh_token")?, ..held });
                }
                (400, _) => self.day.refused += 1,
                (status, body) => anyhow::bail!("a refresh: {status} {body}"),
            }
        }
        let paths = ended.iter().map(|held| format!("/v1/sessions/{}/revoke", held.id));
        let nothing = json!({});
        let mut commands: Vec<_> = paths.map(|path| (path, nothing.clone())).collect();
        if step > 0 {
            commands.push((format!("/v1/subjects/{}/revoke", subject(step - 1, 1)), nothing));
        }
        for (status, body) in self.manage(&commands).await? {
            // 404: its time is over since long, and nothing is known of it.
            ensure!(matches!(status, 200 | 404), "an end: {status} {body}");
            self.day.ended += usize::from(status == 200);
        }
        let mut opens = Vec::new();
        for number in 0..SUBJECTS {
            for turn in 0..self.random.u64(1..=5) {
                let tier = ["privileged", "standard", "standard", "browse"][usize::try_from((number + turn) % 4)?];
                let body = json!({ "subject": subject(step, number), "client_id": "web", "tier": tier });
                opens.push(("/v1/sessions".to_owned(), body));
            }
        }
        for (status, body) in self.manage(&opens).await? {
            ensure!(status == 201, "an opening: {status} {body}");
            self.day.opened += 1;
            self.held.push(Held { id: text(&body, "session_id")?, refresh_token: text(&body, "refresh_token")? });
        }
        Ok(())
    }

    fn refresh(&self, token: &str) -> impl Future<Output = anyhow::Result<(u16, Value)>> + use<> {
        let form = [("grant_type", "refresh_token"), ("refresh_token", token), ("client_id", "web")];
        answer(self.client.post(format!("{}/oauth2/token", self.base)).form(&form))
    }

    async fn manage(&self, commands: &[(String, Value)]) -> anyhow::Result<Vec<(u16, Value)>> {
        let answers = commands.iter().map(|(path, body)| {
            answer(self.client.post(format!("{}{path}", self.base)).bearer_auth(MANAGEMENT_KEY).json(body))
        });
        let answers: Vec<_> = stream::iter(answers.collect::<Vec<_>>()).buffered(AT_ONCE).collect().await;
        answers.into_iter().collect()
    }
}

/// Some subjects come at every step, the others at one.
fn subject(step: u64, number: u64) -> String {
    if number.is_multiple_of(REGULAR) { format!("regular-{number}") } else { format!("user-{step}-{number}") }
}

/// "Not now" is no answer.
async fn answer(request: RequestBuilder) -> anyhow::Result<(u16, Value)> {
    let answered = async || {
        let response = request.try_clone()?.send().await.ok()?;
        let status = response.status().as_u16();
        let body = response.bytes().await.ok()?;
        (status != 503).then(|| (status, serde_json::from_slice(&body).unwrap_or_default()))
    };
    eventually("an answer", answered).await
}

fn text(body: &Value, name: &str) -> anyhow::Result<String> {
    Ok(body[name].as_str().with_context(|| format!("no {name} in {body}"))?.to_owned())
}

/// What is in the store when the day is over. The clock of this process is that of its beginning, so that a scan tells of
/// everything that is still there, whether its time is over or not.
async fn count(config: &Config, mut day: Day) -> anyhow::Result<Day> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let passed = Duration::from_secs((STEPS * STEP_S).unsigned_abs());
    let end = Timestamp::from_millis(u64::try_from((since + passed).as_millis())?);
    let store = open_store(config).await?;
    let before = scan(&**store).await?;
    day.sweeps = before.len().div_ceil(KEYS_PER_SWEEP) + 1;
    for _ in 0..day.sweeps {
        store.trim(end).await?;
    }
    let kept = scan(&**store).await?;
    let mut sessions = HashMap::<SessionId, Option<Timestamp>>::new();
    let mut noted = HashSet::new();
    for kept in &kept {
        match kept {
            Kept::Record { key, value, expires_at } => {
                day.bytes += value.len();
                day.over += usize::from(expires_at.is_some_and(|at| end.has_reached(at)));
                if let Key::Session(id) = key {
                    sessions.insert(*id, *expires_at);
                }
            }
            Kept::Indexed { session, expires_at, .. } => {
                noted.insert((*session, *expires_at));
            }
        }
    }
    day.kept = kept.len();
    day.sessions = sessions.len();
    day.noted = noted.len();
    day.without_lifetime = sessions.values().filter(|expires_at| expires_at.is_none()).count();
    let is_orphan = |entry: &&(SessionId, Timestamp)| !sessions.contains_key(&entry.0) || end.has_reached(entry.1);
    day.orphans = noted.iter().filter(is_orphan).count();
    Ok(day)
}

async fn scan(store: &dyn Store) -> anyhow::Result<Vec<Kept>> {
    let (mut kept, mut from) = (Vec::new(), Some(Place::default()));
    while let Some(place) = from {
        let scanned = store.scan(place).await?;
        kept.extend(scanned.kept);
        from = scanned.next;
    }
    Ok(kept)
}
