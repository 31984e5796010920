//! What every request passes before its handler: a place among the requests in flight, a deadline, a measurement.

use std::time::Instant;

use axum::{
    extract::{MatchedPath, Request, State},
    http::{Method, StatusCode},
    middleware::Next,
    response::Response,
};
use metrics::{counter, histogram};

use super::{App, error::refuse};
use crate::telemetry::metrics::{HTTP_DURATION, HTTP_SHED};

/// Refuses with 503 what is over the limit of requests in flight or over the deadline of one request, and everything while
/// it is not known what the store lost.
///
/// A command that is cut off here may have been written; every command may be repeated.
pub(super) async fn admit(State(app): State<App>, request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    let Ok(_place) = app.in_flight.try_acquire() else {
        counter!(HTTP_SHED).increment(1);
        return refuse(&path, StatusCode::SERVICE_UNAVAILABLE, "too many requests at the same time");
    };
    if app.feed.check_whole().is_err() {
        let detail = "what the store may have lost is being fetched; the request may be repeated";
        return refuse(&path, StatusCode::SERVICE_UNAVAILABLE, detail);
    }
    match tokio::time::timeout(app.request_timeout, next.run(request)).await {
        Ok(response) => response,
        Err(_) => refuse(&path, StatusCode::SERVICE_UNAVAILABLE, "the request took too long; it may be repeated"),
    }
}

/// Measures every request by method, route template and status.
pub(super) async fn measure(request: Request, next: Next) -> Response {
    let started = Instant::now();
    let method = method_label(request.method());
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| "unmatched".to_owned(), |path| path.as_str().to_owned());
    let response = next.run(request).await;
    let status = response.status().as_str().to_owned();
    histogram!(HTTP_DURATION, "method" => method, "route" => route, "status" => status)
        .record(started.elapsed().as_secs_f64());
    response
}

/// Methods are a closed set in a label; anything else is `_OTHER`, as OpenTelemetry names it.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::PATCH => "PATCH",
        Method::OPTIONS => "OPTIONS",
        _ => "_OTHER",
    }
}
