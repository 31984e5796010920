//! Who takes part in the benchmark of the gate.

use std::{net::SocketAddr, sync::Arc};

use ::origin::config::SigningAlgorithm::{Ed25519, Es256};
use anyhow::ensure;
use hyper::StatusCode;
use portcullis_tests::{ASSERTION_KEY, eventually};
use serde_json::{Value, json};

use crate::{
    client::{Connection, get, send_all},
    edge::{Edge, RunningEdge},
    origin_process::{OriginProcess, Plan},
    tokens::{AUDIENCE, ISSUER, Mint},
    upstream::Upstream,
    workerd::{Worker, Workerd},
};

/// Tokens that take turns where the same ones come again: users who are active at once.
const REPEATED: usize = 64;

/// The gate answers by itself, so that the verdict alone is measured.
const ANSWERS: &str = "[upstreams]\napp = \"self\"\n[[routes]]\nid = \"all\"\npath = \"/*\"\nupstream = \"app\"\n";

/// The gate forwards; the real address comes as a binding.
const FORWARDS: &str =
    "[upstreams]\napp = \"http://127.0.0.1:9\"\n[[routes]]\nid = \"all\"\npath = \"/*\"\nupstream = \"app\"\n";

/// Everybody, with the origin that keeps the gates fresh.
pub(super) struct Field {
    pub(super) contestants: Vec<Contestant>,
    _origin: OriginProcess,
}

/// Who a contestant is, whichever process it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Who {
    pub(super) letter: char,
    pub(super) name: &'static str,
    pub(super) forwards: bool,
}

/// A Worker whose cost per request is measured.
pub(super) struct Contestant {
    pub(super) who: Who,
    checks: bool,
    workerd: Workerd,
    address: SocketAddr,
    tokens: Tokens,
}

/// What the requests of a turn carry.
enum Tokens {
    /// The same ones again.
    Again(Arc<Vec<String>>),
    /// Each a token that was never seen before.
    New(Arc<Mint>),
}

impl Field {
    /// Starts everybody and waits until every gate lets a good token pass.
    ///
    /// # Errors
    ///
    /// Somebody does not start.
    pub(super) async fn start(upstream: &Upstream) -> anyhow::Result<Self> {
        let (ed25519, es256) = (Arc::new(Mint::new(Ed25519)?), Arc::new(Mint::new(Es256)?));
        let again = Arc::new(ed25519.mint(REPEATED)?);
        let again = || Tokens::Again(Arc::clone(&again));
        let new = |mint: &Arc<Mint>| Tokens::New(Arc::clone(mint));

        let plan = Plan::new(None)?;
        let feed_key = plan.feed_key()?;
        let trusted = ed25519.jwks()?.to_string();
        let gate = |policy: &'static str, upstream: &str, assertion_key| {
            let (feed_key, upstream, origin) = (feed_key.clone(), upstream.to_owned(), plan.address);
            Edge { gates: 1, policy, origin, feed_key, trusted: Some(trusted.clone()), upstream, assertion_key }.start()
        };
        let (known, first) = (gate(ANSWERS, "self", None)?, gate(ANSWERS, "self", None)?);
        let forwarding = gate(FORWARDS, &upstream.url(), None)?;
        let asserting = gate(FORWARDS, &upstream.url(), Some(ASSERTION_KEY))?;
        let hubs = [
            ("known", known.push_url()),
            ("first", first.push_url()),
            ("forwarding", forwarding.push_url()),
            ("asserting", asserting.push_url()),
        ];
        let origin = plan.start(&hubs).await?;

        let jose = |file: &str, algorithm: &str, mint: &Mint| {
            Worker::bundled(file)?.with("JWKS", mint.jwks()?).with("EXPECTED", expected(algorithm)).start()
        };
        let contestants = vec![
            Contestant::worker('a', "empty Worker", Worker::bundled("empty.mjs")?.start()?, again())?.unchecking(),
            Contestant::worker('i', "empty Worker, one answer", Worker::bundled("empty-again.mjs")?.start()?, again())?
                .unchecking(),
            Contestant::worker('b', "jose, Ed25519", jose("jose.mjs", "Ed25519", &ed25519)?, new(&ed25519))?,
            Contestant::worker('c', "jose, ES256", jose("jose.mjs", "ES256", &es256)?, new(&es256))?,
            Contestant::worker('d', "jose, cached in a Map", jose("jose-cached.mjs", "Ed25519", &ed25519)?, again())?,
            Contestant::gate('e', "gate, token known", known, again())?,
            Contestant::gate('f', "gate, first sight", first, new(&ed25519))?,
            Contestant::worker('g', "JS that sets three headers", passing(upstream)?, again())?
                .unchecking()
                .forwarding(),
            Contestant::gate('h', "gate, token known", forwarding, again())?.forwarding(),
            Contestant::gate('k', "gate, token known, asserted", asserting, again())?.forwarding(),
        ];
        for contestant in &contestants {
            contestant.until_ready().await?;
        }
        Ok(Self { contestants, _origin: origin })
    }
}

/// What jose is to demand of a token, in its own words.
fn expected(algorithm: &str) -> Value {
    let claims = ["sub", "exp", "iat", "jti", "client_id"];
    json!({ "algorithms": [algorithm], "typ": "at+jwt", "issuer": ISSUER, "audience": AUDIENCE, "requiredClaims": claims })
}

fn passing(upstream: &Upstream) -> anyhow::Result<Workerd> {
    Worker::bundled("pass.mjs")?.with("UPSTREAM", upstream.url()).start()
}

impl Contestant {
    fn worker(letter: char, name: &'static str, workerd: Workerd, tokens: Tokens) -> anyhow::Result<Self> {
        let address = workerd.address("main")?;
        Ok(Self { who: Who { letter, name, forwards: false }, checks: true, workerd, address, tokens })
    }

    fn gate(letter: char, name: &'static str, edge: RunningEdge, tokens: Tokens) -> anyhow::Result<Self> {
        let address = edge.workerd.address("gate0")?;
        let workerd = edge.workerd;
        Ok(Self { who: Who { letter, name, forwards: false }, checks: true, workerd, address, tokens })
    }

    /// It lets everybody pass.
    fn unchecking(self) -> Self {
        Self { checks: false, ..self }
    }

    /// It hands requests to the upstream.
    fn forwarding(self) -> Self {
        Self { who: Who { forwards: true, ..self.who }, ..self }
    }

    fn success(&self) -> StatusCode {
        if self.who.forwards { StatusCode::OK } else { StatusCode::NO_CONTENT }
    }

    fn tokens(&self, count: usize) -> anyhow::Result<Vec<String>> {
        match &self.tokens {
            Tokens::Again(tokens) => Ok(tokens.iter().cycle().take(count).cloned().collect()),
            Tokens::New(mint) => mint.mint(count),
        }
    }

    async fn ask(&self, token: &str) -> anyhow::Result<StatusCode> {
        Connection::open(self.address).await?.ask("/", token).await
    }

    async fn until_ready(&self) -> anyhow::Result<()> {
        let token = self.tokens(1)?.remove(0);
        let ready = async || self.ask(&token).await.is_ok_and(|status| status == self.success()).then_some(());
        eventually(self.who.name, ready).await
    }

    /// Sees that it refuses what it must, so that nobody is quick by doing less.
    ///
    /// # Errors
    ///
    /// It does not.
    pub(super) async fn check(&self) -> anyhow::Result<()> {
        let good = self.tokens(1)?.remove(0);
        let (signed, signature) = good.rsplit_once('.').unwrap_or_default();
        let other = if signature.starts_with('A') { "B" } else { "A" };
        let forged = format!("{signed}.{other}{}", &signature[1..]);
        let refused = if self.checks { StatusCode::UNAUTHORIZED } else { self.success() };
        for (token, status) in [(&good, self.success()), (&forged, refused)] {
            let found = self.ask(token).await?;
            ensure!(found == status, "({}) {} answered {found} instead of {status}", self.who.letter, self.who.name);
        }
        Ok(())
    }

    /// Sends `requests`; the microseconds of processor time that each took.
    ///
    /// # Errors
    ///
    /// One is not answered as it must be.
    pub(super) async fn turn(&self, requests: u32, connections: u32) -> anyhow::Result<f64> {
        let tokens = self.tokens(usize::try_from(requests)?)?;
        let all = tokens.iter().map(|token| get("/", token)).collect::<Result<Vec<_>, _>>()?;
        let before = self.workerd.process.cpu()?;
        send_all(self.address, usize::try_from(connections)?, all, self.success()).await?;
        let took = self.workerd.process.cpu()?.saturating_sub(before);
        Ok(took.as_secs_f64() * 1e6 / f64::from(requests))
    }
}
