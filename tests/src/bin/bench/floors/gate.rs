//! A real gate that holds many floors: its memory at the worst, and how soon it is ready after a start.

use std::{
    net::SocketAddr,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use ::origin::{config::SigningAlgorithm::Ed25519, keys::FeedKey};
use anyhow::{Context as _, bail, ensure};
use aws_lc_rs::{rand::SystemRandom, signature::Ed25519KeyPair};
use http_body_util::Full;
use hyper::{Request, StatusCode, header};
use serde_json::Value;
use shared::{
    feed::{Cursor, Epoch, FRAME_FLOORS_MAX, FrameKind, Header, assemble, encode_floors},
    revocation::{Floor, FloorKey, Version},
    time::Timestamp,
};

use crate::{
    client::{Connection, get, send_all},
    edge::{Edge, RunningEdge},
    tokens::Mint,
};

/// As many verified tokens as a gate keeps.
const TOKENS: usize = 8_192;

const CONNECTIONS: usize = 16;

/// Floors that are told too early by this, so that all are live while the benchmark runs.
const LIFETIME: Duration = Duration::from_secs(3_600);

const READY_MAX: Duration = Duration::from_secs(30);

/// It answers by itself, and passes who may pass however old its floors are: no origin tells it that they are not.
const POLICY: &str = "[upstreams]\napp = \"self\"\n[[routes]]\nid = \"all\"\npath = \"/*\"\nupstream = \"app\"\nstaleness_ms_max = 300000\n";

/// A gate with its hub, and keys for both.
pub(super) struct Gate {
    edge: RunningEdge,
    feed_key: FeedKey,
    mint: Mint,
}

impl Gate {
    /// Starts it and gives its hub this many floors.
    ///
    /// # Errors
    ///
    /// It does not start, or refuses them.
    pub(super) async fn start(floors: u32) -> anyhow::Result<Self> {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).context("no randomness")?;
        let (feed_key, mint) = (FeedKey::from_pkcs8(pkcs8.as_ref())?, Mint::new(Ed25519)?);
        let nobody = SocketAddr::from(([127, 0, 0, 1], 9));
        let edge = Edge {
            gates: 1,
            policy: POLICY,
            origin: nobody,
            feed_key: feed_key.public_text(),
            trusted: Some(mint.jwks()?.to_string()),
            assertion_key: None,
            upstream: "self".to_owned(),
        };
        let gate = Self { edge: edge.start()?, feed_key, mint };
        gate.push(floors).await?;
        Ok(gate)
    }

    /// The most linear memory that the gate needed to take in the floors and a full cache of tokens, in bytes.
    ///
    /// # Errors
    ///
    /// It does not take all of them.
    pub(super) async fn memory(&self, floors: u32) -> anyhow::Result<f64> {
        let address = self.address()?;
        until_ready(address, &self.mint.mint(1)?.remove(0)).await?;
        let tokens = self.mint.mint(TOKENS)?;
        let requests = tokens.iter().map(|token| get("/", token)).collect::<anyhow::Result<Vec<_>>>()?;
        send_all(address, CONNECTIONS, requests, StatusCode::NO_CONTENT).await?;
        let status = Request::get("/.portcullis/status").header(header::HOST, "bench.example").body(Full::default())?;
        let answer = Connection::open(address).await?.send(status).await?;
        let status: Value = serde_json::from_slice(answer.body())?;
        let held = |name: &str| status[name].as_u64().with_context(|| format!("{status} has no {name}"));
        ensure!(held("floors")? == u64::from(floors), "the gate holds {} floors", held("floors")?);
        ensure!(held("tokens_cached")? == TOKENS as u64, "the gate holds {} tokens", held("tokens_cached")?);
        Ok(held("memory_bytes")? as f64)
    }

    /// Kills it and starts it again; from the start of the process to the first request that passes.
    ///
    /// # Errors
    ///
    /// It does not start, or is not ready in time.
    pub(super) async fn restart(self) -> anyhow::Result<(Self, Duration)> {
        let token = self.mint.mint(1)?.remove(0);
        let started = Instant::now();
        let edge = self.edge.restart()?;
        let gate = Self { edge, ..self };
        until_ready(gate.address()?, &token).await?;
        Ok((gate, started.elapsed()))
    }

    fn address(&self) -> anyhow::Result<SocketAddr> {
        self.edge.workerd.address("gate0")
    }

    async fn push(&self, floors: u32) -> anyhow::Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let forget_at = Timestamp::from_secs((now + LIFETIME).as_secs());
        let all: Vec<Floor> = (0..floors)
            .map(|number| Floor { key: FloorKey::signing_key(&number.to_string()), lowest: Version::ENDED, forget_at })
            .collect();
        let parts = all.chunks(FRAME_FLOORS_MAX);
        let header = Header {
            kind: FrameKind::Snapshot,
            part: 0,
            parts: parts.len().try_into()?,
            epoch: Epoch(1),
            after: Cursor(0),
            upto: Cursor(u64::from(floors)),
            as_of: Timestamp::from_millis(now.as_millis().try_into()?),
        };
        let mut frames = Vec::new();
        for (part, floors) in (0..).zip(parts) {
            let signed = |message: &[u8]| self.feed_key.sign(message);
            frames.extend(assemble(&Header { part, ..header }, &encode_floors(floors), signed)?);
        }
        let request = Request::post(self.edge.push_url()).header(header::HOST, "bench.example");
        let url = self.edge.push_url();
        let address = url.strip_prefix("http://").and_then(|rest| rest.split('/').next()).context("not an address")?;
        let answer = Connection::open(address.parse()?).await?.send(request.body(Full::from(frames))?).await?;
        ensure!(answer.status() == StatusCode::OK, "the hub answered {}", answer.status());
        Ok(())
    }
}

async fn until_ready(gate: SocketAddr, token: &str) -> anyhow::Result<()> {
    let started = Instant::now();
    while started.elapsed() < READY_MAX {
        match Connection::open(gate).await?.ask("/", token).await? {
            StatusCode::NO_CONTENT => return Ok(()),
            StatusCode::SERVICE_UNAVAILABLE => tokio::time::sleep(Duration::from_millis(1)).await,
            status => bail!("the gate answered {status}"),
        }
    }
    bail!("the gate is not ready after {READY_MAX:?}")
}
