//! Who may manage sessions: the holder of the management key, as a bearer token (RFC 6750 §2.1 and §3).

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::{
    App,
    error::{OAuthError, Problem, is_oauth},
};

/// Lets a request pass that carries the management key.
///
/// 1. no credential: 401 with a challenge and no error code
/// 2. more than one `Authorization` header: 400 `invalid_request`
/// 3. another scheme or a wrong key: 401 `invalid_token`
pub(super) async fn require_key(State(app): State<App>, request: Request, next: Next) -> Response {
    match check(&app, request.uri().path(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal,
    }
}

/// Whether the headers of a request for `path` carry the management key; the answer if not.
#[expect(clippy::result_large_err, reason = "the refusal is the answer, made once and moved once")]
pub(super) fn check(app: &App, path: &str, headers: &HeaderMap) -> Result<(), Response> {
    match presented(headers) {
        Presented::Key(key) if app.management_key.matches(key) => Ok(()),
        Presented::Key(_) | Presented::OtherScheme => {
            Err(unauthorized(path, r#"Bearer realm="portcullis", error="invalid_token""#))
        }
        Presented::Nothing => Err(unauthorized(path, r#"Bearer realm="portcullis""#)),
        Presented::Several => Err(ambiguous(path)),
    }
}

enum Presented<'a> {
    Nothing,
    Several,
    OtherScheme,
    Key(&'a [u8]),
}

fn presented(headers: &HeaderMap) -> Presented<'_> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Presented::Nothing };
    if values.next().is_some() {
        return Presented::Several;
    }
    match value.as_bytes().split_at_checked(7) {
        Some((scheme, key)) if scheme.eq_ignore_ascii_case(b"bearer ") => Presented::Key(key),
        _ => Presented::OtherScheme,
    }
}

fn unauthorized(path: &str, challenge: &'static str) -> Response {
    let challenge = HeaderValue::from_static(challenge);
    let detail = "this call needs the management key as a bearer token";
    if is_oauth(path) {
        return OAuthError::new(StatusCode::UNAUTHORIZED, "invalid_token", detail)
            .with(header::WWW_AUTHENTICATE, challenge)
            .into_response();
    }
    Problem::new(StatusCode::UNAUTHORIZED, detail).with(header::WWW_AUTHENTICATE, challenge).into_response()
}

fn ambiguous(path: &str) -> Response {
    super::error::refuse(path, StatusCode::BAD_REQUEST, "more than one Authorization header was sent")
}
