//! Requests of many subjects, good ones and others, through one isolate and over few connections: what one is told must never
//! be about another.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::Context as _;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64ct::{Base64UrlUnpadded, Encoding as _};
use fastrand::Rng;
use reqwest::{Client, Method, Response, StatusCode};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::{Setting, eventually, signed};

const SUBJECTS: usize = 150;
const REVOKED: usize = 60;

/// Requests that are under way at the same time, each on a connection of its own that is kept.
const CONCURRENCY: u64 = 32;

/// Requests that the same sessions are used for.
const ROUND_REQUESTS: u64 = 250_000;

/// How long they are used at most, well under the [`ACCESS_TTL_S`] of their tokens: a slow machine sends less in a round.
const ROUND_MAX: Duration = Duration::from_secs(1_200);

/// How long the origin of a run must let access tokens live, in seconds.
pub const ACCESS_TTL_S: u64 = 3_600;

/// Differences that are told at most.
const WRONG_MAX: usize = 10;

/// What a client presents.
#[derive(Debug, Clone)]
enum Presented {
    Bearer(String),
    Cookie(String),
    Both(String, String),
    Nothing,
}

/// Whom an answer must be about.
#[derive(Debug, Clone)]
enum Expected {
    /// Subject and session.
    Of(String, String),
    /// Nobody, with this status.
    Refused(StatusCode),
}

#[derive(Debug, Clone)]
struct Kind {
    name: &'static str,
    presented: Presented,
    expected: Expected,
}

/// What came of it.
#[derive(Debug, Clone, Default)]
pub struct Mixed {
    /// Answers that were as they must be, by kind.
    pub right: BTreeMap<&'static str, u64>,
    /// All answers, by status.
    pub statuses: BTreeMap<u16, u64>,
    /// How many were not as they must be.
    pub wrong: u64,
    /// Some of these.
    pub told: Vec<String>,
    /// How long it took to send them.
    pub took: Duration,
}

impl Mixed {
    /// How many answers there were.
    pub fn answers(&self) -> u64 {
        self.statuses.values().sum()
    }

    fn add(&mut self, more: Self) {
        for (name, count) in more.right {
            *self.right.entry(name).or_default() += count;
        }
        for (status, count) in more.statuses {
            *self.statuses.entry(status).or_default() += count;
        }
        self.wrong += more.wrong;
        self.told.extend(more.told);
        self.told.truncate(WRONG_MAX);
        self.took += more.took;
    }
}

impl fmt::Display for Mixed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let right: u64 = self.right.values().sum();
        let rate = right as f64 / self.took.as_secs_f64().max(0.001);
        writeln!(f, "{right} answers about whom they must be, {} others, {rate:.0} per second", self.wrong)?;
        for (name, count) in &self.right {
            writeln!(f, "  {name}: {count}")?;
        }
        for (status, count) in &self.statuses {
            writeln!(f, "  status {status}: {count}")?;
        }
        for told in &self.told {
            writeln!(f, "  wrong: {told}")?;
        }
        Ok(())
    }
}

/// Sends `requests` through the gate of a setting: to the gate's own answers and to the application.
///
/// # Errors
///
/// The gate does not answer.
pub async fn run(setting: &mut Setting, requests: u64, seed: u64) -> anyhow::Result<Mixed> {
    let key = Ed25519KeyPair::generate()?;
    trust(setting, &key).await?;
    let mut total = Mixed::default();
    while total.answers() < requests {
        let first = total.answers();
        let round = Round {
            kinds: kinds(setting, &key).await?,
            base: setting.gate.base().to_owned(),
            sent: AtomicU64::new(first),
            end: requests.min(first + ROUND_REQUESTS),
            started: Instant::now(),
        };
        total.add(round.run(seed.wrapping_add(first)).await?);
        println!("{} of {requests} requests, {:.0} s", total.answers(), total.took.as_secs_f64());
    }
    Ok(total)
}

/// Requests with the same sessions.
struct Round {
    kinds: Vec<Kind>,
    /// Of the gate.
    base: String,
    /// The number of the next request.
    sent: AtomicU64,
    /// Behind the number of the last one.
    end: u64,
    started: Instant,
}

impl Round {
    async fn run(self, seed: u64) -> anyhow::Result<Mixed> {
        let round = Arc::new(self);
        let mut clients = JoinSet::new();
        for number in 0..CONCURRENCY {
            let (round, rng) = (Arc::clone(&round), Rng::with_seed(seed.wrapping_add(number)));
            clients.spawn(async move { client(&round, rng).await });
        }
        let mut total = Mixed::default();
        while let Some(done) = clients.join_next().await {
            total.add(done??);
        }
        total.took = round.started.elapsed();
        Ok(total)
    }

    /// The number of the next request, as long as there is one.
    fn next(&self) -> Option<u64> {
        if self.started.elapsed() >= ROUND_MAX {
            return None;
        }
        Some(self.sent.fetch_add(1, Ordering::Relaxed)).filter(|number| *number < self.end)
    }
}

async fn client(round: &Round, mut rng: Rng) -> anyhow::Result<Mixed> {
    let client = Client::builder().no_proxy().pool_max_idle_per_host(1).timeout(Duration::from_secs(60)).build()?;
    let mut mixed = Mixed::default();
    while let Some(number) = round.next() {
        let Some(kind) = round.kinds.get(rng.usize(..round.kinds.len())) else { continue };
        let is_forwarded = rng.u32(..4) == 0;
        let path = if is_forwarded { format!("/app/{number}") } else { format!("/self/{number}") };
        let mut request = client.get(format!("{}{path}", round.base));
        request = match &kind.presented {
            Presented::Bearer(token) => request.bearer_auth(token),
            Presented::Cookie(token) => request.header("cookie", format!("theme=dark; __Host-Http-at={token}")),
            Presented::Both(bearer, cookie) => {
                request.bearer_auth(bearer).header("cookie", format!("__Host-Http-at={cookie}"))
            }
            Presented::Nothing => request,
        };
        if rng.u32(..8) == 0 {
            request = request.header("portcullis-subject", "mallory").header("portcullis_session", "made-up");
        }
        let answer = request.send().await.with_context(|| format!("request {number}"))?;
        *mixed.statuses.entry(answer.status().as_u16()).or_default() += 1;
        match differs(answer, &kind.expected, is_forwarded).await? {
            None => *mixed.right.entry(kind.name).or_default() += 1,
            Some(what) => {
                mixed.wrong += 1;
                if mixed.told.len() < WRONG_MAX {
                    mixed.told.push(format!("{} {path}: {what}", kind.name));
                }
            }
        }
    }
    Ok(mixed)
}

/// How an answer differs from what it must be.
async fn differs(answer: Response, expected: &Expected, is_forwarded: bool) -> anyhow::Result<Option<String>> {
    let status = answer.status();
    let names = ["portcullis-subject", "portcullis-session"];
    let of_gate = names.map(|name| answer.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned));
    let body = answer.bytes().await?;
    let told = match (is_forwarded, expected) {
        (true, Expected::Of(..)) => {
            let told: Value = serde_json::from_slice(&body).unwrap_or_default();
            names.map(|name| match told["headers"][name].as_array().map(Vec::as_slice) {
                Some([Value::String(value)]) => Some(value.clone()),
                _ => None,
            })
        }
        _ => of_gate,
    };
    let is_right = match expected {
        Expected::Of(subject, session) => status.is_success() && told == [Some(subject.clone()), Some(session.clone())],
        Expected::Refused(expected) => status == *expected && told == [None, None],
    };
    Ok((!is_right).then(|| format!("{status}, about {told:?}, expected {expected:?}")))
}

/// Opens the sessions, ends some of them, and waits until the gate knows.
async fn kinds(setting: &Setting, key: &Ed25519KeyPair) -> anyhow::Result<Vec<Kind>> {
    let mut kinds = Vec::new();
    let unauthorized = Expected::Refused(StatusCode::UNAUTHORIZED);
    let mut previous: Option<String> = None;
    for number in 0..SUBJECTS {
        let subject = format!("subject-{number}");
        for (name, is_cookie) in [("good, bearer", false), ("good, cookie", true)] {
            let opened = setting.open(&subject).await?;
            let token = opened.access.clone();
            let presented = if is_cookie { Presented::Cookie(token.clone()) } else { Presented::Bearer(token.clone()) };
            kinds.push(Kind { name, presented, expected: Expected::Of(subject.clone(), opened.session) });
            if let Some(other) = previous.replace(token.clone()).filter(|_| number % 3 == 0) {
                let (head, _) = token.rsplit_once('.').context("not a JWT")?;
                let (_, signature) = other.rsplit_once('.').context("not a JWT")?;
                let presented = Presented::Bearer(format!("{head}.{signature}"));
                kinds.push(Kind { name: "signature of another", presented, expected: unauthorized.clone() });
                let presented = Presented::Both(token, other);
                let expected = Expected::Refused(StatusCode::BAD_REQUEST);
                kinds.push(Kind { name: "two credentials", presented, expected });
            }
        }
    }
    for number in 0..REVOKED {
        let opened = setting.open(&format!("subject-{number}")).await?;
        let path = format!("/v1/sessions/{}/revoke", opened.session);
        setting.origin.manage(Method::POST, &path, json!({})).await?;
        let refused = async || (setting.gate.status_of("/app/x", &opened.access).await.ok()? == 401).then_some(());
        eventually("a session to be ended", refused).await?;
        let presented = Presented::Bearer(opened.access);
        kinds.push(Kind { name: "revoked", presented, expected: unauthorized.clone() });
        let expired = expired(key, setting.origin.issuer(), &format!("subject-{number}"))?;
        let presented = if number % 2 == 0 { Presented::Bearer(expired) } else { Presented::Cookie(expired) };
        kinds.push(Kind { name: "expired", presented, expected: unauthorized.clone() });
        kinds.push(Kind { name: "no token", presented: Presented::Nothing, expected: unauthorized.clone() });
    }
    Ok(kinds)
}

/// Lets the gate believe one more key, with which tokens of the past are made.
async fn trust(setting: &mut Setting, key: &Ed25519KeyPair) -> anyhow::Result<()> {
    let jwks = setting.origin.request(Method::GET, "/.well-known/jwks.json").send().await?.bytes().await?;
    let mut jwks: Value = serde_json::from_slice(&jwks)?;
    let x = Base64UrlUnpadded::encode_string(key.public_key().as_ref());
    let own = json!({ "kty": "OKP", "crv": "Ed25519", "kid": "past", "x": x });
    jwks["keys"].as_array_mut().context("no keys")?.push(own);
    setting.gate.restart_with("TRUSTED_JWKS", &jwks.to_string()).await?;
    setting.gate.ready().await
}

fn expired(key: &Ed25519KeyPair, issuer: &str, subject: &str) -> anyhow::Result<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let claims = json!({
        "iss": issuer, "sub": subject, "aud": "portcullis", "exp": now - 1, "iat": now - 300, "jti": "j",
        "client_id": "web", "sid": "AAAAAAAAAAAAAAAAAAAAAA", "ver": [1, 1, 0, 1], "auth_time": now - 300,
    });
    let header = json!({ "typ": "at+jwt", "alg": "EdDSA", "kid": "past" });
    Ok(signed(&header, &claims, |message| key.sign(message).as_ref().to_vec()))
}
