//! `/oauth2`: refresh (RFC 6749 §6) and introspection (RFC 7662).

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode},
};
use serde::Serialize;
use shared::id::ClientId;
use utoipa::ToSchema;

use super::{
    App,
    answers::Introspection,
    error::{OAuthError, no_store},
    extract::Form,
};
use crate::service::{Tokens, refresh::RefreshRequest};

/// A successful token answer (RFC 6749 §5.1).
#[derive(Serialize)]
pub(super) struct TokenBody {
    access_token: String,
    token_type: &'static str,
    /// Lifetime of the access token in seconds.
    expires_in: u64,
    refresh_token: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
}

/// The form of an introspection, for the OpenAPI document.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the form is read field by field, so that a field that was sent twice is noticed")]
pub(super) struct IntrospectForm {
    #[schema(min_length = 1)]
    token: String,
    token_type_hint: Option<String>,
}

/// `POST /oauth2/token`: rotates a refresh token.
///
/// 1. a missing, repeated or malformed field, another content type: 400 `invalid_request`
/// 2. another grant type: 400 `unsupported_grant_type`; a scope that was not granted: 400 `invalid_scope`
/// 3. a token that is wrong, expired, reused, of another client, or of an ended session: 400 `invalid_grant`
/// 4. the store failed, and the rotation may or may not have happened: 503 with `Retry-After`; the same token may be sent again
/// 5. 200 with the next tokens, never cached
pub(super) async fn token(State(app): State<App>, form: Form) -> Result<(HeaderMap, Json<TokenBody>), OAuthError> {
    let request = refresh_request(&form)?;
    let answer = app.service.refresh(request).await?;
    let mut headers = HeaderMap::new();
    no_store(&mut headers);
    Ok((headers, Json(answer.into())))
}

/// `POST /oauth2/introspect`: whether an access token counts, by the record and the floors as they are now.
///
/// 1. no management key: 401; no `token` field: 400 `invalid_request`
/// 2. whatever is wrong with the token: 200 with exactly `{"active":false}`
/// 3. the store does not answer: 503 with `Retry-After`
/// 4. 200 with the claims
#[utoipa::path(
    post, path = "/oauth2/introspect", operation_id = "introspect", tag = "tokens",
    security(("api_key" = ["introspect"])),
    request_body(content = IntrospectForm, content_type = "application/x-www-form-urlencoded"),
    responses((status = 200, description = "Whether it counts, and its claims.", body = Object))
)]
pub(super) async fn introspect(
    State(app): State<App>,
    form: Form,
) -> Result<(HeaderMap, Json<Introspection>), OAuthError> {
    let token = form.get("token").ok_or_else(|| OAuthError::invalid_request("the field token is missing"))?;
    let claims = app.service.introspect(token).await?;
    let mut headers = HeaderMap::new();
    no_store(&mut headers);
    Ok((headers, Json(Introspection::from(claims))))
}

fn refresh_request(form: &Form) -> Result<RefreshRequest, OAuthError> {
    match form.get("grant_type") {
        Some("refresh_token") => {}
        Some(_) => {
            let description = "grant_type must be refresh_token";
            return Err(OAuthError::new(StatusCode::BAD_REQUEST, "unsupported_grant_type", description));
        }
        None => return Err(OAuthError::invalid_request("the field grant_type is missing")),
    }
    let token =
        form.get("refresh_token").ok_or_else(|| OAuthError::invalid_request("the field refresh_token is missing"))?;
    // A public client names itself (RFC 6749 §3.2.1); the token is bound to the client that the session was opened by.
    let client = form.get("client_id").ok_or_else(|| OAuthError::invalid_request("the field client_id is missing"))?;
    let client: ClientId = client.parse().map_err(|_| OAuthError::invalid_request("client_id is malformed"))?;
    Ok(RefreshRequest { token: token.to_owned(), client, scope: form.get("scope").map(str::to_owned) })
}

impl From<Tokens> for TokenBody {
    fn from(tokens: Tokens) -> Self {
        Self {
            access_token: tokens.access_token,
            token_type: "Bearer",
            expires_in: tokens.expires_in,
            refresh_token: tokens.refresh_token,
            scope: tokens.scope,
        }
    }
}
