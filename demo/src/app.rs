//! What stands behind a session. It believes the `Portcullis-*` headers, which the guard has checked.

use std::collections::BTreeMap;

use axum::{
    Json, Router,
    extract::ws::{Message, WebSocket, WebSocketUpgrade},
    http::HeaderMap,
    response::Response,
    routing::get,
};
use serde_json::{Value, json};

/// The longest message that is echoed, in bytes.
const MESSAGE_BYTES_MAX: usize = 4_096;

/// What of the gate's words is shown, by the names of its headers without `Portcullis-`.
const SAID: [&str; 5] = ["subject", "session", "tenant", "roles", "version"];

/// `/app` and `/relaxed`; the second differs by the policy of its route only.
pub(crate) fn router() -> Router {
    Router::new()
        .route("/app/whoami", get(whoami))
        .route("/relaxed/whoami", get(whoami))
        .route("/app/admin/ping", get(admin_ping))
        .route("/app/ws", get(echo))
}

/// What the gate says of the request: `{"subject", "session", "tenant", "roles", "version"}`, each as its header says.
async fn whoami(headers: HeaderMap) -> Json<BTreeMap<&'static str, String>> {
    let said = SAID.into_iter().filter_map(|name| {
        let value = headers.get(format!("portcullis-{name}"))?;
        Some((name, value.to_str().ok()?.to_owned()))
    });
    Json(said.collect())
}

/// Asks for no role: whoever the gate lets through has it.
async fn admin_ping() -> Json<Value> {
    Json(json!({ "pong": true }))
}

/// A WebSocket that says again what it is told.
async fn echo(upgrade: WebSocketUpgrade) -> Response {
    upgrade.max_message_size(MESSAGE_BYTES_MAX).on_upgrade(repeat)
}

async fn repeat(mut socket: WebSocket) {
    while let Some(Ok(message)) = socket.recv().await {
        if let Message::Text(_) | Message::Binary(_) = message
            && socket.send(message).await.is_err()
        {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::{
        body::{Body, to_bytes},
        http::Request,
    };
    use tower::ServiceExt as _;

    use super::*;

    async fn get(path: &str, headers: &[(&str, &str)]) -> (u16, Value) {
        let mut request = Request::get(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = router().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let status = response.status().as_u16();
        let body = to_bytes(response.into_body(), 65_536).await.unwrap();
        (status, serde_json::from_slice(&body).unwrap_or_default())
    }

    #[tokio::test]
    async fn whoami_shows_what_the_gate_says_and_nothing_else() {
        let headers = [
            ("portcullis-subject", "alice"),
            ("cookie", "a=b"),
            ("portcullis-assertion", "a.b.c"),
            ("portcullis-roles", "admin,member"),
        ];
        let said = json!({ "subject": "alice", "roles": "admin,member" });
        for path in ["/app/whoami", "/relaxed/whoami"] {
            assert_eq!(get(path, &headers).await, (200, said.clone()));
        }
    }
}
