//! `/oauth2/token` (RFC 6749 §6).

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode, header},
};
use serde::Serialize;

use super::client::authenticate;
use crate::{
    http::{
        App,
        error::{OAuthError, no_store},
        extract::Form,
    },
    service::{Tokens, refresh::RefreshRequest},
};

/// A successful token answer (RFC 6749 §5.1).
#[derive(Serialize)]
pub(in crate::http) struct TokenBody {
    access_token: String,
    token_type: &'static str,
    /// Lifetime of the access token in seconds.
    expires_in: u64,
    refresh_token: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
}

/// `POST /oauth2/token`: rotates a refresh token.
///
/// 1. a missing, repeated or malformed field, another content type: 400 `invalid_request`; the client: see
///    [`authenticate`]
/// 2. another grant type: 400 `unsupported_grant_type`; a scope that was not granted: 400 `invalid_scope`
/// 3. a token that is wrong, expired, reused, of another client, or of an ended session: 400 `invalid_grant`
/// 4. the store failed, and the rotation may or may not have happened: 503 with `Retry-After`; the same token may be sent again
/// 5. 200 with the next tokens, never cached
pub(in crate::http) async fn token(
    State(app): State<App>,
    headers: HeaderMap,
    form: Form,
) -> Result<(HeaderMap, Json<TokenBody>), OAuthError> {
    let token = refresh_token(&form)?;
    let client = authenticate(&app, &headers, &form).await?;
    let scope = form.get("scope").map(str::to_owned);
    let user_agent = headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let request = RefreshRequest { token: token.to_owned(), client: client.id.clone(), scope, user_agent };
    let answer = app.service.refresh(request).await?;
    let mut headers = HeaderMap::new();
    no_store(&mut headers);
    Ok((headers, Json(answer.into())))
}

fn refresh_token(form: &Form) -> Result<&str, OAuthError> {
    match form.get("grant_type") {
        Some("refresh_token") => {}
        Some(_) => {
            let description = "grant_type must be refresh_token";
            return Err(OAuthError::new(StatusCode::BAD_REQUEST, "unsupported_grant_type", description));
        }
        None => return Err(OAuthError::invalid_request("the field grant_type is missing")),
    }
    form.get("refresh_token").ok_or_else(|| OAuthError::invalid_request("the field refresh_token is missing"))
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
