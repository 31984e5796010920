//! The application behind the gate. It believes the `Portcullis-*` headers, since only the gate reaches it.

use std::collections::BTreeMap;

use axum::{
    Json, Router,
    extract::ws::{Message, WebSocket, WebSocketUpgrade},
    http::{HeaderMap, StatusCode},
    response::Response,
    routing::get,
};
use serde_json::{Value, json};

/// The longest message that is echoed, in bytes.
const MESSAGE_BYTES_MAX: usize = 4_096;

/// Every route of the application.
pub(crate) fn router() -> Router {
    Router::new()
        .route("/app/whoami", get(whoami))
        .route("/relaxed/whoami", get(whoami))
        .route("/app/admin/ping", get(admin_ping))
        .route("/app/ws", get(echo))
}

/// What the gate says of the request: `{"subject", "session", "tenant", "roles", "version"}`, each as its header says.
async fn whoami(headers: HeaderMap) -> Json<BTreeMap<String, String>> {
    let said = headers.iter().filter_map(|(name, value)| {
        let name = name.as_str().strip_prefix("portcullis-")?;
        Some((name.to_owned(), value.to_str().ok()?.to_owned()))
    });
    Json(said.collect())
}

/// 200 for an `admin`, else 403.
async fn admin_ping(headers: HeaderMap) -> (StatusCode, Json<Value>) {
    let roles = headers.get("portcullis-roles").and_then(|roles| roles.to_str().ok()).unwrap_or_default();
    if roles.split(',').any(|role| role == "admin") {
        (StatusCode::OK, Json(json!({ "pong": true })))
    } else {
        (StatusCode::FORBIDDEN, Json(json!({ "detail": "this needs the role admin" })))
    }
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
        let headers = [("portcullis-subject", "alice"), ("cookie", "a=b"), ("portcullis-roles", "admin,member")];
        let said = json!({ "subject": "alice", "roles": "admin,member" });
        for path in ["/app/whoami", "/relaxed/whoami"] {
            assert_eq!(get(path, &headers).await, (200, said.clone()));
        }
    }

    #[tokio::test]
    async fn only_an_admin_may_ping() {
        assert_eq!(get("/app/admin/ping", &[("portcullis-roles", "member,admin")]).await.0, 200);
        for headers in [&[][..], &[("portcullis-roles", "")], &[("portcullis-roles", "administrator,member")]] {
            assert_eq!(get("/app/admin/ping", headers).await.0, 403);
        }
    }
}
