//! Stands between origin and hub and notes when a frame passed, and when the hub answered.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use ::origin::keys::Verifier;
use axum::{Router, body::Bytes, extract::State, http::StatusCode, routing::post};
use portcullis_tests::eventually;
use shared::{
    feed::{FrameKind, UnverifiedFrame},
    keys::PublicKey,
};
use tokio::{net::TcpListener, task::JoinHandle};

/// By the position of a frame that brought floors: when it came, and when the hub had answered.
type Seen = Arc<Mutex<BTreeMap<u64, (Instant, Instant)>>>;

/// The tap; it ends when it is dropped.
pub(super) struct Tap {
    seen: Seen,
    address: SocketAddr,
    serving: JoinHandle<()>,
}

impl Tap {
    /// Hands everything on to the hub at `url`, half of `round_trip` later, and its answer after the other half; notes what
    /// `feed_key` signed.
    ///
    /// # Errors
    ///
    /// No port; not a key.
    pub(super) async fn start(url: String, feed_key: &str, round_trip: Duration) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let seen = Seen::default();
        let client = reqwest::Client::builder().no_proxy().tcp_nodelay(true).build()?;
        let on =
            Arc::new(On { client, url, half: round_trip / 2, feed_key: [PublicKey::ed25519_from_text(feed_key)?] });
        let router = Router::new().route("/", post(pass)).with_state((Arc::clone(&seen), on));
        let serving = tokio::spawn(async move {
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { seen, address, serving })
    }

    /// As the origin is told it.
    pub(super) fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// When the frame that reached `cursor` came, and when the hub had answered it.
    ///
    /// # Errors
    ///
    /// It does not come.
    pub(super) async fn of(&self, cursor: u64) -> anyhow::Result<(Instant, Instant)> {
        let find = || {
            let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.range(cursor..).next().map(|(_, times)| *times)
        };
        eventually("the push", async || find()).await
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Where frames go on to.
struct On {
    client: reqwest::Client,
    url: String,
    half: Duration,
    feed_key: [PublicKey; 1],
}

async fn pass(State((seen, on)): State<(Seen, Arc<On>)>, body: Bytes) -> Result<(StatusCode, Bytes), StatusCode> {
    tokio::time::sleep(on.half).await;
    let arrived = Instant::now();
    let upto = brings(&body, &on.feed_key);
    let failed = |_| StatusCode::BAD_GATEWAY;
    let answer = on.client.post(&on.url).body(body).send().await.map_err(failed)?;
    let status = StatusCode::from_u16(answer.status().as_u16()).map_err(|_| StatusCode::BAD_GATEWAY)?;
    let answer = answer.bytes().await.map_err(failed)?;
    if let (Some(upto), StatusCode::OK) = (upto, status) {
        seen.lock().unwrap_or_else(PoisonError::into_inner).entry(upto).or_insert((arrived, Instant::now()));
    }
    tokio::time::sleep(on.half).await;
    Ok((status, answer))
}

/// The position up to which frames bring floors; none if all of them are heartbeats or keys.
fn brings(mut bytes: &[u8], feed_key: &[PublicKey]) -> Option<u64> {
    let mut upto = None;
    while let Ok((frame, rest)) = UnverifiedFrame::split(bytes) {
        let frame = frame.verify(&Verifier, feed_key).ok()?;
        if frame.header().kind != FrameKind::Keys && !frame.is_heartbeat() {
            upto = Some(frame.header().upto.0);
        }
        bytes = rest;
    }
    upto
}
