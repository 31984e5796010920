//! The one place where a refusal becomes an HTTP answer.
//!
//! Two shapes: `application/problem+json` (RFC 9457), and `{"error", "error_description"}` on OAuth endpoints
//! (RFC 6749 §5.2). A text for the outside never repeats what was sent, and never says more than its code.

use axum::{
    Json,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;

/// Seconds after which a client may try again when the store did not answer.
pub(crate) const RETRY_AFTER_S: u32 = 1;

/// The problem type of a rate limit (draft-ietf-httpapi-ratelimit-headers, "Problem Types").
const QUOTA_EXCEEDED: &str = "https://iana.org/assignments/http-problem-types#quota-exceeded";

/// A refusal outside of the OAuth endpoints (RFC 9457).
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    detail: String,
    headers: Vec<(HeaderName, HeaderValue)>,
    violated: Option<&'static str>,
}

/// A refusal (RFC 9457 §3.1).
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct ProblemBody<'a> {
    /// What kind of problem it is; `about:blank` if the status says it all.
    #[serde(rename = "type")]
    #[schema(format = "uri")]
    kind: &'static str,
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// What was wrong, and what would be right.
    detail: &'a str,
    /// The rate limits that were exceeded, by the names of `RateLimit-Policy`.
    #[serde(rename = "violated-policies", skip_serializing_if = "Option::is_none")]
    violated: Option<[&'static str; 1]>,
}

impl Problem {
    /// A refusal with the standard title of its status.
    pub(crate) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into(), headers: Vec::new(), violated: None }
    }

    /// 503 with `Retry-After`.
    pub(crate) fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, detail).with(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER_S))
    }

    /// 429 for a rate limit.
    pub(crate) fn quota_exceeded(policy: &'static str, retry_after_s: u64) -> Self {
        let detail = format!("the rate limit {policy:?} is exceeded; try again in {retry_after_s} s");
        let problem = Self::new(StatusCode::TOO_MANY_REQUESTS, detail);
        Self { violated: Some(policy), ..problem }.with(header::RETRY_AFTER, HeaderValue::from(retry_after_s))
    }

    /// The HTTP status.
    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    /// Adds a header.
    pub(crate) fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// As an answer of this path: in the shape of OAuth, with `code`, if it is one of OAuth.
    pub(crate) fn at(self, path: &str, code: &'static str, description: &'static str) -> Response {
        if !is_oauth(path) {
            return self.into_response();
        }
        OAuthError { status: self.status, code, description, headers: self.headers }.into_response()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (kind, title) = match self.violated {
            None => ("about:blank", self.status.canonical_reason().unwrap_or("Error")),
            Some(_) => (QUOTA_EXCEEDED, "Request cannot be satisfied as assigned quota has been exceeded"),
        };
        let status = self.status.as_u16();
        let violated = self.violated.map(|policy| [policy]);
        let body = ProblemBody { kind, title, status, detail: &self.detail, violated };
        let mut response = (self.status, Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.extend(self.headers);
        response
    }
}

/// A refusal at an OAuth endpoint (RFC 6749 §5.2).
#[derive(Debug)]
pub(crate) struct OAuthError {
    status: StatusCode,
    code: &'static str,
    description: &'static str,
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// A refusal of an OAuth endpoint (RFC 6749 §5.2).
#[derive(Serialize, ToSchema)]
#[schema(as = OAuthError)]
pub(crate) struct OAuthBody {
    error: &'static str,
    error_description: &'static str,
}

impl OAuthError {
    /// A refusal with a code of the registry and a text for developers.
    pub(crate) fn new(status: StatusCode, code: &'static str, description: &'static str) -> Self {
        Self { status, code, description, headers: Vec::new() }
    }

    /// 400 `invalid_request`.
    pub(crate) fn invalid_request(description: &'static str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request", description)
    }

    /// 400 `invalid_grant`: one text for every cause, so that nobody learns which check failed.
    pub(crate) fn invalid_grant() -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_grant", "the refresh token is not valid")
    }

    /// 503 `temporarily_unavailable` with `Retry-After`.
    pub(crate) fn unavailable(description: &'static str) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable", description)
            .with(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER_S))
    }

    /// Adds a header.
    pub(crate) fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }
}

impl IntoResponse for OAuthError {
    fn into_response(self) -> Response {
        let body = OAuthBody { error: self.code, error_description: self.description };
        let mut response = (self.status, Json(body)).into_response();
        let headers = response.headers_mut();
        no_store(headers);
        headers.extend(self.headers);
        response
    }
}

/// Token answers are never kept by a cache (RFC 6749 §5.1).
pub(crate) fn no_store(headers: &mut axum::http::HeaderMap) {
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
}

/// The shape of a refusal that no handler made (404, 405, 413, 503, 500): by the path alone.
pub(crate) fn refuse(path: &str, status: StatusCode, detail: &'static str) -> Response {
    if !is_oauth(path) {
        return match status {
            StatusCode::SERVICE_UNAVAILABLE => Problem::unavailable(detail).into_response(),
            _ => Problem::new(status, detail).into_response(),
        };
    }
    match status {
        StatusCode::SERVICE_UNAVAILABLE => OAuthError::unavailable(detail).into_response(),
        StatusCode::INTERNAL_SERVER_ERROR => OAuthError::new(status, "server_error", detail).into_response(),
        _ => OAuthError::new(status, "invalid_request", detail).into_response(),
    }
}

/// Whether a path belongs to the OAuth endpoints.
pub(crate) fn is_oauth(path: &str) -> bool {
    path.starts_with("/oauth2/")
}
