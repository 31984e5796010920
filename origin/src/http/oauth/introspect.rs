//! `/oauth2/introspect` (RFC 7662).

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse as _, Response},
};
use serde::{Deserialize, Serialize};
use shared::{
    id::{ClientId, SessionId, SubjectId, TenantId},
    token::Claims,
};
use utoipa::ToSchema;

use super::client;
use crate::{
    http::{
        App,
        caller::Caller,
        error::{OAuthError, no_store},
        extract::Form,
        management,
    },
    service::introspect::{ActiveRefreshToken, ActiveToken, Viewer},
};

/// The form of an introspection, for the OpenAPI document.
#[derive(Deserialize, ToSchema)]
#[expect(dead_code, reason = "the form is read field by field, so that a field that was sent twice is noticed")]
pub(in crate::http) struct IntrospectForm {
    #[schema(min_length = 1)]
    token: String,
    token_type_hint: Option<String>,
    /// Ignored, but none may be sent twice (RFC 6749 section 3.2).
    #[serde(flatten)]
    others: std::collections::BTreeMap<String, String>,
}

/// `POST /oauth2/introspect`: whether a token counts, by the record and the floors as they are now.
///
/// 1. no credential: 401 with challenges; a wrong management credential: as for management calls; a confidential client
///    authenticates as at the token endpoint, a public one is refused
/// 2. another content type, a missing or repeated field: 400 `invalid_request`
/// 3. whatever is wrong with the token, or it is not for this client to see: 200 with exactly `{"active":false}`
/// 4. the store does not answer: 503 with `Retry-After`
/// 5. 200 with the claims of an access token, or with what a refresh token stands for
#[utoipa::path(
    post, path = "/oauth2/introspect", operation_id = "introspect", tag = "tokens",
    security(("api_key" = ["introspect"])),
    request_body(content = IntrospectForm, content_type = "application/x-www-form-urlencoded"),
    responses((status = 200, description = "Whether it counts, and its claims.", body = Object))
)]
pub(in crate::http) async fn introspect(
    State(app): State<App>,
    request_headers: HeaderMap,
    form: Result<Form, OAuthError>,
) -> Response {
    match asker(&app, &request_headers, form).await {
        Ok(asker) => answer(&app, &asker).await.unwrap_or_else(OAuthError::into_response),
        Err(refusal) => refusal,
    }
}

/// Who asks, what it may see, and the form.
struct Asker {
    viewer: Viewer,
    /// The management caller; none for a client.
    caller: Option<Caller>,
    form: Form,
}

async fn answer(app: &App, asker: &Asker) -> Result<Response, OAuthError> {
    let token = asker.form.get("token").ok_or_else(|| OAuthError::invalid_request("the field token is missing"))?;
    let active = app.service.introspect(token, &asker.viewer).await?;
    let sees = |token: &ActiveToken| asker.caller.as_ref().is_none_or(|caller| caller.sees(tenant_of(token)));
    let active = active.filter(sees);
    let mut response = Json(Introspection::from(active)).into_response();
    no_store(response.headers_mut());
    Ok(response)
}

fn tenant_of(token: &ActiveToken) -> Option<&TenantId> {
    match token {
        ActiveToken::Access(claims) => claims.tid.as_ref(),
        ActiveToken::Refresh(token) => token.session.tenant.as_ref(),
    }
}

async fn asker(app: &App, headers: &HeaderMap, form: Result<Form, OAuthError>) -> Result<Asker, Response> {
    let authorization = client::authorization(headers).map_err(OAuthError::into_response)?;
    if authorization.is_some_and(|value| is_bearer(value.as_bytes())) {
        let caller = Some(management::check(app, "/oauth2/introspect", headers).await?);
        let form = form.map_err(OAuthError::into_response)?;
        return Ok(Asker { viewer: Viewer::Management, caller, form });
    }
    let anonymous =
        authorization.is_none() && form.as_ref().map_or(true, |form| form.get("client_assertion").is_none());
    if anonymous {
        let refusal = client::unauthorized("introspection is for management and confidential clients");
        return Err(refusal.with(header::WWW_AUTHENTICATE, BEARER).into_response());
    }
    let form = form.map_err(OAuthError::into_response)?;
    let client = client::authenticate(app, headers, &form).await.map_err(OAuthError::into_response)?;
    Ok(Asker { viewer: Viewer::Client(client), caller: None, form })
}

const BEARER: HeaderValue = HeaderValue::from_static(r#"Bearer realm="portcullis""#);

fn is_bearer(value: &[u8]) -> bool {
    value.split_at_checked(7).is_some_and(|(scheme, _)| scheme.eq_ignore_ascii_case(b"bearer "))
}

/// An answer (RFC 7662 §2.2).
#[derive(Serialize)]
#[serde(untagged)]
enum Introspection {
    Inactive {
        active: bool,
    },
    Access {
        active: bool,
        #[serde(flatten)]
        claims: Box<Claims>,
        token_type: &'static str,
    },
    Refresh {
        active: bool,
        iss: String,
        client_id: ClientId,
        sub: SubjectId,
        sid: SessionId,
        #[serde(skip_serializing_if = "Option::is_none")]
        tid: Option<TenantId>,
        #[serde(skip_serializing_if = "Option::is_none")]
        scope: Option<String>,
        iat: u64,
        exp: u64,
        auth_time: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        acr: Option<String>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        amr: Vec<String>,
    },
}

impl From<Option<ActiveToken>> for Introspection {
    fn from(token: Option<ActiveToken>) -> Self {
        match token {
            None => Self::Inactive { active: false },
            Some(ActiveToken::Access(claims)) => Self::Access { active: true, claims, token_type: "Bearer" },
            Some(ActiveToken::Refresh(token)) => {
                let ActiveRefreshToken { issuer, session_id, expires_at, scope, session } = *token;
                Self::Refresh {
                    active: true,
                    iss: issuer,
                    client_id: session.client_id,
                    sub: session.subject,
                    sid: session_id,
                    tid: session.tenant,
                    scope,
                    iat: session.opened_at.as_secs(),
                    exp: expires_at.as_secs(),
                    auth_time: session.auth_time.as_secs(),
                    acr: session.acr,
                    amr: session.amr,
                }
            }
        }
    }
}
