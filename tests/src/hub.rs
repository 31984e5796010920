//! A hub for the origin to push to: a replica behind HTTP.

use std::sync::{Arc, Mutex, PoisonError};

use ::origin::{config::Hub, keys::Verifier};
use axum::{Json, Router, body::Bytes, extract::State, http::StatusCode, routing::post};
use serde_json::{Value, json};
use shared::{
    feed::UnverifiedFrame,
    keys::PublicKey,
    replica::{Accepted, Replica},
};
use tokio::{net::TcpListener, task::JoinHandle};

/// A hub of this process; it ends when it is dropped.
pub struct TestHub {
    replica: Arc<Mutex<Replica>>,
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
        let replica = Arc::new(Mutex::new(Replica::new()));
        let state = (Arc::clone(&replica), Arc::new(feed_key));
        let router = Router::new().route("/frames", post(take)).with_state(state);
        let serving = tokio::spawn(async move {
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { replica, url, serving })
    }

    /// As the origin's configuration names it.
    pub fn config(&self) -> Hub {
        Hub { name: "test".to_owned(), url: self.url.clone() }
    }

    /// Asks the replica.
    pub fn with<T>(&self, ask: impl FnOnce(&Replica) -> T) -> T {
        ask(&self.replica.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for TestHub {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn take(
    State((replica, feed_key)): State<(Arc<Mutex<Replica>>, Arc<PublicKey>)>,
    body: Bytes,
) -> (StatusCode, Json<Value>) {
    let mut replica = replica.lock().unwrap_or_else(PoisonError::into_inner);
    let mut status = StatusCode::OK;
    let mut rest: &[u8] = &body;
    while !rest.is_empty() {
        let Ok((frame, after)) = UnverifiedFrame::split(rest) else {
            return (StatusCode::BAD_REQUEST, Json(json!({})));
        };
        let Ok(frame) = frame.verify(&Verifier, std::slice::from_ref(&feed_key)) else {
            return (StatusCode::FORBIDDEN, Json(json!({})));
        };
        if matches!(replica.accept(&frame), Accepted::Gap | Accepted::OtherEpoch) {
            status = StatusCode::CONFLICT;
        }
        rest = after;
    }
    let position = replica.position();
    let (epoch, cursor) = (position.epoch.0.to_string(), position.cursor.0.to_string());
    (status, Json(json!({ "epoch": epoch, "cursor": cursor, "keys": position.keys.to_string() })))
}
