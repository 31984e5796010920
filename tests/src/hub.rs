//! A hub for the origin to push to: a replica behind HTTP.

use std::{
    slice,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use ::origin::{config::Hub, keys::Verifier};
use axum::{Json, Router, body::Bytes, extract::State, http::StatusCode, routing::post};
use serde_json::{Value, json};
use shared::{
    feed::{Frame, UnverifiedFrame},
    keys::PublicKey,
    replica::{Accepted, Replica},
};
use tokio::{net::TcpListener, task::JoinHandle};

/// A hub of this process; it ends when it is dropped.
pub struct TestHub {
    held: Arc<Held>,
    url: String,
    serving: JoinHandle<()>,
}

impl TestHub {
    /// Starts one on a free port. It trusts whatever feed key it is told later, and takes frames unchecked until then.
    ///
    /// # Errors
    ///
    /// No port.
    pub async fn start(feed_key: PublicKey) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}/frames", listener.local_addr()?);
        let held = Arc::new(Held { replica: Mutex::new(Replica::new()), frames: Mutex::new(Vec::new()), feed_key });
        let router = Router::new().route("/frames", post(take).get(show)).with_state(Arc::clone(&held));
        let serving = tokio::spawn(async move {
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { held, url, serving })
    }

    /// As the origin's configuration names it.
    pub fn config(&self) -> Hub {
        Hub { name: "test".to_owned(), url: self.url.clone() }
    }

    /// Asks the replica.
    pub fn with<T>(&self, ask: impl FnOnce(&Replica) -> T) -> T {
        ask(&lock(&self.held.replica))
    }

    /// Lets another replica take in frames, as far as they are signed.
    pub fn read(&self, replica: &mut Replica, frames: &[u8]) {
        self.held.read(frames, |frame| {
            replica.accept(frame);
        });
    }
}

impl Drop for TestHub {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

struct Held {
    replica: Mutex<Replica>,
    /// Every frame that was taken in.
    frames: Mutex<Vec<u8>>,
    feed_key: PublicKey,
}

impl Held {
    /// Hands on each frame; the status of the first that is malformed or not signed.
    fn read(&self, mut frames: &[u8], mut take: impl FnMut(&Frame<'_>)) -> StatusCode {
        while !frames.is_empty() {
            let Ok((frame, rest)) = UnverifiedFrame::split(frames) else { return StatusCode::BAD_REQUEST };
            let Ok(frame) = frame.verify(&Verifier, slice::from_ref(&self.feed_key)) else {
                return StatusCode::FORBIDDEN;
            };
            take(&frame);
            frames = rest;
        }
        StatusCode::OK
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn take(State(held): State<Arc<Held>>, body: Bytes) -> (StatusCode, Json<Value>) {
    let mut replica = lock(&held.replica);
    let mut gap = false;
    let read = held.read(&body, |frame| {
        gap |= matches!(replica.accept(frame), Accepted::Gap | Accepted::OtherEpoch);
        lock(&held.frames).extend_from_slice(frame.as_bytes());
    });
    if read != StatusCode::OK {
        return (read, Json(json!({})));
    }
    let position = replica.position();
    let (epoch, cursor) = (position.epoch.0.to_string(), position.cursor.0.to_string());
    let status = if gap { StatusCode::CONFLICT } else { StatusCode::OK };
    (
        status,
        Json(
            json!({ "epoch": epoch, "cursor": cursor, "keys": position.keys.to_string(), "policy": position.policy.to_string() }),
        ),
    )
}

/// The frames that it keeps, whatever the position that is asked from.
async fn show(State(held): State<Arc<Held>>) -> Vec<u8> {
    lock(&held.frames).clone()
}
