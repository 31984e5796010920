//! Answers of the guard itself: `application/problem+json` (RFC 9457), never cached.

use std::collections::BTreeSet;

use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use serde_json::json;
use shared::{
    decision::{Denied, REALM},
    policy::Route,
    request::RequestError,
};

/// A request that does not pass.
#[derive(Debug)]
pub(crate) struct Refusal {
    status: StatusCode,
    reason: &'static str,
    detail: String,
    challenge: Option<String>,
    allow: Option<String>,
    /// Whether the gate is told that it let pass what it would not have if it had heard of all that is known here.
    tells_gate: bool,
}

/// Says in an answer to the gate that the session of its assertion counts for nothing any more: it may not have heard of that.
const REFUSED: HeaderName = HeaderName::from_static("portcullis-refused");

impl Refusal {
    fn new(status: StatusCode, reason: &'static str, detail: &str) -> Self {
        Self { status, reason, detail: detail.to_owned(), challenge: None, allow: None, tells_gate: false }
    }

    /// By the decision.
    pub(crate) fn denied(denied: Denied, route: &Route) -> Self {
        let status = StatusCode::from_u16(denied.status()).unwrap_or(StatusCode::FORBIDDEN);
        // BRR-08: whatever is wrong with a token, its holder learns the same.
        let reason = match denied {
            Denied::InvalidToken(_) | Denied::Revoked(_) => "invalid_token",
            denied => denied.name(),
        };
        Self { challenge: denied.challenge(route), ..Self::new(status, reason, denied.detail()) }
    }

    /// As [`Self::denied`], of a session that the gate asserted.
    pub(crate) fn denied_to_gate(denied: Denied, route: &Route) -> Self {
        Self { tells_gate: matches!(denied, Denied::Revoked(_)), ..Self::denied(denied, route) }
    }

    /// No assertion of the gate, or none that holds on this request.
    pub(crate) fn not_asserted() -> Self {
        let refusal = Self::new(StatusCode::UNAUTHORIZED, "assertion", "requests have to come through the gate");
        Self { challenge: Some(format!("Bearer realm=\"{REALM}\"")), ..refusal }
    }

    /// No route has this host and path.
    pub(crate) fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "no_route", "there is nothing here")
    }

    /// Routes have this host and path, with these methods only.
    pub(crate) fn method(allowed: BTreeSet<&str>) -> Self {
        let allow = allowed.into_iter().collect::<Vec<_>>().join(", ");
        let detail = "this method is not allowed here; see Allow";
        Self { allow: Some(allow), ..Self::new(StatusCode::METHOD_NOT_ALLOWED, "method", detail) }
    }

    /// No host, or several.
    pub(crate) fn host() -> Self {
        Self::new(StatusCode::BAD_REQUEST, "host", "a request must name one host")
    }

    /// The answer.
    pub(crate) fn into_response<B: From<String>>(self) -> Response<B> {
        let body = json!({
            "type": "about:blank",
            "title": "Refused by the guard",
            "status": self.status.as_u16(),
            "detail": self.detail,
            "reason": self.reason,
        });
        let mut response = Response::new(B::from(body.to_string()));
        *response.status_mut() = self.status;
        let texts = [(header::WWW_AUTHENTICATE, self.challenge), (header::ALLOW, self.allow)];
        let texts = texts.into_iter().filter_map(|(name, text)| Some((name, HeaderValue::try_from(text?).ok()?)));
        let headers = response.headers_mut();
        headers.extend(texts.map(|(name, value)| (Some(name), value)));
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if self.tells_gate {
            headers.insert(REFUSED, HeaderValue::from_static("session"));
        }
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

impl From<RequestError> for Refusal {
    fn from(error: RequestError) -> Self {
        let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::BAD_REQUEST);
        Self::new(status, error.name(), &error.to_string())
    }
}
