//! `/oauth2/revoke` (RFC 7009).

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode},
};

use super::client::authenticate;
use crate::http::{
    App,
    acts::{self, Ended},
    error::{OAuthError, no_store},
    extract::Form,
};

/// `POST /oauth2/revoke`: ends the session of a refresh or an access token, with every other token of it.
///
/// `token_type_hint` is not looked at: the two kinds of token tell themselves apart.
///
/// 1. another content type, a missing or repeated field: 400 `invalid_request`; the client: see [`authenticate`]
/// 2. the token belongs to another client: 400 `invalid_grant`, and it stays as it is
/// 3. the end was not written: 503 with `Retry-After`
/// 4. 200 without body: the session is over, or the token counted for nothing before
pub(in crate::http) async fn revoke(
    State(app): State<App>,
    headers: HeaderMap,
    form: Form,
) -> Result<HeaderMap, OAuthError> {
    let client = authenticate(&app, &headers, &form).await?;
    let token = form.get("token").ok_or_else(|| OAuthError::invalid_request("the field token is missing"))?;
    if let Some(revoked) = app.service.revoke_token(token, &client).await? {
        let (session, tenant) = (revoked.session, revoked.tenant.as_ref());
        let actor = format!("client:{}", client.id);
        acts::note(&app, Ended { actor, action: "revoke_token", session, tenant, status: StatusCode::OK }).await;
    }
    let mut headers = HeaderMap::new();
    no_store(&mut headers);
    Ok(headers)
}
