//! The HTTP interface: all routes in [`router`], one file per resource.
//!
//! Invariant: a refusal is `application/problem+json`, or the OAuth shape under `/oauth2/`, also for 404, 405 and 413.
//! Invariant: nothing but `/healthz`, `/readyz`, `/metrics`, the JWKS, the metadata, the feed, the API's own document,
//! `/oauth2/token` and `/oauth2/revoke` answers without a key, and `/oauth2/introspect` answers confidential
//! clients besides.

mod acts;
mod admission;
mod answers;
mod apikeys;
mod audit;
mod caller;
mod error;
mod extract;
mod feed;
mod fields;
mod integer;
mod keys;
mod management;
mod me;
mod oauth;
mod openapi;
mod paging;
mod policy;
mod rates;
mod schema;
mod sessions;
mod subjects;
mod system;

pub use self::oauth::Metadata as OAuthMetadata;

use std::{any::Any, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{DefaultBodyLimit, Request},
    http::{HeaderValue, StatusCode, header},
    middleware::{from_fn, from_fn_with_state, map_response},
    response::Response,
    routing::{get, post},
};
use shared::request::CookieNames;
use tokio::sync::Semaphore;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa_axum::{router::OpenApiRouter, routes};

use self::{openapi::Document, rates::Rates};
use crate::{
    apikeys::ApiKeys,
    audit::Trail,
    config::{self, Config, secrets::ManagementKey},
    feed::Feed,
    idempotency::Answers,
    keys::Keys,
    service::Service,
    telemetry::metrics::Metrics,
};

/// What handlers share.
#[derive(Clone)]
pub struct App(Arc<Shared>);

/// What the management API has beside the resources.
pub struct Administration {
    /// Its keys.
    pub api_keys: ApiKeys,
    /// Answers by idempotency key.
    pub answers: Answers,
    /// Who did what.
    pub trail: Trail,
}

struct Shared {
    parts: AppParts,
    document: Document,
    rates: Rates,
    api_keys: ApiKeys,
    answers: Answers,
    trail: Trail,
    access_cookie: String,
    refresh_cookie: String,
}

impl Shared {
    /// The names of the cookies that hold credentials.
    fn cookies(&self) -> CookieNames<'_> {
        CookieNames { access: &self.access_cookie, refresh: &self.refresh_cookie }
    }
}

/// The parts of an [`App`].
pub struct AppParts {
    /// Opens, refreshes and ends sessions.
    pub service: Arc<Service>,
    /// The floors of this process and their place in the log.
    pub feed: Arc<Feed>,
    /// The signing keys.
    pub keys: Arc<Keys>,
    /// Told to OAuth clients.
    pub metadata: OAuthMetadata,
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

impl std::ops::Deref for App {
    type Target = AppParts;

    fn deref(&self) -> &AppParts {
        &self.0.parts
    }
}

/// The routes of the management API, each with its place in the OpenAPI document.
fn routes() -> (Router<App>, utoipa::openapi::OpenApi) {
    OpenApiRouter::with_openapi(openapi::common())
        .routes(routes!(sessions::open))
        .routes(routes!(sessions::show))
        .routes(routes!(sessions::revoke))
        .routes(routes!(sessions::step_up))
        .routes(routes!(sessions::set_scope))
        .routes(routes!(fields::show, fields::set))
        .routes(routes!(subjects::show))
        .routes(routes!(subjects::sessions))
        .routes(routes!(subjects::revoke))
        .routes(routes!(subjects::disable))
        .routes(routes!(subjects::enable))
        .routes(routes!(subjects::set_roles))
        .routes(routes!(subjects::revoke_tenant))
        .routes(routes!(subjects::revoke_everyone))
        .routes(routes!(subjects::renew_everyone))
        .routes(routes!(apikeys::list, apikeys::create))
        .routes(routes!(apikeys::show, apikeys::remove))
        .routes(routes!(apikeys::rotate))
        .routes(routes!(audit::find))
        .routes(routes!(keys::show))
        .routes(routes!(keys::rotate))
        .routes(routes!(keys::revoke))
        .routes(routes!(policy::show, policy::set))
        .routes(routes!(policy::withdraw))
        .split_for_parts()
}

/// Every route of the origin.
///
/// # Errors
///
/// The OpenAPI document does not serialize.
pub fn router(parts: AppParts, administration: Administration, config: &Config) -> serde_json::Result<Router> {
    let (management, openapi) = routes();
    let Administration { api_keys, answers, trail } = administration;
    let rates = Rates::new(&config.limits, &config.server.client_address_header);
    let config::Tokens { access_cookie, refresh_cookie, .. } = config.tokens.clone();
    let document = Document::new(&openapi)?;
    let shared = Shared { document, rates, api_keys, answers, trail, parts, access_cookie, refresh_cookie };
    let app = App(Arc::new(shared));
    let management = management.route_layer(from_fn_with_state(app.clone(), management::guard));
    let public = Router::new()
        // The path is that of the configuration, whatever it looks like to the router.
        .without_v07_checks()
        .route(&app.metadata.path(), get(oauth::metadata))
        .route("/oauth2/token", post(oauth::token))
        .route("/oauth2/revoke", post(oauth::revoke))
        .route("/oauth2/introspect", post(oauth::introspect::introspect))
        .route("/v1/me/sessions", get(me::sessions))
        .route("/v1/me/sessions/{sid}/revoke", post(me::revoke))
        .route("/v1/me/sign-out", post(me::sign_out))
        .route("/.well-known/jwks.json", get(system::jwks))
        .route("/openapi.json", get(openapi::document))
        .route("/docs", get(openapi::page_redirect))
        .route("/docs/", get(openapi::page))
        .route("/docs/{file}", get(openapi::page))
        .route("/feed/delta", get(feed::delta))
        .route("/feed/snapshot", get(feed::snapshot))
        .route_layer(from_fn_with_state(app.clone(), rates::limit_address));
    // Asked most when the service is in trouble, so they take no place among the requests in flight.
    let probes = Router::new()
        .route("/healthz", get(system::healthz))
        .route("/readyz", get(system::readyz))
        .route("/metrics", get(system::metrics));

    let body_bytes = usize::try_from(config.limits.body_bytes).unwrap_or(usize::MAX);
    let router = management
        .merge(public)
        .route_layer(from_fn_with_state(app.clone(), admission::admit))
        .merge(probes)
        .method_not_allowed_fallback(|request: Request| refuse(request, StatusCode::METHOD_NOT_ALLOWED))
        .fallback(|request: Request| refuse(request, StatusCode::NOT_FOUND))
        .layer(DefaultBodyLimit::max(body_bytes))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn(admission::measure))
        .layer(map_response(harden))
        .with_state(app);
    Ok(router)
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
    // HDR-01: browsers heed it over TLS only, which ends before this process.
    headers.insert(header::STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=31536000"));
    headers
        .entry(header::CONTENT_SECURITY_POLICY)
        .or_insert(HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"));
    response
}

/// The panic itself goes to the log by the panic hook; the client learns nothing of it.
fn panicked(_: Box<dyn Any + Send>) -> Response {
    error::refuse("", StatusCode::INTERNAL_SERVER_ERROR, "an internal error occurred; the call may be repeated")
}
