//! The front door: the page, the sign-in, and a way to the gate for all that needs a session.
//!
//! WebSockets go from the page to the gate directly; here they are not passed on.

use std::sync::Arc;

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    middleware::{Next, from_fn},
    response::{IntoResponse, Response},
    routing::get,
};
use reqwest::Client;
use url::Url;

use crate::{
    origin::{Failure, Origin},
    sign_in,
};

/// Headers of one connection only (RFC 9110 §7.6.1), or set anew for each.
const OF_THE_CONNECTION: [HeaderName; 6] =
    [header::CONNECTION, header::CONTENT_LENGTH, header::HOST, header::TE, header::TRANSFER_ENCODING, header::UPGRADE];

/// The gate, and the client that reaches it.
pub(crate) struct Gate {
    client: Client,
    base: Url,
}

impl Gate {
    pub(crate) fn new(client: Client, base: Url) -> Self {
        Self { client, base }
    }

    /// The port on which the page reaches the gate for a WebSocket.
    fn port(&self) -> u16 {
        self.base.port_or_known_default().unwrap_or(80)
    }
}

/// Every route of the front door.
pub(crate) fn router(origin: Origin, gate: Gate) -> Router {
    let page = Page::new(gate.port());
    let gate = Arc::new(gate);
    Router::new()
        .route("/", get(move || async move { page.response() }))
        .route("/assets/demo.js", get(|| async { asset("text/javascript", include_str!("../assets/demo.js")) }))
        .route("/assets/demo.css", get(|| async { asset("text/css", include_str!("../assets/demo.css")) }))
        .route("/app/{*rest}", get(pass))
        .route("/relaxed/{*rest}", get(pass))
        .route("/.portcullis/status", get(pass))
        .with_state(gate)
        .merge(sign_in::router(origin))
        .layer(from_fn(only_by_our_name))
}

/// Refuses other names of this machine: a page elsewhere may point one at it (DNS rebinding).
async fn only_by_our_name(request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    match host.split(':').next() {
        Some("localhost" | "127.0.0.1") => next.run(request).await,
        _ => StatusCode::MISDIRECTED_REQUEST.into_response(),
    }
}

#[derive(Clone)]
struct Page {
    html: String,
    policy: String,
}

impl Page {
    fn new(gate_port: u16) -> Self {
        let html = include_str!("../assets/index.html").replace("GATE_PORT", &gate_port.to_string());
        let sockets = format!("ws://localhost:{gate_port} ws://127.0.0.1:{gate_port}");
        let policy = format!(
            "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self' {sockets}; \
             base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        );
        Self { html, policy }
    }

    fn response(&self) -> Response {
        let headers =
            [(header::CONTENT_TYPE, "text/html; charset=utf-8"), (header::CONTENT_SECURITY_POLICY, &self.policy)];
        (headers, self.html.clone()).into_response()
    }
}

fn asset(kind: &'static str, text: &'static str) -> Response {
    let headers = [(header::CONTENT_TYPE, kind), (header::X_CONTENT_TYPE_OPTIONS, "nosniff")];
    (headers, text).into_response()
}

/// Hands a GET request to the gate and its answer back, as they are.
async fn pass(State(gate): State<Arc<Gate>>, request: Request) -> Result<Response, Failure> {
    let url = format!("{}{}", gate.base.origin().ascii_serialization(), request.uri());
    let headers = end_to_end(request.headers());
    let answer = gate.client.get(url).headers(headers).send().await;
    let answer = answer.map_err(|_| Failure::gateway("the gate does not answer"))?;
    let (status, headers) = (answer.status(), end_to_end(answer.headers()));
    let body: Bytes = answer.bytes().await.map_err(|_| Failure::gateway("the gate's answer broke off"))?;
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    Ok(response)
}

fn end_to_end(headers: &HeaderMap<HeaderValue>) -> HeaderMap {
    let mut kept = headers.clone();
    for name in &OF_THE_CONNECTION {
        kept.remove(name);
    }
    kept
}

#[cfg(test)]
mod tests {
    use std::future::Future;

    use axum::http::Request;
    use tokio::net::TcpListener;
    use tower::ServiceExt as _;

    use super::*;
    use crate::origin::client;

    /// A front door before a gate that tells which headers it saw, and sets two cookies.
    async fn front() -> Router {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = Url::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        let seen = |request: Request<Body>| async move {
            let headers = request.headers();
            let seen = format!("{} {:?} {:?}", request.uri(), headers.get("cookie"), headers.get("authorization"));
            let mut response = (StatusCode::UNAUTHORIZED, seen).into_response();
            for line in ["a=1", "b=2"] {
                response.headers_mut().append(header::SET_COOKIE, HeaderValue::from_static(line));
            }
            response
        };
        tokio::spawn(axum::serve(listener, Router::new().fallback(seen)).into_future());
        let origin = Origin::new(client().unwrap(), base.clone(), "management".into());
        router(origin, Gate::new(client().unwrap(), base))
    }

    fn get(path: &str) -> axum::http::request::Builder {
        Request::get(path).header("host", "localhost:8791")
    }

    async fn answer(request: Request<Body>) -> Response {
        front().await.oneshot(request).await.unwrap()
    }

    fn send(request: axum::http::request::Builder) -> impl Future<Output = Response> {
        answer(request.body(Body::empty()).unwrap())
    }

    #[tokio::test]
    async fn the_gate_sees_the_request_and_the_browser_its_answer() {
        let response = send(get("/app/whoami?x=%2F").header("cookie", "c=3").header("authorization", "Bearer t")).await;
        assert_eq!(response.status(), 401);
        assert_eq!(response.headers().get_all("set-cookie").iter().count(), 2);
        let body = axum::body::to_bytes(response.into_body(), 4_096).await.unwrap();
        assert_eq!(body, r#"/app/whoami?x=%2F Some("c=3") Some("Bearer t")"#);
    }

    #[tokio::test]
    async fn the_page_runs_no_script_but_its_own() {
        let response = send(get("/")).await;
        assert_eq!(response.status(), 200);
        let policy = response.headers()["content-security-policy"].to_str().unwrap();
        assert!(policy.contains("script-src 'self';"), "{policy}");
        assert_eq!(send(get("/assets/demo.js")).await.status(), 200);
    }

    #[tokio::test]
    async fn other_names_of_the_machine_are_refused() {
        for host in ["evil.example", "evil.example:8791", ""] {
            assert_eq!(send(Request::get("/").header("host", host)).await.status(), 421, "{host}");
        }
    }

    #[tokio::test]
    async fn a_form_of_another_page_cannot_sign_out() {
        let request = Request::post("/demo/revoke/all").header("host", "localhost:8791");
        let request = request.header("content-type", "text/plain").body(Body::from(r#"{"name":"alice"}"#)).unwrap();
        assert_eq!(answer(request).await.status(), 415);
    }
}
