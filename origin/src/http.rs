//! The HTTP interface: all routes in [`router`], one file per resource.
//!
//! Invariant: a refusal is `application/problem+json`, or the OAuth shape under `/oauth2/`, also for 404, 405 and 413.
//! Invariant: nothing but `/healthz`, `/readyz`, `/metrics`, the JWKS, the feed and `/oauth2/token` answers without the
//! management key.

mod admission;
mod answers;
mod error;
mod extract;
mod feed;
mod management;
mod oauth;
mod sessions;
mod subjects;
mod system;

use std::{any::Any, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{DefaultBodyLimit, Request},
    http::{HeaderValue, StatusCode, header},
    middleware::{from_fn, from_fn_with_state, map_response},
    response::Response,
    routing::{get, post, put},
};
use tokio::sync::Semaphore;
use tower_http::catch_panic::CatchPanicLayer;

use crate::{
    config::{Limits, secrets::ManagementKey},
    feed::Feed,
    keys::KeyRing,
    service::Service,
    telemetry::metrics::Metrics,
};

/// What handlers share.
#[derive(Clone)]
pub struct App(Arc<AppParts>);

/// The parts of an [`App`].
pub struct AppParts {
    /// Opens, refreshes and ends sessions.
    pub service: Arc<Service>,
    /// The floors of this process and their place in the log.
    pub feed: Arc<Feed>,
    /// The signing keys.
    pub keys: Arc<KeyRing>,
    /// Opens management calls.
    pub management_key: ManagementKey,
    /// Rendered by `/metrics`.
    pub metrics: Metrics,
    /// Places for requests in flight.
    pub in_flight: Semaphore,
    /// Deadline of one request.
    pub request_timeout: Duration,
    /// Age of the last look at the log at which this process is no longer ready.
    pub ready_age_max: Duration,
}

impl App {
    /// Shares the parts.
    pub fn new(parts: AppParts) -> Self {
        Self(Arc::new(parts))
    }
}

impl std::ops::Deref for App {
    type Target = AppParts;

    fn deref(&self) -> &AppParts {
        &self.0
    }
}

/// Every route of the origin.
pub fn router(app: App, limits: &Limits) -> Router {
    let management = Router::new()
        .route("/v1/sessions", post(sessions::open))
        .route("/v1/sessions/{sid}", get(sessions::show))
        .route("/v1/sessions/{sid}/revoke", post(sessions::revoke))
        .route("/v1/subjects/{sub}", get(subjects::show))
        .route("/v1/subjects/{sub}/sessions", get(subjects::sessions))
        .route("/v1/subjects/{sub}/revoke", post(subjects::revoke))
        .route("/v1/subjects/{sub}/disable", post(subjects::disable))
        .route("/v1/subjects/{sub}/enable", post(subjects::enable))
        .route("/v1/subjects/{sub}/roles", put(subjects::set_roles))
        .route("/v1/tenants/{tid}/revoke", post(subjects::revoke_tenant))
        .route("/oauth2/introspect", post(oauth::introspect))
        .route_layer(from_fn_with_state(app.clone(), management::require_key));
    let public = Router::new()
        .route("/oauth2/token", post(oauth::token))
        .route("/.well-known/jwks.json", get(system::jwks))
        .route("/feed/delta", get(feed::delta))
        .route("/feed/snapshot", get(feed::snapshot));
    // Asked most when the service is in trouble, so they take no place among the requests in flight.
    let probes = Router::new()
        .route("/healthz", get(system::healthz))
        .route("/readyz", get(system::readyz))
        .route("/metrics", get(system::metrics));

    let body_bytes = usize::try_from(limits.body_bytes).unwrap_or(usize::MAX);
    management
        .merge(public)
        .route_layer(from_fn_with_state(app.clone(), admission::admit))
        .merge(probes)
        .method_not_allowed_fallback(|request: Request| refuse(request, StatusCode::METHOD_NOT_ALLOWED))
        .fallback(|request: Request| refuse(request, StatusCode::NOT_FOUND))
        .layer(DefaultBodyLimit::max(body_bytes))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn(admission::measure))
        .layer(map_response(harden))
        .with_state(app)
}

async fn refuse(request: Request, status: StatusCode) -> Response {
    let detail = match status {
        StatusCode::METHOD_NOT_ALLOWED => "the resource does not have this method; see Allow",
        _ => "there is no such resource",
    };
    error::refuse(request.uri().path(), status, detail)
}

/// HDR-02: answers are data for programs, and never to be guessed at, framed or referred to.
async fn harden(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"),
    );
    response
}

/// The panic itself goes to the log by the panic hook; the client learns nothing of it.
fn panicked(_: Box<dyn Any + Send>) -> Response {
    error::refuse("", StatusCode::INTERNAL_SERVER_ERROR, "an internal error occurred; the call may be repeated")
}
