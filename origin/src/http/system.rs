//! What machines ask: public keys, health, metrics.

use axum::{
    Json,
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};

use super::{App, error::Problem};

/// `GET /.well-known/jwks.json`: the public token keys (RFC 7517 §5).
///
/// 200 `application/jwk-set+json`; may be kept for a minute.
pub(super) async fn jwks(State(app): State<App>) -> Response {
    let mut response = Json(app.keys.current().jwks()).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/jwk-set+json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=60"));
    response
}

/// `GET /healthz`: 200 while the process answers at all; asks nobody.
pub(super) async fn healthz() -> (StatusCode, &'static str) {
    (StatusCode::OK, "ok\n")
}

/// `GET /readyz`: whether requests should be sent here.
///
/// 1. the store answers, and the log was followed within a few heartbeats: 200
/// 2. otherwise: 503 with `Retry-After`
pub(super) async fn readyz(State(app): State<App>) -> Result<&'static str, Problem> {
    app.feed.check_fresh(app.ready_age_max).map_err(|_| Problem::unavailable("the floor log is not being followed"))?;
    app.service.check_store().await.map_err(|_| Problem::unavailable("the store does not answer"))?;
    Ok("ready\n")
}

/// `GET /metrics`: the Prometheus text format, version 0.0.4.
pub(super) async fn metrics(State(app): State<App>) -> ([(header::HeaderName, &'static str); 1], String) {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], app.metrics.render())
}
