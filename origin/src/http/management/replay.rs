//! `Idempotency-Key`: the first answer is kept and given again.

use std::time::Duration;

use axum::{
    body::{Body, Bytes, to_bytes},
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header, request::Parts},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use metrics::counter;

use super::{Call, Problem};
use crate::{
    http::{App, error::is_oauth},
    idempotency::{Answer, Claim, Claimed},
    shell,
    telemetry::metrics::RATE_LIMITED,
};

const KEY: HeaderName = HeaderName::from_static("idempotency-key");
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// The longest key.
const KEY_BYTES_MAX: usize = 128;

/// The largest answer to a POST that is looked at.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Headers of an answer that are given again.
const HEADERS: [HeaderName; 4] = [header::CONTENT_TYPE, header::CACHE_CONTROL, header::PRAGMA, header::LOCATION];

/// Runs a call, or gives the answer that the same call had before.
///
/// 1. a malformed key: 400
/// 2. the same key with another request: 422; the first run is still at work: 409; too many answers are kept: 429
/// 3. the answer of before, marked `Idempotency-Replayed: true`
/// 4. the answer of the handler, kept unless it is 5xx
pub(super) async fn run(app: &App, call: &Call, parts: Parts, body: Bytes, next: Next) -> Response {
    let key = match key_of(&parts) {
        Ok(key) => key,
        Err(problem) => return problem.into_response(),
    };
    let Some(key) = key else { return next.run(Request::from_parts(parts, Body::from(body))).await };
    let target = parts.uri.path_and_query().map_or("", |target| target.as_str());
    let request: [&[u8]; 3] = [parts.method.as_str().as_bytes(), target.as_bytes(), &body];
    let claim = match app.0.answers.claim(&call.caller.id(), &key, &request, shell::now()).await {
        Ok(claim) => claim,
        Err(error) => {
            tracing::warn!(event = "idempotency_failed", reason = %error);
            return Problem::unavailable("the store does not answer; nothing was done").into_response();
        }
    };
    match claim {
        Claim::New(claimed) => {
            let response = next.run(Request::from_parts(parts, Body::from(body))).await;
            keep(app, claimed, response).await
        }
        Claim::Answered(answer) => replay(answer),
        Claim::OtherRequest => {
            let detail = "this Idempotency-Key was sent with another request";
            Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail).into_response()
        }
        Claim::AtWork => Problem::new(StatusCode::CONFLICT, "a request with this Idempotency-Key is being answered")
            .with(header::RETRY_AFTER, HeaderValue::from(1))
            .into_response(),
        Claim::Full(wait) => full(wait),
    }
}

/// The key of a POST; quotes, as a structured field has them, are not part of it.
fn key_of(parts: &Parts) -> Result<Option<String>, Problem> {
    if parts.method != Method::POST || is_oauth(parts.uri.path()) {
        return Ok(None);
    }
    let mut values = parts.headers.get_all(KEY).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let text = value.to_str().ok().map(|text| text.strip_prefix('"').and_then(|t| t.strip_suffix('"')).unwrap_or(text));
    let is_key =
        |text: &&str| (1..=KEY_BYTES_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    match (text.filter(is_key), values.next()) {
        (Some(text), None) => Ok(Some(text.to_owned())),
        _ => Err(Problem::new(
            StatusCode::BAD_REQUEST,
            format!("Idempotency-Key must be one value of 1 to {KEY_BYTES_MAX} visible ASCII characters"),
        )),
    }
}

/// Keeps an answer. One that cannot be kept is given all the same: the act is done, and may be repeated.
async fn keep(app: &App, claimed: Claimed, response: Response) -> Response {
    let now = shell::now();
    if response.status().is_server_error() || response.status() == StatusCode::TOO_MANY_REQUESTS {
        if let Err(error) = app.0.answers.release(claimed, now).await {
            tracing::warn!(event = "idempotency_failed", reason = %error);
        }
        return response;
    }
    let (parts, body) = response.into_parts();
    let Ok(body) = to_bytes(body, ANSWER_BYTES_MAX).await else {
        return Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the answer is too large").into_response();
    };
    let answer = Answer {
        status: parts.status.as_u16(),
        headers: kept_headers(&parts.headers),
        body: String::from_utf8_lossy(&body).into_owned(),
    };
    if let Err(error) = app.0.answers.keep(claimed, answer, now).await {
        tracing::warn!(event = "idempotency_failed", reason = %error);
    }
    Response::from_parts(parts, Body::from(body))
}

fn kept_headers(headers: &HeaderMap) -> Vec<(String, String)> {
    let text = |name: &HeaderName| Some((name.to_string(), headers.get(name)?.to_str().ok()?.to_owned()));
    HEADERS.iter().filter_map(text).collect()
}

fn replay(answer: Answer) -> Response {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::OK);
    let mut response = (status, answer.body).into_response();
    let headers = response.headers_mut();
    headers.remove(header::CONTENT_TYPE);
    for (name, value) in answer.headers {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(&value)) {
            headers.insert(name, value);
        }
    }
    headers.insert(REPLAYED, HeaderValue::from_static("true"));
    response
}

fn full(wait: Duration) -> Response {
    counter!(RATE_LIMITED, "policy" => "idempotency").increment(1);
    Problem::quota_exceeded("idempotency", wait.as_secs().saturating_add(1)).into_response()
}
