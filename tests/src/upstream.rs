//! An application behind the gate that tells what it was sent.

use std::{convert::Infallible, time::Duration};

use axum::{
    Json, Router,
    extract::{
        Request,
        ws::{CloseFrame, Message, WebSocketUpgrade},
    },
    http::{HeaderMap, HeaderName, StatusCode, header},
    response::{
        IntoResponse as _, Response,
        sse::{Event, Sse},
    },
    routing::{any, get},
};
use futures_util::{Stream, stream};
use http_body_util::{BodyExt as _, Limited};
use serde_json::{Map, Value, json};
use tokio::{net::TcpListener, task::JoinHandle, time::sleep};

/// How long `/…/slow` takes until it answers.
const SLOW: Duration = Duration::from_millis(500);

/// Between two events of a stream.
const EVENT_PAUSE: Duration = Duration::from_millis(200);

/// The longest body that is told, in bytes.
const BODY_BYTES_MAX: usize = 1 << 20;

/// An application of this process; it ends when it is dropped.
pub struct TestUpstream {
    address: String,
    serving: JoinHandle<()>,
}

impl TestUpstream {
    /// Starts one on a free port. It answers with what it was sent, as JSON; `/…/redirect` redirects; `/…/ws` says again what
    /// it is told, after the identity that it was opened with, until it is told to `end with` a code; `/…/events` is a stream
    /// of events without an end; `/…/slow` takes half a second; `/…/public` may be kept by every cache.
    ///
    /// # Errors
    ///
    /// No port.
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_at("127.0.0.1:0").await
    }

    /// As [`Self::start`], at this place.
    ///
    /// # Errors
    ///
    /// It is taken.
    pub async fn start_at(place: &str) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(place).await?;
        let address = format!("http://{}", listener.local_addr()?);
        let router = Router::new()
            .route("/{area}/ws", get(socket))
            .route("/{area}/events", get(events))
            .route(
                "/{area}/slow",
                any(async |request| {
                    sleep(SLOW).await;
                    tell(request).await
                }),
            )
            .route("/app/redirect", any(|| async { (StatusCode::FOUND, [(header::LOCATION, "/elsewhere")]) }))
            .route(
                "/app/public",
                any(async |request| ([(header::CACHE_CONTROL, "public, max-age=600")], tell(request).await)),
            )
            .fallback(tell);
        let serving = tokio::spawn(async move {
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { address, serving })
    }

    /// `http://127.0.0.1:PORT`.
    pub fn address(&self) -> &str {
        &self.address
    }
}

impl Drop for TestUpstream {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn tell(request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let mut headers = Map::new();
    for (name, value) in &parts.headers {
        let text = Value::from(String::from_utf8_lossy(value.as_bytes()));
        let values = headers.entry(name.as_str()).or_insert_with(|| json!([]));
        if let Some(values) = values.as_array_mut() {
            values.push(text);
        }
    }
    let target = parts.uri.to_string();
    let Ok(collected) = Limited::new(body, BODY_BYTES_MAX).collect().await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    let trailers: Vec<_> = collected.trailers().into_iter().flat_map(HeaderMap::keys).map(HeaderName::as_str).collect();
    let trailers = json!(trailers);
    let body = String::from_utf8_lossy(&collected.to_bytes()).into_owned();
    let method = parts.method.as_str();
    let seen = json!({ "method": method, "target": target, "headers": headers, "body": body, "trailers": trailers });
    Json(seen).into_response()
}

async fn socket(upgrade: WebSocketUpgrade, request: Request) -> Response {
    let subject = request.headers().get("portcullis-subject").and_then(|subject| subject.to_str().ok());
    let subject = subject.unwrap_or_default().to_owned();
    upgrade.on_upgrade(async move |mut socket| {
        if socket.send(Message::Text(subject.into())).await.is_err() {
            return;
        }
        while let Some(Ok(message)) = socket.recv().await {
            let code = message.to_text().ok().and_then(|text| text.strip_prefix("end with ")?.parse().ok());
            if let Some(code) = code {
                let _ = socket.send(Message::Close(Some(CloseFrame { code, reason: "as told".into() }))).await;
            }
            if matches!(message, Message::Text(_) | Message::Binary(_)) && socket.send(message).await.is_err() {
                return;
            }
        }
    })
}

async fn events() -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    Sse::new(stream::unfold(0_u64, async |count| {
        if count > 0 {
            sleep(EVENT_PAUSE).await;
        }
        Some((Ok(Event::default().data(count.to_string())), count.saturating_add(1)))
    }))
}
