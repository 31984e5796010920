//! What lies between an origin and a hub: hands on requests and answers, holds back frames that are no heartbeats, and takes
//! as long as a slow line would.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Request, State},
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use reqwest::Client;
use shared::feed::{HEADER_LEN, SIGNATURE_LEN, UnverifiedFrame};
use tokio::{
    net::TcpListener,
    sync::{Mutex, watch},
    task::JoinHandle,
    time::{Instant, sleep_until},
};

/// The largest body that is handed on.
const BODY_BYTES_MAX: usize = 64 << 20;

/// How long a request is held at most.
const HELD_MAX: Duration = Duration::from_secs(60);

/// What a request or an answer takes of the line beside its body, in bytes.
const HEAD_BYTES: u64 = 300;

/// The line from the origins to a hub: what goes that way goes one after the other, whoever asked for it.
pub(super) struct Line {
    /// None for a line that takes no time.
    bits_per_s: watch::Sender<Option<u64>>,
    /// Held by what is on the line.
    busy: Mutex<()>,
}

impl Line {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { bits_per_s: watch::Sender::new(None), busy: Mutex::new(()) })
    }

    /// What begins from now on takes this long, and what is on its way arrives if it takes no time.
    pub(super) fn is_slow(&self, bits_per_s: Option<u64>) {
        self.bits_per_s.send_replace(bits_per_s);
    }

    /// Returns when a body of this many bytes is at the other end.
    async fn carry(&self, bytes: usize) {
        let _on_the_line = self.busy.lock().await;
        let mut rate = self.bits_per_s.subscribe();
        let Some(bits_per_s) = *rate.borrow_and_update() else { return };
        let bits = (u64::try_from(bytes).unwrap_or(u64::MAX)).saturating_add(HEAD_BYTES).saturating_mul(8);
        let arrives = Instant::now() + Duration::from_micros(bits.saturating_mul(1_000_000) / bits_per_s.max(1));
        tokio::select! {
            () = sleep_until(arrives) => {}
            _ = rate.wait_for(Option::is_none) => {}
        }
    }
}

/// Which way of a link leads from an origin to a hub, and is a [`Line`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Downward {
    /// An origin pushes.
    Requests,
    /// A hub asks.
    Answers,
}

/// A place that hands everything on to another one.
pub(super) struct Link {
    address: String,
    holds: watch::Sender<bool>,
    serving: JoinHandle<()>,
}

struct Way {
    to: String,
    client: Client,
    holds: watch::Receiver<bool>,
    line: Arc<Line>,
    downward: Downward,
}

impl Link {
    /// Hands on to `http://HOST:PORT`.
    pub(super) async fn to(address: &str, line: Arc<Line>, downward: Downward) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let own = format!("http://{}", listener.local_addr()?);
        let (holds, held) = watch::channel(false);
        let client = Client::builder().no_proxy().timeout(HELD_MAX).build()?;
        let way = Arc::new(Way { to: address.to_owned(), client, holds: held, line, downward });
        let router = Router::new().fallback(hand_on).with_state(way);
        let serving = tokio::spawn(async move {
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { address: own, holds, serving })
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// Holds back what is no heartbeat, or lets all of it go.
    pub(super) fn hold(&self, holds: bool) {
        self.holds.send_replace(holds);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn hand_on(State(way): State<Arc<Way>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, BODY_BYTES_MAX).await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    let mut holds = way.holds.clone();
    if heartbeats(&body).len() < body.len() {
        // A sender that gives up before that has sent nothing.
        let _ = tokio::time::timeout(HELD_MAX, holds.wait_for(|holds| !holds)).await;
    }
    if way.downward == Downward::Requests {
        way.line.carry(body.len()).await;
    }
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    let mut handed = way.client.request(parts.method, format!("{}{target}", way.to)).body(body);
    if let Some(kind) = parts.headers.get("content-type") {
        handed = handed.header("content-type", kind);
    }
    let Ok(answer) = handed.send().await else { return StatusCode::BAD_GATEWAY.into_response() };
    let status = answer.status();
    let Ok(body) = answer.bytes().await else { return StatusCode::BAD_GATEWAY.into_response() };
    let is_frames = body.starts_with(b"PCF1");
    let body = if is_frames && *way.holds.borrow() { heartbeats(&body) } else { body };
    if way.downward == Downward::Answers {
        way.line.carry(body.len()).await;
    }
    (status, Body::from(body)).into_response()
}

/// The heartbeats among frames; all of what is no frames.
fn heartbeats(bytes: &Bytes) -> Bytes {
    if !bytes.starts_with(b"PCF1") {
        return bytes.clone();
    }
    let (mut kept, mut rest): (Vec<u8>, &[u8]) = (Vec::new(), bytes);
    while let Ok((_, after)) = UnverifiedFrame::split(rest) {
        let (frame, _) = rest.split_at(rest.len() - after.len());
        if frame.len() == HEADER_LEN + SIGNATURE_LEN {
            kept.extend_from_slice(frame);
        }
        rest = after;
    }
    kept.into()
}
